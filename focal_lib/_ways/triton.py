"""The losses of CUDA tensors by Triton kernels: how they are launched.

The host decides by shapes, types and settings, never by a value: it does not wait for the device.
The kernels are in triton_kernels.py. With TRITON_INTERPRET=1 in the environment they run on CPU
tensors, in Python. The operators at the end are the same losses for torch's compiler and for
whatever else looks at what is called.

Float64 inputs are computed in float64, all others in float32; and since a large gamma multiplies
the rounding errors of log (1 - p), these in float64 as well beyond _LARGE, and those in two parts.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
import triton.language as tl
from torch import Tensor

from focal_lib._tensors import is_plain
from focal_lib._ways import composed
from focal_lib._ways import triton_kernels as kernels
from focal_lib._ways.settings import Settings


def sigmoid_focal(x: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """The loss of two classes, differentiable by x."""
    if _is_watched(x, y, settings.weight, settings.pos_weight):
        loss: Tensor = sigmoid_focal_operator(
            x, y, settings.weight, settings.pos_weight, _tensor_of(settings.gamma, x),
            settings.gamma > _LARGE, settings.positive, settings.negative, settings.ignored,
            settings.reduction, settings.dtype,
        )[0]  # fmt: skip
        return loss
    if not (x.requires_grad and torch.is_grad_enabled()):
        return launch_sigmoid_forward(x, y, _gamma_of(settings), settings)[0]
    loss = _SigmoidFocal.apply(x, y, settings)  # type: ignore[no-untyped-call]
    return loss


def softmax_focal(x: Tensor, target: Tensor, settings: Settings) -> Tensor:
    """The loss of many classes, differentiable by x."""
    if _is_watched(x, target, settings.weight):
        save = torch.is_grad_enabled()  # also of a logit that a transform has wrapped
        loss: Tensor = softmax_focal_operator(
            x, target, settings.weight, _tensor_of(settings.gamma, x), settings.gamma > _LARGE,
            cast(int, settings.ignored), settings.smoothing, settings.reduction, settings.dtype,
            save,
        )[0]  # fmt: skip
        return loss
    if not (x.requires_grad and torch.is_grad_enabled()):
        return launch_softmax_forward(x, target, _gamma_of(settings), settings, False)[0]
    loss = _SoftmaxFocal.apply(x, target, settings)  # type: ignore[no-untyped-call]
    return loss


def _is_watched(*tensors: Tensor | None) -> bool:
    """Whether something looks at what is called, a compiler or a dispatch mode, or is no memory."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or any(t is not None and type(t) not in (Tensor, torch.nn.Parameter) for t in tensors)
    )


def _tensor_of(value: float, like: Tensor) -> Tensor:
    """The number on the device, in a way that a compiler does not take it for a constant."""
    return like.new_zeros((), dtype=torch.float64) + value


class _SigmoidFocal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, settings: Settings) -> Tensor:
        loss, share = launch_sigmoid_forward(x, y, _gamma_of(settings), settings)
        ctx.save_for_backward(x, y, settings.weight, settings.pos_weight, share)
        ctx.settings = settings._replace(weight=None, pos_weight=None)
        return loss

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor, None, None]:
        x, y, weight, pos_weight, share = ctx.saved_tensors
        settings = ctx.settings._replace(weight=weight, pos_weight=pos_weight)
        if torch.is_grad_enabled() or not is_plain(up):
            gradient = composed.composed_gradient(composed.sigmoid_focal, up, x, y, settings)
        else:
            gradient = launch_sigmoid_backward(up, x, y, share, _gamma_of(settings), settings)
        return gradient, None, None


