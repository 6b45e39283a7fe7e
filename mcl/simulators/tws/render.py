"""From the broker's objects to the values of messages, in the number formats that a TWS uses."""

from __future__ import annotations

from mcl.simulators.tws.account import AccountHolding, SimulatedAccount
from mcl.simulators.tws.messages import Values
from mcl.simulators.tws.orders import TRAILING, ExecutionReport, Order
from mcl.simulators.tws.stamps import local_time

NO_PARENT = "9223372036854775807"


def _common(order: Order) -> Values:
    return (
        order.listed.fields()
        | {
            "action": "BUY" if order.side > 0 else "SELL",
            "quantity": order.total,
            "order_type": order.kind,
            "limit_price": order.limit,
            "aux_price": order.trail if order.kind in TRAILING else order.trigger,
            "tif": order.tif,
            "oca_group": order.oca_group,
            "account": order.account,
            "order_ref": order.ref,
            "perm_id": order.perm_id,
            "outside_rth": order.outside_rth,
            "oca_type": order.oca_type,
            "status": order.status,
            "trail_stop_price_2": _second_trail_stop(order),
        }
        | (_trailing(order) if order.kind in TRAILING else {})
        | ({"good_till_date": order.good_till} if order.good_till else {})
    )


def _trailing(order: Order) -> Values:
    percent: Values = {"trailing_percent": repr(order.trail_percent)} if order.trail_percent else {}
    if order.kind == "TRAIL LIMIT":
        percent["limit_offset"] = order.limit_offset
    return percent | ({"trail_stop_price": repr(order.trigger)} if order.trigger else {})


def _second_trail_stop(order: Order) -> float | None:
    """TWS writes noise here: the limit one away, or the trigger; unset without a price and after a
    change.
    """
    if order.trigger:
        return order.trigger
    return order.limit + order.side if order.limit and not order.revision else None


def open_order(order: Order) -> Values:
    values = _common(order) | {
        "order_id": order.order_id,
        "client_id": order.client_id,
        "shares_allocation": f"{order.perm_id}.{order.revision}/{order.account}/100",
        "parent_id": order.parent_id,
        "what_if": False,
    }
    if order.commission is not None:
        values |= {
            "commission": repr(order.commission),
            "commission_currency": order.listed.instrument.currency,
        }
    return values


def what_if(
    order: Order, account: SimulatedAccount, before: int, after: int
) -> tuple[Values, Values]:
    """The two answers: first all figures unset, then margins before, change and after, and the
    commission.
    """
    preview = open_order(order) | {"client_id": 0, "what_if": True, "status": "PreSubmitted"}
    terms, equity = account.terms, account.equity
    fee = terms.commission_usd * order.total
    margins: Values = {}
    needs = (
        ("init", account.initial_margin, terms.initial),
        ("maint", account.maintenance_margin, terms.maintenance),
    )
    for name, now, per_contract in needs:
        change = (abs(after) - abs(before)) * per_contract(order.listed)
        margins |= {
            f"{name}_margin_before": now,
            f"{name}_margin_change": change,
            f"{name}_margin_after": now + change,
        }
    equities = {"equity_before": equity, "equity_change": -fee, "equity_after": equity - fee}
    figures = (
        margins
        | equities
        | {
            "commission": repr(fee),
            "commission_currency": order.listed.instrument.currency,
        }
    )
    return preview, preview | figures


def order_status(order: Order) -> Values:
    price = order.listed.price
    return {
        "order_id": order.order_id,
        "status": order.status,
        "filled": order.filled,
        "remaining": order.remaining,
        "average_price": price(order.average_price) if order.filled else "0",
        "perm_id": order.perm_id,
        "parent_id": order.parent_id,
        "last_price": price(order.last_price) if order.filled else "0",
        "client_id": order.client_id,
        "why_held": order.why_held,
    }


def completed_order(order: Order) -> Values:
    done = order.status == "Filled"
    return _common(order) | {
        "quantity": 0 if done else order.total,
        "filled_quantity": order.filled,
        "shareholder": "Not an insider or substantial shareholder",
        "parent_perm_id": order.parent.perm_id if order.parent is not None else NO_PARENT,
        "completed_time": local_time(order.completed_at),
        "completed_status": order.completed_text,
    }


def execution(fill: ExecutionReport, req_id: int) -> Values:
    order, price = fill.order, fill.order.listed.price
    return order.listed.fields() | {
        "req_id": req_id,
        "order_id": order.order_id,
        "execution_id": fill.execution_id,
        "time": local_time(fill.time),
        "account": order.account,
        "execution_exchange": order.listed.instrument.exchange,
        "side": "BOT" if fill.quantity > 0 else "SLD",
        "shares": abs(fill.quantity),
        "price": price(fill.price),
        "perm_id": order.perm_id,
        "client_id": order.client_id,
        "cumulative": fill.cumulative,
        "average_price": price(fill.average_price),
        "order_ref": order.ref,
        "last_liquidity": fill.liquidity,
    }


def commission(fill: ExecutionReport) -> Values:
    return {
        "execution_id": fill.execution_id,
        "commission": round(fill.commission, 10),
        "currency": fill.order.listed.instrument.currency,
        "realized": None if fill.realized is None else round(fill.realized, 10),
        "yield": None,
    }


def position(holding: AccountHolding, account: str) -> Values:
    fields = holding.listed.fields() | {"exchange": ""}
    return fields | {
        "account": account,
        "position": holding.quantity,
        "average_cost": round(holding.average_cost, 10),
    }


def portfolio(holding: AccountHolding, account: str) -> Values:
    return holding.listed.fields() | {
        "primary_exchange": holding.listed.instrument.exchange,
        "position": holding.quantity,
        "market_price": f"{holding.mark:.8f}",
        "market_value": f"{holding.value:.2f}",
        "average_cost": f"{holding.average_cost:.5f}",
        "unrealized": f"{holding.unrealized:.2f}",
        "realized": f"{holding.realized:.2f}",
        "account": account,
    }
