"""A promoted strategy as a function of bars: what MLflow loads where there is nothing of mcl but
what this imports.

A promoted version is an MLflow model whose loader is this module.
`mlflow.pyfunc.load_model("models:/mcl@paper").predict(frame)` gives the target position after every
bar: the same plan and the same kernel as the backtest and the live session, and so the same bits. A
session of ours never loads a version this way: it builds the strategy from its own code and
compares the digests.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcl.base.errors import DataError
from mcl.base.instants import NS
from mcl.config import schema
from mcl.data import sources
from mcl.data.bars import Bars
from mcl.data.table import PRICES
from mcl.engine.backtest import backtest
from mcl.market import calendar
from mcl.market.instruments import INSTRUMENTS

REQUIRES = ("numpy", "pandas", "numba", "pydantic", "tzdata")
INPUT = {  # column -> MLflow type; one row per closed bar, times in UTC without a zone
    "close_time": "datetime",
    "session": "datetime",  # the trade date
    # as in `Bars`, one adjustment for all bars of a contract
    **dict.fromkeys((*PRICES, "adjustment"), "double"),
    # 1 without roll.adjust=ratio; NaN except at a roll
    **dict.fromkeys(("ratio", "outgoing_open"), "double"),
    # contract_month: 202602 is February 2026
    **dict.fromkeys(("volume", "to_close_sec", "contract_month"), "long"),
    "roll": "boolean",
    # on the first bar of a new contract; NaT elsewhere and where the calendar alone decides
    "roll_known_at": "datetime",
}
OUTPUT = {"target": "long", "position": "long"}  # contracts, long > 0


def frame(bars: Bars) -> pd.DataFrame:
    """Bars as the model takes them, in the columns of INPUT; `bars_of` is the way back."""
    months = np.array([100 * c.year + c.month for c in bars.contracts], np.int64)
    ratio = np.ones(len(bars)) if bars.ratio is None else bars.ratio[bars.contract]
    names = (
        "open",
        "high",
        "low",
        "close",
        "adjustment",
        "outgoing_open",
        "volume",
        "roll",
        "to_close_sec",
    )
    columns: dict[str, Any] = {name: bars.column(name) for name in names}
    columns |= {
        "close_time": bars.close_time.astype("datetime64[ns]"),
        "session": _dates(bars.session),
        "ratio": ratio,
    }
    columns |= {"contract_month": months[bars.contract], "roll_known_at": _known_at(bars)}
    return pd.DataFrame(columns)[list(INPUT)]


def bars_of(rows: pd.DataFrame, data: schema.Data) -> Bars:
    """The bars in a frame with the columns of INPUT. DataError: a column is missing, or times do
    not increase.
    """
    missing = [name for name in INPUT if name not in rows]
    if missing:
        raise DataError(f"the bars have no column {missing[0]}; need {', '.join(INPUT)}")
    instrument = INSTRUMENTS[data.instrument]
    months, first, contract = np.unique(
        rows["contract_month"].to_numpy(np.int64), return_index=True, return_inverse=True
    )
    close_time = _stamps(rows["close_time"])
    if len(rows) == 0 or (np.diff(close_time) <= 0).any():
        raise DataError("the bars must have rows, with close times that increase")
    session = _stamps(rows["session"]) // (86_400 * NS)
    shift, left_at, ratio = (
        rows[name].to_numpy(np.float64)[first] for name in ("adjustment", "outgoing_open", "ratio")
    )
    if (rows["adjustment"].to_numpy(np.float64) != shift[contract]).any():
        raise DataError(
            "adjustment changes while the contract does not; it is one value for all bars of a"
            " contract"
        )
    return Bars.of(
        instrument,
        data.interval,
        close_time,
        {name: rows[name].to_numpy(np.float64) for name in PRICES},
        **{name: rows[name].to_numpy(np.int64) for name in ("volume", "to_close_sec")},
        session=session,
        contract=contract,
        roll=rows["roll"].to_numpy(np.bool_),
        contracts=tuple(
            calendar.contract(instrument.symbol, int(m) // 100, int(m) % 100) for m in months
        ),
        roll_table=_roll_table(rows),
        synthetic=sources.of(data).generated,
        shift=shift,
        left_at=left_at,
        ratio=None if (ratio == 1.0).all() else ratio,
    )


class Targets:
    """The model that MLflow calls: `predict` takes bars (INPUT) and gives the target and the
    position after each of them (OUTPUT).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = schema.Config.model_validate(json.loads((folder / "config.json").read_text()))

    def predict(
        self, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Simulated from flat at the first bar. A signal needs its warm-up: give the bars before
        the ones that matter, too.
        """
        del params
        with _at_home(self.folder):
            result = backtest(self.config, bars_of(model_input, self.config.data))
        return pd.DataFrame(
            {"target": result.target.astype(np.int64), "position": result.position.astype(np.int64)}
        )


def _load_pyfunc(path: str) -> Targets:
    """MLflow's entry: `path` is the folder of the model."""
    return Targets(Path(path))


@contextmanager
def _at_home(folder: Path) -> Iterator[None]:
    """The user's own strategies are looked up in the bundle, which lies like a project:
    experiments/strategies/NAME.py.
    """
    before = os.environ.get("MCL_HOME")
    os.environ["MCL_HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("MCL_HOME") if before is None else os.environ.update(MCL_HOME=before)


def _known_at(bars: Bars) -> pd.Series:
    days = bars.roll_table["session"].to_numpy().astype("datetime64[D]").astype(np.int64)
    known_at = dict(
        zip(days.tolist(), pd.to_datetime(bars.roll_table["known_at"], utc=True), strict=True)
    )
    rows = np.flatnonzero(bars.roll)
    column = pd.Series(pd.NaT, index=range(len(bars)), dtype="datetime64[ns]")
    for row in rows.tolist():
        at = known_at.get(int(bars.session[row]), pd.NaT)
        column.iloc[row] = pd.NaT if pd.isna(at) else at.tz_localize(None)
    return column


def _roll_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what a decision reads of the roll table: the session, and since when it was known."""
    rolls = rows[rows["roll"].to_numpy(np.bool_)]
    return pd.DataFrame(
        {
            "session": rolls["session"].to_numpy(),
            "known_at": pd.to_datetime(rolls["roll_known_at"], utc=True).to_numpy(),
        }
    )


def _stamps(column: pd.Series) -> Any:
    return pd.DatetimeIndex(pd.to_datetime(column, utc=True)).as_unit("ns").asi8.astype(np.int64)


def _dates(days: Any) -> Any:
    return days.astype("datetime64[D]").astype("datetime64[ns]")
