"""Models of the one object that `mcl --json VERB` prints on stdout.

A model has the keys that are promised. More keys may be there; these stay. docs/json.md and
docs/answers.schema.json are written from here. The tests compare every answer with its model.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema

from mcl.cli.table import VERBS, Verb


class Answer(BaseModel):
    """Hold the keys that an answer has at least; a number is never taken for a text."""

    model_config = ConfigDict(extra="allow", strict=True, use_attribute_docstrings=True)


class OfRun(Answer):
    """An answer about one run."""

    run_id: str
    """MLflow run id."""


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


class OfJournal(Answer):
    """An answer from the journal of a session."""

    alias: str
    """The promoted name."""
    journal: str
    """Path of the session's journal."""


class Backtest(OfRun):
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


class Search(OfSearch):
    """Report a search that was continued."""

    stopped: str
    """Why it ended early, or empty."""
    notices: list[Any]
    """Sentences said before the first trial: no hold-out, a capital of another size."""


class Sweep(Search):
    """Report a new search or a grid."""

    repeat: str
    """The command line that makes this search again."""


class SweepReport(OfSearch):
    """Report a search of the past."""

    experiment: str | None
    """The file of --export."""


class WalkForward(OfRun):
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


class SearchStatus(Answer):
    """Say how far a search is."""

    sweep_id: str
    """Run id of the parent."""
    state: str
    """RUNNING, FINISHED, KILLED …."""
    target: int
    """Trials in all."""


class Comparison(Answer):
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
    report: str
    """Path of the page."""


class RunReport(OfRun):
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


class Rerun(OfRun):
    """Say that a run repeats."""

    kind: str
    """Backtest, trial, sweep, grid, walk_forward, validation or session."""
    equal: bool
    """Bit-equal."""
    said: str
    """What was compared."""
    metrics: dict[str, Any]
    """What differs: its values by name, in the order of the things; empty, since what differs is
    an error that has them."""
    causes: Any
    """Inputs that moved."""
    runs: list[Any]
    """Ids of the runs below that were made again."""


class Runs(Answer):
    """List the runs of a study."""

    runs: list[Any]
    """Run_id, name, kind, status, metrics of each."""


class Validation(OfRun):
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


class Critique(OfRun):
    """List what is suspicious about a run."""

    choice: str
    """Why this run, where a search was named; else empty."""
    findings: list[Any]
    """The most serious first."""


class Selection(Answer):
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


class Trials(Answer):
    """Count all that was tried."""

    places: list[Any]
    """By strategy and market: distinct trials, best Sharpe, the best by luck alone, its deflated
    value."""
    markets: list[Any]
    """The same for all strategies of a market together."""
    newest: list[Any]
    """The last rows."""


class Promotion(OfRun):
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


class Versions(Answer):
    """List the versions of the registry."""

    versions: list[Any]
    """One object per version, newest first."""


class VersionReport(Answer):
    """Compare a promoted version with its expected band."""

    name: str
    version: int
    sentence: str
    """In or outside the band."""
    report: str
    """Path of the page."""


class CostTable(Answer):
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


class Rollback(Answer):
    """Say that an alias points to its former version again."""

    name: str
    """The alias."""
    version: int
    """Now."""
    before: int
    """Until now."""
    path: str
    """The file to commit."""


class VersionDifference(Answer):
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


class History(Answer):
    """List who moved which alias when."""

    events: list[Any]
    """Oldest first."""
    standing: Any
    """What holds now."""


class Completion(Answer):
    """Give the completion script of a shell."""

    shell: str
    script: str
    """What the shell sources."""


class Origin(Answer):
    """Say which file or override set a value."""

    key: str
    value: Any
    source: str
    """The file or override."""
    chain: list[Any]
    """All that set it."""


class Session(OfRun):
    """Report a session and its audit."""

    decisions: int
    orders: int
    fills: int
    differences: list[Any]
    """Where the session and the backtest of its bars differ, each with its cause."""
    unexplained: int
    """Those without a cause."""
    basis: dict[str, Any]
    """The broker's bars less the vendor's: note, fields, only_live, only_vendor, decisions,
    differ, decisions_frac."""
    report: str
    """Path of the page."""


class Status(Answer):
    """Describe one session, or in `sessions` one object per name. The keys follow the state."""


