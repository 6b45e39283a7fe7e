"""The search: freeze what was asked for, try points of the space, keep everything, run the best one in full."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcl import config, evidence, metrics, runs, schema
from mcl.data.bars import Bars
from mcl.engine.backtest import backtest as simulate
from mcl.errors import ConfigError, EngineError, StoreError, nearest
from mcl.search import space as spaces
from mcl.search.interrupt import Stop, interruptible
from mcl.search.ledger import Ledger
from mcl.search.loop import Loop
from mcl.search.pool import Inline, Pool, Workers
from mcl.search.progress import Board, Progress, Silent
from mcl.search.study import Study, planned
from mcl.search.swept import Swept, abandon, conclude, leader
from mcl.search.trial import Market, Objective
from mcl.tracking import Record, Store


@dataclass(frozen=True)
class Frozen:
    """What is fixed at launch."""

    composed: config.Composed
    run: schema.Config
    search: schema.Search
    space: spaces.Space
    market: Market
    bars: Bars
    total: int

    @property
    def title(self) -> str:
        axes = " × ".join(key.removeprefix("strategy.") for key in self.space)
        return f"{self.search.sampler} search · {self.run.strategy['name']} · {axes} · {self.total} trials"


def sweep(composed: config.Composed, *, store: Store, root: Path, progress: Progress | None = None) -> Swept:
    """Search `composed.search.space` and record every trial; the best one is run once more with all its artifacts.

    Ctrl-C keeps what is done and marks the parent KILLED. ConfigError before anything is recorded when the space, the metric or
    the configuration is not usable; StoreError or EngineError later, with the parent marked FAILED.
    """
    frozen = freeze(composed, root)
    sweep_id = store.start(_parent(frozen))
    board = Board(frozen.title, frozen.total, frozen.search.metric, frozen.search.direction == "maximize")
    shared = {k: v for k, v in evidence.tags(frozen.run, frozen.bars).items() if not k.startswith(("git.", "version."))}
    ledger = Ledger(store, frozen.run.study, sweep_id, runs.params(frozen.run), shared)
    try:
        with interruptible() as stop:
            _search(frozen, sweep_id, store, board, ledger, progress or Silent(), stop)
            best = _best(frozen, board, ledger, store, sweep_id, in_full=not stop.requested)
            watermark = evidence.watermark(frozen.bars)
            return conclude(store, frozen.run.study, sweep_id, board, ledger, best, interrupted=stop.requested, watermark=watermark)
    except BaseException as error:
        with suppress(StoreError):  # the store may be what failed; the first error is the one to tell
            abandon(store, frozen.run.study, sweep_id, error)
        raise


def freeze(composed: config.Composed, root: Path) -> Frozen:
    """Everything that can be refused is refused here, before a run exists."""
    run, search = composed.config, composed.search
    space = spaces.parse(search.space, composed.raw)
    total = planned(space, search)
    market = Market(root)
    bars = market.bars(run.data)
    measured = metrics.summary(simulate(run, bars))  # also compiles the kernel before a worker starts
    if search.metric not in measured:
        raise ConfigError(
            f"search.metric={search.metric!r} is not a metric: {nearest(search.metric, measured)}", "mcl report last shows them all"
        )
    return Frozen(composed, run, search, space, market, bars, total)


def _parent(frozen: Frozen) -> Record:
    searched = frozen.search.model_dump(mode="json")
    described = {key: str(axis) for key, axis in frozen.space.items()}
    overrides = {"overrides": list(frozen.composed.overrides), "argv": evidence.argv()}
    return Record(
        study=frozen.run.study,
        name=frozen.title,
        params=runs.params(frozen.run) | {f"search.{key}": value for key, value in config.flatten(searched).items()},
        tags=evidence.tags(frozen.run, frozen.bars) | {"mcl.kind": "sweep", "space_sha256": config.digest(described)},
        files={
            "config.json": json.dumps(frozen.run.model_dump(mode="json"), indent=1).encode(),
            "search.json": json.dumps({"search": searched, "space": described}, indent=1).encode(),
            "overrides.json": json.dumps(overrides).encode(),
        },
    )


def _search(frozen: Frozen, sweep_id: str, store: Store, board: Board, ledger: Ledger, progress: Progress, stop: Stop) -> None:
    """Run the trials; whatever ends the loop, all that was told is in the store afterwards."""
    search = frozen.search
    journal = store.folder / "sweeps" / f"{sweep_id}.journal"
    study = Study(sweep_id, journal, frozen.space, search, frozen.run.seed)
    objective = Objective(frozen.composed.raw, search, frozen.market)
    workers: Workers = Inline(objective) if search.workers == 1 else Pool(objective, search.workers)
    progress.begin(board)
    try:
        for outcome in Loop(study, workers, frozen.total, stop, search.timeout_sec):
            progress.trial(board, outcome, board.add(outcome))
            ledger.add(outcome)
    finally:
        workers.close()
        study.close()
        progress.end(board)
        ledger.flush()


def _best(frozen: Frozen, board: Board, ledger: Ledger, store: Store, sweep_id: str, *, in_full: bool) -> dict[str, Any] | None:
    """The best trial; `in_full` simulates it again as a complete run, which can be promoted, and insists on equal metrics."""
    best = leader(board, ledger)
    if best is None or not in_full:
        return best
    run = config.run_config(spaces.overlay(frozen.composed.raw, best["params"]))
    searched = ("search=", "search.", *(f"{key}=" for key in frozen.space))
    typed = [override for override in frozen.composed.overrides if not override.lstrip("+~").startswith(searched)]
    done = runs.backtest(
        run,
        store=store,
        root=frozen.market.root,
        overrides=[*typed, *(f"{key}={value}" for key, value in best["params"].items())],
        parent=sweep_id,
        bars=frozen.market.bars(run.data),
        extra_tags={"best_of": sweep_id, "trial": str(best["trial"])},
    )
    if moved := runs.unequal(best["metrics"], done.metrics):
        raise EngineError(f"trial {best['trial']} does not repeat: {', '.join(moved)} differ in run {done.run_id}")
    return best | {"run_id": done.run_id}
