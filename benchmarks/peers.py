"""Focal loss as others write it: what focal_lib is timed against, and measured against."""

from typing import Any

import torch
import torch.nn.functional as F

REDUCE = {"none": lambda loss: loss, "mean": torch.mean, "sum": torch.sum}


def torchvision_sigmoid(
    x: Any, y: Any, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Any:
    """torchvision.ops.sigmoid_focal_loss, so that its wheel is not needed.

    The operations are the same, in the same order, and so is what a name keeps alive meanwhile.
    """
    p = torch.sigmoid(x)
    ce = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    p_t = p * y + (1 - p) * (1 - y)
    loss = ce * (1 - p_t) ** gamma
    if alpha >= 0:
        alpha_t = alpha * y + (1 - alpha) * (1 - y)
        loss = alpha_t * loss
    return REDUCE[reduction](loss)


def softmax_of_cross_entropy(
    x: Any, t: Any, weight: Any = None, gamma: float = 2.0, reduction: str = "none"
) -> Any:
    """The softmax focal loss as it is mostly written; ``weight`` is of the classes."""
    ce = F.cross_entropy(x, t, reduction="none")
    loss = (1 - torch.exp(-ce)) ** gamma * ce
    return REDUCE[reduction](loss if weight is None else weight[t] * loss)
