"""Draw the rows of a stationary block bootstrap, without compiled code.

It draws blocks of geometric length (mean `block`), wrapping around, so that serial dependence
survives. Everything is seeded. Sources: Politis & Romano (1994) "The Stationary Bootstrap"; Künsch
(1989) for the growth of blocks with T^(1/3).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

REPLICATES = 1000
SEED = 20140531
FEWEST_RETURNS = 10  # below, an interval from resampling says nothing


def block_length(observations: int) -> int:
    """Mean block length ceil(T^(1/3)): 8 sessions for two years."""
    return max(1, math.ceil(round(math.cbrt(observations), 9)))


def indices(
    observations: int,
    block: int,
    replicates: int = REPLICATES,
    seed: int = SEED,
    steps: int | None = None,
) -> npt.NDArray[np.int64]:
    """Return the rows of a stationary bootstrap, replicates × steps, in the order of the path.

    `steps` is the number of observations by default.
    """
    rng = np.random.default_rng(seed)
    steps = observations if steps is None else steps
    fresh = rng.random((replicates, steps)) < 1.0 / block
    fresh[:, 0] = True
    starts = rng.integers(0, observations, (replicates, steps))
    position = np.arange(steps)
    began = np.maximum.accumulate(np.where(fresh, position, 0), axis=1)
    rows: npt.NDArray[np.int64] = (
        np.take_along_axis(starts, began, axis=1) + position - began
    ) % observations
    return rows
