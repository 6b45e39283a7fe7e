"""How much of the machine a proof has taken."""

from __future__ import annotations

import resource


def spent() -> str:
    """Seconds of processor time of this process and of all its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return f"{sum(u.ru_utime + u.ru_stime for u in used):.0f} s of processor time"
