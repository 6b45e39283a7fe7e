"""What a failed assertion says of two large values: where they differ, not the whole of both.

pytest writes the difference of two texts line by line, in CI without a limit. For two pages of 5 MB
that takes longer than a test may.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import islice
from reprlib import Repr
from typing import Any

import pytest

LARGEST = 20_000  # characters, bytes and elements of both sides that pytest may explain
AROUND = 30  # characters to each side of the first difference
short = Repr()
short.maxstring = short.maxother = 80


def digest(content: Any) -> str:
    """Name a content of any length by its sha256: what a test compares instead of a page, a file or
    the memory of an array.
    """
    if isinstance(content, str):
        content = content.encode()
    return hashlib.sha256(content.tobytes() if hasattr(content, "tobytes") else content).hexdigest()


def size(value: object, most: int = LARGEST) -> int:
    """Count the characters, bytes and elements of a value and of what it holds, at least up to
    `most`.
    """
    if isinstance(value, str | bytes | bytearray | memoryview):
        return len(value)
    parts: Iterable[object]
    if isinstance(value, Mapping):
        parts = (part for pair in value.items() for part in pair)
    elif isinstance(value, Collection):
        parts = value
    elif is_dataclass(value) and not isinstance(value, type):
        parts = (getattr(value, field.name) for field in fields(value))
    else:
        return 1
    total = 0
    for part in islice(parts, most + 1):
        total += 1 + size(part, most - total - 1)
        if total > most:
            break
    return total


def explain(op: str, left: object, right: object) -> list[str]:
    """Say in a few lines what two values are and where they differ first."""
    lines = [
        f"{short.repr(left)} {op} {short.repr(right)}",
        "",
        f"left:  {describe(left)}",
        f"right: {describe(right)}",
    ]
    if op == "==":
        try:
            lines.append(first_difference(left, right))
        except Exception as error:  # the equality of elements is their own: arrays have none
            lines.append(f"no first difference: {error}")
    elif op == "not in" and isinstance(left, str) and isinstance(right, str):
        lines.append(f"it stands at {right.find(left)}: {around(right, right.find(left))}")
    return lines


def describe(value: object) -> str:
    if isinstance(value, str | bytes | bytearray):
        return f"{type(value).__name__} of {len(value)}, sha256 {digest(value)[:16]}"
    return (
        f"{type(value).__name__} of {len(value)}"
        if isinstance(value, Collection)
        else type(value).__name__
    )


def first_difference(left: object, right: object) -> str:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        unlike = [
            key
            for key in {**left, **right}
            if key not in left or key not in right or left[key] != right[key]
        ]
        return f"{len(unlike)} keys differ: {short.repr(unlike)}"
    if not (isinstance(left, Sequence) and isinstance(right, Sequence)):
        return "no order to look for a first difference in"
    shorter = min(len(left), len(right))
    at = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), shorter)
    return f"first difference at {at}: {around(left, at)} and {around(right, at)}"


def around(value: Sequence[Any], at: int) -> str:
    if isinstance(value, str | bytes | bytearray):
        return repr(value[max(0, at - AROUND) : at + AROUND])
    return short.repr(value[at]) if at < len(value) else "nothing"


class TooLarge(Exception):
    """Two values that pytest would explain for minutes."""


class Refusal:
    """Runs before pytest's own explanation and ends the call where that would be long."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_assertrepr_compare(self, left: object, right: object) -> None:
        if size(left) + size(right) > LARGEST:
            raise TooLarge


class Explanation:
    """Runs around all others and answers where one of them refused."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_assertrepr_compare(
        self, op: str, left: object, right: object
    ) -> Generator[None, list[list[str]], list[list[str]]]:
        try:
            return (yield)
        except TooLarge:
            return [explain(op, left, right)]


def register(config: pytest.Config) -> None:
    config.pluginmanager.register(Refusal(), "mcl-comparisons-refusal")
    config.pluginmanager.register(Explanation(), "mcl-comparisons")
