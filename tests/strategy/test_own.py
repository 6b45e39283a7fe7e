"""Strategies of a person's own: scaffolded, loaded when named, told apart, and part of a run's
evidence.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from walks import random_bars

from mcl import composition
from mcl.base.errors import ConfigError
from mcl.cli.main import main
from mcl.ops.scaffold import new_strategy
from mcl.search import space
from mcl.strategy import build, builtin, registry, user_strategies
from mcl.strategy.indicators import ema
from mcl.tracking import provenance

SHORT = ["data=synthetic", "data.end='2024-01-20'", "data.holdout_start=null"]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the generated world of all tests here."""
    return tmp_path_factory.mktemp("world")


def answer(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["--json", *args]) == code
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def write(project: Path, name: str, code: str) -> Path:
    path = project / "experiments" / "strategies" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    return path


def test_a_scaffolded_strategy_runs_checks_and_can_be_searched(
    project: Path, generated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "data").symlink_to(generated)
    written = answer(capsys, "new", "strategy", "mean_side")["files"]
    assert [Path(path).relative_to(project).as_posix() for path in written] == [
        "experiments/strategies/mean_side.py",
        "experiments/strategies/test_mean_side.py",
        "conf/strategy/mean_side.yaml",
        "conf/space/mean_side.yaml",
    ]
    typed = ["strategy=mean_side", *SHORT]
    done = answer(capsys, "backtest", *typed, "strategy.length=200")
    assert done["metrics"]["trades"] > 10
    again = answer(capsys, "rerun", done["run_id"])
    assert again["equal"] is True
    assert answer(capsys, "check", "lookahead", *typed, "--samples", "4")["has_bias"] is False
    warm = answer(capsys, "check", "warmup", *typed, "--samples", "6", "--lengths", "100,480")
    assert (warm["memory"], warm["lengths"]) == (480, [100, 480])
    assert warm["deviation_percent"]["signal"] == [None, 0.0]
    raw = composition.compose("sweep", typed).raw
    assert list(space.parse(raw["search"]["space"], raw)) == ["strategy.length"]


def test_a_cheat_ends_with_exit_code_1(
    project: Path, generated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "data").symlink_to(generated)
    path, *_ = new_strategy("prophet", project)
    path.write_text(
        path.read_text().replace("distance = closes -", "distance = closes.shift(-1) -")
    )
    content = answer(
        capsys, "check", "lookahead", "strategy=prophet", *SHORT, "--samples", "4", code=1
    )
    assert content["has_bias"] is True
    assert content["biased_entry_signals"] > 0


def test_the_code_of_an_own_strategy_is_evidence_of_its_runs_only(project: Path) -> None:
    path, *_ = new_strategy("mine", project)
    plain, before = (
        provenance.code_sha256({"name": "ema_cross"}),
        provenance.code_digests({"name": "mine"}),
    )
    assert plain == provenance.code_sha256()
    assert "experiments/strategies/mine.py" in before
    nested = {"name": "ensemble", "members": {"a": {"name": "mine"}, "b": {"name": "tsmom"}}}
    assert "experiments/strategies/mine.py" in provenance.code_digests(nested)
    path.write_text(path.read_text() + "\n")
    assert provenance.code_digests({"name": "mine"}) != before
    assert provenance.code_sha256({"name": "ema_cross"}) == plain


def test_an_own_strategy_can_be_a_member_of_others(project: Path) -> None:
    new_strategy("mine", project)
    bars = random_bars(400)
    params = {
        "name": "trend_filter",
        "interval": "5m",
        "bars": 3,
        "inner": {"name": "mine", "length": 20},
    }
    signal, inner = build(params).signal(bars), build(params["inner"]).signal(bars)  # type: ignore[arg-type]
    assert set(np.unique(signal[~np.isnan(signal)])) == {-1.0, 0.0, 1.0}
    in_market = np.nan_to_num(signal) != 0
    np.testing.assert_array_equal(signal[in_market], inner[in_market])


COMPILED = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from mcl.base.jit import njit, readonly
from mcl.strategy.indicators import _ema

@njit
def above(closes):
    return np.sign(closes - _ema(closes, 5, 4))

@dataclass(frozen=True)
class Fast:
    name: ClassVar[str] = "fast_own"
    uses_levels: ClassVar[bool] = False
    memory: ClassVar[int] = 200

    def signal(self, bars):
        return above(readonly(bars.adjusted["close"]))
"""


def test_a_compiled_own_strategy_is_cached_apart_and_an_edit_leaves_the_engine_compiled(
    project: Path, tmp_path: Path
) -> None:
    path = write(project, "fast_own", COMPILED)
    bars = random_bars(300)
    closes = bars.adjusted["close"]
    np.testing.assert_array_equal(
        build({"name": "fast_own"}).signal(bars), np.sign(closes - ema(closes, 5))
    )
    code = """
