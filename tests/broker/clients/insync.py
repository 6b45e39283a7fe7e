"""`ib_insync`, in a process of its own: it trades, and prints what it saw as JSON."""

from __future__ import annotations

import json
import sys

import ib_insync as client

COMMON = {"tif": "GTC", "account": "DU0000001", "outsideRth": True}


def main(port: int) -> None:
    ib = client.IB()
    errors: list[int] = []
    ib.errorEvent += lambda _id, code, *_: errors.append(code)
    ib.connect("127.0.0.1", port, clientId=7, timeout=60)
    [details] = ib.reqContractDetails(client.ContFuture("MCL", "NYMEX"))
    contract = details.contract
    contract.secType = "FUT"
    bars = ib.reqHistoricalData(contract, "", "1800 S", "1 min", "BID", False, 2)
    ticker = ib.reqMktData(contract)
    while not ticker.hasBidAsk():
        ib.waitOnUpdate(10)
    market = ib.placeOrder(contract, client.MarketOrder("BUY", 2, **COMMON))
    while not market.isDone():
        ib.waitOnUpdate(10)
    resting = ib.placeOrder(contract, client.LimitOrder("BUY", 1, 1.0, **COMMON))
    while resting.orderStatus.status != "Submitted":
        ib.waitOnUpdate(10)
    ib.cancelOrder(resting.order)
    while resting.orderStatus.status != "Cancelled":
        ib.waitOnUpdate(10)
    touched = client.Order(
        action="BUY", orderType="LIT", totalQuantity=1, auxPrice=2.0, lmtPrice=1.0, **COMMON
    )
    trade = ib.placeOrder(contract, touched)
    while trade.orderStatus.status != "PreSubmitted":
        ib.waitOnUpdate(10)
    seen = {
        "server_version": ib.client.serverVersion(),
        "symbol": contract.localSymbol,
        "min_tick": details.minTick,
        "bars": len(bars),
        "errors": errors,
        "fills": [[f.execution.side, f.execution.shares, f.execution.price] for f in market.fills],
        "position": sum(p.position for p in ib.positions()),
    }
    print(json.dumps(seen))
    ib.disconnect()


main(int(sys.argv[1]))
