"""Walk-forward optimisation: search anew before each part of the sessions, trade the part with the
best values, stitch the parts to one run.

Each fold is a sweep of its own (resumable, tracked, counted by the trial ledger) on the sessions
before its part; later bars do not exist for it, since its hold-out begins where its sessions end.
The parts are then traded in one simulation: the plan of each part comes from the values found for
it, with indicators warmed up on the bars before, while position, equity and limits carry over from
one part to the next as they would for a trader who changes the values that night.
"""

from __future__ import annotations

import io
import json
import math
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcl import composition
from mcl.base import terminal
from mcl.base.errors import ConfigError, StoreError
from mcl.base.words import many, record_html, record_text
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.data.data_note import data_note
from mcl.engine import backtest as engine
from mcl.engine.plan import joined
from mcl.engine.result import Result
from mcl.metrics import folds
from mcl.metrics import performance as perf
from mcl.metrics.overfit import Luck
from mcl.metrics.summary import summary
from mcl.report.format import HEADLINES, metric_rows
from mcl.report.walk_forward import FoldOutcome, Period, cards, pnl_efficiency, sections
from mcl.risk.gates import gates
from mcl.search import runner
from mcl.search.progress import Progress, SweepStatistics
from mcl.search.result import SweepResult, abandon
from mcl.search.snapshot import SearchSnapshot, parent, restore_snapshot, take_snapshot
from mcl.search.space import overlay
from mcl.search.sweep_dir import SweepDir
from mcl.search.trial import Outcome
from mcl.strategy import build
from mcl.tracking import backtest_run, deflation, provenance, trial_ledger, urls
from mcl.tracking.project import Project
from mcl.tracking.store import Record, Status, Store

if TYPE_CHECKING:
    import pandas as pd

KIND = "walk_forward"
# what may differ from part to part: all of it is in the plan
PLANNED = ("strategy.", "risk.size.", "risk.protection.")
BEAT_SEC = 1.0


