"""From a run to a version that may trade: repeat it, judge it, freeze it."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcl.base import access_recorder, progress
from mcl.base.errors import PromotionError, StoreError, nearest
from mcl.base.terminal import plain
from mcl.base.words import many, record_html, record_text
from mcl.config import schema
from mcl.config.promotion_rules import Promotion
from mcl.data.data_note import data_note
from mcl.data.fence import no_holdout
from mcl.promotion import aliases, bundle, live_gates, robustness_gates
from mcl.promotion.gates import (
    BEFORE_LOOK,
    NOT_LOOKED,
    Gate,
    check_waivers,
    left_out,
    searched,
    significant,
    table,
    tally_of,
    unseen,
    waive,
)
from mcl.promotion.load import Deployable, promoted
from mcl.promotion.promoted_file import MODEL, STAGES, named
from mcl.promotion.reproduce import Reproduction, repeated, reproduce
from mcl.promotion.significance import Significance, significance
from mcl.tracking import backtest_run, provenance, trial_ledger
from mcl.tracking.project import Project
from mcl.tracking.store import Store, StoredRun, content_sha256
from mcl.tracking.trial_ledger import Tally
from mcl.validation import holdout
from mcl.validation.constructed_stress import constructed
from mcl.validation.holdout import Look
from mcl.validation.subject import subject

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MODEL",
    "Deployable",
    "GatesMissed",
    "Promoted",
    "Reproduction",
    "promote",
    "promoted",
    "reproduce",
]


@dataclass(frozen=True, repr=False)
class Promoted:
    alias: str
    stage: str
    version: int
    run_id: str
    gates: tuple[Gate, ...]
    path: Path  # conf/promoted/ALIAS.yaml
    content_sha256: str
    synthetic: bool
    reads: tuple[str, ...] = ()  # what the user's own code reads besides its bars
    notes: tuple[str, ...] = ()  # what a reader must know of the run

    def __repr__(self) -> str:
        return record_text(f"Promoted {self.alias!r}", *self._summary())

    def _repr_html_(self) -> str:
        return record_html(f"Promoted {self.alias!r}", *self._summary())

    def _summary(self) -> tuple[dict[str, str], str]:
        passed = sum(gate.passed for gate in self.gates)
        required = many(sum(gate.required for gate in self.gates), "gate")
        rows = {
            "version": f"{self.version}, for {self.stage}",
            "run": self.run_id,
            "gates": f"{passed} of {required} passed",
        }
        return rows, f"file {self.path}"

    def table(self) -> pd.DataFrame:
        """One row per gate: `gate`, `value`, `rule`, `verdict`, `what it says`."""
        return table(self.gates)


class GatesMissed(PromotionError):
    """The refusal of a run that missed gates; `gates` holds all of them, passed ones too, `reads`
    what own code reads, `notes` what else a reader must know of the run.
    """

    def __init__(
        self,
        run_id: str,
        gates: tuple[Gate, ...],
        reads: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> None:
        missed = [gate for gate in gates if not gate.open]
        listed = "; ".join(str(gate) for gate in missed)
        super().__init__(
            f"run {run_id} missed {len(missed)} of"
            f" {many(sum(gate.required for gate in gates), 'gate')}: {listed}"
            + "".join(f". {note.rstrip('.')}" for note in notes),
            "a gate is changed in conf/promotion/, not by running until it passes: trials and looks"
            " at the hold-out are counted",
        )
        self.gates, self.reads, self.notes = gates, reads, notes

    def as_dict(self) -> dict[str, Any]:
        """The refusal with every gate and note."""
        listed = [gate.as_dict() for gate in self.gates]
        return super().as_dict() | {"gates": listed, "notes": list(self.notes)}

    def table(self) -> pd.DataFrame:
        """The same as of `Promoted`: passed gates and missed ones."""
        return table(self.gates)


def promote(
    run_id: str,
    stage: str = "paper",
    *,
    project: Project,
    gates: Promotion,
    name: str | None = None,
    waived: Sequence[str] = (),
    because: str = "",
) -> Promoted:
    """Repeat the run, judge it on its own and on unseen data, register it, give it `name` (default:
    the stage) and write conf/promoted/NAME.yaml. `because` says why, above all why the gates in
    `waived` may be missed.

    Every argument is checked before the run is repeated. The hold-out is looked at last, and not at
    all when a gate on the code, or one on what is possible, is missed: such a refusal costs no
    look. PromotionError when the repetition is not bit-equal (it names the metric and the input
    that moved) or a gate is missed (it lists all of them); the version that had the name before
    then still has it.
    """
    if stage not in STAGES:
        raise PromotionError(
            f"a run cannot be promoted to {stage!r}: {nearest(stage, STAGES)}",
            "mcl promote RUN_ID --to paper",
        )
    name, why = named(stage, name), because.strip()
    if stage == "live":
        # for real money it is always asked
        gates = gates.model_copy(update={"max_biased_rows": gates.max_biased_rows or 0})
    check_waivers(waived, because, gates, stage, live_gates.hard(gates.live))
    _same_stage(name, stage, project.store)
    stored = project.store.run(run_id)
    evidence = _judge(stored, gates, stage, waived, because, project)
    if not all(gate.open for gate in evidence.gates):
        raise GatesMissed(stored.run_id, evidence.gates, evidence.reads, evidence.notes)
    progress.begin("registering it")
    facts = _provenance(stored, evidence) | {
        "name": name,
        "stage": stage,
        "why": why,
        "gates_left_out": list(left_out(gates, stage)),
    }
    run = evidence.repeated
    files = bundle.files(stored, run, evidence.gates, facts)
    tags = _tags(run.config, evidence.gates, facts)
    version, path = aliases.freeze(name, stored.run_id, files, tags, why, project=project)
    return Promoted(
        name,
        stage,
        version,
        stored.run_id,
        evidence.gates,
        path,
        content_sha256(files),
        run.bars.synthetic,
        evidence.reads,
        evidence.notes,
    )


@dataclass(frozen=True)
class _Evidence:
    """Everything that a promotion is decided by. `paper` is the record on paper that live asks for,
    `reads` the files that the user's own code opened.
    """

    repeated: backtest_run.Replayed
    gates: tuple[Gate, ...]
    tally: Tally
    look: Look
    significance: Significance
    paper: dict[str, Any]
    reads: tuple[str, ...]
    notes: tuple[str, ...] = ()


def _judge(
    stored: StoredRun,
    rules: Promotion,
    stage: str,
    waived: Sequence[str],
    because: str,
    project: Project,
) -> _Evidence:
    """Repeat the run and evaluate all gates, those on the hold-out last. GatesMissed when a gate
    that comes before the look is missed: then the hold-out is not read.
    """
    on_paper: tuple[Gate, ...] = ()
    paper: dict[str, Any] = {}
    if stage == "live":
        live_gates.forerunner(stored, project.store)
    with access_recorder.recording() as opened:
        progress.begin("repeating the run")
        run = repeated(stored, project.root)
        progress.begin("judging it on other data")
        about = subject(stored.run_id, project)
        robust = robustness_gates.evaluate(rules, about, run, project.root)
        if stage == "live":
            on_paper, paper = live_gates.evaluate(rules.live, stored, run, project.store)
        tally = tally_of(run.config, stored, project.root)
        own = searched(rules, run.result, tally, holdout.NONE, stage)
        before = waive((*own, *robust, *on_paper), waived, because)
        if any(gate.name in BEFORE_LOOK and not gate.open for gate in before):
            reads = tuple(sorted(opened))
            raise GatesMissed(stored.run_id, (*before, NOT_LOOKED), reads, notes(run))
        progress.begin("judging it on unseen data")
        look = holdout.look(run.config, stored.run_id, project.root)
        tested = significance(about, trial_ledger.stored_identity(stored.tags), look, project.root)
    own = searched(rules, run.result, tally, look, stage)
    every = (*own, *robust, *unseen(rules, look), *significant(rules, tested, stage), *on_paper)
    answered = waive(every, waived, because)
    return _Evidence(run, answered, tally, look, tested, paper, tuple(sorted(opened)), notes(run))


def notes(run: backtest_run.Replayed) -> tuple[str, ...]:
    """Say what a reader of the gates must know of the run: an end of all trading, and how a run
    without a hold-out gets one.
    """
    fence = "" if run.config.data.holdout_start else no_holdout(run.bars)
    return tuple(filter(None, (backtest_run.halt(run.result, run.config), fence)))


def _same_stage(name: str, stage: str, store: Store) -> None:
    """A name never changes between paper and real money: whoever starts it knows what he starts."""
    try:
        holder = store.version(MODEL, name)
    except StoreError:
        return
    if (current := holder.tags.get("stage", "paper")) != stage:
        raise PromotionError(
            f"{name!r} is the name of a {current} version, version {holder.version}; choose another"
            f" --name for {stage}"
        )


def _significance(tests: Significance) -> dict[str, Any]:
    """The parts of the deciding test."""
    return {
        "p_value": tests.p_value,
        "market_p_value": tests.market_p_value,
        "search": asdict(tests.strategy),
        "market": asdict(tests.market),
        "holdout": asdict(tests.holdout),
        "looks": tests.looks,
        "points": tests.points,
    }


def _provenance(stored: StoredRun, evidence: _Evidence) -> dict[str, Any]:
    """Return who promoted, when and out of what. All text or numbers, for the registry and for the
    head of the promoted file.
    """
    run, look = evidence.repeated, evidence.look
    now, luck = provenance.tags(run.config, run.bars), evidence.tally.luck(run.metrics)
    return {
        "run_id": stored.run_id,
        "study": stored.study,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": getpass.getuser(),
        "config_sha256": now["config_sha256"],
        "trial_sha256": now["trial_sha256"],
        "data_fingerprint": now["data_fingerprint"],
        "code_sha256": now["code_sha256"],
        "synthetic": run.bars.synthetic,
        "watermark": data_note(run.bars),
        "git": {key: now[f"git.{key}"] for key in ("commit", "dirty")},
        "git_of_run": {
            key: stored.tags.get(f"git.{key}", "unknown") for key in ("commit", "dirty")
        },
        # by the trial ledger as it was then; never compared with what is counted later
        "at_promotion": {
            "deflated_sharpe": luck.deflated,
            "best_by_luck": luck.best_by_luck,
            "trials": luck.trials,
            "rule": luck.sentence,
        },
        "holdout": {
            "fingerprint": look.fingerprint,
            "look": look.number,
            "looks": look.looks,
            "sessions": look.sessions,
        },
        "significance": _significance(evidence.significance),
        "waived": {gate.name: gate.waived for gate in evidence.gates if gate.waived},
        "stress": {case.name: plain(asdict(case)) for case in constructed(run.config, run.result)},
        "paper": evidence.paper,
        "own_code_reads": list(evidence.reads),
    }


def _tags(run: schema.Config, gates: Sequence[Gate], facts: dict[str, Any]) -> dict[str, str]:
    """Return the tags that MLflow's own pages show; the files have everything else."""
    tags = {
        "mcl.strategy": run.strategy["name"],
        "promoted_at": facts["at"],
        "synthetic": str(facts["synthetic"]).lower(),
    }
    tags |= {
        "gates": f"{sum(g.passed for g in gates)} of {sum(g.required for g in gates)}",
        "alias": facts["name"],
    }
    tags |= {f"waived.{name}": why for name, why in facts["waived"].items()}
    copied = ("run_id", "stage", "by", "why", "config_sha256", "data_fingerprint", "code_sha256")
    return tags | {key: str(facts[key]) for key in copied}
