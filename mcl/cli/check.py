"""data check, data compare, data costs, contract check: what can be believed before a backtest,
and what cannot.
"""

from __future__ import annotations

from argparse import Namespace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcl import composition
from mcl.base import progress, terminal
from mcl.base.errors import ConfigError
from mcl.base.files import below
from mcl.base.words import many
from mcl.cli.arguments import words_of
from mcl.config import schema

FIELD_COLUMNS = ("field", "bars", "different", "mean", "mean_size", "worst", "worst_at", "unit")

if TYPE_CHECKING:
    from mcl.data.depth import Depth
    from mcl.data.quality import Finding, Health
    from mcl.data.slippage_model import Measured


def data(args: Namespace) -> int:
    """Print every finding, write the page; 1 when there is an error."""
    from mcl.data.quality import examine

    health = examine(
        composition.compose("backtest", args.overrides).config.data, composition.root()
    )
    path = _page(health)
    findings = [f.as_dict() for f in health.findings]
    answer = {
        "errors": health.count("error"),
        "warnings": health.count("warning"),
        "findings": findings,
        "report": str(path),
    }
    terminal.answer(answer, lambda: _show(health, path))
    return 1 if health.count("error") else 0


def _page(health: Health) -> Path:
    from mcl.base.files import write_whole
    from mcl.data.data_note import data_note
    from mcl.report.health import health_page

    progress.begin("drawing the page")
    mark = data_note(health.bars) if health.bars is not None else ""
    if not mark and health.table is not None and health.table.synthetic:
        mark = "SYNTHETIC DATA — not a market result"
    path = below(composition.root() / "data" / "health", health.label, ending=".html")
    write_whole(
        path, health_page(health, title=f"Data check of {health.label}", data_note=mark).encode()
    )
    return path


def _show(health: Health, path: Path) -> None:
    rows = [(f.severity, f.kind, f.count, _first(f), f.action) for f in health.findings]
    if rows:
        terminal.table(
            "findings", ["severity", "kind", "count", "what and where", "what to do"], rows, left=5
        )
    counts = f"{many(health.count('error'), 'error')}, {many(health.count('warning'), 'warning')}"
    terminal.say(f"{counts}. Page: {path}")


def _first(finding: Finding) -> str:
    return (
        finding.text
        + (f": {finding.places[0]}" if finding.places else "")
        + (" …" if finding.count > 1 and finding.places else "")
    )


def sources(args: Namespace) -> int:
    """Compare two sources of one market, and the decisions of one strategy on each."""
    from mcl.validation.source_comparison import compare

    first, second = (_source(text, args.overrides) for text in (args.a, args.b))
    compared = compare(first, second, composition.root())
    answer = compared.as_dict()
    terminal.answer(answer, lambda: _show_comparison(answer))
    return 0


def _source(text: str, overrides: list[str]) -> schema.Config:
    """The configuration of `NAME key=value …` with the overrides of both."""
    name, *own = words_of(text) or [""]
    wrong = next((word for word in own if not word.startswith("data.")), None)
    if "=" in name or not name or wrong is not None:
        raise ConfigError(
            f"{text!r} is no source: write a choice of the group data and keys of its own",
            "for instance 'kibot data.path=a.txt data.contract=MCLJ24'",
        )
    return composition.compose("backtest", [f"data={name}", *own, *overrides]).config


def _show_comparison(answer: dict[str, Any]) -> None:
    bars, missing, decisions = (answer[name] for name in ("bars", "missing", "decisions"))
    rows = [[field[name] for name in FIELD_COLUMNS] for field in answer["fields"]]
    heads = ["field", "bars of both", "different", "mean", "mean size", "worst", "at", "unit"]
    terminal.table("the first source less the second", heads, rows, left=1)
    for name, other in (("first", "a"), ("second", "b")):
        absent = answer["missing_sessions"][other]
        where = (
            f", in {many(len(absent), 'session')} all: {', '.join(absent[:5])}" if absent else ""
        )
        terminal.say(
            f"The {name} source has {bars[other]:,} bars and lacks {missing[other]:,}{where}."
        )
    if answer["other_contract"]:
        terminal.say(
            f"They hold other contracts in {many(len(answer['other_contract']), 'session')}."
        )
    for note in answer["notes"]:
        terminal.say(f"{note[0].upper()}{note[1:]}.")
    share = decisions["differ_frac"]
    terminal.say(
        f"Of {decisions['compared']:,} decisions {decisions['differ']:,} differ"
        + (f" ({share:.2%})" if share is not None else "")
        + f": {decisions['trades'][0]:,} and {many(decisions['trades'][1], 'trade')}, net"
        f" ${decisions['net_usd'][0]:,.2f} and ${decisions['net_usd'][1]:,.2f}."
    )


