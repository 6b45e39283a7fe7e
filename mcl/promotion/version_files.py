"""Read the files of a promoted version, and prove that none has changed.

`mcl.promotion.bundle` lists and writes them. Reading needs nothing of what made them: no engine, no
strategy.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import PurePosixPath

import numpy as np

from mcl.base.errors import LiveError
from mcl.metrics.performance import Floats
from mcl.tracking.store import StoredVersion, content_sha256

SUMS = "SHA256SUMS"
PICKLED = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth", ".npy"})
Files = dict[str, bytes]


def sums(contents: Files) -> bytes:
    """In the format of sha256sum."""
    return "".join(
        f"{hashlib.sha256(contents[path]).hexdigest()}  {path}\n" for path in sorted(contents)
    ).encode()


def verified(version: StoredVersion) -> Files:
    """The files of a version. LiveError names the first that is not as registered, and refuses
    every pickle, registered or not.
    """
    contents = version.files()
    at = f"of version {version.version}"
    if SUMS not in contents:
        raise LiveError(f"registry: {SUMS} {at} is missing", "promote the run again")
    others = {name: content for name, content in contents.items() if name != SUMS}
    listing, registered = sums(others), version.tags.get("content_sha256")
    if contents[SUMS] != listing and content_sha256(others | {SUMS: listing}) == registered:
        raise LiveError(
            f"registry: {SUMS} {at} is not the file that was registered", "promote the run again"
        )
    lines = (line.partition("  ") for line in contents[SUMS].decode(errors="replace").splitlines())
    listed = {name: digest for digest, _, name in lines}
    for name in sorted(listed.keys() | others.keys()):
        if name not in others or listed.get(name) != hashlib.sha256(others[name]).hexdigest():
            raise LiveError(
                f"registry: {name} {at} is not the file that was registered",
                "promote the run again",
            )
    if content_sha256(contents) != registered:
        raise LiveError(
            f"registry: {SUMS} {at}, or its tag content_sha256, is not the one that was registered",
            "promote the run again",
        )
    for name, content in contents.items():
        if PurePosixPath(name).suffix in PICKLED or content[:1] == b"\x80":
            raise LiveError(
                f"registry: {name} {at} is a pickle, and none is ever loaded",
                "promote the run again",
            )
    return contents


def session_pnl(files: Files, capital_usd: float) -> Floats:
    """Net P&L of each session of the backtest, USD, from the files of a version."""
    import pandas as pd

    equity = pd.read_parquet(io.BytesIO(files["data/sessions.parquet"]))["equity_usd"].to_numpy(
        np.float64
    )
    return np.diff(equity, prepend=capital_usd)
