"""Hill against needle, and findings about a run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mcl
from mcl import composition
from mcl.base.errors import ConfigError, StoreError
from mcl.library.research import chosen
from mcl.search.plateau import plateaus
from mcl.tracking import backtest_run
from mcl.validation.critique import critique
from mcl.validation.neighbourhood import Plateau
from mcl.validation.selection import choose, pick

from .planted import SWEEP, Case


def test_a_needle_loses_against_a_hill() -> None:
    grid = pd.DataFrame([(a, b) for a in range(10) for b in range(10)], columns=["a", "b"])
    far = np.hypot(grid["a"].to_numpy() - 6, grid["b"].to_numpy() - 3)
    hill = 2.0 - 0.2 * far
    scores = hill.copy()
    scores[grid.index[(grid["a"] == 1) & (grid["b"] == 8)]] = 5.0
    around, counted = plateaus(grid, scores)
    assert grid.iloc[int(scores.argmax())].tolist() == [1, 8]
    assert grid.iloc[int(around.argmax())].tolist() == [6, 3]
    assert counted.min() >= 15


def test_words_are_one_step_apart_and_a_single_trial_is_its_own_plateau() -> None:
    around, _ = plateaus(
        pd.DataFrame({"side": ["long", "short", "both"]}), np.array([1.0, 2.0, 3.0])
    )
    assert len(around) == 3
    alone, one = plateaus(pd.DataFrame({"n": [4]}), np.array([1.5]))
    assert (alone[0], one[0]) == (1.5, 1)


def test_the_choice_is_explained(case: Case) -> None:
    found = choose(case.sweep_id, ["max_drawdown_frac > -0.9", "trades >= 5"], project=case.project)
    assert found.ranked["around"].is_monotonic_decreasing
    assert found.winner["around"] == found.ranked["around"].max()
    assert found.peak["sharpe"] == found.ranked["sharpe"].max()
    assert f"Trial {found.winner['trial']} " in found.why
    assert "peak" in found.why
    assert found.tally.count >= len(found.ranked)
    assert found.ranked["dsr"].between(0, 1).all()


def test_every_verb_means_the_same_trial_of_a_search(case: Case) -> None:
    choice = choose(case.sweep_id, (), project=case.project)
    picked = pick(case.project.store.run(case.sweep_id), project=case.project)
    assert case.validated.subject_id == picked.run_id == chosen(case.sweep_id)[0]
    stored = case.project.store.run(picked.run_id)
    assert stored.tags["trial"] == str(choice.winner["trial"])
    assert f"choice by plateau: Trial {choice.winner['trial']} " in picked.why
    page = case.validated.report.read_text()
    assert f"Trial {choice.winner['trial']} (" in page
    about, _ = critique(case.sweep_id, project=case.project)
    assert about.stored.run_id == picked.run_id
    assert mcl.compose(base=case.sweep_id).config.strategy == about.run.strategy


def test_a_trial_of_a_search_is_named_by_its_number(case: Case) -> None:
    peak = choose(case.sweep_id, (), project=case.project).peak
    picked = pick(case.project.store.run(case.sweep_id), int(peak["trial"]), project=case.project)
    assert case.project.store.run(picked.run_id).tags["trial"] == str(peak["trial"])
    assert f"trial {peak['trial']}, as --trial says" in picked.why
    with pytest.raises(StoreError, match="has no trial 999: its trials are 0 to"):
        pick(case.project.store.run(case.sweep_id), 999, project=case.project)
    with pytest.raises(StoreError, match="is no search and has no trial 1"):
        pick(case.project.store.run(picked.run_id), 1, project=case.project)


def test_the_only_trial_is_called_the_only_one(case: Case) -> None:
    everything = choose(case.sweep_id, (), project=case.project)
    best = float(everything.ranked["sharpe"].max())
    one = choose(case.sweep_id, [f"sharpe >= {best!r}"], project=case.project)
    assert "is the only trial with a Sharpe ratio that meets the constraints" in one.why
    assert "nearest" not in one.why


def test_constraints_are_kept_or_refused_in_words(case: Case) -> None:
    everything = choose(case.sweep_id, [], project=case.project)
    bound = float(everything.ranked["trades"].median())
    half = choose(case.sweep_id, [f"trades > {bound}"], project=case.project)
    assert (half.ranked["trades"] > bound).all()
    assert half.refused == len(everything.ranked) - len(half.ranked)
    with pytest.raises(ConfigError, match="did you mean 'max_drawdown_frac'"):
        choose(case.sweep_id, ["max_drawdown_fraq > -0.2"], project=case.project)
    with pytest.raises(ConfigError, match="cannot read the constraint 'sharpe'"):
        choose(case.sweep_id, ["sharpe"], project=case.project)
    with pytest.raises(StoreError, match="none meets all constraints"):
        choose(case.sweep_id, ["sharpe > 99"], project=case.project)
    with pytest.raises(StoreError, match="is a backtest, not a search"):
        choose(case.validated.subject_id, [], project=case.project)


def run(case: Case, *overrides: str) -> str:
    base = [o for o in SWEEP if not o.startswith(("search", "strategy."))]
    keys = {o.split("=")[0] for o in overrides}
    composed = composition.compose(
        "backtest", [*(o for o in base if o.split("=")[0] not in keys), *overrides]
    )
    return backtest_run.backtest(composed.config, project=case.project, report=False).run_id


def test_findings_are_ranked_and_say_what_to_do(case: Case) -> None:
    # hundreds of trades, each of them too dear
    run_id = run(case, "strategy.fast=1", "strategy.slow=3")
    _, found = critique(run_id, project=case.project)
    assert 1 <= len(found) <= 10
    assert [f.weight for f in found] == sorted((f.weight for f in found), reverse=True)
    assert all(0 <= f.weight <= 1 and f.text and f.sample and f.advice for f in found)
    names = [f.name for f in found]
    assert "it loses money" in names
    assert "within luck" not in names  # there is no profit that luck could explain


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (("strategy.fast=12", "strategy.slow=48", "costs=free"), "no costs"),
        (("strategy.fast=12", "strategy.slow=4000"), "few trades"),
        (("strategy=always_long",), "few trades"),
    ],
)
def test_a_planted_fault_is_found(case: Case, overrides: tuple[str, ...], name: str) -> None:
    _, found = critique(run(case, *overrides), project=case.project)
    assert name in [f.name for f in found]


def test_the_planted_rule_has_no_fault_of_its_own_kind(case: Case) -> None:
    _, found = critique(run(case, "strategy.fast=12", "strategy.slow=48"), project=case.project)
    assert {f.name for f in found}.isdisjoint(
        {
            "no costs",
            "timing without effect",
            "look-ahead suspicion",
            "one trade carries the profit",
        }
    )


def test_a_hold_out_that_others_have_seen_is_a_finding(case: Case) -> None:
    """Last in this file: from here on the market's ledger knows of the look."""
    before = critique(case.validated.subject_id, project=case.project)[1]
    run(case, "data.holdout_start=null", "strategy.fast=8", "strategy.slow=48")
    after = critique(case.validated.subject_id, project=case.project)[1]
    assert "hold-out was seen" not in [f.name for f in before]
    assert next(f for f in after if f.name == "hold-out was seen").text.startswith(
        "1 trial on this market"
    )


@pytest.mark.parametrize(
    ("centre", "neighbours", "said"),
    [
        (0.5, [({"n": 1}, 0.4)], ""),
        (-0.5, [({"n": 1}, 0.4)], "not defined: its own Sharpe ratio of -0.50 is not above 0"),
        (math.nan, [({"n": 1}, 0.4)], "not defined: its own Sharpe ratio of n/a is not above 0"),
        (0.5, [], "not defined: no neighbouring configuration is valid"),
    ],
)
def test_a_plateau_that_is_not_defined_says_why(
    centre: float, neighbours: list[tuple[dict[str, Any], float]], said: str
) -> None:
    around = Plateau(centre, neighbours, {}, [])
    assert around.undefined == said
    assert math.isnan(around.share_of_centre(0.25)) == bool(said)
