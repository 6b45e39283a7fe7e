"""Wheel and sdist build, and what they install works without the repository."""

from __future__ import annotations

import email
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from comparisons import digest
from numba.core.caching import _CacheLocator as locator

from mcl import DISTRIBUTION, __version__
from mcl.base import jit
from mcl.base.errors import ConfigError
from mcl.data.sources.eia import LIMITS, SHIPPED
from mcl.ops import init

HIDDEN = {"MCL_HOME", "MLFLOW_TRACKING_URI", "DATABENTO_API_KEY", "PYTHONPATH"}


@pytest.fixture(scope="module")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with wheel and sdist, built from what git would publish; skips where no build
    backend can be had.
    """
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed: make install")
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "-t",
            "wheel",
            "-t",
            "sdist",
            "-d",
            str(folder),
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def run(folder: Path, site: Path, *args: str) -> dict[str, object]:
    """One verb of the installed mcl in `folder`; its answer."""
    environment = {key: value for key, value in os.environ.items() if key not in HIDDEN} | {
        "PYTHONPATH": str(site),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mcl", "--json", *args],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def lend_compiled(site: Path) -> None:
    """Let the installed copy find what the checkout has compiled of the same sources: half a minute
    of compiling proves nothing here.
    """
    locate: Callable[[str], str] = locator.get_suitable_cache_subpath
    ours, theirs = jit.cache_folder(), site / "mcl" / "__pycache__" / "numba" / jit.fingerprint()
    for source in jit.PACKAGE.rglob("*.py"):
        copy = site / "mcl" / source.relative_to(jit.PACKAGE)
        assert digest(copy.read_bytes()) == digest(source.read_bytes())
        shutil.copystat(source, copy)
        was, becomes = (
            folder / locate(str(file)) for folder, file in ((ours, source), (theirs, copy))
        )
        if was.is_dir() and not becomes.exists():
            shutil.copytree(was, becomes)


def test_an_installed_wheel_makes_a_project_and_runs_a_backtest_there(
    built: Path, tmp_path: Path
) -> None:
    wheel = next(built.glob("*.whl"))
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as packed:
        assert not [
            name
            for name in packed.namelist()
            if name.startswith("tests/") or name.endswith((".sqlite", ".db"))
        ]
        packed.extractall(site)  # what pip does with a pure wheel
    lend_compiled(site)
    made = run(tmp_path, site, "init", "work")
    folder = tmp_path / "work"
    assert {
        "conf/backtest.yaml",
        ".env.example",
        ".gitignore",
        "experiments/001_ema_baseline.yaml",
    } <= set(made["files"])  # type: ignore[call-overload]
    minutes = pd.date_range("2024-01-02 15:00", periods=400, freq="min", tz="UTC")
    closes = [round(70 + 0.01 * (i % 90) - 0.005 * i, 2) for i in range(len(minutes))]
    pd.DataFrame({"time": minutes, "close": closes}).to_csv(folder / "bars.csv", index=False)
    columns = [f"data.columns.{name}=null" for name in ("open", "high", "low", "volume")]
    own = [
        "data=csv",
        "data.path=bars.csv",
        "data.stamped_at=close",
        "data.timezone=UTC",
        *columns,
        "strategy=tsmom",
        "strategy.lookback=20",
    ]
    done = run(folder, site, "backtest", *own)
    assert done["metrics"]["trades"] > 0  # type: ignore[index]
    assert Path(str(done["report"])).is_relative_to(folder)
    assert (folder / "mlruns" / "mlflow.db").is_file()
    assert run(folder, site, "report", "last")["run_id"] == done["run_id"]


# sitecustomize of a process that no network answers, not even this machine
NO_NETWORK = """
import socket
def refused(*args, **kwargs):
    raise OSError("this machine has no network")
socket.getaddrinfo = socket.create_connection = refused
class Socket(socket.socket):
    def connect(self, address):
        if self.family != socket.AF_UNIX:
            refused()
        return super().connect(address)
    connect_ex = connect
