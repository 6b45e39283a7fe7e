"""The questions that are put to one run, and the number behind every rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mcl.base import progress
from mcl.base.words import figure, many
from mcl.config import schema
from mcl.metrics import performance as perf
from mcl.metrics.bootstrap import Bands, resampled, reshuffled
from mcl.metrics.cscv import Overfitting, overfitting
from mcl.metrics.multiple import Superior, benjamini_hochberg, holm, spa, stepm
from mcl.metrics.overfit import Luck, min_backtest_years
from mcl.metrics.performance import Floats
from mcl.metrics.trades import closed, net
from mcl.report.format import annual_text, p_text, too_short
from mcl.tracking import backtest_run, trial_ledger
from mcl.tracking.trial_ledger import Tally
from mcl.validation import neighbourhood, stress, walk_forward
from mcl.validation.holdout import Look
from mcl.validation.subject import Subject
from mcl.validation.verdict import Number

POSITIONS_TOO_LONG = (
    "positions are held so long that nothing is left to choose on: validate.purge_positions=false"
)
P_VALUES = ("spa", "timing")  # of the rules
NO_SHARPE = "no Sharpe ratio: the equity never moved, or there is one session"
UNSEEN = Look(math.nan, math.nan, 0, 0, "", "left alone: validate.holdout=false")


@dataclass(frozen=True)
class Answers:
    """Everything that was found out about one run."""

    subject: Subject
    tally: Tally
    sample: walk_forward.Sample
    anchored: walk_forward.Walked | None
    rolling: walk_forward.Walked | None
    paths: Floats | None  # sessions × CPCV paths
    pbo: Overfitting
    superior: Superior
    beaters: int  # configurations that StepM calls better than nothing
    plateau: neighbourhood.Plateau
    costs: list[stress.Case]
    delays: list[stress.Case]
    rolls: list[stress.Case]
    regimes: list[stress.Regime]
    timing: float
    bands: Bands
    shuffled: Bands
    look: Look
    why_no_folds: str

    @cached_property
    def luck(self) -> Luck:
        return self.tally.luck(self.subject.metrics)


def ask(
    about: Subject, settings: schema.Validation, root: Path, look: Callable[[], Look]
) -> Answers:
    """All answers; the hold-out is looked at last, once, and only when `settings.holdout` allows
    it.
    """
    sessions = len(about.result.session_returns)
    why = walk_forward.fold_problem(settings, sessions)
    sample = walk_forward.sample(
        about, settings, progress.begin("configurations of the space", settings.budget)
    )
    around = neighbourhood.plateau(
        about, progress.begin("neighbourhood", neighbourhood.size(about))
    )
    tick = progress.begin(
        "costs and delays", len(settings.cost_factors) + len(settings.delays_bars)
    )
    costs, delays = (
        stress.costs(about, settings.cost_factors, tick),
        stress.delays(about, settings.delays_bars, tick),
    )
    rolls = stress.rolls(about, root)
    progress.begin("statistics")
    return Answers(
        subject=about,
        tally=trial_ledger.tally(
            root,
            backtest_run.trial_pool(about.run),
            {
                trial_ledger.stored_identity(about.stored.tags): perf.per_session(
                    about.metrics["sharpe"]
                )
            },
        ),
        sample=sample,
        anchored=None if why else walk_forward.walk_forward(sample, settings, anchored=True),
        rolling=None if why else walk_forward.walk_forward(sample, settings, anchored=False),
        paths=None if why else walk_forward.cpcv(sample, settings),
        pbo=overfitting(sample.returns, settings.blocks),
        superior=spa(sample.returns),
        beaters=len(stepm(sample.returns)),
        plateau=around,
        costs=costs,
        delays=delays,
        rolls=rolls,
        regimes=stress.regimes(about.result),
        timing=stress.timing(about.result),
        bands=resampled(about.result.session_returns),
        shuffled=reshuffled(net(closed(about.result)), about.result.capital_usd),
        look=look() if settings.holdout else UNSEEN,
        why_no_folds=why,
    )


def numbers(a: Answers, settings: schema.Validation) -> dict[str, Number]:
    """The number behind every rule, with what it means here."""
    own = a.subject.metrics
    return _adjusted(_luck(a, own) | _choosing(a) | _robustness(a, own, settings))


def _adjusted(numbers: dict[str, Number]) -> dict[str, Number]:
    """The p-values of one table are read together: each says what is left of it among all of
    them.
    """
    values = [numbers[name].value for name in P_VALUES]
    if sum(map(math.isfinite, values)) < 2:
        return numbers
    adjusted = {}
    for name, family, discovery in zip(
        P_VALUES, holm(values), benjamini_hochberg(values), strict=True
    ):
        if math.isfinite(family):
            together = (
                f"{p_text(family)} of all p-values here (Holm), {p_text(discovery)}"
                " (Benjamini-Hochberg)"
            )
            adjusted[name] = Number(numbers[name].value, f"{numbers[name].meaning}; {together}")
    return numbers | adjusted


def _long_enough(a: Answers, own: dict[str, float], years: float, needed: float) -> str:
    if math.isnan(own["sharpe"]):
        return NO_SHARPE
    if short := too_short(own["sessions"]):
        return short
    if not math.isfinite(needed):
        return (
            f"no history is long enough for a Sharpe of {own['sharpe']:.2f}; there are {years:.1f}"
            " years"
        )
    if a.tally.count == 1:
        return f"the first trial of this strategy on this market; there are {years:.1f} years"
    return (
        f"on less than {needed:.1f} years {a.tally.count} trials show such a Sharpe by luck; there"
        f" are {years:.1f}"
    )


def _interval(own: dict[str, float]) -> str:
    """Say between what the Sharpe ratio lies, or why nobody knows."""
    if math.isnan(own["sharpe"]):
        return NO_SHARPE
    if short := too_short(own["sessions"]):
        return short
    if math.isnan(own["sharpe_high"]):
        return f"too few sessions for an interval: {own['sessions']:.0f}"
    return f"Sharpe {own['sharpe']:.2f}, at most {own['sharpe_high']:.2f}"


def _luck(a: Answers, own: dict[str, float]) -> dict[str, Number]:
    years, needed = perf.years(own["sessions"]), min_backtest_years(a.tally.count, own["sharpe"])
    history = perf.ratio(years, needed)
    return {
        "deflated_sharpe": Number(a.luck.deflated, a.luck.sentence),
        "sharpe_low": Number(own["sharpe_low"], _interval(own), own["sessions"]),
        "history_ratio": Number(history, _long_enough(a, own, years, needed)),
        "timing": Number(a.timing, "share of rotations of the positions that earn as much"),
        "holdout": (
            Number(*a.look.highest(), a.look.sessions)
            if a.look.sessions
            else Number(math.nan, a.look.meaning)
        ),
        "drawdown": Number(
            -a.bands.drawdown_quantile(0.95),
            f"median {figure(-a.bands.drawdown_quantile(0.5), '.0%')}",
        ),
    }


def _choosing(a: Answers) -> dict[str, Number]:
    alone = (
        a.why_no_folds
        or "nothing to choose from: the strategy has no space, or one valid point of it"
    )
    walked = {"walk_forward_anchored": a.anchored, "walk_forward_rolling": a.rolling}
    walk_forward_numbers = {
        name: _walked(w) if w else Number(math.nan, alone) for name, w in walked.items()
    }
    ratios = path_sharpes(a)
    sessions = a.subject.metrics["sessions"]
    median = annual_text("sharpe", float(np.median(ratios)), sessions) if len(ratios) else ""
    lost = (
        Number(
            float(np.mean(ratios <= 0)),
            f"{many(len(ratios), 'path')}, median Sharpe {median}",
        )
        if len(ratios)
        else None
    )
    count = a.pbo.columns
    return walk_forward_numbers | {
        "cpcv_negative": lost or Number(math.nan, alone if a.paths is None else POSITIONS_TOO_LONG),
        "pbo": Number(
            a.pbo.pbo,
            (_chosen_in_sample(a.pbo) if count > 1 else alone),
        ),
        "spa": Number(
            a.superior.consistent,
            f"{a.beaters} of {many(len(a.sample.points), 'configuration')} with a profit that luck"
            " does not explain (StepM)",
        ),
    }


def _robustness(
    a: Answers, own: dict[str, float], settings: schema.Validation
) -> dict[str, Number]:
    doubled = next((c for c in a.costs if c.name == "costs × 2"), None)
    late = a.delays[0] if a.delays else None
    worst = min(
        (c for c in a.rolls if math.isfinite(c.sharpe)), key=lambda c: c.sharpe, default=None
    )
    share, where = stress.concentration(a.regimes, "volatility")
    assumed, limit = a.subject.run.costs.slippage_ticks, stress.break_even_ticks(a.subject.result)
    at_edge = ", ".join(a.plateau.edges) or "none"
    undefined = f", {a.plateau.undefined}" if a.plateau.undefined else ""
    lower = a.plateau.lower(settings.neighbourhood_quantile)
    around = (
        f"{many(len(a.plateau.neighbours), 'neighbour')}, lower quantile"
        f" {annual_text('sharpe', lower, own['sessions'])}{undefined}"
    )
    nothing = "nothing to move: no neighbour in the space"
    return {
        "costs_doubled": (
            Number(
                doubled.sharpe, f"net {figure(doubled.net_pnl_usd, ',.0f')} USD", own["sessions"]
            )
            if doubled
            else Number(math.nan, "not asked")
        ),
        "break_even": Number(
            perf.ratio(limit, assumed),
            f"nothing is left at {limit:.2f} ticks a side; {assumed:g} assumed"
            if math.isfinite(limit)
            else "nothing was traded",
        ),
        "plateau": Number(
            a.plateau.share_of_centre(settings.neighbourhood_quantile),
            around if a.plateau.neighbours else nothing,
        ),
        "edge": Number(
            float(len(a.plateau.edges)) if a.subject.space else math.nan,
            at_edge if a.subject.space else nothing,
        ),
        "delay": (
            Number(perf.ratio(late.sharpe, own["sharpe"]), late.note or late.name)
            if late
            else Number(math.nan, "not asked")
        ),
        "regime": Number(share, where or "no profit to share out"),
        "rolls": (
            Number(perf.ratio(worst.sharpe, own["sharpe"]), worst.name)
            if worst
            else Number(math.nan, "no other rule can be applied")
        ),
    }


def _walked(walked: walk_forward.Walked) -> Number:
    return Number(walked.sharpe, _efficiency(walked), len(walked.returns))


def _efficiency(walked: walk_forward.Walked) -> str:
    folds = many(len(walked.chosen), "fold")
    if math.isnan(walked.efficiency):
        return f"{folds}; no positive Sharpe in sample to compare with"
    return f"{folds}; {walked.efficiency:.0%} of the Sharpe in sample"


def _chosen_in_sample(pbo: Overfitting) -> str:
    configurations = many(pbo.columns, "configuration")
    if math.isnan(pbo.loss_frac):
        return f"{configurations}; no half of the sessions has a best one"
    return f"{configurations}; the best in sample loses out of sample in {pbo.loss_frac:.0%}"


def path_sharpes(a: Answers) -> Floats:
    """Of every path that has one."""
    ratios = [perf.sharpe(path) for path in a.paths.T] if a.paths is not None else []
    return np.array([ratio for ratio in ratios if math.isfinite(ratio)])
