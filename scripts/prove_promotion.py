"""The promises of a promotion, on real clones and through the command line: altered bytes, another
clone, MLflow alone.

    python scripts/prove_promotion.py

1. A run is promoted in one clone of this repository. One byte of every artifact is changed in turn:
`mcl live` must refuse each time and
   name the file, and must load again when the byte is back.
2. The promoted file is committed and pulled by a second clone with another working directory, which
shares the store: it loads the same
   version, and trades a session of it whose decisions are all equal to the backtest's.
3. A Python that cannot see mcl loads `models:/mcl@paper` with MLflow alone and predicts: the
targets of the backtest, bit for bit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from processor import spent

REPOSITORY = Path(__file__).resolve().parents[1]
RUN = ("data=planted", "data.start='2025-03-01'", "strategy.fast=240", "strategy.slow=960")
EASY = (
    *(
        "promotion.min_sessions=50",
        "promotion.min_trades=20",
        "promotion.max_p_value=null",
        "promotion.min_holdout_sharpe_high=null",
    ),
    *("promotion.max_trade_share=null", "promotion.max_session_share=null"),
)
ALONE = """
import os, sys
sys.path = [p for p in sys.path if not os.path.isdir(os.path.join(p or ".", "mcl"))]
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/mcl@paper")
import mcl
assert "artifacts" in mcl.__file__, mcl.__file__
model.predict(pd.read_parquet(sys.argv[1])).to_parquet(sys.argv[2])
"""


def mcl(home: Path, *words: str, **env: str) -> dict[str, Any]:
    """The answer, or the refusal, of one command line in a clone."""
    clean = (
        {key: value for key, value in os.environ.items() if key != "MCL_HOME"}
        | {"PYTHONPATH": str(home)}
        | env
    )
    done = subprocess.run(
        [sys.executable, "-m", "mcl", "--json", *words],
        cwd=home,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if not lines:
        raise SystemExit(f"mcl {' '.join(words)} said nothing:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def git(where: Path, *words: str) -> None:
    who = ("-c", "user.name=Proof", "-c", "user.email=proof@localhost")
    subprocess.run(["git", "-C", str(where), *who, *words], check=True, capture_output=True)


def tampered(home: Path) -> int:
    """How many altered files were not refused by name."""
    sys.path.insert(0, str(home))
    from mcl.base.errors import LiveError
    from mcl.promotion.promote import promoted
    from mcl.tracking.project import Project
    from mcl.tracking.store import Store

    store = Store(home)
    folder, missed = store.version("mcl", "paper").folder, 0
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    for name in names:
        target = folder / name
        before = target.read_bytes()
        target.write_bytes(before[:-1] + bytes([before[-1] ^ 1]) if before else b"x")
        try:
            promoted("paper", Project(home, store))
            said = "was loaded"
        except LiveError as error:
            said = error.message
        if name not in said:
            missed += 1
            print(f"  {name}: {said}")
        target.write_bytes(before)
    refusal = mcl_with_a_byte_changed(home, folder / "config.yaml")
    print(
        f"{len(names) - missed} of {len(names)} altered artifacts refused by name; mcl live says:"
        f" {refusal}"
    )
    return missed + (promoted("paper", Project(home, store)).version != 1)


def mcl_with_a_byte_changed(home: Path, target: Path) -> str:
    before = target.read_bytes()
    target.write_bytes(before.replace(b"fast: 240", b"fast: 241"))
    said = str(mcl(home, "live", "paper")["error"]["message"])
    target.write_bytes(before)
    return said


def second_clone(home: Path, other: Path) -> int:
    """Commit, pull elsewhere, trade there on the shared store."""
    git(home, "add", "-f", "conf/promoted/paper.yaml")
    git(home, "commit", "-m", "promote: paper")
    subprocess.run(["git", "clone", "-q", str(home), str(other)], check=True)
    shared = {"MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlruns' / 'mlflow.db'}"}
    session = mcl(other, "live", "paper", **shared)
    listed = mcl(other, "registry", **shared)["versions"][0]
    equal = session.get("differences") == []
    print(
        f"another clone: version {listed['version']}, {session.get('decisions')} decisions, all"
        f" equal: {equal}; record {listed['live']}"
    )
    return int(not equal or listed["live"]["sessions"] != 1)


def by_mlflow_alone(home: Path, scratch: Path) -> int:
    import pandas as pd

    from mcl.data.loader import load
    from mcl.engine.backtest import backtest
    from mcl.promotion import pyfunc_model
    from mcl.promotion.promote import promoted
    from mcl.tracking.project import Project

    deployed = promoted("paper", Project.at(home))
    bars = load(deployed.config.data, home)
    pyfunc_model.frame(bars).to_parquet(scratch / "bars.parquet")
    env = {key: value for key, value in os.environ.items() if key not in ("MCL_HOME", "PYTHONPATH")}
    env |= {
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlruns' / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    words = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        ALONE,
        str(scratch / "bars.parquet"),
        str(scratch / "targets.parquet"),
    ]
    subprocess.run(words, cwd=scratch, env=env, check=True, capture_output=True)
    made, result = pd.read_parquet(scratch / "targets.parquet"), backtest(deployed.config, bars)
    same = bool(
        (made["target"].to_numpy() == result.target).all()
        and (made["position"].to_numpy() == result.position).all()
    )
    print(f"MLflow alone: {len(made):,} targets, bit-equal to the backtest: {same}")
    return int(not same)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mcl-proof-") as name:
        scratch = Path(name)
        home, other = scratch / "one", scratch / "somewhere" / "else" / "two"
        subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(home)], check=True)
        os.environ["MCL_HOME"] = str(home)
        run_id = mcl(home, "backtest", *RUN)["run_id"]
        promoted = mcl(home, "promote", run_id, *EASY)
        if "error" in promoted:
            raise SystemExit(promoted["error"]["message"])
        wrong = tampered(home) + by_mlflow_alone(home, scratch) + second_clone(home, other)
    print(f"{'every promise holds' if not wrong else f'{wrong} promises do not hold'} · {spent()}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
