"""sweep resume, extend, status, stop, report, and the estimate before a sweep."""

from __future__ import annotations

import json
import math
import shlex
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from mcl import composition
from mcl.base import terminal
from mcl.base.errors import MclError
from mcl.base.words import many
from mcl.tracking.project import Project
from mcl.tracking.store import Store


def show(sweep: Any, typed: Sequence[str] = ()) -> int:
    """Print what a search or a grid came to, and the words that were `typed` for it, if it began
    with this command.

    1 when trials failed or none has a score, a refusal when it was interrupted.
    """
    again = shlex.join(["mcl", *typed]) if typed else ""
    if not hasattr(sweep, "best"):
        return _walked(sweep, again)
    data = {
        "sweep_id": sweep.sweep_id,
        "trials": sweep.states,
        "best": _best(sweep),
        "report": sweep.report,
        "stopped": sweep.why,
        "notices": list(sweep.notices),
    }
    if again:
        data["repeat"] = again
    nothing = _nothing_scored(sweep) or _failures(sweep)
    if nothing is not None:
        data["error"] = nothing.as_dict()
    if sweep.interrupted:
        go_on = (
            f"mcl sweep resume {sweep.sweep_id[:12]} continues" if sweep.space is not None else ""
        )
        nothing = MclError(
            f"interrupted after {many(len(sweep.trials), 'trial')}, kept in run {sweep.sweep_id}",
            go_on,
        )
        data["error"] = nothing.as_dict()
    terminal.answer(data, lambda: _tables(sweep, again))
    if nothing is not None and not terminal.as_json():
        terminal.refuse(nothing)
    return 1 if nothing is not None else 0


MINUTE_SEC = 60
HINTS = {
    "no_trades": "lower search.min_trades, use more data, or search where the strategy trades",
    "undefined": "search another metric, or where the strategy trades more",
    "constraint": "loosen search.constraints, or search where they hold",
}


def _nothing_scored(sweep: Any) -> MclError | None:
    """Say why no trial of a search has a score, with the cure for the commonest reason;
    None where one has.
    """
    lost = {state for state, number in sweep.states.items() if number}
    if sweep.interrupted or not lost or "COMPLETE" in lost:
        return None
    pruned = sweep.trials[sweep.trials["reason"] != "duplicate"]
    reasons = pruned["reason"].value_counts()
    clauses = [
        f"{reason} {count:,} ({pruned[pruned['reason'] == reason]['detail'].iloc[0]})"
        for reason, count in reasons.items()
    ]
    count = len(sweep.trials)
    every = f"all {count:,} trials" if count > 1 else "the only trial"
    how = {frozenset({"PRUNED"}): "pruned", frozenset({"FAILED"}): "lost to failures"}.get(
        frozenset(lost), "pruned or failed"
    )
    message = (
        f"nothing has a score: {every} of sweep {sweep.sweep_id[:12]}"
        f" {'were' if count > 1 else 'was'} {how}: {'; '.join(clauses)}"
    )
    return MclError(message, HINTS.get(str(reasons.index[0]), "mcl report shows each trial"))


def _failures(sweep: Any) -> MclError | None:
    """That some trials failed, and how the first of them did; None where all ran."""
    failed = sweep.trials[sweep.trials["state"] == "FAILED"]
    if not len(failed):
        return None
    first = failed.iloc[0]
    message = (
        f"{many(len(failed), 'trial')} of {len(sweep.trials):,} failed; trial {first['trial']}:"
        f" {first['detail'] or first['reason']}"
    )
    return MclError(
        message, f"mcl report {sweep.sweep_id[:12]} shows each trial; the others are kept"
    )


def _walked(walk: Any, again: str = "") -> int:
    """The same for a walk-forward search: one row per fold, then the metrics of the stitched
    run.
    """
    folds = walk.folds.to_dict("records")
    data = {
        "sweep_id": walk.sweep_id,
        "run_id": walk.sweep_id,
        "trials": walk.states,
        "folds": folds,
        "metrics": walk.metrics,
    }
    if again:
        data["repeat"] = again

    def print_folds() -> None:
        from mcl.report.format import metric_rows

        names = ["traded_from", "traded_until", *walk.keys, "in_sample", "out_of_sample"]
        rows = [[str(row["fold"]), *(_fold_text(row, name) for name in names)] for row in folds]
        columns = ["fold", *(name.removeprefix("strategy.").replace("_", " ") for name in names)]
        terminal.table(f"{walk.title}: Sharpe in and out of sample", columns, rows)
        if walk.metrics:
            terminal.table(
                "stitched, out of sample",
                ["metric", "value"],
                [[label, text] for label, text, _ in metric_rows(walk.metrics)],
            )
        if walk.watermark:
            terminal.say(walk.watermark)
        _repeats(again)
        terminal.say(f"walk-forward {walk.sweep_id} · report {walk.report or 'none'}")

    terminal.answer(data | {"report": walk.report, "stopped": walk.why}, print_folds)
    if walk.interrupted:
        raise MclError(
            f"interrupted in {walk.why}; what was done is kept",
            f"mcl sweep resume {walk.sweep_id[:12]} continues",
        )
    return 1 if walk.status == "FAILED" else 0


