"""Stress by construction: what the scenarios do to the bars, in hand-computed dollars."""

from __future__ import annotations

import numpy as np
import pytest
from walks import random_bars

from mcl import composition
from mcl.base.terminal import plain
from mcl.data.bars import Bars
from mcl.engine.backtest import backtest
from mcl.engine.result import Result
from mcl.report.registry import RegistryView, registry_page
from mcl.validation import constructed_stress
from mcl.validation.constructed_stress import Stressed, constructed

FREE = ["costs=free", "strategy=always_long", "capital_usd=25000.0"]
FREE += ["risk.limits.max_daily_loss_usd=null", "risk.limits.max_drawdown_frac=null"]


def cases(bars: Bars, *overrides: str) -> tuple[Result, dict[str, Stressed]]:
    config = composition.compose("backtest", [*FREE, *overrides]).config
    result = backtest(config, bars)
    return result, {case.name: case for case in constructed(config, result)}


@pytest.fixture(scope="module")
def bars() -> Bars:
    """20 sessions of 900 minutes, one roll."""
    return random_bars(18_000, seed=4, bars_per_session=900, rolls=1)


def test_what_nothing_prevents_is_the_move_times_the_position(bars: Bars) -> None:
    result, found = cases(bars)
    assert list(found) == [
        "gap through the stop",
        "outage with a position",
        "limit-locked market",
    ]
    for case, share in zip(found.values(), (0.246, 0.09, 0.20), strict=True):
        assert (case.position, case.note) == (1, "")
        assert case.move == pytest.approx(-round(share * case.price * 100) / 100)
        assert case.exit == "none until the end of the session"
        # always long, no limit: all that is added is the move, on one contract of 100 barrels
        assert case.pnl_usd == pytest.approx(case.usual_usd + case.move * 100)
        assert case.pnl_frac == pytest.approx(case.pnl_usd / result.capital_usd)


def test_a_stop_fills_at_the_open_beyond_it(bars: Bars) -> None:
    stop = ["risk=bracket", "risk.protection.unit=ticks", "risk.protection.stop=50"]
    _, found = cases(bars, *stop, "risk.protection.take_profit=null")
    gap = found["gap through the stop"]
    assert gap.exit.startswith("stop at ")
    filled = float(gap.exit.removeprefix("stop at ").replace(",", ""))
    assert filled < gap.price - 0.50 - 5  # far beyond the stop, which was half a dollar away
    assert gap.pnl_usd < -1000


def test_an_outage_leaves_its_minutes_out_and_a_lock_its_sessions(bars: Bars) -> None:
    row = 5_000
    resumed = constructed_stress._after_outage(bars, row)
    assert (bars.close_time[resumed] - bars.close_time[row]) / 60e9 > 643
    assert (bars.close_time[resumed - 1] - bars.close_time[row]) / 60e9 <= 643
    assert bars.session[constructed_stress._after_lock(bars, row)] == bars.session[row] + 2
    assert constructed_stress._after_lock(bars, len(bars) - 1) == len(bars)
    end = resumed + 100
    changed = constructed_stress._changed(bars, row, resumed, end, -50)
    assert len(changed) == row + 1 + end + 1 - resumed
    same = np.array_equal(changed.close_ticks[: row + 1], bars.close_ticks[: row + 1])
    assert same
    moved = np.array_equal(
        changed.low_ticks[row + 1 :], bars.low_ticks[resumed : end + 1] - np.int32(50)
    )
    assert moved
    assert len(bars) == 18_000  # the run's own bars stay as they are


def test_what_cannot_be_shown_says_why(bars: Bars) -> None:
    _, flat = cases(bars, "strategy=flat")
    assert {case.note for case in flat.values()} == {"no position with room for it before a roll"}
    page = registry_page(
        RegistryView(
            "paper",
            "",
            "",
            "",
            False,
            [],
            np.zeros(0),
            None,
            [],
            {"stress": {name: plain(vars(case)) for name, case in flat.items()}},
        )
    )
    assert "no position with room" in page
    assert "Stress by construction" in page
