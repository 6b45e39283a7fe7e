"""Batch jobs of the gateway: submitted, processed in the background into a folder, listed and
handed out with Range.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from mcl.market.calendar import DAY_NS, from_day, to_day
from mcl.simulators.databento.catalog import Catalog, Query, iso
from mcl.simulators.databento.protocol import ApiError, ApiRequest, Reply

USER = "LOOPBACK"
Pack = Callable[[Query], Iterator[bytes]]  # the zstd DBN bytes of a query


@dataclass
class BatchJob:
    """The vendor's job object, and where its files are."""

    facts: dict[str, Any]
    query: Query
    folder: Path

    @property
    def id(self) -> str:
        return str(self.facts["id"])


class BatchJobs:
    """All jobs of a gateway. `delay_sec` is how long a job waits before it is processed."""

    def __init__(self, folder: Path, catalog: Catalog, pack: Pack, delay_sec: float = 0.0) -> None:
        self.delay_sec = delay_sec
        self._folder, self._catalog, self._pack = folder, catalog, pack
        self._jobs: dict[str, BatchJob] = {}

    def submit(
        self, form: dict[str, str], query: Query, cost_usd: float, size: int
    ) -> dict[str, Any]:
        """A new job; the caller pays now."""
        now = _now()
        venue, day = query.dataset.split(".")[0], now[:10].replace("-", "")
        name = f"{venue}-{day}-{uuid.uuid4().hex[:10].upper()}"
        keys = (
            "dataset",
            "symbols",
            "stype_in",
            "stype_out",
            "schema",
            "encoding",
            "compression",
            "split_duration",
            "delivery",
        )
        facts: dict[str, Any] = {key: form.get(key) for key in keys}
        facts |= {
            key: form.get(key, "False") == "True"
            for key in ("pretty_px", "pretty_ts", "map_symbols", "split_symbols")
        }
        facts |= {
            "id": name,
            "user_id": USER,
            "api_key": "prod-001",
            "cost_usd": cost_usd,
            "limit": query.limit,
            "split_size": None,
        }
        facts |= {
            "start": iso(query.start),
            "end": iso(query.end),
            "packaging": None,
            "state": "queued",
            "progress": 0,
        }
        facts |= {
            "record_count": self._catalog.count(query),
            "billed_size": size,
            "actual_size": None,
            "package_size": None,
        }
        facts |= {
            "ts_received": now,
            "ts_queued": now,
            "ts_process_start": None,
            "ts_process_done": None,
            "ts_expiration": None,
        }
        job = self._jobs[name] = BatchJob(facts, query, self._folder / name)
        snapshot = dict(facts)
        threading.Thread(target=self._process, args=(job,), daemon=True).start()
        return snapshot

    def _process(self, job: BatchJob) -> None:
        time.sleep(self.delay_sec)
        job.facts |= {"state": "processing", "ts_process_start": _now()}
        job.folder.mkdir(parents=True)
        for first, last in _split(job.query, str(job.facts["split_duration"] or "day")):
            part = replace(job.query, start=first, end=last)
            dataset, schema = job.query.dataset.lower().replace(".", "-"), job.query.schema
            name = f"{dataset}-{_span(first, last)}.{schema}.dbn.zst"
            (job.folder / name).write_bytes(b"".join(self._pack(part)))
        (job.folder / "metadata.json").write_text(
            json.dumps({"version": 1, "job_id": job.id, "query": job.facts}, default=str)
        )
        size = sum(p.stat().st_size for p in job.folder.iterdir())
        expires = datetime.now(UTC) + timedelta(days=30)
        job.facts |= {
            "ts_process_done": _now(),
            "ts_expiration": expires.isoformat(),
            "actual_size": size,
            "package_size": size,
        }
        job.facts |= {"progress": 100, "state": "done"}

    def list_jobs(self, form: dict[str, str]) -> list[dict[str, Any]]:
        states, since = (
            form.get("states", "queued,processing,done").split(","),
            form.get("since", ""),
        )
        listed = [
            job.facts
            for job in self._jobs.values()
            if job.facts["state"] in states and job.facts["ts_received"] >= since
        ]
        if form.get("short") == "True":
            return [{key: facts[key] for key in ("id", "state", "ts_received")} for facts in listed]
        return listed

    def details(self, form: dict[str, str]) -> dict[str, Any]:
        return self._job(form.get("job_id", "")).facts

    def list_files(self, form: dict[str, str], url: str) -> list[dict[str, Any]]:
        job = self._done(form.get("job_id", ""))
        return [
            {
                "filename": path.name,
                "size": path.stat().st_size,
                "hash": f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
                "urls": {
                    "https": f"{url}/v0/batch/download/{USER}/{job.id}/{path.name}",
                    "ftp": f"ftp://127.0.0.1/{job.id}/{path.name}",
                },
            }
            for path in sorted(job.folder.iterdir())
        ]

    def zipped(self, form: dict[str, str]) -> Reply:
        job, packed = self._done(form.get("job_id", "")), io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(job.folder.iterdir()):
                archive.write(path, path.name)
        return Reply(packed.getvalue(), content_type="application/zip")

    def file(self, request: ApiRequest) -> Reply:
        """One file, from the offset of a Range header on."""
        job, name = self._done(request.form["job_id"]), request.form["filename"]
        if name not in {path.name for path in job.folder.iterdir()}:
            raise ApiError(404, "batch_file_not_found", f"Job {job.id} has no file {name}.")
        content = (job.folder / name).read_bytes()
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.span)
        if match is None:
            return Reply(content, content_type="application/octet-stream")
        first = int(match[1])
        last = min(int(match[2] or len(content)), len(content) - 1)
        if first > last:
            raise ApiError(416, "range_not_satisfiable", f"{request.span} of {len(content)} bytes.")
        headers = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        return Reply(
            content[first : last + 1], 206, headers, content_type="application/octet-stream"
        )

    def _job(self, name: str) -> BatchJob:
        if name not in self._jobs:
            raise ApiError(404, "batch_job_not_found", f"There is no job {name}.")
        return self._jobs[name]

    def _done(self, name: str) -> BatchJob:
        job = self._job(name)
        if job.facts["state"] != "done":
            raise ApiError(404, "batch_job_not_done", f"Job {name} is {job.facts['state']}.")
        return job


def _split(query: Query, duration: str) -> Iterator[tuple[int, int]]:
    """The range in UTC days, weeks from Sunday, months or years, or whole."""
    at = query.start
    while at < query.end:
        following = (
            query.end
            if duration == "none"
            else to_day(_next(from_day(at // DAY_NS), duration)) * DAY_NS
        )
        yield at, min(following, query.end)
        at = following


def _next(day: date, duration: str) -> date:
    if duration == "month":
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    if duration == "year":
        return date(day.year + 1, 1, 1)
    if duration in ("day", "week"):
        return day + timedelta(days=1 if duration == "day" else 7 - (day.weekday() + 1) % 7)
    raise ApiError(422, "batch_invalid_split", f"Invalid split_duration {duration}.")


def _span(first: int, last: int) -> str:
    days = [str(from_day(ns // DAY_NS)).replace("-", "") for ns in (first, last - 1)]
    return days[0] if days[0] == days[1] else "-".join(days)


def _now() -> str:
    return datetime.now(UTC).isoformat()
