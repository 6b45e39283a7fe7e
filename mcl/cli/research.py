"""backtest, sweep, compare, report, runs, ui."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import webbrowser
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mcl import composition
from mcl.base import progress, terminal
from mcl.base.differences import Differences, differences
from mcl.base.errors import MclError, StoreError
from mcl.base.files import write_whole
from mcl.cli import config_view, sweeps
from mcl.composition import search_path
from mcl.library import research as library
from mcl.report.format import HEADLINES, stopped
from mcl.tracking.records import right_verb
from mcl.tracking.store import Store, StoredRun, StoredVersion

BRIEF = {  # headings of a comparison in which each run is a row
    "net_pnl_usd": "net USD",
    "sharpe": "Sharpe",
    "dsr": "deflated",
    "trials_counted": "trials",
    "max_drawdown_frac": "drawdown",
    "trades": "closed",
    "profit_factor": "profit factor",
    "exposure_frac": "exposure",
}
# ----------------------------------------------------------------------------------------- research


def backtest(args: Namespace) -> int:
    with search_path.config_dir(args.config_dir):
        return _backtest(args)


def _backtest(args: Namespace) -> int:
    if config_view.wants_configuration(args):
        return config_view.show("backtest", args)
    if args.multirun:
        return _grid(args)
    composed = library.compose(args.overrides, base=args.base or "")
    if composed.multirun:
        return _grid(args)
    from mcl.report.format import too_short
    from mcl.tracking.backtest_run import halt

    run = library.backtest(composed)
    data = {
        "run_id": run.run_id,
        "metrics": run.metrics,
        "undefined": run.undefined,
        "too_short": too_short(run.metrics["sessions"]),
        "stopped": halt(run.result, run.config),
        "deflation": run.deflation,
        "report": run.report,
        "config_sha256": run.tags["config_sha256"],
        "data_fingerprint": run.result.bars.fingerprint,
        "synthetic": run.result.bars.synthetic,
        "own_code_reads": run.tags.get("own_code_reads", ""),
        "repeat": run.repeat,
    }

    def print_summary() -> None:
        notes = [halt(run.result, run.config), run.deflation, f"again: {run.repeat}"]
        _show_run(run.name, run.metrics, run.tags, run.run_id, run.report, notes, whole=args.all)

    terminal.answer(data, print_summary)
    if args.show and run.report:
        webbrowser.open(run.report.as_uri())
    return 0


def _config_dir(args: Namespace) -> list[str]:
    """The words of --config-dir in a line that repeats the command."""
    return ["--config-dir", args.config_dir] if args.config_dir else []


def _grid(args: Namespace) -> int:
    grid = library.grid(args.overrides, progress=not terminal.quiet())
    return sweeps.show(grid, ["backtest", "-m", *_config_dir(args), *args.overrides])


def sweep(args: Namespace) -> int:
    with search_path.config_dir(args.config_dir):
        return _sweep(args)


def _sweep(args: Namespace) -> int:
    if config_view.wants_configuration(args):
        return config_view.show("sweep", args)
    composed = library.compose(args.overrides, "sweep")
    if args.estimate:
        return sweeps.estimate(composed)
    sweep = library.sweep(composed, progress=not terminal.quiet())
    return sweeps.show(sweep, ["sweep", *_config_dir(args), *args.overrides])


def compare(args: Namespace) -> int:
    store = Store()
    named = [
        _finished(run)
        for i in args.run_ids
        for run in _compared(store, library.identified(i, store))
    ]
    # one that was named twice is listed once
    stored = list({run.run_id: run for run in named}.values())
    if len(stored) < 2:
        raise StoreError(
            "comparing needs at least two different runs, and these names mean one",
            "mcl runs lists them",
        )
    from mcl.report.compare import compare_page, different_data, family, p_values

    views = [
        _view(run, _versions(store, run.run_id))
        for run in progress.each("reading the runs", stored)
    ]
    metrics = [view.metrics for view in views]
    progress.begin("drawing the page")
    page = (
        composition.root()
        / "mlruns"
        / "compare"
        / ("-".join(run.run_id[:8] for run in stored) + ".html")
    )
    joint = family(views)
    write_whole(page, compare_page(views, joint).encode())
    shared = [name for name in metrics[0] if all(name in other for other in metrics)]
    differing = differences(*({name: each[name] for name in shared} for each in metrics))
    configured = differences(*(composition.flatten(view.config) for view in views))
    names = ("alone", "holm", "benjamini_hochberg")
    judged = [dict(zip(names, each, strict=True)) for each in p_values(metrics)]
    data = {
        "runs": [run.run_id for run in stored],
        "config": configured,
        "metrics": differing,
        "p_values": judged,
        "family": {"p": joint.p, "best": joint.best, "superior": list(joint.superior)},
        "report": page,
    }
    data["deflation"] = [view.luck for view in views]
    data["data"] = [view.data for view in views]
    data["warning"] = warning = different_data(views)
    lucks = dict.fromkeys(view.luck for view in views if view.luck)

    def print_comparison() -> None:
        _comparison(views, configured, judged, whole=args.all)
        for note in filter(None, (warning, joint.sentence, *lucks)):
            terminal.say(note)
        terminal.say(f"page {page}")

    terminal.answer(data, print_comparison)
    return 0


def _comparison(
    views: Sequence[Any],
    configured: Differences,
    judged: list[dict[str, float]],
    *,
    whole: bool,
) -> None:
    from mcl.report.compare import SIDE_BY_SIDE
    from mcl.report.format import BY_NAME, metric_rows, p_text

    headlines = {BY_NAME[name].title for name in HEADLINES}
    columns = [{label: text for label, text, _ in metric_rows(view.metrics)} for view in views]
    ids = [view.short for view in views]
    names = [k for k in columns[0] if whole or k in headlines]
    if len(views) > SIDE_BY_SIDE:
        _comparison_of_many(views, names, columns, configured, judged)
        return
    terminal.table(
        "comparison",
        ["metric", *ids],
        [["data", *(view.data for view in views)]]
        + [[k, *(c.get(k, "") for c in columns)] for k in names],
    )
    rows = [
        [name.replace("_", "-"), *(p_text(each[name]) for each in judged)] for name in judged[0]
    ]
    terminal.table(
        "p-value of a Sharpe ratio above zero: alone, and adjusted for all of these runs",
        ["", *ids],
        rows,
    )
    terminal.table(
        "configuration differences",
        ["key", *ids],
        [[key, *values] for key, values in configured.items()],
    )


def _comparison_of_many(
    views: Sequence[Any],
    names: Sequence[str],
    columns: Sequence[dict[str, str]],
    configured: Differences,
    judged: list[dict[str, float]],
) -> None:
    """The same with a run in each row; an interval has no room there."""
    from mcl.report.format import BY_NAME, p_text

    brief = {BY_NAME[name].title: word for name, word in BRIEF.items()}
    rows = [
        [
            view.short,
            view.name.partition(" · ")[0],
            view.data,
            *(texts.get(k, "").partition(" [")[0] for k in names),
        ]
        for view, texts in zip(views, columns, strict=True)
    ]
    heads = ["run", "name", "data", *(brief.get(k, k.partition(" [")[0]) for k in names)]
    least = ["exposure", "profit factor", "trials", "closed", "name"]
    terminal.table("comparison", heads, rows, left=3, least=least)
    terminal.table(
        "p-value of a Sharpe ratio above zero: alone, and adjusted for all of these runs",
        ["run", *(name.replace("_", "-") for name in judged[0])],
        [
            [view.short, *(p_text(p) for p in each.values())]
            for view, each in zip(views, judged, strict=True)
        ],
    )
    terminal.table(
        "configuration differences",
        ["run", *configured],
        [[view.short, *(each[i] for each in configured.values())] for i, view in enumerate(views)],
    )


def _compared(store: Store, run_id: str) -> list[StoredRun]:
    """The runs that one name stands for: those of a grid, the choice of a search, or itself."""
    run = store.run(run_id)
    if run.tags.get("mcl.kind") != "sweep":
        return _of_grid(store, run)
    chosen, why = library.chosen(run_id)
    choice = store.run(chosen)
    if not (choice.artifacts / "data" / "equity.parquet").is_file():
        raise StoreError(
            f"the choice of search {run_id[:12]}, run {chosen[:12]}, is kept without its curves",
            f"mcl backtest --from {chosen[:12]} makes a whole run of it: compare that one",
        )
    terminal.say(why)
    return [choice]


def _of_grid(store: Store, run: StoredRun) -> list[StoredRun]:
    """The finished runs of a grid, in the order of its jobs; any other run is itself."""
    if run.tags.get("mcl.kind") != "grid":
        return [run]
    jobs = [child for child in store.children(run.run_id) if child.status == "FINISHED"]
    if len(jobs) > MOST_COMPARED:
        raise StoreError(
            f"grid {run.run_id[:12]} has {len(jobs):,} runs, and at most {MOST_COMPARED} are"
            " compared",
            "name some of them: mcl runs lists them",
        )
    return sorted(jobs, key=lambda job: int(job.tags.get("trial", 0)))


def _view(run: StoredRun, versions: Sequence[StoredVersion]) -> Any:
    import io

    import pandas as pd

    from mcl.report.compare import CompareView, PositionPath
    from mcl.tracking import deflation, urls

    bars = pd.read_parquet(
        io.BytesIO(run.file("data/equity.parquet")), columns=["close_time", "position"]
    )
    times = pd.DatetimeIndex(bars["close_time"]).as_unit("ns").asi8
    sessions = pd.read_parquet(io.BytesIO(run.file("data/sessions.parquet"))).set_index("session")[
        "equity_usd"
    ]
    luck = deflation.luck_of(run, composition.root())
    return CompareView(
        run_id=run.run_id,
        name=run.name,
        config=json.loads(run.file("config.json")),
        metrics=deflation.today(run, luck),
        luck=luck.sentence if luck else "",
        equity=sessions,
        synthetic=run.tags.get("synthetic") == "true",
        notes=run.tags.get("watermark", ""),
        positions=PositionPath(times, bars["position"].to_numpy()),
        links=[
            urls.run(run.run_id, "MLflow", run.experiment_id),
            *_page_of(run),
            *(urls.version(v.name, v.version, _called(v)) for v in versions),
        ],
    )


def _versions(store: Store, run_id: str) -> list[StoredVersion]:
    """Return the versions that were promoted from this run, newest first."""
    from mcl.promotion.promoted_file import MODEL

    return [version for version in store.versions(MODEL) if version.run_id == run_id]


def _called(version: StoredVersion) -> str:
    """`version 3 (paper)`"""
    return f"version {version.version}" + (
        f" ({', '.join(version.aliases)})" if version.aliases else ""
    )


def _page_of(run: StoredRun) -> list[Any]:
    """The run's own report, where it has one."""
    from mcl.report.theme import Link

    page = run.artifacts / "report.html"
    return [Link("report", page.as_uri())] if page.is_file() else []


