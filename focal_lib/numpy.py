"""The losses in NumPy: the definitions in p_t, and the stable forms in logits with their gradients.

float32 in gives float32 out (computed in float64 and rounded once), everything else float64.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from focal_lib import _checks

Array = NDArray[Any]

# --- In p_t, as the text states them ---


def target_probability(p: ArrayLike, y: ArrayLike) -> Array:
    """The probability of the label that came out: p_t = p if y = 1, 1 - p if y = 0.

    ``p`` in [0, 1] and ``y`` in {0, 1} broadcast. Source: Lin et al. 2017, equation 2; the book's
    def-p-t. Raises: TypeError or ValueError naming ``p`` or ``y``.

    >>> target_probability(0.25, [1, 0])
    array([0.25, 0.75])
    """
    probability, label = _probability("p", p), _label(y)
    return _out(np.where(label == 1, probability, 1 - probability), p)


def target_weight(alpha: float, y: ArrayLike) -> Array:
    """The weight of the label that came out: alpha_t = alpha if y = 1, 1 - alpha if y = 0.

    ``alpha`` in [0, 1], ``y`` in {0, 1}. Source: Lin et al. 2017, section 3.1; the book's
    def-alpha-t. Raises: TypeError or ValueError naming ``alpha`` or ``y``.

    >>> target_weight(0.25, [1, 0])
    array([0.25, 0.75])
    """
    weight = _checks.fraction("alpha", alpha)
    return np.where(_label(y) == 1, weight, 1 - weight)[()]


def cross_entropy(p_t: ArrayLike) -> Array:
    """Cross entropy: CE(p_t) = -log p_t.

    ``p_t`` in [0, 1]; infinite at 0. Source: the book's eq-ce.
    Raises: TypeError or ValueError naming ``p_t``.

    >>> float(cross_entropy(1.0))
    0.0
    """
    return _out(_cross_entropy(_probability("p_t", p_t)), p_t)


def balanced_cross_entropy(p_t: ArrayLike, alpha_t: ArrayLike) -> Array:
    """Balanced cross entropy: -alpha_t log p_t.

    ``p_t`` in [0, 1] and ``alpha_t`` >= 0 broadcast; weight 0 gives 0, also at p_t = 0. Source: Lin
    et al. 2017, equation 3; the book's eq-balanced. Raises: TypeError or ValueError naming the
    argument.

    >>> round(float(balanced_cross_entropy(0.5, 0.25)), 4)
    0.1733
    """
    return focal_loss(p_t, 0.0, alpha_t)


def modulating_factor(p_t: ArrayLike, gamma: float) -> Array:
    """The modulating factor: (1 - p_t)^gamma, with 0^0 = 1.

    ``p_t`` in [0, 1], ``gamma`` >= 0. Source: Lin et al. 2017, section 3.2; the book's
    def-modulating-factor. Raises: TypeError or ValueError naming ``p_t`` or ``gamma``.

    >>> float(modulating_factor(0.75, 2))
    0.0625
    """
    power = _checks.gamma(gamma)
    return _out((1 - _probability("p_t", p_t)) ** power, p_t)


def focal_loss(p_t: ArrayLike, gamma: float, alpha_t: ArrayLike = 1.0) -> Array:
    """Focal loss: FL(p_t) = -alpha_t (1 - p_t)^gamma log p_t.

    ``p_t`` in [0, 1] and ``alpha_t`` >= 0 broadcast, ``gamma`` >= 0; weight 0 gives 0, also at
    p_t = 0. Source: Lin et al. 2017, equations 4 and 5; the book's eq-focal, eq-focal-alpha.
    Raises: TypeError or ValueError naming the argument.

    A p_t that was rounded to 1 has lost its 1 - p_t; from logits nothing is lost:

    >>> x = 40.0
    >>> float(focal_loss(1 / (1 + np.exp(-x)), 1.0))
    0.0
    >>> f"{sigmoid_focal_loss(x, 1, alpha=None, gamma=1.0):.4g}"
    '1.805e-35'
    """
    power = _checks.gamma(gamma)
    probability = _probability("p_t", p_t)
    weight = _real("alpha_t", alpha_t)
    if not (weight >= 0).all():  # also NaN
        raise ValueError(f"alpha_t: takes weights >= 0, got {alpha_t!r}")
    loss = (1 - probability) ** power * _cross_entropy(probability)
    return _out(_times(weight, loss), p_t)


# --- Of logits ---


def sigmoid_focal_loss(
    inputs: ArrayLike,
    targets: ArrayLike,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Array:
    """Focal loss of logits, two classes.

    With s = 2y - 1, z = s x and q = sigma(-z) = 1 - p_t::

        FL = alpha_t q^gamma softplus(-z)

    A soft target y gives the expectation y FL(x, 1) + (1 - y) FL(x, 0).

    Parameters: ``inputs``, logits of any shape; ``targets`` in [0, 1], of the same shape (or a
    number); ``alpha`` in [0, 1], the weight of class 1, or None (or exactly -1): no weight;
    ``gamma`` >= 0; ``reduction``: "none" (the shape of inputs), "mean" (over all elements), "sum".
    Infinite logits give the limit. Raises: TypeError or ValueError naming the argument.
    Source: Lin et al. 2017, equation 5; names and defaults as in torchvision.ops; the book's
    eq-focal-alpha.

    In principle this is ``focal_loss(target_probability(sigmoid(x), y), ...)``, but that rounds to
    0 where the probability rounds to 1:

    >>> x = -40.0
    >>> p = 1 / (1 + np.exp(-x))
    >>> float(focal_loss(target_probability(p, 0), 1.0))
    0.0
    >>> f"{sigmoid_focal_loss(x, 0, alpha=None, gamma=1.0):.4g}"
    '1.805e-35'
    """
    loss = _sigmoid(0, inputs, targets, alpha, gamma, reduction)
    return _out(_reduce(loss, _checks.reduction(reduction)), inputs)


def sigmoid_focal_loss_gradient(
    inputs: ArrayLike,
    targets: ArrayLike,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Array:
    """The derivative of `sigmoid_focal_loss` by each logit.

    With p = p_t = sigma(z), q = 1 - p, u = softplus(-z)::

        dFL/dx = -s alpha_t q^gamma (q + gamma p u)

    finite for every gamma >= 0. The arguments and errors are those of `sigmoid_focal_loss`; the
    shape is that of ``inputs``. "sum" and "none" give the same; "mean" divides by the number of
    elements. Source: Lin et al. 2017, appendix B; the book's prop-focal-gradient.

    >>> sigmoid_focal_loss_gradient([0.0, 800.0], [1, 1], alpha=None, gamma=0.5).round(4)
    array([-0.4761, -0.    ])
    """
    return _out(_sigmoid(1, inputs, targets, alpha, gamma, reduction), inputs)


def sigmoid_focal_loss_hessian(
    inputs: ArrayLike,
    targets: ArrayLike,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Array:
    """The second derivative of `sigmoid_focal_loss` by each logit.

    ::

        d2FL/dx2 = alpha_t p q^gamma [(1 + 2 gamma) q - gamma (1 - (1 + gamma) p) u]

    in the symbols of `sigmoid_focal_loss_gradient`; negative for small p when gamma > 0. Arguments,
    errors and shape are those of `sigmoid_focal_loss_gradient`.

    >>> float(sigmoid_focal_loss_hessian(0.0, 1, alpha=None, gamma=0.0))
    0.25
    """
    return _out(_sigmoid(2, inputs, targets, alpha, gamma, reduction), inputs)


def softmax_focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Focal loss of logits, many classes.

    With p = softmax(x), f_c = (1 - p_c)^gamma (-log p_c) and class weights w_c::

        FL = sum_c w_c y_c f_c

    for class probabilities y: the expectation of the loss under the target distribution. A class
    index t is y_c = [c = t]. Label smoothing e replaces y by (1 - e) y + e / C.

    Parameters: ``input``, logits, (C,), (N, C) or (N, C, d1, ...); ``target``, class indices of the
    shape without C, or class probabilities of the shape of ``input``; ``weight``, (C,), >= 0;
    ``ignore_index``: items with this class index cost nothing and are not counted;
    ``reduction``: "none", "sum" or "mean". The mean divides by the sum of w_t over the items kept
    (class indices; the unsmoothed target's weight), or by the number of items (class
    probabilities), as F.cross_entropy does; it is NaN where that is 0. With gamma = 0 this is
    F.cross_entropy.
    Raises: TypeError or ValueError naming the argument.
    Source: the multi-class form of Lin et al. 2017, section 3; the book's eq-multiclass, def-mean.

    The loss of a confident right answer is small, not 0:

    >>> x = np.array([[40.0, 0.0, 0.0]])
    >>> p = np.exp(x - 40) / np.exp(x - 40).sum()
    >>> float(focal_loss(p[0, 0], 1.0))
    0.0
    >>> f"{softmax_focal_loss(x, [0], gamma=1.0):.4g}"
    '7.219e-35'
    """
    (x, a), normalizer, shape = _softmax_arguments(
        input, target, weight, ignore_index, reduction, label_smoothing
    )
    power = _checks.gamma(gamma)
    _, q, u = _softmax_parts(x)
    loss = _times(a, q**power * u).sum(axis=-1)
    if reduction == "none":
        return _out(loss.reshape(shape), input)
    total = loss.sum()
    if reduction == "mean":
        with np.errstate(invalid="ignore", divide="ignore"):
            total = np.divide(total, normalizer)
    return _out(total, input)


