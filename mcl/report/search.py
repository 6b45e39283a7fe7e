"""A search as the pages see it: its trials, which of them have a score, and how parameters and
values are named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mcl.report.format import metric, number, scalar

MOST_LEVELS = 32  # a parameter with more distinct values is cut into BINS quantile bins
BINS = 12


@dataclass(frozen=True)
class SearchView:
    """The trials in order, one row each; `parameters` are column names. Scored means COMPLETE with
    a finite metric.
    """

    trials: pd.DataFrame
    metric: str
    maximize: bool
    parameters: tuple[str, ...]

    @cached_property
    def scored(self) -> pd.DataFrame:
        complete = self.trials["state"].astype(str).str.upper() == "COMPLETE"
        values = (
            pd.to_numeric(self.trials[self.metric], errors="coerce")
            if self.metric in self.trials
            else pd.Series(math.nan, self.trials.index)
        )
        scored: pd.DataFrame = self.trials[complete & np.isfinite(values)]
        return scored

    @cached_property
    def ranked(self) -> pd.DataFrame:
        return self.scored.sort_values(
            [self.metric, "number"], ascending=[not self.maximize, True], kind="stable"
        )

    @cached_property
    def levels(self) -> dict[str, pd.Series]:
        """The level of every scored trial on each parameter."""
        return {name: levels(self.scored[name]) for name in self.parameters}

    @cached_property
    def importance(self) -> pd.Series:
        """Share of the metric's variance that each parameter's own levels explain (eta squared, no
        interactions), largest first.
        """
        shares = {
            name: explained(levels, self.scored[self.metric])
            for name, levels in self.levels.items()
        }
        return pd.Series(shares, dtype=float).sort_values(ascending=False, kind="stable")

    def text(self, value: float) -> str:
        return number(value, metric(self.metric).style)

    @property
    def label(self) -> str:
        return metric(self.metric).label.partition(" [")[0]


def short(name: str) -> str:
    return name.removeprefix("params.").removeprefix("strategy.").removeprefix("risk.")


def value_of(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else scalar(value)


def levels(values: pd.Series) -> pd.Series:
    """The values as ordered categories; many numeric ones as quantile bins named "low – high"."""
    if (
        pd.api.types.is_numeric_dtype(values)
        and not pd.api.types.is_bool_dtype(values)
        and values.nunique() > MOST_LEVELS
    ):
        bins = pd.qcut(values, BINS, duplicates="drop").cat.remove_unused_categories()
        groups = values.groupby(bins, observed=True)
        spans = zip(groups.min().index, groups.min(), groups.max(), strict=True)
        names = {
            b: f"{low:.4g}" if low == high else f"{low:.4g} – {high:.4g}" for b, low, high in spans
        }
        if len(set(names.values())) < len(names):  # bins closer than four digits
            names = {b: str(b) for b in names}
        return bins.cat.rename_categories(names)
    ordered = sorted(values.dropna().unique(), key=lambda v: (isinstance(v, str), v))
    # the axis did not exist
    named = [
        None if missing else value_of(v) for v, missing in zip(values, values.isna(), strict=True)
    ]
    return pd.Series(
        pd.Categorical(named, [value_of(v) for v in ordered], ordered=True), values.index
    )


def explained(levels: pd.Series, values: pd.Series) -> float:
    total = float(((values - values.mean()) ** 2).sum())
    groups = values.groupby(levels, observed=True)
    between = float((groups.size() * (groups.mean() - values.mean()) ** 2).sum())
    return between / total if total > 0 else 0.0
