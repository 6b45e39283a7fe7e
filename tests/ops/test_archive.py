"""Backup, restore and gc on real stores; archives from elsewhere are refused; a kill in the middle
costs nothing.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import zstandard
from comparisons import digest

from mcl.base.errors import ConfigError, StoreError
from mcl.cli.main import main
from mcl.live.journal import Draft, Journal
from mcl.live.ops.control_socket import alone
from mcl.ops import retention
from mcl.ops.archive import MANIFEST
from mcl.ops.backup import backup
from mcl.ops.restore import PLAN, finish, restore, verify
from mcl.tracking import trial_ledger
from mcl.tracking.store import Record, Store


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of a project with two runs, a trial, a journal and a promoted configuration."""
    root = tmp_path_factory.mktemp("mas ter")
    store = Store(root)
    for name in ("one", "two"):
        store.record(
            Record(
                "s",
                name,
                metrics={"sharpe": 1.5},
                files={"report.html": b"<p>" + os.urandom(2000), "deep/x.bin": b"x"},
            )
        )
    trial_ledger.append(
        root,
        [trial_ledger.Trial(trial_ledger.TrialPool("ema", "MCL"), "r1", "hand", "s", "COMPLETE")],
    )
    with closing(Journal(root / "live" / "paper" / "2026-01-08.sqlite")) as journal:
        journal.append(Draft("begin", {"version": 1}))
    (root / "conf" / "promoted").mkdir(parents=True)
    (root / "conf" / "promoted" / "paper.yaml").write_text("version: 1\n")
    (root / "mlruns" / "promote.lock").write_text("")
    return backup(root).path


