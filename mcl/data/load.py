"""The door of the room: a data config in, `Bars` out. Builds what is missing, reads what is there.

A warm call imports no vendor library: it hashes the raw files, finds the dataset of that hash, maps the finished arrays of this
roll rule and interval, and cuts them to the sessions that are asked for.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mcl import schema
from mcl.data import build as building
from mcl.data import store
from mcl.data.bars import Bars
from mcl.errors import DataError, nearest

if TYPE_CHECKING:
    from mcl.data.table import Table


class _Make(Protocol):
    def __call__(self) -> Table: ...


@dataclass(frozen=True)
class Raw:
    """Raw input that exists on disk: how the dataset is called, its files below `base`, how they are read, and the reader."""

    label: str
    base: Path
    files: list[Path]
    request: dict[str, Any]
    table: _Make


def load(data: schema.Data, root: Path, holdout: bool = False) -> Bars:
    """The bars of a config. Without `holdout` those from `holdout_start` on are left out, as if they did not exist yet.

    `root` is the project folder that relative paths start from. Errors: DataError for missing, damaged or empty data.
    """
    dataset = build(data, root)
    bars = _front(dataset, data)
    first, last = bars.session[0], bars.session[-1]
    end = data.holdout_start if data.holdout_start is not None and not holdout else data.end
    cut = bars.between(data.start, end) if data.start is not None or end is not None else bars
    seen = bars.fingerprint if (first, last) == (cut.session[0], cut.session[-1]) else building.fingerprint(cut)
    return replace(cut, fingerprint=seen, provenance=_provenance(dataset, data, end))


def build(data: schema.Data, root: Path) -> store.Dataset:
    """The stored dataset of a config; made from its raw input when there is none for these bytes yet."""
    raw = _raw(data, root)
    made_from = store.inputs(raw.base, raw.files)
    name = f"{raw.label}-{store.key(made_from, raw.request)[:12]}"
    folder = root / getattr(data, "folder", "data") / name
    if (folder / "manifest.json").is_file():
        return store.Dataset(folder)
    return store.write(folder, raw.table(), made_from, raw.request)


def info(data: schema.Data, root: Path) -> dict[str, Any]:
    """What there is: rows, sessions, contracts, rolls, fingerprint, and what the manifest says. The hold-out is included."""
    dataset = build(data, root)
    bars = load(data, root, holdout=True)
    manifest = {name: dataset.manifest[name] for name in ("synthetic", "request", "counts", "facts", "first_session", "last_session")}
    rolls = bars.roll_table.assign(session=bars.roll_table["session"].astype(str))
    return {
        "dataset": str(dataset.folder),
        "manifest_sha256": dataset.manifest_sha256,
        "instrument": bars.instrument.symbol,
        "interval": bars.interval,
        "bars": len(bars),
        "sessions": len(set(bars.session.tolist())),
        "first_close": str(bars.times[0]),
        "last_close": str(bars.times[-1]),
        "contracts": [bars.contracts[i].symbol for i in dict.fromkeys(bars.contract.tolist())],
        "rolls": json.loads(rolls.to_json(orient="records", date_format="iso")),
        "fingerprint": bars.fingerprint,
        "inputs": len(dataset.manifest["inputs"]),
        **manifest,
    }


def _front(dataset: store.Dataset, data: schema.Data) -> Bars:
    """All bars in the interval and with the roll rule of `data`, from the cache or made and cached."""
    rule = json.dumps(data.roll.model_dump(), sort_keys=True)
    path = dataset.folder / "front" / f"{data.interval}-{hashlib.sha256(rule.encode()).hexdigest()[:12]}.arrow"
    if not path.is_file():
        bars = building.front(dataset, data.roll)
        store.save_bars(path, building.resample(bars, data.interval, dataset.calendar))
    return store.load_bars(path, dataset)


def _provenance(dataset: store.Dataset, data: schema.Data, end: Any) -> dict[str, Any]:
    manifest = dataset.manifest
    return {
        "source": data.source,
        "dataset": dataset.folder.name,
        "manifest_sha256": dataset.manifest_sha256,
        "synthetic": dataset.synthetic,
        "request": manifest["request"],
        "facts": manifest["facts"],
        "counts": manifest["counts"],
        "inputs": manifest["inputs"],
        "roll": data.roll.model_dump(),
        "start": None if data.start is None else str(data.start),
        "end": None if end is None else str(end),
    }


# ------------------------------------------------------------------------------------------------------------- sources


def _raw(data: schema.Data, root: Path) -> Raw:
    match data:
        case schema.SyntheticData():
            return _synthetic(data, root)
        case schema.DatabentoData():
            return _dbn(existing(data.path, root), data.instrument, {"source": "databento", "symbol": data.symbol})
        case schema.CsvData():
            from mcl.data import csv

            path = existing(data.path, root)
            request = data.model_dump(mode="json", include={"source", "instrument", "interval", "columns", "stamped_at", "timezone"})
            return Raw(f"csv-{path.stem}"[:60], path.parent, [path], request, partial(csv.table, path, data))
        case schema.LeanData():
            from mcl.data import lean

            path = existing(data.path, root)
            request = {"source": "lean", "instrument": data.instrument, "timezone": data.timezone}
            files = lean.files(path, data.instrument)
            return Raw(f"lean-{data.instrument.lower()}", path, files, request, partial(lean.table, path, data))


def _synthetic(data: schema.SyntheticData, root: Path) -> Raw:
    from mcl.data import world

    home = world.generate(data, root / data.folder / "raw")
    raw = _dbn(home, data.instrument, {"source": "synthetic", "world": data.world, "seed": data.seed})
    return replace(raw, label=f"synthetic-{data.world}-seed{data.seed}")


def _dbn(path: Path, instrument: str, request: dict[str, Any]) -> Raw:
    from mcl.data import raw

    found = raw.files(path)
    request = request | {"instrument": instrument, "schemas": sorted(found)}
    label = f"{instrument.lower()}-{path.name.split('.')[0]}"[:60]
    return Raw(label, path, [p for paths in found.values() for p in paths], request, partial(raw.table, path, instrument))


def existing(path: str, root: Path) -> Path:
    """`path` below the project folder, or from the working directory; DataError with the nearest name there is."""
    candidates = (root / path, Path(path).absolute())
    found = next((p for p in candidates if p.exists()), None)
    if found is not None:
        return found
    parent = next((p for p in candidates[0].parents if p.is_dir()), root)
    missing = candidates[0].relative_to(parent).parts[0]
    names = [p.name for p in parent.iterdir() if not p.name.startswith(".")]
    raise DataError(f"there is no {candidates[0]}; in {parent}: {nearest(missing, names)}", "set data.path")
