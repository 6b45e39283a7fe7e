"""How fast and how large the data line is: DBN -> Parquet -> Bars for one year and for ten, each in
a fresh process.

    python scripts/bench_data.py [--years 1 10] [--folder /tmp/mcl-bench-data]

The input is a generated parent download (twelve expiries and their spreads, 1-minute bars);
generating it is not timed. A line of the answer: rows read, seconds of the call (imports are not
timed), peak resident memory of the process, and the same for the second, warm call in another
process. SYNTHETIC DATA.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

LAST = date(2026, 1, 8)
# of one year; warm: two years
LIMITS = {"seconds": 5.0, "peak_mib": 1024.0, "warm_cpu_seconds": 0.25}

CHILD = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from processor import peak_mb
from mcl.data.loader import load
from mcl.data.sources.databento import DatabentoData
start, cpu = time.perf_counter(), time.process_time()
bars = load(DatabentoData(source="databento", path=sys.argv[1]), Path(sys.argv[2]))
print(json.dumps({
    "bars": len(bars),
    "seconds": time.perf_counter() - start,
    "cpu_seconds": time.process_time() - cpu,
    "peak_mib": peak_mb(), "read": bars.provenance["counts"]["read"],
}))
"""


def measured(home: Path, root: Path) -> dict[str, float]:
    """One load in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(home), str(root), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def parent_years(years: int, folder: Path) -> Path:
    from mcl.data.sources.synthetic import SyntheticData
    from mcl.data.synthetic import generator

    first = date(LAST.year - years, LAST.month, LAST.day)
    return generator.generate(SyntheticData(source="synthetic"), folder, first=first, last=LAST)


def row(years: int, home: Path, root: Path) -> dict[str, float]:
    shutil.rmtree(root, ignore_errors=True)
    cold, warm = measured(home, root), measured(home, root)
    return (
        {"years": years}
        | cold
        | {f"warm_{k}": warm[k] for k in ("seconds", "cpu_seconds", "peak_mib")}
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--years", type=int, nargs="+", default=[1, 2, 10])
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "mcl-bench-data"
    )
    args = parser.parse_args()
    print(
        f"{'years':>5} {'rows':>10} {'bars':>9} {'s':>7} {'rows/s':>9} {'peak MiB':>9}"
        f" {'warm s':>7} {'warm cpu s':>10} {'warm MiB':>9}"
    )
    for years in args.years:
        r = row(years, parent_years(years, args.folder), args.folder / f"root-{years}")
        cold = f"{r['seconds']:>7.2f} {r['read'] / r['seconds']:>9,.0f} {r['peak_mib']:>9,.0f}"
        warm = (
            f"{r['warm_seconds']:>7.2f} {r['warm_cpu_seconds']:>10.2f} {r['warm_peak_mib']:>9,.0f}"
        )
        print(f"{years:>5} {r['read']:>10,.0f} {r['bars']:>9,.0f} {cold} {warm}")
    print(
        f"limits: one year in {LIMITS['seconds']:g} s and {LIMITS['peak_mib']:,.0f} MiB; two years"
        f" warm in {LIMITS['warm_cpu_seconds']} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
