"""One project with the planted market, a search over it, and one validation of that search."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mcl import composition, search
from mcl.tracking.project import Project
from mcl.validation import validate

from .planted import SETTINGS, SWEEP, Case, market


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    root = tmp_path_factory.mktemp("judged")
    market().to_csv(root / "market.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCL_HOME", str(root))
        project = Project.at(root)
        swept = search.sweep(composition.compose("sweep", list(SWEEP)), project=project)
        done = validate.validate(swept.sweep_id, SETTINGS, project=project)
        yield Case(project, swept.sweep_id, done)
