"""The charts of a page as pictures, drawn by a headless Chromium: what a reader sees is what is
pasted.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from mcl.base import progress
from mcl.base.errors import ReportError
from mcl.base.files import write_whole

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge")
SIZE = (1400, 800)
MAIN_SIZE = (1400, 1000)  # of the chart with several panels
WAIT_SEC = 60
FLAGS = (
    *(
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--hide-scrollbars",
        "--disable-background-networking",
    ),
    *(
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--virtual-time-budget=20000",
    ),
)


def browser() -> str:
    """The program that MCL_BROWSER names, else the first Chromium on the path; ReportError when
    there is none.
    """
    configured = os.environ.get("MCL_BROWSER")
    program = next(filter(None, map(shutil.which, [configured] if configured else BROWSERS)), None)
    if program is None:
        looked = (
            f"MCL_BROWSER={configured} is not a program"
            if configured
            else "there is no Chromium or Chrome on the path"
        )
        raise ReportError(
            f"pictures need a browser, and {looked}",
            "install chromium, or name a browser: MCL_BROWSER=/path/to/chrome",
        )
    return program


def charts(page: Path) -> list[str]:
    """Names of the charts of a page, in order."""
    return re.findall(
        r'<script type="application/json" data-for="([\w-]+)">', page.read_text(encoding="utf-8")
    )


def pictures(page: Path, folder: Path) -> list[Path]:
    """One PNG per chart of the page, in `folder`, which is made if need be. ReportError when the
    browser does not answer.
    """
    program, names = browser(), charts(page)
    folder.mkdir(parents=True, exist_ok=True)
    pending = progress.each("drawing the charts", names)
    return [
        _picture(program, page, name, folder / f"{name.removeprefix('chart-')}.png")
        for name in pending
    ]


def _picture(program: str, page: Path, name: str, target: Path) -> Path:
    width, height = MAIN_SIZE if name == "chart-strip" else SIZE
    with tempfile.TemporaryDirectory(prefix="mcl-png-") as scratch:
        picture = Path(scratch) / "drawn.png"
        place = [
            f"--user-data-dir={scratch}/profile",
            f"--window-size={width},{height}",
            f"--screenshot={picture}",
        ]
        command = [program, *FLAGS, *place, f"{page.resolve().as_uri()}?only={name}"]
        try:
            subprocess.run(command, capture_output=True, timeout=WAIT_SEC, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ReportError(
                f"{program} did not draw {name}: {error}",
                "try again, or name another browser with MCL_BROWSER",
            ) from None
        if not picture.is_file():
            raise ReportError(
                f"{program} did not draw {name}",
                "try again, or name another browser with MCL_BROWSER",
            )
        write_whole(target, picture.read_bytes())
    return target
