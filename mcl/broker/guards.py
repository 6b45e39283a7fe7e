"""Check a connection before it is used and an order before it is sent. Limits forbid to open or
add; an order that closes is never refused.

R1   venue       loopback, a paper port; a live port only with `money: live` and its three locks:
                 `check_venue`, `check_locks`
R2   account     every managed account is paper, ours is managed; asked again on every order:
                 `check_account`
R3   product     the qualified contract has the market's multiplier, tick, currency and last trade
                 date: `check_product`, `PreTradeGate`
R4   order size  contracts of one order: `PreTradeGate`
R5   size        position with everything that works: `PreTradeGate`
R6   loss        of the session, by the broker's net liquidation: everything is closed, nothing is
                 opened: `PreTradeGate.lost_too_much`, supervisor
R7   collar      every limit and trigger near the last price: `PreTradeGate`
R8   rate        between orders, in an hour, in a day: `PreTradeGate`; 45 messages a second by the
                 library
R9   duplicates  a reference is sent once: journal, `FillLedger.used`, search by reference after a
                 restart
R10  repeats     executions of one decision: `PreTradeGate`
R11  kill        file, command, signal: supervisor
R12  dead man    a hanging decision, a silent broker: supervisor
R13  books       compared at the start, after every connection, every minute, at the end:
                 supervisor, `mcl.live.reconcile`
R14  stale       no fresh bar in an open session: supervisor
R15  rejects     so many in a row: `PreTradeGate`
R16  calendar    around the break, near the last trade date, from the out-by session on, in the
                 broker's reset window: `PreTradeGate`
R17  margin      a what-if before the first order, and when the size grows: `PreTradeGate.margin`,
                 `mcl.broker.ib`
R18  records     decision, verdict and hash of the limits: journal
R19  unknown     a code that is not on the list: `PreTradeGate.notice`
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from mcl.base.errors import DataError, GuardError, Halt, nearest
from mcl.base.instants import NS
from mcl.base.network import is_loopback
from mcl.base.words import many
from mcl.broker.protocol import QualifiedContract
from mcl.config import schema
from mcl.market import calendar
from mcl.market.account_value import Margin, Worth
from mcl.market.instruments import Contract, Instrument

PAPER_PORTS = {7497: "TWS", 4002: "IB Gateway"}
LIVE_PORTS = {7496: "TWS", 4001: "IB Gateway"}
MONEY_VARIABLE = "MCL_LIVE"  # "1" in the environment is one of the three locks of live money
MAX_SERVER_VERSION = 178  # the newest that ib_async 2.1.0 decodes rightly; it does not check
CLOCK_LIMIT_SEC = 10.0
_PAPER_ACCOUNT = re.compile(r"D[UFI][A-Z]?\d+")  # live accounts start with U, F or I
# New York, hour and minute: the broker's nightly reset, the usual restart of a TWS
RESETS = ((0, 15, 1, 45), (23, 45, 24, 0))
WEEKLY = (23, 4)  # Friday 23:00 to Saturday 03:00 and Sunday until 04:00 New York

# Codes that say nothing about an order of ours, or what the session handles where they arise. Any
# other code is unclassified.
KNOWN_CODES = frozenset(
    {
        100,
        101,
        103,
        104,
        105,
        110,
        135,
        136,
        161,
        162,
        165,
        200,
        201,
        202,
        300,
        321,
        322,
        326,
        329,
        354,
        366,
        387,
        399,
        404,
        420,
    }
    | {434, 462, 463, 492, 502, 503, 504, 1100, 1101, 1102, 1300}
    | set(range(2100, 2200))
    | {10089, 10147, 10148, 10167, 10168, 10182, 10190, 10197, 10225, 10318, 10349}
)


# ----------------------------------------------------------------------------------- the connection


def check_venue(config: schema.BrokerConfig, port: int) -> None:
    """Before the TCP connection: loopback, and a port on which the configured money is traded (or
    the embedded server).
    """
    if not is_loopback(config.host):
        raise GuardError(
            f"broker.host={config.host} is not this machine; a TWS is reached on 127.0.0.1"
        )
    if config.money == "live":
        if config.kind != "tws" or port not in LIVE_PORTS:
            raise GuardError(
                f"broker.port={port} is no live trading port; choose 7496 (TWS) or 4001 (IB"
                " Gateway)"
            )
        return
    if port in LIVE_PORTS:
        raise GuardError(
            f"port {port} is live trading on {LIVE_PORTS[port]}; paper listens on 7497 (TWS) or"
            " 4002 (IB Gateway)"
        )
    if config.kind == "tws" and port not in PAPER_PORTS:
        raise GuardError(
            f"broker.port={port} is no paper trading port; choose 7497 (TWS) or 4002 (IB Gateway)"
        )
    if port == 0:
        raise GuardError(
            "port 0 cannot be connected to; give the port of the embedded server",
            "broker=ib_sim starts one",
        )


def check_locks(config: schema.BrokerConfig, name: str, stage: str) -> None:
    """Live money opens with three keys at once; the refusal names every one that is missing."""
    if config.money != "live":
        return
    missing = []
    if stage != "live":
        missing.append(
            f"a version promoted to live ({name!r} is one for {stage}: mcl promote RUN_ID --to"
            " live)"
        )
    if not config.live_confirm or config.live_confirm != config.account:
        missing.append(f"broker.live_confirm={config.account}")
    if os.environ.get(MONEY_VARIABLE) != "1":
        missing.append(f"the environment variable {MONEY_VARIABLE}=1")
    if missing:
        raise GuardError(
            f"live money needs {'; '.join(missing)}",
            "broker=ib_paper trades the same version on paper",
        )


def check_reach(limits: schema.Guards, max_position: int, max_order: int) -> None:
    """Before a session: the guards let the largest position be opened that the version may want,
    else it could never turn around.
    """
    largest = min(max_position, max_order)
    for name, most, wanted in (
        ("max_position", limits.max_position, max_position),
        ("max_order", limits.max_order, largest),
    ):
        if most is not None and most < wanted:
            raise GuardError(
                f"the version may open {many(wanted, 'contract')} at once,"
                f" broker.guards.{name}={most} would refuse them and every turn to them",
                f"broker.max_contracts={most} makes its position smaller",
            )


def check_account(account: str, managed: Sequence[str], money: str = "paper") -> None:
    """After the log-in: every account that this connection can reach is of the configured money,
    and ours is among them.
    """
    live = [name for name in managed if not _PAPER_ACCOUNT.fullmatch(name)]
    if money == "paper" and live:
        raise GuardError(
            f"account {live[0]} is not a paper account (those start with DU, DF or DI); nothing was"
            " sent"
        )
    if money == "live" and account in managed and account not in live:
        raise GuardError(f"account {account} is a paper account; live money is not traded on it")
    if account not in managed:
        raise GuardError(
            f"broker.account={account} is not managed by this connection;"
            f" {nearest(account, managed)}"
        )


def check_currency(own: Worth) -> None:
    """The limits are in USD: an account in another currency has to tell its rate."""
    if own.base not in ("", "USD") and math.isnan(own.rate):
        raise GuardError(
            f"the account is kept in {own.base} and tells no rate of USD, which the limits are in",
            "hold some USD in it, then it does",
        )


def check_clock(away_sec: float) -> None:
    if not abs(away_sec) <= CLOCK_LIMIT_SEC:
        limit = f"at most {CLOCK_LIMIT_SEC:.0f} s are safe"
        raise GuardError(
            f"this machine's clock and the broker's differ by {abs(away_sec):.0f} s; {limit}"
        )


def check_version(server_version: int) -> None:
    if server_version > MAX_SERVER_VERSION:
        raise GuardError(
            f"the server speaks version {server_version}; this client decodes up to"
            f" {MAX_SERVER_VERSION}"
        )


def check_product(
    contract: Contract,
    instrument: Instrument,
    multiplier: str,
    min_tick: float,
    currency: str,
    expiry: str,
) -> None:
    """The broker's facts about a contract are the facts that the backtest used."""
    facts = (
        ("multiplier", float(multiplier or 0), instrument.multiplier),
        ("tick", min_tick, instrument.tick_size),
        ("currency", currency, instrument.currency),
        ("last trade date", expiry, f"{contract.last_trade_date:%Y%m%d}"),
    )
    for name, theirs, ours in facts:
        if theirs != ours:
            raise GuardError(
                f"the broker's {name} of {contract.name} is {theirs}, the market facts say {ours};"
                " it is not traded"
            )


