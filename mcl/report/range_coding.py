"""Whole numbers as short text by an adaptive binary range coder.

A number is its count of binary digits and the digits below the first one. How likely each of them
is, is learnt from the numbers before it: apart for each `side`, a column that is known beforehand
(a bar that traded little also moved little). Two years of bars of one minute take two thirds of
what zlib needs. Source: G. N. N. Martin, Range encoding, 1979; the carry is that of LZMA.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mcl.base.jit import njit
from mcl.report.base91 import data_of, letters

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

PROBABILITY_BITS, RATE = 12, 5
TOP = 1 << 24
WIDE = 40  # more than the binary digits of a number
CONTEXTS, SIDES = 32, 32
MODELLED = 64  # digits below the first that are learnt: those of the first six places
LOW, RANGE, CACHE, PENDING, PLACE = range(5)


def stream(values: Any, side: Any = None) -> str:
    """Whole numbers of 32 bits as text; `side` holds one small number, 0 to 31, for each."""
    whole = np.ascontiguousarray(values).astype(np.int64)
    out = np.zeros(6 * len(whole) + 16, np.uint8)
    size = _encode(whole, _sides(side, len(whole)), out)
    count = np.array([len(whole)], "<u4")
    return letters(count.tobytes() + out[:size].tobytes())


def opened(text: str, side: Any = None) -> Any:
    """The numbers that `stream` wrote."""
    data = data_of(text)
    count = int(np.frombuffer(data[:4], "<u4")[0])
    out = np.zeros(count, np.int64)
    padded = np.frombuffer(data[4:] + bytes(8), np.uint8)
    _decode(padded, _sides(side, count), out)
    return out


def digits(values: Any) -> Ints:
    """Count the binary digits of the size of each number."""
    size = np.abs(np.asarray(values, np.int64))
    return np.where(size > 0, np.log2(np.maximum(size, 1)).astype(np.int64) + 1, 0)


def _sides(side: Any, count: int) -> Ints:
    if side is None:
        return np.zeros(count, np.int64)
    return np.minimum(np.ascontiguousarray(side, dtype=np.int64), SIDES - 1)


@njit
def _shift(state: Ints, out: Bytes) -> None:
    """Write what no carry can change any more."""
    if state[LOW] < 0xFF000000 or state[LOW] > 0xFFFFFFFF:
        carry = state[LOW] >> 32
        out[state[PLACE]] = (state[CACHE] + carry) & 255
        state[PLACE] += 1
        while state[PENDING] > 0:
            out[state[PLACE]] = (255 + carry) & 255
            state[PLACE] += 1
            state[PENDING] -= 1
        state[CACHE] = (state[LOW] >> 24) & 255
    else:
        state[PENDING] += 1
    state[LOW] = (state[LOW] & 0x00FFFFFF) << 8


@njit
def _put(state: Ints, out: Bytes, models: Ints, k: int, bit: int) -> None:
    """Write a bit whose model is `models[k]`, the probability of a zero; -1 is an even chance."""
    p = models[k] if k >= 0 else 1 << (PROBABILITY_BITS - 1)
    bound = (state[RANGE] >> PROBABILITY_BITS) * p
    if bit == 0:
        state[RANGE] = bound
    else:
        state[LOW] += bound
        state[RANGE] -= bound
    if k >= 0:
        models[k] += ((1 << PROBABILITY_BITS) - p) >> RATE if bit == 0 else -(p >> RATE)
    while state[RANGE] < TOP:
        _shift(state, out)
        state[RANGE] <<= 8


@njit
def _encode(values: Ints, sides: Ints, out: Bytes) -> int:
    lengths = np.full(CONTEXTS * SIDES * WIDE, 1 << (PROBABILITY_BITS - 1), np.int64)
    below = np.full(WIDE * MODELLED, 1 << (PROBABILITY_BITS - 1), np.int64)
    state = np.array([0, 0xFFFFFFFF, 0, 0, 0], np.int64)
    before, last = 0, 0
    for i in range(len(values)):
        folded = (values[i] << 1) ^ (values[i] >> 63)
        length = 0
        while folded >> length:
            length += 1
        first = (min(before + last, CONTEXTS - 1) * SIDES + sides[i]) * WIDE
        for j in range(length):
            _put(state, out, lengths, first + j, 1)
        _put(state, out, lengths, first + length, 0)
        node = 1
        for j in range(length - 2, -1, -1):
            bit = (folded >> j) & 1
            _put(state, out, below, length * MODELLED + node if node < MODELLED else -1, bit)
            node = 2 * node + bit
        before, last = last, length
    for _ in range(5):
        _shift(state, out)
    return int(state[PLACE])


@njit
def _take(state: Ints, data: Bytes, models: Ints, k: int) -> int:
    """Read the bit that `_put` wrote."""
    p = models[k] if k >= 0 else 1 << (PROBABILITY_BITS - 1)
    bound = (state[RANGE] >> PROBABILITY_BITS) * p
    bit = 0 if state[LOW] < bound else 1
    if bit == 0:
        state[RANGE] = bound
    else:
        state[LOW] -= bound
        state[RANGE] -= bound
    if k >= 0:
        models[k] += ((1 << PROBABILITY_BITS) - p) >> RATE if bit == 0 else -(p >> RATE)
    while state[RANGE] < TOP:
        state[LOW] = (state[LOW] << 8) | data[min(state[PLACE], len(data) - 1)]
        state[RANGE] <<= 8
        state[PLACE] += 1
    return bit


@njit
def _decode(data: Bytes, sides: Ints, out: Ints) -> None:
    lengths = np.full(CONTEXTS * SIDES * WIDE, 1 << (PROBABILITY_BITS - 1), np.int64)
    below = np.full(WIDE * MODELLED, 1 << (PROBABILITY_BITS - 1), np.int64)
    state = np.array([0, 0xFFFFFFFF, 0, 0, 5], np.int64)
    for k in range(1, 5):
        state[LOW] = (state[LOW] << 8) | data[k]
    before, last = 0, 0
    for i in range(len(out)):
        first = (min(before + last, CONTEXTS - 1) * SIDES + sides[i]) * WIDE
        length = 0
        while _take(state, data, lengths, first + length):
            length += 1
        node, folded = 1, min(length, 1)
        for _ in range(length - 1):
            model = length * MODELLED + node if node < MODELLED else -1
            bit = _take(state, data, below, model)
            node, folded = 2 * node + bit, 2 * folded + bit
        out[i] = (folded >> 1) ^ -(folded & 1)
        before, last = last, length
