"""The margin that the first order would need, asked of the broker by the real client, and every
answer that does not carry it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deployments import Project, write_walks

from mcl.config import schema
from mcl.live.journal import read
from mcl.simulators.tws import SimulatedTWS

from .live_bench import Bench

ALWAYS = {"name": "always_long"}
OFTEN = {"name": "random", "hold_sec": 1800, "seed": 4}
GUARDS = {**dict.fromkeys(schema.Guards.model_fields), "max_margin_frac": 0.5}
WHAT_IF = {"what_if": True}
UNSET = "1.7976931348623157E308"
ENOUGH = 20  # bars


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_walks(root)
    return Project.at(root)


def session(shop: Project, folder: Path, strategy: dict[str, Any], contracts: float = 1.0) -> Bench:
    risk = {
        "size": {"method": "fixed", "contracts": contracts},
        "limits": {"max_position": 5, "max_order": 5},
    }
    return Bench(
        shop, folder, shop.config(strategy=strategy, risk=risk, interval="15m"), guards=GUARDS
    )


def answers(bench: Bench) -> list[dict[str, Any]]:
    return [entry.body for entry in read(bench.path, ("margin",))]


def refused(bench: Bench) -> str:
    """Nothing was traded, nothing works, the journal and an alert say why; returns the sentence."""
    assert bench.tws.executions == ()
    assert not bench.tws.book.orders
    sentences = {
        entry.body["sentence"]
        for entry in read(bench.path, ("alert",))
        if entry.body["code"] == "GUARD"
    }
    said: set[str] = {entry.body["why"] for entry in read(bench.path, ("refused",))}
    assert sentences == said
    assert all(answer["refused"] for answer in answers(bench))
    assert read(bench.path, ("state",))[-1].body["state"] in ("ended", "stopped")
    return said.pop()


def test_the_first_order_waits_for_the_margin_and_both_are_written_down(
    shop: Project, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = session(shop, tmp_path, ALWAYS, contracts=2.0)
    with caplog.at_level(logging.INFO, "mcl.live"):
        asyncio.run(bench.run())
    [answer] = answers(bench)  # the position never grows beyond what was asked for
    figures = (answer["initial_usd"], answer["maintenance_usd"], answer["equity_usd"])
    assert figures == (2 * 1_755.0, 2 * 1_300.0, bench.tws.account.capital_usd - 2 * 0.77)
    assert (answer["quantity"], answer["held"], answer["refused"]) == (2, 0, "")
    entries = [entry for entry in read(bench.path) if entry.kind in ("margin", "fill")]
    assert [entry.kind for entry in entries][:2] == ["margin", "fill"]
    assert answer["ref"] == read(bench.path, ("order",))[0].key
    assert (
        f"margin after {answer['ref']}, in USD: initial 3510.00, maintenance 2600.00" in caplog.text
    )
    assert bench.audited().unexplained == 0


def test_a_larger_position_is_asked_for_again_and_a_smaller_one_is_not(
    shop: Project, tmp_path: Path
) -> None:
    risk = {
        "size": {
            "method": "vol_target",
            "annual_vol_frac": 0.3,
            "lookback_sessions": 5,
            "max_contracts": 4.0,
        }
    }
    run = shop.config(
        strategy=OFTEN, risk=risk | {"limits": {"max_position": 4, "max_order": 4}}, interval="15m"
    )
    bench = Bench(shop, tmp_path, run, guards=GUARDS)
    asyncio.run(bench.run())
    sizes = [abs(answer["held"] + answer["quantity"]) for answer in answers(bench)]
    assert sizes == sorted(set(sizes))
    assert max(sizes) == max(
        abs(body["to"]) for body in (entry.body for entry in read(bench.path, ("order",)))
    )


def test_an_account_that_cannot_carry_it_opens_nothing(shop: Project, tmp_path: Path) -> None:
    bench = session(shop, tmp_path, ALWAYS)
    asyncio.run(bench.run(capital_usd=3_000.0))
    sentence = refused(bench)
    assert "would need 1,755 USD initial and 1,300 USD maintenance margin of 2,999 USD" in sentence
    assert "broker.guards.max_margin_frac=0.5" in sentence


def drop(tws: SimulatedTWS) -> None:
    tws.fault("drop", on="receive placeOrder", where=WHAT_IF, times=0)


def only_the_first_answer(tws: SimulatedTWS) -> None:
    """A TWS answers twice, at first without figures; here that is all."""
    tws.fault(
        "drop", on="send openOrder", where=WHAT_IF | {"status": "PreSubmitted"}, nth=1, times=0
    )


def error(tws: SimulatedTWS) -> None:
    tws.fault(
        "answer",
        on="receive placeOrder",
        where=WHAT_IF,
        times=0,
        code=201,
        text="Order rejected - reason:No trading permissions",
    )


def says(**figures: str) -> Callable[[SimulatedTWS], None]:
    def tell(tws: SimulatedTWS) -> None:
        tws.fault("change", on="send openOrder", where=WHAT_IF, times=0, values=figures)

    return tell


NO_ANSWER = {
    "silence": (drop, "did not answer the request for the margin within"),
    "no second answer": (only_the_first_answer, "did not answer the request for the margin within"),
    "an error": (error, "No trading permissions (201)"),
    "initial unset": (says(init_margin_after=UNSET), "did not say the initial margin, which"),
    "initial not a number": (
        says(init_margin_after="nan"),
        "did not say the initial margin, which",
    ),
    "initial empty": (says(init_margin_after=""), "did not say the initial margin, which"),
    "initial zero": (says(init_margin_after="0.0"), "did not say the initial margin, which"),
    "maintenance unset": (
        says(maint_margin_after=UNSET),
        "did not say the maintenance margin, which",
    ),
    "equity unset": (says(equity_after=UNSET), "did not say the equity, which"),
    "equity infinite": (says(equity_after="inf"), "did not say the equity, which"),
    "change not a number": (
        says(init_margin_change="nan"),
        "did not say the initial margin, maintenance margin, equity, which",
    ),
    "all unset": (
        says(init_margin_after=UNSET, maint_margin_after=UNSET, equity_after=UNSET),
        "did not say the initial margin, maintenance margin, equity, which",
    ),
}


@pytest.mark.parametrize("name", NO_ANSWER)
def test_an_answer_that_is_missing_or_no_number_opens_nothing(
    shop: Project, tmp_path: Path, name: str
) -> None:
    fault, expected = NO_ANSWER[name]
    bench = session(shop, tmp_path, {"name": "random", "hold_sec": 14_400, "seed": 4})
    bench.config = bench.config.model_copy(update={"timeout_sec": 0.5})

    def stop(_: SimulatedTWS, bars: int) -> None:
        if bars == ENOUGH:  # each decision waits for its answer
            bench.supervisor.request("stop", "test")

    asyncio.run(bench.run(before=fault, disturb=stop))
    assert len(answers(bench)) > 1
    assert expected in refused(bench)
    assert all(
        math.isnan(_number(a["initial_usd"]))
        or name.startswith(("maintenance", "equity", "initial zero"))
        for a in answers(bench)
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def test_the_half_of_a_reversal_that_closes_goes_though_the_margin_is_not_known(
    shop: Project, tmp_path: Path
) -> None:
    bench = session(shop, tmp_path, OFTEN)
    bench.config = bench.config.model_copy(update={"timeout_sec": 0.5})

    dropped: list[int] = []

    def disturb(tws: SimulatedTWS, bars: int) -> None:
        if bench.supervisor.status_board.position and not tws.faults.pending:
            drop(tws)
            bench.supervisor.gate._margin_for = 0  # as after a restart: it is asked once more
            dropped.append(bars)
        if dropped and bars == dropped[0] + ENOUGH:  # each decision waits for its answer
            bench.supervisor.request("stop", "test")

    asyncio.run(bench.run(disturb=disturb))
    assert bench.tws.positions == {}
    assert len(bench.tws.executions) == 2
    assert any("were closed" in entry.body["why"] for entry in read(bench.path, ("refused",)))
