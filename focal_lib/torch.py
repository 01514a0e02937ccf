"""The losses on torch tensors, on CPU and CUDA, with first and second derivatives in closed form.

Half types (float16, bfloat16) are computed in float32 and rounded once. Values are checked on the
CPU only: on CUDA a look at a value would stall the device. Shapes, types and settings are checked
everywhere.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from focal_lib import _checks

# --- In p_t, as the text states them ---


def target_probability(p: Tensor, y: Tensor) -> Tensor:
    """The probability of the label that came out: p_t = p if y = 1, 1 - p if y = 0.

    As `focal_lib.numpy.target_probability`, on tensors that broadcast.
    """
    _check_values("p", p, "probabilities in [0, 1]", 0, 1)
    _check_labels(y)
    return torch.where(y == 1, p, 1 - p)


def target_weight(alpha: float, y: Tensor) -> Tensor:
    """The weight of the label that came out: alpha_t = alpha if y = 1, 1 - alpha if y = 0.

    As `focal_lib.numpy.target_weight`; the result has torch's default dtype.
    """
    weight = _checks.fraction("alpha", alpha)
    _check_labels(y)
    return torch.where(y == 1, weight, 1 - weight)


def cross_entropy(p_t: Tensor) -> Tensor:
    """Cross entropy: CE(p_t) = -log p_t. As `focal_lib.numpy.cross_entropy`."""
    return focal_loss(p_t, 0.0)


def balanced_cross_entropy(p_t: Tensor, alpha_t: Tensor | float) -> Tensor:
    """Balanced cross entropy: -alpha_t log p_t. As `focal_lib.numpy.balanced_cross_entropy`."""
    return focal_loss(p_t, 0.0, alpha_t)


def modulating_factor(p_t: Tensor, gamma: float) -> Tensor:
    """The modulating factor: (1 - p_t)^gamma, 0^0 = 1. As `focal_lib.numpy.modulating_factor`."""
    _check_values("p_t", p_t, "probabilities in [0, 1]", 0, 1)
    return (1 - p_t) ** _checks.gamma(gamma)


def focal_loss(p_t: Tensor, gamma: float, alpha_t: Tensor | float = 1.0) -> Tensor:
    """Focal loss: -alpha_t (1 - p_t)^gamma log p_t. As `focal_lib.numpy.focal_loss`.

    For the text and for tests; to train, use the losses of logits. Here a p_t that was rounded to 1
    has lost its 1 - p_t, and the derivative at p_t = 1 is NaN for 0 < gamma < 1.
    """
    factor = modulating_factor(p_t, gamma)
    weight = torch.as_tensor(alpha_t, dtype=p_t.dtype, device=p_t.device)
    _check_values("alpha_t", weight, "weights >= 0", 0, None)
    return _weighted(weight, factor * (0.0 - torch.log(p_t)))


# --- Of logits ---


def sigmoid_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Tensor:
    """Focal loss of logits, two classes: torchvision.ops.sigmoid_focal_loss, computed stably.

    With s = 2y - 1, z = s x and q = sigma(-z) = 1 - p_t::

        FL = alpha_t q^gamma softplus(-z)

    A soft target y gives the expectation y FL(x, 1) + (1 - y) FL(x, 0); torchvision has another
    rule there.

    Parameters: ``inputs``, logits, a floating-point tensor of any shape; ``targets`` in [0, 1], of
    the same shape, floating-point, integer or bool; ``alpha`` in [0, 1], the weight of class 1, or
    None (or exactly -1): no weight; ``gamma`` >= 0; ``reduction``: "none" (the shape of inputs),
    "mean" (over all elements; NaN of none) or "sum". The result has the dtype of ``inputs``.
    Values, gradients and second derivatives are finite for every finite logit and every gamma.
    Raises: TypeError or ValueError naming the argument.
    Source: Lin et al. 2017, equation 5; the book's eq-focal-alpha, prop-focal-gradient.

    The naive formula's gradient is 0 times infinity where p_t rounds to 1 and gamma < 1:

    >>> import torch
    >>> x = torch.tensor(20.0, requires_grad=True)
    >>> naive = (1 - torch.sigmoid(x)) ** 0.5 * -torch.log(torch.sigmoid(x))
    >>> torch.autograd.grad(naive, x)[0].item()
    nan
    >>> loss = sigmoid_focal_loss(x, torch.tensor(1), alpha=None, gamma=0.5)
    >>> f"{torch.autograd.grad(loss, x)[0].item():.4g}"
    '-1.404e-13'
    """
    _check_logits("inputs", inputs)
    _check_tensor("targets", targets)
    if targets.shape != inputs.shape:
        raise ValueError(
            f"targets: takes the shape of inputs, {tuple(inputs.shape)}, got {tuple(targets.shape)}"
        )
    _check_values("targets", targets, "values in [0, 1]", 0, 1)
    weight = _checks.alpha(alpha)
    power = _checks.gamma(gamma)
    _checks.reduction(reduction)

    x = _wide(inputs)
    y = targets.to(x.dtype)
    positive, negative = (y, 1 - y) if weight is None else (weight * y, (1 - weight) * (1 - y))
    loss = _weighted(positive, _focal(x, power)) + _weighted(negative, _focal(-x, power))
    return _reduced(loss, reduction, loss.numel()).to(inputs.dtype)


def softmax_focal_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Focal loss of logits, many classes: F.cross_entropy with a gamma.

    With p = softmax(x), f_c = (1 - p_c)^gamma (-log p_c) and class weights w_c::

        FL = sum_c w_c y_c f_c

    for class probabilities y: the expectation of the loss under the target distribution. A class
    index t is y_c = [c = t]. Label smoothing e replaces y by (1 - e) y + e / C.

    Parameters: ``input``, logits, floating-point, (C,), (N, C) or (N, C, d1, ...); ``target``,
    class indices (an integer tensor of the shape without C) or class probabilities (floating-point,
    of the shape of ``input``); ``weight``, (C,), >= 0; ``ignore_index``: items with this class
    index cost nothing and are not counted; ``reduction``: "none", "sum" or "mean". The mean divides by the sum
    of w_t over the items kept (class indices; the unsmoothed target's weight), or by the number of
    items (class probabilities), as F.cross_entropy does; it is NaN where that is 0. The result has
    the dtype of ``input``. With gamma = 0 this is F.cross_entropy.
    Raises: TypeError or ValueError naming the argument.
    Source: the multi-class form of Lin et al. 2017, section 3; the book's eq-multiclass, def-mean.

    In float32, 1 - softmax rounds to 0 on an easy example; here nothing is lost:

    >>> import torch
    >>> x = torch.tensor([[20.0, 0.0, 0.0]])
    >>> 1 - torch.softmax(x, dim=1)[0, 0].item()
    0.0
    >>> f"{softmax_focal_loss(x, torch.tensor([0]), gamma=1.0).item():.4g}"
    '1.699e-17'
    """
    _check_logits("input", input)
    if input.ndim == 0:
        raise ValueError("input: takes logits (C,), (N, C) or (N, C, d1, ...), got a number")
    axis = 0 if input.ndim == 1 else 1
    classes = input.shape[axis]
    items = input.shape[:axis] + input.shape[axis + 1 :]
    if classes == 0:
        raise ValueError("input: takes at least one class, got none")
    power = _checks.gamma(gamma)
    ignored = _checks.index("ignore_index", ignore_index)
    _checks.reduction(reduction)
    smoothing = _checks.fraction("label_smoothing", label_smoothing)

    x = _wide(input.movedim(axis, -1).reshape(-1, classes))
    w = _class_weights(weight, x)
    _check_tensor("target", target)
    normalizer: Tensor | int
    if target.is_floating_point() and target.shape == input.shape:
        _check_values("target", target, "class probabilities in [0, 1]", 0, 1)
        y = target.movedim(axis, -1).reshape(-1, classes).to(x.dtype)
        a = w * ((1 - smoothing) * y + smoothing / classes)
        normalizer = x.shape[0]
    elif _is_integer(target) and target.shape == items:
        t = target.reshape(-1)
        kept = t != ignored
        if _can_look(t) and not bool((((t >= 0) & (t < classes)) | ~kept).all()):
            raise ValueError(
                f"target: takes class indices from 0 to {classes - 1} or ignore_index = {ignored}, "
                f"got {sorted(set(t[kept].tolist()) - set(range(classes)))}"
            )
        t = torch.where(kept, t, 0).long()
        y = (t.unsqueeze(-1) == torch.arange(classes, device=t.device)).to(x.dtype)
        a = w * ((1 - smoothing) * y + smoothing / classes) * kept.unsqueeze(-1)
        normalizer = (w[t] * kept).sum()
    else:
        raise (ValueError if _is_integer(target) or target.is_floating_point() else TypeError)(
            f"target: takes class indices (integers) of shape {tuple(items)} or class "
            f"probabilities (floats) of shape {tuple(input.shape)}, got {target.dtype} of shape "
            f"{tuple(target.shape)}"
        )
    loss = _weighted(a, _focal(_margins(x), power)).sum(dim=-1)
    if reduction == "none":
        loss = loss.reshape(items)
    return _reduced(loss, reduction, normalizer).to(input.dtype)


