"""A folder of CSV files of one layout: a file per contract (MCLJ24.csv), per day or per month.

Where no column names the contract of a row, the name of a file may: as vendors and platforms write
it, with anything behind it (`MCLJ24_1min.txt`, `MCL 04-24.Last.txt`). Files without a contract in
their names are pieces of one series. Rows that two files hold alike are read once and counted; rows
that differ refuse both files by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mcl.base.errors import DataError
from mcl.base.files import files_below
from mcl.data.table import PRICES, ROW_COLUMNS, Chunk, Rows, clock
from mcl.market import symbols
from mcl.market.instruments import INSTRUMENTS, Contract

Ints = npt.NDArray[np.int64]

_TEXT, _PACKED = (".csv", ".txt", ".tsv"), ("", ".gz", ".zst", ".zip", ".bz2", ".xz")
ENDINGS = tuple(f"{text}{packed}" for text in _TEXT for packed in _PACKED)
_NOTES = re.compile(r"read.?me|licen[cs]e|changelog", re.IGNORECASE)


def files(folder: Path, pattern: str | None) -> list[Path]:
    """The CSV files below a folder in order of name, those whose name fits a pattern where there is
    one. Notes of the vendor are left alone.
    """
    every = [p for p in files_below(folder, ("",)) if p.name.lower().endswith(ENDINGS)]
    if pattern is not None:
        fitting = [p for p in every if p.match(pattern)]
    else:
        fitting = [p for p in every if not _NOTES.match(p.name)]
    if not fitting:
        names = ", ".join(p.name for p in every[:3]) or f"no file ending with {', '.join(_TEXT)}"
        fits = "" if pattern is None else f" that fits data.files={pattern}"
        raise DataError(
            f"{folder} holds no CSV{fits}: it has {names}", "set data.path or data.files"
        )
    return sorted(fitting)


def contract_in_name(path: Path, root: str, on: date) -> Contract | symbols.Kind | None:
    """The contract or spread that the name of a file begins with, Kind.OTHER for one of another
    product; None where it names none.
    """
    meaning = symbols.at_beginning(path.name, root, on)
    if meaning is not None:
        return meaning
    others = (symbols.at_beginning(path.name, other, on) for other in INSTRUMENTS)
    return symbols.Kind.OTHER if any(other is not None for other in others) else None


@dataclass(frozen=True)
class Part:
    """The rows of one file, and the numbers of their lines."""

    path: Path
    rows: Rows
    lines: Ints
    left_out: dict[str, int]


def by_contract(part: Part, sort: bool) -> Chunk:
    """The rows of one file by contract, and by time where they are to be sorted."""
    rows = part.rows
    key = (rows.ts_event, rows.contract) if sort else (rows.contract,)
    order = np.lexsort(key) if sort else np.argsort(key[0], kind="stable")
    return Chunk(rows.take(order), str(part.path), part.lines[order], part.left_out)


def in_order(parts: Sequence[Part], sort: bool) -> list[Part]:
    """The files by their first time, the rows of each by contract."""
    ordered = []
    for part in sorted(parts, key=lambda part: int(part.rows.ts_event.min())):
        chunk = by_contract(part, sort)
        ordered.append(Part(part.path, chunk.rows, np.asarray(chunk.lines), part.left_out))
    return ordered


def joined(origin: Path, parts: Sequence[Part]) -> Chunk:
    """The rows of all files by contract and time; of those that two files hold alike the first.

    DataError where two files differ in a row, and where the times of one run backwards.
    """
    for part in parts:
        _refuse_backwards(part)
    columns = {
        name: np.concatenate([getattr(part.rows, name) for part in parts]) for name in ROW_COLUMNS
    }
    file = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
    lines = np.concatenate([part.lines for part in parts])
    order = np.lexsort((file, columns["ts_event"], columns["contract"]))
    rows, file, lines = Rows(**columns).take(order), file[order], lines[order]
    counts: dict[str, int] = {}
    for part in parts:
        for cause, count in part.left_out.items():
            counts[cause] = counts.get(cause, 0) + count
    chunk = Chunk(rows, str(origin), lines, counts, file, tuple(str(p.path) for p in parts))
    return _without_overlap(chunk)


def _refuse_backwards(part: Part) -> None:
    step = np.diff(part.rows.ts_event)
    bad = np.flatnonzero((step < 0) & (np.diff(part.rows.contract) == 0))
    if len(bad):
        line = part.lines[bad[0] + 1]
        raise DataError(
            f"{part.path}, line {line}: times run backwards", "set data.format.sort=true"
        )


def _without_overlap(chunk: Chunk) -> Chunk:
    rows, file = chunk.rows, np.asarray(chunk.file)
    same = (np.diff(rows.ts_event) == 0) & (np.diff(rows.contract) == 0)
    twice = np.flatnonzero(same & (np.diff(file) != 0))
    for name in (*PRICES, "volume"):
        values = getattr(rows, name)
        equal = (values[twice] == values[twice + 1]) | (
            np.isnan(values[twice]) & np.isnan(values[twice + 1])
        )
        if not equal.all():
            _refuse_difference(chunk, int(twice[np.argmin(equal)]), name)
    if not len(twice):
        return chunk
    keep = np.ones(len(rows), np.bool_)
    keep[twice + 1] = False
    counts = chunk.left_out | {"excluded_in_two_files": len(twice)}
    lines = np.asarray(chunk.lines)[keep]
    return chunk._replace(rows=rows.take(keep), lines=lines, left_out=counts, file=file[keep])


def _refuse_difference(chunk: Chunk, row: int, name: str) -> None:
    values = getattr(chunk.rows, name)
    first, second = (f"{Path(chunk.origin_of(r)).name} {values[r]:g}" for r in (row, row + 1))
    raise DataError(
        f"{chunk.origin}: two files differ at {clock(chunk.rows.ts_event[row])}: {name} is in"
        f" {first}, in {second}",
        "keep one of them, or choose files with data.files='NAME*.csv'",
    )


def once(chunk: Chunk) -> Chunk:
    """Without the rows that repeat the one before them in every value."""
    if len(chunk.rows) < 2:
        return chunk
    rows = chunk.rows
    again = np.logical_and.reduce(
        [
            getattr(rows, name)[1:] == getattr(rows, name)[:-1]
            for name in ("contract", "ts_event", *PRICES, "volume")
        ]
    )
    keep = np.append(True, ~again)
    counts = chunk.left_out | {"excluded_identical": int(again.sum())}
    file = None if chunk.file is None else chunk.file[keep]
    lines = np.asarray(chunk.lines)[keep]
    return chunk._replace(rows=rows.take(keep), lines=lines, left_out=counts, file=file)
