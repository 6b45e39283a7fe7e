"""The menu of faults. Each entry names the situations it makes (codes of the fault list in the
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
from mcl.simulators.tws.faults import LIVE_DATA, Passing
from mcl.simulators.tws.orders import Refusal, Status

Act = Callable[..., None]
_SHOWN: dict[str, Status | None] = {
    "": None,
    "Inactive": "Inactive",
    "PreSubmitted": "PreSubmitted",
}
CUTS = ("fin", "rst", "half_open", "mid_frame")
DAMAGES = ("unknown_id", "surplus", "missing", "empty", "bytes", "megabyte")


@dataclass(frozen=True)
class Entry:
    codes: str
    summary: str
    needs: tuple[str, ...]  # directions of the messages that it needs; empty: none
    act: Act

    def bind(self, options: dict[str, Any]) -> Callable[[Passing], None]:
        """The action with its options, which are checked now and not when it strikes."""
        known = [p for p in inspect.signature(self.act).parameters if p != "passing"]
        for name in options:
            if name not in known:
                raise BrokerError(
                    f"a fault of this kind has no option {name!r}:"
                    f" {nearest(name, known) if known else 'it has none'}"
                )
        try:
            inspect.signature(self.act).bind(None, **options)
        except TypeError as error:
            raise BrokerError(f"this fault is told too little: {error}") from None
        return lambda passing: self.act(passing, **options)


MENU: dict[str, Entry] = {}


def _entry(codes: str, *needs: str) -> Callable[[Act], Act]:
    def register(act: Act) -> Act:
        MENU[act.__name__.strip("_")] = Entry(codes, (act.__doc__ or "").strip(), needs, act)
        return act

    return register


def _choice(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise BrokerError(f"{name}={value!r}: {nearest(value, valid)}")


# ---------------------------------------------------------------------------- messages and requests


@_entry("F6 F18 F19 F22", "send", "receive")
def drop(passing: Passing) -> None:
    """The message is never sent, the request never seen."""
    passing.dropped = True


@_entry("F2 F18 F23", "send", "receive")
def delay(passing: Passing, sec: float = 1.0) -> None:
    """Late by so many seconds of real time."""
    passing.delay_sec = sec


@_entry("F19", "receive")
def slow(passing: Passing, least: float = 0.2, most: float = 1.0) -> None:
    """Served after a time between both, in seconds of real time, and in the order of arrival."""
    passing.due = passing.tws.faults.queued(least, most)


@_entry("F18 F22 F23 F24", "send")
def repeat(passing: Passing, copies: int = 2) -> None:
    """The same message several times."""
    passing.copies = copies


@_entry("F22 F24 F25 F28", "send", "receive")
def change(passing: Passing, values: dict[str, Any]) -> None:
    """Other values in some of its fields."""
    passing.values.update(values)


@_entry("F22 F25", "send")
def shift(passing: Passing, of: str, by: float = 0.0, factor: float = 1.0) -> None:
    """The number in the field `of` becomes number × factor + by: a wrong clock, a spike."""
    old = passing.values[of]
    moved = float(old) * factor + by
    passing.values[of] = f"{moved:.10g}" if isinstance(old, str) else type(old)(moved)


@_entry("F18 F22", "send")
def hold(passing: Passing, until: str) -> None:
    """Sent only after the next message named `until`: out of order."""
    passing.hold_for = until


@_entry("F26", "send")
def damage(passing: Passing, how: str = "surplus", index: int = -1) -> None:
    """Breaks the protocol: a field too many or too few, an empty one, an unknown message, bytes
    that are no text, a megabyte.
    """
    _choice("how", how, DAMAGES)
    if how == "bytes":
        passing.raw = framing.pack(b"4\0002\0-1\0002100\0\xff\xfe\0\0")
    else:
        passing.edits.append(lambda fields: _damaged(fields, how, index))


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
def cut(passing: Passing, how: str = "fin", when: str = "before") -> None:
    """The connection ends before or after this message: fin, rst, half_open (silence without an
    end), mid_frame.
    """
    _choice("how", how, CUTS)
    _choice("when", when, ("before", "after"))
    passing.cut = (when, how)


# ----------------------------------------------------------------------------------------- requests


def _subject(passing: Passing, own: int | None) -> int:
    named = [
        passing.values[name]
        for name in ("order_id", "req_id")
        if passing.values.get(name) is not None
    ]
    return own if own is not None else int(named[0]) if named else -1


@_entry("F7 F14 F17 F22 F23 F24", "receive")
def answer(passing: Passing, code: int, text: str = "", on_id: int | None = None) -> None:
    """An error instead of what was asked for; on the id of the request unless `on_id` says
    otherwise (-1: of no request).
    """
    passing.dropped = True
    if passing.session is not None:
        passing.session.error(_subject(passing, on_id), code, text)


@_entry("F15 F16", "receive")
def say(passing: Passing, code: int, text: str = "", on_id: int | None = None) -> None:
    """An error or warning besides what was asked for: the order lives on."""
    session, subject = passing.session, _subject(passing, on_id)
    if session is not None:
        passing.after.append(lambda: session.error(subject, code, text))


@_entry("F14", "receive")
def reject(
    passing: Passing,
    first: str = "",
    text: str = "Order rejected - reason:Rejected by system",
    code: int = 201,
) -> None:
    """The order is refused: at once, or first shown as `Inactive` or `PreSubmitted`. A parent takes
    its children along; an order that is changed works on as it was.
    """
    if first:
        _choice("first", first, ("Inactive", "PreSubmitted"))
    session, refusal = passing.session, Refusal(code, text, _SHOWN[first])
    if session is not None:
        passing.handle = lambda: passing.tws.book.place(passing.values, session.client_id, refusal)


@_entry("F17 F18", "receive")
def race(
    passing: Passing, quantity: int = 0, price: float | None = None, when: str = "before"
) -> None:
    """The order of this cancel (or change) fills just before it, or after it was confirmed; all of
    it, or `quantity`. Of a new order it is one of its group that does.
    """
    _choice("when", when, ("before", "after"))
    book, key = (
        passing.tws.book,
        (getattr(passing.session, "client_id", 0), passing.values["order_id"]),
    )
    group = passing.values.get("oca_group")

    def fill() -> None:
        mates = (other for other in book.working() if group and other.oca_group == group)
        order = book.orders.get(key) or next(mates, None)
        if order is not None and order.remaining:
            at = (
                price
                if price is not None
                else book.floor.price(order.listed) or order.limit or order.trigger
            )
            book.fill(order, min(quantity or order.remaining, order.remaining), at)

    if when == "before":
        fill()
    else:
        passing.after.append(fill)


# --------------------------------------------------------------------------------------- the server


@_entry("F1 F13")
def refuse(passing: Passing, sec: float = 1.0, drop_all: bool = False) -> None:
    """Nothing listens on the port for so long; with `drop_all` the connections that exist end
    too.
    """
    passing.tws.incidents.refuse(sec, drop_all)


@_entry("F2")
def mute(passing: Passing, sec: float = 0.0) -> None:
    """The handshake is not answered, or only after `sec`."""
    passing.tws.greeting.delay_sec = sec or -1.0


@_entry("F3")
def version(passing: Passing, number: int = 150) -> None:
    """Announces this version, whatever the client can speak."""
    passing.tws.greeting.version = number


@_entry("F4 F13")
def accounts(passing: Passing, names: str = "") -> None:
    """Other managed accounts: none (not logged in), `U1234567` (live), `DU1,DU2`."""
    passing.tws.greeting.accounts = names


@_entry("F5")
def taken(passing: Passing, times: int = 1) -> None:
    """The client id is in use, for the next so many connections."""
    passing.tws.greeting.taken = times


@_entry("F8 F10")
def disconnect(passing: Passing, how: str = "fin") -> None:
    """All connections end: fin, rst or half_open."""
    _choice("how", how, CUTS)
    for session in list(passing.tws.sessions):
        session.cut(how, passing)


@_entry("F8")
def chop(passing: Passing, size: int = 1) -> None:
    """From now on every write has so many bytes."""
    passing.tws.greeting.chunk = size
    for session in passing.tws.sessions:
        session.chunk = size


@_entry("F10")
def connectivity(passing: Passing, back: int = 1102, sec: float = 1.0) -> None:
    """1100; orders and news wait, data stop. After `sec` 1102 (streams of bars stay dead), 1101
    (all data do), or 0: FIN.
    """
    if back not in {0, 1101, 1102}:
        raise BrokerError(f"back={back} is none of 1102, 1101, 0")
    passing.tws.incidents.lose_broker(back, sec)


@_entry("F11")
def farm(passing: Passing, code: int = 2103, of: str = "") -> None:
    """A farm breaks (2103 data, 2105 history, 2157 definitions), heals (2104, 2106, 2158) or says
    something (2107, 2108, 2110, 2119).

    `of`: the farm of another market (cashfarm, eufarm, …), which NYMEX does not need.
    """
    passing.tws.incidents.farm(code, of)


@_entry("F12 F13")
def restart(passing: Passing, sec: float = 1.0, ids: str = "keep", forget: bool = False) -> None:
    """The daily reset: all connections end, nothing listens for so long, order ids go on (`keep`),
    fall (`lower`) or jump (`higher`); with `forget` the executions are not told any more.
    """
    _choice("ids", ids, ("keep", "lower", "higher"))
    passing.tws.incidents.restart(sec, ids, forget)


@_entry("F18")
def correct(passing: Passing, price: float, index: int = -1) -> None:
    """The exchange corrects an execution to another price."""
    passing.tws.incidents.correct(index, price)


@_entry("F18")
def bust(passing: Passing, index: int = -1) -> None:
    """The exchange cancels an execution."""
    passing.tws.incidents.correct(index, None)


@_entry("F20")
def foreign(
    passing: Passing,
    action: str = "BUY",
    quantity: int = 1,
    client_id: int = 0,
    kind: str = "MKT",
    price: float | None = None,
) -> None:
    """Somebody else trades in the account: by hand in TWS (client 0), or another program."""
    passing.tws.incidents.foreign(action, quantity, client_id, kind, price)


@_entry("F20")
def transfer(passing: Passing, quantity: int = 1, price: float | None = None) -> None:
    """A position comes into the account without an execution."""
    passing.tws.incidents.transfer(quantity, price)


@_entry("F21")
def no_oca(passing: Passing) -> None:
    """Groups and brackets do not cancel each other any more: both sides can fill."""
    passing.tws.book.oca_off = True


@_entry("F22")
def delayed(passing: Passing) -> None:
    """No permission for live data: delayed prices with warning 10167 where the client accepts them,
    else 354.
    """
    passing.tws.permitted = False


@_entry("F22")
def freeze(passing: Passing, names: str = "") -> None:
    """Live data stop (or those named, separated by commas) without a word; `names=none` lets them
    flow again.
    """
    chosen = frozenset(names.split(",")) if names else LIVE_DATA
    passing.tws.faults.stopped = frozenset() if names == "none" else chosen


@_entry("F22")
def halt(passing: Passing, trading: bool = False) -> None:
    """The exchange halts trading, or (`trading`) resumes it."""
    passing.tws.incidents.halt(not trading)


@_entry("F27")
def throttle(passing: Passing, per_sec: int = 50) -> None:
    """Error 100 above so many messages a second, and the end of the connection at the third
    time.
    """
    passing.tws.greeting.limit = per_sec


@_entry("F27")
def deaf(passing: Passing, sec: float = 1.0) -> None:
    """The server stops reading for so long."""
    for session in passing.tws.sessions:
        session.deafen(sec)


@_entry("F28")
def funds(passing: Passing, cash_usd: float = 0.0) -> None:
    """The cash of the account is something else."""
    passing.tws.account.cash = cash_usd
    passing.tws.publisher.account_changed()
