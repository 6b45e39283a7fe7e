"""What a configuration may say: one strict model per config group.

Hydra composes YAML and command line into a plain dict; these models are the second, strict pass (unknown keys, types, ranges
and rules across fields), because Hydra alone lets `+unknown=1` and `???` through. Facts about instruments are not here but in
`market`; strategies declare their own parameters (`mcl.strategy`).
"""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Day = Annotated[date, Field(strict=False)]
Ticks = Annotated[float, Field(ge=0, le=100)]
Interval = Literal["1m", "5m", "15m", "30m", "1h", "session"]
WINDOW = r"(?:(Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)"
Window = Annotated[str, Field(pattern=f"^{WINDOW}$")]  # New York: "09:00-14:30" every day, "Wed 10:25-10:40" on one


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


# ---------------------------------------------------------------------------------------------------------------- data


class Roll(Strict):
    """When to leave a contract. `volume`, `open_interest`: that of the next listed expiry was larger in the previous session; one-way."""

    rule: Literal["volume", "open_interest", "calendar"] = "volume"
    sessions_before_last_trade: int = Field(3, ge=0, le=40)  # at the latest (volume, open_interest) or exactly (calendar)
    adjust: Literal["difference", "ratio", "none"] = "difference"


class DataCommon(Strict):
    instrument: str = "MCL"
    interval: Interval = "1m"
    start: Day | None = None  # first session
    end: Day | None = None  # first session that is left out
    holdout_start: Day | None = None  # bars from here on are fenced: only promotion and validation see them
    roll: Roll = Roll()
    exclude_degraded: bool = False  # leave out sessions that the vendor calls degraded

    @model_validator(mode="after")
    def _ordered(self) -> DataCommon:
        days = [d for d in (self.start, self.holdout_start, self.end) if d is not None]
        if any(a >= b for a, b in pairwise(days)):
            raise ValueError(f"need start < holdout_start < end; start={self.start}, holdout_start={self.holdout_start}, end={self.end}")
        return self


class SyntheticData(DataCommon):
    """A generated MCL world, written as real DBN under `folder` once and cached. Always marked as synthetic."""

    source: Literal["synthetic"]
    world: Literal["zero_edge", "planted_edge"] = "zero_edge"
    seed: int = Field(7, ge=0)
    edge_sharpe: float = Field(4.0, ge=0, le=10)  # planted_edge only: annual Sharpe, before costs, of the planted rule
    edge_fast: int = Field(240, ge=1)  # the planted rule is an EMA cross on 1-minute closes with these spans
    edge_slow: int = Field(960, ge=2)
    folder: str = "data"


class DatabentoData(DataCommon):
    """DBN files as Databento delivers them, below `folder`: parent downloads with definitions and statistics, or single files."""

    source: Literal["databento"]
    symbol: str = "MCL.FUT"
    path: str = "data/raw/MCL_FUT"
    folder: str = "data"


class CsvColumns(Strict):
    """Names of the columns in the file. `ranks`: price columns by expiry rank (1st, 2nd … nearby), for series without dated contracts."""

    time: str = "date"
    open: str | None = None
    high: str | None = None
    low: str | None = None
    close: str | None = None
    volume: str | None = None
    symbol: str | None = None
    ranks: tuple[str, ...] = Field((), strict=False)


class CsvData(DataCommon):
    """Any CSV of bars. The time convention must be said, since vendors differ."""

    source: Literal["csv"]
    path: str
    columns: CsvColumns = CsvColumns()
    stamped_at: Literal["open", "close", "date"] = "close"
    timezone: str = "UTC"


class LeanData(DataCommon):
    """A folder of LEAN futures zips (`YYYYMMDD_trade.zip`, one member per expiry, milliseconds since midnight, bar open)."""

    source: Literal["lean"]
    path: str
    timezone: str = "America/New_York"


Data = Annotated[SyntheticData | DatabentoData | CsvData | LeanData, Field(discriminator="source")]


# --------------------------------------------------------------------------------------------------------------- costs


