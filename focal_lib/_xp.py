"""What NumPy and torch do differently, for `focal_lib._margins`: xp is the one or the other."""

from typing import Any

import numpy as np


def sum_of_rows(xp: Any, v: Any) -> Any:
    """Along the last axis, which is kept, in an order that does not depend on the threads: torch
    divides a sum of 2^15 numbers or more among them.
    """
    block, size = 2**10, v.shape[-1]
    if xp is np or xp.compiler.is_compiling() or size < 2**15:
        return xp.sum(v, axis=-1, keepdims=True)
    n = size // block
    sums = sum_of_rows(xp, v[..., : n * block].unflatten(-1, (n, block)))
    return sum_of_rows(xp, sums.squeeze(-1)) + v[..., n * block :].sum(-1, keepdim=True)


def largest(xp: Any, v: Any, by: Any = None) -> tuple[Any, Any]:
    """Along the last axis: the index of the first of the largest, and that."""
    top = (v if by is None else by).argmax(axis=-1, keepdims=True)
    return top, take(xp, v, top)


def is_at(xp: Any, v: Any, index: Any) -> Any:
    on_device = {} if xp is np else {"device": v.device}
    return xp.arange(v.shape[-1], **on_device) == index


def take(xp: Any, v: Any, index: Any) -> Any:
    if index is None:
        return v
    return np.take_along_axis(v, index, -1) if xp is np else v.gather(-1, index)


def put(xp: Any, v: Any, index: Any, value: Any) -> Any:
    """An array that is not needed again, with the value at an index on the last axis."""
    if xp is not np:  # torch.func has no rule for scatter_
        return v.scatter_(-1, index, value) if _can_look(v) else v.scatter(-1, index, value)
    np.put_along_axis(v, index, value, -1)
    return v


def times_zero(xp: Any, factor: Any, product: Any) -> Any:
    """The product with a factor, of which 0 makes infinity 0, too."""
    is_nan = is_any_below(xp, product, -np.inf)
    return xp.where(factor == 0, 0.0, product) if is_nan else product


def zero_where(xp: Any, is_zero: Any, value: Any) -> Any:
    return xp.where(is_zero, 0.0, value) if occurs(xp, is_zero) else value


def occurs(xp: Any, rare: Any) -> bool:
    """Whether what is rare must be done: where arrays can be looked at, only where it occurs."""
    if xp is np:
        return bool(np.any(rare))
    return not _can_look(rare) or bool(rare.any())


def is_any_below(xp: Any, v: Any, least: float) -> bool:
    """Whether one of the numbers is below, or NaN, or cannot be looked at."""
    if xp is np:
        return not v.min(initial=np.inf) >= least
    return not (_can_look(v) and v.numel() and bool(v.amin() >= least))


def is_known(xp: Any, number: float) -> bool:
    """Whether what is compiled may depend on a number: else it would be compiled for each anew."""
    if xp is np or not xp.compiler.is_compiling():
        return True
    is_static = getattr(xp.fx.experimental.symbolic_shapes, "has_static_value", None)
    return is_static is not None and is_static(number)


def _can_look(v: Any) -> bool:
    from focal_lib._tensors import can_look  # here, since NumPy's users may not have torch

    return can_look(v)
