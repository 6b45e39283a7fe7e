"""Gates: what a run must show before it may trade, each with its value, its rule and what it means.

An undefined value (NaN) never passes, except where a gate says that there is nothing to ask. The deflated Sharpe ratio asks how
much of the result is the luck of having tried many configurations: it counts every distinct one that the trial ledger knows of the
same strategy on the same market.
Source: Bailey & López de Prado (2014) "The Deflated Sharpe Ratio".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mcl import metrics, runs, schema, trials
from mcl.engine.result import Result
from mcl.errors import PromotionError, nearest
from mcl.metrics.performance import per_session
from mcl.promote.holdout import Look
from mcl.rules import Promotion
from mcl.tracking import StoredRun
from mcl.trials import Tally


@dataclass(frozen=True)
class Gate:
    """`rule` is text such as `>= 100`; `meaning` says in one clause what the value tells. `waived` is why a miss was let through."""

    name: str
    value: float
    rule: str
    passed: bool
    meaning: str
    waived: str = ""

    @property
    def open(self) -> bool:
        return self.passed or bool(self.waived)

    @property
    def word(self) -> str:
        return "pass" if self.passed else "waived" if self.waived else "MISSED"

    def __str__(self) -> str:
        shown = "undefined" if math.isnan(self.value) else f"{self.value:.6g}"
        return f"{self.name} = {shown} (rule: {self.rule}; {self.meaning})"


def evaluate(rules: Promotion, result: Result, tally: Tally, look: Look) -> tuple[Gate, ...]:
    """Every configured gate, in the order of the configuration; a rule that is null leaves its gate out."""
    measured = metrics.summary(result)
    luck = tally.luck(measured)
    gates = (
        at_least("trades", measured["trades"], rules.min_trades, "round trips in the search window"),
        at_least("sessions", measured["sessions"], rules.min_sessions, "sessions in the search window"),
        at_most("drawdown_frac", -measured["max_drawdown_frac"], rules.max_drawdown_frac, "deepest fall, of the peak before it"),
        at_least("deflated_sharpe", luck.deflated, rules.min_deflated_sharpe, luck.sentence),
        at_least("holdout_sharpe", look.sharpe, rules.min_holdout_sharpe, look.meaning),
        at_least("holdout_trades", look.trades, rules.min_holdout_trades, look.meaning),
    )
    return tuple(gate for gate in gates if gate is not None)


def left_out(rules: Promotion) -> tuple[str, ...]:
    """The rules that the configuration switches off; a promoted version says so."""
    return tuple(name for name, value in rules.model_dump().items() if value is None)


def waive(table: Sequence[Gate], names: Sequence[str], because: str, stage: str, hard: Sequence[str]) -> tuple[Gate, ...]:
    """The table with the reason beside each missed gate of `names`. PromotionError: no reason, an unknown gate, one that was not
    missed, or one that holds for real money whatever anybody says (`hard`)."""
    if names and not because.strip():
        raise PromotionError(f"waiving {', '.join(names)} needs its reason", '--waive GATE --because "why this one does not count"')
    by_name = {gate.name: gate for gate in table}
    for name in names:
        if name not in by_name:
            raise PromotionError(f"there is no gate {name!r} to waive: {nearest(name, by_name)}")
        if stage == "live" and name in hard:
            raise PromotionError(f"gate {name} cannot be waived for live; hard gates: {', '.join(hard)}", str(by_name[name]))
        if by_name[name].passed:
            raise PromotionError(f"gate {name} was passed, so there is nothing to waive: {by_name[name]}")
    return tuple(replace(gate, waived=because.strip()) if gate.name in names else gate for gate in table)


def tally_of(run: schema.Config, stored: StoredRun, root: Path) -> Tally:
    """What the trial ledger holds of the run's strategy on its market; the run itself counts even where the ledger is younger."""
    ratio = per_session(stored.metrics.get("sharpe", math.nan))
    return trials.tally(root, runs.placed(run), {trials.stored_identity(stored.tags): ratio})


def at_least(name: str, value: float, bound: float | None, meaning: str) -> Gate | None:
    return None if bound is None else Gate(name, float(value), f">= {bound:g}", value >= bound, meaning)


def at_most(name: str, value: float, bound: float | None, meaning: str) -> Gate | None:
    return None if bound is None else Gate(name, float(value), f"<= {bound:g}", value <= bound, meaning)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