class Costs(Strict):
    """Charged on every contract and side, rolls included. The three commissions add up; ticks of slippage are against us."""

    slippage_ticks: float = Field(1.0, ge=0, le=100)  # the mean that every fill is charged
    commission_usd: float = Field(0.77, ge=0, le=100)  # broker; all of it when the next two are 0
    exchange_usd: float = Field(0.0, ge=0, le=100)
    regulatory_usd: float = Field(0.0, ge=0, le=100)
    slippage_by_hour_ticks: tuple[Ticks, ...] = Field((), strict=False)  # in its place, hours 0 … 23 New York; 17 is the daily break
    impact_ticks: float = Field(0.0, ge=0, le=1000)  # more for an order as large as the whole volume of its bar, less in proportion

    @property
    def side_usd(self) -> float:
        """Commission per contract and side: broker + exchange + regulatory."""
        return self.commission_usd + self.exchange_usd + self.regulatory_usd

    @model_validator(mode="after")
    def _whole_day(self) -> Costs:
        if len(self.slippage_by_hour_ticks) not in (0, 24):
            raise ValueError(f"slippage_by_hour_ticks has {len(self.slippage_by_hour_ticks)} values; need 24, one per hour, or none")
        return self


# ----------------------------------------------------------------------------------------------------------- execution


class Execution(Strict):
    """How a target becomes orders. What reduces a position always goes to the market; `entry` is how risk is opened or added.

    Levels stand `offset_ticks` from the close that was decided on: a limit better, a stop worse. A stop-limit may fill up to
    `limit_ticks` beyond its stop. The terms are exact in mcl/engine/assumptions.md.
    """

    entry: Literal["market", "limit", "stop", "stop_limit"] = "market"
    offset_ticks: int = Field(0, ge=0, le=10_000)
    limit_ticks: int = Field(0, ge=0, le=10_000)
    ttl_bars: int | None = Field(None, ge=1)  # an entry order ends with its session at the latest
    renew: bool = True  # an order that has run out is placed again from the newest close while its target stands
    fill: Literal["touch", "through"] = "through"  # a limit fills when the price reaches it, or only one tick beyond
    latency_bars: int = Field(0, ge=0, le=1000)  # opens that pass before an order reaches the market
    participation_frac: float | None = Field(None, gt=0, le=1)  # of the volume of a bar that one order may be

    @model_validator(mode="after")
    def _needed(self) -> Execution:
        if self.entry == "market" and (self.offset_ticks or self.ttl_bars is not None):
            raise ValueError("entry=market has no level: offset_ticks and ttl_bars need entry=limit, stop or stop_limit")
        if self.entry != "stop_limit" and self.limit_ticks:
            raise ValueError(f"limit_ticks={self.limit_ticks} needs entry=stop_limit; entry={self.entry}")
        return self


# ---------------------------------------------------------------------------------------------------------------- risk


class FixedSize(Strict):
    method: Literal["fixed"]
    contracts: float = Field(1.0, gt=0, le=1000)  # contracts per unit of signal


class VolTargetSize(Strict):
    """contracts = capital * target / (sigma of session P&L of one contract, annualised), at most `max_contracts`."""

    method: Literal["vol_target"]
    annual_vol_frac: float = Field(0.20, gt=0, le=2)
    lookback_sessions: int = Field(30, ge=5, le=500)
    max_contracts: float = Field(10.0, gt=0, le=1000)
    buffer_frac: float = Field(0.0, ge=0, le=1)  # of the size at full signal: no trade while the position is this near; 0.1 is usual


class FixedFractionalSize(Strict):
    """contracts = capital * risk / (distance of the stop in USD + costs): a stop loses `risk_frac` of the capital."""

    method: Literal["fixed_fractional"]
    risk_frac: float = Field(0.01, gt=0, le=1)
    cost_usd: float = Field(3.54, ge=0)  # of the round trip of one contract
    max_contracts: float = Field(10.0, gt=0, le=1000)


class AtrUnitSize(Strict):
    """contracts = capital * risk / (multiple * ATR in USD): a move of `multiple` average true ranges is `risk_frac` of the capital."""

    method: Literal["atr_unit"]
    risk_frac: float = Field(0.01, gt=0, le=1)
    multiple: float = Field(1.0, gt=0, le=100)
    atr_bars: int = Field(14, ge=1, le=5000)
    max_contracts: float = Field(10.0, gt=0, le=1000)


class KellySize(Strict):
    """contracts = fraction * capital * sharpe / sigma. `sharpe` is what you believe in, annual and net: it is not estimated here."""

    method: Literal["kelly"]
    sharpe: float = Field(0.5, gt=0, le=5)
    fraction: float = Field(0.5, gt=0, le=1)
    lookback_sessions: int = Field(30, ge=5, le=500)
    max_contracts: float = Field(10.0, gt=0, le=1000)


Size = Annotated[FixedSize | VolTargetSize | FixedFractionalSize | AtrUnitSize | KellySize, Field(discriminator="method")]


