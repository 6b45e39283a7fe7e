"""Write the outcomes of a search into the store: one child run per trial, in batches, and the
tables of the parent.
"""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from mcl import composition
from mcl.base import access_recorder
from mcl.base.errors import StoreError
from mcl.metrics.overfit import Luck
from mcl.metrics.performance import moments
from mcl.search.plateau import FIXED
from mcl.search.space import GROUPS
from mcl.search.trial import Outcome
from mcl.strategy import user_strategies
from mcl.tracking import backtest_run, provenance, trial_ledger
from mcl.tracking.naming import RunDataset
from mcl.tracking.store import Record, Store

if TYPE_CHECKING:
    import pandas as pd

# a killed process loses at most this many rows of the store; the log of outcomes has them
BATCH = 1000
BATCH_SEC = 5.0
SHOWN_WHEN_PRUNED = ("trades",)  # a pruned trial must not lead a list that is sorted by a metric


class TrialRecorder:
    """Collect outcomes in order of completion and write them to the store. `params` are those of
    the unsearched configuration, `tags` go to every trial.

    Without `rows` no trial becomes a run of the store, unless it is chosen (`choose`); the tables
    hold every one.
    """

    def __init__(
        self,
        store: Store,
        study: str,
        parent: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        *,
        dataset: RunDataset | None = None,
        rows: bool = True,
    ) -> None:
        self._store, self._study, self._parent, self._rows = store, study, parent, rows
        self._params, self._tags, self._dataset = dict(params), dict(tags), dataset
        self._waiting: list[Outcome] = []
        self._flushed = time.perf_counter()
        self._outcomes: list[Outcome] = []
        self._fingerprints: dict[int, str] = {}
        self._codes: dict[frozenset[str], str] = {}
        self._names = {
            str(value)
            for key, value in params.items()
            if re.fullmatch(r"strategy\.(.+\.)?name", key)
        }
        self._thread = ThreadPoolExecutor(1, "recorder")
        self._writing: Future[None] | None = None
        self._batch: list[Outcome] = []  # that the thread is writing
        self.run_ids: dict[int, str] = {}

    def add(self, outcome: Outcome) -> None:
        """Take an outcome in; now and then a thread begins to write what waits, and the trials go
        on meanwhile.

        StoreError where the batch before could not be written.
        """
        self._waiting.append(outcome)
        if len(self._waiting) >= BATCH or time.perf_counter() - self._flushed > BATCH_SEC:
            self._begin()

    def add_stored(self, outcome: Outcome, run_id: str) -> None:
        """Enter an outcome whose run is in the store already."""
        self.run_ids[outcome.number] = run_id
        self._outcomes.append(outcome)

    def flush(self) -> None:
        """Write what waits. All trials are in the store afterwards, or a StoreError says why."""
        self._begin()
        self._settle()

    @contextmanager
    def flush_at_end(self) -> Iterator[None]:
        """Write everything that is added inside, however the block ends. Of two errors the first is
        raised: that of the search.
        """
        try:
            yield
        except BaseException:
            with suppress(StoreError):
                self.flush()
            raise
        self.flush()

    def _begin(self) -> None:
        """Have a thread write what waits, once the batch before is written."""
        self._settle()
        batch, self._waiting = self._waiting, []
        self._flushed = time.perf_counter()
        if batch:
            self._batch = batch
            self._writing = self._thread.submit(self._file, batch)

    def _settle(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
        self._batch = []

    def _file(self, batch: list[Outcome]) -> None:
        if self._rows:
            self._write(batch)
        self._remember(batch)
        self._outcomes += batch

    def restore(self, outcomes: Sequence[Outcome], rows: Mapping[int, str]) -> None:
        """Take in the outcomes of earlier processes, of which `rows` are runs of the store; write
        what those did not come to write.

        A row whose outcome was lost (a power cut, a damaged file) is discarded: its trial is run
        again.
        """
        numbers = {outcome.number for outcome in outcomes}
        self._store.discard(run_id for number, run_id in rows.items() if number not in numbers)
        for outcome in outcomes:
            if outcome.number in rows:
                self.add_stored(outcome, rows[outcome.number])
            else:
                self.add(outcome)
        self.flush()
        trials = [
            trial
            for outcome in outcomes
            if outcome.number in rows and (trial := self._trial(outcome))
        ]
        places = {trial.pool for trial in trials}
        sharpes_by_pool = {
            where: trial_ledger.tally(self._store.root, where).sharpes for where in places
        }
        trial_ledger.append(
            self._store.root,
            [
                t
                for t in trials
                if t.identity not in sharpes_by_pool[t.pool] and t.reason != "duplicate"
            ],
        )

    def choose(self, numbers: Sequence[int]) -> None:
        """Make runs of these trials, where they are none yet."""
        self._write(
            [
                outcome
                for outcome in self._outcomes
                if outcome.number in numbers and outcome.number not in self.run_ids
            ]
        )

    def add_equity(self, outcomes: Sequence[Outcome]) -> None:
        """Give the runs of these trials their equity as a series, so that MLflow's charts overlay
        them.
        """
        self._store.connection.add_series(
            {
                self.run_ids[outcome.number]: {
                    "curve/equity_usd": backtest_run.equity_points(
                        outcome.config["capital_usd"] * (1 + np.cumsum(outcome.returns))
                    )
                }
                for outcome in outcomes
                if outcome.number in self.run_ids and len(outcome.returns)
            }
        )

    def luck(self, number: int) -> Luck | None:
        """The deflation of a trial's Sharpe ratio by all that the trial ledger holds of its
        strategy on its market.
        """
        return self.luck_of(next(outcome for outcome in self._outcomes if outcome.number == number))

    def luck_of(self, outcome: Outcome) -> Luck | None:
        """The same of an outcome, while others still wait to be written: they are counted with the
        rest.
        """
        where = trial_ledger.trial_pool(composition.flatten(outcome.config))
        if where is None:
            return None
        pending = [
            self._trial(waiting) for waiting in (*self._waiting, *self._batch) if counted(waiting)
        ]
        unwritten = {
            trial.identity: moments(trial.returns).sharpe
            for trial in pending
            if trial and trial.pool == where
        }
        return trial_ledger.tally(self._store.root, where, unwritten).luck(outcome.metrics)

    def scored(self) -> list[Outcome]:
        """The COMPLETE outcomes by number."""
        return [outcome for outcome in self._ordered() if outcome.state == "COMPLETE"]

    def _write(self, outcomes: list[Outcome]) -> None:
        run_ids = self._store.record_many([self._record(outcome) for outcome in outcomes])
        self.run_ids |= {
            outcome.number: run_id for outcome, run_id in zip(outcomes, run_ids, strict=True)
        }

    def _remember(self, outcomes: list[Outcome]) -> None:
        trial_ledger.append(
            self._store.root, [t for t in map(self._trial, outcomes) if t is not None]
        )

    def keys(self) -> list[str]:
        """The config keys that the search varied."""
        return list(dict.fromkeys(key for outcome in self._outcomes for key in outcome.params))

    def frame(self) -> pd.DataFrame:
        """One row per trial by number: state, reason, value, run id, searched values (dotted keys)
        and metrics.
        """
        import pandas as pd

        rows = [self._row(outcome) for outcome in self._ordered()]
        table = pd.DataFrame(
            rows, columns=list(dict.fromkeys([*FIXED, *(key for row in rows for key in row)]))
        )
        mixed = [
            key
            for key in self.keys()
            if table[key].dtype == object
            and len({type(value) for value in table[key].dropna()}) > 1
        ]
        # a column of Parquet has one type
        return table.assign(**{key: table[key].map(str, na_action="ignore") for key in mixed})

    def session_returns(self) -> pd.DataFrame:
        """One row per simulated trial: `session` (trade dates as days since 1970-01-01) and
        `return_frac` as lists of equal length.
        """
        import pandas as pd

        simulated = [outcome for outcome in self._ordered() if len(outcome.returns)]
        columns: dict[str, list[Any]] = {
            "trial": [outcome.number for outcome in simulated],
            "session": [outcome.sessions for outcome in simulated],
            "return_frac": [outcome.returns for outcome in simulated],
        }
        return pd.DataFrame(columns)

    def files(self, trials: pd.DataFrame) -> dict[str, bytes]:
        """The tables of the parent; `trials` is `frame()` with columns added."""
        return {
            "trials.parquet": _parquet(trials),
            "session_returns.parquet": _parquet(self.session_returns()),
        }

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
            "run_id": self.run_ids.get(outcome.number, ""),
            "config_sha256": self._fingerprint(outcome),
            "trial_sha256": self._identity(outcome),
        }
        return (
            fixed
            | ({"excess": outcome.overstep} if outcome.excess else {})
            | outcome.params
            | outcome.metrics
        )

    def _trial(self, outcome: Outcome) -> trial_ledger.Trial | None:
        """The outcome as a row of the trial ledger. None for a grid's job without a valid
        configuration.
        """
        flat = composition.flatten(outcome.config) if outcome.config else self._params
        where = trial_ledger.trial_pool(flat)
        return where and trial_ledger.Trial(
            pool=where,
            run_id=self.run_ids.get(outcome.number, ""),
            kind="search",
            study=self._study,
            state=outcome.state,
            group=self._parent,
            reason=outcome.reason,
            config_sha256=self._fingerprint(outcome),
            trial_sha256=self._identity(outcome),
            code_sha256=self._code(outcome),
            data_fingerprint=outcome.data_fingerprint or self._tags.get("data_fingerprint", ""),
            params=outcome.params,
            sessions=outcome.sessions,
            returns=outcome.returns,
        )

    def _record(self, outcome: Outcome) -> Record:
        facts = {"state": outcome.state, "reason": outcome.reason, "detail": outcome.detail}
        facts |= {
            "config_sha256": self._fingerprint(outcome),
            "trial_sha256": self._identity(outcome),
        }
        facts |= access_recorder.tags(outcome.reads)
        files = {"config.json": json.dumps(outcome.config).encode()} if outcome.config else {}
        if outcome.traceback:
            files["traceback.txt"] = outcome.traceback.encode()
        files |= access_recorder.files(outcome.reads)
        scored = outcome.state == "COMPLETE"
        choices = {key: value for key, value in outcome.params.items() if key in GROUPS}
        params = self._params
        if choices and outcome.config:
            params = composition.flatten({key: outcome.config[key] for key in composition.DECIDES})
            facts |= {"mcl.strategy": outcome.config["strategy"]["name"]}
        return Record(
            study=self._study,
            name=" · ".join(
                [f"trial {outcome.number}", *choices.values(), provenance.label(outcome.params)]
            ),
            params=params | outcome.params,
            metrics=(
                outcome.metrics
                if scored
                else {k: v for k, v in outcome.metrics.items() if k in SHOWN_WHEN_PRUNED}
            ),
            tags=self._tags | {"mcl.kind": "trial", "trial": str(outcome.number)} | facts,
            files=files,
            parent=self._parent,
            # that of the search, where the trial has no bars of its own
            dataset=None if outcome.data_fingerprint else self._dataset,
            status="FAILED" if outcome.state == "FAILED" else "FINISHED",
            seconds=outcome.seconds,
        )

    def _fingerprint(self, outcome: Outcome) -> str:
        """The same as `composition.fingerprint`; empty when the configuration is not valid."""
        if outcome.number not in self._fingerprints:
            decides = (
                {key: outcome.config[key] for key in composition.DECIDES} if outcome.config else {}
            )
            self._fingerprints[outcome.number] = composition.digest(decides) if decides else ""
        return self._fingerprints[outcome.number]

    def _identity(self, outcome: Outcome) -> str:
        """The same as `provenance.trial_sha256`; empty when the configuration is not valid."""
        if not outcome.config:
            return ""
        decides = {key: outcome.config[key] for key in composition.DECIDES}
        digest = composition.trial_fingerprint(decides, outcome.data_fingerprint)
        return trial_ledger.identity(digest, self._code(outcome))

    def _code(self, outcome: Outcome) -> str:
        """Digest of the code that decides. It is read once: a search runs the code that it has
        loaded, whatever is edited meanwhile.
        """
        names = frozenset(
            user_strategies.names_in(outcome.config["strategy"]) if outcome.config else self._names
        )
        if names not in self._codes:
            self._codes[names] = provenance.decision_sha256(names)
        return self._codes[names]


def counted(outcome: Outcome) -> bool:
    """Whether the trial ledger counts it: not the same point again, nor one that a rule kept from
    being simulated.
    """
    return len(outcome.returns) > 0 or outcome.reason not in trial_ledger.NEVER_A_TRIAL


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, compression="zstd", index=False)
    return buffer.getvalue()
