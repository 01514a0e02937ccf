"""What a loss is computed with beside its logits and targets, checked and the same for each way."""

from typing import NamedTuple

import torch
from torch import Tensor


class Settings(NamedTuple):
    gamma: float  # >= 0, finite
    reduction: str  # "none", "mean", "sum"
    dtype: torch.dtype  # of the result
    weight: Tensor | None = None  # softmax: (C,); sigmoid: any shape that broadcasts to x
    ignored: int | None = None  # softmax: an int; sigmoid: None or an int, neither 0 nor 1
    positive: float = 1.0  # sigmoid: weight of label 1 by alpha
    negative: float = 1.0  # sigmoid: weight of label 0
    pos_weight: Tensor | None = None  # sigmoid: broadcasts to x; factor on the term of label 1
    smoothing: float = 0.0  # softmax

    @property
    def is_weighted(self) -> bool:
        return self.weight is not None or self.pos_weight is not None
