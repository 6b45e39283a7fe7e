"""Every decision of a session taken once more, from the journal alone: the same bars, the same
fills, the same account.

Where the backtest answers "what would have happened", this answers "was it right, given what did
happen": pauses, late bars, other prices and positions carried over from the day before all leave
the account elsewhere, and a decision must still be the one that the rules make of that account.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mcl.config import schema
from mcl.data.bars import Bars
from mcl.engine.account import Money, stop_level
from mcl.engine.decision import Account, Target, decide
from mcl.engine.plan import Plan
from mcl.live.journal import Entry
from mcl.live.session_state import SessionBook, empty_book, read_into
from mcl.live.status import Mode
from mcl.risk.blocks import TradingState
from mcl.risk.limits import limits_record

COLUMNS = (
    *("position", "target", "block", "stop_ticks", "take_profit_ticks", "trail_ticks"),
    *("equity_usd", "stop_at"),
)


def replay_decisions(
    entries: Sequence[Entry], bars: Bars, intent: Plan, limits: schema.Limits, money: Money
) -> pd.DataFrame:
    """One row per recorded bar, in the columns of COLUMNS: the decision that the journal's account
    asks for, and the level of its stop from this close on.
    """
    book = empty_book(money, bars.instrument.tick_size)
    record = limits_record(limits, bars.interval)
    reducing = record._replace(state=int(TradingState.REDUCE_ONLY))
    rows: list[tuple[float, ...]] = []
    pending: tuple[Account, Target] | None = None
    for entry in entries:
        if pending and entry.kind not in ("decision", "command", "state", "alert", "armed"):
            _adopt(book, *pending)  # this decision was never written down
            pending = None
        read_into(book, entry)
        if entry.kind == "decision":
            pending = None
        elif entry.kind == "bar" and len(rows) < len(bars):
            row = len(rows)
            book.mark(float(bars.close_ticks[row]))
            account = book.ledger.account(int(bars.to_close_sec[row]))
            target = decide(
                intent.row(row), account, reducing if book.mode is Mode.REDUCE_ONLY else record
            )
            pending = account, target
            rows.append(
                (
                    account.position,
                    target.position,
                    target.block,
                    target.bracket.stop_ticks,
                    target.bracket.take_profit_ticks,
                    target.bracket.trail_ticks,
                    account.equity_usd,
                    stop_level(book.ledger.holding),
                )
            )
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=np.float64)


def _adopt(book: SessionBook, account: Account, target: Target) -> None:
    book.ledger.adopt(account, target)
    book.target = target
