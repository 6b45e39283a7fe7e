"""The first boot of a deployment, rehearsed: the rendered boot script on a machine of its own, a
real Docker daemon, the real compose file.

Images are stand-ins made from this machine's busybox and Python, since no registry is asked. The
scripts in them are those of docker/scripts.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from . import machine as machines
from .machine import Machine

VOLUME = "vol0123456789abcdef0"
LOOKS = 4  # how often the boot script finds no data volume before it is attached
COMPOSE = (
    "/usr/bin/docker",
    "compose",
    "--env-file",
    "/srv/mcl/deploy/compose.env",
    "-f",
    "/srv/mcl/deploy/compose.yaml",
)
METADATA = "http://169.254.169.254/role"
# Options of the daemon's log drivers (docs.docker.com/engine/logging/drivers): one that a driver
# does not know is refused at create.
GENERAL_OPTIONS = {"mode", "max-buffer-size", "labels", "labels-regex", "env", "env-regex", "tag"}
DRIVER_OPTIONS = {
    "local": {"max-size", "max-file", "compress"},
    "json-file": {"max-size", "max-file", "compress"},
    "awslogs": {
        "awslogs-region", "awslogs-endpoint", "awslogs-group", "awslogs-create-group",
        "awslogs-create-stream", "awslogs-stream", "awslogs-datetime-format",
        "awslogs-multiline-pattern", "awslogs-credentials-endpoint",
        "awslogs-force-flush-interval-seconds", "awslogs-max-buffered-events", "awslogs-format",
        "tag",
    },
}  # fmt: skip


# ---------------------------------------------------------------------------------------- rendering


def render(text: str, values: dict[str, str]) -> str:
    """Fill in a template as terraform does; the templates use plain names only."""
    assert "%{" not in text
    assert "$${" not in text
    return re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], text)


def boot_values(repository: Path, session: str = "runner") -> dict[str, str]:
    files = repository / "terraform/modules/runner/files"
    return {
        "region": "us-east-1",
        "registry": "registry.example",
        "deploy_uri": "s3://acme-artifacts/deploy/",
        "log_group": "/acme/stack",
        "metric_namespace": "acme",
        "secrets": (
            "database=arn:rds ib_password=arn:ib mlflow_password=arn:mlflow"
            " grafana_password=arn:grafana databento_api_key=arn:databento"
            " alert_webhook_url=arn:webhook alert_urls=arn:urls"
        ),
        "session": session,
        "volume": VOLUME,
        "heartbeat": (files / "heartbeat.sh").read_text(),
        "fetch_secrets": (files / "fetch_secrets.sh").read_text(),
    }


def stack_values(environment: str = "paper") -> dict[str, str]:
    money = {
        "paper": "MCL_IB_ACCOUNT=DU1234567",
        "live": "MCL_IB_LIVE_ACCOUNT=U1234567\nMCL_LIVE_CONFIRM=U1234567\nMCL_LIVE=1",
    }
    return {
        "money": money[environment],
        "image": "mcl:stub",
        "gateway_image": "gateway:stub",
        "ib_username": "login",
        "database_host": "db.example",
        "bucket": "acme-artifacts",
        "environment": environment,
    }


def rendered(repository: Path, name: str, values: dict[str, str]) -> str:
    return render((repository / "terraform/modules/runner/files" / name).read_text(), values)


def daemon_settings(script: str) -> dict[str, Any]:
    """Return the daemon.json that a boot script writes."""
    body = re.search(r"cat >/etc/docker/daemon\.json <<'JSON'\n(.*?)\nJSON\n", script, re.S)
    assert body
    settings: dict[str, Any] = json.loads(body[1])
    return settings


def test_templates_name_exactly_what_terraform_gives_them(repository: Path) -> None:
    main = (repository / "terraform/modules/runner/main.tf").read_text()
    for name, values in (
        ("start.sh.tftpl", boot_values(repository)),
        ("compose.env.tftpl", stack_values()),
    ):
        call = re.search(rf'files/{re.escape(name)}", \{{\n(.*?)\n  \}}\)', main, re.S)
        assert call
        given = set(re.findall(r"^    (\w+) +=", call[1], re.M))
        text = (repository / "terraform/modules/runner/files" / name).read_text()
        assert given == set(re.findall(r"\$\{(\w+)\}", text)) == values.keys()


def test_terraform_renders_as_this_test_does(
    repository: Path, terraform: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    del terraform  # it is there
    values = boot_values(repository)
    (tmp_path / "values.json").write_text(json.dumps(values))
    template = repository / "terraform/modules/runner/files/start.sh.tftpl"
    question = (
        f'base64encode(templatefile("{template}", jsondecode(file("{tmp_path}/values.json"))))'
    )
    done = subprocess.run(
        ["terraform", "console", "-no-color"],
        input=question,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    decoded = subprocess.run(
        ["base64", "-d"], input=json.loads(done.stdout), capture_output=True, text=True, check=True
    )
    assert decoded.stdout == rendered(repository, "start.sh.tftpl", values)


# ----------------------------------------------------------------------- parsed, where nothing runs


def test_one_place_decides_where_logs_go(repository: Path) -> None:
    """Driver by compose, options by the daemon: no service asks for an option, the daemon asks only
    for those that its driver knows.
    """
    services = yaml.safe_load((repository / "docker/compose.yaml").read_text())["services"]
    assert {str(service["logging"]) for service in services.values()} == {
        str({"driver": "${MCL_LOG_DRIVER:-local}"})
    }
    settings = daemon_settings(rendered(repository, "start.sh.tftpl", boot_values(repository)))
    assert set(settings["log-opts"]) <= DRIVER_OPTIONS[settings["log-driver"]] | GENERAL_OPTIONS
    environment = dict(
        line.split("=", 1)
        for line in rendered(repository, "compose.env.tftpl", stack_values()).splitlines()
    )
    assert environment["MCL_LOG_DRIVER"] == settings["log-driver"]


def test_the_boot_script_is_bash_and_its_units_are_units(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "start.sh"
    script.write_text(rendered(repository, "start.sh.tftpl", boot_values(repository)))
    subprocess.run(["bash", "-n", str(script)], check=True)
    for name, body in re.findall(
        r"cat >/etc/systemd/system/(\S+) <<'UNIT'\n(.*?)\nUNIT\n", script.read_text(), re.S
    ):
        sections = set(re.findall(r"^\[(\w+)\]$", body, re.M))
        assert sections <= {"Unit", "Service", "Timer", "Install"}, name
        assert all(re.match(r"\[\w+\]$|[A-Z]\w+=.", line) for line in body.splitlines()), name
    shellcheck = shutil.which("shellcheck")
    if shellcheck:
        done = subprocess.run(
            [shellcheck, str(script)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


# ------------------------------------------------------------------------------------- run for real

PLAY = {
    # the first call meets a busy mirror
    "apt-get": 'echo "$*" >>/play/apt-get.txt; [ "$(wc -l </play/apt-get.txt)" -gt 1 ]',
    "snap": 'echo "$*" >>/play/snap.txt',
    "timedatectl": 'echo "$*" >>/play/timedatectl.txt',
    "curl": (
        """case "$*" in
  *"-o /srv/mcl/database-ca.pem.part https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem")
    echo "the certificates of the cloud" >/srv/mcl/database-ca.pem.part ;;
  *) echo "curl $*: not played" >&2; exit 2 ;;
