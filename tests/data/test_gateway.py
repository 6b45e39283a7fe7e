"""The unmodified client against the loopback gateway."""

from __future__ import annotations

import shutil
import ssl
import time
import urllib.request
import warnings
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import databento
import numpy as np
import pytest
from comparisons import digest
from databento.common.error import BentoWarning

from mcl.base.errors import DataError, StoreError
from mcl.data import dbn
from mcl.data.download.plan import CERTIFICATE
from mcl.data.synthetic import order_books
from mcl.ops import doctor
from mcl.simulators.databento.api import Vendor
from mcl.simulators.databento.faults import parse
from mcl.simulators.databento.server import serving
from mcl.simulators.databento.tls import certificate

from .gateway import gateway, sold, until

PARENT: dict[str, Any] = {
    "dataset": "GLBX.MDP3",
    "symbols": "MCL.FUT",
    "stype_in": "parent",
    "start": "2024-01-10",
    "end": "2024-02-10",
}


@pytest.fixture(scope="module")
def running(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendor]:
    root = tmp_path_factory.mktemp("gateway")
    # compiled here, since a client waits for 100 seconds at most
    order_books.session(small_world, date(2024, 1, 17), "mbp-1")
    with (
        gateway(small_world, root, degraded=(date(2024, 1, 17),), limited=False) as vendor,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("REQUESTS_CA_BUNDLE", str(root / ".cache" / "gateway" / "cert.pem"))
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield vendor


@pytest.fixture
def vendor(running: Vendor) -> Iterator[Vendor]:
    yield running
    running.faults.clear()


@pytest.fixture
def client(vendor: Vendor) -> databento.Historical:
    return databento.Historical("db-any-key", gateway=vendor.url)


def ranged(client: databento.Historical, **query: Any) -> np.ndarray[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BentoWarning)
        return client.timeseries.get_range(**PARENT | query).to_ndarray()


def rows(world: Path, schema: str, clock: str) -> np.ndarray[Any, Any]:
    """The records of the query's range, from the files themselves."""
    records = np.concatenate([dbn.read(path)[1] for path in sorted((world / schema).iterdir())])
    low, high = (np.datetime64(PARENT[name], "ns").astype(np.int64) for name in ("start", "end"))
    return records[(records[clock] >= low) & (records[clock] < high)]


@pytest.mark.parametrize(
    ("schema", "clock"),
    [("ohlcv-1m", "ts_event"), ("definition", "ts_recv"), ("statistics", "ts_recv")],
)
def test_a_parent_is_every_record_of_the_files(
    client: databento.Historical, small_world: Path, schema: str, clock: str
) -> None:
    received = ranged(client, schema=schema)
    assert digest(received) == digest(rows(small_world, schema, clock))
    count = client.metadata.get_record_count(**PARENT, schema=schema)
    assert count == len(received)
    assert client.metadata.get_billable_size(**PARENT, schema=schema) == received.nbytes
    assert 0 < client.metadata.get_cost(**PARENT, schema=schema) < 1


def test_one_contract_by_symbol_by_id_and_continuous(
    client: databento.Historical, small_world: Path
) -> None:
    everything = rows(small_world, "ohlcv-1m", "ts_event")
    resolve = client.symbology.resolve
    named = resolve(
        "GLBX.MDP3", "MCLH4", "raw_symbol", "instrument_id", "2024-01-10", "2024-02-10"
    )["result"]["MCLH4"]
    (number,) = {int(interval["s"]) for interval in named}
    expected = everything[everything["instrument_id"] == number]
    assert len(expected) > 1000
    for symbols, stype_in in (("MCLH4", "raw_symbol"), (str(number), "instrument_id")):
        assert digest(
            ranged(client, schema="ohlcv-1m", symbols=symbols, stype_in=stype_in)
        ) == digest(expected)
    back = resolve(
        "GLBX.MDP3", str(number), "instrument_id", "raw_symbol", "2024-01-10", "2024-02-10"
    )
    assert [interval["s"] for interval in back["result"][str(number)]] == ["MCLH4"]


def test_continuous_contracts_hold_until_their_rule_says(
    client: databento.Historical, small_world: Path
) -> None:
    def holds(symbol: str) -> list[tuple[str, str, str]]:
        mapping = client.symbology.resolve(
            "GLBX.MDP3", symbol, "continuous", "instrument_id", "2024-01-10", "2024-02-10"
        )
        return [(i["d0"], i["d1"], i["s"]) for i in mapping["result"][symbol]]

    calendar = holds("MCL.c.0")
    # the 19th is its last trade
    assert calendar == [
        ("2024-01-10", "2024-01-20", "42202402"),
        ("2024-01-20", "2024-02-10", "42202403"),
    ]
    # open interest leaves a contract first
    assert [one for _, _, one in holds("MCL.n.0")] == ["42202403", "42202404"]
    by_volume = holds("MCL.v.0")
    assert [one for _, _, one in by_volume] == ["42202402", "42202403"]
    assert holds("MCL.c.1")[0][2] == "42202403"
    everything = rows(small_world, "ohlcv-1m", "ts_event")
    day_before = everything["ts_event"].astype("datetime64[ns]").astype(
        "datetime64[D]"
    ) == np.datetime64(by_volume[1][0]) - np.timedelta64(1, "D")
    near, far = (
        everything["volume"][day_before & (everything["instrument_id"] == one)].sum()
        for one in (42202402, 42202403)
    )
    assert far > near > 0
    bars = ranged(client, schema="ohlcv-1m", symbols="MCL.v.0", stype_in="continuous")
    turn = np.datetime64(by_volume[1][0], "ns").astype(np.int64)
    assert set(bars["instrument_id"][bars["ts_event"] < turn]) == {42202402}
    assert set(bars["instrument_id"][bars["ts_event"] >= turn]) == {42202403}
    frame = client.timeseries.get_range(
        **PARENT | {"symbols": "MCL.c.0", "stype_in": "continuous", "start": "2024-01-19"},
        schema="ohlcv-1h",
    ).to_df()
    assert set(frame["symbol"]) == {"MCL.c.0"}


def test_hours_and_days_are_made_of_minutes(client: databento.Historical) -> None:
    minutes, hours = (
        ranged(client, schema=s, symbols="MCLH4", stype_in="raw_symbol")
        for s in ("ohlcv-1m", "ohlcv-1h")
    )
    bucket = minutes["ts_event"] // 3_600_000_000_000
    assert (np.unique(bucket) * 3_600_000_000_000 == hours["ts_event"]).all()
    assert minutes["volume"].sum() == hours["volume"].sum()
    first = minutes[bucket == bucket[0]]
    assert (hours[0]["open"], hours[0]["close"]) == (first["open"][0], first["close"][-1])
    assert (hours[0]["high"], hours[0]["low"]) == (first["high"].max(), first["low"].min())


def test_the_books_of_a_world_are_made_on_request_and_agree(
    client: databento.Historical, small_world: Path
) -> None:
    before = sorted(small_world.rglob("*"))
    day = {
        "start": "2024-01-16T23:00",
        "end": "2024-01-17T23:00",
        "symbols": "MCL.v.0",
        "stype_in": "continuous",
    }
    ten, one, trades, tbbo, seconds, minutes, snapshots = (
        ranged(client, schema=schema, **day)
        for schema in ("mbp-10", "mbp-1", "trades", "tbbo", "ohlcv-1s", "ohlcv-1m", "bbo-1m")
    )
    assert (ten["ts_recv"] == one["ts_recv"]).all()
    assert (ten["bid_px_00"] == one["bid_px_00"]).all()
    assert (one["bid_px_00"] < one["ask_px_00"]).all()
    assert len(trades) == len(tbbo) == (one["action"] == b"T").sum()
    assert trades["size"].sum() == seconds["volume"].sum() == minutes["volume"].sum()
    assert (seconds["high"].max(), seconds["low"].min()) == (
        minutes["high"].max(),
        minutes["low"].min(),
    )
    assert len(snapshots) <= 1380
    assert (snapshots["ts_recv"] % 60_000_000_000 == 0).all()
    assert sorted(small_world.rglob("*")) == before


def test_metadata(client: databento.Historical) -> None:
    ask = client.metadata
    assert ask.list_datasets() == ["GLBX.MDP3"]
    assert {"definition", "ohlcv-1m", "statistics", "ohlcv-1d", "mbp-10", "trades"} <= set(
        ask.list_schemas("GLBX.MDP3")
    )
    assert {"name": "ts_event", "type": "uint64"} in ask.list_fields("ohlcv-1m", "dbn")
    assert ask.list_publishers()[0]["dataset"] == "GLBX.MDP3"
    assert set(ask.list_unit_prices("GLBX.MDP3")[0]["unit_prices"]) == set(
        ask.list_schemas("GLBX.MDP3")
    )
    with pytest.warns(BentoWarning, match="SYNTHETIC DATA"):
        assert ask.get_dataset_range("GLBX.MDP3")["start"] == "2024-01-01T00:00:00.000000000Z"
    conditions = ask.get_dataset_condition(
        "GLBX.MDP3", start_date="2024-01-16", end_date="2024-01-18"
    )
    assert [(day["date"], day["condition"]) for day in conditions] == [
        ("2024-01-16", "available"),
        ("2024-01-17", "degraded"),
        ("2024-01-18", "available"),
    ]
    with pytest.warns(BentoWarning, match=r"reduced quality: 2024-01-17 \(degraded\)"):
        client.timeseries.get_range(**PARENT, schema="ohlcv-1d")


def test_limit_is_honoured(client: databento.Historical) -> None:
    assert len(ranged(client, schema="ohlcv-1m", limit=1234)) == 1234
    assert client.metadata.get_record_count(**PARENT, schema="ohlcv-1m", limit=1234) == 1234


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (
            {"dataset": "GLBX.MDP4"},
            422,
            "Dataset GLBX.MDP4 does not exist; did you mean 'GLBX.MDP3'",
        ),
        ({"schema": "mbo"}, 422, "data_schema_not_supported"),
        ({"end": "2030-01-01"}, 422, "data_end_after_available_end"),
        ({"start": "2010-01-01"}, 422, "data_start_before_available_start"),
        ({"end": "2024-01-10"}, 422, "data_time_range_start_on_or_after_end"),
        ({"symbols": "NG.FUT"}, 422, "symbology_invalid_request"),
    ],
)
def test_impossible_questions(
    client: databento.Historical, change: dict[str, str], status: int, words: str
) -> None:
    with pytest.raises(databento.BentoClientError, match=words) as refused:
        client.timeseries.get_range(**PARENT | {"schema": "ohlcv-1m"} | change)
    assert refused.value.http_status == status
    assert "payload" in (refused.value.json_body or {})["detail"]


