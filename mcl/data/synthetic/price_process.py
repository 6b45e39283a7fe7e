"""The price process behind the synthetic world: one session at a time, all listed expiries at once,
trade by trade.

The mid of every contract is a martingale by construction while the active contract stands between
50 and 90 USD, where it is for most of the time: the common factor and the curve factor
have independent symmetric steps whose size is fixed before they are drawn (session volatility,
minute of the day, the volume of the busiest contract in the minute), so nothing in the past of a
contract says where its mid goes. Trades print at the bid or at the ask around the mid: neighbouring
closes bounce, which is all that there is to predict there, and less than a spread costs. Outside
the band the price is pulled back by 1.5 % of the distance a session, evenly over the minutes, so
that no world ends at a price that no market knows: at 40 USD by 15 ticks, of some 130 that a
session moves. The band falls by the 20 cents at which each later month is listed. A rule that
knows the band and waits there for months has a true annual Sharpe ratio of some 0.6
(`tests/data/test_world.py` bounds it); no shipped strategy does.

Sizes of news are dealt from one distribution, and the width of a minute is bounded, so that the
largest moves of all seeds are alike. The log of a session's volatility has a long upper tail, as
measured: a world has a week or two that are wild.

The planted world adds one thing: a drift of known size whose sign is the sign of an EMA cross on
the active contract's printed closes, known one bar earlier. Volatility is a number of ticks, not of
percents: a world whose price wanders keeps the bars of the market. Figures are measured on MCL, 535
sessions of December 2023 to January 2026, unless a line says otherwise; `mcl data realism` prints
them next to those of a world.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from mcl.base.instants import NS
from mcl.base.jit import njit
from mcl.data.synthetic import calibration
from mcl.market import calendar
from mcl.market.calendar import Sessions
from mcl.market.instruments import Contract

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Random = np.random.Generator

# Part of every seed: a number with which prices of the default seed stay between 45 and 100. What a
# strategy earns there was no criterion.
STREAM = 7
LISTED = 12  # serial months
START_TICKS = 7000.0  # 70.00 USD per barrel
LOW_TICKS = 1000.0  # below 10 USD the moves shrink with the price
# Outside this band the price is pulled back, each session by this share of the distance: without it
# one seed in ten falls below 20 USD within two years. Inside the mid is a martingale. The band
# falls with the discount at which later contracts were listed: up and down are alike, so that
# holding what is active, long or short, expects no more than its costs.
BAND_TICKS, PULL = (5000.0, 9000.0), 0.015
CURVE_STEP_TICKS = 20.0  # each later expiry starts this much lower: backwardation, as in 2025
# the active contract of the planted rule is the nearest with more sessions than this to its last
# trade
ROLL_SESSIONS = 3
# Sizes that the market draws at random come from fixed distributions, dealt out in random order
# over this many sessions (two years and a month): every seed has its share of calm and of news.
CYCLE = 536

# Session volatility: its log has a memory and a long upper tail, that of the exponential of so many
# times a normal (measured: skewness 1.1, the calmest session 2.3, the wildest 5 sd from the mean).
RV_TICKS, RV_LOG_SD, RV_PHI, RV_LOG_TAIL = 123.5, 0.235, 0.97, 0.3
# Breaks: a Lomax distribution of the size in ticks, (scale, exponent)
BREAK_GAP, WEEKEND_GAP = (4.5, 0.43), (13.8, 0.69)
# News: so many a cycle, at a random minute, of a size in ticks (smallest, exponent). Volume rises
# with it, volatility in the minutes after it, and both fade: (factor, minutes).
NEWS, NEWS_GAP = 110, (10.0, 0.583)
NEWS_VOLUME, NEWS_WIDTH = (5.0, 15.0), (6.5, 9.0)
NEWS_IN_VOLATILITY = 2.5  # how much likelier news is in a session twice as volatile, log2
REPORT_TICKS = 7.8  # sd of the change at the inventory report, Wednesday 10:30
REPORT_VOLUME, REPORT_WIDTH = ((1.5, 1.5), (0.8, 15.0)), ((0.6, 0.7), (0.73, 18.0))
SAMUELSON = 0.03  # a contract one month later moves 3 % less (CL)
# the curve factor's sd over the front's; its weight fades with e^(-month/4), so that c2 - c1 moves
# 0.1 of c1 (CL)
CURVE_SD = 0.44
# contracts of all expiries in a whole session
VOLUME_MEDIAN, VOLUME_LOG_SD, VOLUME_RV_CORRELATION = 66_000.0, 0.24, 0.95
CONTRACT_VOLUME_SD = 0.12  # own noise of a deferred contract's session volume (an assumption)
# a calendar spread trades this share of the geometric mean of its legs (an assumption)
SPREAD_SHARE = 0.02
HOLIDAY_VOLUME, HOLIDAY_VOL = 0.4, 0.7  # a half session against a whole one

SUBSTEPS = 64
# log activity of a minute around its expectation: a fast and a slow part
FAST_PHI, CALM_PHI, FAST_SHARE = 0.45, 0.991, 0.55
LOTS = 1.9  # contracts of a trade
QUIET_WIDTH = 0.10  # share of a minute's variance that does not depend on its volume
STUDENT = 25.0
HALF_SPREAD = 0.66  # ticks between the mid and a trade
# The spread widens with a minute whose sd is above WIDE ticks, and no minute has more than WIDEST:
# the largest changes are those of the news, whose sizes are dealt, so that tails of seeds agree.
WIDE, WIDEST = 10.0, 40.0
SAME_SIDE = 0.75  # a trade follows one of the same side
MINUTE, INSTRUMENT, OPEN, HIGH, LOW, CLOSE, VOLUME = range(7)  # columns of a tape
# what the planted rule remembers
FAST, SLOW, ALPHA_FAST, ALPHA_SLOW, DRIFT, OFFSET, SIGN = range(7)


def _session_sd() -> float:
    """Standard deviation of a front contract's change over a session, in ticks: what the planted
    drift is measured by. Minutes, breaks and weekends, news and the report.
    """
    minutes = RV_TICKS**2 * np.exp(2 * RV_LOG_SD**2)
    breaks = 0.8 * float(np.mean(_lomax(BREAK_GAP, _strata(400)) ** 2))
    weekends = 0.2 * float(np.mean(_lomax(WEEKEND_GAP, _strata(103)) ** 2))
    news = float(np.sum(_news_sizes() ** 2)) / CYCLE
    return float(np.sqrt(minutes + breaks + weekends + news + 0.2 * REPORT_TICKS**2))


def _strata(n: int) -> Floats:
    return (np.arange(n) + 0.5) / n


def _lomax(scale_exponent: tuple[float, float], u: Floats) -> Floats:
    scale, exponent = scale_exponent
    return scale * ((1 - u) ** -exponent - 1)


def _news_sizes() -> Floats:
    scale, exponent = NEWS_GAP
    sizes: Floats = scale * _strata(NEWS) ** -exponent
    return sizes


SESSION_SD_TICKS = _session_sd()


@dataclass(frozen=True)
class Edge:
    """The planted rule: hold the sign of EMA(fast) - EMA(slow) of 1-minute closes; `sharpe` a year
    before costs.
    """

    sharpe: float
    fast: int
    slow: int

    @property
    def drift_ticks(self) -> float:
        """The drift of a session of 1380 minutes."""
        return float(self.sharpe / np.sqrt(calendar.SESSIONS_PER_YEAR) * SESSION_SD_TICKS)


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
    settle: Floats  # mid at 14:30 (or the close, if earlier), ticks, not rounded
    # mids after the gap at the open and at the end of every minute: float[minutes + 1, listed]
    mids: Floats
    drift: Floats  # of each mid in a minute, ticks: the pull, without the planted rule


@njit
def _activity(rng: Random, noise: Floats, spread: float) -> float:
    """Step the log noise of a minute's activity, two AR(1); what it does to the expected volume,
    mean 1. `spread` is the standard deviation of its log.
    """
    noise[0] = FAST_PHI * noise[0] + np.sqrt(1 - FAST_PHI**2) * rng.standard_normal()
    noise[1] = CALM_PHI * noise[1] + np.sqrt(1 - CALM_PHI**2) * rng.standard_normal()
    both = np.sqrt(FAST_SHARE) * noise[0] + np.sqrt(1 - FAST_SHARE) * noise[1]
    return float(np.exp(spread * both - spread**2 / 2))


@njit
def _lots(rng: Random, expected: float) -> tuple[int, int]:
    """Trades of a minute and the contracts in them, for an expected number of contracts."""
    trades = rng.poisson(expected / LOTS)
    if trades == 0:
        return 0, 0
    return trades, trades + rng.poisson((LOTS - 1) * rng.standard_gamma(float(trades)))


@njit
def _student(rng: Random) -> float:
    """A fat-tailed factor of the minute's sd; the mean of its square is 1."""
    return float(np.sqrt((STUDENT - 2) / (2 * rng.standard_gamma(STUDENT / 2))))


