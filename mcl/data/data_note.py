"""The sentence about its data on every page and summary of a result."""

from __future__ import annotations

from mcl.data.bars import Bars
from mcl.data.conventions import STRAYS
from mcl.data.synthetic.watermark import watermark

DAYS_SHOWN = 3  # more of them are their first and their last


def data_note(bars: Bars) -> str:
    """Return the watermark of synthetic bars, or the limits that the source of market data states
    of itself, the sessions without bars, bars in closed hours, and a roll rule that its deadline
    decides; empty where there are none.
    """
    mark = watermark(bars) or str(bars.provenance.get("facts", {}).get("limits", ""))
    parts = (mark, _absent_sessions(bars), _strays(bars), _roll_note(bars))
    return " · ".join(part for part in parts if part)


def _strays(bars: Bars) -> str:
    fact = bars.provenance.get("facts", {}).get(STRAYS)
    if not fact:
        return ""
    count, first = int(fact["count"]), fact["places"][0]
    if count == 1:
        return f"1 bar lies in hours in which the exchange is closed: {first}"
    return f"{count:,} bars lie in hours in which the exchange is closed, the first at {first}"


def _absent_sessions(bars: Bars) -> str:
    days = bars.provenance.get("sessions_without_bars", [])
    if not days:
        return ""
    if len(days) == 1:
        return f"1 session has no bar of the active contract: {days[0]}"
    listed = ", ".join(days) if len(days) <= DAYS_SHOWN else f"{days[0]} to {days[-1]}"
    return f"{len(days):,} sessions have no bar of the active contract: {listed}"


def rolls_by_deadline(bars: Bars) -> int:
    """Number of the rolls that the deadline decided, before volume or open interest had moved."""
    table = bars.roll_table
    if not len(table):
        return 0
    moved = table["volume_to"] > table["volume_from"]
    return int(((table["reason"] == "forced") & ~moved).sum())


def deadline_decides(bars: Bars) -> bool:
    """Whether the deadline decided more than half of the rolls: such a rule is a calendar rule."""
    return 2 * rolls_by_deadline(bars) > len(bars.roll_table)


def _roll_note(bars: Bars) -> str:
    if not deadline_decides(bars):
        return ""
    rule = bars.provenance.get("roll", {}).get("rule", "its rule")
    return (
        f"{rolls_by_deadline(bars)} of {len(bars.roll_table)} rolls were decided by their deadline,"
        f" not by {str(rule).replace('_', ' ')}: choose roll@data.roll=calendar"
    )