class OperatorReply(Answer):
    """Give the answer of a session to a command."""

    alias: str
    """The promoted name."""
    command: str
    """What was asked."""
    said: str
    """What the session answered."""


class Orders(OfJournal):
    """List the orders of a session."""

    orders: list[Any]
    working: list[Any]
    """Not filled yet."""


class Fills(OfJournal):
    """List the fills of a session."""

    fills: list[Any]


class Decisions(OfJournal):
    """List the decisions of a session."""

    decisions: list[Any]
    """Each with its sentence."""


class Dashboard(Answer):
    """Give the address of the page."""

    url: str
    name: str
    read_only: bool


class CsvProposal(Answer):
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


class Dataset(Answer):
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
    """Short sessions whose hours the exchange has not published yet."""
    contracts: list[Any]
    """Their symbols."""
    rolls: list[Any]
    """One object per roll."""
    fingerprint: str
    """Sha256 of all that a backtest can see."""
    synthetic: bool
    """Never a market result when true."""


class TableExtension(Answer):
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


class DataHealth(Answer):
    """List the faults of a data source."""

    errors: int
    warnings: int
    findings: list[Any]
    report: str
    """Path of the page."""


class Realism(Answer):
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


class SourceComparison(Answer):
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


class MeasuredCosts(Answer):
    """Report the slippage that order books show."""

    slippage_ticks: dict[str, Any]
    """By size of the order."""
    by_slot: list[Any]
    config: str | None
    """The file of --name."""


class ContractCheck(Answer):
    """Compare the rule with the definitions of last trade dates."""

    on: str
    """First day."""
    contracts: list[Any]
    differences: int


class Download(Answer):
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


class Gateway(Answer):
    """Give the address of the simulated vendor."""

    gateway: str
    """Its URL."""
    cert: str
    """The certificate."""
    folder: str
    synthetic: bool
    datasets: Any


class Backup(Answer):
    """Report a backup that was written."""

    path: str
    files: int
    bytes_read: int
    bytes_written: int


class Restore(Answer):
    """Report a backup that was put back, or checked."""

    made_at: Any
    files: int


class Waste(Answer):
    """List files that nothing refers to."""

    removed: bool
    bytes: int
    items: list[Any]


class NewProject(Answer):
    """Report a new project."""

    folder: str
    files: list[Any]


class Demo(Answer):
    """Report the whole line, run once."""

    folder: str
    """Of the project that it made."""
    seconds: float
    acts: list[Any]
    """Title, synthetic, and commands: each with its command, code, seconds, answer."""


class Doctor(Answer):
    """List what this machine has and lacks."""

    findings: list[Any]
    failed: Any


class NewFiles(Answer):
    """List the files that were written for code of your own."""

    name: str
    files: list[Any]


class Lookahead(Answer):
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


class Warmup(Answer):
    """Say whether the declared memory is enough."""

    enough: bool


class ServedTws(Answer):
    """Report what a simulated TWS did, at its end."""


class TwsServers(Answer):
    """List the simulated TWS servers of a project."""

    servers: list[Any]


class TwsLog(Answer):
    """List messages of a transcript."""

    messages: int
    shown: list[Any]


class AuditedSessions(Answer):
    """Report the sessions of `mcl live NAME --stay`."""

    audits: list[Any]
    """One object per session: session, run_id, audit."""


class FinishedRestore(Answer):
    """Say that a restore that was cut off is finished: `mcl store restore` without a file."""

    finished: bool


class Configuration(Answer):
    """Show the composed configuration; where it is invalid, `config` and `error`."""


class Information(Answer):
    """Show what Hydra knows: `--info`."""

    info: str


class Forecast(Answer):
    """Say how long a search would take and what it can show: `--estimate`."""

    trials: int
    sessions: int
    """Sessions that are searched."""
    holdout_sessions: int
    total_sec: float | None
    """Seconds in all."""


class Failure(Answer):
    """Say what failed."""

    code: str
    message: str
    """One sentence: value, rule, nearest valid choice."""
    hint: str
    """What to do."""


class Refusal(Answer):
    """Refuse: exit code 1 or 2."""

    error: Failure


