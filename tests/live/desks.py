"""A small desk with the manners of a session: states follow commands, every command is kept."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from mcl.base.alert import Alert
from mcl.base.errors import LiveError
from mcl.live.status import Command, Mode, State, Status

AT = 1_763_000_000_000_000_000
MODES = {"pause": Mode.PAUSED, "resume": Mode.NORMAL, "reduce-only": Mode.REDUCE_ONLY}
STATES = {"flatten": State.FLATTENING, "stop": State.STOPPED, "kill": State.HALTED}


def a_status(**changes: Any) -> Status:
    """Long one contract, 40 minutes into a session."""
    plain: dict[str, Any] = {
        "at_ns": AT,
        "alias": "paper",
        "version": 3,
        "session": "2025-11-12",
        "broker": "embedded simulated TWS",
        "account": "DU0000001",
        "synthetic": None,
        "state": State.TRADING,
        "mode": Mode.NORMAL,
        "why": "all checks passed",
        "contract": "MCLF6",
        "position": 1,
        "target": 1,
        "average_price": 60.02,
        "last_price": 60.1,
        "equity_usd": 25_006.46,
        "session_pnl_usd": 6.46,
        "realized_usd": -0.77,
        "unrealized_usd": 8.0,
        "bars": 40,
        "last_bar_close_ns": AT - 5_000_000_000,
        "data_age_sec": 5.0,
        "connected": True,
    }
    return Status(**(plain | changes))


@dataclass
class SmallDesk:
    now: Status = field(default_factory=a_status)
    told: list[tuple[str, str, str]] = field(default_factory=list)

    def status(self) -> Status:
        return replace(self.now, at_ns=time.time_ns())

    def set(self, **changes: Any) -> None:
        self.now = replace(self.now, **changes)

    def alert(
        self, code: str, severity: Any = "warning", sentence: str = "something happened"
    ) -> Alert:
        made = Alert(time.time_ns(), severity, code, sentence)
        self.set(alerts=(*self.now.alerts, made))
        return made

    async def command(self, word: Command, who: str, why: str) -> str:
        if word == "adopt":
            raise LiveError("there is nothing to adopt: the session is TRADING", "mcl status")
        self.told.append((word, who, why))
        if word in MODES:
            self.set(mode=MODES[word], why=why)
        else:
            self.set(state=STATES[word], why=why)
        return f"{word}: done"
