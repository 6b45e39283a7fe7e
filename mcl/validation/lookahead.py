"""Does a strategy peek, and does it declare enough memory? Both are answered by computing it again
on a part of the bars.

`lookahead` cuts the future off: a signal, target or order before the cut that changes was not known
then. `warmup` cuts the past off: the deviation of the last value, by the number of bars that were
left before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mcl.base import access_recorder, progress
from mcl.base.errors import ConfigError, DataError
from mcl.config import schema
from mcl.data.bars import Bars, Bools, Floats, Ints
from mcl.engine.backtest import backtest
from mcl.engine.result import Result
from mcl.strategy import Strategy, build, exposed, memory_at

EXACT = 1e-9  # of max(1, |value|): what a different order of summation may cost
# of the declared memory: the default columns of the warm-up table
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2)
WINDOWS = 300  # short parts at most
WINDOW_BUDGET = 10  # times the bars: what all of them together may hold
FREE_ROWS = 2_000_000  # rows that they may hold however few bars there are
TRADED_PARTS = 5  # parts that are traded even where their signal does not differ
MOST_GAINS = 1_000  # rows that are put in order of their gain or move
ENTRY = ("bar", "contract", "quantity", "price_ticks", "reason")  # what makes two fills the same

# --------------------------------------------------------------------------------------- look-ahead


@dataclass(frozen=True)
class Lookahead:
    """The changes on rows before a cut. `total_signals` counts changes of the full signal in the
    rows that were compared.
    """

    strategy: str
    cuts: int  # of the whole past at a time
    windows: int  # of a session before and after a row, cut at the row
    sampled: dict[str, int]  # the rows that were cut at, by the reason for choosing them
    total_signals: int
    # rows where the full signal wants a position and a cut one wants another
    biased_entry_signals: int
    biased_exit_signals: int  # rows where the full signal is flat or unknown and a cut one is not
    biased_targets: int  # rows
    biased_orders: int  # fills that only one of both runs has
    biased_indicators: tuple[str, ...]
    first: str  # the earliest difference, as a sentence; empty without one
    reads: tuple[str, ...]  # what own code reads besides its bars: no cut can judge that

    @property
    def has_bias(self) -> bool:
        counts = (
            self.biased_entry_signals,
            self.biased_exit_signals,
            self.biased_targets,
            self.biased_orders,
            len(self.biased_indicators),
        )
        return any(counts)

    def as_dict(self) -> dict[str, Any]:
        return {"has_bias": self.has_bias} | asdict(self)


class Computation(NamedTuple):
    """All that a strategy and the engine make of some bars."""

    signal: Floats
    indicators: dict[str, Floats]
    result: Result

    @property
    def target(self) -> npt.NDArray[np.int32]:
        return self.result.target


@dataclass
class _Findings:
    """Rows of the full run that a part contradicts, gathered part by part."""

    signal: Bools
    target: Bools
    orders: set[tuple[Any, ...]] = field(default_factory=set)
    indicators: set[str] = field(default_factory=set)
    first: tuple[int, str] = (1 << 62, "")

    def take(self, start: int, full: Floats, part: Floats, sentence: Callable[[int], str]) -> bool:
        """Compare a signal on rows from `start` on; `sentence` tells of a row of the part. Whether
        they differ.
        """
        wrong = _differ(full, part)
        self.signal[start : start + len(part)] |= wrong
        if wrong.any() and start + (row := int(np.argmax(wrong))) < self.first[0]:
            self.first = start + row, sentence(row)
        return bool(wrong.any())


def lookahead(config: schema.Config, bars: Bars, samples: int = 40, seed: int = 0) -> Lookahead:
    """Compare the signal on all bars with the signal on a part that ends at a row, for rows in
    every part of the sample.

    `samples` parts begin with the first bar: they show what looks at the whole. Up to WINDOWS more
    hold the declared memory, a session before the row and one after it: they are short, so that
    many rows are asked, and a peek that is rare is met. Rows are chosen by turns for each reason in
    `_places`. Targets and orders are compared in the first parts and wherever a signal differs.

    ConfigError for samples < 1 and for a strategy that contradicts itself, DataError for fewer than
    three bars.
    """
    _enough(samples, len(bars), 3)
    with access_recorder.recording() as reads:
        full = _computation(config, bars)
        _same_twice(config, bars, full.signal)
        memory, span = (
            memory_at(build(config.strategy), bars.interval),
            int(np.diff(bars.session_ends, prepend=-1).max()),
        )
        places = _places(full, bars, memory, seed)
        cuts = _by_turns(places, samples)
        reach = 2 * (min(memory, len(bars)) + 2 * span)
        budget = max(FREE_ROWS, WINDOW_BUDGET * len(bars))
        windows = _by_turns(places, max(1, min(WINDOWS, budget // reach)))
        findings = _Findings(np.zeros(len(bars), np.bool_), np.zeros(len(bars), np.bool_))
        step = progress.begin("cutting the future off", len(cuts) + len(windows))
        for number, row in enumerate(cuts):
            _cut_at(config, bars, full, row, findings, number < TRADED_PARTS)
            step()
        for row in windows:
            _window_at(
                config,
                bars,
                (max(0, row + 1 - memory - span), row, min(len(bars), row + 1 + span)),
                findings,
            )
            step()
    wanted, last = np.nan_to_num(full.signal) != 0, max((*cuts, *windows))
    return Lookahead(
        strategy=config.strategy["name"],
        cuts=len(cuts),
        windows=len(windows),
        sampled={
            name: len({*cuts, *windows} & set(rows.tolist())) for name, rows in places.items()
        },
        total_signals=int(np.count_nonzero(_changes(full.signal[: last + 1]))),
        biased_entry_signals=int(np.count_nonzero(findings.signal & wanted)),
        biased_exit_signals=int(np.count_nonzero(findings.signal & ~wanted)),
        biased_targets=int(np.count_nonzero(findings.target)),
        biased_orders=len(findings.orders),
        biased_indicators=tuple(sorted(findings.indicators)),
        first=findings.first[1],
        reads=tuple(sorted(reads)),
    )


def _cut_at(
    config: schema.Config,
    bars: Bars,
    full: Computation,
    row: int,
    findings: _Findings,
    traded: bool,
) -> None:
    """Compare with the part that ends at `row`, its targets and orders as well if `traded` or if
    its signal differs.
    """
    part, strategy, stop = bars.rows(0, row + 1), build(config.strategy), row + 1
    signal = strategy.signal(part)

    def sentence(at: int) -> str:
        return _sentence(bars, at, stop, full.signal, signal)

    differs = findings.take(0, full.signal[:stop], signal, sentence)
    indicators = exposed(strategy, part)
    findings.indicators |= {
        name
        for name, values in indicators.items()
        if _differ(full.indicators[name][:stop], values).any()
    }
    if differs or traded:
        again = backtest(config, part)
        findings.target[:stop] |= full.target[:stop] != again.target
        findings.orders |= _orders(full.result, stop) ^ _orders(again, stop)


def _window_at(
    config: schema.Config, bars: Bars, window: tuple[int, int, int], findings: _Findings
) -> None:
    """Compare the signals of two windows that begin at the same row; one ends at `row`, the other
    continues.
    """
    start, row, stop = window
    strategy = build(config.strategy)
    ahead, alone = (
        strategy.signal(bars.rows(start, stop)),
        strategy.signal(bars.rows(start, row + 1)),
    )

    def sentence(at: int) -> str:
        at_row = f"the signal of {bars.times[start + at]:%Y-%m-%d %H:%M} UTC, row {start + at}"
        return (
            f"{at_row}, is {ahead[at]:g} with the next session and {alone[at]:g} when the data end"
            f" at row {row}"
        )

    findings.take(start, ahead[: len(alone)], alone, sentence)


def _computation(config: schema.Config, bars: Bars) -> Computation:
    strategy, result = build(config.strategy), backtest(config, bars)
    return Computation(strategy.signal(bars.point_in_time), exposed(strategy, bars), result)


def _same_twice(config: schema.Config, bars: Bars, signal: Floats) -> None:
    changed = _differ(signal, build(config.strategy).signal(bars.point_in_time))
    if changed.any():
        first = bars.times[int(np.argmax(changed))]
        raise ConfigError(
            f"{config.strategy['name']}.signal says one thing and then another of the same bars,"
            f" first at {first}",
            "a signal may depend on its bars and parameters alone: seed its random numbers, keep"
            " nothing between calls",
        )


def _places(full: Computation, bars: Bars, memory: int, seed: int) -> dict[str, Ints]:
    """Rows to cut behind, by the reason for choosing them, the most telling first. Row i is decided
    on at its close, traded after it.
    """
    rng, last = np.random.default_rng(seed), len(bars) - 2
    moves = np.abs(np.diff(bars.adjusted["close"]))
    trades, gains = full.result.trades, np.diff(full.result.equity)
    best = trades[np.argsort(trades["commission_usd"] - trades["gross_usd"], kind="stable")]
    rolls, ends, changes = (
        np.flatnonzero(bars.roll),
        bars.session_ends,
        np.flatnonzero(_changes(full.signal)[:-1]),
    )
    near = {
        "ends": np.array([memory // 2, last, memory, 0, last - 1, last // 2]),
        "largest gains": _alternating(
            best["entry_bar"] - 1,
            best["exit_bar"] - 1,
            np.argsort(-gains, kind="stable")[:MOST_GAINS],
        ),
        "largest moves": np.argsort(-moves, kind="stable")[:MOST_GAINS],
        "changes before a gain": changes[np.argsort(-gains[changes], kind="stable")],
        "signal changes": rng.permutation(changes),
        "before signal changes": rng.permutation(changes - 1),
        "rolls": (rng.permutation(rolls)[:, None] + [-1, 0, 1]).ravel(),
        "session changes": (rng.permutation(ends)[:MOST_GAINS, None] + [-1, 0, 1]).ravel(),
        "any": rng.permutation(last + 1)[: 2 * MOST_GAINS],
    }
    return {name: rows[(rows >= 0) & (rows <= last)] for name, rows in near.items()}


def _alternating(*columns: Ints) -> Ints:
    """The first of each, then the second of each, and so on."""
    order = np.concatenate([np.arange(len(column)) for column in columns])
    return np.concatenate(columns)[np.argsort(order, kind="stable")]


def _by_turns(places: dict[str, Ints], count: int) -> list[int]:
    """`count` different rows, ascending, one of each kind by turns; fewer where there are not so
    many.
    """
    chosen: dict[int, None] = {}
    waiting = [iter(rows.tolist()) for rows in places.values()]
    while waiting and len(chosen) < count:
        for rows in list(waiting):
            row = next((row for row in rows if row not in chosen), None)
            if row is None:
                waiting.remove(rows)
            elif len(chosen) < count:
                chosen[row] = None
    return sorted(chosen)


def _orders(result: Result, cut: int) -> set[tuple[Any, ...]]:
    fills = result.fills[result.fills["bar"] < cut]
    return set(zip(*(fills[name].tolist() for name in ENTRY), strict=True))


def _sentence(bars: Bars, row: int, cut: int, full: Floats, part: Floats) -> str:
    moment = f"{bars.times[row]:%Y-%m-%d %H:%M} UTC, row {row}"
    return (
        f"the signal of {moment}, is {full[row]:g} with all bars and {part[row]:g} when the data"
        f" end at row {cut - 1}"
    )


# ------------------------------------------------------------------------------------------ warm-up


@dataclass(frozen=True)
class Warmup:
    """Worst deviation of the last value, in percent, by bars before it: 0 exact, NaN not
    computable.

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
        return all(
            d == 0
            for n, d in zip(self.lengths, self.deviation_percent["signal"], strict=True)
            if n >= self.memory
        )

    def as_dict(self) -> dict[str, Any]:
        return {"enough": self.enough} | asdict(self)


