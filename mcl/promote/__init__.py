"""From a run to a version that may trade: repeat it, judge it, freeze it."""

from __future__ import annotations

import getpass
import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from mcl import evidence, runs, schema
from mcl.errors import PromotionError, nearest
from mcl.promote import deploy, holdout, robust
from mcl.promote.deploy import MODEL, Deployable, promoted
from mcl.promote.gates import Gate, evaluate, left_out, tally_of
from mcl.promote.holdout import Look
from mcl.tracking import Store, StoredRun, content_sha256
from mcl.trials import Tally

__all__ = ["MODEL", "Deployable", "GatesMissed", "Promoted", "Verdict", "promote", "promoted", "reproduce"]
ALIASES = ("paper",)  # what a run may become; real money is not among them


@dataclass(frozen=True)
class Promoted:
    alias: str
    version: int
    run_id: str
    gates: tuple[Gate, ...]
    path: Path  # conf/promoted/ALIAS.yaml
    content_sha256: str
    synthetic: bool


class GatesMissed(PromotionError):
    """The refusal of a run that missed gates; `gates` holds all of them, passed ones too."""

    def __init__(self, run_id: str, gates: tuple[Gate, ...]) -> None:
        missed = [gate for gate in gates if not gate.passed]
        listed = "; ".join(str(gate) for gate in missed)
        super().__init__(
            f"run {run_id} missed {len(missed)} of {len(gates)} gates: {listed}",
            "a gate is changed in conf/promotion/, not by running until it passes: trials and looks at the hold-out are counted",
        )
        self.gates = gates


def promote(run_id: str, alias: str = "paper", *, store: Store, root: Path, gates: schema.Promotion) -> Promoted:
    """Repeat the run, judge it on its own and on unseen data, register it under `alias`, write conf/promoted/ALIAS.yaml.

    PromotionError when the repetition is not bit-equal (it names the metric and the input that moved) or a gate is missed (it
    lists all of them); the version that had the alias before then still has it.
    """
    if alias not in ALIASES:
        raise PromotionError(f"a run cannot be promoted to {alias!r}: {nearest(alias, ALIASES)}", "mcl promote RUN_ID --to paper")
    stored = store.run(run_id)
    repeated = _repeated(stored, root)
    tally, look = tally_of(repeated.config, stored, root), holdout.look(repeated.config, stored.run_id, root)
    table = evaluate(gates, repeated.result, tally, look) + robust.evaluate(gates, stored, store, root)
    if not all(gate.passed for gate in table):
        raise GatesMissed(stored.run_id, table)
    facts = _provenance(alias, stored, repeated, rules=gates, tally=tally, look=look)
    files = _files(repeated.config, table, facts)
    version, path = deploy.freeze(alias, stored.run_id, files, _tags(repeated.config, facts), store=store, root=root)
    return Promoted(alias, version, stored.run_id, table, path, content_sha256(files), repeated.bars.synthetic)


# ------------------------------------------------------------------------------------------------------------- repetition


@dataclass(frozen=True)
class Verdict:
    """A stored run against the same run simulated now. `differing` maps a metric to (stored, now); NaN equals NaN."""

    repeated: runs.Replayed
    differing: dict[str, tuple[float | None, float]]
    causes: tuple[str, ...]  # inputs that moved

    @property
    def equal(self) -> bool:
        return not self.differing

    @property
    def sentence(self) -> str:
        """The first metric that differs, and why."""
        name, (was, now) = next(iter(self.differing.items()), ("", (None, 0.0)))
        return f"{name} was {was!r}, is now {now!r}; {'; '.join(self.causes)}" if name else "every metric is bit-equal"


def reproduce(stored: StoredRun, root: Path) -> Verdict:
    """Simulate a stored run again from its own configuration and compare every metric bit by bit."""
    repeated = runs.replay(stored, root)
    known = {name: value for name, value in stored.metrics.items() if name in repeated.metrics}
    differing = {name: (known.get(name), repeated.metrics[name]) for name in runs.unequal(known, repeated.metrics)}
    return Verdict(repeated, differing, moved(stored, repeated) if differing else ())


