"""A message is a table: its fields in order, their types, the server versions that have them, and
what an empty one means.

The same table reads and writes, so that a table can be tested against recorded traffic in both
directions. A field is written ``name:kind=default@versions`` where all but the name may be left
out:

    kinds      s text · i integer · f shortest float (``0.0``, ``96.9``)
               n number without ``.0`` · b 0/1
               u float, unset = 1.7976931348623157E308 · k integer, unset = 2147483647
    versions   ``@<177`` only below server version 177 · ``@>=178`` only from 178 on
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

UNSET_DOUBLE = "1.7976931348623157E308"
UNSET_INT = "2147483647"
_FIELD = re.compile(
    r"(?P<name>\w+)(:(?P<kind>[sifnbuk]))?(=(?P<default>[^@\s]*))?(@(?P<bound><|>=)(?P<version>\d+))?"
)

Values = dict[str, Any]


class MessageError(Exception):
    """A message does not follow its table: a field is missing or is not of its type."""


def number(value: float) -> str:
    """A quantity as TWS writes it: ``1``, ``0.5``."""
    return str(int(value)) if value == int(value) else repr(float(value))


@dataclass(frozen=True)
class Field:
    name: str
    kind: str = "s"
    default: str | None = None
    since: int = 0
    before: int = 1 << 30

    def text(self, value: Any) -> str:
        return _TEXT[self.kind](value)

    def parse(self, text: str) -> Any:
        """Unset and empty numbers are None; an empty flag is False."""
        if self.kind == "s":
            return text
        if self.kind == "b":
            return text in {"1", "true"}
        if text in {"", UNSET_INT}:
            return None
        value = math.inf if text == "Infinite" else float(text)
        if value == sys.float_info.max:
            return None
        return int(text) if self.kind in "ik" else value

    def read(self, source: Iterator[str], values: Values, version: int) -> None:
        if self.since <= version < self.before:
            values[self.name] = self.parse(next(source))


class Run:
    """Fields side by side, made ready for writing: what is constant is laid out once."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._blank = [_unsaid(field) for field in fields]
        self._slots = {field.name: (n, _TEXT[field.kind]) for n, field in enumerate(fields)}
        self._needed = [
            field.name for field in fields if field.default is None and field.kind not in "uk"
        ]

    def write(self, target: list[str], values: Values, version: int) -> None:  # noqa: ARG002
        row, slots = self._blank.copy(), self._slots
        for name, value in values.items():
            slot = slots.get(name)
            if slot is not None:
                row[slot[0]] = value if type(value) is str else slot[1](value)
        for name in self._needed:
            if name not in values:
                raise MessageError(f"no value for the field {name!r}")
        target += row


def _unsaid(field: Field) -> str:
    """Return the text of a field that has no value."""
    return field.default if field.default is not None else field.text(None)


