"""Rules by which `Bars` are cut: of each field, what was known at the close of the last row that is
left.

Every field of `Bars` names one of them in its metadata, and everything else that `Bars` offer is
computed from fields. So bars that are cut to their first rows are those that were never longer,
attribute by attribute. A field without a rule cannot be cut: KeyError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

    from mcl.data.bars import Bars
    from mcl.data.quotes import BarQuotes
    from mcl.market.instruments import Contract

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MadeOf:
    """The finer bars that others were made of, in memory."""

    fine: Bars

    def __call__(self) -> Bars:
        return self.fine

    def upto(self, until: int) -> MadeOf:
        return MadeOf(self.fine.upto(until))


class Cut(NamedTuple):
    """The rows [start, stop) that are left, and what was known at the close of the last of them."""

    start: int
    stop: int
    rows: int  # before the cut
    sessions: tuple[int, int]  # of the first and the last row, days
    until: int  # close of the last row, ns
    contracts: Ints  # contracts that had been listed, or traded, by then: indices
    newest: int  # the contract that was rolled into last: an index

    @property
    def whole(self) -> bool:
        return self.stop - self.start == self.rows

    @property
    def renumbered(self) -> bool:
        """Whether a contract that was not known comes before one that was."""
        return bool(len(self.contracts)) and int(self.contracts[-1]) != len(self.contracts) - 1


def cut(bars: Bars, start: int, stop: int) -> Cut:
    """Cut `bars` to [start, stop). A contract without a time of listing is known from its first bar
    on.
    """
    until, newest = int(bars.close_time[stop - 1]), int(bars.contract[start:stop].max())
    listed = np.arange(len(bars.contracts)) <= newest
    if bars.listed_at is not None:
        listed |= (bars.listed_at > 0) & (bars.listed_at <= until)
    sessions = int(bars.session[start]), int(bars.session[stop - 1])
    return Cut(start, stop, len(bars), sessions, until, np.flatnonzero(listed), newest)


def _same(value: Any, _: Cut) -> Any:
    return value


def _rows(values: npt.NDArray[Any], cut: Cut) -> npt.NDArray[Any]:
    """A copy: a view would hold the rows that are cut off as its base."""
    return values if cut.whole else values[cut.start : cut.stop].copy()


def _roll(values: npt.NDArray[np.bool_], cut: Cut) -> npt.NDArray[np.bool_]:
    left = _rows(values, cut)
    if left[0]:
        left = left.copy()
        left[0] = False
    return left


def _index(values: npt.NDArray[np.int32], cut: Cut) -> npt.NDArray[np.int32]:
    left = _rows(values, cut)
    return np.searchsorted(cut.contracts, left).astype(np.int32) if cut.renumbered else left


def _price_shift(
    values: npt.NDArray[np.float64] | None, cut: Cut
) -> npt.NDArray[np.float64] | None:
    """A contract that nobody has rolled into yet has the adjustment of the one before it."""
    if values is None:
        return None
    left: npt.NDArray[np.float64] = values[np.minimum(cut.contracts, cut.newest)]
    return left


def _once_left(values: npt.NDArray[np.float64], cut: Cut) -> npt.NDArray[np.float64]:
    left: npt.NDArray[np.float64] = np.where(
        cut.contracts <= cut.newest, values[cut.contracts], np.nan
    )
    return left


def _listed(values: Ints | None, cut: Cut) -> Ints | None:
    """A time that is later than the close, of a contract that trades before its listing, is not
    known yet either.
    """
    return (
        None
        if values is None
        else np.where(values[cut.contracts] <= cut.until, values[cut.contracts], 0)
    )


def _contracts(values: tuple[Contract, ...], cut: Cut) -> tuple[Contract, ...]:
    return tuple(values[i] for i in cut.contracts.tolist())


def _rolls(table: pd.DataFrame, cut: Cut) -> pd.DataFrame:
    """The rolls of the sessions after the first, up to the last."""
    import pandas as pd

    if table.empty:
        return table
    days = table["session"].to_numpy().astype("datetime64[D]").astype(np.int64)
    left = (days > cut.sessions[0]) & (days <= cut.sessions[1])
    if "known_at" in table:
        known_at = pd.DatetimeIndex(pd.to_datetime(table["known_at"], utc=True))
        left &= known_at.as_unit("ns").asi8 <= cut.until  # NaT is the smallest number
    return table[left].reset_index(drop=True)


def _published(frame: pd.DataFrame | None, cut: Cut) -> pd.DataFrame | None:
    """Return what was published by the close about the remaining sessions: a session in progress
    has no settlement before its hour.
    """
    if frame is None or frame.empty:
        return frame
    days, known_at = frame["session"].to_numpy(), frame["known_at"].to_numpy()
    left = (days >= cut.sessions[0]) & (days <= cut.sessions[1]) & (known_at <= cut.until)
    published = frame[left].reset_index(drop=True)
    return (
        published.assign(contract=np.searchsorted(cut.contracts, published["contract"]))
        if cut.renumbered
        else published
    )


def _upto(finer: Any, cut: Cut) -> Any:
    return None if finer is None else finer.upto(cut.until)


def _quotes(quotes: BarQuotes | None, cut: Cut) -> BarQuotes | None:
    if quotes is None or cut.whole:
        return quotes
    return quotes.take(slice(cut.start, cut.stop))


def _withheld(value: Any, _: Cut) -> Any:
    """Withhold facts about the whole data, such as the sizes of later files: none of them belongs
    to a part.
    """
    return type(value)()


Rule = dict[str, Callable[[Any, Cut], Any]]
SAME: Rule = {"cut": _same}  # a fact that no time changes
ROWS: Rule = {"cut": _rows}
ROLL: Rule = {"cut": _roll}
INDEX: Rule = {"cut": _index}
PRICE_SHIFT: Rule = {"cut": _price_shift}
ONCE_LEFT: Rule = {"cut": _once_left}
LISTED: Rule = {"cut": _listed}
CONTRACTS: Rule = {"cut": _contracts}
ROLLS: Rule = {"cut": _rolls}
PUBLISHED: Rule = {"cut": _published}
UPTO: Rule = {"cut": _upto}
QUOTES: Rule = {"cut": _quotes}
WITHHELD: Rule = {"cut": _withheld}
