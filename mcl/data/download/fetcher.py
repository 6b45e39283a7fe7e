"""One chunk from the vendor to its final name: asked for, paid, received, counted, kept, or put
into quarantine and tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from mcl.base.errors import DataError
from mcl.base.instants import instant
from mcl.data.download import chunks
from mcl.data.download.chunks import DownloadChunk
from mcl.data.download.client import DATASET, Request, VendorClient
from mcl.data.download.dbn_check import Arrived, inspect
from mcl.data.download.receipts import Folder, Receipt
from mcl.data.download.retry import RateLimiter, RetryPolicy, with_retries

ATTEMPTS = 3  # a chunk that arrives damaged this often is an error
_DEGRADED = "reduced quality"
_POLL_SEC = (0.5, 30.0)  # between two looks at a batch job: first, longest


class ProgressListener(Protocol):
    """Listen to the progress of a download; called from several threads."""

    def tell(self, line: str) -> None:
        """Something worth a line: a pause, a damaged file, a job."""

    def moved(self, progress: DownloadProgress) -> None:
        """A chunk is finished, or some time has passed."""


@dataclass
class DownloadProgress:
    """The progress of a download: chunks and records finished, compressed bytes on disk, US dollars
    paid; and the totals announced.
    """

    chunks: int = 0
    records: int = 0
    bytes: int = 0
    paid_usd: float = 0.0
    all_chunks: int = 0
    all_records: int = 0
    all_cost_usd: float = 0.0
    quarantined: int = 0


@dataclass
class Budget:
    """Money spent, never above `limit_usd`."""

    limit_usd: float
    spent_usd: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pay(self, cost_usd: float, what: object) -> None:
        with self._lock:
            total = self.spent_usd + cost_usd
            if total > self.limit_usd + 1e-6:
                raise DataError(
                    f"{what} costs {cost_usd:.4f} USD and would bring the total to {total:.4f},"
                    f" above the limit of {self.limit_usd:.4f}",
                    "what arrived is kept; --yes or a higher --max-cost continues",
                )
            self.spent_usd = total

    def refund(self, cost_usd: float) -> None:
        with self._lock:
            self.spent_usd -= cost_usd


@dataclass
class Fetcher:
    """Fetch the chunks of one download, with the budget, limits and progress that they share."""

    vendor: VendorClient
    folder: Folder
    budget: Budget
    retry_policy: RetryPolicy
    rate_limiter: RateLimiter
    listener: ProgressListener
    progress: DownloadProgress
    spans: dict[str, tuple[str, str]]  # what the vendor has, by schema
    conditions: dict[str, str]
    cost_per_record: dict[str, float]  # USD by schema, from the estimate
    batch: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fetch(self, chunk: DownloadChunk) -> None:
        """Bring one chunk. DataError when the vendor refuses or the chunk arrives damaged
        `ATTEMPTS` times.
        """
        request = requested(chunk, self.spans)
        records = self._retried(lambda: self.vendor.count(request))
        cost = records * self.cost_per_record[chunk.schema]
        if records == 0:
            self._keep(chunk, request, Arrived(0, 0, ""), 0.0, [])
            return
        self.folder.part(chunk).parent.mkdir(parents=True, exist_ok=True)
        if self._adopted(chunk, request, records, cost):
            return
        for attempt in range(1, ATTEMPTS + 1):
            notes = (
                self._batched(chunk, request, cost)
                if self.batch
                else self._streamed(chunk, request, cost)
            )
            try:
                arrived = self._whole(chunk, records, notes)
            except DataError as error:
                self._reject(chunk, error, last=attempt == ATTEMPTS)
            else:
                self._keep(chunk, request, arrived, cost, notes)
                return

    def _retried(self, call: Callable[[], Any], kind: str = "metadata") -> Any:
        return with_retries(call, self.retry_policy, self.rate_limiter, self.listener.tell, kind)

    # ------------------------------------------------------------------------------------- arriving

    def _streamed(self, chunk: DownloadChunk, request: Request, cost: float) -> list[str]:
        part = self.folder.part(chunk)

        def attempt() -> list[str]:
            part.unlink(missing_ok=True)
            self.budget.pay(cost, chunk)
            try:
                return self.vendor.stream(request, part)
            except DataError as error:
                if part.exists():  # bytes were sent, so they may be charged
                    self.folder.log(
                        "broken",
                        file=chunk.name,
                        bytes=part.stat().st_size,
                        cost_usd=cost,
                        reason=error.message,
                    )
                else:
                    self.budget.refund(cost)
                raise

        notes: list[str] = self._retried(attempt, "timeseries")
        return notes

    def _batched(self, chunk: DownloadChunk, request: Request, cost: float) -> list[str]:
        """The file of a batch job: one that an earlier call paid for, else a new one."""
        job = self._retried(lambda: self._job_of(chunk, request), "batch")
        if job is None:
            self.budget.pay(cost, chunk)
            job = self._retried(lambda: self.vendor.submit(request), "submit")
            self.folder.log("submitted", file=chunk.name, job=job, cost_usd=cost)
            self.listener.tell(f"{chunk}: batch job {job} submitted")
        self._await(job)
        self._retried(lambda: self.vendor.collect(job, self.folder.jobs), "batch").replace(
            self.folder.part(chunk)
        )
        return []

    def _job_of(self, chunk: DownloadChunk, request: Request) -> str | None:
        """A job that was submitted for this chunk, here or by a process that died before it could
        write that down.
        """
        listed = [job for job in self.vendor.jobs() if _same(job, request)]
        noted = {
            entry["job"] for entry in self.folder.logged("submitted") if entry["file"] == chunk.name
        }
        ids = [str(job["id"]) for job in listed if job["id"] in noted] or [
            str(job["id"]) for job in listed
        ]
        return ids[-1] if ids else None

    def _await(self, job: str) -> None:
        wait, longest = _POLL_SEC
        while True:
            states = {
                str(j["id"]): str(j["state"]) for j in self._retried(self.vendor.jobs, "batch")
            }
            if states.get(job) == "done":
                return
            if job not in states:
                raise DataError(
                    f"batch job {job} is no longer listed",
                    "run the same command again: it submits a new job",
                )
            if self.rate_limiter.stop.wait(wait):
                raise DataError(
                    f"stopped while batch job {job} is {states[job]}",
                    "run the same command again: the job is paid for and kept",
                )
            wait = min(longest, wait * 1.5)

    # -------------------------------------------------------------------------------------- judging

    def _adopted(self, chunk: DownloadChunk, request: Request, records: int, cost: float) -> bool:
        """Keep what a process that died had received in full."""
        part = self.folder.part(chunk)
        if not part.exists():
            return False
        try:
            arrived = self._whole(chunk, records, [])
        except DataError:
            part.unlink()  # cut short by whatever ended that process
            return False
        self._keep(chunk, request, arrived, cost, [])
        return True

    def _whole(self, chunk: DownloadChunk, records: int, notes: list[str]) -> Arrived:
        other = [note for note in notes if _DEGRADED not in note]
        if other:
            raise DataError(f"databento warns: {other[0]}")
        arrived = inspect(self.folder.part(chunk), chunk.schema)
        if arrived.records != records:
            raise DataError(f"{arrived.records} records arrived, {records} were announced")
        return arrived

    def _reject(self, chunk: DownloadChunk, error: DataError, last: bool) -> None:
        part = self.folder.part(chunk)
        if part.exists():
            self.folder.quarantine(part, error.message)
        with self._lock:
            self.progress.quarantined += 1
        if last:
            place = self.folder.path / ".quarantine"
            raise DataError(
                f"{chunk} arrived damaged {ATTEMPTS} times: {error.message}",
                f"see {place}; report it to the vendor",
            ) from error
        self.listener.tell(f"{chunk}: {error.message}; in quarantine, fetching it again")

    def _keep(
        self,
        chunk: DownloadChunk,
        request: Request,
        arrived: Arrived,
        cost: float,
        notes: list[str],
    ) -> None:
        days = [
            str(chunk.start + timedelta(days=n)) for n in range(-1, (chunk.end - chunk.start).days)
        ]
        receipt = Receipt(
            symbol=chunk.symbol,
            stype_in=chunk.stype_in,
            schema=chunk.schema,
            start=str(chunk.start),
            end=str(chunk.end),
            begin=request.start,
            until=request.end,
            dataset=DATASET,
            records=arrived.records,
            bytes=arrived.bytes,
            cost_usd=round(cost, 6),
            sha256=arrived.sha256,
            synthetic=bool(self.vendor.world),
            warnings=notes,
            conditions={day: self.conditions[day] for day in days if day in self.conditions},
        )
        self.folder.keep(receipt)
        with self._lock:
            self.progress.chunks += 1
            self.progress.records += arrived.records
            self.progress.bytes += arrived.bytes


def requested(chunk: DownloadChunk, spans: dict[str, tuple[str, str]]) -> Request:
    """The chunk as the vendor has it: what lies before its first record cannot be asked for.
    `spans` by schema, "" for all.
    """
    begin = chunks.later(chunk.begin, spans.get(chunk.schema, spans[""])[0])
    return Request(chunk.symbol, chunk.stype_in, chunk.schema, begin, chunk.until)


def _same(job: dict[str, Any], request: Request) -> bool:
    """Whether a job in the vendor's list is this request."""
    words = {
        "dataset": request.dataset,
        "schema": request.schema,
        "stype_in": request.stype_in,
        "split_duration": "none",
    }
    symbols = job.get("symbols")
    return (
        all(str(job.get(name)) == value for name, value in words.items())
        and (",".join(symbols) if isinstance(symbols, list) else symbols) == request.symbols
        and all(
            instant(str(job.get(name))) == instant(getattr(request, name))
            for name in ("start", "end")
        )
    )
