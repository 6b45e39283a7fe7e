"""Models of the JSON answers of the verbs about data."""

from __future__ import annotations

from typing import Any

from mcl.cli.answer_model import Answer


class CsvProposalAnswer(Answer):
    """Propose how a CSV file is read."""

    preset: str
    """The option of the group data that reads it, csv where none fits."""
    overrides: list[Any]
    """Further keys, as they are typed."""
    reasons: list[Any]
    """A sentence per key that was measured."""
    undecided: dict[str, Any]
    """Keys that the file does not show, each with what fits."""
    doubts: list[Any]
    """Name, text and cure of what the bars contradict."""
    bars: list[Any]
    """The first bars as they would be read."""
    config: str | None
    """The file of --write."""


class DatasetAnswer(Answer):
    """Describe the bars of a data source."""

    sessions: int
    """Sessions of the data."""
    bars: int
    """Bars of the active contract."""
    stored_interval: str
    """Of the bars that were read."""
    intervals_beside: list[Any]
    """Of other bars in the same place: data.stored_interval."""
    sessions_without_bars: list[Any]
    """Sessions in which the active contract has no bar."""
    assumed_hours: list[Any]
    """Short sessions whose hours are assumed, as in the years before."""
    contracts: list[Any]
    """Their symbols."""
    rolls: list[Any]
    """One object per roll."""
    fingerprint: str
    """Sha256 of all that a backtest can see."""
    synthetic: bool
    """Never a market result when true."""


class TableExtensionAnswer(Answer):
    """Report a table that was continued."""

    path: str
    """The table of this project."""
    days: int
    added: int
    """Days that the newer table added."""
    first: str
    last: str
    rows_sha256: str
    """Of the rows as CSV."""


class DataHealthAnswer(Answer):
    """List the faults of a data source."""

    errors: int
    warnings: int
    findings: list[Any]
    report: str
    """Path of the page."""


class RealismAnswer(Answer):
    """Compare bars with the measured figures of the market."""

    source: str
    """Where the measured figures come from."""
    dataset: str
    """The bars that were compared."""
    figures: int
    """How many were compared."""
    near: int
    """Of them within the bound."""
    rows: list[Any]
    """One object per figure: name, figure, fact, bound, near."""


class SourceComparisonAnswer(Answer):
    """Compare two sources of one market."""

    bars: dict[str, Any]
    """Of a, of b and of both, over the sessions that both cover."""
    missing: dict[str, Any]
    """Bars that a lacks and that b lacks."""
    missing_sessions: dict[str, Any]
    """Dates without any bar of a, of b."""
    other_contract: list[Any]
    """Sessions in which they hold different contracts."""
    fields: list[Any]
    """By field: bars, different, mean, mean_size, worst, worst_at, unit."""
    notes: list[Any]
    """Sentences about what explains a difference."""
    decisions: dict[str, Any]
    """Compared, differ, differ_frac, trades and net_usd of both."""


class MeasuredCostsAnswer(Answer):
    """Report the slippage that order books show."""

    slippage_ticks: dict[str, Any]
    """By size of the order."""
    by_slot: list[Any]
    config: str | None
    """The file of --name."""


class ContractCheckAnswer(Answer):
    """Compare the rule with the definitions of last trade dates."""

    on: str
    """First day."""
    contracts: list[Any]
    differences: int


class DownloadAnswer(Answer):
    """Report what was bought, or with --estimate what would be."""

    folder: str
    cost_usd: float
    records: int
    bytes: int
    parts: list[Any]
    conditions: dict[str, Any]
    """By day."""
    files: Any
    """What was written."""


class GatewayAnswer(Answer):
    """Give the address of the simulated vendor."""

    gateway: str
    """Its URL."""
    cert: str
    """The certificate."""
    folder: str
    synthetic: bool
    datasets: Any
