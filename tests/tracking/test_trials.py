"""The trial ledger: what counts as a trial, and that neither crashes nor parallel writers can hide
one.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mcl.base.errors import StoreError
from mcl.metrics.overfit import RULE, dsr_2012, null_variance
from mcl.metrics.performance import moments
from mcl.report.format import metric
from mcl.tracking import trial_ledger
from mcl.tracking.trial_ledger import (
    Tally,
    Trial,
    TrialPool,
    append,
    beyond,
    distinct,
    matrix,
    rows,
    tally,
    trial_pool,
)

HERE = TrialPool("ema_cross", "MCL synthetic zero_edge 7")


def trial(number: int, **changes: object) -> Trial:
    rng = np.random.default_rng(number)
    values: dict[str, Any] = {
        "pool": HERE,
        "run_id": f"run{number}",
        "kind": "search",
        "study": "test",
        "state": "COMPLETE",
        "config_sha256": f"sha{number}",
        "params": {"strategy.fast": number},
        "sessions": np.arange(19_000, 19_050),
        "returns": rng.normal(0.001, 0.01, 50),
    }
    return Trial(**(values | changes))


def write_many(root: Path, first: int, count: int) -> None:
    for number in range(first, first + count):
        append(root, [trial(number)])


def test_a_row_comes_back_with_its_session_returns(tmp_path: Path) -> None:
    append(tmp_path, [trial(1), trial(2)])
    frame = rows(tmp_path, HERE, returns=True)
    assert list(frame["run_id"]) == ["run1", "run2"]
    days, returns = matrix(frame)
    assert np.array_equal(days, np.arange(19_000, 19_050))
    assert np.array_equal(returns[:, 1], trial(2).returns)
    assert frame["sharpe"][0] == pytest.approx(
        trial(1).returns.mean() / trial(1).returns.std(ddof=1)
    )
    assert "session" not in rows(tmp_path)


def test_pruned_and_failed_ones_count_and_the_same_configuration_counts_once(
    tmp_path: Path,
) -> None:
    nothing = {"sessions": np.empty(0, np.int64), "returns": np.empty(0), "config_sha256": ""}
    append(
        tmp_path, [trial(1), trial(1, run_id="again"), trial(2, state="PRUNED", reason="no_trades")]
    )
    append(
        tmp_path,
        [
            trial(3, state="FAILED", reason="ValueError", group="s", **nothing),
            trial(4, state="PRUNED", reason="constraint", **nothing),
        ],
    )
    append(tmp_path, [trial(1, state="PRUNED", reason="duplicate", **nothing)])
    pool_tally = tally(tmp_path, HERE)
    # one that a rule refused before it was simulated has seen no price
    assert pool_tally.count == 3
    assert len(pool_tally.finite_sharpes) == 2
    assert len(rows(tmp_path)) == 6
    # refused for its result: it was simulated
    append(tmp_path, [trial(5, state="PRUNED", reason="constraint")])
    assert tally(tmp_path, HERE).count == len(distinct(rows(tmp_path))) == 4


def test_the_same_configuration_is_another_trial_when_the_code_that_decides_is_another(
    tmp_path: Path,
) -> None:
    versions = [
        trial(n, config_sha256="same", code_sha256=code)
        for n, code in enumerate(["one", "two", "three", "two"])
    ]
    append(tmp_path, versions)
    pool_tally = tally(tmp_path, HERE)
    assert pool_tally.count == 3
    ratios = [float(moments(v.returns).sharpe) for v in versions]
    # of a repeated one the newest
    assert sorted(pool_tally.finite_sharpes) == pytest.approx(
        sorted([ratios[0], ratios[2], ratios[3]])
    )


def test_parts_of_version_0_1_are_read_counted_and_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have no column for the code, and their identity is the configuration alone."""
    append(tmp_path, [trial(1), trial(2)])
    part = next(tmp_path.rglob("*.parquet"))
    old = pq.ParquetFile(part).read().drop_columns(["code_sha256"])
    pq.write_table(old, part)
    append(tmp_path, [trial(1, code_sha256="today's")])
    assert tally(tmp_path, HERE).count == 3
    frame = rows(tmp_path, HERE, returns=True)
    assert list(frame["code_sha256"]) == ["", "", "today's"]
    assert frame["return_frac"].map(len).eq(50).all()
    monkeypatch.setattr(trial_ledger, "MOST_PARTS", 1)
    append(tmp_path, [trial(3)])
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert tally(tmp_path, HERE).count == 4


def test_a_market_has_the_trials_of_all_families_each_once(tmp_path: Path) -> None:
    other, elsewhere = TrialPool("donchian", HERE.market), TrialPool("donchian", "MCL csv walk.csv")
    append(tmp_path, [trial(1), trial(1, run_id="again"), trial(2)])
    append(tmp_path, [trial(3, pool=other), trial(4, pool=elsewhere)])
    append(
        tmp_path,
        [
            trial(
                2,
                state="PRUNED",
                reason="fold 1",
                sessions=np.empty(0, np.int64),
                returns=np.empty(0),
            )
        ],
    )
    pool_tally = tally(tmp_path, HERE.everywhere)
    assert pool_tally.count == 3
    assert str(pool_tally.pool) == f"all strategies on {HERE.market}"
    each = distinct(rows(tmp_path, HERE.everywhere, returns=True))
    assert list(each["run_id"]) == ["again", "run2", "run3"]
    _, returns = matrix(each)
    np.testing.assert_array_equal(returns, np.column_stack([trial(n).returns for n in (1, 2, 3)]))
    assert beyond(tmp_path, HERE.everywhere, date(2022, 1, 8)) == 3
    assert beyond(tmp_path, HERE.everywhere, date(2022, 3, 1)) == 0


