"""Does it judge honestly? Many independent searches in worlds whose truth is known. `make
bench-honesty` runs it.

Each search is the real thing on a lighter world: generated hourly bars of one contract (23 a
session, 500 sessions to search and 126 held out, about 150 ticks of volatility a session), the real
strategies, kernel, limits, samplers and gates with their defaults. Nobody pays costs: on the null
they would be an edge of the judge, and with a planted edge a handicap. Left out are the run store,
minute bars, and the gates that ask the code and not the luck (look-ahead, warm-up, sessions on
paper).

* Without an edge at most 5 % of the worlds may end with a run that could trade real money, upper
  end of the 95 % interval included. The noise is Gaussian, Student-t with 4 degrees of freedom,
  Gaussian with a volatility that is autocorrelated over sessions, or the market's as the generator
  of `data=synthetic` makes it (hourly changes of the active contract). One family is 100 trials of
  ema_cross; nine families are 40 trials of each of nine strategies on one market, where each winner
  is looked at in turn and one that passes is enough. The samplers are random, TPE and CMA-ES.
* With a planted edge (the drift has the sign of EMA(8) - EMA(32) one bar before; its annual Sharpe
  is known) the share that passes is the power, beside that of one ideal test: told the rule in
  advance, one-sided at 5 %, on as many sessions.

Every world is one line in build/honesty.jsonl, so that an interrupted run continues; --fresh begins
anew, --short is a first look.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numba
import numpy as np

from mcl import composition
from mcl.base.errors import ConfigError
from mcl.config import schema
from mcl.config.promotion_rules import Promotion
from mcl.data.bars import Bars
from mcl.data.synthetic import price_process
from mcl.engine.backtest import backtest
from mcl.market import calendar
from mcl.market.instruments import MCL, Contract
from mcl.metrics import performance as perf
from mcl.metrics.cscv import overfitting
from mcl.metrics.summary import summary
from mcl.promotion.gates import Gate, at_least, at_most, searched, significant, unseen
from mcl.promotion.significance import Rivals, judge, points_of
from mcl.search.space import overlay, parse
from mcl.search.study import Study
from mcl.search.trial import Outcome, session_days
from mcl.tracking.trial_ledger import Tally, TrialPool
from mcl.validation import neighbourhood
from mcl.validation.holdout import Look, simulated
from mcl.validation.subject import Subject

SESSIONS, UNSEEN, BARS_A_SESSION = 500, 126, 23
VOLATILITY_TICKS = 150.0  # of a session
PLANTED_FAST, PLANTED_SLOW = 8, 32
CAPITAL = 25_000.0
FIRST_SESSION = 19_000
NOISES = ("gaussian", "student-t4", "volatility", "market")
FIRST_GENERATED = date(2021, 1, 4)  # of the sessions that the generator is asked for
SAMPLERS = ("random", "tpe", "cmaes")
EDGES = (1.0, 1.5, 2.0)
WANTED = {1.0: 0.25, 1.5: 0.52, 2.0: 0.77}  # power
MOST_FALSE = 0.05
LARGEST_P = 0.12  # above what any stage lets pass
TRIALS = {1: 100, 9: 40}  # of each family, by the number of families
PERSISTENCE, SHOCK = 0.97, 0.15  # of the logarithm of the volatility, by session
SPACES = {  # in hourly bars
    "ema_cross": {
        "fast": "tag(log, int(interval(2, 32)))",
        "slow": "tag(log, int(interval(10, 128)))",
    },
    "macd": {
        "fast": "int(interval(3, 20))",
        "slow": "int(interval(21, 80))",
        "smooth": "int(interval(3, 20))",
    },
    "donchian": {"channel": "int(interval(4, 100))", "hold": "int(interval(10, 200))"},
    "tsmom": {"lookback": "tag(log, int(interval(4, 400)))"},
    "adx_trend": {"bars": "tag(log, int(interval(4, 64)))", "level": "interval(4.0, 30.0)"},
    "bollinger": {
        "bars": "int(interval(5, 100))",
        "width": "interval(1.0, 3.0)",
        "hold": "int(interval(10, 200))",
    },
    "keltner": {
        "bars": "int(interval(5, 60))",
        "atr_bars": "int(interval(5, 40))",
        "width": "interval(1.0, 6.0)",
    },
    "supertrend": {
        "bars": "int(interval(3, 30))",
        "width": "interval(1.0, 6.0)",
        "anchor": "int(interval(20, 150))",
    },
    "rsi_reversion": {
        "bars": "tag(log, int(interval(4, 40)))",
        "low": "interval(20.0, 45.0)",
        "high": "interval(55.0, 80.0)",
    },
}


@dataclass(frozen=True)
class Case:
    """One world, and how it is searched. `edge` is the planted annual Sharpe ratio, 0 for none."""

    noise: str
    families: int
    sampler: str
    edge: float
    seed: int

    @property
    def key(self) -> str:
        return f"{self.noise} {self.families} {self.sampler} {self.edge:g} {self.seed}"


@dataclass(frozen=True)
class Verdict:
    """How a world ended: whether any run of it passed the gates for paper and for live, and what
    the first family showed.
    """

    key: str
    paper: bool
    live: bool
    sharpe: float  # of the winner, annual
    p_value: float
    market_p_value: float
    missed: tuple[str, ...]  # for live
    values: dict[str, float]  # of all gates for live
    trials: int


@dataclass(frozen=True)
class Found:
    """What one search ended with."""

    family: str
    outcomes: list[Outcome]  # simulated
    best: Outcome
    raw: dict[str, Any]

    @property
    def matrix(self) -> perf.Floats:
        return np.column_stack([outcome.returns for outcome in self.outcomes])


def world(case: Case, sessions: int = SESSIONS + UNSEEN) -> Bars:
    """Hourly bars of the case."""
    n = sessions * BARS_A_SESSION
    rng = np.random.default_rng(
        [case.seed, NOISES.index(case.noise), case.families, int(100 * case.edge)]
    )
    drift = case.edge * VOLATILITY_TICKS / math.sqrt(252) / BARS_A_SESSION
    closes = np.rint(
        20_000 + _path(_noise(rng, case.noise, sessions), drift, PLANTED_FAST, PLANTED_SLOW)
    )
    opens = np.concatenate([closes[:1], closes[:-1]])
    rows = np.arange(n)
    session, within = FIRST_SESSION + rows // BARS_A_SESSION, rows % BARS_A_SESSION
    ticks = {
        "open": opens,
        "high": np.maximum(opens, closes),
        "low": np.minimum(opens, closes),
        "close": closes,
    }
    return Bars.of(
        MCL,
        "1h",
        (session * 24 + within + 1) * 3_600_000_000_000,
        {name: values * 0.01 for name, values in ticks.items()},
        volume=np.full(n, 1000),
        session=session,
        to_close_sec=(BARS_A_SESSION - 1 - within) * 3600,
        contracts=(Contract("MCLZ9", "MCL", 2099, 12, date(2099, 11, 19)),),
        fingerprint=f"honesty {case.key}",
        synthetic=True,
    )


def _noise(rng: np.random.Generator, kind: str, sessions: int) -> perf.Floats:
    scale, n = VOLATILITY_TICKS / math.sqrt(BARS_A_SESSION), sessions * BARS_A_SESSION
    if kind == "student-t4":
        return rng.standard_t(4, n) * scale / math.sqrt(2)
    if kind == "gaussian":
        return rng.normal(0.0, scale, n)
    if kind == "market":
        return _market_noise(int(rng.integers(2**31)), sessions)
    shocks, variance = rng.normal(0.0, SHOCK, sessions), SHOCK**2 / (1 - PERSISTENCE**2)
    level, levels = float(rng.normal(0.0, math.sqrt(variance))), np.empty(sessions)
    for i, shock in enumerate(shocks):
        level = PERSISTENCE * level + shock
        levels[i] = level
    shocks_of_bars = rng.normal(0.0, scale, n)
    return np.asarray(shocks_of_bars * np.repeat(np.exp(levels - variance), BARS_A_SESSION))


def _market_noise(seed: int, sessions: int) -> perf.Floats:
    """Hourly changes of the active contract of a generated world, in ticks: whole sessions, the
    break before a session in its first hour, without the gaps of rolls.
    """
    table = calendar.sessions(FIRST_GENERATED, FIRST_GENERATED + timedelta(days=2 * sessions))
    changes: list[perf.Floats] = []
    before: dict[int, float] = {}
    for tape in price_process.simulate(table, seed, None):
        active = int(np.searchsorted(tape.to_last_trade, price_process.ROLL_SESSIONS, "right"))
        rows = tape.rows
        own = rows[rows[:, price_process.INSTRUMENT] == active]
        hour = np.minimum(own[:, price_process.MINUTE] // 60, BARS_A_SESSION - 1)
        last = np.searchsorted(hour, np.arange(BARS_A_SESSION), "right") - 1
        closes = own[np.maximum(last, 0), price_process.CLOSE].astype(float)
        start = before.get(int(tape.listed[active]), float(own[0, price_process.OPEN]))
        changes.append(np.diff(closes, prepend=start))
        for k, listed in enumerate(tape.listed[: active + 2]):
            traded = rows[rows[:, price_process.INSTRUMENT] == k]
            if len(traded):
                before[int(listed)] = float(traded[-1, price_process.CLOSE])
        if len(changes) == sessions:
            break
    loudness = VOLATILITY_TICKS / price_process.SESSION_SD_TICKS
    return np.concatenate(changes) * loudness


@numba.njit
def _path(noise: np.ndarray, drift: float, fast: int, slow: int) -> np.ndarray:
    level, quick, lazy = 0.0, 0.0, 0.0
    out = np.empty(len(noise))
    for i in range(len(noise)):
        side = 1.0 if quick > lazy else -1.0 if quick < lazy else 0.0
        level += noise[i] + drift * side
        quick += (level - quick) * 2.0 / (fast + 1.0)
        lazy += (level - lazy) * 2.0 / (slow + 1.0)
        out[i] = level
    return out


@cache
def rules() -> Promotion:
    return composition.validate(
        Promotion, composition.compose("promote", []).raw["promotion"], "promotion"
    )


@cache
def base(family: str) -> dict[str, Any]:
    """The configuration that a search varies."""
    words = [f"strategy={family}", "risk=fixed", "costs=free"]
    composed = composition.compose("backtest", words)
    raw = composed.raw
    data = {
        "source": "synthetic",
        "interval": "1h",
        "holdout_start": str(np.datetime64(FIRST_SESSION + SESSIONS, "D")),
    }
    limits = raw["risk"]["limits"] | {"max_daily_loss_usd": None, "max_drawdown_frac": None}
    run = {
        "data": data,
        "strategy": composed.config.strategy,  # in bars: a world here has bars of its own
        "risk": raw["risk"] | {"limits": limits},
        "costs": raw["costs"],
    }
    return composition.run_config(run | {"capital_usd": CAPITAL}).model_dump(mode="json")


def search(case: Case, family: str, bars: Bars, count: int) -> Found | None:
    """As many simulated trials as asked, by the product's own sampler and objective; None when
    nothing in it has a score.
    """
    raw = base(family)
    space = parse({"strategy": SPACES[family]}, raw)
    logging.getLogger("optuna").setLevel(logging.ERROR)
    settings = schema.Search(sampler=cast(Any, case.sampler), trials=count, space={})
    seed = int(np.random.default_rng([case.seed, len(family), count]).integers(2**31))
    study = Study(space, settings, seed)
    simulated_ones: list[Outcome] = []
    known: dict[str, Outcome] = {}
    for number in range(6 * count):
        _, values = study.ask()
        name = json.dumps(values, sort_keys=True)
        outcome = known.setdefault(
            name, known.get(name) or _simulated(number, values, raw, bars, settings.min_trades)
        )
        if outcome.number == number and len(outcome.returns):
            simulated_ones.append(outcome)
        study.tell(Outcome(number, values, outcome.state, outcome.reason, value=outcome.value))
        if len(simulated_ones) == count:
            break
    scored = [outcome for outcome in simulated_ones if outcome.state == "COMPLETE"]
    best = max(scored, key=lambda outcome: outcome.value, default=None)
    return Found(family, simulated_ones, best, raw) if best else None


def _simulated(
    number: int, values: dict[str, Any], raw: dict[str, Any], bars: Bars, min_trades: int
) -> Outcome:
    """As `mcl.search.trial.Objective` judges a point, without the metrics that no gate here asks
    for.
    """
    try:
        run = composition.run_config(overlay(raw, values))
    except ConfigError:
        return Outcome(number, values, "PRUNED", "constraint")
    result = backtest(run, bars)
    ratio = perf.sharpe(result.session_returns)
    scored = len(result.trades) >= min_trades and math.isfinite(ratio)
    return Outcome(
        number=number,
        params=values,
        state="COMPLETE" if scored else "PRUNED",
        value=ratio if scored else math.nan,
        metrics={"sharpe": ratio},
        sessions=session_days(result),
        returns=result.session_returns.to_numpy(),
    )


def verdict(case: Case) -> Verdict:
    """Search a world, and judge the winner of every family in turn."""
    whole = world(case)
    bars = whole.rows(0, SESSIONS * BARS_A_SESSION)
    families = list(SPACES)[: case.families]
    found = [
        done
        for family in families
        if (done := search(case, family, bars, TRIALS[case.families])) is not None
    ]
    tables = [_judged(done, found, whole, bars, number) for number, done in enumerate(found, 1)]
    if not tables:
        return Verdict(
            case.key, False, False, math.nan, math.nan, math.nan, ("no trial has a score",), {}, 0
        )
    values = {gate.name: gate.value for gate in tables[0]["live"]}
    return Verdict(
        key=case.key,
        paper=any(all(gate.open for gate in table["paper"]) for table in tables),
        live=any(all(gate.open for gate in table["live"]) for table in tables),
        sharpe=found[0].best.value,
        p_value=values["p_value"],
        market_p_value=values["market_p_value"],
        missed=tuple(gate.name for gate in tables[0]["live"] if not gate.open),
        values=values,
        trials=sum(len(done.outcomes) for done in found),
    )


def _judged(
    done: Found, every: Sequence[Found], whole: Bars, bars: Bars, number: int
) -> dict[str, tuple[Gate, ...]]:
    """The gates for paper and for live of one winner, which is the `number`-th to be looked at."""
    run = composition.run_config(overlay(done.raw, done.best.params))
    result = backtest(run, bars)
    unseen_result = simulated(run, whole)
    measured, returns = summary(unseen_result), unseen_result.session_returns.to_numpy()
    look = Look(
        measured["sharpe"],
        measured["trades"],
        len(returns),
        number,
        "honesty",
        f"{len(returns)} unseen sessions",
        number,
        returns,
    )
    tally = Tally(
        TrialPool(done.family, "honesty"),
        {str(o.number): o.metrics["sharpe"] / math.sqrt(252) for o in done.outcomes},
    )
    days = done.best.sessions
    family = Rivals(days, done.matrix)
    market = (
        family
        if len(every) == 1
        else Rivals(days, np.column_stack([other.matrix for other in every]))
    )
    space = parse({"strategy": SPACES[done.family]}, done.raw)
    about = Subject(cast(Any, None), run, bars, space, "")
    test = judge(done.best.returns, days, family, market, look)
    # the points of the space only make it larger, and most worlds are refused without them
    if test.p_value <= LARGEST_P:
        test = judge(done.best.returns, days, family, market, look, points_of(about))
    shared = (*searched(rules(), result, tally, look, "live"), *unseen(rules(), look))
    tables = {stage: (*shared, *significant(rules(), test, stage)) for stage in ("paper", "live")}
    # what computes again is asked last
    if any(all(gate.open for gate in table) for table in tables.values()):
        again = _robust(done, about)
        tables = {stage: (*table, *again) for stage, table in tables.items()}
    return tables


def _robust(done: Found, about: Subject) -> tuple[Gate, ...]:
    """Costs, plateau and probability of overfitting as mcl.promotion.robustness_gates asks them,
    without a store.
    """
    around = neighbourhood.plateau(about, lambda: None)
    found = (
        at_least(
            "doubled_costs_sharpe",
            done.best.value,
            rules().min_doubled_costs_sharpe,
            "twice nothing",
        ),
        at_least(
            "plateau_frac",
            around.share_of_centre(0.25),
            rules().min_plateau_frac,
            "as in promotion",
        ),
        (
            None
            if rules().max_pbo is None
            else at_most("pbo", overfitting(done.matrix).pbo, rules().max_pbo, "as in promotion")
        ),
    )
    return tuple(gate for gate in found if gate is not None)


def ideal_power(edge_sharpe: float, sessions: int) -> float:
    """Of one test of the rule that is known in advance, level 5 %, one-sided."""
    return perf.NORMAL.cdf(edge_sharpe * math.sqrt(sessions / 252) - perf.NORMAL.inv_cdf(0.95))


def wilson(hits: int, of: int) -> tuple[float, float]:
    """95 % interval of a share."""
    z = perf.NORMAL.inv_cdf(0.975)
    middle = (hits + z * z / 2) / (of + z * z)
    half = z / (of + z * z) * math.sqrt(hits * (of - hits) / of + z * z / 4)
    return middle - half, middle + half


def cases(null: int, nine: int, planted: int, noises: Sequence[str] = NOISES) -> list[Case]:
    """Worlds without an edge, `null` of one family and `nine` of nine for each noise and sampler,
    and `planted` for each edge.
    """
    found = [Case(n, 1, s, 0.0, i) for i in range(null) for n in noises for s in SAMPLERS]
    found += [Case(n, 9, s, 0.0, i) for i in range(nine) for n in noises for s in SAMPLERS]
    found += [
        Case("gaussian", 1, SAMPLERS[i % 3], edge, i) for i in range(planted) for edge in EDGES
    ]
    # an interrupted run has some of everything
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i] for i in order]


def run(
    wanted: Iterable[Case], path: Path, workers: int, minutes: float = math.inf
) -> dict[str, Verdict]:
    """Judge the worlds that the file does not hold yet, one line each."""
    known = {v.key: v for v in map(_read, path.read_text().splitlines())} if path.is_file() else {}
    missing = [case for case in wanted if case.key not in known]
    started = time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("a") as file,
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
    ):
        jobs = [pool.submit(verdict, case) for case in missing]
        for done, job in enumerate(as_completed(jobs), 1):
            found = job.result()
            known[found.key] = found
            file.write(json.dumps(asdict(found)) + "\n")
            file.flush()
            if time.monotonic() - started > 60 * minutes:
                pool.shutdown(cancel_futures=True)
                break
            if done % 50 == 0:
                rest = (time.monotonic() - started) / done * (len(jobs) - done)
                print(
                    f"{done}/{len(jobs)} worlds, about {rest / 60:.0f} min left",
                    file=sys.stderr,
                    flush=True,
                )
    return known


def _read(line: str) -> Verdict:
    fields = json.loads(line)
    return Verdict(**fields | {"missed": tuple(fields["missed"])})


def report(wanted: Sequence[Case], known: dict[str, Verdict]) -> bool:
    """Print both tables and their criteria; whether all are met."""
    print(
        f"{SESSIONS} sessions searched, {UNSEEN} held out, no costs, gates with their defaults."
        " SYNTHETIC DATA throughout."
    )
    return all([without_edge(wanted, known), with_edge(wanted, known)])


def without_edge(wanted: Sequence[Case], known: dict[str, Verdict]) -> bool:
    print(
        "\nNo edge                                  worlds   to live   95 % interval     to paper"
    )
    null = [case for case in wanted if case.edge == 0]
    groups = {
        f"{noise}, {'one family' if families == 1 else 'nine families'}": [
            c for c in null if (c.noise, c.families) == (noise, families)
        ]
        for families in (1, 9)
        for noise in NOISES
    }
    groups |= {
        f"sampler {sampler}": [case for case in null if case.sampler == sampler]
        for sampler in SAMPLERS
    }
    groups |= {f"{noise}, both": [case for case in null if case.noise == noise] for noise in NOISES}
    groups |= {
        "all of one family": [c for c in null if c.families == 1],
        "all of nine": [c for c in null if c.families == 9],
        "all": null,
    }
    for name, some in groups.items():
        if some:
            found = [known[case.key] for case in some]
            live, paper = sum(v.live for v in found), sum(v.paper for v in found)
            low, high = wilson(live, len(found))
            line = (
                f"  {name:38} {len(found):6}   {live / len(found):7.1%}   {low:5.1%} to {high:5.1%}"
                f"   {paper / len(found):8.1%}"
            )
            print(line)
    ends = {}
    for name, some in groups.items():
        if name.startswith("all") and some:
            ends[name] = wilson(sum(known[case.key].live for case in some), len(some))[1]
    met = max(ends.values()) <= MOST_FALSE
    said = ", ".join(f"{name} {end:.1%}" for name, end in ends.items())
    print(
        f"  false promotions to live at most {MOST_FALSE:.0%} with the upper end: {said}:"
        f" {'met' if met else 'NOT MET'}"
    )
    return met


def with_edge(wanted: Sequence[Case], known: dict[str, Verdict]) -> bool:
    print(
        "\nPlanted edge     worlds   to live   wanted            to paper   ideal test at 5 %,"
        f" {SESSIONS + UNSEEN} sessions"
    )
    every = True
    for edge, least in WANTED.items():
        found = [known[case.key] for case in wanted if case.edge == edge]
        if not found:
            continue
        live, paper = (
            float(np.mean([getattr(v, name) for v in found])) for name in ("live", "paper")
        )
        met = live >= least
        every &= met
        ideal = ideal_power(edge, SESSIONS + UNSEEN)
        word = "met" if met else "NOT MET"
        print(
            f"  Sharpe {edge:3.1f}     {len(found):6}   {live:7.1%}   {least:.0%} {word:8}  "
            f" {paper:8.1%}   {ideal:8.1%}"
        )
        missed = [name for v in found for name in v.missed]
        print(
            "                 missed:"
            f" {', '.join(f'{name} {missed.count(name)}' for name in sorted(set(missed)))}"
        )
    return every


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--null", type=int, default=100, help="worlds of one family for each noise and sampler"
    )
    parser.add_argument(
        "--nine", type=int, default=40, help="worlds of nine families for each noise and sampler"
    )
    parser.add_argument("--planted", type=int, default=400, help="worlds for each planted edge")
    parser.add_argument("--noises", default=",".join(NOISES), help="without an edge, by comma")
    parser.add_argument("--short", action="store_true", help="a twentieth of all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--file", type=Path, default=composition.root() / "build" / "honesty.jsonl")
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="start no world after this, and report those that are judged",
    )
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs have judged")
    a = parser.parse_args()
    if a.fresh:
        a.file.unlink(missing_ok=True)
    share = 20 if a.short else 1
    null, nine, planted = (n and max(1, n // share) for n in (a.null, a.nine, a.planted))
    wanted = cases(null, nine, planted, noises=a.noises.split(","))
    started = time.monotonic()
    known = run(wanted, a.file, a.workers, a.minutes)
    wanted = [case for case in wanted if case.key in known]
    met = report(wanted, known)
    print(
        f"\n{len(wanted)} worlds, {sum(known[case.key].trials for case in wanted):,} trials, in"
        f" {time.monotonic() - started:.0f} s"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