@njit
def _path(rng: Random, path: Floats, sd: float, gap: float, jump: float, drift: float) -> None:
    """Cumulated common-factor moves at the sub-steps of one minute, in ticks: the gap before the
    first of them, the jump at any.
    """
    level, step = gap, sd / np.sqrt(SUBSTEPS)
    at = int(rng.random() * SUBSTEPS)
    for s in range(SUBSTEPS):
        level += step * rng.standard_normal() + drift / SUBSTEPS
        if s == at:
            level += jump
        path[s] = level


@njit
def _bar(
    rng: Random,
    row: Ints,
    trades: int,
    start: float,
    beta: float,
    path: Floats,
    slope: float,
    half: float,
    side: float,
) -> float:
    """Open, high, low, close of the trades of one instrument, each at the bid or the ask: at all
    sub-steps, or at as many random ones as there were trades. Takes the side of the last trade in
    ticks from the mid, returns the new one.
    """
    need, first = min(trades, SUBSTEPS), True
    for s in range(SUBSTEPS):
        if need < SUBSTEPS - s and rng.random() * (SUBSTEPS - s) >= need:
            continue
        need -= 1
        if rng.random() >= SAME_SIDE:
            side = -side
        ticks = int(np.rint(start + beta * path[s] + slope * (s + 1) / SUBSTEPS + half * side))
        if first:
            row[OPEN] = row[HIGH] = row[LOW] = ticks
            first = False
        row[HIGH], row[LOW], row[CLOSE] = max(row[HIGH], ticks), min(row[LOW], ticks), ticks
        if need == 0:
            break
    return side


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
    spread: Floats,
    sd: Floats,
    jump: Floats,
    sign: float,
    gap: float,
    pull: float,
    settle_minute: int,
    settle: Floats,
    mids: Floats,
    rows: Ints,
) -> int:
    """Trade one session into `rows`; returns their number. Arrays `price` … `volume` have one
    element per instrument, `share` … `jump` one per minute; `sign` is that of all
    noise, `pull` the drift of a minute. `price`, `noise`, `rule`, `settle` and `mids` are updated
    in place.
    """
    path, count, busiest = np.empty(SUBSTEPS), 0, int(np.argmax(volume))
    listed = len(settle)
    mids[0] = (price + beta * gap)[:listed]
    side = np.full(len(volume), sign)
    for t in range(len(share)):
        activity = _activity(rng, noise, spread[t])
        expected = volume[busiest] * share[t]
        trades, lots = _lots(rng, expected * activity)
        busy = QUIET_WIDTH + (1 - QUIET_WIDTH) * lots / expected
        width = min(sd[t] * np.sqrt(busy) * _student(rng), WIDEST)
        half = HALF_SPREAD * max(1.0, width / WIDE)
        slope = sign * CURVE_SD * width * rng.standard_normal()
        before = gap if t == 0 else 0.0
        drift = rule[DRIFT] * rule[SIGN] + pull
        _path(rng, path, sign * np.sqrt(1 - CURVE_SD**2) * width, before, jump[t], drift)
        for m in range(len(volume)):
            if m != busiest:
                trades_here, lots_here = _lots(rng, volume[m] * share[t] * activity)
            else:
                trades_here, lots_here = trades, lots
            if trades_here == 0:
                continue
            row = rows[count]
            row[MINUTE], row[INSTRUMENT], row[VOLUME] = t, m, lots_here
            tilt = gamma[m] * slope
            side[m] = _bar(rng, row, trades_here, price[m], beta[m], path, tilt, half, side[m])
            if m == active:
                _follow(rule, float(row[CLOSE]))
            count += 1
        price += beta * path[-1] + gamma * slope
        mids[t + 1] = price[:listed]
        if t == settle_minute:
            settle[:] = price[:listed]
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


