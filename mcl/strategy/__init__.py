"""Strategies: a class that a config can name, with one method `signal(bars)`.

Three laws, property-tested for each registered one:
* causal   later bars never change an earlier signal
* finite   only the last `memory` bars matter
* shifted  adding a constant to all prices changes nothing, unless the class says `uses_levels = True`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from mcl.data.bars import Bars


class Strategy(Protocol):
    """A frozen dataclass whose fields are its parameters (Annotated with pydantic Field ranges)."""

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


def build(params: dict[str, Any]) -> Strategy:
    """The strategy that `{name: ema_cross, fast: 10, slow: 30}` describes, or a ConfigError with the nearest valid name."""
    raise NotImplementedError  # engine helper: validate with pydantic TypeAdapter, errors as one sentence
