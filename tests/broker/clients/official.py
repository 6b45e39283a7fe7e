"""The client of Interactive Brokers (`ibapi`), in a process of its own: it trades, and prints what
it saw as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from ibapi.client import EClient
from ibapi.contract import Contract
from ibapi.order import Order
from ibapi.wrapper import EWrapper

PATIENCE_SEC = 60


class Client(EWrapper, EClient):
    def __init__(self) -> None:
        EWrapper.__init__(self)
        EClient.__init__(self, wrapper=self)
        self.seen: dict[str, Any] = {"errors": [], "statuses": [], "bars": 0, "fills": []}
        self.happened: dict[str, threading.Event] = {}

    def wait(self, name: str) -> None:
        if not self.event(name).wait(PATIENCE_SEC):
            raise SystemExit(f"{name} did not come; {json.dumps(self.seen)}")

    def event(self, name: str) -> threading.Event:
        return self.happened.setdefault(name, threading.Event())

    def nextValidId(self, orderId: int) -> None:
        self.seen["order_id"] = orderId
        self.event("start").set()

    def error(self, *values: Any) -> None:
        codes = [value for value in values if isinstance(value, int) and 100 <= value < 20_000]
        self.seen["errors"] += codes[-1:]

    def contractDetails(self, reqId: int, contractDetails: Any) -> None:
        self.contract = contractDetails.contract
        self.seen["symbol"] = self.contract.localSymbol
        self.seen["min_tick"] = contractDetails.minTick

    def contractDetailsEnd(self, reqId: int) -> None:
        self.event("contract").set()

    def historicalData(self, reqId: int, bar: Any) -> None:
        self.seen["bars"] += 1

    def historicalDataEnd(self, reqId: int, start: str, end: str) -> None:
        self.event("history").set()

    def tickPrice(self, reqId: int, tickType: int, price: float, attrib: Any) -> None:
        self.seen[f"tick {tickType}"] = price
        self.event("quote").set()

    def orderStatus(
        self, orderId: int, status: str, filled: Any, remaining: Any, *rest: Any
    ) -> None:
        self.seen["statuses"].append([orderId, status, float(filled)])
        self.event(f"{orderId} {status}").set()

    def execDetails(self, reqId: int, contract: Any, execution: Any) -> None:
        self.seen["fills"].append([execution.side, float(execution.shares), execution.price])

    def execDetailsEnd(self, reqId: int) -> None:
        self.event("executions").set()

    def position(self, account: str, contract: Any, position: Any, avgCost: float) -> None:
        self.seen["position"] = float(position)

    def positionEnd(self) -> None:
        self.event("positions").set()


def order(kind: str, quantity: int, **prices: float) -> Order:
    made = Order()
    made.action, made.orderType, made.totalQuantity = "BUY", kind, quantity
    made.tif, made.account, made.outsideRth = "GTC", "DU0000001", True
    for name, price in prices.items():
        setattr(made, name, price)
    return made


def main(port: int) -> None:
    client = Client()
    client.connect("127.0.0.1", port, 7)
    threading.Thread(target=client.run, daemon=True).start()
    client.wait("start")
    client.seen["server_version"] = client.serverVersion()
    wanted = Contract()
    wanted.symbol, wanted.secType, wanted.exchange, wanted.currency = (
        "MCL",
        "CONTFUT",
        "NYMEX",
        "USD",
    )
    client.reqContractDetails(1, wanted)
    client.wait("contract")
    dated = client.contract
    dated.secType = "FUT"
    client.reqHistoricalData(2, dated, "", "1800 S", "1 min", "BID", 0, 2, False, [])
    client.wait("history")
    client.reqMktData(3, dated, "", False, False, [])
    client.wait("quote")
    first = client.seen["order_id"]
    client.placeOrder(first, dated, order("MKT", 2))
    client.wait(f"{first} Filled")
    client.placeOrder(first + 1, dated, order("LMT", 1, lmtPrice=1.0))
    client.wait(f"{first + 1} Submitted")
    cancel(client, first + 1)
    client.wait(f"{first + 1} Cancelled")
    client.placeOrder(first + 2, dated, order("LIT", 1, auxPrice=2.0, lmtPrice=1.0))
    client.wait(f"{first + 2} PreSubmitted")
    client.reqPositions()
    client.wait("positions")
    print(json.dumps(client.seen))
    client.disconnect()


def cancel(client: Client, order_id: int) -> None:
    try:
        from ibapi.order_cancel import OrderCancel
    except ImportError:
        client.cancelOrder(order_id, "")
    else:
        client.cancelOrder(order_id, OrderCancel())


main(int(sys.argv[1]))
