"""Every command of a document runs in a test, or stands in commands.toml with the reason why it
cannot run as it stands.
"""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from mcl.cli.table import VERBS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "terraform" / "README.md",
]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.M | re.S)
RUN = ("sh", "sh refused")  # tests/test_docs.py runs these
PROGRAMS = (
    "mcl",
    "make",
    "pip",
    "docker",
    "terraform",
    "aws",
    "ray",
    "python",
    "mlflow",
    "systemctl",
    "cp",
    "cd",
    "export",
)
NO_COMMANDS = {"mcl --help", "mcl --json VERB …", "cd …"}
ENTRIES = tomllib.loads((ROOT / "tests" / "commands.toml").read_text(encoding="utf-8"))["command"]


def plain(line: str) -> str:
    """A command without its comment, what it sets for itself, and flags that stand before a
    verb.
    """
    line = re.sub(r"\s+#.*", "", line.strip())
    line = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line)
    return re.sub(r"^mcl(?: --json| --quiet| -v)+", "mcl", line)


def program(line: str) -> str:
    return line.split(" ", maxsplit=1)[0]


def commands(page: Path) -> tuple[list[str], list[str]]:
    """The commands that the page's own test runs, and all others: in a fence of another kind, or in
    a sentence.
    """
    run: list[str] = []
    other: list[str] = []
    text = page.read_text(encoding="utf-8")
    for kind, block in FENCE.findall(text):
        lines = [plain(line) for line in block.replace("\\\n", " ").splitlines()]
        (run if kind.strip() in RUN else other).extend(
            line for line in lines if program(line) in PROGRAMS
        )
    quoted = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    other.extend(
        plain(words)
        for words in quoted
        if " " in words and program(words) in PROGRAMS and words not in NO_COMMANDS
    )
    return run, other


def verb(command: str) -> str:
    """The verb of a command of mcl; empty for another program."""
    words = command.split()
    if words[0] != "mcl" or len(words) == 1:
        return ""
    two = " ".join(words[1:3])
    return two if two in VERBS else words[1]


EXECUTED = {verb(command) for page in PAGES for command in commands(page)[0]} - {""}


def listed(command: str) -> list[dict[str, str]]:
    return [entry for entry in ENTRIES if command.startswith(entry["begins"])]


def accounted(command: str) -> bool:
    """In a sentence a verb alone stands for itself: it is enough that a page runs it with what it
    needs.
    """
    return bool(listed(command)) or (command.startswith("mcl ") and verb(command) in EXECUTED)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_runs_or_stands_in_the_list(page: Path) -> None:
    assert [command for command in commands(page)[1] if not accounted(command)] == []


def test_every_line_of_a_shell_fence_that_runs_is_a_command_of_mcl() -> None:
    """The test of a page runs nothing else, so anything else there would run nowhere."""
    for page in PAGES:
        for kind, block in FENCE.findall(page.read_text(encoding="utf-8")):
            if kind.strip() in RUN:
                lines = [
                    shlex.split(line, comments=True)
                    for line in block.replace("\\\n", " ").splitlines()
                ]
                assert {words[0] for words in lines if words} == {"mcl"}, page.name


def test_every_entry_is_of_a_document_and_names_a_test_or_a_need() -> None:
    everything = [command for page in PAGES for part in commands(page) for command in part]
    stale = [
        entry["begins"]
        for entry in ENTRIES
        if not any(command.startswith(entry["begins"]) for command in everything)
    ]
    assert stale == []
    assert [
        entry["begins"] for entry in ENTRIES if ("test" in entry) == bool(entry.get("needs"))
    ] == []


@pytest.mark.parametrize("name", sorted({entry["test"] for entry in ENTRIES if "test" in entry}))
def test_a_named_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert function in functions
