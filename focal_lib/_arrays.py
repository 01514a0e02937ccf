"""NumPy arguments and results: arrays are checked, and what is returned is rounded once."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

LARGEST = float(np.finfo(np.float64).max)
# Infinite logits, 0/0 in an empty mean and results too small for their dtype are all defined.
quiet = np.errstate(all="ignore")


def array(name: str, value: ArrayLike, kinds: str = "iuf") -> Array:
    """The array, if it holds real numbers of these kinds."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: takes an array without a mask, got a masked one")
    try:
        numbers = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: takes an array of numbers, got {value!r}") from error
    if numbers.dtype.kind not in kinds:
        raise TypeError(f"{name}: takes real numbers, got {value!r} ({numbers.dtype})")
    return numbers


def check(name: str, numbers: Array, right: Array, takes: str) -> None:
    if not right.all():
        raise ValueError(f"{name}: takes {takes}, got {numbers[~right][0]}")


def in_range(name: str, numbers: Array, largest: float) -> Array:
    """The array, if it holds numbers from 0 to the largest; no other array is made to see that."""
    if numbers.size and not (numbers.min() >= 0 and numbers.max() <= largest):
        takes = f"numbers in [0, {largest}]" if largest == 1 else "finite numbers >= 0"
        check(name, numbers, (numbers >= 0) & (numbers <= largest), takes)
    return numbers


def within(name: str, value: ArrayLike, largest: float) -> Array:
    """The array in float64, if it holds numbers from 0 to the largest."""
    return in_range(name, array(name, value).astype(np.float64), largest)


def labels(y: ArrayLike) -> Array:
    """The array in float64, if it holds 0 and 1 alone."""
    numbers = array("y", y, "biuf").astype(np.float64)
    check("y", numbers, (numbers == 0) | (numbers == 1), "the labels 0 and 1")
    return numbers


def times(a: Array, b: Array) -> Array:
    """a b, with 0 times infinity taken as 0."""
    product, zero = np.asarray(a * b), np.equal(a, 0)
    if zero.any():
        product[zero & np.isinf(b)] = 0
    return product


def product(*factors: ArrayLike) -> Array:
    """What is finite, without an overflow or underflow on the way."""
    parts, exponents = zip(*map(np.frexp, factors), strict=True)
    return np.asarray(np.clip(np.ldexp(math.prod(parts), sum(exponents)), -LARGEST, LARGEST))


@quiet
def rounded(value: ArrayLike, like: ArrayLike) -> Array:
    """Once, to the floating dtype of the argument if it has one; 0-d becomes a scalar."""
    dtype = np.asarray(like).dtype
    dtype = dtype if dtype in (np.float16, np.float32) else np.dtype(np.float64)
    return np.asarray(value, dtype=dtype)[()]