class SigmoidFocalLoss(torch.nn.Module):
    """`sigmoid_focal_loss` as a module; the settings are that function's, with its defaults."""

    def __init__(
        self, alpha: float | None = 0.25, gamma: float = 2.0, reduction: str = "none"
    ) -> None:
        super().__init__()
        _checks.alpha(alpha)
        self.alpha = alpha
        self.gamma = _checks.gamma(gamma)
        self.reduction = _checks.reduction(reduction)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return sigmoid_focal_loss(inputs, targets, self.alpha, self.gamma, self.reduction)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, gamma={self.gamma}, reduction={self.reduction!r}"


class SoftmaxFocalLoss(torch.nn.Module):
    """`softmax_focal_loss` as a module; the settings are that function's, with its defaults.

    ``weight`` is a buffer: it moves with the module and is saved with it.
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        gamma: float = 2.0,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if weight is not None:
            _check_class_weights(weight)
        self.register_buffer("weight", weight)
        self.gamma = _checks.gamma(gamma)
        self.ignore_index = _checks.index("ignore_index", ignore_index)
        self.reduction = _checks.reduction(reduction)
        self.label_smoothing = _checks.fraction("label_smoothing", label_smoothing)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return softmax_focal_loss(
            input,
            target,
            self.weight,
            gamma=self.gamma,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )

    def extra_repr(self) -> str:
        weight = "None" if self.weight is None else f"<{len(self.weight)} classes>"
        return (
            f"weight={weight}, gamma={self.gamma}, ignore_index={self.ignore_index}, "
            f"reduction={self.reduction!r}, label_smoothing={self.label_smoothing}"
        )


# --- How: the loss of a margin and its derivatives, and the margins of a softmax ---


class _Focal(torch.autograd.Function):
    """f(z) = q^gamma u of the margin z, with p = sigma(z), q = 1 - p, u = -log p."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, gamma: float) -> Tensor:
        return torch.sigmoid(-z).pow(gamma) * -logsigmoid(z)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        z, ctx.gamma = inputs
        ctx.save_for_backward(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        return grad * _FocalSlope.apply(z, ctx.gamma), None  # type: ignore[no-untyped-call]


class _FocalSlope(torch.autograd.Function):
    """f'(z) = -q^gamma (q + gamma p u), and f'' in closed form as its derivative.

    Autograd's own derivative of f would multiply q^(gamma - 1), infinite for gamma < 1, by 0.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, gamma: float) -> Tensor:
        _, q, pu = _parts(z)
        return -q.pow(gamma) * (q + gamma * pu)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        z, ctx.gamma = inputs
        ctx.save_for_backward(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        gamma = ctx.gamma
        p, q, pu = _parts(z)
        bracket = (1 + 2 * gamma) * p * q - gamma * (1 - (1 + gamma) * p) * pu
        return grad * q.pow(gamma) * bracket, None


def _parts(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    p = torch.sigmoid(z)
    pu = torch.where(p == 0, 0.0, -p * logsigmoid(z))  # 0 at z = -inf, its limit
    return p, torch.sigmoid(-z), pu


class _Margins(torch.autograd.Function):
    """z_c = x_c - log sum_{j != c} e^{x_j} along the last axis, so that p_c = sigma(z_c).

    dz_c/dx_j is 1 for j = c and -p_j / q_c otherwise.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        d, e, others, largest = _exponentials(x)
        # The sum without c: `others` for the largest, at least 1 for every other class.
        return torch.where(largest, -torch.log(others), d - torch.log1p(others - e))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        _, e, others, largest = _exponentials(x)
        total = e.where(largest, 0.0).sum(dim=-1, keepdim=True) + others
        p = e / total
        q = torch.where(largest, others / total, 1 - p)
        # Where q vanishes so does a loss's derivative by the margin: their ratio adds nothing.
        ratio = torch.where(q == 0, 0.0, grad / torch.where(q == 0, 1.0, q))
        slope = grad - p * (ratio.sum(dim=-1, keepdim=True) - ratio)
        # No limit exists at two logits of +inf, but an item that does not count has gradient 0.
        unused = ~(grad != 0).any(dim=-1, keepdim=True)
        return torch.where(unused & slope.isnan(), 0.0, slope)


def _exponentials(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """d = x less its largest, e^d, the sum of e^d without the largest, and where that one is.

    Adding up the others without the largest keeps the digits of 1 - p where p is nearly 1.
    """
    where = x.argmax(dim=-1, keepdim=True)
    largest = where == torch.arange(x.shape[-1], device=x.device)
    reference = x.gather(-1, where).detach()
    # inf - inf at a single +inf is 0; at two of them, or where all are -inf, it stays NaN.
    d = torch.where(largest & reference.isinf(), 0.0, x - reference)
    e = torch.exp(d)
    return d, e, e.where(~largest, 0.0).sum(dim=-1, keepdim=True), largest


def _focal(z: Tensor, gamma: float) -> Tensor:
    loss: Tensor = _Focal.apply(z, gamma)  # type: ignore[no-untyped-call]
    return loss


def _margins(x: Tensor) -> Tensor:
    z: Tensor = _Margins.apply(x)  # type: ignore[no-untyped-call]
    return z


def _weighted(weight: Tensor, loss: Tensor) -> Tensor:
    """The product, with 0 times infinity taken as 0."""
    return weight * torch.where((weight == 0) & (loss == torch.inf), 0.0, loss)


def _reduced(loss: Tensor, reduction: str, normalizer: Tensor | int) -> Tensor:
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / normalizer


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


# --- Checks ---


def _can_look(x: Tensor) -> bool:
    """Whether reading a value of x is free: not on a device, in a compiler or under vmap."""
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def _is_integer(x: Tensor) -> bool:
    return not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)


def _check_tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: takes a tensor, got {type(value).__name__}")
    if value.is_complex():
        raise TypeError(f"{name}: takes a real tensor, got {value.dtype}")


def _check_logits(name: str, value: Any) -> None:
    _check_tensor(name, value)
    if not value.is_floating_point():
        raise TypeError(f"{name}: takes a floating-point tensor, got {value.dtype}")


def _check_values(name: str, value: Any, takes: str, low: float, high: float | None) -> None:
    _check_tensor(name, value)
    if _can_look(value):
        good = (value >= low) if high is None else (value >= low) & (value <= high)
        if not bool(good.all()):
            raise ValueError(f"{name}: takes {takes}, got {value[~good][0].item()}")


def _check_labels(y: Any) -> None:
    _check_tensor("y", y)
    if _can_look(y) and not bool(((y == 0) | (y == 1)).all()):
        raise ValueError("y: takes labels 0 and 1")


def _check_class_weights(weight: Any) -> None:
    _check_logits("weight", weight)
    if weight.ndim != 1:
        raise ValueError(f"weight: takes one number a class, (C,), got {tuple(weight.shape)}")
    _check_values("weight", weight, "finite numbers >= 0", 0, torch.finfo(weight.dtype).max)


def _class_weights(weight: Tensor | None, x: Tensor) -> Tensor:
    if weight is None:
        return x.new_ones(x.shape[-1])
    _check_class_weights(weight)
    if weight.shape[0] != x.shape[-1]:
        raise ValueError(
            f"weight: takes one number a class, ({x.shape[-1]},), got {tuple(weight.shape)}"
        )
    if weight.device != x.device:
        raise ValueError(f"weight: takes a tensor on {x.device}, got one on {weight.device}")
    return weight.to(x.dtype)
