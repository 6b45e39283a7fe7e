"""Many runs from one command line: Optuna searches and grids in Hydra's grammar, each a parent run
with one child run per trial.

Optuna and the engine are imported when a search starts, not when this package is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcl.composition import Composed
    from mcl.search.result import Swept
    from mcl.search.walk_forward import Walk
    from mcl.tracking.store import Store


def sweep(composed: Composed, *, store: Store, root: Path, progress: bool = False) -> Swept | Walk:
    """Search the space of `composed` (from `config.compose("sweep", …)`); see `core.sweep`, and
    `walk.sweep` for search.walk_forward.
    """
    from mcl.search import runner, walk_forward
    from mcl.search.progress import Silent, on

    shown = on() if progress else Silent()
    if composed.search.walk_forward:
        return walk_forward.sweep(composed, store=store, root=root, progress=shown)
    return runner.sweep(composed, store=store, root=root, progress=shown)


def resume(
    named: str,
    *,
    store: Store,
    root: Path,
    trials: int | None = None,
    amendments: list[str] | None = None,
    progress: bool = False,
) -> Swept | Walk:
    """Go on with a sweep to its target, or to `trials`; see `core.resume` and `walk.resume`."""
    from mcl.search import runner, sweep_dir, walk_forward
    from mcl.search.progress import Silent, on

    shown = on() if progress else Silent()
    if sweep_dir.find(runner.folder(store), named).card().get("kind") == walk_forward.KIND:
        return walk_forward.resume(
            named,
            store=store,
            root=root,
            trials=trials,
            amendments=amendments or [],
            progress=shown,
        )
    return runner.resume(
        named, store=store, root=root, trials=trials, amendments=amendments, progress=shown
    )


def grid(overrides: list[str], *, store: Store, root: Path, progress: bool = False) -> Swept:
    """Run every job that `overrides` expand to in Hydra's multirun grammar; see `multirun.grid`."""
    from mcl.search import multirun
    from mcl.search.progress import Silent, on

    return multirun.grid(overrides, store=store, root=root, progress=on() if progress else Silent())
