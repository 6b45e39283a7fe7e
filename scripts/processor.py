"""Processor time and peak memory of a process, on Linux and macOS, and what others took of the
machine meanwhile.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

import psutil

BUSY_CORES = 0.1  # more than that taken by other processes, and a bound that is missed says nothing


def spent() -> str:
    """Seconds of processor time of this process and of all its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return f"{sum(u.ru_utime + u.ru_stime for u in used):.0f} s of processor time"


def peak_mb() -> float:
    """The most memory that this process ever held; Linux counts it in kilobytes, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def repeated(within_bounds: Callable[[], bool], most: int = 3) -> int:
    """Measure until all bounds are kept, at most so often, and return the exit code: 1 only for a
    bound that is missed on a machine that did nothing else. A busy one is told of, and measured
    again.
    """
    for attempt in range(1, most + 1):
        began, others = time.monotonic(), _others_sec()
        kept = within_bounds()
        cores = (_others_sec() - others) / (time.monotonic() - began)
        if kept:
            return 0
        if cores <= BUSY_CORES:
            return 1
        print(
            f"the machine was busy: other processes took {cores:.2f} of its"
            f" {psutil.cpu_count()} cores; attempt {attempt} of {most}",
            flush=True,
        )
    print("no verdict: the machine was busy each time. Run it again when nothing else runs")
    return 0


def _others_sec() -> float:
    """Seconds of processor time of all processes so far but this one and those below it."""
    machine = psutil.cpu_times()
    idle = ("idle", "iowait", "guest", "guest_nice")
    busy = [float(sec) for kind, sec in machine._asdict().items() if kind not in idle]
    return sum(busy) - _own_sec()


def _own_sec() -> float:
    own, me = 0.0, psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            own += sum(process.cpu_times()[:4])  # its own, and of its children that have ended
        except psutil.NoSuchProcess:  # it has just ended
            continue
    return own