@pytest.mark.parametrize("status", [401, 402, 403, 408, 422, 429, 500, 503, 504])
def test_scripted_refusals(vendor: Vendor, client: databento.Historical, status: int) -> None:
    vendor.faults.add(f"status={status},times=1,retry_after=3")
    kind = databento.BentoServerError if status >= 500 else databento.BentoClientError
    with pytest.raises(kind) as refused:
        client.metadata.get_record_count(**PARENT, schema="ohlcv-1m")
    assert refused.value.http_status == status
    assert refused.value.headers["Retry-After"] == "3"
    assert client.metadata.get_record_count(**PARENT, schema="ohlcv-1m") > 0  # only once


def test_a_key_can_be_asked_for(
    small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pair.cert))
    assert pair.key.stat().st_mode & 0o077 == 0
    assert certificate(tmp_path) == pair
    with serving(small_world, pair, keys=frozenset({"db-right"})) as vendor:
        assert databento.Historical("db-right", gateway=vendor.url).metadata.list_datasets() == [
            "GLBX.MDP3"
        ]
        with pytest.raises(databento.BentoClientError, match="Authentication failed"):
            databento.Historical("db-wrong", gateway=vendor.url).metadata.list_datasets()
        trusting = ssl.create_default_context(cafile=str(pair.cert))
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{vendor.url}/v0/metadata.list_datasets", context=trusting)
        with pytest.raises(StoreError, match=r"cannot listen on 127.0.0.1:\d+"):  # noqa: SIM117
            with serving(small_world, pair, port=int(vendor.url.rsplit(":", 1)[1])):
                pass


