"""The log of a session: lines for people on a terminal, JSON lines in live/ALIAS/log.jsonl, each
with whose it is.

Every line carries alias, version and session; `about(ref=…)` adds the order that it is about. What
the libraries and the rest of the package log (Python's own logging) comes out the same way. The
file is rotated by size, so that it never fills a disk.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog

from mcl.base import terminal
from mcl.base.files import private_file, private_folder
from mcl.base.redact import redacted

NAME = "log.jsonl"
BYTES, BACKUPS = 10_000_000, 5  # of one file; so many older ones
FOREIGN = ("mcl", "ib_async")  # loggers of Python's logging whose lines belong to a session
log: Any = terminal.logger("mcl.live")
about = structlog.contextvars.bound_contextvars  # with about(ref=…): …


@contextmanager
def log_session(folder: Path, **whose: Any) -> Iterator[dict[str, Any]]:
    """While the block runs, lines from INFO on go to the file of `folder` as well, and each says
    `whose` it is.

    Yields `whose`, which may change while the block runs: a process can serve one session after the
    other.
    """
    private_folder(folder)
    before = structlog.get_config()
    file = _PrivateFile(
        folder / NAME, maxBytes=BYTES, backupCount=BACKUPS, encoding="utf-8", delay=True
    )
    bridge = _Bridge()
    try:
        structlog.configure(
            processors=[_naming(whose), *_processors(before, file)],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=before["logger_factory"],
            cache_logger_on_first_use=False,
        )
        with bridge:
            yield whose
    finally:
        structlog.configure(**before)
        file.close()


class _PrivateFile(RotatingFileHandler):
    """Each file of the log can be read by this user alone."""

    def _open(self) -> TextIOWrapper:
        private_file(Path(self.baseFilename))
        return super()._open()


def _naming(whose: dict[str, Any]) -> Any:
    """Add to each line the session that it belongs to: callbacks of a connection and other threads
    do not see what was bound.
    """
    return lambda _logger, _method, event: {**whose, **event}


def _processors(before: dict[str, Any], file: RotatingFileHandler) -> list[Any]:
    """The chain that was configured, with the file before its renderer; the screen keeps the level
    that it had.
    """
    *shared, renderer = before["processors"]
    screen_logger = before["wrapper_class"]

    def to_file(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        fields = structlog.processors.format_exc_info(logger, method, dict(event))
        file.handle(logging.makeLogRecord({"msg": redacted(json.dumps(fields, default=str))}))
        return event

    def to_screen(_: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        if not screen_logger(None, [], {}).is_enabled_for(logging.getLevelName(method.upper())):
            raise structlog.DropEvent
        return event

    return [*shared, to_file, to_screen, renderer]


class _Bridge(logging.Handler):
    """Lines of Python's logging become lines of the session's log."""

    def __enter__(self) -> None:
        for name in FOREIGN:
            logging.getLogger(name).addHandler(self)
        self._levels = {name: logging.getLogger(name).level for name in FOREIGN}
        for name in FOREIGN:
            logging.getLogger(name).setLevel(logging.INFO if name == "mcl" else logging.WARNING)

    def __exit__(self, *_: object) -> None:
        for name in FOREIGN:
            logging.getLogger(name).removeHandler(self)
            logging.getLogger(name).setLevel(self._levels[name])

    def emit(self, record: logging.LogRecord) -> None:
        write = getattr(log, record.levelname.lower(), log.info)
        write(
            record.getMessage(),
            logger=record.name,
            **({"exc_info": record.exc_info} if record.exc_info else {}),
        )
