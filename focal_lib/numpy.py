"""The losses in NumPy: the definitions in p_t, the stable forms in logits and their derivatives.

All is computed in float64 and rounded once to the dtype of the first argument, if that is a
floating one; anything else (integers, lists, Python numbers) gives float64. Results without
dimensions are NumPy scalars.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from focal_lib import _checks

Array = NDArray[Any]

# Infinite logits, 0/0 in an empty mean and results too small for their dtype are defined below.
_quiet = np.errstate(all="ignore")

# --- The definitions, in p_t ----------------------------------------------------------------------


def target_probability(p: ArrayLike, y: ArrayLike) -> Array:
    """The probability of the label that came out.

    p_t = p if y = 1, 1 - p if y = 0.

    ``p`` in [0, 1] and ``y`` in {0, 1} broadcast. Source: Lin et al. 2017, equation 2; the book's
    eq-p-t. Raises TypeError or ValueError, naming the argument.

    >>> target_probability(0.25, [1, 0])
    array([0.25, 0.75])
    """
    probability, label = _within("p", p, 1), _label(y)
    return _out(np.where(label == 1, probability, 1 - probability), p)


def target_weight(alpha: float | None, y: ArrayLike) -> Array:
    """The weight of the label that came out.

    alpha_t = alpha if y = 1, 1 - alpha if y = 0.

    ``alpha`` in [0, 1], or None: the weight 1 for both; ``y`` in {0, 1}, of any shape. Source: Lin
    et al. 2017, section 3.1; the book's eq-alpha-t. Raises TypeError or ValueError, naming the
    argument.

    >>> target_weight(0.25, [1, 0])
    array([0.25, 0.75])
    """
    positive, negative = _checks.class_weights(alpha)
    return _out(np.where(_label(y) == 1, positive, negative), positive)


def cross_entropy(p_t: ArrayLike) -> Array:
    """Cross entropy.

    CE(p_t) = -log p_t, infinite at p_t = 0.

    ``p_t`` in [0, 1], of any shape. Source: the book's eq-ce. Raises TypeError or ValueError,
    naming ``p_t``.

    >>> print(cross_entropy(1.0), cross_entropy(0.0))
    0.0 inf
    """
    return focal_loss(p_t, 0.0)


def balanced_cross_entropy(p_t: ArrayLike, alpha_t: ArrayLike) -> Array:
    """Balanced cross entropy.

    -alpha_t log p_t, and 0 where alpha_t is 0, at p_t = 0 too.

    ``p_t`` in [0, 1] and ``alpha_t`` >= 0, finite, broadcast. Source: Lin et al. 2017, equation 3;
    the book's eq-balanced. Raises TypeError or ValueError, naming the argument.

    >>> print(balanced_cross_entropy(0.0, 0.25), balanced_cross_entropy(0.0, 0.0))
    inf 0.0
    """
    return focal_loss(p_t, 0.0, alpha_t)


def modulating_factor(p_t: ArrayLike, gamma: float) -> Array:
    """The modulating factor.

    m_gamma(p_t) = (1 - p_t)^gamma, with 0^0 = 1.

    ``p_t`` in [0, 1], of any shape; ``gamma`` >= 0, finite. Source: Lin et al. 2017, section 3.2;
    the book's def-modulating-factor. Raises TypeError or ValueError, naming the argument.

    >>> modulating_factor([0.75, 1.0], 2)
    array([0.0625, 0.    ])
    """
    exponent = _checks.nonnegative("gamma", gamma)
    return _out((1 - _within("p_t", p_t, 1)) ** exponent, p_t)


@_quiet
def focal_loss(p_t: ArrayLike, gamma: float, alpha_t: ArrayLike = 1.0) -> Array:
    """Focal loss.

    FL(p_t) = -alpha_t (1 - p_t)^gamma log p_t, and 0 where alpha_t is 0, at p_t = 0 too.

    ``p_t`` in [0, 1] and ``alpha_t`` >= 0, finite, broadcast; ``gamma`` >= 0, finite. Source: Lin
    et al. 2017, equations 4 and 5; the book's eq-focal and eq-focal-alpha. Raises TypeError or
    ValueError, naming the argument.

    A p_t that was rounded to 1 has lost its 1 - p_t, and the loss with it; the logit has not:

    >>> x = 40.0
    >>> print(focal_loss(1 / (1 + np.exp(-x)), 2.0))
    0.0
    >>> print(f"{sigmoid_focal_loss(x, 1, alpha=None, gamma=2.0):.4g}")
    7.668e-53
    """
    exponent = _checks.nonnegative("gamma", gamma)
    probability = _within("p_t", p_t, 1)
    weight = _within("alpha_t", alpha_t, np.finfo(np.float64).max)
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

    Raises TypeError or ValueError, naming the argument. Source: Lin et al. 2017, equation 5; the
    book's eq-focal-alpha and eq-softplus. The names, their order and the defaults are those of
    torchvision.ops.sigmoid_focal_loss.

    In principle this is focal_loss(target_probability(sigma(x), y), ...), but it keeps its digits
    where that p_t rounds to 1:

    >>> x = np.array([-20.0, -40.0])
    >>> p = 1 / (1 + np.exp(-x))
    >>> print(focal_loss(target_probability(p, 0), 2.0))
    [8.75651025e-27 0.00000000e+00]
    >>> print(sigmoid_focal_loss(x, [0, 0], alpha=None, gamma=2.0))
    [8.75651072e-27 7.66764807e-53]
    """
    loss = _sigmoid(_loss, inputs, targets, alpha, gamma)
    return _out(_reduce(loss, reduction, _divisor(reduction, loss.size)), inputs)


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

    The arguments and errors are those of `sigmoid_focal_loss`. "none" gives each element's own
    derivative, which is also the gradient of the sum; "mean" divides it by their number. Source:
    Lin et al. 2017, appendix B; the book's eq-focal-gradient.

    By the chain rule, -gamma q^(gamma - 1) is a factor of the gradient, and for gamma < 1 it is
    infinite where q has rounded to 0: infinity times 0. Here it does not occur:

    >>> print(sigmoid_focal_loss_gradient([0.0, 40.0, 800.0], 1, alpha=None, gamma=0.5))
    [-4.76085659e-01 -1.31347661e-26  0.00000000e+00]
    """
    slope = _sigmoid(_slope, inputs, targets, alpha, gamma)
    return _out(slope / _divisor(reduction, slope.size), inputs)


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
    hard examples. The arguments and errors are those of `sigmoid_focal_loss`; "none", "sum" and
    "mean" are as in `sigmoid_focal_loss_gradient`. Source: the derivative of eq-focal-gradient.

    >>> print(sigmoid_focal_loss_hessian([-5.0, 0.0, 800.0], 1, alpha=None, gamma=2.0))
    [-0.0319998  0.3991434  0.       ]
    """
    curvature = _sigmoid(_curvature, inputs, targets, alpha, gamma)
    return _out(curvature / _divisor(reduction, curvature.size), inputs)


