"""Tables for research: every column of numbers has its unit in its name.

A time is UTC and says so. A session is the CME trade date. A price is USD for one unit of what the
contract delivers. A quantity is contracts, bought > 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcl.data.bars import Bars
from mcl.data.table import PRICES
from mcl.engine.result import Result
from mcl.metrics.performance import fall

if TYPE_CHECKING:
    import pandas as pd

UNITS = {
    "close_time": "close_time_utc",
    "entry_time": "entry_time_utc",
    "exit_time": "exit_time_utc",
    "price": "price_usd",
    "entry_price": "entry_price_usd",
    "exit_price": "exit_price_usd",
    "quantity": "quantity_contracts",
    "position": "position_contracts",
    "volume": "volume_contracts",
    "bars": "length_bars",
    **{name: f"{name}_usd" for name in PRICES},
    **{f"adj_{name}": f"adjusted_{name}_usd" for name in PRICES},
}


def bars(series: Bars) -> pd.DataFrame:
    """One row per closed bar, by the time at which it was known. `adjusted_…` is the continuous
    series that signals see. The other prices are those of the dated contract.
    """
    frame = series.frame().rename(columns=UNITS).rename_axis(index="close_time_utc")
    return frame.assign(session=series.session.astype("datetime64[D]"))


def equity(result: Result) -> pd.DataFrame:
    """One row per bar: equity and drawdown at its close, the position after it, and the target that
    was decided at its close.
    """
    import pandas as pd

    values = result.equity
    columns = {
        "equity_usd": values,
        "drawdown_usd": fall(values, result.capital_usd)[0],
        "position_contracts": result.position,
        "target_contracts": result.target,
    }
    return pd.DataFrame(columns, index=result.bars.times.rename("close_time_utc"))


def sessions(result: Result) -> pd.DataFrame:
    """One row per trade date: equity at its last close (`equity_usd`) and at its settlement
    (`settled_usd`), what it earned (`pnl_usd`), and that as a share of the start capital.
    """
    returns = result.session_returns.to_numpy()
    earned = returns * result.capital_usd
    frame = result.sessions_frame().assign(pnl_usd=earned, return_frac=returns)
    return frame.set_index("session")


def trades(result: Result) -> pd.DataFrame:
    """One row per round trip. `mae_usd` and `mfe_usd` are its worst and its best open result."""
    return result.trades_frame().rename(columns=UNITS)


def fills(result: Result) -> pd.DataFrame:
    """One row per fill, with the position after it."""
    return result.fills_frame().rename(columns=UNITS)
