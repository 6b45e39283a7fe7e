"""The answers of a validation as the plain data of its page."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from mcl.base.words import many
from mcl.data.data_note import data_note
from mcl.metrics import performance as perf
from mcl.metrics.overfit import min_backtest_years, n_effective
from mcl.report.format import number, p_text
from mcl.report.validation import EquityCurve, Judged, LineSeries, ValidationView
from mcl.tracking import urls
from mcl.validation import stress, verdict
from mcl.validation.checks import Answers, path_sharpes
from mcl.validation.verdict import Row
from mcl.validation.walk_forward import Walked


def view(a: Answers, rows: list[Row], run_id: str) -> ValidationView:
    about, own = a.subject, a.subject.metrics
    days = _days(about.result.session_returns.index)
    counted = many(a.tally.count, "trial")
    looked = f"hold-out looked at {a.look.number}×" if a.look.number else "hold-out not looked at"
    return ValidationView(
        title=about.stored.name,
        lead=f"run {about.stored.run_id} · validation {run_id} · {counted} · {looked}",
        level=verdict.overall(rows),
        sentence=verdict.sentence(rows),
        data_note=data_note(about.bars),
        rows=[Judged(r.label, r.value, r.rule, r.level, r.meaning) for r in rows],
        cards=[
            (
                "Sharpe",
                f"{own['sharpe']:.2f}",
                f"95 % bootstrap [{own['sharpe_low']:.2f}, {own['sharpe_high']:.2f}]",
            ),
            (
                "Deflated Sharpe",
                number(a.luck.deflated, "percent"),
                f"best by luck {number(a.luck.best_by_luck, 'ratio')}, {counted}",
            ),
            (
                "Walk-forward",
                f"{a.anchored.sharpe:.2f}" if a.anchored else "n/a",
                "anchored, out of sample",
            ),
            ("Hold-out", "n/a" if math.isnan(a.look.sharpe) else f"{a.look.sharpe:.2f}", looked),
            (
                "PBO",
                "n/a" if math.isnan(a.pbo.pbo) else f"{a.pbo.pbo:.0%}",
                "probability of overfitting",
            ),
        ],
        curves=_curves(a, days),
        band=(
            (days, a.bands.low, a.bands.median, a.bands.high)
            if len(a.bands.low) == len(days)
            else None
        ),
        paths=path_sharpes(a),
        logits=a.pbo.logits,
        neighbours=[
            LineSeries(_words(point), ratio, math.nan, math.nan)
            for point, ratio in a.plateau.neighbours
        ],
        drops=[(_short(key), value) for key, value in a.plateau.drop.items()],
        cases=[
            (name, [_case(c) for c in cases])
            for name, cases in (("Costs", a.costs), ("Delay", a.delays), ("Roll rules", a.rolls))
        ],
        regimes=[
            (kind, [_regime(r) for r in a.regimes if r.kind == kind])
            for kind in dict.fromkeys(r.kind for r in a.regimes)
        ],
        folds=[
            (name, _folds(w, days))
            for name, w in (("Anchored folds", a.anchored), ("Rolling folds", a.rolling))
            if w
        ],
        facts=_facts(a),
        links=[
            urls.run(run_id, "Validation in MLflow"),
            urls.run(about.stored.run_id, "The run that was questioned"),
        ],
    )


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


def _folds(walked: Walked, days: list[str]) -> list[list[str]]:
    size = len(walked.sessions) // len(walked.chosen)
    rows = []
    for k, (point, before, after) in enumerate(
        zip(walked.chosen, walked.in_sample, walked.per_fold, strict=True)
    ):
        tested = walked.sessions[k * size : (k + 1) * size]
        rows.append(
            [days[tested[0]], days[tested[-1]], _words(point), f"{before:.2f}", f"{after:.2f}"]
        )
    return rows


def _facts(a: Answers) -> list[tuple[str, Any]]:
    m = perf.moments(a.subject.result.session_returns)
    effective, needed = (
        n_effective(a.sample.returns),
        min_backtest_years(a.tally.count, a.subject.metrics["sharpe"]),
    )
    return [
        ("Deflated Sharpe", f"{number(a.luck.deflated, 'percent')}, {a.luck.sentence}"),
        ("Best Sharpe by luck alone", number(a.luck.best_by_luck, "ratio")),
        ("Years below which so many trials show this Sharpe by luck (MinBTL)", f"{needed:.2f}"),
        (
            "Configurations sampled",
            f"{len(a.sample.points)}, as good as {effective:.1f} independent ones",
        ),
        ("Slope of out-of-sample on in-sample Sharpe", f"{a.pbo.slope:.2f}"),
        (
            "SPA p-values, lower / consistent / upper",
            " / ".join(
                p_text(p) for p in (a.superior.lower, a.superior.consistent, a.superior.upper)
            ),
        ),
        ("Skew and kurtosis of session returns", f"{m.skew:.2f}, {m.kurtosis:.2f}"),
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
            f"{stress.break_even_ticks(a.subject.result):.2f} ticks per contract and side",
        ),
    ]


def _deep(median: float, worst: float) -> str:
    return f"{median:.1%} / {worst:.1%}"


def _case(case: stress.Case) -> LineSeries:
    return LineSeries(case.name, case.sharpe, case.net_pnl_usd, case.trades, case.note)


def _regime(regime: stress.Regime) -> LineSeries:
    return LineSeries(regime.name, regime.sharpe, regime.net_pnl_usd, float(regime.sessions))


def _words(point: dict[str, Any]) -> str:
    return " ".join(
        f"{_short(key)}={value:g}" if isinstance(value, float) else f"{_short(key)}={value}"
        for key, value in point.items()
    )


def _short(key: str) -> str:
    return key.removeprefix("strategy.").removeprefix("risk.")


def _days(index: Any) -> list[str]:
    return [str(day) for day in pd.DatetimeIndex(index).strftime("%Y-%m-%d")]
