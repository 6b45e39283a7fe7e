"""The flags of the earlier project's download_historical.py, as a front on `mcl data download`.

python scripts/download_historical.py --symbol MCL.FUT --start 2024-01-01 --schema mbp-10 [--end 2024-02-01] [--max-cost 5]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mcl.cli import main as mcl


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=Path(__file__).name, description="Download Databento history to data/raw/<SYMBOL>.")
    parser.add_argument("--symbol", default="MCL.FUT", help="MCL.FUT is the parent: every expiry and spread, definitions and statistics")
    parser.add_argument("--schema", default="ohlcv-1m", help="ohlcv-1m, mbp-1, mbp-10, trades …")
    parser.add_argument("--start", required=True, help="first day, YYYY-MM-DD")
    parser.add_argument("--end", help="first day that is left out; default: all there is")
    parser.add_argument("--max-cost", type=float, default=5.0, help="refuse above this many US dollars")
    parser.add_argument("--estimate", action="store_true", help="show the price and stop")
    args = parser.parse_args(argv)
    words = ["--symbol", args.symbol, "--schema", args.schema, "--start", args.start, "--max-cost", str(args.max_cost)]
    words += ["--end", args.end] if args.end else []
    return mcl(["data", "download", *words, *(["--estimate"] if args.estimate else [])])


if __name__ == "__main__":
    sys.exit(main())
