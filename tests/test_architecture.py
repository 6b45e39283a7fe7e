"""Imports only point down, and each heavy dependency has one door."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mcl"
ROWS = (  # highest first; a module may import from its own row and from rows below
    {"cli", "__main__"},
    {"verbs"},
    {"search", "promote", "explain", "live", "runs", "validate", "doctor", "check", "scaffold", "archive", "project", "rerun"},
    {"tracking", "report", "evidence", "screen", "pace", "trials"},
    {"metrics"},
    {"engine", "broker", "model"},
    {"strategy", "risk", "data", "config"},
    {
        *("schema", "strict", "venue", "calendar", "errors", "files", "jit", "market", "rules", "redact"),
        *("network", "steps", "sources", "accesses", "tables"),
    },
)
ROW = {name: i for i, row in enumerate(ROWS) for name in row}
DOORS = {  # package -> the only modules that may import it
    "hydra": {"mcl.config", "mcl.search.hydra_sweeper"},
    "omegaconf": {"mcl.config"},
    "optuna": {"mcl.search"},
    "ray": {"mcl.search.ray_workers"},
    "mlflow": {"mcl.tracking"},
    "ib_async": {"mcl.broker.ib"},
    "databento": {"mcl.data.download.client", "mcl.data.dbn"},
    "databento_dbn": {"mcl.data.download.client", "mcl.data.dbn"},
    "plotly": {"mcl.report"},
    "apprise": {"mcl.live.ops.alert_channels"},
}


def modules() -> list[tuple[str, Path]]:
    return [
        (".".join(("mcl", *p.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"), p)
        for p in sorted(PACKAGE.rglob("*.py"))
    ]


def imports(path: Path) -> list[str]:
    """Every absolute module name that `path` imports, at the top or inside a function."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found += [f"mcl.{alias.name}" for alias in node.names] if node.module == "mcl" else [node.module]
    return found


def row(module: str) -> int:
    parts = module.split(".")
    return ROW[parts[1]] if len(parts) > 1 and parts[1] in ROW else len(ROWS)


def test_every_module_has_a_row() -> None:
    homeless = {m.split(".")[1] for m, _ in modules() if "." in m} - ROW.keys()
    assert not homeless, f"give {homeless} a row in tests/test_architecture.py"


def test_imports_point_down() -> None:
    upward = [f"{m} -> {i}" for m, p in modules() if m != "mcl" for i in imports(p) if i.startswith("mcl.") and row(i) < row(m)]
    assert upward == []


@pytest.mark.parametrize("package", DOORS)
def test_one_door_per_dependency(package: str) -> None:
    through = [m for m, p in modules() for i in imports(p) if i.split(".")[0] == package]
    trespassers = [m for m in through if not any(m == door or m.startswith(door + ".") for door in DOORS[package])]
    assert trespassers == []
    assert through, f"no module imports {package}: the list of doors is out of date"


def test_ib_insync_is_never_imported() -> None:
    assert not [m for m, p in modules() for i in imports(p) if i.split(".")[0] == "ib_insync"]


def test_functions_and_modules_stay_readable() -> None:
    long_modules = [f"{m}: {len(p.read_text().splitlines())} lines" for m, p in modules() if len(p.read_text().splitlines()) > 420]
    long_functions = [
        f"{m}.{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for m, p in modules()
        for node in ast.walk(ast.parse(p.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 60
    ]
    assert long_modules == []
    assert [f for f in long_functions if not f.startswith("mcl.engine.kernel")] == []


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from mcl.cli import main; main(['--help']); print(sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout.splitlines()[-1]))
    assert "usage: mcl" in done.stdout
    assert loaded.isdisjoint({"numpy", "pandas", "numba", "mlflow", "hydra", "plotly", "optuna", "pydantic", "ib_async"})


def test_a_module_that_tests_or_scripts_import_by_name_has_a_name_of_its_own() -> None:
    """Both are found through sys.path: of two with one name the first that is loaded would answer for the other."""
    files = [path for room in ("tests", "scripts") for path in (PACKAGE.parent / room).rglob("*.py")]
    names = Counter(path.stem for path in files if path.stem not in ("__init__", "conftest"))
    assert [name for name, count in names.items() if count > 1 and not name.startswith("test_")] == []
    borrowed = re.compile(r"^\s*from conftest import|^\s*import conftest", re.MULTILINE)
    assert [str(path) for path in files if borrowed.search(path.read_text())] == []
