"""What all the ways to compute a loss keep: bits, gradients, options, devices, clients."""

import io
import itertools
import math
import warnings

import exact
import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import grad
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import focal_lib._ways
import focal_lib.numpy
from focal_lib._ways import compiled, composed
from focal_lib.torch import (
    SigmoidFocalLoss,
    SoftmaxFocalLoss,
    kernels,
    sigmoid_focal_loss,
    softmax_focal_loss,
)

INF, NAN = torch.inf, torch.nan
close = torch.testing.assert_close
WAYS = ["compiled", "chunked", "composed"]
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(autouse=True)
def take(request, monkeypatch):
    """The way of the test's parameter."""
    way = getattr(request.node, "callspec", None) and request.node.callspec.params.get("way")
    if way == "compiled" and compiled.kernels is None:
        pytest.skip(f"the kernels are not there: {compiled.why_not}")
    if way == "chunked":
        monkeypatch.setattr(compiled, "kernels", None)
    if way == "composed":
        monkeypatch.setattr(focal_lib._ways, "way", lambda *_: composed)


def rand(*shape, scale=1.0, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)


def both(loss, x, *arguments, **options):
    x = x.detach().requires_grad_()
    value = loss(x, *arguments, **options)
    return value.detach(), grad(value, x, torch.ones_like(value))[0]


def same(got, expected):
    """Bit by bit, but for what a NaN holds."""
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert torch.equal(a.nan_to_num(12345.0), b.nan_to_num(12345.0))


# --- Bits -----------------------------------------------------------------------------------------

strange = st.sampled_from([0.0, 1.5, -40.0, 300.0, -3e4, INF, -INF, NAN])
gammas = st.sampled_from([0.0, 0.3, 2.0, 7.5, 1e4])
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


@every_way
@given(st.integers(0, 99), st.lists(strange, min_size=1, max_size=4), gammas, dtypes)
def test_an_element_does_not_change_its_neighbours(way, seed, others, gamma, dtype):
    x, y = rand(70, scale=5, seed=seed, dtype=dtype), (rand(70, seed=seed + 1) > 0).to(dtype)
    options = {"alpha": 0.25, "gamma": gamma, "ignore_index": -1}
    expected = both(sigmoid_focal_loss, x, y, **options)
    beside = torch.tensor(others, dtype=dtype)
    n = len(others)
    for before in (0, 1, 13):  # what stands before and behind, hard, soft and left out
        rest = torch.cat([beside, x, beside.repeat(5)])
        rest, targets = rest[n - min(before, n) :], torch.full(rest.shape, 0.3, dtype=dtype)
        targets[-1] = -1
        here = slice(min(before, n), min(before, n) + 70)
        targets = targets[: len(rest)]
        targets[here] = y
        got = both(sigmoid_focal_loss, rest, targets, **options)
        same([v[here] for v in got], expected)


@every_way
@given(st.integers(0, 99), st.lists(strange, min_size=3, max_size=3), gammas, dtypes)
def test_a_row_does_not_change_its_neighbours(way, seed, other, gamma, dtype):
    x, t = rand(9, 3, scale=5, seed=seed, dtype=dtype), torch.arange(9) % 3
    p = x.float().softmax(1).to(dtype)
    row = torch.tensor([other], dtype=dtype)
    for target, more, options in (
        (t, torch.tensor([-100]), {}),
        (t, torch.tensor([1]), {"label_smoothing": 0.1}),
        (t, torch.tensor([1]), {"weight": torch.tensor([0.5, 2.0, 0.0])}),
        (p, torch.full((1, 3), -100.0, dtype=dtype), {}),
    ):
        options = {"gamma": gamma, "reduction": "none", **options}
        expected = both(softmax_focal_loss, x, target, **options)
        got = both(
            softmax_focal_loss, torch.cat([row, x, row]), torch.cat([more, target, more]), **options
        )
        same([v[1:-1] for v in got], expected)


