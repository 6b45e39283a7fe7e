"""Every preset reads the layout of its vendor: what a generated world holds as DBN comes back from
each as the same bytes. Around the change of clocks, on a half day, below zero and by seconds.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shlex
import shutil
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from mcl import composition
from mcl.base.errors import DataError
from mcl.base.instants import NS
from mcl.cli import main
from mcl.config import schema
from mcl.data import loader
from mcl.data.bars import Bars
from mcl.data.data_note import data_note
from mcl.data.loader import load
from mcl.data.sources.csv import CsvData
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator
from mcl.data.table import PRICES

from .conftest import databento_data

NEW_YORK, CHICAGO = "America/New_York", "America/Chicago"
Frame = pd.DataFrame  # ts: opens of bars, UTC; open, high, low, close, volume, symbol


@pytest.fixture(scope="module")
def spring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world around the change of clocks of 2024-03-10."""
    spec = SyntheticData(source="synthetic", seed=3)
    folder = tmp_path_factory.mktemp("spring")
    return generator.generate(spec, folder, first=date(2024, 3, 4), last=date(2024, 3, 15))


@pytest.fixture(scope="module")
def frames(
    small_world: Path, spring: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Frame]:
    """All contracts of the two worlds, as the DBN door stores them."""
    root = tmp_path_factory.mktemp("frames")
    worlds = {"winter": small_world, "spring": spring}
    return {name: frame_of(databento_data(path), root) for name, path in worlds.items()}


def frame_of(data: schema.Data, root: Path) -> Frame:
    stored = loader.stored_dataset(data, root)
    parts = []
    for i, contract in enumerate(stored.contracts):
        rows = stored.rows(i)
        columns: dict[str, Any] = {name: getattr(rows, name) for name in (*PRICES, "volume")}
        ts = pd.DatetimeIndex(rows.ts_event, tz="UTC")
        parts.append(pd.DataFrame({"ts": ts, **columns, "symbol": contract.symbol}))
    frame = pd.concat(parts, ignore_index=True)
    return frame.sort_values(["ts", "symbol"], kind="stable", ignore_index=True)


def busiest(frame: Frame) -> Frame:
    symbol = frame.groupby("symbol")["volume"].sum().idxmax()
    return frame[frame["symbol"] == symbol].reset_index(drop=True)


# --------------------------------------------------------------------------- layouts of the vendors


def local(frame: Frame, zone: str, form: str, shift_min: int = 0) -> pd.Series:
    ts = (frame["ts"] + pd.Timedelta(minutes=shift_min)).dt.tz_convert(zone)
    return cast(pd.Series, ts.dt.strftime(form))


def lines(columns: list[Any], separator: str = ",", header: str = "") -> str:
    texts = [c.map(lambda v: f"{v:.2f}") if c.dtype == float else c.astype(str) for c in columns]
    body: str = texts[0].str.cat(texts[1:], sep=separator).str.cat(sep="\n")
    return (f"{header}\n" if header else "") + body + "\n"


def prices(frame: Frame) -> list[pd.Series]:
    return [frame[name] for name in PRICES]


def kibot(f: Frame) -> str:
    day, clock = local(f, NEW_YORK, "%m/%d/%Y"), local(f, NEW_YORK, "%H:%M")
    return lines([day, clock, *prices(f), f["volume"]])


def firstrate(f: Frame) -> str:
    return lines([local(f, NEW_YORK, "%Y-%m-%d %H:%M:%S"), *prices(f), f["volume"]])


def barchart(f: Frame) -> str:
    newest = f.iloc[::-1]
    change = pd.Series("0.01", index=newest.index)
    volume = newest["volume"].map(lambda v: f'"{v:,}"')
    columns = [local(newest, CHICAGO, "%m/%d/%Y %H:%M"), *prices(newest), change, volume]
    head = "Time,Open,High,Low,Last,Change,Volume"
    footer = '"Downloaded from Barchart.com as of 03-15-2024 04:05pm CDT"\n'
    return lines(columns, header=head) + footer


def tradingview(f: Frame) -> str:
    seconds = f["ts"].astype("datetime64[ns, UTC]").astype("int64") // NS
    return lines([seconds, *prices(f), f["volume"]], header="time,open,high,low,close,Volume")


