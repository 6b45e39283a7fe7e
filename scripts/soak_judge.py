"""Both books of a soak session, held against each other after its end.

* the position of the journal is the position of the broker, execution by execution;
* no order was sent twice for one decision, and none executed more than it was written down for;
* no position that has a stop was without one at the broker for longer than 2 s, or 6 s when faults
  and kills kept it from the broker (what came into the account without an order is counted apart:
  nothing is sent for it before a person has taken it over);
* nothing reached the broker while the session was HALTED;
* every decision is the one that the rules make of the recorded bars and of the account as it was,
  and every wish is the backtest's.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from soak_world import World

from mcl.broker.order_references import decision_of, execution_root, traded_for
from mcl.live.audit import compare as auditing
from mcl.live.audit.decision_replay import replay_decisions
from mcl.live.journal import Entry, read
from mcl.live.runner import SessionConfig
from mcl.live.session_state import book_of

UNPROTECTED_SEC = (2.0, 6.0)  # of a session that nothing disturbs, and of the others
# A trade that the exchange takes back, and a server of a version that no client here speaks: the
# session is HALTED, and what it holds is a person's affair until that person has acted.
A_PERSON_FIRST = frozenset({"bust", "version"})
ARRIVAL_NS = 50_000_000  # between sending and arriving, on a busy machine


def judge(w: World, folder: Path) -> dict[str, Any]:
    """Figures of one session, and under `wrong` what must not be."""
    path, session_config = folder / "session.sqlite", w.session_config(folder)
    entries, broker = read(path), _broker_books(folder / "tws.sqlite")
    book = book_of(path, *session_config.terms, None)
    halted = _while_halted(entries, folder)
    twice = [f"{ref} was sent {count} times" for ref, count in _sent(broker).items() if count > 1]
    decided, wrong = _decisions(w, session_config, entries)
    naked, foreign = _unprotected(folder)
    if {name for _, name, _ in w.faults} & A_PERSON_FIRST:
        naked, foreign = 0.0, max(naked, foreign)
    if naked > UNPROTECTED_SEC[bool(w.faults or w.kills)]:
        wrong.append(f"unprotected for {naked:.1f} s")
    kinds = Counter(e.kind for e in entries)
    return decided | {
        "orders": len(broker["orders"]),
        "fills": kinds["fill"],
        "halted": sum(e.kind == "state" and e.body["state"] == "halted" for e in entries),
        "sent_while_halted": len(halted),
        "duplicates": len(twice),
        "naked_sec": naked,
        "foreign_sec": foreign,
        "wrong": [
            *_positions(w, book.open_positions, broker, entries),
            *twice,
            *_written_down(entries, broker),
            *halted,
            *wrong,
        ],
    }


def _unprotected(folder: Path) -> tuple[float, float]:
    """The longest time without a stop: of what the session has ordered, and of what came without an
    order.
    """
    rows = [line.split() for line in (folder / "naked.txt").read_text().splitlines()]
    own, foreign = (
        [float(sec) for sec, kind in rows if kind == which] for which in ("own", "foreign")
    )
    return max(own, default=0.0), max(foreign, default=0.0)


def _broker_books(path: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(path)) as db:
        orders = [json.loads(body) for (body,) in db.execute("select body from orders")]
        refs = {
            perm: json.loads(body)["ref"]
            for perm, body in db.execute("select perm_id, body from orders")
        }
        executions = [
            (refs[perm], *json.loads(body))
            for perm, body in db.execute("select perm_id, body from executions")
        ]
        held = {
            con_id: json.loads(body)[0]
            for con_id, body in db.execute("select con_id, body from holdings")
        }
    return {"orders": orders, "executions": executions, "position": sum(held.values())}


# -------------------------------------------------------------------------------- positions, orders


def _positions(
    w: World, held: dict[str, int], broker: dict[str, Any], entries: list[Entry]
) -> list[str]:
    ours, wrong = sum(held.values()), []
    if ours != broker["position"]:
        wrong.append(f"the journal holds {ours}, the broker {broker['position']}")
    if any(e.kind == "adopt" for e in entries) or any(name == "bust" for _, name, _ in w.faults):
        return wrong  # a person took over what no execution tells, or the exchange took one back
    mine = {execution_root(str(e.key)): e.body["quantity"] for e in entries if e.kind == "fill"}
    theirs = {execution_root(row[1]): row[3] for row in broker["executions"]}
    return (
        wrong
        if mine == theirs
        else [*wrong, f"executions differ: {sorted(set(mine.items()) ^ set(theirs.items()))}"]
    )


def _sent(broker: dict[str, Any]) -> Counter[str]:
    """How many orders the broker has under each reference; without one they are somebody else's."""
    return Counter(order["ref"] for order in broker["orders"] if order["ref"])


