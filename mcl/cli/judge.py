"""validate, critique, select, trials."""

from __future__ import annotations

import math
from argparse import Namespace
from typing import Any

from mcl import composition
from mcl.base import terminal
from mcl.base.errors import StoreError, nearest
from mcl.base.words import many
from mcl.data.data_note import data_note
from mcl.library.research import chosen, identified
from mcl.metrics.overfit import RULE
from mcl.metrics.performance import annual
from mcl.report.format import SHORT, too_short
from mcl.tracking import trial_ledger
from mcl.tracking.project import Project

LISTED = 10


def validate(args: Namespace) -> int:
    """0 when nothing says stop, 1 when something does."""
    from mcl.config import schema
    from mcl.validation import validate, verdict
    from mcl.validation.view import notes

    settings = composition.validate(
        schema.Validation,
        composition.compose("validate", args.overrides).raw["validate"],
        "validate",
    )
    run_id, choice = chosen(args.run_id, args.trial)
    if choice:
        terminal.say(choice)
    done = validate.validate(run_id, settings, project=Project.current(), choice=choice)
    data = {
        "run_id": done.run_id,
        "subject": done.subject_id,
        "choice": choice,
        "verdict": done.level,
        "rows": [vars(row) for row in done.rows],
        "notes": notes(done.answers),
        "trials": done.answers.tally.count,
        "deflated_sharpe": done.answers.luck.deflated,
        "best_by_luck": done.answers.luck.best_by_luck,
        "deflation": done.answers.luck.sentence,
        "holdout_looks": done.answers.look.number,
        "report": done.report,
    }
    terminal.answer(data, lambda: _validated(done))
    return 1 if done.level == verdict.STOP else 0


def _validated(done: Any) -> None:
    from mcl.validation import verdict
    from mcl.validation.view import notes

    rows = [[row.label, row.level, row.text, row.rule, row.meaning] for row in done.rows]
    terminal.table(
        f"{done.answers.subject.stored.name}: {done.level}",
        ["question", "verdict", "number", "rule", "meaning"],
        rows,
        left=5,
        least=["rule"],
    )
    for sentence in (*notes(done.answers), data_note(done.answers.subject.bars)):
        if sentence:
            terminal.say(sentence)
    terminal.say(verdict.sentence(done.rows))
    look = done.answers.look
    looked = f"hold-out looked at {look.number}×" if look.number else "hold-out not looked at"
    terminal.say(
        f"{many(done.answers.tally.count, 'trial')} counted · {looked} · run {done.run_id} · report"
        f" {done.report}"
    )


def critique(args: Namespace) -> int:
    from mcl.validation.critique import critique as examine

    run_id, choice = chosen(args.run_id, args.trial)
    if choice:
        terminal.say(choice)
    about, flags = examine(run_id, project=Project.current())
    data = {"run_id": about.stored.run_id, "choice": choice, "findings": [vars(f) for f in flags]}
    rows = [[f"{f.weight:.2f}", f.name, f.text, f.sample, f.advice] for f in flags]
    columns = ["weight", "finding", "what was found", "sample", "what to do"]
    terminal.answer(data, lambda: _criticised(about, columns, rows))
    return 0


def _criticised(about: Any, columns: list[str], rows: list[list[str]]) -> None:

    if rows:
        terminal.table(
            f"{about.stored.name}: {many(len(rows), 'finding')}",
            columns,
            rows,
            left=5,
            least=["sample"],
        )
    else:
        terminal.say(f"{about.stored.name}: nothing suspicious was found; that is no proof")
    if mark := data_note(about.bars):
        terminal.say(mark)


def select(args: Namespace) -> int:
    from mcl.validation.selection import choose

    project = Project.current()
    choice = choose(identified(args.sweep_id, project.store), args.constraint, project=project)
    columns = [
        "trial",
        *choice.keys,
        "around",
        "neighbours",
        "sharpe",
        "dsr",
        "max_drawdown_frac",
        "trades",
        "run_id",
    ]
    rows: list[dict[str, Any]] = choice.ranked[columns].head(LISTED).to_dict("records")  # type: ignore[assignment]
    data = {
        "sweep_id": choice.search_id,
        "winner": choice.winner,
        "peak": choice.peak,
        "why": choice.why,
        "trials": choice.tally.count,
        "best_by_luck": choice.luck.best_by_luck,
        "deflation": choice.luck.sentence,
        "refused": choice.refused,
        "ranked": rows,
    }
    terminal.answer(data, lambda: _selected(choice, columns, rows))
    return 0


def _selected(choice: Any, shown_columns: list[str], rows: list[dict[str, Any]]) -> None:
    names = {
        "around": "plateau",
        "dsr": "deflated",
        "max_drawdown_frac": "drawdown",
        "run_id": "run",
    }
    columns = [names.get(name, name.removeprefix("strategy.")) for name in shown_columns]
    few = bool(too_short(choice.winner["sessions"]))

    def cell(name: str, value: Any) -> Any:
        if few and name in ("around", "sharpe"):
            return SHORT
        return str(value)[:12] if name == "run_id" else value

    cells = [[cell(name, value) for name, value in row.items()] for row in rows]
    terminal.table(
        f"by plateau: {many(len(choice.ranked), 'trial')} within the constraints,"
        f" {choice.refused} not",
        columns,
        cells,
        least=["neighbours", "drawdown", "trades", "deflated"],
    )
    terminal.say(choice.why)
    terminal.say(f"next: mcl validate RUN_ID of the winner ({_run_of(choice)})")


