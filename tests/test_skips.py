"""The policy for skipped tests is kept: an unlisted skip fails a CI run, a listed one does not, a
stale entry fails it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from skips import MISSING, read

HERE = Path(__file__).parent
TESTS = """
import pytest

def test_passes():
    pass

def test_needs_a_part():
    pytest.skip("promtool is not installed")
"""
CONFTEST = """
import os, sys
sys.path.insert(0, {here!r})
from pathlib import Path
import skips

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        strict = os.environ.get("MCL_CI") == "1"
        config.pluginmanager.register(skips.Skips(strict, Path({entries!r})), "mcl-skips")
"""
PART = '[[part]]\nreason = "promtool is not installed"\ninstall = "apt-get install prometheus"\n'
ENTRY = '[[allowed]]\ntest = "{test}"\nreason = "{reason}"\nbecause = "of this test"\n'


def run(folder: Path, entries: str, ci: str, *more: str) -> tuple[int, str]:
    (folder / "skips.toml").write_text(PART + entries)
    (folder / "conftest.py").write_text(
        CONFTEST.format(here=str(HERE), entries=str(folder / "skips.toml"))
    )
    (folder / "test_sample.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        *more,
        str(folder),
    ]
    environment = {"MCL_CI": ci, "PATH": ""}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_skip_that_is_not_listed_fails_a_ci_run(tmp_path: Path, workers: str) -> None:
    code, text = run(tmp_path, "", "1", "-n", workers)
    assert code == 1, text
    assert (
        "test_needs_a_part skipped, which tests/skips.toml does not allow: promtool is not"
        " installed" in text
    )


def test_a_listed_skip_passes_and_is_printed(tmp_path: Path) -> None:
    code, text = run(tmp_path, ENTRY.format(test="*::test_needs*", reason="promtool"), "1")
    assert code == 0, text
    assert "*::test_needs*: promtool: of this test (1 skipped)" in text


def test_an_entry_whose_test_runs_fails_a_ci_run(tmp_path: Path) -> None:
    stale = ENTRY.format(test="*::test_passes", reason="promtool") + ENTRY.format(
        test="*::test_needs*", reason="promtool"
    )
    code, text = run(tmp_path, stale, "1")
    assert code == 1, text
    assert "allows a skip that does not happen: *::test_passes: promtool" in text


def test_a_user_is_told_what_was_left_out_and_how_to_install_it(tmp_path: Path) -> None:
    code, text = run(tmp_path, "", "")
    assert code == 0, text
    assert "Left out on this machine: 1 test." in text
    assert "promtool is not installed. To run them: apt-get install prometheus" in text


def test_every_reason_in_the_tests_has_a_part_or_an_allowance() -> None:
    """So that the end of a run can say what to install."""
    parts, allowed = read()
    known = [part.reason for part in parts] + [allowance.reason for allowance in allowed]
    written = [
        reason
        for path in HERE.rglob("*.py")
        if path.name != "test_skips.py"
        for reason in re.findall(
            r'(?:skip\(|reason=)"([^"]+ (?:not installed|this machine|this checkout))',
            path.read_text(),
        )
    ]
    assert len(written) > 5
    assert [
        reason for reason in written if not any(re.search(entry, reason) for entry in known)
    ] == []


def test_every_entry_gives_a_reason_and_names_what_can_be_missing() -> None:
    parts, allowed = read()
    assert all(part.install for part in parts)
    assert all(entry.because for entry in allowed)
    assert {entry.without for entry in allowed} - {""} <= MISSING.keys()
