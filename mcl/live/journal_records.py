"""Define the record of every kind of journal entry: written by name, read back as it was.

One class for each shape of an entry. Its fields are the keys of the JSON body; none has a default,
so that whoever adds a field is told by the type checker where it is not filled in. A journal of
version 0.1 stays readable: a field that it may lack is LACKED, is then None (NaN for a float), and
is left out of the JSON where it is None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    Self,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from mcl.base.errors import LiveError
from mcl.base.undefined import finite
from mcl.broker.protocol import Bar, Fill, FillReason
from mcl.engine.account import FLAT, Guard, Holding, LedgerState, initial_guard
from mcl.engine.decision import Bracket, Target
from mcl.engine.legs import NO_LEG, Leg, Legs
from mcl.live.journal import Draft, Entry, Kind

# what version 0.1 may not have written of a record inside a body
EARLIER: dict[type, dict[str, Any]] = {
    Holding: FLAT._asdict(),
    Guard: initial_guard(math.nan)._asdict(),
}


def _with_legs(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A holding of a journal that had one stop and one take-profit, as it is written now."""
    if "legs" in body or "stop_at" not in body:
        return body
    stop, trail = _number(body["stop_at"]), _number(body.get("trail_ticks"))
    fixed = Leg(level=stop, distance=math.nan)
    trailing = Leg(level=stop, distance=trail)
    stops = (fixed, NO_LEG) if math.isnan(trail) else (NO_LEG, trailing)
    profit = Leg(level=_number(body["take_profit_at"]), distance=math.nan)
    return {**body, "legs": _plain(Legs(stops=stops, take_profits=(profit,)))}


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


