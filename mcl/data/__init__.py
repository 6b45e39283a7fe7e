"""From a vendor, a generator or a file to `Bars`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcl.data.load import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`mcl.data.load` without importing the readers until they are used."""
    if name == "load":
        from mcl.data.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
