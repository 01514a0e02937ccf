"""The losses of plain CPU tensors by `cpu_kernels.c`, if that was compiled when this was installed.

As in `chunked`: the loss in one pass, together with its gradient, which is the only thing of the
size of the logits that is allocated. Half types are computed as float32, and so is their gradient.
"""

import ctypes
import importlib.util
import math
import warnings
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from focal_lib._ways.composed import sum_of
from focal_lib._ways.settings import Settings

_INTERFACE = 3  # that of cpu_kernels.c
_BAD_TARGET, _NO_MEMORY = 1, 2
# What a target may be in memory, and is called there.
_KINDS = {torch.float32: 0, torch.float64: 1, torch.uint8: 2, torch.bool: 2, torch.int64: 3}
_FLOATS = (torch.float32, torch.float64)
_TINY = 2.0**-600


class _Focal(ctypes.Structure):
    """The arguments of the kernels, and their results: see cpu_kernels.c."""

    _fields_ = (
        *[(name, ctypes.c_void_p) for name in ("x", "y", "index", "one", "zero")],
        *[(name, ctypes.c_void_p) for name in ("loss", "gradient")],
        *[(name, ctypes.c_int64) for name in ("count", "classes", "inner", "ignored_index")],
        *[(name, ctypes.c_double) for name in ("gamma", "smoothing", "share", "unit")],
        *[(name, ctypes.c_double) for name in ("ignored", "total")],
        *[(name, ctypes.c_int) for name in ("wide", "kind", "threads")],
    )


