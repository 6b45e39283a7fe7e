"""Tell which data farms of a broker are broken, from the notices that a TWS sends. Only the farms
of our exchange count.
"""

from __future__ import annotations

from typing import Protocol

BROKEN = {2103: 2104, 2105: 2106}  # of prices and of history: code -> the one that heals it
# what sends prices and history of NYMEX; names may carry a site: usfuture.nj
FARMS = ("usfuture", "ushmds")


class BarFeed(Protocol):
    """The stream of bars that a farm feeds."""

    farm_lost: bool

    @property
    def renewing(self) -> bool: ...
    def renew(self) -> None: ...


class Farms:
    def __init__(self, bars: BarFeed) -> None:
        self._bars = bars
        self._broken: dict[str, str] = {}  # ours -> what the broker said

    def notice(self, code: int, text: str) -> None:
        name = _ours(text)
        if name and code in BROKEN:
            self._broken[name] = f"{text} ({code})"
            self._bars.farm_lost = True
        elif name in self._broken and code in BROKEN.values():
            del self._broken[name]
            if not self._broken:
                self._bars.farm_lost = False
                self._bars.renew()

    @property
    def trouble(self) -> str:
        """The reason why no bars come; empty when they do."""
        again = (
            "the bars are asked for again after a data farm was lost" if self._bars.renewing else ""
        )
        return next(iter(self._broken.values()), again)


def _ours(text: str) -> str:
    """The farm of NYMEX that a notice names, `…farm connection is broken:usfuture`; empty for those
    of other markets.
    """
    name = text.rpartition(":")[2].strip().casefold()
    return next((farm for farm in FARMS if name == farm or name.startswith(f"{farm}.")), "")
