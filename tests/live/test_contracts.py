"""mcl contract check --broker: the broker's answer beside the rule."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from mcl import composition
from mcl.base.errors import BrokerError
from mcl.cli.main import main
from mcl.live.contract_check import broker_says
from mcl.market.calendar import contract


@pytest.fixture
def overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    path = tmp_path / "bars.csv"
    days = ("2025-11-28", "2025-12-01")
    rows = [
        f"{day} {15 + k // 60:02d}:{k % 60:02d}:00,60.00,60.10,59.90,60.00,10,MCLF6"
        for day in days
        for k in range(120)
    ]
    path.write_text("\n".join(["time,open,high,low,close,volume,symbol", *rows]) + "\n")
    return [
        "data=csv",
        f"data.path={path}",
        "data.stamped_at=close",
        "data.timezone=UTC",
        "data.columns.symbol=symbol",
        "data.roll.rule=calendar",
    ]


def test_the_embedded_broker_knows_what_the_rule_says(overrides: list[str], tmp_path: Path) -> None:
    run = composition.compose("backtest", overrides).config
    chain = [contract("MCL", 2026, month) for month in (1, 2, 3)]
    assert broker_says(run, chain, date(2025, 12, 1), tmp_path) == {
        "MCLF6": "agrees",
        "MCLG6": "agrees",
        "MCLH6": "agrees",
    }


def test_a_contract_that_it_does_not_know_is_said(overrides: list[str], tmp_path: Path) -> None:
    run = composition.compose("backtest", overrides).config
    expired = contract("MCL", 2025, 6)
    assert (
        "No security definition"
        in broker_says(run, [expired], date(2025, 12, 1), tmp_path)["MCLM5"]
    )


def test_no_broker_is_a_sentence(overrides: list[str], tmp_path: Path) -> None:
    run = composition.compose(
        "backtest", [*overrides, "broker=ib_paper", "broker.port=4002", "broker.account=DU1234567"]
    ).config
    with pytest.raises(BrokerError, match="4002"):
        broker_says(run, [contract("MCL", 2026, 1)], date(2025, 12, 1), tmp_path)


def test_the_verb_shows_both(overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "contract", "check", "--on", "2025-12-01", "--broker", *overrides]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["contracts"]) == 12
    assert {row["broker"] for row in answer["contracts"]} == {"agrees"}
