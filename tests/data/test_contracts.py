"""The contract master: only outrights, known when received, and an id means what it was last
defined as.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from mcl.data import dbn
from mcl.market import contract_master
from mcl.market.contract_master import EXCLUDED, UNKNOWN


def ns(text: str) -> int:
    return int(pd.Timestamp(text, tz="UTC").value)


def defined(symbol: str, instrument_id: int, at: str, expires: str, **facts: object) -> dbn.Records:
    record = dbn.blank("definition", 1)
    stated = {
        "asset": "MCL",
        "security_type": "FUT",
        "instrument_class": "F",
        "user_defined_instrument": "N",
    } | facts
    month = pd.Timestamp(expires) + pd.DateOffset(months=1)
    record["raw_symbol"], record["instrument_id"], record["ts_recv"] = (
        symbol.encode(),
        instrument_id,
        ns(at),
    )
    record["expiration"], record["maturity_year"], record["maturity_month"] = (
        ns(expires),
        month.year,
        month.month,
    )
    for name, value in stated.items():
        record[name] = value.encode() if isinstance(value, str) else value
    return record


MCLG6 = defined("MCLG6", 1, "2025-11-02", "2026-01-16 19:30")
MCLH6 = defined("MCLH6", 2, "2025-12-05", "2026-02-19 19:30")


@pytest.mark.parametrize(
    "other",
    [
        defined("MCLG6-MCLH6", 9, "2025-11-02", "2026-01-16", instrument_class="S", leg_count=2),
        defined(
            "MCL:BF G6-H6-J6", 9, "2025-11-02", "2026-01-16", instrument_class="S", leg_count=3
        ),
        defined("UD:1N: VT 123", 9, "2025-11-02", "2026-01-16", user_defined_instrument="Y"),
        defined(
            "MCLG6 C7000", 9, "2025-11-02", "2026-01-16", instrument_class="C", security_type="OOF"
        ),
        defined("CLG6", 9, "2025-11-02", "2026-01-20", asset="CL"),
        defined("MCLG6", 9, "2025-11-02", "2026-01-16", leg_count=1),
    ],
    ids=["calendar spread", "butterfly", "user-defined", "option", "other product", "leg"],
)
def test_only_outrights_are_contracts(other: dbn.Records) -> None:
    master = contract_master.from_definitions(np.concatenate([other, MCLG6]), "MCL")
    assert [(c.symbol, c.name, c.last_trade_date) for c in master.contracts] == [
        ("MCLG6", "MCL 2026-02", date(2026, 1, 16))
    ]
    assert list(master.lookup(np.array([9, 1]), np.array([ns("2025-12-01")] * 2))) == [EXCLUDED, 0]


def test_a_contract_is_known_when_its_definition_arrived() -> None:
    again = defined("MCLG6", 1, "2025-11-03", "2026-01-16 19:30")
    master = contract_master.from_definitions(np.concatenate([MCLH6, again, MCLG6]), "MCL")
    assert [c.symbol for c in master.contracts] == ["MCLG6", "MCLH6"]
    assert list(master.listed_at) == [ns("2025-11-02"), ns("2025-12-05")]
    times = np.array([ns("2025-12-04 23:59"), ns("2025-12-05 00:01")])
    assert list(master.lookup(np.array([2, 2]), times)) == [UNKNOWN, 1]


def test_an_id_that_is_used_again_means_the_later_contract_from_then_on() -> None:
    reused = defined("MCLJ6", 1, "2026-02-01 12:00", "2026-03-19 18:30")
    master = contract_master.from_definitions(np.concatenate([MCLG6, reused]), "MCL")
    times = np.array([ns("2026-01-10"), ns("2026-02-01 11:59"), ns("2026-02-01 12:00")])
    assert [master.contracts[i].symbol for i in master.lookup(np.array([1, 1, 1]), times)] == [
        "MCLG6",
        "MCLG6",
        "MCLJ6",
    ]


def test_the_same_symbol_ten_years_later_is_another_contract() -> None:
    old = defined("MCLG6", 7, "2015-12-01", "2016-01-19 19:30")
    master = contract_master.from_definitions(np.concatenate([MCLG6, old]), "MCL")
    assert [c.name for c in master.contracts] == ["MCL 2016-02", "MCL 2026-02"]
    assert list(
        master.lookup(np.array([7, 1]), np.array([ns("2016-01-04"), ns("2026-01-05")]))
    ) == [0, 1]


def test_without_definitions_the_header_names_the_contract() -> None:
    day = date(2025, 11, 10)
    master = contract_master.from_symbols(
        [("MCLF6", 5, day), ("MCLZ5-MCLF6", 6, day), ("MCLZ5", 4, day)], "MCL"
    )
    assert [c.name for c in master.contracts] == ["MCL 2025-12", "MCL 2026-01"]
    assert list(master.lookup(np.array([4, 5, 6, 8]), np.full(4, ns("2025-11-10 15:00")))) == [
        0,
        1,
        EXCLUDED,
        UNKNOWN,
    ]


def test_a_maturity_that_is_not_stated_is_read_from_the_symbol() -> None:
    record = defined("MCLG6", 1, "2025-11-02", "2026-01-16 19:30")
    record["maturity_year"], record["maturity_month"], record["expiration"] = 65535, 255, 2**64 - 1
    master = contract_master.from_definitions(record, "MCL")
    assert (master.contracts[0].name, master.contracts[0].last_trade_date) == (
        "MCL 2026-02",
        date(2026, 1, 16),
    )
