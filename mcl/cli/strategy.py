"""new strategy, new source, check lookahead, check warmup."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from mcl import composition
from mcl.base import access_recorder, terminal
from mcl.base.errors import ConfigError
from mcl.base.words import many

if TYPE_CHECKING:
    from mcl.config import schema
    from mcl.data.bars import Bars
    from mcl.validation.lookahead import Lookahead, Warmup


def new(args: Namespace) -> int:
    from mcl.ops.scaffold import new_strategy

    written = new_strategy(args.name, composition.root())
    terminal.answer(
        {"name": args.name, "files": [str(path) for path in written]},
        lambda: _show_new(args.name, [str(p) for p in written]),
    )
    return 0


def source(args: Namespace) -> int:
    from mcl.ops.scaffold import new_source

    name, root = args.name, composition.root()
    written = [str(path) for path in new_source(name, root)]
    terminal.answer({"name": name, "files": written}, lambda: _show_source(name, written))
    return 0


def lookahead(args: Namespace) -> int:
    """1 when a later bar changes an earlier signal, target, order or indicator."""
    from mcl.validation import lookahead

    run, bars = _composed(args)
    bias = lookahead.lookahead(run, bars, args.samples, run.seed)
    terminal.answer(bias.as_dict(), lambda: _show_lookahead(bias, bars))
    return 1 if bias.has_bias else 0


def warmup(args: Namespace) -> int:
    """1 when the declared memory does not give the exact signal."""
    from mcl.validation import lookahead

    run, bars = _composed(args)
    warm = lookahead.warmup(run, bars, args.samples, _lengths(args.lengths), run.seed)
    terminal.answer(warm.as_dict(), lambda: _show_warmup(warm, bars))
    return 0 if warm.enough else 1


def _composed(args: Namespace) -> tuple[schema.Config, Bars]:
    from mcl.data.loader import load

    run = composition.compose("backtest", args.overrides).config
    return run, load(run.data, composition.root())


def _lengths(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise ConfigError(
            f"--lengths={text!r} is no list of whole numbers; for instance --lengths 20,100,500"
        ) from None


def _show_new(name: str, files: list[str]) -> None:
    for path in files:
        terminal.say(f"written: {path}")
    terminal.say(
        f"run it: mcl backtest strategy={name} · check it: mcl check lookahead strategy={name}, mcl"
        f" check warmup strategy={name}"
    )


def _show_source(name: str, files: list[str]) -> None:
    for path in files:
        terminal.say(f"written: {path}")
    terminal.say(
        f"test it: python -m pytest tests/data/test_{name}.py · read a file of it: mcl data info"
        f" data={name} data.path=FILE"
    )


def _show_lookahead(bias: Lookahead, bars: Bars) -> None:
    from mcl.data.data_note import data_note

    rows: list[list[object]] = [
        ["signals", bias.total_signals, "entries and exits in the whole sample"],
        [
            "entry signals that changed",
            bias.biased_entry_signals,
            "without the later bars the strategy would not have entered so",
        ],
        ["exit signals that changed", bias.biased_exit_signals, "or would not have left so"],
        ["targets that changed", bias.biased_targets, "positions that were wanted, in contracts"],
        ["orders that changed", bias.biased_orders, "their side, size or levels"],
        ["indicators that changed", ", ".join(bias.biased_indicators) or "none", "by name"],
    ]
    title = (
        f"look-ahead of {bias.strategy}: {many(bias.cuts, 'cut')} of {many(len(bars), 'bar')} and"
        f" {bias.windows} of a session around a row"
    )
    terminal.table(title, ["cut off the future", "found", "meaning"], rows, left=1)
    if note := data_note(bars):
        terminal.say(note)
    terminal.say("cut at: " + ", ".join(f"{count} {name}" for name, count in bias.sampled.items()))
    if bias.reads:
        terminal.say(access_recorder.sentence(bias.reads))
    terminal.say(
        f"BIASED: {bias.first or 'see the table'}"
        if bias.has_bias
        else "no later bar changed an earlier decision"
    )


def _show_warmup(warm: Warmup, bars: Bars) -> None:
    from mcl.data.data_note import data_note
    from mcl.validation.lookahead import cells

    heads = [
        "bars before",
        *(f"{n}{' = memory' if n == warm.memory else ''}" for n in warm.lengths),
    ]
    terminal.table(
        f"deviation of {warm.strategy} by warm-up, worst of {warm.samples} rows", heads, cells(warm)
    )
    if note := data_note(bars):
        terminal.say(note)
    verdict = (
        f"memory={warm.memory} is enough"
        if warm.enough
        else f"TOO SHORT: memory={warm.memory} bars do not give the exact signal"
    )
    terminal.say(f"{verdict} ('-' exact, nan% not computable)")
