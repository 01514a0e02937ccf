"""The losses of CUDA tensors: Triton kernels that read the logits and write the gradient.

The forward pass writes the loss alone; the backward pass computes again what it needs, so that
nothing is kept or moved besides the inputs, the gradient and, for the softmax loss, three numbers a
row, or five if its target is soft. Float64 inputs are computed in float64, all others in float32.
What depends on a value (which targets are soft, which are ignored, what the mean divides by) is
decided on the device: the host never waits.

The functions with `forward` and `backward` in their names launch the kernels. The operators at the
end are the same losses for torch's compiler. With TRITON_INTERPRET=1 in the environment the kernels
run on CPU tensors, in Python.
"""

import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from focal_lib._ways import composed as _composed

_INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")

# --- Functions of a number ------------------------------------------------------------------------
#
# Good to an eps or two, in the dtype of their arguments. Multiplication and addition round as IEEE
# 754 says, so that what they leave can be told; NaN stays NaN.


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
def _exponential(a, b):
    """e^-(a + b), as `_decay`: log2 e is in two parts."""
    if a.dtype == tl.float64:
        return _decay(a, b, 1.4426950216293335, 1.9259629911266175e-08)
    else:
        return _decay(a, b, 1.4423828125, 0.00031222838896340733)


@triton.jit
def _log1p(e):
    """log(1 + e), for 0 <= e <= 1."""
    if e.dtype == tl.float64:
        w = 1.0 + e  # what is lost here the quotient makes good
        return tl.where(w == 1.0, e, tl.log(w) * (e / (w - 1.0)))
    else:
        y = -0.0032440118957310915 * e + 0.019851399585604668
        y = y * e - 0.05695941299200058
        y = y * e + 0.10603641718626022
        y = y * e - 0.1530558466911316
        y = y * e + 0.19675935804843903
        y = y * e - 0.24954132735729218
        y = y * e + 0.3332996368408203
        y = y * e - 0.4999990165233612
        return (y * e + 1.0) * e


@triton.jit
def _log(a):
    """log a in two parts, n log 2 with few digits and the rest; a is a normal number."""
    if a.dtype == tl.float64:
        n = (a.to(tl.int64, bitcast=True) - 0x3FE6A09E667F3BCD) >> 52
        m = (a.to(tl.int64, bitcast=True) - (n << 52)).to(tl.float64, bitcast=True)
        k = n.to(tl.float64)
        return k * 0.69314718036912382, k * 1.9082149292705877e-10 + tl.log(m)
    else:
        n = (a.to(tl.int32, bitcast=True) - 0x3F3504F3) >> 23
        m = (a.to(tl.int32, bitcast=True) - (n << 23)).to(tl.float32, bitcast=True)
        k = n.to(tl.float32)
        g = m - 1.0  # from -0.3 to 0.42; with s = g / (2 + g), log m is 2 atanh s
        s = g / (2.0 + g)
        w = s * s
        half = 0.5 * g * g
        rest = ((0.295803078 * w + 0.399887727) * w + 0.666666851) * w
        return k * 0.693145752, k * 1.42860682e-6 + (g + (s * (half + rest) - half))


@triton.jit
def _add(total, lost, part):
    """total + part, and with it what rounding lost: of many parts that would be too much."""
    both = total + part
    return both, lost + _left_over(total, -part, both)


@triton.jit
def _added(total, lost):
    """What `_add` has come to."""
    return tl.where(total < float("inf"), total + lost, total)


@triton.jit
def _rates(gamma, gamma_ptr, WIDE: tl.constexpr):
    """gamma, given as a number or where it is, and gamma log2 e in two parts for `_decay`."""
    if gamma_ptr is None:
        gamma = tl.full((), gamma, tl.float64)
    else:
        gamma = tl.load(gamma_ptr)
    if WIDE == tl.float64:
        gamma = tl.minimum(gamma, 1e300)  # beyond, gamma log2 e is infinite
        leading = _leading(gamma)
        product = leading * 1.4426950216293335
        rate = _leading(gamma * 1.4426950408889634)
        rate_left = (product - rate) + (gamma - leading) * 1.4426950216293335
        return gamma, rate, rate_left + gamma * 1.9259629911266175e-08
    else:
        gamma = tl.minimum(gamma, 1e36)
        product = gamma * 1.4426950408889634
        rate = _leading(product.to(tl.float32))
        return gamma.to(tl.float32), rate, (product - rate.to(tl.float64)).to(tl.float32)


@triton.jit
def _left_over(a, b, d):
    """What rounding left of the difference a - b = d (Knuth)."""
    shift = d - a
    return (a - (d - shift)) - (b + shift)


@triton.jit
def _binary(z, low, rate, rate_left):
    """p = sigma(z + low), q = 1 - p, u = -log p, q^gamma, for gamma log2 e = rate + rate_left."""
    is_positive = z > 0.0
    size = tl.abs(z)
    if low is not None:
        low = tl.where(is_positive, low, -low)
    e = _exponential(size, low)
    log = _log1p(e)
    large = 1.0 / (1.0 + e)
    p = tl.where(is_positive, large, e * large)
    q = tl.where(is_positive, e * large, large)
    far = tl.where(rate > 0.0, tl.where(is_positive, size, 0.0), 0.0)  # no 0 times infinity
    near = log
    u = size + log
    if low is not None:
        u = size + (low + log)
        near = tl.where(is_positive, low + log, log)
    u = tl.where(is_positive, log, u)
    v = far + near  # -log q, and what rounding left of it
    return p, q, u, _decay(v, near - (v - far), rate, rate_left)


@triton.jit
def _product(p, u):
    """p u, which tends to 0 where u is infinite."""
    if u.dtype == tl.float64:
        return p * tl.minimum(u, 1.7976931348623157e308)
    else:
        return p * tl.minimum(u, 3.4028234663852886e38)


@triton.jit
def _times(weight, loss):
    """weight times loss, with 0 times infinity taken as 0."""
    return tl.where((weight == 0.0) & (loss == float("inf")), 0.0, weight * loss)


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
def _of_margin(z, gamma, rate, rate_left):
    """q^gamma u and q^gamma (q + gamma p u)."""
    p, q, u, power = _binary(z, None, rate, rate_left)
    return power * u, power * (q + gamma * _product(p, u))


