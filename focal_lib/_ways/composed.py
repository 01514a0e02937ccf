"""The losses composed of torch's own operations: for every device, transform and compiler.

All is in float64, or in float32 on a device that has nothing wider. The loss f of a margin
z = log(p / q) is made from p, q and u as `focal_lib._margins` makes them; z only carries the
derivative. Autograd's own would multiply q^(gamma - 1), which is infinite for gamma < 1 where q has
rounded to 0, by 0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
from torch.autograd import forward_ad

from focal_lib import _margins, _xp
from focal_lib._tensors import can_look, class_indices, in_range
from focal_lib._ways.settings import Settings


def sigmoid_focal(x: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """The loss of two classes."""
    if _is_exporting():
        loss, gradient, count = sigmoid_terms(x, y, settings)
        return reduced(_carried(wide(x), loss, gradient), settings, count)
    x, y, kept = _elements(x, y, settings)
    one, zero = _label_weights(y, settings)
    loss = _of_margin(x, settings, one) + _of_margin(-x, settings, zero)
    loss = loss if kept is None else torch.where(kept, loss, 0.0)
    return reduced(loss, settings, loss.numel() if kept is None else kept.sum())


def softmax_focal(x: Tensor, target: Tensor, settings: Settings) -> Tensor:
    """The loss of many classes."""
    axis = min(x.ndim - 1, 1)
    x, items = wide(x).movedim(axis, -1), items_of(x, target, settings)
    if _is_exporting():
        loss = _carried(x, *softmax_terms(x, items, settings))
        return reduced(loss, settings, items.divisor)
    x = torch.where(items.kept.unsqueeze(-1), x, 0.0)  # nothing of an ignored item comes back
    factor, index = factors_of(x, items, settings.smoothing)
    loss = _xp.sum_of_rows(torch, _of_rows(x, settings, factor, index)).squeeze(-1)
    return reduced(torch.where(items.kept, loss, 0.0), settings, items.divisor)


def composed_gradient(
    loss: Callable[[Tensor, Tensor, Settings], Tensor],
    up: Tensor,
    x: Tensor,
    target: Tensor,
    settings: Settings,
) -> Tensor:
    """The gradient of the composed loss, which has one itself if that is wanted."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if again else x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x, target, settings), x, up, create_graph=again)
    return gradient.to(x.dtype)


# --- The same in closed form, without autograd ----------------------------------------------------


