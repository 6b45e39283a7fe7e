"""Where a value comes from, which name a wrong one meant, and what --cfg and --info print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from mcl import composition
from mcl.base.errors import FEW, HANDFUL, ConfigError, closest, nearest
from mcl.cli import main
from mcl.composition import origins
from mcl.promotion.explain import explain

CONF = Path(__file__).resolve().parents[1] / "conf"


def line_of(place: str) -> str:
    """The text of the line that `file PATH:LINE` names."""
    name, line = place.removeprefix("file ").split(",")[0].rsplit(":", 1)
    path = CONF.parent / name if not name.startswith("/") else Path(name)
    return path.read_text().splitlines()[int(line) - 1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "strategy").mkdir()
    (tmp_path / "strategy" / "mine.yaml").write_text("name: ema_cross\nfast: 7\nslow: ${seed}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("key", "overrides", "chain"),
    [
        ("strategy.fast", ["strategy.fast=5", "strategy.fast=6"], "override strategy.fast=6"),
        (
            "risk.limits.max_order",
            ["risk.limits={max_order: 3}"],
            "override risk.limits={max_order: 3}",
        ),
        ("search.trials", ["search.trials=7"], "override search.trials=7"),
        ("alerts.webhook", [], "default of Alerts in mcl/config/broker_schema.py"),
        ("telemetry.host", [], "default of Telemetry in mcl/config/broker_schema.py"),
    ],
)
def test_an_override_or_a_default_is_named(key: str, overrides: list[str], chain: str) -> None:
    assert explain(key, overrides).chain == (chain,)


@pytest.mark.parametrize(
    ("key", "overrides", "says"),
    [
        ("strategy.fast", [], "fast: 10"),
        ("risk.limits.state", ["risk.limits={max_order: 3}"], "state:"),
        ("search.top", [], "top: 1"),
        ("alerts.log", [], "log: true"),
        ("promotion.max_p_value", [], "max_p_value:"),
        ("validate.rules.pbo", [], "pbo:"),
        ("strategy.fast", ["experiment=001_ema_baseline"], "fast: 120"),
        ("data.roll.rule", ["roll@data.roll=calendar"], "rule: calendar"),
        ("capital_usd", [], "capital_usd: 25000.0"),
    ],
)
def test_a_file_is_named_with_the_line_that_says_it(
    key: str, overrides: list[str], says: str
) -> None:
    found = explain(key, overrides)
    assert found.source == "file"
    assert says in line_of(found.chain[-1])


def test_each_value_of_a_section_has_its_own_place() -> None:
    found = explain("risk.limits", ["risk.limits={max_order: 3}"])
    assert found.source == "several"
    assert "risk.limits.max_order = 3: override risk.limits={max_order: 3}" in found.chain
    assert len(found.chain) == len(found.value)
    assert all(
        ": file conf/limits/usual.yaml:" in each for each in found.chain if "max_order " not in each
    )


def test_a_search_path_is_followed_and_studies_are_still_found(folder: Path) -> None:
    there = f"hydra.searchpath=['file://{folder}']"
    found = explain("strategy.fast", [there, "strategy=mine", "seed=20"])
    assert found.chain == (f"file {folder}/strategy/mine.yaml:2, chosen by override strategy=mine",)
    assert (
        "which says ${seed}"
        in explain("strategy.slow", [there, "strategy=mine", "seed=20"]).chain[0]
    )
    assert (
        composition.compose("backtest", [there, "experiment=001_ema_baseline"]).config.study
        == "001_ema_baseline"
    )
    assert composition.expand([there, "strategy=mine", "experiment=001_ema_baseline"]) == [
        [there, "strategy=mine", "experiments=001_ema_baseline"]
    ]


def test_an_invalid_configuration_is_explained_too() -> None:
    found = explain("strategy.fast", ["strategy.fast=200"])
    assert found.chain == (
        "invalid: need 0 < fast < slow; fast=200, slow=30",
        "override strategy.fast=200",
    )


def test_every_value_of_every_verb_has_a_place() -> None:
    for section in (
        "data",
        "strategy",
        "risk",
        "costs",
        "execution",
        "broker",
        "search",
        "promotion",
        "validate",
        "alerts",
    ):
        found = explain(section, [])
        assert not [each for each in found.chain if "unknown" in each]


# -------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("verb", "typed", "sentence"),
    [
        ("backtest", "fast=5", "did you mean 'strategy.fast'?"),
        ("backtest", "limits=guarded", "did you mean limits@risk.limits=guarded?"),
        ("backtest", "roll=calendar", "did you mean roll@data.roll=calendar?"),
        ("backtest", "max_daily_loss_usd=5", "did you mean 'risk.limits.max_daily_loss_usd'?"),
        ("backtest", "stratgy.fsat=5", "did you mean 'strategy.fast'?"),
        ("backtest", "trials=5", "mcl backtest has none, mcl sweep has search.trials"),
        (
            "backtest",
            "promotion.max_p_value=1",
            "mcl backtest has none, mcl promote has promotion.max_p_value",
        ),
        ("sweep", "trials=5", "did you mean 'search.trials'?"),
        ("backtest", "strategy=ema", "did you mean 'ema_cross'?"),
    ],
)
def test_a_last_part_a_group_or_another_verb_is_what_was_meant(
    verb: composition.Verb, typed: str, sentence: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        composition.compose(verb, [typed])
    assert sentence in refusal.value.message


@pytest.mark.parametrize(
    "typed", ["zzz=1", "risk.limits.zzz=1", "x.y.z=1", "strategy=zzz", "hydra.zzz=1"]
)
def test_what_means_nothing_gets_a_handful_of_names(typed: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        composition.compose("backtest", [typed])
    assert len(refusal.value.message) < 240
    assert refusal.value.message.count(",") <= max(FEW, HANDFUL)


def test_nearest_lists_a_few_and_counts_many() -> None:
    assert nearest("x", ["a", "b"]) == "valid: a, b"
    assert nearest("x", []) == "there is none yet"
    many = [f"key{i}" for i in range(50)]
    assert nearest("qqq", many).startswith("the nearest of 50 are ")
    assert closest("b", ["a.b", "long.a.b"]) == ["a.b", "long.a.b"]


# --------------------------------------------------------------------------------- --cfg and --info


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main.main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_the_fault_of_an_invalid_configuration_is_marked_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = shown(capsys, "backtest", "--cfg", "risk.limits.max_order=-1")
    marked = [line for line in out.splitlines() if "# <- INVALID: " in line]
    assert (code, len(marked)) == (1, 1)
    assert marked[0].lstrip().startswith("max_order: -1  # <- INVALID: risk.limits.max_order=-1")
    assert yaml.safe_load(out)["risk"]["limits"]["max_order"] == -1
    assert "risk.limits.max_order=-1" in err
    code, out, _ = shown(capsys, "backtest", "strategy.fast=500", "--cfg")
    assert (
        code,
        [
            line
            for line in out.splitlines()
            if line.startswith("strategy:  # <- INVALID: need 0 < fast")
        ],
    ) != (1, [])
    code, out, _ = shown(capsys, "--json", "backtest", "--cfg", "strategy.fast=500")
    answer = json.loads(out)
    assert (code, answer["error"]["code"], answer["config"]["strategy"]["fast"]) == (
        1,
        "config",
        500,
    )


def test_cfg_of_hydra_is_hydras_own(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, _ = shown(capsys, "sweep", "--cfg", "job", "-p", "search.space", "strategy=donchian")
    assert code == 0
    assert out.startswith("# @package search.space\n")
    assert "strategy" in yaml.safe_load(out)
    code, out, _ = shown(
        capsys, "backtest", "--config-dir", str(folder), "--cfg", "job", "strategy=mine", "seed=20"
    )
    assert yaml.safe_load(out)["strategy"]["slow"] == "${seed}"
    code, out, _ = shown(
        capsys,
        "backtest",
        "--config-dir",
        str(folder),
        "-c",
        "job",
        "--resolve",
        "strategy=mine",
        "seed=20",
    )
    assert yaml.safe_load(out)["strategy"] == {"name": "ema_cross", "fast": 7, "slow": 20}
    code, out, _ = shown(capsys, "backtest", "--cfg", "hydra")
    assert set(yaml.safe_load(out)) == {"hydra"}
    code, out, _ = shown(capsys, "backtest", "--cfg", "all")
    assert {"hydra", "strategy", "risk"} <= set(yaml.safe_load(out))
    code, _, err = shown(capsys, "backtest", "--cfg", "job", "--package", "nope")
    assert (code, "--package=nope is no part of this configuration" in err) == (1, True)
    code, _, err = shown(capsys, "backtest", "--config-dir", "/nowhere", "--cfg")
    assert (code, "there is no such folder" in err) == (1, True)


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("searchpath", "experiments"),
        ("defaults", "strategy/ema_cross"),
        ("defaults-tree", "strategy: ema_cross"),
    ],
)
def test_info_is_hydras_own(what: str, text: str) -> None:
    assert text in origins.info("backtest", [], what)
