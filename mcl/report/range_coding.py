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

from mcl.base.jit import inline, njit
from mcl.report.base91 import data_of, letters

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Models = npt.NDArray[np.int16]
State = tuple[int, int, int, int, int]  # low end, width, byte not yet written, 255s after it, place

PROBABILITY_BITS, RATE = 12, 5
EVEN = 1 << (PROBABILITY_BITS - 1)  # the chance of a zero that is as likely as a one
TOP = 1 << 24
WIDE = 40  # more than the binary digits of a number
CONTEXTS, SIDES = 32, 32
MODELLED = 64  # digits below the first that are learnt: those of the first six places
LOW, RANGE, PLACE = range(3)  # of the state of a reader


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


@inline
def _shift(low: int, cache: int, pending: int, place: int, out: Bytes) -> tuple[int, int, int, int]:
    """Write what no carry can change any more."""
    if low < 0xFF000000 or low > 0xFFFFFFFF:
        carry = low >> 32
        out[place] = (cache + carry) & 255
        place += 1
        while pending > 0:
            out[place] = (255 + carry) & 255
            place += 1
            pending -= 1
        cache = (low >> 24) & 255
    else:
        pending += 1
    return (low & 0x00FFFFFF) << 8, cache, pending, place


@inline
def _put(state: State, out: Bytes, zero: int, bit: int) -> State:
    """Write a bit that is 0 with the probability `zero`, in parts of 4,096."""
    low, width, cache, pending, place = state
    bound = (width >> PROBABILITY_BITS) * zero
    if bit == 0:
        width = bound
    else:
        low += bound
        width -= bound
    while width < TOP:
        low, cache, pending, place = _shift(low, cache, pending, place, out)
        width <<= 8
    return low, width, cache, pending, place


@inline
def _learnt(models: Models, k: int, bit: int) -> int:
    """The probability of a zero before this bit, which `models[k]` then learns from."""
    zero = np.int64(models[k])
    if bit == 0:
        models[k] = zero + (((1 << PROBABILITY_BITS) - zero) >> RATE)
    else:
        models[k] = zero - (zero >> RATE)
    return int(zero)


@njit
def _encode(values: Ints, sides: Ints, out: Bytes) -> int:
    lengths = np.full(CONTEXTS * SIDES * WIDE, EVEN, np.int16)
    below = np.full(WIDE * MODELLED, EVEN, np.int16)
    state = (0, 0xFFFFFFFF, 0, 0, 0)
    before, last = 0, 0
    for i in range(len(values)):
        folded = (values[i] << 1) ^ (values[i] >> 63)
        length = 0
        while folded >> length:
            length += 1
        first = (min(before + last, CONTEXTS - 1) * SIDES + sides[i]) * WIDE
        for j in range(length + 1):
            bit = 1 if j < length else 0
            state = _put(state, out, _learnt(lengths, first + j, bit), bit)
        node = 1
        for j in range(length - 2, -1, -1):
            bit = (folded >> j) & 1
            zero = _learnt(below, length * MODELLED + node, bit) if node < MODELLED else EVEN
            state = _put(state, out, zero, bit)
            node = 2 * node + bit
        before, last = last, length
    low, _, cache, pending, place = state
    for _ in range(5):
        low, cache, pending, place = _shift(low, cache, pending, place, out)
    return place


@njit
def _take(state: Ints, data: Bytes, models: Ints, k: int) -> int:
    """Read the bit that `_put` wrote."""
    p = models[k] if k >= 0 else EVEN
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
    lengths = np.full(CONTEXTS * SIDES * WIDE, EVEN, np.int64)
    below = np.full(WIDE * MODELLED, EVEN, np.int64)
    state = np.array([0, 0xFFFFFFFF, 5], np.int64)
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
