"""One validation of a search over a market with a known edge: every number against another way to
it.
"""

from __future__ import annotations

import json
import math
from datetime import date
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chromium import DRAWN, Chromium

from mcl import composition, search
from mcl.base.errors import ConfigError
from mcl.data.bars import Bars
from mcl.data.loader import load
from mcl.engine.backtest import backtest as simulate
from mcl.market.instruments import MCL, Contract
from mcl.metrics.summary import summary
from mcl.tracking import backtest_run
from mcl.validation import stress, validate, verdict
from mcl.validation.checks import path_sharpes
from mcl.validation.holdout import looks
from mcl.validation.neighbourhood import around, edges
from mcl.validation.subject import sampled, subject

from .planted import SETTINGS, SWEEP, Case, market


def test_a_strong_edge_passes_and_everything_is_recorded(case: Case) -> None:
    done = case.validated
    levels = {row.name: row.level for row in done.rows}
    assert set(levels) == set(SETTINGS.rules)
    assert {
        levels[n]
        for n in (
            "deflated_sharpe",
            "walk_forward_anchored",
            "cpcv_negative",
            "spa",
            "timing",
            "costs_doubled",
        )
    } == {"pass"}
    child = case.project.store.run(done.run_id)
    assert (child.parent, child.tags["mcl.kind"], child.tags["verdict"]) == (
        done.subject_id,
        "validation",
        done.level,
    )
    assert child.metrics["validate_deflated_sharpe"] == next(
        r.value for r in done.rows if r.name == "deflated_sharpe"
    )
    facts = json.loads(child.file("validation.json"))
    assert [row["name"] for row in facts["rows"]] == list(SETTINGS.rules)
    page = done.report.read_text()
    assert f"{done.answers.tally.count:,} trials" in page
    assert "hold-out looked at 1×" in page


def test_each_look_at_the_holdout_is_counted_and_may_be_left_alone(case: Case) -> None:
    quiet = validate.validate(
        case.sweep_id,
        SETTINGS.model_copy(update={"holdout": False}),
        project=case.project,
    )
    row = next(r for r in quiet.rows if r.name == "holdout")
    assert (row.level, row.meaning) == (verdict.UNKNOWN, "left alone: validate.holdout=false")
    before = len(looks(case.project.root))
    again = validate.validate(case.sweep_id, SETTINGS, project=case.project)
    assert len(looks(case.project.root)) == before + 1
    assert again.answers.look.number == before + 1
    counted = ("holdout", "deflated_sharpe", "history_ratio")  # more looks, more trials
    assert {r.name: r.value for r in again.rows if r.name not in counted} == pytest.approx(
        {r.name: r.value for r in case.validated.rows if r.name not in counted}, nan_ok=True
    )


def test_out_of_sample_returns_are_those_of_the_choices(case: Case) -> None:
    a = case.validated.answers
    assert a.anchored is not None
    assert len(np.unique(a.anchored.sessions)) == len(a.anchored.returns)
    size = len(a.anchored.returns) // len(a.anchored.chosen)
    last = a.sample.points.index(a.anchored.chosen[-1])
    assert np.array_equal(
        a.anchored.returns[-size:], a.sample.returns[a.anchored.sessions[-size:], last]
    )
    train = a.sample.returns[: a.anchored.sessions[-size] - SETTINGS.purge_sessions]
    ratios = train.mean(axis=0) / train.std(axis=0, ddof=1)
    assert ratios.argmax() == last
    assert a.paths is not None
    assert not np.isnan(a.paths).any()
    assert len(path_sharpes(a)) == 4


def test_at_the_break_even_slippage_nothing_is_left(case: Case) -> None:
    about = case.validated.answers.subject
    limit = stress.break_even_ticks(about.result)
    raw = about.raw | {"costs": about.raw["costs"] | {"slippage_ticks": limit}}
    assert about.raw["risk"]["limits"]["max_daily_loss_usd"] is not None
    loose = raw | {
        "risk": (
            raw["risk"]
            | {
                "limits": (
                    raw["risk"]["limits"] | {"max_daily_loss_usd": None, "max_drawdown_frac": None}
                )
            }
        )
    }
    result = simulate(composition.run_config(loose), about.bars)
    quantity = np.abs(result.fills["quantity"]).sum()
    assert abs(result.net_pnl_usd) < 0.03 * abs(about.result.net_pnl_usd)
    assert quantity > 0


