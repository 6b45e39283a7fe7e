"""`mcl doctor`: everything that a machine needs for mcl, each with its remedy. Looks, changes
nothing.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import socket
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mcl import DISTRIBUTION, composition
from mcl.base.errors import MclError
from mcl.base.redact import NAMES
from mcl.base.secrets import secret
from mcl.base.words import many
from mcl.ops.restore import PLAN
from mcl.tracking import schema, sqlite_writer
from mcl.tracking.store import Store

Level = Literal["ok", "note", "fail"]
FREE_GB = 2.0  # two synthetic worlds, their Parquet and a few hundred runs
VENDOR = "https://hist.databento.com"
PORTS = {7497: "TWS paper", 4002: "IB Gateway paper"}


@dataclass(frozen=True)
class MachineCheck:
    """`note` is worth knowing and stops nothing; `fail` will stop some command, `remedy` says what
    to do about it.
    """

    subject: str
    level: Level
    detail: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the fields by the names of the JSON answer."""
        return {
            "subject": self.subject,
            "level": self.level,
            "found": self.detail,
            "remedy": self.remedy,
        }


def examine(root: Path) -> list[MachineCheck]:
    """All findings of this machine and of the project at `root`, in a fixed order."""
    looks = (
        _python,
        _packages,
        _configuration,
        _writable,
        _disk,
        _store,
        _old_store,
        _restoring,
        _secrets,
        _zones,
        _clock,
        _databento,
        _broker,
    )
    return [finding for look in looks for finding in look(root)]


def _python(root: Path) -> list[MachineCheck]:
    del root
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    remedy = (
        "" if fits else "install Python 3.11, 3.12 or 3.13, then make PYTHON=python3.13 install"
    )
    return [MachineCheck("python", "ok" if fits else "fail", platform.python_version(), remedy)]


def _packages(root: Path) -> list[MachineCheck]:
    """Every requirement of mcl itself against what is installed: a pin elsewhere can slide a
    package to a release of years ago.
    """
    del root
    from packaging.requirements import Requirement

    wrong = []
    for text in _requirements():
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            have = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            have = "missing"
        if have == "missing" or not need.specifier.contains(have, prereleases=True):
            wrong.append(f"{need.name} {have}, needs {need.specifier}")
    if wrong:
        return [MachineCheck("packages", "fail", "; ".join(wrong), "make clean install")]
    return [MachineCheck("packages", "ok", "every requirement is met")]


def _requirements() -> list[str]:
    """Return the requirements of mcl; an editable installation made before it was called
    mcl-harness is known as mcl.
    """
    for name in (DISTRIBUTION, "mcl"):
        try:
            return metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
    return []


def _configuration(root: Path) -> list[MachineCheck]:
    try:
        _ = composition.compose("backtest", []).config
    except MclError as error:
        return [
            MachineCheck(
                "configuration", "fail", error.message, error.hint or "restore conf/ from git"
            )
        ]
    own = "of this project" if (root / "conf" / "backtest.yaml").is_file() else "inside the package"
    return [MachineCheck("configuration", "ok", f"{composition.conf_dir()} ({own})")]


def _writable(root: Path) -> list[MachineCheck]:
    places = [root / name for name in ("mlruns", "data", "conf/promoted")]
    closed = [
        p for p in places if not os.access(next(q for q in (p, *p.parents) if q.exists()), os.W_OK)
    ]
    if closed:
        return [
            MachineCheck(
                "permissions",
                "fail",
                f"not writable: {', '.join(map(str, closed))}",
                f"chown or chmod them, or set MCL_HOME; now {root}",
            )
        ]
    return [MachineCheck("permissions", "ok", f"{root} is writable")]


def _disk(root: Path) -> list[MachineCheck]:
    free = shutil.disk_usage(root).free / 1e9
    enough = free >= FREE_GB
    return [
        MachineCheck(
            "disk",
            "ok" if enough else "fail",
            f"{free:.1f} GB free",
            "" if enough else f"free {FREE_GB:g} GB below {root}",
        )
    ]


def _store(root: Path) -> list[MachineCheck]:
    store = Store(root)
    database = store.folder / "mlflow.db"
    if not store.uri.startswith("sqlite:///"):
        return [MachineCheck("run store", "note", f"a server: {store.uri}", "mcl runs asks it")]
    if not database.is_file():
        return [MachineCheck("run store", "ok", f"{database} is made by the first run")]
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            verdict = connection.execute("PRAGMA quick_check").fetchone()[0]
            runs = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    except sqlite3.Error as error:
        return [
            MachineCheck(
                "run store",
                "fail",
                f"{database}: {error}",
                "restore it from a backup, or move it away to start anew",
            )
        ]
    return [
        (
            _schema(database, runs)
            if verdict == "ok"
            else MachineCheck(
                "run store", "fail", f"{database}: {verdict}", "restore it from a backup"
            )
        )
    ]


def _schema(database: Path, runs: int) -> MachineCheck:
    """Say how mcl writes into a sound store: straight to its tables, or through MLflow's client."""
    if clauses := sqlite_writer.objections(database):
        how = "slower, nothing else"
        return MachineCheck(
            "run store",
            "note",
            f"{database}: written through MLflow's client, since {'; '.join(clauses)}",
            how,
        )
    description = (
        f"{database}, {schema.origin(sqlite_writer.revision(database))}, {many(runs, 'run')}"
    )
    if sqlite_writer.revision(database) in schema.TESTED:
        return MachineCheck("run store", "ok", description)
    return MachineCheck(
        "run store",
        "note",
        f"{description}; the tables that mcl writes are the same",
        "nothing has to be done",
    )


