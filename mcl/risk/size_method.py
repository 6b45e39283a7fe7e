"""`SizeMethod`: one way to size a position, and what the project must know of it.

A method is a file of `mcl/risk/sizes` with the model of its config, its vector, and one object of
this class. The registry there finds it; the schema of a config, the search, the documents, the page
of a run and the tests walk over the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from mcl.config import schema
from mcl.market.calendar import SESSIONS_PER_YEAR

if TYPE_CHECKING:
    from mcl.data.bars import Bars

Model = TypeVar("Model", bound=schema.SizeRule)
Floats = npt.NDArray[np.float64]


def _one_bar(_size: object) -> int:
    return 1


def _no_session(_size: object) -> int:
    return 0


def _no_buffer(_size: object, _contracts: Floats) -> Floats:
    return np.empty(0)


@dataclass(frozen=True)
class SizeMethod(Generic[Model]):
    """One way to size a position.

    model            its keys below `risk.size.` in a config; the literal of `method` is its name,
                     its docstring the line in the reference, the bounds of its fields what a search
                     may try
    contracts        contracts per unit of signal at each bar, from what is known at its close; NaN
                     while it warms up. The capital is fixed: a size depends on bars alone.
    sentence         what the page of a run says of it
    memory_bars      bars after which the past no longer matters
    memory_sessions  whole sessions before the current one that it looks at
    buffer           contracts that the position may differ from the wanted one without a trade;
                     empty for none
    """

    model: type[Model]
    contracts: Callable[[Bars, schema.Risk, Model, float], Floats]
    sentence: Callable[[Model], str]
    memory_bars: Callable[[Model], int] = _one_bar
    memory_sessions: Callable[[Model], int] = _no_session
    buffer: Callable[[Model, Floats], Floats] = _no_buffer

    @property
    def name(self) -> str:
        name: str = get_args(self.model.model_fields["method"].annotation)[0]
        return name


def per_risk(budget_usd: float, risk_usd: Floats, most: float) -> Floats:
    """A market without movement has no size, one that is not known yet is not traded."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.minimum(
            np.where(
                risk_usd > 0, budget_usd / risk_usd, np.where(np.isnan(risk_usd), np.nan, 0.0)
            ),
            most,
        )


def per_volatility(bars: Bars, budget_usd: float, lookback_sessions: int, most: float) -> Floats:
    """Contracts whose annual volatility is the budget."""
    sessions, row_of = _sessions(bars)
    sigma_usd = _session_sigma_usd(bars, sessions, lookback_sessions) * np.sqrt(SESSIONS_PER_YEAR)
    by_session: Floats = per_risk(budget_usd, sigma_usd, most)[row_of]
    return by_session


def _sessions(bars: Bars) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Last row of each session, and for each bar the number of its session."""
    changes = np.diff(bars.session) != 0
    last = np.append(np.flatnonzero(changes), len(bars) - 1)
    return last, np.concatenate([[0], np.cumsum(changes)])


def _session_sigma_usd(bars: Bars, last: npt.NDArray[np.int64], lookback: int) -> Floats:
    """Standard deviation (ddof 1) of the P&L of one contract over the `lookback` sessions before
    each session, known before it opens.
    """
    # moves[k] belongs to session k + 1
    moves = np.diff(bars.adjusted["close"][last]) * bars.instrument.multiplier
    sigma = np.full(len(last), np.nan)
    if len(moves) > lookback - 1:
        windows = np.lib.stride_tricks.sliding_window_view(moves, lookback)
        sigma[lookback + 1 :] = windows.std(axis=1, ddof=1)[: len(last) - lookback - 1]
    return sigma
