"""The formulas: the loss of a margin, its derivatives, and the numbers that they are made of.

A class is ahead of the others by its margin z. Its probability is p = sigma(z); with q = 1 - p and
u = -log p the loss is f(z) = q^gamma u. None of p, q, u is made from another where that would lose
digits, and q^gamma is the square of a root, so that no product passes below the normal numbers on
the way to a normal one.

Arrays are NumPy's where xp is numpy, and tensors where it is torch; in float64, or in float32 on a
device that has nothing wider. They use only operations whose last digit does not depend on where an
element stands, or on how many threads there are: torch's pow and sigmoid are not among them.
"""

from collections.abc import Callable
from functools import reduce
from operator import mul
from typing import Any, NamedTuple

import numpy as np

from focal_lib import _parts as parts
from focal_lib import _xp

# Below it, e^-600 and e^-70, a number has no digits to spare for what is computed of it.
_SMALL = {8: 2.65e-261, 4: 3.98e-31}

# Up to this gamma a result of float32 has its digits if doubles are taken for it: see of_rows.
LARGE = 1e6


class Margin(NamedTuple):
    """Of a margin z: p = sigma(z), q = 1 - p, u = -log p, and root = q^(gamma/2).

    A large weight may make a normal number of a loss that is none. There q and u are over the drop,
    which is e^-z where z > 0, and root has its square root, a normal number, as a factor. The
    square root of p, too, is one where p is not.
    """

    p: Any
    q: Any
    u: Any
    root: Any
    drop: Any = 1.0
    root_p: Any = None  # if there are such p


def focal(xp: Any, order: int, margin: Margin, gamma: Any, weight: Any = None) -> Any:
    """The weight times the loss f(z) = q^gamma u, or its first, second or third derivative.

    f' = -q^gamma (q + gamma p u) and f'' = p q^gamma ((1 + 2 gamma) q - gamma (q - gamma p) u);
    the third is that of f'' by the product rule, with (q^gamma p)' = q^gamma p (q - gamma p). A
    weight of 0 times an infinite loss is 0.
    """
    p, q, u, root, drop, root_p = margin
    if order == 0:
        weighted = u if weight is None else _xp.times_zero(xp, weight, weight * u)
        return root * weighted * root
    some_u = xp.clip(u, None, 4000.0)  # where it is more, p is 0
    pull = gamma * p
    if order == 1:
        slope = q + pull * some_u
        slope = -slope if weight is None else -weight * slope
        return _xp.times_zero(xp, root, root * slope * root)
    near, far = p, 1.0
    if root_p is not None:
        is_small = p < _SMALL[p.dtype.itemsize]
        near, far = xp.where(is_small, root_p, p), xp.where(is_small, root_p, 1.0)
    bend, change = gamma * near, q * drop - pull
    bracket = near * q + bend * (2 * q - change * some_u)
    if order == 3:
        rest = bend * change - (near + 2 * bend) * p + (p + pull) * bend * some_u * drop
        bracket = change * bracket + q * rest
    bracket = bracket if weight is None else weight * bracket
    return _xp.times_zero(xp, root, root * bracket * far * root)


def of_logit(
    xp: Any, z: Any, gamma: Any, is_weighted: bool = False, is_single: bool = False
) -> Margin:
    """Of two classes, whose margin is the logit of the one. is_single: see of_rows."""

    def minus_log_q() -> tuple[Any, ...]:
        near = parts.log1p_parts(xp, *parts.exp_parts(xp, -xp.abs(z), 0.0))
        return xp.clip(z, 0.0, 1000.0), 0.0, *near  # further ahead, the loss is 0

    if is_weighted:
        odds, is_ahead = xp.exp(-xp.abs(z)), z > 0
        half, q = xp.exp(-xp.clip(z, 0.0, None) / 2), 1 / (1 + odds)
        p, u = xp.where(is_ahead, q, odds * q), xp.log1p(odds)
        u = xp.where(is_ahead, xp.where(odds < 1e-30, 1.0, u / odds), u - z)
        root = half * _root(xp, xp.sqrt(q) * half, gamma, minus_log_q, is_single, True)
        return Margin(p, q, u, root, half * half, xp.exp(xp.clip(z, None, 0.0) / 2))
    least = -600.0 if z.dtype.itemsize == 8 else -70.0  # below, e^-z has no digits to spare
    is_below = _xp.is_any_below(xp, z, least)
    odds = xp.exp(-(xp.clip(z, least, None) if is_below else z))
    p, q, u = 1 / (1 + odds), odds / (1 + odds), xp.log1p(odds)
    root_p = None
    if is_below and is_single:
        u = u + xp.clip(least - z, 0.0, None)
    elif is_below:
        below, root_p = z < least, xp.exp(xp.clip(z, None, 0.0) / 2)
        p, u = xp.where(below, root_p * root_p, p), xp.where(below, -z, u)
    root = _root(xp, q, gamma, minus_log_q, is_single, False)
    return Margin(p, q, u, root, root_p=root_p)


