"""Measure how like a market bars of one minute or one second are: the same figures of any source,
next to the measured ones. Those of seconds are in `mcl.data.second_figures`.

Every figure is of the busiest contract of each whole session, but for the roll figures, which
compare an expiring contract with the next listed one. Prices are in ticks. Minutes count from the
open at 18:00 New York.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.base.errors import DataError
from mcl.base.instants import NS
from mcl.data.dataset import Dataset
from mcl.market import calendar

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Figures = dict[str, float]

MINUTES, HOURS = 1380, 23
WHOLE_SESSION = 1000  # bars of the busiest contract: a session with fewer is no whole one
SESSIONS_BEFORE = 10  # of an expiry: what a roll figure needs
FRONT_VOLUME = 500  # contracts, six sessions before the last trade: what an expiry needs to count
REPORT = 16 * 60 + 30  # the inventory report, 10:30 New York
WEDNESDAY = 2
NEAR_ZERO, ABSOLUTE, RELATIVE = 0.1, 0.02, 0.10
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
# ticks, contracts and seconds are whole: one more or less is near
_WHOLE_ROWS = (
    "range_ticks_q",
    "move_abs_q",
    "second_range_ticks_q",
    "second_move_abs_q",
    "second_volume_q",
    "second_wait_q",
    "second_bars_per_minute_q",
    "break_gap_ticks_abs_median",
    "weekend_gap_ticks_abs_median",
)


@dataclass(frozen=True)
class MinuteBars:
    """Aligned arrays of the bars of every contract, ordered by time. `contract` is ordered by last
    trade date, prices are whole ticks, `session` days since 1970-01-01, `minute` from 18:00.
    """

    contract: Ints
    session: Ints
    minute: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints


class ContractVolumes(Protocol):
    """Bars of which the session, the contract and the volume count."""

    @property
    def session(self) -> Ints: ...

    @property
    def contract(self) -> Ints: ...

    @property
    def volume(self) -> Ints: ...


@dataclass(frozen=True)
class FigureRow:
    """One figure next to the fact: `near` says whether it is within the bound."""

    name: str
    figure: float
    fact: float

    @property
    def bound(self) -> float:
        """The difference from the fact that still counts as near."""
        if self.name.startswith(_WHOLE_ROWS):
            return max(1.0, RELATIVE * abs(self.fact))
        return ABSOLUTE if abs(self.fact) < NEAR_ZERO else RELATIVE * abs(self.fact)

    @property
    def near(self) -> bool:
        return bool(abs(self.figure - self.fact) <= self.bound + 1e-12)

    @property
    def ratio(self) -> str:
        """The figure over the fact, or their difference where the fact is near zero."""
        if abs(self.fact) < NEAR_ZERO:
            return f"{self.figure - self.fact:+.4f}"
        return f"x {self.figure / self.fact:.3f}"

    def as_dict(self) -> dict[str, Any]:
        """The row as plain JSON; a figure that the bars do not have is null."""
        figure = self.figure if np.isfinite(self.figure) else None
        return {
            "name": self.name,
            "figure": figure,
            "fact": self.fact,
            "bound": self.bound,
            "near": self.near,
        }


@cache
def facts(interval: str = "1m") -> dict[str, Any]:
    """The measured figures that ship with the package: `source`, `first`, `last`, `instrument`,
    `figures`; of bars of one minute, or of one second (`1s`).
    """
    name = {"1m": "mcl_figures.json", "1s": "mcl_second_figures.json"}[interval]
    content: dict[str, Any] = json.loads((resources.files("mcl.data") / name).read_text())
    return content


def compare(figures: Figures, interval: str = "1m") -> list[FigureRow]:
    """Every measured figure next to the same figure of another source; NaN where it has none."""
    return [
        FigureRow(name, figures.get(name, float("nan")), float(fact))
        for name, fact in facts(interval)["figures"].items()
    ]


def compare_dataset(stored: Dataset) -> list[FigureRow]:
    """The comparison for a stored dataset. DataError for another market, or bars that are not
    of one minute.
    """
    check_market(stored)
    return compare(measure(of_dataset(stored)))


def check_market(stored: Dataset) -> None:
    """Refuse a dataset of another market than the measured one with a DataError."""
    market = str(facts()["instrument"])
    if stored.instrument.symbol != market:
        raise DataError(
            f"the measured figures are those of {market}, and {stored.folder.name} holds"
            f" {stored.instrument.symbol}",
            f"choose a source of {market}",
        )


def of_dataset(stored: Dataset) -> MinuteBars:
    """The bars of every contract of a stored dataset; DataError unless they are of one minute."""
    if stored.interval != "1m":
        raise DataError(
            "realism is measured on bars of one minute, or of one second;"
            f" {stored.folder.name} has bars of {stored.interval}",
            "choose a source with one-minute bars",
        )
    seconds, columns = dataset_columns(stored)
    return MinuteBars(minute=seconds // 60, **columns)


def dataset_columns(stored: Dataset) -> tuple[Ints, dict[str, Ints]]:
    """The bars of every contract by time, prices in ticks: seconds from 18:00 New York, and the
    columns contract, session, volume, open, high, low, close.
    """
    contracts = range(len(stored.contracts))
    rows = [rows for k in contracts if len(rows := stored.rows(k))]
    if not rows:
        raise DataError(f"{stored.folder.name} has no bars to measure", "choose another source")
    columns = {
        name: np.concatenate([getattr(piece, name) for piece in rows])
        for name in ("contract", "session", "ts_event", "open", "high", "low", "close", "volume")
    }
    ts = columns.pop("ts_event")
    order = np.lexsort((columns["contract"], ts))
    tick = stored.instrument.tick_size
    ticks = {
        name: np.rint(columns[name][order] / tick).astype(np.int64)
        for name in ("open", "high", "low", "close")
    }
    local = calendar.new_york_ns(ts[order]) // NS
    whole = {name: columns[name][order] for name in ("contract", "session", "volume")}
    return (local - 18 * 3600) % 86_400, whole | ticks


def measure(bars: MinuteBars) -> Figures:
    """Return every figure of these bars by name; those that too few sessions allow are absent."""
    return {**_rolls(bars), **_front_figures(bars)}


# ------------------------------------------------------------------------------------------- rolls


def volume_table(bars: ContractVolumes) -> tuple[Ints, Floats]:
    """Sessions in order, and the volume of every contract in each: float[sessions, contracts]."""
    sessions, row = np.unique(bars.session, return_inverse=True)
    width = int(bars.contract.max()) + 1
    place = row * width + bars.contract
    volume: Floats = np.bincount(place, bars.volume, len(sessions) * width).astype(np.float64)
    return sessions, volume.reshape(len(sessions), width)


def expiry_rows(volume: Floats) -> list[tuple[int, int]]:
    """Every expiry of which the data hold the end: its contract, and the row of its last
    session.
    """
    traded = volume > 0
    end = len(volume) - 1 - traded[::-1].argmax(axis=0)
    rows = []
    for near in range(volume.shape[1] - 1):
        last = int(end[near])
        if not traded[:, near].any() or not traded[:, near + 1].any():
            continue
        if last >= len(volume) - 1 or last < SESSIONS_BEFORE:
            continue
        if volume[last - 6, near] > FRONT_VOLUME:
            rows.append((near, last))
    return rows


def _rolls(bars: MinuteBars) -> Figures:
    volume = volume_table(bars)[1]
    pairs = [  # volume of front and next from the last session backwards: float[11, 2] each
        volume[last - SESSIONS_BEFORE : last + 1, near : near + 2][::-1]
        for near, last in expiry_rows(volume)
    ]
    figures: Figures = {"expiries": float(len(pairs))}
    if not pairs:
        return figures
    for k in range(9):
        shares = [pair[k, 0] / max(1.0, pair[k].sum()) for pair in pairs]
        figures[f"front_share_at_-{k}"] = float(np.median(shares))
    crossed = [_crossing(pair) for pair in pairs]
    for k in sorted({1, 2, *crossed}):
        share = float(np.mean([c == k for c in crossed]))
        figures[f"crossed_{k}_sessions_before_last"] = share
    return figures


def _crossing(pair: Floats) -> int:
    """Sessions before the last trade from which the next contract traded more for good; -1 if
    never.
    """
    more = pair[:, 1] > pair[:, 0]
    return int(np.argmin(np.append(more, False))) - 1


# ------------------------------------------------------------------------------------------- front


def _front(bars: MinuteBars) -> pd.DataFrame:
    """The bars of the busiest contract of each whole session."""
    sessions, volume = volume_table(bars)
    busiest = volume.argmax(axis=1)
    inside = busiest[np.searchsorted(sessions, bars.session)] == bars.contract
    frame = pd.DataFrame({name: getattr(bars, name)[inside] for name in MinuteBars.__annotations__})
    size = frame.groupby("session")["minute"].transform("size")
    front = frame[(size > WHOLE_SESSION).to_numpy()].reset_index(drop=True)
    front["range"] = front["high"] - front["low"]
    return front


def _front_figures(bars: MinuteBars) -> Figures:
    front = _front(bars)
    if front.empty:
        return {"sessions": 0.0}
    sizes = front.groupby("session").size()
    figures = {"sessions": float(len(sizes)), "bars_per_session_median": float(sizes.median())}
    following = _following(front)
    closes = _close_matrix(front)
    for part in (
        _ranges(front),
        _moves(front, following),
        _variance_ratios(closes),
        _volumes(front),
        _sessions(front, closes),
        _gaps(front),
        _report(front, following),
        _hours(front, len(sizes)),
        _breadth(bars),
    ):
        figures |= part
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def _following(front: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Whether a bar follows one of the minute before, of the same contract and session."""
    of_a_minute = front["minute"].diff().eq(1)
    same = front["session"].diff().eq(0) & front["contract"].diff().eq(0)
    return (of_a_minute & same).to_numpy()


