"""Estimates the time left of a command from the durations of its steps the last time it ran here.

`.cache/durations.json` of the project holds {command line: [[step, seconds], …]}, the last used
last. It is a cache: without it, steps that cannot be counted have no time left until the command
has run once more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mcl.base.errors import StoreError
from mcl.base.files import write_whole
from mcl.base.redact import redacted

MOST = 200  # command lines that are remembered
WORTH_SEC = 1.0  # of a whole command; what is shorter needs no memory
ENOUGH_SEC = 0.5  # of steps that are done, before their pace says something about this run
SLOWER = 5.0  # a pace beyond this, or below its inverse, is other work and no other speed

Durations = list[tuple[str, float]]  # steps and their seconds, in order


@dataclass(frozen=True)
class History:
    """Hold the steps of an earlier run; `same`: of this very command line, not of one like it."""

    durations: Durations
    same: bool = False


def history_of(file: Path, words: Sequence[str]) -> History:
    """Return the durations of this command line; else of the one of the same verb that shares most
    words with it, the latest of these; else none.
    """
    stored = _stored(file)
    if not words:
        return History([])
    same = [line for line in reversed(stored) if line.split("\n")[0] == words[0]]
    mine = set(_line(words).split("\n"))
    # the first of equals is the latest
    best = max(same, key=lambda line: len(mine & set(line.split("\n"))), default=None)
    return History([]) if best is None else History(stored[best], best == _line(words))


def remember(file: Path, words: Sequence[str], durations: Durations) -> None:
    """Write how long the steps of this command line have just taken."""
    if not words or sum(seconds for _, seconds in durations) < WORTH_SEC:
        return
    stored = _stored(file)
    stored.pop(_line(words), None)
    stored[_line(words)] = [(step, round(seconds, 3)) for step, seconds in durations]
    with suppress(StoreError):  # a project that cannot be written has no memory, and works
        write_whole(file, json.dumps(dict(list(stored.items())[-MOST:]), indent=0).encode())


def time_left(
    previous: Durations, finished: Durations, step: str, elapsed_sec: float, share: float
) -> float | None:
    """Return the seconds until the end; None when they cannot be estimated.

    previous    the steps of the last time
    finished    those that are done now, and how long they took
    step        the present one, `elapsed_sec` old; `share` of it is done, 0 when its units are
                not counted or none is done

    A counted step continues at its own speed. Any other takes as long as the last time, scaled by
    the speed of this run. 0 when it should be over.
    """
    at, was, now = -1, 0.0, 0.0
    for name, seconds in finished:
        if (index := _after(previous, at, name)) is not None:
            at, was, now = index, was + previous[index][1], now + seconds
    here = _after(previous, at, step)
    later = previous[(at if here is None else here) + 1 :]
    if share:
        own = elapsed_sec * (1 - share) / share
        if here is not None:
            was, now = was + previous[here][1], now + elapsed_sec + own
    elif here is None:
        return None
    pace = min(SLOWER, max(1 / SLOWER, now / was)) if was >= ENOUGH_SEC else 1.0
    if not share and here is not None:
        own = max(0.0, previous[here][1] * pace - elapsed_sec)
    return own + pace * sum(seconds for _, seconds in later)


def _after(previous: Durations, at: int, name: str) -> int | None:
    return next((i for i in range(at + 1, len(previous)) if previous[i][0] == name), None)


def _line(words: Sequence[str]) -> str:
    return redacted("\n".join(words))


def _stored(file: Path) -> dict[str, Durations]:
    """Return the file's content; {} where it is missing or was not written by this module."""
    try:
        document = json.loads(file.read_bytes())
        return {
            str(line): [(str(step), float(seconds)) for step, seconds in durations]
            for line, durations in document.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
