"""The answers to the exercises of the chapter on focal loss."""

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, logit

from focal_lib.numpy import cross_entropy, focal_loss, sigmoid_focal_loss_gradient
from focal_notes.exercises import Answer

COUNTS, MIDDLE = np.array([1, 10, 1000]), np.array([0.1, 0.5, 0.9])


def _half_the_bill(level: float = 0.5) -> float:
    def hard_share(gamma: float) -> float:
        hard, easy = 100 * focal_loss(0.2, gamma), 100_000 * focal_loss(0.9, gamma)
        return float(hard / (hard + easy))

    return float(brentq(lambda gamma: hard_share(gamma) - level, 0.0, 20.0))


def _middle_share() -> float:
    def share(gamma: float) -> float:
        total = COUNTS * focal_loss(MIDDLE, gamma)
        return float(total[1] / total.sum())

    return float(minimize_scalar(lambda gamma: -share(gamma), (0.1, 2.0, 8.0)).x)


def _pull(p_t: float, gamma: float) -> float:
    return float(abs(sigmoid_focal_loss_gradient(logit(p_t), 1, alpha=None, gamma=gamma)))


def _pulling_harder() -> float:
    return float(brentq(lambda gamma: _pull(0.25, gamma) - _pull(0.25, 0.0), 0.1, 50.0))


def _largest_pull() -> float:
    return float(minimize_scalar(lambda gamma: -_pull(0.25, gamma), (0.1, 1.0, 5.0)).x)


def _posterior(p: float, gamma: float) -> float:
    """Where the expected gradient at this score is zero."""
    x = logit(p)
    up = -sigmoid_focal_loss_gradient(x, 1, alpha=None, gamma=gamma)
    down = sigmoid_focal_loss_gradient(x, 0, alpha=None, gamma=gamma)
    return float(down / (up + down))


ANSWERS = {
    "ex-break-even": Answer(
        lambda: float(focal_loss(0.5, 2.0) / focal_loss(0.99, 2.0)),
        hint="Divide the loss of the hard example by that of an easy one.",
        near_misses={
            "this is cross entropy's number": lambda: float(
                cross_entropy(0.5) / cross_entropy(0.99)
            ),
            "the hard example has its discount too": lambda: float(
                cross_entropy(0.5) / focal_loss(0.99, 2.0)
            ),
            "this is gamma = 1": lambda: float(focal_loss(0.5, 1.0) / focal_loss(0.99, 1.0)),
        },
    ),
    "ex-choose-gamma": Answer(
        lambda: (
            lambda p_t, ratio: float(
                brentq(
                    lambda gamma: (
                        np.log(cross_entropy(p_t) / focal_loss(p_t, gamma)) - np.log(ratio)
                    ),
                    0.0,
                    100.0,
                )
            )
        ),
        points=((0.5, 2.0), (0.9, 1.5), (0.8, 10.0), (0.968, 1000.0), (0.2, 3.0)),
        rtol=1e-6,
        hint="Take the logarithm of the ratio and solve for gamma.",
        near_misses={
            "the discount depends on 1 - p_t, not on p_t": lambda: (
                lambda p_t, ratio: -np.log(ratio) / np.log(p_t)
            ),
            "the sign: log(1 - p_t) is negative": lambda: (
                lambda p_t, ratio: np.log(ratio) / np.log(1 - p_t)
            ),
        },
    ),
    "ex-half-the-bill": Answer(
        _half_the_bill,
        hint="Write the quotient of the two totals as its value at gamma = 0 times a power.",
        near_misses={
            "you left the two logarithms out: count examples and their price": lambda: float(
                np.log(1000) / np.log(8)
            ),
            "the factor is 1 - p_t, not p_t": lambda: float(
                np.log(1000 * cross_entropy(0.9) / cross_entropy(0.2)) / np.log(0.9 / 0.2)
            ),
        },
    ),
    "ex-middle-share": Answer(
        _middle_share,
        hint="The share grows while -log(1 - p_t) of the group is below the loss-weighted mean.",
    ),
    "ex-pulling-harder": Answer(
        _pulling_harder,
        hint="Solve for the gamma at which the ratio of the two gradients is 1 again.",
        near_misses={
            "this is where the gradient is largest; go on until it is back": _largest_pull,
        },
    ),
    "ex-score-to-posterior": Answer(
        lambda: _posterior,
        points=((0.5, 2.0), (0.694, 2.0), (0.3, 2.0), (0.8, 0.5), (0.6, 5.0), (0.9, 0.0)),
        rtol=1e-6,
        hint="Set the expected gradient to zero and solve for eta.",
        near_misses={
            "the score is not the posterior once gamma > 0": lambda: lambda p, gamma: p,
            "this divides by the mirrored factor: exchange p and 1 - p in it": lambda: (
                lambda p, gamma: float(expit(2 * logit(p) - logit(_posterior(p, gamma))))
            ),
        },
    ),
}