def test_costs_and_delays_are_other_runs(case: Case) -> None:
    a = case.validated.answers
    own = a.subject.metrics
    by_name = {c.name: c for c in (*a.costs, *a.delays)}
    assert by_name["costs × 1"].sharpe == own["sharpe"]
    assert (
        by_name["costs × 0.5"].net_pnl_usd
        > own["net_pnl_usd"]
        > by_name["costs × 2"].net_pnl_usd
        > by_name["costs × 3"].net_pnl_usd
    )
    late = composition.run_config(
        a.subject.raw | {"execution": a.subject.raw["execution"] | {"latency_bars": 2}}
    )
    assert (
        by_name["2 bars late"].sharpe
        == summary(simulate(late, a.subject.bars))["sharpe"]
        != own["sharpe"]
    )


def test_regimes_share_out_the_whole_result(case: Case) -> None:
    a = case.validated.answers
    for kind in ("year", "volatility", "session part"):
        parts = [r for r in a.regimes if r.kind == kind]
        assert sum(r.net_pnl_usd for r in parts) == pytest.approx(a.subject.result.net_pnl_usd)
    sizes = [r.sessions for r in a.regimes if r.kind == "volatility"]
    assert max(sizes) - min(sizes) <= 1


def test_the_neighbourhood_is_one_step_around(case: Case) -> None:
    about = case.validated.answers.subject
    own = about.point
    for point, ratio in case.validated.answers.plateau.neighbours:
        assert abs(point["strategy.fast"] - own["strategy.fast"]) in (0, 4)
        assert abs(point["strategy.slow"] - own["strategy.slow"]) in (0, 12)
        result = about.at(point)
        assert result is not None
        assert ratio == summary(result)["sharpe"]
    for key in own:
        assert own[key] in around(about, key)
        ends = {"strategy.fast": (4, 24), "strategy.slow": (24, 96)}[key]
        assert (key in edges(about)) == (own[key] in ends)


def test_points_are_distinct_and_depend_on_the_seed_alone(case: Case) -> None:
    space = case.validated.answers.subject.space
    points = list(sampled(space, 20, 1))
    assert points == list(sampled(space, 20, 1)) != list(sampled(space, 20, 2))
    assert len({json.dumps(p) for p in points}) == len(points) == 42  # every point of a small grid


def test_unknown_rules_are_refused_before_anything_runs(case: Case) -> None:
    with pytest.raises(ConfigError, match=r"validate\.rules\.pbi is no rule: did you mean 'pbo'"):
        validate.validate(
            case.sweep_id,
            SETTINGS.model_copy(update={"rules": {"pbi": (0.1, 0.5)}}),
            project=case.project,
        )


def test_levels_lie_between_their_bounds() -> None:
    assert [verdict.level(v, 0.95, 0.8) for v in (1.0, 0.95, 0.9, 0.8, math.nan)] == [
        "pass",
        "pass",
        "borderline",
        "stop",
        "not judged",
    ]
    assert [verdict.level(v, 0.05, 0.2) for v in (0.0, 0.05, 0.1, 0.2)] == [
        "pass",
        "pass",
        "borderline",
        "stop",
    ]


# ------------------------------------------------------------------------------------- the hold-out


