"""The price process behind the synthetic world: one session at a time, all listed expiries at once,
trade by trade.

Every price is a martingale by construction: the common factor and the curve factor have independent
symmetric steps whose size is fixed before they are drawn (session volatility, minute of the day, a
noise shared with volume), so nothing in the past of a contract says where it goes. The planted
world adds one thing: a drift of known size whose sign is the sign of an EMA cross on the active
contract's printed closes, known one bar earlier. Figures are measured on CL, 2018 to 2026, unless a
line says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from mcl.base.jit import njit
from mcl.data.synthetic import calibration
from mcl.market import calendar
from mcl.market.calendar import Sessions
from mcl.market.instruments import Contract

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Random = np.random.Generator

# Part of every seed. The first number with which the default seed gives ordinary worlds: volatility
# within 5 % of SESSION_SD, prices
# between 40 and 110. What a strategy earns there was no criterion.
STREAM = 5
LISTED = 12  # serial months
START_TICKS = 7000.0  # 70.00 USD per barrel
CURVE_STEP_TICKS = 20.0  # each later expiry starts this much lower: backwardation, as in 2025
# the active contract is the nearest with more sessions than this to its last trade
ROLL_SESSIONS = 3

# Session volatility: lognormal, median 1.58 %, sd of log 0.30, lag-1 autocorrelation 0.66 = a slow
# part and daily noise.
RV_MEDIAN, RV_LOG_SD, SLOW_PHI, SLOW_SHARE = 0.0158, 0.30, 0.97, 0.68
# Breaks, as fractions of price: 7 ticks at 70 on a weekday; over a weekend 80 % sd 15 ticks, 20 %
# sd 150 ticks.
BREAK_SD, WEEKEND_SD, WEEKEND_WILD_SD, WEEKEND_WILD = 0.0010, 0.0021, 0.021, 0.20
JUMP_PROBABILITY, JUMP_SD = 0.015, 0.045  # sessions that move by more than 5 %: 12 of 523
EIA_SD = 0.0027  # inventory report, Wednesday 10:30
SESSION_SD = float(  # of a front contract's session change, as a fraction of its price
    np.sqrt(
        RV_MEDIAN**2 * np.exp(2 * RV_LOG_SD**2)
        + 0.8 * BREAK_SD**2
        + 0.2 * ((1 - WEEKEND_WILD) * WEEKEND_SD**2 + WEEKEND_WILD * WEEKEND_WILD_SD**2)
        + JUMP_PROBABILITY * JUMP_SD**2
        + 0.2 * EIA_SD**2
    )
)
SAMUELSON = 0.03  # a contract one month later moves 3 % less
# the curve factor's sd over the front's; its weight fades with e^(-month/4), so that c2 - c1 moves
# 0.1 of c1
CURVE_SD = 0.44
# all expiries; front 40 to 80 thousand
VOLUME_MEDIAN, VOLUME_LOG_SD, VOLUME_RV_CORRELATION = 75_000.0, 0.30, 0.42
CONTRACT_VOLUME_SD = 0.12  # own noise of a contract's session volume (an assumption)
# a calendar spread trades this share of the geometric mean of its legs (an assumption)
SPREAD_SHARE = 0.02
HOLIDAY_VOLUME, HOLIDAY_VOL = 0.3, 0.6  # a half session against a whole one (an assumption)

SUBSTEPS = 16
NOISE_SD, NOISE_PHI = 0.69, 0.57  # log volume of a minute around its expectation
NOISE_TO_VOL = 0.25
STUDENT = 5.0
CLUSTER = 4.5  # contracts that trade together: P(no bar) = exp(-expected contracts / cluster)
MINUTE, INSTRUMENT, OPEN, HIGH, LOW, CLOSE, VOLUME = range(7)  # columns of a tape
# what the planted rule remembers
FAST, SLOW, ALPHA_FAST, ALPHA_SLOW, DRIFT, OFFSET, SIGN = range(7)


@dataclass(frozen=True)
class Edge:
    """The planted rule: hold the sign of EMA(fast) - EMA(slow) of 1-minute closes; `sharpe` a year
    before costs.
    """

    sharpe: float
    fast: int
    slow: int


@dataclass(frozen=True)
class SyntheticSession:
    """One session. rows: int64[m, 7], columns MINUTE … VOLUME, prices in ticks, sorted by minute,
    then instrument.

    Instruments 0 … 11 are `listed` in that order (indices into the chain), 12 … 22 the spreads of
    neighbours.
    """

    session: int
    listed: Ints
    to_last_trade: Ints  # sessions, per listed contract
    rows: Ints
    settle: Floats  # price at 14:30 (or the close, if earlier), ticks, not rounded


@njit
def _activity(rng: Random, noise: Floats) -> float:
    """Step the minute's log noise (an AR(1)); what it does to the expected volume, mean 1."""
    noise[0] = NOISE_PHI * noise[0] + NOISE_SD * np.sqrt(1 - NOISE_PHI**2) * rng.standard_normal()
    return float(np.exp(noise[0] - NOISE_SD**2 / 2))


