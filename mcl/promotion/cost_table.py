"""The costs of the sessions of a name, month by month: as configured and as paid, and the
settings that the payments ask for.

    delay       from the close that was decided on to the first price at which the order could
                trade; a backtest has it too
    slippage    from that price to the fill (spread and execution of the audit)
    commission  as the broker charged it

Sessions on a simulated TWS, or on data that nobody traded, are counted only where there are no
others, and marked.
"""

from __future__ import annotations

import io
import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd

from mcl.base.errors import LiveError, nearest
from mcl.config import schema
from mcl.market.instruments import INSTRUMENTS
from mcl.promotion.live_record import STUDY, is_simulated
from mcl.promotion.load import of_version
from mcl.promotion.promoted_file import MODEL
from mcl.tracking.project import Project
from mcl.tracking.store import Store, StoredRun

ENOUGH = 30  # fills below which a mean says little
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class CostRow:
    """Means per contract and side. Ticks are against the trader where positive. NaN: nothing was
    filled, or it is not known.
    """

    month: str  # 2026-01, or "all"
    sessions: int
    fills: int
    contracts: int
    delay_ticks: float
    slippage_ticks: float
    configured_slippage_ticks: float
    commission_usd: float
    configured_commission_usd: float
    delay_usd: float
    slippage_usd: float
    configured_slippage_usd: float
    uncharged_fills: int  # whose commission the broker has not told

    @property
    def total_usd(self) -> float:
        """Slippage and commission, what `costs` stands for."""
        return self.slippage_usd + self.commission_usd

    @property
    def configured_total_usd(self) -> float:
        return self.configured_slippage_usd + self.configured_commission_usd


@dataclass(frozen=True)
class CostProposal:
    """`overrides`: what `mcl backtest` takes. Low and high: the interval in which 95 of 100 such
    means lie.
    """

    overrides: tuple[str, ...]
    slippage_ticks: float
    low_ticks: float
    high_ticks: float
    commission_usd: float
    sentence: str


@dataclass(frozen=True)
class CostTable:
    """`fills`: one row per fill with session, month, contracts, delay, slippage and configured
    slippage in ticks, and tick value; `charges`: one row per execution with month, contracts,
    commission and configured commission.
    """

    name: str
    version: int
    fills: pd.DataFrame
    charges: pd.DataFrame
    sessions: dict[str, str]  # by run id: the session
    simulated: bool
    left_out: int  # sessions on a simulated TWS that real ones push aside
    costs: schema.Costs  # of the version that NAME stands for now

    @cached_property
    def rows(self) -> tuple[CostRow, ...]:
        months = sorted({session[:7] for session in self.sessions.values()})
        return tuple(self._row(month, month) for month in months)

    @cached_property
    def whole(self) -> CostRow:
        return self._row("all", "")

    def _row(self, name: str, month: str) -> CostRow:
        fills = self.fills[self.fills["month"].str.startswith(month)]
        charges = self.charges[self.charges["month"].str.startswith(month)]
        charged = charges.dropna(subset=["commission_usd"])
        return CostRow(
            month=name,
            sessions=sum(session.startswith(month) for session in self.sessions.values()),
            fills=len(charges),
            contracts=int(charges["contracts"].sum()),
            delay_ticks=_mean(fills, "delay_ticks"),
            slippage_ticks=_mean(fills, "slippage_ticks"),
            configured_slippage_ticks=_mean(fills, "configured_slippage_ticks"),
            commission_usd=_share(charged, "commission_usd"),
            configured_commission_usd=_share(charges, "configured_commission_usd"),
            delay_usd=_mean(fills, "delay_ticks", "tick_value_usd"),
            slippage_usd=_mean(fills, "slippage_ticks", "tick_value_usd"),
            configured_slippage_usd=_mean(fills, "configured_slippage_ticks", "tick_value_usd"),
            uncharged_fills=len(charges) - len(charged),
        )

    @cached_property
    def proposal(self) -> CostProposal:
        """Without fills nothing is proposed, and the sentence says so."""
        measured = self.fills.dropna(subset=["slippage_ticks"])
        ticks, charged = self.whole.slippage_ticks, self.whole.commission_usd
        if measured.empty or math.isnan(charged):
            return CostProposal(
                (),
                ticks,
                math.nan,
                math.nan,
                charged,
                "no fill with a known cost: nothing to propose",
            )
        away = NORMAL_95 * _error(
            measured["slippage_ticks"].to_numpy(np.float64),
            measured["contracts"].to_numpy(np.float64),
        )
        low, high = ticks - away, ticks + away
        overrides = (
            *_slippage(self.costs, ticks, self.whole.configured_slippage_ticks),
            *_commission(self.costs, charged),
        )
        return CostProposal(
            overrides, ticks, low, high, charged, self._sentence(len(measured), low, high)
        )

    def _sentence(self, fills: int, low: float, high: float) -> str:
        interval = f"slippage is {self.whole.slippage_ticks:.2f} ticks"
        if fills < ENOUGH:
            return (
                f"{interval} over {fills} fills; fewer than {ENOUGH} say little, so wait for more"
                " before you change anything"
            )
        inside = low <= self.whole.configured_slippage_ticks <= high
        verdict = (
            "which holds the configured value"
            if inside
            else "which does not hold the configured value"
        )
        return (
            f"{interval}, with 95 % confidence between {low:.2f} and {high:.2f}, {verdict} of"
            f" {self.whole.configured_slippage_ticks:.2f}"
        )


