"""Files of vendor records in either format, DBN or Parquet, as headers and raw records."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import zstandard

from mcl.base.errors import DataError
from mcl.base.files import files_below
from mcl.data.table import PLAIN, WallClock

if TYPE_CHECKING:
    from mcl.data.dbn import Header, Records

Format = Literal["DBN", "Parquet"]
PARQUET = ".parquet"
ENDINGS: dict[Format, tuple[str, ...]] = {
    "DBN": (".dbn", ".dbn.zst", ".dbz"),
    "Parquet": (PARQUET,),
}
# (bar schema, interval), in the order in which the first one that is there is read
INTERVALS = {"ohlcv-1m": "1m", "ohlcv-1s": "1s", "ohlcv-1h": "1h"}
# found where the bars lie, or above them
ALONGSIDE = ("definition", "statistics")
_LEVELS_ABOVE = 2
_SCHEMA_IDS = {
    0: "mbo",
    1: "mbp-1",
    2: "mbp-10",
    3: "tbbo",
    4: "trades",
    5: "ohlcv-1s",
    6: "ohlcv-1m",
    7: "ohlcv-1h",
    8: "ohlcv-1d",
    9: "definition",
    10: "statistics",
    11: "status",
}
_SCHEMA_IDS |= {18: "bbo-1s", 19: "bbo-1m"}


def schema_of(path: Path) -> str:
    """The schema of a file, reading only its beginning; "" for one that holds no records of a
    vendor, or records that nothing here reads.
    """
    if path.suffix == PARQUET:
        from mcl.data import parquet

        return parquet.schema_of(path)
    try:
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            head = (
                zstandard.ZstdDecompressor().stream_reader(file).read(26)
                if start == b"\x28\xb5\x2f\xfd"
                else file.read(26)
            )
    except (OSError, zstandard.ZstdError) as error:
        raise DataError(f"{path} cannot be read: {error}", "download the file again") from error
    if head[:3] != b"DBN":
        raise DataError(f"{path} is not a DBN file: it starts with {bytes(head[:3])!r}, not b'DBN'")
    return _SCHEMA_IDS.get(int.from_bytes(head[24:26], "little"), "")


def header(path: Path, on: WallClock = PLAIN) -> Header:
    """The header of a file: its schema, range and symbols."""
    if path.suffix == PARQUET:
        from mcl.data import parquet

        return parquet.header(path, on)
    from mcl.data import dbn

    return dbn.header(path)


def mark(path: Path) -> dict[str, Any]:
    """The world that the own metadata of a file name as what it was generated from; {} for none.
    DBN has no room for it: there the ids of the contracts say it.
    """
    if path.suffix != PARQUET:
        return {}
    from mcl.data import parquet

    return parquet.mark(path)


def stream(
    path: Path, on: WallClock = PLAIN, size: int | None = None
) -> tuple[Header, Iterator[Records]]:
    """The header and the records of a file, in pieces of about `size` bytes; None: in those that
    memory holds.
    """
    if path.suffix == PARQUET:
        from mcl.data import parquet

        return parquet.stream(path, on, size or parquet.BATCH_BYTES)
    from mcl.data import dbn

    return dbn.stream(path, size or dbn.BATCH_BYTES)


def by_schema(path: Path, wanted: Format) -> dict[str, list[Path]]:
    """The files of a format at or below the path, by schema, in order of name."""
    endings = ENDINGS[wanted]
    if path.is_file():
        named = [path] if path.name.endswith(endings) or wanted == "DBN" else []
    else:
        named = files_below(path, endings)
    legacy = next((p for p in named if p.suffix == ".dbz"), None)
    if legacy is not None:
        hint = "convert it with the vendor's tool or download it again"
        raise DataError(f"{legacy} is in the legacy DBZ format, which cannot be read", hint)
    paths_by_schema: dict[str, list[Path]] = {}
    for item in named:
        paths_by_schema.setdefault(schema_of(item), []).append(item)
    return paths_by_schema


def first_with(
    path: Path, schemas: tuple[str, ...], wanted: Format | None = None
) -> tuple[Format, dict[str, list[Path]]]:
    """The files at or below the path by schema, in the wanted format, or else in the first one in
    which there are files of one of the schemas. Where neither has any: those of DBN, or of Parquet
    when there is no DBN.
    """
    formats: tuple[Format, ...] = (wanted,) if wanted else ("DBN", "Parquet")
    if wanted is None and path.is_file():
        formats = ("Parquet",) if path.suffix == PARQUET else ("DBN",)
    choices = []
    for kind in formats:
        paths_by_schema = by_schema(path, kind)
        if any(name in paths_by_schema for name in schemas):
            return kind, paths_by_schema
        choices.append((kind, paths_by_schema))
    return next((choice for choice in choices if choice[1]), choices[0])


def endings_below(folder: Path) -> list[str]:
    """The endings of the files at any depth below a folder, at most three, the most frequent
    first.
    """
    counts = Counter(path.suffix.lower() for path in files_below(folder, ("",)))
    return [ending or "no ending" for ending, _ in counts.most_common(3)]


def above(path: Path, schema: str) -> list[Path]:
    """The files of definitions or statistics next to the folder of the bars, or above it: in a
    folder of that name, or with that name.
    """
    home = path if path.is_dir() else path.parent
    for level in list(home.parents)[:_LEVELS_ABOVE]:
        folder = level / schema
        endings = (*ENDINGS["DBN"], PARQUET)
        named = files_below(folder, endings) if folder.is_dir() else []
        neighbours = [
            p for p in level.glob(f"*{schema}*") if p.is_file() and p.name.endswith(endings)
        ]
        matching = [p for p in (*named, *sorted(neighbours)) if schema_of(p) == schema]
        if matching:
            return matching
    return []


def common_folder(paths: list[Path]) -> Path:
    """Return the nearest folder that holds all the files."""
    return Path(os.path.commonpath([path.parent for path in paths]))
