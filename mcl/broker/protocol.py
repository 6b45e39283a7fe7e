"""Define what a session asks of a broker, and what a broker answers.

A broker gets a target ("be long 2, stop 40 ticks away"), never an order: a target can be
repeated after a crash. Two implementations share this protocol and one test suite: the embedded
simulated TWS and a real TWS, both through `mcl.broker.ib`.

How a session runs::

    # port only for the embedded server
    broker = IBBroker(config.broker, instrument, port=tws.port)
    await broker.connect()
    pinned = await broker.qualify(contract)
    history = await broker.history(pinned, 500, "1m")                 # closed bars, oldest first
    async for bar in broker.bars(pinned, "1m", after=history[-1].close_time):
        account = await broker.account(pinned)
        # decided at the close of `bar`, filled at the next open
        fills = await broker.trade_to(pinned, decide(...), ref)
    await broker.close()

Asking `bars` for its next element says "I have decided and traded": the lock-step replay waits for
exactly that. Everything a broker cannot answer for certain is a `BrokerError`; after one, no
further order is sent by this object. Times are int64 nanoseconds since the epoch, UTC, in the
broker's (for a replay: the market's) clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from mcl.engine.account import Holding
from mcl.engine.decision import Bracket
from mcl.market.instruments import Contract, Instrument

# The order that was filled. target: its decision says why, for a signal, a roll or a limit;
# foreign: an order that no call of ours has sent
FillReason = Literal["target", "stop", "take_profit", "foreign"]
QUIET_NS = 5_000_000_000  # after the close of the session: no trade is reported any more


class Bar(NamedTuple):
    """One closed bar of a dated contract. `close_time` = when it is known = its open + the
    interval.
    """

    close_time: int
    open: float
    high: float
    low: float
    close: float
    volume: int


@dataclass(frozen=True)
class QualifiedContract:
    """A dated contract that the broker knows and whose multiplier, tick and currency agree with
    `mcl.market`.
    """

    contract: Contract
    instrument: Instrument
    con_id: int
    local_symbol: str
    exchange: str


class Timing(NamedTuple):
    """The times that the last bar and its order took; NaN before the first bar or order.

    reaction_ms      from the message that reported the last bar's close to the first order of its
                     decision; where a bar closes by the clock, from the moment at which it counts
                     as closed
    close_delay_sec  from that bar's close to that moment, by the broker's clock; NaN in a replay
    """

    reaction_ms: float
    close_delay_sec: float


class Fill(NamedTuple):
    """One execution, identified by `execution_id`. `quantity` is signed, bought > 0; `price` is per
    unit of the underlying.
    """

    execution_id: str
    time: int
    symbol: str  # of the dated contract
    quantity: int
    price: float
    commission_usd: float  # NaN until the broker has reported it
    reason: FillReason
    ref: str  # the `ref` of the trade_to that caused it


class WorkingOrder(NamedTuple):
    """An order at the broker that can still fill. `quantity` is signed and is what remains."""

    order_id: int
    permanent_id: int
    ref: str
    kind: str  # MKT, LMT, STP
    quantity: int
    price: float  # limit or trigger; NaN for MKT
    status: str
    symbol: str  # of the dated contract
    client_id: int  # 0: by hand in TWS


class BrokerSnapshot(NamedTuple):
    """Everything that the broker reports, read in one go: of every client of the account,
    executions as far back as it has them (usually midnight).
    """

    clock: int
    positions: dict[str, int]  # by symbol of the dated contract, flat ones left out
    orders: tuple[WorkingOrder, ...]
    executions: tuple[Fill, ...]  # in order of time


class BrokerAccount(NamedTuple):
    """The account as the broker reports it now. `position` and `average_price` are of one qualified
    contract.
    """

    account: str
    position: int
    average_price: float  # price units, NaN when flat; the broker's share of commission included
    equity_usd: float  # net liquidation
    cash_usd: float
    realized_usd: float  # today, after commission
    unrealized_usd: float
    time: int


class TargetSpec(Protocol):
    """The position to hold, with its protection; `mcl.engine.decision.Target` is one."""

    @property
    def position(self) -> int: ...
    @property
    def bracket(self) -> Bracket: ...


class HoldingBook(Protocol):
    """The positions of this process. A session has one such book, the journal's. A broker that is
    used without a session keeps one of its own. The broker's account is what it is compared with.
    """

    def holding(self, symbol: str) -> Holding:
        """The holding of a contract after every reported execution, with levels in its prices."""

    def report(self, fill: Fill, bracket: Bracket) -> None:
        """Take in an execution as soon as the broker tells of it, once. `bracket` is that of the
        target that it was sent for.
        """

    def aim(self, symbol: str, bracket: Bracket) -> None:
        """Give a position without levels those of a bracket."""


Begin = Callable[[], Awaitable[None]]


class Broker(Protocol):
    """Everything a session needs. Every awaited call ends within the configured time-out, with an
    answer or a BrokerError.
    """

    @property
    def trouble(self) -> str:
        """The reason why data or orders do not flow though the connection is open; empty when all
        is well.
        """

    @property
    def simulated(self) -> bool:
        """Whether the account says that it is one of a simulated TWS: its fills are no evidence
        about a market.
        """

    @property
    def timing(self) -> Timing:
        """Of the last bar and of its order."""

    @property
    def clock_away_sec(self) -> float:
        """This machine's clock minus the broker's."""

    async def connect(self) -> None:
        """Open the connection, check venue, protocol and account. Refuses (BrokerError) anything
        that is not certainly as configured.
        """

    async def close(self) -> None:
        """Leave. Working protective orders stay at the broker; call `trade_to` with position 0
        first to be flat.
        """

    async def qualify(self, contract: Contract) -> QualifiedContract:
        """The broker's one match for a dated contract, checked against the market facts. Only
        pinned contracts are traded.
        """

    async def history(self, pinned: QualifiedContract, bars: int, interval: str) -> tuple[Bar, ...]:
        """At most the last `bars` closed bars (fewer when the broker has fewer), oldest first."""

    def bars(
        self, pinned: QualifiedContract, interval: str, after: int, begin: Begin | None = None
    ) -> AsyncIterator[Bar]:
        """Every closed bar with close_time > `after`, in order, none twice; ends with the session.

        `begin` is awaited once before the first of them, as soon as there is a price of a bar later
        than `after`: the market trades.

        A bar is closed when the first price of the next bar is seen, the last one when the session
        is over. Fills that happened on their own in a bar (stop, take-profit) are in `fills` before
        that bar is yielded. To ask for the next bar is the heartbeat of this bar.
        """

    async def account(self, pinned: QualifiedContract) -> BrokerAccount:
        """Position, equity and cash as the broker has reported them: a replay marks at the close of
        every bar.

        BrokerError if the position is not what the executions of this session add up to.
        """

    async def admit(self, pinned: QualifiedContract, goal: TargetSpec, ref: str) -> None:
        """GuardError when a position of another contract may not be moved here. What only concerns
        new risk (the hours around the break, the time between two orders) does not forbid it.
        """

    async def trade_to(
        self, pinned: QualifiedContract, goal: TargetSpec, ref: str, admitted: bool = False
    ) -> tuple[Fill, ...]:
        """Make the position equal to `goal`; returns the fills of the orders that this took (often
        none).

        The difference counts executions, not order states. The stop and take-profit are good till
        cancelled and cancel each other. An order that closes joins them, so that a position is
        never without; a reversal closes, then opens with new ones. What is added or reduced changes
        those that work. Their levels follow the engine: distances from the average entry when risk
        is opened or added, the old levels otherwise. An unchanged position keeps its levels, but
        for a trailing stop, which follows the closes of `bars`; orders that are gone are placed
        again. A position whose protection is refused is closed, then
        BrokerError. GuardError: nothing was opened or added; the half of a reversal that closes was
        sent. `ref` is unique per decision and is refused the second time. `admitted`: the guards
        were asked before, and the order is one for the market whatever the configured kind is.
        """

    async def close_out(self, pinned: QualifiedContract, ref: str) -> int:
        """End with nothing held and no order of this client; returns how many orders were
        cancelled. No guard is asked.

        Uncertain: it is not known whether that is so; to be asked again on a new connection.
        """

    def retire(self, why: str) -> None:
        """Take this object's permit away: from now on nothing leaves it, whatever of it still
        runs.
        """

    async def open_orders(self) -> tuple[WorkingOrder, ...]:
        """All working orders of this account, those of other clients included."""

    async def snapshot(self) -> BrokerSnapshot:
        """Everything that can be compared with a journal."""

    def resume(self, book: HoldingBook, refs: set[str]) -> None:
        """From here on the positions are those of this book, with their levels, and these
        references of decisions are ours.
        """

    def protected(self, pinned: QualifiedContract) -> bool:
        """The protective orders that the holding needs work, with its quantity and levels, and no
        others.
        """

    def protection_fault(self, pinned: QualifiedContract) -> str:
        """The sentence about a position without its stop, or about a protective order that works
        though nothing is held; empty where neither is so, or an entry works.
        """

    async def protect(self, pinned: QualifiedContract, ref: str) -> None:
        """Make them so. A position that cannot be protected is closed, then Uncertain."""

    async def cancel(self, orders: Sequence[WorkingOrder]) -> None:
        """Cancel these and wait until they are gone; what filled meanwhile is in `fills`."""

    def check(self) -> None:
        """BrokerError with the reason when no order may leave."""

    def verify(self) -> None:
        """Raises what the handling of a message of the broker has failed with: Uncertain with its
        text, or a Halt.
        """

    def working(self) -> tuple[WorkingOrder, ...]:
        """The working orders as last heard of, without asking."""

    def equity_usd(self) -> float:
        """Net liquidation as last heard of; NaN before the first time."""

    def last_price(self, pinned: QualifiedContract) -> float:
        """The newest price of the stream of bars; NaN without one."""

    def now(self) -> int:
        """The broker's clock, ns, without asking."""

    async def heartbeat(self) -> int:
        """The broker's clock. Proves that the other side answers.

        While a replay streams bars the clock is that of the last bar: only asking for the next bar
        moves the market.
        """

    def fills(self, since: int = 0) -> tuple[Fill, ...]:
        """All executions of this session in order of arrival, from index `since` on;
        append-only.
        """
