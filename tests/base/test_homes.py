"""What every part needs has one home in `mcl/base`, and nobody writes it a second time."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mcl.base.back_off import pause_sec
from mcl.base.instants import NS, instant
from mcl.base.undefined import finite, is_undefined
from mcl.base.words import many
from mcl.simulators.tws import checks, stamps

PACKAGE = Path(__file__).resolve().parents[2] / "mcl"
HOMES = {  # what would be a second home -> the modules that may have it
    r"= 1_000_000_000\b": {"base/instants.py"},
    r"\bdatetime\.fromisoformat\(": {"base/instants.py"},
    r"== 1 else '?\"?s'?\"?\}|'s' if ": {"base/words.py"},
    r"isinstance\(\w+, float\) and math\.isnan\(": {"base/undefined.py", "base/differences.py"},
    r"if math\.isfinite\((\w+)\) else None": {"base/undefined.py"},
    r"\* 2(?:\.0)? \*\* min\(|\* 2(?:\.0)? \*\* \(attempt": {"base/back_off.py"},
    r"\bfcntl\b|\bfilelock\b": {"base/files.py"},
    r"\"%Y%m%d %H:%M:%S\"": {"simulators/tws/stamps.py"},
}


@pytest.mark.parametrize("pattern", HOMES)
def test_nothing_is_written_a_second_time(pattern: str) -> None:
    places = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(pattern, path.read_text())
    }
    assert places - HOMES[pattern] == set()


def test_an_instant_without_a_zone_is_utc() -> None:
    noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert instant("2026-01-05T12:00:00") == noon
    assert instant("2026-01-05T07:00:00-05:00") == noon
    assert instant("2026-01-05T12:00:00Z") == noon
    assert instant("2026-01-05T07:00:00-05:00").tzinfo is UTC
    with pytest.raises(ValueError, match="noon"):
        instant("noon")


def test_a_stamp_of_a_tws_without_a_zone_is_in_the_zone_of_the_tws() -> None:
    utc = int(datetime(2026, 8, 11, 13, tzinfo=UTC).timestamp()) * NS
    for text in (
        "20260811-13:00:00",
        "20260811 13:00:00 UTC",
        "20260811 09:00:00 US/Eastern",
        "20260811 09:00:00",
        "20260811 15:00:00 Europe/Zurich",
    ):
        assert stamps.instant(text) == utc, text
        assert checks.instant(text) == utc, text
    assert stamps.local_time(utc) == "20260811 09:00:00 US/Eastern"
    for text in ("tomorrow", "20260811 09:00:00 Middle/Earth", ""):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever strptime says
            stamps.instant(text)
        with pytest.raises(checks.Reject):
            checks.instant(text)


def test_a_pause_doubles_up_to_its_limit() -> None:
    assert [pause_sec(n, 0.5, 3.0) for n in range(6)] == [0.5, 0.5, 1.0, 2.0, 3.0, 3.0]
    assert pause_sec(10_000, 1.0, math.inf) == 2.0**16


def test_numbers_agree_with_their_nouns() -> None:
    assert [many(n, "trial") for n in (0, 1, 2, 1244)] == [
        "0 trials",
        "1 trial",
        "2 trials",
        "1,244 trials",
    ]


def test_what_is_undefined_is_null() -> None:
    assert [is_undefined(value) for value in (None, math.nan, 0.0, "", math.inf)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert [finite(value) for value in (1.5, math.nan, math.inf, -math.inf)] == [
        1.5,
        None,
        None,
        None,
    ]
