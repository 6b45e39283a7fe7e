"""Imports only point down, and each heavy dependency has one door."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import mcl

PACKAGE = Path(__file__).resolve().parents[1] / "mcl"
# highest first; a module may import from its own room and from lower rows, never up and never
# sideways
ROWS = (
    ("cli",),
    ("library",),
    ("ops",),
    ("live",),
    ("promotion",),
    ("validation",),
    ("search",),
    ("tracking",),
    ("report",),
    ("metrics", "broker"),
    ("engine",),
    ("composition",),
    ("risk",),
    ("strategy",),
    ("simulators",),
    ("data",),
    ("config",),
    ("market",),
    ("base",),
)
ROW = {name: i for i, row in enumerate(ROWS) for name in row}
DOORS = {  # package -> the only modules that may import it
    "hydra": {"mcl.composition", "mcl.search.hydra_sweeper"},
    "omegaconf": {"mcl.composition"},
    "optuna": {"mcl.search"},
    "ray": {"mcl.search.ray_workers"},
    "mlflow": {"mcl.tracking"},
    "ib_async": {"mcl.broker.ib"},
    "databento": {"mcl.data.download.client", "mcl.data.dbn"},
    "databento_dbn": {"mcl.data.download.client", "mcl.data.dbn"},
    "plotly": {"mcl.report"},
    "apprise": {"mcl.live.ops.alert_channels"},
}


@cache
def modules() -> list[tuple[str, Path]]:
    return [
        (
            ".".join(("mcl", *p.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
                ".__init__"
            ),
            p,
        )
        for p in sorted(PACKAGE.rglob("*.py"))
    ]


@cache
def imports(path: Path) -> list[str]:
    """Every absolute module name that `path` imports, at the top or inside a function."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found += (
                [f"mcl.{alias.name}" for alias in node.names]
                if node.module == "mcl"
                else [node.module]
            )
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_module_has_a_room() -> None:
    """`mcl` itself and `python -m mcl` alone stand at the top of the package."""
    rooms = {room(module) for module, _ in modules()} - {"", "__main__"}
    assert rooms == ROW.keys()


def test_the_package_itself_lends_the_library_and_nothing_else() -> None:
    """`mcl/__init__.py` stands above all rooms: it may import the library, at the first use of a
    name. What is below imports rooms from it, and never such a name.
    """
    lender = PACKAGE / "__init__.py"
    assert {name for name in imports(lender) if name.startswith("mcl.")} == {
        "mcl.library",
        "mcl.library.research",
    }
    assert [
        node.lineno
        for node in ast.parse(lender.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom) and ".library" in ast.unparse(node)
    ] == []
    borrowed = [
        f"{module} -> {name}"
        for module, path in modules()
        for name in imports(path)
        if name.removeprefix("mcl.") in mcl.__all__
    ]
    assert borrowed == []


def test_the_page_of_the_architecture_names_every_room_from_top_to_bottom() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [
        name for row in ROWS for name in row
    ]


def test_imports_point_down() -> None:
    """Inside functions and under TYPE_CHECKING too."""
    wrong = [
        f"{module} -> {name}"
        for module, path in modules()
        if room(module) in ROW
        for name in imports(path)
        if name.startswith("mcl.")
        if (other := room(name)) in ROW
        and other != room(module)
        and ROW[other] <= ROW[room(module)]
    ]
    assert wrong == []


@pytest.mark.parametrize("package", DOORS)
def test_one_door_per_dependency(package: str) -> None:
    through = [m for m, p in modules() for i in imports(p) if i.split(".")[0] == package]
    trespassers = [
        m
        for m in through
        if not any(m == door or m.startswith(door + ".") for door in DOORS[package])
    ]
    assert trespassers == []
    assert through, f"no module imports {package}: the list of doors is out of date"


def test_ib_insync_is_never_imported() -> None:
    assert not [m for m, p in modules() for i in imports(p) if i.split(".")[0] == "ib_insync"]