def losses(n, dtype):
    """Losses of one tensor (n, 7), with their gradient."""
    x, y = rand(n, 7, scale=6, dtype=dtype), rand(n, 7, seed=1, dtype=dtype).sigmoid()
    t, w, p = torch.arange(n) % 7, rand(7, seed=2, dtype=dtype).abs(), y / y.sum(1, keepdim=True)
    for reduction, gamma in itertools.product(("none", "mean"), (1.7, 30.0)):
        options = {"gamma": gamma, "reduction": reduction}
        for target in (y, y.round()):
            yield lambda target=target, o=options: both(sigmoid_focal_loss, x, target, **o)
        yield lambda o=options: both(sigmoid_focal_loss, x, y, weight=w, ignore_index=-1, **o)
        yield lambda o=options: both(softmax_focal_loss, x, t, **o)
        yield lambda o=options: both(softmax_focal_loss, x, t, w, label_smoothing=0.1, **o)
        yield lambda o=options: both(softmax_focal_loss, x, p, **o)


def large_losses(dtype):
    """Of so many numbers that torch would divide a sum of them among threads."""
    x, t, w = rand(70001, 3, dtype=dtype), torch.arange(70001) % 3, rand(3, dtype=dtype).exp()
    y = x.sigmoid()
    yield lambda: both(softmax_focal_loss, x, t, w)
    yield lambda: both(sigmoid_focal_loss, x, y, reduction="mean")
    for n in (1, 2):
        rows, p = rand(n, 70001, scale=3, dtype=dtype), y.T[:n]
        yield lambda rows=rows, t=t[:n]: both(softmax_focal_loss, rows, t)
        yield lambda rows=rows, p=p: both(softmax_focal_loss, rows, p)


@every_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_number_of_threads_changes_no_bit(way, dtype):
    before, calls = torch.get_num_threads(), [*losses(6000, dtype), *large_losses(dtype)]
    try:
        results = []
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append([call() for call in calls])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for got, expected in zip(other, results[0], strict=True):
            same(got, expected)


@every_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_gradient_that_is_wanted_changes_no_bit(way, dtype):
    x, y, t = rand(501, 7, scale=6, dtype=dtype), rand(501, 7, seed=1).sigmoid(), torch.arange(501)
    for reduction in ("none", "mean", "sum"):
        for loss, target in ((sigmoid_focal_loss, y.to(dtype)), (softmax_focal_loss, t % 7)):
            value = loss(x, target, reduction=reduction)
            same([value], [both(loss, x, target, reduction=reduction)[0]])


def test_vmap_warns_of_nothing():
    x, t = rand(3, 5, 7), torch.arange(15).view(3, 5) % 7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for target in (t, x.softmax(dim=-1)):
            torch.func.vmap(torch.func.grad(softmax_focal_loss))(x, target)


# --- Exactness ------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [50.0, 1000.0, 1e6])
def test_large_gammas(way, dtype, gamma):
    around = np.log(gamma) - np.array([-1.0, 0.0, 2.5, 5.3, 9.9])
    z = torch.tensor([*-around, -0.84, 0.7, -3.3, 20.5], dtype=dtype)
    x = torch.stack([z, 0 * z, 0 * z - 1.5], 1)
    got = both(sigmoid_focal_loss, z, torch.ones_like(z), None, gamma)
    rows = both(
        softmax_focal_loss, x, torch.zeros(len(z), dtype=int), gamma=gamma, reduction="none"
    )
    bound = 32 * torch.finfo(dtype).eps
    for i, v in enumerate(z.tolist()):
        with mp.workdps(60):
            e = [mp.mpf(a) for a in x[i].tolist()]
            margin = e[0] - mp.log(mp.exp(e[1]) + mp.exp(e[2]))
            true = *exact.forms(mp.mpf(v), gamma)[:2], *exact.forms(margin, gamma)[:2]
            for a, b in zip((*(g[i] for g in got), rows[0][i], rows[1][i, 0]), true, strict=True):
                if abs(b) > 2 * torch.finfo(dtype).tiny:
                    assert abs(mp.mpf(a.item()) / b - 1) < bound, (v, a, b)


