"""The answers of a validation as the plain data of its page."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from mcl.base.words import UNDEFINED, figure, many
from mcl.data.data_note import data_note
from mcl.data.fence import no_holdout
from mcl.metrics import performance as perf
from mcl.metrics.overfit import min_backtest_years, n_effective
from mcl.report.format import annual_text, number, p_text, too_short
from mcl.report.validation import EquityCurve, Judged, LineSeries, ValidationView
from mcl.report.walk_forward import FoldOutcome, Period
from mcl.tracking import backtest_run, urls
from mcl.validation import stress, verdict
from mcl.validation.checks import Answers, path_sharpes
from mcl.validation.verdict import Row
from mcl.validation.walk_forward import Walked


def notes(a: Answers) -> list[str]:
    """Say what a reader must know before the rows: too short a time, an end of all trading, no
    hold-out.
    """
    about = a.subject
    fence = "" if about.run.data.holdout_start else no_holdout(about.bars)
    halt = backtest_run.halt(about.result, about.run)
    return [s for s in (too_short(about.metrics["sessions"]), halt, fence) if s]


def view(a: Answers, rows: list[Row], run_id: str, choice: str = "") -> ValidationView:
    """Return the plain data of the page; `choice` says why this run of a search."""
    about, own = a.subject, a.subject.metrics
    days = _days(about.result.session_returns.index)
    counted = many(a.tally.count, "trial")
    looked = f"hold-out looked at {a.look.number}×" if a.look.number else "hold-out not looked at"
    return ValidationView(
        title=about.stored.name,
        lead=f"run {about.stored.run_id} · validation {run_id} · {counted} · {looked}",
        level=verdict.overall(rows),
        sentence=" ".join(filter(None, (verdict.sentence(rows), *notes(a), choice))),
        data_note=data_note(about.bars),
        rows=[Judged(r.label, r.value, r.rule, r.level, r.meaning, r.text) for r in rows],
        cards=[
            (
                "Sharpe",
                annual_text("sharpe", own["sharpe"], own["sessions"]),
                _interval(own),
            ),
            (
                "Deflated Sharpe",
                number(a.luck.deflated, "percent"),
                f"best by luck {_ratio_text(a.luck.best_by_luck, own['sessions'])}, {counted}",
            ),
            (
                "Walk-forward",
                _ratio_text(a.anchored.sharpe, len(a.anchored.returns))
                if a.anchored
                else UNDEFINED,
                "anchored, out of sample",
            ),
            ("Hold-out", _ratio_text(a.look.sharpe, a.look.sessions), looked),
            (
                "PBO",
                figure(a.pbo.pbo, ".0%"),
                "probability of overfitting",
            ),
        ],
        curves=_curves(a, days),
        band=(
            (days, a.bands.low, a.bands.median, a.bands.high)
            if len(a.bands.low) == len(days)
            else None
        ),
        paths=() if too_short(own["sessions"]) else path_sharpes(a),
        logits=a.pbo.logits,
        neighbours=[
            LineSeries(_words(point), ratio, math.nan, math.nan, sessions=own["sessions"])
            for point, ratio in a.plateau.neighbours
        ],
        drops=[
            (_short(key), value, _ratio_text(value, own["sessions"]))
            for key, value in a.plateau.drop.items()
        ],
        cases=[
            (name, [_case(c, own["sessions"]) for c in cases])
            for name, cases in (("Costs", a.costs), ("Delay", a.delays), ("Roll rules", a.rolls))
        ],
        regimes=[
            (kind, [_regime(r) for r in a.regimes if r.kind == kind])
            for kind in dict.fromkeys(r.kind for r in a.regimes)
        ],
        folds=[
            (name, _folds(w, days, about.result.capital_usd))
            for name, w in (("Anchored folds", a.anchored), ("Rolling folds", a.rolling))
            if w
        ],
        facts=_facts(a),
        links=[
            urls.run(run_id, "Validation in MLflow"),
            urls.run(
                about.stored.run_id, "The run that was questioned", about.stored.experiment_id
            ),
        ],
    )


def _interval(own: dict[str, float]) -> str:
    low, high = own["sharpe_low"], own["sharpe_high"]
    if math.isnan(low) or math.isnan(high) or too_short(own["sessions"]):
        return many(own["sessions"], "session")
    return f"95 % bootstrap [{number(low, 'ratio')}, {number(high, 'ratio')}]"


def _curves(a: Answers, days: list[str]) -> list[EquityCurve]:
    own = a.subject.result.session_returns.to_numpy()
    curves = [EquityCurve("The run", days, 1 + np.cumsum(own))]
    for name, walked, colour in (
        ("Walk-forward, anchored", a.anchored, "@ink"),
        ("Walk-forward, rolling", a.rolling, "@grey"),
    ):
        if walked is not None:
            before = 1 + float(own[: walked.sessions[0]].sum())
            curves.append(
                EquityCurve(
                    name,
                    [days[i] for i in walked.sessions],
                    before + np.cumsum(walked.returns),
                    colour,
                    "dash",
                )
            )
    return curves


def _folds(walked: Walked, days: list[str], capital_usd: float) -> list[FoldOutcome]:
    def period(rows: Any, returns: Any) -> Period:
        return Period(
            first=days[rows[0]],
            last=days[rows[-1]],
            sessions=float(len(returns)),
            sharpe=perf.sharpe(returns),
            net_pnl_usd=float(returns.sum()) * capital_usd,
        )

    parts = zip(walked.splits, walked.chosen, walked.trained, walked.tested, strict=True)
    return [
        FoldOutcome(number, period(split.train, before), period(split.test, after), point)
        for number, (split, point, before, after) in enumerate(parts, 1)
    ]


def _facts(a: Answers) -> list[tuple[str, Any]]:
    m = perf.moments(a.subject.result.session_returns)
    effective, needed = (
        n_effective(a.sample.returns),
        min_backtest_years(a.tally.count, a.subject.metrics["sharpe"]),
    )
    return [
        ("Deflated Sharpe", f"{number(a.luck.deflated, 'percent')}, {a.luck.sentence}"),
        (
            "Best Sharpe by luck alone",
            _ratio_text(a.luck.best_by_luck, a.subject.metrics["sessions"]),
        ),
        ("Years below which so many trials show this Sharpe by luck (MinBTL)", figure(needed)),
        (
            "Configurations sampled",
            f"{len(a.sample.points)}, as good as {figure(effective, '.1f')} independent ones"
            if len(a.sample.points) > 1
            else str(len(a.sample.points)),
        ),
        ("Slope of out-of-sample on in-sample Sharpe", figure(a.pbo.slope)),
        (
            "SPA p-values, lower / consistent / upper",
            " / ".join(
                p_text(p) for p in (a.superior.lower, a.superior.consistent, a.superior.upper)
            ),
        ),
        ("Skew and kurtosis of session returns", f"{figure(m.skew)}, {figure(m.kurtosis)}"),
        (
            "Drawdown of resampled sessions, median / worst of twenty",
            _deep(a.bands.drawdown_quantile(0.5), a.bands.drawdown_quantile(0.95)),
        ),
        (
            "Drawdown of reshuffled trades, median / worst of twenty",
            _deep(a.shuffled.drawdown_quantile(0.5), a.shuffled.drawdown_quantile(0.95)),
        ),
        (
            "Break-even slippage",
            _break_even(stress.break_even_ticks(a.subject.result)),
        ),
    ]


def _deep(median: float, worst: float) -> str:
    return f"{figure(median, '.1%')} / {figure(worst, '.1%')}"


def _break_even(ticks: float) -> str:
    return f"{ticks:.2f} ticks per contract and side" if math.isfinite(ticks) else "nothing traded"


def _ratio_text(ratio: float, sessions: float) -> str:
    return annual_text("sharpe", ratio, sessions)


def _case(case: stress.Case, sessions: float) -> LineSeries:
    return LineSeries(case.name, case.sharpe, case.net_pnl_usd, case.trades, case.note, sessions)


def _regime(regime: stress.Regime) -> LineSeries:
    count = float(regime.sessions)
    return LineSeries(regime.name, regime.sharpe, regime.net_pnl_usd, count, sessions=count)


def _words(point: dict[str, Any]) -> str:
    return " ".join(
        f"{_short(key)}={value:g}" if isinstance(value, float) else f"{_short(key)}={value}"
        for key, value in point.items()
    )


def _short(key: str) -> str:
    return key.removeprefix("strategy.").removeprefix("risk.")


def _days(index: Any) -> list[str]:
    return [str(day) for day in pd.DatetimeIndex(index).strftime("%Y-%m-%d")]
