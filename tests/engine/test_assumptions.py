"""The page of assumptions and the tests name each other; its table of codes is the enum's."""

from __future__ import annotations

import re
from pathlib import Path

from mcl import engine
from mcl.engine.diagnostics import block_table
from mcl.risk.blocks import Block

from . import (
    test_dollars,  # noqa: F401 - importing them fills COVERED
    test_orders,  # noqa: F401
)
from .assumed import COVERED

PAGE = Path(engine.__file__).parent / "assumptions.md"
NAMED = re.compile(r"^- `(\w+)` — ", re.MULTILINE)


def test_every_assumption_is_computed_by_hand() -> None:
    named = NAMED.findall(PAGE.read_text())
    assert len(named) == len(set(named))
    assert set(named) == COVERED


def test_the_table_of_codes_is_that_of_the_enum() -> None:
    """Written here when it is not: the next run, and the diff, show it."""
    text = PAGE.read_text()
    head, _, rest = text.partition("risk.Block -->\n")
    table, mark, tail = rest.partition("<!-- end -->")
    if table.strip() != block_table():
        PAGE.write_text(f"{head}risk.Block -->\n{block_table()}\n{mark}{tail}")
    assert table.strip() == block_table()
    assert all(f"| {block.value} | {block.name} |" in table for block in Block if block)
