"""The registry as people read it: every version with its numbers, its gates, what it has lived
through, and how two of them differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mcl import composition
from mcl.base.differences import Differences, differences, flatten
from mcl.base.errors import LiveError, StoreError
from mcl.base.instants import instant
from mcl.metrics.overfit import Luck
from mcl.metrics.performance import per_session
from mcl.promotion import aliases, manifest_differences
from mcl.promotion.expected_band import Band, expected
from mcl.promotion.live_record import LiveRecord, records
from mcl.promotion.promoted_file import FIRST_LINE, MODEL, PREVIOUS, path_of
from mcl.promotion.version_files import Files, session_pnl, verified
from mcl.tracking import repository, trial_ledger
from mcl.tracking.project import Project
from mcl.tracking.store import Store, StoredVersion


@dataclass(frozen=True)
class RegisteredVersion:
    """One version. `wrong` is empty when all its files are as registered; otherwise nothing was
    read from them.
    """

    stored: StoredVersion
    files: Files = field(repr=False)
    wrong: str
    record: LiveRecord

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(alias for alias in self.stored.aliases if alias != PREVIOUS)

    @property
    def stage(self) -> str:
        return self.stored.tags.get("stage", "paper")

    @property
    def metrics(self) -> dict[str, float]:
        metrics: dict[str, float] = self._read("metrics.json", {})
        return metrics

    @property
    def provenance(self) -> dict[str, Any]:
        facts: dict[str, Any] = self._read("provenance.json", {})
        return facts

    @property
    def gates(self) -> list[dict[str, Any]]:
        gates: list[dict[str, Any]] = self._read("gates.json", [])
        return gates

    def band(self) -> Band | None:
        if self.wrong:
            return None
        capital = float(self._read("config.json", {})["capital_usd"])
        return expected(session_pnl(self.files, capital), len(self.record.sessions))

    def luck(self, root: Path) -> Luck | None:
        """The deflation of its backtest by what the trial ledger holds now."""
        where = (
            None
            if self.wrong
            else trial_ledger.trial_pool(composition.flatten(self._read("config.json", {})))
        )
        if where is None:
            return None
        measured = self.metrics
        itself = {trial_ledger.stored_identity(self.provenance): per_session(measured["sharpe"])}
        return trial_ledger.tally(root, where, itself).luck(measured)

    def _read(self, name: str, absent: Any) -> Any:
        return json.loads(self.files[name]) if name in self.files else absent


def versions(store: Store) -> list[RegisteredVersion]:
    """Every version, newest first."""
    live_records = records(store)
    return [_registered(version, live_records) for version in store.versions(MODEL)]


def registered(name_or_number: str, store: Store) -> RegisteredVersion:
    """The version that a name or a number stands for; StoreError with the nearest name when there
    is none.
    """
    return _registered(store.version(MODEL, name_or_number), records(store))


def _registered(
    version: StoredVersion, live_records: Mapping[str, LiveRecord]
) -> RegisteredVersion:
    record = live_records.get(version.tags.get("content_sha256", ""), LiveRecord())
    try:
        return RegisteredVersion(version, verified(version), "", record)
    except LiveError as error:
        return RegisteredVersion(version, {}, error.message, record)


# -------------------------------------------------------------------------------------- differences


@dataclass(frozen=True)
class Difference:
    """Two versions side by side: each mapping holds what differs as [first, second]."""

    config: Differences
    gates: Differences
    metrics: Differences
    packages: Differences
    code: Differences  # digests by file
    data: Differences  # empty when both were made on the same bars
    data_sentence: str = ""


def compared(first: RegisteredVersion, second: RegisteredVersion) -> Difference:
    """LiveError when one of them is not as registered: nothing is told from such files."""
    for side in (first, second):
        if side.wrong:
            raise LiveError(side.wrong, "promote the run again")
    pair = (first, second)
    config, code, packages, data = (
        [json.loads(side.files[name]) for side in pair]
        for name in ("config.json", "code.json", "versions.json", "manifest.json")
    )
    gates = ({gate["name"]: gate["value"] for gate in side.gates} for side in pair)
    one_market = data[0]["fingerprint"] == data[1]["fingerprint"]
    return Difference(
        config=differences(*map(flatten, config)),
        gates=differences(*gates),
        metrics=differences(first.metrics, second.metrics),
        packages=differences(*packages),
        code=dict(sorted(differences(*code).items())),
        data={} if one_market else manifest_differences.data_differences(*data),
        data_sentence="" if one_market else manifest_differences.data_moved(*data),
    )


# ------------------------------------------------------------------------------------------ history


@dataclass(frozen=True)
class Event:
    """One line of the history of a name: a move in the registry, or a commit of its file."""

    at: str  # ISO
    where: str  # registry, git
    name: str
    what: str
    version: int | None
    by: str
    why: str


def history(project: Project, name: str | None = None) -> list[Event]:
    """The moves of the registry and the commits of the files, side by side, oldest first; git knows
    whole seconds only, so a commit comes after the moves of its second that made the version it
    holds.
    """
    dated: list[tuple[datetime, float, Event]] = []
    changes = aliases.history(project.store, name)
    for place, m in enumerate(changes):
        dated.append(
            (
                instant(m.at),
                place,
                Event(m.at, "registry", m.name, m.action, m.version, m.by, m.why),
            )
        )
    files = (
        [path_of(name, project.root)]
        if name
        else sorted((project.root / "conf" / "promoted").glob("*.yaml"))
    )
    for path in files:
        for commit in repository.commits(project.root, path.relative_to(project.root)):
            head = FIRST_LINE.match(commit.first_line)
            version, at = int(head["version"]) if head else None, instant(commit.at)
            places = (
                i
                for i, m in enumerate(changes)
                if (m.name, m.version, instant(m.at)) == (path.stem, version, at)
            )
            event = Event(
                commit.at,
                "git",
                path.stem,
                f"commit {commit.short}",
                version,
                commit.by,
                commit.subject,
            )
            dated.append((at, max(places, default=-1) + 0.5, event))
    return [event for *_, event in sorted(dated, key=lambda entry: entry[:2])]


def standing(name: str, project: Project) -> str:
    """One sentence: whether registry, file and last commit of a name say the same version."""
    try:
        registry = project.store.version(MODEL, name).version
    except StoreError:
        return f"the registry knows no {name!r}"
    path = path_of(name, project.root)
    head = FIRST_LINE.match(path.read_text(errors="replace")) if path.is_file() else None
    commits = repository.commits(project.root, path.relative_to(project.root))
    committed = FIRST_LINE.match(commits[-1].first_line) if commits else None
    says = {"registry": registry, "file": int(head["version"]) if head else None}
    if commits:
        says["last commit"] = int(committed["version"]) if committed else None
    listed = ", ".join(
        f"{where} {'nothing' if number is None else f'version {number}'}"
        for where, number in says.items()
    )
    return f"{name}: {listed}" + ("" if len(set(says.values())) == 1 else " — they disagree")
