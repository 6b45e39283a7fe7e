"""Tools that these tests can use and a machine may not have."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def terraform(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """terraform on a copy of terraform/, its provider installed; skips where the binary or an
    offline copy of the provider is missing.
    """
    if not shutil.which("terraform"):
        pytest.skip("terraform is not installed")
    folder = tmp_path_factory.mktemp("infrastructure")
    for part in ("terraform", "docker"):
        shutil.copytree(
            REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns(".terraform")
        )
    environment = _offline(folder)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = ["terraform", f"-chdir={folder / 'terraform'}", *args, "-no-color"]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=300, check=False
        )

    done = run("init", "-backend=false", "-input=false")
    assert done.returncode == 0, done.stderr
    return run


def _offline(folder: Path) -> dict[str, str]:
    """The environment in which terraform finds its provider without a network: as configured, or an
    unpacked mirror on this machine.
    """
    if Path(os.environ.get("TF_CLI_CONFIG_FILE") or "/nowhere").is_file():
        return dict(os.environ)
    mirror = next(Path("/opt").glob("*/registry.terraform.io/hashicorp/aws"), None)
    if mirror is None:
        pytest.skip(
            "no offline copy of the AWS provider: set TF_CLI_CONFIG_FILE to a configuration with a"
            " filesystem_mirror"
        )
    settings = folder / "terraform.rc"
    settings.write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror.parents[2]}"\n '
        " }\n}\n"
    )
    return {**os.environ, "TF_CLI_CONFIG_FILE": str(settings)}