esac"""
    ),
    "boot/sleep": "exec busybox sleep 0.01",
    "systemctl": (
        """echo "$*" >>/play/systemctl.txt
[ "$*" = "restart docker" ] || exit 0
if [ -s /var/run/docker.pid ]; then
  kill "$(cat /var/run/docker.pid)"
  for turn in $(seq 100); do [ -e /var/run/docker.pid ] || break; busybox sleep 0.2; done
fi
setsid dockerd >>/var/log/dockerd.log 2>&1 </dev/null &
for turn in $(seq 150); do
  /usr/bin/docker version >/dev/null 2>&1 && exit 0
  busybox sleep 0.2
done
tail -20 /var/log/dockerd.log >&2
exit 1"""
    ),
    "docker": (
        """if [ "$1" = login ]; then
  echo "$*: $(cat)" >>/play/login.txt
  exit 0
fi
exec /usr/bin/docker "$@" """
    ),
    "aws": (
        """case "$*" in
  "s3 sync --delete --only-show-errors s3://acme-artifacts/deploy/ /srv/mcl/deploy")
    mkdir -p /srv/mcl/deploy && cp -R /play/deploy/. /srv/mcl/deploy ;;
  "secretsmanager get-secret-value --secret-id arn:rds"*)
    echo '{"username": "mlflow", "password": "pg"}' ;;
  "secretsmanager get-secret-value --secret-id arn:databento"*)
    echo ResourceNotFoundException >&2; exit 254 ;;
  "secretsmanager get-secret-value"*) echo secret ;;
  "ecr get-login-password") echo token ;;
  *) echo "aws $*: not played" >&2; exit 2 ;;
