"""sweep resume, extend, status, stop, report, and the estimate before a sweep."""

from __future__ import annotations

import json
import math
import shlex
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from mcl import composition
from mcl.base import terminal
from mcl.base.errors import MclError, StoreError
from mcl.report.format import many
from mcl.tracking.store import Store


def show(swept: Any, typed: Sequence[str] = ()) -> int:
    """Print what a search or a grid came to, and the words that were `typed` for it, if it began
    with this command.

    1 when trials failed or none has a score, a refusal when it was interrupted.
    """
    again = shlex.join(["mcl", *typed]) if typed else ""
    if not hasattr(swept, "best"):
        return _walked(swept, again)
    data = {
        "sweep_id": swept.sweep_id,
        "trials": swept.states,
        "best": _best(swept),
        "report": swept.report,
        "stopped": swept.why,
    }
    if again:
        data["repeat"] = again
    nothing = _nothing_scored(swept) or _failures(swept)
    if nothing is not None:
        data["error"] = nothing.as_dict()
    if swept.interrupted:
        go_on = f"mcl sweep resume {swept.sweep_id[:12]} goes on" if swept.space is not None else ""
        nothing = MclError(
            f"interrupted after {len(swept.trials)} trials, which are kept in run {swept.sweep_id}",
            go_on,
        )
        data["error"] = nothing.as_dict()
    terminal.answer(data, lambda: _tables(swept, again))
    if nothing is not None and not terminal.as_json():
        terminal.refuse(nothing)
    return 1 if nothing is not None else 0


HINTS = {
    "no_trades": "lower search.min_trades, use more data, or search where the strategy trades",
    "undefined": "search another metric, or where the strategy trades more",
    "constraint": "loosen search.constraints, or search where they hold",
}


def _nothing_scored(swept: Any) -> MclError | None:
    """Why no trial of a search has a score, and the cure for the reason that most of them have;
    None where one has.
    """
    lost = {state for state, number in swept.states.items() if number}
    if swept.interrupted or not lost or "COMPLETE" in lost:
        return None
    pruned = swept.trials[swept.trials["reason"] != "duplicate"]
    reasons = pruned["reason"].value_counts()
    clauses = [
        f"{reason} {count:,} ({pruned[pruned['reason'] == reason]['detail'].iloc[0]})"
        for reason, count in reasons.items()
    ]
    count = len(swept.trials)
    every = f"all {count:,} trials" if count > 1 else "the only trial"
    how = {frozenset({"PRUNED"}): "pruned", frozenset({"FAILED"}): "lost to failures"}.get(
        frozenset(lost), "pruned or failed"
    )
    said = (
        f"nothing has a score: {every} of sweep {swept.sweep_id[:12]}"
        f" {'were' if count > 1 else 'was'} {how}: {'; '.join(clauses)}"
    )
    return MclError(said, HINTS.get(str(reasons.index[0]), "mcl report shows each trial"))


def _failures(swept: Any) -> MclError | None:
    """That some trials failed, and how the first of them did; None where all ran."""
    failed = swept.trials[swept.trials["state"] == "FAILED"]
    if not len(failed):
        return None
    first = failed.iloc[0]
    said = (
        f"{many(len(failed), 'trial')} of {len(swept.trials):,} failed; trial {first['trial']}:"
        f" {first['detail'] or first['reason']}"
    )
    return MclError(said, f"mcl report {swept.sweep_id[:12]} shows each trial; the others are kept")


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

    def told() -> None:
        from mcl.report.format import metric_rows

        names = ["traded_from", "traded_until", *walk.keys, "in_sample", "out_of_sample"]
        rows = [[str(row["fold"]), *(terminal.text(row[name]) for name in names)] for row in folds]
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

    terminal.answer(data | {"report": walk.report, "stopped": walk.why}, told)
    if walk.interrupted:
        raise MclError(
            f"interrupted in {walk.why}; what was done is kept",
            f"mcl sweep resume {walk.sweep_id[:12]} goes on",
        )
    return 1 if walk.status == "FAILED" else 0


def _best(swept: Any) -> dict[str, Any] | None:
    """The winner with the metrics of its run and its deflation by the trial ledger of now."""
    best: dict[str, Any] | None = swept.best
    if not best or not best["run_id"]:
        return best
    from mcl.tracking import backtest_run

    stored = Store().run(best["run_id"])
    return best | {
        "metrics": (
            best["metrics"]
            | backtest_run.today(stored, backtest_run.luck_of(stored, composition.root()))
        )
    }


def estimate(overrides: list[str]) -> int:
    """Say how long a sweep would take, and record nothing."""
    from dataclasses import asdict

    from mcl.search import status

    found = status.estimate(composition.compose("sweep", overrides), composition.root())
    points = "continuous" if math.isinf(found.points) else f"{found.points:,.0f}"
    rows = [
        ["trials", f"{found.trials:,}"],
        ["points in the space", points],
        ["bars", f"{found.bars:,}"],
    ]
    rows += [
        ["one backtest", f"{found.trial_sec * 1000:.1f} ms"],
        ["bookkeeping", f"{found.own_sec * 1000:.1f} ms a trial"],
    ]
    rows += [["in all", _duration(found.total_sec)], ["measured", found.how]]
    rows += [["sessions", f"{found.sessions:,} searched, {found.holdout_sessions:,} held out"]]
    rows += [
        [
            "two trials are alike by",
            f"{found.correlation:.2f} (mean correlation of the returns at these points)",
        ]
    ]
    rows += [
        [f"can show, for {stage}", _shown(part)]
        for stage, part in (("paper", found.paper), ("live", found.live))
        if part
    ]
    terminal.answer(asdict(found), lambda: terminal.table(found.title, ["estimate", "value"], rows))
    return 0


