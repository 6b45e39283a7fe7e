"""A project folder together with the store of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mcl import composition
from mcl.tracking.store import Store


@dataclass(frozen=True)
class Project:
    """The folder whose configuration and data are read, and the store that its runs go to."""

    root: Path
    store: Store

    @classmethod
    def at(cls, root: Path) -> Self:
        """The project in a folder, with the store that is configured for it."""
        return cls(root, Store(root))

    @classmethod
    def current(cls) -> Self:
        """The project that the environment or the working directory names."""
        return cls(composition.root(), Store())
