"""Outcomes on their way into the store: one child run per trial, written in batches, and the tables that the parent keeps."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mcl import config, trials
from mcl.search.trial import Outcome
from mcl.tracking import Record, Store

if TYPE_CHECKING:
    import pandas as pd

BATCH = 50  # a killed process loses at most this many rows of the store; the journal has them
BATCH_SEC = 5.0
SHOWN_WHEN_PRUNED = ("trades",)  # a pruned trial must not lead a list that is sorted by a metric


class Ledger:
    """Collects outcomes in order of completion. `params` are those of the unsearched configuration, `tags` go to every trial."""

    def __init__(self, store: Store, study: str, parent: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        self._store, self._study, self._parent = store, study, parent
        self._params, self._tags = dict(params), dict(tags)
        self._waiting: list[Outcome] = []
        self._flushed = time.perf_counter()
        self._outcomes: list[Outcome] = []
        self.run_ids: dict[int, str] = {}

    def add(self, outcome: Outcome) -> None:
        self._waiting.append(outcome)
        if len(self._waiting) >= BATCH or time.perf_counter() - self._flushed > BATCH_SEC:
            self.flush()

    def keep(self, outcome: Outcome, run_id: str) -> None:
        """Enter an outcome whose run is in the store already."""
        self.run_ids[outcome.number] = run_id
        self._outcomes.append(outcome)

    def flush(self) -> None:
        """Write what waits. All trials of a batch are in the store afterwards, or a StoreError says why."""
        batch, self._waiting = self._waiting, []
        run_ids = self._store.record_many([self._record(outcome) for outcome in batch])
        self.run_ids |= {outcome.number: run_id for outcome, run_id in zip(batch, run_ids, strict=True)}
        trials.append(self._store.root, [t for t in map(self._trial, batch) if t is not None])
        self._outcomes += batch
        self._flushed = time.perf_counter()

    def keys(self) -> list[str]:
        """What was varied, by config key."""
        return list(dict.fromkeys(key for outcome in self._outcomes for key in outcome.params))

    def frame(self) -> pd.DataFrame:
        """One row per trial by number: state, reason, value, run id, searched values (dotted keys) and metrics."""
        import pandas as pd

        rows = [self._row(outcome) for outcome in self._ordered()]
        fixed = ["trial", "state", "reason", "detail", "value", "seconds", "run_id", "config_sha256"]
        return pd.DataFrame(rows, columns=list(dict.fromkeys([*fixed, *(key for row in rows for key in row)])))

    def session_returns(self) -> pd.DataFrame:
        """One row per simulated trial: `session` (trade dates as days since 1970-01-01) and `return_frac` as lists of equal length."""
        import pandas as pd

        simulated = [outcome for outcome in self._ordered() if len(outcome.returns)]
        columns: dict[str, list[Any]] = {
            "trial": [outcome.number for outcome in simulated],
            "session": [outcome.sessions for outcome in simulated],
            "return_frac": [outcome.returns for outcome in simulated],
        }
        return pd.DataFrame(columns)

    def files(self) -> dict[str, bytes]:
        return {"trials.parquet": _parquet(self.frame()), "session_returns.parquet": _parquet(self.session_returns())}

    def _ordered(self) -> list[Outcome]:
        return sorted(self._outcomes, key=lambda outcome: outcome.number)

    def _row(self, outcome: Outcome) -> dict[str, Any]:
        fixed = {
            "trial": outcome.number,
            "state": outcome.state,
            "reason": outcome.reason,
            "detail": outcome.detail,
            "value": outcome.value,
            "seconds": outcome.seconds,
            "run_id": self.run_ids[outcome.number],
            "config_sha256": fingerprint(outcome),
        }
        return fixed | outcome.params | outcome.metrics

    def _trial(self, outcome: Outcome) -> trials.Trial | None:
        """The outcome as a row of the trial ledger; None for a grid's job without a configuration, which has tried nothing."""
        flat = config.flatten(outcome.config) if outcome.config else self._params
        where = trials.place(flat)
        return where and trials.Trial(
            place=where,
            run_id=self.run_ids[outcome.number],
            kind="search",
            study=self._study,
            state=outcome.state,
            group=self._parent,
            reason=outcome.reason,
            config_sha256=fingerprint(outcome),
            data_fingerprint=self._tags.get("data_fingerprint", ""),
            params=outcome.params,
            sessions=outcome.sessions,
            returns=outcome.returns,
        )

    def _record(self, outcome: Outcome) -> Record:
        facts = {"state": outcome.state, "reason": outcome.reason, "detail": outcome.detail, "config_sha256": fingerprint(outcome)}
        files = {"config.json": json.dumps(outcome.config, indent=1).encode()} if outcome.config else {}
        if outcome.traceback:
            files["traceback.txt"] = outcome.traceback.encode()
        scored = outcome.state == "COMPLETE"
        return Record(
            study=self._study,
            name=f"trial {outcome.number}",
            params=self._params | outcome.params,
            metrics=outcome.metrics if scored else {k: v for k, v in outcome.metrics.items() if k in SHOWN_WHEN_PRUNED},
            tags=self._tags | {"mcl.kind": "trial", "trial": str(outcome.number)} | facts,
            files=files,
            parent=self._parent,
            status="FAILED" if outcome.state == "FAILED" else "FINISHED",
        )


def fingerprint(outcome: Outcome) -> str:
    """The same as `config.fingerprint`; empty when the configuration is not valid."""
    return config.digest({key: outcome.config[key] for key in config.DECIDES}) if outcome.config else ""


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, compression="zstd", index=False)
    return buffer.getvalue()
