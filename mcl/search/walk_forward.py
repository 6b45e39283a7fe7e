"""Walk-forward optimisation: search anew before each part of the sessions, trade the part with what
was found, stitch the parts to one run.

Each fold is a sweep of its own (resumable, tracked, counted by the trial ledger) on the sessions
before its part; later bars do not exist for it, since its fence stands where its sessions end. The
parts are then traded in one simulation: the plan of each part comes from the values found for it,
with indicators warmed up on what lies before, while position, equity and limits go on over the
border between two parts as they would for a person who changes the values that night.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcl import composition, metrics
from mcl.base.errors import ConfigError, StoreError
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.data.synthetic.watermark import watermark
from mcl.engine import backtest as engine
from mcl.engine.plan import joined
from mcl.engine.result import Result
from mcl.metrics import folds
from mcl.metrics import performance as perf
from mcl.metrics.overfit import Luck
from mcl.risk.gates import gates
from mcl.search import runner
from mcl.search import sweep_dir as places
from mcl.search.progress import Board, Progress
from mcl.search.result import Swept, abandon
from mcl.search.snapshot import Frozen, freeze, parent, thaw
from mcl.search.space import overlay
from mcl.search.sweep_dir import Place
from mcl.search.trial import Outcome
from mcl.strategy import build
from mcl.tracking import backtest_run, provenance, trial_ledger, urls
from mcl.tracking.store import Record, Status, Store

if TYPE_CHECKING:
    import pandas as pd

KIND = "walk_forward"
# what may differ from part to part: all of it is in the plan
PLANNED = ("strategy.", "risk.size.", "risk.protection.")
BEAT_SEC = 1.0


@dataclass(frozen=True)
class Walk:
    """A walk-forward search. `folds`: one row per part: its sessions, the sweep, the values found,
    Sharpe in and out of sample.

    `metrics` are those of the stitched out-of-sample run, which is the run `sweep_id` itself; empty
    when it is not finished.
    """

    sweep_id: str
    title: str
    folds: pd.DataFrame
    keys: list[str]
    states: dict[str, int]  # trials of all folds
    metrics: dict[str, float]
    report: Path | None
    status: Status = "FINISHED"
    why: str = ""
    watermark: str = ""

    @property
    def interrupted(self) -> bool:
        return self.status == "KILLED"


@dataclass(frozen=True)
class Part:
    """One fold: the dates of its sessions, the rows that it trades, and what its search found
    (nothing: it stays flat).
    """

    number: int
    searched: tuple[str, str]  # first session, first session that is left out
    traded: tuple[str, str]
    rows: tuple[int, int]
    sweep_id: str = ""
    best: dict[str, Any] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, Any]:
        found: dict[str, Any] = self.best.get("params", {})
        return found


def sweep(composed: composition.Composed, *, store: Store, root: Path, progress: Progress) -> Walk:
    """Search and trade every part; ConfigError before anything is recorded, errors later as in
    `core.sweep`.
    """
    frozen = freeze(composed, root)
    parts(frozen)
    walk_id = store.start(_parent(frozen))
    place = Place(runner.folder(store), walk_id)
    with place.claimed():
        _introduce(place, frozen)
        return _Walking(frozen, place, store, root, progress).run()


def resume(
    named: str,
    *,
    store: Store,
    root: Path,
    trials: int | None = None,
    amendments: Sequence[str] = (),
    progress: Progress,
) -> Walk:
    """Go on where it ended; with `trials` every fold's search is extended to so many, and the parts
    are traded again.
    """
    place = places.find(runner.folder(store), named)
    with place.claimed():
        card = place.card()
        frozen = thaw(
            store.run(place.sweep_id), root, max(trials or 0, card["target"]), list(amendments)
        )
        _introduce(place, frozen, card)
        store.reopen(place.sweep_id, _title(frozen))
        return _Walking(frozen, place, store, root, progress, tuple(amendments), trials).run()


def report(place: Place, store: Store) -> Walk:
    """What a walk-forward search has come to, from its stored run."""
    stored = store.run(place.sweep_id)
    if not (stored.artifacts / "folds.parquet").is_file():
        raise StoreError(
            f"walk-forward search {stored.run_id[:12]} has no stitched run yet",
            f"mcl sweep resume {stored.run_id[:12]}",
        )
    import pandas as pd

    frame = pd.read_parquet(io.BytesIO(stored.file("folds.parquet")))
    states: dict[str, int] = json.loads(stored.tags.get("states", "{}"))
    page, keys = stored.artifacts / "report.html", [str(name) for name in frame if "." in str(name)]
    shown = backtest_run.today(stored, backtest_run.luck_of(stored, store.root))
    return Walk(
        stored.run_id,
        stored.name,
        frame,
        keys,
        states,
        shown,
        page,
        watermark=stored.tags.get("watermark", ""),
    )


def parts(frozen: Frozen) -> list[Part]:
    """The folds of a search. ConfigError when the sessions are too few, or when an axis lies
    outside the plan.
    """
    search, bars = frozen.search, frozen.bars
    for key in frozen.space:
        if not key.startswith(PLANNED):
            raise ConfigError(
                f"search.space.{key} cannot differ from part to part of a walk-forward search: it"
                f" may vary {', '.join(PLANNED)} only",
                "fix its value, or search it without search.walk_forward",
            )
    firsts = np.flatnonzero(np.diff(bars.session, prepend=bars.session[0] - 1))
    edges, days = (
        [*firsts.tolist(), len(bars)],
        [*bars.session[firsts].tolist(), int(bars.session[-1]) + 1],
    )
    splits = _splits(search, bars.session[firsts].astype("datetime64[D]"))

    def dates(rows: folds.Rows) -> tuple[str, str]:
        return _date(days[rows[0]]), _date(days[rows[-1] + 1])

    return [
        Part(
            number,
            dates(split.train),
            dates(split.test),
            (edges[split.test[0]], edges[split.test[-1] + 1]),
        )
        for number, split in enumerate(splits, 1)
    ]


def _splits(search: schema.Search, days: folds.Days) -> list[folds.Split]:
    """Equal folds, or windows of the calendar where their lengths are given."""
    anchored = search.walk_forward == "anchored"
    if search.test_length is None or search.train_length is None:
        window = None if anchored else search.train_folds
        return folds.walk_forward(
            len(days), search.folds, purge=search.purge_sessions, train_folds=window
        )
    return folds.windows(
        days,
        train=folds.Length.parsed(search.train_length),
        test=folds.Length.parsed(search.test_length),
        purge=search.purge_sessions,
        anchored=anchored,
        short_last=search.short_last,
    )


def stitched(frozen: Frozen, done: Sequence[Part]) -> Result:
    """The parts traded one after the other in one simulation, each with its own values; a part
    without values stays flat.
    """
    bars, run = frozen.bars, frozen.run
    first, last = done[0].rows[0], done[-1].rows[1]
    plan = joined(
        [_plan(frozen, part, bars.rows(0, part.rows[1])).rows(*part.rows) for part in done]
    )
    return engine.simulate(
        bars.rows(first, last), plan, run.risk.limits, run.costs, run.capital_usd, run.execution
    )


def _plan(frozen: Frozen, part: Part, bars: Bars) -> engine.Plan:
    """Of bars that end with the part. A roll at the next open is known before it: the gates are
    those of all bars.
    """
    if not part.params:
        nothing = np.zeros(len(bars))
        return engine.Plan(nothing, np.empty(0), np.empty(0))
    run = composition.run_config(overlay(frozen.composed.raw, part.params))
    planned = engine.plan(bars, build(run.strategy), run.risk, run.capital_usd)
    return replace(planned, gate=gates(frozen.bars, run.risk.limits)[: len(bars)])


@dataclass
class _Walking:
    """One process's part in a walk-forward search."""

    frozen: Frozen
    place: Place
    store: Store
    root: Path
    progress: Progress
    amendments: tuple[str, ...] = ()
    trials: int | None = None  # asked for by an extension

    def run(self) -> Walk:
        study, walk_id = self.frozen.run.study, self.place.sweep_id
        states: dict[str, int] = {}
        done: list[Part] = []
        try:
            begun = self._begun()
            for part in parts(self.frozen):
                swept = self._searched(part, begun.get(part.number))
                states = {
                    state: states.get(state, 0) + swept.states.get(state, 0)
                    for state in states | swept.states
                }
                if swept.interrupted or swept.status == "FAILED":
                    return self._ended(swept, done, states)
                done.append(replace(part, sweep_id=swept.sweep_id, best=swept.best or {}))
            return self._finished(done, states)
        except BaseException as error:
            # the store may be what failed; the first error is the one to tell
            with suppress(StoreError):
                self.place.beat(
                    self.place.status()
                    | {"status": "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"}
                )
                abandon(self.store, study, walk_id, error)
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(f"mcl sweep resume {walk_id[:12]} goes on") from None
            raise

    def _begun(self) -> dict[int, str]:
        """The sweeps that an earlier process began, by fold."""
        children = [run for run in self.store.children(self.place.sweep_id) if "fold" in run.tags]
        return {
            int(run.tags["fold"]): run.run_id
            for run in children
            if Place(self.place.folder, run.run_id).file("card").exists()
        }

    def _searched(self, part: Part, begun: str | None) -> Swept:
        """The sweep of one fold: run, resumed, or only read again where it is finished."""
        count = len(parts(self.frozen))
        shown = _Beating(self.progress, self.place, part.number, count)
        if begun is None:
            typed = [
                *self.frozen.composed.overrides,
                *self.amendments,
                *_window(part),
                f"search.trials={self.frozen.search.trials}",
            ]
            return runner.sweep(
                composition.compose("sweep", typed),
                store=self.store,
                root=self.root,
                progress=shown,
                above=self.place,
                tags={"fold": str(part.number)},
            )
        target = Place(self.place.folder, begun).card()["target"]
        more = (
            self.trials
            if self.trials and self.trials > target and self.frozen.search.sampler != "grid"
            else None
        )
        amendments = list(self.amendments)
        return runner.resume(
            begun,
            store=self.store,
            root=self.root,
            trials=more,
            amendments=amendments,
            progress=shown,
            above=self.place,
        )

    def _ended(self, swept: Swept, done: list[Part], states: dict[str, int]) -> Walk:
        """Stopped before the last fold: nothing is stitched."""
        why = f"fold {len(done) + 1} of {len(parts(self.frozen))}: {swept.why}"
        record = Record(
            self.frozen.run.study, "", tags={"stopped": why[:1000]}, status=swept.status
        )
        self.store.finish(self.place.sweep_id, record)
        self.place.beat(self.place.status() | {"status": swept.status})
        mark = watermark(self.frozen.bars)
        frame = _frame(done, {}, list(self.frozen.space))
        return Walk(
            self.place.sweep_id,
            _title(self.frozen),
            frame,
            list(self.frozen.space),
            states,
            {},
            None,
            swept.status,
            why,
            mark,
        )

    def _finished(self, done: list[Part], states: dict[str, int]) -> Walk:
        frozen, walk_id, root = self.frozen, self.place.sweep_id, self.root
        result = stitched(frozen, done)
        frame = _frame(done, _out_of_sample(result, done), list(frozen.space))
        measured = metrics.summary(result)
        tally = trial_ledger.tally(root, backtest_run.placed(frozen.run))
        own = {
            "efficiency": perf.ratio(measured["sharpe"], float(frame["in_sample"].mean())),
            "folds": float(len(done)),
        }
        luck = tally.luck(measured)
        found = measured | {f"walk_forward_{name}": value for name, value in own.items()}
        tags = {"states": json.dumps(states), "stopped": ""}
        record = Record(
            study=frozen.run.study,
            name=_title(frozen),
            metrics=found | luck.at_run,
            tags=tags,
            files=backtest_run.artifacts(frozen.run, result, frozen.composed.overrides)
            | {
                "folds.parquet": backtest_run.parquet(frame),
                "report.html": _page(frozen, result, found, frame, walk_id, luck),
            },
            series={"curve/equity_usd": backtest_run.equity_steps(result)},
        )
        self.store.finish(walk_id, record)
        self.store.analyze()
        self.place.beat(self.place.status() | {"status": "FINISHED"})
        page, mark = self.store.artifacts(walk_id) / "report.html", watermark(frozen.bars)
        return Walk(
            walk_id,
            _title(frozen),
            frame,
            list(frozen.space),
            states,
            found | luck.metrics,
            page,
            watermark=mark,
        )


