"""The losses of plain CPU tensors in chunks that stay in the cache, each with its gradient.

They stand in for `cpu_kernels.c` where that is not there.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from focal_lib._ways.composed import items_of, reduced, sigmoid_terms, softmax_terms, wide
from focal_lib._ways.settings import Settings

_CHUNK = 2**14  # logits, so that the arrays between stay in the cache
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

    def terms(part: slice, share: float) -> tuple[Tensor, Tensor]:
        of_part = settings._replace(
            weight=None if weight is None else weight[part],
            pos_weight=None if pos_weight is None else pos_weight[part],
        )
        return sigmoid_terms(x_flat[part], y_flat[part], of_part, share)[:2]

    loss, gradient = _by_chunks(terms, x_flat, _CHUNK, settings, count, with_gradient)
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

    def terms(part: slice, share: float) -> tuple[Tensor, Tensor]:
        of_part = flat._replace(
            class_index=None if flat.class_index is None else flat.class_index[part],
            y=None if flat.y is None else flat.y[part],
            kept=flat.kept[part],
        )
        return softmax_terms(wide(rows[part]), of_part, settings, share)

    size, count = max(1, _CHUNK // classes), float(items.divisor)
    loss, gradient = _by_chunks(terms, rows, size, settings, count, with_gradient)
    loss = loss.view(shape[:-1]) if settings.reduction == "none" else loss
    return loss, None if gradient is None else gradient.view(shape).movedim(-1, axis)


def _by_chunks(
    terms: Callable[[slice, float], tuple[Tensor, Tensor]],
    x: Tensor,
    size: int,
    settings: Settings,
    count: float,
    with_gradient: bool,
) -> tuple[Tensor, Tensor | None]:
    dtype = torch.promote_types(x.dtype, torch.float32)
    losses = torch.empty(
        x.shape[:1] if settings.reduction == "none" else 0, dtype=settings.dtype, device="cpu"
    )
    gradient = torch.empty(x.shape, dtype=dtype, device="cpu") if with_gradient else None
    share = 1 / (count or torch.nan) if settings.reduction == "mean" else 1.0
    sums, a_sum = [], settings._replace(reduction="sum", dtype=torch.float64)
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        loss, slope = terms(part, share)
        if settings.reduction == "none":
            losses[part] = loss
        else:
            sums.append(torch.stack([reduced(v, a_sum, 0) for v in (loss, loss * _UNIT)]))
        if gradient is not None:
            gradient[part] = slope
    if settings.reduction != "none":
        total, small = torch.stack(sums, dim=1).sum(dim=1) * share
        losses = torch.where(total.isinf(), small / _UNIT, total).to(settings.dtype)
    return losses, gradient
