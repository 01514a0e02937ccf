"""Checks of arguments: each error names the argument, what it got and what it takes."""

import math
from typing import Any

REDUCTIONS = ("none", "mean", "sum")


def gamma(value: Any, name: str = "gamma") -> float:
    """A focusing parameter: a finite number >= 0."""
    number = _number(name, value, "a finite number >= 0")
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name}: takes a finite number >= 0, got {value!r}")
    return number


def alpha(value: Any) -> float | None:
    """The weight of class 1: a number in [0, 1]; None, or exactly -1, is no weight."""
    if value is None:
        return None
    takes = "None, -1 or a number in [0, 1]"
    number = _number("alpha", value, takes)
    if number == -1:
        return None
    if not 0 <= number <= 1:
        raise ValueError(f"alpha: takes {takes}, got {value!r}")
    return number


def fraction(name: str, value: Any) -> float:
    """A number in [0, 1]."""
    number = _number(name, value, "a number in [0, 1]")
    if not 0 <= number <= 1:
        raise ValueError(f"{name}: takes a number in [0, 1], got {value!r}")
    return number


def reduction(value: Any) -> str:
    """One of "none", "mean", "sum"."""
    if not isinstance(value, str):
        raise TypeError(f"reduction: takes one of {REDUCTIONS}, got {value!r}")
    if value not in REDUCTIONS:
        raise ValueError(f"reduction: takes one of {REDUCTIONS}, got {value!r}")
    return value


def index(name: str, value: Any) -> int:
    """An integer."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: takes an integer, got {value!r}")
    return int(value.__index__())


def _number(name: str, value: Any, takes: str) -> float:
    if isinstance(value, (bool, str, bytes)):
        raise TypeError(f"{name}: takes {takes}, got {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: takes {takes}, got {value!r}") from error