def costs(args: Namespace) -> int:
    """Measure what trading costs from order books; with --name write conf/costs/NAME.yaml."""
    from mcl.data import slippage_model as measuring

    composed = composition.compose("backtest", args.overrides).config
    sizes = _sizes(args.contracts)
    measured = measuring.measure(_books(composed.data, args.sessions, args.events), sizes)
    frame = measured.by_slot.reset_index()
    facts = {
        "books": [f"{s} {d}" for s, d in measured.depth.book_keys],
        "synthetic": measured.depth.synthetic,
        "sizes": list(sizes),
    }
    answer = facts | {
        "slippage_ticks": {str(n): measured.mean_ticks(n) for n in sizes},
        "by_slot": frame.to_dict("records"),
        "config": None,
    }
    if args.name:
        path = below(composition.conf_dir() / "costs", _plain_name(args.name), ending=".yaml")
        measuring.write(path, measured, sizes[0], composed.costs.side_usd)
        answer["config"] = str(path)
    terminal.answer(answer, lambda: _show_costs(measured, answer))
    return 0


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--contracts={text!r} is no list of whole numbers; for instance --contracts 1,2,5"
        ) from None


def _plain_name(name: str) -> str:
    if not name.replace("_", "").isalnum():
        raise ConfigError(
            f"--name={name!r} must be letters, digits and underscores: it becomes the choice"
            " costs=NAME"
        )
    return name


def _books(data: schema.Data, sessions: int, events: int | None) -> Depth:
    """The books of a data source; those of a generated world are made for sessions spread over its
    range.
    """
    from mcl.data import depth

    root = composition.root()
    return depth.load_depth(data, root, lambda days: depth.sessions(days, sessions), events)


def _show_costs(measured: Measured, answer: dict[str, Any]) -> None:
    frame = measured.by_slot
    names = ["traded", "spread_ticks", "depth", *(f"cost_{n}_ticks" for n in measured.sizes)]
    if measured.depth.synthetic:
        terminal.say(
            "SYNTHETIC DATA: spread and depth are assumptions of the generated world, not"
            " measurements"
        )
    heads = [
        "New York",
        "traded",
        "spread",
        "depth",
        *(many(n, "contract") for n in measured.sizes),
    ]
    terminal.table(
        "slippage of a market order in ticks, by time of day",
        heads,
        ([s, *(f"{row[n]:.2f}" for n in names)] for s, row in frame.iterrows()),
    )
    means = ", ".join(f"{n}: {measured.mean_ticks(n):.2f}" for n in measured.sizes)
    sessions = many(len({day for _, day in measured.depth.book_keys}), "session")
    terminal.say(f"mean over {sessions}, ticks by contracts: {means}")
    if answer["config"]:
        terminal.say(
            f"written: {answer['config']}; use it with costs={Path(answer['config']).stem}"
        )


def contract(args: Namespace) -> int:
    """Compare the last-trade rule with the definitions, and with --broker the broker, over twelve
    months; 1 when they differ.
    """
    from mcl.data.expiry_check import compare

    run = composition.compose("backtest", args.overrides).config
    day = _day(args.on)
    rows = compare(run.data, composition.root(), day)
    broker_dates = _broker_says(run, [row.symbol for row in rows], day) if args.broker else {}
    wrong = [
        row.symbol
        for row in rows
        if row.verdict == "differs" or broker_dates.get(row.symbol, "agrees") != "agrees"
    ]
    listed = [
        row.as_dict() | ({"broker": broker_dates[row.symbol]} if broker_dates else {})
        for row in rows
    ]
    answer = {"on": str(day), "contracts": listed, "differences": len(wrong)}
    heads = [
        "contract",
        "last trade by rule",
        "by definition",
        "session close",
        "verdict",
        *(["broker"] if broker_dates else []),
    ]
    cells = [[*row.cells(), *([broker_dates[row.symbol]] if broker_dates else [])] for row in rows]
    terminal.answer(
        answer, lambda: terminal.table(f"next twelve months from {day}", heads, cells, left=6)
    )
    return 1 if wrong else 0


def _broker_says(run: schema.Config, symbols: list[str], day: date) -> dict[str, str]:
    from mcl.live.contract_check import broker_says
    from mcl.market.calendar import parse_symbol

    return broker_says(
        run, [parse_symbol(symbol, day) for symbol in symbols], day, composition.root()
    )


def _day(text: str | None) -> date:
    try:
        return date.fromisoformat(text) if text else date.today()
    except ValueError:
        raise ConfigError(f"--on={text!r} is no day; for instance --on 2025-12-01") from None
