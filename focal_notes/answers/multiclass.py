"""The answers to the exercises of the chapter on many classes."""

from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from focal_lib.numpy import softmax_focal_loss, softmax_focal_loss_gradient
from focal_lib.weights import inverse_frequency
from focal_notes.exercises import Answer


def _start_loss(classes: int, gamma: float, weight: float = 1.0) -> Any:
    return weight * softmax_focal_loss(np.zeros((1, classes)), np.array([0]), gamma=gamma)


def _adam_ratio(alpha: float, root: float = 1e-8, epsilon: float = 1e-8) -> float:
    return (alpha * root / (alpha * root + epsilon)) / (root / (root + epsilon))


def _common_batch(counts: tuple[int, ...] = (900, 90, 10)) -> float:
    logits, target = np.zeros((32, len(counts))), np.zeros(32, dtype=int)
    weight = inverse_frequency(np.array(counts))
    mean = softmax_focal_loss(logits, target, weight)
    total = softmax_focal_loss(logits, target, weight, reduction="sum")
    return float(mean / (total / 32))


def _smoothing_aim(gamma: float, smoothing: float = 0.1, classes: int = 10) -> float:
    """The p_t at which the slope of the smoothed loss along the target's logit is 0."""

    def slope(logit: float) -> float:
        row = np.zeros((1, classes))
        row[0, 0] = logit
        slopes = softmax_focal_loss_gradient(
            row, np.array([0]), gamma=gamma, label_smoothing=smoothing
        )
        return float(slopes[0, 0])

    odds = np.exp(brentq(slope, 0.0, 20.0))
    return float(odds / (odds + classes - 1))


def _gradient(logits: Any, target: int, gamma: float) -> Any:
    row = np.asarray(logits, dtype=float)[None]
    return softmax_focal_loss_gradient(row, np.array([target]), gamma=gamma)[0]


def _negative_gradient(logits: Any, target: int, gamma: float) -> Any:
    return -_gradient(logits, target, gamma)


def _cancelled_gradient(logits: Any, target: int, gamma: float) -> Any:
    """phi(p_t) (p - e_t) with 1 - p_t as a difference."""
    p = softmax(np.asarray(logits, dtype=float))
    p_t = p[target]
    phi = (1 - p_t) ** gamma - gamma * p_t * (1 - p_t) ** (gamma - 1) * np.log(p_t)
    return phi * (p - np.eye(p.size)[target])


ANSWERS = {
    "ex-start-loss": Answer(
        lambda: _start_loss,
        points=((2, 0.0), (10, 2.0), (1000, 0.5)),
        rtol=1e-6,
        hint="With all logits equal, what is every probability?",
        near_misses={
            "that is the sum over all classes; the target is one of them": lambda: (
                lambda classes, gamma: classes * _start_loss(classes, gamma)
            ),
            "that is cross entropy, without the modulating factor": lambda: (
                lambda classes, gamma: _start_loss(classes, 0.0)
            ),
        },
    ),
    "ex-adam-ratio": Answer(
        lambda: _adam_ratio(0.25),
        hint="Put sqrt(v) = epsilon into the ratio of the two steps.",
        near_misses={
            "that is alpha, the limit for gradients far smaller than epsilon": lambda: 0.25,
            "that is the factor for a large gradient": lambda: 1.0,
            "that is the step without alpha over the step with it": lambda: 1 / _adam_ratio(0.25),
        },
    ),
    "ex-common-batch": Answer(
        _common_batch,
        hint="What is the weight of the common class, and what do the two divisors add up?",
        near_misses={
            "that is the weight; the weighted mean divides by it": lambda: 1 / _common_batch(),
        },
    ),
    "ex-smoothing-aim": Answer(
        lambda: _smoothing_aim(5.0),
        rtol=2e-3,
        hint="The nine other probabilities are equal, so there is one equation in p_t.",
        near_misses={
            "that is where cross entropy aims": lambda: _smoothing_aim(0.0),
            "that is where gamma = 2 aims": lambda: _smoothing_aim(2.0),
        },
    ),
    "ex-stable-gradient": Answer(
        lambda: _gradient,
        points=(
            (np.array([1.0, -0.5, 0.25]), 0, 2.0),
            (np.array([-3.0, 2.0, 0.5, 1.0]), 1, 0.5),
            (np.array([40.0, 0.0, 0.0]), 0, 2.0),
        ),
        rtol=1e-6,
        hint="Compute 1 - p_t as the sigmoid of minus the margin, or as the sum of the others.",
        near_misses={
            "it is 0 at the logits (40, 0, 0), where 1 - p_t as a difference is 0": lambda: (
                _cancelled_gradient
            ),
            "the sign is turned around": lambda: _negative_gradient,
        },
    ),
}
