"""Strategies that look ahead, each in a way that people do: the check catches them and promotion
refuses them. Honest ones pass both.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from deployments import empty_store

from mcl import composition
from mcl.base.errors import PromotionError
from mcl.config import schema
from mcl.config.promotion_rules import LiveRules, Promotion
from mcl.data.loader import load
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator
from mcl.promotion import live_gates
from mcl.promotion.gates import check_waivers
from mcl.promotion.promote import GatesMissed, promote
from mcl.tracking import backtest_run
from mcl.tracking.project import Project
from mcl.validation import lookahead

CODE = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
import pandas as pd
from mcl.strategy.timeframe import higher


@dataclass(frozen=True)
class Planted:
    name: ClassVar[str] = "{name}"
    uses_levels: ClassVar[bool] = False
    memory: ClassVar[int] = 60

    def signal(self, bars):
        close = pd.Series(bars.adjusted["close"])
        trend = np.sign((close - close.shift(10)).round(6)).fillna(0.0)
        session = pd.Series(bars.session)
        {body}
"""
CHEATS = {
    "finer": (
        """fine = bars.finer()
        here = np.searchsorted(fine.close_time, bars.close_time, "right") - 1
        later = np.minimum(here + 30, len(fine) - 1)
        return np.sign((fine.adjusted["close"][later] - fine.adjusted["close"][here]).round(6))"""
    ),
    "finer_minute": (
        """fine = bars.finer()
        here = np.searchsorted(fine.close_time, bars.close_time, "right") - 1
        later = np.minimum(here + 1, len(fine) - 1)
        return np.sign((fine.adjusted["close"][later] - fine.adjusted["close"][here]).round(6))"""
    ),
    "settlement": "return np.sign(session.map(bars.settlement) - bars.close)",
    "next_shift": (
        """following = np.minimum(bars.contract + 1, len(bars.contracts) - 1)
        return np.sign((bars.shift[following] - bars.adjustment).round(6)) + 0.0"""
    ),
    "next_left_at": (
        """following = np.minimum(bars.contract + 1, len(bars.contracts) - 1)
        return np.nan_to_num(np.sign(bars.left_at[following] - bars.close))"""
    ),
    "roll_table": (
        """days = bars.roll_table["session"].to_numpy().astype("datetime64[D]").astype(np.int64)
        ahead = np.append(days, 10**6)[np.searchsorted(days, bars.session, "right")] - bars.session
        return np.where(ahead < 5, -1.0, 1.0)"""
    ),
    "roll_table_gap": (
        """days = bars.roll_table["session"].to_numpy().astype("datetime64[D]").astype(np.int64)
        gaps = np.append(bars.roll_table["gap"].to_numpy(np.float64), 0.0)
        return np.sign(gaps[np.searchsorted(days, bars.session, "right")])"""
    ),
    "session_close": "return np.sign((close.groupby(session).transform('last') - close).round(6))",
    "session_ends": (
        """last = np.zeros(len(bars), bool)
        last[bars.session_ends] = True
        return trend.mask(last, 0.0)"""
    ),
    "session_range": (
        """high = close.groupby(session).transform("max")
        low = close.groupby(session).transform("min")
        return np.sign(((high + low) / 2 - close).round(6))"""
    ),
    "centred": "return np.sign((close.rolling(11, center=True).mean() - close).round(6))",
    "whole_mean": "return -((close - close.mean()) / close.std()).clip(-1, 1)",
    "whole_rank": "return 1 - 2 * close.rank(pct=True)",
    "whole_quantile": "return trend.where(close < close.quantile(0.9), -1.0)",
    "reversed": "return np.sign((close[::-1].ewm(span=20).mean()[::-1] - close).round(6))",
    "forward_join": (
        """bars_of = pd.DataFrame({"at": bars.times, "close": close})
        sessions = bars_of.iloc[bars.session_ends]
        names = ("", "_next")
        joined = pd.merge_asof(bars_of, sessions, on="at", direction="forward", suffixes=names)
        return np.sign((joined["close_next"] - close).round(6))"""
    ),
    "left_label": (
        """halves = pd.Series(close.to_numpy(), bars.times - pd.Timedelta("30min"))
        hours = halves.resample("1h").last()
        hour = hours.reindex(bars.times - pd.Timedelta("30min"), method="ffill").to_numpy()
        return np.sign((hour - close).round(6))"""
    ),
    "filled_back": (
        "return np.sign(close.diff(8).where(np.arange(len(close)) % 4 == 0).bfill().round(6))"
    ),
    "exits": (
        "return trend.where((close.shift(-1) - close) * trend > -0.15,"
        " 0.0).where(close.shift(-1).notna(), trend)"
    ),
    "one_bar": "return np.sign((close.shift(-1) - close).round(6)).fillna(0.0)",
    "whole_session": "return np.sign((close.shift(-45) - close).round(6)).fillna(0.0)",
    "rare_by_clock": (
        """at = (bars.week_minute == 3 * 1440 + 600)
        return trend.mask(at, np.sign((close.shift(-1) - close).round(6)).fillna(0.0))"""
    ),
    "rare_by_move": (
        """move = close.shift(-1) - close
        return trend.mask(move.abs() > move.abs().quantile(0.999), np.sign(move))"""
    ),
    "rare_and_small": (
        """move = (close.shift(-1) - close).fillna(0.0)
        return trend.mask((bars.volume % 37 == 3) & (move.abs() > 0.05), np.sign(move))"""
    ),
    "base": (
        """memory = bars.close_ticks
        while isinstance(memory.base, np.ndarray):
            memory = memory.base
        later = np.minimum(np.arange(len(bars)) + 1, len(memory) - 1)
        return np.sign(memory[later] - memory[np.arange(len(bars))]) + 0.0"""
    ),
    "inside": (
        """first = bars.inside.first
        whole = bars.inside.open
        ahead = whole[np.minimum(first[1:] + 5, len(whole) - 1)]
        return np.sign((ahead - whole[first[1:] - 1]) + 0.0)"""
    ),
}
HONEST = {
    "closed_hour": (
        """hour = higher(bars, "1h")
        return np.sign((bars.adjusted["close"] - hour.align(hour.close)).round(6))"""
    ),
    "previous_settlement": (
        "return np.sign((bars.adjusted['close'] - bars.last_settlement()).round(6))"
    ),
    "finer_to_the_close": (
        """fine, last = bars.finer_rows()
        mean = pd.Series(fine.adjusted["close"]).ewm(span=30).mean().to_numpy()
        return np.sign((bars.adjusted["close"] - mean[last]).round(6))"""
    ),
    "fit_again_every_session": (
        """signal = np.zeros(len(bars))
        starts = np.append(0, bars.session_ends[:-1] + 1)
        for a, b in zip(starts, np.append(starts[1:], len(bars))):
            if a > 200:
                past = close.diff().to_numpy()[1:a]
                slope = np.polyfit(past[:-1], past[1:], 1)[0]
                signal[a:b] = np.sign(slope) * np.sign(close.diff().to_numpy()[a:b].round(6))
        return signal"""
    ),
    "expanding": (
        "return ((close - close.expanding().mean()) / close.expanding().std()).clip(-1,"
        " 1).fillna(0.0)"
    ),
    "flat_before_the_close": "return trend.where(bars.to_close_sec > 3600, 0.0)",
    "rolls_so_far": "return trend * (1 - 2 * (np.cumsum(bars.roll) % 2))",
    "listed_so_far": "return trend if len(bars.listed(-1)) >= len(bars.listed(0)) else trend * 0",
}
GATES = Promotion(
    min_trades=0, min_sessions=0, max_drawdown_frac=None, min_deflated_sharpe=None,
    min_holdout_sharpe=None, min_holdout_trades=None,
    max_biased_rows=0, min_holdout_sharpe_high=None, max_p_value=None, max_sharpe=None,
    max_trade_share=None, max_session_share=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project on a generated market of seven weeks with two rolls, settlements and
    definitions.
    """
    folder = tmp_path_factory.mktemp("cheats")
    empty_store(folder)
    (folder / "experiments" / "strategies").mkdir(parents=True)
    home = generator.generate(
        SyntheticData(source="synthetic", seed=11),
        folder,
        first=date(2024, 1, 2),
        last=date(2024, 2, 23),
    )
    home.rename(folder / "market")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCL_HOME", str(folder))
        yield folder


def planted(root: Path, name: str, body: str) -> schema.Config:
    (root / "experiments" / "strategies" / f"{name}.py").write_text(
        CODE.format(name=name, body=body)
    )
    raw: dict[str, Any] = {
        "data": {
            "source": "databento",
            "path": "market",
            "interval": "30m",
            "holdout_start": "2024-02-16",
        },
        "strategy": {"name": name},
        "risk": {"size": {"method": "fixed", "contracts": 1.0}},
        "costs": {"slippage_ticks": 0.0, "commission_usd": 0.0},
        "study": "test",
    }
    return composition.run_config(raw)


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_caught_and_refused(root: Path, name: str) -> None:
    run, project = planted(root, name, CHEATS[name]), Project.at(root)
    done = backtest_run.backtest(run, project=project, report=False)
    with pytest.raises(GatesMissed, match="lookahead = ") as refused:
        promote(done.run_id, project=project, gates=GATES)
    gate = next(gate for gate in refused.value.gates if gate.name == "lookahead")
    assert not gate.open
    assert gate.value > 0
    assert "when the data end at row" in gate.meaning


def test_nobody_waives_it_for_live_whatever_the_configuration_lists() -> None:
    rules = GATES.model_copy(update={"live": LiveRules(hard=())})
    with pytest.raises(PromotionError, match="gate lookahead cannot be waived for live"):
        check_waivers(["lookahead"], "we know better", rules, "live", live_gates.hard(rules.live))


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_strategy_is_not_accused(root: Path, name: str) -> None:
    run, project = planted(root, name, HONEST[name]), Project.at(root)
    report = lookahead.lookahead(run, load(run.data, root))
    assert not report.has_bias, report.first
    assert report.total_signals > 0
    assert report.reads == (), "bars that are offered are no files of its own"
    assert all(report.sampled.values()), "every part of the sample is asked"
    done = backtest_run.backtest(run, project=project, report=False)
    assert promote(done.run_id, project=project, gates=GATES).stage == "paper"