def _mean(fills: pd.DataFrame, *names: str) -> float:
    """Of a product of columns, each contract weighing the same."""
    measured = fills.dropna(subset=list(names))
    contracts = measured["contracts"].to_numpy(np.float64)
    values = np.prod([measured[name].to_numpy(np.float64) for name in names], axis=0)
    return float((values * contracts).sum() / contracts.sum()) if len(measured) else math.nan


def _share(charges: pd.DataFrame, name: str) -> float:
    """A sum of money per contract."""
    return float(charges[name].sum() / charges["contracts"].sum()) if len(charges) else math.nan


def _error(values: Any, weights: Any) -> float:
    """Standard error of a weighted mean; infinite for a single value."""
    if len(values) < 2:
        return math.inf
    mean = (values * weights).sum() / weights.sum()
    spread = (((values - mean) * weights) ** 2).sum() * len(values) / (len(values) - 1)
    return float(math.sqrt(spread) / weights.sum())


def _slippage(costs: schema.Costs, paid: float, configured: float) -> Iterator[str]:
    """Every key, so that they mean the same next to any other configuration. Slippage by the hour
    and by size keep their shape. With one value there is no impact, since what was paid holds it.
    """
    shaped = bool(costs.slippage_by_hour_ticks) and configured > 0
    scale = max(0.0, paid / configured) if shaped else 0.0
    hours = (
        [min(100.0, round(value * scale, 3)) for value in costs.slippage_by_hour_ticks]
        if shaped
        else []
    )
    yield f"costs.slippage_ticks={min(100.0, max(0.0, _hundredth(paid))):g}"
    yield shlex.quote(f"costs.slippage_by_hour_ticks={json.dumps(hours, separators=(',', ':'))}")
    yield f"costs.impact_ticks={costs.impact_ticks * scale:.4g}"


def _commission(costs: schema.Costs, charged: float) -> Iterator[str]:
    """The fees of exchange and regulator stay as they are; the broker's part is the rest."""
    fees = costs.exchange_usd + costs.regulatory_usd
    covers_fees = charged >= fees
    yield f"costs.commission_usd={round(charged - fees if covers_fees else charged, 4):g}"
    yield f"costs.exchange_usd={costs.exchange_usd if covers_fees else 0:g}"
    yield f"costs.regulatory_usd={costs.regulatory_usd if covers_fees else 0:g}"


def _hundredth(ticks: float) -> float:
    """Rounded up: a backtest must not be cheaper than what was paid."""
    return math.ceil(round(ticks * 100, 6)) / 100


# ------------------------------------------------------------------------------------- the sessions


def cost_table(name: str, project: Project) -> CostTable:
    """The costs of every audited session that traded as `name`, whichever version it was.
    LiveError: there is none.
    """
    version = project.store.version(MODEL, name)
    runs = _sessions(name, project.store)
    real = {key: run for key, run in runs.items() if not _synthetic(run)}
    counted = list((real or runs).values())
    config_of = lru_cache(lambda number: of_version(name, number, project).config)
    frames = [_fills(run, config_of(int(run.tags["mcl.version"]))) for run in counted]
    return CostTable(
        name,
        int(version.version),
        pd.concat([fills for fills, _ in frames], ignore_index=True),
        pd.concat([charges for _, charges in frames], ignore_index=True),
        {run.run_id: run.tags["session"] for run in counted},
        not real,
        len(runs) - len(counted),
        config_of(int(version.version)).costs,
    )


def _sessions(name: str, store: Store) -> dict[tuple[str, str], StoredRun]:
    """By session and version the last run: a session that was audited again counts once."""
    traded = [
        run
        for run in store.in_study(STUDY)
        if run.tags.get("mcl.kind") == "session" and run.status != "RUNNING"
    ]
    sessions = {
        (run.tags["session"], run.tags["mcl.version"]): run
        for run in reversed(traded)
        if run.tags.get("mcl.alias") == name
    }
    if not sessions:
        names = sorted({run.tags.get("mcl.alias", "") for run in traded} - {""})
        have = nearest(name, names) if names else "no session was traded here"
        raise LiveError(
            f"no session of {name!r} was audited: {have}",
            f"mcl live {name} trades one and audits it",
        )
    return dict(sorted(sessions.items()))


def _synthetic(run: StoredRun) -> bool:
    return run.tags.get("synthetic") == "true" or is_simulated(run)


def _fills(run: StoredRun, config: schema.Config) -> tuple[pd.DataFrame, pd.DataFrame]:
    slippage, executions = (
        pd.read_parquet(io.BytesIO(run.file(f"data/{name}.parquet")))
        for name in ("slippage", "fills")
    )
    month, ticks = run.tags["session"][:7], INSTRUMENTS[config.data.instrument].tick_value_usd
    fills = pd.DataFrame(
        {
            # also where nothing was filled
            "month": pd.Series([month] * len(slippage), dtype=object),
            "contracts": slippage["quantity"].astype("float64").abs(),
            "delay_ticks": slippage["delay_ticks"].astype("float64"),
            "slippage_ticks": (
                (slippage["spread_ticks"] + slippage["execution_ticks"]).astype("float64")
            ),
            "configured_slippage_ticks": slippage["spread_ticks"].astype("float64"),
            "tick_value_usd": pd.Series([ticks] * len(slippage), dtype="float64"),
        }
    )
    contracts = executions["quantity"].astype("float64").abs()
    charges = pd.DataFrame(
        {
            "month": pd.Series([month] * len(executions), dtype=object),
            "contracts": contracts,
            "commission_usd": executions["commission_usd"].astype("float64"),
            "configured_commission_usd": contracts * config.costs.side_usd,
        }
    )
    return fills, charges
