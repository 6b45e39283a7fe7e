"""Make the shipped table of EIA settlements from the source table.

    python scripts/make_eia.py TABLE.csv [--check]

TABLE.csv is sheet "Data 1" of EIA's workbook PET_PRI_FUT_S1_D.xls as CSV with the columns date, c1,
c2, c3 and c4. `--check` writes nothing and exits with 1 when the shipped table is another one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mcl.base.files import sha256
from mcl.data.sources import eia


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="make the shipped table of EIA settlements")
    parser.add_argument("table", type=Path)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--to", type=Path, default=eia.SHIPPED)
    args = parser.parse_args(argv)
    settlements = eia.read(args.table)
    if args.check:
        digests = eia.digest(settlements), eia.digest(eia.read(args.to))
        print(f"{args.table}: {digests[0]}\n{args.to}: {digests[1]}")
        return int(digests[0] != digests[1])
    eia.write(args.to, settlements, {"source_sha256": sha256(args.table)})
    print(f"{args.to}: {len(settlements):,} days, content {eia.digest(settlements)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
