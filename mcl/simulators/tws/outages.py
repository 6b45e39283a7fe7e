"""Outages of the server as a whole: it restarts, loses its broker or a data farm, others trade in
the account.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcl.base.errors import BrokerError
from mcl.simulators.tws.message_in_flight import LIVE_DATA
from mcl.simulators.tws.orders import ExecutionReport
from mcl.simulators.tws.request_messages import blank_order

if TYPE_CHECKING:
    from mcl.simulators.tws.server import SimulatedTWS

_FARMS = {  # code that breaks -> (code that heals, kind, farm, messages that stop)
    2103: (2104, "Market data farm", "usfuture", LIVE_DATA - {"historicalDataUpdate"}),
    2105: (
        2106,
        "HMDS data farm",
        "ushmds",
        frozenset({"historicalData", "historicalDataUpdate", "headTimestamp"}),
    ),
    2157: (
        2158,
        "Sec-def data farm",
        "secdefil",
        frozenset({"contractDetails", "contractDetailsEnd"}),
    ),
}
_NOTICES = {
    2107: "HMDS data farm connection is inactive but should be available upon demand.ushmds",
    2108: "Market data farm connection is inactive but should be available upon demand.usfuture",
    2110: (
        "Connectivity between Trader Workstation and server is broken. It will be restored"
        " automatically."
    ),
    2119: "Market data farm is connecting:usfuture",
}
LOST = "Connectivity between IB and Trader Workstation has been lost."
RESTORED = "Connectivity between IB and Trader Workstation has been restored - data"


@dataclass
class Greeting:
    """The answer to new connections. `accounts` None: the account there is. `delay_sec` below 0:
    never answered.
    """

    version: int | None = None
    accounts: str | None = None
    delay_sec: float = 0.0
    ids_in_use: int = 0  # so many connections are told that their client id is in use
    chunk: int = 0  # bytes per write
    limit: int = 0  # messages per second
    id_shift: int = 0  # of the next valid order id


class Outages:
    def __init__(self, tws: SimulatedTWS) -> None:
        self._tws = tws
        self._tasks: set[asyncio.Task[None]] = set()

    def refuse(self, sec: float, drop_all: bool) -> None:
        tws = self._tws
        tws.stop_listening()
        if drop_all:
            for session in list(tws.sessions):
                session.close()
        tws.faults.later(sec, self._listen_again)

    def _listen_again(self) -> None:
        task = asyncio.get_running_loop().create_task(self._tws.listen())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def restart(self, sec: float, ids: str, forget: bool) -> None:
        tws = self._tws
        if forget:
            tws.hidden_executions = len(tws.book.executions)
        tws.greeting.id_shift = {"keep": 0, "lower": -(10**9), "higher": 1000}[ids]
        self.refuse(sec, drop_all=True)

    def lose_broker(self, back: int, sec: float) -> None:
        self._tell(1100, LOST)
        self._tws.faults.offline = True
        self._tws.faults.later(sec, lambda: self.regain_broker(back))

    def regain_broker(self, back: int) -> None:
        tws = self._tws
        for session in list(tws.sessions):
            if back:
                session.error(-1, back, f"{RESTORED} {'lost' if back == 1101 else 'maintained'}.")
                session.lose_streams(all_data=back == 1101)
            else:
                session.close()
        tws.faults.online()

    def farm(self, code: int, name: str = "") -> None:
        """A notice about a data farm: that of NYMEX, which stops what it delivers, or (`name`) that
        of another market.
        """
        healed = {heals: (kind, farm) for heals, kind, farm, _ in _FARMS.values()}
        if code in _FARMS:
            _, kind, farm, stopped = _FARMS[code]
            if not name:
                self._tws.faults.stopped = stopped
            self._tell(code, f"{kind} connection is broken:{name or farm}")
        elif code in healed:
            if not name:
                self._tws.faults.stopped = frozenset()
            kind, farm = healed[code]
            self._tell(code, f"{kind} connection is OK:{name or farm}")
        elif code in _NOTICES:
            self._tell(code, _NOTICES[code])
        else:
            valid = ", ".join(map(str, sorted([*_FARMS, *healed, *_NOTICES])))
            raise BrokerError(f"code={code} is not about a farm; valid: {valid}")

    def _tell(self, code: int, text: str) -> None:
        for session in self._tws.sessions:
            session.error(-1, code, text)

    # --------------------------------------------------------------------------------------- orders

    def correct(self, index: int, price: float | None) -> None:
        """An execution gets another price, or (None) never was."""
        tws, book = self._tws, self._tws.book
        if not -len(book.executions) <= index < len(book.executions):
            raise BrokerError(f"there is no execution {index}: {len(book.executions)} so far")
        old = book.executions[index]
        if price is None:
            del book.executions[index]
            tws.account.bust(old.order.listed, old.quantity, old.price)
        else:
            tws.account.correct(old.order.listed, old.quantity, old.price, price)
            root, _, part = old.execution_id.rpartition(".")
            book.executions[index] = fixed = old._replace(
                execution_id=f"{root}.{int(part) + 1:02d}", price=price, average_price=price
            )
            self._resend(fixed)
        tws.executions_changed()
        tws.publisher.position_changed(old.order.listed)

    def _resend(self, execution: ExecutionReport) -> None:
        self._tws.publisher.executed(execution)
        self._tws.publisher.commission(execution)

    def foreign(
        self, action: str, quantity: int, client_id: int, kind: str, price: float | None
    ) -> None:
        """An order of somebody else. By hand in TWS it has client 0 and an order id that no program
        gives.
        """
        tws, book = self._tws, self._tws.book
        order_ids = [order_id for client, order_id in book.orders if client == client_id]
        order_id = book.next_valid_id(client_id) if client_id else min([0, *order_ids]) - 1
        prices = {"LMT": {"limit_price": price}, "STP": {"aux_price": price}}.get(kind, {})
        values = tws.played.fields() | prices
        values |= {
            "action": action,
            "quantity": float(quantity),
            "order_type": kind,
            "order_id": order_id,
            "tif": "GTC",
        }
        book.place(blank_order() | values | {"transmit": True, "outside_rth": True}, client_id)

    def transfer(self, quantity: int, price: float | None) -> None:
        tws = self._tws
        at = (
            price
            if price is not None
            else tws.book.exchange.price(tws.played)
            or float(tws.tape.open[tws.player.tracks[0].row - 1])
        )
        tws.account.holding(tws.played).trade(quantity, at, 0.0)
        tws.publisher.position_changed(tws.played)

    def halt(self, on: bool) -> None:
        tws = self._tws
        tws.book.exchange.halted = on
        for session in tws.sessions:
            for req_id in session.subscribed.quotes:
                session.send("tickGeneric", req_id=req_id, tick_type=49, value=float(on))