def tradingview_iso(f: Frame) -> str:
    times = local(f, NEW_YORK, "%Y-%m-%dT%H:%M:%S%z").str.replace(r"(\d\d)$", r":\1", regex=True)
    return lines([times, *prices(f), f["volume"]], header="time,open,high,low,close,Volume")


def ninjatrader(f: Frame) -> str:
    return lines([local(f, "UTC", "%Y%m%d %H%M%S", 1), *prices(f), f["volume"]], ";")


def sierra(f: Frame) -> str:
    day = local(f, NEW_YORK, "%Y/%m/%d").str.replace("/0", "/", regex=False)
    columns = [day, local(f, NEW_YORK, "%H:%M:%S"), *prices(f), f["volume"], f["volume"]]
    return lines(columns, ", ", "Date, Time, Open, High, Low, Last, Volume, NumberOfTrades")


def metatrader(f: Frame) -> str:
    server = f.assign(
        ts=(f["ts"].dt.tz_convert(NEW_YORK).dt.tz_localize(None) + pd.Timedelta(hours=7))
    )
    day, clock = (server["ts"].dt.strftime(form) for form in ("%Y.%m.%d", "%H:%M:%S"))
    zero = pd.Series("0", index=f.index)
    names = ["DATE", "TIME", "OPEN", "HIGH", "LOW", "CLOSE", "TICKVOL", "VOL", "SPREAD"]
    head = "\t".join(f"<{name}>" for name in names)
    return lines([day, clock, *prices(f), f["volume"], zero, zero], "\t", head)


def ib_async(f: Frame) -> str:
    times = local(f, NEW_YORK, "%Y-%m-%d %H:%M:%S%z").str.replace(r"(\d\d)$", r":\1", regex=True)
    volume = f["volume"].map(lambda v: f"{v}.0")
    columns = [
        pd.Series(f.index, index=f.index),
        times,
        *prices(f),
        volume,
        f["close"],
        f["volume"],
    ]
    return lines(columns, header=",date,open,high,low,close,volume,average,barCount")


def dukascopy(f: Frame) -> str:
    """With a flat candle in the closed hour of each day, as their export fills it."""
    times = local(f, "UTC", "%d.%m.%Y %H:%M:%S.000")
    volume = f["volume"].map(lambda v: f"{v / 1e6:.6f}")
    text = lines([times, *prices(f), volume], header="Gmt time,Open,High,Low,Close,Volume")
    flat = "09.03.2024 12:00:00.000,78.00,78.00,78.00,78.00,0\n"
    head, _, body = text.partition("\n")
    return f"{head}\n{flat if f['ts'].min() > pd.Timestamp('2024-03-09', tz='UTC') else ''}{body}"


def polygon(f: Frame) -> str:
    ns = f["ts"].astype("datetime64[ns, UTC]").astype("int64")
    o, h, low, c = prices(f)
    head = "ticker,volume,open,close,high,low,window_start,transactions"
    other = "CLH4,5,70.00,70.00,70.00,70.00,1704150000000000000,1\n"
    spread = "MCLG4-MCLH4,5,0.10,0.10,0.10,0.10,1704150000000000000,1\n"
    return (
        lines([f["symbol"], f["volume"], o, c, h, low, ns, f["volume"]], header=head)
        + other
        + spread
    )


def databento_csv(f: Frame) -> str:
    times = local(f, "UTC", "%Y-%m-%dT%H:%M:%S.000000000Z")
    fixed = [p.map(lambda v: f"{v:.9f}") for p in prices(f)]
    three = [pd.Series(v, index=f.index) for v in ("33", "1", "42")]
    head = "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol"
    return lines([times, *three, *fixed, f["volume"], f["symbol"]], header=head)


def databento_fixed(f: Frame) -> str:
    ns = f["ts"].astype("datetime64[ns, UTC]").astype("int64")
    whole = [(p * 1e9).round().astype("int64") for p in prices(f)]
    three = [pd.Series(v, index=f.index) for v in ("33", "1", "42")]
    head = "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol"
    return lines([ns, *three, *whole, f["volume"], f["symbol"]], header=head)


