"""Write and read what is tracked: runs, their artifacts, and the model registry.

The store is SQLite at <root>/mlruns/mlflow.db with artifacts next to it, or the server that
MLFLOW_TRACKING_URI names. A run is written as RUNNING and becomes FINISHED only after its last
artifact is in place, so that nothing half-written looks whole.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mcl.base.errors import StoreError, nearest
from mcl.base.files import below
from mcl.base.words import many
from mcl.tracking import filesystem, postgres, repository, sqlite_writer, urls
from mcl.tracking.client import BATCH, StoreConnection, cannot_write
from mcl.tracking.naming import (
    EXPERIMENT_TAGS,
    NOTE,
    RunDataset,
    flat_name,
    linked,
    linked_pages,
)
from mcl.tracking.reader import PARENT, RunFacts
from mcl.tracking.records import (
    CONFIG_FILE,
    CONFIG_TAG,
    Record,
    Status,
    StoredRun,
    StoredVersion,
    late_files,
    without_secrets,
)

__all__ = [
    "PARENT",
    "Record",
    "Status",
    "Store",
    "StoredRun",
    "StoredVersion",
    "content_sha256",
    "short",
]

ERROR = "mcl.error"  # the tag of a run that failed
# characters; MLflow cuts at 6000 without a word, a longer value is named by its hash here
MAX_PARAM = 500
LEAST_OF_ID = 4  # letters of a run id that may stand for it
MAX_TAG = 8000  # bytes; MLflow takes as many characters
AT_ONCE = 8  # runs that are written to a server side by side


class Store:
    """The run store of a project. Opening it is lazy: mlflow is imported at the first call that
    needs it.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.connection = StoreConnection(root)
        self.root, self.uri, self.folder = (
            self.connection.root,
            self.connection.uri,
            self.connection.folder,
        )
        self._ids: dict[str, str] = {}  # MLflow's experiment ids by study

    @property
    def exists(self) -> bool:
        """Whether there is anything to open: a local store is made by the first run."""
        return self.connection.exists

    # ----------------------------------------------------------------------------------------- runs

    def record(self, record: Record, late: Callable[[str], dict[str, bytes]] | None = None) -> str:
        """Write one finished run whole and return its id; a StoreError says why not, and nothing
        that looks whole remains.

        `late` makes the files that must name the run, given its id.
        """
        record, late = self._prepared([record])[0], late_files(late)
        experiment = self._local_experiment(record.study)
        if experiment is not None:
            return self._insert(experiment, [_row(record)], late)[0]
        run_id = self.start(record)
        if late is not None:
            self._fill(run_id, Record(record.study, record.name, files=self._late(run_id, late)))
        with self.connection.refusals(record.name):
            self._terminate(run_id, record.status)
        return run_id

    def record_many(self, records: list[Record]) -> list[str]:
        """Write finished runs of one study, in one transaction where the store allows it; their ids
        in order.

        On a server a run costs three requests, and none where `MCL_STORE_URL` names its database:
        only runs with files go there one by one, and a configuration is a tag where it fits.
        """
        records = self._prepared(records)
        studies = {record.study for record in records}
        experiment = self._local_experiment(next(iter(studies))) if len(studies) == 1 else None
        if experiment is not None:
            return self._insert(experiment, [_row(r) for r in records])
        served = not self.connection.uri.startswith("sqlite:///")
        records = [_without_config(r) for r in records] if served else records
        direct = self._insert_served(records) if served and len(studies) == 1 else {}
        for study in studies:
            self._experiment(study)  # once, and not by several threads
        with ThreadPoolExecutor(AT_ONCE if served else 1) as pool:
            others = pool.map(self.record, (r for i, r in enumerate(records) if i not in direct))
            return [direct[i] if i in direct else next(others) for i in range(len(records))]

    def artifacts(self, run_id: str) -> Path:
        """The folder of a run's artifacts, without opening MLflow where the store is local."""
        uri = (
            sqlite_writer.artifact_uri(self.connection.database, run_id)
            if self.connection.takes_bulk
            else None
        )
        return self.connection.local(uri) if uri else self.run(run_id).artifacts

    def experiment_of(self, run_id: str) -> str:
        """MLflow's number of the study that a run is in; empty where the store has no such run."""
        with self.connection.refusals(run_id):
            facts = self.connection.reader.run(run_id)
        return facts.experiment_id if facts else ""

    def start(self, record: Record) -> str:
        """Write a run that stays RUNNING: the parent of a sweep, a live session."""
        record = self._prepared([record])[0]
        local = self._local_experiment(record.study)
        if local is not None:
            row = replace(_row(record), status=sqlite_writer.RUNNING)
            return self._insert(local, [row])[0]
        with self.connection.refusals(record.name):
            tags = record.tags | ({PARENT: record.parent} if record.parent else {})
            experiment = self._experiment(record.study)
            began = round(1000 * (time.time() - record.seconds))
            run_id = str(
                self.connection.client.create_run(experiment, began, tags, record.name).info.run_id
            )
            if NOTE in tags:
                self.connection.client.set_tag(run_id, NOTE, linked(tags, run_id, experiment)[NOTE])
        self._fill(run_id, record)
        return run_id

    def finish(self, run_id: str, record: Record) -> None:
        """Add what `record` holds to a started run and set its final status."""
        record = without_secrets([record])[0]
        if self.connection.takes_bulk:
            self._complete(run_id, record)
            return
        self._fill(run_id, record)
        with self.connection.refusals(run_id):
            experiment = str(self.connection.client.get_run(run_id).info.experiment_id)
            for key, value in linked(record.tags, run_id, experiment).items():
                self.connection.client.set_tag(run_id, key, value)
            self._terminate(run_id, record.status)

    def reopen(self, run_id: str, name: str) -> None:
        """Mark a parent as RUNNING again: a search that continues, under its new name."""
        with self.connection.refusals(run_id):
            if self.connection.takes_bulk:
                sqlite_writer.reopen(self.connection.database, run_id, name)
                return
            self.connection.client.update_run(run_id, status=sqlite_writer.RUNNING, name=name)

    def trials(self, parent: str, kind: str = "trial") -> dict[int, str]:
        """Run ids of the finished trials below a search by trial number; kind "backtest" names
        those that were run again in full.
        """
        if self.connection.takes_bulk:
            with self.connection.refusals(parent):
                return sqlite_writer.trials(self.connection.database, parent, kind)
        finished = (r for r in self.connection.reader.children(parent) if r.status != "RUNNING")
        return {
            int(run.tags["trial"]): run.run_id
            for run in finished
            if run.tags.get("mcl.kind") == kind and "trial" in run.tags
        }

    def discard(self, run_ids: Iterable[str]) -> None:
        """Take runs out of every list; MLflow keeps them as deleted."""
        for run_id in run_ids:
            with self.connection.refusals(run_id):
                self.connection.client.delete_run(run_id)

    def views(self, base: str) -> list[tuple[str, str]]:
        """Each study of a local store with the address of its list of runs below `base`. Studies
        of earlier versions get the view first.
        """
        if not self.connection.takes_bulk:
            return []
        database = self.connection.database
        with self.connection.refusals(self.uri):
            sqlite_writer.tag_experiments(database, EXPERIMENT_TAGS)
            studies = sqlite_writer.studies_with_runs(database)
        return [(study, urls.study_address(number, base)) for study, number in studies]

    def analyze(self) -> None:
        """After many runs were added: statistics that keep a local store's lists and sorts fast."""
        if self.connection.takes_bulk:
            with self.connection.refusals("ANALYZE"):
                sqlite_writer.analyze(self.connection.database)

    def run(self, run_id: str) -> StoredRun:
        """The run with this id, or with this unique beginning of an id; `last` is the newest
        finished backtest, `last~1` the one before.
        """
        with self.connection.refusals(run_id):
            facts = self.connection.reader.run(run_id)
            facts = facts or self.connection.reader.run(self._completed_id(run_id))
        if facts is None:
            raise StoreError(f"run {run_id} was deleted a moment ago", "mcl runs lists all runs")
        return self._stored(facts)

    def children(self, run_id: str) -> list[StoredRun]:
        with self.connection.refusals(run_id):
            return [self._stored(run) for run in self.connection.reader.children(run_id)]

    def in_study(self, study: str, *, tops: bool = False) -> list[StoredRun]:
        """Every run filed under this study, newest first; with `tops` only those that are nobody's
        child.
        """
        with self.connection.refusals(study):
            runs = self.connection.reader.in_study(study, tops=tops)
            return [self._stored(run) for run in runs]

    # ------------------------------------------------------------------------------------- registry

    def register(
        self, name: str, run_id: str, files: dict[str, bytes], tags: dict[str, str], note: str = ""
    ) -> int:
        """A new immutable version of the registered model `name` with these files; `content_sha256`
        over them goes into its tags, `note` (Markdown, with RUN and EXPERIMENT for the ids of the
        run) is its description.
        """
        from mlflow.exceptions import MlflowException

        client = self.connection.client
        content = content_sha256(files)
        with self.connection.refusals(name), filesystem.global_uri(self.uri):
            experiment = client.get_run(run_id).info.experiment_id
            model = client.create_logged_model(
                experiment, name=name, source_run_id=run_id, model_type="trading-config", tags=tags
            )
            self.connection.put(
                str(model.artifact_location),
                files,
                lambda folder: client.log_model_artifacts(model.model_id, folder),
            )
            client.finalize_logged_model(model.model_id, "READY")
            try:
                client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            source = f"models:/{model.model_id}"
            tags = tags | {"content_sha256": content}
            description = linked({NOTE: note}, run_id, str(experiment))[NOTE]
            version = client.create_model_version(
                name,
                source,
                run_id=run_id,
                model_id=model.model_id,
                tags=tags,
                description=description,
            )
        return int(version.version)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        with self.connection.refusals(name):
            self.connection.client.set_registered_model_alias(name, alias, str(version))

    def annotate(self, name: str, key: str, value: str) -> None:
        """A tag of the registered model itself, for what is true beyond one version."""
        with self.connection.refusals(name):
            self.connection.client.set_registered_model_tag(name, key, value)

    def annotations(self, name: str) -> dict[str, str]:
        """All tags of a registered model; none when there is no such model."""
        with self.connection.refusals(name):
            return self.connection.reader.annotations(name)

    def version(self, name: str, alias_or_number: str) -> StoredVersion:
        """The version that an alias or a number names; StoreError with the nearest alias when there
        is none.
        """
        versions = self.versions(name)
        for version in versions:
            if alias_or_number == str(version.version) or alias_or_number in version.aliases:
                return version
        names = [a for v in versions for a in v.aliases]
        raise StoreError(
            f"the registry has no {alias_or_number!r} of model {name!r}:"
            f" {nearest(alias_or_number, names)}",
            "promote a run first: mcl promote RUN_ID --to paper",
        )

    def versions(self, name: str) -> list[StoredVersion]:
        """All versions of a registered model, newest first."""
        with self.connection.refusals(name):
            versions = self.connection.reader.versions(name)
        stored = [
            StoredVersion(
                facts.name,
                facts.version,
                facts.aliases,
                facts.tags,
                facts.run_id,
                partial(self.connection.local, facts.artifact_uri),
            )
            for facts in versions
        ]
        return sorted(stored, key=lambda v: -v.version)

    # ------------------------------------------------------------------------------------ internals

    def _prepared(self, records: list[Record]) -> list[Record]:
        """The records without secrets, and with who made them of what."""
        origin = repository.origin(self.root)
        return [replace(r, tags=origin | r.tags) for r in without_secrets(records)]

    def _local_experiment(self, study: str) -> sqlite_writer.Experiment | None:
        """Return the local experiment of a study, which `sqlite_writer` writes into; None sends its
        runs through the client.
        """
        if not self.connection.takes_bulk:
            return None
        with self.connection.refusals(study):
            location = sqlite_writer.experiment(self.connection.database, study)
            if location is None:
                self._experiment(study)
                location = sqlite_writer.experiment(self.connection.database, study)
        return (
            sqlite_writer.Experiment(*location, self.connection.local(location[1]))
            if location
            else None
        )

    def _insert(
        self,
        experiment: sqlite_writer.Experiment,
        rows: list[sqlite_writer.RunRow],
        late: Callable[[str], dict[str, bytes]] | None = None,
    ) -> list[str]:
        if late is not None:
            rows = [replace(row, files=row.files | late(row.run_id)) for row in rows]
        number = str(experiment.experiment_id)
        rows = [replace(row, files=linked_pages(row.files, number)) for row in rows]
        with self.connection.refusals(rows[0].name if len(rows) == 1 else f"{len(rows)} runs"):
            return sqlite_writer.insert(self.connection.database, experiment, rows)

    def _insert_served(self, records: list[Record]) -> dict[int, str]:
        """Write the runs without files into the database of the server, where that is allowed: run
        ids by place in `records`.

        StoreError where the database is that of another server.
        """
        database = self.connection.server_database
        bare = {i: _row(record) for i, record in enumerate(records) if not record.files}
        if database is None or not bare:
            return {}
        study = records[0].study
        experiment_id = self._experiment(study)
        with self.connection.refusals(study):
            experiment = self.connection.client.get_experiment(experiment_id)
        database_experiment = database.experiment(study)
        if database_experiment != (
            int(experiment.experiment_id),
            str(experiment.artifact_location),
            int(experiment.creation_time or 0),
        ):
            raise StoreError(
                f"the database of {postgres.ADDRESS} is not that of the server {self.uri}: they do"
                f" not hold the same study {study!r}",
                f"name the database of that server, or unset {postgres.ADDRESS}",
            )
        return dict(
            zip(
                bare,
                database.insert(
                    database_experiment[0], database_experiment[1], list(bare.values())
                ),
                strict=True,
            )
        )

    def _experiment(self, study: str) -> str:
        if study not in self._ids:
            client = self.connection.client
            experiment = client.get_experiment_by_name(study)
            location = (
                below(self.folder / "artifacts", study).as_uri()
                if self.uri.startswith("sqlite:///")
                else None
            )
            self._ids[study] = str(
                experiment.experiment_id
                if experiment
                else client.create_experiment(
                    study, artifact_location=location, tags=EXPERIMENT_TAGS
                )
            )
        return self._ids[study]

    def _fill(self, run_id: str, record: Record) -> None:
        from mlflow.entities import Metric, Param

        client = self.connection.client
        try:
            with self.connection.refusals(record.name):
                params = [Param(k, short(v)) for k, v in record.params.items()]
                metrics = [
                    Metric(k, float(v), 0, 0)
                    for k, v in record.metrics.items()
                    if not math.isinf(v)
                ]
                steps = [
                    Metric(k, v, 0, step)
                    for k, points in record.series.items()
                    for step, v in points
                ]
                numbers = metrics + steps
                for i in range(max(-(-len(params) // 100), -(-len(numbers) // BATCH))):
                    client.log_batch(
                        run_id,
                        numbers[i * BATCH : (i + 1) * BATCH],
                        params[i * 100 : (i + 1) * 100],
                    )
                if record.dataset is not None:
                    client.log_inputs(run_id, datasets=[_input(record.dataset)])
                if record.files:
                    info = client.get_run(run_id).info
                    self.connection.put(
                        str(info.artifact_uri),
                        linked_pages(record.files, str(info.experiment_id)),
                        lambda folder: client.log_artifacts(run_id, folder),
                    )
        except (StoreError, OSError) as error:
            self._abandon(run_id, str(error))
            raise (
                error if isinstance(error, StoreError) else cannot_write(record.name, error)
            ) from None

    def _complete(self, run_id: str, record: Record) -> None:
        """Files first: a run whose status is final has them all."""
        database = self.connection.database
        try:
            with self.connection.refusals(record.name):
                number = sqlite_writer.experiment_of(database, run_id)
                files = linked_pages(record.files, number)
                sqlite_writer.write_all(self.artifacts(run_id), files)
                sqlite_writer.complete(database, run_id, _row(record))
        except StoreError as error:
            with suppress(StoreError), self.connection.refusals(run_id):
                sqlite_writer.fail(database, run_id, ERROR, str(error)[:1000])
            raise

    def _late(self, run_id: str, make: Callable[[str], dict[str, bytes]]) -> dict[str, bytes]:
        try:
            return make(run_id)
        except BaseException as error:
            self._abandon(run_id, repr(error))
            raise

    def _abandon(self, run_id: str, why: str) -> None:
        """Best effort, since the disk may be full: a run that cannot be marked FAILED stays
        RUNNING, which does not look whole either.
        """
        with self.connection.refusals(run_id):
            self.connection.client.set_tag(run_id, ERROR, why[:1000])
            self._terminate(run_id, "FAILED")

    def _terminate(self, run_id: str, status: str) -> None:
        self.connection.client.set_terminated(run_id, status)

    def _completed_id(self, beginning: str) -> str:
        """The one id that begins so, or the newest search of that name; `last` is the newest
        finished backtest, `last~1` the one before.
        """
        if recent := re.fullmatch(r"last(?:~(\d+))?", beginning):
            return self._recent_id(beginning, int(recent[1] or 0))
        usable = re.fullmatch(r"[\w-]+", beginning)
        enough = usable and len(beginning) >= LEAST_OF_ID
        matches = self.connection.reader.beginning(beginning) if enough else []
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise StoreError(
                f"run id {beginning} begins {len(matches)} runs: {', '.join(sorted(matches)[:5])}",
                "type more of it",
            )
        if usable and (sweep_id := self.connection.reader.sweep(beginning)):
            return sweep_id
        raise StoreError(
            f"no run has the id {beginning!r}, and no search that name, in {self.uri}",
            "mcl runs lists them",
        )

    def _recent_id(self, word: str, back: int) -> str:
        runs = self.connection.reader.backtests(back + 1)
        if len(runs) <= back:
            raise StoreError(
                f"{word} needs {many(back + 1, 'finished backtest')} in {self.uri};"
                f" there are {len(runs)}",
                "mcl runs lists all runs",
            )
        return runs[back]

    def _stored(self, run: RunFacts) -> StoredRun:
        return StoredRun(
            run_id=run.run_id,
            study=run.study,
            experiment_id=run.experiment_id,
            name=run.tags.get("mlflow.runName", ""),
            status=run.status,
            params=run.params,
            metrics={flat_name(name): value for name, value in run.metrics.items()},
            tags=run.tags,
            parent=run.tags.get(PARENT),
            place=partial(self.connection.local, run.artifact_uri),
        )


def _row(record: Record) -> sqlite_writer.RunRow:
    return sqlite_writer.RunRow(
        name=record.name,
        status=record.status,
        tags=record.tags | ({PARENT: record.parent} if record.parent else {}),
        params={key: short(value) for key, value in record.params.items()},
        metrics={
            key: float(value) for key, value in record.metrics.items() if not math.isinf(value)
        },
        series=record.series,
        files=record.files,
        dataset=record.dataset,
        seconds=record.seconds,
    )


def _without_config(record: Record) -> Record:
    """The same with its configuration as a tag, where a tag can hold it: a file costs a request of
    its own.
    """
    content = record.files.get(CONFIG_FILE, b"")
    if not content or len(content) > MAX_TAG:
        return record
    others = {path: file for path, file in record.files.items() if path != CONFIG_FILE}
    return replace(record, files=others, tags=record.tags | {CONFIG_TAG: content.decode()})


def _input(dataset: RunDataset) -> Any:
    from mlflow.entities import Dataset as MlflowDataset
    from mlflow.entities import DatasetInput, InputTag

    facts = (
        dataset.name,
        dataset.digest,
        dataset.source_type,
        dataset.source,
        dataset.schema,
        dataset.profile,
    )
    return DatasetInput(MlflowDataset(*facts), [InputTag(sqlite_writer.CONTEXT, "backtest")])


def short(value: Any) -> str:
    """A param value as text; what is too long is named by its hash and stands whole in
    config.yaml.
    """
    text = str(value)
    if len(text) <= MAX_PARAM:
        return text
    return (
        f"sha256:{hashlib.sha256(text.encode()).hexdigest()} ({len(text)} characters, see"
        " config.yaml)"
    )


def content_sha256(files: dict[str, bytes]) -> str:
    """sha256 over the sorted (path, sha256 of content) lines of a bundle."""
    lines = (f"{path} {hashlib.sha256(files[path]).hexdigest()}\n" for path in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
