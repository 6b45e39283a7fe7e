"""From seconds to sessions: coarser bars are made of the bars that exist, whatever the way
there.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from comparisons import digest

from mcl.base.instants import NS
from mcl.data import continuous, dbn, loader
from mcl.data.bars import COLUMNS, Bars
from mcl.data.loader import load
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator, order_books
from mcl.market.calendar import sessions, to_day

from .conftest import FIRST, databento_data

DAY = date(2024, 1, 10)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticData(source="synthetic", seed=11)
    world = generator.generate(
        spec, tmp_path_factory.mktemp("world"), first=FIRST, last=date(2024, 1, 11)
    )
    return order_books.generate(world, [DAY])


@pytest.fixture(scope="module")
def seconds(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One-second bars of MCLG4 made of the trades of its order book, as a vendor's file."""
    header, records = dbn.read(home / "mbp-10" / f"{DAY}.dbn.zst")
    trades = records[(records["action"] == b"T") & (records["instrument_id"] == 42_202_402)]
    frame = pd.DataFrame(
        {
            "ts": trades["ts_event"].astype(np.int64) // NS * NS,
            "price": trades["price"],
            "size": trades["size"],
        }
    )
    prices = {
        "open": ("price", "first"),
        "high": ("price", "max"),
        "low": ("price", "min"),
        "close": ("price", "last"),
    }
    cells = frame.groupby("ts").agg(**prices, v=("size", "sum"))
    bars = dbn.blank("ohlcv-1s", len(cells))
    bars["ts_event"], bars["instrument_id"], bars["volume"] = (
        cells.index.to_numpy(),
        42_202_402,
        cells["v"].to_numpy(),
    )
    for name in ("open", "high", "low", "close"):
        bars[name] = cells[name].to_numpy()
    path = tmp_path_factory.mktemp("seconds") / "seconds.dbn.zst"
    dbn.write(
        path,
        bars,
        dbn.Header(
            header.dataset,
            "ohlcv-1s",
            "raw_symbol",
            ("MCLG4",),
            header.start,
            header.end,
            header.mappings,
        ),
    )
    return path


def of_day(bars: Bars) -> Bars:
    return bars.between(DAY, date(2024, 1, 11))


@pytest.mark.parametrize("interval", ["1m", "5m", "15m", "30m", "1h", "session"])
def test_seconds_make_the_same_bars_as_minutes(
    seconds: Path, home: Path, tmp_path: Path, interval: str
) -> None:
    fine = load(databento_data(seconds, interval=interval), tmp_path)
    coarse = of_day(load(databento_data(home, interval=interval), tmp_path))
    assert loader.stored_dataset(databento_data(seconds), tmp_path).interval == "1s"
    for name in ("close_time", "open", "high", "low", "close", "volume", "session", "to_close_sec"):
        assert np.array_equal(getattr(fine, name), getattr(coarse, name)), name


STEPS = [
    ["5m", "15m"],
    ["5m", "30m"],
    ["15m", "30m", "1h"],
    ["5m", "1h"],
    ["5m", "15m", "30m", "1h"],
    ["1h", "session"],
    ["5m", "session"],
]


@pytest.mark.parametrize("steps", STEPS, ids="-".join)
def test_the_way_does_not_matter(small_bars: Bars, steps: list[str]) -> None:
    table = sessions(date(2024, 1, 1), date(2024, 3, 1))
    direct = continuous.resample(small_bars, steps[-1], table)
    bars = small_bars
    for interval in steps:
        bars = continuous.resample(bars, interval, table)
    for name in continuous.ARRAYS:
        assert digest(getattr(bars, name)) == digest(getattr(direct, name)), name


def test_missing_minutes_become_no_bars(small_bars: Bars) -> None:
    table = sessions(date(2024, 1, 1), date(2024, 3, 1))
    mask = np.ones(len(small_bars), bool)
    at = int(np.flatnonzero(small_bars.session == to_day(DAY))[600])
    mask[at : at + 12] = False
    columns = {name: getattr(small_bars, name)[mask] for name in COLUMNS}
    fine, holed = (
        continuous.resample(b, "5m", table) for b in (small_bars, replace(small_bars, **columns))
    )
    missing = set(fine.close_time) - set(holed.close_time)
    assert 1 <= len(missing) <= 3
    assert not set(holed.close_time) - set(fine.close_time)
    assert (holed.volume > 0).all()
    assert holed.volume.sum() == small_bars.volume[mask].sum()


def test_settlements_are_those_of_the_active_contract(home: Path, tmp_path: Path) -> None:
    bars = load(databento_data(home), tmp_path)
    assert bars.settlement is not None
    assert set(bars.settlement.index) <= set(bars.session)
    _, records = dbn.read(home / "statistics" / "2024-01.dbn.zst")
    mine = records[(records["stat_type"] == 3) & (records["instrument_id"] == 42_202_402)]
    published = dict(
        zip(
            (mine["ts_ref"] // (86_400 * NS)).astype(int).tolist(),
            (mine["price"] / 1e9).tolist(),
            strict=True,
        )
    )
    for day, price in bars.settlement.items():
        assert price == published[day]
        inside = bars.session == day
        assert bars.low[inside].min() - 0.011 <= price <= bars.high[inside].max() + 0.011
    cut = bars.between(DAY, date(2024, 1, 11))
    assert list(cut.settlement.index) == [to_day(DAY)]
    assert load(databento_data(home), tmp_path).settlement.equals(bars.settlement)
