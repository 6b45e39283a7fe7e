"""Names and first sentences follow the rules that a program can check. CONTRIBUTING.md says why."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "mcl"
# Bare participles and pictures say how a value came about, or what it is like. They never say what
# it is.
PARTICIPLES = frozenset(
    [
        "asked",
        "begun",
        "drawn",
        "found",
        "given",
        "gone",
        "heard",
        "held",
        "kept",
        "known",
        "left",
        "lived",
        "made",
        "meant",
        "placed",
        "said",
        "seen",
        "sent",
        "shown",
        "spent",
        "stood",
        "swept",
        "taken",
        "told",
        "tried",
        "used",
        "wanted_by",
        "written",
    ]
)
PICTURES = frozenset(
    [
        "blemish",
        "board",
        "brakes",
        "calm",
        "courier",
        "crowned",
        "desk",
        "door",
        "duty",
        "endow",
        "floor",
        "frozen",
        "habits",
        "letter",
        "menu",
        "mind",
        "onlooker",
        "purse",
        "shelf",
        "sieve",
        "sink",
        "sundry",
        "there",
        "thaw",
        "thinker",
        "vault",
        "walking",
        "wary",
    ]
)
STANDS = frozenset(
    ["left", "sent", "written", "used"]
)  # left and right of a table, sent by the wire, written to disk
PRONOUNS = frozenset(["one", "ones"])  # of what?
BANNED = (PARTICIPLES | PICTURES | PRONOUNS) - STANDS
ODD = re.compile(r"\bbeside\b", re.I)  # words of prose that have a plainer one: next to, apart from
QUESTIONS = ("What ", "Whom ", "Who ", "Whose ", "How ", "When ", "Where ", "Which ", "Why ")


@cache
def trees(folder: Path = PACKAGE) -> dict[str, ast.Module]:
    return {
        path.relative_to(folder).as_posix(): ast.parse(path.read_text())
        for path in sorted(folder.rglob("*.py"))
    }


def names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every name that the module binds, with its line: variables, arguments, functions, classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def banned_names() -> list[str]:
    """`file:line: name` of each banned name, and each file that has one for a name."""
    in_code = [
        f"{path}:{line}: {name}"
        for path, tree in trees().items()
        for line, name in names(tree)
        if name.strip("_").lower() in BANNED and name != "ONE"  # the number
    ]
    return in_code + [path for path in trees() if Path(path).stem in BANNED]


def doubled_classes() -> list[str]:
    """Public class names that two modules define."""
    homes = defaultdict(list)
    for path, tree in trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(path)
    return [
        f"{name}: {', '.join(paths)}" for name, paths in sorted(homes.items()) if len(paths) > 1
    ]


def riddles() -> list[str]:
    """First lines of docstrings that ask instead of telling, or do not begin as a sentence."""
    wrong = []
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if not isinstance(
                node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            ):
                continue
            text = ast.get_docstring(node) or ""
            if text.startswith(QUESTIONS):
                line = getattr(node, "lineno", 1)
                wrong.append(f"{path}:{line}: {text.splitlines()[0]}")
    return wrong


def test_no_name_is_a_bare_participle_or_a_picture() -> None:
    assert banned_names() == []


def test_a_public_class_name_stands_once() -> None:
    assert doubled_classes() == []


def test_a_docstring_tells() -> None:
    assert riddles() == []


def odd_sentences() -> list[str]:
    """`file:line: text` of each line of code or prose with a word of ODD; the changelog keeps its
    own.
    """
    root = PACKAGE.parent
    pages = [root / "README.md", *(root / "docs").glob("*.md"), *PACKAGE.rglob("*.md")]
    return [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in sorted([*PACKAGE.rglob("*.py"), *pages])
        if path.name != "CHANGELOG.md"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if ODD.search(line)
    ]


def test_no_sentence_has_an_odd_word() -> None:
    assert odd_sentences() == []


if __name__ == "__main__":  # python tests/test_names.py [room …]: what is left, of these rooms
    rooms = tuple(sys.argv[1:]) or ("",)
    for group in (banned_names(), doubled_classes(), riddles(), odd_sentences()):
        for entry in group:
            if any(re.search(rf"(^|[ ,:]){room}", entry) for room in rooms):
                print(entry)