@triton.jit
def _sigmoid_terms(x, y, positive, negative, gamma, rate, rate_left):
    """The loss and its derivative by x."""
    is_one = y == 1.0
    weight = tl.where(is_one, positive, negative)
    value, slope = _of_margin(tl.where(is_one, x, -x), gamma, rate, rate_left)
    value = _times(weight, value)
    slope = tl.where(is_one, -weight, weight) * slope
    if tl.max(tl.where(is_one | (y == 0.0), 0, 1), 0) > 0:  # a target of the block is soft
        one, slope_one = _of_margin(x, gamma, rate, rate_left)
        zero, slope_zero = _of_margin(-x, gamma, rate, rate_left)
        value = _times(positive * y, one) + _times(negative * (1.0 - y), zero)
        slope = negative * (1.0 - y) * slope_zero - positive * y * slope_one
    return value, slope


@triton.jit(do_not_specialize=["blocks", "n1", "n2", "x0", "x1", "y0", "y1", "l0", "l1"])
def _sigmoid_forward(
    x_ptr, y_ptr, loss_ptr, n, blocks, n1, n2, x0, x1, x2, y0, y1, y2, l0, l1, l2,
    positive: tl.float64, negative: tl.float64,
    gamma: tl.float64, gamma_ptr,
    DIMS: tl.constexpr, WIDE_INDEX: tl.constexpr, WIDE: tl.constexpr,
    REDUCE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """alpha_t q^gamma u of each element; if REDUCE, the sum of those of this program's blocks.

    Reads x and y, and writes the losses if they are not summed: 8 or 12 bytes an element in
    float32.
    """
    positive, negative = tl.full((), positive, WIDE), tl.full((), negative, WIDE)
    gamma, rate, rate_left = _rates(gamma, gamma_ptr, WIDE)
    total = tl.full((), 0.0, tl.float64)
    for block in range(tl.program_id(0), blocks, tl.num_programs(0)):
        i = tl.cast(block, tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = i < n
        x = tl.load(x_ptr + _at(i, n1, n2, x0, x1, x2, DIMS, WIDE_INDEX), inside, 0.0).to(WIDE)
        y = tl.load(y_ptr + _at(i, n1, n2, y0, y1, y2, DIMS, WIDE_INDEX), inside, 0).to(WIDE)
        value, _ = _sigmoid_terms(x, y, positive, negative, gamma, rate, rate_left)
        if REDUCE:
            total += tl.sum(tl.where(inside, value, 0.0).to(tl.float64), 0)
        else:
            _store(loss_ptr + _at(i, n1, n2, l0, l1, l2, DIMS, WIDE_INDEX), value, inside)
    if REDUCE:
        tl.store(loss_ptr + tl.program_id(0), total)


@triton.jit(do_not_specialize=["n1", "n2", "x0", "x1", "y0", "y1", "u0", "u1", "g0", "g1"])
def _sigmoid_backward(
    x_ptr, y_ptr, up_ptr, gradient_ptr, n, n1, n2, x0, x1, x2, y0, y1, y2, u0, u1, u2, g0, g1, g2,
    positive: tl.float64, negative: tl.float64,
    gamma: tl.float64, gamma_ptr, share: tl.float64,
    DIMS: tl.constexpr, WIDE_INDEX: tl.constexpr, WIDE: tl.constexpr,
    REDUCE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """-s alpha_t q^gamma (q + gamma p u), times what comes back from the loss.

    Reads x and y, and what comes back if it is not one number, and writes the gradient: 12 or 16
    bytes an element in float32.
    """
    positive, negative = tl.full((), positive, WIDE), tl.full((), negative, WIDE)
    gamma, rate, rate_left = _rates(gamma, gamma_ptr, WIDE)
    i = tl.cast(tl.program_id(0), tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    x = tl.load(x_ptr + _at(i, n1, n2, x0, x1, x2, DIMS, WIDE_INDEX), inside, 0.0).to(WIDE)
    y = tl.load(y_ptr + _at(i, n1, n2, y0, y1, y2, DIMS, WIDE_INDEX), inside, 0).to(WIDE)
    _, slope = _sigmoid_terms(x, y, positive, negative, gamma, rate, rate_left)
    if REDUCE:
        up = tl.load(up_ptr).to(WIDE) * tl.full((), share, WIDE)
    else:
        up = tl.load(up_ptr + _at(i, n1, n2, u0, u1, u2, DIMS, WIDE_INDEX), inside, 0.0).to(WIDE)
    at = _at(i, n1, n2, g0, g1, g2, DIMS, WIDE_INDEX)
    _store(gradient_ptr + at, slope * up, inside)


@triton.jit(do_not_specialize=["count"])
def _finish(
    partial_ptr, loss_ptr, share_ptr, count, share: tl.float64,
    WEIGHTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The sum of the partial sums, always in the same order, times the share of one of them.

    If WEIGHTED, the share is 1 over the sum of the weights, which stand behind the sums.
    """
    i = tl.arange(0, BLOCK)
    total = tl.sum(tl.load(partial_ptr + i, i < count, 0.0), 0)
    if WEIGHTED:
        weight = tl.sum(tl.load(partial_ptr + count + i, i < count, 0.0), 0)
        tl.store(share_ptr, tl.where(weight == 0.0, float("nan"), 1.0 / weight))
        _store(loss_ptr, tl.where(weight == 0.0, float("nan"), total / weight), None)
    else:
        _store(loss_ptr, total * share, None)


# --- Softmax --------------------------------------------------------------------------------------
#
# A program has some rows of logits and goes through the classes in blocks. A row is an item (o, r):
# one of the dimension before the classes and one of those after them.


@triton.jit
def _multiples(a, b, c, ALIGN: tl.constexpr):
    """a, b and c, so that the compiler sees that several logits may be read or written at once."""
    return a // ALIGN * ALIGN, b // ALIGN * ALIGN, c // ALIGN * ALIGN


@triton.jit
def _relative(x, reference, EXACT: tl.constexpr):
    """e^(x - reference), 1 where they are equal, also at infinity; and what x - reference is."""
    d = x - reference
    if EXACT:
        left = _left_over(x, reference, d)
        e = _exponential(-d, -left)
        d = tl.where(tl.abs(d) < float("inf"), d + left, d)
    else:  # half types need fewer digits
        e = tl.exp2(d * 1.4426950408889634)
    is_equal = x == reference
    return tl.where(is_equal, 1.0, e), tl.where(is_equal, 0.0, d)


@triton.jit
def _exponentials(
    x_ptr, xc, t, inside, classes,
    WIDE: tl.constexpr, EXACT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A reference, and the sum of e^(x - reference) over the classes but t, in one pass.

    The reference is at most 8 below the largest logit: so it moves seldom, and each time it does
    the error of what was summed before it is made small.
    """
    reference = tl.full((ROWS,), float("-inf"), WIDE)
    total = tl.full((ROWS,), 0.0, WIDE)
    lost = total
    for start in range(0, classes, BLOCK):
        j = start + tl.arange(0, BLOCK)
        mask = inside[:, None] & (j < classes)[None, :]
        x = tl.load(x_ptr[:, None] + (j.to(tl.int64) * xc)[None, :], mask, float("-inf")).to(WIDE)
        x = tl.where(j[None, :] == t.to(tl.int32)[:, None], float("-inf"), x)
        largest = tl.max(x, 1)
        moved = tl.where(largest > reference + 8.0, largest, reference)
        kept, _ = _relative(reference, moved, True)
        e, _ = _relative(x, moved[:, None], EXACT)
        total, lost = _add(total * kept, lost * kept, tl.sum(e, 1))
        reference = moved
    total = _added(total, lost)
    # There is no limit at two infinities.
    is_wrong = (reference == float("inf")) & (total > 1.5)
    return reference, tl.where(is_wrong, float("nan"), total)


@triton.jit
def _margin(x, reference, others):
    """z = x - reference - log others, in two parts."""
    d = x - reference
    high, low = _log(others)
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
def _softmax_forward(
    x_ptr, t_ptr, w_ptr, loss_ptr, saved_ptr,
    rows, slices, classes, ignored, xo, xr, xc, to, tr, wc,
    gamma: tl.float64, gamma_ptr,
    WIDE: tl.constexpr, EXACT: tl.constexpr, REDUCE: tl.constexpr, SAVE: tl.constexpr,
    ALIGN: tl.constexpr, ALIGN_ROWS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """w_t q^gamma u of z = x_t - log (sum of the other e^x); if REDUCE, sums of it and of w_t.

    Reads x once, and for each row t, x_t and w_t: 4 bytes an element in float32. For the backward
    pass it writes three numbers a row: log sum of the other e^x in two parts, and
    G = w_t q^gamma (q + gamma p u).
    """
    gamma, rate, rate_left = _rates(gamma, gamma_ptr, WIDE)
    if ALIGN > 1:
        classes, xo, xr = _multiples(classes, xo, xr, ALIGN)
    if ALIGN_ROWS > 1:
        rows, xo, xc = _multiples(rows, xo, xc, ALIGN_ROWS)
    blocks = (rows + ROWS - 1) // ROWS
    count = tl.cast(rows, tl.int64) * slices
    loss_sum, weight_sum = tl.full((), 0.0, tl.float64), tl.full((), 0.0, tl.float64)
    for block in range(tl.program_id(0), blocks * slices, tl.num_programs(0)):
        o = tl.cast(block // blocks, tl.int64)
        r = (block % blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = r < rows
        t = tl.load(t_ptr + o * to + r * tr, inside, ignored).to(tl.int64)
        kept = inside & (t != ignored)
        is_class = (t >= 0) & (t < classes)
        t = tl.where(is_class, t, 0)
        x_row = x_ptr + o * xo + r * xr
        x_t = tl.load(x_row + t * xc, kept, 0.0).to(WIDE)
        w_t = tl.full((ROWS,), 1.0, WIDE)
        if w_ptr is not None:
            w_t = tl.load(w_ptr + t * wc, kept, 1.0).to(WIDE)
        reference, others = _exponentials(x_row, xc, t, inside, classes, WIDE, EXACT, ROWS, BLOCK)
        z, low = _margin(x_t, reference, others)
        z = tl.where(is_class | ~kept, z, float("nan"))
        p, q, u, power = _binary(z, low, rate, rate_left)
        value = tl.where(kept, _times(w_t, power * u), 0.0)
        item = o * rows + r
        if REDUCE:
            loss_sum += tl.sum(value.to(tl.float64), 0)
            weight_sum += tl.sum(tl.where(kept, w_t, 0.0).to(tl.float64), 0)
        else:
            _store(loss_ptr + item, value, inside)
        if SAVE:
            tl.store(saved_ptr + item, reference, inside)
            tl.store(saved_ptr + count + item, 1.0 / others, inside)
            slope = w_t * power * (q + gamma * _product(p, u))
            tl.store(saved_ptr + 2 * count + item, slope, inside)
    if REDUCE:
        tl.store(loss_ptr + tl.program_id(0), loss_sum)
        tl.store(loss_ptr + tl.num_programs(0) + tl.program_id(0), weight_sum)


@triton.jit(do_not_specialize=["rows", "slices", "ignored", "xo", "to", "tr", "uo", "ur", "go"])
def _softmax_backward(
    x_ptr, t_ptr, saved_ptr, up_ptr, share_ptr, gradient_ptr,
    rows, slices, classes, ignored, xo, xr, xc, to, tr, uo, ur, go, gr, gc,
    WIDE: tl.constexpr, EXACT: tl.constexpr, REDUCE: tl.constexpr,
    ALIGN: tl.constexpr, ALIGN_ROWS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """-G for class t and G e^x_j / (sum of the other e^x) for j, times what comes back.

    Reads x and writes the gradient, and reads four or five numbers a row: 8 bytes an element in
    float32.
    """
    if ALIGN > 1:
        classes, xo, xr = _multiples(classes, xo, xr, ALIGN)
        _, go, gr = _multiples(classes, go, gr, ALIGN)
    if ALIGN_ROWS > 1:
        rows, xo, xc = _multiples(rows, xo, xc, ALIGN_ROWS)
        _, go, gc = _multiples(rows, go, gc, ALIGN_ROWS)
    parts = (classes + BLOCK - 1) // BLOCK
    j = (tl.program_id(0) % parts) * BLOCK + tl.arange(0, BLOCK)
    block, blocks = tl.program_id(0) // parts, (rows + ROWS - 1) // ROWS
    o = tl.cast(block // blocks, tl.int64)
    r = (block % blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = r < rows
    t = tl.load(t_ptr + o * to + r * tr, inside, ignored).to(tl.int64)
    kept = inside & (t != ignored)
    count = tl.cast(rows, tl.int64) * slices
    saved = saved_ptr + o * rows + r
    reference = tl.load(saved, kept, 0.0)
    inverse = tl.load(saved + count, kept, 0.0)
    slope = tl.load(saved + 2 * count, kept, 0.0)
    if REDUCE:
        up = tl.load(up_ptr).to(WIDE)
    else:
        up = tl.load(up_ptr + o * uo + r * ur, kept, 0.0).to(WIDE)
    if share_ptr is not None:
        up *= tl.load(share_ptr).to(WIDE)
    slope = (slope * up)[:, None]
    mask = inside[:, None] & (j < classes)[None, :]
    is_target = j[None, :] == t.to(tl.int32)[:, None]
    j = j.to(tl.int64)
    x = tl.load(x_ptr + o * xo + (r * xr)[:, None] + (j * xc)[None, :], mask, 0.0).to(WIDE)
    e, _ = _relative(x, reference[:, None], EXACT)
    gradient = tl.where(is_target, -slope, slope * (e * inverse[:, None]))
    gradient = tl.where(kept[:, None], gradient, 0.0)  # nothing comes back to an ignored row
    _store(gradient_ptr + o * go + (r * gr)[:, None] + (j * gc)[None, :], gradient, mask)


@triton.jit
def _factors(
    y_ptr, yc, w_ptr, wc, t, j, mask, given, even, WIDE: tl.constexpr
):  # fmt: skip
    """w_j y_j of the smoothed target: probabilities, or the class index t of each row."""
    if y_ptr is None:
        y = tl.where(j[None, :] == t[:, None], given, 0.0)
    else:
        y = given * tl.load(y_ptr[:, None] + (j * yc)[None, :], mask, 0.0).to(WIDE)
    factor = tl.where(mask, y + even, 0.0)
    if w_ptr is not None:
        factor *= tl.load(w_ptr + (j * wc)[None, :], mask, 0.0).to(WIDE)
    return factor


@triton.jit
def _class_terms(x, reference, most, total, log_total, rate, rate_left, gamma, EXACT: tl.constexpr):
    """Of each class: e = e^(x - reference), whether that is more than `most`, half of the total,
    and if not q, q^gamma u and q^gamma (1 + gamma p u / q).
    """
    e, d = _relative(x, reference, EXACT)
    is_top = e > most
    odds = e / (total - tl.where(is_top, 0.0, e))
    u = log_total - d
    power = _decay(_log1p(tl.where(is_top, 0.0, odds)), None, rate, rate_left)
    return e, is_top, 1.0 / (1.0 + odds), power * u, power * (1.0 + gamma * _product(odds, u))


@triton.jit(do_not_specialize=["rows", "slices", "ignored", "xo", "to", "tr", "wc"])
def _softmax_soft_forward(
    x_ptr, t_ptr, y_ptr, w_ptr, loss_ptr, saved_ptr,
    rows, slices, classes, ignored, xo, xr, xc, to, tr, tc, wc,
    gamma: tl.float64, gamma_ptr, given: tl.float64, even: tl.float64,
    WIDE: tl.constexpr, EXACT: tl.constexpr, REDUCE: tl.constexpr, SAVE: tl.constexpr,
    ALIGN: tl.constexpr, ALIGN_ROWS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """sum_c a_c q_c^gamma u_c, a_c = w_c y_c; if REDUCE, sums of it and of w_t.

    The class that has most of the probability, if there is one, is done last: its q is the sum of
    the others' e^x, which 1 - p would have lost.

    Reads x twice, the second time from the cache if a row is not too long, and y: 4 to 12 bytes an
    element in float32. For the backward pass it writes five numbers a row.
    """
    gamma, rate, rate_left = _rates(gamma, gamma_ptr, WIDE)
    given, even = tl.full((), given, WIDE), tl.full((), even, WIDE)
    if ALIGN > 1:
        classes, xo, xr = _multiples(classes, xo, xr, ALIGN)
    if ALIGN_ROWS > 1:
        rows, xo, xc = _multiples(rows, xo, xc, ALIGN_ROWS)
    blocks = (rows + ROWS - 1) // ROWS
    count = tl.cast(rows, tl.int64) * slices
    loss_sum, weight_sum = tl.full((), 0.0, tl.float64), tl.full((), 0.0, tl.float64)
    for block in range(tl.program_id(0), blocks * slices, tl.num_programs(0)):
        o = tl.cast(block // blocks, tl.int64)
        r = (block % blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = r < rows
        kept = inside
        is_none = ~inside  # of the rows that there are, none yet
        t = tl.full((ROWS,), -1, tl.int64)
        y_row = y_ptr
        if y_ptr is None:
            t = tl.load(t_ptr + o * to + r * tr, inside, ignored).to(tl.int64)
            kept = inside & (t != ignored)
            is_none = kept & ((t < 0) | (t >= classes))
        else:
            y_row = y_ptr + o * to + r * tr
        x_row = x_ptr + o * xo + r * xr
        none = tl.full((ROWS,), -1, tl.int64)
        reference, total = _exponentials(x_row, xc, none, inside, classes, WIDE, EXACT, ROWS, BLOCK)
        is_wrong = (reference == float("-inf")) | (total != total) | is_none
        total = tl.where(is_wrong, float("nan"), total)
        high, low = _log(total)
        log_total = tl.where(is_wrong, float("nan"), high + low)
        value = tl.full((ROWS,), 0.0, WIDE)
        rest, others = value, value
        value_lost, rest_lost, others_lost = value, value, value
        x_top, a_top = value, value
        for start in range(0, classes, BLOCK):
            j = (start + tl.arange(0, BLOCK)).to(tl.int64)
            mask = inside[:, None] & (j < classes)[None, :]
            x = tl.load(x_row[:, None] + (j * xc)[None, :], mask, float("-inf")).to(WIDE)
            a = _factors(y_row, tc, w_ptr, wc, t, j, mask, given, even, WIDE)
            e, is_top, _, loss, h = _class_terms(
                x, reference[:, None], 0.5 * total[:, None], total[:, None], log_total[:, None],
                rate, rate_left, gamma, EXACT,
            )  # fmt: skip
            part = tl.sum(tl.where(is_top, 0.0, _times(a, loss)), 1)
            value, value_lost = _add(value, value_lost, part)
            part = tl.sum(tl.where(is_top, 0.0, a * h), 1)
            others, others_lost = _add(others, others_lost, part)
            rest, rest_lost = _add(rest, rest_lost, tl.sum(tl.where(is_top, 0.0, e), 1))
            x_top += tl.sum(tl.where(is_top, x, 0.0), 1)
            a_top += tl.sum(tl.where(is_top, a, 0.0), 1)
        value, rest = _added(value, value_lost), _added(rest, rest_lost)
        others = _added(others, others_lost)
        reference_at_top = tl.where(x_top == reference, 0.0, reference)
        z, low = _margin(tl.where(x_top == reference, 0.0, x_top), reference_at_top, rest)
        p, q, u, power = _binary(z, low, rate, rate_left)
        value += _times(a_top, power * u)
        value = tl.where(kept, tl.where(is_wrong, float("nan"), value), 0.0)
        item = o * rows + r
        if REDUCE:
            loss_sum += tl.sum(value.to(tl.float64), 0)
            if y_ptr is None:
                w_t = tl.where(kept, 1.0, 0.0)
                if w_ptr is not None:
                    w_t = tl.load(w_ptr + t * wc, kept & ~is_none, 0.0)
                weight_sum += tl.sum(w_t.to(tl.float64), 0)
        else:
            _store(loss_ptr + item, value, inside)
        if SAVE:
            ratio = tl.where(q > 1e-30, u / q, 1.0)
            tl.store(saved_ptr + item, reference, inside)
            tl.store(saved_ptr + count + item, total, inside)
            tl.store(saved_ptr + 2 * count + item, rest, inside)
            tl.store(saved_ptr + 3 * count + item, others, inside)
            h = tl.where(a_top == 0.0, 0.0, a_top * power * (1.0 + gamma * (p * ratio)))
            tl.store(saved_ptr + 4 * count + item, h, inside)
    if REDUCE:
        tl.store(loss_ptr + tl.program_id(0), loss_sum)
        tl.store(loss_ptr + tl.num_programs(0) + tl.program_id(0), weight_sum)


@triton.jit(
    do_not_specialize=[
        "rows", "slices", "ignored", "xo", "to", "tr", "wc", "uo", "ur", "go"
    ]
)  # fmt: skip
def _softmax_soft_backward(
    x_ptr, t_ptr, y_ptr, w_ptr, saved_ptr, up_ptr, share_ptr, gradient_ptr,
    rows, slices, classes, ignored, xo, xr, xc, to, tr, tc, wc, uo, ur, go, gr, gc,
    gamma: tl.float64, gamma_ptr, given: tl.float64, even: tl.float64,
    share: tl.float64,
    WIDE: tl.constexpr, EXACT: tl.constexpr, REDUCE: tl.constexpr,
    ALIGN: tl.constexpr, ALIGN_ROWS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """p_j (sum of the other h) - q_j h_j, with h_c = a_c q_c^gamma (1 + gamma p_c u_c / q_c), times
    what comes back from the loss.

    Reads x and y and writes the gradient, and reads six or seven numbers a row: 8 or 12 bytes an
    element in float32.
    """
    gamma, rate, rate_left = _rates(gamma, gamma_ptr, WIDE)
    given, even = tl.full((), given, WIDE), tl.full((), even, WIDE)
    if ALIGN > 1:
        classes, xo, xr = _multiples(classes, xo, xr, ALIGN)
        _, go, gr = _multiples(classes, go, gr, ALIGN)
    if ALIGN_ROWS > 1:
        rows, xo, xc = _multiples(rows, xo, xc, ALIGN_ROWS)
        _, go, gc = _multiples(rows, go, gc, ALIGN_ROWS)
    parts = (classes + BLOCK - 1) // BLOCK
    j = ((tl.program_id(0) % parts) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    block, blocks = tl.program_id(0) // parts, (rows + ROWS - 1) // ROWS
    o = tl.cast(block // blocks, tl.int64)
    r = (block % blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = r < rows
    kept = inside
    t = tl.full((ROWS,), -1, tl.int64)
    y_row = y_ptr
    if y_ptr is None:
        t = tl.load(t_ptr + o * to + r * tr, inside, ignored).to(tl.int64)
        kept = inside & (t != ignored)
    else:
        y_row = y_ptr + o * to + r * tr
    count = tl.cast(rows, tl.int64) * slices
    saved = saved_ptr + o * rows + r
    reference = tl.load(saved, kept, 0.0)[:, None]
    total = tl.load(saved + count, kept, 1.0)[:, None]
    rest = tl.load(saved + 2 * count, kept, 0.0)[:, None]
    others = tl.load(saved + 3 * count, kept, 0.0)[:, None]
    h_top = tl.load(saved + 4 * count, kept, 0.0)[:, None]
    if REDUCE:
        up = tl.load(up_ptr).to(WIDE)
        up = tl.full((ROWS,), 1.0, WIDE) * up
    else:
        up = tl.load(up_ptr + o * uo + r * ur, kept, 0.0).to(WIDE)
    if share_ptr is None:
        up *= tl.full((), share, WIDE)
    else:
        up *= tl.load(share_ptr).to(WIDE)
    mask = inside[:, None] & (j < classes)[None, :]
    x = tl.load(x_ptr + o * xo + (r * xr)[:, None] + (j * xc)[None, :], mask, 0.0).to(WIDE)
    a = _factors(y_row, tc, w_ptr, wc, t, j, mask, given, even, WIDE)
    high, low = _log(total)
    log_total = tl.where(total == total, high + low, float("nan"))
    # A little more than half: a class done here as one of many loses no digits yet, but one that
    # the forward pass has not done last must not be the last here.
    e, is_top, q, _, h = _class_terms(
        x, reference, 0.5001 * total, total, log_total, rate, rate_left, gamma, EXACT
    )
    h *= a
    p = e / total
    gradient = tl.where(is_top, p * others - rest / total * h_top, p * (others - h + h_top) - q * h)
    gradient = tl.where(kept[:, None], gradient * up[:, None], 0.0)
    _store(gradient_ptr + o * go + (r * gr)[:, None] + (j * gc)[None, :], gradient, mask)


# --- Launches -------------------------------------------------------------------------------------

_BLOCK = 1024  # elements of a program of the sigmoid loss
_TILE = 2048  # logits of a program of the softmax loss, rows times classes, in float32
_PROGRAMS = 4096  # at most so many sum losses, so that one can sum what they have
_TRITON = {torch.float32: tl.float32, torch.float64: tl.float64}


def _gamma_of(gamma: float | Tensor) -> tuple[float, Tensor | None]:
    """As a number, or where it is on the device."""
    return (0.0, gamma) if isinstance(gamma, Tensor) else (gamma, None)


def _wide(*tensors: Tensor | None) -> torch.dtype:
    """What is computed in: float64 if one of the tensors has it."""
    is_double = any(t is not None and t.dtype == torch.float64 for t in tensors)
    return torch.float64 if is_double else torch.float32


def _device(x: Tensor) -> Any:
    """Triton launches on the current device."""
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        return torch.cuda.device(x.device)
    return nullcontext()


def _flat(*tensors: Tensor) -> tuple[int, tuple[int, ...]]:
    """As few dimensions as serve all the tensors, which have one shape; and, if these are three or
    less, the last two sizes and three strides of each.
    """
    first = tensors[0]
    sizes: list[int] = []
    strides = [[0] * len(tensors)] * 2
    if all(t.is_contiguous() for t in tensors):
        strides = [*strides, [1] * len(tensors)]
    else:
        for d in sorted(range(first.ndim), key=first.stride, reverse=True):
            size, steps = first.shape[d], [t.stride(d) for t in tensors]
            if size == 1:
                continue
            if sizes and all(a == size * b for a, b in zip(strides[-1], steps, strict=True)):
                sizes[-1] *= size
                strides[-1] = steps
            else:
                sizes.append(size)
                strides.append(steps)
    last = zip(*strides[-3:], strict=True)
    return max(len(sizes), 1), (*[1, 1, *sizes][-2:], *(n for three in last for n in three))


def _sum_up(partial: Tensor, reduction_share: float | None, dtype: torch.dtype) -> list[Tensor]:
    """The loss of partial sums; and of what the mean divides by, if its share is not known."""
    weighted = reduction_share is None
    count = len(partial) // 2 if weighted else len(partial)
    loss = torch.empty((), dtype=dtype, device=partial.device)
    share = torch.empty(1 if weighted else 0, dtype=torch.float64, device=partial.device)
    block = 128 if count <= 128 else _PROGRAMS
    _finish[(1,)](partial, loss, share, count, reduction_share or 0.0, weighted, block)
    return [loss, share]


def sigmoid_forward(
    x: Tensor, y: Tensor, positive: float, negative: float,
    gamma: float | Tensor, reduction: str,
    dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """The loss, of the dtype."""
    n, wide = x.numel(), _wide(x, y)
    block = _BLOCK if wide == torch.float32 else _BLOCK // 4
    blocks = -(-n // block)
    if reduction == "none":
        programs, loss = blocks, torch.empty_like(x, dtype=dtype)
        dimensions, layout = _flat(x, y, loss)
    else:
        programs = min(blocks, _PROGRAMS)
        loss = torch.empty(programs, dtype=torch.float64, device=x.device)
        dimensions, layout = _flat(x, y, x)
    if dimensions > 3:
        options = (positive, negative, gamma, reduction, dtype)
        flat = sigmoid_forward(x.contiguous(), y.contiguous(), *options)
        return loss.copy_(flat) if reduction == "none" else flat
    with _device(x):
        if n:
            _sigmoid_forward[(programs,)](
                x, y, loss, n, blocks, *layout, positive, negative, *_gamma_of(gamma),
                dimensions, n >= 2**31, _TRITON[wide], reduction != "none", block,
            )  # fmt: skip
        if reduction == "none":
            return loss
        share = 1.0 if reduction == "sum" else 1 / n if n else math.nan
        return _sum_up(loss, share, dtype)[0]


def sigmoid_backward(
    up: Tensor,
    x: Tensor,
    y: Tensor,
    positive: float,
    negative: float,
    gamma: float | Tensor,
    reduction: str,
) -> Tensor:
    """The gradient by x, given that by the loss."""
    n, wide, reduced = x.numel(), _wide(x, y), reduction != "none"
    gradient = torch.empty_like(x)
    dimensions, layout = _flat(x, y, x if reduced else up, gradient)
    if dimensions > 3:
        tensors = (up.contiguous(), x.contiguous(), y.contiguous())
        return gradient.copy_(sigmoid_backward(*tensors, positive, negative, gamma, reduction))
    block = _BLOCK if wide == torch.float32 else _BLOCK // 4
    if n:
        with _device(x):
            _sigmoid_backward[(-(-n // block),)](
                x, y, up, gradient, n, *layout, positive, negative, *_gamma_of(gamma),
                1 / n if reduction == "mean" else 1.0,
                dimensions, n >= 2**31, _TRITON[wide], reduced, block,
            )  # fmt: skip
    return gradient


class _Layout(NamedTuple):
    """Sizes and strides of a tensor of items, with classes or without: (slices, classes, rows)."""

    slices: int
    classes: int
    rows: int
    slice: int
    class_: int
    row: int


@lru_cache(1024)
def _layout(shape: torch.Size, strides: tuple[int, ...], with_classes: bool) -> _Layout | None:
    """As many rows as there can be; None if what stands after the classes is no one dimension."""
    if 0 in shape:
        return _Layout(0, shape[1] if with_classes else 1, 0, 0, 0, 0)
    if len(shape) == with_classes:
        shape, strides = torch.Size((1, *shape)), (0, *strides)
    slices, step = shape[0], strides[0]
    classes, class_step = (shape[1], strides[1]) if with_classes else (1, 0)
    rows, row_step = 1, 0
    for d in range(len(shape) - 1, int(with_classes), -1):
        if rows == 1:
            rows, row_step = shape[d], strides[d]
        elif shape[d] != 1 and strides[d] == rows * row_step:
            rows *= shape[d]
        elif shape[d] != 1:
            return None
    if rows == 1:
        slices, step, rows, row_step = 1, 0, slices, step
    return _Layout(slices, classes, rows, step if slices > 1 else 0, class_step, row_step)


def _items(x: Tensor, with_classes: bool) -> tuple[Tensor, _Layout]:
    """The tensor, or a copy if it must be, and its layout."""
    layout = _layout(x.shape, x.stride(), with_classes)
    return (x, layout) if layout else _items(x.contiguous(), with_classes)


def _like(input: Tensor) -> Tensor:
    """Room for the gradient, which has a layout."""
    flat = input.flatten(2) if input.ndim > 2 else input
    return torch.empty_like(flat).view(input.shape)


@lru_cache(1024)
def _tile(is_double: bool, is_soft: bool, x: _Layout, *others: _Layout) -> tuple[int, ...]:
    """What sizes and strides are multiples of, where the classes of a row are neighbours in memory
    and where the rows are, else 1; rows and classes of a program; and its warps.
    """
    layouts = (x, *others)
    align = align_rows = 1
    if all(t.class_ == 1 for t in layouts):
        align = _multiple(x.classes, *(n for t in layouts for n in (t.row, t.slice)))
    if all(t.row == 1 for t in layouts):
        align_rows = _multiple(x.rows, *(n for t in layouts for n in (t.class_, t.slice)))
    size = _TILE // 2**is_double // (2 if is_double and is_soft else 1)
    most = size // 2 if is_soft else 2 * size
    if x.class_ > 1 and x.row == 1:
        most = min(most, 32)
    block = min(_power_of_two(x.classes), most)
    tile = max(1, min(_power_of_two(x.rows), size // block))
    return align, align_rows, tile, block, 4 if tile * block <= size else 8


def _multiple(*numbers: int) -> int:
    """16, 8, 4 or 1, of which all are multiples: a kernel is compiled for each."""
    common = math.gcd(16, *numbers)
    return 1 if common == 2 else common


def _power_of_two(n: int) -> int:
    """The least that is n or more."""
    return 1 << max(n - 1, 0).bit_length()


def softmax_forward(
    input: Tensor, target: Tensor, weight: Tensor | None, gamma: float | Tensor, ignored: int,
    smoothing: float, reduction: str, dtype: torch.dtype, save: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The loss, of the dtype; and for the backward pass some numbers a row, and 1 over what the
    mean divides by if it is known on the device alone.
    """
    has_index, reduced = not target.is_floating_point(), reduction != "none"
    is_soft = not has_index or smoothing > 0
    wide = _wide(input, target, weight)
    (x, at), (t, of) = _items(input, True), _items(target, not has_index)
    align, align_rows, tile, block, warps = _tile(wide == torch.float64, is_soft, at)
    items, blocks = at.slices * at.rows, at.slices * -(-at.rows // tile)
    programs = min(blocks, _PROGRAMS) if reduced else blocks
    if reduced:
        loss = torch.empty(2 * programs, dtype=torch.float64, device=x.device)
    else:
        axis = min(input.ndim - 1, 1)
        shape = input.shape[:axis] + input.shape[axis + 1 :]
        loss = torch.empty(shape, dtype=dtype, device=x.device)
    numbers = (5 if is_soft else 3) if save else 0
    saved = torch.empty((numbers, items), dtype=wide, device=x.device)
    sizes = (at.rows, at.slices, at.classes, ignored, at.slice, at.row, at.class_)
    wc = 0 if weight is None else weight.stride(0)
    meta = (_TRITON[wide], x.dtype in _TRITON, reduced, save, align, align_rows, tile, block)
    with _device(x):
        if items and is_soft:
            index, y = (t, None) if has_index else (None, t)
            _softmax_soft_forward[(programs,)](
                x, index, y, weight, loss, saved, *sizes, of.slice, of.row, of.class_, wc,
                *_gamma_of(gamma), 1 - smoothing, smoothing / at.classes,
                *meta, num_warps=warps,
            )  # fmt: skip
        elif items:
            _softmax_forward[(programs,)](
                x, t, weight, loss, saved, *sizes, of.slice, of.row, wc, *_gamma_of(gamma),
                *meta, num_warps=warps,
            )  # fmt: skip
        if not reduced:
            return loss, saved, torch.empty(0, dtype=torch.float64, device=x.device)
        if reduction == "mean" and has_index:
            loss, share = _sum_up(loss, None, dtype)
        else:
            known = 1.0 if reduction == "sum" else 1 / items if items else math.nan
            loss, share = _sum_up(loss[:programs], known, dtype)
        return loss, saved, share


def softmax_backward(
    up: Tensor, input: Tensor, target: Tensor, weight: Tensor | None, saved: Tensor, share: Tensor,
    gamma: float | Tensor, ignored: int, smoothing: float, reduction: str,
) -> Tensor:  # fmt: skip
    """The gradient by the input, given that by the loss."""
    if not saved.shape[0]:  # the forward pass was told that there would be none
        options = (gamma, ignored, smoothing, reduction, torch.float32, True)
        saved = softmax_forward(input, target, weight, *options)[1]
    has_index, reduced = not target.is_floating_point(), reduction != "none"
    is_soft = not has_index or smoothing > 0
    gradient, wide, saved = _like(input), saved.dtype, saved.contiguous()
    if not input.numel():
        return gradient
    (x, at), (t, of) = _items(input, True), _items(target, not has_index)
    _, to = _items(gradient, True)
    up, back = _items(up, False)
    align, align_rows, tile, block, warps = _tile(wide == torch.float64, is_soft, at, to)
    grid = (at.slices * -(-at.rows // tile) * -(-at.classes // block),)
    sizes = (at.rows, at.slices, at.classes, ignored, at.slice, at.row, at.class_)
    steps = (back.slice, back.row, to.slice, to.row, to.class_)
    divided = share if share.numel() else None
    meta = (_TRITON[wide], x.dtype in _TRITON, reduced, align, align_rows, tile, block)
    with _device(x):
        if is_soft:
            index, y = (t, None) if has_index else (None, t)
            wc = 0 if weight is None else weight.stride(0)
            known = 1 / (at.slices * at.rows) if reduction == "mean" else 1.0
            _softmax_soft_backward[grid](
                x, index, y, weight, saved, up, divided, gradient,
                *sizes, of.slice, of.row, of.class_, wc, *steps,
                *_gamma_of(gamma), 1 - smoothing, smoothing / at.classes, known,
                *meta, num_warps=warps,
            )  # fmt: skip
        else:
            _softmax_backward[grid](
                x, t, saved, up, divided, gradient, *sizes, of.slice, of.row, *steps,
                *meta, num_warps=warps,
            )  # fmt: skip
    return gradient


# --- Operators, for torch's compiler and for whatever else looks at what is called ----------------
#
# gamma is a tensor on the device: a compiler would compile again for each number.


@torch.library.custom_op("focal_lib::sigmoid_focal_loss", mutates_args=())
def sigmoid(
    x: Tensor, y: Tensor, positive: float, negative: float, gamma: Tensor, reduction: str,
    dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    return sigmoid_forward(x, y, positive, negative, gamma, reduction, dtype)


@torch.library.custom_op("focal_lib::sigmoid_focal_loss_backward", mutates_args=())
def _sigmoid_gradient(
    up: Tensor,
    x: Tensor,
    y: Tensor,
    positive: float,
    negative: float,
    gamma: Tensor,
    reduction: str,
) -> Tensor:
    return sigmoid_backward(up, x, y, positive, negative, gamma, reduction)


@torch.library.custom_op("focal_lib::softmax_focal_loss", mutates_args=())
def softmax(
    input: Tensor, target: Tensor, weight: Tensor | None, gamma: Tensor, ignored: int,
    smoothing: float, reduction: str, dtype: torch.dtype, save: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    options = (gamma, ignored, smoothing, reduction, dtype, save)
    return softmax_forward(input, target, weight, *options)


@torch.library.custom_op("focal_lib::softmax_focal_loss_backward", mutates_args=())
def _softmax_gradient(
    up: Tensor, input: Tensor, target: Tensor, weight: Tensor | None, saved: Tensor, share: Tensor,
    gamma: Tensor, ignored: int, smoothing: float, reduction: str,
) -> Tensor:  # fmt: skip
    options = (gamma, ignored, smoothing, reduction)
    return softmax_backward(up, input, target, weight, saved, share, *options)


@sigmoid.register_fake
def _(x, y, positive, negative, gamma, reduction, dtype):
    return torch.empty_like(x, dtype=dtype) if reduction == "none" else x.new_empty((), dtype=dtype)


@_sigmoid_gradient.register_fake
def _(up, x, y, positive, negative, gamma, reduction):
    return torch.empty_like(x)


@softmax.register_fake
def _(input, target, weight, gamma, ignored, smoothing, reduction, dtype, save):
    axis, soft = min(input.ndim - 1, 1), target.is_floating_point()
    shape = input.shape[:axis] + input.shape[axis + 1 :] if reduction == "none" else ()
    numbers = (5 if soft or smoothing else 3) if save else 0
    wide = _wide(input, target, weight)
    saved = input.new_empty((numbers, input.numel() // input.shape[axis]), dtype=wide)
    known = soft or reduction != "mean"
    share = input.new_empty(0 if known else 1, dtype=torch.float64)
    return input.new_empty(shape, dtype=dtype), saved, share


@_softmax_gradient.register_fake
def _(up, input, target, weight, saved, share, gamma, ignored, smoothing, reduction):
    return _like(input)


def _second(
    composed: Callable[[Tensor], Tensor], grad: Tensor, up: Tensor, x: Tensor
) -> tuple[Tensor, ...]:
    """The gradients, by up and by x, of the gradient of the composed loss."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        up, x = (t if t.requires_grad else t.detach().requires_grad_() for t in (up, x))
        (first,) = torch.autograd.grad(composed(x), x, up, create_graph=True)
        return torch.autograd.grad(first, (up, x), grad, create_graph=again)


def _keep_sigmoid_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3], inputs[5])
    ctx.options = *inputs[3:5], inputs[6]


def _sigmoid_second(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    up, x, y, gamma = ctx.saved_tensors
    *weights, reduction = ctx.options

    def composed(x: Tensor) -> Tensor:
        return _composed.sigmoid_loss(x, y, tuple(weights), gamma, reduction, up.dtype)

    return *_second(composed, grad, up, x), *[None] * 5


def _keep_softmax_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4], inputs[6])
    ctx.options = inputs[7:]


def _softmax_second(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    up, x, target, weight, gamma = ctx.saved_tensors
    ignored, smoothing, reduction = ctx.options
    index, kept = None, None
    if not target.is_floating_point():
        kept = target != ignored
        index = torch.where(kept, target, 0).long()

    def composed(x: Tensor) -> Tensor:
        options = (smoothing, reduction, up.dtype)
        return _composed.softmax_loss(x, index, kept, target, weight, gamma, *options)

    return *_second(composed, grad, up, x), *[None] * 8


def _keep_sigmoid(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.options = inputs[2:6]


def _sigmoid_derivative(ctx: Any, up: Tensor) -> tuple[Any, ...]:
    return _sigmoid_gradient(up, *ctx.saved_tensors, *ctx.options), *[None] * 6


def _keep_softmax(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:3], *output[1:])
    ctx.options = inputs[3:7]
    ctx.mark_non_differentiable(*output[1:])


def _softmax_derivative(ctx: Any, up: Tensor, *_: None) -> tuple[Any, ...]:
    return _softmax_gradient(up, *ctx.saved_tensors, *ctx.options), *[None] * 8


sigmoid.register_autograd(_sigmoid_derivative, setup_context=_keep_sigmoid)
softmax.register_autograd(_softmax_derivative, setup_context=_keep_softmax)
_sigmoid_gradient.register_autograd(_sigmoid_second, setup_context=_keep_sigmoid_gradient)
_softmax_gradient.register_autograd(_softmax_second, setup_context=_keep_softmax_gradient)
