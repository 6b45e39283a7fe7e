"""`mcl new strategy NAME` and `mcl new source NAME`: a strategy of your own, and a data source of
mcl, each of which works as it is written, with its config and its test.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from mcl.base.errors import ConfigError
from mcl.base.files import write_whole
from mcl.data import sources
from mcl.strategy import builtin

CODE = '''"""{name}: say here what it bets on, and why that should go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pandas as pd
from pydantic import Field

from mcl.config.base_model import BarCount
from mcl.data.bars import Bars


@dataclass(frozen=True)
class {title}:
    """Long while the close is above the mean of its last `length` bars, short while below."""

    # parameters: a type with its range, and a default. A BarCount may be written as 8h
    length: Annotated[BarCount, Field(ge=2, le=10_000_000)] = 480
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
length: 8h  # or a number of bars
"""

SPACE = """# Searched when strategy={name}. Hydra's sweep grammar: the stop of a range is exclusive.
strategy:
  length: range(2h, 33h, 2h)
"""


SOURCE_CODE = '''"""{name}: bars in a NumPy archive as a source. Say here who writes such files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from mcl.config import schema
from mcl.data.source import Raw, Source, bar_table, existing_path, plain_label
from mcl.data.table import PRICES, Table, instrument
from mcl.market.calendar import DAY_NS, from_day, parse_symbol


class {title}Data(schema.DataCommon):
    """One-minute bars in an .npz file: symbol, ts_event (ns UTC, bar open), prices, volume."""

    source: Literal["{name}"]
    path: str


