"""The journal of one session: append-only, on disk before anything is sent.

One SQLite file per session, write-ahead logging: an entry that `append` has returned from survives
the death of the process. Where the outside world is concerned (all but `LOOSE`) it is forced to the
disk and survives the death of the machine too, together with all that was written before it.
Triggers refuse every change of what is written. An `order` entry is written before its order is
sent, under a reference that is unique. A `fill` is unique by its execution id. After a crash the
file is readable up to its last entry.

The bodies are the records of `mcl.live.journal_records`.

Kinds: `begin` (version, contract, account, what was carried over), `bar` (what was decided on),
`decision` (with the ledger after it), `armed` (the reference that the next order will have),
`order` (intent, before the send), `sent` (how fast it left), `protect` (an order that no decision
asked for: protection placed again, a position closed), `answered` (the broker has answered all that
was sent under a reference), `margin` (what the broker's what-if said of an order, sent or not),
`refused` (a guard let nothing be opened under it), `reject` (the broker refused an order), `fill`,
`correct` (the exchange changed the price of one), `roll`, `adopt` (what an operator took over),
`command` (before it acts), `flat` (what came of a command to close), `state` (the state of the
session, with the reason), `alert`.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from mcl.base.errors import LiveError
from mcl.base.files import private_file
from mcl.base.undefined import is_undefined

Kind = Literal[
    "begin", "bar", "decision", "armed", "order", "protect", "sent", "answered", "margin",
    "refused", "reject", "fill", "correct", "roll", "adopt", "command", "flat", "state", "alert",
]  # fmt: skip
# Need not wait for the disk: a decision without an order has sent nothing.
LOOSE = frozenset({"bar", "decision", "sent", "answered", "margin", "alert"})
AT_ONCE = frozenset({"order", "protect"})  # something is sent right behind them
# after so many the log of writing ahead is merged into the file, which waits for the disk
MERGE_ENTRIES = 500
SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ns INTEGER NOT NULL,   -- local clock, UTC
    kind TEXT NOT NULL,
    key TEXT,                 -- what must not happen twice: bar time, order reference, execution id
    body TEXT NOT NULL,       -- JSON; NaN as null
    UNIQUE (kind, key)
);
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON entry
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON entry
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""


@dataclass(frozen=True)
class Entry:
    seq: int
    at_ns: int
    kind: str
    key: str | None
    body: dict[str, Any]


@dataclass(frozen=True)
class Draft:
    """An entry before it is written."""

    kind: Kind
    body: dict[str, Any]
    key: str | None = None


class Journal:
    """The writer. One per session file; a second one on the same file waits for its turn or is
    refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(private_file(path), isolation_level=None)
            with ExitStack() as on_error:
                on_error.callback(self._connection.close)
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA wal_autocheckpoint=0")
                self._sync("FULL")
                self._connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
                on_error.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise LiveError(
                f"cannot open the journal {path}: {error}",
                "nothing was sent; free space or fix the permissions",
            ) from None
        self._armed = ""
        self._unmerged = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def arm(self, draft: Draft) -> None:
        """Put the reference of the next order on the disk ahead of time, so that the order itself
        need not wait for the disk.

        After a power failure the order is then known by its reference: what it was for, the
        broker's executions say.
        """
        self.append(draft)
        self._armed = draft.key or ""

    def append(self, *drafts: Draft) -> None:
        """Write the entries as one transaction and return when they are safe. LiveError: none of
        them was written.
        """
        rows = [(time.time_ns(), d.kind, d.key, _text(d.body)) for d in drafts]
        waits = any(map(self._waits_for_disk, drafts))
        try:
            self._sync("FULL" if waits else "NORMAL")
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT INTO entry (at_ns, kind, key, body) VALUES (?, ?, ?, ?)", rows
            )
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            kinds = ", ".join(f"{d.kind} {d.key or ''}".strip() for d in drafts)
            raise LiveError(
                f"the journal {self.path} refused {kinds}: {error}", "no order was sent for it"
            ) from None
        self._unmerged += len(rows)
        if (
            waits
            and self._unmerged >= MERGE_ENTRIES
            and not any(draft.kind in AT_ONCE for draft in drafts)
        ):
            self._merge()

    def _merge(self) -> None:
        """By itself SQLite would do this in the commit of whatever entry comes, an order's too."""
        with suppress(sqlite3.OperationalError):  # somebody reads: the next time
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._unmerged = 0

    def close(self) -> None:
        self._connection.close()

    def _waits_for_disk(self, draft: Draft) -> bool:
        return draft.kind not in LOOSE and not (draft.kind == "order" and draft.key == self._armed)

    def _sync(self, level: Literal["NORMAL", "FULL"]) -> None:
        """FULL: a commit waits for the disk. NORMAL: it waits for the operating system alone."""
        self._connection.execute(f"PRAGMA synchronous={level}")


def read(path: Path, kinds: Sequence[Kind] = ()) -> list[Entry]:
    """The entries of a journal in the order of writing, all or of some kinds. Works while another
    process writes, and after a crash.
    """
    if not path.is_file():
        raise LiveError(f"there is no journal {path}", "mcl live NAME writes one")
    where = f"WHERE kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
    connection = sqlite3.connect(path)
    try:
        query = f"SELECT seq, at_ns, kind, key, body FROM entry {where} ORDER BY seq"  # noqa: S608 (only placeholders are filled in)
        return [
            Entry(seq, at, kind, key, json.loads(body))
            for seq, at, kind, key, body in connection.execute(query, tuple(kinds))
        ]
    except sqlite3.Error as error:
        raise LiveError(f"{path} is not a readable journal: {error}") from None
    finally:
        connection.close()


def snapshot(path: Path) -> bytes:
    """The whole journal as one file, with what is still in its write-ahead log: a killed session
    has not merged them.
    """
    connection = sqlite3.connect(path)
    try:
        return connection.serialize()
    except sqlite3.Error as error:
        raise LiveError(f"{path} is not a readable journal: {error}") from None
    finally:
        connection.close()


def _text(body: dict[str, Any]) -> str:
    return json.dumps(_plain(body), allow_nan=False)


def _plain(value: Any) -> Any:
    """Encode as JSON, which has no NaN: null is written for it."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return None if is_undefined(value) else value
