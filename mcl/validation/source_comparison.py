"""Two sources of one market, vendor against vendor or broker against vendor: bars that one lacks,
differences of price and volume, and what they change in the decisions of a strategy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.base.errors import DataError
from mcl.config import schema
from mcl.data import bar_comparison
from mcl.data.bars import Bars
from mcl.data.loader import load
from mcl.engine.backtest import backtest
from mcl.engine.result import Result
from mcl.market.calendar import from_day

Ints = npt.NDArray[np.int64]
SAME_FRAC = 0.9  # of the bars with one and the same difference: a series is adjusted
DATED = 9999  # the year of a contract that stands for a series without dated contracts


@dataclass(frozen=True)
class SourceComparison:
    """Two sources over the sessions that both cover. The first of a pair belongs to the first.

    bars        of each, and of both
    missing     bars that the other has alone, and the first such times
    sessions    with bars of the other alone, and with another dated contract
    table       differences by field (`bar_comparison.COLUMNS`)
    notes       sentences about what explains a difference
    decisions   common bars with a decision, and those with another target
    results     the backtests of both
    """

    bars: tuple[int, int, int]
    missing: tuple[Ints, Ints]
    sessions: tuple[list[str], list[str]]
    other_contract: list[str]
    table: pd.DataFrame
    notes: tuple[str, ...]
    decisions: tuple[int, int]
    results: tuple[Result, Result]

    def as_dict(self) -> dict[str, Any]:
        """The comparison as plain values, for the JSON answer."""
        compared, differ = self.decisions
        rows = self.table.assign(worst_at=self.table["worst_at"].astype(str))
        return {
            "bars": dict(zip(("a", "b", "both"), self.bars, strict=True)),
            "missing": {"a": len(self.missing[0]), "b": len(self.missing[1])},
            "missing_sessions": {"a": self.sessions[0], "b": self.sessions[1]},
            "other_contract": self.other_contract,
            "fields": rows.to_dict("records"),
            "notes": list(self.notes),
            "decisions": {
                "compared": compared,
                "differ": differ,
                "differ_frac": differ / compared if compared else None,
                "trades": [len(result.trades) for result in self.results],
                "net_usd": [float(r.equity[-1] - r.capital_usd) for r in self.results],
            },
        }


def compare(source: schema.Config, other: schema.Config, root: Path) -> SourceComparison:
    """Compare the data of two configurations of the same strategy. DataError for two markets, two
    intervals, and sources that share no session.
    """
    series = load(source.data, root), load(other.data, root)
    _refuse_unlike(*series)
    a, b = _overlap(*series)
    common, rows_a, rows_b = np.intersect1d(a.close_time, b.close_time, return_indices=True)
    only_a, only_b = (np.setdiff1d(x.close_time, common) for x in (a, b))
    rows = rows_a, rows_b
    results = backtest(source, a), backtest(other, b)
    targets = results[0].target[rows_a], results[1].target[rows_b]
    return SourceComparison(
        bars=(len(a), len(b), len(common)),
        missing=(only_b, only_a),
        sessions=(_absent(b, a), _absent(a, b)),
        other_contract=_other_contract(a, b),
        table=bar_comparison.table(a, b, rows),
        notes=tuple(_notes(a, b, rows)),
        decisions=(len(common), int((targets[0] != targets[1]).sum())),
        results=results,
    )


def _refuse_unlike(source: Bars, other: Bars) -> None:
    if source.instrument != other.instrument:
        raise DataError(
            f"one source is of {source.instrument.symbol}, the other of {other.instrument.symbol}",
            "set data.instrument of both to the same product",
        )
    if source.interval != other.interval:
        raise DataError(
            f"one source has bars of {source.interval}, the other of {other.interval}",
            "set data.interval of both to the longer one",
        )


def _overlap(source: Bars, other: Bars) -> tuple[Bars, Bars]:
    first = max(int(source.session[0]), int(other.session[0]))
    last = min(int(source.session[-1]), int(other.session[-1]))
    if first > last:
        ranges = [
            f"{from_day(int(x.session[0]))} to {from_day(int(x.session[-1]))}"
            for x in (source, other)
        ]
        raise DataError(
            f"the sources share no session: {ranges[0]} and {ranges[1]}",
            "choose sources of the same time",
        )
    return tuple(  # type: ignore[return-value]
        x.rows(
            int(np.searchsorted(x.session, first, "left")),
            int(np.searchsorted(x.session, last, "right")),
        )
        for x in (source, other)
    )


def _absent(source: Bars, other: Bars) -> list[str]:
    """Sessions of the first source without a bar of the second."""
    return [str(from_day(int(d))) for d in np.setdiff1d(source.session, other.session)]


def _contracts(bars: Bars) -> pd.Series:
    first = pd.Series(bars.contract).groupby(np.asarray(bars.session)).first()
    return first.map(lambda i: bars.contracts[int(i)].name)


def _is_dated(bars: Bars) -> bool:
    return bars.contracts[int(bars.contract[0])].year < DATED


def _other_contract(source: Bars, other: Bars) -> list[str]:
    """Sessions in which the two hold different dated contracts."""
    if not (_is_dated(source) and _is_dated(other)):
        return []
    both = pd.concat([_contracts(source), _contracts(other)], axis=1, join="inner")
    return [str(from_day(int(d))) for d in both.index[both.iloc[:, 0] != both.iloc[:, 1]]]


def _notes(source: Bars, other: Bars, rows: bar_comparison.Rows) -> list[str]:
    notes = []
    late = bar_comparison.lag(source, other, rows)
    if late:
        later = "the second" if late > 0 else "the first"
        notes.append(f"{later} source is a bar late: data.stamped_at of one is wrong")
    ticks, share = bar_comparison.usual_distance(source, other, rows)
    if ticks and share >= SAME_FRAC:
        notes.append(
            f"{share:.0%} of the closes are {abs(ticks):g} ticks apart: one series is adjusted"
        )
    for name, bars in (("first", source), ("second", other)):
        if not _is_dated(bars):
            notes.append(
                f"the {name} source names no dated contracts: its rolls cannot be compared"
            )
        if not bars.volume.any():
            notes.append(f"the {name} source has no volumes")
    return notes