def expected_downtime(now_ns: int, root: str = "MCL") -> str:
    """The reason why a broker may be away at this moment, as a clause; empty when it should be
    there.
    """
    local = datetime.fromtimestamp(now_ns / NS, UTC).astimezone(calendar.NEW_YORK)
    minute, weekday = local.hour * 60 + local.minute, local.weekday()
    if (
        (weekday == 4 and local.hour >= WEEKLY[0])
        or (weekday == 5 and local.hour < 3)
        or (weekday == 6 and local.hour < WEEKLY[1])
    ):
        return "the weekly restart with a new log-in"
    for hour, at, until, to in RESETS:
        if hour * 60 + at <= minute < until * 60 + to:
            return "the nightly reset"
    session = _session(now_ns, root)
    return (
        "" if session is not None and session[0] <= now_ns < session[1] else "the market is closed"
    )


def _session(now_ns: int, root: str) -> tuple[int, int] | None:
    """Open and close (ns) of the session that an instant counts to; None on a holiday."""
    day = calendar.from_day(int(calendar.session_of(now_ns)))
    try:
        sessions = calendar.sessions(day, day + timedelta(days=1), root)
    except DataError:
        return None
    return int(sessions.open_ns[0]), int(sessions.close_ns[0])


@lru_cache(maxsize=64)
def out_by(contract: Contract, sessions: int) -> date:
    """The session at whose open a contract is left at the latest: so many sessions before the one
    of its last trade date.
    """
    before = contract.last_trade_date - timedelta(days=2 * sessions + 14)
    days = calendar.sessions(
        before, contract.last_trade_date + timedelta(days=1), contract.root
    ).day
    return calendar.from_day(int(days[-1 - sessions]))


