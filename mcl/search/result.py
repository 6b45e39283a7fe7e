"""What a search or a grid leaves behind: the closed parent run and the answer to the caller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mcl.metrics.overfit import Luck
from mcl.report.format import number
from mcl.search.progress import Board, shown
from mcl.search.recorder import Ledger
from mcl.search.space import Space
from mcl.tracking import urls
from mcl.tracking.naming import EXPERIMENT, NOTE, RUN
from mcl.tracking.store import Record, Status, Store

if TYPE_CHECKING:
    import pandas as pd

HEADLINES = ("sharpe", "net_pnl_usd", "max_drawdown_frac", "trades")
LISTED = 10


@dataclass(frozen=True)
class Swept:
    """`trials`: one row per trial (see `Ledger.frame`). `best`: trial, value, params, metrics,
    run_id; None when nothing has a score.
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
        chance = number(self.luck.best_by_luck, "ratio")
        return (
            f"Trial {self.best['trial']}: {number(self.luck.deflated, 'percent')}"
            f" {self.luck.sentence}, best by luck {chance}"
        )

    def advice(self) -> list[str]:
        """Sentences about where the best lies: peak and plateau, and walls of the space that it
        leans against.
        """
        from mcl.search import plateau

        if self.best is None or self.space is None:
            return []
        said = plateau.edges(self.best["params"], self.space)
        walls = (
            [
                f"The best lies at the edge of the space: {', '.join(said)}; widen it before you"
                " trust it"
            ]
            if said
            else []
        )
        around = self.trials["plateau"].astype(float)
        if around.isna().all():
            return walls
        scored = self.trials["state"] == "COMPLETE"
        if "excess" in self.trials and (kept := scored & (self.trials["excess"] <= 0)).any():
            scored, around = kept, around.where(kept)
        values = self.trials["value"].astype(float).where(scored)
        row, peak = self._extreme(around, values), self._extreme(values)
        there = [key for key in self.keys if not _is_missing(row[key])]
        names = [f"{key.removeprefix('strategy.')} {shown(row[key])}" for key in there]
        said_peak = (
            f"Best by peak: trial {peak['trial']}, {self.metric} {shown(float(peak['value']))}"
            " (neighbourhood"
        )
        said_plateau = (
            f"Best by plateau: trial {row['trial']}, {self.metric} {shown(float(row['value']))}"
            " (neighbourhood"
        )
        return [
            f"{said_peak} {shown(float(peak['plateau']))})",
            f"{said_plateau} {shown(float(row['plateau']))}), {', '.join(names)}",
            *walls,
        ]

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
        # the best trial's complete run, which can be promoted
        whole = {self.best["trial"]: self.best["run_id"]} if self.best else {}
        rows = [
            [
                str(row["trial"]),
                *(shown(row[name]) for name in [*self.keys, *names]),
                whole.get(row["trial"], row["run_id"])[:12],
            ]
            for row in ranked.to_dict("records")
        ]
        title = f"{len(scored)} of {len(self.trials)} trials scored" + (
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
        found = (
            self.trials[self.trials["front"].astype(bool)]
            .sort_values("value", ascending=not self.maximize)
            .head(LISTED)
        )
        names = [name for name in HEADLINES if name in self.trials.columns]
        rows = [
            [str(row["trial"]), *(shown(row[name]) for name in [*self.keys, *names])]
            for row in found.to_dict("records")
        ]
        count = int(self.trials["front"].astype(bool).sum())
        title = (
            f"Pareto front: {count} of {(self.trials['state'] == 'COMPLETE').sum()} scored trials,"
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
            [state, reason, str(len(found)), found["detail"].iloc[0]]
            for (state, reason), found in groups
        ]
        return (
            [("without a score", ["state", "reason", "trials", "the first says"], rows)]
            if rows
            else []
        )


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def by_value(scored: pd.DataFrame, maximize: bool) -> pd.DataFrame:
    """The best first; what breaks a soft constraint comes after all that keep them."""
    soft = ["excess"] if "excess" in scored else []
    return scored.sort_values(
        [*soft, "value", "trial"], ascending=[*(True for _ in soft), not maximize, True]
    )


def leader(board: Board, ledger: Ledger) -> dict[str, Any] | None:
    """The best trial so far, with the id of its child run."""
    best = board.best
    if best is None:
        return None
    run_id = ledger.run_ids[best.number]
    return {
        "trial": best.number,
        "value": best.value,
        "params": best.params,
        "metrics": best.metrics,
        "run_id": run_id,
    }


@dataclass(frozen=True)
class Ending:
    """How a search ended: `why` is empty when every trial was run. `space` is None for a grid of
    jobs.
    """

    status: Status
    why: str
    watermark: str
    space: Space | None = None


def conclude(
    store: Store,
    study: str,
    sweep_id: str,
    board: Board,
    ledger: Ledger,
    best: dict[str, Any] | None,
    ending: Ending,
    also: Mapping[str, str] | None = None,
) -> Swept:
    """Close the parent run with its tables, its page and the best trial, and say what came of
    it.
    """
    trials = surveyed(ledger.frame(), ending.space, board.metric, board.maximize, also or {})
    swept = Swept(
        sweep_id=sweep_id,
        trials=trials,
        states=dict(board.states),
        best=best,
        report=store.artifacts(sweep_id) / "sweep.html",
        keys=ledger.keys(),
        metric=board.metric,
        maximize=board.maximize,
        status=ending.status,
        why=ending.why,
        watermark=ending.watermark,
        space=ending.space,
        luck=ledger.luck(best["trial"]) if best else None,
    )
    counts = {"trials": float(len(trials))} | {
        f"trials_{state.lower()}": float(count) for state, count in board.states.items()
    }
    scores = (
        {f"best_{name}": value for name, value in best["metrics"].items() if math.isfinite(value)}
        if best
        else {}
    )
    tags = {"best_run_id": best["run_id"], "best_trial": str(best["trial"])} if best else {}
    tags |= {NOTE: described(swept)}
    record = Record(
        study=study,
        name=board.title,
        tags=tags
        | {
            "interrupted": str(swept.interrupted).lower(),
            "stopped": ending.why[:1000],
            "target": str(board.total),
        },
        files=ledger.files(trials) | {"sweep.html": page(swept, board.title)},
        series=_steps(counts | scores | {"trials_per_sec": board.rate}, board)
        | {f"leader_{board.metric}": board.improvements},
        status=ending.status,
    )
    store.finish(sweep_id, record)
    store.analyze()
    return swept


def described(swept: Swept) -> str:
    """The parent's description in MLflow, in Markdown: what came of it, the best trials as links,
    and where the page is.
    """
    here = f"#/experiments/{EXPERIMENT}/runs"
    states = ", ".join(
        f"{count:,} {state.lower()}" for state, count in swept.states.items() if count
    )
    scored = by_value(swept.trials[swept.trials["state"] == "COMPLETE"], swept.maximize)
    names = [key.rpartition(".")[2] for key in swept.keys]
    rows = [
        " | ".join(
            [
                f"| [{row['trial']}]({here}/{row['run_id']})",
                *(shown(row[key]) for key in swept.keys),
                f"{shown(row['value'])} |",
            ]
        )
        for row in scored.head(5).to_dict("records")
    ]
    parts = [
        f"{len(swept.trials):,} trials: {states}.",
        f"**{swept.watermark}**" if swept.watermark else "",
        (
            "\n".join(
                [
                    f"| trial | {' | '.join([*names, swept.metric])} |",
                    "|---|" + "---:|" * (len(names) + 1),
                    *rows,
                ]
            )
            if rows
            else ""
        ),
        " ".join(f"{sentence}." for sentence in (swept.deflation, *swept.advice()) if sentence),
        f"[Page of the search]({here}/{RUN}/artifacts/sweep.html)"
        + (f" · [the best as a complete run]({here}/{swept.best['run_id']})" if swept.best else ""),
    ]
    return "\n\n".join(filter(None, parts))


def surveyed(
    trials: pd.DataFrame, space: Space | None, metric: str, maximize: bool, also: Mapping[str, str]
) -> pd.DataFrame:
    """The table of trials with `plateau`, what three in four trials around it reach, and `front`,
    whether it is on the Pareto front.
    """
    from mcl.search import plateau

    scored = (trials["state"] == "COMPLETE").to_numpy()
    if space is None or not scored.any():
        return trials
    kept = trials[scored]
    around, front = np.full(len(trials), math.nan), np.zeros(len(trials), bool)
    around[scored] = plateau.plateaus(
        kept.reindex(columns=list(space)), kept["value"].to_numpy(float), maximize=maximize
    )[0]
    if not also:
        return trials.assign(plateau=around)
    aims = [maximize, *(direction == "maximize" for direction in also.values())]
    front[scored] = plateau.front(kept[[metric, *also]].to_numpy(float), aims)
    return trials.assign(plateau=around, front=front)


def _steps(values: dict[str, float], board: Board) -> dict[str, list[tuple[int, float]]]:
    """Metrics at the step of the trials done, so that those of a sweep that went on stand above the
    earlier ones.
    """
    return {name: [(board.done, value)] for name, value in values.items()}


def abandon(store: Store, study: str, sweep_id: str, error: BaseException) -> None:
    """Mark a parent whose loop ended by an exception: KILLED by a person, else FAILED."""
    status: Status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
    store.finish(
        sweep_id,
        Record(
            study, "", tags={"mcl.error": f"{type(error).__name__}: {error}"[:1000]}, status=status
        ),
    )


def page(swept: Swept, title: str) -> bytes:
    from mcl.report.sweep import sweep_page

    # how the page knows a parameter
    dotted = {key: key if "." in key else f"params.{key}" for key in swept.keys}
    advice = " ".join(
        f"{sentence}."
        for sentence in (
            f"Ended before all trials were run: {swept.why}" if swept.why else "",
            swept.deflation,
            *swept.advice(),
        )
        if sentence
    )
    direction: Literal["maximize", "minimize"] = "maximize" if swept.maximize else "minimize"
    out = [
        urls.run(swept.sweep_id),
        *([urls.run(swept.best["run_id"], "The best as a complete run")] if swept.best else []),
    ]
    drawn = sweep_page(
        swept.trials.rename(columns=dotted),
        swept.metric,
        direction,
        title,
        chosen=swept.best["trial"] if swept.best else None,
        luck=swept.luck,
        synthetic=swept.watermark,
        advice=advice,
        links=out,
        address=urls.run_address,
    )
    return drawn.encode()
