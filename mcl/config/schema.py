"""The schema of a configuration: one strict model per config group.

Hydra composes YAML and command line into a plain dict; these models are the second, strict pass
(unknown keys, types, ranges and rules across fields), because Hydra alone lets `+unknown=1` and
`???` through. Facts about instruments are not here but in `market`; strategies declare their own
parameters (`mcl.strategy`).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mcl.base import files
from mcl.config import broker_schema
from mcl.config.base_model import BarCount, Day, Strict, Ticks

Interval = Literal["1s", "5s", "10s", "15s", "30s", "1m", "5m", "15m", "30m", "1h", "session"]
WINDOW = r"(?:(Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)"
# New York: "09:00-14:30" every day, "Wed 10:25-10:40" on one
Window = Annotated[str, Field(pattern=f"^{WINDOW}$")]
# of files of bars; `mcl.data.conventions` measures them
Convention = Literal["clock", "stamp", "days", "prices", "holes"]
# of the calendar
Span = Annotated[str, Field(pattern=r"^[1-9]\d{0,3} (session|month|quarter|year)s?$")]
Study = Annotated[str, AfterValidator(files.plain_name)]  # becomes a folder of artifacts


# --------------------------------------------------------------------------------------------- data


class Roll(Strict):
    """The rule that leaves a contract for the next. `volume`, `open_interest`: that of the next
    listed expiry was larger in the previous session; one-way. The default is that of MCL.
    """

    rule: Literal["volume", "open_interest", "calendar"] = "calendar"
    # at the latest (volume, open_interest) or exactly (calendar)
    sessions_before_last_trade: int = Field(2, ge=0, le=40)
    adjust: Literal["difference", "ratio", "none"] = "difference"


class DataCommon(Strict):
    """The keys that every data source has. A source adds its own in its file of
    `mcl/data/sources`.
    """

    source: str
    instrument: str = "MCL"
    interval: Interval = "1m"
    start: Day | None = None  # first session
    end: Day | None = None  # first session that is left out
    # bars from here on are fenced: only promotion and validation see them
    holdout_start: Day | None = None
    roll: Roll = Roll()
    exclude_degraded: bool = False  # leave out sessions that the vendor calls degraded
    # levels of the order book next to the bars, from mbp-1 or mbp-10 files; 0: no quotes
    quotes: int = Field(0, ge=0, le=10, exclude_if=operator.not_)
    # conventions that the files break and that are taken as they are
    accept: tuple[Convention, ...] = Field((), strict=False, exclude_if=operator.not_)

    @model_validator(mode="after")
    def _ordered(self) -> DataCommon:
        days = [d for d in (self.start, self.holdout_start, self.end) if d is not None]
        if any(a >= b for a, b in pairwise(days)):
            raise ValueError(
                f"need start < holdout_start < end; start={self.start},"
                f" holdout_start={self.holdout_start}, end={self.end}"
            )
        return self


if TYPE_CHECKING:
    Data = DataCommon  # the models of all sources: `complete` names them


# -------------------------------------------------------------------------------------------- costs


class Costs(Strict):
    """Charged on every contract and side, rolls included. The three commissions add up; ticks of
    slippage are against us.
    """

    slippage_ticks: float = Field(1.0, ge=0, le=100)  # the mean that every fill is charged
    commission_usd: float = Field(0.77, ge=0, le=100)  # broker; all of it when the next two are 0
    exchange_usd: float = Field(0.0, ge=0, le=100)
    regulatory_usd: float = Field(0.0, ge=0, le=100)
    # in its place, hours 0 … 23 New York; 17 is the daily break
    slippage_by_hour_ticks: tuple[Ticks, ...] = Field((), strict=False)
    # more for an order as large as the whole volume of its bar, less in proportion
    impact_ticks: float = Field(0.0, ge=0, le=1000)

    @property
    def side_usd(self) -> float:
        """Commission per contract and side: broker + exchange + regulatory."""
        return self.commission_usd + self.exchange_usd + self.regulatory_usd

    @model_validator(mode="after")
    def _whole_day(self) -> Costs:
        if len(self.slippage_by_hour_ticks) not in (0, 24):
            raise ValueError(
                f"slippage_by_hour_ticks has {len(self.slippage_by_hour_ticks)} values; need 24,"
                " one per hour, or none"
            )
        return self


# ---------------------------------------------------------------------------------------- execution


class Execution(Strict):
    """The orders that a target becomes. What reduces a position always goes to the market; `entry`
    is the order that opens or adds.

    Levels are `offset_ticks` from the close that was decided on: a limit better, a stop worse. A
    stop-limit may fill up to `limit_ticks` beyond its stop. The terms are exact in
    mcl/engine/assumptions.md.
    """

    entry: Literal["market", "limit", "stop", "stop_limit"] = "market"
    offset_ticks: int = Field(0, ge=0, le=10_000)
    limit_ticks: int = Field(0, ge=0, le=10_000)
    # an entry order ends with its session at the latest
    ttl_bars: BarCount | None = Field(None, ge=1)
    # an order that has run out is placed again from the newest close while its target is unchanged
    renew: bool = True
    # a limit fills when the price reaches it, or only one tick beyond
    fill: Literal["touch", "through"] = "through"
    # opens that pass before an order reaches the market
    latency_bars: BarCount = Field(0, ge=0, le=100_000)
    # of the volume of a bar that one order may be
    participation_frac: float | None = Field(None, gt=0, le=1)
    # a bar touches both levels: the stop was first, or ask the dataset's own bars
    bracket: Literal["pessimistic", "finer"] = "pessimistic"

    @model_validator(mode="after")
    def _needed(self) -> Execution:
        if self.entry == "market" and (self.offset_ticks or self.ttl_bars is not None):
            raise ValueError(
                "entry=market has no level: offset_ticks and ttl_bars need entry=limit, stop or"
                " stop_limit"
            )
        if self.entry != "stop_limit" and self.limit_ticks:
            raise ValueError(
                f"limit_ticks={self.limit_ticks} needs entry=stop_limit; entry={self.entry}"
            )
        return self


# --------------------------------------------------------------------------------------------- risk


class SizeRule(Strict):
    """The keys below `risk.size`: each method of `mcl.risk.sizes` has a model of its own."""

    method: str


if TYPE_CHECKING:
    Size = SizeRule  # the models of all methods: `complete` names them


class Protection(Strict):
    """Stop and take-profit distances from the fill price; `atr` distances are multiples of
    ATR(atr_bars) at the decision.
    """

    unit: Literal["none", "ticks", "atr"] = "none"
    stop: float | None = Field(None, gt=0)
    take_profit: float | None = Field(None, gt=0)
    # the stop follows the closes at this distance, never back
    trail: float | None = Field(None, gt=0)
    atr_bars: BarCount = Field(14, ge=1, le=1_000_000)


class Limits(Strict):
    """Null switches a limit off. Losses are positive numbers."""

    max_position: int = Field(2, ge=1, le=1000)
    max_order: int = Field(4, ge=1, le=2000)
    # position changes that open or add risk
    max_trades_per_session: int | None = Field(None, ge=1, le=1_000_000_000)
    # flattens and locks until the next session
    max_daily_loss_usd: float | None = Field(None, gt=0)
    # from peak equity: flattens and halts
    max_drawdown_frac: float | None = Field(None, gt=0, lt=1)
    no_entry_before_close_sec: int = Field(0, ge=0, le=82800)
    flatten_before_close_sec: int = Field(0, ge=0, le=82800)
    # before the end of the session before a roll that is known by then
    flatten_before_roll_sec: int = Field(0, ge=0, le=82800)
    # 0: on the last trade date itself
    flatten_before_last_trade_sessions: int | None = Field(None, ge=0, le=60)
    # new targets, exits included; then only reductions
    max_orders_per_session: int | None = Field(None, ge=1, le=1_000_000_000)
    # marked at closes; flat until the signal leaves the side
    max_loss_per_trade_usd: float | None = Field(None, gt=0)
    # then only reductions for
    max_consecutive_losses: int | None = Field(None, ge=1, le=1_000_000_000)
    cool_down_bars: BarCount = Field(60, ge=1, le=1_000_000_000)
    trading_windows: tuple[Window, ...] = Field((), strict=False)  # no entry outside
    # no entry inside; EIA inventories: "Wed 10:25-10:40"
    news_windows: tuple[Window, ...] = Field((), strict=False)
    # outside trading_windows and inside news_windows also close what is open
    flatten_at_windows: bool = False
    # no entry while the mean range of the last fast bars is above this times the slow
    volatility_ratio: float | None = Field(None, gt=0)
    volatility_fast_bars: BarCount = Field(5, ge=1, le=10_000_000)
    volatility_slow_bars: BarCount = Field(390, ge=2, le=10_000_000)
    # no entry when the open is further from the close that was decided on
    price_collar_ticks: float | None = Field(None, gt=0)
    initial_margin_usd: float | None = Field(None, gt=0)  # per contract: carries what is opened
    # per contract: what it no longer carries at a close is sold
    maintenance_margin_usd: float | None = Field(None, gt=0)
    max_margin_frac: float = Field(1.0, gt=0, le=1)  # of the equity that initial margin may take
    state: Literal["normal", "reduce_only", "halted"] = "normal"  # the operator's word

    @model_validator(mode="after")
    def _consistent(self) -> Limits:
        first, second = self.maintenance_margin_usd, self.initial_margin_usd
        if first is not None and second is not None and first > second:
            raise ValueError(
                f"need maintenance_margin_usd <= initial_margin_usd; {first:g} > {second:g}"
            )
        if self.volatility_fast_bars >= self.volatility_slow_bars:
            raise ValueError(
                f"need volatility_fast_bars < volatility_slow_bars; {self.volatility_fast_bars},"
                f" {self.volatility_slow_bars}"
            )
        return self


class Risk(Strict):
    size: Size
    protection: Protection = Protection()
    limits: Limits = Limits()


# ------------------------------------------------------------------------------------------- broker


BrokerConfig = broker_schema.BrokerConfig
Guards = broker_schema.Guards
Alerts = broker_schema.Alerts
Webhook = broker_schema.Webhook
Mail = broker_schema.Mail
Services = broker_schema.Services
Telemetry = broker_schema.Telemetry


# ------------------------------------------------------------------------------------------- search


Direction = Literal["maximize", "minimize"]


class Search(Strict):
    """`metric` ranks the trials; `also` holds further objectives, for samplers that keep a Pareto
    front (all but cmaes).

    The options of a sampler or a pruner are typed as `search.sampler.OPTION=VALUE`, or written as
    {name: tpe, OPTION: VALUE}.
    """

    # a named search writes its winner to experiments/NAME_best.yaml
    name: str = Field("", pattern=r"^[A-Za-z0-9_-]*$")
    trials: int = Field(50, ge=1, le=1_000_000)
    workers: int = Field(1, ge=1, le=256)
    # processes of this machine, or actors of the cluster at RAY_ADDRESS
    backend: Literal["local", "ray"] = "local"
    # the study in mlruns/sweeps, or in the database at MCL_STUDY_URL
    storage: Literal["journal", "postgresql"] = "journal"
    sampler: Literal["tpe", "cmaes", "qmc", "random", "grid", "nsga2", "nsga3", "gp"] = "tpe"
    # of Optuna's sampler: search.sampler.n_startup_trials=20
    sampler_options: dict[str, Any] = Field(default_factory=dict)
    metric: str = "sharpe"
    direction: Direction = "maximize"
    also: Annotated[dict[str, Direction], BeforeValidator(lambda raw: raw or {})] = Field(
        default_factory=dict
    )
    min_trades: int = Field(30, ge=0)
    # "strategy.fast < strategy.slow", "max_drawdown_frac > -0.25"
    constraints: tuple[str, ...] = Field((), strict=False)
    # broken: still scored, but behind every trial that keeps them
    soft_constraints: tuple[str, ...] = Field((), strict=False)
    # {axis: {other axis: [values]}}: exists only then
    conditions: dict[str, dict[str, list[Any]]] = Field(default_factory=dict)
    # {group: {choice: section}} of strategy=A,B
    alternatives: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    # judges a trial after each fold
    pruner: Literal["none", "median", "percentile", "halving", "hyperband", "wilcoxon"] = "none"
    # of Optuna's pruner: search.pruner.n_startup_trials=10
    pruner_options: dict[str, Any] = Field(default_factory=dict)
    # equal parts of the sessions, in time order: a pruner's steps, or what a walk-forward trades
    folds: int = Field(5, ge=2, le=100)
    # search again before each part, on all before it or the last few parts
    walk_forward: Literal["anchored", "rolling"] | None = None
    train_folds: int = Field(3, ge=1, le=100)  # parts that the rolling one searches on
    purge_sessions: int = Field(1, ge=0, le=100)  # left out between searching and trading
    # of each part that a walk-forward trades: "1 quarter", "6 months", "20 sessions"; null: equal
    # `folds`
    test_length: Span | None = None
    train_length: Span | None = None  # what it searches on before each; anchored: at least
    short_last: bool = True  # trade a last part that the data do not fill, too
    # the first trials
    enqueue: tuple[Literal["defaults", "champion"] | dict[str, Any], ...] = Field((), strict=False)
    patience: int | None = Field(None, ge=1)  # end after so many trials without a better one
    # end when the best so far is no more than luck gives for as many trials
    stop_when: Literal["inside_luck"] | None = None
    stop_from: int = Field(50, ge=1)  # so many scored trials before `stop_when` may end a search
    timeout_sec: float | None = Field(None, gt=0)
    # a trial that takes longer is FAILED(timeout), its process replaced
    trial_timeout_sec: float | None = Field(None, gt=0)
    max_failures: int | None = Field(None, ge=0)
    # end when the first so many trials all fail with the same exception
    fail_fast: int | None = Field(5, ge=1)
    # which trials become runs of the store; the parent's tables hold every one
    track: Literal["all", "top", "none"] = "all"
    # so many of the best are run once more, with all artifacts and the equity curve
    top: int = Field(1, ge=1, le=100)
    # what counts as the winner: the best trial, or the best neighbourhood
    select: Literal["peak", "plateau"] = "peak"
    # {strategy: {fast: "range(10, 400, 10)"}}; Hydra's sweep grammar
    space: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _options(cls, raw: Any) -> Any:
        """A sampler or a pruner with options, {name: tpe, n_startup_trials: 20}, as a name and its
        options.
        """
        if not isinstance(raw, dict):
            return raw
        out = dict(raw)
        for key in ("sampler", "pruner"):
            if isinstance(out.get(key), dict):
                options = dict(out[key])
                name = options.pop("name", cls.model_fields[key].default)
                out |= {
                    key: name,
                    f"{key}_options": options | dict(out.get(f"{key}_options") or {}),
                }
        return out

    @model_validator(mode="after")
    def _windows(self) -> Search:
        if (self.test_length is None) != (self.train_length is None):
            raise ValueError(
                "search.test_length and search.train_length belong together: give both, or neither"
            )
        return self


# --------------------------------------------------------------------------------------- validation


Level = tuple[float, float]


class Validation(Strict):
    """The strictness of `mcl validate`. A rule is [pass from, stop from]; the first of the two is
    the better value.
    """

    budget: int = Field(64, ge=1, le=10_000)
    seed: int = Field(0, ge=0)
    folds: int = Field(6, ge=1, le=100)
    train_folds: int = Field(3, ge=1, le=100)
    purge_sessions: int = Field(1, ge=0, le=100)
    embargo_sessions: int = Field(1, ge=0, le=100)
    purge_positions: bool = True
    cpcv_folds: int = Field(8, ge=2, le=16)
    cpcv_tests: int = Field(2, ge=1, le=15)
    blocks: int = Field(16, ge=2, le=20, multiple_of=2)
    cost_factors: tuple[float, ...] = Field((0.5, 1.0, 2.0, 3.0), strict=False)
    delays_bars: tuple[int, ...] = Field((1, 2), strict=False)
    neighbourhood_quantile: float = Field(0.25, ge=0, le=1)
    holdout: bool = True
    rules: dict[str, Annotated[Level, Field(strict=False)]] = Field(default_factory=dict)


# ------------------------------------------------------------------------------------------- config


class Config(Strict):
    """One resolved run. `strategy` is a registered name with its own parameters, validated by
    `mcl.strategy`.
    """

    data: Data
    strategy: dict[str, Any]
    risk: Risk
    costs: Costs = Costs()
    execution: Execution = Execution()
    broker: BrokerConfig = BrokerConfig()
    capital_usd: float = Field(25_000.0, gt=0)
    seed: int = Field(0, ge=0)
    study: Study = "mcl"  # the MLflow experiment that runs are filed under
    notes: str = ""

    @model_validator(mode="after")
    def _named(self) -> Config:
        if not isinstance(self.strategy.get("name"), str):
            raise ValueError("strategy.name is missing; pick one with strategy=NAME")
        return self


_UNIONS: dict[str, Any] = {}


def complete(name: Literal["Data", "Size"], models: Sequence[type[Strict]]) -> Any:
    """Make `Config.data` one of these models, chosen by its `source`, or `Risk.size`, chosen by its
    `method`. The registries of data sources and of risk methods do it when they are imported; until
    then a `Risk`, and a `Config`, cannot be validated. Returns the type.
    """
    key = "source" if name == "Data" else "method"
    _UNIONS[name] = Annotated[Union[tuple(models)], Field(discriminator=key)]  # noqa: UP007
    if "Size" in _UNIONS:
        Risk.model_rebuild(force=True, _types_namespace={"Size": _UNIONS["Size"]})
    if len(_UNIONS) == 2:
        Config.model_rebuild(force=True, _types_namespace=_UNIONS)
    return _UNIONS[name]