class Rows(NamedTuple):
    """Of each row of logits, with m the largest: where it is, x - m in two parts, and e^(x - m),
    with 0 in place of the 1 of m.
    """

    xp: Any
    top: Any
    shift: Any
    shift_left: Any
    power: Any
    is_single: bool

    @property
    def is_largest(self) -> Any:
        return _xp.is_at(self.xp, self.shift, self.top)

    @property
    def half(self) -> Any:
        """e^((x - m)/2), which is a normal number where its square may not be one."""
        half = self.xp.exp(self.shift / 2)
        return half + half * (self.shift_left / 2)

    def times(self, factor: Any, is_weighted: bool = False) -> Any:
        """The factor times e^(x - m), also where a large weight in it makes a normal number."""
        xp, least = self.xp, _SMALL[self.power.dtype.itemsize]
        result = self.power * factor
        if is_weighted and _xp.is_any_below(xp, self.power, least):
            half = self.half
            result = xp.where(self.power < least, half * factor * half, result)
        of_largest = _xp.take(xp, factor, None if factor.shape[-1] == 1 else self.top)
        return _xp.put(xp, result, self.top, of_largest)


def of_rows(xp: Any, x: Any, is_single: bool = False) -> Rows:
    """Along the last axis.

    The difference is exact, as a rounded one and what the rounding left (Knuth's two-sum): exp
    would make a relative error of an absolute one. What is_single, in float64 for a result of
    float32, has the digits to do without. The largest is 0 below itself, also at +inf; any other
    inf - inf is NaN, since there is no limit.
    """
    top, largest = _xp.largest(xp, x)
    shift, is_infinite = x - largest, xp.isinf(largest)
    if _xp.occurs(xp, is_infinite):
        shift = xp.where(_xp.is_at(xp, x, top) & is_infinite, 0.0, shift)
    power, none = xp.exp(shift), _xp.take(xp, shift, top)  # 0, or NaN
    if is_single:
        return Rows(xp, top, shift, xp.zeros_like(largest), _xp.put(xp, power, top, none), True)
    back = shift - x
    left = (x - (shift - back)) - (largest + back)
    left = _xp.zero_where(xp, ~xp.isfinite(left), left)
    return Rows(xp, top, shift, left, _xp.put(xp, power + power * left, top, none), False)


def of_classes(
    xp: Any, rows: Rows, index: Any, gamma: Any, is_weighted: bool = False
) -> tuple[Margin, Any, Any]:
    """The margins of some classes of each row, and (a, b) with which r_j = (a half_j)^2 / b is the
    softmax over the other classes. The index is that of the classes; None is all of them.

    The others of the largest are added up, not subtracted from the total: q keeps its digits.
    """
    _, top, shift, shift_left, power, is_single = rows
    own, below = (_xp.take(xp, v, index) for v in (power, shift))
    is_top = rows.is_largest if index is None else index == top
    rest = _xp.sum_of_rows(xp, power)
    p, q, u, others, total = of_sums(xp, own, rest, is_top, below)
    drop, scale, half, root_p = 1.0, 1.0, 1.0, None
    spares = is_single and not is_weighted  # a p that is small makes a result that is 0
    if not spares and _xp.is_any_below(xp, p, _SMALL[power.dtype.itemsize]):
        below_left = shift_left if is_single else _xp.take(xp, shift_left, index)
        root_p = xp.exp(below / 2) * (1 + below_left / 2) / xp.sqrt(total)
    beyond = is_top & (rest < _SMALL[power.dtype.itemsize])
    if is_weighted and _xp.occurs(xp, beyond):
        least = -1400.0 if power.dtype.itemsize == 8 else -170.0  # e^(least / 2) is normal
        second = xp.amax(_xp.put(xp, shift + 0, top, -xp.inf), axis=-1, keepdims=True)
        second = xp.clip(second, least, None)
        over = _xp.put(xp, rows.half * xp.exp(-second / 2), top, 0.0) ** 2
        over, second = _xp.sum_of_rows(xp, over), xp.where(beyond, second, 0.0)
        half, scale = xp.exp(second / 2), xp.exp(-second / 2)
        others, drop = xp.where(beyond, over, others), half * half
        q, u = others / total, xp.where(beyond, over, u)

    def minus_log_q() -> tuple[Any, ...]:
        """log(total / others), with the digits that a large gamma needs."""
        each, each_left = parts.exp_parts(xp, shift, shift_left)
        each, each_left = (_xp.put(xp, v, top, 0.0) for v in (each, each_left))
        own, own_left = (_xp.take(xp, v, index) for v in (each, each_left))
        own = xp.where(is_top, 1.0, own)
        rest, left = parts.sum_parts(xp, each, each_left)
        less, less_left = parts.two_sum(rest, -own)
        others, others_left = parts.two_sum(1 + 0 * less, less)
        others_left = others_left + (less_left + (left - own_left))
        others = xp.where(is_top, rest, others)
        others_left = xp.where(is_top, left, others_left)
        is_ahead = is_top & (others < 1)
        log, log_left = parts.log_parts(xp, xp.where(is_ahead, others, 1.0), others_left)
        ratio, ratio_left = parts.quotient(own, own_left, others, others_left)
        odds = xp.where(is_ahead, others, ratio), xp.where(is_ahead, others_left, ratio_left)
        far = xp.where(is_ahead, -log, 0.0), xp.where(is_ahead, -log_left, 0.0)
        return *far, *parts.log1p_parts(xp, *odds)

    base = xp.sqrt(q) * half if is_weighted else q
    root = half * _root(xp, base, gamma, minus_log_q, is_single, is_weighted)
    least = float(xp.finfo(others.dtype).tiny)
    return Margin(p, q, u, root, drop, root_p), scale, xp.clip(others, least, None)  # 0 / 0 is 0


