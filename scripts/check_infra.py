"""make infra: docker/ and terraform/ through every checker that this machine has. Exit code 1 when
one of them objects.

Looked for on the PATH: terraform, checkov, hadolint, promtool, amtool, docker compose, shellcheck,
systemd-analyze, bandit.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [
    *sorted(str(p) for folder in ("docker", "terraform") for p in (ROOT / folder).rglob("*.sh")),
    ".ci/run",
]
PROFILES = ("research", "paper", "live", "aws-paper", "aws-live", "verbs")
COMPOSE = [
    "-f",
    "docker/compose.yaml",
    *(word for name in PROFILES for word in ("--profile", name)),
    "config",
    "--quiet",
]
RULE_TESTS = ["docker/prometheus/alerts_test.yaml", "docker/prometheus/alerts_week_test.yaml"]
CHECKS = (  # name, program, arguments
    ("terraform format", "terraform", ["-chdir=terraform", "fmt", "-check", "-recursive"]),
    ("terraform plans", sys.executable, ["-m", "pytest", "-q", "tests/ops/test_terraform.py"]),
    (
        "checkov",
        "checkov",
        ["-d", "terraform", "--skip-download", "--quiet", "--compact", "--framework", "terraform"],
    ),
    (
        "checkov, image",
        "checkov",
        [
            "-f",
            "docker/Dockerfile",
            "--skip-download",
            "--quiet",
            "--compact",
            "--framework",
            "dockerfile",
        ],
    ),
    (
        "checkov, workflow",
        "checkov",
        [
            "-d",
            ".github",
            "--skip-download",
            "--quiet",
            "--compact",
            "--framework",
            "github_actions",
        ],
    ),
    ("hadolint", "hadolint", ["docker/Dockerfile"]),
    ("alert rules", "promtool", ["check", "rules", "docker/prometheus/alerts.yaml"]),
    ("alert rules, tested", "promtool", ["test", "rules", *RULE_TESTS]),
    (
        "prometheus",
        "promtool",
        ["check", "config", "--syntax-only", "docker/prometheus/prometheus.yaml"],
    ),
    (
        "alertmanager",
        sys.executable,
        ["-m", "pytest", "-q", "tests/ops/test_docker.py", "-k", "alertmanager"],
    ),
    ("first boot", sys.executable, ["-m", "pytest", "-q", "tests/ops/test_first_boot.py"]),
    (
        "systemd units",
        sys.executable,
        ["-m", "pytest", "-q", "tests/ops/test_runbooks.py", "-k", "systemd"],
    ),
    ("compose", "docker", ["compose", *COMPOSE]),
    ("shell", "shellcheck", SCRIPTS),
    ("licences", sys.executable, ["scripts/sbom.py", "--licences"]),
    ("bandit", "bandit", ["-q", "-r", "mcl", "-c", "pyproject.toml"]),
)


def main() -> int:
    failed = []
    for name, program, args in CHECKS:
        path = shutil.which(program)
        if path is None:
            print(f"{name:<20} not checked: {program} is not installed")
            continue
        done = subprocess.run([path, *args], cwd=ROOT, capture_output=True, text=True, check=False)
        if program == "docker" and "docker [OPTIONS] COMMAND" in done.stderr:
            print(f"{name:<20} not checked: docker has no compose plugin")
            continue
        print(f"{name:<20} {'ok' if done.returncode == 0 else 'FAILED'}")
        if done.returncode:
            failed.append(name)
            print((done.stdout + done.stderr)[-4000:])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
