"""Every option composes and builds; every mistake is one sentence with the nearest valid choice."""

from __future__ import annotations

import re
from pathlib import Path

import data_options
import pytest
import yaml

from mcl import composition, strategy
from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.config.promotion_rules import Promotion

CONF = Path(__file__).resolve().parents[1] / "conf"
EXPERIMENTS = CONF.parent / "experiments"
GROUPS = ("data", "strategy", "risk", "costs", "broker")


def options(group: str) -> list[str]:
    found = sorted(p.stem for p in (CONF / group).glob("*.yaml"))
    assert found, f"conf/{group} is empty"
    return found


@pytest.mark.parametrize(
    "override", [f"{group}={name}" for group in GROUPS for name in options(group)]
)
def test_every_option_composes_and_builds(override: str) -> None:
    group, option = override.split("=")
    needed = data_options.needed(option) if group == "data" else []
    run = composition.compose("backtest", [override, *needed]).config
    assert strategy.build(run.strategy).memory >= 0
    assert composition.run_config(run.model_dump(mode="json")) == run


@pytest.mark.parametrize("name", options("strategy"))
def test_every_strategy_has_a_search_configuration(name: str) -> None:
    assert composition.compose("sweep", [f"strategy={name}"]).search.trials > 0


@pytest.mark.parametrize("name", options("promotion"))
def test_every_set_of_gates_composes(name: str) -> None:
    raw = composition.compose("promote", [f"promotion={name}"]).raw
    assert composition.validate(Promotion, raw["promotion"]).model_dump(
        mode="json"
    ) == yaml.safe_load((CONF / "promotion" / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", sorted(p.stem for p in EXPERIMENTS.glob("*.yaml")))
def test_every_experiment_composes_and_has_an_answer(name: str) -> None:
    run = composition.compose("backtest", [f"experiment={name}"]).config
    assert run.study == name
    assert (EXPERIMENTS / f"{name}.md").is_file()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["strategy.fst=3"], r"unknown key strategy\.fst: did you mean 'strategy\.fast'\?"),
        (["+strategy.fst=3"], r"ema_cross has no parameter 'fst'; did you mean 'fast'\?"),
        (
            ["+risk.limits.max_positon=3"],
            r"unknown key risk\.limits\.max_positon: did you mean 'max_position'\?",
        ),
        (["+data.sed=3"], r"unknown key data\.sed: did you mean 'seed'\?"),
        (["strategy=ema_cros"], r"no strategy is called 'ema_cros': did you mean 'ema_cross'\?"),
        (
            ["experiment=001_ema_baselin"],
            r"no experiment is called '001_ema_baselin': did you mean '001_ema_baseline'\?",
        ),
        (["strategy.fast=ten"], r"strategy\.fast.*'ten'.*integer"),
        (["strategy.fast=0"], r"strategy\.fast.*0"),
        (["strategy.fast=30", "strategy.slow=10"], r"need 0 < fast < slow; fast=30, slow=10"),
        (["strategy.fast=30", "strategy.slow=30"], r"need 0 < fast < slow; fast=30, slow=30"),
        (["costs.slippage_ticks=-1"], r"costs\.slippage_ticks=-1: .*greater than or equal to 0"),
        (["risk.limits.max_position=1.5"], r"risk\.limits\.max_position=1\.5: .*integer"),
        (["risk.size.method=martingale"], r"risk\.size\.method='martingale' is not one of"),
        (["data.interval=7m"], r"data\.interval='7m': .*'1m'"),
        (
            ["data.start='2025-01-01'", "data.end='2024-01-01'", "data.holdout_start=null"],
            r"need start < holdout_start < end",
        ),
        (["data.start='2025-13-01'"], r"data\.start='2025-13-01'"),
        (["data=csv"], r"data\.path must be given"),
        (["nonsense"], r"cannot read the override 'nonsense': write key=value"),
        (["capital_usd=???"], r"capital_usd must be given"),
        (["hydra/launcher=nope"], r"no launcher is called 'nope' here"),
    ],
)
def test_a_mistake_is_one_sentence(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        _ = composition.compose("backtest", overrides).config
    assert "\n" not in caught.value.message


def test_a_folder_without_studies_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCL_HOME", str(tmp_path))
    with pytest.raises(
        ConfigError,
        match=rf"there are no studies in {re.escape(str(tmp_path))}: it has no folder experiments",
    ) as caught:
        composition.compose("backtest", ["experiment=001_ema_baseline"])
    assert "mcl init DIR" in caught.value.hint


def test_the_fingerprint_holds_what_decides_and_nothing_else() -> None:
    base = composition.compose("backtest", []).config
    same = composition.compose("backtest", ["broker=ib_paper", "study=other", "notes=hello"]).config
    other = composition.compose("backtest", ["strategy.fast=11"]).config
    assert composition.fingerprint(base) == composition.fingerprint(same)
    assert composition.fingerprint(base) != composition.fingerprint(other)


def test_a_grid_is_the_product_in_typed_order() -> None:
    jobs = composition.expand(
        ["strategy.fast=5,10", "strategy=ema_cross", "strategy.slow=range(30,61,30)"]
    )
    assert jobs == [
        [f"strategy.fast={fast}", "strategy=ema_cross", f"strategy.slow={slow}"]
        for fast in (5, 10)
        for slow in (30, 60)
    ]


def test_a_grid_takes_globs_over_groups_and_studies() -> None:
    assert {job[0] for job in composition.expand(["experiment=glob(*)"])} == {
        f"experiments={p.stem}" for p in EXPERIMENTS.glob("*.yaml")
    }
    assert ["strategy=donchian"] in composition.expand(["strategy=glob(*)"])


def test_paper_differs_from_the_simulation_only_in_where_the_broker_is() -> None:
    raw = (
        composition.compose("live", [f"broker={name}"]).raw["broker"]
        for name in ("ib_sim", "ib_paper")
    )
    sim, paper = (composition.validate(schema.BrokerConfig, one).model_dump() for one in raw)
    differing = {k for k in sim if sim[k] != paper[k]}
    # a replay has no limits that its backtest has not
    assert differing <= {"kind", "host", "port", "account", "guards"}
    assert paper["port"] == 7497
