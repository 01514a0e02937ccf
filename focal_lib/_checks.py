"""Checks of arguments: each error names the argument, what it takes and what it got."""

import math
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np

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


def class_weights(alpha_value: object, has_pos_weight: bool = False) -> tuple[float, float]:
    """The weights of class 1 and of class 0."""
    weight_of_one = alpha(alpha_value)
    if has_pos_weight and weight_of_one is not None:
        raise ValueError(
            "alpha: takes None beside pos_weight, as both weigh class 1 (alpha is the pos_weight "
            f"alpha / (1 - alpha), with both weights times 1 - alpha), got {alpha_value}"
        )
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
    """The target of what is left out: an integer."""
    number = _integer("ignore_index", "an integer", value)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"ignore_index: takes an integer of 64 bits, got {number}")
    return number


def ignored_label(value: object) -> int | None:
    """That of the binary loss: None, or an integer that is no label."""
    number = None if value is None else ignore_index(value)
    if number in (0, 1):
        raise ValueError(f"ignore_index: takes None or an integer but 0 and 1, got {number}")
    return number


def count(name: str, value: object, least: int) -> int:
    """An integer, not below the least."""
    number = _integer(name, f"an integer >= {least}", value)
    if number < least:
        raise ValueError(f"{name}: takes an integer >= {least}, got {number}")
    return number


def class_axis(shape: Sequence[int]) -> int:
    """The axis of the classes in logits (C,), (N, C) or (N, C, d1, ...), with C >= 1."""
    if len(shape) == 0 or shape[min(len(shape) - 1, 1)] == 0:
        raise ValueError(
            "input: takes logits (C,), (N, C) or (N, C, d1, ...) with C >= 1, "
            f"got the shape {tuple(shape)}"
        )
    return min(len(shape) - 1, 1)


def broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    """Whether the shape broadcasts to the other one."""
    missing = len(to) - len(shape)
    return missing >= 0 and all(a in (1, b) for a, b in zip(shape, to[missing:], strict=True))


def broadcast_together(name: str, shape: Sequence[int], other: Sequence[int]) -> None:
    if any(a != b and 1 not in (a, b) for a, b in zip(shape[::-1], other[::-1], strict=False)):
        takes = f"a shape that broadcasts with {tuple(other)}"
        raise ValueError(f"{name}: takes {takes}, got {tuple(shape)}")


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
    if floating and ignored in (0, 1):
        raise ValueError(
            "ignore_index: takes an integer but 0 and 1 where target holds class probabilities, "
            f"got {ignored}"
        )
    return floating


def _integer(name: str, takes: str, value: object) -> int:
    if isinstance(value, bool | np.timedelta64) or not isinstance(value, Integral):
        raise TypeError(f"{name}: takes {takes}, got {value!r}")
    return int(value)


def _real(name: str, takes: str, value: object) -> float:
    if type(value) is float:
        return value
    if isinstance(value, bool | np.timedelta64) or not isinstance(value, Real):
        raise TypeError(f"{name}: takes {takes}, got {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name}: takes {takes}, got {value}") from error
