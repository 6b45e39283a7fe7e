"""Names that would lead out of the project, through every door, and files that nobody else may
read.
"""

from __future__ import annotations

import ast
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mcl import composition
from mcl.base.errors import ConfigError, MclError
from mcl.base.files import below, private_file, private_folder
from mcl.cli.main import main
from mcl.config import schema
from mcl.data.download import chunks
from mcl.live import journal_queries
from mcl.live.journal import Draft, Journal
from mcl.live.ops import control_socket
from mcl.live.ops.session_log import log_session
from mcl.promotion.promoted_file import path_of
from mcl.search.best import export
from mcl.search.sweep_dir import SweepDir
from mcl.strategy import user_strategies
from mcl.tracking.store import Record, Store

HOSTILE = [
    "../../x",
    "../x",
    "..",
    ".",
    "/tmp/mcl-evil/x",
    "a/b",
    ".hidden",
    "a\\b",
    "a\nb",
    "",
    "~",
    "x" * 300,
]
BARS = "time,open,high,low,close,volume\n" + "".join(
    f"2024-01-{2 + row // 400:02d}T{10 + row % 400 // 60:02d}:{row % 400 % 60:02d}:00"
    ",70,70.1,69.9,70,5\n"
    for row in range(1200)
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project two folders below the one that is watched."""
    project = tmp_path / "one" / "project"
    project.mkdir(parents=True)
    (project / "bars.csv").write_text(BARS)
    monkeypatch.setenv("MCL_HOME", str(project))
    monkeypatch.chdir(project)
    return project


def files_in(folder: Path) -> set[Path]:
    """All but caches, locks, and the empty run store that a question to it makes."""
    found = {path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts}
    return {
        path for path in found if not path.match("mlruns/mlflow.db*") and path.suffix != ".lock"
    }


DATA = [
    "data=csv",
    "data.path=bars.csv",
    "data.stamped_at=close",
    "data.timezone=UTC",
    "data.columns.time=time",
    "strategy=always_long",
    "risk=fixed",
]
DOORS = {
    "study of a run": ["backtest", *DATA, "study=NAME"],
    "study of a grid": ["backtest", "-m", *DATA, "study=NAME", "risk.size.contracts=1,2"],
    "study of a search": ["sweep", *DATA, "study=NAME"],
    "name of a search": ["sweep", *DATA, "search.name=NAME"],
    "id of a search": ["sweep", "status", "NAME"],
    "search to stop": ["sweep", "stop", "NAME"],
    "search to resume": ["sweep", "resume", "NAME"],
    "search to export": ["sweep", "report", "last", "--export", "NAME"],
    "strategy": ["backtest", "strategy=NAME"],
    "strategy by key": ["backtest", *DATA, "strategy.name=NAME"],
    "new strategy": ["new", "strategy", "NAME"],
    "experiment": ["backtest", "experiment=NAME"],
    "world": ["backtest", "data.world=NAME"],
    "promoted name": ["promote", "last", "--to", "paper", "--name", "NAME"],
    "promoted versions": ["promoted", "diff", "NAME", "paper"],
    "rollback": ["rollback", "NAME", "--because", "test"],
    "page of a version": ["registry", "report", "NAME"],
    "explain": ["explain", "strategy.fast", "NAME"],
    "live": ["live", "NAME"],
    "status": ["status", "NAME"],
    "why": ["why", "NAME"],
    "orders": ["orders", "NAME"],
    "fills": ["fills", "NAME"],
    "pause": ["pause", "NAME"],
    "flatten": ["flatten", "NAME"],
    "stop": ["stop", "NAME"],
    "run": ["report", "NAME"],
    "rerun": ["rerun", "NAME"],
    "validate": ["validate", "NAME"],
    "symbol": [
        "data",
        "download",
        "--symbol",
        "NAME",
        "--schema",
        "ohlcv-1m",
        "--start",
        "2024-01-02",
        "--end",
        "2024-01-03",
        "--estimate",
    ],
    "archive": ["store", "restore", "NAME"],
}


@pytest.mark.parametrize(
    ("door", "name"), [(door, HOSTILE[i % 2 * 4]) for i, door in enumerate(DOORS)]
)
def test_a_name_that_leads_elsewhere_is_one_sentence_and_writes_nothing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], door: str, name: str
) -> None:
    before = files_in(tmp_path)
    code = main([word.replace("NAME", name) for word in DOORS[door]])
    told = capsys.readouterr().err
    assert code == 1, told
    assert "Traceback" not in told
    assert len([line for line in told.splitlines() if line.startswith(("error", "mcl:"))]) <= 1
    assert told.strip()
    assert files_in(tmp_path) == before
    assert not Path("/tmp/mcl-evil").exists()
    assert not (home / "live").exists()


def refused(name: str) -> list[object]:
    """What each function that makes a path of a name answers."""
    root = Path("/nowhere")
    record = Record(study=name, name="x")
    doors: list[Callable[[], object]] = [
        lambda: below(root, name),
        lambda: below(root, "good", name, ending=".yaml"),
        lambda: path_of(name, root),
        lambda: control_socket.folder_of(root, name),
        lambda: journal_queries.last_journal(root, name),
        lambda: SweepDir(root, name).file("card"),
        lambda: user_strategies.load(name),
        # dots become underscores there
        lambda: (
            chunks.folder_name(name) if name not in ("..", ".", ".hidden") else below(root, name)
        ),
        lambda: export(None, {}, root, name, "", ""),  # type: ignore[arg-type]
        lambda: Store(Path.cwd())._experiment(record.study),
    ]
    said: list[object] = []
    for door in doors:
        try:
            said.append(door())
        except MclError as error:
            said.append(error)
    return said


@pytest.mark.parametrize("name", HOSTILE)
def test_every_function_that_makes_a_path_of_a_name_refuses_it(home: Path, name: str) -> None:
    assert all(
        isinstance(answer, ConfigError) and "cannot name" in answer.message
        for answer in refused(name)
    ), refused(name)
    with pytest.raises(ConfigError):
        composition.run_config(composition.compose("backtest", DATA).raw | {"study": name})


@pytest.mark.parametrize(
    "name", ["mcl", "001_ema_baseline", "Öl 2024", "MCL.FUT", "a=b,c@d+e-f", "x" * 200]
)
def test_names_of_people_are_taken(name: str) -> None:
    assert below(Path("/home"), name, ending=".yaml") == Path(f"/home/{name}.yaml")
    assert schema.Config.__annotations__["study"] == "Study"


def test_the_sentence_names_one_that_can_be_taken() -> None:
    with pytest.raises(ConfigError, match="cannot name a file or a folder") as refusal:
        below(Path("/home"), "../../my study")
    assert "'my_study'" in refusal.value.hint


JOINS = re.compile(r"\.(yaml|py|sqlite|card|json)\"|name|alias|study|symbol|family|sweep_id")
ALLOWED = {  # joins of names that no person types: each with what the name is
    "data/loader.py": "labels that were made plain, hashes",
    "tracking/provenance.py": "modules of the package",
    "base/import_closure.py": (
        "modules that a project's file imports: identifiers, read and never written"
    ),
    "strategy/user_strategies.py": "names of the package's own strategies",
    "data/download/receipts.py": (
        "chunks and files that the vendor's order named, below `folder_name`"
    ),
    "data/synthetic/order_books.py": "days and schemas of a generated world",
    "data/synthetic/trade_tape.py": "days and schemas of a generated world",
    "data/realism.py": "the two files of figures of the package, named in the code",
    "data/dataset.py": "files of a manifest that this code wrote and hashes",
    "data/depth.py": "files of a generated world",
    "data/synthetic/generator.py": "files of a generated world",
    "simulators/databento": "files of the gateway's own jobs",
    "search/worker_pool.py": "arrays of Bars",
    "search/ray_workers.py": (
        "files of a strategy that the search's parent sends, by their path in the project"
    ),
    "report/png.py": "charts of a page",
    "report/theme.py": "assets of the package",
    "report/dashboard.py": "assets of the package",
    "ops/restore.py": "members of an archive, each examined by `_inside`",
    "live/ops/control_socket.py": "the constant name of the socket",
    "live/ops/session_log.py": "the constant name of the log",
    "ops/scaffold.py": "a name that has its own, narrower pattern",
    "ops/init.py": "entries of the package's own folders",
    "tracking": "files of a run, named in the code",
    "composition/__init__.py": "groups and choices that Hydra composes: read, never written",
    "base/files.py": "the helper itself",
    "ops/doctor.py": "constant names",
    "cli/tws.py": "the number of a port",
    "live/service.py": "schemas that the data are stored in, named in the code",
    "cli/completion.py": "files of conf/ that it has listed: read, never written",
    "validation/subject.py": "a strategy that was validated: read, never written",
}


def test_no_other_place_makes_a_path_of_a_name() -> None:
    """A new `folder / name` in the package goes through `below`, or is put on the list with what
    the name is.
    """
    package = Path(composition.__file__).resolve().parents[1]
    found = set()
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.BinOp)
                and isinstance(node.op, ast.Div)
                and _variable(node.right)
            ):
                found.add(path.relative_to(package).as_posix())
    unlisted = {
        name
        for name in found
        if not any(name == entry or name.startswith(f"{entry}/") for entry in ALLOWED)
    }
    assert unlisted == set(), (
        "join names with mcl.base.files.below, or put the module on the list with what the name is"
    )


def _variable(node: ast.expr) -> bool:
    """Whether what is joined is a name of a variable that a person may have typed."""
    return isinstance(node, ast.Name | ast.JoinedStr | ast.Attribute) and bool(
        JOINS.search(ast.unparse(node))
    )


# ------------------------------------------------------------------------------------- who may read


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_private_files_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = private_file(tmp_path / "a" / "b" / "c.txt")
    finally:
        os.umask(before)
    assert [mode(p) for p in (path, path.parent, path.parent.parent)] == [0o600, 0o700, 0o700]


def test_a_folder_that_is_there_is_closed_and_a_file_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o755)
    (tmp_path / "a").chmod(0o755)
    private_folder(tmp_path / "a")
    assert mode(tmp_path / "a") == 0o700
    (tmp_path / "x").write_text("text")
    (tmp_path / "x").chmod(0o640)
    assert private_file(tmp_path / "x").read_text() == "text"
    assert mode(tmp_path / "x") == 0o640


def test_journals_and_logs_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = control_socket.folder_of(tmp_path, "paper")
        with control_socket.alone(folder), log_session(folder, alias="paper"):
            journal = Journal(folder / "2026-01-08.sqlite")
            journal.append(Draft("state", {"state": "RUNNING", "why": "test"}))
            from mcl.live.ops.session_log import log

            log.info("line")
            seen = {path.name: mode(path) for path in folder.iterdir()}
    finally:
        os.umask(before)
    assert set(seen) >= {
        "2026-01-08.sqlite",
        "2026-01-08.sqlite-wal",
        "2026-01-08.sqlite-shm",
        "log.jsonl",
        "control.lock",
    }
    assert set(seen.values()) == {0o600}
    assert [mode(p) for p in (folder, folder.parent)] == [0o700, 0o700]


RUN = """
import os, stat, sys
os.umask(0)
from pathlib import Path
from mcl.cli.main import main
assert main(["--quiet", *sys.argv[1:]]) == 0
"""


def test_the_run_database_is_its_owners_alone(home: Path) -> None:
    (home / "mlruns").mkdir(mode=0o755)
    (home / "mlruns" / ".gitkeep").write_text("")
    subprocess.run([sys.executable, "-c", RUN, "backtest", *DATA], check=True, cwd=home)
    database = home / "mlruns" / "mlflow.db"
    assert mode(database) == 0o600
    assert mode(home / "mlruns") == 0o700
    beside = [path for path in (home / "mlruns").glob("mlflow.db-*") if mode(path) != 0o600]
    assert beside == []
    subprocess.run([sys.executable, "-c", RUN, "store", "backup"], check=True, cwd=home)
    [archive] = (home / "backups").glob("*.tar.zst")
    assert mode(archive) == 0o600
    subprocess.run(
        [sys.executable, "-c", RUN, "store", "restore", str(archive), "--replace"],
        check=True,
        cwd=home,
    )
    assert mode(home / "mlruns") == 0o700
    assert mode(database) == 0o600
