"""Models of the JSON answers of the verbs of research and promotion."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mcl.cli.answer_model import Answer, OfRun


class OfSearch(Answer):
    """An answer about a search or a grid, and its best trial."""

    sweep_id: str
    """Run id of the parent."""
    trials: dict[str, int]
    """Number of trials by state."""
    report: str
    """Path of the page."""
    best: dict[str, Any] | None
    """Trial, value, params, metrics, run_id."""


class BacktestAnswer(OfRun):
    """Report one backtest."""

    metrics: dict[str, Any]
    """Every metric by its flat name, `dsr`, `best_by_luck` and `trials_counted` as of now; null
    where undefined."""
    deflation: str
    """By whose trials, which rule and when the Sharpe is deflated; empty where there is none."""
    too_short: str
    """That the sessions are too few for figures per year, or empty."""
    stopped: str
    """That trading stopped for good at a limit, and when, or empty."""
    report: str | None
    """Path of the page."""
    config_sha256: str
    """Of what decides a result."""
    data_fingerprint: str
    """Of the bars."""
    synthetic: bool
    """Never a market result when true."""
    own_code_reads: str
    """What a strategy of your own reads besides its bars, or empty."""
    repeat: str
    """The shortest command line that makes this run again."""


class SearchAnswer(OfSearch):
    """Report a search that was continued."""

    stopped: str
    """Why it ended early, or empty."""
    notices: list[Any]
    """Sentences before the first trial: no hold-out, a capital of another size."""


class SweepAnswer(SearchAnswer):
    """Report a new search or a grid."""

    repeat: str
    """The command line that makes this search again."""


class SweepReportAnswer(OfSearch):
    """Report a search of the past."""

    experiment: str | None
    """The file of --export."""


class WalkForwardAnswer(OfRun):
    """Report a search in folds, each traded on bars that it had not searched."""

    sweep_id: str
    """Run id of the parent, the same as `run_id`."""
    trials: dict[str, int]
    """Number of trials by state."""
    folds: list[Any]
    """One object per fold: its days, choice, Sharpe ratios."""
    metrics: dict[str, Any]
    """Of the folds together, out of sample."""
    report: str | None
    """Path of the page."""
    stopped: str
    """Why it ended early, or empty."""


class SearchStatusAnswer(Answer):
    """Say how far a search is."""

    sweep_id: str
    """Run id of the parent."""
    state: str
    """RUNNING, FINISHED, KILLED …."""
    target: int
    """Trials in all."""


class ComparisonAnswer(Answer):
    """Compare two or more runs."""

    runs: list[Any]
    """Run ids."""
    config: dict[str, Any]
    """What differs: its values by name, in the order of the things, of the configurations."""
    metrics: dict[str, Any]
    """What differs: its values by name, in the order of the things; the deflated ones are all of
    now."""
    deflation: list[Any]
    """Of each run, by whose trials and which rule its Sharpe is deflated."""
    p_values: list[Any]
    """Of a Sharpe ratio above zero, one object per run: alone, holm, benjamini_hochberg."""
    family: dict[str, Any]
    """All runs tested together: p of the best (Hansen's SPA), best, superior (the run ids that
    StepM calls better than nothing)."""
    data: list[Any]
    """The data set of each run."""
    warning: str
    """That the runs are of different markets or worlds; empty where they are not."""
    report: str
    """Path of the page."""


class RunReportAnswer(OfRun):
    """Report a run of the past."""

    metrics: dict[str, Any]
    """Every metric by its flat name, the deflated ones as of now."""
    at_run: dict[str, Any]
    """The deflation that the run stored when it was made."""
    deflation: str
    """By whose trials, which rule and when the Sharpe is deflated; empty where there is none."""
    report: str | None
    """Path of the page, drawn again where the trial ledger has grown since."""
    versions: list[Any]
    """What was promoted from it."""
    tags: dict[str, Any]
    """What MLflow holds."""


class RerunAnswer(OfRun):
    """Say that a run repeats."""

    kind: str
    """Backtest, trial, sweep, grid, walk_forward, validation or session."""
    equal: bool
    """Bit-equal."""
    sentence: str = Field(alias="said")
    """What was compared."""
    metrics: dict[str, Any]
    """What differs: its values by name, in the order of the things; empty, since what differs is
    an error that has them."""
    causes: Any
    """Inputs that moved."""
    runs: list[Any]
    """Ids of the runs below that were made again."""


class RunsAnswer(Answer):
    """List the runs of a study."""

    runs: list[Any]
    """Run_id, name, kind, data, status, metrics of each."""


class ValidationAnswer(OfRun):
    """Judge a run."""

    subject: str
    """The run that was questioned."""
    choice: str
    """Why this run, where a search was named; else empty."""
    verdict: str
    """Pass, borderline or stop."""
    rows: list[Any]
    """One object per question."""
    notes: list[Any]
    """Sentences: too short a time, an end of all trading."""
    trials: int
    """Distinct trials in the ledger."""
    deflated_sharpe: float | None
    """A probability, by those trials."""
    best_by_luck: float | None
    """Annual Sharpe that the best of them would show without any edge."""
    deflation: str
    """By whose trials, which rule and when the Sharpe is deflated; empty where there is none."""
    holdout_looks: int
    """How often the hold-out has been seen."""
    report: str
    """Path of the page."""


class CritiqueAnswer(OfRun):
    """List the red flags of a run, the most serious first."""

    choice: str
    """Why this run, where a search was named; else empty."""
    findings: list[Any]
    """The most serious first."""


class SelectionAnswer(Answer):
    """Advise a trial of a search."""

    sweep_id: str
    """The search."""
    winner: Any
    """The chosen trial."""
    peak: Any
    """The best single trial."""
    why: Any
    """Why the winner."""
    trials: int
    """Distinct trials in the ledger."""
    best_by_luck: float | None
    """Annual Sharpe that the best of them would show without any edge."""
    deflation: str
    """By whose trials, which rule and when the Sharpe is deflated; empty where there is none."""
    refused: Any
    """Why nothing is advised."""
    ranked: list[Any]
    """Candidates."""


class TrialsAnswer(Answer):
    """Count all that was tried."""

    places: list[Any]
    """By strategy and market: distinct trials, best Sharpe, the best by luck alone, its deflated
    value."""
    markets: list[Any]
    """The same for all strategies of a market together."""
    newest: list[Any]
    """The last rows."""


class PromotionAnswer(OfRun):
    """Report a version that was promoted."""

    name: str
    """The alias."""
    version: int
    """Of the registered model."""
    gates: list[Any]
    """Each with `passed` and `asked`."""
    notes: list[Any]
    """Sentences: an end of all trading, no hold-out."""
    path: str
    """The file to commit."""
    content_sha256: str
    """Of the bundle."""
    own_code_reads: list[Any]
    """What a strategy of your own reads besides its bars."""
    choice: str
    """Why this run, where a search was named; else empty."""


class VersionsAnswer(Answer):
    """List the versions of the registry."""

    versions: list[Any]
    """One object per version, newest first."""


class VersionReportAnswer(Answer):
    """Compare a promoted version with its expected band."""

    name: str
    version: int
    sentence: str
    """In or outside the band."""
    report: str
    """Path of the page."""


class CostTableAnswer(Answer):
    """Compare what fills cost with what was assumed."""

    name: str
    """The alias."""
    version: int
    """That it points to now."""
    synthetic: bool
    """Sessions on a simulated TWS or on data that nobody traded: no evidence about a market."""
    left_out: int
    """Such sessions that were not counted, since there are real ones."""
    months: list[Any]
    """Sessions, fills, contracts, and per contract delay, slippage and commission, configured and
    paid."""
    all: dict[str, Any]
    """The same over all months."""
    proposal: dict[str, Any]
    """Overrides to paste, slippage_ticks with low_ticks and high_ticks, commission_usd, a sentence.
    """


class RollbackAnswer(Answer):
    """Say that an alias points to its former version again."""

    name: str
    """The alias."""
    version: int
    """Now."""
    before: int
    """Until now."""
    path: str
    """The file to commit."""


class VersionDifferenceAnswer(Answer):
    """List what differs between two versions."""

    versions: list[Any]
    """The two numbers."""
    config: dict[str, Any]
    """What differs: its values by name, in the order of the things."""
    gates: dict[str, Any]
    """What differs: its values by name, in the order of the things."""
    metrics: dict[str, Any]
    """What differs: its values by name, in the order of the things."""
    packages: dict[str, Any]
    """What differs: its values by name, in the order of the things."""
    code: dict[str, Any]
    """What differs: its values by name, in the order of the things, of the digests of the files
    that decide."""
    data: dict[str, Any]
    """What differs: its values by name, in the order of the things, of the data manifests."""


class HistoryAnswer(Answer):
    """List who moved which alias when."""

    events: list[Any]
    """Oldest first."""
    standing: Any
    """What holds now."""


class OriginAnswer(Answer):
    """Say which file or override set a value."""

    key: str
    value: Any
    source: str
    """The file or override."""
    chain: list[Any]
    """All that set it."""


class LookaheadAnswer(Answer):
    """Say whether later bars change an earlier decision."""

    has_bias: bool
    cuts: int
    """Parts from the first bar to a row."""
    windows: int
    """Short parts around a row."""
    sampled: dict[str, Any]
    """Rows that were cut at, by the reason for choosing them."""
    first: str
    """The earliest difference, or empty."""
    reads: list[Any]
    """What a strategy of your own reads besides its bars."""


class WarmupAnswer(Answer):
    """Say whether the declared memory is enough."""

    enough: bool


class ForecastAnswer(Answer):
    """Say how long a search would take and what it can show: `--estimate`."""

    trials: int
    sessions: int
    """Sessions that are searched."""
    holdout_sessions: int
    total_sec: float | None
    """Seconds in all."""
