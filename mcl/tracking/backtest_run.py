"""One backtest as a tracked run: simulate, judge, record, and the way back from a stored run."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mcl import composition
from mcl.base import access_recorder, progress
from mcl.base.differences import differences
from mcl.base.errors import ConfigError, MclError, StoreError
from mcl.base.files import write_whole
from mcl.base.words import many
from mcl.composition import durations
from mcl.config import schema
from mcl.data import file_mark
from mcl.data.bars import Bars
from mcl.data.loader import load
from mcl.engine.backtest import backtest as simulate
from mcl.engine.backtest import buy_and_hold, plan
from mcl.engine.diagnostics import why
from mcl.engine.level_lines import levels
from mcl.engine.result import Result
from mcl.metrics import bootstrap
from mcl.metrics import performance as perf
from mcl.metrics.overfit import Luck
from mcl.metrics.summary import summary
from mcl.report.format import verdict
from mcl.report.header_chips import data_label
from mcl.risk.blocks import Block
from mcl.strategy import build, user_strategies
from mcl.tracking import provenance, repository, trial_ledger, urls
from mcl.tracking.naming import EXPERIMENT, NOTE
from mcl.tracking.project import Project
from mcl.tracking.store import Record, StoredRun

if TYPE_CHECKING:
    import pandas as pd

    from mcl.report.overlay import Overlay

EQUITY_POINTS = 300


@dataclass(frozen=True)
class Done:
    run_id: str
    config: schema.Config
    bars: Bars
    result: Result
    metrics: dict[str, float]
    tags: dict[str, str]
    report: Path | None
    luck: Luck  # what the trial ledger holds now, so no part of what must repeat


@dataclass(frozen=True)
class Replayed:
    config: schema.Config
    bars: Bars
    result: Result
    metrics: dict[str, float]


def backtest(
    run: schema.Config,
    *,
    project: Project,
    overrides: Sequence[str] = (),
    parent: str | None = None,
    report: bool = True,
    bars: Bars | None = None,
    extra_tags: dict[str, str] | None = None,
) -> Done:
    """Run one configuration on its data (never on its hold-out) and record it whole; the report
    page is one of the artifacts.
    """
    began = time.perf_counter()
    bars = bars if bars is not None else load(run.data, project.root)
    progress.begin("simulating")
    with access_recorder.recording() as reads:
        result = simulate(run, bars)
    refuse_silence(run, bars, result)
    progress.begin("measuring")
    measured = summary(result)
    tags = provenance.tags(run, bars) | access_recorder.tags(reads) | (extra_tags or {})
    luck = counted(run, bars, measured, project.root)
    described = {
        "mcl.verdict": verdict(measured | luck.metrics).word,
        NOTE: provenance.note(measured, luck, tags, run, overrides, parent),
    }
    progress.begin("recording the run")
    record = Record(
        study=run.study,
        name=name(run, bars),
        params=params(run),
        metrics=measured | luck.at_run,
        tags=tags | described,
        files=artifacts(run, result, overrides) | access_recorder.files(reads),
        series={"curve/equity_usd": equity_steps(result)},
        parent=parent,
        dataset=provenance.dataset(run, bars),
        seconds=time.perf_counter() - began,
    )
    run_id = project.store.record(
        record,
        (
            (lambda i: {"report.html": page(run, result, measured, tags, overrides, i, luck)})
            if report
            else None
        ),
    )
    trial_ledger.append(project.root, [trial_row(run, result, tags, run_id, parent or "")])
    where = project.store.artifacts(run_id) / "report.html" if report else None
    return Done(run_id, run, bars, result, measured, tags, where, luck)


def refuse_silence(run: schema.Config, bars: Bars, result: Result) -> None:
    """ConfigError for a run that nothing could come of: what the strategy or the risk looks back
    over is longer than the data.
    """
    if result.wanted is None or not np.isnan(result.wanted).all():
        return
    length = f"the {many(len(bars), 'bar')} of the data (data.interval={bars.interval})"
    raw = run.model_dump(include={"strategy"})
    counts = {key: durations.value_at(raw, key) for key in durations.bar_counts(raw)}
    for key, count in counts.items():
        if count is not None and key.startswith("strategy.") and count >= len(bars):
            raise ConfigError(
                f"{key}={count:,} is not less than {length}: no signal is ever known",
                f"set {key} to at most {max(1, len(bars) - 1):,}, or use more or finer bars",
                key,
            )
    raise ConfigError(
        f"nothing is known on any of {length}: strategy, size and protection look back over more",
        "use more bars or shorter look-backs; mcl check warmup prints how long the strategy's is",
    )


def counted(run: schema.Config, bars: Bars, measured: Mapping[str, float], root: Path) -> Luck:
    """Return how much of the Sharpe ratio is luck, given all trials of this strategy on this
    market, this run included.
    """
    identity = provenance.trial_sha256(run, bars.fingerprint)
    own_row = {identity: perf.per_session(measured["sharpe"])}
    return trial_ledger.tally(root, trial_pool(run), own_row).luck(measured)


def halted_on(result: Result) -> str:
    """The session in which the limit of the drawdown ended all trading; empty where it did not."""
    halted = np.flatnonzero(result.block == Block.MAX_DRAWDOWN)
    return str(np.datetime64(int(result.bars.session[halted[0]]), "D")) if len(halted) else ""


def halt(result: Result, run: schema.Config) -> str:
    """Say that trading stopped for good at the limit of the drawdown, and when; empty where it did
    not.
    """
    day, limit = halted_on(result), run.risk.limits.max_drawdown_frac
    if not day:
        return ""
    idle = int(np.count_nonzero(np.unique(result.bars.session) > _day(day)))
    rule = "" if limit is None else f" of risk.limits.max_drawdown_frac={limit:g}"
    rest = f" It traded nothing in the {many(idle, 'session')} after it." if idle else ""
    return f"Trading stopped for good on {day}: the drawdown reached its limit{rule}.{rest}"


def _day(iso: str) -> int:
    return int(np.datetime64(iso, "D").astype(int))


def trial_pool(run: schema.Config) -> trial_ledger.TrialPool:
    where = trial_ledger.trial_pool(params(run))
    if where is None:
        raise ConfigError("the run names no strategy or no data source")
    return where


def trial_row(
    run: schema.Config, result: Result, tags: dict[str, str], run_id: str, group: str
) -> trial_ledger.Trial:
    """The run as a row of the trial ledger."""
    days = result.session_returns.index.to_numpy().astype("datetime64[D]").astype(np.int64)
    return trial_ledger.Trial(
        pool=trial_pool(run),
        run_id=run_id,
        kind="hand",
        study=run.study,
        state="COMPLETE",
        group=group,
        config_sha256=tags["config_sha256"],
        trial_sha256=tags["trial_sha256"],
        code_sha256=provenance.decision_sha256(user_strategies.names_in(run.strategy)),
        data_fingerprint=tags["data_fingerprint"],
        params=composition.flatten(run.strategy, "strategy"),
        sessions=days,
        returns=result.session_returns.to_numpy(),
    )


def replay(stored: StoredRun, root: Path) -> Replayed:
    """Simulate a stored run again from its own config.json."""
    run = stored_config(stored)
    bars = load(run.data, root)
    progress.begin("simulating")
    result = simulate(run, bars)
    return Replayed(run, bars, result, summary(result))


def page_again(stored: StoredRun, luck: Luck, root: Path) -> Path | None:
    """Draw the page of a stored run with the deflation of now, in <root>/mlruns/reports, from the
    run simulated again. None where that cannot be done or would not be the same run.
    """
    try:
        again = replay(stored, root)
    except MclError:
        return None
    if differences(
        {name: value for name, value in stored.metrics.items() if name in again.metrics},
        again.metrics,
    ):
        return None
    typed = json.loads(stored.file("overrides.json"))["overrides"]
    path = root / "mlruns" / "reports" / f"{stored.run_id}.html"
    write_whole(
        path,
        page(
            again.config,
            again.result,
            again.metrics,
            stored.tags,
            typed,
            stored.run_id,
            luck,
            stored.experiment_id,
        ),
    )
    return path


def stored_config(stored: StoredRun) -> schema.Config:
    """The configuration that a run was made with, validated again: an artifact is data, never
    code.
    """
    if stored.tags.get("mcl.kind") not in ("backtest", "trial"):
        kind = stored.tags.get("mcl.kind", "foreign run")
        raise StoreError(
            f"run {stored.run_id} is a {kind}, not a backtest",
            "name a backtest: mcl runs lists them",
        )
    return composition.run_config(json.loads(stored.file("config.json")))


def name(run: schema.Config, bars: Bars) -> str:
    """`ema_cross f10 s30 · MCL 1m planted_edge seed 7 · 2024-01..2025-06`"""
    values = {
        key: value for key, value in composition.flatten(run.strategy).items() if key != "name"
    }
    first, last = (
        str(bars.session[i].astype("datetime64[D]").astype("datetime64[M]")) for i in (0, -1)
    )
    strategy = " ".join(filter(None, (run.strategy["name"], provenance.label(values))))
    return f"{strategy} · {data_label(run.data.model_dump(mode='json'))} · {first}..{last}"


def params(run: schema.Config) -> dict[str, Any]:
    """Every leaf that decides the result, as MLflow params; what is None is left out."""
    leaves = composition.flatten(run.model_dump(mode="json", include=set(composition.DECIDES)))
    return {key: value for key, value in leaves.items() if value is not None}


def artifacts(run: schema.Config, result: Result, overrides: Sequence[str]) -> dict[str, bytes]:
    import pandas as pd
    import yaml

    raw = run.model_dump(mode="json")
    bars = result.bars
    decisions = pd.DataFrame(
        {
            "close_time": bars.times,
            "target": result.target,
            "block": result.block,
            "position": result.position,
        }
    )
    changed = np.flatnonzero(np.diff(result.target, prepend=0) | (result.block != 0))
    marked = partial(parquet, bars=bars)
    return {
        "config.yaml": yaml.safe_dump(raw, sort_keys=False, allow_unicode=True).encode(),
        "config.json": json.dumps(raw, indent=1).encode(),
        "overrides.json": (
            json.dumps({"overrides": list(overrides), "argv": repository.argv()}).encode()
        ),
        **provenance.inputs(run, bars),
        "trades.csv": result.trades_frame().to_csv(index=False, float_format="%.10g").encode(),
        "data/fills.parquet": marked(result.fills_frame()),
        "data/trades.parquet": marked(result.trades_frame()),
        "data/equity.parquet": marked(
            pd.DataFrame(
                {"close_time": bars.times, "equity_usd": result.equity, "position": result.position}
            )
        ),
        "data/sessions.parquet": marked(result.sessions_frame()),
        "data/decisions.parquet": marked(decisions.iloc[changed]),
        "data/why.parquet": marked(why(result)),
        "data/roll_table.parquet": marked(bars.roll_table),
    }


def page(
    run: schema.Config,
    result: Result,
    measured: Mapping[str, float],
    tags: dict[str, str],
    overrides: Sequence[str],
    run_id: str,
    luck: Luck,
    experiment_id: str = EXPERIMENT,
) -> bytes:
    progress.begin("drawing the page")
    from mcl.report.run import RunView, run_page

    view = RunView(
        title=name(run, result.bars),
        config=run.model_dump(mode="json"),
        overrides=list(overrides),
        metrics=dict(measured) | luck.metrics,
        luck=luck.sentence,
        result=result,
        provenance=tags,
        run_id=run_id,
        defaults=defaults(),
        overlays=overlays(run, result),
        intervals=intervals(result),
        links=[urls.run(run_id, experiment_id=experiment_id)],
        benchmark=buy_and_hold(result.bars, run.costs, run.capital_usd),
    )
    return run_page(view).encode()


def defaults() -> dict[str, Any] | None:
    """The project's configuration without any override; None where that is not one, because
    something must be given.
    """
    try:
        return composition.compose("backtest", []).config.model_dump(mode="json")
    except ConfigError:
        return None


def overlays(run: schema.Config, result: Result) -> list[Overlay]:
    """Return what the price chart shows besides the price: the strategy's indicators and the levels
    of the protective orders.
    """
    from mcl.report.overlay import indicators, protection

    strategy, bars = build(run.strategy), result.bars
    intent = (
        plan(bars, strategy, run.risk, run.capital_usd)
        if run.risk.protection.unit != "none"
        else None
    )
    protection_lines = protection(*levels(result, intent, run.execution), bars) if intent else []
    return [*indicators(strategy, bars), *protection_lines]


def intervals(result: Result) -> dict[str, tuple[float, float]]:
    """95 % bootstrap interval of the net P&L over so many sessions as there were."""
    returns = result.session_returns.to_numpy()
    low, high = bootstrap.total_interval(returns)
    return (
        {"net_pnl_usd": (low * result.capital_usd, high * result.capital_usd)}
        if math.isfinite(low)
        else {}
    )


def parquet(frame: pd.DataFrame, bars: Bars | None = None) -> bytes:
    """The frame as a Parquet file, with the mark of generated data where its bars are. Times are
    kept as steps: those of a year of seconds are a third of the file otherwise.
    """
    import pandas as pd

    buffer = io.BytesIO()
    if bars is not None and bars.synthetic:
        frame = frame.copy(deep=False)
        frame.attrs |= file_mark.attributes(bars.provenance.get("facts", {}))
    times = [name for name in frame if isinstance(frame[name].dtype, pd.DatetimeTZDtype)]
    frame.to_parquet(
        buffer,
        compression="zstd",
        index=False,
        write_statistics=False,
        use_dictionary=[name for name in frame if name not in times],
        column_encoding=dict.fromkeys(times, "DELTA_BINARY_PACKED"),
    )
    return buffer.getvalue()


def equity_steps(result: Result) -> list[tuple[int, float]]:
    """About 300 points of session-end equity, so that MLflow's own charts overlay runs; the step is
    the session number.
    """
    return equity_points(result.session_equity.to_numpy())


def equity_points(values: npt.NDArray[np.float64]) -> list[tuple[int, float]]:
    """The same from the equity at the end of each session."""
    rows = np.unique(
        np.linspace(0, len(values) - 1, min(EQUITY_POINTS, len(values))).round().astype(int)
    )
    return [(int(i), float(values[i])) for i in rows]
