"""focal_lib.torch: what it takes the place of, its NumPy twin, its derivatives and limits.

On each device: new tensors are on the default device, which conftest.py sets, and random ones are
made on the CPU, so that they are the same everywhere. In Triton's interpreter a launch of a kernel
takes milliseconds: the tests with most of them have fewer cases there.
"""

import copy
import inspect
import itertools
import math
import pickle

import exact
import mpmath as mp
import numpy as np
import pytest
import torch
import torch._dynamo.testing
import torch.utils.checkpoint
from cases import sampled
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.fx.experimental import proxy_tensor
from torch.nn import functional as F

import focal_lib.numpy
from benchmarks.peers import torchvision_sigmoid
from focal_lib._ways import compiled
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
pytestmark = pytest.mark.devices

close = torch.testing.assert_close


def rand(*shape, scale=1.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu") * scale
    return made.to(torch.get_default_device(), dtype)


def array(v):
    """Of a tensor on any device; what is none stays."""
    return v.detach().cpu().numpy() if isinstance(v, torch.Tensor) else v


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


def every(n, cases, way):
    """One of n cases in the interpreter, all of them elsewhere."""
    return itertools.islice(cases, 0, None, n if way == "interpreter" else 1)


@pytest.fixture
def exactly(way_of_losses):
    """Tolerances of what is made by the same operations.

    A GPU's compiler may make other operations of them for each of the shapes and types.
    """
    return {} if way_of_losses == "cuda" else {"rtol": 0, "atol": 0}


# --- gamma = 0 is cross entropy -------------------------------------------------------------------


def softmax_cases():
    """Every option of F.cross_entropy with every shape of its arguments."""
    weights = (None, torch.tensor([0.5, 0.0, 2.0, 1.25], dtype=torch.float64))
    for shape in [(4,), (6, 4), (1, 4), (0, 4), (3, 4, 2), (2, 4, 3, 2), (2, 4, 0)]:
        axis = min(len(shape) - 1, 1)
        items = shape[:axis] + shape[axis + 1 :]
        x = rand(*shape, scale=3)
        index = rand(*items, scale=9, seed=1).long().abs() % 4
        some = torch.where(rand(*items, seed=5) < -0.25, -100, index)
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


def test_softmax_with_gamma_zero_is_cross_entropy(way_of_losses):
    count = 0
    for x, target, weight, options in every(11, softmax_cases(), way_of_losses):
        ours = value_and_gradient(softmax_focal_loss, x, target, weight, gamma=0.0, **options)
        theirs = value_and_gradient(F.cross_entropy, x, target, weight, **options)
        close(ours, theirs, rtol=1e-12, atol=1e-14, equal_nan=True)
        count += 1
    cases = 7 * 6 * 2 * 3 * 3
    assert count == (-(-cases // 11) if way_of_losses == "interpreter" else cases)


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


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [-1, 0.0, 0.25, 1.0])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_sigmoid_is_torchvisions_where_that_is_accurate(gamma, alpha, reduction):
    x = torch.linspace(-8, 8, 60, dtype=torch.float64).reshape(12, 5)
    y = (rand(12, 5) > 0).double()
    options = (alpha, gamma, reduction)
    agree(
        lambda x, y: sigmoid_focal_loss(x, y, *options),
        lambda x, y: torchvision_sigmoid(x, y, *options),
        x,
        y,
        rtol=1e-9,
    )


@pytest.mark.devices("cpu", reason="it computes nothing")
@pytest.mark.parametrize("library", [focal_lib.numpy, focal_lib.torch])
def test_signatures_are_those_people_already_call(library):
    """Names, order and defaults of torchvision's loss, and names of F.cross_entropy."""
    for suffix in ("", "_gradient", "_hessian") if library is focal_lib.numpy else ("",):
        signature = inspect.signature(getattr(library, f"sigmoid_focal_loss{suffix}"))
        names = [(p.name, p.default) for p in signature.parameters.values()]
        needed = inspect.Parameter.empty
        assert names == [
            ("inputs", needed),
            ("targets", needed),
            ("alpha", needed if suffix else 0.25),  # the loss alone has torchvision's
            ("gamma", 2.0),
            ("reduction", "none"),
            ("weight", None),
            ("pos_weight", None),
            ("ignore_index", None),
        ]
        by_name = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
        assert by_name == [name for name, _ in names[2 if suffix else 5 :]]
    theirs = inspect.signature(F.cross_entropy).parameters
    for suffix in ("", "_gradient") if library is focal_lib.numpy else ("",):
        ours = inspect.signature(getattr(library, f"softmax_focal_loss{suffix}")).parameters
        assert set(theirs) - set(ours) == {"size_average", "reduce"}
        assert list(ours)[:3] == list(theirs)[:3] == ["input", "target", "weight"]
        assert {name: p.default for name, p in ours.items() if name in theirs} == {
            name: p.default for name, p in theirs.items() if name in ours
        }
        for name in list(ours)[3:]:
            assert ours[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert ours["gamma"].default == 2.0


def test_defaults_are_torchvisions():
    x, y = rand(5), torch.tensor([0.0, 1, 1, 0, 1], dtype=torch.float64)
    close(sigmoid_focal_loss(x, y), torchvision_sigmoid(x, y))


@given(
    st.integers(0, 10**6),
    st.sampled_from([*GAMMAS, 11.0]),
    st.sampled_from([0.5, 4.0, 60.0]),
    st.sampled_from([0.0, 0.1, 1.0]),
)
def test_softmax_identities(seed, gamma, scale, smoothing):
    """What holds for every gamma: shift, order of the classes, expectation, one-hot, smoothing."""
    x, t = rand(6, 4, scale=scale, seed=seed), rand(6, scale=3, seed=seed).long().abs() % 4
    w = rand(4, seed=seed).abs()
    options = {"gamma": gamma, "reduction": "none"}

    def loss(x, target, weight=w, smoothing=smoothing):
        return softmax_focal_loss(x, target, weight, label_smoothing=smoothing, **options)

    agree(lambda x: loss(x + 512, t), lambda x: loss(x, t), x, rtol=1e-10 * (gamma + 1))
    order = torch.tensor([2, 0, 3, 1])
    agree(lambda x: loss(x[:, order], order.argsort()[t], w[order]), lambda x: loss(x, t), x)
    one_hot = F.one_hot(t, 4).double()
    agree(lambda x: loss(x, one_hot), lambda x: loss(x, t), x)
    y = torch.softmax(rand(6, 4, seed=seed + 1), 1)

    def expectation(x):
        of_each_class = [loss(x, torch.full((6,), c), smoothing=0.0) for c in range(4)]
        smoothed = (1 - smoothing) * y + smoothing / 4
        return (smoothed * torch.stack(of_each_class, dim=1)).sum(dim=1)

    agree(lambda x: loss(x, y), expectation, x)
    # Focal loss lies between 0 and cross entropy, and falls as gamma grows.
    less, more = (softmax_focal_loss(x, t, gamma=g, reduction="none") for g in (gamma + 0.5, gamma))
    assert (less >= 0).all() and (less <= more).all()


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
    settings = {"alpha": alpha, "gamma": gamma, "reduction": reduction}
    twin = focal_lib.numpy.sigmoid_focal_loss(array(x), array(y), **settings)
    np.testing.assert_allclose(array(value), twin, rtol=1e-12)
    twin = focal_lib.numpy.sigmoid_focal_loss_gradient(array(x), array(y), **settings)
    np.testing.assert_allclose(array(gradient), twin, rtol=1e-12, atol=1e-300 if hard else 1e-16)


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
    arguments = [array(a) for a in (x, target, w)]
    twin = focal_lib.numpy.softmax_focal_loss(*arguments, **options)
    np.testing.assert_allclose(array(value), twin, rtol=2e-12, atol=1e-300)
    twin = focal_lib.numpy.softmax_focal_loss_gradient(*arguments, **options)
    tiny = 1e-300 if not soft and smoothing == 0 else 1e-14
    np.testing.assert_allclose(array(gradient), twin, rtol=2e-12, atol=tiny)


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
    wide = array(x.double())
    info, inner = torch.finfo(dtype), torch.finfo(torch.promote_types(dtype, torch.float32))
    # A difference of logits is rounded, and exp and the power make that a relative error.
    bound = 16 * info.eps + 2 * inner.eps * (gamma + 1) * (np.ptp(wide) if wide.size else 0)
    for loss, target, options in (
        (sigmoid_focal_loss, y, {"alpha": 0.25, "gamma": gamma}),
        (softmax_focal_loss, t, {"gamma": gamma, "reduction": "none"}),
    ):
        twins = loss.__name__, f"{loss.__name__}_gradient"
        for got, twin in zip(value_and_gradient(loss, x, target, **options), twins, strict=True):
            true = getattr(focal_lib.numpy, twin)(wide, array(target), **options)
            np.testing.assert_allclose(array(got.double()), true, rtol=bound, atol=info.tiny)


@pytest.mark.devices("cpu", "cuda", reason="no kernel has them")
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
        twin = getattr(focal_lib.numpy, name)(*(np.asarray(array(a))[()] for a in arguments))
        np.testing.assert_allclose(array(ours), twin, rtol=1e-15, err_msg=name)


@pytest.mark.devices("cpu", "cuda", reason="no kernel has them")
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


def largest_error(got, true, eps, scale=None):
    """In eps, relative to the true values or their scale; what is below tiny has no digits left."""
    errors = [0.0]
    for g, t, size in zip(got, true, scale or [abs(t) for t in true], strict=True):
        error = abs(mp.mpf(float(g)) - t)
        if error > TINY[eps]:
            errors.append(float(error / size) / eps)
    return max(errors)


TINY = {torch.finfo(d).eps: torch.finfo(d).tiny for d in (torch.float64, torch.float32)}
# Exact in float32. 10.1 and 16.64 are where the formulas in use lose all digits.
SIZES = [1e-3, 0.3, 1.0, 5.5, 10.1, 16.64, 40.2, 86.5, 300.5, 700.0]
SIZES = np.array(SIZES, np.float32).tolist()
KNOWN = [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 5.0, 20.0]


@pytest.mark.parametrize("gamma", KNOWN)
def test_sigmoid_is_exact(gamma):
    """Value and two derivatives within 32 eps, for every logit."""
    logits = SIZES + [-v for v in SIZES]
    true = [[exact.sigmoid(x, 1, None, gamma, n) for x in logits] for n in range(3)]
    # The second derivative has a zero: its scale is the size of its terms.
    scales = [None, None, [exact.curvature_scale(x, gamma) for x in logits]]
    for dtype, y in itertools.product((torch.float64, torch.float32), (1, 0)):
        x = torch.tensor(logits, dtype=dtype, requires_grad=True)
        value = sigmoid_focal_loss(x if y else -x, torch.full(x.shape, y), 0.25, gamma)
        (slope,) = grad(value.sum(), x, create_graph=True)
        (second,) = grad(slope.sum(), x)
        alpha_t = 0.25 if y else 0.75
        for got, expected, scale in zip((value, slope, second), true, scales, strict=True):
            got = (got.detach().double() / alpha_t).tolist()
            assert largest_error(got, expected, torch.finfo(dtype).eps, scale) < 32


@pytest.mark.parametrize("gamma", KNOWN)
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_softmax_is_exact(classes, gamma):
    """Value and gradient; a margin is a rounded difference, which exp makes a relative error."""
    margins = [-300.5, -40.2, -5.5, 1e-3, 5.5, 16.64, 86.5, 700.0]
    others = rand(classes - 1, seed=classes).tolist()
    rows = torch.tensor([[margin, *others] for margin in margins], dtype=torch.float32)
    factor = [1] + [0] * (classes - 1)
    true = [exact.softmax(row, factor, gamma) for row in rows.tolist()]
    true_gradients = [exact.softmax_gradient(row, factor, gamma) for row in rows.tolist()]
    first = torch.zeros(len(margins), dtype=torch.long)
    for dtype in (torch.float64, torch.float32):
        eps = torch.finfo(dtype).eps
        values, slopes = value_and_gradient(
            softmax_focal_loss, rows.to(dtype), first, gamma=gamma, reduction="none"
        )
        for i, margin in enumerate(margins):
            ulp = max(1, 2.0 ** math.floor(math.log2(abs(margin) + 4)))  # of the margin, in eps
            bound = 32 + (gamma + 1) * ulp / 2
            assert largest_error([values[i]], [true[i]], eps) < bound, margin
            assert largest_error(slopes[i], true_gradients[i], eps) < bound, margin


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_soft_targets_close_to_one_hot_keep_their_digits(dtype):
    """The target that is left out of a sum of others must not be subtracted from the total."""
    eps = torch.finfo(dtype).eps
    y = torch.tensor([1 - 8 * eps, 3.37 * eps, 0.71 * eps, 3.9 * eps, 0.25 * eps], dtype=dtype)
    for gamma, x in itertools.product((0.0, 0.5, 2.0), ([60.0, 0.0, 1, 2, 3], [2.0, 9.0, 1, 2, 3])):
        parts = [exact.softmax_gradient(x, row, gamma) for row in torch.diag(y).tolist()]
        true = [mp.fsum(column) for column in zip(*parts, strict=True)]
        scale = [mp.fsum(abs(v) for v in column) for column in zip(*parts, strict=True)]
        logits = torch.tensor(x, dtype=dtype)
        _, slope = value_and_gradient(softmax_focal_loss, logits, y, gamma=gamma)
        assert largest_error(slope, true, eps, scale) < 64 * (gamma + 1)
        twin = focal_lib.numpy.softmax_focal_loss_gradient(array(logits), array(y), gamma=gamma)
        assert largest_error(twin, true, eps, scale) < 32


def test_an_offset_costs_nothing(way_of_losses):
    x = torch.tensor([[12.0, 0.5, -3.25]])
    t = torch.tensor([0])
    expected = value_and_gradient(softmax_focal_loss, x, t)
    offset = value_and_gradient(softmax_focal_loss, x + 3000 * 2**4, t)
    # Without kernels a row of small logits is not shifted at all, which rounds in another way.
    in_chunks = way_of_losses == "cpu" and compiled.kernels is None
    close(offset, expected, rtol=2 * torch.finfo(x.dtype).eps if in_chunks else 0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_rounded_once(dtype, way_of_losses):
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
        # The Triton kernels leave float32 some digits that a half type does not need.
        other = 0 if way_of_losses == "cpu" else 1e-5
        for got, wide in zip(half, full, strict=True):
            ends = torch.stack([wide * (1 - other), wide * (1 + other)]).to(dtype)
            assert ((ends.amin(0) <= got) & (got <= ends.amax(0))).all()
    p = torch.sigmoid(rand(50)).to(dtype)
    close(focal_loss(p, 2.0, 0.3), focal_loss(p.float(), 2.0, 0.3).to(dtype), rtol=0, atol=0)


# --- Derivatives ----------------------------------------------------------------------------------


@pytest.fixture
def checks(way_of_losses):
    """gradcheck and gradgradcheck of a function.

    In the interpreter only of what the kernels compute, the gradient by the logits, and along one
    direction.
    """
    few = way_of_losses == "interpreter"

    def check(function, x, *others):
        if not few:  # sums by a GPU's atomic operations have no order
            assert gradcheck(function, (x, *others), nondet_tol=1e-12)
            assert gradgradcheck(function, (x, *others), nondet_tol=1e-12)
        elif not any(v.requires_grad for v in others):
            assert gradcheck(function, (x, *others), fast_mode=True)

    return check


@pytest.mark.parametrize("gamma", GAMMAS)
def test_sigmoid_gradcheck(gamma, checks):
    x = torch.tensor([-30.0, -2.5, 0.0, 0.4, 3.0, 25.0], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0.0, 1, 0, 0.3, 1, 0.8], dtype=torch.float64, requires_grad=True)
    inner = y.detach() * 0.8 + 0.1  # a numerical derivative by y needs room
    for alpha, reduction in ((None, "none"), (0.25, "mean"), (0.9, "sum")):

        def loss(x, y, alpha=alpha, reduction=reduction):
            return sigmoid_focal_loss(x, y, alpha, gamma, reduction)

        checks(loss, x, y.detach())
        checks(loss, x, inner.requires_grad_())


@pytest.mark.parametrize("gamma", GAMMAS)
def test_softmax_gradcheck(gamma, checks, way_of_losses):
    x = rand(2, 3, 2, scale=2).requires_grad_()
    far = torch.tensor([[30.0, 0, 1], [0, 30, 1], [-30, 1, 0]], dtype=torch.float64)
    t = torch.tensor([[0, 1], [2, -100]])
    soft = torch.softmax(rand(2, 3, 2, seed=1), 1)
    w = torch.tensor([0.5, 2.0, 1.25], dtype=torch.float64)
    cases = (
        (x, t, None, 0.0, "none"),
        (x, t, w, 0.1, "mean"),
        (x, soft, w, 0.1, "sum"),
        (x, soft, None, 0.0, "mean"),
        (far.requires_grad_(), torch.tensor([0, 2, 1]), None, 0.0, "none"),
    )
    for inputs, target, weight, smoothing, reduction in every(2, cases, way_of_losses):

        def loss(x, y, weight=weight, smoothing=smoothing, reduction=reduction):
            return softmax_focal_loss(
                x, y, weight, gamma=gamma, label_smoothing=smoothing, reduction=reduction
            )

        checks(loss, inputs, target)
        if target.is_floating_point():
            checks(loss, inputs, target.detach().clone().requires_grad_())


def test_second_derivative_is_the_numpy_twins():
    x = torch.linspace(-40, 40, 41, dtype=torch.float64, requires_grad=True)
    y = (torch.arange(41) % 2).double()
    for gamma in GAMMAS:
        (slope,) = grad(sigmoid_focal_loss(x, y, 0.25, gamma).sum(), x, create_graph=True)
        (second,) = grad(slope.sum(), x)
        twin = focal_lib.numpy.sigmoid_focal_loss_hessian(
            array(x), array(y), alpha=0.25, gamma=gamma
        )
        np.testing.assert_allclose(array(second), twin, rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.3, 0.5, 1.0, 2.0, 7.5, 100.0, 1e3])
def test_all_is_finite_for_finite_logits(dtype, gamma):
    sizes = [0, 1e-4, 1, 6.25, 8.3, 16.64, 17.33, 24, 36, 87, 88.5, 103, 104, 709, 746, 3e4]
    x = torch.tensor(sizes + [-v for v in sizes], dtype=dtype)
    rows = torch.stack([x, x * 0, -x, x / 2], dim=1).repeat(4, 1).requires_grad_()
    x = x.repeat(3, 1).requires_grad_()
    y = torch.tensor([[0.0], [1.0], [0.5]]).expand(x.shape)
    loss = sigmoid_focal_loss(x, y, None, gamma)
    (slope,) = grad(loss.sum(), x, create_graph=True)
    (second,) = grad(slope.sum(), x)
    assert loss.isfinite().all() and slope.isfinite().all() and second.isfinite().all()
    target = torch.arange(4).repeat_interleave(len(rows) // 4)
    for options in ({}, {"label_smoothing": 0.1}):
        loss = softmax_focal_loss(rows, target, gamma=gamma, reduction="none", **options)
        (slope,) = grad(loss.sum(), rows, create_graph=True)
        (second,) = grad(slope.square().sum(), rows)
        assert loss.isfinite().all() and slope.isfinite().all() and second.isfinite().all()


def losses():
    """Each loss as a function of logits (5, 3) and gamma: hard, soft and smoothed targets."""
    t, some = torch.tensor([0, 2, 1, 1, 0]), torch.tensor([0, -100, 1, 1, 0])
    w = torch.tensor([0.5, 2.0, 1.25], dtype=torch.float64)
    soft = torch.softmax(rand(5, 3, seed=4), 1)
    y = F.one_hot(t)
    yield lambda x, g=2.0: sigmoid_focal_loss(x, y, gamma=g, reduction="mean")
    yield lambda x, g=2.0: sigmoid_focal_loss(x, soft, None, gamma=g, reduction="sum")
    yield lambda x, g=2.0: softmax_focal_loss(x, t, w, gamma=g)
    yield lambda x, g=2.0: softmax_focal_loss(x, some, gamma=g)
    yield lambda x, g=2.0: softmax_focal_loss(x, soft, w, gamma=g)
    yield lambda x, g=2.0: softmax_focal_loss(x, t, gamma=g, label_smoothing=0.1)


@pytest.fixture
def loss(request, way_of_losses):
    return list(losses())[request.param]


LOSSES = pytest.mark.parametrize("loss", range(6), indirect=True)
SOME_LOSSES = pytest.mark.parametrize("loss", sampled(range(6), 1, 2, 5), indirect=True)
WHOLE = pytest.mark.skipif(
    torch.__version__ < "2.13", reason="an older torch compiles the losses in parts alone"
)


@SOME_LOSSES
def test_compiled_in_parts(loss):
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="aot_eager")
    x = rand(5, 3)
    close(value_and_gradient(compiled, x), value_and_gradient(loss, x))
    close(torch.compile(torch.func.grad(loss), backend="aot_eager")(x), torch.func.grad(loss)(x))


@WHOLE
@SOME_LOSSES
def test_compiled_whole(loss):
    """One graph, and one more for all other gammas (with torch's own backend: no C++ compiler)."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    x = rand(5, 3)
    for gamma in (2.0, 0.5, 1.0, 3.7, 0.0, 5.0, 0.25):
        close(value_and_gradient(compiled, x, gamma), value_and_gradient(loss, x, gamma))
        close(compiled(x, gamma), loss(x, gamma))
    # the first gamma and any gamma, each with and without a gradient
    assert counter.frame_count <= 4


@WHOLE
@SOME_LOSSES
def test_exported(loss):
    class Model(torch.nn.Module):
        def forward(self, x):
            return loss(x)

    x = rand(5, 3)
    for strict in (False, True):
        exported = torch.export.export(Model(), (x,), strict=strict).module()
        close(exported(-x), loss(-x))


@WHOLE
def test_exported_modules_take_any_batch():
    x, t = rand(5, 3), torch.tensor([0, 2, 1, 1, 0])
    batch = torch.export.Dim("batch")
    for module, target in ((SoftmaxFocalLoss(), t), (SigmoidFocalLoss(), F.one_hot(t))):
        shapes = ({0: batch}, {0: batch})
        exported = torch.export.export(module, (x, target), dynamic_shapes=shapes).module()
        close(exported(x[:2], target[:2]), module(x[:2], target[:2]))


@WHOLE
@SOME_LOSSES
def test_compiled_transforms_are_right_or_refused(loss):
    """torch's compiler would give 0 for some of them, or a result without a gradient."""
    x = rand(5, 3)

    def push(x):
        return torch.func.jvp(loss, (x,), (torch.ones_like(x),))[1]

    def each(x):
        return torch.func.vmap(loss)(x.expand(2, 5, 3))

    torch._dynamo.reset()
    compiled = torch.compile(torch.func.grad(loss), backend="aot_eager", fullgraph=True)
    close(compiled(x), torch.func.grad(loss)(x))
    for transform in (push, each):
        torch._dynamo.reset()
        with pytest.raises(torch._dynamo.exc.Unsupported, match="NotImplementedError"):
            torch.compile(transform, backend="aot_eager", fullgraph=True)(x)
        torch._dynamo.reset()
        compiled = torch.compile(transform, backend="aot_eager")
        close(value_and_gradient(compiled, x), value_and_gradient(transform, x))


@LOSSES
def test_derivatives_of_every_mode(loss):
    x = rand(5, 3)
    value, slope = value_and_gradient(loss, x)
    close(torch.func.grad_and_value(loss)(x), (slope, value))
    close(torch.func.jacfwd(loss)(x), slope)
    tangent = rand(5, 3, seed=7)
    close(torch.func.jvp(loss, (x,), (tangent,)), (value, (slope * tangent).sum()))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        close(torch.autograd.forward_ad.unpack_dual(loss(dual)).tangent, (slope * tangent).sum())
    expected = torch.autograd.functional.hessian(loss, x)
    close(torch.func.hessian(loss)(x), expected)
    close(torch.func.jacrev(torch.func.jacrev(loss))(x), expected)
    close(torch.func.jacrev(torch.func.jacfwd(loss))(x), expected)
    # torch gives 0 for it where a function is made in Python: an error is better
    with pytest.raises(NotImplementedError, match="forward-mode"):
        torch.func.jacfwd(torch.func.jacfwd(loss))(x)


def test_derivatives_end_with_the_third():
    x = torch.tensor([-3.0, -0.2, 1.7, 12.0], dtype=torch.float64, requires_grad=True)
    order = [sigmoid_focal_loss(x, torch.ones(4), None, 1.5).sum()]
    for _ in range(3):
        order.append(grad(order[-1].sum(), x, create_graph=True)[0])
    true = [float(exact.sigmoid(v, 1, None, 1.5, 3)) for v in x.tolist()]
    np.testing.assert_allclose(array(order[3]), true, rtol=1e-13)
    with pytest.raises(NotImplementedError, match="third"):
        grad(order[3].sum(), x)


@LOSSES
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed(loss, reentrant):
    x, same = rand(5, 3).requires_grad_(), rand(5, 3).requires_grad_()
    torch.utils.checkpoint.checkpoint(lambda x: loss(x * 2), x, use_reentrant=reentrant).backward()
    loss(same * 2).backward()
    close(x.grad, same.grad)


@LOSSES
def test_traced(loss):
    x = rand(5, 3)
    traced = proxy_tensor.make_fx(lambda x: torch.func.grad(loss)(x))(x)
    close(traced(-x), value_and_gradient(loss, -x)[1])
    close(torch.jit.trace(loss, x, check_trace=False)(-x), loss(-x))


def test_fake_tensors():
    with torch._subclasses.fake_tensor.FakeTensorMode():
        x = torch.randn(5, 3, requires_grad=True)
        for loss, target in (
            (sigmoid_focal_loss, torch.rand(5, 3)),
            (softmax_focal_loss, torch.zeros(5, dtype=torch.long)),
            (softmax_focal_loss, torch.rand(5, 3)),
        ):
            value = loss(x, target, reduction="mean")
            (slope,) = grad(value, x)
            assert value.shape == () and slope.shape == x.shape


def test_autocast_leaves_the_loss_in_float32(way_of_losses):
    x, t = rand(4, 3, dtype=torch.bfloat16), torch.tensor([0, 2, 1, 1])
    y = F.one_hot(t, 3)
    # a half type need not have all of the digits of float32
    rtol = 0 if way_of_losses == "cpu" else 1e-6
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        assert F.cross_entropy(x, t).dtype == torch.float32
        for loss, target in ((softmax_focal_loss, t), (sigmoid_focal_loss, y)):
            value, slope = value_and_gradient(loss, x, target)
            assert value.dtype == torch.float32 and slope.dtype == torch.bfloat16
            close(value, loss(x.float(), target), rtol=rtol, atol=0)
            assert loss(x.double(), target).dtype == torch.float64


def test_class_weights_have_a_gradient(checks):
    x, t = rand(4, 3), torch.tensor([0, 2, 1, 1])
    w = torch.tensor([0.5, 2.0, 1.25], dtype=torch.float64, requires_grad=True)
    for reduction, target in itertools.product(("mean", "sum"), (t, torch.softmax(x, 1))):
        checks(lambda w, r=reduction, y=target: softmax_focal_loss(x, y, w, reduction=r), w)


@pytest.mark.parametrize("loss", [sigmoid_focal_loss, softmax_focal_loss])
def test_gradients_of_each_item(loss):
    x, t = rand(5, 3), torch.tensor([0, 2, 1, 1, 0])
    target = F.one_hot(t) if loss is sigmoid_focal_loss else t

    def item(x, t):
        return loss(x, t, reduction="sum")

    each = torch.func.vmap(torch.func.grad(item))(x, target)
    close(each, value_and_gradient(item, x, target)[1])


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


def test_ignored_items_do_not_matter(exactly):
    x = torch.tensor([[1.0, 2.0], [torch.nan, 0.0], [INF, INF], [0.0, -INF]])
    t = torch.tensor([0, -100, -100, -100])
    for smoothing, reduction in itertools.product((0.0, 0.1), ("mean", "sum")):
        options = {"label_smoothing": smoothing, "reduction": reduction}
        value, slope = value_and_gradient(softmax_focal_loss, x, t, **options)
        alone = value_and_gradient(softmax_focal_loss, x[:1], t[:1], **options)
        close((value, slope[:1]), alone, **exactly)
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
def test_results_have_the_dtype_of_the_logits(dtype, way_of_losses):
    x = rand(4, 3, dtype=dtype)
    y = torch.tensor([[1, 0, 1]] * 4)
    t = torch.tensor([0, 1, 2, 0])
    binary = itertools.product((y, y.bool(), y.double(), y.half()), REDUCTIONS)
    weights = (None, torch.ones(3), torch.ones(3, dtype=torch.float64))
    targets = (t, t.int(), t.to(torch.uint8), y.double() / 2)
    cases = [(sigmoid_focal_loss, (target,), r) for target, r in binary]
    cases += [
        (softmax_focal_loss, arguments, reduction)
        for *arguments, reduction in itertools.product(targets, weights, REDUCTIONS)
    ]
    for loss, arguments, reduction in every(5, cases, way_of_losses):
        value, slope = value_and_gradient(loss, x, *arguments, reduction=reduction)
        assert value.dtype == slope.dtype == dtype


def test_targets_of_every_type_mean_the_same(exactly):
    x, t = rand(5, 3), torch.tensor([0, 1, 2, 0, 1])
    hard = F.one_hot(t, 3)
    expected = sigmoid_focal_loss(x, hard.double())
    for dtype in (torch.bool, torch.uint8, torch.int8, torch.int64, torch.float16, torch.float32):
        close(sigmoid_focal_loss(x, hard.to(dtype)), expected, **exactly)
    expected = softmax_focal_loss(x, t)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint64):
        close(softmax_focal_loss(x, t.to(dtype)), expected, **exactly)


def test_ignore_index_does_not_wrap_in_a_narrow_type(exactly):
    """-100 is 156 in uint8."""
    x = rand(2, 200)
    t = torch.tensor([156, 3])
    close(softmax_focal_loss(x, t.to(torch.uint8)), softmax_focal_loss(x, t), **exactly)
    value = focal_lib.numpy.softmax_focal_loss(array(x), array(t).astype(np.uint8))
    assert value == pytest.approx(softmax_focal_loss(x, t).item(), rel=1e-12)


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


@pytest.mark.devices("cpu", reason="its tensors have a device of their own")
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
