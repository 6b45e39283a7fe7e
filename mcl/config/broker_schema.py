"""The models of a broker in a configuration: its address, its orders, their limits, and how a
connection is kept alive.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from mcl.config.base_model import Day, Strict, Ticks


class Replay(Strict):
    """The replay of the embedded simulated TWS: one session of the run's own data source, `speed`
    bars per second (0: lock-step).
    """

    session: Day | None = None  # default: the last complete session
    speed: float = Field(0.0, ge=0)
    # begin with what the replay of an earlier session of this name held at its end: over a roll,
    # too
    carry: bool = False


class OrderStyle(Strict):
    """The orders that reach a target. `market` is what the backtest assumes; `marketable_limit` is
    at most `collar_ticks` beyond the last price, at once or not at all; `limit` is `offset_ticks`
    on the near side of it for `ttl_sec`. `fallback`: the order for the rest.
    """

    kind: Literal["market", "marketable_limit", "limit"] = "market"
    collar_ticks: Ticks = 10.0
    offset_ticks: Ticks = 0.0
    ttl_sec: float = Field(10.0, gt=0, le=600)
    fallback: Literal["market", "none"] = "market"


class Guards(Strict):
    """Limits on what may be sent, whatever a strategy wants; null leaves one out. They forbid to
    open or add, never to get flat.
    """

    max_order: int | None = Field(2, ge=1)  # contracts
    max_position: int | None = Field(3, ge=1)  # contracts, with all orders that work
    # of the broker's net liquidation: everything is closed
    max_session_loss_usd: float | None = Field(500.0, gt=0)
    # of the last price, for every limit and trigger
    collar_frac: float | None = Field(0.015, gt=0, lt=1)
    min_order_gap_sec: float | None = Field(2.0, gt=0)
    max_orders_per_hour: int | None = Field(20, ge=1)
    max_orders_per_day: int | None = Field(100, ge=1)
    max_fills_per_order: int | None = Field(20, ge=1)  # executions of one decision
    max_rejects: int | None = Field(3, ge=1)  # in a row
    # of net liquidation, by a what-if of the broker
    max_margin_frac: float | None = Field(0.5, gt=0, le=1)
    # around the daily break, and the last of a session that closes early
    quiet_minutes: int | None = Field(5, ge=0)
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


class BrokerConfig(Strict):
    """`sim`: an embedded simulated TWS on loopback. `tws`: a TWS or IB Gateway that already runs,
    with paper or live `money`.
    """

    kind: Literal["sim", "tws"] = "sim"
    money: Literal["paper", "live"] = "paper"
    live_confirm: str = ""  # live money: the account id once more
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)  # 0: any free port (sim only)
    client_id: int = Field(17, ge=1)
    account: str = "DU0000001"
    timeout_sec: float = Field(20.0, gt=0)
    capital_usd: float = Field(25_000.0, gt=0)  # sim only
    # market if touched fills as the backtest assumes; a limit may not fill when touched
    take_profit: Literal["MIT", "LMT"] = "MIT"
    order: OrderStyle = OrderStyle()
    guards: Guards = Guards()
    reconnect: Reconnect = Reconnect()
    # a smaller position than the promoted limit, never a larger one
    max_contracts: int | None = Field(None, ge=1)
    replay: Replay = Replay()

    @model_validator(mode="before")
    @classmethod
    def _unguarded_replay(cls, raw: Any) -> Any:
        """A replay is to equal its backtest: limits that a backtest does not have are off unless
        they are named.
        """
        if isinstance(raw, dict) and raw.get("kind", "sim") == "sim" and "guards" not in raw:
            return raw | {"guards": dict.fromkeys(Guards.model_fields)}
        return raw


# --------------------------------------------------------------------------------------- operations


class Webhook(Strict):
    """An HTTP POST of a JSON object. The address is a secret: it is read from an environment
    variable and never written anywhere.
    """

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
            raise ValueError(
                f"need a sender and somebody to send to; sender={self.sender!r}, to={list(self.to)}"
            )
        if (
            self.security == "none"
            and self.user
            and self.host not in ("localhost", "127.0.0.1", "::1")
        ):
            raise ValueError(
                f"security=none would send the password of {self.user!r} in the clear to"
                f" {self.host}; choose starttls or tls"
            )
        return self


class Services(Strict):
    """Slack, Discord, Telegram, ntfy, PagerDuty and whatever else the library apprise serves.

    The variable holds one address or several with blanks between them. They are secrets: read from
    the environment, or from the file that NAME_FILE names, and never written anywhere.
    """

    urls_env: str = Field("MCL_ALERT_URLS", min_length=1)
    timeout_sec: float = Field(5.0, gt=0, le=60)
    attempts: int = Field(5, ge=1, le=20)


class Alerts(Strict):
    """The alerts of a running session, and the channels that deliver them. An alert that is not
    delivered is in the journal all the same.
    """

    min_severity: Literal["info", "warning", "critical"] = "warning"
    repeat_sec: float = Field(300.0, ge=0)  # the same code is sent again only after so long
    per_hour: int = Field(30, ge=1, le=3600)  # critical ones have as many of their own
    log: bool = True
    webhook: Webhook | None = None
    mail: Mail | None = None
    apprise: Services | None = None


class Telemetry(Strict):
    """The endpoint of a session for /metrics, /health and /ready."""

    # position and P&L have no password: others never see them
    host: Literal["127.0.0.1", "::1", "localhost"] = "127.0.0.1"
    port: int | None = Field(None, ge=0, le=65535)  # null: none; 0: any free port
