"""A stored run, simulated again now: bit-equal, or the input that moved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcl.base.differences import Differences, differences
from mcl.base.errors import PromotionError
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.promotion.manifest_differences import data_moved, few
from mcl.tracking import backtest_run, provenance
from mcl.tracking.store import StoredRun

AGAIN = "run the backtest again and promote the new run"


@dataclass(frozen=True)
class Reproduction:
    """A stored run against the same run simulated now. `differing` maps a metric to [stored, now];
    NaN equals NaN.
    """

    repeated: backtest_run.Replayed
    differing: Differences
    causes: tuple[str, ...]  # inputs that moved, whether or not they moved a metric

    @property
    def equal(self) -> bool:
        return not self.differing

    @property
    def sentence(self) -> str:
        return sentence(self.differing, self.causes)


def sentence(differing: Differences, causes: Sequence[str]) -> str:
    """The first thing that differs, and why."""
    name, (was, now) = next(iter(differing.items()), ("", [None, None]))
    if not name:
        return "every metric is bit-equal"
    why = (
        "; ".join(causes)
        or "no known input moved: the stored metrics were altered, or the run is not deterministic"
    )
    return f"{name} was {was!r}, is now {now!r}; {why}"


def reproduce(stored: StoredRun, root: Path) -> Reproduction:
    """Simulate a stored run again from its own configuration and compare every metric bit by
    bit.
    """
    repeated = backtest_run.replay(stored, root)
    comparable = {name: value for name, value in stored.metrics.items() if name in repeated.metrics}
    differing = dict(sorted(differences(comparable, repeated.metrics).items()))
    return Reproduction(repeated, differing, moved(stored, repeated.config, repeated.bars))


def repeated(stored: StoredRun, root: Path) -> backtest_run.Replayed:
    """The repetition of a finished run on the very data it names. PromotionError with the cause
    when it is not bit-equal.
    """
    if stored.status != "FINISHED":
        raise PromotionError(
            f"run {stored.run_id} is {stored.status}; only a finished backtest can be promoted",
            "mcl runs lists them",
        )
    verdict = reproduce(stored, root)
    if not verdict.equal:
        raise PromotionError(
            f"run {stored.run_id} does not repeat: {verdict.sentence}", AGAIN, verdict.differing
        )
    was, now = stored.tags.get("data_fingerprint", "none"), verdict.repeated.bars.fingerprint
    if was != now:  # even if it moved no metric: the run is not what it says it is
        why = next(
            (cause for cause in verdict.causes if cause.startswith("data changed")), "data changed"
        )
        raise PromotionError(
            f"run {stored.run_id} was made on other data: its fingerprint is {was[:12]}…, now it is"
            f" {now[:12]}…; {why}",
            AGAIN,
        )
    return verdict.repeated


def moved(stored: StoredRun, run: schema.Config, bars: Bars) -> tuple[str, ...]:
    """Name the inputs of a stored run that are not what they were: "data changed: chunk …",
    "code changed: engine/kernel.py", "numba 0.68.0 → 0.69.0". `run` and `bars` are what it would be
    made of now.
    """
    now = provenance.tags(run, bars)
    changed = [key for key in now if stored.tags.get(key) != now[key]]
    causes = [
        f"{what} changed"
        for key, what in (("config_sha256", "the configuration"), ("seed", "the seed"))
        if key in changed
    ]
    if "data_fingerprint" in changed:
        then = (
            json.loads(stored.file("manifest.json"))
            if (stored.artifacts / "manifest.json").is_file()
            else {}
        )
        today = json.loads(json.dumps(bars.provenance, default=str))
        causes.append(f"data changed: {data_moved(then, today)}")
    if "code_sha256" in changed:
        before = (
            json.loads(stored.file("code.json"))
            if (stored.artifacts / "code.json").is_file()
            else None
        )
        code = provenance.code_digests(run.strategy)
        files = few(sorted(differences(before, code))) if before else ""
        causes.append(f"code changed: {files or 'the run does not say what it was'}")
    versions = (key for key in changed if key.startswith("version.") and key in stored.tags)
    causes += [
        f"{key.removeprefix('version.')} {stored.tags[key]} → {now[key]}" for key in versions
    ]
    return tuple(causes)
