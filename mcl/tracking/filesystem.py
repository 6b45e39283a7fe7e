"""Small dealings with the machine that a store needs."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlparse


def use_wal(path: Path) -> None:
    """Write-ahead logging persists in the file: readers never wait for a writer."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


@contextmanager
def global_uri(uri: str) -> Iterator[None]:
    """MLflow's registry resolves `models:/m-…` sources through the process-wide URI, whatever
    client asks; lend it ours.
    """
    before = {key: os.environ.get(key) for key in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    os.environ.update(dict.fromkeys(before, uri))
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


@contextmanager
def folder_with(files: dict[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mcl-") as name:
        for path, content in files.items():
            target = Path(name) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        yield Path(name)


def fetched(uri: str, tracking_uri: str, below: Path) -> Path:
    """The files behind the URI of a server, as they are now, in a folder of their own: each
    replaced whole, the gone removed.
    """
    from mlflow import artifacts

    folder = below.joinpath(
        *(part for part in Path(unquote(urlparse(uri).path)).parts if part not in ("/", ".."))
    )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=below) as name:
        download = Path(artifacts.download_artifacts(uri, tracking_uri=tracking_uri, dst_path=name))
        paths = {path.relative_to(download) for path in download.rglob("*") if path.is_file()}
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (download / path).replace(folder / path)
    for path in list(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder) not in paths:
            path.unlink()
    return folder
