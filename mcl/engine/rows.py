"""Write and read rows of fills and of changes in compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.base.jit import inline
from mcl.engine.legs import NOTHING, distance

Fills = npt.NDArray[np.void]  # FILL
Changes = npt.NDArray[np.void]  # CHANGE


@inline
def signed(index: Any) -> Any:
    """An int64, whatever the array or the loop counts in: unsigned and signed integers make a
    float.
    """
    return np.int64(index)


@inline
def write_fill(
    fills: Fills,
    count: int,
    bar: int,
    contract: int,
    quantity: int,
    price: float,
    paid: float,
    reason: int,
    position: int,
    stop_at: float,
) -> int:
    """Write a fill behind the others; returns how many there are now."""
    fill: Any = fills[count]
    fill.bar, fill.contract, fill.quantity, fill.price_ticks = bar, contract, quantity, price
    fill.slippage_ticks, fill.reason, fill.position, fill.risk_ticks = (
        paid,
        reason,
        position,
        distance(price, stop_at),
    )
    return count + 1


@inline
def note_change(
    changes: Changes, count: int, bar: int, position: int, target: int, block: int
) -> int:
    """Write the row of a change behind the others; returns how many there are now."""
    change: Any = changes[count]
    change.bar, change.position, change.target, change.block = bar, position, target, block
    return count + 1


@inline
def last_change(changes: Changes, count: int) -> tuple[int, int, int]:
    """Position, target and block of the last change; before the first one a block that does not
    exist, so that row 0 is one.
    """
    if count == 0:
        return 0, 0, NOTHING
    change: Any = changes[count - 1]
    return signed(change.position), signed(change.target), signed(change.block)
