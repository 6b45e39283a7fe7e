"""`mcl init DIR`: a project folder outside the repository, from what an installed mcl carries."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import mcl
from mcl.base.errors import ConfigError, StoreError

GITIGNORE = """\
# Made by mcl init. Secrets, market data and runs stay out of git.
# `mcl store backup` copies the runs.
.env
/data/
/mlruns/*
!/mlruns/.gitkeep
/live/
/backups/
.cache/
*.part-*
"""
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*_best.yaml")


def create(folder: Path) -> list[str]:
    """Write the project whole and return its files, sorted. ConfigError when `folder` holds
    something; nothing is written then.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} is not empty; nothing was written",
            "name a new folder; an existing project keeps its own conf/",
        )
    part = (folder if folder.is_dir() else folder.parent) / f"{folder.name}.part-{os.getpid()}"
    try:
        _fill(part)
        if folder.is_dir():  # it stays the same one: a shell may be in it
            for path in sorted(part.iterdir()):
                path.rename(folder / path.name)
        else:
            part.rename(folder)
    except OSError as error:
        raise StoreError(
            f"cannot write {folder}: {error.strerror or error}", "free space or fix the permissions"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _fill(folder: Path) -> None:
    shutil.copytree(carried("conf"), folder / "conf", ignore=LEFT_OUT)
    for promoted in (folder / "conf" / "promoted").glob("*.yaml"):
        promoted.unlink()  # of the project that was copied
    shutil.copytree(carried("experiments"), folder / "experiments", ignore=LEFT_OUT)
    shutil.copyfile(carried("env.example"), folder / ".env.example")
    (folder / "mlruns").mkdir(mode=0o700)
    (folder / "mlruns" / ".gitkeep").touch()
    (folder / ".gitignore").write_text(GITIGNORE)


def carried(name: str) -> Path:
    """Return a folder of the installed package, or of the checkout."""
    package = Path(mcl.__file__).resolve().parent
    folder = next(
        (
            p
            for p in (package / name, package.parent / name, package.parent / f".{name}")
            if p.exists()
        ),
        None,
    )
    if folder is None:
        raise ConfigError(f"this installation of mcl carries no {name}", "install the wheel again")
    return folder
