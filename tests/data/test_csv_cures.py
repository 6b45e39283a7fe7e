"""Each way in which a file of bars can differ is refused with the key that cures it, and the cure
reads the file.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from mcl import composition
from mcl.base.errors import DataError, MclError
from mcl.cli import main
from mcl.data.bars import Bars
from mcl.data.loader import load

HEADER = "time,open,high,low,close,volume"
STATED = "data.stamped_at=open data.timezone=America/New_York"


def minutes(
    count: int = 40, start: str = "2024-02-06 10:00", form: str = "%Y-%m-%d %H:%M"
) -> list[str]:
    """Rows of minutes around 78."""
    times = pd.date_range(start, periods=count, freq="1min").strftime(form)
    close = 78 + (np.arange(count) % 5) * 0.01
    return [
        f"{t},{c:.2f},{c + 0.02:.2f},{c - 0.02:.2f},{c:.2f},{7 + i % 3}"
        for i, (t, c) in enumerate(zip(times, close, strict=True))
    ]


def sessions(days: tuple[str, ...], hours: int = 0, shift: int = 0) -> list[str]:
    """Rows of whole sessions that open on the evenings of `days`, with the clock moved."""
    rows = []
    for day in days:
        start = pd.Timestamp(f"{day} 18:00") + pd.Timedelta(hours=hours, minutes=shift)
        rows += minutes(1380, str(start))
    return rows


def text(rows: list[str], header: str = HEADER) -> str:
    return "\n".join([header, *rows]) + "\n"


def replaced(row: int, old: str, new: str) -> str:
    rows = minutes()
    rows[row] = rows[row].replace(old, new, 1)
    return text(rows)


def with_symbol(symbol: str) -> str:
    rows = [f"{row},MCLH4" for row in minutes()]
    return text([*rows, f"2024-02-06 10:45,0.10,0.10,0.10,0.10,1,{symbol}"], HEADER + ",symbol")


def daily(days: pd.DatetimeIndex) -> str:
    rows = [f"{day:%Y-%m-%d},78.00,78.50,77.50,78.01,100" for day in days]
    return text(rows)


EVENINGS = ("2024-02-05", "2024-02-06", "2024-02-07")
DAILY = "data.interval=session data.stamped_at=date"
WEEKDAYS = pd.bdate_range("2024-02-01", "2024-03-22")


class Form(NamedTuple):
    content: Callable[[], str]
    stated: str  # what the user says at first
    cure: str  # what the refusal says, and what reads the file
    rows: int


FORMS: dict[str, Form] = {
    "no header": Form(
        lambda: "\n".join(minutes()),
        STATED,
        "data.format.names=[time,open,high,low,close,volume]",
        40,
    ),
    "semicolons": Form(
        lambda: text(minutes()).replace(",", ";"), STATED, "data.format.separator=semicolon", 40
    ),
    "decimal commas": Form(
        lambda: text(minutes()).replace(",", ";").replace(".", ","),
        f"{STATED} data.format.separator=semicolon",
        "data.format.decimal=comma",
        40,
    ),
    "thousands": Form(
        lambda: text([row.rsplit(",", 1)[0] + ',"1,200"' for row in minutes()]),
        STATED,
        "data.format.thousands=comma",
        40,
    ),
    "American dates": Form(
        lambda: text(minutes(form="%m/%d/%Y %H:%M", start="2024-02-26 10:00")),
        STATED,
        "'data.format.time=[\"%m/%d/%Y %H:%M\"]'",
        40,
    ),
    "seconds since 1970": Form(
        lambda: text(minutes(form="%s")), "data.stamped_at=open", "data.format.epoch=s", 40
    ),
    "a clock without a date": Form(
        lambda: text([f"2024-02-06,{r.split(' ')[1]}" for r in minutes()], "day," + HEADER),
        STATED,
        "data.columns.date=day",
        40,
    ),
    "rows without prices": Form(
        lambda: text([*minutes(), "2024-02-06 10:41,null,null,null,null,0"]),
        STATED,
        "'data.format.missing=[\"null\"]'",
        40,
    ),
    "a mark of absence": Form(
        lambda: text([*minutes(), "2024-02-06 10:41,n.a.,n.a.,n.a.,n.a.,0"]),
        STATED,
        "data.format.missing=[n.a.]",
        40,
    ),
    "newest first": Form(lambda: text(minutes()[::-1]), STATED, "data.format.sort=true", 40),
    "a row twice": Form(
        lambda: text([*minutes()[:5], *minutes()[4:]]),
        STATED,
        "data.format.duplicates=identical",
        40,
    ),
    "cents": Form(
        lambda: text(
            [
                ",".join(
                    [(c := r.split(","))[0], *(str(round(float(v) * 100)) for v in c[1:5]), c[5]]
                )
                for r in minutes()
            ]
        ),
        STATED,
        "data.format.scale=0.01",
        40,
    ),
    "spreads": Form(
        lambda: with_symbol("MCLH4-MCLJ4"),
        f"{STATED} data.columns.symbol=symbol",
        "data.format.symbols=outrights",
        40,
    ),
    "a continuous series among contracts": Form(
        lambda: with_symbol("NYMEX:MCL1!"),
        f"{STATED} data.columns.symbol=symbol",
        "data.format.symbols=outrights",
        40,
    ),
    "another product": Form(
        lambda: with_symbol("CLH4"),
        f"{STATED} data.columns.symbol=symbol",
        "data.format.symbols=product",
        40,
    ),
    "a footer": Form(
        lambda: text(minutes()) + "Downloaded from a vendor as of today\n",
        STATED,
        "data.format.comments=[Downloaded]",
        40,
    ),
    "lines above the header": Form(
        lambda: "Symbol: MCL\n" + text(minutes()), STATED, "data.format.skip_lines=1", 40
    ),
    "another encoding": Form(
        lambda: text(minutes(), HEADER + ",änderung"), STATED, "data.format.encoding=latin-1", 40
    ),
    "no clock": Form(
        lambda: text(minutes()), "data.stamped_at=open", "data.timezone=America/New_York", 40
    ),
    "offsets in some rows": Form(
        lambda: text([*[r.replace(",", "-05:00,", 1) for r in minutes()[:-1]], minutes()[-1]]),
        STATED,
        "data.format.offsets=ignore",
        40,
    ),
    "another clock": Form(
        lambda: text(sessions(EVENINGS, hours=5)), STATED, "data.timezone=UTC", 4140
    ),
    "an offset that is wrong": Form(
        lambda: text([r.replace(",", "Z,", 1) for r in sessions(EVENINGS)]),
        "data.stamped_at=open",
        "data.format.offsets=ignore data.timezone=America/New_York",
        4140,
    ),
    "closes": Form(
        lambda: text(sessions(EVENINGS, shift=1)), STATED, "data.stamped_at=close", 4140
    ),
    "a price times 100": Form(
        lambda: replaced(20, "78.00,78.02,77.98,78.00", "7800.00,7802.00,7798.00,7800.00"),
        STATED,
        "data.format.without=[22]",
        39,
    ),
    "a price of zero": Form(
        lambda: replaced(20, "78.00,78.02,77.98,78.00", "78.00,78.02,0.00,78.00"),
        STATED,
        "data.format.without=[22]",
        39,
    ),
    "a session that is absent": Form(
        lambda: text(sessions(("2024-02-05", "2024-02-07"))),
        STATED,
        "data.accept=[holes]",
        2760,
    ),
    "fractions of contracts": Form(
        lambda: text([r.rsplit(",", 1)[0] + ",0.000007" for r in minutes()]),
        STATED,
        "data.format.volume_scale=1000000.0",
        40,
    ),
    "five minutes": Form(
        lambda: text([r for i, r in enumerate(minutes(100)) if i % 5 == 0]),
        STATED,
        "data.interval=5m",
        20,
    ),
    "seconds": Form(
        lambda: text([r.replace(",", f":{s:02d},", 1) for r in minutes(3) for s in range(60)]),
        STATED,
        "data.format.interval=1s",
        3,
    ),
    "Sundays": Form(
        lambda: daily(WEEKDAYS.union(pd.date_range("2024-02-04", "2024-03-17", freq="W"))),
        DAILY,
        "data.format.sundays=skip",
        len(WEEKDAYS),
    ),
    "dates a day early": Form(
        lambda: daily(WEEKDAYS - pd.Timedelta(days=1)),
        DAILY,
        "data.format.shift_days=1",
        len(WEEKDAYS),
    ),
    "a week without dates": Form(
        lambda: daily(WEEKDAYS.delete(np.arange(10, 15))),
        DAILY,
        "data.accept=[holes]",
        len(WEEKDAYS) - 5,
    ),
}
# the cure that is named is another spelling of the one that reads the file
NAMED = {
    "semicolons": "data.columns",
    "seconds since 1970": "data.format.epoch",
    "a clock without a date": "data.columns.date",
    "no header": "data.columns",
    "lines above the header": "data.format.skip_lines",
    "a footer": "data.format.comments",
    "another encoding": "data.format.encoding",
}


def read(path: Path, words: str) -> Bars:
    overrides = ["data=csv", f"data.path={path}", *shlex.split(words), "data.roll.rule=calendar"]
    return load(composition.compose("backtest", overrides).config.data, path.parent)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_refused_with_its_cure_and_the_cure_reads_it(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    path = tmp_path / "bars.csv"
    path.write_bytes(form.content().encode("latin-1"))
    with pytest.raises(MclError) as refused:
        read(path, form.stated)
    assert isinstance(refused.value, DataError)
    key = NAMED.get(name, shlex.split(form.cure)[0].partition("=")[0])
    assert key in refused.value.hint, refused.value.hint
    assert not list((tmp_path / "data").glob("*"))
    assert len(read(path, f"{form.stated} {form.cure}")) == form.rows


@pytest.mark.parametrize("verb", ["data info", "data build", "backtest", "sweep"])
def test_every_verb_refuses_alike_before_a_dataset_exists(
    verb: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "bars.csv"
    path.write_text(text(sessions(EVENINGS, hours=5)))
    words = ["data=csv", f"data.path={path}", *STATED.split()]
    assert main.main(["--json", *verb.split(), *words]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert "bars lie in hours in which the exchange is closed" in error["message"]
    assert "data.timezone=UTC" in error["hint"]
    assert not list((project / "data").glob("*"))


def test_there_are_as_many_forms_as_users_have() -> None:
    assert len(FORMS) >= 32
