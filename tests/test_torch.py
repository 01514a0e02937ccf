"""focal_lib.torch: what it takes the place of, its NumPy twin, its derivatives and limits."""

import copy
import itertools
import pickle

import exact
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.nn import functional as F

import focal_lib.numpy
from focal_lib.torch import (
    SigmoidFocalLoss,
    SoftmaxFocalLoss,
    balanced_cross_entropy,
    cross_entropy,
    focal_loss,
    modulating_factor,
    sigmoid_focal_loss,
    softmax_focal_loss,
    target_probability,
    target_weight,
)

GAMMAS = [0.0, 0.3, 0.5, 1.0, 2.0, 5.0]
REDUCTIONS = ["none", "mean", "sum"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
INF = torch.inf

close = torch.testing.assert_close


def rand(*shape, scale=1.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)


def value_and_gradient(loss, x, *arguments, **options):
    x = x.detach().clone().requires_grad_()
    value = loss(x, *arguments, **options)
    (gradient,) = grad(value.sum(), x)
    return value.detach(), gradient


def agree(ours, theirs, x, *arguments, rtol=1e-11, atol=1e-13, **options):
    """Two losses have the same value and the same gradient."""
    mine = value_and_gradient(ours, x, *arguments)
    other = value_and_gradient(theirs, x, *arguments)
    close(mine, other, rtol=rtol, atol=atol, equal_nan=True, **options)


# --- gamma = 0 is cross entropy -------------------------------------------------------------------


def softmax_cases():
    """Every option of F.cross_entropy with every shape of its arguments."""
    weights = (None, torch.tensor([0.5, 0.0, 2.0, 1.25], dtype=torch.float64))
    for shape in [(4,), (6, 4), (1, 4), (0, 4), (3, 4, 2), (2, 4, 3, 2), (2, 4, 0)]:
        axis = min(len(shape) - 1, 1)
        items = shape[:axis] + shape[axis + 1 :]
        x = rand(*shape, scale=3)
        generator = torch.Generator().manual_seed(1)
        index = torch.randint(0, 4, items, generator=generator)
        some = torch.where(torch.rand(items, generator=generator) < 0.4, -100, index)
        targets = [
            (index, {}),
            (some, {}),
            (index, {"ignore_index": 2}),
            (torch.full(items, -7), {"ignore_index": -7}),  # all of them
            (torch.softmax(rand(*shape, seed=2), axis), {}),
            (torch.sigmoid(rand(*shape, seed=3)), {}),  # of any sum
        ]
        for (target, options), weight, smoothing, reduction in itertools.product(
            targets, weights, (0.0, 0.1, 1.0), REDUCTIONS
        ):
            options = {**options, "label_smoothing": smoothing, "reduction": reduction}
            yield x, target, weight, options


def test_softmax_with_gamma_zero_is_cross_entropy():
    count = 0
    for x, target, weight, options in softmax_cases():
        ours = value_and_gradient(softmax_focal_loss, x, target, weight, gamma=0.0, **options)
        theirs = value_and_gradient(F.cross_entropy, x, target, weight, **options)
        close(ours, theirs, rtol=1e-12, atol=1e-14, equal_nan=True)
        count += 1
    assert count == 7 * 6 * 2 * 3 * 3


@pytest.mark.parametrize("shape", [(), (7,), (0,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_sigmoid_with_gamma_zero_is_binary_cross_entropy(shape, reduction):
    x, y = rand(*shape, scale=3), torch.sigmoid(rand(*shape, seed=1))
    for target in (y, y.round()):
        for alpha, weight in (
            (None, None),
            (-1, None),
            (0.25, 0.25 * target + 0.75 * (1 - target)),
        ):
            if weight is not None and target is y:
                continue  # a soft target is weighted within the expectation
            agree(
                lambda x, t, a=alpha: sigmoid_focal_loss(x, t, a, 0.0, reduction),
                lambda x, t, w=weight: F.binary_cross_entropy_with_logits(
                    x, t, w, reduction=reduction
                ),
                x,
                target,
            )


# --- Focal loss as others write it ----------------------------------------------------------------


def common_sigmoid_loss(x, y, alpha=0.25, gamma=2.0, reduction="none"):
    """What torchvision computes, from probabilities."""
    probability = torch.sigmoid(x)
    agreement = y * probability + (1 - y) * (1 - probability)
    loss = F.binary_cross_entropy_with_logits(x, y, reduction="none") * (1 - agreement) ** gamma
    if alpha >= 0:
        loss = loss * (y * alpha + (1 - y) * (1 - alpha))
    return {"none": lambda v: v, "mean": torch.mean, "sum": torch.sum}[reduction](loss)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [-1, 0.0, 0.25, 1.0])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_sigmoid_is_torchvisions_where_that_is_accurate(gamma, alpha, reduction):
    x = torch.linspace(-8, 8, 60, dtype=torch.float64).reshape(12, 5)
    y = (rand(12, 5) > 0).double()
    options = (alpha, gamma, reduction)
    agree(
        lambda x, y: sigmoid_focal_loss(x, y, *options),
        lambda x, y: common_sigmoid_loss(x, y, *options),
        x,
        y,
        rtol=1e-9,
    )


def test_defaults_are_torchvisions():
    x, y = rand(5), torch.tensor([0.0, 1, 1, 0, 1], dtype=torch.float64)
    close(sigmoid_focal_loss(x, y), common_sigmoid_loss(x, y))


@given(st.integers(0, 10**6), st.sampled_from(GAMMAS))
def test_two_classes_are_the_binary_loss_of_the_difference(seed, gamma):
    x = rand(4, 2, scale=10, seed=seed)
    t = torch.tensor([0, 1, 1, 0])
    for reduction in ("none", "sum", "mean"):
        agree(
            lambda x, r=reduction: softmax_focal_loss(x, t, gamma=gamma, reduction=r),
            lambda x, r=reduction: sigmoid_focal_loss(x[:, 1] - x[:, 0], t, None, gamma, r),
            x,
        )


# --- The NumPy twin -------------------------------------------------------------------------------


@given(
    st.integers(0, 10**6),
    st.lists(st.integers(0, 4), max_size=3),
    st.sampled_from([0.5, 4.0, 60.0]),
    st.sampled_from([None, 0.0, 0.25, 0.9]),
    st.sampled_from([*GAMMAS, 11.0]),
    st.sampled_from(REDUCTIONS),
    st.booleans(),
)
def test_sigmoid_is_its_numpy_twin(seed, shape, scale, alpha, gamma, reduction, hard):
    x, y = rand(*shape, scale=scale, seed=seed), torch.sigmoid(rand(*shape, seed=seed + 1))
    y = y.round() if hard else y
    value, gradient = value_and_gradient(sigmoid_focal_loss, x, y, alpha, gamma, reduction)
    arguments = (x.numpy(), y.numpy(), alpha, gamma, reduction)
    twin = focal_lib.numpy.sigmoid_focal_loss(*arguments)
    np.testing.assert_allclose(value, twin, rtol=1e-12)
    twin = focal_lib.numpy.sigmoid_focal_loss_gradient(*arguments)
    np.testing.assert_allclose(gradient, twin, rtol=1e-12, atol=1e-300 if hard else 1e-16)


@given(
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.sampled_from([(), (3,), (2, 2), (0,), (1, 2, 3)]),
    st.sampled_from([0.5, 4.0, 60.0]),
    st.sampled_from([*GAMMAS, 11.0]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from(REDUCTIONS),
    st.booleans(),
    st.booleans(),
)
def test_softmax_is_its_numpy_twin(
    seed, classes, items, scale, gamma, smoothing, reduction, weighted, soft
):
    shape = (*items[:1], classes, *items[1:])
    x = rand(*shape, scale=scale, seed=seed)
    w = rand(classes, seed=seed).abs() if weighted else None
    target = rand(*items, scale=3, seed=seed).long().abs() % classes
    target = torch.where(rand(*items, seed=seed + 1) < -0.5, -100, target)
    if soft:
        target = torch.softmax(rand(*shape, seed=seed), min(len(shape) - 1, 1))
    options = {"gamma": gamma, "label_smoothing": smoothing, "reduction": reduction}
    value, gradient = value_and_gradient(softmax_focal_loss, x, target, w, **options)
    arguments = [None if a is None else a.numpy() for a in (x, target, w)]
    twin = focal_lib.numpy.softmax_focal_loss(*arguments, **options)
    np.testing.assert_allclose(value, twin, rtol=2e-12, atol=1e-300)
    twin = focal_lib.numpy.softmax_focal_loss_gradient(*arguments, **options)
    tiny = 1e-300 if not soft and smoothing == 0 else 1e-14
    np.testing.assert_allclose(gradient, twin, rtol=2e-12, atol=tiny)


@given(
    st.integers(0, 10**6),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 4), max_size=3),
    st.sampled_from([0.5, 4.0, 20.0]),
    st.sampled_from(GAMMAS),
)
def test_every_dtype_is_the_numpy_twin_up_to_its_rounding(seed, dtype, shape, scale, gamma):
    axis = min(len(shape), 1)
    x = rand(*shape, 3, scale=scale, seed=seed, dtype=dtype).movedim(-1, axis)
    y, t = rand(*x.shape, seed=seed) > 0, rand(*shape, scale=3, seed=seed).long().abs() % 3
    wide = x.double().numpy()
    info, inner = torch.finfo(dtype), torch.finfo(torch.promote_types(dtype, torch.float32))
    # A difference of logits is rounded, and exp and the power make that a relative error.
    bound = 16 * info.eps + 2 * inner.eps * (gamma + 1) * (np.ptp(wide) if wide.size else 0)
    for loss, target, options in (
        (sigmoid_focal_loss, y, {"gamma": gamma}),
        (softmax_focal_loss, t, {"gamma": gamma, "reduction": "none"}),
    ):
        twins = loss.__name__, f"{loss.__name__}_gradient"
        for got, twin in zip(value_and_gradient(loss, x, target, **options), twins, strict=True):
            true = getattr(focal_lib.numpy, twin)(wide, target.numpy(), **options)
            np.testing.assert_allclose(got.double(), true, rtol=bound, atol=info.tiny)


def test_definitions_are_their_numpy_twins():
    p, y = torch.tensor([0.0, 0.25, 0.968, 1.0], dtype=torch.float64), torch.tensor([1, 0, 1, 0])
    weight = torch.tensor([0.0, 0.25, 3.0, 1.0])
    for name, arguments in [
        ("target_probability", (p, y)),
        ("target_weight", (0.25, y)),
        ("target_weight", (None, y)),
        ("cross_entropy", (p,)),
        ("balanced_cross_entropy", (p, weight)),
        ("balanced_cross_entropy", (p, 0.25)),
        ("modulating_factor", (p, 0.5)),
        ("focal_loss", (p, 2.0)),
        ("focal_loss", (p, 2.0, weight)),
    ]:
        ours = globals()[name](*arguments)
        twin = getattr(focal_lib.numpy, name)(*(np.asarray(a)[()] for a in arguments))
        np.testing.assert_allclose(ours, twin, rtol=1e-15, err_msg=name)


def test_definitions_have_derivatives():
    p = torch.tensor([0.1, 0.5, 0.99], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([1, 0, 1])
    for function in (
        cross_entropy,
        lambda p: balanced_cross_entropy(p, 0.25),
        lambda p: modulating_factor(p, 0.5),
        lambda p: focal_loss(target_probability(p, y), 2.0, target_weight(0.25, y)),
    ):
        assert gradcheck(function, p)


# --- Exactness ------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_known_values_in_float32(gamma):
    """The cases where the formulas in use lose all digits: easy examples."""
    eps = torch.finfo(torch.float32).eps
    for logit in (-14.6, -3.0, 0.3, 10.1, 17.25, 25.0):
        x = torch.tensor(logit)
        value, slope = value_and_gradient(sigmoid_focal_loss, x, torch.tensor(1), None, gamma)
        true = [exact.sigmoid(x.item(), 1, None, gamma, n) for n in (0, 1)]
        assert abs(value.item() / true[0] - 1) < 16 * eps
        assert abs(slope.item() / true[1] - 1) < 16 * eps
        row = torch.tensor([logit, 0.25, -1.0])
        value, slope = value_and_gradient(
            softmax_focal_loss, row, torch.tensor(0), gamma=gamma, reduction="sum"
        )
        bound = (gamma + 1) * 64 * eps  # a margin near 16 is rounded by 8 eps
        true = exact.softmax(row.tolist(), [1, 0, 0], gamma)
        assert abs(value.item() / true - 1) < bound
        for got, true in zip(
            slope.tolist(), exact.softmax_gradient(row.tolist(), [1, 0, 0], gamma), strict=True
        ):
            assert abs(got / true - 1) < bound


def test_an_offset_costs_nothing():
    x = torch.tensor([[12.0, 0.5, -3.25]])
    t = torch.tensor([0])
    expected = value_and_gradient(softmax_focal_loss, x, t)
    close(value_and_gradient(softmax_focal_loss, x + 3000 * 2**4, t), expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_rounded_once(dtype):
    x, y = rand(40, 4, scale=4, dtype=dtype), rand(40, 4, seed=1) > 0
    t = torch.arange(40) % 4
    w = torch.tensor([0.3, 1.0, 2.0, 0.7], dtype=dtype)
    for loss, arguments in (
        (sigmoid_focal_loss, (y,)),
        (sigmoid_focal_loss, (y, 0.3, 0.5, "mean")),
        (softmax_focal_loss, (t, w)),
        (softmax_focal_loss, (torch.softmax(rand(40, 4), 1).to(dtype),)),
    ):
        half = value_and_gradient(loss, x, *arguments)
        full = value_and_gradient(loss, x.float(), *arguments)
        assert half[0].dtype == half[1].dtype == dtype
        if half[0].ndim == 0:
            close(half[0], full[0].to(dtype), rtol=0, atol=0)
            close(half[1], full[1].to(dtype), rtol=0, atol=0)
        else:
            close(half, tuple(v.to(dtype) for v in full), rtol=0, atol=0)
    p = torch.rand(50, generator=torch.Generator().manual_seed(0)).to(dtype)
    close(focal_loss(p, 2.0, 0.3), focal_loss(p.float(), 2.0, 0.3).to(dtype), rtol=0, atol=0)


# --- Derivatives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", GAMMAS)
def test_sigmoid_gradcheck(gamma):
    x = torch.tensor([-30.0, -2.5, 0.0, 0.4, 3.0, 25.0], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0.0, 1, 0, 0.3, 1, 0.8], dtype=torch.float64, requires_grad=True)
    inner = y.detach() * 0.8 + 0.1  # a numerical derivative by y needs room
    for alpha, reduction in ((None, "none"), (0.25, "mean"), (0.9, "sum")):

        def loss(x, y, alpha=alpha, reduction=reduction):
            return sigmoid_focal_loss(x, y, alpha, gamma, reduction)

        assert gradcheck(loss, (x, y.detach()))
        assert gradgradcheck(loss, (x, y.detach()))
        assert gradcheck(loss, (x, inner.requires_grad_()))
        assert gradgradcheck(loss, (x, inner))


@pytest.mark.parametrize("gamma", GAMMAS)
def test_softmax_gradcheck(gamma):
    x = rand(2, 3, 2, scale=2).requires_grad_()
    far = torch.tensor([[30.0, 0, 1], [0, 30, 1], [-30, 1, 0]], dtype=torch.float64)
    t = torch.tensor([[0, 1], [2, -100]])
    soft = torch.softmax(rand(2, 3, 2, seed=1), 1)
    w = torch.tensor([0.5, 2.0, 1.25], dtype=torch.float64)
    for inputs, target, weight, smoothing, reduction in (
        (x, t, None, 0.0, "none"),
        (x, t, w, 0.1, "mean"),
        (x, soft, w, 0.1, "sum"),
        (x, soft, None, 0.0, "mean"),
        (far.requires_grad_(), torch.tensor([0, 2, 1]), None, 0.0, "none"),
    ):

        def loss(x, y, weight=weight, smoothing=smoothing, reduction=reduction):
            return softmax_focal_loss(
                x, y, weight, gamma=gamma, label_smoothing=smoothing, reduction=reduction
            )

        assert gradcheck(loss, (inputs, target))
        assert gradgradcheck(loss, (inputs, target))
        if target.is_floating_point():
            learned = target.detach().clone().requires_grad_()
            assert gradcheck(loss, (inputs, learned))
            assert gradgradcheck(loss, (inputs, learned))


def test_second_derivative_is_the_numpy_twins():
    x = torch.linspace(-40, 40, 41, dtype=torch.float64, requires_grad=True)
    y = (torch.arange(41) % 2).double()
    for gamma in GAMMAS:
        (slope,) = grad(sigmoid_focal_loss(x, y, 0.25, gamma).sum(), x, create_graph=True)
        (second,) = grad(slope.sum(), x)
        twin = focal_lib.numpy.sigmoid_focal_loss_hessian(x.detach(), y, 0.25, gamma)
        np.testing.assert_allclose(second, twin, rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.3, 0.5, 1.0, 2.0, 7.5, 100.0, 1e3])
def test_all_is_finite_for_finite_logits(dtype, gamma):
    sizes = [0, 1e-4, 1, 6.25, 8.3, 16.64, 17.33, 24, 36, 87, 88.5, 103, 104, 709, 746, 3e4]
    x = torch.tensor(sizes + [-v for v in sizes], dtype=dtype, requires_grad=True)
    for y in (torch.zeros(len(x)), torch.ones(len(x)), torch.full((len(x),), 0.5)):
        loss = sigmoid_focal_loss(x, y, None, gamma)
        (slope,) = grad(loss.sum(), x, create_graph=True)
        (second,) = grad(slope.sum(), x)
        assert loss.isfinite().all() and slope.isfinite().all() and second.isfinite().all()
    rows = torch.stack([x, x * 0, -x, x / 2], dim=1).detach().requires_grad_()
    for t in range(4):
        target = torch.full((len(x),), t)
        for options in ({}, {"label_smoothing": 0.1}):
            # the factor keeps the sum of a half type within its range
            loss = softmax_focal_loss(rows, target, gamma=gamma, reduction="none", **options)
            (slope,) = grad(loss.sum(), rows, create_graph=True)
            (second,) = grad(slope.square().sum(), rows)
            assert loss.isfinite().all() and slope.isfinite().all() and second.isfinite().all()


@pytest.mark.parametrize("loss", [sigmoid_focal_loss, softmax_focal_loss])
def test_function_transforms(loss):
    x, t = rand(5, 3), torch.tensor([0, 2, 1, 1, 0])
    target = F.one_hot(t) if loss is sigmoid_focal_loss else t

    def item(x, t):
        return loss(x, t, reduction="sum")

    each = torch.func.vmap(torch.func.grad(item))(x, target)
    close(each, value_and_gradient(item, x, target)[1])
    hessian = torch.func.jacrev(torch.func.jacrev(item))(x[0], target[0])
    close(hessian, torch.autograd.functional.hessian(lambda v: item(v, target[0]), x[0]))


# --- Limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_sigmoid_at_infinity(dtype, gamma):
    x = torch.tensor([INF, -INF], dtype=dtype)
    one, zero = torch.ones(2), torch.zeros(2)
    for target, alpha, value, slope in (
        (one, None, [0, INF], [0, -1]),
        (zero, None, [INF, 0], [1, 0]),
        (zero, 0.25, [INF, 0], [0.75, 0]),
        (one, 0.0, [0, 0], [0, 0]),
    ):
        got = value_and_gradient(sigmoid_focal_loss, x, target, alpha, gamma)
        expected = torch.tensor([value, slope], dtype=dtype)
        close(got, (expected[0], expected[1]), rtol=0, atol=0)
    x = x.requires_grad_()
    (slope,) = grad(sigmoid_focal_loss(x, one, None, gamma).sum(), x, create_graph=True)
    assert (grad(slope.sum(), x)[0] == 0).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(
    ("row", "target", "value", "slope"),
    [
        ([0.0, -INF, 0.0], 1, INF, [0.5, -1, 0.5]),
        ([0.0, INF, 1.0], 1, 0, [0, 0, 0]),
        ([0.0, INF, 1.0], 0, INF, [-1, 1, 0]),
        ([3.0], 0, 0, [0]),
        ([INF], 0, 0, [0]),
        ([-INF], 0, 0, [0]),
        ([INF, INF, 0.0], 0, torch.nan, None),
        ([INF, INF, 0.0], 2, torch.nan, None),
        ([-INF, -INF], 0, torch.nan, None),
        ([torch.nan, 0.0], 0, torch.nan, None),
        ([0.0, torch.nan], 0, torch.nan, None),
        ([torch.nan], 0, torch.nan, None),
    ],
)
def test_softmax_limits(gamma, row, target, value, slope):
    x = torch.tensor([row], dtype=torch.float64)
    got = value_and_gradient(softmax_focal_loss, x, torch.tensor([target]), gamma=gamma)
    close(got[0].item(), float(value), rtol=0, atol=0, equal_nan=True)
    if slope is not None:
        close(got[1], torch.tensor([slope], dtype=torch.float64), rtol=1e-15, atol=0)
    elif len(row) > 1:
        assert got[1].isnan().any()


def test_a_masked_class_is_as_if_it_were_not_there():
    x, t = rand(4, 3, scale=3), torch.tensor([0, 1, 2, 1])
    masked = torch.cat([x, torch.full((4, 1), -INF, dtype=x.dtype)], dim=1)
    for weight, smoothing in ((None, 0.0), (torch.tensor([1.0, 2, 3, 0]), 0.1)):
        for gamma in (0.0, 0.5, 2.0):
            value, slope = value_and_gradient(
                softmax_focal_loss, masked, t, weight, gamma=gamma, label_smoothing=smoothing
            )
            assert value.isfinite() and slope.isfinite().all() and (slope[:, 3] == 0).all()
            if not smoothing:
                two = value_and_gradient(softmax_focal_loss, x, t, gamma=gamma)
                close((value, slope[:, :3]), two, rtol=1e-14, atol=0)


def test_ignored_items_do_not_matter():
    x = torch.tensor([[1.0, 2.0], [torch.nan, 0.0], [INF, INF], [0.0, -INF]])
    t = torch.tensor([0, -100, -100, -100])
    for smoothing, reduction in itertools.product((0.0, 0.1), ("mean", "sum")):
        options = {"label_smoothing": smoothing, "reduction": reduction}
        value, slope = value_and_gradient(softmax_focal_loss, x, t, **options)
        alone = value_and_gradient(softmax_focal_loss, x[:1], t[:1], **options)
        close((value, slope[:1]), alone, rtol=0, atol=0)
        assert (slope[1:] == 0).all()


def test_nothing_to_average():
    x = rand(2, 3)
    ignored = torch.full((2,), -100)
    for inputs, target in ((x[:0], ignored[:0]), (x[:0], x[:0]), (x, ignored)):
        value, slope = value_and_gradient(softmax_focal_loss, inputs, target)
        assert value.isnan() and (slope == 0).all() and slope.shape == inputs.shape
        assert softmax_focal_loss(inputs, target, reduction="sum") == 0
    w = torch.tensor([0.0, 1, 1])
    assert softmax_focal_loss(x, torch.zeros(2, dtype=torch.long), w).isnan()
    assert softmax_focal_loss(x, torch.zeros(2, dtype=torch.long), w, reduction="sum") == 0
    assert sigmoid_focal_loss(x[:0], x[:0], reduction="mean").isnan()
    assert sigmoid_focal_loss(x[:0], x[:0], reduction="sum") == 0


# --- Tensors of all kinds -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_have_the_dtype_of_the_logits(dtype):
    x = rand(4, 3, dtype=dtype)
    y = torch.tensor([[1, 0, 1]] * 4)
    t = torch.tensor([0, 1, 2, 0])
    for target in (y, y.bool(), y.double(), y.half()):
        for reduction in REDUCTIONS:
            value, slope = value_and_gradient(sigmoid_focal_loss, x, target, reduction=reduction)
            assert value.dtype == slope.dtype == dtype
    for target in (t, t.int(), t.to(torch.uint8), y.double() / 2):
        for weight in (None, torch.ones(3), torch.ones(3, dtype=torch.float64)):
            for reduction in REDUCTIONS:
                value, slope = value_and_gradient(
                    softmax_focal_loss, x, target, weight, reduction=reduction
                )
                assert value.dtype == slope.dtype == dtype


def test_strided_tensors():
    x, t = rand(3, 6, 4).transpose(0, 2)[:, ::2], torch.tensor([[0, 1, 2]] * 4)
    close(softmax_focal_loss(x, t), softmax_focal_loss(x.contiguous(), t))
    y = torch.ones(()).expand(x.shape)
    close(sigmoid_focal_loss(x, y), sigmoid_focal_loss(x.contiguous(), y.contiguous()))


def test_arguments_are_not_changed():
    x, y, t, w = rand(3, 4), torch.sigmoid(rand(3, 4)), torch.tensor([0, -100, 2]), torch.ones(4)
    before = [a.clone() for a in (x, y, t, w)]
    sigmoid_focal_loss(x, y, reduction="mean")
    softmax_focal_loss(x, t, w)
    softmax_focal_loss(x, y, w, label_smoothing=0.1)
    close((x, y, t, w), tuple(before), rtol=0, atol=0)


def test_no_value_is_looked_at_off_the_cpu():
    """A meta tensor has no values: looking at one is an error."""
    x = torch.empty(3, 4, device="meta", requires_grad=True)
    t = torch.empty(3, device="meta", dtype=torch.long)
    w = torch.empty(4, device="meta")
    for reduction in REDUCTIONS:
        losses = [
            sigmoid_focal_loss(x, torch.empty(3, 4, device="meta"), reduction=reduction),
            softmax_focal_loss(x, t, w, reduction=reduction, label_smoothing=0.1),
            softmax_focal_loss(x, torch.empty(3, 4, device="meta"), reduction=reduction),
        ]
        for loss in losses:
            (slope,) = grad(loss.sum(), x, create_graph=True)
            assert grad(slope.sum(), x)[0].shape == x.shape
    p = torch.empty(3, device="meta")
    assert focal_loss(target_probability(p, t), 2.0, target_weight(0.25, t)).shape == (3,)
    assert focal_loss(p, 2.0, 0.25).shape == (3,)


# --- Modules --------------------------------------------------------------------------------------


def test_modules_are_the_functions():
    x, y, t = rand(5, 3), (rand(5, 3, seed=1) > 0).double(), torch.tensor([0, 2, 1, 1, -1])
    w = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    close(SigmoidFocalLoss()(x, y), sigmoid_focal_loss(x, y))
    close(SigmoidFocalLoss(None, 3.0, "sum")(x, y), sigmoid_focal_loss(x, y, None, 3.0, "sum"))
    close(SoftmaxFocalLoss()(x, t % 3), softmax_focal_loss(x, t % 3))
    options = {"gamma": 1.5, "ignore_index": -1, "reduction": "sum", "label_smoothing": 0.1}
    module = SoftmaxFocalLoss(w, **options)
    close(module(x, t), softmax_focal_loss(x, t, w, **options))
    for same in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        close(same(x, t), module(x, t))
    close(module.state_dict(), {"weight": w})
    assert module.float().weight.dtype == torch.float32
    assert repr(SigmoidFocalLoss(0.5)) == "SigmoidFocalLoss(alpha=0.5, gamma=2.0, reduction='none')"
    assert repr(module) == (
        "SoftmaxFocalLoss(weight=<3 classes>, gamma=1.5, ignore_index=-1, reduction='sum', "
        "label_smoothing=0.1)"
    )
    assert "weight=None" in repr(SoftmaxFocalLoss())
