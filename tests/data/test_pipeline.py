"""DBN -> Parquet -> contract master -> roll table -> Bars, compared with what the unmodified client
reads from the same files.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import databento
import numpy as np
import pandas as pd
import pytest
from comparisons import digest

from mcl.base.errors import DataError
from mcl.base.files import sha256
from mcl.base.instants import NS
from mcl.config import schema
from mcl.data import continuous, loader
from mcl.data.bars import COLUMNS, ROLL_COLUMNS, Bars
from mcl.data.loader import load
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator
from mcl.market.calendar import sessions

from .conftest import FIRST, LAST, databento_data, rewrite

MINUTE = 60 * NS


@pytest.fixture(scope="module")
def raw(small_world: Path) -> pd.DataFrame:
    """Every outright bar as the vendor's client reads it, by open time and symbol."""
    files = sorted((small_world / "ohlcv-1m").glob("*.zst"))
    frame = pd.concat([databento.DBNStore.from_bytes(f.read_bytes()).to_df() for f in files])
    frame = frame[frame["symbol"].str.fullmatch(r"MCL[A-Z]\d")]
    return frame.assign(ts=frame.index.astype("int64")).set_index(["ts", "symbol"]).sort_index()


def symbols(bars: Bars) -> np.ndarray:
    return np.array([c.symbol for c in bars.contracts])[bars.contract]


def test_every_bar_is_a_stored_bar_of_the_active_contract(
    small_bars: Bars, raw: pd.DataFrame
) -> None:
    wanted = raw.loc[
        pd.MultiIndex.from_arrays([small_bars.close_time - MINUTE, symbols(small_bars)])
    ]
    for name in ("open", "high", "low", "close", "volume"):
        assert np.array_equal(
            wanted[name].to_numpy(float), getattr(small_bars, name).astype(float)
        ), name
    assert (np.diff(small_bars.close_time) > 0).all()


def test_no_bar_of_the_active_contract_is_missing(small_bars: Bars, raw: pd.DataFrame) -> None:
    flat = raw.reset_index()
    for contract in np.unique(small_bars.contract):
        mine = small_bars.contract == contract
        low, high = small_bars.session[mine][[0, -1]]
        table = sessions(date.fromordinal(719163 + int(low)), date.fromordinal(719164 + int(high)))
        one = flat[flat["symbol"] == small_bars.contracts[contract].symbol]["ts"]
        assert ((one >= table.open_ns[0]) & (one < table.close_ns[-1])).sum() == mine.sum()


def test_a_roll_is_priced_from_both_contracts_at_one_moment(
    small_bars: Bars, raw: pd.DataFrame
) -> None:
    rolls: Any = small_bars.roll_table  # its rows have what its columns have
    price = raw["close"].to_dict()
    assert tuple(rolls.columns) == ROLL_COLUMNS
    assert list(rolls["from_symbol"]) == ["MCLG4", "MCLH4"]
    for row, at in zip(rolls.itertuples(), np.flatnonzero(small_bars.roll), strict=True):
        ts = row.gap_time.value - MINUTE
        assert row.gap == pytest.approx(
            price[ts, row.to_symbol] - price[ts, row.from_symbol], abs=1e-9
        )
        opens = small_bars.close_time[at] - MINUTE
        assert row.gap_time.value <= opens
        assert row.known_at.value <= opens
        assert (small_bars.session[at - 1], small_bars.session[at]) == (
            small_bars.session[at] - 1,
            row.session.value // (86_400 * NS),
        )
        if (opens, row.from_symbol) in raw.index:
            assert small_bars.outgoing_open[at] == raw["open"][opens, row.from_symbol]
        else:
            assert small_bars.outgoing_open[at] == pytest.approx(
                small_bars.open[at] - row.gap, abs=1e-9
            )
    assert np.isnan(small_bars.outgoing_open[~small_bars.roll]).all()


def test_the_adjustment_is_forward_and_stays_on_the_tick(small_bars: Bars) -> None:
    assert (small_bars.adjustment[small_bars.contract == small_bars.contract[0]] == 0).all()
    changes = np.flatnonzero(np.diff(small_bars.adjustment)) + 1
    assert np.array_equal(changes, np.flatnonzero(small_bars.roll))
    steps = np.diff(small_bars.adjustment)[changes - 1]
    assert steps == pytest.approx(-small_bars.roll_table["gap"].to_numpy(), abs=1e-9)
    assert (
        np.abs(
            small_bars.adjusted["close"] / 0.01 - np.rint(small_bars.adjusted["close"] / 0.01)
        ).max()
        < 1e-6
    )


def test_unadjusted_prices_are_a_choice(
    small_world: Path, tmp_path: Path, small_bars: Bars
) -> None:
    bars = load(databento_data(small_world, roll=schema.Roll(adjust="none")), tmp_path)
    assert not bars.adjustment.any()
    assert np.array_equal(bars.close, small_bars.close)
    assert bars.fingerprint != small_bars.fingerprint


