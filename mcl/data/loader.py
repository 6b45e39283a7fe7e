"""Load the bars of a data config; `load` is the door of the room.

The stored dataset is found by the hash of its raw input, or made from it. Sources differ only in
where the raw input comes from: a generated world, a folder of vendor files, a CSV, a folder of LEAN
zips. A warm call reads no vendor library: it hashes the raw files and maps finished arrays.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
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
_MANIFEST_KEYS = ("synthetic", "request", "counts", "conditions", "facts")


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


def load(data: schema.Data, root: Path, holdout: bool = False) -> Bars:
    """The bars of a config. Without `holdout` those from `holdout_start` on are left out, as if
    they did not exist yet: nothing that was published later is in any field, and the finer bars end
    with them.

    `root` is the project folder that relative paths start from. Builds the dataset when there is
    none. Errors: DataError for missing, damaged or empty data, StoreError when the disk refuses.
    """
    stored = stored_dataset(data, root)
    series = bars(stored, data)
    fenced = data.holdout_start is not None and not holdout
    end = data.holdout_start if fenced else data.end
    left = series.between(data.start, end)
    finer = StoredFiner(stored.folder, data, int(left.close_time[-1]))
    fingerprint = series.fingerprint if len(left) == len(series) else continuous.fingerprint(left)
    return replace(
        left, fingerprint=fingerprint, provenance=_provenance(stored, data, end), finer=finer
    )


def _provenance(stored: dataset.Dataset, data: schema.Data, end: date | None) -> dict[str, Any]:
    """Return the origin of the bars as plain JSON."""
    manifest = {
        name: stored.manifest[name]
        for name in ("synthetic", "request", "facts", "counts", "conditions", "inputs")
    }
    return {
        "source": data.source,
        "dataset": stored.folder.name,
        "manifest_sha256": stored.manifest_sha256,
        "interval": data.interval,
        "roll": data.roll.model_dump(),
        "exclude_degraded": data.exclude_degraded,
        "start": None if data.start is None else str(data.start),
        "end": None if end is None else str(end),
        **manifest,
    }


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
    check_receipts(raw, made_from)
    progress.begin("reading the definitions")
    return dataset.write(folder, raw.table(), made_from, raw.request)


def check_receipts(raw: Raw, made_from: list[dict[str, Any]]) -> None:
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
    """Return the folder of the dataset of this raw input, whether or not it exists."""
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
        assembled = continuous.assemble(stored, data.roll, without)
        dataset.save_bars(path, continuous.resample(assembled, data.interval, stored.calendar))
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
def _finest(folder: Path, kind: type[Strict], data_json: str) -> Bars:
    stored, data = dataset.Dataset(folder), cast("schema.Data", kind.model_validate_json(data_json))
    if stored.interval == data.interval:
        raise DataError(
            f"execution.bracket=finer needs bars finer than data.interval={data.interval}, and the"
            " data hold none",
            "choose a longer data.interval or execution.bracket=pessimistic",
        )
    return bars(stored, data.model_copy(update={"interval": stored.interval}))


def dataset_facts(data: schema.Data, root: Path) -> dict[str, Any]:
    """Rows, sessions, contracts, rolls, fingerprint, and what the manifest says. The hold-out is
    included.
    """
    stored = stored_dataset(data, root)
    series = bars(stored, data)
    manifest = {
        name: stored.manifest[name] for name in (*_MANIFEST_KEYS, "first_session", "last_session")
    }
    rolls = series.roll_table.assign(session=series.roll_table["session"].astype(str))
    return {
        "dataset": str(stored.folder),
        "manifest_sha256": stored.manifest_sha256,
        "instrument": series.instrument.symbol,
        "interval": series.interval,
        "bars": len(series),
        "sessions": len(set(series.session.tolist())),
        "first_close": str(series.times[0]),
        "last_close": str(series.times[-1]),
        "contracts": [series.contracts[i].symbol for i in dict.fromkeys(series.contract.tolist())],
        "rolls": json.loads(rolls.to_json(orient="records", date_format="iso")),
        "fingerprint": series.fingerprint,
        "inputs": len(stored.manifest["inputs"]),
        **manifest,
    }


# ------------------------------------------------------------------------------------------ sources


def raw_input(data: schema.Data, root: Path) -> Raw:
    """Return the raw input of a config. DataError when the path is not there. A synthetic world is
    generated when it is absent.
    """
    match data:
        case schema.SyntheticData():
            return _synthetic(data, root)
        case schema.DatabentoData():
            return _dbn(
                existing_path(data.path, root),
                data.instrument,
                {"source": "databento", "symbol": data.symbol},
            )
        case schema.CsvData():
            from mcl.data.sources import csv

            path = existing_path(data.path, root, folder=False)
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

            path = existing_path(data.path, root, folder=True)
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

    by_schema = databento.files(path)
    request = request | {"instrument": instrument, "schemas": sorted(by_schema)}
    label = _label(f"{instrument.lower()}-{path.name.split('.')[0]}")
    paths = [p for paths in by_schema.values() for p in paths] + databento.conditions(path)
    base = path if path.is_file() or all(p.is_relative_to(path) for p in paths) else path.parent
    return Raw(label, base, paths, request, partial(databento.table, path, instrument))


def existing_path(path: str, root: Path, *, folder: bool | None = None) -> Path:
    """Find `path` below the project folder, or from the working directory. DataError with the
    nearest name there is.

    `folder` says what it has to be: True a folder, False a file, None either. A pipe or a device is
    neither.
    """
    _refuse_unusable(path)
    candidates = (root / path, Path(path).absolute())
    target = next((p for p in candidates if p.exists()), None)
    if target is not None:
        _refuse_kind(target, path, folder)
        return target
    parent = next((p for p in candidates[0].parents if p.is_dir()), root)
    missing = candidates[0].relative_to(parent).parts[0]
    names = [p.name for p in parent.iterdir() if not p.name.startswith(".")]
    clause = nearest(missing, names)
    there = clause if clause.endswith("?") else f"{parent} holds {clause.removeprefix('valid: ')}"
    raise DataError(f"there is no {candidates[0]}; {there}", "set data.path")


def _refuse_unusable(path: str) -> None:
    """DataError for what no file system can have."""
    if not path.strip():
        raise DataError("data.path is empty", "set data.path=FILE")
    longest = max(len(os.fsencode(part)) for part in path.split("/"))
    if longest > LONGEST_PART or len(os.fsencode(path)) > LONGEST_PATH:
        problem = f"data.path={path[:40]}… has {len(path):,} characters"
        raise DataError(
            f"{problem}: a name has at most {LONGEST_PART} bytes, a path {LONGEST_PATH:,}",
            "set data.path",
        )


def _refuse_kind(target: Path, path: str, folder: bool | None) -> None:
    if not target.is_file() and not target.is_dir():
        raise DataError(
            f"data.path={path} is a pipe, a device or a socket, not a file",
            "copy its content into a file",
        )
    if folder is False and target.is_dir():
        names = sorted(p.name for p in target.iterdir() if p.is_file())[:5]
        raise DataError(
            f"data.path={path} is a folder, not a file",
            f"name one of its files: {', '.join(names) or 'it has none'}",
        )
    if folder is True and target.is_file():
        raise DataError(
            f"data.path={path} is a file, not a folder", "name the folder that it lies in"
        )
