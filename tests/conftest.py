"""Fixtures that every part shares."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import answers
import comparisons
import pytest
import skips
from chromium import Chromium, launched, programs
from hypothesis import settings
from skips import SHARED

# how long an example takes is the machine's business
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# A shell starts its background jobs deaf to Ctrl-C, and a deaf process has deaf children: tests
# interrupt theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Hundreds of tests start `mcl` as a process of its own. One that may not keep compiled modules
# compiles all of mcl each time, which costs as much as its imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

REPOSITORY = Path(__file__).resolve().parents[1]

# Files that take longest are begun first: none of them is left for one worker at the end.
LONGEST_FIRST = (
    "live/test_soak.py",
    "live/test_session.py",
    "search/test_ray.py",
    "live/test_service.py",
    "live/test_alone.py",
    "live/test_real_time.py",
    "strategy/test_cheats.py",
    "ops/test_first_boot.py",
    "search/test_resume.py",
    "ops/test_runbooks.py",
    "test_docs.py",
    "report/test_browser.py",
    "test_fuzz.py",
    "test_keys.py",
    "test_recipes.py",
    "live/test_roll.py",
    "test_story.py",
    "promotion/test_paper_to_live.py",
    "promotion/test_rerun_kinds.py",
    "live/test_audit.py",
    "test_portable.py",
    "search/test_outcomes.py",
    "search/test_pruners.py",
    "test_every_answer.py",
    "test_terminal.py",
    "test_mistakes.py",
    "ops/test_infra.py",
    "ops/test_package.py",
    "search/test_axes.py",
    "search/test_multirun.py",
    "search/test_sweep.py",
    "data/test_databento.py",
    "broker/test_ib.py",
    "tracking/test_server.py",
    "security/test_paths.py",
    "library/test_library.py",
    "library/test_notebook.py",
    "search/test_scale.py",
    "promotion/test_promote.py",
    "promotion/test_registry.py",
    "data/test_cut.py",
)


def pytest_configure(config: pytest.Config) -> None:
    skips.register(config)
    comparisons.register(config)
    answers.register(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files; the tests of a file stay together and in their order."""
    tests = REPOSITORY / "tests"
    rank = {tests / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recorded real market data that lie beside a developer's checkout; never part of the
    repository.
    """
    if not SHARED.is_dir():
        pytest.skip("the recorded market data are not beside this checkout")
    return SHARED


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with this repository's configuration and nothing else; mcl works in it."""
    shutil.copytree(
        REPOSITORY / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("promoted")
    )
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def real_files() -> Path:
    """A folder of real MCL bars, when its owner names one; the tests that need it skip else."""
    folder = os.environ.get("MCL_REAL_FILES")
    if folder is None:
        pytest.skip("MCL_REAL_FILES names no folder of real MCL bars")
    return Path(folder)


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's `data` folder for the generated two years: made by the first test that needs
    them, linked by the others.
    """
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One real Chromium for every test of a page."""
    if programs() is None:
        pytest.skip("chromium and chromedriver are not installed")
    with launched(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium
