"""The ways to the loss on the CPU (compiled kernels, chunks, torch's operations) are one loss."""

import itertools
import os

import numpy as np
import pytest
import torch
from torch.autograd import grad
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

import focal_lib._ways
from focal_lib._ways import compiled, composed
from focal_lib.torch import sigmoid_focal_loss, softmax_focal_loss

WAYS = ["kernels", "chunks", "composed"]
EPS = torch.finfo(torch.float32).eps
close = torch.testing.assert_close


@pytest.fixture
def way(request, monkeypatch):
    take(request.param, monkeypatch)
    return request.param


def take(way, monkeypatch):
    if way == "kernels" and compiled.kernels is None:
        if os.environ.get("CI"):
            pytest.fail("the kernels were not compiled")
        pytest.skip("the kernels were not compiled: there was no C compiler")
    if way != "kernels":
        monkeypatch.setattr(compiled, "kernels", None)
    if way == "composed":
        monkeypatch.setattr(focal_lib._ways, "way", lambda *_: composed)


def rand(*shape, scale=1.0, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype) * scale


def both(loss, x, *arguments, **options):
    x = x.detach().requires_grad_()
    value = loss(x, *arguments, **options)
    return value.detach(), grad(value, x, torch.ones_like(value))[0]


SIZES = [1, 2, 15, 511, 512, 513, 2**16 - 1, 2**16 + 1, 2**17 + 3]


@pytest.mark.parametrize("way", ["kernels", "chunks"], indirect=True)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sigmoid_is_the_composed_one(way, size, dtype, monkeypatch):
    x = rand(size, scale=8, dtype=dtype)
    y = rand(size, seed=1) > 1
    cases = list(itertools.product((0.25, None), (0.0, 0.3, 1.0, 2.0), ("none", "mean", "sum")))
    made = [both(sigmoid_focal_loss, x, y, *case) for case in cases]
    take("composed", monkeypatch)
    rtol = 100 * torch.finfo(dtype).eps
    for case, got in zip(cases, made, strict=True):
        # A sum of many roundings is not the sum of the exact terms.
        expected = both(sigmoid_focal_loss, x.double(), y, *case)
        close(got, tuple(v.to(dtype) for v in expected), rtol=rtol, atol=torch.finfo(dtype).tiny)


