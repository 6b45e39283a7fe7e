"""Before the first decision: the contract, an account that is certainly flat, and a history without a gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mcl.broker import Bar, Broker, Pinned
from mcl.errors import LiveError
from mcl.live.stage import NS, Stage, with_history
from mcl.promote.deploy import Deployable
from mcl.risk import BAR_SEC

HISTORY = 500  # bars of the broker's own history that are held against the stored ones


@dataclass(frozen=True)
class Ready:
    """`stage.warmup` reaches up to the last bar that closed; `facts` go into the journal."""

    pinned: Pinned
    stage: Stage
    facts: dict[str, Any]

    @property
    def after(self) -> int:
        """Close time of the last known bar: the first decision is on a later one."""
        return int(self.stage.warmup.close_time[-1])


async def begin(broker: Broker, deployed: Deployable, stage: Stage, tolerance: float) -> Ready:
    """LiveError, and nothing sent, unless all of it is certain. `tolerance`: share of known closes that the broker may see otherwise."""
    pinned = await broker.qualify(stage.contract)
    account, working = await broker.account(pinned), await broker.open_orders()
    if account.position != 0:
        raise LiveError(
            f"account {account.account} already holds {account.position} {pinned.local_symbol}; a session starts flat",
            "close the position by hand, then start again",
        )
    if working:
        refs = ", ".join(order.ref or str(order.permanent_id) for order in working)
        raise LiveError(f"account {account.account} has {len(working)} working orders that no session sent: {refs}", "cancel them first")
    clock = await broker.heartbeat()
    stage, held, differing = await _agreed(broker, pinned, stage, tolerance, clock)
    facts = {
        "alias": deployed.alias,
        "version": deployed.version,
        "run_id": deployed.run_id,
        "content_sha256": deployed.content_sha256,
        "session": str(stage.date),
        "contract": pinned.local_symbol,
        "con_id": pinned.con_id,
        "account": account.account,
        "broker_equity_usd": account.equity_usd,
        "broker_clock_ns": clock,
        "history_held": held,
        "history_differing": differing,
        "warmup_rows": len(stage.warmup),
        "synthetic": stage.warmup.synthetic,
    }
    return Ready(pinned, stage, facts)


async def _agreed(broker: Broker, pinned: Pinned, stage: Stage, tolerance: float, clock: int) -> tuple[Stage, int, int]:
    """Hold the broker's closes against the stored ones of the same contract; on a real broker, take what has closed since."""
    warmup, interval = stage.warmup, stage.warmup.interval
    last = int(warmup.close_time[-1])
    missing = max(0, clock - last) // (BAR_SEC[interval] * NS)
    known = await broker.history(pinned, HISTORY + int(missing), interval)
    held, differing = _held_against(warmup.close_time[stage.own_rows], warmup.close[stage.own_rows], known)
    if len(differing) > tolerance * held:
        at = np.datetime64(differing[0], "ns").astype("datetime64[s]")
        raise LiveError(
            f"the broker's history differs from the stored bars in {len(differing)} of {held} closes, first at {at} UTC",
            "rebuild the data (mcl data build) or check the contract",
        )
    if stage.stored is None:
        if not held:
            raise LiveError(
                f"the broker's history of {pinned.local_symbol} does not reach back to the stored bars: nothing fills the gap",
                "mcl data download, then start again",
            )
        stage = with_history(stage, [bar for bar in known if last < bar.close_time <= clock])
    return stage, held, len(differing)


def _held_against(close_time: Any, close: Any, known: tuple[Bar, ...]) -> tuple[int, list[int]]:
    """How many bars both sides know, and the close times of those whose closes differ."""
    theirs = {bar.close_time: bar.close for bar in known}
    both = np.isin(close_time, np.fromiter(theirs, np.int64, len(theirs)))
    ours = zip(close_time[both].tolist(), close[both].tolist(), strict=True)
    return int(both.sum()), [at for at, price in ours if abs(theirs[at] - price) > 1e-9]
