"""What a verb shows: rich on a terminal, plain lines elsewhere, one JSON object with --json; logs always on stderr."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mcl.errors import MclError
from mcl.redact import blotter, redacted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

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
