"""The arguments of the verbs of operating: projects, promotion, live sessions, the simulated TWS,
the store. One function per command line adds its arguments to a parser.
"""

from __future__ import annotations

import argparse

from mcl.cli.arguments import (
    COUNT,
    LONGEST_DAYS,
    PORT,
    PRICE,
    amount,
    overrides,
    run_or_search,
    whole,
)


def promote(parser: argparse.ArgumentParser) -> None:
    run_or_search(parser)
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


def demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        nargs="?",
        default="mcl-demo",
        metavar="DIR",
        help="a new folder for its project; default: mcl-demo",
    )
    parser.add_argument(
        "--acts",
        type=int,
        choices=(1, 2, 3),
        default=3,
        help="how many acts: 1 is the real market alone, 2 adds generated worlds, 3 a session",
    )


def named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a promoted name or a version number")


def rollback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="a promoted name, for instance paper"
    )
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


def live(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="a promoted name, for instance paper"
    )
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
        "--because", default="", metavar="REASON", help="the reason, for the journal and the alert"
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


def init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a new or empty folder")


def completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=("bash", "zsh", "fish"), help='for bash: eval "$(mcl completion bash)"'
    )


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
        type=amount(0, LONGEST_DAYS),
        default=30,
        metavar="DAYS",
        help="deleted runs and what restores set aside",
    )
    parser.add_argument(
        "--keep", type=whole(0, 1_000_000), default=10, metavar="N", help="backups that are kept"
    )
    parser.add_argument("--dry-run", action="store_true", help="list it and remove nothing")


def tws_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=PORT, help="default: broker.port, else 7497")
    parser.add_argument(
        "--session",
        metavar="DAY",
        help="first trade date to play, YYYY-MM-DD; default: the last of the data",
    )
    parser.add_argument("--sessions", type=whole(1, 10_000), default=1, help="how many sessions")
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
        type=amount(0, 1e6),
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
        "--seed", type=whole(0), default=0, help="of faults by chance, and of --walk"
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
    parser.add_argument("--tail", type=whole(0), default=0, metavar="N", help="the last N only")
    parser.add_argument("--whole", action="store_true", help="every field that is not empty")
