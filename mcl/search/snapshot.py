"""Take a snapshot of the inputs of a search, store it in the parent run, compare it on resume."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mcl import composition
from mcl.base.differences import differences
from mcl.base.errors import ConfigError, MclError, StoreError, in_words, nearest
from mcl.base.files import plain_yaml
from mcl.base.words import many
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.data.fence import no_holdout
from mcl.engine.backtest import backtest as simulate
from mcl.metrics.summary import summary
from mcl.report.header_chips import data_label
from mcl.search import constraints
from mcl.search import space as spaces
from mcl.search.axes import refuse_axes, refuse_failing_points, refuse_rules
from mcl.search.point_sequences import closest, inside, uniform, worded
from mcl.search.study import planned
from mcl.search.trial import DataCache, deciding
from mcl.strategy import build, memory_at
from mcl.tracking import backtest_run, provenance, repository
from mcl.tracking.store import Record, StoredRun

FREE = (
    "trials",
    "workers",
    "backend",
    "timeout_sec",
    "trial_timeout_sec",
    "patience",
    "stop_when",
    "stop_from",
    "max_failures",
    "fail_fast",
    "track",
    "top",
    "select",
)
POINTS_TRIED = 200
CHAMPION = Path("conf") / "promoted" / "paper.yaml"
WAITS_FRAC = 0.5  # of the bars, from which on a search says that its strategy waits


@dataclass(frozen=True)
class SearchSnapshot:
    """A search that can run: everything in it has been checked."""

    composed: composition.Composed
    run: schema.Config
    search: schema.Search
    space: spaces.Space
    fixed: tuple[dict[str, Any], ...]  # the points of the first trials
    soft: tuple[constraints.Rule, ...]
    rules: tuple[constraints.Rule, ...]
    data_cache: DataCache
    bars: Bars
    total: int

    @property
    def title(self) -> str:
        axes = " × ".join(key.removeprefix("strategy.") for key in self.space)
        strategies = ", ".join(
            spaces.alternatives(self.composed.raw).get("strategy", [self.run.strategy["name"]])
        )
        name = f"{self.search.name} · " if self.search.name else ""
        trials = many(self.total, "trial")
        return (
            f"{name}{self.search.sampler} search · {strategies} · {axes} · {trials} · {self.data}"
        )

    @property
    def data(self) -> str:
        """The data set in a few words."""
        return data_label(self.run.data.model_dump(mode="json"))

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences that belong before the first trial: no hold-out, a capital or a space that
        does not fit the data.
        """
        fence = "" if self.run.data.holdout_start else no_holdout(self.bars)
        return tuple(filter(None, (fence, self._small_capital(), self._long_memory())))

    def _small_capital(self) -> str:
        """One contract that is worth more than the capital makes every result a matter of the
        limits.
        """
        of, capital = self.bars.instrument, self.run.capital_usd
        worth = abs(float(np.median(self.bars.close))) * of.multiplier
        if worth <= capital:
            return ""
        proposed = 10 ** math.ceil(math.log10(10 * worth))
        return (
            f"One {of.symbol} contract is worth about {worth:,.0f} USD, and capital_usd is"
            f" {capital:,.0f}: limits and returns are of another size. For instance"
            f" capital_usd={proposed}."
        )

    def _long_memory(self) -> str:
        """A strategy that waits for much of the data at the largest values that are searched."""
        last = {key: axis.high for key, axis in self.space.items() if hasattr(axis, "high")}
        try:
            run = composition.run_config(spaces.overlay(self.composed.raw, last))
            memory = memory_at(build(run.strategy), run.data.interval)
        except MclError:
            return ""
        if not last or memory <= WAITS_FRAC * len(self.bars):
            return ""
        values = " ".join(f"{key}={value}" for key, value in last.items())
        return (
            f"At {values} the strategy waits for {memory:,} of {many(len(self.bars), 'bar')}"
            f" ({self.bars.interval}) before its first signal: use more bars, or shorter axes, for"
            f" instance '{next(iter(last))}=range(5,60,5)'."
        )

    @property
    def described(self) -> dict[str, str]:
        return {key: str(axis) for key, axis in self.space.items()}


