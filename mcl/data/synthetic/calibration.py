"""Measured shapes that make the synthetic world look like MCL. Not choices: figures with a source.

Shapes of the session and of the roll: MCL, one-minute bars of 535 sessions and 24 expiries from
December 2023 to January 2026, days with an inventory report left out around 10:30. Open interest:
CL, medians over ten expiries of 2025, a tenth of it. All other constants of the generator stand
where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Share of a session's volume in each of the 276 five-minute bars from 18:00 New York, in 1e-5.
_VOLUME = (
    565, 211, 170, 144, 121, 102, 116, 110, 95, 89, 91, 85, 112, 105, 97, 99, 89, 80, 85, 84,
    84, 95, 82, 97, 367, 196, 171, 164, 138, 136, 146, 137, 129, 141, 141, 163, 329, 208, 188,
    165, 149, 137, 178, 154, 154, 149, 143, 141, 169, 137, 137, 123, 110, 118, 164, 138, 131,
    134, 126, 119, 132, 123, 112, 117, 109, 110, 113, 89, 83, 85, 79, 78, 108, 88, 79, 82, 78,
    85, 128, 95, 95, 93, 87, 91, 125, 112, 108, 112, 104, 103, 169, 135, 139, 137, 151, 140,
    240, 190, 181, 195, 181, 185, 218, 202, 188, 201, 201, 211, 387, 295, 286, 271, 269, 329,
    401, 316, 296, 295, 308, 300, 488, 382, 344, 344, 344, 413, 471, 379, 348, 344, 338, 331,
    456, 367, 338, 327, 314, 308, 380, 299, 298, 310, 302, 296, 423, 321, 314, 316, 305, 288,
    325, 328, 320, 315, 327, 320, 393, 329, 322, 336, 327, 342, 403, 376, 357, 399, 368, 375,
    735, 517, 514, 509, 498, 480, 663, 586, 562, 625, 659, 693, 1582, 1110, 933, 968, 909, 812,
    1375, 1167, 1119, 1129, 1075, 986, 1305, 1163, 1089, 1025, 1006, 942, 1130, 992, 945, 959,
    988, 808, 1113, 900, 949, 934, 889, 979, 1007, 801, 823, 763, 710, 686, 767, 655, 620, 592,
    548, 557, 630, 578, 547, 503, 475, 474, 565, 501, 460, 454, 443, 417, 462, 422, 407, 420,
    386, 390, 515, 480, 476, 488, 524, 1008, 507, 299, 243, 222, 220, 202, 227, 179, 176, 164,
    171, 162, 160, 149, 144, 157, 182, 235, 198, 138, 121, 112, 105, 112, 200, 132, 142, 202,
    155, 199,
)  # fmt: skip
# Standard deviation of a minute's change in each, relative to a session's, in 1e-4.
_SD = (
    767, 246, 205, 181, 151, 130, 153, 147, 123, 116, 115, 121, 138, 125, 117, 105, 97, 106,
    102, 101, 96, 105, 97, 106, 315, 207, 189, 174, 153, 152, 162, 149, 149, 149, 155, 162, 327,
    216, 191, 177, 174, 151, 192, 171, 162, 158, 154, 144, 172, 145, 137, 126, 119, 111, 145,
    127, 117, 118, 117, 109, 125, 119, 108, 115, 110, 102, 113, 94, 74, 87, 77, 71, 101, 75, 82,
    81, 82, 83, 149, 97, 94, 97, 93, 84, 114, 103, 108, 109, 103, 104, 159, 134, 134, 135, 133,
    129, 205, 176, 176, 180, 173, 174, 189, 175, 177, 191, 188, 194, 350, 265, 262, 260, 261,
    286, 325, 280, 261, 279, 265, 264, 383, 324, 297, 295, 289, 330, 364, 314, 305, 305, 288,
    271, 355, 308, 280, 276, 254, 257, 305, 265, 246, 245, 242, 236, 295, 258, 264, 255, 237,
    222, 261, 242, 236, 239, 239, 240, 288, 245, 253, 243, 257, 248, 270, 250, 249, 251, 260,
    266, 391, 317, 304, 312, 303, 284, 380, 334, 326, 320, 337, 341, 660, 501, 440, 450, 397,
    378, 561, 496, 465, 471, 468, 426, 534, 480, 461, 447, 438, 407, 483, 444, 421, 438, 436,
    392, 468, 421, 424, 422, 423, 469, 468, 422, 400, 385, 368, 343, 388, 367, 340, 339, 322,
    316, 352, 324, 307, 306, 289, 285, 334, 310, 290, 290, 288, 282, 301, 295, 274, 280, 280,
    274, 347, 323, 314, 313, 344, 479, 307, 226, 186, 183, 169, 161, 183, 150, 147, 141, 146,
    141, 166, 151, 142, 146, 151, 157, 167, 126, 119, 115, 112, 119, 217, 147, 152, 155, 171,
    195,
)  # fmt: skip

# Within a five-minute bar the minutes are alike, except where trading starts afresh.
_MINUTE_VOLUME = {
    0: (0.49, 0.16, 0.13, 0.12, 0.09),
    12: (0.31, 0.19, 0.16, 0.17, 0.16),
    21: (0.28, 0.18, 0.17, 0.18, 0.19),
    24: (0.43, 0.18, 0.14, 0.13, 0.12),
    36: (0.38, 0.20, 0.16, 0.14, 0.12),
    48: (0.29, 0.21, 0.18, 0.17, 0.16),
    54: (0.27, 0.18, 0.17, 0.18, 0.19),
    72: (0.33, 0.19, 0.17, 0.16, 0.16),
    78: (0.34, 0.19, 0.16, 0.15, 0.15),
    90: (0.32, 0.16, 0.18, 0.17, 0.17),
    96: (0.33, 0.18, 0.15, 0.15, 0.18),
    108: (0.32, 0.21, 0.18, 0.15, 0.14),
    113: (0.17, 0.17, 0.17, 0.19, 0.29),
    114: (0.29, 0.19, 0.18, 0.16, 0.18),
    120: (0.35, 0.18, 0.16, 0.16, 0.15),
    126: (0.28, 0.20, 0.19, 0.16, 0.17),
    132: (0.28, 0.19, 0.19, 0.17, 0.18),
    144: (0.29, 0.20, 0.19, 0.17, 0.16),
    156: (0.27, 0.20, 0.18, 0.17, 0.18),
    168: (0.32, 0.20, 0.16, 0.16, 0.15),
    180: (0.32, 0.21, 0.17, 0.15, 0.15),
    192: (0.27, 0.21, 0.18, 0.17, 0.17),
    204: (0.29, 0.21, 0.18, 0.16, 0.16),
    240: (0.27, 0.18, 0.19, 0.18, 0.18),
    245: (0.12, 0.13, 0.17, 0.33, 0.25),
    246: (0.34, 0.21, 0.15, 0.16, 0.14),
    252: (0.28, 0.21, 0.17, 0.17, 0.16),
    263: (0.21, 0.15, 0.15, 0.17, 0.31),
    264: (0.34, 0.20, 0.16, 0.15, 0.15),
    270: (0.44, 0.16, 0.14, 0.14, 0.13),
    273: (0.44, 0.14, 0.14, 0.14, 0.14),
    274: (0.38, 0.17, 0.15, 0.14, 0.15),
    275: (0.23, 0.13, 0.14, 0.17, 0.33),
}
_MINUTE_SD = {
    0: (2.41, 0.82, 0.66, 0.60, 0.51),
    12: (1.27, 1.08, 0.90, 0.88, 0.86),
    21: (1.09, 0.97, 1.01, 1.03, 0.91),
    24: (1.57, 1.12, 0.83, 0.77, 0.71),
    36: (1.58, 1.03, 0.93, 0.74, 0.72),
    48: (1.23, 1.07, 0.99, 0.84, 0.87),
    54: (1.43, 0.98, 0.97, 0.85, 0.77),
    72: (1.38, 1.01, 0.91, 0.89, 0.82),
    78: (1.56, 1.00, 0.82, 0.83, 0.79),
    90: (1.48, 0.89, 0.86, 0.90, 0.87),
    96: (1.33, 1.08, 0.91, 0.79, 0.90),
    108: (1.56, 0.98, 0.89, 0.79, 0.78),
    113: (0.99, 0.93, 0.93, 0.99, 1.16),
    114: (1.23, 1.03, 0.98, 0.85, 0.91),
    120: (1.46, 0.91, 0.92, 0.90, 0.82),
    126: (1.26, 1.02, 0.96, 0.90, 0.87),
    132: (1.23, 1.01, 1.01, 0.89, 0.87),
    144: (1.23, 1.05, 0.93, 0.91, 0.88),
    156: (1.28, 0.98, 0.93, 0.86, 0.95),
    168: (1.38, 1.00, 0.92, 0.88, 0.82),
    180: (1.41, 1.08, 0.89, 0.84, 0.77),
    192: (1.26, 1.05, 0.95, 0.87, 0.87),
    204: (1.24, 1.04, 0.96, 0.92, 0.84),
    240: (1.23, 1.05, 0.94, 0.90, 0.88),
    245: (0.85, 0.84, 1.10, 1.59, 0.63),
    246: (1.29, 1.11, 0.93, 0.87, 0.80),
    252: (1.30, 1.03, 0.93, 0.90, 0.84),
    263: (1.15, 0.96, 0.88, 0.96, 1.05),
    264: (1.30, 1.07, 0.93, 0.88, 0.83),
    270: (1.68, 0.89, 0.83, 0.79, 0.82),
    273: (1.14, 1.01, 0.96, 0.94, 0.95),
    274: (1.41, 0.97, 0.85, 0.93, 0.83),
    275: (1.04, 0.87, 0.85, 0.92, 1.32),
}

# Log odds of the front's share of front and next, 0, 1, 2 … sessions before the front's last trade,
# and their spread between expiries.
_FRONT_ODDS = (-2.98, -1.02, 0.845, 1.64, 1.92, 2.26, 2.53, 2.60, 2.72, 2.76, 2.87, 2.90)
_FRONT_ODDS_LATER = 3.1  # from 15 sessions on
_ODDS_SD = 0.16
# In one of 24 expiries the next contract trades more two sessions before the last trade already.
_EARLY_EVERY, _EARLY_ODDS = 24, -0.07

# Open interest of front and next, thousands, at the same distances.
_OPEN_INTEREST = (
    5, 19, 49, 79, 115, 143, 170, 189, 203, 217, 241, 257, 278, 285, 283, 290, 298, 301, 307, 317,
    318, 328, 330,
)  # fmt: skip
_OPEN_INTEREST_NEXT = (
    338, 327, 322, 318, 308, 299, 292, 286, 278, 264, 252, 239, 233, 228, 223, 209, 209, 208, 211,
    199, 194, 197, 190,
)  # fmt: skip


def _by_minute(five: tuple[int, ...], special: Mapping[int, tuple[float, ...]]) -> Floats:
    """A value for each of 1380 minutes; those of a special bar have the given proportions."""
    minutes: Floats = np.repeat(np.array(five, np.float64), 5)
    for bar, parts in special.items():
        minutes[5 * bar : 5 * bar + 5] *= np.array(parts) / np.mean(parts)
    return minutes


def _activity_sd(share: Floats) -> Floats:
    """Standard deviation of the log activity of a minute: wider where less trades."""
    width: Floats = np.clip(0.82 - 0.10 * np.log(share * len(share)), 0.5, 1.05)
    return width


VOLUME_SHARE = _by_minute(_VOLUME, _MINUTE_VOLUME)  # 1380 minutes from 18:00 New York, sum 1
VOLUME_SHARE /= VOLUME_SHARE.sum()
SD_SHARE = _by_minute(_SD, _MINUTE_SD)  # the sum of squares is 1
SD_SHARE /= np.sqrt(np.sum(SD_SHARE**2))
ACTIVITY_SD = _activity_sd(VOLUME_SHARE)


class Migration:
    """The way in which volume moves from one expiry to the next in one world."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.early = int(rng.integers(_EARLY_EVERY))

    def weights(self, to_last_trade: npt.NDArray[np.int64], front: int) -> Floats:
        """Share of the session's volume per listed expiry, nearest first, from the sessions to each
        one's last trade. Sums to 1. `front` is the index of the nearest in the chain.
        """
        left = int(to_last_trade[0])
        odds = float(np.interp(left, [*range(12), 15], [*_FRONT_ODDS, _FRONT_ODDS_LATER]))
        noise = _ODDS_SD * float(np.clip(self.rng.standard_normal(), -2.0, 2.0))
        if left == 2 and front % _EARLY_EVERY == self.early:
            odds, noise = _EARLY_ODDS, 0.0
        deferred = _deferred(left, len(to_last_trade) - 2)
        near = 1 / (1 + np.exp(-odds - noise))
        rest = 1 - deferred.sum()
        weights: Floats = np.concatenate([[near * rest, (1 - near) * rest], deferred])
        return weights


def _deferred(left: int, expiries: int) -> Floats:
    """Share of all volume of the third, fourth … expiry."""
    shares = np.full(expiries, 3e-5)
    shares[:5] = (
        0.0060 + 0.0265 * np.exp(-left / 2),
        0.0016 + 0.0030 * np.exp(-left / 1.5),
        0.0006,
        0.00015,
        0.00006,
    )
    return shares


def open_interest(to_last_trade: npt.NDArray[np.int64]) -> Floats:
    """Contracts per listed expiry, nearest first: a tenth of CL's, fading beyond the second
    expiry.
    """
    at = np.clip(to_last_trade[0] - 1, 0, len(_OPEN_INTEREST) - 1)
    contracts: Floats = 2.0 + 180.0 * np.exp((43.0 - to_last_trade) / 30.0)
    contracts[0], contracts[1] = _OPEN_INTEREST[at], _OPEN_INTEREST_NEXT[at]
    contracts *= 100.0
    return contracts
