"""The Triton kernels: on CPU tensors through Triton's interpreter, or on CUDA with --device cuda.

What the losses compute is in test_torch.py and test_accuracy.py, which run through these kernels as
well. Here is what is theirs: layouts and sizes, the way a call takes, what they keep, what torch's
compiler sees. What needs a GPU is skipped without one. test_cuda_compile.py compiles the kernels.
"""

import itertools
import math

import exact
import pytest
import torch
import torch._dynamo.testing
from cases import sampled
from torch.autograd import grad
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode

import focal_lib._ways
from focal_lib._ways import composed as _composed
from focal_lib._ways import cpu as _cpu
from focal_lib._ways.settings import Settings
from focal_lib.torch import SoftmaxFocalLoss, sigmoid_focal_loss, softmax_focal_loss

_triton = focal_lib._ways.triton
close = torch.testing.assert_close


# The kernels alone: test_torch.py has the CPU's ways beside them.
pytestmark = pytest.mark.devices("interpreter", "cuda")
WHOLE = pytest.mark.skipif(
    torch.__version__ < "2.13", reason="an older torch compiles the losses in parts alone"
)
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device (make test-gpu)"
)


@pytest.fixture(autouse=True)
def device(way_of_losses):
    """The device whose tensors take the kernels."""
    return "cuda" if way_of_losses == "cuda" else "cpu"


def rand(*shape, scale=1.0, seed=0, dtype=torch.float32, device="cpu"):
    generator = torch.Generator("cpu").manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    return (x * scale).to(device, dtype)


def indices(classes, *shape, seed=2, device="cpu"):
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randint(classes, shape, generator=generator, device="cpu").to(device)


def both(loss, x, *arguments, up=None, **options):
    """The loss, and its gradient given that by the loss."""
    x = x.detach().requires_grad_()
    value = loss(x, *arguments, **options)
    up = rand(*value.shape, seed=9).abs().to(value) if up is None else up
    return value.detach(), grad(value, x, up)[0]


