"""Checks of arguments: each error names the argument, what it takes and what it got."""

import math
from collections.abc import Sequence
from numbers import Integral, Real

REDUCTIONS = ("none", "mean", "sum")


def nonnegative(name: str, value: object) -> float:
    """A finite number >= 0."""
    number = _real(name, "a finite number >= 0", value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{name}: takes a finite number >= 0, got {value}")
    return number


def alpha(value: object) -> float | None:
    """The weight of class 1: a number in [0, 1]; None, or exactly -1, is no weight."""
    takes = "None, -1 or a number in [0, 1]"
    number = None if value is None else _real("alpha", takes, value)
    if number is None or number == -1:
        return None
    if not 0 <= number <= 1:
        raise ValueError(f"alpha: takes {takes}, got {value}")
    return number


def class_weights(alpha_value: object) -> tuple[float, float]:
    """The weights of class 1 and of class 0."""
    weight_of_one = alpha(alpha_value)
    return (1.0, 1.0) if weight_of_one is None else (weight_of_one, 1 - weight_of_one)


def fraction(name: str, value: object) -> float:
    """A number in [0, 1]."""
    number = _real(name, "a number in [0, 1]", value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name}: takes a number in [0, 1], got {value}")
    return number


def reduction(value: object) -> str:
    """One of "none", "mean", "sum"."""
    if not isinstance(value, str):
        raise TypeError(f"reduction: takes one of {REDUCTIONS}, got {value!r}")
    if value not in REDUCTIONS:
        raise ValueError(f"reduction: takes one of {REDUCTIONS}, got {value!r}")
    return value


def ignore_index(value: object) -> int:
    """The class index of items to leave out: an integer."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"ignore_index: takes an integer, got {value!r}")
    return int(value)


def count(name: str, value: object, least: int) -> int:
    """An integer, not below the least."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: takes an integer >= {least}, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: takes an integer >= {least}, got {value}")
    return int(value)


def class_axis(shape: Sequence[int]) -> int:
    """The axis of the classes in logits (C,), (N, C) or (N, C, d1, ...), with C >= 1."""
    if len(shape) == 0 or shape[min(len(shape) - 1, 1)] == 0:
        raise ValueError(
            "input: takes logits (C,), (N, C) or (N, C, d1, ...) with C >= 1, "
            f"got the shape {tuple(shape)}"
        )
    return min(len(shape) - 1, 1)


def has_probabilities(
    shape: Sequence[int], target_shape: Sequence[int], floating: bool, ignored: int
) -> bool:
    """Whether the target holds class probabilities (True) or class indices (False)."""
    shape, target_shape = tuple(shape), tuple(target_shape)
    axis = class_axis(shape)
    items = shape[:axis] + shape[axis + 1 :]
    takes = (
        f"class indices (integers) of shape {items} or class probabilities (floats) "
        f"of shape {shape}, got {'floats' if floating else 'integers'} of shape {target_shape}"
    )
    if target_shape not in (shape, items):
        raise ValueError(f"target: takes {takes}")
    if floating != (target_shape == shape):
        raise TypeError(f"target: takes {takes}")
    if floating and ignored >= 0:
        raise ValueError(
            "ignore_index: takes a number < 0 (its default is -100) where target holds class "
            f"probabilities, which cannot be left out by an index, got {ignored}"
        )
    return floating


def _real(name: str, takes: str, value: object) -> float:
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: takes {takes}, got {value!r}")
    return float(value)