class Protection(Strict):
    """Stop and take-profit distances from the fill price; `atr` distances are multiples of ATR(atr_bars) at the decision."""

    unit: Literal["none", "ticks", "atr"] = "none"
    stop: float | None = Field(None, gt=0)
    take_profit: float | None = Field(None, gt=0)
    trail: float | None = Field(None, gt=0)  # the stop follows the closes at this distance, never back
    atr_bars: int = Field(14, ge=1, le=5000)


class Limits(Strict):
    """Null switches a limit off. Losses are positive numbers."""

    max_position: int = Field(2, ge=1, le=1000)
    max_order: int = Field(4, ge=1, le=2000)
    max_trades_per_session: int | None = Field(None, ge=1)  # position changes that open or add risk
    max_daily_loss_usd: float | None = Field(None, gt=0)  # flattens and locks until the next session
    max_drawdown_frac: float | None = Field(None, gt=0, lt=1)  # from peak equity: flattens and halts
    no_entry_before_close_sec: int = Field(0, ge=0, le=82800)
    flatten_before_close_sec: int = Field(0, ge=0, le=82800)
    flatten_before_roll_sec: int = Field(0, ge=0, le=82800)  # before the end of the session before a roll that is known by then
    flatten_before_last_trade_sessions: int | None = Field(None, ge=0, le=60)  # 0: on the last trade date itself
    max_orders_per_session: int | None = Field(None, ge=1)  # new targets, exits included; then only reductions
    max_loss_per_trade_usd: float | None = Field(None, gt=0)  # marked at closes; flat until the signal leaves the side
    max_consecutive_losses: int | None = Field(None, ge=1)  # then only reductions for
    cool_down_bars: int = Field(60, ge=1)
    trading_windows: tuple[Window, ...] = Field((), strict=False)  # no entry outside
    news_windows: tuple[Window, ...] = Field((), strict=False)  # no entry inside; EIA inventories: "Wed 10:25-10:40"
    flatten_at_windows: bool = False  # outside trading_windows and inside news_windows also close what is open
    volatility_ratio: float | None = Field(None, gt=0)  # no entry while the mean range of the last fast bars is above this times the slow
    volatility_fast_bars: int = Field(5, ge=1, le=100_000)
    volatility_slow_bars: int = Field(390, ge=2, le=100_000)
    price_collar_ticks: float | None = Field(None, gt=0)  # no entry when the open is further from the close that was decided on
    initial_margin_usd: float | None = Field(None, gt=0)  # per contract: carries what is opened
    maintenance_margin_usd: float | None = Field(None, gt=0)  # per contract: what it no longer carries at a close is sold
    max_margin_frac: float = Field(1.0, gt=0, le=1)  # of the equity that initial margin may take
    state: Literal["normal", "reduce_only", "halted"] = "normal"  # the operator's word

    @model_validator(mode="after")
    def _consistent(self) -> Limits:
        first, second = self.maintenance_margin_usd, self.initial_margin_usd
        if first is not None and second is not None and first > second:
            raise ValueError(f"need maintenance_margin_usd <= initial_margin_usd; {first:g} > {second:g}")
        if self.volatility_fast_bars >= self.volatility_slow_bars:
            raise ValueError(f"need volatility_fast_bars < volatility_slow_bars; {self.volatility_fast_bars}, {self.volatility_slow_bars}")
        return self


class Risk(Strict):
    size: Size
    protection: Protection = Protection()
    limits: Limits = Limits()


# -------------------------------------------------------------------------------------------------------------- broker


class Replay(Strict):
    """What the embedded simulated TWS plays: one session of the run's own data source, `speed` bars per second (0: lock-step)."""

    session: Day | None = None  # default: the last complete session
    speed: float = Field(0.0, ge=0)


class OrderStyle(Strict):
    """How a target is reached. `market` as the backtest assumes; `marketable_limit` at most `collar_ticks` beyond the last price,
    at once or not at all; `limit` `offset_ticks` on the near side of it for `ttl_sec`. `fallback`: what becomes of the rest."""

    kind: Literal["market", "marketable_limit", "limit"] = "market"
    collar_ticks: Ticks = 10.0
    offset_ticks: Ticks = 0.0
    ttl_sec: float = Field(10.0, gt=0, le=600)
    fallback: Literal["market", "none"] = "market"


