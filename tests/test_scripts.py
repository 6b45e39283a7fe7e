"""The flags of the earlier project reach the same code."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    return []


def recorder(calls: list[list[str]]) -> Callable[[list[str]], int]:
    """A front door of mcl that succeeds and notes what it is called with."""

    def note(argv: list[str]) -> int:
        calls.append(argv)
        return 0

    return note


def test_the_backtest_flags_become_overrides(
    calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    front = script("run_backtest")
    monkeypatch.setattr(front, "mcl", recorder(calls))
    assert (
        front.main(
            [
                "--symbol",
                "MCL_FUT",
                "--show",
                "--strategy",
                "ema",
                "--fast-period",
                "10",
                "--slow-period",
                "30",
            ]
        )
        == 0
    )
    assert calls == [
        [
            "backtest",
            "--show",
            "strategy=ema_cross",
            "data=synthetic",
            "strategy.fast=10",
            "strategy.slow=30",
        ]
    ]


def test_downloaded_data_are_used_when_they_are_there(
    calls: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    raw = tmp_path / "data" / "raw" / "MCL_FUT" / "ohlcv-1m"
    raw.mkdir(parents=True)
    (raw / "2024-01.dbn.zst").write_bytes(b"")
    front = script("run_backtest")
    monkeypatch.setattr(front, "mcl", recorder(calls))
    front.main(["--symbol", "MCL_FUT", "--start", "2024-01-02", "costs=free"])
    assert calls[0][2:] == [
        "data=mcl_databento",
        f"data.path={raw.parent}",
        "data.start='2024-01-02'",
        "costs=free",
    ]


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("data/raw/MCL_FUT/2024", "2024-02-01_ohlcv-1m.parquet"),
        ("data/databento_downloads/ohlcv-1m/GLBX-1", "glbx-mdp3-20240101.ohlcv-1m.dbn.zst"),
    ],
)
def test_files_of_any_kind_are_never_answered_with_a_generated_world(
    place: str,
    name: str,
    calls: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / name).write_bytes(b"PAR1")
    front = script("run_backtest")
    assert front.main(["--symbol", "MCL_FUT"]) == 1
    assert name in capsys.readouterr().err  # as damaged
    monkeypatch.setattr(front, "mcl", recorder(calls))
    front.main(["--symbol", "MCL_FUT"])
    assert calls[0][2] == "data=mcl_databento"
    assert str(tmp_path / place).startswith(calls[0][3].removeprefix("data.path="))


def test_a_folder_without_bars_says_what_it_holds(
    calls: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calls == []
    raw = tmp_path / "data" / "raw" / "MCL_FUT"
    raw.mkdir(parents=True)
    (raw / "mcl.csv").write_text("time,close\n")
    assert script("run_backtest").main(["--symbol", "MCL_FUT"]) == 1
    refused = capsys.readouterr().err
    assert "holds files that end with .csv" in refused
    assert "data=csv data.path=FILE" in refused


def test_a_market_that_is_not_generated_is_refused_without_files(
    calls: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert calls == []
    assert script("run_backtest").main(["--symbol", "CL_FUT"]) == 1
    assert "no files of CL_FUT: there is no data/raw/CL_FUT" in capsys.readouterr().err


def test_the_real_front_runs_a_backtest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MCL_HOME", raising=False)
    words = script("run_backtest").overrides
    assert callable(words)
    assert script("run_backtest").main(["--strategy", "emma"]) == 1
    assert "no strategy is called 'emma'" in capsys.readouterr().err


def test_a_bench_tells_of_a_busy_machine_and_measures_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What runs here is not below this process: its parent has ended."""
    loop = "while :; do :; done"
    subprocess.run(
        ["sh", "-c", f"timeout 30 sh -c '{loop}' >/dev/null 2>&1 &"], check=True, timeout=30
    )
    measured: list[bool] = []

    def miss() -> bool:
        time.sleep(1.0)
        measured.append(False)
        return False

    assert script("processor").repeated(miss, 2) == 0
    assert measured == [False, False]
    said = capsys.readouterr().out
    assert said.count("the machine was busy: other processes took") == 2
    assert "no verdict" in said


def test_a_bench_that_keeps_its_bounds_measures_once() -> None:
    measured: list[bool] = []

    def keep() -> bool:
        measured.append(True)
        return True

    assert script("processor").repeated(keep) == 0
    assert measured == [True]


def test_what_a_bench_takes_itself_is_no_other_process() -> None:
    processor = script("processor")
    before = processor._own_sec()
    spin = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", spin], check=True)
    assert processor._own_sec() - before > 0.4
