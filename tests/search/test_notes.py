"""A study's notes: what Optuna reads in a journal that it did not write."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from mcl.search import notes
from mcl.search.space import Space

SPACE: Space = {
    "strategy.fast": IntDistribution(2, 100),
    "costs.slippage_ticks": FloatDistribution(0.0, 2.0),
    "risk.size.contracts": FloatDistribution(1.0, 5.0, step=0.5),
    "strategy.decay": FloatDistribution(1e-4, 1.0, log=True),
    "strategy.side": CategoricalDistribution(["long", "short", None, True]),
}
VALUES = {
    "strategy.fast": 17,
    "costs.slippage_ticks": 0.1 + 0.2,
    "risk.size.contracts": 2.5,
    "strategy.decay": 0.03,
    "strategy.side": None,
}


class ByOptuna(notes.InDatabase):
    """The same notes with Optuna's own storage behind them."""

    def __init__(self, path: Path) -> None:
        self._space, self._storage = SPACE, JournalStorage(JournalFileBackend(str(path)))  # type: ignore[assignment]
        study = optuna.create_study(study_name="told", storage=self._storage, directions=["maximize"])
        self._study, self.trials = study._study_id, []


def tell(told: notes.Notes) -> None:
    told.begin(VALUES, {"cma:generation": 3})
    told.begin(VALUES | {"strategy.side": True}, {})
    told.report(1, 0, 1.5)
    told.report(1, 1, -0.25)
    told.end(1, TrialState.PRUNED, None, {"state": "PRUNED", "reason": "fold 2"})
    told.begin(VALUES, {})
    told.end(2, TrialState.COMPLETE, [0.1], None)


def read(path: Path) -> list[FrozenTrial]:
    return optuna.load_study(study_name="told", storage=JournalStorage(JournalFileBackend(str(path)))).trials


def test_a_journal_reads_as_if_optuna_had_written_it(tmp_path: Path) -> None:
    own = notes.opened("journal", tmp_path / "own", "told", ["maximize"], SPACE)
    tell(own)
    own.close()
    tell(ByOptuna(tmp_path / "theirs"))
    timeless = [
        [{k: v for k, v in vars(trial).items() if not k.startswith("_datetime") and k != "datetime_complete"} for trial in read(path)]
        for path in (tmp_path / "own", tmp_path / "theirs")
    ]
    assert timeless[0] == timeless[1]
    finished = [trial for trial in read(tmp_path / "own") if trial.state.is_finished()]
    assert all(trial.duration is not None for trial in finished)


@pytest.mark.parametrize("cut", [0, 40])
def test_a_later_process_goes_on_where_the_notes_end(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "own"
    first = notes.opened("journal", path, "told", ["maximize"], SPACE)
    tell(first)
    first.close()
    path.write_bytes(path.read_bytes()[: -cut or None])  # a line that the disk kept in part
    again = notes.opened("journal", path, "told", ["maximize"], SPACE)
    assert [trial.state.is_finished() for trial in again.trials] == [False, True, cut == 0]
    assert again.begin(VALUES, {}) == 3
    again.end(0, TrialState.FAIL, None, None)
    again.close()
    assert [trial.state for trial in read(path)][::3] == [TrialState.FAIL, TrialState.RUNNING]
