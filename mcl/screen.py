"""What a verb shows: rich on a terminal, plain lines elsewhere, one JSON object with --json; logs always on stderr."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mcl.errors import MclError
from mcl.redact import blotter, redacted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

LATE_SEC = 2.0  # work that is over by then shows no progress
LINE_EVERY_SEC = 5.0  # where there is no terminal

_state = {"json": False, "quiet": False}


def configure(*, as_json: bool, verbose: bool, quiet: bool) -> None:
    """Set the output style of this process. MCL_LOG=json writes structured logs as JSON lines, as production wants them."""
    import structlog

    _state.update(json=as_json, quiet=quiet)
    level = logging.DEBUG if verbose else logging.WARNING
    production = os.environ.get("MCL_LOG") == "json"
    renderer: Any = structlog.processors.JSONRenderer() if production else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if production else []),
            lambda *event: redacted(renderer(*event)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if production and not verbose else level),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # the one of the moment
        cache_logger_on_first_use=False,
    )


def answer(data: dict[str, Any], render: Callable[[], None]) -> None:
    """Print `data` as the one JSON object, or let `render` speak to a person."""
    if _state["json"]:
        print(redacted(json.dumps(plain(data), allow_nan=False)))
    elif not _state["quiet"]:
        render()


def refuse(error: MclError) -> None:
    if _state["json"]:
        print(json.dumps({"error": error.as_dict()}))
        return
    print(f"mcl: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"     {error.hint}", file=sys.stderr)


def say(line: str = "") -> None:
    """A line for a person; silent with --json and --quiet."""
    if not (_state["json"] or _state["quiet"]):
        print(redacted(line), flush=True)


def quiet() -> bool:
    return _state["json"] or _state["quiet"]


Tick = Callable[[], None]
Begin = Callable[[str, int], Tick]  # a stage and how many steps it has; the answer is called after each


def unseen(stage: str, steps: int) -> Tick:
    """The `Begin` of work that nobody watches."""
    del stage, steps
    return lambda: None


@dataclass
class _Stage:
    name: str
    steps: int  # 0: nobody knows
    done: int = 0
    began: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        """`neighbourhood: 12 of 40, 8 s left`"""
        spent = time.monotonic() - self.began
        if not self.steps:
            return f"{self.name}: {spent:.0f} s"
        left = f"{(self.steps - self.done) * spent / self.done:.0f} s left" if self.done else "time left unknown"
        return f"{self.name}: {self.done} of {self.steps}, {left}"


class Work:
    """Long work, stage by stage, on standard error: bars with the time left on a terminal, a line every few seconds elsewhere.

    Nothing with --json or --quiet, and nothing for work that is over within LATE_SEC. Used as a context: `with screen.Work() as work`.
    """

    def __init__(self, stage: str = "") -> None:
        """`stage`: the first one, when nobody knows how many steps it has."""
        self._stages = [_Stage(stage, 0)] if stage else []
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._watched, daemon=True)

    def __enter__(self) -> Work:
        if not quiet():
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._watch.ident is not None:
            self._watch.join()

    def begin(self, stage: str, steps: int) -> Tick:
        """A new stage of so many steps; call the answer after each of them."""
        new = _Stage(stage, steps)
        self._stages.append(new)

        def step() -> None:
            new.done += 1

        return step

    def _watched(self) -> None:
        if self._over.wait(LATE_SEC):
            return
        if not sys.stderr.isatty():
            while not self._over.wait(LINE_EVERY_SEC):
                print(redacted(self._stages[-1].line()) if self._stages else "working", file=sys.stderr, flush=True)
            return
        with _bars() as bars:
            tasks: list[Any] = []
            while not self._over.wait(0.1):
                tasks += [bars.add_task(stage.name, total=stage.steps or None) for stage in self._stages[len(tasks) :]]
                for task, stage in zip(tasks, self._stages, strict=False):
                    last = stage is self._stages[-1]
                    bars.update(task, completed=stage.done, visible=last or bool(stage.steps))


def _bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> None:
    """Print `drawn`."""
    console().print(drawn(title, columns, rows, left))


def console() -> Console:
    """The terminal, or 120 columns where there is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def drawn(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> Table:
    """A table whose first `left` columns are aligned left and whose others are numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i < left else "right", overflow="fold")
    blot = blotter()
    for row in rows:
        made.add_row(*(Text(blot(text(value))) for value in row))  # never markup: a reason may hold brackets
    return made


def text(value: Any) -> str:
    """A cell: floats to six significant digits, nothing else touched."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def plain(value: Any) -> Any:
    """`value` as JSON knows it: NaN and infinities become null, paths and dates text, numpy scalars numbers."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
