"""The options of the group `data`, and what each of them needs from its user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mcl.data import sources

FOLDER = Path(__file__).resolve().parents[1] / "conf" / "data"
OPTIONS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
VALUES = {"path": "somewhere", "stamped_at": "open", "timezone": "UTC"}


def content(option: str) -> dict[str, Any]:
    """The file of an option as it is written."""
    keys: dict[str, Any] = yaml.safe_load((FOLDER / f"{option}.yaml").read_text())
    return keys


def needed(option: str) -> list[str]:
    """Overrides for the keys that this option leaves to its user."""
    written = content(option)
    return [
        f"data.{key}={VALUES[key]}"
        for key in sources.BY_NAME[written["source"]].needs
        if written.get(key) in (None, "???")
    ]
