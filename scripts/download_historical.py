"""The name of the earlier project's script: `mcl data download` with its flags, which are the same.

python scripts/download_historical.py --symbol MCL.FUT --start 2024-01-01 --schema mbp-10 [--end
2024-02-01] [--max-cost 5]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mcl.cli.main import main as mcl


def main(argv: Sequence[str] | None = None) -> int:
    return mcl(["data", "download", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
