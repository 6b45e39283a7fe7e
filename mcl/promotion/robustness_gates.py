"""Gates that compute again: costs, plateau, overfitting, look-ahead, warm-up. Each is left out
where its rule is null.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from mcl.base.errors import DataError
from mcl.base.words import figure, many
from mcl.config.promotion_rules import Promotion
from mcl.metrics.cscv import overfitting
from mcl.promotion.gates import Gate, at_least, at_most, not_asked
from mcl.report.format import annual_text
from mcl.strategy import build, memory_at
from mcl.tracking import backtest_run, trial_ledger
from mcl.validation import lookahead, neighbourhood, stress
from mcl.validation.subject import Subject

FEWEST_TRIALS = 10  # below, a rank among them says nothing
QUANTILE = 0.25


def evaluate(
    rules: Promotion, about: Subject, repeated: backtest_run.Replayed, root: Path
) -> tuple[Gate, ...]:
    """The configured ones among: Sharpe at twice the costs, plateau, probability of backtest
    overfitting, look-ahead, warm-up.
    """
    gates = (
        _costs(rules, about),
        _plateau(rules, about),
        _pbo(rules, repeated, root),
        _lookahead(rules, repeated),
        _warmup(rules, repeated),
    )
    return tuple(gate for gate in gates if gate is not None)


def _costs(rules: Promotion, about: Subject) -> Gate | None:
    if rules.min_doubled_costs_sharpe is None:
        return None
    doubled = stress.costs(about, (2.0,), lambda: None)[0]
    return at_least(
        "doubled_costs_sharpe",
        doubled.sharpe,
        rules.min_doubled_costs_sharpe,
        f"net {figure(doubled.net_pnl_usd, ',.0f')} USD at twice the costs",
        about.metrics["sessions"],
    )


def _plateau(rules: Promotion, about: Subject) -> Gate | None:
    if rules.min_plateau_frac is None:
        return None
    around = neighbourhood.plateau(about, lambda: None)
    centre = annual_text("sharpe", around.centre, about.metrics["sessions"])
    means = (
        f"lower quartile of {many(len(around.neighbours), 'neighbour')} over a Sharpe of {centre}"
    )
    means = around.undefined or means
    return at_least("plateau_frac", around.share_of_centre(QUANTILE), rules.min_plateau_frac, means)


def _pbo(rules: Promotion, repeated: backtest_run.Replayed, root: Path) -> Gate | None:
    """Over all that the trial ledger holds of the strategy on its market and on the very sessions
    of the run.
    """
    if rules.max_pbo is None:
        return None
    trials = trial_ledger.distinct(
        trial_ledger.rows(root, backtest_run.trial_pool(repeated.config), returns=True)
    )
    days, returns = trial_ledger.matrix(trials)
    own = np.isin(days, repeated.bars.session)
    whole = returns[own][:, ~np.isnan(returns[own]).any(axis=0)]
    count = whole.shape[1]
    if count < FEWEST_TRIALS:
        return not_asked(
            "pbo",
            math.nan,
            f"a rank needs {FEWEST_TRIALS} trials on these sessions, the ledger has {count}",
        )
    means = (
        f"how often the best of {count} trials on half of the sessions is below the median on the"
        " other half"
    )
    return at_most("pbo", overfitting(whole).pbo, rules.max_pbo, means)


def _lookahead(rules: Promotion, repeated: backtest_run.Replayed) -> Gate | None:
    if rules.max_biased_rows is None:
        return None
    bias = lookahead.lookahead(repeated.config, repeated.bars)
    rows = (
        bias.biased_entry_signals
        + bias.biased_exit_signals
        + bias.biased_targets
        + bias.biased_orders
    )
    unchanged = (
        f"the future cut off at {bias.cuts} rows, and at {bias.windows} in short parts, changes"
        " nothing before"
    )
    means = bias.first or unchanged
    return at_most("lookahead", max(rows, int(bias.has_bias)), rules.max_biased_rows, means)


def _warmup(rules: Promotion, repeated: backtest_run.Replayed) -> Gate | None:
    if rules.max_warmup_percent is None:
        return None
    try:
        memory = memory_at(build(repeated.config.strategy), repeated.bars.interval)
        deviation = lookahead.warmup(repeated.config, repeated.bars, lengths=(memory,))
    except DataError as error:
        return at_most("warmup", math.nan, rules.max_warmup_percent, error.message)
    deviations = zip(deviation.lengths, deviation.deviation_percent["signal"], strict=True)
    worst = max(math.inf if math.isnan(d) else abs(d) for _, d in deviations)
    means = (
        "percent of a position that the signal deviates after its declared"
        f" {deviation.memory} bars, at {deviation.samples} rows"
    )
    return at_most("warmup", worst, rules.max_warmup_percent, means)
