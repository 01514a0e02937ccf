"""The answers to the exercises of the chapter on the relatives of focal loss."""

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, logit

from focal_lib.numpy import cross_entropy, focal_loss
from focal_lib.weights import effective_number
from focal_notes.exercises import Answer


def _fl_star_posterior(score: float, gamma: float) -> float:
    """Where the expected gradient of FL* at beta = 0 vanishes at this score."""
    x = logit(score)
    up, down = expit(-gamma * x), expit(gamma * x)
    return float(down / (up + down))


def _detached_half(plus: float, minus: float) -> float:
    """Where the expected derivative at p = 1/2 is 0 if the modulating factors are constants."""

    def slope(eta: float) -> float:
        return float((1 - eta) * 0.5**minus * 0.5 - eta * 0.5**plus * 0.5)

    return float(brentq(slope, 0.0, 1.0))


def _cut_zone(terms: int) -> float:
    """The posteriors at which the slope of the expected loss at p = 0 is not negative, twice."""
    slope_of_positive, slope_of_negative = -float(terms), 1.0  # by p, at p = 0
    return 2 * slope_of_negative / (slope_of_negative - slope_of_positive)


def _effective_gap(ratio: float) -> float:
    def excess(gap: float) -> float:
        rare, common = effective_number(np.array([10, 1000]), 1 - gap)
        return float(rare / common - ratio)

    return float(brentq(excess, 1e-7, 0.9))


def _asymmetric_half(plus: float, minus: float, shift: float) -> float:
    step = 1e-6

    def slope(loss_at: tuple[float, float]) -> float:
        return (loss_at[1] - loss_at[0]) / (2 * step)

    points = (0.5 - step, 0.5 + step)
    one = slope((float(focal_loss(points[0], plus)), float(focal_loss(points[1], plus))))
    shifted = [float(focal_loss(1 - p + shift, minus)) for p in points]
    zero = slope((shifted[0], shifted[1]))
    return zero / (zero - one)


def _varifocal_score(qualities: tuple[float, ...]) -> float:
    def expected(p: float) -> float:
        losses = [q * (q * cross_entropy(p) + (1 - q) * cross_entropy(1 - p)) for q in qualities]
        return float(sum(losses))

    return float(minimize_scalar(expected, bounds=(0.0, 1.0), options={"xatol": 1e-10}).x)


ANSWERS = {
    "ex-fl-star-score": Answer(
        lambda: _fl_star_posterior(0.7, 4.0),
        rtol=5e-3,
        hint="At beta = 0 the loss is cross entropy of a scaled logit.",
        near_misses={
            "that is the score at the posterior 0.7; go the other way": lambda: float(
                expit(logit(0.7) / 4)
            ),
            "the probability was multiplied, not the logit's scale": lambda: 0.7**4,
        },
    ),
    "ex-detached-half": Answer(
        lambda: _detached_half(1.0, 4.0),
        hint="Multiply cross entropy's derivatives at p = 1/2 by the two factors.",
        near_misses={
            "those are the odds": lambda: _detached_half(1.0, 4.0) / (1 - _detached_half(1.0, 4.0)),
            "that is with the factors differentiated": lambda: _asymmetric_half(1.0, 4.0, 0.0),
            "the two exponents are exchanged": lambda: _detached_half(4.0, 1.0),
        },
    ),
    "ex-cut-zone": Answer(
        lambda: _cut_zone,
        points=((2,), (3,), (100,)),
        rtol=1e-6,
        hint="When is the slope of the expected loss at p = 0 not negative?",
        near_misses={
            "there is a zone at each end": lambda: lambda terms: _cut_zone(terms) / 2,
            "those are the posteriors outside the two zones": lambda: (
                lambda terms: 1 - _cut_zone(terms)
            ),
        },
    ),
    "ex-effective-ten": Answer(
        lambda: _effective_gap(10.0),
        hint="Solve (1 - rho^1000) / (1 - rho^10) = 10, and give 1 - rho.",
        near_misses={
            "that is rho": lambda: 1 - _effective_gap(10.0),
        },
    ),
    "ex-asymmetric-half": Answer(
        lambda: _asymmetric_half(0.0, 2.0, 0.1),
        hint="At the posterior that is asked for, the expected slope at p = 1/2 is 0.",
        near_misses={
            "that is without the shift": lambda: _asymmetric_half(0.0, 2.0, 0.0),
            "those are the odds": lambda: (
                _asymmetric_half(0.0, 2.0, 0.1) / (1 - _asymmetric_half(0.0, 2.0, 0.1))
            ),
        },
    ),
    "ex-varifocal-quality": Answer(
        lambda: _varifocal_score((0.5, 1.0)),
        hint="Each positive is weighted by its own quality.",
        near_misses={
            "that is the mean quality, at which plain cross entropy aims": lambda: 0.75,
        },
    ),
}
