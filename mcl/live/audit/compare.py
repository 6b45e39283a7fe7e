"""Compare what a session did with its rules and with a backtest of the same bars.

Four questions, from the journal alone, so that a session can be audited at any later time:

1. Is each decision the one that the rules make of the recorded bars and of the account as it was?
(`mcl.live.audit.decision_replay`) 2. Did the session go as the backtest of the recorded bars goes,
decision by decision and fill by fill? The backtest begins with what
   the session began with; what was in the contract before the roll moves at the first open, as in
   every backtest.
3. What did the fills cost? (`mcl.live.audit.slippage`) 4. How far are the broker's bars from the
vendor's, and how many decisions differ because of that? (`mcl.live.audit.basis`)

Every difference has a cause: `data` (another bar than the stored one), `timing` (late, or never
decided), `price`, `missed` (a fill that did not come), `risk block` (a rule or an operator held it
back or closed it), `roll` (the move to the next contract was late, was refused, or the stop of the
old contract was first), `unexplained`. From a difference of positions on, all that follows from it
has its cause, until both are at the same position again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcl.base.errors import LiveError
from mcl.broker.order_references import decision_of, traded_for
from mcl.broker.protocol import Bar
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.engine.account import FLAT, Money, stop_level
from mcl.engine.backtest import Plan, plan, simulate
from mcl.engine.result import Result
from mcl.live.audit.basis import Basis, measure, recorded_bodies, vendor_bars
from mcl.live.audit.decision_replay import replay_decisions
from mcl.live.audit.fill_matching import Cause, Circumstances, Row, backtest_fills, pair
from mcl.live.audit.slippage import LiveFill, split
from mcl.live.bar_window import Window
from mcl.live.journal import Entry, read
from mcl.live.journal_records import ledger_state
from mcl.live.roll_state import ContractRoll
from mcl.live.session_setup import Stage
from mcl.live.session_state import ledger_from
from mcl.promotion.load import Deployable
from mcl.risk.blocks import Block
from mcl.strategy import Strategy

DIFFERENCE = ("time", "what", "live", "backtest", "cause", "detail")
# compared bar by bar
DECISION = ("position", "target", "block", "stop_ticks", "take_profit_ticks", "trail_ticks")
BAR = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Audit:
    """`result` is the backtest of the recorded bars; `differences` has the columns of DIFFERENCE
    and is empty when all is equal.
    """

    result: Result
    decisions: pd.DataFrame
    orders: pd.DataFrame
    fills: pd.DataFrame
    differences: pd.DataFrame
    slippage: pd.DataFrame  # columns of mcl.live.audit.slippage
    start_usd: float  # equity before the first bar
    exact_prices: bool
    basis: Basis
    latency_ms: tuple[float, ...] = ()  # from the message that reported a close to its order
    close_delay_sec: tuple[float, ...] = ()  # from a close to that message, by the broker's clock

    @property
    def failed(self) -> bool:
        """A difference without a cause; where fills are to have the backtest's prices, any that no
        rule and no person made.
        """
        causes = self.differences["cause"]
        return bool((causes != "risk block").any() if self.exact_prices else self.unexplained)

    @property
    def unexplained(self) -> int:
        return int((self.differences["cause"] == "unexplained").sum())


class NothingToAudit(LiveError):
    """The session ended before its first decision and sent nothing, as one does that is started
    minutes before the close.
    """


def audit(
    journal: Path, deployed: Deployable, strategy: Strategy, stage: Stage, exact_prices: bool
) -> Audit:
    """Audit the session in `journal`. `exact_prices`: fills have the backtest's prices, as in a
    replay that waits for decisions.
    """
    entries = read(journal)
    kinds: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        kinds[entry.kind].append(entry)
    if not kinds["bar"]:
        # an order or a fill without a bar is for a person to look at
        acted = kinds["order"] or kinds["fill"] or kinds["roll"] or kinds["protect"]
        raise (LiveError if acted else NothingToAudit)(
            f"{journal} holds no bar: the session ended before its first decision",
            "its last entry of kind state says why",
        )
    begin = kinds["begin"][0].body if kinds["begin"] else {}
    bars, intent, result = replay(
        [entry.body for entry in kinds["bar"]], deployed, strategy, stage, begin
    )
    decisions = _decisions(bars, kinds["decision"])
    fills = _live_fills(kinds["fill"], {str(entry.key) for entry in kinds["roll"]})
    rules = replay_decisions(
        entries, bars, intent, _limits(deployed, kinds["begin"]), _money(deployed, bars)
    )
    # a vendor's bars are not the broker's
    wrong = dict(_wrong_bars(bars, stage.recorded)) if _replayed(kinds["begin"]) else {}
    theirs = expected(result, intent)
    sent = {str(entry.key) for entry in kinds["order"]}
    # later, the backtest has no bar
    inside = [fill for fill in fills if fill.bar < len(bars) or decision_of(fill.ref) not in sent]
    matches = pair(
        bars, inside, backtest_fills(result), decisions, theirs, Circumstances(kinds), exact_prices
    )
    rows = [
        *wrong.values(),
        *_decision_rows(decisions, theirs, rules, wrong, matches.rows),
        *_stop_rows(kinds["decision"], rules, bars),
        *matches.rows,
    ]
    rows = rows or list(_equity_rows(decisions, theirs) if exact_prices else ())
    differences = pd.DataFrame(rows, columns=list(DIFFERENCE)).sort_values(
        "time", kind="stable", ignore_index=True
    )
    orders = _frame(
        [e.body | {"ref": e.key} for e in kinds["order"]],
        ("ref", "bar", "from", "to", "stop_ticks", "take_profit_ticks", "trail_ticks"),
    )
    costs = split(bars, inside, matches.backtest_prices, deployed.config.costs)
    start_usd = _start_usd(deployed, kinds["begin"])
    apart = _basis(result, deployed, strategy, stage, begin)
    return Audit(
        result,
        decisions,
        orders,
        _fills_frame(kinds["fill"]),
        differences,
        costs,
        start_usd,
        exact_prices,
        apart,
        *_times(kinds),
    )


def _times(kinds: dict[str, list[Entry]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Latencies and close delays that the journal holds."""
    latency = (entry.body.get("latency_ms") for entry in kinds["sent"])
    delay = (entry.body.get("close_delay_sec") for entry in kinds["decision"])
    return tuple(float(v) for v in latency if v is not None), tuple(
        float(v) for v in delay if v is not None
    )


