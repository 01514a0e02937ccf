"""Tensor arguments: what they may be, and whether their values can be looked at."""

import math
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from focal_lib import _checks

HALF = (torch.float16, torch.bfloat16)
FLOATS = (*HALF, torch.float32, torch.float64)
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # which torch cannot compare


def can_look(x: Tensor) -> bool:
    """Whether values can be read: not on a device, and not fake, traced or under a transform.

    Where they cannot, a bad one gives NaN.
    """
    if not x.is_cpu or torch.compiler.is_compiling() or torch._C._get_tracing_state():
        return False
    if _is_transformed(x) or isinstance(x, FakeTensor) or is_traceable_wrapper_subclass(x):
        return False
    keys = torch._C._TorchDispatchModeKey
    modes = (keys.FAKE, keys.PROXY, keys.FUNCTIONAL)
    return not any(torch._C._get_dispatch_mode(mode) is not None for mode in modes)


def is_plain(x: Tensor) -> bool:
    """Whether it is a tensor, not traced and under no transform, that is as it is in memory."""
    return (
        type(x) in (Tensor, torch.nn.Parameter)
        and not _is_transformed(x)
        and not torch._C._get_tracing_state()
        and not x.is_neg()
        and not x._is_zerotensor()
    )


def _is_transformed(x: Tensor) -> bool:
    functorch = torch._C._functorch
    return functorch.is_functorch_wrapped_tensor(x) or functorch.is_legacy_batchedtensor(x)


def wants_gradient(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


def result_dtype(x: Tensor) -> torch.dtype:
    """That of the logits; under autocast half types give float32, as torch's losses do."""
    device = x.device.type
    if x.dtype in HALF and torch.amp.is_autocast_available(device):
        return torch.float32 if torch.is_autocast_enabled(device) else x.dtype
    return x.dtype


def check_real(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: takes a tensor, got {type(value).__name__}")
    kind = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
    kind = "masked" if type(value).__name__ == "MaskedTensor" else kind
    if value.is_complex() or value.is_quantized or kind != "strided":
        got = f"{value.dtype}, {kind}"
        raise TypeError(f"{name}: takes a tensor of real numbers, strided, got {got}")
    if value.is_floating_point() and value.dtype not in FLOATS:
        raise TypeError(f"{name}: takes one of {FLOATS} if not integers, got {value.dtype}")


def check_floating(name: str, value: Any) -> None:
    check_real(name, value)
    if not value.is_floating_point():
        raise TypeError(f"{name}: takes a floating-point tensor, got {value.dtype}")


def check_device(name: str, value: Tensor, like: Tensor) -> None:
    if value.device != like.device:
        raise ValueError(f"{name}: takes a tensor on {like.device}, got one on {value.device}")


def factors(name: str, value: Any, like: Tensor | None = None) -> Tensor | None:
    """Weights, which broadcast to logits if they are given, as `in_range` gives them."""
    if value is None:
        return None
    check_floating(name, value)
    if like is not None:
        check_device(name, value, like)
        if not _checks.broadcasts(value.shape, like.shape):
            takes = f"a shape that broadcasts to {tuple(like.shape)}"
            raise ValueError(f"{name}: takes {takes}, got {tuple(value.shape)}")
    return in_range(name, value, math.inf)


def class_weights(weight: Any, like: Tensor | None = None) -> Tensor | None:
    """Weights of classes, those of logits if they are given, as `in_range` gives them."""
    if weight is None:
        return None
    check_floating("weight", weight)
    classes = None
    if like is not None and like.ndim:
        check_device("weight", weight, like)
        classes = like.shape[min(like.ndim - 1, 1)] or None
    if weight.ndim != 1 or classes not in (None, weight.shape[0]):
        takes = f"the shape ({'C' if classes is None else classes},)"
        raise ValueError(f"weight: takes {takes}, got {tuple(weight.shape)}")
    return in_range("weight", weight, math.inf)


def in_range(name: str, value: Tensor, largest: float = 1.0) -> Tensor:
    """The tensor, with numbers from 0 to 1, or finite ones >= 0 if the largest is infinite.

    Another number is an error where that can be seen, and elsewhere NaN.
    """
    takes = "finite numbers >= 0" if largest == math.inf else "numbers in [0, 1]"
    numbers = value.double() if value.dtype in _UNSIGNED else value
    if can_look(value) and numbers.numel():  # the least and the largest are found sooner
        low, high = (v.item() for v in numbers.aminmax())
        if low >= 0 and high <= largest and high < math.inf:
            return value
    right = (numbers >= 0) & (numbers.isfinite() if largest == math.inf else numbers <= largest)
    return _good(name, takes, value, right)


def signed(name: str, target: Tensor) -> Tensor:
    """uint64 as int64, in which 2^64 - 100 would be -100, and so the usual ignore_index."""
    if target.dtype != torch.uint64:
        return target
    index = target.long()
    if can_look(target) and bool((index < 0).any()):
        got = target[index < 0][0].item()
        raise ValueError(f"{name}: takes integers below 2^63, got {got}")
    return torch.where(index < 0, -(2**63), index)


def check_labels(y: Any) -> Tensor:
    """The labels 0 and 1, as floats."""
    check_real("y", y)
    numbers = y.float() if y.dtype in _UNSIGNED else y
    return _good("y", "the labels 0 and 1", numbers, (numbers == 0) | (numbers == 1))


def _good(name: str, takes: str, value: Tensor, right: Tensor) -> Tensor:
    if not can_look(value):
        return torch.where(right, value, math.nan) if value.is_floating_point() else value
    if not bool(right.all()):
        raise ValueError(f"{name}: takes {takes}, got {value[~right][0].item()}")
    return value


def class_indices(
    target: Tensor, classes: int, ignored: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The class indices, with 0 for those that are not kept; which are kept; and which are wrong,
    where that is no error as it cannot be looked at.
    """
    index = target.long()  # in a narrower type ignore_index would wrap (-100 is 156)
    kept = index != ignored
    wrong = kept & ((index < 0) | (index >= classes))
    index = torch.where(kept & ~wrong, index, 0)
    if not can_look(target):
        return index, kept, wrong
    if bool(wrong.any()):
        takes = f"class indices from 0 to {classes - 1}, or ignore_index ({ignored})"
        raise ValueError(f"target: takes {takes}, got {target[wrong][0].item()}")
    return index, kept, None
