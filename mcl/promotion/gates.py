"""Gates: what a run must show before it may trade, each with its value, its rule and what it means.

A gate passes, misses, is waived with a reason, or is not asked and says so. An undefined value
(NaN) never passes. The deciding ones are the joined p-values of `significance`; the deflated Sharpe
ratio is shown as well. It counts every distinct trial that the ledger knows of the same
strategy on the same market. Source: Bailey & López de Prado (2014) "The Deflated Sharpe Ratio".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcl.base import terminal
from mcl.base.errors import PromotionError, nearest
from mcl.config import schema
from mcl.config.promotion_rules import Promotion
from mcl.engine.result import Result
from mcl.metrics import performance as perf
from mcl.metrics.overfit import Luck
from mcl.metrics.performance import Floats, per_session
from mcl.metrics.summary import summary
from mcl.metrics.trades import closed, net
from mcl.promotion.significance import Significance
from mcl.report.format import SHORT, too_short
from mcl.tracking import backtest_run, trial_ledger
from mcl.tracking.store import StoredRun
from mcl.tracking.trial_ledger import Tally
from mcl.validation.holdout import Look

if TYPE_CHECKING:
    import pandas as pd

RULES = {  # gate -> the rule in conf/promotion that asks for it
    "trades": "min_trades",
    "sessions": "min_sessions",
    "drawdown_frac": "max_drawdown_frac",
    "sharpe": "max_sharpe",
    "trade_share": "max_trade_share",
    "session_share": "max_session_share",
    "deflated_sharpe": "min_deflated_sharpe",
    "doubled_costs_sharpe": "min_doubled_costs_sharpe",
    "plateau_frac": "min_plateau_frac",
    "pbo": "max_pbo",
    "lookahead": "max_biased_rows",
    "warmup": "max_warmup_percent",
    "holdout_trades": "min_holdout_trades",
    "holdout_sharpe": "min_holdout_sharpe",
    "holdout_sharpe_high": "min_holdout_sharpe_high",
    "p_value": "max_p_value",
}
LIVE_RULES = {
    "p_value": "max_p_value",
    "market_p_value": "max_market_p_value",
    "clean_tree": "clean_tree",
}
LIVE_ALWAYS = ("market_data", "paper_sessions", "paper_unexplained")
# asked for live even where a configuration leaves them out, and never waived
IMPOSSIBLE = ("sharpe", "trade_share", "session_share")
# a miss of these says that the result is none: nothing is looked at
BEFORE_LOOK = (*IMPOSSIBLE, "lookahead", "warmup", "clean_tree")


@dataclass(frozen=True)
class Gate:
    """`rule` is text such as `>= 100`; `meaning` says in one clause what the value tells. `waived`
    is why a miss was let through. ValueError on a gate that passes without a value, or without
    being asked.
    """

    name: str
    value: float
    rule: str
    passed: bool
    meaning: str
    waived: str = ""
    required: bool = True
    sessions: float = math.inf  # behind a figure per year

    def __post_init__(self) -> None:
        if self.passed and (math.isnan(self.value) or not self.required):
            raise ValueError(
                f"gate {self.name} cannot pass: its value is {self.value}, asked {self.required}"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by the names that files and answers give them."""
        fields = asdict(self)
        fields["asked"] = fields.pop("required")
        if not too_short(fields.pop("sessions")):
            return fields
        return fields | {"too_short": True}

    @property
    def value_text(self) -> str:
        """The value as it is shown: none for a figure per year of too few sessions."""
        if math.isnan(self.value):
            return "undefined"
        return SHORT if too_short(self.sessions) else terminal.text(float(self.value))

    @property
    def open(self) -> bool:
        return self.passed or bool(self.waived) or not self.required

    @property
    def word(self) -> str:
        if not self.required:
            return "not asked"
        return "pass" if self.passed else "waived" if self.waived else "MISSED"

    def __str__(self) -> str:
        return f"{self.name} = {self.value_text} (rule: {self.rule}; {self.meaning})"


def table(gates: Sequence[Gate]) -> pd.DataFrame:
    """One row per gate: its value, its rule, its verdict and what it says."""
    import pandas as pd

    rows = [
        (
            g.name,
            SHORT if too_short(g.sessions) else g.value,
            g.rule,
            g.word,
            g.waived or g.meaning,
        )
        for g in gates
    ]
    return pd.DataFrame(rows, columns=["gate", "value", "rule", "verdict", "what it says"])


