"""promote, registry, rollback, promoted …: from a run to the version that a name stands for, and back."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from mcl import config, screen
from mcl.tracking import Store


def promote(args: Namespace) -> int:
    from mcl import promote as promotion
    from mcl import schema

    raw = config.compose("promote", args.overrides).raw
    gates = config.validate(schema.Promotion, raw["promotion"], "promotion")
    try:
        done = promotion.promote(
            args.run_id,
            args.to,
            store=Store(),
            root=config.root(),
            gates=gates,
            name=args.name,
            waived=args.waive,
            because=args.because,
        )
    except promotion.GatesMissed as refusal:
        if not screen.quiet():
            _gates(refusal.gates)
        raise
    data = {
        "name": done.alias,
        "stage": done.stage,
        "version": done.version,
        "run_id": done.run_id,
        "gates": [vars(g) for g in done.gates],
        "path": done.path,
        "content_sha256": done.content_sha256,
    }
    screen.answer(data, lambda: _promoted(done))
    return 0


def _gates(gates: Any) -> None:
    rows = [[g.name, g.value, g.rule, g.word, g.waived or g.meaning] for g in gates]
    screen.table("gates", ["gate", "value", "rule", "", "what it says"], rows, left=5)


def _promoted(done: Any) -> None:
    _gates(done.gates)
    screen.say(f"version {done.version} is now {done.alias!r} · {done.path} · next: mcl live {done.alias}")