class Guards(Strict):
    """Limits on what may be sent, whatever a strategy wants; null leaves one out. They forbid to open or add, never to get flat."""

    max_order: int | None = Field(2, ge=1)  # contracts
    max_position: int | None = Field(3, ge=1)  # contracts, with all orders that work
    max_session_loss_usd: float | None = Field(500.0, gt=0)  # of the broker's net liquidation: everything is closed
    collar_frac: float | None = Field(0.015, gt=0, lt=1)  # of the last price, for every limit and trigger
    min_order_gap_sec: float | None = Field(2.0, gt=0)
    max_orders_per_hour: int | None = Field(20, ge=1)
    max_orders_per_day: int | None = Field(100, ge=1)
    max_fills_per_order: int | None = Field(20, ge=1)  # executions of one decision
    max_rejects: int | None = Field(3, ge=1)  # in a row
    max_margin_frac: float | None = Field(0.5, gt=0, le=1)  # of net liquidation, by a what-if of the broker
    quiet_minutes: int | None = Field(5, ge=0)  # around the daily break, and the last of a session that closes early
    days_before_last_trade: int | None = Field(2, ge=0)  # business days
    stale_bars: float | None = Field(3.0, ge=1)  # intervals without a bar in an open session
    silence_sec: float | None = Field(60.0, gt=0)  # without an answer of the broker: an alert
    hang_sec: float | None = Field(30.0, gt=0)  # a decision that takes longer is given up


class Reconnect(Strict):
    """Waiting grows from the first to the longest, with jitter, without an end."""

    first_sec: float = Field(0.25, gt=0)
    longest_sec: float = Field(2.0, gt=0)
    heartbeat_sec: float = Field(10.0, gt=0)
    compare_sec: float = Field(60.0, gt=0)  # books with the broker, while all is well


class Broker(Strict):
    """`sim`: an embedded simulated TWS on loopback. `tws`: a TWS or IB Gateway that already runs, with paper or live `money`."""

    kind: Literal["sim", "tws"] = "sim"
    money: Literal["paper", "live"] = "paper"
    live_confirm: str = ""  # live money: the account id once more
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)  # 0: any free port (sim only)
    client_id: int = Field(17, ge=1)
    account: str = "DU0000001"
    timeout_sec: float = Field(20.0, gt=0)
    capital_usd: float = Field(25_000.0, gt=0)  # sim only
    take_profit: Literal["MIT", "LMT"] = "MIT"  # market if touched fills as the backtest assumes; a limit may not fill when touched
    order: OrderStyle = OrderStyle()
    guards: Guards = Guards()
    reconnect: Reconnect = Reconnect()
    max_contracts: int | None = Field(None, ge=1)  # a smaller position than the promoted limit, never a larger one
    replay: Replay = Replay()

    @model_validator(mode="before")
    @classmethod
    def _unguarded_replay(cls, given: Any) -> Any:
        """A replay is to equal its backtest: limits that a backtest does not have are off unless they are named."""
        if isinstance(given, dict) and given.get("kind", "sim") == "sim" and "guards" not in given:
            return given | {"guards": dict.fromkeys(Guards.model_fields)}
        return given


# ---------------------------------------------------------------------------------------------------------- operations


class Webhook(Strict):
    """An HTTP POST of a JSON object. The address is a secret: it is read from an environment variable and never written anywhere."""

    url_env: str = Field("MCL_WEBHOOK_URL", min_length=1)
    timeout_sec: float = Field(5.0, gt=0, le=60)
    attempts: int = Field(5, ge=1, le=20)


