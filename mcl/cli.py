"""`mcl`: what a person types. Thin: parse, call one workflow, print its answer.

Global flags stand before the verb: --json (one JSON object on stdout), -v, --quiet. Exit codes: 0 done, 1 refused or failed with
a sentence that says what to do, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import TracebackType

from mcl import __version__
from mcl.errors import MclError, nearest
from mcl.redact import redacted

USAGE = """mcl: from a configuration to a promoted, audited trading session in Micro WTI Crude Oil futures

usage: mcl [--json] [-v] [--quiet] VERB [options] [key=value ...]

{verbs}

Any configuration value can be overridden: mcl backtest strategy=ema_cross strategy.fast=20 risk=vol_target
mcl VERB --help says more. mcl backtest --cfg prints the composed configuration."""


@dataclass(frozen=True)
class Verb:
    name: str
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    handler: str  # "module:function", imported when the verb runs: `mcl --help` must not wait for MLflow


def _overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration overrides in Hydra's grammar")


def _backtest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", "--multirun", action="store_true", help="run the product of all comma lists, ranges and globs")
    parser.add_argument("--cfg", action="store_true", help="print the composed configuration and stop")
    parser.add_argument("--show", action="store_true", help="open the report page in a browser")
    _overrides(parser)


def _sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cfg", action="store_true", help="print the composed configuration and stop")
    parser.add_argument("--estimate", action="store_true", help="say how long it would take and stop")
    _overrides(parser)


def _one_sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", metavar="SWEEP", help="a sweep's id, a unique beginning of one, its name, or `last`")


def _resume(parser: argparse.ArgumentParser) -> None:
    _one_sweep(parser)
    parser.add_argument(
        "overrides", nargs="*", metavar="search.key=value", help="workers, timeouts, patience, failures, track, top, select"
    )


def _extend(parser: argparse.ArgumentParser) -> None:
    _one_sweep(parser)
    parser.add_argument("trials", type=int, metavar="TRIALS", help="the new target: trials in all, those that are done included")
    parser.add_argument("overrides", nargs="*", metavar="search.key=value")


def _sweep_report(parser: argparse.ArgumentParser) -> None:
    _one_sweep(parser)
    parser.add_argument("--export", metavar="NAME", help="write the winner to experiments/NAME_best.yaml")


def _run_ids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_ids", nargs="+", metavar="RUN_ID", help="a run id, a unique beginning of one, or `last`, `last~1` …")


def _run_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="RUN_ID", help="a run id, a unique beginning of one, or `last`, `last~1` …")


def _report(parser: argparse.ArgumentParser) -> None:
    _run_id(parser)
    parser.add_argument("--png", metavar="DIR", help="write every chart of the page as a picture (needs Chromium)")


def _promote(parser: argparse.ArgumentParser) -> None:
    _run_id(parser)
    parser.add_argument("--to", default="paper", choices=["paper", "live"], help="live takes only what has traded on paper")
    parser.add_argument("--name", help="the name that `mcl live NAME` trades; default: paper or live")
    parser.add_argument("--waive", action="append", default=[], metavar="GATE", help="let a missed gate through; may be repeated")
    parser.add_argument("--because", default="", metavar="WHY", help="the reason, which the version keeps for ever")
    _overrides(parser)


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a promoted name or a version number")


def _rollback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a promoted name, for instance paper")
    parser.add_argument("--because", default="", metavar="WHY", help="the reason; must be given")


def _two_versions(parser: argparse.ArgumentParser) -> None:
    for which in ("first", "second"):
        parser.add_argument(which, metavar="VERSION", help="a name or a number of the registry, for instance paper, previous, 3")


def _maybe_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="a promoted name; default: all")


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="a key of the configuration, for instance strategy.fast")
    parser.add_argument("rest", nargs="*", metavar="RUN_ID|NAME|key=value", help="a run, a promoted name, or overrides; default: none")


def _validate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="RUN_ID|SWEEP_ID", help="a run, or a search whose best run is meant")
    _overrides(parser)


def _select(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep_id", metavar="SWEEP_ID", help="a sweep or a grid")
    parser.add_argument(
        "--constraint", action="append", default=[], metavar="RULE", help='for instance "max_drawdown_frac > -0.25"; may be repeated'
    )


def _trials(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", help="one strategy only")
    parser.add_argument("--limit", type=int, default=10, help="how many of the newest rows are listed")


def _live(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a promoted name, for instance paper")
    _overrides(parser)


def _audit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("date", metavar="DATE", help="trade date of the session, YYYY-MM-DD")
    parser.add_argument("name", metavar="NAME", nargs="?", default="paper", help="the name that traded it; default: paper")


def _session_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="a promoted name; default: the only one")


def _status(parser: argparse.ArgumentParser) -> None:
    _session_name(parser)
    parser.add_argument("-w", "--watch", action="store_true", help="stay, and show every change until the session ends")


def _act(parser: argparse.ArgumentParser) -> None:
    _session_name(parser)
    parser.add_argument("--because", default="", metavar="REASON", help="stands in the journal and in the alert")
    parser.set_defaults(verb=parser.prog.removeprefix("mcl "))


def _why(parser: argparse.ArgumentParser) -> None:
    _session_name(parser)
    parser.add_argument("--count", type=int, default=10, metavar="N", help="how many of the last decisions")
    parser.add_argument("--trades", action="store_true", help="only decisions that sent an order")


def _dashboard(parser: argparse.ArgumentParser) -> None:
    _session_name(parser)
    parser.add_argument("--port", type=int, default=8765, help="on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--act", action="store_true", help="give the page a token: pause, resume, reduce-only, flatten, stop")


def _ui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=5000)


def _download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--symbol", default="MCL.FUT", help="MCL.FUT is the parent: all expiries and spreads; MCL.v.0, MCLG6, CL.FUT …")
    parser.add_argument("--schema", default="ohlcv-1m", help="ohlcv-1m, ohlcv-1d, mbp-1, mbp-10, trades, definition …")
    parser.add_argument("--start", help="first trade date, YYYY-MM-DD")
    parser.add_argument("--end", help="first trade date that is left out; default: all there is")
    parser.add_argument("--max-cost", type=float, default=5.0, help="refuse above this many US dollars (data.max_cost)")
    parser.add_argument("--yes", action="store_true", help="pay whatever it costs without asking")
    parser.add_argument("--estimate", action="store_true", help="show cost, size and record count, then stop")
    parser.add_argument("--batch", action="store_true", help="through the vendor's batch jobs, for large ranges")
    parser.add_argument("--workers", type=int, default=4, help="chunks that are fetched at once (data.workers)")
    parser.add_argument("--gateway", metavar="URL", help="another gateway, for instance of `mcl data gateway` (data.gateway)")
    parser.add_argument("--gateway-ca", metavar="FILE", help="the certificate to trust (data.gateway_ca); found for a loopback gateway")
    _overrides(parser)


def _gateway(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--world", choices=["planted", "zero"], default="planted", help="the generated world that is served")
    parser.add_argument("--folder", help="serve the DBN files of this folder instead")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="WHAT", help="for instance truncate=0.6,times=1 · status=429,retry_after=2"
    )
    parser.add_argument("--degraded", action="append", default=[], metavar="DAY", help="a day that is called degraded")
    parser.add_argument("--key", action="append", default=[], help="accept this key only; default: any")
    parser.add_argument("--batch-delay", type=float, default=1.0, metavar="SEC", help="how long a batch job waits")
    _overrides(parser)


def _costs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--contracts", default="1,2,5,10", help="sizes of the market orders; the first is what slippage_ticks stands for")
    parser.add_argument("--sessions", type=int, default=5, help="sessions of a generated world for which books are made")
    parser.add_argument("--name", help="write conf/costs/NAME.yaml, to be used with costs=NAME")
    _overrides(parser)


def _contract(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--on", help="first day of the twelve months, YYYY-MM-DD (default: today)")
    parser.add_argument("--broker", action="store_true", help="ask the configured broker too, for instance with broker=ib_paper")
    _overrides(parser)


def _lookahead(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=20, metavar="K", help="rows at which the future is cut off")
    _overrides(parser)


def _warmup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=100, metavar="K", help="rows at which the last value is judged")
    parser.add_argument("--lengths", metavar="N,N,…", help="warm-up lengths in bars; default: parts of the declared memory")
    _overrides(parser)


def _new_strategy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="lower-case letters, digits and underscores")


def _backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", metavar="FILE", help="default: backups/mcl-<time>.tar.zst in the project")
    parser.add_argument("--data", action="store_true", help="with the market data, which can be had again otherwise")


def _restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", metavar="FILE", nargs="?", help="an archive; none: finish a restore that was cut off")
    parser.add_argument("--replace", action="store_true", help="although runs or journals are there: they are set aside, not deleted")
    parser.add_argument("--check", action="store_true", help="read it whole, compare every hash, change nothing")


def _gc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--older-than", type=float, default=30, metavar="DAYS", help="deleted runs and what restores set aside")
    parser.add_argument("--keep", type=int, default=10, metavar="N", help="backups that are kept")
    parser.add_argument("--dry-run", action="store_true", help="list it and remove nothing")


def _init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a new or empty folder")


def _tws_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, help="default: broker.port, else 7497")
    parser.add_argument("--session", metavar="DAY", help="first trade date to play, YYYY-MM-DD; default: the last of the data")
    parser.add_argument("--sessions", type=int, default=1, help="how many sessions")
    parser.add_argument(
        "--contract", action="append", default=[], help="a contract of the data, repeatable, or all; default: the active one"
    )
    parser.add_argument("--also", action="append", default=[], metavar="WORDS", help='another market: "data=csv data.instrument=CL …"')
    parser.add_argument("--detail", choices=["bars", "ticks", "seconds"], default="bars", help="ticks: all quotes of the order books")
    parser.add_argument("--walk", action="store_true", help="no data at all: random walks of MCL and CL from now on. SYNTHETIC")
    parser.add_argument("--today", action="store_true", help="as if it were today: the session's prices at today's clock")
    parser.add_argument("--clock", default="real", help="real, a number (so many times real time), lockstep, stepped")
    parser.add_argument("--liquidity", type=float, default=0.0, help="share of a bar's volume that orders can trade; 0: any size fills")
    parser.add_argument("--state", metavar="FILE", help="keep orders and account for the next start")
    parser.add_argument("--transcript", metavar="FILE", help="write all traffic, for `mcl tws log`")
    parser.add_argument("--control", type=int, default=0, help="port of the control socket; 0 takes a free one")
    parser.add_argument("--fault", action="append", default=[], metavar="JSON", help='{"name": "cut", "on": "send execDetails"}')
    parser.add_argument("--seed", type=int, default=0, help="of faults by chance, and of --walk")
    parser.add_argument("--server-version", type=int, default=178, choices=[176, 177, 178])
    parser.add_argument("--until-end", action="store_true", help="stop when everything has been played")
    _overrides(parser)


def _tws_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, help="of the server; default: all that were started here")


def _tws_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a transcript, or a recording in the same columns")
    parser.add_argument("--only", metavar="NAME", help="messages of this name, for instance openOrder")
    parser.add_argument("--client", metavar="NAME", help="messages of this client, for instance client-17")
    parser.add_argument("--tail", type=int, default=0, metavar="N", help="the last N only")
    parser.add_argument("--whole", action="store_true", help="every field that is not empty")


def _runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", default="mcl", help="the MLflow experiment to list")
    parser.add_argument("--limit", type=int, default=20)


def _nothing(parser: argparse.ArgumentParser) -> None:
    del parser


VERBS = {
    verb.name: verb
    for verb in (
        Verb("backtest", "run one configuration, or a grid of them with -m", _backtest, "mcl.verbs.research:backtest"),
        Verb("sweep", "search parameters with Optuna; every trial is a tracked run", _sweep, "mcl.verbs.research:sweep"),
        Verb("sweep resume", "go on with a sweep that was stopped or killed", _resume, "mcl.verbs.sweeps:resume"),
        Verb("sweep extend", "give a sweep more trials", _extend, "mcl.verbs.sweeps:extend"),
        Verb("sweep status", "where a sweep stands, from any shell", _one_sweep, "mcl.verbs.sweeps:status"),
        Verb("sweep stop", "end a running sweep after the trials that run", _one_sweep, "mcl.verbs.sweeps:stop"),
        Verb("sweep report", "tables and page of a sweep, finished or not", _sweep_report, "mcl.verbs.sweeps:report"),
        Verb("compare", "one page over several runs: curves, config and metric differences", _run_ids, "mcl.verbs.research:compare"),
        Verb(
            "report", "print a run's summary and where its page is; its charts as pictures with --png", _report, "mcl.verbs.research:report"
        ),
        Verb("rerun", "make any stored run again: bit-equal, or the input that moved", _run_id, "mcl.verbs.rerun:rerun"),
        Verb("runs", "list tracked runs", _runs, "mcl.verbs.research:runs"),
        Verb(
            "validate",
            "question a run: walk-forward, CPCV, hold-out, costs, plateau, delay, regimes",
            _validate,
            "mcl.verbs.judge:validate",
        ),
        Verb("critique", "what is suspicious about a run, the gravest first", _run_id, "mcl.verbs.judge:critique"),
        Verb("select", "pick from a search by plateau and deflated Sharpe, not by the peak", _select, "mcl.verbs.judge:select"),
        Verb("trials", "the trial ledger: what was tried, and how much luck that buys", _trials, "mcl.verbs.judge:ledger"),
        Verb("promote", "gate a run and register it as the version that NAME trades", _promote, "mcl.verbs.registry:promote"),
        Verb("registry", "every promoted version: numbers, gates, names, live record", _nothing, "mcl.verbs.registry:registry"),
        Verb("registry report", "the page of a version: its live curve in the expected band", _named, "mcl.verbs.registry:report"),
        Verb("rollback", "give a name back to the version that had it before", _rollback, "mcl.verbs.registry:rollback"),
        Verb("promoted diff", "what differs between two promoted versions", _two_versions, "mcl.verbs.registry:diff"),
        Verb("promoted history", "who moved which name when, in registry and git", _maybe_name, "mcl.verbs.registry:history"),
        Verb("explain", "where a value of the configuration came from", _explain, "mcl.verbs.registry:explain"),
        Verb("live", "trade a promoted version: embedded simulated TWS, or broker=ib_paper", _live, "mcl.verbs.trade:live"),
        Verb("live audit", "hold a past session against the backtest of its bars once more", _audit, "mcl.verbs.trade:audit"),
        Verb("status", "how a session stands: state, position, P&L, last decisions; --watch stays", _status, "mcl.verbs.operate:status"),
        Verb("pause", "a running session decides and writes down, but sends nothing", _act, "mcl.verbs.operate:act"),
        Verb("resume", "let a paused or reducing session trade again", _act, "mcl.verbs.operate:act"),
        Verb("reduce-only", "a running session may close risk, not open it", _act, "mcl.verbs.operate:act"),
        Verb("flatten", "close the position of a running session now", _act, "mcl.verbs.operate:act"),
        Verb("stop", "end a running session; protective orders stay at the broker", _act, "mcl.verbs.operate:act"),
        Verb("adopt", "answer a HALTED session: take over what the account holds, then compare again", _act, "mcl.verbs.operate:act"),
        Verb("kill", "flatten and end now; the kill switch stays set until its file is removed", _act, "mcl.verbs.operate:act"),
        Verb("orders", "orders of the running or last session, with what came of them", _session_name, "mcl.verbs.operate:orders"),
        Verb("fills", "executions of the running or last session", _session_name, "mcl.verbs.operate:fills"),
        Verb(
            "why",
            "the last decisions, each with its reasons from signal to order",
            _why,
            "mcl.verbs.operate:why",
        ),
        Verb(
            "dashboard",
            "a page that follows a session; --act lets it command",
            _dashboard,
            "mcl.verbs.operate:dashboard",
        ),
        Verb("data build", "build the Parquet store of a data source", _overrides, "mcl.verbs.data:build"),
        Verb("data info", "describe a data source: bars, contracts, rolls, fingerprint", _overrides, "mcl.verbs.data:info"),
        Verb("data check", "judge a data source: coverage, gaps, damage, rolls; exit 1 on errors", _overrides, "mcl.verbs.check:data"),
        Verb("data costs", "measure spread, depth and slippage from order books", _costs, "mcl.verbs.check:costs"),
        Verb("contract check", "compare the last-trade rule with the definitions", _contract, "mcl.verbs.check:contract"),
        Verb("data download", "download from Databento, after asking what it costs", _download, "mcl.verbs.download:download"),
        Verb(
            "data gateway",
            "serve the synthetic world, or DBN files, to the Databento client on loopback",
            _gateway,
            "mcl.verbs.download:gateway",
        ),
        Verb(
            "store backup",
            "copy runs, journals and promoted configurations into one file, while others write",
            _backup,
            "mcl.verbs.store:backup",
        ),
        Verb("store restore", "verify such a file and put it back", _restore, "mcl.verbs.store:restore"),
        Verb("store gc", "remove what nobody can reach any more; evidence stays", _gc, "mcl.verbs.store:collect"),
        Verb("init", "make a project folder: conf, experiments, .env.example", _init, "mcl.verbs.machine:init"),
        Verb("doctor", "check this machine and say what to do", _nothing, "mcl.verbs.machine:examine"),
        Verb("new strategy", "write a strategy of your own: code, config, search space, test", _new_strategy, "mcl.verbs.strategy:new"),
        Verb("check lookahead", "cut the future off at random bars: does the strategy peek?", _lookahead, "mcl.verbs.strategy:lookahead"),
        Verb("check warmup", "cut the past off: does the strategy declare enough memory?", _warmup, "mcl.verbs.strategy:warmup"),
        Verb("tws serve", "run the simulated TWS on a port: any client of the TWS API can trade on it", _tws_serve, "mcl.verbs.tws:serve"),
        Verb("tws status", "what the simulated TWS of this project are doing", _tws_status, "mcl.verbs.tws:status"),
        Verb("tws log", "show a transcript of TWS traffic", _tws_log, "mcl.verbs.tws:log"),
        Verb("ui", "start the MLflow UI on this project's runs", _ui, "mcl.verbs.research:ui"),
    )
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; 1, and no word, when whoever reads the output has left (`mcl runs | head -1`)."""
    if argv is None:
        sys.excepthook = _uncaught
    try:
        code = _main(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer would fail again at exit
        return 1
    return code


def _main(args: list[str]) -> int:
    flags, rest = _global_flags(args)
    if not rest or rest[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if rest else 2
    if rest[0] == "--version":
        print(__version__)
        return 0
    try:
        verb, parsed = parse(rest)
    except SystemExit as stop:
        return int(stop.code or 0)
    return _run(verb, parsed, flags)


def parse(words: list[str]) -> tuple[Verb, argparse.Namespace]:
    """The verb that a command line names, and its arguments. Ends the process like argparse when there is no such line."""
    name = " ".join(words[: 2 if " ".join(words[:2]) in VERBS else 1])
    if name not in VERBS:
        print(f"mcl: unknown verb {' '.join(words[:2])!r}: {nearest(' '.join(words[:2]), VERBS)}", file=sys.stderr)
        raise SystemExit(2)
    verb = VERBS[name]
    parser = argparse.ArgumentParser(prog=f"mcl {name}", description=verb.summary)
    verb.arguments(parser)
    parsed = parser.parse_intermixed_args(words[len(name.split()) :])
    parsed.verb = name
    return verb, parsed


def _run(verb: Verb, parsed: argparse.Namespace, flags: set[str]) -> int:
    from mcl import screen

    screen.configure(as_json="--json" in flags, verbose=bool(flags & {"-v", "--verbose"}), quiet="--quiet" in flags)
    module, function = verb.handler.split(":")
    try:
        return int(getattr(import_module(module), function)(parsed))
    except MclError as error:
        screen.refuse(error)
        return 1
    except KeyboardInterrupt:
        screen.refuse(MclError("interrupted: what was done is kept", "run the same command again to go on"))
        return 1


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A bug's traceback, without the secrets that its message may hold."""
    import traceback

    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))


def _global_flags(args: list[str]) -> tuple[set[str], list[str]]:
    known = {"--json", "-v", "--verbose", "--quiet"}
    count = next((i for i, arg in enumerate(args) if arg not in known), len(args))
    return set(args[:count]), args[count:]


def _usage() -> str:
    width = max(map(len, VERBS))
    return USAGE.format(verbs="\n".join(f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS.values()))


if __name__ == "__main__":
    sys.exit(main())
