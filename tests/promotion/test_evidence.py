"""What a run says of itself is what decides: no file that can change a number is left out, and none
that cannot is in.
"""

from __future__ import annotations

import pytest

from mcl.base.import_closure import needed
from mcl.strategy import user_strategies
from mcl.tracking import provenance


def test_the_digests_are_those_of_all_that_the_decision_imports() -> None:
    closure = set(needed("mcl.engine", "mcl.strategy", "mcl.metrics", "mcl.data.loader"))
    assert set(provenance.WORDS) <= closure
    assert set(provenance.code_digests()) == closure - set(provenance.WORDS)


def test_every_entry_of_the_list_is_there() -> None:
    listed = provenance.code_digests()
    assert [
        name
        for name in provenance.DECIDING
        if not any(path == name or path.startswith(f"{name}/") for path in listed)
    ] == []


@pytest.mark.parametrize("name", ["ema_cross", "donchian", "opening_range"])
def test_a_trial_is_told_apart_by_the_code_that_decides_and_by_no_other(name: str) -> None:
    closure = set(needed("mcl.engine.backtest", "mcl.data.loader", f"mcl.strategy.{name}"))
    decides = set(provenance._decision(frozenset({name}), frozenset()))
    assert decides == closure - set(provenance.WORDS)
    assert not {
        path for path in decides if path.startswith(("metrics/", "report/", "tracking/", "search/"))
    }
    others = {path for path in decides if path.startswith("strategy/")} - set(provenance.SHARED)
    assert f"strategy/{name}.py" in others


def test_an_ensemble_is_decided_by_its_members_too() -> None:
    strategy = {
        "name": "ensemble",
        "members": {"a": {"name": "donchian"}, "b": {"name": "rsi_reversion"}},
    }
    alone = provenance.decision_sha256({"ensemble"})
    assert provenance.decision_sha256(user_strategies.names_in(strategy)) != alone
    members = provenance._decision(frozenset(user_strategies.names_in(strategy)), frozenset())
    assert {"strategy/combine.py", "strategy/donchian.py", "strategy/rsi_reversion.py"} <= set(
        members
    )
