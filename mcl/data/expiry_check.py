"""Compare the exchange's last-trade rule, as written in `mcl.market.calendar`, with the vendor's
definitions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from mcl.base.instants import NS
from mcl.config import schema
from mcl.data import loader
from mcl.market import calendar
from mcl.market.calendar import NEW_YORK, Sessions, contract, to_day
from mcl.market.instruments import Contract

MONTHS = 12


@dataclass(frozen=True)
class ExpiryRow:
    """One contract: its last trade date by the rule and by the definitions (None: not defined), and
    the close of that session.
    """

    symbol: str
    by_rule: date
    by_definition: date | None
    close: str  # New York
    verdict: Literal["agrees", "differs", "not defined", "no session"]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def cells(self) -> list[str]:
        defined = "" if self.by_definition is None else str(self.by_definition)
        return [self.symbol, str(self.by_rule), defined, self.close, self.verdict]


def compare(data: schema.Data, root: Path, day: date) -> list[ExpiryRow]:
    """The contracts whose last trade lies in the twelve months from `day`, nearest first. DataError
    when the data cannot be read.
    """
    table = loader.raw_input(data, root).table()
    defined = (
        {(c.year, c.month): c for c in table.contracts} if table.facts.get("definitions") else {}
    )
    months = (divmod(12 * day.year + day.month - 1 + k, 12) for k in range(MONTHS + 3))
    chain = [contract(data.instrument, year, month + 1) for year, month in months]
    ahead = [c for c in chain if c.last_trade_date >= day][:MONTHS]
    sessions = calendar.sessions(
        day, max(c.last_trade_date for c in ahead) + timedelta(days=8), data.instrument
    )
    return [_row(c, defined.get((c.year, c.month)), sessions) for c in ahead]


def _row(rule: Contract, defined: Contract | None, sessions: Sessions) -> ExpiryRow:
    days = sessions.day.tolist()
    close = "no session"
    if (on := to_day(rule.last_trade_date)) in days:
        close = _clock(int(sessions.close_ns[days.index(on)]))
    defined_date = None if defined is None else defined.last_trade_date
    verdict: Literal["agrees", "differs", "not defined", "no session"] = (
        "not defined" if defined_date is None else "agrees"
    )
    if close == "no session":
        verdict = "no session"
    if defined_date is not None and defined_date != rule.last_trade_date:
        verdict = "differs"
    return ExpiryRow(rule.symbol, rule.last_trade_date, defined_date, close, verdict)


def _clock(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // NS, NEW_YORK):%H:%M}"
