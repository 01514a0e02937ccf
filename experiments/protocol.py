"""What the experiments share: a statement before the runs, the same random draws for every arm, and
contrasts of paired runs.

A statement is a constant of the program of its experiment, committed before its runs; its hash is
stored with them. Every arm has as many draws over what is its own, and of a number all arms draw
the same values of what they share. The winners are trained again on fresh seeds with fresh splits.
A contrast of two is the mean of paired differences; its p-values are adjusted by Holm's method for
all that were stated.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import gammaln

Array = NDArray[Any]


@dataclass(frozen=True)
class Knob:
    """What is drawn for an arm: a number between two, uniform in its logarithm, or a choice."""

    between: tuple[float, float] | None = None
    among: tuple[Any, ...] = ()

    def draw(self, rng: np.random.Generator) -> Any:
        u = rng.random()
        if self.between is None:
            return self.among[int(u * len(self.among))]
        low, high = np.log(self.between)
        return float(f"{np.exp(low + u * (high - low)):.3g}")


@dataclass(frozen=True)
class Statement:
    """What is settled before the first run.

    A margin is a difference of the metric that would not matter: two arms are level where the
    interval of their difference lies within it.
    """

    question: str
    metric: str
    margin: float
    contrasts: tuple[tuple[str, str], ...]
    shared: dict[str, Knob]
    arms: dict[str, dict[str, Knob]]
    draws: int
    tuning_seeds: tuple[int, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if set(self.tuning_seeds) & set(self.seeds):
            raise ValueError("seeds: those of the verdict must not be tuning seeds")

    @property
    def fingerprint(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def draw(self, arm: str, number: int) -> dict[str, Any]:
        """A configuration. Of a number all arms have the same values of what they share."""
        knobs = {**self.shared, **self.arms[arm]}
        return {name: knob.draw(_stream(name, number)) for name, knob in knobs.items()}


def _stream(name: str, number: int) -> np.random.Generator:
    return np.random.default_rng([number, *name.encode()])


@dataclass(frozen=True)
class Contrast:
    """The mean of paired differences, half of its 95% interval by Student's t, in how many pairs
    the first was ahead, and p-values: of no difference, and of one that is not within the margin.
    """

    mean: float
    half: float
    ahead: int
    pairs: int
    p_difference: float
    p_margin: float

    def verdict(self, p_difference: float, p_margin: float, level: float = 0.05) -> str:
        """From p-values that were adjusted for the number of contrasts."""
        if p_margin < level:
            return "level"
        if p_difference < level:
            return "ahead" if self.mean > 0 else "behind"
        return "open"


def contrast(first: Array, second: Array, margin: float) -> Contrast:
    """Of an arm's results and another's on the same seeds; the margin's test is two one-sided."""
    n = np.size(first)
    if n < 2 or np.shape(first) != np.shape(second):
        raise ValueError(f"takes two or more pairs, got {np.shape(first)} and {np.shape(second)}")
    difference = np.asarray(first, float) - np.asarray(second, float)
    mean, error = float(difference.mean()), float(difference.std(ddof=1) / n**0.5)
    half = float(stats.t.ppf(0.975, n - 1) * error)
    error = max(error, np.finfo(float).tiny)
    p_difference = float(2 * stats.t.sf(abs(mean) / error, n - 1))
    p_margin = float(stats.t.sf((margin - abs(mean)) / error, n - 1))
    return Contrast(mean, half, int((difference > 0).sum()), n, p_difference, p_margin)


def best_of(values: Array) -> Array:
    """The expected best of n = 1, 2, ... of the draws, taken without putting back.

    The k-th smallest of N is the best of n in C(k-1, n-1) of C(N, n) ways.
    """
    ordered = np.sort(np.asarray(values, float))
    total, k = len(ordered), np.arange(1, len(ordered) + 1)
    best = []
    for n in k:
        share = np.zeros(total)
        share[n - 1 :] = np.exp(
            _log_choose(k[n - 1 :] - 1, n - 1) - _log_choose(np.array(total), n)
        )
        best.append(float(share @ ordered))
    return np.array(best)


def _log_choose(n: Array, k: int) -> Array:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))