# what a body of an earlier journal becomes before it is read
RENEWALS: dict[type, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {Holding: _with_legs}


@dataclass(frozen=True)
class Key:
    """The place of a field in the JSON body, where it is not its own name, always there."""

    name: str = ""
    may_lack: bool = False


LACKED = Key(may_lack=True)


class RollState(NamedTuple):
    """A roll on its way: `PendingRoll` in plain values, by the broker's symbols."""

    outgoing: str
    incoming: str
    gap_ticks: float
    refs: tuple[str, ...]
    quantity: dict[str, int]
    worth: dict[str, float]
    last: dict[str, int]


JSON_NAMES: dict[type, dict[str, str]] = {RollState: {"outgoing": "from", "incoming": "to"}}


@dataclass(frozen=True, kw_only=True)
class JournalRecord:
    """The body of an entry."""

    kind: ClassVar[Kind]

    def draft(self, key: str | None = None) -> Draft:
        return Draft(kind=self.kind, body=self.body(), key=key)

    def body(self) -> dict[str, Any]:
        """In plain values, with the keys of the journal."""
        body = {}
        for name, key, _, may_lack in _layout(type(self)):
            value = getattr(self, name)
            if value is not None or not may_lack:
                body[key] = _plain(value)
        return body

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """LiveError: the body is of another shape."""
        values = {}
        for name, key, hint, may_lack in _layout(cls):
            if key not in body and not may_lack:
                raise LiveError(f"an entry {cls.kind!r} of the journal has no {key!r}")
            values[name] = _value(hint, body.get(key))
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class SessionStart(JournalRecord):
    """The version, the contract and the account of a session, and what it took over."""

    kind = "begin"
    broker: str
    account: str
    alias: Annotated[str | None, LACKED]
    version: Annotated[int | None, LACKED]
    run_id: Annotated[str | None, LACKED]
    content_sha256: Annotated[str | None, LACKED]
    session: Annotated[str | None, LACKED]
    contract: Annotated[str | None, LACKED]
    con_id: Annotated[int | None, LACKED]
    simulated: Annotated[bool | None, LACKED]
    max_position: Annotated[int | None, LACKED]
    max_contracts: Annotated[int | None, LACKED]
    guards_sha256: Annotated[str | None, LACKED]
    broker_equity_usd: Annotated[float, LACKED]
    broker_clock_ns: Annotated[int | None, LACKED]
    warmup_rows: Annotated[int | None, LACKED]
    synthetic: Annotated[str | bool | None, LACKED]
    history_bars: Annotated[int | None, Key("history_held", may_lack=True)]
    history_differing: Annotated[int | None, LACKED]
    ledger: Annotated[LedgerState | None, LACKED]
    positions: Annotated[dict[str, int] | None, LACKED]
    refs: Annotated[tuple[str, ...] | None, LACKED]
    executions: Annotated[tuple[str, ...] | None, LACKED]
    adopted: Annotated[tuple[int, ...] | None, LACKED]
    move: Annotated[RollState | None, LACKED]


def start_of_account(broker: str, account: str) -> SessionStart:
    """The begin of a session whose state a person is about to take over."""
    return SessionStart.of({"broker": broker, "account": account})


@dataclass(frozen=True, kw_only=True)
class BarRecord(JournalRecord):
    """A bar that was decided on."""

    kind = "bar"
    close_time: int
    open: float
    high: float
    low: float
    close: float
    volume: int

    @property
    def bar(self) -> Bar:
        return Bar(**{name: getattr(self, name) for name in Bar._fields})


@dataclass(frozen=True, kw_only=True)
class DecisionRecord(JournalRecord):
    """A decision, the account that it was made of, and the ledger after it."""

    kind = "decision"
    bar: int
    position: int
    equity_usd: float
    wanted: float
    signal: float
    scale: float
    target: int
    block: int
    stop_ticks: float
    take_profit_ticks: float
    trail_ticks: Annotated[float, LACKED]
    close_delay_sec: Annotated[float, LACKED]
    locked: bool
    halted: bool
    stopped: int
    mode: str
    held_back: str
    ledger: LedgerState

    @property
    def decision(self) -> Target:
        return Target(
            position=self.target,
            bracket=Bracket(**{name: getattr(self, name) for name in Bracket._fields}),
            block=self.block,
            locked=self.locked,
            halted=self.halted,
            stopped=self.stopped,
        )


@dataclass(frozen=True, kw_only=True)
class ArmedReference(JournalRecord):
    """The reference that the next order will have."""

    kind = "armed"
    bar: int


@dataclass(frozen=True, kw_only=True)
class OrderIntent(JournalRecord):
    """An order of a decision, before it is sent."""

    kind = "order"
    bar: int
    before: Annotated[int, Key("from")]
    after: Annotated[int, Key("to")]
    clock: Annotated[int | None, LACKED]
    stop_ticks: float
    take_profit_ticks: float
    trail_ticks: Annotated[float, LACKED]


# why protection is placed or moved without a decision; any other word closed a position
PROTECT, TRAIL = "protect", "trail"


@dataclass(frozen=True, kw_only=True)
class ProtectiveIntent(JournalRecord):
    """An order that no decision asked for: protection placed again or moved (`position`), or a
    position closed (`before`, `after`, `symbol`).
    """

    kind = "protect"
    bar: int
    why: str
    position: Annotated[int | None, LACKED]
    before: Annotated[int | None, Key("from", may_lack=True)]
    after: Annotated[int | None, Key("to", may_lack=True)]
    symbol: Annotated[str | None, LACKED]


@dataclass(frozen=True, kw_only=True)
class OrderTiming(JournalRecord):
    """The time that an order took to leave."""

    kind = "sent"
    bar: int
    latency_ms: float


@dataclass(frozen=True, kw_only=True)
class ReferenceAnswer(JournalRecord):
    """Nothing that was sent under this reference is on its way any more."""

    kind = "answered"
    bar: int


@dataclass(frozen=True, kw_only=True)
class MarginAnswer(JournalRecord):
    """The answer of the broker's what-if to an order, sent or not."""

    kind = "margin"
    initial_usd: float
    maintenance_usd: float
    equity_usd: float
    answer: Annotated[str, Key("said")]
    ref: str
    quantity: int
    position: Annotated[int, Key("held")]
    refusal: Annotated[str, Key("refused")]


@dataclass(frozen=True, kw_only=True)
class OrderRefusal(JournalRecord):
    """A guard let nothing be opened."""

    kind = "refused"
    bar: int
    why: str


@dataclass(frozen=True, kw_only=True)
class OrderRejection(JournalRecord):
    """The broker refused an order."""

    kind = "reject"
    message: Annotated[str, Key("said")]


@dataclass(frozen=True, kw_only=True)
class _Execution(JournalRecord):
    execution_id: str
    time: int
    symbol: str
    quantity: int
    price: float
    commission_usd: float
    reason: FillReason
    ref: str
    bar: int

    @property
    def fill(self) -> Fill:
        return Fill(**{name: getattr(self, name) for name in Fill._fields})


@dataclass(frozen=True, kw_only=True)
class FillRecord(_Execution):
    """An execution that is part of the account from here on."""

    kind = "fill"


@dataclass(frozen=True, kw_only=True)
class FillCorrection(_Execution):
    """The exchange has changed the price of an execution that is part of the account."""

    kind = "correct"
    was: float


@dataclass(frozen=True, kw_only=True)
class RollStart(JournalRecord):
    """A roll before its first leg leaves, by every attempt anew."""

    kind = "roll"
    bar: int
    position: int
    outgoing: Annotated[str, Key("from")]
    incoming: Annotated[str, Key("to")]
    gap_ticks: float
    refs: tuple[str, ...]
    quantity: dict[str, int]
    worth: dict[str, float]
    last: dict[str, int]

    @property
    def roll(self) -> RollState:
        return RollState(**{name: getattr(self, name) for name in RollState._fields})


@dataclass(frozen=True, kw_only=True)
class RollEnd(JournalRecord):
    """A person has ended a roll half way; the command that did."""

    kind = "roll"
    bar: int
    command: Annotated[str, Key("given_up")]


@dataclass(frozen=True, kw_only=True)
class Adoption(JournalRecord):
    """The state that an operator took over from the broker."""

    kind = "adopt"
    ledger: LedgerState
    positions: dict[str, int]
    executions: tuple[str, ...]
    orders: tuple[int, ...]
    what: str


@dataclass(frozen=True, kw_only=True)
class CommandRecord(JournalRecord):
    """A command, before it acts."""

    kind = "command"
    word: str
    who: str
    why: str


@dataclass(frozen=True, kw_only=True)
class CloseOutcome(JournalRecord):
    """The outcome of a command to close."""

    kind = "flat"
    word: str
    message: Annotated[str, Key("said")]


@dataclass(frozen=True, kw_only=True)
class StateChange(JournalRecord):
    """The state of the session, with the reason; at its end with the number of bars and the
    ledger.
    """

    kind = "state"
    state: str
    why: str
    bars: Annotated[int | None, LACKED]
    ledger: Annotated[LedgerState | None, LACKED]


@dataclass(frozen=True, kw_only=True)
class AlertRecord(JournalRecord):
    """An alert, as it was told to every channel."""

    kind = "alert"
    severity: str
    code: str
    sentence: str


def _shapes(record: type[JournalRecord]) -> list[type[JournalRecord]]:
    """All classes below it that have a kind."""
    below = [shape for child in record.__subclasses__() for shape in _shapes(child)]
    return [record, *below] if "kind" in vars(record) else below


RECORDS: tuple[type[JournalRecord], ...] = tuple(_shapes(JournalRecord))


def ledger_state(body: Mapping[str, Any]) -> LedgerState:
    """The account as a body has it."""
    state: LedgerState = _named_tuple(LedgerState, body)
    return state


def holding_of(body: Mapping[str, Any]) -> Holding:
    """The position and its protection as a body has them, of an earlier version too."""
    holding: Holding = _named_tuple(Holding, body)
    return holding


def record_of(entry: Entry) -> JournalRecord:
    """The record that wrote this entry; of several of its kind the one whose keys the body has.

    LiveError: no version of this package has written it.
    """
    shapes = [record for record in RECORDS if record.kind == entry.kind]
    if not shapes:
        raise LiveError(f"entry {entry.seq} of the journal has the unknown kind {entry.kind!r}")
    shape = next((s for s in shapes if _required(s) <= entry.body.keys()), shapes[0])
    return shape.of(entry.body)


Layout = tuple[tuple[str, str, Any, bool], ...]
_LAYOUTS: dict[str, Layout] = {}


def _layout(record: type[JournalRecord]) -> Layout:
    """Name, JSON name, type, and whether a body may lack it, of each field."""
    if record.__name__ not in _LAYOUTS:
        _LAYOUTS[record.__name__] = _layout_of(record)
    return _LAYOUTS[record.__name__]


def _layout_of(record: type[JournalRecord]) -> Layout:
    hints, layout = get_type_hints(record, include_extras=True), []
    for each in fields(record):
        hint, key = hints[each.name], Key()
        if get_origin(hint) is Annotated:
            hint, key = get_args(hint)
        layout.append((each.name, key.name or each.name, hint, key.may_lack))
    return tuple(layout)


def _required(record: type[JournalRecord]) -> set[str]:
    return {key for _, key, _, may_lack in _layout(record) if not may_lack}


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        names = JSON_NAMES.get(type(value), {})
        return {names.get(n, n): _plain(inner) for n, inner in value._asdict().items()}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, float):
        return finite(value)
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


