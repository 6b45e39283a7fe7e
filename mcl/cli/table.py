"""Every verb: its name, its summary, its arguments and who handles it, in the sections in which
`mcl --help` lists them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

from mcl.cli import arguments
from mcl.cli import operating_arguments as operate
from mcl.cli import research_arguments as research

GLOBAL_FLAGS = frozenset({"--json", "-v", "--verbose", "--quiet"})  # of every verb, anywhere


class Verb(NamedTuple):
    name: str
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    # "module:function" below mcl.cli, imported when the verb runs: `mcl --help` must not wait for
    # MLflow
    handler: str
    # the model of its JSON answer, in one of *_answers.py; empty for a verb that answers nothing
    answer: str = ""


SECTIONS: dict[str, tuple[Verb, ...]] = {
    "begin": (
        Verb(
            "init",
            "make a project folder: conf, experiments, .env.example",
            operate.init,
            "project:init",
            "NewProjectAnswer",
        ),
        Verb(
            "doctor",
            "check this machine and say what to do",
            arguments.nothing,
            "project:examine",
            "DoctorAnswer",
        ),
        Verb(
            "demo",
            "the whole line once in a new project: a real market, then generated worlds; no key",
            operate.demo,
            "demo:demo",
            "DemoAnswer",
        ),
        Verb(
            "new strategy",
            "write a strategy of your own: code, config, search space, test",
            research.new_strategy,
            "strategy:new",
            "NewFilesAnswer",
        ),
        Verb(
            "new source",
            "write a data source in a checkout: its file, its test, its option, its registration",
            research.new_source,
            "strategy:source",
            "NewFilesAnswer",
        ),
        Verb(
            "completion",
            "print the completion script of a shell: bash, zsh or fish",
            operate.completion,
            "completion:script",
            "CompletionAnswer",
        ),
        Verb(
            "explain",
            "where a value of the configuration came from",
            research.explain,
            "registry:explain",
            "OriginAnswer",
        ),
    ),
    "data": (
        Verb(
            "data download",
            "download from Databento; shows the cost and asks first",
            research.download,
            "download:download",
            "DownloadAnswer",
        ),
        Verb(
            "data sniff",
            "propose how a CSV of your own is read, and show its first bars",
            research.sniff,
            "csv_files:sniff",
            "CsvProposalAnswer",
        ),
        Verb(
            "data build",
            "build the Parquet store of a data source",
            arguments.overrides,
            "data:build",
            "DatasetAnswer",
        ),
        Verb(
            "data info",
            "describe a data source: bars, contracts, rolls, fingerprint",
            arguments.overrides,
            "data:info",
            "DatasetAnswer",
        ),
        Verb(
            "data check",
            "check a data source: coverage, gaps, damage, rolls; exit 1 on errors",
            arguments.overrides,
            "check:data",
            "DataHealthAnswer",
        ),
        Verb(
            "data extend",
            "continue a table that ships with mcl with a newer one, for this project",
            research.extend_data,
            "data:extend",
            "TableExtensionAnswer",
        ),
        Verb(
            "data realism",
            "compare one-minute bars with the measured figures of the real market",
            arguments.overrides,
            "data:realism",
            "RealismAnswer",
        ),
        Verb(
            "data compare",
            "compare two sources of one market: bars, prices, volumes, decisions",
            research.data_compare,
            "check:sources",
            "SourceComparisonAnswer",
        ),
        Verb(
            "data costs",
            "measure spread, depth and slippage from order books",
            research.costs,
            "check:costs",
            "MeasuredCostsAnswer",
        ),
        Verb(
            "data gateway",
            "serve the synthetic world, or DBN files, to the Databento client",
            research.gateway,
            "download:gateway",
            "GatewayAnswer",
        ),
        Verb(
            "contract check",
            "compare the last-trade rule with the definitions",
            research.contract,
            "check:contract",
            "ContractCheckAnswer",
        ),
    ),
    "research": (
        Verb(
            "backtest",
            "run one configuration, or a grid of them with -m",
            research.backtest,
            "research:backtest",
            "BacktestAnswer",
        ),
        Verb(
            "sweep",
            "search parameters with Optuna; every trial is a tracked run",
            research.sweep,
            "research:sweep",
            "SweepAnswer",
        ),
        Verb(
            "sweep status",
            "status of a sweep, from any shell",
            research.one_sweep,
            "sweeps:status",
            "SearchStatusAnswer",
        ),
        Verb(
            "sweep stop",
            "end a running sweep after the trials that run",
            research.one_sweep,
            "sweeps:stop",
            "SearchStatusAnswer",
        ),
        Verb(
            "sweep resume",
            "resume a sweep that was stopped or killed",
            research.resume,
            "sweeps:resume",
            "SearchAnswer",
        ),
        Verb(
            "sweep extend",
            "give a sweep more trials",
            research.extend,
            "sweeps:extend",
            "SearchAnswer",
        ),
        Verb(
            "sweep report",
            "tables and page of a sweep, finished or not",
            research.sweep_report,
            "sweeps:report",
            "SweepReportAnswer",
        ),
        Verb(
            "runs",
            "list tracked runs",
            research.runs,
            "research:runs",
            "RunsAnswer",
        ),
        Verb(
            "report",
            "print a run's summary and where its page is; its charts as pictures with --png",
            research.report,
            "research:report",
            "RunReportAnswer",
        ),
        Verb(
            "compare",
            "one page over several runs: curves, config and metric differences",
            research.compare,
            "research:compare",
            "ComparisonAnswer",
        ),
        Verb(
            "rerun",
            "repeat a stored run: bit-equal, or the input that changed",
            arguments.run_id,
            "rerun:rerun",
            "RerunAnswer",
        ),
        Verb("ui", "start the MLflow UI on this project's runs", research.ui, "research:ui"),
    ),
    "judge": (
        Verb(
            "validate",
            "validate a run: walk-forward, CPCV, hold-out, costs, plateau, delay, regimes",
            research.validate,
            "judge:validate",
            "ValidationAnswer",
        ),
        Verb(
            "critique",
            "list the red flags of a run, most serious first",
            arguments.run_or_search,
            "judge:critique",
            "CritiqueAnswer",
        ),
        Verb(
            "select",
            "pick from a search by plateau and deflated Sharpe, not by the peak",
            research.select,
            "judge:select",
            "SelectionAnswer",
        ),
        Verb(
            "trials",
            "all trials so far, and the Sharpe ratio that luck alone would reach",
            research.trials,
            "judge:ledger",
            "TrialsAnswer",
        ),
        Verb(
            "check lookahead",
            "test for look-ahead: cut the future off at many rows",
            research.lookahead,
            "strategy:lookahead",
            "LookaheadAnswer",
        ),
        Verb(
            "check warmup",
            "test the warm-up: cut the past off, is the declared memory enough?",
            research.warmup,
            "strategy:warmup",
            "WarmupAnswer",
        ),
    ),
    "promote": (
        Verb(
            "promote",
            "gate a run and register it as the version that NAME trades",
            operate.promote,
            "registry:promote",
            "PromotionAnswer",
        ),
        Verb(
            "registry",
            "every promoted version: numbers, gates, names, live record",
            arguments.nothing,
            "registry:registry",
            "VersionsAnswer",
        ),
        Verb(
            "registry report",
            "the page of a version: its live curve in the expected band",
            operate.named,
            "registry:report",
            "VersionReportAnswer",
        ),
        Verb(
            "registry costs",
            "costs of its sessions by month, configured and paid, and new settings",
            operate.named,
            "registry:costs",
            "CostTableAnswer",
        ),
        Verb(
            "promoted diff",
            "what differs between two promoted versions",
            operate.two_versions,
            "registry:diff",
            "VersionDifferenceAnswer",
        ),
        Verb(
            "promoted history",
            "history of alias changes, in registry and git: who, when, why",
            operate.maybe_name,
            "registry:history",
            "HistoryAnswer",
        ),
        Verb(
            "rollback",
            "give a name back to the version that had it before",
            operate.rollback,
            "registry:rollback",
            "RollbackAnswer",
        ),
    ),
    "live": (
        Verb(
            "live",
            "trade a promoted version: embedded simulated TWS, or broker=ib_paper",
            operate.live,
            "trade:live",
            "SessionAnswer",
        ),
        Verb(
            "status",
            "status of a session: state, position, P&L, last decisions; --watch stays",
            operate.status,
            "operate:status",
            "StatusAnswer",
        ),
        Verb(
            "why",
            "the last decisions, each with its reasons from signal to order",
            operate.why,
            "operate:why",
            "DecisionsAnswer",
        ),
        Verb(
            "orders",
            "orders of the running or last session, with their fills",
            operate.session_name,
            "operate:orders",
            "OrdersAnswer",
        ),
        Verb(
            "fills",
            "executions of the running or last session",
            operate.session_name,
            "operate:fills",
            "FillsAnswer",
        ),
        Verb(
            "dashboard",
            "a page that follows a session; --act lets it command",
            operate.dashboard,
            "operate:dashboard",
            "DashboardAnswer",
        ),
        Verb(
            "pause",
            "a running session decides and writes down, but sends nothing",
            operate.act,
            "operate:act",
            "OperatorReplyAnswer",
        ),
        Verb(
            "resume",
            "let a paused or reducing session trade again",
            operate.act,
            "operate:act",
            "OperatorReplyAnswer",
        ),
        Verb(
            "reduce-only",
            "a running session may close risk, not open it",
            operate.act,
            "operate:act",
            "OperatorReplyAnswer",
        ),
        Verb(
            "flatten",
            "close the position of a running session now",
            operate.act,
            "operate:act",
            "OperatorReplyAnswer",
        ),
        Verb(
            "stop",
            "end a running session; protective orders stay at the broker",
            operate.act,
            "operate:act",
            "OperatorReplyAnswer",
        ),
        Verb(
            "adopt",
            "answer a HALTED session: take over what the account holds, then compare again",
            operate.act,
            "operate:act",
            "OperatorReplyAnswer",
        ),
        Verb(
            "kill",
            "flatten and end now; the kill switch stays set until its file is removed",
            operate.act,
            "operate:act",
            "OperatorReplyAnswer",
        ),
        Verb(
            "live audit",
            "audit a past session again",
            operate.audit,
            "trade:audit",
            "SessionAnswer",
        ),
    ),
    "simulated TWS": (
        Verb(
            "tws serve",
            "run the simulated TWS on a port, for any client that speaks server version 176, 177"
            " or 178",
            operate.tws_serve,
            "tws:serve",
            "ServedTwsAnswer",
        ),
        Verb(
            "tws status",
            "status of the simulated TWS servers of this project",
            operate.tws_status,
            "tws:status",
            "TwsServersAnswer",
        ),
        Verb(
            "tws log",
            "show a transcript of TWS traffic",
            operate.tws_log,
            "tws:log",
            "TwsLogAnswer",
        ),
    ),
    "store": (
        Verb(
            "store backup",
            "copy runs, journals and promoted files into one, while others write",
            operate.backup,
            "store:backup",
            "BackupAnswer",
        ),
        Verb(
            "store restore",
            "verify such a file and put it back",
            operate.restore,
            "store:restore",
            "RestoreAnswer",
        ),
        Verb(
            "store gc",
            "delete unreferenced files; keeps audit evidence",
            operate.gc,
            "store:collect",
            "WasteAnswer",
        ),
    ),
}
VERBS = {verb.name: verb for verbs in SECTIONS.values() for verb in verbs}
UNENDING = {
    "demo",
    "live",
    "status",
    "dashboard",
    "ui",
    "tws serve",
    "data gateway",
    "data download",
}  # until told to, or with a display of its own
