"""What a config may say about a strategy, and what it is told when it is wrong."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from walks import random_bars

from mcl.base.errors import ConfigError
from mcl.composition import durations
from mcl.strategy import build, registry
from mcl.strategy.ema_cross import EmaCross
from mcl.strategy.indicators import ema

CONF = Path(__file__).resolve().parents[2] / "conf" / "strategy"


@pytest.mark.parametrize("name", sorted(registry()))
def test_every_strategy_has_a_config_with_all_its_parameters(name: str) -> None:
    params = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert list(params) == ["name", *(field.name for field in fields(registry()[name]))]  # type: ignore[arg-type]
    minutes = durations.in_bars({"data": {"interval": "1m"}, "strategy": params})
    assert build(minutes["strategy"]) == build({"name": name})


def test_every_config_names_a_strategy() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == set(registry())


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"name": "ema_cros"}, "there is no strategy 'ema_cros'; did you mean 'ema_cross'?"),
        ({}, "there is no strategy 'None'; "),
        ({"name": "ema_cross", "fst": 3}, "ema_cross has no parameter 'fst'; did you mean 'fast'?"),
        ({"name": "ema_cross", "memory": 3}, "ema_cross has no parameter 'memory'"),
        ({"name": "ema_cross", "fast": 30, "slow": 10}, "need 0 < fast < slow; fast=30, slow=10"),
        (
            {"name": "ema_cross", "fast": 0},
            "strategy.fast=0 does not fit ema_cross: input should be greater than or equal to 1",
        ),
        (
            {"name": "ema_cross", "fast": "10"},
            "strategy.fast='10' does not fit ema_cross: input should be a valid integer",
        ),
        (
            {"name": "ema_cross", "fast": 10.5},
            "strategy.fast=10.5 does not fit ema_cross: input should be a valid integer",
        ),
        (
            {"name": "ema_cross", "fast": True},
            "strategy.fast=True does not fit ema_cross: input should be a valid integer",
        ),
        ({"name": "flat", "fast": 1}, "flat has no parameter 'fast'"),
    ],
)
def test_a_wrong_config_is_one_sentence(params: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(params)
    assert caught.value.message.startswith(sentence)


def test_ema_cross_is_the_sign_of_two_means() -> None:
    bars = random_bars(2_000, seed=5)
    closes = bars.adjusted["close"]
    expected = np.sign(ema(closes, 10) - ema(closes, 30))
    np.testing.assert_array_equal(EmaCross(10, 30).signal(bars), expected)


def test_random_is_repeatable_and_changes_with_its_seed() -> None:
    bars = random_bars(5_000)
    first, again, other = (
        build({"name": "random", "seed": seed, "hold_sec": 60}).signal(bars) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert abs(first.mean()) < 0.06
    assert abs((first * other).mean()) < 0.06