def make_sigmoid(
    x: Tensor, y: Tensor, settings: Settings, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The loss and, if it is wanted, its gradient by x, in float32 or the wider dtype of x."""
    y, ignored, divisor = y.detach(), settings.ignored, x.numel()
    if ignored is not None and settings.reduction == "mean":
        divisor = int((y != ignored).sum())
    one, zero, inner = _label_weights(x, settings)
    made = _make(
        "focal_sigmoid",
        {"x": _array(x, _FLOATS), "y": _array(y, tuple(_KINDS)), "one": one, "zero": zero},
        {"count": x.numel(), "classes": one.numel(), "inner": inner},
        settings,
        x.shape,
        divisor,
        with_gradient,
    )
    if made is None:
        wrong = ~((y >= 0) & (y <= 1))
        wrong = wrong if ignored is None else wrong & (y != ignored)
        raise ValueError(f"targets: takes numbers in [0, 1], got {_first(y, wrong)}")
    return made


def make_softmax(
    x: Tensor, target: Tensor, settings: Settings, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """As `make_sigmoid`, for class indices or probabilities."""
    axis, target = min(x.ndim - 1, 1), target.detach()
    ignored = int(settings.ignored or 0)  # always given
    moved = x.movedim(axis, -1)
    shape, classes = moved.shape, moved.shape[-1]
    rows = _array(moved.reshape(-1, classes), _FLOATS)
    weight = None if settings.weight is None else settings.weight.detach().double().contiguous()
    divisor: float = len(rows)
    tensors = {"x": rows}
    if target.is_floating_point():
        y = tensors["y"] = _array(target.movedim(axis, -1).reshape(-1, classes), _FLOATS)
        divisor -= int(y[y[:, 0] == ignored].eq(ignored).all(dim=1).sum())
    else:
        index = tensors["index"] = target.reshape(-1).long().contiguous()
        if settings.reduction == "mean":
            divisor, weight = _total_weight(index, weight, ignored, settings.smoothing)
    made = _make(
        "focal_softmax",
        tensors | ({} if weight is None else {"one": weight}),
        {"count": len(rows), "classes": classes},
        settings,
        shape[:-1],
        divisor,
        with_gradient,
    )
    if made is None and "y" in tensors:
        wrong = ~((y >= 0) & (y <= 1)) & (y != ignored).any(dim=1, keepdim=True)
        raise ValueError(f"target: takes numbers in [0, 1], got {_first(y, wrong)}")
    if made is None:
        wrong = ((index < 0) | (index >= classes)) & (index != ignored)
        takes = f"class indices from 0 to {classes - 1}, or ignore_index ({ignored})"
        raise ValueError(f"target: takes {takes}, got {_first(index, wrong)}")
    loss, gradient = made
    return loss, None if gradient is None else gradient.view(shape).movedim(-1, axis)


def _make(
    kernel: str,
    tensors: dict[str, Tensor],
    sizes: dict[str, int],
    settings: Settings,
    shape: torch.Size,
    divisor: float,
    with_gradient: bool,
) -> tuple[Tensor, Tensor | None] | None:
    """What a kernel makes of the tensors, or None if a target is bad."""
    x, is_mean, ignored = tensors["x"], settings.reduction == "mean", settings.ignored
    if settings.reduction == "none":
        tensors["loss"] = torch.empty(shape, dtype=x.dtype, device="cpu")
    if with_gradient:
        tensors["gradient"] = torch.empty_like(x)
    divisor = divisor or math.nan
    focal = _Focal(
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        **sizes,
        gamma=settings.gamma,
        smoothing=settings.smoothing,
        share=1 / divisor if is_mean else 1.0,
        unit=1.0,
        ignored=math.nan if ignored is None else ignored,
        ignored_index=-1 if ignored is None else ignored,
        wide=x.dtype == torch.float64,
        kind=_KINDS[tensors["y"].dtype] if "y" in tensors else 0,
        threads=max(1, min(torch.get_num_threads(), x.numel() // 2**15)),
    )
    run = getattr(kernels, kernel)
    status = run(ctypes.byref(focal))
    if status & _NO_MEMORY:
        raise MemoryError(f"{kernel}: no room for {sizes['classes']} classes in each thread")
    if status & _BAD_TARGET:
        return None
    total = focal.total / divisor if is_mean else focal.total
    if is_mean and math.isinf(total):  # the sum may be infinite and the mean not
        focal.loss, focal.gradient, focal.unit = None, None, _TINY
        run(ctypes.byref(focal))
        total = focal.total / divisor / _TINY
    loss = tensors.get("loss")
    if loss is None:
        loss = torch.scalar_tensor(total, dtype=torch.float64, device="cpu")
    return loss.to(settings.dtype), tensors.get("gradient")


def _array(x: Tensor, dtypes: tuple[torch.dtype, ...]) -> Tensor:
    """The numbers side by side in memory, in one of the types or in a wider one of them."""
    x = x.detach()
    if x.dtype not in dtypes:
        x = x.to(torch.float32 if x.is_floating_point() else torch.int64)
    return x.contiguous()


def _first(values: Tensor, wrong: Tensor) -> float:
    return float(values[wrong][0].item()) if values.is_floating_point() else values[wrong][0].item()


def _label_weights(x: Tensor, settings: Settings) -> tuple[Tensor, Tensor, int]:
    """The weights of the labels 1 and 0, and how many elements side by side share one."""
    one, zero = _labels(settings.positive, settings.negative)
    if not settings.is_weighted:
        return one, zero, x.numel()
    if settings.weight is not None:
        one, zero = one * settings.weight.detach(), zero * settings.weight.detach()
    if settings.pos_weight is not None:
        one, zero = torch.broadcast_tensors(  # type: ignore[no-untyped-call]
            one * settings.pos_weight.detach(), zero
        )
    shape = (*[1] * (x.ndim - one.ndim), *one.shape)
    own = [k for k in range(x.ndim) if shape[k] > 1]
    first, last = (own[0], own[-1]) if own else (0, -1)
    if shape[first : last + 1] != x.shape[first : last + 1]:  # with a gap: one for each element
        one, zero, last = one.expand(x.shape), zero.expand(x.shape), x.ndim - 1
    return one.contiguous(), zero.contiguous(), math.prod(x.shape[last + 1 :])


@lru_cache
def _labels(positive: float, negative: float) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        one, zero = torch.tensor([[positive], [negative]], dtype=torch.float64, device="cpu")
    return one, zero


def _total_weight(
    index: Tensor, weight: Tensor | None, ignored: int, smoothing: float
) -> tuple[float, Tensor | None]:
    """What the mean divides by, and the weights.

    Both are times a power of 2 if the weights are so large, or so small, that sums lose digits.
    """
    if weight is None:
        return int((index != ignored).sum()), None
    classes = len(weight)
    inside = (index >= 0) & (index < classes) & (index != ignored)  # another is refused later
    counts = torch.bincount(index if bool(inside.all()) else index[inside], minlength=classes)
    if not smoothing:  # else all weights have a part in every loss
        weight = torch.where(counts > 0, weight, 0.0)
    exponent = math.frexp(weight.max().item())[1]
    if abs(exponent) > 400:
        half = -exponent // 2
        weight = weight * 2.0**half * 2.0 ** (-exponent - half)
    return sum_of(counts * weight).item(), weight


def _load() -> tuple[ctypes.CDLL | None, str]:
    """The compiled kernels; or why there are none."""
    spec = importlib.util.find_spec("focal_lib._ways._cpu_kernels")
    if spec is None or spec.origin is None:
        return None, "cpu_kernels.c was not compiled when focal_lib was installed"
    try:
        library = ctypes.CDLL(spec.origin)
        if library.focal_interface() != _INTERFACE:
            raise AttributeError(f"interface {library.focal_interface()}, not {_INTERFACE}")
        for kernel in (library.focal_sigmoid, library.focal_softmax):
            kernel.argtypes, kernel.restype = [ctypes.POINTER(_Focal)], ctypes.c_int
        # The threads of the OpenMP library that torch has loaded, if its wheel brought it.
        home = Path(torch.__file__).parent
        for path in (*home.glob("lib/libgomp*.so*"), *home.parent.glob("torch.libs/libgomp*.so*")):
            parallel = ctypes.CDLL(str(path)).GOMP_parallel
            library.focal_threads(ctypes.cast(parallel, ctypes.c_void_p))
    except (OSError, AttributeError) as error:
        reason = f"{spec.origin} is not of this cpu_kernels.c ({error}): install focal_lib again"
        warnings.warn(f"focal_lib: no compiled kernels: {reason}", RuntimeWarning, stacklevel=2)
        return None, reason
    return library, ""


kernels, why_not = _load()
