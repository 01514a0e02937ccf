"""Class weights, and the logit of a prior."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from focal_lib import _checks
from focal_lib._arrays import array


def inverse_frequency(counts: ArrayLike) -> NDArray[np.float64]:
    """Weight each class by the inverse of its frequency.

    w_c = N / (C n_c), with n_c the number of examples of class c and N their total. Every class
    then has the same total weight N / C, and the mean weight of an example is 1. In the binary loss
    the same ratio is alpha = w_1 / (w_0 + w_1) = N_0 / N (the book's prop-inverse-frequency).

    Args:
        counts: numbers of examples, (C,), all positive: a class without examples has no inverse
            frequency.

    Raises TypeError or ValueError, naming the argument.

    >>> inverse_frequency([900, 100])
    array([0.55555556, 5.        ])
    """
    n = _counts(counts)
    mean = (n / n.size).sum()  # the sum may overflow
    return np.asarray(mean / n)


def effective_number(counts: ArrayLike, beta: float) -> NDArray[np.float64]:
    """Weight each class by the inverse of its effective number of examples.

    E_c = (1 - beta^n_c) / (1 - beta), w_c = C (1 / E_c) / sum_j (1 / E_j), so the weights sum to C.
    beta = 0 gives equal weights; beta -> 1 gives those of `inverse_frequency` up to a factor.
    Source: Cui et al. 2019, equation 2 and section 4.

    Args:
        counts: numbers of examples, (C,), all positive.
        beta: in [0, 1).

    Raises TypeError or ValueError, naming the argument.

    >>> effective_number([10, 1000], 0.0)
    array([1., 1.])
    >>> effective_number([10, 1000], 1 - 1e-15).round(6)
    array([1.980198, 0.019802])
    """
    n = _counts(counts)
    b = _checks.fraction("beta", beta)
    if b == 1:
        raise ValueError(f"beta: takes a number in [0, 1), got {beta!r}")
    with np.errstate(divide="ignore"):
        effective = -np.expm1(n * np.log(b)) / (1 - b) if b else np.ones_like(n)
    inverse = 1 / effective
    return np.asarray(n.size * inverse / inverse.sum())


def prior_logit(pi: float) -> float:
    """The logit of a prior: log(pi / (1 - pi)).

    The bias of a last layer that makes every score start at pi; Lin et al. 2017, section 4.1, take
    pi = 0.01.

    Args:
        pi: in (0, 1).

    Raises TypeError or ValueError, naming the argument.

    >>> round(prior_logit(0.01), 4)
    -4.5951
    """
    p = _checks.fraction("pi", pi)
    if p in (0, 1):
        raise ValueError(f"pi: takes a number in (0, 1), got {pi!r}")
    # Near 1/2 the two logarithms would cancel.
    return float(2 * np.arctanh(2 * p - 1) if 0.25 < p < 0.75 else np.log(p) - np.log1p(-p))


def _counts(counts: Any) -> NDArray[np.float64]:
    n = array("counts", counts)
    if n.ndim != 1 or n.size == 0:
        raise ValueError(f"counts: takes one number for each class, (C,), got shape {n.shape}")
    wrong = np.flatnonzero(~((n > 0) & np.isfinite(n)))
    if wrong.size:
        c = wrong[0]
        raise ValueError(f"counts: takes positive finite numbers, got {n[c]} for class {c}")
    return n.astype(np.float64)