# --- Many classes, in logits ----------------------------------------------------------------------


@_quiet
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

    Raises TypeError or ValueError, naming the argument. Source: Lin et al. 2017, section 3; the
    book's eq-multiclass and def-mean. The names and their meaning are those of
    torch.nn.functional.cross_entropy.

    The loss of a confident right answer is small, but it is not 0:

    >>> x = np.array([40.0, 0.0, 0.0])
    >>> p = np.exp(x) / np.exp(x).sum()
    >>> print(focal_loss(p[0], 2.0))
    0.0
    >>> print(f"{softmax_focal_loss(x, 0, gamma=2.0):.4g}")
    6.134e-52
    """
    x, factor, kept, divisor, exponent = _softmax_arguments(
        input, target, weight, gamma, ignore_index, reduction, label_smoothing
    )
    loss = _times(factor, _loss(*_softmax(x), exponent)).sum(axis=-1)
    loss = np.where(kept, loss, 0.0)
    return _out(_reduce(loss, reduction, divisor), input)


@_quiet
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

    so that a class index t gives w_t phi(p_t) (p_j - [j = t]). The arguments and errors are those
    of `softmax_focal_loss`. "none" gives the gradient of each item's own loss, which is also that
    of the sum; "mean" divides it by what the mean divides by. Source: the book's eq-soft-gradient
    and eq-phi.

    The entries of a confident right answer are small, but they are not 0:

    >>> print(softmax_focal_loss_gradient([40.0, 0.0, 0.0], 0, gamma=0.5))
    [-3.71507288e-26  1.85753644e-26  1.85753644e-26]
    """
    x, factor, kept, divisor, exponent = _softmax_arguments(
        input, target, weight, gamma, ignore_index, reduction, label_smoothing
    )
    p, q, u = _softmax(x)
    # u/q tends to 1 where q vanishes, and p u to 0 where p does.
    relative = np.where(q == 0, 1.0, _times(p, u) / q)
    pull = factor * _power(p, q, exponent) * (1 + exponent * relative)  # w_c y_c phi(p_c)
    gradient = p * _others(pull) - q * pull
    gradient = np.where(kept[..., None], gradient / divisor, 0.0)
    return _out(np.moveaxis(gradient, -1, _checks.class_axis(np.shape(input))), input)


