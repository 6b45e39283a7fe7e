"""Folders as people have them: several schemas side by side, definitions and statistics beside,
above or nowhere, frames of any shape, gaps, and the mark of generated data.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import databento as vendor
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mcl import composition
from mcl.base.errors import DataError
from mcl.data import dbn, depth
from mcl.data.bars import Bars
from mcl.data.data_note import data_note
from mcl.data.loader import dataset_facts, load
from mcl.data.sources.parquet import ParquetData
from mcl.data.synthetic import generator, order_books
from mcl.market import contract_master

from .conftest import databento_data
from .test_doors import changed


@pytest.fixture
def side_by_side(small_world: Path, tmp_path: Path) -> Path:
    """Minutes, seconds and hours of the first month, with definitions and statistics above."""
    home = tmp_path / "data" / "raw" / "MCL_FUT"
    for name in ("definition", "statistics"):
        shutil.copytree(small_world / name, home / name)
    header, minutes = dbn.read(small_world / "ohlcv-1m" / "2024-01.dbn.zst")
    for kind, name in (("minutes", "ohlcv-1m"), ("seconds", "ohlcv-1s")):
        records, about = changed(header, minutes.copy(), kind)
        dbn.write(home / name / "2024-01.dbn.zst", records, about)
    return home


def to_frame(path: Path) -> pd.DataFrame:
    return vendor.DBNStore.from_bytes(path.read_bytes()).to_df()


def equal(one: Bars, other: Bars) -> bool:
    names = ("open", "high", "low", "close", "volume", "close_time", "contract")
    return all(getattr(one, n).tobytes() == getattr(other, n).tobytes() for n in names)


# ------------------------------------------------------------------------------------- side by side


def test_one_key_chooses_among_bars_side_by_side(side_by_side: Path, tmp_path: Path) -> None:
    data = databento_data(side_by_side)
    facts = dataset_facts(data, tmp_path)
    assert (facts["stored_interval"], facts["intervals_beside"]) == ("1m", ["1s"])
    seconds = data.model_copy(update={"stored_interval": "1s"})
    facts = dataset_facts(seconds, tmp_path)
    assert (facts["stored_interval"], facts["intervals_beside"]) == ("1s", ["1m"])
    assert equal(load(data, tmp_path), load(seconds, tmp_path))
    with pytest.raises(DataError, match=r"data\.stored_interval=1h, but .* holds") as refused:
        load(data.model_copy(update={"stored_interval": "1h"}), tmp_path)
    assert refused.value.hint == "set data.stored_interval=1m or 1s"


def test_the_key_is_of_the_command_line() -> None:
    words = ["data=mcl_databento", "data.stored_interval=1s"]
    assert composition.compose("backtest", words).config.data.stored_interval == "1s"  # type: ignore[attr-defined]


def test_a_finer_bracket_finds_the_finer_files(side_by_side: Path, tmp_path: Path) -> None:
    bars = load(databento_data(side_by_side), tmp_path)
    assert bars.finer is not None
    fine = bars.finer()
    assert (fine.interval, bars.interval) == ("1s", "1m")
    assert len(bars.inside.high) == len(fine)
    shutil.rmtree(side_by_side / "ohlcv-1s")
    alone = load(databento_data(side_by_side), tmp_path)
    assert alone.finer is not None
    with pytest.raises(DataError, match="the data hold none"):
        alone.finer()


def test_definitions_and_statistics_above_the_folder_are_used(
    side_by_side: Path, tmp_path: Path
) -> None:
    whole = dataset_facts(databento_data(side_by_side), tmp_path)["facts"]
    inside = dataset_facts(databento_data(side_by_side / "ohlcv-1m"), tmp_path)["facts"]
    assert (whole["definitions"], whole["cleared_volume"]) == (True, "published")
    assert (inside["definitions"], inside["cleared_volume"]) == (True, "published")
    for name in ("definition", "statistics"):
        shutil.rmtree(side_by_side / name)
    bare = dataset_facts(databento_data(side_by_side / "ohlcv-1m"), tmp_path)["facts"]
    assert (bare["definitions"], bare["cleared_volume"]) == (False, "sum of the bars")


# ------------------------------------------------------------------------------------------ Parquet


def test_definitions_and_statistics_may_be_frames_too(small_world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    for path in sorted(small_world.glob("*/2024-*.dbn.zst")):
        target = folder / path.parent.name / f"{path.name[:7]}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        to_frame(path).to_parquet(target)
    bars = load(ParquetData(source="parquet", path=str(folder)), tmp_path)
    direct = load(databento_data(small_world), tmp_path)
    assert bars.provenance["facts"]["definitions"]
    assert bars.provenance["facts"]["cleared_volume"] == "published"
    assert bars.fingerprint == direct.fingerprint
    assert len(bars.roll_table) == len(direct.roll_table) == 2


def test_definitions_of_the_vendor_lie_beside_frames_of_bars(
    side_by_side: Path, tmp_path: Path
) -> None:
    for name in ("ohlcv-1s", "ohlcv-1m"):
        (path,) = (side_by_side / name).glob("*.dbn.zst")
        to_frame(path).to_parquet(path.with_name("2024.parquet"))
    direct = load(databento_data(side_by_side), tmp_path)
    for path in side_by_side.glob("ohlcv-*/*.dbn.zst"):
        path.unlink()
    for data in (
        databento_data(side_by_side),
        ParquetData(source="parquet", path=str(side_by_side)),
    ):
        bars = load(data, tmp_path)
        assert bars.provenance["facts"]["definitions"]
        assert bars.provenance["facts"]["format"] == "Parquet"
        assert bars.fingerprint == direct.fingerprint


def test_order_books_may_be_frames_too(small_world: Path, tmp_path: Path) -> None:
    records, header = order_books.session(small_world, date(2024, 1, 17), "mbp-1")
    mappings = dbn.read(small_world / "ohlcv-1m" / "2024-01.dbn.zst")[0].mappings
    header = replace(header, mappings=mappings)
    (tmp_path / "dbn").mkdir()
    dbn.write(tmp_path / "dbn" / "mbp-1.dbn.zst", records, header)
    (tmp_path / "frames").mkdir()
    to_frame(tmp_path / "dbn" / "mbp-1.dbn.zst").to_parquet(tmp_path / "frames" / "mbp-1.parquet")
    direct, frames = (depth.build(tmp_path / name, "MCL", tmp_path) for name in ("dbn", "frames"))
    assert direct.book_keys == frames.book_keys
    for key in direct.book_keys:
        one, other = direct.book(*key), frames.book(*key)
        for name in ("ts", "bid", "ask", "bid_size", "ask_size", "traded", "price"):
            same = getattr(one, name).tobytes() == getattr(other, name).tobytes()
            assert same, name
    assert frames.synthetic


def test_spreads_are_counted_out_and_the_provenance_is_said(
    small_world: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bars.parquet"
    to_frame(small_world / "ohlcv-1m" / "2024-01.dbn.zst").to_parquet(path)
    facts = dataset_facts(ParquetData(source="parquet", path=str(path)), tmp_path)
    assert facts["counts"]["excluded_not_outright"] > 100
    assert facts["facts"]["provenance"] == "no vendor file, hashes of these"
    assert facts["inputs"] == 1


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda f: f.drop(columns="close"), "has no column 'close'"),
    (lambda f: f.assign(rtype=[33] + [32] * (len(f) - 1)), "mixes schemas"),
    (lambda f: f.assign(symbol="MCL.c.0"), "MCL.c.0 is a continuous symbol"),
    (lambda f: f.drop(columns="symbol"), "neither symbols nor definitions say"),
    (lambda f: f.assign(symbol="GCG4"), "holds no outright MCL contract; its symbols are GCG4"),
    (lambda f: f.assign(close=f["close"].astype(str)), "close is of type .*, not a number"),
    (lambda f: f.assign(close=float("inf")), "close of row 1 is not finite"),
    (lambda f: f.assign(volume=0.5), "volume of row 1 is 0.5, not whole"),
    (lambda f: f.assign(open=f["open"] - 0.005), "off the tick"),
    (lambda f: f.assign(open=f["open"] / 100), "open is 0.69.*, and the price next to it"),
    (lambda f: f[::-1], "times run backwards"),
    (lambda f: f.tz_localize(None), "the times carry no time zone"),
    (lambda f: f[:0], "holds no bars at all"),
])  # fmt: skip
def test_a_frame_that_cannot_be_is_one_sentence(
    change: object, sentence: str, small_world: Path, tmp_path: Path
) -> None:
    rows = to_frame(small_world / "ohlcv-1m" / "2024-01.dbn.zst")[:500]
    path = tmp_path / "ohlcv-1m.parquet"
    change(rows).to_parquet(path)  # type: ignore[operator]
    with pytest.raises(DataError, match=sentence) as refused:
        load(ParquetData(source="parquet", path=str(path)), tmp_path)
    assert str(path.name) in refused.value.message


def test_files_that_overlap_and_names_that_say_nothing_have_a_cure(
    small_world: Path, tmp_path: Path
) -> None:
    rows = to_frame(small_world / "ohlcv-1m" / "2024-01.dbn.zst")[:500]
    both = tmp_path / "both"
    both.mkdir()
    rows[:300].to_parquet(both / "a.ohlcv-1m.parquet")
    rows[200:].to_parquet(both / "b.ohlcv-1m.parquet")
    with pytest.raises(DataError, match="times run backwards") as refused:
        load(ParquetData(source="parquet", path=str(both)), tmp_path)
    assert "set data.path to one of them" in str(refused.value.hint)
    plain = tmp_path / "plain"
    plain.mkdir()
    rows.drop(columns="rtype").to_parquet(plain / "bars.parquet")
    with pytest.raises(DataError, match=r"holds bars\.parquet, which neither a column rtype") as no:
        load(ParquetData(source="parquet", path=str(plain)), tmp_path)
    assert "call it for instance 2024.ohlcv-1m.parquet" in str(no.value.hint)
    (plain / "bars.parquet").rename(plain / "bars.pq")
    with pytest.raises(DataError, match="but no bars") as ending:
        load(ParquetData(source="parquet", path=str(plain)), tmp_path)
    assert "end with .parquet" in str(ending.value.hint)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ohlcv-1m.parquet"
    path.write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(DataError, match=r"ohlcv-1m\.parquet cannot be read as Parquet"):
        load(ParquetData(source="parquet", path=str(path)), tmp_path)


def test_an_undefined_price_is_undefined_in_a_frame_too(small_world: Path, tmp_path: Path) -> None:
    rows = to_frame(small_world / "ohlcv-1m" / "2024-01.dbn.zst")
    outright = int(np.flatnonzero(rows["symbol"].str.len() == len("MCLH4"))[0])
    rows.iloc[outright, list(rows.columns).index("high")] = np.nan
    rows.to_parquet(tmp_path / "ohlcv-1m.parquet")
    with pytest.raises(DataError, match="a price is missing or not finite"):
        load(ParquetData(source="parquet", path=str(tmp_path / "ohlcv-1m.parquet")), tmp_path)


# --------------------------------------------------------------------------------------------- gaps


def test_sessions_without_the_active_contract_are_said(small_world: Path, tmp_path: Path) -> None:
    rows = to_frame(small_world / "ohlcv-1m" / "2024-01.dbn.zst")
    days = rows.index.strftime("%Y-%m-%d")  # type: ignore[attr-defined]
    path = tmp_path / "ohlcv-1m.parquet"
    rows[~days.isin(["2024-01-16", "2024-01-17", "2024-01-18"])].to_parquet(path)
    data = ParquetData(source="parquet", path=str(path))
    missing = dataset_facts(data, tmp_path)["sessions_without_bars"]
    assert missing == ["2024-01-17", "2024-01-18"]
    bars = load(data, tmp_path)
    assert "2 sessions have no bar of the active contract: 2024-01-17, 2024-01-18" in data_note(
        bars
    )
    whole = load(databento_data(small_world), tmp_path)
    assert "no bar" not in data_note(whole)


# ---------------------------------------------------------------------------------------- synthetic


def test_the_generator_gives_the_ids_that_are_recognised() -> None:
    assert contract_master.GENERATED_ID == generator.OUTRIGHT_ID


def test_a_copy_of_generated_files_keeps_its_mark(small_world: Path, tmp_path: Path) -> None:
    alone = tmp_path / "anything.dbn.zst"
    shutil.copy(small_world / "ohlcv-1m" / "2024-01.dbn.zst", alone)
    assert load(databento_data(alone), tmp_path).synthetic
    frame = tmp_path / "anything.parquet"
    to_frame(alone).to_parquet(frame)
    table = pq.read_table(frame)
    pq.write_table(table.replace_schema_metadata(None), frame)
    bars = load(ParquetData(source="parquet", path=str(frame)), tmp_path)
    assert bars.synthetic
    assert data_note(bars).startswith("SYNTHETIC DATA")


@pytest.mark.parametrize(("offset", "synthetic"), [(0, True), (1, False)])
def test_a_csv_of_generated_bars_keeps_its_mark_by_its_ids(
    offset: int, synthetic: bool, small_world: Path, tmp_path: Path
) -> None:
    rows = to_frame(small_world / "ohlcv-1m" / "2024-01.dbn.zst").reset_index()
    rows["instrument_id"] = rows["instrument_id"].to_numpy() + np.uint32(
        offset
    )  # any other id is a vendor's
    path = tmp_path / "bars.csv"
    rows.to_csv(path, index=False)
    words = ["data=databento_csv", f"data.path={path}", "data.timezone=UTC"]
    bars = load(composition.compose("backtest", words).config.data, tmp_path)
    assert bars.synthetic is synthetic
    assert data_note(bars).startswith("SYNTHETIC DATA") is synthetic


def test_ids_of_a_vendor_are_no_mark(small_world: Path, tmp_path: Path) -> None:
    rows = to_frame(small_world / "ohlcv-1m" / "2024-01.dbn.zst")
    path = tmp_path / "ohlcv-1m.parquet"
    rows.assign(instrument_id=rows["instrument_id"] + np.uint32(1)).to_parquet(path)
    assert not load(ParquetData(source="parquet", path=str(path)), tmp_path).synthetic
