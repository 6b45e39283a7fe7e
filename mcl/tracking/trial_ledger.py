"""The trial ledger: everything that was ever tried with a strategy family on a market, so that luck
can be counted.

A trial is a configuration and the code that decides with it (`identity`): repeated, it is the same
trial; with a strategy whose file was edited, another one. There is one row per attempt, of searches
(pruned and failed ones too) and of runs by hand, with its session returns. Rows are appended as
whole Parquet parts, <root>/mlruns/trials/FAMILY/MARKET/*.parquet, one new file per batch: a writer
that dies leaves nothing half written, and writers never wait for each other. Many small parts are
merged now and then; a row that a dying merger leaves twice is known by its id.

Family is the strategy's name. Market is what the prices are of, whatever the window, bar interval
or roll rule: choosing among windows is trying, too. It is the instrument, by whatever door its bars
came: a copy of a file under another name, another format or another vendor is the same market. Each
generated world is a market of its own. Trials on the very bars of a pool, by their fingerprint,
belong to it wherever they were written. `TrialPool.everywhere` is the market with all families.
"""

from __future__ import annotations

import glob
import io
import json
import math
import os
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mcl import composition
from mcl.base.errors import StoreError
from mcl.base.files import LockHeld, below, locked, write_whole
from mcl.data import sources
from mcl.metrics import overfit
from mcl.metrics.overfit import Luck
from mcl.metrics.performance import Floats, moments

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

MOST_PARTS = 200  # more small parts than these are merged by the next writer
SMALL_ROWS = 1000
# without returns: the same point again, and one that a rule kept from being simulated
NEVER_A_TRIAL = ("duplicate", "constraint")
EVERY = "*"  # all families of a market
ANY = "*"  # all markets of a family
Days = npt.NDArray[np.int64]


class TrialPool(NamedTuple):
    """Trials that compete with each other: one strategy family on one market."""

    family: str
    market: str

    @property
    def everywhere(self) -> TrialPool:
        """The market with all that was tried on it, of whatever family."""
        return TrialPool(EVERY, self.market)

    def __str__(self) -> str:
        return f"{'all strategies' if self.family == EVERY else self.family} on {self.market}"


@dataclass(frozen=True)
class Trial:
    """One row. `sessions` (days since 1970-01-01) and `returns` are empty for what was never
    simulated.
    """

    pool: TrialPool
    run_id: str
    kind: str  # hand, search
    study: str
    state: str  # COMPLETE, PRUNED, FAILED
    group: str = ""  # the sweep or grid
    reason: str = ""
    config_sha256: str = ""
    trial_sha256: str = ""  # `provenance.trial_sha256`; empty where the bars are not known
    code_sha256: str = ""  # of the code that decides; empty in rows of version 0.1
    data_fingerprint: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    sessions: Days = field(default_factory=lambda: np.empty(0, np.int64))
    returns: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def identity(self) -> str:
        """Equal for the same configuration run twice on the same bars by the same code."""
        if self.trial_sha256:
            return self.trial_sha256
        config_digest = self.config_sha256 or composition.digest(
            [*self.pool, {k: str(v) for k, v in self.params.items()}]
        )
        return identity(config_digest, self.code_sha256)


def identity(config_sha256: str, code_sha256: str) -> str:
    """Of a trial. One of version 0.1 knows no code, and is its configuration alone."""
    return composition.digest([config_sha256, code_sha256]) if code_sha256 else config_sha256


def stored_identity(tags: Mapping[str, str]) -> str:
    """Of a stored run, by its tags. A run of version 0.1 has none for it, and stands in the ledger
    by its configuration.
    """
    return tags.get("trial_sha256") or tags["config_sha256"]


