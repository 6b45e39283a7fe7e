"""A folder of CSV files reads as the one file that holds the same rows: a file per contract, per
day or per month, with overlaps that are alike counted out and others refused by name.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from mcl import composition
from mcl.base.errors import DataError
from mcl.data import loader
from mcl.data.bars import Bars
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator
from mcl.market import symbols

from .conftest import databento_data
from .test_csv_presets import Frame, busiest, frame_of, kibot, lines, local, ninjatrader, prices

NEW_YORK = "America/New_York"
STATED = "data=csv data.stamped_at=open data.timezone=America/New_York"


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    """All contracts of two weeks with a roll, as the DBN door stores them."""
    spec = SyntheticData(source="synthetic", seed=3)
    folder = tmp_path_factory.mktemp("world")
    world = generator.generate(spec, folder, first=date(2024, 3, 11), last=date(2024, 3, 22))
    return frame_of(databento_data(world), tmp_path_factory.mktemp("frames"))


def text(rows: Frame, symbol: bool = False) -> str:
    columns = [local(rows, NEW_YORK, "%Y-%m-%d %H:%M"), *prices(rows), rows["volume"]]
    names = ["time", "open", "high", "low", "close", "volume"]
    if symbol:
        columns, names = [*columns, rows["symbol"]], [*names, "symbol"]
    return lines(columns, header=",".join(names))


def read(path: Path, words: str, root: Path) -> Bars:
    overrides = [*shlex.split(words), f"data.path={path}"]
    return loader.load(composition.compose("backtest", overrides).config.data, root)


def facts(path: Path, words: str, root: Path) -> dict[str, int]:
    overrides = [*shlex.split(words), f"data.path={path}"]
    data = composition.compose("backtest", overrides).config.data
    counts: dict[str, int] = loader.dataset_facts(data, root)["counts"]
    return counts


def same(left: Bars, right: Bars) -> bool:
    return left.fingerprint == right.fingerprint


@pytest.fixture(scope="module")
def whole(frame: Frame, tmp_path_factory: pytest.TempPathFactory) -> Bars:
    """One file with a column of symbols."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "bars.csv").write_text(text(frame, symbol=True))
    return read(folder / "bars.csv", f"{STATED} data.columns.symbol=symbol", folder)


def long_name(symbol: str) -> str:
    return f"{symbol[:-1]}2{symbol[-1]}"


