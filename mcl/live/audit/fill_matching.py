"""Match the fills of a session with those of the backtest of its bars, and find the cause of each
that has no match.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from mcl.broker.order_references import decision_of
from mcl.data.bars import Bars
from mcl.engine.result import FILL_REASONS, Result
from mcl.live.audit.slippage import LiveFill
from mcl.live.journal import Entry
from mcl.live.journal_records import PROTECT, TRAIL
from mcl.risk.blocks import Block

Cause = Literal["data", "timing", "price", "missed", "risk block", "roll", "unexplained"]
Row = tuple[Any, ...]  # of a difference: time, what, live, backtest, cause, detail
LATE_BARS = 3  # so far apart two fills of one quantity may be the same one


@dataclass(frozen=True)
class FillMatches:
    """`rows`: the differences. `backtest_prices`: by position among the live fills the price of the
    backtest's.
    """

    rows: list[Row]
    backtest_prices: dict[int, float]


class Circumstances:
    """The reasons in a journal for which decisions were not sent, or positions were closed without
    a decision. Made from its entries by kind.
    """

    def __init__(self, kinds: dict[str, list[Entry]]) -> None:
        self._decided = {int(e.body["bar"]): e for e in kinds["decision"] if "bar" in e.body}
        self._sent = {int(e.body["bar"]): str(e.key) for e in kinds["order"]}
        self._refused = [
            e.body["sentence"] for e in kinds["alert"] if e.body.get("code") == "GUARD"
        ]
        self._ordered = {
            str(e.key): self._who(e, kinds["command"])
            for e in kinds["protect"]
            if e.body.get("why") not in (PROTECT, TRAIL)
        }
        self._commands = kinds["command"]
        self._bars = {ref: bar for bar, ref in self._sent.items()}
        self._cap = kinds["begin"][0].body.get("max_contracts") if kinds["begin"] else None

    @staticmethod
    def _who(entry: Entry, commands: list[Entry]) -> str:
        before = [
            c.body
            for c in commands
            if c.seq < entry.seq and c.body.get("word") in ("flatten", "kill", "stop")
        ]
        return (
            f"{entry.body.get('why')}: {before[-1]['who']}, {before[-1]['why']}"
            if before
            else str(entry.body.get("why"))
        )

    def absent(self, bar: int) -> tuple[Cause, str]:
        """The cause of a fill that only the backtest has in this bar: its order was decided at the
        bar before.
        """
        decision = self._decided.get(bar - 1)
        held_back = str(decision.body.get("held_back") or "") if decision else ""
        if held_back.startswith("late"):
            return "timing", held_back
        if held_back == "paused":
            return "risk block", f"paused{self._by(decision)}"
        if smaller := self.capped(bar):
            return smaller
        return self.refused(bar) or ("missed", "")

    def refused(self, bar: int) -> tuple[Cause, str] | None:
        """Whether a guard let nothing, or only the half that closes, be sent for what fills in this
        bar.
        """
        ref = self._sent.get(bar - 1, "")
        refusal = next((sentence for sentence in self._refused if ref and ref in sentence), "")
        return ("risk block", refusal) if refusal else None

    def ordered(self, fill: LiveFill) -> tuple[Cause, str] | None:
        """The cause of a fill that only the session has, if something else than a decision ordered
        it.
        """
        if fill.reason == "roll":
            return "roll", "the backtest moves at the first open"
        word = next(
            (reason for ref, reason in self._ordered.items() if fill.ref.startswith(ref)), ""
        )
        return ("risk block", word) if word else None

    def capped(self, bar: int) -> tuple[Cause, str] | None:
        """Whether a fill in this bar is smaller than the backtest's, or is not there, since the
        session was to hold less.
        """
        decision = self._decided.get(bar - 1)
        blocked = decision is not None and decision.body.get("block") == Block.MAX_POSITION
        return (
            ("risk block", f"broker.max_contracts={self._cap}")
            if blocked and self._cap is not None
            else None
        )

    def rest(self, fill: LiveFill) -> tuple[Cause, str] | None:
        """The cause of a fill that came later than the bar after its decision: the market, or the
        order's limit, did not give all of it at once.
        """
        decided = self._bars.get(decision_of(fill.ref))
        late = 0 if decided is None else fill.bar - decided - 1
        return (
            ("timing", f"{late:+d} bars: the rest of {decision_of(fill.ref)}") if late > 0 else None
        )

    def _by(self, decision: Entry | None) -> str:
        """The clause that names who had paused the session when this was decided."""
        last = decision.at_ns if decision else 0
        commands = [
            c.body
            for c in self._commands
            if c.body.get("word") in ("pause", "flatten") and c.at_ns <= last
        ]
        return f" by {commands[-1]['who']}: {commands[-1]['why']}" if commands else ""


def backtest_fills(result: Result) -> list[LiveFill]:
    tick = result.bars.instrument.tick_size
    return [
        LiveFill(
            int(f["bar"]),
            int(f["quantity"]),
            float(f["price_ticks"] * tick),
            reason=FILL_REASONS[f["reason"]],
        )
        for f in result.fills
    ]


def pair(
    bars: Bars,
    live: Sequence[LiveFill],
    backtest: Sequence[LiveFill],
    decisions: pd.DataFrame,
    expected: pd.DataFrame,
    circumstances: Circumstances,
    exact_prices: bool,
) -> FillMatches:
    """Bar by bar in their order; what is left over is late (the same quantity a few bars away) or
    has no match for a reason.
    """
    ours, theirs = _by_bar(live), _by_bar(backtest)
    apart = _apart(decisions, expected)
    rows: list[Row] = []
    backtest_prices: dict[int, float] = {}
    extra: list[LiveFill] = []
    absent: list[LiveFill] = []
    for bar in sorted(ours.keys() | theirs.keys()):
        mine, counterparts = ours.get(bar, []), theirs.get(bar, [])
        for (number, a), (_, b) in zip(mine, counterparts, strict=False):
            backtest_prices[number] = b.price
            if a.quantity != b.quantity:
                rows.append(
                    difference(bars, bar, str(a), str(b), *_unequal(circumstances, a, apart(bar)))
                )
            elif exact_prices and abs(a.price - b.price) > 1e-9 and not apart(bar):
                rows.append(difference(bars, bar, str(a), str(b), "price"))
        extra += [fill for _, fill in mine[len(counterparts) :]]
        absent += [fill for _, fill in counterparts[len(mine) :]]
    rows += _alone(bars, extra, absent, circumstances, apart)
    return FillMatches(sorted(_caused(rows), key=lambda row: row[0]), backtest_prices)


def _unequal(circumstances: Circumstances, fill: LiveFill, apart: bool) -> tuple[str, str]:
    cause = (
        circumstances.ordered(fill)
        or circumstances.capped(fill.bar)
        or circumstances.refused(fill.bar)
    )
    return cause or (("", "from another position") if apart else ("missed", ""))


def _alone(
    bars: Bars,
    extra: list[LiveFill],
    absent: list[LiveFill],
    circumstances: Circumstances,
    apart: Any,
) -> Iterator[Row]:
    """An empty cause follows from the difference before it."""
    for fill in extra:
        ordered = circumstances.ordered(fill)
        near = (
            b
            for b in absent
            if b.quantity == fill.quantity
            and b.reason != "roll"
            and abs(b.bar - fill.bar) <= LATE_BARS
        )
        match = (
            None
            if ordered
            else next((b for b in near if circumstances.absent(b.bar)[0] == "missed"), None)
        )
        if match is not None:
            absent.remove(match)
            yield difference(
                bars, fill.bar, str(fill), str(match), "timing", f"{fill.bar - match.bar:+d} bars"
            )
        elif ordered or not apart(fill.bar):
            yield difference(
                bars,
                fill.bar,
                str(fill),
                "none",
                *(ordered or circumstances.rest(fill) or ("unexplained", "")),
            )
        else:
            yield difference(bars, fill.bar, str(fill), "none", "", "from another position")
    for fill in absent:
        cause, why = (
            ("roll", "not moved at the first open")
            if fill.reason == "roll"
            else circumstances.absent(fill.bar)
        )
        follows = cause == "missed" and apart(fill.bar)
        yield difference(
            bars,
            fill.bar,
            "none",
            str(fill),
            *(("", "from another position") if follows else (cause, why)),
        )


def _caused(rows: list[Row]) -> Iterator[Row]:
    """Rows in time; one without a cause of its own has that of the row before it."""
    cause = "unexplained"
    for row in sorted(rows, key=lambda row: (row[0], not row[4])):
        cause = row[4] or cause
        yield (*row[:4], cause, row[5])


def _apart(decisions: pd.DataFrame, expected: pd.DataFrame) -> Any:
    """Whether session and backtest held different positions when what fills in a bar was decided,
    as a function of its number.
    """
    unequal = decisions["position"].to_numpy(np.float64) != expected["position"].to_numpy(
        np.float64
    )
    unequal &= ~np.isnan(decisions["position"].to_numpy(np.float64))
    return lambda bar: bool(0 < bar <= len(unequal) and unequal[bar - 1])


def difference(bars: Bars, bar: int, live: str, backtest: str, cause: str, detail: str = "") -> Row:
    at = int(bars.close_time[min(bar, len(bars) - 1)])
    return pd.Timestamp(at, tz="UTC"), "fill", live, backtest, cause, detail


def _by_bar(fills: Sequence[LiveFill]) -> dict[int, list[tuple[int, LiveFill]]]:
    numbered: dict[int, list[tuple[int, LiveFill]]] = defaultdict(list)
    for number, fill in enumerate(fills):
        numbered[fill.bar].append((number, fill))
    return numbered
