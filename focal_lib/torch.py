"""The losses on torch tensors, on CPU and CUDA, with three derivatives in closed form.

The names, arguments and errors are those of `focal_lib.numpy`. Results have the dtype and the
device of the first argument; half types (float16, bfloat16) are computed in a wider one and rounded
once, or left in float32 under autocast. Values are checked on the CPU only: on CUDA a look at a
value would stall the device, and a class index that is none gives NaN. Shapes, types and settings
are checked everywhere.

CUDA tensors take fused Triton kernels where there is Triton 3.6 or newer, as with torch 2.11 and
newer; elsewhere, and for what the kernels do not have (the gradient by targets or class weights,
second derivatives, transforms), torch's operations compute the same.

torch 2.4 and newer do. From torch 2.13 on, ``torch.compile(fullgraph=True)`` and ``torch.export``
take a loss; an older torch runs it uncompiled, between the compiled parts of a model.

`sigmoid_focal_loss` takes the place of torchvision.ops.sigmoid_focal_loss, and `softmax_focal_loss`
that of torch.nn.functional.cross_entropy. Where they differ from those on purpose, mostly by an
error for bad input and a true value for a rounded one, is a table in the book's Library reference.
"""

import math
import os
from collections.abc import Callable
from importlib import import_module, util
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad

from focal_lib import _checks
from focal_lib._ways import composed as _composed
from focal_lib._ways import cpu as _cpu
from focal_lib._ways.settings import Settings


