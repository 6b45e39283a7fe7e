"""Explain why nothing was traded: count the bars of a run from wish to fill, and name the values
behind a single block.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcl.base.errors import EngineError
from mcl.config import schema
from mcl.engine.decision import FORCED, whole_contracts
from mcl.engine.result import FILL_REASONS, Result
from mcl.risk.blocks import LIMIT_OF, Block

COLUMNS = ("stage", "step", "count", "meaning")


def why(result: Result) -> pd.DataFrame:
    """One row per step, in the columns of COLUMNS. Each bar is in exactly one row of the stages `no
    signal`, `blocked` and `signal`.

    The rows of `order` count the bars whose target is not the position: they are `sent` or, said
    again, `standing`; a forced one is counted in both its block and `sent`. The rows of `fill`
    count fills by reason.
    """
    if result.wanted is None:
        raise EngineError(
            "this result was put together without wishes; only simulated ones can tell why nothing"
            " was traded"
        )
    return pd.DataFrame(
        [*_signals(result), *_orders(result), *_fills(result)], columns=list(COLUMNS)
    )


def explain(result: Result, limits: schema.Limits, row: int) -> str:
    """`MAX_POSITION: wanted=4, limit=2`: the block at a row with the values that it compared;
    `NONE` where there is none.
    """
    block = Block(int(result.block[row]))
    values = ", ".join(f"{name}={value:g}" for name, value in _values(result, limits, row, block))
    return f"{block.name}: {values}" if values else block.name


def block_table() -> str:
    """The codes as a Markdown table."""
    rows = [
        f"| {block.value} | {block.name} | {block.state.name} | {block.text} |"
        for block in Block
        if block
    ]
    return "\n".join(["| code | block | state | meaning |", "|---|---|---|---|", *rows])


def _wholes(wanted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    real = np.nan_to_num(wanted, nan=0.0, posinf=0.0, neginf=0.0)
    return np.trunc(real + np.copysign(1e-9, real))


def _signals(result: Result) -> Iterator[tuple[str, str, int, str]]:
    wanted, off_target = result.wanted, result.target != result.position
    assert wanted is not None  # noqa: S101 - told to the type checker; `why` has looked
    warming, flat = np.isnan(wanted), wanted == 0
    small = ~warming & ~flat & (_wholes(wanted) == 0)
    signal = ~(warming | flat | small)
    yield "bars", "all", len(wanted), "decisions of the run"
    yield (
        "no signal",
        "warming up",
        int(np.count_nonzero(warming)),
        "an indicator, a size or a protective distance is not known yet",
    )
    yield "no signal", "flat", int(np.count_nonzero(flat)), "the strategy wants no position"
    yield (
        "no signal",
        "under one contract",
        int(np.count_nonzero(small)),
        "the size comes to less than a whole contract",
    )
    for code in np.unique(result.block[signal & ~off_target]).tolist():
        if code:
            yield (
                "blocked",
                Block(code).name,
                int(np.count_nonzero(signal & ~off_target & (result.block == code))),
                Block(code).text,
            )
    yield (
        "signal",
        "already in position",
        int(np.count_nonzero(signal & ~off_target & (result.block == 0))),
        "what is wanted is held",
    )
    yield (
        "signal",
        "asks for a trade",
        int(np.count_nonzero(signal & off_target)),
        "the target is not the position",
    )


def _orders(result: Result) -> Iterator[tuple[str, str, int, str]]:
    off_target = result.target != result.position
    fresh = off_target & (result.target != np.concatenate([[0], result.target[:-1]]))
    fresh |= off_target & np.concatenate([[False], ~off_target[:-1]])
    forced = fresh & (result.block >= FORCED)
    yield "order", "sent", int(np.count_nonzero(fresh)), "targets that were new"
    yield (
        "order",
        "of these forced",
        int(np.count_nonzero(forced)),
        "by a limit that closes or reduces",
    )
    yield (
        "order",
        "standing",
        int(np.count_nonzero(off_target & ~fresh)),
        "bars in which an order waited for its price, its time or its volume",
    )
    yield "order", "too late", int(off_target[-1]), "decided at the last bar: there is no next open"


def _fills(result: Result) -> Iterator[tuple[str, str, int, str]]:
    for number, reason in enumerate(FILL_REASONS):
        count = int((result.fills["reason"] == number).sum())
        if count:
            yield "fill", reason, count, _MEANINGS[reason]


_MEANINGS = {
    "signal": "of an order for a target of the strategy",
    "stop": "of a protective or trailing stop",
    "take_profit": "of a take-profit",
    "roll": "legs of a roll: two for each",
    "risk": "of an order that a limit forced",
}


def _values(
    result: Result, limits: schema.Limits, row: int, block: Block
) -> Iterator[tuple[str, float]]:
    equity, position = float(result.equity[row]), int(result.position[row])
    wanted = whole_contracts(float(result.wanted[row])) if result.wanted is not None else 0
    if block in (Block.MAX_POSITION, Block.MAX_ORDER, Block.MARGIN, Block.MARGIN_CALL):
        yield "wanted", wanted
    if block in (Block.MAX_ORDER, Block.MARGIN_CALL):
        yield "held", position
    if block in (Block.MARGIN, Block.MARGIN_CALL):
        yield "equity_usd", equity
    if block is Block.DAILY_LOSS:
        first = int(np.searchsorted(result.bars.session, result.bars.session[row], "left"))
        yield (
            "loss_usd",
            (float(result.equity[first - 1]) if first else result.capital_usd) - equity,
        )
    if block is Block.MAX_DRAWDOWN:
        peak = max(result.capital_usd, float(result.equity[: row + 1].max()))
        yield "drawdown_frac", (peak - equity) / peak
    if block in LIMIT_OF:
        yield "limit", float(getattr(limits, LIMIT_OF[block]))
    if block in (Block.NO_ENTRY, Block.SESSION_END):
        yield "to_close_sec", int(result.bars.to_close_sec[row])
