"""sweep resume, extend, status, stop, report, and the estimate before a sweep."""

from __future__ import annotations

import math
from argparse import Namespace
from typing import Any

from mcl import config, screen
from mcl.errors import MclError
from mcl.tracking import Store


def show(swept: Any) -> int:
    """Print what a search or a grid came to; 1 when trials failed, a refusal when it was interrupted."""
    data = {"sweep_id": swept.sweep_id, "trials": swept.states, "best": _best(swept), "report": swept.report, "stopped": swept.why}
    screen.answer(data, lambda: _tables(swept))
    if swept.interrupted:
        go_on = f"mcl sweep resume {swept.sweep_id[:12]} goes on" if swept.space is not None else ""
        raise MclError(f"interrupted after {len(swept.trials)} trials, which are kept in run {swept.sweep_id}", go_on)
    return 1 if swept.states.get("FAILED", 0) else 0


def _best(swept: Any) -> dict[str, Any] | None:
    """The winner with the metrics of its run: what the trial ledger knew of it (`dsr`) stands beside what was simulated."""
    best: dict[str, Any] | None = swept.best
    if not best or not best["run_id"]:
        return best
    return best | {"metrics": best["metrics"] | Store().run(best["run_id"]).summary}


def estimate(overrides: list[str]) -> int:
    """Say how long a sweep would take, and record nothing."""
    from dataclasses import asdict

    from mcl.search import look

    found = look.estimate(config.compose("sweep", overrides), config.root())
    points = "continuous" if math.isinf(found.points) else f"{found.points:,.0f}"
    rows = [["trials", f"{found.trials:,}"], ["points in the space", points], ["bars", f"{found.bars:,}"]]
    rows += [["one backtest", f"{found.trial_sec * 1000:.1f} ms"], ["in all", _duration(found.total_sec)]]
    screen.answer(asdict(found), lambda: screen.table(found.title, ["estimate", "value"], rows))
    return 0


def resume(args: Namespace) -> int:
    from mcl import search

    return show(search.resume(args.sweep, store=Store(), root=config.root(), amendments=args.overrides, progress=not screen.quiet()))


def extend(args: Namespace) -> int:
    from mcl import search

    store, root = Store(), config.root()
    return show(
        search.resume(args.sweep, store=store, root=root, trials=args.trials, amendments=args.overrides, progress=not screen.quiet())
    )


def status(args: Namespace) -> int:
    from mcl.search import look

    return _standing(look.status(args.sweep, store=Store()))


def stop(args: Namespace) -> int:
    from mcl.search import look

    found = look.stop(args.sweep, store=Store())
    if not found["stopping"]:
        raise MclError(f"sweep {found['sweep_id'][:12]} is not running: {found['state']}", f"mcl sweep resume {found['sweep_id'][:12]}")
    return _standing(found)


def report(args: Namespace) -> int:
    from mcl.search import look

    swept, written = look.report(args.sweep, store=Store(), root=config.root(), name=args.export or "")
    data = {"sweep_id": swept.sweep_id, "trials": swept.states, "best": _best(swept), "report": swept.report, "experiment": written}
    screen.answer(data, lambda: _tables(swept))
    if written:
        screen.say(f"winner written to {written} · mcl backtest experiment={written.stem}")
    return 0


def _tables(swept: Any) -> None:
    for title, columns, rows in swept.tables():
        screen.table(title, columns, rows)
    for sentence in swept.advice():
        screen.say(f"{sentence}.")
    if swept.best and swept.best.get("experiment"):
        screen.say(f"winner written to {swept.best['experiment']}")
    screen.say(f"sweep {swept.sweep_id} · report {swept.report} · mcl ui shows every trial below it")


def _standing(found: dict[str, Any]) -> int:
    def told() -> None:
        rows = [
            ["state", found["state"] + (", stopping" if found["stopping"] else "")],
            ["trials", f"{found.get('done', 0)}/{found['target']}"],
        ]
        rows += [[state.lower(), str(count)] for state, count in sorted(found.get("states", {}).items())]
        rows += [[f"  {reason}", str(count)] for reason, count in sorted(found.get("reasons", {}).items())]
        if found["state"] == "RUNNING" and found.get("eta_sec") is not None:
            rows += [["speed", f"{found['trials_per_sec']:.1f}/s"], ["left", _duration(found["eta_sec"])], ["process", str(found["pid"])]]
        best = found.get("best")
        if best:
            rows += [[f"best {found['metric']}", screen.text(best["value"])], ["in trial", str(best["trial"])]]
            rows += [[name, screen.text(best[name])] for name in ("trades", "max_drawdown_frac") if best.get(name) is not None]
            rows += [[key, screen.text(value)] for key, value in best["params"].items()]
        screen.table(found["title"], ["sweep", found["sweep_id"][:12]], rows)

    screen.answer(found, told)
    return 0


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
