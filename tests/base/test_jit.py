"""Records are changed by name in compiled code as they are in Python."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl.base.jit import njit


class Mixed(NamedTuple):
    number: int
    price: float
    on: bool


class Prices(NamedTuple):
    low: float
    high: float


@njit
def changed(record: Mixed, price: float, times: int) -> Mixed:
    for _ in range(times):
        record = record._replace(price=price, number=record.number + 1)
    return record._replace(on=record.number > 2)


@njit
def widened(prices: Prices, by: float) -> Prices:
    return prices._replace(high=prices.high + by)


@njit
def integer_price(record: Mixed) -> Mixed:
    return record._replace(price=1)


@njit
def unknown(record: Mixed) -> Mixed:
    return record._replace(prices=1.0)  # type: ignore[call-arg]


@given(st.integers(-9, 9), st.floats(allow_nan=False), st.booleans(), st.integers(0, 5))
def test_compiled_and_python_agree(count: int, price: float, on: bool, times: int) -> None:
    record = Mixed(number=count, price=0.5, on=on)
    assert changed(record, price, times) == changed.py_func(record, price, times)  # type: ignore[attr-defined]
    prices = Prices(low=-price, high=price)
    assert widened(prices, 1.0) == Prices(low=-price, high=price + 1.0)


def test_a_value_takes_the_type_of_its_field() -> None:
    """So a record keeps its type through a loop, and a kernel its one signature."""
    record = integer_price(Mixed(number=1, price=math.inf, on=False))
    assert (record.price, type(record.price)) == (1.0, float)


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(numba.TypingError):
        unknown(Mixed(number=1, price=1.0, on=True))
