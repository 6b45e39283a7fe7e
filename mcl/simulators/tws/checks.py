"""Refuses orders as a broker does before they live: each rule has the error code of a TWS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mcl.simulators.tws import stamps
from mcl.simulators.tws.account import SimulatedAccount
from mcl.simulators.tws.contracts import Listed, Listings
from mcl.simulators.tws.listener import BrokerOptions
from mcl.simulators.tws.messages import Values
from mcl.simulators.tws.orders import KINDS, TIFS, Order

NO_CONTRACT = "No security definition has been found for the request"
AMBIGUOUS = (
    "The contract description specified is ambiguous; you must specify the contract more closely."
)
OFF_TICK = 110
_BAD_TIME = (
    "The date, time, or time-zone entered is invalid. The correct format is yyyymmdd hh:mm:ss"
    " xx/xxxx"
)


class Reject(Exception):
    """A request that the broker answers with an error code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


def contract(request: Values, listings: Listings) -> Listed:
    if request["sec_type"] not in {"FUT", ""}:
        raise Reject(
            321, "Error validating request.-'bQ' : cause - Please enter a valid security type"
        )
    if not request["exchange"]:
        raise Reject(321, "Error validating request.-'bN' : cause - Missing order exchange.")
    matching = listings.find(request)
    if len(matching) != 1:
        raise Reject(200, AMBIGUOUS if matching else NO_CONTRACT)
    return matching[0]


def order(request: Values, listed: Listed, account: str) -> None:
    """Raises Reject unless the order can be worked on this exchange for this account."""
    quantity = request["quantity"] or 0
    if quantity != int(quantity):
        raise Reject(10318, "This order doesn't support fractional quantity trading")
    if quantity <= 0:
        raise Reject(434, "The order size cannot be zero.")
    if request["order_type"] not in KINDS or request["action"] not in {"BUY", "SELL"}:
        raise Reject(387, "Unsupported order type for this exchange and security type.")
    if (request["tif"] or "DAY") not in TIFS:
        raise Reject(10052, f"Invalid time in force:{request['tif']}")
    if request["account"] not in {"", account}:
        raise Reject(321, "Error validating request.-'bP' : cause - Invalid account code")
    for price in _prices(request):
        if price is None:
            raise Reject(463, "You must enter a valid price.")
        if not listed.on_tick(price):
            raise Reject(
                OFF_TICK,
                "The price does not conform to the minimum price variation for this contract.",
            )


def limits(
    new: Order, active: Iterable[Order], account: SimulatedAccount, options: BrokerOptions
) -> None:
    """Raises Reject when the account may not add this order to those that work."""
    count = (
        sum(o.listed is new.listed and o.side == new.side for o in active)
        if options.orders_per_side
        else 0
    )
    if count >= options.orders_per_side > 0:
        raise Reject(
            201,
            f"Order rejected - reason:{count} working orders on one side of a contract are the"
            " limit.",
        )
    position = account.holding(new.listed).quantity
    after = abs(position + new.side * new.total)
    need = account.initial_margin + (after - abs(position)) * account.terms.initial(new.listed)
    if options.check_margin and after > abs(position) and need > account.equity:
        figures = (
            f"EQUITY WITH LOAN VALUE [{account.equity:.2f} USD] INITIAL MARGIN [{need:.2f} USD]"
        )
        raise Reject(201, f"Order rejected - reason:YOUR ORDER IS NOT ACCEPTED. {figures}")


def _prices(request: Values) -> list[float | None]:
    """The prices that an order of this kind needs; the trailing amount counts as one."""
    match request["order_type"]:
        case "MKT":
            return []
        case "LMT":
            return [request["limit_price"]]
        case "STP LMT" | "LIT":
            return [request["limit_price"], request["aux_price"]]
        case "TRAIL" | "TRAIL LIMIT":
            return [*_trailing_prices(request)]
        case _:
            return [request["aux_price"]]


def _trailing_prices(request: Values) -> Iterator[float | None]:
    """Distance and start of a trailing stop; a limit is said as an offset, or as a price with a
    start.
    """
    start = request["trail_stop_price"]
    if not request["trailing_percent"]:
        yield request["aux_price"] or None
    if start is not None:
        yield start
    if request["order_type"] == "TRAIL LIMIT" and request["limit_offset"] is None:
        yield None if start is None else request["limit_price"]
    elif request["order_type"] == "TRAIL LIMIT":
        yield request["limit_offset"]


def instant(text: str) -> int:
    """Read a time of an order, nanoseconds; Reject for what is none."""
    try:
        return stamps.instant(text)
    except ValueError:
        raise Reject(391, _BAD_TIME) from None
