"""Facts about the instruments: nobody can search over them.

Sources: CME "Micro WTI Crude Oil futures FAQ" (17 May 2021), NYMEX rulebook chapters for CL and
MCL.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MONTH_CODES = "FGHJKMNQUVXZ"  # January … December


@dataclass(frozen=True)
class Instrument:
    """A futures product. `tick_value_usd` is what one contract gains when the price rises by one
    tick.
    """

    symbol: str
    name: str
    exchange: str
    multiplier: float  # units of the underlying per contract
    tick_size: float  # price units
    currency: str = "USD"

    @property
    def tick_value_usd(self) -> float:
        return round(self.multiplier * self.tick_size, 10)

    def price(self, ticks: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Whole ticks in price units: the double nearest to each, so that equal prices are equal
        bits. A unit is whole ticks.
        """
        prices: npt.NDArray[np.float64] = ticks / float(round(1 / self.tick_size))
        return prices


@dataclass(frozen=True)
class Contract:
    """A dated future, for instance MCLG6 = MCL 2026-02. `symbol` is the raw exchange symbol;
    identity is (root, year, month).
    """

    symbol: str
    root: str
    year: int
    month: int
    last_trade_date: date

    @property
    def name(self) -> str:
        return f"{self.root} {self.year}-{self.month:02d}"


MCL = Instrument("MCL", "Micro WTI Crude Oil", "NYMEX", 100.0, 0.01)
CL = Instrument("CL", "WTI Crude Oil", "NYMEX", 1000.0, 0.01)
GC = Instrument("GC", "Gold", "COMEX", 100.0, 0.10)
MGC = Instrument("MGC", "Micro Gold", "COMEX", 10.0, 0.10)
ES = Instrument("ES", "E-mini S&P 500", "CME", 50.0, 0.25)
MES = Instrument("MES", "Micro E-mini S&P 500", "CME", 5.0, 0.25)
INSTRUMENTS = {i.symbol: i for i in (MCL, CL, GC, MGC, ES, MES)}
SETTLED_IN_CASH = frozenset(["MCL", "ES", "MES"])
DELIVERED_AFTER_LAST_TRADE = frozenset(["CL"])  # no notice comes before
# products whose holders may get a delivery notice while the contract still trades
DELIVERED_BY_NOTICE = frozenset(["GC", "MGC"])
# the months that are traded actively; a roll passes over the others. Others have no quiet months.
ACTIVE_MONTHS = {"GC": (2, 4, 6, 8, 10, 12), "MGC": (2, 4, 6, 8, 10, 12)}
