"""Whatever runs a strategy gives it nothing later than the close of its last bar, and nothing
behind a fence that stands.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from deployments import empty_store

from mcl.cli.main import main
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator

REPOSITORY = Path(__file__).resolve().parents[2]
FENCE = "2024-02-12"
DATA = (
    "data=mcl_databento",
    "data.path=market",
    "data.interval=30m",
    f"data.holdout_start='{FENCE}'",
)
RUN = (*DATA, "strategy=guard", "risk=fixed", "study=guard")
OPEN = (
    *(
        "promotion.min_trades=0",
        "promotion.min_sessions=0",
        "promotion.max_drawdown_frac=null",
        "promotion.min_deflated_sharpe=null",
    ),
    *(
        "promotion.min_holdout_sharpe=null",
        "promotion.min_holdout_trades=null",
        "promotion.min_plateau_frac=null",
    ),
    *(
        "promotion.max_pbo=null",
        "promotion.min_doubled_costs_sharpe=-1e9",
        "promotion.max_p_value=null",
    ),
)
CODE = """
from dataclasses import dataclass
from typing import Annotated, ClassVar
import numpy as np
from pydantic import Field

SEEN = []


@dataclass(frozen=True)
class Guard:
    bars: Annotated[int, Field(ge=2)] = 10
    name: ClassVar[str] = "guard"
    uses_levels: ClassVar[bool] = False

    @property
    def memory(self):
        return self.bars

    def signal(self, bars):
        end = int(bars.close_time[-1])
        SEEN.append(int(bars.session[-1]))
        assert bars.provenance == {}, "provenance"
        assert bars.fingerprint == "", "fingerprint"
        assert (bars.settlements["known_at"] <= end).all(), "settlements"
        assert (bars.settlement.index <= bars.session[-1]).all(), "settlement"
        assert (bars.listed_at <= end).all(), "listed_at"
        days = bars.roll_table["session"].to_numpy().astype("datetime64[D]").astype(np.int64)
        assert (days <= bars.session[-1]).all(), "roll_table"
        assert len(np.unique(bars.shift[bars.contract[-1]:])) == 1, "shift"
        assert np.isnan(bars.left_at[bars.contract[-1] + 1:]).all(), "left_at"
        if bars.finer is not None:
            fine = bars.finer()
            assert fine.close_time[-1] <= end, "finer"
            assert (fine.settlements["known_at"] <= end).all(), "settlements of finer"
            assert set(fine.contracts) <= set(bars.contracts), "contracts of finer"
        memory = bars.close_time
        while isinstance(memory.base, np.ndarray):
            memory = memory.base
        assert memory.max() <= end, "memory behind the last row"
        close = bars.adjusted["close"]
        signal = np.full(len(bars), np.nan)
        signal[self.bars:] = np.sign((close[self.bars:] - close[:-self.bars]).round(6))
        return signal
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("guarded")
    shutil.copytree(REPOSITORY / "conf", folder / "conf", ignore=shutil.ignore_patterns("promoted"))
    empty_store(folder)
    home = generator.generate(
        SyntheticData(source="synthetic", seed=11),
        folder,
        first=date(2024, 1, 2),
        last=date(2024, 2, 23),
    )
    home.rename(folder / "market")
    (folder / "experiments" / "strategies").mkdir(parents=True)
    (folder / "experiments" / "strategies" / "guard.py").write_text(CODE)
    (folder / "conf" / "strategy" / "guard.yaml").write_text("name: guard\nbars: 10\n")
    (folder / "conf" / "space" / "guard.yaml").write_text("strategy:\n  bars: range(4, 13, 2)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCL_HOME", str(folder))
        yield folder


SEARCH = ("search.trials=3", "search.sampler=qmc", "search.workers=1", "search.min_trades=0")
FENCED = {
    "backtest": ("backtest", *RUN),
    "finer brackets": ("backtest", *RUN, "risk=bracket", "execution.bracket=finer"),
    "grid": ("backtest", "-m", *RUN, "strategy.bars=6,8"),
    "search": ("sweep", *RUN, *SEARCH),
    "walk-forward": ("sweep", *RUN, *SEARCH, "search.walk_forward=anchored", "search.folds=2"),
    "check lookahead": ("check", "lookahead", *RUN, "--samples", "8"),
    "check warmup": ("check", "warmup", *RUN, "--samples", "8"),
}


@pytest.mark.parametrize("what", FENCED)
def test_nothing_is_behind_the_fence(root: Path, what: str) -> None:
    assert main(["--quiet", *FENCED[what]]) == 0
    assert max(sizes_seen()) < np.datetime64(FENCE).astype(np.int64)


def test_validation_promotion_and_a_session_give_it_nothing_later(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quiet", "backtest", *RUN]) == 0
    sizes_seen().clear()
    assert main(
        [
            "--quiet",
            "validate",
            "last",
            "validate.budget=4",
            "validate.folds=2",
            "validate.cpcv_folds=3",
        ]
    ) in (0, 1)
    assert main(["--quiet", "promote", "last", "--to", "paper", *OPEN]) == 0, (
        capsys.readouterr().err
    )
    assert main(["--quiet", "live", "paper"]) == 0, capsys.readouterr().err
    assert max(sizes_seen()) >= np.datetime64(FENCE).astype(np.int64), (
        "the fence was lifted for them"
    )


def sizes_seen() -> list[int]:
    return sys.modules["experiments.strategies.guard"].SEEN  # type: ignore[no-any-return]
