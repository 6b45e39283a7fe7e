"""The arguments of the verbs of research: data, backtests, sweeps, validation. One function per
command line adds its arguments to a parser.
"""

from __future__ import annotations

import argparse

from mcl.cli.arguments import (
    CONFIGURATIONS,
    COUNT,
    INFORMATION,
    PORT,
    PRICE,
    WORKERS,
    amount,
    overrides,
    run_id,
    run_or_search,
    whole,
)

STUDY = "mcl"  # the MLflow experiment of a run that names none


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


def extend_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="the data source, for instance eia")
    parser.add_argument("file", metavar="FILE", help="a newer table of the same shape")


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


def report(parser: argparse.ArgumentParser) -> None:
    run_id(parser)
    every_metric(parser)
    parser.add_argument(
        "--png", metavar="DIR", help="write every chart of the page as a picture (needs Chromium)"
    )


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
    run_or_search(parser)
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


def ui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=PORT, default=5000, help="on 127.0.0.1; the links of the pages expect 5000"
    )


def download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--symbol",
        default="MCL.FUT",
        help="MCL.FUT is the parent: all expiries and spreads; MCLG6, CL.FUT …",
    )
    parser.add_argument(
        "--schema",
        default="ohlcv-1m",
        help="ohlcv-1m, ohlcv-1s, ohlcv-1h, mbp-1, mbp-10, tbbo, bbo-1s, definition …",
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
        type=amount(0, 3600),
        default=1.0,
        metavar="SEC",
        help="how long a batch job waits",
    )
    overrides(parser)


def costs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--contracts",
        default="1,2,5,10",
        help="sizes of the market orders; slippage_ticks is that of the first",
    )
    parser.add_argument(
        "--sessions",
        type=whole(1, 10_000),
        default=5,
        help="sessions of a generated world for which books are made",
    )
    parser.add_argument(
        "--events",
        type=whole(1, 100_000_000),
        help="rows of each of these books, trades included; default: a few quotes a minute",
    )
    parser.add_argument("--name", help="write conf/costs/NAME.yaml, to be used with costs=NAME")
    overrides(parser)


def sniff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a CSV, also packed (.gz, .zst, .zip)")
    parser.add_argument("--write", metavar="NAME", help="write conf/data/NAME.yaml: data=NAME")
    parser.add_argument(
        "keys",
        nargs="*",
        metavar="data.key=value",
        help="keys that hold whatever the file shows, for instance data.timezone=UTC",
    )


def data_compare(parser: argparse.ArgumentParser) -> None:
    source = "a choice of the group data, with keys of its own: 'kibot data.path=a.txt'"
    parser.add_argument("a", metavar="A", help=source)
    parser.add_argument("b", metavar="B", help=source)
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


def new_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="lower-case letters, digits and underscores")


def runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", default=STUDY, help="the MLflow experiment to list")
    parser.add_argument("--alias", help="sessions of this promoted version only")
    parser.add_argument("--limit", type=COUNT, default=20)
