"""`Source`: one kind of raw market data, and what the project must know of it.

A source is a file of `mcl/data/sources` with the model of its config, the functions that find and
read its files, and one object of this class in the registry there. The schema of a config, the
loader, the trial ledger, the documents and the tests walk over the registry.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from mcl.base.errors import DataError, nearest
from mcl.config import schema
from mcl.config.base_model import Strict
from mcl.data import conventions
from mcl.data.conventions import Stated
from mcl.data.table import Chunk, Rows, Table, no_statistics
from mcl.market import calendar
from mcl.market.calendar import DAY_NS, from_day, session_of
from mcl.market.instruments import Contract, Instrument

Model = TypeVar("Model", bound=schema.DataCommon)
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Keys = tuple[str, ...]
LONGEST_PART, LONGEST_PATH = 255, 4095  # bytes, as file systems have it


@dataclass(frozen=True)
class Raw:
    """Raw input that exists on disk: what the dataset is called, its files below `base`, how they
    are read, and the reader. The dataset is stored below `home` of the project folder.
    `other_intervals` are those of other bars there, which `data.stored_interval` may choose.
    """

    label: str
    base: Path
    files: list[Path]
    request: dict[str, Any]
    table: Callable[[], Table]
    home: str = "data"
    other_intervals: Keys = ()


@dataclass(frozen=True)
class Source(Generic[Model]):
    """One kind of raw market data.

    model      its keys below `data.` in a config; the literal of `source` is its name
    raw        the raw input of a config of this model, relative to a project folder
    identity   of generated prices the keys that tell one world from another in the trial ledger,
               from the values of all keys. Of market data the instrument alone is the market.
    needs      the keys that only the user knows
    books      the folder or file in which the order books of a config lie; None for a source that
               has none. Those of a generated world are made when they are wanted.
    generated  whether its prices are made by a program and never a market's
    extend     continues its table with a newer file for one project folder, and says what was added
    correction the cure where its bars contradict the conventions of the project and none of its
               keys can change how they are read
    """

    model: type[Model]
    raw: Callable[[Model, Path], Raw]
    identity: Callable[[Mapping[str, Any]], Keys] = lambda _: ()
    needs: Keys = ()
    books: Callable[[Model, Path], Path] | None = None
    generated: bool = False
    extend: Callable[[Path, Path], dict[str, Any]] | None = None
    correction: str = "correct the files or their reader: a bar has the UTC time of its open"

    @property
    def name(self) -> str:
        name: str = get_args(self.model.model_fields["source"].annotation)[0]
        return name

    def measured_raw(self, data: Model, root: Path) -> Raw:
        """The raw input of a config, whose rows are compared with the conventions that it states
        while they pass.
        """
        raw = self.raw(data, root)
        accept = {"accept": sorted(data.accept)} if data.accept else {}
        table = partial(self._measured, data, raw.table)
        return replace(raw, table=table, request=raw.request | accept)

    def _measured(self, data: Model, table: Callable[[], Table]) -> Table:
        rows = table()
        return conventions.measured(rows, self.stated(data, rows))

    def stated(self, data: Model, table: Table) -> Stated:
        """The conventions that a config states of its table; opens of bars in UTC where the source
        has no keys for them.
        """
        absolute = table.facts.get("absolute_times", True)
        zone = None if absolute else getattr(data, "timezone", None)
        stamped_at = getattr(data, "stamped_at", None) or "open"
        keys = frozenset(_keys(self.model))
        return Stated(stamped_at, zone, data.accept, keys, self.correction)


def _keys(model: type[Strict], prefix: str = "") -> Iterator[str]:
    """The dotted names of the keys of a model and of those inside it."""
    for name, item in model.model_fields.items():
        yield f"{prefix}{name}"
        kind = item.annotation
        if isinstance(kind, type) and issubclass(kind, Strict):
            yield from _keys(kind, f"{prefix}{name}.")


def bar_table(
    of: Instrument,
    interval: str,
    *,
    contracts: Sequence[Contract],
    contract: Ints,
    ts_event: Ints,
    prices: Mapping[str, Floats],
    volume: Ints,
    origin: str,
    facts: dict[str, Any],
) -> Table:
    """Return the table of bars that lie in memory, for a source without statistics: the volume of a
    session is the sum of its bars.

    contracts  the dated contracts, in any order; contract: the index into them of each row
    ts_event   the open of each bar, ns UTC; the rows of one contract in order of time
    prices     open, high, low and close in price units; volume in contracts
    """
    rank = sorted(range(len(contracts)), key=lambda i: contracts[i].last_trade_date)
    dated = tuple(contracts[i] for i in rank)
    index = np.argsort(rank)[contract].astype(np.int64)
    order = np.argsort(index, kind="stable")
    first, last = (from_day(int(t // DAY_NS)) for t in (ts_event.min(), ts_event.max()))
    beyond = max(last, dated[-1].last_trade_date) + timedelta(days=31)
    sessions = calendar.sessions(first - timedelta(days=7), beyond, of.symbol)
    rows = Rows(index, ts_event, session_of(ts_event), **prices, volume=volume).take(order)
    return Table(
        instrument=of,
        interval=interval,
        contracts=dated,
        listed_at=np.zeros(len(dated), np.int64),
        calendar=sessions,
        chunks=lambda: iter([Chunk(rows, origin)]),
        statistics=no_statistics(),
        synthetic=False,
        origin=origin,
        sums_volume=True,
        facts=facts,
    )


def plain_label(text: str) -> str:
    """A file may be called anything; what is made of it has a plain name."""
    return re.sub(r"[^\w .,+=@-]", "_", text)[:60]


def existing_path(path: str, root: Path, *, folder: bool | None = None) -> Path:
    """Find `path` below the project folder, or from the working directory. DataError with the
    nearest name there is.

    `folder` says what it has to be: True a folder, False a file, None either. A pipe or a device is
    neither.
    """
    _refuse_unusable(path)
    candidates = (root / path, Path(path).absolute())
    target = next((p for p in candidates if p.exists()), None)
    if target is not None:
        _refuse_kind(target, path, folder)
        return target
    parent = next((p for p in candidates[0].parents if p.is_dir()), root)
    missing = candidates[0].relative_to(parent).parts[0]
    names = [p.name for p in parent.iterdir() if not p.name.startswith(".")]
    clause = nearest(missing, names)
    holding = clause if clause.endswith("?") else f"in {parent}: {clause.removeprefix('valid: ')}"
    raise DataError(f"there is no {candidates[0]}; {holding}", "set data.path")


def _refuse_unusable(path: str) -> None:
    """DataError for what no file system can have."""
    if not path.strip():
        raise DataError("data.path is empty", "set data.path=FILE")
    longest = max(len(os.fsencode(part)) for part in path.split("/"))
    if longest > LONGEST_PART or len(os.fsencode(path)) > LONGEST_PATH:
        problem = f"data.path={path[:40]}… has {len(path):,} characters"
        raise DataError(
            f"{problem}: a name has at most {LONGEST_PART} bytes, a path {LONGEST_PATH:,}",
            "set data.path",
        )


def _refuse_kind(target: Path, path: str, folder: bool | None) -> None:
    if not target.is_file() and not target.is_dir():
        raise DataError(
            f"data.path={path} is a pipe, a device or a socket, not a file",
            "copy its content into a file",
        )
    if folder is False and target.is_dir():
        names = sorted(p.name for p in target.iterdir() if p.is_file())[:5]
        raise DataError(
            f"data.path={path} is a folder, not a file",
            f"name one of its files: {', '.join(names) or 'it has none'}",
        )
    if folder is True and target.is_file():
        raise DataError(f"data.path={path} is a file, not a folder", "name its folder")
