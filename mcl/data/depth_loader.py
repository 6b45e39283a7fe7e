"""The door to order books: a data config in, `Depth` out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.data import build, depth
from mcl.data.depth import Depth, Ints
from mcl.data.synthetic import order_books


def load(data: schema.Data, root: Path, pick: Callable[[Ints], Sequence[date]]) -> Depth:
    """The stored books of a config. Those of a generated world are made first, for the sessions
    that `pick` takes of all it has.

    ConfigError for a source that has no books; otherwise errors as `depth.build`.
    """
    if isinstance(data, schema.SyntheticData):
        home = build.raw_input(data, root).base
        return depth.build(
            order_books.generate(home, pick(build.stored_dataset(data, root).sessions)),
            data.instrument,
            root,
        )
    if isinstance(data, schema.DatabentoData):
        return depth.build(build.existing(data.path, root), data.instrument, root)
    raise ConfigError(
        f"data.source={data.source} has no order books",
        "use data=mcl_databento with mbp-1 or mbp-10 files",
    )
