"""Gates: undefined values, impossible results, arguments that are checked before anything is looked
at, looks, trials of the market.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deployments import OPEN_GATES, Project, empty_store, project
from hypothesis import given
from hypothesis import strategies as st

from mcl import composition
from mcl.base.errors import PromotionError
from mcl.config import schema
from mcl.config.promotion_rules import LiveRules, Promotion
from mcl.engine.result import Result
from mcl.metrics.multiple import FamilyWise
from mcl.promotion import gates
from mcl.promotion.gates import Gate, at_least, at_most
from mcl.promotion.promote import GatesMissed, promote
from mcl.promotion.significance import GIVEN_UP, Rivals, Significance, judge, rivals
from mcl.tracking import trial_ledger
from mcl.tracking.trial_ledger import Tally, Trial, TrialPool
from mcl.validation import holdout
from mcl.validation.holdout import Look, looks

DEFAULTS = Promotion()
NAN = math.nan


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return project(
        tmp_path_factory.mktemp("project") / "shop", empty_store(tmp_path_factory.mktemp("store"))
    )


def searched_alone(p: float) -> FamilyWise:
    return FamilyWise(p, 2.0, 10, 3)


def joint(p: float, market: float, unseen: float, number: int = 1) -> Significance:
    return Significance(
        searched_alone(p), searched_alone(market), searched_alone(unseen), 500, 126, number
    )


# --------------------------------------------------------------------------------- undefined values


def test_no_gate_can_pass_without_a_value() -> None:
    for bound in (-1e9, 0.0, 1e9):
        for build in (at_least, at_most):
            gate = build("any", NAN, bound, "nothing")
            assert gate is not None
            assert (gate.passed, gate.open, gate.word) == (False, False, "MISSED")
            assert "undefined" in str(gate)
    with pytest.raises(ValueError, match="gate any cannot pass"):
        Gate("any", NAN, ">= 0", True, "nothing")
    with pytest.raises(ValueError, match="gate any cannot pass"):
        Gate("any", 1.0, ">= 0", True, "nothing", required=False)
    with pytest.raises(ValueError, match="cannot pass"):
        replace(gates.not_asked("any", NAN, "why"), passed=True)


def test_a_sharpe_of_too_few_sessions_is_not_printed() -> None:
    """The gate judges by the number and shows none; where there are enough, nothing changes."""
    few, enough = (at_least("sharpe", 7.25, 1.0, "annual", n) for n in (62, 63))
    assert few is not None
    assert enough is not None
    assert (few.passed, enough.passed) == (True, True)
    assert str(few).startswith("sharpe = too short (rule: >= 1;")
    assert "7.25" not in str(gates.table([few]).to_string())
    assert str(enough).startswith("sharpe = 7.25")
    assert few.as_dict() == enough.as_dict() | {"too_short": True}


@given(
    st.lists(st.sampled_from([NAN, 0.01, 0.5]), min_size=3, max_size=3),
    st.sampled_from(["paper", "live"]),
)
def test_an_undefined_part_fails_the_deciding_test(parts: list[float], stage: str) -> None:
    table = gates.significant(DEFAULTS, joint(parts[0], parts[1], parts[2]), stage)
    for gate in table:
        if math.isnan(gate.value):
            assert not gate.passed
            assert gate.word in ("MISSED", "not asked")
    asked = {gate.name for gate in table if gate.required}
    assert asked == ({"p_value", "market_p_value"} if stage == "live" else {"p_value"})
    if math.isnan(parts[0]) or math.isnan(parts[2]):
        assert not all(gate.open for gate in table)


def test_every_gate_of_a_hold_out_that_is_not_there_is_missed() -> None:
    rules = DEFAULTS.model_copy(update={"min_holdout_sharpe": -9.0})
    table = gates.unseen(rules, holdout.NONE)
    assert [gate.name for gate in table] == [
        "holdout_trades",
        "holdout_sharpe",
        "holdout_sharpe_high",
    ]
    assert not any(gate.passed for gate in table)
    assert all(math.isnan(gate.value) for gate in table)


def test_the_names_are_those_of_the_gates(shop: Project) -> None:
    """What can be waived is exactly what is asked, and every rule of the configuration has its
    gate.
    """
    assert set(gates.RULES.values()) == Promotion.model_fields.keys() - {"live"}
    assert set(gates.LIVE_RULES.values()) <= LiveRules.model_fields.keys()
    shipped = composition.validate(
        Promotion, composition.compose("promote", []).raw["promotion"], "promotion"
    )
    everything = shipped.model_copy(
        update={"min_deflated_sharpe": 0.9, "min_holdout_sharpe": 0.5, "max_pbo": 0.5}
    )
    with pytest.raises(GatesMissed) as missed:
        promote(shop.run(), project=shop, gates=everything)
    assert {gate.name for gate in missed.value.gates} - {"market_p_value"} == set(
        gates.names(everything, "paper")
    )


# ------------------------------------------------------------------------------- impossible results


def simulated(shop: Project) -> tuple[schema.Config, Result]:
    run = shop.config()
    from mcl.data.loader import load
    from mcl.engine.backtest import backtest

    return run, backtest(run, load(run.data, shop.root))


def test_an_impossible_sharpe_is_a_gate_of_its_own() -> None:
    rng = np.random.default_rng(1)
    # a cheat that works in the hold-out alone
    seen = Look(40.0, 50.0, 200, 1, "", "", returns=rng.normal(0.02, 0.008, 200))
    honest = Look(1.0, 50.0, 200, 1, "", "", returns=rng.normal(0.0005, 0.008, 200))
    # twelve lucky sessions say nothing
    wild = replace(honest, returns=rng.normal(0.002, 0.008, 12))
    values = {}
    for name, look in {"seen": seen, "honest": honest, "wild": wild}.items():
        gate, *_ = gates.possible(
            DEFAULTS, rng.normal(0.0005, 0.008, 400), np.array([50.0, 60.0, -10.0]), 100.0, look
        )
        values[name] = (gate.passed, gate.value)
    assert values["seen"][1] > 20
    assert [values[name][0] for name in ("seen", "honest", "wild")] == [False, True, True]


@pytest.mark.parametrize(
    ("returns", "trades", "words"),
    [
        ([0.01] + [0.0001, -0.0001] * 100, [250.0] + [2.5, -2.5] * 100, ("MISSED", "MISSED")),
        ([0.001, -0.0005] * 100, [25.0, -12.5] * 100, ("pass", "pass")),
        ([-0.001, 0.0005] * 100, [-25.0, 12.5] * 100, ("not asked", "not asked")),
        ([0.001, -0.0005] * 100, [], ("MISSED", "pass")),
    ],
    ids=["one carries it", "many do", "a loss", "profit without a closed trade"],
)
def test_one_trade_or_one_session_that_carries_the_profit(
    returns: list[float], trades: list[float], words: tuple[str, str]
) -> None:
    _, trade, session = gates.possible(
        DEFAULTS, np.array(returns), np.array(trades), 25_000 * sum(returns), holdout.NONE
    )
    assert (trade.word, session.word) == words


def test_real_money_asks_what_is_possible_whatever_the_configuration_says() -> None:
    loose = Promotion(max_sharpe=None, max_trade_share=None, max_session_share=None)
    assert not set(gates.IMPOSSIBLE) & set(gates.names(loose, "paper"))
    assert set(gates.IMPOSSIBLE) <= set(gates.names(loose, "live"))
    assert gates.bounds(loose, "live").max_sharpe == DEFAULTS.max_sharpe
    for name in gates.IMPOSSIBLE:
        with pytest.raises(PromotionError, match=f"gate {name} cannot be waived for live"):
            gates.check_waivers([name], "so", loose, "live", promote_hard(loose))


def promote_hard(rules: Promotion) -> tuple[str, ...]:
    from mcl.promotion.live_gates import hard

    return hard(rules.live)


# --------------------------------------------------------------- arguments, before anything is seen


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"waived": ["trade"], "because": "so"},
            "there is no gate 'trade' to waive: did you mean 'trades'",
        ),
        ({"waived": ["trades"]}, "waiving trades needs its reason"),
        ({"waived": ["trades"], "because": "  "}, "waiving trades needs its reason"),
        (
            {"waived": ["market_p_value"], "because": "so"},
            "gate market_p_value is not asked for paper",
        ),
        ({"waived": ["warmup"], "because": "so"}, "gate warmup is not asked for paper"),
        (
            {"waived": ["sessions"], "because": "so"},
            "gate sessions was passed, so there is nothing to waive",
        ),
        ({"name": "v7"}, "cannot be the name of a promoted version"),
        ({"stage": "papr"}, "cannot be promoted to 'papr': did you mean 'paper'"),
        ({"stage": "live"}, "has never been promoted to paper"),
        (
            {"stage": "live", "waived": ["sharpe"], "because": "so"},
            "gate sharpe cannot be waived for live",
        ),
    ],
)
def test_a_wrong_argument_costs_no_look_at_the_hold_out(
    shop: Project, arguments: dict[str, object], sentence: str
) -> None:
    run_id = shop.run()
    before = len(looks(shop.root))
    with pytest.raises(PromotionError, match=sentence):
        promote(run_id, project=shop, gates=OPEN_GATES, **arguments)  # type: ignore[arg-type]
    assert len(looks(shop.root)) == before


def test_a_hard_gate_that_does_not_exist_is_refused(shop: Project) -> None:
    before = len(looks(shop.root))
    wrong = OPEN_GATES.model_copy(update={"live": LiveRules(hard=("paper_session",))})
    with pytest.raises(
        PromotionError,
        match=r"live\.hard names 'paper_session', which is no gate: did you mean 'paper_sessions'",
    ):
        promote(shop.run(), project=shop, gates=wrong)
    assert len(looks(shop.root)) == before


# ------------------------------------------------------------------------------------- the hold-out


def test_looks_are_counted_by_sessions_and_market(shop: Project, tmp_path: Path) -> None:
    alone = project(tmp_path / "alone", shop.root / "mlruns")
    (alone.root / "mlruns" / "holdout_looks.jsonl").unlink(missing_ok=True)
    for part in (alone.root / "mlruns" / "trials").rglob("*.parquet"):
        part.unlink()
    trial_ledger._scores.clear()
    other = alone.config({"name": "tsmom", "lookback": 60})
    shorter = alone.config(end="2025-11-12")  # other bytes, the same sessions
    taken = [
        holdout.look(run, run_id, alone.root)
        for run, run_id in (
            (alone.config(), "a"),
            (alone.config(), "a"),
            (other, "b"),
            (shorter, "c"),
        )
    ]
    assert [look.number for look in taken] == [1, 2, 3, 4]
    assert [look.looks for look in taken] == [1, 1, 2, 3], "the same run again learns nothing new"
    assert taken[0].fingerprint != taken[3].fingerprint
    # a trial whose own window reaches into the hold-out
    alone.run(alone.config(holdout_start=None))
    assert holdout.look(alone.config(), "a", alone.root).looks == 4
    assert len(taken[0].returns) == taken[0].sessions


def test_a_look_of_an_earlier_version_counts_by_its_fingerprint(
    shop: Project, tmp_path: Path
) -> None:
    alone = project(tmp_path / "alone", shop.root / "mlruns")
    ledger = alone.root / "mlruns" / "holdout_looks.jsonl"
    ledger.unlink(missing_ok=True)
    first = holdout.look(alone.config(), "a", alone.root)
    old = {"at": "2025-01-01T00:00:00+00:00", "run_id": "old", "fingerprint": first.fingerprint}
    stranger = old | {"fingerprint": "0" * 64, "run_id": "older"}
    ledger.write_text("".join(json.dumps(entry) + "\n" for entry in (old, stranger)))
    assert holdout.look(alone.config(), "a", alone.root).number == 2


def test_looks_make_the_hold_out_worth_less() -> None:
    p = [joint(0.02, 0.02, 0.05, k).p_value for k in (1, 2, 9)]
    assert p == sorted(p)
    assert p[0] < 0.01 < p[2]


# ----------------------------------------------------------------------------- trials of the market


def test_other_strategies_on_the_market_count_for_live(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    days = np.arange(20_000, 20_400)
    mine = rng.normal(0.0012, 0.01, 400)
    where = TrialPool("ema_cross", "MCL csv walk.csv")
    own = [_trial(where, i, days, rng.normal(0.0, 0.01, 400)) for i in range(10)]
    own.append(
        replace(_trial(where, 99, days[:0], mine[:0]), state="PRUNED", reason=f"{GIVEN_UP}2")
    )
    # continues into the hold-out
    late = _trial(where, 98, np.arange(20_390, 20_500), rng.normal(0.0, 0.01, 110))
    others = [
        _trial(TrialPool("macd", where.market), i, days, rng.normal(0.0, 0.01, 400))
        for i in range(60)
    ]
    elsewhere = [
        _trial(TrialPool("ema_cross", "another market"), i, days, rng.normal(0.0, 0.01, 400))
        for i in range(40)
    ]
    itself = _trial(where, 50, days, mine)
    trial_ledger.append(tmp_path, [*own, late, *others, *elsewhere, itself])
    look = Look(1.0, 30.0, 100, 1, "", "", returns=rng.normal(0.0005, 0.01, 100))
    found = judge(mine, days, *rivals(tmp_path, where, itself.identity, int(days[-1])), look)
    assert (found.strategy.trials, found.market.trials) == (
        13,
        73,
    ), "itself once, the given-up one, nothing of another market"
    assert found.market.p > 2 * found.strategy.p
    assert found.market_p_value > found.p_value
    nobody = Rivals(days, np.empty((400, 0)))
    alone = judge(mine, days, nobody, nobody, look)
    assert alone.strategy.trials == 1
    crowded = judge(mine, days, Rivals(days, np.repeat(mine[:, None], 60, axis=1)), nobody, look)
    spread = judge(
        mine,
        days,
        Rivals(days, np.repeat(mine[:, None], 60, axis=1)),
        nobody,
        look,
        rng.normal(0.0, 0.01, (400, 64)),
    )
    assert crowded.strategy.p == pytest.approx(alone.strategy.p, abs=1e-3)
    assert spread.strategy.p > 5 * crowded.strategy.p, (
        "a sampler that crowds at its optimum is judged by the space that it had"
    )
    assert spread.strategy.trials == 61
    assert "best of 61 trials and 64 points of its space" in spread.meaning(spread.strategy)
    assert alone.p_value < found.p_value


def _trial(where: TrialPool, number: int, days: np.ndarray, returns: np.ndarray) -> Trial:
    return Trial(
        pool=where,
        run_id=f"{where.family}{number}",
        kind="search",
        study="test",
        state="COMPLETE",
        config_sha256=f"{where}{number}",
        params={"strategy.fast": number},
        sessions=days,
        returns=returns,
    )


def test_the_deflated_sharpe_is_shown_and_not_asked(shop: Project) -> None:
    _, result = simulated(shop)
    table = gates.searched(
        DEFAULTS, result, Tally(TrialPool("a", "b"), {"x": 0.1}), holdout.NONE, "paper"
    )
    shown = next(gate for gate in table if gate.name == "deflated_sharpe")
    assert (shown.word, shown.open, math.isfinite(shown.value)) == ("not asked", True, True)
    assert shown.meaning.startswith("shown only")
    assert "min_deflated_sharpe" in gates.left_out(DEFAULTS)
    assert "live.max_p_value" in gates.left_out(
        DEFAULTS.model_copy(update={"live": LiveRules(max_p_value=None)}), "live"
    )
