"""Every kind of run is made again: bit-equal, or the difference is named with the input that moved.
Nothing is recorded by it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from deployments import OPEN_GATES, Project, empty_store, project

from mcl import composition, search
from mcl.base.errors import StoreError
from mcl.cli.main import main
from mcl.config import schema
from mcl.live.session import run_session
from mcl.ops.rerun import rerun
from mcl.promotion.promote import promote
from mcl.tracking import trial_ledger
from mcl.tracking.store import Record
from mcl.validation import holdout, validate

SEARCH = (
    *(
        "data=csv",
        "data.path=walk-15m.csv",
        "data.stamped_at=close",
        "data.timezone=UTC",
        "data.interval=15m",
        "data.holdout_start='2025-11-11'",
    ),
    *("strategy=ema_cross", "risk=fixed", "study=test", "search.min_trades=3", "search.trials=6"),
    *("strategy.fast=range(2, 12, 2)", "strategy.slow=range(12, 40, 4)"),
)
ASKED = schema.Validation(
    budget=4,
    folds=2,
    train_folds=1,
    cpcv_folds=4,
    cpcv_tests=1,
    purge_sessions=0,
    blocks=4,
    rules={"holdout": (0.5, 0.0), "pbo": (0.3, 0.5)},
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = project(
        tmp_path_factory.mktemp("again") / "project", empty_store(tmp_path_factory.mktemp("store"))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCL_HOME", str(made.root))
        yield made


@pytest.fixture(scope="module")
def single(shop: Project) -> str:
    return shop.run(shop.config(interval="15m"))


def swept(shop: Project, *overrides: str) -> str:
    done = search.sweep(composition.compose("sweep", [*SEARCH, *overrides]), project=shop)
    return done.sweep_id


def altered(shop: Project, run_id: str, column: str, change: Callable[[Any], Any]) -> None:
    """One cell of the table of trials, as only a hand can change it."""
    path = shop.store.run(run_id).artifacts / "trials.parquet"
    table = pd.read_parquet(path)
    row = int(table.index[table["state"] == "COMPLETE"][0])
    table.loc[row, column] = change(table.loc[row, column])
    table.to_parquet(path)


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe", "cmaes", "nsga2"])
def test_a_search_of_one_worker_goes_the_same_way_again(shop: Project, sampler: str) -> None:
    whole = (
        ("search.sampler=grid", "search.trials=12", "strategy.fast=2,4,6", "strategy.slow=12,20")
        if sampler == "grid"
        else ()
    )
    run_id = swept(shop, *(whole or (f"search.sampler={sampler}",)))
    before = len(shop.store.in_study("test")), trial_ledger.rows(shop.root).shape
    again = rerun(run_id, shop)
    assert (again.kind, again.differing, again.causes) == ("sweep", {}, ())
    # at points that were found again, not taken from the table
    assert again.sentence == "6 trials bit-equal"
    assert (len(shop.store.in_study("test")), trial_ledger.rows(shop.root).shape) == before


def test_a_pruned_search_of_one_worker_is_pruned_again(shop: Project) -> None:
    run_id = swept(
        shop,
        "search.pruner=halving",
        "search.folds=3",
        "search.sampler=random",
        "search.trials=10",
        "search.track=none",
    )
    again = rerun(run_id, shop)
    assert again.equal
    assert again.sentence == "10 trials bit-equal"


def test_a_search_in_processes_is_drawn_again_whatever_the_order_in_which_they_ended(
    shop: Project,
) -> None:
    run_id = swept(
        shop,
        "search.sampler=tpe",
        "search.trials=8",
        "search.workers=2",
        "search.trial_timeout_sec=60",
    )
    again = rerun(run_id, shop)
    assert again.equal
    assert again.sentence == "8 trials bit-equal"


def test_an_altered_trial_of_a_search_is_named(shop: Project) -> None:
    run_id = swept(shop, "search.sampler=random", "search.track=none")
    altered(shop, run_id, "sharpe", lambda value: value + 1e-12)
    again = rerun(run_id, shop)
    assert list(again.differing) == ["trial 0 sharpe"]
    altered(shop, run_id, "strategy.fast", lambda value: value + 2)
    assert "trial 0 strategy.fast" in rerun(run_id, shop).differing


def test_moved_data_of_a_search_are_named(shop: Project) -> None:
    run_id = swept(shop, "search.sampler=random", "search.track=none")
    source = shop.root / "walk-15m.csv"
    before = source.read_bytes()
    try:
        # ten times the volume of one bar
        source.write_bytes(before.replace(b",MCLF6\n", b"1,MCLF6\n", 1))
        assert any(
            cause.startswith("data changed: chunk walk-15m.csv")
            for cause in rerun(run_id, shop).causes
        )
    finally:
        source.write_bytes(before)


def test_a_walk_forward_search_is_optimised_and_stitched_again(shop: Project) -> None:
    run_id = swept(
        shop,
        "search.sampler=random",
        "search.walk_forward=anchored",
        "search.folds=2",
        "search.purge_sessions=0",
    )
    again = rerun(run_id, shop)
    assert (again.kind, again.differing, again.causes) == ("walk_forward", {}, ())
    assert len(again.runs) == 2
    altered(shop, again.runs[0], "net_pnl_usd", lambda value: value + 1)
    assert [name.split()[0] for name in rerun(run_id, shop).differing] == ["part"]


def test_a_grid_is_every_run_below_it(shop: Project) -> None:
    typed = [o for o in SEARCH if not o.startswith(("search", "strategy."))]
    done = search.grid([*typed, "strategy.fast=5,10", "strategy.slow=30"], project=shop)
    again = rerun(done.sweep_id, shop)
    assert (again.kind, again.differing, again.sentence) == (
        "grid",
        {},
        "2 runs, every metric bit-equal",
    )


def test_a_validation_is_asked_again_and_looks_at_nothing_new(shop: Project, single: str) -> None:
    done = validate.validate(single, ASKED, project=shop)
    looks = len(holdout.looks(shop.root))
    again = rerun(done.run_id, shop)
    assert (again.kind, again.differing, again.causes) == ("validation", {}, ())
    assert len(holdout.looks(shop.root)) == looks
    shop.run(shop.config(interval="15m", strategy={"name": "ema_cross", "fast": 7, "slow": 33}))
    later = rerun(done.run_id, shop)
    assert later.equal
    assert "the trial ledger counts +1 trials since" in later.sentence
    path = shop.store.run(done.run_id).artifacts / "validation.json"
    facts = json.loads(path.read_text())
    facts["rows"][0]["level"] = "altered"
    path.write_text(json.dumps(facts))
    assert list(rerun(done.run_id, shop).differing) == ["verdict holdout"]
    (path.parent / "settings.json").unlink()
    with pytest.raises(StoreError, match="does not hold its settings"):
        rerun(done.run_id, shop)


def test_a_session_is_audited_again_from_the_journal_of_its_run(shop: Project, single: str) -> None:
    promote(single, project=shop, gates=OPEN_GATES)
    done = run_session("paper", schema.BrokerConfig(), project=shop)
    shutil.rmtree(done.journal.parent)  # the run alone is enough
    before = len(shop.store.in_study("live"))
    again = rerun(done.run_id, shop)
    assert (again.kind, again.differing, again.causes) == ("session", {}, ())
    assert len(shop.store.in_study("live")) == before
    path = shop.store.run(done.run_id).artifacts / "data" / "decisions.parquet"
    table = pd.read_parquet(path)
    table["close"] += np.where(np.arange(len(table)) == 3, 0.01, 0.0)
    table.to_parquet(path)
    assert list(rerun(done.run_id, shop).differing) == ["decisions row 3 close"]


def test_the_verb_says_what_was_compared_or_fails(
    shop: Project, single: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--json", "rerun", single]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["kind"], answer["equal"]) == ("backtest", True)
    run_id = swept(shop, "search.sampler=qmc", "search.trials=4")
    altered(shop, run_id, "trades", lambda value: value + 1)
    assert main(["--json", "rerun", run_id]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"].startswith(f"sweep {run_id} does not reproduce: trial 0 trades was ")
    then, now = error["differences"]["trial 0 trades"]
    assert then == now + 1


def test_what_has_nothing_to_be_held_against_is_refused(shop: Project) -> None:
    running = shop.store.start(Record("test", "begun", tags={"mcl.kind": "sweep"}))
    foreign = shop.store.record(Record("test", "by hand"))
    with pytest.raises(StoreError, match="RUNNING"):
        rerun(running, shop)
    with pytest.raises(StoreError, match="not made by mcl"):
        rerun(foreign, shop)


def test_every_kind_that_is_recorded_can_be_made_again() -> None:
    from mcl.ops.rerun import KINDS

    recorded = set()
    for path in (Path(__file__).resolve().parents[2] / "mcl").rglob("*.py"):
        recorded |= {
            line.split('"mcl.kind": "')[1].split('"')[0]
            for line in path.read_text().splitlines()
            if '"mcl.kind": "' in line
        }
    assert recorded | {"walk_forward"} == set(KINDS)


def test_a_run_on_an_older_world_is_refused(shop: Project, single: str) -> None:
    path = shop.store.run(single).artifacts / "manifest.json"
    text = path.read_text()
    facts = {"world": {"parameters": {"world": "zero_edge", "version": 6, "seed": 7}}}
    path.write_text(json.dumps(json.loads(text) | {"facts": facts}))
    try:
        with pytest.raises(StoreError, match="was made on version 6 of the generated world"):
            rerun(single, shop)
    finally:
        path.write_text(text)
    assert rerun(single, shop).equal
