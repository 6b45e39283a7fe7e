"""Roll rules and adjustments as configuration: every option composes, and what each one does to the
same bars.
"""

from __future__ import annotations

from datetime import date
from itertools import product
from pathlib import Path

import data_options
import numpy as np
import pytest

from mcl import composition
from mcl.base.errors import DataError
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.data.loader import load
from mcl.data.sources.databento import DatabentoData
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator

RULES, ADJUSTMENTS = ("volume", "open_interest", "calendar"), ("difference", "ratio", "none")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticData(source="synthetic", seed=11)
    return generator.generate(
        spec, tmp_path_factory.mktemp("world"), first=date(2024, 1, 2), last=date(2024, 2, 23)
    )


def bars_with(home: Path, root: Path, **choices: object) -> Bars:
    return load(
        DatabentoData(source="databento", path=str(home), roll=schema.Roll.model_validate(choices)),
        root,
    )


@pytest.mark.parametrize(("rule", "adjust"), list(product(RULES, ADJUSTMENTS)))
def test_every_option_composes(rule: str, adjust: str) -> None:
    chosen = composition.compose(
        "backtest", [f"roll@data.roll={rule}", f"data.roll.adjust={adjust}"]
    ).config.data.roll
    assert (chosen.rule, chosen.adjust) == (rule, adjust)
    deadline = {"calendar": 2, "volume": 1, "open_interest": 3}
    assert chosen.sessions_before_last_trade == deadline[rule]


@pytest.mark.parametrize("data", data_options.OPTIONS)
def test_every_data_source_takes_every_rule(data: str) -> None:
    for rule in RULES:
        overrides = [
            f"data={data}",
            f"roll@data.roll={rule}",
            *data_options.needed(data),
        ]
        assert composition.compose("backtest", overrides).config.data.roll.rule == rule


@pytest.mark.parametrize(
    "data", ["synthetic", "planted", "mcl_databento", "parquet", "csv", "stooq", "yahoo"]
)
def test_every_preset_of_mcl_and_the_code_roll_alike(data: str) -> None:
    words = [f"data={data}", *data_options.needed(data)]
    composed = composition.compose("backtest", words).config.data
    assert composed.roll == schema.Roll()
    assert (composed.roll.rule, composed.roll.sessions_before_last_trade) == ("calendar", 2)


def test_gold_rolls_with_its_volume() -> None:
    words = ["data=lean_gold", "data.path=x"]
    roll = composition.compose("backtest", words).config.data.roll
    assert (roll.rule, roll.sessions_before_last_trade) == ("volume", 0)


def test_open_interest_leaves_a_contract_earlier_and_says_what_it_compared(
    home: Path, tmp_path: Path
) -> None:
    volume, interest = (
        bars_with(home, tmp_path, rule=rule).roll_table for rule in ("volume", "open_interest")
    )
    assert set(interest["reason"]) == {"open_interest"}
    assert (interest["volume_to"] > interest["volume_from"]).all()
    assert (interest["session"].to_numpy()[:2] < volume["session"].to_numpy()[:2]).all()


def test_ratio_keeps_returns_and_leaves_the_first_contract_alone(
    home: Path, tmp_path: Path
) -> None:
    plain, ratio = (bars_with(home, tmp_path, adjust=adjust) for adjust in ("none", "ratio"))
    assert ratio.ratio is not None
    assert not ratio.adjustment.any()
    first = ratio.contract == ratio.contract[0]
    assert np.array_equal(ratio.adjusted["close"][first], plain.close[first])
    inside = np.flatnonzero(~ratio.roll)[1:]
    for series in (plain.close, ratio.adjusted["close"]):
        assert np.allclose(
            series[inside] / series[inside - 1],
            plain.close[inside] / plain.close[inside - 1],
            rtol=1e-12,
        )
    factors = ratio.ratio[ratio.contract]
    at = np.flatnonzero(ratio.roll)
    gap = ratio.roll_table["gap"].to_numpy()
    # outgoing / incoming
    assert np.allclose(factors[at] / factors[at - 1], 1 - gap / ratio.open[at], atol=2e-3)
    assert ratio.fingerprint != plain.fingerprint


def test_adjusted_prices_do_not_change_when_more_data_arrive(home: Path, tmp_path: Path) -> None:
    for adjust in ("difference", "ratio"):
        bars = bars_with(home, tmp_path, adjust=adjust)
        early = bars.between(None, "2024-02-01")
        assert np.array_equal(early.adjusted["close"], bars.adjusted["close"][: len(early)])


def test_ratio_is_refused_where_prices_are_not_positive(tmp_path: Path) -> None:
    words = ["data=eia", "data.roll.adjust=ratio"]
    with pytest.raises(
        DataError, match=r"ratio needs prices above zero; CLK0 was at -37.63 on 2020-04-20"
    ) as refused:
        load(composition.compose("backtest", words).config.data, tmp_path)
    assert "difference" in refused.value.hint
    before = load(
        composition.compose("backtest", ["data=eia", "data.end='2020-01-01'"]).config.data, tmp_path
    )
    assert before.ratio is None


def test_open_interest_needs_statistics(shared_data: Path, tmp_path: Path) -> None:
    data = composition.compose(
        "backtest",
        [
            "data=lean_gold",
            f"data.path={shared_data / 'lean_apache2'}",
            "roll@data.roll=open_interest",
        ],
    )
    with pytest.raises(DataError, match="needs published open interest, and these data hold none"):
        load(data.config.data, tmp_path)
