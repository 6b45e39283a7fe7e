"""From the objects that ib_async holds to the plain records of `mcl.broker`. They are only read, by
attribute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Any

from mcl.base.errors import BrokerError
from mcl.base.instants import NS
from mcl.broker.order_references import reason_of
from mcl.broker.protocol import Bar, Fill, WorkingOrder
from mcl.market import calendar
from mcl.market.intervals import STEPS_SEC

EXCHANGE_SEC = 900  # the exchange opens and closes at quarters of an hour
# what TWS calls a bar that it keeps up to date: none is shorter than five seconds
BAR_SIZES = {
    **{"5s": "5 secs", "10s": "10 secs", "15s": "15 secs", "30s": "30 secs"},
    **{"1m": "1 min", "5m": "5 mins", "15m": "15 mins", "30m": "30 mins", "1h": "1 hour"},
}
# seconds of bars shorter than a minute that TWS gives at once; of others whole days
_PAGE_SEC = {"5s": 3600, "10s": 14_400, "15s": 14_400, "30s": 28_800}


class Interval:
    """The length of a bar, what TWS calls it, and closed `Bar`s from rows that are dated by their
    open.

    A bar closes when it is as long as all, or when its session closes: the last one of a half day
    may be shorter. `root`: the product.
    """

    def __init__(self, name: str, root: str = "MCL") -> None:
        if name not in BAR_SIZES:
            raise BrokerError(
                f"the broker has no live bars of interval {name!r}; valid: {', '.join(BAR_SIZES)}"
            )
        self.seconds, self.bar_size = STEPS_SEC[name], BAR_SIZES[name]
        self.page_sec = _PAGE_SEC.get(name, 0)
        self._root = root
        # by open: close times of bars that a close of the exchange may cut short
        self._closes: dict[int, int] = {}

    def close_time(self, row: Any) -> int:
        opened = int(row.date.timestamp()) * NS
        if self.seconds <= EXCHANGE_SEC:
            return opened + self.seconds * NS
        if opened not in self._closes:
            self._closes[opened] = self._cut(opened)
        return self._closes[opened]

    def _cut(self, opened: int) -> int:
        """The nominal close, or the official one of the session if that is earlier."""
        nominal, day = opened + self.seconds * NS, int(calendar.session_of(opened))
        official = _official_closes(self._root, calendar.from_day(day).year).get(day, 0)
        return official if opened < official < nominal else nominal

    def bar(self, row: Any) -> Bar:
        return Bar(self.close_time(row), row.open, row.high, row.low, row.close, int(row.volume))

    def after(self, rows: Sequence[Any], instant: int) -> list[Bar]:
        """The bars that closed later than `instant`; read from the end, since few are new. A row
        without a trade is none.
        """
        fresh: list[Bar] = []
        for row in reversed(rows):
            if self.close_time(row) <= instant:
                break
            if row.volume:
                fresh.append(self.bar(row))
        return fresh[::-1]


@lru_cache(maxsize=16)
def _official_closes(root: str, year: int) -> dict[int, int]:
    """By trade date: when its session closes, ns."""
    sessions = calendar.sessions(date(year, 1, 1), date(year + 1, 1, 1), root)
    return dict(zip(sessions.day.tolist(), sessions.close_ns.tolist(), strict=True))


def fill_of(fill: Any) -> Fill:
    """One execution; its commission is NaN until it is known."""
    report = fill.commissionReport
    commission = float(report.commission) if report.execId else math.nan
    done = fill.execution
    quantity = int(done.shares) * (1 if done.side == "BOT" else -1)
    moment = int(done.time.timestamp()) * NS
    return Fill(
        execution_id=done.execId,
        time=moment,
        symbol=fill.contract.localSymbol,
        quantity=quantity,
        price=done.price,
        commission_usd=commission,
        reason=reason_of(done.orderRef),
        ref=done.orderRef,
    )


def working_order(trade: Any) -> WorkingOrder:
    order, status = trade.order, trade.orderStatus
    price = {"LMT": order.lmtPrice, "STP": order.auxPrice, "MIT": order.auxPrice}.get(
        order.orderType, math.nan
    )
    remaining = int(order.totalQuantity - status.filled) * (1 if order.action == "BUY" else -1)
    return WorkingOrder(
        order_id=order.orderId,
        permanent_id=order.permId,
        ref=order.orderRef,
        kind=order.orderType,
        quantity=remaining,
        price=float(price),
        status=status.status,
        symbol=trade.contract.localSymbol,
        client_id=order.clientId,
    )
