"""The validated configuration of a run: what a command line composes to, and its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from mcl.base.errors import ConfigError
from mcl.composition import error_sentences
from mcl.composition.hydra_door import composes
from mcl.composition.validation import validate
from mcl.config import schema

Verb = Literal["backtest", "sweep", "live", "promote", "validate"]
# what a run is; broker, study and notes are not
DECIDES = ("data", "strategy", "risk", "costs", "execution", "capital_usd", "seed")


@dataclass(frozen=True)
class Composed:
    """Hold the configuration of a command line. `raw` is the resolved plain dict, `overrides` the
    words of the command line, `choices` the option of each group.
    """

    raw: dict[str, Any]
    overrides: tuple[str, ...]
    choices: dict[str, str] = field(default_factory=dict)
    multirun: bool = False  # hydra.mode=MULTIRUN
    sweeper_params: tuple[str, ...] = ()  # hydra.sweeper.params as overrides

    @property
    def config(self) -> schema.Config:
        try:
            return run_config(self.raw)
        except ConfigError as error:
            verb: Verb = "sweep" if "search" in self.raw else "backtest"
            again = partial(composes, verb, [*self.overrides])
            raise error_sentences.located(error, self.overrides, again) from error.__cause__

    @property
    def search(self) -> schema.Search:
        return validate(schema.Search, self.raw["search"], "search")


def run_config(raw: dict[str, Any]) -> schema.Config:
    """The validated run configuration in `raw`; groups that belong to a verb (search, promotion)
    are left aside.
    """
    # these registries complete the schema
    # with numba and pandas, which a list of runs does not need
    from mcl import strategy
    from mcl.composition import durations
    from mcl.data import sources  # noqa: F401
    from mcl.risk import sizes  # noqa: F401

    own = {k: v for k, v in raw.items() if k not in ("search", "promotion")}
    config = validate(schema.Config, durations.in_bars(own))

    strategy.build(config.strategy)
    return config


def fingerprint(config: schema.Config) -> str:
    """sha256 over what decides a result: data, strategy, risk, costs, capital and seed; not the
    broker, the study or the notes.
    """
    return digest(config.model_dump(mode="json", include=set(DECIDES)))


def trial_fingerprint(decides: Mapping[str, Any], bars: str) -> str:
    """sha256 over what is tried: the parts of a configuration that decide a result, with the
    fingerprint of its bars in place of the keys by which these were read. Without one the
    configuration alone.
    """
    return digest(dict(decides) | ({"data": {"bars": bars}} if bars else {}))


def digest(value: Any) -> str:
    """sha256 of the canonical JSON form."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()
