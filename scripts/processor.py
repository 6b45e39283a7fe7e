"""Processor time and peak memory of a process, on Linux and macOS."""

from __future__ import annotations

import resource
import sys


def spent() -> str:
    """Seconds of processor time of this process and of all its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return f"{sum(u.ru_utime + u.ru_stime for u in used):.0f} s of processor time"


def peak_mb() -> float:
    """The most memory that this process ever held; Linux counts it in kilobytes, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