SIERRA_CLOCK = "data.timezone=America/New_York"
LAYOUTS: dict[str, tuple[Callable[[Frame], str], list[str]]] = {
    "kibot": (kibot, ["data=kibot"]),
    "firstrate": (firstrate, ["data=firstrate"]),
    "barchart": (barchart, ["data=barchart"]),
    "tradingview": (tradingview, ["data=tradingview"]),
    "tradingview_iso": (tradingview_iso, ["data=tradingview"]),
    "ninjatrader": (ninjatrader, ["data=ninjatrader"]),
    "sierra": (sierra, ["data=sierra", SIERRA_CLOCK]),
    "metatrader": (metatrader, ["data=metatrader", "data.timezone='America/New_York+07:00'"]),
    "ib_async": (ib_async, ["data=ib_async"]),
    "dukascopy": (dukascopy, ["data=dukascopy"]),
    "polygon": (polygon, ["data=polygon"]),
    "databento_csv": (databento_csv, ["data=databento_csv"]),
    "databento_fixed": (databento_fixed, ["data=databento_csv", "data.format.scale=1e-9"]),
}
OF_ALL_CONTRACTS = {"polygon", "databento_csv", "databento_fixed"}
ROLL = ["data.roll.rule=calendar"]


def loaded(tmp_path: Path, text: str, overrides: list[str]) -> Bars:
    path = tmp_path / "bars.csv"
    path.write_text(text)
    words = [*overrides, f"data.path={path}", *ROLL]
    return load(composition.compose("backtest", words).config.data, tmp_path)


def digest(*columns: Any) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(c).tobytes() for c in columns)).hexdigest()


def of_bars(bars: Bars) -> str:
    return digest(bars.close_time, *(getattr(bars, n) for n in PRICES), bars.volume.astype("int64"))


def closes(frame: Frame) -> Any:
    """The close times of minutes in ns."""
    return frame["ts"].astype("datetime64[ns, UTC]").astype("int64").to_numpy() + 60 * NS


def of_frame(frame: Frame) -> str:
    return digest(
        closes(frame), *(frame[n].to_numpy() for n in PRICES), frame["volume"].to_numpy("int64")
    )


