"""The losses of plain CPU tensors, each made together with its gradient.

`compiled` makes them where its kernels are, and `chunked` elsewhere.
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from focal_lib._tensors import HALF, can_look, wants_gradient
from focal_lib._ways import chunked, compiled, composed
from focal_lib._ways.settings import Settings

Make = Callable[[Tensor, Tensor, Settings, bool], tuple[Tensor, Tensor | None]]


def sigmoid_focal(x: Tensor, y: Tensor, settings: Settings) -> Tensor:
    return _loss(_maker().make_sigmoid, composed.sigmoid_focal, x, y, settings)


def softmax_focal(x: Tensor, target: Tensor, settings: Settings) -> Tensor:
    return _loss(_maker().make_softmax, composed.softmax_focal, x, target, settings)


def _maker() -> ModuleType:
    return chunked if compiled.kernels is None else compiled


def _loss(make: Make, compose: Any, x: Tensor, target: Tensor, settings: Settings) -> Tensor:
    if not wants_gradient(x):
        return make(x, target, settings, False)[0]
    loss: Tensor = _WithGradient.apply(x, target, settings, make, compose)  # type: ignore[no-untyped-call]
    return loss


class _WithGradient(torch.autograd.Function):
    """A loss that is made together with its gradient by the logits."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, target: Tensor, settings: Settings, make: Make, compose: Any
    ) -> Tensor:
        # The gradient of a half type is made when it is known what it is multiplied by, as it is
        # rounded; and if something decides what is saved, as a checkpoint does, nothing else is.
        at_once = x.dtype not in HALF and not _saving_is_hooked()
        loss, ctx.gradient = make(x, target, settings, at_once)
        ctx.make, ctx.compose = make, compose
        ctx.settings = settings._replace(weight=None, pos_weight=None)
        ctx.save_for_backward(x, target, settings.weight, settings.pos_weight)
        return loss

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Any, ...]:
        # The gradient is given away, as a copy of it would double the memory, and made again where
        # it is asked for again. Its own derivative, and what is not finite or not one tensor that
        # comes back, need the composed form.
        gradient, ctx.gradient = ctx.gradient, None
        x, target, weight, pos_weight = ctx.saved_tensors
        settings = ctx.settings._replace(weight=weight, pos_weight=pos_weight)
        total = up.sum() if up.ndim else up
        if torch.is_grad_enabled() or not can_look(up) or not math.isfinite(total.item()):
            gradient = composed.composed_gradient(ctx.compose, up, x, target, settings)
        else:
            if gradient is None:
                gradient = ctx.make(x, target, settings, True)[1]
            if up.ndim > 0:
                gradient.mul_(up if up.shape == gradient.shape else up.unsqueeze(1))
            elif up.item() != 1:
                gradient.mul_(up)
        return gradient.to(x.dtype), None, None, None, None


def _saving_is_hooked() -> bool:
    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)  # torch >= 2.8
    return hooks is not None and hooks(True) is not None
