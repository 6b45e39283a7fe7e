"""Names of values in the store, and the view in which MLflow opens a study.

A metric has the same flat name everywhere: in constraints, gates, tables, and in MLflow's search,
where `metrics.sharpe > 1` finds runs. Only a series of points has a group, `curve/equity_usd`.
Version 0.1 and 0.2 stored `result/sharpe`; such runs are read all the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

NOTE = "mlflow.note.content"  # the Markdown that MLflow shows as a run's description
# in an address of MLflow: its view of models, not that of language models
MODEL_VIEW = "workflowType=machine_learning"
RUN, EXPERIMENT = "%RUN%", "%EXPERIMENT%"  # in a note: stand for the ids that the store gives
PREFIXES = ("best", "leader", "validate")  # best_sharpe of a search is best/sharpe
GROUPS = ("result", "risk", "trades", "costs")  # of names that earlier versions stored
# what MLflow's "Share" stores with an experiment: the filter and the columns of its list of runs
VIEW = "mcl"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
COLUMNS = (
    *("metrics.`sharpe`", "metrics.`net_pnl_usd`", "metrics.`max_drawdown_frac`"),
    *("metrics.`trades`", "metrics.`dsr_at_run`", "metrics.`best_sharpe`"),
    *("tags.`mcl.kind`", "tags.`sessions`"),
)
# else MLflow shows its pages for language models
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    VIEW_TAG: json.dumps(
        {"searchFilter": "tags.`mcl.kind` != 'trial'", "selectedColumns": COLUMNS}
    ),
}


@dataclass(frozen=True)
class RunDataset:
    """The data of a run, as MLflow shows it. `digest` has at most 36 characters; source, schema and
    profile are JSON.
    """

    name: str
    digest: str
    source_type: str
    source: str
    schema: str = "{}"
    profile: str = "{}"


def flat_name(stored: str) -> str:
    """The name of a metric that an earlier version stored in a group."""
    head, _, rest = stored.partition("/")
    if not rest:
        return stored
    if head in GROUPS:
        return rest
    return f"{head}_{rest}" if head in PREFIXES else stored


def linked(tags: dict[str, str], run_id: str, experiment_id: str) -> dict[str, str]:
    """The tags with the ids put into the note."""
    if NOTE not in tags:
        return tags
    return tags | {NOTE: tags[NOTE].replace(RUN, run_id).replace(EXPERIMENT, experiment_id)}


def linked_pages(files: dict[str, bytes], experiment_id: str) -> dict[str, bytes]:
    """The files with the experiment put into the addresses of the pages among them."""
    placeholder, number = EXPERIMENT.encode(), experiment_id.encode()
    return {
        path: content.replace(placeholder, number) if path.endswith(".html") else content
        for path, content in files.items()
    }
