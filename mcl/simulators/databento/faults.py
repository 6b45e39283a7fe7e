"""Faults of the gateway on request: `--fault truncate=0.6,times=1,method=timeseries.get_range`.

A fault is KIND[=VALUE] and conditions. Kinds, with the meaning of their value:

* status    answer with this HTTP status instead (401, 402, 403, 422, 429, 5xx …);
  `retry_after=SECONDS` adds the header
* truncate  send this share of the body (default 0.6) and end the answer as if it were whole
* drop      send this share of the body (default 0.5), then cut the connection
* slow      wait this many seconds (default 0.05) before every piece of 16 KiB
* short     leave out this many records at the end (default 1); the file itself is whole
* garbage   send bytes that are no DBN file
* empty     send nothing, with status 200
* warn      add a warning of the vendor

Conditions: `times=N` (default: every call), `method=timeseries.get_range` (the default for faults
of the body), `schema=mbp-1`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from mcl.base.errors import DataError, nearest

_DEFAULTS = {
    "status": 503.0,
    "truncate": 0.6,
    "drop": 0.5,
    "slow": 0.05,
    "short": 1.0,
    "garbage": 0.0,
    "empty": 0.0,
    "warn": 0.0,
}
_CONDITIONS = ("times", "method", "schema", "retry_after")
STREAM = "timeseries.get_range"


@dataclass
class ServerFault:
    """One kind of trouble; `times` counts down, None means every call."""

    kind: str
    value: float
    method: str = ""
    schema: str = ""
    times: int | None = None
    retry_after: float | None = None

    def concerns(self, method: str, schema: str) -> bool:
        return self.times != 0 and self.method in ("", method) and self.schema in ("", schema)


def parse(text: str) -> ServerFault:
    """A fault as it is typed. DataError with the nearest kind or condition."""
    first, *rest = text.split(",")
    kind, _, value = first.partition("=")
    if kind not in _DEFAULTS:
        raise DataError(f"unknown fault {kind!r}; {nearest(kind, _DEFAULTS)}")
    conditions = dict(item.partition("=")[::2] for item in rest)
    for name in conditions:
        if name not in _CONDITIONS:
            raise DataError(
                f"unknown condition {name!r} of the fault {text!r}; {nearest(name, _CONDITIONS)}"
            )
    try:
        times = int(conditions["times"]) if "times" in conditions else None
        retry_after = float(conditions["retry_after"]) if "retry_after" in conditions else None
        number = float(value) if value else _DEFAULTS[kind]
    except ValueError as error:
        raise DataError(
            f"a value of the fault {text!r} is no number: {error}",
            "for instance truncate=0.6,times=1",
        ) from error
    method = conditions.get("method", "" if kind == "status" else STREAM)
    return ServerFault(kind, number, method, conditions.get("schema", ""), times, retry_after)


@dataclass
class ServerFaults:
    """The faults that are on. Safe to use from many threads."""

    items: list[ServerFault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, text: str) -> None:
        with self._lock:
            self.items.append(parse(text))

    def clear(self) -> None:
        with self._lock:
            self.items.clear()

    def take(self, method: str, schema: str) -> dict[str, ServerFault]:
        """The faults of this call by kind; each has one time less from now on."""
        with self._lock:
            active = {}
            for fault in self.items:
                if fault.kind not in active and fault.concerns(method, schema):
                    active[fault.kind] = fault
                    fault.times = None if fault.times is None else fault.times - 1
            return active
