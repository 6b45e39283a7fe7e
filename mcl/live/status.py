"""Define what a running session reports and which commands it takes: the interface between the
session and everything that watches it.

The session (its supervisor) implements `SessionHandle`. The control socket, the health and metrics
endpoint, the dashboard and the operator verbs know nothing else of it. A status is immutable and
JSON-ready; times are int64 nanoseconds since the epoch, UTC.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from mcl.base.alert import Alert


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


LEVELS = {"entry": "entry_ticks", "stop": "stop_at", "take_profit": "take_profit_at"}


def levels_of(holding: Mapping[str, Any], tick_size: float) -> dict[str, float]:
    """The entry and the protective levels of a holding (the fields of `engine.account.Holding`) in
    price units; none of a flat one.
    """
    if not holding.get("position"):
        return {}
    ticks = {name: holding.get(key) for name, key in LEVELS.items()}
    return {
        name: round(float(value) * tick_size, 10)
        for name, value in ticks.items()
        if value is not None and math.isfinite(float(value))
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
