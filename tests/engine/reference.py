"""A second simulator, to be compared with the first: plain Python, one bar and one rule at a time,
slow.

It is written from mcl/engine/assumptions.md and shares no line with mcl.engine: what the page says
is what happens here. Money is in dollars (MCL: one tick of one contract is one dollar), prices are
ticks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from mcl.data.bars import Floats
from mcl.risk.blocks import Block

from .flows import CAPITAL, Flow

NEW_YORK = ZoneInfo("America/New_York")
CLOSES = {Block.WINDOW_END, Block.NEWS_AHEAD, Block.LAST_TRADE, Block.ROLL_AHEAD}


def sign(x: float) -> int:
    """Of NaN it is 0."""
    return int(x > 0) - int(x < 0)


def at(distances: Floats, i: int) -> float:
    return float(distances[i]) if len(distances) else 0.0


def whole(contracts: float) -> int:
    """The tolerant floor, towards zero; NaN is flat."""
    return 0 if math.isnan(contracts) else sign(contracts) * math.floor(abs(contracts) + 1e-9)


@dataclass
class Decision:
    row: int
    target: int
    forced: bool  # by a limit that closes
    close: float
    distances: tuple[float, float, float]  # stop, take-profit, trail


@dataclass
class Waiting:
    target: int
    level: float
    made: Decision
    left: float  # bars
    triggered: bool = False


@dataclass
class Slow:
    """Its lists are what `Result` has; `fills` has (bar, quantity, price, slippage, reason)."""

    flow: Flow
    position: list[int] = field(default_factory=list)
    target: list[int] = field(default_factory=list)
    block: list[int] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    fills: list[tuple[int, int, float, float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ticks = {name: values.tolist() for name, values in self.flow.bars.ticks.items()}
        self.finer = (
            self.flow.bars.finer()
            if self.flow.execution.bracket == "finer" and self.flow.bars.finer
            else None
        )
        self.held, self.average, self.cash = 0, 0.0, CAPITAL
        self.stop: float | None = None
        self.take_profit: float | None = None
        self.trail = 0.0
        self.decisions: list[Decision] = []
        self.void_before = 0  # decisions of earlier rows are void
        self.waiting: Waiting | None = None
        self.given_up: int | None = None  # the target whose entry order ran out
        self.opened_with = 0.0  # equity before the round trip
        self.stopped_side = 0
        self.losses, self.cool_until = 0, -1
        self.trades = self.orders = 0
        self.locked = self.halted = False
        self.peak = self.session_start = CAPITAL
        self.collared = False
        for row in range(len(self.flow.bars)):
            self.bar(row)

    # -------------------------------------------------------------------------------------- one bar

    def bar(self, i: int) -> None:
        bars, before = self.flow.bars, self.equity[-1] if self.equity else CAPITAL
        self.collared = False
        if i and bars.session[i] != bars.session[i - 1]:
            self.trades = self.orders = 0
            self.locked, self.session_start, self.waiting, self.given_up = False, before, None, None
        if bars.roll[i]:
            self.roll(i)
        entered_inside = self.orders_of(i)
        self.protect(i, entered_inside)
        close = self.ticks["close"][i]
        if self.held and self.trail:
            self.draw(close - sign(self.held) * self.trail)
        self.equity.append(self.cash + self.held * close)
        self.position.append(self.held)
        self.decide(i, close)

    def roll(self, i: int) -> None:
        self.waiting = self.given_up = None
        position, gap = self.held, self.gap(i)
        if not position:
            return
        self.pay(i, -position, self.ticks["open"][i] - gap, "roll")
        self.pay(i, position, self.ticks["open"][i], "roll")
        self.average += gap
        self.stop = None if self.stop is None else self.stop + gap
        self.take_profit = None if self.take_profit is None else self.take_profit + gap

    def prices(self, i: int) -> tuple[float, float, float, float]:
        """Open, high, low and close in ticks."""
        of = self.ticks
        return of["open"][i], of["high"][i], of["low"][i], of["close"][i]

    def gap(self, i: int) -> float:
        """New minus old contract where bar i is the first of a contract."""
        bars = self.flow.bars
        return self.ticks["open"][i] - int(bars.left_ticks[bars.contract[i]]) if bars.roll[i] else 0

    # ---------------------------------------------------------------------------------------- money

    def slippage(self, i: int, quantity: int) -> float:
        costs, bars = self.flow.costs, self.flow.bars
        ticks = costs.slippage_ticks
        if costs.slippage_by_hour_ticks:
            opened = datetime.fromtimestamp(
                bars.close_time[i] // 1_000_000_000 - 60, UTC
            ).astimezone(NEW_YORK)
            ticks = costs.slippage_by_hour_ticks[opened.hour]
        if costs.impact_ticks:
            ticks += (
                math.ceil(costs.impact_ticks * abs(quantity) / max(1, bars.volume[i]) * 64) / 64
            )
        return ticks

    def pay(
        self, i: int, quantity: int, price: float, reason: str, most: float = math.inf
    ) -> float:
        """A fill at `price` and no more than `most` slippage; the price with it."""
        slippage = min(self.slippage(i, quantity), most)
        paid = price + sign(quantity) * slippage
        self.cash -= quantity * paid + abs(quantity) * self.flow.costs.side_usd
        self.fills.append((i, quantity, paid, slippage, reason))
        return paid

    def reach(
        self,
        i: int,
        quantity: int,
        price: float,
        reason: str,
        made: Decision | None,
        most: float = math.inf,
    ) -> None:
        """A fill that is no roll: position, average, levels, round trip, counters."""
        before, after = self.held, self.held + quantity
        if not before:
            self.opened_with = self.cash
        flips = before and after and sign(before) != sign(after)
        slippage = min(self.slippage(i, quantity), most)
        fee = self.flow.costs.side_usd
        paid = price + sign(quantity) * slippage
        if flips:
            self.ended(self.cash + before * paid - abs(before) * fee)
            self.opened_with = self.cash + before * paid - abs(before) * fee
        self.pay(i, quantity, price, reason, most)
        self.held = after
        if not after:
            self.ended(self.cash)
            self.stop = self.take_profit = None
        elif not before or flips or abs(after) > abs(before):
            self.trades += 1
            old = 0 if flips else abs(before)
            self.average = (
                paid if not old else (self.average * old + paid * (abs(after) - old)) / abs(after)
            )
            assert made is not None
            self.levels(made, bool(old))

    def levels(self, made: Decision, adding: bool) -> None:
        stop, take_profit, trail = made.distances
        side, before = sign(self.held), self.stop
        self.stop = round(self.average - side * stop) if stop else None
        self.take_profit = round(self.average + side * take_profit) if take_profit else None
        self.trail = trail
        if trail:
            self.draw(round(self.average) - side * trail)
            if adding and before is not None:
                self.draw(before)

    def draw(self, stop: float) -> None:
        """A stop never goes back."""
        if self.stop is None or (stop - self.stop) * self.held > 0:
            self.stop = stop

    def ended(self, cash: float) -> None:
        lost = cash < self.opened_with
        self.losses, self.cool_until = (self.losses + 1, self.cool_until) if lost else (0, -1)
        most = self.flow.limits.max_consecutive_losses
        if most and self.losses >= most:
            self.cool_until = len(self.equity) + self.flow.limits.cool_down_bars

    # --------------------------------------------------------------------------------------- orders

    def arrived(self, i: int) -> Decision | None:
        """The decision that reaches the market at the open of bar i."""
        row = i - 1 - self.flow.execution.latency_bars
        return self.decisions[row] if row >= self.void_before and row >= 0 else None

    def orders_of(self, i: int) -> bool:
        """What was decided goes to the market or waits; whether something was entered after the
        open.
        """
        decision, ask = self.arrived(i), self.flow.execution
        if decision is None:
            return False
        open_, goal = self.ticks["open"][i], decision.target
        limits = self.flow.limits
        # without what opens or adds
        least = sign(goal) * min(abs(goal), max(0, sign(goal) * self.held))
        full = self.trades >= (limits.max_trades_per_session or math.inf)
        allowed = not (ask.latency_bars and (self.locked or self.halted or full))
        decided_at = decision.close + sum(self.gap(row) for row in range(decision.row + 1, i + 1))
        near = (
            limits.price_collar_ticks is None
            or abs(open_ - decided_at) <= limits.price_collar_ticks
        )
        adds = goal != least
        if adds and not near:
            self.collared = True
        at_market = goal if ask.entry == "market" and allowed and near else least
        quantity = at_market - self.held
        if quantity:
            quantity = sign(quantity) * min(abs(quantity), self.share(i))
        if quantity:
            self.reach(i, quantity, open_, "risk" if decision.forced else "signal", decision)
        if ask.entry == "market" or not adds or not near or not allowed or self.held != least:
            self.waiting = self.given_up = None
            return False
        return self.wait(i, decision, goal, decided_at)

    def share(self, i: int) -> int:
        frac = self.flow.execution.participation_frac
        return 10**9 if frac is None else math.floor(frac * self.flow.bars.volume[i] + 1e-9)

    def wait(self, i: int, made: Decision, goal: int, decided_at: float) -> bool:
        ask = self.flow.execution
        if self.waiting and self.waiting.target != goal:
            self.waiting = None
        if self.given_up is not None and self.given_up != goal:
            self.given_up = None
        if self.waiting is None:
            if self.given_up == goal:
                return False
            side = sign(goal)
            level = decided_at + side * (
                -ask.offset_ticks if ask.entry == "limit" else ask.offset_ticks
            )
            self.waiting = Waiting(goal, level, made, ask.ttl_bars or math.inf)
        entered = self.try_to_fill(i)
        if self.waiting:
            self.waiting.left -= 1
            if self.waiting.left == 0:
                self.given_up = None if ask.renew else goal
                self.waiting = None
        return entered

    def try_to_fill(self, i: int) -> bool:
        """Whether something was entered after the open."""
        order, ask = self.waiting, self.flow.execution
        assert order is not None
        side, open_ = sign(order.target), self.ticks["open"][i]
        best, worst = (
            (self.ticks["low"][i], self.ticks["high"][i])
            if side > 0
            else (self.ticks["high"][i], self.ticks["low"][i])
        )
        if ask.entry == "stop" and order.triggered:
            return self.entered(i, open_, order, math.inf, False)
        if ask.entry in ("stop", "stop_limit") and not order.triggered:
            if (worst - order.level) * side < 0:
                return False
            order.triggered, inside = True, (open_ - order.level) * side < 0
            price = order.level if inside else open_
            if ask.entry == "stop":
                return self.entered(i, price, order, math.inf, inside)
            order.level += side * ask.limit_ticks
            if (order.level - price) * side >= 0:
                return self.entered(i, price, order, (order.level - price) * side, inside)
        beyond = (order.level - open_) * side
        if beyond > 0 or (beyond == 0 and ask.fill == "touch"):
            return self.entered(i, open_, order, beyond, False)
        if (order.level - best) * side >= (1 if ask.fill == "through" else 0):
            return self.entered(i, order.level, order, 0.0, True)
        return False

    def entered(self, i: int, price: float, order: Waiting, most: float, inside: bool) -> bool:
        quantity, side = order.target - self.held, sign(order.target)
        quantity = side * min(abs(quantity), self.share(i))
        if not quantity or (
            self.held and self.stop is not None and (price - self.stop) * side <= 0
        ):
            return False  # at such a price the stop of what is held was met before
        self.reach(i, quantity, price, "signal", order.made, most)
        if self.held == order.target:
            self.waiting = None
        return inside

    # ----------------------------------------------------------------------------------- protection

    def protect(self, i: int, entered_inside: bool) -> None:
        if not self.held:
            return
        bar = self.prices(i)
        met = self.met(*bar, entered_inside)
        if met is None:
            return
        up = bar[1] >= self.take_profit if self.held > 0 and self.take_profit is not None else False
        down = (
            bar[2] <= self.take_profit if self.held < 0 and self.take_profit is not None else False
        )
        if self.finer and met[0] == "stop" and (up or down) and not entered_inside:
            met = next(
                touch for row in self.inside(i) if (touch := self.met(*row, False)) is not None
            )
        self.out(i, met[1], met[0])

    def met(
        self, open_: float, high: float, low: float, close: float, entered_inside: bool
    ) -> tuple[str, float] | None:
        """The protective order that these prices fill, the stop first, and its price before
        slippage.
        """
        side = sign(self.held)
        best, worst = (high, low) if side > 0 else (low, high)
        if self.stop is not None and (worst - self.stop) * side <= 0:
            gapped = not entered_inside and (open_ - self.stop) * side < 0
            return "stop", open_ if gapped else self.stop
        if (
            self.take_profit is not None
            and ((close if entered_inside else best) - self.take_profit) * side >= 0
        ):
            gapped = not entered_inside and (open_ - self.take_profit) * side > 0
            return "take_profit", open_ if gapped else self.take_profit
        return None

    def inside(self, i: int) -> list[tuple[float, float, float, float]]:
        """The finer bars of bar i; nothing is known of the first bar."""
        assert self.finer is not None
        first, last = (self.flow.bars.close_time[row] for row in (i - 1, i))
        rows = [
            row
            for row, time in enumerate(self.finer.close_time.tolist())
            if i and first < time <= last
        ]
        columns = [self.finer.ticks[name] for name in ("open", "high", "low", "close")]
        return [
            (float(open_[row]), float(high[row]), float(low[row]), float(close[row]))
            for open_, high, low, close in [columns]
            for row in rows
        ]

    def out(self, i: int, price: float, reason: str) -> None:
        self.stopped_side = sign(self.held)
        self.reach(i, -self.held, price, reason, None)
        self.void_before = i
        self.waiting = self.given_up = None

    # ------------------------------------------------------------------------------------- decision

    def decide(self, i: int, close: float) -> None:
        plan, lim, position, equity = self.flow.plan, self.flow.limits, self.held, self.equity[-1]
        self.peak = max(self.peak, equity)
        if self.stopped_side and sign(plan.wanted[i]) != self.stopped_side:
            self.stopped_side = 0
        losing = bool(position) and self.opened_with - equity >= (
            lim.max_loss_per_trade_usd or math.inf
        )
        if losing:
            self.stopped_side = sign(position) if sign(plan.wanted[i]) == sign(position) else 0
        self.goal, self.why = self.wish(i), Block.PRICE_COLLAR if self.collared else Block.NONE
        gate = Block(int(plan.gate[i])) if len(plan.gate) else Block.NONE
        to_close = int(self.flow.bars.to_close_sec[i])
        self.at_most(lim.max_position, Block.MAX_POSITION)
        if lim.initial_margin_usd and self.goal != position:
            carried = max(0, whole(equity * lim.max_margin_frac / lim.initial_margin_usd))
            reduced = min(abs(position), abs(self.goal)) if sign(position) == sign(self.goal) else 0
            self.at_most(max(carried, reduced), Block.MARGIN)
        self.within_order(lim.max_order)
        self.no_new_risk(
            next(
                (block for block, holds in self.forbidding(gate, to_close, i).items() if holds),
                Block.NONE,
            )
        )
        if lim.maintenance_margin_usd:
            self.at_most(max(0, whole(equity / lim.maintenance_margin_usd)), Block.MARGIN_CALL)
        if lim.max_daily_loss_usd and self.session_start - equity >= lim.max_daily_loss_usd:
            self.locked = True
        if lim.max_drawdown_frac and self.peak - equity >= lim.max_drawdown_frac * self.peak:
            self.halted = True
        closing = [block for block, holds in self.closing(gate, to_close, losing).items() if holds]
        if closing:
            self.set(0, closing[-1])
        if self.goal not in (position, self.target[-1] if self.target else 0):
            self.orders += 1
        self.target.append(self.goal)
        self.block.append(int(self.why))
        forced = self.why >= Block.SESSION_END
        self.decisions.append(
            Decision(
                i,
                self.goal,
                forced,
                close,
                (at(plan.stop_ticks, i), at(plan.take_profit_ticks, i), at(plan.trail_ticks, i)),
            )
        )

    def wish(self, i: int) -> int:
        """A buffer is left alone up to its nearer edge, in whole contracts."""
        plan = self.flow.plan
        wanted, buffer = float(plan.wanted[i]), float(plan.buffer[i]) if len(plan.buffer) else 0.0
        if not buffer or math.isnan(wanted) or not wanted:
            return whole(wanted)
        lower, upper = (math.floor(edge + 0.5) for edge in (wanted - buffer, wanted + buffer))
        return min(max(self.held, lower), upper)

    def forbidding(self, gate: Block, to_close: int, i: int) -> dict[Block, bool]:
        """What forbids new risk, the first that counts first."""
        lim = self.flow.limits
        return {
            Block.MAX_TRADES: self.trades >= (lim.max_trades_per_session or math.inf),
            Block.MAX_ORDERS: self.orders >= (lim.max_orders_per_session or math.inf),
            Block.COOL_DOWN: i < self.cool_until,
            Block.NO_ENTRY: to_close <= (lim.no_entry_before_close_sec or -1),
            Block.REDUCE_ONLY: lim.state == "reduce_only",
            gate: gate not in CLOSES,
        }

    def closing(self, gate: Block, to_close: int, losing: bool) -> dict[Block, bool]:
        """What allows no position, the most severe last."""
        lim, one_open = self.flow.limits, 60 * (1 + self.flow.execution.latency_bars)
        return {
            Block.STOPPED_OUT: self.stopped_side != 0,
            Block.SESSION_END: (
                lim.flatten_before_close_sec > 0
                and to_close - one_open < lim.flatten_before_close_sec
            ),
            gate: gate in CLOSES,
            Block.LOSS_PER_TRADE: losing,
            Block.DAILY_LOSS: self.locked,
            Block.MAX_DRAWDOWN: self.halted,
            Block.HALTED: lim.state == "halted",
        }

    def set(self, goal: int, why: Block) -> None:
        if goal != self.goal:
            self.goal, self.why = goal, why

    def at_most(self, contracts: int, why: Block) -> None:
        if abs(self.goal) > contracts:
            self.set(sign(self.goal) * contracts, why)

    def within_order(self, most: int) -> None:
        """Getting flat is never cut short."""
        reached = self.held + max(-most, min(most, self.goal - self.held))
        leaves = sign(self.goal) != sign(self.held)
        self.set(0 if leaves and sign(reached) == sign(self.held) else reached, Block.MAX_ORDER)

    def no_new_risk(self, why: Block) -> None:
        if why:
            self.set(min(max(self.goal, min(self.held, 0)), max(self.held, 0)), why)
