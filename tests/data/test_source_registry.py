"""What every data source owes the rest of the project, asked of each one in the registry."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_options
import databento as vendor
import numpy as np
import pandas as pd
import pytest

from mcl import composition
from mcl.base.errors import ConfigError, DataError
from mcl.base.instants import NS
from mcl.config import schema
from mcl.config.base_model import Strict
from mcl.data import sources
from mcl.data.bars import Bars
from mcl.data.depth import load_depth
from mcl.data.loader import load
from mcl.data.source import Source
from mcl.data.table import PRICES
from mcl.ops import scaffold
from mcl.tracking.trial_ledger import trial_pool

EVERY = pytest.mark.parametrize("source", sources.SOURCES, ids=lambda source: source.name)
REPOSITORY = Path(__file__).resolve().parents[2]


def option_of(source: Source[Any]) -> str:
    """The first option in conf/data that names the source."""
    return next(
        option
        for option in data_options.OPTIONS
        if data_options.content(option)["source"] == source.name
    )


def composed(source: Source[Any], *overrides: str) -> schema.Data:
    option = option_of(source)
    words = [f"data={option}", *data_options.needed(option), *overrides]
    return composition.compose("backtest", words).config.data


def test_every_source_of_the_folder_is_in_the_registry() -> None:
    modules = [
        importlib.import_module(f"{sources.__name__}.{module.name}")
        for module in pkgutil.iter_modules(sources.__path__)
    ]
    objects = [module.SOURCE for module in modules if hasattr(module, "SOURCE")]
    assert sorted(source.name for source in objects) == sorted(sources.BY_NAME)
    assert all(source is sources.BY_NAME[source.name] for source in objects)
    assert len(sources.BY_NAME) == len(sources.SOURCES)


@EVERY
def test_a_config_names_it(source: Source[Any]) -> None:
    data = composed(source)
    assert isinstance(data, source.model)
    assert sources.of(data) is source
    stored = schema.Config.model_validate(
        {"data": data.model_dump(), "strategy": {"name": "flat"}, "risk": risk()}
    )
    assert stored.data == data


def test_the_recipe_for_a_new_source_gives_one(small_bars: Bars, tmp_path: Path) -> None:
    """docs/CONTRIBUTING.md followed to the letter in a copy: one command, and the test that it has
    written passes.
    """
    left_out = shutil.ignore_patterns("__pycache__", "*.html", "*.js")
    for name in ("mcl", "conf"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=left_out)
    page = (REPOSITORY / "docs" / "CONTRIBUTING.md").read_text()
    recipe = page.partition("## Add a data source")[2].partition("## ")[0]
    words = recipe.partition("```console\nmcl ")[2].partition("\n")[0].split()
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "MCL_HOME": str(tmp_path)}

    def run(*words: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "mcl", "--json", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    written = [Path(path).relative_to(tmp_path) for path in run(*words)["files"]]
    assert [str(path.parent) for path in written] == [
        "mcl/data/sources",
        "tests/data",
        "conf/data",
        "mcl/data/sources",
    ]
    code = (
        "import pickle, sys; from pathlib import Path; import test_archive as written;"
        "bars = pickle.loads(Path('small.pickle').read_bytes());"
        "written.test_the_bars_are_those_of_the_world(bars, Path.cwd())"
    )
    (tmp_path / "small.pickle").write_bytes(pickle.dumps(small_bars))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{tmp_path / 'tests' / 'data'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = run("data", "info", "data=archive", "data.path=bars.npz")
    assert facts["facts"] == {"format": "NumPy archive"}
    assert facts["counts"]["kept"] == len(small_bars)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("csv", "mcl has a data source called 'csv'"),
        ("Two Words", "'Two Words' cannot name a source: .* for instance 'two_words'"),
        ("archive", "is no checkout of mcl"),
    ],
)
def test_a_source_that_cannot_be_written_is_a_sentence(
    name: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        scaffold.new_source(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def risk() -> dict[str, Any]:
    return composition.compose("backtest", []).config.risk.model_dump()


def traded(bars: Bars) -> list[str]:
    return [bars.contracts[i].symbol for i in bars.contract]


def as_frame(bars: Bars) -> pd.DataFrame:
    """A row per bar: its open, in UTC, prices, volume, symbol and month of the contract."""
    columns = {name: getattr(bars, name) for name in (*PRICES, "volume")}
    months = [f"{bars.contracts[i].year}{bars.contracts[i].month:02d}" for i in bars.contract]
    opens = pd.to_datetime(bars.close_time - 60 * NS, utc=True)
    return pd.DataFrame({"time": opens, **columns, "symbol": traded(bars), "month": months})


def as_csv(bars: Bars, _world: Path, folder: Path) -> dict[str, Any]:
    as_frame(bars).to_csv(folder / "bars.csv", index=False)
    names = {name: name for name in ("time", *PRICES, "volume", "symbol")}
    clock = {"stamped_at": "open", "timezone": "UTC"}
    return {"path": "bars.csv", "interval": "1m", "columns": names, **clock}


def as_lean(bars: Bars, _world: Path, folder: Path) -> dict[str, Any]:
    frame = as_frame(bars)
    midnight = frame["time"].dt.normalize()
    frame["at_ms"] = (frame["time"] - midnight) // pd.Timedelta(milliseconds=1)
    home = folder / "minute" / "mcl"
    home.mkdir(parents=True)
    for day, rows in frame.groupby(midnight.dt.strftime("%Y%m%d")):
        with zipfile.ZipFile(home / f"{day}_trade.zip", "w") as archive:
            for month, members in rows.groupby("month"):
                text = members[["at_ms", *PRICES, "volume"]].to_csv(index=False, header=False)
                archive.writestr(f"{day}_mcl_minute_trade_{month}.csv", text)
    return {"path": ".", "timezone": "UTC"}


def as_parquet(_bars: Bars, world: Path, folder: Path) -> dict[str, Any]:
    for path in sorted(world.rglob("*ohlcv-1m/*.dbn.zst")):
        store = vendor.DBNStore.from_bytes(path.read_bytes())
        store.to_parquet(folder / f"{path.stem}.ohlcv-1m.parquet")
    return {"path": "."}


def as_dbn(_bars: Bars, world: Path, _folder: Path) -> dict[str, Any]:
    return {"path": str(world)}


WRITERS: dict[str, Callable[[Bars, Path, Path], dict[str, Any]]] = {
    "databento": as_dbn,
    "parquet": as_parquet,
    "csv": as_csv,
    "lean": as_lean,
}
OWN_PRICES = {  # a source that reads no files of others -> the test that holds its bars true
    "synthetic": "tests/data/test_world.py",
    "eia": "tests/data/test_eia.py",
}


def test_every_source_reads_the_one_small_world_or_has_prices_of_its_own() -> None:
    assert WRITERS.keys() | OWN_PRICES.keys() == sources.BY_NAME.keys()
    assert all((REPOSITORY / path).is_file() for path in OWN_PRICES.values())


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.filterwarnings("ignore:DatetimeIndex.values returning")
def test_every_source_gives_the_same_bars_from_one_small_world(
    name: str, small_bars: Bars, small_world: Path, tmp_path: Path
) -> None:
    keys = WRITERS[name](small_bars, small_world, tmp_path)
    bars = load(sources.BY_NAME[name].model.model_validate({"source": name, **keys}), tmp_path)
    for column in ("close_time", "session", "to_close_sec", *PRICES, "volume"):
        equal = np.array_equal(getattr(bars, column), getattr(small_bars, column))
        assert equal, column
    equal_contracts = traded(bars) == traded(small_bars)
    assert equal_contracts


@EVERY
def test_its_model_is_strict_and_says_what_it_is(source: Source[Any]) -> None:
    assert issubclass(source.model, Strict)
    assert source.model.__doc__
    assert source.model.__doc__ != schema.DataCommon.__doc__
    assert set(source.needs) <= set(source.model.model_fields)
    with pytest.raises(ConfigError, match="unknown key"):
        composed(source, "+data.pth=x")


@EVERY
def test_the_ledger_tells_worlds_apart_and_never_doors_or_windows(source: Source[Any]) -> None:
    def pool(*overrides: str) -> str:
        data = composed(source, *overrides).model_dump(mode="json")
        flat = composition.flatten({"data": data, "strategy": {"name": "flat"}})
        named = trial_pool(flat)
        assert named is not None
        return named.market

    values = composed(source).model_dump(mode="json")
    keys = source.identity(values)
    assert set(keys) <= set(source.model.model_fields)
    assert pool("data.start='2001-01-01'", "data.roll.adjust=none") == pool()
    assert bool(keys) == source.generated
    if not keys:
        assert pool() == values["instrument"]
        if "path" in source.model.model_fields:
            assert pool("data.path=other") == pool()
        return
    key = keys[-1]
    other = values[key] + 1 if isinstance(values[key], int | float) else f"{values[key]}_other"
    assert pool(f"data.{key}={other}") != pool()


def test_a_market_is_the_same_by_every_door() -> None:
    flat = {"strategy.name": "flat", "data.instrument": "MCL", "data.symbol": "MCL.FUT"}
    names = ("databento", "parquet", "csv", "a source of somebody else")
    pools = {trial_pool(flat | {"data.source": n, "data.path": n}) for n in names}
    assert [str(pool) for pool in pools] == ["flat on MCL"]


@EVERY
def test_it_says_which_path_is_not_there(source: Source[Any], tmp_path: Path) -> None:
    if "path" not in source.model.model_fields:
        assert source.generated or source.extend is not None  # or its table ships with mcl
        return
    data = composed(source, "data.path=nowhere")
    with pytest.raises(DataError, match=r"there is no .*nowhere") as refused:
        source.raw(data, tmp_path)
    assert "data.path" in str(refused.value.hint)


@EVERY
def test_it_has_books_or_says_that_it_has_none(source: Source[Any], tmp_path: Path) -> None:
    if source.books is None:
        with pytest.raises(ConfigError, match=f"data.source={source.name} has no order books"):
            load_depth(composed(source), tmp_path, lambda _: [])


@EVERY
def test_the_reference_has_a_table_of_its_keys(source: Source[Any]) -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text()
    assert f"**`source: {source.name}`**" in page
    options = [o for o in data_options.OPTIONS if data_options.content(o)["source"] == source.name]
    readme = (REPOSITORY / "README.md").read_text()
    assert any(f"`{option}`" in readme or f"`data={option}`" in readme for option in options)
