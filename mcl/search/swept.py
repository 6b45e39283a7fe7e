"""What a search or a grid leaves behind: the closed parent run and the answer to the caller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mcl.search.ledger import Ledger
from mcl.search.progress import Board, shown
from mcl.tracking import Record, Status, Store

if TYPE_CHECKING:
    import pandas as pd

HEADLINES = ("sharpe", "net_pnl_usd", "max_drawdown_frac", "trades")
LISTED = 10


@dataclass(frozen=True)
class Swept:
    """`trials`: one row per trial (see `Ledger.frame`). `best`: trial, value, params, metrics, run_id; None when nothing has a score."""

    sweep_id: str  # run id of the parent
    trials: pd.DataFrame
    states: dict[str, int]  # COMPLETE, PRUNED, FAILED
    best: dict[str, Any] | None
    report: Path
    keys: list[str]  # what was varied: columns of `trials`
    metric: str
    maximize: bool
    interrupted: bool = False
    watermark: str = ""

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """(title, columns, rows) for a terminal: the best trials, then why the others have no score."""
        return [self._leaders(), *self._lost()]

    def _leaders(self) -> tuple[str, list[str], list[list[str]]]:
        scored = self.trials[self.trials["state"] == "COMPLETE"]
        names = [name for name in dict.fromkeys([self.metric, *HEADLINES]) if name in self.trials.columns]
        ranked = scored.sort_values(["value", "trial"], ascending=[not self.maximize, True]).head(LISTED)
        whole = {self.best["trial"]: self.best["run_id"]} if self.best else {}  # the best trial's complete run, which can be promoted
        rows = [
            [str(row["trial"]), *(shown(row[name]) for name in [*self.keys, *names]), whole.get(row["trial"], row["run_id"])[:12]]
            for row in ranked.to_dict("records")
        ]
        title = f"{len(scored)} of {len(self.trials)} trials scored" + (", interrupted" if self.interrupted else "")
        title += f" · {self.watermark}" if self.watermark else ""
        return title, ["trial", *(key.removeprefix("strategy.") for key in self.keys), *names, "run"], rows

    def _lost(self) -> list[tuple[str, list[str], list[list[str]]]]:
        groups = self.trials[self.trials["state"] != "COMPLETE"].groupby(["state", "reason"], sort=True)
        rows = [[state, reason, str(len(found)), found["detail"].iloc[0]] for (state, reason), found in groups]
        return [("without a score", ["state", "reason", "trials", "the first says"], rows)] if rows else []


def leader(board: Board, ledger: Ledger) -> dict[str, Any] | None:
    """The best trial so far, with the id of its child run."""
    best = board.best
    if best is None:
        return None
    run_id = ledger.run_ids[best.number]
    return {"trial": best.number, "value": best.value, "params": best.params, "metrics": best.metrics, "run_id": run_id}


def conclude(
    store: Store, study: str, sweep_id: str, board: Board, ledger: Ledger, best: dict[str, Any] | None, *, interrupted: bool, watermark: str
) -> Swept:
    """Close the parent run with its tables, its page and the best trial, and say what came of it."""
    trials = ledger.frame()
    swept = Swept(
        sweep_id=sweep_id,
        trials=trials,
        states=dict(board.states),
        best=best,
        report=store.run(sweep_id).artifacts / "sweep.html",
        keys=ledger.keys(),
        metric=board.metric,
        maximize=board.maximize,
        interrupted=interrupted,
        watermark=watermark,
    )
    counts = {"trials": float(len(trials))} | {f"trials_{state.lower()}": float(count) for state, count in board.states.items()}
    scores = {f"best_{name}": value for name, value in best["metrics"].items()} if best else {}
    tags = {"best_run_id": best["run_id"], "best_trial": str(best["trial"])} if best else {}
    record = Record(
        study=study,
        name=board.title,
        metrics=counts | scores | {"trials_per_sec": board.rate},
        tags=tags | {"interrupted": str(interrupted).lower()},
        files=ledger.files() | {"sweep.html": _page(swept, board.title)},
        series={f"leader_{board.metric}": board.improvements},
        status="KILLED" if interrupted else "FINISHED",
    )
    store.finish(sweep_id, record)
    return swept


def abandon(store: Store, study: str, sweep_id: str, error: BaseException) -> None:
    """Mark a parent whose loop ended by an exception: KILLED by a person, else FAILED."""
    status: Status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
    store.finish(sweep_id, Record(study, "", tags={"mcl.error": f"{type(error).__name__}: {error}"[:1000]}, status=status))


def _page(swept: Swept, title: str) -> bytes:
    from mcl.report.sweep import sweep_page

    dotted = {key: key if "." in key else f"params.{key}" for key in swept.keys}  # how the page knows a parameter
    lead = "Ended by hand before all trials were run." if swept.interrupted else ""
    direction: Literal["maximize", "minimize"] = "maximize" if swept.maximize else "minimize"
    page = sweep_page(swept.trials.rename(columns=dotted), swept.metric, direction, title, synthetic=swept.watermark, lead=lead)
    return page.encode()
