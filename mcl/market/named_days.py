"""Days of crude oil that a risk manager asks about by name.

Each is a trade date. `settlements` are those of the nearest contract on the session before and on
the day, as EIA published them; None where EIA published none.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

ROOTS = ("CL", "MCL")


class NamedDay(NamedTuple):
    day: date
    title: str
    event: str
    settlements: tuple[float, float] | None = None  # USD per barrel


NAMED_DAYS = (
    NamedDay(
        date(1990, 8, 6),
        "Embargo on Iraq",
        "the first Monday after Iraq took Kuwait; the United Nations ban its oil",
        (24.49, 28.05),
    ),
    NamedDay(
        date(1991, 1, 17),
        "Desert Storm",
        "the air war begins, reserves are released, and a third of the price is gone",
        (32.0, 21.44),
    ),
    NamedDay(
        date(2001, 9, 24),
        "After September 11",
        "fear of a recession; the largest fall since 1991",
        (25.97, 22.01),
    ),
    NamedDay(
        date(2008, 9, 22),
        "Squeeze at expiry",
        "the October contract's last trade date; the next one gains two fifths as much",
        (104.55, 120.92),
    ),
    NamedDay(
        date(2014, 11, 28),
        "OPEC keeps its output",
        "a half session after Thanksgiving",
        (73.69, 66.15),
    ),
    NamedDay(
        date(2020, 3, 9),
        "Price war",
        "Saudi Arabia cuts its prices at the beginning of the pandemic; a gap over the weekend",
        (41.28, 31.13),
    ),
    NamedDay(
        date(2020, 4, 20),
        "Negative settlement",
        "the day before the May contract's last trade date; storage at Cushing is full",
        (18.27, -37.63),
    ),
    NamedDay(
        date(2020, 4, 21),
        "The day after",
        "the June contract loses almost half; the May contract's last trade date",
        (-37.63, 10.01),
    ),
    NamedDay(
        date(2021, 11, 26),
        "Omicron",
        "news of a variant on a half session after Thanksgiving",
    ),
    NamedDay(
        date(2022, 3, 8),
        "Ban on Russian oil",
        "the United States ban imports; the highest settlement since 2008",
    ),
    NamedDay(
        date(2022, 3, 9),
        "The day after the ban",
        "the largest fall in USD since April 2020",
    ),
    NamedDay(
        date(2025, 6, 23),
        "Relief in the Gulf",
        "an answer to air strikes spares shipping; a fall of 9 % from close to close",
    ),
    NamedDay(
        date(2025, 11, 28),
        "Outage of the exchange",
        "no trade on Globex from 21:47 to 08:30 New York, a cooling failure; a half session",
    ),
)
