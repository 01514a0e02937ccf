"""Answers to the exercises of the chapter balanced_cross_entropy."""

import numpy as np
from scipy.special import expit, logit

from focal_lib.weights import inverse_frequency
from focal_notes.exercises import Answer
from focal_notes.imbalance import BACKGROUND, CENTERS, POSITIVES, Array, population


def _alpha_of(counts: tuple[int, int]) -> float:
    """The alpha that weights counts = (N_0, N_1) by their inverse frequencies."""
    weights = inverse_frequency(np.array(counts))
    return float(weights[1] / weights.sum())


def _probability(p: float, alpha: float) -> float:
    return float(expit(logit(p) - logit(alpha)))


def _tie(origin: Array) -> float:
    """The weight share of class 1 at which both classes' losses fall equally fast at the start."""
    data = population(0)
    columns = np.column_stack([data.points - origin, np.ones(data.y.size)])
    one, zero = columns[data.y == 1].mean(axis=0), columns[data.y == 0].mean(axis=0)
    overlap = one @ zero
    return float((zero @ zero + overlap) / (one @ one + zero @ zero + 2 * overlap))


ANSWERS = {
    "ex-balanced-alpha": Answer(
        lambda: _alpha_of((58_800, 1_200)),
        rtol=1e-3,
        hint="alpha is the weight of class 1: the rarer class 1 is, the larger.",
        near_misses={
            "that is the weight of class 0": lambda: 1_200 / 60_000,
            "that is the odds; alpha is one of two weights that sum to 1": lambda: 58_800 / 1_200,
        },
    ),
    "ex-alpha-quarter": Answer(
        lambda: 1 - 0.25,
        rtol=1e-3,
        hint="Which data make alpha = N_0 / N equal to 0.25?",
        near_misses={"that is the share of class 0: alpha = N_0 / N weights class 1": lambda: 0.25},
    ),
    "ex-undo-alpha": Answer(
        lambda: _probability,
        rtol=1e-6,
        points=((0.5, 0.5), (0.5, 0.998), (0.9, 0.75), (0.3, 0.1), (0.99, 0.99)),
        hint="Subtract log(alpha / (1 - alpha)) from the score's logit.",
        near_misses={
            "you shifted the wrong way": lambda: lambda p, alpha: _probability(p, 1 - alpha)
        },
    ),
    "ex-own-too-much": Answer(
        lambda: "b",
        hint="Bound what the negatives scored below 0.2 can own when the bias has come to rest.",
    ),
    "ex-minibatch": Answer(
        lambda: lambda pi: 1 / (4 * pi * (1 - pi)),
        rtol=1e-6,
        points=((0.5,), (0.1,), (0.01,), (0.9,), (1 / 501,)),
        hint="Balanced: alpha = 1 - pi, Z = 2 pi (1 - pi), and the resampled prior is 1/2.",
        near_misses={
            "this is its inverse": lambda: lambda pi: 4 * pi * (1 - pi),
            "that keeps only the positives' part": lambda: lambda pi: 1 / (4 * pi),
        },
    ),
    "ex-moved-origin": Answer(
        lambda: _tie(CENTERS[POSITIVES]),
        rtol=0.01,
        hint="Recompute the three inner products with the moved points, and solve for omega.",
        near_misses={
            "that is with the origin where it was": lambda: _tie(CENTERS[BACKGROUND]),
        },
    ),
}
