"""Addresses of MLflow's own pages, for the pages of mcl that lead there."""

from __future__ import annotations

import os
from urllib.parse import quote, urlsplit

from mcl.report.theme import Link

PORT = 5000  # of `mcl ui`
UP = "opens while mcl ui runs"


def server() -> str:
    """Return the address of MLflow's pages: the server that MLFLOW_TRACKING_URI names, without its
    password, else the port of `mcl ui`.
    """
    parts = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if parts.scheme not in ("http", "https"):
        return f"http://127.0.0.1:{PORT}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def run_address(run_id: str) -> str:
    return f"{server()}/#/runs/{quote(run_id)}"


def run(run_id: str, text: str = "Run in MLflow") -> Link:
    return Link(text, run_address(run_id), UP)


def version(model: str, number: int, text: str = "Version in the registry") -> Link:
    return Link(text, f"{server()}/#/models/{quote(model, safe='')}/versions/{number}", UP)