def composed(loss, x, *arguments, **options):
    """The same in float64, composed of torch's operations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(focal_lib._ways, "way", lambda *_: _composed)
        value, slope = both(loss, x.double(), *arguments, **options)
    return value.to(x.dtype), slope.to(x.dtype)


def agree(loss, x, *arguments, rtol=3e-6, **options):
    got, expected = (way(loss, x, *arguments, **options) for way in (both, composed))
    close(got[0], expected[0], rtol=rtol, atol=1e-37, equal_nan=True)
    # by the classes of a soft target gradients cancel
    size = expected[1].nan_to_num().abs().max().item() if x.numel() else 0.0
    close(got[1], expected[1], rtol=rtol, atol=rtol * size, equal_nan=True)


def refuse(*_):
    raise AssertionError("composed")


# --- Layouts and sizes ----------------------------------------------------------------------------

VIEWS = {
    "contiguous": lambda x: x.contiguous(),
    "transposed": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    "channels last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "every other": lambda x: x.repeat_interleave(2, dim=-1)[..., ::2],
    "a part": lambda x: torch.nn.functional.pad(x, (3, 2) * x.ndim)[(slice(3, -2),) * x.ndim],
    "expanded": lambda x: x[:1].expand_as(x),
    "reversed dims": lambda x: x.permute(*range(x.ndim)[::-1]).contiguous().permute(
        *range(x.ndim)[::-1]
    ),
}  # fmt: skip
SHAPES = [(6, 5), (3, 4, 7), (2, 3, 4, 5), (2, 3, 2, 3, 2)]


# Each view and each shape is in the sample, and each reduction.
STRIDES = [*itertools.product(VIEWS, SHAPES, ("none", "mean"))]
SOME_STRIDES = [(view, SHAPES[2], ("none", "mean")[n % 2]) for n, view in enumerate(VIEWS)]
SOME_STRIDES += [("transposed", shape, "none") for shape in SHAPES if shape != SHAPES[2]]


@pytest.mark.parametrize("case", sampled(STRIDES, *SOME_STRIDES), ids=str)
def test_strides(case, device):
    view, shape, reduction = case
    x, y = rand(*shape, scale=4, device=device), rand(*shape, seed=1, device=device).sigmoid()
    t = indices(shape[1], shape[0], *shape[2:], device=device)
    hard = (y > 0.5).to(y.dtype)
    x, soft = VIEWS[view](x), VIEWS[view](y)
    index = t if view == "channels last" else VIEWS[view](t)
    for loss, target in (
        (sigmoid_focal_loss, soft),
        (sigmoid_focal_loss, hard),
        (softmax_focal_loss, index),
        (softmax_focal_loss, soft),
    ):
        agree(loss, x, target, reduction=reduction)
        value, slope = both(loss, x, target, reduction=reduction)
        up = torch.ones_like(value)
        agree(loss, x, target, reduction=reduction, up=up[:1].expand_as(up) if up.ndim else up)
        assert slope.shape == x.shape


@pytest.mark.parametrize("classes", [2, 3, 31, 32, 33, 1000, 4096, 4097, 9001])
def test_numbers_of_classes(classes, device):
    x, t = rand(5, classes, scale=6, device=device), indices(classes, 5, device=device)
    x[0, t[0]] += 30
    t[1] = -100
    w = rand(classes, seed=3, device=device).abs()
    for smoothing, gamma in itertools.product((0.0, 0.1), (0.5, 2.0)):
        agree(softmax_focal_loss, x, t, w, gamma=gamma, label_smoothing=smoothing)
    agree(softmax_focal_loss, x, x.softmax(1), w, gamma=0.5, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 1023, 1024, 1025, 5000])
def test_numbers_of_elements(size, device):
    x, y = rand(size, scale=6, device=device), (rand(size, seed=1, device=device) > 0).float()
    for target, reduction in itertools.product((y, y / 3), ("none", "mean", "sum")):
        agree(sigmoid_focal_loss, x, target, reduction=reduction)


def test_more_blocks_than_programs(monkeypatch, device):
    """A program goes through several blocks, and the last ones through one fewer."""
    monkeypatch.setattr(_triton, "_PROGRAMS", 3)
    monkeypatch.setattr(_triton, "_BLOCK", 16)
    monkeypatch.setattr(_triton, "_TILE", 16)
    monkeypatch.setattr(_triton, "_tile", _triton._tile.__wrapped__)  # which remembers
    x, t = rand(23, 5, scale=4, device=device), indices(5, 23, device=device)
    t[::4] = -100
    w = rand(5, seed=3, device=device).abs()
    for reduction in ("none", "mean", "sum"):
        agree(sigmoid_focal_loss, x, (x > 1).float(), reduction=reduction)
        agree(softmax_focal_loss, x, t, w, reduction=reduction)
        agree(softmax_focal_loss, x, t, w, reduction=reduction, label_smoothing=0.2)
        agree(softmax_focal_loss, x, x.softmax(1), w, reduction=reduction)
        agree(softmax_focal_loss, x.T.reshape(1, 5, 23), t[None], w, reduction=reduction)


@pytest.mark.parametrize("way", ["transposed", "expanded in the middle", "of a part"])
def test_gradients_that_come_back_in_any_layout(way, device):
    x, t = rand(3, 4, 5, 6, device=device), indices(4, 3, 5, 6, device=device)
    up = rand(3, 5, 6, seed=7, device=device)
    up = {
        "transposed": up.transpose(1, 2).contiguous().transpose(1, 2),
        "expanded in the middle": up[:, :1].expand(3, 5, 6),
        "of a part": rand(3, 7, 9, seed=7, device=device)[:, 1:6, 2:8],
    }[way]
    agree(softmax_focal_loss, x, t, up=up, reduction="none")
    agree(softmax_focal_loss, x, t, up=up, reduction="none", label_smoothing=0.1)
    agree(sigmoid_focal_loss, x[:, 0], x[:, 1].sigmoid(), up=up)


@pytest.mark.parametrize("smoothing", sampled([0.0, 0.1], 0.0))
def test_many_classes_that_are_planes(smoothing, device):
    """They are summed in many small steps, whose errors must not add up."""
    row = torch.full((1, 20000), 0.3, device=device)
    row[0, 17] = 2.0
    t = torch.tensor([17], device=device)
    planes, index = row.repeat(4, 1).T.contiguous()[None], t.repeat(4)[None]
    options = {"label_smoothing": smoothing, "reduction": "sum"}
    value, slope = both(
        softmax_focal_loss, planes, index, up=torch.ones((), device=device), **options
    )
    expected = composed(softmax_focal_loss, row, t, up=torch.ones((), device=device), **options)
    eps = torch.finfo(torch.float32).eps
    close(value, 4 * expected[0], rtol=32 * eps, atol=0)
    close(slope[0, :, 0], expected[1][0], rtol=32 * eps, atol=0)


@pytest.mark.parametrize(
    "shape",
    [(0,), (0, 3), (4, 0), (2, 3, 0), (0, 3, 2), (2, 3, 2, 0), (2, 3, 0, 4), (0, 3, 2, 2)],
    ids=str,
)
def test_nothing(shape, device):
    x = torch.empty(shape, device=device)
    for reduction in ("none", "mean", "sum"):
        agree(sigmoid_focal_loss, x, x, reduction=reduction)
        if len(shape) > 1 and shape[1]:
            t = torch.empty(shape[:1] + shape[2:], dtype=torch.long, device=device)
            agree(softmax_focal_loss, x, t, reduction=reduction)
            agree(softmax_focal_loss, x, x, reduction=reduction)
            agree(softmax_focal_loss, x, t, reduction=reduction, label_smoothing=0.1)


def test_offsets_beyond_32_bits(device):
    """The memory between is never touched, so that it need not be there."""
    far = 2**31 + 8
    room = torch.empty(2 * far, dtype=torch.float16, device=device)
    x = room.as_strided((2, 3), (far, 1))
    x.copy_(rand(2, 3, dtype=torch.float16))
    for columns in (x, x.T):  # rows far apart, or classes
        n, classes = columns.shape
        t = indices(classes, n, device=device)
        for target in (t, columns.float().softmax(1)):
            agree(softmax_focal_loss, columns, target, rtol=2e-3)
        agree(sigmoid_focal_loss, columns, (columns > 0).half(), rtol=2e-3)


@needs_gpu
def test_more_than_2_to_31_elements(device):
    n = 2**31 + 2**20 + 3
    if torch.cuda.mem_get_info()[0] < 6 * n + 2**30:
        pytest.skip("needs 14 GB of free device memory")
    x, y = (
        torch.zeros(n, dtype=torch.float16, device="cuda"),
        torch.zeros(n, dtype=torch.bool, device="cuda"),
    )
    x[-1], y[-1] = 3.0, True
    x.requires_grad_()
    with torch.autocast("cuda", dtype=torch.float16):  # the sum is more than float16 has
        value = sigmoid_focal_loss(x, y, None, reduction="sum")
    (slope,) = grad(value, x)
    _, slope_one = both(
        sigmoid_focal_loss, x.detach()[-2:], y[-2:], None, up=torch.ones(2, device="cuda")
    )
    close(slope[-2:], slope_one)
    close(slope[: 2**20], slope_one[:1].expand(2**20))
    close(value.double().item(), (n - 1) * 2**-2 * 0.6931471805599453, rtol=1e-3, atol=0)


# --- Values that are decided on the device --------------------------------------------------------


def test_blocks_of_hard_and_soft_targets(device):
    x, y = rand(4096, scale=5, device=device), (rand(4096, seed=1, device=device) > 0).float()
    y[2000], y[2001], y[3500] = 0.3, 1e-20, 1 - 2**-24
    agree(sigmoid_focal_loss, x, y, 0.3, 0.5)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64])
def test_integer_targets(dtype, device):
    x, y = rand(300, scale=5, device=device), rand(300, seed=1, device=device) > 0
    close(sigmoid_focal_loss(x, y.to(dtype)), sigmoid_focal_loss(x, y.float()), rtol=0, atol=0)
    if dtype != torch.bool:
        rows, t = x.view(100, 3), indices(3, 100, device=device)
        close(softmax_focal_loss(rows, t.to(dtype)), softmax_focal_loss(rows, t), rtol=0, atol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("wrong", [-1, 3, -101, 2**31, -(2**63), 2**63 - 1])
def test_a_class_that_is_none_gives_nan(wrong, smoothing, device):
    """Nothing is read for it; and the host, which does not wait, cannot raise."""
    x, t = rand(4, 3, device=device), torch.tensor([0, wrong, 2, -100], device=device)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("focal_lib._tensors.can_look", lambda _: False)
        value, slope = both(softmax_focal_loss, x, t, reduction="none", label_smoothing=smoothing)
        total = softmax_focal_loss(x, t, label_smoothing=smoothing)
    assert value.isnan().tolist() == [False, True, False, False]
    assert slope.isnan().all(dim=1).tolist() == [False, True, False, False]
    assert value[3] == 0 and (slope[3] == 0).all() and total.isnan()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_nothing_comes_back_to_ignored_items(smoothing, device):
    x = rand(3, 4, device=device)
    x[1] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0])
    t = torch.tensor([0, -100, 2], device=device)
    for reduction, up in (("none", [1.0, torch.nan, 1.0]), ("mean", 1.0)):
        up = torch.tensor(up, device=device)
        options = {"reduction": reduction, "label_smoothing": smoothing}
        value, slope = both(softmax_focal_loss, x, t, up=up, **options)
        assert value.isfinite().all() and slope.isfinite().all() and (slope[1] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_nan_and_infinite_logits(dtype, device):
    """A logit that is none gives no number, and an infinite one the limit, where there is one."""
    values = [0.5, -2.0, torch.nan, torch.inf, -torch.inf]
    x = torch.tensor([*itertools.product(values, repeat=3)], dtype=dtype, device=device)
    rtol = 2e-3 if dtype == torch.float16 else 3e-6
    for gamma in (0.0, 0.5, 2.0):
        for c in range(3):
            t = torch.full((len(x),), c, device=device)
            agree(softmax_focal_loss, x, t, gamma=gamma, reduction="none", rtol=rtol)
        for y in (0.0, 1.0, 0.3):
            target = torch.full_like(x, y)
            agree(sigmoid_focal_loss, x, target, None, gamma, rtol=rtol)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_arguments_of_several_types(dtype, device):
    """The widest decides in what is computed, and the logits what comes out."""
    x, y = rand(6, 4, dtype=dtype, device=device), rand(6, 4, seed=1, device=device).softmax(1)
    t, w = indices(4, 6, device=device), rand(4, seed=3, device=device).abs()
    rtol = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(dtype, 3e-6)
    for other in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        agree(sigmoid_focal_loss, x, y.to(other), rtol=rtol)
        agree(softmax_focal_loss, x, y.to(other), w, rtol=rtol)
        agree(softmax_focal_loss, x, t, w.to(other), rtol=rtol)


# --- Weights, ignored and bad targets -------------------------------------------------------------


def of_way(way, loss, x, target, up=None, **options):
    """The loss of the settings by the way, and its gradient."""
    x = x.detach().requires_grad_()
    options = {"gamma": 2.0, "reduction": "none", "dtype": x.dtype} | options
    value = getattr(way, loss)(x, target, Settings(**options))
    up = rand(*value.shape, seed=9).abs().to(value) if up is None else up
    return value.detach(), grad(value, x, up)[0]


def agree_by_settings(loss, x, target, rtol=3e-6, **options):
    value, slope = of_way(_triton, loss, x, target, **options)
    expected = of_way(_composed, loss, x.double(), target, **options | {"dtype": torch.float64})
    close(value, expected[0].to(value.dtype), rtol=rtol, atol=1e-37, equal_nan=True)
    size = expected[1].nan_to_num().abs().max().item()
    close(slope, expected[1].to(x.dtype), rtol=rtol, atol=rtol * size, equal_nan=True)


def ignoring(y, device):
    """Some elements, and all of the second item."""
    ignored = rand(*y.shape, seed=5, device=device) > 0.7
    ignored[1] = True
    return torch.where(ignored, -100.0, y)


@pytest.mark.parametrize("shape", SHAPES[:2] + SHAPES[3:], ids=str)  # the last in copies
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_weights_of_elements_and_ignored_ones(shape, reduction, device):
    x, y = rand(*shape, scale=4, device=device), rand(*shape, seed=1, device=device).sigmoid()
    hard = (y > 0.5).float()
    weights = [rand(*shape[k:], seed=3, device=device).abs() for k in range(len(shape) + 1)]
    column = rand(shape[0], *[1] * (len(shape) - 1), seed=4, device=device).abs()
    for weight, pos_weight in [(None, None), (weights[-2], None), (None, column),
                               *((w, column) for w in weights)]:  # fmt: skip
        options = {"weight": weight, "pos_weight": pos_weight, "reduction": reduction}
        for target in (y, hard, ignoring(y, device), ignoring(hard, device)):
            for ignored in {-100, None} if target.min() >= 0 else {-100}:
                agree_by_settings(
                    "sigmoid_focal", x, target, positive=0.3, negative=0.7, ignored=ignored,
                    **options,
                )  # fmt: skip


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_ignored_probabilities(reduction, device):
    x, y = rand(40, 5, scale=4, device=device), rand(40, 5, seed=1, device=device).softmax(1)
    y[::3] = -7.0
    x[0], x[3] = torch.nan, torch.inf
    for weight in (None, rand(5, seed=3, device=device).abs()):
        options = {"weight": weight, "ignored": -7, "smoothing": 0.1, "reduction": reduction}
        agree_by_settings("softmax_focal", x.nan_to_num(), y, **options)
        value, slope = of_way(_triton, "softmax_focal", x, y, **options)
        assert value.isfinite().all() and (slope[::3] == 0).all()
        value, slope = of_way(_triton, "softmax_focal", x[::3], y[::3], **options)
        empty = {"none": 0.0, "sum": 0.0, "mean": torch.nan}[reduction]
        close(value, torch.full_like(value, empty), equal_nan=True)
        assert (slope == 0).all()


@pytest.mark.parametrize("bad", [torch.nan, -1e-6, 1.0001, -99.0, 255.0, torch.inf])
def test_a_bad_target_gives_nan(bad, device):
    """To its element or item alone; and nothing of what is ignored comes back."""
    x, y = rand(4, 3, device=device), rand(4, 3, seed=1, device=device).softmax(1)
    y[1, 2], y[2] = bad, -100.0
    for reduction in ("none", "mean", "sum"):
        options = {"reduction": reduction, "ignored": -100}
        value, slope = of_way(_triton, "sigmoid_focal", x, y, **options)
        expected = torch.zeros_like(x, dtype=torch.bool)
        expected[1, 2] = True
        if reduction == "none":
            assert torch.equal(value.isnan(), expected)
        else:
            assert value.isnan()
        assert torch.equal(slope.isnan(), expected) and (slope[2] == 0).all()
        for smoothing in (0.0, 0.1):
            value, slope = of_way(_triton, "softmax_focal", x, y, smoothing=smoothing, **options)
            assert value.isnan().tolist() == (
                [False, True, False, False] if reduction == "none" else True
            )
            assert torch.equal(slope.isnan(), expected.any(1, keepdim=True).expand(4, 3))
            assert (slope[2] == 0).all()


def test_an_element_does_not_depend_on_its_neighbours(device):
    x, y = rand(64, scale=5, device=device), (rand(64, seed=1, device=device) > 0).float()
    rows, t = x.view(16, 4), indices(4, 16, device=device)
    for other in (0.3, torch.nan, -100.0):  # a soft, a bad or an ignored one among hard ones
        mixed = y.clone()
        mixed[7] = other
        for target in (y, mixed):
            value, slope = of_way(_triton, "sigmoid_focal", x, target, ignored=-100, up=x * 0 + 1)
            if target is y:
                expected = value, slope
        elements = torch.arange(64, device=device) != 7
        close(value[elements], expected[0][elements], rtol=0, atol=0)
        close(slope[elements], expected[1][elements], rtol=0, atol=0)
    for smoothing in (0.0, 0.1):
        options = {"ignored": -100, "smoothing": smoothing, "up": torch.ones(16, device=device)}
        value, slope = of_way(_triton, "softmax_focal", rows, t, **options)
        rows_of_inf = rows.clone()
        rows_of_inf[3] = torch.tensor([0.0, -torch.inf, torch.inf, torch.nan])
        got = of_way(_triton, "softmax_focal", rows_of_inf, t, **options)
        others = torch.arange(16, device=device) != 3
        close(got[0][others], value[others], rtol=0, atol=0)
        close(got[1][others], slope[others], rtol=0, atol=0)


# --- Numbers that are hard to come by -------------------------------------------------------------


@pytest.mark.parametrize("gamma", sampled([50.0, 100.0, 1000.0, 1e6], 100.0, 1e6))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_gammas_are_exact(gamma, dtype, device):
    """They multiply every error of log (1 - p)."""
    eps = torch.finfo(dtype).eps
    p = torch.logspace(-2, 1.9, 12, dtype=torch.float64, device=device) / gamma
    x = p.clamp_max(0.9).logit().to(dtype)
    up = torch.ones_like(x)
    got = of_way(_triton, "sigmoid_focal", x, up, gamma=gamma, up=up)
    for n, values in enumerate(got):
        expected = [float(exact.sigmoid(v, 1, None, gamma, n)) for v in x.tolist()]
        expected = torch.tensor(expected, dtype=torch.float64, device=device)
        close(values.double(), expected, rtol=32 * eps, atol=float(torch.finfo(dtype).tiny))
    rows = rand(12, 3, scale=2, dtype=torch.float64, device=device)
    rows[:, 0] = rows[:, 1:].logsumexp(1) + x.double()
    rows = rows.to(dtype)
    soft = torch.tensor([0.7, 0.2, 0.1], dtype=dtype, device=device).expand_as(rows)
    index = torch.zeros(12, dtype=torch.long, device=device)
    for target, factor in ((index, [1.0, 0.0, 0.0]), (soft, soft[0].tolist())):
        options = {"gamma": gamma, "ignored": -100, "up": up}
        value, slope = of_way(_triton, "softmax_focal", rows, target, **options)
        for row, loss, gradient in zip(rows.tolist(), value.tolist(), slope.double(), strict=True):
            expected = float(exact.softmax(row, factor, gamma))
            assert loss == pytest.approx(expected, rel=32 * eps, abs=torch.finfo(dtype).tiny)
            expected = [float(v) for v in exact.softmax_gradient(row, factor, gamma)]
            expected = torch.tensor(expected, dtype=torch.float64, device=device)
            size = expected.abs().max().item()  # the terms of a soft target's gradient cancel
            atol = 32 * eps * size + torch.finfo(dtype).tiny
            close(gradient, expected, rtol=32 * eps, atol=atol)


def test_finite_for_every_gamma(device):
    z = torch.tensor([-1e4, -708.0, -300, -80, -30, -1, 0, 1, 30, 300, 1e4], device=device)
    for gamma, dtype in itertools.product(
        (1e30, 1e36, 1e39, 1e300, 1.7976931348623157e308), (torch.float32, torch.float64)
    ):
        x = z.to(dtype)
        rows = torch.stack([x, -x, 0 * x], 1)
        index = torch.zeros(11, dtype=torch.long, device=device)
        for loss, logits, target in (
            ("sigmoid_focal", x, torch.ones_like(x)),
            ("softmax_focal", rows, index),
            ("softmax_focal", rows, torch.full_like(rows, 1 / 3)),
        ):
            value, slope = of_way(_triton, loss, logits, target, gamma=gamma, ignored=-100)
            assert value.isfinite().all() and slope.isfinite().all(), (loss, gamma, dtype)


@pytest.mark.parametrize("far", [60.0, 95.0, 108.5])
def test_no_loss_is_flushed_that_a_weight_makes_normal(far, device):
    """e^-far is below the normal numbers of float32, or no number of it."""
    large = torch.tensor([1e30], device=device)
    agree_by_settings("sigmoid_focal", torch.tensor([far], device=device),
                      torch.ones(1, device=device), gamma=0.0, weight=large)  # fmt: skip
    x = torch.tensor([[0.0, -far, -far - 1.0]], device=device)
    for c, smoothing in itertools.product(range(3), (0.0, 0.01)):
        one = torch.zeros_like(x)
        one[0, c] = 1.0
        for target in (torch.tensor([c], device=device), one):
            options = {"gamma": 0.0, "weight": large.expand(3), "ignored": -100}
            options |= {"smoothing": smoothing, "up": torch.ones(1, device=device)}
            value, slope = of_way(_triton, "softmax_focal", x, target, **options)
            expected = of_way(_triton, "softmax_focal", x.double(), target, **options)
            close(value, expected[0].float(), rtol=3e-6, atol=0)
            close(slope, expected[1].float(), rtol=3e-6, atol=0)


@pytest.mark.parametrize("n", [4, 1500])
def test_a_mean_is_not_infinite_where_its_sum_is(n, device):
    """In the sum of a program, or in that of the programs."""
    x = torch.full((n,), 1e308, dtype=torch.float64, device=device)
    rows = torch.stack([torch.zeros_like(x), x], dim=1)
    t, y = torch.zeros(n, dtype=torch.long, device=device), torch.zeros_like(x)
    for loss, logits, target, options in (
        (sigmoid_focal_loss, x, y, {"alpha": None}),
        (sigmoid_focal_loss, x, y, {"alpha": None, "ignore_index": -1}),
        (softmax_focal_loss, rows, t, {}),
        (softmax_focal_loss, rows, t, {"label_smoothing": 1e-20}),
    ):
        mean = loss(logits, target, gamma=0.0, reduction="mean", **options)
        close(mean.item(), 1e308, rtol=1e-14, atol=0)
        assert loss(logits, target, gamma=0.0, reduction="sum", **options) == torch.inf
        logits = logits.clone()
        logits[0] = logits[0] * 10
        assert loss(logits, target, gamma=0.0, reduction="mean", **options) == torch.inf
        logits[0] = torch.nan
        assert loss(logits, target, gamma=0.0, reduction="mean", **options).isnan()
    few = sigmoid_focal_loss(-x.clamp(max=700.0), y, None, 0.0, "mean")
    close(few.item(), math.exp(-700.0), rtol=1e-13, atol=0)


def test_the_same_bits_in_every_run(device):
    x, t = rand(700, 40, scale=5, device=device), indices(40, 700, device=device)
    runs = [
        both(softmax_focal_loss, x, t) + both(sigmoid_focal_loss, x, x.sigmoid(), reduction="mean")
        for _ in range(3)
    ]
    for run in runs[1:]:
        close(run, runs[0], rtol=0, atol=0)


# --- Which way a call takes, and what it keeps ----------------------------------------------------


def calls(device):
    """Losses of one tensor (6, 4), by every kernel."""
    t, w = torch.tensor([0, 3, -100, 1, 1, 2], device=device), torch.arange(1.0, 5, device=device)
    y = rand(6, 4, seed=1, device=device).softmax(1)
    for reduction in ("none", "mean", "sum"):
        yield lambda x, r=reduction, **o: sigmoid_focal_loss(x, y, reduction=r, **o)
        yield lambda x, r=reduction, **o: softmax_focal_loss(x, t, w, reduction=r, **o)
        yield lambda x, r=reduction, **o: softmax_focal_loss(x, y, reduction=r, **o)
        yield lambda x, r=reduction, **o: softmax_focal_loss(
            x, t, reduction=r, label_smoothing=0.1, **o
        )


def test_kernels_are_taken(monkeypatch, device):
    for way in (_composed, _cpu):
        monkeypatch.setattr(way, "sigmoid_focal", refuse)
        monkeypatch.setattr(way, "softmax_focal", refuse)
    for call, dtype in itertools.product(calls(device), (torch.float16, torch.float32)):
        value, slope = both(call, rand(6, 4, dtype=dtype, device=device))
        assert value.dtype == slope.dtype == dtype
        assert value.device.type == slope.device.type == device


def test_other_gradients_and_transforms_are_composed(monkeypatch, device):
    for name in ("sigmoid_focal", "softmax_focal"):
        monkeypatch.setattr(_triton, name, refuse)
    x, y = rand(5, 3, device=device), rand(5, 3, seed=1, device=device).softmax(1)
    w = torch.ones(3, device=device, requires_grad=True)
    assert grad(softmax_focal_loss(x, y, w), w)[0].isfinite().all()
    target = y.clone().requires_grad_()
    assert grad(sigmoid_focal_loss(x, target).sum(), target)[0].isfinite().all()
    assert torch.func.grad(lambda x: sigmoid_focal_loss(x, y).sum())(x).isfinite().all()
    assert torch.func.vmap(softmax_focal_loss)(x, y).shape == (5,)
    assert torch.func.jvp(lambda x: softmax_focal_loss(x, y), (x,), (x,))[1].isfinite()
    assert softmax_focal_loss(x[:, :1], y[:, :1]) == 0  # one class


def test_without_triton_or_with_an_old_one(monkeypatch, device):
    """The composed form is taken, which test_torch.py has on every device."""
    assert focal_lib._ways._load_triton() == (_triton, "")
    with monkeypatch.context() as patch:
        patch.setattr(focal_lib._ways.util, "find_spec", lambda _: None)
        assert focal_lib._ways._load_triton() == (None, "triton is not installed")
    with monkeypatch.context() as patch:
        patch.setattr("triton.__version__", "3.5.1")
        assert focal_lib._ways._load_triton() == (None, "triton 3.5.1 is older than 3.6")
    x, t = rand(6, 4, device=device), indices(4, 6, device=device)
    kernels = both(softmax_focal_loss, x, t)
    monkeypatch.setattr(focal_lib._ways, "triton", None)
    monkeypatch.setattr("focal_lib._ways.compiled.kernels", None)
    close(both(softmax_focal_loss, x, t), kernels, rtol=3e-6, atol=1e-9)


def test_second_derivatives(device):
    x = rand(6, 4, scale=2, dtype=torch.float64, device=device).requires_grad_()
    for call in calls(device):
        (first,) = grad(call(x).sum(), x, create_graph=True)
        (second,) = grad(first.square().sum(), x)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(focal_lib._ways, "way", lambda *_: _composed)
            (other,) = grad(call(x).sum(), x, create_graph=True)
            (expected,) = grad(other.square().sum(), x)
        close(first, other, rtol=1e-12, atol=1e-13)
        close(second, expected, rtol=1e-11, atol=1e-12)


class Watch(TorchDispatchMode):
    """Something that looks at what is called."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.add(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("gamma", [2.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operators_compute_the_same_bits(gamma, dtype, device):
    x = rand(6, 4, scale=4, dtype=dtype, device=device)
    y = rand(6, 4, seed=1, dtype=dtype, device=device).softmax(1)
    w = torch.arange(1.0, 5, dtype=dtype, device=device)
    t = torch.tensor([0, 3, -100, 1, 1, 2], device=device)
    for reduction in ("none", "mean"):
        options = {"gamma": gamma, "reduction": reduction, "weight": w, "ignored": -100}
        alpha = {"pos_weight": y[:, :1], "positive": 0.3, "negative": 0.7}
        for loss, target, more in (
            ("sigmoid_focal", y, alpha),
            ("softmax_focal", t, {}),
            ("softmax_focal", t, {"smoothing": 0.1}),
            ("softmax_focal", y, {}),
        ):
            with Watch() as watch:
                got = of_way(_triton, loss, x, target, **options, **more)
            assert any("focal_lib" in name for name in watch.seen)
            expected = of_way(_triton, loss, x, target, **options, **more)
            close(got, expected, rtol=0, atol=0)


