"""The Turtles' unit, after Faith."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mcl.config import schema
from mcl.config.base_model import BarCount
from mcl.risk.size_method import Floats, SizeMethod, per_risk

if TYPE_CHECKING:
    from mcl.data.bars import Bars


class AtrUnitSize(schema.SizeRule):
    """contracts = capital * risk / (multiple * ATR in USD): a move of `multiple` average true
    ranges is `risk_frac` of the capital.
    """

    method: Literal["atr_unit"]
    risk_frac: float = Field(0.01, gt=0, le=1)
    multiple: float = Field(1.0, gt=0, le=100)
    atr_bars: BarCount = Field(14, ge=1, le=1_000_000)
    max_contracts: float = Field(10.0, gt=0, le=1000)


def _contracts(bars: Bars, _risk: schema.Risk, size: AtrUnitSize, capital_usd: float) -> Floats:
    from mcl.strategy.indicators import atr

    adjusted = bars.adjusted
    ranges = atr(adjusted["high"], adjusted["low"], adjusted["close"], size.atr_bars)
    range_usd = ranges * bars.instrument.multiplier * size.multiple
    return per_risk(capital_usd * size.risk_frac, range_usd, size.max_contracts)


def _memory_bars(size: AtrUnitSize) -> int:
    """Wilder's 1/n decay below a float's precision."""
    return 40 * size.atr_bars


def _sentence(size: AtrUnitSize) -> str:
    return (
        f"A full signal is so many contracts that {size.multiple:g} average true ranges are"
        f" {size.risk_frac:.3%} of the capital, and at most {size.max_contracts:g}."
    )


METHOD = SizeMethod(AtrUnitSize, _contracts, _sentence, memory_bars=_memory_bars)
