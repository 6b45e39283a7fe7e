"""Show the progress of a search: a live table on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Protocol

from mcl.base import terminal
from mcl.base.undefined import finite, is_undefined
from mcl.base.words import many
from mcl.metrics.overfit import Luck
from mcl.report.format import ANNUALISED, SHORT, too_short
from mcl.search.trial import Outcome

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

LINE_EVERY_SEC = 5.0


@dataclass
class SweepStatistics:
    """Count the trials of a search and keep its speed and its best trial."""

    title: str
    total: int
    metric: str
    maximize: bool = True
    best: Outcome | None = None
    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    # reasons by state: a failed trial is no pruned one
    causes: dict[str, Counter[str]] = field(default_factory=dict)
    improvements: list[tuple[int, float]] = field(default_factory=list)  # (trials done, best value)
    earlier: int = 0  # trials that were done when this process began
    spent_sec: float = 0.0  # in the trials themselves, of this process
    started: float = field(default_factory=time.perf_counter)
    ended: float = 0.0
    luck: Luck | None = None  # of the best so far, among all trials that are counted now
    notices: tuple[str, ...] = ()  # sentences that belong before the first trial

    def begin(self, outcomes: Iterable[Outcome]) -> None:
        """Count the outcomes of an earlier process, and start the clock."""
        for outcome in outcomes:
            self.add(outcome)
        self.earlier, self.started, self.spent_sec = self.done, time.perf_counter(), 0.0

    def add(self, outcome: Outcome) -> bool:
        """Count an outcome; True when it is the best so far. Ties go to the lower trial number."""
        self.states[outcome.state] += 1
        self.spent_sec += outcome.seconds
        if outcome.reason:
            self.reasons[outcome.reason] += 1
            self.causes.setdefault(outcome.state, Counter())[outcome.reason] += 1
        if outcome.state != "COMPLETE" or math.isnan(outcome.value):
            return False
        if self.best is not None and self._rank(outcome) <= self._rank(self.best):
            return False
        self.best = outcome
        self.improvements.append((self.done, outcome.value))
        return True

    def _rank(self, outcome: Outcome) -> tuple[float, float, int]:
        """A trial that keeps the soft constraints comes before any that does not."""
        return (
            -outcome.overstep,
            (outcome.value if self.maximize else -outcome.value),
            -outcome.number,
        )

    @property
    def done(self) -> int:
        return self.states.total()

    def end(self) -> None:
        """Stop the clock after the last trial."""
        self.ended = time.perf_counter()

    @property
    def seconds(self) -> float:
        return (self.ended or time.perf_counter()) - self.started

    @property
    def rate(self) -> float:
        """Trials a second, of this process."""
        return (self.done - self.earlier) / max(self.seconds, 1e-9)

    @property
    def eta_sec(self) -> float:
        return (self.total - self.done) / self.rate if self.rate else math.nan

    def facts(self) -> dict[str, Any]:
        """The standing as `mcl sweep status` reads it in another process."""
        leader = (
            None
            if self.best is None
            else {"trial": self.best.number, "value": self.best.value, "params": self.best.params}
        )
        headlines = (
            {name: self.best.metrics.get(name) for name in ("trades", "max_drawdown_frac")}
            if self.best
            else {}
        )
        return {
            "title": self.title,
            "done": self.done,
            "total": self.total,
            "states": dict(self.states),
            "reasons": dict(self.reasons),
            "trials_per_sec": self.rate,
            "here": self.done - self.earlier,
            "trial_sec": self.spent_sec / max(1, self.done - self.earlier),
            "eta_sec": finite(self.eta_sec),
            "metric": self.metric,
            "best": leader and leader | headlines,
            "luck": (
                self.luck
                and {
                    "best_by_luck": self.luck.best_by_luck,
                    "trials": self.luck.trials,
                    "of": self.luck.of,
                }
            ),
        }

    def standing(self) -> str:
        """`120/500 trials · 84 /s · 4 s left · 3 pruned (constraint 3)`"""
        left = f"{self.eta_sec:.0f} s left" if self.rate else "starting"
        running = [f"{self.rate:.1f}/s", left] if self.done < self.total or self.rate else []
        parts = [f"{self.done}/{many(self.total, 'trial')}", *running]
        for state, count in sorted(self.states.items()):
            causes = ", ".join(
                f"{reason} {number}"
                for reason, number in self.causes.get(state, Counter()).most_common(3)
            )
            parts += (
                [f"{count} {state.lower()}" + (f" ({causes})" if causes else "")]
                if state != "COMPLETE"
                else []
            )
        return " · ".join(parts)

    def leader(self) -> str:
        """`best sharpe 1.23 in trial 17: strategy.fast=240 strategy.slow=960`"""
        if self.best is None:
            return f"no scored {self.metric} yet"
        values = " ".join(f"{key}={cell_text(value)}" for key, value in self.best.params.items())
        score = score_text(self.metric, self.best.value, _sessions(self.best))
        return (
            f"best {self.metric} {score} in trial {self.best.number}:"
            f" {values}{self.chance and f' · {self.chance}'}"
        )

    @property
    def chance(self) -> str:
        """`sharpe 1.23, and luck alone would show 0.95 among 114 trials of ema_cross on MCL …`;
        empty before the first count.
        """
        if self.best is None or self.luck is None:
            return ""
        ratio, chance = (
            score_text("sharpe", value, _sessions(self.best))
            for value in (self.best.metrics.get("sharpe", math.nan), self.luck.best_by_luck)
        )
        return f"its sharpe {ratio}, and luck alone would show {chance} among {self.luck.count}"


class Progress(Protocol):
    """Show a search to a user: its begin, every trial, its end."""

    def begin(self, statistics: SweepStatistics) -> None: ...
    def trial(self, statistics: SweepStatistics, outcome: Outcome, improved: bool) -> None: ...
    def end(self, statistics: SweepStatistics) -> None: ...


class NoProgress:
    """Show nothing."""

    def begin(self, statistics: SweepStatistics) -> None: ...
    def trial(self, statistics: SweepStatistics, outcome: Outcome, improved: bool) -> None: ...
    def end(self, statistics: SweepStatistics) -> None: ...


class LineProgress:
    """One line every few seconds, for logs and pipes."""

    def __init__(self, stream: IO[str], every_sec: float = LINE_EVERY_SEC) -> None:
        self._stream, self._every_sec, self._last = stream, every_sec, 0.0

    def begin(self, statistics: SweepStatistics) -> None:
        terminal.aside()
        self._last = time.perf_counter()
        self._say(statistics.title)
        for sentence in statistics.notices:
            self._say(sentence)

    def trial(self, statistics: SweepStatistics, outcome: Outcome, improved: bool) -> None:
        del improved
        if outcome.state == "FAILED":
            self._say(f"trial {outcome.number} failed: {outcome.detail}")
        if time.perf_counter() - self._last >= self._every_sec:
            self._last = time.perf_counter()
            self._say(f"{statistics.standing()} · {statistics.leader()}")

    def end(self, statistics: SweepStatistics) -> None:
        self._say(f"{statistics.standing()} · {statistics.leader()}")
        terminal.again()

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class TableProgress:
    """A table of the last improvements under a line of standing, redrawn a few times a second."""

    ROWS = 8
    COLUMNS = ("trades", "max_drawdown_frac", "net_pnl_usd")

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console

        self._console = Console(file=stream, highlight=False)
        self._improvements: list[Outcome] = []
        self._live: Live | None = None

    def begin(self, statistics: SweepStatistics) -> None:
        from rich.live import Live

        terminal.aside()
        for sentence in statistics.notices:
            self._console.print(sentence, markup=False)
        self._live = Live(
            self._table(statistics), console=self._console, refresh_per_second=4, transient=False
        )
        self._live.start()

    def trial(self, statistics: SweepStatistics, outcome: Outcome, improved: bool) -> None:
        if improved:
            self._improvements = [*self._improvements, outcome][-self.ROWS :]
        if self._live is None:
            return
        if outcome.state == "FAILED":
            self._live.console.print(
                f"trial {outcome.number} failed: {outcome.detail}", markup=False
            )
        self._live.update(self._table(statistics))

    def end(self, statistics: SweepStatistics) -> None:
        if self._live is not None:
            self._live.update(self._table(statistics))
            self._live.stop()
            terminal.again()

    def _table(self, statistics: SweepStatistics) -> Table:
        from rich import box
        from rich.table import Table

        keys = list(statistics.best.params) if statistics.best else []
        table = Table(
            title=statistics.title,
            caption="\n".join(filter(None, (statistics.standing(), statistics.chance))),
            box=box.SIMPLE_HEAD,
            title_justify="left",
            caption_justify="left",
        )
        for name in ("best so far", *keys, statistics.metric, *self.COLUMNS):
            table.add_column(name.removeprefix("strategy."), justify="right")
        for outcome in reversed(self._improvements):
            values = [cell_text(outcome.params.get(key, "")) for key in keys]
            scores = [
                score_text(name, outcome.metrics.get(name, math.nan), _sessions(outcome))
                for name in (statistics.metric, *self.COLUMNS)
            ]
            table.add_row(f"trial {outcome.number}", *values, *scores)
        return table


def progress_display(stream: IO[str] | None = None) -> Progress:
    """The display that suits the stream (default: standard error, since standard output belongs to
    the answer).
    """
    stream = stream or sys.stderr
    return TableProgress(stream) if stream.isatty() else LineProgress(stream)


def _sessions(outcome: Outcome) -> float:
    return float(outcome.metrics.get("sessions", math.nan))


def score_text(name: str, value: Any, sessions: float) -> str:
    """The text of a metric in a table: none for a figure per year of too few sessions."""
    few = name in ANNUALISED and too_short(sessions)
    return SHORT if few and not is_undefined(value) else cell_text(value)


def cell_text(value: Any) -> str:
    """The text of a value in a table. A dash for an axis that does not exist at a point, or a
    metric that is not defined there.
    """
    if is_undefined(value):
        return "–"
    return (
        f"{value:.4g}"
        if isinstance(value, float) and abs(value) < 1e4
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )
