"""Fixed fractional after Vince: a stop loses a fraction of the capital."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.risk.size_method import Floats, SizeMethod

if TYPE_CHECKING:
    from mcl.data.bars import Bars


class FixedFractionalSize(schema.SizeRule):
    """contracts = capital * risk / (distance of the stop in USD + costs): a stop loses `risk_frac`
    of the capital.
    """

    method: Literal["fixed_fractional"]
    risk_frac: float = Field(0.01, gt=0, le=1)
    cost_usd: float = Field(3.54, ge=0)  # of the round trip of one contract
    max_contracts: float = Field(10.0, gt=0, le=1000)


def _contracts(
    bars: Bars, risk: schema.Risk, size: FixedFractionalSize, capital_usd: float
) -> Floats:
    loss_usd = _stop_distance(bars, risk) * bars.instrument.tick_value_usd + size.cost_usd
    return np.minimum(capital_usd * size.risk_frac / loss_usd, size.max_contracts)


def _stop_distance(bars: Bars, risk: schema.Risk) -> Floats:
    """The nearer of the fixed and the trailing stop, ticks."""
    from mcl.risk.protection import protection

    stop, _, trail = protection(bars, risk.protection)
    distances = [distance for distance in (stop, trail) if len(distance)]
    if not distances:
        raise ConfigError(
            "risk.size.method=fixed_fractional sizes by the distance of the stop; set"
            " risk.protection.stop and unit"
        )
    return distances[0] if len(distances) == 1 else np.minimum(*distances)


def _sentence(size: FixedFractionalSize) -> str:
    return (
        f"A full signal is so many contracts that its stop loses {size.risk_frac:.3%} of the"
        f" capital, {size.cost_usd:g} USD of costs for each included, and at most"
        f" {size.max_contracts:g}."
    )


METHOD = SizeMethod(FixedFractionalSize, _contracts, _sentence)
