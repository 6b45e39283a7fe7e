"""Read a run store: runs, the children of a run, the versions of a registered model.

`ClientReader` asks MLflow's client, which any store has. `sqlite_reader` reads the tables of a
local one, without the seconds that importing MLflow takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mcl.base.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT = "mlflow.parentRunId"
PAGE = 1000  # runs that a server sends at a time


class RunFacts(NamedTuple):
    """A run as the store holds it. `metrics` has the last value of each, by its stored name."""

    run_id: str
    study: str
    experiment_id: str
    status: str
    artifact_uri: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


class VersionFacts(NamedTuple):
    """A version of a registered model, and where its files are."""

    name: str
    version: int
    aliases: tuple[str, ...]  # in order
    tags: dict[str, str]
    run_id: str
    artifact_uri: str


class Reader(Protocol):
    """Reads a run store. Runs that were deleted are left out of every list."""

    def studies(self) -> list[str]:
        """The names of all studies that runs are filed under."""

    def run(self, run_id: str) -> RunFacts | None:
        """The run with this whole id."""

    def children(self, run_id: str) -> Iterator[RunFacts]:
        """The runs below a run, newest first."""

    def in_study(self, study: str, *, tops: bool) -> Iterator[RunFacts]:
        """The runs of a study, newest first; with `tops` those that are nobody's child."""

    def beginning(self, letters: str) -> list[str]:
        """The ids that begin with `letters`."""

    def sweep(self, name: str) -> str | None:
        """The id of the newest search of this name."""

    def backtests(self, count: int) -> list[str]:
        """The ids of the finished backtests that ended last, the last one first."""

    def versions(self, model: str) -> list[VersionFacts]:
        """Every version of a registered model, in no order."""

    def annotations(self, model: str) -> dict[str, str]:
        """The tags of a registered model; none when there is no such model."""


class ClientReader:
    """Reads by MLflow's client. MlflowException where it refuses."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._studies: dict[str, str] = {}  # names by MLflow's experiment id

    def studies(self) -> list[str]:
        return [str(experiment.name) for experiment in self._client.search_experiments()]

    def run(self, run_id: str) -> RunFacts | None:
        from mlflow.exceptions import MlflowException

        try:
            return self._facts(self._client.get_run(run_id))
        except MlflowException:
            return None

    def children(self, run_id: str) -> Iterator[RunFacts]:
        return map(self._facts, self._search(f"tags.`{PARENT}` = '{run_id}'"))

    def in_study(self, study: str, *, tops: bool) -> Iterator[RunFacts]:
        experiment = self._client.get_experiment_by_name(study)
        query = f"tags.`{PARENT}` IS NULL" if tops else ""
        ids = [experiment.experiment_id] if experiment else []
        return map(self._facts, self._search(query, ids))

    def beginning(self, letters: str) -> list[str]:
        matches = self._search(f"attributes.run_id LIKE '{letters}%'")
        return [str(run.info.run_id) for run in matches]

    def sweep(self, name: str) -> str | None:
        matches = self._search(f"tags.sweep = '{name}' AND tags.`mcl.kind` = 'sweep'")
        return next((str(run.info.run_id) for run in matches), None)

    def backtests(self, count: int) -> list[str]:
        query = "tags.`mcl.kind` = 'backtest' AND attributes.status = 'FINISHED'"
        order = ["attributes.end_time DESC"]
        runs = self._client.search_runs(
            self._experiments(), query, max_results=count, order_by=order
        )
        return [str(run.info.run_id) for run in runs]

    def versions(self, model: str) -> list[VersionFacts]:
        versions = self._client.search_model_versions(f"name = '{model}'")
        if not versions:
            return []
        aliases: dict[str, list[str]] = {}
        for alias, number in self._client.get_registered_model(model).aliases.items():
            aliases.setdefault(str(number), []).append(alias)
        return [self._version(v, sorted(aliases.get(str(v.version), []))) for v in versions]

    def annotations(self, model: str) -> dict[str, str]:
        from mlflow.exceptions import MlflowException

        try:
            return dict(self._client.get_registered_model(model).tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                reason = " ".join(str(error).split())[:300]
                raise StoreError(f"the run store refused {model}: {reason}") from None
            return {}

    def _version(self, version: Any, aliases: list[str]) -> VersionFacts:
        model = self._client.get_logged_model(str(version.source).removeprefix("models:/"))
        return VersionFacts(
            name=str(version.name),
            version=int(version.version),
            aliases=tuple(aliases),
            tags=dict(version.tags),
            run_id=str(version.run_id),
            artifact_uri=str(model.artifact_location),
        )

    def _experiments(self) -> list[str]:
        return [experiment.experiment_id for experiment in self._client.search_experiments()]

    def _search(self, query: str, experiments: list[str] | None = None) -> Iterator[Any]:
        ids = self._experiments() if experiments is None else experiments
        token: str | None = None
        while ids:
            page = self._client.search_runs(ids, query, max_results=PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _facts(self, run: Any) -> RunFacts:
        experiment_id = str(run.info.experiment_id)
        if experiment_id not in self._studies:
            self._studies[experiment_id] = str(self._client.get_experiment(experiment_id).name)
        return RunFacts(
            run_id=str(run.info.run_id),
            study=self._studies[experiment_id],
            experiment_id=experiment_id,
            status=str(run.info.status),
            artifact_uri=str(run.info.artifact_uri),
            params=dict(run.data.params),
            metrics=dict(run.data.metrics),
            tags=dict(run.data.tags),
        )
