"""The records that go into the run store, and the runs that come out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from mcl.base.errors import StoreError
from mcl.base.redact import blotted, blotter
from mcl.tracking.naming import RunDataset

# a trial on a server has its configuration as a tag
CONFIG_FILE, CONFIG_TAG = "config.json", "mcl.config"
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Record:
    """The content of one tracked run. `files` maps an artifact path to its bytes; `series` holds
    step metrics of a few hundred points.

    Metrics have their flat names here and in `StoredRun`; the store files them in groups
    (`mcl.tracking.naming`).
    """

    study: str
    name: str
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    series: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    parent: str | None = None
    status: Status = "FINISHED"
    dataset: RunDataset | None = None
    seconds: float = 0.0  # that it took until it was given to the store


@dataclass(frozen=True)
class StoredRun:
    run_id: str
    study: str
    experiment_id: str  # MLflow's number of the study
    name: str
    status: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    parent: str | None
    place: Callable[[], Path] = field(repr=False, compare=False)

    @cached_property
    def artifacts(self) -> Path:
        """The folder of its files. Those of a server are fetched when they are first asked for: a
        list of runs costs no download.
        """
        return self.place()

    @property
    def summary(self) -> dict[str, float]:
        """The metrics of the run without the last points of its step series (`curve/…`)."""
        return {name: value for name, value in self.metrics.items() if "/" not in name}

    def file(self, path: str) -> bytes:
        """The bytes of one artifact; StoreError names it when it is absent."""
        if path == CONFIG_FILE and CONFIG_TAG in self.tags:
            return self.tags[CONFIG_TAG].encode()
        target = self.artifacts / path
        if not target.is_file():
            raise StoreError(
                f"run {self.run_id} has no artifact {path}",
                "only a finished backtest has all artifacts",
            )
        return target.read_bytes()


def right_verb(run: StoredRun) -> str:
    """Say which verb takes a run of this kind."""
    short, parent = run.run_id[:12], (run.parent or "")[:12]
    kinds = {
        "sweep": (
            f"mcl sweep report {short} shows this search, mcl validate {short} judges its choice"
        ),
        "grid": f"mcl compare {short} compares the runs of this grid, mcl select {short} chooses",
        "trial": f"mcl report {short} shows this trial, mcl sweep report {parent} its search",
        "backtest": f"mcl report {short} shows this backtest",
        "walk_forward": f"mcl report {short} shows this walk-forward run",
        "validation": f"mcl report {parent} shows the run that this validation is of",
        "session": f"mcl live audit DATE {run.tags.get('mcl.alias', 'NAME')} audits this session",
    }
    return kinds.get(run.tags.get("mcl.kind", ""), "mcl runs lists the runs")


@dataclass(frozen=True)
class StoredVersion:
    """One immutable version of a registered model."""

    name: str
    version: int
    aliases: tuple[str, ...]
    tags: dict[str, str]
    run_id: str
    place: Callable[[], Path] = field(repr=False, compare=False)

    @cached_property
    def folder(self) -> Path:
        """The folder of its files; as `StoredRun.artifacts`."""
        return self.place()

    def files(self) -> dict[str, bytes]:
        """By path. What MLflow and Python leave in the folder when somebody loads the model there
        does not count.
        """
        paths = (
            (p.relative_to(self.folder).as_posix(), p)
            for p in sorted(self.folder.rglob("*"))
            if p.is_file()
        )
        return {
            name: p.read_bytes()
            for name, p in paths
            if "__pycache__" not in p.parts and name != "registered_model_meta"
        }


Late = Callable[[str], dict[str, bytes]]


def without_secrets(records: list[Record]) -> list[Record]:
    """Without the secrets that got into a parameter, a tag or a file: an override on a command
    line, an address with a password.
    """
    blot = cache(blotter())  # runs of one search share most of their values
    return [
        replace(
            record,
            params={
                key: blot(value) if isinstance(value, str) else value
                for key, value in record.params.items()
            },
            tags={key: blot(value) for key, value in record.tags.items()},
            files={path: blotted(path, content) for path, content in record.files.items()},
        )
        for record in records
    ]


def late_files(late: Late | None) -> Late | None:
    """The same for files that can only be made once the run has its id."""
    return late and (
        lambda run_id: {path: blotted(path, content) for path, content in late(run_id).items()}
    )