def test_functions_and_modules_stay_readable() -> None:
    long_modules = [
        f"{m}: {len(p.read_text().splitlines())} lines"
        for m, p in modules()
        if len(p.read_text().splitlines()) > 600
    ]
    long_functions = [
        f"{m}.{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for m, p in modules()
        for node in ast.walk(ast.parse(p.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > 80
    ]
    assert long_modules == []
    assert [f for f in long_functions if not f.startswith("mcl.engine.kernel")] == []


SMALL = 60  # lines; below, a module belongs to its only user
ALONE = {  # a small module with one importer -> why it stands by itself
    "mcl.broker.farms": "ib.py would be too long with it",
    "mcl.live.pending_requests": "supervisor.py would be too long with it",
    "mcl.live.override_policy": "a rule of a session, which the verb asks from a higher room",
    "mcl.tracking.pyfunc": "the door of MLflow, which the bundle asks from a higher room",
}


PARTS_OF = {  # a part -> the whole that it belongs to and names in its annotations
    ("mcl.data.synthetic.generator", "mcl.data.sources.synthetic"),
    ("mcl.data.truncation", "mcl.data.bars"),
    ("mcl.engine.result", "mcl.engine.curve"),
    ("mcl.live.roll_orders", "mcl.live.runner"),
    ("mcl.simulators.tws.faults", "mcl.simulators.tws.server"),
    ("mcl.simulators.tws.message_in_flight", "mcl.simulators.tws.server"),
    ("mcl.simulators.tws.message_in_flight", "mcl.simulators.tws.session"),
    ("mcl.simulators.tws.outages", "mcl.simulators.tws.server"),
    ("mcl.simulators.tws.publish", "mcl.simulators.tws.server"),
    ("mcl.simulators.tws.session", "mcl.simulators.tws.server"),
    ("mcl.simulators.tws.stream", "mcl.simulators.tws.server"),
    ("mcl.strategy.user_strategies", "mcl.strategy"),
}


@cache
def module_imports(path: Path, *, typing: bool) -> set[str]:
    """The modules of the package that `path` imports at its top or inside a function; with
    `typing` those under TYPE_CHECKING too.
    """
    files, tree = dict(modules()), ast.parse(path.read_text())
    names = set()
    unused = {
        below
        for node in ast.walk(tree)
        if not typing and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for below in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in unused:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                names.add(below if below in files else node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names & files.keys()


def reached(module: str) -> set[str]:
    """What `module` imports and what that imports, and so on. `mcl` itself lends the library at the
    first use of a name: it is above all others, and nobody imports through it.
    """
    files, names, seen = dict(modules()), {module}, set[str]()
    while names:
        seen |= names
        below = set().union(*(module_imports(files[name], typing=False) for name in names))
        names = below - seen - {"mcl"}
    return seen


def test_modules_do_not_import_in_a_circle() -> None:
    """Neither when they load nor inside a function."""
    imported = {module: module_imports(path, typing=False) for module, path in modules()}
    del imported["mcl"]
    while leaves := {m for m, names in imported.items() if not names & imported.keys()}:
        imported = {m: names for m, names in imported.items() if m not in leaves}
    assert sorted(imported) == []


def test_only_a_part_names_the_class_of_its_whole() -> None:
    """Under TYPE_CHECKING, in an annotation: the one import against the direction of all others."""
    against = {
        (module, name)
        for module, path in modules()
        for name in module_imports(path, typing=True) - module_imports(path, typing=False)
        if name != "mcl" and module in reached(name)
    }
    assert against == PARTS_OF


def test_a_small_module_has_more_than_one_user_or_a_reason() -> None:
    users = Counter(
        name for module, path in modules() for name in module_imports(path, typing=True) - {module}
    )
    alone = {
        module
        for module, path in modules()
        if users[module] == 1
        and path.name != "__init__.py"
        and not module.startswith("mcl.data.sources.")  # a source is one file
        and len(path.read_text().splitlines()) < SMALL
    }
    assert alone == ALONE.keys()


def test_a_folder_of_tests_is_called_as_its_room() -> None:
    folders = {
        path.name
        for path in (PACKAGE.parent / "tests").iterdir()
        if path.is_dir() and list(path.glob("test_*.py"))
    }
    # attacks from outside, and what a roll is from data to session
    assert folders - ROW.keys() == {"security", "roll"}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from mcl.cli.main import main; main(['--help']); print(sorted({m.split('.')[0]"
        " for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout.splitlines()[-1]))
    assert "usage: mcl" in done.stdout
    assert loaded.isdisjoint(
        {"numpy", "pandas", "numba", "mlflow", "hydra", "plotly", "optuna", "pydantic", "ib_async"}
    )


def test_a_module_that_tests_or_scripts_import_by_name_has_a_name_of_its_own() -> None:
    """Both are found through sys.path: of two with one name the first that is loaded would answer
    for the other.
    """
    files = [
        path for room in ("tests", "scripts") for path in (PACKAGE.parent / room).rglob("*.py")
    ]
    names = Counter(path.stem for path in files if path.stem not in ("__init__", "conftest"))
    assert [
        name for name, count in names.items() if count > 1 and not name.startswith("test_")
    ] == []
    borrowed = re.compile(r"^\s*from conftest import|^\s*import conftest", re.MULTILINE)
    assert [str(path) for path in files if borrowed.search(path.read_text())] == []