def report(args: Namespace) -> int:
    from mcl.tracking import deflation

    store = Store()
    named = store.run(library.identified(args.run_id, store))
    if named.tags.get("mcl.kind") == "sweep" and not args.png:
        return sweeps.report(Namespace(sweep=named.run_id, export=""))
    run = _finished(named)
    versions = [_called(version) for version in _versions(store, run.run_id)]
    luck = deflation.luck_of(run, composition.root())
    page = deflation.report_page(run, luck, composition.root())
    pictures = _pictures(run, page, Path(args.png)) if args.png else []
    metrics, luck_sentence = deflation.today(run, luck), luck.sentence if luck else ""
    data: dict[str, Any] = {
        "run_id": run.run_id,
        "metrics": metrics,
        "report": page,
        "versions": versions,
        "tags": run.tags,
    }
    data |= {"deflation": luck_sentence, "at_run": deflation.that_day(run)}
    if args.png:
        data["pictures"] = pictures

    def print_summary() -> None:
        limit = composition.flatten(json.loads(run.file("config.json"))).get(
            "risk.limits.max_drawdown_frac"
        )
        notes = [stopped(metrics.get("max_drawdown_frac", math.nan), limit), luck_sentence]
        _show_run(run.name, metrics, run.tags, run.run_id, page, notes, whole=args.all)
        if versions:
            terminal.say(f"promoted as {'; '.join(versions)} · mcl registry")
        for picture in pictures:
            terminal.say(f"picture {picture}")

    terminal.answer(data, print_summary)
    return 0


