"""Red flags of one run: at most ten, the most serious first, each with its evidence
and what to do about it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcl.base import progress
from mcl.base.words import figure, many
from mcl.data.fence import no_holdout
from mcl.metrics import performance as perf
from mcl.metrics.overfit import min_backtest_years, min_track_record
from mcl.metrics.trades import closed, net
from mcl.report.format import CREDIBLE, number, too_short
from mcl.tracking import backtest_run, trial_ledger
from mcl.tracking.project import Project
from mcl.validation import stress
from mcl.validation.neighbourhood import edges
from mcl.validation.subject import Subject, subject

MOST = 10
FEW_TRADES = 30
INCREDIBLE_SHARPE = 5.0
GAP_SESSIONS = 6  # calendar days between sessions: more than a long weekend with holidays


@dataclass(frozen=True)
class RedFlag:
    """`weight` from 0 to 1: how much of the result it could undo. `sample` says what was looked
    at.
    """

    name: str
    weight: float
    text: str
    sample: str
    advice: str


def critique(run_id: str, *, project: Project) -> tuple[Subject, list[RedFlag]]:
    """The findings about a run, or about the best run of a search, by weight; none when nothing is
    suspicious.
    """
    about = subject(run_id, project)
    progress.begin("looking for red flags")
    flags = [
        *_stopped(about),
        *_trades(about),
        *_concentration(about),
        *_luck(about, project.root),
        *_holdout(about, project.root),
        *_costs(about),
        *_timing(about),
        *_setting(about),
        *_data(about),
    ]
    return about, sorted(flags, key=lambda f: -f.weight)[:MOST]


def _stopped(about: Subject) -> Iterator[RedFlag]:
    text = backtest_run.halt(about.result, about.run)
    if not text:
        return
    yield RedFlag(
        "trading stopped for good",
        0.99,
        text,
        many(len(about.result.session_returns), "session"),
        "judge the time before it, risk less, or raise the limit and say why",
    )


def _trades(about: Subject) -> Iterator[RedFlag]:
    pnl = net(closed(about.result))
    sample = many(len(pnl), "closed trade")
    if len(pnl) < FEW_TRADES:
        weight = 1.0 - len(pnl) / FEW_TRADES * 0.5
        yield RedFlag(
            "few trades",
            weight,
            f"Only {many(len(pnl), 'trade')} {'was' if len(pnl) == 1 else 'were'} closed; a mean of"
            " so few says little.",
            sample,
            "use more data or a shorter horizon",
        )
    total = float(pnl.sum())
    if total > 0 and len(pnl) > 1:
        best = np.sort(pnl)[::-1]
        if best[0] > 0.5 * total:
            text = (
                f"One trade earned {best[0]:,.0f} USD of {total:,.0f} USD, {best[0] / total:.0%}."
            )
            yield RedFlag(
                "one trade carries the profit",
                min(1.0, best[0] / total),
                text,
                sample,
                "look at that trade; judge the run without it",
            )
        few = max(1, math.ceil(0.05 * len(pnl)))
        if few > 1 and best[:few].sum() >= total:
            text = f"Without its best {few} trades (one in twenty) the run loses money."
            yield RedFlag(
                "a few trades carry the profit",
                0.6,
                text,
                sample,
                "expect long stretches without profit; check that the rule cannot miss them",
            )


def _concentration(about: Subject) -> Iterator[RedFlag]:
    regimes = stress.regimes(about.result)
    for kind, limit, name in (
        ("session part", 0.95, "all profit in one part of the session"),
        ("volatility", 0.9, "result from a single regime"),
    ):
        share, where = stress.concentration(regimes, kind)
        if share > limit:
            losing = (
                ", ".join(r.name for r in regimes if r.kind == kind and r.net_pnl_usd < 0)
                or "none of the others"
            )
            text = f"{share:.0%} of the net profit comes from {where}; {losing} lost money."
            counted = sum(r.sessions for r in regimes if r.kind == kind)
            sample = f"{many(counted, 'session')} by {kind}"
            yield RedFlag(
                name,
                min(0.9, 0.45 * share),
                text,
                sample,
                f"say why the edge should live in {where}, or trade only there and count that as a"
                " trial",
            )
    years = [r for r in regimes if r.kind == "year" and r.sessions > 60]
    if (
        len(years) > 1
        and about.result.net_pnl_usd > 0
        and sum(r.net_pnl_usd > 0 for r in years) == 1
    ):
        text = (
            f"Of {len(years)} years only {next(r.name for r in years if r.net_pnl_usd > 0)} made"
            " money."
        )
        yield RedFlag(
            "one good year",
            0.7,
            text,
            many(len(years), "year"),
            "run it on more years before believing it",
        )


def _luck(about: Subject, root: Path) -> Iterator[RedFlag]:
    own, m = about.metrics, perf.moments(about.result.session_returns)
    tally = trial_ledger.tally(
        root,
        backtest_run.trial_pool(about.run),
        {trial_ledger.stored_identity(about.stored.tags): m.sharpe},
    )
    sample = f"{many(m.count, 'session')}, {many(tally.count, 'trial')} in the ledger"
    luck = tally.luck(own)
    deflated = luck.deflated
    if short := too_short(m.count):
        yield RedFlag("too few sessions", 0.98, short, sample, "use more data")
        return
    if math.isnan(own["sharpe"]):
        text = "There is no Sharpe ratio: the equity never moved, or there is one session."
        yield RedFlag("no result", 0.97, text, sample, "trade it on more data")
        return
    if own["sharpe"] <= 0:
        text = f"A Sharpe of {own['sharpe']:.2f} is a loss: there is no edge to confirm."
        yield RedFlag(
            "it loses money",
            0.97,
            text,
            sample,
            "drop it, or trade the idea differently and count that as a trial",
        )
    elif not deflated >= CREDIBLE:
        text = (
            f"The probability that the Sharpe of {own['sharpe']:.2f} is more than luck is"
            f" {number(deflated, 'percent')}, {luck.sentence}."
            if math.isfinite(deflated)
            else f"The Sharpe of {own['sharpe']:.2f} is of too few sessions to tell it from luck."
        )
        yield RedFlag(
            "within luck",
            0.95 if math.isnan(deflated) else min(0.95, 1.05 - deflated),
            text,
            sample,
            "judge it on the hold-out once, or collect more sessions; do not search on",
        )
    needed = min_track_record(m.sharpe, m.skew, m.kurtosis)
    if math.isfinite(needed) and needed > m.count:
        text = (
            f"{needed:,.0f} sessions are needed until a Sharpe of {own['sharpe']:.2f} is above zero"
            f" with 95 %; there are {m.count}."
        )
        yield RedFlag("sample too short", 0.6, text, sample, "collect the missing sessions")
    years = min_backtest_years(tally.count, own["sharpe"])
    if tally.count > 1 and years > perf.years(m.count):
        available = perf.years(m.count)
        text = (
            f"{many(tally.count, 'trial')} without any edge show such a Sharpe by luck on less than"
            f" {years:.1f} years; there are {available:.1f}."
        )
        yield RedFlag(
            "too many trials for the history",
            0.5,
            text,
            sample,
            "use a longer history or try fewer things",
        )
    trades = own["trades"]
    if own["sharpe"] > INCREDIBLE_SHARPE or (0 < trades < m.count / 20 and own["sharpe"] > 3):
        text = (
            f"A Sharpe of {own['sharpe']:.1f} from {many(trades, 'trade')} in"
            f" {many(m.count, 'session')} is rarely real."
        )
        yield RedFlag(
            "Sharpe impossible for the trade count",
            0.85,
            text,
            sample,
            "look for look-ahead, wrong costs or a marking error first",
        )


def _holdout(about: Subject, root: Path) -> Iterator[RedFlag]:
    fence = about.run.data.holdout_start
    sample = many(len(about.result.session_returns), "session")
    if fence is None:
        yield RedFlag(
            "no hold-out",
            0.55,
            no_holdout(about.bars),
            sample,
            "keep the last sessions unseen before anything else is tried",
        )
        return
    peeped = trial_ledger.beyond(root, backtest_run.trial_pool(about.run), fence)
    if peeped:
        text = (
            f"{many(peeped, 'trial')} on this market saw sessions from {fence} on: its hold-out is"
            " no longer unseen."
        )
        yield RedFlag(
            "hold-out was seen",
            0.65,
            text,
            sample,
            "move data.holdout_start to sessions that nothing has touched",
        )


def _costs(about: Subject) -> Iterator[RedFlag]:
    limit, assumed = stress.break_even_ticks(about.result), about.run.costs.slippage_ticks
    sample = many(len(about.result.fills), "fill")
    if about.result.net_pnl_usd > 0 and limit - assumed < 0.5 * max(assumed, 1.0):
        text = (
            f"The edge is gone at {limit:.2f} ticks of slippage a side; {assumed:g} are assumed,"
            " give or take a half."
        )
        yield RedFlag(
            "edge smaller than its cost uncertainty",
            0.8,
            text,
            sample,
            "measure slippage (mcl data costs), trade less often, or stop",
        )
    if len(about.result.fills) and not assumed and not about.run.costs.commission_usd:
        yield RedFlag(
            "no costs",
            0.9,
            "The run pays neither slippage nor commission.",
            sample,
            "costs=ib_tiered",
        )


def _timing(about: Subject) -> Iterator[RedFlag]:
    p = stress.timing(about.result)
    if p > 0.1:
        earned = about.result.net_pnl_usd
        clause = (
            "the profit is exposure, not timing"
            if earned > 0
            else "the loss is no bad luck in timing"
        )
        text = (
            f"The same positions at other times earn as much in {p:.0%} of all rotations: {clause}."
        )
        yield RedFlag(
            "timing without effect",
            min(0.8, 0.4 + p / 2),
            text,
            f"{len(about.bars):,} rotations",
            "compare with strategy=always_long",
        )
    late = stress.delays(about, (1,), lambda: None)[0]
    share = perf.ratio(late.sharpe, about.metrics["sharpe"])
    if about.metrics["sharpe"] > 0 and share < 0.3 and about.bars.interval != "session":
        text = (
            f"One bar later the Sharpe falls from {about.metrics['sharpe']:.2f} to"
            f" {figure(late.sharpe)}."
        )
        advice = (
            "check that the signal uses closed bars only; an edge of one bar is for machines nearer"
            " to the exchange"
        )
        yield RedFlag("look-ahead suspicion", 0.75, text, "one delayed run", advice)


def _setting(about: Subject) -> Iterator[RedFlag]:
    at = edges(about) if about.space else []
    if at:
        names = ", ".join(f"{key.removeprefix('strategy.')}={about.point[key]}" for key in at)
        text = f"{names} lies at the edge of the space that was searched."
        yield RedFlag(
            "parameter at the search edge",
            0.4,
            text,
            many(len(about.space), "searched parameter"),
            "widen the range; the best may lie outside, or nowhere",
        )


def _data(about: Subject) -> Iterator[RedFlag]:
    sessions = np.unique(about.bars.session)
    step = np.diff(sessions)
    gaps = np.flatnonzero(step > GAP_SESSIONS)
    if len(gaps):
        longest = int(gaps[np.argmax(step[gaps])])
        first = np.datetime64(int(sessions[longest]), "D")
        text = (
            f"{many(len(gaps), 'gap')} of more than {GAP_SESSIONS} days, the longest"
            f" {step[longest]} days after {first}."
        )
        yield RedFlag(
            "gaps in the data",
            min(0.7, 0.2 + 0.05 * len(gaps)),
            text,
            many(len(sessions), "session"),
            "mcl data check shows every gap",
        )
    counts = np.diff(
        np.append(np.flatnonzero(np.diff(about.bars.session, prepend=-1)), len(about.bars))
    )
    thin = int((counts < 0.25 * np.median(counts)).sum())
    if thin > max(3, 0.03 * len(sessions)):
        text = (
            f"{thin} of {many(len(sessions), 'session')} have less than a quarter of the usual"
            " bars."
        )
        yield RedFlag(
            "thin sessions",
            0.3,
            text,
            many(len(sessions), "session"),
            "mcl data check shows coverage; fills in such sessions are optimistic",
        )
