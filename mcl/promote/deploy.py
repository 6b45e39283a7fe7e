"""A promoted version: how it is frozen and how it is loaded again.

There is one truth in two places that must agree byte for byte: a version in the registry (immutable files, content hash, alias)
and `conf/promoted/NAME.yaml`, a file for people and their reviews. The file is one line that names the version and its content
hash, followed by the registry's own `config.yaml`. Whoever edits one of them gets a LiveError that says which.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mcl import config, schema
from mcl.errors import ConfigError, LiveError, StoreError, nearest
from mcl.files import write_whole
from mcl.tracking import Store, StoredVersion, content_sha256

MODEL = "mcl"  # one registered model, so that an alias names one version and no other
FIRST_LINE = re.compile(r"# (?P<alias>[\w-]+): version (?P<version>\d+) of model mcl, content_sha256 (?P<content>[0-9a-f]{64})\n")


@dataclass(frozen=True)
class Deployable:
    """A promoted version whose file, registry entry and hashes agree."""

    alias: str
    version: int
    run_id: str
    config: schema.Config
    provenance: dict[str, Any]
    content_sha256: str
    path: Path


def promoted(alias: str, store: Store, root: Path) -> Deployable:
    """The version that `alias` names. LiveError says which of file, registry and hash disagrees."""
    path = path_of(alias, root)
    text = _text(alias, path)
    version = _aliased(alias, store)
    files = _verified(version)
    _agree(path, text, alias, version, files["config.yaml"].decode())
    provenance = json.loads(files["provenance.json"])
    run = _parsed(path, text, provenance["config_sha256"])
    return Deployable(alias, version.version, version.run_id, run, provenance, version.tags["content_sha256"], path)


def freeze(alias: str, run_id: str, files: dict[str, bytes], tags: dict[str, str], *, store: Store, root: Path) -> tuple[int, Path]:
    """Register the files, write conf/promoted/ALIAS.yaml, move the alias. Until that last step the old version is the one that loads.

    When the alias cannot be moved the old file is put back; when the process dies there, `promoted` refuses and says what to do.
    """
    path = path_of(alias, root)
    with _alone(root):
        before = path.read_bytes() if path.is_file() else None
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        version = store.register(MODEL, run_id, files, tags | {"files_sha256": json.dumps(digests)})
        write_whole(path, _first_line(alias, version, content_sha256(files)).encode() + files["config.yaml"])
        try:
            store.set_alias(MODEL, alias, version)
        except StoreError:
            path.unlink() if before is None else write_whole(path, before)
            raise
    return version, path


def path_of(alias: str, root: Path) -> Path:
    return root / "conf" / "promoted" / f"{alias}.yaml"


# ------------------------------------------------------------------------------------------------------------ verification


def _text(alias: str, path: Path) -> str:
    if not path.is_file():
        known = [p.stem for p in path.parent.glob("*.yaml")]
        raise LiveError(f"nothing is promoted as {alias!r}: {nearest(alias, known)}", "mcl promote RUN_ID --to paper")
    return path.read_bytes().decode(errors="replace")  # line ends as they are: a changed one is an edit too


def _aliased(alias: str, store: Store) -> StoredVersion:
    try:
        return store.version(MODEL, alias)
    except StoreError as error:
        raise LiveError(f"registry: conf/promoted/{alias}.yaml exists, but {error.message}", _again(alias)) from None


def _verified(version: StoredVersion) -> dict[str, bytes]:
    """The registry's files, unless one of them is not what was registered."""
    files = version.files()
    expected = json.loads(version.tags.get("files_sha256", "{}"))
    for name in sorted(expected.keys() | files.keys()):
        if name not in files or expected.get(name) != hashlib.sha256(files[name]).hexdigest():
            raise LiveError(f"registry: {name} of version {version.version} is not the file that was registered", "promote the run again")
    if content_sha256(files) != version.tags.get("content_sha256"):
        raise LiveError(f"registry: the content hash of version {version.version} does not fit its files", "promote the run again")
    return files


def _agree(path: Path, text: str, alias: str, version: StoredVersion, registered: str) -> None:
    head = FIRST_LINE.match(text)
    if head is None or head["alias"] != alias:
        raise LiveError(f"file: the first line of {path} was edited", _again(alias))
    if int(head["version"]) != version.version:
        raise LiveError(
            f"file and registry: {path} is version {head['version']}, the registry's alias {alias!r} is version {version.version}",
            f"a promotion was interrupted, or the file is of another checkout. {_again(alias)}",
        )
    if head["content"] != version.tags["content_sha256"]:
        raise LiveError(
            f"hash: {path} names content {head['content'][:12]}…, version {version.version} has {version.tags['content_sha256'][:12]}…",
            _again(alias),
        )
    body = text[head.end() :]
    if body != registered:
        raise LiveError(f"file: {path} was edited after its promotion, {_difference(body, registered)}", _again(alias))


def _difference(body: str, registered: str) -> str:
    """The first line (counted in the file) in which an edited file differs."""
    found, wanted = body.splitlines(), registered.splitlines()
    row = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted)))
    here, there = (lines[row].strip() if row < len(lines) else "nothing" for lines in (found, wanted))
    return f"line {row + 2} says {here!r}, the registry {there!r}" if here != there else f"line {row + 2} differs in blanks or line ends"


def _parsed(path: Path, text: str, expected: str) -> schema.Config:
    """A config is data, never code: safe YAML through the strict models, and its hash must be the promoted one."""
    try:
        run = config.run_config(yaml.safe_load(text))
    except ConfigError as error:
        raise LiveError(f"{path} does not fit this version of mcl: {error.message}", "promote the run again with this version") from None
    if config.fingerprint(run) != expected:
        raise LiveError(
            f"hash: {path} means config {config.fingerprint(run)[:12]}…, promoted was {expected[:12]}…", "promote the run again"
        )
    return run


def _first_line(alias: str, version: int, content: str) -> str:
    return f"# {alias}: version {version} of model {MODEL}, content_sha256 {content}\n"


def _again(alias: str) -> str:
    return f"restore the file from git, or promote again: mcl promote RUN_ID --to {alias}"


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Two promotions at once take turns."""
    import fcntl

    path = root / "mlruns" / "promote.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
