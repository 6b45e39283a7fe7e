"""The registry of risk methods: one object `METHOD` per file of this folder, in the order of their
names. A new file is found by itself.

Importing it completes the schema of a config: `risk.size` is the model of the method that it names.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from mcl.config import schema
from mcl.risk.size_method import SizeMethod

METHODS: tuple[SizeMethod[Any], ...] = tuple(
    import_module(f"{__name__}.{path.stem}").METHOD
    for path in sorted(Path(__file__).parent.glob("[!_]*.py"))
)
BY_NAME = {method.name: method for method in METHODS}

SIZE = schema.complete("Size", [method.model for method in METHODS])
RISK = schema.Risk  # complete from here on


def of(size: schema.SizeRule) -> SizeMethod[Any]:
    """The method of a config."""
    return BY_NAME[size.method]
