"""The trial log, the truth about finished trials: one line per outcome, on disk before the study or
the store hears of it.

The sampler's memory, Optuna's stored study, the runs in the store and the rows of the trial ledger
are views: each of them can be made again from this file. Each line also has the number of trials
that were open when its point was drawn (`Study.window`). Session dates are written once, when they
change; returns are the bytes of a float64 array, so that a replayed outcome is bit-equal.
"""

from __future__ import annotations

import base64
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.search.json_lines import JsonLinesFile, scanned
from mcl.search.trial import Outcome

ARRAYS = ("sessions", "returns")
PLAIN = tuple(f.name for f in fields(Outcome) if f.name not in ARRAYS)


class TrialLog:
    """Keep the outcomes of a search by trial number. `add` writes one, so that it survives the
    death of this process.

    `windows` has the window of each. A trial of version 0.1 has none.
    """

    def __init__(self, path: Path) -> None:
        self._lines = JsonLinesFile(path)
        self.outcomes, self._sessions = _outcomes(self._lines.read())
        self.windows: dict[int, int] = {}
        for line in self._lines.read():
            if "window" in line:
                self.windows.setdefault(line["number"], line["window"])

    def add(self, outcome: Outcome, window: int = 1) -> None:
        sessions = _text(outcome.sessions)
        lines: list[dict[str, Any]] = []
        if len(outcome.sessions) and sessions != self._sessions:
            lines.append({"sessions": sessions})
            self._sessions = sessions
        plain = {name: getattr(outcome, name) for name in PLAIN}
        lines.append(
            plain
            | {
                "returns": _text(outcome.returns),
                "dated": bool(len(outcome.sessions)),
                "window": window,
            }
        )
        self._lines.append(lines)
        self.outcomes[outcome.number] = outcome
        self.windows[outcome.number] = window

    def close(self) -> None:
        self._lines.close()


def read(path: Path) -> dict[int, Outcome]:
    """The outcomes so far of a search that may be running in another process."""
    return _outcomes(scanned(path)[0])[0]


def _outcomes(lines: list[dict[str, Any]]) -> tuple[dict[int, Outcome], str]:
    """Outcomes by trial number, the first of each, and the session dates that the last of them
    has.
    """
    outcomes: dict[int, Outcome] = {}
    sessions, dates = "", np.empty(0, np.int64)
    for line in lines:
        if "sessions" in line:
            sessions = line["sessions"]
            dates = np.frombuffer(base64.b64decode(sessions), np.int64)
            continue
        returns = np.frombuffer(base64.b64decode(line["returns"]), np.float64)
        outcome = Outcome(
            **{name: line[name] for name in PLAIN if name in line},
            returns=returns,
            sessions=dates if line["dated"] else dates[:0],
        )
        outcomes.setdefault(outcome.number, outcome)
    return outcomes, sessions


def _text(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode()
