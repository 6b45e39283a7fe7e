"""The process is killed, really, before each step of a change: then there is one truth, and the
next command says or does the rest.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from deployments import OPEN_GATES, Project, empty_store, project

from mcl.base.errors import LiveError, PromotionError
from mcl.promotion import aliases
from mcl.promotion.promote import promote, promoted
from mcl.promotion.promoted_file import MODEL, PREVIOUS, path_of
from mcl.tracking.store import Store

MANY = 40


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with versions 1 and 2 of `paper`."""
    shop = project(
        tmp_path_factory.mktemp("crash") / "project", empty_store(tmp_path_factory.mktemp("store"))
    )
    run_id = shop.run()
    for why in ("first", "second"):
        promote(run_id, project=shop, gates=OPEN_GATES, because=why)
    return shop.root


def copied(source: Path, target: Path) -> Project:
    shutil.copytree(source, target)
    return Project.at(target)


def frozen_again(root: Path, why: str) -> None:
    """The files of `paper` as one more version."""
    project = Project.at(root)
    now = project.store.version(MODEL, "paper")
    aliases.freeze("paper", now.run_id, now.files(), {"stage": "paper"}, why, project=project)


def killed_at(step: int, work: Callable[[], Any]) -> bool:
    """Run `work` in a forked process that kills itself before its `step`-th effect on the outside;
    whether it came that far.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
        child = os.fork()
    if child == 0:
        _arm(step)
        try:
            work()
        except BaseException:  # a forked copy of pytest must not go on
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def _arm(step: int) -> None:
    from mlflow import MlflowClient

    left = [step]

    def armed(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def effect(*args: Any, **kwargs: Any) -> Any:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*args, **kwargs)

        setattr(owner, name, effect)

    for name in (
        "create_logged_model",
        "finalize_logged_model",
        "create_model_version",
        "set_registered_model_alias",
    ):
        armed(MlflowClient, name)
    armed(MlflowClient, "set_registered_model_tag")
    armed(Path, "replace")
    armed(Path, "unlink")


def test_a_promotion_killed_at_any_step_leaves_one_truth(two: Path, tmp_path: Path) -> None:
    seen, step, alive = set(), 0, True
    while alive:
        shop = copied(two, tmp_path / str(step))
        alive = killed_at(step, partial(frozen_again, shop.root, "third"))
        fresh = Store(shop.root)
        loaded = promoted("paper", Project(shop.root, fresh))  # the next command
        history = aliases.history(fresh, "paper")
        assert loaded.version == fresh.version(MODEL, "paper").version == history[-1].version
        assert fresh.version(MODEL, PREVIOUS).version == loaded.version - 1
        assert [m.version for m in history] == list(range(1, loaded.version + 1))
        assert not list((shop.root / "conf" / "promoted").glob("*pending.json"))
        seen.add(loaded.version)
        step += 1
        assert step < MANY
    assert seen == {2, 3}
    assert step > 8, "each effect is a step"


def test_a_rollback_killed_at_any_step_leaves_one_truth(two: Path, tmp_path: Path) -> None:
    seen, step, alive = set(), 0, True
    while alive:
        shop = copied(two, tmp_path / str(step))
        alive = killed_at(
            step,
            partial(aliases.rollback, "paper", "it lost", project=Project.at(shop.root)),
        )
        fresh = Store(shop.root)
        loaded = promoted("paper", Project(shop.root, fresh))
        assert loaded.version == aliases.history(fresh, "paper")[-1].version
        assert aliases.stack("paper", fresh)[-1] == loaded.version
        seen.add(loaded.version)
        step += 1
        assert step < MANY
    assert seen == {1, 2}


def test_without_the_note_a_half_done_change_is_named(two: Path, tmp_path: Path) -> None:
    """A checkout of another commit looks like this: it is not repaired but said."""
    shop = copied(two, tmp_path / "project")
    path = path_of("paper", shop.root)
    path.write_text(path.read_text().replace("version 2 of", "version 1 of"))
    with pytest.raises(
        LiveError,
        match=r"file and registry: .* is version 1, the registry's alias 'paper' is version 2",
    ):
        promoted("paper", shop)


def test_two_promotions_at_once_take_turns(two: Path, tmp_path: Path) -> None:
    shop = copied(two, tmp_path / "project")
    children = []
    for number in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            try:
                frozen_again(shop.root, f"by {number}")
            except BaseException:
                os._exit(3)
            os._exit(0)
        children.append(child)
    assert [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    fresh = Store(shop.root)
    assert promoted("paper", Project(shop.root, fresh)).version == 5
    history = aliases.history(fresh, "paper")
    assert [(m.before, m.version) for m in history] == [(None, 1), (1, 2), (2, 3), (3, 4), (4, 5)]


def test_a_rollback_goes_back_one_version_with_its_reason(two: Path, tmp_path: Path) -> None:
    shop = copied(two, tmp_path / "project")
    with pytest.raises(PromotionError, match="needs its reason"):
        aliases.rollback("paper", " ", project=shop)
    move = aliases.rollback("paper", "it lost", project=shop)
    assert (move.action, move.before, move.version, move.why) == ("rollback", 2, 1, "it lost")
    assert promoted("paper", shop).version == 1
    assert re.match(r"# paper: version 1 of", path_of("paper", shop.root).read_text())
    with pytest.raises(PromotionError, match="'paper' has had no version before version 1"):
        aliases.rollback("paper", "again", project=shop)


def test_a_tampered_version_is_not_rolled_back_to(two: Path, tmp_path: Path) -> None:
    shop = copied(two, tmp_path / "project")
    target = shop.store.version(MODEL, "1").folder / "gates.json"
    assert tmp_path in target.parents, "a copied project has artifacts of its own"
    target.write_bytes(target.read_bytes() + b" ")
    with pytest.raises(
        LiveError, match=r"gates.json of version 1 is not the file that was registered"
    ):
        aliases.rollback("paper", "it lost", project=shop)
    assert promoted("paper", shop).version == 2
