"""The losses of plain CPU tensors, each made together with its gradient.

The gradient is the only thing of the size of the logits that is allocated. float32 is done by
`_kernels.c`, where that could be compiled when the package was installed; all else with hard
targets by torch's operations, in chunks that stay in the cache. Half types are taken as float32,
and so is their gradient. Both functions return None where they do not serve: soft targets without
the kernels, bad ones, and a loss that is not finite.
"""

import torch
from torch import Tensor

from focal_lib._ways import compiled
from focal_lib._ways.composed import exponentials
from focal_lib._ways.settings import Settings

_CHUNK = 2**16  # logits; torch divides an operation among threads from half of that on


def sigmoid(
    x: Tensor, y: Tensor, weights: tuple[float, float], gamma: float, reduction: str, grad: bool
) -> list[Tensor] | None:
    """The loss and, if it is wanted, its gradient.

    With s = 2y - 1, z = s x, p = sigma(z), q = sigma(-z) and u = -log p::

        loss = alpha_t q^gamma u        gradient = -s alpha_t q^gamma (q + gamma p u)
    """
    if compiled.kernels is not None:
        dtype = torch.promote_types(x.dtype, torch.float32)
        settings = Settings(gamma, reduction, dtype, positive=weights[0], negative=weights[1])
        return [v for v in compiled.make_sigmoid(x, y, settings, grad) if v is not None]
    dtype = torch.promote_types(x.dtype, torch.float32)
    if y.is_floating_point() and torch.promote_types(y.dtype, dtype) != dtype:
        return None  # a target would be rounded
    x, y = x.detach().contiguous(), y.contiguous()
    loss = torch.empty(x.shape, dtype=dtype, device=x.device) if reduction == "none" else None
    gradient = torch.empty(x.shape, dtype=dtype, device=x.device) if grad else None
    share = 1 / x.numel() if reduction == "mean" else 1.0
    if _kernels is not None and dtype == torch.float32:
        tensors = (x.float(), y.float(), loss, gradient)  # named, to live until the call is over
        numbers = (x.numel(), *weights, gamma, share, _threads(x))
        total = _kernels.focal_sigmoid(*map(_pointer, tensors), *numbers)
    else:
        total = 0.0
        for start in range(0, x.numel(), _CHUNK):
            part = slice(start, start + _CHUNK)
            x_i, y_i = x.view(-1)[part].to(dtype), y.view(-1)[part].to(dtype)
            if not bool(((y_i == 0) | (y_i == 1)).all()):
                return None
            minus_s = 1 - 2 * y_i
            minus_z = minus_s * x_i
            p, q = (-minus_z).sigmoid(), minus_z.sigmoid()
            u = minus_z.relu() - torch.log1p(-torch.minimum(p, q))
            power = q.pow(gamma) * (weights[0] * y_i + weights[1] * (1 - y_i))
            value = power * u
            total += value.sum().item()
            if loss is not None:
                loss.view(-1)[part] = value
            if gradient is not None:
                gradient.view(-1)[part] = power * (q + gamma * p * u) * minus_s * share
    return _result(loss, gradient, total * share, dtype)