esac"""
    ),
}

STUBS = {
    "/usr/local/bin/mcl": (
        """#!/usr/bin/env python3
import http.server, os, signal, socket, sys, time
words = sys.argv[1:]
if "init" in words:
    os.makedirs(f"{words[-1]}/conf")
elif words[0] == "live":
    port = int(next(word for word in words if word.startswith("broker.port=")).split("=")[1])
    def stop(*_):
        print("the session ended in order", flush=True)
        os._exit(0)
    signal.signal(signal.SIGTERM, stop)
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
                answer = link.recv(64).decode().strip()
                if answer:
                    break
        except OSError:
            pass
        time.sleep(0.5)
    print(f"mcl {' '.join(words)}: {answer} answers on 127.0.0.1:{port}", flush=True)
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'mcl_connected{alias="paper"} 1\\n')
        def log_message(self, *_):
            pass
    http.server.HTTPServer(("127.0.0.1", 9464), Page).serve_forever()
"""
    ),
    "/usr/local/bin/mlflow": (
        """#!/usr/bin/env python3
import http.server, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
print(" ".join(sys.argv), flush=True)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"OK")
    def log_message(self, *_):
        pass
http.server.HTTPServer(("0.0.0.0", port), Page).serve_forever()
"""
    ),
    "/stub/gateway.py": (
        """import os, socket, threading
settings = os.environ["TWS_SETTINGS_PATH"]
# fails when the volume is not the gateway's own
open(f"{settings}/jts.ini", "w").write(os.environ["TIME_ZONE"])
assert open(os.environ["TWS_PASSWORD_FILE"]).read().strip() == "secret"
def serve(address):
    with socket.create_server(address) as server:
        while True:
            link, _ = server.accept()
            with link:
                link.sendall(b"the gateway\\n")
