"""The catalog of faults. Each entry names the situations it makes (codes of the fault list in the
documentation of the simulator).

Three sorts: a fault of a message on its way out, a fault of a request on its way in, and one of the
server as a whole, which strikes at once, at a time, or when a message passes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcl.base.errors import BrokerError, nearest
from mcl.simulators.tws import framing
from mcl.simulators.tws.message_in_flight import LIVE_DATA, MessageInFlight
from mcl.simulators.tws.orders import Refusal, Status

Act = Callable[..., None]
_FIRST_STATUS: dict[str, Status | None] = {
    "": None,
    "Inactive": "Inactive",
    "PreSubmitted": "PreSubmitted",
}
CUTS = ("fin", "rst", "half_open", "mid_frame")
DAMAGES = ("unknown_id", "surplus", "missing", "empty", "bytes", "megabyte")


@dataclass(frozen=True)
class CatalogEntry:
    codes: str
    summary: str
    needs: tuple[str, ...]  # directions of the messages that it needs; empty: none
    act: Act

    def bind(self, options: dict[str, Any]) -> Callable[[MessageInFlight], None]:
        """The action with its options, which are checked now and not when it strikes."""
        names = [p for p in inspect.signature(self.act).parameters if p != "message"]
        for name in options:
            if name not in names:
                raise BrokerError(
                    f"a fault of this kind has no option {name!r}:"
                    f" {nearest(name, names) if names else 'it has none'}"
                )
        try:
            inspect.signature(self.act).bind(None, **options)
        except TypeError as error:
            raise BrokerError(f"this fault needs more keys: {error}") from None
        return lambda message: self.act(message, **options)


CATALOG: dict[str, CatalogEntry] = {}


def _entry(codes: str, *needs: str, name: str = "") -> Callable[[Act], Act]:
    """Put a function in the catalog under its own name, or under `name`."""

    def register(act: Act) -> Act:
        summary = (act.__doc__ or "").strip()
        CATALOG[name or act.__name__.strip("_")] = CatalogEntry(codes, summary, needs, act)
        return act

    return register


def _choice(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise BrokerError(f"{name}={value!r}: {nearest(value, valid)}")


# ---------------------------------------------------------------------------- messages and requests


@_entry("F6 F18 F19 F22", "send", "receive")
def drop(message: MessageInFlight) -> None:
    """The message is never sent, the request never seen."""
    message.dropped = True


@_entry("F2 F18 F23", "send", "receive")
def delay(message: MessageInFlight, sec: float = 1.0) -> None:
    """Late by so many seconds of real time."""
    message.delay_sec = sec


@_entry("F19", "receive")
def slow(message: MessageInFlight, least: float = 0.2, most: float = 1.0) -> None:
    """Served after a time between both, in seconds of real time, and in the order of arrival."""
    message.due = message.tws.faults.queued(least, most)


@_entry("F18 F22 F23 F24", "send")
def repeat(message: MessageInFlight, copies: int = 2) -> None:
    """The same message several times."""
    message.copies = copies


@_entry("F22 F24 F25 F28", "send", "receive")
def change(message: MessageInFlight, values: dict[str, Any]) -> None:
    """Other values in some of its fields."""
    message.values.update(values)


@_entry("F22 F25", "send")
def shift(message: MessageInFlight, of: str, by: float = 0.0, factor: float = 1.0) -> None:
    """The number in the field `of` becomes number × factor + by: a wrong clock, a spike."""
    old = message.values[of]
    moved = float(old) * factor + by
    message.values[of] = f"{moved:.10g}" if isinstance(old, str) else type(old)(moved)


@_entry("F18 F22", "send")
def hold(message: MessageInFlight, until: str) -> None:
    """Sent only after the next message named `until`: out of order."""
    message.hold_for = until


@_entry("F26", "send")
def damage(message: MessageInFlight, how: str = "surplus", index: int = -1) -> None:
    """Breaks the protocol: a field too many or too few, an empty one, an unknown message, bytes
    that are no text, a megabyte.
    """
    _choice("how", how, DAMAGES)
    if how == "bytes":
        message.raw = framing.pack(b"4\0002\0-1\0002100\0\xff\xfe\0\0")
    else:
        message.edits.append(lambda fields: _damaged(fields, how, index))


def _damaged(fields: list[str], how: str, index: int) -> list[str]:
    match how:
        case "unknown_id":
            return ["9999", *fields[1:]]
        case "surplus":
            return [*fields, "surplus"]
        case "missing":
            return fields[:index] + fields[len(fields) + index + 1 if index < 0 else index + 1 :]
        case "empty":
            return [*fields[:index], "", *(fields[index + 1 :] if index != -1 else [])]
        case _:
            return [*fields, "x" * 1_000_000]


@_entry("F8 F9", "send", "receive")
def cut(message: MessageInFlight, how: str = "fin", when: str = "before") -> None:
    """The connection ends before or after this message: fin, rst, half_open (silence without an
    end), mid_frame.
    """
    _choice("how", how, CUTS)
    _choice("when", when, ("before", "after"))
    message.cut = (when, how)


# ----------------------------------------------------------------------------------------- requests


def _subject(message: MessageInFlight, own: int | None) -> int:
    named = [
        message.values[name]
        for name in ("order_id", "req_id")
        if message.values.get(name) is not None
    ]
    return own if own is not None else int(named[0]) if named else -1


@_entry("F7 F14 F17 F22 F23 F24", "receive")
def answer(message: MessageInFlight, code: int, text: str = "", on_id: int | None = None) -> None:
    """An error instead of what was asked for; on the id of the request unless `on_id` says
    otherwise (-1: of no request).
    """
    message.dropped = True
    if message.session is not None:
        message.session.error(_subject(message, on_id), code, text)


@_entry("F15 F16", "receive")
def say(message: MessageInFlight, code: int, text: str = "", on_id: int | None = None) -> None:
    """An error or warning besides what was asked for: the order lives on."""
    session, subject = message.session, _subject(message, on_id)
    if session is not None:
        message.after.append(lambda: session.error(subject, code, text))


@_entry("F14", "receive")
def reject(
    message: MessageInFlight,
    first: str = "",
    text: str = "Order rejected - reason:Rejected by system",
    code: int = 201,
) -> None:
    """The order is refused: at once, or first shown as `Inactive` or `PreSubmitted`. A parent takes
    its children along; an order that is changed works on as it was.
    """
    if first:
        _choice("first", first, ("Inactive", "PreSubmitted"))
    session, refusal = message.session, Refusal(code, text, _FIRST_STATUS[first])
    if session is not None:
        message.handle = lambda: message.tws.book.place(message.values, session.client_id, refusal)


@_entry("F17 F18", "receive")
def race(
    message: MessageInFlight, quantity: int = 0, price: float | None = None, when: str = "before"
) -> None:
    """The order of this cancel (or change) fills just before it, or after it was confirmed; all of
    it, or `quantity`. Of a new order it is one of its group that does.
    """
    _choice("when", when, ("before", "after"))
    book, key = (
        message.tws.book,
        (getattr(message.session, "client_id", 0), message.values["order_id"]),
    )
    group = message.values.get("oca_group")

    def fill() -> None:
        mates = (other for other in book.working() if group and other.oca_group == group)
        order = book.orders.get(key) or next(mates, None)
        if order is not None and order.remaining:
            at = (
                price
                if price is not None
                else book.exchange.price(order.listed) or order.limit or order.trigger
            )
            book.fill(order, min(quantity or order.remaining, order.remaining), at)

    if when == "before":
        fill()
    else:
        message.after.append(fill)


# --------------------------------------------------------------------------------------- the server


@_entry("F1 F13")
def refuse(message: MessageInFlight, sec: float = 1.0, drop_all: bool = False) -> None:
    """Nothing listens on the port for so long; with `drop_all` the connections that exist end
    too.
    """
    message.tws.outages.refuse(sec, drop_all)


@_entry("F2")
def mute(message: MessageInFlight, sec: float = 0.0) -> None:
    """The handshake is not answered, or only after `sec`."""
    message.tws.greeting.delay_sec = sec or -1.0


@_entry("F3")
def version(message: MessageInFlight, number: int = 150) -> None:
    """Announces this version, whatever the client can speak."""
    message.tws.greeting.version = number


@_entry("F4 F13")
def accounts(message: MessageInFlight, names: str = "") -> None:
    """Other managed accounts: none (not logged in), `U1234567` (live), `DU1,DU2`."""
    message.tws.greeting.accounts = names


@_entry("F5", name="taken")
def id_in_use(message: MessageInFlight, times: int = 1) -> None:
    """The client id is in use, for the next so many connections."""
    message.tws.greeting.ids_in_use = times


@_entry("F8 F10")
def disconnect(message: MessageInFlight, how: str = "fin") -> None:
    """All connections end: fin, rst or half_open."""
    _choice("how", how, CUTS)
    for session in list(message.tws.sessions):
        session.cut(how, message)


@_entry("F8")
def chop(message: MessageInFlight, size: int = 1) -> None:
    """From now on every write has so many bytes."""
    message.tws.greeting.chunk = size
    for session in message.tws.sessions:
        session.chunk = size


@_entry("F10")
def connectivity(message: MessageInFlight, back: int = 1102, sec: float = 1.0) -> None:
    """1100; orders and news wait, data stop. After `sec` 1102 (streams of bars stay dead), 1101
    (all data do), or 0: FIN.
    """
    if back not in {0, 1101, 1102}:
        raise BrokerError(f"back={back} is none of 1102, 1101, 0")
    message.tws.outages.lose_broker(back, sec)


@_entry("F11")
def farm(message: MessageInFlight, code: int = 2103, of: str = "") -> None:
    """A farm breaks (2103 data, 2105 history, 2157 definitions), heals (2104, 2106, 2158) or says
    something (2107, 2108, 2110, 2119).

    `of`: the farm of another market (cashfarm, eufarm, …), which NYMEX does not need.
    """
    message.tws.outages.farm(code, of)


@_entry("F12 F13")
def restart(
    message: MessageInFlight, sec: float = 1.0, ids: str = "keep", forget: bool = False
) -> None:
    """The daily reset: all connections end, nothing listens for so long, order ids go on (`keep`),
    fall (`lower`) or jump (`higher`); with `forget` the executions are not told any more.
    """
    _choice("ids", ids, ("keep", "lower", "higher"))
    message.tws.outages.restart(sec, ids, forget)


@_entry("F18")
def correct(message: MessageInFlight, price: float, index: int = -1) -> None:
    """The exchange corrects an execution to another price."""
    message.tws.outages.correct(index, price)


@_entry("F18")
def bust(message: MessageInFlight, index: int = -1) -> None:
    """The exchange cancels an execution."""
    message.tws.outages.correct(index, None)


@_entry("F20")
def foreign(
    message: MessageInFlight,
    action: str = "BUY",
    quantity: int = 1,
    client_id: int = 0,
    kind: str = "MKT",
    price: float | None = None,
) -> None:
    """Somebody else trades in the account: by hand in TWS (client 0), or another program."""
    message.tws.outages.foreign(action, quantity, client_id, kind, price)


@_entry("F20")
def transfer(message: MessageInFlight, quantity: int = 1, price: float | None = None) -> None:
    """A position comes into the account without an execution."""
    message.tws.outages.transfer(quantity, price)


@_entry("F21")
def no_oca(message: MessageInFlight) -> None:
    """Groups and brackets do not cancel each other any more: both sides can fill."""
    message.tws.book.oca_off = True


@_entry("F22")
def delayed(message: MessageInFlight) -> None:
    """No permission for live data: delayed prices with warning 10167 where the client accepts them,
    else 354.
    """
    message.tws.permitted = False


@_entry("F22")
def freeze(message: MessageInFlight, names: str = "") -> None:
    """Live data stop (or those named, separated by commas) without a word; `names=none` lets them
    flow again.
    """
    chosen = frozenset(names.split(",")) if names else LIVE_DATA
    message.tws.faults.stopped = frozenset() if names == "none" else chosen


@_entry("F22")
def halt(message: MessageInFlight, trading: bool = False) -> None:
    """The exchange halts trading, or (`trading`) resumes it."""
    message.tws.outages.halt(not trading)


@_entry("F27")
def throttle(message: MessageInFlight, per_sec: int = 50) -> None:
    """Error 100 above so many messages a second, and the end of the connection at the third
    time.
    """
    message.tws.greeting.limit = per_sec


@_entry("F27")
def deaf(message: MessageInFlight, sec: float = 1.0) -> None:
    """The server stops reading for so long."""
    for session in message.tws.sessions:
        session.deafen(sec)


@_entry("F28")
def funds(message: MessageInFlight, cash_usd: float = 0.0) -> None:
    """The cash of the account is something else."""
    message.tws.account.cash = cash_usd
    message.tws.publisher.account_changed()
