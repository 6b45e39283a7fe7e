"""The whole line on a tracking server: MLflow on SQLite, and as docker/ starts it, with passwords
on a real PostgreSQL.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployments import HOLDOUT, OPEN_GATES, walk
from servers import deployed_mlflow, mlflow, postgresql, without_postgresql

from mcl.base.errors import StoreError
from mcl.cli.main import main
from mcl.tracking.store import Store

ROOT = Path(__file__).resolve().parents[2]
# MLflow keeps its connections open
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
PASSWORD = "correct-horse-battery"
BARS = (
    "data=csv",
    "data.path=bars.csv",
    "data.stamped_at=close",
    "data.timezone=UTC",
    f"data.holdout_start='{HOLDOUT}'",
    "strategy=ema_cross",
    "risk=fixed",
)


@pytest.fixture(scope="module", params=["plain", "deployed"])
def address(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server. The deployed one takes its password from the client's
    environment.
    """
    folder = tmp_path_factory.mktemp("server")
    if request.param == "plain":
        with mlflow(folder) as address:
            yield address
        return
    if missing := without_postgresql() or (
        "" if importlib.util.find_spec("flask_wtf") else "mlflow[auth] is not installed"
    ):
        pytest.skip(missing)
    with (
        postgresql("mlflow") as port,
        deployed_mlflow(folder, port, PASSWORD) as address,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        assert refused(address)
        yield address


@pytest.fixture
def project(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    shutil.copytree(ROOT / "conf", root / "conf", ignore=shutil.ignore_patterns("promoted"))
    (root / "conf/promotion/default.yaml").write_text(
        yaml.safe_dump(OPEN_GATES.model_dump(mode="json"))
    )
    walk(1).to_csv(root / "bars.csv", index=False)
    monkeypatch.setenv("MCL_HOME", str(root))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.chdir(root)
    return root


def ask(
    address: str, path: str, body: dict[str, Any] | None = None, password: str = PASSWORD
) -> bytes:
    """What the server answers to its own pages' requests."""
    keys = {
        "Authorization": f"Basic {base64.b64encode(f'admin:{password}'.encode()).decode()}",
        "Content-Type": "application/json",
    }
    request = urllib.request.Request(
        address + path, None if body is None else json.dumps(body).encode(), keys
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        content: bytes = reply.read()
        return content


def refused(address: str) -> bool:
    """Whether pages and API are closed without the right password."""
    codes = []
    for path in ("/", "/api/2.0/mlflow/experiments/search?max_results=5"):
        with pytest.raises(urllib.error.HTTPError) as error:
            ask(address, path, password="another")
        codes.append(error.value.code)
    return codes == [401, 401]


def verb(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["--json", *words]) == 0, capsys.readouterr()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_a_run_a_search_and_a_promotion_on_a_server(
    address: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = verb(capsys, "backtest", *BARS, "strategy.fast=10", "strategy.slow=30")
    report = ask(address, f"/get-artifact?path=report.html&run_uuid={run['run_id']}")
    fetched = Path(verb(capsys, "report", run["run_id"])["report"]).read_bytes()
    assert sha256(fetched).hexdigest() == sha256(report).hexdigest()
    sweep = verb(
        capsys, "sweep", *BARS, "strategy.fast=range(5,20,5)", "strategy.slow=range(30,90,30)",
        "search.sampler=grid", "search.trials=6", "search.min_trades=1", "search.name=served",
    )  # fmt: skip
    assert sweep["trials"] == {"COMPLETE": 6}
    promoted = verb(capsys, "promote", run["run_id"], "--to", "paper")
    assert promoted["version"] == 1
    assert not (project / "mlruns/mlflow.db").exists()

    assert main(["ui"]) == 1
    assert "has its own UI" in capsys.readouterr().err
    page = ask(address, "/")
    assert b"<title>MLflow</title>" in page
    found = json.loads(
        ask(
            address,
            "/ajax-api/2.0/mlflow/runs/search",
            {"experiment_ids": ["1"], "max_results": 50},
        )
    )["runs"]
    below = [
        r
        for r in found
        if any(
            t == {"key": "mlflow.parentRunId", "value": sweep["sweep_id"]}
            for t in r["data"]["tags"]
        )
    ]
    assert (
        len([r for r in below if {"key": "mcl.kind", "value": "trial"} in r["data"]["tags"]]) == 6
    )

    listed = verb(capsys, "runs")["runs"]
    assert {entry["run_id"] for entry in listed} >= {run["run_id"], sweep["sweep_id"]}
    drawn_again = Path(verb(capsys, "report", run["run_id"])["report"])
    # the search has been counted since
    assert drawn_again.is_relative_to(project / "mlruns/reports")
    assert verb(capsys, "rerun", run["run_id"])["equal"]
    assert [version["aliases"] for version in verb(capsys, "registry")["versions"]] == [["paper"]]


def test_what_a_server_holds_is_fetched_when_it_is_read_and_as_it_is_now(
    address: str, project: Path
) -> None:
    from mcl.tracking.store import Record

    store = Store(project)
    run_id = store.start(Record("s", "parent", files={"a.txt": b"old", "deep/b.txt": b"b"}))
    [listed] = store.in_study("s")
    assert not (store.folder / "served").exists()
    assert listed.file("a.txt") == b"old"
    store.finish(run_id, Record("s", "parent", files={"a.txt": b"new"}))
    (listed.artifacts / "of-another-time.txt").write_text("x")
    now = Store(project).run(run_id)
    assert now.file("a.txt") == b"new"
    assert now.artifacts == listed.artifacts
    assert sorted(path.name for path in now.artifacts.rglob("*") if path.is_file()) == [
        "a.txt",
        "b.txt",
    ]
    with pytest.raises(StoreError, match=r"has no artifact c\.txt"):
        now.file("c.txt")
