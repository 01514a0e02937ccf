"""The answers to the exercises of the chapter on gradients and curvature."""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from focal_lib.numpy import sigmoid_focal_loss_gradient, sigmoid_focal_loss_hessian
from focal_notes.exercises import Answer


def _hardest_pull(gamma: float = 5.0) -> float:
    def pull(margin: float) -> float:
        return float(sigmoid_focal_loss_gradient(margin, 1, alpha=None, gamma=gamma))

    return float(expit(minimize_scalar(pull, bounds=(-10.0, 0.0), method="bounded").x))


def _largest_ratio(gamma: float = 5.0) -> float:
    """Where focal loss's gradient is the largest multiple of cross entropy's."""

    def ratio(margin: float) -> float:
        focal, plain = (
            sigmoid_focal_loss_gradient(margin, 1, alpha=None, gamma=g) for g in (gamma, 0.0)
        )
        return -float(focal / plain)

    return float(expit(minimize_scalar(ratio, bounds=(-10.0, 0.0), method="bounded").x))


def _curvature(margin: float, gamma: float) -> Any:
    return sigmoid_focal_loss_hessian(margin, 1, alpha=None, gamma=gamma)


def _cancelled_curvature(margin: float, gamma: float) -> Any:
    """The second derivative with 1 - p_t as a difference."""
    p_t = expit(margin)
    if p_t == 0:
        return 0.0
    q, u = 1 - p_t, -np.log(p_t)
    return p_t * q**gamma * ((1 + 2 * gamma) * q - gamma * (1 - (1 + gamma) * p_t) * u)


def _multiplied_curvature(margin: float, gamma: float) -> Any:
    return -sigmoid_focal_loss_gradient(margin, 1, alpha=None, gamma=gamma) * expit(margin)


def _largest_curvature_of_fl_star(gamma: float = 2.0, beta: float = 1.0) -> float:
    def slope(margin: float) -> float:
        return float(-expit(-(gamma * margin + beta)))

    step, margins = 1e-5, np.linspace(-5, 5, 2001)
    return float(max((slope(z + step) - slope(z - step)) / (2 * step) for z in margins))


def _concave_share(gamma: float = 1.0, prior: float = 0.01) -> float:
    hard, easy = (_curvature(float(z), gamma) for z in (logit(prior), -logit(prior)))
    return float(easy / (easy - hard))


def _balanced_pull(gamma: float = 1.0, prior: float = 0.01) -> float:
    """The share of positives at which the slope, not the curvature, is 0."""
    hard, easy = (
        float(sigmoid_focal_loss_gradient(z, 1, alpha=None, gamma=gamma))
        for z in (logit(prior), -logit(prior))
    )
    return easy / (easy + hard)


def _posterior(score: float, gamma: float = 3.0) -> float:
    """Where the expected gradient with the detached factor is 0."""
    up, down = (1 - score) ** (gamma + 1), score ** (gamma + 1)
    return float(down / (up + down))


ANSWERS = {
    "ex-hardest-pull": Answer(
        _hardest_pull,
        hint="The gradient is largest where the second derivative changes its sign.",
        near_misses={
            "there the multiple of cross entropy's gradient is largest": _largest_ratio,
            "that is gamma = 2": lambda: _hardest_pull(2.0),
            "that is the margin of the right point; which p_t has it": lambda: float(
                logit(_hardest_pull())
            ),
        },
    ),
    "ex-stable-curvature": Answer(
        lambda: _curvature,
        points=((0.0, 2.0), (-3.0, 0.5), (1.5, 5.0), (40.0, 2.0), (-800.0, 2.0)),
        rtol=1e-6,
        hint="Take p_t, 1 - p_t and -log p_t from the margin, each in its own stable form.",
        near_misses={
            "it is 0 at z = 40, where 1 - p_t as a difference is 0": lambda: _cancelled_curvature,
            "that is cross entropy's curvature times the multiplier, which is never negative": (
                lambda: _multiplied_curvature
            ),
        },
    ),
    "ex-fl-star": Answer(
        _largest_curvature_of_fl_star,
        hint="Differentiate twice; the chain rule brings out gamma each time.",
        near_misses={
            "that is cross entropy's; the chain rule brings out gamma": lambda: 0.25,
            "that is gamma squared over 4; the loss has a factor 1/gamma": lambda: 1.0,
        },
    ),
    "ex-concave-start": Answer(
        _concave_share,
        hint="Set the second derivative of the mean loss to 0 and solve for the share.",
        near_misses={
            "that is gamma = 2": lambda: _concave_share(2.0),
            "at that share both classes pull alike; it is the curvatures that matter": (
                _balanced_pull
            ),
        },
    ),
    "ex-detached-score": Answer(
        lambda: _posterior,
        points=((0.5,), (0.6,), (0.3,), (0.8,)),
        rtol=1e-6,
        hint="The logit of the score is the logit of the posterior divided by gamma + 1.",
        near_misses={
            "the score is not the posterior": lambda: lambda score: score,
            "the factor is gamma + 1, not gamma": lambda: lambda score: _posterior(score, 2.0),
            "this divides the logit; from the score to the posterior, multiply": lambda: (
                lambda score: float(expit(logit(score) / 4))
            ),
        },
    ),
}