def simulate(
    table: Sessions, seed: int, edge: Edge | None, mirrored: bool = False
) -> Iterator[SyntheticSession]:
    """The sessions of `table`, one tape each. The same seed gives the same noise in both worlds.
    In the mirrored world every move of a price has the other sign; volumes are the same.
    """
    contracts = chain(table)
    expiries = np.array([calendar.to_day(c.last_trade_date) for c in contracts])
    ahead = calendar.sessions(table.dates[0], table.dates[-1] + timedelta(days=450)).day
    daily, tape = (
        Random(np.random.PCG64(child)) for child in np.random.SeedSequence((STREAM, seed)).spawn(2)
    )
    price = np.full(len(contracts), START_TICKS)
    # a new contract is listed this much under its neighbour
    below = daily.normal(CURVE_STEP_TICKS, 5.0, len(contracts))
    discount = np.append(0.0, np.cumsum(below[1:]))  # against the first contract, at the listing
    migration = calibration.Migration(daily)
    days = _days(table, daily)
    noise, rule, active, listed_to = tape.standard_normal(2), _rule(edge), 0, 1
    rows, settle = np.empty((1380 * (2 * LISTED - 1), 7), np.int64), np.empty(LISTED)
    sign = -1.0 if mirrored else 1.0
    for n, day in enumerate(days):
        near = int(np.searchsorted(expiries, table.day[n]))
        for k in range(listed_to, near + LISTED):
            price[k] = price[k - 1] - below[k]
        listed_to = near + LISTED
        left = np.searchsorted(ahead, expiries[near : near + LISTED]) - n
        now = near + int(np.searchsorted(left, ROLL_SESSIONS, "right"))
        rule[OFFSET] += price[active] - price[now]
        active = now
        volume = day.volume * migration.weights(left, near)
        volume[2:] *= np.exp(CONTRACT_VOLUME_SD * daily.standard_normal(LISTED - 2))
        traded = np.r_[volume, SPREAD_SHARE * np.sqrt(volume[:-1] * volume[1:])]
        listed, beta, gamma = (
            _with_spreads(x)
            for x in (
                price[near : near + LISTED],
                np.exp(-SAMUELSON * left / 21),
                np.exp(-left / 84),
            )
        )
        low = float(np.clip(price[now] / LOW_TICKS, 0.0, 1.0))
        minutes = day.share, day.spread, low * day.sd, sign * low * day.jump
        pull = _pull(float(price[now] + discount[now])) / 1380
        mids = np.empty((len(day.share) + 1, LISTED))
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
            sign,
            sign * low * day.gap,
            pull,
            day.settle_minute,
            settle,
            mids,
            rows,
        )
        price[near : near + LISTED] = listed[:LISTED]
        yield SyntheticSession(
            n,
            np.arange(near, near + LISTED),
            left,
            rows[:count].copy(),
            settle.copy(),
            mids,
            beta[:LISTED] * pull,
        )


