"""Sends the events of the book and of the market as messages to the clients that they concern."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mcl.simulators.tws import event_log, render, trading
from mcl.simulators.tws.contracts import Listed
from mcl.simulators.tws.orders import ExecutionReport, Order

if TYPE_CHECKING:
    from mcl.simulators.tws.server import SimulatedTWS
    from mcl.simulators.tws.session import ClientSession


class Publisher:
    """The `OrderListener` of the book."""

    def __init__(self, tws: SimulatedTWS) -> None:
        self._tws = tws

    def open_order(self, order: Order) -> None:
        for session in self._owners(order):
            session.send("openOrder", **render.open_order(order))

    def order_status(self, order: Order) -> None:
        for session in self._owners(order):
            session.send("orderStatus", **render.order_status(order))

    def executed(self, execution: ExecutionReport) -> None:
        order = execution.order
        event_log.info(
            "tws_fill",
            contract=order.listed.local_symbol,
            quantity=execution.quantity,
            price=execution.price,
            order=order.order_id,
        )
        for session in self._owners(execution.order, master=True):
            session.send("execDetails", **render.execution(execution, -1))

    def commission(self, execution: ExecutionReport) -> None:
        for session in self._owners(execution.order, master=True):
            session.send("commissionReport", **render.commission(execution))

    def order_error(self, client_id: int, order_id: int, code: int, text: str) -> None:
        for session in list(self._tws.sessions):
            if session.client_id == client_id:
                session.error(order_id, code, text)

    def what_if(self, order: Order, before: int, after: int) -> None:
        for session in self._owners(order):
            for values in render.what_if(order, self._tws.account, before, after):
                session.send("openOrder", **values)

    def position_changed(self, listed: Listed) -> None:
        account = self._tws.account
        for session in list(self._tws.sessions):
            if session.subscribed.positions:
                session.send("position", **render.position(account.holding(listed), account.name))
        self.account_changed()

    def account_changed(self) -> None:
        for session in list(self._tws.sessions):
            trading.push_account(session, self._tws.account.moving())
            trading.push_pnl(session)

    def marked(self, listed: Listed) -> None:
        """At the end of a bar an open position has a new value."""
        if self._tws.account.holding(listed).quantity:
            for session in list(self._tws.sessions):
                trading.push_account(session, self._tws.account.marked())
                trading.push_pnl(session)

    def _owners(self, order: Order, master: bool = False) -> Iterator[ClientSession]:
        """The client that placed an order; with `master` also client 0, which is told of everyone's
        executions.
        """
        return (
            s
            for s in list(self._tws.sessions)
            if s.client_id == order.client_id or (master and s.client_id == 0)
        )
