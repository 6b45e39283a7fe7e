"""What a run says of itself is what decides: no file that can change a number is left out, and none that cannot is in."""

from __future__ import annotations

from mcl import evidence
from mcl.promote.sources import needed


def test_the_digests_are_those_of_all_that_the_decision_imports() -> None:
    closure = set(needed("mcl.engine", "mcl.strategy", "mcl.metrics", "mcl.data.load"))
    assert set(evidence.WORDS) <= closure
    assert set(evidence.code_digests()) == closure - set(evidence.WORDS)


def test_every_entry_of_the_list_is_there() -> None:
    listed = evidence.code_digests()
    assert [name for name in evidence.DECIDING if not any(path == name or path.startswith(f"{name}/") for path in listed)] == []
