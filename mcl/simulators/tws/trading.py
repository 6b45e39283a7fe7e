"""Answers requests about orders, executions, positions and the account."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mcl.simulators.tws import render, stamps
from mcl.simulators.tws.messages import Values
from mcl.simulators.tws.orders import ExecutionReport

if TYPE_CHECKING:
    from mcl.simulators.tws.session import ClientSession

Handler = Callable[["ClientSession", Values], None]


def _place(session: ClientSession, request: Values) -> None:
    session.tws.book.place(request, session.client_id)
    if request["order_type"] == "MKT":
        session.tws.player.open_next()


def _cancel(session: ClientSession, request: Values) -> None:
    session.tws.book.cancel(session.client_id, request["order_id"])


def _cancel_all(session: ClientSession, _request: Values) -> None:
    session.tws.book.cancel_all()


def nothing(_session: ClientSession, _request: Values) -> None:
    """Requests that a TWS does not answer."""


def _open_orders(session: ClientSession, _request: Values) -> None:
    _send_orders(session, session.client_id)


def _all_open_orders(session: ClientSession, _request: Values) -> None:
    _send_orders(session, None)


def _send_orders(session: ClientSession, client_id: int | None) -> None:
    for order in session.tws.book.working(client_id):
        session.send("openOrder", **render.open_order(order))
        session.send("orderStatus", **render.order_status(order))
    session.send("openOrderEnd")


def _completed_orders(session: ClientSession, _request: Values) -> None:
    for order in session.tws.book.completed():  # of today
        session.send("completedOrder", **render.completed_order(order))
    session.send("completedOrdersEnd")


def _executions(session: ClientSession, request: Values) -> None:
    book = session.tws.book
    today = [
        fill
        for fill in book.executions[session.tws.hidden_executions :]
        if fill.time >= book.told_since
    ]
    wanted = [fill for fill in today if _passes(fill, request)]
    for fill in wanted:
        session.send("execDetails", **render.execution(fill, request["req_id"]))
    for fill in wanted:
        session.send("commissionReport", **render.commission(fill))
    session.send("execDetailsEnd", req_id=request["req_id"])


def _passes(fill: ExecutionReport, request: Values) -> bool:
    """Client id 0 and empty texts let everything through. The time filter is read as UTC."""
    order = fill.order
    contract = order.listed.fields() | {
        "sec_type": "FUT",
        "side": "BUY" if fill.quantity > 0 else "SELL",
        "account": order.account,
    }
    named = all(
        request[name] in {"", contract[name]}
        for name in ("symbol", "sec_type", "exchange", "side", "account")
    )
    return (
        named
        and request["client_id"] in {0, None, order.client_id}
        and fill.time >= (stamps.instant(request["time"]) if request["time"] else 0)
    )


def _next_id(session: ClientSession, _request: Values) -> None:
    session.send("nextValidId", order_id=session.tws.book.next_valid_id(session.client_id))


def _managed_accounts(session: ClientSession, _request: Values) -> None:
    session.send("managedAccounts", accounts=session.tws.account.name)


def _positions(session: ClientSession, _request: Values) -> None:
    session.subscribed.positions = True
    account = session.tws.account
    for holding in account.holdings.values():
        if holding.quantity:
            session.send("position", **render.position(holding, account.name))
    session.send("positionEnd")


def _cancel_positions(session: ClientSession, _request: Values) -> None:
    session.subscribed.positions = False


def _account_updates(session: ClientSession, request: Values) -> None:
    account = session.tws.account
    session.subscribed.account = request["subscribe"] and request["account"] in {"", account.name}
    if not session.subscribed.account:
        return
    for key, value, currency in account.values():
        session.send(
            "updateAccountValue", key=key, value=value, currency=currency, account=account.name
        )
    for holding in account.holdings.values():
        if holding.quantity:
            session.send("updatePortfolio", **render.portfolio(holding, account.name))
    session.send("updateAccountTime", time=f"{stamps.moment(session.tws.book.now):%H:%M}")
    session.send("accountDownloadEnd", account=account.name)


def _account_multi(session: ClientSession, request: Values) -> None:
    account, req_id = session.tws.account, request["req_id"]
    if request["account"] not in {"", account.name}:
        session.error(req_id, 321, "Error validating request.-'bP' : cause - Invalid account code")
        return
    session.subscribed.account_multi.add(req_id)
    for key, value, currency in account.values():
        session.send(
            "accountUpdateMulti",
            req_id=req_id,
            account=account.name,
            key=key,
            value=value,
            currency=currency,
        )
    session.send("accountUpdateMultiEnd", req_id=req_id)


def _cancel_account_multi(session: ClientSession, request: Values) -> None:
    session.subscribed.account_multi.discard(request["req_id"])


def _summary(session: ClientSession, request: Values) -> None:
    for account, tag, value, currency in session.tws.account.summary(request["tags"]):
        session.send(
            "accountSummary",
            req_id=request["req_id"],
            account=account,
            tag=tag,
            value=value,
            currency=currency,
        )
    session.send("accountSummaryEnd", req_id=request["req_id"])


def _pnl(session: ClientSession, request: Values) -> None:
    session.subscribed.pnl.add(request["req_id"])
    push_pnl(session)


def _cancel_pnl(session: ClientSession, request: Values) -> None:
    session.subscribed.pnl.discard(request["req_id"])


def _pnl_single(session: ClientSession, request: Values) -> None:
    session.subscribed.pnl_single[request["req_id"]] = request["con_id"]
    push_pnl(session)


def _cancel_pnl_single(session: ClientSession, request: Values) -> None:
    session.subscribed.pnl_single.pop(request["req_id"], None)


def push_pnl(session: ClientSession) -> None:
    """The figures of every profit-and-loss subscription."""
    account = session.tws.account
    daily = round(account.equity - account.capital_usd, 10)
    for req_id in session.subscribed.pnl:
        session.send(
            "pnl",
            req_id=req_id,
            daily=daily,
            unrealized=round(account.unrealized, 10),
            realized=round(account.realized, 10),
        )
    for req_id, con_id in session.subscribed.pnl_single.items():
        holding = account.holdings.get(con_id)
        if holding is not None:
            figures = {
                "unrealized": holding.unrealized,
                "realized": holding.realized,
                "value": holding.value,
            }
            rounded = {name: round(value, 10) for name, value in figures.items()}
            daily = rounded["unrealized"] + rounded["realized"]
            session.send(
                "pnlSingle", req_id=req_id, position=holding.quantity, daily=daily, **rounded
            )


def push_account(session: ClientSession, values: Iterable[tuple[str, str, str]]) -> None:
    """Holdings and the given (key, value, currency), if this client has subscribed to account
    updates.
    """
    account, subscribed = session.tws.account, session.subscribed
    if subscribed.account:
        for holding in account.holdings.values():
            session.send("updatePortfolio", **render.portfolio(holding, account.name))
        for key, value, currency in values:
            session.send(
                "updateAccountValue", key=key, value=value, currency=currency, account=account.name
            )
        session.send("updateAccountTime", time=f"{stamps.moment(session.tws.book.now):%H:%M}")


HANDLERS: dict[str, Handler] = {
    "placeOrder": _place,
    "cancelOrder": _cancel,
    "reqGlobalCancel": _cancel_all,
    "reqAutoOpenOrders": nothing,
    "setServerLogLevel": nothing,
    "reqOpenOrders": _open_orders,
    "reqAllOpenOrders": _all_open_orders,
    "reqCompletedOrders": _completed_orders,
    "reqExecutions": _executions,
    "reqIds": _next_id,
    "reqManagedAccts": _managed_accounts,
    "reqPositions": _positions,
    "cancelPositions": _cancel_positions,
    "reqAccountUpdates": _account_updates,
    "reqAccountUpdatesMulti": _account_multi,
    "cancelAccountUpdatesMulti": _cancel_account_multi,
    "reqAccountSummary": _summary,
    "cancelAccountSummary": nothing,
    "reqPnL": _pnl,
    "cancelPnL": _cancel_pnl,
    "reqPnLSingle": _pnl_single,
    "cancelPnLSingle": _cancel_pnl_single,
}
