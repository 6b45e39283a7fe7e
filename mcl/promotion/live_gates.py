"""Gates of real money on top of the others: market data, a clean tree, and enough audited
sessions on paper.
"""

from __future__ import annotations

import math
from typing import Any

from mcl import composition
from mcl.base.errors import PromotionError
from mcl.config.promotion_rules import LiveRules
from mcl.data.synthetic.watermark import watermark
from mcl.promotion.gates import IMPOSSIBLE, Gate, at_least, at_most
from mcl.promotion.live_record import LiveRecord, records
from mcl.promotion.promoted_file import MODEL
from mcl.tracking import backtest_run, provenance, repository
from mcl.tracking.store import Store, StoredRun, StoredVersion

ALWAYS = ("market_data", "lookahead", *IMPOSSIBLE)  # hard whatever the configuration lists


def hard(rules: LiveRules) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*ALWAYS, *rules.hard)))


def forerunner(stored: StoredRun, store: Store) -> StoredVersion:
    """The newest paper version that was made of this run. PromotionError: there is none."""
    versions = [
        v
        for v in store.versions(MODEL)
        if v.run_id == stored.run_id and v.tags.get("stage") == "paper"
    ]
    if not versions:
        raise PromotionError(
            f"run {stored.run_id} has never been promoted to paper; live takes only what has traded"
            " there",
            f"mcl promote {stored.run_id[:12]} --to paper, then mcl live paper",
        )
    return versions[0]


def evaluate(
    rules: LiveRules, stored: StoredRun, repeated: backtest_run.Replayed, store: Store
) -> tuple[tuple[Gate, ...], dict[str, Any]]:
    """The gates, and the paper record for the provenance of the version."""
    version, code = forerunner(stored, store), provenance.code_sha256(repeated.config.strategy)
    contents = {
        v.tags.get("content_sha256")
        for v in store.versions(MODEL)
        if v.run_id == stored.run_id and v.tags.get("stage") == "paper"
    }
    sessions = [
        s
        for content, record in records(store).items()
        if content in contents
        for s in record.sessions
    ]
    same = [
        s
        for s in sessions
        if s.code_sha256 == code and (rules.simulated_sessions or not s.simulated)
    ]
    by_day = {s.session: s for s in same}
    counted = LiveRecord(
        tuple(by_day[day] for day in sorted(by_day) if not math.isnan(by_day[day].unexplained))
    )
    gates = (_market(repeated), _clean(rules), *_sessions(rules, counted, len(sessions)))
    paper_record = {
        "version": version.version,
        "sessions": len(counted.sessions),
        "net_pnl_usd": counted.net_pnl_usd,
        "runs": [s.run_id for s in counted.sessions],
    }
    return tuple(gate for gate in gates if gate is not None), paper_record


def _market(repeated: backtest_run.Replayed) -> Gate:
    means = watermark(repeated.bars) or "prices of a market"
    return Gate(
        "market_data", float(not repeated.bars.synthetic), "= 1", not repeated.bars.synthetic, means
    )


def _clean(rules: LiveRules) -> Gate | None:
    if not rules.clean_tree:
        return None
    git = repository.state(composition.root())
    clean = git["dirty"] == "false"
    means = {
        "true": "the repository has uncommitted changes",
        "false": f"commit {git['commit'][:12]}",
    }
    return Gate(
        "clean_tree",
        float(clean),
        "= 1",
        clean,
        means.get(git["dirty"], "no git repository"),
    )


def _sessions(rules: LiveRules, counted: LiveRecord, total: int) -> tuple[Gate | None, ...]:
    number = len(counted.sessions)
    without = "" if rules.simulated_sessions else ", on a simulated TWS"
    rest = (
        f"; {total - number} more were made by other code{without} or not audited"
        if total > number
        else ""
    )
    means = "differences from the backtest without a cause" if number else "no session to look at"
    unexplained = counted.unexplained if number else math.nan
    return (
        at_least(
            "paper_sessions",
            number,
            rules.min_paper_sessions,
            f"audited sessions on paper by this code{rest}",
        ),
        at_most("paper_unexplained", unexplained, rules.max_unexplained, means),
    )
