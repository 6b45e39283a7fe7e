"""Strategies: a class that a config can name, with one method `signal(bars)`.

Three laws, property-tested for each registered one:
* causal   later bars never change an earlier signal
* finite   only the last `memory` bars matter
* shifted  adding a constant to all prices changes nothing, unless the class says `uses_levels =
  True`
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, ClassVar, Protocol, cast, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from mcl.base.errors import ConfigError, in_words, nearest
from mcl.config.base_model import counts_bars, unrepresentable
from mcl.data.bars import Bars


class Strategy(Protocol):
    """A frozen dataclass whose fields are its parameters: every one has a default, and a range by
    `Annotated[..., Field(...)]`.

    It may have a method `indicators(bars) -> dict[str, Floats]`, one value per bar, for `mcl check
    warmup` and charts. One that measures in minutes has a method `memory_at(interval) -> int`.
    """

    name: ClassVar[str]

    @property
    def uses_levels(self) -> bool:
        """Whether adding a constant to all prices may change the signal."""

    @property
    def memory(self) -> int:
        """Bars after which the past no longer matters; live loads this many before the first
        decision. Of a strategy that measures in minutes: one-minute bars.
        """

    def signal(self, bars: Bars) -> npt.NDArray[np.float64]:
        """One value in [-1, 1] per bar, known at that bar's close. NaN while warming up."""


REGISTRY: dict[str, type[Strategy]] = {}


def register(cls: Callable[..., Any]) -> Any:
    """Class decorator: makes the class nameable in a config by its `name`."""
    name: str = cls.name  # type: ignore[attr-defined]
    other = REGISTRY.setdefault(name, cast("type[Strategy]", cls))
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ConfigError(
            f"two strategies are called {name!r}: {other.__module__}.{other.__qualname__} and"
            f" {cls.__module__}.{cls.__qualname__}"
        )
    return cls


def builtin() -> dict[str, type[Strategy]]:
    """The strategies of this package: importing its modules registers them."""
    _import_all()
    return REGISTRY


def registry() -> dict[str, type[Strategy]]:
    """Every strategy that a config may name: those of this package and those in the project's
    experiments/strategies.
    """
    from mcl.strategy import user_strategies

    for name in builtin():
        user_strategies.refuse_namesake(name)
    return builtin() | {name: user_strategies.load(name) for name in user_strategies.names()}


def build(params: dict[str, Any]) -> Strategy:
    """The strategy that `{name: ema_cross, fast: 10, slow: 30}` describes, or a ConfigError with
    the nearest valid name.
    """
    from mcl.strategy import user_strategies

    name = str(params.get("name"))
    cls = _named(name)
    ranges = _ranges(cls)
    values = {key: value for key, value in params.items() if key != "name"}
    for key, value in values.items():
        if key not in ranges:
            raise ConfigError(
                f"{name} has no parameter {key!r}; {nearest(key, ranges)}", key=f"strategy.{key}"
            )
        if fault := _fault(ranges[key], value):
            raise ConfigError(
                f"strategy.{key}={value!r} does not fit {name}: {fault}", key=f"strategy.{key}"
            )
    return (
        user_strategies.constructed(cls, values)
        if cls.__module__.startswith(user_strategies.PACKAGE)
        else cls(**values)
    )


def parameters(name: str) -> list[str]:
    """The parameters of a strategy."""
    return list(_ranges(_named(name)))


def defaults(name: str) -> dict[str, Any]:
    """The parameters of a strategy that have a default, with it."""
    values = {}
    for field in fields(cast("Any", _named(name))):
        if field.default is not MISSING:
            values[field.name] = field.default
        elif field.default_factory is not MISSING:
            values[field.name] = field.default_factory()
    return values


def parameter_fault(name: str, key: str, value: Any) -> str:
    """The reason why `value` cannot be the parameter `key` of a strategy, whatever the others are.
    Empty where it can.
    """
    return _fault(_ranges(_named(name))[key], value)


def exposed(strategy: Strategy, bars: Bars) -> dict[str, npt.NDArray[np.float64]]:
    """The indicators that a strategy shows, by name, one value per bar; none when it has no method
    for it.
    """
    method: Callable[[Bars], dict[str, npt.ArrayLike]] | None = getattr(
        strategy, "indicators", None
    )
    return (
        {
            name: np.asarray(values, dtype=np.float64)
            for name, values in method(bars.point_in_time).items()
        }
        if method
        else {}
    )


def bar_counts(name: str) -> list[str]:
    """The parameters of a strategy that are a number of bars, by their type `BarCount`."""
    return [key for key, hint in _hints(_named(name)).items() if counts_bars(hint)]


def memory_at(strategy: Strategy, interval: str) -> int:
    """The bars of an interval after which the past no longer matters to a strategy."""
    method: Callable[[str], int] | None = getattr(strategy, "memory_at", None)
    return method(interval) if method else strategy.memory


def _named(name: str) -> type[Strategy]:
    """The class of this name. A user's own file is only read when a config names it: a broken one
    does not disturb other runs.
    """
    from mcl.strategy import user_strategies

    classes = builtin()
    if name in classes:
        user_strategies.refuse_namesake(name)
        return classes[name]
    if name not in user_strategies.names():
        raise ConfigError(
            f"there is no strategy {name!r}; {nearest(name, [*classes, *user_strategies.names()])}"
        )
    return user_strategies.load(name)


@cache
def _import_all() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def _fault(adapter: TypeAdapter[Any], value: Any) -> str:
    if reason := unrepresentable(value):
        return reason
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        return message[0].lower() + message[1:]
    return ""


@cache
def _ranges(cls: type[Strategy]) -> dict[str, TypeAdapter[Any]]:
    """A validator per parameter. Building one takes half a millisecond, and a search validates
    thousands of configurations.
    """
    return {key: TypeAdapter(hint) for key, hint in _hints(cls).items()}


@cache
def _hints(cls: type[Strategy]) -> dict[str, Any]:
    """The types of the parameters of a strategy, with their limits."""
    try:
        hints = get_type_hints(cls, include_extras=True).items()
    except Exception as error:  # an annotation is code of whoever wrote the class
        message = (
            f"{sys.modules[cls.__module__].__file__}: a type of class {cls.__name__} cannot be"
            f" read: {in_words(error)}"
        )
        raise ConfigError(message, "write plain types: int, float, str, bool") from error
    return {key: hint for key, hint in hints if get_origin(hint) is not ClassVar}
