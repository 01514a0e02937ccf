"""From a focal-trained score to a probability and back: estimation of the class posterior.

The score that minimises the expected focal loss is not the posterior eta but, for gamma > 0, an
increasing function of it, and a weight shifts it; both can be undone. The arguments repeat those of
the losses, so the settings of the training can be copied. Dtypes are as in `focal_lib.numpy`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from focal_lib import _checks
from focal_lib._arrays import Array, array, quiet, rounded, times, within


@quiet
def sigmoid_posterior(
    inputs: ArrayLike, *, alpha: float | None, gamma: float = 2.0, from_logits: bool = True
) -> Array:
    """The probability of class 1 under which a score minimises the expected binary focal loss.

    With p = sigma(x) and a(x) = -p log(p) / (1 - p)::

        logit eta = (gamma + 1) x + log (1 + gamma a(-x)) / (1 + gamma a(x)) - log alpha/(1 - alpha)

    Args:
        inputs: scores of any shape: logits x, or probabilities p if not ``from_logits``.
        alpha: the loss's, in (0, 1); None, or exactly -1, is no weight. With 0 or 1 one class had
            no weight, which cannot be undone.
        gamma: the loss's, finite, >= 0.
        from_logits: True takes x and returns logit eta, also of +-inf; False takes p, returns eta.

    The logit is exact to 1e-15 of the largest of 1, itself and the logit of alpha (measured for
    gamma up to 1e6; without alpha, of itself). Prefer it: probabilities near 0 and 1 lose it. For
    gamma = 2, eta is within 1e-16 of 1 where p is within 3e-6. Raises TypeError or ValueError,
    naming the argument. Source: Charoenphakdee et al. 2021, theorem 11, for the loss of Lin et al.
    2017, equation 5.

    >>> sigmoid_posterior([0.6266, 0.6942, 0.8464], alpha=None, from_logits=False).round(3)
    array([0.8 , 0.9 , 0.99])
    """
    shift, exponent = _log_odds(alpha), _checks.nonnegative("gamma", gamma)
    logit = _steepen(_logits("inputs", inputs, from_logits), exponent)[0] - shift
    return rounded(logit if from_logits else _of_margin(logit)[0], inputs)


@quiet
def sigmoid_score(
    posterior: ArrayLike, *, alpha: float | None, gamma: float = 2.0, from_logits: bool = True
) -> Array:
    """The score that minimises the expected binary focal loss: the inverse of `sigmoid_posterior`.

    At it the gradient of the loss for the soft target eta vanishes.

    ``posterior``, of any shape, is logit eta, and the result x; or eta, and the result p, if not
    ``from_logits``. The other arguments, the exactness, errors and source are those of
    `sigmoid_posterior`. Focal loss scores a probability nearer to 1/2 than it is:

    >>> sigmoid_score([0.8, 0.9, 0.99], alpha=None, from_logits=False).round(4)
    array([0.6266, 0.6942, 0.8464])
    """
    shift, exponent = _log_odds(alpha), _checks.nonnegative("gamma", gamma)
    logit = _logits("posterior", posterior, from_logits) + shift
    size = np.abs(logit)
    low, high = size / (exponent + 1), (size + np.log1p(exponent)) / (exponent + 1)
    start = np.minimum(size / _steepen(np.zeros(()), exponent)[1], high)

    def miss(x: Array) -> tuple[Array, Array]:
        value, slope = _steepen(x, exponent)
        return value - size, slope

    x = np.copysign(_root(miss, low, high, start), logit)
    return rounded(x if from_logits else _of_margin(x)[0], posterior)


@quiet
def softmax_posterior(
    input: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    from_logits: bool = True,
) -> Array:
    """The class probabilities under which a score minimises the expected softmax focal loss.

    With p = softmax(x) and phi(p) = (1 - p)^gamma - gamma p (1 - p)^(gamma - 1) log p::

        eta_c = (p_c / (w_c phi(p_c))) / sum_j (p_j / (w_j phi(p_j)))

    Args:
        input: scores, (C,), (N, C) or (N, C, d1, ...): logits x, or probabilities p if not
            ``from_logits``, whose sum is 1 within 1e-6 or, if larger, 64 eps of their dtype.
        weight: the loss's w, finite and > 0, (C,); 1 if not given.
        gamma: the loss's, finite, >= 0.
        from_logits: True takes x and returns log eta, in the shape of x; an infinite logit gives
            the limit, or NaN where there is none (two at +inf, or all at -inf). False takes p and
            returns eta.

    log eta is exact to 3e-15 of itself or, if larger, of 1 (measured for gamma up to 1e6). It moves
    up to gamma + 1 times as far as log p does: that is what the rounding of a score costs. Raises
    TypeError or ValueError, naming the argument. Source: Charoenphakdee et al. 2021, theorem 11.

    >>> p = np.full(20, (1 - 0.1433) / 19)
    >>> p[0] = 0.1433
    >>> print(softmax_posterior(p, from_logits=False)[:2].round(4))
    [0.14   0.0453]
    """
    x, log_w, axis, exponent = _classes("input", input, weight, gamma, from_logits)
    top, below, rest = _rank(x)
    u = below + np.logaddexp(0, rest)  # -log p
    # 1 - p is the sum of the others for the largest, and at least 1/2 for all but that.
    log_q_top = -np.logaddexp(0, -rest)
    log_q = np.where(top, log_q_top, np.log1p(-np.exp(-u)))
    a = _of_margin(-u - log_q)[3]
    # log(q_top / q), which gamma multiplies; where it is small, from the difference of the two.
    relative = np.expm1(-below) * np.exp(-np.logaddexp(0, rest) - log_q)
    fall = np.where(relative > -0.5, np.log1p(relative), log_q_top - log_q)
    fall = times(np.asarray(exponent), np.where(top, 0, fall))
    _, below, rest = _rank(fall - below - np.log1p(exponent * a) - log_w)
    log_eta = np.moveaxis(0 - (below + np.logaddexp(0, rest)), -1, axis)
    return rounded(log_eta if from_logits else np.exp(log_eta), input)


@quiet
def softmax_score(
    posterior: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    from_logits: bool = True,
) -> Array:
    """The score that minimises the expected softmax focal loss: the inverse of `softmax_posterior`.

    At it the gradient of the loss for the soft target eta vanishes.

    ``posterior``, (C,), (N, C) or (N, C, d1, ...), is log eta up to a constant, and the result
    log p; or eta, and the result p, if not ``from_logits``. The other arguments, the exactness,
    errors and source are those of `softmax_posterior`. With many classes the score of the likeliest
    can exceed its probability:

    >>> print(softmax_score([0.14] + 19 * [0.86 / 19], from_logits=False)[:2].round(4))
    [0.1433 0.0451]
    """
    x, log_w, axis, exponent = _classes("posterior", posterior, weight, gamma, from_logits)
    z = _margins_of_levels(log_w - _rank(x)[1], exponent)
    p, u, *_ = _of_margin(np.moveaxis(z, -1, axis))
    return rounded(0 - u if from_logits else p, posterior)


# --- The maps, of margins z = log(p / q), q = 1 - p -----------------------------------------------


def _of_margin(z: Array) -> tuple[Array, Array, Array, Array]:
    """p, -log p, -log q and a = -p log(p) / q, which rises from 0 to 1 with the slope a - p."""
    e = np.exp(-np.abs(z))
    tail = np.log1p(e)
    u = tail + np.maximum(-z, 0)
    a = np.where(z < 0, times(e, u), np.where(e == 0, 1, tail / e))
    return np.where(z < 0, e, 1) / (1 + e), u, tail + np.maximum(z, 0), a


def _steepen(x: Array, gamma: float) -> tuple[Array, Array]:
    """The logit of the posterior of a score, for two classes without weights, and its slope."""
    size = np.abs(x)
    (p, _, _, a), (q, _, _, b) = _of_margin(size), _of_margin(-size)
    fall = times(np.exp(-size), size) + np.expm1(-2 * size) * a  # b - a
    relative = gamma * fall / (1 + gamma * a)
    bend = np.log1p(gamma * b) - np.log1p(gamma * a)  # good where the two are far apart
    value = (gamma + 1) * size + np.where(relative > -0.5, np.log1p(relative), bend)
    slope = gamma + 1 - gamma * ((a - p) / (1 + gamma * a) + (b - q) / (1 + gamma * b))
    return np.copysign(value, x), slope


def _level(z: Array, gamma: float) -> tuple[Array, Array]:
    """log(p / phi(p)), and its slope."""
    p, u, v, a = _of_margin(z)
    slope = 1 - p + gamma * (p - (a - p) / (1 + gamma * a))
    return gamma * v - u - np.log1p(gamma * a), slope


def _margins_of_levels(b: Array, gamma: float) -> Array:
    """The margins at which log(p / phi(p)) is b up to a constant, and the sum of p is 1.

    The unknown is s, the margin of the class of the largest b; it gives those of the others. What
    vanishes, increasing with s, is the log of the sum of the others' p less the log of q of s.
    """
    top, below, rest = _rank(b)
    bend = (gamma - 1) * np.log(2)
    z = slope = np.full_like(b, np.inf if gamma > 1 else -np.inf)  # Newton's safe side, clipped

    def excess(s: Array) -> tuple[Array, Array]:
        nonlocal z, slope
        level, rise = _level(s, gamma)
        target = level - below

        def miss(z: Array) -> tuple[Array, Array]:
            value, slope = _level(z, gamma)
            return value - target, slope

        # The level lies this near to z where z < 0, and to gamma z elsewhere.
        low, high = target - max(0, bend), target - min(0, bend) + np.log1p(gamma)
        low, high = (np.where(v > 0, v / gamma, v) for v in (low, high))
        low, high = np.where(top, s, low), np.minimum(s, high)
        z = _root(miss, low, high, np.clip(z, low, high))
        slope = rise / _level(z, gamma)[1]  # of z in s
        _, u, v, _ = _of_margin(z)
        u = np.where(top, np.inf, u)
        least = u.min(axis=-1, keepdims=True)
        share = np.exp(least - u)
        total = share.sum(axis=-1, keepdims=True)
        p, _, v_top, _ = _of_margin(s)
        change = np.where(top, 0, share / total * np.exp(-v) * slope)
        return np.log(total) - least + v_top, p + change.sum(axis=-1, keepdims=True)

    low = np.full_like(rest, -np.log(b.shape[-1] - 1))  # the largest p is at least 1/C
    high = np.maximum(0, np.log(2) + (np.log1p(gamma) - rest) / (gamma + 1))
    s = _root(excess, low, high, np.where(rest < 0, -rest / (gamma + 1), -rest))
    value, change = excess(s)
    z = np.where(top, s, z - value / change * slope)  # one more step, for what the ulp of s hides
    return np.where(np.isinf(below), -below, z)


def _root(
    function: Callable[[Array], tuple[Array, Array]], low: Array, high: Array, x: Array
) -> Array:
    """The root of an increasing function, elementwise: Newton's method, from x.

    Where it leaves the bracket (made wider, for rounding) or its steps do not halve, bisection. The
    last step is below 1e-9, and what it leaves is of the order of its square.
    """
    low, high = (v + w * np.clip(np.abs(v), 1, 1e300) for v, w in ((low, -1e-6), (high, 1e-6)))
    last = np.full_like(x, np.inf)
    for _ in range(2000):
        value, slope = function(x)
        low, high = np.where(value < 0, x, low), np.where(value > 0, x, high)
        small, new = 1e-9 * np.maximum(1, np.abs(x)), x - value / slope
        good = (low <= new) & (new <= high) & (np.abs(new - x) <= np.maximum(last / 2, small))
        new = np.where(good, new, low / 2 + high / 2)
        last, x = np.abs(new - x), new
        if not (last > small).any():
            break
    return x


def _rank(x: Array) -> tuple[Array, Array, Array]:
    """Which is the largest of the last axis, how far below it each is, and minus its margin."""
    top = np.arange(x.shape[-1]) == x.argmax(axis=-1, keepdims=True)
    # The largest is 0 below itself, also at +inf; inf - inf is left NaN, as there is no limit.
    below = np.where(top & ~np.isnan(x), 0, x.max(axis=-1, keepdims=True) - x)
    second = np.where(top, np.inf, below).min(axis=-1, keepdims=True)
    second = np.where(np.isinf(second), 0, second)
    others = np.where(top, 0, np.exp(second - below)).sum(axis=-1, keepdims=True)
    return top, below, np.log(others) - second


# --- Arguments ------------------------------------------------------------------------------------


def _log_odds(alpha: float | None) -> float:
    weight = _checks.alpha(alpha)
    if weight is None:
        return 0.0
    if weight in (0, 1):
        raise ValueError(f"alpha: takes None, -1 or a number in (0, 1), to be undone, got {alpha}")
    return float(np.log(weight) - np.log1p(-weight))


def _numbers(name: str, value: ArrayLike, from_logits: bool) -> Array:
    if not isinstance(from_logits, bool | np.bool_):
        raise TypeError(f"from_logits: takes True or False, got {from_logits!r}")
    return array(name, value).astype(np.float64) if from_logits else within(name, value, 1)


def _logits(name: str, value: ArrayLike, from_logits: bool) -> Array:
    x = _numbers(name, value, from_logits)
    return x if from_logits else np.asarray(np.log(x) - np.log1p(-x))


def _classes(
    name: str, value: ArrayLike, weight: ArrayLike | None, gamma: float, from_logits: bool
) -> tuple[Array, Array, int, float]:
    """Check the arguments; return logits with the classes last, log w, the axis and gamma."""
    x = _numbers(name, value, from_logits)
    if x.ndim == 0 or x.shape[min(x.ndim - 1, 1)] == 0:
        takes = "the shape (C,), (N, C) or (N, C, d1, ...) with C >= 1"
        raise ValueError(f"{name}: takes {takes}, got {x.shape}")
    axis = _checks.class_axis(x.shape)
    x = np.moveaxis(x, axis, -1)
    w = np.ones(x.shape[-1]) if weight is None else array("weight", weight).astype(np.float64)
    if w.shape != x.shape[-1:]:
        raise ValueError(f"weight: takes the shape {x.shape[-1:]}, got {w.shape}")
    wrong = w[~((w > 0) & np.isfinite(w))]
    if wrong.size:
        raise ValueError(f"weight: takes finite numbers > 0, to be undone, got {wrong[0]}")
    if not from_logits:
        dtype, total = np.asarray(value).dtype, x.sum(axis=-1)
        slack = max(1e-6, 64 * np.finfo(dtype).eps) if dtype.kind == "f" else 1e-6
        wrong = total[np.abs(total - 1) > slack]
        if wrong.size:
            raise ValueError(f"{name}: takes probabilities of the sum 1, got the sum {wrong[0]}")
        x = np.log(x)
    return x, np.log(w), axis, _checks.nonnegative("gamma", gamma)
