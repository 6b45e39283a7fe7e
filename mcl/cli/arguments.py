"""The types of options, and the arguments that several verbs share."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Callable

from mcl.base.errors import ConfigError

LARGEST = 2**31 - 1
LONGEST_DAYS = 36_525


def words_of(text: str) -> list[str]:
    """The words of a text as a shell splits them. ConfigError where a quote stays open."""
    try:
        return shlex.split(text)
    except ValueError:
        raise ConfigError(
            f"{text[:200]!r} cannot be split into words: a quote is not closed", "close it"
        ) from None


def whole(least: int, most: int = LARGEST) -> Callable[[str], int]:
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


def amount(least: float, most: float = 1e9) -> Callable[[str], float]:
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


PORT = whole(0, 65_535)
COUNT = whole(1, 1_000_000)
WORKERS = whole(1, 64)
PRICE = amount(0, 1e6)  # in US dollars


def overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="configuration overrides in Hydra's grammar",
    )


def run_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_id",
        metavar="RUN_ID",
        help="a run id, a unique beginning of one, or `last`, `last~1` …",
    )


def run_or_search(parser: argparse.ArgumentParser) -> None:
    """Name one run: itself, or a search and by that its choice."""
    parser.add_argument(
        "run_id",
        metavar="RUN_ID|SEARCH",
        help="a run, or a search, whose choice by plateau is meant (mcl select)",
    )
    parser.add_argument(
        "--trial",
        type=whole(0),
        metavar="N",
        help="of a search this trial, and not its choice by plateau",
    )


def nothing(parser: argparse.ArgumentParser) -> None:
    del parser


CONFIGURATIONS = ("run", "job", "hydra", "all")
INFORMATION = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
LONG = {"-c": "--cfg"}
# option -> its values; none typed: the first
OPTIONAL = {"--cfg": CONFIGURATIONS, "-c": CONFIGURATIONS, "--info": INFORMATION}


def complete_options(words: list[str]) -> list[str]:
    """Return the words with the value of `--cfg` and `--info` filled in where it was left out:
    `--cfg strategy=tsmom` becomes `--cfg=run strategy=tsmom`.
    """
    arguments: list[str] = []
    pending = iter([*words, ""])
    word = next(pending)
    for after in pending:
        values = OPTIONAL.get(word)
        if values is None:
            arguments.append(word)
            word = after
        elif after in values:
            arguments.append(f"{LONG.get(word, word)}={after}")
            word = next(pending, "")
        else:
            arguments.append(f"{LONG.get(word, word)}={values[0]}")
            word = after
    return arguments
