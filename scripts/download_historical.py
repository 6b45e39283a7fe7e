"""The flags of the earlier project's download_historical.py, as a front on `mcl data download`.

python scripts/download_historical.py --symbol MCL.FUT --start 2024-01-01 --schema mbp-10 [--end 2024-02-01] [--max-cost 5]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mcl.cli import main as mcl

_VALUES = ("symbol", "schema", "start", "end", "max_cost", "workers", "gateway", "gateway_ca")
_SWITCHES = ("yes", "estimate", "batch")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=Path(__file__).name, description="Download Databento history to data/raw/<SYMBOL>.")
    parser.add_argument("--symbol", default="MCL.FUT", help="MCL.FUT is the parent: every expiry and spread, definitions and statistics")
    parser.add_argument("--schema", default="ohlcv-1m", help="ohlcv-1m, mbp-1, mbp-10, trades …")
    parser.add_argument("--start", required=True, help="first trade date, YYYY-MM-DD")
    parser.add_argument("--end", help="first trade date that is left out; default: all there is")
    parser.add_argument("--max-cost", type=float, default=5.0, help="refuse above this many US dollars")
    parser.add_argument("--yes", action="store_true", help="pay whatever it costs without asking")
    parser.add_argument("--estimate", action="store_true", help="show the price and stop")
    parser.add_argument("--batch", action="store_true", help="through the vendor's batch jobs, for large ranges")
    parser.add_argument("--workers", type=int, default=4, help="chunks that are fetched at once")
    parser.add_argument("--gateway", help="another gateway, for instance of `mcl data gateway`")
    parser.add_argument("--gateway-ca", help="the certificate to trust")
    args = vars(parser.parse_args(argv))
    words = [word for name in _VALUES if args[name] is not None for word in (_flag(name), str(args[name]))]
    return mcl(["data", "download", *words, *(_flag(name) for name in _SWITCHES if args[name])])


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


if __name__ == "__main__":
    sys.exit(main())
