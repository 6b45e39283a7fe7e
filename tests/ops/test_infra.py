"""docker/ and terraform/ through the checkers of `make infra`, one test each."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
# tests/ops/test_terraform.py, tests/security/test_sbom.py
ELSEWHERE = {"terraform plans", "licences"}


def check_infra() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "check_infra", ROOT / "scripts" / "check_infra.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHECKS = [check for check in check_infra().CHECKS if check[0] not in ELSEWHERE]


# those that are tests run by themselves
PROGRAMS = [check for check in CHECKS if "pytest" not in check[2]]


@pytest.mark.parametrize(
    ("name", "program", "args"), PROGRAMS, ids=[check[0] for check in PROGRAMS]
)
def test_a_checker_has_nothing_to_object_to(name: str, program: str, args: list[str]) -> None:
    path = program if program == sys.executable else shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    if (
        program == "docker"
        and subprocess.run(
            [path, "compose", "version"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("docker compose is not installed")
    done = subprocess.run(
        [path, *args], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, name + done.stdout[-4000:] + done.stderr[-4000:]
