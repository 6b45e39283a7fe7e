"""Split sessions into those to choose on and those to judge on.

Pure index arithmetic on sessions 0 … n-1.

Sources: López de Prado (2018) "Advances in Financial Machine Learning", chapters 7 (purging) and 12
(combinatorial purged cross-validation, CPCV).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

from mcl.base.errors import ConfigError
from mcl.base.words import many

Rows = npt.NDArray[np.int64]
Days = npt.NDArray[np.datetime64]
LENGTH = re.compile(r"(?P<count>[1-9]\d{0,3}) (?P<unit>session|month|quarter|year)s?")
MONTHS = {"month": 1, "quarter": 3, "year": 12}


@dataclass(frozen=True)
class Split:
    """Hold two sets of sessions: `train` overlaps neither `test` nor the purged sessions next to
    it.
    """

    train: Rows
    test: Rows


def walk_forward(
    n: int, folds: int, *, purge: int = 0, train_folds: int | None = None
) -> list[Split]:
    """Split the sessions into `folds` + 1 equal parts and judge each part by the parts before it.

    The last `purge` sessions before a part are used for nothing.

    Anchored when `train_folds` is None: the choice sees everything before. Rolling: only the last
    `train_folds` parts. Sessions that do not fill the parts go to the first one, so that the tests
    end with the data. Train always lies before test.
    """
    size = n // (folds + 1)
    if size < 1 or size <= purge:
        raise ConfigError(
            f"{many(n, 'session')} do not make {folds} folds with"
            f" {many(purge, 'purged session')}: need at least {(folds + 1) * (purge + 1)}",
            f"at most {max(1, n // (purge + 1) - 1)} folds",
        )
    splits = []
    for k in range(folds):
        start = n - (folds - k) * size
        first = 0 if train_folds is None else max(0, start - train_folds * size)
        splits.append(Split(np.arange(first, start - purge), np.arange(start, start + size)))
    return splits


@dataclass(frozen=True)
class Length:
    """Hold a span of time in sessions, months, quarters or years, as in `Length.parsed("6
    months")`.
    """

    count: int
    unit: str

    @classmethod
    def parsed(cls, text: str) -> Length:
        """Read the text of a length. ConfigError when it is none."""
        match = LENGTH.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"{text!r} is no length of a window",
                "such as 20 sessions, 6 months, 1 quarter or 2 years",
            )
        return cls(int(match["count"]), match["unit"])

    @property
    def months(self) -> int:
        return self.count * MONTHS[self.unit]

    def __str__(self) -> str:
        return many(self.count, self.unit)


def windows(
    days: Days,
    *,
    train: Length,
    test: Length,
    purge: int = 0,
    anchored: bool = True,
    short_last: bool = True,
) -> list[Split]:
    """Return walk-forward windows of a free length, each after the one before.

    days        dates of the sessions, ascending
    train       length that the rolling choice looks back. The anchored choice sees everything, and
                this much at least
    test        length of a test. Windows of months, quarters or years begin on their calendar's
                first day
    short_last  keep a last window that the data do not fill

    ConfigError when no window fits. A window without a session is left out.
    """
    edges = _edges(days, train, test)
    splits = []
    for first, start, stop, whole in edges:
        if not (whole or short_last):
            continue
        rows = np.arange(start, stop)
        choice = np.arange(0 if anchored else first, max(0, start - purge))
        if len(rows) and len(choice) > purge:
            splits.append(Split(choice, rows))
    if not splits:
        raise ConfigError(
            f"{len(days)} sessions hold no window of {test} after {train}",
            "shorten search.train_length or search.test_length"
            + ("" if short_last else ", or keep a short last window"),
        )
    return splits


def _edges(days: Days, train: Length, test: Length) -> Iterator[tuple[int, int, int, bool]]:
    """Yield of each window the first row of its training, its first row, the row after its last,
    and whether the data fill it.
    """
    if (train.unit == "session") != (test.unit == "session"):
        raise ConfigError(
            f"windows of {test} after {train} mix sessions with the calendar",
            "give both in sessions, or neither",
        )
    if not len(days):
        return
    if test.unit == "session":
        for start in range(train.count, len(days), test.count):
            yield (
                start - train.count,
                start,
                min(len(days), start + test.count),
                start + test.count <= len(days),
            )
        return
    grid = MONTHS[test.unit]
    month = days.astype("datetime64[M]").astype(np.int64)
    # the first two weekdays of a month may be holidays
    begins_within = days[0] > np.busday_offset(
        days[0].astype("datetime64[M]").astype("datetime64[D]"), 2, roll="forward"
    )
    at = int(month[0]) + begins_within + train.months
    at += -at % grid
    last = int(
        np.busday_offset(days[-1], 3, roll="forward").astype("datetime64[M]").astype(np.int64)
    )
    while at <= month[-1]:
        first, start, stop = np.searchsorted(month, [at - train.months, at, at + test.months])
        yield int(first), int(start), int(stop), last >= at + test.months
        at += test.months


def sessions_of_tested_positions(
    tested: npt.NDArray[np.bool_], positions: Rows
) -> npt.NDArray[np.bool_]:
    """Mark the sessions of every position that was open in a tested session too.

    `positions` has one row per position: its first and its last session.
    """
    counted = np.concatenate([[0], np.cumsum(tested)])
    touching = positions[counted[positions[:, 1] + 1] > counted[positions[:, 0]]]
    steps = np.zeros(len(tested) + 1, np.int64)
    np.add.at(steps, touching[:, 0], 1)
    np.add.at(steps, touching[:, 1] + 1, -1)
    return np.cumsum(steps)[:-1] > 0


def combinatorial(
    n: int,
    folds: int,
    tests: int,
    *,
    purge: int = 0,
    embargo: int = 0,
    positions: Rows | None = None,
) -> list[Split]:
    """Return the splits of combinatorial purged cross-validation (CPCV).

    Every choice of `tests` of `folds` contiguous parts is judged once: C(folds, tests) splits in
    lexicographic order.

    purge      sessions on both sides of each contiguous test block that are used for nothing
    embargo    further sessions after each test block: what follows it remembers it
    positions  (positions × 2) first and last session of each position. Its other sessions are used
               for nothing where one is tested

    Sessions that do not fill the parts go to the last one.
    """
    size = n // folds
    if not 1 <= tests < folds or size <= 2 * purge + embargo:
        raise ConfigError(
            f"{many(n, 'session')} do not make {folds} folds of which {tests} are tested, with"
            f" {purge} purged: need 1 <= tests < folds and more than {2 * purge + embargo} sessions"
            " a fold",
            "fewer validate.cpcv_folds",
        )
    part = np.minimum(np.arange(n) // size, folds - 1)
    splits = []
    for chosen in combinations(range(folds), tests):
        tested = np.isin(part, chosen)
        near = tested.copy()
        for k in range(1, purge + embargo + 1):
            near[k:] |= tested[:-k]
        for k in range(1, purge + 1):
            near[:-k] |= tested[k:]
        if positions is not None and len(positions):
            near |= sessions_of_tested_positions(tested, positions)
        splits.append(Split(np.flatnonzero(~near), np.flatnonzero(tested)))
    return splits


def path_ids(folds: int, tests: int) -> Rows:
    """Return the number of the path of each tested part, splits × tests.

    It is the number of earlier splits that test the same part.
    """
    tests_so_far = [0] * folds
    ids = np.empty((comb(folds, tests), tests), np.int64)
    for row, chosen in enumerate(combinations(range(folds), tests)):
        for column, fold in enumerate(chosen):
            ids[row, column] = tests_so_far[fold]
            tests_so_far[fold] += 1
    return ids


def paths(folds: int, tests: int) -> int:
    """Return the number of complete paths. Each covers every session once."""
    return comb(folds - 1, tests - 1)
