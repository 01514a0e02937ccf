"""The losses composed of torch's own operations: for every device, transform and compiler.

The loss f of a margin z = log(p / q) is made from p = p_t, q = 1 - p and u = -log p, none of which
was made from another; z only carries the derivative. Autograd's own would multiply q^(gamma - 1),
which is infinite for gamma < 1 where q has rounded to 0, by 0.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
from torch.autograd import forward_ad
from torch.nn.functional import logsigmoid

from focal_lib._ways.settings import Settings

HALF = (torch.float16, torch.bfloat16)


def sigmoid_loss(
    x: Tensor,
    y: Tensor,
    weights: tuple[float, float],
    gamma: float | Tensor,
    reduction: str,
    dtype: torch.dtype,
) -> Tensor:
    """The loss of two classes, given the weights of class 1 and 0."""
    x, (positive, negative) = wide(x), weights
    y = y.to(x.dtype)
    loss = times(positive * y, sigmoid(x, gamma))
    loss = loss + times(negative * (1 - y), sigmoid(-x, gamma))
    return _reduced(loss, reduction, loss.numel()).to(dtype)


def softmax_loss(
    x: Tensor,
    index: Tensor | None,
    kept: Tensor | None,
    y: Tensor,
    weight: Tensor | None,
    gamma: float | Tensor,
    smoothing: float,
    reduction: str,
    dtype: torch.dtype,
) -> Tensor:
    """The loss of many classes: of class indices, not all of them kept, or of probabilities y."""
    axis = min(x.ndim - 1, 1)
    x = x.movedim(axis, -1)
    if kept is not None:  # nothing of an ignored item comes back
        x = torch.where(kept.unsqueeze(-1), x, 0.0)
    if index is not None and not smoothing:
        loss = softmax(x, gamma, index)
        loss = loss if weight is None else times(_weight_of(index, weight), loss)
    else:
        classes = x.shape[-1]
        if index is None:
            y = y.movedim(axis, -1)
        else:
            y = index.unsqueeze(-1) == torch.arange(classes, device=x.device)
        factor = (1 - smoothing) * y.double() + smoothing / classes
        factor = factor if weight is None else factor * weight
        loss = times(factor, softmax(x, gamma)).sum(dim=-1)
    if kept is not None:
        loss = torch.where(kept, loss, 0.0)
    total = loss.numel() if index is None else total_weight(index, kept, weight)
    return _reduced(loss, reduction, total).to(dtype)


def sigmoid_focal(x: Tensor, y: Tensor, settings: Settings) -> Tensor:
    """The loss of two classes."""
    x = wide(x)
    wider = torch.float64 if y.dtype == torch.float64 else x.dtype
    x, y = x.to(wider), y.to(wider)
    kept = torch.ones_like(y, dtype=torch.bool)
    if settings.ignored is not None:
        kept = y != settings.ignored
    y = torch.where((y >= 0) & (y <= 1), y, torch.nan)
    x, y = torch.where(kept, x, 0.0), torch.where(kept, y, 0.0)
    ones = 1.0 if settings.pos_weight is None else settings.pos_weight
    loss = times(settings.positive * ones * y, sigmoid(x, settings.gamma))
    loss = loss + times(settings.negative * (1 - y), sigmoid(-x, settings.gamma))
    if settings.weight is not None:
        loss = times(settings.weight, loss)
    loss = torch.where(kept, loss, 0.0)
    return _reduced(loss, settings.reduction, kept.sum()).to(settings.dtype)


def softmax_focal(x: Tensor, target: Tensor, settings: Settings) -> Tensor:
    """The loss of many classes."""
    axis = min(x.ndim - 1, 1)
    index, y = None, target
    if target.is_floating_point():
        kept = target.ne(settings.ignored or 0).any(dim=axis)
        y = torch.where(kept.unsqueeze(axis), target, 0.0)
        y = torch.where((y >= 0) & (y <= 1), y, torch.nan)
    else:
        kept = target.ne(settings.ignored or 0)
        index = torch.where(kept, target, 0).long()
    options = (settings.weight, settings.gamma, settings.smoothing)
    loss = softmax_loss(x, index, kept, y, *options, settings.reduction, settings.dtype)
    if target.is_floating_point() and settings.reduction == "mean":
        return loss * (kept.numel() / kept.sum())
    return loss


def composed_gradient(
    loss: Callable[[Tensor, Tensor, Settings], Tensor], up: Tensor, x: Tensor, target: Tensor,
    settings: Settings,
) -> Tensor:  # fmt: skip
    """The gradient of the composed loss, which has one itself if that is wanted."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if again else x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x, target, settings), x, up, create_graph=again)
    return gradient.to(x.dtype)


def wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in HALF else x


def times(weight: Tensor, loss: Tensor) -> Tensor:
    """weight times loss, with 0 times infinity taken as 0."""
    return weight * torch.where((weight == 0) & loss.isinf(), 0.0, loss)


def _weight_of(index: Tensor, weight: Tensor) -> Tensor:
    return weight.double().index_select(0, index.flatten()).view(index.shape)


def total_weight(index: Tensor, kept: Tensor | None, weight: Tensor | None) -> Tensor | int:
    """What the mean divides by."""
    if weight is None:
        return index.numel() if kept is None else kept.sum()
    w_t = _weight_of(index, weight)
    return (w_t if kept is None else w_t * kept).sum()


def _reduced(loss: Tensor, reduction: str, divisor: Tensor | int) -> Tensor:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if isinstance(divisor, Tensor):
        divisor = torch.where(divisor == 0, torch.nan, divisor)
    return loss.sum() / divisor


# --- Losses of margins, their functions and derivatives -------------------------------------------


def sigmoid(z: Tensor, gamma: float | Tensor) -> Tensor:
    """f(z)."""
    at = z.detach()
    if torch.compiler.is_compiling():
        z = z * 1  # in torch.func.grad the compiler takes an input and its detached self for one
    return _focal(z, at.sigmoid(), (-at).sigmoid(), -logsigmoid(at), gamma)


def softmax(x: Tensor, gamma: float | Tensor, index: Tensor | None = None) -> Tensor:
    """f_c of every class, on the last axis of x, or of the class index of each item, in float64.

    In float32 a difference of logits would lose digits.
    """
    e, below = exponentials(x.detach())
    x = x.double()
    tiny = torch.finfo(x.dtype).tiny
    if index is None:
        others = _Others.forward(e)
        z = x - torch.log(_apply(_Others, _apply(_Exponentials, x)).clamp_min(tiny))
    else:
        at = index.unsqueeze(-1)
        is_other = at != torch.arange(x.shape[-1], device=x.device)
        others = e.where(is_other, 0.0).sum(dim=-1)
        z, e, below = (v.gather(-1, at).squeeze(-1) for v in (x, e, below))
        z = z - _apply(_LogSumExp, x, is_other)
    total = e + others
    u = below + torch.log1p(others + (e - 1))  # of the largest, e is 1 and below is 0
    return _focal(z, e / total, others / total, u, gamma)


def _focal(z: Tensor, p: Tensor, q: Tensor, u: Tensor, gamma: float | Tensor) -> Tensor:
    # A compiler keeps a number that it can make a tensor of; other numbers it compiles in.
    return _apply(_Focal, z, p, q, u, (z.new_zeros(()) + gamma).to(z.dtype), 0)


