"""The documents tell the truth: every command in them is run, the reference is current, every link
leads somewhere.

A fence ```sh is run in order in one empty project per page and must succeed, ```sh refused must be
refused (exit 1), ```sh elsewhere needs what a test machine lacks (a key, an account, a cloud): of
those the `mcl` lines must at least be valid command lines.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployments import walk

from mcl.cli import main
from mcl.cli.table import VERBS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```sh(?: (\w+))?\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)")
RUN = sorted(
    page
    for page in PAGES
    if any(kind in (None, "", "refused") for kind, _ in FENCE.findall(page.read_text()))
)


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """(kind, words) of every `mcl` line of a page, comments left out."""
    for kind, block in FENCE.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["mcl"]:
                yield kind, words[1:]


def test_the_configuration_reference_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_docs.py", "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "terraform/README.md", ROOT / "mcl/engine/assumptions.md"],
    ids=lambda page: page.name,
)
def test_every_command_in_a_sentence_is_one(page: Path) -> None:
    """`mcl VERB` names a verb that exists; with anything behind the verb it is a valid command
    line.
    """
    for words in map(
        shlex.split,
        re.findall(
            r"`mcl ([^`]+)`", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        ),
    ):
        typed = [
            word for word in words if word not in ("--json", "--quiet", "-v", "--help", "VERB")
        ]
        if typed and " ".join(typed) not in {*VERBS, "…"}:
            main.parse(typed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_a_valid_command_line(page: Path) -> None:
    for _, words in commands(page):
        main.parse([word for word in words if word not in ("--json", "--quiet", "-v")])


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in (*PAGES, ROOT / "terraform" / "README.md"):
        named = re.findall(r"(?:^|`)make ([\w-]+)", page.read_text(), re.M)
        assert set(named) <= targets, page.name


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_every_command_does_what_the_page_says(
    page: Path, worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "conf", project / "conf", ignore=shutil.ignore_patterns("promoted"))
    (project / "data").symlink_to(worlds)
    walk(1).to_csv(project / "bars.csv", index=False)
    monkeypatch.setenv("MCL_HOME", str(project))
    monkeypatch.chdir(project)
    for kind, words in commands(page):
        if kind != "elsewhere":
            assert main.main(["--quiet", *words]) == (1 if kind == "refused" else 0), " ".join(
                ["mcl", *words]
            )


MACHINE_WIDE = re.compile(
    r"\bray (?:stop|down)\b|\b(?:pkill|killall)\b|\bdocker (?:system|volume|image|container)"
    r" prune\b"
    r"|\bkill -\w+ -1\b|\bfuser -k"
)
KINDS = (
    "*.md",
    "*.py",
    "*.sh",
    "*.yaml",
    "*.yml",
    "*.tf",
    "*.tftpl",
    "*.toml",
    "Makefile",
    "Dockerfile*",
    "run",
)


def test_a_command_that_reaches_beyond_the_project_carries_a_warning() -> None:
    """`ray stop -f` ends every Ray cluster of the machine, also those of others: the paragraph
    around it says so.
    """
    folders = (
        ROOT / name
        for name in ("docs", "scripts", "docker", "terraform", "conf", "experiments", ".ci")
    )
    files = [
        ROOT / "README.md",
        ROOT / "Makefile",
        *(path for folder in folders for kind in KINDS for path in folder.rglob(kind)),
    ]
    silent = [
        f"{path.relative_to(ROOT)}: {command[0]}"
        for path in files
        for entry in re.split(r"\n\n|\n(?=[*-] )", path.read_text(errors="replace"))
        if (command := MACHINE_WIDE.search(entry)) and "warning" not in entry.lower()
    ]
    assert silent == []
    assert MACHINE_WIDE.search("ray stop -f")
    assert len(files) > 40
