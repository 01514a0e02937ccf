"""The ways to compute a loss of logits. Each is a module with two functions,

    sigmoid_focal(x, y, settings) and softmax_focal(x, target, settings),

which take checked arguments and return the loss, with its gradient by x.

| way | what it takes | what it does |
|---|---|---|
| `cpu` | plain tensors in memory | loss and gradient at once: `compiled`, or `chunked` |
| `triton` | CUDA tensors, also compiled and fake ones | kernels, which are operators of torch |
| `composed` | everything else | torch's operations, with derivatives to the third order |

Which it is depends on devices, on types and on what looks at the tensors; never on a value.
"""

import os
from importlib import import_module, util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad

from focal_lib._tensors import is_plain, wants_gradient
from focal_lib._ways import compiled, composed, cpu


def _load_triton() -> tuple[Any, str]:
    """The module, if this torch has CUDA (or Triton interprets) and a Triton; or why not."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if not (torch.version.cuda or interpreted):
        return None, "this torch has no CUDA"
    if util.find_spec("triton") is None:
        return None, "triton is not installed"
    version = import_module("triton").__version__
    if tuple(int(part) for part in version.split(".")[:2]) < (3, 6):
        return None, f"triton {version} is older than 3.6"
    return import_module("focal_lib._ways.triton"), ""


triton, _no_triton = _load_triton()
TRITON_DEVICE = "cuda"


def way(x: Tensor, *others: Tensor | None) -> ModuleType:
    """Who computes the loss of these tensors."""
    tensors = [x, *[t for t in others if t is not None]]
    on_triton = triton is not None and x.device.type == TRITON_DEVICE
    if not (x.is_cpu or on_triton) or any([wants_gradient(t) for t in tensors[1:]]):
        return composed  # which has the other gradients
    kernels: ModuleType = triton if on_triton else composed
    if torch.compiler.is_compiling():
        return composed if _is_transformed() else kernels
    if forward_ad._current_level >= 0 and any(_is_dual(t) for t in tensors):
        return composed
    if all([is_plain(t) for t in tensors]) and not torch._C._len_torch_dispatch_stack():
        return kernels if on_triton else cpu if x.numel() else composed
    is_watched = all(is_plain(t) or isinstance(t, FakeTensor) for t in tensors)
    return kernels if is_watched else composed


def active() -> dict[str, str]:
    """Of each kind of kernels, "active" or why they are not."""
    return {"cpu": compiled.why_not or "active", "triton": _no_triton or "active"}


def _is_dual(x: Tensor) -> bool:
    return forward_ad.unpack_dual(x)[1] is not None  # type: ignore[no-untyped-call]


def _is_transformed() -> bool:
    return bool(torch._C._functorch.get_dynamic_layer_stack_depth() > 0)