def _close_matrix(front: pd.DataFrame) -> Floats:
    """The last close at every minute of every session: float[sessions, 1380]."""
    sessions, row = np.unique(front["session"], return_inverse=True)
    closes = np.full((len(sessions), MINUTES), np.nan)
    closes[row, front["minute"]] = front["close"]
    filled: Floats = pd.DataFrame(closes).ffill(axis=1).to_numpy()
    return filled


def quantiles(name: str, values: Floats, at: tuple[float, ...]) -> Figures:
    return {f"{name}_q{p}": float(np.quantile(values, p)) for p in at}


def _kurtosis(values: Floats, ddof: int = 0) -> float:
    return float(((values - values.mean()) ** 4).mean() / values.var(ddof=ddof) ** 2)


def autocorrelation(values: Floats, lag: int = 1) -> float:
    if len(values) <= lag:
        return float("nan")
    around = values - values.mean()
    return float((around[lag:] * around[:-lag]).mean() / (around * around).mean())


def _ranges(front: pd.DataFrame) -> Figures:
    ticks = front["range"].to_numpy(float)
    return {
        "range_ticks_mean": float(ticks.mean()),
        **quantiles("range_ticks", ticks, _QUANTILES),
        "range_zero_share": float((ticks == 0).mean()),
    }


