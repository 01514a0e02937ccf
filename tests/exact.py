"""The losses as the book defines them, in arithmetic of 60 digits and more, to test against.

Derivatives are numerical ones of the definitions: they know nothing of the closed forms, which are
in `forms` alone, for what asks for many of them.
"""

from collections.abc import Sequence
from typing import Any

import mpmath as mp


def focal(p: Any, gamma: float) -> Any:
    """FL(p_t) by its definition, with its limits at 0 and 1."""
    if p == 0:
        return mp.inf
    return (1 - p) ** mp.mpf(gamma) * -mp.log(p)


def _digits(*logits: float) -> Any:
    """60 digits, also of 1 - p_t: it is about e to minus the spread of the logits."""
    return mp.workdps(60 + int(max(logits) - min(logits)))


def sigmoid(
    x: float, y: float, alpha: float | None = None, gamma: float = 2.0, derivative: int = 0
) -> Any:
    """The loss of a logit, or a derivative of it."""
    with _digits(abs(x), -abs(x)):
        one, zero = (1, 1) if alpha is None else (mp.mpf(alpha), 1 - mp.mpf(alpha))
        y = mp.mpf(y)

        def loss(x: Any) -> Any:
            p = 1 / (1 + mp.exp(-x))
            return one * y * focal(p, gamma) + zero * (1 - y) * focal(1 - p, gamma)

        return mp.diff(loss, mp.mpf(x), derivative) if derivative else loss(mp.mpf(x))


def forms(z: Any, gamma: float) -> tuple[Any, Any, Any, Any]:
    """f, f', f'' of the loss of a margin z, and the size of the terms of f'', which has a zero."""
    e = mp.exp(-z)
    p, q, u, g = 1 / (1 + e), e / (1 + e), mp.log1p(e), mp.mpf(gamma)
    second = p * q**g * ((1 + 2 * g) * q - g * (q - g * p) * u)
    scale = p * q**g * ((1 + 2 * g) * q + g * (1 + (1 + g) * p) * u)
    return q**g * u, -(q**g) * (q + g * p * u), second, scale


def curvature_scale(z: float, gamma: float) -> Any:
    with _digits(abs(z), -abs(z)):
        return forms(mp.mpf(z), gamma)[3]


def softmax(x: Sequence[float], factor: Sequence[float], gamma: float = 2.0) -> Any:
    """sum_c factor_c f_c; the factor is w_c y_c."""
    with _digits(*x):
        return _softmax([mp.mpf(v) for v in x], factor, gamma)


def softmax_gradient(x: Sequence[float], factor: Sequence[float], gamma: float = 2.0) -> list[Any]:
    """Its derivative by each logit."""
    with _digits(*x):
        exact = [mp.mpf(v) for v in x]

        def moved(j: int) -> Any:
            return lambda v: _softmax([*exact[:j], v, *exact[j + 1 :]], factor, gamma)

        return [mp.diff(moved(j), v) for j, v in enumerate(exact)]


def _softmax(x: list[Any], factor: Sequence[float], gamma: float) -> Any:
    e = [mp.exp(v) for v in x]
    total = mp.fsum(e)
    parts = zip(factor, e, strict=True)
    return mp.fsum(mp.mpf(a) * focal(v / total, gamma) for a, v in parts if a)
