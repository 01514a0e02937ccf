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
from numpy.typing import ArrayLike

from focal_lib import _checks, _margins
from focal_lib._arrays import (
    LARGEST,
    Array,
    array,
    check,
    in_range,
    labels,
    product,
    quiet,
    rounded,
    times,
    within,
)  # fmt: skip

Shape = tuple[int, ...]

# --- The definitions, in p_t ----------------------------------------------------------------------


def target_probability(p: ArrayLike, y: ArrayLike) -> Array:
    """The probability of the label that came out: p_t = p if y = 1, 1 - p if y = 0.

    ``p`` in [0, 1] and ``y`` in {0, 1} broadcast. Source: Lin et al. 2017, equation 2; the book's
    eq-p-t.

    >>> target_probability(0.25, [1, 0])
    array([0.25, 0.75])
    """
    probability, label = within("p", p, 1), labels(y)
    return rounded(np.where(label == 1, probability, 1 - probability), p)


def target_weight(alpha: float | None, y: ArrayLike) -> Array:
    """The weight of the label that came out: alpha_t = alpha if y = 1, 1 - alpha if y = 0.

    ``alpha`` in [0, 1], or None: the weight 1 for both; ``y`` in {0, 1}, of any shape. Source: Lin
    et al. 2017, section 3.1; the book's eq-alpha-t.

    >>> target_weight(0.25, [1, 0])
    array([0.25, 0.75])
    """
    positive, negative = _checks.class_weights(alpha)
    return rounded(np.where(labels(y) == 1, positive, negative), positive)


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
    return rounded((1 - within("p_t", p_t, 1)) ** exponent, p_t)


@quiet
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
    probability, weight = within("p_t", p_t, 1), within("alpha_t", alpha_t, LARGEST)
    loss = (1 - probability) ** exponent * (0 - np.log(probability))  # 0 -: no negative zero
    return rounded(times(weight, loss), p_t)


# --- Two classes, in logits -----------------------------------------------------------------------


