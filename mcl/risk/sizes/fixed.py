"""A fixed number of contracts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from mcl.config import schema
from mcl.risk.size_method import Floats, SizeMethod

if TYPE_CHECKING:
    from mcl.data.bars import Bars


class FixedSize(schema.SizeRule):
    method: Literal["fixed"]
    contracts: float = Field(1.0, gt=0, le=1000)  # contracts per unit of signal


def _contracts(bars: Bars, _risk: schema.Risk, size: FixedSize, _capital_usd: float) -> Floats:
    """A broadcast, not n copies."""
    return np.broadcast_to(np.float64(size.contracts), len(bars))


def _sentence(size: FixedSize) -> str:
    unit = "contract" if size.contracts == 1 else "contracts"
    return f"A full signal is {size.contracts:g} {unit}."


METHOD = SizeMethod(FixedSize, _contracts, _sentence)
