"""A message between a client and the server, as a fault sees it, and the messages by kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcl.simulators.tws.messages import Values

if TYPE_CHECKING:
    from mcl.simulators.tws.server import SimulatedTWS
    from mcl.simulators.tws.session import ClientSession

ORDER_NEWS = frozenset(
    {"openOrder", "orderStatus", "execDetails", "commissionReport", "position", "updatePortfolio"}
)
LIVE_DATA = frozenset(
    {
        "tickPrice",
        "tickSize",
        "tickString",
        "tickGeneric",
        "tickByTick",
        "realTimeBar",
        "historicalDataUpdate",
        "updateMktDepth",
        "updateMktDepthL2",
    }
)
NEWS = ORDER_NEWS | LIVE_DATA


@dataclass
class MessageInFlight:
    """A message on its way out, or a request on its way in; a fault changes what becomes of it."""

    tws: SimulatedTWS
    session: ClientSession | None
    name: str
    values: Values
    handle: Callable[[], None] | None = None  # requests: what the server would do
    dropped: bool = False
    copies: int = 1
    delay_sec: float = 0.0
    due: float = 0.0  # in its place: when it is served, in the loop's time
    # of the encoded fields
    edits: list[Callable[[list[str]], list[str]]] = field(default_factory=list)
    raw: bytes = b""  # sent behind the message
    hold_for: str = ""  # sent only after the next message of this name
    cut: tuple[str, str] = ("", "")  # (before or after, how)
    after: list[Callable[[], None]] = field(default_factory=list)

    def emit(self) -> None:
        if self.session is not None:
            for _ in range(self.copies):
                self.session.emit(self.name, self.values, self.edits)
            if self.raw:
                self.session.write(self.raw)
