"""A generated world as a source: real DBN files that are written once, then read as a vendor's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mcl.config import schema
from mcl.data.source import Keys, Raw, Source
from mcl.data.sources import databento
from mcl.market import calendar
from mcl.market.calendar import from_day
from mcl.market.intervals import makes


class SyntheticData(schema.DataCommon):
    """A generated MCL world, written as real DBN under `folder` once and cached. Always marked as
    synthetic.
    """

    source: Literal["synthetic"]
    world: Literal["zero_edge", "planted_edge"] = "zero_edge"
    seed: int = Field(7, ge=0)
    # planted_edge only: annual Sharpe, before costs, of the planted rule
    edge_sharpe: float = Field(4.0, ge=0, le=10)
    # the planted rule is an EMA cross on 1-minute closes with these spans
    edge_fast: int = Field(240, ge=1)
    edge_slow: int = Field(960, ge=2)
    folder: str = "data"


def _raw(data: SyntheticData, root: Path) -> Raw:
    from mcl.data.synthetic import generator

    home = generator.generate(data, root / data.folder / "raw")
    request = {"source": "synthetic", "world": data.world, "seed": data.seed}
    files = databento.files(home, "1m")
    if not makes("1m", data.interval):
        files = _seconds(data, home)
    raw = databento.raw_files(files, data.instrument, request)
    label = f"synthetic-{data.world}-seed{data.seed}"
    return replace(raw, label=label, home=data.folder, other_intervals=())


def _seconds(data: SyntheticData, home: Path) -> databento.RecordFiles:
    """The one-second bars of the sessions of a config, made on the first call: a session takes as
    long as months of minutes.
    """
    from mcl.data.synthetic import generator, trade_tape

    first = max(filter(None, (generator.FIRST, data.start)))
    beyond = min(filter(None, (generator.LAST + timedelta(days=1), data.end)))
    days = [from_day(int(day)) for day in calendar.sessions(first, beyond).day]
    trade_tape.generate(home, days)
    files = databento.files(home, "1s")
    own = {f"{day}.dbn.zst" for day in days}
    paths = [path for path in files.by_schema["ohlcv-1s"] if path.name in own]
    return replace(files, by_schema=files.by_schema | {"ohlcv-1s": paths})


def _identity(values: Mapping[str, Any]) -> Keys:
    """A world without an edge is the same whatever the keys of the edge say."""
    edge = () if values.get("world") == "zero_edge" else ("edge_sharpe", "edge_fast", "edge_slow")
    return ("world", "seed", *edge)


def _books(data: SyntheticData, root: Path) -> Path:
    return _raw(data, root).base


SOURCE = Source(SyntheticData, _raw, _identity, books=_books, generated=True)
