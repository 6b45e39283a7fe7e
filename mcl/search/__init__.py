"""Many runs from one command line: Optuna searches and grids in Hydra's grammar, each a parent run
with one child run per trial.

Optuna and the engine are imported when a search starts, not when this package is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcl.composition import Composed
    from mcl.search.result import SweepResult
    from mcl.search.walk_forward import WalkForwardResult
    from mcl.tracking.project import Project


def sweep(
    composed: Composed, *, project: Project, progress: bool = False
) -> SweepResult | WalkForwardResult:
    """Search the space of `composed` (from `composition.compose("sweep", …)`); see `runner.sweep`,
    and `walk_forward.sweep` for search.walk_forward.
    """
    from mcl.search import runner, walk_forward
    from mcl.search.progress import NoProgress, progress_display

    display = progress_display() if progress else NoProgress()
    if composed.search.walk_forward:
        return walk_forward.sweep(composed, project=project, progress=display)
    return runner.sweep(composed, project=project, progress=display)


def resume(
    named: str,
    *,
    project: Project,
    trials: int | None = None,
    amendments: list[str] | None = None,
    progress: bool = False,
) -> SweepResult | WalkForwardResult:
    """Continue a sweep to its target, or to `trials`. See `runner.resume` and
    `walk_forward.resume`.
    """
    from mcl.search import runner, walk_forward
    from mcl.search.progress import NoProgress, progress_display

    display = progress_display() if progress else NoProgress()
    if runner.search_of(named, project.store).metadata().get("kind") == walk_forward.KIND:
        return walk_forward.resume(
            named,
            project=project,
            trials=trials,
            amendments=amendments or [],
            progress=display,
        )
    return runner.resume(
        named, project=project, trials=trials, amendments=amendments, progress=display
    )


def grid(overrides: list[str], *, project: Project, progress: bool = False) -> SweepResult:
    """Run every job that `overrides` expand to in Hydra's multirun grammar; see `multirun.grid`."""
    from mcl.search import multirun
    from mcl.search.progress import NoProgress, progress_display

    return multirun.grid(
        overrides, project=project, progress=progress_display() if progress else NoProgress()
    )
