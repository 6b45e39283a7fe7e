"""Sizing and protection known before they are used, and no key of the risk config without an
effect.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel
from walks import random_bars

from mcl import composition
from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.engine.backtest import plan, simulate
from mcl.engine.result import Result
from mcl.risk.blocks import Block
from mcl.risk.protection import protection
from mcl.risk.sizes import METHODS
from mcl.risk.sizes.atr_unit import AtrUnitSize
from mcl.risk.sizes.fixed import FixedSize
from mcl.risk.sizes.fixed_fractional import FixedFractionalSize
from mcl.risk.sizes.kelly import KellySize
from mcl.risk.sizes.vol_target import VolTargetSize
from mcl.risk.sizing import memory_bars, memory_sessions, scale
from mcl.strategy import build
from mcl.strategy.indicators import atr

CONF = Path(__file__).resolve().parents[2] / "conf" / "risk"
BARS = random_bars(4_000, seed=11, bars_per_session=50, rolls=3)
CAPITAL = 25_000.0
VOL = VolTargetSize(
    method="vol_target", annual_vol_frac=0.2, lookback_sessions=10, max_contracts=50.0
)


def risk_of(size: Any = None, **parts: Any) -> schema.Risk:
    return schema.Risk(size=size or FixedSize(method="fixed"), **parts)


def test_fixed_size_is_the_same_everywhere() -> None:
    assert (scale(BARS, risk_of(FixedSize(method="fixed", contracts=2.5)), CAPITAL) == 2.5).all()


def test_volatility_target_uses_the_sessions_before_and_nothing_else() -> None:
    contracts = scale(BARS, risk_of(VOL), CAPITAL)
    last = np.flatnonzero(np.append(np.diff(BARS.session), 1))
    session_closes = BARS.adjusted["close"][last]
    for k in (11, 12, 40):  # sessions
        moves_usd = np.diff(session_closes[k - 11 : k]) * 100
        expected = CAPITAL * 0.2 / (moves_usd.std(ddof=1) * np.sqrt(252))
        assert contracts[last[k - 1] + 1 : last[k] + 1] == pytest.approx(expected)
    assert np.isnan(contracts[: last[10] + 1]).all()
    assert not np.isnan(contracts[last[10] + 1 :]).any()


def test_volatility_target_is_causal_finite_and_capped() -> None:
    whole = scale(BARS, risk_of(VOL), CAPITAL)
    np.testing.assert_array_equal(scale(BARS.rows(0, 1_333), risk_of(VOL), CAPITAL), whole[:1_333])
    sessions = memory_sessions(risk_of(VOL))
    late = scale(BARS.rows(4_000 - 50 * (sessions + 1), 4_000), risk_of(VOL), CAPITAL)
    np.testing.assert_allclose(late[-50:], whole[-50:], rtol=1e-9)
    capped = scale(BARS, risk_of(VOL.model_copy(update={"max_contracts": 0.5})), CAPITAL)
    assert np.nanmax(capped) == 0.5


def test_fixed_fractional_loses_its_fraction_at_the_stop() -> None:
    """25 000 x 1 % over 40 ticks of $1 and $3.54: 5.74 contracts, of which 5 are traded."""
    size, stop = (
        FixedFractionalSize(method="fixed_fractional"),
        schema.Protection(unit="ticks", stop=40.0),
    )
    contracts = scale(BARS, risk_of(size, protection=stop), CAPITAL)
    assert contracts == pytest.approx(np.full(len(BARS), 250 / 43.54))
    nearer = scale(BARS, risk_of(size, protection=stop.model_copy(update={"trail": 20.0})), CAPITAL)
    assert nearer[0] == pytest.approx(10.0)  # 250 / 23.54, cut at max_contracts
    with pytest.raises(ConfigError, match="sizes by the distance of the stop"):
        scale(BARS, risk_of(size), CAPITAL)


def test_a_turtle_unit_makes_one_range_worth_its_fraction() -> None:
    contracts = scale(
        BARS,
        risk_of(AtrUnitSize(method="atr_unit", multiple=2.0, max_contracts=999.0)),
        CAPITAL,
    )
    adjusted = BARS.adjusted
    ranges = atr(adjusted["high"], adjusted["low"], adjusted["close"], 14)
    assert np.isnan(contracts[:14]).all()
    assert contracts[14:] * 2.0 * ranges[14:] * 100 == pytest.approx(np.full(len(BARS) - 14, 250.0))


def test_half_of_kelly_is_a_volatility_target_of_half_the_sharpe() -> None:
    kelly = KellySize(
        method="kelly", sharpe=0.4, fraction=0.5, lookback_sessions=10, max_contracts=50.0
    )
    np.testing.assert_array_equal(
        scale(BARS, risk_of(kelly), CAPITAL), scale(BARS, risk_of(VOL), CAPITAL)
    )


def test_the_buffer_is_a_share_of_the_full_size() -> None:
    buffered = VOL.model_copy(update={"buffer_frac": 0.1})
    intent = plan(BARS, build({"name": "always_long"}), risk_of(buffered), CAPITAL)
    defined = ~np.isnan(intent.wanted)
    np.testing.assert_allclose(intent.buffer[defined], 0.1 * intent.wanted[defined])
    assert (intent.buffer[~defined] == 0).all()


def test_a_market_without_movement_has_no_size() -> None:
    still = random_bars(800, step=1e-9, bars_per_session=50)
    assert (scale(still, risk_of(VOL), CAPITAL)[11 * 50 :] == 0).all()


def test_protection_distances_are_whole_ticks() -> None:
    stop, take_profit, _ = protection(
        BARS, schema.Protection(unit="atr", stop=2.0, take_profit=4.0, atr_bars=14)
    )
    adjusted = BARS.adjusted
    expected = np.rint(atr(adjusted["high"], adjusted["low"], adjusted["close"], 14) / 0.01 * 2.0)
    np.testing.assert_array_equal(stop[14:], expected[14:])
    assert np.isnan(stop[:14]).all()
    assert (take_profit[14:] >= stop[14:]).all()
    only_stop, nothing, trail = protection(
        BARS, schema.Protection(unit="ticks", stop=12.4, trail=7.0)
    )
    assert (only_stop == 12).all()
    assert (trail == 7).all()
    assert len(nothing) == 0


def test_protection_needs_no_more_than_its_memory() -> None:
    rule = schema.Protection(unit="atr", stop=2.0, atr_bars=14)
    start = len(BARS) - memory_bars(risk_of(protection=rule)) - 5
    np.testing.assert_array_equal(
        protection(BARS.rows(start, len(BARS)), rule)[0][-5:], protection(BARS, rule)[0][-5:]
    )


def test_there_is_no_position_before_its_stop_is_known() -> None:
    rule = risk_of(protection=schema.Protection(unit="atr", stop=2.0, atr_bars=30))
    intent = plan(BARS, build({"name": "always_long"}), rule, CAPITAL)
    assert np.isnan(intent.wanted[:30]).all()
    assert (intent.wanted[30:] == 1).all()


@pytest.mark.parametrize("rule", [{"stop": 3.0}, {"unit": "atr"}])
def test_half_a_protection_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"risk\.protection\.unit"):
        protection(BARS, schema.Protection(**rule))


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_risk_config_is_complete_and_valid(path: Path) -> None:
    composed = composition.compose("backtest", [f"risk={path.stem}"])
    assert composed.raw["risk"] == composed.config.risk.model_dump(mode="json")


def test_every_block_says_why() -> None:
    assert [block.text for block in Block] == list(dict.fromkeys(block.text for block in Block))


# ---------------------------------------------------------------------------- no key without effect

BRACKET = schema.Protection(unit="atr", stop=2.0, take_profit=3.0, atr_bars=14)
WIDE = schema.Limits(max_position=8, max_order=16)
FIXED = FixedSize(method="fixed", contracts=4.0)
STOP = schema.Protection(unit="atr", stop=2.0)
FRACTIONAL = FixedFractionalSize(method="fixed_fractional", risk_frac=0.004)
UNIT = AtrUnitSize(method="atr_unit", risk_frac=0.002)
KELLY = KellySize(method="kelly", sharpe=1.0, max_contracts=50.0)
CHANGES: dict[str, tuple[schema.Risk, schema.Risk]] = {  # key -> two risks that differ in it alone
    "size.fixed.contracts": (
        risk_of(FIXED, limits=WIDE),
        risk_of(FixedSize(method="fixed", contracts=3.0), limits=WIDE),
    ),
}


def sized(size: Any, **changes: Any) -> None:
    """One entry of CHANGES for each of these keys of the sizing rule."""
    for key, value in changes.items():
        other_size = size.model_copy(update={key: value})
        CHANGES[f"size.{size.method}.{key}"] = (
            risk_of(size, limits=WIDE, protection=STOP),
            risk_of(other_size, limits=WIDE, protection=STOP),
        )


def limited(base: schema.Limits, **changes: Any) -> None:
    for key, value in changes.items():
        CHANGES[f"limits.{key}"] = (
            risk_of(FIXED, limits=base),
            risk_of(FIXED, limits=base.model_copy(update={key: value})),
        )


sized(VOL, annual_vol_frac=0.05, lookback_sessions=20, max_contracts=1.0, buffer_frac=0.5)
sized(FRACTIONAL, risk_frac=0.002, cost_usd=50.0, max_contracts=1.0)
sized(UNIT, risk_frac=0.0005, multiple=4.0, atr_bars=100, max_contracts=1.0)
sized(KELLY, sharpe=0.1, fraction=0.1, lookback_sessions=20, max_contracts=1.0)
for _key, _value in {
    "unit": "ticks",
    "stop": 1.0,
    "take_profit": 1.5,
    "trail": 1.0,
    "atr_bars": 40,
}.items():
    CHANGES[f"protection.{_key}"] = (
        risk_of(protection=BRACKET),
        risk_of(protection=BRACKET.model_copy(update={_key: _value})),
    )
limited(
    WIDE,
    max_position=3,
    max_order=4,
    max_trades_per_session=1,
    max_orders_per_session=2,
    max_daily_loss_usd=50.0,
    max_drawdown_frac=0.02,
    max_loss_per_trade_usd=30.0,
    max_consecutive_losses=2,
    no_entry_before_close_sec=600,
    flatten_before_close_sec=300,
    flatten_before_roll_sec=300,
    flatten_before_last_trade_sessions=3,
    trading_windows=("19:05-19:30",),
    news_windows=("Wed 19:10-19:20",),
    volatility_ratio=1.2,
    price_collar_ticks=2.0,
    initial_margin_usd=9_000.0,
    maintenance_margin_usd=9_000.0,
    state="reduce_only",
)
limited(WIDE.model_copy(update={"max_consecutive_losses": 2}), cool_down_bars=3)
limited(WIDE.model_copy(update={"trading_windows": ("19:05-19:30",)}), flatten_at_windows=True)
limited(
    WIDE.model_copy(update={"volatility_ratio": 1.2}),
    volatility_fast_bars=20,
    volatility_slow_bars=40,
)
limited(WIDE.model_copy(update={"initial_margin_usd": 6_000.0}), max_margin_frac=0.5)


def keys_of(model: type[BaseModel], prefix: str) -> set[str]:
    return {f"{prefix}.{name}" for name in model.model_fields if name != "method"}


def test_the_table_of_changes_knows_every_key() -> None:
    sizes = [tag for method in METHODS for tag in keys_of(method.model, f"size.{method.name}")]
    defined = (
        set(sizes) | keys_of(schema.Protection, "protection") | keys_of(schema.Limits, "limits")
    )
    assert set(CHANGES) == defined
    assert set(schema.Risk.model_fields) == {"size", "protection", "limits"}


@pytest.mark.parametrize("key", sorted(CHANGES))
def test_every_key_of_the_risk_config_changes_a_result(key: str) -> None:
    plain, changed = (_run(risk) for risk in CHANGES[key])
    assert plain.fills.tolist() != changed.fills.tolist()


def _run(risk: schema.Risk) -> Result:
    intent = plan(BARS, build({"name": "ema_cross", "fast": 5, "slow": 20}), risk, CAPITAL)
    return simulate(BARS, intent, risk.limits, schema.Costs(), CAPITAL)


@pytest.mark.parametrize(
    "key",
    [
        "max_trades_per_session",
        "max_orders_per_session",
        "max_consecutive_losses",
        "cool_down_bars",
    ],
)
def test_a_count_that_no_machine_holds_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        _ = composition.compose("backtest", [f"risk.limits.{key}={10**22}"]).config
