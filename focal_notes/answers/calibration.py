"""The answers to the exercises of the chapter on calibration."""

from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, logit
from scipy.stats import binom

from focal_lib.estimation import sigmoid_posterior, sigmoid_score, softmax_posterior, softmax_score
from focal_lib.numpy import sigmoid_focal_loss_gradient
from focal_notes.exercises import Answer


def _weighted_score(eta: float, alpha: float, gamma: float) -> float:
    """Where the expected gradient vanishes."""

    def slope(x: float) -> float:
        up, down = (sigmoid_focal_loss_gradient(x, y, alpha=alpha, gamma=gamma) for y in (1, 0))
        return float(eta * up + (1 - eta) * down)

    return float(expit(brentq(slope, -30.0, 30.0, xtol=1e-12)))


def _phi(p: float, gamma: float) -> float:
    """Focal loss's gradient as a multiple of cross entropy's."""
    focal, plain = (
        sigmoid_focal_loss_gradient(logit(p), 1, alpha=None, gamma=g) for g in (gamma, 0.0)
    )
    return float(focal / plain)


def _posterior(p: Any, weight: Any, gamma: float) -> Any:
    return softmax_posterior(
        np.asarray(p, float), np.asarray(weight, float), gamma=gamma, from_logits=False
    )


def _over_from(gamma: float) -> int:
    """The smallest number of classes with an overstated score just above the uniform one."""
    for classes in range(2, 200):
        eta = np.full(classes, (1 - 1.0001 / classes) / (classes - 1))
        eta[0] = 1.0001 / classes
        if softmax_score(eta, gamma=gamma, from_logits=False)[0] > eta[0]:
            return classes
    raise ValueError(f"gamma: no such number of classes for {gamma}")


def _first_above(gamma: float) -> int:
    """The smallest C with phi(1 / (C - 1)) > 1: the condition for some posterior."""
    return next(classes for classes in range(3, 200) if _phi(1 / (classes - 1), gamma) > 1)


def _slope_at_half(gamma: float) -> float:
    step = 1e-5
    low, high = (float(sigmoid_posterior(x, alpha=None, gamma=gamma)) for x in (-step, step))
    return (high - low) / (2 * step)


def _best_factor(gamma: float) -> float:
    x = np.linspace(-30.0, 30.0, 12_001)
    exact = expit(sigmoid_posterior(x, alpha=None, gamma=gamma))
    return float(
        minimize_scalar(
            lambda k: abs(expit(k * x) - exact).max(), bounds=(1, gamma + 1), method="bounded"
        ).x
    )


def _mean_ece(n: int = 500, p: float = 0.9) -> float:
    counts = np.arange(n + 1)
    return float(abs(counts / n - p) @ binom.pmf(counts, n, p))


P = np.array([0.6, 0.3, 0.1])

ANSWERS = {
    "ex-detector-score": Answer(
        lambda: _weighted_score(0.9, 0.25, 2.0),
        rtol=0.002,
        hint="Go forward: the weight moves the logit, then gamma flattens it.",
        near_misses={
            "this is the score without gamma": lambda: _weighted_score(0.9, 0.25, 0.0),
            "this is the score without alpha": lambda: _weighted_score(0.9, 0.5, 2.0),
            "gamma first, then alpha, is the order of the way back": lambda: float(
                expit(sigmoid_score(logit(0.9), alpha=None, gamma=2.0) + logit(0.25))
            ),
            "this is what the score 0.9 stands for; the question is the other way round": (
                lambda: float(sigmoid_posterior(0.9, alpha=0.25, gamma=2.0, from_logits=False))
            ),
        },
    ),
    "ex-way-back": Answer(
        lambda: _posterior,
        points=(
            (P, np.ones(3), 2.0),
            (P, np.array([1.0, 2.0, 5.0]), 2.0),
            (np.array([0.7, 0.3]), np.array([0.25, 0.75]), 1.0),
            (np.full(5, 0.2), np.arange(1.0, 6.0), 0.5),
        ),
        rtol=1e-6,
        hint="Divide each score by its weight and by phi of it, then make the sum 1.",
        near_misses={
            "the weights are still in it": lambda: (
                lambda p, weight, gamma: _posterior(p, np.ones(len(weight)), gamma)
            ),
            "the sum has to be 1": lambda: (
                lambda p, weight, gamma: (
                    np.asarray(p) / (np.asarray(weight) * [_phi(a, gamma) for a in p])
                )
            ),
        },
    ),
    "ex-near-half": Answer(
        lambda: _slope_at_half(1.0),
        rtol=0.003,
        hint="It is the slope of the logit map at 0.",
        near_misses={
            "gamma + 1 is the factor far out": lambda: 2.0,
            "this is the best factor for all scores together": lambda: _best_factor(1.0),
        },
    ),
    "ex-how-many-classes": Answer(
        lambda: _over_from(4.0),
        rtol=0.0,
        hint="Find where phi is largest for gamma = 4; one over it is the number that counts.",
        near_misses={
            "so many suffice for some posterior, but not for one class against equals": (
                lambda: _first_above(4.0)
            ),
            "this is one too few: 1/C must be below the peak": lambda: _over_from(4.0) - 1,
        },
    ),
    "ex-floor": Answer(
        _mean_ece,
        hint="It is the mean distance of a binomial share from its probability.",
        near_misses={
            "the average of the absolute value is not 0": lambda: 0.0,
            "this is the upper bound": lambda: float(np.sqrt(0.09 / 500)),
            "this is the lower bound": lambda: float(45 / np.sqrt(136) / 500),
        },
    ),
}