def at_least(
    name: str, value: float, bound: float | None, meaning: str, sessions: float = math.inf
) -> Gate | None:
    """None without a bound; `sessions` are those of a figure per year."""
    if bound is None:
        return None
    passed = bool(value >= bound)
    return Gate(name, float(value), f">= {bound:g}", passed, meaning, sessions=sessions)


def at_most(
    name: str, value: float, bound: float | None, meaning: str, sessions: float = math.inf
) -> Gate | None:
    """None without a bound; `sessions` are those of a figure per year."""
    if bound is None:
        return None
    passed = bool(value <= bound)
    return Gate(name, float(value), f"<= {bound:g}", passed, meaning, sessions=sessions)


def not_asked(name: str, value: float, why: str) -> Gate:
    """A gate that is shown and decides nothing, with the reason."""
    return Gate(name, float(value), "", passed=False, meaning=why, required=False)


NOT_LOOKED = not_asked(
    "holdout",
    math.nan,
    "the hold-out was not looked at, because a gate above says that the result is none",
)


def searched(
    rules: Promotion, result: Result, tally: Tally, look: Look, stage: str
) -> tuple[Gate, ...]:
    """The gates on the search window, and the bounds of what is possible; a rule that is null
    leaves its gate out.
    """
    measured = summary(result)
    return _without_none(
        at_least(
            "trades", measured["trades"], rules.min_trades, "round trips in the search window"
        ),
        at_least(
            "sessions", measured["sessions"], rules.min_sessions, "sessions in the search window"
        ),
        at_most(
            "drawdown_frac",
            -measured["max_drawdown_frac"],
            rules.max_drawdown_frac,
            "deepest fall, of the peak before it",
        ),
        *possible(
            bounds(rules, stage),
            result.session_returns.to_numpy(),
            net(closed(result)),
            result.net_pnl_usd,
            look,
        ),
        _deflated(rules, tally.luck(measured)),
    )


def unseen(rules: Promotion, look: Look) -> tuple[Gate, ...]:
    """The gates on the hold-out alone: that it was traded, and that it does not contradict an edge
    worth having.
    """
    high, means = look.highest()
    return _without_none(
        at_least("holdout_trades", look.trades, rules.min_holdout_trades, look.meaning),
        at_least(
            "holdout_sharpe", look.sharpe, rules.min_holdout_sharpe, look.meaning, look.sessions
        ),
        at_least("holdout_sharpe_high", high, rules.min_holdout_sharpe_high, means, look.sessions),
    )


def significant(rules: Promotion, tests: Significance, stage: str) -> tuple[Gate, ...]:
    """The joined tests. Paper shows the one over the whole market, live asks for it."""
    live = stage == "live"
    market = tests.meaning(tests.market) + ", over all that was tried on this market"
    over_market = at_most(
        "market_p_value", tests.market_p_value, rules.live.max_market_p_value, market
    )
    if not live:
        over_market = not_asked("market_p_value", tests.market_p_value, f"asked for live; {market}")
    level = rules.live.max_p_value if live else rules.max_p_value
    return _without_none(
        at_most("p_value", tests.p_value, level, tests.meaning(tests.strategy)), over_market
    )


def bounds(rules: Promotion, stage: str) -> Promotion:
    """The rules with the bounds of what is possible, which live asks for whatever the configuration
    leaves out.
    """
    if stage != "live":
        return rules
    left = {
        RULES[name]: Promotion.model_fields[RULES[name]].default
        for name in IMPOSSIBLE
        if getattr(rules, RULES[name]) is None
    }
    return rules.model_copy(update=left)


def left_out(rules: Promotion, stage: str = "paper") -> tuple[str, ...]:
    """The rules that the configuration switches off; a promoted version says so."""
    paper = [name for name, value in bounds(rules, stage).model_dump().items() if value is None]
    live = [f"live.{name}" for name, value in rules.live.model_dump().items() if value is None]
    return (*paper, *(live if stage == "live" else ()))


def names(rules: Promotion, stage: str) -> tuple[str, ...]:
    """The gates that a promotion to `stage` asks, as far as the configuration says it."""
    required = {
        name for name, rule in RULES.items() if getattr(bounds(rules, stage), rule) is not None
    }
    if stage == "live":
        required = required - LIVE_RULES.keys() | {
            name
            for name, rule in LIVE_RULES.items()
            if getattr(rules.live, rule) not in (None, False)
        }
        required |= {*LIVE_ALWAYS}
    return tuple(
        name for name in dict.fromkeys((*RULES, *LIVE_RULES, *LIVE_ALWAYS)) if name in required
    )