@every_way
@pytest.mark.parametrize(
    ("dtype", "gamma"), [(torch.float32, 1e36), (torch.float32, 1e39), (torch.float64, 1e300)]
)
def test_finite_for_every_gamma(way, dtype, gamma):
    x = torch.tensor([-800.0, -90.0, -1.0, 0.0, 1.0, 30.0, 700.0], dtype=dtype, requires_grad=True)
    value = sigmoid_focal_loss(x, torch.ones_like(x), None, gamma)
    (first,) = grad(value.sum(), x, create_graph=True)
    (second,) = grad(first.sum(), x)
    assert value.isfinite().all() and first.isfinite().all() and second.isfinite().all()
    assert (value[3:] == 0).all() and value[0] > 700


@every_way
def test_a_large_weight_finds_what_is_small(way):
    x = torch.tensor([[0.0, -108.5]])
    w, t = torch.tensor([1e10, 1e10]), torch.tensor([0])
    value, slope = both(softmax_focal_loss, x, t, w, gamma=0.0, reduction="sum")
    true = float(mp.mpf(1e10) * mp.log1p(mp.exp(-108.5)))
    assert value.item() == pytest.approx(true, rel=1e-6)
    close(slope[0].double(), torch.tensor([-true, true]).double(), rtol=1e-6, atol=0)
    y = torch.tensor([[0.0, 1e-20]])
    value = softmax_focal_loss(torch.tensor([[80.0, 0.0]]), y, torch.tensor([1e25, 1.0]), gamma=2.0)
    assert value.item() == pytest.approx(8e-19, rel=1e-6)


@every_way
def test_a_huge_weight_in_float64(way):
    x, t = torch.tensor([[750.0, 0.0, 1.0]], dtype=torch.float64), torch.tensor([0])
    w = torch.full((3,), 1e300, dtype=torch.float64)
    others = (1 + mp.e) * mp.exp(-750) * mp.mpf(1e300)
    parts = torch.tensor([-1, 1 / (1 + mp.e), mp.e / (1 + mp.e)], dtype=torch.float64)
    for target in (t, F.one_hot(t, 3).double()):

        def loss(x, target=target):
            return softmax_focal_loss(x, target, w, gamma=0.0, reduction="sum")

        value, slope = both(loss, x)
        assert value.item() == pytest.approx(float(others), rel=1e-13)
        close(slope[0], float(others) * parts, rtol=1e-13, atol=0)
        again = x.clone().requires_grad_()
        (slope,) = grad(loss(again), again, create_graph=True)
        close(slope.detach()[0], float(others) * parts, rtol=1e-13, atol=0)
        (second,) = grad(slope[0, 0], again)
        close(second[0], -float(others) * parts, rtol=1e-13, atol=0)
    one = torch.ones(1, dtype=torch.float64)
    value, slope = both(sigmoid_focal_loss, 750 * one, one, None, 0.0, pos_weight=1e300 * one)
    assert value.item() == pytest.approx(float(mp.exp(-750) * mp.mpf(1e300)), rel=1e-13)
    assert slope.item() == pytest.approx(-value.item(), rel=1e-15)