paper = os.environ["TRADING_MODE"] == "paper"
threading.Thread(target=serve, args=(("127.0.0.1", 4002 if paper else 4001),)).start()
serve(("0.0.0.0", 4004 if paper else 4003))  # as the image's own forwarder does
"""
    ),
    "/stub/serve.sh": '#!/bin/sh\nexec httpd -f -p "$1" -h /stub/www\n',
    "/stub/www/-/ready": "ready\n",
    "/stub/www/api/health": "ok\n",
    "/stub/www/metrics": "node_time_seconds 1\n",
    "/usr/bin/loki": "#!/bin/sh\nexit 0\n",
    "/usr/local/bin/mcl-relay-alarms": (
        '#!/bin/sh\nmkdir -p /tmp/www && : >/tmp/www/health && exec httpd -f -p "$1" -h /tmp/www\n'
    ),
    "/usr/local/bin/mcl-self-check": "#!/bin/sh\necho one day\n",
    "/usr/local/bin/pg_isready": "#!/bin/sh\nexit 0\n",
}
LISTENS = {  # each image's own address
    "prom/prometheus": "127.0.0.1:9090",
    "prom/alertmanager": "127.0.0.1:9093",
    "prom/node-exporter": "127.0.0.1:9100",
    "grafana/grafana": "0.0.0.0:3000",
    "grafana/loki": "127.0.0.1:3100",
    "grafana/alloy": "127.0.0.1:12345",
    "postgres": "0.0.0.0:5432",
}
SCRIPTS = (
    "entrypoint.sh",
    "session.sh",
    "mlflow_server.sh",
    "mcl-read-metrics",
    "mcl-forward-port",
)


@dataclass(frozen=True)
class Stack:
    """A booted machine and its stack."""

    machine: Machine
    boot: subprocess.CompletedProcess[str]

    def compose(
        self, *words: str, check: bool = True, timeout: float = 300, **more: str
    ) -> subprocess.CompletedProcess[str]:
        return self.machine.run(*COMPOSE, *words, check=check, timeout=timeout, **more)

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        return self.compose("exec", "-T", service, *command, check=False)

    def containers(self) -> dict[str, dict[str, Any]]:
        """Every container of the stack by its service."""
        listed = self.compose("ps", "--all", "--format", "json").stdout
        return {
            entry["Service"]: entry for entry in map(json.loads, filter(None, listed.splitlines()))
        }


@pytest.fixture(scope="module")
def booted(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The boot script has run on a machine that got its data volume late; Docker runs as it was
    told to.
    """
    reason = machines.missing()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("boot")
    with machines.machine(folder) as host:
        for name, body in PLAY.items():
            host.write(f"/play/{name}", f"#!/bin/bash\n{body}\n")
        look = f"""n=$(($(cat /play/looks.txt 2>/dev/null || echo 0) + 1))
echo "$n" >/play/looks.txt
echo "/dev/root-disk vol0000"
if [ "$n" -gt {LOOKS} ]; then echo "{host.disk} {VOLUME}"; fi"""
        host.write("/play/lsblk", f"#!/bin/bash\n{look}\n")
        shutil.copytree(repository / "docker", host.root / "play/deploy")
        environment = rendered(repository, "compose.env.tftpl", stack_values())
        (host.root / "play/deploy/compose.env").write_text(environment)
        host.write("/start.sh", rendered(repository, "start.sh.tftpl", boot_values(repository)))
        yield Stack(host, host.run("bash", "/start.sh", PATH=f"/play/boot:{machines.PATH}"))


