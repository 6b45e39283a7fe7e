"""Quotes next to bars: what raw records say when they are read one by one, known at each close, cut
like everything else, refused in one sentence where there are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcl import composition
from mcl.base.errors import ConfigError, DataError, LiveError
from mcl.base.instants import NS
from mcl.data import continuous, dbn, quote_store, record_files
from mcl.data.bars import Bars
from mcl.data.loader import load, stored_quotes
from mcl.data.quotes import ABSENT, BarQuotes
from mcl.data.sources.eia import EiaData
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator, order_books
from mcl.live import session_setup
from mcl.market import contract_master
from mcl.market.calendar import session_of, to_day
from mcl.market.instruments import MCL
from mcl.search.worker_pool import attach, share
from mcl.strategy import build

from .conftest import FIRST, databento_data, rewrite
from .test_cut import assert_same, truncated

DAYS = (date(2024, 1, 10), date(2024, 1, 11))
UNDEFINED = np.iinfo(np.int64).max


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticData(source="synthetic", seed=11)
    folder = tmp_path_factory.mktemp("world")
    world = generator.generate(spec, folder, first=FIRST, last=date(2024, 1, 12))
    return order_books.generate(order_books.generate(world, DAYS, "mbp-1"), DAYS[:1], "mbp-10")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def bars(home: Path, root: Path) -> Bars:
    return load(databento_data(home, quotes=1), root)


# ------------------------------------------------------------------------------------------- values


def sound(records: dbn.Records) -> Any:
    there = (records["bid_sz_00"] > 0) & (records["ask_sz_00"] > 0)
    return there & (records["bid_px_00"] < records["ask_px_00"])


def one_by_one(bars: Bars, path: Path, levels: int) -> Iterator[tuple[int, dict[str, float]]]:
    """The quotes of some bars of the session of a file, from its records and the definition of each
    column.
    """
    records = dbn.read(path)[1]
    symbols = {m.instrument_id: m.raw_symbol for m in record_files.header(path).mappings}
    names = np.array([symbols[i] for i in records["instrument_id"].tolist()])
    day = to_day(date.fromisoformat(path.name[:10]))
    rows = np.flatnonzero(bars.session == day)
    mine = records[names == bars.contracts[bars.contract[rows[0]]].symbol]
    known = mine["ts_recv"].astype(np.int64)
    for row in [*rows[:3].tolist(), *rows[::97].tolist(), int(rows[-1])]:
        opened = bars.close_time[row - 1] if bars.session[row - 1] == day else 0
        last = mine[(known <= bars.close_time[row]) & sound(mine)][-1]
        trades = mine[(known > opened) & (known <= bars.close_time[row]) & (mine["action"] == b"T")]
        values = {
            "bid": last["bid_px_00"] / 1e9,
            "ask": last["ask_px_00"] / 1e9,
            "bid_size": float(last["bid_sz_00"]),
            "ask_size": float(last["ask_sz_00"]),
            "buy_volume": float(trades["size"][trades["side"] == b"B"].sum()),
            "sell_volume": float(trades["size"][trades["side"] == b"A"].sum()),
        }
        for n in range(1, levels + 1):
            for side in ("bid", "ask"):
                sizes = [float(last[f"{side}_sz_{k:02d}"]) for k in range(n)]
                values[f"{side}_depth_{n}"] = sum(sizes)
        yield row, values


@pytest.mark.parametrize(("schema_name", "levels"), [("mbp-1", 1), ("mbp-10", 4)])
def test_quotes_are_those_of_the_records_that_were_known_at_the_close(
    home: Path, root: Path, schema_name: str, levels: int
) -> None:
    series = load(databento_data(home, quotes=levels), root)
    compared = 0
    for row, values in one_by_one(series, home / schema_name / f"{DAYS[0]}.dbn.zst", levels):
        own = {name: series.quotes[name][row] for name in values}
        assert own == pytest.approx(values), row
        compared += 1
    assert compared > 15


def test_columns_follow_from_prices_and_sizes(bars: Bars) -> None:
    quotes = bars.quotes
    inside = np.isin(bars.session, [to_day(day) for day in DAYS])
    assert np.isfinite(pd.DataFrame(dict(quotes))[inside]).all(axis=None)
    assert np.isnan(pd.DataFrame(dict(quotes))[~inside]).all(axis=None)
    bid, ask, sizes = quotes["bid"], quotes["ask"], (quotes["bid_size"], quotes["ask_size"])
    np.testing.assert_allclose(quotes["spread"], ask - bid, atol=1e-9)
    np.testing.assert_allclose(quotes["mid"], (bid + ask) / 2, atol=1e-9)
    weighted = (bid * sizes[1] + ask * sizes[0]) / (sizes[0] + sizes[1])
    np.testing.assert_allclose(quotes["microprice"], weighted, atol=1e-9)
    np.testing.assert_allclose(quotes["imbalance"], (sizes[0] - sizes[1]) / sum(sizes))
    np.testing.assert_allclose(quotes["depth_imbalance_1"], quotes["imbalance"])
    signed = quotes["buy_volume"] - quotes["sell_volume"]
    np.testing.assert_array_equal(quotes["signed_volume"], signed)
    traded = quotes["buy_volume"] + quotes["sell_volume"] + quotes["unsided_volume"]
    # nearly all: a trade of the last microsecond of a bar is known in the next one
    assert np.nansum(np.abs(traded - bars.volume)[inside]) < 0.01 * bars.volume[inside].sum()
    assert bars.synthetic
    assert bars.provenance["quotes"]["synthetic"]


def test_nobody_can_write_to_a_column(bars: Bars) -> None:
    with pytest.raises(ValueError, match="read-only"):
        bars.quotes["bid"][0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        bars.quotes.bid_ticks[0] = 1


# --------------------------------------------------------------------------------------------- scan


def scanned(records: dbn.Records, sizes: list[int], schema_name: str = "mbp-1") -> pd.DataFrame:
    """The seconds of these records, read in pieces of these sizes and one of the rest."""
    scan = quote_store.Scan(
        contract_master.from_symbols([("MCLG4", 7, FIRST)], "MCL"), MCL, schema_name
    )
    parts = [scan.take(part, Path("x")) for part in np.split(records, np.cumsum(sizes))]
    seconds = np.concatenate([*parts, scan.rest()])
    return pd.DataFrame({name: seconds[name] for name in seconds.dtype.names or ()})


def events(
    times: Any, bid: Any = 70_000, ask: Any = 70_010, sizes: Any = 5, schema_name: str = "mbp-1"
) -> dbn.Records:
    """Records at these seconds of 2024-01-10, prices in mills."""
    records = dbn.blank(schema_name, len(times))
    opened = int(np.datetime64("2024-01-10T15:00", "ns").astype(np.int64))
    records["instrument_id"] = 7
    records["ts_recv"] = opened + np.rint(np.asarray(times) * 1e9).astype(np.int64)
    records["bid_px_00"], records["ask_px_00"] = np.asarray(bid) * 10**6, np.asarray(ask) * 10**6
    records["bid_sz_00"] = records["ask_sz_00"] = sizes
    if "action" in (records.dtype.names or ()):
        records["action"], records["side"] = b"A", b"B"
    return records


@settings(max_examples=25)
@given(st.lists(st.integers(0, 90), max_size=5), st.integers(0, 2**32 - 1))
def test_pieces_of_any_size_give_the_same_seconds(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    bid = rng.integers(7_000, 7_020, 300) * 10
    records = events(
        np.sort(rng.uniform(0, 60, 300)),
        bid,
        bid + rng.integers(-1, 3, 300) * 10,
        rng.integers(0, 4, 300),
    )
    records["action"] = np.where(rng.random(300) < 0.3, b"T", b"A")
    records["side"] = rng.choice([b"A", b"B", b"N"], 300)
    records["size"] = rng.integers(1, 9, 300)
    whole, pieces = scanned(records, []), scanned(records, sizes)
    pd.testing.assert_frame_equal(whole, pieces)
    trades = records[records["action"] == b"T"]
    total = int(whole[["buy_volume", "sell_volume", "unsided_volume"]].to_numpy().sum())
    assert total == int(trades["size"].sum())


def test_a_second_ends_with_what_was_known_at_its_end() -> None:
    records = events([0.5, 1.0, 1.000000001, 3.2], [70_000, 70_010, 70_020, 70_030], 70_040)
    seconds = scanned(records, [])
    opened = records["ts_recv"][0].astype(np.int64) - NS // 2
    assert ((seconds["ts"] - opened) // NS).tolist() == [1, 2, 4]
    assert seconds["bid"].tolist() == [7_001, 7_002, 7_003]


def test_a_crossed_or_one_sided_book_keeps_the_last_sound_state() -> None:
    records = events(
        [0, 1, 2, 3, 4],
        [70_000, 70_010, UNDEFINED // 10**6, 70_000, 70_020],
        [70_010, 70_010, 70_010, 70_030, 70_030],
        [5, 5, 5, 0, 6],
    )
    records["bid_px_00"][2] = UNDEFINED
    seconds = scanned(records, [])
    assert seconds["bid"].tolist() == [7_000, 7_000, 7_000, 7_000, 7_002]
    assert seconds["bid_size_00"].tolist() == [5, 5, 5, 5, 6]


def test_nothing_is_carried_into_another_session() -> None:
    """Of the first events after the break: a book without a bid says nothing of the evening."""
    records = events([0, 9 * 3600, 9 * 3600 + 1], [70_000, UNDEFINED // 10**6, 70_050], 70_060)
    records["bid_px_00"][1] = UNDEFINED
    seconds = scanned(records, [1])
    assert seconds["session"].tolist() == [to_day(DAYS[0]), to_day(DAYS[1]), to_day(DAYS[1])]
    assert seconds["bid"].tolist() == [7_000, ABSENT, 7_005]


def test_a_sampled_book_has_no_aggressors(home: Path) -> None:
    seconds = scanned(events([1, 2, 3], schema_name="bbo-1s"), [], "bbo-1s")
    assert (seconds[["buy_volume", "sell_volume", "unsided_volume"]] == ABSENT).all(axis=None)
    assert quote_store._since(seconds["buy_volume"].to_numpy(), np.array([0, 2])).tolist() == [
        ABSENT,
        ABSENT,
    ]


def test_damage_is_refused_with_its_place() -> None:
    with pytest.raises(DataError, match="the quotes of MCLG4 run backwards at 2024-01-10 15:00:01"):
        scanned(events([2, 1]), [])
    unknown = events([1])
    unknown["instrument_id"] = 8
    with pytest.raises(DataError, match="instrument_id 8 has no definition at 2024-01-10 15:00:01"):
        scanned(unknown, [])
    with pytest.raises(
        DataError, match=r"the bid 70.003 at 2024-01-10 15:00:01 UTC is off the tick"
    ):
        scanned(events([1], 70_003), [])


def test_meanings_of_ids_change_within_a_piece() -> None:
    """As the slow look-up has them, whatever stretch a piece begins in."""
    day = int(np.datetime64("2024-01-10", "ns").astype(np.int64))
    contracts = contract_master.from_symbols(
        [("MCLG4", 7, FIRST), ("MCLH4", 9, FIRST)], "MCL"
    ).contracts
    master = contract_master.Master(
        contracts,
        np.zeros(2, np.int64),
        np.array([7, 7, 9]),
        np.array([day - 10**15, day + 15 * 3600 * NS + 5 * NS, day]),
        np.array([0, 1, 1]),
    )
    records = events(np.arange(10))
    records["instrument_id"][::3] = 9
    for part in (records, records[:3], records[6:]):
        own = quote_store._Identities(master).contracts(part)
        ids, ts = part["instrument_id"].astype(np.int64), part["ts_recv"].astype(np.int64)
        assert own.tolist() == master.lookup(ids, ts).tolist()


def test_real_samples_are_read(shared_data: Path, tmp_path: Path) -> None:
    for name in ("mbp-1", "mbp-10", "tbbo", "bbo-1s"):
        path = shared_data / "databento_python_apache2" / f"GLBX.MDP3__test_data.{name}.dbn.zst"
        store = quote_store.build(path, "ES", 1, tmp_path)
        records = dbn.read(path)[1]
        day = int(session_of(records["ts_recv"].astype(np.int64))[-1])
        symbol = next(iter(store.manifest["files"])).split("/")[1]
        seconds = store.seconds(symbol, day, 1)
        last = records[sound(records)][-1]
        assert seconds["bid"][-1] * 0.25 == pytest.approx(last["bid_px_00"] / 1e9)
        assert seconds["ask_size_00"][-1] == last["ask_sz_00"]
        assert not store.synthetic


# ------------------------------------------------------------------------------------ point in time


@pytest.mark.parametrize("interval", ["1m", "30m"])
def test_quotes_are_cut_like_everything_else(
    home: Path, root: Path, tmp_path: Path, interval: str
) -> None:
    """The bars that are cut at a row are those of raw files that end there, and so is a signal."""
    data = databento_data(home, quotes=1, interval=interval)
    series, strategy = load(data, root), build({"name": "order_flow", "bars": 5, "threshold": 0.0})
    signal = strategy.signal(series.point_in_time)
    rows = np.flatnonzero(series.session == to_day(DAYS[1]))
    for count in (int(rows[0]) + 1, int(rows[len(rows) // 2])):
        folder = tmp_path / str(count)
        truncated(home, folder / "raw", int(series.close_time[count - 1]))
        short = load(data.model_copy(update={"path": str(folder / "raw")}), folder)
        assert_same(series.rows(0, count), short.point_in_time, "bars")
        np.testing.assert_array_equal(signal[:count], strategy.signal(short.point_in_time))
    assert {-1.0, 1.0} <= set(signal[np.isfinite(signal)].tolist())


def test_quotes_end_at_the_fence_and_are_part_of_the_fingerprint(
    home: Path, root: Path, bars: Bars
) -> None:
    data = databento_data(home, quotes=1, holdout_start=str(DAYS[1]))
    fenced, everything = load(data, root), load(data, root, holdout=True)
    assert fenced.session[-1] == to_day(DAYS[0])
    assert fenced.quotes.rows == len(fenced) < len(everything)
    assert_same(fenced.point_in_time, everything.rows(0, len(fenced)), "bars")
    plain = load(databento_data(home), root)
    assert len({plain.fingerprint, bars.fingerprint, fenced.fingerprint}) == 3
    assert bars.fingerprint == continuous.fingerprint(bars)
    moved = replace(bars, quote_columns=bars.quotes.moved(len(bars) // 2, 1))
    assert continuous.fingerprint(moved) != bars.fingerprint
    assert plain.provenance.keys() == bars.provenance.keys() - {"quotes"}


def test_workers_see_the_same_quotes(bars: Bars, tmp_path: Path) -> None:
    again = attach(share(bars, tmp_path / "shared"))
    assert_same(again.quotes, bars.quotes, "quotes")
    assert again.quotes.rows == len(again)


# -------------------------------------------------------------------------------------------- store


def test_a_store_is_found_again_and_never_written_twice(home: Path, root: Path, bars: Bars) -> None:
    store = quote_store.build(home, "MCL", 1, root)
    assert store.folder.name == bars.provenance["quotes"]["store"]
    written = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.parquet")}
    assert set(store.manifest["files"]) == {str(path.relative_to(store.folder)) for path in written}
    load(databento_data(home, quotes=1), root)
    assert {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.parquet")} == written
    assert len(list((root / "data").glob("quotes-mcl-mbp-1-*"))) == 1
    marked = record_files.mark(next(iter(written)))
    assert marked["synthetic"], "the mark of generated data is in each file"


def test_a_generated_world_makes_its_quotes(tmp_path: Path) -> None:
    data = SyntheticData(source="synthetic", seed=3, start=DAYS[0], end=date(2024, 1, 12), quotes=2)
    first = load(data, tmp_path)
    assert set(first.session.tolist()) == {to_day(day) for day in DAYS}
    assert np.isfinite(first.quotes["bid_depth_2"]).all()
    assert load(data, tmp_path).fingerprint == first.fingerprint


def test_a_changed_download_is_refused(home: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    path = raw / f"{DAYS[0]}.dbn.zst"
    path.write_bytes((home / "mbp-1" / path.name).read_bytes())
    path.with_name(f"{path.name}.json").write_text('{"sha256": "0"}')
    with pytest.raises(DataError, match="has changed since its download"):
        quote_store.build(raw, "MCL", 1, tmp_path)


def test_a_damaged_store_says_what_to_delete(home: Path, tmp_path: Path) -> None:
    data = databento_data(home, quotes=1)
    store = tmp_path / "data" / load(data, tmp_path).provenance["quotes"]["store"]
    next(store.rglob("MCLG4/*.parquet")).write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read") as caught:
        load(data, tmp_path)
    assert str(store) in str(caught.value.hint)


def test_records_that_run_backwards_leave_no_store(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "raw" / f"{DAYS[0]}.dbn.zst"
    path.parent.mkdir()
    path.write_bytes((home / "mbp-1" / path.name).read_bytes())
    rewrite(path, lambda records: records[::-1])
    with pytest.raises(DataError, match="run backwards"):
        quote_store.build(path, "MCL", 1, tmp_path)
    assert not list((tmp_path / "data").glob("quotes-*"))


# ---------------------------------------------------------------------------------------- sentences


def test_bars_without_quotes_say_how_to_get_them(small_bars: Bars) -> None:
    assert small_bars.quote_columns is None
    with pytest.raises(DataError, match="hold no quotes") as caught:
        build({"name": "order_flow"}).signal(small_bars)
    assert "data.quotes=1" in str(caught.value.hint)


def test_a_wrong_column_names_the_nearest_and_a_deep_one_the_key(bars: Bars) -> None:
    with pytest.raises(KeyError, match="did you mean 'spread'"):
        bars.quotes["spred"]
    with pytest.raises(DataError, match=r"data\.quotes=1 holds so many levels") as caught:
        bars.quotes["bid_depth_5"]
    assert caught.value.hint == "set data.quotes=5"


def test_data_without_quotes_are_a_sentence(home: Path, small_world: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.quotes=1, but .* holds no quotes of so many levels"):
        load(databento_data(small_world, quotes=1), tmp_path)
    with pytest.raises(DataError, match=r"data.quotes=3, .* need files of schema mbp-10"):
        quote_store.build(home / "mbp-1", "MCL", 3, tmp_path)
    with pytest.raises(ConfigError, match=r"data\.source=eia has no quotes"):
        stored_quotes(EiaData(source="eia", quotes=1), tmp_path)


def test_a_live_session_refuses_quotes_at_its_start() -> None:
    words = ["data=synthetic", "strategy=order_flow", "data.quotes=1"]
    config = composition.compose("backtest", words).config
    for simulated in (True, False):
        with pytest.raises(LiveError, match="a broker's feed brings bars without quotes"):
            session_setup._tradeable(config, simulated)


def test_a_scenario_moves_the_quotes_with_the_prices() -> None:
    quotes = BarQuotes(
        0.01,
        np.array([ABSENT, 7_000, 7_001], np.int32),
        np.array([ABSENT, 7_002, 7_003], np.int32),
        np.ones((1, 3), np.int32),
        np.ones((1, 3), np.int32),
        np.zeros((3, 3), np.int32),
    )
    moved = quotes.moved(0, -100)
    assert moved.bid_ticks.tolist() == [ABSENT, 6_900, 6_901]
    np.testing.assert_allclose(moved["spread"], [np.nan, 0.02, 0.02])
    assert quotes.take(np.array([0, 2])).ask_ticks.tolist() == [ABSENT, 7_003]
