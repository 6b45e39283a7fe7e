"""A day's research from Python, one function for each verb that needs one.

Every function works on the project that `MCL_HOME` names, or that Python works in. `overrides` are
the words of the command line: `["strategy=ema_cross", "strategy.fast=10"]`, one word alone, or what
`compose` returned. What the command line refuses is an `MclError` here, with the same sentence.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcl import composition
from mcl.base.errors import ConfigError, MclError, StoreError, nearest
from mcl.base.words import record_html, record_text
from mcl.composition import Composed
from mcl.config import schema
from mcl.config.promotion_rules import Promotion
from mcl.report.header_chips import data_label
from mcl.tracking.project import Project
from mcl.tracking.store import Store, StoredRun

if TYPE_CHECKING:
    import pandas as pd

    from mcl.engine.result import Result
    from mcl.promotion.promote import GatesMissed, Promoted
    from mcl.search.result import SweepResult
    from mcl.search.walk_forward import WalkForwardResult

__all__ = [
    "Backtest",
    "Composed",
    "GatesMissed",
    "ListedRun",
    "MclError",
    "Promoted",
    "SweepResult",
    "WalkForwardResult",
    "backtest",
    "compose",
    "grid",
    "load_bars",
    "promote",
    "runs",
    "sweep",
]

# records that the functions give, and the modules that have them: imported when they are asked for
_RECORDS = {
    "GatesMissed": "mcl.promotion.promote",
    "Promoted": "mcl.promotion.promote",
    "SweepResult": "mcl.search.result",
    "WalkForwardResult": "mcl.search.walk_forward",
}


def __getattr__(name: str) -> Any:
    """Import the record with this name."""
    if name not in _RECORDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_RECORDS[name]), name)


Overrides = str | Sequence[str] | Composed
STUDY = str(schema.Config.model_fields["study"].default)  # of runs that name none
MOST_RANKED = 5_000  # trials of a search whose choice a list looks up


def compose(
    overrides: Overrides = (), verb: composition.Verb = "backtest", *, base: str = ""
) -> Composed:
    """Compose and validate the configuration of a command line.

    overrides  words in Hydra's grammar: a group (`risk=vol_target`) or a key (`strategy.fast=10`)
    verb       whose configuration it is: "backtest" or "sweep"; "validate", "promote" and "live"
               have one as well
    base       begin at this run, at the choice of this search by plateau, or at what is promoted
               under this name or number, in place of the defaults

    Returns `Composed`: `.config` is the validated configuration, `.search` that of a sweep, `.raw`
    the plain dict. ConfigError for an unknown key, a wrong type or a broken rule.
    """
    if isinstance(overrides, Composed):
        return overrides
    words = [overrides] if isinstance(overrides, str) else [str(word) for word in overrides]
    return _relative(base, words) if base else composition.compose(verb, words)


def _relative(base: str, words: Sequence[str]) -> Composed:
    from mcl.composition.overrides import relative
    from mcl.promotion.promoted_file import MODEL
    from mcl.tracking import backtest_run

    store = Store()
    names = {
        name
        for version in store.versions(MODEL)
        for name in (*version.aliases, str(version.version))
    }
    stored = store.run(store.version(MODEL, base).run_id if base in names else chosen(base)[0])
    earlier = (
        json.loads(stored.file("overrides.json"))["overrides"]
        if (stored.artifacts / "overrides.json").is_file()
        else []
    )
    return relative(backtest_run.stored_config(stored), words, earlier)


def load_bars(overrides: Overrides = ()) -> pd.DataFrame:
    """Load the bars that the configuration may see. Builds the data set at its first use.

    Returns one row per closed bar, indexed by `close_time_utc`, the time at which it is known:
    `open_usd`, `high_usd`, `low_usd`, `close_usd` of the dated contract; the same of the continuous
    series as `adjusted_…_usd`; `volume_contracts`; `session` (the trade date), `contract` (its
    symbol), `roll` (True on the first bar of a new contract). `attrs` has `fingerprint`,
    `instrument`, `interval` and `synthetic`.

    Bars from `data.holdout_start` on are never among them: a look at them is counted, and only
    `mcl validate` and `mcl.promote` look. DataError for missing or damaged data.
    """
    from mcl.data.loader import load
    from mcl.library import frames

    series = load(compose(overrides).config.data, composition.root())
    frame = frames.bars(series)
    frame.attrs = {
        "fingerprint": series.fingerprint,
        "instrument": series.instrument.symbol,
        "interval": series.interval,
        "synthetic": series.synthetic,
    }
    return frame


@dataclass(frozen=True, repr=False)
class Backtest:
    """One finished and recorded backtest.

    run_id      its id in the run store: what `mcl report`, `mcl.promote` and the others take
    metrics     flat names whose suffix is the unit; NaN for what is undefined. The deflated ones
                (`dsr`, `trials_counted` …) are by the trial ledger of now
    undefined   why each metric that is NaN has no value
    deflation   how the Sharpe ratio was deflated, as a sentence
    report      its page
    repeat      the command line that runs it again
    """

    run_id: str
    name: str
    config: schema.Config
    metrics: dict[str, float]
    deflation: str
    report: Path | None
    tags: dict[str, str] = field(repr=False)
    result: Result = field(repr=False)  # the arrays of the simulation, for who needs them
    overrides: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Its headlines, a line each."""
        return record_text(f"Backtest {self.name}", self._headlines(), self._ending())

    def _repr_html_(self) -> str:
        return record_html(f"Backtest {self.name}", self._headlines(), self._ending())

    def _headlines(self) -> dict[str, str]:
        from mcl.report.format import HEADLINES, metric_rows

        rows = {name: (label, text) for label, text, name in metric_rows(self.metrics)}
        return dict(rows[name] for name in HEADLINES if name in rows)

    def _ending(self) -> str:
        return f"run {self.run_id} · report {self.report or 'none'}"

    @property
    def undefined(self) -> dict[str, str]:
        from mcl.metrics.undefined import reasons

        return reasons(self.metrics)

    @cached_property
    def repeat(self) -> str:
        from mcl.composition.overrides import shortest

        return shlex.join(["mcl", "backtest", *shortest(self.config, self.overrides)])

    @cached_property
    def equity(self) -> pd.DataFrame:
        """By bar: `equity_usd`, `drawdown_usd` (≤ 0), `position_contracts`, `target_contracts`."""
        from mcl.library import frames

        return frames.equity(self.result)

    @cached_property
    def sessions(self) -> pd.DataFrame:
        """By trade date: `equity_usd`, `settled_usd`, `return_frac` of the start capital."""
        from mcl.library import frames

        return frames.sessions(self.result)

    @cached_property
    def trades(self) -> pd.DataFrame:
        """By round trip: times, `quantity_contracts`, prices, `net_usd`, `mae_usd`, `mfe_usd` …"""
        from mcl.library import frames

        return frames.trades(self.result)

    @cached_property
    def fills(self) -> pd.DataFrame:
        """By fill: time, contract, `quantity_contracts`, `price_usd`, `slippage_ticks`, reason …"""
        from mcl.library import frames

        return frames.fills(self.result)


