"""The bundle of a version: complete, loadable elsewhere by MLflow alone, and refused as soon as one
byte of it is another.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from deployments import OPEN_GATES, Project, empty_store, project

from mcl import composition
from mcl.base.errors import ConfigError, DataError, LiveError
from mcl.data.loader import load
from mcl.engine.backtest import backtest
from mcl.promotion import aliases, pyfunc_model, version_files
from mcl.promotion.manifest_differences import data_moved
from mcl.promotion.promote import promote, promoted
from mcl.promotion.promoted_file import MODEL, path_of
from mcl.tracking.store import Store, content_sha256

OWN = '''"""Long for 200 bars of every 400."""
from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class Mine:
    size: float = 1.0
    name: ClassVar[str] = "mine"
    uses_levels: ClassVar[bool] = False
    memory: ClassVar[int] = 400

    def signal(self, bars):
        return np.where(np.arange(len(bars)) % 400 < 200, self.size, 0.0)
'''
ALONE = """
import json, os, sys
sys.path = [p for p in sys.path if not os.path.isfile(os.path.join(p, "mcl", "__init__.py"))]
import mlflow
loaded = mlflow.pyfunc.load_model(sys.argv[1])
import mcl
print(json.dumps([mcl.__file__, len(loaded.input_example), str(loaded.metadata.signature.outputs)]))
"""


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return empty_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, blank: Path) -> Project:
    """One promoted version; tests copy it before they damage it."""
    made = project(tmp_path_factory.mktemp("bundle") / "project", blank)
    promote(made.run(), project=made, gates=OPEN_GATES)
    return made


@pytest.fixture
def copy(shop: Project, tmp_path: Path) -> Project:
    shutil.copytree(shop.root, tmp_path / "copy")
    return Project(tmp_path / "copy", Store(tmp_path / "copy"))


def refusal(shop: Project, name: str = "paper") -> str:
    with pytest.raises(LiveError) as caught:
        promoted(name, shop)
    return caught.value.message


# ---------------------------------------------------------------------------------------- tampering


def test_one_byte_of_any_file_is_refused_by_its_name(copy: Project) -> None:
    version = copy.store.version(MODEL, "paper")
    assert copy.root in version.folder.parents
    names = list(version.files())
    assert len(names) > 40
    for name in names:
        target = version.folder / name
        content = bytearray(target.read_bytes() or b" ")
        content[len(content) // 2] ^= 1
        before = target.read_bytes()
        target.write_bytes(bytes(content))
        with pytest.raises(LiveError, match="registry: ") as caught:
            version_files.verified(version)
        told = caught.value.message
        assert name in told or name == version_files.SUMS, told
        target.write_bytes(before)
    assert promoted("paper", copy).version == 1


def test_a_lost_and_an_added_file_are_named(copy: Project) -> None:
    folder = copy.store.version(MODEL, "paper").folder
    (folder / "gates.json").rename(folder / "gate.json")
    assert "gate.json of version 1 is not the file that was registered" in refusal(copy)
    (folder / "gate.json").rename(folder / "gates.json")
    (folder / version_files.SUMS).unlink()
    assert refusal(copy) == "registry: SHA256SUMS of version 1 is missing"


def test_new_sums_for_an_altered_file_do_not_help(copy: Project) -> None:
    version = copy.store.version(MODEL, "paper")
    (version.folder / "gates.json").write_text("[]")
    found = {
        name: content for name, content in version.files().items() if name != version_files.SUMS
    }
    (version.folder / version_files.SUMS).write_bytes(version_files.sums(found))
    assert (
        "SHA256SUMS of version 1, or its tag content_sha256, is not the one that was registered"
        in refusal(copy)
    )
    with closing(sqlite3.connect(copy.root / "mlruns" / "mlflow.db")) as db, db:
        forged = content_sha256(copy.store.version(MODEL, "paper").files())
        db.execute(
            "UPDATE model_version_tags SET value = ? WHERE key = 'content_sha256'", (forged,)
        )
    assert "hash: " in refusal(copy), "the committed file still names the content that was reviewed"


def test_sha256sum_agrees(shop: Project) -> None:
    folder = shop.store.version(MODEL, "paper").folder
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", version_files.SUMS],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("name", "content"), [("model.pkl", b"x"), ("data/state.bin", b"\x80\x04\x95")]
)
def test_a_registered_pickle_is_refused_all_the_same(
    copy: Project, name: str, content: bytes
) -> None:
    now = copy.store.version(MODEL, "paper")
    files = {k: v for k, v in now.files().items() if k != version_files.SUMS} | {name: content}
    aliases.freeze(
        "paper",
        now.run_id,
        files | {version_files.SUMS: version_files.sums(files)},
        {"stage": "paper"},
        "",
        project=copy,
    )
    assert refusal(copy) == f"registry: {name} of version 2 is a pickle, and none is ever loaded"


# ----------------------------------------------------------------------------------- data, not code


@pytest.mark.parametrize(
    "edit",
    [
        {"strategy": {"_target_": "os.system", "_args_": ["touch pwned"]}},
        {"strategy": {"name": "ema_cross", "fast": {"_target_": "pathlib.Path.unlink"}}},
        {"strategy": {"name": "os.system"}},
        {"broker": {"_target_": "subprocess.run"}},
    ],
)
def test_a_configuration_from_an_artifact_is_data(
    copy: Project, edit: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that somebody registered with all its hashes."""
    monkeypatch.chdir(copy.root)
    now = copy.store.version(MODEL, "paper")
    raw = yaml.safe_load(now.files()["config.yaml"]) | edit
    files = {k: v for k, v in now.files().items() if k != version_files.SUMS}
    files |= {"config.yaml": yaml.safe_dump(raw).encode(), "config.json": json.dumps(raw).encode()}
    aliases.freeze(
        "paper",
        now.run_id,
        files | {version_files.SUMS: version_files.sums(files)},
        {"stage": "paper"},
        "",
        project=copy,
    )
    assert "does not fit this version of mcl" in refusal(copy)
    assert not (copy.root / "pwned").exists()
    with pytest.raises(ConfigError):
        composition.run_config(raw)


