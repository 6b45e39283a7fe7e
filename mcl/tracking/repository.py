"""The git repository around a project, the command line and the user: who made a run, of what."""

from __future__ import annotations

import getpass
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@cache
def state(folder: Path) -> dict[str, str]:
    """Commit and dirty flag of the repository around `folder`; `none` where there is no git."""
    head = _git(folder, "rev-parse", "HEAD")
    if not head:
        return {"commit": "none", "dirty": "unknown"}
    return {"commit": head, "dirty": str(bool(_git(folder, "status", "--porcelain"))).lower()}


@dataclass(frozen=True)
class Commit:
    """One commit of a file; `first_line` is that of the file in it, with its line end."""

    short: str
    at: str  # ISO, with the offset of its author
    by: str
    subject: str
    first_line: str


def commits(folder: Path, file: Path) -> list[Commit]:
    """The commits that changed `file` (its path below `folder`), oldest first; none where there is
    no git.
    """
    history = []
    for line in _git(
        folder, "log", "--reverse", "--format=%h%x09%aI%x09%an%x09%s", "--", str(file)
    ).splitlines():
        short, at, by, subject = line.split("\t", 3)
        text = _git(folder, "show", f"{short}:./{file.as_posix()}")
        history.append(Commit(short, at, by, subject, f"{text.partition(chr(10))[0]}\n"))
    return history


def argv() -> list[str]:
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def _git(folder: Path, *args: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), *args],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def origin(folder: Path) -> dict[str, str]:
    """The tags by which MLflow shows the user, the source and the version of a run."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    tags = {
        "mlflow.user": user,
        "mlflow.source.name": " ".join(argv()[:2]),
        "mlflow.source.type": "LOCAL",
    }
    commit = state(folder)["commit"]
    return tags | ({} if commit == "none" else {"mlflow.source.git.commit": commit})
