"""mcl: a configuration-as-code experiment harness for Micro WTI Crude Oil futures.

The package is a library, too. `import mcl` loads nothing else: each name below comes from
`mcl.library` when it is first asked for. The project is the folder that `MCL_HOME` names, or the
one that Python works in.

| name | what it does |
|---|---|
| `mcl.compose(overrides)` | the validated configuration of a command line |
| `mcl.load_bars(overrides)` | the bars that a configuration may see |
| `mcl.backtest(overrides)` | simulate one configuration and record it |
| `mcl.grid(overrides)` | run every combination of typed values |
| `mcl.sweep(overrides)` | search a space with Optuna |
| `mcl.runs(study)` | the stored runs |
| `mcl.promote(run)` | judge a run, and freeze it as the version that a name trades |
| `mcl.MclError` | every refusal, as one sentence |

For annotations: `mcl.Backtest`, `mcl.SweepResult`, `mcl.WalkForwardResult`, `mcl.Promoted` and
`mcl.Composed` are what the functions return. `mcl.GatesMissed` is the refusal of `mcl.promote`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcl.library.research import (
        Backtest,
        Composed,
        GatesMissed,
        MclError,
        Promoted,
        SweepResult,
        WalkForwardResult,
        backtest,
        compose,
        grid,
        load_bars,
        promote,
        runs,
        sweep,
    )

__version__ = "0.2.0"
DISTRIBUTION = "mcl-harness"  # what pip knows it by; `mcl` on the public index is another project
__all__ = [
    "Backtest",
    "Composed",
    "GatesMissed",
    "MclError",
    "Promoted",
    "SweepResult",
    "WalkForwardResult",
    "backtest",
    "compose",
    "grid",
    "load_bars",
    "promote",
    "runs",
    "sweep",
]


def __getattr__(name: str) -> Any:
    """Import a name of the library when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'mcl' has no attribute {name!r}")
    from mcl.library import research

    return getattr(research, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
