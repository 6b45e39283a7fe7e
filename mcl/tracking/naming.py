"""Names of values in the store, chosen so that MLflow's own pages are readable.

MLflow draws the metrics of a run in groups by what stands before a slash. Everywhere else in mcl a
metric has its flat name (`sharpe`, in constraints, gates and tables); in the store it is
`result/sharpe`. Names that belong to no group stay flat, and runs that were written flat are read
all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from mcl.report.format import BY_NAME, INTERVALS

NOTE = "mlflow.note.content"  # the Markdown that MLflow shows as a run's description
RUN, EXPERIMENT = "%RUN%", "%EXPERIMENT%"  # in a note: stand for the ids that the store gives
PREFIXES = ("best", "leader", "validate")  # best_sharpe of a search is best/sharpe
BOUNDS = {bound: name for name, bounds in INTERVALS.items() for bound in bounds}


def _group(label: str) -> str:
    return label.split(maxsplit=1)[0].lower()


GROUPS = frozenset(_group(metric.group) for metric in BY_NAME.values())


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


@cache
def stored_name(name: str) -> str:
    """`sharpe` as the store knows it: `result/sharpe`."""
    if metric := BY_NAME.get(BOUNDS.get(name, name)):
        return f"{_group(metric.group)}/{name}"
    head, _, rest = name.partition("_")
    return f"{head}/{rest}" if head in PREFIXES and rest else name


def flat_name(stored: str) -> str:
    """The name that `filed` was given."""
    head, _, rest = stored.partition("/")
    if head in GROUPS:
        return rest
    return f"{head}_{rest}" if head in PREFIXES and rest else stored


def linked(tags: dict[str, str], run_id: str, experiment_id: str) -> dict[str, str]:
    """The tags with the ids put into the note."""
    if NOTE not in tags:
        return tags
    return tags | {NOTE: tags[NOTE].replace(RUN, run_id).replace(EXPERIMENT, experiment_id)}
