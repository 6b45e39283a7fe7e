"""The gates that a run must pass before it may trade, as models of a configuration."""

from __future__ import annotations

from pydantic import Field

from mcl.config.base_model import Strict


class LiveRules(Strict):
    """The further gates for real money. `hard` names the gates that nobody can waive for it."""

    max_p_value: float | None = Field(0.035, gt=0, lt=1)  # instead of the one for paper
    # with all that was tried on the market, of whatever strategy
    max_market_p_value: float | None = Field(0.035, gt=0, lt=1)
    # of a version made of the same run, traded on paper by the same code
    min_paper_sessions: int = Field(20, ge=1)
    # differences from the backtest in those sessions that no cause was found for
    max_unexplained: int = Field(0, ge=0)
    simulated_sessions: bool = False  # whether sessions on a simulated TWS count
    clean_tree: bool = True  # no uncommitted change in the repository
    hard: tuple[str, ...] = Field((), strict=False)


class Promotion(Strict):
    """Gates. `null` leaves one out, which the promoted version then says."""

    min_trades: int | None = Field(100, ge=0)
    min_sessions: int | None = Field(120, ge=0)
    max_drawdown_frac: float | None = Field(0.35, gt=0, lt=1)
    # annual; what shows more is an error until somebody finds none
    max_sharpe: float | None = Field(8.0, gt=0)
    max_trade_share: float | None = Field(0.5, gt=0)  # of the net profit, by the best trade
    max_session_share: float | None = Field(0.5, gt=0)  # of the net profit, by the best session
    min_deflated_sharpe: float | None = Field(None, ge=0, le=1)
    min_doubled_costs_sharpe: float | None = None  # one more simulation
    min_plateau_frac: float | None = Field(None, le=1)  # the neighbourhood in the space, a few more
    # over the trials of the ledger on the same sessions
    max_pbo: float | None = Field(None, ge=0, le=1)
    max_biased_rows: int | None = Field(None, ge=0)  # of `mcl check lookahead`
    # of `mcl check warmup`, with the declared memory
    max_warmup_percent: float | None = Field(None, ge=0)
    min_holdout_trades: int | None = Field(20, ge=0)
    min_holdout_sharpe: float | None = None
    # annual, upper end of the 80 % interval: a Sharpe worth trading is still possible
    min_holdout_sharpe_high: float | None = 0.5
    # of the search, adjusted for all of its trials, and the hold-out together
    max_p_value: float | None = Field(0.10, gt=0, lt=1)
    live: LiveRules = LiveRules()
