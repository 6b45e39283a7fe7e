"""new strategy, check lookahead, check warmup."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from mcl import accesses, config, screen
from mcl.errors import ConfigError

if TYPE_CHECKING:
    from mcl import schema
    from mcl.check import Lookahead, Warmup
    from mcl.data.bars import Bars


def new(args: Namespace) -> int:
    from mcl.scaffold import new_strategy

    written = new_strategy(args.name, config.root())
    screen.answer({"name": args.name, "files": [str(path) for path in written]}, lambda: _show_new(args.name, [str(p) for p in written]))
    return 0


def lookahead(args: Namespace) -> int:
    """1 when a later bar changes an earlier signal, target, order or indicator."""
    from mcl import check

    run, bars = _composed(args)
    found = check.lookahead(run, bars, args.samples, run.seed)
    screen.answer(found.as_dict(), lambda: _show_lookahead(found, bars))
    return 1 if found.has_bias else 0


def warmup(args: Namespace) -> int:
    """1 when the declared memory does not give the exact signal."""
    from mcl import check

    run, bars = _composed(args)
    warm = check.warmup(run, bars, args.samples, _lengths(args.lengths), run.seed)
    screen.answer(warm.as_dict(), lambda: _show_warmup(warm, bars))
    return 0 if warm.enough else 1


def _composed(args: Namespace) -> tuple[schema.Config, Bars]:
    from mcl.data.load import load

    run = config.compose("backtest", args.overrides).config
    return run, load(run.data, config.root())


def _lengths(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise ConfigError(f"--lengths={text!r} is no list of whole numbers; for instance --lengths 20,100,500") from None


def _show_new(name: str, files: list[str]) -> None:
    for path in files:
        screen.say(f"written: {path}")
    screen.say(f"run it: mcl backtest strategy={name} · check it: mcl check lookahead strategy={name}, mcl check warmup strategy={name}")


def _show_lookahead(found: Lookahead, bars: Bars) -> None:
    from mcl.evidence import watermark

    rows: list[list[object]] = [
        ["signals", found.total_signals, "entries and exits in the whole sample"],
        ["entry signals that changed", found.biased_entry_signals, "without the later bars the strategy would not have entered so"],
        ["exit signals that changed", found.biased_exit_signals, "or would not have left so"],
        ["targets that changed", found.biased_targets, "positions that were wanted, in contracts"],
        ["orders that changed", found.biased_orders, "their side, size or levels"],
        ["indicators that changed", ", ".join(found.biased_indicators) or "none", "by name"],
    ]
    title = f"look-ahead of {found.strategy}: {found.cuts} cuts of {len(bars):,} bars and {found.windows} of a session around a row"
    screen.table(title, ["cut off the future", "found", "meaning"], rows, left=1)
    if bars.synthetic:
        screen.say(watermark(bars))
    screen.say("cut at: " + ", ".join(f"{count} {name}" for name, count in found.sampled.items()))
    if found.reads:
        screen.say(accesses.sentence(found.reads))
    screen.say(f"BIASED: {found.first or 'see the table'}" if found.has_bias else "no later bar changed an earlier decision")


def _show_warmup(warm: Warmup, bars: Bars) -> None:
    from mcl.check import cells
    from mcl.evidence import watermark

    heads = ["bars before", *(f"{n}{' = memory' if n == warm.memory else ''}" for n in warm.lengths)]
    screen.table(f"deviation of {warm.strategy} by warm-up, worst of {warm.samples} rows", heads, cells(warm))
    if bars.synthetic:
        screen.say(watermark(bars))
    verdict = f"memory={warm.memory} is enough" if warm.enough else f"TOO SHORT: memory={warm.memory} bars do not give the exact signal"
    screen.say(f"{verdict} ('-' exact, nan% not computable)")
