"""Download history: price first, then only what is missing, in chunks that are verified one by one
and never paid for twice.

A day means a trade date. What is on disk already, of whatever earlier call, is not asked for again;
a file that changed on disk is put into quarantine and missing. See `receipts` for what the folder
looks like and `chunks` for where a range is cut.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mcl.base.errors import DataError
from mcl.base.instants import instant
from mcl.data.download import chunks, client
from mcl.data.download.chunks import DownloadChunk, Span
from mcl.data.download.client import VendorClient
from mcl.data.download.fetcher import Budget, DownloadProgress, Fetcher, ProgressListener, requested
from mcl.data.download.receipts import Folder, Receipt
from mcl.data.download.retry import RateLimiter, RetryPolicy, with_retries

T = TypeVar("T")
_TICK_SEC = 0.2
# A little below what the vendor allows: 20 metadata, 100 timeseries and 20 job list requests a
# second, 20 new jobs a minute.
_RATES = {"metadata": (18.0, 1), "timeseries": (80.0, 1), "batch": (15.0, 1), "submit": (0.15, 10)}
_WORKERS = 64  # the vendor allows 100 connections
# where a loopback gateway of this project folder puts its certificate
CERTIFICATE = Path(".cache") / "gateway" / "cert.pem"


@dataclass(frozen=True)
class DownloadOrder:
    """The range to download: start <= trade date < end of a symbol; without an end all whole
    sessions there are.
    """

    symbol: str
    schema: str
    start: str
    end: str | None = None


@dataclass(frozen=True)
class DownloadTerms:
    """The terms of a download: where from, at what price, how. `batch` goes through the vendor's
    batch jobs, for large ranges.
    """

    gateway: str | None = None
    gateway_ca: Path | None = None
    key: str | None = None
    max_cost_usd: float = 5.0
    yes: bool = False
    estimate: bool = False
    batch: bool = False
    workers: int = 4
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True)
class SchemaPlan:
    """One schema of an order: what of it is missing, and what that costs."""

    symbol: str
    schema: str
    start: str
    end: str
    chunks_missing: int
    records: int
    bytes: int
    cost_usd: float


@dataclass(frozen=True)
class DownloadPlan:
    """Everything known before the first dollar is spent."""

    parts: list[SchemaPlan]
    missing: list[DownloadChunk]
    receipts: list[Receipt]
    conditions: dict[str, str]
    spans: dict[str, tuple[str, str]]

    @property
    def cost_usd(self) -> float:
        return sum(part.cost_usd for part in self.parts)

    @property
    def cost_per_record(self) -> dict[str, float]:
        return {part.schema: part.cost_usd / max(part.records, 1) for part in self.parts}


class DownloadListener(ProgressListener, Protocol):
    """Listen to the plan and the progress of an order."""

    def planned(self, plan: DownloadPlan) -> None:
        """Receive the plan: missing chunks and their cost, before anything is paid."""


class SilentListener:
    """Ignore everything about the progress."""

    def planned(self, plan: DownloadPlan) -> None:
        """Show nothing."""

    def tell(self, line: str) -> None:
        """Say nothing."""

    def moved(self, progress: DownloadProgress) -> None:
        """Show nothing."""


def download(
    order: DownloadOrder,
    root: Path,
    terms: DownloadTerms | None = None,
    *,
    listener: DownloadListener | None = None,
    agree: Callable[[DownloadPlan], bool] | None = None,
) -> dict[str, Any]:
    """Bring what is missing of `order` to `root`/data/raw/<symbol, "." written as "_">/<schema>/.

    A parent symbol (MCL.FUT) brings definitions and statistics along. `agree` is asked about a plan
    above `max_cost_usd`, if given. Returns the folder, the parts with cost, size and record count
    of what was missing, the files, what was paid, and the days that the vendor does not call
    available. Errors: DataError for an order that cannot be, without a key, above the limit, for a
    refusal, or for a chunk that keeps arriving damaged; StoreError when the disk refuses or another
    process is at work there.
    """
    terms = terms or DownloadTerms()
    wanted = _checked(order, terms)
    folder = Folder(root / "data" / "raw" / chunks.folder_name(order.symbol))
    untouched = terms.estimate and not folder.path.exists()
    with client.connected(terms.key, terms.gateway, _certificate(terms, root)) as vendor:
        downloader = _Downloader(vendor, folder, terms, listener or SilentListener())
        spans = downloader.ask(vendor.spans)
        with contextlib.nullcontext() if untouched else folder.locked():
            plan = downloader.plan(order, wanted, spans)
            if terms.estimate:
                return _facts(folder, plan, plan.receipts)
            progress = downloader.carry_out(plan, _limit(order, plan, terms, agree))
            return _facts(folder, plan, downloader.receipts(plan)) | {
                "paid_usd": progress.paid_usd,
                "quarantined": progress.quarantined,
            }


def _checked(order: DownloadOrder, terms: DownloadTerms) -> list[str]:
    """The schemas of an order that can be."""
    wanted = chunks.schemas(order.symbol, order.schema)
    start = chunks.day(order.start, "start")
    if order.end is not None and chunks.day(order.end, "end") <= start:
        raise DataError(
            f"need start < end; start={order.start}, end={order.end}",
            "end is the first trade date that is left out",
        )
    if not 1 <= terms.workers <= _WORKERS:
        raise DataError(
            f"need 1 <= workers <= {_WORKERS}; workers={terms.workers}",
            "the vendor allows 100 connections",
        )
    return wanted


def _certificate(terms: DownloadTerms, root: Path) -> Path | None:
    """The certificate to trust: the one that is given, or the one that a loopback gateway left in
    this project folder.
    """
    if terms.gateway_ca is not None or terms.gateway is None:
        return terms.gateway_ca
    left = root / CERTIFICATE
    return left if client.is_loopback(terms.gateway) and left.is_file() else None


def _limit(
    order: DownloadOrder,
    plan: DownloadPlan,
    terms: DownloadTerms,
    agree: Callable[[DownloadPlan], bool] | None,
) -> float:
    """Return the most that may be spent, refetching of damaged chunks included. DataError when
    nobody agreed to that much.
    """
    if terms.yes:
        return math.inf
    if plan.cost_usd > terms.max_cost_usd and not (agree is not None and agree(plan)):
        what = f"{order.symbol} {order.schema} {order.start} to {order.end or 'today'}"
        raise DataError(
            f"{what} costs {plan.cost_usd:.2f} USD, above the limit of {terms.max_cost_usd:.2f}",
            "raise --max-cost, or say --yes",
        )
    return max(terms.max_cost_usd, plan.cost_usd)


@dataclass
class _Downloader:
    """Plan one order and carry it out."""

    vendor: VendorClient
    folder: Folder
    terms: DownloadTerms
    listener: DownloadListener

    def __post_init__(self) -> None:
        self._rate_limiter = RateLimiter(_RATES)

    def ask(self, call: Callable[[], T]) -> T:
        return with_retries(
            call, self.terms.retry_policy, self._rate_limiter, self.listener.tell, "metadata"
        )

    def plan(
        self, order: DownloadOrder, wanted: list[str], spans: dict[str, tuple[str, str]]
    ) -> DownloadPlan:
        """Compare the vendor's range with the folder: the missing chunks and their cost. DataError
        when the vendor has nothing of the order.
        """
        if not self.terms.estimate:
            self.folder.accept(self.vendor.world)
        first, last = _span(order, wanted, spans)
        conditions = self.ask(lambda: self.vendor.conditions(str(first), str(last)))
        pending = [chunks.day(day, "day") for day, word in conditions.items() if word == "pending"]
        span = first, max(first, min([last, *pending]))
        receipts = self.folder.verified_receipts(order.symbol, wanted)
        parts, missing = [], []
        for schema in wanted:
            gaps = chunks.missing(
                span, [(r.chunk.start, r.chunk.end) for r in receipts if r.schema == schema]
            )
            cut = [piece for gap in gaps for piece in chunks.split(schema, gap, self.terms.batch)]
            parts.append(self._priced(order.symbol, schema, span, gaps, len(cut), spans))
            missing += [
                DownloadChunk(order.symbol, chunks.symbology(order.symbol), schema, *piece)
                for piece in cut
            ]
        plan = DownloadPlan(parts, missing, receipts, conditions, spans)
        self.listener.planned(plan)
        return plan

    def _priced(
        self,
        symbol: str,
        schema: str,
        span: Span,
        gaps: list[Span],
        missing: int,
        spans: dict[str, tuple[str, str]],
    ) -> SchemaPlan:
        records, size, cost = 0, 0, 0.0
        for gap in gaps:
            request = requested(
                DownloadChunk(symbol, chunks.symbology(symbol), schema, *gap), spans
            )
            records += self.ask(partial(self.vendor.count, request))
            size += self.ask(partial(self.vendor.size, request))
            cost += self.ask(partial(self.vendor.cost_usd, request))
        return SchemaPlan(symbol, schema, str(span[0]), str(span[1]), missing, records, size, cost)

    def carry_out(self, plan: DownloadPlan, limit_usd: float) -> DownloadProgress:
        """Fetch every missing chunk, the first ones first."""
        self.folder.judge(
            min(p.start for p in plan.parts), max(p.end for p in plan.parts), plan.conditions
        )
        budget = Budget(limit_usd)
        progress = DownloadProgress(
            all_chunks=len(plan.missing),
            all_records=sum(p.records for p in plan.parts),
            all_cost_usd=plan.cost_usd,
        )
        fetcher = Fetcher(
            vendor=self.vendor,
            folder=self.folder,
            budget=budget,
            retry_policy=self.terms.retry_policy,
            rate_limiter=self._rate_limiter,
            listener=self.listener,
            progress=progress,
            spans=plan.spans,
            conditions=plan.conditions,
            cost_per_record=plan.cost_per_record,
            batch=self.terms.batch,
        )

        def tick() -> None:
            progress.paid_usd = budget.spent_usd
            self.listener.moved(progress)

        def wait() -> None:
            self.listener.tell(
                "interrupted: finishing what is already paid for; interrupt again to drop it"
            )

        run_in_threads(
            plan.missing,
            fetcher.fetch,
            workers=self.terms.workers,
            stop=self._rate_limiter.stop,
            tick=tick,
            wait=wait,
        )
        tick()
        return progress

    def receipts(self, plan: DownloadPlan) -> list[Receipt]:
        """The receipts after the work; what was verified before is not read again."""
        fresh = [self.folder.receipt(chunk) for chunk in plan.missing]
        return sorted([*plan.receipts, *fresh], key=lambda r: (r.schema, r.start))


def _span(order: DownloadOrder, wanted: list[str], spans: dict[str, tuple[str, str]]) -> Span:
    """The trade dates of an order that are wholly there, in every schema."""
    available = [spans.get(schema, spans[""]) for schema in wanted]
    begin, end = (
        max((a for a, _ in available), key=instant),
        min((b for _, b in available), key=instant),
    )
    whole = min(chunks.last_whole(schema, end) for schema in wanted)
    first, last = (
        chunks.day(order.start, "start"),
        chunks.day(order.end, "end") if order.end else whole,
    )
    first, last = max(first, chunks.day(begin, "start")), min(last, whole)
    if first >= last:
        raise DataError(
            f"databento has {order.schema} from {begin[:10]} to {end[:10]}, nothing of"
            f" {order.start} to {order.end or 'today'}",
            "choose --start and --end inside that range",
        )
    return first, last


def _facts(folder: Folder, plan: DownloadPlan, receipts: list[Receipt]) -> dict[str, Any]:
    """The answer: files in the order of the parts, then of time; only those that the order is
    about.
    """
    files = [
        str(folder.file(r.chunk))
        for part in plan.parts
        for r in receipts
        if r.schema == part.schema and r.records and r.start < part.end and r.end > part.start
    ]
    return {
        "folder": str(folder.path),
        "cost_usd": plan.cost_usd,
        "records": sum(part.records for part in plan.parts),
        "bytes": sum(part.bytes for part in plan.parts),
        "parts": [asdict(part) for part in plan.parts],
        "conditions": plan.conditions,
        "files": files,
    }


# ------------------------------------------------------------------------------------------ threads


def run_in_threads(
    tasks: Iterable[T],
    work: Callable[[T], None],
    *,
    workers: int,
    stop: threading.Event,
    tick: Callable[[], None],
    wait: Callable[[], None],
) -> None:
    """Call `work` on every task, `workers` at a time; `tick` now and then, from the calling thread.

    After the first error, or a first Ctrl-C, nothing new begins, `stop` is set, and what is under
    way is finished before the error is raised; `wait` says so to the person. A second Ctrl-C is
    raised at once: what is under way is dropped.
    """
    waiting, errors, ended = deque(tasks), list[Exception](), queue.Queue[threading.Thread]()

    def turn() -> None:
        try:
            while not stop.is_set() and (task := _first(waiting)) is not None:
                work(task)
        except Exception as error:
            stop.set()
            errors.append(error)
        ended.put(threading.current_thread())

    threads = [
        threading.Thread(target=turn, daemon=True) for _ in range(min(workers, len(waiting)))
    ]
    idle, interrupted = deque(threads), False
    while idle or any(thread.is_alive() for thread in threads):
        try:
            while idle:
                idle.popleft().start()
            if (ended_thread := _next(ended)) is None:
                tick()
            else:
                ended_thread.join()
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            stop.set()
            wait()
    if interrupted:
        raise KeyboardInterrupt
    if errors:
        raise errors[0]


def _first(waiting: deque[T]) -> T | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _next(ended: queue.Queue[threading.Thread]) -> threading.Thread | None:
    try:
        return ended.get(timeout=_TICK_SEC)
    except queue.Empty:
        return None
