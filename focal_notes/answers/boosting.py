"""The answers to the exercises of the chapter on boosting."""

from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from focal_lib.boosting import SigmoidFocalObjective
from focal_lib.numpy import sigmoid_focal_loss_gradient, sigmoid_focal_loss_hessian
from focal_notes.exercises import Answer


def _curvature(z: float, gamma: float) -> Any:
    return sigmoid_focal_loss_hessian(z, 1, alpha=None, gamma=gamma)


def _boosting_hessian(z: float, gamma: float) -> Any:
    return max(_curvature(z, gamma), _constant_weight(z, gamma))


def _constant_weight(z: float, gamma: float) -> Any:
    return -sigmoid_focal_loss_gradient(z, 1, alpha=None, gamma=gamma) * expit(z)


def _leaf(penalty: float = 1.0, sign: float = 1.0) -> float:
    """Three positives at p_t = 0.2 and five negatives at p_t = 0.9, under log loss."""
    gradient = -3 * 0.8 + sign * 5 * 0.1
    return -gradient / (3 * 0.2 * 0.8 + 5 * 0.9 * 0.1 + penalty)


def _start(gamma: float = 5.0, prior: float = 0.001) -> float:
    labels = np.array([1, 0])
    weights = np.array([prior, 1 - prior])
    return float(
        expit(SigmoidFocalObjective(alpha=None, gamma=gamma).initial_score(labels, weights))
    )


def _enough(gamma: float = 5.0, p_t: float = 0.9) -> float:
    return float(np.ceil(1 / _boosting_hessian(float(logit(p_t)), gamma)))


def _switch(gamma: float = 3.0) -> float:
    def equation(p: float) -> float:
        return float(-(1 - gamma * p) * np.log(p) - 2 * (1 - p))

    return float(brentq(equation, 1e-6, 0.3))


def _inflection(gamma: float = 3.0) -> float:
    return float(expit(brentq(lambda z: float(_curvature(z, gamma)), -6.0, 0.0)))


ANSWERS = {
    "ex-boosting-leaf": Answer(
        _leaf,
        hint="Sum the slopes, with their signs, and the Hessians; then add the penalty.",
        near_misses={
            "the penalty is part of the sum below": lambda: _leaf(0.0),
            "a negative pulls the other way": lambda: _leaf(1.0, -1.0),
            "the value is minus the quotient": lambda: -_leaf(),
        },
    ),
    "ex-boosting-hessian": Answer(
        lambda: _boosting_hessian,
        points=((0.0, 2.0), (-3.0, 2.0), (-2.5, 2.0), (-6.0, 0.5), (2.0, 5.0), (1.0, 0.0)),
        rtol=1e-6,
        hint="Take the larger of the second derivative and p_t times the size of the first.",
        near_misses={
            "it is negative at z = -3": lambda: _curvature,
            "that is the weight held constant; above the peak of phi the curvature is larger": (
                lambda: _constant_weight
            ),
        },
    ),
    "ex-boosting-switch": Answer(
        _switch,
        hint="The two are equal where the multiplier of cross entropy's gradient is greatest.",
        near_misses={
            "there the curvature is 0; the other number is larger for a while": _inflection,
            "that is gamma = 2": lambda: _switch(2.0),
        },
    ),
    "ex-boosting-start": Answer(
        _start,
        hint="Find the constant at which the weighted slopes of the two classes cancel.",
        near_misses={
            "that is where log loss starts": lambda: 0.001,
            "that is gamma = 2": lambda: _start(2.0),
            "the score, not its logit": lambda: float(logit(_start())),
        },
    ),
    "ex-boosting-child": Answer(
        _enough,
        rtol=0.001,
        hint="Divide 1 by the Hessian of one example, and round up.",
        near_misses={
            "that is log loss": lambda: _enough(0.0),
            "that is gamma = 2": lambda: _enough(2.0),
        },
    ),
}
