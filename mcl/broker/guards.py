"""What must hold before an order may leave: the venue is paper, the account is paper, the product is the one that was tested.

There is no switch for live money here: the ports and accounts of live trading are refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from mcl import schema
from mcl.errors import BrokerError, nearest
from mcl.market import Contract, Instrument

PAPER_PORTS = {7497: "TWS", 4002: "IB Gateway"}
LIVE_PORTS = {7496: "TWS", 4001: "IB Gateway"}
MAX_SERVER_VERSION = 178  # the newest that ib_async 2.1.0 decodes rightly; it does not check
_PAPER_ACCOUNT = re.compile(r"D[UFI][A-Z]?\d+")  # live accounts start with U, F or I


def check_venue(config: schema.Broker, port: int) -> None:
    """Before the TCP connection: loopback, and a port on which paper trading listens (or the embedded server)."""
    if not _is_loopback(config.host):
        raise BrokerError(f"broker.host={config.host} is not this machine; paper trading is reached on 127.0.0.1")
    if port in LIVE_PORTS:
        raise BrokerError(f"port {port} is live trading on {LIVE_PORTS[port]}; paper listens on 7497 (TWS) or 4002 (IB Gateway)")
    if config.kind == "tws" and port not in PAPER_PORTS:
        raise BrokerError(f"broker.port={port} is no paper trading port; choose 7497 (TWS) or 4002 (IB Gateway)")
    if port == 0:
        raise BrokerError("port 0 cannot be connected to; give the port of the embedded server", "broker=ib_sim starts one")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_account(account: str, managed: Sequence[str]) -> None:
    """After the log-in: every account that this connection can reach is a paper account, and ours is among them."""
    live = [name for name in managed if not _PAPER_ACCOUNT.fullmatch(name)]
    if live:
        raise BrokerError(f"account {live[0]} is not a paper account (those start with DU, DF or DI); nothing was sent")
    if account not in managed:
        raise BrokerError(f"broker.account={account} is not managed by this connection; {nearest(account, managed)}")


def check_version(server_version: int) -> None:
    if server_version > MAX_SERVER_VERSION:
        raise BrokerError(f"the server speaks version {server_version}; this client decodes up to {MAX_SERVER_VERSION}")


def check_product(contract: Contract, instrument: Instrument, multiplier: str, min_tick: float, currency: str, expiry: str) -> None:
    """The broker's facts about a contract are the facts that the backtest used."""
    facts = (
        ("multiplier", float(multiplier or 0), instrument.multiplier),
        ("tick", min_tick, instrument.tick_size),
        ("currency", currency, instrument.currency),
        ("last trade date", expiry, f"{contract.last_trade_date:%Y%m%d}"),
    )
    for name, theirs, ours in facts:
        if theirs != ours:
            raise BrokerError(f"the broker's {name} of {contract.name} is {theirs}, the market facts say {ours}; it is not traded")
