"""The losses in NumPy: the definitions in p_t, the stable forms in logits and their derivatives.

All is computed in float64 and rounded once to the dtype of the first argument, if that is a
floating one; anything else (integers, lists, Python numbers) gives float64. Results without
dimensions are NumPy scalars. Logits are taken in chunks, so that large arrays need little memory
beyond the result. Bad arguments raise a TypeError or ValueError that names the argument.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from focal_lib import _checks

Array = NDArray[Any]
Shape = tuple[int, ...]
Margin = tuple[Array, Array, Array, Array]  # of z: p = sigma(z), q = 1 - p, u = -log p and q^gamma

# Infinite logits, 0/0 in an empty mean and results too small for their dtype are defined below.
_quiet = np.errstate(all="ignore")
_LARGEST = float(np.finfo(np.float64).max)
# The numbers in a chunk of items (two for one of two classes): arrays of up to 112 KB stay in the
# cache, and malloc has them at hand.
_CHUNK = 14336

# --- The definitions, in p_t ----------------------------------------------------------------------


def target_probability(p: ArrayLike, y: ArrayLike) -> Array:
    """The probability of the label that came out: p_t = p if y = 1, 1 - p if y = 0.

    ``p`` in [0, 1] and ``y`` in {0, 1} broadcast. Source: Lin et al. 2017, equation 2; the book's
    eq-p-t.

    >>> target_probability(0.25, [1, 0])
    array([0.25, 0.75])
    """
    probability, label = _within("p", p, 1), _label(y)
    return _out(np.where(label == 1, probability, 1 - probability), p)


def target_weight(alpha: float | None, y: ArrayLike) -> Array:
    """The weight of the label that came out: alpha_t = alpha if y = 1, 1 - alpha if y = 0.

    ``alpha`` in [0, 1], or None: the weight 1 for both; ``y`` in {0, 1}, of any shape. Source: Lin
    et al. 2017, section 3.1; the book's eq-alpha-t.

    >>> target_weight(0.25, [1, 0])
    array([0.25, 0.75])
    """
    positive, negative = _checks.class_weights(alpha)
    return _out(np.where(_label(y) == 1, positive, negative), positive)


def cross_entropy(p_t: ArrayLike) -> Array:
    """Cross entropy: CE(p_t) = -log p_t, infinite at p_t = 0.

    ``p_t`` in [0, 1], of any shape. Source: the book's eq-ce.

    >>> print(cross_entropy(1.0), cross_entropy(0.0))
    0.0 inf
    """
    return focal_loss(p_t, 0.0)


def balanced_cross_entropy(p_t: ArrayLike, alpha_t: ArrayLike) -> Array:
    """Balanced cross entropy: -alpha_t log p_t, and 0 where alpha_t is 0, at p_t = 0 too.

    ``p_t`` in [0, 1] and ``alpha_t`` >= 0, finite, broadcast. Source: Lin et al. 2017, equation 3;
    the book's eq-balanced.

    >>> print(balanced_cross_entropy(0.0, 0.25), balanced_cross_entropy(0.0, 0.0))
    inf 0.0
    """
    return focal_loss(p_t, 0.0, alpha_t)


def modulating_factor(p_t: ArrayLike, gamma: float) -> Array:
    """The modulating factor: m_gamma(p_t) = (1 - p_t)^gamma, with 0^0 = 1.

    ``p_t`` in [0, 1], of any shape; ``gamma`` >= 0, finite. Source: Lin et al. 2017, section 3.2;
    the book's def-modulating-factor.

    >>> modulating_factor([0.75, 1.0], 2)
    array([0.0625, 0.    ])
    """
    exponent = _checks.nonnegative("gamma", gamma)
    return _out((1 - _within("p_t", p_t, 1)) ** exponent, p_t)


@_quiet
def focal_loss(p_t: ArrayLike, gamma: float, alpha_t: ArrayLike = 1.0) -> Array:
    """Focal loss: FL(p_t) = -alpha_t (1 - p_t)^gamma log p_t, and 0 where alpha_t is 0.

    ``p_t`` in [0, 1] and ``alpha_t`` >= 0, finite, broadcast; ``gamma`` >= 0, finite. Source: Lin
    et al. 2017, equations 4 and 5; the book's eq-focal and eq-focal-alpha.

    A p_t that was rounded to 1 has lost its 1 - p_t, and the loss with it; the logit has not:

    >>> x = 40.0
    >>> print(focal_loss(1 / (1 + np.exp(-x)), 2.0))
    0.0
    >>> print(f"{sigmoid_focal_loss(x, 1, alpha=None, gamma=2.0):.4g}")
    7.668e-53
    """
    exponent = _checks.nonnegative("gamma", gamma)
    probability, weight = _within("p_t", p_t, 1), _within("alpha_t", alpha_t, _LARGEST)
    loss = (1 - probability) ** exponent * (0 - np.log(probability))  # 0 -: no negative zero
    return _out(_times(weight, loss), p_t)


# --- Two classes, in logits -----------------------------------------------------------------------


def sigmoid_focal_loss(
    inputs: ArrayLike,
    targets: ArrayLike,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Array:
    """Focal loss of two classes, from logits.

    With s = 2y - 1, z = s x, q = sigma(-z) = 1 - p_t and u = log(1 + e^-z) = -log p_t::

        FL = alpha_t q^gamma u

    A soft target, 0 < y < 1, gives the expectation y FL(y = 1) + (1 - y) FL(y = 0).

    Args:
        inputs: logits x, of any shape; +-inf gives the limit.
        targets: y in [0, 1], of the shape of ``inputs``, or one number for all of them.
        alpha: the weight of class 1, in [0, 1] (class 0 has 1 - alpha); None, or exactly -1, is no
            weight. A weight of 0 times an infinite loss is 0.
        gamma: the focusing parameter, finite, >= 0; 0 is the binary cross entropy.
        reduction: "none" for the shape of ``inputs``, "sum", or "mean" over all elements (NaN where
            there are none).

    Source: Lin et al. 2017, equation 5; the book's eq-focal-alpha and eq-softplus. The names, their
    order and the defaults are those of torchvision.ops.sigmoid_focal_loss.

    In principle this is ``focal_loss(target_probability(p, y), ...)`` with p = sigma(x), but it
    keeps its digits where that p_t rounds to 1:

    >>> x = np.array([-20.0, -40.0])
    >>> p = 1 / (1 + np.exp(-x))
    >>> print(focal_loss(target_probability(p, 0), 2.0))
    [8.75651025e-27 0.00000000e+00]
    >>> print(sigmoid_focal_loss(x, [0, 0], alpha=None, gamma=2.0))
    [8.75651072e-27 7.66764807e-53]
    """
    return _of_logits(0, inputs, targets, alpha, gamma, reduction)


def sigmoid_focal_loss_gradient(
    inputs: ArrayLike,
    targets: ArrayLike,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Array:
    """The gradient of `sigmoid_focal_loss` with respect to ``inputs``, in their shape.

    With p = p_t and s, q, u as there::

        dFL/dx = -s alpha_t q^gamma (q + gamma p u)

    The arguments are those of `sigmoid_focal_loss`. "none" gives each element's own derivative,
    which is also the gradient of the sum; "mean" divides it by their number. Source: Lin et al.
    2017, appendix B; the book's eq-focal-gradient.

    By the chain rule, -gamma q^(gamma - 1) is a factor of the gradient, and for gamma < 1 it is
    infinite where q has rounded to 0: infinity times 0. Here it does not occur:

    >>> print(sigmoid_focal_loss_gradient([0.0, 40.0, 800.0], 1, alpha=None, gamma=0.5))
    [-4.76085659e-01 -1.31347661e-26  0.00000000e+00]
    """
    return _of_logits(1, inputs, targets, alpha, gamma, reduction)


def sigmoid_focal_loss_hessian(
    inputs: ArrayLike,
    targets: ArrayLike,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Array:
    """The second derivative of `sigmoid_focal_loss` by each logit, in the shape of ``inputs``.

    With p = p_t and q, u as there::

        d2FL/dx2 = alpha_t p q^gamma ((1 + 2 gamma) q - gamma (q - gamma p) u)

    It is the diagonal of the Hessian, whose other entries are 0. For gamma > 0 it is negative on
    hard examples. The arguments are those of `sigmoid_focal_loss`; "none", "sum" and "mean" are as
    in `sigmoid_focal_loss_gradient`. Source: the derivative of eq-focal-gradient.

    >>> print(sigmoid_focal_loss_hessian([-5.0, 0.0, 800.0], 1, alpha=None, gamma=2.0))
    [-0.0319998  0.3991434  0.       ]
    """
    return _of_logits(2, inputs, targets, alpha, gamma, reduction)


# --- Many classes, in logits ----------------------------------------------------------------------


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
    """Focal loss of C classes, from logits.

    With p = softmax(x) and f_c = (1 - p_c)^gamma (-log p_c)::

        FL = sum_c w_c y_c f_c

    which is the expectation of the loss under the target distribution y. A class index t stands for
    the one-hot y, with FL = w_t f_t. Smoothing by e takes (1 - e) y_c + e/C for y_c.

    Args:
        input: logits, (C,), (N, C) or (N, C, d1, ...); an infinite one gives the limit, or NaN
            where there is none (two at +inf, or all at -inf).
        target: class indices, integers of the shape of ``input`` without C; or class probabilities,
            floats in [0, 1] of the shape of ``input``.
        weight: w, finite and >= 0, (C,); 1 if not given. A weight of 0 times an infinite loss is 0.
        gamma: the focusing parameter, finite, >= 0; 0 is torch.nn.functional.cross_entropy.
        ignore_index: the class index of items that cost nothing and are not counted.
        reduction: "none" for the shape of ``input`` without C, "sum", or "mean". The mean divides
            the sum by the total of w_t over the items that are kept where ``target`` has class
            indices, and by the number of items where it has class probabilities; it is NaN where
            that is 0.
        label_smoothing: e in [0, 1].

    Source: Lin et al. 2017, section 3; the book's eq-multiclass and def-mean. The names and their
    meaning are those of torch.nn.functional.cross_entropy.

    The loss of a confident right answer is small, but it is not 0:

    >>> x = np.array([40.0, 0.0, 0.0])
    >>> p = np.exp(x) / np.exp(x).sum()
    >>> print(focal_loss(p[0], 2.0))
    0.0
    >>> print(f"{softmax_focal_loss(x, 0, gamma=2.0):.4g}")
    6.134e-52
    """
    return _of_rows(0, input, target, weight, gamma, ignore_index, reduction, label_smoothing)


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
    """The gradient of `softmax_focal_loss` with respect to ``input``, in its shape.

    With phi(p) = (1 - p)^gamma - gamma p (1 - p)^(gamma - 1) log p::

        dFL/dx_j = p_j sum_c w_c y_c phi(p_c) - w_j y_j phi(p_j)

    so that a class index t gives w_t phi(p_t) (p_j - [j = t]). The arguments are those of
    `softmax_focal_loss`. "none" gives the gradient of each item's own loss, which is also that of
    the sum; "mean" divides it by what the mean divides by. Source: the book's eq-soft-gradient and
    eq-phi.

    The entries of a confident right answer are small, but they are not 0:

    >>> print(softmax_focal_loss_gradient([40.0, 0.0, 0.0], 0, gamma=0.5))
    [-3.71507288e-26  1.85753644e-26  1.85753644e-26]
    """
    gradient = _of_rows(1, input, target, weight, gamma, ignore_index, reduction, label_smoothing)
    return np.moveaxis(gradient, -1, _checks.class_axis(np.shape(input)))


def softmax_focal_loss_hessian(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """The Hessian of each item's `softmax_focal_loss` by its logits: (C, C), or (N, d1, ..., C, C).

    With f the binary loss of a margin, z_c = log(p_c / (1 - p_c)), r_c the softmax over the classes
    but c (0 at c), and v_c = dz_c/dx, which is the unit vector of c less r_c::

        d2FL/dx2 = sum_c w_c y_c (f''(z_c) v_c v_c^T - f'(z_c) (diag r_c - r_c r_c^T))

    The arguments are those of `softmax_focal_loss`; "none", "sum" and "mean" are as in
    `softmax_focal_loss_gradient`. Source: the derivative of eq-soft-gradient.

    By the product rule, phi'(p) has a factor (1 - p)^(gamma - 2), infinite where p has rounded to
    1. Here it does not occur:

    >>> print(softmax_focal_loss_hessian([40.0, 0.0, 0.0], 0, gamma=0.5)[0])
    [ 5.57260933e-26 -2.78630466e-26 -2.78630466e-26]
    """
    return _of_rows(2, input, target, weight, gamma, ignore_index, reduction, label_smoothing)


# --- The stable forms -----------------------------------------------------------------------------


def _form(order: int, margin: Margin, gamma: float) -> Array:
    """The loss of a margin z, f(z) = q^gamma u, or the first or second derivative.

    f'(z) = -q^gamma (q + gamma p u), f''(z) = p q^gamma ((1 + 2 gamma) q - gamma (q - gamma p) u).
    """
    p, q, u, power = margin
    if order == 0:
        return np.asarray(power * u)
    if order == 1:
        slope = _times(p, u)
        slope *= -gamma
        slope -= q
        slope *= power
        return slope
    # Where p is below the normal numbers it has lost digits, and what multiplies it may be large.
    near, far = np.where(u > 708, np.exp(-708.0), p), np.exp(np.minimum(708 - u, 0))
    bracket = 2 * near * q - (q - gamma * p) * (near * np.minimum(u, _LARGEST))
    return np.asarray((power * near * q + power * gamma * bracket) * far)


def _margin(own: Array | float, others: Array, u: Array, gamma: float) -> Margin:
    """p, q, u and q^gamma, from the class's own e^x, the sum of the others', and u = -log p."""
    total = own + others
    q = others / total
    p = np.divide(own, total, out=total)
    if gamma <= 5:
        return p, q, u, q**gamma
    # A large gamma would multiply the rounding of q; but q^gamma is also (q/p)^gamma p^gamma.
    odds = others / own
    easy, hard = odds**gamma * np.exp(-gamma * u), np.exp(-gamma * np.log1p(1 / odds))
    return p, q, u, np.where(odds < 1, easy, hard)


def _logistic(z: Array, gamma: float) -> Margin:
    """p, q, u and q^gamma of a margin z of two classes; z is overwritten."""
    far = z < -700
    beyond = z[far]
    odds = np.exp(np.negative(z, out=z), out=z)  # q / p
    p, q, u, power = _margin(1, odds, np.log1p(odds), gamma)
    if beyond.size:  # where the odds may overflow
        p[far], q[far], u[far], power[far] = np.exp(beyond), 1, -beyond, 1
    return p, q, u, power


def _softmax(x: Array, index: Array, gamma: float) -> tuple[Array, Margin]:
    """The softmax of each row; p, q, u and q^gamma of its margins z_c, for the c in the index."""
    rows, largest = np.arange(len(x))[:, None], x.argmax(axis=1)[:, None]
    top, exact = x[rows, largest].astype(np.float64), x.astype(np.float64)
    below = exact - top
    e = np.exp(below)
    if x.itemsize > 4:  # what the difference rounds off (here by TwoSum) is a relative error of e
        rounded = below - exact
        error = (exact - (below - rounded)) - (top + rounded)
        error[~np.isfinite(error)] = 0
        e += e * error
    # The largest is 0 below itself, also at +inf; inf - inf is left NaN, as there is no limit.
    one = np.where(np.isnan(top), top, 1.0)
    below[rows, largest], e[rows, largest] = one - 1, 0
    # The others of the largest are added up, not subtracted from the total: q keeps its digits.
    rest = e.sum(axis=1, keepdims=True)
    e[rows, largest] = one
    own = e[rows, index]
    others = np.where(index == largest, rest, one + (rest - own))
    e /= one + rest
    return e, _margin(own, others, np.log1p(rest) - below[rows, index], gamma)


def _row_form(order: int, x: Array, index: Array, factor: Array, gamma: float) -> Array:
    """For each row of logits sum_c a_c f(z_c), c in the index, a the factor; or a derivative of it.

    z_c = log(p_c / (1 - p_c)) has the gradient e_c - r_c, with e_c the unit vector and r_c the
    softmax over the other classes, 0 at c; and the Hessian r_c r_c^T - diag r_c.
    """
    softmax, margin = _softmax(x, index, gamma)
    if order == 0:
        return np.asarray(_times(factor, _form(0, margin, gamma)).sum(axis=1))
    slope, classes = factor * _form(1, margin, gamma), np.arange(x.shape[1])
    others = np.maximum(margin[1], 2.0**-1022)  # 0 / 0 is 0
    if order == 1:
        pull = -slope / others
        if index.shape[1] == 1:
            softmax *= pull
            softmax[np.arange(len(x))[:, None], index] = slope
            return softmax
        # As for q, the others of the largest are added up.
        is_largest = classes == pull.argmax(axis=1)[:, None]
        rest = np.where(is_largest, 0.0, pull).sum(axis=1, keepdims=True)
        pulls = np.where(is_largest, rest, pull.max(axis=1, keepdims=True) + (rest - pull))
        return np.asarray(softmax * pulls + slope)
    unit = index[:, :, None] == classes
    r = np.where(unit, 0.0, softmax[:, None, :] / others[:, :, None])
    bent = (factor * _form(2, margin, gamma))[:, :, None] * (unit - r)
    hessian = np.swapaxes(bent, 1, 2) @ (unit - r) + np.swapaxes(slope[:, :, None] * r, 1, 2) @ r
    hessian = (hessian + np.swapaxes(hessian, 1, 2)) / 2
    # r - r^2 would lose its digits where r is nearly 1, but rows add up to 0. (NaN times 0 is NaN.)
    hessian[:, classes, classes] *= 0
    hessian[:, classes, classes] = -hessian.sum(axis=2)
    return np.asarray(hessian)


# --- Arguments, chunks and results ----------------------------------------------------------------


@_quiet
def _of_logits(
    order: int, x: ArrayLike, y: ArrayLike, alpha: float | None, gamma: float, reduction: str
) -> Array:
    """Check the arguments; return the loss of two classes or a derivative of it."""
    inputs, targets = _array("inputs", x, "iuf"), _in_range("targets", _array("targets", y), 1)
    if targets.shape not in (inputs.shape, ()):
        raise ValueError(f"targets: takes the shape of inputs, {inputs.shape}, got {targets.shape}")
    positive, negative = _checks.class_weights(alpha)
    exponent = _checks.nonnegative("gamma", gamma)
    divisor = _divisor(reduction, inputs.size)
    weights = np.array([(-1) ** order * negative, positive]) / (divisor if order else 1)
    logits, labels = inputs.reshape(-1), np.broadcast_to(targets.reshape(-1), inputs.size)

    def expectation(part: slice) -> Array:
        x, y = logits[part], labels[part]
        one = y == 1
        if (one | (y == 0)).all():  # hard targets: only the margin z = s x counts
            z = (2 * y.astype(np.float32) - 1) * x
            value = _form(order, _logistic(z.astype(np.float64, copy=False), exponent), exponent)
            return _times(weights.take(one), value)
        x, y = x.astype(np.float64), y.astype(np.float64)
        if_zero, if_one = (_form(order, _logistic(z, exponent), exponent) for z in (-x, x))
        return _times(weights[0] * (1 - y), if_zero) + _times(weights[1] * y, if_one)

    total = None if order or reduction == "none" else divisor
    return _by_chunks(expectation, inputs, inputs.shape, (), total)


@_quiet
def _of_rows(
    order: int,
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    gamma: float,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Array:
    """Check the arguments; return the loss of C classes or a derivative, the classes at the end."""
    x, y = _array("input", input, "iuf"), _array("target", target, "iuf")
    axis, ignored = _checks.class_axis(x.shape), _checks.ignore_index(ignore_index)
    exponent = _checks.nonnegative("gamma", gamma)
    smoothing = _checks.fraction("label_smoothing", label_smoothing)
    *items, classes = np.moveaxis(x, axis, -1).shape
    rows, every = np.moveaxis(x, axis, -1).reshape(-1, classes), np.arange(classes)
    w = np.ones(classes) if weight is None else _within("weight", weight, _LARGEST)
    if w.shape != (classes,):
        raise ValueError(f"weight: takes the shape ({classes},), got {w.shape}")
    soft = _checks.has_probabilities(x.shape, y.shape, y.dtype.kind == "f", ignored)
    if soft:
        labels = np.moveaxis(_in_range("target", y, 1), axis, -1).reshape(-1, classes)
        kept = np.ones(len(rows), bool)
    else:
        takes = f"class indices from 0 to {classes - 1}, or ignore_index ({ignored})"
        _check("target", y, (y == ignored) | ((y >= 0) & (y < classes)), takes)
        kept = y.reshape(-1) != ignored
        labels = np.where(kept, y.reshape(-1), 0)[:, None]
    divisor = _divisor(reduction, len(rows) if soft else w[labels[kept]].sum())

    def results(part: slice) -> Array:
        y = labels[part]
        if soft or smoothing:
            y = y.astype(np.float64) if soft else y == every
            index, factor = every[None], w * ((1 - smoothing) * y + smoothing / classes)
        else:
            index, factor = y, w[y]
        result = _row_form(order, rows[part], index, factor, exponent)
        if order:
            result /= divisor
        result[~kept[part]] = 0
        return result

    total = None if order or reduction == "none" else divisor
    return _by_chunks(results, x, tuple(items), order * (classes,), total)


def _by_chunks(
    form: Callable[[slice], Array], x: Array, items: Shape, tail: Shape, total: float | None
) -> Array:
    """The form of all items, arrays shaped like the tail, in one array; or its sum over a total."""
    count = math.prod(items)
    step = max(1, _CHUNK // max(2, x.size // max(1, count), math.prod(tail)))
    parts = [slice(i, i + step) for i in range(0, count, step)]
    if total is not None:
        return _out(np.sum([form(part).sum() for part in parts]) / total, x)
    out = np.empty((count, *tail), _out(0, x).dtype)
    for part in parts:
        out[part] = form(part) + 0.0  # no negative zeros
    return out.reshape(items + tail)[()]


def _array(name: str, value: ArrayLike, kinds: str = "biuf") -> Array:
    """The array, if it holds real numbers of these kinds."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: takes an array of numbers, got {value!r}") from error
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name}: takes real numbers, got {value!r} ({array.dtype})")
    return array


