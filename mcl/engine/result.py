"""`Result`: what a simulation leaves behind. Arrays are aligned with the bars it ran on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.data.bars import Bars

if TYPE_CHECKING:
    from mcl.engine.curve import Curve

FILL = np.dtype(
    [
        ("bar", np.int64),  # row of the bar in which it happened
        ("contract", np.int64),  # index into bars.contracts
        ("quantity", np.int64),  # contracts, bought > 0
        ("price_ticks", np.float64),  # slippage included
        ("slippage_ticks", np.float64),  # positive = cost
        ("reason", np.int64),  # index into FILL_REASONS
        ("position", np.int64),  # after the fill
        # from the price to the protective stop of that position, 0 for none
        ("risk_ticks", np.float64),
    ]
)
# signal: the strategy; risk: a limit closed it; end (of trades only): still open at the last bar
FILL_REASONS = ("signal", "stop", "take_profit", "roll", "risk", "end")

CHANGE = np.dtype(
    [
        ("bar", np.int32),  # first row that has the other three; row 0 is always one
        ("position", np.int32),
        ("target", np.int32),
        ("block", np.int32),
    ]
)

TRADE = np.dtype(
    [
        ("entry_bar", np.int64),
        ("exit_bar", np.int64),  # its last bar if it is still open, with exit_reason "end"
        ("quantity", np.int64),  # the most contracts it held, long > 0; a roll does not end a trade
        ("entry_ticks", np.float64),  # average, in prices of the contract it began in
        ("exit_ticks", np.float64),  # average, roll gaps removed
        ("gross_usd", np.float64),  # after slippage (that of rolls included), before commission
        ("commission_usd", np.float64),
        ("mae_usd", np.float64),  # worst open result (<= 0), at bar extremes
        ("mfe_usd", np.float64),  # best open result (>= 0)
        ("exit_reason", np.int64),  # index into FILL_REASONS
        # what all contracts that entered would lose at the stop they entered with; 0 without one
        ("risk_usd", np.float64),
    ]
)


def changes(
    position: npt.NDArray[Any], target: npt.NDArray[Any], block: npt.NDArray[Any]
) -> npt.NDArray[np.void]:
    """CHANGE rows of three vectors over the bars: a result that no simulation has made."""
    vectors = np.stack([position, target, block])
    first = np.flatnonzero(np.append(True, (vectors[:, 1:] != vectors[:, :-1]).any(axis=0)))
    rows = np.empty(len(first), CHANGE)
    rows["bar"], (rows["position"], rows["target"], rows["block"]) = first, vectors[:, first]
    return rows


@dataclass(frozen=True)
class Result:
    """The outcome of a simulation, stored where it changes. `position`, `target`, `block` and
    `equity` spread it over the bars at their first use.
    """

    bars: Bars
    capital_usd: float
    curve: Curve
    changes: npt.NDArray[np.void]  # CHANGE
    fills: npt.NDArray[np.void]  # FILL
    trades: npt.NDArray[np.void]  # TRADE, closed and (last) open round trips
    commission_usd: float
    # contracts, before limits and rounding; None for a result that was put together by hand
    wanted: npt.NDArray[np.float64] | None = None

    @cached_property
    def equity(self) -> npt.NDArray[np.float64]:
        """Capital + realised + unrealised - commission at the close of bar i, in USD."""
        return self.curve.values()

    @cached_property
    def position(self) -> npt.NDArray[np.int32]:
        """Contracts after bar i."""
        return self._spread("position", np.int32)

    @cached_property
    def target(self) -> npt.NDArray[np.int32]:
        """Decided at the close of bar i, traded at the open of bar i + 1."""
        return self._spread("target", np.int32)

    @cached_property
    def block(self) -> npt.NDArray[np.int8]:
        """Code of the rule that changed the decision of bar i, 0 for none (risk.Block)."""
        return self._spread("block", np.int8)

    @property
    def held_bars(self) -> int:
        """Bars after which there was a position."""
        return int(self._lasting()[self.changes["position"] != 0].sum())

    @property
    def net_pnl_usd(self) -> float:
        return float(self.session_equity.iloc[-1] - self.capital_usd)

    @cached_property
    def session_equity(self) -> pd.Series:
        """Equity at the end of each session, indexed by trade date."""
        last = self.bars.session_ends
        days = pd.DatetimeIndex(self.bars.session[last].astype("datetime64[D]"), name="session")
        return pd.Series(self.curve.at(last), index=days, name="equity_usd")

    @cached_property
    def settled_equity(self) -> pd.Series:
        """Return the equity of a broker's statement: the position at the end of each session marked
        at the settlement price of that session, at the last close where none is published.
        """
        last, bars = self.bars.session_ends, self.bars
        settled = bars.settlement.reindex(bars.session[last]).to_numpy(np.float64)
        apart = np.nan_to_num(settled - bars.instrument.price(bars.close_ticks[last]))
        usd: pd.Series[float] = (
            self.session_equity + self.position[last] * apart * bars.instrument.multiplier
        )
        return usd.rename("settled_usd")

    @cached_property
    def session_returns(self) -> pd.Series:
        """P&L of each session over the fixed capital base (sizing is not compounded), indexed by
        trade date.
        """
        equity = self.session_equity
        start = np.concatenate([[self.capital_usd], equity.to_numpy()[:-1]])
        returns: pd.Series[float] = (equity - start) / self.capital_usd
        return returns.rename("return_frac")

    def _spread(self, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return np.repeat(self.changes[name].astype(dtype), self._lasting())

    def _lasting(self) -> npt.NDArray[np.int64]:
        """Return the number of bars that each change lasts."""
        return np.diff(self.changes["bar"], append=len(self.bars)).astype(np.int64)

    def sessions_frame(self) -> pd.DataFrame:
        """One row per session: trade date, equity at its last close, and at its settlement."""
        return pd.concat([self.session_equity, self.settled_equity], axis=1).reset_index()

    def fills_frame(self) -> pd.DataFrame:
        """One row per fill: time (open of the bar for targets and rolls), contract, quantity,
        price, slippage, commission, reason.
        """
        f, bars = self.fills, self.bars
        per_contract = self.commission_usd / max(1, int(np.abs(f["quantity"]).sum()))
        return pd.DataFrame(
            {
                "close_time": bars.times[f["bar"]],
                "session": bars.session[f["bar"]].astype("datetime64[D]"),
                "contract": np.array([c.symbol for c in bars.contracts], dtype=object)[
                    f["contract"]
                ],
                "quantity": f["quantity"],
                "price": f["price_ticks"] * bars.instrument.tick_size,
                "slippage_ticks": f["slippage_ticks"],
                "commission_usd": np.abs(f["quantity"]) * per_contract,
                "reason": np.array(FILL_REASONS, dtype=object)[f["reason"]],
                "position": f["position"],
            }
        )

    def trades_frame(self) -> pd.DataFrame:
        t, bars = self.trades, self.bars
        tick = bars.instrument.tick_size
        return pd.DataFrame(
            {
                "entry_time": bars.times[t["entry_bar"]],
                "exit_time": bars.times[t["exit_bar"]],
                "quantity": t["quantity"],
                "entry_price": t["entry_ticks"] * tick,
                "exit_price": t["exit_ticks"] * tick,
                "gross_usd": t["gross_usd"],
                "commission_usd": t["commission_usd"],
                "net_usd": t["gross_usd"] - t["commission_usd"],
                "mae_usd": t["mae_usd"],
                "mfe_usd": t["mfe_usd"],
                "risk_usd": t["risk_usd"],
                "bars": t["exit_bar"] - t["entry_bar"],
                "exit_reason": np.array(FILL_REASONS, dtype=object)[t["exit_reason"]],
            }
        )