def table(path: Path, data: {title}Data) -> Table:
    arrays = np.load(path)
    ts = arrays["ts_event"].astype(np.int64)
    symbols, index = np.unique(arrays["symbol"], return_inverse=True)
    day = from_day(int(ts[0] // DAY_NS))
    return bar_table(
        instrument(data.instrument),
        "1m",
        contracts=[parse_symbol(str(symbol), day) for symbol in symbols],
        contract=index.astype(np.int64),
        ts_event=ts,
        prices={{column: arrays[column].astype(np.float64) for column in PRICES}},
        volume=arrays["volume"].astype(np.int64),
        origin=str(path),
        facts={{"format": "NumPy archive"}},
    )


def _raw(data: {title}Data, root: Path) -> Raw:
    path = existing_path(data.path, root, folder=False)
    request = {{"source": "{name}", "instrument": data.instrument}}
    return Raw(plain_label(path.stem), path.parent, [path], request, partial(table, path, data))


SOURCE = Source({title}Data, _raw, needs=("path",))
'''

SOURCE_TEST = '''"""Files of the source {name} give the bars that were written to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mcl.base.instants import NS
from mcl.data.bars import Bars
from mcl.data.loader import load
from mcl.data.sources.{name} import {title}Data
from mcl.data.table import PRICES


def traded(bars: Bars) -> list[str]:
    return [bars.contracts[i].symbol for i in bars.contract]


def write(bars: Bars, path: Path) -> None:
    """The bars as the vendor of this format would write them."""
    columns = {{column: getattr(bars, column) for column in (*PRICES, "volume")}}
    ts_event = bars.close_time - 60 * NS
    np.savez(path, symbol=np.array(traded(bars)), ts_event=ts_event, **columns)


def test_the_bars_are_those_of_the_world(small_bars: Bars, tmp_path: Path) -> None:
    write(small_bars, tmp_path / "bars.npz")
    bars = load({title}Data(source="{name}", path="bars.npz"), tmp_path)
    for column in ("close_time", "session", *PRICES, "volume"):
        np.testing.assert_array_equal(getattr(bars, column), getattr(small_bars, column))
    assert traded(bars) == traded(small_bars)
'''

SOURCE_CONFIG = """# Bars in a NumPy archive (mcl/data/sources/{name}.py).
defaults:
  - /roll@roll: calendar
  - _self_

source: {name}
path: ???  # FILE.npz
"""
REGISTRY = Path("mcl", "data", "sources", "__init__.py")


def new_strategy(name: str, root: Path) -> list[Path]:
    """Write the four files below the project folder `root`; ConfigError when the name is unusable
    or one of them is there.
    """
    _check_name(name, "strategy")
    if name in builtin():
        raise ConfigError(
            f"mcl has a strategy called {name!r}; choose another name, for instance my_{name}"
        )
    if not (root / "conf" / "backtest.yaml").is_file():
        raise ConfigError(
            f"{root} is no project folder: it has no conf/backtest.yaml",
            "run mcl inside one or set MCL_HOME",
        )
    own = root / "experiments" / "strategies"
    return _write(
        name,
        {
            own / f"{name}.py": CODE,
            own / f"test_{name}.py": TEST,
            root / "conf" / "strategy" / f"{name}.yaml": CONFIG,
            root / "conf" / "space" / f"{name}.yaml": SPACE,
        },
    )


def new_source(name: str, root: Path) -> list[Path]:
    """Write a data source, its test and its option in the checkout of mcl at `root`, and enter it
    in the registry; ConfigError when the name is unusable, a file is there or `root` is no
    checkout.
    """
    _check_name(name, "source")
    if name in sources.BY_NAME:
        raise ConfigError(
            f"mcl has a data source called {name!r}; choose another name, for instance {name}_2"
        )
    registry = root / REGISTRY
    if not registry.is_file():
        raise ConfigError(
            f"{root} is no checkout of mcl: it has no {REGISTRY}",
            "a data source is a part of mcl: run it in a checkout; a file of bars needs none, see"
            " mcl data sniff",
        )
    text = registry.read_text()
    written = _write(
        name,
        {
            registry.parent / f"{name}.py": SOURCE_CODE,
            root / "tests" / "data" / f"test_{name}.py": SOURCE_TEST,
            root / "conf" / "data" / f"{name}.yaml": SOURCE_CONFIG,
        },
    )
    write_whole(registry, _registered(name, text).encode())
    return [*written, registry]


def _registered(name: str, registry: str) -> str:
    """The registry with one more source, behind the others."""
    imported = re.search(r"^from mcl\.data\.sources import (.*)$", registry, re.M)
    listed = re.search(r"^SOURCES.*?= \(\n.*?^\)$", registry, re.M | re.S)
    if imported is None or listed is None:
        raise ConfigError(f"{REGISTRY} has no tuple SOURCES in its usual form")
    names = ", ".join(sorted([*imported[1].split(", "), name]))
    entries = listed[0].removesuffix(")") + f"    {name}.SOURCE,\n)"
    registry = registry.replace(listed[0], entries)
    return registry.replace(imported[0], f"from mcl.data.sources import {names}")


def _check_name(name: str, kind: str) -> None:
    if (
        not re.fullmatch(r"[a-z][a-z0-9_]*", name)
        or keyword.iskeyword(name)
        or name.startswith("test_")
    ):
        raise ConfigError(
            f"{name!r} cannot name a {kind}: use lower-case letters, digits and underscores, for"
            f" instance {_usable(name, kind)!r}"
        )


def _write(name: str, files: dict[Path, str]) -> list[Path]:
    """Write all files, or none of them."""
    present = [path for path in files if path.exists()]
    if present:
        raise ConfigError(
            f"{present[0]} is there already; nothing was written",
            "choose another name, or remove it first",
        )
    title = "".join(part.capitalize() for part in name.split("_"))
    for path, template in files.items():
        write_whole(path, template.format(name=name, title=title).encode())
    return list(files)


def _usable(name: str, kind: str) -> str:
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    return (
        plain
        if re.fullmatch(r"[a-z][a-z0-9_]*", plain) and not keyword.iskeyword(plain)
        else f"my_{plain or kind}"
    )
