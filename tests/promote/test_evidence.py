"""What a run says of itself is what decides: no file that can change a number is left out, and none that cannot is in."""

from __future__ import annotations

import pytest

from mcl import evidence
from mcl.sources import needed
from mcl.strategy import own


def test_the_digests_are_those_of_all_that_the_decision_imports() -> None:
    closure = set(needed("mcl.engine", "mcl.strategy", "mcl.metrics", "mcl.data.load"))
    assert set(evidence.WORDS) <= closure
    assert set(evidence.code_digests()) == closure - set(evidence.WORDS)


def test_every_entry_of_the_list_is_there() -> None:
    listed = evidence.code_digests()
    assert [name for name in evidence.DECIDING if not any(path == name or path.startswith(f"{name}/") for path in listed)] == []


@pytest.mark.parametrize("name", ["ema_cross", "donchian", "opening_range"])
def test_a_trial_is_told_apart_by_the_code_that_decides_and_by_no_other(name: str) -> None:
    closure = set(needed("mcl.engine.backtest", "mcl.data.load", f"mcl.strategy.{name}"))
    decides = set(evidence._decision(frozenset({name}), frozenset()))
    assert decides == closure - set(evidence.WORDS)
    assert not {path for path in decides if path.startswith(("metrics/", "report/", "tracking/", "search/"))}
    others = {path for path in decides if path.startswith("strategy/")} - set(evidence.SHARED)
    assert f"strategy/{name}.py" in others


def test_an_ensemble_is_decided_by_its_members_too() -> None:
    strategy = {"name": "ensemble", "members": {"a": {"name": "donchian"}, "b": {"name": "rsi_reversion"}}}
    alone = evidence.decision_sha256({"ensemble"})
    assert evidence.decision_sha256(own.names_in(strategy)) != alone
    members = evidence._decision(frozenset(own.names_in(strategy)), frozenset())
    assert {"strategy/combine.py", "strategy/donchian.py", "strategy/rsi_reversion.py"} <= set(members)