def _written_down(entries: list[Entry], broker: dict[str, Any]) -> list[str]:
    """Nothing is sent that does not stand in the journal, and a decision executes no more than it
    was written down for.
    """
    meant = {str(e.key): abs(e.body["to"] - e.body["from"]) for e in entries if e.kind == "order"}
    traded: Counter[str] = Counter()
    for ref, _, _, quantity, *_ in broker["executions"]:
        if traded_for(ref) in meant:  # both halves of a reversal, and what a limit did not get
            traded[traded_for(ref)] += abs(quantity)
    wrong = [
        f"{ref} traded {traded[ref]}, meant {meant[ref]}"
        for ref in meant
        if traded[ref] > meant[ref] + _flipped(entries)
    ]
    written = {decision_of(str(e.key)) for e in entries if e.kind in ("order", "protect")}
    return wrong + [
        f"{ref} was sent but not written down"
        for ref in _sent(broker)
        if decision_of(ref) not in written
    ]


def _flipped(entries: list[Entry]) -> int:
    """A stop that filled while a decision was under way makes its order that much larger."""
    stops = [e for e in entries if e.kind == "fill" and e.body["reason"] != "target"]
    return max((abs(e.body["quantity"]) for e in stops), default=0)


def _while_halted(entries: list[Entry], folder: Path) -> list[str]:
    arrivals = [json.loads(line) for line in (folder / "arrivals.jsonl").read_text().splitlines()]
    told = [e for e in entries if e.kind in ("state", "command", "begin")]
    wrong = []
    for entry, following in pairwise(told):
        if entry.kind == "state" and entry.body["state"] == "halted":
            during = [
                a for a in arrivals if a[2] and entry.at_ns + ARRIVAL_NS < a[0] < following.at_ns
            ]
            wrong += [f"{name} {ref} while HALTED" for _, name, ref, _ in during]
    return wrong


# ---------------------------------------------------------------------------------------- decisions


def _decisions(
    w: World, session_config: SessionConfig, entries: list[Entry]
) -> tuple[dict[str, int], list[str]]:
    """`compared` with the rules, of which `right`; `equal`: those that are also the backtest's,
    which nothing ever disturbed.
    """
    recorded, taken = ([e.body for e in entries if e.kind == kind] for kind in ("bar", "decision"))
    if not recorded:
        return {"decisions": 0, "right": 0, "equal": 0}, ["no bar was decided on"]
    bars, plan, result = auditing.replay(
        recorded, session_config.deployed, session_config.strategy, w.stage, {}
    )
    rules = replay_decisions(entries, bars, plan, session_config.limits, session_config.terms[0])
    if len(taken) != len(bars):
        return {"decisions": len(taken), "right": 0, "equal": 0}, [
            f"{len(bars)} bars and {len(taken)} decisions"
        ]
    live = pd.DataFrame(taken, columns=list(auditing.DECISION)).astype("float64")
    right = _same(live, rules) & _agree([d["wanted"] for d in taken], plan.wanted)
    equal = _same(live, auditing.expected(result, plan))
    wrong = [
        f"decision {row} is not the one that the rules make: {taken[row]}"
        for row in np.flatnonzero(~right)[:1]
    ]
    return {"decisions": len(taken), "right": int(right.sum()), "equal": int(equal.sum())}, wrong


def _same(ours: pd.DataFrame, theirs: pd.DataFrame) -> Any:
    return np.all([_agree(ours[name], theirs[name]) for name in auditing.DECISION], axis=0)


def _agree(ours: Any, theirs: Any) -> Any:
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return (a == b) | (np.isnan(a) & np.isnan(b))
