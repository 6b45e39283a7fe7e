"""One search, one deflated Sharpe ratio: every page, verb and gate shows the same one, and none
ranks by what a run once stored.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from mcl.cli.main import main
from mcl.config.promotion_rules import Promotion
from mcl.promotion import promote
from mcl.report.format import number
from mcl.tracking.project import Project
from mcl.tracking.store import Store

from .planted import SWEEP, market

OPTIONAL = [
    name
    for name, field in Promotion.model_fields.items()
    if type(None) in get_args(field.annotation)
]
ONE_GATE = Promotion(**(dict.fromkeys(OPTIONAL) | {"min_deflated_sharpe": 0.0}))  # type: ignore[arg-type]


@dataclass
class Desk:
    root: Path
    capsys: pytest.CaptureFixture[str]

    def ask(self, *args: str) -> dict[str, Any]:
        self.capsys.readouterr()
        assert main(["--json", *args]) in (0, 1)
        found: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        assert "error" not in found, found
        return found


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    market().to_csv(tmp_path / "market.csv", index=False)
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    return Desk(tmp_path, capsys)


def words(page: str | Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", Path(page).read_text()))


def everywhere(
    desk: Desk, sweep_id: str, winner: str, other: str
) -> dict[str, tuple[float, float, float]]:
    """(deflated, best by luck, trials) of the winner by the place that shows them; pages are
    checked for the same as text.
    """
    store = Store(desk.root)
    swept, run = desk.ask("sweep", "report", sweep_id), desk.ask("report", winner)
    both = desk.ask("compare", winner, other)
    listed = {
        entry["run_id"]: entry["metrics"]
        for entry in desk.ask("runs", "--study", store.run(winner).study)["runs"]
    }
    judged, picked = (
        desk.ask("validate", winner, "validate.budget=4", "validate.holdout=false"),
        desk.ask("select", sweep_id),
    )
    (counted,) = desk.ask("trials")["places"]
    promoted = promote.promote(winner, project=Project(desk.root, store), gates=ONE_GATE)
    (version,) = [
        entry for entry in desk.ask("registry")["versions"] if entry["version"] == promoted.version
    ]
    found = {
        name: _three(m)
        for name, m in (("sweep", swept["best"]["metrics"]), ("report", run["metrics"]))
    }
    found["compare"] = (
        both["metrics"]["dsr"][0],
        float(run["metrics"]["best_by_luck"]),
        float(run["metrics"]["trials_counted"]),
    )
    found["validate"] = (judged["deflated_sharpe"], judged["best_by_luck"], judged["trials"])
    (chosen,) = [row for row in picked["ranked"] if row["trial"] == swept["best"]["trial"]]
    found["select"] = (chosen["dsr"], found["sweep"][1], picked["trials"])
    found["trials"] = (counted["deflated_sharpe"], counted["best_by_luck"], counted["trials"])
    found["gate"] = (
        next(gate.value for gate in promoted.gates if gate.name == "deflated_sharpe"),
        *found["sweep"][1:],
    )
    found["registry"] = (
        version["metrics"]["deflated_sharpe"],
        version["metrics"]["best_by_luck"],
        found["sweep"][2],
    )
    if winner in listed:
        found["runs"] = _three(listed[winner])
    for page in (swept["report"], run["report"], both["report"], judged["report"]):
        assert number(found["sweep"][0], "percent") in words(page), page
        assert number(found["sweep"][1], "ratio") in words(page), page
        assert run["deflation"].partition(", counted at")[0] in words(page), page
    return found


def _three(metrics: dict[str, float]) -> tuple[float, float, float]:
    return metrics["dsr"], metrics["best_by_luck"], metrics["trials_counted"]


def test_every_place_shows_one_number_also_after_more_trials(desk: Desk) -> None:
    swept = desk.ask("sweep", *SWEEP, "search.top=2")
    sweep_id, winner = swept["sweep_id"], swept["best"]["run_id"]
    others = [
        r
        for r in Store(desk.root).children(sweep_id)
        if r.tags["mcl.kind"] == "backtest" and r.run_id != winner
    ]
    first = everywhere(desk, sweep_id, winner, others[0].run_id)
    want = first["trials"]
    count = want[2]
    assert 2 < count <= 16  # points twice, and points that no rule let through, are none
    for name, got in first.items():
        assert got == pytest.approx(want, rel=1e-9), name
    page = desk.ask("report", winner)["report"]
    assert Path(page).name == "report.html"  # the stored page shows what is counted now
    desk.ask(
        "backtest",
        "-m",
        *[text for text in SWEEP[:7] if text],
        "strategy.fast=5,6,7",
        "strategy.slow=60,70",
    )
    second = everywhere(desk, sweep_id, winner, others[0].run_id)
    want = second["trials"]
    assert want[2] == count + 6
    assert want[0] < first["trials"][0]
    for name, got in second.items():
        assert got == pytest.approx(want, rel=1e-9), name
    stored = Store(desk.root).run(winner).summary
    assert stored["dsr_at_run"] == pytest.approx(first["trials"][0])
    assert not {"dsr", "trials_counted", "best_by_luck"} & set(stored)
    drawn = desk.ask("report", winner)["report"]
    # drawn again, since the ledger has grown
    assert Path(drawn).parent == desk.root / "mlruns" / "reports"