class _SoftmaxFocal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor, settings: Settings) -> Tensor:
        loss, *kept = launch_softmax_forward(x, target, _gamma_of(settings), settings, True)
        ctx.save_for_backward(x, target, settings.weight, *kept)
        ctx.settings = settings._replace(weight=None)
        return loss

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor, None, None]:
        x, target, weight, saved, share = ctx.saved_tensors
        settings = ctx.settings._replace(weight=weight)
        if torch.is_grad_enabled() or not is_plain(up):
            gradient = composed.composed_gradient(composed.softmax_focal, up, x, target, settings)
        else:
            gamma = _gamma_of(settings)
            gradient = launch_softmax_backward(up, x, target, saved, share, gamma, settings)
        return gradient, None, None


# --- Launches -------------------------------------------------------------------------------------

_BLOCK = 1024  # elements of a program of the sigmoid loss
_TILE = 2048  # logits of a program of the softmax loss, rows times classes, in float32
_PROGRAMS = 4096  # at most so many sum losses, so that one can sum what they have
_LARGE = 16.0  # a gamma beyond needs more digits
_TRITON = {torch.float32: tl.float32, torch.float64: tl.float64}


class _Gamma(NamedTuple):
    """A number, or where it is on the device; and whether it is large."""

    value: float
    pointer: Tensor | None
    is_large: bool

    @property
    def arguments(self) -> dict[str, Any]:
        return {"gamma": self.value, "gamma_ptr": self.pointer}


def _gamma_of(settings: Settings) -> _Gamma:
    return _Gamma(settings.gamma, None, settings.gamma > _LARGE)


def _precision(gamma: _Gamma, *tensors: Tensor | None) -> tuple[torch.dtype, bool]:
    """What is computed in, and whether in two parts where that counts."""
    is_double = any(t is not None and t.dtype == torch.float64 for t in tensors)
    wide = torch.float64 if is_double or gamma.is_large else torch.float32
    return wide, is_double and gamma.is_large


def _device(x: Tensor) -> Any:
    """Triton launches on the current device."""
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        return torch.cuda.device(x.device)
    return nullcontext()


def _flat(**named: Tensor | None) -> dict[str, int] | None:
    """As few dimensions as serve all the tensors, which have one shape: the last two sizes, and by
    the tensors' names three strides of each, 0 where there is none. None if they are more than 3.
    """
    tensors = {name: t for name, t in named.items() if t is not None}
    first = next(iter(tensors.values()))
    sizes: list[int] = []
    strides = [[0] * len(tensors)] * 2
    if all(t.is_contiguous() for t in tensors.values()):
        strides = [*strides, [1] * len(tensors)]
    else:
        for d in sorted(range(first.ndim), key=first.stride, reverse=True):
            size, steps = first.shape[d], [t.stride(d) for t in tensors.values()]
            if size == 1:
                continue
            if sizes and all(a == size * b for a, b in zip(strides[-1], steps, strict=True)):
                sizes[-1] *= size
                strides[-1] = steps
            else:
                sizes.append(size)
                strides.append(steps)
    if len(sizes) > 3:
        return None
    layout = {"n1": [1, 1, *sizes][-2], "n2": [1, 1, *sizes][-1], "DIMS": max(len(sizes), 1)}
    for d, steps in enumerate(strides[-3:]):
        layout |= {f"{name}{d}": 0 for name in named}
        layout |= {f"{name}{d}": step for name, step in zip(tensors, steps, strict=True)}
    return layout


def _sum_up(partial: Tensor, settings: Settings, divisor: float | None) -> tuple[Tensor, Tensor]:
    """The loss of partial sums; and 1 over what a mean divides by: the divisor, if it is known."""
    is_mean, weighted = settings.reduction == "mean", divisor is None
    count = len(partial) // 2 if weighted else len(partial)
    loss = torch.empty((), dtype=settings.dtype, device=partial.device)
    share = torch.empty(int(is_mean), dtype=torch.float64, device=partial.device)
    kernels.sum_up[(1,)](
        partial_ptr=partial, loss_ptr=loss, share_ptr=share, count=count,
        divisor=divisor or 0.0, MEAN=is_mean, WEIGHTED=weighted,
        BLOCK=128 if count <= 128 else _PROGRAMS,
    )  # fmt: skip
    return loss, share


