"""Whole sessions: the unmodified ib_async against the embedded simulated TWS, held against the
backtest of the same bars.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from deployments import Project, walk

from mcl import composition
from mcl.base.errors import BrokerError, LiveError
from mcl.broker.order_references import traded_for
from mcl.config import schema
from mcl.live import session_setup as staging
from mcl.live.audit.record import AuditedSession
from mcl.live.journal import Draft, Journal, read
from mcl.live.session import journal_path, run_session
from mcl.live.session_state import Chain
from mcl.promotion.promote import promoted
from mcl.simulators.tws import SimulatedTWS, Tape
from mcl.strategy import build
from mcl.tracking.store import Record

from .live_bench import Bench

Deploy = Callable[..., Project]
BRACKET = {
    "size": {"method": "fixed", "contracts": 1.0},
    "protection": {"unit": "atr", "stop": 2.0, "take_profit": 3.0, "atr_bars": 14},
}
TIGHT = {
    "size": {"method": "fixed", "contracts": 1.0},
    "protection": {"unit": "ticks", "stop": 8.0, "take_profit": 15.0},
}
VOLATILITY = {
    "size": {
        "method": "vol_target",
        "annual_vol_frac": 0.3,
        "lookback_sessions": 5,
        "max_contracts": 6.0,
    },
    "limits": {"max_position": 6, "max_order": 2},
}
LIMITED = {
    "size": {"method": "fixed", "contracts": 2.0},
    "protection": {"unit": "ticks", "stop": 12.0},
    "limits": {
        "max_daily_loss_usd": 150.0,
        "max_trades_per_session": 12,
        "flatten_before_close_sec": 1800,
    },
}


def session(desk: Project, **broker: Any) -> AuditedSession:
    return run_session("paper", schema.BrokerConfig(**broker), project=desk, progress=False)


def all_equal(done: AuditedSession) -> bool:
    """Also says what differs when a test fails."""
    assert done.differences.to_dict("records") == []
    assert done.facts["net_pnl_usd"] == done.facts["backtest_net_pnl_usd"]
    return bool(len(done.decisions) == done.facts["bars"])


def test_a_session_of_seconds_decides_as_the_backtest(deploy: Deploy, desk: Project) -> None:
    """Most seconds have no trade and no bar, in the data as in the feed."""
    thin = walk(0.5).sample(frac=0.4, random_state=1).sort_index()
    thin.to_csv(desk.root / "walk-30s.csv", index=False)
    strategy = {"name": "ema_cross", "fast": "5m", "slow": "15m"}
    done = session(deploy(interval="30s", strategy=strategy, risk=BRACKET))
    assert all_equal(done)
    assert 900 < done.facts["bars"] < 1300
    assert len(done.fills)


def test_a_version_on_bars_that_no_feed_has_is_refused_at_the_start(desk: Project) -> None:
    config = desk.config(interval="1s")
    with pytest.raises(LiveError, match=r"no bars of data\.interval=1s: it keeps .* from 5s on"):
        staging.replayed(config, None, build(config.strategy), desk.root)


def test_a_session_of_minutes_decides_as_the_backtest(deploy: Deploy) -> None:
    desk = deploy()
    done = session(desk)
    assert all_equal(done)
    assert done.facts["bars"] == 1380
    # a reversal is two orders of one decision
    assert set(done.orders["ref"]) == set(done.fills["ref"].map(traded_for))
    assert len(done.orders) > 20
    assert set(done.fills["reason"]) == {"signal"}
    stored = desk.store.run(done.run_id)
    deployed = promoted("paper", desk)
    assert (stored.study, stored.status, stored.metrics["differences"]) == ("live", "FINISHED", 0.0)
    assert (stored.tags["mcl.alias"], stored.tags["mcl.version"]) == (
        "paper",
        str(deployed.version),
    )
    assert stored.tags["mcl.promoted_run"] == deployed.run_id
    assert len(pd.read_parquet(stored.artifacts / "data" / "fills.parquet")) == len(done.fills)
    assert (
        "All 1,380 decisions equal those of a backtest of the same bars." in done.report.read_text()
    )


def test_every_order_stands_in_the_journal_before_its_fill(deploy: Deploy) -> None:
    done = session(deploy(interval="5m"))
    entries = read(done.journal)
    written = {entry.key: entry.seq for entry in entries if entry.kind == "order"}
    fills = [entry for entry in entries if entry.kind == "fill"]
    assert fills
    assert all(written[traded_for(entry.body["ref"])] < entry.seq for entry in fills)
    assert next(e.kind for e in entries if e.kind in ("begin", "bar", "order", "fill")) == "begin"
    assert (entries[-1].kind, entries[-1].body["state"]) == ("state", "ended")
    assert [e.body["bar"] for e in entries if e.kind == "decision"] == list(range(276))


def test_stops_and_take_profits_fill_as_in_the_backtest(deploy: Deploy) -> None:
    done = session(deploy(risk=BRACKET, interval="5m"))
    assert all_equal(done)
    assert set(done.fills["reason"]) == {"signal", "stop", "take_profit"}


@pytest.mark.parametrize(
    ("strategy", "risk"),
    [
        ({"name": "donchian", "channel": 8, "hold": 10}, BRACKET),
        ({"name": "ema_cross", "fast": 3, "slow": 8}, VOLATILITY),
        ({"name": "ema_cross", "fast": 3, "slow": 8}, LIMITED),
        ({"name": "random", "hold_sec": 1200, "seed": 4}, VOLATILITY),
    ],
    ids=["donchian-bracket", "ema-volatility", "ema-limits", "random-volatility"],
)
def test_sizes_limits_and_strategies_decide_as_the_backtest(
    deploy: Deploy, strategy: dict[str, Any], risk: dict[str, Any]
) -> None:
    done = session(deploy(strategy=strategy, risk=risk, interval="5m"))
    assert all_equal(done)
    assert len(done.fills) > 5
    if risk is LIMITED:
        assert (done.decisions["block"] != 0).any()
        assert done.decisions["position"].iloc[-1] == 0


def test_missing_minutes_are_what_is_decided_on(deploy: Deploy) -> None:
    """Minutes without a trade do not exist; the last one of the session is among them, so the last
    decision finds no open.
    """
    desk = deploy()
    csv = desk.root / "walk-5m.csv"
    whole = csv.read_text()
    lines = whole.splitlines()
    try:
        csv.write_text(
            "\n".join(
                line
                for row, line in enumerate(lines)
                if (row % 7 or not row) and row < len(lines) - 2
            )
            + "\n"
        )
        deploy(strategy={"name": "random", "hold_sec": 900, "seed": 1}, interval="5m")
        done = session(desk, replay={"session": date(2025, 11, 12)})
    finally:
        csv.write_text(whole)
    assert done.facts["bars"] < 250
    assert all_equal(done)


def test_a_named_session_is_replayed_and_may_be_repeated(deploy: Deploy) -> None:
    desk = deploy(interval="15m")
    first, second = (session(desk, replay={"session": date(2025, 11, 11)}) for _ in range(2))
    assert first.facts["session"] == "2025-11-11"
    assert first.journal != second.journal
    pd.testing.assert_frame_equal(first.decisions, second.decisions)
    pd.testing.assert_frame_equal(first.fills, second.fills)


def test_a_version_that_left_its_expected_band_is_an_alert(
    deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = deploy(interval="15m")
    content = promoted("paper", desk).content_sha256
    tags = {"mcl.kind": "session", "session": "2025-11-11", "content_sha256": content}
    desk.store.record(
        Record(
            study="live", name="lost", metrics={"net_pnl_usd": -1e6, "differences": 0.0}, tags=tags
        )
    )
    done = session(desk, replay={"session": date(2025, 11, 12)})
    said = done.facts["expected_band"]
    assert "P&L -1,000,000 USD after session 1 is below the expected" in said
    assert said in "".join(capsys.readouterr())


def test_an_edited_promoted_file_starts_nothing(deploy: Deploy) -> None:
    desk = deploy(interval="15m")
    path = desk.root / "conf" / "promoted" / "paper.yaml"
    text = path.read_text()
    before = sorted((desk.root / "live" / "paper").glob("*"))
    try:
        path.write_text(text.replace("max_position: 2", "max_position: 3"))
        with pytest.raises(LiveError, match="was edited after its promotion"):
            session(desk)
    finally:
        path.write_text(text)
    assert sorted((desk.root / "live" / "paper").glob("*")) == before


def test_a_port_in_use_is_a_sentence(deploy: Deploy) -> None:
    desk = deploy(interval="15m")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BrokerError, match="is already in use"):
            session(desk, port=taken.getsockname()[1])


def test_paper_on_a_real_tws_differs_in_the_broker_alone(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCL_IB_ACCOUNT", "DU7654321")
    sim, tws = (
        schema.BrokerConfig(**composition.compose("live", overrides).raw["broker"])
        for overrides in ([], ["broker=ib_paper"])
    )
    assert (tws.kind, tws.host, tws.port, tws.account) == ("tws", "127.0.0.1", 7497, "DU7654321")
    changed = {key for key, value in tws.model_dump().items() if value != sim.model_dump()[key]}
    assert changed == {"kind", "port", "account", "guards"}
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 7497)) == 0:
            pytest.skip("something listens on port 7497 of this machine")
    with pytest.raises(BrokerError, match=r"nothing listens on 127\.0\.0\.1:7497"):
        run_session(
            "paper",
            tws,
            project=Project(deploy().root, deploy(interval="15m").store),
            progress=False,
        )


def test_a_real_session_goes_on_in_its_own_journal_and_a_replay_gets_a_new_one(
    tmp_path: Path, deploy: Deploy
) -> None:
    """Its own is that of its day, of the same kind of broker and the same account, and none of
    these needs to be the first.
    """
    desk = deploy(interval="15m")
    run = desk.config(interval="15m")
    stage = staging.replayed(run, None, build(run.strategy), desk.root)
    paper: Chain = ("tws", "DU1")
    other: Chain = ("tws", "DU2")
    replay: Chain = ("sim", "DU1")

    def begin(path: Path, chain: Chain) -> str:
        with Journal(path) as journal:
            journal.append(Draft("begin", {"broker": chain[0], "account": chain[1]}))
        return path.name

    assert begin(journal_path(tmp_path, stage), replay) == "2025-11-12.sqlite"
    Journal(journal_path(tmp_path, stage, paper)).close()  # it ended before it began
    assert begin(journal_path(tmp_path, stage, paper), paper) == "2025-11-12.2.sqlite"
    assert begin(journal_path(tmp_path, stage, other), other) == "2025-11-12.3.sqlite"
    assert journal_path(tmp_path, stage, paper).name == "2025-11-12.2.sqlite"
    assert journal_path(tmp_path, stage, other).name == "2025-11-12.3.sqlite"
    assert journal_path(tmp_path, stage).name == "2025-11-12.4.sqlite"


# ------------------------------------------------------------------------------- when it goes wrong


def test_a_lost_connection_is_made_again_and_the_session_equals_the_backtest(
    deploy: Deploy, tmp_path: Path
) -> None:
    bench = Bench(deploy(risk=TIGHT, interval="15m"), tmp_path)

    def cut(tws: SimulatedTWS, bars: int) -> None:
        if bars in (10, 11, 40, 70):
            for connection in list(tws.sessions):
                connection.close()

    asyncio.run(bench.run(cut))
    states = [entry.body["state"] for entry in read(bench.path, ("state",))]
    assert states.count("degraded") == 4
    assert states[-1] == "ended"
    audited = bench.audited()
    assert audited.differences.to_dict("records") == []
    assert len(audited.decisions) == 92
    assert set(audited.fills["reason"]) > {"signal"}


def test_a_session_does_not_start_on_a_position_it_does_not_know(
    deploy: Deploy, tmp_path: Path
) -> None:
    bench = Bench(deploy(interval="15m"), tmp_path)
    with pytest.raises(LiveError, match="already holds 1 MCLF6; a first session starts flat"):
        asyncio.run(bench.run(before=lambda tws: tws.account.trade(tws.played, 1, 60.0)))
    assert {entry.kind for entry in read(bench.path)} == {"state"}


def test_a_history_that_is_not_ours_is_refused(deploy: Deploy, tmp_path: Path) -> None:
    bench = Bench(deploy(interval="15m"), tmp_path)

    def shift(tws: SimulatedTWS) -> None:
        tws.tape.close[: tws.tape.first] += 0.01

    with pytest.raises(
        LiveError,
        match=(
            r"the broker's history differs from the stored bars in \d+ of \d+ closes, first at"
            r" 2025-11-"
        ),
    ):
        asyncio.run(bench.run(before=shift))


def test_the_answer_of_a_session_is_json(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mcl.cli.main import main

    desk = deploy(interval="15m")
    monkeypatch.setenv("MCL_HOME", str(desk.root))
    assert main(["--json", "live", "paper"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {"decisions", "orders", "fills", "differences", "run_id"} <= answer.keys()
    assert (answer["decisions"], answer["differences"]) == (92, [])
    other = {"mcl.kind": "session", "mcl.alias": "other"}  # newer, of somebody else
    desk.store.record(Record(study="live", name="other", metrics={"unexplained": 3.0}, tags=other))
    assert main(["--json", "runs", "--study", "live", "--alias", "paper", "--limit", "1"]) == 0
    [newest] = json.loads(capsys.readouterr().out)["runs"]
    assert (newest["run_id"], newest["metrics"]["unexplained"]) == (answer["run_id"], 0.0)


def test_a_market_that_costs_more_than_assumed_fails_the_command(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two ticks of slippage where the promoted configuration says one: every fill differs, and the
    run says so.
    """
    from mcl.cli.main import main

    desk = deploy(interval="15m")
    configured = SimulatedTWS.configured.__func__  # type: ignore[attr-defined]

    def dearer(
        cls: type[SimulatedTWS],
        tape: Tape,
        broker: schema.BrokerConfig,
        costs: schema.Costs,
        also: Sequence[Tape] = (),
    ) -> SimulatedTWS:
        tws: SimulatedTWS = configured(
            cls, tape, broker, costs.model_copy(update={"slippage_ticks": 2.0}), also
        )
        return tws

    monkeypatch.setattr(SimulatedTWS, "configured", classmethod(dearer))
    monkeypatch.setenv("MCL_HOME", str(desk.root))
    assert main(["--json", "live", "paper"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert 0 < len(answer["differences"]) <= answer["fills"]
    assert {row["cause"] for row in answer["differences"]} == {"price"}
    assert desk.store.run(answer["run_id"]).status == "FAILED"
