"""Read the reference that an order carries: its decision, its part in it and its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcl.broker.protocol import FillReason

# What follows the reference of a decision on orders made for it.
STOP, TAKE_PROFIT, FLATTEN, MARKET, CLOSE = "/stop", "/take", "/flat", "/mkt", "/close"


def reason_of(ref: str) -> FillReason:
    """The reason of an order, read from its reference."""
    return (
        "stop" if ref.endswith(STOP) else "take_profit" if ref.endswith(TAKE_PROFIT) else "target"
    )


def decision_of(ref: str) -> str:
    """The reference of the decision that an order was made for."""
    return ref.partition("/")[0]


def traded_for(ref: str) -> str:
    """The reference of the target that an order trades towards: both halves of a reversal, and what
    a limit left to the market.
    """
    return ref.removesuffix(MARKET).removesuffix(CLOSE)


def execution_root(execution_id: str) -> str:
    """The identity of an execution: a correction re-sends it with only the last group increased."""
    return execution_id.rpartition(".")[0]
