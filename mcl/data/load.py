"""The door of the room: a data config in, `Bars` out."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from mcl.config import schema
from mcl.data import build, continuous, dataset
from mcl.data.bars import Bars


def load(data: schema.Data, root: Path, holdout: bool = False) -> Bars:
    """The bars of a config. Without `holdout` those from `holdout_start` on are left out, as if
    they did not exist yet: nothing that was published later is in any field, and the finer bars end
    with them.

    `root` is the project folder that relative paths start from. Builds the dataset when there is
    none. Errors: DataError for missing, damaged or empty data, StoreError when the disk refuses.
    """
    stored = build.stored_dataset(data, root)
    bars = build.bars(stored, data)
    fenced = data.holdout_start is not None and not holdout
    end = data.holdout_start if fenced else data.end
    left = bars.between(data.start, end)
    finer = build.StoredFiner(stored.folder, data, int(left.close_time[-1]))
    fingerprint = bars.fingerprint if len(left) == len(bars) else continuous.fingerprint(left)
    return replace(
        left, fingerprint=fingerprint, provenance=_provenance(stored, data, end), finer=finer
    )


def _provenance(stored: dataset.Dataset, data: schema.Data, end: date | None) -> dict[str, Any]:
    """What the bars were made from: everything here is plain JSON."""
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
