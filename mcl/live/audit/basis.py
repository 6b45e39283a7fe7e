"""Compare the bars of the broker with those of the data vendor: the basis on which live trading and
research differ.

A session decides on the broker's bars, research on the vendor's. The table counts and measures
where they differ in bars that both have. A backtest of the vendor's bars, from what the session
began with, says how many decisions are others because of that. Before the vendor's bars are stored
there is a sentence in place of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mcl.data import bar_comparison
from mcl.data.bar_comparison import COLUMNS, FIELDS
from mcl.data.bars import Bars
from mcl.live.session_setup import Stage

DOWNLOAD = "mcl data download, then mcl live audit DATE NAME"


def _no_table() -> pd.DataFrame:
    return pd.DataFrame([], columns=list(COLUMNS))


@dataclass(frozen=True)
class Basis:
    """`note` says why there is no table. Differences are the broker's value less the vendor's.

    table         one row per field of COLUMNS, over the bars that both have; prices in ticks
    only_live     bars that the broker sent and the vendor does not have
    only_vendor   bars that the vendor has and the broker did not send
    decisions     bars of either side whose target was compared
    differ        of them those with another target, or with none on one side
    """

    note: str = ""
    table: pd.DataFrame = field(default_factory=_no_table)
    only_live: int = 0
    only_vendor: int = 0
    decisions: int = 0
    differ: int = 0

    @property
    def decisions_frac(self) -> float:
        """The share of decisions that differ because of data; NaN without a decision to compare."""
        return self.differ / self.decisions if self.decisions else math.nan


def vendor_bars(live: Bars, stage: Stage, contract: str) -> tuple[Bars | None, str]:
    """The vendor's bars between the first and the last of the session, or a sentence that says why
    there are none.
    """
    stored = stage.recorded
    if stored is None:
        return None, f"the vendor's bars of this session are not stored yet: {DOWNLOAD}"
    if contract and stage.contract.symbol != contract:
        return (
            None,
            (
                f"the vendor's bars of this session are of {stage.contract.symbol}, the session"
                f" traded {contract}"
            ),
        )
    first, last = int(live.close_time[0]), int(live.close_time[-1])
    start = int(np.searchsorted(stored.close_time, first, "left"))
    stop = int(np.searchsorted(stored.close_time, last, "right"))
    if start == stop:
        return (
            None,
            f"the vendor has no bar between the first and the last of this session: {DOWNLOAD}",
        )
    return stored.rows(start, stop), ""


def recorded_bodies(bars: Bars) -> list[dict[str, Any]]:
    """The bars as a journal holds them."""
    columns = [getattr(bars, name).tolist() for name in ("close_time", *FIELDS)]
    rows = zip(*columns, strict=True)
    return [dict(zip(("close_time", *FIELDS), row, strict=True)) for row in rows]


def measure(
    live: Bars, vendor: Bars, live_target: Sequence[float], vendor_target: Sequence[float]
) -> Basis:
    """The basis of two sets of bars and of the targets that a backtest has at each of them."""
    common, ours, theirs = np.intersect1d(live.close_time, vendor.close_time, return_indices=True)
    only_live, only_vendor = len(live) - len(common), len(vendor) - len(common)
    apart = np.asarray(live_target, float)[ours] != np.asarray(vendor_target, float)[theirs]
    return Basis(
        table=bar_comparison.table(live, vendor, (ours, theirs)),
        only_live=only_live,
        only_vendor=only_vendor,
        decisions=len(common) + only_live + only_vendor,
        differ=int(apart.sum()) + only_live + only_vendor,
    )
