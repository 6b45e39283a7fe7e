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

from mcl.metrics.performance import Floats
from mcl.report.format import SHORT, annual_text, metric, scalar

THINNEST = 0.02  # of a numeric axis: the least half width of a level
TICK_ROOM = 0.06  # between two labels of it
MOST_LEVELS = 32  # a parameter with more distinct values is cut into BINS quantile bins
BINS = 12


@dataclass(frozen=True)
class ParameterAxis:
    """The places of a parameter's levels on a drawn axis, in their order.

    Numbers lie where they are, so that a grid of 5, 10 and 40 has a gap: each level reaches from
    its `low` to its `high`, and nothing was tried between them. `scale` is `linear`, `log` (places
    are logarithms to the base 10, where the levels lie more evenly then) or `category` (equal
    steps).
    """

    scale: str
    names: tuple[str, ...]
    places: Floats
    low: Floats
    high: Floats

    def bricks(self) -> tuple[list[float], list[int]]:
        """(edges, the level between each two of them, or -1 where nothing was tried)."""
        edges, inside = [float(self.low[0])], []
        for i in range(len(self.places)):
            if self.low[i] > edges[-1] and not math.isclose(self.low[i], edges[-1]):
                edges.append(float(self.low[i]))
                inside.append(-1)
            edges.append(float(self.high[i]))
            inside.append(i)
        return edges, inside

    def layout(self, title: str) -> dict[str, Any]:
        """The axis with the tested values as its labels, as many as have room."""
        room = TICK_ROOM * float(self.high[-1] - self.low[0])
        labelled: list[int] = []
        for i in range(len(self.places)):
            if not labelled or self.places[i] - self.places[labelled[-1]] >= room:
                labelled.append(i)
        return {
            "title": {"text": f"{title} (log scale)" if self.scale == "log" else title},
            "range": [float(self.low[0]), float(self.high[-1])],
            "tickvals": [float(self.places[i]) for i in labelled],
            "ticktext": [self.names[i] for i in labelled],
            "showgrid": False,
            "zeroline": False,
        }


@dataclass(frozen=True)
class SearchView:
    """The trials in order, one row each; `parameters` are column names. Scored means COMPLETE with
    a finite metric. `chosen` is the number of the trial that the search chose; its best without it.
    """

    trials: pd.DataFrame
    metric: str
    maximize: bool
    parameters: tuple[str, ...]
    chosen: int | None = None

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

    @cached_property
    def choice(self) -> pd.Series:
        """The row of the chosen trial, or of the best where the chosen one has no score."""
        rows = self.scored[self.scored["number"] == self.chosen]
        row: pd.Series = rows.iloc[0] if len(rows) else self.ranked.iloc[0]
        return row

    def row_of(self, trial: Any) -> int:
        """The place of a trial among the scored ones."""
        return int(np.flatnonzero(self.scored["number"] == trial["number"])[0])

    @cached_property
    def sessions(self) -> float:
        """The most sessions of a scored trial; NaN where the table does not say."""
        return float(self.scored["sessions"].max()) if "sessions" in self.scored else math.nan

    def axis(self, name: str) -> ParameterAxis:
        """The places of the levels of a parameter."""
        grouped = self.levels[name]
        names = tuple(str(level) for level in grouped.cat.categories)
        values = self.scored[name]
        if not numeric(values) or not names:
            steps = np.arange(len(names), dtype=np.float64)
            return ParameterAxis("category", names, steps, steps - 0.5, steps + 0.5)
        spans = values.astype(float).groupby(grouped, observed=True)
        first, last = (np.asarray(edge, np.float64) for edge in (spans.min(), spans.max()))
        return _numeric_axis(names, first, last)

    def text(self, value: float) -> str:
        return annual_text(self.metric, value, self.sessions)

    @property
    def brief(self) -> bool:
        """Whether the score is a figure per year of too few sessions to be shown."""
        return self.text(1.0) == SHORT

    @property
    def label(self) -> str:
        return metric(self.metric).label.partition(" [")[0]


def numeric(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _numeric_axis(names: tuple[str, ...], first: Floats, last: Floats) -> ParameterAxis:
    """Levels from `first` to `last` each, increasing; a single value has both equal."""
    scale = "linear"
    if len(first) > 2 and first[0] > 0 and _evenness(np.log10(first)) > _evenness(first):
        scale, first, last = "log", np.log10(first), np.log10(last)
    places = (first + last) / 2
    if len(places) == 1:
        half = np.array([0.5])
        return ParameterAxis(scale, names, places, places - half, places + half)
    between = first[1:] - last[:-1]
    thin = THINNEST * float(last[-1] - first[0])
    room = max(float(between.min()) / 2, thin)
    # spans of many values touch: all of the axis was tried
    reach = between / 2 if (last > first).any() else np.minimum(between / 2, room)
    low = first - np.concatenate([[min(room, reach[0])], reach])
    high = last + np.concatenate([reach, [min(room, reach[-1])]])
    return ParameterAxis(scale, names, places, low, high)


def _evenness(places: Floats) -> float:
    """The smallest step as a share of the whole: the larger, the better each level is seen."""
    return float(np.diff(places).min() / (places[-1] - places[0]))


def short(name: str) -> str:
    return name.removeprefix("params.").removeprefix("strategy.").removeprefix("risk.")


def value_of(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else scalar(value)


def levels(values: pd.Series) -> pd.Series:
    """The values as ordered categories; many numeric ones as quantile bins named "low – high"."""
    if numeric(values) and values.nunique() > MOST_LEVELS:
        bins = pd.qcut(values, BINS, duplicates="drop").cat.remove_unused_categories()
        groups = values.groupby(bins, observed=True)
        spans = zip(groups.min().index, groups.min(), groups.max(), strict=True)
        names = {
            b: f"{low:.4g}" if low == high else f"{low:.4g} – {high:.4g}" for b, low, high in spans
        }
        if len(set(names.values())) < len(names):  # bins closer than four digits
            names = {b: str(b) for b in names}
        return bins.cat.rename_categories(names)
    ordered = sorted(values.dropna().unique().tolist(), key=lambda v: (isinstance(v, str), v))
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