def _numeral(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else "" if value is None else number(value)


def _unset(marker: str, text: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: marker if value is None else text(value)


def _float(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else repr(float(value))


def _flag(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else "1" if value else "0"


_TEXT: dict[str, Callable[[Any], str]] = {
    "s": _float,
    "f": _float,
    "b": _flag,
    "i": _numeral,
    "n": _numeral,
    "k": _unset(UNSET_INT, _numeral),
    "u": _unset(UNSET_DOUBLE, _float),
}


@dataclass(frozen=True)
class Optional:
    """Fields that are present only if `when` holds for the values that came before."""

    when: Callable[[Values], bool]
    parts: Sequence[Part]

    @cached_property
    def _layout(self) -> Layout:
        return Layout(self.parts)

    def read(self, source: Iterator[str], values: Values, version: int) -> None:
        if self.when(values):
            for part in self.parts:
                part.read(source, values, version)

    def write(self, target: list[str], values: Values, version: int) -> None:
        if self.when(values):
            self._layout.write(target, values, version)


@dataclass(frozen=True)
class Repeat:
    """A count, then that many groups; a list of dictionaries under `name`."""

    name: str
    parts: Sequence[Part]

    @cached_property
    def _layout(self) -> Layout:
        return Layout(self.parts)

    def read(self, source: Iterator[str], values: Values, version: int) -> None:
        values[self.name] = [self._group(source, version) for _ in range(int(next(source) or 0))]

    def _group(self, source: Iterator[str], version: int) -> Values:
        group: Values = {}
        for part in self.parts:
            part.read(source, group, version)
        return group

    def write(self, target: list[str], values: Values, version: int) -> None:
        groups = values.get(self.name, ())
        target.append(str(len(groups)))
        for group in groups:
            self._layout.write(target, group, version)


@dataclass(frozen=True)
class Tagged:
    """A count, then that many groups whose first field says how many fields they have; lists of
    text under `name`.
    """

    name: str
    sizes: Mapping[str, int]

    def read(self, source: Iterator[str], values: Values, version: int) -> None:  # noqa: ARG002
        values[self.name] = [self._group(source) for _ in range(int(next(source) or 0))]

    def _group(self, source: Iterator[str]) -> list[str]:
        tag = next(source)
        if tag not in self.sizes:
            raise MessageError(f"{self.name}: {tag!r} is not one of {', '.join(self.sizes)}")
        return [tag, *(next(source) for _ in range(self.sizes[tag] - 1))]

    def write(self, target: list[str], values: Values, version: int) -> None:  # noqa: ARG002
        groups = values.get(self.name, ())
        target.append(str(len(groups)))
        for group in groups:
            target.extend(group)


Part = Field | Optional | Repeat | Tagged


class Layout:
    """Parts made ready for writing, once per server version: neighbouring fields are one run."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._steps: dict[int, list[Run | Optional | Repeat | Tagged]] = {}

    def write(self, target: list[str], values: Values, version: int) -> None:
        steps = self._steps.get(version)
        if steps is None:
            steps = self._steps[version] = list(self._of(version))
        for step in steps:
            step.write(target, values, version)

    def _of(self, version: int) -> Iterator[Run | Optional | Repeat | Tagged]:
        for plain, group in groupby(self._parts, lambda part: isinstance(part, Field)):
            if plain:
                yield Run(
                    [
                        part
                        for part in group
                        if isinstance(part, Field) and part.since <= version < part.before
                    ]
                )
            else:
                yield from (part for part in group if not isinstance(part, Field))


def parts(text: str) -> tuple[Field, ...]:
    """Fields from their short form, separated by white space."""
    return tuple(_field(token) for token in text.split())


def _field(token: str) -> Field:
    match = _FIELD.fullmatch(token)
    if match is None:
        raise MessageError(f"{token!r} is not a field")
    since, before = 0, 1 << 30
    if match["bound"] == "<":
        before = int(match["version"])
    elif match["bound"]:
        since = int(match["version"])
    return Field(match["name"], match["kind"] or "s", match["default"], since, before)


@dataclass(frozen=True)
class Message:
    """`revision` is the constant second field that older messages carry."""

    id: int
    name: str
    parts: Sequence[Part] = field(repr=False)
    revision: int | None = None

    @cached_property
    def _layout(self) -> Layout:
        return Layout(self.parts)

    def encode(self, version: int, values: Values) -> list[str]:
        target = [str(self.id)] if self.revision is None else [str(self.id), str(self.revision)]
        self._layout.write(target, values, version)
        return target

    def decode(self, version: int, text: Sequence[str]) -> Values:
        """Values by name; surplus fields at the end are ignored, as clients of several makes send
        some.
        """
        source = iter(text[1 if self.revision is None else 2 :])
        values: Values = {}
        try:
            for part in self.parts:
                part.read(source, values, version)
        except StopIteration:
            raise MessageError(f"{self.name} ({self.id}) ends early: {len(text)} fields") from None
        except ValueError as error:
            raise MessageError(f"{self.name} ({self.id}): {error}") from None
        return values
