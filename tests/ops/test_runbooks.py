"""The runbooks: an entry for every alarm, commands that exist, and the two procedures that must not
fail the first time they are needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from comparisons import digest
from deployments import END, FIRST, HOLDOUT, walk
from servers import free_port, mlflow

from mcl.cli import main

GATES_LEFT_OUT = (
    "min_deflated_sharpe", "min_holdout_sharpe", "min_holdout_trades", "min_doubled_costs_sharpe",
    "min_plateau_frac", "max_pbo", "min_holdout_sharpe_high", "max_p_value", "max_sharpe",
    "max_trade_share", "max_session_share",
)  # fmt: skip
OPEN_GATES = (
    *(f"promotion.{gate}=null" for gate in GATES_LEFT_OUT),
    "promotion.min_trades=1",
    "promotion.min_sessions=1",
    "promotion.max_drawdown_frac=0.99",
)
DATA = (
    "data=csv",
    "data.path=walk.csv",
    "data.stamped_at=close",
    "data.timezone=UTC",
    "data.columns.symbol=symbol",
    f"data.holdout_start='{HOLDOUT}'",
)


@pytest.fixture(scope="module")
def runbooks(repository: Path) -> str:
    return (repository / "docs/runbooks.md").read_text()


def alarms(repository: Path) -> set[str]:
    """Every alarm that can reach a person: rules of Prometheus, and of CloudWatch by the last part
    of their names.
    """
    groups = yaml.safe_load((repository / "docker/prometheus/alerts.yaml").read_text())["groups"]
    found = {rule["alert"] for group in groups for rule in group["rules"]}
    cloud = (repository / "terraform/modules/observability/main.tf").read_text()
    for name in ("session", "machine"):
        block = re.search(rf"^  {name} = \{{\n(.*?)^  \}}", cloud, re.M | re.S)
        assert block
        found |= set(re.findall(r"^    ([\w-]+) +=", block[1], re.M))
    return found | set(re.findall(r'alarm_name += "\$\{var\.name\}-([\w-]+)"', cloud))


def test_every_alarm_has_its_entry_and_no_entry_is_of_none(repository: Path, runbooks: str) -> None:
    section = runbooks.split("\n## Alarms\n")[1]
    entries = re.findall(r"^### (\S+)\n\n(.+?)(?=^###|\Z)", section, re.M | re.S)
    assert {name for name, _ in entries} == alarms(repository)
    assert len(entries) == len(alarms(repository))
    for name, text in entries:
        assert re.search(r"`[^`]+`|\]\(#", text), f"{name} says nothing to do"
    assert alarms(repository) >= {
        "SessionSilent",
        "DiskFull",
        "MemoryLow",
        "ClockOff",
        "runner-dead",
        "database-space",
    }


def test_links_inside_the_page_lead_to_a_heading(runbooks: str) -> None:
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", runbooks, re.M)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", runbooks)) <= anchors


def test_commands_in_containers_are_commands_of_mcl(repository: Path, runbooks: str) -> None:
    """`docker compose run --rm mcl …` and `docker compose exec -T SERVICE mcl …`: the verb, and the
    service.
    """
    services = yaml.safe_load((repository / "docker/compose.yaml").read_text())["services"]
    seen = 0
    for line in runbooks.replace("\\\n", " ").splitlines():
        for service, typed in re.findall(
            r"docker compose [^|;]*?(?:run --rm|exec -T) (\S+) ([^|;>`]+)", line
        ):
            assert service in services, line
            if "sh -c" in typed:
                continue
            words = shlex.split(typed.split("  ")[0], comments=True)
            if service == "mcl" or words[0] == "mcl":
                main.parse(words if service == "mcl" else words[1:])
                seen += 1
        for service in re.findall(
            r"docker compose (?:logs --tail \d+|ps|restart|stop|up -d) ([a-z]+)", line
        ):
            assert service in services, line
    assert seen >= 6


# --------------------------------------------------------------------------------------- procedures


def run(folder: Path, *words: str, **more: str) -> dict[str, Any]:
    """The answer of one command line in a project."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MCL_HOME", "MLFLOW_"))
    }
    command = [sys.executable, "-m", "mcl", "--json", *words]
    done = subprocess.run(
        command,
        cwd=folder,
        env=kept | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def project(folder: Path, name: str) -> Path:
    run(folder, "init", name)
    # the same data, as both sides download them
    walk(1).to_csv(folder / name / "walk.csv", index=False)
    return folder / name


def test_what_is_promoted_here_trades_there(tmp_path: Path) -> None:
    """Through a tracking server: the other project gets the promoted file and its own data, and
    nothing else of this one.
    """
    assert FIRST < HOLDOUT < END
    (tmp_path / "server").mkdir()
    here, there = project(tmp_path, "here"), project(tmp_path, "there")
    with mlflow(tmp_path / "server") as address:
        shared = {"MLFLOW_TRACKING_URI": address}
        run(
            here,
            "backtest",
            *DATA,
            "strategy=ema_cross",
            "strategy.fast=10",
            "strategy.slow=30",
            **shared,
        )
        promoted = run(here, "promote", "last", "--to", "paper", *OPEN_GATES, **shared)
        without = [sys.executable, "-m", "mcl", "--json", "live", "paper"]
        refused = subprocess.run(
            without, cwd=there, env={**os.environ, **shared}, capture_output=True, check=False
        )
        assert refused.returncode == 1  # without the file nothing trades
        shutil.copy2(here / "conf/promoted/paper.yaml", there / "conf/promoted/paper.yaml")
        session = run(there, "live", "paper", **shared)
        assert session["differences"] == []
        assert session["decisions"] > 100
        versions = run(here, "registry", **shared)["versions"]
    assert versions[0]["version"] == promoted["version"]
    assert versions[0]["live"]["sessions"] == 1  # the record is where both can read it
    assert not (there / "mlruns/mlflow.db").exists()


def test_a_restored_project_repeats_its_audit_and_a_damaged_archive_is_refused(
    tmp_path: Path,
) -> None:
    """The drill of the page: backup, check, restore into another folder, audit the restored
    journal, turn one bit.
    """
    here = project(tmp_path, "here")
    run(here, "backtest", *DATA, "strategy=ema_cross", "strategy.fast=10", "strategy.slow=30")
    run(here, "promote", "last", "--to", "paper", *OPEN_GATES)
    session = run(here, "live", "paper")
    archive = tmp_path / "mcl.tar.zst"
    run(here, "store", "backup", "--to", str(archive))
    run(tmp_path, "store", "restore", "--check", str(archive))
    there = tmp_path / "there"
    there.mkdir()
    run(there, "store", "restore", str(archive))
    assert digest((there / "conf/promoted/paper.yaml").read_bytes()) == digest(
        (here / "conf/promoted/paper.yaml").read_bytes()
    )
    shutil.copy2(here / "walk.csv", there / "walk.csv")  # market data are not in it
    [journal] = (there / "live/paper").glob("*.sqlite")
    again = run(there, "live", "audit", journal.stem, "paper")
    assert again["decisions"] == session["decisions"]
    assert again["differences"] == session["differences"] == []
    damaged = bytearray(archive.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    archive.write_bytes(damaged)
    check = [sys.executable, "-m", "mcl", "store", "restore", "--check", str(archive)]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is damaged" in done.stderr


# ----------------------------------------------------------------------------------- small programs


@pytest.fixture
def forwarded(repository: Path) -> Iterator[tuple[int, int, subprocess.Popen[str]]]:
    """The loopback port that is handed on, the port it leads to, and the forwarder."""
    source, target = free_port(), free_port()
    command = [
        sys.executable,
        str(repository / "docker/scripts/mcl-forward-port"),
        f"127.0.0.1:{source}",
        f"127.0.0.1:{target}",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert f"127.0.0.1:{source} leads to" in process.stdout.readline()
        yield source, target, process
        process.kill()
        process.communicate()


def test_the_gateway_link_hands_on_both_ways_and_ends_when_it_is_told(
    forwarded: tuple[int, int, subprocess.Popen[str]],
) -> None:
    source, target, process = forwarded
    with socket.create_server(("127.0.0.1", target)) as server:

        def echo() -> None:
            link, _ = server.accept()
            with link:
                while data := link.recv(65536):
                    link.sendall(data.upper())

        thread = threading.Thread(target=echo)
        thread.start()
        with socket.create_connection(("127.0.0.1", source), timeout=20) as link:
            for size in (1, 100_000):
                link.sendall(b"a" * size)
                received = b""
                while len(received) < size:
                    received += link.recv(65536)
                assert received == b"A" * size
        thread.join(20)
        assert not thread.is_alive()  # the end of one side is the end of the other
    process.terminate()
    assert process.wait(20) == 0


def test_a_gateway_that_does_not_answer_is_a_closed_connection(
    forwarded: tuple[int, int, subprocess.Popen[str]],
) -> None:
    source, target, process = forwarded
    # as good
    with (
        socket.create_connection(("127.0.0.1", source), timeout=20) as link,
        contextlib.suppress(ConnectionResetError),
    ):
        assert link.recv(1) == b""
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert f"127.0.0.1:{target} does not answer" in said


def test_the_gateway_link_listens_on_loopback_only(repository: Path) -> None:
    script = str(repository / "docker/scripts/mcl-forward-port")
    for words in (
        ["0.0.0.0:4002", "gateway:4004"],
        ["127.0.0.1:4002"],
        ["127.0.0.1:4002", "gateway"],
    ):
        done = subprocess.run(
            [sys.executable, script, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, words
        assert re.search(r"must be on 127\.0\.0\.1|usage|need HOST:PORT", done.stderr)


def test_the_self_check_runs_a_backtest_and_fails_when_the_engine_does(
    repository: Path, tmp_path: Path
) -> None:
    script = str(repository / "docker/scripts/mcl-self-check")
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"one day, 1379 bars, \d+ trades\n", done.stdout)
    broken = tmp_path / "mcl"
    broken.mkdir()
    (broken / "__init__.py").write_text(
        "raise ImportError('ELF load command address/offset not page-aligned')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "not page-aligned" in done.stderr


def test_systemd_accepts_the_units_for_machines_without_docker(
    repository: Path, tmp_path: Path
) -> None:
    folder = repository / "scripts/systemd"
    units = sorted(path.name for path in folder.iterdir())
    assert units == [
        "mcl-backup.service",
        "mcl-backup.timer",
        "mcl-data.service",
        "mcl-data.timer",
        "mcl@.service",
    ]
    for path in folder.glob("*.service"):
        for line in re.findall(r"^ExecStart=\S+/bin/mcl (.+)$", path.read_text(), re.M):
            words = re.sub(
                r"\$\{MCL_BROKER\}",
                "ib_paper",
                re.sub(r"\$\{\w+\}", "2024-01-01", line.replace("%i", "paper")),
            )
            main.parse(words.replace("max-cost 2024-01-01", "max-cost 1").split())
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name in units:
        text = (
            (folder / name)
            .read_text()
            .replace("/srv/mcl/mcl.venv/bin/mcl", "/bin/true")
            .replace("User=mcl\nGroup=mcl\n", "")
        )
        (tmp_path / name.replace("@", "@paper")).write_text(text)
    names = [str(tmp_path / name.replace("@", "@paper")) for name in units]
    done = subprocess.run(
        ["systemd-analyze", "verify", *names],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    ours = [line for line in done.stderr.splitlines() if "mcl" in line]
    assert not ours, ours
