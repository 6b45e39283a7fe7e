"""Columns of prices that are made of whole ticks when somebody asks for them, and say the nearest
name where one is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.base.errors import nearest

Floats = npt.NDArray[np.float64]
Narrow = npt.NDArray[np.int32]


class Columns(Mapping[str, Floats]):
    """Columns made of those in ticks, each when it is first asked for; `title` is the name that
    they have in `Bars`.
    """

    def __init__(
        self, title: str, ticks: dict[str, Narrow], make: Callable[[Narrow], Floats]
    ) -> None:
        self._title, self._ticks, self._make = title, ticks, make
        self._cache: dict[str, Floats] = {}

    def __getattr__(self, name: str) -> Any:
        """Only for a name that is no attribute. A column is asked for by its name in brackets."""
        if name.startswith("_"):
            raise AttributeError(name)
        where = f"bars.{self._title}"
        if name in self._ticks:
            raise AttributeError(f"{where} has no attribute {name!r}: write {where}[{name!r}]")
        raise AttributeError(f"{where} has no column {name!r}: {nearest(name, self._ticks)}")

    def __getitem__(self, name: str) -> Floats:
        if name not in self._ticks:
            raise KeyError(
                f"bars.{self._title} has no column {name!r}: {nearest(str(name), self._ticks)}"
            )
        if name not in self._cache:
            self._cache[name] = read_only(self._make(self._ticks[name]))
        return self._cache[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ticks)

    def __len__(self) -> int:
        return len(self._ticks)


def read_only(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view that nobody can write to."""
    view = column.view()
    view.flags.writeable = False
    return view