def test_second_derivatives_of_the_operators(device):
    for call in calls(device):
        x = rand(6, 4, scale=2, dtype=torch.float64, device=device).requires_grad_()
        with Watch() as watch:
            (first,) = grad(call(x).sum(), x, create_graph=True)
        assert any("focal_lib" in name for name in watch.seen)
        (second,) = grad(first.square().sum(), x)
        (other,) = grad(call(x).sum(), x, create_graph=True)
        (expected,) = grad(other.square().sum(), x)
        close(first, other, rtol=1e-12, atol=1e-13)
        close(second, expected, rtol=1e-11, atol=1e-12)


def test_second_derivatives_under_autocast_with_a_large_scale(device):
    """The gradient of a loss in float32 is a number that float16 does not have."""
    x = rand(6, 4, dtype=torch.float16, device=device).requires_grad_()
    for call in calls(device):
        with torch.autocast(device, dtype=torch.float16 if device == "cuda" else torch.bfloat16):
            value = call(x).sum()
        up = torch.full((), 1e5, device=device)
        (first,) = grad(value, x, up, retain_graph=True)
        (again,) = grad(value, x, up, create_graph=True)
        assert first.isfinite().any()
        close(again, first, rtol=2e-3, atol=1e-3, equal_nan=True)


def test_the_forward_pass_need_not_know_of_the_backward_pass(device):
    """A transform may hide that there will be one."""
    for operator, arguments in operator_calls(device):
        if str(operator) == "focal_lib.softmax_focal_loss":
            x, *rest, _ = arguments
            x = x.detach().requires_grad_()
            slopes = []
            for save in (True, False):
                loss = operator(x, *rest, save)[0]
                slopes.append(grad(loss.sum(), x)[0])
            close(slopes[1], slopes[0], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_largest_gammas(dtype, device):
    """q^gamma is 0, or 1 where p is far below 1 / gamma."""
    z = torch.tensor([-80.0, -70, -60, -1, 0, 5], dtype=dtype, device=device)
    for gamma in (1e28, 1e31, 1e35 if dtype == torch.float32 else 1e300):
        value, slope = both(sigmoid_focal_loss, z, torch.ones_like(z), None, gamma)
        p = z.double().sigmoid()
        expected = torch.exp(-gamma * p) * -torch.log(p)
        close(value.double(), expected, rtol=1e-4, atol=1e-30)
        assert slope.isfinite().all()


def test_gradients_again_and_in_batches(device):
    x = rand(6, 4, device=device).requires_grad_()
    for call in calls(device):
        value = call(x)
        first, second = (grad(value.sum(), x, retain_graph=True)[0] for _ in range(2))
        close(first, second, rtol=0, atol=0)
        ups = torch.stack([torch.ones_like(value), 2 * torch.ones_like(value)])
        (batch,) = grad(value, x, ups, is_grads_batched=True)
        close(batch, torch.stack([first, 2 * first]), rtol=3e-6, atol=1e-7)


def test_a_changed_input_is_noticed(device):
    for call in calls(device):
        x = rand(6, 4, device=device).requires_grad_()
        h = x * 1
        value = call(h).sum()
        with torch.no_grad():
            h.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            grad(value, x)


def test_what_is_kept_for_the_backward_pass(device):
    """The inputs, and at most five numbers a row."""
    x, t = rand(64, 500, device=device).requires_grad_(), indices(500, 64, device=device)
    y = x.detach().softmax(1)
    for loss, target, options, numbers in (
        (sigmoid_focal_loss, y, {}, 0),
        (softmax_focal_loss, t, {}, 3),
        (softmax_focal_loss, t, {"label_smoothing": 0.1}, 5),
        (softmax_focal_loss, y, {}, 5),
    ):
        kept = []

        def pack(v, kept=kept):
            kept.append(v)
            return v

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda v: v):
            loss(x, target, reduction="mean", **options)
        inputs = {x.data_ptr(), target.data_ptr()}
        others = [v for v in kept if v.data_ptr() not in inputs]
        assert len(others) < len(kept)
        assert sum(v.numel() for v in others) <= numbers * 64 + 1


