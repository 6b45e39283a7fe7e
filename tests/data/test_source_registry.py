"""What every data source owes the rest of the project, asked of each one in the registry."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import data_options
import numpy as np
import pytest

from mcl import composition
from mcl.base.errors import ConfigError, DataError
from mcl.base.instants import NS
from mcl.config import schema
from mcl.config.base_model import Strict
from mcl.data import sources
from mcl.data.bars import Bars
from mcl.data.depth import load_depth
from mcl.data.source import Source
from mcl.data.table import PRICES
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
    """docs/CONTRIBUTING.md followed to the letter in a copy of the package: one file, one line in
    the registry, one option.
    """
    package, project = tmp_path / "package", tmp_path / "project"
    left_out = shutil.ignore_patterns("__pycache__", "*.html", "*.js")
    shutil.copytree(REPOSITORY / "mcl", package / "mcl", ignore=left_out)
    shutil.copytree(REPOSITORY / "conf", project / "conf")
    page = (REPOSITORY / "docs" / "CONTRIBUTING.md").read_text()
    recipe = page.partition("## Add a data source")[2]
    code = recipe.partition("```python\n")[2].partition("```")[0]
    folder = package / "mcl" / "data" / "sources"
    (folder / "archive.py").write_text(code)
    registry = (folder / "__init__.py").read_text()
    assert "    csv.SOURCE,\n" in registry
    assert "sources import csv" in registry
    registry = registry.replace("sources import csv", "sources import archive, csv")
    registry = registry.replace("    csv.SOURCE,\n", "    archive.SOURCE,\n    csv.SOURCE,\n")
    (folder / "__init__.py").write_text(registry)
    option = "defaults:\n  - /roll@roll: calendar\n  - _self_\n\nsource: archive\npath: ???\n"
    (project / "conf" / "data" / "archive.yaml").write_text(option)
    symbols = np.array([small_bars.contracts[i].symbol for i in small_bars.contract])
    arrays = {name: getattr(small_bars, name) for name in (*PRICES, "volume")}
    ts_event = small_bars.close_time - 60 * NS
    np.savez(project / "bars.npz", symbol=symbols, ts_event=ts_event, **arrays)
    words = ["data", "info", "data=archive", "data.path=bars.npz"]
    done = subprocess.run(
        [sys.executable, "-m", "mcl", "--json", *words],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(package), "MCL_HOME": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["facts"] == {"format": "NumPy archive"}
    assert facts["counts"]["kept"] == len(small_bars)


def risk() -> dict[str, Any]:
    return composition.compose("backtest", []).config.risk.model_dump()


@EVERY
def test_its_model_is_strict_and_says_what_it_is(source: Source[Any]) -> None:
    assert issubclass(source.model, Strict)
    assert source.model.__doc__
    assert source.model.__doc__ != schema.DataCommon.__doc__
    assert set(source.needs) <= set(source.model.model_fields)
    with pytest.raises(ConfigError, match="unknown key"):
        composed(source, "+data.pth=x")


@EVERY
def test_the_ledger_tells_its_markets_apart_and_not_their_windows(source: Source[Any]) -> None:
    def pool(*overrides: str) -> str:
        data = composed(source, *overrides).model_dump(mode="json")
        flat = composition.flatten({"data": data, "strategy": {"name": "flat"}})
        found_pool = trial_pool(flat)
        assert found_pool is not None
        return found_pool.market

    values = composed(source).model_dump(mode="json")
    keys = source.identity(values)
    assert set(keys) <= set(source.model.model_fields)
    assert pool("data.start='2001-01-01'", "data.roll.adjust=none") == pool()
    if not keys:  # a source of one market, whose table ships with mcl
        assert source.extend is not None
        return
    key = keys[-1]
    other = values[key] + 1 if isinstance(values[key], int | float) else f"{values[key]}_other"
    assert pool(f"data.{key}={other}") != pool()


def test_another_format_of_the_same_records_is_the_same_market() -> None:
    flat = {"strategy.name": "flat", "data.instrument": "MCL", "data.symbol": "MCL.FUT"}
    pools = {trial_pool(flat | {"data.source": name}) for name in ("databento", "parquet")}
    assert [str(pool) for pool in pools] == ["flat on MCL databento MCL.FUT"]


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
