"""The device code of the losses of CUDA tensors, in Triton; triton.py launches it.

The forward pass writes the loss alone; the backward pass computes again what it needs, so that
nothing is kept or moved besides the inputs, the gradient and, for the softmax loss, three numbers a
row, or five if its target is soft (six in two parts). What depends on a value (which targets are
soft, which are ignored or bad, what the mean divides by) is decided on the device.

Names of arguments:

x, y, t            logits; targets in [0, 1]; class indices
w, v               weight; pos_weight
up, share          what comes back from the loss; 1 over what the mean divides by
loss, gradient     results; if REDUCE, a loss for each program, which `sum_up` adds up
saved              what the softmax loss keeps for its backward pass: (numbers, rows)

Sizes and strides, in elements. For the sigmoid loss n elements of at most three dimensions, the
last two of n1 and n2; the strides of x by these dimensions are x0, x1, x2, those of y y0, y1, y2,
and so on. For the softmax loss slices, classes and rows, the dimensions before, of and after the
classes; an item is a row r of a slice o. The strides of x by them are xo, xc, xr, those of t and y
to, tc, tr, of the gradient go, gc, gr, of what comes back uo, ur, of the class weights wc.

Constants that a kernel is compiled for: WIDE is the type that is computed in; PRECISE, that a large
gamma multiplies errors of log (1 - p) in float64, which is then made in two parts; EXACT, that
differences of logits need all digits of their type; DIMS, WIDE_INDEX, how elements are found;
ALIGN, ALIGN_ROWS, what sizes and strides are multiples of; ROWS and BLOCK, how many rows and
classes, or elements, a program has at a time.
"""

import os

import triton
import triton.language as tl

_INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")
_UNIT = tl.constexpr(2.0**-64)  # of a sum that overflows, which a mean need not

# --- Functions of a number ------------------------------------------------------------------------
#
# Good to an eps or two, in the dtype of their arguments; NaN stays NaN. A number in two parts is
# the rounded one and what rounding left. The compiler may contract a product and a sum into one
# operation that rounds once; so nothing relies on a product being rounded, only on sums and on
# products that are exact.
#
# The polynomials of float32 go through the values at Chebyshev's nodes of the interval, and are
# good to 0.27 eps; those of float64 are Taylor's.


@triton.jit
def _leading(a):
    """The leading half of the digits of a, so that a product of two such numbers is exact."""
    if a.dtype == tl.float64:
        return (a.to(tl.int64, bitcast=True) & -(1 << 27)).to(tl.float64, bitcast=True)
    else:
        return (a.to(tl.int32, bitcast=True) & -(1 << 12)).to(tl.float32, bitcast=True)


@triton.jit
def _decay(a, b, rate, rate_left):
    """2^-(rate + rate_left)(a + b), for a >= -64 and what rounding left of it, b; or None.

    rate has the leading half of its digits.

    An error of the exponent is a relative error of the result. So the exponent is an integer n and
    a fraction, which is exact but for what is small in it. 2^-n goes into the bits of 2^-fraction,
    with a factor that is taken off last, as the result may be below the normal numbers. 0 a is
    there for NaN, which the bits would lose.
    """
    leading = _leading(a)
    exponent = rate * leading
    rest = rate * (a - leading) + rate_left * a
    if b is not None:
        rest += rate * b
    if a.dtype == tl.float64:
        shifted = exponent + 6755399441055744.0  # 3 2^51: the last bits of the sum are n
        fraction = exponent - (shifted - 6755399441055744.0)
        y = tl.exp2(-(fraction + rest))
        bits = y.to(tl.int64, bitcast=True) + (54 << 52)
        bits -= shifted.to(tl.int64, bitcast=True) << 52
        y = bits.to(tl.float64, bitcast=True) * 5.551115123125783e-17 + 0.0 * a
        return tl.where(exponent >= 1074.0, 0.0, y)
    else:
        shifted = exponent + 12582912.0  # 3 2^22
        fraction = exponent - (shifted - 12582912.0)
        y = tl.exp2(-(fraction + rest))
        bits = y.to(tl.int32, bitcast=True) + (24 << 23)
        bits -= shifted.to(tl.int32, bitcast=True) << 23
        y = bits.to(tl.float32, bitcast=True) * 5.9604644775390625e-08 + 0.0 * a
        return tl.where(exponent >= 149.0, 0.0, y)


@triton.jit
def _left_over(a, b, d):
    """What rounding left of the difference a - b = d (Knuth)."""
    shift = d - a
    return (a - (d - shift)) - (b + shift)


@triton.jit
def _sum(a, b):
    """a + b in two parts."""
    both = a + b
    return both, _left_over(a, -b, both)


@triton.jit
def _multiply(a, a_low, b, b_low):
    """The product of two numbers in two parts (Dekker)."""
    high = a * b
    head, top = _leading(a), _leading(b)
    rest, end = a - head, b - top
    low = ((head * top - high) + head * end + rest * top) + rest * end
    return high, low + (a * b_low + a_low * b)


@triton.jit
def _divide(a, a_low, b, b_low):
    """The quotient of two numbers in two parts."""
    high = a / b
    back, back_low = _multiply(high, 0.0, b, b_low)
    return high, ((a - back) + (a_low - back_low)) / b


@triton.jit
def _exponential(a, b, PRECISE: tl.constexpr):
    """e^-(a + b), for a >= -64, b what rounding left of a, or None; if PRECISE in two parts."""
    if PRECISE:
        far = tl.where(a < 708.0, a, 708.0)
        n = tl.floor(far * 1.4426950408889634 + 0.5)
        whole = n * 0.6931471803691238  # log 2 in two parts, the first of 32 bits: exact
        left = n * 1.9082149292705877e-10
        t, t_low = _sum(whole - far, left)
        if b is not None:
            t_low -= b
        p = 1.1470745597729725e-11 * t + 1.6059043836821613e-10
        p = p * t + 2.08767569878681e-09
        p = p * t + 2.505210838544172e-08
        p = p * t + 2.755731922398589e-07
        p = p * t + 2.7557319223985893e-06
        p = p * t + 2.48015873015873e-05
        p = p * t + 0.0001984126984126984
        p = p * t + 0.001388888888888889
        p = p * t + 0.008333333333333333
        p = p * t + 0.041666666666666664
        p = p * t + 0.16666666666666666
        square, square_low = _multiply(t, 0.0, t, 0.0)
        high, low = _sum(1.0, t)
        high, left = _sum(high, 0.5 * square)
        low += left + (high * t_low + (0.5 * square_low + square * t * p))
        scale = ((1023 - n.to(tl.int64)) << 52).to(tl.float64, bitcast=True)
        high, low = _sum(high, low)
        high, low = high * scale, low * scale
        is_far = a >= 708.0
        return tl.where(is_far, 0.0, tl.where(a == a, high, a)), tl.where(is_far, 0.0, low)
    elif a.dtype == tl.float64:  # log2 e in two parts
        return _decay(a, b, 1.4426950216293335, 1.9259629911266175e-08), 0.0
    else:
        return _decay(a, b, 1.4423828125, 0.00031222838896340733), 0.0


