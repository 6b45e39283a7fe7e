"""Shell completion: what the candidates are, that asking for them is light, and that bash, zsh and
fish show them.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcl.cli import completion

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
SEARCH, RUN = "crosses", "0123456789ab"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a search, a promoted version and a strategy of conf/."""
    (tmp_path / "mlruns" / "sweeps").mkdir(parents=True)
    (tmp_path / "mlruns" / "sweeps" / "x.card").write_text(
        json.dumps({"name": SEARCH, "sweep_id": "f" * 32})
    )
    for group, name in (("strategy", "ema_cross"), ("strategy", "ensemble"), ("promoted", "paper")):
        (tmp_path / "conf" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / group / f"{name}.yaml").write_text(
            "strategy:\n  name: ema_cross\n  fast: 17\n  slow: 30\n"
        )
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", PATH)
    return tmp_path


def words(line: str) -> dict[str, str]:
    typed = line.split(" ")
    return dict(completion.candidates([word for word in typed[1:-1] if word], typed[-1]))


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("mcl back", "backtest"),
        ("mcl sweep re", "resume"),
        ("mcl --json runs --li", "--limit"),
        ("mcl backtest strategy=en", "strategy=ensemble"),
        ("mcl backtest risk.limits.max_or", "risk.limits.max_order="),
        ("mcl backtest execution.entry=st", "execution.entry=stop_limit"),
        ("mcl sweep search.sam", "search.sampler="),
        ("mcl promote last promotion.max_p", "promotion.max_p_value="),
        ("mcl sweep status cr", SEARCH),
        ("mcl live pa", "paper"),
        ("mcl report la", "last"),
        ("mcl completion z", "zsh"),
        ("mcl backtest --from pa", "paper"),
    ],
)
def test_verbs_options_groups_keys_values_searches_and_names_are_offered(
    home: Path, line: str, wanted: str
) -> None:
    assert wanted in words(line)


def test_a_value_says_its_range_and_what_is_promoted(home: Path) -> None:
    found = words("mcl backtest strategy.fast=")
    assert "promoted now as paper" in found["strategy.fast=17"]
    assert "searched in range(" in found["strategy.fast=17"]
    assert "from 1" in words("mcl backtest risk.limits.max_ord")["risk.limits.max_order="]


def test_the_table_of_keys_is_that_of_the_models() -> None:
    current = json.loads(completion.TABLE.read_text())
    assert (current == completion.table()) is True, "run python -m mcl.cli.completion"


def test_asking_imports_nothing_heavy(home: Path) -> None:
    code = (
        "import sys; from mcl.cli.main import main; main(['complete', 'bash', 'mcl backtest"
        " strategy.f']); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "strategy.fast="
    loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert loaded.isdisjoint(
        {"numpy", "pandas", "mlflow", "hydra", "pydantic", "yaml", "rich", "structlog", "optuna"}
    )


def test_bash_completes(home: Path) -> None:
    typed = (
        'eval "$(mcl completion bash)"; COMP_LINE="$1"; COMP_POINT=${#1}; _mcl; printf "%s\\n"'
        ' "${COMPREPLY[@]}"'
    )

    def reply(line: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", typed, "bash", line],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return done.stdout.split()

    assert reply("mcl backt") == ["backtest"]
    assert reply("mcl sweep status c") == [SEARCH]
    assert "ensemble" in reply("mcl backtest strategy=en")  # bash takes what stands behind the sign


def test_fish_completes(home: Path) -> None:
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    typed = 'mcl completion fish | source; complete -C "$argv[1]"'

    def reply(line: str) -> str:
        done = subprocess.run(
            ["fish", "-c", typed, line], capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout

    assert reply("mcl backt").startswith("backtest\t")
    assert "strategy.fast=17\tpromoted now as paper" in reply("mcl backtest strategy.fast=1")


def test_zsh_completes(home: Path) -> None:
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], os.environ | {"TERM": "dumb", "PS1": "ready> "})
    try:
        os.write(
            terminal,
            b'autoload -U compinit && compinit -u -D; eval "$(mcl completion zsh)"; echo'
            b' set-"up"\n',
        )
        assert "set-up" in _read(terminal, "set-up")
        os.write(terminal, b"mcl sweep status c\t")
        assert SEARCH in _read(terminal, SEARCH)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)


def _read(terminal: int, wanted: str) -> str:
    """What a terminal shows until `wanted` is in it, or for two minutes."""
    import select

    shown, until = "", time.monotonic() + 120
    while time.monotonic() < until and wanted not in shown:
        if select.select([terminal], [], [], 1.0)[0]:
            shown += re.sub(
                r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(terminal, 4096).decode(errors="replace")
            )
    return shown
