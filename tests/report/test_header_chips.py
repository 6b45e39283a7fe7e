"""The header of a page: the choices of its run, and the data set in a few words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from mcl.engine.result import Result
from mcl.report.header_chips import chips, data_label, market_label
from mcl.report.run import RunView, run_page

CONFIG: dict[str, Any] = {
    "data": {
        "source": "synthetic",
        "world": "planted_edge",
        "seed": 7,
        "instrument": "MCL",
        "interval": "1m",
        "start": None,
        "end": "2025-01-31",
        "holdout_start": "2025-01-01",
        "roll": {"rule": "calendar"},
    },
    "strategy": {"name": "ema_cross", "fast": 10, "slow": 30, "exit": None, "filter": {"on": True}},
    "risk": {
        "size": {"method": "fixed", "contracts": 1.0},
        "protection": {"unit": "atr", "stop": 2.5, "trail": None},
        "limits": {"max_position": 2, "max_daily_loss_usd": None, "max_drawdown_frac": 0.5},
    },
    "costs": {
        "slippage_ticks": 1.0,
        "commission_usd": 0.25,
        "exchange_usd": 0.5,
        "regulatory_usd": 0.02,
    },
    "execution": {"entry": "market", "latency_bars": 0, "participation_frac": None},
    "capital_usd": 25_000.0,
}


@pytest.mark.parametrize(
    ("data", "label", "market"),
    [
        (CONFIG["data"], "MCL 1m planted_edge seed 7", "MCL planted_edge seed 7"),
        (
            {"instrument": "CL", "interval": "5m", "source": "databento", "path": None},
            "CL 5m databento",
            "CL databento",
        ),
        (
            {"instrument": "MCL", "interval": "1m", "source": "csv", "path": "/tmp/x/prices.csv"},
            "MCL 1m csv prices.csv",
            "MCL csv prices.csv",
        ),
        ({}, "", ""),
    ],
)
def test_a_data_set_in_a_few_words(data: dict[str, Any], label: str, market: str) -> None:
    assert (data_label(data), market_label(data)) == (label, market)


def test_every_group_says_its_choice_and_nothing_is_null() -> None:
    assert chips(CONFIG) == [
        "data MCL 1m planted_edge seed 7, to 2025-01-31, roll calendar, hold-out from 2025-01-01",
        "strategy ema_cross: fast 10, slow 30, filter.on true",
        "risk fixed: contracts 1",
        "protection atr: stop 2.5",
        "limits: max_position 2, max_drawdown_frac 0.5",
        "costs 0.77 USD a side, slippage 1 tick",
        "execution market",
        "capital 25,000.00 USD",
    ]


def test_what_a_search_varies_has_no_single_value() -> None:
    search = {
        "sampler": "tpe",
        "trials": 50,
        "metric": "sharpe",
        "walk_forward": None,
        "folds": 5,
        "select": "peak",
    }
    found = chips(CONFIG, search=search, searched=["strategy.fast", "risk.size.contracts"])
    assert "strategy ema_cross: fast searched, slow 30, filter.on true" in found
    assert "risk fixed: contracts searched" in found
    assert found[-1] == "search tpe: trials 50, metric sharpe, select peak"
    walk = chips(CONFIG, search=search | {"walk_forward": "anchored"})
    assert walk[-1].endswith("walk_forward anchored, folds 5, select peak")


def test_many_values_are_counted() -> None:
    many = {"name": "own"} | {f"p{i}": i for i in range(9)}
    [chip] = [c for c in chips(CONFIG | {"strategy": many}) if c.startswith("strategy")]
    assert chip == "strategy own: p0 0, p1 1, p2 2, p3 3, p4 4, p5 5, 3 more"


def test_the_page_of_a_run_has_them(month: Result, make_view: Callable[..., RunView]) -> None:
    html = run_page(make_view(month, config=CONFIG))
    listed = re.findall(
        r"<li>(.*?)</li>", html.partition('<ul class="chips"')[2].partition("</ul>")[0]
    )
    assert listed == chips(CONFIG)
