"""One session of one promoted version: for each closed bar decide, write it down, send it, account for what came back.

The decision is the backtest's: the same plan over the last bars, the same compiled `decide`, the same ledger arithmetic. Nothing is
sent that is not in the journal; after anything that is not certain nothing is sent at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mcl.broker import Bar, Broker, Fill, Pinned
from mcl.engine.account import Ledger, Money
from mcl.engine.backtest import plan
from mcl.engine.decide import Account, Target, decide
from mcl.errors import LiveError, MclError
from mcl.live.journal import Draft, Journal
from mcl.live.stage import NS, Stage
from mcl.live.start import begin
from mcl.live.window import Window
from mcl.promote.deploy import Deployable
from mcl.risk import BAR_SEC, limits_record, memory_bars, memory_sessions
from mcl.strategy import Strategy


@dataclass
class Runner:
    """Holds what a session keeps from bar to bar. `tell` is called with the number of bars so far."""

    deployed: Deployable
    strategy: Strategy
    stage: Stage
    broker: Broker
    journal: Journal
    tolerance: float  # share of overlapping bars in which the broker's history may differ from the stored bars
    tell: Callable[[int], None] = lambda _: None

    def __post_init__(self) -> None:
        config, instrument = self.deployed.config, self.stage.warmup.instrument
        self.window = Window(self.stage)
        money = Money(config.capital_usd, instrument.tick_value_usd, config.costs.side_usd, config.costs.slippage_ticks)
        self.ledger = Ledger(money)
        self.limits = limits_record(config.risk.limits, config.data.interval)
        self.reach = max(self.strategy.memory, memory_bars(config.risk)) + 1
        self.target = Target(0, math.nan, math.nan, 0, False, False, 0)
        self.bars = self.seen = 0  # bars decided on; the broker's fills accounted for

    async def run(self) -> None:
        """Trade until the session's bars end. Whatever ends it early is in the journal before it is raised."""
        try:
            ready = await begin(self.broker, self.deployed, self.stage, self.tolerance)
            self.stage, self.window, self.seen = ready.stage, Window(ready.stage), len(self.broker.fills())
            self.journal.append(Draft("begin", ready.facts), Draft("state", {"state": "running", "why": "flat, no working orders"}))
            async for bar in self.broker.bars(ready.pinned, self.stage.warmup.interval, ready.after):
                await self._bar(ready.pinned, bar)
                self.tell(self.bars)
                if bar.close_time >= self.stage.close_ns:
                    break
            await self._account_for_fills(ready.pinned)
        except Exception as error:
            sentence = error.message if isinstance(error, MclError) else f"{type(error).__name__}: {error}"
            self.journal.append(Draft("state", {"state": "halted", "why": sentence, "ledger": self.ledger.state() | {"bars": self.bars}}))
            raise
        self.journal.append(Draft("state", {"state": "ended", "why": "the session's bars ended", "bars": self.bars}))

    # ---------------------------------------------------------------------------------------------------------- each bar

    async def _bar(self, pinned: Pinned, bar: Bar) -> None:
        await self._account_for_fills(pinned)
        self._fresh(bar)
        self.window.append(bar)
        self.ledger.mark(self.window.ticks(bar.close))
        account = self.ledger.account(self.window.to_close_sec())
        target = self._decided(account)
        order = self._order(bar, account, target)
        self.journal.append(*self._entries(bar, account, target), *([order] if order else []))
        self.ledger.adopt(account, target)
        self.target, self.bars = target, self.bars + 1
        if order and order.key:
            await self._trade(pinned, target, order.key)

    def _fresh(self, bar: Bar) -> None:
        """A bar of the real market is decided on at once or not at all; a replay has its own time."""
        late_sec = time.time() - bar.close_time / NS
        if self.stage.stored is None and late_sec > 2 * BAR_SEC[self.stage.warmup.interval]:
            raise LiveError(f"the bar of {np.datetime64(bar.close_time, 'ns').astype('datetime64[s]')} UTC came {late_sec:.0f} s late")

    def _decided(self, account: Account) -> Target:
        """The backtest's decision at the close of the last bar, from as many bars as it looks back on."""
        config, rows = self.deployed.config, self.window.rows
        first = 0 if memory_sessions(config.risk) else max(0, rows - self.reach)
        intent = plan(self.window.bars(first), self.strategy, config.risk, config.capital_usd)
        return decide(intent.row(-1), account, self.limits)

    def _order(self, bar: Bar, account: Account, target: Target) -> Draft | None:
        """The intent to trade, unless there is nothing to trade or the session has no next open."""
        if target.position == account.position or account.to_close_sec <= 0 or self.window.full:
            return None
        body = {"bar": self.bars, "from": account.position, "to": target.position, **_distances(target)}
        return Draft("order", body, reference(self.deployed, self.stage, bar))

    def _entries(self, bar: Bar, account: Account, target: Target) -> tuple[Draft, Draft]:
        decision = {"bar": self.bars, "position": account.position, "equity_usd": account.equity_usd}
        decision |= {"target": target.position, "block": target.block, **_distances(target)}
        return Draft("bar", bar._asdict(), str(bar.close_time)), Draft("decision", decision, str(bar.close_time))

    async def _trade(self, pinned: Pinned, target: Target, ref: str) -> None:
        """Send, then account for everything that came back; a position other than the target means that something is unknown."""
        await self.broker.trade_to(pinned, target, ref)
        await self._account_for_fills(pinned)

    async def _account_for_fills(self, pinned: Pinned) -> None:
        """Take the broker's new fills into journal and ledger; the broker's position must then be the ledger's."""
        fresh = self.broker.fills(self.seen)
        for fill in fresh:
            self._take(pinned, fill)
        self.seen += len(fresh)
        if fresh:
            held = (await self.broker.account(pinned)).position
            if held != self.ledger.holding.position:
                raise LiveError(
                    f"the broker holds {held} {pinned.local_symbol}, the journal's fills add up to {self.ledger.holding.position}"
                )

    def _take(self, pinned: Pinned, fill: Fill) -> None:
        if fill.reason == "foreign" or fill.symbol not in (pinned.local_symbol, pinned.contract.symbol):
            raise LiveError(f"a fill that this session did not cause: {fill.quantity} {fill.symbol} at {fill.price} ({fill.execution_id})")
        self.journal.append(Draft("fill", fill._asdict() | {"bar": self.bars}, fill.execution_id))
        ticks = round(fill.price / pinned.instrument.tick_size, 6)
        if fill.reason == "target":
            self.ledger.fill(fill.quantity, ticks, self.target)
        else:
            self.ledger.stop_out(fill.quantity, ticks)


def reference(deployed: Deployable, stage: Stage, bar: Bar) -> str:
    """The order reference of the one decision at the close of a bar: the same after a restart, unlike any other."""
    minute = np.datetime64(bar.close_time, "ns").astype("datetime64[m]").item()
    return f"{deployed.alias}-v{deployed.version}-{stage.date:%Y%m%d}-{minute:%d%H%M}"


def _distances(target: Target) -> dict[str, float]:
    return {"stop_ticks": target.stop_ticks, "take_profit_ticks": target.take_profit_ticks}