def _triton_kernels() -> Any:
    """The kernels, if this torch has CUDA (or Triton interprets) and there is a Triton for them."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if not (torch.version.cuda or interpreted) or util.find_spec("triton") is None:
        return None
    version = tuple(int(part) for part in import_module("triton").__version__.split(".")[:2])
    return import_module("focal_lib._ways.triton") if version >= (3, 6) else None


_triton = _triton_kernels()
_TRITON_DEVICE = "cuda"

# --- The definitions, in p_t ----------------------------------------------------------------------


def target_probability(p: Tensor, y: Tensor) -> Tensor:
    """The probability of the label that came out: p_t = p if y = 1, 1 - p if y = 0.

    As `focal_lib.numpy.target_probability`, on tensors that broadcast.
    """
    _check_floating("p", p)
    _check_values("p", p, 1)
    _check_labels(y)
    return torch.where(y == 1, p, 1 - p)


def target_weight(alpha: float | None, y: Tensor) -> Tensor:
    """The weight of the label that came out: alpha_t = alpha if y = 1, 1 - alpha if y = 0.

    As `focal_lib.numpy.target_weight`; the result has torch's default dtype.
    """
    positive, negative = _checks.class_weights(alpha)
    _check_labels(y)
    return torch.where(y == 1, positive, negative)


def cross_entropy(p_t: Tensor) -> Tensor:
    """Cross entropy: CE(p_t) = -log p_t. As `focal_lib.numpy.cross_entropy`."""
    return focal_loss(p_t, 0.0)


def balanced_cross_entropy(p_t: Tensor, alpha_t: Tensor | float) -> Tensor:
    """Balanced cross entropy: -alpha_t log p_t. As `focal_lib.numpy.balanced_cross_entropy`."""
    return focal_loss(p_t, 0.0, alpha_t)


def modulating_factor(p_t: Tensor, gamma: float) -> Tensor:
    """The modulating factor: (1 - p_t)^gamma, 0^0 = 1. As `focal_lib.numpy.modulating_factor`."""
    _check_floating("p_t", p_t)
    _check_values("p_t", p_t, 1)
    return ((1 - _composed.wide(p_t)) ** _checks.nonnegative("gamma", gamma)).to(p_t.dtype)


def focal_loss(p_t: Tensor, gamma: float, alpha_t: Tensor | float = 1.0) -> Tensor:
    """Focal loss: -alpha_t (1 - p_t)^gamma log p_t. As `focal_lib.numpy.focal_loss`.

    For the text and for tests. To train, use the losses of logits: a p_t that was rounded to 1 has
    lost its 1 - p_t, and the derivative at p_t = 1 is NaN for 0 < gamma < 1.
    """
    _check_floating("p_t", p_t)
    _check_values("p_t", p_t, 1)
    exponent = _checks.nonnegative("gamma", gamma)
    probability = _composed.wide(p_t)
    if isinstance(alpha_t, Tensor):
        _check_values("alpha_t", alpha_t)
        weight = alpha_t.to(probability.dtype)
    else:
        weight = probability.new_full((), _checks.nonnegative("alpha_t", alpha_t))
    loss = (1 - probability) ** exponent * (0 - torch.log(probability))  # 0 -: no negative zero
    return _composed.times(weight, loss).to(p_t.dtype)


# --- Two classes, in logits -----------------------------------------------------------------------


def sigmoid_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Tensor:
    """Focal loss of two classes, from logits: torchvision.ops.sigmoid_focal_loss, exact.

    With s = 2y - 1, z = s x, q = sigma(-z) = 1 - p_t and u = log(1 + e^-z) = -log p_t::

        FL = alpha_t q^gamma u

    A soft target, 0 < y < 1, gives the expectation y FL(y = 1) + (1 - y) FL(y = 0); torchvision has
    another rule there.

    The arguments and errors are those of `focal_lib.numpy.sigmoid_focal_loss`: ``inputs``, a
    floating-point tensor of any shape; ``targets`` in [0, 1], of the same shape and any real dtype;
    ``alpha`` in [0, 1], the weight of class 1, or None or -1; ``gamma`` >= 0; ``reduction``, one of
    "none", "mean" and "sum". The value and its first two derivatives are finite for every finite
    logit and every gamma, and at infinite ones they are the limits. Source: Lin et al. 2017,
    equation 5; the book's eq-focal-alpha and eq-focal-gradient.

    The gradient of the naive formula is 0 times infinity where p_t rounds to 1 and gamma < 1:

    >>> x = torch.tensor(20.0, requires_grad=True)
    >>> naive = (1 - torch.sigmoid(x)) ** 0.5 * -torch.log(torch.sigmoid(x))
    >>> print(torch.autograd.grad(naive, x)[0])
    tensor(nan)
    >>> loss = sigmoid_focal_loss(x, torch.tensor(1), alpha=None, gamma=0.5)
    >>> print(torch.autograd.grad(loss, x)[0])
    tensor(-1.4036e-13)
    """
    _check_floating("inputs", inputs)
    _check_tensor("targets", targets)
    if targets.shape != inputs.shape:
        raise ValueError(
            f"targets: takes the shape of inputs, {tuple(inputs.shape)}, got {tuple(targets.shape)}"
        )
    _check_device("targets", targets, inputs)
    weights, exponent = _checks.class_weights(alpha), _checks.nonnegative("gamma", gamma)
    _checks.reduction(reduction)

    def composed(inputs: Tensor, targets: Tensor) -> Tensor:
        _check_values("targets", targets, 1)
        return _composed.sigmoid_loss(inputs, targets, weights, exponent, reduction, dtype)

    def made(inputs: Tensor, targets: Tensor, grad: bool) -> list[Tensor] | None:
        return _cpu.sigmoid(inputs, targets, weights, exponent, reduction, grad)

    way, dtype = _way(inputs, targets), _result_dtype(inputs)
    if way in ("triton", "operator"):
        settings = Settings(exponent, reduction, dtype, positive=weights[0], negative=weights[1])
        loss: Tensor = _triton.sigmoid_focal(inputs, targets, settings)
        return loss
    return _loss(made if way == "cpu" else None, composed, dtype, inputs, targets)


# --- Many classes, in logits ----------------------------------------------------------------------


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
    """Focal loss of C classes, from logits: torch.nn.functional.cross_entropy with a gamma.

    With p = softmax(x) and f_c = (1 - p_c)^gamma (-log p_c)::

        FL = sum_c w_c y_c f_c

    which is the expectation of the loss under the target distribution y. The arguments and errors
    are those of `focal_lib.numpy.softmax_focal_loss`: ``input``, a floating-point tensor (C,),
    (N, C) or (N, C, d1, ...); ``target``, class indices (integers, without C) or probabilities
    (floats, of the shape of ``input``); ``weight``, floating-point, (C,), >= 0; ``gamma`` >= 0;
    items with the class index ``ignore_index`` are left out; ``reduction``, one of "none", "mean"
    and "sum", where the mean divides by the total weight of the items kept (class indices), or by
    their number (probabilities); ``label_smoothing`` in [0, 1]. With gamma = 0 each option means
    what it means there. Source: Lin et al. 2017, section 3; the book's eq-multiclass, eq-margin and
    def-mean.

    1 - p_t rounds to 0 on an easy example; the sum of the other probabilities does not:

    >>> x = torch.tensor([20.0, 0.0, 0.0])
    >>> print(1 - torch.softmax(x, dim=0)[0])
    tensor(0.)
    >>> print(softmax_focal_loss(x, torch.tensor(0)))
    tensor(7.0052e-26)
    """
    _check_floating("input", input)
    _check_tensor("target", target)
    axis = _checks.class_axis(input.shape)
    classes = input.shape[axis]
    exponent = _checks.nonnegative("gamma", gamma)
    ignored = _checks.ignore_index(ignore_index)
    _checks.reduction(reduction)
    smoothing = _checks.fraction("label_smoothing", label_smoothing)
    _check_device("target", target, input)
    if weight is not None:
        _check_class_weights(weight, classes)
        _check_device("weight", weight, input)
    soft = _checks.has_probabilities(input.shape, target.shape, target.is_floating_point(), ignored)
    way = "composed" if classes == 1 else _way(input, target, weight)
    indices: tuple[Tensor | None, Tensor | None] | None = None
    if soft:
        if way not in ("triton", "operator"):
            _check_values("target", target, 1)
        indices = None, None
    elif target.dtype == torch.bool:
        raise TypeError("target: takes integers or floats, got torch.bool")
    elif way not in ("triton", "operator"):  # where the kernels do this
        indices = _indices(target, classes, ignored)

    def composed(input: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        index, kept = indices or _indices(target, classes, ignored)
        items = (index, kept, target, weight)
        options = (exponent, smoothing, reduction, dtype)
        return _composed.softmax_loss(input, *items, *options)

    def made(
        input: Tensor, target: Tensor, weight: Tensor | None, grad: bool
    ) -> list[Tensor] | None:
        index, kept = indices or _indices(target, classes, ignored)
        y, divisor = (target, target.numel() / classes) if soft else (None, 1.0)
        if index is not None and reduction == "mean":
            divisor = float(_composed.total_weight(index, kept, weight))
        if divisor == 0:
            return None
        options = (weight, exponent, smoothing, reduction, divisor, grad)
        return _cpu.softmax(input, index, kept, y, *options)

    dtype = _result_dtype(input)
    if way in ("triton", "operator"):
        settings = Settings(
            exponent, reduction, dtype, weight=weight, ignored=ignored, smoothing=smoothing
        )
        loss: Tensor = _triton.softmax_focal(input, target, settings)
        return loss
    return _loss(made if way == "cpu" else None, composed, dtype, input, target, weight)


class SigmoidFocalLoss(torch.nn.Module):
    """`sigmoid_focal_loss` as a module; the settings are that function's, with its defaults."""

    def __init__(
        self, alpha: float | None = 0.25, gamma: float = 2.0, reduction: str = "none"
    ) -> None:
        super().__init__()
        self.alpha = _checks.alpha(alpha)
        self.gamma = _checks.nonnegative("gamma", gamma)
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
        self.gamma = _checks.nonnegative("gamma", gamma)
        self.ignore_index = _checks.ignore_index(ignore_index)
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


