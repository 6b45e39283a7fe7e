"""The result of a rerun: equal bit by bit, or what differs and which input
moved.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcl.base.differences import Differences


@dataclass(frozen=True)
class Again:
    """`differing` maps what differs to [stored, now]; `causes` are inputs that moved, whether or
    not they moved anything.

    `sentence` tells what was compared, and what could not be.
    """

    run_id: str
    kind: str
    sentence: str
    differing: Differences
    causes: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()  # made again below this one

    @property
    def equal(self) -> bool:
        return not self.differing
