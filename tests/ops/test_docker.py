"""Image, compose file, dashboards and rules: parsed, checked against the product, and everything
that needs no engine is run.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

from mcl.cli import main
from mcl.live.ops.metrics import METRICS
from mcl.live.ops.session_log import log, log_session

# MLflow and Grafana, both behind a password
PUBLISHED = {"127.0.0.1:5000:5000", "127.0.0.1:3000:3000"}
WRITABLE = {"gateway", "gateway-live"}  # the gateway updates its own settings
PROFILES = {"research", "paper", "live", "aws-paper", "aws-live", "verbs"}


@pytest.fixture(scope="module")
def compose(repository: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((repository / "docker/compose.yaml").read_text())
    return read


def test_every_service_is_closed_down(compose: dict[str, Any]) -> None:
    assert {
        name for service in compose["services"].values() for name in service["profiles"]
    } == PROFILES
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("cap_add", []) == (["CHOWN"] if name == "gateway-settings" else []), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("read_only", False) is (name not in WRITABLE), name
        assert not service.get("privileged"), name
        assert "docker.sock" not in str(service), name
        assert not [volume for volume in service.get("volumes", ()) if volume.startswith("/:")], (
            name
        )
        assert set(service.get("ports", ())) <= PUBLISHED, name
        assert "healthcheck" in service or service["image"].startswith("${MCL_IMAGE"), name


def test_every_image_is_pinned(compose: dict[str, Any], repository: Path) -> None:
    images = {service["image"] for service in compose["services"].values()}
    for image in images:
        default = re.sub(r"^\$\{\w+:-(.+)\}$", r"\1", image)
        assert re.search(r"(:v?[\w.]*\d[\w.-]*|@sha256:[0-9a-f]{64})$", default), image
        assert "latest" not in default
    base = re.search(r"^ARG BASE_IMAGE=(\S+)", (repository / "docker/Dockerfile").read_text(), re.M)
    assert base
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base[1])


def test_secrets_are_files_and_nothing_else(
    compose: dict[str, Any], repository: Path, tmp_path: Path
) -> None:
    for name, service in compose["services"].items():
        for key, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|SECRET|TOKEN|API_KEY|ACCESS_KEY", key)
            assert not secret or key.endswith("_FILE"), f"{name}: {key}"
            assert not re.search(r"://[^/]*:[^/]*@", str(value)), f"{name}: {key}"
        assert set(service.get("secrets", ())) <= set(compose["secrets"]), name
    assert "ENV" not in re.findall(
        r"^(\w+) .*(?:PASSWORD|SECRET|API_KEY)",
        (repository / "docker/Dockerfile").read_text(),
        re.M,
    )
    made = tmp_path / "secrets"
    script = repository / "docker/scripts/make_secrets.sh"
    subprocess.run(["bash", str(script), str(made)], check=True, capture_output=True)
    assert {path.name for path in made.iterdir()} == set(compose["secrets"])
    assert made.stat().st_mode & 0o777 == 0o700
    before = {path.name: path.read_text() for path in made.iterdir()}
    assert len(before["database_password"]) == 48
    assert before["s3_user"] == before["s3_password"] == ""
    assert before["database_password"] != before["mlflow_password"]
    subprocess.run(["bash", str(script), str(made)], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in made.iterdir()} == before
    assert "/docker/secrets/" in (repository / ".gitignore").read_text()


def test_paper_is_the_default_and_live_has_no_default_key(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["gateway"]["environment"]["TRADING_MODE"] == "paper"
    assert services["gateway-live"]["environment"]["TRADING_MODE"] == "live"
    for name in ("gateway", "gateway-link", "runner"):
        assert services[name]["profiles"] == ["paper", "aws-paper"]
        assert services[f"{name}-live"]["profiles"] == ["live", "aws-live"]
    assert services["runner-live"]["environment"]["MCL_LIVE"] == "${MCL_LIVE:-}"
    assert services["runner-live"]["command"] == [
        "session.sh", "live", "4001", "broker=ib_live", "broker.live_confirm=${MCL_LIVE_CONFIRM:-}"
    ]  # fmt: skip


def test_a_session_trades_on_the_gateway_of_its_own_money(compose: dict[str, Any]) -> None:
    """The port of the session, the port that is handed on and the port of the gateway belong
    together.
    """
    services = compose["services"]
    for suffix, port, forwarded in (("", "4002", "4004"), ("-live", "4001", "4003")):
        assert services[f"runner{suffix}"]["command"][2] == port
        assert services[f"gateway-link{suffix}"]["command"] == [
            "mcl-forward-port", f"127.0.0.1:{port}", f"gateway{suffix}:{forwarded}"
        ]  # fmt: skip
        assert f"gateway-link{suffix}" in services[f"runner{suffix}"]["depends_on"]


def test_the_gateway_logs_in_again_and_a_new_image_is_not_hidden(compose: dict[str, Any]) -> None:
    for name in ("gateway", "gateway-live"):
        environment, [volume] = (
            compose["services"][name]["environment"],
            compose["services"][name]["volumes"],
        )
        assert environment["TWOFA_TIMEOUT_ACTION"] == "restart"
        assert environment["RELOGIN_AFTER_TWOFA_TIMEOUT"] == "yes"
        assert environment["EXISTING_SESSION_DETECTED_ACTION"] == "primary"
        assert volume.split(":")[1] == environment["TWS_SETTINGS_PATH"]
        assert "Jts" not in volume


def test_who_reaches_whom(compose: dict[str, Any]) -> None:
    """Session, gateway link and reader of metrics share a loopback, watchers another; the gateway
    has a network with the pod alone.
    """
    services = compose["services"]

    def sharing(owner: str) -> set[str]:
        return {
            name
            for name, service in services.items()
            if service.get("network_mode") == f"service:{owner}"
        }

    assert sharing("pod") == {
        "runner",
        "runner-live",
        "gateway-link",
        "gateway-link-live",
        "metrics",
    }
    assert sharing("watcher") == {
        "host",
        "prometheus",
        "alertmanager",
        "alarms",
        "loki",
        "shipper",
        "grafana",
    }
    for name in sharing("pod") | sharing("watcher"):
        assert "ports" not in services[name]
    listening = [
        part
        for name in sharing("watcher")
        for part in services[name].get("command", ())
        if re.search("listen-addr.*=.", part)
    ]
    assert listening
    assert all("=127.0.0.1:" in part for part in listening)

    def members(network: str) -> set[str]:
        return {
            name for name, service in services.items() if network in service.get("networks", ())
        }

    assert members("broker") == {"pod", "gateway", "gateway-live"}
    assert members("records") == {"mlflow"}
    assert members("watch") == {"pod", "watcher"}
    assert members("store") == {"postgres", "mlflow", "mcl", "pod"}
    assert compose["networks"]["store"] == compose["networks"]["watch"] == {"internal": True}
    assert services["pod"]["networks"]["watch"] == {"aliases": ["metrics"]}
    assert services["metrics"]["command"][-1] == "metrics:9465"


def mentioned(text: str) -> set[str]:
    return {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bmcl_[a-z_]+", text)
    }


def test_dashboards_and_rules_ask_for_metrics_that_exist(repository: Path) -> None:
    known = {metric.name for metric in METRICS} | {"mcl_audit_unexplained"}
    dashboard = json.loads((repository / "docker/grafana/dashboards/session.json").read_text())
    asked = {target["expr"] for panel in dashboard["panels"] for target in panel["targets"]}
    rules = (repository / "docker/prometheus/alerts.yaml").read_text()
    heartbeat = (repository / "terraform/modules/runner/files/heartbeat.sh").read_text()
    from_dashboard = set().union(*map(mentioned, asked))
    assert from_dashboard >= {metric.name for metric in METRICS} - {
        "mcl_build_info", "mcl_last_bar_close_timestamp_seconds", "mcl_status_timestamp_seconds"
    }  # fmt: skip
    expressions = "\n".join(
        rule["expr"] for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]
    )
    for source in (from_dashboard, mentioned(expressions), mentioned(heartbeat) - {"mcl_halted"}):
        assert source <= known, source - known
    sources = yaml.safe_load(
        (repository / "docker/grafana/provisioning/datasources/local.yaml").read_text()
    )["datasources"]
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} <= {
        source["uid"] for source in sources
    }


def test_alert_rules_do_what_they_say(repository: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed")
    tests = ["alerts_test.yaml", "alerts_week_test.yaml"]
    for args in (
        ["check", "rules", "alerts.yaml"],
        ["test", "rules", *tests],
        ["check", "config", "--syntax-only", "prometheus.yaml"],
    ):
        done = subprocess.run(
            ["promtool", *args],
            cwd=repository / "docker/prometheus",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_alertmanager_accepts_its_configuration_and_sends_everything_to_the_relay(
    repository: Path, compose: dict[str, Any]
) -> None:
    amtool = shutil.which("amtool")
    if amtool is None:
        pytest.skip("amtool is not installed")
    config = repository / "docker/prometheus/alertmanager.yaml"
    done = subprocess.run(
        [amtool, "check-config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for alert in ("SessionHalted", "DiskFull", "ClockOff"):
        route = [
            amtool,
            "config",
            "routes",
            "test",
            f"--config.file={config}",
            "--verify.receivers=people",
            f"alertname={alert}",
        ]
        assert subprocess.run(route, capture_output=True, check=False).returncode == 0, alert
    [receiver] = yaml.safe_load(config.read_text())["receivers"]
    relay = compose["services"]["alarms"]
    assert receiver["webhook_configs"][0]["url"] == f"http://{relay['command'][1]}/"
    assert relay["network_mode"] == compose["services"]["alertmanager"]["network_mode"]
    assert set(relay["secrets"]) == {"alert_webhook_url", "alert_urls"}


def test_every_question_of_the_dashboard_is_promql(repository: Path, tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed")
    dashboard = json.loads((repository / "docker/grafana/dashboards/session.json").read_text())
    asked = sorted({target["expr"] for panel in dashboard["panels"] for target in panel["targets"]})
    plain = [
        expr.replace("$__rate_interval", "1m").replace("$alias", "paper")
        for expr in asked
        if not expr.lstrip().startswith("{")
    ]
    assert not [expr for expr in plain if "$" in expr]
    rules = {
        "groups": [
            {
                "name": "panels",
                "rules": [{"record": f"panel:{i}", "expr": expr} for i, expr in enumerate(plain)],
            }
        ]
    }
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump(rules))
    done = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "panels.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_logs_are_shipped_from_where_sessions_write_them(repository: Path, tmp_path: Path) -> None:
    """Path, fields and port: the shipper against a line of a real session's log, and against Loki's
    own configuration.
    """
    shipper = (repository / "docker/loki/shipper.alloy").read_text()
    assert shipper.count("{") == shipper.count("}")
    before = structlog.get_config()
    try:
        with log_session(tmp_path / "project/live/paper", alias="paper"):
            log.info("begun")
    finally:
        structlog.configure(**before)
    pattern = re.search(r'"__path__" = "/([^"]+)"', shipper)
    assert pattern
    [written] = tmp_path.glob(pattern[1])
    line = json.loads(written.read_text().splitlines()[0])
    fields = re.search(r"expressions = \{(.*?)\}", shipper)
    assert fields
    assert set(re.findall(r'= "(\w+)"', fields[1])) <= line.keys()
    loki = yaml.safe_load((repository / "docker/loki/loki.yaml").read_text())
    assert (
        loki["server"]["http_listen_address"]
        == loki["server"]["grpc_listen_address"]
        == "127.0.0.1"
    )
    assert f'"http://127.0.0.1:{loki["server"]["http_listen_port"]}/loki/api/v1/push"' in shipper


def test_every_rule_says_what_to_do(repository: Path) -> None:
    groups = yaml.safe_load((repository / "docker/prometheus/alerts.yaml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "action"} <= rule["annotations"].keys(), rule["alert"]


def test_the_image_is_well_made(repository: Path) -> None:
    text = (repository / "docker/Dockerfile").read_text()
    assert text.count("\nFROM ") == 2
    assert text.rindex("USER 10001") > text.rindex("COPY")
    if shutil.which("hadolint"):
        done = subprocess.run(
            ["hadolint", "docker/Dockerfile"],
            cwd=repository,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", text, re.M)
    for name in " ".join(copied).split():
        assert (repository / name).exists(), name
    ignored = (repository / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert not [
        line
        for line in ignored
        if line.startswith("!") and ("data" in line or "secret" in line or line == "!.env")
    ]


def test_compose_itself_accepts_it(repository: Path, tmp_path: Path) -> None:
    """By the real thing, where it is installed."""
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run(
            [docker, "compose", "version"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("docker compose is not installed")
    subprocess.run(
        ["bash", str(repository / "docker/scripts/make_secrets.sh"), str(tmp_path / "s")],
        check=True,
        capture_output=True,
    )
    for profile in sorted(PROFILES):
        command = [
            docker,
            "compose",
            "-f",
            "docker/compose.yaml",
            "--profile",
            profile,
            "config",
            "--quiet",
        ]
        environment = {**os.environ, "MCL_SECRETS": str(tmp_path / "s")}
        done = subprocess.run(
            command, cwd=repository, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------- run for real


def container(repository: Path, tmp_path: Path, **more: str) -> dict[str, str]:
    """The environment of a container: scripts on the PATH, an empty project, secrets in a
    folder.
    """
    secrets, project = tmp_path / "secrets", tmp_path / "project"
    secrets.mkdir()
    project.mkdir()
    (secrets / "databento_api_key").write_text("db-planted-secret\n")
    (secrets / "mlflow_password").write_text("p@ss/word")
    (secrets / "database_password").write_text("pg:p@ss/w%rd\n")
    (secrets / "alert_webhook_url").write_text("")
    (secrets / "alert_urls").write_text("ntfys://ntfy.test/topic\n")
    folders = (tmp_path / "bin", repository / "docker/scripts", Path(sys.executable).parent)
    path = ":".join((*map(str, folders), os.environ["PATH"]))
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MCL_", "MLFLOW_", "DATABENTO_"))
    }
    return (
        kept
        | {
            "PATH": path,
            "MCL_SECRETS_FOLDER": str(secrets),
            "MCL_HOME": str(project),
            "MCL_RUNTIME_FOLDER": str(tmp_path),
        }
        | more
    )


def test_the_entrypoint_makes_a_project_and_hands_over_secrets(
    repository: Path, tmp_path: Path
) -> None:
    environment = container(repository, tmp_path)
    names = (
        "DATABENTO_API_KEY",
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
        "MCL_WEBHOOK_URL",
        "MCL_ALERT_URLS",
    )
    show = f"import os; print(*(f'{{k}}={{os.environ.get(k)}}' for k in {names}))"

    def shown(environment: dict[str, str]) -> list[str]:
        command = ["entrypoint.sh", "python", "-c", show]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
        ).stdout.split()

    assert shown(environment) == [
        "DATABENTO_API_KEY=db-planted-secret",
        "MLFLOW_TRACKING_USERNAME=admin",
        "MLFLOW_TRACKING_PASSWORD=p@ss/word",
        "MCL_WEBHOOK_URL=None",
        "MCL_ALERT_URLS=ntfys://ntfy.test/topic",
    ]
    assert (tmp_path / "project/conf/backtest.yaml").is_file()
    assert shown(environment | {"DATABENTO_API_KEY": "db-mine"})[0] == "DATABENTO_API_KEY=db-mine"
    done = subprocess.run(
        ["entrypoint.sh", "--version"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("0.")


def test_containers_that_start_together_find_a_whole_project(
    repository: Path, tmp_path: Path
) -> None:
    """One of them makes it, however slowly; the others wait. One that was killed half-way is no
    end.
    """
    slow = """case "$*" in
  *init*)
    for folder; do :; done
    mkdir -p "$folder/conf"
    for n in 1 2 3; do sleep 0.3; echo "$n" >"$folder/conf/$n.yaml"; done
    echo made >>"$MCL_RUNTIME_FOLDER/made.txt" ;;