def test_pools_do_not_mix(tmp_path: Path) -> None:
    append(
        tmp_path,
        [
            trial(1),
            trial(2, pool=TrialPool("donchian", HERE.market)),
            trial(3, pool=TrialPool("ema_cross", "MCL csv walk.csv")),
        ],
    )
    assert [
        tally(tmp_path, TrialPool(*p)).count
        for p in (HERE, ("donchian", HERE.market), ("tsmom", HERE.market))
    ] == [1, 1, 0]
    assert len(rows(tmp_path)) == 3


def test_a_market_is_the_same_whatever_window_interval_and_roll_rule() -> None:
    flat = {
        "strategy.name": "ema_cross",
        "data.source": "synthetic",
        "data.instrument": "MCL",
        "data.world": "zero_edge",
        "data.seed": 7,
    }
    assert (
        trial_pool(
            flat | {"data.start": "2025-01-01", "data.interval": "5m", "data.roll.rule": "calendar"}
        )
        == trial_pool(flat)
        == HERE
    )
    assert trial_pool(flat | {"data.seed": 8}) != trial_pool(flat)
    planted = flat | {"data.world": "planted_edge", "data.edge_sharpe": 4.0}
    assert trial_pool(planted) != trial_pool(planted | {"data.edge_sharpe": 3.0})
    assert trial_pool({"strategy.name": "x"}) is None


def test_parallel_writers_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(tmp_path, 100 * k, 40)) for k in range(3)]
    for writer in writers:
        writer.start()
    counts = []
    while any(writer.is_alive() for writer in writers):
        counts.append(tally(tmp_path, HERE).count)
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert tally(tmp_path, HERE).count == 120
    assert counts == sorted(counts)  # a reader beside them never sees a trial vanish


def test_many_small_parts_are_merged_and_still_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_ledger, "MOST_PARTS", 20)
    write_many(tmp_path, 0, 50)
    parts = list((tmp_path / "mlruns" / "trials").rglob("*.parquet"))
    assert len(parts) <= 21
    assert tally(tmp_path, HERE).count == 50
    assert rows(tmp_path)["run_id"].is_unique


def test_a_merger_that_died_leaves_no_trial_twice(tmp_path: Path) -> None:
    append(tmp_path, [trial(1), trial(2)])
    part = next((tmp_path / "mlruns" / "trials").rglob("*.parquet"))
    part.with_name("9" + part.name).write_bytes(part.read_bytes())
    assert tally(tmp_path, HERE).count == 2
    assert len(rows(tmp_path)) == 2


def test_a_killed_writer_leaves_only_whole_rows(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    code = (
        f"import sys; sys.path.insert(0, {here!r}); from test_trials import *;"
        f" write_many(Path({str(tmp_path)!r}), 0, 10**6)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while len(list(tmp_path.rglob("*.parquet"))) < 15 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    frame = rows(tmp_path, returns=True)
    assert len(frame) >= 15
    assert frame["return_frac"].map(len).eq(50).all()
    append(tmp_path, [trial(10**7)])
    assert len(rows(tmp_path)) == len(frame) + 1


def test_a_damaged_part_is_an_error_and_not_a_lower_count(tmp_path: Path) -> None:
    append(tmp_path, [trial(1)])
    part = next(tmp_path.rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(StoreError, match="is not a part of the trial ledger"):
        tally(tmp_path, HERE)


def test_the_deflated_ratio_falls_with_every_trial() -> None:
    measured = {"sharpe": 2.0, "sessions": 500.0, "skew": 0.0, "kurtosis": 3.0}
    rng = np.random.default_rng(1)

    def of(count: int, spread: float) -> Tally:
        return Tally(HERE, {str(i): float(x) for i, x in enumerate(rng.normal(0, spread, count))})

    values = [of(n, 1.0).deflated(measured) for n in (1, 2, 10, 100, 1000)]
    assert values == sorted(values, reverse=True)
    wide = of(100, 1.0)  # trials from excellent to ruinous
    ratio = 2.0 / math.sqrt(252)
    assert wide.deflated(measured) == dsr_2012(
        ratio, 500, 0.0, 3.0, trials=100, trial_variance=null_variance(500)
    )
    alike = of(100, 0.001)
    assert alike.deflated(measured) == dsr_2012(
        ratio, 500, 0.0, 3.0, trials=100, trial_variance=float(np.var(alike.finite_sharpes, ddof=1))
    )
    assert of(1, 1.0).luck(measured).best_by_luck == 0  # one trial needs no deflation


def test_a_deflation_names_its_trials_its_rule_and_its_moment() -> None:
    tally = Tally(HERE, {"a": 0.1, "b": 0.05, "c": -0.02})
    luck = tally.luck({"sharpe": 2.0, "sessions": 250.0, "skew": 0.0, "kurtosis": 3.0})
    assert luck.sentence.startswith(
        f"deflated by 3 trials of ema_cross on MCL synthetic zero_edge 7 (rule: {RULE}, counted"
        " at 20"
    )
    assert (
        luck.best_by_luck
        == pytest.approx(tally.threshold(250) * math.sqrt(252))
        == pytest.approx(luck.best_of(3))
    )
    assert luck.metrics == {
        "dsr": luck.deflated,
        "trials_counted": 3.0,
        "best_by_luck": luck.best_by_luck,
    }
    assert set(luck.at_run) == {"dsr_at_run", "trials_at_run"}
    # who ranks ranks by today's
    assert [metric(name).better for name in ("dsr", *luck.at_run)] == [1, 0, 0]
    undefined = Tally(HERE, {"a": math.nan}).luck(
        {"sharpe": math.nan, "sessions": 250.0, "skew": math.nan, "kurtosis": math.nan}
    )
    assert math.isnan(undefined.deflated)