def of_sums(xp: Any, own: Any, rest: Any, is_top: Any, below: Any) -> tuple[Any, ...]:
    """p, q, u, the sum of the others and that of all, of e^(x - m) of a class, of their sum without
    the largest, and of x - m of the class.
    """
    own = xp.where(is_top, 1.0, own)
    others = xp.where(is_top, rest, 1 + (rest - own))
    total = own + others
    return own / total, others / total, xp.log1p(rest) - below, others, total


def gradient_of_rows(
    rows: Rows, index: Any, slope: Any, others: Any, scale: Any, is_weighted: bool = False
) -> Any:
    """By each logit, of losses of the classes' margins z_c with these slopes: the gradient of z_c
    is the unit vector of c less the softmax over the others. See of_classes.
    """
    xp, pull = rows.xp, -slope / others * scale * scale
    if index is None:
        return rows.times(sum_of_others(xp, pull), is_weighted) + slope
    return _xp.put(xp, rows.times(pull, is_weighted), index, slope)


def sum_of_others(xp: Any, v: Any) -> Any:
    """For each entry the sum of the others along the last axis.

    Without the largest it is added up, not subtracted from the total: that keeps the digits of
    1 - p where p is nearly 1.
    """
    top, largest = _xp.largest(xp, v, abs(v))
    rest = _xp.sum_of_rows(xp, _xp.put(xp, v + 0, top, 0.0))
    return xp.where(_xp.is_at(xp, v, top), rest, largest + (rest - v))


# --- q^(gamma/2) ----------------------------------------------------------------------------------


def _root(
    xp: Any,
    base: Any,
    gamma: Any,
    minus_log_q: Callable[[], tuple[Any, ...]],
    is_single: bool,
    is_sqrt: bool,
) -> Any:
    """q^(gamma/2), the base being q or, if is_sqrt, its square root."""
    is_number = isinstance(gamma, float | int)  # else an array, which is not to be looked at
    if is_number and gamma <= (LARGE if is_single else 5):
        return power(xp, base, gamma if is_sqrt else gamma / 2, is_single)
    return parts.decay(xp, gamma / 2, *minus_log_q())


def power(xp: Any, q: Any, half: float, is_single: bool) -> Any:
    """q^half, for q <= 1: a relative error of q is multiplied by half. is_single: see of_rows."""
    for n in range(11) if _xp.is_known(xp, half) else ():
        if 4 * half == n:
            factors = [q] * (n // 4)
            if n % 4:
                root = xp.sqrt(q)
                factors += [root] * (n % 4 // 2) + ([xp.sqrt(root)] if n % 2 else [])
            return reduce(mul, factors) if factors else 1 + 0 * q
    if xp is np and not is_single:
        return q**half
    q = xp.clip(q, float(xp.finfo(q.dtype).tiny), None)
    if is_single:
        return xp.exp(half * xp.log(q))
    n = xp.round(xp.log2(q))
    top, low = parts.split(xp, half, q)
    whole = xp.round(top * n)
    m = q * xp.exp2(-n)
    fraction = (top * n - whole + low * n) * 0.6931471805599453
    return xp.exp2(whole) * xp.exp(fraction + half * xp.log(m))
