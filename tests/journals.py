"""A journal as a session of three decisions leaves it."""

from __future__ import annotations

from pathlib import Path

from mcl.live.journal import Draft, Journal
from mcl.risk.blocks import Block

REF = "paper-v3-20251112-120905"
BAR = {"open": 60.0, "high": 60.1, "low": 59.9, "close": 60.05, "volume": 7}


def written(home: Path, *last: Draft) -> Path:
    """A journal of three decisions: flat, cut to one contract and bought, held."""
    path = home / "live" / "paper" / "2025-11-12.sqlite"
    journal = Journal(path)
    begin = {
        "alias": "paper",
        "version": 3,
        "session": "2025-11-12",
        "contract": "MCLF6",
        "account": "DU0000001",
        "synthetic": None,
    }
    journal.append(Draft("begin", begin), Draft("state", {"state": "running", "why": "flat"}))
    rows = [(0.0, 0.0, 0, 0, 0), (1.0, 2.0, 0, Block.MAX_POSITION, 1), (1.0, 2.0, 1, 0, 1)]
    for n, (signal, wanted, position, block, target) in enumerate(rows):
        decision = {
            "bar": n,
            "position": position,
            "equity_usd": 25_000.0 + n,
            "target": target,
            "block": int(block),
        }
        decision |= {"signal": signal, "scale": 2.0, "wanted": wanted}
        journal.append(
            Draft("bar", BAR | {"close_time": n + 1}, str(n + 1)),
            Draft("decision", decision, str(n + 1)),
        )
        if n == 1:
            journal.append(
                Draft(
                    "order",
                    {
                        "bar": 1,
                        "from": 0,
                        "to": 1,
                        "stop_ticks": 40.0,
                        "take_profit_ticks": float("nan"),
                    },
                    REF,
                )
            )
            fill = {
                "execution_id": "e.1",
                "time": 5,
                "symbol": "MCLF6",
                "quantity": 1,
                "price": 60.06,
                "commission_usd": 0.77,
            }
            journal.append(Draft("fill", fill | {"reason": "target", "ref": REF, "bar": 2}, "e.1"))
    if last:
        journal.append(*last)
    journal.close()
    return path
