"""The losses of plain CPU tensors in chunks that stay in the cache, each with its gradient.

They stand in for `cpu_kernels.c` where that is not there.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from focal_lib import _margins, _xp
from focal_lib._ways.composed import (
    Items,
    factors_of,
    items_of,
    sigmoid_terms,
    softmax_terms,
    sum_of,
    value_and_slope,
    wide,
)
from focal_lib._ways.settings import Settings

# Logits in a chunk: their arrays stay in the cache, and torch divides an operation among threads
# from 2^15 numbers on. Rows of which the sums are known take one array, and several numbers a row.
_CHUNK, _CHUNK_OF_ROWS, _ROWS = 2**16, 2**18, 2**14
_UNIT = 2.0**-64  # of a sum that overflows, which a mean need not


def make_sigmoid(
    x: Tensor, y: Tensor, settings: Settings, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The loss and, if it is wanted, its gradient by x, in float32 or the wider dtype of x."""
    x_flat, y_flat = x.detach().reshape(-1), y.detach().reshape(-1)
    weight, pos_weight = (
        None if w is None else w.detach().expand_as(x).reshape(-1)
        for w in (settings.weight, settings.pos_weight)
    )
    count = x.numel()
    if settings.ignored is not None:
        count = int((y_flat != settings.ignored).sum())
    share = _share(settings, count)

    def terms(part: slice, out: Tensor | None) -> Tensor:
        of_part = settings._replace(
            weight=None if weight is None else weight[part],
            pos_weight=None if pos_weight is None else pos_weight[part],
        )
        loss, gradient, _ = sigmoid_terms(x_flat[part], y_flat[part], of_part, share)
        if out is not None:
            out.copy_(gradient)
        return loss

    loss, gradient = _by_chunks(terms, x_flat, _CHUNK, settings, share, with_gradient)
    loss = loss.view(x.shape) if settings.reduction == "none" else loss
    return loss, None if gradient is None else gradient.view(x.shape)


def make_softmax(
    x: Tensor, target: Tensor, settings: Settings, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    axis = min(x.ndim - 1, 1)
    items = items_of(x, target.detach(), settings)
    moved = x.detach().movedim(axis, -1)
    shape, classes = moved.shape, moved.shape[-1]
    rows = moved.reshape(-1, classes)
    flat = items._replace(
        class_index=None if items.class_index is None else items.class_index.reshape(-1),
        y=None if items.y is None else items.y.reshape(-1, classes),
        kept=items.kept.reshape(-1),
    )
    share = _share(settings, float(items.divisor))

    def terms(part: slice, out: Tensor | None) -> Tensor:
        of_part = flat._replace(
            class_index=None if flat.class_index is None else flat.class_index[part],
            y=None if flat.y is None else flat.y[part],
            kept=flat.kept[part],
        )
        if is_simple:
            return _of_indices(rows[part], of_part, settings, share, out)
        loss, gradient = softmax_terms(wide(rows[part]), of_part, settings, share)
        if out is not None:
            out.copy_(gradient)
        return loss

    is_simple = _is_simple(flat, settings)
    size = _ROWS if is_simple else max(1, _CHUNK // classes)
    loss, gradient = _by_chunks(terms, rows, size, settings, share, with_gradient)
    loss = loss.view(shape[:-1]) if settings.reduction == "none" else loss
    return loss, None if gradient is None else gradient.view(shape).movedim(-1, axis)


def _is_simple(items: Items, settings: Settings) -> bool:
    """Whether each item has one class, and doubles have digits to spare for the result."""
    is_one = items.class_index is not None and not settings.smoothing
    weight = settings.weight
    of_few_digits = settings.dtype != torch.float64 and settings.gamma <= _margins.LARGE
    return is_one and of_few_digits and (weight is None or weight.dtype != torch.float64)


def _of_indices(
    rows: Tensor, items: Items, settings: Settings, share: float, out: Tensor | None
) -> Tensor:
    """`softmax_terms`, where it is simple: sums of all rows, and then the gradient, in one array
    that stays in the cache.
    """
    index: Any  # there is one
    factor, index = factors_of(rows, items, 0.0)
    size = max(1, _CHUNK_OF_ROWS // rows.shape[1])
    parts = [slice(i, i + size) for i in range(0, len(rows), size)]
    room = torch.empty(min(size, len(rows)), rows.shape[1], dtype=torch.float64, device="cpu")
    largest, below, others = torch.empty(3, len(rows), 1, dtype=torch.float64, device="cpu")

    def below_largest(part: slice) -> Tensor:
        x, m = rows[part], largest[part]
        v = room[: len(x)].copy_(x).sub_(m)
        if m.isinf().any():  # as in _margins.of_rows
            v.scatter_(-1, x.argmax(dim=-1, keepdim=True), 0.0)
        return v

    for part in parts:
        largest[part] = rows[part].amax(dim=-1, keepdim=True)
        v = below_largest(part)
        below[part] = v.gather(-1, index[part])
        others[part] = _xp.sum_of_rows(torch, v.exp_().scatter_(-1, index[part], 0.0))
    own, is_top = below.exp(), below == 0
    rest = torch.where(is_top, others, own + (others - 1))
    p, q, u, others, _ = _margins.of_sums(torch, own, rest, is_top, below)
    margin = _margins.Margin(p, q, u, _margins.power(torch, q, settings.gamma / 2, True))
    loss, slope = value_and_slope(margin, factor, share, settings)
    if out is not None:
        pull = -slope / others.clamp_min(torch.finfo(others.dtype).tiny)
        for part in parts:
            v = below_largest(part).exp_().mul_(pull[part])
            out[part] = v.scatter_(-1, index[part], slope[part])
        if not items.kept.all():
            out[~items.kept] = 0.0
    result: Tensor = _xp.zero_where(torch, ~items.kept, loss.squeeze(-1))
    return result


def _by_chunks(
    terms: Callable[[slice, Tensor | None], Tensor],
    x: Tensor,
    size: int,
    settings: Settings,
    share: float,
    with_gradient: bool,
) -> tuple[Tensor, Tensor | None]:
    """The loss and its gradient, by terms that return that of a chunk and store this."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    gradient = torch.empty(x.shape, dtype=dtype, device="cpu") if with_gradient else None
    is_each = settings.reduction == "none"
    losses = torch.empty(len(x) if is_each else 0, dtype=settings.dtype, device="cpu")
    sums = []
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        loss = terms(part, None if gradient is None else gradient[part])
        if is_each:
            losses[part] = loss
        else:
            total = sum_of(loss)
            sums.append((total, sum_of(loss * _UNIT) if total.isinf() else total * _UNIT))
    if not is_each:
        total, small = (sum_of(torch.stack(v)) * share for v in zip(*sums, strict=True))
        losses = (small / _UNIT if total.isinf() else total).to(settings.dtype)
    return losses, gradient


def _share(settings: Settings, count: float) -> float:
    return 1 / (count or torch.nan) if settings.reduction == "mean" else 1.0
