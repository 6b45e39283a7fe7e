"""A promoted version, loaded again to be traded.

There is one truth in two places that must agree byte for byte: a version in the registry (immutable
files, content hash, alias) and `conf/promoted/NAME.yaml`, a file for people and their reviews. The
file is one line that names the version and its content hash, followed by the registry's own
`config.yaml`. Whoever edits one of them gets a LiveError that says which. The code that the
configuration names must be the registered one before any of it is executed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcl import composition
from mcl.base.differences import differences
from mcl.base.errors import ConfigError, LiveError, StoreError, nearest
from mcl.base.files import plain_yaml
from mcl.config import schema
from mcl.metrics.performance import Floats
from mcl.promotion import aliases
from mcl.promotion.expected_band import Band, expected
from mcl.promotion.promoted_file import FIRST_LINE, MODEL, path_of
from mcl.promotion.version_files import Files, session_pnl, verified
from mcl.strategy import user_strategies
from mcl.tracking import provenance
from mcl.tracking.project import Project
from mcl.tracking.store import Store, StoredVersion

__all__ = ["MODEL", "Deployable", "promoted"]


@dataclass(frozen=True)
class Deployable:
    """A promoted version whose file, registry entry, hashes and code agree."""

    alias: str
    version: int
    run_id: str
    config: schema.Config
    provenance: dict[str, Any]
    content_sha256: str
    path: Path
    stage: str  # paper, live
    session_pnl: Floats  # USD, net, of each session of its backtest in order

    def band(self, sessions: int = 0) -> Band | None:
        """Return the band of its expected P&L over at least that many sessions."""
        return expected(self.session_pnl, sessions)


def promoted(alias: str, project: Project) -> Deployable:
    """The version that `alias` names. LiveError says which of file, registry, hash and code
    disagrees.
    """
    aliases.settle(project, alias)
    path = path_of(alias, project.root)
    text = _text(alias, path)
    version = _aliased(alias, project.store)
    files = verified(version)
    _agree(path, text, alias, version, files["config.yaml"].decode())
    facts = json.loads(files["provenance.json"])
    _same_code(files, version, facts["stage"])
    run = _parsed(path, text, facts["config_sha256"])
    content = version.tags["content_sha256"]
    pnl = session_pnl(files, run.capital_usd)
    return Deployable(
        alias,
        version.version,
        version.run_id,
        run,
        facts,
        content,
        path,
        facts["stage"],
        pnl,
    )


def of_version(alias: str, number: int, project: Project) -> Deployable:
    """A version that traded as `alias`, promoted now or not: to look back on, never to trade. Its
    registered files must be whole.
    """
    version = project.store.version(MODEL, str(number))
    files = verified(version)
    facts, path = json.loads(files["provenance.json"]), path_of(alias, project.root)
    run = _parsed(path, files["config.yaml"].decode(), facts["config_sha256"])
    pnl, stage = session_pnl(files, run.capital_usd), facts["stage"]
    return Deployable(
        alias,
        number,
        version.run_id,
        run,
        facts,
        version.tags["content_sha256"],
        path,
        stage,
        pnl,
    )


# ------------------------------------------------------------------------------------- verification


def _text(alias: str, path: Path) -> str:
    if not path.is_file():
        names = [p.stem for p in path.parent.glob("*.yaml")]
        raise LiveError(
            f"nothing is promoted as {alias!r}: {nearest(alias, names)}",
            "mcl promote RUN_ID --to paper",
        )
    # line ends as they are: a changed one is an edit too
    return path.read_bytes().decode(errors="replace")


def _aliased(alias: str, store: Store) -> StoredVersion:
    try:
        return store.version(MODEL, alias)
    except StoreError as error:
        raise LiveError(
            f"registry: conf/promoted/{alias}.yaml exists, but {error.message}", _again(alias)
        ) from None


def _agree(path: Path, text: str, alias: str, version: StoredVersion, registered: str) -> None:
    head = FIRST_LINE.match(text)
    if head is None or head["alias"] != alias:
        raise LiveError(f"file: the first line of {path} was edited", _again(alias))
    if int(head["version"]) != version.version:
        raise LiveError(
            f"file and registry: {path} is version {head['version']}, the registry's alias"
            f" {alias!r} is version {version.version}",
            f"a promotion was interrupted, or the file is of another checkout. {_again(alias)}",
        )
    if head["content"] != version.tags["content_sha256"]:
        raise LiveError(
            f"hash: {path} names content {head['content'][:12]}…, version {version.version} has"
            f" {version.tags['content_sha256'][:12]}…",
            _again(alias),
        )
    body = text[head.end() :]
    if body != registered:
        raise LiveError(
            f"file: {path} was edited after its promotion, {_difference(body, registered)}",
            _again(alias),
        )


def _difference(body: str, registered: str) -> str:
    """The first line (counted in the file) in which an edited file differs."""
    file_lines, registered_lines = body.splitlines(), registered.splitlines()
    row = next(
        (i for i, (a, b) in enumerate(zip(file_lines, registered_lines, strict=False)) if a != b),
        min(len(file_lines), len(registered_lines)),
    )
    file_line, registry_line = (
        lines[row].strip() if row < len(lines) else "nothing"
        for lines in (file_lines, registered_lines)
    )
    return (
        f"line {row + 2} says {file_line!r}, the registry {registry_line!r}"
        if file_line != registry_line
        else f"line {row + 2} differs in blanks or line ends"
    )


def _parsed(path: Path, text: str, expected: str) -> schema.Config:
    """A config is data, never code: safe YAML through the strict models, and its hash must be the
    promoted one.
    """
    try:
        run = composition.run_config(plain_yaml(text, path.name))
    except ConfigError as error:
        raise LiveError(
            f"{path} does not fit this version of mcl: {error.message}",
            "promote the run again with this version",
        ) from None
    if composition.fingerprint(run) != expected:
        raise LiveError(
            f"hash: {path} means config {composition.fingerprint(run)[:12]}…, promoted was"
            f" {expected[:12]}…",
            "promote the run again",
        )
    return run


def _same_code(files: Files, version: StoredVersion, stage: str) -> None:
    """The user's own strategies must be the registered ones; for real money, all code that
    decides.
    """
    strategy = json.loads(files["config.json"])["strategy"]
    if other := foreign_code(files, strategy, all_of_it=stage == "live"):
        hint = "go back to the commit that it was promoted from, or promote again with this code"
        if other[0] in files:
            hint += f"; the registered file is {version.folder / other[0]}"
        more = f" and {len(other) - 1} more files are" if len(other) > 1 else " is"
        raise LiveError(
            f"code: {other[0]}{more} not as promoted in version {version.version}", hint
        )


def foreign_code(files: Files, strategy: Any, all_of_it: bool) -> list[str]:
    """Source files that decide and are not the registered ones: the user's own strategies, with
    `all_of_it` also those of mcl.
    """
    listed: dict[str, str] = json.loads(files["code.json"])
    now = provenance.code_digests(strategy) if all_of_it else user_strategies.digests(strategy)
    own = now.keys() | {name for name in listed if name.startswith("experiments/")}
    return sorted(name for name in differences(listed, now) if all_of_it or name in own)


def _again(alias: str) -> str:
    return f"restore the file from git, or promote again: mcl promote RUN_ID --to {alias}"
