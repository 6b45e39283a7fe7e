"""What differs is found in one module, in one shape."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcl.base.differences import differences, flatten, same

PACKAGE = Path(__file__).resolve().parents[2] / "mcl"
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
NAMES = st.text("abc", min_size=1, max_size=2)
FLAT = st.dictionaries(NAMES, LEAVES, max_size=4)
NESTED = st.dictionaries(NAMES, LEAVES | st.dictionaries(NAMES, LEAVES, max_size=3), max_size=4)


@given(st.lists(FLAT, min_size=1, max_size=4))
def test_each_name_has_one_value_per_thing_in_order(things: list[dict[str, Any]]) -> None:
    unlike = differences(*things)
    for name, values in unlike.items():
        assert len(values) == len(things)
        assert all(same(value, one.get(name)) for value, one in zip(values, things, strict=True))
    for name in {name for thing in things for name in thing} - unlike.keys():
        assert all(same(thing.get(name), things[0].get(name)) for thing in things)


@given(FLAT)
def test_a_thing_does_not_differ_from_itself(thing: dict[str, Any]) -> None:
    assert differences(thing, dict(thing), dict(thing)) == {}


def test_undefined_is_equal_to_undefined_and_to_nothing_else() -> None:
    assert same(math.nan, math.nan)
    assert not same(math.nan, None)
    assert not same(math.nan, 0.0)
    assert differences({"a": 1}, {}) == {"a": [1, None]}


@given(NESTED)
def test_dotted_keys_hold_every_leaf(config: dict[str, Any]) -> None:
    flat = flatten(config)
    leaves = sum(len(v) if isinstance(v, dict) else 1 for v in config.values())
    assert len(flat) == leaves
    for key, leaf in flat.items():
        value: Any = config
        for part in key.split("."):
            value = value[part]
        assert same(value, leaf)


def test_nothing_else_in_the_package_tells_two_mappings_apart() -> None:
    """A comprehension that filters by `a.get(name) != b.get(name)` is this module's."""
    doubles = [
        f"{path.relative_to(PACKAGE)}:{test.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.comprehension)
        for test in node.ifs
        if re.search(r"\.get\(\w+\) != \w+\.get\(", ast.unparse(test))
    ]
    assert doubles == []
