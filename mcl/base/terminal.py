"""Prints what a verb shows: rich on a terminal, plain lines elsewhere, one JSON object with --json.
Logs always go to stderr.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcl.base import duration_history, progress, tables
from mcl.base.errors import MclError
from mcl.base.redact import blotter, redacted
from mcl.base.undefined import finite, is_undefined

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.text import Text

WIDTH = 120  # columns where there is no terminal
NOTHING = 0.0001  # below, a number is shown as less than this
START_SEC = 10.0  # a command that has begun no step by then says that it is starting
LATE_SEC = 2.0  # work that is over by then shows no progress
LINE_EVERY_SEC = 5.0  # where there is no terminal
FRAME_SEC = 0.1  # where there is one
SHORT_SEC = 0.5  # of a time left that nobody counts: it should be over

IDS = ("run_id", "sweep_id", "report")  # of an answer, the first of which --quiet prints alone

_state = {
    "json": False,
    "quiet": False,
    "answered": False,
    "configured": False,
    "verbose": False,
}


def configure(*, as_json: bool, verbose: bool, quiet: bool) -> None:
    """Set the output style of this process. MCL_LOG=json writes structured logs as JSON lines, as
    production wants them.
    """
    _state.update(json=as_json, quiet=quiet, answered=False, configured=True, verbose=verbose)
    if "structlog" in sys.modules:
        configure_log()


def logger(name: str) -> Any:
    """A logger of structlog whose lines go to stderr in the output style of this process."""
    import structlog

    if _state["configured"]:
        configure_log()
    return structlog.get_logger(name)


def configure_log() -> None:
    """Set structlog's style to that of this process. Verbs that log call it: few do, and
    structlog takes longer to import than they take.
    """
    import structlog

    verbose = _state["verbose"]
    level = logging.DEBUG if verbose else logging.WARNING
    production = os.environ.get("MCL_LOG") == "json"
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if production
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if production else []),
            lambda *event: redacted(renderer(*event)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.INFO if production and not verbose else level
        ),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # the one of the moment
        cache_logger_on_first_use=False,
    )


def answer(data: dict[str, Any], render: Callable[[], None]) -> None:
    """Print `data` as the one JSON object, or let `render` print it for people."""
    aside()
    if _state["json"]:
        print(redacted(json.dumps(plain(data), allow_nan=False)))
        _state["answered"] = True
    elif not _state["quiet"]:
        render()
    elif (name := next((data[key] for key in IDS if data.get(key)), None)) is not None:
        print(redacted(str(name)))


def refuse(error: MclError) -> None:
    if _state["json"] and not _state["answered"]:  # standard output is one object
        print(json.dumps(plain({"error": error.as_dict()}), allow_nan=False))
        return
    print(f"mcl: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"     {error.hint}", file=sys.stderr)


def as_json() -> bool:
    """Whether standard output is the one JSON object."""
    return bool(_state["json"])


def say(line: str = "") -> None:
    """Print a line; silent with --json and --quiet."""
    if not quiet():
        aside()
        print(_fitted(redacted(line)), flush=True)


def _fitted(line: str) -> str:
    """On a terminal a sentence wraps between words; an id or a path is never broken."""
    width = console().width if sys.stdout.isatty() else 0
    if not width or len(line) <= width or "\n" in line:
        return line
    return "\n".join(textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False))


def quiet() -> bool:
    return _state["json"] or _state["quiet"]


@dataclass
class _Step:
    name: str
    count: int = 0  # of units; 0: nobody knows
    done: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed_sec(self) -> float:
        return time.monotonic() - self.began

    @property
    def share(self) -> float:
        return self.done / self.count if self.count else 0.0


class Work:
    """Shows the steps of a verb (`mcl.base.progress`) on standard error: a bar on a terminal, plain
    lines elsewhere.

    The time left is counted where a step has units. Otherwise it is what the same steps took the
    last time (`mcl.base.duration_history`). Nothing is shown with --json or --quiet, of work that
    is over within LATE_SEC, or after the first word of the answer. Used as a context.
    """

    def __init__(
        self, words: Sequence[str] = (), memory: Path | None = None, *, visible: bool = True
    ) -> None:
        """`words`: the command line, whose history is in the file `memory`. `visible`: False for
        a verb that runs until it is stopped.
        """
        self._words, self._memory = list(words), memory
        self._history = (
            duration_history.history_of(memory, words) if memory else duration_history.History([])
        )
        self._finished: duration_history.Durations = []
        self._step, self._began = _Step("starting"), time.monotonic()
        self._drawing, self._over, self._aside = threading.RLock(), threading.Event(), 0
        self._bar: Progress | None = None
        self._watch = (
            threading.Thread(target=self._watched, daemon=True) if visible and not quiet() else None
        )
        self._subscription = progress.subscription(self.begin)

    def __enter__(self) -> Work:
        _works.append(self)
        self._subscription.__enter__()
        if self._watch:
            self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._subscription.__exit__(None, None, None)
        _works.remove(self)
        self._over.set()
        if self._watch:
            self._watch.join()
        if kind is None and self._memory:
            duration_history.remember(
                self._memory,
                self._words,
                [*self._finished, (self._step.name, self._step.elapsed_sec)],
            )

    def begin(self, name: str, count: int = 0) -> progress.Tick:
        """A new step; the one before it is over."""
        self._finished.append((self._step.name, self._step.elapsed_sec))
        new = self._step = _Step(name, count)

        def tick() -> None:
            new.done += 1

        return tick

    def aside(self) -> None:
        """Remove the bar: the screen is needed for something else."""
        with self._drawing:
            self._aside += 1
            self._wipe()

    def again(self) -> None:
        """Show the bar again after `aside`."""
        with self._drawing:
            self._aside -= 1

    def _left(self, step: _Step) -> float | None:
        return duration_history.time_left(
            self._history.durations, self._finished, step.name, step.elapsed_sec, step.share
        )

    def _time_left_text(self, step: _Step, left: float | None) -> str:
        if left is None:
            return "time left unknown"
        if left < SHORT_SEC and not step.share:
            late = step.elapsed_sec >= START_SEC
            return "taking longer than last time" if late else "nearly done"
        if not self._history.durations:
            return f"{span(left)} left in this step"
        return f"about {span(left)} left" + (
            "" if self._history.same else " (estimate from a similar run)"
        )

    def _watched(self) -> None:
        show, every = (
            (self._draw, FRAME_SEC) if sys.stderr.isatty() else (self._say, LINE_EVERY_SEC)
        )
        wait = LATE_SEC
        while not self._over.wait(wait):
            wait = every
            with self._drawing:
                if not self._aside and (self._finished or self._step.elapsed_sec >= START_SEC):
                    show(self._step)
        with self._drawing:
            self._wipe()

    def _say(self, step: _Step) -> None:
        """`simulating: 2 s, about 4 s left`, `neighbourhood: 12 of 40, 8 s left in this step`"""
        sofar = f"{step.done} of {step.count}" if step.count else span(step.elapsed_sec)
        print(
            redacted(f"{step.name}: {sofar}, {self._time_left_text(step, self._left(step))}"),
            file=sys.stderr,
            flush=True,
        )

    def _draw(self, step: _Step) -> None:
        """The bar is that of all steps together, where their time left is known."""
        if self._bar is None:
            self._bar = _bar()
            self._bar.add_task("", total=None, units="", spent="", left="")
            self._bar.start()
        elapsed, left = time.monotonic() - self._began, self._left(step)
        task = self._bar.tasks[0]
        task.fields.update(
            units=f"{step.done}/{step.count}" if step.count else "",
            spent=span(elapsed),
            left=self._time_left_text(step, left),
        )
        task.description, task.completed, task.total = (
            step.name,
            elapsed,
            None if left is None else elapsed + left,
        )
        self._bar.refresh()

    def _wipe(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


_works: list[Work] = []  # that of this process, when there is one


def aside() -> None:
    """Hide the progress of the work, for an answer, a question, or a display of its own."""
    for work in _works:
        work.aside()


def again() -> None:
    """Show the progress again after `aside`."""
    for work in _works:
        work.again()


def span(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 5 min`"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    texts = (
        TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("units", "spent", "left")
    )
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *texts)
    to = Console(stderr=True)
    return Progress(
        *columns,
        console=to,
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    left: int = 1,
    least: Sequence[str] = (),
) -> None:
    """Print `table_text`."""
    aside()
    console().print(table_text(title, columns, rows, left, least), crop=False, soft_wrap=True)


def console() -> Console:
    """The terminal, or 120 columns where there is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def table_text(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    left: int = 1,
    least: Sequence[str] = (),
) -> Text:
    """A table (`mcl.base.tables`) for the width of the terminal, with its title above."""
    from rich.text import Text

    blot, width = blotter(), console().width
    cells = [[blot(text(value)) for value in row] for row in rows]
    heads = [
        blot(line)
        for line in textwrap.wrap(title, width, break_long_words=False, break_on_hyphens=False)
    ]
    body = tables.lines(columns, cells, width, left, least)
    styled = Text("\n" + "\n".join(heads) + "\n", style="bold", no_wrap=True, overflow="ignore")
    styled.append("\n".join(["", *body, ""]), style="not bold")
    return styled


def text(value: Any) -> str:
    """A cell: floats to six significant digits, `n/a` where there is none, and no more than four
    decimals of next to nothing; a list as its items.
    """
    if _is_no_time(value) or is_undefined(value):
        return "n/a"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(text, value)) or "none"
    if not isinstance(value, float):
        return str(value)
    if 0 < abs(value) < NOTHING:
        return "<0.0001" if value > 0 else ">-0.0001"
    return f"{value + 0.0:.6g}"  # nothing has no sign


def _is_no_time(value: Any) -> bool:
    """Whether it is pandas' time that is none."""
    return type(value).__name__ == "NaTType"


def plain(value: Any) -> Any:
    """`value` as JSON knows it: NaN, infinities and times that are none become null, paths and
    dates text, numpy scalars numbers.
    """
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if _is_no_time(value):
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return finite(value + 0.0)  # nothing has no sign
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
