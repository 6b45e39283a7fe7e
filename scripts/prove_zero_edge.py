"""What every shipped strategy earns where there is nothing to earn: `make prove`.

A world without an edge has a mid that is a martingale, so what a position earns at the mid is luck
whose expectation is zero, whatever the strategy. The result of each preset, with the default costs
and risk, is split into that luck, the known pull of the level outside 50 to 90 USD, and the rest,
which is what trading costs: spread, slippage and commission. Two things are asked of each preset:

* No edge at the mid: the luck, over its own standard error, is inside the bound that fifteen
  presets together exceed once in twenty worlds.
* A loss after costs: the result without the luck is below zero with the whole of its 95 % interval,
  over pairs of worlds. The second world of a pair is the mirror of the first, every move with the
  other sign: the pull cancels out, too.

That the luck is subtracted changes no expectation, only the noise: it is a control variate whose
mean is known.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mcl import composition
from mcl.base.instants import NS
from mcl.composition.hydra_door import options
from mcl.config import schema
from mcl.data import loader
from mcl.data.bars import Bars
from mcl.data.sources.databento import DatabentoData
from mcl.data.sources.synthetic import SyntheticData
from mcl.data.synthetic import generator, price_process
from mcl.engine.backtest import backtest
from mcl.engine.result import Result
from mcl.market import calendar
from mcl.metrics import performance

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEVEL = 0.05
# trades nothing; needs quotes, which mirrored worlds do not have
LEFT_OUT = ("flat", "order_flow")


@dataclass(frozen=True)
class Mids:
    """The mid of every listed contract at every minute of a world. `luck` is the mid less the drift
    since the open of its session, ticks: float[minutes + 1, listed] per session.
    """

    day: Ints
    open_ns: Ints
    nearest: list[int]  # index into the chain of the first column
    luck: list[Floats]
    gap: list[Floats]  # at the open, since the end of the session before, by index into the chain
    drift: list[Floats]
    chain: dict[str, int]


@dataclass(frozen=True)
class Split:
    """The result of one preset in one world, USD: by session the luck, and the sums of the three
    parts.
    """

    luck: Floats
    pull_usd: float
    net_usd: float
    fills: int

    @property
    def expected_usd(self) -> float:
        """The result without the luck."""
        return self.net_usd - float(self.luck.sum())


@dataclass(frozen=True)
class Finding:
    """One preset over pairs of worlds, USD per world."""

    preset: str
    z: float  # of the luck
    luck_usd: float
    expected_usd: float
    low_usd: float
    high_usd: float
    fills: float

    @property
    def loses(self) -> bool:
        return self.high_usd < 0


def mids(seed: int, mirrored: bool, first: date, last: date) -> Mids:
    """Simulate a world once more for its mids, which its files do not hold."""
    table = calendar.sessions(first, last + timedelta(days=1))
    chain = {c.symbol: k for k, c in enumerate(price_process.chain(table))}
    found = Mids(table.day.astype(np.int64), table.open_ns, [], [], [], [], chain)
    before = np.full(len(chain), np.nan)
    for tape in price_process.simulate(table, seed, None, mirrored):
        minutes = np.arange(len(tape.mids))[:, None]
        gap = np.full(len(chain), np.nan)
        gap[tape.listed] = tape.mids[0] - before[tape.listed]
        found.nearest.append(int(tape.listed[0]))
        found.luck.append(tape.mids - tape.drift * minutes)
        found.gap.append(gap)
        found.drift.append(tape.drift)
        before[tape.listed] = tape.mids[-1]
    return found


def split(result: Result, world: Mids) -> Split:
    """Split a result into the luck of its positions at the mid, the pull, and the rest."""
    bars = result.bars
    session = np.searchsorted(world.day, bars.session.astype(np.int64))
    minute = (bars.close_time - world.open_ns[session]) // (60 * NS) - 1
    number = np.array([world.chain[c.symbol] for c in bars.contracts])[bars.contract]
    position = result.position.astype(np.float64)
    luck, pull = np.zeros(len(world.day)), 0.0
    edges = np.r_[0, np.flatnonzero(np.diff(session)) + 1, len(bars)]
    for start, stop in pairwise(edges.tolist()):
        s, rows = int(session[start]), slice(start, stop)
        at, column = minute[rows], number[rows] - world.nearest[s]
        level, drift = world.luck[s], world.drift[s]
        held = position[rows]
        luck[s] += held @ (level[at + 1, column] - level[at, column])
        pull += held @ drift[column]
        # between two bars, over minutes without a trade
        old, since, until = column[:-1], at[:-1] + 1, at[1:]
        luck[s] += held[:-1] @ (level[until, old] - level[since, old])
        pull += held[:-1] @ (drift[old] * (until - since))
        if start:  # what was held over the break, until the first bar
            k, kept = int(number[start - 1]), position[start - 1]
            column_before, column_now = k - world.nearest[s - 1], k - world.nearest[s]
            tail, since_close = world.luck[s - 1], int(minute[start - 1]) + 1
            luck[s] += kept * (tail[-1, column_before] - tail[since_close, column_before])
            luck[s] += kept * world.gap[s][k]
            luck[s] += kept * (level[at[0], column_now] - level[0, column_now])
            left = len(tail) - 1 - since_close
            pull += kept * (
                world.drift[s - 1][column_before] * left + drift[column_now] * int(at[0])
            )
    tick_usd = bars.instrument.tick_value_usd
    return Split(luck * tick_usd, pull * tick_usd, result.net_pnl_usd, len(result.fills))


def presets() -> list[str]:
    return [name for name in options("strategy") if name not in LEFT_OUT]


def config(preset: str) -> schema.Config:
    raw = composition.compose("backtest", [f"strategy={preset}"]).raw
    return composition.run_config(raw)


def world(seed: int, mirrored: bool, span: tuple[date, date], folder: Path) -> tuple[Bars, Mids]:
    """The bars of a world, rolled as the presets roll, and its mids."""
    spec = SyntheticData(source="synthetic", seed=seed)
    first, last = span
    home = generator.generate(spec, folder, first=first, last=last, mirrored=mirrored)
    data = DatabentoData(source="databento", path=str(home), roll=config(presets()[0]).data.roll)
    return loader.load(data, folder), mids(seed, mirrored, first, last)


def measure(
    seeds: Iterable[int], span: tuple[date, date], names: Sequence[str]
) -> dict[str, list[tuple[Split, Split]]]:
    """Every preset in every pair of worlds."""
    found: dict[str, list[tuple[Split, Split]]] = {name: [] for name in names}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            pair = [world(seed, mirrored, span, Path(folder)) for mirrored in (False, True)]
            for name in names:
                run = config(name)
                one, two = (split(backtest(run, bars), own) for bars, own in pair)
                found[name].append((one, two))
        print(f"seed {seed} and its mirror", file=sys.stderr, flush=True)
    return found


def judge(name: str, pairs: Sequence[tuple[Split, Split]]) -> Finding:
    """The luck of a preset over its standard error, and what it earns without it."""
    luck = np.concatenate([one.luck + two.luck for one, two in pairs]) / 2
    error = math.sqrt(float(np.sum(luck**2)))
    expected = np.array([(one.expected_usd + two.expected_usd) / 2 for one, two in pairs])
    mean = float(expected.mean())
    half = student(len(pairs) - 1) * float(expected.std(ddof=1)) / math.sqrt(len(pairs))
    fills = float(np.mean([(one.fills + two.fills) / 2 for one, two in pairs]))
    z = float(luck.sum()) / error if error else 0.0
    return Finding(name, z, float(luck.sum()) / len(pairs), mean, mean - half, mean + half, fills)


def student(degrees: int) -> float:
    """The 97.5 % quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(1 - LEVEL / 2, degrees))


