"""The sentence about its data that stands on every page and summary of a result."""

from __future__ import annotations

from mcl.data.bars import Bars
from mcl.data.synthetic.watermark import watermark


def data_note(bars: Bars) -> str:
    """Return the watermark of synthetic bars, or the limits that the source of market data states
    of itself; empty where there are none.
    """
    return watermark(bars) or str(bars.provenance.get("facts", {}).get("limits", ""))