NAMES: dict[str, Callable[[str], str]] = {
    "MCLJ24.csv": long_name,
    "MCLJ4.csv": str,
    "MCLJ2024.csv": lambda s: f"{s[:-1]}202{s[-1]}",
    "MCLJ24_1min.csv": lambda s: f"{long_name(s)}_1min",
    "MCL_J24.csv": lambda s: f"MCL_{s[3]}2{s[4]}",
    "MCLJ24-2024-03.csv": lambda s: f"{long_name(s)}-2024-03",
    "MCLJ24.NYM.csv": lambda s: f"{long_name(s)}.NYM",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_per_contract(name: str, frame: Frame, whole: Bars, tmp_path: Path) -> None:
    folder = tmp_path / "contracts"
    folder.mkdir()
    for symbol, rows in frame.groupby("symbol"):
        (folder / f"{NAMES[name](str(symbol))}.csv").write_text(text(rows))
    bars = read(folder, STATED, tmp_path)
    assert len(bars.contracts) == 2
    assert len(bars.roll_table) >= 1
    assert same(bars, whole)


def test_a_file_per_contract_of_a_preset(frame: Frame, whole: Bars, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("kibot", "ninjatrader")}
    for folder in folders.values():
        folder.mkdir()
    months = {code: f"{i + 1:02d}" for i, code in enumerate("FGHJKMNQUVXZ")}
    for symbol, rows in frame.groupby("symbol"):
        (folders["kibot"] / f"{long_name(str(symbol))}.txt").write_text(kibot(rows))
        month = f"MCL {months[str(symbol)[3]]}-2{str(symbol)[4]}"
        (folders["ninjatrader"] / f"{month}.Last.txt").write_text(ninjatrader(rows))
    (folders["kibot"] / "readme.txt").write_text("Thank you for your order.\n")
    for name, folder in folders.items():
        assert same(read(folder, f"data={name}", tmp_path), whole), name


@pytest.mark.parametrize("period", ["%Y-%m-%d", "%Y%m%d", "%Y-%W"])
def test_a_file_per_day_or_week(period: str, frame: Frame, tmp_path: Path) -> None:
    """Of one series, and with a column of symbols."""
    series, symbolled = tmp_path / "series", tmp_path / "symbolled"
    for folder in (series, symbolled):
        folder.mkdir()
    one = busiest(frame)
    for key, rows in one.groupby(local(one, NEW_YORK, period)):
        (series / f"MCL_{key}.csv").write_text(text(rows))
    for key, rows in frame.groupby(local(frame, NEW_YORK, period)):
        (symbolled / f"bars-{key}.csv").write_text(text(rows, symbol=True))
    (tmp_path / "one.csv").write_text(text(one))
    (tmp_path / "all.csv").write_text(text(frame, symbol=True))
    assert len(list(series.iterdir())) >= 2
    assert same(read(series, STATED, tmp_path), read(tmp_path / "one.csv", STATED, tmp_path))
    words = f"{STATED} data.columns.symbol=symbol"
    assert same(read(symbolled, words, tmp_path), read(tmp_path / "all.csv", words, tmp_path))


def test_overlaps_that_are_alike_are_counted_out(frame: Frame, whole: Bars, tmp_path: Path) -> None:
    folder = tmp_path / "contracts"
    folder.mkdir()
    groups = [(symbol, rows) for symbol, rows in frame.groupby("symbol") if len(rows) > 20]
    for symbol, rows in groups:
        half = len(rows) // 2
        (folder / f"{symbol}_1.csv").write_text(text(rows[: half + 10]))
        (folder / f"{symbol}_2.csv").write_text(text(rows[half - 10 :]))
    counts = facts(folder, STATED, tmp_path)
    assert counts["excluded_in_two_files"] == 20 * len(groups)
    assert counts["kept"] == sum(len(rows) for _, rows in groups)
    assert same(read(folder, STATED, tmp_path), whole)
    # a file inside another one, and rows that lie between those of another one
    for symbol, rows in frame.groupby("symbol"):
        (folder / f"{symbol}_1.csv").write_text(text(rows))
        (folder / f"{symbol}_2.csv").write_text(text(rows[::7]))
    assert same(read(folder, STATED, tmp_path), whole)
    for symbol, rows in frame.groupby("symbol"):
        (folder / f"{symbol}_1.csv").write_text(text(rows[::2]))
        if len(rows) > 1:
            (folder / f"{symbol}_2.csv").write_text(text(rows[1::2]))
        else:
            (folder / f"{symbol}_2.csv").unlink()
    assert same(read(folder, STATED, tmp_path), whole)


def test_overlaps_that_differ_are_refused_with_both_names(frame: Frame, tmp_path: Path) -> None:
    folder = tmp_path / "contracts"
    folder.mkdir()
    one = busiest(frame)
    other = one[100:200].assign(high=one["high"] + 0.01)
    (folder / "MCLJ24_a.csv").write_text(text(one))
    (folder / "MCLJ24_b.csv").write_text(text(other))
    with pytest.raises(
        DataError, match=r"high is in MCLJ24_a\.csv .*, in MCLJ24_b\.csv"
    ) as refused:
        read(folder, STATED, tmp_path)
    assert "data.files" in str(refused.value.hint)
    words = f"{STATED} 'data.files=*_a.csv'"
    assert len(read(folder, words, tmp_path)) == len(one)


def test_what_does_not_belong_together_is_refused(frame: Frame, tmp_path: Path) -> None:
    one = busiest(frame)

    def refusal(names: list[str], words: str = STATED) -> DataError:
        folder = tmp_path / "-".join(names)
        folder.mkdir()
        for name in names:
            (folder / name).write_text(text(one))
        with pytest.raises(DataError) as refused:
            read(folder, words, tmp_path)
        return refused.value

    mixed = refusal(["MCLJ24.csv", "MCL.csv"])
    assert "1 of 2 files name no contract, and others do: MCL.csv" in mixed.message
    assert "data.files=" in str(mixed.hint)
    other = refusal(["MCLJ24.csv", "CLJ24.csv"])
    assert "CLJ24.csv is of another product than MCL" in other.message
    assert "data.format.symbols=product" in str(other.hint)
    nothing = refusal(["bars.xls"])
    assert "bars.xls" in nothing.message
    pattern = refusal(["MCLK24.csv"], f"{STATED} data.files=NG*")
    assert "that fits data.files=NG*" in pattern.message


def test_files_of_spreads_and_of_other_products_are_left_out(
    frame: Frame, whole: Bars, tmp_path: Path
) -> None:
    folder = tmp_path / "contracts"
    folder.mkdir()
    for symbol, rows in frame.groupby("symbol"):
        (folder / f"{long_name(str(symbol))}.csv").write_text(text(rows))
    (folder / "MCLJ24-MCLK24.csv").write_text(text(busiest(frame).assign(close=0.25)))
    (folder / "CLJ24.csv").write_text(text(busiest(frame)))
    bars = read(folder, f"{STATED} data.format.symbols=product", tmp_path)
    assert same(bars, whole)
    assert bars.provenance["facts"]["files_left_out"] == 2


def test_a_fault_names_the_file_and_the_line(frame: Frame, tmp_path: Path) -> None:
    folder = tmp_path / "contracts"
    folder.mkdir()
    for symbol, rows in frame.groupby("symbol"):
        (folder / f"{symbol}.csv").write_text(text(rows))
    damaged = folder / "MCLJ4.csv"
    content = damaged.read_text().splitlines()
    cells = content[200].split(",")
    content[200] = ",".join([*cells[:2], "1.00", *cells[3:]])
    damaged.write_text("\n".join(content) + "\n")
    with pytest.raises(DataError, match=r"MCLJ4\.csv: MCLJ4 at .*, line 201: high 1") as refused:
        read(folder, STATED, tmp_path)
    assert "correct line 201 of that file" not in refused.value.message
    backwards = [content[0], *content[2:10], content[1]]
    damaged.write_text("\n".join(backwards) + "\n")
    with pytest.raises(DataError, match=r"MCLJ4\.csv, line 10: times run backwards") as refused:
        read(folder, STATED, tmp_path)
    assert "data.format.sort=true" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("MCLJ24.csv", "MCL 2024-04"),
        ("MCLJ4.txt", "MCL 2024-04"),
        ("MCL 04-24.Last.txt", "MCL 2024-04"),
        ("MCL JUN24.csv", "MCL 2024-06"),
        ("mclj24_1min_2024.csv", "MCL 2024-04"),
        ("MCLJ24-MCLK24.csv", "SPREAD"),
        ("MCL_2024-04.csv", "None"),
        ("MCL 2024-04.csv", "None"),
        ("MCL_04-24.csv", "None"),
        ("MCL_202404.csv", "None"),
        ("MCL.csv", "None"),
        ("MCLJ.csv", "None"),
        ("CLJ24.csv", "None"),
    ],
)
def test_the_contract_in_the_name_of_a_file(name: str, meaning: str) -> None:
    named = symbols.at_beginning(name, "MCL", date(2024, 3, 1))
    shown = named.name if named is not None else "None"
    assert shown == meaning


def test_times_in_a_folder_are_of_every_file(frame: Frame, tmp_path: Path) -> None:
    """A file on another clock than its neighbours is refused."""
    folder = tmp_path / "days"
    folder.mkdir()
    one = busiest(frame)
    for key, rows in one.groupby(local(one, NEW_YORK, "%Y-%m-%d")):
        late = key == "2024-03-13"
        shifted = rows.assign(ts=rows["ts"] + pd.Timedelta(hours=5)) if late else rows
        (folder / f"{key}.csv").write_text(text(shifted))
    with pytest.raises(DataError, match=r"closed|two files differ"):
        read(folder, STATED, tmp_path)
