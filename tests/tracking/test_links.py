"""Ways from the pages of mcl to MLflow's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcl.tracking import urls
from mcl.tracking.naming import VIEW
from mcl.tracking.store import Record, Store


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        (None, "http://127.0.0.1:5000"),
        ("sqlite:////somewhere/mlflow.db", "http://127.0.0.1:5000"),
        ("https://mlflow.example.com/team/", "https://mlflow.example.com/team"),
        ("https://someone:secret@mlflow.example.com:8443", "https://mlflow.example.com:8443"),
    ],
)
def test_they_lead_to_the_server_of_the_store_and_tell_no_password(
    uri: str | None, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if uri is None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    menu = "workflowType=machine_learning"
    assert urls.run("abc", "Run", "3").href == f"{server}/#/experiments/3/runs/abc?{menu}"
    assert urls.run("abc", "Run", "").href == f"{server}/#/runs/abc"
    study = urls.study_address(3)
    assert study.startswith(f"{server}/#/experiments/3/runs?")
    assert f"viewStateShareKey={VIEW}" in study
    assert urls.version("my model", 3).href == f"{server}/#/models/my%20model/versions/3"


@pytest.mark.parametrize("begun_before", [False, True])
def test_the_page_of_a_run_leads_to_the_run_in_its_study(
    begun_before: bool, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    store.record(Record("another", "first"))

    def make(run_id: str) -> dict[str, bytes]:
        return {"report.html": urls.run(run_id).html().encode()}

    if begun_before:
        run_id = store.start(Record("mine", "run"))
        store.finish(run_id, Record("mine", "run", files=make(run_id)))
    else:
        run_id = store.record(Record("mine", "run"), make)
    stored = store.run(run_id)
    place = f"/#/experiments/{stored.experiment_id}/runs/{run_id}?workflowType=machine_learning"
    assert place in stored.file("report.html").decode()
    assert store.experiment_of(run_id) == stored.experiment_id
    assert store.experiment_of("0" * 32) == ""
    client = store.connection.client
    assert client.get_run(run_id).info.experiment_id == stored.experiment_id