# --- The stable forms -----------------------------------------------------------------------------
# Each is a function of p = p_t, q = 1 - p and u = -log p, none of which was made from another.


def _power(p: Array, q: Array, gamma: float) -> Array:
    """q^gamma, from p where q is near 1 and the rounding of q would be raised to the power."""
    return np.where(p < 0.5, np.exp(gamma * np.log1p(-p)), q**gamma)


def _loss(p: Array, q: Array, u: Array, gamma: float) -> Array:
    """The focal loss f of the margin z."""
    return np.asarray(_power(p, q, gamma) * u)


def _slope(p: Array, q: Array, u: Array, gamma: float) -> Array:
    """f'(z) <= 0."""
    return np.asarray(-_power(p, q, gamma) * (q + gamma * _times(p, u)))


def _curvature(p: Array, q: Array, u: Array, gamma: float) -> Array:
    """f''(z)."""
    power = _power(p, q, gamma)
    bracket = 2 * p * q - (q - gamma * p) * _times(p, u)
    return np.asarray(power * p * q + power * gamma * bracket)


def _logistic(z: Array) -> tuple[Array, Array, Array]:
    """p = sigma(z), q = sigma(-z) and u = log(1 + e^-z)."""
    e = np.exp(-np.abs(z))
    large, small = 1 / (1 + e), e / (1 + e)
    positive = z >= 0
    p, q = np.where(positive, large, small), np.where(positive, small, large)
    return p, q, np.logaddexp(0, -z)


def _softmax(x: Array) -> tuple[Array, Array, Array]:
    """p, 1 - p and -log p of the softmax over the last axis."""
    if x.size == 0:
        return x, x, x
    is_largest = np.arange(x.shape[-1]) == x.argmax(axis=-1, keepdims=True)
    largest = x.max(axis=-1, keepdims=True)
    # The largest is 0 below itself, also at +inf; inf - inf is left NaN, as there is no limit.
    below = np.where(is_largest & ~np.isnan(x), 0.0, largest - x)
    e = np.exp(-below)
    others = _others(e)
    total = e + others
    # Relative to the largest the sum of all is 1 + the least of the sums of others.
    return e / total, others / total, np.log1p(others.min(axis=-1, keepdims=True)) + below


def _others(v: Array) -> Array:
    """For each entry of v >= 0 the sum of the others on the last axis.

    Without the largest it is added up, not subtracted from the total: that keeps the digits of
    1 - p where p is nearly 1.
    """
    is_largest = np.arange(v.shape[-1]) == v.argmax(axis=-1, keepdims=True)
    rest = np.where(is_largest, 0.0, v).sum(axis=-1, keepdims=True)
    return np.asarray(np.where(is_largest, rest, v.max(axis=-1, keepdims=True) + (rest - v)))


# --- Arguments and results ------------------------------------------------------------------------


