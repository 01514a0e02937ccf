"""What the library's reference says of torchvision's and torch's losses, and how it is made."""

import functools
import importlib
import inspect
import json
import re
import sys
import warnings
from collections.abc import Callable

import exact
import pytest
import torch
from book import ROOT
from focal_theme.library import CERTIFIED, certified_table, linked
from torch import nan, tensor
from torch.autograd import forward_ad, grad
from torch.nn import functional as F

from focal_lib.torch import (
    SigmoidFocalLoss,
    SoftmaxFocalLoss,
    sigmoid_focal_loss,
    softmax_focal_loss,
)

INF = torch.inf
X, Y = tensor([0.5, -1.0]), tensor([1.0, 0.0])  # logits and labels
ROWS, INDEX = tensor([[0.5, -1.0, 2.0], [0.0, 1.0, 0.0]]), tensor([2, 0])

close = torch.testing.assert_close


def torchvision_loss(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    alpha: float = 0.25,
    gamma: float = 2,
    reduction: str = "none",
) -> torch.Tensor:
    """torchvision.ops.sigmoid_focal_loss, as of 0.28, whose wheel is not needed here."""
    if not (0 <= alpha <= 1) and alpha != -1:
        raise ValueError(f"Invalid alpha value: {alpha}.")
    p = torch.sigmoid(inputs)
    loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    p_t = p * targets + (1 - p) * (1 - targets)
    loss = loss * ((1 - p_t) ** gamma)
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    if reduction == "none":
        pass
    elif reduction == "mean":
        loss = loss.mean()
    elif reduction == "sum":
        loss = loss.sum()
    else:
        raise ValueError(f"Invalid Value for arg 'reduction': '{reduction}'")
    return loss


binary = (torchvision_loss, sigmoid_focal_loss)
softmax = (F.cross_entropy, functools.partial(softmax_focal_loss, gamma=0.0))
both = [(binary, X, Y), (softmax, ROWS, INDEX)]


def slope(loss, x, *arguments, by=0, **options):
    """The gradient of the sum with respect to one of the tensors, the logits unless told."""
    tensors = [x, *arguments]
    tensors[by] = tensors[by].clone().requires_grad_()
    return grad(loss(*tensors, **options).sum(), tensors[by])[0]


def refuses(error, loss, *arguments, **options):
    with pytest.raises(error):
        loss(*arguments, **options)


# --- The table of differences ---------------------------------------------------------------------

CHECKS: dict[tuple[str, str], Callable[[], None]] = {}
BINARY, CLASSES, BOTH = "The binary loss", "The loss of many classes", "Both losses"


def row(section, what):
    """This function shows both sides of the row of that section."""

    def keep(function):
        CHECKS[section, what] = function
        return function

    return keep


def rows_of_the_page():
    page = (ROOT / "reference.md").read_text("utf-8")
    rows = []
    for section, text in re.findall(r"^### (.*)\n((?:(?!#).*\n)*)", page, re.MULTILINE):
        for what in re.findall(r"^\* - (.*)\n", text, re.MULTILINE):
            rows.append((section, what))
    return [(section, what) for section, what in rows if what != "What"]


@row(BINARY, "`targets` below 0, above 1 or NaN")
def targets_out_of_range():
    theirs, ours = binary
    for wrong in (-1.0, 2.0, nan):
        y = tensor([wrong, 0.0])
        assert theirs(X, y).shape == X.shape
        refuses(ValueError, ours, X, y)


@row(BINARY, "`weight`, `pos_weight` and `ignore_index`")
def options_of_torch():
    theirs, ours = binary
    with_logits = F.binary_cross_entropy_with_logits
    w, pos = tensor([2.0, 0.5]), tensor([3.0, 1.0])
    for options in ({"weight": w}, {"pos_weight": pos}, {"weight": w, "pos_weight": pos}):
        refuses(TypeError, theirs, X, Y, **options)
        mean = {"alpha": None, "gamma": 0.0, "reduction": "mean"}
        close(ours(X, Y, **mean, **options), with_logits(X, Y, **options))
        for wrong in (-1.0, INF, nan):
            bad = {name: tensor([wrong, 1.0]) for name in options}
            assert with_logits(X, Y, reduction="none", **bad).shape == X.shape
            refuses(ValueError, ours, X, Y, alpha=None, **bad)
    refuses(TypeError, theirs, X, Y, ignore_index=-1)
    kept = ours(X, tensor([1.0, -1.0]), reduction="mean", ignore_index=-1)
    close(kept, ours(X[:1], Y[:1], reduction="mean"))


