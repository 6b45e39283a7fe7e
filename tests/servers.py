"""Real servers of a test's or a bench's own: PostgreSQL, and MLflow's tracking server as `docker/` starts it."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "docker" / "scripts"
PATIENCE_SEC = 120.0  # a first start makes all tables


def without_postgresql() -> str:
    """Why there can be no PostgreSQL here; empty where there can."""
    if importlib.util.find_spec("psycopg") is None:
        return "mcl[postgres] is not installed"
    return "" if shutil.which("initdb") and shutil.which("pg_ctl") else "no PostgreSQL server on this machine"


def free_port() -> int:
    """Below the ports that the kernel gives to outgoing connections, which would take one of those before its server listens."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def postgresql(user: str = "mcl") -> Iterator[int]:
    """The port of an own server on loopback; `user` is its superuser and the name of an empty database."""
    import psycopg

    folder, port = Path(tempfile.mkdtemp(prefix="mcl-pg-")), free_port()  # pytest's own folders are closed to the server's user
    as_other = {"user": "nobody"} if os.geteuid() == 0 else {}  # it refuses to run as root
    if as_other:
        shutil.chown(folder, "nobody")

    def run(*command: str) -> None:
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120, cwd=folder, **as_other)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr.decode()

    data = str(folder / "data")
    run("initdb", "-D", data, "-U", user, "--auth=trust", "--no-sync")
    run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", f"-p {port} -k {folder} -c listen_addresses=127.0.0.1", "start")
    try:
        with psycopg.connect(f"postgresql://{user}@127.0.0.1:{port}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {user}")
        yield port
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@contextmanager
def mlflow(folder: Path, backend: str = "") -> Iterator[str]:
    """The address of a tracking server with its artifacts in `folder`; its runs in `backend`, or in SQLite there."""
    port = free_port()
    store = backend or f"sqlite:///{folder / 'mlflow.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"]
    with _serving(command, _quiet() | {"MLFLOW_BACKEND_STORE_URI": store}, port, folder):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def deployed_mlflow(folder: Path, database: int, password: str) -> Iterator[str]:
    """The address of what `docker/scripts/mlflow_server.sh` starts: PostgreSQL at the port `database`, nobody without the password."""
    port, secrets = free_port(), folder / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "database_password").write_text("any/one")  # the server of `postgresql` trusts its own machine
    (secrets / "mlflow_password").write_text(password)
    told = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MCL_SECRETS_FOLDER": str(secrets),
        "MCL_RUNTIME_FOLDER": str(folder),
        "MCL_DATABASE_HOST": f"127.0.0.1:{database}",
        "MCL_ARTIFACTS": str(folder / "artifacts"),
        "MCL_MLFLOW_BIND": f"127.0.0.1:{port}",
        "MCL_MLFLOW_HOSTS": f"127.0.0.1:{port}",
    }
    with _serving(["sh", str(SCRIPTS / "mlflow_server.sh")], _quiet() | told, port, folder):
        yield f"http://127.0.0.1:{port}"


def _quiet() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "MCL_"))}
    return kept | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


@contextmanager
def _serving(command: list[str], environment: dict[str, str], port: int, folder: Path) -> Iterator[None]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True)
        try:
            until = time.monotonic() + PATIENCE_SEC
            while not _answers(port):
                assert process.poll() is None, (folder / "server.log").read_text()
                assert time.monotonic() < until, (folder / "server.log").read_text()
                time.sleep(0.1)
            assert process.poll() is None, (folder / "server.log").read_text()  # else somebody else answers
            yield
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True  # it asks for a password
    except OSError:
        return False
