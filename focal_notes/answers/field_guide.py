"""The answers to the exercises of the field guide to wrong focal losses."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from focal_lib.estimation import sigmoid_posterior
from focal_lib.numpy import sigmoid_focal_loss_gradient
from focal_notes.exercises import Answer


def _multiplier(p_t: float, gamma: float) -> float:
    """Focal loss's derivative as a multiple of cross entropy's."""
    focal, plain = (
        sigmoid_focal_loss_gradient(logit(p_t), 1, alpha=None, gamma=g) for g in (gamma, 0.0)
    )
    return float(focal / plain)


def _batch(mean: str = "geometric") -> float:
    p_t = np.array([0.2] + 99 * [0.95])
    if mean == "of multipliers":
        return float(np.mean([_multiplier(p, 2.0) for p in p_t]))
    middle = float(np.exp(np.log(p_t).mean()) if mean == "geometric" else p_t.mean())
    return _multiplier(middle, 2.0)


def _factor_of_the_mean() -> float:
    return float((1 - np.exp(np.mean(np.log([0.2] + 99 * [0.95])))) ** 2)


def _posterior(score: float) -> float:
    return float(sigmoid_posterior(score, alpha=None, gamma=2.0, from_logits=False))


def _floor(classes: int, smoothing: float, gamma: float) -> float:
    target = np.full(classes, smoothing / classes)
    target[0] += 1 - smoothing
    return float((1 - np.exp(target @ np.log(target))) ** gamma)


def _modulated_by_the_target(classes: int, smoothing: float, gamma: float) -> float:
    return float((smoothing * (1 - 1 / classes)) ** gamma)


def _rest(gamma: float = -3.0) -> float:
    """Where the derivative of the loss with a negative gamma is 0."""

    def bracket(p: float) -> float:
        return 1 - p - gamma * p * float(np.log(p))

    return float(brentq(bracket, 1e-12, 0.99))


ANSWERS = {
    "ex-guide-numbers": Answer(
        lambda: "b",
        hint="Divide both values by log 2 and by the weight: what is left is the factor.",
        near_misses={
            "focal loss would be four times as large with the weight 4": lambda: "a",
            "a single weight multiplies the loss by 4 too; look at the factor": lambda: "c",
            "that one is wrong already with the weight 1": lambda: "d",
        },
    ),
    "ex-guide-batch": Answer(
        _batch,
        hint="The steps are cross entropy's, times the multiplier at the geometric mean.",
        near_misses={
            "that is at the arithmetic mean": lambda: _batch("arithmetic"),
            "the factor is differentiated too: the multiplier, not the factor": _factor_of_the_mean,
            "that is the mean of the multipliers, which focal loss has": lambda: _batch(
                "of multipliers"
            ),
        },
    ),
    "ex-guide-twice": Answer(
        lambda: _posterior(float(expit(0.7))),
        hint="What does the loss take for the probability when the model says 0.7?",
        near_misses={
            "that is the score; focal loss's score is not the posterior": lambda: float(expit(0.7)),
            "that leaves out the second sigmoid": lambda: _posterior(0.7),
        },
    ),
    "ex-guide-floor": Answer(
        lambda: _floor,
        points=((2, 0.1, 2.0), (10, 0.1, 2.0), (5, 0.5, 0.5), (1000, 0.2, 5.0)),
        rtol=1e-6,
        hint="The smoothed cross entropy is at least the entropy of the smoothed target.",
        near_misses={
            "that is focal loss's factor at the smoothed target's own probability": lambda: (
                _modulated_by_the_target
            ),
        },
    ),
    "ex-guide-minus": Answer(
        _rest,
        hint="Set the multiplier to 0: r(p) = 1/3.",
        near_misses={"that is gamma = -2": lambda: _rest(-2.0)},
    ),
}