def check_waivers(
    waived: Sequence[str], because: str, rules: Promotion, stage: str, hard: Sequence[str]
) -> None:
    """Refuse, before anything is looked at, to waive without a reason, an unknown gate, one that is
    not asked, or one that holds for real money whatever anybody says (`hard`). PromotionError says
    which.
    """
    every = dict.fromkeys((*RULES, *LIVE_RULES, *LIVE_ALWAYS))
    for name in hard:
        if name not in every:
            raise PromotionError(
                f"promotion.live.hard names {name!r}, which is no gate: {nearest(name, every)}"
            )
    if waived and not because.strip():
        raise PromotionError(
            f"waiving {', '.join(waived)} needs its reason",
            '--waive GATE --because "why this one does not count"',
        )
    required = names(rules, stage)
    for name in waived:
        if name not in every:
            raise PromotionError(f"there is no gate {name!r} to waive: {nearest(name, required)}")
        if name not in required:
            raise PromotionError(
                f"gate {name} is not asked for {stage}, so there is nothing to waive",
                f"asked: {', '.join(required)}",
            )
        if stage == "live" and name in hard:
            raise PromotionError(
                f"gate {name} cannot be waived for live; hard gates: {', '.join(hard)}"
            )


def waive(table: Sequence[Gate], waived: Sequence[str], because: str) -> tuple[Gate, ...]:
    """Return the table with the reason at each missed gate of `waived`. PromotionError on one that
    was passed or had nothing to ask.
    """
    for gate in table:
        if gate.name in waived and gate.open:
            state = "was passed" if gate.passed else "was not asked"
            raise PromotionError(f"gate {gate.name} {state}, so there is nothing to waive: {gate}")
    return tuple(
        replace(gate, waived=because.strip()) if gate.name in waived else gate for gate in table
    )


def tally_of(run: schema.Config, stored: StoredRun, root: Path) -> Tally:
    """Count the trials of the run's strategy on its market in the ledger; the run itself counts
    even where the ledger is younger.
    """
    ratio = per_session(stored.metrics.get("sharpe", math.nan))
    return trial_ledger.tally(
        root, backtest_run.trial_pool(run), {trial_ledger.stored_identity(stored.tags): ratio}
    )


def possible(
    rules: Promotion, returns: Floats, trades_usd: Floats, profit_usd: float, look: Look
) -> tuple[Gate, ...]:
    """An annual Sharpe above the bound, or a profit that one trade or one session carries, is an
    error or an accident first.

    returns     of the sessions in the search window
    trades_usd  net results of the closed round trips there; profit_usd: the net profit of all
    """
    best_trade = (
        float(trades_usd.max()) / profit_usd if len(trades_usd) and profit_usd > 0 else math.nan
    )
    best_session = (
        float(np.nanmax(returns)) / float(np.nansum(returns))
        if len(returns) and profit_usd > 0
        else math.nan
    )
    ratios = [perf.sharpe(returns), perf.sharpe_interval(look.returns)[0]]
    highest = max(ratios[0], ratios[1]) if math.isfinite(ratios[1]) else ratios[0]
    means = (
        "annual, the larger of the search window and the lower end of the hold-out's interval;"
        " above is an error until none is found"
    )
    return _without_none(
        at_most("sharpe", highest, rules.max_sharpe, means, len(returns)),
        _share("trade_share", best_trade, rules.max_trade_share, profit_usd, "trade"),
        _share("session_share", best_session, rules.max_session_share, profit_usd, "session"),
    )


def _share(name: str, share: float, bound: float | None, profit: float, unit: str) -> Gate | None:
    if bound is not None and profit <= 0:
        return not_asked(name, math.nan, f"there is no profit that one {unit} could carry")
    return at_most(name, share, bound, f"of the net profit is the best {unit}")


def _deflated(rules: Promotion, luck: Luck) -> Gate | None:
    gate = at_least("deflated_sharpe", luck.deflated, rules.min_deflated_sharpe, luck.sentence)
    return gate or not_asked("deflated_sharpe", luck.deflated, f"shown only; {luck.sentence}")


def _without_none(*gates: Gate | None) -> tuple[Gate, ...]:
    return tuple(gate for gate in gates if gate is not None)
