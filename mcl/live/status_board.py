"""Hold what a session reports: its state, its last figures, its alerts. Everything is set here and
read through `Status`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcl.base.alert import Alert, Severity
from mcl.broker.protocol import BrokerAccount, Fill, WorkingOrder
from mcl.config import schema
from mcl.data.synthetic.watermark import watermark
from mcl.live.journal import Journal
from mcl.live.journal_records import AlertRecord, StateChange
from mcl.live.session_setup import Stage
from mcl.live.status import Mode, State, Status
from mcl.promotion.load import Deployable

LAST_ROWS = 20  # decisions, fills and alerts that are shown
POINTS = 300  # of the equity curve
log = logging.getLogger("mcl.live")
Watcher = Callable[[Alert], None]


@dataclass
class StatusBoard:
    """Mutable; `status()` is the immutable picture of it. Watchers that fail are logged and do not
    stop the session.
    """

    deployed: Deployable
    stage: Stage
    broker: schema.BrokerConfig
    journal: Journal
    watchers: Sequence[Watcher] = ()
    state: State = State.STARTING
    mode: Mode = Mode.NORMAL
    why: str = "starting"
    account: BrokerAccount | None = None
    connected: bool = False
    target: int | None = None
    position: int = 0  # what the journal's fills add up to
    last_price: float | None = None
    session_start_usd: float | None = None
    equity_usd: float | None = None
    bars: int = 0
    last_close_ns: int | None = None
    last_bar_at_ns: int | None = None  # local clock: when the last bar came
    working: tuple[WorkingOrder, ...] = ()
    decisions: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LAST_ROWS))
    fills: deque[Fill] = field(default_factory=lambda: deque(maxlen=LAST_ROWS))
    curve: list[tuple[int, float]] = field(default_factory=list)
    prices: list[tuple[int, float]] = field(default_factory=list)
    levels: dict[str, float] = field(default_factory=dict)
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    close_delays_sec: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    alerts: deque[Alert] = field(default_factory=lambda: deque(maxlen=LAST_ROWS))
    counters: Counter[str] = field(default_factory=Counter)

    def enter(self, state: State, why: str) -> None:
        """A new state; written down, with an alert when it needs a person."""
        if (state, why) == (self.state, self.why):
            return
        changed, self.state, self.why = state is not self.state, state, why
        if changed:
            self.journal.append(
                StateChange(state=state.lower(), why=why, bars=None, ledger=None).draft()
            )
            log.info("%s: %s", state, why)
        if state is State.HALTED:
            self.alert("critical", "HALTED", why)
        elif changed and state is State.DEGRADED:
            self.alert("warning", "DEGRADED", why)

    def alert(self, severity: Severity, code: str, sentence: str) -> None:
        alert = Alert(time.time_ns(), severity, code, sentence)
        self.alerts.append(alert)
        self.counters["alerts"] += 1
        self.journal.append(AlertRecord(severity=severity, code=code, sentence=sentence).draft())
        for watcher in self.watchers:
            try:
                watcher(alert)
            except Exception:
                log.exception("a receiver of alerts failed on %s", code)

    def point(self, close_ns: int, equity_usd: float, price: float) -> None:
        """One more point of the curves of equity and price; every other one is dropped when there
        are too many.
        """
        self.equity_usd, self.last_price = equity_usd, price
        self.curve.append((close_ns, equity_usd))
        self.prices.append((close_ns, price))
        if len(self.curve) > POINTS:
            self.curve, self.prices = self.curve[::2], self.prices[::2]

    def status(self) -> Status:
        now, account = time.time_ns(), self.account
        start, equity = self.session_start_usd, self.equity_usd
        simulated = self.broker.kind == "sim"
        return Status(
            at_ns=now,
            alias=self.deployed.alias,
            version=self.deployed.version,
            session=str(self.stage.date),
            broker=(
                "embedded simulated TWS" if simulated else f"{self.broker.host}:{self.broker.port}"
            ),
            account=self.broker.account,
            synthetic=watermark(self.stage.warmup) or None,
            state=self.state,
            mode=self.mode,
            why=self.why,
            contract=self.stage.contract.symbol,
            position=self.position,
            target=self.target,
            average_price=_finite(account.average_price if account else None),
            last_price=self.last_price,
            equity_usd=equity,
            session_pnl_usd=None if start is None or equity is None else equity - start,
            realized_usd=_finite(account.realized_usd if account else None),
            unrealized_usd=_finite(account.unrealized_usd if account else None),
            bars=self.bars,
            last_bar_close_ns=self.last_close_ns,
            data_age_sec=None if self.last_bar_at_ns is None else (now - self.last_bar_at_ns) / 1e9,
            connected=self.connected,
            working=tuple(
                {name: _finite(value) for name, value in order._asdict().items()}
                for order in self.working
            ),
            decisions=tuple(self.decisions),
            fills=tuple(
                {name: _finite(value) for name, value in fill._asdict().items()}
                for fill in self.fills
            ),
            equity=tuple(self.curve),
            prices=tuple(self.prices),
            levels=dict(self.levels),
            max_daily_loss_usd=self.deployed.config.risk.limits.max_daily_loss_usd,
            latency_ms=tuple(self.latencies_ms),
            close_delay_sec=tuple(self.close_delays_sec),
            alerts=tuple(self.alerts),
            counters=dict(self.counters),
        )


def _finite(value: Any) -> Any:
    """None for what the broker has not said yet."""
    return None if isinstance(value, float) and not abs(value) < 1e300 else value