def test_bodies_can_be_spoiled(vendor: Vendor, client: databento.Historical) -> None:
    later = PARENT | {"schema": "ohlcv-1m", "start": "2024-01-20"}
    whole = len(ranged(client, **later))
    vendor.faults.add("truncate=0.6,times=1")
    with pytest.warns(BentoWarning, match="truncated"):  # the client's silent short read
        assert 0 < len(client.timeseries.get_range(**later).to_ndarray()) < whole
    vendor.faults.add("short=7,times=1")
    assert len(ranged(client, **later)) == whole - 7
    for fault in ("drop=0.5,times=1", "garbage,times=1", "empty,times=1"):
        vendor.faults.add(fault)
        with pytest.raises((databento.BentoError, ValueError)):
            ranged(client, **later)
    vendor.faults.add("slow=0.02,times=1")
    began = time.monotonic()
    assert len(ranged(client, **later)) == whole
    assert time.monotonic() - began > 0.3


def test_the_vendors_limits_hold(
    small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(small_world, tmp_path) as vendor:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / ".cache" / "gateway" / "cert.pem"))
        client = databento.Historical("db-x", gateway=vendor.url)
        with pytest.raises(
            databento.BentoClientError, match="More than 20 metadata requests in 1 s"
        ) as refused:
            [client.metadata.list_datasets() for _ in range(200)]
    assert refused.value.headers["Retry-After"] == "1"
    assert len(vendor.served) >= 21