def take_snapshot(composed: composition.Composed, root: Path) -> SearchSnapshot:
    """Check all inputs of a search before a run exists, and return them. Else a ConfigError."""
    search = composed.search
    space = spaces.parse(search.space, composed.raw)
    refuse_axes(space, composed.raw)
    run, base = _base(composed, space)
    refuse_failing_points(space, composed.raw, base)
    spaces.check_conditions(search.conditions, space)
    fixed = tuple(_fixed(entry, space, composed.raw, root) for entry in search.enqueue)
    total = planned(space, search, len(fixed))
    data_cache = DataCache(root)
    bars = data_cache.bars(run.data)
    measured = _measured(run, bars)
    for prefix, name in [
        ("search.metric=", search.metric),
        *(("search.also: ", name) for name in search.also),
    ]:
        if name not in measured:
            raise ConfigError(
                f"{prefix}{name!r} is not a metric: {nearest(name, measured)}",
                "mcl report last shows them all",
            )
    keys = spaces.keys(composed.raw)
    parsed = constraints.parse(search.constraints, keys, measured)
    soft = constraints.parse(search.soft_constraints, keys, measured, "search.soft_constraints")
    refuse_rules([*parsed, *soft], composed.raw)
    if search.pruner != "none":
        data_cache.folds(run.data, search.folds)
    return SearchSnapshot(
        composed, run, search, space, fixed, soft, parsed, data_cache, bars, total
    )


def _base(
    composed: composition.Composed, space: spaces.Space
) -> tuple[schema.Config, dict[str, Any]]:
    """The configuration under the search. Where the values that it has for what is searched do not
    fit those that were typed (`strategy.slow=8 strategy.fast=range(2,7)`), some point of the space
    takes their place. ConfigError where none fits, either. The values of that point are returned,
    too.
    """
    try:
        return composed.config, {}
    except ConfigError:
        point = uniform(space, 0)
        for number in range(POINTS_TRIED):
            values = spaces.present(point(number), space, composed.search.conditions)
            with suppress(ConfigError):
                return composition.run_config(spaces.overlay(composed.raw, values)), values
        raise


def _measured(run: schema.Config, bars: Bars) -> dict[str, float]:
    """The metrics of the configuration itself; the simulation also compiles the kernel before a
    worker starts.
    """
    try:
        return summary(simulate(run, bars))
    except (MclError, KeyboardInterrupt):
        raise
    except BaseException as error:
        message = (
            f"strategy {run.strategy['name']!r} fails before anything is searched:"
            f" {in_words(error)}"
        )
        raise ConfigError(message, "mcl backtest with the same values shows where") from error


def parent(snapshot: SearchSnapshot) -> Record:
    """The parent run at its start. It has all that another process needs to resume the search."""
    searched = snapshot.search.model_dump(mode="json")
    overrides = {"overrides": list(snapshot.composed.overrides), "argv": repository.argv()}
    tags = {
        "mcl.kind": "sweep",
        "space_sha256": composition.digest(snapshot.described),
        "sweep": snapshot.search.name,
    }
    return Record(
        study=snapshot.run.study,
        name=snapshot.title,
        params=backtest_run.params(snapshot.run)
        | {f"search.{key}": value for key, value in composition.flatten(searched).items()},
        dataset=provenance.dataset(snapshot.run, snapshot.bars),
        tags=provenance.tags(snapshot.run, snapshot.bars)
        | {"code_sha256": provenance.code_sha256(spaces.strategies(snapshot.composed.raw))}
        | {key: value for key, value in tags.items() if value},
        files={
            "config.json": json.dumps(snapshot.run.model_dump(mode="json"), indent=1).encode(),
            "search.json": (
                json.dumps({"search": searched, "space": snapshot.described}, indent=1).encode()
            ),
            "composed.json": json.dumps(asdict(snapshot.composed), indent=1).encode(),
            "overrides.json": json.dumps(overrides).encode(),
            **provenance.inputs(snapshot.run, snapshot.bars),
        },
    )