socket.socket = Socket
"""


def test_the_first_act_of_the_demo_is_the_readme_from_the_wheel_without_a_network(
    built: Path, repository: Path, tmp_path: Path
) -> None:
    """Every number of the README's result is printed, digit by digit."""
    site, guard = tmp_path / "site", tmp_path / "guard"
    with zipfile.ZipFile(next(built.glob("*.whl"))) as packed:
        assert f"mcl/data/public_domain/{SHIPPED.name}" in packed.namelist()
        assert "mcl/data/public_domain/PROVENANCE.md" in packed.namelist()
        packed.extractall(site)
    lend_compiled(site)
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(NO_NETWORK)
    environment = {key: value for key, value in os.environ.items() if key not in HIDDEN}

    def python(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", *words],
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": f"{guard}{os.pathsep}{site}"},
            capture_output=True,
            text=True,
            check=False,
        )

    cut = python("-c", "import socket; socket.socket().connect(('127.0.0.1', 9))")
    assert "this machine has no network" in cut.stderr
    done = python("-m", "mcl", "demo", "play", "--acts", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert LIMITS.split(" — ")[0] in done.stdout
    page = (repository / "README.md").read_text()
    [block] = re.findall(r"^```\n( trial .*?)^```", page, re.M | re.S)
    number = r"(?<![\d.-])-?\d(?:[\d,]*\d)?(?:\.\d+)?(?![\d-])"
    numbers = set(re.findall(number, block)) - {"1983", "2011"}
    assert {"0.5453", "1,177,397", "-0.1514", "0.429315", "0.0717082"} <= numbers
    printed = set(re.findall(r"-?\d[\d,.]*\d|\d", done.stdout))
    assert numbers - printed == set()
    assert "2,550 hold-out sessions" in done.stdout
    assert "missed 1 of" in done.stderr
    assert (tmp_path / "play" / "conf" / "backtest.yaml").is_file()
    assert not list((tmp_path / "play" / "conf" / "promoted").glob("*.yaml"))


def test_the_sdist_carries_all_that_a_checkout_has(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as packed:
        names = {name.split("/", 1)[1] for name in packed.getnames() if "/" in name}
    assert {
        "pyproject.toml",
        "mcl/cli/main.py",
        "conf/backtest.yaml",
        "tests/ops/test_package.py",
        f"mcl/data/public_domain/{SHIPPED.name}",
        "mcl/data/public_domain/PROVENANCE.md",
        ".env.example",
        "docker/Dockerfile",
    } <= names
    assert not [name for name in names if name.endswith(".db") or "/.terraform/" in name]


def test_init_writes_a_whole_project_or_nothing(tmp_path: Path) -> None:
    files = init.create(tmp_path / "new")
    assert "conf/strategy/ema_cross.yaml" in files
    assert not [
        name for name in files if name.startswith("conf/promoted/") and name.endswith(".yaml")
    ]
    with pytest.raises(ConfigError, match="is not empty"):
        init.create(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    assert init.create(tmp_path / "empty") == files
    with pytest.raises(ConfigError, match="is not empty"):
        init.create(tmp_path / "new" / ".gitignore")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


def test_init_in_an_empty_folder_leaves_the_shell_that_stands_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = init.create(Path())
    assert Path.cwd() == tmp_path
    assert "conf/backtest.yaml" in files
    assert not list(tmp_path.glob("*.part-*"))


# --------------------------------------------------------------------------- name, licence, release


def _prose(repository: Path) -> list[Path]:
    """Every text that a reader or a machine takes commands from."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    files = [repository / name for name in listed if name] or [
        path for path in repository.rglob("*") if path.is_file()
    ]
    kinds = (
        ".md",
        ".py",
        ".sh",
        ".toml",
        ".yaml",
        ".yml",
        ".txt",
        "Makefile",
        "Dockerfile",
        "run",
        ".tf",
        ".tftpl",
    )
    return [path for path in files if path.name.endswith(kinds) and path.is_file()]


def test_nothing_tells_a_reader_to_install_the_other_mcl(repository: Path) -> None:
    """`mcl` on the public index is another project: the distribution is mcl-harness, the import
    name and the command are mcl.
    """
    wanted = re.compile(
        r"(?:pip3?|uv|pipx) (?:pip )?(?:install|add)\s+(?:-\S+\s+)*['\"]?mcl(?![\w-])"
    )
    assert wanted.search("pip install mcl")
    assert wanted.search("pip install -U 'mcl[ray]'")
    assert not wanted.search("pip install 'mcl-harness[ray]'")
    assert not wanted.search("pip install mcl_harness-0.2.0-py3-none-any.whl")
    lines = (
        (path, line)
        for path in _prose(repository)
        for line in path.read_text(errors="ignore").splitlines()
    )
    found = [
        f"{path.name}: {line}"
        for path, line in lines
        if path.name != Path(__file__).name and wanted.search(line)
    ]
    assert found == []


def test_the_distribution_says_what_it_is(built: Path, repository: Path) -> None:
    wheel, sdist = next(built.glob("*.whl")), next(built.glob("*.tar.gz"))
    assert wheel.name == f"mcl_harness-{__version__}-py3-none-any.whl"
    assert sdist.name == f"mcl_harness-{__version__}.tar.gz"
    with zipfile.ZipFile(wheel) as packed:
        folder = f"mcl_harness-{__version__}.dist-info"
        told = email.message_from_string(packed.read(f"{folder}/METADATA").decode())
        assert (
            packed.read(f"{folder}/licenses/LICENSE").decode()
            == (repository / "LICENSE").read_text()
        )
        assert (
            packed.read(f"{folder}/licenses/NOTICE").decode() == (repository / "NOTICE").read_text()
        )
        assert packed.read(f"{folder}/entry_points.txt").decode().split() == [
            "[console_scripts]",
            "mcl",
            "=",
            "mcl.cli.main:main",
        ]
    assert told["Name"] == DISTRIBUTION
    assert told["License-Expression"] == "Apache-2.0"
    assert told["Author"]
    assert told["Project-URL"] is None  # there is no public repository yet: docs/releasing.md
    assert told["Home-page"] is None
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(
        told.get_all("Classifier") or ()
    )
    with tarfile.open(sdist) as packed:
        names = {name.split("/", 1)[1] for name in packed.getnames() if "/" in name}
    assert {
        "LICENSE",
        "NOTICE",
        "docs/CHANGELOG.md",
        "docs/releasing.md",
        ".github/workflows/ci.yml",
    } <= names
    assert {
        path.relative_to(repository).as_posix() for path in (repository / "docs").glob("*.md")
    } <= names


def test_the_licence_is_whole_and_the_versions_agree(repository: Path) -> None:
    text = (repository / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "APPENDIX: How to apply the Apache License to your work." in text
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    versions = re.findall(r"^## (\S+)", (repository / "docs/CHANGELOG.md").read_text(), re.M)
    assert versions[0] in ("Unreleased", __version__)
    assert __version__ in versions
    assert f"mcl:{__version__}" in (repository / "docker/compose.yaml").read_text()


def test_the_workflow_calls_what_everybody_calls(repository: Path) -> None:
    workflow = yaml.safe_load((repository / ".github/workflows/ci.yml").read_text())
    job = workflow["jobs"]["test"]
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    promised = {
        text.rsplit(" ", 1)[1] for text in project["classifiers"] if re.search(r":: 3\.\d+$", text)
    }
    assert set(job["strategy"]["matrix"]["python"]) == promised
    # .ci/debian.txt names Debian's packages
    assert job["container"]["image"] == "python:${{ matrix.python }}-bookworm"
    [called] = [step for step in job["steps"] if "run" in step]
    assert called["run"] == ".ci/run ${{ matrix.part }}"
    matrix = job["strategy"]["matrix"]
    assert [(end["python"], end["part"]) for end in matrix["include"]] == [
        ("3.12", "oldest"),
        ("3.13", "newest"),
    ]
    # not the one that Debian's python3-venv brings
    assert called["env"]["PYTHON"] == "/usr/local/bin/python"
    assert all(
        part in (repository / ".ci/run").read_text() for part in ("  tests)", "  oldest | newest)")
    )
    assert os.access(repository / ".ci/run", os.X_OK)
    assert workflow["permissions"] == {"contents": "read"}
