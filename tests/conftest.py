"""Fixtures that every part shares."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recorded real market data that lie beside a developer's checkout; never part of the repository."""
    if not SHARED.is_dir():
        pytest.skip("the recorded market data are not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's `data` folder for the generated two years: made by the first test that needs them, linked by the others."""
    return tmp_path_factory.mktemp("worlds")