def sigmoid_terms(
    x: Tensor, y: Tensor, settings: Settings, share: float = 1.0
) -> tuple[Tensor, Tensor, Any]:
    """The loss of each element, its derivative times the share, and how many are kept."""
    x, y, kept = _elements(x.detach(), y.detach(), settings)
    one, zero = _label_weights(y, settings)

    def terms(z: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        margin = _margins.of_logit(
            torch, z, settings.gamma, settings.is_weighted, is_single(z, settings)
        )
        return value_and_slope(margin, factor, share, settings)

    if (
        can_look(y) and y.numel() and (y * (1 - y)).amax() == 0
    ):  # labels, of which only one has a factor
        sign = 2 * y - 1
        loss, slope = terms(sign * x, one + zero)
        gradient = sign * slope
    else:
        (loss, slope), (loss_zero, slope_zero) = terms(x, one), terms(-x, zero)
        loss, gradient = loss + loss_zero, slope - slope_zero
    if kept is None:
        return loss, gradient, loss.numel()
    loss, gradient = (_xp.zero_where(torch, ~kept, v) for v in (loss, gradient))
    return loss, gradient, kept.sum()


def softmax_terms(
    x: Tensor, items: "Items", settings: Settings, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The loss of each item, and its gradient times the share, with the classes last."""
    left_out, is_weighted = ~items.kept, settings.is_weighted
    x = _xp.zero_where(torch, left_out.unsqueeze(-1), x.detach())
    factor, index = factors_of(x, items, settings.smoothing)
    rows = _margins.of_rows(torch, x, is_single(x, settings))
    margin, scale, others = _margins.of_classes(torch, rows, index, settings.gamma, is_weighted)
    loss, slope = value_and_slope(margin, factor, share, settings)
    gradient = _margins.gradient_of_rows(rows, index, slope, others, scale, is_weighted)
    gradient = _xp.zero_where(torch, left_out.unsqueeze(-1), gradient)
    loss = _xp.sum_of_rows(torch, loss).squeeze(-1)
    return _xp.zero_where(torch, left_out, loss), gradient


def is_single(x: Tensor, settings: Settings) -> bool:
    """Whether the result has so many fewer digits than x that some may be lost on the way."""
    return x.dtype == torch.float64 != settings.dtype


def value_and_slope(
    margin: _margins.Margin, factor: Tensor, share: float, settings: Settings
) -> tuple[Tensor, Tensor]:
    value: Tensor = _margins.focal(torch, 0, margin, settings.gamma, factor)
    return value, _margins.focal(torch, 1, margin, settings.gamma, factor * share)


def _carried(x: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
    """The loss with a gradient that was made beside it: an exporter drops that of a Function."""
    at = x.detach()
    infinite = torch.where(gradient == 0, 0.0, gradient * x)
    moved = torch.where(at.isinf(), infinite, gradient * (x - at))
    return loss + (moved if moved.ndim == loss.ndim else moved.sum(dim=-1))


# --- Arguments and sums ---------------------------------------------------------------------------


def has_float64(device: torch.device) -> bool:
    if device.type == "xpu":
        return bool(torch.xpu.get_device_properties(device).has_fp64)
    return device.type != "mps"


def _wide_dtype(device: torch.device) -> torch.dtype:
    return torch.float64 if has_float64(device) else torch.float32


def wide(x: Tensor) -> Tensor:
    return x.to(_wide_dtype(x.device))


def _elements(x: Tensor, y: Tensor, settings: Settings) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits, targets and which elements are kept, if not all."""
    x, kept = wide(x), None
    y = y.to(x.dtype)
    if settings.ignored is not None:
        kept = y != settings.ignored
        x, y = torch.where(kept, x, 0.0), torch.where(kept, y, 0.0)
    return x, in_range("targets", y), kept


def _label_weights(y: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """The factors of the losses of the labels 1 and 0."""
    one, zero = settings.positive * y, settings.negative * (1 - y)
    if settings.pos_weight is not None:
        one = settings.pos_weight * one
    if settings.weight is not None:
        one, zero = settings.weight * one, settings.weight * zero
    return one, zero


class Items(NamedTuple):
    """The targets of the softmax loss, with the classes last."""

    class_index: Tensor | None  # class indices, 0 where they are not kept
    y: Tensor | None  # or class probabilities
    kept: Tensor
    good: Tensor | None  # NaN where an index is wrong, which may not be looked at, else 1
    weight: Tensor | None  # of the classes, in the unit of the divisor
    divisor: Tensor  # of the mean


def items_of(x: Tensor, target: Tensor, settings: Settings) -> Items:
    axis = min(x.ndim - 1, 1)
    dtype = _wide_dtype(x.device)
    weight = None if settings.weight is None else settings.weight.to(dtype)
    if target.is_floating_point():
        y = target.movedim(axis, -1).to(dtype)
        kept = y.ne(settings.ignored or 0).any(dim=-1)
        y = in_range("target", torch.where(kept.unsqueeze(-1), y, 0.0))
        return Items(None, y, kept, None, weight, kept.sum())
    index, kept, wrong = class_indices(target, x.shape[axis], settings.ignored or 0)
    good = None
    if wrong is not None:
        good = torch.where(wrong, torch.nan, torch.ones((), dtype=dtype, device=x.device))
    if weight is None:
        return Items(index, None, kept, good, None, kept.sum())
    total = weight.index_select(0, index.flatten()).view(index.shape) * kept
    if settings.reduction == "mean" and index.numel():
        # A mean does not depend on the unit of weights; in that of the largest none is rounded.
        largest = total.detach().amax()
        unit = torch.where(largest > 0, torch.exp2(torch.floor(torch.log2(largest))), 1.0)
        total, weight = total / unit, weight / unit
    return Items(index, None, kept, good, weight, sum_of(total))


def factors_of(x: Tensor, items: Items, smoothing: float) -> tuple[Tensor, Tensor | None]:
    """The factors of the losses of all classes, or of those of an index, which is the second."""
    index, classes = items.class_index, x.shape[-1]
    if index is not None and not smoothing:
        index = index.unsqueeze(-1)
        factor = torch.ones((), dtype=_wide_dtype(x.device), device=x.device).expand(index.shape)
        if items.weight is not None:
            factor = items.weight.index_select(0, index.flatten()).view(index.shape)
    else:
        y = items.y
        if y is None:
            every = torch.arange(classes, device=x.device)
            y = (items.class_index.unsqueeze(-1) == every).to(x.dtype)  # type: ignore[union-attr]
        factor = (1 - smoothing) * y + smoothing / classes
        factor, index = (factor if items.weight is None else factor * items.weight), None
    return factor if items.good is None else factor * items.good.unsqueeze(-1), index


def times(weight: Tensor, loss: Tensor) -> Tensor:
    """weight times loss, with 0 times infinity taken as 0."""
    return weight * torch.where((weight == 0) & loss.isinf(), 0.0, loss)


def reduced(loss: Tensor, settings: Settings, count: Tensor | int) -> Tensor:
    """The losses, their sum or their mean, given what that divides by."""
    if settings.reduction == "none":
        return loss.to(settings.dtype)
    scale: Tensor | None = None
    if loss.numel() and settings.dtype == loss.dtype:  # a sum that a mean need not have overflows
        large = torch.finfo(loss.dtype).max ** 0.9
        scale = torch.where(loss.detach().amax() > large, 2.0**-30, 1.0).to(loss.dtype)
    total = sum_of(loss if scale is None else loss * scale)
    if settings.reduction == "mean":
        count = torch.as_tensor(count, dtype=loss.dtype, device=loss.device)
        total = total / torch.where(count == 0, torch.nan, count)
    return (total if scale is None else total / scale).to(settings.dtype)


def sum_of(v: Tensor) -> Tensor:
    """The sum, in an order that does not depend on the number of threads."""
    if v.is_cpu and not torch.compiler.is_compiling():
        v = _xp.sum_of_rows(torch, v.reshape(-1))
    return v.sum()


def _is_exporting() -> bool:
    return bool(getattr(torch.compiler, "is_exporting", bool)())


# --- Losses of margins, their functions and derivatives -------------------------------------------


def _of_margin(z: Tensor, settings: Settings, factor: Tensor) -> Tensor:
    """The factor times f(z)."""
    at = z.detach()
    if torch.compiler.is_compiling():
        z = z * 1  # in torch.func.grad the compiler takes an input and its detached self for one
    single = is_single(at, settings)
    margin = _margins.of_logit(torch, at, settings.gamma, settings.is_weighted, single)
    return _focal(z, margin, settings, factor)


def _of_rows(x: Tensor, settings: Settings, factor: Tensor, index: Tensor | None) -> Tensor:
    """The factor times f_c, of every class, on the last axis of x, or of the index of each item."""
    rows = _margins.of_rows(torch, x.detach(), is_single(x, settings))
    margin = _margins.of_classes(torch, rows, index, settings.gamma, settings.is_weighted)[0]
    if index is None:
        others = _apply(_Others, _apply(_Exponentials, x))
        log = torch.log(others.clamp_min(torch.finfo(x.dtype).tiny))
        if settings.is_weighted:  # the others of the largest may be below the normal numbers
            below = _apply(_LogSumExp, x, ~rows.is_largest).unsqueeze(-1)
            log = torch.where(rows.is_largest, below, log)
        z = x - log
    else:
        is_other = index != torch.arange(x.shape[-1], device=x.device)
        z = x.gather(-1, index) - _apply(_LogSumExp, x, is_other).unsqueeze(-1)
    return _focal(z, margin, settings, factor)


def _focal(z: Tensor, margin: _margins.Margin, settings: Settings, factor: Tensor) -> Tensor:
    p, q, u, root, drop, root_p = margin
    root = root * 1 if root is q else root  # the compiler refuses a tensor that is there twice
    # A compiler keeps a number that it can make a tensor of; other numbers it compiles in.
    number = (z.new_zeros(()) + settings.gamma).to(z.dtype)
    if not settings.is_weighted:
        return times(factor, _apply(_Focal, z, p, q, u, root, root_p, number, None, None, 0))
    # What is small without its weight, as are its derivatives, is made with a power of 2 for it.
    scale = torch.exp2(torch.floor(torch.log2(factor.detach().clamp_min(1.0))))
    drop = drop if isinstance(drop, Tensor) else None  # 1
    loss = _apply(_Focal, z, p, q, u, root, root_p, number, drop, scale, 0)
    return times(factor / scale, loss)


class _Focal(torch.autograd.Function):
    """The scale times the n-th derivative of the focal loss f(z), n = 0, ..., 3."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        z: Tensor,
        p: Tensor,
        q: Tensor,
        u: Tensor,
        root: Tensor,
        root_p: Tensor,
        gamma: Tensor,
        drop: Tensor | None,
        scale: Tensor | None,
        n: int,
    ) -> Tensor:
        margin = _margins.Margin(p, q, u, root, 1.0 if drop is None else drop, root_p)
        value: Tensor = _margins.focal(torch, n, margin, gamma, scale)
        return value

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.n = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        if ctx.n == 3:
            raise NotImplementedError("focal_lib: derivatives end with the third")
        return grad * _apply(_Focal, *ctx.saved_tensors, ctx.n + 1), *[None] * 9


class _SavesInputs(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)


class _LogSumExp(_SavesInputs):
    """log sum e^x over some entries of the last axis, the derivative of which is their softmax."""

    @staticmethod
    def forward(x: Tensor, some: Tensor) -> Tensor:
        return x.masked_fill(~some, -torch.inf).logsumexp(dim=-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return grad.unsqueeze(-1) * _apply(_Softmax, *ctx.saved_tensors), None

    @staticmethod
    def directional(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        product = tangent * _apply(_Softmax, *ctx.saved_tensors)
        result: Tensor = _xp.sum_of_rows(torch, product).squeeze(-1)
        return result


class _Softmax(_SavesInputs):
    """e^x over its sum, for some entries of the last axis; 0 for the others."""

    @staticmethod
    def forward(x: Tensor, some: Tensor) -> Tensor:
        x = x.masked_fill(~some, -torch.inf)
        e = _exponentials(x).where(x != -torch.inf, 0.0)
        total: Tensor = _xp.sum_of_rows(torch, e)
        return e / total.clamp_min(torch.finfo(e.dtype).tiny)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        r = _apply(_Softmax, *ctx.saved_tensors)
        # From the largest on: r_j (1 - r_j) then comes of the others, not of 1 - r_j.
        change = grad - grad.gather(-1, r.detach().argmax(dim=-1, keepdim=True))
        return r * (change - _xp.sum_of_rows(torch, r * change)), None


class _Exponentials(_SavesInputs):
    """e^(x - m) along the last axis, m the largest, as if m were constant."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _exponentials(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * _apply(_Exponentials, *ctx.saved_tensors)


def _exponentials(x: Tensor) -> Tensor:
    power: Tensor = _margins.of_rows(torch, x).times(torch.ones_like(x[..., :1]))
    return power


class _Others(_SavesInputs):
    """The sum of the others along the last axis, which is symmetric."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass  # nothing of it is needed

    @staticmethod
    def forward(v: Tensor) -> Tensor:
        result: Tensor = _margins.sum_of_others(torch, v)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _apply(_Others, grad)


def _with_jvp(function: Any) -> Any:
    """The function with derivatives in forward mode: but for one the Jacobians are symmetric."""

    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        result: Tensor | tuple[Tensor, ...] = function.backward(ctx, tangent)
        return result[0] if isinstance(result, tuple) else result

    jvp = getattr(function, "directional", jvp)
    return type(function.__name__, (function,), {"jvp": staticmethod(jvp)})


_WITH_JVP = {
    function: _with_jvp(function)
    for function in (_Focal, _LogSumExp, _Softmax, _Exponentials, _Others)
}


def _apply(function: Any, *arguments: Any) -> Tensor:
    # torch's compiler refuses functions that have a jvp, and torch gives 0 for the jvp of a jvp.
    if torch.compiler.is_compiling():
        _refuse_what_a_compiler_gets_wrong()
    else:
        function = _WITH_JVP[function]
        levels = torch._C._functorch.get_interpreter_stack() or ()
        if sum(level.key() == torch._C._functorch.TransformType.Jvp for level in levels) > 1:
            raise NotImplementedError(
                "focal_lib: no forward-mode derivative of a forward-mode derivative; "
                "torch.func.hessian, or jacrev outside or inside, gives it"
            )
    result: Tensor = function.apply(*arguments)
    return result


def _refuse_what_a_compiler_gets_wrong() -> None:
    """It would give 0, or a result without a gradient; where it may, it runs this uncompiled."""
    if forward_ad._current_level >= 0:
        raise NotImplementedError("focal_lib: no forward-mode derivative under torch.compile")
    if torch._C._functorch.get_dynamic_layer_stack_depth() and torch.is_grad_enabled():
        if retrieve_current_functorch_interpreter().key() == torch._C._functorch.TransformType.Vmap:
            raise NotImplementedError(
                "focal_lib: no vmap under torch.compile, except under torch.no_grad()"
            )