def most_luck(presets_judged: int) -> float:
    """The z that so many presets exceed, any of them, in one of twenty measurements."""
    return performance.NORMAL.inv_cdf(1 - LEVEL / (2 * presets_judged))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="1,2,3,4,5", help="comma-separated, one pair each")
    parser.add_argument("--first", type=date.fromisoformat, default=generator.FIRST)
    parser.add_argument("--last", type=date.fromisoformat, default=generator.LAST)
    a = parser.parse_args()
    seeds = [int(text) for text in a.seeds.split(",")]
    names = presets()
    findings = [judge(*item) for item in measure(seeds, (a.first, a.last), names).items()]
    bound = most_luck(len(findings))
    print(
        f"SYNTHETIC DATA: worlds without an edge, version {generator.VERSION}, {len(seeds)} seeds"
        f" and their mirrors, sessions {a.first} to {a.last}. USD per world, default costs and"
        " risk.\n\npreset           fills   luck at the mid       z   without it   95 % interval"
    )
    for f in findings:
        print(
            f"{f.preset:14} {f.fills:7,.0f}   {f.luck_usd:15,.0f}   {f.z:5.2f}"
            f"   {f.expected_usd:10,.0f}   {f.low_usd:,.0f} to {f.high_usd:,.0f}"
        )
    lucky = [f.preset for f in findings if abs(f.z) > bound]
    winning = [f.preset for f in findings if not f.loses]
    print(f"\nan edge at the mid (|z| above {bound:.2f}): {', '.join(lucky) or 'none'}")
    print(f"not shown to lose after costs: {', '.join(winning) or 'none'}")
    return 1 if lucky or winning else 0


if __name__ == "__main__":
    raise SystemExit(main())
