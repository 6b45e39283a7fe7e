"""What is fixed when a search is launched, how the parent run keeps it, and what may not have
changed when it goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mcl import composition, metrics
from mcl.base.errors import ConfigError, MclError, StoreError, in_words, nearest
from mcl.base.files import plain_yaml
from mcl.config import schema
from mcl.data.bars import Bars
from mcl.engine.backtest import backtest as simulate
from mcl.search import constraints
from mcl.search import space as spaces
from mcl.search.axes import refuse_axes, refuse_failing_points, refuse_rules
from mcl.search.point_sequences import closest, inside, uniform, worded
from mcl.search.study import planned
from mcl.search.trial import Market, deciding
from mcl.tracking import backtest_run, provenance
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


@dataclass(frozen=True)
class Frozen:
    """A search that can run: everything in it has been checked."""

    composed: composition.Composed
    run: schema.Config
    search: schema.Search
    space: spaces.Space
    fixed: tuple[dict[str, Any], ...]  # the points of the first trials
    soft: tuple[constraints.Rule, ...]
    rules: tuple[constraints.Rule, ...]
    market: Market
    bars: Bars
    total: int

    @property
    def title(self) -> str:
        axes = " × ".join(key.removeprefix("strategy.") for key in self.space)
        strategies = ", ".join(
            spaces.alternatives(self.composed.raw).get("strategy", [self.run.strategy["name"]])
        )
        name = f"{self.search.name} · " if self.search.name else ""
        return f"{name}{self.search.sampler} search · {strategies} · {axes} · {self.total} trials"

    @property
    def described(self) -> dict[str, str]:
        return {key: str(axis) for key, axis in self.space.items()}


def freeze(composed: composition.Composed, root: Path) -> Frozen:
    """Everything that can be refused is refused here, before a run exists."""
    search = composed.search
    space = spaces.parse(search.space, composed.raw)
    refuse_axes(space, composed.raw)
    run, base = _base(composed, space)
    refuse_failing_points(space, composed.raw, base)
    spaces.check_conditions(search.conditions, space)
    fixed = tuple(_fixed(entry, space, composed.raw, root) for entry in search.enqueue)
    total = planned(space, search, len(fixed))
    market = Market(root)
    bars = market.bars(run.data)
    measured = _measured(run, bars)
    for said, name in [
        ("search.metric=", search.metric),
        *(("search.also: ", name) for name in search.also),
    ]:
        if name not in measured:
            raise ConfigError(
                f"{said}{name!r} is not a metric: {nearest(name, measured)}",
                "mcl report last shows them all",
            )
    keys = spaces.keys(composed.raw)
    parsed = constraints.parse(search.constraints, keys, measured)
    soft = constraints.parse(search.soft_constraints, keys, measured, "search.soft_constraints")
    refuse_rules([*parsed, *soft], composed.raw)
    if search.pruner != "none":
        market.folds(run.data, search.folds)
    return Frozen(composed, run, search, space, fixed, soft, parsed, market, bars, total)


def _base(
    composed: composition.Composed, space: spaces.Space
) -> tuple[schema.Config, dict[str, Any]]:
    """The configuration under the search. Where the values that it has for what is searched do not
    fit those that were typed (`strategy.slow=8 strategy.fast=range(2,7)`), some point of the space
    stands in; ConfigError where none fits, either. Besides, the values of that point.
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
        return metrics.summary(simulate(run, bars))
    except (MclError, KeyboardInterrupt):
        raise
    except BaseException as error:
        said = (
            f"strategy {run.strategy['name']!r} fails before anything is searched:"
            f" {in_words(error)}"
        )
        raise ConfigError(said, "mcl backtest with the same values shows where") from error


def parent(frozen: Frozen) -> Record:
    """The parent run as it is started: what the search is, whole enough to go on with it in another
    process.
    """
    searched = frozen.search.model_dump(mode="json")
    overrides = {"overrides": list(frozen.composed.overrides), "argv": provenance.argv()}
    tags = {
        "mcl.kind": "sweep",
        "space_sha256": composition.digest(frozen.described),
        "sweep": frozen.search.name,
    }
    return Record(
        study=frozen.run.study,
        name=frozen.title,
        params=backtest_run.params(frozen.run)
        | {f"search.{key}": value for key, value in composition.flatten(searched).items()},
        dataset=provenance.dataset(frozen.run, frozen.bars),
        tags=provenance.tags(frozen.run, frozen.bars)
        | {"code_sha256": provenance.code_sha256(spaces.strategies(frozen.composed.raw))}
        | {key: value for key, value in tags.items() if value},
        files={
            "config.json": json.dumps(frozen.run.model_dump(mode="json"), indent=1).encode(),
            "search.json": (
                json.dumps({"search": searched, "space": frozen.described}, indent=1).encode()
            ),
            "composed.json": json.dumps(asdict(frozen.composed), indent=1).encode(),
            "overrides.json": json.dumps(overrides).encode(),
            **provenance.inputs(frozen.run, frozen.bars),
        },
    )


def thaw(stored: StoredRun, root: Path, target: int, amendments: list[str] | None = None) -> Frozen:
    """The search that a parent run froze, with `target` trials; StoreError with every input that is
    not what it was.

    `amendments` are `search.KEY=VALUE` for keys that do not change what a trial is (`FREE`).
    """
    composed = stored_composed(stored)
    frozen = freeze(_amended(composed, target, amendments or []), root)
    if changed := [*_config_changes(composed), *_tag_changes(stored, frozen)]:
        raise StoreError(
            f"sweep {stored.run_id[:12]} cannot go on, since its inputs are not what they were:"
            f" {'; '.join(changed)}",
            "restore them, or begin a new sweep",
        )
    return frozen


def stored_composed(stored: StoredRun) -> composition.Composed:
    kept = json.loads(stored.file("composed.json"))
    return composition.Composed(kept["raw"], tuple(kept["overrides"]), kept["choices"])


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
    """What the same command line would mean today, where that differs."""
    try:
        now = composition.compose("sweep", list(composed.overrides)).raw
    except ConfigError as error:
        return [f"its command line cannot be composed any more ({error.message})"]
    then_flat, now_flat = _binding(composed.raw), _binding(now)
    keys = sorted(
        key for key in then_flat.keys() | now_flat.keys() if then_flat.get(key) != now_flat.get(key)
    )
    return [f"{key} was {then_flat.get(key)!r}, is {now_flat.get(key)!r}" for key in keys]


def _binding(raw: Mapping[str, Any]) -> dict[str, Any]:
    # a key that is newer has its default
    asked = composition.validate(schema.Search, raw["search"], "search").model_dump(mode="json")
    search = {key: value for key, value in asked.items() if key not in (*FREE, "name")}
    return composition.flatten(deciding(raw) | {"search": search})


def _tag_changes(stored: StoredRun, frozen: Frozen) -> list[str]:
    now = {
        "data_fingerprint": frozen.bars.fingerprint,
        "code_sha256": provenance.code_sha256(spaces.strategies(frozen.composed.raw)),
    }
    said = {"data_fingerprint": "the data", "code_sha256": "the code that decides results"}
    return [
        f"{said[key]} ({key} was {stored.tags[key][:12]}, is {value[:12]})"
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