@njit
def _width(rng: Random, noise: float) -> float:
    """Return the effect of volume noise and fat tails (Student t) on the minute's sd; the mean of
    its square is 1.
    """
    return float(
        np.exp(NOISE_TO_VOL * noise - (NOISE_TO_VOL * NOISE_SD) ** 2)
        * np.sqrt((STUDENT - 2) / (2 * rng.standard_gamma(STUDENT / 2)))
    )


@njit
def _path(rng: Random, path: Floats, sd: float, jump: float, drift: float) -> None:
    """Cumulated common-factor moves at the sub-steps of one minute, in ticks."""
    level, step = jump, sd / np.sqrt(SUBSTEPS)
    for s in range(SUBSTEPS):
        level += step * rng.standard_normal() + drift / SUBSTEPS
        path[s] = level


@njit
def _bar(
    rng: Random, row: Ints, clusters: int, start: float, beta: float, path: Floats, slope: float
) -> None:
    """Open, high, low, close of the trades of one instrument: at all sub-steps, or at as many
    random ones as there were clusters.
    """
    need, first = min(clusters, SUBSTEPS), True
    for s in range(SUBSTEPS):
        if need < SUBSTEPS - s and rng.random() * (SUBSTEPS - s) >= need:
            continue
        need -= 1
        ticks = int(np.rint(start + beta * path[s] + slope * (s + 1) / SUBSTEPS))
        if first:
            row[OPEN] = row[HIGH] = row[LOW] = ticks
            first = False
        row[HIGH], row[LOW], row[CLOSE] = max(row[HIGH], ticks), min(row[LOW], ticks), ticks
        if need == 0:
            break


@njit
def _follow(rule: Floats, close: float) -> None:
    """Take one printed close of the active contract into the planted rule."""
    level = close + rule[OFFSET]
    if np.isnan(rule[FAST]):
        rule[FAST] = rule[SLOW] = level
    rule[FAST] += rule[ALPHA_FAST] * (level - rule[FAST])
    rule[SLOW] += rule[ALPHA_SLOW] * (level - rule[SLOW])
    rule[SIGN] = np.sign(rule[FAST] - rule[SLOW])