def test_batch_jobs(vendor: Vendor, client: databento.Historical, tmp_path: Path) -> None:
    direct = ranged(client, schema="ohlcv-1m")
    job = client.batch.submit_job(**PARENT, schema="ohlcv-1m", split_duration="month")
    assert job["state"] == "queued"
    until(lambda: client.batch.get_job_details(job["id"])["state"] == "done")
    assert [j["id"] for j in client.batch.list_jobs()] == [job["id"]]
    assert client.batch.list_jobs(short=True)[0].keys() == {"id", "state", "ts_received"}
    names = [file["filename"] for file in client.batch.list_files(job["id"])]
    assert names == [
        f"glbx-mdp3-{span}.ohlcv-1m.dbn.zst" for span in ("20240110-20240131", "20240201-20240209")
    ] + ["metadata.json"]
    zipped = sorted(client.batch.download(job["id"], tmp_path / "zip"))
    together = np.concatenate([dbn.read(path)[1] for path in zipped if path.suffix == ".zst"])
    assert digest(together) == digest(direct)
    half = tmp_path / "one" / job["id"] / names[0]  # a download that was cut resumes by Range
    half.parent.mkdir(parents=True)
    content = next(path for path in zipped if path.name == names[0]).read_bytes()
    half.write_bytes(content[:1000])
    (single,) = client.batch.download(job["id"], tmp_path / "one", filename_to_download=names[0])
    assert digest(single.read_bytes()) == digest(content)
    assert len(vendor.sales) > 1  # paid at submission
    with pytest.raises(databento.BentoClientError, match="There is no job"):
        client.batch.list_files("GLBX-0")


def test_recorded_files_are_served_as_they_are(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    for path in (shared_data / "databento_python_apache2").glob("GLBX*.dbn.zst"):
        shutil.copy(path, folder)
    with gateway(folder, tmp_path) as vendor:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / ".cache" / "gateway" / "cert.pem"))
        client = databento.Historical("db-x", gateway=vendor.url)
        spans: Any = client.metadata.get_dataset_range("GLBX.MDP3")["schema"]
        assert {"mbp-1", "mbp-10", "trades", "bbo-1m", "ohlcv-1s"} <= spans.keys()
        for schema in ("mbp-1", "mbp-10", "trades", "ohlcv-1m"):
            words = {"dataset": "GLBX.MDP3", "symbols": "ESH1", "schema": schema, **spans[schema]}
            received = client.timeseries.get_range(**words).to_ndarray()
            assert digest(received) == digest(
                dbn.read(folder / f"GLBX.MDP3__test_data.{schema}.dbn.zst")[1]
            )
            assert client.metadata.get_record_count(**words) == len(received) == 4


def test_faults_are_read_strictly(tmp_path: Path) -> None:
    assert parse("truncate=0.25,times=2").value == 0.25
    for text, words in (
        ("truncat", "unknown fault 'truncat'; did you mean 'truncate'"),
        (
            "drop,time=1",
            "unknown condition 'time' of the fault 'drop,time=1'; did you mean 'times'",
        ),
        ("drop=half", "is no number"),
    ):
        with pytest.raises(DataError, match=words):
            parse(text)
    with pytest.raises(DataError, match="holds no DBN file"):  # noqa: SIM117
        with gateway(tmp_path, tmp_path):
            pass


def test_the_doctor_asks_whether_a_key_is_valid(small_world: Path, tmp_path: Path) -> None:
    """At a gateway that knows one key: that one, another, and when it is gone."""
    key, other = "db-" + "a1B2c" * 5 + "wxyz", "db-" + "z" * 29
    with gateway(small_world, tmp_path, keys=frozenset({key})) as vendor:
        url, ca = vendor.url, tmp_path / CERTIFICATE
        good, bad = doctor._vendor_key(key, url, ca), doctor._vendor_key(other, url, ca)
        assert sold(vendor) == Counter()
    assert (good.level, bad.level) == ("ok", "fail")
    assert "is valid; data until 2024-02-" in good.detail
    assert bad.remedy
    assert doctor._vendor_key(key, url, ca).level == "note"
    assert key not in str(good)
    assert other not in str(bad)
