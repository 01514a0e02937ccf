"""Numbers in two parts: what rounding leaves of a result is kept beside it.

`focal_lib._margins` needs them where a large gamma multiplies the rounding of log q. Arrays are
NumPy's or torch's, as there.
"""

import math
from typing import Any

# log 2 in three parts, the first with so few digits that 2^11 (2^8) times it is exact
_LOG2 = {
    8: (0.6931471803691238, 1.9082149292705877e-10, -1.161222722936225e-26),
    4: (0.693145751953125, 1.4286067653e-06, 5.497923e-14),
}
_EXP = [1 / math.factorial(n) for n in range(3, 15)]  # of e^r less 1 + r + r^2 / 2
_ATANH = [2 / n for n in range(3, 25, 2)]  # of 2 atanh s = log((1 + s) / (1 - s)) less 2 s


def decay(xp: Any, half: Any, far: Any, far_left: Any, near: Any, near_left: Any) -> Any:
    """e^(-half v), for v = far + near, each in two parts.

    An error of the exponent is a relative error of the result, so it is made in two parts.
    """
    top, low = split(xp, half, near)

    def product(v: Any) -> tuple[Any, Any]:
        half_of_v = leading(v)
        return top * half_of_v, top * (v - half_of_v) + low * v

    (a, a_left), (b, b_left) = product(far), product(near)
    exponent, left = two_sum(a, b)
    exponent, left = two_sum(exponent, left + (a_left + b_left) + half * (far_left + near_left))
    is_zero = ~(exponent < 2000.0) & (exponent == exponent)
    result = xp.exp(-xp.where(is_zero, 2000.0, exponent)) * (1 - xp.where(is_zero, 0.0, left))
    # inf - inf is NaN above, of an exponent that is not
    return xp.where((near == near) & (far == far) & ~(result == result), 0.0, result)


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """a + b, and what rounding left (Knuth)."""
    total = a + b
    shift = total - a
    return total, (a - (total - shift)) + (b - shift)


def leading(v: Any) -> Any:
    """The leading half of the digits (Dekker): a product of two such numbers is exact."""
    shifted = v * (2.0**27 + 1 if v.dtype.itemsize == 8 else 2.0**12 + 1)
    return shifted - (shifted - v)


def split(xp: Any, number: Any, like: Any) -> tuple[Any, Any]:
    """A number as its leading half of the digits of such arrays, and the rest."""
    is_number = isinstance(number, float | int)
    number = min(number, 1e300) if is_number else xp.clip(number, None, 1e300)
    if like.dtype.itemsize == 8:  # as an array: of a number a compiler would undo what follows
        number = number + xp.zeros((), dtype=xp.float64)
    shifted = number * (2.0**27 + 1 if like.dtype.itemsize == 8 else 2.0**41 + 1)
    top = shifted - (shifted - number)
    return top, number - top


def horner(x: Any, coefficients: list[float]) -> Any:
    result = coefficients[-1]
    for c in coefficients[-2::-1]:
        result = result * x + c
    return result


def exp_parts(xp: Any, x: Any, x_left: Any) -> tuple[Any, Any]:
    """e^(x + x_left) for x <= 0, in two parts; where it is nearly 0, one just as small."""
    high, low, rest = _LOG2[x.dtype.itemsize]
    x = xp.clip(x, -745.0 if x.dtype.itemsize == 8 else -103.0, None)
    n = xp.round(x * 1.4426950408889634)
    r, left = two_sum(x - n * high, -n * low)
    left = left + (x_left - n * rest)
    top = leading(r)
    square = top * top / 2  # exact, as are the sums below; what is left is small
    small = (r - top) * (r + top) / 2 + r * r * r * horner(r, _EXP)
    small = small + left * (1 + r + square + small)
    total, a = two_sum(1 + 0 * r, r)
    total, b = two_sum(total, square)
    total, left = two_sum(total, a + (b + small))
    scale = xp.exp2(n)
    return total * scale, left * scale


def log1p_parts(xp: Any, e: Any, e_left: Any) -> tuple[Any, Any]:
    """log(1 + e + e_left), for 0 <= e <= 1, in two parts."""
    is_big = e > 0.5  # so that e - 1 is exact
    g, g_left = xp.where(is_big, (e - 1) / 2, e), xp.where(is_big, e_left / 2, e_left)
    return log_near_one(xp, g, g_left, xp.where(is_big, 1.0 + 0 * e, 0.0))


def log_parts(xp: Any, v: Any, v_left: Any) -> tuple[Any, Any]:
    """log(v + v_left), for v > 0, in two parts."""
    v = xp.clip(v, float(xp.finfo(v.dtype).tiny), None)
    n = xp.round(xp.log2(v))
    scale = xp.exp2(-n)
    return log_near_one(xp, v * scale - 1, v_left * scale, n)


def log_near_one(xp: Any, g: Any, g_left: Any, n: Any) -> tuple[Any, Any]:
    """n log 2 + log(1 + g + g_left), in two parts: 2 atanh s, with s = g / (2 + g)."""
    high, low, _ = _LOG2[g.dtype.itemsize]
    s, s_left = quotient(g, g_left, *(two_sum(2 + 0 * g, g)))
    s_left = s_left - s * g_left / (2 + g)
    total, left = two_sum(n * high, 2 * s)
    return total, left + (2 * s_left + n * low + s * s * s * horner(s * s, _ATANH))


def quotient(a: Any, a_left: Any, b: Any, b_left: Any) -> tuple[Any, Any]:
    """(a + a_left) / (b + b_left), in two parts."""
    result = a / b
    (r, r_low), (d, d_low) = ((leading(v), v - leading(v)) for v in (result, b))
    remainder = (((a - r * d) - r * d_low) - r_low * d) - r_low * d_low
    return result, (remainder + (a_left - result * b_left)) / b


def sum_parts(xp: Any, v: Any, v_left: Any) -> tuple[Any, Any]:
    """The sum along the last axis, which is kept, in two parts: halves are added to halves."""
    while v.shape[-1] > 1:
        half = v.shape[-1] // 2
        total, left = two_sum(v[..., :half], v[..., half : 2 * half])
        left = left + (v_left[..., :half] + v_left[..., half : 2 * half])
        if v.shape[-1] % 2:
            total = xp.concatenate([total, v[..., -1:]], -1)
            left = xp.concatenate([left, v_left[..., -1:]], -1)
        v, v_left = total, left
    return v, v_left
