"""Every key of the schema can be typed, and so can every option's bounds be met: nothing is out of
reach, nothing taken in silence.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import TypeAdapter, ValidationError

from mcl import composition, strategy
from mcl.base.errors import ConfigError
from mcl.cli.main import main
from mcl.composition import Verb, schema_keys

CANDIDATES = (
    "0",
    "1",
    "2",
    "3",
    "5",
    "0.5",
    "1.5",
    "true",
    "false",
    "'2024-01-02'",
    "word",
    "[]",
    "'09:00-10:00'",
    "['09:00-10:00']",
    "{}",
    "'1 quarter'",
)
GROUPS: dict[str, list[str]] = {  # under which a member of a union has its keys
    "data": ["data=synthetic", "data=mcl_databento", "data=parquet", "data=csv", "data=lean_gold"],
    "risk": [
        "risk=fixed",
        "risk=vol_target",
        "risk=fixed_fractional",
        "risk=atr_unit",
        "risk=kelly",
    ],
    "alerts": ["alerts=webhook", "alerts=mail", "alerts=apprise", "alerts=log"],
}
# what a group's choice says, or the axes
NAMED_ELSEWHERE = {"data.source", "risk.size.method", "search.space"}
# a search composes them in the same way
SHARED = {key for key, _ in schema_keys.leaves("backtest")}
LEAVES = [
    (verb, key)
    for verb in schema_keys.SECTIONS
    for key, _ in schema_keys.leaves(verb)
    if verb != "sweep" or key not in SHARED
]


def literals(annotation: Any) -> Iterator[str]:
    """The words of a type that only takes some."""
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    elif get_origin(annotation) in (Annotated, Union, types.UnionType):
        for part in get_args(annotation):
            yield from literals(part)


def fitting(annotation: Any) -> tuple[str, ...]:
    """The candidates that a type most likely takes."""
    said = repr(annotation)
    kinds = (
        ("tuple", ("[]",)),
        ("dict", ("{}",)),
        ("bool", ("true",)),
        ("date", ("'2024-01-02'",)),
        ("int", ("3",)),
        ("float", ("0.5",)),
    )
    return next((values for kind, values in kinds if kind in said), ("word",))


def test_there_are_keys_of_every_section() -> None:
    assert len(LEAVES) > 200
    assert {"data.exclude_degraded", "data.folder", "data.stamped_at", "data.start"} <= {
        key for _, key in LEAVES
    }


# a choice of the group says the others
TYPEABLE = [(verb, key) for verb, key in LEAVES if key not in NAMED_ELSEWHERE]


@pytest.mark.parametrize(("verb", "key"), TYPEABLE, ids=[f"{verb}-{key}" for verb, key in TYPEABLE])
def test_every_key_of_the_schema_can_be_typed(verb: Verb, key: str) -> None:
    """Some value of the key's type arrives in the composed configuration, under some choice of its
    group.
    """
    annotation = dict(schema_keys.leaves(verb))[key]
    group = next(
        (words for section, words in GROUPS.items() if key.startswith(f"{section}.")), [""]
    )
    values = [
        *literals(annotation),
        *sorted(CANDIDATES, key=lambda value: value not in fitting(annotation)),
    ]
    for value in values:  # the likeliest value under every choice before the next one
        for words in group:
            if composes(verb, [*filter(None, [words]), f"{key}={value}"], key):
                return
    pytest.fail(f"mcl {verb}: no value of {key} can be typed")


def composes(verb: Verb, words: list[str], key: str) -> bool:
    """Whether the key is in the composed configuration, and the part of the model that holds it
    takes the value.
    """
    needed = (
        ["data.path=x"] if words[0] in ("data=csv", "data=lean_gold") and key != "data.path" else []
    )
    try:
        raw = composition.compose(verb, [*needed, *words]).raw
    except ConfigError:
        return False
    held: Any = raw
    for part in key.split("."):
        if not isinstance(held, dict) or part not in held:
            return False
        held = held[part]
    section = key.split(".", maxsplit=1)[0]
    try:
        TypeAdapter(schema_keys.SECTIONS[verb][section]).validate_python(raw[section])
    except ValidationError as error:
        parts = key.split(".")[1:]
        return not any(
            [str(part) for part in one["loc"] if str(part) in parts] == parts
            for one in error.errors()
        )
    return True


@pytest.mark.parametrize("name", sorted(strategy.builtin()))
def test_every_parameter_of_a_strategy_can_be_typed(name: str) -> None:
    for parameter, default in strategy.defaults(name).items():
        if isinstance(default, int | float | bool):
            value = str(default).lower()
            raw = composition.compose(
                "backtest", [f"strategy={name}", f"strategy.{parameter}={value}"]
            ).raw
            assert raw["strategy"][parameter] == default


def test_a_key_that_no_model_has_is_still_unknown() -> None:
    for word in (
        "data.exclude_degrade=true",
        "strategy.fst=3",
        "broker.guard.max_order=1",
        "search.trails=3",
    ):
        with pytest.raises(ConfigError, match="unknown key"):
            composition.compose("sweep", [word])


@pytest.mark.parametrize(
    "words",
    [
        ["runs", "--limit", "0"],
        ["runs", "--limit", "-3"],
        ["trials", "--limit", "99999999999"],
        ["why", "--count", "-1"],
        ["ui", "--port", "70000"],
        ["dashboard", "--port", "-1"],
        ["data", "gateway", "--port", "1e3"],
        ["data", "gateway", "--batch-delay", "nan"],
        ["data", "download", "--max-cost", "inf"],
        ["data", "download", "--workers", "0"],
        ["data", "download", "--workers", "100000"],
        ["data", "costs", "--sessions", "-1"],
        ["check", "lookahead", "--samples", "0"],
        ["check", "warmup", "--samples", "-5"],
        ["store", "gc", "--older-than", "nan"],
        ["store", "gc", "--keep", "-1"],
        ["live", "paper", "--fetch-max-cost", "-1"],
        ["tws", "serve", "--port", "65536"],
        ["tws", "serve", "--control", "-1"],
        ["tws", "serve", "--liquidity", "inf"],
        ["tws", "serve", "--sessions", "0"],
        ["tws", "log", "x", "--tail", "-1"],
        ["sweep", "extend", "last", "0"],
    ],
    ids=" ".join,
)
def test_a_number_out_of_bounds_is_wrong_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--json", *words]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "usage"
    assert "between" in error["message"] or "no whole number" in error["message"]
