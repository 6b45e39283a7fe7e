"""The mark of generated data in a file's own metadata, which survives copies and new names.

Parquet and Arrow files carry it in their schema, under a key of mcl and among the attributes of
pandas, so that a frame that is read from one and written to another keeps it. A CSV carries it in a
comment line or in a column. Every door looks for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mcl.market.contract_master import NOTICE

KEY = "mcl.synthetic"
WORDS = "SYNTHETIC DATA"  # in a comment line of a CSV
COLUMN = "synthetic"  # of a CSV
_UNKNOWN = {
    "synthetic": True,
    "notice": NOTICE,
    "edge": {"words": "not known: the mark in the file does not say it"},
}


def world_of_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of the world that a synthetic table or series was made from, as its mark."""
    return dict(facts.get("world") or _UNKNOWN)


def attributes(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a frame of pandas that was made from generated bars with these facts."""
    return {KEY: world_of_facts(facts)}


def schema_metadata(world: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of an Arrow schema that mark a file; {} for the world of real data."""
    if not world:
        return {}
    frame: dict[str, Any] = {"index_columns": [], "column_indexes": [], "columns": []}
    pandas = frame | {"attributes": {KEY: dict(world)}}
    return {KEY: json.dumps(world, default=str), "pandas": json.dumps(pandas, default=str)}


def in_metadata(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """The world that the metadata of a schema name; {} for a file without the mark."""
    texts = metadata or {}
    if KEY.encode() in texts:
        return _parsed(texts[KEY.encode()])
    attributes = _object(texts.get(b"pandas", b"{}")).get("attributes") or {}
    attributes |= _object(texts.get(b"PANDAS_ATTRS", b"{}"))
    if KEY not in attributes:
        return {}
    world = attributes[KEY]
    return world if isinstance(world, dict) and world else dict(_UNKNOWN)


def in_lines(lines: Sequence[str]) -> dict[str, Any]:
    """The world that the comment lines of a text name."""
    return dict(_UNKNOWN) if any(WORDS in line.upper() for line in lines) else {}


def in_column(values: Sequence[str]) -> dict[str, Any]:
    """The world that a column named `synthetic` names: it holds anything but a no."""
    no = ("", "0", "0.0", "false", "no", "nan", "none")
    return dict(_UNKNOWN) if any(str(value).lower() not in no for value in values) else {}


def _parsed(text: bytes) -> dict[str, Any]:
    return _object(text) or dict(_UNKNOWN)


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
