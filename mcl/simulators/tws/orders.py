"""An order as the simulated broker keeps it, and the events of its life."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mcl.simulators.tws.contracts import Listed
from mcl.simulators.tws.messages import Values

# what this server executes
KINDS = ("MKT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL LIMIT", "MIT", "LIT")
TRIGGERED = frozenset(KINDS) - {"MKT", "LMT"}  # wait for a price before they trade
TRAILING = frozenset({"TRAIL", "TRAIL LIMIT"})  # their trigger follows the market
# set off by a better price, where stops are set off by a worse one
TOUCHED = frozenset({"MIT", "LIT"})
LIMITED = frozenset({"STP LMT", "TRAIL LIMIT", "LIT"})  # limit orders once they are set off
TIFS = ("DAY", "GTC", "IOC", "GTD")  # NYMEX has no fill-or-kill
# Held: parked until a sibling transmits, unknown to the client
WORKING = frozenset({"Held", "PreSubmitted", "Submitted"})
OCA_CANCELS, OCA_REDUCES_BLOCKED, OCA_REDUCES = 1, 2, 3

Status = Literal["Held", "PreSubmitted", "Submitted", "Filled", "Cancelled", "Inactive"]


class Refusal(NamedTuple):
    """A refusal of an order that the broker has accepted. `first_status`: the status that it gives
    the order before, or none.
    """

    code: int
    text: str
    first_status: Status | None = None


@dataclass(eq=False)
class Order:
    """`total` is the ordered quantity (positive); `side` is +1 to buy. Prices are NaN-free: 0.0
    where a kind has none.

    Of a trailing stop `trigger` is the stop's level now; it keeps `trail` (price units) or
    `trail_percent` away from the market. The limit of a `TRAIL LIMIT` keeps `limit_offset` beyond
    its trigger.
    """

    client_id: int
    order_id: int
    perm_id: int
    listed: Listed
    side: int
    total: int
    kind: str
    limit: float
    trigger: float
    tif: str
    account: str
    ref: str
    transmit: bool
    outside_rth: bool
    parent_id: int = 0
    oca_group: str = ""
    oca_type: int = 3
    trail: float = 0.0
    trail_percent: float = 0.0
    limit_offset: float = 0.0
    good_till: str = ""  # as sent
    good_till_ns: int = 0  # GTD: when it ends
    status: Status = "Held"
    triggered: bool = False
    filled: int = 0
    average_price: float = 0.0
    last_price: float = 0.0
    revision: int = 0
    fees: float = 0.0  # of all fills until now
    commission: float | None = None  # of all fills, once complete
    completed_at: int = 0
    completed_text: str = ""
    children: list[Order] = field(default_factory=list)
    parent: Order | None = None
    refusal: Refusal | None = None  # comes when the order leaves, with its bracket

    @property
    def remaining(self) -> int:
        return self.total - self.filled

    @property
    def working(self) -> bool:
        return self.status in WORKING

    @property
    def live(self) -> bool:
        """At the market: may fill now."""
        return self.status in {"PreSubmitted", "Submitted"} and not self.waits_for_parent

    @property
    def waits_for_parent(self) -> bool:
        return self.parent is not None and self.parent.status != "Filled"

    @property
    def waits_for_trigger(self) -> bool:
        return self.kind in TRIGGERED and not self.triggered

    @property
    def takes_market(self) -> bool:
        """Trades at any price."""
        return self.kind == "MKT" or (self.triggered and self.kind not in LIMITED)

    @property
    def takes_limit(self) -> bool:
        """Trades at its limit or better."""
        return self.kind == "LMT" or (self.triggered and self.kind in LIMITED)

    def trail_to(self, price: float) -> None:
        """Move the trigger of a trailing stop, and its limit if it has one, to where they belong
        now.
        """
        self.trigger = price
        if self.kind == "TRAIL LIMIT":
            self.limit = round(price + self.side * self.limit_offset, 10)

    @property
    def why_held(self) -> str:
        """`child` until the parent has filled, `trigger` while a stop or market-if-touched waits
        for its price.
        """
        if not self.working:
            return ""
        return ",".join(["child"] * self.waits_for_parent + ["trigger"] * self.waits_for_trigger)


class ExecutionReport(NamedTuple):
    order: Order
    execution_id: str
    time: int  # ns, market clock
    quantity: int  # signed
    price: float
    cumulative: int
    average_price: float
    liquidity: int  # 1 added, 2 removed
    commission: float
    realized: float | None  # None on a fill that opens


def order_from(request: Values, client_id: int, perm_id: int, listed: Listed) -> Order:
    """The order that a placeOrder request describes."""
    kind, tif = request["order_type"], request["tif"] or "DAY"
    aux = request["aux_price"] or 0.0
    trails = kind in TRAILING
    trigger = (request["trail_stop_price"] if trails else aux if kind in TRIGGERED else 0.0) or 0.0
    order = Order(
        client_id=client_id,
        order_id=request["order_id"],
        perm_id=perm_id,
        listed=listed,
        side=1 if request["action"] == "BUY" else -1,
        total=int(request["quantity"] or 0),
        kind=kind,
        limit=(request["limit_price"] or 0.0) if kind == "LMT" or kind in LIMITED else 0.0,
        trigger=trigger,
        tif=tif,
        account=request["account"],
        ref=request["order_ref"],
        transmit=request["transmit"],
        outside_rth=request["outside_rth"],
        parent_id=request["parent_id"] or 0,
        oca_group=request["oca_group"],
        oca_type=request["oca_type"] or OCA_REDUCES,
        trail=aux if trails else 0.0,
        trail_percent=(request["trailing_percent"] or 0.0) if trails else 0.0,
        limit_offset=_limit_offset(request, trigger) if kind == "TRAIL LIMIT" else 0.0,
        good_till=request["good_till_date"] if tif == "GTD" else "",
    )
    if kind == "TRAIL LIMIT" and trigger:
        order.trail_to(trigger)
    return order


def _limit_offset(request: Values, trigger: float) -> float:
    """Return the distance from the trigger to the limit, given as an offset or by a limit price."""
    if request["limit_offset"] is not None:
        return float(request["limit_offset"])
    side = 1 if request["action"] == "BUY" else -1
    return float(side * ((request["limit_price"] or 0.0) - trigger))
