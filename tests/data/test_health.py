"""`mcl data check`: what was damaged on purpose is found, named and placed; a clean world has
nothing to report.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Chromium

from mcl.base.errors import DataError
from mcl.cli import main
from mcl.config import schema
from mcl.data import loader
from mcl.data.coverage import Coverage
from mcl.data.data_note import data_note
from mcl.data.loader import load
from mcl.data.quality import Finding, Health, examine
from mcl.data.sources.eia import LIMITS, EiaData
from mcl.data.sources.lean import LeanData
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import defects, generator
from mcl.market.calendar import to_day
from mcl.report.health import health_page

from .conftest import FIRST, LAST, databento_data, rewrite

SPEC = SyntheticData(source="synthetic", seed=11)


@pytest.fixture(scope="module")
def blemished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generator.generate(
        SPEC,
        tmp_path_factory.mktemp("blemished"),
        first=FIRST,
        last=LAST,
        blemishes=defects.DEFECTS,
    )


@pytest.fixture(scope="module")
def health(blemished: Path, tmp_path_factory: pytest.TempPathFactory) -> Health:
    return examine(databento_data(blemished), tmp_path_factory.mktemp("root"))


def finding(health: Health, kind: str) -> Finding:
    return next(f for f in health.findings if f.kind == kind)


def test_a_clean_world_is_fit(small_world: Path, tmp_path: Path) -> None:
    data = databento_data(small_world, roll=schema.Roll(rule="calendar"))
    judged = examine(data, tmp_path)
    assert {f.severity for f in judged.findings} <= {"note"}
    assert judged.gaps == ()
    assert judged.coverage is not None
    assert 0.90 < judged.coverage.share < 0.99
    assert judged.bars is not None
    assert np.array_equal(judged.bars.close, load(data, tmp_path).close)


def test_a_rule_that_its_deadline_decides_is_a_warning(small_world: Path, tmp_path: Path) -> None:
    by_volume = schema.Roll(rule="volume", sessions_before_last_trade=3)
    judged = examine(databento_data(small_world, roll=by_volume), tmp_path)
    entry = finding(judged, "forced roll")
    assert (entry.severity, entry.count) == ("warning", 2)
    assert "roll@data.roll=calendar" in entry.action
    assert judged.bars is not None
    bars = load(databento_data(small_world, roll=by_volume), tmp_path)
    assert "2 of 2 rolls were decided by their deadline, not by volume" in data_note(bars)
    calendar = databento_data(small_world, roll=schema.Roll(rule="calendar"))
    assert "deadline" not in data_note(load(calendar, tmp_path))


@pytest.mark.parametrize(
    ("kind", "severity", "place"),
    [
        ("duplicate", "error", "MCLH4 at 2024-02-01"),
        ("off tick", "error", "MCLH4 at 2024-02-02"),
        ("missing session", "error", "2024-02-06"),
        ("gap", "warning", "2024-01-31: 09:00 to 09:30 New York (30 minutes)"),
        ("degraded", "warning", "2024-01-29"),
        ("outlier", "warning", "MCLH4 2024-02-05"),
    ],
)
def test_every_blemish_is_found_once_and_placed(
    health: Health, kind: str, severity: str, place: str
) -> None:
    entry = finding(health, kind)
    assert (entry.severity, entry.count) == (severity, 1)
    assert place in entry.places[0]
    assert entry.action


def test_nothing_else_is_accused(health: Health) -> None:
    kinds = {
        "convention",
        "duplicate",
        "off tick",
        "missing session",
        "gap",
        "degraded",
        "outlier",
        "forced roll",
    }
    assert {f.kind for f in health.findings} <= kinds
    severities = [f.severity for f in health.findings]
    assert severities == sorted(severities, key=("error", "warning", "note").index)


def test_the_build_refuses_what_the_check_calls_an_error(blemished: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"MCLH4 at 2024-02-02 .*: a price is off the tick"):
        load(databento_data(blemished), tmp_path)


def test_coverage_is_a_plain_count(health: Health) -> None:
    coverage, bars = health.coverage, health.bars
    assert coverage is not None
    assert bars is not None
    assert coverage.covered.sum() == len(bars)
    row = int(np.searchsorted(coverage.sessions, to_day(date(2024, 1, 31))))
    slots = coverage.by_slot()
    assert slots[row, 30] == 0  # 09:00
    assert slots[row, 31] == 1
    # closes at 14:30
    assert np.isnan(slots[int(np.searchsorted(coverage.sessions, to_day(date(2024, 1, 15)))), -1])


def test_a_session_without_bars_is_no_gap(health: Health) -> None:
    assert to_day(date(2024, 2, 6)) not in {g.session for g in health.gaps}


def test_thin_hours_are_not_gaps() -> None:
    rng = np.random.default_rng(3)
    probability = np.where(np.arange(1380) < 480, 0.3, 0.99)
    has_bar = rng.random((60, 1380)) < probability
    coverage = Coverage(np.arange(60), np.arange(60) * 10**14, 60, has_bar, np.ones_like(has_bar))
    assert coverage.gaps() == ()
    has_bar[7, 900:912] = False
    [gap] = coverage.gaps()
    assert gap.session == 7
    assert gap.minutes == pytest.approx(12, abs=2)


def test_degraded_sessions_can_be_left_out(
    world_copy: Path, tmp_path: Path, small_world: Path
) -> None:
    days = [
        {"date": d, "condition": c}
        for d, c in (
            ("2024-01-16", "degraded"),
            ("2024-01-17", "available"),
            ("2024-01-28", "degraded"),
        )
    ]
    (world_copy / "condition.json").write_text(json.dumps(days))
    whole, cut = (
        load(databento_data(world_copy, exclude_degraded=flag), tmp_path) for flag in (False, True)
    )
    plain = load(databento_data(small_world), tmp_path)
    assert whole.fingerprint == plain.fingerprint != cut.fingerprint
    # Sunday the 28th belongs to Monday's session
    absent = {to_day(date(2024, 1, 16)), to_day(date(2024, 1, 29))}
    assert set(whole.session) - set(cut.session) == absent
    assert cut.roll.sum() == plain.roll.sum()
    assert loader.dataset_facts(databento_data(world_copy), tmp_path)["conditions"] == {
        "2024-01-16": "degraded",
        "2024-01-28": "degraded",
    }
    rows = np.isin(plain.session, list(absent))
    assert np.array_equal(plain.close[~rows][-5000:], cut.close[-5000:])


def test_a_roll_on_a_degraded_day_happens_at_the_next_open(
    world_copy: Path, tmp_path: Path, small_bars: Any
) -> None:
    roll = small_bars.roll_table["session"][0].date()
    (world_copy / "condition.json").write_text(
        json.dumps([{"date": str(roll), "condition": "degraded"}])
    )
    cut = load(databento_data(world_copy, exclude_degraded=True), tmp_path)
    later = cut.roll_table["session"][0].date()
    at = int(np.flatnonzero(cut.roll)[0])
    assert later > roll
    assert cut.session[at] == to_day(later)
    assert to_day(roll) not in cut.session
    assert np.isfinite(cut.outgoing_open[at])


@pytest.mark.parametrize("word", ["missing", "pending"])
def test_a_day_that_the_vendor_does_not_have_refuses_the_build(
    world_copy: Path, tmp_path: Path, word: str
) -> None:
    (world_copy / "condition.json").write_text(
        json.dumps([{"date": "2024-01-16", "condition": word}])
    )
    with pytest.raises(DataError, match=rf"has no data yet for 2024-01-16 \({word}\)"):
        load(databento_data(world_copy), tmp_path)
    judged = examine(databento_data(world_copy), tmp_path)
    assert [(f.severity, f.kind) for f in judged.findings] == [("error", "unreadable")]


def test_a_list_of_conditions_that_is_none(world_copy: Path, tmp_path: Path) -> None:
    (world_copy / "condition.json").write_text('{"2024-01-16": "degraded"}')
    with pytest.raises(DataError, match=r"condition.json is no list of dates and conditions"):
        load(databento_data(world_copy), tmp_path)


def test_prices_of_the_wrong_scale(world_copy: Path, tmp_path: Path) -> None:
    def cents(records: Any) -> None:
        for name in ("open", "high", "low", "close"):
            records[name] *= 100

    rewrite(world_copy / "ohlcv-1m" / "2024-01.dbn.zst", cents)
    with pytest.raises(
        DataError,
        match=r"2024-01.dbn.zst: prices are around \d+, but MCL trades between 1 and 1000",
    ):
        load(databento_data(world_copy), tmp_path)
    assert finding(examine(databento_data(world_copy), tmp_path), "price scale").severity == "error"


def test_definitions_of_another_contract_size(world_copy: Path, tmp_path: Path) -> None:
    rewrite(
        world_copy / "definition" / "2024-01.dbn.zst",
        lambda r: r.__setitem__("min_price_increment", 25_000_000),
    )
    with pytest.raises(DataError, match=r"gives a tick of 0.025, but MCL has 0.01"):
        load(databento_data(world_copy), tmp_path)


def test_a_truncated_file_does_not_hide_the_rest(world_copy: Path, tmp_path: Path) -> None:
    path = world_copy / "ohlcv-1m" / "2024-02.dbn.zst"
    path.write_bytes(path.read_bytes()[:-4000])
    judged = examine(databento_data(world_copy), tmp_path)
    assert "truncated" in finding(judged, "unreadable").text
    assert judged.bars is not None
    assert len(judged.bars) > 20_000  # January


def test_a_damaged_store_is_an_error(small_world: Path, tmp_path: Path) -> None:
    data = databento_data(small_world)
    folder = loader.stored_dataset(data, tmp_path).folder
    stats = folder / "statistics.parquet"
    stats.write_bytes(stats.read_bytes() + b"x")
    assert finding(examine(data, tmp_path), "store").places == ("statistics.parquet",)


def test_the_page_says_it_all_and_the_verb_exits_with_one(
    blemished: Path,
    health: Health,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = health_page(health, title="Check", data_note="SYNTHETIC DATA")
    for text in (
        "Not fit",
        "2024-01-31",
        "09:00 to 09:30",
        "exclude_degraded",
        "chart-coverage",
        "SYNTHETIC DATA",
    ):
        assert text in page
    (tmp_path / "conf").symlink_to(Path(__file__).parents[2] / "conf")
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    assert (
        main.main(["--json", "data", "check", "data=mcl_databento", f"data.path={blemished}"]) == 1
    )
    answer = json.loads(capsys.readouterr().out)
    assert (answer["errors"], answer["warnings"]) == (4, 3)
    assert "SYNTHETIC DATA" in Path(answer["report"]).read_text()


def test_real_settlements_can_be_judged(tmp_path: Path) -> None:
    rule = schema.Roll(rule="calendar", sessions_before_last_trade=0)
    daily = examine(EiaData(source="eia", roll=rule), tmp_path)
    assert daily.count("error") == 0
    absent = finding(daily, "missing session")  # last trade dates of 1983 and 1984
    assert (absent.severity, absent.count) == ("warning", 21)
    assert daily.coverage is None
    page = health_page(daily, title="Daily", data_note=LIMITS)
    assert "chart-coverage" not in page
    assert LIMITS in page


def test_real_gold_can_be_judged(shared_data: Path, tmp_path: Path) -> None:
    gold = LeanData(
        source="lean", instrument="GC", path=str(shared_data / "lean_apache2"), timezone="UTC"
    )
    judged = examine(gold, tmp_path)
    assert judged.count("error") == 0
    assert finding(judged, "statistics").severity == "note"


def test_the_page_shows_what_was_found_to_everybody(
    health: Health, browser: Chromium, tmp_path: Path
) -> None:
    browser.show(tmp_path, health_page(health, title="Check", data_note="SYNTHETIC DATA"))
    text = browser.run(
        "return [...document.querySelectorAll('#findings tbody tr')].map(r => [...r.cells].slice(0,"
        " 3).map(c => c.textContent))"
    )
    assert text == [[f.severity, f.kind, f"{f.count:,}"] for f in health.findings]
    assert health.coverage is not None
    assert health.bars is not None
    heat = "document.getElementById('chart-coverage').data[0]"
    shares = np.array(browser.run(f"return {heat}.z"), float)
    assert np.allclose(shares, health.coverage.by_slot(1800), atol=0.0005, equal_nan=True)
    rolls = browser.run(
        "return [...document.querySelectorAll('#rolls tbody tr')].map(r => [r.cells[1].textContent,"
        " r.cells[2].textContent])"
    )
    assert rolls == health.bars.roll_table[["from_symbol", "to_symbol"]].to_numpy().tolist()
    browser.examine("health")
