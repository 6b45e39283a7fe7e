"""Strategies: a class that a config can name, with one method `signal(bars)`.

Three laws, property-tested for each registered one:
* causal   later bars never change an earlier signal
* finite   only the last `memory` bars matter
* shifted  adding a constant to all prices changes nothing, unless the class says `uses_levels = True`
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, Protocol, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from mcl.data.bars import Bars
from mcl.errors import ConfigError, nearest


class Strategy(Protocol):
    """A frozen dataclass whose fields are its parameters: every one has a default, and a range by `Annotated[..., Field(...)]`."""

    name: ClassVar[str]
    uses_levels: ClassVar[bool]

    @property
    def memory(self) -> int:
        """Bars after which the past no longer matters; live loads this many before the first decision."""

    def signal(self, bars: Bars) -> npt.NDArray[np.float64]:
        """One value in [-1, 1] per bar, known at that bar's close. NaN while warming up."""


REGISTRY: dict[str, type[Strategy]] = {}


def register(cls: Callable[..., Any]) -> Any:
    """Class decorator: makes the class nameable in a config by its `name`."""
    REGISTRY[cls.name] = cls  # type: ignore[attr-defined,assignment]
    return cls


def registry() -> dict[str, type[Strategy]]:
    """Every strategy that a config may name: importing the modules of this package registers them."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return REGISTRY


def build(params: dict[str, Any]) -> Strategy:
    """The strategy that `{name: ema_cross, fast: 10, slow: 30}` describes, or a ConfigError with the nearest valid name."""
    known = registry()
    name = str(params.get("name"))
    if name not in known:
        raise ConfigError(f"there is no strategy {name!r}; {nearest(name, known)}")
    cls = known[name]
    ranges = _ranges(cls)
    values = {key: value for key, value in params.items() if key != "name"}
    for key, value in values.items():
        if key not in ranges:
            raise ConfigError(f"{name} has no parameter {key!r}; {nearest(key, ranges)}")
        try:
            ranges[key].validate_python(value, strict=True)
        except ValidationError as error:
            raise ConfigError(f"strategy.{key}={value!r} does not fit {name}: {_sentence(error)}") from error
    return cls(**values)


def _sentence(error: ValidationError) -> str:
    message = error.errors()[0]["msg"]
    return message[0].lower() + message[1:]


@cache
def _ranges(cls: type[Strategy]) -> dict[str, TypeAdapter[Any]]:
    """A validator per parameter. Building one takes half a millisecond, and a search validates thousands of configurations."""
    hints = get_type_hints(cls, include_extras=True).items()
    return {field: TypeAdapter(hint) for field, hint in hints if get_origin(hint) is not ClassVar}
