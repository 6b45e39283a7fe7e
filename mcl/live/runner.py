"""From bars to orders, on one connection: for each closed bar decide, write it down, send it,
account for what came back.

The decision is the backtest's: the same plan over the last bars, the same compiled `decide`, the
same ledger arithmetic. Nothing is sent that is not in the journal; after anything that is not
certain nothing is sent at all, and the next connection begins by comparing the books. Every bar
gets its decision; one that comes too late to act on is written down as late and sends nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from mcl.base.errors import GuardError, LiveError, Uncertain
from mcl.base.instants import NS
from mcl.base.undefined import finite
from mcl.broker.feed import SILENT_NS
from mcl.broker.protocol import QUIET_NS, Bar, Broker, BrokerAccount, Fill, QualifiedContract
from mcl.config import schema
from mcl.engine.account import Holding, Money
from mcl.engine.backtest import plan
from mcl.engine.decision import NO_BRACKET, Account, Intent, Target, decide
from mcl.engine.legs import trails
from mcl.live.bar_window import Window
from mcl.live.journal import Journal
from mcl.live.journal_records import (
    PROTECT,
    TRAIL,
    ArmedReference,
    BarRecord,
    DecisionRecord,
    FillCorrection,
    FillRecord,
    OrderIntent,
    OrderRefusal,
    OrderTiming,
    ProtectiveIntent,
    ReferenceAnswer,
    RollEnd,
)
from mcl.live.roll_orders import execute_roll
from mcl.live.session_setup import Stage
from mcl.live.session_state import Chain, SessionBook
from mcl.live.session_tasks import Turn
from mcl.live.status import Mode, levels_of
from mcl.live.status_board import StatusBoard
from mcl.market.instruments import INSTRUMENTS
from mcl.market.intervals import BAR_SEC
from mcl.promotion.load import Deployable
from mcl.risk.blocks import Block, TradingState
from mcl.risk.limits import limits_record
from mcl.risk.sizing import memory_bars, memory_sessions
from mcl.strategy import Strategy, memory_at

FRESH_FRAC = 0.5  # of an interval: so long after its close a bar may still be acted on
FRESH_NS = SILENT_NS + NS  # of a shorter one, too


@dataclass(frozen=True)
class SessionConfig:
    """Names what is traded, by which rules, and where. `folder` keeps the journals of the alias and
    its kill switch.
    """

    deployed: Deployable
    strategy: Strategy
    broker: schema.BrokerConfig
    folder: Path
    # share of overlapping bars in which the broker's history may differ from the stored bars
    tolerance: float = 0.0

    @property
    def replay(self) -> bool:
        return self.broker.kind == "sim"

    @property
    def chain(self) -> Chain | None:
        """The sessions that this one continues; a replay does so only when configured to."""
        return (
            (self.broker.kind, self.broker.account)
            if not self.replay or self.broker.replay.carry
            else None
        )

    @property
    def limits(self) -> schema.Limits:
        """The promoted limits; the broker's configuration may make the position smaller, never
        larger.
        """
        promoted, cap = self.deployed.config.risk.limits, self.broker.max_contracts
        return (
            promoted
            if cap is None
            else promoted.model_copy(update={"max_position": min(cap, promoted.max_position)})
        )

    @property
    def terms(self) -> tuple[Money, float]:
        """The factors that turn ticks into USD, and the size of a tick in price units."""
        config = self.deployed.config
        of = INSTRUMENTS[config.data.instrument]
        return (
            Money(
                capital_usd=config.capital_usd,
                tick_value_usd=of.tick_value_usd,
                commission_usd=config.costs.side_usd,
                slippage_ticks=config.costs.slippage_ticks,
            ),
            of.tick_size,
        )


@dataclass
class Runner:
    """Holds what a session keeps from bar to bar; `turn` is held while something is decided or
    sent.
    """

    session: SessionConfig
    broker: Broker
    pinned: QualifiedContract
    stage: Stage
    journal: Journal
    status_board: StatusBoard
    book: SessionBook
    tell: Callable[[int], None] = lambda _: None  # called with the number of bars so far
    leaving: QualifiedContract | None = (
        None  # the contract before the roll, while anything of it is held
    )
    rolling: bool = False  # between the first and the last order of a roll
    turn: Turn = field(default_factory=Turn)

    def __post_init__(self) -> None:
        config, interval = self.session.deployed.config, self.stage.warmup.interval
        self.window = Window(self.stage)
        self.limits = limits_record(self.session.limits, interval)
        looks_back = memory_at(self.session.strategy, interval)
        self.reach = max(looks_back, memory_bars(config.risk)) + 1
        self.interval_ns = BAR_SEC[interval] * NS
        self.bars = self.fills_seen = 0  # bars decided on; the broker's fills accounted for
        self.waiting: Bar | None = None  # closed while nobody was there, and still fresh
        self._after_waiting: list[Fill] = []  # fills later than the waiting bar
        # of the last decision; signal and scale
        self.intent = Intent(wanted=0.0, buffer=0.0, bracket=NO_BRACKET, gate=0)
        self.factors = 0.0, 0.0
        for bar in self.book.bars:
            self.window.append(bar)
            self.bars += 1
        self.status_board.bars, self.status_board.position = (
            self.bars,
            self.book.ledger.holding.position,
        )

    @property
    def after(self) -> int:
        """Close time of the last bar that is known."""
        return int(self.window.bars(self.window.rows - 1).close_time[-1])

    def due_sec(self) -> float:
        """Until the next bar closes; endless in a replay, which waits for its decisions."""
        return (
            math.inf
            if self.session.replay
            else (self.after + self.interval_ns - self.broker.now()) / NS
        )

    # ---------------------------------------------------------------------------------- catching up

    def catch_up(self, bars: Sequence[Bar], fills: Sequence[Fill], clock: int) -> None:
        """Take in what happened while nobody was here, in its order. Nothing is sent; the last bar
        waits if it is still fresh.
        """
        left = list(fills)
        late, self.waiting = list(bars), None
        if late and self._fresh(late[-1], clock):
            self.waiting = late.pop()
        for bar in late:
            before = [fill for fill in left if fill.time < bar.close_time]
            left = left[len(before) :]
            self._take(before)
            self._decide(bar, act=False)
        until = self.waiting.close_time if self.waiting else math.inf
        self._take([fill for fill in left if fill.time < until])
        self._after_waiting = [fill for fill in left if not fill.time < until]
        if self.waiting is None:
            self._take(self._after_waiting)
        for fill in self._after_waiting:
            self.book.report(fill, self.book.target.bracket)

    def _fresh(self, bar: Bar, clock: int) -> bool:
        """A replay stands still until it is decided; in a real market half an interval is the
        longest that counts as at once, and what the clock needs to close a bar in silence.
        """
        if self.session.replay:
            return clock - bar.close_time < self.interval_ns
        return clock - bar.close_time < max(FRESH_FRAC * self.interval_ns, FRESH_NS)

    # ------------------------------------------------------------------------------------- each bar

    async def run(self) -> None:
        """Trade until the session's bars end. A bar that waits is sent again by the stream, which
        knows the price it is acted on at.
        """
        due = (
            partial(execute_roll, self)
            if self.book.pending_roll is not None and not self.over
            else None
        )
        bar, ends = self.waiting, self.over
        self.waiting = None
        if bar is not None and ends:
            await self._bar(bar)
        if not self.over and not self._market_gone():
            async for bar in self.broker.bars(
                self.pinned, self.stage.warmup.interval, self.after, due
            ):
                if bar.close_time > self.stage.close_ns:
                    break  # of the next session: the last bar of this one never came
                await self._bar(bar)
                if self.over:
                    break
        async with self.turn:
            await self.account_for_fills()
            self._agreed(await self.broker.account(self.pinned))

    @property
    def over(self) -> bool:
        """The session has no more bars, but for one that may wait."""
        last = self.waiting.close_time if self.waiting else self.after
        return self.window.full or last >= self.stage.close_ns

    def _market_gone(self) -> bool:
        """The session's market has closed, whether or not its last bar ever came; a replay ends
        with its bars.
        """
        return not self.session.replay and self.broker.now() >= self.stage.close_ns + QUIET_NS

    async def _bar(self, bar: Bar) -> None:
        async with self.turn:
            await self.account_for_fills()
            act = self.session.replay or self._fresh(bar, self.broker.now())
            target, ref = self._decide(bar, act)
            if ref:
                await self._trade(target, ref)
            await self._trail()
            self._show(bar)
            self.status_board.account = self._agreed(await self.broker.account(self.pinned))
            if not self.session.replay or self.session.broker.replay.speed:
                following = bar.close_time + self.interval_ns
                ref = reference(self.session.deployed, self.stage, following)
                self.journal.arm(ArmedReference(bar=self.bars).draft(ref))
        self.tell(self.bars)

    def _decide(self, bar: Bar, act: bool) -> tuple[Target, str]:
        """One bar: mark, decide, write down. Returns the target and the reference to send it under,
        empty for nothing to send.
        """
        ledger = self.book.ledger
        self._accept(bar)
        self.book.bars.append(bar)
        self.book.mark(self.window.ticks(bar.close))
        account = ledger.account(self.window.to_close_sec())
        target = self._decided(account)
        why = self._held_back(bar, account, target, act)
        ledger.adopt(account, target)
        drafts = [
            BarRecord(**bar._asdict()).draft(str(bar.close_time)),
            self._decision(bar, account, target, why).draft(str(bar.close_time)),
        ]
        ref = "" if why else reference(self.session.deployed, self.stage, bar.close_time)
        if ref:
            order = OrderIntent(
                bar=self.bars,
                before=account.position,
                after=target.position,
                clock=self.broker.now(),
                **target.bracket._asdict(),
            )
            drafts.append(order.draft(ref))
            self.book.refs.add(ref)
        self.journal.append(*drafts)
        self.book.target, self.bars = target, self.bars + 1
        return target, ref

    def _accept(self, bar: Bar) -> None:
        """A bar that cannot be decided on is asked for again: the broker's history may know
        better.
        """
        try:
            self.window.append(bar)
        except LiveError as error:
            raise Uncertain(error.message) from None

    def _decided(self, account: Account) -> Target:
        """The backtest's decision at the close of the last bar, from as many bars as it looks back
        on.
        """
        config, rows = self.session.deployed.config, self.window.rows
        first = 0 if memory_sessions(config.risk) else max(0, rows - self.reach)
        planned = plan(
            self.window.bars(first), self.session.strategy, config.risk, config.capital_usd
        )
        self.intent, self.factors = (
            planned.row(-1),
            (float(planned.signal[-1]), float(planned.scale[-1])),
        )
        limits = self.limits
        if self.status_board.mode is Mode.REDUCE_ONLY:
            limits = limits._replace(state=int(TradingState.REDUCE_ONLY))
        return decide(self.intent, account, limits)

    def _held_back(self, bar: Bar, account: Account, target: Target, act: bool) -> str:
        """The reason why nothing is sent for this decision; empty when an order is sent."""
        if target.position == account.position:
            return "the position is the target"
        if account.to_close_sec <= 0 or self.window.full:
            return "the session has no next open"
        if not act:
            return f"late: known {(self.broker.now() - bar.close_time) / NS:.0f} s after its close"
        return "paused" if self.status_board.mode is Mode.PAUSED else ""

    def _decision(self, bar: Bar, account: Account, target: Target, why: str) -> DecisionRecord:
        row = {
            "time": bar.close_time,
            "close": bar.close,
            "position": account.position,
            "wanted": finite(self.intent.wanted),
        }
        block = Block(target.block).name
        self.status_board.decisions.append(
            row | {"target": target.position, "block": block, "reason": why or "sent"}
        )
        signal, scale = self.factors
        return DecisionRecord(
            bar=self.bars,
            position=account.position,
            equity_usd=account.equity_usd,
            wanted=self.intent.wanted,
            signal=signal,
            scale=scale,
            target=target.position,
            block=target.block,
            **target.bracket._asdict(),
            close_delay_sec=self.broker.timing.close_delay_sec,
            locked=target.locked,
            halted=target.halted,
            stopped=target.stopped,
            mode=self.status_board.mode,
            held_back=why,
            ledger=self.book.ledger.state(),
        )

    def _show(self, bar: Bar) -> None:
        status, ledger = self.status_board, self.book.ledger
        status.bars, status.position, status.target = (
            self.bars,
            ledger.holding.position,
            self.book.target.position,
        )
        if self.broker.timing.close_delay_sec == self.broker.timing.close_delay_sec:
            status.close_delays_sec.append(self.broker.timing.close_delay_sec)
        status.last_close_ns, status.last_bar_at_ns = bar.close_time, time.time_ns()
        status.point(bar.close_time, ledger.equity, bar.close)
        status.levels = levels_of(ledger.holding, self.book.tick_size)
        status.working = self.broker.working()

    # ----------------------------------------------------------------------------------------- send

    async def _trade(self, target: Target, ref: str) -> None:
        """Send, then account for everything that came back. A guard's refusal is an alert and
        the session continues.
        """
        self.broker.check()
        try:
            await self.broker.trade_to(self.pinned, target, ref)
        except GuardError as refusal:
            self.status_board.counters["refused"] += 1
            self.journal.append(OrderRefusal(bar=self.bars - 1, why=refusal.message).draft(ref))
            self.status_board.alert("warning", "GUARD", refusal.message)
            await self.account_for_fills()  # a reversal has closed what was held
            return
        self.answered(ref)
        self.status_board.counters["orders"] += 1
        self._timed(ref)
        await self.account_for_fills()

    async def _trail(self) -> None:
        """Move the working stop to where the close has drawn a trailing one, whether or not
        anything was traded. A replay that is over takes no orders: the next session moves it.
        """
        if self.over and self.session.replay:
            return
        for contract, holding in self.holdings():
            if trails(holding.legs):
                await self.broker.account(contract)  # every execution so far is in the book
                await self.secure(contract, holding, TRAIL)

    def _timed(self, ref: str) -> None:
        if self.broker.timing.reaction_ms == self.broker.timing.reaction_ms:
            self.status_board.latencies_ms.append(self.broker.timing.reaction_ms)
            latency_ms = self.broker.timing.reaction_ms
            self.journal.append(OrderTiming(bar=self.bars - 1, latency_ms=latency_ms).draft(ref))

    async def secure(
        self, contract: QualifiedContract, holding: Holding, word: str = PROTECT
    ) -> None:
        """Make sure that the holding has its protection, and that nothing else of ours works."""
        if not self.broker.protected(contract):
            ref = self.repair(word, position=holding.position)
            await self.broker.protect(contract, ref)
            self.answered(ref)

    def answered(self, ref: str) -> None:
        """Nothing that was sent under this reference is on its way any more."""
        self.journal.append(ReferenceAnswer(bar=self.bars).draft(ref))

    async def flatten(self, word: str) -> str:
        """End with nothing held and no own order; returns the sentence that says so. BrokerError:
        that is not certain yet.
        """
        async with self.turn:
            await self.account_for_fills()
            self._give_up(word)
            sentences = [
                await self._close_out(pinned, word)
                for pinned in (self.leaving, self.pinned)
                if pinned is not None
            ]
            if any(self.book.open_positions.values()):
                raise Uncertain(f"{self.holdings_text()} left after {word}")
        return (
            "; ".join(filter(None, sentences))
            or f"flat already: nothing held in {self.pinned.local_symbol}"
        )

    async def _close_out(self, pinned: QualifiedContract, word: str) -> str:
        position = self.book.positions[pinned.local_symbol]
        ref = self.repair(word, before=position, after=0, symbol=pinned.local_symbol)
        cancelled = await self.broker.close_out(pinned, ref)
        await self.account_for_fills()
        self.answered(ref)
        closed = f"closed {position:+d} {pinned.local_symbol} ({ref})" if position else ""
        ended = (
            f"cancelled {cancelled} orders of {pinned.local_symbol}"
            if cancelled and not position
            else ""
        )
        return closed or ended

    def holdings_text(self) -> str:
        return (
            ", ".join(
                f"{quantity:+d} {symbol}" for symbol, quantity in self.book.open_positions.items()
            )
            or "nothing"
        )

    def holdings(self) -> list[tuple[QualifiedContract, Holding]]:
        """The holding of each contract, with levels in its prices, including fills that wait for
        the bar before them to be decided.
        """
        rolls = self.book.pending_roll is not None and self.leaving is not None
        contracts = [self.leaving, self.pinned] if rolls else [self.pinned]
        return [(each, self.book.holding(each.local_symbol)) for each in contracts if each]

    def _give_up(self, word: str) -> None:
        """A roll of which something has filled is not finished: a person wants to be flat."""
        if self.book.pending_roll is not None and self.book.pending_roll.has_filled:
            self.journal.append(RollEnd(bar=self.bars, command=word).draft())
            self.book.give_up_roll()

    def reference(self, what: str) -> str:
        """Of an order of this session that no decision asked for."""
        return f"{prefix(self.session.deployed, self.stage)}-{what}"

    def repair(
        self,
        word: str,
        position: int | None = None,
        before: int | None = None,
        after: int | None = None,
        symbol: str | None = None,
    ) -> str:
        """Write down an order that no decision asked for; returns its reference."""
        self.book.repairs += 1
        ref = self.reference(f"{word}{self.book.repairs}")
        intent = ProtectiveIntent(
            bar=self.bars, why=word, position=position, before=before, after=after, symbol=symbol
        )
        self.journal.append(intent.draft(ref))
        self.book.refs.add(ref)
        return ref

    # ---------------------------------------------------------------------------------------- fills

    async def account_for_fills(self) -> None:
        """Take the broker's new fills into journal and ledger; the broker's position must then be
        the ledger's.
        """
        late, self._after_waiting = self._after_waiting, []
        fresh = self.broker.fills(self.fills_seen)
        self.fills_seen += len(fresh)
        self._take([*late, *fresh])
        if fresh:
            self._agreed(await self.broker.account(self.pinned))

    def _agreed(self, account: BrokerAccount) -> BrokerAccount:
        """With every fill taken the broker holds what the journal adds up to; while one is on its
        way nothing can be said.
        """
        position = self.book.positions[self.pinned.local_symbol]
        if account.position != position and not self.broker.fills(self.fills_seen):
            raise Uncertain(
                f"the broker holds {account.position} {self.pinned.local_symbol}, the journal adds"
                f" up to {position}"
            )
        return account

    def _take(self, fills: Sequence[Fill]) -> None:
        for fill in fills:
            if self.book.knows(fill):
                self._correct(fill)
                continue
            if not self.book.explains(fill) or fill.symbol not in self._symbols:
                sentence = (
                    f"a fill that this session did not cause: {fill.quantity} {fill.symbol} at"
                    f" {fill.price} ({fill.execution_id})"
                )
                raise Uncertain(sentence)
            booked = FillRecord(**fill._asdict(), bar=self.bars)
            self.journal.append(booked.draft(fill.execution_id))
            self.book.take(fill)
            self.status_board.fills.append(fill)
            self.status_board.counters["fills"] += 1
        self.status_board.position = self.book.ledger.holding.position

    def _correct(self, fill: Fill) -> None:
        """The exchange has changed the price of an execution that is in the journal."""
        was = self.book.correction(fill)
        if was is None:
            return
        corrected = FillCorrection(**fill._asdict(), bar=self.bars, was=was)
        self.journal.append(corrected.draft(fill.execution_id))
        self.book.correct(fill, was)
        self.status_board.alert(
            "warning",
            "CORRECTED",
            f"{fill.quantity:+d} {fill.symbol} traded at {fill.price:g}, not at {was:g}"
            f" ({fill.ref})",
        )

    @property
    def _symbols(self) -> set[str]:
        return {
            name
            for qualified in (self.pinned, self.leaving)
            if qualified is not None
            for name in (qualified.local_symbol, qualified.contract.symbol)
        }


def prefix(deployed: Deployable, stage: Stage) -> str:
    return f"{deployed.alias}-v{deployed.version}-{stage.date:%Y%m%d}"


def reference(deployed: Deployable, stage: Stage, close_time: int) -> str:
    """The order reference of the one decision at the close of a bar: the same after a restart,
    unlike any other.
    """
    minute = np.datetime64(close_time, "ns").astype("datetime64[m]").item()
    return f"{prefix(deployed, stage)}-{minute:%d%H%M}"