@pytest.mark.parametrize("way", ["kernels", "chunks"], indirect=True)
@pytest.mark.parametrize("shape", [(1, 2), (7, 3), (300, 511), (3, 70001), (9000, 33), (4, 6, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_is_the_composed_one(way, shape, dtype, monkeypatch):
    x = rand(*shape, scale=8, dtype=dtype)
    t = torch.randint(shape[1], shape[:1] + shape[2:], generator=torch.Generator().manual_seed(2))
    some = t.where(torch.arange(shape[0]).view(-1, *[1] * (t.ndim - 1)) % 3 > 0, -100)
    w = rand(shape[1], seed=3).abs()
    w[0] = 0
    cases = [
        (target, weight, {"gamma": gamma, "reduction": reduction})
        for target, weight, gamma, reduction in itertools.product(
            (t, some), (None, w), (0.0, 0.3, 2.0), ("none", "mean", "sum")
        )
    ]
    made = [both(softmax_focal_loss, x, *case[:2], **case[2]) for case in cases]
    take("composed", monkeypatch)
    rtol = 100 * torch.finfo(dtype).eps
    for (target, weight, options), got in zip(cases, made, strict=True):
        expected = both(softmax_focal_loss, x.double(), target, weight, **options)
        expected = tuple(v.to(dtype) for v in expected)
        close(got, expected, rtol=rtol, atol=torch.finfo(dtype).tiny, equal_nan=True)


@pytest.mark.parametrize("shape", [(1, 2), (7, 3), (300, 511), (3, 70001), (4, 6, 5)])
def test_soft_targets_are_the_composed_ones(shape, monkeypatch):
    take("kernels", monkeypatch)
    x, y = rand(*shape, scale=8), torch.softmax(rand(*shape, seed=1, scale=4), 1)
    y[0] = y[0].round()
    t = torch.randint(shape[1], shape[:1] + shape[2:], generator=torch.Generator().manual_seed(2))
    some = t.where(torch.arange(shape[0]).view(-1, *[1] * (t.ndim - 1)) % 3 > 0, -100)
    w = rand(shape[1], seed=3).abs()
    cases = [
        (softmax_focal_loss, (target, weight), {"gamma": gamma, "label_smoothing": smoothing})
        for target, weight, gamma, smoothing in itertools.product(
            (t, some, y), (None, w), (0.0, 0.3, 2.0), (0.0, 0.1, 1.0)
        )
    ]
    cases += [(sigmoid_focal_loss, (y, a, g), {}) for a in (None, 0.3) for g in (0.0, 0.3, 2.0)]
    cases = [(*case[:2], {**case[2], "reduction": r}) for case in cases for r in ("none", "mean")]
    made = [both(loss, x, *arguments, **options) for loss, arguments, options in cases]
    take("composed", monkeypatch)
    for (loss, arguments, options), got in zip(cases, made, strict=True):
        expected = both(loss, x.double(), *arguments, **options)
        close(got[0], expected[0].float(), rtol=100 * EPS, atol=1e-37, equal_nan=True)
        # the gradients by the classes cancel: the accuracy grid has their sizes
        close(got[1], expected[1].float(), rtol=1e-4, atol=1e-5 * expected[1].abs().max().item())


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_the_gradient_again_and_of_itself(way):
    """Whoever has written into the first one that was given."""
    x, y, t = rand(6, 4), rand(6, 4, seed=1) > 0, torch.tensor([0, 1, 2, 3, 0, -100])
    cases = [(sigmoid_focal_loss, y, r) for r in ("none", "mean")]
    cases += [(softmax_focal_loss, t, r) for r in ("none", "mean")]
    for loss, target, reduction in cases:
        a = x.clone().requires_grad_()
        value = loss(a, target, reduction=reduction)
        scale = rand(*value.shape, seed=2)
        (first,) = grad(value, a, scale, retain_graph=True)
        expected = first.clone()
        first.zero_()
        (second,) = grad(value, a, scale, retain_graph=True)
        close(second, expected, rtol=0, atol=0)
        (third,) = grad(value, a, scale, create_graph=True)
        close(third, expected, rtol=8 * EPS, atol=1e-9)
        assert grad(third.sum(), a)[0].isfinite().all()
        again = loss(a, target, reduction=reduction)
        again.backward(scale)
        close(a.grad, expected, rtol=0, atol=0)
        loss(a, target, reduction=reduction).backward(scale)
        close(a.grad, 2 * expected, rtol=0, atol=0)


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_the_gradient_is_multiplied_by_what_comes_back(way):
    x, y, t = rand(5, 3), rand(5, 3, seed=1) > 0, torch.tensor([0, 2, 1, 1, 0])
    for loss, target in ((sigmoid_focal_loss, y), (softmax_focal_loss, t)):
        _, alone = both(loss, x, target, reduction="mean")
        a = x.clone().requires_grad_()
        (a * 3).sum().add(-7 * loss(a, target, reduction="mean")).backward()
        close(a.grad, 3 - 7 * alone)


@pytest.mark.parametrize("way", ["kernels", "chunks"], indirect=True)
def test_a_changed_input_is_noticed(way):
    x = rand(5, 3).requires_grad_()
    h = x * 1
    value = softmax_focal_loss(h, torch.tensor([0, 2, 1, 1, 0]))
    grad(value, x, retain_graph=True)
    with torch.no_grad():
        h.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        grad(value, x)


@pytest.mark.parametrize("way", ["kernels", "chunks"], indirect=True)
def test_what_is_made_in_one_go_is_taken(way, monkeypatch):
    """The ways above are those taken: the composed form is not called."""

    def refuse(*_):
        raise AssertionError("composed")

    monkeypatch.setattr(composed, "sigmoid_focal", refuse)
    monkeypatch.setattr(composed, "softmax_focal", refuse)
    x, y, t = rand(5, 3), rand(5, 3, seed=1) > 0, torch.tensor([0, 2, 1, 1, -100])
    for dtype in (torch.float32, torch.float64):
        for target in (y, y.to(dtype), y.int()):
            both(sigmoid_focal_loss, x.to(dtype), target)
        both(softmax_focal_loss, x.to(dtype), t)
        both(softmax_focal_loss, x.to(dtype).t(), t[:3].abs() % 3)
    for dtype in (torch.float16, torch.bfloat16):
        both(sigmoid_focal_loss, x.to(dtype), y)
        both(softmax_focal_loss, x.to(dtype), t)
    both(sigmoid_focal_loss, x, y / 2)
    both(softmax_focal_loss, x, x.sigmoid())
    both(softmax_focal_loss, x, t, label_smoothing=0.1)


@pytest.mark.skipif(
    not hasattr(torch._C._autograd, "_top_saved_tensors_default_hooks"), reason="an older torch"
)
@pytest.mark.parametrize("way", ["kernels", "chunks"], indirect=True)
def test_a_checkpoint_keeps_nothing(way):
    x, t = rand(50, 7, scale=4), torch.arange(50) % 7
    for loss, target in ((softmax_focal_loss, t), (sigmoid_focal_loss, x.sigmoid())):
        value, slope = both(loss, x, target)
        again = x.clone().requires_grad_()
        later = checkpoint(loss, again, target, use_reentrant=False)
        assert later.grad_fn.gradient is None
        close(later, value, rtol=0, atol=0)
        (later_slope,) = grad(later, again, torch.ones_like(later))
        close(later_slope, slope, rtol=0, atol=0)


@pytest.mark.parametrize("way", ["kernels", "chunks"], indirect=True)
@pytest.mark.parametrize("threads", [1, 2, 3, 70])
def test_threads(way, threads):
    """Any number of threads gives the same gradient, and a value that differs by its summation."""
    x, y = rand(300, 1001, scale=4), (rand(300, 1001, seed=1) > 1).float()
    t = torch.arange(300)
    before = torch.get_num_threads()
    single = [both(sigmoid_focal_loss, x, y, reduction="mean"), both(softmax_focal_loss, x, t)]
    try:
        torch.set_num_threads(threads)
        several = [both(sigmoid_focal_loss, x, y, reduction="mean"), both(softmax_focal_loss, x, t)]
    finally:
        torch.set_num_threads(before)
    for one, other in zip(single, several, strict=True):
        close(one[1], other[1], rtol=0 if way == "kernels" else 4 * EPS, atol=0)
        close(one[0], other[0], rtol=4 * EPS, atol=0)


@pytest.mark.parametrize("way", ["kernels", "chunks"], indirect=True)
def test_a_share_is_not_rounded(way):
    """1 / 1020 in float32 would be in every gradient."""
    x, t = rand(1020, 7, scale=4), torch.arange(1020) % 7
    for loss, target in ((softmax_focal_loss, t), (sigmoid_focal_loss, (x > 3).float())):
        exact = both(loss, x.double(), target if target is t else target.double(), reduction="mean")
        got = both(loss, x, target, reduction="mean")
        for value, expected in zip(got, exact, strict=True):
            close(value.double(), expected, rtol=0.6 * EPS, atol=0)


@pytest.mark.parametrize("way", ["kernels", "chunks"], indirect=True)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_memory(way, reduction):
    """Beyond the inputs, forward and backward: the gradient, and the loss where it has its size."""
    x, t = rand(2000, 1000).requires_grad_(), torch.arange(2000) % 1000
    y = (rand(2000, 1000, seed=1) > 2).float()
    back = torch.ones_like(y) if reduction == "none" else torch.ones(())
    for loss, target, grads in (
        (sigmoid_focal_loss, y, back),
        (softmax_focal_loss, t, back[:, 0] if reduction == "none" else back),
    ):
        x.grad = None
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
            loss(x, target, reduction=reduction).backward(grads)
        moves = [e.nbytes() for e in run.profiler.kineto_results.events() if e.name() == "[memory]"]
        peak = max(itertools.accumulate(moves))
        bound = 5 + 4 * (reduction == "none" and loss is sigmoid_focal_loss)
        chunk = 1e7 if way == "chunks" else 0  # of any size of x
        assert 4 * x.numel() <= peak < bound * x.numel() + chunk, peak / x.numel()


# --- What a fast path might get wrong -------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_views_with_a_negative_bit_and_zero_tensors(way):
    z = torch.tensor([1 + 2j, 3 - 1j], dtype=torch.complex64).conj().imag
    assert z.is_neg()
    one = torch.ones(2)
    close(sigmoid_focal_loss(z, one), sigmoid_focal_loss(z.clone(), one))
    close(sigmoid_focal_loss(z[:1], one[:1]), sigmoid_focal_loss(z[:1].clone(), one[:1]))
    t, w = torch.tensor([0]), torch._neg_view(-torch.tensor([2.0, 3.0]))
    x = rand(1, 2)
    close(softmax_focal_loss(x, t, w, reduction="sum"), 2 * softmax_focal_loss(x, t))
    zero = torch._efficientzerotensor((2,))
    close(sigmoid_focal_loss(zero, one), sigmoid_focal_loss(torch.zeros(2), one))


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_the_default_device_is_not_that_of_the_logits(way):
    x, y, t = rand(3, 4), rand(3, 4, seed=1) > 0, torch.tensor([0, 1, 2])
    expected = [both(sigmoid_focal_loss, x, y), both(softmax_focal_loss, x, t)]
    with torch.device("meta"):
        got = [both(sigmoid_focal_loss, x, y), both(softmax_focal_loss, x, t)]
    close(got, expected)


@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_target_is_hard_only_if_it_is(way, dtype):
    """1 - 2y is 1 for smaller ones than these, and the loss of the other label is large."""
    y = torch.tensor([1e-9, 1e-17, 1e-30], dtype=dtype)
    x = torch.full((3,), -1e4, dtype=dtype)
    close(sigmoid_focal_loss(x, y, None), y * 1e4, rtol=1e-6, atol=0)


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_a_sum_that_overflows_is_infinite(way):
    x = torch.full((4,), 3e38)
    assert sigmoid_focal_loss(x, torch.zeros(4), None, reduction="sum") == torch.inf
    rows = torch.tensor([[0.0, 3e38]] * 4)
    t = torch.zeros(4, dtype=torch.long)
    assert softmax_focal_loss(rows, t, reduction="sum") == torch.inf
    _, slope = both(softmax_focal_loss, rows, t, reduction="sum")
    close(slope, torch.tensor([[-1.0, 1.0]] * 4))


@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.parametrize("upstream", [torch.nan, torch.inf])
def test_nothing_comes_back_to_ignored_items(way, upstream):
    x, t = torch.tensor([[1.0, 2, 3], [0, 1, 2]]), torch.tensor([0, -100])
    for reduction, back in (("none", [1.0, upstream]), ("mean", upstream)):
        a = x.clone().requires_grad_()
        value = softmax_focal_loss(a, t, reduction=reduction)
        (slope,) = grad(value, a, torch.tensor(back))
        assert (slope[1] == 0).all()


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_gradients_in_batches(way):
    x, t = rand(4, 3).requires_grad_(), torch.tensor([0, 1, 2, 0])
    value = softmax_focal_loss(x, t, reduction="none")
    (rows,) = grad(value, x, torch.eye(4), is_grads_batched=True, retain_graph=True)
    for row, one in zip(rows, torch.eye(4), strict=True):
        close(row, grad(value, x, one, retain_graph=True)[0])


@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.parametrize("weight", [[1e10, 1.0, 1e10], [1e3, 1.0, 0.0], [1e-30, 1e-33, 1e-30]])
def test_weights_of_any_size(way, weight):
    """They may make a normal number of a probability that is not one."""
    x = torch.tensor([[0.0, -30, -100.0], [0, 1, -101], [0, -92, -5]])
    w = torch.tensor(weight, dtype=torch.float64)
    for t in (torch.tensor([0, 0, 0]), torch.tensor([1, 0, 1])):
        for options in ({"reduction": "sum"}, {"label_smoothing": 0.1}):
            got = both(softmax_focal_loss, x, t, w, gamma=0.0, **options)
            expected = both(softmax_focal_loss, x.double(), t, w, gamma=0.0, **options)
            for one, true in zip(got, expected, strict=True):
                normal = true.abs() > torch.finfo(torch.float32).tiny
                error = ((one - true) / true)[normal]
                assert error.numel() and error.abs().max() < 16 * EPS


@pytest.mark.parametrize("way", ["kernels", "chunks"], indirect=True)
def test_what_changed_behind_the_back_of_autograd(way):
    """NumPy's writes are not seen by it: an index that was checked may not be one any more."""
    index = np.zeros(4, np.int64)
    x = torch.zeros(4, 3, dtype=torch.bfloat16, requires_grad=True)
    value = softmax_focal_loss(x, torch.from_numpy(index))
    index[:] = 10**9
    with pytest.raises((RuntimeError, IndexError, ValueError)):
        value.backward()
    x = torch.zeros(4, 3, requires_grad=True)
    value = softmax_focal_loss(x, torch.tensor([0, 1, 2, 0]))
    value.backward(retain_graph=True)
    x.data.fill_(torch.nan)
    x.grad = None
    value.backward()
    assert x.grad.isnan().all()
