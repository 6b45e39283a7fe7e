"""The world of one soak seed: random bars, a strategy, and faults F1 to F28 at random moments."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcl import composition
from mcl.config import broker_schema, schema
from mcl.data.bars import Bars
from mcl.live.runner import SessionConfig
from mcl.live.session_setup import Stage
from mcl.live.status import Command
from mcl.market import calendar
from mcl.market.instruments import MCL
from mcl.promotion.load import Deployable
from mcl.simulators.tws import Tape
from mcl.simulators.tws.listener import BrokerOptions
from mcl.strategy import build

NS = 1_000_000_000
ANSWER_SEC = (0.2, 1.0)  # after which every order and every cancel is served
MINUTE_NS = 60 * NS
HISTORY, PLAYED = 120, 40
OPENS_NS = calendar.ns_of(calendar.from_day(20458), 18)  # the evening before 2026-01-06
CONTRACT = calendar.contract("MCL", 2026, 2)
ENDS = (
    "positionEnd",
    "openOrderEnd",
    "completedOrdersEnd",
    "accountDownloadEnd",
    "execDetailsEnd",
    "contractDetailsEnd",
)

Fault = tuple[str, str, dict[str, Any]]  # codes, name of the menu, options


@dataclass(frozen=True)
class World:
    """Everything that a seed decides."""

    seed: int
    tape: Tape
    bars: Bars
    stage: Stage
    run: schema.Config
    faults: tuple[Fault, ...]
    kills: tuple[tuple[float, str], ...]  # seconds after the start, runner or server
    words: tuple[tuple[int, Command], ...]  # after so many bars: a command
    cure: str  # what a person says when the session is HALTED
    order: broker_schema.OrderStyle  # how targets are traded
    options: BrokerOptions

    def session_config(self, folder: Path) -> SessionConfig:
        """As `ib_paper` has it: its guards and its time-outs."""
        broker = schema.BrokerConfig(guards=schema.Guards(), order=self.order)
        deployed = Deployable("soak", 1, "none", self.run, {}, "none", folder, "paper", np.empty(0))
        return SessionConfig(deployed, build(self.run.strategy), broker, folder)


def world(seed: int, played: int = PLAYED) -> World:
    luck, rng = random.Random(seed), np.random.default_rng(seed)
    bars = bars_of(rng, played)
    tape = Tape.from_bars(bars, int(bars.session[-1]))
    run = _config(luck)
    stage = Stage(
        bars.rows(0, HISTORY),
        int(bars.session[-1]),
        CONTRACT,
        0.0,
        int(bars.close_time[-1]),
        played,
        stored=bars.rows(0, HISTORY + played),
    )
    kills = tuple(
        sorted(
            (luck.uniform(0.0, 20.0), luck.choice(("runner", "runner", "server")))
            for _ in range(luck.choice((0, 0, 1, 1, 2, 3)))
        )
    )
    words = tuple(
        (luck.randrange(PLAYED), luck.choice(WORDS)) for _ in range(luck.choice((0, 0, 0, 1, 2)))
    )
    faults = tuple(_fault(luck) for _ in range(luck.choice((0, 1, 1, 2, 3))))
    order, options = _order(luck)
    cure = luck.choice(("adopt", "flatten"))
    if cure == "flatten" or "flatten" in {word for _, word in words}:
        # who closes waits for the rest of the quantity, and a market in lock-step for who closes
        options = BrokerOptions()
    return World(seed, tape, bars, stage, run, faults, kills, words, cure, order, options)


def _order(luck: random.Random) -> tuple[broker_schema.OrderStyle, BrokerOptions]:
    """Every other seed trades at the market as the backtest assumes; the others by limits, some in
    a market with little at its best price.
    """
    kind = luck.choice(("market", "market", "marketable_limit", "limit"))
    style: dict[str, Any] = {
        "kind": kind,
        "collar_ticks": luck.choice((1.0, 10.0)),
        "offset_ticks": luck.choice((0.0, 3.0)),
        "ttl_sec": luck.choice((0.5, 2.0)),
    }
    thin = kind != "market" and luck.random() < 0.5
    return broker_schema.OrderStyle(
        fallback=luck.choice(("market", "none")), **style
    ), BrokerOptions(top_size=1 if thin else 0)


WORDS: tuple[Command, ...] = ("pause", "resume", "reduce-only", "flatten", "resume", "flatten")


def _config(luck: random.Random) -> schema.Config:
    strategy = luck.choice(
        (
            {
                "name": "random",
                "hold_sec": luck.choice((60, 120, 300)),
                "seed": luck.randrange(1000),
            },
            {"name": "donchian", "channel": luck.choice((3, 5)), "hold": luck.choice((4, 8))},
        )
    )
    stop = luck.choice((None, 4.0, 8.0))
    protection = {
        "unit": "ticks",
        **({"stop": stop} if stop else {}),
        **({"take_profit": luck.choice((5.0, 12.0))} if luck.random() < 0.5 else {}),
    }
    risk = {
        "size": {"method": "fixed", "contracts": float(luck.choice((1, 2)))},
        "limits": {"max_position": 2, "max_order": luck.choice((1, 2, 4))},
        **({"protection": protection} if len(protection) > 1 else {}),
    }
    raw = {
        "data": {"source": "csv", "path": "none.csv", "stamped_at": "close", "interval": "1m"},
        "strategy": strategy,
        "risk": risk,
        "costs": {"slippage_ticks": 1.0, "commission_usd": 0.77},
        "study": "soak",
    }
    return composition.run_config(raw)


def bars_of(rng: np.random.Generator, played: int) -> Bars:
    """One contract in whole ticks; the last `played` rows are the session that began at OPENS_NS, a
    short one.
    """
    n = HISTORY + played
    path = 6_000 + np.cumsum(rng.integers(-3, 4, 2 * n)).reshape(-1, 2)
    wicks = rng.integers(0, 4, (n, 2))
    ticks = {
        "open": path[:, 0],
        "high": path.max(axis=1) + wicks[:, 0],
        "low": path.min(axis=1) - wicks[:, 1],
        "close": path[:, 1],
    }
    prices = {name: values * 0.01 for name, values in ticks.items()}
    close_time = OPENS_NS + MINUTE_NS * np.arange(1 - HISTORY, played + 1)
    close_time[:HISTORY] -= 3600 * NS  # the break
    session = calendar.session_of(close_time - 1)
    end = np.array(
        [close_time[HISTORY - 1] if row < HISTORY else close_time[-1] for row in range(n)]
    )
    whole = {
        "volume": rng.integers(5, 50, n),
        "session": session,
        "to_close_sec": (end - close_time) // NS,
    }
    return Bars.of(
        MCL,
        "1m",
        close_time,
        prices,
        **whole,
        contracts=(CONTRACT,),
        fingerprint="soak",
        synthetic=True,
    )


# ------------------------------------------------------------------------------------------- faults


def _fault(luck: random.Random) -> Fault:
    codes, name, options = luck.choice(_MENU)(luck)
    return codes, name, options


def _when(luck: random.Random) -> dict[str, Any]:
    return {"at_sec": 60.0 * luck.randrange(1, PLAYED)}


def _nth(luck: random.Random, most: int = 12) -> int:
    return luck.randrange(1, most)


def _order_message(luck: random.Random) -> str:
    return luck.choice(("openOrder", "orderStatus", "execDetails", "commissionReport", "position"))


_MENU: tuple[Any, ...] = (
    lambda r: ("F1", "refuse", {"sec": r.uniform(0.05, 0.3), "drop_all": True} | _when(r)),
    lambda r: ("F2", "mute", {"sec": r.choice((0.1, 0.3))} | _when(r)),
    lambda r: ("F3", "version", {"number": r.choice((150, 200))} | _when(r)),
    lambda r: ("F4", "accounts", {"names": r.choice(("", "U1234567", "DU1,DU2"))} | _when(r)),
    lambda r: ("F5", "taken", {"times": r.randrange(1, 4)} | _when(r)),
    lambda r: ("F6", "drop", {"on": f"send {r.choice(ENDS)}", "nth": _nth(r, 6), "times": r.choice((1, 2))}),
    lambda r: ("F7", "answer", {"on": "receive placeOrder", "code": 321, "text": "Read-Only", "on_id": -1, "nth": _nth(r), "times": 2}),
    lambda r: ("F8", "disconnect", {"how": r.choice(("fin", "rst", "half_open"))} | _when(r)),
    lambda r: ("F8", "chop", {"size": r.choice((1, 7))} | _when(r)),
    lambda r: ("F8 F9", "cut", {"on": f"send {_order_message(r)}", "nth": _nth(r), "how": r.choice(("fin", "rst", "mid_frame")), "when": r.choice(("before", "after"))}),
    lambda r: ("F9", "cut", {"on": "receive placeOrder", "nth": _nth(r), "how": r.choice(("fin", "rst", "half_open")), "when": r.choice(("before", "after"))}),
    lambda r: ("F9", "cut", {"on": "receive cancelOrder", "nth": _nth(r, 5), "how": "rst", "when": r.choice(("before", "after"))}),
    lambda r: ("F10", "connectivity", {"back": r.choice((1102, 1101, 0)), "sec": r.uniform(0.02, 0.2)} | _when(r)),
    lambda r: ("F11", "farm", {"code": r.choice((2103, 2105, 2107, 2108, 2119, 2110))} | _when(r)),
    lambda r: ("F12", "restart", {"sec": r.uniform(0.02, 0.2), "ids": r.choice(("keep", "lower", "higher")), "forget": r.random() < 0.3} | _when(r)),
    lambda r: ("F13", "accounts", {"names": ""} | _when(r)),
    lambda r: ("F14", "reject", {"on": "receive placeOrder", "nth": _nth(r)}),
    lambda r: ("F14", "reject", {"on": "receive placeOrder", "nth": _nth(r), "first": r.choice(("Inactive", "PreSubmitted"))}),
    lambda r: ("F14", "answer", {"on": "receive placeOrder", "nth": _nth(r), "code": r.choice((110, 103, 463, 10318))}),
    lambda r: ("F15", "say", {"on": "receive placeOrder", "nth": _nth(r), "code": r.choice((10349, 104, 161, 10148))}),
    lambda r: ("F16", "say", {"on": "receive placeOrder", "nth": _nth(r), "code": r.choice((399, 2109, 2161, 10167))}),
    lambda r: ("F17", "answer", {"on": "receive cancelOrder", "nth": _nth(r, 5), "code": r.choice((10147, 161))}),
    lambda r: ("F17", "drop", {"on": "receive cancelOrder", "nth": _nth(r, 5)}),
    lambda r: ("F17", "race", {"on": "receive cancelOrder", "nth": _nth(r, 5), "when": r.choice(("before", "after"))}),
    lambda r: ("F18", "drop", {"on": f"send {r.choice(('execDetails', 'orderStatus', 'commissionReport', 'openOrder'))}", "nth": _nth(r)}),
    lambda r: ("F18", "repeat", {"on": f"send {_order_message(r)}", "nth": _nth(r), "copies": 2}),
    lambda r: ("F18", "hold", {"on": "send execDetails", "nth": _nth(r, 6), "until": "orderStatus"}),
    lambda r: ("F18 F19", "delay", {"on": f"send {_order_message(r)}", "nth": _nth(r), "sec": r.choice((0.02, 0.3))}),
    lambda r: ("F18", "correct", {"price": 60.0} | _when(r)),
    lambda r: ("F18", "bust", _when(r)),
    lambda r: ("F20", "foreign", {"action": r.choice(("BUY", "SELL")), "client_id": r.choice((0, 5)), "kind": r.choice(("MKT", "LMT")), "price": 50.0} | _when(r)),
    lambda r: ("F20", "transfer", {"quantity": r.choice((-1, 1))} | _when(r)),
    lambda r: ("F21", "reject", {"on": "receive placeOrder", "where": {"order_type": "STP"}, "nth": _nth(r, 5), "first": r.choice(("", "Inactive"))}),
    lambda r: ("F21", "no_oca", _when(r)),
    lambda r: ("F22", "delayed", _when(r)),
    lambda r: ("F22", "shift", {"on": "send historicalDataUpdate", "of": "close", "factor": 1.2, "nth": _nth(r, 60)}),
    lambda r: ("F22", "repeat", {"on": "send historicalDataUpdate", "nth": _nth(r, 60)}),
    lambda r: ("F22", "freeze", {"names": "historicalDataUpdate"} | _when(r)),
    lambda r: ("F22", "halt", _when(r)),
    lambda r: ("F23", "answer", {"on": "receive reqHistoricalData", "code": 162, "nth": _nth(r, 4), "text": "Historical data request pacing violation"}),
    lambda r: ("F23", "delay", {"on": "send historicalData", "sec": 0.2, "nth": _nth(r, 4)}),
    lambda r: ("F24", "repeat", {"on": "send contractDetails", "nth": _nth(r, 3)}),
    lambda r: ("F24", "answer", {"on": "receive reqContractDetails", "code": r.choice((200, 321)), "nth": _nth(r, 3)}),
    lambda r: ("F25", "shift", {"on": "send currentTime", "of": "time", "by": r.choice((-5.0, 5.0, 3600.0)), "nth": _nth(r, 30)}),
    lambda r: ("F26", "damage", {"on": f"send {_order_message(r)}", "how": r.choice(("surplus", "missing", "unknown_id", "bytes", "empty")), "nth": _nth(r)}),
    lambda r: ("F27", "throttle", {"per_sec": 50} | _when(r)),
    lambda r: ("F27", "deaf", {"sec": r.uniform(0.05, 0.4)} | _when(r)),
    lambda r: ("F28", "funds", {"cash_usd": r.choice((0.0, -5000.0))} | _when(r)),
    lambda r: ("F28", "change", {"on": "send updateAccountValue", "values": {"value": "1.7976931348623157E308"}, "nth": _nth(r, 10), "times": 5}),
)  # fmt: skip
