"""One table of the spellings of vendors and platforms, each asked by itself."""

from __future__ import annotations

from datetime import date

import pytest

from mcl.market import symbols
from mcl.market.symbols import Kind

ON = date(2024, 3, 1)
APRIL, JUNE = "MCL 2024-04", "MCL 2024-06"
SPELLINGS: dict[str, str | Kind] = {
    # the exchange, and with more digits of the year
    "MCLJ4": APRIL,
    "MCLJ24": APRIL,
    "MCLJ2024": APRIL,
    "mclj24": APRIL,
    "MCL J24": APRIL,
    "MCL-J24": APRIL,
    "MCL_J24": APRIL,
    # months as names and numbers
    "MCL APR24": APRIL,
    "MCL APR 24": APRIL,
    "MCL APR'24": APRIL,
    "MCL APR 2024": APRIL,
    "MCL JUN24": JUNE,
    "MCL 04-24": APRIL,  # NinjaTrader
    "MCL 202404": APRIL,  # Interactive Brokers
    "MCL-202404": APRIL,
    "MCL202404": APRIL,
    # with an exchange, or a mark of the platform
    "NYMEX:MCLJ2024": APRIL,  # TradingView
    "NYMEX_DL:MCLJ2024": APRIL,
    "/MCLJ24": APRIL,  # thinkorswim
    "/MCLJ24:XNYM": APRIL,
    "@MCLJ24": APRIL,  # TradeStation
    "QMCLJ24": APRIL,  # IQFeed
    "F.US.MCLJ24": APRIL,  # CQG
    "MCLM24.NYM": JUNE,  # Yahoo
    "MCLM2024.NYM": JUNE,
    "MCLJ24-NYM": APRIL,
    "MCLJ2024-NYMEX": APRIL,
    "MCLJ24:NYMEX": APRIL,
    "MCLJ24 Comdty": APRIL,  # Bloomberg
    # continuous series name no contract
    "MCL": Kind.CONTINUOUS,
    "/MCL": Kind.CONTINUOUS,
    "@MCL": Kind.CONTINUOUS,
    "NYMEX:MCL1!": Kind.CONTINUOUS,
    "NYMEX_DL:MCL1!": Kind.CONTINUOUS,
    "MCL2!": Kind.CONTINUOUS,
    "MCL=F": Kind.CONTINUOUS,
    "MCL.F": Kind.CONTINUOUS,  # Stooq
    "MCLY00": Kind.CONTINUOUS,  # Barchart
    "MCL*1": Kind.CONTINUOUS,
    "MCLc1": Kind.CONTINUOUS,  # Refinitiv
    "MCL.c.0": Kind.CONTINUOUS,  # Databento
    "MCL.v.0": Kind.CONTINUOUS,
    "MCL.FUT": Kind.CONTINUOUS,
    "MCL ##-##": Kind.CONTINUOUS,  # NinjaTrader
    "MCL#C": Kind.CONTINUOUS,
    "MCL CONT": Kind.CONTINUOUS,
    "F.US.MCL": Kind.CONTINUOUS,
    # spreads
    "MCLJ4-MCLK4": Kind.SPREAD,
    "MCLJ24-MCLK24": Kind.SPREAD,
    "MCLJ24-K24": Kind.SPREAD,
    "MCL:BF J4-K4-M4": Kind.SPREAD,
    "UD:1V: VT 0209996401": Kind.SPREAD,
    # other products, and what nobody can read
    "CLJ24": Kind.OTHER,
    "MGCJ24": Kind.OTHER,
    "C:MCLJ24": Kind.OTHER,
    "MCL 2024-04-19": Kind.OTHER,
    "MCL 04/24": Kind.OTHER,
    "MCLA24": Kind.OTHER,  # A is no month
    "": Kind.OTHER,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_means(spelling: str) -> None:
    meaning = symbols.meaning(spelling, "MCL", ON)
    assert (meaning if isinstance(meaning, Kind) else meaning.name) == SPELLINGS[spelling]


@pytest.mark.parametrize(
    ("spelling", "on", "contract"),
    [
        # one digit: the nearest decade in which the contract had not expired a year before
        ("CLJ4", date(2004, 3, 1), "CL 2004-04"),
        ("CLJ4", date(2014, 3, 1), "CL 2014-04"),
        ("CLJ4", date(2024, 3, 1), "CL 2024-04"),
        ("CLJ4", date(2025, 1, 2), "CL 2024-04"),  # expired within the year: old bars of it
        ("CLJ4", date(2026, 1, 2), "CL 2034-04"),
        ("CLZ9", date(2020, 1, 2), "CL 2019-12"),
        ("CLF0", date(2019, 12, 2), "CL 2020-01"),
        # two digits: the nearest century
        ("CLJ24", date(2014, 3, 1), "CL 2024-04"),
        ("CLJ04", date(2004, 3, 1), "CL 2004-04"),
        ("CLJ99", date(1999, 3, 1), "CL 1999-04"),
        ("CL APR99", date(1999, 3, 1), "CL 1999-04"),
        ("CL 04-99", date(2001, 3, 1), "CL 1999-04"),
        # four digits say it
        ("CLJ2014", date(2024, 3, 1), "CL 2014-04"),
        ("NYMEX:CLJ2034", date(2024, 3, 1), "CL 2034-04"),
        ("CLM24.NYM", date(2024, 3, 1), "CL 2024-06"),
        ("QCLJ24", date(2024, 3, 1), "CL 2024-04"),
    ],
)
def test_the_decade_of_a_short_year(spelling: str, on: date, contract: str) -> None:
    meaning = symbols.meaning(spelling, "CL", on)
    assert not isinstance(meaning, Kind)
    assert meaning.name == contract