@row(BINARY, "`gamma` negative, infinite or NaN")
def gamma_out_of_range():
    theirs, ours = binary
    for wrong in (-1.0, INF, nan):
        assert theirs(X, Y, gamma=wrong).shape == X.shape
        refuses(ValueError, ours, X, Y, gamma=wrong)
    easy, hard = theirs(tensor([3.0, -3.0]), torch.ones(2), gamma=-1) / theirs(
        tensor([3.0, -3.0]), torch.ones(2), gamma=0
    )
    assert easy > hard
    assert (theirs(X, Y, gamma=INF) == 0).all() and theirs(X, Y, gamma=nan).isnan().all()


@row(BINARY, "`alpha` or `gamma` as a tensor or a boolean")
def settings_of_a_wrong_type():
    theirs, ours = binary
    for options in (
        {"alpha": tensor(0.25)},
        {"alpha": True},
        {"gamma": tensor(2.0)},
        {"gamma": tensor([2.0, 1.0])},
        {"gamma": True},
    ):
        assert theirs(X, Y, **options).isfinite().all()
        refuses(TypeError, ours, X, Y, **options)


@row(BINARY, "`alpha=None`")
def no_alpha():
    theirs, ours = binary
    refuses(TypeError, theirs, X, Y, alpha=None)
    close(ours(X, Y, alpha=None), ours(X, Y, alpha=-1), rtol=0, atol=0)
    close(ours(X, Y, alpha=None), theirs(X, Y, alpha=-1))


@row(BINARY, "integer and boolean `targets`")
def targets_of_integers():
    theirs, ours = binary
    for dtype in (torch.int64, torch.int32, torch.uint8, torch.bool):
        refuses(RuntimeError, theirs, X, Y.to(dtype))
        close(ours(X, Y.to(dtype)), ours(X, Y), rtol=0, atol=0)


@row(BINARY, "`targets` of a wider type than `inputs`")
def targets_of_a_wider_type():
    theirs, ours = binary
    for x, y in ((X, Y.double()), (X.half(), Y), (X.bfloat16(), Y)):
        assert theirs(x, y).dtype == y.dtype
        assert ours(x, y).dtype == x.dtype


@row(BINARY, "soft targets, $0 < y < 1$")
def soft_targets():
    theirs, ours = binary
    x, y = X.double(), tensor([0.3, 0.8], dtype=torch.float64)
    p, alpha, gamma = torch.sigmoid(x), 0.25, 2.0
    mixed_p, mixed_alpha = y * p + (1 - y) * (1 - p), y * alpha + (1 - y) * (1 - alpha)
    cross_entropy = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    close(theirs(x, y), mixed_alpha * (1 - mixed_p) ** gamma * cross_entropy)
    one, zero = (ours(x, torch.full((2,), v)) for v in (1.0, 0.0))
    close(ours(x, y), y * one + (1 - y) * zero)
    assert not torch.isclose(ours(x, y), theirs(x, y), rtol=0.05).any()


@row(BINARY, "easy examples")
def easy_binary_examples():
    theirs, ours = binary

    def error(loss, sizes, y):
        """The largest relative error among some logits on the side of the label."""
        x = sizes if y else -sizes
        got = loss(x, torch.full_like(x, y), alpha=-1, gamma=2.0)
        true = [exact.sigmoid(v, y) for v in x.tolist()]
        return max(float(abs(g - t) / t) for g, t in zip(got.tolist(), true, strict=True))

    assert error(theirs, torch.arange(9.0, 9.9, 0.01), 0.0) < 0.01
    assert error(theirs, torch.arange(9.9, 10.5, 0.01), 0.0) > 0.01
    for edge, y in ((14.6, 0.0), (16.7, 1.0)):
        sizes = torch.arange(edge, edge + 10)
        x = sizes if y else -sizes
        assert (theirs(x, torch.full_like(x, y)) == 0).all()
        assert theirs(x[0] * 0.99, tensor(y)) > 0
        assert error(ours, sizes, y) < 32 * torch.finfo(X.dtype).eps