def softmax(
    x: Tensor,
    index: Tensor | None,
    kept: Tensor | None,
    y: Tensor | None,
    weight: Tensor | None,
    gamma: float,
    smoothing: float,
    reduction: str,
    divisor: float,
    grad: bool,
) -> list[Tensor] | None:
    """As `sigmoid`, for class indices, of which some may not be kept, or probabilities y.

    With e_j = e^(x_j - m) for some m, S the sum of all but e_t, p = e_t / (e_t + S),
    q = S / (e_t + S), u = -log p and G = w_t q^gamma (q + gamma p u)::

        loss = w_t q^gamma u        gradient_t = -G        gradient_j = G e_j / S
    """
    if compiled.kernels is not None:
        target = y
        if index is not None:
            target = index if kept is None else torch.where(kept, index, -100)
        dtype = torch.promote_types(x.dtype, torch.float32)
        settings = Settings(gamma, reduction, dtype, weight, -100, smoothing=smoothing)
        return [v for v in compiled.make_softmax(x, target, settings, grad) if v is not None]
    axis = min(x.ndim - 1, 1)
    dtype = torch.promote_types(x.dtype, torch.float32)
    use_kernels = _kernels is not None and dtype == torch.float32
    if not use_kernels and (index is None or smoothing):
        return None
    x = x.detach().movedim(axis, -1)
    shape, classes = x.shape, x.shape[-1]
    rows = x.reshape(-1, classes)
    index = None if index is None else index.reshape(-1, 1)
    kept = None if kept is None else kept.reshape(-1, 1)
    w = None if weight is None else weight.detach().double()
    loss = torch.empty(len(rows), dtype=dtype, device=x.device) if reduction == "none" else None
    gradient = torch.empty(rows.shape, dtype=dtype, device=x.device) if grad else None
    share = 1 / divisor if reduction == "mean" else 1.0
    if _kernels is not None and use_kernels:
        if y is not None:
            if torch.promote_types(y.dtype, dtype) != dtype:
                return None  # a target would be rounded
            y = y.movedim(axis, -1).float().contiguous()
        if index is not None:
            index = (index if kept is None else torch.where(kept, index, -1)).contiguous()
        unit = 1.0 if w is None else w.max().item() or 1.0
        w = None if w is None else (w / unit).contiguous()
        if w is not None and bool(((0 < w) & (w < 1e-30)).any()):
            return None  # float32 has no digits for such weights
        tensors = (rows.float().contiguous(), index, y, w, loss, gradient)
        numbers = (*rows.shape, unit, smoothing, gamma, share, _threads(rows))
        total = _kernels.focal_softmax(*map(_pointer, tensors), *numbers)
    elif index is not None:
        total = 0.0
        size = max(1, 4 * _CHUNK // classes)
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            chunk, t = rows[part].to(dtype), index[part]
            if kept is not None:
                chunk = torch.where(kept[part], chunk, 0.0)
            small = dtype == torch.float32 and all(abs(v.item()) <= 64 for v in chunk.aminmax())
            if small:  # m = 0: no difference, none rounded
                e = torch.exp(chunk, out=None if gradient is None else gradient[part])
                e_t = e.gather(1, t).double()
                others = e.scatter_(1, t, 0.0).sum(dim=1, keepdim=True).double()
                u = torch.log1p(others / e_t)
            else:
                e, below = exponentials(chunk)
                e_t = e.gather(1, t)
                others = e.scatter_(1, t, 0.0).sum(dim=1, keepdim=True)
                u = below.gather(1, t) + torch.log1p(others + (e_t - 1))
            p, q = e_t / (e_t + others), others / (e_t + others)
            power = q.pow(gamma) if w is None else q.pow(gamma) * w[t]
            power = power if kept is None else power * kept[part]
            value = power * u
            total += value.sum().item()
            if loss is not None:
                loss[part] = value.squeeze(1)
            if gradient is not None:
                slope = (power * (q + gamma * p * u) * share).to(e.dtype)
                e *= (1 / others.clamp_min(torch.finfo(others.dtype).tiny)).to(e.dtype)
                e.mul_(slope).scatter_(1, t, -slope)
                if not small:
                    gradient[part] = e
    if loss is not None:
        loss = loss.view(shape[:-1])
    if gradient is not None:
        gradient = gradient.view(shape).movedim(-1, axis)
    return _result(loss, gradient, total * share, dtype)


def _result(
    loss: Tensor | None, gradient: Tensor | None, total: float, dtype: torch.dtype
) -> list[Tensor] | None:
    if not abs(total) <= torch.finfo(dtype).max:
        return None
    if loss is None:
        loss = torch.scalar_tensor(total, dtype=dtype, device="cpu")
    return [loss] if gradient is None else [loss, gradient]


def _threads(x: Tensor) -> int:
    return max(1, min(torch.get_num_threads(), x.numel() // 2**15))


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


_kernels = None  # compiled.py has them