def _basis(
    result: Result, deployed: Deployable, strategy: Strategy, stage: Stage, begin: dict[str, Any]
) -> Basis:
    """Compare the session's bars with the vendor's, and the backtests of both from the state that
    the session began with.
    """
    vendor, note = vendor_bars(result.bars, stage, begin.get("contract") or "")
    if vendor is None:
        return Basis(note)
    _, _, theirs = replay(recorded_bodies(vendor), deployed, strategy, stage, begin)
    return measure(result.bars, vendor, result.target.tolist(), theirs.target.tolist())


def _start_usd(deployed: Deployable, begins: list[Entry]) -> float:
    ledger = begins[0].body.get("ledger", {}) if begins else {}
    return float(ledger.get("equity") or deployed.config.capital_usd)


def _replayed(begins: list[Entry]) -> bool:
    return not begins or begins[0].body.get("broker", "sim") == "sim"


def _limits(deployed: Deployable, begins: list[Entry]) -> schema.Limits:
    """The promoted limits, with the smaller position that the session may have chosen."""
    limits = deployed.config.risk.limits
    cap = begins[0].body.get("max_position") if begins else None
    return limits if cap is None else limits.model_copy(update={"max_position": cap})


def _money(deployed: Deployable, bars: Bars) -> Money:
    config = deployed.config
    return Money(
        capital_usd=config.capital_usd,
        tick_value_usd=bars.instrument.tick_value_usd,
        commission_usd=config.costs.side_usd,
        slippage_ticks=config.costs.slippage_ticks,
    )


def replay(
    recorded: list[dict[str, Any]],
    deployed: Deployable,
    strategy: Strategy,
    stage: Stage,
    begin: dict[str, Any],
) -> tuple[Bars, Plan, Result]:
    """The backtest of the recorded bars: the same configuration, from what `begin` says that was
    held. Bars and plan of the session alone.
    """
    config, window = deployed.config, Window(stage)
    for body in recorded:
        window.append(Bar(**body))
    whole, start = window.bars(), window.warmup_rows
    intent = plan(whole, strategy, config.risk, config.capital_usd).rows(start, len(whole))
    bars = whole.rows(start, len(whole))
    if stage.roll is not None and begin.get("positions", {}).get(stage.roll.outgoing.symbol):
        bars = _rolling(bars, stage.roll)
    ledger = ledger_from(_money(deployed, bars), begin["ledger"]) if "ledger" in begin else None
    return (
        bars,
        intent,
        simulate(
            bars,
            intent,
            config.risk.limits,
            config.costs,
            config.capital_usd,
            config.execution,
            ledger,
        ),
    )


