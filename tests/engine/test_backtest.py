"""From a configuration to a result, and what is refused on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from comparisons import digest
from walks import random_bars

from mcl.base.errors import ConfigError, EngineError
from mcl.config import schema
from mcl.data.bars import COLUMNS, Bars
from mcl.engine.backtest import Plan, backtest, plan, simulate

BARS = random_bars(9_000, seed=2, bars_per_session=200, rolls=4)
LIMITS = schema.Limits()
EMPTY = np.empty(0)


def config(**parts: Any) -> schema.Config:
    base: dict[str, Any] = {
        "data": {"source": "synthetic"},
        "strategy": {"name": "ema_cross", "fast": 10, "slow": 30},
        "risk": {"size": {"method": "fixed"}},
    }
    return schema.Config.model_validate(base | parts)


def wishes(n: int) -> Plan:
    return Plan(np.ones(n), EMPTY, EMPTY)


def test_the_same_config_on_the_same_bars_gives_the_same_bits() -> None:
    bracket = {
        "size": {"method": "fixed"},
        "protection": {"unit": "atr", "stop": 2.0, "take_profit": 4.0},
    }
    first, second = (backtest(config(risk=bracket), BARS) for _ in range(2))
    assert digest(first.equity) == digest(second.equity)
    assert digest(first.fills) == digest(second.fills)
    assert digest(first.trades) == digest(second.trades)


def test_flat_does_nothing_and_always_long_pays_for_every_roll() -> None:
    assert backtest(config(strategy={"name": "flat"}), BARS).net_pnl_usd == 0
    always_long = backtest(config(strategy={"name": "always_long"}), BARS)
    moved = BARS.adjusted["close"][-1] - BARS.adjusted["open"][1]
    assert len(always_long.fills) == 1 + 2 * int(BARS.roll.sum())
    assert always_long.net_pnl_usd == pytest.approx(
        moved * 100 - len(always_long.fills) * (1 + 0.77)
    )


def test_more_fills_than_there_was_room_for() -> None:
    """A fill at every bar and a stop in most: the array of fills grows, and nothing is lost."""
    n = 60_000
    bars = random_bars(n, seed=4)
    zigzag = Plan(np.where(np.arange(n) % 2, 1.0, -1.0), np.full(n, 2.0), EMPTY)
    result = simulate(bars, zigzag, LIMITS, schema.Costs(), 1e6)
    assert len(result.fills) > n
    assert np.add.accumulate(result.fills["quantity"]).tolist() == result.fills["position"].tolist()
    assert result.trades["gross_usd"].sum() - result.trades[
        "commission_usd"
    ].sum() == pytest.approx(result.net_pnl_usd)


def test_memory_that_is_shared_or_read_only_is_used_as_it_is() -> None:
    shared = {name: getattr(BARS, name).copy() for name in COLUMNS}
    for array in shared.values():
        array.flags.writeable = False
    assert digest(backtest(config(), replace(BARS, **shared)).equity) == digest(
        backtest(config(), BARS).equity
    )


@pytest.mark.parametrize("name", ["wanted", "stop_ticks", "take_profit_ticks"])
def test_a_plan_of_another_length_is_refused(name: str) -> None:
    short: dict[str, Any] = {name: np.ones(7)}
    with pytest.raises(
        EngineError, match=rf"{name} has 7 rows; it must have as many as there are bars, 9000"
    ):
        simulate(BARS, replace(wishes(len(BARS)), **short), LIMITS, schema.Costs(), 1e4)


def test_bars_of_different_lengths_are_refused() -> None:
    with pytest.raises(EngineError, match="session has 5 rows"):
        simulate(
            replace(BARS, session=BARS.session[:5]), wishes(len(BARS)), LIMITS, schema.Costs(), 1e4
        )


def test_a_roll_without_the_price_of_the_old_contract_is_refused() -> None:
    row = int(np.flatnonzero(BARS.roll)[0])
    with pytest.raises(
        EngineError,
        match=(
            f"row {row}, closed at .*, rolls, and where the contract before it traded then is not"
            " known"
        ),
    ):
        simulate(
            replace(BARS, left_at=np.full(len(BARS.contracts), np.nan)),
            wishes(len(BARS)),
            LIMITS,
            schema.Costs(),
            1e4,
        )


def test_no_bars_are_refused() -> None:
    with pytest.raises(EngineError, match="no bars"):
        simulate(
            replace(BARS, **{name: getattr(BARS, name)[:0] for name in COLUMNS}),
            wishes(0),
            LIMITS,
            schema.Costs(),
            1e4,
        )


class Careless:
    """A person's strategy that forgot the warm-up rows."""

    name: ClassVar[str] = "careless"
    uses_levels: ClassVar[bool] = False
    memory = 1

    def signal(self, bars: Bars) -> np.ndarray:
        return np.diff(bars.close)


def test_a_signal_of_another_length_is_refused() -> None:
    with pytest.raises(
        EngineError,
        match=r"careless.signal has shape \(8999,\); it must be one value per bar, \(9000,\)",
    ):
        plan(BARS, Careless(), config().risk, 1e4)


def test_an_unknown_strategy_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'ema_cross'"):
        backtest(config(strategy={"name": "ema_cros"}), BARS)
