"""`Bars`: narrow columns, what is made of them on demand, and what they refuse."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from walks import make_bars, random_bars

from mcl.base.errors import DataError
from mcl.data import continuous, loader
from mcl.data.bars import MOST, WHOLE, Bars, ticks_of
from mcl.data.loader import load
from mcl.data.table import PRICES
from mcl.market.instruments import INSTRUMENTS, Instrument

from .conftest import databento_data

BARS = random_bars(3_000, seed=5, bars_per_session=100, rolls=3)
FLAT = {name: [7_000, 7_001, 7_002] for name in PRICES}


@pytest.mark.parametrize("of", INSTRUMENTS.values(), ids=lambda of: of.symbol)
def test_a_price_is_the_double_nearest_to_its_ticks(of: Instrument) -> None:
    rng = np.random.default_rng(0)
    ticks = np.concatenate(
        [np.arange(-20_000, 20_000), rng.integers(-MOST + 1, MOST, 20_000)]
    ).astype(np.int32)
    prices = of.price(ticks)
    assert of.tick_size == 1 / round(1 / of.tick_size), "a unit must have a whole number of ticks"
    assert [float(k * Decimal(str(of.tick_size))) for k in ticks[::50].tolist()] == prices[
        ::50
    ].tolist()
    assert np.array_equal(ticks_of(prices, of), ticks)
    assert np.array_equal(ticks_of(ticks * of.tick_size, of), ticks), (
        "a float a little beside the price is that price"
    )


@pytest.mark.parametrize(
    ("price", "sentence"),
    [
        (
            np.nan,
            (
                r"row 1, closed at 2024-01-04 00:01:00\+00:00, has a price that is not finite;"
                r" every bar needs four prices"
            ),
        ),
        (-np.inf, "row 1, .* has a price that is not finite"),
        (70.005, "row 1, .* has the price 70.005, which is off the tick of 0.01"),
        (1e9, "a price is further than 2,147,483,646 ticks of 0.01 from zero"),
    ],
)
@pytest.mark.parametrize("name", PRICES)
def test_a_price_that_is_none_is_refused(name: str, price: float, sentence: str) -> None:
    prices = {column: BARS.column(column, slice(3)) for column in PRICES}
    prices[name][1] = price
    with pytest.raises(DataError, match=sentence):
        make_bars(FLAT, prices=prices)


def test_more_than_a_column_holds_is_refused_before_it_wraps() -> None:
    assert make_bars(FLAT, volume=np.full(3, MOST)).volume.tolist() == [MOST] * 3
    with pytest.raises(
        DataError, match="volume 3,000,000,000 is more than the 2,147,483,646 that a bar can have"
    ):
        make_bars(FLAT, volume=np.array([1, 3_000_000_000, 1]))
    busy = make_bars(dict.fromkeys(PRICES, [7_000] * 5), volume=np.full(5, MOST))
    with pytest.raises(DataError, match="volume 10,737,418,230 is more than"):
        continuous._merge(busy, "5m", np.array([0]), busy.close_time[-1:], busy.close_time[-1:])


def test_wide_columns_do_not_wrap() -> None:
    assert {BARS.column(name).dtype for name in WHOLE} == {np.dtype(np.int64)}
    assert (BARS.column("session") * 86_400 * 1_000_000_000 <= BARS.close_time).all()


def test_the_continuous_series_is_the_prices_where_nothing_was_adjusted() -> None:
    assert (
        BARS.rows(0, int(np.flatnonzero(BARS.roll)[0])).adjusted["close"]
        is not BARS.adjusted["close"]
    )
    for never in (BARS.rows(0, int(np.flatnonzero(BARS.roll)[0])), make_bars(FLAT)):
        assert all(never.adjusted[name] is getattr(never, name) for name in PRICES)
    assert np.array_equal(BARS.adjusted["low"], BARS.low + BARS.adjustment)
    ratio = np.array([1.0, 1.1, 0.9, 1.3])
    assert np.array_equal(
        replace(BARS, ratio=ratio).adjusted["high"],
        BARS.high * ratio[BARS.contract] + BARS.adjustment,
    )


@pytest.mark.parametrize("n", [1, continuous.CHUNK, continuous.CHUNK + 1])
def test_the_fingerprint_is_that_of_the_wide_columns(n: int) -> None:
    """However the columns are kept: prices, adjustment and outgoing open as float64, whole numbers
    as int64, one after the other.
    """
    bars = random_bars(n, seed=2, bars_per_session=9_000, rolls=5)
    starts = np.flatnonzero(np.append(True, np.diff(bars.contract) != 0))
    symbols = [bars.contracts[i].name for i in bars.contract[starts]]
    wide: dict[str, Any] = {
        "close_time": bars.close_time,
        **{name: bars.ticks[name] / 100.0 for name in PRICES},
    }
    wide |= {"volume": bars.volume.astype(np.int64), "adjustment": bars.shift[bars.contract]}
    wide |= {name: getattr(bars, name).astype(np.int64) for name in ("session", "to_close_sec")}
    wide |= {
        "roll": bars.roll,
        "outgoing_open": np.where(bars.roll, bars.left_at[bars.contract], np.nan),
    }
    header = repr(("MCL", 100.0, 0.01, "1m", symbols, starts.tolist())).encode()
    whole = header + b"".join(
        name.encode() + b"\0" + values.tobytes() for name, values in wide.items()
    )
    assert continuous.fingerprint(bars) == hashlib.sha256(whole).hexdigest()


def test_a_cache_that_is_damaged_or_of_another_layout_is_refused(
    small_world: Path, tmp_path: Path
) -> None:
    data = databento_data(small_world)
    whole = load(data, tmp_path)
    (file,) = loader.stored_dataset(data, tmp_path).folder.glob("front/*.arrow")
    content = file.read_bytes()
    for at in (
        content.index(whole.close_ticks.tobytes()) + 400,
        content.rindex(whole.fingerprint.encode()),
    ):
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(DataError, match="is damaged: its bars are not those that were written"):
            load(data, tmp_path)
    table = pa.ipc.open_file(pa.py_buffer(content)).read_all()
    wide = table.rename_columns([name.removesuffix("_ticks") for name in table.column_names])
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_file(stream, wide.schema) as writer:
        writer.write_table(wide)
    with pytest.raises(DataError, match=r"\.arrow cannot be read: .*open_ticks"):
        load(data, tmp_path)
    file.unlink()
    assert isinstance(load(data, tmp_path), Bars)
    assert load(data, tmp_path).fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda bars: bars.clsoe, "bars has no 'clsoe': did you mean 'close'?"),
        (lambda bars: bars.to_close, "bars has no 'to_close': did you mean 'to_close_sec'?"),
        (lambda bars: bars.adj_close, "bars has no 'adj_close': write bars.adjusted['close']"),
        (
            lambda bars: bars.adjusted.close,
            "bars.adjusted has no attribute 'close': write bars.adjusted['close']",
        ),
        (
            lambda bars: bars.adjusted.clsoe,
            "bars.adjusted has no column 'clsoe': did you mean 'close'?",
        ),
        (
            lambda bars: bars.prices["volume"],
            "bars.prices has no column 'volume': valid: close, high, low, open",
        ),
    ],
)
def test_a_wrong_name_says_the_nearest_one(ask: Any, said: str) -> None:
    with pytest.raises((AttributeError, KeyError)) as refused:
        ask(BARS)
    assert refused.value.args[0] == said
    assert not hasattr(BARS, "nothing")
    assert "volume" not in BARS.prices


def test_a_failure_inside_a_column_is_not_taken_for_a_wrong_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Bars, "times", property(lambda self: self.instrument.nothing))
    with pytest.raises(AttributeError, match="'Instrument' object has no attribute 'nothing'"):
        _ = BARS.times
