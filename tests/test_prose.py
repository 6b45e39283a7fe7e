"""Sentences of the documents are short: about twelve words on average."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# the changelog is a list of what was, and is not written again
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "CHANGELOG.md"),
]
FENCE = re.compile(r"^```.*?^```|<!--.*?-->", re.M | re.S)
ITEM = re.compile(r"([-*]|\d+\.) ")
END = re.compile(r"(?<=[.!?:])[*\"')\]]*\s+(?=[A-Z`*\"(\[])")
WORD = re.compile(r"[\w’'%.,/−+-]*\w[\w’'%.,/−+-]*")
MOST_ON_AVERAGE, MOST_OF_A_PAGE = 12.5, 14.0


def paragraphs(text: str) -> list[str]:
    """Paragraphs and items of lists, without code, tables and headings; a command counts as one
    word.
    """
    found: list[list[str]] = [[]]
    for line in map(str.strip, FENCE.sub("", text).splitlines()):
        if not line or line.startswith(("#", "|", "![")):
            found.append([])
            continue
        if ITEM.match(line):
            found.append([])
        found[-1].append(ITEM.sub("", line, count=1) if ITEM.match(line) else line)
    joined = (" ".join(lines) for lines in found if lines)
    return [re.sub(r"`[^`]*`", "`x`", re.sub(r"\]\([^)]*\)", "]", each)) for each in joined]


def lengths(page: Path) -> list[int]:
    """Words of each sentence of a page."""
    sentences = (
        sentence
        for paragraph in paragraphs(page.read_text(encoding="utf-8"))
        for sentence in END.split(paragraph)
    )
    counts = (len(WORD.findall(sentence)) for sentence in sentences)
    return [count for count in counts if count > 1]


def test_a_sentence_is_counted_as_a_reader_counts_it() -> None:
    text = (
        "# Title\n\nOne two three. Four `a b c` five.\n\n| a | b |\n\n* Six seven: eight\n  nine."
    )
    assert paragraphs(text) == ["One two three. Four `x` five.", "Six seven: eight nine."]
    assert [len(WORD.findall(part)) for part in END.split("One two three. Four `x` five.")] == [
        3,
        3,
    ]


def test_sentences_have_about_twelve_words() -> None:
    counts = {page.name: lengths(page) for page in PAGES}
    means = {name: sum(each) / len(each) for name, each in counts.items() if each}
    print("\n".join(f"{name:<20} {mean:5.1f}" for name, mean in means.items()))
    everything = [count for each in counts.values() for count in each]
    assert {name: mean for name, mean in means.items() if mean > MOST_OF_A_PAGE} == {}
    assert sum(everything) / len(everything) <= MOST_ON_AVERAGE