def _best(sweep: Any) -> dict[str, Any] | None:
    """The winner with the metrics of its run and its deflation by the trial ledger of now."""
    best: dict[str, Any] | None = sweep.best
    if not best or not best["run_id"]:
        return best
    from mcl.tracking import deflation

    stored = Store().run(best["run_id"])
    return best | {
        "metrics": (
            best["metrics"] | deflation.today(stored, deflation.luck_of(stored, composition.root()))
        )
    }


def _fold_text(row: Mapping[str, Any], name: str) -> str:
    """A cell of the table of folds: no annual Sharpe of too few sessions."""
    from mcl.report.format import annual_text, too_short

    count = {"in_sample": "searched_sessions", "out_of_sample": "traded_sessions"}.get(name)
    if count is None or not too_short(row.get(count, math.nan)):
        return terminal.text(row[name])
    return annual_text("sharpe", row[name], row[count])


def estimate(composed: composition.Composed) -> int:
    """Say how long a sweep would take, and record nothing."""
    from dataclasses import asdict

    from mcl.search import status

    forecast = status.estimate(composed, composition.root())
    points = "continuous" if math.isinf(forecast.points) else f"{forecast.points:,.0f}"
    rows = [
        ["trials", f"{forecast.trials:,}"],
        ["points in the space", points],
        ["bars", f"{forecast.bars:,}"],
    ]
    rows += [
        ["one backtest", f"{forecast.trial_sec * 1000:.1f} ms"],
        ["bookkeeping", f"{forecast.own_sec * 1000:.1f} ms a trial"],
    ]
    rows += [["in all", _duration(forecast.total_sec)], ["measured", forecast.how]]
    rows += [
        ["sessions", f"{forecast.sessions:,} searched, {forecast.holdout_sessions:,} held out"]
    ]
    rows += [
        [
            "two trials are alike by",
            f"{forecast.correlation:.2f} (mean correlation of the returns at these points)",
        ]
    ]
    rows += [
        [f"can show, for {stage}", _importance_text(part)]
        for stage, part in (("paper", forecast.paper), ("live", forecast.live))
        if part
    ]
    terminal.answer(
        asdict(forecast), lambda: terminal.table(forecast.title, ["estimate", "value"], rows)
    )
    return 0


def _importance_text(part: Any) -> str:
    half, most, independent = (
        terminal.text(value) for value in (part.half, part.most, part.independent)
    )
    return (
        f"a true Sharpe of {half} half of the time, {most} four times in five ({independent} if no"
        f" two trials were alike), as the best of {part.trials:,} at p <= {part.level:g}"
    )


def resume(args: Namespace) -> int:
    from mcl import search

    return show(
        search.resume(
            args.sweep,
            project=Project.current(),
            amendments=args.overrides,
            progress=not terminal.quiet(),
        )
    )


def extend(args: Namespace) -> int:
    from mcl import search

    return show(
        search.resume(
            args.sweep,
            project=Project.current(),
            trials=args.trials,
            amendments=args.overrides,
            progress=not terminal.quiet(),
        )
    )


def status(args: Namespace) -> int:
    from mcl.search import status

    return _standing(status.status(args.sweep, store=Store()))


def stop(args: Namespace) -> int:
    from mcl.search import status

    state = status.stop(args.sweep, store=Store())
    if not state["stopping"]:
        named = state["sweep_id"][:12]
        more = (
            f"mcl sweep extend {named} TRIALS gives it more"
            if state["state"] == "FINISHED"
            else f"mcl sweep resume {named} continues"
        )
        raise MclError(f"sweep {named} is not running: {state['state']}", more)
    return _standing(state)