def _pictures(run: StoredRun, page: Path | None, folder: Path) -> list[Path]:
    from mcl.report import png

    if page is None:
        raise StoreError(
            f"run {run.run_id} has no page to draw",
            "a search draws only its best runs: mcl backtest makes a page for any",
        )
    return png.pictures(page, folder)


def runs(args: Namespace) -> int:
    store = Store()
    matches = library.listed_runs(args.study, alias=args.alias, limit=args.limit)
    listed = [
        {
            "run_id": run.stored.run_id,
            "name": run.stored.name,
            "kind": run.kind or None,
            "data": run.data or None,
            "status": run.stored.status,
            "metrics": run.metrics,
        }
        | ({"winner": run.winner} if run.winner else {})
        | ({"best": run.best} if run.best else {})
        for run in matches
    ]
    rows = [
        [
            run.stored.run_id[:12],
            run.kind,
            run.brief_name,
            run.data,
            run.stored.status,
            *_ratio_cells(run.metrics),
            run.winner[:12],
        ]
        for run in matches
    ]
    columns = ["run", "kind", "name", "data", "status", "Sharpe", "deflated", "trials", "winner"]
    least = ["trials", "deflated", "status"]

    def render() -> None:
        if rows:
            terminal.table(f"study {args.study}", columns, rows, left=5, least=least)
        else:
            terminal.say(_no_runs(store, args.study))

    terminal.answer({"runs": listed}, render)
    return 0


