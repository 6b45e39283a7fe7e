"""Compare what a broker knows of dated contracts with the exchange's rule."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import date
from pathlib import Path

import numpy as np

from mcl.base.errors import BrokerError
from mcl.broker.protocol import Broker
from mcl.config import schema
from mcl.data.loader import load
from mcl.market.calendar import to_day
from mcl.market.instruments import INSTRUMENTS, Contract
from mcl.simulators.tws.server import SimulatedTWS
from mcl.simulators.tws.tape import Tape


def broker_says(
    run: schema.Config, contracts: Sequence[Contract], day: date, root: Path
) -> dict[str, str]:
    """By contract symbol: `agrees`, or the sentence in which last trade date, multiplier, tick or
    currency differ.

    Asks the broker of `run`. `sim` is the embedded TWS on the data's last session up to `day`: its
    answers come from the rule itself. BrokerError when no broker can be reached.
    """
    return asyncio.run(_query_broker(run, contracts, day, root))


async def _query_broker(
    run: schema.Config, contracts: Sequence[Contract], day: date, root: Path
) -> dict[str, str]:
    from mcl.broker.ib import IBBroker

    async with AsyncExitStack() as stack:
        port = run.broker.port
        if run.broker.kind == "sim":
            bars = load(run.data, root, holdout=True)
            tape = Tape.from_bars(
                bars,
                int(
                    bars.session[
                        max(0, int(np.searchsorted(bars.session, to_day(day), "right")) - 1)
                    ]
                ),
            )
            port = (
                await stack.enter_async_context(
                    SimulatedTWS.configured(tape, run.broker, run.costs)
                )
            ).port
        broker = IBBroker(run.broker, INSTRUMENTS[run.data.instrument], port=port)
        stack.push_async_callback(broker.close)
        await broker.connect()
        return {contract.symbol: await _verdict(broker, contract) for contract in contracts}


async def _verdict(broker: Broker, contract: Contract) -> str:
    try:
        await broker.qualify(contract)
    except BrokerError as error:
        return error.message
    return "agrees"