@_quiet
def _sigmoid(
    form: Callable[[Array, Array, Array, float], Array],
    inputs: ArrayLike,
    targets: ArrayLike,
    alpha: float | None,
    gamma: float,
) -> Array:
    """Check the arguments; return the expectation of a form over the label, for each logit."""
    x, y = _real("inputs", inputs, "iuf"), _within("targets", targets, 1)
    if y.shape not in (x.shape, ()):
        raise ValueError(f"targets: takes the shape of inputs, {x.shape}, got {y.shape}")
    positive, negative = _checks.class_weights(alpha)
    exponent = _checks.nonnegative("gamma", gamma)
    sign = -1 if form is _slope else 1  # d/dx of f(-x)
    one = _times(positive * y, form(*_logistic(x), exponent))
    zero = _times(negative * (1 - y), form(*_logistic(-x), exponent))
    return np.asarray(one + sign * zero)


def _softmax_arguments(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    gamma: float,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[Array, Array, Array, float, float]:
    """Check the arguments; return what the loss is made of, with the classes on the last axis.

    That is the logits, the factors w_c y_c of f_c, which items are kept, what the reduction divides
    by, and the exponent.
    """
    x, y = _real("input", input, "iuf"), _real("target", target, "iuf")
    axis = _checks.class_axis(x.shape)
    ignored = _checks.ignore_index(ignore_index)
    floating = np.asarray(target).dtype.kind == "f"
    exponent = _checks.nonnegative("gamma", gamma)
    smoothing = _checks.fraction("label_smoothing", label_smoothing)
    x = np.moveaxis(x, axis, -1)
    classes = x.shape[-1]
    w = np.ones(classes)
    if weight is not None:
        w = _within("weight", weight, np.finfo(np.float64).max)
        if w.shape != (classes,):
            raise ValueError(f"weight: takes the shape ({classes},), got {w.shape}")
    if _checks.has_probabilities(np.shape(input), y.shape, floating, ignored):
        y = np.moveaxis(_within("target", target, 1), axis, -1)
        kept = np.ones(x.shape[:-1], bool)
        count = kept.size
    else:
        index = np.asarray(target)
        kept = index != ignored
        wrong = index[kept & ((index < 0) | (index >= classes))]
        if wrong.size:
            raise ValueError(
                f"target: takes class indices from 0 to {classes - 1}, or ignore_index "
                f"({ignored}), got {wrong[0]}"
            )
        y = np.arange(classes) == np.where(kept, index, 0)[..., None]
        count = w[index[kept]].sum()
    factor = w * ((1 - smoothing) * y + smoothing / classes)
    return x, factor, kept, _divisor(reduction, count), exponent


def _real(name: str, value: ArrayLike, kinds: str = "biuf") -> Array:
    """The array in float64, if it holds real numbers of these kinds."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: takes an array of numbers, got {value!r}") from error
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name}: takes real numbers, got {value!r} ({array.dtype})")
    return array.astype(np.float64)


def _within(name: str, value: ArrayLike, largest: float) -> Array:
    """The array in float64, if it holds numbers from 0 to the largest."""
    array = _real(name, value)
    wrong = array[~((array >= 0) & (array <= largest))]
    if wrong.size:
        takes = f"numbers in [0, {largest}]" if largest == 1 else "finite numbers >= 0"
        raise ValueError(f"{name}: takes {takes}, got {wrong[0]}")
    return array


def _label(y: ArrayLike) -> Array:
    """The array in float64, if it holds 0 and 1 alone."""
    array = _real("y", y)
    wrong = array[(array != 0) & (array != 1)]
    if wrong.size:
        raise ValueError(f"y: takes the labels 0 and 1, got {wrong[0]}")
    return array


def _times(a: Array, b: Array) -> Array:
    """a b, with 0 times infinity taken as 0."""
    return np.where((a == 0) & np.isinf(b), 0.0, a * b)


def _divisor(reduction: str, count: float) -> float:
    """What the reduction divides a sum by; a mean of nothing is NaN."""
    return (count or np.nan) if _checks.reduction(reduction) == "mean" else 1.0


def _reduce(loss: Array, reduction: str, divisor: float) -> Array:
    return loss if reduction == "none" else np.asarray(loss.sum() / divisor)


@_quiet
def _out(value: ArrayLike, like: ArrayLike) -> Array:
    """Round once, to the floating dtype of the argument if it has one; 0-d becomes a scalar."""
    dtype = np.asarray(like).dtype
    dtype = dtype if dtype in (np.float16, np.float32) else np.dtype(np.float64)
    return np.asarray(value, dtype=dtype)[()]
