"""data download, data gateway: from a vendor's history to files, and a vendor on loopback to try it
on.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcl import composition
from mcl.base import terminal
from mcl.base.errors import ConfigError, MclError, nearest
from mcl.base.words import many
from mcl.cli import arguments

if TYPE_CHECKING:
    from mcl.data.download.fetcher import DownloadProgress
    from mcl.data.download.plan import DownloadPlan

LINE_EVERY_SEC = 5.0
_KEYS: dict[str, Callable[[str], Any]] = {
    "data.gateway": str,
    "data.gateway_ca": str,
    "data.workers": arguments.WORKERS,
    "data.max_cost": arguments.PRICE,
}


def download(args: Namespace) -> int:
    from mcl.data.download.plan import DownloadOrder, DownloadTerms
    from mcl.data.download.plan import download as bring

    _override(args)
    if not args.start:
        raise MclError(
            "--start is missing: a download needs a first day, for instance --start 2024-01-01"
        )
    terms = DownloadTerms(
        gateway=args.gateway,
        gateway_ca=Path(args.gateway_ca) if args.gateway_ca else None,
        max_cost_usd=args.max_cost,
        yes=args.yes,
        estimate=args.estimate,
        batch=args.batch,
        workers=args.workers,
    )
    order = DownloadOrder(args.symbol, args.schema, args.start, args.end)
    with _Display() as display:
        done = bring(order, composition.root(), terms, listener=display, agree=display.agrees)
    terminal.answer(done, lambda: _report(done))
    return 0


def _override(args: Namespace) -> None:
    """Take key=value words into the arguments of the same name."""
    for word in args.overrides:
        key, equals, value = word.partition("=")
        if not equals or key not in _KEYS:
            raise ConfigError(f"unknown override {word!r} of a download; {nearest(key, _KEYS)}")
        try:
            setattr(args, key.removeprefix("data."), _KEYS[key](value))
        except argparse.ArgumentTypeError as error:
            raise ConfigError(f"{key}={value}: {error}", f"for instance {key}=4") from error


def _report(done: dict[str, Any]) -> None:
    if "paid_usd" in done:
        files = many(len(done["files"]), "file")
        terminal.say(f"{files} in {done['folder']}, {done['paid_usd']:.4f} USD paid now")
    if done["conditions"]:
        days = ", ".join(f"{day} ({word})" for day, word in list(done["conditions"].items())[:5])
        terminal.say(
            f"the vendor does not call {len(done['conditions'])} of these days available: {days}"
        )


class _Display:
    """A bar on a terminal, a line every few seconds elsewhere, nothing with --json and --quiet."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty() and not terminal.quiet()
        self._began = self._printed_at = time.monotonic()
        self._lock = threading.Lock()
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def planned(self, plan: DownloadPlan) -> None:
        if terminal.quiet():
            return
        columns = ["schema", "from", "to", "chunks missing", "records", "MB raw", "USD"]
        rows = [
            (
                p.schema,
                p.start,
                p.end,
                p.chunks_missing,
                f"{p.records:,}",
                f"{p.bytes / 1e6:.1f}",
                f"{p.cost_usd:.4f}",
            )
            for p in plan.parts
        ]
        total = ("total", "", "", len(plan.missing), f"{sum(p.records for p in plan.parts):,}")
        rows.append(
            (*total, f"{sum(p.bytes for p in plan.parts) / 1e6:.1f}", f"{plan.cost_usd:.4f}")
        )
        terminal.table("what is missing, and what it costs", columns, rows, left=3)

    def agrees(self, plan: DownloadPlan) -> bool:
        """Ask the user; without a terminal the answer is no."""
        if not (self._live and sys.stdin.isatty()):
            return False
        return input(f"pay {plan.cost_usd:.2f} USD? [y/N] ").strip().lower() in ("y", "yes")

    def tell(self, line: str) -> None:
        if self._progress is not None:
            self._progress.console.print(line)
        else:
            terminal.say(line)

    def moved(self, tally: DownloadProgress) -> None:
        if terminal.quiet() or tally.all_chunks == 0:
            return
        with self._lock:
            if self._live:
                self._bar(tally)
            elif (
                time.monotonic() - self._printed_at >= LINE_EVERY_SEC
                or tally.chunks == tally.all_chunks
            ):
                self._printed_at = time.monotonic()
                terminal.say(
                    f"{tally.chunks}/{tally.all_chunks} chunks · {_figures(tally)} ·"
                    f" {self._left(tally)}"
                )

    def _bar(self, tally: DownloadProgress) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        if self._progress is None:
            columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            self._progress = Progress(*columns, transient=True)
            self._task = self._progress.add_task("", total=tally.all_records)
            self._progress.start()
        self._progress.update(self._task, completed=tally.records, description=_figures(tally))

    def _left(self, tally: DownloadProgress) -> str:
        if not tally.records:
            return "time left unknown"
        elapsed = time.monotonic() - self._began
        return f"{max(0.0, tally.all_records / tally.records - 1) * elapsed:.0f} s left"


