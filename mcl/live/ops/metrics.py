"""Serve what machines ask a running session: its numbers in Prometheus' text format, whether it
lives, whether it trades.

`/metrics` every number of METRICS; `/health` 200 while the process answers and its state can be
read (a container is restarted when it does not); `/ready` 200 only in TRADING. docs/metrics.md is
made from METRICS.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from mcl import __version__
from mcl.base.alert import Alert
from mcl.config import schema
from mcl.live.ops.http import HttpReply, HttpRequest, as_json, serving
from mcl.live.ops.status_poller import StatusPoller
from mcl.live.status import Mode, State, Status
from mcl.live.status_json import BUCKETS_MS

CONTENT = "text/plain; version=0.0.4; charset=utf-8"
T = TypeVar("T")
Labels = Mapping[str, str]
Sample = tuple[Labels, float]


@dataclass(frozen=True)
class Metric:
    """One family. `read` gives its samples of a session, nothing for what is not known; every
    sample gets alias, version and account.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    read: Callable[[SessionCounters], Iterator[Sample]] = lambda _: iter(())


@dataclass
class SessionCounters:
    """Counters of a session that only grow, though a status shows only the last of many things."""

    status: Status
    blocks: Counter[str] = field(default_factory=Counter)
    alerts: Counter[tuple[str, str]] = field(default_factory=Counter)
    latency: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_MS) + 1))
    latency_sum_ms: float = 0.0
    _decided: int = 0
    _alerts: tuple[Alert, ...] = ()
    _latencies: tuple[float, ...] = ()

    def __call__(self, status: Status) -> None:
        """Take in what is new in a status."""
        self.status = status
        for decision in status.decisions:
            at = int(str(decision.get("time") or 0))
            if at > self._decided:
                self._decided = at
                block = str(decision.get("block") or "")
                self.blocks[block] += block not in ("", "0", "NONE")
        for alert in fresh(self._alerts, status.alerts):
            self.alerts[alert.severity, alert.code] += 1
        for value in fresh(self._latencies, status.latency_ms):
            self.latency[bisect_left(BUCKETS_MS, value)] += 1
            self.latency_sum_ms += value
        self._alerts, self._latencies = status.alerts, status.latency_ms


def fresh(before: tuple[T, ...], now: tuple[T, ...]) -> tuple[T, ...]:
    """The new part of a window that only grows at its end and loses at its beginning."""
    for lost in range(len(before) + 1):
        overlap = before[lost:]
        if now[: len(overlap)] == overlap:
            return now[len(overlap) :]
    return now


# -------------------------------------------------------------------------------------- the numbers


def _sample(value: float | None, **labels: str) -> Iterator[Sample]:
    if value is not None and math.isfinite(value):
        yield labels, float(value)


def _one_of(chosen: str, names: type[State] | type[Mode], label: str) -> Iterator[Sample]:
    """One sample per possible value: 1 for the one that holds. An alert can then name a state
    without knowing numbers.
    """
    for name in names:
        yield {label: name.value}, float(name.value == chosen)


def _counted(counters: SessionCounters, *names: str) -> Iterator[Sample]:
    """The first of these counters that the session keeps."""
    yield (
        {},
        next(
            (
                float(counters.status.counters[name])
                for name in names
                if name in counters.status.counters
            ),
            0.0,
        ),
    )


