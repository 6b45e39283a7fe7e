"""Planted secrets come out nowhere: errors, screen, logs, run store, artifacts, tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from mcl.base import terminal
from mcl.base.errors import ConfigError, MclError
from mcl.base.redact import BLOT, redacted
from mcl.base.secrets import secret
from mcl.live.ops.session_log import log, log_session
from mcl.tracking.store import Record, Store

KEY = "db-" + "Pl4nt3dS3cr3t" * 2 + "abc"
PASSWORD = "hunter2-correct-horse"


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A key in the environment, a password in a file, a server's address with a password."""
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)
    monkeypatch.setenv("MCL_SMTP_PASSWORD_FILE", str(file))
    monkeypatch.setenv("MCL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "home"


def clean(text: str | bytes) -> bool:
    content = text.encode() if isinstance(text, str) else text
    return KEY.encode() not in content and PASSWORD.encode() not in content


def test_a_secret_comes_from_the_environment_or_a_file(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert secret("DATABENTO_API_KEY") == KEY
    assert secret("MCL_SMTP_PASSWORD") == PASSWORD
    monkeypatch.setenv("MCL_SMTP_PASSWORD", "of-the-environment")
    assert secret("MCL_SMTP_PASSWORD") == "of-the-environment"
    assert secret("MCL_NOTHING_TOKEN") == ""
    monkeypatch.setenv("MCL_NOTHING_TOKEN_FILE", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match=r"MCL_NOTHING_TOKEN_FILE=.*absent cannot be read"):
        secret("MCL_NOTHING_TOKEN")


def test_what_is_blotted_and_what_is_not(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del planted
    assert redacted(f"key {KEY}, word {PASSWORD}!") == f"key {BLOT}, word {BLOT}!"
    assert redacted("of somebody else: db-" + "x" * 29) == f"of somebody else: {BLOT}"
    assert redacted("postgresql://mlflow:s3cret@db:5432/x") == f"postgresql://{BLOT}@db:5432/x"
    for harmless in (
        "https://example.com/a@b:c",
        "strategy.fast=10",
        "db-short",
        "sqlite:////home/me/mlflow.db",
        "me@example.com",
    ):
        assert redacted(harmless) == harmless
    monkeypatch.setenv("MY_TOKEN", "true")  # too short to be one
    assert redacted("it is true") == "it is true"


def test_errors_hold_none(planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del planted
    error = MclError(f"the vendor refused {KEY}", f"try {PASSWORD}")
    assert clean(str(error) + repr(error) + json.dumps(error.as_dict()))
    terminal.refuse(error)
    assert clean(capsys.readouterr().err)


def test_the_screen_shows_none(planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del planted
    for as_json in (True, False):
        terminal.configure(as_json=as_json, verbose=False, quiet=False)
        terminal.answer(
            {"note": f"x {KEY}", "deep": [{"y": PASSWORD}]}, lambda: terminal.say(f"z {KEY}")
        )
        terminal.table("t", ["a"], [[f"cell {PASSWORD}"]])
    shown = capsys.readouterr().out
    assert BLOT in shown
    assert clean(shown)


@pytest.mark.parametrize("style", ["json", ""])
def test_logs_hold_none(
    planted: Path, style: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in a message, not in a field, not in a traceback; neither on stderr nor in the session's
    file.
    """
    monkeypatch.setenv("MCL_LOG", style)
    before = structlog.get_config()
    try:
        terminal.configure(as_json=False, verbose=True, quiet=False)
        with log_session(planted, alias="paper"):
            log.info(
                f"connecting with {KEY}", address=f"smtp://me:{PASSWORD}@mail", nested={"k": KEY}
            )
            try:
                raise ValueError(f"bad key {KEY}")
            except ValueError:
                log.exception("it broke")
    finally:
        structlog.configure(**before)
    err = capsys.readouterr().err
    assert "connecting" in err
    assert clean(err)
    written = (planted / "log.jsonl").read_text()
    assert "it broke" in written
    assert "ValueError" in written
    assert clean(written)


def test_the_run_store_holds_none(planted: Path) -> None:
    """Parameters, tags, artifacts and what is made late, in runs written whole, in batches and step
    by step.
    """
    store = Store(planted)
    record = Record(
        "s",
        "run",
        params={"data.gateway": f"https://me:{PASSWORD}@127.0.0.1", "n": 3},
        tags={"argv": f"mcl data gateway --key {KEY}"},
        files={
            "config.yaml": f"key: {KEY}\n".encode(),
            "blob.bin": b"\x00\xff" + KEY.encode() + b"\xfe",
        },
    )
    ids = [
        store.record(record, lambda _: {"report.html": f"<p>{PASSWORD}</p>".encode()}),
        *store.record_many([record, record]),
    ]
    started = store.start(Record("s", "parent", tags=record.tags))
    store.finish(started, record)
    for run_id in [*ids, started]:
        run = store.run(run_id)
        assert run.tags["argv"] == f"mcl data gateway --key {BLOT}"
        assert run.params == {"data.gateway": f"https://{BLOT}@127.0.0.1", "n": "3"}
        assert run.file("config.yaml") == f"key: {BLOT}\n".encode()
        assert run.file("blob.bin") == b"\x00\xff" + BLOT.encode() + b"\xfe"
    for path in planted.rglob("*"):
        assert not path.is_file() or clean(path.read_bytes()), path


def test_a_traceback_holds_none(planted: Path) -> None:
    code = (
        f"import sys; from mcl.cli import main as cli; cli._main = lambda _: 1 / int('{KEY}');"
        " sys.argv = ['mcl']; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode == 1
    assert "ValueError: invalid literal for int()" in done.stderr
    assert BLOT in done.stderr
    assert KEY not in done.stderr
    del planted


def test_refusals_of_the_command_line_hold_none(
    planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mcl.cli.main import main

    assert main(["--json", "backtest", f"notes=[{KEY}", "--cfg"]) in (1, 2)
    assert main(["--json", "runs", "--study", f"of {PASSWORD}"]) in (0, 1)
    told = capsys.readouterr()
    assert clean(told.out + told.err)
    del planted


def test_nothing_secret_is_in_the_repository() -> None:
    """No key, no private key, no password in an address, in any tracked text."""
    root = Path(__file__).resolve().parents[2]
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z"], capture_output=True, text=True, check=False
    ).stdout.split("\0")
    for name in filter(None, listed):
        path = root / name
        if name.startswith("tests/") or not path.is_file() or path.stat().st_size > 2_000_000:
            continue
        text = path.read_text(errors="ignore")
        assert redacted(text) == text or name.endswith((".md", ".sh", ".py", "compose.yaml")), name
        assert "-----BEGIN " + "PRIVATE KEY" not in text, name
