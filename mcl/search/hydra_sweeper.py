"""The Hydra plugin `hydra/sweeper=mcl`: Hydra's own multirun, with a parent run above the jobs.

Without a launcher on the command line the jobs run in this process, composed once per choice of
groups. `hydra/launcher=joblib` (or ray, submitit_local, submitit_slurm, basic: whatever is
installed) gives every job a process of that launcher's making.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext

from mcl import composition
from mcl.composition.axes import sweeper_params
from mcl.search.grid_job import Job, run_job
from mcl.search.trial import DataCache, Outcome
from mcl.tracking.store import Store

NAME = "mcl"


class Launched(NamedTuple):
    """The answer of a job's process: an outcome with its run id, or the exception that ended the
    job.
    """

    outcome: Outcome | None
    run_id: str
    error: BaseException | None = None


# overrides by job number, the parent's run id, the project
Launch = Callable[[Mapping[int, Sequence[str]], str, Path], list[Launched]]
Work = Callable[[list[str], Launch | None], Any]


class GridSweeper(Sweeper):
    """Hands the typed overrides to the task function, with a launcher where one was typed."""

    def __init__(self, params: Any = None, max_batch_size: int | None = None) -> None:
        del params  # read from the configuration, as they may hold what Hydra would resolve
        self._max_batch_size = max_batch_size  # jobs that a launcher is given at a time

    def setup(self, *, hydra_context: HydraContext, task_function: Any, config: Any) -> None:
        self._context, self._work, self._config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        arguments = [*sweeper_params(self._config, arguments), *arguments]
        typed = any(
            text.startswith("hydra/launcher=") for text in self._config.hydra.overrides.hydra
        )
        return self._work(arguments, self._launch if typed else None)

    def _launch(self, jobs: Mapping[int, Sequence[str]], parent: str, root: Path) -> list[Launched]:
        task = partial(_job, parent, root, tuple(jobs))
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self._context, task_function=task, config=self._config
        )
        waiting = [list(job) for job in jobs.values()]
        size = self._max_batch_size or len(waiting)
        batches = [
            launcher.launch(waiting[first : first + size], initial_job_idx=first)
            for first in range(0, len(waiting), size)
        ]
        return [_returned(job) for batch in batches for job in batch]


# Hydra takes plugins from this package only: see `_register`
GridSweeper.__module__ = f"hydra_plugins.{NAME}"


def multirun(overrides: list[str], work: Work, root: Path) -> Any:
    """Let Hydra expand `overrides` and give them to `work`, and return its answer. ConfigError as
    `composition.compose`.
    """
    _register()
    folder = root / "mlruns" / "multirun"
    own = [
        f"hydra/sweeper={NAME}",
        f"hydra.sweep.dir='{folder}/${{now:%Y-%m-%d}}/${{now:%H-%M-%S}}'",
    ]
    quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
    return composition.multirun([*own, *quiet, *overrides], work)


def _register() -> None:
    """Register this module as a plugin, next to those that are installed, without a folder
    hydra_plugins of our own.
    """
    # by now the package is imported if anybody has installed one
    Plugins.instance().register(GridSweeper)
    package = sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))
    setattr(package, NAME, sys.modules[__name__])
    node = {
        "_target_": f"{GridSweeper.__module__}.{GridSweeper.__name__}",
        "params": None,
        "max_batch_size": None,
    }
    ConfigStore.instance().store(group="hydra/sweeper", name=NAME, node=node, provider=NAME)


def _job(parent: str, root: Path, numbers: Sequence[int], composed: Any) -> tuple[Outcome, str]:
    """Run one job in the process that its launcher has chosen."""
    hydra_config = HydraConfig.get()
    job = Job(
        numbers[int(hydra_config.job.num)],
        tuple(hydra_config.overrides.task),
        {},
        composition.run_config(composition.plain(composed)),
    )
    return run_job(job, Store(root), parent, DataCache(root))


def _returned(job: JobReturn) -> Launched:
    if job.status is JobStatus.COMPLETED:
        return Launched(*job.return_value)
    return Launched(None, "", job._return_value)