@dataclass(frozen=True)
class Tally:
    """The distinct trials of one pool. `sharpes` per session, of those that have one, by
    identity.
    """

    pool: TrialPool
    sharpes: Mapping[str, float]

    @property
    def count(self) -> int:
        return len(self.sharpes)

    @cached_property
    def finite_sharpes(self) -> Floats:
        values = np.fromiter(self.sharpes.values(), np.float64, len(self.sharpes))
        return values[np.isfinite(values)]

    def luck(self, measured: Mapping[str, float]) -> Luck:
        """The deflation of a result of this pool by all its trials, counted now. `measured` as for
        `overfit.luck`.
        """
        return overfit.luck(
            self.finite_sharpes,
            self.count,
            measured,
            str(self.pool),
            f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        )

    def threshold(self, observations: int) -> float:
        """The Sharpe ratio per session that the best of all trials would show by luck alone over so
        many sessions.
        """
        return overfit.deflated_threshold(
            max(1, self.count), overfit.luck_variance(self.finite_sharpes, observations)
        )

    def deflated(self, measured: Mapping[str, float]) -> float:
        """The deflated Sharpe ratio of such a result, a probability."""
        return self.luck(measured).deflated


def trial_pool(flat: Mapping[str, Any]) -> TrialPool | None:
    """Return the pool of a run from its flat parameters (`strategy.name`, `data.source` …); None
    where they do not say it.
    """
    source, family = flat.get("data.source"), flat.get("strategy.name")
    if source is None or family is None:
        return None
    instrument = str(flat.get("data.instrument"))
    if not _is_generated(str(source)):
        return TrialPool(str(family), instrument)
    values = {k.removeprefix("data."): v for k, v in flat.items() if k.startswith("data.")}
    facts = [values.get(key) for key in sources.BY_NAME[source].identity(values)]
    words = (f"{fact:g}" if isinstance(fact, float) else str(fact) for fact in facts)
    return TrialPool(str(family), " ".join([instrument, str(source), *words]))


def market_of(name: str) -> str:
    """The market that rows of any version name: older ones told the doors of a market apart, as in
    `MCL databento MCL.FUT` and `MCL csv bars.csv`.
    """
    instrument, _, rest = name.partition(" ")
    return name if _is_generated(rest.partition(" ")[0]) else instrument


def _is_generated(source: str) -> bool:
    return source in sources.BY_NAME and sources.BY_NAME[source].generated


def append(root: Path, trials: Sequence[Trial]) -> None:
    """Add rows; all of them are on disk afterwards, or a StoreError says why."""
    by_pool: dict[TrialPool, list[Trial]] = {}
    for trial in trials:
        by_pool.setdefault(trial.pool, []).append(trial)
    for where, rows in by_pool.items():
        folder = _folder(root, where)
        write_whole(folder / _part_name(), _encoded(_table(rows)))
        _merge(folder)


def tally(root: Path, where: TrialPool, including: Mapping[str, float] | None = None) -> Tally:
    """Every distinct trial of a pool; `including` adds trials (identity to Sharpe ratio per
    session) that are not written yet.

    Of a trial that was repeated the newest ratio counts: its data may have grown.
    """
    own = _folders(root, where)
    parts = [part for folder in own for part in _refreshed(folder).values()]
    bars = {score.bars for part in parts for score in part.values()} - {""}
    for folder in _folders_elsewhere(root, where, own):
        parts += [_on_bars(part, bars) for part in _refreshed(folder).values()]
    newest: dict[str, Score] = {}
    for part in parts:
        for key, score in part.items():
            if key not in newest or score > newest[key]:
                newest[key] = score
    return Tally(where, {key: score.ratio for key, score in newest.items()} | dict(including or {}))


def _on_bars(part: Mapping[str, Score], bars: set[str]) -> dict[str, Score]:
    return {key: score for key, score in part.items() if score.bars in bars}


def rows(root: Path, where: TrialPool | None = None, *, returns: bool = False) -> pd.DataFrame:
    """The ledger as a table, oldest first, every row once; with `returns` also its session returns
    as lists.
    """
    import pandas as pd

    heavy = {"session", "return_frac"}
    folders = _folders(root, where)
    columns = None if returns else [n for n in _names() if n not in heavy]
    try:
        frames = [_read(p, columns) for folder in folders for p in _parts(folder)]
        elsewhere = _folders_elsewhere(root, where, folders)
        others = [_read(p, columns) for folder in elsewhere for p in _parts(folder)]
    except FileNotFoundError:  # merged meanwhile: the rows are in a newer part
        return rows(root, where, returns=returns)
    if not frames:
        return pd.DataFrame(columns=[n for n in _names() if returns or n not in heavy])
    bars = {name for frame in frames for name in frame["data_fingerprint"].unique()} - {""}
    frames += [frame[frame["data_fingerprint"].isin(bars)] for frame in others]
    whole = pd.concat(frames).drop_duplicates("row_id")
    whole["market"] = whole["market"].map(market_of)
    return whole.sort_values(["at", "row_id"], kind="stable").reset_index(drop=True)