def _with_spreads(values: Floats) -> Floats:
    """A value per contract, then the differences of neighbours: the values of their spreads."""
    return np.concatenate([values, values[:-1] - values[1:]])


def _pull(price: float) -> float:
    """The drift of a session at this price, in ticks; zero inside the band."""
    low, high = BAND_TICKS
    return PULL * (max(low - price, 0.0) - max(price - high, 0.0))


def _rule(edge: Edge | None) -> Floats:
    rule = np.zeros(7)
    rule[FAST] = rule[SLOW] = np.nan
    if edge is not None:
        rule[ALPHA_FAST], rule[ALPHA_SLOW] = 2 / (edge.fast + 1), 2 / (edge.slow + 1)
        rule[DRIFT] = edge.drift_ticks / 1380
    return rule


@dataclass(frozen=True)
class _Day:
    volume: float  # expected contracts over all expiries
    share: Floats  # of it, per minute
    spread: Floats  # sd of the log activity, per minute
    sd: Floats  # per minute, ticks
    jump: Floats  # per minute, ticks
    gap: float  # at the open, ticks
    settle_minute: int


def _days(table: Sessions, rng: Random) -> Iterator[_Day]:
    """Draw the figures of each session: volatility, volume, the gap at the open, news and the
    inventory report.
    """
    volatility, volume = _levels(len(table), rng)
    gaps, news = _gaps(table, rng), _news(volatility, rng)
    reports = _normal_sizes(_dealt(rng, len(table), CYCLE // 5)) * _signs(rng, len(table))
    for n, (on, minutes) in enumerate(zip(table.dates, table.minutes, strict=True)):
        quiet = minutes < 1380
        share = calibration.VOLUME_SHARE[:minutes].copy()
        sd = volatility[n] * calibration.SD_SHARE[:minutes]  # a new array
        jump = news[n][:minutes]
        spread = calibration.ACTIVITY_SD[:minutes]
        news_minutes = np.flatnonzero(jump)
        share *= _aftermath(NEWS_VOLUME, news_minutes, len(share))
        sd *= _aftermath(NEWS_WIDTH, news_minutes + 1, len(share))
        _inventory_report(on, share, sd, jump, REPORT_TICKS * reports[n])
        yield _Day(
            volume[n] * (HOLIDAY_VOLUME if quiet else 1.0),
            share,
            spread,
            sd * (HOLIDAY_VOL if quiet else 1.0),
            jump,
            float(gaps[n]),
            min(1229, int(minutes) - 1),
        )


def _levels(sessions: int, rng: Random) -> tuple[Floats, Floats]:
    """Volatility in ticks and expected volume of every session. Their logs have the measured
    spread, correlation and memory in every cycle and not only on average: that says nothing of
    where a price goes.
    """
    n = max(sessions, CYCLE)
    slow, shock = np.empty(n), rng.standard_normal(n)
    slow[0] = shock[0]
    for k in range(1, n):
        slow[k] = RV_PHI * slow[k - 1] + np.sqrt(1 - RV_PHI**2) * shock[k]
    z = _standardised(slow)
    own = _apart(rng.standard_normal(n), z)
    rho = VOLUME_RV_CORRELATION
    volume = VOLUME_MEDIAN * np.exp(VOLUME_LOG_SD * (rho * z + np.sqrt(1 - rho**2) * own))
    volatility = RV_TICKS * np.exp(RV_LOG_SD * _standardised(np.exp(RV_LOG_TAIL * z)))
    return volatility[:sessions], volume[:sessions]


def _standardised(values: Floats) -> Floats:
    scaled: Floats = (values - values.mean()) / values.std()
    return scaled


def _apart(values: Floats, other: Floats) -> Floats:
    """The part of `values` that has no correlation with `other`, standardised."""
    centred = values - values.mean()
    return _standardised(centred - other * float(np.mean(centred * other)))


def _dealt(rng: Random, n: int, cycle: int) -> Floats:
    """n numbers between 0 and 1, each `cycle` of them the middles of as many equal parts in random
    order.
    """
    hands = [rng.permutation(_strata(cycle)) for _ in range(n // cycle + 1)]
    return np.concatenate(hands)[:n]


def _signs(rng: Random, n: int) -> Floats:
    return np.where(rng.random(n) < 0.5, -1.0, 1.0)


def _normal_sizes(u: Floats) -> Floats:
    """Absolute values of a standard normal at the probabilities u."""
    inverse = NormalDist().inv_cdf
    return np.array([inverse((1 + float(p)) / 2) for p in u])


def _gaps(table: Sessions, rng: Random) -> Floats:
    """The jump at the open of every session, in ticks."""
    n = len(table)
    apart = np.diff(table.open_ns, prepend=table.open_ns[0])
    weekend = apart > 48 * 3600 * NS
    sizes = np.zeros(n)
    for chosen, gap, cycle in (
        (~weekend, BREAK_GAP, 4 * CYCLE // 5),
        (weekend, WEEKEND_GAP, CYCLE // 5),
    ):
        sizes[chosen] = _lomax(gap, _dealt(rng, int(chosen.sum()), cycle))
    sizes[0] = 0.0
    return sizes * _signs(rng, n)


def _news(volatility: Floats, rng: Random) -> Floats:
    """Jumps of the price by session and minute, in ticks: more in volatile sessions, and where
    most is traded.
    """
    n = len(volatility)
    jumps = np.zeros((n, 1380))
    awake = np.cumsum(calibration.VOLUME_SHARE)
    uneasy = (volatility / volatility.mean()) ** NEWS_IN_VOLATILITY
    for first in range(0, n, CYCLE):
        here = np.cumsum(uneasy[first : first + CYCLE])
        number = round(NEWS * len(here) / CYCLE)
        when = first + np.searchsorted(here / here[-1], rng.random(number))
        minute = np.searchsorted(awake / awake[-1], rng.random(number))
        sizes = rng.permutation(_news_sizes())[:number]
        jumps[when, minute] = sizes * _signs(rng, number)
    return jumps


def _inventory_report(on: date, share: Floats, sd: Floats, jump: Floats, size: float) -> None:
    """Wednesday 10:30 New York; Thursday 11:00 in a week with a holiday before. Volume and
    volatility rise and fade over minutes.
    """
    monday = on - timedelta(days=on.weekday())
    late = any(not calendar.is_business_day(monday + timedelta(days=k)) for k in range(3))
    minute = 1020 if late else 990
    if on.weekday() == (3 if late else 2) and minute < len(share):
        jump[minute] += size
        for fade in REPORT_VOLUME:
            share[minute:] *= _fading(fade, len(share) - minute)
        for fade in REPORT_WIDTH:
            sd[minute:] *= _fading(fade, len(share) - minute)


def _aftermath(factor_minutes: tuple[float, float], starts: Ints, n: int) -> Floats:
    """The largest of the fading factors that begin at these minutes: float[n], 1 without any."""
    factors = np.ones(n)
    for start in starts.tolist():
        factors[start:] = np.maximum(factors[start:], _fading(factor_minutes, max(0, n - start)))
    return factors


def _fading(factor_minutes: tuple[float, float], n: int) -> Floats:
    """1 + factor, falling back to 1 over minutes: float[n]."""
    factor, minutes = factor_minutes
    return 1 + factor * np.exp(-np.arange(n) / minutes)
