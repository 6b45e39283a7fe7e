"""The whole line once, with no key and no account: search, compare, promote, paper session. `make
demo` runs it.

Two synthetic worlds, so that both answers are seen: in the one without any edge the promotion must
be refused, in the one with a planted edge it must pass. Nothing here is a market result.
"""

from __future__ import annotations

import shlex
import sys
import time

from mcl.cli.main import main as mcl
from mcl.tracking.store import Store, StoredRun

RULE = "─" * 100


def run(command: str, expect: int = 0) -> None:
    """Show one command as a person would type it, run it, and stop the demo when its exit code is
    not the expected one.
    """
    print(f"\n{RULE}\n$ mcl {command}", flush=True)
    code = mcl(shlex.split(command))
    if code != expect:
        sys.exit(f"demo: `mcl {command}` ended with {code}, expected {expect}")


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


def best(study: str) -> StoredRun:
    """The full run that the newest sweep of this study ended with."""
    store = Store()
    sweep = next(
        r
        for r in store.in_study(study, tops=True)
        if r.tags.get("mcl.kind") == "sweep" and r.status == "FINISHED"
    )
    return store.run(sweep.tags["best_run_id"])


def main() -> int:
    started = time.monotonic()
    say(
        "1. A world without any edge. The best of a search looks good by luck; the gates must"
        " say so."
    )
    run("data info data=synthetic")
    run("sweep data=synthetic study=demo_zero_edge search.trials=24 search.sampler=random")
    loser = best("demo_zero_edge")
    run(f"promote {loser.run_id[:12]} --to paper", expect=1)
    say("   Refused, as it should be.")

    say("2. A world with a planted edge of known size.")
    run("sweep data=planted study=demo_planted_edge search.trials=24 search.sampler=random")
    winner = best("demo_planted_edge")
    run(
        "backtest -m data=planted study=demo_planted_edge strategy.fast=120,240"
        " strategy.slow=480,960"
    )
    run(f"compare {winner.run_id[:12]} {loser.run_id[:12]}")
    run(f"rerun {winner.run_id[:12]}")
    run(f"promote {winner.run_id[:12]} --to paper")
    run("registry")

    say(
        "3. One paper session of the promoted version on the embedded simulated TWS, audited"
        " decision by decision."
    )
    run("live paper")
    say(
        f"Done in {time.monotonic() - started:.0f} s. Everything above is synthetic; `mcl ui` (or"
        " make ui) shows every run and page."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
