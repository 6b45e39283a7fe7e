"""What sessions on the simulated TWS cost, by month, beside what was configured, and the settings
that come of it.
"""

from __future__ import annotations

import asyncio
import json
import math
import shlex
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from deployments import OPEN_GATES, Project, empty_store, project

from mcl import composition
from mcl.base.errors import LiveError, StoreError
from mcl.cli.main import main
from mcl.config import schema
from mcl.live import session_setup as staging
from mcl.live.audit.record import AuditedSession, track_audit
from mcl.live.audit.slippage import LiveFill, split
from mcl.promotion.cost_table import CostTable, _commission, _fills, _slippage, cost_table
from mcl.promotion.promote import promote
from mcl.simulators.tws import account
from mcl.simulators.tws.account import AccountTerms
from mcl.tracking.backtest_run import parquet
from mcl.tracking.store import StoredRun

from .live_bench import Bench

DAYS = (date(2025, 10, 30), date(2025, 10, 31), date(2025, 11, 12))
OFTEN = {"name": "random", "hold_sec": 1800, "seed": 4}
TWO = {"size": {"method": "fixed", "contracts": 2.0}}
PORT = "127.0.0.1:7497 account DU0000001"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A version with sessions in two months: the second month had twice the slippage and a higher
    commission.
    """
    made = project(
        tmp_path_factory.mktemp("costs") / "project", empty_store(tmp_path_factory.mktemp("store"))
    )
    promote(
        made.run(made.config(strategy=OFTEN, risk=TWO, interval="15m")),
        project=made,
        gates=OPEN_GATES,
    )
    for day, ticks, fee in zip(DAYS, (1.0, 1.0, 3.0), (0.77, 0.77, 0.92), strict=True):
        traded(
            made,
            tmp_path_factory.mktemp("journals"),
            day,
            slippage_ticks=ticks,
            terms=AccountTerms(commission_usd=fee),
        )
    return made


def traded(shop: Project, folder: Path, day: date, **server: Any) -> AuditedSession:
    """A session as at a broker of its own, audited and filed."""
    bench = Bench(shop, folder)
    bench.stage = staging.replayed(bench.deployed.config, day, bench.strategy, shop.root)
    asyncio.run(bench.run(**server))
    return track_audit(
        bench.path,
        bench.deployed,
        bench.strategy,
        bench.stage,
        shop.store,
        where=PORT,
        exact_prices=False,
    )


def table(shop: Project) -> CostTable:
    return cost_table("paper", shop)


def test_each_month_has_what_was_configured_and_what_was_paid(shop: Project) -> None:
    found = table(shop)
    october, november = found.rows
    assert ((october.month, october.sessions), (november.month, november.sessions)) == (
        ("2025-10", 2),
        ("2025-11", 1),
    )
    assert (october.slippage_ticks, november.slippage_ticks) == pytest.approx((1.0, 3.0))
    assert (october.commission_usd, november.commission_usd) == pytest.approx((0.77, 0.92))
    for row in (october, november, found.whole):
        assert (row.configured_slippage_ticks, row.configured_commission_usd) == pytest.approx(
            (1.0, 0.77)
        )
        assert row.slippage_usd == pytest.approx(row.slippage_ticks)  # a tick of MCL is a dollar
        assert row.total_usd == pytest.approx(row.slippage_usd + row.commission_usd)
        assert row.uncharged_fills == 0
    assert found.whole.sessions == 3
    assert found.whole.fills == october.fills + november.fills
    paid = (
        october.slippage_ticks * october.contracts + november.slippage_ticks * november.contracts
    ) / found.whole.contracts
    assert found.whole.slippage_ticks == pytest.approx(paid)


def test_the_delay_is_from_the_close_to_the_next_open(shop: Project) -> None:
    moves, contracts = 0.0, 0
    walk = (
        pd.read_csv(shop.root / "walk-15m.csv")
        .assign(close_time=lambda f: pd.to_datetime(f["time"], utc=True))
        .set_index("close_time")
    )
    opens, closes = walk["open"].to_dict(), walk["close"].shift(1).to_dict()
    for run in shop.store.in_study("live"):
        slippage: Any = pd.read_parquet(run.artifacts / "data" / "slippage.parquet")
        assert len(slippage)
        for row in slippage.itertuples():
            opened, decided = opens[row.time], closes[row.time]
            moves += (opened - decided) / 0.01 * row.quantity
            contracts += abs(row.quantity)
    assert table(shop).whole.delay_ticks == pytest.approx(moves / contracts, abs=1e-6)


def test_new_settings_are_what_was_paid_and_can_be_pasted(shop: Project) -> None:
    found = table(shop)
    costs = pasted(found.proposal.overrides)
    assert (costs.slippage_by_hour_ticks, costs.impact_ticks) == ((), 0.0)
    assert costs.side_usd == pytest.approx(found.whole.commission_usd, abs=1e-4)
    assert 0 <= costs.slippage_ticks - found.whole.slippage_ticks <= 0.01
    assert found.proposal.low_ticks < found.whole.slippage_ticks < found.proposal.high_ticks
    assert "does not hold the configured value of 1.00" in found.proposal.sentence


def test_sessions_on_a_simulated_tws_are_marked_and_give_way_to_real_ones(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (table(shop).simulated, table(shop).left_out) == (True, 0)
    assert all(
        run.params["broker"] == f"{PORT} (simulated TWS)" for run in shop.store.in_study("live")
    )
    monkeypatch.setattr(account, "SIMULATED", "INDIVIDUAL")  # as a TWS of the broker says
    done = traded(shop, tmp_path, date(2025, 11, 10), slippage_ticks=2.0)
    try:
        found = table(shop)
        assert (found.simulated, found.left_out, found.whole.sessions) == (False, 3, 1)
        assert found.whole.slippage_ticks == pytest.approx(2.0)
    finally:
        shop.store.discard([done.run_id])


def test_the_shell_shows_the_table_and_answers_as_promised(
    shop: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCL_HOME", str(shop.root))
    assert main(["registry", "costs", "paper"]) == 0
    shown = capsys.readouterr().out
    assert "SYNTHETIC, no evidence about a market" in shown
    assert "2025-10" in shown
    assert "2025-11" in shown
    line = next(
        line for line in shown.splitlines() if line.startswith("to backtest with what was paid: ")
    )
    assert main(["--json", "registry", "costs", "paper"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["synthetic"] is True
    assert [row["month"] for row in answer["months"]] == ["2025-10", "2025-11"]
    assert line.endswith(" ".join(answer["proposal"]["overrides"]))
    assert {
        "delay_ticks",
        "slippage_ticks",
        "configured_slippage_usd",
        "commission_usd",
        "fills",
    } <= set(answer["all"])


def test_a_name_without_sessions_is_refused(shop: Project) -> None:
    with pytest.raises(StoreError):
        cost_table("nobody", shop)
    with pytest.raises(LiveError, match="no session of '1' was audited"):
        cost_table("1", shop)


def test_a_session_without_a_fill_is_counted_and_proposes_nothing(shop: Project) -> None:
    whole, run = table(shop), shop.store.in_study("live")[0]
    frames = {
        name: pd.read_parquet(run.artifacts / "data" / f"{name}.parquet").iloc[:0]
        for name in ("slippage", "fills")
    }
    empty = SimpleNamespace(
        tags={"session": "2025-12-01"}, file=lambda name: parquet(frames[Path(name).stem])
    )
    fills, charges = _fills(cast("StoredRun", empty), shop.config())
    alone = replace(whole, fills=fills, charges=charges, sessions={"x": "2025-12-01"})
    assert [(row.month, row.sessions, row.fills) for row in alone.rows] == [("2025-12", 1, 0)]
    assert alone.proposal.overrides == ()
    assert "nothing to propose" in alone.proposal.sentence
    both = replace(
        whole, fills=pd.concat([whole.fills, fills]), charges=pd.concat([whole.charges, charges])
    )
    assert both.whole.slippage_ticks == whole.whole.slippage_ticks


TABLE = tuple(2.0 if hour in (16, 18) else 1.0 for hour in range(24))
PLAIN = schema.Costs(slippage_ticks=1.0, commission_usd=0.25, exchange_usd=0.5, regulatory_usd=0.02)


@pytest.mark.parametrize(
    ("impact", "paid", "expected"),
    [(0.0, 1.231, 1.24), (0.0, 1.2, 1.2), (0.0, -0.4, 0.0), (5.0, 2.0, 2.0), (0.0, 500.0, 100.0)],
)
def test_one_value_of_slippage_is_rounded_up_and_holds_the_impact(
    impact: float, paid: float, expected: float
) -> None:
    costs = pasted(_slippage(PLAIN.model_copy(update={"impact_ticks": impact}), paid, 1.0))
    assert (costs.slippage_ticks, costs.slippage_by_hour_ticks, costs.impact_ticks) == (
        expected,
        (),
        0.0,
    )


def pasted(lines: Iterable[str]) -> schema.Costs:
    """What a backtest makes of these words beside costs that have everything."""
    words = ["costs=by_hour", *(word for line in lines for word in shlex.split(line))]
    return composition.compose("backtest", words).config.costs


def test_slippage_by_the_hour_keeps_its_shape() -> None:
    costs = pasted(
        _slippage(
            PLAIN.model_copy(update={"slippage_by_hour_ticks": TABLE, "impact_ticks": 4.0}),
            1.5,
            1.0,
        )
    )
    assert costs.slippage_by_hour_ticks == tuple(1.5 * value for value in TABLE)
    assert costs.impact_ticks == 6.0


@pytest.mark.parametrize("charged", [0.92, 0.52, 0.3, 0.0])
def test_fees_stay_and_the_broker_gets_the_rest(charged: float) -> None:
    costs = pasted(_commission(PLAIN, charged))
    assert costs.side_usd == pytest.approx(charged)
    assert costs.exchange_usd == (0.5 if charged >= 0.52 else 0.0)


def test_the_configured_slippage_of_a_fill_is_that_of_its_hour_and_size(shop: Project) -> None:
    bench = Bench(shop, shop.root)
    assert bench.stage.recorded is not None
    bars = bench.stage.recorded
    costs = PLAIN.model_copy(update={"slippage_by_hour_ticks": TABLE, "impact_ticks": 8.0})
    fills = [LiveFill(bar, 2, 60.0) for bar in (0, 5, 40, len(bars))]
    spreads = split(bars, fills, {}, costs)["spread_ticks"]
    hours = [
        pd.Timestamp(int(bars.close_time[min(f.bar, len(bars) - 1)]), tz="UTC")
        - pd.Timedelta(minutes=15)
        for f in fills
    ]
    by_hour = [TABLE[at.tz_convert("America/New_York").hour] for at in hours]
    volumes = [int(bars.volume[min(fill.bar, len(bars) - 1)]) for fill in fills]
    assert spreads.tolist() == pytest.approx(np.array(by_hour) + 8.0 * 2 / np.array(volumes))
    assert not any(map(math.isnan, spreads))
