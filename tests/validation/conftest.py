"""One project with the planted market, a search over it, and one validation of that search."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from planted import SETTINGS, SWEEP, Case, market

from mcl import composition, search
from mcl.tracking.store import Store
from mcl.validation import validate


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    root = tmp_path_factory.mktemp("judged")
    market().to_csv(root / "market.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCL_HOME", str(root))
        store = Store(root)
        swept = search.sweep(composition.compose("sweep", list(SWEEP)), store=store, root=root)
        done = validate.validate(swept.sweep_id, SETTINGS, store=store, root=root)
        yield Case(root, store, swept.sweep_id, done)
