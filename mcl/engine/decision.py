"""The only decision. The kernel calls it at the close of every bar, live calls the same compiled
function at the close of the last one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mcl.base.jit import inline
from mcl.risk.blocks import Block, TradingState
from mcl.risk.limits import OFF, LimitsRecord

NONE = int(Block.NONE)
MAX_POSITION = int(Block.MAX_POSITION)
MAX_ORDER = int(Block.MAX_ORDER)
MAX_TRADES = int(Block.MAX_TRADES)
MAX_ORDERS = int(Block.MAX_ORDERS)
NO_ENTRY = int(Block.NO_ENTRY)
STOPPED_OUT = int(Block.STOPPED_OUT)
COOL_DOWN = int(Block.COOL_DOWN)
MARGIN = int(Block.MARGIN)
REDUCE_ONLY = int(Block.REDUCE_ONLY)
SESSION_END = int(Block.SESSION_END)
LOSS_PER_TRADE = int(Block.LOSS_PER_TRADE)
MARGIN_CALL = int(Block.MARGIN_CALL)
DAILY_LOSS = int(Block.DAILY_LOSS)
MAX_DRAWDOWN = int(Block.MAX_DRAWDOWN)
HALTED = int(Block.HALTED)
REDUCING, STOPPED = int(TradingState.REDUCE_ONLY), int(TradingState.HALTED)
# from here on a block closes (a margin call: reduces) what is open; its fills have the reason
# "risk"
FORCED = SESSION_END


class Bracket(NamedTuple):
    """Distances from the price of a fill to what protects it, in ticks; NaN for none."""

    stop_ticks: float
    take_profit_ticks: float
    trail_ticks: float  # at every close the stop follows at this distance


NO_BRACKET = Bracket(stop_ticks=math.nan, take_profit_ticks=math.nan, trail_ticks=math.nan)


class Intent(NamedTuple):
    """The wish of the strategy at the close of a bar, from the bars alone."""

    wanted: float  # contracts, real; NaN means flat
    # contracts that the position may be away from `wanted` before it is traded; 0 for none
    buffer: float
    bracket: Bracket
    # the block that the clock, the contract or the market puts on this bar, a `risk.Block`
    gate: int


class Account(NamedTuple):
    """The state of the account at the close of the bar. The types are part of the compiled
    signature: int, float and bool exactly.
    """

    position: int  # contracts, long > 0
    equity_usd: float  # marked at the close of the bar
    session_start_usd: float  # equity at the last close of the session before
    peak_usd: float  # highest equity at any close so far, this one and the capital included
    trades: int  # fills of this session that opened or added risk
    locked: bool  # the daily loss was reached: flat until the next session
    halted: bool  # the drawdown was reached: flat for good
    # side (-1, 0, 1) that a stop or take-profit closed and the signal has not left since
    stopped: int
    to_close_sec: int  # seconds from the close of the bar to the end of the session
    # of this session: targets that differed from the position and from the target before
    orders: int
    losses: int  # round trips in a row that lost money
    since_loss: int  # decisions since the last of them
    trade_usd: float  # result of the open round trip, costs so far included; 0 when flat


class Target(NamedTuple):
    """The position to have, not the order to send, so repeating it changes nothing. The caller
    keeps the last three fields for the next decision.
    """

    position: int  # contracts, to be traded at the next open
    bracket: Bracket
    block: int  # the rule that changed the wanted position, a `risk.Block`; 0 for none
    locked: bool
    halted: bool
    stopped: int


NO_TARGET = Target(
    position=0, bracket=NO_BRACKET, block=NONE, locked=False, halted=False, stopped=0
)


@inline
def sign(value: float) -> int:
    return (value > 0) - (value < 0)


@inline
def whole_contracts(wanted: float) -> int:
    """Toward zero, but no contract is lost to 0.1 + 0.2: 2.9999999996 is 3. NaN (warming up) and
    infinities are flat.
    """
    if not abs(wanted) < 1e9:
        return 0
    return int(wanted + math.copysign(1e-9, wanted))


@inline
def within_buffer(wanted: float, buffer: float, open_position: int) -> int:
    """Carver's position buffer: trade only to the nearer edge of wanted -/+ buffer, to whole
    contracts. Flat is always exactly flat.
    """
    if not buffer > 0 or not abs(wanted) < 1e9 or wanted == 0:
        return whole_contracts(wanted)
    lower, upper = math.floor(wanted - buffer + 0.5), math.floor(wanted + buffer + 0.5)
    return min(max(open_position, lower), upper)


@inline
def without_new_risk(position: int, open_position: int) -> int:
    """The nearest position to the target that neither opens, adds nor changes sides."""
    if sign(position) != sign(open_position):
        return 0
    return sign(open_position) * min(abs(position), abs(open_position))


@inline
def within_order(position: int, open_position: int, max_order: int) -> int:
    """The target as far as one order may go. Getting flat is never cut short."""
    if abs(position - open_position) <= max_order:
        return position
    reached = open_position + max_order * sign(position - open_position)
    if sign(position) != sign(open_position) and sign(reached) == sign(open_position):
        return 0
    return reached


@inline
def within_margin(
    position: int, open_position: int, equity_usd: float, limits: LimitsRecord
) -> int:
    """The target as far as the initial margin carries it. What is already held is the maintenance
    margin's affair.
    """
    if not limits.initial_margin_usd > 0:
        return position
    carried = max(
        0, whole_contracts(equity_usd * limits.max_margin_frac / limits.initial_margin_usd)
    )
    if abs(position) <= carried:
        return position
    reduced = without_new_risk(position, open_position)
    return reduced if abs(reduced) > carried else sign(position) * carried


@inline
def new_risk_block(gate: int, account: Account, limits: LimitsRecord) -> int:
    """The first rule that forbids to open or to add, 0 for none."""
    if account.trades >= limits.max_trades_per_session:
        return MAX_TRADES
    if limits.max_orders_per_session != OFF and account.orders >= limits.max_orders_per_session:
        return MAX_ORDERS
    if (
        account.losses >= limits.max_consecutive_losses
        and account.since_loss < limits.cool_down_bars
    ):
        return COOL_DOWN
    if account.to_close_sec <= limits.no_entry_before_close_sec:
        return NO_ENTRY
    if limits.state == REDUCING:
        return REDUCE_ONLY
    return gate if gate < FORCED else NONE


@inline
def within_limits(intent: Intent, account: Account, limits: LimitsRecord) -> tuple[int, int]:
    """The wish in whole contracts, as far as the limits on size, orders and new risk allow; and the
    last of them that cut it.
    """
    open_position = account.position
    position, block = within_buffer(intent.wanted, intent.buffer, open_position), NONE
    if abs(position) > limits.max_position:
        position, block = sign(position) * limits.max_position, MAX_POSITION
    if position != open_position:
        allowed = within_margin(position, open_position, account.equity_usd, limits)
        if allowed != position:
            position, block = allowed, MARGIN
        allowed = within_order(position, open_position, limits.max_order)
        if allowed != position:
            position, block = allowed, MAX_ORDER
        allowed = without_new_risk(position, open_position)
        forbidden = new_risk_block(intent.gate, account, limits) if allowed != position else NONE
        if forbidden != NONE:
            position, block = allowed, forbidden
    return position, block


@inline
def decide(intent: Intent, account: Account, limits: LimitsRecord) -> Target:
    """The position to hold from the next open on.

    Comparisons are written so that a NaN in the account blocks: money paths fail closed. The rules
    run from mild to severe and the last one that changed something is reported as `block`.
    """
    open_position = account.position
    locked = (
        account.locked
        or not account.session_start_usd - account.equity_usd < limits.max_daily_loss_usd
    )
    halted = (
        account.halted
        or not account.peak_usd - account.equity_usd < limits.max_drawdown_frac * account.peak_usd
    )
    stopped = account.stopped
    if stopped != 0 and sign(intent.wanted) != stopped:
        stopped = 0
    losing = (
        limits.max_loss_per_trade_usd != math.inf
        and open_position != 0
        and not account.trade_usd > -limits.max_loss_per_trade_usd
    )
    if losing:
        stopped = sign(open_position) if sign(intent.wanted) == sign(open_position) else 0

    position, block = within_limits(intent, account, limits)
    margin = limits.maintenance_margin_usd
    if margin > 0 and position != 0 and not abs(position) * margin <= account.equity_usd:
        carried = max(0, whole_contracts(account.equity_usd / margin))
        if abs(position) > carried:
            position, block = sign(position) * carried, MARGIN_CALL
    if position != 0:
        flat = forced_block(
            intent.gate, losing, stopped, locked, halted, account.to_close_sec, limits
        )
        if flat != NONE:
            position, block = 0, flat
    return Target(
        position=position,
        bracket=intent.bracket,
        block=block,
        locked=locked,
        halted=halted,
        stopped=stopped,
    )


@inline
def same(target: Target, other: Target) -> bool:
    """Do two decisions say and remember the same? Their brackets are not compared."""
    same_flags = (
        target.locked == other.locked
        and target.halted == other.halted
        and target.stopped == other.stopped
    )
    return same_flags and target.position == other.position and target.block == other.block


@inline
def forced_block(
    gate: int,
    losing: bool,
    stopped: int,
    locked: bool,
    halted: bool,
    to_close_sec: int,
    limits: LimitsRecord,
) -> int:
    """The most severe rule that allows no position at all, 0 for none."""
    block = STOPPED_OUT if stopped != 0 else NONE
    if to_close_sec < limits.flatten_when_sec:
        block = SESSION_END
    if gate >= FORCED:
        block = gate
    if losing:
        block = LOSS_PER_TRADE
    if locked:
        block = DAILY_LOSS
    if halted:
        block = MAX_DRAWDOWN
    return HALTED if limits.state == STOPPED else block