@row(BINARY, "the gradient at easy examples, $\\gamma < 1$")
def easy_binary_gradients():
    theirs, ours = binary
    for edge, y in ((-17.4, 0.0), (16.7, 1.0)):
        x = tensor([edge * 0.99, edge])
        options = {"alpha": -1, "gamma": 0.5}
        assert slope(theirs, x, torch.full_like(x, y), **options).isnan().tolist() == [False, True]
        true = [float(exact.sigmoid(v, y, None, 0.5, 1)) for v in x.tolist()]
        close(slope(ours, x, torch.full_like(x, y), **options), tensor(true), rtol=1e-6, atol=0)


@row(BINARY, "infinite logits")
def infinite_binary_logits():
    theirs, ours = binary
    x, y = tensor([INF, -INF, INF, -INF]), tensor([1.0, 1.0, 0.0, 0.0])
    for gamma in (0.0, 0.5, 2.0):
        assert theirs(x, y, gamma=gamma).isnan().tolist() == [True, True, False, True]
        assert ours(x, y, gamma=gamma).tolist() == [0, INF, INF, 0]
        assert slope(theirs, x, y, gamma=gamma).isnan().any() == (gamma > 0)
        assert slope(ours, x, y, gamma=gamma).tolist() == [0, -0.25, 0.75, 0]


@row(BINARY, "a weight of 0 times an infinite loss")
def no_weight_times_infinity():
    theirs, ours = binary
    x, y = tensor([INF]), tensor([0.0])
    assert theirs(x, y, alpha=-1) == ours(x, y, alpha=-1) == INF
    assert theirs(x, y, alpha=1.0).isnan()
    assert ours(x, y, alpha=1.0) == 0


@row(BINARY, "bfloat16 and float16")
def binary_half_types():
    theirs, ours = binary
    x, one = tensor(6.0, dtype=torch.bfloat16), tensor(1.0, dtype=torch.bfloat16)
    assert 2.45 < theirs(x, one).item() / exact.sigmoid(6.0, 1.0, 0.25) < 2.55
    for dtype in (torch.bfloat16, torch.float16):
        x = torch.linspace(-6, 6, 41).to(dtype)
        y = (torch.arange(41) % 2).to(dtype)
        close(ours(x, y), ours(x.float(), y.float()).to(dtype), rtol=0, atol=0)


@row(CLASSES, "`size_average` and `reduce`, and any argument after `weight` by its position")
def deprecated_arguments():
    theirs, ours = softmax
    for options in ({"size_average": False}, {"reduce": False}):
        with pytest.warns(UserWarning, match="deprecated"):
            theirs(ROWS, INDEX, **options)
        refuses(TypeError, ours, ROWS, INDEX, **options)
    assert theirs(ROWS, INDEX, None, None, -100).isfinite()
    refuses(TypeError, ours, ROWS, INDEX, None, None)


@row(CLASSES, "class probabilities below 0, above 1 or NaN")
def probabilities_out_of_range():
    theirs, ours = softmax
    for wrong in (-1.0, 2.0, nan):
        y = tensor([[wrong, 1.0, 0.0], [0.0, 0.0, 1.0]])
        assert theirs(ROWS, y).shape == ()
        refuses(ValueError, ours, ROWS, y)


@row(CLASSES, "`weight` with negative, infinite or NaN entries")
def wrong_class_weights():
    theirs, ours = softmax
    for wrong in (-1.0, INF, nan):
        weight = tensor([wrong, 1.0, 1.0])
        result = theirs(ROWS, INDEX, weight)
        assert result == -INF if wrong == -1 else result.isnan()
        refuses(ValueError, ours, ROWS, INDEX, weight)