def _real(name: str, value: ArrayLike, kinds: str = "biuf") -> Array:
    """The same in float64."""
    return _array(name, value, kinds).astype(np.float64)


def _check(name: str, array: Array, right: Array, takes: str) -> None:
    if not right.all():
        raise ValueError(f"{name}: takes {takes}, got {array[~right][0]}")


def _in_range(name: str, array: Array, largest: float) -> Array:
    """The array, if it holds numbers from 0 to the largest; no other array is made to see that."""
    if array.size and not (array.min() >= 0 and array.max() <= largest):
        takes = f"numbers in [0, {largest}]" if largest == 1 else "finite numbers >= 0"
        _check(name, array, (array >= 0) & (array <= largest), takes)
    return array


def _within(name: str, value: ArrayLike, largest: float) -> Array:
    """The array in float64, if it holds numbers from 0 to the largest."""
    return _in_range(name, _real(name, value), largest)


def _label(y: ArrayLike) -> Array:
    """The array in float64, if it holds 0 and 1 alone."""
    array = _real("y", y)
    _check("y", array, (array == 0) | (array == 1), "the labels 0 and 1")
    return array


def _times(a: Array, b: Array) -> Array:
    """a b, with 0 times infinity taken as 0."""
    product, zero = np.asarray(a * b), np.equal(a, 0)
    if zero.any():
        product[zero & np.isinf(b)] = 0
    return product


def _divisor(reduction: str, count: float) -> float:
    """What the reduction divides a sum by; a mean of nothing is NaN."""
    return (count or np.nan) if _checks.reduction(reduction) == "mean" else 1.0


@_quiet
def _out(value: ArrayLike, like: ArrayLike) -> Array:
    """Round once, to the floating dtype of the argument if it has one; 0-d becomes a scalar."""
    dtype = np.asarray(like).dtype
    dtype = dtype if dtype in (np.float16, np.float32) else np.dtype(np.float64)
    return np.asarray(value, dtype=dtype)[()]
