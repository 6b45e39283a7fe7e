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
from mcl.cli.main import main as mcl

# names of the earlier project
STRATEGIES = {"ema": "ema_cross", "breakout": "donchian", "momentum": "tsmom"}


def overrides(args: argparse.Namespace) -> list[str]:
    """The same command in mcl's words. Downloaded data under data/raw/<symbol> are used when they
    are there.
    """
    raw = composition.root() / "data" / "raw" / args.symbol.replace(".", "_")
    words = [f"strategy={STRATEGIES.get(args.strategy, args.strategy)}"]
    words += (
        ["data=mcl_databento", f"data.path={raw}"]
        if any(raw.rglob("*.dbn*"))
        else ["data=synthetic"]
    )
    given = {
        "strategy.fast": args.fast_period,
        "strategy.slow": args.slow_period,
        "data.start": args.start and f"'{args.start}'",
        "data.end": args.end and f"'{args.end}'",
        "capital_usd": args.capital,
    }
    return (
        words
        + [f"{key}={value}" for key, value in given.items() if value is not None]
        + args.overrides
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=Path(__file__).name, description="Run one backtest with the earlier project's flags."
    )
    parser.add_argument(
        "--symbol",
        default="MCL_FUT",
        help="folder below data/raw; embedded synthetic data when it is not there",
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
    return mcl(["backtest", *(["--show"] if args.show else []), *overrides(args)])


if __name__ == "__main__":
    sys.exit(main())