@dataclass(frozen=True, repr=False)
class WalkForwardResult:
    """The result of a walk-forward search. `folds`: one row per part: its sessions, the sweep, the
    values found, Sharpe in and out of sample.

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

    def __repr__(self) -> str:
        return record_text(f"WalkForwardResult {self.title}", *self._summary())

    def _repr_html_(self) -> str:
        return record_html(f"WalkForwardResult {self.title}", *self._summary())

    def _summary(self) -> tuple[dict[str, str], str]:
        labels = {name: (label, text) for label, text, name in metric_rows(self.metrics)}
        rows = dict(labels[name] for name in HEADLINES if name in labels)
        rows = {"folds": f"{len(self.folds)}", "status": self.status} | rows
        return rows, f"run {self.sweep_id} · report {self.report or 'none'}"

    @property
    def interrupted(self) -> bool:
        return self.status == "KILLED"


@dataclass(frozen=True)
class WalkForwardFold:
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
        params: dict[str, Any] = self.best.get("params", {})
        return params


def sweep(
    composed: composition.Composed, *, project: Project, progress: Progress
) -> WalkForwardResult:
    """Search and trade every part; ConfigError before anything is recorded, errors later as in
    `runner.sweep`.
    """
    runner.refuse_taken_name(composed, project.store)
    snapshot = take_snapshot(composed, project.root)
    parts(snapshot)
    for sentence in snapshot.notices:
        terminal.say(sentence)
    walk_id = project.store.start(_parent(snapshot))
    directory = SweepDir(runner.folder(project.store), walk_id)
    with directory.claim():
        _write_metadata(directory, snapshot)
        return _WalkForward(snapshot, directory, project, progress).run()


def resume(
    named: str,
    *,
    project: Project,
    trials: int | None = None,
    amendments: Sequence[str] = (),
    progress: Progress,
) -> WalkForwardResult:
    """Continue where it ended; with `trials` every fold's search is extended to so many, and the
    parts are traded again.
    """
    directory = runner.search_of(named, project.store)
    with directory.claim():
        metadata = directory.metadata()
        snapshot = restore_snapshot(
            project.store.run(directory.sweep_id),
            project.root,
            max(trials or 0, metadata["target"]),
            list(amendments),
        )
        _write_metadata(directory, snapshot, metadata)
        project.store.reopen(directory.sweep_id, _title(snapshot))
        return _WalkForward(snapshot, directory, project, progress, tuple(amendments), trials).run()


def report(directory: SweepDir, store: Store) -> WalkForwardResult:
    """Read the result of a walk-forward search from its stored run."""
    stored = store.run(directory.sweep_id)
    if not (stored.artifacts / "folds.parquet").is_file():
        raise StoreError(
            f"walk-forward search {stored.run_id[:12]} has no stitched run yet",
            f"mcl sweep resume {stored.run_id[:12]}",
        )
    import pandas as pd

    frame = pd.read_parquet(io.BytesIO(stored.file("folds.parquet")))
    states: dict[str, int] = json.loads(stored.tags.get("states", "{}"))
    page, keys = stored.artifacts / "report.html", [str(name) for name in frame if "." in str(name)]
    metrics_today = deflation.today(stored, deflation.luck_of(stored, store.root))
    return WalkForwardResult(
        stored.run_id,
        stored.name,
        frame,
        keys,
        states,
        metrics_today,
        page,
        watermark=stored.tags.get("watermark", ""),
    )


def parts(snapshot: SearchSnapshot) -> list[WalkForwardFold]:
    """The folds of a search. ConfigError when the sessions are too few, or when an axis lies
    outside the plan.
    """
    search, bars = snapshot.search, snapshot.bars
    for key in snapshot.space:
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
        WalkForwardFold(
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


def stitched(snapshot: SearchSnapshot, done: Sequence[WalkForwardFold]) -> Result:
    """The parts traded one after the other in one simulation, each with its own values; a part
    without values stays flat.
    """
    bars, run = snapshot.bars, snapshot.run
    first, last = done[0].rows[0], done[-1].rows[1]
    plan = joined(
        [_plan(snapshot, part, bars.rows(0, part.rows[1])).rows(*part.rows) for part in done]
    )
    return engine.simulate(
        bars.rows(first, last), plan, run.risk.limits, run.costs, run.capital_usd, run.execution
    )


def _plan(snapshot: SearchSnapshot, part: WalkForwardFold, bars: Bars) -> engine.Plan:
    """The plan of bars that end with the part. Its gates are those of all bars: a roll at the next
    open is known before it.
    """
    if not part.params:
        nothing = np.zeros(len(bars))
        return engine.Plan(nothing, np.empty(0), np.empty(0))
    run = composition.run_config(overlay(snapshot.composed.raw, part.params))
    planned = engine.plan(bars, build(run.strategy), run.risk, run.capital_usd)
    return replace(planned, gate=gates(snapshot.bars, run.risk.limits)[: len(bars)])


@dataclass
class _WalkForward:
    """Run one process's part in a walk-forward search."""

    snapshot: SearchSnapshot
    directory: SweepDir
    project: Project
    progress: Progress
    amendments: tuple[str, ...] = ()
    trials: int | None = None  # of each fold, when they are extended

    def run(self) -> WalkForwardResult:
        study, walk_id = self.snapshot.run.study, self.directory.sweep_id
        states: dict[str, int] = {}
        done: list[WalkForwardFold] = []
        try:
            earlier_sweeps = self._earlier_sweeps()
            for part in parts(self.snapshot):
                fold_result = self._search_fold(part, earlier_sweeps.get(part.number))
                states = {
                    state: states.get(state, 0) + fold_result.states.get(state, 0)
                    for state in states | fold_result.states
                }
                if fold_result.interrupted or fold_result.status == "FAILED":
                    return self._conclude_early(fold_result, done, states)
                done.append(
                    replace(part, sweep_id=fold_result.sweep_id, best=fold_result.best or {})
                )
            return self._conclude(done, states)
        except BaseException as error:
            # the store may be what failed; the first error is the one to tell
            with suppress(StoreError):
                self.directory.write_heartbeat(
                    self.directory.heartbeat()
                    | {"status": "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"}
                )
                abandon(self.project.store, study, walk_id, error)
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(f"mcl sweep resume {walk_id[:12]} continues") from None
            raise

    def _earlier_sweeps(self) -> dict[int, str]:
        """The sweeps that an earlier process began, by fold."""
        children = [
            run
            for run in self.project.store.children(self.directory.sweep_id)
            if "fold" in run.tags
        ]
        return {
            int(run.tags["fold"]): run.run_id
            for run in children
            if SweepDir(self.directory.folder, run.run_id).file("card").exists()
        }

    def _search_fold(self, part: WalkForwardFold, sweep_id: str | None) -> SweepResult:
        """The sweep of one fold: run, resumed, or only read again where it is finished."""
        count = len(parts(self.snapshot))
        display = _FoldProgress(self.progress, self.directory, part.number, count)
        if sweep_id is None:
            typed = [
                *self.snapshot.composed.overrides,
                *self.amendments,
                *_window(part),
                f"search.trials={self.snapshot.search.trials}",
            ]
            return runner.sweep(
                composition.compose("sweep", typed),
                project=self.project,
                progress=display,
                above=self.directory,
                tags={"fold": str(part.number)},
            )
        target = SweepDir(self.directory.folder, sweep_id).metadata()["target"]
        more = (
            self.trials
            if self.trials and self.trials > target and self.snapshot.search.sampler != "grid"
            else None
        )
        amendments = list(self.amendments)
        return runner.resume(
            sweep_id,
            project=self.project,
            trials=more,
            amendments=amendments,
            progress=display,
            above=self.directory,
        )

    def _conclude_early(
        self, fold_result: SweepResult, done: list[WalkForwardFold], states: dict[str, int]
    ) -> WalkForwardResult:
        """Close a search that ended before its last fold, without a stitched run."""
        why = f"fold {len(done) + 1} of {len(parts(self.snapshot))}: {fold_result.why}"
        record = Record(
            self.snapshot.run.study, "", tags={"stopped": why[:1000]}, status=fold_result.status
        )
        self.project.store.finish(self.directory.sweep_id, record)
        self.directory.write_heartbeat(self.directory.heartbeat() | {"status": fold_result.status})
        mark = data_note(self.snapshot.bars)
        frame = _frame(done, {}, list(self.snapshot.space))
        return WalkForwardResult(
            self.directory.sweep_id,
            _title(self.snapshot),
            frame,
            list(self.snapshot.space),
            states,
            {},
            None,
            fold_result.status,
            why,
            mark,
        )

    def _conclude(self, done: list[WalkForwardFold], states: dict[str, int]) -> WalkForwardResult:
        snapshot, walk_id, root = self.snapshot, self.directory.sweep_id, self.project.root
        result = stitched(snapshot, done)
        folded = _folds(snapshot, result, done)
        frame = _frame(done, {fold.number: fold for fold in folded}, list(snapshot.space))
        measured = summary(result)
        tally = trial_ledger.tally(root, backtest_run.trial_pool(snapshot.run))
        own = {
            "efficiency": perf.ratio(measured["sharpe"], float(frame["in_sample"].mean())),
            "pnl_efficiency": pnl_efficiency(folded),
            "folds": float(len(done)),
        }
        luck = tally.luck(measured)
        run_metrics = measured | {f"walk_forward_{name}": value for name, value in own.items()}
        tags = {"states": json.dumps(states), "stopped": ""}
        record = Record(
            study=snapshot.run.study,
            name=_title(snapshot),
            metrics=run_metrics | luck.at_run,
            tags=tags,
            files=backtest_run.artifacts(snapshot.run, result, snapshot.composed.overrides)
            | {
                "folds.parquet": backtest_run.parquet(frame),
                "report.html": _page(snapshot, result, run_metrics, folded, walk_id, luck),
            },
            series={"curve/equity_usd": backtest_run.equity_steps(result)},
        )
        self.project.store.finish(walk_id, record)
        self.project.store.analyze()
        self.directory.write_heartbeat(self.directory.heartbeat() | {"status": "FINISHED"})
        page, mark = self.project.store.artifacts(walk_id) / "report.html", data_note(snapshot.bars)
        return WalkForwardResult(
            walk_id,
            _title(snapshot),
            frame,
            list(snapshot.space),
            states,
            run_metrics | luck.metrics,
            page,
            watermark=mark,
        )