@triton.jit
def _log1p_share(e):
    """log(1 + e) / e, for 0 <= e <= 1."""
    if e.dtype == tl.float64:
        w = 1.0 + e  # what is lost here the quotient makes good
        return tl.where(w == 1.0, 1.0, tl.log(w) / (w - 1.0))
    else:
        y = -0.004466211423277855 * e + 0.025224054232239723
        y = y * e - 0.06675772368907928
        y = y * e + 0.11561845242977142
        y = y * e - 0.15847565233707428
        y = y * e + 0.198541060090065
        y = y * e - 0.24986526370048523
        y = y * e + 0.3333284258842468
        y = y * e - 0.4999999701976776
        return y * e + 1.0


@triton.jit
def _log1p(e, e_low, PRECISE: tl.constexpr):
    """log(1 + e), for 0 <= e <= 1; if PRECISE in two parts: log c + 2 atanh s, for the nearest c of
    1, 5/4, ..., 2 and s = (1 + e - c) / (1 + e + c), at most 1/17.
    """
    if PRECISE:
        w, w_low = _sum(1.0, e)
        quarter = tl.floor(e * 4.0 + 0.5)
        c = 1.0 + 0.25 * quarter
        log = tl.where(quarter == 1.0, 0.22314355131420976, 0.0 * e)
        log_low = tl.where(quarter == 1.0, -9.091270597324799e-18, 0.0 * e)
        log = tl.where(quarter == 2.0, 0.4054651081081644, log)
        log_low = tl.where(quarter == 2.0, -2.8811380259626426e-18, log_low)
        log = tl.where(quarter == 3.0, 0.5596157879354227, log)
        log_low = tl.where(quarter == 3.0, 2.685492580212308e-17, log_low)
        log = tl.where(quarter == 4.0, 0.6931471805599453, log)
        log_low = tl.where(quarter == 4.0, 2.3190468138462996e-17, log_low)
        d = tl.where(quarter == 0.0, e, w - c)
        d_low = e_low + tl.where(quarter == 0.0, 0.0, w_low)
        total, total_low = _sum(w, c)
        s, s_low = _divide(d, d_low, total, total_low + w_low + e_low)
        q = s * s
        y = 0.06666666666666667 * q + 0.07692307692307693
        y = y * q + 0.09090909090909091
        y = y * q + 0.1111111111111111
        y = y * q + 0.14285714285714285
        y = y * q + 0.2
        y = y * q + 0.3333333333333333
        high, low = _sum(log, 2.0 * s)
        return _sum(high, low + (log_low + 2.0 * (s_low + q * s * y)))
    else:
        return e * _log1p_share(e), 0.0


@triton.jit
def _log(a, a_low, PRECISE: tl.constexpr):
    """log a in two parts, n log 2 with few digits and the rest; a is a normal number."""
    if PRECISE:
        n = (a.to(tl.int64, bitcast=True) >> 52) - 1023
        scale = ((1023 - n) << 52).to(tl.float64, bitcast=True)
        high, low = _log1p(a * scale - 1.0, a_low * scale, True)
        k = n.to(tl.float64)
        total, left = _sum(k * 0.6931471803691238, high)
        return total, left + (low + k * 1.9082149292705877e-10)
    elif a.dtype == tl.float64:
        n = (a.to(tl.int64, bitcast=True) - 0x3FE6A09E667F3BCD) >> 52
        m = (a.to(tl.int64, bitcast=True) - (n << 52)).to(tl.float64, bitcast=True)
        k = n.to(tl.float64)
        return k * 0.6931471803691238, k * 1.9082149292705877e-10 + tl.log(m)
    else:
        n = (a.to(tl.int32, bitcast=True) - 0x3F3504F3) >> 23
        m = (a.to(tl.int32, bitcast=True) - (n << 23)).to(tl.float32, bitcast=True)
        k = n.to(tl.float32)
        g = m - 1.0  # from -0.3 to 0.42; with s = g / (2 + g), log m is 2 atanh s
        s = g / (2.0 + g)
        w = s * s
        half = 0.5 * g * g
        rest = ((0.2957989275455475 * w + 0.3998878300189972) * w + 0.6666668653488159) * w
        return k * 0.693145752, k * 1.42860682e-6 + (g + (s * (half + rest) - half))


@triton.jit
def _rates(gamma, gamma_ptr, WIDE: tl.constexpr):
    """gamma, given as a number or where it is; and what times log q is log2 of the roots of q^gamma
    and of q^(gamma + 1), each in two parts for `_decay`.
    """
    if gamma_ptr is None:
        gamma = tl.full((), gamma, tl.float64)
    else:
        gamma = tl.load(gamma_ptr)
    leading = _leading(0.5 * gamma)
    product = leading * 1.4426950216293335
    rate = _leading(0.5 * gamma * 1.4426950408889634)
    low = (product - rate) + (0.5 * gamma - leading) * 1.4426950216293335
    low += 0.5 * gamma * 1.9259629911266175e-08
    above = _leading(rate + 0.7213475108146667)
    above_low = _left_over(rate, -0.7213475108146667, above) + (low + 9.629814955633087e-09)
    if WIDE == tl.float64:
        return gamma, (rate, low, above, above_low)
    else:
        gamma = gamma.to(tl.float32)
        short, short_above = _leading(rate.to(tl.float32)), _leading(above.to(tl.float32))
        low += rate - short.to(tl.float64)
        above_low += above - short_above.to(tl.float64)
        return gamma, (short, low.to(tl.float32), short_above, above_low.to(tl.float32))