# options with an answer of their own, by the verb where it matters
OPTIONS: Mapping[str, type[Answer]] = {
    "info": Information,
    "cfg": Configuration,
    "package": Configuration,
    "resolve": Configuration,
    "stay": AuditedSessions,
}
SEARCHES: Mapping[str, type[Answer]] = {"backtest": Sweep, "report": SweepReport}


def model(verb: Verb, options: argparse.Namespace, answer: Mapping[str, Any]) -> type[Answer]:
    """The model of what a command line answers: that of its verb, of an option, or of what it
    turned out to be about (`mcl report` of a search, a search in folds).
    """
    typed = vars(options)
    for name, chosen in OPTIONS.items():
        if typed.get(name):
            return chosen
    if verb.name == "sweep" and typed.get("estimate"):
        return Forecast
    if verb.name == "store restore" and typed.get("archive") is None:
        return FinishedRestore
    if "folds" in answer and "sweep_id" in answer and verb.answer != "SearchStatus":
        return WalkForward
    if "sweep_id" in answer and verb.name in SEARCHES:
        return SEARCHES[verb.name]
    return of_verb(verb)


def of_verb(verb: Verb) -> type[Answer]:
    """The model that the record of a verb names."""
    named: type[Answer] = getattr(sys.modules[__name__], verb.answer)
    return named


def published() -> dict[str, type[Answer]]:
    """Every model by its title in the reference, the verbs in the order of `mcl --help`."""
    verbs = {f"mcl --json {v.name}": of_verb(v) for v in VERBS.values() if v.answer}
    others = (WalkForward, AuditedSessions, FinishedRestore, Configuration, Information, Forecast)
    return {"A refusal": Refusal, **verbs, **{each.__name__: each for each in others}}


def markdown() -> str:
    """The reference for people who script mcl."""
    return HEAD + "".join(
        f"\n## {_heading(title)}\n\n{each.__doc__}\n{_table(each)}"
        for title, each in published().items()
    )


def schema() -> str:
    """The JSON Schema of every answer: `verbs` names the model of each verb, `$defs` has them."""
    models = list(dict.fromkeys(published().values()))
    _, definitions = models_json_schema(
        [(each, "validation") for each in models], title="Answers of mcl --json"
    )
    verbs = {verb.name: f"#/$defs/{verb.answer}" for verb in VERBS.values() if verb.answer}
    return json.dumps(definitions | {"verbs": verbs}, indent=1, ensure_ascii=False) + "\n"


HEAD = """# Answers as JSON

Written from `mcl/cli/json_answers.py`, as is the JSON Schema of all of it,
[answers.schema.json](answers.schema.json). A test checks that both are current. Every answer of a
test is compared with its model, and one test sees an answer of every verb.

`mcl --json VERB …` prints one JSON object on stdout and logs on stderr. These keys are promised;
others may be added. What is not a number (NaN, infinite) is `null`; times are ISO text in UTC. The
exit code is 0 when done, 1 when refused or failed, 2 for wrong usage. A refusal is
`{"error": {"code", "message", "hint"}}`. The error of a run that does not repeat has
`differences`, too, in the shape that `compare` and `promoted diff` have. That of a promotion has
`gates` and `notes`, as a promotion that passes. A search that failed in part, or that was
interrupted, has `error` next to its own keys. `report` of a search answers as `sweep report`, a
grid (`backtest -m`) as `sweep`, and a search in folds (`search.walk_forward`) as `WalkForward`.
"""


def _heading(title: str) -> str:
    return f"`{title}`" if title.startswith("mcl ") else title


def _table(answer: type[BaseModel]) -> str:
    rows = list(_rows(answer))
    return "\n| key | type | meaning |\n|---|---|---|\n" + "".join(rows) if rows else ""


def _rows(answer: type[BaseModel]) -> Iterator[str]:
    for key, facts in answer.model_json_schema().get("properties", {}).items():
        kinds = " or ".join(_kind(part) for part in facts.get("anyOf", [facts]))
        yield f"| `{key}` | {kinds} | {facts.get('description', '')} |\n"


def _kind(facts: Mapping[str, Any]) -> str:
    return "object" if "$ref" in facts else str(facts.get("type", "any"))


if __name__ == "__main__":
    print(schema() if "--schema" in sys.argv else markdown(), end="")