@dataclass
class _Beating:
    """Shows the search of one fold, and says in the walk-forward's own heart-beat how far it is."""

    shown: Progress
    place: Place
    fold: int
    count: int
    beaten: float = -math.inf

    def begin(self, board: Board) -> None:
        board.title = f"fold {self.fold} of {self.count} · {board.title}"
        self.shown.begin(board)
        self._beat(board)

    def trial(self, board: Board, outcome: Outcome, improved: bool) -> None:
        self.shown.trial(board, outcome, improved)
        if time.perf_counter() - self.beaten > BEAT_SEC:
            self._beat(board)

    def end(self, board: Board) -> None:
        self.shown.end(board)
        self._beat(board)

    def _beat(self, board: Board) -> None:
        self.beaten = time.perf_counter()
        self.place.beat(
            board.facts() | {"status": "RUNNING", "fold": self.fold, "folds": self.count}
        )


def _window(part: Part) -> list[str]:
    """A fold's sweep as overrides: its sessions, and nothing of the walk-forward itself."""
    first, fence = part.searched
    return [
        f"++data.start={first}",
        f"++data.holdout_start={fence}",
        "search.walk_forward=null",
        "search.name=''",
    ]


def _parent(frozen: Frozen) -> Record:
    made = parent(frozen)
    return replace(made, name=_title(frozen), tags=made.tags | {"mcl.kind": KIND})


