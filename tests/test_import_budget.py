"""The import budget: each verb may import these large packages and no other.

Most of what a person waits for is imports. A package that a verb does not need costs everybody its
time, and nothing but a test notices it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from journals import written

from mcl.cli.main import main

CONF = Path(__file__).resolve().parents[1] / "conf"
GATES = yaml.safe_load((CONF / "promotion" / "default.yaml").read_text()).keys() - {"live"}

LARGE = frozenset(
    {"numpy", "pandas", "pyarrow", "numba", "llvmlite", "scipy.stats", "scipy.optimize", "pydantic"}
    | {"hydra", "omegaconf", "optuna", "cmaes", "mlflow", "sqlalchemy", "alembic", "fastapi"}
    | {"plotly", "plotly.graph_objects", "structlog", "ib_async", "databento", "apprise", "ray"}
    | {"pandas_market_calendars", "cryptography", "requests", "pygments"}
)
TABLES = frozenset({"numpy", "pandas", "pyarrow", "pydantic"})
ENGINE = TABLES | {"numba", "llvmlite", "hydra", "omegaconf"}
BUDGET = {
    "--help": frozenset[str](),
    "runs": TABLES,
    "registry": TABLES,
    "report last": TABLES,
    "trials": TABLES,
    "status": frozenset[str](),
    "why": frozenset[str](),
    "explain risk.size": ENGINE - {"pandas"},
    "backtest": ENGINE | {"plotly"},
    "backtest strategy=donchian risk=vol_target": ENGINE | {"plotly"},
    "sweep search.trials=2 search.name=budget": ENGINE | {"plotly", "optuna"},
    "select budget": TABLES,
    "sweep status budget": ENGINE - {"hydra", "omegaconf"} | {"optuna"},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two runs, a search, a promoted version and the journal of a session."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCL_HOME", str(folder))
        assert main(["init", str(folder)]) == 0
        assert main(["backtest"]) == 0
        assert main(["promote", "last", *(f"promotion.{name}=null" for name in GATES)]) == 0
        assert main(["sweep", "search.trials=2", "search.name=budget"]) == 0
        written(folder)
    return folder


@pytest.mark.parametrize("line", BUDGET)
def test_a_verb_imports_no_more_than_its_budget(project: Path, line: str) -> None:
    code = (
        "import sys; from mcl.cli.main import main; code = main(sys.argv[1:]); print();"
        " print(*sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *line.replace("budget", "again").split()]
        if line.startswith("sweep search")
        else [sys.executable, "-c", code, *line.split()],
        capture_output=True,
        text=True,
        check=True,
        env={"MCL_HOME": str(project), "HOME": str(project), "PATH": ""},
    )
    imported = LARGE & set(done.stdout.splitlines()[-1].split())
    assert imported - BUDGET[line] == set()