esac"""
    fake(tmp_path, "mcl", slow)
    environment = container(repository, tmp_path)
    command = ["entrypoint.sh", "sh", "-c", 'ls "$MCL_HOME/conf" | wc -l']
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in started] == ["3"] * 4
    assert (tmp_path / "made.txt").read_text() == "made\n"
    assert sorted(path.name for path in (tmp_path / "project").iterdir()) == ["conf"]


def fake(tmp_path: Path, name: str, body: str) -> None:
    tool = tmp_path / "bin" / name
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f"#!/bin/sh\n{body}\n")
    tool.chmod(0o755)


def test_mlflow_starts_with_a_password_that_no_command_line_shows(
    repository: Path, tmp_path: Path
) -> None:
    fake(
        tmp_path,
        "mlflow",
        'echo "ARGS $*"; echo "URI $MLFLOW_BACKEND_STORE_URI"; echo "S3'
        ' ${MLFLOW_S3_ENDPOINT_URL-}"',
    )
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates")
    environment = container(
        repository, tmp_path, MCL_DATABASE_HOST="db.example", MCL_DATABASE_CA=str(bundle)
    )
    done = subprocess.run(
        ["mlflow_server.sh"], env=environment, capture_output=True, text=True, check=True
    )
    arguments = done.stdout.split("\n")[0]
    assert "--artifacts-destination /home/mcl/artifacts --serve-artifacts" in arguments
    assert "S3 \n" in done.stdout  # no address is none, and not an empty one
    elsewhere = environment | {
        "MCL_S3_ENDPOINT": "https://s3.example",
        "MCL_ARTIFACTS": "s3://bucket/mlflow",
    }
    other = subprocess.run(
        ["mlflow_server.sh"], env=elsewhere, capture_output=True, text=True, check=True
    )
    assert "S3 https://s3.example\n" in other.stdout
    assert "--artifacts-destination s3://bucket/mlflow" in other.stdout
    assert "--app-name basic-auth" in arguments
    assert "p@ss" not in arguments
    assert (
        f"URI postgresql+psycopg://mlflow:pg%3Ap%40ss%2Fw%25rd@db.example/mlflow?sslmode=verify-full&sslrootcert={bundle}"
        in done.stdout
    )
    ini = tmp_path / "auth.ini"
    assert ini.stat().st_mode & 0o777 == 0o600
    assert "default_permission = NO_PERMISSIONS" in ini.read_text()
    assert "admin_password = p@ss/word" in ini.read_text()


@pytest.mark.parametrize(
    ("host", "mode", "code", "said"),
    [
        ("db.example", "", 1, "has no certificates to verify db.example with"),
        (
            "postgres.example:5432",
            "require",
            0,
            "sslmode=require does not verify that postgres.example:5432 is your database",
        ),
        ("postgres", "", 0, ""),
        ("127.0.0.1:5433", "", 0, ""),
        ("postgres", "verify-full", 1, "has no certificates"),
    ],
)
def test_a_database_elsewhere_proves_who_it_is(
    repository: Path, tmp_path: Path, host: str, mode: str, code: int, said: str
) -> None:
    fake(tmp_path, "mlflow", 'echo "URI $MLFLOW_BACKEND_STORE_URI"')
    environment = container(
        repository,
        tmp_path,
        MCL_DATABASE_HOST=host,
        MCL_DATABASE_SSL=mode,
        MCL_DATABASE_CA=str(tmp_path / "none"),
    )
    done = subprocess.run(
        ["mlflow_server.sh"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, said in done.stderr, bool(said)) == (code, True, bool(done.stderr))
    assert ("URI" in done.stdout) == (code == 0)


def test_the_session_of_a_container_stays_and_is_its_first_process(
    repository: Path, tmp_path: Path
) -> None:
    fake(tmp_path, "mcl", 'echo "$$ $*"; exit 3')
    environment = container(repository, tmp_path, MCL_FETCH_MAX_COST_USD="2")
    command = ["session.sh", "paper", "4002", "broker=ib_paper"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        said, _ = process.communicate(timeout=60)
    words = "live paper --stay --fetch-max-cost 2 broker.port=4002 telemetry=local broker=ib_paper"
    assert said == f"{process.pid} {words}\n"  # nothing stands between the signals and it
    assert process.returncode == 3
    main.parse(words.split())
    addresses = {
        "MCL_WEBHOOK_URL": "https://hooks.test/x",
        "MCL_ALERT_URLS": "ntfys://ntfy.test/topic",
    }
    for variables, channel in (
        ([*addresses], "webhook,apprise"),
        (["MCL_ALERT_URLS"], "apprise"),
        (["MCL_WEBHOOK_URL"], "webhook"),
    ):
        chosen = environment | {name: addresses[name] for name in variables}
        again = subprocess.run(command, env=chosen, capture_output=True, text=True, check=False)
        assert f"telemetry=local alerts=[{channel}] broker=ib_paper" in again.stdout
        assert ".test" not in again.stdout + again.stderr


def test_the_metrics_page_has_the_last_audits_and_fails_without_a_session(
    repository: Path, tmp_path: Path
) -> None:
    environment = container(repository, tmp_path, MCL_METRICS_URL="http://127.0.0.1:9/metrics")
    read = subprocess.run(
        ["mcl-read-metrics"], env=environment, capture_output=True, text=True, check=False
    )
    assert read.returncode == 1
    assert "no session answers" in read.stderr


def test_health_checks_tell_a_server_that_answers_from_none(compose: dict[str, Any]) -> None:
    """Those that need nothing but Python or bash, run as they stand, on a port of this test."""
    from mcl.live.ops.http import HttpReply, serving

    checks = {
        name: service["healthcheck"]["test"]
        for name, service in compose["services"].items()
        if "test" in service.get("healthcheck", {})
    }
    ours = {
        name: check
        for name, check in checks.items()
        if check[1] == "python" or "/dev/tcp/" in check[1]
    }
    assert ours.keys() >= {"runner", "mlflow", "metrics", "gateway", "gateway-live", "shipper"}

    async def page(_: object) -> HttpReply:
        return HttpReply(b"ok")

    async def code(check: list[str], port: int) -> int:
        words = [
            re.sub(r"(?:127\.0\.0\.1|metrics)([:/])\d+", rf"127.0.0.1\g<1>{port}", word)
            for word in check[1:]
        ]
        command = ["sh", "-c", *words] if check[0] == "CMD-SHELL" else [sys.executable, *words[1:]]
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        return await process.wait()

    async def judge() -> None:
        async with serving(page, "127.0.0.1", 0) as port:
            assert {name: await code(check, port) for name, check in ours.items()} == dict.fromkeys(
                ours, 0
            )
        assert all([await code(check, port) for check in ours.values()])

    asyncio.run(judge())


def test_the_metrics_are_read_from_a_real_endpoint(repository: Path, tmp_path: Path) -> None:
    from mcl.live.ops.http import HttpReply, serving

    async def page(_: object) -> HttpReply:
        return HttpReply(b'mcl_connected{alias="paper"} 1\n')

    async def read() -> str:
        async with serving(page, "127.0.0.1", 0) as port:
            environment = container(
                repository, tmp_path, MCL_METRICS_URL=f"http://127.0.0.1:{port}/metrics"
            )
            audit = tmp_path / "project/live/paper/audit.prom"
            audit.parent.mkdir(parents=True)
            audit.write_text('mcl_audit_unexplained{alias="paper"} 0\n')
            process = await asyncio.create_subprocess_exec(
                "mcl-read-metrics", env=environment, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
            assert process.returncode == 0
            return out.decode()

    assert (
        asyncio.run(read())
        == 'mcl_connected{alias="paper"} 1\nmcl_audit_unexplained{alias="paper"} 0\n'
    )