def _value(hint: Any, value: Any) -> Any:
    """From JSON, which has null for NaN and lists for tuples."""
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return None
        (hint,) = [kind for kind in get_args(hint) if kind is not NoneType][:1]
    if hint is float:
        return math.nan if value is None else float(value)
    if isinstance(hint, type) and hasattr(hint, "_fields"):
        return _named_tuple(hint, value)
    if get_origin(hint) is tuple:
        return _tuple(get_args(hint), value)
    if get_origin(hint) is dict:
        return {str(key): _value(get_args(hint)[1], inner) for key, inner in value.items()}
    return value


def _tuple(kinds: tuple[Any, ...], values: Sequence[Any]) -> tuple[Any, ...]:
    """Of any length where the type says so, else one value of each kind."""
    if kinds[-1] is Ellipsis:
        return tuple(_value(kinds[0], value) for value in values)
    if len(values) != len(kinds):
        raise LiveError(f"the journal has {len(values)} values where {len(kinds)} belong")
    return tuple(map(_value, kinds, values))


def _named_tuple(kind: Any, body: Mapping[str, Any]) -> Any:
    names, earlier = JSON_NAMES.get(kind, {}), EARLIER.get(kind, {})
    if kind in RENEWALS:
        body = RENEWALS[kind](body)
    values = {}
    for name, hint in _hints(kind).items():
        key = names.get(name, name)
        if key in body:
            values[name] = _value(hint, body[key])
        elif name in earlier:
            values[name] = earlier[name]
        else:
            raise LiveError(f"a {kind.__name__} of the journal has no {key!r}")
    return kind(**values)
