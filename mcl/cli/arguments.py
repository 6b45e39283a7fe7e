"""What may stand behind each verb: one function per shape of a command line, each adds its
arguments to a parser.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

LARGEST = 2**31 - 1
LONGEST_DAYS = 36_525
STUDY = "mcl"  # that runs are filed under where nobody says another


def _whole(least: int, most: int = LARGEST) -> Callable[[str], int]:
    """The type of an option that is a whole number between two bounds."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]} is not between {least} and {most:,}")
        return value

    return number


def _amount(least: float, most: float = 1e9) -> Callable[[str], float]:
    """The type of an option that is a finite number between two bounds."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number") from None
        if not (math.isfinite(value) and least <= value <= most):
            raise argparse.ArgumentTypeError(f"{text[:40]} is not between {least:g} and {most:,g}")
        return value

    return number


PORT = _whole(0, 65_535)
COUNT = _whole(1, 1_000_000)
WORKERS = _whole(1, 64)
PRICE = _amount(0, 1e6)  # in US dollars


def overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="configuration overrides in Hydra's grammar",
    )


CONFIGURATIONS = ("run", "job", "hydra", "all")
INFORMATION = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
# option -> its values; none typed: the first
OPTIONAL = {"--cfg": CONFIGURATIONS, "-c": CONFIGURATIONS, "--info": INFORMATION}


def completed(words: list[str]) -> list[str]:
    """`--cfg strategy=tsmom` as `--cfg=run strategy=tsmom`: the value of these options may be left
    out.
    """
    found: list[str] = []
    pending = iter([*words, ""])
    word = next(pending)
    for after in pending:
        values = OPTIONAL.get(word)
        if values is None:
            found.append(word)
            word = after
        elif after in values:
            found.append(f"{LONG.get(word, word)}={after}")
            word = next(pending, "")
        else:
            found.append(f"{LONG.get(word, word)}={values[0]}")
            word = after
    return found


LONG = {"-c": "--cfg"}


def composition(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cfg",
        "-c",
        choices=CONFIGURATIONS,
        help="print the configuration and stop: validated, or job, hydra, all as Hydra does",
    )
    parser.add_argument(
        "--resolve",
        action="store_true",
        help="with --cfg job|hydra|all: interpolations as their values",
    )
    parser.add_argument(
        "--package", "-p", metavar="KEY", help="with --cfg job|hydra|all: this part only"
    )
    parser.add_argument(
        "--info",
        choices=INFORMATION,
        help="print what Hydra knows: defaults list and tree, search path, plugins",
    )
    parser.add_argument(
        "--config-dir", metavar="DIR", help="a folder whose choices come before those of conf/"
    )


def backtest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-m",
        "--multirun",
        action="store_true",
        help="run the product of all comma lists, ranges and globs",
    )
    composition(parser)
    parser.add_argument("--show", action="store_true", help="open the report page in a browser")
    parser.add_argument(
        "--from",
        dest="base",
        metavar="RUN|NAME",
        help="begin at a run, or at what is promoted; overrides change that",
    )
    every_metric(parser)
    overrides(parser)


def every_metric(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="every metric, not only the headlines")


def compare(parser: argparse.ArgumentParser) -> None:
    run_ids(parser)
    every_metric(parser)


def sweep(parser: argparse.ArgumentParser) -> None:
    composition(parser)
    parser.add_argument(
        "--estimate", action="store_true", help="say how long it would take and stop"
    )
    overrides(parser)


def one_sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sweep",
        metavar="SWEEP",
        help="a sweep's id, a unique beginning of one, its name, or `last`",
    )


def resume(parser: argparse.ArgumentParser) -> None:
    one_sweep(parser)
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="search.key=value",
        help="workers, timeouts, patience, failures, track, top, select",
    )


def extend(parser: argparse.ArgumentParser) -> None:
    one_sweep(parser)
    parser.add_argument(
        "trials",
        type=COUNT,
        metavar="TRIALS",
        help="the new target: trials in all, those that are done included",
    )
    parser.add_argument("overrides", nargs="*", metavar="search.key=value")


def sweep_report(parser: argparse.ArgumentParser) -> None:
    one_sweep(parser)
    parser.add_argument(
        "--export", metavar="NAME", help="write the winner to experiments/NAME_best.yaml"
    )


def run_ids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_ids",
        nargs="+",
        metavar="RUN_ID",
        help="a run id, a unique beginning of one, or `last`, `last~1` …",
    )


def run_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_id",
        metavar="RUN_ID",
        help="a run id, a unique beginning of one, or `last`, `last~1` …",
    )


def report(parser: argparse.ArgumentParser) -> None:
    run_id(parser)
    every_metric(parser)
    parser.add_argument(
        "--png", metavar="DIR", help="write every chart of the page as a picture (needs Chromium)"
    )


def promote(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_id",
        metavar="RUN_ID|SEARCH",
        help="a run, or a search, whose choice by plateau is meant (mcl select)",
    )
    parser.add_argument(
        "--to",
        default="paper",
        choices=["paper", "live"],
        help="live takes only what has traded on paper",
    )
    parser.add_argument(
        "--name", help="the name that `mcl live NAME` trades; default: paper or live"
    )
    parser.add_argument(
        "--waive",
        action="append",
        default=[],
        metavar="GATE",
        help="let a missed gate through; may be repeated",
    )
    parser.add_argument(
        "--because", default="", metavar="WHY", help="the reason, which the version keeps for ever"
    )
    overrides(parser)


def named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a promoted name or a version number")


def rollback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a promoted name, for instance paper")
    parser.add_argument("--because", default="", metavar="WHY", help="the reason; must be given")


def two_versions(parser: argparse.ArgumentParser) -> None:
    for which in ("first", "second"):
        parser.add_argument(
            which,
            metavar="VERSION",
            help="a name or a number of the registry, for instance paper, previous, 3",
        )


def maybe_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="a promoted name; default: all")


def explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "key", metavar="KEY", help="a key of the configuration, for instance strategy.fast"
    )
    parser.add_argument(
        "rest",
        nargs="*",
        metavar="RUN_ID|NAME|key=value",
        help="a run, a promoted name, or overrides; default: none",
    )


def validate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_id", metavar="RUN_ID|SWEEP_ID", help="a run, or a search whose best run is meant"
    )
    overrides(parser)


def select(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep_id", metavar="SWEEP_ID", help="a sweep or a grid")
    parser.add_argument(
        "--constraint",
        action="append",
        default=[],
        metavar="RULE",
        help='for instance "max_drawdown_frac > -0.25"; may be repeated',
    )


def trials(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", help="one strategy only")
    parser.add_argument(
        "--limit", type=COUNT, default=10, help="how many of the newest rows are listed"
    )


def live(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a promoted name, for instance paper")
    parser.add_argument(
        "--stay",
        action="store_true",
        help="trade session after session until somebody says stop; not with broker=ib_sim",
    )
    parser.add_argument(
        "--fetch-max-cost",
        type=PRICE,
        default=1.0,
        metavar="USD",
        help=(
            "with --stay: data that are missing are bought before each session up to this price; 0:"
            " nothing is fetched"
        ),
    )
    overrides(parser)


def audit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("date", metavar="DATE", help="trade date of the session, YYYY-MM-DD")
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        default="paper",
        help="the name that traded it; default: paper",
    )


def session_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="a promoted name; default: the only one"
    )


def status(parser: argparse.ArgumentParser) -> None:
    session_name(parser)
    parser.add_argument(
        "-w",
        "--watch",
        action="store_true",
        help="stay, and show every change until the session ends",
    )


def act(parser: argparse.ArgumentParser) -> None:
    session_name(parser)
    parser.add_argument(
        "--because", default="", metavar="REASON", help="stands in the journal and in the alert"
    )
    parser.set_defaults(verb=parser.prog.removeprefix("mcl "))


def why(parser: argparse.ArgumentParser) -> None:
    session_name(parser)
    parser.add_argument(
        "--count", type=COUNT, default=10, metavar="N", help="how many of the last decisions"
    )
    parser.add_argument("--trades", action="store_true", help="only decisions that sent an order")


def dashboard(parser: argparse.ArgumentParser) -> None:
    session_name(parser)
    parser.add_argument("--port", type=PORT, default=8765, help="on 127.0.0.1; 0 takes a free one")
    parser.add_argument(
        "--act",
        action="store_true",
        help="give the page a token: pause, resume, reduce-only, flatten, stop",
    )


def ui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=PORT, default=5000, help="on 127.0.0.1; the links of the pages expect 5000"
    )


def download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--symbol",
        default="MCL.FUT",
        help="MCL.FUT is the parent: all expiries and spreads; MCL.v.0, MCLG6, CL.FUT …",
    )
    parser.add_argument(
        "--schema",
        default="ohlcv-1m",
        help="ohlcv-1m, ohlcv-1d, mbp-1, mbp-10, trades, definition …",
    )
    parser.add_argument("--start", help="first trade date, YYYY-MM-DD")
    parser.add_argument("--end", help="first trade date that is left out; default: all there is")
    parser.add_argument(
        "--max-cost",
        type=PRICE,
        default=5.0,
        help="refuse above this many US dollars (data.max_cost)",
    )
    parser.add_argument("--yes", action="store_true", help="pay whatever it costs without asking")
    parser.add_argument(
        "--estimate", action="store_true", help="show cost, size and record count, then stop"
    )
    parser.add_argument(
        "--batch", action="store_true", help="through the vendor's batch jobs, for large ranges"
    )
    parser.add_argument(
        "--workers", type=WORKERS, default=4, help="chunks that are fetched at once (data.workers)"
    )
    parser.add_argument(
        "--gateway",
        metavar="URL",
        help="another gateway, for instance of `mcl data gateway` (data.gateway)",
    )
    parser.add_argument(
        "--gateway-ca",
        metavar="FILE",
        help="the certificate to trust (data.gateway_ca); found for a loopback gateway",
    )
    overrides(parser)


def gateway(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=PORT, default=0, help="0 takes a free one")
    parser.add_argument(
        "--world",
        choices=["planted", "zero"],
        default="planted",
        help="the generated world that is served",
    )
    parser.add_argument("--folder", help="serve the DBN files of this folder instead")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="WHAT",
        help="for instance truncate=0.6,times=1 · status=429,retry_after=2",
    )
    parser.add_argument(
        "--degraded",
        action="append",
        default=[],
        metavar="DAY",
        help="a day that is called degraded",
    )
    parser.add_argument(
        "--key", action="append", default=[], help="accept this key only; default: any"
    )
    parser.add_argument(
        "--batch-delay",
        type=_amount(0, 3600),
        default=1.0,
        metavar="SEC",
        help="how long a batch job waits",
    )
    overrides(parser)


def costs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--contracts",
        default="1,2,5,10",
        help="sizes of the market orders; the first is what slippage_ticks stands for",
    )
    parser.add_argument(
        "--sessions",
        type=_whole(1, 10_000),
        default=5,
        help="sessions of a generated world for which books are made",
    )
    parser.add_argument("--name", help="write conf/costs/NAME.yaml, to be used with costs=NAME")
    overrides(parser)


def contract(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--on", help="first day of the twelve months, YYYY-MM-DD (default: today)")
    parser.add_argument(
        "--broker",
        action="store_true",
        help="ask the configured broker too, for instance with broker=ib_paper",
    )
    overrides(parser)


def lookahead(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--samples", type=COUNT, default=40, metavar="K", help="rows at which the future is cut off"
    )
    overrides(parser)


def warmup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--samples",
        type=COUNT,
        default=100,
        metavar="K",
        help="rows at which the last value is judged",
    )
    parser.add_argument(
        "--lengths",
        metavar="N,N,…",
        help="warm-up lengths in bars; default: parts of the declared memory",
    )
    overrides(parser)


def new_strategy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="lower-case letters, digits and underscores")


def backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to", metavar="FILE", help="default: backups/mcl-<time>.tar.zst in the project"
    )
    parser.add_argument(
        "--data", action="store_true", help="with the market data, which can be had again otherwise"
    )


def restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "archive",
        metavar="FILE",
        nargs="?",
        help="an archive; none: finish a restore that was cut off",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="although runs or journals are there: they are set aside, not deleted",
    )
    parser.add_argument(
        "--check", action="store_true", help="read it whole, compare every hash, change nothing"
    )


def gc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--older-than",
        type=_amount(0, LONGEST_DAYS),
        default=30,
        metavar="DAYS",
        help="deleted runs and what restores set aside",
    )
    parser.add_argument(
        "--keep", type=_whole(0, 1_000_000), default=10, metavar="N", help="backups that are kept"
    )
    parser.add_argument("--dry-run", action="store_true", help="list it and remove nothing")


def completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=("bash", "zsh", "fish"), help='for bash: eval "$(mcl completion bash)"'
    )


def init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a new or empty folder")


def tws_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=PORT, help="default: broker.port, else 7497")
    parser.add_argument(
        "--session",
        metavar="DAY",
        help="first trade date to play, YYYY-MM-DD; default: the last of the data",
    )
    parser.add_argument("--sessions", type=_whole(1, 10_000), default=1, help="how many sessions")
    parser.add_argument(
        "--contract",
        action="append",
        default=[],
        help="a contract of the data, repeatable, or all; default: the active one",
    )
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="WORDS",
        help='another market: "data=csv data.instrument=CL …"',
    )
    parser.add_argument(
        "--detail",
        choices=["bars", "ticks", "seconds"],
        default="bars",
        help="ticks: all quotes of the order books",
    )
    parser.add_argument(
        "--walk",
        action="store_true",
        help="no data at all: random walks of MCL and CL from now on. SYNTHETIC",
    )
    parser.add_argument(
        "--today",
        action="store_true",
        help="as if it were today: the session's prices at today's clock",
    )
    parser.add_argument(
        "--clock",
        default="real",
        help="real, a number (so many times real time), lockstep, stepped",
    )
    parser.add_argument(
        "--liquidity",
        type=_amount(0, 1e6),
        default=0.0,
        help="share of a bar's volume that orders can trade; 0: any size fills",
    )
    parser.add_argument(
        "--state", metavar="FILE", help="keep orders and account for the next start"
    )
    parser.add_argument("--transcript", metavar="FILE", help="write all traffic, for `mcl tws log`")
    parser.add_argument(
        "--control", type=PORT, default=0, help="port of the control socket; 0 takes a free one"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="JSON",
        help='{"name": "cut", "on": "send execDetails"}',
    )
    parser.add_argument(
        "--seed", type=_whole(0), default=0, help="of faults by chance, and of --walk"
    )
    parser.add_argument("--server-version", type=int, default=178, choices=[176, 177, 178])
    parser.add_argument(
        "--until-end", action="store_true", help="stop when everything has been played"
    )
    overrides(parser)


def tws_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=PORT, help="of the server; default: all that were started here"
    )


def tws_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="a transcript, or a recording in the same columns"
    )
    parser.add_argument(
        "--only", metavar="NAME", help="messages of this name, for instance openOrder"
    )
    parser.add_argument(
        "--client", metavar="NAME", help="messages of this client, for instance client-17"
    )
    parser.add_argument("--tail", type=_whole(0), default=0, metavar="N", help="the last N only")
    parser.add_argument("--whole", action="store_true", help="every field that is not empty")


def runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", default=STUDY, help="the MLflow experiment to list")
    parser.add_argument("--alias", help="sessions of this promoted version only")
    parser.add_argument("--limit", type=COUNT, default=20)


def nothing(parser: argparse.ArgumentParser) -> None:
    del parser
