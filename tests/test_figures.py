"""A figure in a document names the command that prints it, and one that depends on the machine says
of which machines it is.

A figure is a number with a unit of speed, memory or comparison: 7.2 ns, 131 trials a second, 50
times as long, 0.95 GB. Its section must name a command of this repository. A speed must be a range
(`6.3 to 7.2 ns`), a ratio, or stand in a section that says on how many machines it was measured.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GENERATED = {"configuration.md", "json.md"}  # made from the code: they hold no measurement
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in GENERATED),
]
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
NUMBER = r"\d[\d.,]*"
SPEED = re.compile(
    rf"{NUMBER} (?:ns|µs|ms)\b|{NUMBER}(?: [a-z]+)? a second\b|{NUMBER} \w+/s\b|{NUMBER} trials/s\b"
)
RATIO = re.compile(
    rf"{NUMBER} ?×|{NUMBER} times (?:as|that|slower|faster)\b|{NUMBER} GB\b|{NUMBER} requests a"
    r" trial\b"
)
COMMAND = re.compile(r"`(?:make [\w-]+|python scripts/\S+|mcl [^`]+)[^`]*`")
MACHINES = re.compile(r"\bmachines?\b|\bCPUs?\b", re.I)
LEFT_OUT = {  # section: why its numbers are no measurement
    "live.md: When a bar is closed": "rules, in seconds",
    "runbooks.md: ClockOff": "the bound of an alarm",
}


def sections(page: Path) -> list[tuple[str, str]]:
    """Heading and text of each section, fences left out."""
    parts = re.split(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), flags=re.M)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def single(text: str) -> list[str]:
    """Speeds that are no range."""
    return [
        found[0]
        for found in SPEED.finditer(text)
        if not re.search(r"\d to $", text[: found.start()][-5:])
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_figure_names_the_command_that_prints_it(page: Path) -> None:
    silent = [
        f"{heading}: {figure[0]}"
        for heading, text in sections(page)
        if f"{page.name}: {heading}" not in LEFT_OUT and not COMMAND.search(text)
        for figure in (*SPEED.finditer(text), *RATIO.finditer(text))
    ]
    assert silent == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_speed_is_a_range_or_names_its_machine(page: Path) -> None:
    bare = [
        f"{heading}: {figure}"
        for heading, text in sections(page)
        if f"{page.name}: {heading}" not in LEFT_OUT
        for paragraph in re.split(r"\n\n", text)
        for figure in single(paragraph)
        if not MACHINES.search(text)
    ]
    assert bare == []


def test_the_rule_sees_what_it_should() -> None:
    assert [
        found[0]
        for found in SPEED.finditer("7.2 ns, 205 a second, 131 trials a second, 0.15 ms and 60 s")
    ] == [
        "7.2 ns",
        "205 a second",
        "131 trials a second",
        "0.15 ms",
    ]
    assert [
        found[0]
        for found in RATIO.finditer("50 times as long, 2.8 ×, two times, 3 times a day, 0.95 GB")
    ] == [
        "50 times as",
        "2.8 ×",
        "0.95 GB",
    ]
    assert single("6.3 to 7.2 ns or 9 ms") == ["9 ms"]
    measured = dict(sections(ROOT / "README.md"))["Measured"]
    assert len(SPEED.findall(measured)) + len(RATIO.findall(measured)) > 10
    assert COMMAND.search(measured)
