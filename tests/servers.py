"""Real servers of a test's or a bench's own: PostgreSQL, MLflow's tracking server as `docker/`
starts it, Ray on several nodes.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parents[1] / "docker" / "scripts"
PATIENCE_SEC = 120.0  # a first start makes all tables


def without_postgresql() -> str:
    """Why there can be no PostgreSQL here; empty where there can."""
    if importlib.util.find_spec("psycopg") is None:
        return "mcl[postgres] is not installed"
    return (
        ""
        if shutil.which("initdb") and shutil.which("pg_ctl")
        else "no PostgreSQL server on this machine"
    )


def free_port() -> int:
    """Below the ports that the kernel gives to outgoing connections, which would take one of those
    before its server listens.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class PostgresPort(int):
    """The port of a server that can be killed and started again."""

    restart: Callable[[], None]


@contextmanager
def postgresql(user: str = "mcl") -> Iterator[PostgresPort]:
    """The port of an own server on loopback; `user` is its superuser and the name of an empty
    database.
    """
    import psycopg

    # pytest's own folders are closed to the server's user
    folder, port = Path(tempfile.mkdtemp(prefix="mcl-pg-")), free_port()
    as_other = {"user": "nobody"} if os.geteuid() == 0 else {}  # it refuses to run as root
    if as_other:
        shutil.chown(folder, "nobody")

    def run(*command: str) -> None:
        done = subprocess.run(
            command,
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=120,
            cwd=folder,
            **as_other,
        )  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr.decode()

    data = str(folder / "data")
    run("initdb", "-D", data, "-U", user, "--auth=trust", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"

    def start() -> None:
        run(
            "pg_ctl",
            "-D",
            data,
            "-w",
            "-t",
            "120",
            "-l",
            str(folder / "log"),
            "-o",
            options,
            "start",
        )

    def restart() -> None:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        start()

    start()
    server = PostgresPort(port)
    server.restart = restart
    try:
        with psycopg.connect(
            f"postgresql://{user}@127.0.0.1:{port}/postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {user}")
        yield server
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@contextmanager
def mlflow(folder: Path, backend: str = "") -> Iterator[str]:
    """The address of a tracking server with its artifacts in `folder`; its runs in `backend`, or in
    SQLite there.
    """
    port = free_port()
    store = backend or f"sqlite:///{folder / 'mlflow.db'}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"]
    with _serving(command, _quiet() | {"MLFLOW_BACKEND_STORE_URI": store}, port, folder):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def deployed_mlflow(folder: Path, database: int, password: str) -> Iterator[str]:
    """The address of what `docker/scripts/mlflow_server.sh` starts: PostgreSQL at the port
    `database`, nobody without the password.
    """
    port, secrets = free_port(), folder / "secrets"
    secrets.mkdir(parents=True)
    # the server of `postgresql` trusts its own machine
    (secrets / "database_password").write_text("any/one")
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
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "MCL_"))
    }
    return kept | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


@contextmanager
def _serving(
    command: list[str], environment: dict[str, str], port: int, folder: Path
) -> Iterator[None]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
        try:
            until = time.monotonic() + PATIENCE_SEC
            while not _answers(port):
                assert process.poll() is None, (folder / "server.log").read_text()
                assert time.monotonic() < until, (folder / "server.log").read_text()
                time.sleep(0.1)
            # else somebody else answers
            assert process.poll() is None, (folder / "server.log").read_text()
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


def without_ray() -> str:
    """Why there can be no Ray cluster here; empty where there can."""
    return "" if importlib.util.find_spec("ray") else "mcl[ray] is not installed"


def documented_ray() -> list[list[str]]:
    """The words of every `ray` command of docs/scale-out.md, without the first."""
    page = SCRIPTS.parents[1] / "docs" / "scale-out.md"
    lines = [
        shlex.split(line, comments=True)
        for line in page.read_text().splitlines()
        if line.startswith("ray ")
    ]
    return [words[1:] for words in lines]


NODE = (
    "--num-cpus=1",
    "--object-store-memory=80000000",
    "--disable-usage-stats",
    "--include-log-monitor=false",
)


@dataclass
class RayNodes:
    """A cluster of nodes with an address, a home and a store of memory each, all on this machine.
    Nothing of it touches another cluster.
    """

    folder: Path
    network: str = field(
        default_factory=lambda: f"127.{random.randrange(1, 250)}.{random.randrange(1, 250)}"
    )
    port: int = field(default_factory=free_port)
    _count: int = 0

    @property
    def address(self) -> str:
        return f"{self.network}.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process on one of the hosts finds: the home with the token, and the mode; no
        address, no project.
        """
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("RAY_", "MCL_", "MLFLOW_"))
        }
        return kept | {
            "HOME": str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def ray(self, *words: str) -> str:
        """Run the command `ray` as on a host of the cluster; its standard output."""
        command = [str(Path(sys.executable).parent / "ray"), *words]
        # no pipe: what it starts would hold that open
        with (self.folder / "ray.log").open("ab") as log:
            done = subprocess.run(
                command,
                env=self.environment,
                stdout=log,
                stderr=log,
                timeout=PATIENCE_SEC * 2,
                cwd=self.folder,
                check=False,
            )
        said = (self.folder / "ray.log").read_text()
        assert done.returncode == 0, said[-4000:]
        return said

    def start_head(self, *words: str) -> None:
        """Run `ray start --head …` of the page, with what keeps this cluster apart from others of
        the machine.
        """
        self._count = 1
        self.ray(
            *self._here(words),
            f"--temp-dir={self.folder / 'ray'}",
            "--include-dashboard=false",
            *NODE,
        )

    def start_node(self, *words: str) -> str:
        """The address of another host that has joined by `ray start --address …` of the page."""
        self._count += 1
        host = f"{self.network}.{self._count}"
        self.ray(*self._here(words), f"--node-ip-address={host}", *NODE)
        return host

    def _here(self, words: Sequence[str]) -> list[str]:
        return [
            word.replace("10.0.0.5", f"{self.network}.1").replace("6379", str(self.port))
            for word in words
        ]

    def processes(self, kind: str = "", host: str = "") -> list[Any]:
        """The running processes of this cluster alone: gcs_server, raylet …, of one host or of
        all.
        """
        import psutil

        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = process.cmdline()
                if str(self.folder) in " ".join(words) and kind in Path(words[0]).name:
                    found += [process] if not host or f"--node_ip_address={host}" in words else []
        return found

    def kill(self, kind: str = "", host: str = "") -> int:
        """Kill -9; how many there were."""
        doomed = self.processes(kind, host)
        for process in doomed:
            with suppress(ProcessLookupError):
                os.kill(process.pid, 9)
        return len(doomed)


@contextmanager
def ray_cluster(nodes: int = 1) -> Iterator[RayNodes]:
    """A head and further nodes of one CPU each, with a token in their home, begun by the commands
    of docs/scale-out.md.
    """
    # short: the names of sockets in it may have 107 characters
    folder = Path(tempfile.mkdtemp(prefix="mclray"))
    cluster = RayNodes(folder)
    try:
        token, head, *others = documented_ray()
        cluster.ray(*token)
        cluster.start_head(*head)
        for _ in range(nodes - 1):
            cluster.start_node(*others[0])
        yield cluster
    finally:
        for _ in range(50):
            if not cluster.kill():
                break
            time.sleep(0.2)
        shutil.rmtree(folder, ignore_errors=True)
