"""A project folder of its own, for strategies that a person adds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with this repository's configuration and nothing else; mcl works in it."""
    shutil.copytree(REPOSITORY / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("promoted"))
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    return tmp_path
