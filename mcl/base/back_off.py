"""Wait longer after each failure, up to a limit."""

from __future__ import annotations

MOST_DOUBLINGS = 16  # 2 ** attempt stays a float


def pause_sec(failures: int, first_sec: float, longest_sec: float) -> float:
    """Seconds to wait after so many failures in a row, twice as long each time. Callers that many
    others run next to add a jitter of their own.
    """
    return min(longest_sec, first_sec * 2.0 ** min(max(failures - 1, 0), MOST_DOUBLINGS))
