"""Select a trial of a search: a broad plateau rather than a sharp peak.

Every scored trial is replaced by the lower quantile of the scores around it. The highest such
plateau wins among the trials that meet the constraints; the deflated Sharpe ratio decides between
equal ones.
"""

from __future__ import annotations

import io
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.base import progress
from mcl.base.errors import ConfigError, StoreError, nearest
from mcl.composition.alternatives import GROUPS
from mcl.metrics import performance as perf
from mcl.metrics.overfit import Luck
from mcl.report.format import annual_text, number
from mcl.search.plateau import FIXED as TRIAL_COLUMNS
from mcl.search.plateau import plateaus
from mcl.tracking import deflation, trial_ledger
from mcl.tracking.project import Project
from mcl.tracking.records import right_verb
from mcl.tracking.store import Store, StoredRun
from mcl.tracking.trial_ledger import Tally

FIXED = {*TRIAL_COLUMNS, "plateau", "front"}
SEARCHES = ("sweep", "grid")
NO_DEFLATION = "which cannot be deflated: it has no variance"
SYMBOLS: dict[str, Callable[[Any, float], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Chosen:
    """`ranked`: the trials that meet the constraints, best first, with `around` (the plateau),
    `neighbours` and `dsr`.

    `winner` and `peak` are rows of it; they are the same when the best trial stands on the best
    plateau.
    """

    search_id: str
    ranked: pd.DataFrame
    keys: list[str]
    tally: Tally
    refused: int  # scored trials that missed a constraint

    @property
    def winner(self) -> dict[str, Any]:
        return _record(self.ranked, 0)

    @property
    def luck(self) -> Luck:
        """The deflation of the winner."""
        return self.tally.luck({str(name): float(self.winner[name]) for name in deflation.MEASURED})

    @property
    def peak(self) -> dict[str, Any]:
        return _record(self.ranked, int(np.argmax(self.ranked["sharpe"].to_numpy())))

    @property
    def why(self) -> str:
        w, p = self.winner, self.peak
        probability = number(w["dsr"], "percent")
        chance = f"{probability} {self.luck.sentence}" if math.isfinite(w["dsr"]) else NO_DEFLATION
        own = f"Trial {w['trial']} ({self._words(w)})"
        if len(self.ranked) == 1:
            left = "is the only trial with a Sharpe ratio" + (
                " that meets the constraints" if self.refused else ""
            )
            return f"{own} {left}: {_ratio_text(w)}, {chance}."
        picked = (
            f"{own} has the highest plateau: the lower quartile of the Sharpe ratios of the"
            f" {w['neighbours']} trials around it, itself included, is"
            f" {_ratio_text(w, 'around')}; its own is {_ratio_text(w)}, {chance}."
        )
        if w["trial"] == p["trial"]:
            return f"{picked} It is the peak as well."
        return (
            f"{picked} The peak would have been trial {p['trial']} ({self._words(p)}) with a Sharpe"
            f" of {_ratio_text(p)}, but the lower quartile around it is {_ratio_text(p, 'around')}."
        )

    def _words(self, row: dict[str, Any]) -> str:
        # an axis may exist for some choices alone
        present = [key for key in self.keys if not pd.isna(row[key])]
        return " ".join(f"{key.removeprefix('strategy.')} {row[key]}" for key in present)


def _ratio_text(row: dict[str, Any], name: str = "sharpe") -> str:
    return annual_text("sharpe", float(row[name]), float(row.get("sessions", math.nan)))


@dataclass(frozen=True)
class Pick:
    """The run that is meant where a search is named. `why` is empty for a run that was named
    itself.
    """

    run_id: str
    why: str = ""


def pick(stored: StoredRun, trial: int | None = None, *, project: Project) -> Pick:
    """Return the run that a name means: itself, or of a search its choice by plateau, or the
    `trial` that was asked for. Every verb that judges one run of a search asks here.
    """
    if stored.tags.get("mcl.kind") not in SEARCHES:
        if trial is not None:
            raise StoreError(
                f"run {stored.run_id[:12]} is no search and has no trial {trial}",
                "leave --trial out, or name the search: mcl runs lists them",
            )
        return Pick(stored.run_id)
    search = f"search {stored.run_id[:12]}"
    if trial is not None:
        run_id = _run_of_trial(stored, trial, project.store)
        return Pick(run_id, f"{search}: trial {trial}, as --trial says (run {run_id[:12]})")
    best, number_of_best = stored.tags.get("best_run_id", ""), stored.tags.get("best_trial", "")
    if best and not keys_of(_trials(stored)):
        return Pick(best, f"{search}: trial {number_of_best}, its best; nothing was varied")
    choice = choose(stored.run_id, (), project=project)
    run_id = str(choice.winner["run_id"])
    if number_of_best == str(choice.winner["trial"]):
        run_id = best or run_id  # the winner's complete run
    if not run_id:
        raise ConfigError(
            f"trial {choice.winner['trial']}, the choice of {search} by plateau, is no stored run",
            f"mcl validate {stored.run_id[:12]} --trial {number_of_best} takes the best one,"
            " search.track=all stores every trial",
        )
    return Pick(run_id, f"{search}, choice by plateau: {choice.why}")


def _run_of_trial(stored: StoredRun, trial: int, store: Store) -> str:
    if stored.tags.get("best_trial") == str(trial) and stored.tags.get("best_run_id"):
        return stored.tags["best_run_id"]
    frame = _trials(stored)
    rows = frame[frame["trial"] == trial]
    search = f"search {stored.run_id[:12]}"
    if not len(rows):
        raise StoreError(
            f"{search} has no trial {trial}: its trials are {frame['trial'].min()} to"
            f" {frame['trial'].max()}",
            f"mcl sweep report {stored.run_id[:12]} lists them",
        )
    run_id = str(rows.iloc[0]["run_id"] or "")
    whole = store.trials(stored.run_id, kind="backtest").get(trial, run_id)
    if rows.iloc[0]["state"] != "COMPLETE" or not whole:
        reason = rows.iloc[0]["state"] != "COMPLETE"
        raise StoreError(
            f"trial {trial} of {search} "
            + (f"has no result: it is {rows.iloc[0]['state']}" if reason else "is no stored run"),
            f"mcl sweep report {stored.run_id[:12]} lists the trials",
        )
    return whole


def _trials(stored: StoredRun) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(stored.file("trials.parquet")))


def choose(search_id: str, constraints: Sequence[str], *, project: Project) -> Chosen:
    """Rank the trials of a sweep or a grid. StoreError when nothing is left to choose from."""
    stored = project.store.run(search_id)
    if stored.tags.get("mcl.kind") not in SEARCHES:
        raise StoreError(
            f"run {stored.run_id} is a {stored.tags.get('mcl.kind', 'run')}, not a search",
            right_verb(stored),
        )
    frame = _trials(stored)
    keys = _keys(frame, stored)
    scored = frame[
        (frame["state"] == "COMPLETE") & np.isfinite(frame["sharpe"].astype(float))
    ].reset_index(drop=True)
    eligible = scored[_met(scored, constraints)]
    if not len(eligible):
        raise StoreError(
            f"no trial of search {stored.run_id} is left: {len(scored)} of {len(frame)} have a"
            " Sharpe ratio, none meets all constraints",
            "loosen a --constraint",
        )
    progress.begin("finding the plateaus")
    around, counted = plateaus(scored[keys], scored["sharpe"].to_numpy(float))
    progress.begin("counting the trials")
    tally = _tally(stored, eligible, project)
    progress.begin("deflating")
    measured = eligible[list(deflation.MEASURED)].astype(float).to_dict("records")
    deflated = [tally.deflated({str(key): row[key] for key in row}) for row in measured]
    ranked = eligible.assign(
        around=around[eligible.index], neighbours=counted[eligible.index], dsr=deflated
    )
    ranked = ranked.sort_values(
        ["around", "dsr", "trial"], ascending=[False, False, True], kind="stable"
    ).reset_index(drop=True)
    return Chosen(stored.run_id, ranked, keys, tally, len(scored) - len(eligible))


def keys_of(frame: pd.DataFrame) -> list[str]:
    """Return the columns of a table of trials that were varied."""
    return [str(name) for name in frame.columns if "." in str(name) or str(name) in GROUPS]


def _keys(frame: pd.DataFrame, stored: StoredRun) -> list[str]:
    """List what was varied: the dotted columns, and the choices of whole groups."""
    keys = keys_of(frame)
    if not keys:
        raise StoreError(
            f"search {stored.run_id} varied nothing: there is nothing to choose between",
            "mcl sweep varies parameters",
        )
    return keys


def _met(frame: pd.DataFrame, constraints: Sequence[str]) -> npt.NDArray[np.bool_]:
    eligible = np.ones(len(frame), bool)
    numbers = [
        str(n)
        for n in frame.columns
        if str(n) not in FIXED and pd.api.types.is_numeric_dtype(frame[n])
    ]
    for text in constraints:
        match = re.fullmatch(r"\s*([\w.]+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", text)
        try:
            bound = float(match[3]) if match else math.nan
        except ValueError:
            bound = math.nan
        if match is None or math.isnan(bound):
            raise ConfigError(
                f"cannot read the constraint {text!r}",
                'write a metric, a comparison and a number: "max_drawdown_frac > -0.25"',
            )
        if match[1] not in numbers:
            raise ConfigError(
                f"the constraint {text!r} names no metric of the trials:"
                f" {nearest(match[1], numbers)}"
            )
        eligible &= np.asarray(SYMBOLS[match[2]](frame[match[1]].astype(float), bound), bool)
    return eligible


def _tally(stored: StoredRun, eligible: pd.DataFrame, project: Project) -> Tally:
    """Of the strategy of the search's best run; the trials of the search count even where the
    ledger does not know them.
    """
    best = stored.tags.get("best_run_id")
    if not best:
        raise StoreError(
            f"search {stored.run_id} has no best run: nothing in it has a score",
            "mcl report shows why",
        )
    where = deflation.pool_of(project.store.run(best))
    if where is None:
        raise StoreError(f"run {best} names no strategy or no data source", "mcl report shows it")
    # the latter in searches of version 0.1
    identities = (
        eligible["trial_sha256"] if "trial_sha256" in eligible else eligible["config_sha256"]
    )
    own = dict(zip(identities, eligible["sharpe"].astype(float).map(perf.per_session), strict=True))
    return trial_ledger.tally(project.root, where, own)


def _record(frame: pd.DataFrame, row: int) -> dict[str, Any]:
    return {str(key): value for key, value in frame.iloc[row].items()}
