"""The stored dataset of a data config: found by the hash of its raw input, or made.

Where the raw input comes from is the only thing in which sources differ: a generated world, a
folder of vendor files, a CSV, a folder of LEAN zips. A warm call reads no vendor library: it hashes
the raw files and maps finished arrays.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

from mcl.base import access_recorder, progress
from mcl.base.errors import DataError, nearest
from mcl.base.files import below
from mcl.config import schema
from mcl.config.base_model import Strict
from mcl.data import continuous, dataset
from mcl.data.bars import Bars
from mcl.data.table import Table

LONGEST_PART, LONGEST_PATH = 255, 4095  # bytes, as file systems have it
_TOLD = ("synthetic", "request", "counts", "conditions", "facts")


@dataclass(frozen=True)
class Raw:
    """Raw input that exists on disk: what the dataset is called, its files below `base`, how they
    are read, and the reader.
    """

    label: str
    base: Path
    files: list[Path]
    request: dict[str, Any]
    table: Callable[[], Table]


def stored_dataset(data: schema.Data, root: Path) -> dataset.Dataset:
    """The dataset of a config; made from its raw input when there is none for these bytes yet.

    `root` is the project folder that relative paths start from. Errors: DataError for missing or
    damaged input, StoreError when the disk refuses.
    """
    raw = raw_input(data, root)
    made_from = dataset.inputs(raw.base, raw.files)
    folder = _folder(raw, made_from, data, root)
    if (folder / "manifest.json").is_file():
        return dataset.Dataset(folder)
    as_delivered(raw, made_from)
    progress.begin("reading the definitions")
    return dataset.write(folder, raw.table(), made_from, raw.request)


def as_delivered(raw: Raw, made_from: list[dict[str, Any]]) -> None:
    """Refuse raw files whose bytes are not those of the receipt that a download left beside them
    (`<file>.json`).
    """
    for item in made_from:
        receipt = raw.base / f"{item['name']}.json"
        paid = json.loads(receipt.read_text()).get("sha256") if receipt.is_file() else None
        if paid and paid != item["sha256"]:
            name = raw.base / item["name"]
            raise DataError(
                f"{name} has changed since its download: its sha256 is not the one in its receipt",
                "download it again",
            )


def dataset_folder(raw: Raw, data: schema.Data, root: Path) -> Path:
    """Where the dataset of this raw input is, or would be."""
    return _folder(raw, dataset.inputs(raw.base, raw.files), data, root)


def _folder(raw: Raw, made_from: list[dict[str, Any]], data: schema.Data, root: Path) -> Path:
    home = data.folder if isinstance(data, schema.SyntheticData | schema.DatabentoData) else "data"
    return below(root / home, f"{raw.label}-{dataset.key(made_from, raw.request)[:12]}")


def bars(stored: dataset.Dataset, data: schema.Data) -> Bars:
    """All bars in the interval and with the roll rule of `data`, from the cache or made and cached;
    hold-out included.
    """
    without = stored.degraded if data.exclude_degraded else None
    rule = json.dumps(
        [continuous.VERSION, data.roll.model_dump(), [] if without is None else without.tolist()],
        sort_keys=True,
    )
    progress.begin("reading the front contract")
    path = (
        stored.folder
        / "front"
        / f"{data.interval}-{hashlib.sha256(rule.encode()).hexdigest()[:12]}.arrow"
    )
    if not path.is_file():
        progress.begin("assembling the front contract")
        made = continuous.assemble(stored, data.roll, without)
        dataset.save_bars(path, continuous.resample(made, data.interval, stored.calendar))
    return dataset.load_bars(path, stored)


@dataclass(frozen=True)
class StoredFiner:
    """The bars of a stored dataset in its own interval, as far as they were known at `until`
    (ns).
    """

    folder: Path
    data: schema.Data
    until: int

    def upto(self, until: int) -> StoredFiner:
        return replace(self, until=min(self.until, until))

    def __call__(self) -> Bars:
        """DataError when the interval of the dataset is that of `data`."""
        with access_recorder.unobserved():
            return _finest(self.folder, type(self.data), self.data.model_dump_json()).upto(
                self.until
            )


# a check of a strategy that looks inside its bars asks for them hundreds of times
@lru_cache(maxsize=1)
def _finest(folder: Path, kind: type[Strict], told: str) -> Bars:
    stored, data = dataset.Dataset(folder), cast("schema.Data", kind.model_validate_json(told))
    if stored.interval == data.interval:
        raise DataError(
            f"execution.bracket=finer needs bars finer than data.interval={data.interval}, and the"
            " data hold none",
            "choose a longer data.interval or execution.bracket=pessimistic",
        )
    return bars(stored, data.model_copy(update={"interval": stored.interval}))


def build(data: schema.Data, root: Path) -> dict[str, Any]:
    """Make what is missing, and say what there is."""
    return info(data, root)


def info(data: schema.Data, root: Path) -> dict[str, Any]:
    """Rows, sessions, contracts, rolls, fingerprint, and what the manifest says. The hold-out is
    included.
    """
    stored = stored_dataset(data, root)
    held = bars(stored, data)
    manifest = {name: stored.manifest[name] for name in (*_TOLD, "first_session", "last_session")}
    rolls = held.roll_table.assign(session=held.roll_table["session"].astype(str))
    return {
        "dataset": str(stored.folder),
        "manifest_sha256": stored.manifest_sha256,
        "instrument": held.instrument.symbol,
        "interval": held.interval,
        "bars": len(held),
        "sessions": len(set(held.session.tolist())),
        "first_close": str(held.times[0]),
        "last_close": str(held.times[-1]),
        "contracts": [held.contracts[i].symbol for i in dict.fromkeys(held.contract.tolist())],
        "rolls": json.loads(rolls.to_json(orient="records", date_format="iso")),
        "fingerprint": held.fingerprint,
        "inputs": len(stored.manifest["inputs"]),
        **manifest,
    }


# ------------------------------------------------------------------------------------------ sources


def raw_input(data: schema.Data, root: Path) -> Raw:
    """Where the bars of a config come from. DataError when the path is not there; a synthetic world
    is made when it is not.
    """
    match data:
        case schema.SyntheticData():
            return _synthetic(data, root)
        case schema.DatabentoData():
            return _dbn(
                existing(data.path, root),
                data.instrument,
                {"source": "databento", "symbol": data.symbol},
            )
        case schema.CsvData():
            from mcl.data.sources import csv

            path = existing(data.path, root, folder=False)
            request = data.model_dump(
                mode="json",
                include={"source", "instrument", "interval", "columns", "stamped_at", "timezone"},
            )
            return Raw(
                _label(f"csv-{path.stem}"),
                path.parent,
                [path],
                request,
                partial(csv.table, path, data),
            )
        case schema.LeanData():
            from mcl.data.sources import lean

            path = existing(data.path, root, folder=True)
            request = {"source": "lean", "instrument": data.instrument, "timezone": data.timezone}
            files = lean.files(path, data.instrument)
            return Raw(
                f"lean-{data.instrument.lower()}",
                path,
                files,
                request,
                partial(lean.table, path, data),
            )


def _synthetic(data: schema.SyntheticData, root: Path) -> Raw:
    from mcl.data.synthetic import generator

    home = generator.generate(data, root / data.folder / "raw")
    raw = _dbn(
        home, data.instrument, {"source": "synthetic", "world": data.world, "seed": data.seed}
    )
    return replace(raw, label=f"synthetic-{data.world}-seed{data.seed}")


def _label(text: str) -> str:
    """A file may be called anything; what is made of it has a plain name."""
    return re.sub(r"[^\w .,+=@-]", "_", text)[:60]


def _dbn(path: Path, instrument: str, request: dict[str, Any]) -> Raw:
    from mcl.data.sources import databento

    found = databento.files(path)
    request = request | {"instrument": instrument, "schemas": sorted(found)}
    label = _label(f"{instrument.lower()}-{path.name.split('.')[0]}")
    paths = [p for paths in found.values() for p in paths] + databento.conditions(path)
    base = path if path.is_file() or all(p.is_relative_to(path) for p in paths) else path.parent
    return Raw(label, base, paths, request, partial(databento.table, path, instrument))


def existing(path: str, root: Path, *, folder: bool | None = None) -> Path:
    """Find `path` below the project folder, or from the working directory. DataError with the
    nearest name there is.

    `folder` says what it has to be: True a folder, False a file, None either. A pipe or a device is
    neither.
    """
    _refuse_unusable(path)
    candidates = (root / path, Path(path).absolute())
    found = next((p for p in candidates if p.exists()), None)
    if found is not None:
        _refuse_kind(found, path, folder)
        return found
    parent = next((p for p in candidates[0].parents if p.is_dir()), root)
    missing = candidates[0].relative_to(parent).parts[0]
    names = [p.name for p in parent.iterdir() if not p.name.startswith(".")]
    raise DataError(
        f"there is no {candidates[0]}; in {parent}: {nearest(missing, names)}", "set data.path"
    )


def _refuse_unusable(path: str) -> None:
    """DataError for what no file system can have."""
    if not path.strip():
        raise DataError("data.path is empty", "set data.path=FILE")
    longest = max(len(os.fsencode(part)) for part in path.split("/"))
    if longest > LONGEST_PART or len(os.fsencode(path)) > LONGEST_PATH:
        said = f"data.path={path[:40]}… has {len(path):,} characters"
        raise DataError(
            f"{said}: a name has at most {LONGEST_PART} bytes, a path {LONGEST_PATH:,}",
            "set data.path",
        )


def _refuse_kind(found: Path, path: str, folder: bool | None) -> None:
    if not found.is_file() and not found.is_dir():
        raise DataError(
            f"data.path={path} is a pipe, a device or a socket, not a file",
            "copy its content into a file",
        )
    if folder is False and found.is_dir():
        names = sorted(p.name for p in found.iterdir() if p.is_file())[:5]
        raise DataError(
            f"data.path={path} is a folder, not a file",
            f"name one of its files: {', '.join(names) or 'it has none'}",
        )
    if folder is True and found.is_file():
        raise DataError(
            f"data.path={path} is a file, not a folder", "name the folder that it lies in"
        )
