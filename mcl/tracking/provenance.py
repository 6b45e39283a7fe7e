"""The provenance of a run: code, packages and state of the repository. All of it is cheap enough to
collect for every run.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
from collections.abc import Collection, Mapping, Sequence
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from mcl import __version__, composition
from mcl.base.import_closure import imported
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.data.data_note import data_note
from mcl.metrics.overfit import Luck
from mcl.report.format import metric_rows, verdict
from mcl.report.header_chips import data_label
from mcl.strategy import builtin, user_strategies
from mcl.tracking import repository, trial_ledger
from mcl.tracking.naming import EXPERIMENT, MODEL_VIEW, RUN, RunDataset

PACKAGES = (
    *("numpy", "pandas", "scipy", "numba", "llvmlite", "pyarrow", "hydra-core"),
    *("omegaconf", "mlflow", "optuna", "databento", "ib-async", "pydantic"),
)
LONGEST = 60  # characters of a label
HEADLINES = (
    *("net_pnl_usd", "sharpe", "dsr_at_run", "trials_at_run", "max_drawdown_usd"),
    *("profit_factor", "trades", "commission_usd", "sessions"),
)
# the files that can change a number: what the engine, the strategies, the metrics and the reading
# of data import
DECIDING = (
    *("engine", "strategy", "metrics", "base/instants.py", "base/jit.py"),
    *("config/__init__.py", "config/schema.py", "config/base_model.py", "config/broker_schema.py"),
    *("market/__init__.py", "market/calendar.py", "market/contract_master.py"),
    *("market/instruments.py", "risk/__init__.py", "risk/blocks.py", "risk/gates.py"),
    *(
        "risk/limits.py",
        "risk/protection.py",
        "risk/size_method.py",
        "risk/sizes",
        "risk/sizing.py",
    ),
    *(
        "market/intervals.py",
        "market/symbols.py",
        "data/__init__.py",
        "data/bars.py",
        "data/columns.py",
    ),
    *("data/continuous.py", "data/conventions.py", "data/csv_folder.py", "data/csv_text.py"),
    "data/file_mark.py",
    *("data/dataset.py", "data/dbn.py", "data/loader.py", "data/parquet.py"),
    *("data/record_files.py", "data/roll.py", "data/source.py", "data/table.py"),
    "data/text_file.py",
    *("data/realism.py", "data/truncation.py", "data/sources", "data/synthetic/__init__.py"),
    *("data/synthetic/calibration.py", "data/synthetic/defects.py"),
    *("data/synthetic/generator.py", "data/synthetic/price_process.py"),
    *("data/synthetic/trade_tape.py", "data/synthetic/order_books.py"),
    *("data/quotes.py", "data/quote_store.py"),
)
# of these: they measure and explain what was decided
NO_TRIAL = ("metrics/", "engine/diagnostics.py", "engine/level_lines.py")
# by all strategies
SHARED = ("strategy/__init__.py", "strategy/indicators.py", "strategy/user_strategies.py")
WORDS = (  # imported there too: sentences, secrets, paths, never a number
    *("__init__.py", "base/__init__.py", "base/errors.py", "base/redact.py", "base/files.py"),
    *("base/differences.py", "base/words.py"),
    *("base/progress.py", "base/import_closure.py", "base/access_recorder.py"),
)


def tags(run: schema.Config, bars: Bars) -> dict[str, str]:
    """The tags of a run on these bars: fingerprints, repository state, versions, and the
    sentence about the data.
    """
    run_tags = {
        "mcl.kind": "backtest",
        "mcl.strategy": run.strategy["name"],
        "mcl.source": run.data.source,
        "mcl.instrument": bars.instrument.symbol,
        "mcl.interval": bars.interval,
        "mcl.data": data_label(run.data.model_dump(mode="json")),
        "config_sha256": composition.fingerprint(run),
        "data_fingerprint": bars.fingerprint,
        "code_sha256": code_sha256(run.strategy),
        "trial_sha256": trial_sha256(run, bars.fingerprint),
        "seed": str(run.seed),
        "synthetic": str(bars.synthetic).lower(),
        "sessions": f"{_day(bars, 0)} .. {_day(bars, -1)}",
        **{f"git.{k}": v for k, v in repository.state(composition.root()).items()},
        **{f"version.{k}": v for k, v in versions().items()},
    }
    sentence = data_note(bars)
    return run_tags | ({"watermark": sentence} if sentence else {})


def label(params: Mapping[str, Any]) -> str:
    """`f10 s30` for {fast: 10, slow: 30}: each value behind the shortest beginning of its name that
    tells it from the others.
    """
    words = [
        f"{name}{_short(params[key])}"
        for key, name in _beginnings(tuple(params)).items()
        if not isinstance(params[key], str)
    ]
    text = " ".join(words)
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(' ')[0]} …"


@lru_cache
def _beginnings(keys: tuple[str, ...]) -> dict[str, str]:
    names = {key: key.rpartition(".")[2] for key in keys}
    return {key: _beginning(name, names.values()) for key, name in names.items()}


def _beginning(name: str, names: Collection[str]) -> str:
    """At least one letter; the whole name where another one is equal to it."""
    others = [other for other in names if other != name]
    return next(
        (name[:n] for n in range(1, len(name)) if not any(o.startswith(name[:n]) for o in others)),
        name,
    )


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def dataset(run: schema.Config, bars: Bars) -> RunDataset:
    """The bars as the data set that MLflow shows with the run, and by which it finds all runs on
    the same data.
    """
    data = run.data.model_dump(mode="json")
    words = [
        data[key]
        for key in ("instrument", "interval", "source", "world", "symbol", "path")
        if data.get(key)
    ]
    columns = ("open", "high", "low", "close", "adjustment")
    spec = [{"name": "close_time", "type": "datetime", "required": True}]
    spec += [{"name": name, "type": "double", "required": True} for name in columns]
    spec += [
        {"name": name, "type": "long", "required": True}
        for name in ("volume", "session", "contract")
    ]
    profile = {
        "num_rows": len(bars),
        "sessions": f"{_day(bars, 0)} .. {_day(bars, -1)}",
        "rolls": int(bars.roll.sum()),
    }
    return RunDataset(
        name=" ".join(map(str, words))[:500],
        digest=bars.fingerprint[:36],
        source_type=str(data["source"])[:36],
        source=json.dumps(data | {"fingerprint": bars.fingerprint, "synthetic": bars.synthetic}),
        schema=json.dumps({"mlflow_colspec": spec}),
        profile=json.dumps(profile),
    )


def note(
    measured: Mapping[str, float],
    luck: Luck,
    run_tags: Mapping[str, str],
    run: schema.Config,
    overrides: Sequence[str],
    search_id: str | None,
) -> str:
    """A run's description in MLflow: verdict, headline metrics, where its page is, and how to make
    it again. Markdown.

    `above` is the id of the search that the run belongs to.
    """
    judgement, here = verdict(dict(measured) | luck.metrics), f"#/experiments/{EXPERIMENT}/runs"
    metrics = dict(measured) | luck.at_run
    rows = [
        f"| {label} | {text} |" for label, text, name in metric_rows(metrics) if name in HEADLINES
    ]
    search = f" · [the search it came from]({here}/{search_id}?{MODEL_VIEW})" if search_id else ""
    parts = [
        f"**{judgement.word}.** {judgement.text}",
        f"As of this run: {luck.sentence}. `mcl report` counts again.",
        *([f"**{run_tags['watermark']}**"] if "watermark" in run_tags else []),
        *([run.notes] if run.notes else []),
        "\n".join(["| | |", "|---|---:|", *rows]),
        f"[Report]({here}/{RUN}/artifacts/report.html?{MODEL_VIEW}){search}",
        f"`{shlex.join(['mcl', 'backtest', *overrides])}`",
    ]
    return "\n\n".join(parts)


def versions() -> dict[str, str]:
    own = {"mcl": __version__, "python": platform.python_version()}
    return own | {name: _installed(name) for name in PACKAGES}


@cache
def _installed(name: str) -> str:
    """The version of a package. It is read from a file, so once."""
    return metadata.version(name)


def code_digests(strategy: Mapping[str, Any] | None = None) -> dict[str, str]:
    """sha256 of every source file that decides a result: those of the package by their path inside
    it, and the user's own strategies that `strategy`, the configuration of the run, names.
    """
    return _package_digests() | (user_strategies.digests(strategy) if strategy else {})


def inputs(run: schema.Config, bars: Bars) -> dict[str, bytes]:
    """The files of a run by which a later one names what has moved: the data manifest, and the
    digests of the code.
    """
    manifest = bars.provenance | {"fingerprint": bars.fingerprint}
    return {
        "manifest.json": json.dumps(manifest, default=str, indent=1).encode(),
        "code.json": json.dumps(code_digests(run.strategy), indent=1).encode(),
    }


def code_sha256(strategy: Mapping[str, Any] | None = None) -> str:
    return composition.digest(code_digests(strategy))


def trial_sha256(run: schema.Config, data_fingerprint: str) -> str:
    """Identity of a run as a trial: its configuration, the bars whatever door they came by, and the
    code that decides.
    """
    decides = run.model_dump(mode="json", include=set(composition.DECIDES))
    return trial_ledger.identity(
        composition.trial_fingerprint(decides, data_fingerprint),
        decision_sha256(user_strategies.names_in(run.strategy)),
    )


def decision_sha256(strategies: Collection[str]) -> str:
    """Digest of the code by which runs of these strategies decide: data, risk and engine, and the
    strategies with all that they import. Metrics, pages and what explains a decision are no part of
    it, and neither are strategies that are not named. Of own files it takes what they mean:
    comments, layout and docstrings do not count.
    """
    names = frozenset(strategies)
    mine = user_strategies.files({str(i): {"name": name} for i, name in enumerate(sorted(names))})
    used = frozenset(
        name for file in mine.values() for name in file.imports if name.startswith("mcl.")
    )
    return composition.digest(
        [_decision(names, used), {name: file.meaning for name, file in mine.items()}]
    )


@cache
def _decision(names: frozenset[str], used: frozenset[str]) -> dict[str, str]:
    """The part of it in the package; `used` are modules that own files import."""
    present = _package_digests()
    base = {name: digest for name, digest in present.items() if not name.startswith(NO_TRIAL)}
    shared = {
        name: digest
        for name, digest in base.items()
        if not name.startswith("strategy/") or name in SHARED
    }
    strategies = builtin()
    modules = {strategies[name].__module__ for name in names if name in strategies}
    sources = imported(sorted(modules | used), besides=(*shared, *WORDS))
    return shared | {name: hashlib.sha256(content).hexdigest() for name, content in sources.items()}


@cache
def _package_digests() -> dict[str, str]:
    package = Path(__file__).resolve().parents[1]
    paths = [
        p
        for name in DECIDING
        for p in (
            [package / name] if name.endswith(".py") else sorted((package / name).rglob("*.py"))
        )
    ]
    return {
        str(p.relative_to(package)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in paths
        if p.is_file()
    }


def _day(bars: Bars, row: int) -> str:
    return str(bars.session[row].astype("datetime64[D]"))
