"""Order books: consistent with a world's bars, stored and read, measured by hand, and joined to
bars without a look ahead.
"""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from datetime import date
from pathlib import Path

import databento
import numpy as np
import pandas as pd
import pytest
from comparisons import digest
from hypothesis import given
from hypothesis import strategies as st

from mcl import composition
from mcl.base.errors import ConfigError, DataError
from mcl.base.instants import NS
from mcl.cli import check, main
from mcl.config import schema
from mcl.data import dbn, depth, slippage_model
from mcl.data.depth import Book, Depth
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator, order_books

from .conftest import FIRST, rewrite

MINUTE = 60 * NS
# a Wednesday with an inventory report, a half session
DAYS = (date(2024, 1, 10), date(2024, 1, 15))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticData(source="synthetic", seed=11)
    world = generator.generate(
        spec, tmp_path_factory.mktemp("world"), first=FIRST, last=date(2024, 1, 19)
    )
    return order_books.generate(world, DAYS)


@pytest.fixture(scope="module")
def stored(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Depth:
    return depth.build(home, "MCL", tmp_path_factory.mktemp("root"))


def client_frame(path: Path) -> pd.DataFrame:
    return databento.DBNStore.from_bytes(path.read_bytes()).to_df()


def test_trades_add_up_to_the_bars(home: Path) -> None:
    trades, bars = (
        client_frame(home / name)
        for name in (f"mbp-10/{DAYS[0]}.dbn.zst", "ohlcv-1m/2024-01.dbn.zst")
    )
    trades = trades[(trades["action"] == "T") & (trades["symbol"] == "MCLG4")]
    bars = bars[bars["symbol"] == "MCLG4"]
    minutes = trades.groupby(trades["ts_event"].dt.floor("min")).agg(
        {"price": ["first", "max", "min", "last"], "size": "sum"}
    )
    real = bars.loc[minutes.index]
    assert (
        len(minutes)
        == ((bars.index >= trades.index[0].floor("min")) & (bars.index <= trades.index[-1])).sum()
    )
    for i, name in enumerate(("open", "high", "low", "close", "volume")):
        assert np.allclose(minutes.iloc[:, i], real[name]), name


def test_the_book_stands_around_every_trade(stored: Depth) -> None:
    for symbol, day in stored.book_keys:
        book = stored.book(symbol, day)
        assert book.sound.all()
        assert (np.diff(book.bid, axis=0) < 0).all()
        assert (np.diff(book.ask, axis=0) > 0).all()
        assert (np.diff(book.ts) >= 0).all()
        traded = np.flatnonzero(book.traded)
        assert (np.maximum(book.bid_size[0], book.ask_size[0])[traded] >= book.traded[traded]).all()


def test_the_spread_has_the_shape_of_the_day(stored: Depth) -> None:
    by_slot = slippage_model.measure(stored, (1,)).by_slot["spread_ticks"]
    assert 1.2 < by_slot["09:00"] < 1.6
    assert 2.5 < by_slot["20:00"] < 3.1
    assert by_slot["18:00"] > by_slot["18:30"]
    assert "17:00" not in by_slot


def test_books_are_found_again_and_deterministic(home: Path, stored: Depth, tmp_path: Path) -> None:
    path = home / "mbp-10" / f"{DAYS[1]}.dbn.zst"
    before = path.read_bytes()
    path.unlink()
    order_books.generate(home, DAYS)
    assert digest(path.read_bytes()) == digest(before)
    again = depth.build(home, "MCL", stored.folder.parents[1])
    assert again.folder == stored.folder
    assert again.synthetic
    assert again.book_keys == [(symbol, day) for day in DAYS for symbol in ("MCLG4", "MCLH4")]


def test_only_the_wanted_levels_are_read(stored: Depth) -> None:
    whole, top = (stored.book("MCLG4", DAYS[0], levels) for levels in (None, 1))
    assert (whole.bid.shape[0], top.bid.shape[0]) == (10, 1)
    assert np.array_equal(whole.bid[0], top.bid[0])
    with pytest.raises(
        DataError, match=r"no book of MCLG4 on 2024-01-11; did you mean 'MCLG4 2024-01-1"
    ):
        stored.book("MCLG4", date(2024, 1, 11))


def book_of(bid: list[tuple[float, int]], ask: list[tuple[float, int]], n: int = 3) -> Book:
    bids, asks = (np.repeat(np.array([[p] for p, _ in side]), n, axis=1) for side in (bid, ask))
    bid_sizes, ask_sizes = (
        np.repeat(np.array([[s] for _, s in side], np.int64), n, axis=1) for side in (bid, ask)
    )
    return Book(
        np.arange(n, dtype=np.int64) * NS,
        bids,
        asks,
        bid_sizes,
        ask_sizes,
        traded=np.zeros(n, np.int64),
        price=np.full(n, np.nan),
    )


def test_a_market_order_walks_the_book_as_by_hand() -> None:
    book = book_of([(70.00, 3), (69.99, 5)], [(70.02, 2), (70.03, 4)])
    frame = slippage_model._book(book, (1, 4, 10), 0.01)
    assert frame["cost_1_ticks"][0] == pytest.approx(1.0)  # half the spread of two ticks
    buy = (2 * 70.02 + 2 * 70.03) / 4 - 70.01
    sell = 70.01 - (3 * 70.00 + 1 * 69.99) / 4
    assert frame["cost_4_ticks"][0] == pytest.approx((buy + sell) / 2 / 0.01)
    buy = (2 * 70.02 + 4 * 70.03 + 4 * 70.04) / 10 - 70.01  # four beyond the book, one tick further
    sell = 70.01 - (3 * 70.00 + 5 * 69.99 + 2 * 69.98) / 10
    assert frame["cost_10_ticks"][0] == pytest.approx((buy + sell) / 2 / 0.01)
    assert list(frame.loc[0, ["beyond_1_frac", "beyond_4_frac", "beyond_10_frac"]]) == [0, 0, 1]


def test_a_crossed_or_one_sided_book_is_not_measured() -> None:
    crossed = book_of([(70.03, 3)], [(70.02, 2)])
    empty = book_of([(np.nan, 0)], [(70.02, 2)])
    for book in (crossed, empty):
        frame = slippage_model._book(book, (1,), 0.01)
        assert not frame["seconds"].any()
        assert not frame.drop(columns=["slot"]).isna().any(axis=None)


@given(st.lists(st.integers(1, 30), min_size=10, max_size=10), st.integers(1, 200))
def test_a_larger_order_never_costs_less(sizes: list[int], size: int) -> None:
    levels = (
        [(70.0 - k / 100, s) for k, s in enumerate(sizes)],
        [(70.01 + k / 100, s) for k, s in enumerate(sizes)],
    )
    frame = slippage_model._book(book_of(*levels), (size, size + 1), 0.01)
    assert frame[f"cost_{size}_ticks"][0] <= frame[f"cost_{size + 1}_ticks"][0] + 1e-9
    assert frame[f"cost_{size}_ticks"][0] >= 0.5 - 1e-9


def test_the_cost_config_is_written_with_its_provenance_and_composes(
    home: Path,
    stored: Depth,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(Path(__file__).parents[2] / "conf", tmp_path / "conf")
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    words = ["data=mcl_databento", f"data.path={home}"]
    assert (
        main.main(["--json", "data", "costs", "--contracts", "2,20", "--name", "measured", *words])
        == 0
    )
    answer = json.loads(capsys.readouterr().out)
    text = Path(answer["config"]).read_text()
    assert "SYNTHETIC DATA" in text
    assert "sessions\n# 2024-01-10 to 2024-01-15" in text
    composed = composition.compose("backtest", ["costs=measured"]).config.costs
    measured = slippage_model.measure(stored, (2, 20))
    assert composed.slippage_ticks == pytest.approx(measured.mean_ticks(2), abs=1e-3)
    assert len(composed.slippage_by_hour_ticks) == 24
    assert composed.slippage_by_hour_ticks[20] > composed.slippage_by_hour_ticks[9]
    assert composed.slippage_by_hour_ticks[17] == max(composed.slippage_by_hour_ticks)
    assert answer["slippage_ticks"]["20"] > answer["slippage_ticks"]["2"]


def test_refusals(
    home: Path, stored: Depth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="order sizes must be whole contracts"):
        slippage_model.measure(stored, (0, 1))
    with pytest.raises(DataError, match="not measured for orders of 3 contracts; choose from 1"):
        slippage_model.write(tmp_path / "x.yaml", slippage_model.measure(stored, (1,)), 3, 0.77)
    with pytest.raises(DataError, match="no synthetic order book of schema 'mbo'"):
        order_books.generate(home, DAYS, "mbo")
    with pytest.raises(DataError, match="is no generated world"):
        order_books.generate(tmp_path, DAYS)
    with pytest.raises(DataError, match="has no bars in the session 2024-06-03"):
        order_books.generate(home, [date(2024, 6, 3)])
    with pytest.raises(
        DataError, match="holds no order books; need files of schema mbp-10 or mbp-1 or tbbo"
    ):
        depth.build(home / "ohlcv-1m", "MCL", tmp_path)
    with pytest.raises(ValueError, match="slippage_by_hour_ticks has 3 values; need 24"):
        schema.Costs.model_validate({"slippage_by_hour_ticks": [1.0, 1.0, 1.0]})
    with pytest.raises(ConfigError, match="a,b"):
        check.costs(Namespace(contracts="a,b", overrides=[], name=None, sessions=1))


def test_a_damaged_book_is_refused_with_the_place(home: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{DAYS[0]}.dbn.zst"
    path.write_bytes((home / "mbp-10" / path.name).read_bytes())
    rewrite(path, lambda r: r["ask_px_00"].__setitem__(100, r["ask_px_00"][100] + 3_000_000))
    with pytest.raises(
        DataError,
        match=(
            r"the book of MCL[GH]4 on 2024-01-10 at .* UTC has the price .*, off the tick of 0.01"
        ),
    ):
        depth.build(path, "MCL", tmp_path)
    path.write_bytes((home / "mbp-10" / path.name).read_bytes())
    rewrite(path, lambda r: r[::-1])
    with pytest.raises(DataError, match="runs backwards"):
        depth.build(path, "MCL", tmp_path)
    assert not list((tmp_path / "data").glob("*"))


@pytest.mark.parametrize("schema_name", ["mbp-1", "mbp-10"])
def test_real_samples_are_stored_and_read(
    shared_data: Path, tmp_path: Path, schema_name: str
) -> None:
    path = shared_data / "databento_python_apache2" / f"GLBX.MDP3__test_data.{schema_name}.dbn.zst"
    stored_books = depth.build(path, "ES", tmp_path)
    records = dbn.read(path)[1]
    symbol, day = stored_books.book_keys[0]
    assert (symbol, day, stored_books.levels) == (
        "ESH1",
        date(2020, 12, 28),
        depth.LEVELS[schema_name],
    )
    book = stored_books.book(symbol, day)
    assert np.array_equal(book.ts, records["ts_recv"].astype(np.int64))
    assert np.array_equal(book.bid[0], records["bid_px_00"] / 1e9)
    assert not stored_books.synthetic
