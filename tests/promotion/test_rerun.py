"""A stored run, simulated again in another process with other thread counts: the same bits.
scripts/prove_rerun.py does it for 50 runs.
"""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from deployments import Project, empty_store, project

from mcl import strategy

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prove_rerun.py"
RUNS: tuple[dict[str, Any], ...] = (
    {"strategy": {"name": "ema_cross", "fast": 10, "slow": 30}},
    {"strategy": {"name": "random", "seed": 3}, "interval": "5m"},
    {"strategy": {"name": "donchian"}, "interval": "15m"},
)


@pytest.fixture(scope="module")
def prove() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prove_rerun", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[str]]:
    shop = project(
        tmp_path_factory.mktemp("proof") / "project", empty_store(tmp_path_factory.mktemp("store"))
    )
    return shop, [shop.run(shop.config(**changes)) for changes in RUNS]


def test_another_process_with_other_threads_gives_the_same_bits(
    made: tuple[Project, list[str]], prove: ModuleType
) -> None:
    shop, run_ids = made
    first, again = prove.stored(run_ids, shop.root), prove.elsewhere(run_ids, 4, shop.root)
    assert list(again) == run_ids
    for run_id in run_ids:
        assert again[run_id].keys() - first[run_id].keys() == {"hash of fills", "hash of equity"}
        moved = [
            name for name, value in again[run_id].items() if first[run_id].get(name, value) != value
        ]
        assert moved == []


def test_the_proof_draws_every_strategy(prove: ModuleType) -> None:
    rng = random.Random(0)
    for name in strategy.builtin():
        assert prove.drawn(name, rng)[0] == f"strategy={name}"