@row(CLASSES, "an item of class probabilities that are all `ignore_index`")
def ignored_probabilities():
    theirs, ours = softmax
    y = torch.softmax(ROWS, dim=1)
    y[0] = -100
    assert theirs(ROWS, y) < 0
    close(ours(ROWS, y), ours(ROWS[1:], y[1:]))
    y[0] = 255
    for loss in softmax:
        refuses((RuntimeError, ValueError), loss, ROWS, y, ignore_index=1)
    refuses(RuntimeError, theirs, ROWS, y, ignore_index=255)
    close(ours(ROWS, y, ignore_index=255), ours(ROWS[1:], y[1:]))


@row(CLASSES, "`label_smoothing` negative or NaN")
def wrong_smoothing():
    theirs, ours = softmax
    for wrong in (-0.1, nan):
        close(theirs(ROWS, INDEX, label_smoothing=wrong), theirs(ROWS, INDEX), rtol=0, atol=0)
        refuses(ValueError, ours, ROWS, INDEX, label_smoothing=wrong)
    refuses(RuntimeError, theirs, ROWS, INDEX, label_smoothing=1.1)
    refuses(ValueError, ours, ROWS, INDEX, label_smoothing=1.1)


@row(CLASSES, "logits of shape $(C,)$ with an index of shape $(1,)$")
def index_of_one_item():
    theirs, ours = softmax
    close(theirs(ROWS[0], INDEX[:1]), theirs(ROWS[0], INDEX[0]), rtol=0, atol=0)
    refuses(ValueError, ours, ROWS[0], INDEX[:1])
    close(ours(ROWS[0], INDEX[0]), theirs(ROWS[0], INDEX[0]))


@row(CLASSES, "no classes, $C = 0$, with class probabilities")
def no_classes():
    theirs, ours = softmax
    none = torch.zeros(2, 0)
    assert theirs(none, none).isnan()
    refuses(ValueError, ours, none, none)
    refuses(IndexError, theirs, none, tensor([0, 0]))
    refuses(ValueError, ours, none, tensor([0, 0]))


@row(CLASSES, "class indices of other integer types than int64 and uint8")
def class_index_types():
    theirs, ours = softmax
    for name in ("int8", "int16", "int32", "uint16", "uint32", "uint64"):
        refuses(RuntimeError, theirs, ROWS, INDEX.to(getattr(torch, name)))
        close(ours(ROWS, INDEX.to(getattr(torch, name))), ours(ROWS, INDEX), rtol=0, atol=0)
    close(theirs(ROWS, INDEX.to(torch.uint8)), theirs(ROWS, INDEX), rtol=0, atol=0)


@row(CLASSES, "`weight` of another floating type than `input`")
def class_weight_types():
    theirs, ours = softmax
    weight = tensor([0.5, 1.0, 2.0])
    for x, w in ((ROWS, weight.double()), (ROWS, weight.half()), (ROWS.bfloat16(), weight)):
        refuses(RuntimeError, theirs, x, INDEX, w)
        close(ours(x, INDEX, w), ours(x, INDEX, weight.to(x.dtype)), rtol=0, atol=0)


@row(CLASSES, "class probabilities of a wider type than `input`")
def probabilities_of_a_wider_type():
    theirs, ours = softmax
    y = torch.softmax(ROWS.double(), dim=1)
    for x, target in ((ROWS, y), (ROWS.half(), y.float())):
        assert theirs(x, target).dtype == target.dtype
        assert ours(x, target).dtype == x.dtype


@row(CLASSES, "the gradient with respect to `weight`, with class indices")
def gradient_to_class_weights():
    theirs, ours = softmax
    weight = tensor([0.5, 1.0, 2.0])
    refuses(RuntimeError, slope, theirs, ROWS, INDEX, weight, by=2)
    each = ours(ROWS, INDEX, reduction="none")
    expected = torch.zeros(3).index_add(0, INDEX, each)
    close(slope(ours, ROWS, INDEX, weight, by=2, reduction="sum"), expected)
    y = torch.softmax(ROWS, dim=1)
    close(slope(ours, ROWS, y, weight, by=2), slope(theirs, ROWS, y, weight, by=2))


