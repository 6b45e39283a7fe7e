"""The audit finds every planted difference and names its cause. Each test alters a copy of the
journal of one real session.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from chromium import DRAWN, Chromium
from deployments import OPEN_GATES, Project

from mcl.base.errors import LiveError
from mcl.config import schema
from mcl.data.bars import COLUMNS as STORED
from mcl.live import session_setup as staging
from mcl.live.audit import record
from mcl.live.audit.compare import Audit, NothingToAudit, audit
from mcl.live.audit.record import audit_again
from mcl.live.audit.slippage import mean_ticks
from mcl.live.journal import Draft, Journal, read
from mcl.live.session import run_session
from mcl.promotion.load import Deployable, promoted
from mcl.promotion.promote import promote
from mcl.risk.blocks import Block
from mcl.strategy import Strategy, build
from mcl.tracking import urls

Alter = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Finished:
    """A session whose journal can be altered and audited again."""

    deployed: Deployable
    strategy: Strategy
    stage: staging.Stage
    journal: Path

    def audited(self, exact_prices: bool = True) -> Audit:
        return audit(self.journal, self.deployed, self.strategy, self.stage, exact_prices)

    def entries(self, kind: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.journal)) as db, db:
            return [
                json.loads(body)
                for (body,) in db.execute(
                    "SELECT body FROM entry WHERE kind = ? ORDER BY seq", (kind,)
                )
            ]

    def alter(self, kind: str, number: int, change: Alter | None) -> None:
        """Change the body of the n-th entry of a kind, or drop the entry: what only a hand with the
        file can do.
        """
        with closing(sqlite3.connect(self.journal)) as db, db:
            db.execute("DROP TRIGGER IF EXISTS no_update")
            db.execute("DROP TRIGGER IF EXISTS no_delete")
            seq, text = db.execute(
                "SELECT seq, body FROM entry WHERE kind = ? ORDER BY seq LIMIT 1 OFFSET ?",
                (kind, number),
            ).fetchone()
            if change is None:
                db.execute("DELETE FROM entry WHERE seq = ?", (seq,))
                return
            body = json.loads(text)
            change(body)
            db.execute("UPDATE entry SET body = ? WHERE seq = ?", (json.dumps(body), seq))


@pytest.fixture(scope="module")
def original(desk: Project) -> Finished:
    run = desk.config(
        risk={
            "size": {"method": "fixed", "contracts": 1.0},
            "protection": {"unit": "ticks", "stop": 8.0, "take_profit": 15.0},
        },
        interval="5m",
    )
    promote(desk.run(run), project=desk, gates=OPEN_GATES)
    done = run_session("paper", schema.BrokerConfig(), project=desk, progress=False)
    deployed = promoted("paper", desk)
    strategy = build(run.strategy)
    return Finished(
        deployed, strategy, staging.replayed(run, None, strategy, desk.root), done.journal
    )


@pytest.fixture
def finished(original: Finished, tmp_path: Path) -> Finished:
    copy = Path(shutil.copy(original.journal, tmp_path / "journal.sqlite"))
    return Finished(original.deployed, original.strategy, original.stage, copy)


def found(finished: Finished, exact_prices: bool = True) -> list[tuple[str, str, str, str]]:
    columns = ["what", "live", "backtest", "cause"]
    return list(
        finished.audited(exact_prices).differences[columns].itertuples(index=False, name=None)
    )


def set_to(**values: Any) -> Alter:
    return lambda body: body.update(values)


def test_nothing_altered_nothing_found(finished: Finished) -> None:
    done = finished.audited()
    assert len(done.differences) == 0
    assert set(done.fills["reason"]) == {"signal", "stop", "take_profit"}
    assert done.result.equity[-1] == done.decisions["equity_usd"].iloc[-1]


def test_a_changed_decision_is_unexplained(finished: Finished) -> None:
    was = finished.entries("decision")[100]["target"]
    finished.alter("decision", 100, set_to(target=was + 1))
    assert found(finished) == [("decision", f"target {was + 1}", f"target {was}", "unexplained")]
    row = finished.audited().differences.iloc[0]
    assert row["time"] == finished.audited().result.bars.times[100]


def test_a_changed_stop_distance_is_found(finished: Finished) -> None:
    finished.alter("decision", 7, set_to(stop_ticks=9.0))
    assert found(finished) == [("decision", "stop_ticks 9", "stop_ticks 8", "unexplained")]


def test_a_block_that_the_account_does_not_ask_for_is_unexplained(finished: Finished) -> None:
    row = next(
        i
        for i, body in enumerate(finished.entries("decision"))
        if body["block"] == 0 and body["target"]
    )
    was = finished.entries("decision")[row]["target"]
    finished.alter("decision", row, set_to(target=0, block=Block.DAILY_LOSS.value))
    code = Block.DAILY_LOSS.value
    assert found(finished) == [
        (
            "decision",
            f"target 0, block {code} DAILY_LOSS",
            f"target {was}, block 0 NONE",
            "unexplained",
        )
    ]


def test_a_decision_that_was_never_taken_is_timing(finished: Finished) -> None:
    finished.alter("decision", 50, None)
    [(what, live, _, cause)] = found(finished)
    assert (what, live, cause) == ("decision", "none", "timing")


def test_another_fill_price_is_a_price_difference_where_prices_are_ours(finished: Finished) -> None:
    price = finished.entries("fill")[3]["price"]
    finished.alter("fill", 3, set_to(price=price + 0.01))
    [(what, live, backtest, cause)] = found(finished)
    assert (what, cause) == ("fill", "price")
    assert live.endswith(f"at {price + 0.01:.10g}")
    assert backtest.endswith(f"at {price:.10g}")
    assert found(finished, exact_prices=False) == []


def test_a_fill_that_did_not_come_is_missed(finished: Finished) -> None:
    fills = finished.entries("fill")
    refs = [body["ref"] for body in fills]
    number = next(
        i
        for i, ref in enumerate(refs)
        if i and not ref.endswith("/close") and f"{ref}/close" not in refs
    )
    finished.alter("fill", number, None)
    assert found(finished) == [
        (
            "fill",
            "none",
            f"{fills[number]['quantity']:+d} at {fills[number]['price']:.10g}",
            "missed",
        )
    ]


def test_half_of_a_reversal_alone_is_missed(finished: Finished) -> None:
    number = (
        next(i for i, body in enumerate(finished.entries("fill")) if body["ref"].endswith("/close"))
        + 1
    )
    half = finished.entries("fill")[number - 1]["quantity"]
    finished.alter("fill", number, None)
    [(what, live, backtest, cause)] = found(finished)
    assert (what, cause) == ("fill", "missed")
    assert live.startswith(f"{half:+d} at")
    assert backtest.startswith(f"{2 * half:+d} at")


def test_a_late_fill_is_timing(finished: Finished) -> None:
    bars = {body["bar"] for body in finished.entries("fill")}
    number, body = next(
        (i, b) for i, b in enumerate(finished.entries("fill")) if b["bar"] + 1 not in bars
    )
    finished.alter("fill", number, set_to(bar=body["bar"] + 1))
    [(what, _, _, cause)] = found(finished)
    assert (what, cause) == ("fill", "timing")


def test_a_fill_from_nowhere_is_unexplained(finished: Finished) -> None:
    with closing(sqlite3.connect(finished.journal)) as db, db:
        body = finished.entries("fill")[0] | {"bar": 200, "ref": "somebody", "quantity": 3}
        db.execute(
            "INSERT INTO entry (at_ns, kind, key, body) VALUES (0, 'fill', 'x', ?)",
            (json.dumps(body),),
        )
    [(what, live, backtest, cause)] = found(finished)
    assert (what, backtest, cause) == ("fill", "none", "unexplained")
    assert live.startswith("+3 at")


def test_another_bar_than_the_stored_one_is_data(finished: Finished) -> None:
    body = finished.entries("bar")[120]
    finished.alter("bar", 120, set_to(volume=body["volume"] + 1))
    [(what, live, backtest, cause)] = found(finished)
    assert (what, cause) == ("bar", "data")
    assert json.loads(live)["volume"] == json.loads(backtest)["volume"] + 1


def test_a_wrong_equity_is_found_even_when_all_else_is_equal(finished: Finished) -> None:
    finished.alter("decision", 30, lambda body: body.update(equity_usd=body["equity_usd"] + 1e-9))
    [(what, _, _, cause)] = found(finished)
    assert (what, cause) == ("equity", "unexplained")


def test_a_session_without_a_bar_has_nothing_to_audit_unless_it_sent_something(
    finished: Finished,
) -> None:
    sentence = "holds no bar: the session ended before its first decision"
    with closing(sqlite3.connect(finished.journal)) as db, db:
        db.execute("DROP TRIGGER no_delete")
        db.execute("DELETE FROM entry WHERE kind = 'bar'")
    with pytest.raises(LiveError, match=sentence) as sent:
        finished.audited()
    assert not isinstance(sent.value, NothingToAudit)  # orders without a bar are an alarm
    with closing(sqlite3.connect(finished.journal)) as db, db:
        db.execute("DELETE FROM entry WHERE kind NOT IN ('begin', 'state')")
    with pytest.raises(NothingToAudit, match=sentence):
        finished.audited()


# ----------------------------------------------------------------- what is right, though it differs


def held_back(finished: Finished, number: int, **words: Any) -> None:
    """As if this decision had been held back: no order, and no fill of it."""
    finished.alter("decision", number, set_to(**words))


def test_what_a_person_held_back_is_a_risk_block_with_who_and_why(finished: Finished) -> None:
    number, fill = next(
        (i, b) for i, b in enumerate(finished.entries("fill")) if b["reason"] == "target"
    )
    finished.alter("fill", number, None)
    held_back(finished, fill["bar"] - 1, held_back="paused")
    with closing(sqlite3.connect(finished.journal)) as db, db:
        said = {"word": "pause", "who": "mcl pause, ann (process 7)", "why": "EIA"}
        db.execute(
            "INSERT INTO entry (at_ns, kind, key, body) VALUES (0, 'command', NULL, ?)",
            (json.dumps(said),),
        )
    rows = finished.audited(exact_prices=False).differences
    row = rows[rows["what"] == "fill"].iloc[0]
    assert (row["live"], row["cause"], row["detail"]) == (
        "none",
        "risk block",
        "paused by mcl pause, ann (process 7): EIA",
    )


def test_a_decision_that_came_too_late_is_timing(finished: Finished) -> None:
    number, fill = next(
        (i, b) for i, b in enumerate(finished.entries("fill")) if b["reason"] == "target"
    )
    finished.alter("fill", number, None)
    held_back(finished, fill["bar"] - 1, held_back="late: known 200 s after its close")
    rows = finished.audited(exact_prices=False).differences
    row = rows[rows["what"] == "fill"].iloc[0]
    assert (row["cause"], row["detail"]) == ("timing", "late: known 200 s after its close")


def test_a_guards_refusal_is_a_risk_block(finished: Finished) -> None:
    number, fill = next(
        (i, b) for i, b in enumerate(finished.entries("fill")) if b["reason"] == "target"
    )
    finished.alter("fill", number, None)
    sentence = (
        f"the order {fill['ref']} for +1 MCLF6 is not sent: within 5 minutes of the daily break"
    )
    with closing(sqlite3.connect(finished.journal)) as db, db:
        body = json.dumps({"severity": "warning", "code": "GUARD", "sentence": sentence})
        db.execute(
            "INSERT INTO entry (at_ns, kind, key, body) VALUES (0, 'alert', NULL, ?)", (body,)
        )
    rows = finished.audited(exact_prices=False).differences
    row = rows[rows["what"] == "fill"].iloc[0]
    assert (row["cause"], row["detail"]) == ("risk block", sentence)


def test_commission_is_compared_with_the_configured_one(
    original: Finished, desk: Project, finished: Finished
) -> None:
    facts = record.session_facts(original.deployed, original.stage, "here", original.audited())
    contracts = sum(abs(body["quantity"]) for body in original.entries("fill"))
    assert facts["configured_commission_usd"] == pytest.approx(0.77 * contracts)
    assert facts["commission_above_configured_usd"] == pytest.approx(0, abs=1e-6)
    assert "close_to_message_sec_p50" not in facts  # a replay has no such wait
    assert 0 < facts["message_to_order_ms_p50"] <= facts["message_to_order_ms_p99"]
    finished.alter(
        "fill", 2, lambda body: body.update(commission_usd=body["commission_usd"] + 1.25)
    )
    dearer = record.session_facts(finished.deployed, finished.stage, "here", finished.audited())
    assert dearer["commission_above_configured_usd"] == pytest.approx(1.25)


def real(finished: Finished) -> Finished:
    """The same session as if a real TWS had been its broker: the vendor's bars arrive later and are
    others.
    """
    finished.alter("begin", 0, set_to(broker="tws"))
    return finished


def test_equal_bars_have_no_basis(finished: Finished) -> None:
    for session in (finished, real(finished)):
        basis = session.audited().basis
        assert (basis.note, basis.only_live, basis.only_vendor, basis.differ) == ("", 0, 0, 0)
        assert basis.decisions == len(session.entries("bar"))
        assert basis.decisions_frac == 0.0
        assert set(basis.table["field"]) == {"open", "high", "low", "close", "volume"}
        assert (basis.table["different"] == 0).all()
        assert (basis.table["bars"] == basis.decisions).all()
        assert basis.table["worst_at"].isna().all()


def test_the_basis_of_a_real_session_is_counted_by_hand(finished: Finished) -> None:
    """Two closes, one high and one volume of the broker are others, and one bar never came."""
    session, bars = real(finished), finished.entries("bar")
    for number, ticks in ((10, 3), (11, -5)):
        close = round(bars[number]["close"] + 0.01 * ticks, 2)
        low, high = min(bars[number]["low"], close), max(bars[number]["high"], close)
        session.alter("bar", number, set_to(close=close, low=low, high=high))
    session.alter("bar", 12, set_to(high=round(bars[12]["high"] + 0.02, 2)))
    session.alter("bar", 13, set_to(volume=bars[13]["volume"] + 7))
    altered = session.entries("bar")
    basis = session.audited(exact_prices=False).basis
    rows = basis.table.set_index("field")
    count = len(bars)
    assert (rows.loc["close", "bars"], rows.loc["close", "different"]) == (count, 2)
    assert rows.loc["close", "mean"] == pytest.approx((3 - 5) / count)
    assert rows.loc["close", "mean_size"] == pytest.approx(8 / count)
    assert rows.loc["close", "worst"] == -5
    assert rows.loc["close", "worst_at"] == pd.Timestamp(bars[11]["close_time"], tz="UTC")
    assert (rows.loc["volume", "worst"], rows.loc["volume", "unit"], rows.loc["close", "unit"]) == (
        7,
        "contracts",
        "ticks",
    )
    wrong = sum(a["high"] != b["high"] for a, b in zip(altered, bars, strict=True))
    assert rows.loc["high", "different"] == wrong >= 1
    assert rows.loc["open", "different"] == 0
    # its backtest has the broker's bars
    assert "data" not in set(session.audited(exact_prices=False).differences["cause"])


def test_bars_that_one_side_alone_has_are_counted_and_their_decisions_differ(
    finished: Finished,
) -> None:
    session = real(finished)
    count = len(session.entries("bar"))
    for _ in range(3):
        session.alter("bar", 40, None)
    stored = session.stage.stored
    assert stored is not None
    start = len(session.stage.warmup)
    keep = [row for row in range(len(stored)) if row not in (start + 60, start + 61)]
    columns = {name: getattr(stored, name)[keep] for name in STORED}
    thinner = Finished(
        session.deployed,
        session.strategy,
        replace(session.stage, stored=replace(stored, **columns)),
        session.journal,
    )
    basis = thinner.audited(exact_prices=False).basis
    assert (basis.only_live, basis.only_vendor) == (2, 3)
    assert basis.decisions == count
    assert 5 <= basis.differ < count
    assert basis.decisions_frac == basis.differ / count
    assert (basis.table["bars"] == count - 5).all()


def test_bars_that_shift_decisions_have_their_share(finished: Finished) -> None:
    """The close of a bar thirty cents away moves an average, and so decisions."""
    session, bars = real(finished), finished.entries("bar")
    for number in range(60, 64):
        close = round(bars[number]["close"] + 0.3, 2)
        session.alter("bar", number, set_to(close=close, high=max(close, bars[number]["high"])))
    basis = session.audited(exact_prices=False).basis
    assert 0 < basis.differ < basis.decisions == len(bars)


def test_a_session_whose_vendor_bars_have_not_arrived_says_so(finished: Finished) -> None:
    early = Finished(
        finished.deployed, finished.strategy, replace(finished.stage, stored=None), finished.journal
    )
    basis = early.audited().basis
    assert basis.note.startswith(
        "the vendor's bars of this session are not stored yet: mcl data download"
    )
    assert len(basis.table) == basis.decisions == 0
    other = real(finished)
    other.alter("begin", 0, set_to(contract="MCLG6"))
    assert (
        other.audited().basis.note
        == "the vendor's bars of this session are of MCLF6, the session traded MCLG6"
    )


def test_an_audit_waits_for_the_vendors_bars_and_then_shows_the_basis(
    original: Finished, desk: Project
) -> None:
    """The data file ends before the session; then it holds it, and the table is in the page, the
    files and the answer.
    """
    path, day = desk.root / "walk-5m.csv", original.stage.date
    whole = path.read_text()
    head, *rows = whole.splitlines(keepends=True)
    opened = (
        f"{pd.Timestamp(int(original.stage.recorded.close_time[0]), tz='UTC'):%Y-%m-%dT%H:%M:%SZ}"  # type: ignore[union-attr]
    )
    try:
        path.write_text(head + "".join(row for row in rows if row.split(",")[0] < opened))
        with pytest.raises(
            LiveError, match=f"the vendor's bars of session {day} are not stored yet"
        ) as refused:
            audit_again("paper", day, project=desk)
        assert refused.value.hint == f"mcl data download, then mcl live audit {day} paper"
    finally:
        path.write_text(whole)
    again = audit_again("paper", day, project=desk)
    run = desk.store.run(again.run_id)
    assert run.metrics["data_decisions_frac"] == run.metrics["bars_only_vendor"] == 0
    assert len(pd.read_parquet(again.report.parent / "data" / "basis.parquet")) == 5
    assert "Decisions that differ because of data" in again.report.read_text()


def test_slippage_is_split_by_hand(finished: Finished) -> None:
    """Against the next open and one assumed tick; two ticks more on one fill are execution."""
    number, fill = next(
        (i, b) for i, b in enumerate(finished.entries("fill")) if b["reason"] == "target"
    )
    side = 1 if fill["quantity"] > 0 else -1
    finished.alter("fill", number, set_to(price=round(fill["price"] + 0.02 * side, 2)))
    bars, done = finished.entries("bar"), finished.audited(exact_prices=False)
    row = done.slippage.iloc[number]
    close, arrival = bars[fill["bar"] - 1]["close"], bars[fill["bar"]]["open"]
    assert (row["decided_at"], row["arrival"]) == (close, arrival)
    assert row["delay_ticks"] == pytest.approx((arrival - close) * side / 0.01)
    assert (row["spread_ticks"], row["execution_ticks"]) == (1.0, 2.0)
    others = done.slippage.drop(index=number)
    assert (others["execution_ticks"].abs() < 1e-6).all()
    contracts = done.slippage["quantity"].abs()
    assert mean_ticks(done.slippage) == pytest.approx(
        1.0 + 2.0 * abs(fill["quantity"]) / contracts.sum()
    )


def test_a_session_can_be_audited_again_and_is_filed_under_its_version(
    original: Finished, desk: Project
) -> None:
    day = original.stage.date
    again = audit_again("paper", day, project=desk)
    assert again.differences.empty
    run = desk.store.run(again.run_id)
    assert (
        run.study,
        run.tags["mcl.version"],
        run.tags["session"],
        run.metrics["unexplained"],
    ) == (
        "live",
        str(original.deployed.version),
        str(day),
        0,
    )
    assert "Slippage" in again.report.read_text()
    with pytest.raises(LiveError, match="'paper' has no session 2020-01-01: it traded on "):
        audit_again("paper", date(2020, 1, 1), project=desk)


def test_a_session_that_halted_is_audited_up_to_its_last_bar(finished: Finished) -> None:
    with closing(sqlite3.connect(finished.journal)) as db, db:
        db.execute("DROP TRIGGER no_delete")
        (last,) = db.execute(
            "SELECT seq FROM entry WHERE kind = 'decision' ORDER BY seq LIMIT 1 OFFSET 80"
        ).fetchone()
        db.execute("DELETE FROM entry WHERE seq > ?", (last,))
        why = json.dumps({"state": "halted", "why": "the position is unknown", "bars": 81})
        db.execute(
            "INSERT INTO entry (at_ns, kind, key, body) VALUES (0, 'state', NULL, ?)", (why,)
        )
    done = finished.audited()
    assert (len(done.decisions), done.differences.empty) == (81, True)


def test_a_session_that_was_killed_and_went_on_is_one_session(finished: Finished) -> None:
    """A second process writes its states into the same journal and continues with the next bar."""
    with closing(sqlite3.connect(finished.journal)) as db, db:
        db.execute("DROP TRIGGER no_update")
        rows = db.execute("SELECT seq FROM entry ORDER BY seq").fetchall()
        middle = rows[len(rows) // 2][0]
        db.execute("UPDATE entry SET seq = seq + 100000 WHERE seq >= ?", (middle,))
        for number, state in enumerate(("starting", "reconciling", "trading")):
            db.execute(
                "INSERT INTO entry VALUES (?, 0, 'state', NULL, ?)",
                (middle + number, json.dumps({"state": state, "why": ""})),
            )
    assert finished.audited().differences.empty


def later(finished: Finished, folder: Path) -> tuple[Path, staging.Stage, int]:
    """The rest of the session as if it had begun at a bar where a position was held and no order
    was on its way.
    """
    decisions = finished.entries("decision")
    sent = {body["bar"] for body in finished.entries("order")}
    first = next(
        n
        for n in range(60, 200)
        if decisions[n]["position"] and n - 1 not in sent and n not in sent
    )
    path, begin = folder / "later.sqlite", finished.entries("begin")[0]
    held = decisions[first]["position"]
    begin |= {
        "ledger": decisions[first - 1]["ledger"],
        "positions": {"MCLF6": held},
        "refs": [],
        "executions": [],
    }
    journal = Journal(path)
    journal.append(Draft("begin", begin))
    for entry in read(finished.journal):
        number = entry.body.get("bar", first) if entry.kind != "bar" else None
        opened = int(finished.entries("bar")[first]["close_time"])
        if (entry.kind == "bar" and entry.body["close_time"] >= opened) or (
            entry.kind in ("decision", "order", "fill")
            and number is not None
            and number >= first + (entry.kind == "fill")
        ):
            body = entry.body | ({"bar": entry.body["bar"] - first} if "bar" in entry.body else {})
            journal.append(Draft(entry.kind, body, entry.key))  # type: ignore[arg-type]
    journal.close()
    stored = finished.stage.stored
    assert stored is not None
    return (
        path,
        replace(finished.stage, warmup=stored.rows(0, len(finished.stage.warmup) + first)),
        held,
    )


def test_a_session_that_began_with_a_position_is_held_against_its_rules(
    finished: Finished, tmp_path: Path
) -> None:
    path, stage, held = later(finished, tmp_path)
    done = audit(path, finished.deployed, finished.strategy, stage, exact_prices=True)
    assert done.decisions["position"].iloc[0] == held
    assert done.differences.to_dict("records") == []
    wrong = Finished(finished.deployed, finished.strategy, stage, path)
    wrong.alter("decision", 20, lambda body: body.update(target=body["target"] + 1))
    rows = wrong.audited().differences
    assert list(rows[["what", "cause"]].itertuples(index=False, name=None)) == [
        ("decision", "unexplained")
    ]


def test_the_page_shows_the_recorded_session_to_everybody(
    desk: Project, finished: Finished, browser: Chromium
) -> None:
    again = audit_again("paper", finished.stage.date, project=desk)
    browser.open(again.report.as_uri(), DRAWN)
    kept = {
        name: pd.read_parquet(again.report.parent / "data" / f"{name}.parquet")
        for name in ("decisions", "fills", "differences")
    }
    cards = browser.run(
        "return [...document.querySelectorAll('.card .figure')].map(n =>"
        " Number(n.textContent.replace(',', '')))"
    )
    assert cards[:3] == [len(kept[name]) for name in ("decisions", "differences", "fills")]
    price = "document.getElementById('chart-session')._fullData[0]"
    times, closes = browser.run(f"return [[...{price}.x], [...{price}.y]]")
    assert times == [
        at.value // 10**6 for at in pd.to_datetime(kept["decisions"]["close_time"], utc=True)
    ]
    assert closes == pytest.approx(kept["decisions"]["close"].to_numpy())
    paid = browser.run(
        "return [...document.querySelectorAll('#fills tbody tr')].map(r => [...r.cells].map(c =>"
        " c.title || c.textContent))"
    )
    names = list(kept["fills"].columns)
    assert [float(row[names.index("price")]) for row in paid] == kept["fills"]["price"].tolist()
    links = browser.run(
        "return [...document.querySelectorAll('.links a')].map(a =>"
        " a.getAttribute('href').split('#')[1])"
    )
    version = finished.deployed.version
    session, promoted = (
        urls.run_address(run_id, desk.store.experiment_of(run_id)).partition("#")[2]
        for run_id in (again.run_id, finished.deployed.run_id)
    )
    assert "/experiments/" in session
    assert links == [session, f"/models/mcl/versions/{version}", promoted]
    assert (
        f"#/models/mcl/versions/{version}"
        in desk.store.run(again.run_id).tags["mlflow.note.content"]
    )
    browser.examine("audit")
