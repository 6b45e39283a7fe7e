"""The flags of the earlier project's run_backtest.py, as a front on `mcl backtest`.

python scripts/run_backtest.py --symbol MCL_FUT --show --strategy ema --fast-period 10 --slow-period
30
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mcl import composition
from mcl.base import terminal
from mcl.base.errors import ConfigError, MclError
from mcl.cli.main import main as mcl

# names of the earlier project
STRATEGIES = {"ema": "ema_cross", "breakout": "donchian", "momentum": "tsmom"}


# where the earlier project and `mcl data download` put files, below the project folder
PLACES = ("data/raw/{symbol}", "data/databento_downloads")


def data_words(symbol: str) -> list[str]:
    """The overrides of the data: the first of PLACES that holds any file, else a generated world,
    which there is of MCL alone.

    ConfigError for another symbol without files. A folder with files that cannot be read is
    refused by the run itself, with what it holds.
    """
    name = symbol.replace(".", "_")
    root = name.partition("_")[0]
    folders = [composition.root() / place.format(symbol=name) for place in PLACES]
    folder = next((path for path in folders if has_files(path)), None)
    if folder is not None:
        market = [] if root == "MCL" else [f"data.instrument={root}", f"data.symbol={root}.FUT"]
        return ["data=mcl_databento", f"data.path={folder}", *market]
    places = " and no ".join(str(path.relative_to(composition.root())) for path in folders)
    if root != "MCL":
        raise ConfigError(
            f"no files of {symbol}: there is no {places} with files in {composition.root()}",
            f"mcl data download --symbol {root}.FUT --schema ohlcv-1m --start …",
        )
    terminal.say(f"no {places} with files: this run is on a generated world")
    return ["data=synthetic"]


def has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*") if not path.name.startswith("."))


def overrides(args: argparse.Namespace) -> list[str]:
    """The same command in mcl's words."""
    words = [f"strategy={STRATEGIES.get(args.strategy, args.strategy)}", *data_words(args.symbol)]
    given = {
        "strategy.fast": args.fast_period,
        "strategy.slow": args.slow_period,
        "data.start": args.start and f"'{args.start}'",
        "data.end": args.end and f"'{args.end}'",
        "capital_usd": args.capital,
    }
    typed = [f"{key}={value}" for key, value in given.items() if value is not None]
    return [*words, *typed, *args.overrides]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=Path(__file__).name, description="Run one backtest with the earlier project's flags."
    )
    parser.add_argument(
        "--symbol",
        default="MCL_FUT",
        help="folder below data/raw, else data/databento_downloads; a generated world where neither"
        " holds files",
    )
    parser.add_argument(
        "--strategy", default="ema", help="ema, breakout, momentum, or any mcl strategy"
    )
    parser.add_argument("--fast-period", type=int)
    parser.add_argument("--slow-period", type=int)
    parser.add_argument("--start", help="first session, YYYY-MM-DD")
    parser.add_argument("--end", help="first session that is left out")
    parser.add_argument("--capital", type=float)
    parser.add_argument("--show", action="store_true", help="open the report page")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any further override")
    args = parser.parse_intermixed_args(argv)
    try:
        words = overrides(args)
    except MclError as error:
        terminal.refuse(error)
        return 1
    return mcl(["backtest", *(["--show"] if args.show else []), *words])


if __name__ == "__main__":
    sys.exit(main())
