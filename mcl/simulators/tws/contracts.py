"""The futures that the simulated TWS lists, and what it says about them. Facts from `mcl.market`
and `mcl.market.calendar`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, lru_cache

from mcl.base.instants import NS
from mcl.market import calendar
from mcl.market.instruments import INSTRUMENTS, MONTH_CODES, Contract, Instrument
from mcl.simulators.tws.messages import Values, number

TIME_ZONE = "US/Eastern"
CONTINUOUS = "CONTFUT"  # the security type of a continuous future
# what this server executes
_ORDER_TYPES = "DAY,GTC,GTD,IOC,LIT,LMT,MIT,MKT,OCA,STP,STPLMT,TRAIL,TRAILLMT,WHATIF"
# Ids that Interactive Brokers is known to use (contract pages and public logs); all others are
# numbered by root and month.
_KNOWN_IDS = {
    ("MCL", 2024, 12): 645904247,
    ("MCL", 2026, 7): 661016559,
    ("MCL", 2027, 7): 666754611,
    ("CL", 2026, 2): 304037410,
    ("CL", 2026, 3): 304037427,
    ("CL", 2026, 6): 296574762,
    ("CL", 2026, 12): 296574787,
    ("CL", 2027, 1): 304037396,
    ("CL", 2027, 2): 304037415,
}


@dataclass(frozen=True, eq=False)
class Listed:
    """A dated contract with the names that a TWS gives it."""

    contract: Contract
    instrument: Instrument
    con_id: int

    @property
    def local_symbol(self) -> str:
        return (
            f"{self.contract.root}{MONTH_CODES[self.contract.month - 1]}{self.contract.year % 10}"
        )

    @property
    def last_trade_date(self) -> str:
        return f"{self.contract.last_trade_date:%Y%m%d}"

    @property
    def month(self) -> str:
        return f"{self.contract.year}{self.contract.month:02d}"

    @property
    def decimals(self) -> int:
        """Digits after the point of a price on the tick grid."""
        text = f"{self.instrument.tick_size:.10f}".rstrip("0")
        return len(text.partition(".")[2])

    def price(self, value: float) -> str:
        """With the digits of the tick (`70.10`), or all of them off the grid."""
        text = f"{value:.{self.decimals}f}"
        return text if abs(float(text) - value) < 1e-9 else repr(value)

    def on_tick(self, price: float) -> bool:
        ticks = price / self.instrument.tick_size
        return abs(ticks - round(ticks)) < 1e-6

    def fields(self) -> Values:
        """The fields that orders, executions and positions share; a new dictionary each time."""
        return dict(self._fields)

    @cached_property
    def _fields(self) -> Values:
        root = self.contract.root
        return {
            "con_id": self.con_id,
            "symbol": root,
            "last_trade_date": self.last_trade_date,
            "multiplier": number(self.instrument.multiplier),
            "exchange": self.instrument.exchange,
            "currency": self.instrument.currency,
            "local_symbol": self.local_symbol,
            "trading_class": root,
        }

    def details(self, req_id: int, today: date, sec_type: str = "FUT") -> Values:
        """A contractDetails message; the trading hours start at `today`."""
        root = self.contract.root
        return self.fields() | {
            "req_id": req_id,
            "sec_type": sec_type,
            "last_trade_date": f"{self.last_trade_date} 14:30:00 {TIME_ZONE}",
            "market_name": root,
            "min_tick": repr(self.instrument.tick_size),
            "order_types": _ORDER_TYPES,
            "valid_exchanges": self.instrument.exchange,
            "under_con_id": _con_id(root, 0, 0),
            "long_name": self.instrument.name,
            "contract_month": self.month,
            "time_zone": TIME_ZONE,
            "trading_hours": _hours(root, today, 18 * 60),
            "liquid_hours": _hours(root, today, 9 * 60 + 30),
            "under_symbol": root,
            "market_rules": "32",
            "real_expiration": self.last_trade_date,
        }


def _con_id(root: str, year: int, month: int) -> int:
    recorded_id = _KNOWN_IDS.get((root, year, month))
    return (
        recorded_id or 700_000_000 + 1_000_000 * sorted(INSTRUMENTS).index(root) + 12 * year + month
    )


@lru_cache(maxsize=64)
def _hours(root: str, today: date, start_minute: int, days: int = 6) -> str:
    """`20260810:1800-20260811:1700;20260815:CLOSED`: each session from `start_minute` of New York
    time to its close.
    """
    open_days = calendar.sessions(today, today + timedelta(days=days + 8), root)
    closes = dict(zip(open_days.dates, open_days.close_ns.tolist(), strict=True))
    spans = []
    for day in (today + timedelta(days=n) for n in range(days)):
        if day not in closes:
            spans.append(f"{day:%Y%m%d}:CLOSED")
            continue
        start = day - timedelta(days=1) if start_minute >= 18 * 60 else day
        end_minute = int(calendar.new_york_ns(closes[day])) // (60 * NS) % 1440
        spans.append(f"{start:%Y%m%d}:{_clock(start_minute)}-{day:%Y%m%d}:{_clock(end_minute)}")
    return ";".join(spans)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}{minute % 60:02d}"


class Listings:
    """All contracts that can be asked for. Serial months of MCL and CL around a day, and whatever
    else is played.
    """

    def __init__(
        self, today: date, played: Iterable[Contract], roots: Iterable[str] = ("MCL", "CL")
    ) -> None:
        played = list(played)
        dated = {(c.root, c.year, c.month): c for c in _serial(today, roots)} | {
            (c.root, c.year, c.month): c for c in played
        }
        self._all = [
            Listed(c, INSTRUMENTS[c.root], _con_id(*key)) for key, c in sorted(dated.items())
        ]
        self._by_id = {listed.con_id: listed for listed in self._all}
        self._played = [self.of(contract) for contract in played]
        self.today = today  # the session that is played; the server moves it

    def by_id(self, con_id: int) -> Listed | None:
        return self._by_id.get(con_id)

    def roots(self) -> list[Listed]:
        """The first listed contract of each root."""
        return list({listed.contract.root: listed for listed in reversed(self._all)}.values())

    def of(self, contract: Contract) -> Listed:
        """The listing of a contract that is played."""
        return self._by_id[_con_id(contract.root, contract.year, contract.month)]

    def find(self, wanted: Values) -> list[Listed]:
        """All that match a contract as a client describes it: empty fields match anything, six
        digits are a contract month.
        """
        if wanted["con_id"]:
            named = self._by_id.get(wanted["con_id"])
            here = named is not None and wanted["exchange"] in {"", named.instrument.exchange}
            return [named] if named is not None and here and self._listed_now(named, wanted) else []
        if wanted.get("sec_type") == CONTINUOUS:
            return self._leading(wanted)
        return [
            listed
            for listed in self._all
            if self._listed_now(listed, wanted) and _matches(listed, wanted)
        ]

    def _leading(self, wanted: Values) -> list[Listed]:
        """The contract that stands for the continuous future of a root: the nearest that is played,
        else the nearest listed.
        """
        dateless = {**wanted, "last_trade_date": "", "include_expired": False}
        live = [
            listed
            for listed in self._all
            if self._listed_now(listed, dateless) and _matches(listed, dateless)
        ]
        played = [listed for listed in live if listed in self._played]
        return sorted(played or live, key=lambda listed: listed.contract.last_trade_date)[:1]

    def _listed_now(self, listed: Listed, wanted: Values) -> bool:
        return bool(wanted.get("include_expired")) or not self.expired(listed)

    def expired(self, listed: Listed) -> bool:
        """Its last trade date is before the session that is played."""
        return listed.contract.last_trade_date < self.today


def _serial(today: date, roots: Iterable[str]) -> Iterable[Contract]:
    """Contract months from one year back to 14 months ahead."""
    first = today.year * 12 + today.month - 1
    for root in roots:
        for index in range(first - 12, first + 15):
            yield calendar.contract(root, index // 12, index % 12 + 1)


def _matches(listed: Listed, wanted: Values) -> bool:
    have, when = listed.fields(), wanted["last_trade_date"][:8]
    names = ("symbol", "exchange", "currency", "multiplier", "local_symbol", "trading_class")
    same = all(wanted[name] in {"", have[name]} for name in names)
    return (
        same
        and when in {"", listed.month, listed.last_trade_date}
        and bool(wanted["symbol"] or wanted["local_symbol"])
    )