@row(CLASSES, "easy examples")
def easy_examples_of_classes():
    theirs, ours = softmax

    def both_of(z):
        return torch.stack([z, torch.zeros_like(z)], dim=1), torch.zeros(len(z), dtype=torch.long)

    def error(loss, z):
        rows, index = both_of(z)
        got = loss(rows, index, reduction="none").tolist()
        true = [exact.softmax([v, 0.0], [1, 0], 0.0) for v in z.tolist()]
        return max(float(abs(g - t) / t) for g, t in zip(got, true, strict=True))

    assert error(theirs, torch.arange(11.5, 12.1, 0.01)) < 0.01
    assert error(theirs, torch.arange(12.1, 12.4, 0.01)) > 0.01
    rows, index = both_of(torch.arange(16.7, 40))
    assert (theirs(rows, index, reduction="none") == 0).all()
    assert theirs(rows[:1] * 0.99, index[:1]) > 0
    assert (slope(theirs, rows, index)[:, 0] == 0).all()
    assert error(ours, rows[:, 0]) < 32 * torch.finfo(X.dtype).eps
    true = [[float(v) for v in exact.softmax_gradient(row, [1, 0], 0.0)] for row in rows.tolist()]
    close(slope(ours, rows, index, reduction="sum"), tensor(true), rtol=2e-6, atol=0)


@row(CLASSES, "a logit of $+\\infty$, and one class alone with $\\pm\\infty$")
def infinite_logits_of_classes():
    theirs, ours = softmax
    one = tensor([[INF, 0.0, 1.0]])
    for t, limit in enumerate((0, INF, INF)):
        assert theirs(one, tensor([t])).isnan()
        assert ours(one, tensor([t])) == limit
    alone = tensor([[INF], [-INF]])
    zeros = torch.zeros(2, dtype=torch.long)
    assert theirs(alone, zeros, reduction="none").isnan().all()
    assert (ours(alone, zeros, reduction="none") == 0).all()
    for row in ([INF, INF, 0.0], [-INF, -INF, -INF]):
        for loss in softmax:
            assert loss(tensor([row]), tensor([0])).isnan()


@row(CLASSES, "a logit of $-\\infty$ whose class has no weight, or the probability 0")
def masked_classes():
    theirs, ours = softmax
    masked, rest = tensor([[0.3, -INF, 1.0], [1.0, 2.0, 3.0]]), tensor([[0.3, 1.0], [1.0, 3.0]])
    weight, index = tensor([1.0, 0.0, 2.0]), tensor([1, 0])
    assert theirs(masked, index, weight).isnan()
    close(ours(masked, index, weight), ours(masked[1:], index[1:], weight))
    y = tensor([[0.4, 0.0, 0.6], [1.0, 0.0, 0.0]])
    assert theirs(masked, y).isnan()
    assert ours(masked[:1], y[:1]) == ours(rest[:1], y[:1, [0, 2]])


@row(CLASSES, "ignored items with infinite or NaN logits")
def ignored_items():
    theirs, ours = softmax
    index = tensor([-100, 1])
    for wrong in ([INF, INF, 0.0], [nan, 0.0, 0.0]):
        x = tensor([wrong, [1.0, 2.0, 3.0]])
        assert theirs(x, index).isfinite() and slope(theirs, x, index)[0].isnan().any()
        assert (slope(ours, x, index)[0] == 0).all()


@row(CLASSES, "bfloat16 and float16")
def half_types_of_classes():
    theirs, ours = softmax
    x = tensor([[0.0, 3e4]] * 4).half()
    zeros = torch.zeros(4, dtype=torch.long)
    assert theirs(x, zeros) == INF and ours(x, zeros) == 3e4
    for dtype in (torch.bfloat16, torch.float16):
        half = (ROWS * 4).to(dtype)
        close(ours(half, INDEX), ours(half.float(), INDEX).to(dtype), rtol=0, atol=0)


