"""The sentence about its data that stands on every page and summary of a result."""

from __future__ import annotations

from mcl.data.bars import Bars
from mcl.data.synthetic.watermark import watermark

DAYS_SHOWN = 3  # more of them are their first and their last


def data_note(bars: Bars) -> str:
    """Return the watermark of synthetic bars, or the limits that the source of market data states
    of itself, and the sessions without bars; empty where there are none.
    """
    mark = watermark(bars) or str(bars.provenance.get("facts", {}).get("limits", ""))
    return " · ".join(part for part in (mark, _absent_sessions(bars)) if part)


def _absent_sessions(bars: Bars) -> str:
    days = bars.provenance.get("sessions_without_bars", [])
    if not days:
        return ""
    if len(days) == 1:
        return f"1 session has no bar of the active contract: {days[0]}"
    listed = ", ".join(days) if len(days) <= DAYS_SHOWN else f"{days[0]} to {days[-1]}"
    return f"{len(days):,} sessions have no bar of the active contract: {listed}"
