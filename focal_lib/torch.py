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

from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from focal_lib import _checks, _tensors, _ways
from focal_lib._ways.settings import Settings


def kernels() -> dict[str, str]:
    """Which kernels compute the losses: of "cpu" and "triton", "active" or why they are not.

    Without them the losses are the same, and slower.
    """
    return _ways.active()


# --- The definitions, in p_t ----------------------------------------------------------------------


def target_probability(p: Tensor, y: Tensor) -> Tensor:
    """The probability of the label that came out: p_t = p if y = 1, 1 - p if y = 0.

    As `focal_lib.numpy.target_probability`, on tensors that broadcast.
    """
    _tensors.check_floating("p", p)
    y = _tensors.check_labels(y)
    _checks.broadcast_together("y", y.shape, p.shape)
    p = _tensors.in_range("p", p)
    return torch.where(y == 1, p, torch.where(y == 0, 1 - p, torch.nan))


def target_weight(alpha: float | None, y: Tensor) -> Tensor:
    """The weight of the label that came out: alpha_t = alpha if y = 1, 1 - alpha if y = 0.

    As `focal_lib.numpy.target_weight`; the result has torch's default dtype.
    """
    positive, negative = _checks.class_weights(alpha)
    y = _tensors.check_labels(y)
    return torch.where(y == 1, positive, torch.where(y == 0, negative, torch.nan))


def cross_entropy(p_t: Tensor) -> Tensor:
    """Cross entropy: CE(p_t) = -log p_t. As `focal_lib.numpy.cross_entropy`."""
    return focal_loss(p_t, 0.0)


def balanced_cross_entropy(p_t: Tensor, alpha_t: Tensor | float) -> Tensor:
    """Balanced cross entropy: -alpha_t log p_t. As `focal_lib.numpy.balanced_cross_entropy`."""
    return focal_loss(p_t, 0.0, alpha_t)


def modulating_factor(p_t: Tensor, gamma: float) -> Tensor:
    """The modulating factor: (1 - p_t)^gamma, 0^0 = 1. As `focal_lib.numpy.modulating_factor`."""
    _tensors.check_floating("p_t", p_t)
    exponent, probability = _checks.nonnegative("gamma", gamma), _tensors.in_range("p_t", p_t)
    return ((1 - _widened(probability)) ** exponent).to(p_t.dtype)


def focal_loss(p_t: Tensor, gamma: float, alpha_t: Tensor | float = 1.0) -> Tensor:
    """Focal loss: -alpha_t (1 - p_t)^gamma log p_t. As `focal_lib.numpy.focal_loss`.

    For the text and for tests. To train, use the losses of logits: a p_t that was rounded to 1 has
    lost its 1 - p_t, and the derivative at p_t = 1 is NaN for 0 < gamma < 1.
    """
    _tensors.check_floating("p_t", p_t)
    exponent = _checks.nonnegative("gamma", gamma)
    probability = _widened(_tensors.in_range("p_t", p_t))
    if isinstance(alpha_t, Tensor):
        _tensors.check_real("alpha_t", alpha_t)
        if alpha_t.dtype == torch.bool:
            raise TypeError("alpha_t: takes numbers, got torch.bool")
        _checks.broadcast_together("alpha_t", alpha_t.shape, p_t.shape)
        weight = _tensors.in_range("alpha_t", alpha_t, torch.inf).to(probability.dtype)
    else:
        weight = probability.new_full((), _checks.nonnegative("alpha_t", alpha_t))
    loss = (1 - probability) ** exponent * (0 - torch.log(probability))  # 0 -: no negative zero
    return _ways.composed.times(weight, loss).to(p_t.dtype)


def _widened(x: Tensor) -> Tensor:
    return x.float() if x.dtype in _tensors.HALF else x


# --- Two classes, in logits -----------------------------------------------------------------------


