"""From the objects that ib_async holds to the plain records of `mcl.broker`. They are only read, by attribute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mcl.broker import Bar, Fill, WorkingOrder
from mcl.broker.ledger import reason_of
from mcl.errors import BrokerError

NS = 1_000_000_000
_SIZES = {"1m": (1, "1 min"), "5m": (5, "5 mins"), "15m": (15, "15 mins"), "30m": (30, "30 mins"), "1h": (60, "1 hour")}


class Interval:
    """The length of a bar, what TWS calls it, and closed `Bar`s from rows that are dated by their open."""

    def __init__(self, name: str) -> None:
        if name not in _SIZES:
            raise BrokerError(f"the broker has no live bars of interval {name!r}; valid: {', '.join(_SIZES)}")
        self.minutes, self.bar_size = _SIZES[name]

    def close_time(self, row: Any) -> int:
        return (int(row.date.timestamp()) + 60 * self.minutes) * NS

    def bar(self, row: Any) -> Bar:
        return Bar(self.close_time(row), row.open, row.high, row.low, row.close, int(row.volume))

    def after(self, rows: Sequence[Any], instant: int) -> list[Bar]:
        """The bars that closed later than `instant`; read from the end, since few are new. A row without a trade is none."""
        fresh: list[Bar] = []
        for row in reversed(rows):
            if self.close_time(row) <= instant:
                break
            if row.volume:
                fresh.append(self.bar(row))
        return fresh[::-1]


def fill_of(fill: Any) -> Fill:
    """One execution; its commission is NaN until it is known."""
    report = fill.commissionReport
    commission = float(report.commission) if report.execId else math.nan
    done = fill.execution
    quantity = int(done.shares) * (1 if done.side == "BOT" else -1)
    moment = int(done.time.timestamp()) * NS
    return Fill(done.execId, moment, fill.contract.localSymbol, quantity, done.price, commission, reason_of(done.orderRef), done.orderRef)


def working_order(trade: Any) -> WorkingOrder:
    order, status = trade.order, trade.orderStatus
    price = {"LMT": order.lmtPrice, "STP": order.auxPrice, "MIT": order.auxPrice}.get(order.orderType, math.nan)
    remaining = int(order.totalQuantity - status.filled) * (1 if order.action == "BUY" else -1)
    return WorkingOrder(
        order.orderId,
        order.permId,
        order.orderRef,
        order.orderType,
        remaining,
        float(price),
        status.status,
        trade.contract.localSymbol,
        order.clientId,
    )