def _rolling(bars: Bars, roll: ContractRoll) -> Bars:
    """The bars with the roll at the first open: where the old contract traded then, or, if that is
    not known, the gap of the table below the new.
    """
    rolls, left_at = np.zeros(len(bars), np.bool_), bars.left_at.copy()
    rolls[0] = True
    left_at[bars.contract[0]] = (
        roll.outgoing_open if np.isfinite(roll.outgoing_open) else bars.open[0] - roll.gap
    )
    return replace(bars, roll=rolls, left_at=left_at)


def expected(result: Result, intent: Plan) -> pd.DataFrame:
    """The backtest's decision at each bar, in the columns of DECISION, and its equity."""
    missing = np.full(len(result.bars), np.nan)
    return pd.DataFrame(
        {
            "position": result.position,
            "target": result.target,
            "block": result.block,
            "stop_ticks": intent.stop_ticks if len(intent.stop_ticks) else missing,
            "take_profit_ticks": (
                intent.take_profit_ticks if len(intent.take_profit_ticks) else missing
            ),
            "trail_ticks": intent.trail_ticks if len(intent.trail_ticks) else missing,
            "equity_usd": result.equity,
        }
    )


# -------------------------------------------------------------------------------- what was recorded


def _decisions(bars: Bars, entries: list[Entry]) -> pd.DataFrame:
    """One row per recorded bar; NaN where the journal has no decision for it."""
    frame = _frame(
        [e.body | {"close_time": int(e.key or 0)} for e in entries],
        ("close_time", *DECISION, "equity_usd"),
    )
    frame = (
        frame.astype(dict.fromkeys((*DECISION, "equity_usd"), "float64"))
        .set_index("close_time")
        .reindex(bars.close_time)
    )
    frame.insert(0, "close", bars.close)
    frame.insert(0, "close_time", bars.times)
    return frame.reset_index(drop=True)


def _fills_frame(entries: list[Entry]) -> pd.DataFrame:
    columns = (
        "execution_id",
        "time",
        "symbol",
        "quantity",
        "price",
        "commission_usd",
        "reason",
        "ref",
        "bar",
    )
    frame = _frame([e.body | {"reason": _reason(e.body)} for e in entries], columns)
    return frame.assign(time=pd.to_datetime(frame["time"].astype("int64"), utc=True))


def _reason(body: Mapping[str, Any]) -> str:
    """Say why a fill happened in the word of a backtest. A journal names the order that was filled:
    one for a target follows the signal.
    """
    return "signal" if body["reason"] == "target" else str(body["reason"])


def _live_fills(entries: list[Entry], rolls: set[str]) -> list[LiveFill]:
    """Executions of one decision in one bar are one fill at their average price: both halves of a
    reversal, and what its limit left to the market. Each leg of a roll is one of its own.
    """
    parts: dict[tuple[int, str, str], list[tuple[int, float]]] = defaultdict(list)
    for entry in entries:
        body = entry.body
        reason = "roll" if decision_of(body["ref"]) in rolls else _reason(body)
        parts[body["bar"], traded_for(body["ref"]), reason].append(
            (body["quantity"], body["price"])
        )
    return [
        LiveFill(bar, sum(q for q, _ in group), _average(group), ref, reason)
        for (bar, ref, reason), group in parts.items()
    ]


# --------------------------------------------------------------------------------------- comparison


def _wrong_bars(bars: Bars, stored: Bars | None) -> Iterator[tuple[int, Row]]:
    """Recorded bars that are not the stored ones, by close time; a session on a real broker has no
    stored bars yet.
    """
    if stored is None:
        return
    live, vendor = (_by_time(b) for b in (bars, stored))
    # what came after the end of a session that was stopped is no difference
    last = int(bars.close_time[-1])
    for at in sorted(live.keys() | vendor.keys()):
        if at <= last and live.get(at) != vendor.get(at):
            yield at, _row(at, "bar", _text(live.get(at)), _text(vendor.get(at)), "data")