def test_the_host_never_waits(device):
    """It asks for no value."""
    from torch.profiler import ProfilerActivity, profile

    waits = {"aten::item", "aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero"}
    x = rand(6, 4, device=device).requires_grad_()
    for call in calls(device):
        up = torch.ones_like(call(x))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("focal_lib._tensors.can_look", lambda _: False)
            with profile(activities=[ProfilerActivity.CPU]) as run:
                grad(call(x), x, up)
        names = {event.name for event in run.events()}
        assert "aten::empty" in names or "aten::empty_strided" in names
        assert not names & waits


# --- For torch's compiler -------------------------------------------------------------------------


def operator_calls(device, reductions=("none", "mean", "sum")):
    """Arguments of the operators: of each way through the forward pass and back."""
    operators = torch.ops.focal_lib
    t = torch.tensor([0, 3, -100, 1, 1, 2], device=device)
    gamma = torch.tensor(2.0, dtype=torch.float64, device=device)
    w = torch.arange(1.0, 5, device=device)
    for x, reduction in itertools.product(
        (rand(6, 4, device=device), rand(4, 6, device=device).T), reductions
    ):
        y = rand(6, 4, seed=1, device=device).softmax(1)
        up = torch.ones((6, 4) if reduction == "none" else (), device=device)
        for weights, ignored in (((None, None), None), ((w, y[:, :1]), -1)):
            options = (False, 0.25, 0.75, ignored, reduction)
            forward = (x, y, *weights, gamma, *options, torch.float32)
            yield operators.sigmoid_focal_loss, forward
            share = operators.sigmoid_focal_loss(*forward)[1]
            backward = (up, x, y, *weights, share, gamma, *options)
            yield operators.sigmoid_focal_loss_backward, backward
        up = torch.ones(6 if reduction == "none" else (), device=device)
        for target, weight, smoothing in ((t, w, 0.0), (t, None, 0.1), (y, w, 0.0)):
            options = (gamma, False, -100, smoothing, reduction)
            forward = (x, target, weight, *options, torch.float32, True)
            yield operators.softmax_focal_loss, forward
            _, *kept = operators.softmax_focal_loss(*forward)
            yield operators.softmax_focal_loss_backward, (up, x, target, weight, *kept, *options)