METRICS = (
    Metric(
        "mcl_build_info",
        "gauge",
        "1",
        "Version of mcl, always 1.",
        ("mcl_version",),
        lambda _: iter([({"mcl_version": __version__}, 1.0)]),
    ),
    Metric(
        "mcl_session_info",
        "gauge",
        "1",
        "Session and contract that are traded, always 1.",
        ("session", "contract", "broker", "synthetic"),
        lambda t: iter(
            [
                (
                    {
                        "session": t.status.session,
                        "contract": t.status.contract,
                        "broker": t.status.broker,
                        "synthetic": str(t.status.synthetic is not None).lower(),
                    },
                    1.0,
                )
            ]
        ),
    ),
    Metric(
        "mcl_state",
        "gauge",
        "1",
        "1 for the state that the session is in.",
        ("state",),
        lambda t: _one_of(t.status.state, State, "state"),
    ),
    Metric(
        "mcl_mode",
        "gauge",
        "1",
        "1 for the mode that a person has set.",
        ("mode",),
        lambda t: _one_of(t.status.mode, Mode, "mode"),
    ),
    Metric(
        "mcl_connected",
        "gauge",
        "1",
        "1 while the broker answers.",
        (),
        lambda t: _sample(float(t.status.connected)),
    ),
    Metric(
        "mcl_position_contracts",
        "gauge",
        "contracts",
        "Position, long above 0.",
        (),
        lambda t: _sample(t.status.position),
    ),
    Metric(
        "mcl_target_contracts",
        "gauge",
        "contracts",
        "Position that was decided last.",
        (),
        lambda t: _sample(t.status.target),
    ),
    Metric(
        "mcl_working_orders",
        "gauge",
        "orders",
        "Orders that work at the broker, protection included.",
        (),
        lambda t: _sample(len(t.status.working)),
    ),
    Metric(
        "mcl_last_price",
        "gauge",
        "price",
        "Close of the last bar.",
        (),
        lambda t: _sample(t.status.last_price),
    ),
    Metric(
        "mcl_equity_usd",
        "gauge",
        "USD",
        "Equity at the last bar close.",
        (),
        lambda t: _sample(t.status.equity_usd),
    ),
    Metric(
        "mcl_session_pnl_usd",
        "gauge",
        "USD",
        "P&L since the session began, after costs.",
        (),
        lambda t: _sample(t.status.session_pnl_usd),
    ),
    Metric(
        "mcl_realized_pnl_usd",
        "gauge",
        "USD",
        "Realised P&L of the day, as the broker says.",
        (),
        lambda t: _sample(t.status.realized_usd),
    ),
    Metric(
        "mcl_unrealized_pnl_usd",
        "gauge",
        "USD",
        "Unrealised P&L, as the broker says.",
        (),
        lambda t: _sample(t.status.unrealized_usd),
    ),
    Metric(
        "mcl_bar_close_delay_seconds",
        "gauge",
        "s",
        "From the last bar's close to the message that told of it, by the broker's clock. Not in a"
        " replay.",
        (),
        lambda t: _sample(t.status.close_delay_sec[-1] if t.status.close_delay_sec else None),
    ),
    Metric(
        "mcl_data_age_seconds",
        "gauge",
        "s",
        "Since the last bar was received.",
        (),
        lambda t: _sample(t.status.data_age_sec),
    ),
    Metric(
        "mcl_last_bar_close_timestamp_seconds",
        "gauge",
        "s",
        "Close time of the last bar, seconds since 1970.",
        (),
        lambda t: _sample(
            None if t.status.last_bar_close_ns is None else t.status.last_bar_close_ns / 1e9
        ),
    ),
    Metric(
        "mcl_status_timestamp_seconds",
        "gauge",
        "s",
        "When these numbers were true, seconds since 1970.",
        (),
        lambda t: _sample(t.status.at_ns / 1e9),
    ),
    Metric(
        "mcl_bars_total",
        "counter",
        "bars",
        "Bars that were decided on.",
        (),
        lambda t: _sample(t.status.bars),
    ),
    Metric(
        "mcl_orders_total",
        "counter",
        "orders",
        "Orders that were sent.",
        (),
        lambda t: _counted(t, "orders", "orders sent", "sent"),
    ),
    Metric(
        "mcl_fills_total", "counter", "fills", "Executions.", (), lambda t: _counted(t, "fills")
    ),
    Metric(
        "mcl_reconnects_total",
        "counter",
        "connections",
        "Connections to the broker that were lost and made again.",
        (),
        lambda t: _counted(t, "reconnects"),
    ),
    Metric(
        "mcl_blocks_total",
        "counter",
        "decisions",
        "Decisions that a rule changed, by its code (mcl/engine/assumptions.md lists them).",
        ("block",),
        lambda t: iter([({"block": name}, float(n)) for name, n in sorted(t.blocks.items()) if n]),
    ),
    Metric(
        "mcl_alerts_total",
        "counter",
        "alerts",
        "Alerts by severity and code, whether or not they were sent.",
        ("severity", "code"),
        lambda t: iter(
            [({"severity": s, "code": c}, float(n)) for (s, c), n in sorted(t.alerts.items())]
        ),
    ),
    Metric(
        "mcl_order_latency_seconds",
        "histogram",
        "s",
        "From the message that tells of a bar's close to the first byte of its order written, not"
        " from the close itself.",
        ("le",),
    ),
)