def moved(stored: StoredRun, repeated: runs.Replayed) -> tuple[str, ...]:
    """Which inputs of a run are not what they were."""
    now = evidence.tags(repeated.config, repeated.bars)
    changed = [key for key in now if stored.tags.get(key) != now[key]]
    inputs = {"config_sha256": "the configuration", "data_fingerprint": "the data", "seed": "the seed"}
    causes = [f"{inputs[key]} changed" for key in changed if key in inputs]
    if "code_sha256" in changed:
        then, files = json.loads(stored.file("code.json")), evidence.code_digests(repeated.config.strategy)
        causes.append("code changed: " + ", ".join(sorted(f for f in then.keys() | files.keys() if then.get(f) != files.get(f))))
    causes += [f"{key.removeprefix('version.')} {stored.tags.get(key)} became {now[key]}" for key in changed if key.startswith("version.")]
    return tuple(causes) or ("no known input moved: the stored metrics were altered, or the run is not deterministic",)


def _repeated(stored: StoredRun, root: Path) -> runs.Replayed:
    if stored.status != "FINISHED":
        raise PromotionError(f"run {stored.run_id} is {stored.status}; only a finished backtest can be promoted", "mcl runs lists them")
    verdict = reproduce(stored, root)
    if not verdict.equal:
        raise PromotionError(f"run {stored.run_id} does not repeat: {verdict.sentence}", "run the backtest again and promote the new run")
    was, now = stored.tags.get("data_fingerprint", "none"), verdict.repeated.bars.fingerprint
    if was != now:  # even if it moved no metric: the run is not what it says it is
        raise PromotionError(
            f"run {stored.run_id} was made on other data: its fingerprint is {was[:12]}…, now it is {now[:12]}…",
            "run the backtest again and promote the new run",
        )
    return verdict.repeated


# --------------------------------------------------------------------------------------------------------------- contents


def _provenance(
    alias: str, stored: StoredRun, repeated: runs.Replayed, *, rules: schema.Promotion, tally: Tally, look: Look
) -> dict[str, Any]:
    """Who, when and out of what. All text or numbers, for the registry and for the head of the promoted file."""
    now = evidence.tags(repeated.config, repeated.bars)
    return {
        "alias": alias,
        "run_id": stored.run_id,
        "study": stored.study,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": getpass.getuser(),
        "config_sha256": now["config_sha256"],
        "data_fingerprint": now["data_fingerprint"],
        "code_sha256": now["code_sha256"],
        "synthetic": repeated.bars.synthetic,
        "watermark": evidence.watermark(repeated.bars),
        "git": {key: now[f"git.{key}"] for key in ("commit", "dirty")},
        "git_of_run": {key: stored.tags.get(f"git.{key}", "unknown") for key in ("commit", "dirty")},
        "versions": evidence.versions(),
        "trials": tally.count,
        "holdout": {"fingerprint": look.fingerprint, "look": look.number, "sessions": look.sessions},
        "gates_left_out": list(left_out(rules)),
        "metrics": {name: value for name, value in repeated.metrics.items() if math.isfinite(value)},  # NaN is no JSON
    }


def _files(run: schema.Config, table: tuple[Gate, ...], facts: dict[str, Any]) -> dict[str, bytes]:
    raw = run.model_dump(mode="json")
    body = _header(facts) + yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)
    return {
        "config.yaml": body.encode(),
        "config.json": json.dumps(raw, indent=1).encode(),
        "gates.json": json.dumps([asdict(gate) for gate in table], indent=1).encode(),
        "provenance.json": json.dumps(facts, indent=1).encode(),
    }


def _tags(run: schema.Config, facts: dict[str, Any]) -> dict[str, str]:
    """What the registry's table shows; everything else stands in provenance.json."""
    shown = {"mcl.strategy": run.strategy["name"], "promoted_at": facts["at"], "synthetic": str(facts["synthetic"]).lower()}
    return shown | {key: str(facts[key]) for key in ("run_id", "alias", "by", "config_sha256", "data_fingerprint")}


def _header(facts: dict[str, Any]) -> str:
    lines = [
        "Written by mcl promote, for review and commit. Never edit it: mcl live refuses an edited file.",
        f"run              {facts['run_id']} of study {facts['study']}",
        f"promoted         {facts['at']} by {facts['by']}",
        f"config_sha256    {facts['config_sha256']}",
        f"data_fingerprint {facts['data_fingerprint']}",
        f"code_sha256      {facts['code_sha256']}",
        f"git              {facts['git']['commit']}" + (" with uncommitted changes" if facts["git"]["dirty"] == "true" else ""),
        f"hold-out         {facts['holdout']['sessions']} sessions, look number {facts['holdout']['look']}",
        *([f"gates left out   {', '.join(facts['gates_left_out'])}"] if facts["gates_left_out"] else []),
        *([facts["watermark"]] if facts["watermark"] else []),
    ]
    return "".join(f"# {line}\n" for line in lines)