class Mail(Strict):
    host: str
    port: int = Field(587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""  # empty: no log-in
    password_env: str = "MCL_SMTP_PASSWORD"  # noqa: S105 - the name of a variable
    password_file: str = ""  # in its place: a file that holds nothing else
    ca_file: str = ""  # of a server with a certificate of its own
    sender: str = ""
    to: tuple[str, ...] = Field((), strict=False)
    timeout_sec: float = Field(20.0, gt=0, le=120)
    attempts: int = Field(5, ge=1, le=20)

    @model_validator(mode="after")
    def _addressed(self) -> Mail:
        if not (self.sender and self.to and all(self.to)):
            raise ValueError(f"need a sender and somebody to send to; sender={self.sender!r}, to={list(self.to)}")
        if self.security == "none" and self.user and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError(f"security=none would send the password of {self.user!r} in the clear to {self.host}; choose starttls or tls")
        return self


class Alerts(Strict):
    """What a person is told of a running session, and how. Whatever is held back here stands in the journal all the same."""

    min_severity: Literal["info", "warning", "critical"] = "warning"
    repeat_sec: float = Field(300.0, ge=0)  # the same code is sent again only after so long
    per_hour: int = Field(30, ge=1, le=3600)  # critical ones have as many of their own
    log: bool = True
    webhook: Webhook | None = None
    mail: Mail | None = None


class Telemetry(Strict):
    """The endpoint of a session for /metrics, /health and /ready."""

    host: str = "127.0.0.1"
    port: int | None = Field(None, ge=0, le=65535)  # null: none; 0: any free port


# -------------------------------------------------------------------------------------------------------------- search


Direction = Literal["maximize", "minimize"]


class Search(Strict):
    """`metric` ranks the trials; `also` holds further objectives, for samplers that keep a Pareto front (nsga2, tpe, random, qmc, grid)."""

    name: str = Field("", pattern=r"^[A-Za-z0-9_-]*$")  # a named search writes its winner to experiments/NAME_best.yaml
    trials: int = Field(50, ge=1, le=1_000_000)
    workers: int = Field(1, ge=1, le=256)
    sampler: Literal["tpe", "cmaes", "qmc", "random", "grid", "nsga2"] = "tpe"
    metric: str = "sharpe"
    direction: Direction = "maximize"
    also: Annotated[dict[str, Direction], BeforeValidator(lambda given: given or {})] = Field(default_factory=dict)
    min_trades: int = Field(30, ge=0)
    constraints: tuple[str, ...] = Field((), strict=False)  # "strategy.fast < strategy.slow", "max_drawdown_frac > -0.25"
    pruner: Literal["none", "median", "halving", "wilcoxon"] = "none"  # judges a trial after each fold
    folds: int = Field(5, ge=2, le=100)  # equal parts of the sessions, in time order: a pruner's steps, or what a walk-forward trades
    walk_forward: Literal["anchored", "rolling"] | None = None  # search again before each part, on all before it or the last few parts
    train_folds: int = Field(3, ge=1, le=100)  # parts that the rolling one searches on
    purge_sessions: int = Field(1, ge=0, le=100)  # left out between searching and trading
    enqueue: tuple[Literal["defaults", "champion"] | dict[str, Any], ...] = Field((), strict=False)  # the first trials
    patience: int | None = Field(None, ge=1)  # end after so many trials without a better one
    timeout_sec: float | None = Field(None, gt=0)
    trial_timeout_sec: float | None = Field(None, gt=0)  # a trial that takes longer is FAILED(timeout), its process replaced
    max_failures: int | None = Field(None, ge=0)
    fail_fast: int | None = Field(5, ge=1)  # end when the first so many trials all fail with the same exception
    track: Literal["all", "top", "none"] = "all"  # which trials become runs of the store; the parent's tables hold every one
    top: int = Field(1, ge=1, le=100)  # so many of the best are run once more, with all artifacts and the equity curve
    select: Literal["peak", "plateau"] = "peak"  # what counts as the winner: the best trial, or the best neighbourhood
    space: dict[str, Any] = Field(default_factory=dict)  # {strategy: {fast: "range(10, 400, 10)"}}; Hydra's sweep grammar


# ---------------------------------------------------------------------------------------------------------- validation


Level = tuple[float, float]


class Validation(Strict):
    """How hard `mcl validate` asks. A rule is [pass from, stop from]; the first of the two is the better value."""

    budget: int = Field(64, ge=1, le=10_000)
    seed: int = Field(0, ge=0)
    folds: int = Field(6, ge=1, le=100)
    train_folds: int = Field(3, ge=1, le=100)
    purge_sessions: int = Field(1, ge=0, le=100)
    cpcv_folds: int = Field(8, ge=2, le=16)
    cpcv_tests: int = Field(2, ge=1, le=15)
    blocks: int = Field(16, ge=2, le=20, multiple_of=2)
    cost_factors: tuple[float, ...] = Field((0.5, 1.0, 2.0, 3.0), strict=False)
    delays_bars: tuple[int, ...] = Field((1, 2), strict=False)
    neighbourhood_quantile: float = Field(0.25, ge=0, le=1)
    holdout: bool = True
    rules: dict[str, Annotated[Level, Field(strict=False)]] = Field(default_factory=dict)


# -------------------------------------------------------------------------------------------------------------- config


class Config(Strict):
    """One resolved run. `strategy` is a registered name with its own parameters, validated by `mcl.strategy`."""

    data: Data
    strategy: dict[str, Any]
    risk: Risk
    costs: Costs = Costs()
    execution: Execution = Execution()
    broker: Broker = Broker()
    capital_usd: float = Field(25_000.0, gt=0)
    seed: int = Field(0, ge=0)
    study: str = "mcl"  # the MLflow experiment that runs are filed under
    notes: str = ""

    @model_validator(mode="after")
    def _named(self) -> Config:
        if not isinstance(self.strategy.get("name"), str):
            raise ValueError("strategy.name is missing; pick one with strategy=NAME")
        return self