@every_way
def test_means_that_can_be_represented(way):
    large = torch.full((4,), -1.7e308, dtype=torch.float64)
    one = torch.ones(4, dtype=torch.float64)
    assert sigmoid_focal_loss(large, one, None, 0.0, "mean") == 1.7e308
    close(sigmoid_focal_loss(torch.full((4,), -3e38), one, None, 0.0, "mean"), torch.tensor(3e38))
    few = sigmoid_focal_loss(torch.full_like(large, 700), one, None, 0.0, "mean")
    assert few.item() == pytest.approx(math.exp(-700), rel=1e-13)
    value = sigmoid_focal_loss(torch.tensor([-1e30]), one[:1], 1e-45, 0.0)
    assert value.item() == pytest.approx(1e-15, rel=1e-6)
    x = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    expected = both(softmax_focal_loss, x, torch.tensor([0]))
    for w in ([5e-324, 1.0], [1e308, 1.0]):
        weight = torch.tensor(w, dtype=torch.float64)
        for n in (1, 2):
            rows = x.expand(n, 2).contiguous()
            value, slope = both(softmax_focal_loss, rows, torch.zeros(n, dtype=int), weight)
            close(value, expected[0], rtol=1e-14, atol=0)
            close(slope.sum(0, keepdim=True), expected[1], rtol=1e-14, atol=0)


# --- Options --------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [(3,), (4, 1), (1, 3), (4, 3), (), (1,)])
def test_weights_of_labels(way, reduction, shape):
    """At gamma = 0 those of torch; otherwise their definition, and NumPy's."""
    x, y = rand(2, 4, 3, scale=3, dtype=torch.float64), rand(2, 4, 3, seed=1).sigmoid().double()
    w, pos = (rand(*shape, seed=s, dtype=torch.float64).abs() for s in (2, 3))
    options = {"weight": w, "pos_weight": pos, "reduction": reduction}
    ours = both(sigmoid_focal_loss, x, y, None, 0.0, **options)
    close(ours, both(F.binary_cross_entropy_with_logits, x, y, **options), rtol=1e-12, atol=1e-14)
    for gamma in (0.5, 2.0, 30.0):
        got = both(sigmoid_focal_loss, x, y, None, gamma, **options)
        numbers = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in options.items()}
        for value, suffix in zip(got, ("", "_gradient"), strict=True):
            twin = getattr(focal_lib.numpy, f"sigmoid_focal_loss{suffix}")
            expected = twin(x.numpy(), y.numpy(), alpha=None, gamma=gamma, **numbers)
            np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-15)


@every_way
def test_alpha_is_a_pos_weight(way):
    x, y, alpha = rand(50, scale=3, dtype=torch.float64), rand(50, seed=1).sigmoid(), 0.2
    scale = torch.tensor(1 - alpha, dtype=torch.float64)
    weights = {"weight": scale, "pos_weight": alpha / scale}
    by_weights = both(sigmoid_focal_loss, x, y, None, 2.0, "mean", **weights)
    close(both(sigmoid_focal_loss, x, y, alpha, 2.0, "mean"), by_weights, rtol=1e-13, atol=1e-17)


@every_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("label", [-1, -100, 255])
def test_labels_to_leave_out(way, dtype, label):
    x, y = rand(40, scale=3, dtype=dtype), rand(40, seed=1, dtype=dtype).sigmoid()
    kept = torch.arange(40) % 3 > 0
    x[3], w = INF, rand(40, seed=2, dtype=dtype).abs()  # what an ignored logit is does not matter
    marked = y.where(kept, label)
    for reduction in ("none", "mean", "sum"):
        options = {"ignore_index": label, "weight": w, "reduction": reduction}
        value, slope = both(sigmoid_focal_loss, x, marked, 0.3, **options)
        options["weight"] = w[kept]
        expected, expected_slope = both(sigmoid_focal_loss, x[kept], y[kept], 0.3, **options)
        close(value[kept] if reduction == "none" else value, expected, rtol=1e-6, atol=0)
        close(slope[kept], expected_slope, rtol=1e-6, atol=0)
        assert (slope[~kept] == 0).all() and (reduction != "none" or (value[~kept] == 0).all())
    hard = torch.tensor([1, 0, label])
    assert sigmoid_focal_loss(x[:3], hard, ignore_index=label)[2] == 0
    nothing = torch.full((40,), label)
    value, slope = both(sigmoid_focal_loss, x, nothing, reduction="mean", ignore_index=label)
    assert value.isnan() and (slope == 0).all()


