"""Charts as pictures through a real Chromium."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from mcl.base.errors import ReportError
from mcl.engine.result import Result
from mcl.report import png
from mcl.report.run import run_page

from .conftest import view_of


def test_every_chart_becomes_a_picture(
    month: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        png.browser()
    except ReportError as reason:
        pytest.skip(str(reason))
    page = tmp_path / "report.html"
    page.write_text(run_page(view_of(month)), encoding="utf-8")
    assert png.charts(page) == [
        "chart-strip",
        "chart-sessions",
        "chart-exposure",
        "chart-trades",
        "chart-mae",
        "chart-mfe",
        "chart-costs",
    ]
    monkeypatch.setattr(png, "charts", lambda _: ["chart-strip", "chart-costs"])
    made = png.pictures(page, tmp_path / "new" / "pictures")
    assert [path.name for path in made] == ["strip.png", "costs.png"]
    sizes = [struct.unpack(">II", path.read_bytes()[16:24]) for path in made]
    assert [width for width, _ in sizes] == [1400, 1400]
    assert len(made[0].read_bytes()) > 30_000  # something is drawn on it


def test_no_browser_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCL_BROWSER", "/nowhere/chrome")
    with pytest.raises(
        ReportError,
        match="pictures need a browser, and MCL_BROWSER=/nowhere/chrome is not a program",
    ):
        png.pictures(tmp_path / "report.html", tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()
    monkeypatch.delenv("MCL_BROWSER")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReportError, match="there is no Chromium or Chrome on the path"):
        png.browser()
