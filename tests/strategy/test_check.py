"""The look-ahead and warm-up checks: every strategy passes, every planted cheat is caught."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exam import SMALL
from walks import random_bars

from mcl import composition
from mcl.base.errors import ConfigError, DataError
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.strategy import builtin
from mcl.validation import lookahead


@cache
def walk() -> Bars:
    return random_bars(2_500, seed=11, rolls=5, quotes=True)


def named(params: dict[str, Any]) -> schema.Config:
    raw = composition.compose(
        "backtest", ["data=synthetic", "risk=bracket", "data.holdout_start=null"]
    ).raw
    return composition.run_config(raw | {"strategy": params})


def small(name: str) -> schema.Config:
    return named({"name": name} | SMALL.get(name, {}))


@pytest.mark.parametrize("name", sorted(builtin()))
def test_every_strategy_passes_both_checks(name: str) -> None:
    report = lookahead.lookahead(small(name), walk(), samples=12)
    assert not report.has_bias, report.first
    assert report.cuts == 12
    warm = lookahead.warmup(small(name), walk(), samples=60)
    assert warm.enough, warm.deviation_percent["signal"]
    assert warm.memory in warm.lengths


CHEAT = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Cheat:
    name: ClassVar[str] = "{name}"
    uses_levels: ClassVar[bool] = False
    memory: ClassVar[int] = {memory}

    def signal(self, bars):
        closes = bars.frame()["adj_close"]
        {body}

    def indicators(self, bars):
        closes = bars.frame()["adj_close"]
        return {{"centred": closes.rolling(5, center=True).mean(), "last": closes}}
"""
CHEATS = {
    "peeks": "return np.sign(closes.shift(-1) - closes)",
    "normalises": "return ((closes - closes.mean()) / closes.std()).clip(-1, 1)",
    "centres": "return np.sign(closes - closes.rolling(21, center=True).mean())",
    "ranks": "return closes.rank(pct=True) * 2 - 1",
    "fills_back": "return np.sign(closes.diff(50).bfill())",
}


def plant(project: Path, name: str, body: str, memory: int) -> None:
    folder = project / "experiments" / "strategies"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(CHEAT.format(name=name, body=body, memory=memory))


@pytest.mark.parametrize("name", CHEATS)
def test_a_planted_peek_is_caught(project: Path, name: str) -> None:
    plant(project, name, CHEATS[name], 30)
    report = lookahead.lookahead(named({"name": name}), walk(), samples=20)
    assert report.has_bias
    assert report.biased_entry_signals + report.biased_exit_signals > 0
    assert report.biased_indicators == ("centred",)
    assert "when the data end at row" in report.first


def test_a_peek_at_the_rarest_and_largest_moves_is_caught(project: Path) -> None:
    """Five rows of 2 500 differ; a cut at random would meet one of them once in 25 checks."""
    largest = np.sort(np.abs(np.diff(walk().adjusted["close"])))[-5]
    move = f"(closes.shift(-1) - closes).abs() > {largest - 1e-6}"
    plant(project, "rare", f"return closes.diff(10).fillna(0).clip(-1, 1).mask({move}, 1.0)", 30)
    report = lookahead.lookahead(named({"name": "rare"}), walk(), samples=20)
    assert report.biased_entry_signals == 5


def test_a_strategy_that_contradicts_itself_is_told_so(project: Path) -> None:
    plant(project, "dice", "return np.sign(np.random.default_rng().normal(size=len(closes)))", 30)
    with pytest.raises(
        ConfigError, match=r"dice\.signal says one thing and then another of the same bars"
    ):
        lookahead.lookahead(named({"name": "dice"}), walk(), samples=3)


def test_a_peek_shows_in_targets_and_orders(project: Path) -> None:
    plant(project, "normalises", CHEATS["normalises"], 30)
    report = lookahead.lookahead(named({"name": "normalises"}), walk(), samples=20)
    assert report.biased_targets > 0
    assert report.biased_orders > 0


HONEST = {
    "slow_mean": (
        "mean = closes.ewm(span=60, adjust=False).mean()\n        return np.sign(closes - mean)",
        1_300,
        60,
    ),
    "long_change": ("return np.sign(closes.diff(200).round(6))", 200, 150),
    "forever": ("return np.sign(closes - closes.expanding().mean())", None, 2_000),
}


@pytest.mark.parametrize("name", HONEST)
def test_a_memory_that_is_declared_too_small_is_caught(project: Path, name: str) -> None:
    body, right, wrong = HONEST[name]
    plant(project, name, body, wrong)
    assert not lookahead.lookahead(named({"name": name}), walk(), samples=5).biased_targets
    short = lookahead.warmup(named({"name": name}), walk(), samples=60)
    assert not short.enough
    if right is not None:
        plant(project, f"{name}_right", body, right)
        assert lookahead.warmup(named({"name": f"{name}_right"}), walk(), samples=60).enough


def test_the_table_has_a_row_per_indicator_and_freqtrades_cells() -> None:
    warm = lookahead.warmup(
        named({"name": "ema_cross", "fast": 3, "slow": 8}), walk(), samples=20, lengths=[2, 9, 400]
    )
    assert warm.lengths == (2, 9, 168, 400)
    rows = {row[0]: row[1:] for row in lookahead.cells(warm)}
    assert set(rows) == {"signal", "ema_3", "ema_8"}
    assert rows["signal"][0] == "n/a"
    assert rows["ema_8"][1].endswith("%")
    assert rows["ema_8"][2:] == ["-", "-"]
    assert abs(warm.deviation_percent["ema_8"][1]) < 5


def test_first_names_the_earliest_row() -> None:
    full, part = np.array([0.0, 1.0, np.nan]), np.array([0.0, -1.0, np.nan])
    assert lookahead._sentence(walk(), 1, 3, full, part).endswith(
        "row 1, is 1 with all bars and -1 when the data end at row 2"
    )


def test_too_few_bars_or_samples_are_refused() -> None:
    run = named({"name": "tsmom", "lookback": 5_000})
    with pytest.raises(DataError, match="2500 bars are too few for this check, which needs 5003"):
        lookahead.warmup(run, walk())
    with pytest.raises(ConfigError, match="samples=0 compares nothing"):
        lookahead.lookahead(run, walk(), samples=0)
