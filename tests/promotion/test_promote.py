"""Promotion on a real store: what passes, what is refused and why, and that no refusal moves the
alias.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from deployments import HOLDOUT, OPEN_GATES, Project, empty_store, project

from mcl import composition
from mcl.base.errors import LiveError, PromotionError, StoreError
from mcl.config.promotion_rules import Promotion
from mcl.promotion.gates import tally_of
from mcl.promotion.load import MODEL
from mcl.promotion.promote import GatesMissed, promote, promoted, reproduce
from mcl.validation.holdout import looks


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return empty_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, blank: Path) -> Project:
    return project(tmp_path_factory.mktemp("project"), blank)


@pytest.fixture(scope="module")
def run_id(shop: Project) -> str:
    return shop.run()


@pytest.fixture
def alone(tmp_path: Path, blank: Path) -> Project:
    """A project that a test may damage."""
    return project(tmp_path / "project", blank)


def test_a_promoted_run_loads_as_the_configuration_that_ran(shop: Project, run_id: str) -> None:
    done = promote(run_id[:12], project=shop, gates=OPEN_GATES)
    loaded = promoted("paper", shop)
    assert loaded.config == shop.config()
    assert (loaded.version, loaded.run_id, loaded.content_sha256) == (
        done.version,
        run_id,
        done.content_sha256,
    )
    assert [gate.name for gate in done.gates] == [
        "trades",
        "sessions",
        "drawdown_frac",
        "deflated_sharpe",
        "holdout_trades",
        "holdout_sharpe",
        "market_p_value",
    ]
    assert [gate.name for gate in done.gates if not gate.required] == ["market_p_value"]
    text = done.path.read_text()
    assert text.startswith(
        f"# paper: version {done.version} of model {MODEL}, content_sha256 {done.content_sha256}\n"
    )
    assert composition.fingerprint(loaded.config) in text
    assert run_id in text


def test_the_registry_holds_the_bundle(shop: Project, run_id: str) -> None:
    done = promote(run_id, project=shop, gates=OPEN_GATES)
    files = shop.store.version(MODEL, "paper").files()
    assert sorted(name for name in files if not name.startswith("code/")) == [
        *(
            "MLmodel",
            "SHA256SUMS",
            "code.json",
            "config.json",
            "config.yaml",
            "data/roll_table.parquet",
            "data/sessions.parquet",
        ),
        *(
            "gates.json",
            "input_example.json",
            "manifest.json",
            "metrics.json",
            "provenance.json",
            "report.html",
        ),
        *("requirements.txt", "versions.json"),
    ]
    assert set(json.loads(files["code.json"])) >= {
        "engine/kernel.py",
        "strategy/ema_cross.py",
        "risk/sizing.py",
    }
    assert done.path.read_bytes().endswith(files["config.yaml"])
    facts = json.loads(files["provenance.json"])
    assert facts["git"]["dirty"] in ("true", "false", "unknown")
    assert (
        json.loads(files["metrics.json"])["net_pnl_usd"]
        == shop.store.run(run_id).metrics["net_pnl_usd"]
    )
    assert {g["name"]: g["passed"] for g in json.loads(files["gates.json"])}["trades"] is True


def test_a_second_promotion_is_a_new_version_under_the_same_alias(
    shop: Project, run_id: str
) -> None:
    first = promote(run_id, project=shop, gates=OPEN_GATES)
    second = promote(run_id, project=shop, gates=OPEN_GATES)
    assert second.version == first.version + 1
    assert promoted("paper", shop).version == second.version


def test_a_refusal_lists_every_missed_gate_and_leaves_the_alias(shop: Project, run_id: str) -> None:
    before = promote(run_id, project=shop, gates=OPEN_GATES)
    strict = Promotion(
        min_trades=10_000,
        min_sessions=500,
        max_drawdown_frac=0.0001,
        max_trade_share=None,
        max_session_share=None,
        min_deflated_sharpe=0.999,
        min_holdout_sharpe=50.0,
        min_holdout_sharpe_high=90.0,
        min_holdout_trades=5_000,
        max_p_value=1e-9,
    )
    with pytest.raises(GatesMissed) as caught:
        promote(run_id, project=shop, gates=strict)
    for name, rule in {
        "trades": ">= 10000",
        "sessions": ">= 500",
        "drawdown_frac": "<= 0.0001",
        "deflated_sharpe": ">= 0.999",
        "holdout_trades": ">= 5000",
    }.items():
        assert re.search(
            rf"{name} = -?[\d.]+(e-\d+)? \(rule: {re.escape(rule)}", caught.value.message
        ), name
    assert re.search(r"holdout_sharpe = too short.* \(rule: >= 50", caught.value.message)
    assert "missed 8 of 9 gates" in caught.value.message
    assert promoted("paper", shop).version == before.version


def test_a_gate_that_is_null_is_left_out_and_named(shop: Project, run_id: str) -> None:
    done = promote(
        run_id,
        project=shop,
        gates=OPEN_GATES.model_copy(update={"min_trades": None}),
    )
    assert "trades" not in [gate.name for gate in done.gates]
    off = (
        "min_trades, max_sharpe, max_trade_share, max_session_share, min_doubled_costs_sharpe,"
        " min_plateau_frac, max_pbo, "
    )
    off += "max_biased_rows, max_warmup_percent, min_holdout_sharpe_high, max_p_value"
    assert f"# gates left out   {off}\n" in done.path.read_text()


def test_the_costlier_gates_are_asked_when_they_are_configured(shop: Project, run_id: str) -> None:
    asked = {"min_doubled_costs_sharpe": 99.0, "min_plateau_frac": 0.9, "max_pbo": 0.3}
    with pytest.raises(GatesMissed) as caught:
        promote(run_id, project=shop, gates=OPEN_GATES.model_copy(update=asked))
    found = {gate.name: gate for gate in caught.value.gates}
    assert found["doubled_costs_sharpe"].value < shop.store.run(run_id).metrics["sharpe"]
    assert found["plateau_frac"].meaning.startswith("not defined: ")
    assert (found["pbo"].passed, found["pbo"].required, found["pbo"].word) == (
        False,
        False,
        "not asked",
    )
    assert found["pbo"].meaning == "a rank needs 10 trials on these sessions, the ledger has 1"


def test_without_a_holdout_its_gates_fail_with_that_reason(shop: Project) -> None:
    run_id = shop.run(shop.config(holdout_start=None))
    with pytest.raises(
        GatesMissed, match=r"holdout_trades = undefined .*no hold-out is configured.*holdout_sharpe"
    ):
        promote(run_id, project=shop, gates=OPEN_GATES)


def test_each_look_at_the_holdout_is_counted(alone: Project) -> None:
    run_id = alone.run()
    for number in (1, 2):
        done = promote(run_id, project=alone, gates=OPEN_GATES)
        gate = next(gate for gate in done.gates if gate.name == "holdout_sharpe")
        assert f"from {HOLDOUT}, look number {number}" in gate.meaning
    assert [(look["run_id"], set(look)) for look in looks(alone.root)] == [
        (run_id, {"at", "run_id", "fingerprint", "market", "first", "last"})
    ] * 2


def test_a_refusal_by_the_code_or_by_what_is_possible_costs_no_look(alone: Project) -> None:
    run_id = alone.run()
    impossible = OPEN_GATES.model_copy(
        update={"max_sharpe": alone.store.run(run_id).metrics["sharpe"] - 1.0}
    )
    with pytest.raises(GatesMissed) as caught:
        promote(run_id, project=alone, gates=impossible)
    assert looks(alone.root) == []
    last = caught.value.gates[-1]
    assert (last.name, last.word, "was not looked at" in last.meaning) == (
        "holdout",
        "not asked",
        True,
    )
    with pytest.raises(GatesMissed):
        promote(
            run_id,
            project=alone,
            gates=OPEN_GATES.model_copy(update={"min_trades": 10**6}),
        )
    assert len(looks(alone.root)) == 1


def test_validation_and_promotion_judge_the_holdout_by_one_bound() -> None:
    [validation] = [composition.compose("validate", []).raw["validate"]["rules"]["holdout"]]
    promotion = composition.compose("promote", []).raw["promotion"]["min_holdout_sharpe_high"]
    assert validation == [promotion, promotion]


def test_the_run_itself_never_saw_the_holdout(shop: Project, run_id: str) -> None:
    assert shop.store.run(run_id).tags["sessions"] == "2025-10-27 .. 2025-11-10"


def test_every_configuration_that_was_tried_on_the_market_counts(alone: Project) -> None:
    first = alone.run()
    alone.run()  # the same again: no further trial
    other = alone.run(alone.config({"name": "ema_cross", "fast": 5, "slow": 60}))
    # choosing a window is trying
    window = alone.run(
        alone.config({"name": "ema_cross", "fast": 5, "slow": 60}, start="2025-11-04")
    )
    alone.run(alone.config({"name": "tsmom", "lookback": 60}))  # another family
    found = tally_of(alone.config(), alone.store.run(first), alone.root)
    sharpes = [alone.store.run(i).metrics["sharpe"] / 252**0.5 for i in (first, other, window)]
    assert found.count == 3
    assert sorted(found.finite_sharpes) == pytest.approx(sorted(sharpes))


def test_a_run_from_before_the_ledger_counts_itself(alone: Project) -> None:
    run_id = alone.run()
    shutil.rmtree(alone.root / "mlruns" / "trials")
    assert tally_of(alone.config(), alone.store.run(run_id), alone.root).count == 1


def test_an_unknown_run_is_a_sentence(shop: Project) -> None:
    with pytest.raises(StoreError, match="no run has the id 'feedbeef'"):
        promote("feedbeef", project=shop, gates=OPEN_GATES)


def test_a_stage_that_does_not_exist_names_the_nearest(shop: Project, run_id: str) -> None:
    with pytest.raises(PromotionError, match="cannot be promoted to 'lve': did you mean 'live'"):
        promote(run_id, "lve", project=shop, gates=OPEN_GATES)


def test_altered_metrics_are_named(alone: Project) -> None:
    run_id = alone.run()
    with closing(sqlite3.connect(alone.root / "mlruns" / "mlflow.db")) as db, db:
        for table in ("metrics", "latest_metrics"):
            db.execute(f"UPDATE {table} SET value = value + 1e-9 WHERE key = 'net_pnl_usd'")
    with pytest.raises(
        PromotionError,
        match=(
            r"net_pnl_usd was .* is now .*; no known input moved: the stored metrics were altered"
        ),
    ):
        promote(run_id, project=alone, gates=OPEN_GATES)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ((2, 4), r"does not repeat: .* was .*; data changed: chunk walk-1m.csv$"),
        ((2,), "was made on other data: .*data changed: chunk walk-1m.csv$"),
    ],
)
def test_moved_data_is_named(alone: Project, columns: tuple[int, ...], sentence: str) -> None:
    """A moved close changes the result; a moved high changes no metric, but the run is no longer
    what it says it is.
    """
    run_id = alone.run()
    csv = alone.root / "walk-1m.csv"
    lines = csv.read_text().splitlines()
    cells = lines[9000].split(",")
    higher = f"{float(cells[2]) + 5:.2f}"
    for column in columns:
        cells[column] = higher
    lines[9000] = ",".join(cells)
    csv.write_text("\n".join(lines) + "\n")
    with pytest.raises(PromotionError, match=sentence):
        promote(run_id, project=alone, gates=OPEN_GATES)


def test_a_run_reproduces(shop: Project, run_id: str) -> None:
    verdict = reproduce(shop.store.run(run_id), shop.root)
    assert (verdict.equal, verdict.causes, verdict.sentence) == (
        True,
        (),
        "every metric is bit-equal",
    )


# ------------------------------------------------------------------------------------------ loading


@pytest.fixture
def frozen(alone: Project) -> Project:
    promote(alone.run(), project=alone, gates=OPEN_GATES)
    return alone


def refused(shop: Project, alias: str = "paper") -> str:
    with pytest.raises(LiveError) as caught:
        promoted(alias, shop)
    return caught.value.message


def test_every_way_in_which_file_and_registry_disagree_is_named(frozen: Project) -> None:
    path = frozen.root / "conf" / "promoted" / "paper.yaml"
    text = path.read_text()
    path.write_text(text.replace("fast: 10", "fast: 11"))
    assert re.search(
        r"file: .*paper.yaml was edited after its promotion, line \d+ says 'fast: 11', the registry"
        r" 'fast: 10'",
        refused(frozen),
    )
    path.write_text(text + "\n")
    assert "was edited after its promotion, line" in refused(frozen)
    path.write_text(text.replace("version 1 of", "version 7 of"))
    assert "is version 7, the registry's alias 'paper' is version 1" in refused(frozen)
    path.write_text("# hello\n" + text)
    assert "file: the first line of" in refused(frozen)
    path.write_text(re.sub(r"content_sha256 \w{4}", "content_sha256 0000", text, count=1))
    assert "hash: " in refused(frozen)
    path.write_text(text)
    assert promoted("paper", frozen).version == 1
    path.unlink()
    assert "nothing is promoted as 'paper'" in refused(frozen)


def test_no_byte_of_the_file_can_change_unnoticed(frozen: Project) -> None:
    path = frozen.root / "conf" / "promoted" / "paper.yaml"
    content = path.read_bytes()
    for position in [*range(0, len(content), 29), len(content) - 1]:
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 0x81]) + content[position + 1 :]
        )
        assert refused(frozen)
    path.write_bytes(content.replace(b"\n", b"\r\n"))
    assert refused(frozen)
    path.write_bytes(content)
    assert promoted("paper", frozen).version == 1


def test_one_changed_byte_in_any_registered_file_is_named(frozen: Project) -> None:
    folder = frozen.store.version(MODEL, "paper").folder
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    assert {
        "config.yaml",
        "gates.json",
        "provenance.json",
        "SHA256SUMS",
        "MLmodel",
        "report.html",
        "code/mcl/engine/kernel.py",
    } <= set(names)
    for name in names:
        target = folder / name
        content = target.read_bytes()
        middle = len(content) // 2
        target.write_bytes(
            content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            if content
            else b"x"
        )
        assert name in refused(frozen)
        target.write_bytes(content)
    assert promoted("paper", frozen).version == 1


def test_an_unknown_alias_names_the_nearest(frozen: Project) -> None:
    assert refused(frozen, "papr") == "nothing is promoted as 'papr': did you mean 'paper'?"


def test_an_alias_that_cannot_be_moved_leaves_the_old_version(
    frozen: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("disk full")

    run_id = frozen.store.version(MODEL, "paper").run_id
    with monkeypatch.context() as patched:
        patched.setattr(type(frozen.store), "set_alias", refuse)
        with pytest.raises(StoreError, match="disk full"):
            promote(run_id, project=frozen, gates=OPEN_GATES)
    assert promoted("paper", frozen).version == 1
