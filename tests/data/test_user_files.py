"""Small files as users have them: each loads, or is refused with the key that reads it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from mcl import composition
from mcl.base.errors import DataError
from mcl.data.bars import Bars
from mcl.data.loader import load

STATED = "data.stamped_at=open data.timezone=America/New_York"
# file -> words that read it, bars; words that are refused first, the key that the refusal names
FILES: dict[str, tuple[str, int, str, str]] = {
    "kibot.txt": ("data=kibot", 60, "data=firstrate", "data.format"),
    "firstrate.txt": ("data=firstrate", 60, f"data=csv {STATED}", "data.columns"),
    "mt5.csv": (
        "data=metatrader data.timezone=America/New_York",
        60,
        "data=metatrader",
        "data.timezone",
    ),
    "float32.csv": ("data=csv data.stamped_at=open", 60, "", ""),
    "min_mixed.csv": ("data=csv data.stamped_at=open", 2, "", ""),
    "spike100_last.csv": (
        "data=csv data.stamped_at=open data.format.without=[21]",
        59,
        "data=csv data.stamped_at=open",
        "data.format.without=[21]",
    ),
    "tz_ny_open.csv": (
        f"data=csv {STATED}",
        34_728,
        "data=csv data.stamped_at=open data.timezone=UTC",
        "data.timezone=America/New_York",
    ),
    "daily_sunday.csv": (
        "data=csv data.interval=session data.stamped_at=date data.format.sundays=skip",
        43,
        "data=csv data.interval=session data.stamped_at=date",
        "data.format.sundays=skip",
    ),
}


def read(path: Path, words: str, root: Path) -> Bars:
    overrides = [*shlex.split(words), f"data.path={path}"]
    return load(composition.compose("backtest", overrides).config.data, root)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_user_loads_or_names_its_cure(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    words, bars, wrong, key = FILES[name]
    path = shared_data / "user_files" / name
    if wrong:
        with pytest.raises(DataError) as refused:
            read(path, wrong, tmp_path)
        assert key in refused.value.hint
    assert len(read(path, words, tmp_path)) == bars


def test_every_csv_among_them_is_tested(shared_data: Path) -> None:
    files = {p.name for p in (shared_data / "user_files").iterdir() if p.is_file()}
    assert files == set(FILES)
