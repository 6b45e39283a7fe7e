"""The only decision. The kernel calls it at the close of every bar, live calls the same compiled function at the close of the last one."""

from __future__ import annotations

import math
from typing import NamedTuple

from mcl.jit import inline
from mcl.risk import Block, LimitsRecord

NONE = int(Block.NONE)
MAX_POSITION = int(Block.MAX_POSITION)
MAX_ORDER = int(Block.MAX_ORDER)
MAX_TRADES = int(Block.MAX_TRADES)
NO_ENTRY = int(Block.NO_ENTRY)
STOPPED_OUT = int(Block.STOPPED_OUT)
SESSION_END = int(Block.SESSION_END)
DAILY_LOSS = int(Block.DAILY_LOSS)
MAX_DRAWDOWN = int(Block.MAX_DRAWDOWN)
FORCED = SESSION_END  # from here on a block closes what is open; its fills have the reason "risk"


class Account(NamedTuple):
    """What happened to us, known at the close of the bar. The types are part of the compiled signature: int, float and bool exactly."""

    position: int  # contracts, long > 0
    equity_usd: float  # marked at the close of the bar
    session_start_usd: float  # equity at the last close of the session before
    peak_usd: float  # highest equity at any close so far, this one and the capital included
    trades: int  # fills of this session that opened or added risk
    locked: bool  # the daily loss was reached: flat until the next session
    halted: bool  # the drawdown was reached: flat for good
    stopped: int  # side (-1, 0, 1) that a stop or take-profit closed and the signal has not left since
    to_close_sec: int  # seconds from the close of the bar to the end of the session


class Target(NamedTuple):
    """What to be, not what to do: it can be said twice. The last three are the caller's to keep for the next decision."""

    position: int  # contracts, to be traded at the next open
    stop_ticks: float  # distance from the fill price; NaN for none
    take_profit_ticks: float
    block: int  # the rule that changed the wanted position, a `risk.Block`; 0 for none
    locked: bool
    halted: bool
    stopped: int


@inline
def sign(value: float) -> int:
    return (value > 0) - (value < 0)


@inline
def whole_contracts(wanted: float) -> int:
    """Toward zero, but no contract is lost to 0.1 + 0.2: 2.9999999996 is 3. NaN (warming up) and infinities are flat."""
    if not abs(wanted) < 1e9:
        return 0
    return int(wanted + math.copysign(1e-9, wanted))


@inline
def without_new_risk(position: int, held: int) -> int:
    """The nearest position to the target that neither opens, adds nor changes sides."""
    if sign(position) != sign(held):
        return 0
    return sign(held) * min(abs(position), abs(held))


@inline
def within_order(position: int, held: int, max_order: int) -> int:
    """The target as far as one order may go. Getting flat is never cut short."""
    if abs(position - held) <= max_order:
        return position
    reached = held + max_order * sign(position - held)
    if sign(position) != sign(held) and sign(reached) == sign(held):
        return 0
    return reached


@inline
def decide(wanted: float, stop_ticks: float, take_profit_ticks: float, account: Account, limits: LimitsRecord) -> Target:
    """The position to hold from the next open on.

    wanted             contracts, real; NaN means flat
    stop_ticks         protective distances from the fill price, NaN for none
    account, limits    comparisons are written so that a NaN in the account blocks: money paths fail closed
    The rules run from mild to severe and the last one that changed something is reported as `block`.
    """
    held = account.position
    locked = account.locked or not account.session_start_usd - account.equity_usd < limits.max_daily_loss_usd
    halted = account.halted or not account.peak_usd - account.equity_usd < limits.max_drawdown_frac * account.peak_usd
    stopped = account.stopped
    if stopped != 0 and sign(wanted) != stopped:
        stopped = 0

    position, block = whole_contracts(wanted), NONE
    if abs(position) > limits.max_position:
        position, block = sign(position) * limits.max_position, MAX_POSITION
    if position != held:
        allowed = within_order(position, held, limits.max_order)
        if allowed != position:
            position, block = allowed, MAX_ORDER
        allowed = without_new_risk(position, held)
        if allowed != position and account.trades >= limits.max_trades_per_session:
            position, block = allowed, MAX_TRADES
        elif allowed != position and account.to_close_sec <= limits.no_entry_before_close_sec:
            position, block = allowed, NO_ENTRY
    ending = account.to_close_sec < limits.flatten_when_sec
    if position != 0 and (stopped != 0 or ending or locked or halted):
        position, block = 0, MAX_DRAWDOWN if halted else DAILY_LOSS if locked else SESSION_END if ending else STOPPED_OUT
    return Target(position, stop_ticks, take_profit_ticks, block, locked, halted, stopped)