@pytest.mark.parametrize("reduction", sampled(["none", "mean", "sum"], "mean"))
def test_operators_are_sound(reduction, device):
    for operator, arguments in operator_calls(device, (reduction,)):
        opcheck(operator, arguments)
        if "backward" not in str(operator):
            x, *rest = arguments
            opcheck(operator, (x.detach().clone().requires_grad_(), *rest))


@WHOLE
@pytest.mark.parametrize("number", sampled(range(12), 4, 5, 6, 7))  # the means
def test_compiled_whole(number, device):
    call = [*calls(device)][number]
    x = rand(6, 4, device=device)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    compiled = torch.compile(call, backend=counter, fullgraph=True)
    close(both(compiled, x), both(call, x), rtol=0, atol=0)
    assert any("focal_lib" in str(node.target) for node in counter.graphs[0].graph.nodes)
    for gamma in (0.0, 0.3, 1.0, 1.7, 2.0, 2.5, 3.0, 5.0, 7.5, 15.0):
        close(both(compiled, x, gamma=gamma), both(call, x, gamma=gamma), rtol=0, atol=0)
    assert counter.frame_count <= 3  # with the default gamma, a gamma, any gamma


@WHOLE
def test_compiled_modules_take_any_batch(device):
    module = SoftmaxFocalLoss(torch.arange(1.0, 5, device=device), gamma=1.5)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    compiled = torch.compile(module, backend=counter, fullgraph=True)
    for n in (6, 7, 8, 9, 30):
        x, t = rand(n, 4, device=device), indices(4, n, device=device)
        close(both(compiled, x, t), both(module, x, t), rtol=0, atol=0)
    assert counter.frame_count <= 2


