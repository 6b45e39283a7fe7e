"""What MLflow's pages show of a run: groups of metrics, a description with links, the data set;
flat names everywhere else.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mcl.tracking import provenance
from mcl.tracking.naming import EXPERIMENT, NOTE, RUN, RunDataset, flat_name
from mcl.tracking.store import Record, Store

DATASET = RunDataset(
    "MCL 1m synthetic planted_edge",
    "f" * 36,
    "synthetic",
    '{"seed": 7}',
    '{"mlflow_colspec": []}',
    '{"num_rows": 3}',
)
RECORD = Record(
    study="pages",
    name="ema_cross f10 s30 · 2024-01..2025-06",
    metrics={"sharpe": 1.5, "max_drawdown_usd": -10.0, "best_sharpe": 2.0, "differences": 3.0},
    series={"curve/equity_usd": [(0, 1.0), (5, 2.0)]},
    tags={NOTE: f"[Report](#/experiments/{EXPERIMENT}/runs/{RUN}/artifacts/report.html)"},
    dataset=DATASET,
)


def test_names_of_earlier_versions_are_read() -> None:
    grouped = {
        "result/sharpe": "sharpe",
        "risk/max_drawdown_usd": "max_drawdown_usd",
        "trades/best_trade_usd": "best_trade_usd",
        "costs/bars": "bars",
        "best/sharpe": "best_sharpe",
        "validate/pbo": "validate_pbo",
    }
    assert {flat_name(stored): name for stored, name in grouped.items()} == {
        name: name for name in grouped.values()
    }
    assert flat_name("curve/equity_usd") == "curve/equity_usd"
    assert [flat_name(name) for name in ("sharpe", "trades", "best")] == [
        "sharpe",
        "trades",
        "best",
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize("bulk", [True, False])
def test_both_ways_of_writing_show_the_same(store: Store, bulk: bool) -> None:
    writer = Store(store.root)
    if not bulk:
        writer.connection.__dict__["takes_bulk"] = False
    run_id = writer.record(RECORD)
    run = store.connection.client.get_run(run_id)
    assert set(run.data.metrics) == {
        "sharpe",
        "max_drawdown_usd",
        "best_sharpe",
        "differences",
        "curve/equity_usd",
    }
    assert (
        run.data.tags[NOTE]
        == f"[Report](#/experiments/{run.info.experiment_id}/runs/{run_id}/artifacts/report.html)"
    )
    assert run.inputs is not None
    [used] = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest, used.dataset.profile) == (
        DATASET.name,
        DATASET.digest,
        DATASET.profile,
    )
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "backtest")]
    stored = store.run(run_id)
    assert stored.metrics == RECORD.metrics | {"curve/equity_usd": 2.0}
    assert stored.summary == RECORD.metrics


def test_a_data_set_is_kept_once_and_finds_its_runs(store: Store) -> None:
    store.record_many([RECORD, RECORD])
    with closing(sqlite3.connect(store.folder / "mlflow.db")) as database:
        assert database.execute(
            "SELECT count(*) FROM datasets WHERE name = ?", (DATASET.name,)
        ).fetchone() == (1,)
    experiment = store.connection.client.get_experiment_by_name("pages")
    assert experiment is not None
    matches = store.connection.client.search_runs(
        [experiment.experiment_id], f"dataset.digest = '{DATASET.digest}'"
    )
    assert len(matches) >= 2
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_search_gets_its_description_when_it_ends(store: Store) -> None:
    run_id = store.start(Record("pages", "search", tags={NOTE: f"runs/{RUN}"}))
    assert store.run(run_id).tags[NOTE] == f"runs/{run_id}"
    store.finish(run_id, Record("pages", "", tags={NOTE: f"ended {RUN}"}))
    assert store.run(run_id).tags[NOTE] == f"ended {run_id}"


@pytest.mark.parametrize(
    ("params", "label"),
    [
        ({"fast": 10, "slow": 30}, "f10 s30"),
        ({"strategy.fast": 10, "strategy.slow": 30, "risk.protection.stop": 2.0}, "f10 sl30 st2"),
        ({"channel": 120, "hold": 600}, "c120 h600"),
        ({"bars": 240, "width": 2.5, "mode": "both"}, "b240 w2.5"),
        ({}, ""),
    ],
)
def test_a_label_is_short_and_tells(params: dict[str, object], label: str) -> None:
    assert provenance.label(params) == label


def test_a_long_label_is_cut_between_values() -> None:
    label = provenance.label({f"{chr(97 + k)}_value": 123_456 for k in range(20)})
    assert len(label) <= 62
    assert label.endswith("123456 …")


def test_the_data_set_of_a_run(tmp_path: Path) -> None:
    from walks import random_bars

    from mcl.config import schema

    run = schema.Config.model_validate(
        {
            "data": {"source": "synthetic"},
            "strategy": {"name": "flat"},
            "risk": {"size": {"method": "fixed"}},
        }
    )
    dataset = provenance.dataset(run, random_bars(500, rolls=2))
    assert dataset.name == "MCL 1m synthetic zero_edge"
    assert json.loads(dataset.profile)["num_rows"] == 500
    assert len(dataset.digest) <= 36
    assert {column["name"] for column in json.loads(dataset.schema)["mlflow_colspec"]} >= {
        "close_time",
        "open",
        "volume",
    }
