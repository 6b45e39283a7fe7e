"""Tables in a real Chromium: sorted by their headings with a mouse and with keys, filtered by
words.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium

from mcl.engine.result import Result
from mcl.report.run import run_page
from mcl.report.theme import Cell, Section, page, scroll, table

from .conftest import view_of

ROWS: list[list[Cell | str]] = [
    [name, Cell(shown, "n", exact), when]
    for name, shown, exact, when in (
        ("alpha", "1,200.00", "1200.004", "2024-03-01"),
        ("Beta", "-3.50", "-3.5", "2023-12-31"),
        ("gamma", "n/a", "", "–"),
        ("delta 10", "1,200.00", "1200.001", "2024-01-15"),
        ("delta 9", "0.00", "0.0", "2024-02-01"),
        ("epsilon", "too short", "7 sessions are too short a time", "2024-02-02"),
        ("zeta", "★ 12.30 %", "", "2024-02-03"),
        ("eta", "4 bars", "", "2024-02-04"),
    )
]
NAMES = "[...document.querySelectorAll('#rows tbody tr')].filter(r => !r.hidden)"
FIRST = f"return {NAMES}.map(r => r.cells[0].textContent)"
HEADS = "document.querySelectorAll('#rows thead th')"


@pytest.fixture
def listed(browser: Chromium, tmp_path: Path) -> Iterator[Chromium]:
    rows = scroll(table(("Name", "Net USD", "Day"), ROWS, numeric=(1,)))
    short = table(("Name", "Value"), [["a", "1"], ["b", "2"]])
    browser.show(tmp_path, page("test", "Tables", [Section("Rows", rows), Section("Short", short)]))
    yield browser
    assert browser.severe() == []


def sorted_by(browser: Chromium, column: int) -> list[str]:
    browser.run(f"{HEADS}[{column}].querySelector('button').click()")
    names: list[str] = browser.run(FIRST)
    return names


def test_a_heading_sorts_numbers_from_the_largest_and_gives_the_order_back(
    listed: Chromium,
) -> None:
    original = listed.run(FIRST)
    falling = ["alpha", "delta 10", "zeta", "eta", "delta 9", "Beta"]
    absent = ["gamma", "epsilon"]
    assert sorted_by(listed, 1) == [*falling, *absent]  # by all digits, not by those shown
    sort = f"return [...{HEADS}].map(h => h.getAttribute('aria-sort'))"
    assert listed.run(sort) == ["none", "descending", "none"]
    assert sorted_by(listed, 1) == [*falling[::-1], *absent]  # what is absent stays last
    assert listed.run(sort) == ["none", "ascending", "none"]
    assert sorted_by(listed, 1) == original
    assert listed.run(sort) == ["none"] * 3


def test_words_and_days_sort_from_the_first(listed: Chromium) -> None:
    assert sorted_by(listed, 0)[:5] == ["alpha", "Beta", "delta 9", "delta 10", "epsilon"]
    days = sorted_by(listed, 2)
    assert (days[0], days[-1]) == ("Beta", "gamma")


def test_the_keyboard_sorts_too(listed: Chromium) -> None:
    listed.run(f"{HEADS}[1].querySelector('button').focus()")
    listed.press("ENTER")
    assert listed.run(FIRST)[0] == "alpha"
    listed.press("SPACE")
    assert listed.run(FIRST)[0] == "Beta"
    assert listed.run(f"return {HEADS}[1].getAttribute('aria-sort')") == "ascending"
    assert listed.run("return document.querySelectorAll('#short button').length") == 0


def test_words_filter_the_rows(listed: Chromium) -> None:
    count = "return document.querySelector('#rows output').textContent"

    def type_words(words: str) -> None:
        listed.run(
            "const i = document.querySelector('#rows input'); i.value ="
            f" '{words}'; i.dispatchEvent(new Event('input'))"
        )

    type_words("DELTA")
    assert listed.run(FIRST) == ["delta 10", "delta 9"]
    assert listed.run(count) == "2 of 8 rows"
    type_words("delta 1,200")  # every word, in any column
    assert listed.run(FIRST) == ["delta 10"]
    assert sorted_by(listed, 0) == ["delta 10"]  # sorting keeps the filter
    type_words("nothing")
    assert listed.run(FIRST) == []
    assert listed.run(count) == "No row has these words. Type fewer."
    type_words("")
    assert len(listed.run(FIRST)) == 8


def test_tables_are_for_everybody(listed: Chromium) -> None:
    listed.examine("tables")


def test_arrows_go_through_the_trades_that_a_filter_leaves(
    browser: Chromium, month: Result, tmp_path: Path
) -> None:
    browser.show(tmp_path, run_page(view_of(month)))
    browser.run(
        "const i = document.querySelector('#trades .filter input[aria-label*=\"Every trade\"]');"
        " i.value = '2024-01-0'; i.dispatchEvent(new Event('input'))"
    )
    left = "[...document.querySelectorAll('tr[data-from]')].filter(r => !r.hidden)"
    assert 0 < browser.run(f"return {left}.length") < 500
    browser.run(f"{left}[0].focus()")
    browser.press("ARROW_DOWN")
    browser.wait(f"return document.activeElement === {left}[1]")
    browser.press("END")
    browser.wait(f"return document.activeElement === {left}.at(-1)")
    assert browser.severe() == []