def _shown(part: Any) -> str:
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
            store=Store(),
            root=composition.root(),
            amendments=args.overrides,
            progress=not terminal.quiet(),
        )
    )


def extend(args: Namespace) -> int:
    from mcl import search

    store, root = Store(), composition.root()
    return show(
        search.resume(
            args.sweep,
            store=store,
            root=root,
            trials=args.trials,
            amendments=args.overrides,
            progress=not terminal.quiet(),
        )
    )


def identified(named: str, store: Store) -> str:
    """The id of a run, or of the search that has this name."""
    from mcl.search import runner, sweep_dir

    try:
        return store.run(named).run_id
    except StoreError as error:
        with suppress(StoreError):
            return sweep_dir.find(runner.folder(store), named).sweep_id
        raise error from None


def status(args: Namespace) -> int:
    from mcl.search import status

    return _standing(status.status(args.sweep, store=Store()))


def stop(args: Namespace) -> int:
    from mcl.search import status

    found = status.stop(args.sweep, store=Store())
    if not found["stopping"]:
        named = found["sweep_id"][:12]
        more = (
            f"mcl sweep extend {named} TRIALS gives it more"
            if found["state"] == "FINISHED"
            else f"mcl sweep resume {named} goes on"
        )
        raise MclError(f"sweep {named} is not running: {found['state']}", more)
    return _standing(found)


def report(args: Namespace) -> int:
    from mcl.search import status

    swept, written = status.report(
        args.sweep, store=Store(), root=composition.root(), name=args.export or ""
    )
    if not hasattr(swept, "best"):
        return _walked(swept)
    data = {
        "sweep_id": swept.sweep_id,
        "trials": swept.states,
        "best": _best(swept),
        "report": swept.report,
        "experiment": written,
    }
    terminal.answer(data, lambda: _tables(swept))
    if written:
        terminal.say(f"winner written to {written} · mcl backtest experiment={written.stem}")
    return 0


def _repeats(again: str) -> None:
    if again:
        terminal.say(f"again: {again}")


def _tables(swept: Any, again: str = "") -> None:
    limit = _drawdown_limit(swept)
    for title, columns, rows in swept.tables():
        terminal.table(
            title,
            columns,
            [_marked(columns, row, limit) for row in rows],
            least=["trades", "net_pnl_usd"],
        )
    if halted := _halted(swept, limit):
        terminal.say(halted)
    for sentence in filter(None, (swept.deflation, *swept.advice())):
        terminal.say(f"{sentence}.")
    if swept.best and swept.best.get("experiment"):
        terminal.say(f"winner written to {swept.best['experiment']}")
    _repeats(again)
    terminal.say(
        f"sweep {swept.sweep_id} · report {swept.report} · mcl ui shows every trial below it"
    )


def _drawdown_limit(swept: Any) -> float | None:
    """risk.limits.max_drawdown_frac of the best trial; None where none is set, or where it is what
    was searched.
    """
    key = "risk.limits.max_drawdown_frac"
    if not swept.best or not swept.best.get("run_id") or key in swept.keys:
        return None
    found = composition.flatten(
        json.loads(Store().run(swept.best["run_id"]).file("config.json"))
    ).get(key)
    return None if found is None else float(found)


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


def _halted(swept: Any, limit: float | None) -> str:
    if limit is None or "max_drawdown_frac" not in swept.trials:
        return ""
    scored = swept.trials[swept.trials["state"] == "COMPLETE"]
    count = int((-scored["max_drawdown_frac"].astype(float) >= limit).sum())
    if not count:
        return ""
    return (
        f"* {count} of {many(len(scored), 'scored trial')} reached"
        f" risk.limits.max_drawdown_frac={limit:g} and stopped trading for good."
    )


def _standing(found: dict[str, Any]) -> int:
    def told() -> None:
        rows = [
            ["state", found["state"] + (", stopping" if found["stopping"] else "")],
            ["trials", f"{found.get('done', 0)}/{found['target']}"],
        ]
        rows += [
            [state.lower(), str(count)] for state, count in sorted(found.get("states", {}).items())
        ]
        rows += [
            [f"  {reason}", str(count)]
            for reason, count in sorted(found.get("reasons", {}).items())
        ]
        if "fold" in found:
            rows.insert(1, ["fold", f"{found['fold']}/{found['folds']}"])
        if found["state"] == "RUNNING" and found.get("eta_sec") is not None:
            rows += [
                ["speed", f"{found['trials_per_sec']:.1f}/s"],
                ["left", _duration(found["eta_sec"])],
                ["process", str(found["pid"])],
            ]
        best = found.get("best")
        if best:
            rows += [
                [f"best {found['metric']}", terminal.text(best["value"])],
                ["in trial", str(best["trial"])],
            ]
            rows += [
                [name, terminal.text(best[name])]
                for name in ("trades", "max_drawdown_frac")
                if best.get(name) is not None
            ]
            rows += [[key, terminal.text(value)] for key, value in best["params"].items()]
        terminal.table(found["title"], ["sweep", found["sweep_id"][:12]], rows)
        if found["state"] in ("DEAD", "KILLED", "FAILED"):
            terminal.say(f"mcl sweep resume {found['sweep_id'][:12]} goes on")

    terminal.answer(found, told)
    return 0


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{seconds:.1f} s"
    )
