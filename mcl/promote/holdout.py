"""The hold-out: sessions that no search has seen. Each look at them is written down, since every look uses them up a little."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mcl import metrics, schema, strategy
from mcl.data.bars import Bars
from mcl.data.load import load
from mcl.engine.backtest import plan, simulate
from mcl.engine.result import Result
from mcl.errors import StoreError
from mcl.files import private_file


@dataclass(frozen=True)
class Look:
    """What the hold-out shows: NaN when there is none. `number` counts the looks at the same hold-out, this one included."""

    sharpe: float
    trades: float
    sessions: int
    number: int
    fingerprint: str
    meaning: str


NONE = Look(math.nan, math.nan, 0, 0, "", "no hold-out is configured: set data.holdout_start")


def look(config: schema.Config, run_id: str, root: Path) -> Look:
    """Simulate the sessions from `data.holdout_start` on, flat at their start, with indicators warmed up on the bars before."""
    if config.data.holdout_start is None:
        return NONE
    bars = load(config.data, root, holdout=True)
    return _seen(config, bars, record(root, run_id, bars.fingerprint))


def again(config: schema.Config, number: int, root: Path) -> Look:
    """A look that was taken before, as number `number`: what it shows is known, so that it is not counted once more."""
    return NONE if config.data.holdout_start is None else _seen(config, load(config.data, root, holdout=True), number)


def _seen(config: schema.Config, bars: Bars, number: int) -> Look:
    measured = metrics.summary(simulated(config, bars))
    sessions = int(measured["sessions"])
    meaning = f"{sessions} unseen sessions from {config.data.holdout_start}, look number {number}"
    return Look(measured["sharpe"], measured["trades"], sessions, number, bars.fingerprint, meaning)


def simulated(config: schema.Config, bars: Bars) -> Result:
    """The sessions of the hold-out alone, with their own fresh ledger; `bars` hold them and all that came before."""
    unseen = bars.between(config.data.holdout_start)
    intended = plan(bars, strategy.build(config.strategy), config.risk, config.capital_usd)
    own = intended.rows(len(bars) - len(unseen), len(bars))
    return simulate(unseen, own, config.risk.limits, config.costs, config.capital_usd, config.execution)


def record(root: Path, run_id: str, fingerprint: str) -> int:
    """Append one look to the ledger of looks and return how many there have been at this hold-out."""
    path = ledger(root)
    entry = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "run_id": run_id, "fingerprint": fingerprint}
    try:
        with private_file(path).open("ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(f"cannot count a look at the hold-out: {error.strerror} ({path})", "an uncounted look is not taken") from None
    return sum(1 for known in looks(root) if known["fingerprint"] == fingerprint)


def looks(root: Path) -> list[dict[str, str]]:
    """All looks so far, oldest first."""
    path = ledger(root)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def ledger(root: Path) -> Path:
    return root / "mlruns" / "holdout_looks.jsonl"
