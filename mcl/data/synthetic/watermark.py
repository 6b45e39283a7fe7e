"""The sentence that marks every result on generated bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcl.data.bars import Bars

SYNTHETIC = "SYNTHETIC DATA — not a market result"


def watermark(bars: Bars) -> str:
    """Return the sentence that marks every result on synthetic bars, with the version of the
    generator and the edge that was built in; empty for market data.
    """
    if not bars.synthetic:
        return ""
    world = bars.provenance.get("facts", {}).get("world", {})
    parameters = world.get("parameters", {})
    names = ("world", "version", "seed")
    parts = [f"{key} {parameters[key]}" for key in names if key in parameters] + (
        [_edge(parameters.get("edge"))] if parameters else []
    )
    mark, result = SYNTHETIC.split(" — ")
    return f"{mark} — " + "".join(f"{part}, " for part in parts) + result


def _edge(edge: dict[str, float] | None) -> str:
    if not edge:
        return "no edge"
    return (
        f"planted EMA {edge['fast']}/{edge['slow']} edge of annual Sharpe {edge['sharpe']:g} before"
        " costs"
    )
