"""Read from the journals of an alias its last session, orders, fills, and the reason of each
decision. No session has to run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcl.base.errors import LiveError, nearest
from mcl.base.files import plain_yaml
from mcl.base.undefined import is_undefined
from mcl.broker.order_references import traded_for
from mcl.data.synthetic.watermark import SYNTHETIC
from mcl.live.journal import Entry, Kind, read
from mcl.live.ops.control_socket import folder_of
from mcl.live.status import State, levels_of
from mcl.market.instruments import INSTRUMENTS
from mcl.promotion.promoted_file import FIRST_LINE, path_of
from mcl.risk.blocks import LIMIT_OF, Block

LIST_ROWS, POINTS = 20, 300  # rows of a list, points of a curve
# the last words of a session that ended as one
OVER = {"ended": State.STOPPED, "stopped": State.STOPPED, "halted": State.HALTED}


def aliases(root: Path) -> list[str]:
    """Every name that has ever traded here."""
    return sorted({path.parent.name for path in (root / "live").glob("*/*.sqlite")})


def last_journal(root: Path, alias: str) -> Path:
    """The journal that was written to last. LiveError: nothing was ever traded under this name."""
    journals = list(folder_of(root, alias).glob("*.sqlite"))
    if not journals:
        names = aliases(root)
        raise LiveError(
            f"no session of {alias!r} was ever traded here: {nearest(alias, names)}",
            f"mcl live {alias} starts one",
        )
    return max(journals, key=_written)


def _written(path: Path) -> float:
    """With write-ahead logging the newest entries are in a second file."""
    return max(p.stat().st_mtime for p in (path, path.with_name(f"{path.name}-wal")) if p.exists())


def last_status(path: Path) -> dict[str, Any]:
    """The last state of a session that does not run, with the keys of a status as far as they are
    known.
    """
    entries = _by_kind(read(path))
    begin = entries["begin"][-1].body if entries["begin"] else {}
    state, why = _last_word(entries["state"])
    fills, decisions = entries["fill"], entries["decision"]
    last = decisions[-1].body if decisions else {}
    decided = {entry.key for entry in decisions}
    root = path.parents[2]
    return {
        "running": False,
        "journal": str(path),
        "alias": begin.get("alias", path.parent.name),
        "version": begin.get("version"),
        "session": begin.get("session", path.stem[:10]),
        "contract": begin.get("contract"),
        "account": begin.get("account"),
        "synthetic": _watermark(begin.get("synthetic")),
        "state": state,
        "why": why,
        "position": (
            sum(begin.get("positions", {}).values())
            + sum(int(entry.body["quantity"]) for entry in fills)
        ),
        "target": last.get("target"),
        "equity_usd": last.get("equity_usd"),
        "bars": len(decisions),
        "last_bar_close_ns": int(decisions[-1].key or 0) if decisions else None,
        "counters": {"orders": len(entries["order"]), "fills": len(fills)},
        "last_price": entries["bar"][-1].body.get("close") if entries["bar"] else None,
        "session_pnl_usd": _pnl(decisions),
        "decisions": _last_decisions(entries),
        "fills": [entry.body for entry in fills[-LIST_ROWS:]],
        "equity": _thinned(
            [
                (int(e.key or 0), e.body["equity_usd"])
                for e in decisions
                if e.body.get("equity_usd") is not None
            ]
        ),
        "prices": _thinned(
            [
                (int(e.key or 0), float(e.body["close"]))
                for e in entries["bar"]
                if e.key in decided and e.body.get("close") is not None
            ]
        ),
        "levels": _levels(last, str(begin.get("contract") or "")),
        "max_daily_loss_usd": deployed_limits(root, path).get("max_daily_loss_usd"),
        "alerts": [{"at_ns": entry.at_ns, **entry.body} for entry in entries["alert"][-LIST_ROWS:]],
        "at_ns": max((group[-1].at_ns for group in entries.values() if group), default=None),
    }


def _levels(decision: dict[str, Any], contract: str) -> dict[str, float]:
    """Read the entry, the stop and the take-profit of the position from the last decision."""
    instrument = INSTRUMENTS.get(contract[:-2])
    holding = (decision.get("ledger") or {}).get("holding")
    if not (instrument and holding and holding.get("position")):
        return {}
    from mcl.live.journal_records import holding_of  # loads the engine: a flat session needs none

    return levels_of(holding_of(holding), instrument.tick_size)


def _watermark(written: str | bool | None) -> str | None:
    """The sentence that marks results on synthetic data; a journal of an earlier version says only
    whether they are.
    """
    return SYNTHETIC if written is True else written or None


def _pnl(decisions: Sequence[Entry]) -> float | None:
    """Since the start of the session, which the ledger in a decision knows."""
    body = decisions[-1].body if decisions else {}
    start = body.get("ledger", {}).get("guard", {}).get("session_start_usd")
    return (
        None
        if start is None or body.get("equity_usd") is None
        else float(body["equity_usd"] - start)
    )


def _last_decisions(entries: dict[str, list[Entry]]) -> list[dict[str, Any]]:
    """In the keys that a status has."""
    closes = {entry.key: entry.body.get("close") for entry in entries["bar"][-LIST_ROWS:]}
    rows = []
    for entry in entries["decision"][-LIST_ROWS:]:
        body = entry.body
        row = {
            "time": int(entry.key or 0),
            "close": closes.get(entry.key),
            "block": Block(int(body.get("block") or 0)).name,
        }
        rows.append(
            row
            | {name: body.get(name) for name in ("position", "wanted", "target")}
            | {"reason": body.get("held_back") or ""}
        )
    return rows


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most POINTS of them, evenly, the last one always."""
    step = -(-len(points) // POINTS) or 1
    return points[::-1][::step][::-1]


def _last_word(states: Sequence[Entry]) -> tuple[str, str]:
    if not states:
        return "LOST", "the process ended before it said anything"
    word, why = str(states[-1].body["state"]), str(states[-1].body.get("why", ""))
    over = OVER.get(word.lower())
    return (
        (over, why)
        if over
        else (
            "LOST",
            (
                f"the process ended without a word after {word.upper()} ({why}); a new start"
                " recovers it"
            ),
        )
    )


def orders(path: Path) -> list[dict[str, Any]]:
    """One row per order that was journaled, oldest first, with what came of it."""
    entries = _by_kind(read(path, ("order", "fill")))
    filled = _fills_by_ref(entries["fill"])
    return [_order(entry, filled.get(entry.key or "", [])) for entry in entries["order"]]


def _order(entry: Entry, fills: Sequence[dict[str, Any]]) -> dict[str, Any]:
    body = entry.body
    change = (
        None if body.get("to") is None or body.get("from") is None else body["to"] - body["from"]
    )
    done = sum(int(f["quantity"]) for f in fills)
    return {
        "at_ns": entry.at_ns,
        "ref": entry.key,
        "from": body.get("from"),
        "to": body.get("to"),
        "quantity": change,
        "filled": done,
        "price": sum(f["quantity"] * f["price"] for f in fills) / done if done else None,
        "stop_ticks": body.get("stop_ticks"),
        "take_profit_ticks": body.get("take_profit_ticks"),
    }


def deployed_limits(root: Path, path: Path) -> dict[str, Any]:
    """The risk limits that the session of this journal had; empty when another version has been
    promoted since.
    """
    begins = read(path, ("begin",))
    alias = begins[-1].body.get("alias", path.parent.name) if begins else path.parent.name
    file = path_of(alias, root)
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    head = FIRST_LINE.match(text)
    if not (begins and head and int(head["version"]) == begins[-1].body.get("version")):
        return {}
    return dict(plain_yaml(text, file.name).get("risk", {}).get("limits", {}))


def fills(path: Path) -> list[dict[str, Any]]:
    """One row per execution in order of arrival, in the fields of `mcl.broker.protocol.Fill`."""
    return [entry.body for entry in read(path, ("fill",))]


def reasons(path: Path, count: int, limits: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The last `count` decisions with the chain that led to each: signal, scale, wanted, block,
    target, order, fills; and a sentence.

    `limits` are those of the promoted configuration: a block is then shown with the value of its
    limit.
    """
    kinds: tuple[Kind, ...] = ("begin", "bar", "decision", "order", "fill")
    entries = _by_kind(read(path, kinds))
    closes = {entry.key: entry.body.get("close") for entry in entries["bar"]}
    sent = {entry.body.get("bar"): entry for entry in entries["order"]}
    filled = _fills_by_ref(entries["fill"])
    begins = entries["begin"]
    contract = str(begins[-1].body.get("contract") or "") if begins else ""
    stops = {
        e.key: _levels(e.body, contract).get("stop") for e in entries["decision"][-count - 1 :]
    }
    before = dict(zip(list(stops)[1:], stops.values(), strict=False))
    rows = []
    for entry in entries["decision"][-count:]:
        order = sent.get(entry.body.get("bar"))
        done = filled.get(order.key or "", []) if order else []
        row = _reason(entry, closes.get(entry.key), order, done, limits or {})
        # of a position that stays as it is: a stop of another one is no move
        same = row["position"] == row["target"] and not order
        stop, earlier = stops[entry.key], before.get(entry.key)
        row |= {"stop": stop, "stop_before": earlier if same and earlier != stop else None}
        rows.append(row | {"sentence": sentence(row)})
    return rows


def _reason(
    entry: Entry,
    close: float | None,
    order: Entry | None,
    done: Sequence[dict[str, Any]],
    limits: dict[str, Any],
) -> dict[str, Any]:
    body = entry.body
    block = Block(int(body.get("block") or 0))
    return {
        "close_time_ns": int(entry.key or 0),
        "close": close,
        "signal": body.get("signal"),
        "scale": body.get("scale"),
        "wanted": body.get("wanted"),
        "position": body.get("position"),
        "block": block.name if block else None,
        "block_text": block.text if block else None,
        "limit": _limit(block, limits),
        "target": body.get("target"),
        "order": order.key if order else None,
        "held_back": body.get("held_back") or body.get("reason"),
        "filled": sum(int(f["quantity"]) for f in done) if order else None,
        "price": done[-1]["price"] if done else None,
    }


def _limit(block: Block, limits: dict[str, Any]) -> str | None:
    """`max_position=2`: the limit that the block's sentence names."""
    name = LIMIT_OF.get(block, "")
    return f"{name}={limits[name]}" if limits.get(name) is not None else None


def sentence(row: dict[str, Any]) -> str:
    """The chain in one line: `signal +1 × scale 2 = wanted +2 → MAX_POSITION (max_position=1) →
    target +1 → bought 1 at 60.02`.
    """
    factors = (
        f"signal {_signed(row['signal'])} × scale {row['scale']:.3g} = "
        if None not in (row["signal"], row["scale"])
        else ""
    )
    steps = [f"{factors}wanted {_signed(row['wanted'])}" if row["wanted"] is not None else ""]
    if row["block"]:
        steps.append(f"{row['block']} ({row['limit'] or row['block_text']})")
    steps.append(
        f"target {_signed(row['target'])}"
        + (", which is held" if row["target"] == row["position"] else "")
    )
    if row["stop"] is not None and row["stop_before"] is not None:
        steps.append(f"stop moved from {row['stop_before']:.10g} to {row['stop']:.10g}")
    if row["held_back"]:
        steps.append(f"held back: {row['held_back']}")
    if row["order"]:
        done = row["filled"]
        filled = (
            f"{'bought' if done > 0 else 'sold'} {abs(done)} at {row['price']:.10g}"
            if done
            else "not filled"
        )
        steps.append(f"order {row['order']}: {filled}")
    return " → ".join(filter(None, steps))


def _signed(value: float | None) -> str:
    if value is None or is_undefined(value):
        return "unknown"
    return f"{value:+.3g}" if value else "0"


def _fills_by_ref(entries: Sequence[Entry]) -> dict[str, list[dict[str, Any]]]:
    fills_by_ref: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        fills_by_ref[traded_for(entry.body["ref"])].append(entry.body)
    return fills_by_ref


def _by_kind(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    entries_by_kind: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        entries_by_kind[entry.kind].append(entry)
    return entries_by_kind