def _introduce(place: Place, frozen: Frozen, before: Mapping[str, Any] | None = None) -> None:
    runner.introduce(place, frozen, dict(before or {}) | {"kind": KIND, "title": _title(frozen)})


def _title(frozen: Frozen) -> str:
    search = frozen.search
    name = f"{search.name} · " if search.name else ""
    each = (
        f"{search.folds} folds" if search.test_length is None else f"parts of {search.test_length}"
    )
    return (
        f"{name}walk-forward {search.walk_forward} · {frozen.run.strategy['name']} · {each} ×"
        f" {frozen.total} trials"
    )


def _frame(done: Sequence[Part], out: Mapping[int, float], keys: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {
            "fold": part.number,
            "searched_from": part.searched[0],
            "searched_until": part.searched[1],
            "traded_from": part.traded[0],
            "traded_until": part.traded[1],
            **{key: part.params.get(key) for key in keys},
            "in_sample": part.best.get("metrics", {}).get("sharpe", math.nan),
            "out_of_sample": out.get(part.number, math.nan),
            "sweep_id": part.sweep_id,
        }
        for part in done
    ]
    return pd.DataFrame(rows)


def _out_of_sample(result: Result, done: Sequence[Part]) -> dict[int, float]:
    """The annual Sharpe ratio of each part's sessions."""
    days, returns = result.session_returns.index, result.session_returns.to_numpy()
    edges = [0, *(int(days.searchsorted(part.traded[0])) for part in done[1:]), len(returns)]
    return {
        part.number: perf.sharpe(returns[a:b])
        for part, (a, b) in zip(done, pairwise(edges), strict=True)
    }


def _page(
    frozen: Frozen,
    result: Result,
    found: Mapping[str, float],
    frame: pd.DataFrame,
    walk_id: str,
    luck: Luck,
) -> bytes:
    from mcl.report.run import RunView, run_page

    table = {f"fold {row.pop('fold')}": row for row in frame.to_dict("records")}
    described: dict[str, Any] = {"walk_forward": table} | frozen.run.model_dump(mode="json")
    tags = provenance.tags(frozen.run, frozen.bars)
    out = [urls.run(walk_id)]
    shown = dict(found) | luck.metrics
    view = RunView(
        _title(frozen),
        described,
        frozen.composed.overrides,
        shown,
        result,
        tags,
        walk_id,
        links=out,
        luck=luck.sentence,
    )
    return run_page(view).encode()


def _date(day: int) -> str:
    return str(np.int64(day).astype("datetime64[D]"))
