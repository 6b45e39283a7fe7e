"""Every command that the code names in a sentence is one: its verb exists, and where the sentence
is a whole command line, it is a valid one.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcl.base.errors import UsageError
from mcl.cli.main import parse
from mcl.cli.table import VERBS

PACKAGE = Path(__file__).resolve().parents[1] / "mcl"
HEADS = {name.partition(" ")[0] for name in VERBS}
NAMED = re.compile(r"(?:^|(?<=[ `(:;]))mcl ((?:--\w+ )*)([a-z][a-z-]+)(?: ([a-z][a-z-]+))?")
# words that follow `mcl` in a sentence about the program
PROSE = frozenset(
    [
        "is",
        "has",
        "was",
        "itself",
        "and",
        "or",
        "met",
        "does",
        "reads",
        "keeps",
        "cannot",
        "opens",
        "ships",
        "needs",
        "with",
        "that",
        "from",
        "can",
        "to",
        "on",
        "in",
        "of",
        "writes",
        "complete",
        "says",
        "lists",
        "inside",
        "rolls",
        "carries",
        "generates",
        "import",
        "installed",
    ]
)
# what follows a command in a sentence
PROSE_BEHIND = re.compile(
    r"[,;:·]| (?:shows?|lists?|says?|makes?|takes?|gives?|continues?|starts?|ends?|runs?|stays"
    r"|compares?|chooses?|judges?|audits?|asks?|prints?|writes?|varies|measures?|has|again|finds"
    r"|varied|can|refuses|needs|serves|whole|builds|reads|keeps|adds|with|for|in|on|of|the|and"
    r"|names|deletes|is|installs|generates|checks|searches|fetches|stops|would|puts|before)\b"
)
NUMBERS = {"TRIALS": "9", "N": "9"}


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string of a module; what is put into one is `7`. No docstrings."""
    tree = ast.parse(path.read_text())
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in inside or id(node) in documented:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "7" for p in node.values)
            yield node.lineno, "".join(map(str, parts))


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "simulators" not in path.parts)


def test_every_verb_that_a_sentence_names_exists() -> None:
    wrong, count = [], 0
    for path in MODULES:
        for line, text in sentences(path):
            for _, first, second in NAMED.findall(text):
                if first in PROSE:
                    continue
                count += 1
                if first not in HEADS or (first not in VERBS and f"{first} {second}" not in VERBS):
                    wrong.append(f"{path.relative_to(PACKAGE)}:{line}: mcl {first} {second}")
    assert count > 100
    assert not wrong, "\n".join(wrong)


def test_every_sentence_that_begins_with_a_command_begins_with_a_valid_one() -> None:
    wrong, count = [], 0
    for path in MODULES:
        for line, text in sentences(path):
            if not re.match(r"mcl [a-z]", text) or "\n" in text:
                continue
            try:
                words = [
                    NUMBERS.get(word, word) for word in shlex.split(PROSE_BEHIND.split(text)[0])
                ]
                if (
                    not set(words[1:2]) <= HEADS
                    or not words[1:]
                    or words[1:] in ([word] for word in HEADS)
                ):
                    continue
                count += 1
                if "--help" not in words:
                    parse(words[1:])
            except (UsageError, ValueError) as error:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line}: {text!r}: {error}")
    assert count > 30
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("override", "repaired"),
    [
        ("strategy.fast=[1,2", "strategy.fast=[1,2]"),
        ("data={source: csv", "data={source: csv}"),
        ("strategy.fast=range(1,2", "strategy.fast=range(1,2)"),
    ],
)
def test_an_open_bracket_is_named_and_closed(override: str, repaired: str) -> None:
    from mcl.composition.error_sentences import unreadable

    message, hint = unreadable(override)
    assert "is not closed" in message
    assert hint == f"write it as '{repaired}'"