def _moves(front: pd.DataFrame, following: npt.NDArray[np.bool_]) -> Figures:
    move = front["close"].diff().to_numpy()[following]
    gap = (front["open"] - front["close"].shift()).to_numpy()[following]
    size = np.abs(move)
    inner = np.clip(move, *np.quantile(move, [0.001, 0.999]))
    capped = np.minimum(size, np.quantile(size, 0.999))
    return {
        "move_ticks_sd": float(move.std()),
        "move_abs_mean": float(size.mean()),
        **quantiles("move_abs", size, _QUANTILES[2:]),
        "move_zero_share": float((move == 0).mean()),
        "move_kurtosis": _kurtosis(move),
        "move_kurtosis_inner_99.8": _kurtosis(inner),
        "range_over_move": float(front["range"].mean() / size.mean()),
        "gap_open_minus_close_zero_share": float((gap == 0).mean()),
        "gap_open_minus_close_abs_mean": float(np.abs(gap).mean()),
        **{f"move_autocorrelation_{k}": autocorrelation(move, k) for k in (1, 2, 5)},
        **{f"abs_move_autocorrelation_{k}": autocorrelation(capped, k) for k in (1, 10, 60)},
    }


def _variance_ratios(closes: Floats) -> Figures:
    of_a_minute = np.nanmean(np.diff(closes, axis=1) ** 2)
    steps = {k: (closes[:, k:] - closes[:, :-k])[:, ::k] for k in (5, 15, 60, 240)}
    return {
        f"variance_ratio_{k}": float(np.nanmean(step**2) / (k * of_a_minute))
        for k, step in steps.items()
    }


def _volumes(front: pd.DataFrame) -> Figures:
    volume = front["volume"].to_numpy(float)
    both = np.corrcoef(np.log(volume), front["range"].to_numpy(float))
    return {
        **quantiles("volume_per_bar", volume, (0.1, 0.5, 0.9, 0.99)),
        "volume_mean": float(volume.mean()),
        "log_volume_range_correlation": float(both[0, 1]),
    }


