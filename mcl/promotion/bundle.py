"""The files of a promoted version.

    config.yaml config.json          the resolved configuration; config.yaml is also the body of
                                     conf/promoted/NAME.yaml
    provenance.json gates.json       who, when, out of what; every gate with its value, rule, and
                                     the reason where it was waived
    code.json versions.json          sha256 of each source file that decides; package versions
    manifest.json metrics.json       the data with the hash of each input file; every metric of the
                                     backtest
    data/roll_table.parquet          the rolls
    data/sessions.parquet            equity at the end of each session, for the expected band
    report.html                      the page of the run
    experiments/strategies/NAME.py   the user's own strategy, when the configuration names one
    MLmodel requirements.txt input_example.json code/
                                     the strategy as an MLflow model (mcl.promotion.pyfunc_model)
    SHA256SUMS                       one line per file above; `sha256sum -c SHA256SUMS` checks them
                                     without mcl, `mcl.promotion.version_files` with it

The tag content_sha256 of the version covers all of it. No file is a pickle, and a session executes
none of them: code comes from the checkout, and its digests must be the registered ones.
"""

from __future__ import annotations

import json
import math
from typing import Any

import yaml

from mcl import composition
from mcl.base.import_closure import needed
from mcl.promotion import pyfunc_model
from mcl.promotion.gates import Gate
from mcl.promotion.version_files import SUMS, Files, sums
from mcl.strategy import user_strategies
from mcl.tracking import backtest_run, provenance, pyfunc
from mcl.tracking.store import StoredRun

EXAMPLE_ROWS = 50


def files(
    stored: StoredRun,
    repeated: backtest_run.Replayed,
    table: tuple[Gate, ...],
    facts: dict[str, Any],
) -> Files:
    """Every file of a new version, by its path inside it."""
    run, bars = repeated.config, repeated.bars
    raw = run.model_dump(mode="json")
    # NaN is no JSON
    finite = {name: value for name, value in repeated.metrics.items() if math.isfinite(value)}
    contents: Files = {
        "config.yaml": (
            (header(facts) + yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)).encode()
        ),
        "config.json": _json(raw),
        "gates.json": _json([gate.as_dict() for gate in table]),
        "provenance.json": _json(facts),
        "versions.json": _json(provenance.versions()),
        **provenance.inputs(run, bars),
        "metrics.json": _json(finite),
        "data/roll_table.parquet": backtest_run.parquet(bars.roll_table),
        "data/sessions.parquet": backtest_run.parquet(repeated.result.sessions_frame()),
        "report.html": _report(stored, repeated),
        **_own_sources(run.strategy),
        **_mlflow_model(repeated),
    }
    return contents | {SUMS: sums(contents)}


def header(facts: dict[str, Any]) -> str:
    """The comments above the configuration, for a reviewer."""
    lines = [
        (
            "Written by mcl promote, for review and commit. Never edit it: mcl live refuses an"
            " edited file."
        ),
        f"stage            {facts['stage']}",
        f"run              {facts['run_id']} of study {facts['study']}",
        f"promoted         {facts['at']} by {facts['by']}",
        *([f"why              {facts['why']}"] if facts["why"] else []),
        f"config_sha256    {facts['config_sha256']}",
        f"data_fingerprint {facts['data_fingerprint']}",
        f"code_sha256      {facts['code_sha256']}",
        f"git              {facts['git']['commit']}"
        + (" with uncommitted changes" if facts["git"]["dirty"] == "true" else ""),
        (
            f"hold-out         {facts['holdout']['sessions']} sessions, look number"
            f" {facts['holdout']['look']}"
        ),
        *(
            [f"gates left out   {', '.join(facts['gates_left_out'])}"]
            if facts["gates_left_out"]
            else []
        ),
        *(f"gate WAIVED      {name}: {why}" for name, why in facts["waived"].items()),
        *(f"own code reads   {read}" for read in facts.get("own_code_reads", [])),
        *([facts["watermark"]] if facts["watermark"] else []),
    ]
    return "".join(f"# {' '.join(line.splitlines())}\n" for line in lines)


def _report(stored: StoredRun, repeated: backtest_run.Replayed) -> bytes:
    page = stored.artifacts / "report.html"
    if page.is_file():
        return page.read_bytes()
    luck = backtest_run.counted(
        repeated.config, repeated.bars, repeated.metrics, composition.root()
    )
    return backtest_run.page(
        repeated.config,
        repeated.result,
        repeated.metrics,
        stored.tags,
        [],
        stored.run_id,
        luck,
        stored.experiment_id,
    )


def _own_sources(strategy: dict[str, Any]) -> Files:
    return {
        path: (composition.root() / path).read_bytes() for path in user_strategies.digests(strategy)
    }


def _mlflow_model(repeated: backtest_run.Replayed) -> Files:
    code = {
        f"code/mcl/{path}": content
        for path, content in needed("mcl.promotion.pyfunc_model", "mcl.strategy").items()
    }
    versions = provenance.versions()
    wanted = [
        f"{name}=={versions[name]}" if name in versions else name for name in pyfunc_model.REQUIRES
    ]
    example = pyfunc_model.frame(repeated.bars.rows(0, min(EXAMPLE_ROWS, len(repeated.bars))))
    return code | pyfunc.files(
        "mcl.promotion.pyfunc_model", pyfunc_model.INPUT, pyfunc_model.OUTPUT, example, wanted
    )


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()
