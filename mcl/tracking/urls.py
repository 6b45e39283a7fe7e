"""Addresses of MLflow's own pages, for the pages of mcl that lead there."""

from __future__ import annotations

import os
from urllib.parse import quote, urlsplit

from mcl.base import files
from mcl.report.theme import Link
from mcl.tracking.naming import EXPERIMENT, MODEL_VIEW, VIEW

PORT = 5000  # of `mcl ui`, where it does not say another one
PORT_FILE = "mlflow_port"  # in the cache: that of the `mcl ui` that runs
QUERY = f"{MODEL_VIEW}&viewStateShareKey={VIEW}"
UP = "opens while mcl ui runs"


def server() -> str:
    """Return the address of MLflow's pages: the server that MLFLOW_TRACKING_URI names, without its
    password, else the port of `mcl ui`.
    """
    parts = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if parts.scheme not in ("http", "https"):
        return f"http://127.0.0.1:{_served_port()}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def _served_port() -> int:
    path = files.cache_path(PORT_FILE)
    text = path.read_text() if path is not None and path.is_file() else ""
    return int(text) if text.isdecimal() else PORT


def study_address(experiment_id: int | str, base: str = "") -> str:
    """The list of the runs of a study, without the trials of searches, with the columns that help
    to choose.
    """
    return f"{base or server()}/#/experiments/{experiment_id}/runs?{QUERY}"


def run_address(run_id: str, experiment_id: str = EXPERIMENT) -> str:
    """The page of a run. The experiment is that of the page that has the address, which the store
    puts in, or the one that is given. Where it is not known (empty), MLflow finds the run.
    """
    if not experiment_id:
        return f"{server()}/#/runs/{quote(run_id)}"
    return f"{server()}/#/experiments/{experiment_id}/runs/{quote(run_id)}?{MODEL_VIEW}"


def run(run_id: str, text: str = "Run in MLflow", experiment_id: str = EXPERIMENT) -> Link:
    return Link(text, run_address(run_id, experiment_id), UP)


def version(model: str, number: int, text: str = "Version in the registry") -> Link:
    return Link(text, f"{server()}/#/models/{quote(model, safe='')}/versions/{number}", UP)
