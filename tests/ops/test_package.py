"""Wheel and sdist build, and what they install works without the repository."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from numba.core.caching import _CacheLocator as locator

from mcl import jit, project
from mcl.errors import ConfigError


@pytest.fixture(scope="module")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with wheel and sdist, built from what git would publish; skips where no build backend can be had."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed: make install")
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def run(folder: Path, site: Path, *args: str) -> dict[str, object]:
    """One verb of the installed mcl in `folder`; its answer."""
    hidden = {"MCL_HOME", "MLFLOW_TRACKING_URI", "DATABENTO_API_KEY", "PYTHONPATH"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | {
        "PYTHONPATH": str(site),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mcl", "--json", *args], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def lend_compiled(site: Path) -> None:
    """Let the installed copy find what the checkout has compiled of the same sources: half a minute of compiling proves nothing here."""
    ours, theirs = jit.cache_folder(), site / "mcl" / "__pycache__" / "numba" / jit.fingerprint()
    for source in jit.PACKAGE.rglob("*.py"):
        copy = site / "mcl" / source.relative_to(jit.PACKAGE)
        assert copy.read_bytes() == source.read_bytes()
        shutil.copystat(source, copy)
        was, becomes = (folder / locator.get_suitable_cache_subpath(str(file)) for folder, file in ((ours, source), (theirs, copy)))
        if was.is_dir() and not becomes.exists():
            shutil.copytree(was, becomes)


def test_an_installed_wheel_makes_a_project_and_runs_a_backtest_there(built: Path, tmp_path: Path) -> None:
    wheel = next(built.glob("*.whl"))
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as packed:
        assert not [name for name in packed.namelist() if name.startswith("tests/") or name.endswith((".sqlite", ".db"))]
        packed.extractall(site)  # what pip does with a pure wheel
    lend_compiled(site)
    made = run(tmp_path, site, "init", "work")
    folder = tmp_path / "work"
    assert {"conf/backtest.yaml", ".env.example", ".gitignore", "experiments/001_ema_baseline.yaml"} <= set(made["files"])  # type: ignore[call-overload]
    minutes = pd.date_range("2024-01-02 15:00", periods=400, freq="min", tz="UTC")
    closes = [round(70 + 0.01 * (i % 90) - 0.005 * i, 2) for i in range(len(minutes))]
    pd.DataFrame({"time": minutes, "close": closes}).to_csv(folder / "bars.csv", index=False)
    columns = [f"data.columns.{name}=null" for name in ("open", "high", "low", "volume")]
    own = ["data=csv", "data.path=bars.csv", *columns, "strategy=tsmom", "strategy.lookback=20"]
    done = run(folder, site, "backtest", *own)
    assert done["metrics"]["trades"] > 0  # type: ignore[index]
    assert Path(str(done["report"])).is_relative_to(folder)
    assert (folder / "mlruns" / "mlflow.db").is_file()
    assert run(folder, site, "report", "last")["run_id"] == done["run_id"]


def test_the_sdist_carries_all_that_a_checkout_has(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as packed:
        names = {name.split("/", 1)[1] for name in packed.getnames() if "/" in name}
    assert {"pyproject.toml", "mcl/cli.py", "conf/backtest.yaml", "tests/ops/test_package.py", ".env.example", "docker/Dockerfile"} <= names
    assert not [name for name in names if name.endswith(".db") or "/.terraform/" in name]


def test_init_writes_a_whole_project_or_nothing(tmp_path: Path) -> None:
    files = project.create(tmp_path / "new")
    assert "conf/strategy/ema_cross.yaml" in files
    assert not [name for name in files if name.startswith("conf/promoted/") and name.endswith(".yaml")]
    with pytest.raises(ConfigError, match="is not empty"):
        project.create(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    assert project.create(tmp_path / "empty") == files
    with pytest.raises(ConfigError, match="is not empty"):
        project.create(tmp_path / "new" / ".gitignore")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


def test_init_in_an_empty_folder_leaves_the_shell_that_stands_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = project.create(Path())
    assert Path.cwd() == tmp_path
    assert "conf/backtest.yaml" in files
    assert not list(tmp_path.glob("*.part-*"))
