"""Converts the account values of a broker to USD, from the account's own currency and at its own
rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

# the type of account that a simulated TWS tells, so that its fills are not taken for those of a
# market
SIMULATED = "SIMULATED"
UNSET = 1e300  # a TWS says 1.797e308 for what it does not know


class Worth(NamedTuple):
    """`rate`: the base currency for one USD, NaN when the account does not tell it. All else in
    USD, NaN for what is not known.
    """

    base: str
    rate: float
    equity_usd: float
    cash_usd: float
    realized_usd: float
    unrealized_usd: float

    def usd(self, amount: float) -> float:
        """An amount of the base currency."""
        return number_or_nan(amount) / self.rate if self.rate > 0 else math.nan


class Margin(NamedTuple):
    """Hold an account after an order, by the broker's what-if, in USD; NaN for what it did not say.
    `reason`: why there is no answer.
    """

    initial_usd: float = math.nan
    maintenance_usd: float = math.nan
    equity_usd: float = math.nan
    reason: str = ""


def margin_after(state: Any, account: Worth) -> Margin:
    """From the library's answer to a what-if, which is in the currency of the account."""
    figures = (state.initMarginAfter, state.maintMarginAfter, state.equityWithLoanAfter)
    initial, maintenance, equity = (account.usd(number_or_nan(figure)) for figure in figures)
    return Margin(initial, maintenance, equity, state.warningText or "")


def is_simulated(values: Iterable[Any]) -> bool:
    """Whether the account's values say that it is one of a simulated TWS."""
    return any(row.tag == "AccountType" and row.value == SIMULATED for row in values)


def worth(values: Iterable[Any]) -> Worth:
    """From the library's rows of (tag, value, currency)."""
    rows = {(row.tag, row.currency): row.value for row in values}
    base = next((currency for tag, currency in rows if tag == "NetLiquidation"), "")
    rate = 1.0 if base in ("", "USD") else number_or_nan(rows.get(("ExchangeRate", "USD")))
    plain = Worth(base, rate if rate > 0 else math.nan, *(math.nan,) * 4)
    totals = [
        plain.usd(number_or_nan(rows.get((tag, base))))
        for tag in ("NetLiquidation", "TotalCashValue")
    ]
    results = [number_or_nan(rows.get((tag, "USD"))) for tag in ("RealizedPnL", "UnrealizedPnL")]
    return Worth(base, plain.rate, *totals, *results)


def number_or_nan(value: Any) -> float:
    """Return a finite number; NaN for an empty, an infinite or an unset one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if abs(number) < UNSET else math.nan