def backtest(overrides: Overrides = (), *, report: bool = True) -> Backtest:
    """Simulate one configuration on its data, never on its hold-out, and record it whole.

    It is one more trial of its strategy: the trial ledger counts it. `report=False` draws no page.

    Returns `Backtest`: metrics as a dict, and equity, sessions, trades and fills as tables.
    ConfigError, DataError or EngineError before anything is recorded, StoreError when the store
    refuses.
    """
    composed = compose(overrides)
    if composed.sweeper_params or composed.multirun:
        message = (
            f"hydra.sweeper.params is read by a grid and by a search, and this is one run:"
            f" {', '.join(composed.sweeper_params)}"
            if composed.sweeper_params
            else "hydra.mode=MULTIRUN is a grid, and this is one run"
        )
        raise ConfigError(message, "mcl backtest -m runs the grid, mcl sweep searches")
    from mcl.tracking import backtest_run

    done = backtest_run.backtest(
        composed.config,
        project=Project.current(),
        overrides=composed.overrides,
        report=report,
    )
    return Backtest(
        run_id=done.run_id,
        name=backtest_run.name(done.config, done.bars),
        config=done.config,
        metrics=done.metrics | done.luck.metrics,
        deflation=done.luck.sentence,
        report=done.report,
        tags=done.tags,
        result=done.result,
        overrides=composed.overrides,
    )