@row(BOTH, "the type of an error")
def types_of_errors():
    (theirs, ours), (cross_entropy, many) = binary, softmax
    for error, loss, own, arguments in (
        (IndexError, cross_entropy, (many, ValueError), (ROWS, tensor([3, 0]))),
        (NotImplementedError, cross_entropy, (many, TypeError), (ROWS.long(), INDEX)),
        (RuntimeError, cross_entropy, (many, ValueError), (ROWS, INDEX, torch.ones(2))),
        (TypeError, theirs, (ours, TypeError), (X.tolist(), Y)),
        (ValueError, theirs, (ours, ValueError), (X, Y[:1])),
    ):
        with pytest.raises(Exception) as caught:
            loss(*arguments)
        assert caught.type is error
        with pytest.raises(own[1], match=r"^\w+: takes .*, got ") as caught:
            own[0](*arguments)
        assert caught.type is own[1]


@row(BOTH, "the fourth derivative")
def fourth_derivative():
    for (theirs, ours), x, target in both:
        for loss in (theirs, ours):
            logits = x.double().requires_grad_()
            y = target.double() if x is X else target
            derivative = loss(logits, y).sum()
            for _ in range(3):
                (derivative,) = grad(derivative.flatten()[0], logits, create_graph=True)
                assert derivative.isfinite().all()
            if loss is theirs:
                assert grad(derivative.flatten()[0], logits)[0].isfinite().all()
            else:
                refuses(NotImplementedError, grad, derivative.flatten()[0], logits)


@row(BOTH, "a forward-mode derivative of a forward-mode derivative")
def forward_over_forward():
    for losses, x, target in both:
        tangent = torch.linspace(-1, 1, x.numel()).reshape(x.shape)

        def along(function, x, tangent=tangent):
            return torch.func.jvp(function, (x,), (tangent,))[1]

        def value(x, loss, target=target):
            return loss(x, target, reduction="sum")

        theirs, ours = (functools.partial(value, loss=loss) for loss in losses)
        hessian = torch.func.hessian(ours)(x).reshape(x.numel(), x.numel())
        expected = tangent.flatten() @ hessian @ tangent.flatten()
        close(along(lambda x, f=theirs: along(f, x), x), expected, rtol=1e-4, atol=1e-6)
        with pytest.raises(NotImplementedError):
            along(lambda x, f=ours: along(f, x), x)
        with forward_ad.dual_level():  # once is no matter
            dual = ours(forward_ad.make_dual(x, tangent))
            assert forward_ad.unpack_dual(dual).tangent.isfinite()


@row(BOTH, "bad targets under `torch.func`")
def bad_targets_of_transforms():
    (theirs, ours), (cross_entropy, many) = binary, softmax
    y, index = tensor([2.0, 0.0]), tensor([7, 0])
    assert torch.func.vmap(theirs)(X, y).isfinite().all()
    refuses(RuntimeError, torch.func.vmap(cross_entropy), ROWS, index)
    for loss, x, target in ((ours, X, y), (many, ROWS, index)):
        assert torch.func.vmap(loss)(x, target).isnan().tolist() == [True, False]
        slopes = torch.func.vmap(torch.func.grad(loss))(x, target)
        assert slopes[0].isnan().all() and slopes[1].isfinite().all()


class Model(torch.nn.Module):
    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, x, target):
        return self.loss(2 * x, target)


@row(BOTH, "`torch.jit.script` of a loss")
def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for (theirs, ours), x, target in both:
            if sys.version_info < (3, 14):  # it is not made for newer ones
                close(torch.jit.script(theirs)(x, target), theirs(x, target))
            function = getattr(ours, "func", ours)
            refuses(torch.jit.frontend.NotSupportedError, torch.jit.script, function)
        for module, x, target in ((SigmoidFocalLoss(), X, Y), (SoftmaxFocalLoss(), ROWS, INDEX)):
            model = Model(module)
            for make in (torch.jit.script, torch.fx.symbolic_trace):
                close(make(model)(x, target), model(x, target), rtol=0, atol=0)


