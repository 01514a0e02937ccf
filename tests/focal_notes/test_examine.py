"""``examine_loss`` passes focal_lib, and catches each planted fault by the check made for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from focal_lib.torch import sigmoid_focal_loss, softmax_focal_loss
from focal_notes.examine import Report, examine_loss


def ours(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    return sigmoid_focal_loss(x, y, None, gamma)


def our_softmax(x: Tensor, t: Tensor, gamma: float) -> Tensor:
    return softmax_focal_loss(x, t, gamma=gamma, reduction="none")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("loss", "kind"), [(ours, "sigmoid"), (our_softmax, "softmax")])
def test_focal_lib_passes_up_to_rounding(loss: Any, kind: str, dtype: torch.dtype) -> None:
    report = examine_loss(loss, kind, gammas=(0.25, 0.5, 1.0, 1.5, 2.0, 5.0), rtol=0, dtype=dtype)
    assert report.passed, str(report)
    assert "WRONG" not in str(report)


# Two classes. A margin's loss, by its parts, to plant faults in.


def parts(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """q and u, in their stable forms."""
    z = (2 * y - 1) * x
    return torch.sigmoid(-z), -F.logsigmoid(z)


def composed(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    q, u = parts(x, y)
    return q**gamma * u


def literal(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    p = torch.sigmoid(x)
    p_t = y * p + (1 - y) * (1 - p)
    return (1 - p_t) ** gamma * F.binary_cross_entropy_with_logits(x, y, reduction="none")


def clipped(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    p = torch.sigmoid(x).clamp(1e-7, 1 - 1e-7)
    p_t = torch.where(y == 1, p, 1 - p)
    return (1 - p_t) ** gamma * -torch.log(p_t)


def shifted(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    q, u = parts(x, y)
    return (q + 1e-6) ** gamma * u


def detached(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    q, u = parts(x, y)
    return (q**gamma).detach() * u


def of_cross_entropy(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    u = parts(x, y)[1]
    return (1 - u).abs() ** gamma * u


def swapped(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    return ours(x, 1 - y, gamma)


def by_logarithm(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    """Without the limits: 0 times infinity where gamma is 0 or u is infinite."""
    z = (2 * y - 1) * x
    return torch.exp(gamma * F.logsigmoid(-z)) * -F.logsigmoid(z)


def narrow(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    if x.dtype not in (torch.float16, torch.bfloat16):
        return ours(x, y, gamma)
    z = (2 * y - 1) * x
    return (1 - torch.sigmoid(z)) ** gamma * -F.logsigmoid(z)


def not_for_half(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    if x.dtype == torch.float16:
        raise TypeError("no float16")
    return ours(x, y, gamma)


def not_finite_at_infinity(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    return ours(x + 0 * x, y, gamma)


def averaged(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    return ours(x, y, gamma).mean()


def without_gradient(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    return ours(x.detach(), y, gamma)


@pytest.mark.parametrize(
    ("loss", "caught"),
    [
        (literal, {"easy value", "easy gradient", "bfloat16", "float16"}),
        (clipped, {"hard value", "hard gradient", "easy gradient"}),
        (shifted, {"easy value"}),
        (detached, {"ordinary gradient"}),
        (of_cross_entropy, {"ordinary value"}),
        (swapped, {"ordinary value", "gamma = 0"}),
        (by_logarithm, {"infinite logits"}),
        (composed, {"easy gradient", "infinite logits"}),
        (narrow, {"bfloat16", "float16"}),
        (not_for_half, {"float16"}),
        (not_finite_at_infinity, {"infinite logits"}),
        (averaged, {"ordinary value"}),
        (without_gradient, {"ordinary gradient"}),
    ],
)
def test_planted_fault_is_caught(loss: Any, caught: set[str]) -> None:
    assert caught <= set(examine_loss(loss).failed)


ONLY: dict[Callable[..., Tensor], tuple[str, ...]] = {
    composed: ("easy gradient", "bfloat16", "float16", "infinite logits"),
    narrow: ("bfloat16", "float16"),
    not_for_half: ("float16",),
    not_finite_at_infinity: ("infinite logits",),
}


@pytest.mark.parametrize("loss", ONLY)
def test_sound_parts_are_not_blamed(loss: Callable[..., Tensor]) -> None:
    assert examine_loss(loss).failed == ONLY[loss]


def test_nan_is_shown_first() -> None:
    report = examine_loss(literal)
    assert report["easy gradient"].detail.endswith("gamma 0.5, y 1, x 17: nan, not -1.264e-11")
    assert report["hard gradient"].passed
    assert examine_loss(clipped)["hard gradient"].detail.endswith("x -17: 0, not -1")


# Many classes


def from_log_softmax(x: Tensor, t: Tensor, gamma: float) -> Tensor:
    log_p = F.log_softmax(x, dim=-1).gather(1, t[:, None])[:, 0]
    return (-torch.expm1(log_p)) ** gamma * -log_p


def without_reference(x: Tensor, t: Tensor, gamma: float) -> Tensor:
    """The logits' exponentials as they are."""
    others = x.exp().scatter(1, t[:, None], 0.0).sum(dim=1)
    own = x.exp().gather(1, t[:, None])[:, 0]
    return (others / (own + others)) ** gamma * -torch.log(own / (own + others))


def at_full_magnitude(x: Tensor, t: Tensor, gamma: float) -> Tensor:
    """The margin from a logarithm of a sum that is as large as the logits."""
    others = x.scatter(1, t[:, None], -torch.inf)
    z = x.gather(1, t[:, None])[:, 0] - torch.logsumexp(others, dim=1)
    return ours(z, torch.ones_like(z), gamma)


@pytest.mark.parametrize(
    ("loss", "caught"),
    [
        (from_log_softmax, {"easy value", "easy gradient", "bfloat16", "float16"}),
        (without_reference, {"hard value", "hard gradient", "offset"}),
        (at_full_magnitude, {"offset"}),
        (lambda x, t, gamma: our_softmax(x, (t + 1) % 4, gamma), {"ordinary value"}),
        (lambda x, t, gamma: our_softmax(x.clamp(-50, 50), t, gamma), {"hard value", "offset"}),
    ],
)
def test_planted_fault_in_softmax_is_caught(loss: Any, caught: set[str]) -> None:
    assert caught <= set(examine_loss(loss, "softmax").failed)


def test_the_table() -> None:
    report = examine_loss(not_for_half)
    assert isinstance(report, Report) and not report.passed
    lines = str(report).split("\n")
    assert len(lines) == len(report.findings) == 10
    assert lines[0] == "ordinary value     ok"
    assert lines[8] == "float16            WRONG gamma 0: TypeError: no float16"
    assert len(examine_loss(ours, half=()).findings) == 8


def test_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="kind: takes 'sigmoid' or 'softmax', got 'sparsemax'"):
        examine_loss(ours, "sparsemax")
