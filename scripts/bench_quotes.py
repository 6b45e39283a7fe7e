"""How fast quotes are built: one session of MBP-1 events as a vendor's DBN file becomes seconds,
and these become columns next to one-minute bars.

    python scripts/bench_quotes.py [--events 10000000] [--folder /tmp/mcl-bench-quotes]

The events are generated, which is not timed, and neither is the compilation. The first line counts
from the compressed bytes to the seconds in memory. The others are the whole call, hashes and
Parquet included, and the same call again. Seconds are of the processor, one core. SYNTHETIC DATA.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

DAY = date(2024, 1, 16)
LIMIT = 5e6  # events a second

CHILD = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from processor import peak_mb
from mcl.data import quote_store, record_files
from mcl.data.loader import load
from mcl.data.quotes import BOOK_LEVELS
from mcl.data.sources import databento
from mcl.data.sources.databento import DatabentoData
from mcl.market.instruments import MCL

home, root = Path(sys.argv[1]), Path(sys.argv[2])
_, by_schema = record_files.first_with(home, tuple(BOOK_LEVELS))
master = databento.master_of(by_schema, [], MCL, str(home)).master


def scan():
    scan, seconds = quote_store.Scan(master, MCL, "mbp-1"), 0
    for path in by_schema["mbp-1"]:
        for records in record_files.stream(path, size=quote_store.PIECE_BYTES)[1]:
            seconds += len(scan.take(records, path))
    return scan.counts["read"], seconds + len(scan.rest())


def timed(call):
    start = time.process_time()
    answer = call()
    return answer, time.process_time() - start


scan()
(events, seconds), taken = timed(scan)
data = DatabentoData(source="databento", path=str(home), start="2024-01-16", end="2024-01-17")
load(data, root)
data = data.model_copy(update={"quotes": 1})
bars, first = timed(lambda: load(data, root))
again = timed(lambda: load(data, root))[1]
assert bars.quotes.rows == len(bars)
print(json.dumps({"events": events, "seconds": seconds, "scan": taken, "first": first,
    "again": again, "peak_mib": peak_mb()}))
"""


def world(events: int, folder: Path) -> Path:
    from mcl.data.sources.synthetic import SyntheticData
    from mcl.data.synthetic import generator, order_books

    spec = SyntheticData(source="synthetic")
    home = generator.generate(spec, folder, first=date(2024, 1, 2), last=DAY)
    return order_books.generate(home, [DAY], "mbp-1", events)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "mcl-bench-quotes"
    )
    args = parser.parse_args()
    home = world(args.events, args.folder)
    with tempfile.TemporaryDirectory() as root:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(home), root, str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            check=True,
        )
    of = json.loads(done.stdout)
    rate = of["events"] / of["scan"]
    print(f"{of['events']:,} events into {of['seconds']:,} seconds of contracts (SYNTHETIC DATA)")
    print(f"stream   {of['scan']:6.2f} s   {rate:12,.0f} events/s (limit: {LIMIT:,.0f})")
    print(f"first    {of['first']:6.2f} s   {of['events'] / of['first']:12,.0f} events/s")
    print(f"again    {of['again']:6.2f} s   peak memory {of['peak_mib']:,.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
