"""The plan of a run as vectors over its bars: contracts wanted, protective distances, and the gates
of the clock and the market.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mcl.base.errors import EngineError
from mcl.config import schema
from mcl.data.bars import Bars, Floats
from mcl.engine.decision import Bracket, Intent
from mcl.risk.gates import Gates, gates
from mcl.risk.protection import protection
from mcl.risk.sizing import buffer, scale
from mcl.strategy import Strategy

NOTHING = {  # the value of a row that asks nothing
    **dict.fromkeys(("wanted", "stop_ticks", "take_profit_ticks", "trail_ticks"), math.nan),
    **dict.fromkeys(("buffer", "gate"), 0.0),
    **dict.fromkeys(("signal", "scale"), math.nan),
}
VECTORS = tuple(NOTHING)


@dataclass(frozen=True)
class Plan:
    """Known at the close of each row, to be traded from the next open on. A vector without values
    means that no rule needs it.
    """

    wanted: Floats  # contracts, real; NaN means flat
    stop_ticks: Floats  # distance from the fill price
    take_profit_ticks: Floats
    trail_ticks: Floats = field(default_factory=lambda: np.empty(0))
    buffer: Floats = field(default_factory=lambda: np.empty(0))  # contracts
    gate: Gates = field(default_factory=lambda: np.empty(0, np.int8))
    # what `wanted` is the product of, for whoever asks why
    signal: Floats = field(default_factory=lambda: np.empty(0))
    scale: Floats = field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        return len(self.wanted)

    def rows(self, start: int, stop: int) -> Plan:
        """The plan of the bars [start, stop), as views: trade a part of the bars with indicators
        warmed up on what lies before it.
        """
        return Plan(**{name: getattr(self, name)[start:stop] for name in VECTORS})

    def row(self, i: int) -> Intent:
        """Return the intent at row i, as `decide` gets it."""
        value = {name: _at(getattr(self, name), i, NOTHING[name]) for name in VECTORS}
        bracket = Bracket(**{name: value[name] for name in Bracket._fields})
        return Intent(
            wanted=value["wanted"],
            buffer=value["buffer"],
            bracket=bracket,
            gate=int(value["gate"]),
        )


def plan(bars: Bars, strategy: Strategy, risk: schema.Risk, capital_usd: float) -> Plan:
    """signal × scale, with its protective distances. While a protective distance is unknown the
    plan is flat: never unprotected.

    This is the door through which a strategy gets its bars: cut at the close of the last one.
    """
    bars = bars.point_in_time
    signal = strategy.signal(bars)
    if signal.shape != (len(bars),):
        raise EngineError(
            f"{strategy.name}.signal has shape {signal.shape}; it must be one value per bar,"
            f" ({len(bars)},)"
        )
    contracts = scale(bars, risk, capital_usd)
    # then a product would only copy the signal
    always_one = contracts.strides == (0,) and contracts[0] == 1.0
    wanted = signal if always_one else signal * contracts
    distances = protection(bars, risk.protection)
    if protected := [distance for distance in distances if len(distance)]:
        wanted = _flat_where_unknown(wanted, protected[0])
    return Plan(
        wanted, *distances, buffer(contracts, risk), gates(bars, risk.limits), signal, contracts
    )


def _flat_where_unknown(wanted: Floats, distance: Floats) -> Floats:
    unknown = np.flatnonzero(np.isnan(distance))
    if np.isnan(wanted[unknown]).all():
        return wanted
    flat = wanted.copy()
    flat[unknown] = np.nan
    return flat


def joined(parts: Sequence[Plan]) -> Plan:
    """One plan after the other; where a rule needs a vector in one part only, the other parts say
    that it asks nothing.
    """
    return Plan(**{name: _joined(name, parts) for name in VECTORS})


def _joined(name: str, parts: Sequence[Plan]) -> Any:
    vectors = [getattr(part, name) for part in parts]
    if not any(len(values) for values in vectors):
        return vectors[0]
    kind = next(values.dtype for values in vectors if len(values))
    filled = [
        values if len(values) else np.full(len(part), NOTHING[name])
        for values, part in zip(vectors, parts, strict=True)
    ]
    return np.concatenate(filled).astype(kind)


def _at(values: Floats | Gates, i: int, missing: float) -> float:
    return float(values[i]) if len(values) else missing
