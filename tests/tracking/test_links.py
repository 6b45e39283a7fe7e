"""Ways from the pages of mcl to MLflow's own."""

from __future__ import annotations

import pytest

from mcl.tracking import urls
from mcl.tracking.naming import VIEW


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
    assert urls.run("abc").href == f"{server}/#/runs/abc"
    study = urls.study_address(3)
    assert study.startswith(f"{server}/#/experiments/3/runs?")
    assert f"viewStateShareKey={VIEW}" in study
    assert urls.version("my model", 3).href == f"{server}/#/models/my%20model/versions/3"