# --------------------------------------------------------------------------------------- the orders


class OrderProposal(NamedTuple):
    """An order before anything is sent for it."""

    pinned: QualifiedContract
    quantity: int  # signed
    position: int
    ref: str
    last_price: float  # NaN when there is none
    now: int  # the broker's clock, ns
    furthest_ticks: float  # of its limit and protective levels from the last price
    moves: bool  # the second leg of a roll: what it opens was held in another contract

    @property
    def opens(self) -> bool:
        after = self.position + self.quantity
        return not (abs(after) <= abs(self.position) and after * self.position >= 0)


@dataclass
class GateHistory:
    """The counts of the guards over a session, read from its journal: a restart changes none of
    them.
    """

    start_usd: float = math.nan  # net liquidation at its beginning
    rejects: int = 0  # in a row
    # by reference: the broker's clock at each of its orders
    sent: dict[str, tuple[int, ...]] = field(default_factory=dict)
    fills: Counter[str] = field(default_factory=Counter)  # executions by reference
    unknown: str = ""

    def ordered(self, ref: str, before: int, after: int, clock: int | None) -> None:
        """Written down, and perhaps sent: a reversal is two orders."""
        orders = 2 if before * after < 0 else 1
        self.sent[ref] = () if clock is None else (clock,) * orders

    def refused(self, ref: str) -> None:
        """Only the half that closes was sent, if there was one."""
        self.sent[ref] = self.sent.get(ref, ())[1:]

    def filled(self, ref: str) -> None:
        self.rejects = 0
        self.fills[ref] += 1