@njit
def _trade(
    rng: Random,
    noise: Floats,
    rule: Floats,
    active: int,
    price: Floats,
    beta: Floats,
    gamma: Floats,
    volume: Floats,
    share: Floats,
    sd: Floats,
    jump: Floats,
    settle_minute: int,
    settle: Floats,
    rows: Ints,
) -> int:
    """Trade one session into `rows`; returns their number. Arrays `price` … `volume` have one
    element per instrument, `share` … `jump` one per minute. `price`, `noise`, `rule` and `settle`
    are updated in place.
    """
    path, count = np.empty(SUBSTEPS), 0
    for t in range(len(share)):
        activity = _activity(rng, noise)
        width = sd[t] * _width(rng, noise[0])
        slope = CURVE_SD * width * rng.standard_normal()
        _path(rng, path, np.sqrt(1 - CURVE_SD**2) * width, jump[t], rule[DRIFT] * rule[SIGN])
        for m in range(len(volume)):
            clusters = rng.poisson(volume[m] * share[t] * activity / CLUSTER)
            if clusters == 0:
                continue
            row = rows[count]
            row[MINUTE], row[INSTRUMENT] = t, m
            row[VOLUME] = clusters + rng.poisson(
                (CLUSTER - 1) * rng.standard_gamma(float(clusters))
            )
            _bar(rng, row, clusters, price[m], beta[m], path, gamma[m] * slope)
            if m == active:
                _follow(rule, float(row[CLOSE]))
            count += 1
        price += beta * path[-1] + gamma * slope
        if t == settle_minute:
            settle[:] = price[: len(settle)]
    return count


def chain(table: Sessions) -> list[Contract]:
    """Every MCL contract that is listed in one of these sessions, nearest first."""
    first, last = table.dates[0], table.dates[-1]
    months = [
        divmod(n, 12)
        for n in range(12 * first.year + first.month - 1, 12 * last.year + last.month + LISTED + 2)
    ]
    contracts = [calendar.contract("MCL", year, month + 1) for year, month in months]
    return [c for c in contracts if c.last_trade_date >= first and listing_date(c) < last]


def listing_date(contract: Contract) -> date:
    """The contract is listed from the session after this date: the last trade of the same month a
    year before.
    """
    return calendar.last_trade_date(contract.root, contract.year - 1, contract.month)


def simulate(table: Sessions, seed: int, edge: Edge | None) -> Iterator[SyntheticSession]:
    """The sessions of `table`, one tape each. The same seed gives the same noise in both worlds."""
    contracts = chain(table)
    expiries = np.array([calendar.to_day(c.last_trade_date) for c in contracts])
    ahead = calendar.sessions(table.dates[0], table.dates[-1] + timedelta(days=450)).day
    daily, tape = (
        Random(np.random.PCG64(child)) for child in np.random.SeedSequence((STREAM, seed)).spawn(2)
    )
    price = np.full(len(contracts), START_TICKS)
    # a new contract is listed this much under its neighbour
    below = daily.normal(CURVE_STEP_TICKS, 5.0, len(contracts))
    # the crossover of volume comes up to two sessions earlier, as it did in 2025
    early = daily.integers(0, 3, len(contracts))
    days = _days(table, daily)
    noise, rule, active, listed_to = np.zeros(1), _rule(edge), 0, 1
    rows, settle = np.empty((1380 * (2 * LISTED - 1), 7), np.int64), np.empty(LISTED)
    for n, day in enumerate(days):
        near = int(np.searchsorted(expiries, table.day[n]))
        for k in range(listed_to, near + LISTED):
            price[k] = price[k - 1] - below[k]
        listed_to = near + LISTED
        left = np.searchsorted(ahead, expiries[near : near + LISTED]) - n
        now = near + int(np.searchsorted(left, ROLL_SESSIONS, "right"))
        rule[OFFSET] += price[active] - price[now]
        active, level = now, price[now]
        if edge is not None:
            rule[DRIFT] = (
                edge.sharpe / np.sqrt(calendar.SESSIONS_PER_YEAR) * SESSION_SD * level / 1380
            )
        volume = (
            day.volume
            * calibration.volume_weights(left, int(early[near]))
            * np.exp(CONTRACT_VOLUME_SD * daily.standard_normal(LISTED))
        )
        traded = np.r_[volume, SPREAD_SHARE * np.sqrt(volume[:-1] * volume[1:])]
        listed, beta, gamma = (
            _with_spreads(x)
            for x in (
                price[near : near + LISTED],
                np.exp(-SAMUELSON * left / 21),
                np.exp(-left / 84),
            )
        )
        minutes = day.share, level * day.sd, level * day.jump
        count = _trade(
            tape,
            noise,
            rule,
            active - near,
            listed,
            beta,
            gamma,
            traded,
            *minutes,
            day.settle_minute,
            settle,
            rows,
        )
        price[near : near + LISTED] = listed[:LISTED]
        yield SyntheticSession(
            n, np.arange(near, near + LISTED), left, rows[:count].copy(), settle.copy()
        )


