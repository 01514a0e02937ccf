"""The answers to the exercises of the chapter on dense detection."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import logit

from focal_lib.numpy import cross_entropy, focal_loss, sigmoid_focal_loss_gradient
from focal_notes.exercises import Answer

NEGATIVES = 1037  # for each positive


def _overlap(down: int, right: int) -> float:
    first = {(row, column) for row in range(8) for column in range(8)}
    second = {(row + down, column + right) for row, column in first}
    return len(first & second) / len(first | second)


def _average_precision(hits: list[int], total: int, interpolated: bool = True) -> float:
    precision = [sum(hits[: k + 1]) / (k + 1) for k in range(len(hits))]
    best = [max(precision[k:]) if interpolated else precision[k] for k in range(len(hits))]
    return sum(value for value, hit in zip(best, hits, strict=True) if hit) / total


def _balanced_start(alpha: float = 0.25, gamma: float = 2.0) -> float:
    def shift(p: float) -> float:
        one, zero = (
            float(sigmoid_focal_loss_gradient(logit(p), y, alpha=alpha, gamma=gamma))
            for y in (1, 0)
        )
        return one + NEGATIVES * zero

    return float(brentq(shift, 1e-6, 0.3, xtol=1e-14))


def _share(gamma: float) -> float:
    losses = focal_loss(np.repeat([0.5, 0.99], [10, 990]), gamma)
    return float(losses[:10].sum() / losses.sum())


HITS = [1, 0, 1, 1, 0]

ANSWERS = {
    "ex-detection-overlap": Answer(
        lambda: _overlap(2, 1),
        hint="Count the pixels that both boxes have, and those that at least one has.",
        near_misses={
            "divide by the union, not by the area of one box": lambda: 42 / 64,
            "the union counts the common pixels once": lambda: 42 / 128,
        },
    ),
    "ex-detection-ap": Answer(
        lambda: _average_precision(HITS, 5),
        hint="Add, for each hit, the best precision from there on, and divide by the digits.",
        near_misses={
            "that is without interpolation": lambda: _average_precision(HITS, 5, False),
            "digits that are never found count too": lambda: _average_precision(HITS, 3),
        },
    ),
    "ex-detection-start": Answer(
        _balanced_start,
        hint="Find the zero of G between the base rate and one half.",
        near_misses={
            "that is the base rate, where cross entropy does not pull": lambda: 1 / (NEGATIVES + 1),
            "that is without the weight alpha": lambda: _balanced_start(0.5),
        },
    ),
    "ex-detection-rate": Answer(
        lambda: 0.1 * (NEGATIVES + 1),
        rtol=1e-4,
        hint="By which factor is every loss multiplied?",
        near_misses={
            "all scores are the negatives and the positives": lambda: 0.1 * NEGATIVES,
            "the loss gets smaller, so the rate must get larger": lambda: 0.1 / (NEGATIVES + 1),
            "that is true of Adam": lambda: 0.1,
        },
    ),
    "ex-detection-share": Answer(
        lambda: _share,
        points=((0.0,), (0.5,), (1.0,), (2.0,), (5.0,)),
        rtol=1e-6,
        hint="Ten losses at 0.5, over those and 990 losses at 0.99.",
        near_misses={
            "that counts one example of each kind": lambda: (
                lambda gamma: float(
                    focal_loss(0.5, gamma) / (focal_loss(0.5, gamma) + focal_loss(0.99, gamma))
                )
            ),
            "that is cross entropy's share, for every gamma": lambda: (
                lambda gamma: float(
                    10 * cross_entropy(0.5) / (10 * cross_entropy(0.5) + 990 * cross_entropy(0.99))
                )
            ),
        },
    ),
}
