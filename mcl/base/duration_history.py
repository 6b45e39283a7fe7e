"""How long the steps of a command took here the last time, and what that says of those to come.

`.cache/durations.json` of the project holds {command line: [[step, seconds], …]}, the last used
last. It is a cache: whoever deletes or damages it loses nothing but the time left of steps that
cannot be counted, until the command has run once more.
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

Taken = list[tuple[str, float]]  # steps and their seconds, in order


@dataclass(frozen=True)
class Memory:
    """The steps of the last time; `same`: of this very command line, and not of one like it."""

    taken: Taken
    same: bool = False


def recalled(file: Path, words: Sequence[str]) -> Memory:
    """What this command line took; else the one of the same verb that shares most words with it,
    the latest of these; else nothing.
    """
    known = _known(file)
    if not words:
        return Memory([])
    same = [line for line in reversed(known) if line.split("\n")[0] == words[0]]
    mine = set(_line(words).split("\n"))
    # the first of equals is the latest
    best = max(same, key=lambda line: len(mine & set(line.split("\n"))), default=None)
    return Memory([]) if best is None else Memory(known[best], best == _line(words))


def keep(file: Path, words: Sequence[str], taken: Taken) -> None:
    """Remember what this command line has just taken."""
    if not words or sum(seconds for _, seconds in taken) < WORTH_SEC:
        return
    known = _known(file)
    known.pop(_line(words), None)
    known[_line(words)] = [(step, round(seconds, 3)) for step, seconds in taken]
    with suppress(StoreError):  # a project that cannot be written has no memory, and works
        write_whole(file, json.dumps(dict(list(known.items())[-MOST:]), indent=0).encode())


def left(known: Taken, taken: Taken, step: str, spent: float, share: float) -> float | None:
    """Seconds until the end; None when nobody can know.

    known   the steps of the last time
    taken   those that are done now, and how long they took
    step    the present one, `spent` seconds old; `share` of it is done, 0 when its units are not counted or none is done

    What is counted goes on as it went; what is not takes as long as the last time, at the pace of
    this run. 0 when it should be over.
    """
    at, was, now = -1, 0.0, 0.0
    for name, seconds in taken:
        if (found := _after(known, at, name)) is not None:
            at, was, now = found, was + known[found][1], now + seconds
    here = _after(known, at, step)
    later = known[(at if here is None else here) + 1 :]
    if share:
        own = spent * (1 - share) / share
        if here is not None:
            was, now = was + known[here][1], now + spent + own
    elif here is None:
        return None
    pace = min(SLOWER, max(1 / SLOWER, now / was)) if was >= ENOUGH_SEC else 1.0
    if not share and here is not None:
        own = max(0.0, known[here][1] * pace - spent)
    return own + pace * sum(seconds for _, seconds in later)


def _after(known: Taken, at: int, name: str) -> int | None:
    return next((i for i in range(at + 1, len(known)) if known[i][0] == name), None)


def _line(words: Sequence[str]) -> str:
    return redacted("\n".join(words))


def _known(file: Path) -> dict[str, Taken]:
    """Nothing where there is no such file, or none that this module has written."""
    try:
        told = json.loads(file.read_bytes())
        return {
            str(line): [(str(step), float(seconds)) for step, seconds in taken]
            for line, taken in told.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
