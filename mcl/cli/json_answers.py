"""Keys that `mcl --json VERB` promises in its one object on stdout, with their types and
what they mean.

More keys may be there; these stay. docs/json.md is written from here, and the tests compare every
answer with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "count": (int,),
    "number": (int, float),
    "flag": (bool,),
    "list": (list,),
    "object": (dict,),
    "any": (str, int, float, bool, list, dict),
}
DIFFERENCES = "object · what differs: its values by name, in the order of the things"
RUN = {"run_id": "text · MLflow run id"}
SWEEP_KEYS = {
    "sweep_id": "text · run id of the parent",
    "trials": "object · number of trials by state",
    "report": "text · path of the page",
}
STANDING = {
    "sweep_id": "text · run id of the parent",
    "state": "text · RUNNING, FINISHED, KILLED …",
    "target": "count · trials in all",
}
SESSION = RUN | {
    "decisions": "count",
    "orders": "count",
    "fills": "count",
    "differences": (
        "list · where the session and the backtest of its bars differ, each with its cause"
    ),
    "unexplained": "count · those without a cause",
    "basis": (
        "object · the broker's bars less the vendor's: note, fields, only_live, only_vendor,"
        " decisions, differ, decisions_frac"
    ),
    "report": "text · path of the page",
}
JOURNAL = {"alias": "text · the promoted name", "journal": "text · path of the session's journal"}
COMMAND_KEYS = {
    "alias": "text · the promoted name",
    "command": "text · what was asked",
    "said": "text · what the session answered",
}
DATA = {
    "sessions": "count · sessions of the data",
    "bars": "count · bars of the active contract",
    "stored_interval": "text · of the bars that were read",
    "intervals_beside": "list · of other bars in the same place: data.stored_interval",
    "sessions_without_bars": "list · sessions in which the active contract has no bar",
    "assumed_hours": "list · short sessions whose hours the exchange has not published yet",
    "contracts": "list · their symbols",
    "rolls": "list · one object per roll",
    "fingerprint": "text · sha256 of all that a backtest can see",
    "synthetic": "flag · never a market result when true",
}

NOTICES = "list · sentences said before the first trial: no hold-out, a capital of another size"
CHOICE = "text · why this run, where a search was named; else empty"
DEFLATION = (
    "text · by whose trials, which rule and when the Sharpe is deflated; empty where there is none"
)
PROMISED: Mapping[str, Mapping[str, str]] = {
    "backtest": (
        RUN
        | {
            "metrics": (
                "object · every metric by its flat name, `dsr`, `best_by_luck` and `trials_counted`"
                " as of now; null where undefined"
            ),
            "deflation": DEFLATION,
            "too_short": "text · that the sessions are too few for figures per year, or empty",
            "stopped": "text · that trading stopped for good at a limit, and when, or empty",
            "report": "text? · path of the page",
            "config_sha256": "text · of what decides a result",
            "data_fingerprint": "text · of the bars",
            "synthetic": "flag · never a market result when true",
            "own_code_reads": "text · what a strategy of your own reads besides its bars, or empty",
            "repeat": "text · the shortest command line that makes this run again",
        }
    ),
    "sweep": (
        SWEEP_KEYS
        | {
            "best": "object? · trial, value, params, metrics, run_id",
            "stopped": "text · why it ended early, or empty",
            "notices": NOTICES,
            "repeat": "text · the command line that makes this search again",
        }
    ),
    "sweep resume": (
        SWEEP_KEYS
        | {
            "best": "object? · trial, value, params, metrics, run_id",
            "stopped": "text · why it ended early, or empty",
            "notices": NOTICES,
        }
    ),
    "sweep extend": (
        SWEEP_KEYS
        | {
            "best": "object? · trial, value, params, metrics, run_id",
            "stopped": "text · why it ended early, or empty",
            "notices": NOTICES,
        }
    ),
    "sweep status": STANDING,
    "sweep stop": STANDING,
    "sweep report": (
        SWEEP_KEYS
        | {
            "best": "object? · trial, value, params, metrics, run_id",
            "experiment": "text? · the file of --export",
        }
    ),
    "compare": {
        "runs": "list · run ids",
        "config": f"{DIFFERENCES}, of the configurations",
        "metrics": f"{DIFFERENCES}; the deflated ones are all of now",
        "deflation": "list · of each run, by whose trials and which rule its Sharpe is deflated",
        "p_values": (
            "list · of a Sharpe ratio above zero, one object per run: alone, holm,"
            " benjamini_hochberg"
        ),
        "family": (
            "object · all runs tested together: p of the best (Hansen's SPA), best, superior (the"
            " run ids that StepM calls better than nothing)"
        ),
        "report": "text · path of the page",
    },
    "report": (
        RUN
        | {
            "metrics": "object · every metric by its flat name, the deflated ones as of now",
            "at_run": "object · the deflation that the run stored when it was made",
            "deflation": DEFLATION,
            "report": (
                "text? · path of the page, drawn again where the trial ledger has grown since"
            ),
            "versions": "list · what was promoted from it",
            "tags": "object · what MLflow holds",
        }
    ),
    "rerun": (
        RUN
        | {
            "kind": "text · backtest, trial, sweep, grid, walk_forward, validation or session",
            "equal": "flag · bit-equal",
            "said": "text · what was compared",
            "metrics": f"{DIFFERENCES}; empty, since what differs is an error that has them",
            "causes": "any · inputs that moved",
            "runs": "list · ids of the runs below that were made again",
        }
    ),
    "runs": {"runs": "list · run_id, name, kind, status, metrics of each"},
    "validate": (
        RUN
        | {
            "subject": "text · the run that was questioned",
            "choice": CHOICE,
            "verdict": "text · pass, borderline or stop",
            "rows": "list · one object per question",
            "notes": "list · sentences: too short a time, an end of all trading",
            "trials": "count · distinct trials in the ledger",
            "deflated_sharpe": "number? · a probability, by those trials",
            "best_by_luck": (
                "number? · annual Sharpe that the best of them would show without any edge"
            ),
            "deflation": DEFLATION,
            "holdout_looks": "count · how often the hold-out has been seen",
            "report": "text · path of the page",
        }
    ),
    "critique": RUN | {"choice": CHOICE, "findings": "list · the most serious first"},
    "select": {
        "sweep_id": "text · the search",
        "winner": "any · the chosen trial",
        "peak": "any · the best single trial",
        "why": "any · why the winner",
        "trials": "count · distinct trials in the ledger",
        "best_by_luck": "number? · annual Sharpe that the best of them would show without any edge",
        "deflation": DEFLATION,
        "refused": "any · why nothing is advised",
        "ranked": "list · candidates",
    },
    "trials": {
        "places": (
            "list · by strategy and market: distinct trials, best Sharpe, the best by luck alone,"
            " its deflated value"
        ),
        "markets": "list · the same for all strategies of a market together",
        "newest": "list · the last rows",
    },
    "promote": (
        RUN
        | {
            "name": "text · the alias",
            "version": "count · of the registered model",
            "gates": "list · each with `passed` and `asked`",
            "notes": "list · sentences: an end of all trading, no hold-out",
            "path": "text · the file to commit",
            "content_sha256": "text · of the bundle",
            "own_code_reads": "list · what a strategy of your own reads besides its bars",
            "choice": CHOICE,
        }
    ),
    "registry": {"versions": "list · one object per version, newest first"},
    "registry report": {
        "name": "text",
        "version": "count",
        "sentence": "text · in or outside the band",
        "report": "text · path of the page",
    },
    "registry costs": {
        "name": "text · the alias",
        "version": "count · that it points to now",
        "synthetic": (
            "flag · sessions on a simulated TWS or on data that nobody traded: no evidence about a"
            " market"
        ),
        "left_out": "count · such sessions that were not counted, since there are real ones",
        "months": (
            "list · sessions, fills, contracts, and per contract delay, slippage and commission,"
            " configured and paid"
        ),
        "all": "object · the same over all months",
        "proposal": (
            "object · overrides to paste, slippage_ticks with low_ticks and high_ticks,"
            " commission_usd, sentence"
        ),
    },
    "rollback": {
        "name": "text · the alias",
        "version": "count · now",
        "before": "count · until now",
        "path": "text · the file to commit",
    },
    "promoted diff": {
        "versions": "list · the two numbers",
        "config": DIFFERENCES,
        "gates": DIFFERENCES,
        "metrics": DIFFERENCES,
        "packages": DIFFERENCES,
        "code": f"{DIFFERENCES}, of the digests of the files that decide",
        "data": f"{DIFFERENCES}, of the data manifests",
    },
    "promoted history": {"events": "list · oldest first", "standing": "any · what holds now"},
    "completion": {"shell": "text", "script": "text · what the shell sources"},
    "explain": {
        "key": "text",
        "value": "any?",
        "source": "text · the file or override",
        "chain": "list · all that set it",
    },
    "live": SESSION,
    "live audit": SESSION,
    "status": {},
    "pause": COMMAND_KEYS,
    "resume": COMMAND_KEYS,
    "reduce-only": COMMAND_KEYS,
    "flatten": COMMAND_KEYS,
    "stop": COMMAND_KEYS,
    "adopt": COMMAND_KEYS,
    "kill": COMMAND_KEYS,
    "orders": JOURNAL | {"orders": "list", "working": "list · not filled yet"},
    "fills": JOURNAL | {"fills": "list"},
    "why": JOURNAL | {"decisions": "list · each with its sentence"},
    "dashboard": {"url": "text", "name": "text", "read_only": "flag"},
    "data sniff": {
        "preset": "text · the option of the group data that reads it, csv where none fits",
        "overrides": "list · further keys, as they are typed",
        "reasons": "list · a sentence per key that was measured",
        "undecided": "object · keys that the file does not show, each with what fits",
        "doubts": "list · name, text and cure of what the bars contradict",
        "bars": "list · the first bars as they would be read",
        "config": "text? · the file of --write",
    },
    "data build": DATA,
    "data info": DATA,
    "data extend": {
        "path": "text · the table of this project",
        "days": "count",
        "added": "count · days that the newer table added",
        "first": "text",
        "last": "text",
        "rows_sha256": "text · of the rows as CSV",
    },
    "data check": {
        "errors": "count",
        "warnings": "count",
        "findings": "list",
        "report": "text · path of the page",
    },
    "data realism": {
        "source": "text · where the measured figures come from",
        "dataset": "text · the bars that were compared",
        "figures": "count · how many were compared",
        "near": "count · of them within the bound",
        "rows": "list · one object per figure: name, figure, fact, bound, near",
    },
    "data compare": {
        "bars": "object · of a, of b and of both, over the sessions that both cover",
        "missing": "object · bars that a lacks and that b lacks",
        "missing_sessions": "object · dates without any bar of a, of b",
        "other_contract": "list · sessions in which they hold different contracts",
        "fields": "list · by field: bars, different, mean, mean_size, worst, worst_at, unit",
        "notes": "list · sentences about what explains a difference",
        "decisions": "object · compared, differ, differ_frac, trades and net_usd of both",
    },
    "data costs": {
        "slippage_ticks": "object · by size of the order",
        "by_slot": "list",
        "config": "text? · the file of --name",
    },
    "contract check": {"on": "text · first day", "contracts": "list", "differences": "count"},
    "data download": {
        "folder": "text",
        "cost_usd": "number",
        "records": "count",
        "bytes": "count",
        "parts": "list",
        "conditions": "object · by day",
        "files": "any · what was written",
    },
    "data gateway": {
        "gateway": "text · its URL",
        "cert": "text · the certificate",
        "folder": "text",
        "synthetic": "flag",
        "datasets": "any",
    },
    "store backup": {
        "path": "text",
        "files": "count",
        "bytes_read": "count",
        "bytes_written": "count",
    },
    "store restore": {"made_at": "any", "files": "count"},
    "store gc": {"removed": "flag", "bytes": "count", "items": "list"},
    "init": {"folder": "text", "files": "list"},
    "demo": {
        "folder": "text · of the project that it made",
        "seconds": "number",
        "acts": (
            "list · title, synthetic, and commands: each with its command, code, seconds, answer"
        ),
    },
    "doctor": {"findings": "list", "failed": "any"},
    "new strategy": {"name": "text", "files": "list"},
    "new source": {"name": "text", "files": "list"},
    "check lookahead": {
        "has_bias": "flag",
        "cuts": "count · parts from the first bar to a row",
        "windows": "count · short parts around a row",
        "sampled": "object · rows that were cut at, by the reason for choosing them",
        "first": "text · the earliest difference, or empty",
        "reads": "list · what a strategy of your own reads besides its bars",
    },
    "check warmup": {"enough": "flag"},
    "tws serve": {},
    "tws status": {"servers": "list"},
    "tws log": {"messages": "count", "shown": "list"},
}
SILENT = ("ui",)  # runs until it is stopped and answers nothing
# the verbs that answer as another one where they make or show a search or a grid
OF_A_SEARCH = {"report": "sweep report", "backtest": "sweep"}
REFUSAL = {
    "code": "text",
    "message": "text · one sentence: value, rule, nearest valid choice",
    "hint": "text · what to do",
}


def faults(verb: str, answer: Mapping[str, Any]) -> list[str]:
    """List what an answer lacks of the promised keys; empty for one that keeps it. `--cfg` and
    `--estimate` answer otherwise.
    """
    wrong = []
    if "sweep_id" in answer:
        verb = OF_A_SEARCH.get(verb, verb)
    for key, promise in PROMISED[verb].items():
        kind = promise.partition(" · ")[0]
        if key not in answer:
            wrong.append(f"{verb}: {key} is missing")
        elif not _is(answer[key], kind):
            wrong.append(f"{verb}: {key} is {type(answer[key]).__name__}, not {kind}")
    return wrong


def _is(value: Any, kind: str) -> bool:
    if value is None:
        return kind.endswith("?") or kind == "any"
    kind = kind.removesuffix("?")
    return isinstance(value, TYPES[kind]) and (
        kind in ("flag", "any") or not isinstance(value, bool)
    )


def markdown() -> str:
    """The reference for people who script mcl."""
    parts = [HEAD, "\n## A refusal\n\n", _table(REFUSAL)]
    for verb, keys in PROMISED.items():
        parts += [
            f"\n## `mcl --json {verb}`\n\n",
            (
                _table(keys)
                if keys
                else "One object per name or session; its keys follow the state.\n"
            ),
        ]
    return "".join(parts)


HEAD = """# Answers as JSON

Written from `mcl/cli/json_answers.py`. A test checks that this page is current, and the end-to-end
tests compare every answer with it.

`mcl --json VERB …` prints one JSON object on stdout and logs on stderr. These keys are promised;
others may be added. What is not a number (NaN, infinite) is `null`; times are ISO text in UTC. The
exit code is 0 when done, 1 when refused or failed, 2 for wrong usage. A refusal is
`{"error": {"code", "message", "hint"}}`. The error of a run that does not repeat has
`differences`, too, in the shape that `compare` and `promoted diff` have. That of a promotion has
`gates` and `notes`, as a promotion that passes. `report` of a search answers as
`sweep report`, a grid (`backtest -m`) as `sweep`. A `?` says that the value may be `null`.
"""


def _table(keys: Mapping[str, str]) -> str:
    rows = ((key, *promise.partition(" · ")[::2]) for key, promise in keys.items())
    return "| key | type | meaning |\n|---|---|---|\n" + "".join(
        f"| `{key}` | {kind} | {meaning} |\n" for key, kind, meaning in rows
    )


if __name__ == "__main__":
    print(markdown(), end="")
