"""One project with promoted versions for all session tests, since a migrated run store takes
seconds to make.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deployments import OPEN_GATES, Project, empty_store, project

from mcl.promotion.promote import promote


@pytest.fixture(scope="package")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Project:
    blank: Path = empty_store(tmp_path_factory.mktemp("store"))
    return project(tmp_path_factory.mktemp("project"), blank)


@pytest.fixture
def deploy(desk: Project) -> Callable[..., Project]:
    """Promote a configuration to `paper`."""

    def deploy_(**changes: Any) -> Project:
        promote(desk.run(desk.config(**changes)), project=desk, gates=OPEN_GATES)
        return desk

    return deploy_
