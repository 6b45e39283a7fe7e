"""The expected band of a version: laws of the bootstrap, values by hand, and how often an honest or
a broken strategy leaves it.
"""

from __future__ import annotations

import numpy as np
import pytest

from mcl.promotion.expected_band import CODE, Band, alert, deepest, expected, outside

HAND = Band(
    low=np.array([-100.0, -150.0, -200.0]),
    median=np.array([10.0, 20.0, 30.0]),
    high=np.array([120.0, 190.0, 260.0]),
    drawdown=np.array([-100.0, -150.0, -180.0]),
    confidence=0.95,
    backtest_sessions=40,
)


def test_a_strategy_that_earns_the_same_every_session_has_no_width() -> None:
    band = expected(np.full(30, 5.0))
    assert band is not None
    assert len(band) == 252
    for curve in (band.low, band.median, band.high):
        assert curve == pytest.approx(5.0 * np.arange(1, 253))
    assert (band.drawdown == 0).all()
    assert outside(band, [5.0, 5.0]) is None
    left = outside(band, [5.0, 4.0])
    assert left is not None
    assert (left.session, left.what, left.above) == (2, "P&L", False)


def test_the_same_backtest_always_gives_the_same_band() -> None:
    pnl = np.random.default_rng(1).normal(20, 300, 300)
    first, again = expected(pnl), expected(pnl.copy())
    assert first is not None
    assert again is not None
    assert all(
        np.array_equal(getattr(first, n), getattr(again, n))
        for n in ("low", "median", "high", "drawdown")
    )
    assert (first.low <= first.median).all()
    assert (first.median <= first.high).all()
    assert (first.drawdown <= 0).all()


def test_money_scales_the_band() -> None:
    pnl = np.random.default_rng(2).normal(20, 300, 120)
    one, ten = expected(pnl), expected(10 * pnl)
    assert one is not None
    assert ten is not None
    assert ten.low == pytest.approx(10 * one.low)
    assert ten.drawdown == pytest.approx(10 * one.drawdown)


def test_too_short_a_backtest_has_no_band_and_a_long_life_gets_whole_years() -> None:
    assert expected(np.arange(9.0)) is None
    longer = expected(np.random.default_rng(3).normal(0, 1, 50), sessions=253)
    assert longer is not None
    assert len(longer) == 504


def test_an_honest_strategy_seldom_leaves_its_band_and_a_broken_one_soon() -> None:
    rng = np.random.default_rng(4)
    pnl = rng.normal(40, 300, 400)
    band = expected(pnl)
    assert band is not None
    honest = rng.choice(pnl, (300, 252))
    left = np.mean([outside(band, row) is not None for row in honest])
    broken = np.mean([outside(band, row - 120) is not None for row in honest])
    assert left < 0.20
    assert broken > 0.90


def test_the_first_exit_counts_whatever_it_is() -> None:
    assert outside(HAND, []) is None
    assert outside(HAND, [100.0, -90.0, -90.0]) is None
    below = outside(HAND, [-50.0, -101.0, 0.0])
    assert below is not None
    assert str(below) == "P&L -151 USD after session 2 is below the expected -150 USD"
    fell = outside(HAND, [110.0, -90.0, -101.0])  # 110 → 20 → −81: from the peak −191
    assert fell is not None
    assert (fell.session, fell.what, fell.value, fell.bound) == (3, "drawdown", -191.0, -180.0)
    above = outside(HAND, [121.0])
    assert above is not None
    assert above.above
    assert outside(HAND, [0.0, 0.0, 0.0, -9e9]) is None, "beyond the horizon nothing is known"


def test_leaving_the_band_is_an_alert_with_its_numbers() -> None:
    assert alert(HAND, [0.0, 0.0], "paper", 7) is None
    raised = alert(HAND, [-101.0], "paper", 7)
    assert raised is not None
    assert (raised.at_ns, raised.severity, raised.code) == (7, "warning", CODE)
    assert raised.sentence.startswith(
        "paper: P&L -101 USD after session 1 is below the expected -100 USD; 5% of honest histories"
        " ever do"
    )


def test_drawdown_starts_from_the_capital() -> None:
    assert deepest(np.array([[-10.0, 5.0, -1.0, 20.0]])).tolist() == [[-10.0, -10.0, -10.0, -10.0]]
