"""Writes what happens to the server to the log of the program around it.

Silent where that program has configured no structlog: another project that embeds the server gets
no lines that it did not ask for.
"""

from __future__ import annotations

from typing import Any

import structlog

_log: Any = structlog.get_logger("mcl.simulators.tws")


def info(event: str, **facts: Any) -> None:
    if structlog.is_configured():
        _log.info(event, **facts)


def warning(event: str, **facts: Any) -> None:
    if structlog.is_configured():
        _log.warning(event, **facts)