def _old_store(root: Path) -> list[MachineCheck]:
    """MLflow's former format: a folder per experiment. It is moved away first, since MLflow takes a
    folder that holds it for the store.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    place = (
        Path(urlsplit(uri).path)
        if uri and urlsplit(uri).scheme in ("", "file")
        else root / "mlruns"
    )
    old = [p.parent for p in sorted(place.glob("*/meta.yaml")) if p.parent.name.isdigit()]
    if not old:
        return []
    aside, target = root / "mlruns-before", root / "mlruns" / "mlflow.db"
    belongs = [p for p in (*old, place / "models", place / ".trash") if p.exists()]
    steps = (
        ["mkdir", str(aside)],
        ["mv", *map(str, belongs), f"{aside}/"],
        ["mlflow", "migrate-filestore", "--source", str(aside), "--target", f"sqlite:///{target}"],
    )
    description = f"{many(len(old), 'experiment')} in MLflow's former file format"
    return [
        MachineCheck("old file store", "fail", description, " && ".join(map(shlex.join, steps)))
    ]


def _restoring(root: Path) -> list[MachineCheck]:
    if not (root / PLAN).is_file():
        return []
    return [
        MachineCheck(
            "restore",
            "fail",
            "one was cut off after everything had been verified",
            "mcl store restore, without a file, finishes it",
        )
    ]


def _secrets(root: Path) -> list[MachineCheck]:
    """Files with secrets that other users of the machine can read."""
    named = [
        Path(value)
        for name, value in os.environ.items()
        if name.endswith("_FILE") and NAMES.search(name)
    ]
    places = [p for p in (root / ".env", *named) if p.is_file()]
    open_to_all = [
        p for p in places if p.stat().st_mode & 0o004 and p.parent.stat().st_mode & 0o001
    ]
    if open_to_all:
        return [
            MachineCheck(
                "secrets",
                "fail",
                f"others can read {', '.join(map(str, open_to_all))}",
                f"chmod 600 {open_to_all[0]}",
            )
        ]
    return [
        MachineCheck(
            "secrets",
            "ok",
            f"{many(len(places), 'file')}, readable by the owner" if places else "none in files",
        )
    ]


def _zones(root: Path) -> list[MachineCheck]:
    del root
    try:
        ZoneInfo("America/New_York")
    except ZoneInfoNotFoundError:
        return [
            MachineCheck(
                "time zones", "fail", "America/New_York is unknown", "install the tzdata package"
            )
        ]
    local = time.tzname[0]
    if local != "UTC":
        return [
            MachineCheck(
                "time zones",
                "note",
                f"the machine is on {local}",
                "TZ=UTC for a process that trades: logs and naive broker times agree",
            )
        ]
    return [MachineCheck("time zones", "ok", "UTC, New York is known")]


def _clock(root: Path) -> list[MachineCheck]:
    """A clock that is behind its own files is wrong; how far it is off only a server can tell (a
    live session asks its broker).
    """
    newest = max(
        (p.lstat().st_mtime for p in (*root.glob("*"), *(root / "mlruns").glob("*"))), default=0.0
    )
    ahead = newest - time.time()
    if ahead > 60:
        return [
            MachineCheck(
                "clock",
                "fail",
                f"files are {ahead:.0f} s in the future",
                "set the clock, for instance with chrony or timedatectl",
            )
        ]
    return [MachineCheck("clock", "ok", "not behind the project's files")]


def _databento(root: Path) -> list[MachineCheck]:
    del root
    key = secret("DATABENTO_API_KEY")
    if not key:
        return [
            MachineCheck(
                "databento key",
                "note",
                "not set: embedded synthetic data are used",
                "export DATABENTO_API_KEY, see .env.example",
            )
        ]
    if not re.fullmatch(r"db-[A-Za-z0-9]{29}", key):
        return [
            MachineCheck(
                "databento key",
                "fail",
                f"{len(key)} characters, not db- and 29 more",
                "copy it again from the vendor's portal",
            )
        ]
    return [_vendor_key(key)]


def _vendor_key(key: str, gateway: str | None = None, ca: Path | None = None) -> MachineCheck:
    """Whether the vendor knows the key: its answer to what it has is free of charge."""
    from mcl.data.download.client import connected

    short_key = f"db-…{key[-5:]}"
    parts = urlsplit(gateway or VENDOR)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=3).close()
    except OSError:
        return MachineCheck(
            "databento key",
            "note",
            f"{short_key}; {parts.hostname} cannot be reached to ask",
            "stored data need no network",
        )
    try:
        with connected(key, gateway, ca) as vendor:
            spans = vendor.spans()
    except MclError as error:
        return MachineCheck(
            "databento key",
            "fail",
            f"{short_key}: {error.message}",
            error.hint or "copy it again from the vendor's portal",
        )
    return MachineCheck(
        "databento key",
        "ok",
        f"{short_key} is valid; data until {spans[''][1][:10]}, asked at no cost",
    )


def _broker(root: Path) -> list[MachineCheck]:
    del root
    listening = [f"{PORTS[port]} on {port}" for port in PORTS if _listens(port)]
    if listening:
        return [MachineCheck("broker", "ok", ", ".join(listening))]
    return [
        MachineCheck(
            "broker",
            "note",
            "no TWS or IB Gateway listens here",
            "only broker=ib_paper needs one; enable its API on port 7497",
        )
    ]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
