"""Every generated seed beside the measured market, with the exact bounds: `make prove`.

At least nine in ten of all figures of every seed are near, and every figure of the roll, the range,
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from mcl.data import loader, realism
from mcl.data.sources.synthetic import SyntheticData

WANTED = ("front_share", "crossed", "range_", "hour_", "bars_per_session")
SHARE = 0.90


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1,2,3,4,5,6,7,8", help="comma-separated")
    failed = []
    for seed in (int(text) for text in parser.parse_args().seeds.split(",")):
        rows, seconds = _rows(seed)
        off = [row.name for row in rows if not row.near]
        near = 1 - len(off) / len(rows)
        print(f"seed {seed}: {near:.1%} near, {seconds:.0f} s; off: {', '.join(off) or 'none'}")
        if near < SHARE or any(name.startswith(WANTED) for name in off):
            failed.append(seed)
    print("every seed is like the market" if not failed else f"not like the market: {failed}")
    return 1 if failed else 0


def _rows(seed: int) -> tuple[list[realism.FigureRow], float]:
    """The comparison of one seed, and what generating and storing it took."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        stored = loader.stored_dataset(SyntheticData(source="synthetic", seed=seed), Path(folder))
        seconds = time.monotonic() - started
        return realism.compare_dataset(stored), seconds


if __name__ == "__main__":
    raise SystemExit(main())
