"""DBN versions 1 and 2, as old downloads have them: the same values as in version 3, and damage is
named.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import databento_dbn as wire
import numpy as np
import pytest
import zstandard

from mcl.base.errors import DataError
from mcl.data import dbn
from mcl.data.loader import load

from .conftest import databento_data

V1: Any = wire.v1  # the package's stubs do not say that it has them
V2: Any = wire.v2
OLDER = {
    1: {"definition": V1.InstrumentDefMsg, "statistics": V1.StatMsg},
    2: {"definition": V2.InstrumentDefMsg, "statistics": V2.StatMsg},
}


def as_version(content: tuple[dbn.Header, dbn.Records], version: int) -> bytes:
    """The same file in an older version of the format: fields that it does not know are dropped,
    symbols are cut to its length.
    """
    header, records = content
    layout: Any = OLDER[version].get(header.schema)
    old = records
    if layout is not None:
        old = np.zeros(len(records), np.dtype(layout._dtypes))
        for name in set(old.dtype.names or ()) & set(records.dtype.names or ()):
            undefined = (
                records[name] == np.iinfo(records.dtype[name]).max
                if records.dtype[name].kind in "iu"
                else np.zeros(len(old), bool)
            )
            limit = np.iinfo(old.dtype[name]).max if old.dtype[name].kind in "iu" else b""
            old[name] = np.where(undefined, limit, records[name]).astype(old.dtype[name])
        old["length"] = old.dtype.itemsize // 4
    intervals = [
        SimpleNamespace(
            raw_symbol=m.raw_symbol,
            intervals=[
                SimpleNamespace(start_date=m.start, end_date=m.end, symbol=str(m.instrument_id))
            ],
        )
        for m in header.mappings
    ]
    metadata = wire.Metadata(
        dataset=header.dataset,
        start=header.start,
        end=header.end,
        limit=None,
        ts_out=False,
        version=version,
        schema=wire.Schema.from_str(header.schema),
        stype_in=wire.SType.from_str(header.stype_in),
        stype_out=wire.SType.from_str("instrument_id"),
        symbols=list(header.symbols),
        partial=[],
        not_found=[],
        mappings=intervals,
    )
    return bytes(metadata) + old.tobytes()


@pytest.fixture(params=[1, 2])
def older_world(request: pytest.FixtureRequest, world_copy: Path) -> Path:
    for path in world_copy.rglob("*.dbn.zst"):
        path.write_bytes(zstandard.compress(as_version(dbn.read(path), request.param)))
        assert zstandard.decompress(path.read_bytes(), max_output_size=10**9)[:4] == b"DBN" + bytes(
            [request.param]
        )
    return world_copy


def test_an_old_download_gives_the_same_bars(
    older_world: Path, small_world: Path, tmp_path: Path
) -> None:
    old, new = (load(databento_data(path), tmp_path) for path in (older_world, small_world))
    assert old.fingerprint == new.fingerprint
    assert old.synthetic
    assert old.roll_table.equals(new.roll_table)


def test_old_definitions_keep_their_meaning(older_world: Path, small_world: Path) -> None:
    name = "definition/2024-01.dbn.zst"
    (header, old), (_, new) = dbn.read(older_world / name), dbn.read(small_world / name)
    assert header.end is not None
    assert header.start < header.end
    assert old.dtype == new.dtype
    for field in (
        "instrument_id",
        "raw_symbol",
        "expiration",
        "instrument_class",
        "asset",
        "maturity_year",
        "min_price_increment",
        "ts_recv",
    ):
        assert np.array_equal(old[field], new[field]), field


def test_an_old_file_that_ends_too_early(small_world: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.dbn"
    content = as_version(dbn.read(small_world / "definition" / "2024-01.dbn.zst"), 1)
    path.write_bytes(content[:-100])
    with pytest.raises(DataError, match=r"old.dbn is damaged|old.dbn ends"):
        dbn.read(path)


def test_a_version_of_the_future_is_refused(tmp_path: Path, small_world: Path) -> None:
    content = zstandard.decompress(
        (small_world / "definition" / "2024-01.dbn.zst").read_bytes(), max_output_size=10**9
    )
    path = tmp_path / "new.dbn"
    path.write_bytes(b"DBN\x04" + content[4:])
    with pytest.raises(DataError, match=r"new.dbn is DBN version 4, but only 1 to 3 can be read"):
        dbn.read(path)


def test_real_samples_of_version_three(shared_data: Path) -> None:
    for path in sorted((shared_data / "databento_python_apache2").glob("GLBX*.dbn.zst")):
        header, records = dbn.read(path)
        assert header == dbn.header(path)
        assert header.dataset == "GLBX.MDP3"
        assert len(records) >= 1
        assert date.fromordinal(719163 + header.start // (86_400 * 10**9)) == date(2020, 12, 28)