def exponentials(x: Tensor) -> tuple[Tensor, Tensor]:
    """e^(x - m) and m - x along the last axis, m the largest, in float64.

    The difference is exact, a rounded one and what the rounding left (Knuth's two-sum): exp would
    make a relative error of an absolute one. The largest is 0 below itself, also at +inf; any other
    inf - inf is NaN, since there is no limit.
    """
    wide = x.double()
    largest = wide.amax(dim=-1, keepdim=True)
    difference = torch.where(_is_largest(wide) & largest.isinf(), 0.0, wide - largest)
    e = difference.exp()
    if x.dtype == torch.float64:  # the difference of two narrower numbers is not rounded
        shift = difference - x
        left = (x - (difference - shift)) - (largest + shift)
        e = e + e * torch.nan_to_num(left, 0.0, 0.0, 0.0)
    return e, -difference


def _is_largest(v: Tensor) -> Tensor:
    where = v.argmax(dim=-1, keepdim=True)
    return where == torch.arange(v.shape[-1], device=v.device)


class _Focal(torch.autograd.Function):
    """The n-th derivative of the focal loss f(z), n = 0, ..., 3."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, p: Tensor, q: Tensor, u: Tensor, gamma: Tensor, n: int) -> Tensor:
        power = q.pow(gamma)
        if n == 0:
            return power * u
        if n == 1:
            return -power * (q + gamma * _product(p, u))
        # Where p is below the normal numbers, so has lost digits, it is near times far.
        least = -math.log(torch.finfo(p.dtype).tiny)
        near = torch.where(u > least, math.exp(-least), p)
        far = torch.exp((least - u).clamp_max(0.0))
        change = q - gamma * p  # (q^gamma p)' / (q^gamma p)
        bracket = (1 + 2 * gamma) * near * q - gamma * change * _product(near, u)
        if n == 2:
            return power * bracket * far
        rest = gamma * change - (1 + 2 * gamma) * p + gamma * (1 + gamma) * _product(p, u)
        return power * (change * bracket + q * near * rest) * far

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.n = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        if ctx.n == 3:
            raise NotImplementedError("focal_lib: derivatives end with the third")
        return grad * _apply(_Focal, *ctx.saved_tensors, ctx.n + 1), *[None] * 5


def _product(p: Tensor, u: Tensor) -> Tensor:
    """p u, which tends to 0 where u is infinite."""
    return p * u.clamp_max(torch.finfo(u.dtype).max)


class _LogSumExp(torch.autograd.Function):
    """log sum e^x over some entries of the last axis, the derivative of which is their softmax."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, some: Tensor) -> Tensor:
        return x.masked_fill(~some, -torch.inf).logsumexp(dim=-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return grad.unsqueeze(-1) * _apply(_Softmax, *ctx.saved_tensors), None

    @staticmethod
    def directional(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return (tangent * _apply(_Softmax, *ctx.saved_tensors)).sum(dim=-1)


class _Softmax(torch.autograd.Function):
    """e^x over its sum, for some entries of the last axis; 0 for the others."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, some: Tensor) -> Tensor:
        e = exponentials(x)[0].where(some, 0.0)
        return e / e.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(e.dtype).tiny)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        r = _apply(_Softmax, *ctx.saved_tensors)
        # From the largest on: r_j (1 - r_j) then comes of the others, not of 1 - r_j.
        change = grad - grad.gather(-1, r.detach().argmax(dim=-1, keepdim=True))
        return r * (change - (r * change).sum(dim=-1, keepdim=True)), None


class _Exponentials(torch.autograd.Function):
    """e^(x - m) along the last axis, m the largest, as if m were constant."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return exponentials(x)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * _apply(_Exponentials, *ctx.saved_tensors)


class _Others(torch.autograd.Function):
    """For each entry the sum of the others along the last axis.

    Without the largest it is added up, not subtracted from the total: that keeps the digits of
    1 - p where p is nearly 1.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(v: Tensor) -> Tensor:
        is_largest = _is_largest(v.abs())
        largest = v.where(is_largest, 0.0).sum(dim=-1, keepdim=True)
        rest = v.where(~is_largest, 0.0).sum(dim=-1, keepdim=True)
        return torch.where(is_largest, rest, largest + (rest - v))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

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
