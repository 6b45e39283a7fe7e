"""The policy for skipped tests: in CI a skip fails the run unless `skips.toml` allows it; elsewhere
the run says what it left out.
"""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("skips.toml")
SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def without_aws_provider() -> bool:
    """Whether terraform could not find its provider without a network."""
    configured = Path(os.environ.get("TF_CLI_CONFIG_FILE") or "/nowhere").is_file()
    return (
        not configured
        and next(Path("/opt").glob("*/registry.terraform.io/hashicorp/aws"), None) is None
    )


MISSING: dict[str, Callable[[], bool]] = {
    "terraform": lambda: shutil.which("terraform") is None,
    "aws-provider": without_aws_provider,
    "recorded-data": lambda: not SHARED.is_dir(),
}


@dataclass(frozen=True)
class Allowance:
    """A skip that CI accepts: which tests, for which reason, and why."""

    test: str
    reason: str
    because: str
    without: str = ""

    @property
    def applies(self) -> bool:
        """Whether what it speaks of is missing here; elsewhere the skip is refused as any other."""
        return not self.without or MISSING[self.without]()

    def covers(self, test: str, reason: str) -> bool:
        return (
            self.applies
            and fnmatchcase(test, self.test)
            and re.search(self.reason, reason) is not None
        )


@dataclass(frozen=True)
class Part:
    """Something that tests use and a machine may not have."""

    reason: str
    install: str


def read(path: Path = LIST) -> tuple[list[Part], list[Allowance]]:
    entries = tomllib.loads(path.read_text(encoding="utf-8"))
    parts = [Part(**entry) for entry in entries.get("part", [])]
    return parts, [Allowance(**entry) for entry in entries.get("allowed", [])]


class Skips:
    """A pytest plugin. It lives in the process that collects all reports, not in the workers."""

    def __init__(self, strict: bool, path: Path = LIST) -> None:
        self.strict = strict
        self.parts, self.allowed = read(path)
        self.skipped: list[tuple[str, str]] = []  # test, reason
        self.passed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append((report.nodeid, reason_of(report)))
        elif report.passed and report.when == "call":
            self.passed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped.append((report.nodeid, reason_of(report)))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.strict and self.faults() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def faults(self) -> list[str]:
        """One sentence for each skip that is not allowed, and for each allowance of a test that
        ran.
        """
        refused = [
            f"{test} skipped, which tests/skips.toml does not allow: {reason}"
            for test, reason in self.skipped
            if not any(entry.covers(test, reason) for entry in self.allowed)
        ]
        return refused + [
            f"tests/skips.toml allows a skip that does not happen: {entry.test}: {entry.reason}"
            for entry in self.stale()
        ]

    def stale(self) -> list[Allowance]:
        """Allowances for tests by name of which all ran. One for every test (`*`) speaks of a
        machine, and is judged by `without`.
        """
        return [
            entry
            for entry in self.allowed
            if entry.test != "*"
            and entry.applies
            and any(fnmatchcase(test, entry.test) for test in self.passed)
            and not any(entry.covers(test, reason) for test, reason in self.skipped)
        ]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        if not self.strict:
            for line in self.left_out():
                write(line)
            return
        write("Skips that tests/skips.toml allows:")
        for entry in self.allowed:
            count = sum(entry.covers(test, reason) for test, reason in self.skipped)
            state = f"{count} skipped" if entry.applies else "not missing here, so nothing may skip"
            write(f"  {entry.test}: {entry.reason}: {entry.because} ({state})")
        for fault in self.faults():
            write(f"FAULT {fault}", red=True)

    def left_out(self) -> list[str]:
        """Lines for a person: how many tests did not run, why, and what to install."""
        counts = Counter(reason for _, reason in self.skipped)
        if not counts:
            return []
        total = sum(counts.values())
        lines = [f"Left out on this machine: {total} {'test' if total == 1 else 'tests'}."]
        for reason, count in sorted(counts.items()):
            known = [part.install for part in self.parts if re.search(part.reason, reason)]
            lines.append(
                f"  {count:>3}  {reason}" + (f". To run them: {known[0]}" if known else "")
            )
        return lines


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr
    text = where[2] if isinstance(where, tuple | list) else str(where)
    return str(text).removeprefix("Skipped: ")


def register(config: pytest.Config) -> None:
    """Register the policy once, in the process that prints."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Skips(strict=os.environ.get("MCL_CI") == "1"), "mcl-skips")
