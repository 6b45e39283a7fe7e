"""The whole way of a version to real money, as a person types it: a run on prices of one's own,
paper, audited sessions, live, three keys.

The prices come from a file, so that nothing marks them as synthetic; the sessions are real ones of
`mcl live` on the embedded simulated TWS, which count as paper only where a configuration says so.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deployments import Project, empty_store, project

from mcl.cli.main import main
from mcl.promotion.promote import promoted
from mcl.tracking import repository

DAYS = ("2025-11-06", "2025-11-07", "2025-11-10")
RUN = (
    *(
        "data=csv",
        "data.path=walk-15m.csv",
        "data.stamped_at=close",
        "data.timezone=UTC",
        "data.interval=15m",
        "data.columns.symbol=symbol",
        "data.holdout_start='2025-11-11'",
    ),
    *("strategy=ema_cross", "strategy.fast=4", "strategy.slow=12", "risk=fixed", "study=way"),
)
GATES = (
    *(
        "promotion.min_trades=1",
        "promotion.min_sessions=1",
        "promotion.max_drawdown_frac=0.99",
        "promotion.min_deflated_sharpe=0",
    ),
    *(
        "promotion.min_holdout_sharpe=-1e9",
        "promotion.min_holdout_trades=0",
        "promotion.min_doubled_costs_sharpe=null",
    ),
    *(
        "promotion.min_plateau_frac=null",
        "promotion.max_pbo=null",
        "promotion.min_holdout_sharpe_high=null",
    ),
    *(
        "promotion.max_p_value=null",
        "promotion.live.max_p_value=null",
        "promotion.live.max_market_p_value=null",
    ),
)
TO_LIVE = ("--to", "live", *GATES, "promotion.live.min_paper_sessions=3")
KEYS = ("broker=ib_live", "broker.account=U1234567")

Type = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    made = project(
        tmp_path_factory.mktemp("way") / "project", empty_store(tmp_path_factory.mktemp("store"))
    )
    (made.root / ".gitignore").write_text("mlruns/\ndata/\n.cache/\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCL_HOME", str(made.root))
        git(made.root, "init", "-q")
        commit(made.root, "prices")
        yield made


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Type:
    """What a command line answers; each one sees the repository as it is now, as a process of its
    own would.
    """

    def typed_(*words: str) -> dict[str, Any]:
        repository.state.cache_clear()
        capsys.readouterr()
        main(["--json", *words])
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return typed_


def git(root: Path, *words: str) -> None:
    who = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    subprocess.run(["git", "-C", str(root), *who, *words], check=True, capture_output=True)


def commit(root: Path, what: str) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", what)


def refused(answer: dict[str, Any]) -> str:
    return str(answer["error"]["message"])


def test_from_a_run_to_the_three_keys_of_real_money(
    shop: Project, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = typed("backtest", *RUN)
    assert run["synthetic"] is False
    run_id = run["run_id"]
    assert "has never been promoted to paper" in refused(typed("promote", run_id, *TO_LIVE))

    paper = typed("promote", run_id, *GATES)
    assert paper.get("version") == 1, refused(paper)
    sessions = []
    for day in DAYS:
        session = typed("live", "paper", f"broker.replay.session={day}")
        assert (session["differences"], session["unexplained"]) == ([], 0)
        assert session["decisions"] == 92
        sessions.append(session["run_id"])
    (row,) = typed("registry")["versions"]
    assert (row["live"]["sessions"], row["live"]["audit"]) == (3, "equal")

    # the promoted file is not committed, and no session was at a broker
    said = refused(typed("promote", run_id, *TO_LIVE))
    assert "clean_tree = 0" in said
    assert "paper_sessions = 0 (rule: >= 3; audited sessions on paper by this code; 3 more" in said
    commit(shop.root, "promote: paper")
    assert "clean_tree" not in refused(typed("promote", run_id, *TO_LIVE))
    live = typed("promote", run_id, *TO_LIVE, "promotion.live.simulated_sessions=true")
    assert (live["name"], live["stage"], live["version"]) == ("live", "live", 2)
    assert promoted("live", shop).provenance["paper"]["runs"] == sessions

    assert keys_missing(typed("live", "paper", *KEYS)) == {"version", "confirm", "environment"}
    assert keys_missing(typed("live", "live", *KEYS)) == {"confirm", "environment"}
    assert keys_missing(typed("live", "live", *KEYS, "broker.live_confirm=U1234567")) == {
        "environment"
    }
    monkeypatch.setenv("MCL_LIVE", "1")
    assert keys_missing(typed("live", "live", *KEYS)) == {"confirm"}
    # all three, at an address that is no TWS for live money: the next guard answers, and nothing is
    # connected to
    last = refused(typed("live", "live", *KEYS, "broker.live_confirm=U1234567", "broker.port=7497"))
    assert "live money needs" not in last
    assert "7497" in last


def keys_missing(answer: dict[str, Any]) -> set[str]:
    words = {
        "version": "a version promoted to live",
        "confirm": "broker.live_confirm=U1234567",
        "environment": "MCL_LIVE=1",
    }
    said = refused(answer)
    assert said.startswith("live money needs "), said
    return {key for key, word in words.items() if word in said}
