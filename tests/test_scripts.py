"""The flags of the earlier project reach the same code."""

from __future__ import annotations

import importlib.util
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


def test_the_backtest_flags_become_overrides(
    calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    front = script("run_backtest")
    monkeypatch.setattr(front, "mcl", lambda argv: calls.append(argv) or 0)
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
    monkeypatch.setattr(front, "mcl", lambda argv: calls.append(argv) or 0)
    front.main(["--symbol", "MCL_FUT", "--start", "2024-01-02", "costs=free"])
    assert calls[0][2:] == [
        "data=mcl_databento",
        f"data.path={raw.parent}",
        "data.start='2024-01-02'",
        "costs=free",
    ]


def test_the_real_front_runs_a_backtest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MCL_HOME", raising=False)
    words = script("run_backtest").overrides
    assert callable(words)
    assert script("run_backtest").main(["--strategy", "emma"]) == 1
    assert "no strategy is called 'emma'" in capsys.readouterr().err