def test_time_to_the_close_and_early_closes(small_bars: Bars) -> None:
    table = sessions(FIRST, date(2024, 2, 24))
    close = table.close_ns[np.searchsorted(table.day, small_bars.session)]
    assert np.array_equal(small_bars.to_close_sec, (close - small_bars.close_time) // NS)
    holiday = small_bars.between("2024-01-15", "2024-01-16")  # Martin Luther King: closes at 14:30
    assert holiday.times[-1] <= pd.Timestamp("2024-01-15 14:30", tz="America/New_York")


# ----------------------------------------------------------------------------------------- resample


@pytest.mark.parametrize("interval", ["5m", "30m", "1h", "session"])
def test_coarser_bars_equal_a_plain_group_by(
    small_world: Path, tmp_path: Path, small_bars: Bars, interval: str
) -> None:
    bars = load(databento_data(small_world, interval=interval), tmp_path)
    frame = small_bars.frame()
    opens = sessions(FIRST, date(2024, 2, 24))
    since = (
        small_bars.close_time
        - MINUTE
        - opens.open_ns[np.searchsorted(opens.day, small_bars.session)]
    )
    width = 10**18 if interval == "session" else pd.Timedelta(interval.replace("m", "min")).value
    grouped = frame.groupby([small_bars.session, since // width])
    expected = grouped.agg(
        {
            "open": "first",
            "high": "max",
            "low": "min",
            "close": "last",
            "volume": "sum",
            "adj_close": "last",
        }
    )
    for name in ("open", "high", "low", "close", "volume"):
        assert np.array_equal(expected[name].to_numpy(), getattr(bars, name)), name
    assert np.array_equal(expected["adj_close"].to_numpy(), bars.adjusted["close"])
    assert np.array_equal(np.flatnonzero(np.diff(bars.contract)) + 1, np.flatnonzero(bars.roll))
    assert (bars.close_time >= grouped["close"].apply(lambda g: g.index[-1].value).to_numpy()).all()


def test_edges_count_from_the_open_and_end_at_the_close(small_world: Path, tmp_path: Path) -> None:
    hours = load(databento_data(small_world, interval="1h"), tmp_path)
    local = hours.times.tz_convert("America/New_York")
    # half sessions until 14:30
    early = (local.date == date(2024, 1, 15)) | (local.date == date(2024, 2, 19))
    assert set(local[~early].minute) == {0}
    assert {str(t.time()) for t in local[early & (hours.to_close_sec == 0)]} == {"14:30:00"}
    days = load(databento_data(small_world, interval="session"), tmp_path)
    assert (days.to_close_sec == 0).all()
    assert len(days) == len(sessions(FIRST, date(2024, 2, 24)))


def test_finer_than_the_data_is_refused(small_bars: Bars) -> None:
    table = sessions(FIRST, date(2024, 2, 24))
    hours = continuous.resample(small_bars, "1h", table)
    with pytest.raises(
        DataError, match=r"cannot make 5m bars from 1h bars; choose data.interval from 1h, session"
    ):
        continuous.resample(hours, "5m", table)


# -------------------------------------------------------------------------------- cuts and hold-out


def test_the_holdout_is_fenced(small_world: Path, tmp_path: Path, small_bars: Bars) -> None:
    data = databento_data(small_world, holdout_start=date(2024, 2, 12))
    visible, all_of_it = load(data, tmp_path), load(data, tmp_path, holdout=True)
    assert (
        visible.session.max()
        < np.datetime64("2024-02-12", "D").astype(int)
        <= all_of_it.session.max()
    )
    assert np.array_equal(visible.adjusted["close"], all_of_it.adjusted["close"][: len(visible)])
    assert len(visible.roll_table) == 1
    assert all_of_it.fingerprint == small_bars.fingerprint != visible.fingerprint


def test_an_empty_range_is_refused(small_world: Path, tmp_path: Path) -> None:
    data = databento_data(small_world, start=date(2030, 1, 1))
    with pytest.raises(
        DataError,
        match=("no bars from 2030-01-01: the data hold sessions 2024-01-02 to 2024-02-23"),
    ):
        load(data, tmp_path)


def test_the_fingerprint_changes_if_and_only_if_visible_bytes_change(
    world_copy: Path, tmp_path: Path
) -> None:
    data = databento_data(world_copy, holdout_start=date(2024, 2, 12))

    def fingerprint() -> str:
        return load(data, tmp_path).fingerprint

    before = fingerprint()
    active = load(data, tmp_path).contracts[0]
    assert active.symbol == "MCLG4"
    january, february = (world_copy / "ohlcv-1m" / f"2024-{m}.dbn.zst" for m in ("01", "02"))

    def busier(where: str) -> None:
        def change(records: np.ndarray) -> None:
            mine = np.flatnonzero((records["instrument_id"] == 42_202_402) == (where == "visible"))
            records["volume"][mine[-1 if where == "holdout" else 500]] += 1

        rewrite(february if where == "holdout" else january, change)

    busier("holdout")
    assert fingerprint() == before
    busier("deferred")
    assert fingerprint() == before
    busier("visible")
    assert fingerprint() != before


def test_the_fingerprint_is_of_prices_not_of_the_way_here(small_bars: Bars) -> None:
    assert continuous.fingerprint(small_bars) == small_bars.fingerprint
    moved = small_bars.close_ticks.copy()
    moved[7] += 1
    assert continuous.fingerprint(replace(small_bars, close_ticks=moved)) != small_bars.fingerprint


# -------------------------------------------------------------------------------------------- store


def test_a_second_call_reads_what_the_first_one_made(
    small_world: Path, tmp_path: Path, small_bars: Bars
) -> None:
    data = databento_data(small_world)
    first = load(data, tmp_path)
    folders = sorted((tmp_path / "data").iterdir())
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    second = load(data, tmp_path)
    assert sorted((tmp_path / "data").iterdir()) == folders
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == stamps
    for name in COLUMNS:
        assert (
            digest(getattr(first, name))
            == digest(getattr(second, name))
            == digest(getattr(small_bars, name))
        )
        assert not getattr(second, name).flags.writeable
    pd.testing.assert_frame_equal(first.roll_table, second.roll_table)


def test_the_manifest_accounts_for_every_row(small_world: Path, tmp_path: Path) -> None:
    stored = loader.stored_dataset(databento_data(small_world), tmp_path)
    manifest = json.loads((stored.folder / "manifest.json").read_text())
    counts = manifest["counts"]
    assert (
        counts["read"]
        == counts["kept"] + counts["excluded_not_outright"] + counts["excluded_no_session"]
    )
    assert counts["excluded_not_outright"] > 0
    assert sum(len(stored.rows(i)) for i in range(len(stored.contracts))) == counts["kept"]
    assert {name: sha256(stored.folder / name) for name in manifest["files"]} == manifest["files"]
    assert all(sha256(small_world / i["name"]) == i["sha256"] for i in manifest["inputs"])
    frame = pd.read_parquet(stored.folder / "bars" / "MCL-2024-02.parquet")
    assert str(frame["ts_event"].dtype) == "datetime64[ns, UTC]"


def test_a_range_of_a_contract_reads_only_that(small_world: Path, tmp_path: Path) -> None:
    stored = loader.stored_dataset(databento_data(small_world), tmp_path)
    index = [c.symbol for c in stored.contracts].index("MCLH4")
    low, high = (int(np.datetime64(d, "D").astype(int)) for d in ("2024-01-10", "2024-01-12"))
    part, whole = stored.rows(index, low, high), stored.rows(index)
    inside = (whole.session >= low) & (whole.session <= high)
    assert np.array_equal(part.ts_event, whole.ts_event[inside])
    assert set(part.session) == {low, low + 1, high}


@pytest.mark.parametrize("name", ["front", "bars", "manifest.json"])
def test_a_damaged_store_is_refused(small_world: Path, tmp_path: Path, name: str) -> None:
    data = databento_data(small_world)
    load(data, tmp_path)
    folder = loader.stored_dataset(data, tmp_path).folder
    if name == "bars":
        for cached in (folder / "front").iterdir():
            cached.unlink()
    path = (
        folder / name
        if name.endswith("json")
        else sorted((folder / name).iterdir())[1 if name == "bars" else 0]
    )
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    path.write_bytes(
        content[:middle]
        if name != "front"
        else content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    )
    with pytest.raises(DataError, match=r"damaged|cannot be read") as refused:
        load(data, tmp_path)
    assert "delete the f" in refused.value.hint


def test_a_world_stays_marked_wherever_the_path_points(small_world: Path, tmp_path: Path) -> None:
    one_file = sorted((small_world / "ohlcv-1m").iterdir())[0]
    for path in (small_world, small_world / "ohlcv-1m", one_file):
        bars = load(databento_data(path), tmp_path)
        assert bars.synthetic
        assert bars.provenance["facts"]["world"]["parameters"]["seed"] == 11


def test_the_synthetic_source_makes_its_world_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = generator.generate

    def short(spec: SyntheticData, folder: Path) -> Path:
        calls.append(real(spec, folder, first=FIRST, last=LAST))
        return calls[-1]

    monkeypatch.setattr(generator, "generate", short)  # seven weeks instead of two years
    data = SyntheticData(source="synthetic", seed=3, holdout_start=date(2024, 2, 1))
    first, second = load(data, tmp_path), load(data, tmp_path)
    assert calls[0] == calls[1]
    assert first.fingerprint == second.fingerprint
    assert first.synthetic
    assert first.provenance["request"]["seed"] == 3


def test_info_says_what_there_is(small_world: Path, tmp_path: Path, small_bars: Bars) -> None:
    facts = loader.dataset_facts(databento_data(small_world), tmp_path)
    assert (facts["bars"], facts["fingerprint"]) == (len(small_bars), small_bars.fingerprint)
    assert facts["contracts"] == ["MCLG4", "MCLH4", "MCLJ4"]
    assert [r["to_symbol"] for r in facts["rolls"]] == ["MCLH4", "MCLJ4"]
    assert facts["synthetic"] is True
    json.dumps(facts)