@dataclass
class _FoldProgress:
    """Show the search of one fold, and write it into the heart-beat of the walk-forward search."""

    display: Progress
    directory: SweepDir
    fold: int
    count: int
    last_heartbeat: float = -math.inf

    def begin(self, statistics: SweepStatistics) -> None:
        statistics.title = f"fold {self.fold} of {self.count} · {statistics.title}"
        self.display.begin(statistics)
        self._write_heartbeat(statistics)

    def trial(self, statistics: SweepStatistics, outcome: Outcome, improved: bool) -> None:
        self.display.trial(statistics, outcome, improved)
        if time.perf_counter() - self.last_heartbeat > BEAT_SEC:
            self._write_heartbeat(statistics)

    def end(self, statistics: SweepStatistics) -> None:
        self.display.end(statistics)
        self._write_heartbeat(statistics)

    def _write_heartbeat(self, statistics: SweepStatistics) -> None:
        self.last_heartbeat = time.perf_counter()
        self.directory.write_heartbeat(
            statistics.facts() | {"status": "RUNNING", "fold": self.fold, "folds": self.count}
        )


def _window(part: WalkForwardFold) -> list[str]:
    """A fold's sweep as overrides: its sessions, and nothing of the walk-forward itself."""
    first, fence = part.searched
    return [
        f"++data.start={first}",
        f"++data.holdout_start={fence}",
        "search.walk_forward=null",
        "search.name=''",
    ]


