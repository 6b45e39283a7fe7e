"""The registry of data sources: one object per file of this folder, in the order of the documents.

Importing it completes the schema of a config: `data` is the model of the source that it names.
"""

from __future__ import annotations

from typing import Any

from mcl.config import schema
from mcl.data.source import Source
from mcl.data.sources import csv, databento, eia, lean, parquet, synthetic

SOURCES: tuple[Source[Any], ...] = (
    synthetic.SOURCE,
    databento.SOURCE,
    parquet.SOURCE,
    eia.SOURCE,
    csv.SOURCE,
    lean.SOURCE,
)
BY_NAME = {source.name: source for source in SOURCES}

DATA = schema.complete("Data", [source.model for source in SOURCES])


def of(data: schema.Data) -> Source[Any]:
    """The source of a config."""
    return BY_NAME[data.source]
