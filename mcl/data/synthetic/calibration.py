"""Measured shapes that make the synthetic world look like WTI futures. Not choices: figures with a
source.

Session shape: CL, 5-minute bars of the most active contract, 188 sessions of 2024 to 2026.
Migration: CL, medians over ten expiries of 2025. All other constants of the generator stand where
they are used.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Share of a session's volume and variance in each of the 276 five-minute bars from 18:00 New York,
# in 1e-5.
_VOLUME = (
    309, 106, 76, 68, 62, 54, 60, 50, 45, 38, 38, 36, 55, 39, 46, 40, 38, 33, 43, 35, 38, 40, 43,
    50, 302, 130, 111, 110, 87, 88, 90, 77, 74, 77, 92, 112, 251, 147, 122, 107, 105, 87, 133,
    109, 110, 98, 97, 93, 102, 86, 87, 72, 66, 67, 104, 76, 66, 69, 67, 74, 78, 74, 67, 71, 63,
    73, 92, 59, 51, 56, 50, 47, 60, 54, 53, 51, 50, 61, 95, 66, 66, 73, 61, 56, 75, 73, 69, 71,
    68, 77, 130, 96, 95, 88, 86, 86, 162, 146, 135, 159, 140, 140, 170, 165, 149, 156, 174, 184,
    378, 267, 268, 249, 250, 323, 356, 279, 276, 264, 280, 316, 414, 324, 301, 321, 316, 469, 483,
    339, 333, 323, 314, 292, 365, 311, 297, 283, 289, 288, 330, 250, 257, 277, 254, 254, 338, 265,
    270, 269, 250, 231, 283, 310, 294, 277, 290, 292, 326, 282, 308, 295, 277, 276, 315, 303, 302,
    300, 302, 327, 596, 437, 465, 501, 471, 462, 642, 560, 561, 597, 647, 710, 1765, 1088, 913,
    983, 909, 804, 1310, 1073, 964, 1039, 1040, 966, 1130, 1083, 1018, 909, 959, 880, 1292, 978,
    984, 1016, 949, 842, 1069, 935, 1024, 943, 922, 1193, 1110, 850, 827, 819, 767, 738, 890, 777,
    743, 651, 628, 712, 833, 655, 623, 598, 588, 541, 646, 604, 520, 520, 483, 517, 563, 549, 549,
    552, 553, 580, 764, 747, 738, 818, 1000, 3511, 1138, 500, 344, 320, 297, 278, 281, 220, 214,
    201, 244, 211, 222, 194, 183, 216, 264, 285, 186, 133, 114, 109, 99, 117, 135, 114, 129, 109,
    120, 132,
)  # fmt: skip
_VARIANCE = (
    1094, 237, 176, 101, 102, 72, 92, 149, 70, 62, 66, 76, 114, 67, 64, 67, 61, 52, 60, 58, 67,
    76, 45, 66, 518, 272, 136, 197, 121, 158, 138, 138, 103, 131, 108, 178, 542, 227, 215, 157,
    143, 143, 251, 177, 150, 171, 159, 160, 183, 96, 131, 113, 94, 80, 176, 90, 81, 92, 82, 134,
    98, 115, 81, 109, 80, 76, 149, 85, 65, 60, 52, 52, 75, 80, 79, 63, 60, 119, 111, 81, 117, 111,
    83, 88, 79, 108, 67, 80, 82, 89, 223, 128, 143, 137, 104, 104, 339, 229, 230, 233, 200, 151,
    219, 227, 166, 244, 226, 195, 757, 310, 311, 294, 297, 320, 491, 497, 378, 371, 408, 409, 632,
    544, 414, 465, 489, 708, 710, 529, 540, 419, 357, 425, 595, 407, 388, 432, 374, 344, 476, 293,
    342, 335, 299, 290, 450, 289, 355, 331, 289, 261, 419, 469, 398, 337, 416, 350, 361, 319, 303,
    313, 291, 241, 354, 261, 248, 296, 300, 308, 613, 471, 460, 433, 337, 399, 597, 607, 534, 660,
    752, 692, 1829, 850, 922, 979, 722, 662, 1323, 1042, 1058, 1267, 893, 746, 1248, 1275, 1197,
    799, 1176, 777, 1296, 869, 905, 911, 931, 632, 1071, 795, 1241, 647, 892, 992, 921, 801, 889,
    832, 778, 545, 758, 701, 762, 508, 527, 616, 933, 448, 404, 467, 376, 387, 460, 443, 346, 365,
    308, 334, 455, 415, 540, 360, 354, 276, 482, 549, 420, 513, 640, 724, 807, 285, 193, 232, 190,
    156, 170, 135, 117, 134, 183, 126, 148, 140, 143, 199, 213, 126, 184, 91, 63, 112, 84, 85,
    208, 116, 122, 102, 119, 84,
)  # fmt: skip

# Next contract's volume over the front's, 0, 1, 2 … 22 sessions before the front's last trade.
_NEXT_TO_FRONT = (
    10.56, 3.28, 2.76, 1.37, 0.93, 0.82, 0.78, 0.70, 0.71, 0.63, 0.65, 0.61, 0.59, 0.60, 0.58,
    0.60, 0.55, 0.52, 0.53, 0.51, 0.54, 0.52, 0.47,
)  # fmt: skip

# Open interest of front and next, thousands, at the same distances.
_OPEN_INTEREST = (
    5, 19, 49, 79, 115, 143, 170, 189, 203, 217, 241, 257, 278, 285, 283, 290, 298, 301, 307, 317,
    318, 328, 330,
)  # fmt: skip
_OPEN_INTEREST_NEXT = (
    338, 327, 322, 318, 308, 299, 292, 286, 278, 264, 252, 239, 233, 228, 223, 209, 209, 208, 211,
    199, 194, 197, 190,
)  # fmt: skip

# Within a five-minute bar the minutes are alike, except at the open (18:00) and around the
# settlement (14:25, 14:30).
_MINUTE_VOLUME = {
    0: (0.36, 0.25, 0.17, 0.11, 0.11),
    245: (0.08, 0.11, 0.16, 0.34, 0.31),
    246: (0.43, 0.18, 0.14, 0.14, 0.11),
}
_MINUTE_VARIANCE = {0: (0.56, 0.19, 0.14, 0.05, 0.06)}


def _by_minute(five: tuple[int, ...], special: Mapping[int, tuple[float, ...]]) -> Floats:
    minutes: Floats = np.repeat(np.array(five, np.float64) / 5, 5)
    for bar, shares in special.items():
        minutes[5 * bar : 5 * bar + 5] = five[bar] * np.array(shares)
    minutes /= minutes.sum()
    return minutes


VOLUME_SHARE = _by_minute(_VOLUME, _MINUTE_VOLUME)  # 1380 minutes from 18:00 New York, sum 1
VARIANCE_SHARE = _by_minute(_VARIANCE, _MINUTE_VARIANCE)


def volume_weights(to_last_trade: npt.NDArray[np.int64], early: int = 0) -> Floats:
    """Share of the session's volume per listed expiry, nearest first, from the sessions to each
    one's last trade. Sums to 1.

    MCL leaves a contract one session before CL does (its last trade is one business day earlier),
    and trades thinner than CL in the deferred months: CL's next-to-front ratio is shifted by one
    session (and `early` more) and squared. Beyond the second expiry the share halves every ten
    sessions of distance.
    """
    ratio = (
        np.array(_NEXT_TO_FRONT)[np.clip(to_last_trade[0] - 1 - early, 0, len(_NEXT_TO_FRONT) - 1)]
        ** 2
    )
    weights: Floats = 0.0008 + 0.08 * np.exp((43.0 - to_last_trade) / 14.0)
    weights[0], weights[1] = 1 / (1 + ratio), ratio / (1 + ratio)
    weights /= weights.sum()
    return weights


def open_interest(to_last_trade: npt.NDArray[np.int64]) -> Floats:
    """Contracts per listed expiry, nearest first: a tenth of CL's, fading beyond the second
    expiry.
    """
    at = np.clip(to_last_trade[0] - 1, 0, len(_OPEN_INTEREST) - 1)
    contracts: Floats = 2.0 + 180.0 * np.exp((43.0 - to_last_trade) / 30.0)
    contracts[0], contracts[1] = _OPEN_INTEREST[at], _OPEN_INTEREST_NEXT[at]
    contracts *= 100.0
    return contracts
