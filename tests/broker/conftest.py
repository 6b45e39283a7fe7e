"""Every test here fails if ib_async could not decode a message: it only logs that, and loses the
message.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


class _Gate(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())


@pytest.fixture(autouse=True)
def decoder_gate() -> Iterator[None]:
    gate, logger = _Gate(), logging.getLogger("ib_async.Decoder")
    logger.addHandler(gate)
    yield
    logger.removeHandler(gate)
    assert gate.records == []