def restore_snapshot(
    stored: StoredRun, root: Path, target: int, amendments: list[str] | None = None
) -> SearchSnapshot:
    """Restore the search of a parent run, with `target` trials. StoreError with every input that is
    not what it was.

    `amendments` are `search.KEY=VALUE` for keys that do not change what a trial is (`FREE`).
    """
    composed = stored_composed(stored)
    snapshot = take_snapshot(_amended(composed, target, amendments or []), root)
    if changed := [*_config_changes(composed), *_tag_changes(stored, snapshot)]:
        raise StoreError(
            f"sweep {stored.run_id[:12]} cannot continue, since its inputs are not what they were:"
            f" {'; '.join(changed)}",
            "restore them, or begin a new sweep",
        )
    return snapshot


def stored_composed(stored: StoredRun) -> composition.Composed:
    fields = json.loads(stored.file("composed.json"))
    return composition.Composed(fields["raw"], tuple(fields["overrides"]), fields["choices"])


def _amended(
    composed: composition.Composed, target: int, amendments: list[str]
) -> composition.Composed:
    search = composed.raw["search"] | {"trials": target}
    for text in amendments:
        key, _, value = text.removeprefix("search.").partition("=")
        if key not in FREE or not text.startswith("search."):
            free = [f"search.{name}" for name in FREE]
            raise ConfigError(
                f"{text} would change what a trial of this sweep is:"
                f" {nearest(text.split('=')[0], free)}",
                "begin a new sweep",
            )
        search[key] = plain_yaml(value, key)
    return replace(composed, raw=composed.raw | {"search": search})


def _config_changes(composed: composition.Composed) -> list[str]:
    """List the keys for which the same command line has another value today."""
    try:
        now = composition.compose("sweep", list(composed.overrides)).raw
    except ConfigError as error:
        return [f"its command line cannot be composed any more ({error.message})"]
    changed = differences(_binding(composed.raw), _binding(now))
    return [f"{key} was {then!r}, is {today!r}" for key, (then, today) in sorted(changed.items())]


def _binding(raw: Mapping[str, Any]) -> dict[str, Any]:
    # a key that is newer has its default
    options = composition.validate(schema.Search, raw["search"], "search").model_dump(mode="json")
    search = {key: value for key, value in options.items() if key not in (*FREE, "name")}
    return composition.flatten(deciding(raw) | {"search": search})


def _tag_changes(stored: StoredRun, snapshot: SearchSnapshot) -> list[str]:
    now = {
        "data_fingerprint": snapshot.bars.fingerprint,
        "code_sha256": provenance.code_sha256(spaces.strategies(snapshot.composed.raw)),
    }
    labels = {"data_fingerprint": "the data", "code_sha256": "the code that decides results"}
    return [
        f"{labels[key]} ({key} was {stored.tags[key][:12]}, is {value[:12]})"
        for key, value in now.items()
        if stored.tags[key] != value
    ]


def _fixed(
    entry: str | dict[str, Any], space: spaces.Space, raw: Mapping[str, Any], root: Path
) -> dict[str, Any]:
    """The values that an entry of search.enqueue names, of all axes or of some; ConfigError where
    one is not in the space.
    """
    values = _named(entry, raw, root) if isinstance(entry, str) else composition.flatten(entry)
    for key, axis in space.items():
        if key not in values:
            continue
        if not inside(axis, values[key]):
            near = f"the nearest is {closest(axis, values[key])}"
            raise ConfigError(
                f"search.enqueue: {key}={values[key]} is not in the space, {worded(axis)}",
                f"{near}; or widen the axis",
            )
    if isinstance(entry, dict) and (other := sorted(values.keys() - space.keys())):
        raise ConfigError(f"search.enqueue: {other[0]} is not searched: {nearest(other[0], space)}")
    return {key: values[key] for key in space if key in values}


def _named(entry: str, raw: Mapping[str, Any], root: Path) -> dict[str, Any]:
    if entry == "defaults":
        return composition.flatten(dict(raw)) | {
            group: next(iter(sections)) for group, sections in spaces.alternatives(raw).items()
        }
    path = root / CHAMPION
    if not path.is_file():
        raise ConfigError(
            f"search.enqueue: there is no champion yet ({CHAMPION} is missing)",
            "promote a run first: mcl promote RUN_ID",
        )
    values = composition.flatten(plain_yaml(path.read_text(), str(CHAMPION)))
    for group, sections in spaces.alternatives(raw).items():
        same = [
            name
            for name, section in sections.items()
            if section.get("name") == values.get(f"{group}.name")
        ]
        values |= {group: same[0]} if same else {}
    return values