@pytest.fixture
def home(master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That project, in a folder whose name has a space."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "pro ject"
    monkeypatch.setenv("MCL_HOME", str(root))
    restore(master, root)
    return root


def contents(root: Path) -> dict[str, bytes]:
    """Everything that an archive stands for: files as bytes, databases as what a reader sees."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if (
            path.is_file()
            and not name.endswith(("-wal", "-shm", ".lock"))
            and not name.startswith("backups")
        ):
            found[name] = _dump(path) if path.suffix in (".db", ".sqlite") else path.read_bytes()
    return found


def _dump(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump()).encode()


def test_there_and_back_in_another_place(home: Path, tmp_path: Path) -> None:
    done = backup(home)
    assert done.path.parent == home / "backups"
    assert verify(done.path).root == str(home)
    other = tmp_path / "else where"
    restored = restore(done.path, other)
    assert restored.parts == ("mlruns", "live", "conf/promoted")
    assert restored.files == done.files
    before, after = contents(home), contents(other)
    assert before.keys() == after.keys()
    moved = {name for name in before if before[name] != after[name]}
    assert moved == {"mlruns/mlflow.db"}  # its absolute places, and nothing else
    elsewhere = (
        before["mlruns/mlflow.db"]
        .replace(b"pro%20ject", b"else%20where")
        .replace(b"pro ject", b"else where")
    )
    assert digest(elsewhere) == digest(after["mlruns/mlflow.db"])
    store = Store(other)
    run = store.in_study("s")[0]
    assert run.artifacts.is_relative_to(other)
    assert run.file("deep/x.bin") == b"x"
    new = store.record(Record("s", "three", files={"a": b"b"}))
    assert store.artifacts(new).is_relative_to(other)
    assert not (other / PLAN).exists()
    assert not list(other.glob(".restore-*"))


def test_a_backup_while_others_write_is_consistent(home: Path) -> None:
    """Every run that the copied database calls finished has all its artifacts in the copy."""
    stop, first = threading.Event(), threading.Event()

    def write() -> None:
        store = Store(home)
        while not stop.is_set():
            store.record(Record("s", "busy", files={f"{i}.bin": os.urandom(500) for i in range(5)}))
            first.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert first.wait(60)
        archives = [backup(home, home / "backups" / f"{i}.tar.zst").path for i in range(3)]
    finally:
        stop.set()
        writer.join()
    for i, archive in enumerate(archives):
        other = home.parent / f"copy{i}"
        restore(archive, other)
        runs = [run for run in Store(other).in_study("s") if run.name == "busy"]
        assert runs
        for run in runs:
            assert {p.name for p in run.artifacts.iterdir()} == {f"{k}.bin" for k in range(5)}


def test_nothing_is_overwritten_without_being_told(home: Path) -> None:
    archive = backup(home).path
    with pytest.raises(StoreError, match="has mlruns, live, conf/promoted already"):
        restore(archive, home)
    (home / "mlruns" / "later.txt").write_text("written after the backup")
    before = contents(home)
    done = restore(archive, home, replace=True)
    assert (home / "mlruns" / "later.txt").exists() is False
    aside = next(path for path in done.aside if path.name.startswith("mlruns.before-"))
    assert (aside / "later.txt").read_text() == "written after the backup"
    assert contents(home).keys() >= {name for name in before if name != "mlruns/later.txt"}


@pytest.mark.parametrize("spoil", ["flip", "cut", "empty", "text"])
def test_a_damaged_archive_changes_nothing(home: Path, tmp_path: Path, spoil: str) -> None:
    archive = backup(home).path
    blob = bytearray(archive.read_bytes())
    if spoil == "flip":
        blob[len(blob) // 2] ^= 0xFF
    archive.write_bytes(
        {
            "flip": bytes(blob),
            "cut": bytes(blob[: len(blob) * 2 // 3]),
            "empty": b"",
            "text": b"no archive",
        }[spoil]
    )
    other = tmp_path / "other"
    with pytest.raises(StoreError):
        restore(archive, other)
    assert not any(other.iterdir())


def forged(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """An archive as an attacker makes it: these members, and a manifest that agrees with them."""
    with (
        path.open("wb") as file,
        zstandard.ZstdCompressor().stream_writer(file) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w|") as tar,
    ):
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@pytest.mark.parametrize(
    "evil",
    [
        entry("../outside.txt"),
        entry("mlruns/../../outside.txt"),
        entry("/etc/outside.txt"),
        entry("mlruns//x"),
        entry("mcl/cli/main.py"),
        entry("conf/backtest.yaml"),
        entry("mlruns/link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("mlruns/hard", tarfile.LNKTYPE, "/etc/passwd"),
        entry("mlruns/fifo", tarfile.FIFOTYPE),
        entry("mlruns", tarfile.DIRTYPE),
    ],
    ids=lambda e: f"{e.name}-{e.type!r}",
)
def test_an_archive_from_elsewhere_cannot_write_elsewhere(
    tmp_path: Path, evil: tarfile.TarInfo
) -> None:
    archive = forged(tmp_path / "evil.tar.zst", [(evil, b"x" if evil.isreg() else b"")])
    root = tmp_path / "deep" / "root"
    with pytest.raises(StoreError, match="is no file of a project"):
        restore(archive, root)
    assert not list(tmp_path.rglob("outside.txt"))
    assert not any(root.iterdir())


def test_a_bomb_stops_at_the_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 MB of zeros in a few hundred bytes, on a disk that has 10 MB to spare."""
    archive = forged(
        tmp_path / "bomb.tar.zst",
        [(entry("mlruns/zeros"), bytes(20_000_000)), (entry(MANIFEST), b"{}")],
    )
    assert archive.stat().st_size < 10_000
    usage = type("Usage", (), {"free": 110_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(StoreError, match="no space for mlruns/zeros"):
        restore(archive, tmp_path / "root")
    assert not any((tmp_path / "root").iterdir())


def test_the_manifest_must_be_one(tmp_path: Path) -> None:
    for body in (b"", b"[]", b'{"format": 1}', json.dumps({"format": 2}).encode()):
        with pytest.raises(StoreError, match=r"manifest|format 2"):
            verify(forged(tmp_path / "m.tar.zst", [(entry(MANIFEST), body)]))


KILLED = """
import os, sys, pathlib
from mcl.ops import backup, restore
count, place = int(sys.argv[1]), [0]
def counted(name):
    real = getattr(os, name) if name != "rename" else pathlib.Path.rename
    def call(*args, **kwargs):
        place[0] += 1
        if place[0] > count:
            os.kill(os.getpid(), 9)
        return real(*args, **kwargs)
    return call
root, archive = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
if sys.argv[4] == "restore":
    pathlib.Path.rename = counted("rename")
    whole = restore.write_whole
    restore.write_whole = lambda path, content: (counted_plan(), whole(path, content))
    def counted_plan():
        place[0] += 1
        if place[0] > count: os.kill(os.getpid(), 9)
    restore.restore(archive, root, replace=True)
else:
    os.fsync = counted("fsync")
    backup.backup(root, archive)
"""


def killed(after: int, root: Path, archive: Path, what: str) -> bool:
    """Run it in a process that kills itself before its (after + 1)-th step on the disk; whether it
    was killed.
    """
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(after), str(root), str(archive), what],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def test_a_backup_that_is_killed_leaves_no_archive(home: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.zst"
    assert killed(0, home, archive, "backup")
    assert not archive.exists()
    assert [path.name for path in tmp_path.glob("a.tar.zst.part-*")]
    assert not killed(99, home, archive, "backup")
    verify(archive)


def test_a_restore_that_is_killed_anywhere_is_whole_old_or_whole_new(home: Path) -> None:
    archive = backup(home, home.parent / "a.tar.zst").path
    saved = contents(home)
    step = 0
    while True:
        (home / "mlruns" / "later.txt").write_text("of the state before")
        was_killed = killed(step, home, archive, "restore")
        planned = finish(home)
        now = contents(home)
        now = {
            name: now[name]
            for name in now
            if ".before-" not in name and not name.startswith(".restore-")
        }
        if planned or not was_killed:
            assert now.keys() == saved.keys()
            assert {name for name in saved if saved[name] != now[name]} == set()
        else:
            assert now.keys() == saved.keys() | {"mlruns/later.txt"}
        if not was_killed:
            break
        step += 1
        time.sleep(1.0 if planned else 0)  # the names of what is set aside have seconds
    assert step >= 5  # before the plan, and at every rename of three parts


def test_gc_removes_waste_and_keeps_evidence(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(home)
    gone, stays = (run.run_id for run in store.in_study("s"))
    folder = store.artifacts(gone)
    store.discard([gone])
    orphan = home / "mlruns" / "artifacts" / "s" / ("0123456789abcdef" * 2)
    (orphan / "artifacts").mkdir(parents=True)
    (orphan / "artifacts" / "x").write_bytes(b"x" * 1000)
    os.utime(orphan, (time.time() - 2 * 86_400,) * 2)
    half = home / "mlruns" / "trials" / "a.parquet.part-4194399"
    half.write_bytes(b"half")
    alive = home / "mlruns" / f"b.part-{os.getpid()}"
    alive.write_bytes(b"being written")
    for i in range(3):
        backup(home, home / "backups" / f"mlc-{i}.tar.zst".replace("mlc", "mcl"))
    keep = contents(home)

    assert main(["--json", "store", "gc", "--older-than", "0", "--keep", "2", "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert contents(home).keys() == keep.keys()
    assert main(["--json", "store", "gc", "--older-than", "0", "--keep", "2"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["items"] == planned["items"]
    assert sorted(item["what"] for item in done["items"]) == [
        "artifacts without a run",
        "deleted run",
        "half-written file",
        "old backup",
    ]
    assert not folder.exists()
    assert not orphan.exists()
    assert not half.exists()
    assert alive.exists()
    assert [run.run_id for run in store.in_study("s")] == [stays]
    lost = keep.keys() - contents(home).keys()
    assert all(gone in name or orphan.name in name or "part-4194399" in name for name in lost)
    assert len(list((home / "backups").iterdir())) == 2
    with closing(sqlite3.connect(home / "mlruns" / "mlflow.db")) as connection:
        assert connection.execute(
            "SELECT count(*) FROM params WHERE run_uuid = ?", (gone,)
        ).fetchone() == (0,)
    assert retention.waste(home, 0, 2) == []
    with pytest.raises(ConfigError, match="need days"):
        retention.waste(home, -1, 2)


def test_a_promoted_run_is_never_waste(home: Path) -> None:
    store = Store(home)
    run_id = store.in_study("s")[0].run_id
    store.register("mcl-paper", run_id, {"config.yaml": b"a: 1\n"}, {})
    store.discard([run_id])
    assert retention.waste(home, 0, 1) == []


def test_what_a_server_holds_is_not_in_a_copy_and_the_copy_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched = home / "mlruns/served/1/abc/report.html"
    fetched.parent.mkdir(parents=True)
    fetched.write_text("from a server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["store", "backup", "--to", str(home.parent / "b.tar.zst")]) == 0
    assert (
        "http://127.0.0.1:9: its database and its artifacts are not in this file"
        in capsys.readouterr().out.replace("\n", " ")
    )
    assert not [name for name in verify(home.parent / "b.tar.zst").files if "served" in name]


def test_a_damaged_database_is_not_worth_a_copy(home: Path) -> None:
    database = home / "mlruns" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    blob = bytearray(database.read_bytes())
    blob[4096 * 3 : 4096 * 40] = os.urandom(4096 * 37)
    database.write_bytes(blob)
    with pytest.raises(StoreError, match=r"mlflow\.db"):
        backup(home)
    assert not list((home / "backups").iterdir())


def test_no_restore_under_a_running_session(home: Path) -> None:
    archive = backup(home).path
    with (
        alone(home / "live" / "paper"),
        pytest.raises(StoreError, match="a session of paper writes here"),
    ):
        restore(archive, home, replace=True)
    assert restore(archive, home, replace=True).files


def test_an_empty_project_has_nothing_to_copy(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no runs"):
        backup(tmp_path)
