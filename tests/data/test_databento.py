"""Downloads with the unmodified client from a loopback vendor over TLS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcl.cli import main
from mcl.data import dbn, store
from mcl.data.databento import download
from mcl.data.load import load
from mcl.errors import DataError

from .conftest import databento_data
from .gateway import Vendor, certificate, serving

KEY = "db-" + "x" * 29
SCHEMAS = ("ohlcv-1m", "definition", "statistics")


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def vendor(small_world: Path, pem: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    """January of the small world."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    paths = {schema: small_world / schema / "2024-01.dbn.zst" for schema in SCHEMAS}
    counts = {schema: len(dbn.read(path)[1]) for schema, path in paths.items()}
    with serving(Vendor({schema: path.read_bytes() for schema, path in paths.items()}, counts), pem) as running:
        yield running


def fetch(vendor: Vendor, root: Path, **choices: Any) -> dict[str, Any]:
    words: dict[str, Any] = {"symbol": "MCL.FUT", "schema": "ohlcv-1m", "start": "2024-01-01", "end": "2024-02-01"} | choices
    return download(**words, root=root, key=KEY, gateway=vendor.url)


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_a_parent_brings_definitions_and_statistics_along_and_backtests(vendor: Vendor, tmp_path: Path) -> None:
    done = fetch(vendor, tmp_path)
    folder = tmp_path / "data" / "raw" / "MCL_FUT"
    assert done["files"] == [str(folder / s / f"MCL_FUT_{s}_2024-01-01_2024-02-01.dbn.zst") for s in SCHEMAS]
    assert done["cost_usd"] == 0.75
    for path in map(Path, done["files"]):
        note = json.loads(path.with_name(path.name + ".json").read_text())
        assert note["sha256"] == store.sha256(path)
        assert note["records"] == len(dbn.read(path)[1])
    bars = load(databento_data(folder), tmp_path)
    assert len(bars) > 20_000
    assert list(bars.roll_table["to_symbol"]) == ["MCLH4"]


def test_what_is_there_is_not_paid_for_again(vendor: Vendor, tmp_path: Path) -> None:
    first = fetch(vendor, tmp_path)
    vendor.cost_usd = 100.0
    vendor.asked.clear()
    second = fetch(vendor, tmp_path)
    assert second["files"] == first["files"]
    assert second["cost_usd"] == 0
    assert not [method for method, _ in vendor.asked if method == "timeseries.get_range"]


def test_the_price_is_asked_first_and_limited(vendor: Vendor, tmp_path: Path) -> None:
    vendor.cost_usd = 2.5
    with pytest.raises(DataError, match=r"MCL.FUT ohlcv-1m 2024-01-01 to 2024-02-01 costs 7.50 USD, above the limit of 5.00"):
        fetch(vendor, tmp_path)
    estimated = fetch(vendor, tmp_path, estimate=True)
    assert (estimated["cost_usd"], estimated["files"]) == (7.5, [])
    assert [p["records"] for p in estimated["parts"]] == [vendor.counts[s] for s in SCHEMAS]
    assert files(tmp_path) == []
    assert len(fetch(vendor, tmp_path, max_cost_usd=7.5)["files"]) == 3


def test_a_short_file_is_an_error_and_leaves_nothing(vendor: Vendor, tmp_path: Path) -> None:
    vendor.counts["ohlcv-1m"] += 1
    with pytest.raises(DataError, match=r"MCL.FUT ohlcv-1m: \d+ records arrived, \d+ were announced"):
        fetch(vendor, tmp_path)
    vendor.counts["ohlcv-1m"] -= 1
    vendor.files["ohlcv-1m"] = vendor.files["ohlcv-1m"][:50_000]
    with pytest.raises(DataError, match=r"truncated|announced|no whole DBN file|cannot be used"):
        fetch(vendor, tmp_path)
    assert files(tmp_path) == []


def test_degraded_days_are_noted_and_other_warnings_refused(vendor: Vendor, tmp_path: Path) -> None:
    degraded = "The streaming request contained one or more days which have reduced quality: 2024-01-17 (degraded)."
    vendor.warnings = [f"BentoWarning: {degraded}"]
    done = fetch(vendor, tmp_path)
    note = json.loads(Path(done["files"][0] + ".json").read_text())
    assert note["warnings"] == [degraded]
    vendor.warnings = ["BentoWarning: something else"]
    with pytest.raises(DataError, match="databento warns: something else"):
        fetch(vendor, tmp_path / "other")


@pytest.mark.parametrize(("status", "hint"), [(401, "check DATABENTO_API_KEY"), (402, "no funds"), (403, "licence"), (422, ""), (503, "")])
def test_a_refusal_is_one_sentence(vendor: Vendor, tmp_path: Path, status: int, hint: str) -> None:
    vendor.refusal = status, {"case": "case_name", "message": "Not like this.", "status_code": status, "docs": "https://d", "payload": {}}
    with pytest.raises(DataError, match=f"databento refuses the request: {status}") as refused:
        fetch(vendor, tmp_path)
    assert hint in refused.value.hint
    assert "\n" not in refused.value.message
    assert files(tmp_path) == []


def test_nobody_listens(vendor: Vendor, tmp_path: Path) -> None:
    vendor.url = "https://127.0.0.1:9"
    with pytest.raises(DataError, match="databento cannot be reached"):
        fetch(vendor, tmp_path)


def test_bad_words_are_refused_before_anything_is_asked(vendor: Vendor, tmp_path: Path) -> None:
    for choices, sentence in (
        ({"schema": "ohlcv-1min"}, r"unknown schema 'ohlcv-1min'; did you mean 'ohlcv-1m'\?"),
        ({"symbol": "mcl"}, "'mcl' is no symbol that can be downloaded"),
        ({"start": "01/02/2024"}, "not written YYYY-MM-DD"),
        ({"end": "2023-01-01"}, "need start < end; start=2024-01-01, end=2023-01-01"),
    ):
        with pytest.raises(DataError, match=sentence):
            fetch(vendor, tmp_path, **choices)
    assert vendor.asked == []


def test_without_an_end_it_is_all_there_is(vendor: Vendor, tmp_path: Path) -> None:
    done = fetch(vendor, tmp_path, end=None, symbol="MCLG4", schema="ohlcv-1m")
    assert [Path(f).name for f in done["files"]] == ["MCLG4_ohlcv-1m_2024-01-01_2024-02-24.dbn.zst"]


def test_without_a_key_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("DATABENTO_API_KEY", raising=False)
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    assert main(["data", "download", "--symbol", "MCL.FUT", "--start", "2024-01-01", "--schema", "mbp-10"]) == 1
    assert "DATABENTO_API_KEY is not set" in capsys.readouterr().err
