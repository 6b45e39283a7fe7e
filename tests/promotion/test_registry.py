"""The way to real money, waivers, the registry as people read it, and where values came from."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployments import OPEN_GATES, Project, empty_store, project

from mcl import composition
from mcl.base.errors import ConfigError, GuardError, PromotionError
from mcl.broker.guards import MONEY_VARIABLE, check_locks
from mcl.config import schema
from mcl.config.promotion_rules import LiveRules
from mcl.promotion import aliases
from mcl.promotion.explain import explain, explain_stored
from mcl.promotion.live_record import STUDY, band_alert, records
from mcl.promotion.promote import GatesMissed, promote, promoted
from mcl.promotion.promoted_file import MODEL
from mcl.promotion.registry import compared, history, registered, standing, versions
from mcl.tracking import provenance
from mcl.tracking.store import Record, Store

LIVE = OPEN_GATES.model_copy(
    update={
        "live": LiveRules(
            max_p_value=None,
            max_market_p_value=None,
            min_paper_sessions=3,
            clean_tree=False,
            hard=("paper_sessions", "paper_unexplained"),
        )
    }
)
TWS = "127.0.0.1:7497 account DU1"
PATIENT = LIVE.model_copy(update={"min_trades": 10_000})


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run, promoted to paper; tests go on in a copy."""
    made = project(
        tmp_path_factory.mktemp("once") / "project", empty_store(tmp_path_factory.mktemp("store"))
    )
    promote(made.run(), project=made, gates=OPEN_GATES)
    return made


@pytest.fixture
def shop(tmp_path: Path, once: Project) -> Project:
    shutil.copytree(once.root, tmp_path / "project")
    return Project(tmp_path / "project", Store(tmp_path / "project"))


def paper(shop: Project) -> str:
    """The run behind the name."""
    return shop.store.version(MODEL, "paper").run_id


def live(shop: Project, run_id: str, **more: Any) -> Any:
    return promote(run_id, "live", project=shop, gates=more.pop("gates", LIVE), **more)


def traded(
    shop: Project, day: str, net: float, *, unexplained: float = 0.0, broker: str = TWS, **tags: str
) -> None:
    """One session of `paper` as mcl live tracks it."""
    version = shop.store.version(MODEL, "paper")
    own = {"mcl.kind": "session", "session": day, "content_sha256": version.tags["content_sha256"]}
    code = provenance.code_sha256({"name": "ema_cross"})
    measured = {
        "net_pnl_usd": net,
        "backtest_net_pnl_usd": net + 1,
        "differences": unexplained,
        "unexplained": unexplained,
        "fills": 2.0,
    }
    measured |= {"slippage_ticks": 1.5, "assumed_slippage_ticks": 1.0}
    tagged = own | {"code_sha256": code} | tags
    shop.store.record(
        Record(study=STUDY, name=day, params={"broker": broker}, metrics=measured, tags=tagged)
    )


def days(shop: Project, *nets: float, **more: Any) -> None:
    for i, net in enumerate(nets):
        traded(shop, f"2025-12-{i + 1:02d}", net, **more)


# ------------------------------------------------------------------------------------ to real money


def test_live_takes_only_what_traded_on_paper(shop: Project) -> None:
    with pytest.raises(
        PromotionError,
        match="has never been promoted to paper; live takes only what has traded there",
    ):
        live(shop, shop.run())
    run_id = paper(shop)
    days(shop, 10.0, -5.0)
    with pytest.raises(GatesMissed, match=r"paper_sessions = 2 \(rule: >= 3"):
        live(shop, run_id)
    traded(shop, "2025-12-03", 1.0)
    done = live(shop, run_id)
    assert (done.alias, done.stage, done.version) == ("live", "live", 2)
    loaded = promoted("live", shop)
    assert loaded.stage == "live"
    assert loaded.provenance["paper"] | {"runs": []} == {
        "version": 1,
        "sessions": 3,
        "net_pnl_usd": 6.0,
        "runs": [],
    }
    assert promoted("paper", shop).version == 1


@pytest.mark.parametrize(
    "spoilt",
    [
        {"broker": "embedded simulated TWS"},
        {"code_sha256": "0" * 64},
        {"content_sha256": "0" * 64},
    ],
)
def test_sessions_that_do_not_count(shop: Project, spoilt: dict[str, str]) -> None:
    run_id = paper(shop)
    days(shop, 1.0, 2.0, 3.0, **spoilt)
    with pytest.raises(GatesMissed, match=r"paper_sessions = 0 "):
        live(shop, run_id)