def distinct(frame: pd.DataFrame) -> pd.DataFrame:
    """Of rows of the ledger those that are trials, each once: its newest row, but one with returns
    before one without.
    """
    counted = frame[~frame["reason"].isin(NEVER_A_TRIAL) | (frame["observations"] > 0)]
    ordered = counted.assign(simulated=counted["observations"] > 0).sort_values(
        ["simulated", "at", "row_id"], kind="stable"
    )
    last = ordered.drop_duplicates("identity", keep="last").drop(columns="simulated")
    return last.sort_values(["at", "row_id"], kind="stable").reset_index(drop=True)


def beyond(root: Path, where: TrialPool, day: date) -> int:
    """Count the distinct trials of a pool with sessions from `day` on: others may have looked at a
    hold-out.
    """
    frame = rows(root, where, returns=True)
    edge = int(np.datetime64(day, "D").astype(np.int64))
    overlaps = [len(session) > 0 and int(session[-1]) >= edge for session in frame["session"]]
    return int(frame[np.array(overlaps, bool)]["identity"].nunique())


def matrix(frame: pd.DataFrame) -> tuple[Days, Floats]:
    """(sessions, returns as a sessions × trials matrix) of the rows that have returns; a session
    that a trial lacks is NaN.
    """
    simulated = [
        (s, r) for s, r in zip(frame["session"], frame["return_frac"], strict=True) if len(r)
    ]
    days = (
        np.unique(np.concatenate([s for s, _ in simulated])).astype(np.int64)
        if simulated
        else np.empty(0, np.int64)
    )
    out = np.full((len(days), len(simulated)), np.nan)
    for column, (session, values) in enumerate(simulated):
        out[np.searchsorted(days, session), column] = values
    return days, out


# -------------------------------------------------------------------------------------------- files


class Score(NamedTuple):
    """Of one row; the largest is the newest one that has a ratio."""

    has_ratio: bool
    at: int
    ratio: float
    bars: str  # their fingerprint


# folder -> part -> identity -> score: a part never changes
_scores: dict[Path, dict[str, dict[str, Score]]] = {}


def _home(root: Path) -> Path:
    return root / "mlruns" / "trials"


def _folder(root: Path, where: TrialPool) -> Path:
    return below(_home(root), where.family, _market_folder(where.market))


def _market_folder(market: str) -> str:
    slug = re.sub(r"[^\w.=-]+", "_", market)
    return f"{slug}-{composition.digest(market)[:8]}"


def _folders(root: Path, where: TrialPool | None) -> list[Path]:
    """Return the folders of a pool, those of older versions among them; of a whole market those of
    every family, and without a pool all that there are.
    """
    family = "*" if where is None or where.family == EVERY else glob.escape(where.family)
    folders = sorted(folder for folder in _home(root).glob(f"{family}/*") if folder.is_dir())
    if where is None:
        return folders
    return [folder for folder in folders if _is_of(folder.name, where.market)]


def _folders_elsewhere(root: Path, where: TrialPool | None, own: Sequence[Path]) -> list[Path]:
    """The folders of other markets in which trials on the same bars may be."""
    if where is None:
        return []
    return [f for f in _folders(root, TrialPool(where.family, ANY)) if f not in own]


def _is_of(folder: str, market: str) -> bool:
    if market == ANY or folder == _market_folder(market):
        return True
    # of an older version, which had a folder for each door
    instrument, _, rest = folder.rpartition("-")[0].partition("_")
    return instrument == market and not any(
        rest == name or rest.startswith(f"{name}_")
        for name, source in sources.BY_NAME.items()
        if source.generated
    )