@every_way
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("label", [-100, 255])
def test_probabilities_of_items_to_leave_out(way, smoothing, label):
    x, y = rand(12, 4, 5, scale=3, dtype=torch.float64), rand(12, 4, 5, seed=1).softmax(1).double()
    kept = torch.arange(60).view(12, 5) % 4 > 0
    marked, w = y.where(kept.unsqueeze(1), label), torch.tensor([1.0, 0.5, 2.0, 0.0]).double()
    options = {"weight": w, "label_smoothing": smoothing, "ignore_index": label}
    rows, targets = (v.movedim(1, -1)[kept] for v in (x, y))
    for reduction in ("none", "mean", "sum"):
        value, slope = both(softmax_focal_loss, x, marked, reduction=reduction, **options)
        plain = {**options, "ignore_index": -100, "reduction": reduction}
        expected, expected_slope = both(softmax_focal_loss, rows, targets, **plain)
        close(value[kept] if reduction == "none" else value, expected, rtol=1e-12, atol=0)
        close(slope.movedim(1, -1)[kept], expected_slope, rtol=1e-12, atol=1e-16)
        assert (slope.movedim(1, -1)[~kept] == 0).all()
    marked[0, 0, 0] = label if kept[0, 0] else 0.5  # only one of a row
    with pytest.raises(ValueError, match=r"^target: takes numbers in \[0, 1\], got"):
        softmax_focal_loss(x, marked, **options)


def test_gradients_by_weights():
    x, y = rand(5, 3, dtype=torch.float64), rand(5, 3, seed=1).sigmoid().double()
    w = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda w: sigmoid_focal_loss(x, y, None, weight=w, pos_weight=w, reduction="mean"), w
    )


# --- Devices, transforms and clients --------------------------------------------------------------