def warmup(
    config: schema.Config,
    bars: Bars,
    samples: int = 100,
    lengths: Sequence[int] = (),
    seed: int = 0,
) -> Warmup:
    """Deviation by warm-up length at `samples` rows: half of them random, half at a change of the
    signal, where little moves it.

    The declared memory is always among the lengths. DataError when the bars are not more than it.
    """
    strategy = build(config.strategy)
    memory = memory_at(strategy, bars.interval)
    _enough(samples, len(bars), memory + 2)
    for length in lengths:
        if not 1 <= length <= len(bars) - 2:
            raise ConfigError(
                f"lengths: {length:,} is not between 1 and {len(bars) - 2:,}, by the bars of the"
                " data",
                "--lengths 20,100",
            )
    wanted = lengths or [round(memory * share) for share in SHARES]
    columns = tuple(sorted({n for n in (*wanted, memory) if 1 <= n <= len(bars) - 2}))
    full = _values(strategy, bars.point_in_time)
    rows = _rows(full["signal"], samples, columns[-1] + 1, seed)
    worst = {name: [0.0] * len(columns) for name in full}
    step = progress.begin("cutting the past off", len(columns) * len(rows))
    for i, length in enumerate(columns):
        for row in rows.tolist():
            part = _values(strategy, bars.rows(row - length, row + 1))
            for name, values in full.items():
                worst[name][i] = _worse(worst[name][i], _percent(name, values[row], part[name][-1]))
            step()
    deviations = {name: tuple(values) for name, values in worst.items()}
    return Warmup(strategy.name, memory, columns, len(rows), deviations)


