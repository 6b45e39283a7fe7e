"""The hold-out that a configuration does not set: the sentence that says so, and a date for it."""

from __future__ import annotations

import numpy as np

from mcl.base.words import many
from mcl.data.bars import Bars

SEEN_FRAC = 0.75  # of the sessions that a search may see
LONG_SESSIONS = 1_500  # about six years: then the date is the first of a year


def proposed_start(bars: Bars) -> str:
    """Return a first day of the hold-out that leaves about a quarter of the sessions unseen: the
    first of a month, of long histories of a year. Empty where there are too few sessions.
    """
    sessions = np.unique(bars.session)
    if len(sessions) < 4:
        return ""
    day = sessions[int(SEEN_FRAC * len(sessions))].astype("datetime64[D]")
    for unit in ("Y", "M") if len(sessions) >= LONG_SESSIONS else ("M",):
        first = day.astype(f"datetime64[{unit}]").astype("datetime64[D]")
        if first > sessions[len(sessions) // 2].astype("datetime64[D]"):
            return str(first)
    return str(day)


def no_holdout(bars: Bars) -> str:
    """Say that nothing is held out, what that costs, and the key that changes it."""
    day = proposed_start(bars)
    count = len(np.unique(bars.session))
    sentence = (
        f"No hold-out is set: {'all ' * (count > 1)}{many(count, 'session')} can be searched, none"
        " is left to confirm the result, and mcl promote refuses it."
    )
    if not day:
        return f"{sentence} So few sessions leave none to keep unseen: use more data."
    return (
        f"{sentence} To keep some unseen, add data.holdout_start={day} to mcl sweep and mcl"
        " backtest."
    )
