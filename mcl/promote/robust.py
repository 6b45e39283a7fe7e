"""Gates that simulate again: they are off (null) unless a configuration asks for them."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pandas as pd

from mcl import schema, trials
from mcl.metrics.cscv import overfitting
from mcl.promote.gates import Gate, at_least, at_most
from mcl.tracking import Store, StoredRun
from mcl.validate import plateau, stress
from mcl.validate.subject import Subject, subject

FEWEST_TRIALS = 10  # below, a rank among them says nothing
QUANTILE = 0.25


def evaluate(rules: schema.Promotion, stored: StoredRun, store: Store, root: Path) -> tuple[Gate, ...]:
    """The configured ones among: Sharpe at twice the costs, plateau, probability of backtest overfitting."""
    about = subject(stored.run_id, store, root) if _simulated(rules) else None
    found = (_costs(rules, about), _plateau(rules, about), _pbo(rules, stored, store))
    return tuple(gate for gate in found if gate is not None)


def _simulated(rules: schema.Promotion) -> bool:
    return rules.min_doubled_costs_sharpe is not None or rules.min_plateau_frac is not None


def _costs(rules: schema.Promotion, about: Subject | None) -> Gate | None:
    if about is None or rules.min_doubled_costs_sharpe is None:
        return None
    doubled = stress.costs(about, (2.0,), lambda: None)[0]
    return at_least(
        "doubled_costs_sharpe", doubled.sharpe, rules.min_doubled_costs_sharpe, f"net {doubled.net_pnl_usd:,.0f} USD at twice the costs"
    )


def _plateau(rules: schema.Promotion, about: Subject | None) -> Gate | None:
    if about is None or rules.min_plateau_frac is None:
        return None
    around = plateau.plateau(about, lambda: None)
    means = f"lower quartile of {len(around.neighbours)} neighbours over a Sharpe of {around.centre:.2f}"
    return at_least("plateau_frac", around.kept(QUANTILE), rules.min_plateau_frac, means)


def _pbo(rules: schema.Promotion, stored: StoredRun, store: Store) -> Gate | None:
    if rules.max_pbo is None:
        return None
    parent = store.run(stored.parent) if stored.parent else None
    if parent is None or not (parent.artifacts / "session_returns.parquet").is_file():
        return at_most("pbo", math.nan, rules.max_pbo, "the run comes from no search")
    _, returns = trials.matrix(pd.read_parquet(io.BytesIO(parent.file("session_returns.parquet"))))
    whole = returns[:, ~np.isnan(returns).any(axis=0)]
    value = overfitting(whole).pbo if whole.shape[1] >= FEWEST_TRIALS else math.nan
    return at_most("pbo", value, rules.max_pbo, f"probability of overfitting over {whole.shape[1]} trials of its search")