def _part_name() -> str:
    return f"{time.time_ns()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.parquet"


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def _refreshed(folder: Path) -> dict[str, dict[str, Score]]:
    """Identities and ratios of every part; only parts that are new since the last call are read."""
    cached = _scores.setdefault(folder, {})
    present = {path.name: path for path in _parts(folder)}
    for name in cached.keys() - present.keys():
        del cached[name]
    for name in present.keys() - cached.keys():
        try:
            part = distinct(_read(present[name], _SCORED))
        except FileNotFoundError:  # merged meanwhile: its rows are in a newer part
            return _refreshed(folder)
        scores = zip(
            part["identity"],
            part["at"].astype("int64"),
            part["sharpe"].astype(float),
            part["data_fingerprint"],
            strict=True,
        )
        cached[name] = {
            key: Score(not math.isnan(ratio), int(at), ratio, str(bars))
            for key, at, ratio, bars in scores
        }
    return cached


_SCORED = (
    *("row_id", "at", "identity", "sharpe", "observations", "reason"),
    "data_fingerprint",
)


def _merge(folder: Path) -> None:
    """Replace many small parts by one. Whoever dies between writing and deleting leaves rows twice,
    with the same id.
    """
    if len(_parts(folder)) <= MOST_PARTS:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with locked(folder / "merge.lock"):
            small = [
                path for path in _parts(folder) if pq.read_metadata(path).num_rows < SMALL_ROWS
            ]
            if len(small) < 2:
                return
            write_whole(folder / _part_name(), _encoded(pa.concat_tables(map(_whole, small))))
            for path in small:
                path.unlink()
    except LockHeld:
        return  # somebody else is at it


def _read(path: Path, columns: Iterable[str] | None) -> pd.DataFrame:
    frame: pd.DataFrame = _whole(path, None if columns is None else list(columns)).to_pandas()
    return frame


def _whole(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of a part in today's columns; what a part of an older version lacks is empty
    text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    wanted = schema.names if columns is None else columns
    try:
        table = pq.ParquetFile(path).read(columns=wanted)
    except pa.ArrowInvalid as error:
        raise StoreError(
            f"{path} is not a part of the trial ledger: {error}",
            "restore it from a backup; deleting it hides trials",
        ) from None
    for name in set(wanted) - set(table.column_names):
        table = table.append_column(name, pa.array([""] * len(table), pa.string()))
    return table.select(wanted).cast(pa.schema([schema.field(name) for name in wanted]))


def _table(trials: Sequence[Trial]) -> pa.Table:
    import pyarrow as pa

    at, batch = datetime.now(UTC), uuid.uuid4().hex[:16]
    return pa.Table.from_pylist(
        [_row(trial, at, f"{batch}-{i:06d}") for i, trial in enumerate(trials)], schema=_schema()
    )


def _row(trial: Trial, at: datetime, row_id: str) -> dict[str, Any]:
    m = moments(trial.returns)
    return {
        "row_id": row_id,
        "at": at,
        "writer": os.getpid(),
        "family": trial.pool.family,
        "market": trial.pool.market,
        "run_id": trial.run_id,
        "group": trial.group,
        "study": trial.study,
        "kind": trial.kind,
        "state": trial.state,
        "reason": trial.reason,
        "identity": trial.identity,
        "config_sha256": trial.config_sha256,
        "code_sha256": trial.code_sha256,
        "data_fingerprint": trial.data_fingerprint,
        "params": json.dumps(dict(trial.params), default=str),
        "observations": m.count,
        "sharpe": m.sharpe,
        "skew": m.skew,
        "kurtosis": m.kurtosis,
        "session": np.asarray(trial.sessions, np.int32),
        "return_frac": trial.returns,
    }


def _schema() -> pa.Schema:
    import pyarrow as pa

    text = (
        "family",
        "market",
        "run_id",
        "group",
        "study",
        "kind",
        "state",
        "reason",
        "identity",
        "config_sha256",
        "code_sha256",
        "data_fingerprint",
        "params",
    )
    numbers = ("sharpe", "skew", "kurtosis")
    return pa.schema(
        [
            ("row_id", pa.string()),
            ("at", pa.timestamp("us", tz="UTC")),
            ("writer", pa.int64()),
            *((name, pa.string()) for name in text),
            ("observations", pa.int64()),
            *((name, pa.float64()) for name in numbers),
            ("session", pa.list_(pa.int32())),
            ("return_frac", pa.list_(pa.float64())),
        ]
    )


def _names() -> list[str]:
    return list(_schema().names)


def _encoded(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
