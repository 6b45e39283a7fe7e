"""The recipes of CONTRIBUTING.md do what they say: one copy of the package takes all of them, and
everything that walks over such things knows the new ones.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from mcl.composition import schema_keys
from mcl.config import schema
from mcl.live.ops.alert_channels import CHANNELS
from mcl.risk.sizes import METHODS
from mcl.strategy import builtin

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "CONTRIBUTING.md"
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```", re.M | re.S)
FEW = ["data.end=2024-02-01", "data.holdout_start=null"]  # what is typed after a command


class Step(NamedTuple):
    kind: str  # python and yaml: a new file; diff: lines of an old one; console: commands
    about: str
    text: str


def recipes() -> dict[str, list[Step]]:
    """The steps below each "### Add …"."""
    parts = re.split(r"^### (Add .*)$", PAGE.read_text(encoding="utf-8"), flags=re.M)
    return {
        title: [Step(*fence) for fence in FENCE.findall(text)]
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def apply(step: Step, folder: Path) -> None:
    path = folder / step.about
    if step.kind in ("python", "yaml"):
        assert not path.exists(), f"{step.about} is there already"
        path.write_text(step.text)
    elif step.kind == "diff":
        lines = step.text.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if not line.startswith("+"))
        after = "".join(line[1:] for line in lines if not line.startswith("-"))
        text = path.read_text()
        assert text.count(before) == 1, f"{step.about} has not exactly one\n{before}"
        path.write_text(text.replace(before, after))


class Copy(NamedTuple):
    folder: Path
    environment: dict[str, str]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, worlds: Path) -> Copy:
    """The package with every recipe done, as a project of its own."""
    folder = tmp_path_factory.mktemp("recipes")
    for name in ("mcl", "conf", "scripts", "docs"):
        skipped = shutil.ignore_patterns("__pycache__", "promoted")
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    (folder / "data").symlink_to(worlds)
    for steps in recipes().values():
        for step in steps:
            apply(step, folder)
    environment = os.environ | {"PYTHONPATH": str(folder), "MCL_HOME": str(folder)}
    return Copy(folder, environment)


def commands() -> list[tuple[str, str]]:
    """(kind, command) of every line of a console."""
    return [
        (step.about, line)
        for steps in recipes().values()
        for step in steps
        if step.kind == "console"
        for line in step.text.splitlines()
    ]


def test_every_command_of_the_recipes_works(copy: Copy) -> None:
    for kind, line in commands():
        program, *words = shlex.split(line)
        more = [] if "promote" in words else FEW
        done = copy.run("-m", program, *words, *more)
        assert done.returncode == (1 if kind == "refused" else 0), (
            f"{line}\n{done.stdout}{done.stderr}"
        )
        if kind == "refused":
            assert "win_rate_frac = " in done.stderr
        if "--json" in words:
            assert json.loads(done.stdout)["bars"] > 0


def test_whatever_walks_over_things_knows_the_new_ones(copy: Copy) -> None:
    reference = copy.run(
        "-c", "import sys; sys.path.insert(0, 'scripts'); import make_docs; print(make_docs.page())"
    ).stdout
    for word in ("mean_side", "risk=notional", "`method: notional`", "deep"):
        assert word in reference, word
    for word in ("min_win_rate_frac", "to which each alert is added", "alerts=file"):
        assert word in reference, word
    assert "data count" in copy.run("-m", "mcl", "--help").stdout
    assert "data count" in copy.run("-m", "mcl.cli.json_answers").stdout
    assert "notional" in copy.run("-m", "mcl", "complete", "bash", "mcl backtest risk=").stdout


def test_a_risk_method_is_one_file_and_one_of_conf(copy: Copy) -> None:
    """The page of a run says its sentence, and the schema refuses what its model does not have."""
    steps = recipes()["Add a risk method"]
    touched = [step.about for step in steps if step.kind in ("python", "yaml", "diff")]
    assert touched == ["mcl/risk/sizes/notional.py", "conf/risk/notional.yaml"]
    done = copy.run("-m", "mcl", "--json", "backtest", "risk=notional", *FEW)
    assert done.returncode == 0, done.stderr
    page = copy.folder / json.loads(done.stdout)["report"]
    assert "A full signal is worth 2 times the capital." in page.read_text()
    refused = copy.run("-m", "mcl", "backtest", "risk=notional", "risk.size.multipel=2", *FEW)
    assert refused.returncode != 0
    assert "multiple" in refused.stderr


def test_a_new_channel_delivers(copy: Copy) -> None:
    code = (
        "from mcl.config import schema\n"
        "from mcl.live.ops.alert_channels import channels\n"
        "from mcl import composition\n"
        "raw = composition.compose('live', ['alerts=file']).raw['alerts']\n"
        "rules = composition.validate(schema.Alerts, raw, 'alerts')\n"
        "(channel,) = channels(rules)\n"
        "print(channel.name, channel.attempts)\n"
    )
    done = copy.run("-c", code)
    assert done.stdout == "file 3\n", done.stderr


def test_nothing_is_registered_in_silence() -> None:
    """What a recipe names is what each thing of today has."""
    for method in METHODS:
        assert (ROOT / "conf" / "risk" / f"{method.name}.yaml").is_file()
    settings = {
        name
        for name, field in schema.Alerts.model_fields.items()
        if schema_keys.models(field.annotation)
    }
    assert CHANNELS.keys() == settings
    named = {
        line.split()[1]
        for path in (ROOT / "conf" / "strategy").glob("*.yaml")
        for line in path.read_text().splitlines()
        if line.startswith("name:")
    }
    assert named == set(builtin())
    readme = (ROOT / "README.md").read_text()
    for folder in ("strategy", "risk", "broker"):
        for path in (ROOT / "conf" / folder).glob("*.yaml"):
            assert f"`{path.stem}`" in readme, f"the README names no {folder}={path.stem}"


def test_the_quick_tests_are_files_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (listed,) = re.findall(r"^QUICK := ((?:.*\\\n)*.*)$", makefile, re.M)
    words = listed.replace("\\", " ").split()
    assert len(words) > 10
    assert [word for word in words if not (ROOT / word).exists()] == []