@triton.jit
def _binary(z, low, gamma, rates, PRECISE: tl.constexpr):
    """Of p = sigma(z + low), q = 1 - p and u = -log p: the focal loss q^gamma u = a a U and its
    slope q^gamma (q + gamma p u) = a a B, as a, U and B; and 1 / (1 + e) and e = e^-|z + low|.

    a is the root of q^gamma, for z > 0 that of q^(gamma + 1), which u / q and 1 + gamma p u / q are
    multiplied by: if a a is below the normal numbers, a is not.
    """
    is_positive = z > 0.0
    size = tl.abs(z)
    if low is not None:
        low = tl.where(is_positive, low, -low)
    e, e_low = _exponential(size, low, PRECISE)
    large = 1.0 / (1.0 + e)
    if PRECISE:
        log, log_low = _log1p(e, e_low, PRECISE)
        share = tl.where(e == 0.0, 1.0, log / e)
    else:
        share = _log1p_share(e)
        log = e * share
    far, near, u = tl.where(is_positive, size, 0.0), log, size + log
    if low is not None:
        near = tl.where(is_positive, low + log, log)
        u = size + (low + log)
    v = far + near  # -log q
    left = near - (v - far)
    if PRECISE:
        left = _left_over(far, -near, v) + log_low
    rate = tl.where(is_positive, rates[2], rates[0])
    a = _decay(v, left, rate, tl.where(is_positive, rates[3], rates[1]))
    bracket = tl.where(is_positive, 1.0 + gamma * share, large + gamma * _product(e * large, u))
    return a, tl.where(is_positive, share * (1.0 + e), u), bracket, large, e


@triton.jit
def _product(p, u):
    """p u, which tends to 0 where u is infinite."""
    if u.dtype == tl.float64:
        return p * tl.minimum(u, 1.7976931348623157e308)
    else:
        return p * tl.minimum(u, 3.4028234663852886e38)


@triton.jit
def _times(weight, root, value, IS_FRACTION: tl.constexpr = False):
    """weight root root value, which loses no digits if it is a normal number; 0 times infinity is
    0. If IS_FRACTION, weight <= 1.
    """
    small = weight
    if IS_FRACTION:
        result = root * (root * value)
    else:
        small = tl.where(weight > 1.0, 1.0, weight)
        result = (tl.where(weight > 1.0, weight, 1.0) * root) * (root * value)
    return tl.where((weight == 0.0) & (result == float("inf")), 0.0, small * result)


@triton.jit
def _store(pointer, value, mask):
    """Rounds to the nearest number, which Triton's interpreter does not do by itself."""
    if _INTERPRETED and pointer.dtype.element_ty == tl.bfloat16:
        value = value.to(tl.float32)
        bits = value.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        value = tl.where(value == value, bits.to(tl.float32, bitcast=True), value)
    tl.store(pointer, value, mask)


# --- Sigmoid --------------------------------------------------------------------------------------


