"""data check, data costs, contract check: what can be believed before a backtest, and what cannot."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from mcl import config, screen

if TYPE_CHECKING:
    from mcl.data.health import Finding, Health


def data(args: Namespace) -> int:
    """Print every finding, write the page; 1 when there is an error."""
    from mcl.data.health import examine

    health = examine(config.compose("backtest", args.overrides).config.data, config.root())
    path = _page(health)
    findings = [f.as_dict() for f in health.findings]
    answer = {"errors": health.count("error"), "warnings": health.count("warning"), "findings": findings, "report": str(path)}
    screen.answer(answer, lambda: _show(health, path))
    return 1 if health.count("error") else 0


def _page(health: Health) -> Path:
    from mcl.evidence import watermark
    from mcl.files import write_whole
    from mcl.report.health import health_page

    mark = watermark(health.bars) if health.bars is not None else ""
    if not mark and health.table is not None and health.table.synthetic:
        mark = "SYNTHETIC DATA — not a market result"
    path = config.root() / "data" / "health" / f"{health.label}.html"
    write_whole(path, health_page(health, title=f"Data check of {health.label}", synthetic=mark).encode())
    return path


def _show(health: Health, path: Path) -> None:
    rows = [(f.severity, f.kind, f.count, _first(f), f.action) for f in health.findings]
    if rows:
        screen.table("findings", ["severity", "kind", "count", "what and where", "what to do"], rows, left=5)
    counts = f"{health.count('error')} errors, {health.count('warning')} warnings"
    screen.say(f"{counts}. Page: {path}")


def _first(finding: Finding) -> str:
    return finding.text + (f": {finding.places[0]}" if finding.places else "") + (" …" if finding.count > 1 and finding.places else "")
