"""Downloads with the unmodified client from the loopback gateway: priced, verified, resumed, never
paid for twice.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import digest

from mcl.base.errors import DataError, StoreError
from mcl.base.files import sha256
from mcl.cli.main import main
from mcl.data import dbn
from mcl.data.download.fetcher import DownloadProgress
from mcl.data.download.plan import DownloadOrder, DownloadPlan, DownloadTerms, download
from mcl.data.download.retry import RetryPolicy
from mcl.data.loader import load
from mcl.simulators.databento.api import Vendor

from .conftest import databento_data
from .gateway import SWIFT, content, digests, environment, fetch, gateway, sold, until

SCHEMAS = ("ohlcv-1m", "definition", "statistics")
MONTHS = ("2024-01-01_2024-02-01", "2024-02-01_2024-02-24")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "project"


@pytest.fixture
def vendor(small_world: Path, root: Path) -> Iterator[Vendor]:
    with gateway(small_world, root, limited=False) as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a download without any trouble leaves."""
    root = tmp_path_factory.mktemp("undisturbed")
    with gateway(small_world, root, limited=False) as vendor:
        fetch(vendor, root)
    return content(root)


class Recorder:
    """Remembers what a person would have seen."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.progress_marks: list[tuple[int, int, float]] = []
        self.costs: list[float] = []

    def planned(self, plan: Any) -> None:
        self.costs.append(plan.cost_usd)

    def tell(self, line: str) -> None:
        self.lines.append(line)

    def moved(self, progress: DownloadProgress) -> None:
        self.progress_marks.append((progress.chunks, progress.records, progress.paid_usd))


def ledger(root: Path, event: str) -> list[dict[str, Any]]:
    lines = (root / "data" / "raw" / "MCL_FUT" / "ledger.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def below(folder: Path) -> list[str]:
    return (
        sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        if folder.exists()
        else []
    )


# ---------------------------------------------------------------------------------- what is brought


def test_a_parent_brings_definitions_and_statistics_along_in_whole_sessions(
    vendor: Vendor, root: Path, small_world: Path
) -> None:
    listener = Recorder()
    done = fetch(vendor, root, listener=listener)
    folder = root / "data" / "raw" / "MCL_FUT"
    assert done["files"] == [
        str(folder / s / f"MCL_FUT_{s}_{month}.dbn.zst") for s in SCHEMAS for month in MONTHS
    ]
    assert (
        done["paid_usd"]
        == pytest.approx(done["cost_usd"])
        == pytest.approx(
            sum(sale.cost_usd for sale in vendor.sales),
        )
    )
    for path in map(Path, done["files"]):
        receipt = json.loads(path.with_name(f"{path.name}.json").read_text())
        records = dbn.read(path)[1]
        assert (receipt["sha256"], receipt["records"], receipt["synthetic"]) == (
            sha256(path),
            len(records),
            True,
        )
    bars = {
        month: dbn.read(folder / "ohlcv-1m" / f"MCL_FUT_ohlcv-1m_{month}.dbn.zst")[1]
        for month in MONTHS
    }
    # 18:00 New York: the first session of February opens
    edge = np.datetime64("2024-01-31T23:00", "ns").astype(np.int64)
    assert bars[MONTHS[0]]["ts_event"].max() < edge <= bars[MONTHS[1]]["ts_event"].min()
    assert listener.costs == [pytest.approx(done["cost_usd"])]
    count, received, paid = listener.progress_marks[-1]
    assert (count, received) == (6, done["records"])
    assert paid == pytest.approx(done["cost_usd"])


def test_what_was_downloaded_gives_the_bars_of_the_world_and_stays_marked(
    vendor: Vendor, root: Path, small_world: Path
) -> None:
    folder = Path(fetch(vendor, root)["folder"])
    bars, direct = load(databento_data(folder), root), load(databento_data(small_world), root)
    assert bars.synthetic
    assert bars.fingerprint == direct.fingerprint
    assert (bars.close == direct.close).all()
    assert (bars.close_time == direct.close_time).all()


def test_one_contract_comes_alone(vendor: Vendor, root: Path) -> None:
    symbol = "MCLH4"
    done = fetch(
        vendor, root, symbol=symbol, schema="ohlcv-1h", start="2024-01-10", end="2024-02-01"
    )
    (path,) = map(Path, done["files"])
    assert path == root / "data" / "raw" / symbol.replace(".", "_") / "ohlcv-1h" / path.name
    header, records = dbn.read(path)
    assert header.symbols == (symbol,)
    assert len(records) > 200
    times = records["ts_event"]
    assert times.min() == np.datetime64("2024-01-09T23:00", "ns").astype(np.int64)
    assert times.max() < np.datetime64("2024-01-31T22:00", "ns").astype(np.int64)


def test_depth_comes_session_by_session(vendor: Vendor, root: Path) -> None:
    done = fetch(vendor, root, schema="mbp-1", start="2024-01-18", end="2024-01-23")
    spans = [
        Path(f).name.removeprefix("MCL_FUT_mbp-1_")[:21] for f in done["files"] if "mbp-1" in f
    ]
    assert spans == ["2024-01-18_2024-01-19", "2024-01-19_2024-01-22", "2024-01-22_2024-01-23"]
    assert {part["schema"]: part["chunks_missing"] for part in done["parts"]} == {
        "mbp-1": 3,
        "definition": 1,
        "statistics": 1,
    }


def test_a_longer_range_buys_only_what_is_new(
    vendor: Vendor, root: Path, undisturbed: dict[str, bytes]
) -> None:
    fetch(vendor, root, start="2024-01-10", end="2024-01-20")
    vendor.sales.clear()
    done = fetch(vendor, root)
    spans = [
        Path(f).name.removeprefix("MCL_FUT_ohlcv-1m_")[:21] for f in done["files"] if "ohlcv" in f
    ]
    assert spans == [
        "2024-01-01_2024-01-10",
        "2024-01-10_2024-01-20",
        "2024-01-20_2024-02-01",
        "2024-02-01_2024-02-24",
    ]
    rows = np.concatenate([dbn.read(Path(f))[1] for f in done["files"] if "ohlcv" in f])
    assert len(rows) == sum(
        json.loads(undisturbed[f"MCL_FUT_ohlcv-1m_{m}.dbn.zst.json"])["records"] for m in MONTHS
    )
    assert (np.diff(rows["ts_event"].astype(np.int64)) >= 0).all()
    again = fetch(vendor, root)
    assert (again["paid_usd"], again["cost_usd"], again["files"]) == (0, 0, done["files"])
    assert set(sold(vendor).values()) == {1}


def test_days_of_reduced_quality_are_written_down(small_world: Path, root: Path) -> None:
    with gateway(small_world, root, degraded=(dt.date(2024, 1, 17),)) as vendor:
        done = fetch(vendor, root, symbol="MCLH4", end="2024-02-01")
    assert done["conditions"] == {"2024-01-17": "degraded"}
    (path,) = map(Path, done["files"])
    receipt = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert receipt["conditions"] == {"2024-01-17": "degraded"}
    assert "2024-01-17 (degraded)" in receipt["warnings"][0]
    assert json.loads((path.parents[1] / "condition.json").read_text()) == [
        {"date": "2024-01-17", "condition": "degraded"}
    ]


def test_batch_jobs_bring_the_same_records(
    vendor: Vendor, root: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    done = fetch(vendor, root, batch=True)
    assert [sale.method for sale in vendor.sales] == ["batch.submit_job"] * 3  # a year at once
    for schema, path in zip(SCHEMAS, map(Path, done["files"]), strict=True):
        parts = []
        for month in MONTHS:
            (tmp_path / "one.dbn.zst").write_bytes(undisturbed[f"MCL_FUT_{schema}_{month}.dbn.zst"])
            parts.append(dbn.read(tmp_path / "one.dbn.zst")[1])
        assert digest(dbn.read(path)[1]) == digest(np.concatenate(parts))


# -------------------------------------------------------------------------------------------- money


def test_the_price_is_asked_first_and_limited(vendor: Vendor, root: Path) -> None:
    estimated = fetch(vendor, root, estimate=True)
    cost = estimated["cost_usd"]
    assert 0.1 < cost < 1
    assert [part["schema"] for part in estimated["parts"]] == list(SCHEMAS)
    assert sum(part["cost_usd"] for part in estimated["parts"]) == pytest.approx(cost)
    assert (estimated["files"], below(root / "data"), vendor.sales) == ([], [], [])
    with pytest.raises(
        DataError,
        match=(
            rf"MCL.FUT ohlcv-1m 2024-01-01 to today costs {cost:.2f} USD, above the limit of 0.05"
        ),
    ):
        fetch(vendor, root, max_cost_usd=0.05)
    assert vendor.sales == []
    costs_usd: list[float] = []

    def decline(plan: DownloadPlan) -> bool:
        costs_usd.append(plan.cost_usd)
        return False

    order, terms = (
        DownloadOrder("MCLH4", "ohlcv-1m", "2024-01-01", "2024-02-01"),
        DownloadTerms(gateway=vendor.url, max_cost_usd=0.0),
    )
    with pytest.raises(DataError, match="above the limit of 0"):
        download(order, root, terms, agree=decline)
    assert (
        len(download(order, root, terms, agree=lambda plan: plan.cost_usd == costs_usd[0])["files"])
        == 1
    )
    assert len(fetch(vendor, root, max_cost_usd=0.0, yes=True)["files"]) == 6


def test_fetching_damage_again_stays_within_the_limit(vendor: Vendor, root: Path) -> None:
    cost = fetch(vendor, root, symbol="MCLH4", end="2024-02-01", estimate=True)["cost_usd"]
    vendor.faults.add("short=1")
    with pytest.raises(DataError, match=r"MCLH4 ohlcv-1m .* would bring the total to"):
        fetch(vendor, root, symbol="MCLH4", end="2024-02-01", max_cost_usd=cost * 1.5)
    assert len(vendor.sales) == 1


# ------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("truncate=0.6", "is truncated: its compressed frame does not end"),
        ("short=3", r"\d+ records arrived, \d+ were announced"),
        ("garbage", "is damaged"),
        ("empty", "is empty"),
        ("warn", "databento warns: The answer may be incomplete."),
    ],
)
def test_damage_goes_to_quarantine_and_is_fetched_again(
    vendor: Vendor, root: Path, undisturbed: dict[str, bytes], fault: str, reason: str
) -> None:
    vendor.faults.add(f"{fault},times=1,schema=ohlcv-1m")
    listener = Recorder()
    done = fetch(vendor, root, listener=listener, workers=1)
    assert done["quarantined"] == 1
    assert digests(content(root)) == digests(undisturbed)
    bad = root / "data" / "raw" / "MCL_FUT" / ".quarantine"
    (note,) = bad.glob("*.reason.json")
    assert re.search(reason, json.loads(note.read_text())["reason"])
    assert len(list(bad.glob("*.bad"))) == 1
    assert any("in quarantine, fetching it again" in line for line in listener.lines)
    # the damaged one is paid for twice, and the ledger says so
    assert sum(sold(vendor).values()) == 7
    assert len(ledger(root, "quarantined")) == 1


def test_lasting_damage_is_an_error(vendor: Vendor, root: Path) -> None:
    vendor.faults.add("short=1,schema=ohlcv-1m")
    with pytest.raises(
        DataError,
        match=(
            r"MCL.FUT ohlcv-1m 2024-01-01 to 2024-02-01 arrived damaged 3 times: \d+ records"
            r" arrived"
        ),
    ):
        fetch(vendor, root, workers=1)
    assert not list((root / "data" / "raw" / "MCL_FUT" / "ohlcv-1m").glob("*.zst"))
    vendor.faults.clear()
    assert len(fetch(vendor, root)["files"]) == 6


def test_a_broken_connection_is_tried_again(
    vendor: Vendor, root: Path, undisturbed: dict[str, bytes]
) -> None:
    vendor.faults.add("drop=0.5,times=3")
    listener = Recorder()
    fetch(vendor, root, listener=listener)
    assert digests(content(root)) == digests(undisturbed)
    assert sum("the connection to databento broke" in line for line in listener.lines) == 3
    assert len(ledger(root, "broken")) == 3


def test_a_file_that_changed_on_disk_is_fetched_again(
    vendor: Vendor, root: Path, undisturbed: dict[str, bytes]
) -> None:
    path = Path(fetch(vendor, root)["files"][1])
    path.write_bytes(path.read_bytes()[:-7] + b"changed")
    vendor.sales.clear()
    fetch(vendor, root)
    assert digests(content(root)) == digests(undisturbed)
    assert [(sale.schema, sale.start[:10]) for sale in vendor.sales] == [("ohlcv-1m", "2024-01-31")]


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "check DATABENTO_API_KEY"),
        (402, "no funds"),
        (403, "licence"),
        (422, "choose a range"),
    ],
)
def test_a_final_refusal_is_one_sentence_and_one_request(
    vendor: Vendor, root: Path, status: int, hint: str
) -> None:
    vendor.faults.add(f"status={status}")
    with pytest.raises(DataError, match=f"databento refuses the request: {status} ") as refused:
        fetch(vendor, root)
    assert hint in refused.value.hint
    assert "\n" not in refused.value.message
    assert len(vendor.served) == 1
    assert below(root / "data") == []


@pytest.mark.parametrize("status", [408, 429, 500, 503, 504])
def test_what_may_pass_is_tried_again(vendor: Vendor, root: Path, status: int) -> None:
    vendor.faults.add(f"status={status},times=3")
    vendor.faults.add(f"status={status},times=2,method=timeseries.get_range")
    assert len(fetch(vendor, root, end="2024-02-01")["files"]) == 3
    assert set(sold(vendor).values()) == {1}  # a refused request costs nothing
    vendor.faults.add(f"status={status}")
    vendor.served.clear()
    with pytest.raises(DataError, match=rf"{status} .*\({SWIFT.tries} tries in \d+ s\)"):
        fetch(vendor, root)
    assert len(vendor.served) == SWIFT.tries


def test_retry_after_is_honoured(vendor: Vendor, root: Path) -> None:
    vendor.faults.add("status=429,retry_after=1,times=1")
    began = time.monotonic()
    fetch(vendor, root, symbol="MCLH4", end="2024-02-01")
    assert time.monotonic() - began > 1
    vendor.faults.add("status=429,retry_after=9999,times=1")
    with pytest.raises(DataError, match="refuses the request: 429"):
        fetch(vendor, root, symbol="MCLH4")


def test_the_pace_stays_within_the_vendors_limits(small_world: Path, root: Path) -> None:
    with gateway(small_world, root) as vendor:
        listener = Recorder()
        fetch(vendor, root, schema="ohlcv-1h", workers=8, listener=listener)
    assert listener.lines == []  # no 429


def test_nobody_listens_and_nobody_trusts(vendor: Vendor, root: Path, tmp_path: Path) -> None:
    order = DownloadOrder("MCL.FUT", "ohlcv-1m", "2024-01-01")
    with pytest.raises(DataError, match=r"databento cannot be reached.*\(2 tries"):
        download(
            order,
            root,
            DownloadTerms(
                gateway="https://127.0.0.1:9", retry_policy=RetryPolicy(tries=2, first_sec=0.01)
            ),
        )
    with pytest.raises(DataError, match="certificate is not trusted"):
        download(order, tmp_path / "elsewhere", DownloadTerms(gateway=vendor.url))
    with pytest.raises(DataError, match="there is no certificate file"):
        download(order, root, DownloadTerms(gateway=vendor.url, gateway_ca=tmp_path / "none.pem"))
    for address in ("https://", "https://127.0.0.1:x", "https://127.0.0.1/v0"):
        with pytest.raises(DataError, match="is no address of a gateway"):
            download(order, root, DownloadTerms(gateway=address))
    port = vendor.url.rsplit(":", 1)[1]
    assert (
        download(order, root, DownloadTerms(gateway=f"localhost:{port}/", estimate=True))["records"]
        > 0
    )


def test_bad_words_are_refused_before_anything_is_asked(vendor: Vendor, root: Path) -> None:
    for choices, sentence in (
        ({"schema": "ohlcv-1min"}, r"unknown schema 'ohlcv-1min'; did you mean 'ohlcv-1m'\?"),
        ({"symbol": "mcl"}, "'mcl' is no symbol that can be downloaded"),
        ({"start": "01/02/2024"}, "start='01/02/2024' is not written YYYY-MM-DD"),
        ({"end": "2023-01-01"}, "need start < end; start=2024-01-01, end=2023-01-01"),
        ({"workers": 0}, "need 1 <= workers <= 64; workers=0"),
    ):
        with pytest.raises(DataError, match=sentence):
            fetch(vendor, root, **choices)
    assert vendor.served == []
    with pytest.raises(DataError, match="nothing of 2030-01-01 to today"):
        fetch(vendor, root, start="2030-01-01")


def test_recorded_and_synthetic_data_are_never_mixed(
    vendor: Vendor, root: Path, tmp_path: Path, small_world: Path
) -> None:
    fetch(vendor, root, end="2024-02-01")
    assert (
        json.loads((root / "data" / "raw" / "MCL_FUT" / "world.json").read_text())["synthetic"]
        is True
    )
    for schema in SCHEMAS:
        (tmp_path / "bare" / schema).mkdir(parents=True)
        os.link(
            small_world / schema / "2024-02.dbn.zst", tmp_path / "bare" / schema / "2024-02.dbn.zst"
        )
    with (
        gateway(tmp_path / "bare", root) as recorded,
        pytest.raises(DataError, match=r"holds SYNTHETIC DATA .* serves recorded data"),
    ):
        fetch(recorded, root, start="2024-02-02")


# -------------------------------------------------------------------------- interrupted and resumed


def started(vendor: Vendor, root: Path, *words: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "mcl",
        "data",
        "download",
        "--start",
        "2024-01-01",
        f"data.gateway={vendor.url}",
        *words,
    ]
    return subprocess.Popen(
        command, env=environment(root), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_download_that_was_killed_goes_on_and_pays_for_no_chunk_twice(
    vendor: Vendor, root: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = root / "data" / "raw" / "MCL_FUT" / "ohlcv-1m"
    vendor.faults.add("slow=0.02")
    process = started(vendor, root, "--workers", "1")
    until(lambda: any(p.stat().st_size > 100_000 for p in folder.glob("*_2024-02-01_*.part")))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [p.name for p in folder.glob("*.zst")] == [f"MCL_FUT_ohlcv-1m_{MONTHS[0]}.dbn.zst"]
    vendor.faults.clear()
    fetch(vendor, root)
    assert digests(content(root)) == digests(undisturbed)
    # nothing half is left
    assert below(folder) == sorted(name for name in undisturbed if "ohlcv" in name)
    again = {key: n for key, n in sold(vendor).items() if n > 1}
    # only the one that was on its way
    assert again == {("ohlcv-1m", "2024-01-31T23:00:00.000000000Z"): 2}
    assert sum(sold(vendor).values()) == 7


@pytest.mark.parametrize("moment", ["received", "receipt written"])
def test_what_arrived_whole_before_the_end_is_kept(
    vendor: Vendor, root: Path, undisturbed: dict[str, bytes], moment: str
) -> None:
    """The two moments between the last byte and the final name."""
    path = Path(fetch(vendor, root)["files"][0])
    path.rename(f"{path}.part")
    if moment == "received":
        Path(f"{path}.json").unlink()
    vendor.sales.clear()
    fetch(vendor, root)
    assert digests(content(root)) == digests(undisturbed)
    assert vendor.sales == []


def test_an_interrupt_finishes_what_is_paid_for(
    vendor: Vendor, root: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = root / "data" / "raw" / "MCL_FUT"
    vendor.faults.add("slow=0.08")  # so slow that the first two are not done when the signal comes
    process = started(vendor, root, "--workers", "2")
    until(lambda: len(list(folder.rglob("*.part"))) == 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    vendor.faults.clear()
    assert "interrupted: finishing what is already paid for" in out
    assert "run the same command again to continue" in err
    assert len(list(folder.rglob("*.zst"))) == 2
    assert not list(folder.rglob("*.part"))
    fetch(vendor, root)
    assert digests(content(root)) == digests(undisturbed)
    assert set(sold(vendor).values()) == {1}


def test_a_batch_job_is_not_submitted_twice(
    small_world: Path, root: Path, undisturbed: dict[str, bytes]
) -> None:
    with gateway(small_world, root, batch_delay_sec=2.5) as vendor:
        process = started(vendor, root, "--batch", "--symbol", "MCLH4", "--end", "2024-02-01")
        until(lambda: len(vendor.sales) == 1)
        # perhaps before the ledger has the job's id: then the vendor's list has it
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done = fetch(vendor, root, batch=True, symbol="MCLH4", end="2024-02-01")
        assert len(vendor.sales) == 1
        assert len(dbn.read(Path(done["files"][0]))[1]) == done["records"]


def test_two_downloads_do_not_meet(vendor: Vendor, root: Path) -> None:
    vendor.faults.add("slow=0.05")
    process = started(vendor, root)
    until(
        lambda: (root / "data" / "raw" / "MCL_FUT" / "ledger.jsonl").exists() or bool(vendor.sales)
    )
    with pytest.raises(StoreError, match=r"process \d+ downloads to"):
        fetch(vendor, root)
    vendor.faults.clear()
    process.kill()
    process.communicate()


# -------------------------------------------------------------------------------------- typed words


def test_the_command_line_works_against_the_gateway_verb(
    small_world: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MCL_HOME", str(root))
    monkeypatch.delenv("DATABENTO_API_KEY", raising=False)
    command = [
        sys.executable,
        "-m",
        "mcl",
        "--json",
        "data",
        "gateway",
        "--folder",
        str(small_world),
        "--fault",
        "drop,times=1",
    ]
    with subprocess.Popen(
        command, env=environment(root), stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        greeting = json.loads(server.stdout.readline())
        words = [
            "data",
            "download",
            "--symbol",
            "MCLH4",
            "--start",
            "2024-01-01",
            "--end",
            "2024-02-01",
            f"data.gateway={greeting['gateway']}",
        ]
        assert main(["--json", *words, "--estimate"]) == 0
        estimate = json.loads(capsys.readouterr().out)
        assert main([*words, "data.workers=2"]) == 0
        output = capsys.readouterr().out
        assert main(["--json", *words]) == 0
        again = json.loads(capsys.readouterr().out)
        server.send_signal(signal.SIGINT)
    assert server.returncode == 0
    assert "what is missing, and what it costs" in output
    assert "trying again in" in output
    assert f"1/1 chunks · {estimate['records']:,} of {estimate['records']:,} rows" in output
    assert (again["cost_usd"], len(again["files"])) == (0, 1)
    assert main([*words, "data.gatway=x"]) == 1
    assert (
        "unknown override 'data.gatway=x' of a download; did you mean 'data.gateway'?"
        in capsys.readouterr().err
    )


def test_the_script_of_the_earlier_project(vendor: Vendor, root: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "download_historical.py"
    words = [
        "--symbol",
        "MCLH4",
        "--schema",
        "ohlcv-1h",
        "--start",
        "2024-01-10",
        "--max-cost",
        "1",
        "--gateway",
        vendor.url,
    ]
    done = subprocess.run(
        [sys.executable, script, *words],
        env=environment(root),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "what is missing, and what it costs" in done.stdout
    assert [p.name for p in (root / "data" / "raw" / "MCLH4" / "ohlcv-1h").glob("*.zst")] == [
        "MCLH4_ohlcv-1h_2024-01-10_2024-02-24.dbn.zst"
    ]


def test_without_a_key_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATABENTO_API_KEY", raising=False)
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    assert (
        main(
            [
                "data",
                "download",
                "--symbol",
                "MCL.FUT",
                "--start",
                "2024-01-01",
                "--schema",
                "mbp-10",
            ]
        )
        == 1
    )
    assert "DATABENTO_API_KEY is not set" in capsys.readouterr().err
