"""Every record of the journal comes back as it was written, through the file; and a journal of
version 0.1, which has fewer keys, is read.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcl.base.errors import LiveError
from mcl.engine.account import (
    Holding,
    LedgerState,
    holding_at_close,
    initial_guard,
    profit_level,
    stop_level,
)
from mcl.engine.decision import NO_BRACKET
from mcl.engine.legs import legs_of
from mcl.live import journal
from mcl.live.journal import Entry, Journal, read
from mcl.live.journal_records import (
    RECORDS,
    DecisionRecord,
    JournalRecord,
    OrderIntent,
    SessionStart,
    ledger_state,
    record_of,
)

FLOATS = st.floats(allow_infinity=False)
WHOLE = st.integers(-(2**62), 2**62)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field of this type."""
    if get_origin(hint) is Annotated:
        return values(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        return st.none() | st.one_of(*map(values, kinds))
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple and get_args(hint)[-1] is Ellipsis:
        return st.lists(values(get_args(hint)[0]), max_size=3).map(tuple)
    if get_origin(hint) is tuple:
        return st.tuples(*map(values, get_args(hint)))
    if get_origin(hint) is dict:
        return st.dictionaries(st.text(max_size=5), values(get_args(hint)[1]), max_size=3)
    if hasattr(hint, "_fields"):
        return st.builds(hint, **{n: values(h) for n, h in get_type_hints(hint).items()})
    plain = {float: FLOATS, int: WHOLE, str: st.text(max_size=20), bool: st.booleans()}
    return plain[hint]


def records(shape: type[JournalRecord]) -> st.SearchStrategy[JournalRecord]:
    hints = get_type_hints(shape, include_extras=True)
    hints.pop("kind")
    return st.builds(shape, **{name: values(hint) for name, hint in hints.items()})


def test_every_kind_has_a_record() -> None:
    assert {shape.kind for shape in RECORDS} == set(get_args(journal.Kind))


@pytest.mark.parametrize("shape", RECORDS, ids=lambda shape: shape.__name__)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_record_comes_back_as_it_was(
    shape: type[JournalRecord], tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    """Bit by bit: NaN included, which is null in the file."""
    drawn = data.draw(st.lists(records(shape), min_size=1, max_size=12))
    path: Path = tmp_path_factory.mktemp("journal") / "2026-01-07.sqlite"
    with Journal(path) as writer:
        writer.append(*(record.draft(str(n)) for n, record in enumerate(drawn)))
    again = [record_of(entry) for entry in read(path)]
    assert {type(record) for record in again} == {shape}
    assert repr(again) == repr(drawn)
    assert repr([record.body() for record in again]) == repr([r.body() for r in drawn])


def entry(kind: str, **body: Any) -> Entry:
    return Entry(seq=1, at_ns=0, kind=kind, key="k", body=body)


def test_what_version_01_wrote_is_read() -> None:
    """By hand, as version 0.1 had it: no clock of an order, no trailing stop, fewer memories."""
    ledger = {
        "holding": {"position": 1, "cash_ticks": -6000.0, "sides": 1, "entry_ticks": 6000.0}
        | {"stop_at": 5960.0, "take_profit_at": None},
        "guard": {"session_start_usd": 25_000.0, "peak_usd": 25_000.0, "trades": 1}
        | {"locked": False, "halted": False, "stopped": 0},
        "equity": 25_001.0,
    }
    decided = record_of(
        entry(
            "decision",
            **{"bar": 3, "position": 0, "equity_usd": 25_000.0, "wanted": None, "signal": 1.0},
            **{"scale": 1.0, "target": 1, "block": 0, "stop_ticks": 40.0},
            **{"take_profit_ticks": None, "locked": False, "halted": False, "stopped": 0},
            **{"mode": "NORMAL", "held_back": "", "ledger": ledger},
        )
    )
    assert isinstance(decided, DecisionRecord)
    held = Holding(
        position=1,
        cash_ticks=-6000.0,
        sides=1,
        entry_ticks=6000.0,
        legs=legs_of(NO_BRACKET._replace(stop_ticks=40.0), 1, 6000.0, math.nan),
    )
    guard = initial_guard(25_000.0)._replace(trades=1)
    assert repr(decided.ledger) == repr(LedgerState(holding=held, guard=guard, equity=25_001.0))
    assert math.isnan(decided.decision.bracket.trail_ticks)
    order = {"bar": 3, "from": 0, "to": 1, "stop_ticks": 40.0, "take_profit_ticks": None}
    intent = record_of(entry("order", **order))
    assert isinstance(intent, OrderIntent)
    assert (intent.before, intent.after, intent.clock) == (0, 1, None)
    begin = record_of(entry("begin", broker="sim", account="DU1"))
    assert isinstance(begin, SessionStart)
    assert (begin.ledger, begin.move) == (None, None)


def test_a_stop_that_an_earlier_journal_had_drawn_trails_on() -> None:
    """Written before legs: one level, and the distance at which it follows."""
    holding = {"position": -1, "cash_ticks": 6000.0, "sides": 1, "entry_ticks": 6000.0}
    levels = {"stop_at": 6010.0, "take_profit_at": 5900.0, "trail_ticks": 25.0}
    guard = initial_guard(25_000.0)._asdict()
    state = ledger_state({"holding": holding | levels, "guard": guard, "equity": 25_000.0})
    assert (stop_level(state.holding), profit_level(state.holding)) == (6010.0, 5900.0)
    assert stop_level(holding_at_close(state.holding, 5990.0)) == 6010.0
    assert stop_level(holding_at_close(state.holding, 5980.0)) == 6005.0


def test_a_body_of_another_shape_is_a_sentence() -> None:
    with pytest.raises(LiveError, match="an entry 'fill' of the journal has no 'execution_id'"):
        record_of(entry("fill", quantity=1))
    with pytest.raises(LiveError, match="unknown kind 'dream'"):
        record_of(entry("dream"))
