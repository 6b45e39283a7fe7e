"""The hold-out: sessions that no search has seen. Each look at them is written down, since every
look uses them up a little.

Looks at overlapping sessions of one market are looks at the same hold-out, whatever the bar
interval, the roll rule or the last day of the data. `Look.number` counts all of them. `Look.looks`
counts what luck could choose from: every distinct run that was looked at, and every distinct trial
of the ledger whose own window reached into these sessions. The p-value of the hold-out is corrected
by it.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mcl import strategy
from mcl.base.errors import StoreError
from mcl.base.files import private_file
from mcl.base.words import many
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.data.loader import load
from mcl.engine.backtest import plan, simulate
from mcl.engine.result import Result
from mcl.metrics.performance import LEAST_ANNUAL_SESSIONS, Floats, sharpe_interval
from mcl.metrics.summary import summary
from mcl.tracking import backtest_run, trial_ledger

# confidence of the two-sided interval whose upper end the hold-out is judged by: one-sided 90 %
PLAUSIBLE = 0.8


@dataclass(frozen=True)
class Look:
    """The result on the hold-out: NaN when there is none. `number` counts the looks at the same
    hold-out, this one included, `looks` the different runs and trials that have seen it. `returns`
    are those of its sessions.
    """

    sharpe: float
    trades: float
    sessions: int
    number: int
    fingerprint: str
    meaning: str
    looks: int = 1
    returns: Floats = field(default_factory=lambda: np.empty(0))

    def highest(self) -> tuple[float, str]:
        """The largest annual Sharpe that the hold-out leaves plausible, and what it means."""
        _, high = sharpe_interval(self.returns, PLAUSIBLE)
        if not self.sessions:
            return high, self.meaning
        if math.isnan(high):
            return high, f"no Sharpe ratio can be estimated: {self.meaning}"
        interval = f"upper end of the {PLAUSIBLE:.0%} interval"
        short = self.sessions < LEAST_ANNUAL_SESSIONS  # an estimate per year would say nothing
        of = "" if short else f" of a Sharpe of {self.sharpe:.2f}"
        return high, f"{interval}{of}: {self.meaning}"


NO_HOLDOUT = "no hold-out is configured: search and run again with data.holdout_start=DATE"
NONE = Look(math.nan, math.nan, 0, 0, "", NO_HOLDOUT)


def look(config: schema.Config, run_id: str, root: Path) -> Look:
    """Simulate the sessions from `data.holdout_start` on, flat at their start, with indicators
    warmed up on the bars before.
    """
    if config.data.holdout_start is None:
        return NONE
    bars = load(config.data, root, holdout=True)
    place = backtest_run.trial_pool(config)
    entry = _entry(run_id, place.market, bars, bars.between(config.data.holdout_start))
    record(root, entry)
    same = [earlier for earlier in looks(root) if _same(earlier, entry)]
    seen_by = len({earlier["run_id"] for earlier in same}) + trial_ledger.beyond(
        root, place.everywhere, config.data.holdout_start
    )
    return _simulated_look(config, bars, len(same), seen_by)


def again(config: schema.Config, number: int, root: Path) -> Look:
    """A look that was taken before, as number `number`: what it shows is known, so that it is not
    counted once more.
    """
    return (
        NONE
        if config.data.holdout_start is None
        else _simulated_look(config, load(config.data, root, holdout=True), number, number)
    )


def _simulated_look(config: schema.Config, bars: Bars, number: int, seen_by: int) -> Look:
    result = simulated(config, bars)
    measured = summary(result)
    sessions = int(measured["sessions"])
    meaning = (
        f"{many(sessions, _kind(number, seen_by))} from {config.data.holdout_start}, look number"
        f" {number}, of {many(seen_by, 'different run') if seen_by > 1 else '1 run'}"
    )
    returns = result.session_returns.to_numpy()
    return Look(
        measured["sharpe"],
        measured["trades"],
        sessions,
        number,
        bars.fingerprint,
        meaning,
        seen_by,
        returns,
    )


def _kind(number: int, seen_by: int) -> str:
    """Only the first look sees what nobody has seen."""
    return "unseen session" if number <= 1 and seen_by <= 1 else "hold-out session"


def simulated(config: schema.Config, bars: Bars) -> Result:
    """The sessions of the hold-out alone, with their own fresh ledger; `bars` hold them and all
    that came before.
    """
    unseen = bars.between(config.data.holdout_start)
    intended = plan(bars, strategy.build(config.strategy), config.risk, config.capital_usd)
    own = intended.rows(len(bars) - len(unseen), len(bars))
    return simulate(
        unseen, own, config.risk.limits, config.costs, config.capital_usd, config.execution
    )


def record(root: Path, entry: dict[str, str]) -> None:
    """Append one look to the ledger of looks. StoreError when it cannot be written: then the
    hold-out is not read.
    """
    path = ledger(root)
    try:
        with private_file(path).open("ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(
            f"cannot count a look at the hold-out: {error.strerror} ({path})",
            "the hold-out is not read unless the access can be recorded",
        ) from None


def looks(root: Path) -> list[dict[str, str]]:
    """All looks so far, oldest first."""
    path = ledger(root)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def ledger(root: Path) -> Path:
    return root / "mlruns" / "holdout_looks.jsonl"


def _entry(run_id: str, market: str, bars: Bars, unseen: Bars) -> dict[str, str]:
    first, last = (
        (str(unseen.session[i].astype("datetime64[D]")) for i in (0, -1))
        if len(unseen)
        else ("", "")
    )
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "at": at,
        "run_id": run_id,
        "fingerprint": bars.fingerprint,
        "market": market,
        "first": first,
        "last": last,
    }


def _same(earlier: dict[str, str], entry: dict[str, str]) -> bool:
    """Whether two looks saw one hold-out. One of version 0.1 tells only the fingerprint of its
    data.
    """
    if earlier["fingerprint"] == entry["fingerprint"]:
        return True
    overlap = earlier.get("first", "") <= entry["last"] and entry["first"] <= earlier.get(
        "last", ""
    )
    return trial_ledger.market_of(earlier.get("market", "")) == entry["market"] and overlap