import sys, numba
from mcl.strategy import build
from walks import random_bars
signal = build({"name": "fast_own"}).signal(random_bars(300))
hits = sys.modules["experiments.strategies.fast_own"].above.stats.cache_hits
print(signal[10], sum(hits.values()))
"""
    env = os.environ | {
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "NUMBA_CACHE_DIR": str(tmp_path / "numba"),
    }

    def run() -> list[str]:
        return subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        ).stdout.split()

    first, second = run(), run()
    assert first[1:] == ["0"], "compiled once"
    assert second[1:] == ["1"], "then loaded from disk"
    indicators = {
        file: file.stat().st_mtime_ns
        for file in (tmp_path / "numba").rglob("*.nbi")
        if file.name.startswith("indicators.")
    }
    path.write_text(COMPILED.replace("return np.sign(closes -", "return -np.sign(closes -"))
    edited = run()
    assert float(edited[0]) == -float(first[0]), "the edit counts"
    assert indicators
    assert indicators == {file: file.stat().st_mtime_ns for file in indicators}, (
        "nothing of mcl was compiled again"
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("macd", "mcl has a strategy called 'macd'; choose another name, for instance my_macd"),
        ("My-Idea", "'My-Idea' cannot name a strategy: .* for instance 'my_idea'"),
        ("2nd", "for instance 'my_2nd'"),
        ("class", "for instance 'my_class'"),
        ("test_it", "'test_it' cannot name a strategy"),
    ],
)
def test_an_unusable_name_is_refused(project: Path, name: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        new_strategy(name, project)
    assert not (project / "experiments").exists()


def test_nothing_is_overwritten_and_nothing_is_written_outside_a_project(
    project: Path, tmp_path: Path
) -> None:
    path, *rest = new_strategy("mine", project)
    path.unlink()
    with pytest.raises(ConfigError, match=r"test_mine\.py is there already; nothing was written"):
        new_strategy("mine", project)
    assert not path.exists()
    assert all(other.exists() for other in rest)
    with pytest.raises(ConfigError, match="is no project folder"):
        new_strategy("mine", tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("def broken(:", r"broken\.py, line 1 cannot be loaded: SyntaxError"),
        (
            "import no_such_module",
            r"cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("x = 1", "must hold one dataclass with name = 'broken'; it holds 0 classes of that name"),
        ("class A:\n    name = 'broken'", "must hold one dataclass"),
        (
            (
                "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass A:\n    name ="
                " 'broken'\n    uses_levels = False"
            ),
            "class A has no memory and no signal",
        ),
    ],
)
def test_a_broken_file_is_a_sentence_and_only_for_who_names_it(
    project: Path, code: str, sentence: str
) -> None:
    write(project, "broken", code)
    with pytest.raises(ConfigError, match=sentence):
        build({"name": "broken"})
    assert build({"name": "ema_cross"}).memory > 0


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("return np.ones(3)", r"shape \(3,\); it must be one value per bar, \(50,\)"),
        ("return np.full(len(bars), 1.5)", r"is 1\.5 at .*; it must lie in \[-1, 1\]"),
        ("return np.full(len(bars), np.inf)", r"is inf at"),
        (
            "return ['up'] * len(bars)",
            r"odd\.signal is not one number per bar: could not convert string to float: 'up'",
        ),
        ("return bars.frame()['nope']", r"odd\.py, line \d+: KeyError: 'nope'"),
        (
            "bars.close_ticks[:] = 0",
            r"odd\.py, line \d+: ValueError: assignment destination is read-only",
        ),
        ("bars.adjusted['close'] -= 1.0", r"odd\.py, line \d+: "),
        (
            "bars.frame()['adj_close'].to_numpy()[:] = 1.0",
            r"odd\.py, line \d+: ValueError: assignment destination is read-only",
        ),
        ("return 1 / 0", r"odd\.py, line \d+: ZeroDivisionError: division by zero"),
    ],
)
def test_a_signal_that_is_none_is_refused(project: Path, body: str, sentence: str) -> None:
    head = (
        COMPILED.split("@njit", maxsplit=1)[0]
        + "@dataclass(frozen=True)\nclass A:\n    name: ClassVar[str] = 'odd'\n"
    )
    write(
        project,
        "odd",
        head
        + f"    uses_levels = False\n    memory = 1\n    def signal(self, bars):\n        {body}\n",
    )
    with pytest.raises(ConfigError, match=sentence):
        build({"name": "odd"}).signal(random_bars(50))


def test_a_list_or_a_series_is_as_good_as_an_array(project: Path) -> None:
    head = (
        COMPILED.split("@njit", maxsplit=1)[0]
        + "@dataclass(frozen=True)\nclass A:\n    name: ClassVar[str] = 'listed'\n"
    )
    write(
        project,
        "listed",
        head
        + "    uses_levels = False\n    memory = 1\n    def signal(self, bars):\n        return [1]"
        " * len(bars)\n",
    )
    signal = build({"name": "listed"}).signal(random_bars(50))
    assert signal.dtype == np.float64
    assert signal.sum() == 50


def test_a_file_called_like_a_strategy_of_mcl_is_refused(project: Path) -> None:
    write(project, "donchian", COMPILED)
    for call in (registry, lambda: build({"name": "donchian"})):
        with pytest.raises(
            ConfigError,
            match=(
                r"donchian\.py is called like a strategy that mcl has: 'donchian'; rename the file"
            ),
        ):
            call()
    assert build({"name": "tsmom"}).memory > 0


def test_a_name_that_nobody_has_gets_the_nearest_of_all(project: Path) -> None:
    new_strategy("velocity", project)
    assert user_strategies.names() == ["velocity"]
    assert set(registry()) == {"velocity", *builtin()}
    with pytest.raises(
        ConfigError, match="there is no strategy 'velocty'; did you mean 'velocity'"
    ):
        build({"name": "velocty"})


def test_an_edited_file_is_read_again(project: Path) -> None:
    path, *_ = new_strategy("mine", project)
    assert build({"name": "mine"}).memory == 480
    path.write_text(path.read_text().replace("= 480", "= 120"))
    os.utime(path, ns=(1, 1))
    assert build({"name": "mine"}).memory == 120
