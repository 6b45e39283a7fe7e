"""The simulated account: holdings at average cost, cash, margin, and the values that a TWS reports
about them.

This is a second arithmetic on purpose, in USD and by average cost, without `mcl.engine`: a session
compares its book with this account, and a shared line would make both wrong together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mcl.market.account_value import SIMULATED
from mcl.market.instruments import MCL
from mcl.simulators.tws.contracts import Listed


class AccountTerms(NamedTuple):
    """The charges and margins of the broker, per contract. Margins are those of 100 barrels: a
    contract of 1,000 needs ten times as much.
    """

    commission_usd: float = 0.77  # per side
    initial_margin_usd: float = 1_755.0
    maintenance_margin_usd: float = 1_300.0

    def initial(self, listed: Listed) -> float:
        return self.initial_margin_usd * listed.instrument.multiplier / MCL.multiplier

    def maintenance(self, listed: Listed) -> float:
        return self.maintenance_margin_usd * listed.instrument.multiplier / MCL.multiplier


@dataclass
class AccountHolding:
    """`cost` is what the open quantity cost, `gross_cost` the same without commission; both are
    negative for a short.
    """

    listed: Listed
    quantity: int = 0
    cost: float = 0.0
    gross_cost: float = 0.0
    realized: float = 0.0
    mark: float = 0.0

    @property
    def average_cost(self) -> float:
        """Per contract and multiplied, commission included, as TWS reports it."""
        return self.cost / self.quantity if self.quantity else 0.0

    @property
    def value(self) -> float:
        return self.quantity * self.mark * self.listed.instrument.multiplier

    @property
    def unrealized(self) -> float:
        return self.value - self.cost

    def trade(self, quantity: int, price: float, fee: float) -> tuple[float, float | None]:
        """Book a signed quantity. Returns the cash that it moves without the fee, and the realised
        result (None if it only opens).
        """
        worth = price * self.listed.instrument.multiplier
        closing = (
            -max(-abs(quantity), min(abs(quantity), self.quantity))
            if self.quantity * quantity < 0
            else 0
        )
        opening = quantity - closing
        gained, result = 0.0, None
        if closing:
            share = -closing / self.quantity
            gained = -closing * worth - self.gross_cost * share
            result = -closing * worth - self.cost * share - fee * abs(closing)
            self.cost -= self.cost * share
            self.gross_cost -= self.gross_cost * share
            self.realized += result
        self.quantity += quantity
        self.cost += opening * worth + fee * abs(opening)
        self.gross_cost += opening * worth
        self.mark = price
        if self.quantity == 0:
            self.cost = self.gross_cost = 0.0
        return gained, result


@dataclass
class SimulatedAccount:
    """One account; all sums are in USD. Equity = cash + the open result of the holdings, all before
    the commission already paid in cash.

    It is kept, and told of, in the currency `base` at `rate` for one USD; 0: no rate is told.
    """

    name: str
    capital_usd: float
    terms: AccountTerms
    holdings: dict[int, AccountHolding] = field(default_factory=dict)
    cash: float = 0.0
    base: str = "USD"
    rate: float = 1.0

    def __post_init__(self) -> None:
        self.cash = self.capital_usd

    def holding(self, listed: Listed) -> AccountHolding:
        return self.holdings.setdefault(listed.con_id, AccountHolding(listed))

    def trade(self, listed: Listed, quantity: int, price: float) -> tuple[float, float | None]:
        """Returns commission and realised result."""
        fee = self.terms.commission_usd * abs(quantity)
        gained, result = self.holding(listed).trade(quantity, price, self.terms.commission_usd)
        self.cash += gained - fee
        return fee, result

    def correct(self, listed: Listed, quantity: int, was: float, now: float) -> None:
        """A signed quantity that traded at `was` traded at `now` instead."""
        holding, worth = self.holding(listed), quantity * (now - was) * listed.instrument.multiplier
        if holding.quantity * quantity > 0:
            holding.cost += worth
            holding.gross_cost += worth
        else:
            self.cash -= worth
            holding.realized -= worth

    def bust(self, listed: Listed, quantity: int, price: float) -> None:
        """A trade that never was: the quantity goes back at its price, and so does the
        commission.
        """
        gained, _ = self.holding(listed).trade(-quantity, price, -self.terms.commission_usd)
        self.cash += gained + self.terms.commission_usd * abs(quantity)

    @property
    def equity(self) -> float:
        return self.cash + sum(h.value - h.gross_cost for h in self.holdings.values())

    @property
    def realized(self) -> float:
        return sum(h.realized for h in self.holdings.values())

    @property
    def unrealized(self) -> float:
        return sum(h.unrealized for h in self.holdings.values())

    @property
    def initial_margin(self) -> float:
        return sum(abs(h.quantity) * self.terms.initial(h.listed) for h in self.holdings.values())

    @property
    def maintenance_margin(self) -> float:
        return sum(
            abs(h.quantity) * self.terms.maintenance(h.listed) for h in self.holdings.values()
        )

    def moving_values(self) -> dict[str, float]:
        """The figures that change with a price or a fill."""
        available = self.equity - self.initial_margin
        excess = self.equity - self.maintenance_margin
        return {
            "AvailableFunds": available,
            "BuyingPower": available,
            "EquityWithLoanValue": self.equity,
            "ExcessLiquidity": excess,
            "FullAvailableFunds": available,
            "FullExcessLiquidity": excess,
            "FullInitMarginReq": self.initial_margin,
            "FullMaintMarginReq": self.maintenance_margin,
            "GrossPositionValue": 0.0,
            "InitMarginReq": self.initial_margin,
            "LookAheadAvailableFunds": available,
            "LookAheadExcessLiquidity": excess,
            "LookAheadInitMarginReq": self.initial_margin,
            "LookAheadMaintMarginReq": self.maintenance_margin,
            "MaintMarginReq": self.maintenance_margin,
            "NetLiquidation": self.equity,
            "PreviousDayEquityWithLoanValue": self.capital_usd,
            "TotalCashValue": self.cash,
        }

    def ledger_values(self) -> dict[str, float]:
        """The figures kept per currency."""
        return {
            "CashBalance": self.cash,
            "TotalCashBalance": self.cash,
            "ExchangeRate": 1.0,
            "FuturesPNL": self.equity - self.cash,
            "NetLiquidationByCurrency": self.equity,
            "RealizedPnL": self.realized,
            "UnrealizedPnL": self.unrealized,
        }

    def values(self) -> Iterator[tuple[str, str, str]]:
        """(key, value, currency) of everything that TWS sends for account updates, sorted by key as
        TWS does.
        """
        yield from sorted([*self._fixed(), *self.moving()])

    def moving(self) -> Iterator[tuple[str, str, str]]:
        for key, amount in self.moving_values().items():
            yield key, self._in_base(amount), self.base
        yield from self._by_currency()

    def _in_base(self, amount: float) -> str:
        return f"{amount * (self.rate or 1.0):.2f}"

    def _by_currency(self) -> Iterator[tuple[str, str, str]]:
        for key, amount in self.ledger_values().items():
            if key != "ExchangeRate":
                yield key, self._in_base(amount), "BASE"
                yield key, f"{amount:.2f}", "USD"
                continue
            yield key, f"{amount:.2f}", "BASE"
            if self.rate:
                yield (
                    key,
                    (
                        f"{amount * self.rate:.2f}"
                        if self.rate == 1.0
                        else f"{amount * self.rate:.5f}"
                    ),
                    "USD",
                )

    def marked(self) -> Iterator[tuple[str, str, str]]:
        """Yield the values that a new price changes, as far as a TWS sends them between fills."""
        yield "NetLiquidation", self._in_base(self.equity), self.base
        yield "UnrealizedPnL", f"{self.unrealized:.2f}", "USD"

    def _fixed(self) -> Iterator[tuple[str, str, str]]:
        yield "AccountCode", self.name, ""
        yield "AccountReady", "true", ""
        yield "AccountType", SIMULATED, ""
        yield "Cushion", "1", ""
        yield "DayTradesRemaining", "-1", ""
        yield "LookAheadNextChange", "0", ""
        for currency in ("BASE", "USD"):
            yield "AccountOrGroup", self.name, currency
            yield "Currency", currency, currency
            yield "RealCurrency", currency, currency

    def summary(self, tags: str) -> Iterator[tuple[str, str, str, str]]:
        """(account, tag, value, currency) of an account summary; `$LEDGER:ALL` adds the figures per
        currency.
        """
        wanted = tags.split(",")
        for key, value, currency in self._fixed():
            if key in wanted and not currency:
                yield self.name, key, value, ""
        for key, amount in self.moving_values().items():
            if key in wanted:
                yield self.name, key, self._in_base(amount), self.base
        if any(tag.startswith("$LEDGER") for tag in wanted):
            rows = list(self._by_currency())
            for currency in ("USD", "BASE"):
                yield "All", "Currency", currency, currency
                yield from (("All", key, figure, of) for key, figure, of in rows if of == currency)
