"""Whatever happens to a file between the vendor and the build: an error with the place, or the same
bars. Never a wrong bar.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mcl.base.errors import DataError
from mcl.data import dbn
from mcl.data.loader import load
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator
from mcl.data.synthetic.watermark import watermark

from .conftest import databento_data, rewrite

BARS = Path("ohlcv-1m") / "2024-01.dbn.zst"
DAMAGE = ("truncate", "flip", "zero", "swap", "append", "insert")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticData(source="synthetic", seed=11)
    return generator.generate(
        spec, tmp_path_factory.mktemp("world"), first=date(2024, 1, 4), last=date(2024, 1, 5)
    )


@pytest.fixture(scope="module")
def scratch(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(tiny, tmp_path_factory.mktemp("scratch") / "MCL_FUT"))


def damaged(content: bytes, kind: str, at: int, other: int) -> bytes:
    low, high = sorted((at % len(content), other % len(content)))
    match kind:
        case "truncate":
            return content[:low]
        case "flip":
            return content[:low] + bytes([content[low] ^ (1 << other % 8)]) + content[low + 1 :]
        case "zero":
            return content[:low] + bytes(high - low) + content[high:]
        case "swap":
            return content[high:] + content[low:high] + content[:low]
        case "append":
            return content + content[low:high]
        case _:
            return content[:low] + content[low:high] + content[low:]


def fingerprint(home: Path, root: Path) -> str:
    return load(databento_data(home), root).fingerprint


@settings(max_examples=40)
@given(
    st.sampled_from([str(BARS), "definition/2024-01.dbn.zst", "statistics/2024-01.dbn.zst"]),
    st.sampled_from(DAMAGE),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
)
def test_a_damaged_file_is_refused_by_name_or_gives_the_same_bars(
    tiny: Path,
    scratch: Path,
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    kind: str,
    at: int,
    other: int,
) -> None:
    root = tmp_path_factory.mktemp("root")
    whole = (tiny / name).read_bytes()
    (scratch / name).write_bytes(damaged(whole, kind, at, other))
    answer = outcome(scratch, root)
    (scratch / name).write_bytes(whole)
    assert answer == fingerprint(tiny, root) or name in answer or f"{scratch} " in answer
    assert answer == fingerprint(tiny, root) or not list((root / "data").glob("mcl-MCL_FUT-*"))


def outcome(home: Path, root: Path) -> str:
    """The fingerprint of the bars, or the sentence that refuses them."""
    try:
        return fingerprint(home, root)
    except DataError as error:
        return error.message


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["shuffle", "reverse", "repeat", "swap two"]))
def test_rows_in_another_order_are_refused_with_the_place(
    tiny: Path, scratch: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, how: str
) -> None:
    rng = np.random.default_rng(seed)

    def change(records: dbn.Records) -> dbn.Records:
        rows = np.arange(len(records))
        outright = np.flatnonzero(records["instrument_id"] == 42_202_402)
        match how:
            case "shuffle":
                rows = rng.permutation(len(records))
            case "reverse":
                rows = rows[::-1]
            case "repeat":
                rows = np.append(rows, rng.choice(outright))
            case _:
                a, b = rng.choice(outright, 2, replace=False)
                rows[[a, b]] = rows[[b, a]]
        return records[rows]

    shutil.copy(tiny / BARS, scratch / BARS)
    rewrite(scratch / BARS, change)
    with pytest.raises(
        DataError,
        match=(
            r"2024-01.dbn.zst: MCL[A-Z]\d at .* UTC: (times run backwards|the same time comes"
            r" twice)"
        ),
    ):
        fingerprint(scratch, tmp_path_factory.mktemp("root"))
    shutil.copy(tiny / BARS, scratch / BARS)


@pytest.mark.parametrize("field", ["ts_event", "instrument_id", "length", "rtype"])
def test_a_flipped_bit_in_a_plain_file_is_seen_where_no_checksum_is(
    tiny: Path, tmp_path: Path, field: str
) -> None:
    home = Path(shutil.copytree(tiny, tmp_path / "raw"))
    plain = zstandard.decompress((home / BARS).read_bytes(), max_output_size=10**9)
    start = 8 + int.from_bytes(plain[4:8], "little")
    layout = dbn.dtype("ohlcv-1m")
    records = np.frombuffer(plain[start:], layout).copy()
    records[field][77] ^= layout[field].type(1 << (layout[field].itemsize * 8 - 2))
    (home / BARS).unlink()
    (home / "ohlcv-1m" / "bars.dbn").write_bytes(plain[:start] + records.tobytes())
    with pytest.raises(DataError, match=r"bars.dbn.*(record|bar) 78"):
        load(databento_data(home), tmp_path)


def test_a_file_that_is_not_the_one_that_was_paid_for(tiny: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(tiny, tmp_path / "raw"))
    receipt = home / f"{BARS}.json"
    receipt.write_text(
        json.dumps({"sha256": hashlib.sha256((home / BARS).read_bytes()).hexdigest()})
    )
    assert load(databento_data(home), tmp_path).synthetic
    rewrite(home / BARS, lambda r: r["volume"].__setitem__(5, r["volume"][5] + 1))
    with pytest.raises(DataError, match=r"2024-01.dbn.zst has changed since its download"):
        load(databento_data(home), tmp_path)


def test_copied_files_keep_the_watermark(tiny: Path, tmp_path: Path) -> None:
    for folder in ("definition", "ohlcv-1m"):
        shutil.copytree(tiny / folder, tmp_path / "copied" / folder)
    bars = load(databento_data(tmp_path / "copied"), tmp_path)
    assert bars.synthetic
    assert "SYNTHETIC DATA" in bars.provenance["facts"]["world"]["notice"]
    assert watermark(bars).startswith("SYNTHETIC DATA")