def test_each_row_of_the_page_is_shown():
    assert rows_of_the_page() == list(CHECKS)


@pytest.mark.parametrize(("section", "what"), CHECKS)
def test_difference(section, what):
    CHECKS[section, what]()


# --- What is the same -----------------------------------------------------------------------------


def test_what_is_the_same():
    """The last paragraph of the page, in its order."""
    for loss in binary:
        for alpha in (-0.5, -2, 1.5):
            refuses(ValueError, loss, X, Y, alpha=alpha)
        for y in (tensor(1.0), Y[:1], Y[:, None]):
            refuses(ValueError, loss, X, y)
    assert isinstance(SoftmaxFocalLoss(), torch.nn.CrossEntropyLoss)
    assert isinstance(SigmoidFocalLoss(), torch.nn.BCEWithLogitsLoss)
    for loss in softmax:
        for index in (tensor([3, 0]), tensor([-1, 0])):
            refuses((ValueError, IndexError), loss, ROWS, index)
        y, ones = torch.softmax(ROWS, dim=1), torch.ones(2, 3)
        assert loss(ROWS, ones).isfinite()
        ignored = torch.full((2,), -100)
        for smoothing in (0.0, 0.1):
            for x, target, weight in (
                (ROWS[:0], INDEX[:0], None),
                (ROWS, ignored, None),
                (ROWS, INDEX, torch.zeros(3)),
                (ROWS, INDEX, tensor([0.0, 1.0, 0.0])),
            ):
                assert loss(x, target, weight, label_smoothing=smoothing).isnan()
        assert (slope(loss, ROWS, y, by=1) > 0).all()
    for loss in binary:
        assert loss(X[:0], Y[:0], reduction="mean").isnan()
        assert (slope(loss, X, tensor([0.3, 0.8]), by=1) != 0).all()
    for losses, x, target in both:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = target.bfloat16() if x is X else target
            assert all(loss(x.bfloat16(), y).dtype == torch.float32 for loss in losses)


# --- How docstrings become a page -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("The book's eq-p-t.", "The book's equation :eq:`eq-p-t`."),
        ("def-mean and\nprop-ratio", ":prf:ref:`def-mean` and\n:prf:ref:`prop-ratio`"),
        ("Source: Lin et\nal. 2017, section 3", "Source: :cite:t:`lin2017focal`, section 3"),
        ("Nobody et al. 1900", "Nobody et al. 1900"),
        ('"mean" of un-eq-ual', '``"mean"`` of un-eq-ual'),
        ('``reduction="sum"`` is "sum"', '``reduction="sum"`` is ``"sum"``'),
        ('As here:\n\n>>> f("mean")', 'As here:\n\n>>> f("mean")'),
        ("So::\n\n    eq-p-t", "So::\n\n    eq-p-t"),
    ],
)
def test_a_docstring_is_linked_to_the_book(docstring, expected):
    assert linked(docstring) == expected


def test_what_is_certified_is_shown_and_holds():
    """Rounded up, where it is a bound; the page's own bound, in eps, is far above."""
    stored = json.loads(CERTIFIED.read_text("utf-8"))["gammas"]
    shown = certified_table()[2:]
    assert len(shown) == len(stored) > 0
    for line in shown:
        gamma, results, loss, gradient, nearest = re.findall(r"[\d.,]+", line)
        rows = stored[str(float(gamma))]
        assert float(results) == pytest.approx(sum(row["results"] for row in rows) / 1e9, abs=0.005)
        for row in rows:
            bound = float(loss if row["of"].startswith("loss") else gradient)
            assert row["ulp"] <= bound < 2
            assert float(nearest) / 100 <= row["nearest"]


def test_the_module_points_to_the_page():
    """The table is in one place."""
    docstring = inspect.getdoc(importlib.import_module("focal_lib.torch"))
    assert "Library reference" in docstring and "\n- " not in docstring