def _not_empty(share: Tensor) -> Tensor | None:
    return share if share.numel() else None


def _sigmoid_arguments(
    x: Tensor, y: Tensor, gamma: _Gamma, settings: Settings
) -> tuple[Tensor | None, Tensor | None, dict[str, Any]]:
    """The weights in the shape of x; and what both passes are launched with."""
    w, v = (t if t is None else t.expand_as(x) for t in (settings.weight, settings.pos_weight))
    wide, precise = _precision(gamma, x, y, w, v)
    return w, v, {
        "n": x.numel(), "positive": settings.positive, "negative": settings.negative,
        "ignored": math.nan if settings.ignored is None else settings.ignored,
        **gamma.arguments, "WIDE_INDEX": x.numel() >= 2**31,
        "WIDE": _TRITON[wide], "PRECISE": precise, "REDUCE": settings.reduction != "none",
        "BLOCK": _BLOCK if wide == torch.float32 else _BLOCK // 4,
    }  # fmt: skip


def launch_sigmoid_forward(
    x: Tensor, y: Tensor, gamma: _Gamma, settings: Settings
) -> tuple[Tensor, Tensor]:
    """The loss, and of a mean 1 over what it divides by."""
    w, v, arguments = _sigmoid_arguments(x, y, gamma, settings)
    n, reduced = x.numel(), settings.reduction != "none"
    counts = settings.reduction == "mean" and settings.ignored is not None
    blocks = -(-n // arguments["BLOCK"])
    programs = min(blocks, _PROGRAMS) if reduced else blocks
    if reduced:
        loss = torch.empty((1 + counts) * programs, dtype=torch.float64, device=x.device)
    else:
        loss = torch.empty_like(x, dtype=settings.dtype)
    layout = _flat(x=x, y=y, w=w, v=v, l=None if reduced else loss)
    if layout is None:
        dense = settings._replace(
            weight=None if w is None else w.contiguous(),
            pos_weight=None if v is None else v.contiguous(),
        )
        result, share = launch_sigmoid_forward(x.contiguous(), y.contiguous(), gamma, dense)
        return (result if reduced else loss.copy_(result)), share
    with _device(x):
        if n:
            kernels.sigmoid_focal_forward[(programs,)](
                x_ptr=x, y_ptr=y, w_ptr=w, v_ptr=v, loss_ptr=loss, blocks=blocks,
                **layout, **arguments, COUNT=counts,
            )  # fmt: skip
        if reduced:
            return _sum_up(loss, settings, None if counts else n)
    return loss, torch.empty(0, dtype=torch.float64, device=x.device)


def launch_sigmoid_backward(
    up: Tensor, x: Tensor, y: Tensor, share: Tensor, gamma: _Gamma, settings: Settings
) -> Tensor:
    """The gradient by x, given that by the loss."""
    w, v, arguments = _sigmoid_arguments(x, y, gamma, settings)
    gradient, reduced = torch.empty_like(x), settings.reduction != "none"
    layout = _flat(x=x, y=y, w=w, v=v, u=None if reduced else up, g=gradient)
    if layout is None:
        dense = settings._replace(
            weight=None if w is None else w.contiguous(),
            pos_weight=None if v is None else v.contiguous(),
        )
        tensors = (up.contiguous(), x.contiguous(), y.contiguous())
        return gradient.copy_(launch_sigmoid_backward(*tensors, share, gamma, dense))
    if x.numel():
        with _device(x):
            kernels.sigmoid_focal_backward[(-(-x.numel() // arguments["BLOCK"]),)](
                x_ptr=x, y_ptr=y, w_ptr=w, v_ptr=v, up_ptr=up, share_ptr=_not_empty(share),
                gradient_ptr=gradient, **layout, **arguments,
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


def _softmax_arguments(
    x: Tensor, target: Tensor, gamma: _Gamma, settings: Settings, gradient: Tensor | None = None
) -> tuple[bool, _Layout, dict[str, Any]]:
    """Whether targets are soft; the layout of x; and what the passes of either are launched with.

    The tensors that are launched with are among it: they may be copies.
    """
    has_index = not target.is_floating_point()
    is_soft = not has_index or settings.smoothing > 0
    wide, precise = _precision(gamma, x, target, settings.weight)
    (x, at), (target, of) = _items(x, True), _items(target, not has_index)
    to = None if gradient is None else _items(gradient, True)[1]
    align, align_rows, tile, block, warps = _tile(
        wide == torch.float64, is_soft, at, *([] if to is None else [to])
    )
    arguments = {
        "x_ptr": x, "rows": at.rows, "slices": at.slices, "classes": at.classes,
        "ignored": settings.ignored, "xo": at.slice, "xr": at.row, "xc": at.class_,
        "to": of.slice, "tr": of.row,
        "WIDE": _TRITON[wide], "EXACT": x.dtype in _TRITON, "REDUCE": settings.reduction != "none",
        "ALIGN": align, "ALIGN_ROWS": align_rows, "ROWS": tile, "BLOCK": block, "num_warps": warps,
    }  # fmt: skip
    if to is not None:
        arguments |= {"gradient_ptr": gradient, "go": to.slice, "gr": to.row, "gc": to.class_}
    if to is None or is_soft:
        arguments |= {"w_ptr": settings.weight, **gamma.arguments, "PRECISE": precise}
        arguments["wc"] = 0 if settings.weight is None else settings.weight.stride(0)
    arguments["t_ptr"] = target if has_index else None
    if is_soft:
        arguments["y_ptr"], arguments["tc"] = None if has_index else target, of.class_
        arguments["given"], arguments["even"] = (
            1 - settings.smoothing, settings.smoothing / at.classes
        )  # fmt: skip
    return is_soft, at, arguments


def _saved_numbers(is_soft: bool, precise: bool) -> int:
    """What the softmax loss keeps of a row for its backward pass."""
    return 5 + precise if is_soft else 3


def launch_softmax_forward(
    x: Tensor, target: Tensor, gamma: _Gamma, settings: Settings, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss; for the backward pass, if it is to be saved, some numbers a row; and of a mean 1
    over what it divides by.
    """
    is_soft, at, arguments = _softmax_arguments(x, target, gamma, settings)
    reduced = settings.reduction != "none"
    items, blocks = at.slices * at.rows, at.slices * -(-at.rows // arguments["ROWS"])
    programs = min(blocks, _PROGRAMS) if reduced else blocks
    if reduced:
        loss = torch.empty(2 * programs, dtype=torch.float64, device=x.device)
    else:
        axis = min(x.ndim - 1, 1)
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        loss = torch.empty(shape, dtype=settings.dtype, device=x.device)
    wide, precise = _precision(gamma, x, target, settings.weight)
    numbers = _saved_numbers(is_soft, precise) if save else 0
    saved = torch.empty((numbers, items), dtype=wide, device=x.device)
    kernel = kernels.softmax_focal_soft_forward if is_soft else kernels.softmax_focal_forward
    with _device(x):
        if items:
            kernel[(programs,)](loss_ptr=loss, saved_ptr=saved, SAVE=save, **arguments)
        if reduced:
            loss, share = _sum_up(loss, settings, None)
            return loss, saved, share
    return loss, saved, torch.empty(0, dtype=torch.float64, device=x.device)


def launch_softmax_backward(
    up: Tensor, x: Tensor, target: Tensor, saved: Tensor, share: Tensor, gamma: _Gamma,
    settings: Settings,
) -> Tensor:  # fmt: skip
    """The gradient by x, given that by the loss."""
    if not saved.shape[0]:  # the forward pass was told that there would be none
        saved = launch_softmax_forward(x, target, gamma, settings, True)[1]
    gradient = _like(x)
    if not x.numel():
        return gradient
    is_soft, at, arguments = _softmax_arguments(x, target, gamma, settings, gradient)
    up, back = _items(up, False)
    grid = (at.slices * -(-at.rows // arguments["ROWS"]) * -(-at.classes // arguments["BLOCK"]),)
    kernel = kernels.softmax_focal_soft_backward if is_soft else kernels.softmax_focal_backward
    with _device(x):
        kernel[grid](
            saved_ptr=saved.contiguous(), up_ptr=up, share_ptr=_not_empty(share),
            uo=back.slice, ur=back.row, **arguments,
        )  # fmt: skip
    return gradient


# --- Operators ------------------------------------------------------------------------------------
#
# gamma is a tensor on the device: a compiler would compile again for each number.


def _sigmoid_settings(
    weight: Tensor | None, pos_weight: Tensor | None, gamma: Tensor, positive: float,
    negative: float, ignored: int | None, reduction: str, dtype: torch.dtype,
) -> Settings:  # fmt: skip
    """The settings, with a gamma that is a tensor, as `composed` takes it, too."""
    number = cast(float, gamma)
    return Settings(number, reduction, dtype, weight, ignored, positive, negative, pos_weight)


def _softmax_settings(
    weight: Tensor | None, gamma: Tensor, ignored: int, smoothing: float, reduction: str,
    dtype: torch.dtype,
) -> Settings:  # fmt: skip
    number = cast(float, gamma)
    return Settings(number, reduction, dtype, weight, ignored, smoothing=smoothing)


@torch.library.custom_op("focal_lib::sigmoid_focal_loss", mutates_args=())
def sigmoid_focal_operator(
    x: Tensor, y: Tensor, weight: Tensor | None, pos_weight: Tensor | None, gamma: Tensor,
    is_large: bool, positive: float, negative: float, ignored: int | None, reduction: str,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    settings = _sigmoid_settings(
        weight, pos_weight, gamma, positive, negative, ignored, reduction, dtype
    )
    return launch_sigmoid_forward(x, y, _Gamma(0.0, gamma, is_large), settings)


@torch.library.custom_op("focal_lib::sigmoid_focal_loss_backward", mutates_args=())
def _sigmoid_gradient(
    up: Tensor, x: Tensor, y: Tensor, weight: Tensor | None, pos_weight: Tensor | None,
    share: Tensor, gamma: Tensor, is_large: bool, positive: float, negative: float,
    ignored: int | None, reduction: str,
) -> Tensor:  # fmt: skip
    settings = _sigmoid_settings(
        weight, pos_weight, gamma, positive, negative, ignored, reduction, up.dtype
    )
    return launch_sigmoid_backward(up, x, y, share, _Gamma(0.0, gamma, is_large), settings)


@torch.library.custom_op("focal_lib::softmax_focal_loss", mutates_args=())
def softmax_focal_operator(
    x: Tensor, target: Tensor, weight: Tensor | None, gamma: Tensor, is_large: bool, ignored: int,
    smoothing: float, reduction: str, dtype: torch.dtype, save: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    settings = _softmax_settings(weight, gamma, ignored, smoothing, reduction, dtype)
    return launch_softmax_forward(x, target, _Gamma(0.0, gamma, is_large), settings, save)


@torch.library.custom_op("focal_lib::softmax_focal_loss_backward", mutates_args=())
def _softmax_gradient(
    up: Tensor, x: Tensor, target: Tensor, weight: Tensor | None, saved: Tensor, share: Tensor,
    gamma: Tensor, is_large: bool, ignored: int, smoothing: float, reduction: str,
) -> Tensor:  # fmt: skip
    settings = _softmax_settings(weight, gamma, ignored, smoothing, reduction, up.dtype)
    gamma_there = _Gamma(0.0, gamma, is_large)
    return launch_softmax_backward(up, x, target, saved, share, gamma_there, settings)


def _empty_share(x: Tensor, reduction: str) -> Tensor:
    return x.new_empty(int(reduction == "mean"), dtype=torch.float64)


@sigmoid_focal_operator.register_fake
def _(
    x: Tensor, y: Tensor, weight: Tensor | None, pos_weight: Tensor | None, gamma: Tensor,
    is_large: bool, positive: float, negative: float, ignored: int | None, reduction: str,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    loss = torch.empty_like(x, dtype=dtype) if reduction == "none" else x.new_empty((), dtype=dtype)
    return loss, _empty_share(x, reduction)


@_sigmoid_gradient.register_fake
def _(up: Tensor, x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@softmax_focal_operator.register_fake
def _(
    x: Tensor, target: Tensor, weight: Tensor | None, gamma: Tensor, is_large: bool, ignored: int,
    smoothing: float, reduction: str, dtype: torch.dtype, save: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    axis = min(x.ndim - 1, 1)
    shape = x.shape[:axis] + x.shape[axis + 1 :] if reduction == "none" else ()
    wide, precise = _precision(_Gamma(0.0, gamma, is_large), x, target, weight)
    is_soft = target.is_floating_point() or smoothing > 0
    numbers = _saved_numbers(is_soft, precise) if save else 0
    saved = x.new_empty((numbers, x.numel() // x.shape[axis]), dtype=wide)
    return x.new_empty(shape, dtype=dtype), saved, _empty_share(x, reduction)


@_softmax_gradient.register_fake
def _(up: Tensor, x: Tensor, *_: Any) -> Tensor:
    return _like(x)


def _second(
    loss: Callable[[Tensor, Tensor, Settings], Tensor], settings_of: Callable[..., Settings],
    others: int,
) -> Callable[[Any, Tensor], tuple[Any, ...]]:  # fmt: skip
    """The derivative of a loss's gradient by up and x, composed; the other arguments have none."""

    def derivative(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        up, x, target, *tensors = ctx.saved_tensors
        settings, again = settings_of(*tensors, *ctx.options), torch.is_grad_enabled()
        with torch.enable_grad():
            up, x = (t if t.requires_grad else t.detach().requires_grad_() for t in (up, x))
            value = loss(x, target, settings)
            (first,) = torch.autograd.grad(value, x, up, create_graph=True)
            second = torch.autograd.grad(first, (up, x), grad, create_graph=again)
        return *second, *[None] * others

    return derivative


def _save_sigmoid(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, y, weight, pos_weight, gamma, *options, _ = inputs
    ctx.save_for_backward(x, y, weight, pos_weight, output[1], gamma)
    ctx.options = options
    ctx.mark_non_differentiable(output[1])


def _sigmoid_derivative(ctx: Any, up: Tensor, *_: None) -> tuple[Any, ...]:
    return _sigmoid_gradient(up, *ctx.saved_tensors, *ctx.options), *[None] * 10


def _save_sigmoid_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    up, x, y, weight, pos_weight, _, gamma, _, *options = inputs
    ctx.save_for_backward(up, x, y, weight, pos_weight, gamma)
    ctx.options = *options, up.dtype


def _save_softmax(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, target, weight, gamma, *options, _, _ = inputs
    ctx.save_for_backward(x, target, weight, *output[1:], gamma)
    ctx.options = options
    ctx.mark_non_differentiable(*output[1:])


def _softmax_derivative(ctx: Any, up: Tensor, *_: None) -> tuple[Any, ...]:
    return _softmax_gradient(up, *ctx.saved_tensors, *ctx.options), *[None] * 9


def _save_softmax_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    up, x, target, weight, _, _, gamma, _, *options = inputs
    ctx.save_for_backward(up, x, target, weight, gamma)
    ctx.options = *options, up.dtype


sigmoid_focal_operator.register_autograd(_sigmoid_derivative, setup_context=_save_sigmoid)
softmax_focal_operator.register_autograd(_softmax_derivative, setup_context=_save_softmax)
_sigmoid_gradient.register_autograd(
    _second(composed.sigmoid_focal, _sigmoid_settings, 10), setup_context=_save_sigmoid_gradient
)
_softmax_gradient.register_autograd(
    _second(composed.softmax_focal, _softmax_settings, 9), setup_context=_save_softmax_gradient
)
