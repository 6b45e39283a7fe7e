"""Define what a running session reports and which commands it takes: the interface between the
session and everything that watches it.

The session (its supervisor) implements `SessionHandle`. The control socket, the health and metrics
endpoint, the dashboard and the operator verbs know nothing else of it. A status is immutable and
JSON-ready; times are int64 nanoseconds since the epoch, UTC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

from mcl.base.alert import Alert

if TYPE_CHECKING:
    from mcl.engine.account import Holding


class State(StrEnum):
    """The state of a session. Orders that open risk are sent in TRADING only."""

    WAITING = "WAITING"  # `mcl live --stay` between two sessions: `why` names the next open
    STARTING = "STARTING"
    RECONCILING = "RECONCILING"
    TRADING = "TRADING"
    # connection or data doubtful: nothing new is sent, protection stays at the broker
    DEGRADED = "DEGRADED"
    HALTED = (
        "HALTED"  # something is unknown: nothing is sent until an operator says adopt or flatten
    )
    FLATTENING = "FLATTENING"
    STOPPED = "STOPPED"


class Mode(StrEnum):
    """The mode that a person has set; the narrower of mode and state holds."""

    NORMAL = "NORMAL"
    REDUCE_ONLY = "REDUCE_ONLY"
    PAUSED = "PAUSED"  # decisions are written down, nothing is sent


Command = Literal["pause", "resume", "reduce-only", "flatten", "stop", "kill", "adopt"]


@dataclass(frozen=True)
class Status:
    """One moment of a session. Money in USD, prices in price units; None where nothing is known
    yet.
    """

    at_ns: int
    alias: str
    version: int
    session: str  # trade date, ISO
    broker: str  # "embedded simulated TWS" or host:port
    account: str
    synthetic: str | None  # the watermark
    state: State
    mode: Mode
    why: str  # the reason of state and mode
    contract: str
    position: int
    target: int | None
    average_price: float | None
    last_price: float | None
    equity_usd: float | None
    session_pnl_usd: float | None
    realized_usd: float | None
    unrealized_usd: float | None
    bars: int
    last_bar_close_ns: int | None
    data_age_sec: float | None
    connected: bool
    working: tuple[dict[str, object], ...] = ()  # WorkingOrder._asdict()
    # the last few: time, close, position, wanted, target, block, reason
    decisions: tuple[dict[str, object], ...] = ()
    fills: tuple[dict[str, object], ...] = ()  # the last few: Fill._asdict()
    # (close time, equity in USD) of this session, at most some hundred points
    equity: tuple[tuple[int, float], ...] = ()
    # (close time, price) of the same bars
    prices: tuple[tuple[int, float], ...] = ()
    # entry, stop and take_profit of the position, in price units; only those that there are
    levels: dict[str, float] = field(default_factory=dict)
    # a session that has lost this much is flat until the next one; None without such a limit
    max_daily_loss_usd: float | None = None
    latency_ms: tuple[float, ...] = ()  # message of the close to order written, the last thousand
    # close of a bar to that message by the broker's clock, the last thousand
    close_delay_sec: tuple[float, ...] = ()
    alerts: tuple[Alert, ...] = ()
    # orders sent, fills, reconnects, messages …
    counters: dict[str, float] = field(default_factory=dict)


def levels_of(holding: Holding, tick_size: float) -> dict[str, float]:
    """The entry and the protective levels of a holding in price units; none of a flat one. Of
    several stops the nearest counts.
    """
    if not holding.position:
        return {}
    side = 1 if holding.position > 0 else -1
    stops = [leg.level for leg in holding.legs.stops if math.isfinite(leg.level)]
    ticks = {
        "entry": holding.entry_ticks,
        "stop": max(stops, key=lambda level: side * level, default=math.nan),
        "take_profit": holding.legs.take_profits[0].level,
    }
    return {
        name: round(value * tick_size, 10) for name, value in ticks.items() if math.isfinite(value)
    }


class SessionHandle(Protocol):
    """A session as others see it: the supervisor, or the process that serves one session after the
    other.
    """

    def status(self) -> Status: ...

    async def command(self, word: Command, who: str, why: str) -> str:
        """Do it; returns the sentence that says what happened. LiveError: refused, with the reason.
        Journaled before it acts.
        """
