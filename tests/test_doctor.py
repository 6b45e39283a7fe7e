"""What `mcl doctor` says of good and of broken machines."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from mcl.cli.main import main
from mcl.ops import doctor
from mcl.tracking.store import Record, Store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    for name in ("DATABENTO_API_KEY", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    # nobody: no test asks the real one
    monkeypatch.setattr(doctor, "VENDOR", "https://127.0.0.1:9")
    return tmp_path


def found(home: Path, subject: str) -> doctor.MachineCheck:
    return next(f for f in doctor.examine(home) if f.subject == subject)


def test_a_new_machine_is_well(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "doctor"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["failed"] == 0
    assert {f["subject"] for f in answer["findings"]} >= {
        "python",
        "packages",
        "configuration",
        "disk",
        "run store",
        "clock",
        "broker",
    }
    assert all(f["remedy"] for f in answer["findings"] if f["level"] != "ok")


def test_a_store_is_counted_and_a_damaged_one_is_named(home: Path) -> None:
    Store(home).record(Record("s", "one"))
    assert found(home, "run store").detail.endswith("1 run")
    database = home / "mlruns" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    blob = bytearray(database.read_bytes())
    blob[4096 * 3 : 4096 * 40] = os.urandom(4096 * 37)
    database.write_bytes(blob)
    damaged = found(home, "run store")
    assert damaged.level == "fail"
    assert "restore" in damaged.remedy


def test_an_old_file_store_comes_with_the_command_that_migrates_it(home: Path) -> None:
    (home / "mlruns" / "0").mkdir(parents=True)
    (home / "mlruns" / "0" / "meta.yaml").write_text("experiment_id: '0'\n")
    old = found(home, "old file store")
    assert old.level == "fail"
    assert re.fullmatch(
        r"mkdir (\S+)/mlruns-before && mv \1/mlruns/0 \1/mlruns-before/ "
        r"&& mlflow migrate-filestore --source \1/mlruns-before --target"
        r" sqlite:///\1/mlruns/mlflow\.db",
        old.remedy,
    )


def test_a_key_is_checked_and_never_printed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", "db-tooshort")
    assert found(home, "databento key").level == "fail"
    key = "db-" + "a1B2c" * 5 + "wxyz"
    monkeypatch.setenv("DATABENTO_API_KEY", key)
    told = found(home, "databento key")
    assert told.level == "note"
    assert "cannot be reached to ask" in told.detail
    assert key not in str(told)


def test_a_broken_configuration_and_a_clock_that_is_behind(home: Path) -> None:
    (home / "conf").mkdir()
    (home / "conf" / "backtest.yaml").write_text("defaults:\n  - nothing\n")
    assert found(home, "configuration").level == "fail"
    late = home / "from_the_future"
    late.write_text("")
    os.utime(late, (time.time() + 3600, time.time() + 3600))
    assert "in the future" in found(home, "clock").detail


def test_a_restore_that_was_cut_off_and_open_secrets_are_named(home: Path) -> None:
    (home / ".restore-plan.json").write_text('{"folder": "x", "steps": []}')
    assert "mcl store restore" in found(home, "restore").remedy
    assert main(["store", "restore"]) == 0
    assert main(["store", "restore"]) == 1
    (home / ".env").write_text("DATABENTO_API_KEY=x\n")
    (home / ".env").chmod(0o644)
    home.chmod(0o755)
    assert found(home, "secrets").remedy == f"chmod 600 {home / '.env'}"
    (home / ".env").chmod(0o600)
    assert found(home, "secrets").level == "ok"
