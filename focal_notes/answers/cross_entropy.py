"""Answers to the exercises of the chapter cross_entropy."""

from typing import Any

import numpy as np
from scipy.optimize import bisect, minimize_scalar
from scipy.special import entr, logit

from focal_lib.numpy import sigmoid_focal_loss, sigmoid_focal_loss_gradient
from focal_notes.exercises import Answer


def _loss(x: float, y: int) -> float:
    return float(sigmoid_focal_loss(np.float64(x), y, None, 0.0))


def _literal_loss(x: float, y: int) -> float:
    """The definition, followed to the letter: it breaks, which is what the exercise is about."""
    with np.errstate(all="ignore"):
        p = 1 / (1 + np.exp(np.float64(-x)))
        return float(-np.log(p if y == 1 else 1 - p))


def _half_stable_loss(x: float, y: int) -> float:
    """log(1 + exp(-z)): infinite on one side, 0 on the other."""
    with np.errstate(all="ignore"):
        return float(np.log(1 + np.exp(np.float64(-(2 * y - 1) * x))))


def _pull_of_squared_error(p_t: float) -> float:
    return 2 * (1 - p_t) * p_t * (1 - p_t)


def _bias(h: Any, y: Any) -> float:
    """The zero of the loss's derivative in the bias, bracketed by the proposition's argument."""
    h, start = np.asarray(h, float), float(logit(np.mean(y)))
    slope = lambda b: float(sigmoid_focal_loss_gradient(h + b, y, alpha=None, gamma=0.0).sum())  # noqa: E731
    return float(bisect(slope, start - h.max() - 1, start - h.min() + 1, xtol=1e-12))


_LABELS = np.array([0, 0, 1, 0, 0, 1, 0, 0])

ANSWERS = {
    "ex-geometric-mean": Answer(
        lambda: float(np.exp(-0.25)),
        rtol=1e-3,
        hint="Which p_t has -log p_t = 0.25?",
        near_misses={
            "you used the logarithm to base 10": lambda: 10**-0.25,
            "you used the logarithm to base 2": lambda: 2**-0.25,
            "that is 1 - 0.25, which is close only for small losses": lambda: 1 - 0.25,
        },
    ),
    "ex-label-noise": Answer(
        lambda: float(entr(0.05) + entr(0.95)),
        rtol=2e-3,
        hint="Given the true label, how is the annotated one distributed? What is its entropy?",
        near_misses={
            "that is what the unflipped labels cost; the flipped ones cost as well": lambda: float(
                -np.log(0.95)
            ),
            "that is in bits": lambda: float((entr(0.05) + entr(0.95)) / np.log(2)),
            "that is the error rate": lambda: 0.05,
        },
    ),
    "ex-stable": Answer(
        lambda: _loss,
        rtol=1e-10,
        points=(
            (0.0, 1),
            (3.0, 0),
            (-2.0, 1),
            (40.0, 1),
            (-40.0, 0),
            (700.0, 0),
            (-700.0, 1),
            (700.0, 1),
        ),
        hint="Try it at a margin of 40, and at -700, against the formula with max and log1p.",
        near_misses={
            "the definition loses its digits in 1 - p": lambda: _literal_loss,
            "log(1 + e) loses a small e: there is a function for that": lambda: _half_stable_loss,
            "you swapped the labels": lambda: lambda x, y: _loss(x, 1 - y),
        },
    ),
    "ex-squared-error": Answer(
        lambda: float(
            minimize_scalar(
                lambda p_t: -_pull_of_squared_error(p_t), bounds=(0.01, 0.99), method="bounded"
            ).x
        ),
        rtol=5e-3,
        hint="Write the derivative in z as a polynomial in p_t, and find its largest size.",
        near_misses={
            "that maximizes the slope of the sigmoid alone": lambda: 0.5,
            "that is for the derivative in p_t; differentiate in the logit": lambda: 0.0,
        },
    ),
    "ex-fit-bias": Answer(
        lambda: _bias,
        rtol=1e-6,
        atol=1e-8,
        points=(
            (np.zeros(8), _LABELS),
            (np.linspace(-2, 3, 8), _LABELS),
            (np.linspace(39, 41, 8), _LABELS),
            (np.array([-30.0, 25.0, 0.0, 4.0, -4.0, 12.0, -7.0, 1.0]), 1 - _LABELS),
        ),
        hint="Does the mean of expit(h + b) equal the mean of y, also where h is near 40?",
        near_misses={
            "that ignores h": lambda: lambda h, y: float(logit(np.mean(y))),
            "that averages h; the mean of p is not p of the mean": lambda: (
                lambda h, y: float(logit(np.mean(y)) - np.mean(h))
            ),
        },
    ),
}