def test_an_unexplained_difference_keeps_it_on_paper_whatever_is_waived(shop: Project) -> None:
    run_id = paper(shop)
    days(shop, 1.0, 2.0)
    traded(shop, "2025-12-03", 3.0, unexplained=1.0)
    with pytest.raises(
        GatesMissed, match=r"missed 1 of 11 gates: paper_unexplained = 1 \(rule: <= 0"
    ):
        live(shop, run_id)
    with pytest.raises(
        PromotionError,
        match=(
            "gate paper_unexplained cannot be waived for live; hard gates: market_data, lookahead,"
            " sharpe"
        ),
    ):
        live(shop, run_id, waived=["paper_unexplained"], because="I know better")


def test_a_dirty_or_absent_repository_stops_real_money(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = paper(shop)
    days(shop, 1.0, 2.0, 3.0)
    strict = LIVE.model_copy(update={"live": LIVE.live.model_copy(update={"clean_tree": True})})
    monkeypatch.setenv("MCL_HOME", str(shop.root))
    with pytest.raises(GatesMissed, match=r"clean_tree = 0 \(rule: = 1; no git repository\)"):
        live(shop, run_id, gates=strict)


def test_a_name_never_changes_between_paper_and_real_money(shop: Project) -> None:
    run_id = paper(shop)
    days(shop, 1.0, 2.0, 3.0)
    live(shop, run_id, name="crude")
    with pytest.raises(
        PromotionError,
        match="'crude' is the name of a live version, version 2; choose another --name for paper",
    ):
        promote(run_id, project=shop, gates=OPEN_GATES, name="crude")
    for wrong in ("live", "previous", "latest", "v7", "a b", ""):
        with pytest.raises(PromotionError, match="cannot be the name of a promoted version"):
            promote(run_id, project=shop, gates=OPEN_GATES, name=wrong)


def test_live_money_opens_for_a_live_version_whatever_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(MONEY_VARIABLE, "1")
    broker = schema.BrokerConfig(
        kind="tws", money="live", port=7496, account="U1234567", live_confirm="U1234567"
    )
    check_locks(broker, "crude", "live")
    with pytest.raises(
        GuardError, match=r"live money needs a version promoted to live \('crude' is one for paper"
    ):
        check_locks(broker, "crude", "paper")


# ------------------------------------------------------------------------------------------ waivers


def test_a_waiver_is_kept_for_ever(shop: Project) -> None:
    done = promote(
        paper(shop),
        project=shop,
        gates=PATIENT,
        waived=["trades"],
        because="few trades by design",
    )
    assert [(g.name, g.word) for g in done.gates if g.required and not g.passed] == [
        ("trades", "waived")
    ]
    version = shop.store.version(MODEL, "paper")
    assert version.tags["waived.trades"] == "few trades by design"
    assert "# gate WAIVED      trades: few trades by design\n" in done.path.read_text()
    gates = {gate["name"]: gate for gate in json.loads(version.files()["gates.json"])}
    assert (gates["trades"]["passed"], gates["trades"]["waived"]) == (False, "few trades by design")


@pytest.mark.parametrize(
    ("names", "because", "sentence"),
    [
        (["trades"], "", "waiving trades needs its reason"),
        (["trade"], "so", "there is no gate 'trade' to waive: did you mean 'trades'"),
        (["sessions"], "so", "gate sessions was passed, so there is nothing to waive"),
    ],
)
def test_a_waiver_that_says_nothing_is_refused(
    shop: Project, names: list[str], because: str, sentence: str
) -> None:
    with pytest.raises(PromotionError, match=sentence):
        promote(
            paper(shop),
            project=shop,
            gates=PATIENT,
            waived=names,
            because=because,
        )


# ----------------------------------------------------------------------------------------- registry


def test_the_shelf_shows_what_a_version_lived_through(shop: Project) -> None:
    days(shop, 10.0, -4.0)
    traded(shop, "2025-12-02", -6.0)  # the same session again: the last counts
    [entry] = versions(shop.store)
    record = entry.record
    assert [(s.session, s.net_pnl_usd) for s in record.sessions] == [
        ("2025-12-01", 10.0),
        ("2025-12-02", -6.0),
    ]
    assert (
        record.net_pnl_usd,
        record.slippage_ticks,
        record.assumed_slippage_ticks,
        record.audit,
    ) == (4.0, 1.5, 1.0, "equal")
    assert record.drawdown.tolist() == [0.0, -6.0]
    band = entry.band()
    assert band is not None
    assert record.left(band) is None
    assert np.array_equal(band.low, promoted("paper", shop).band(2).low)  # type: ignore[union-attr]
    traded(shop, "2025-12-03", -1e6)
    raised = band_alert(promoted("paper", shop), shop.store)
    assert raised is not None
    assert raised.sentence.startswith(
        "paper v1: P&L -999,996 USD after session 3 is below the expected"
    )
    left = records(shop.store)[entry.stored.tags["content_sha256"]].left(band)
    assert left is not None
    assert (left.session, left.what, left.above) == (3, "P&L", False)


def test_an_altered_version_says_so_and_shows_no_numbers(shop: Project) -> None:
    target = shop.store.version(MODEL, "paper").folder / "metrics.json"
    target.write_text(target.read_text().replace("1", "2"))
    [entry] = versions(shop.store)
    assert entry.wrong == "registry: metrics.json of version 1 is not the file that was registered"
    assert (entry.metrics, entry.gates, entry.band()) == ({}, [], None)


def test_two_versions_differ_in_what_was_changed(shop: Project) -> None:
    other = shop.config({"name": "ema_cross", "fast": 5, "slow": 30}, start="2025-10-29")
    promote(shop.run(other), project=shop, gates=OPEN_GATES)
    found = compared(registered("previous", shop.store), registered("paper", shop.store))
    assert found.config == {"strategy.fast": [10, 5], "data.start": [None, "2025-10-29"]}
    assert found.code == {}
    assert found.packages == {}
    assert found.data == {"start": [None, "2025-10-29"]}
    assert found.data_sentence == "start None → 2025-10-29"
    assert "net_pnl_usd" in found.metrics


def test_history_shows_registry_and_git_side_by_side(shop: Project) -> None:

    def git(*words: str) -> None:
        who = ("-c", "user.name=Ann", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(shop.root), *who, *words], check=True, capture_output=True)

    git("init")
    git("add", "conf")
    git("commit", "-m", "paper: first version")
    assert (
        standing("paper", shop)
        == "paper: registry version 1, file version 1, last commit version 1"
    )
    promote(
        shop.store.version(MODEL, "paper").run_id,
        project=shop,
        gates=OPEN_GATES,
        because="again",
    )
    events = history(shop)
    assert [(e.where, e.what.split()[0], e.version, e.why) for e in events] == [
        ("registry", "promote", 1, ""),
        ("git", "commit", 1, "paper: first version"),
        ("registry", "promote", 2, "again"),
    ]
    assert (
        standing("paper", shop)
        == "paper: registry version 2, file version 2, last commit version 1 — they disagree"
    )
    aliases.rollback("paper", "worse", project=shop)
    assert standing("paper", shop).endswith("last commit version 1")


