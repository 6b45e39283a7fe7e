"""Kelly's continuous fraction, mu / sigma^2, for a Sharpe ratio that is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mcl.config import schema
from mcl.risk.size_method import Floats, SizeMethod, per_volatility

if TYPE_CHECKING:
    from mcl.data.bars import Bars


class KellySize(schema.SizeRule):
    """contracts = fraction * capital * sharpe / sigma. `sharpe` is what you believe in, annual and
    net: it is not estimated here.
    """

    method: Literal["kelly"]
    sharpe: float = Field(0.5, gt=0, le=5)
    fraction: float = Field(0.5, gt=0, le=1)
    lookback_sessions: int = Field(30, ge=5, le=500)
    max_contracts: float = Field(10.0, gt=0, le=1000)


def _contracts(bars: Bars, _risk: schema.Risk, size: KellySize, capital_usd: float) -> Floats:
    """With mu = Sharpe x sigma, the fraction is capital x Sharpe / sigma in contracts."""
    budget_usd = capital_usd * size.fraction * size.sharpe
    return per_volatility(bars, budget_usd, size.lookback_sessions, size.max_contracts)


def _memory_sessions(size: KellySize) -> int:
    return size.lookback_sessions + 1


def _sentence(size: KellySize) -> str:
    return (
        f"A full signal is {size.fraction:g} of Kelly's size for a Sharpe ratio of"
        f" {size.sharpe:g}, which is believed and not estimated, and at most"
        f" {size.max_contracts:g} contracts."
    )


METHOD = SizeMethod(KellySize, _contracts, _sentence, memory_sessions=_memory_sessions)
