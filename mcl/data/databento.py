"""The databento client door: ask what a download costs, download it, and believe it only when the rows are counted.

A response that is cut short is not an error for the client, only a warning, so every file is compared with the record count that
the vendor gave beforehand. Files appear under their final name when they are whole, with a note (`….json`) of the request, the
cost, the count, the hash and the vendor's warnings about degraded days.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import zstandard

from mcl.data.store import sha256
from mcl.errors import DataError, StoreError, nearest
from mcl.files import write_whole

DATASET = "GLBX.MDP3"
SCHEMAS = (
    *("ohlcv-1m", "ohlcv-1s", "ohlcv-1h", "ohlcv-1d", "mbp-1", "mbp-10", "trades", "tbbo", "bbo-1m", "bbo-1s"),
    *("definition", "statistics", "status"),
)
ALONG = ("definition", "statistics")  # a parent's bars mean nothing without them
_DEGRADED = re.compile(r"reduced quality|degraded", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """One file of a download, as the vendor prices it."""

    symbol: str
    schema: str
    start: str
    end: str
    cost_usd: float
    bytes: int
    records: int

    def name(self) -> str:
        symbol = self.symbol.replace(".", "_").replace(" ", "_")
        return f"{symbol}_{self.schema}_{self.start[:10]}_{self.end[:10]}.dbn.zst"


def download(
    symbol: str,
    schema: str,
    start: str,
    end: str | None = None,
    *,
    root: Path,
    max_cost_usd: float = 5.0,
    estimate: bool = False,
    key: str | None = None,
    gateway: str | None = None,
) -> dict[str, Any]:
    """Download start <= day < end (default: all there is) to `root`/data/raw/<symbol, "." written as "_">/<schema>/.

    A parent symbol (MCL.FUT) brings definitions and statistics along. Files that are already there are not paid for again. With
    `estimate` only the price is asked. Returns the folder, the parts with cost, size and record count, and the files.
    Errors: DataError without a key, for an unknown schema, above `max_cost_usd`, for a refusal of the vendor or a short file.
    """
    kind = _symbol_type(symbol)
    _valid(schema, start, end)
    client = _client(key, gateway)
    with _refusals():
        until = end or str(client.metadata.get_dataset_range(DATASET)["end"])
        wanted = [schema, *(s for s in ALONG if kind == "parent" and s != schema and schema not in ALONG)]
        parts = [_price(client, symbol, kind, item, start, until) for item in wanted]
    folder = root / "data" / "raw" / symbol.replace(".", "_")
    missing = [part for part in parts if not (folder / part.schema / part.name()).is_file()]
    cost = sum(part.cost_usd for part in missing)
    facts = {"folder": str(folder), "cost_usd": round(cost, 4), "parts": [asdict(part) for part in parts]}
    if estimate:
        return facts | {"files": []}
    if cost > max_cost_usd:
        raise DataError(
            f"{symbol} {schema} {start} to {until[:10]} costs {cost:.2f} USD, above the limit of {max_cost_usd:.2f}", "raise --max-cost"
        )
    for part in missing:
        _fetch(client, part, kind, folder / part.schema / part.name())
    return facts | {"files": [str(folder / part.schema / part.name()) for part in parts]}


def _symbol_type(symbol: str) -> str:
    if re.fullmatch(r"[A-Z0-9]+\.FUT", symbol):
        return "parent"
    if re.fullmatch(r"[A-Z0-9]+\.[cvn]\.\d+", symbol):
        return "continuous"
    if re.fullmatch(r"[A-Z0-9]+[FGHJKMNQUVXZ]\d{1,2}", symbol):
        return "raw_symbol"
    raise DataError(f"{symbol!r} is no symbol that can be downloaded; for instance MCL.FUT (all expiries), MCL.v.0, MCLG6")


def _valid(schema: str, start: str, end: str | None) -> None:
    if schema not in SCHEMAS:
        raise DataError(f"unknown schema {schema!r}; {nearest(schema, SCHEMAS)}")
    try:
        days = [date.fromisoformat(day[:10]) for day in (start, end) if day is not None]
    except ValueError as error:
        raise DataError(f"a day of the range {start} to {end} is not written YYYY-MM-DD: {error}") from error
    if len(days) == 2 and days[0] >= days[1]:
        raise DataError(f"need start < end; start={start}, end={end}", "end is the first day that is left out")


def _client(key: str | None, gateway: str | None) -> Any:
    key = key or os.environ.get("DATABENTO_API_KEY", "")
    if not key:
        raise DataError(
            "DATABENTO_API_KEY is not set, so nothing can be downloaded", "data=synthetic needs no key; else put the key into .env"
        )
    import databento

    try:
        return databento.Historical(key, gateway=gateway) if gateway else databento.Historical(key)
    except ValueError as error:
        raise DataError(f"the databento client refuses the key or the gateway: {error}") from error


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """The vendor's and the network's errors as one sentence."""
    import databento

    try:
        yield
    except databento.BentoHttpError as error:
        message = str(error.message or error).splitlines()[0]
        raise DataError(f"databento refuses the request: {error.http_status} {message}", _advice(error.http_status)) from error
    except (databento.BentoError, ValueError) as error:
        raise DataError(f"databento's answer cannot be used: {error}", "try again") from error
    except OSError as error:
        raise DataError(f"databento cannot be reached: {error}", "check the network and the gateway") from error


def _advice(status: int | None) -> str:
    return {401: "check DATABENTO_API_KEY", 402: "the account has no funds left", 403: "the licence does not cover this dataset"}.get(
        status or 0, ""
    )


def _price(client: Any, symbol: str, kind: str, schema: str, start: str, end: str) -> Part:
    request = {"dataset": DATASET, "symbols": symbol, "stype_in": kind, "schema": schema, "start": start, "end": end}
    ask = client.metadata
    cost, size, count = ask.get_cost(**request), ask.get_billable_size(**request), ask.get_record_count(**request)
    return Part(symbol, schema, start, end, float(cost), int(size), int(count))


def _fetch(client: Any, part: Part, kind: str, path: Path) -> None:
    """One file to a temporary name, counted, then renamed."""
    temporary = path.with_name(f"{path.name}.part-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {path.parent}: {error.strerror or error}", "free some disk space") from error
    try:
        notes = _stream(client, part, kind, temporary)
        count = _count(temporary)
        if count != part.records:
            raise DataError(f"{part.symbol} {part.schema}: {count} records arrived, {part.records} were announced", "download it again")
        note = asdict(part) | {"dataset": DATASET, "stype_in": kind, "sha256": sha256(temporary), "warnings": notes}
        write_whole(path.with_name(f"{path.name}.json"), (json.dumps(note, indent=1) + "\n").encode())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _stream(client: Any, part: Part, kind: str, path: Path) -> list[str]:
    """Fill `path`; the vendor's warnings about degraded days are returned, any other is an error."""
    from databento.common.error import BentoWarning

    with warnings.catch_warnings(record=True) as caught, _refusals():
        warnings.simplefilter("always")
        client.timeseries.get_range(
            dataset=DATASET, symbols=part.symbol, stype_in=kind, schema=part.schema, start=part.start, end=part.end, path=path
        )
    notes = [str(w.message) for w in caught if issubclass(w.category, BentoWarning)]
    for note in notes:
        if not _DEGRADED.search(note):
            raise DataError(f"{part.symbol} {part.schema}: databento warns: {note}", "download it again")
    return notes


def _count(path: Path) -> int:
    """Records in a zstd DBN file, decompressed in pieces, so that a year of depth needs no memory. A record cut in two: DataError."""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream:
        try:
            head = stream.read(8)
            header = int.from_bytes(head[4:8], "little")
            stream.read(header)
            first = stream.read(1)
            size, total = 4 * (first[0] if first else 1), len(first)
            while piece := stream.read(1 << 20):
                total += len(piece)
        except zstandard.ZstdError as error:
            raise DataError(f"the download {path.name} is damaged: {error}", "download it again") from error
    if head[:3] != b"DBN" or total % size:
        raise DataError(f"the download {path.name} is no whole DBN file ({total} bytes of records of {size} bytes)", "download it again")
    return total // size