# ------------------------------------------------------------------------------------------ explain


@pytest.mark.parametrize(
    ("key", "overrides", "value", "source"),
    [
        ("strategy.fast", [], 10, "file conf/strategy/ema_cross.yaml:"),
        ("strategy.fast", ["strategy.fast=7"], 7, "override strategy.fast=7"),
        ("costs.commission_usd", [], None, "file conf/costs/ib_tiered.yaml:"),
        ("risk.limits.max_order", [], 4, "file conf/limits/usual.yaml:"),
        ("risk.limits.max_order", ["risk=vol_target"], 20, "file conf/risk/vol_target.yaml:"),
        ("capital_usd", [], 25_000.0, "file conf/run.yaml:"),
        ("data.folder", [], "data", "default of SyntheticData in mcl/data/sources/synthetic.py"),
        (
            "data.interval",
            ["experiment=001_ema_baseline", "data.interval=5m"],
            "5m",
            "override data.interval=5m",
        ),
    ],
)
def test_where_a_value_comes_from(key: str, overrides: list[str], value: Any, source: str) -> None:
    found = explain(key, overrides)
    assert value is None or found.value == value
    assert found.chain[-1].startswith(source)
    place = found.chain[-1].removeprefix("file ")
    if place != found.chain[-1]:
        file, line = place.split(":")
        said = (composition.conf_dir().parent / file).read_text().splitlines()[int(line) - 1]
        assert said.split(":")[0].strip() == key.rsplit(".", maxsplit=1)[-1]


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown key strategy.fst: did you mean 'strategy.fast'"
    ):
        explain("strategy.fst", [])


def test_a_promoted_value_leads_back_to_its_run(shop: Project) -> None:
    run_id = paper(shop)
    found = explain_stored("strategy.fast", "paper", shop)
    assert found.value == 10
    assert found.chain[0].startswith("promoted as paper, version 1, on ")
    assert found.chain[1] == f"run {run_id[:12]} of study test"
    assert found.source in ("file", "override", "default")


def test_records_of_other_studies_do_not_count(shop: Project) -> None:
    shop.store.record(
        Record(
            study="test",
            name="x",
            metrics={"net_pnl_usd": 1.0},
            tags={"mcl.kind": "session", "session": "2025-12-01"},
        )
    )
    [entry] = versions(shop.store)
    assert entry.record.sessions == ()
    assert replace(entry, wrong="x").band() is None