@pytest.fixture(scope="module")
def stack(booted: Stack, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The stack runs: prepared and started as the unit says, but with logs that need no cloud."""
    host = booted.machine
    build_images(host, repository, tmp_path_factory.mktemp("image"))
    _serve_metadata(host)
    unit = host.read("/etc/systemd/system/mcl.service")
    prepare = re.search(r"^ExecStartPre=(.+)$", unit, re.M)
    start = re.search(r"^ExecStart=(.+)$", unit, re.M)
    assert prepare
    assert start
    assert start[1].split()[: len(COMPOSE)] == list(COMPOSE)
    # With the cloud's log driver, for both kinds of money: what Docker refuses, it refuses when a
    # container is made.
    for environment in ("live", "paper"):
        host.write(
            "/play/deploy/compose.env",
            rendered(repository, "compose.env.tftpl", stack_values(environment)),
            0o644,
        )
        host.run(*prepare[1].split())
        booted.compose("create")
        drivers = host.run(
            "bash",
            "-c",
            "docker inspect --format '{{.HostConfig.LogConfig.Type}}' $(docker ps -aq) | sort -u",
        ).stdout
        assert drivers == "awslogs\n"
        if environment == "live":
            command = booted.compose("config", "--format", "json").stdout
            assert_live(json.loads(command)["services"])
            booted.compose("down", "--volumes")
    host.run(*start[1].split(), "--detach", MCL_LOG_DRIVER="local", timeout=600)
    return booted


def assert_live(services: dict[str, Any]) -> None:
    """The live stack trades on the live gateway, with the keys that the plan was given."""
    runner = services["runner-live"]
    assert runner["command"] == [
        "session.sh",
        "live",
        "4001",
        "broker=ib_live",
        "broker.live_confirm=U1234567",
    ]
    assert runner["environment"]["MCL_LIVE"] == "1"
    assert runner["environment"]["MCL_IB_LIVE_ACCOUNT"] == "U1234567"
    assert services["gateway-live"]["environment"]["TRADING_MODE"] == "live"
    assert services["gateway-link-live"]["command"] == [
        "mcl-forward-port",
        "127.0.0.1:4001",
        "gateway-live:4003",
    ]
    assert not {"runner", "gateway", "gateway-link"} & services.keys()


def build_images(host: Machine, repository: Path, folder: Path) -> None:
    """Make the stand-ins under the names that the compose file asks for."""
    packed = machines.image_files(folder)
    shutil.copy2(packed, host.root / "play/image.tar")
    host.run("docker", "import", "/play/image.tar", "stub:base")
    context = host.root / "play/context"
    for name, text in STUBS.items():
        target = context / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o755)
    for name in SCRIPTS:
        shutil.copy2(repository / "docker/scripts" / name, context / "usr/local/bin" / name)
    recipe = (repository / "docker/Dockerfile").read_text()
    variables = re.search(r"^ENV .*?(?=^USER)", recipe, re.S | re.M)
    assert variables
    tail = variables[0].replace("/opt/mcl/bin:$PATH", "/usr/local/bin:/usr/bin:/bin")
    own = (
        f"FROM stub:base\nCOPY . /\n{tail}USER 10001\nWORKDIR /home/mcl/project\nENTRYPOINT"
        ' ["entrypoint.sh"]\nCMD ["mcl", "--help"]\n'
    )
    _build(host, "mcl:stub", own)
    _build(
        host,
        "gateway:stub",
        'FROM mcl:stub\nUSER 1000\nENTRYPOINT ["python", "/stub/gateway.py"]\nCMD []\n',
    )
    services = yaml.safe_load((repository / "docker/compose.yaml").read_text())["services"]
    for image in {service["image"] for service in services.values()}:
        if image.startswith("${"):
            continue
        address = LISTENS[image.split(":")[0]]
        _build(
            host,
            image,
            f'FROM mcl:stub\nENTRYPOINT ["/bin/sh", "/stub/serve.sh", "{address}"]\nCMD []\n',
        )


def _build(host: Machine, name: str, recipe: str) -> None:
    host.write("/play/context/Dockerfile", recipe, 0o644)
    host.run("docker", "build", "--quiet", "--tag", name, "/play/context", DOCKER_BUILDKIT="0")


def _serve_metadata(host: Machine) -> None:
    """Put the metadata service of a cloud behind the machine: a network of its own, one hop away,
    as on the real thing.
    """
    host.write("/play/meta/role", "the machine's role\n", 0o644)
    host.run(
        "bash",
        "-ec",
        """ip netns add cloud
        ip link add up0 type veth peer name down0 netns cloud
        ip addr add 192.0.2.1/30 dev up0
        ip link set up0 up
        ip -n cloud link set lo up
        ip -n cloud addr add 192.0.2.2/30 dev down0
        ip -n cloud link set down0 up
        ip -n cloud addr add 169.254.169.254/32 dev lo
        ip -n cloud route add default via 192.0.2.1
        ip route add 169.254.169.254 via 192.0.2.2
        setsid ip netns exec cloud busybox httpd -p 169.254.169.254:80 -h /play/meta \\
            >/dev/null 2>&1 </dev/null""",
    )


def settled(stack: Stack, wait_sec: float = 300) -> dict[str, dict[str, Any]]:
    """Wait until every container is healthy, or runs without a health check, or has done its one
    thing.
    """
    deadline = time.monotonic() + wait_sec
    while True:
        containers = stack.containers()
        waiting = [name for name, entry in containers.items() if not _is_well(entry)]
        if not waiting:
            return containers
        if time.monotonic() > deadline:
            logs = stack.compose("logs", "--no-color", "--tail", "20", *waiting, check=False).stdout
            raise AssertionError(
                f"not well after {wait_sec:g} s:"
                f" {[(n, containers[n]['Status']) for n in waiting]}\n{logs}"
            )
        time.sleep(1)


def _is_well(entry: dict[str, Any]) -> bool:
    if entry["Service"] in ("self-check", "gateway-settings"):
        return bool(entry["State"] == "exited" and entry["ExitCode"] == 0)
    return bool(entry["State"] == "running" and entry["Health"] in ("", "healthy"))


def test_the_boot_waits_for_its_volume_and_formats_it_once(booted: Stack) -> None:
    host = booted.machine
    assert int(host.read("/play/looks.txt")) == LOOKS + 1
    assert " /srv/mcl ext4 " in host.read("/proc/mounts")
    assert host.read("/etc/fstab").count("LABEL=mcl") == 1
    host.write("/srv/mcl-marker", "")
    host.run("touch", "/srv/mcl/marker")
    # the first try failed
    assert host.read("/play/apt-get.txt").splitlines()[:2] == ["update -qq", "update -qq"]
    host.run("bash", "/start.sh", PATH=f"/play/boot:{machines.PATH}")  # it may be repeated
    host.run("test", "-e", "/srv/mcl/marker")
    assert host.read("/etc/fstab").count("LABEL=mcl") == 1
    calls = host.read("/play/systemctl.txt").splitlines()
    assert calls[-1] == "enable --now mcl.service mcl-heartbeat.timer"


def test_real_lsblk_knows_the_columns(booted: Stack) -> None:
    done = booted.machine.run("/usr/bin/lsblk", "-dnpo", "NAME,SERIAL")
    assert booted.machine.disk in done.stdout.split()


def test_a_volume_that_never_comes_ends_the_boot_with_a_sentence(
    booted: Stack, repository: Path
) -> None:
    host = booted.machine
    values = boot_values(repository) | {"volume": "vol0aaaaaaaaaaaaaaaa"}
    host.write("/never.sh", rendered(repository, "start.sh.tftpl", values))
    before = int(host.read("/play/looks.txt"))
    done = host.run("bash", "/never.sh", check=False, PATH=f"/play/boot:{machines.PATH}")
    assert done.returncode == 1
    assert "the data volume vol0aaaaaaaaaaaaaaaa was not attached within ten minutes" in done.stderr
    assert int(host.read("/play/looks.txt")) == before + 120


def test_systemd_accepts_the_units(booted: Stack) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = booted.machine.run(
        "systemd-analyze", "verify", "/etc/systemd/system/mcl.service", check=False
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "mcl" in line]
    assert not ours, done.stderr


def test_docker_runs_as_the_boot_script_says_and_refuses_what_compose_once_asked_for(
    stack: Stack,
) -> None:
    host = stack.machine
    told = json.loads(host.run("docker", "info", "--format", "{{json .}}").stdout)
    assert told["LoggingDriver"] == "awslogs"
    assert told["DockerRootDir"] == "/srv/mcl/docker"
    refused = host.run("docker", "create", "--log-opt", "max-size=20m", "mcl:stub", check=False)
    assert refused.returncode
    assert "unknown log opt 'max-size' for awslogs log driver" in refused.stderr


def test_the_stack_comes_up_and_the_session_reaches_its_gateway(stack: Stack) -> None:
    containers = settled(stack)
    assert containers.keys() == {
        "mlflow", "self-check", "pod", "gateway-settings", "gateway", "gateway-link", "runner",
        "metrics", "watcher", "host", "prometheus", "alertmanager", "alarms", "loki", "shipper",
        "grafana",
    }  # fmt: skip
    said = stack.compose("logs", "--no-color", "--no-log-prefix", "runner").stdout
    words = (
        "live paper --stay --fetch-max-cost 1 broker.port=4002 telemetry=local"
        " alerts=[webhook,apprise] broker=ib_paper"
    )
    assert f"mcl {words}: the gateway answers on 127.0.0.1:4002" in said
    assert "login --username AWS --password-stdin registry.example: token" in stack.machine.read(
        "/play/login.txt"
    )
    page = stack.machine.run(
        "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:3000/api/health"
    ).stdout
    assert page == "ok\n"
    secrets = stack.machine.run("ls", "/run/mcl/secrets").stdout.split()
    assert set(secrets) >= {
        "database_password",
        "ib_password",
        "databento_api_key",
        "alert_webhook_url",
        "alert_urls",
    }


def test_the_gateway_is_reached_by_the_session_alone(stack: Stack) -> None:
    settled(stack)
    listed = stack.machine.run(
        "docker",
        "inspect",
        "--format",
        "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
        "mcl-gateway-1",
    )
    address = listed.stdout.strip()
    reach = (
        "python",
        "-c",
        "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)",
    )
    assert stack.inside("runner", *reach, "gateway", "4004").returncode == 0
    for service in ("mlflow", "prometheus", "watcher"):
        for host in ("gateway", address):
            assert stack.inside(service, *reach, host, "4004").returncode != 0, (
                f"{service} reaches {host}"
            )
    # and the session's own loopback is not the gateway's
    assert stack.inside("gateway", *reach, "127.0.0.1", "9464").returncode != 0


def test_only_mlflow_gets_the_role_of_the_machine(stack: Stack) -> None:
    settled(stack)
    ask = (
        "python",
        "-c",
        "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=3).read().decode())",
        METADATA,
    )
    assert "the machine's role" in stack.inside("mlflow", *ask).stdout
    for service in ("gateway", "runner", "grafana"):
        assert "role\n" not in stack.inside(service, *ask).stdout, service
    rules = stack.machine.run("iptables", "-S", "DOCKER-USER").stdout
    assert rules.count("169.254.169.254") == 1  # prepared twice, written once


def test_the_watchers_read_the_metrics_and_nobody_else_does(stack: Stack) -> None:
    settled(stack)
    read = (
        "python",
        "-c",
        "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=3).read().decode())",
    )
    page = stack.inside("prometheus", *read, "http://metrics:9465/session")
    assert 'mcl_connected{alias="paper"} 1' in page.stdout
    assert stack.inside("prometheus", *read, "http://metrics:9465/audits").returncode == 0
    assert stack.inside("mlflow", *read, "http://pod:9465/session").returncode != 0
    assert stack.inside("gateway", *read, "http://pod:9465/session").returncode != 0


def test_the_heartbeat_asks_the_running_session(stack: Stack) -> None:
    settled(stack)
    unit = stack.machine.read("/etc/systemd/system/mcl-heartbeat.service")
    command = re.search(r"^ExecStart=(.+)$", unit, re.M)
    assert command
    words = command[1].split()
    page = stack.machine.run(*words[2:])  # the reader, without the sender
    assert "mcl_connected" in page.stdout


def test_a_stopped_session_ends_in_order(stack: Stack) -> None:
    settled(stack)
    stack.compose("stop", "--timeout", "60", "runner")
    said = stack.compose("logs", "--no-color", "--no-log-prefix", "runner").stdout
    assert "the session ended in order" in said
    assert stack.containers()["runner"]["ExitCode"] == 0
    stack.compose("start", "runner")
    settled(stack)


def test_a_new_gateway_image_takes_effect_and_keeps_its_settings(stack: Stack) -> None:
    settled(stack)
    _build(
        stack.machine,
        "gateway:next",
        "FROM gateway:stub\nUSER 0\nRUN echo next >/home/ibgateway/program\nUSER 1000\n",
    )
    stack.compose(
        "up", "--detach", GATEWAY_IMAGE="gateway:next", MCL_LOG_DRIVER="local", timeout=600
    )
    settled(stack)
    assert stack.inside("gateway", "cat", "/home/ibgateway/program").stdout == "next\n"
    assert (
        stack.inside("gateway", "cat", "/home/ibgateway/tws_settings/jts.ini").stdout
        == "America/New_York"
    )
