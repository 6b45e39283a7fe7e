"""Stores the state of a server: orders, executions, holdings, cash and the market clock, in one
SQLite file.

Everything that a client was told has been committed before, so a server that is killed and started
again tells the same story.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcl.base.errors import BrokerError
from mcl.base.files import private_file
from mcl.simulators.tws.account import SimulatedAccount
from mcl.simulators.tws.contracts import Listings
from mcl.simulators.tws.orders import ExecutionReport, Order

if TYPE_CHECKING:
    from mcl.simulators.tws.order_book import OrderBook

VERSION = 2
_NOT_STORED = {"listed", "children", "parent", "refusal"}
_STORED = tuple(f.name for f in fields(Order) if f.name not in _NOT_STORED)
_SCHEMA = """
create table if not exists orders (
    perm_id integer primary key, con_id integer, parent integer, body text
);
create table if not exists executions (number integer primary key, perm_id integer, body text);
create table if not exists holdings (con_id integer primary key, body text);
create table if not exists facts (name text primary key, value text);
"""


class StateFile:
    """Opened at `path`, made when there is none. BrokerError for a file of another account or of
    another kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saved: tuple[int, float, int] = (0, 0.0, 0)
        try:
            self._db = sqlite3.connect(private_file(path), isolation_level=None)
            with ExitStack() as on_error:
                on_error.callback(self._db.close)
                self._db.executescript(
                    "pragma journal_mode=wal; pragma synchronous=normal;" + _SCHEMA
                )
                on_error.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise BrokerError(
                f"the state {path} cannot be opened: {error}",
                "name another file, or delete this one to start afresh",
            ) from None

    def close(self) -> None:
        self._db.close()

    # ----------------------------------------------------------------------------------------- save

    def save(self, book: OrderBook, clock: bool = False) -> None:
        """Commit what has changed since the last time; nothing to do is cheap. With `clock` a new
        time counts as a change.
        """
        account = book.account
        state = (len(book.executions), account.cash, len(book.touched))
        if not (clock or book.touched) and state == self._saved:
            return
        self._db.execute("begin immediate")
        try:
            self._orders(book.touched.values())
            self._executions(book)
            self._facts(book)
            self._db.execute("commit")
        except sqlite3.Error as error:
            self._db.execute("rollback")
            raise BrokerError(f"the state {self.path} cannot be written: {error}") from None
        book.touched.clear()
        self._saved = (len(book.executions), account.cash, 0)

    def _orders(self, orders: Iterable[Order]) -> None:
        rows = [
            (
                o.perm_id,
                o.listed.con_id,
                o.parent.perm_id if o.parent else None,
                json.dumps({n: getattr(o, n) for n in _STORED}),
            )
            for o in orders
        ]
        self._db.executemany("insert or replace into orders values (?, ?, ?, ?)", rows)

    def _executions(self, book: OrderBook) -> None:
        (count,) = self._db.execute("select count(*) from executions").fetchone()
        new = enumerate(book.executions[count:], count)
        rows = [(number, fill.order.perm_id, json.dumps(fill[1:])) for number, fill in new]
        self._db.executemany("insert into executions values (?, ?, ?)", rows)

    def _facts(self, book: OrderBook) -> None:
        account = book.account
        rows = [
            (h.listed.con_id, json.dumps([h.quantity, h.cost, h.gross_cost, h.realized, h.mark]))
            for h in account.holdings.values()
        ]
        self._db.executemany("insert or replace into holdings values (?, ?)", rows)
        facts = {
            "version": VERSION,
            "account": account.name,
            "cash": account.cash,
            "capital": account.capital_usd,
        }
        facts |= {"clock": book.now, "next_perm_id": book.next_perm_id, "executed": book.executed}
        self._db.executemany(
            "insert or replace into facts values (?, ?)",
            [(k, json.dumps(v)) for k, v in facts.items()],
        )

    def rewrite_executions(self, book: OrderBook) -> None:
        """After a correction the executions on disk are no longer a beginning of those in the
        book.
        """
        self._db.execute("delete from executions")
        self._saved = (-1, 0.0, 0)
        self.save(book)

    # -------------------------------------------------------------------------------------- restore

    def restore(self, book: OrderBook, listings: Listings, account: SimulatedAccount) -> int:
        """Puts back what was saved. Returns the market clock of then, 0 for a new file."""
        facts: dict[str, Any] = {
            name: json.loads(value)
            for name, value in self._db.execute("select name, value from facts")
        }
        if not facts:
            return 0
        if facts["version"] != VERSION or facts["account"] != account.name:
            theirs, ours = (
                f"{facts['account']} (format {facts['version']})",
                f"{account.name} (format {VERSION})",
            )
            raise BrokerError(
                f"the state {self.path} is of account {theirs}, not of {ours}",
                "name another file, or delete this one to start afresh",
            )
        account.cash, account.capital_usd = facts["cash"], facts["capital"]
        orders = self._load_orders(listings)
        by_perm_id = {order.perm_id: order for order in orders}
        rows = self._db.execute("select perm_id, body from executions order by number")
        executions = [
            ExecutionReport(by_perm_id[perm_id], *json.loads(body)) for perm_id, body in rows
        ]
        self._load_holdings(listings, account)
        book.restore(orders, executions, facts["next_perm_id"], facts["executed"])
        return int(facts["clock"])

    def _load_orders(self, listings: Listings) -> list[Order]:
        orders: dict[int, Order] = {}
        for perm_id, con_id, parent, body in self._db.execute(
            "select * from orders order by perm_id"
        ):
            listed = listings.by_id(con_id)
            if listed is None:
                raise BrokerError(
                    f"the state {self.path} has orders of contract {con_id}, which is not listed"
                    " any more"
                )
            orders[perm_id] = order = Order(listed=listed, **json.loads(body))
            if parent is not None:
                order.parent = orders[parent]
                order.parent.children.append(order)
        return list(orders.values())

    def _load_holdings(self, listings: Listings, account: SimulatedAccount) -> None:
        for con_id, body in self._db.execute("select con_id, body from holdings"):
            listed = listings.by_id(con_id)
            if listed is None:
                raise BrokerError(
                    f"the state {self.path} holds contract {con_id}, which is not listed any more"
                )
            holding = account.holding(listed)
            holding.quantity, holding.cost, holding.gross_cost, holding.realized, holding.mark = (
                json.loads(body)
            )