def _sessions(front: pd.DataFrame, closes: Floats) -> Figures:
    volume = front.groupby("session")["volume"].sum()
    log_volume = np.log(volume.to_numpy(float))
    volatility = np.sqrt(np.nansum(np.diff(closes, axis=1) ** 2, axis=1))
    log_volatility = np.log(volatility)
    last = front.groupby(["session", "contract"])["close"].last().reset_index()
    same_contract = last["contract"].diff().eq(0)
    returns = (last["close"].diff() / last["close"].shift())[same_contract].to_numpy()
    few = len(volume) < 3 or len(returns) < 3
    if few:
        return {"session_volume_median": float(volume.median())}
    return {
        "session_volume_median": float(volume.median()),
        "session_volume_log_sd": float(log_volume.std(ddof=1)),
        "session_rv_ticks_median": float(np.median(volatility)),
        "session_rv_log_sd": float(log_volatility.std(ddof=1)),
        "session_rv_log_autocorrelation_1": autocorrelation(log_volatility),
        "session_log_volume_rv_correlation": float(np.corrcoef(log_volume, log_volatility)[0, 1]),
        "session_return_sd": float(returns.std(ddof=1)),
        "session_return_kurtosis": _kurtosis(returns, ddof=1),
        "session_return_autocorrelation_1": autocorrelation(returns),
        "session_return_over_3pct_share": float((np.abs(returns) > 0.03).mean()),
    }


def _gaps(front: pd.DataFrame) -> Figures:
    both = front.groupby(["session", "contract"]).agg(
        open=("open", "first"), close=("close", "last")
    )
    days = both.reset_index()
    gap = days["open"] - days["close"].shift()
    apart, same_contract = days["session"].diff(), days["contract"].diff().eq(0)
    figures: Figures = {}
    for name, chosen in (("break", apart.eq(1)), ("weekend", apart.ge(3))):
        ticks = gap[same_contract & chosen]
        figures[f"{name}_gap_ticks_sd"] = float(ticks.std())
        figures[f"{name}_gap_ticks_abs_median"] = float(ticks.abs().median())
    return figures


def _report(front: pd.DataFrame, following: npt.NDArray[np.bool_]) -> Figures:
    """The inventory report: the minute of 10:30 and the range until 10:35, against other days."""
    wednesday = ((front["session"] + 3) % 7 == WEDNESDAY).to_numpy()  # 1970-01-01 is a Thursday
    weekday = ((front["session"] + 3) % 7).to_numpy()
    at = (front["minute"] == REPORT).to_numpy() & following
    size = front["close"].diff().abs().to_numpy()
    by_day = pd.Series(size[at]).groupby(weekday[at]).mean()
    near = front["minute"].between(REPORT, REPORT + 4).to_numpy()
    ticks = front["range"].to_numpy(float)
    if WEDNESDAY not in by_day or len(by_day) < 2 or not (near & ~wednesday).any():
        return {}
    return {
        "wednesday_1030_move_over_other_days": float(
            by_day[WEDNESDAY] / by_day.drop(index=WEDNESDAY).mean()
        ),
        "wednesday_1030_to_1035_range_over_other_days": float(
            ticks[near & wednesday].mean() / ticks[near & ~wednesday].mean()
        ),
    }


def _hours(front: pd.DataFrame, sessions: int) -> Figures:
    hour = (front["minute"] // 60).to_numpy()
    count = np.bincount(hour, minlength=HOURS).astype(float)
    volume = np.bincount(hour, front["volume"], HOURS)
    ticks = np.bincount(hour, front["range"], HOURS)
    return {
        **by_hour("hour_volume_share", volume / volume.sum()),
        **by_hour("hour_range_mean", ticks / np.maximum(count, 1)),
        **by_hour("hour_minutes_with_a_bar", count / (60 * sessions)),
    }


def by_hour(name: str, values: Floats) -> Figures:
    """One figure for each hour of New York from 18:00: `name_18` … `name_16`."""
    return {f"{name}_{(18 + k) % 24:02d}": float(value) for k, value in enumerate(values)}


def _breadth(bars: MinuteBars) -> Figures:
    volume = np.sort(volume_table(bars)[1], axis=1)
    whole = volume.sum(axis=1)
    second = volume[:, -2] if volume.shape[1] > 1 else np.zeros(len(volume))
    return {
        "busiest_share_of_all_volume_median": float(np.median(volume[:, -1] / whole)),
        "second_share_of_all_volume_median": float(np.median(second / whole)),
        "outrights_traded_per_session_median": float(np.median((volume > 0).sum(axis=1))),
    }