def test_yaml_tags_build_nothing(copy: Project) -> None:
    path = path_of("paper", copy.root)
    path.write_text(path.read_text() + "notes: !!python/object/apply:os.system ['touch pwned']\n")
    assert "was edited after its promotion" in refusal(copy)


# ----------------------------------------------------------------------------------------- own code


def test_an_own_strategy_travels_as_source_and_must_be_the_same(
    tmp_path: Path, blank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = project(tmp_path / "project", blank)
    source = shop.root / "experiments" / "strategies" / "mine.py"
    source.parent.mkdir(parents=True)
    source.write_text(OWN)
    (shop.root / "conf").mkdir()
    (shop.root / "conf" / "backtest.yaml").touch()
    monkeypatch.setenv("MCL_HOME", str(shop.root))
    promote(shop.run(shop.config({"name": "mine"})), project=shop, gates=OPEN_GATES)
    version = shop.store.version(MODEL, "paper")
    assert version.files()["experiments/strategies/mine.py"].decode() == OWN
    assert promoted("paper", shop).version == 1
    frame = pyfunc_model.frame(load(shop.config({"name": "mine"}).data, shop.root))
    assert pyfunc_model.Targets(version.folder).predict(frame)["target"].iloc[:200].eq(1).all()
    source.write_text(OWN + "\nimport pathlib; pathlib.Path('pwned').touch()\n")
    monkeypatch.chdir(shop.root)
    assert refusal(shop) == "code: experiments/strategies/mine.py is not as promoted in version 1"
    assert not (shop.root / "pwned").exists(), "code that is not the promoted one is not executed"
    source.unlink()
    assert refusal(shop) == "code: experiments/strategies/mine.py is not as promoted in version 1"


# ---------------------------------------------------------------------------------------- elsewhere


def test_mlflow_alone_loads_the_model(copy: Project, tmp_path: Path) -> None:
    """Without mcl on the path; scripts/prove_promotion.py also lets it predict there, which has to
    compile the engine.
    """
    version = copy.store.version(MODEL, "paper")
    env = {k: v for k, v in os.environ.items() if k not in ("MCL_HOME", "PYTHONPATH")} | {
        "MLFLOW_DISABLE_TELEMETRY": "true"
    }
    words = [sys.executable, "-W", "ignore", "-c", ALONE, str(version.folder)]
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    package, example, outputs = json.loads(done.stdout.splitlines()[-1])
    assert Path(package).is_relative_to(version.folder)
    assert example == 50
    assert "'target': long (required), 'position': long (required)" in outputs
    assert promoted("paper", copy).version == 1, "what Python leaves in the folder is not tampering"


def test_the_model_gives_the_targets_of_the_backtest(shop: Project) -> None:
    deployed = promoted("paper", shop)
    bars = load(deployed.config.data, shop.root)
    made, expected = (
        pyfunc_model.Targets(shop.store.version(MODEL, "paper").folder).predict(
            pyfunc_model.frame(bars)
        ),
        backtest(deployed.config, bars),
    )
    assert np.array_equal(made["target"], expected.target)
    assert np.array_equal(made["position"], expected.position)


def test_bars_survive_the_way_through_a_frame(shop: Project) -> None:
    bars = load(shop.config().data, shop.root)
    again = pyfunc_model.bars_of(pyfunc_model.frame(bars), shop.config().data)
    for name in (
        "close_time",
        "open",
        "close",
        "volume",
        "adjustment",
        "session",
        "to_close_sec",
        "roll",
    ):
        assert np.array_equal(getattr(bars, name), getattr(again, name)), name
    assert again.contracts == tuple(
        dict.fromkeys(bars.contracts[i] for i in bars.contract.tolist())
    )
    with pytest.raises(DataError, match="have no column session"):
        pyfunc_model.bars_of(pyfunc_model.frame(bars).drop(columns="session"), shop.config().data)


def test_another_clone_loads_what_one_clone_promoted(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is shared, the file comes by git, and the working directory is another."""
    clone = tmp_path / "elsewhere" / "clone"
    (clone / "conf" / "promoted").mkdir(parents=True)
    shutil.copy(path_of("paper", shop.root), path_of("paper", clone))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shop.root / 'mlruns' / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    store = Store(clone)
    assert store.folder == (shop.root / "mlruns").resolve()
    there, here = promoted("paper", shop), promoted("paper", Project(clone, store))
    assert (here.version, here.content_sha256, here.config) == (
        there.version,
        there.content_sha256,
        there.config,
    )


def test_a_moved_project_keeps_its_versions(shop: Project, tmp_path: Path) -> None:
    shutil.copytree(shop.root, tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "second")
    moved = Project(tmp_path / "second", Store(tmp_path / "second"))
    assert promoted("paper", moved).version == 1
    run_id = moved.store.version(MODEL, "paper").run_id
    assert promote(run_id, project=moved, gates=OPEN_GATES).version == 2
    assert moved.root in moved.store.version(MODEL, "2").folder.parents, (
        "a new version lies where the project is now"
    )


# ------------------------------------------------------------------------------------------- causes


def test_data_that_moved_is_named() -> None:
    then = {
        "inputs": [{"name": "a", "sha256": "1"}, {"name": "b", "sha256": "2"}],
        "roll": {"rule": "volume"},
        "interval": "1m",
    }
    other = {
        "inputs": [
            {"name": "a", "sha256": "1"},
            {"name": "b", "sha256": "3"},
            {"name": "c", "sha256": "4"},
        ]
    }
    assert data_moved(then, other) == "chunk b, c"
    assert data_moved(then, then | {"roll": {"rule": "calendar"}}) == "roll.rule volume → calendar"
    assert (
        data_moved(then, then)
        == "the same input files give other bars: the reading of them has changed"
    )
    many = {"inputs": [{"name": f"m{i}", "sha256": "0"} for i in range(8)]}
    assert data_moved({"inputs": [], "x": 1}, many) == "chunk m0, m1, m2, m3, m4 and 3 more"


def test_the_content_hash_is_over_every_file(shop: Project) -> None:
    version = shop.store.version(MODEL, "paper")
    files = version.files()
    lines = "".join(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n" for name in sorted(files))
    assert version.tags["content_sha256"] == hashlib.sha256(lines.encode()).hexdigest()