def sigmoid_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
    *,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    ignore_index: int | None = None,
) -> Tensor:
    """Focal loss of two classes, from logits: torchvision.ops.sigmoid_focal_loss, exact.

    With s = 2y - 1, z = s x, q = sigma(-z) = 1 - p_t and u = log(1 + e^-z) = -log p_t::

        FL = alpha_t q^gamma u

    A soft target, 0 < y < 1, gives the expectation y FL(y = 1) + (1 - y) FL(y = 0); torchvision has
    another rule there.

    The arguments and errors are those of `focal_lib.numpy.sigmoid_focal_loss`: ``inputs``, a
    floating-point tensor of any shape; ``targets`` in [0, 1], of the same shape and any real dtype;
    ``alpha`` in [0, 1], the weight of class 1, or None or -1; ``gamma`` >= 0; ``reduction``, one of
    "none", "mean" and "sum"; ``weight`` and ``pos_weight``, floating-point, that broadcast to
    ``inputs``, the second beside ``alpha=None`` alone; ``ignore_index``, the target of elements
    that are left out, also of the mean, or None. The value and its first two derivatives are finite
    for every finite logit and every gamma, and at infinite ones they are the limits. Source: Lin et
    al. 2017, equation 5; the book's eq-focal-alpha and eq-focal-gradient.

    The gradient of the naive formula is 0 times infinity where p_t rounds to 1 and gamma < 1:

    >>> x = torch.tensor(20.0, requires_grad=True)
    >>> naive = (1 - torch.sigmoid(x)) ** 0.5 * -torch.log(torch.sigmoid(x))
    >>> print(torch.autograd.grad(naive, x)[0])
    tensor(nan)
    >>> loss = sigmoid_focal_loss(x, torch.tensor(1), alpha=None, gamma=0.5)
    >>> print(torch.autograd.grad(loss, x)[0])
    tensor(-1.4036e-13)
    """
    if not isinstance(inputs, Tensor) and has_torch_function_variadic(inputs, targets):
        traced: Tensor = handle_torch_function(
            sigmoid_focal_loss, (inputs, targets), inputs, targets, alpha, gamma, reduction,
            weight=weight, pos_weight=pos_weight, ignore_index=ignore_index,
        )  # fmt: skip
        return traced
    _tensors.check_floating("inputs", inputs)
    _tensors.check_real("targets", targets)
    if targets.shape != inputs.shape:
        shape = tuple(inputs.shape)
        raise ValueError(f"targets: takes the shape of inputs, {shape}, got {tuple(targets.shape)}")
    _tensors.check_device("targets", targets, inputs)
    targets = _tensors.signed("targets", targets)
    dtype = _tensors.result_dtype(inputs)
    weight = _tensors.factors("weight", weight, inputs)
    pos_weight = _tensors.factors("pos_weight", pos_weight, inputs)
    positive, negative = _checks.class_weights(alpha, pos_weight is not None)
    settings = Settings(
        _checks.nonnegative("gamma", gamma), _checks.reduction(reduction), dtype, weight,
        _checks.ignored_label(ignore_index), positive, negative, pos_weight,
    )  # fmt: skip
    way = _ways.way(inputs, targets, weight, pos_weight)
    loss: Tensor = way.sigmoid_focal(inputs, targets, settings)
    return loss


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
    items with the class index ``ignore_index``, or whose probabilities all are that number, are
    left out; ``reduction``, one of "none", "mean" and "sum", where the mean divides by the total
    weight of the items kept (class indices), or by their number (probabilities);
    ``label_smoothing`` in [0, 1]. With gamma = 0 each option means what it means there. Source: Lin
    et al. 2017, section 3; the book's eq-multiclass, eq-margin and def-mean.

    1 - p_t rounds to 0 on an easy example; the sum of the other probabilities does not:

    >>> x = torch.tensor([20.0, 0.0, 0.0])
    >>> print(1 - torch.softmax(x, dim=0)[0])
    tensor(0.)
    >>> print(softmax_focal_loss(x, torch.tensor(0)))
    tensor(7.0052e-26)
    """
    if not isinstance(input, Tensor) and has_torch_function_variadic(input, target):
        traced: Tensor = handle_torch_function(
            softmax_focal_loss, (input, target), input, target, weight, gamma=gamma,
            ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing,
        )  # fmt: skip
        return traced
    _tensors.check_floating("input", input)
    _tensors.check_real("target", target)
    _tensors.check_device("target", target, input)
    weight = _tensors.class_weights(weight, input)
    target = _tensors.signed("target", target)
    if target.dtype == torch.bool:
        raise TypeError("target: takes integers or floats, got torch.bool")
    dtype, is_floating = _tensors.result_dtype(input), target.is_floating_point()
    ignored = _checks.ignore_index(ignore_index)
    _checks.has_probabilities(input.shape, target.shape, is_floating, ignored)
    settings = Settings(
        _checks.nonnegative("gamma", gamma), _checks.reduction(reduction), dtype, weight, ignored,
        smoothing=_checks.fraction("label_smoothing", label_smoothing),
    )  # fmt: skip
    is_single = input.shape[min(input.ndim - 1, 1)] == 1  # one class, which no kernel has
    way = _ways.composed if is_single else _ways.way(input, target, weight)
    loss: Tensor = way.softmax_focal(input, target, settings)
    return loss


class SigmoidFocalLoss(torch.nn.BCEWithLogitsLoss):
    """`sigmoid_focal_loss` as a module; the settings are that function's, with its defaults.

    ``weight`` and ``pos_weight`` are buffers: they move with the module and are saved with it. A
    BCEWithLogitsLoss it is for what looks at that, as skorch does to make probabilities of logits.
    """

    def __init__(
        self,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        reduction: str = "none",
        *,
        weight: Tensor | None = None,
        pos_weight: Tensor | None = None,
        ignore_index: int | None = None,
    ) -> None:
        _tensors.factors("weight", weight)
        _tensors.factors("pos_weight", pos_weight)
        _checks.class_weights(alpha, pos_weight is not None)
        super().__init__(weight, reduction=_checks.reduction(reduction), pos_weight=pos_weight)
        self.alpha = _checks.alpha(alpha)
        self.gamma = _checks.nonnegative("gamma", gamma)
        self.ignore_index = _checks.ignored_label(ignore_index)

    @torch.jit.ignore  # type: ignore[untyped-decorator]
    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return sigmoid_focal_loss(
            inputs, targets, self.alpha, self.gamma, self.reduction, weight=self.weight,
            pos_weight=self.pos_weight, ignore_index=self.ignore_index,
        )  # fmt: skip

    def extra_repr(self) -> str:
        options: dict[str, Any] = {"ignore_index": self.ignore_index}
        for name, factors in (("weight", self.weight), ("pos_weight", self.pos_weight)):
            options[name] = None if factors is None else tuple(factors.shape)
        given = [f", {name}={value}" for name, value in options.items() if value is not None]
        settings = f"alpha={self.alpha}, gamma={self.gamma}, reduction={self.reduction!r}"
        return settings + "".join(given)


class SoftmaxFocalLoss(torch.nn.CrossEntropyLoss):
    """`softmax_focal_loss` as a module; the settings are that function's, with its defaults.

    ``weight`` is a buffer: it moves with the module and is saved with it. A CrossEntropyLoss it is
    for what looks at that, as skorch does to make probabilities of logits.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        gamma: float = 2.0,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        _tensors.class_weights(weight)
        super().__init__(
            weight,
            ignore_index=_checks.ignore_index(ignore_index),
            reduction=_checks.reduction(reduction),
            label_smoothing=_checks.fraction("label_smoothing", label_smoothing),
        )
        self.gamma = _checks.nonnegative("gamma", gamma)

    @torch.jit.ignore  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return softmax_focal_loss(
            input, target, self.weight, gamma=self.gamma, ignore_index=self.ignore_index,
            reduction=self.reduction, label_smoothing=self.label_smoothing,
        )  # fmt: skip

    def extra_repr(self) -> str:
        weight = "None" if self.weight is None else f"<{len(self.weight)} classes>"
        return (
            f"weight={weight}, gamma={self.gamma}, ignore_index={self.ignore_index}, "
            f"reduction={self.reduction!r}, label_smoothing={self.label_smoothing}"
        )
