"""The levels that a report draws are those at which the kernel filled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from walks import make_bars, random_bars

from mcl.config import schema
from mcl.engine.account import FLAT, Ledger, Money, holding_after_fill, holding_at_close
from mcl.engine.backtest import Plan, plan, simulate
from mcl.engine.decision import Bracket
from mcl.engine.level_lines import levels
from mcl.engine.result import FILL_REASONS, Result
from mcl.strategy import build

STOP, TAKE = FILL_REASONS.index("stop"), FILL_REASONS.index("take_profit")
COSTS, LIMITS = schema.Costs(), schema.Limits()
EMPTY = np.empty(0)


def run(protection: dict[str, Any], **execution: Any) -> tuple[Result, Plan, schema.Execution]:
    bars = random_bars(6_000, seed=3, bars_per_session=200, rolls=5)
    risk = schema.Risk.model_validate({"size": {"method": "fixed"}, "protection": protection})
    intent = plan(bars, build({"name": "ema_cross", "fast": 10, "slow": 30}), risk, 25_000.0)
    chosen = schema.Execution.model_validate(execution)
    return simulate(bars, intent, LIMITS, COSTS, 25_000.0, chosen), intent, chosen


@pytest.mark.parametrize(
    "protection",
    [
        {"unit": "atr", "stop": 2.0, "take_profit": 3.0},
        {"unit": "ticks", "stop": 12.0, "take_profit": 20.0},
        {"unit": "atr", "trail": 3.0},
    ],
)
@pytest.mark.parametrize("latency", [0, 2])
def test_every_protective_fill_is_at_its_level_or_through_a_gap(
    protection: dict[str, Any], latency: int
) -> None:
    result, intent, execution = run(protection, latency_bars=latency)
    stop, take = levels(result, intent, execution)
    fills, bars = result.fills, result.bars
    checked = 0
    for reason, level, gaps in ((STOP, stop, True), (TAKE, take, False)):
        of = fills[fills["reason"] == reason]
        # no entry and no roll in that bar
        carried = of[(result.position[of["bar"] - 1] == -of["quantity"]) & ~bars.roll[of["bar"]]]
        before, side = level[carried["bar"] - 1], -np.sign(carried["quantity"])
        touched = carried["price_ticks"] + side * carried["slippage_ticks"]
        at_open = bars.ticks["open"][carried["bar"]]
        through = side * (at_open - before) < 0 if gaps else side * (at_open - before) > 0
        assert np.array_equal(touched, np.where(through, at_open, before))
        checked += len(carried)
    assert checked > 50
    flat = result.position == 0
    assert np.isnan(stop[flat]).all()
    assert np.isfinite(stop[~flat]).all()


def test_levels_by_hand() -> None:
    """Bought at 101 after one tick of slippage: 10 below and 30 above; the roll at row 3 is 5
    higher and so are both.
    """
    close = np.array([100.0, 100, 100, 105, 105])
    bars = make_bars(
        {"open": close, "high": close + 1, "low": close - 1, "close": close},
        bars_per_session=3,
        roll_gaps={3: 5},
    )
    intent = Plan(np.ones(5), np.full(5, 10.0), np.full(5, 30.0))
    result = simulate(bars, intent, LIMITS, COSTS, 25_000.0)
    stop, take = levels(result, intent, schema.Execution())
    assert np.array_equal(stop, [np.nan, 91, 91, 96, 96], equal_nan=True)
    assert np.array_equal(take, [np.nan, 131, 131, 136, 136], equal_nan=True)


def test_no_levels_where_there_is_no_protection_or_a_fill_does_not_tell_its_decision() -> None:
    result, intent, execution = run({"unit": "none"})
    assert all(len(level) == 0 for level in levels(result, intent, execution))
    protected, intent, waits = run({"unit": "atr", "stop": 2.0}, entry="limit", offset_ticks=2)
    assert all(len(level) == 0 for level in levels(protected, intent, waits))


def test_the_levels_of_what_was_held_before_the_first_bar_go_on() -> None:
    """A session carries long 1 from 90 with a stop that has reached 95 and trails at 6: by hand."""
    close = np.array([100.0, 103, 102])
    prices = {"open": close, "high": close + 1, "low": close - 1, "close": close}
    bracket = Bracket(stop_ticks=20.0, take_profit_ticks=30.0, trail_ticks=6.0)
    held = holding_at_close(holding_after_fill(FLAT, 1, 90.0, bracket), 101.0)
    ledger = Ledger(Money(25_000.0, 1.0, 0.0, 0.0), held)
    intent = Plan(np.ones(3), np.full(3, 20.0), np.full(3, 30.0), trail_ticks=np.full(3, 6.0))
    result = simulate(make_bars(prices), intent, LIMITS, COSTS, 25_000.0, ledger=ledger)
    stop, take = levels(result, intent, schema.Execution())
    assert list(stop) == [95.0, 97.0, 97.0]
    assert list(take) == [120.0, 120.0, 120.0]