# --- One loss from several ways to compute it -----------------------------------------------------


def _way(x: Tensor, *others: Tensor | None) -> str:
    """Who computes the loss: `_cpu`; `_triton`, launched at once or as an operator; `_composed`."""
    tensors = [x, *[t for t in others if t is not None]]
    on_triton = _triton is not None and x.device.type == _TRITON_DEVICE
    if not (x.is_cpu or on_triton) or any([_wants_gradient(t) for t in tensors[1:]]):
        return "composed"  # which has the other gradients
    if torch.compiler.is_compiling():
        transformed = torch._C._functorch.get_dynamic_layer_stack_depth() > 0
        return "operator" if on_triton and not transformed else "composed"
    if forward_ad._current_level >= 0 and any(_is_dual(t) for t in tensors):
        return "composed"
    if all([_is_plain(t) for t in tensors]) and not torch._C._len_torch_dispatch_stack():
        return "triton" if on_triton else "cpu" if x.numel() else "composed"
    if on_triton and all(_is_plain(t, FakeTensor) for t in tensors):
        return "operator"
    return "composed"


def _is_dual(x: Tensor) -> bool:
    return forward_ad.unpack_dual(x)[1] is not None  # type: ignore[no-untyped-call]


def _wants_gradient(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


def _loss(
    made: Callable[..., list[Tensor] | None] | None,
    composed: Callable[..., Tensor],
    dtype: torch.dtype,
    x: Tensor,
    *others: Tensor | None,
) -> Tensor:
    """The loss as it is made together with its gradient, if that serves; else the composed one."""
    grad = _wants_gradient(x)
    # The gradient of a half type is made when it is known what it is multiplied by: it is rounded.
    result = None if made is None else made(x, *others, grad and x.dtype not in _HALF)
    if result is None:
        return composed(x, *others)
    if result[0].dtype != x.dtype:
        result[0] = result[0].to(dtype)
    if not grad:
        return result[0]
    loss: Tensor = _WithGradient.apply(result, made, composed, x, *others)  # type: ignore[no-untyped-call]
    return loss


class _WithGradient(torch.autograd.Function):
    """A loss that was made together with its gradient by the logits."""

    @staticmethod
    def forward(ctx: Any, result: list[Tensor], *arguments: Any) -> Tensor:
        loss, ctx.gradient = result if len(result) == 2 else (result[0], None)
        ctx.made, ctx.composed, *tensors = arguments
        ctx.save_for_backward(*tensors)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        # The gradient is given away, as a copy of it would double the memory, and made again where
        # it is asked for again. Its own derivative, and what is not finite or not one tensor that
        # comes back, need the composed form.
        gradient, ctx.gradient = ctx.gradient, None
        x, *others = ctx.saved_tensors
        total = grad.sum() if grad.ndim else grad
        if torch.is_grad_enabled() or not _can_look(grad) or not math.isfinite(total.item()):
            gradient = None
        elif gradient is None:
            made = ctx.made(x, *others, True)
            gradient = None if made is None else made[1]
        if gradient is None:
            gradient = _composed_gradient(ctx.composed, grad, x, *others)
        elif grad.ndim > 0:
            gradient.mul_(grad if grad.shape == gradient.shape else grad.unsqueeze(1))
        elif grad.item() != 1:
            gradient.mul_(grad)
        return None, None, None, gradient.to(x.dtype), *[None] * len(others)


def _composed_gradient(
    composed: Callable[..., Tensor], grad: Tensor, x: Tensor, *others: Tensor | None
) -> Tensor:
    """The gradient of the composed loss, which has one itself if that is wanted."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if again else x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(composed(x, *others), x, grad, create_graph=again)
    return gradient.to(x.dtype)


# --- Arguments and results ------------------------------------------------------------------------

_HALF = _composed.HALF
_FLOATS = (*_HALF, torch.float32, torch.float64)


def _result_dtype(x: Tensor) -> torch.dtype:
    """That of the logits; under autocast half types give float32, as torch's losses do."""
    if x.dtype not in _HALF:
        return x.dtype
    device = x.device.type
    if torch.amp.is_autocast_available(device):
        return torch.float32 if torch.is_autocast_enabled(device) else x.dtype
    return x.dtype


# --- Checks ---------------------------------------------------------------------------------------


def _is_plain(x: Tensor, *subclasses: type) -> bool:
    """Whether it is a tensor, not traced and under no transform, that is as it is in memory."""
    return (
        type(x) in (Tensor, torch.nn.Parameter, *subclasses)
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and not torch._C._functorch.is_legacy_batchedtensor(x)
        and not torch._C._get_tracing_state()
        and not x.is_neg()
        and not x._is_zerotensor()
    )


def _can_look(x: Tensor) -> bool:
    """Whether reading values is free: not on a device, traced, fake or under a transform."""
    return (
        x.is_cpu
        and not torch.compiler.is_compiling()
        and not torch._C._len_torch_dispatch_stack()
        and _is_plain(x)
    )


def _check_tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: takes a tensor, got {type(value).__name__}")
    if value.is_floating_point() and value.dtype not in _FLOATS:
        raise TypeError(f"{name}: takes one of {_FLOATS} if not integers, got {value.dtype}")
    if value.is_complex() or value.layout != torch.strided:
        got = f"{value.dtype}, {value.layout}"
        raise TypeError(f"{name}: takes a tensor of real numbers, torch.strided, got {got}")


def _check_floating(name: str, value: Any) -> None:
    _check_tensor(name, value)
    if not value.is_floating_point():
        raise TypeError(f"{name}: takes a floating-point tensor, got {value.dtype}")


def _check_device(name: str, value: Tensor, like: Tensor) -> None:
    if value.device != like.device:
        raise ValueError(f"{name}: takes a tensor on {like.device}, got one on {value.device}")


def _check_values(name: str, value: Tensor, largest: float | None = None) -> None:
    """The values are from 0 to the largest, or finite."""
    _check_tensor(name, value)
    if _can_look(value):
        good = (value >= 0) & (value.isfinite() if largest is None else value <= largest)
        if not bool(good.all()):
            takes = "finite numbers >= 0" if largest is None else f"numbers in [0, {largest}]"
            raise ValueError(f"{name}: takes {takes}, got {value[~good][0].item()}")


def _indices(target: Tensor, classes: int, ignored: int) -> tuple[Tensor, Tensor | None]:
    """The class indices, and which of them are kept if not all; those that are not are 0."""
    index = target.long()  # in a narrower type ignore_index would wrap (-100 is 156)
    look = _can_look(index)
    if look and index.numel():
        low, high = (v.item() for v in index.aminmax())
        if 0 <= low and high < classes and not low <= ignored <= high:
            return index, None
    kept = index != ignored
    wrong = kept & ((index < 0) | (index >= classes))
    if look and bool(wrong.any()):
        raise ValueError(
            f"target: takes class indices from 0 to {classes - 1}, or ignore_index "
            f"({ignored}), got {index[wrong][0].item()}"
        )
    return torch.where(kept, index, 0), kept


def _check_labels(y: Any) -> None:
    _check_tensor("y", y)
    if _can_look(y):
        wrong = (y != 0) & (y != 1)
        if bool(wrong.any()):
            raise ValueError(f"y: takes the labels 0 and 1, got {y[wrong][0].item()}")


def _check_class_weights(weight: Any, classes: int | None = None) -> None:
    _check_floating("weight", weight)
    if weight.ndim != 1 or classes not in (None, weight.shape[0]):
        raise ValueError(
            f"weight: takes the shape ({'C' if classes is None else classes},), "
            f"got {tuple(weight.shape)}"
        )
    _check_values("weight", weight)
