"""The lock on a promoted configuration: what a session may say differently from what was promoted,
and the sentence for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mcl.base.differences import flatten
from mcl.base.errors import LiveError
from mcl.config import schema

OWN = ("broker", "alerts", "telemetry")  # groups that are the session's own
CAP = "risk.limits.max_position"  # may be smaller than what was promoted, never larger


def own(overrides: Sequence[str]) -> list[str]:
    """Those of the session's own groups."""
    return [o for o in overrides if _key(o).split(".")[0] in OWN]


def caps(overrides: Sequence[str], promoted: schema.Config | None) -> int | None:
    """The smaller position that was asked for, None when none was. LiveError with the difference
    for anything else.
    """
    foreign = [o for o in overrides if _key(o).split(".")[0] not in OWN]
    smaller = [int(_value(o)) for o in foreign if _is_smaller(o, promoted)]
    wrong = [o for o in foreign if not _is_smaller(o, promoted)]
    if wrong:
        values = flatten(promoted.model_dump(mode="json")) if promoted else {}
        difference = "; ".join(
            f"{_key(o)}: promoted {values.get(_key(o), 'nothing')}, asked {_value(o)}"
            for o in wrong
        )
        raise LiveError(
            f"{wrong[0]} may not be changed here ({difference}): only {', '.join(OWN)} and a"
            f" smaller {CAP} differ from what was promoted",
            "promote a run with it: mcl promote RUN_ID --to NAME",
        )
    return min(smaller, default=None)


def _is_smaller(override: str, promoted: schema.Config | None) -> bool:
    if promoted is None:
        return False
    contracts = float(_value(override)) if _value(override).isdigit() else math.inf
    return _key(override) == CAP and 1 <= contracts <= promoted.risk.limits.max_position


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _value(override: str) -> str:
    return override.partition("=")[2]
