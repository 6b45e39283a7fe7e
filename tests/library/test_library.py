"""`import mcl` is a library: it loads nothing, its functions are those of the verbs, and its tables
say their units.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mcl
from mcl.cli import main, research_arguments
from mcl.library import research
from mcl.library.research import Backtest
from mcl.search.result import SweepResult

SMALL = ["data.end=2024-03-01", "data.holdout_start=2024-02-15"]
UNITS = ("_usd", "_contracts", "_bars", "_ticks", "_frac")


@pytest.fixture
def small(project: Path, worlds: Path) -> Path:
    (project / "data").symlink_to(worlds)
    return project


@pytest.fixture
def run(small: Path) -> Backtest:
    return mcl.backtest([*SMALL, "strategy=donchian"])


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    """What a verb answers with --json."""
    capsys.readouterr()
    main.main(["--json", *words])
    fields: dict[str, object] = json.loads(capsys.readouterr().out)
    return fields


def test_import_loads_nothing_and_changes_nothing() -> None:
    code = (
        "import sys, os, json, signal, warnings\n"
        "before = set(sys.modules), dict(os.environ), repr(warnings.filters), sys.excepthook\n"
        "import mcl\n"
        "after = set(sys.modules), dict(os.environ), repr(warnings.filters), sys.excepthook\n"
        "print(json.dumps([sorted(after[0] - before[0]), before[1:] == after[1:], dir(mcl)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, same, names = json.loads(done.stdout)
    assert {name.partition(".")[0] for name in loaded} <= {"mcl", "typing", "__future__"} | {
        *sys.stdlib_module_names
    }
    assert [name for name in loaded if name.startswith("mcl.")] == []
    assert same
    assert set(mcl.__all__) <= set(names)


def test_every_name_is_documented_and_an_unknown_one_is_an_attribute_error() -> None:
    for name in mcl.__all__:
        assert getattr(mcl, name).__doc__
        assert f"`mcl.{name}" in (mcl.__doc__ or "")
    with pytest.raises(AttributeError, match="'backtst'"):
        _ = mcl.backtst


def test_the_usual_study_is_that_of_the_verb() -> None:
    assert research.STUDY == research_arguments.STUDY


def test_bars_say_their_units_and_end_at_the_fence(small: Path) -> None:
    bars = mcl.load_bars(SMALL)
    assert bars.index.name == "close_time_utc"
    assert isinstance(bars.index, pd.DatetimeIndex)
    assert str(bars.index.tz) == "UTC"
    assert bars["session"].max() < pd.Timestamp("2024-02-15")
    numbers = bars.select_dtypes("number").columns
    assert [name for name in numbers if not name.endswith(UNITS)] == []
    assert (bars["high_usd"] >= bars["low_usd"]).all()
    assert bars.attrs["instrument"] == "MCL"
    assert bars.attrs["synthetic"] is True


def test_a_record_prints_as_a_few_lines(run: Backtest) -> None:
    text = repr(run)
    assert 5 < len(text.splitlines()) < 15
    assert all(len(line) < 200 for line in text.splitlines())
    assert run.run_id in text
    assert "Net P&amp;L" in run._repr_html_()
    assert isinstance(run, mcl.Backtest)
    for name in ("SweepResult", "WalkForwardResult", "Promoted", "Composed", "GatesMissed"):
        assert isinstance(getattr(mcl, name), type)


def test_tables_of_a_backtest_say_their_units_and_agree_with_its_metrics(run: Backtest) -> None:
    for frame in (run.equity, run.sessions, run.trades, run.fills):
        assert len(frame)
        columns = frame.select_dtypes("number").columns
        assert [name for name in columns if not name.endswith(UNITS)] == []
        assert [n for n in frame.select_dtypes("datetimetz").columns if "_utc" not in n] == []
    assert run.equity["equity_usd"].iloc[-1] - run.config.capital_usd == pytest.approx(
        run.metrics["net_pnl_usd"]
    )
    assert run.equity["drawdown_usd"].min() == pytest.approx(run.metrics["max_drawdown_usd"])
    assert run.trades["net_usd"].sum() == pytest.approx(run.metrics["net_pnl_usd"])
    assert len(run.fills) == run.metrics["fills"]
    assert len(run.sessions) == run.metrics["sessions"]
    assert run.sessions["pnl_usd"].sum() == pytest.approx(run.metrics["net_pnl_usd"])
    assert run.sessions["return_frac"].sum() == pytest.approx(run.metrics["return_frac"])


def test_a_backtest_is_the_run_of_the_verb(
    run: Backtest, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = answer(capsys, "backtest", *SMALL, "strategy=donchian")
    assert typed["data_fingerprint"] == run.result.bars.fingerprint
    assert typed["config_sha256"] == run.tags["config_sha256"]
    assert typed["repeat"] == run.repeat
    measured = typed["metrics"]
    assert isinstance(measured, dict)
    assert measured["net_pnl_usd"] == run.metrics["net_pnl_usd"]
    assert set(run.undefined) == {name for name, value in measured.items() if value is None}
    assert run.report is not None
    assert run.report.is_file()


def test_a_configuration_may_be_composed_first_or_begin_at_a_run(run: Backtest) -> None:
    composed = mcl.compose(["strategy.channel=60"], base=run.run_id)
    assert composed.config.strategy == run.config.strategy | {"channel": 60}
    assert mcl.compose(composed) is composed
    assert mcl.compose("strategy=macd").config.strategy["name"] == "macd"
    assert mcl.backtest(composed, report=False).report is None


def test_a_refusal_is_the_sentence_of_the_command_line(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(mcl.MclError) as refusal:
        mcl.backtest(["strategy.fsat=5"])
    error = answer(capsys, "backtest", "strategy.fsat=5")["error"]
    assert error == refusal.value.as_dict()
    with pytest.raises(mcl.MclError, match="is a grid, and this is one run"):
        mcl.backtest(["hydra.mode=MULTIRUN"])


def test_a_search_its_list_and_its_refusal_are_those_of_the_verbs(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [*SMALL, "strategy=donchian", "search.sampler=random", "search.trials=5"]
    found = mcl.sweep([*typed, "search.name=channels"])
    jobs = mcl.grid([*SMALL, "strategy=donchian", "costs=free,ib_tiered"])
    assert isinstance(found, SweepResult)
    assert len(found.trials) == 5
    assert list(jobs.trials["costs"]) == ["free", "ib_tiered"]
    assert jobs.trials["commission_usd"].iloc[0] == 0 < jobs.trials["commission_usd"].iloc[1]

    listed = mcl.runs()
    shown = answer(capsys, "runs")["runs"]
    assert isinstance(shown, list)
    assert listed["run_id"].tolist() == [row["run_id"] for row in shown]
    assert listed["winner_run_id"].tolist() == [row.get("winner", "") for row in shown]
    by_id = listed.set_index("run_id")
    for row in shown:
        for name, value in row["metrics"].items():
            stored: Any = by_id.at[row["run_id"], name]
            assert np.isnan(stored) if value is None else stored == value

    with pytest.raises(mcl.MclError) as refusal:
        mcl.promote("channels")
    gates = refusal.value.table()  # type: ignore[attr-defined]
    assert list(gates.columns) == ["gate", "value", "rule", "verdict", "what it says"]
    assert "MISSED" in set(gates["verdict"])
    error = answer(capsys, "promote", "channels", "--to", "paper")["error"]
    assert isinstance(error, dict)
    assert error["code"] == refusal.value.code
    assert str(refusal.value).partition(":")[0] in error["message"]


def test_an_empty_list_has_its_columns(small: Path) -> None:
    assert list(mcl.runs().columns)[:4] == ["run_id", "kind", "name", "status"]
    with pytest.raises(mcl.MclError, match="no run is filed under the study 'nothing'"):
        mcl.runs("nothing")


def test_rules_are_judged_before_a_search_is_read(small: Path) -> None:
    with pytest.raises(mcl.MclError, match=r"promotion\.min_trades"):
        mcl.promote("no-such-run", rules=["promotion.min_trades=-1"])


def test_the_lines_of_the_readme_run(small: Path) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    (block,) = re.findall(r"^```python\n(import mcl\n.*?)^```", readme, re.M | re.S)
    names: dict[str, Any] = {}
    exec(block, names)
    assert len(names["found"].trials) == 40
    assert names["run"].run_id in set(mcl.runs()["run_id"])
    assert (small / "conf" / "promoted" / "paper.yaml").is_file()