def _run_of(choice: Any) -> str:
    run_id = str(choice.winner["run_id"])[:12]
    return run_id or "mcl backtest with these values makes one"


def ledger(args: Namespace) -> int:
    """`mcl trials`: what was tried, by strategy and market and by whole market; one strategy in
    full with --family.
    """
    trials = trial_ledger.rows(composition.root())
    if args.family is not None:
        names = [str(family) for family in trials["family"].unique()]
        if args.family not in names:
            message = f"nothing of the strategy {args.family!r} was tried here"
            raise StoreError(f"{message}: {nearest(args.family, names)}", "mcl trials lists them")
        trials = trials[trials["family"] == args.family]
    pairs = trials[["family", "market"]].drop_duplicates().sort_values(["family", "market"])
    families = [
        _counted(trial_ledger.TrialPool(str(family), str(market)))
        for family, market in pairs.itertuples(index=False)
    ]
    markets = [
        _counted(trial_ledger.TrialPool(trial_ledger.EVERY, str(market)))
        for market in pairs["market"].drop_duplicates().sort_values()
    ]
    newest: list[dict[str, Any]] = trials.iloc[::-1].head(args.limit).to_dict("records")  # type: ignore[assignment]
    terminal.answer(
        {"places": families, "markets": markets, "newest": newest},
        lambda: _trials(families, markets, newest),
    )
    return 0


def _counted(where: trial_ledger.TrialPool) -> dict[str, Any]:
    """The distinct trials of a place, and the deflation of its best one by them."""
    trials = trial_ledger.rows(composition.root(), where)
    each = trial_ledger.distinct(trials)
    best = each.sort_values("sharpe", kind="stable").dropna(subset=["sharpe"]).tail(1)
    facts = {
        "family": where.family,
        "market": where.market,
        "trials": len(each),
        "rows": len(trials),
        "searched": int((trials["kind"] == "search").sum()),
        "by_hand": int((trials["kind"] == "hand").sum()),
        "no_score": int((trials["state"] != "COMPLETE").sum()),
    }
    if not len(best):
        return facts | {
            "best_sharpe": math.nan,
            "best_by_luck": math.nan,
            "deflated_sharpe": math.nan,
            "best_run": "",
            "deflation": "",
        }
    row = best.iloc[0]
    measured = {
        "sharpe": annual(row["sharpe"]),
        "sessions": row["observations"],
        "skew": row["skew"],
        "kurtosis": row["kurtosis"],
    }
    luck = trial_ledger.tally(composition.root(), where).luck(measured)
    return facts | {
        "best_sharpe": measured["sharpe"],
        "best_by_luck": luck.best_by_luck,
        "deflated_sharpe": luck.deflated,
        "sessions": float(row["observations"]),
        "best_run": row["run_id"],
        "deflation": luck.sentence,
    }


COUNTED = (
    "trials",
    "rows",
    "searched",
    "by_hand",
    "no_score",
    "best_sharpe",
    "best_by_luck",
    "deflated_sharpe",
)
COLUMNS = (
    "trials",
    "rows",
    "searched",
    "by hand",
    "no score",
    "best Sharpe",
    "best by luck",
    "deflated",
)


def _trials(
    families: list[dict[str, Any]], markets: list[dict[str, Any]], newest: list[dict[str, Any]]
) -> None:
    if not families:
        terminal.say("nothing has been tried yet: mcl backtest and mcl sweep write the ledger")
        return
    for title, heads, groups in (
        ("strategies", ("family", "market"), families),
        ("markets, all strategies", ("market",), markets),
    ):
        cells = [
            [*(group[head] for head in heads), *(_cell(group, name) for name in COUNTED)]
            for group in groups
        ]
        columns = [head.replace("family", "strategy") for head in heads]
        terminal.table(
            title,
            [*columns, *COLUMNS],
            cells,
            left=len(heads),
            least=["rows", "no score", "by hand", "searched"],
        )
    terminal.say(f"the best Sharpe of each is deflated by all trials of its row (rule: {RULE})")
    rows = [
        [
            r["at"].strftime("%Y-%m-%d %H:%M"),
            r["family"],
            r["kind"],
            r["state"],
            r["reason"],
            r["run_id"][:12],
            SHORT if too_short(r["observations"]) else _year(r["sharpe"]),
        ]
        for r in newest
    ]
    terminal.table(
        f"the newest {len(rows)}",
        ["UTC", "strategy", "kind", "state", "reason", "run", "Sharpe"],
        rows,
        left=6,
        least=["state", "kind", "reason"],
    )


def _cell(group: dict[str, Any], name: str) -> Any:
    value = group[name]
    if name in ("best_sharpe", "best_by_luck") and too_short(group.get("sessions", math.nan)):
        return SHORT
    return _short(value) if isinstance(value, float) else value


def _year(ratio: float) -> str:
    return _short(annual(ratio))


def _short(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3g}"
