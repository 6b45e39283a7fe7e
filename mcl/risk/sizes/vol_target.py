"""Volatility target after Carver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from mcl.config import schema
from mcl.risk.size_method import Floats, SizeMethod, per_volatility

if TYPE_CHECKING:
    from mcl.data.bars import Bars


class VolTargetSize(schema.SizeRule):
    """contracts = capital * target / (sigma of session P&L of one contract, annualised), at most
    `max_contracts`.
    """

    method: Literal["vol_target"]
    annual_vol_frac: float = Field(0.20, gt=0, le=2)
    lookback_sessions: int = Field(30, ge=5, le=500)
    max_contracts: float = Field(10.0, gt=0, le=1000)
    # of the size at full signal: no trade while the position is this near; 0.1 is usual
    buffer_frac: float = Field(0.0, ge=0, le=1)


def _contracts(bars: Bars, _risk: schema.Risk, size: VolTargetSize, capital_usd: float) -> Floats:
    budget_usd = capital_usd * size.annual_vol_frac
    return per_volatility(bars, budget_usd, size.lookback_sessions, size.max_contracts)


def _memory_sessions(size: VolTargetSize) -> int:
    return size.lookback_sessions + 1


def _buffer(size: VolTargetSize, contracts: Floats) -> Floats:
    """Carver's position buffer."""
    if not size.buffer_frac:
        return np.empty(0)
    return np.nan_to_num(size.buffer_frac * contracts, nan=0.0)


def _sentence(size: VolTargetSize) -> str:
    return (
        f"A full signal has a volatility of {size.annual_vol_frac:.3%} of the capital a year, by"
        f" the {size.lookback_sessions} sessions before, and at most {size.max_contracts:g}"
        " contracts."
    )


METHOD = SizeMethod(
    VolTargetSize, _contracts, _sentence, memory_sessions=_memory_sessions, buffer=_buffer
)
