"""Which test computes which line of mcl/engine/assumptions.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., None])
COVERED: set[str] = set()


def covers(*names: str) -> Callable[[F], F]:
    """The decorated test computes these lines by hand."""

    def noted(test: F) -> F:
        COVERED.update(names)
        return test

    return noted