def sigmoid_focal_loss(
    inputs: ArrayLike,
    targets: ArrayLike,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
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
        reduction: "none" for the shape of ``inputs``, "sum", or "mean" over all elements that are
            kept (NaN where there are none). The paper divides the sum by the number of positives:
            ``reduction="sum"``, over ``max(1, (targets == 1).sum())``.
        weight: a factor on each loss, for many labels that of each class: finite, >= 0, of a shape
            that broadcasts to that of ``inputs``.
        pos_weight: the same, on the loss of y = 1 alone. alpha is the pos_weight
            alpha / (1 - alpha), with both weights times 1 - alpha; so beside it alpha is None.
        ignore_index: the target, an integer but 0 and 1, of elements that cost nothing and are not
            counted; None is none. It is the mark that `softmax_focal_loss` has, too; a mask gives
            it by ``np.where(mask, targets, -1)``.

    Source: Lin et al. 2017, equation 5; the book's eq-focal-alpha and eq-softplus. The names, their
    order and the defaults are those of torchvision.ops.sigmoid_focal_loss, and then those of
    torch.nn.functional.binary_cross_entropy_with_logits.

    In principle this is ``focal_loss(target_probability(p, y), ...)`` with p = sigma(x), but it
    keeps its digits where that p_t rounds to 1:

    >>> x = np.array([-20.0, -40.0])
    >>> p = 1 / (1 + np.exp(-x))
    >>> print(focal_loss(target_probability(p, 0), 2.0))
    [8.75651025e-27 0.00000000e+00]
    >>> print(sigmoid_focal_loss(x, [0, 0], alpha=None, gamma=2.0))
    [8.75651072e-27 7.66764807e-53]
    """
    return _of_logits(0, inputs, targets, alpha, gamma, reduction, weight, pos_weight, ignore_index)


def sigmoid_focal_loss_gradient(
    inputs: ArrayLike,
    targets: ArrayLike,
    *,
    alpha: float | None,
    gamma: float = 2.0,
    reduction: str = "none",
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
) -> Array:
    """The gradient of `sigmoid_focal_loss` with respect to ``inputs``, in their shape.

    With p = p_t and s, q, u as there::

        dFL/dx = -s alpha_t q^gamma (q + gamma p u)

    The arguments are those of `sigmoid_focal_loss`, with alpha by name. "none" gives each element's
    own derivative, which is also the gradient of the sum; "mean" divides it by what the mean
    divides by. Source: Lin et al. 2017, appendix B; the book's eq-focal-gradient.

    By the chain rule, -gamma q^(gamma - 1) is a factor of the gradient, and for gamma < 1 it is
    infinite where q has rounded to 0: infinity times 0. Here it does not occur:

    >>> print(sigmoid_focal_loss_gradient([0.0, 40.0, 800.0], 1, alpha=None, gamma=0.5))
    [-4.76085659e-01 -1.31347661e-26  0.00000000e+00]
    """
    return _of_logits(1, inputs, targets, alpha, gamma, reduction, weight, pos_weight, ignore_index)


def sigmoid_focal_loss_hessian(
    inputs: ArrayLike,
    targets: ArrayLike,
    *,
    alpha: float | None,
    gamma: float = 2.0,
    reduction: str = "none",
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
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
    return _of_logits(2, inputs, targets, alpha, gamma, reduction, weight, pos_weight, ignore_index)


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
        ignore_index: the class index of items that cost nothing and are not counted. Among class
            probabilities, those of such an item are all this number, which is then not 0 or 1.
        reduction: "none" for the shape of ``input`` without C, "sum", or "mean". Of the items that
            are kept, the mean divides the sum by the total of w_t where ``target`` has class
            indices, and by their number where it has class probabilities; it is NaN where that
            is 0.
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


# --- Arguments, chunks and results ----------------------------------------------------------------

# The numbers in a chunk of items (four for an item of fewer): arrays of up to 224 KB stay in the
# cache, and malloc has them at hand.
_CHUNK = 28672


@quiet
def _of_logits(
    order: int,
    x: ArrayLike,
    y: ArrayLike,
    alpha: float | None,
    gamma: float,
    reduction: str,
    weight: ArrayLike | None,
    pos_weight: ArrayLike | None,
    ignore_index: int | None,
) -> Array:
    """Check the arguments; return the loss of two classes or a derivative of it."""
    inputs, targets = array("inputs", x), array("targets", y, "biuf")
    if targets.shape not in (inputs.shape, ()):
        raise ValueError(f"targets: takes the shape of inputs, {inputs.shape}, got {targets.shape}")
    if_one, if_zero = _checks.class_weights(alpha, pos_weight is not None)
    if_zero, is_single = (-1) ** order * if_zero, inputs.dtype in (np.float32, np.float16)
    exponent, ignored = _checks.nonnegative("gamma", gamma), _checks.ignored_label(ignore_index)
    kept = np.asarray(True if ignored is None else targets != ignored)
    in_range("targets", targets if kept.all() else targets[kept], 1)
    count = int(np.count_nonzero(kept)) if kept.shape else inputs.size * bool(kept)
    divisor = _divisor(reduction, count)
    is_weighted = weight is not None or pos_weight is not None
    w, pos = _factors("weight", weight, inputs), _factors("pos_weight", pos_weight, inputs)
    logits = inputs.reshape(-1)
    labels, is_kept = (np.broadcast_to(v.reshape(-1), inputs.size) for v in (targets, kept))

    def form(z: Array, factor: Array) -> Array:
        margin = _margins.of_logit(np, z, exponent, is_weighted, is_single)
        return np.asarray(_margins.focal(np, order, margin, exponent, factor))

    def expectation(part: slice, share: float) -> Array:
        x, y = logits[part].astype(np.float64), labels[part]
        if ignored is not None:
            y = y * is_kept[part]
        is_one = y == 1
        is_hard = (is_one | (y == 0)).all()  # so that only the margin z = s x counts
        if is_hard and not is_weighted:
            factors = np.array([if_zero, if_one]) * share
            value = form(x * (2.0 * is_one - 1), factors.take(is_one))
        else:
            y = y.astype(np.float64)
            one, zero = if_one * share * y, if_zero * share * (1 - y)
            if is_weighted:
                one, zero = product(if_one * share, w[part], pos[part], y), zero * w[part]
            value = form(x * (2 * y - 1), one + zero) if is_hard else form(x, one) + form(-x, zero)
        return value if ignored is None else np.where(is_kept[part], value, 0.0)

    is_each = order > 0 or reduction == "none"
    return _by_chunks(expectation, inputs, inputs.shape, (), divisor, is_each)


@quiet
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
    x, y = array("input", input), array("target", target)
    axis, ignored = _checks.class_axis(x.shape), _checks.ignore_index(ignore_index)
    exponent = _checks.nonnegative("gamma", gamma)
    smoothing = _checks.fraction("label_smoothing", label_smoothing)
    *items, classes = np.moveaxis(x, axis, -1).shape
    rows, every = np.moveaxis(x, axis, -1).reshape(-1, classes), np.arange(classes)
    w = np.ones(classes) if weight is None else within("weight", weight, LARGEST)
    if w.shape != (classes,):
        raise ValueError(f"weight: takes the shape ({classes},), got {w.shape}")
    if _checks.has_probabilities(x.shape, y.shape, y.dtype.kind == "f", ignored):
        labels = np.moveaxis(y, axis, -1).reshape(-1, classes)
        kept = ~(labels == ignored).all(axis=1)
        in_range("target", labels if kept.all() else labels[kept], 1)
        divisor = _divisor(reduction, int(np.count_nonzero(kept)))
    else:
        takes = f"class indices from 0 to {classes - 1}, or ignore_index ({ignored})"
        check("target", y, (y == ignored) | ((y >= 0) & (y < classes)), takes)
        kept = y.reshape(-1) != ignored
        labels = np.where(kept, y.reshape(-1), 0)[:, None]
        if reduction == "mean" and weight is not None and kept.any():
            # A mean does not depend on the unit of weights; in that of the largest none is rounded.
            w = np.asarray(np.ldexp(w, -np.frexp(w[labels[kept]].max())[1]))
        divisor = _divisor(reduction, float(w[labels[kept]].sum()))
    is_soft = labels.shape[1] > 1 or y.dtype.kind == "f"
    is_weighted, is_single = weight is not None, x.dtype in (np.float32, np.float16)

    def results(part: slice, share: float) -> Array:
        y = labels[part]
        index: Array | None = y
        if is_soft or smoothing:
            y = y.astype(np.float64) if is_soft else y == every
            index, factor = None, w * ((1 - smoothing) * y + smoothing / classes)
        else:
            factor = w[y]
        of_rows = _margins.of_rows(np, rows[part].astype(np.float64, order="C"), is_single)
        result = _row_form(order, of_rows, index, factor * share, exponent, is_weighted)
        result[~kept[part]] = 0
        return result

    is_each = order > 0 or reduction == "none"
    return _by_chunks(results, x, tuple(items), order * (classes,), divisor, is_each)


def _row_form(
    order: int,
    rows: _margins.Rows,
    index: Array | None,
    factor: Array,
    gamma: float,
    is_weighted: bool,
) -> Array:
    """For each row of logits sum_c a_c f(z_c), a the factor; or a derivative of it.

    The classes c are those of the index, or all. z_c = log(p_c / (1 - p_c)) has the gradient
    e_c - r_c, with e_c the unit vector and r_c the softmax over the other classes, 0 at c; and the
    Hessian r_c r_c^T - diag r_c.
    """
    margin, scale, others = _margins.of_classes(np, rows, index, gamma, is_weighted)
    if order == 0:
        return np.asarray(_margins.focal(np, 0, margin, gamma, factor).sum(axis=1))
    slope, classes = _margins.focal(np, 1, margin, gamma, factor), np.arange(rows.shift.shape[1])
    if order == 1:
        return np.asarray(_margins.gradient_of_rows(rows, index, slope, others, scale, is_weighted))
    unit = classes[:, None] == classes if index is None else index[:, :, None] == classes
    scale = np.broadcast_to(scale, others.shape)
    half = np.where(unit, 0.0, rows.half[:, None, :] * scale[:, :, None])

    def spread(a: Array) -> Array:  # a r
        return np.asarray(half * (a / others)[:, :, None] * half)

    bend = _margins.focal(np, 2, margin, gamma, factor)
    hessian = np.swapaxes(spread(bend + slope), 1, 2) @ spread(np.ones(()))
    # Symmetric; of each two the one whose last factor, without a weight, is the larger.
    is_first = rows.shift[:, :, None] <= rows.shift[:, None, :]
    hessian = np.where(is_first, hessian, np.swapaxes(hessian, 1, 2))
    cross = np.swapaxes(unit, -1, -2) @ spread(bend)
    hessian -= cross + np.swapaxes(cross, 1, 2)
    # r - r^2 would lose its digits where r is nearly 1, but rows add up to 0. (NaN times 0 is NaN.)
    hessian[:, classes, classes] *= 0
    hessian[:, classes, classes] = -hessian.sum(axis=2)
    return np.asarray(hessian)


def _factors(name: str, value: ArrayLike | None, like: Array) -> Any:
    """Weights that broadcast to the array, to be sliced as the flat array is; 1 if not given."""
    factors = np.ones(()) if value is None else within(name, value, LARGEST)
    if not _checks.broadcasts(factors.shape, like.shape):
        takes = f"a shape that broadcasts to {like.shape}"
        raise ValueError(f"{name}: takes {takes}, got {factors.shape}")
    is_whole = factors.shape == like.shape
    return factors.reshape(-1) if is_whole else np.broadcast_to(factors, like.shape).flat


def _by_chunks(
    form: Callable[[slice, float], Array],
    x: Array,
    items: Shape,
    tail: Shape,
    divisor: float,
    is_each: bool,
) -> Array:
    """The form of all items, with a share as factor: in one array, or the sum over the divisor."""
    count = math.prod(items)
    step = max(1, _CHUNK // max(4, x.size // max(1, count), math.prod(tail)))
    parts = [slice(i, i + step) for i in range(0, count, step)]
    if not is_each:
        mean = sum(float(form(part, 1.0).sum()) for part in parts) / divisor
        if np.isinf(mean):  # of finite losses the mean may be finite, although the sum is not
            mean = sum(float(form(part, 2.0**-64).sum()) for part in parts) / divisor * 2.0**64
        return rounded(mean, x)
    out = np.empty((count, *tail), rounded(0, x).dtype)
    for part in parts:
        out[part] = form(part, 1 / divisor) + 0.0  # no negative zeros
    return out.reshape(items + tail)[()]


def _divisor(reduction: str, count: float) -> float:
    """What the reduction divides a sum by; a mean of nothing is NaN."""
    return (count or np.nan) if _checks.reduction(reduction) == "mean" else 1.0
