"""Does a strategy peek, and does it declare enough memory? Both are answered by computing it again on a part of the bars.

`lookahead` cuts the future off at random rows: a signal, target or order before the cut that changes was not known then.
`warmup` cuts the past off: the deviation of the last value, by the number of bars that were left before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mcl import schema, steps
from mcl.data.bars import Bars, Bools, Floats, Ints
from mcl.engine.backtest import backtest
from mcl.errors import ConfigError, DataError
from mcl.strategy import Strategy, build, exposed

EXACT = 1e-9  # of max(1, |value|): what a different order of summation may cost
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2)  # of the declared memory: the default columns of the warm-up table
ENTRY = ("bar", "contract", "quantity", "price_ticks", "reason")  # what makes two fills the same

# --------------------------------------------------------------------------------------------------------------- look-ahead


@dataclass(frozen=True)
class Lookahead:
    """What changed on rows before a cut. `total_signals` counts changes of the full signal in the rows that were compared."""

    strategy: str
    cuts: int
    total_signals: int
    biased_entry_signals: int  # rows where the full signal wants a position and a cut one wants another
    biased_exit_signals: int  # rows where the full signal is flat or unknown and a cut one is not
    biased_targets: int  # rows
    biased_orders: int  # fills that only one of both runs has
    biased_indicators: tuple[str, ...]
    first: str  # the earliest difference, as a sentence; empty without one

    @property
    def has_bias(self) -> bool:
        counts = self.biased_entry_signals, self.biased_exit_signals, self.biased_targets, self.biased_orders, len(self.biased_indicators)
        return any(counts)

    def as_dict(self) -> dict[str, Any]:
        return {"has_bias": self.has_bias} | asdict(self)


class Seen(NamedTuple):
    """All that a strategy and the engine make of some bars."""

    signal: Floats
    target: npt.NDArray[np.int32]
    fills: npt.NDArray[np.void]
    indicators: dict[str, Floats]


def lookahead(config: schema.Config, bars: Bars, samples: int = 20, seed: int = 0) -> Lookahead:
    """Compare the run on all bars with runs on their first k, for `samples` values of k: one in the warm-up, a quarter just before the
    largest moves, where a peek pays most, the rest as in `_rows`. ConfigError for samples < 1 and for a strategy that contradicts itself,
    DataError for fewer than three bars."""
    _enough(samples, len(bars), 3)
    full = _seen(config, bars)
    _same_twice(config, bars, full.signal)
    cuts = _cuts(full.signal, bars, build(config.strategy).memory, samples, seed)
    signal, target = np.zeros(len(bars), np.bool_), np.zeros(len(bars), np.bool_)
    orders: set[tuple[Any, ...]] = set()
    indicators: set[str] = set()
    first: tuple[int, str] = (len(bars), "")
    step = steps.begin("cutting the future off", len(cuts))
    for cut in cuts:
        part = _seen(config, bars.rows(0, int(cut)))
        wrong = _differ(full.signal[:cut], part.signal)
        signal[:cut] |= wrong
        target[:cut] |= full.target[:cut] != part.target
        orders |= _orders(full, int(cut)) ^ _orders(part, int(cut))
        indicators |= {name for name, values in part.indicators.items() if _differ(full.indicators[name][:cut], values).any()}
        if wrong.any() and (row := int(np.argmax(wrong))) < first[0]:
            first = row, _sentence(bars, row, int(cut), full.signal, part.signal)
        step()
    wanted = np.nan_to_num(full.signal) != 0
    return Lookahead(
        strategy=config.strategy["name"],
        cuts=len(cuts),
        total_signals=int(np.count_nonzero(_changes(full.signal[: cuts.max()]))),
        biased_entry_signals=int(np.count_nonzero(signal & wanted)),
        biased_exit_signals=int(np.count_nonzero(signal & ~wanted)),
        biased_targets=int(np.count_nonzero(target)),
        biased_orders=len(orders),
        biased_indicators=tuple(sorted(indicators)),
        first=first[1],
    )


def _seen(config: schema.Config, bars: Bars) -> Seen:
    strategy = build(config.strategy)
    result = backtest(config, bars)
    return Seen(strategy.signal(bars), result.target, result.fills, exposed(strategy, bars))


def _same_twice(config: schema.Config, bars: Bars, signal: Floats) -> None:
    changed = _differ(signal, build(config.strategy).signal(bars))
    if changed.any():
        first = bars.times[int(np.argmax(changed))]
        raise ConfigError(
            f"{config.strategy['name']}.signal says one thing and then another of the same bars, first at {first}",
            "a signal may depend on its bars and parameters alone: seed its random numbers, keep nothing between calls",
        )


def _cuts(signal: Floats, bars: Bars, memory: int, samples: int, seed: int) -> Ints:
    """How many bars the parts have, ascending; the last of each is in the warm-up, before a large move or one of `_rows`."""
    moves = np.abs(np.diff(bars.adjusted["close"]))
    warming = min(memory // 2, len(moves) - 1)
    telling = np.unique(np.maximum(1, np.append(np.argsort(-moves, kind="stable")[: samples // 4], warming)))[:samples]
    return np.sort(np.append(telling, _rows(signal[:-1], samples - len(telling), 1, seed, telling))) + 1


def _orders(seen: Seen, cut: int) -> set[tuple[Any, ...]]:
    fills = seen.fills[seen.fills["bar"] < cut]
    return set(zip(*(fills[name].tolist() for name in ENTRY), strict=True))


def _sentence(bars: Bars, row: int, cut: int, full: Floats, part: Floats) -> str:
    known = f"{bars.times[row]:%Y-%m-%d %H:%M} UTC, row {row}"
    return f"the signal of {known}, is {full[row]:g} with all bars and {part[row]:g} when the data end at row {cut - 1}"


# ------------------------------------------------------------------------------------------------------------------ warm-up


@dataclass(frozen=True)
class Warmup:
    """Worst deviation of the last value, in percent, by bars before it: 0 exact, NaN not computable.

    The signal's is in percent of a full position, an indicator's in percent of its value.
    """

    strategy: str
    memory: int  # as declared
    lengths: tuple[int, ...]
    samples: int
    deviation_percent: dict[str, tuple[float, ...]]  # by "signal" and the names of the indicators

    @property
    def enough(self) -> bool:
        """Whether the declared memory, and each longer warm-up, gives the exact signal."""
        return all(d == 0 for n, d in zip(self.lengths, self.deviation_percent["signal"], strict=True) if n >= self.memory)

    def as_dict(self) -> dict[str, Any]:
        return {"enough": self.enough} | asdict(self)


def warmup(config: schema.Config, bars: Bars, samples: int = 100, lengths: Sequence[int] = (), seed: int = 0) -> Warmup:
    """Deviation by warm-up length at `samples` rows: half of them random, half at a change of the signal, where little moves it.

    The declared memory is always among the lengths. DataError when the bars are not more than it.
    """
    strategy = build(config.strategy)
    memory = strategy.memory
    _enough(samples, len(bars), memory + 2)
    wanted = lengths or [round(memory * share) for share in SHARES]
    columns = tuple(sorted({n for n in (*wanted, memory) if 1 <= n <= len(bars) - 2}))
    full = _values(strategy, bars)
    rows = _rows(full["signal"], samples, columns[-1] + 1, seed)
    worst = {name: [0.0] * len(columns) for name in full}
    step = steps.begin("cutting the past off", len(columns) * len(rows))
    for i, length in enumerate(columns):
        for row in rows.tolist():
            part = _values(strategy, bars.rows(row - length, row + 1))
            for name, values in full.items():
                worst[name][i] = _worse(worst[name][i], _percent(name, values[row], part[name][-1]))
            step()
    shown = {name: tuple(values) for name, values in worst.items()}
    return Warmup(strategy.name, memory, columns, len(rows), shown)


def cells(warm: Warmup) -> list[list[str]]:
    """The rows of the printed table: name, then one cell per length: `-` exact, `nan%` not computable."""
    return [[name, *map(_cell, values)] for name, values in warm.deviation_percent.items()]


def _cell(percent: float) -> str:
    return "-" if percent == 0 else "nan%" if math.isnan(percent) else f"{percent:.3f}%"


def _values(strategy: Strategy, bars: Bars) -> dict[str, Floats]:
    return {"signal": strategy.signal(bars)} | exposed(strategy, bars)


def _percent(name: str, full: float, part: float) -> float:
    if not _differ(np.array([full]), np.array([part]))[0]:
        return 0.0
    unit = 1.0 if name == "signal" or full == 0 else abs(full)
    return 100.0 * (part - full) / unit


def _worse(a: float, b: float) -> float:
    if math.isnan(a) or math.isnan(b):
        return math.nan
    return a if abs(a) >= abs(b) else b


# ------------------------------------------------------------------------------------------------------------------- pieces


def _differ(full: Floats, part: Floats) -> Bools:
    """Rows that are not the same value, or not both unknown."""
    both = np.isnan(full) & np.isnan(part)
    with np.errstate(invalid="ignore"):
        near = np.abs(full - part) <= EXACT * np.maximum(1.0, np.abs(full))
    return ~(near | both)


def _changes(signal: Floats) -> Bools:
    """Rows whose signal is not that of the row before."""
    return np.concatenate([[False], _differ(signal[:-1], signal[1:])])


def _rows(signal: Floats, samples: int, low: int, seed: int, taken: Ints | tuple[()] = ()) -> Ints:
    """`samples` different rows from `low` on, none of them `taken`, fewer if there are not so many: half any, half where the signal
    changes."""
    rng = np.random.default_rng(seed)
    rows = np.setdiff1d(np.arange(low, len(signal)), taken)
    changing = rows[_changes(signal)[rows]]
    chosen = rng.choice(changing, min(len(changing), samples // 2), replace=False)
    rest = np.setdiff1d(rows, chosen)
    others = rng.choice(rest, min(len(rest), samples - len(chosen)), replace=False)
    return np.sort(np.concatenate([chosen, others]).astype(np.int64))


def _enough(samples: int, bars: int, least: int) -> None:
    if samples < 1:
        raise ConfigError(f"samples={samples} compares nothing; need at least 1")
    if bars < least:
        raise DataError(f"{bars} bars are too few for this check, which needs {least}", "choose a longer range of data.start and data.end")