def _parent(snapshot: SearchSnapshot) -> Record:
    record = parent(snapshot)
    return replace(record, name=_title(snapshot), tags=record.tags | {"mcl.kind": KIND})


def _write_metadata(
    directory: SweepDir, snapshot: SearchSnapshot, before: Mapping[str, Any] | None = None
) -> None:
    runner.write_metadata(
        directory, snapshot, dict(before or {}) | {"kind": KIND, "title": _title(snapshot)}
    )


def _title(snapshot: SearchSnapshot) -> str:
    search = snapshot.search
    name = f"{search.name} · " if search.name else ""
    each = (
        f"{search.folds} folds" if search.test_length is None else f"parts of {search.test_length}"
    )
    return (
        f"{name}walk-forward {search.walk_forward} · {snapshot.run.strategy['name']} · {each} ×"
        f" {many(snapshot.total, 'trial')} · {snapshot.data}"
    )


def _frame(
    done: Sequence[WalkForwardFold], folded: Mapping[int, FoldOutcome], keys: Sequence[str]
) -> pd.DataFrame:
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
            "out_of_sample": folded[part.number].traded.sharpe if folded else math.nan,
            **(_counts(folded[part.number]) if folded else {}),
            "sweep_id": part.sweep_id,
        }
        for part in done
    ]
    return pd.DataFrame(rows)


def _counts(fold: FoldOutcome) -> dict[str, float]:
    return {
        "searched_sessions": fold.searched.sessions,
        "traded_sessions": fold.traded.sessions,
        "searched_usd": fold.searched.net_pnl_usd,
        "traded_usd": fold.traded.net_pnl_usd,
    }


def _folds(
    snapshot: SearchSnapshot, result: Result, done: Sequence[WalkForwardFold]
) -> list[FoldOutcome]:
    """The folds as their page shows them: each part's sessions of the stitched run are what it
    traded.
    """
    returns = result.session_returns
    days = [str(day)[:10] for day in returns.index]
    searched = [_date(int(day)) for day in np.unique(snapshot.bars.session)]
    traded_days = np.unique(result.bars.session)
    entered = np.searchsorted(traded_days, result.bars.session[result.trades["entry_bar"]])
    edges = [0, *(bisect_left(days, part.traded[0]) for part in done[1:]), len(days)]
    folded = []
    for part, (first, last) in zip(done, pairwise(edges), strict=True):
        own = returns.to_numpy()[first:last]
        traded = Period(
            first=days[first],
            last=days[last - 1],
            sessions=float(last - first),
            sharpe=perf.sharpe(own),
            net_pnl_usd=float(own.sum()) * result.capital_usd,
            trades=float(np.count_nonzero((entered >= first) & (entered < last))),
        )
        before = _searched(part, searched)
        address = urls.run_address(part.sweep_id)
        folded.append(FoldOutcome(part.number, before, traded, part.params, address))
    return folded


def _searched(part: WalkForwardFold, days: Sequence[str]) -> Period:
    """Return what the values of a fold did on the sessions that its search saw."""
    first, fence = (bisect_left(days, day) for day in part.searched)
    best = part.best.get("metrics", {})
    return Period(
        first=days[first],
        last=days[fence - 1],
        sessions=float(fence - first),
        sharpe=best.get("sharpe", math.nan),
        net_pnl_usd=best.get("net_pnl_usd", math.nan),
        trades=best.get("trades", math.nan),
    )


def _page(
    snapshot: SearchSnapshot,
    result: Result,
    run_metrics: Mapping[str, float],
    folded: Sequence[FoldOutcome],
    walk_id: str,
    luck: Luck,
) -> bytes:
    from mcl.report.run import RunView, run_page

    efficiency = run_metrics["walk_forward_efficiency"]
    view = RunView(
        title=_title(snapshot),
        config=snapshot.run.model_dump(mode="json"),
        overrides=snapshot.composed.overrides,
        metrics=dict(run_metrics) | luck.metrics,
        result=result,
        provenance=provenance.tags(snapshot.run, snapshot.bars),
        run_id=walk_id,
        defaults=backtest_run.defaults(),
        links=[urls.run(walk_id)],
        luck=luck.sentence,
        kind="walk-forward",
        search=snapshot.search.model_dump(mode="json"),
        searched=list(snapshot.space),
        data_note=data_note(snapshot.bars),
        first=sections(result.session_equity, folded, efficiency),
        first_cards=cards(folded, efficiency),
        benchmark=engine.buy_and_hold(result.bars, snapshot.run.costs, snapshot.run.capital_usd),
    )
    return run_page(view).encode()


def _date(day: int) -> str:
    return str(np.int64(day).astype("datetime64[D]"))