def report(args: Namespace) -> int:
    from mcl.search import status

    sweep, written = status.report(args.sweep, project=Project.current(), name=args.export or "")
    if not hasattr(sweep, "best"):
        return _walked(sweep)
    data = {
        "sweep_id": sweep.sweep_id,
        "trials": sweep.states,
        "best": _best(sweep),
        "report": sweep.report,
        "experiment": written,
    }
    terminal.answer(data, lambda: _tables(sweep))
    if written:
        terminal.say(
            f"the best trial written to {written} · mcl backtest experiment={written.stem}"
        )
    return 0


def _repeats(again: str) -> None:
    if again:
        terminal.say(f"again: {again}")


def _tables(sweep: Any, again: str = "") -> None:
    limit = _drawdown_limit(sweep)
    for title, columns, rows in sweep.tables():
        terminal.table(
            title,
            columns,
            [_marked(columns, row, limit) for row in rows],
            least=["trades", "net_pnl_usd"],
        )
    if halted := _halted(sweep, limit):
        terminal.say(halted)
    for sentence in filter(None, (sweep.deflation, *sweep.advice())):
        terminal.say(f"{sentence}.")
    if sweep.best and sweep.best.get("experiment"):
        best = sweep.best
        terminal.say(f"trial {best['trial']}, the best, written to {best['experiment']}")
    _repeats(again)
    terminal.say(
        f"sweep {sweep.sweep_id} · report {sweep.report} · mcl ui shows every trial below it"
    )


def _drawdown_limit(sweep: Any) -> float | None:
    """risk.limits.max_drawdown_frac of the best trial; None where none is set, or where it is what
    was searched.
    """
    key = "risk.limits.max_drawdown_frac"
    if not sweep.best or not sweep.best.get("run_id") or key in sweep.keys:
        return None
    limit = composition.flatten(
        json.loads(Store().run(sweep.best["run_id"]).file("config.json"))
    ).get(key)
    return None if limit is None else float(limit)


def _reached(drawdown: Any, limit: float | None) -> bool:
    try:
        return limit is not None and -float(drawdown) >= limit
    except ValueError:
        return False


def _marked(columns: list[str], row: list[str], limit: float | None) -> list[str]:
    """The drawdown of a trial that stopped trading at its limit says so."""
    return [
        f"{cell} *" if name == "max_drawdown_frac" and _reached(cell, limit) else cell
        for name, cell in zip(columns, row, strict=True)
    ]


def _halted(sweep: Any, limit: float | None) -> str:
    if limit is None or "max_drawdown_frac" not in sweep.trials:
        return ""
    scored = sweep.trials[sweep.trials["state"] == "COMPLETE"]
    count = int((-scored["max_drawdown_frac"].astype(float) >= limit).sum())
    if not count:
        return ""
    return (
        f"* {count} of {many(len(scored), 'scored trial')} reached"
        f" risk.limits.max_drawdown_frac={limit:g} and stopped trading for good."
    )


def _standing(status_fields: dict[str, Any]) -> int:
    def print_state() -> None:
        rows = [
            ["state", status_fields["state"] + (", stopping" if status_fields["stopping"] else "")],
            ["trials", f"{status_fields.get('done', 0)}/{status_fields['target']}"],
        ]
        rows += [
            [state.lower(), str(count)]
            for state, count in sorted(status_fields.get("states", {}).items())
        ]
        rows += [
            [f"  {reason}", str(count)]
            for reason, count in sorted(status_fields.get("reasons", {}).items())
        ]
        if "fold" in status_fields:
            rows.insert(1, ["fold", f"{status_fields['fold']}/{status_fields['folds']}"])
        if status_fields["state"] == "RUNNING" and status_fields.get("eta_sec") is not None:
            rows += [
                ["speed", f"{status_fields['trials_per_sec']:.1f}/s"],
                ["left", _duration(status_fields["eta_sec"])],
                ["process", str(status_fields["pid"])],
            ]
        best = status_fields.get("best")
        if best:
            rows += [
                [f"best {status_fields['metric']}", terminal.text(best["value"])],
                ["in trial", str(best["trial"])],
            ]
            rows += [
                [name, terminal.text(best[name])]
                for name in ("trades", "max_drawdown_frac")
                if best.get(name) is not None
            ]
            rows += [[key, terminal.text(value)] for key, value in best["params"].items()]
        terminal.table(status_fields["title"], ["sweep", status_fields["sweep_id"][:12]], rows)
        if status_fields["state"] in ("DEAD", "KILLED", "FAILED"):
            terminal.say(f"mcl sweep resume {status_fields['sweep_id'][:12]} continues")

    terminal.answer(status_fields, print_state)
    return 0


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "unknown"
    return terminal.span(seconds) if seconds >= MINUTE_SEC else f"{seconds:.1f} s"