def _no_runs(store: Store, study: str) -> str:
    """Return the sentence of a list without rows: where runs are, if anywhere."""
    others = [
        name
        for name in store.connection.studies()
        if name != study and store.in_study(name, tops=True)
    ]
    where = "; ".join(f"mcl runs --study {name}" for name in sorted(others))
    return f"No run is filed under the study {study!r} yet." + (
        f" Other studies have runs: {where}" if where else " mcl backtest makes the first one."
    )


def _ratio_cells(metrics: dict[str, float]) -> list[str]:
    """Of the run itself with its deflation of today, or of the best below it."""
    from mcl.report.format import annual_text, number

    def text(name: str, style: str) -> str:
        return number(metrics[name], style) if name in metrics else "–"

    own = "sharpe" if "sharpe" in metrics else "best_sharpe"
    sessions = metrics.get("sessions", metrics.get("best_sessions", math.nan))
    ratio = annual_text("sharpe", metrics[own], sessions) if own in metrics else "–"
    return [ratio, text("dsr", "percent"), text("trials_counted", "count")]


def ui(args: Namespace) -> int:
    """The MLflow UI on this project's store, on loopback, with one worker; Ctrl-C ends it. A server
    has its own.
    """
    import socket

    from mcl.base import files
    from mcl.tracking import urls

    store = Store()
    if store.uri.startswith("http"):
        raise MclError(
            f"the runs are on the server {store.uri}, which has its own UI",
            "open that address in a browser",
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", args.port))
        except OSError:
            raise MclError(
                f"port {args.port} on 127.0.0.1 is in use; choose another one",
                f"mcl ui --port {args.port + 1}",
            ) from None
    if store.uri.startswith("sqlite:///"):
        store.connection.create_database()
    store.folder.mkdir(parents=True, exist_ok=True)
    base = f"http://127.0.0.1:{args.port}"
    terminal.say(f"MLflow UI on {base} (Ctrl-C ends it)")
    for study, address in store.views(base):
        terminal.say(f"  runs of study {study}: {address}")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(args.port),
    ]
    command += ["--workers", "1", "--default-artifact-root", (store.folder / "artifacts").as_uri()]
    environment = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    # not on the command line: the address of a database may hold a password
    environment["MLFLOW_BACKEND_STORE_URI"] = store.uri
    server = subprocess.Popen(command, env=os.environ | environment, start_new_session=True)  # noqa: S603

    port_file = files.cache_path(urls.PORT_FILE)
    if port_file is not None:
        write_whole(port_file, str(args.port).encode())

    def end(*_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)  # with the worker that it has begun

    signal.signal(signal.SIGTERM, end)
    try:
        return server.wait()
    except KeyboardInterrupt:
        end()
        server.wait()
        return 0
    finally:
        if port_file is not None:
            port_file.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------- pieces


def _finished(run: StoredRun) -> StoredRun:
    if run.status != "FINISHED" or run.tags.get("mcl.kind") not in (
        "backtest",
        "trial",
        "walk_forward",
    ):
        kind = run.tags.get("mcl.kind", "run")
        raise StoreError(
            f"run {run.run_id} is a {kind} in state {run.status}, not a finished backtest",
            right_verb(run),
        )
    return run


MOST_COMPARED = 25  # runs of a grid: the name of the page holds them all


def _show_run(
    title: str,
    metrics: dict[str, float],
    tags: dict[str, str],
    run_id: str,
    page: Path | None,
    notes: list[str],
    *,
    whole: bool,
) -> None:
    from mcl.metrics.undefined import reasons
    from mcl.report.format import metric_rows, too_short

    why = reasons(metrics)
    each = {
        name: [label, f"{text}: {why[name]}" if name in why else text]
        for label, text, name in metric_rows(metrics)
    }
    rows = list(each.values()) if whole else [each[name] for name in HEADLINES if name in each]
    terminal.table(title, ["metric", "value"], rows)
    if not whole and len(rows) < len(each):
        terminal.say(f"{len(each) - len(rows)} more metrics: mcl report {run_id[:12]} --all")
    for note in filter(None, [too_short(metrics.get("sessions", math.nan)), *notes]):
        terminal.say(note)
    if tags.get("watermark"):
        terminal.say(tags["watermark"])
    if tags.get("own_code_reads"):
        terminal.say(tags["own_code_reads"])
    terminal.say(f"run {run_id} · report {page or 'none'} · mcl ui compares runs")