def cells(warm: Warmup) -> list[list[str]]:
    """The rows of the printed table: name, then one cell per length: `-` exact, `nan%` not
    computable.
    """
    return [[name, *map(_cell, values)] for name, values in warm.deviation_percent.items()]


def _cell(percent: float) -> str:
    return "-" if percent == 0 else "n/a" if math.isnan(percent) else f"{percent:.3f}%"


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


# ------------------------------------------------------------------------------------------- pieces


def _differ(full: Floats, part: Floats) -> Bools:
    """Rows that are not the same value, or not both unknown."""
    both = np.isnan(full) & np.isnan(part)
    with np.errstate(invalid="ignore"):
        near = np.abs(full - part) <= EXACT * np.maximum(1.0, np.abs(full))
    return ~(near | both)


def _changes(signal: Floats) -> Bools:
    """Rows whose signal is not that of the row before."""
    return np.concatenate([[False], _differ(signal[:-1], signal[1:])])


def _rows(signal: Floats, samples: int, low: int, seed: int) -> Ints:
    """`samples` different rows from `low` on, fewer if there are not so many: half any, half where
    the signal changes.
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(low, len(signal))
    changing = rows[_changes(signal)[rows]]
    chosen = rng.choice(changing, min(len(changing), samples // 2), replace=False)
    rest = np.setdiff1d(rows, chosen)
    others = rng.choice(rest, min(len(rest), samples - len(chosen)), replace=False)
    return np.sort(np.concatenate([chosen, others]).astype(np.int64))


def _enough(samples: int, bars: int, least: int) -> None:
    if samples < 1:
        raise ConfigError(f"samples={samples} compares nothing; need at least 1")
    if bars < least:
        raise DataError(
            f"{bars} bars are too few for this check, which needs {least}",
            "choose a longer range of data.start and data.end",
        )
    if samples > bars:
        raise ConfigError(
            f"samples={samples:,} is more than the {bars:,} bars of the data",
            f"--samples {min(bars, 100)}",
        )
