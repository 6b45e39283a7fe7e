"""Every bar, fill and trade of a run, compressed into the page, so that zooming in shows the bars
themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.base.instants import NS
from mcl.data.bars import Bars, Ints
from mcl.engine.result import FILL_REASONS, Result
from mcl.market.intervals import STEPS_SEC
from mcl.report.format import reason_words
from mcl.report.overlay import Overlay
from mcl.report.range_coding import digits, stream

MOST = 1_000_000  # bars in a page
LARGEST = (1 << 31) - 1
ROLL = FILL_REASONS.index("roll")
Floats = npt.NDArray[np.float64]


def detail(
    result: Result, fill_traces: Any, commission_usd: float, overlays: Sequence[Overlay] = ()
) -> dict[str, Any]:
    """Return the columns that zoom.js draws; prices in ticks, running columns as differences.

    Equity is not stored: it is cash + position · close · tick value at every bar, with cash moved
    by the fills alone, as the engine's books say. `fill_traces` holds the trace number of each
    fill. The bars are those of `drawn_rows`.
    """
    bars, fills, ticks = result.bars, result.fills, result.bars.ticks
    rows, _ = drawn_rows(bars)
    first = np.append(0, rows[:-1] + 1)
    close, seconds = ticks["close"][rows], bars.close_time[rows] // 10**9
    opens = ticks["open"][first]
    highs = np.maximum.reduceat(ticks["high"], first)
    lows = np.minimum.reduceat(ticks["low"], first)
    volume = np.minimum(np.add.reduceat(bars.volume, first, dtype=np.int64), LARGEST)
    fill_rows = np.searchsorted(rows, fills["bar"])
    between = np.diff(seconds, prepend=seconds[0])
    usual = int(np.median(between)) if len(between) > 1 else 0
    body = close.astype(np.int64) - opens
    traded = digits(volume)  # a bar that traded little moved little
    shape = np.minimum(traded, 7) * 4 + np.minimum(digits(body), 3)
    return {
        "start": int(seconds[0]),
        "usual": usual,
        "seconds": stream(between - usual),
        "volume": stream(volume),
        "firstOpen": int(opens[0]),
        "gap": stream(opens - np.append(opens[:1], close[:-1]), traded),
        "body": stream(body, traded),
        "upper": stream(highs - np.maximum(opens, close), shape),
        "lower": stream(np.minimum(opens, close) - lows, shape),
        "rolls": np.searchsorted(rows, np.flatnonzero(bars.roll)).tolist(),
        "fillBar": stream(np.diff(fill_rows, prepend=0)),
        "fillQuantity": stream(fills["quantity"]),
        # hundredths of a tick from the close
        "fillCenti": stream(np.rint((fills["price_ticks"] - close[fill_rows]) * 100)),
        "fillTrace": stream(fill_traces),
        "tick": bars.instrument.tick_size,
        "tickValue": bars.instrument.tick_value_usd,
        "capital": result.capital_usd,
        "commission": commission_usd,
        "lines": [_line(overlay, rows, bars.instrument.tick_size) for overlay in overlays],
        "trades": _trades(result, rows),
    }


def drawn_rows(bars: Bars) -> tuple[Ints, str]:
    """The last row of each bar that a page holds, and the interval of these bars. Every row is one
    up to MOST; of more those of the shortest interval from a minute on that makes at most MOST.
    """
    rows, name = np.arange(len(bars)), bars.interval
    longer = (item for item in STEPS_SEC.items() if item[1] >= max(60, STEPS_SEC[name] + 1))
    while len(rows) > MOST and (choice := next(longer, None)):
        name, step = choice
        span = (bars.close_time - 1) // (step * NS)
        rows = np.append(np.flatnonzero(np.diff(span)), len(bars) - 1)
    return rows, name


def dated_exits(result: Result) -> Floats:
    """The exit price of each trade in ticks of the contract that it ended in. The table of trades
    has it without the gaps of the rolls in between.
    """
    trades = result.trades
    return np.asarray(trades["exit_ticks"] + _roll_gaps(result), np.float64)


def _roll_gaps(result: Result) -> Floats:
    """The sum of the roll gaps within each trade, in ticks."""
    fills, trades = result.fills, result.trades
    price = fills["price_ticks"] - np.sign(fills["quantity"]) * fills["slippage_ticks"]
    legs = np.where(fills["position"] != 0, price, -price)
    total = np.append(0.0, np.cumsum(np.where(fills["reason"] == ROLL, legs, 0.0)))
    begin, end = (
        np.searchsorted(fills["bar"], trades[name], side="right")
        for name in ("entry_bar", "exit_bar")
    )
    return np.asarray(total[end] - total[begin], np.float64)


def _trades(result: Result, rows: Ints) -> dict[str, Any]:
    """Each trade as its row of the table has it: prices in hundredths of a tick, USD in cents."""
    t = result.trades
    entry, end = (np.searchsorted(rows, t[name]) for name in ("entry_bar", "exit_bar"))
    cents = {
        "net": t["gross_usd"] - t["commission_usd"],
        "commission": t["commission_usd"],
        "worst": t["mae_usd"],
        "best": t["mfe_usd"],
    }
    return {
        "entry": stream(np.diff(entry, prepend=0)),
        "bars": stream(end - entry),
        "quantity": stream(t["quantity"]),
        "entryCenti": stream(np.diff(np.rint(t["entry_ticks"] * 100), prepend=0)),
        "exitCenti": stream(np.rint((t["exit_ticks"] - t["entry_ticks"]) * 100)),
        "gapCenti": stream(np.rint(_roll_gaps(result) * 100)),
        **{name: stream(np.rint(usd * 100)) for name, usd in cents.items()},
        "reason": stream(t["exit_reason"]),
        "reasons": [reason_words(reason) for reason in FILL_REASONS],
    }


def _line(overlay: Overlay, rows: Ints, tick: float) -> dict[str, Any]:
    """An overlay in steps of a fifth of a tick (protective levels: of a tick), or of 1/5000 of its
    range when it is no price.

    `holes` are the first row without a value and the first with one again, and so on.
    """
    values = overlay.values[rows]
    finite = np.isfinite(values)
    reach = float(np.ptp(values[finite])) if finite.any() else 0.0
    step = (
        tick / (1 if overlay.protective else 5)
        if overlay.on_price
        else max(10.0 ** np.floor(np.log10(max(reach, 1e-9) / 5000)), 1e-9)
    )
    # a hole repeats the value before it
    last = np.maximum.accumulate(np.where(finite, np.arange(len(finite)), 0))
    whole = np.rint(np.nan_to_num(values)[last] / step)
    holes = np.flatnonzero(np.diff(~finite, prepend=False))
    order = 1 if overlay.protective else 2  # the second differences of what is smooth are small
    return {
        "name": overlay.name,
        "onPrice": overlay.on_price,
        "order": order,
        "steps": stream(np.diff(np.append(np.zeros(order), whole), n=order)),
        "holes": stream(np.diff(holes, prepend=0)),
        "step": step,
        "protective": overlay.protective,
    }
