"""What both legs of a roll trade, and what a roll costs, by sessions before the last trade date.

    python scripts/measure_roll.py data=synthetic
    python scripts/measure_roll.py data=mcl_databento data.path=FOLDER

Volumes are medians over the expiries. A leg's half spread is Roll's estimate: the square root of
minus the covariance of neighbouring one-minute changes of at most ten ticks, over the session
without its first five minutes, pooled over the expiries. A roll crosses one half spread in each
leg; commission is not in it.
"""

from __future__ import annotations

import sys

import numpy as np

from mcl import composition
from mcl.data import loader, realism
from mcl.market.instruments import MCL

LAST = 5  # sessions before the last trade date
OPENING, LARGEST = 5, 10.0  # minutes, ticks


def main(overrides: list[str]) -> int:
    data = composition.compose("backtest", overrides).config.data
    bars = realism.of_dataset(loader.stored_dataset(data, composition.root()))
    sessions, volume = realism.volume_table(bars)
    print("sessions  front    next    front share  minutes with a bar  half spread, ticks   roll")
    print("before    contracts        %            front   next        front    next        USD")
    expiries = realism.expiry_rows(volume)
    for left in range(LAST, -1, -1):
        pairs = [(near, sessions[end - left]) for near, end in expiries]
        legs = [[volume[end - left, near + leg] for near, end in expiries] for leg in (0, 1)]
        front, following = (float(np.median(leg)) for leg in legs)
        share = float(np.median(np.array(legs[0]) / (np.array(legs[0]) + np.array(legs[1]))))
        traded, spreads = zip(*(_leg(bars, pairs, leg) for leg in (0, 1)), strict=True)
        usd = sum(spreads) * MCL.tick_value_usd
        print(
            f"{left:<9d} {front:<8,.0f} {following:<8,.0f} {share:<12.1%}"
            f" {traded[0]:<7.1%} {traded[1]:<11.1%} {spreads[0]:<8.2f} {spreads[1]:<11.2f}"
            f" {usd:.2f}"
        )
    return 0


def _leg(bars: realism.MinuteBars, pairs: list[tuple[int, int]], leg: int) -> tuple[float, float]:
    """Share of the minutes with a bar, and the half spread in ticks, of one leg."""
    products, count = [], 0
    for near, session in pairs:
        inside = (bars.session == session) & (bars.contract == near + leg)
        inside &= bars.minute >= OPENING
        minute, close = bars.minute[inside], bars.close[inside].astype(np.float64)
        count += len(minute)
        step, apart = np.diff(close), np.diff(minute)
        small = (apart <= 3) & (np.abs(step) <= LARGEST)
        products.append((step[1:] * step[:-1])[small[1:] & small[:-1]])
    covariance = float(np.concatenate(products).mean())
    minutes = (realism.MINUTES - OPENING) * len(pairs)
    return count / minutes, float(np.sqrt(max(0.0, -covariance)))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
