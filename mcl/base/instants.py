"""Read instants. One rule for a text without a zone: it is UTC."""

from __future__ import annotations

from datetime import UTC, datetime

NS = 1_000_000_000  # of a second


def instant(text: str) -> datetime:
    """An ISO 8601 time, UTC unless it says otherwise. ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
