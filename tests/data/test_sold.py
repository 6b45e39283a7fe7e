"""What is sold is read: every schema that a download accepts has a reader, and what has none is
refused before anything is paid.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcl.base.errors import DataError
from mcl.data import dbn, depth, slippage_model
from mcl.data.download import chunks
from mcl.data.loader import dataset_facts, load
from mcl.data.record_files import ALONGSIDE, INTERVALS
from mcl.simulators.databento.api import Vendor

from .conftest import databento_data
from .gateway import fetch, gateway

SYMBOLS = ("MCL.FUT", "MCLH4")
CONTINUOUS = ("MCL.v.0", "MCL.c.0", "MCL.n.1")
RANGE = ("2024-01-17", "2024-01-20")


@pytest.fixture
def vendor(small_world: Path, tmp_path: Path) -> Iterator[Vendor]:
    with gateway(small_world, tmp_path, limited=False) as running:
        yield running


def test_every_schema_of_the_format_is_read_or_refused() -> None:
    readers = {*INTERVALS, *ALONGSIDE, *depth.LEVELS}
    assert set(chunks.SCHEMAS) == readers
    assert set(dbn.SCHEMAS) == readers | set(chunks.UNREAD)


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("schema", chunks.SCHEMAS)
def test_what_is_accepted_is_read(schema: str, symbol: str, vendor: Vendor, tmp_path: Path) -> None:
    done = fetch(vendor, tmp_path, *RANGE, symbol=symbol, schema=schema)
    folder = Path(done["folder"])
    data = databento_data(folder)
    if schema in ALONGSIDE:
        fetch(vendor, tmp_path, *RANGE, symbol=symbol)
        schema = "ohlcv-1m"
    if schema in INTERVALS:
        interval = "1h" if schema == "ohlcv-1h" else "1m"
        bars = load(data.model_copy(update={"interval": interval}), tmp_path)
        assert {day.astype(str) for day in bars.session.astype("datetime64[D]")} == {
            "2024-01-17",
            "2024-01-18",
            "2024-01-19",
        }
        facts = dataset_facts(data.model_copy(update={"interval": interval}), tmp_path)
        assert facts["facts"]["schema"] == schema
        assert bars.synthetic
    else:
        books = depth.load_depth(data, tmp_path, lambda _: [])
        assert books.manifest["schema"] == schema
        measured = slippage_model.measure(books, (1, 2))
        assert 0.4 < measured.mean_ticks(1) < 5
        assert {day for _, day in books.book_keys} == {dt.date(2024, 1, n) for n in (17, 18, 19)}


@pytest.mark.parametrize("schema", chunks.UNREAD)
def test_what_is_not_read_is_not_sold(schema: str, vendor: Vendor, tmp_path: Path) -> None:
    vendor.sales.clear()
    with pytest.raises(DataError, match=f"schema '{schema}' is not downloaded: ") as refused:
        fetch(vendor, tmp_path, *RANGE, schema=schema)
    assert refused.value.hint == "nothing was paid"
    assert not vendor.sales


@pytest.mark.parametrize("symbol", CONTINUOUS)
def test_a_series_that_the_vendor_rolls_is_not_sold(
    symbol: str, vendor: Vendor, tmp_path: Path
) -> None:
    vendor.sales.clear()
    with pytest.raises(DataError, match="is a continuous symbol") as refused:
        fetch(vendor, tmp_path, *RANGE, symbol=symbol)
    assert "download MCL.FUT" in str(refused.value.hint)
    assert not vendor.sales