def test_search_and_validation_never_see_what_lies_behind_the_fence(
    case: Case, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same market with another future gives the same search and, but for the hold-out row, the
    same validation.
    """
    from mcl.tracking.project import Project

    other = tmp_path_factory.mktemp("other")
    frame = market()
    hidden = (frame["time"] >= "2024-09-02T22:00:00Z").to_numpy()
    for column in ("open", "high", "low", "close"):
        frame.loc[hidden, column] = (frame.loc[hidden, column] * 1.5).round(2)
    frame.to_csv(other / "market.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCL_HOME", str(other))
        swept = search.sweep(composition.compose("sweep", list(SWEEP)), project=Project.at(other))
        done = validate.validate(swept.sweep_id, SETTINGS, project=Project.at(other))
    mine = {r.name: r.value for r in case.validated.rows}
    for row in done.rows:
        if row.name != "holdout":
            assert row.value == pytest.approx(mine[row.name], nan_ok=True), row.name
    assert next(r.value for r in done.rows if r.name == "holdout") != mine["holdout"]


def test_no_part_of_the_subject_reaches_behind_the_fence(case: Case) -> None:
    about = subject(case.sweep_id, case.project)
    fence = int(np.datetime64("2024-09-03", "D").astype(np.int64))
    assert about.bars.session.max() < fence
    whole = load(about.run.data, case.project.root, holdout=True)
    assert whole.session.max() >= fence
    assert len(case.validated.answers.sample.returns) == len(np.unique(about.bars.session))
    assert backtest_run.trial_pool(about.run).market == "MCL"


def test_a_search_cannot_move_the_fence(case: Case) -> None:
    moved = '+search.space.data.holdout_start="choice(null)"'
    with pytest.raises(
        ConfigError, match=r"search\.space\.data\.holdout_start is the fence before the hold-out"
    ):
        search.sweep(composition.compose("sweep", [*SWEEP, moved]), project=case.project)


def test_an_end_behind_the_fence_does_not_open_it(case: Case) -> None:
    run = composition.run_config(
        case.validated.answers.subject.raw
        | {"data": case.validated.answers.subject.raw["data"] | {"end": "2024-10-30"}}
    )
    assert load(run.data, case.project.root).session.max() < int(
        np.datetime64("2024-09-03", "D").astype(np.int64)
    )


def test_the_page_shows_the_recorded_numbers_to_everybody(case: Case, browser: Chromium) -> None:
    done = case.validated
    browser.open(done.report.as_uri(), DRAWN)
    rows = browser.run(
        "return [...document.querySelectorAll('#verdict tbody tr')].map(r =>"
        " [r.cells[1].textContent, r.cells[2].title])"
    )
    recorded = json.loads(case.project.store.run(done.run_id).file("validation.json"))["rows"]
    assert [name for name, _ in rows] == [row["label"] for row in recorded]
    shown, kept = (
        [float(value) for _, value in rows],
        [math.nan if row["value"] is None else row["value"] for row in recorded],
    )
    assert shown == pytest.approx(kept, nan_ok=True)
    own = "document.getElementById('chart-equity').data.find(t => t.name === 'The run')"
    days, growth = browser.run(f"return [{own}.x, {own}.y]")
    sessions = pd.read_parquet(
        case.project.store.run(done.subject_id).artifacts / "data" / "sessions.parquet"
    )
    assert days == [f"{day:%Y-%m-%d}" for day in sessions["session"]]
    assert growth == pytest.approx(
        (sessions["equity_usd"] / done.answers.subject.run.capital_usd).to_numpy()
    )
    links = browser.run(
        "return [...document.querySelectorAll('.links a')].map(a => a.getAttribute('href'))"
    )
    assert [link.rpartition("/")[2].partition("?")[0] for link in links] == [
        done.run_id,
        done.subject_id,
    ]
    browser.examine("validation")


def test_a_position_counts_from_the_open_at_which_it_is_filled() -> None:
    """Filled at an open and gone at the next one, before every rise inside a bar: no rotation of it
    earns as much.
    """
    rng = np.random.default_rng(3)
    rises = rng.random(400) < 0.5
    opens = 7_000 + np.cumsum(np.append(0, np.where(rises, 5, -5)))[:-1]
    closes = opens + np.where(rises, 5, -5)  # the next bar opens where this one closes
    ticks = {
        "open": opens,
        "high": np.maximum(opens, closes),
        "low": np.minimum(opens, closes),
        "close": closes,
    }
    rows = np.arange(400)
    bars = Bars.of(
        MCL,
        "1h",
        (19_000 * 24 + rows + 1) * 3_600_000_000_000,
        {name: values * 0.01 for name, values in ticks.items()},
        session=19_000 + rows // 23,
        contracts=(Contract("MCLZ9", "MCL", 2099, 12, date(2099, 11, 19)),),
        synthetic=True,
    )
    result: Any = SimpleNamespace(bars=bars, position=np.where(rises, 1, -1))
    assert stress.timing(result) == pytest.approx(1 / 400)
    result.position = np.roll(result.position, 1)
    assert stress.timing(result) > 0.01