def exposition(counters: SessionCounters) -> str:
    """All metrics of a session in Prometheus' text format 0.0.4."""
    status = counters.status
    whose = {"alias": status.alias, "version": str(status.version), "account": status.account}
    return "".join(line + "\n" for metric in METRICS for line in _family(metric, counters, whose))


def _family(metric: Metric, counters: SessionCounters, whose: Labels) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}"
    yield f"# TYPE {metric.name} {metric.kind}"
    if metric.kind == "histogram":
        yield from _histogram(metric.name, counters, whose)
        return
    for labels, value in metric.read(counters):
        yield f"{metric.name}{_labels({**whose, **labels})} {_number(value)}"


def _histogram(name: str, counters: SessionCounters, whose: Labels) -> Iterator[str]:
    """Cumulative buckets in seconds, then their sum and count."""
    total = 0
    for bound, count in zip((*BUCKETS_MS, math.inf), counters.latency, strict=True):
        total += count
        yield f"{name}_bucket{_labels({**whose, 'le': _number(bound / 1000)})} {total}"
    yield f"{name}_sum{_labels(whose)} {_number(counters.latency_sum_ms / 1000)}"
    yield f"{name}_count{_labels(whose)} {total}"


def _labels(labels: Labels) -> str:
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else f"{value:.15g}"


def document() -> str:
    """docs/metrics.md."""
    lines = [
        "# Metrics of a session",
        "",
        (
            "`mcl live NAME telemetry=local` serves them at `http://127.0.0.1:9464/metrics` in"
            " Prometheus' text format, with `/health`"
        ),
        (
            "(200 while the process answers) and `/ready` (200 only in TRADING). Every sample has"
            " the labels `alias`, `version` and `account`."
        ),
        (
            "What is not known has no sample. This file is made from `mcl/live/ops/metrics.py`; a"
            " test compares them."
        ),
        "",
        "| metric | kind | unit | more labels | meaning |",
        "|---|---|---|---|---|",
    ]
    rows = [
        f"| `{m.name}` | {m.kind} | {m.unit} | {', '.join(f'`{n}`' for n in m.labels) or '–'} |"
        f" {m.help} |"
        for m in METRICS
    ]
    states = ", ".join(State), ", ".join(Mode)
    bounds = ", ".join(_number(bound / 1000) for bound in BUCKETS_MS)
    return "\n".join(
        [
            *lines,
            *rows,
            "",
            (
                f"States: {states[0]}. Modes: {states[1]}. Buckets of the histogram, in seconds:"
                f" {bounds}."
            ),
            "",
        ]
    )


# ------------------------------------------------------------------------------------- the endpoint


@asynccontextmanager
async def exposed(
    poller: StatusPoller, counters: SessionCounters, settings: schema.Telemetry
) -> AsyncIterator[int | None]:
    """Serve while the block runs; yields the port, None when no endpoint is configured."""
    if settings.port is None:
        yield None
        return
    async with serving(_Endpoint(poller, counters).answer, settings.host, settings.port) as port:
        yield port


class _Endpoint:
    def __init__(self, poller: StatusPoller, counters: SessionCounters) -> None:
        self._poller, self._counters = poller, counters

    async def answer(self, request: HttpRequest) -> HttpReply:
        if request.method not in ("GET", "HEAD"):
            return HttpReply(b"only GET\n", status=405, headers={"Allow": "GET"})
        if request.path == "/metrics":
            self._counters(self._poller.session.status())
            return HttpReply(exposition(self._counters).encode(), CONTENT)
        if request.path in ("/health", "/ready"):
            return health(self._poller.session.status(), request.path == "/ready")
        return HttpReply(b"/metrics  /health  /ready\n", status=200 if request.path == "/" else 404)


def health(status: Status, ready: bool) -> HttpReply:
    """Healthy: it answers, and it is not over. HALTED is healthy: a person has to look, a restart
    would not help.
    """
    good = status.state is State.TRADING if ready else status.state is not State.STOPPED
    body = {
        "alias": status.alias,
        "version": status.version,
        "session": status.session,
        "state": status.state,
        "mode": status.mode,
    }
    body |= {
        "why": status.why,
        "data_age_sec": status.data_age_sec,
        "connected": status.connected,
        "age_sec": _age(status),
    }
    return as_json(body | {("ready" if ready else "healthy"): good}, 200 if good else 503)


def _age(status: Status) -> float:
    return round(max(0.0, time.time() - status.at_ns / 1e9), 3)


if __name__ == "__main__":
    print(document(), end="")
