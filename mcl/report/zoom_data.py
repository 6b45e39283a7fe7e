"""Every bar, fill and trade of a run, compressed into the page, so that zooming in shows the bars
themselves.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.engine.result import FILL_REASONS, Result
from mcl.report.format import reason_words
from mcl.report.overlay import Overlay

LEVEL = 6  # of zlib
ROLL = FILL_REASONS.index("roll")
Floats = npt.NDArray[np.float64]


def stream(values: Any) -> str:
    """Whole numbers as base64 of zlib of the four byte planes of little-endian uint32.

    Signs are in the lowest bit (0, -1, 1, -2 are 0, 1, 2, 3), so that small numbers of either sign
    fill one plane. That takes half of the bytes of two's complement.
    """
    whole = np.ascontiguousarray(values).astype(np.int32)
    folded = ((whole << 1) ^ (whole >> 31)).astype("<u4")
    planes = folded.view(np.uint8).reshape(-1, 4).T
    return base64.b64encode(zlib.compress(planes.tobytes(), LEVEL)).decode("ascii")


def opened(text: str) -> Any:
    """The int32 array that `stream` wrote."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(4, -1)
    folded = np.ascontiguousarray(planes.T).view("<u4").ravel()
    return (folded >> 1).astype(np.int32) ^ -(folded & 1).astype(np.int32)


def detail(
    result: Result, fill_traces: Any, commission_usd: float, overlays: Sequence[Overlay] = ()
) -> dict[str, Any]:
    """Return the columns that zoom.js draws; prices in ticks, running columns as differences.

    Equity is not stored: it is cash + position · close · tick value at every bar, with cash moved
    by the fills alone, as the engine's books say. `fill_traces` holds the trace number of each
    fill.
    """
    bars, fills, ticks = result.bars, result.fills, result.bars.ticks
    close, start = ticks["close"], int(bars.close_time[0]) // 10**9
    opens = ticks["open"]
    before = np.append(opens[:1], close[:-1])
    return {
        "start": start,
        "seconds": stream(np.diff(bars.close_time // 10**9, prepend=start)),
        "close": stream(np.diff(close, prepend=0)),
        "firstOpen": int(opens[0]),
        "open": stream(opens - before),
        "upper": stream(ticks["high"] - np.maximum(opens, close)),
        "lower": stream(np.minimum(opens, close) - ticks["low"]),
        "volume": stream(bars.volume),
        "rolls": np.flatnonzero(bars.roll).tolist(),
        "fillBar": stream(np.diff(fills["bar"], prepend=0)),
        "fillQuantity": stream(fills["quantity"]),
        # hundredths of a tick from the close
        "fillCenti": stream(np.rint((fills["price_ticks"] - close[fills["bar"]]) * 100)),
        "fillTrace": stream(fill_traces),
        "tick": bars.instrument.tick_size,
        "tickValue": bars.instrument.tick_value_usd,
        "capital": result.capital_usd,
        "commission": commission_usd,
        "lines": [_line(overlay, bars.instrument.tick_size) for overlay in overlays],
        "trades": _trades(result),
    }


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


def _trades(result: Result) -> dict[str, Any]:
    """Each trade as its row of the table has it: prices in hundredths of a tick, USD in cents."""
    t = result.trades
    cents = {
        "net": t["gross_usd"] - t["commission_usd"],
        "commission": t["commission_usd"],
        "worst": t["mae_usd"],
        "best": t["mfe_usd"],
    }
    return {
        "entry": stream(np.diff(t["entry_bar"], prepend=0)),
        "bars": stream(t["exit_bar"] - t["entry_bar"]),
        "quantity": stream(t["quantity"]),
        "entryCenti": stream(np.diff(np.rint(t["entry_ticks"] * 100), prepend=0)),
        "exitCenti": stream(np.rint((t["exit_ticks"] - t["entry_ticks"]) * 100)),
        "gapCenti": stream(np.rint(_roll_gaps(result) * 100)),
        **{name: stream(np.rint(usd * 100)) for name, usd in cents.items()},
        "reason": stream(t["exit_reason"]),
        "reasons": [reason_words(reason) for reason in FILL_REASONS],
    }


def _line(overlay: Overlay, tick: float) -> dict[str, Any]:
    """An overlay in steps of a tenth of a tick (protective levels: of a tick), or of 1/5000 of its
    range when it is no price.

    `holes` are the first row without a value and the first with one again, and so on.
    """
    finite = np.isfinite(overlay.values)
    reach = float(np.ptp(overlay.values[finite])) if finite.any() else 0.0
    step = (
        tick / (1 if overlay.protective else 10)
        if overlay.on_price
        else max(10.0 ** np.floor(np.log10(max(reach, 1e-9) / 5000)), 1e-9)
    )
    # a hole repeats the value before it
    last = np.maximum.accumulate(np.where(finite, np.arange(len(finite)), 0))
    whole = np.rint(np.nan_to_num(overlay.values)[last] / step)
    holes = np.flatnonzero(np.diff(~finite, prepend=False))
    return {
        "name": overlay.name,
        "onPrice": overlay.on_price,
        "steps": stream(np.diff(whole, prepend=0)),
        "holes": stream(np.diff(holes, prepend=0)),
        "step": step,
        "protective": overlay.protective,
    }