def softmax_focal_loss_gradient(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """The gradient of `softmax_focal_loss` with respect to ``input``, in the shape of ``input``.

    With u_c = -log p_c, q_c = 1 - p_c and B_c = w_c y_c q_c^gamma (1 + gamma p_c u_c / q_c)::

        dFL/dx_j = p_j sum_{c != j} B_c - q_j B_j

    which for a class index t is w_t phi(p_t) (p - e_t), phi(p) = (1 - p)^gamma
    - gamma p (1 - p)^(gamma - 1) log p. The arguments and errors are those of
    `softmax_focal_loss`; with "none" it is each item's own gradient, as with "sum".
    Source: the book's prop-softmax-gradient.

    >>> softmax_focal_loss_gradient([2.0, 0.0, 0.0], 0, gamma=0.0).round(4)
    array([-0.213 ,  0.1065,  0.1065])
    """
    (x, a), normalizer, _ = _softmax_arguments(
        input, target, weight, ignore_index, reduction, label_smoothing
    )
    power = _checks.gamma(gamma)
    p, q, u = _softmax_parts(x)
    with np.errstate(invalid="ignore", divide="ignore"):
        # u / q tends to 1 where q vanishes, and p u to 0 where p does.
        pu_over_q = np.where(q == 0, 1.0, np.where(p == 0, 0.0, p * u / q))
        b = a * (q**power * (1 + power * pu_over_q))
        gradient = p * (b.sum(axis=-1, keepdims=True) - b) - q * b
        if reduction == "mean":
            gradient = gradient / normalizer
    gradient[~a.any(axis=-1)] = 0.0  # ignored, or of weight 0
    classes = np.asarray(input)
    if classes.ndim > 2:
        moved = np.moveaxis(classes, 1, -1).shape
        return _out(np.moveaxis(gradient.reshape(moved), -1, 1), input)
    return _out(gradient.reshape(classes.shape), input)


# --- How ---


def _sigmoid(
    order: int, inputs: ArrayLike, targets: ArrayLike, alpha: Any, gamma: Any, reduction: str
) -> Array:
    """The elementwise loss (order 0), its first or its second derivative by the logit."""
    x = _real("inputs", inputs)
    y = _real("targets", targets)
    if y.shape != x.shape and y.ndim:
        raise ValueError(f"targets: takes the shape of inputs, {x.shape}, got {y.shape}")
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError("targets: takes values in [0, 1]")
    a = _checks.alpha(alpha)
    g = _checks.gamma(gamma)
    mean = _checks.reduction(reduction) == "mean"
    positive, negative = (y, 1 - y) if a is None else (a * y, (1 - a) * (1 - y))
    sign = -1.0 if order == 1 else 1.0
    value = _times(positive, _focal(order, x, g)) + sign * _times(negative, _focal(order, -x, g))
    return np.asarray(value / x.size if mean and order else value)


def _focal(order: int, z: Array, gamma: float) -> Array:
    """Focal loss of the margin z, or its first or second derivative by z."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        p, q = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(z))
        u = np.logaddexp(0, -z)
        if order == 0:
            return np.asarray(q**gamma * u)
        pu = np.where(p == 0, 0.0, p * u)  # the limit at z = -inf
        if order == 1:
            return np.asarray(-(q**gamma) * (q + gamma * pu))
        bracket = (1 + 2 * gamma) * p * q - gamma * (1 - (1 + gamma) * p) * pu
        return np.asarray(q**gamma * bracket)


def _softmax_parts(x: Array) -> tuple[Array, Array, Array]:
    """p, 1 - p and -log p of the softmax along the last axis, each without cancellation.

    One exponential is the largest, and 1. The others' sum is added up without it, so 1 - p of the
    largest keeps its digits; every other p is at most 1/2.
    """
    if x.shape[-1] == 0 or x.size == 0:
        return x, x, x
    largest = x.argmax(axis=-1, keepdims=True)
    reference = np.take_along_axis(x, largest, axis=-1)
    with np.errstate(invalid="ignore", under="ignore"):
        d = x - reference  # NaN where two logits are +inf, or all are -inf: there is no limit
        np.put_along_axis(d, largest, np.where(np.isnan(reference), np.nan, 0.0), axis=-1)
        e = np.exp(d)
        np.put_along_axis(e, largest, 0.0, axis=-1)
        others = e.sum(axis=-1, keepdims=True)
        np.put_along_axis(e, largest, 1.0, axis=-1)
        p = e / (1 + others)
        q = 1 - p
        np.put_along_axis(q, largest, others / (1 + others), axis=-1)
        return p, q, np.log1p(others) - d


def _softmax_arguments(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    ignore_index: Any,
    reduction: Any,
    label_smoothing: Any,
) -> tuple[tuple[Array, Array], Any, tuple[int, ...]]:
    """Check the arguments; return the logits and the factors of f_c as rows of C, what a mean
    divides by, and the shape of the items."""
    x = _real("input", input)
    if x.ndim == 0:
        raise ValueError("input: takes logits (C,), (N, C) or (N, C, d1, ...), got a number")
    axis = 0 if x.ndim == 1 else 1
    classes = x.shape[axis]
    if classes == 0:
        raise ValueError("input: takes at least one class, got none")
    items = x.shape[:axis] + x.shape[axis + 1 :]
    _checks.reduction(reduction)
    smoothing = _checks.fraction("label_smoothing", label_smoothing)
    ignored = _checks.index("ignore_index", ignore_index)
    w = np.ones(classes)
    if weight is not None:
        w = _real("weight", weight)
        if w.shape != (classes,):
            raise ValueError(f"weight: takes one number a class, shape ({classes},), got {w.shape}")
        if not (np.isfinite(w) & (w >= 0)).all():
            raise ValueError(f"weight: takes finite numbers >= 0, got {weight!r}")
    rows = np.moveaxis(x, axis, -1).reshape(-1, classes)
    y = np.asarray(target)
    if y.dtype.kind in "iu" and y.shape == items:
        t = y.reshape(-1)
        kept = t != ignored
        if not ((t >= 0) & (t < classes))[kept].all():
            raise ValueError(
                f"target: takes class indices from 0 to {classes - 1} or ignore_index = {ignored}"
            )
        t = np.where(kept, t, 0)
        a = np.broadcast_to(w * (smoothing / classes), rows.shape).copy()
        a[np.arange(t.size), t] += (1 - smoothing) * w[t]
        a[~kept] = 0.0
        return (rows, a), w[t][kept].sum(), items
    if y.dtype.kind == "f" and y.shape == x.shape:
        y = np.asarray(y, np.float64)
        if not ((y >= 0) & (y <= 1)).all():
            raise ValueError("target: takes class probabilities in [0, 1]")
        y = np.moveaxis(y, axis, -1).reshape(-1, classes)
        a = w * ((1 - smoothing) * y + smoothing / classes)
        return (rows, a), rows.shape[0], items
    if y.dtype.kind not in "iuf":
        raise TypeError(f"target: takes integers or floats, got {y.dtype}")
    raise ValueError(
        f"target: takes class indices (integers) of shape {items} or class probabilities (floats) "
        f"of shape {x.shape}, got {y.dtype} of shape {y.shape}"
    )


def _reduce(loss: Array, reduction: str) -> Array:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return np.asarray(loss.sum())
    return np.asarray(loss.sum() / loss.size if loss.size else np.nan)


def _times(weight: Array, value: Array) -> Array:
    """The product, with 0 times infinity (and 0 times NaN of no limit) taken as 0."""
    with np.errstate(invalid="ignore"):
        return np.where(weight == 0, np.where(np.isnan(value), value, 0.0), weight * value)


def _cross_entropy(p_t: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(0.0 - np.log(p_t))  # 0.0 -, not -: no negative zero at p_t = 1


def _out(value: Array, like: ArrayLike) -> Array:
    """Round once to float32 where the input was float32; a 0-d array becomes a NumPy scalar."""
    narrow = getattr(like, "dtype", None) == np.float32
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(value).astype(np.float32 if narrow else np.float64, copy=False)[()]


def _real(name: str, value: ArrayLike) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: takes real numbers, got {array.dtype}")
    return array.astype(np.float64)


def _probability(name: str, value: ArrayLike) -> Array:
    array = _real(name, value)
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"{name}: takes probabilities in [0, 1], got {value!r}")
    return array


def _label(y: ArrayLike) -> Array:
    array = _real("y", y)
    if not ((array == 0) | (array == 1)).all():
        raise ValueError(f"y: takes labels 0 and 1, got {y!r}")
    return array