def _figures(tally: DownloadProgress) -> str:
    paid = f"{tally.paid_usd:.4f} of {tally.all_cost_usd:.4f} USD"
    return f"{tally.records:,} of {tally.all_records:,} rows · {tally.bytes / 1e6:.1f} MB · {paid}"


# ------------------------------------------------------------------------------------------ gateway


def gateway(args: Namespace) -> int:
    """Serve until interrupted or terminated."""
    from mcl.data.download.plan import CERTIFICATE
    from mcl.simulators.databento.server import serving
    from mcl.simulators.databento.tls import certificate

    folder, cert = _served(args), certificate((composition.root() / CERTIFICATE).parent)
    keys = frozenset(args.key) if args.key else None
    degraded = tuple(_day(text) for text in args.degraded)
    until = threading.Event()
    choices: dict[str, Any] = {
        "port": args.port,
        "faults": args.fault,
        "keys": keys,
        "degraded": degraded,
        "batch_delay_sec": args.batch_delay,
    }
    with _stopped_by(until), serving(folder, cert, **choices, log=terminal.say) as vendor:
        facts = {
            "gateway": vendor.url,
            "cert": str(cert.cert),
            "folder": str(folder),
            "synthetic": bool(vendor.catalog.world),
        }
        terminal.answer(
            facts | {"datasets": vendor.catalog.datasets()},
            lambda: _welcome(facts, vendor.catalog.world),
        )
        sys.stdout.flush()
        until.wait()
    return 0


def _served(args: Namespace) -> Path:
    """The folder of DBN files: the one that is named, or a generated world."""
    if args.folder:
        folder = Path(args.folder)
        if not folder.is_dir():
            raise MclError(
                f"there is no folder {folder}",
                "give a folder of DBN files, or leave --folder away for the synthetic world",
            )
        return folder
    from mcl.data.sources.synthetic import SyntheticData
    from mcl.data.synthetic import generator

    data = composition.compose(
        "backtest",
        [f"data={'planted' if args.world == 'planted' else 'synthetic'}", *args.overrides],
    ).config.data
    if not isinstance(data, SyntheticData):
        raise ConfigError(
            f"data.source={data.source!r} is no generated world",
            "serve recorded files with --folder",
        )
    terminal.say("making the synthetic world unless it is there")
    return generator.generate(data, composition.root() / data.folder / "raw")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise MclError(f"--degraded {text!r} is not written YYYY-MM-DD: {error}") from error


@contextmanager
def _stopped_by(until: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the serving."""
    before = {
        number: signal.signal(number, lambda *_: until.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _welcome(facts: dict[str, Any], world: dict[str, Any]) -> None:
    terminal.say(
        f"serving {facts['folder']} at {facts['gateway']}" + (" · SYNTHETIC DATA" if world else "")
    )
    terminal.say(
        f"  mcl data download --symbol MCL.FUT --start 2024-01-01 data.gateway={facts['gateway']}"
    )
    terminal.say(
        f"  any other client: REQUESTS_CA_BUNDLE={facts['cert']}, gateway={facts['gateway']!r},"
        " any key"
    )