def test_autocast_leaves_the_loss_in_float32(device):
    x = rand(6, 4, dtype=torch.bfloat16, device=device)
    for call in calls(device):
        with torch.autocast(device, dtype=torch.bfloat16):
            value, slope = both(call, x)
        assert value.dtype == torch.float32 and slope.dtype == torch.bfloat16


@WHOLE
def test_autocast_leaves_a_compiled_loss_in_float32(device):
    x = rand(6, 4, dtype=torch.bfloat16, device=device)
    for call in calls(device):
        with torch.autocast(device, dtype=torch.bfloat16):
            torch._dynamo.reset()
            compiled = both(torch.compile(call, backend="aot_eager", fullgraph=True), x)
            close(compiled, both(call, x), rtol=0, atol=0)


# --- What needs a GPU -----------------------------------------------------------------------------


@needs_gpu
def test_the_host_does_not_synchronise(device):
    x = rand(6, 4, device="cuda").requires_grad_()
    made = [*calls("cuda")]
    for call in made:
        call(x).sum().backward()  # compiled
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for call in made:
            call(x).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
def test_captured_in_a_cuda_graph(device):
    for call in calls("cuda"):
        x = rand(6, 4, device="cuda").requires_grad_()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # compiles, as capture may not
            for _ in range(2):
                grad(call(x).sum(), x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            value = call(x).sum()
            (slope,) = grad(value, x)
        with torch.no_grad():
            x.copy_(rand(6, 4, seed=5, device="cuda"))
        graph.replay()
        fresh = x.detach().clone().requires_grad_()
        expected = call(fresh).sum()
        close(value, expected, rtol=0, atol=0)
        close(slope, grad(expected, fresh)[0], rtol=0, atol=0)


@needs_gpu
def test_several_streams(device):
    """Losses at the same time do not share what they sum into."""
    xs = [rand(2000, 300, seed=k, device="cuda") for k in range(8)]
    t = indices(300, 2000, device="cuda")
    expected = [both(softmax_focal_loss, x, t, up=torch.ones((), device="cuda")) for x in xs]
    streams = [torch.cuda.Stream() for _ in xs]
    torch.cuda.synchronize()
    got = []
    for x, stream in zip(xs, streams, strict=True):
        with torch.cuda.stream(stream):
            got.append(both(softmax_focal_loss, x, t, up=torch.ones((), device="cuda")))
    torch.cuda.synchronize()
    close(got, expected, rtol=0, atol=0)


@needs_gpu
def test_a_device_that_is_not_the_current_one(device):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    for call, there in zip(calls("cuda:0"), calls("cuda:1"), strict=True):
        x = rand(6, 4, device="cuda:0")
        with torch.cuda.device(0):
            close(both(there, x.to("cuda:1")), both(call, x), check_device=False, rtol=0, atol=0)


@needs_gpu
@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
def test_memory(loss, device):
    """Beyond the inputs: the gradient, and little that does not grow with them."""
    x, t = rand(4096, 1024, device="cuda").requires_grad_(), indices(1024, 4096, device="cuda")
    y = torch.zeros(4096, 1024, device="cuda")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    if loss == "sigmoid":
        sigmoid_focal_loss(x, y, reduction="mean").backward()
    else:
        softmax_focal_loss(x, t).backward()
    peak = torch.cuda.max_memory_allocated() - before
    assert 4 <= peak / x.numel() < 4.1