def _decision_rows(
    live: pd.DataFrame,
    backtest: pd.DataFrame,
    rules: pd.DataFrame,
    wrong: dict[int, Any],
    fills: list[Row],
) -> Iterator[Row]:
    """One row per decision that differs; what follows from an earlier difference is one row until
    both agree again.
    """
    ours, theirs, by_rules = (
        frame[[*DECISION]].to_numpy(np.float64) for frame in (live, backtest, rules)
    )
    unequal, broken = _unequal(ours, theirs), _unequal(ours, by_rules)
    stretch: list[Row] = []
    for row in range(len(live)):
        at = live["close_time"].iloc[row].value
        if stretch and (not unequal[row].any() or broken[row].any()):
            yield _whole(stretch)
            stretch = []
        if not unequal[row].any():
            continue
        names = [name for name, bad in zip(DECISION, unequal[row], strict=True) if bad]
        missing = bool(np.isnan(ours[row, 1]))
        texts = ("none" if missing else _named(names, ours[row]), _named(names, theirs[row]))
        if missing or broken[row].any() or at in wrong:
            yield _row(
                at,
                "decision",
                *texts,
                "data" if at in wrong else "timing" if missing else "unexplained",
            )
        else:
            stretch.append(_row(at, "decision", *texts, _inherited(at, names, fills)))
    if stretch:
        yield _whole(stretch)


def _unequal(ours: Any, theirs: Any) -> Any:
    return ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))


def _inherited(at: int, names: list[str], fills: list[Row]) -> Cause:
    """A right decision that the backtest takes otherwise: the account is another one since the last
    difference of fills.
    """
    before = [row for row in fills if row[0].value <= at]
    if before:
        cause: Cause = max(before, key=lambda row: row[0])[4]
        return cause
    return "risk block" if "block" in names else "missed"


def _whole(stretch: list[Row]) -> Row:
    """The first of consecutive differences that follow from one another."""
    first, last = stretch[0], stretch[-1]
    detail = (
        f"{len(stretch)} decisions until {last[0]:%H:%M}; each is right for the account as it was"
        if len(stretch) > 1
        else ""
    )
    return (*first[:5], detail or "right for the account as it was")


def _stop_rows(entries: list[Entry], rules: pd.DataFrame, bars: Bars) -> Iterator[Row]:
    """A stop that a close without a fill has not put where the rules draw it."""
    levels = dict(zip(bars.close_time.tolist(), rules["stop_at"].tolist(), strict=True))
    before = FLAT
    for entry in entries:
        if "ledger" not in entry.body:
            continue
        at, holding = int(entry.key or 0), ledger_state(entry.body["ledger"]).holding
        ours, theirs = stop_level(holding), levels.get(at, np.nan)
        traded = (holding.position, holding.sides) != (before.position, before.sides)
        before = holding
        if not traded and at in levels and _unequal(ours, theirs):
            yield _row(at, "stop", f"{ours:g}", f"{theirs:g}", "unexplained")


def _equity_rows(live: pd.DataFrame, backtest: pd.DataFrame) -> Iterator[Row]:
    """The first bar at which the account's equity is not the backtest's bit for bit, though all
    decisions and fills are equal.
    """
    ours, theirs = live["equity_usd"].to_numpy(), backtest["equity_usd"].to_numpy()
    for row in np.flatnonzero(ours != theirs)[:1]:
        yield _row(
            live["close_time"].iloc[row].value,
            "equity",
            repr(float(ours[row])),
            repr(float(theirs[row])),
            "unexplained",
        )


def _named(names: list[str], values: Iterable[float]) -> str:
    """`target 1, block 0 NONE` for the columns that differ."""
    row = dict(zip(DECISION, values, strict=True))
    return ", ".join(
        f"{n} {row[n]:g}"
        + (f" {Block(int(row[n])).name}" if n == "block" and not np.isnan(row[n]) else "")
        for n in names
    )


def _by_time(bars: Bars) -> dict[int, tuple[float, ...]]:
    columns = (getattr(bars, name).tolist() for name in BAR)
    return dict(zip(bars.close_time.tolist(), zip(*columns, strict=True), strict=True))


def _row(at: int, what: str, live: str, backtest: str, cause: Cause, detail: str = "") -> Row:
    return pd.Timestamp(at, tz="UTC"), what, live, backtest, cause, detail


def _text(values: tuple[float, ...] | None) -> str:
    return "none" if values is None else json.dumps(dict(zip(BAR, values, strict=True)))


def _average(group: list[tuple[int, float]]) -> float:
    """Volume-weighted; the price itself when all parts have one price, so that it stays exact."""
    prices = {price for _, price in group}
    return (
        prices.pop()
        if len(prices) == 1
        else sum(q * p for q, p in group) / sum(q for q, _ in group)
    )


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))
