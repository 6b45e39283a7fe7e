"""`mcl new strategy NAME`: a strategy of your own that runs as it is written, with its
config, search space and test.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from mcl.base.errors import ConfigError
from mcl.base.files import write_whole
from mcl.strategy import builtin

CODE = '''"""{name}: say here what it bets on, and why that should go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pandas as pd
from pydantic import Field

from mcl.data.bars import Bars


@dataclass(frozen=True)
class {title}:
    """Long while the close is above the mean of its last `length` bars, short while below."""

    # parameters: a type with its range, and a default
    length: Annotated[int, Field(ge=2, le=100_000)] = 480
    name: ClassVar[str] = "{name}"  # as the file is called
    # True if adding 10 dollars to all prices could change the signal
    uses_levels: ClassVar[bool] = False

    @property
    def memory(self) -> int:
        """Bars after which the past no longer matters; `mcl check warmup strategy={name}` tests
        it.
        """
        return self.length

    def signal(self, bars: Bars) -> pd.Series:
        """One value in [-1, 1] per bar, known at that bar's close; NaN while warming up. It is
        traded at the next open.

        `bars` end at the close of their last row. For each row: `bars.finer_rows()` has the finer
        bars up to its close, `bars.last_settlement()` the newest settlement published by then,
        `bars.listed(row)` the contracts listed by then, and
        `mcl.strategy.timeframe.higher(bars, "1h")` the hours that had closed.
        """
        # of the continuous series; bars.adjusted has the same as plain arrays
        closes = bars.frame()["adj_close"]
        distance = closes - closes.rolling(self.length).mean()
        side = (distance > 0).astype(float) - (distance < 0).astype(float)
        return side.mask(distance.abs() < 1e-9, 0.0).where(distance.notna())

    def indicators(self, bars: Bars) -> dict[str, pd.Series]:
        """What it looks at; optional."""
        return {{"mean": bars.frame()["adj_close"].rolling(self.length).mean()}}
'''

TEST = '''"""What every strategy must keep: python -m pytest experiments/strategies"""

from __future__ import annotations

from functools import cache

from mcl.validation import lookahead as check
from mcl import composition
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.data.loader import load


@cache
def composed() -> tuple[schema.Config, Bars]:
    days = ["data=synthetic", "data.end='2024-03-01'", "data.holdout_start=null"]
    run = composition.compose("backtest", ["strategy={name}", *days]).config
    return run, load(run.data, composition.root())


def test_it_does_not_look_ahead() -> None:
    bias = check.lookahead(*composed(), samples=20)
    assert not bias.has_bias, bias.first
    assert bias.total_signals > 0
    assert not bias.reads, "it reads more than its bars: " + "; ".join(bias.reads)


def test_it_declares_enough_memory() -> None:
    warm = check.warmup(*composed(), samples=50)
    assert warm.enough, warm.deviation_percent["signal"]
'''

CONFIG = """name: {name}  # experiments/strategies/{name}.py
length: 480  # bars
"""

SPACE = """# Searched when strategy={name}. Hydra's sweep grammar: the stop of a range is exclusive.
strategy:
  length: range(120, 1921, 120) # bars
"""


def new_strategy(name: str, root: Path) -> list[Path]:
    """Write the four files below the project folder `root`; ConfigError when the name is unusable
    or one of them is there.
    """
    if (
        not re.fullmatch(r"[a-z][a-z0-9_]*", name)
        or keyword.iskeyword(name)
        or name.startswith("test_")
    ):
        raise ConfigError(
            f"{name!r} cannot name a strategy: use lower-case letters, digits and underscores, for"
            f" instance {_usable(name)!r}"
        )
    if name in builtin():
        raise ConfigError(
            f"mcl has a strategy called {name!r}; choose another name, for instance my_{name}"
        )
    if not (root / "conf" / "backtest.yaml").is_file():
        raise ConfigError(
            f"{root} is no project folder: it has no conf/backtest.yaml",
            "run mcl inside one or set MCL_HOME",
        )
    title = "".join(part.capitalize() for part in name.split("_"))
    own = root / "experiments" / "strategies"
    files = {
        own / f"{name}.py": CODE,
        own / f"test_{name}.py": TEST,
        root / "conf" / "strategy" / f"{name}.yaml": CONFIG,
        root / "conf" / "space" / f"{name}.yaml": SPACE,
    }
    present = [path for path in files if path.exists()]
    if present:
        raise ConfigError(
            f"{present[0]} is there already; nothing was written",
            "choose another name, or remove it first",
        )
    for path, template in files.items():
        write_whole(path, template.format(name=name, title=title).encode())
    return list(files)


def _usable(name: str) -> str:
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    return (
        plain
        if re.fullmatch(r"[a-z][a-z0-9_]*", plain) and not keyword.iskeyword(plain)
        else f"my_{plain or 'strategy'}"
    )