def grid(overrides: str | Sequence[str], *, progress: bool = False) -> SweepResult:
    """Run every combination of the typed values: `["strategy.fast=5,10,20", "risk=fixed,kelly"]`.

    Returns `SweepResult`, as `sweep` does: one row of `trials` per combination.
    """
    from mcl import search

    words = [overrides] if isinstance(overrides, str) else list(overrides)
    return search.grid(words, project=Project.current(), progress=progress)


def sweep(overrides: Overrides = (), *, progress: bool = False) -> SweepResult | WalkForwardResult:
    """Search the space of a strategy with Optuna. Every trial is recorded, the best one in full.

    `strategy.fast=range(5, 60, 5)` is an axis, `search.trials=200` the length, `search.name=NAME`
    what `mcl sweep resume NAME` continues. `progress=True` shows it on a terminal.

    Returns `SweepResult`. `trials` has one row per trial: `trial`, `state` (COMPLETE, PRUNED,
    FAILED), `reason`, `value` (what was optimised), `run_id`, a column for each key that was varied
    and for each metric, with the unit in its name. `best` has trial, value, params, metrics and
    run_id; it is None when nothing has a score. `deflation` says how much of the best is luck.
    With `search.walk_forward` it is a `WalkForwardResult`: `folds` has one row per part.
    """
    from mcl import search

    return search.sweep(compose(overrides, "sweep"), project=Project.current(), progress=progress)


# ------------------------------------------------------------------------------------ stored runs


@dataclass(frozen=True)
class ListedRun:
    """One stored run as a list shows it. `metrics` are those of today, `winner` is the run that
    `promote` takes of a search, `best` its best run.
    """

    stored: StoredRun
    metrics: dict[str, float]
    winner: str = ""

    @property
    def kind(self) -> str:
        return self.stored.tags.get("mcl.kind", "")

    @property
    def best(self) -> str:
        return self.stored.tags.get("best_run_id", "")

    @property
    def data(self) -> str:
        """The data set in a few words: its tag, or of an older run what its parameters say."""
        data = {
            key.removeprefix("data."): value
            for key, value in self.stored.params.items()
            if key.startswith("data.")
        }
        return self.stored.tags.get("mcl.data") or data_label(data)

    @property
    def brief_name(self) -> str:
        """The name without the data set, for a list that has a column of it."""
        return self.stored.name.replace(f" · {self.data}", "")


def runs(study: str = STUDY, *, alias: str | None = None, limit: int = 20) -> pd.DataFrame:
    """List the runs of a study, newest first; trials are below their search and not in the list.

    alias  only sessions of this promoted name
    limit  the most rows

    Returns `run_id`, `kind`, `data`, `name`, `status`, `best_run_id` (of a search),
    `winner_run_id` (what `promote` takes of it) and one column per metric, its unit in its name.
    The deflated ones are by the trial ledger of now. StoreError for a study or an alias that has
    no run.
    """
    import pandas as pd

    rows = [
        {
            "run_id": run.stored.run_id,
            "kind": run.kind,
            "data": run.data,
            "name": run.stored.name,
            "status": run.stored.status,
            "best_run_id": run.best,
            "winner_run_id": run.winner,
            **run.metrics,
        }
        for run in listed_runs(study, alias=alias, limit=limit)
    ]
    first = ["run_id", "kind", "name", "status", "best_run_id", "winner_run_id"]
    return pd.DataFrame(rows, columns=None if rows else first)