class NoFloat64(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for v in torch.utils._pytree.tree_leaves(result):
            assert not (isinstance(v, torch.Tensor) and v.dtype == torch.float64), func
        return result


def test_devices_without_float64(monkeypatch):
    """The losses and their first derivatives, of every option."""
    x, t = rand(6, 4, scale=4), torch.tensor([0, 1, 2, 3, 0, -100])
    y, w = rand(6, 4, seed=1).softmax(1), torch.tensor([0.5, 0.0, 2.0, 1.0])
    calls = []
    for reduction, gamma in itertools.product(("none", "mean", "sum"), (0.0, 0.3, 2.0, 50.0)):
        options = {"gamma": gamma, "reduction": reduction}
        calls += [
            lambda x, o=options, target=target, weights=weights: both(
                sigmoid_focal_loss, x, target, None, ignore_index=-1, **weights, **o
            )
            for target in (y, y.round(), t[:, None].clamp(-1, 1).expand(6, 4))
            for weights in ({}, {"weight": w, "pos_weight": w})
        ]
        calls += [
            lambda x, o=options, a=(target, weight), s=smoothing: both(
                softmax_focal_loss, x, *a, label_smoothing=s, **o
            )
            for target in (t, y)
            for weight in (None, w)
            for smoothing in (0.0, 0.1)
        ]
    monkeypatch.setattr(composed, "has_float64", lambda _: False)
    for call in calls:
        for dtype in (torch.float32, torch.float16):
            with NoFloat64():
                value, slope = call(x.to(dtype))
        with NoFloat64():
            value, slope = call(x)
        with monkeypatch.context() as patch:
            patch.undo()
            expected, expected_slope = call(x.double())
        close(value.double(), expected, rtol=4e-6, atol=1e-37, equal_nan=True)
        size = expected_slope.abs().max().item()
        close(slope.double(), expected_slope, rtol=4e-6, atol=4e-6 * size, equal_nan=True)


class Model(torch.nn.Module):
    def __init__(self, loss, target):
        super().__init__()
        self.linear, self.loss = torch.nn.Linear(4, 3).double(), loss
        self.register_buffer("target", target)

    def forward(self, x):
        return self.loss(self.linear(x), self.target).mean() + self.linear.weight.square().sum()


INDEX = torch.tensor([0, 1, 2, 0, -100])
SOFT = rand(5, 3, seed=1).softmax(1).double()
MODULES = {
    "index": (SoftmaxFocalLoss(), INDEX),
    "smoothed": (SoftmaxFocalLoss(torch.ones(3).double(), gamma=1.7, label_smoothing=0.1), INDEX),
    "probabilities": (SoftmaxFocalLoss(), SOFT),
    "sigmoid": (SigmoidFocalLoss(), SOFT),
    "sigmoid, hard": (SigmoidFocalLoss(None, 0.5, "sum", ignore_index=-1), SOFT.round()),
}


@pytest.mark.skipif(
    torch.__version__ < "2.13", reason="an older torch does not export a loss whole"
)
@pytest.mark.parametrize(("loss", "target"), MODULES.values(), ids=MODULES)
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("decomposed", [False, True])
def test_an_exported_loss_has_its_gradient(loss, target, strict, decomposed):
    torch.manual_seed(0)
    model, x = Model(loss, target), rand(5, 4, dtype=torch.float64)
    program = torch.export.export(model, (x,), strict=strict)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        module = (program.run_decompositions() if decomposed else program).module()
    close(module(x), model(x), rtol=1e-14, atol=0)
    expected = grad(model(x), list(model.parameters()))
    parameters = dict(module.named_parameters())
    got = grad(module(x), [parameters[name] for name, _ in model.named_parameters()])
    close(got, expected, rtol=1e-12, atol=1e-15)


def test_an_exported_loss_at_infinite_logits():
    x = torch.tensor([-INF, INF, 0.0], dtype=torch.float64)

    class Loss(torch.nn.Module):
        def forward(self, x):
            return sigmoid_focal_loss(x, torch.ones_like(x), None)

    module = torch.export.export(Loss(), (x,)).module()
    same(both(module, x), both(sigmoid_focal_loss, x, torch.ones_like(x), None))


class Carries(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.loss, self.other = (
            torch.nn.Linear(3, 3),
            SoftmaxFocalLoss(),
            SigmoidFocalLoss(),
        )

    def forward(self, x):
        return self.linear(x)


class Calls(Carries):
    def forward(self, x, target: torch.Tensor):
        return self.loss(self.linear(x), target)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_models():
    x, t = rand(4, 3), torch.tensor([0, 1, 2, 0])
    model, file = Carries(), io.BytesIO()
    torch.jit.save(torch.jit.script(model), file)
    file.seek(0)
    close(torch.jit.load(file)(x), model(x))
    model = Calls()
    close(torch.jit.script(model)(x, t), model(x, t))


def test_symbolically_traced_models():
    x, t = rand(4, 3), torch.tensor([0, 1, 2, 0])
    model = Calls()
    close(torch.fx.symbolic_trace(model)(x, t), model(x, t))
    traced = torch.fx.symbolic_trace(lambda x, y: sigmoid_focal_loss(x, y, None, ignore_index=-1))
    close(traced(x, x.sigmoid()), sigmoid_focal_loss(x, x.sigmoid(), None))


def test_what_looks_for_the_losses_of_torch():
    """skorch makes probabilities of the logits of these."""
    loss = SoftmaxFocalLoss(torch.ones(3), gamma=1.0)
    assert isinstance(loss, torch.nn.CrossEntropyLoss) and "weight" in loss.state_dict()
    loss = SigmoidFocalLoss(None, pos_weight=torch.ones(3))
    assert isinstance(loss, torch.nn.BCEWithLogitsLoss) and "pos_weight" in loss.state_dict()


def test_which_kernels_are_active(monkeypatch):
    assert set(kernels()) == {"cpu", "triton"}
    monkeypatch.setattr(compiled, "why_not", "cpu_kernels.c was not compiled")
    assert kernels()["cpu"] == "cpu_kernels.c was not compiled"
