"""How long it takes from an event in a session to the screen: a desk that changes, the dashboard, a
real Chromium. Prints quantiles.

The desk writes the time of each change into its reason; the page notes when the text was in its
document, and when it was painted.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mcl.live.ops import control_socket
from mcl.live.ops.dashboard import Dashboard, open_dashboard
from mcl.live.ops.status_poller import StatusPoller
from mcl.live.status_json import rank
from mcl.tracking.project import Project

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from chromium import launched, programs
from live.desks import AT, SmallDesk

NOTE = """
window.waits = [];
new MutationObserver(() => {
  const [, at] = document.getElementById('why').textContent.split('@');
  if (!at) return;
  const waited = Date.now() - Number(at);
  requestAnimationFrame(() => window.waits.push([waited, Date.now() - Number(at)]));
}).observe(document.getElementById('why'), { childList: true, characterData: true, subtree: true });
"""


def busy_desk() -> SmallDesk:
    """All lists full, as at the end of a long session."""
    desk, rng = SmallDesk(), random.Random(1)
    decision = {
        "time": AT,
        "close": 60.1,
        "wanted": 2.0,
        "position": 1,
        "target": 1,
        "block": "MAX_POSITION",
        "reason": "sent",
    }
    fill = {
        "time": AT,
        "symbol": "MCLF6",
        "quantity": 1,
        "price": 60.02,
        "commission_usd": 0.77,
        "reason": "target",
        "ref": "x",
    }
    curve = tuple((AT + n * 60_000_000_000, 25_000 + rng.gauss(0, 50)) for n in range(300))
    desk.set(
        equity=curve,
        decisions=(decision,) * 20,
        fills=(fill,) * 20,
        latency_ms=tuple(rng.uniform(0.3, 3) for _ in range(1000)),
    )
    return desk


async def serve(
    desk: SmallDesk, root: Path, events: int, browser: Any
) -> list[tuple[float, float]]:
    folder = control_socket.folder_of(root, "paper")
    with control_socket.alone(folder):
        dashboard = open_dashboard(Dashboard(Project.at(root), "paper", ""), 0)
        async with (
            StatusPoller(desk) as watch,
            control_socket.listening(watch, folder),
            dashboard as address,
        ):
            await asyncio.to_thread(browser.get, address)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(browser.execute_script, NOTE)
            for n in range(events):
                await asyncio.sleep(random.uniform(0.08, 0.3))
                desk.set(why=f"event {n} @{time.time() * 1000:.0f}")
            await asyncio.sleep(1.0)
            return list(await asyncio.to_thread(browser.execute_script, "return window.waits"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100)
    args = parser.parse_args()
    if programs() is None:
        print("chromium and chromedriver are not installed", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder, launched(Path(folder) / "profile") as chromium:
        waits = asyncio.run(serve(busy_desk(), Path(folder), args.events, chromium.driver))
    for name, column in (("in the document", 0), ("painted", 1)):
        values = sorted(float(wait[column]) for wait in waits)
        print(
            f"{name:16} {len(values)} events: p50 {rank(values, 0.5):.0f} ms, p99"
            f" {rank(values, 0.99):.0f} ms, max {values[-1]:.0f} ms"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
