"""Wrong focal losses, as they are found: the chapter `field_guide` says what each of them does.

All take logits, labels, the weights of class 0 and class 1, and gamma, and return the mean over the
last axis. `right` is focal loss itself.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace

import torch
import torch.nn.functional as F


def loss_of(form):
    """A mean loss of logits and labels, from a form in p = p_t, q = 1 - p_t, u = -log p_t."""

    def loss(x, y, weight=(1.0, 1.0), gamma=2.0):
        z = (2 * y - 1) * x
        p, q, u = torch.sigmoid(z), torch.sigmoid(-z), -F.logsigmoid(z)
        w = torch.where(y == 1, weight[1], weight[0])
        return form(SimpleNamespace(x=x, y=y, z=z, p=p, q=q, u=u, w=w), gamma)

    return loss


def mean_first(e, g):
    u = (e.w * e.u).sum(-1) / e.w.sum(-1)
    return (1 - torch.exp(-u)) ** g * u


def smoothed_inside(e, g, eps=0.1):
    u = (1 - eps / 2) * e.u - eps / 2 * torch.log(e.q)
    return (e.w * (1 - torch.exp(-u)) ** g * u).mean(-1)


right = loss_of(lambda e, g: (e.w * e.q**g * e.u).mean(-1))
WRONG = {
    "weight inside": loss_of(lambda e, g: ((1 - torch.exp(-e.w * e.u)) ** g * e.w * e.u).mean(-1)),
    "mean first": loss_of(mean_first),
    "log for p": loss_of(lambda e, g: (e.w * (1 + e.u) ** g * e.u).mean(-1)),
    "loss for p": loss_of(lambda e, g: (e.w * (1 - e.u) ** g * e.u).mean(-1)),
    "logit for p": loss_of(lambda e, g: (e.w * (1 - e.z) ** g * e.u).mean(-1)),
    "wrong side": loss_of(lambda e, g: (e.w * torch.sigmoid(-e.x) ** g * e.u).mean(-1)),
    "factor gamma": loss_of(
        lambda e, g: (e.w * torch.where(e.y == 1, g * e.q, e.q**g) * e.u).mean(-1)
    ),
    "sigmoid twice": lambda x, y, weight=(1.0, 1.0), gamma=2.0: right(
        torch.sigmoid(x), y, weight, gamma
    ),
    "softmax of one": lambda x, y, weight=(1.0, 1.0), gamma=2.0: right(
        torch.full_like(x, torch.inf), torch.ones_like(y), weight, gamma
    ),
    "smoothed inside": loss_of(smoothed_inside),
    "detached": loss_of(lambda e, g: (e.w * (e.q**g).detach() * e.u).mean(-1)),
    "weights swapped": lambda x, y, weight=(1.0, 1.0), gamma=2.0: right(x, y, weight[::-1], gamma),
    "one weight": loss_of(lambda e, g: (e.q**g * e.u).mean(-1)),
    "gamma unused": loss_of(lambda e, g: (e.w * e.u).mean(-1)),
    "base 10": loss_of(lambda e, g: (e.w * e.q**g * e.u).mean(-1) / math.log(10)),
}


def unnamed(number: int) -> Callable[..., torch.Tensor]:
    """One of them by a number from 1 on, in no order that tells which it is."""
    order = sorted(WRONG, key=lambda name: name[::-1])
    if not 1 <= number <= len(order):
        raise ValueError(f"number: from 1 to {len(order)} is asked, not {number}")
    loss = WRONG[order[number - 1]]

    def unnamed_loss(x, y, weight=(1.0, 1.0), gamma=2.0):
        return loss(x, y, weight, gamma)

    return unnamed_loss
