"""What goes into the run store goes in without secrets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from mcl.base.redact import blotted, blotter

if TYPE_CHECKING:
    from mcl.tracking.records import Record

Late = Callable[[str], dict[str, bytes]]


def records(given: list[Record]) -> list[Record]:
    """Without the secrets that got into a parameter, a tag or a file: an override on a command line, an address with a password."""
    blot = cache(blotter())  # runs of one search share most of their values
    return [
        replace(
            record,
            params={key: blot(value) if isinstance(value, str) else value for key, value in record.params.items()},
            tags={key: blot(value) for key, value in record.tags.items()},
            files={path: blotted(path, content) for path, content in record.files.items()},
        )
        for record in given
    ]


def late_files(late: Late | None) -> Late | None:
    """The same for files that can only be made once the run has its id."""
    return late and (lambda run_id: {path: blotted(path, content) for path, content in late(run_id).items()})
