"""Compare two data manifests: the input files, the request, the roll rule and the range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcl.base.differences import Differences, differences, flatten

MOST_NAMED = 5  # changed files that are named
FACTS = (  # of a data manifest
    "dataset",
    "interval",
    "roll",
    "exclude_degraded",
    "start",
    "end",
    "request",
    "facts",
    "counts",
    "conditions",
)


def data_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Differences:
    """Compare two data manifests: the digests of the chunks, or where those are the same the facts
    of the request, the roll rule and the range.
    """
    chunks = differences(*(_inputs(manifest) for manifest in (then, now)))
    if chunks:
        return {f"chunk {name}": pair for name, pair in sorted(chunks.items())}
    flat = (flatten({key: manifest.get(key) for key in FACTS}) for manifest in (then, now))
    return dict(sorted(differences(*flat).items()))


def data_moved(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say how two data manifests differ."""
    if not then:
        return "the run holds no manifest, so its inputs cannot be named"
    differing = data_differences(then, now)
    if not differing:
        return "the same input files give other bars: the reading of them has changed"
    names = [name.removeprefix("chunk ") for name in differing if name.startswith("chunk ")]
    if names:
        return f"chunk {few(names)}"
    return few([f"{key} {before} → {after}" for key, (before, after) in differing.items()])


def _inputs(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {str(item["name"]): str(item["sha256"]) for item in manifest.get("inputs", [])}


def few(names: list[str]) -> str:
    """List the first of the names and count the others."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
