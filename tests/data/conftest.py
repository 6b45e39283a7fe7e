"""A small generated world (seven weeks, two rolls) and the ways to damage a copy of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from mcl.data import dbn
from mcl.data.bars import Bars
from mcl.data.loader import load
from mcl.data.sources.databento import DatabentoData
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator

FIRST, LAST = date(2024, 1, 2), date(2024, 2, 23)


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticData(source="synthetic", seed=11)
    return generator.generate(spec, tmp_path_factory.mktemp("world"), first=FIRST, last=LAST)


@pytest.fixture
def world_copy(small_world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_world, tmp_path / "raw" / "MCL_FUT"))


def databento_data(path: Path, **choices: Any) -> DatabentoData:
    return DatabentoData(source="databento", path=str(path), **choices)


@pytest.fixture(scope="session")
def small_bars(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Bars:
    return load(databento_data(small_world), tmp_path_factory.mktemp("root"))


def rewrite(path: Path, change: Callable[[dbn.Records], dbn.Records | None]) -> None:
    """Change the records of one DBN file."""
    header, records = dbn.read(path)
    records = records.copy()
    changed = change(records)
    path.unlink()
    dbn.write(path, records if changed is None else changed, header)
