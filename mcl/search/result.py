"""Close the parent run of a search or a grid, and answer the caller."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mcl.base.undefined import is_undefined
from mcl.base.words import many, record_html, record_text
from mcl.metrics.overfit import Luck
from mcl.report.format import annual_text, number, too_short
from mcl.report.header_chips import chips
from mcl.search.progress import SweepStatistics, cell_text, score_text
from mcl.search.recorder import TrialRecorder
from mcl.search.space import Space, edges
from mcl.search.trial import Outcome
from mcl.tracking import urls
from mcl.tracking.naming import EXPERIMENT, MODEL_VIEW, NOTE, RUN
from mcl.tracking.store import Record, Status, Store, StoredRun

if TYPE_CHECKING:
    import pandas as pd

HEADLINES = ("sharpe", "net_pnl_usd", "max_drawdown_frac", "trades")
LISTED = 10


@dataclass(frozen=True, repr=False)
class SweepResult:
    """The result of a search or a grid.

    `trials` has one row per trial (see `TrialRecorder.frame`). `best` has trial, value, params,
    metrics and run_id. It is None when nothing has a score.
    """

    sweep_id: str  # run id of the parent
    trials: pd.DataFrame
    states: dict[str, int]  # COMPLETE, PRUNED, FAILED
    best: dict[str, Any] | None
    report: Path
    keys: list[str]  # what was varied: columns of `trials`
    metric: str
    maximize: bool
    status: Status = "FINISHED"
    why: str = ""  # it ended before its last trial
    watermark: str = ""
    space: Space | None = None
    luck: Luck | None = None  # of the best trial, by the trial ledger
    notices: tuple[str, ...] = ()  # what was said before the first trial

    def __repr__(self) -> str:
        return record_text(f"SweepResult {self.sweep_id[:12]}", *self._summary())

    def _repr_html_(self) -> str:
        return record_html(f"SweepResult {self.sweep_id[:12]}", *self._summary())

    def _summary(self) -> tuple[dict[str, str], str]:
        states = ", ".join(f"{n:,} {state.lower()}" for state, n in self.states.items() if n)
        rows = {"trials": f"{len(self.trials):,} ({states})", "varied": ", ".join(self.keys)}
        if self.best is None:
            rows["best"] = "none: nothing has a score"
        else:
            values = " ".join(f"{key}={cell_text(v)}" for key, v in self.best["params"].items())
            score = self._score(self.best["value"])
            rows["best"] = f"trial {self.best['trial']}, {self.metric} {score}: {values}"
        if self.luck is not None:
            rows["deflated"] = f"{number(self.luck.deflated, 'percent')} by {self.luck.count}"
        return rows, f"report {self.report}"

    @property
    def sessions(self) -> float:
        """Sessions of the best trial; NaN without one."""
        return float(self.best["metrics"].get("sessions", math.nan)) if self.best else math.nan

    def _score(self, value: Any, name: str = "") -> str:
        """A score as text: none for a figure per year of too few sessions."""
        return score_text(name or self.metric, value, self.sessions)

    @property
    def interrupted(self) -> bool:
        return self.status == "KILLED"

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """(title, columns, rows) for a terminal: the best trials, then why the others have no
        score.
        """
        return [self._leaders(), *self._front(), *self._lost()]

    @property
    def deflation(self) -> str:
        """The deflated Sharpe ratio of the best trial, with its rule."""
        if self.best is None or self.luck is None:
            return ""
        chance = annual_text("sharpe", self.luck.best_by_luck, self.sessions)
        return (
            f"Trial {self.best['trial']}: {number(self.luck.deflated, 'percent')}"
            f" {self.luck.sentence}, best by luck {chance}"
        )

    def advice(self) -> list[str]:
        """Sentences about where the best lies: peak and plateau, and walls of the space that it
        leans against.
        """
        if self.best is None or self.space is None:
            return self._notes()
        at_edge = edges(self.best["params"], self.space)
        walls = (
            [
                f"The best lies at the edge of the space: {', '.join(at_edge)}; widen it before you"
                " trust it"
            ]
            if at_edge
            else []
        )
        around = self.trials["plateau"].astype(float)
        if around.isna().all():
            return [*walls, *self._notes()]
        scored = self.trials["state"] == "COMPLETE"
        if "excess" in self.trials and (feasible := scored & (self.trials["excess"] <= 0)).any():
            scored, around = feasible, around.where(feasible)
        values = self.trials["value"].astype(float).where(scored)
        row, peak = self._extreme(around, values), self._extreme(values)
        present_keys = [key for key in self.keys if not is_undefined(row[key])]
        names = [f"{key.removeprefix('strategy.')} {cell_text(row[key])}" for key in present_keys]
        scores = [self._score(float(trial["value"])) for trial in (peak, row)]
        peak_text = f"Best by peak: trial {peak['trial']}, {self.metric} {scores[0]} (neighbourhood"
        plateau_text = (
            f"Best by plateau: trial {row['trial']}, {self.metric} {scores[1]} (neighbourhood"
        )
        return [
            f"{peak_text} {self._score(float(peak['plateau']))})",
            f"{plateau_text} {self._score(float(row['plateau']))}), {', '.join(names)}",
            *walls,
            *self._notes(),
        ]

    def _notes(self) -> list[str]:
        """Sentences on the sessions that were searched: too few of them, or none left unseen."""
        short = ""
        if self.best and "sessions" in self.best["metrics"]:
            short = too_short(self.best["metrics"]["sessions"])
        return [note.rstrip(".") for note in (short, *self.notices) if note]

    def _extreme(self, *values: pd.Series[float]) -> dict[str, Any]:
        """The trial with the best of the first values, of the next where those are equal; one value
        per row of `trials`.
        """
        sign = -1 if self.maximize else 1
        where = int(np.lexsort([sign * column for column in reversed(values)])[0])
        return {str(key): value for key, value in self.trials.iloc[where].items()}

    def _leaders(self) -> tuple[str, list[str], list[list[str]]]:
        scored = self.trials[self.trials["state"] == "COMPLETE"]
        names = [
            name for name in dict.fromkeys([self.metric, *HEADLINES]) if name in self.trials.columns
        ]
        ranked = by_value(scored, self.maximize).head(LISTED)
        # the best trial's complete run can be promoted
        whole = {self.best["trial"]: self.best["run_id"]} if self.best else {}
        rows = [
            [
                str(row["trial"]),
                *(cell_text(row[name]) for name in self.keys),
                *(self._score(row[name], name) for name in names),
                whole.get(row["trial"], row["run_id"])[:12],
            ]
            for row in ranked.to_dict("records")
        ]
        title = f"{len(scored)} of {many(len(self.trials), 'trial')} scored" + (
            f", {self.why}" if self.why else ""
        )
        title += f" · {self.watermark}" if self.watermark else ""
        return (
            title,
            ["trial", *(key.removeprefix("strategy.") for key in self.keys), *names, "run"],
            rows,
        )

    def _front(self) -> list[tuple[str, list[str], list[list[str]]]]:
        if "front" not in self.trials:
            return []
        front = (
            self.trials[self.trials["front"].astype(bool)]
            .sort_values("value", ascending=not self.maximize)
            .head(LISTED)
        )
        names = [name for name in HEADLINES if name in self.trials.columns]
        rows = [
            [
                str(row["trial"]),
                *(cell_text(row[name]) for name in self.keys),
                *(self._score(row[name], name) for name in names),
            ]
            for row in front.to_dict("records")
        ]
        count = int(self.trials["front"].astype(bool).sum())
        title = (
            f"Pareto front: {count} of"
            f" {many((self.trials['state'] == 'COMPLETE').sum(), 'scored trial')},"
            " which no other beats in every objective"
        )
        return [
            (title, ["trial", *(key.removeprefix("strategy.") for key in self.keys), *names], rows)
        ]

    def _lost(self) -> list[tuple[str, list[str], list[list[str]]]]:
        groups = self.trials[self.trials["state"] != "COMPLETE"].groupby(
            ["state", "reason"], sort=True
        )
        rows = [
            [state, reason, str(len(trials)), trials["detail"].iloc[0]]
            for (state, reason), trials in groups
        ]
        return (
            [("without a score", ["state", "reason", "trials", "the first says"], rows)]
            if rows
            else []
        )


def by_value(scored: pd.DataFrame, maximize: bool) -> pd.DataFrame:
    """The best first; what breaks a soft constraint comes after all that keep them."""
    soft = ["excess"] if "excess" in scored else []
    return scored.sort_values(
        [*soft, "value", "trial"], ascending=[*(True for _ in soft), not maximize, True]
    )


def leader(statistics: SweepStatistics, recorder: TrialRecorder) -> dict[str, Any] | None:
    """The best trial so far, with the id of its child run."""
    best = statistics.best
    if best is None:
        return None
    return best_fields(best, recorder.run_ids[best.number])


def best_fields(best: Outcome, run_id: str) -> dict[str, Any]:
    """The best trial as a result and its JSON have it."""
    return {
        "trial": best.number,
        "value": best.value,
        "params": best.params,
        "metrics": best.metrics,
        "run_id": run_id,
    }


@dataclass(frozen=True)
class Ending:
    """The end of a search: `why` is empty when every trial was run. `space` is None for a grid of
    jobs.
    """

    status: Status
    why: str
    watermark: str
    space: Space | None = None
    notices: tuple[str, ...] = ()


def conclude(
    store: Store,
    study: str,
    sweep_id: str,
    statistics: SweepStatistics,
    recorder: TrialRecorder,
    best: dict[str, Any] | None,
    ending: Ending,
    also: Mapping[str, str] | None = None,
) -> SweepResult:
    """Close the parent run with its tables, its page and the best trial, and return the result."""
    trials = with_plateaus(
        recorder.frame(), ending.space, statistics.metric, statistics.maximize, also or {}
    )
    sweep_result = SweepResult(
        sweep_id=sweep_id,
        trials=trials,
        states=dict(statistics.states),
        best=best,
        report=store.artifacts(sweep_id) / "sweep.html",
        keys=recorder.keys(),
        metric=statistics.metric,
        maximize=statistics.maximize,
        status=ending.status,
        why=ending.why,
        watermark=ending.watermark,
        space=ending.space,
        notices=ending.notices,
        luck=recorder.luck(best["trial"]) if best else None,
    )
    counts = {"trials": float(len(trials))} | {
        f"trials_{state.lower()}": float(count) for state, count in statistics.states.items()
    }
    scores = (
        {f"best_{name}": value for name, value in best["metrics"].items() if math.isfinite(value)}
        if best
        else {}
    )
    tags = {"best_run_id": best["run_id"], "best_trial": str(best["trial"])} if best else {}
    tags |= {NOTE: description(sweep_result)}
    record = Record(
        study=study,
        name=statistics.title,
        tags=tags
        | {
            "interrupted": str(sweep_result.interrupted).lower(),
            "stopped": ending.why[:1000],
            "target": str(statistics.total),
        },
        files=recorder.files(trials)
        | {"sweep.html": page(sweep_result, store.run(sweep_id), statistics.title)},
        series=_steps(counts | scores | {"trials_per_sec": statistics.rate}, statistics)
        | {f"leader_{statistics.metric}": statistics.improvements},
        status=ending.status,
    )
    store.finish(sweep_id, record)
    store.analyze()
    return sweep_result


def description(sweep_result: SweepResult) -> str:
    """The parent's description in MLflow, in Markdown: states, the best trials as links, and a
    link to the page.
    """
    here = f"#/experiments/{EXPERIMENT}/runs"
    states = ", ".join(
        f"{count:,} {state.lower()}" for state, count in sweep_result.states.items() if count
    )
    scored = by_value(
        sweep_result.trials[sweep_result.trials["state"] == "COMPLETE"], sweep_result.maximize
    )
    names = [key.rpartition(".")[2] for key in sweep_result.keys]
    rows = [
        " | ".join(
            [
                f"| [{row['trial']}]({here}/{row['run_id']}?{MODEL_VIEW})",
                *(cell_text(row[key]) for key in sweep_result.keys),
                f"{score_text(sweep_result.metric, row['value'], sweep_result.sessions)} |",
            ]
        )
        for row in scored.head(5).to_dict("records")
    ]
    parts = [
        f"{many(len(sweep_result.trials), 'trial')}: {states}.",
        f"**{sweep_result.watermark}**" if sweep_result.watermark else "",
        (
            "\n".join(
                [
                    f"| trial | {' | '.join([*names, sweep_result.metric])} |",
                    "|---|" + "---:|" * (len(names) + 1),
                    *rows,
                ]
            )
            if rows
            else ""
        ),
        " ".join(
            f"{sentence}."
            for sentence in (sweep_result.deflation, *sweep_result.advice())
            if sentence
        ),
        f"[Page of the search]({here}/{RUN}/artifacts/sweep.html)"
        + (
            f" · [the best as a complete run]({here}/{sweep_result.best['run_id']})"
            if sweep_result.best
            else ""
        ),
    ]
    return "\n\n".join(filter(None, parts))


def with_plateaus(
    trials: pd.DataFrame, space: Space | None, metric: str, maximize: bool, also: Mapping[str, str]
) -> pd.DataFrame:
    """The table of trials with `plateau`, what three in four trials around it reach, and `front`,
    whether it is on the Pareto front.
    """
    from mcl.search import plateau

    scored = (trials["state"] == "COMPLETE").to_numpy()
    if space is None or not scored.any():
        return trials
    scored_trials = trials[scored]
    around, front = np.full(len(trials), math.nan), np.zeros(len(trials), bool)
    around[scored] = plateau.plateaus(
        scored_trials.reindex(columns=list(space)),
        scored_trials["value"].to_numpy(float),
        maximize=maximize,
    )[0]
    if not also:
        return trials.assign(plateau=around)
    aims = [maximize, *(direction == "maximize" for direction in also.values())]
    front[scored] = plateau.front(scored_trials[[metric, *also]].to_numpy(float), aims)
    return trials.assign(plateau=around, front=front)


def _steps(
    values: dict[str, float], statistics: SweepStatistics
) -> dict[str, list[tuple[int, float]]]:
    """Metrics at the step of the trials done, so that those of a resumed sweep follow the
    earlier ones.
    """
    return {name: [(statistics.done, value)] for name, value in values.items()}


def abandon(store: Store, study: str, sweep_id: str, error: BaseException) -> None:
    """Mark a parent whose loop ended by an exception: KILLED by the user, else FAILED."""
    status: Status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
    store.finish(
        sweep_id,
        Record(
            study, "", tags={"mcl.error": f"{type(error).__name__}: {error}"[:1000]}, status=status
        ),
    )


def page(sweep_result: SweepResult, stored: StoredRun, title: str = "") -> bytes:
    """The page of a search; `stored` is its parent run, which has the configuration."""
    from mcl.report.sweep import sweep_page

    # how the page knows a parameter
    dotted = {key: key if "." in key else f"params.{key}" for key in sweep_result.keys}
    advice = " ".join(
        f"{sentence}."
        for sentence in (
            f"Ended before all trials were run: {sweep_result.why}" if sweep_result.why else "",
            sweep_result.deflation,
            *sweep_result.advice(),
        )
        if sentence
    )
    direction: Literal["maximize", "minimize"] = "maximize" if sweep_result.maximize else "minimize"
    out = [
        urls.run(sweep_result.sweep_id),
        *(
            [urls.run(sweep_result.best["run_id"], "The best as a complete run")]
            if sweep_result.best
            else []
        ),
    ]
    html = sweep_page(
        sweep_result.trials.rename(columns=dotted),
        sweep_result.metric,
        direction,
        title or stored.name,
        chosen=sweep_result.best["trial"] if sweep_result.best else None,
        luck=sweep_result.luck,
        data_note=sweep_result.watermark,
        advice=advice,
        links=out,
        chips=_chips(stored, sweep_result.keys),
        address=urls.run_address,
    )
    return html.encode()


def _chips(stored: StoredRun, searched: Sequence[str]) -> list[str]:
    """The choices of a search; a grid of jobs has no configuration of its own."""
    if not (stored.artifacts / "config.json").is_file():
        return []
    search = None
    if (stored.artifacts / "search.json").is_file():
        search = json.loads(stored.file("search.json"))["search"]
    return chips(json.loads(stored.file("config.json")), search=search, searched=searched)
