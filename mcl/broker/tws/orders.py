"""An order as the simulated broker keeps it, and the events of its life."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mcl.broker.tws.contracts import Listed
from mcl.broker.tws.messages import Values

KINDS = ("MKT", "LMT", "STP", "MIT")  # what this server executes
TIFS = ("DAY", "GTC")
WORKING = frozenset({"Held", "PreSubmitted", "Submitted"})  # Held: parked until a sibling transmits, unknown to the client

Status = Literal["Held", "PreSubmitted", "Submitted", "Filled", "Cancelled", "Inactive"]


@dataclass(eq=False)
class Order:
    """`total` is the ordered quantity (positive); `side` is +1 to buy. Prices are NaN-free: 0.0 where a kind has none."""

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
    status: Status = "Held"
    filled: int = 0
    average_price: float = 0.0
    last_price: float = 0.0
    revision: int = 0
    commission: float | None = None  # of all fills, once complete
    completed_at: int = 0
    completed_text: str = ""
    children: list[Order] = field(default_factory=list)
    parent: Order | None = None

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
    def why_held(self) -> str:
        """`child` until the parent has filled, `trigger` while a stop or market-if-touched waits for its price."""
        if not self.working:
            return ""
        reasons = ["child"] * self.waits_for_parent + ["trigger"] * (self.kind in {"STP", "MIT"})
        return ",".join(reasons)


class Execution(NamedTuple):
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
    kind = request["order_type"]
    return Order(
        client_id=client_id,
        order_id=request["order_id"],
        perm_id=perm_id,
        listed=listed,
        side=1 if request["action"] == "BUY" else -1,
        total=int(request["quantity"] or 0),
        kind=kind,
        limit=(request["limit_price"] or 0.0) if kind == "LMT" else 0.0,
        trigger=(request["aux_price"] or 0.0) if kind in {"STP", "MIT"} else 0.0,
        tif=request["tif"] or "DAY",
        account=request["account"],
        ref=request["order_ref"],
        transmit=request["transmit"],
        outside_rth=request["outside_rth"],
        parent_id=request["parent_id"] or 0,
        oca_group=request["oca_group"],
        oca_type=request["oca_type"] or 3,
    )
