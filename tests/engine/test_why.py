"""Where the bars of a run went, and the values behind a block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from mcl.config import schema
from mcl.engine.diagnostics import explain, why
from mcl.engine.result import FILL_REASONS, Result
from mcl.risk.blocks import Block, TradingState

from .flows import Flow, anything, limited
from .test_dollars import WIDE, flat_bars, trade


def counts(result: Result) -> dict[tuple[str, str], int]:
    rows = why(result)
    return dict(zip(zip(rows["stage"], rows["step"], strict=True), rows["count"], strict=True))


def test_the_waterfall_of_a_small_run() -> None:
    limits = WIDE.model_copy(update={"max_trades_per_session": 1})
    result = trade(flat_bars(*[7000] * 9), [np.nan, 0, 0.4, 2, 2, 0, -1, -1, 0], limits=limits)
    assert counts(result) == {
        ("bars", "all"): 9,
        ("no signal", "warming up"): 1,
        ("no signal", "flat"): 3,
        ("no signal", "under one contract"): 1,
        ("blocked", "MAX_TRADES"): 2,
        ("signal", "already in position"): 1,
        ("signal", "asks for a trade"): 1,
        ("order", "sent"): 2,
        ("order", "of these forced"): 0,
        ("order", "standing"): 0,
        ("order", "too late"): 0,
        ("fill", "signal"): 2,
    }


@given(anything())
@settings(max_examples=60)
def test_every_bar_and_every_fill_is_counted_once(flow: Flow) -> None:
    result = flow.run()
    table = why(result)
    of = table.groupby("stage")["count"].sum()
    assert of.get("no signal", 0) + of.get("blocked", 0) + of["signal"] == len(flow.bars)
    assert of.get("fill", 0) == len(result.fills)
    orders = counts(result)
    assert orders["order", "sent"] + orders["order", "standing"] == int(
        (result.target != result.position).sum()
    )


@given(limited())
@settings(max_examples=60)
def test_at_the_market_every_order_but_the_last_is_a_fill(flow: Flow) -> None:
    result, by_step = flow.run(), counts(flow.run())
    filled = sum(by_step.get(("fill", reason), 0) for reason in ("signal", "risk"))
    assert by_step["order", "sent"] - by_step["order", "too late"] == filled
    assert by_step["order", "standing"] == 0
    assert by_step["order", "of these forced"] >= by_step.get(("fill", "risk"), 0)
    assert result.fills["reason"].max(initial=0) < FILL_REASONS.index("end")


@pytest.mark.parametrize(
    ("wanted", "changes", "row", "sentence"),
    [
        ([4, 4, 4], {"max_position": 2}, 0, "MAX_POSITION: wanted=4, limit=2"),
        ([4, 4, 4], {"max_order": 3}, 0, "MAX_ORDER: wanted=4, held=0, limit=3"),
        ([1, 1, 1], {"max_daily_loss_usd": 50.0}, 2, "DAILY_LOSS: loss_usd=101.77, limit=50"),
        (
            [1, 1, 1],
            {"max_drawdown_frac": 0.01},
            2,
            "MAX_DRAWDOWN: drawdown_frac=0.010177, limit=0.01",
        ),
        (
            [9, 9, 9],
            {"initial_margin_usd": 2_500.0},
            0,
            "MARGIN: wanted=9, equity_usd=10000, limit=2500",
        ),
        (
            [1, 1, 1],
            {"no_entry_before_close_sec": 82_800},
            1,
            "NO_ENTRY: limit=82800, to_close_sec=5880",
        ),
        ([1, 1, 1], {}, 1, "NONE"),
    ],
)
def test_a_block_tells_its_values(
    wanted: list[float], changes: dict[str, float], row: int, sentence: str
) -> None:
    limits = schema.Limits(**(WIDE.model_dump() | changes))
    assert (
        explain(trade(flat_bars(7000, 7000, 6900), wanted, limits=limits), limits, row) == sentence
    )


def test_what_the_account_may_do_under_each_block() -> None:
    assert Block.NONE.state is TradingState.NORMAL
    assert Block.COOL_DOWN.state is TradingState.REDUCE_ONLY
    assert Block.DAILY_LOSS.state is Block.HALTED.state is TradingState.HALTED