@triton.jit
def _at(i, n1, n2, s0, s1, s2, DIMS: tl.constexpr, WIDE_INDEX: tl.constexpr):
    """Where element i is, of DIMS dimensions, the last two of n1 and n2, with strides s."""
    if DIMS == 1:
        return i * s2
    else:
        if not WIDE_INDEX:  # a division of 64 bits is many instructions
            i = i.to(tl.int32)
        last = (i % n2).to(tl.int64)
        i = i // n2
        if DIMS == 2:
            return i.to(tl.int64) * s1 + last * s2
        else:
            return (i // n1).to(tl.int64) * s0 + (i % n1).to(tl.int64) * s1 + last * s2


@triton.jit
def _load(
    pointer, i, inside, n1, n2, s0, s1, s2,
    DIMS: tl.constexpr, WIDE_INDEX: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The elements i that are inside, 0 for others; or None of no tensor."""
    if pointer is None:
        return None
    else:
        at = _at(i, n1, n2, s0, s1, s2, DIMS, WIDE_INDEX)
        return tl.load(pointer + at, inside, 0).to(WIDE)


@triton.jit
def _of_label(x, weight, gamma, rates, PRECISE: tl.constexpr, IS_FRACTION: tl.constexpr):
    """The weighted loss of label 1 and its slope, down."""
    root, u, bracket, _, _ = _binary(x, None, gamma, rates, PRECISE)
    return _times(weight, root, u, IS_FRACTION), _times(weight, root, bracket, IS_FRACTION)


@triton.jit
def _sigmoid_terms(x, y, w, v, positive, negative, ignored, gamma, rates, PRECISE: tl.constexpr):
    """The loss, its derivative by x, and whether the element is kept."""
    if v is not None:
        positive = positive * v
    if w is not None:
        positive, negative = positive * w, negative * w
    alone: tl.constexpr = v is None and w is None  # weights by alpha are fractions
    kept = y != ignored
    is_one, is_soft = y == 1.0, kept & (y != 0.0) & (y != 1.0)
    weight = tl.where(is_one, positive, negative)
    value, slope = _of_label(tl.where(is_one, x, -x), weight, gamma, rates, PRECISE, alone)
    slope = tl.where(is_one, -slope, slope)
    if tl.max(is_soft.to(tl.int32), 0) > 0:  # a target of the block is soft, or bad
        one, slope_one = _of_label(x, positive * y, gamma, rates, PRECISE, alone)
        zero, slope_zero = _of_label(-x, negative * (1.0 - y), gamma, rates, PRECISE, alone)
        is_bad = ~((y >= 0.0) & (y <= 1.0))
        value = tl.where(is_soft, tl.where(is_bad, float("nan"), one + zero), value)
        slope = tl.where(is_soft, tl.where(is_bad, float("nan"), slope_zero - slope_one), slope)
    return tl.where(kept, value, 0.0), tl.where(kept, slope, 0.0), kept


@triton.jit(
    do_not_specialize=[
        "blocks", "n1", "n2", "x0", "x1", "y0", "y1", "w0", "w1", "v0", "v1", "l0", "l1"
    ]
)  # fmt: skip
def sigmoid_focal_forward(
    x_ptr, y_ptr, w_ptr, v_ptr, loss_ptr, n, blocks, n1, n2,
    x0, x1, x2, y0, y1, y2, w0, w1, w2, v0, v1, v2, l0, l1, l2,
    positive: tl.float64, negative: tl.float64, ignored: tl.float64,
    gamma: tl.float64, gamma_ptr,
    DIMS: tl.constexpr, WIDE_INDEX: tl.constexpr, WIDE: tl.constexpr, PRECISE: tl.constexpr,
    REDUCE: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """alpha_t q^gamma u of each element; if REDUCE, the sum of those of this program's blocks, and
    if COUNT, how many of them are kept.

    Reads x and y, and writes the losses if they are not summed: 8 or 12 bytes an element in
    float32.
    """
    positive, negative = tl.full((), positive, WIDE), tl.full((), negative, WIDE)
    ignored = tl.full((), ignored, WIDE)
    gamma, rates = _rates(gamma, gamma_ptr, WIDE)
    total = tl.full((), 0.0, tl.float64)
    small, count = total, total
    for block in range(tl.program_id(0), blocks, tl.num_programs(0)):
        i = tl.cast(block, tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = i < n
        x = _load(x_ptr, i, inside, n1, n2, x0, x1, x2, DIMS, WIDE_INDEX, WIDE)
        y = _load(y_ptr, i, inside, n1, n2, y0, y1, y2, DIMS, WIDE_INDEX, WIDE)
        w = _load(w_ptr, i, inside, n1, n2, w0, w1, w2, DIMS, WIDE_INDEX, WIDE)
        v = _load(v_ptr, i, inside, n1, n2, v0, v1, v2, DIMS, WIDE_INDEX, WIDE)
        value, _, kept = _sigmoid_terms(
            x, y, w, v, positive, negative, ignored, gamma, rates, PRECISE
        )
        if REDUCE:
            total, small = _add_up(total, small, tl.where(inside, value, 0.0), WIDE)
            if COUNT:
                count += tl.sum((inside & kept).to(tl.int32), 0).to(tl.float64)
        else:
            _store(loss_ptr + _at(i, n1, n2, l0, l1, l2, DIMS, WIDE_INDEX), value, inside)
    if REDUCE:
        _store_sum(loss_ptr, total, small)
        if COUNT:
            tl.store(loss_ptr + tl.num_programs(0) + tl.program_id(0), count)


@triton.jit(
    do_not_specialize=[
        "n1", "n2", "x0", "x1", "y0", "y1", "w0", "w1", "v0", "v1", "u0", "u1", "g0", "g1"
    ]
)  # fmt: skip
def sigmoid_focal_backward(
    x_ptr, y_ptr, w_ptr, v_ptr, up_ptr, share_ptr, gradient_ptr, n, n1, n2,
    x0, x1, x2, y0, y1, y2, w0, w1, w2, v0, v1, v2, u0, u1, u2, g0, g1, g2,
    positive: tl.float64, negative: tl.float64, ignored: tl.float64,
    gamma: tl.float64, gamma_ptr,
    DIMS: tl.constexpr, WIDE_INDEX: tl.constexpr, WIDE: tl.constexpr, PRECISE: tl.constexpr,
    REDUCE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """-s alpha_t q^gamma (q + gamma p u), times what comes back from the loss.

    Reads x and y, and what comes back if it is not one number, and writes the gradient: 12 or 16
    bytes an element in float32.
    """
    positive, negative = tl.full((), positive, WIDE), tl.full((), negative, WIDE)
    ignored = tl.full((), ignored, WIDE)
    gamma, rates = _rates(gamma, gamma_ptr, WIDE)
    i = tl.cast(tl.program_id(0), tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    x = _load(x_ptr, i, inside, n1, n2, x0, x1, x2, DIMS, WIDE_INDEX, WIDE)
    y = _load(y_ptr, i, inside, n1, n2, y0, y1, y2, DIMS, WIDE_INDEX, WIDE)
    w = _load(w_ptr, i, inside, n1, n2, w0, w1, w2, DIMS, WIDE_INDEX, WIDE)
    v = _load(v_ptr, i, inside, n1, n2, v0, v1, v2, DIMS, WIDE_INDEX, WIDE)
    _, slope, kept = _sigmoid_terms(x, y, w, v, positive, negative, ignored, gamma, rates, PRECISE)
    if REDUCE:
        up = tl.load(up_ptr).to(WIDE)
    else:
        up = _load(up_ptr, i, inside, n1, n2, u0, u1, u2, DIMS, WIDE_INDEX, WIDE)
    if share_ptr is not None:
        up *= tl.load(share_ptr).to(WIDE)
    at = _at(i, n1, n2, g0, g1, g2, DIMS, WIDE_INDEX)
    _store(gradient_ptr + at, tl.where(kept, slope * up, 0.0), inside)


@triton.jit
def _add_up(total, small, values, WIDE: tl.constexpr):
    """The total with the values, and in the unit, in which those of float64 do not overflow."""
    values = values.to(tl.float64)
    total += tl.sum(values, 0)
    if WIDE == tl.float64:
        return total, small + tl.sum(values * _UNIT, 0)
    else:
        return total, total * _UNIT


@triton.jit
def _store_sum(loss_ptr, total, small):
    """No sum is negative: an infinite one is stored as -small."""
    tl.store(loss_ptr + tl.program_id(0), tl.where(total == float("inf"), -small, total))


@triton.jit(do_not_specialize=["count"])
def sum_up(
    partial_ptr, loss_ptr, share_ptr, count, divisor: tl.float64,
    MEAN: tl.constexpr, WEIGHTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The sum of the partial sums, always in the same order; of a MEAN divided, and 1 over what by.

    If WEIGHTED, the divisor is the sum of the weights, which stand behind the sums.
    """
    i = tl.arange(0, BLOCK)
    partial = tl.load(partial_ptr + i, i < count, 0.0)
    total = tl.sum(tl.where(partial < 0.0, float("inf"), partial), 0)
    if MEAN:
        small = tl.sum(tl.where(partial < 0.0, -partial, partial * _UNIT), 0)
        divisor = tl.full((), divisor, tl.float64)
        if WEIGHTED:
            divisor = tl.sum(tl.load(partial_ptr + count + i, i < count, 0.0), 0)
        tl.store(share_ptr, tl.where(divisor == 0.0, float("nan"), 1.0 / divisor))
        mean = tl.where(total == float("inf"), small / divisor / _UNIT, total / divisor)
        total = tl.where(divisor == 0.0, float("nan"), mean)
    _store(loss_ptr, total, None)


# --- Softmax --------------------------------------------------------------------------------------
#
# A program has some rows of logits and goes through the classes in blocks.


@triton.jit
def _multiples(
    rows, classes, so, sr, sc, ALIGN: tl.constexpr, ALIGN_ROWS: tl.constexpr
):  # fmt: skip
    """The same, so that the compiler sees that several logits may be read or written at once."""
    if ALIGN > 1:
        classes, so, sr = classes // ALIGN * ALIGN, so // ALIGN * ALIGN, sr // ALIGN * ALIGN
    if ALIGN_ROWS > 1:
        rows, so = rows // ALIGN_ROWS * ALIGN_ROWS, so // ALIGN_ROWS * ALIGN_ROWS
        sc = sc // ALIGN_ROWS * ALIGN_ROWS
    return rows, classes, so, sr, sc


@triton.jit
def _rows(block, rows, ROWS: tl.constexpr):
    """Of a block of rows: the slice, the rows in it, and which of them there are."""
    blocks = (rows + ROWS - 1) // ROWS
    r = (block % blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    return tl.cast(block // blocks, tl.int64), r, r < rows


@triton.jit
def _indices(t_ptr, at, inside, ignored, classes):
    """The class indices, which rows are kept, and which indices are classes."""
    t = tl.load(t_ptr + at, inside, ignored).to(tl.int64)
    return t, inside & (t != ignored), (t >= 0) & (t < classes)


@triton.jit
def _upstream(
    up_ptr, share_ptr, at, kept, WIDE: tl.constexpr, REDUCE: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    """What comes back to each row."""
    if REDUCE:
        up = tl.full((ROWS,), 1.0, WIDE) * tl.load(up_ptr).to(WIDE)
    else:
        up = tl.load(up_ptr + at, kept, 0.0).to(WIDE)
    if share_ptr is not None:
        up *= tl.load(share_ptr).to(WIDE)
    return up


@triton.jit
def _relative(
    x, reference, EXACT: tl.constexpr, PRECISE: tl.constexpr = False, ROOT: tl.constexpr = False
):  # fmt: skip
    """e^(x - reference), 1 where they are equal, also at infinity; if ROOT its root."""
    d = x - reference
    low = 0.0
    if EXACT:
        left = _left_over(x, reference, d)
        left = tl.where(tl.abs(d) < float("inf"), left, 0.0)
        if ROOT:
            e, low = _exponential(-0.5 * d, -0.5 * left, PRECISE)
        else:
            e, low = _exponential(-d, -left, PRECISE)
    else:  # half types need fewer digits
        e = tl.exp2(d * (0.7213475204444817 if ROOT else 1.4426950408889634))
    is_equal = x == reference
    if PRECISE:
        low = tl.where(is_equal, 0.0, low)
    return tl.where(is_equal, 1.0, e), low


@triton.jit
def _add(total, lost, part):
    """total + part, and with it what rounding lost: of many parts that would be too much."""
    both, left = _sum(total, part)
    return both, lost + left


@triton.jit
def _added(total, lost):
    """What `_add` has come to."""
    return tl.where(total < float("inf"), total + lost, total)


@triton.jit
def _exponentials(
    x_ptr, xc, t, inside, classes,
    WIDE: tl.constexpr, EXACT: tl.constexpr, PRECISE: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """In one pass, a reference and the sum of e^(x - reference) over the classes but t, in two
    parts; if t is None, over those but the largest, with its logit and its index.

    The reference is at most 8 below the largest of them: so it moves seldom, and each time it does
    the error of what was summed before it is made small.
    """
    reference = tl.full((ROWS,), float("-inf"), WIDE)
    total = tl.full((ROWS,), 0.0, WIDE)
    lost = total
    top = reference
    at_top = tl.full((ROWS,), 0, tl.int32)
    for start in range(0, classes, BLOCK):
        j = start + tl.arange(0, BLOCK)
        mask = inside[:, None] & (j < classes)[None, :]
        x = tl.load(x_ptr[:, None] + (j.to(tl.int64) * xc)[None, :], mask, float("-inf")).to(WIDE)
        if t is None:  # what is not the largest, of the block or of those before, takes its place
            largest = tl.max(x, 1)
            first = tl.min(tl.where(x == largest[:, None], j[None, :], 2147483647), 1)
            is_new = largest > top
            other = tl.where(is_new, top, largest)
            x = tl.where(j[None, :] == first[:, None], other[:, None], x)
            top, at_top = tl.where(is_new, largest, top), tl.where(is_new, first, at_top)
        else:
            x = tl.where(j[None, :] == t.to(tl.int32)[:, None], float("-inf"), x)
        largest = tl.max(x, 1)
        moved = tl.where(largest > reference + 8.0, largest, reference)
        kept, kept_low = _relative(reference, moved, True, PRECISE)
        e, e_low = _relative(x, moved[:, None], EXACT, PRECISE)
        if PRECISE:  # all e < 2^12, so that the sum of multiples of 2^-26 is exact
            total, lost = _multiply(total, lost, kept, kept_low)
            coarse = (e + 100663296.0) - 100663296.0
            total, lost = _add(total, lost, tl.sum(coarse, 1))
            lost += tl.sum((e - coarse) + e_low, 1)
        else:
            total, lost = _add(total * kept, lost * kept, tl.sum(e, 1))
        reference = moved
    # There is no limit at two infinities.
    is_wrong = (reference == float("inf")) & (total > 1.5)
    total = tl.where(is_wrong, float("nan"), total)
    if PRECISE:
        total, lost = _sum(total, tl.where(tl.abs(lost) < float("inf"), lost, 0.0))
    else:
        total, lost = _added(total, lost), 0.0
    return reference, total, lost, top, at_top


@triton.jit
def _margin(x, reference, others, others_low, PRECISE: tl.constexpr):
    """z = x - reference - log others, in two parts."""
    d = x - reference
    high, low = _log(others, others_low, PRECISE)
    z = d - high
    low = _left_over(d, high, z) + (_left_over(x, reference, d) - low)
    both = z + low
    is_finite = tl.abs(z) < float("inf")
    low = tl.where(is_finite, low - (both - z), 0.0)
    z = tl.where(is_finite, both, z)
    is_largest = (reference == float("-inf")) | (others == 0.0)
    z = tl.where(is_largest, tl.where(x > float("-inf"), float("inf"), float("nan")), z)
    low = tl.where(is_largest, 0.0, low)
    return tl.where(others == others, z, float("nan")), low


@triton.jit(do_not_specialize=["rows", "slices", "ignored", "xo", "to", "tr", "wc"])
def softmax_focal_forward(
    x_ptr, t_ptr, w_ptr, loss_ptr, saved_ptr,
    rows, slices, classes, ignored, xo, xr, xc, to, tr, wc,
    gamma: tl.float64, gamma_ptr,
    WIDE: tl.constexpr, EXACT: tl.constexpr, PRECISE: tl.constexpr, REDUCE: tl.constexpr,
    SAVE: tl.constexpr,
    ALIGN: tl.constexpr, ALIGN_ROWS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """w_t q^gamma u of z = x_t - log (sum of the other e^x); if REDUCE, sums of it and of w_t.

    Reads x once, and for each row t, x_t and w_t: 4 bytes an element in float32. For the backward
    pass it writes three numbers a row: a reference, 1 over the sum of the other e^(x - reference),
    and G = w_t q^gamma (q + gamma p u).
    """
    gamma, rates = _rates(gamma, gamma_ptr, WIDE)
    rows, classes, xo, xr, xc = _multiples(rows, classes, xo, xr, xc, ALIGN, ALIGN_ROWS)
    blocks = (rows + ROWS - 1) // ROWS
    count = tl.cast(rows, tl.int64) * slices
    loss_sum = tl.full((), 0.0, tl.float64)
    small, weight_sum = loss_sum, loss_sum
    for block in range(tl.program_id(0), blocks * slices, tl.num_programs(0)):
        o, r, inside = _rows(block, rows, ROWS)
        t, kept, is_class = _indices(t_ptr, o * to + r * tr, inside, ignored, classes)
        t = tl.where(is_class, t, 0)
        x_row = x_ptr + o * xo + r * xr
        x_t = tl.load(x_row + t * xc, kept, 0.0).to(WIDE)
        w_t = tl.full((ROWS,), 1.0, WIDE)
        if w_ptr is not None:
            w_t = tl.load(w_ptr + t * wc, kept, 1.0).to(WIDE)
        reference, others, others_low, _, _ = _exponentials(
            x_row, xc, t, inside, classes, WIDE, EXACT, PRECISE, ROWS, BLOCK
        )
        z, low = _margin(x_t, reference, others, others_low, PRECISE)
        z = tl.where(is_class | ~kept, z, float("nan"))
        root, u, bracket, _, _ = _binary(z, low, gamma, rates, PRECISE)
        value = tl.where(kept, _times(w_t, root, u), 0.0)
        item = o * rows + r
        if REDUCE:
            loss_sum, small = _add_up(loss_sum, small, value, WIDE)
            weight_sum += tl.sum(tl.where(kept, w_t, 0.0).to(tl.float64), 0)
        else:
            _store(loss_ptr + item, value, inside)
        if SAVE:
            tl.store(saved_ptr + item, reference, inside)
            tl.store(saved_ptr + count + item, 1.0 / others, inside)
            tl.store(saved_ptr + 2 * count + item, _times(w_t, root, bracket), inside)
    if REDUCE:
        _store_sum(loss_ptr, loss_sum, small)
        tl.store(loss_ptr + tl.num_programs(0) + tl.program_id(0), weight_sum)


@triton.jit(do_not_specialize=["rows", "slices", "ignored", "xo", "to", "tr", "uo", "ur", "go"])
def softmax_focal_backward(
    x_ptr, t_ptr, saved_ptr, up_ptr, share_ptr, gradient_ptr,
    rows, slices, classes, ignored, xo, xr, xc, to, tr, uo, ur, go, gr, gc,
    WIDE: tl.constexpr, EXACT: tl.constexpr, REDUCE: tl.constexpr,
    ALIGN: tl.constexpr, ALIGN_ROWS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """-G for class t and G e^x_j / (sum of the other e^x) for j, times what comes back.

    Reads x and writes the gradient, and reads four or five numbers a row: 8 bytes an element in
    float32.
    """
    rows, classes, xo, xr, xc = _multiples(rows, classes, xo, xr, xc, ALIGN, ALIGN_ROWS)
    _, _, go, gr, gc = _multiples(rows, classes, go, gr, gc, ALIGN, ALIGN_ROWS)
    parts = (classes + BLOCK - 1) // BLOCK
    j = (tl.program_id(0) % parts) * BLOCK + tl.arange(0, BLOCK)
    o, r, inside = _rows(tl.program_id(0) // parts, rows, ROWS)
    t, kept, _ = _indices(t_ptr, o * to + r * tr, inside, ignored, classes)
    count = tl.cast(rows, tl.int64) * slices
    saved = saved_ptr + o * rows + r
    reference = tl.load(saved, kept, 0.0)
    inverse = tl.load(saved + count, kept, 0.0)
    slope = tl.load(saved + 2 * count, kept, 0.0)
    slope *= _upstream(up_ptr, share_ptr, o * uo + r * ur, kept, WIDE, REDUCE, ROWS)
    slope = slope[:, None]
    mask = inside[:, None] & (j < classes)[None, :]
    is_target = j[None, :] == t.to(tl.int32)[:, None]
    j = j.to(tl.int64)
    x = tl.load(x_ptr + o * xo + (r * xr)[:, None] + (j * xc)[None, :], mask, 0.0).to(WIDE)
    # e^(x_j - reference) may be below the normal numbers where times a large slope it is not.
    root, _ = _relative(x, reference[:, None], EXACT, False, True)
    gradient = tl.where(is_target, -slope, (slope * root) * (root * inverse[:, None]))
    gradient = tl.where(kept[:, None], gradient, 0.0)  # nothing comes back to an ignored row
    _store(gradient_ptr + o * go + (r * gr)[:, None] + (j * gc)[None, :], gradient, mask)


@triton.jit
def _factors(
    y_ptr, yc, w_ptr, wc, t, j, mask, given, even, ignored, WIDE: tl.constexpr
):  # fmt: skip
    """w_j y_j of the smoothed target: probabilities, or the class index t of each row; and of each
    row whether a probability is not the one that is ignored, and whether one is bad.
    """
    has_others, is_bad = t < 0, t < 0
    if y_ptr is None:
        y = tl.where(j[None, :] == t[:, None], given, 0.0)
    else:
        y = tl.load(y_ptr[:, None] + (j * yc)[None, :], mask, 0.0).to(WIDE)
        has_others = tl.max((mask & (y != ignored)).to(tl.int32), 1) > 0
        is_bad = tl.max((mask & ~((y >= 0.0) & (y <= 1.0))).to(tl.int32), 1) > 0
        y = given * y
    factor = tl.where(mask, y + even, 0.0)
    if w_ptr is not None:
        factor *= tl.load(w_ptr + (j * wc)[None, :], mask, 0.0).to(WIDE)
    return factor, has_others, is_bad


@triton.jit
def _top_terms(x, reference, others, others_low, gamma, rates, PRECISE: tl.constexpr):
    """Of the class with the largest logit: what `_times` makes its loss and slope of; p; -log p;
    and the root of q.
    """
    z, low = _margin(x, reference, others, others_low, PRECISE)
    root, u, bracket, large, e = _binary(z, low, gamma, rates, PRECISE)
    share = _log1p_share(e)
    log = e * share
    p = tl.where(z > 0.0, large, e * large)
    half, _ = _exponential(tl.where(z > 0.0, 0.5 * z, 0.0), None, False)
    return root, u, bracket, p, tl.where(z > 0.0, log, log - z), half * tl.sqrt(large)


@triton.jit
def _class_terms(x, top, p, u_top, odds, odds_low, gamma, rates, PRECISE: tl.constexpr):
    """Of a class that is not the top: the root of q^gamma; u; 1 + gamma p u / q; and q."""
    u = (top - x) + u_top
    if not PRECISE:
        odds = p / (1.0 - p)
    v, v_low = _log1p(odds, odds_low, PRECISE)
    root = _decay(v, v_low if PRECISE else None, rates[0], rates[1])
    return root, u, 1.0 + gamma * _product(odds, u), 1.0 - p


@triton.jit
def _odds(x, top, reference, others, others_low):
    """p / (1 - p) of a class that is not the top, in two parts."""
    e, e_low = _relative(x, top, True, True)
    moved, moved_low = _relative(reference, top, True, True)
    rest, rest_low = _multiply(others, others_low, moved, moved_low)
    total, left = _sum(1.0, rest)
    total, more = _sum(total, -e)
    return _divide(e, e_low, total, left + more + (rest_low - e_low))


@triton.jit(do_not_specialize=["rows", "slices", "ignored", "xo", "to", "tr", "wc"])
def softmax_focal_soft_forward(
    x_ptr, t_ptr, y_ptr, w_ptr, loss_ptr, saved_ptr,
    rows, slices, classes, ignored, xo, xr, xc, to, tr, tc, wc,
    gamma: tl.float64, gamma_ptr, given: tl.float64, even: tl.float64,
    WIDE: tl.constexpr, EXACT: tl.constexpr, PRECISE: tl.constexpr, REDUCE: tl.constexpr,
    SAVE: tl.constexpr,
    ALIGN: tl.constexpr, ALIGN_ROWS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """sum_c a_c q_c^gamma u_c, a_c = w_c y_c; if REDUCE, sums of it and of w_t, or for
    probabilities of the rows kept.

    The top, the class with the largest logit, is done alone: its q is the sum of the others' e^x,
    which 1 - p would have lost.

    Reads x twice, the second time from the cache if a row is not too long, and y: 4 to 12 bytes an
    element in float32. For the backward pass it writes five or six numbers a row: which is the top,
    or -1 if the row is ignored; its slope; the sum of the others' h_c = a_c q_c^gamma
    (1 + gamma p_c u_c / q_c); a reference and the sum of the others' e^(x - reference).
    """
    gamma, rates = _rates(gamma, gamma_ptr, WIDE)
    given, even = tl.full((), given, WIDE), tl.full((), even, WIDE)
    rows, classes, xo, xr, xc = _multiples(rows, classes, xo, xr, xc, ALIGN, ALIGN_ROWS)
    blocks = (rows + ROWS - 1) // ROWS
    count = tl.cast(rows, tl.int64) * slices
    loss_sum = tl.full((), 0.0, tl.float64)
    small, weight_sum = loss_sum, loss_sum
    for block in range(tl.program_id(0), blocks * slices, tl.num_programs(0)):
        o, r, inside = _rows(block, rows, ROWS)
        kept = inside
        is_bad = ~inside  # of the rows that there are, none yet
        t = tl.full((ROWS,), -1, tl.int64)
        y_row = y_ptr
        if y_ptr is None:
            t, kept, is_class = _indices(t_ptr, o * to + r * tr, inside, ignored, classes)
            is_bad = kept & ~is_class
        else:
            y_row = y_ptr + o * to + r * tr
            kept = ~inside
        x_row = x_ptr + o * xo + r * xr
        reference, others, others_low, x_top, at_top = _exponentials(
            x_row, xc, None, inside, classes, WIDE, EXACT, PRECISE, ROWS, BLOCK
        )
        root_top, u, bracket, p_top, u_top, _root_of_q = _top_terms(
            x_top, reference, others, others_low, gamma, rates, PRECISE
        )
        value = tl.full((ROWS,), 0.0, WIDE)
        sum_h, value_lost, h_lost, a_top = value, value, value, value
        for start in range(0, classes, BLOCK):
            j = (start + tl.arange(0, BLOCK)).to(tl.int64)
            mask = inside[:, None] & (j < classes)[None, :]
            x = tl.load(x_row[:, None] + (j * xc)[None, :], mask, float("-inf")).to(WIDE)
            a, has_others, has_bad = _factors(
                y_row, tc, w_ptr, wc, t, j, mask, given, even, ignored, WIDE
            )
            if y_ptr is not None:
                kept, is_bad = kept | has_others, is_bad | has_bad
            is_top = j[None, :] == at_top[:, None]
            odds, odds_low = _relative(tl.where(is_top, float("-inf"), x), x_top[:, None], EXACT)
            p = odds * p_top[:, None]
            if PRECISE:
                odds, odds_low = _odds(
                    x, x_top[:, None], reference[:, None], others[:, None], others_low[:, None]
                )
            root, u_j, h, _q = _class_terms(
                x, x_top[:, None], p, u_top[:, None], odds, odds_low, gamma, rates, PRECISE
            )
            is_zero = is_top | (a == 0.0)
            part = tl.sum(tl.where(is_zero, 0.0, (a * root) * (root * u_j)), 1)
            value, value_lost = _add(value, value_lost, part)
            part = tl.sum(tl.where(is_zero, 0.0, (a * root) * (root * h)), 1)
            sum_h, h_lost = _add(sum_h, h_lost, part)
            a_top += tl.sum(tl.where(is_top, a, 0.0), 1)
        kept &= inside
        value, sum_h = _added(value, value_lost), _added(sum_h, h_lost)
        value += _times(a_top, root_top, u)
        value = tl.where(kept, tl.where(is_bad, float("nan"), value), 0.0)
        item = o * rows + r
        if REDUCE:
            loss_sum, small = _add_up(loss_sum, small, value, WIDE)
            weight = tl.where(kept, 1.0, 0.0)
            if y_ptr is None and w_ptr is not None:
                weight = tl.load(w_ptr + t * wc, kept & ~is_bad, 0.0)
            weight_sum += tl.sum(weight.to(tl.float64), 0)
        else:
            _store(loss_ptr + item, value, inside)
        if SAVE:
            slope = tl.where(is_bad, float("nan"), _times(a_top, root_top, bracket))
            tl.store(saved_ptr + item, tl.where(kept, at_top, -1).to(WIDE), inside)
            tl.store(saved_ptr + count + item, slope, inside)
            tl.store(saved_ptr + 2 * count + item, sum_h, inside)
            tl.store(saved_ptr + 3 * count + item, reference, inside)
            tl.store(saved_ptr + 4 * count + item, others, inside)
            if PRECISE:
                tl.store(saved_ptr + 5 * count + item, others_low, inside)
    if REDUCE:
        _store_sum(loss_ptr, loss_sum, small)
        tl.store(loss_ptr + tl.num_programs(0) + tl.program_id(0), weight_sum)


@triton.jit(
    do_not_specialize=["rows", "slices", "ignored", "xo", "to", "tr", "wc", "uo", "ur", "go"]
)  # fmt: skip
def softmax_focal_soft_backward(
    x_ptr, t_ptr, y_ptr, w_ptr, saved_ptr, up_ptr, share_ptr, gradient_ptr,
    rows, slices, classes, ignored, xo, xr, xc, to, tr, tc, wc, uo, ur, go, gr, gc,
    gamma: tl.float64, gamma_ptr, given: tl.float64, even: tl.float64,
    WIDE: tl.constexpr, EXACT: tl.constexpr, PRECISE: tl.constexpr, REDUCE: tl.constexpr,
    ALIGN: tl.constexpr, ALIGN_ROWS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """For the top p (sum of the others' h) - slope; for another class j p_j (sum of the h of those
    that are neither) - q_j h_j + slope r_j, r_j = p_j / q of the top; times what comes back.

    Reads x and y and writes the gradient, and reads seven or eight numbers a row: 8 or 12 bytes an
    element in float32.
    """
    gamma, rates = _rates(gamma, gamma_ptr, WIDE)
    given, even = tl.full((), given, WIDE), tl.full((), even, WIDE)
    rows, classes, xo, xr, xc = _multiples(rows, classes, xo, xr, xc, ALIGN, ALIGN_ROWS)
    _, _, go, gr, gc = _multiples(rows, classes, go, gr, gc, ALIGN, ALIGN_ROWS)
    parts = (classes + BLOCK - 1) // BLOCK
    j = ((tl.program_id(0) % parts) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    o, r, inside = _rows(tl.program_id(0) // parts, rows, ROWS)
    t = tl.full((ROWS,), -1, tl.int64)
    y_row = y_ptr
    if y_ptr is None:
        t, _, _ = _indices(t_ptr, o * to + r * tr, inside, ignored, classes)
    else:
        y_row = y_ptr + o * to + r * tr
    count = tl.cast(rows, tl.int64) * slices
    saved = saved_ptr + o * rows + r
    at_top = tl.load(saved, inside, -1.0).to(tl.int64)
    kept = at_top >= 0
    slope = tl.load(saved + count, kept, 0.0)
    sum_h = tl.load(saved + 2 * count, kept, 0.0)
    reference = tl.load(saved + 3 * count, kept, 0.0)
    others = tl.load(saved + 4 * count, kept, 1.0)
    others_low = tl.zeros_like(others)
    if PRECISE:
        others_low = tl.load(saved + 5 * count, kept, 0.0)
    up = _upstream(up_ptr, share_ptr, o * uo + r * ur, kept, WIDE, REDUCE, ROWS)
    x_row = x_ptr + o * xo + r * xr
    x_top = tl.load(x_row + at_top * xc, kept, 0.0).to(WIDE)
    _, _, _, p_top, u_top, root_of_q = _top_terms(
        x_top, reference, others, others_low, gamma, rates, PRECISE
    )
    mask = inside[:, None] & (j < classes)[None, :]
    x = tl.load(x_row[:, None] + (j * xc)[None, :], mask, 0.0).to(WIDE)
    a, _, _ = _factors(y_row, tc, w_ptr, wc, t, j, mask, given, even, ignored, WIDE)
    is_top = j[None, :] == at_top[:, None]
    # p_j and r_j are products of roots: times a large weight they may be normal numbers alone.
    root, _ = _relative(x, reference[:, None], EXACT, False, True)
    root = tl.where(is_top, 0.0, root)
    inverse = (1.0 / others)[:, None]
    root_p = root * root_of_q[:, None]
    p = root_p * (root_p * inverse)
    odds, odds_low = p, 0.0
    if PRECISE:
        odds, odds_low = _odds(
            x, x_top[:, None], reference[:, None], others[:, None], others_low[:, None]
        )
    root_j, _, h, q = _class_terms(
        x, x_top[:, None], p, u_top[:, None], odds, odds_low, gamma, rates, PRECISE
    )
    h = tl.where(is_top, 0.0, (a * root_j) * (root_j * h))
    gradient = (root_p * (sum_h[:, None] - h)) * (root_p * inverse) - q * h
    gradient += (slope[:, None] * root) * (root * inverse)
    gradient = tl.where(is_top, (p_top * sum_h - slope)[:, None], gradient)
    gradient = tl.where(kept[:, None], gradient * up[:, None], 0.0)
    _store(gradient_ptr + o * go + (r * gr)[:, None] + (j * gc)[None, :], gradient, mask)