def listed_runs(study: str, *, alias: str | None = None, limit: int = 20) -> list[ListedRun]:
    """The rows of `runs` as records. A study that is not the usual one has to exist."""
    from mcl.tracking.deflation import today

    project = Project.current()
    listable = project.store.in_study(study, tops=True)
    if not listable and study != STUDY:
        raise StoreError(
            f"no run is filed under the study {study!r}:"
            f" {nearest(study, project.store.connection.studies())}",
            "mcl runs --study NAME",
        )
    aliases = {run.tags["mcl.alias"] for run in listable if "mcl.alias" in run.tags}
    if alias is not None and alias not in aliases:
        message = f"no session of {alias!r} is filed under the study {study!r}"
        raise StoreError(
            f"{message}: {nearest(alias, aliases)}", "mcl registry lists the promoted names"
        )
    matches = [run for run in listable if alias in (None, run.tags.get("mcl.alias"))][:limit]
    return [
        ListedRun(stored=run, metrics=today(run, _luck(run)), winner=_winner(run, project))
        for run in matches
    ]


def _luck(run: StoredRun) -> Any:
    """The deflation of a run by today's trial ledger; None where its files are gone: a list shows
    the others all the same.
    """
    from mcl.tracking.deflation import luck_of

    with suppress(StoreError):
        return luck_of(run, composition.root())
    return None


def _winner(run: StoredRun, project: Project) -> str:
    """The run that `promote` takes of a search, its choice by plateau; empty where there is none,
    or too many trials to rank here.
    """
    from mcl.validation.selection import pick

    if not run.tags.get("best_run_id") or int(run.tags.get("target") or 0) > MOST_RANKED:
        return ""
    with suppress(MclError):
        return pick(run, project=project).run_id
    return ""


def identified(named: str, store: Store) -> str:
    """The id of a run, or of the search that has this name."""
    try:
        return store.run(named).run_id
    except StoreError as error:
        from mcl.search import runner, sweep_dir

        with suppress(StoreError):
            return sweep_dir.find(runner.folder(store), named).sweep_id
        raise error from None


# -------------------------------------------------------------------------------------- promotion


def chosen(named: str, trial: int | None = None) -> tuple[str, str]:
    """The run that is meant, and why. A search means its choice by plateau, as `mcl select` ranks
    it, or the `trial` that is named.
    """
    from mcl.validation.selection import pick

    project = Project.current()
    stored = project.store.run(identified(named, project.store))
    picked = pick(stored, trial, project=project)
    return picked.run_id, picked.why


def promotion_rules(rules: Overrides | Promotion) -> Promotion:
    """The validated rules of the gates, of overrides in the grammar of conf/promotion."""
    if isinstance(rules, Promotion):
        return rules
    raw = compose(rules, "promote").raw
    return composition.validate(Promotion, raw["promotion"], "promotion")


def promote(
    run: str,
    to: str = "paper",
    *,
    trial: int | None = None,
    name: str | None = None,
    waive: Sequence[str] = (),
    because: str = "",
    rules: Overrides | Promotion = (),
) -> Promoted:
    """Judge a run, and freeze it as the version that a name trades.

    run    id of a run, or id or name of a search: then its choice by plateau
    trial  this trial of the search instead
    to     "paper" or "live"
    name   what the version is called; the stage when it is not said
    waive  gates that may be missed; `because` says why
    rules  overrides of conf/promotion: `["promotion.min_trades=50"]`

    Returns `Promoted`: `version`, `path` of the promoted file, `table()` of the gates. GatesMissed,
    a PromotionError, when a gate is missed: its `table()` has all of them. Trials and looks at
    the hold-out are counted, whatever the answer.
    """
    from mcl.promotion import promote as promotion

    gates = promotion_rules(rules)
    return promotion.promote(
        chosen(run, trial)[0],
        to,
        project=Project.current(),
        gates=gates,
        name=name,
        waived=waive,
        because=because,
    )
