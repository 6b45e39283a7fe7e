"""Bars that are cut are those that were never longer: every field, property and method, compared
with bars of truncated raw files.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from exam import SMALL
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mcl.base.errors import MclError
from mcl.base.instants import NS
from mcl.config import schema
from mcl.data import dbn
from mcl.data.bars import COLUMNS, Bars
from mcl.data.loader import load
from mcl.data.sources.databento import DatabentoData
from mcl.strategy import build, builtin

from .conftest import databento_data

# how a method is called that cannot be called without
ARGUMENTS: dict[str, list[tuple[Any, ...]]] = {
    "column": [
        (name,)
        for name in (*COLUMNS, "open", "high", "low", "close", "adjustment", "outgoing_open")
        if not name.endswith("_ticks")
    ],
    "listed": [(0,), (-1,)],
    "rows": [(0, 1)],
    "upto": [(1 << 62,)],
}
CONSTRUCTORS = {"of"}
INTERVALS = ("1m", "30m", "1h", "session")
RULES = (
    {"adjust": "difference"},
    {"adjust": "ratio"},
    {"adjust": "none"},
    {"rule": "calendar", "sessions_before_last_trade": 3},
)


def truncated(home: Path, folder: Path, until: int) -> Path:
    """The raw files as they were at `until`: no record that was known later, whatever it is."""
    for path in sorted(home.rglob("*.dbn.zst")):
        header, records = dbn.read(path)
        listed = (
            records["ts_event"] + 60 * NS if path.parent.name == "ohlcv-1m" else records["ts_recv"]
        )
        left = records[listed.astype(np.int64) <= until]
        if len(left):
            (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
            dbn.write(folder / path.parent.name / path.name, left, header)
    shutil.copy(home / "world.json", folder / "world.json")
    return folder


def offered(bars: Bars) -> Iterator[tuple[str, Any]]:
    """Everything that the object gives to whoever has it: fields, properties, and what methods
    return.
    """
    for name in sorted(
        {item.name for item in fields(bars)} | {n for n in dir(bars) if not n.startswith("_")}
    ):
        if name in CONSTRUCTORS:
            continue
        value = answer(getattr, bars, name)
        if not inspect.ismethod(value):
            yield name, value
            continue
        required = [p for p in inspect.signature(value).parameters.values() if p.default is p.empty]
        assert name in ARGUMENTS or not required, f"say in ARGUMENTS how Bars.{name} is called"
        for arguments in ARGUMENTS.get(name, [()]):
            yield f"{name}{arguments}", answer(value, *arguments)


def answer(ask: Any, *arguments: Any) -> Any:
    """What is given, or the sentence of the refusal."""
    try:
        return ask(*arguments)
    except MclError as error:
        return str(error)


def assert_same(a: Any, b: Any, at: str, depth: int = 0) -> None:
    assert type(a) is type(b), at
    if isinstance(a, Bars):
        if depth < 2:
            for (name, x), (_, y) in zip(offered(a), offered(b), strict=True):
                assert_same(x, y, f"{at}.{name}", depth + 1)
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), at
        np.testing.assert_array_equal(a, b, err_msg=at)
    elif isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b, obj=at)
    elif isinstance(a, pd.Series):
        pd.testing.assert_series_equal(a, b, obj=at)
    elif isinstance(a, pd.Index):
        pd.testing.assert_index_equal(a, b, obj=at)
    elif isinstance(a, Mapping):
        assert_same(sorted(a), sorted(b), at)
        for key in a:
            assert_same(a[key], b[key], f"{at}[{key}]", depth)
    elif isinstance(a, tuple | list):
        assert len(a) == len(b), at
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{at}[{i}]", depth)
    elif callable(a):
        assert vars(a)["until"] == vars(b)["until"], at
        assert_same(answer(a), answer(b), f"{at}()", depth)
    else:
        assert a == b, at


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cuts")


@cache
def whole(home: Path, scratch: Path, interval: str, rule: int) -> Bars:
    return load(
        databento_data(home, interval=interval, roll=schema.Roll(**RULES[rule])), scratch / "whole"
    )


# an example takes seconds: none is shrunk
@settings(max_examples=8, phases=(Phase.explicit, Phase.generate))
@given(
    interval=st.sampled_from(INTERVALS),
    rule=st.integers(0, len(RULES) - 1),
    share=st.floats(0.02, 1.0),
)
def test_cut_bars_are_those_of_files_that_end_there(
    small_world: Path, scratch: Path, interval: str, rule: int, share: float
) -> None:
    bars = whole(small_world, scratch, interval, rule)
    count = max(1, round(share * len(bars)))
    compare(
        small_world,
        scratch,
        bars,
        count,
        databento_data(small_world, interval=interval, roll=schema.Roll(**RULES[rule])),
    )


@pytest.mark.parametrize("interval", ["1m", "30m"])
@pytest.mark.parametrize(
    "place",
    [
        "roll",
        "before the roll",
        "before the settlement",
        "after the settlement",
        "end of a session",
    ],
)
def test_cuts_where_it_matters(small_world: Path, scratch: Path, interval: str, place: str) -> None:
    bars = whole(small_world, scratch, interval, 0)
    assert bars.settlements is not None
    roll = int(np.flatnonzero(bars.roll)[1])
    settled = int(np.searchsorted(bars.close_time, bars.settlements["known_at"].iloc[12]))
    rows = {
        "roll": roll + 1,
        "before the roll": roll,
        "before the settlement": settled,
        "after the settlement": settled + 1,
    }
    count = rows.get(place, int(bars.session_ends[7]) + 1)
    compare(small_world, scratch, bars, count, databento_data(small_world, interval=interval))


def compare(home: Path, scratch: Path, bars: Bars, count: int, data: DatabentoData) -> None:
    """The first `count` bars against what raw files that end there give, and the signals of every
    strategy on both.
    """
    until = int(bars.close_time[count - 1])
    folder = scratch / f"files-{until}"
    if not folder.exists():
        truncated(home, folder / "raw", until)
    short = load(data.model_copy(update={"path": str(folder / "raw")}), folder)
    assert len(short) == count
    assert_same(bars.rows(0, count), short.point_in_time, "bars")
    for name in sorted(builtin()):
        strategy = build({"name": name} | SMALL.get(name, {}))
        signal = answer(strategy.signal, bars.point_in_time)
        if isinstance(signal, str):
            # it needs finer bars, or quotes
            assert "data.interval" in signal or "data.quotes" in signal, name
        else:
            np.testing.assert_array_equal(
                signal[:count], strategy.signal(short.point_in_time), err_msg=name
            )


def test_every_field_has_a_rule_and_one_without_cannot_be_cut(small_bars: Bars) -> None:
    assert not [item.name for item in fields(Bars) if "cut" not in item.metadata]

    @dataclass(frozen=True)
    class More(Bars):
        tomorrow: float = 0.0

    longer = More(**{item.name: getattr(small_bars, item.name) for item in fields(small_bars)})
    with pytest.raises(KeyError, match="cut"):
        longer.rows(0, 10)


@pytest.mark.parametrize("interval", ["1m", "30m"])
def test_a_fence_leaves_nothing_behind_it(small_world: Path, scratch: Path, interval: str) -> None:
    data = databento_data(small_world, interval=interval, holdout_start="2024-02-06")
    fenced, everything = load(data, scratch / "whole"), load(data, scratch / "whole", holdout=True)
    assert (
        fenced.session[-1] < np.datetime64("2024-02-06").astype(np.int64) <= everything.session[-1]
    )
    assert_same(fenced.point_in_time, everything.rows(0, len(fenced)), "bars")
    assert fenced.point_in_time.provenance == {}
    assert fenced.point_in_time.fingerprint == ""
    if interval == "30m":
        assert fenced.finer is not None
        assert fenced.finer().close_time[-1] <= fenced.close_time[-1]
        assert fenced.finer().finer is None


def test_no_array_of_cut_bars_lies_in_the_memory_of_longer_ones(
    small_world: Path, scratch: Path
) -> None:
    data = databento_data(small_world, interval="30m", holdout_start="2024-02-06")
    for bars in (
        load(data, scratch / "whole").point_in_time,
        whole(small_world, scratch, "30m", 0).rows(0, 500),
    ):
        for name, value in offered(bars):
            if isinstance(value, np.ndarray) and value.base is not None:
                memory = value
                while isinstance(memory.base, np.ndarray):
                    memory = memory.base
                assert memory.base is None, f"{name} is mapped from a file"
                assert memory.nbytes <= value.nbytes, name


def test_what_is_offered_point_by_point(small_world: Path, scratch: Path) -> None:
    """Finer bars, the last settlement and the listed contracts, at each row, are those of the bars
    that end with the row.
    """
    bars = whole(small_world, scratch, "30m", 0)
    _, last = bars.finer_rows()
    settled = bars.last_settlement()
    assert bars.settlements is not None
    assert np.isfinite(settled).sum() > len(bars) / 2
    for row in (0, 40, 41, 45, 46, 700, 1100, len(bars) - 1):
        part = bars.rows(0, row + 1)
        assert bars.listed(row) == part.contracts
        np.testing.assert_array_equal(settled[: row + 1], part.last_settlement())
        mine, own = part.finer_rows()
        np.testing.assert_array_equal(last[: row + 1], own)
        assert own[-1] == len(mine) - 1
        assert mine.close_time[-1] <= part.close_time[-1]
    assert len(bars.listed(-1)) > len(bars.listed(0)) >= 12
    changed = np.flatnonzero(np.diff(np.nan_to_num(settled)) != 0) + 1
    assert set(changed) <= set(
        np.searchsorted(bars.close_time, bars.settlements["known_at"]).tolist()
    ), "only a publication changes it"
