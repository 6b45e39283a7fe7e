"""Times as a TWS writes and reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from mcl.base.instants import NS
from mcl.simulators.tws.contracts import TIME_ZONE

_ZONE = ZoneInfo(TIME_ZONE)


def moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // NS, UTC)


def local_time(ns: int) -> str:
    """`20260811 09:00:00 US/Eastern`."""
    return f"{moment(ns).astimezone(_ZONE):%Y%m%d %H:%M:%S} {TIME_ZONE}"


def instant(text: str) -> int:
    """`20260811-13:00:00` is UTC, `20260811 09:00:00 US/Eastern` has its zone, and without one the
    zone of the TWS is meant. Nanoseconds. ValueError for anything else.
    """
    stamp, zone = text[:17], text[17:].strip()
    try:
        place = UTC if stamp[8:9] == "-" else ZoneInfo(zone or TIME_ZONE)
    except (OSError, LookupError) as error:
        raise ValueError(f"{zone!r} is no time zone") from error
    local = datetime.strptime(stamp.replace("-", " "), "%Y%m%d %H:%M:%S")
    return int(local.replace(tzinfo=place).timestamp()) * NS
