"""Constraints as config strings: `strategy.fast < strategy.slow`, `trades >= 100`, `strategy.slow
>= 2 * strategy.fast`.

One comparison of two terms; a term is a number, a name, or a number times a name. A dotted name is
a config key, whose value exists before the simulation, a plain one a metric. Parsed by this grammar
and nothing else: a config is data, never code.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mcl.base.errors import ConfigError, nearest
from mcl.base.undefined import is_undefined

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
NAME = r"[A-Za-z_]\w*(?:\.\w+)*"
TERM = re.compile(rf"(?:(?P<factor>{NUMBER})\s*\*\s*)?(?P<name>{NAME})|(?P<number>{NUMBER})")
LEAST_EXCESS = 1e-12  # of a rule that is broken by equality alone
GRAMMAR = (
    "write NAME OP NUMBER or KEY OP NUMBER * KEY with one of < <= > >= == !=, for instance 'trades"
    " >= 100'"
)


@dataclass(frozen=True)
class Term:
    """factor * value of `name`; a bare number has no name."""

    factor: float
    name: str = ""

    def value(self, values_by_name: Mapping[str, Any]) -> Any:
        if not self.name:
            return self.factor
        quantity = values_by_name[self.name]
        is_number = isinstance(quantity, int | float)
        return quantity if self.factor == 1 or not is_number else self.factor * quantity


@dataclass(frozen=True)
class Rule:
    text: str
    left: Term
    comparison: str
    right: Term

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(term.name for term in (self.left, self.right) if term.name)

    @property
    def before_the_run(self) -> bool:
        """Whether configuration alone decides it."""
        return all("." in name for name in self.names)

    def broken(self, values_by_name: Mapping[str, Any]) -> str:
        """`trades=12 breaks trades >= 100`, or nothing when the rule holds. An undefined value
        holds no rule.

        A rule about a key that does not exist at a point, since another choice of its group has it,
        is none there.
        """
        if any(name not in values_by_name for name in self.names):
            return ""
        left, right = self.left.value(values_by_name), self.right.value(values_by_name)
        undefined = is_undefined(left) or is_undefined(right)
        try:
            if not undefined and COMPARISONS[self.comparison](left, right):
                return ""
        except TypeError:
            kinds = f"{type(left).__name__} and {type(right).__name__}"
            return f"{self.text} compares {kinds}, which have no order"
        values = ", ".join(
            f"{name}={_number_text(values_by_name[name])}" for name in dict.fromkeys(self.names)
        )
        return f"{values} breaks {self.text}"

    def excess(self, values_by_name: Mapping[str, Any]) -> float:
        """Measure by how much the rule is broken, above 0. 0 or less where it holds, infinite for
        an undefined value.
        """
        if any(name not in values_by_name for name in self.names):
            return 0.0
        broken = bool(self.broken(values_by_name))
        left, right = self.left.value(values_by_name), self.right.value(values_by_name)
        numbers = all(
            isinstance(value, int | float) and math.isfinite(value) for value in (left, right)
        )
        if not numbers:
            return math.inf if broken else 0.0
        distance = (
            abs(left - right)
            if "=" in self.comparison[:1] or self.comparison == "!="
            else left - right
        )
        distance = -distance if self.comparison.startswith(">") else distance
        return max(float(distance), LEAST_EXCESS) if broken else min(float(distance), 0.0)


def parse(
    texts: Iterable[str],
    keys: Iterable[str],
    metrics: Iterable[str],
    at: str = "search.constraints",
) -> tuple[Rule, ...]:
    """Parse the rules. ConfigError on grammar, on an unknown key or on an unknown
    metric.
    """
    names = [*keys, *metrics]
    return tuple(_rule(text, names, at) for text in texts)


def first_broken(rules: Iterable[Rule], values_by_name: Mapping[str, Any]) -> str:
    return next((sentence for rule in rules if (sentence := rule.broken(values_by_name))), "")


def _rule(text: str, names: list[str], at: str) -> Rule:
    match = re.fullmatch(r"([^<>=!]+)(<=|>=|==|!=|<|>)([^<>=!]+)", text.strip())
    left, right = (_term(match[1]), _term(match[3])) if match else (None, None)
    if match is None or left is None or right is None:
        raise ConfigError(f"{at}: {text!r} is not a valid constraint", GRAMMAR)
    rule = Rule(text.strip(), left, match[2], right)
    if not rule.names:
        raise ConfigError(f"{at}: {text!r} compares two numbers", GRAMMAR)
    for name in rule.names:
        if name not in names:
            raise ConfigError(
                f"{at}: {text!r} names {name!r}, no metric or config key: {nearest(name, names)}",
                GRAMMAR,
            )
    return rule


def _term(text: str) -> Term | None:
    match = TERM.fullmatch(text.strip())
    if match is None:
        return None
    if match["number"]:
        return Term(float(match["number"]))
    return Term(float(match["factor"] or 1), match["name"])


def _number_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
