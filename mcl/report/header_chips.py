"""The choices of a run in a few words each: its data set, strategy, risk, costs and search. They
stand in the header of a page, and the data set in names and lists of runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any

from mcl.base.differences import flatten
from mcl.report.format import number, scalar

MOST_VALUES = 6  # in one chip
LIMITS = (
    *("max_position", "max_daily_loss_usd", "max_drawdown_frac", "max_trades_per_session"),
    *("max_loss_per_trade_usd", "flatten_before_close_sec"),
)
SEARCH = ("trials", "metric", "walk_forward", "folds", "test_length", "train_length", "select")


def data_label(data: Mapping[str, Any]) -> str:
    """`MCL 1m planted_edge seed 7`, `MCL 1m databento`, `CL 5m csv prices.csv`: the data set of a
    configuration.
    """
    market = [data.get("instrument"), data.get("interval")]
    return " ".join(str(word) for word in (*market, *_origin(data)) if word)


def market_label(data: Mapping[str, Any]) -> str:
    """The market and the world without the length of the bars: what makes two runs comparable."""
    return " ".join(str(word) for word in (data.get("instrument"), *_origin(data)) if word)


def _origin(data: Mapping[str, Any]) -> list[Any]:
    if world := data.get("world"):
        return [world, f"seed {data['seed']}" if "seed" in data else ""]
    path = data.get("path")
    return [data.get("source"), PurePath(str(path)).name if path else data.get("symbol")]


def chips(
    config: Mapping[str, Any],
    *,
    search: Mapping[str, Any] | None = None,
    searched: Collection[str] = (),
) -> list[str]:
    """One chip for each group of the configuration that decides the result. `searched` are the
    dotted keys that a search varies: they have no single value.
    """
    strategy = _dropped(config.get("strategy", {}), "name")
    risk = config.get("risk", {})
    size, protection = risk.get("size", {}), risk.get("protection", {})
    protected = protection.get("unit") not in (None, "none")
    unit = f"protection {protection.get('unit')}"
    limits = {name: value for name, value in risk.get("limits", {}).items() if name in LIMITS}
    groups = [
        f"data {_data(config.get('data', {}))}",
        _chip(
            f"strategy {config.get('strategy', {}).get('name', '')}", strategy, "strategy", searched
        ),
        _chip(f"risk {size.get('method', '')}", _dropped(size, "method"), "risk.size", searched),
        _chip(unit, _dropped(protection, "unit"), "risk.protection", searched) if protected else "",
        _chip("limits", {k: v for k, v in limits.items() if v}, "risk.limits", searched),
        _costs(config.get("costs", {})),
        _execution(config.get("execution", {})),
        f"capital {number(float(config['capital_usd']), 'usd')} USD"
        if "capital_usd" in config
        else "",
        _search(search) if search else "",
    ]
    return [chip for chip in groups if chip]


def _dropped(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def _data(data: Mapping[str, Any]) -> str:
    parts = [data_label(data)]
    parts += [
        f"{word} {data[key]}" for word, key in (("from", "start"), ("to", "end")) if data.get(key)
    ]
    rule = data.get("roll", {}).get("rule")
    parts += [f"roll {rule}"] if rule else []
    parts += [f"hold-out from {data['holdout_start']}"] if data.get("holdout_start") else []
    return ", ".join(parts)


def _chip(
    title: str, values: Mapping[str, Any], prefix: str = "", searched: Collection[str] = ()
) -> str:
    """`risk fixed: contracts 1`; what is not set is left out."""
    parts = []
    for key, value in flatten(values).items():
        if f"{prefix}.{key}" in searched:
            parts.append(f"{key} searched")
        elif value is not None and value not in ("", [], (), {}):
            parts.append(f"{key} {_text(value)}")
    if len(parts) > MOST_VALUES:
        parts = [*parts[:MOST_VALUES], f"{len(parts) - MOST_VALUES} more"]
    return f"{title}: {', '.join(parts)}" if parts else title if " " in title else ""


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else scalar(value)


def _costs(costs: Mapping[str, Any]) -> str:
    fees = [
        float(costs[n]) for n in ("commission_usd", "exchange_usd", "regulatory_usd") if n in costs
    ]
    parts = [f"{sum(fees):g} USD a side"] if fees else []
    if "slippage_ticks" in costs:
        parts.append(f"slippage {number(float(costs['slippage_ticks']), 'ticks')}")
    return f"costs {', '.join(parts)}" if parts else ""


def _execution(execution: Mapping[str, Any]) -> str:
    if not execution.get("entry"):
        return ""
    late = {"latency_bars": execution.get("latency_bars") or None}
    share = {"participation_frac": execution.get("participation_frac")}
    return _chip(f"execution {execution['entry']}", late | share)


def _search(search: Mapping[str, Any]) -> str:
    values = {name: search.get(name) for name in SEARCH}
    if search.get("sampler") == "grid":
        values["trials"] = None  # as many as the grid has points
    if not values["walk_forward"]:
        values |= {"folds": None, "test_length": None, "train_length": None}
    return _chip(f"search {search.get('sampler', '')}", values)
