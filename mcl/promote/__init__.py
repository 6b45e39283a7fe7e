"""From a run to a version that may trade: repeat it, judge it, freeze it."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mcl import accesses, evidence, runs, schema, steps
from mcl.errors import PromotionError, StoreError, nearest
from mcl.promote import bundle, holdout, moves, paper, robust
from mcl.promote.deploy import Deployable, promoted
from mcl.promote.gates import Gate, evaluate, left_out, tally_of, waive
from mcl.promote.holdout import Look
from mcl.promote.place import MODEL, STAGES, named
from mcl.promote.repeat import Verdict, repeated, reproduce
from mcl.rules import Promotion
from mcl.tracking import Store, StoredRun, content_sha256
from mcl.trials import Tally

__all__ = ["MODEL", "Deployable", "GatesMissed", "Promoted", "Verdict", "promote", "promoted", "reproduce"]


@dataclass(frozen=True)
class Promoted:
    alias: str
    stage: str
    version: int
    run_id: str
    gates: tuple[Gate, ...]
    path: Path  # conf/promoted/ALIAS.yaml
    content_sha256: str
    synthetic: bool
    reads: tuple[str, ...] = ()  # what the person's own code reads besides its bars


class GatesMissed(PromotionError):
    """The refusal of a run that missed gates; `gates` holds all of them, passed ones too, `reads` what own code reads."""

    def __init__(self, run_id: str, gates: tuple[Gate, ...], reads: tuple[str, ...] = ()) -> None:
        missed = [gate for gate in gates if not gate.open]
        listed = "; ".join(str(gate) for gate in missed)
        super().__init__(
            f"run {run_id} missed {len(missed)} of {len(gates)} gates: {listed}",
            "a gate is changed in conf/promotion/, not by running until it passes: trials and looks at the hold-out are counted",
        )
        self.gates, self.reads = gates, reads


def promote(
    run_id: str,
    stage: str = "paper",
    *,
    store: Store,
    root: Path,
    gates: Promotion,
    name: str | None = None,
    waived: Sequence[str] = (),
    because: str = "",
) -> Promoted:
    """Repeat the run, judge it on its own and on unseen data, register it, give it `name` (default: the stage) and write
    conf/promoted/NAME.yaml. `because` says why, above all why the gates in `waived` may be missed.

    PromotionError when the repetition is not bit-equal (it names the metric and the input that moved) or a gate is missed (it
    lists all of them); the version that had the name before then still has it.
    """
    if stage not in STAGES:
        raise PromotionError(f"a run cannot be promoted to {stage!r}: {nearest(stage, STAGES)}", "mcl promote RUN_ID --to paper")
    name = named(stage, name)
    _same_stage(name, stage, store)
    stored = store.run(run_id)
    if stage == "live":
        paper.forerunner(stored, store)
        gates = gates.model_copy(update={"max_biased_rows": gates.max_biased_rows or 0})  # for real money it is always asked
    with accesses.collected() as found:
        steps.begin("repeating the run")
        again = repeated(stored, root)
        steps.begin("judging it on unseen data")
        tally, look = tally_of(again.config, stored, root), holdout.look(again.config, stored.run_id, root)
        steps.begin("judging it on other data")
        table = evaluate(gates, again.result, tally, look) + robust.evaluate(gates, stored, again, store, root)
    reads = tuple(sorted(found))
    steps.begin("registering it")
    on_paper, told = paper.evaluate(gates.live, stored, again, store) if stage == "live" else ((), {})
    table = waive(table + on_paper, waived, because, stage, paper.hard(gates.live))
    if not all(gate.open for gate in table):
        raise GatesMissed(stored.run_id, table, reads)
    facts = _provenance(stored, again, rules=gates, tally=tally, look=look)
    facts |= {"name": name, "stage": stage, "why": because.strip(), "waived": {g.name: g.waived for g in table if g.waived}, "paper": told}
    facts["own_code_reads"] = list(reads)
    files = bundle.files(stored, again, table, facts)
    version, path = moves.freeze(name, stored.run_id, files, _tags(again.config, table, facts), because.strip(), store=store, root=root)
    return Promoted(name, stage, version, stored.run_id, table, path, content_sha256(files), again.bars.synthetic, reads)


def _same_stage(name: str, stage: str, store: Store) -> None:
    """A name never changes between paper and real money: whoever starts it knows what he starts."""
    try:
        holder = store.version(MODEL, name)
    except StoreError:
        return
    if (known := holder.tags.get("stage", "paper")) != stage:
        raise PromotionError(f"{name!r} is the name of a {known} version, version {holder.version}; choose another --name for {stage}")


def _provenance(stored: StoredRun, again: runs.Replayed, *, rules: Promotion, tally: Tally, look: Look) -> dict[str, Any]:
    """Who, when and out of what. All text or numbers, for the registry and for the head of the promoted file."""
    now, luck = evidence.tags(again.config, again.bars), tally.luck(again.metrics)
    return {
        "run_id": stored.run_id,
        "study": stored.study,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": getpass.getuser(),
        "config_sha256": now["config_sha256"],
        "trial_sha256": now["trial_sha256"],
        "data_fingerprint": now["data_fingerprint"],
        "code_sha256": now["code_sha256"],
        "synthetic": again.bars.synthetic,
        "watermark": evidence.watermark(again.bars),
        "git": {key: now[f"git.{key}"] for key in ("commit", "dirty")},
        "git_of_run": {key: stored.tags.get(f"git.{key}", "unknown") for key in ("commit", "dirty")},
        "at_promotion": {  # by the trial ledger as it was then; never compared with what is counted later
            "deflated_sharpe": luck.deflated,
            "best_by_luck": luck.best_by_luck,
            "trials": luck.trials,
            "rule": luck.sentence,
        },
        "holdout": {"fingerprint": look.fingerprint, "look": look.number, "sessions": look.sessions},
        "gates_left_out": list(left_out(rules)),
    }


def _tags(run: schema.Config, table: Sequence[Gate], facts: dict[str, Any]) -> dict[str, str]:
    """What MLflow's own pages show; everything else stands in the files."""
    shown = {"mcl.strategy": run.strategy["name"], "promoted_at": facts["at"], "synthetic": str(facts["synthetic"]).lower()}
    shown |= {"gates": f"{sum(g.passed for g in table)} of {len(table)}", "alias": facts["name"]}
    shown |= {f"waived.{name}": why for name, why in facts["waived"].items()}
    copied = ("run_id", "stage", "by", "why", "config_sha256", "data_fingerprint", "code_sha256")
    return shown | {key: str(facts[key]) for key in copied}