def _with_spreads(values: Floats) -> Floats:
    """A value per contract, then the differences of neighbours: the values of their spreads."""
    return np.concatenate([values, values[:-1] - values[1:]])


def _rule(edge: Edge | None) -> Floats:
    rule = np.zeros(7)
    rule[FAST] = rule[SLOW] = np.nan
    if edge is not None:
        rule[ALPHA_FAST], rule[ALPHA_SLOW] = 2 / (edge.fast + 1), 2 / (edge.slow + 1)
    return rule


@dataclass(frozen=True)
class _Day:
    volume: float  # expected contracts over all expiries
    share: Floats  # of it, per minute
    sd: Floats  # per minute, fraction of price
    jump: Floats  # per minute, fraction of price
    settle_minute: int


def _days(table: Sessions, rng: Random) -> Iterator[_Day]:
    """Draw the figures of each session: volatility, volume, the gap at the open, jumps and the
    inventory report.
    """
    slow, slow_sd = 0.0, RV_LOG_SD * np.sqrt(SLOW_SHARE)
    slow = slow_sd * rng.standard_normal()
    for n, (on, minutes) in enumerate(zip(table.dates, table.minutes, strict=True)):
        slow = SLOW_PHI * slow + slow_sd * np.sqrt(1 - SLOW_PHI**2) * rng.standard_normal()
        z = slow + RV_LOG_SD * np.sqrt(1 - SLOW_SHARE) * rng.standard_normal()
        own = np.sqrt(1 - VOLUME_RV_CORRELATION**2) * rng.standard_normal()
        volume = VOLUME_MEDIAN * np.exp(
            VOLUME_RV_CORRELATION * VOLUME_LOG_SD / RV_LOG_SD * z + VOLUME_LOG_SD * own
        )
        quiet = minutes < 1380
        share, jump = calibration.VOLUME_SHARE[:minutes].copy(), np.zeros(minutes)
        sd = (
            RV_MEDIAN
            * np.exp(z)
            * np.sqrt(calibration.VARIANCE_SHARE[:minutes])
            * (HOLIDAY_VOL if quiet else 1.0)
        )
        jump[0] = _gap(table, n, rng)
        where = min(
            int(np.searchsorted(np.cumsum(calibration.VARIANCE_SHARE), rng.random())),
            int(minutes) - 1,
        )
        jump[where] += (rng.random() < JUMP_PROBABILITY) * JUMP_SD * rng.standard_normal()
        _inventory_report(on, share, jump, rng.standard_normal())
        yield _Day(
            volume * (HOLIDAY_VOLUME if quiet else 1.0),
            share,
            sd,
            jump,
            min(1229, int(minutes) - 1),
        )


def _gap(table: Sessions, n: int, rng: Random) -> float:
    wild, z = rng.random() < WEEKEND_WILD, rng.standard_normal()
    if n == 0:
        return 0.0
    weekend = table.open_ns[n] - table.close_ns[n - 1] > 24 * 3600 * calendar.NS
    return float(z * ((WEEKEND_WILD_SD if wild else WEEKEND_SD) if weekend else BREAK_SD))


def _inventory_report(on: date, share: Floats, jump: Floats, z: float) -> None:
    """Wednesday 10:30 New York; Thursday 11:00 in a week with a holiday before. Volume triples and
    fades over minutes.
    """
    monday = on - timedelta(days=on.weekday())
    late = any(not calendar.is_business_day(monday + timedelta(days=k)) for k in range(3))
    minute = 1020 if late else 990
    if on.weekday() == (3 if late else 2) and minute < len(share):
        jump[minute] += EIA_SD * z
        share[minute:] *= 1 + 2.6 * np.exp(-np.arange(len(share) - minute) / 8.0)
