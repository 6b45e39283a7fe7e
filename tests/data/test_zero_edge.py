"""Every shipped strategy in small worlds without an edge: luck at the mid, and a loss after costs.
`scripts/prove_zero_edge.py` asks the same of whole worlds, with intervals.
"""

from __future__ import annotations

import importlib.util
import sys
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mcl import composition
from mcl.engine.backtest import backtest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prove_zero_edge.py"
SPAN = date(2024, 1, 8), date(2024, 2, 20)  # with a roll, and a half session
SEEDS = (1, 2)


@pytest.fixture(scope="module")
def prove() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prove_zero_edge", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prove_zero_edge"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pairs(prove: ModuleType) -> dict[str, Any]:
    measured: dict[str, Any] = prove.measure(SEEDS, SPAN, prove.presets())
    return measured


def test_no_preset_has_an_edge_at_the_mid_and_each_loses_after_costs(
    prove: ModuleType, pairs: dict[str, Any]
) -> None:
    assert len(pairs) >= 15
    bound = prove.most_luck(len(pairs))
    assert 2.9 < bound < 3.1
    for name, worlds in pairs.items():
        finding = prove.judge(name, worlds)
        assert abs(finding.z) < bound, finding
        assert finding.fills > 0, finding
        # a tick of slippage, fees and the bounce, for one or two contracts a fill
        assert -8 < finding.expected_usd / finding.fills < -0.5, finding


def test_the_mirror_takes_the_luck_of_what_never_changes_sides(pairs: dict[str, Any]) -> None:
    """Always long and its mirror: what one world gives the other takes, to the cent."""
    for one, two in pairs["always_long"]:
        assert np.abs(one.luck).max() > 50
        assert np.abs(one.luck + two.luck).max() < 1e-6
        assert abs(one.pull_usd + two.pull_usd) < 1e-6


def test_the_parts_of_a_result_are_the_result(prove: ModuleType, tmp_path: Path) -> None:
    """Without costs, what is left of always long is at most the half spread of its fills."""
    bars, mids = prove.world(3, False, SPAN, tmp_path)
    raw = composition.compose("backtest", ["strategy=always_long", "costs=free"]).raw
    result = backtest(composition.run_config(raw), bars)
    parts = prove.split(result, mids)
    rest = parts.expected_usd - parts.pull_usd
    assert parts.fills >= 3
    # 0.66 ticks from the mid, half a tick of rounding and what the mid moved before the first print
    assert abs(rest) < 6 * (parts.fills + 1)
    assert abs(parts.luck.sum()) > 5 * abs(rest)
