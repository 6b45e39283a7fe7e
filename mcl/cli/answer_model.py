"""Answers of verbs as JSON: the keys that are promised. More keys may be there; these stay."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Hold the keys that an answer has at least; a number is never taken for a text."""

    model_config = ConfigDict(extra="allow", strict=True, use_attribute_docstrings=True)


class OfRun(Answer):
    """An answer about one run."""

    run_id: str
    """MLflow run id."""
