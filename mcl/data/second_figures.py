"""Figures of one-second bars: how many seconds trade, what a second moves, and how prices bounce.

Every figure is of the busiest contract of each whole session, as those of minutes in
`mcl.data.realism`, with which they share the bounds. A session is whole when enough of its minutes
have a bar. A change is one of the close from a second to the next; where a second has no bar there
is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.base.errors import DataError
from mcl.data.dataset import Dataset
from mcl.data.realism import (
    HOURS,
    WHOLE_SESSION,
    FigureRow,
    Figures,
    Floats,
    Ints,
    autocorrelation,
    by_hour,
    check_market,
    compare,
    compare_dataset,
    dataset_columns,
    quantiles,
    volume_table,
)


@dataclass(frozen=True)
class SecondBars:
    """Aligned arrays of the bars of every contract, ordered by time. `contract` is ordered by last
    trade date, prices are whole ticks, `session` days since 1970-01-01, `second` from 18:00.
    """

    contract: Ints
    session: Ints
    second: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints


def compare_stored(stored: Dataset) -> list[FigureRow]:
    """The comparison of a stored dataset of one-second bars, or of one-minute bars as
    `mcl.data.realism` makes it. DataError for another market, and for other bars.
    """
    if stored.interval != "1s":
        return compare_dataset(stored)
    check_market(stored)
    return compare(measure(of_dataset(stored)), "1s")


def of_dataset(stored: Dataset) -> SecondBars:
    """The bars of every contract of a stored dataset; DataError unless they are of one second."""
    if stored.interval != "1s":
        raise DataError(
            f"these figures are of bars of one second; {stored.folder.name} has bars of"
            f" {stored.interval}",
            "choose a source with one-second bars",
        )
    second, columns = dataset_columns(stored)
    return SecondBars(second=second, **columns)


def measure(bars: SecondBars) -> Figures:
    """Return every figure of these bars by name; without a whole session none."""
    front, of_all = _front(bars)
    if front.empty:
        return {}
    step = front["second"].diff().to_numpy()
    same = (front["session"].diff().eq(0) & front["contract"].diff().eq(0)).to_numpy()
    figures: Figures = {}
    for part in (
        _counts(front, of_all),
        _ranges(front),
        _volumes(front),
        _waits(step[same]),
        _moves(front, same & (step == 1)),
        _hours(front),
    ):
        figures |= part
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def _front(bars: SecondBars) -> tuple[pd.DataFrame, pd.Series]:
    """The bars of the busiest contract of each whole session, and the bars of all by session."""
    sessions, volume = volume_table(bars)
    row = np.searchsorted(sessions, bars.session)
    inside = volume.argmax(axis=1)[row] == bars.contract
    frame = pd.DataFrame({name: getattr(bars, name)[inside] for name in SecondBars.__annotations__})
    frame["minute"] = frame["second"] // 60
    minutes = frame.groupby("session")["minute"].nunique()
    whole = minutes.index[minutes > WHOLE_SESSION]
    front = frame[frame["session"].isin(whole)].reset_index(drop=True)
    front["range"] = front["high"] - front["low"]
    of_all = pd.Series(np.bincount(row, minlength=len(sessions)), index=sessions)
    return front, of_all[whole]


def _counts(front: pd.DataFrame, of_all: pd.Series) -> Figures:
    by_minute = np.asarray(front.groupby(["session", "minute"]).size(), np.float64)
    first = float((front["second"] % 60 == 0).mean())
    return {
        "second_bars_per_session_median": float(front.groupby("session").size().median()),
        "second_bars_of_all_outrights_median": float(of_all.median()),
        "second_bars_per_minute_mean": float(by_minute.mean()),
        **quantiles("second_bars_per_minute", by_minute, (0.1, 0.5, 0.9, 0.99)),
        "second_first_of_minute_over_mean": 60 * first,
    }


def _ranges(front: pd.DataFrame) -> Figures:
    ticks = front["range"].to_numpy(float)
    return {
        "second_range_zero_share": float((ticks == 0).mean()),
        "second_range_ticks_mean": float(ticks.mean()),
        **quantiles("second_range_ticks", ticks, (0.9, 0.95, 0.99, 0.999)),
    }


def _volumes(front: pd.DataFrame) -> Figures:
    volume, ticks = front["volume"].to_numpy(float), front["range"].to_numpy(float)
    varied = volume.std() > 0 and ticks.std() > 0
    both = np.corrcoef(np.log(volume), ticks)[0, 1] if varied else np.nan
    return {
        "second_volume_mean": float(volume.mean()),
        "second_volume_one_share": float((volume == 1).mean()),
        **quantiles("second_volume", volume, (0.5, 0.75, 0.9, 0.99)),
        "second_log_volume_range_correlation": float(both),
    }


def _waits(seconds: Floats) -> Figures:
    """From a bar to the next one of its session."""
    if not len(seconds):
        return {}
    return {
        "second_follows_share": float((seconds == 1).mean()),
        **quantiles("second_wait", seconds, (0.5, 0.75, 0.9, 0.99)),
    }


def _moves(front: pd.DataFrame, following: npt.NDArray[np.bool_]) -> Figures:
    change = front["close"].diff().to_numpy()
    move = change[following]
    if len(move) < 2 or not move.std():
        return {}
    gap = (front["open"] - front["close"].shift()).to_numpy()[following]
    size = np.abs(move)
    capped = np.minimum(size, np.quantile(size, 0.999))
    unbroken = following[1:] & following[:-1]
    product = change[1:][unbroken] * change[:-1][unbroken]
    return {
        "second_move_sd": float(move.std()),
        "second_move_abs_mean": float(size.mean()),
        "second_move_zero_share": float((move == 0).mean()),
        **quantiles("second_move_abs", size, (0.9, 0.95, 0.99, 0.999)),
        "second_move_autocorrelation_1": autocorrelation(move),
        "second_move_reversal": float(product.mean() / move.var()) if len(product) else np.nan,
        **{f"second_abs_move_autocorrelation_{k}": autocorrelation(capped, k) for k in (1, 10, 60)},
        "second_gap_zero_share": float((gap == 0).mean()),
        "second_gap_abs_mean": float(np.abs(gap).mean()),
    }


def _hours(front: pd.DataFrame) -> Figures:
    hour = (front["second"] // 3600).to_numpy()
    count = np.bincount(hour, minlength=HOURS).astype(float)
    ticks = np.bincount(hour, front["range"], HOURS)
    sessions = front["session"].nunique()
    return {
        **by_hour("second_hour_with_a_bar", count / (3600 * sessions)),
        **by_hour("second_hour_range_mean", ticks / np.maximum(count, 1)),
    }