class PreTradeGate:
    """Judges every target that takes an order. One per session: it outlives connections.
    GuardError: refused, nothing was sent.
    """

    def __init__(
        self,
        limits: schema.Guards,
        root: str = "MCL",
        scheduled: bool = True,
        out_by_sessions: int | None = None,
    ) -> None:
        """`out_by_sessions` before its last trade date a contract is left; None: whenever the data
        say.
        """
        self.limits, self._root, self._scheduled, self._out_by_sessions = (
            limits,
            root,
            scheduled,
            out_by_sessions,
        )
        self.blocked = ""  # why nothing may be opened now: stale data, an unclassified code
        self.unknown = ""
        self.lost = ""  # what the session has lost, when it is its limit
        # net liquidation when the session began, and now
        self.start_usd = self.equity_usd = math.nan
        self.others = 0  # contracts that orders of others could still add
        # called with what the broker said to an order that it refused
        self.rejecting: Callable[[str], None] = lambda _: None
        # called with each what-if and its verdict
        self.weighing: Callable[[dict[str, Any]], None] = lambda _: None
        self._sent: deque[int] = deque(maxlen=1000)
        self._rejects = 0
        self._fills: Counter[str] = Counter()
        self._margin_for = 0  # contracts that the broker's margin was asked for

    def resume(self, history: GateHistory) -> None:
        """Continue with the counts of the session's journal."""
        self._sent.clear()
        self._sent.extend(sorted(at for times in history.sent.values() for at in times))
        self._rejects, self._fills = history.rejects, Counter(history.fills)
        if not math.isnan(history.start_usd):
            self.start_usd = history.start_usd

    def judge(self, p: OrderProposal) -> None:
        """Every rule that an order of this size, now, has to keep. The second leg of a roll opens
        what the first has closed: the size of one order, the time between two, the hours around the
        break and the age of the last whole bar are not its affair.
        """
        if p.quantity == 0 or not p.opens:
            return
        own = () if p.moves else (self._one_order(p), self._rate(p), self._quiet(p), self.blocked)
        always = (
            self._size(p),
            self._prices(p),
            self._calendar(p),
            self._out_by(p),
            self._loss(),
            self.unknown,
        )
        for broken in (*own, *always):
            if broken:
                raise GuardError(
                    f"the order {p.ref} for {p.quantity:+g} {p.pinned.local_symbol} is not sent:"
                    f" {broken}"
                )

    def _one_order(self, p: OrderProposal) -> str:
        limit = self.limits.max_order
        if limit is None or abs(p.quantity) <= limit:
            return ""
        return f"{many(abs(p.quantity), 'contract')} in one order, broker.guards.max_order={limit}"

    def _size(self, p: OrderProposal) -> str:
        limit, after = self.limits.max_position, abs(p.position + p.quantity) + self.others
        if limit is None or after <= limit:
            return ""
        return f"{many(after, 'contract')} with all that works, broker.guards.max_position={limit}"

    def _prices(self, p: OrderProposal) -> str:
        limit = self.limits.collar_frac
        if limit is None:
            return ""
        if not math.isfinite(p.last_price):
            return "there is no price to hold it against"
        away = p.furthest_ticks * p.pinned.instrument.tick_size
        if not away <= limit * abs(p.last_price):
            return (
                f"a level {away:.2f} from the last price {p.last_price},"
                f" broker.guards.collar_frac={limit}"
            )
        return ""

    def _rate(self, p: OrderProposal) -> str:
        limits = self.limits
        if (
            limits.min_order_gap_sec is not None
            and self._sent
            and not p.now - self._sent[-1] >= limits.min_order_gap_sec * NS
        ):
            return (
                "the last order was sent less than"
                f" broker.guards.min_order_gap_sec={limits.min_order_gap_sec:g} ago"
            )
        for name, most, seconds in (
            ("hour", limits.max_orders_per_hour, 3600),
            ("day", limits.max_orders_per_day, 86_400),
        ):
            if (
                most is not None
                and sum(not at <= p.now - seconds * NS for at in self._sent) >= most
            ):
                were = "was" if most == 1 else "were"
                return (
                    f"{many(most, 'order')} {were} sent within one {name},"
                    f" broker.guards.max_orders_per_{name}={most}"
                )
        return ""

    def _calendar(self, p: OrderProposal) -> str:
        limits, contract = self.limits, p.pinned.contract
        if limits.days_before_last_trade is not None:
            last = calendar.business_days_before(
                contract.last_trade_date, limits.days_before_last_trade
            )
            if calendar.from_day(int(calendar.session_of(p.now))) > last:
                return (
                    f"{contract.symbol} stops trading on {contract.last_trade_date}, nothing is"
                    f" opened after {last}"
                )
        return expected_downtime(p.now, self._root) if self._scheduled else ""

    def _out_by(self, p: OrderProposal) -> str:
        """From the session on at whose open the roll rule leaves a contract at the latest, only
        orders that close are sent for it.
        """
        contract, before = p.pinned.contract, self._out_by_sessions
        if before is None or calendar.from_day(int(calendar.session_of(p.now))) < (
            day := out_by(contract, before)
        ):
            return ""
        rule = f"data.roll.sessions_before_last_trade={before}"
        return (
            f"OUT_BY {day}: {contract.symbol} stops trading on {contract.last_trade_date}, {rule};"
            " orders may only close it"
        )

    def _quiet(self, p: OrderProposal) -> str:
        limits = self.limits
        if limits.quiet_minutes is None or (session := _session(p.now, self._root)) is None:
            return ""
        quiet, short = limits.quiet_minutes * 60 * NS, session[1] - session[0] < 23 * 3600 * NS
        if p.now < session[0] + quiet or p.now >= session[1] - (30 * 60 * NS if short else quiet):
            return (
                f"within {many(limits.quiet_minutes, 'minute')} of the daily break"
                " (30 before an early close)"
            )
        return ""

    # ------------------------------------------------------------------------ what happened to them

    def _loss(self) -> str:
        """A limit of the loss needs to know it: without a figure nothing is opened."""
        limit = self.limits.max_session_loss_usd
        if limit is None or self.lost:
            return self.lost
        if math.isfinite(self.start_usd - self.equity_usd):
            return self.lost_too_much()
        return (
            "the net liquidation in USD is not known, which"
            f" broker.guards.max_session_loss_usd={limit:g} needs"
        )

    def sent(self, now: int) -> None:
        self._sent.append(now)

    def accepted(self) -> None:
        self._rejects = 0

    def rejected(self, message: str) -> None:
        """Halt after so many in a row: something is wrong that another order will not heal."""
        self._rejects += 1
        self.rejecting(message)
        if self.limits.max_rejects is not None and self._rejects >= self.limits.max_rejects:
            self._rejects = 0
            rejects = many(self.limits.max_rejects, "order")
            raise Halt(f"the broker rejected {rejects} in a row, the last one: {message}")

    def filled(self, ref: str) -> None:
        """Halt when one decision is executed again and again."""
        self._fills[ref] += 1
        count = self._fills[ref]
        if self.limits.max_fills_per_order is not None and count > self.limits.max_fills_per_order:
            raise Halt(
                f"the order {ref} has {count} executions,"
                f" broker.guards.max_fills_per_order={self.limits.max_fills_per_order}"
            )

    def notice(self, code: int, text: str) -> None:
        """Block new risk after a message of an unlisted code, until a person says resume."""
        if code not in KNOWN_CODES and not self.unknown:
            self.unknown = f"unknown broker message: {text} ({code})"

    # ------------------------------------------------------------------------------ margin and loss

    def wants_margin(self, p: OrderProposal) -> bool:
        """The broker's what-if is due: before the first order, and when the position becomes larger
        than any before.
        """
        return (
            self.limits.max_margin_frac is not None
            and p.opens
            and abs(p.position + p.quantity) > self._margin_for
        )

    def margin(self, p: OrderProposal, answer: Margin) -> None:
        """GuardError when the account could not carry the position, or when that is not known. The
        verdict is written down.
        """
        why = self._too_much_margin(answer)
        self.weighing(
            {
                "said" if name == "reason" else name: figure
                for name, figure in answer._asdict().items()
            }
            | {
                "ref": p.ref,
                "quantity": p.quantity,
                "held": p.position,
                "refused": why,
            }
        )
        if why:
            raise GuardError(
                f"the order {p.ref} for {p.quantity:+g} {p.pinned.local_symbol} is not sent: {why}"
            )
        self._margin_for = abs(p.position + p.quantity)

    def _too_much_margin(self, answer: Margin) -> str:
        limit = self.limits.max_margin_frac or 1.0
        initial, maintenance, equity, message = answer
        rule = f"broker.guards.max_margin_frac={limit:g}"
        valid_figures = {
            "initial margin": 0 < initial < math.inf,
            "maintenance margin": 0 < maintenance < math.inf,
            "equity": math.isfinite(equity),
        }
        if not all(valid_figures.values()):
            missing = ", ".join(name for name, valid in valid_figures.items() if not valid)
            answer_text = f" ({message})" if message else ""
            return f"the broker did not say the {missing}{answer_text}, which {rule} needs"
        if max(initial, maintenance) <= limit * equity:
            return ""
        needs = f"{initial:,.0f} USD initial and {maintenance:,.0f} USD maintenance margin"
        return f"the position would need {needs} of {equity:,.0f} USD, {rule}"

    def lost_too_much(self) -> str:
        """The sentence when the session has lost its limit, from then on; a figure that is not
        known is no reason to close.
        """
        limit, lost = self.limits.max_session_loss_usd, self.start_usd - self.equity_usd
        if limit is not None and lost >= limit and not self.lost:
            self.lost = (
                f"the session lost {lost:,.2f} USD, broker.guards.max_session_loss_usd={limit:g}"
            )
        return self.lost