@pytest.mark.parametrize("world", ["winter", "spring"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_gives_the_bytes_of_the_dbn_door(
    layout: str, world: str, frames: dict[str, Frame], tmp_path: Path
) -> None:
    """Winter holds the half day of 2024-01-15, spring the change of clocks."""
    write, overrides = LAYOUTS[layout]
    one = busiest(frames[world])
    bars = loaded(tmp_path, write(one), [*overrides, *contract(layout, one)])
    same = of_bars(bars) == of_frame(one)
    assert same
    assert [c.symbol for c in bars.contracts] == [one["symbol"][0]]


def contract(layout: str, frame: Frame) -> list[str]:
    """The key for a layout whose files do not name their contract."""
    return [] if layout in OF_ALL_CONTRACTS else [f"data.contract={frame['symbol'][0]}"]


@pytest.mark.parametrize("layout", sorted(OF_ALL_CONTRACTS))
def test_all_contracts_give_the_fingerprint_of_the_dbn_door(
    layout: str, small_world: Path, frames: dict[str, Frame], tmp_path: Path
) -> None:
    write, overrides = LAYOUTS[layout]
    roll = {"rule": "calendar"}
    vendor = load(databento_data(small_world, roll=roll), tmp_path / "dbn")
    bars = loaded(tmp_path, write(frames["winter"]), overrides)
    assert bars.fingerprint == vendor.fingerprint
    assert len(bars.roll_table) == len(vendor.roll_table) > 0


@pytest.mark.parametrize("preset", ["yahoo", "stooq"])
def test_a_daily_layout_gives_the_session_bars(
    preset: str, frames: dict[str, Frame], tmp_path: Path
) -> None:
    one = busiest(frames["winter"])
    symbol = f"data.contract={one['symbol'][0]}"
    minutes = loaded(tmp_path, firstrate(one), ["data=firstrate", symbol])
    session = loaded(
        tmp_path,
        firstrate(one),
        ["data=firstrate", symbol, "data.interval=session", "data.format.interval=1m"],
    )
    day = pd.Series([str(np.datetime64(int(d), "D")) for d in session.session])
    columns = [day, *(pd.Series(getattr(session, n)) for n in PRICES)]
    volume = pd.Series(session.volume.astype("int64"))
    if preset == "yahoo":
        columns.append(columns[-1])
        head, empty = "Date,Open,High,Low,Close,Adj Close,Volume", "2024-02-24" + ",null" * 6 + "\n"
    else:
        head, empty = "Date,Open,High,Low,Close,Volume", ""
    text = lines([*columns, volume], header=head) + empty
    daily = loaded(tmp_path, text, [f"data={preset}", symbol])
    assert len(minutes) > len(daily) > 20
    same = of_bars(daily) == of_bars(session)
    assert same
    assert (daily.session == session.session).all()


def seconds(frame: Frame) -> Frame:
    """Bars of one second on ticks, six minutes around the close and the open of a session."""
    rng = np.random.default_rng(5)
    close = pd.date_range("2024-03-08 21:54:00", "2024-03-08 21:59:59", freq="1s", tz="UTC")
    open_ = pd.date_range("2024-03-10 22:00:00", "2024-03-10 22:05:59", freq="1s", tz="UTC")
    ts = close.append(open_)
    price = np.round(78 + rng.integers(-2, 3, len(ts)).cumsum() * 0.01, 2)
    columns = dict.fromkeys(PRICES, price)
    return pd.DataFrame({"ts": ts, **columns, "volume": 3, "symbol": "MCLJ4"})


@pytest.mark.parametrize("layout", ["firstrate", "tradingview", "sierra", "databento_csv"])
def test_seconds_and_prices_below_zero(
    layout: str, frames: dict[str, Frame], tmp_path: Path
) -> None:
    write, overrides = LAYOUTS[layout]
    second = seconds(frames["spring"])
    finer = "data.format.interval=1s"
    bars = loaded(tmp_path, write(second), [*overrides, *contract(layout, second), finer])
    assert len(bars) == 12
    assert bars.volume.astype("int64").sum() == 3 * len(second)
    below = busiest(frames["spring"]).copy()
    below[list(PRICES)] = (below[list(PRICES)] - 200).round(2)
    negative = loaded(tmp_path, write(below), [*overrides, *contract(layout, below)])
    assert negative.high.max() < 0
    same = of_bars(negative) == of_frame(below)
    assert same


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sniff_proposes_the_preset_and_writes_a_file_that_works_at_once(
    layout: str,
    frames: dict[str, Frame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write, overrides = LAYOUTS[layout]
    one = whole_sessions(busiest(frames["winter"]))
    shutil.copytree(composition.conf_dir(), tmp_path / "conf")
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    path = tmp_path / "bars.csv"
    path.write_text(write(one))
    assert main.main(["--json", "data", "sniff", str(path), "--write", "mine"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert f"data={answer['preset']}" == overrides[0]
    assert (answer["doubts"], answer["undecided"]) == ([], {})
    assert len(answer["bars"]) == 5
    named = contract(layout, one)
    words = ["data=mine", *named, *ROLL]
    same = of_bars(load(composition.compose("backtest", words).config.data, tmp_path)) == of_frame(
        one
    )
    assert same


UNKNOWN = {
    "semicolons and decimal commas": lambda f: lines(
        [
            local(f, "Europe/Berlin", "%d.%m.%Y %H:%M"),
            *(p.map(lambda v: f"{v:.2f}".replace(".", ",")) for p in prices(f)),
            f["volume"],
        ],
        ";",
        "Zeit;Open;High;Low;Close;Volume".replace("Zeit", "Datetime"),
    ),
    "closes of bars in cents, newest first": lambda f: lines(
        [
            local(f.iloc[::-1], CHICAGO, "%Y/%m/%d %H:%M:%S", 1),
            *((p.iloc[::-1] * 100).round().astype("int64") for p in prices(f)),
            f["volume"].iloc[::-1],
        ],
        "|",
        "# exported by a program\ntimestamp|o|h|l|c|vol",
    ),
    "no header and two columns of time": lambda f: lines(
        [local(f, "UTC", "%Y%m%d"), local(f, "UTC", "%H:%M:%S"), *prices(f), f["volume"]], "\t"
    ),
}


@pytest.mark.parametrize("layout", UNKNOWN)
def test_sniff_proposes_the_keys_of_a_layout_that_nobody_names(
    layout: str, frames: dict[str, Frame], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = whole_sessions(busiest(frames["winter"]))
    path = tmp_path / "bars.csv"
    path.write_text(UNKNOWN[layout](one))
    assert main.main(["--json", "data", "sniff", str(path)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["preset"] == "csv"
    words = [word for text in answer["overrides"] for word in shlex.split(text)]
    data = composition.compose("backtest", ["data=csv", f"data.path={path}", *words]).config.data
    same = of_bars(load(data, tmp_path)) == of_frame(one)
    assert same


def whole_sessions(frame: Frame) -> Frame:
    """Fourteen sessions, which show the clock and tell days from months."""
    return frame[frame["ts"] < pd.Timestamp("2024-01-19 22:00", tz="UTC")].copy()


def berlin(f: Frame) -> str:
    """Two columns of time, decimal commas and a header in German."""
    day, clock = (local(f, "Europe/Berlin", form) for form in ("%d.%m.%Y", "%H:%M"))
    decimals = [p.map(lambda v: f"{v:.2f}".replace(".", ",")) for p in prices(f)]
    head = "Datum;Uhrzeit;Eröffnung;Hoch;Tief;Schluss;Volumen"
    return lines([day, clock, *decimals, f["volume"]], ";", head)


def sierra_of_a_chart(f: Frame) -> str:
    """With the columns of studies, whose names are those of the bars again."""
    ts = f["ts"].dt.tz_convert(NEW_YORK)
    day = ts.dt.year.astype(str) + "-" + ts.dt.month.astype(str) + "-" + ts.dt.day.astype(str)
    clock = local(f, NEW_YORK, "%H:%M:%S.000000")
    head = "Date, Time, Open, High, Low, Last, Volume, # of Trades, Open, High, Low, Last, Volume"
    again = [p + 1 for p in prices(f)]
    volume = f["volume"]
    return lines([day, clock, *prices(f), volume, volume, *again, volume * 2], ", ", head)


def dukascopy_local(f: Frame) -> str:
    """Their export on the clock of the user, with volumes in units."""
    times = local(f, "Asia/Tokyo", "%d.%m.%Y %H:%M:%S.000 GMT%z")
    head = "Local time,Open,High,Low,Close,Volume"
    return lines([times, *prices(f), f["volume"]], header=head)


def barchart_latest(f: Frame) -> str:
    newest = f.iloc[::-1]
    times = local(newest, CHICAGO, '"%Y-%m-%d %H:%M"')
    change = pd.Series("0.01", index=newest.index)
    head = "Time,Open,High,Low,Latest,Change,%Change,Volume"
    footer = '"Downloaded from Barchart.com as of 03-15-2024 04:05pm CDT"\n'
    return lines([times, *prices(newest), change, change, newest["volume"]], header=head) + footer


def ticker_and_period(f: Frame) -> str:
    """As Stooq's and Finam's archives are: clocks are numbers, times those of closes."""
    period = pd.Series("1", index=f.index)
    day, clock = (local(f, NEW_YORK, form, 1) for form in ("%Y%m%d", "%H%M%S"))
    head = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>"
    return lines([f["symbol"], period, day, clock, *prices(f), f["volume"], period], header=head)


def clocks_of_twelve_hours(f: Frame) -> str:
    """Days and months that only the later rows tell apart, and thousands between quotes."""
    day, clock = (local(f, CHICAGO, form) for form in ("%m/%d/%Y", "%I:%M:%S %p"))
    volume = f["volume"].map(lambda v: f'"{v:,}"')
    return lines([day, clock, *prices(f), volume], header="Date,Time,Open,High,Low,Close,Volume")


def high_low_open(f: Frame) -> str:
    """No header, and prices in the order of IQFeed: high, low, open, close."""
    o, high, low, c = prices(f)
    return lines([local(f, NEW_YORK, "%Y-%m-%d %H:%M:%S", 1), high, low, o, c, f["volume"]])


def lines_around(f: Frame) -> str:
    head = "Time,Open,High,Low,Close,Volume"
    body = lines([local(f, "UTC", "%Y-%m-%d %H:%M UTC"), *prices(f), f["volume"]], header=head)
    return f"Symbol: MCLH24\nby: a program\n\n{body}\nEnd of file\nRows: {len(f)}\n\x1a"


FOREIGN: dict[str, tuple[Callable[[Frame], str], str]] = {
    layout.__name__: (layout, preset)
    for layout, preset in (
        *((berlin, "csv"), (sierra_of_a_chart, "sierra"), (dukascopy_local, "dukascopy")),
        *((barchart_latest, "barchart"), (ticker_and_period, "csv"), (high_low_open, "csv")),
        *((clocks_of_twelve_hours, "csv"), (lines_around, "csv")),
    )
}


@pytest.mark.parametrize("layout", FOREIGN)
def test_sniff_reads_what_programs_write_otherwise(
    layout: str, frames: dict[str, Frame], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, preset = FOREIGN[layout]
    one = whole_sessions(busiest(frames["winter"]))
    path = tmp_path / "bars.csv"
    path.write_text(write(one))
    assert main.main(["--json", "data", "sniff", str(path)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["preset"], answer["undecided"], answer["doubts"]) == (preset, {}, [])
    words = [word for text in answer["overrides"] for word in shlex.split(text)]
    choice = [f"data={preset}", f"data.path={path}", *words, *ROLL]
    same = of_bars(load(composition.compose("backtest", choice).config.data, tmp_path)) == of_frame(
        one
    )
    assert same


def packed(kind: str, text: str, folder: Path) -> Path:
    path = folder / "bars.csv"
    if kind == "zip of a Mac":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("bars.csv", text)
            archive.writestr("__MACOSX/._bars.csv", b"\0\5")
        return path
    change: dict[str, Callable[[str], bytes]] = {
        "gzip without its name": lambda t: gzip.compress(t.encode()),
        "UTF-16": lambda t: t.encode("utf-16"),
        "UTF-16 without a mark": lambda t: t.encode("utf-16-le"),
        "lines of Windows": lambda t: b"\xef\xbb\xbf" + t.replace("\n", "\r\n").encode(),
        "lines of old Macs": lambda t: t.replace("\n", "\r").encode(),
    }
    path.write_bytes(change[kind](text))
    return path


KINDS = (
    *("gzip without its name", "zip of a Mac", "UTF-16", "UTF-16 without a mark"),
    *("lines of Windows", "lines of old Macs"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_of_a_file_say_how_it_is_packed(
    kind: str, frames: dict[str, Frame], tmp_path: Path
) -> None:
    one = busiest(frames["spring"])
    path = packed(kind, tradingview(one), tmp_path)
    words = ["data=tradingview", f"data.path={path}", f"data.contract={one['symbol'][0]}", *ROLL]
    same = of_bars(load(composition.compose("backtest", words).config.data, tmp_path)) == of_frame(
        one
    )
    assert same


def test_a_spreadsheet_is_no_csv(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    words = ["data=tradingview", f"data.path={path}"]
    with pytest.raises(DataError, match="is a spreadsheet, not a CSV"):
        load(composition.compose("backtest", words).config.data, tmp_path)


def test_the_model_of_a_preset_is_the_one_of_csv() -> None:
    for _, overrides in LAYOUTS.values():
        words = [*overrides, "data.path=x", "++data.stamped_at=open"]
        assert isinstance(composition.compose("backtest", words).config.data, CsvData)


def test_volumes_that_count_no_contracts_are_said(frames: dict[str, Frame], tmp_path: Path) -> None:
    """MetaTrader: TICKVOL counts price changes, and VOL is 0 with most brokers."""
    one = busiest(frames["winter"])
    words = ["data=metatrader", "data.timezone='America/New_York+07:00'", "data.contract=MCLH24"]
    ticks = loaded(tmp_path, metatrader(one), words)
    assert "VOLUME IS A COUNT OF PRICE CHANGES" in data_note(ticks)
    assert ticks.volume.any()
    traded = loaded(tmp_path, metatrader(one), [*words, "data.columns.volume='<VOL>'"])
    assert "NO VOLUME — <VOL> is 0 in every row" in data_note(traded)
    assert not traded.volume.any()
    kibots = loaded(tmp_path, kibot(one), ["data=kibot", "data.contract=MCLH24"])
    assert "VOLUME" not in data_note(kibots)


def test_every_preset_names_its_source() -> None:
    for file in sorted((composition.conf_dir() / "data").glob("*.yaml")):
        text = file.read_text()
        if "\n  - csv\n" in text and file.stem != "databento_csv":
            assert "# Source" in text or "www." in text, file.name
