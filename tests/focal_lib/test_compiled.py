"""The compiled kernels: how exact they are, and that nothing but an element decides its result."""

import itertools
import math
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import mpmath
import pytest
import torch

from focal_lib._ways import compiled
from focal_lib._ways.compiled import make_sigmoid, make_softmax
from focal_lib._ways.settings import Settings

DTYPES = (torch.float32, torch.float64)
GAMMAS = (0.0, 0.5, 1.0, 2.0, 3.5, 20.0, 1e3, 1e6)
INF, NAN = math.inf, math.nan


@pytest.fixture(autouse=True)
def _kernels():
    if compiled.kernels is None:
        if os.environ.get("CI"):
            pytest.fail(compiled.why_not)
        pytest.skip(compiled.why_not)


def settings(gamma=2.0, reduction="none", dtype=torch.float64, **others):
    return Settings(gamma, reduction, dtype, **others)


def rand(*shape, seed=0, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)


def ints(high, *shape, seed=0):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def same(got, expected):
    """Bit by bit, where a NaN is like another."""
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
        zero = one == 0
        assert (one[zero].signbit() == other[zero].signbit()).all()


def eps_off(got, true, dtype, scale=None):
    """The largest error in eps, of the value or of a scale, where that is a normal number."""
    finfo, worst = torch.finfo(dtype), 0.0
    pairs = list(zip(got.flatten().tolist(), true, scale or true, strict=True))
    for value, exact, size in pairs:
        if finfo.tiny <= abs(size) <= finfo.max:
            error = abs((mpmath.mpf(value) - exact) / size) / finfo.eps
            worst = max(worst, float("inf") if mpmath.isnan(error) else float(error))
    return worst


def loss_and_slope(p, q, gamma):
    """f and -f', in mpmath, of p and q = 1 - p, both exact."""
    u = -mpmath.log(p) if p < q else -mpmath.log1p(-q)
    v = -mpmath.log(q) if q < p else -mpmath.log1p(-p)
    power = mpmath.exp(-gamma * v)
    return power * u, power * (q + gamma * p * u)


# --- How exact ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_sigmoid_is_exact(dtype, gamma):
    near = -math.log(gamma + 1) + rand(60, seed=1, scale=6)
    x = torch.cat([near, *(rand(25, seed=s, scale=10.0**s) for s in range(-3, 4))]).to(dtype)
    y = ints(2, len(x))
    for weight in (1.0, 1e30, 1e-30) + ((1e300, 1e-300) if dtype == torch.float64 else ()):
        w = torch.tensor(weight, dtype=torch.float64)
        loss, gradient = make_sigmoid(x, y, settings(gamma, dtype=dtype, weight=w), True)
        with mpmath.workdps(60):
            terms = []
            for x_i, y_i in zip(x.tolist(), y.tolist(), strict=True):
                e = mpmath.exp(-mpmath.mpf(x_i))
                p, q = 1 / (1 + e), e / (1 + e)
                f, slope = loss_and_slope(*((p, q) if y_i else (q, p)), gamma)
                terms.append((weight * f, -weight * slope if y_i else weight * slope))
            bound = 0.7 if dtype == torch.float32 else 12
            assert eps_off(loss, [f for f, _ in terms], dtype) < bound
            assert eps_off(gradient, [slope for _, slope in terms], dtype) < bound


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 20.0, 1e6])
@pytest.mark.parametrize("kind", ["index", "smoothed", "probabilities"])
def test_softmax_is_exact(dtype, gamma, kind):
    smoothing = 0.1 if kind == "smoothed" else 0.0
    for classes, decades in itertools.product((2, 3, 11), (0, 30, 300)):
        if dtype == torch.float32 and decades == 300:
            continue
        w = 10.0 ** (decades * rand(classes, seed=2).sigmoid())
        x = torch.cat([rand(4, classes, seed=s, scale=10.0**s) for s in range(4)])
        x[::2] = rand(8, classes, seed=5)
        x[::2, 0] += -math.log(gamma + 1) - 2
        x, t = x.to(dtype), ints(classes, 16)
        t[::4] = 0
        y = torch.nn.functional.one_hot(t, classes).double()
        target = t
        if kind == "probabilities":
            target = y = rand(16, classes, seed=6).softmax(1).to(dtype)
        options = settings(gamma, dtype=dtype, weight=w, ignored=-100, smoothing=smoothing)
        loss, gradient = make_softmax(x, target, options, True)
        with mpmath.workdps(60):
            losses, slopes, sizes = [], [], []
            for row, y_i in zip(x.tolist(), y.tolist(), strict=True):
                e = [mpmath.exp(mpmath.mpf(v) - max(row)) for v in row]
                p = [v / sum(e) for v in e]
                q = [sum(e[:j] + e[j + 1 :]) / sum(e) for j in range(classes)]
                total, h = mpmath.mpf(0), []
                for p_c, q_c, y_c, w_c in zip(p, q, y_i, w.tolist(), strict=True):
                    factor = w_c * (
                        (1 - mpmath.mpf(smoothing)) * y_c + smoothing / mpmath.mpf(classes)
                    )
                    f, slope = loss_and_slope(p_c, q_c, gamma)
                    total += factor * f
                    h.append(factor * slope / q_c)
                losses.append(total)
                for j in range(classes):
                    pull = p[j] * sum(h[:j] + h[j + 1 :])
                    slopes.append(pull - q[j] * h[j])
                    sizes.append(pull + q[j] * h[j])
            bound = 0.7 if dtype == torch.float32 else 12
            assert eps_off(loss, losses, dtype) < bound
            assert eps_off(gradient, slopes, dtype, sizes) < bound


def test_a_weight_finds_what_is_small():
    x, t = torch.tensor([[0.0, -108.5]]), torch.tensor([0])
    w = torch.tensor([1e10, 1e10])
    loss, gradient = make_softmax(x, t, settings(0.0, weight=w, ignored=-100), True)
    assert loss.item() == pytest.approx(1e10 * math.exp(-108.5), rel=1e-6)
    assert gradient[0].tolist() == pytest.approx([-loss.item(), loss.item()], rel=1e-6)
    x, y = torch.tensor([[80.0, 0.0]]), torch.tensor([[0.0, 1e-20]], dtype=torch.float64)
    w = torch.tensor([1e25, 1.0])
    loss, _ = make_softmax(x, y, settings(weight=w, ignored=-100), False)
    assert loss.item() == pytest.approx(8e-19, rel=1e-6)


def test_a_target_is_not_rounded():
    y = torch.tensor([1 - 1e-9], dtype=torch.float64)
    loss, _ = make_sigmoid(torch.tensor([1e6]), y, settings(), False)
    assert loss.item() == pytest.approx(1e6 * (1 - y.item()), rel=1e-6)


@pytest.mark.parametrize("w", [5e-324, 1e-300, 1e300])
def test_means_of_what_is_out_of_range(w):
    x = torch.full((4,), -1.7e308, dtype=torch.float64)
    mean, gradient = make_sigmoid(x, torch.ones(4), settings(0.0, "mean"), True)
    assert mean.item() == 1.7e308 and (gradient == -0.25).all()
    x, t = torch.tensor([[0.0, 1.0]] * 8).double(), torch.zeros(8, dtype=torch.int64)
    weight = torch.tensor([w, 1.0], dtype=torch.float64)
    mean, gradient = make_softmax(x, t, settings(reduction="mean", weight=weight, ignored=1), True)
    expected = make_softmax(x, t, settings(reduction="mean", ignored=1), True)
    torch.testing.assert_close((mean, gradient), expected, rtol=1e-15, atol=0)


def test_gamma_has_no_bound():
    x = torch.cat([rand(50, scale=10.0**s, seed=s + 3) for s in range(-2, 4)])
    for gamma, dtype in itertools.product((1e39, 1e300, 1.7e308, 5e-324), DTYPES):
        for y in (torch.ones(300), torch.zeros(300), torch.full((300,), 0.3)):
            for made in make_sigmoid(x.to(dtype), y, settings(gamma), True):
                assert made.isfinite().all()
        rows = x.to(dtype).view(-1, 3)
        for target in (ints(3, 100), rand(100, 3).softmax(1)):
            for made in make_softmax(rows, target, settings(gamma, ignored=-100), True):
                assert made.isfinite().all()


# --- Nothing but an element decides ---------------------------------------------------------------


STRANGE = [INF, -INF, NAN, 1e38, -1e38, 800.0, -800.0, 0.0, 1e-40]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 20.0])
def test_neighbours_and_places(dtype, gamma):
    """One logit with each kind of target, alone, and in arrays that have all kinds of others."""
    mixed = torch.cat([torch.tensor(STRANGE, dtype=torch.float64), rand(600, scale=5)]).to(dtype)
    targets = torch.tensor([0.0, 1.0, 0.25, -1.0]).repeat(153)[: len(mixed)]
    options = settings(gamma, dtype=dtype, ignored=-1)
    for start in (0, 1, 7):
        x, y = mixed[start:], targets[start:]
        together = make_sigmoid(x, y, options, True)
        for i in [*range(20), 511, 512, 513, len(x) - 1]:
            alone = make_sigmoid(x[i : i + 1], y[i : i + 1], options, True)
            same(alone, [v[i : i + 1] for v in together])
    same(
        make_sigmoid(mixed, targets, options, False)[:1],
        make_sigmoid(mixed, targets, options, True)[:1],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 10, 300, 9000])
@pytest.mark.parametrize("kind", ["index", "smoothed", "probabilities"])
def test_rows_and_places(dtype, classes, kind):
    rows = 90 if classes < 9000 else 3
    x = rand(rows, classes, scale=5, dtype=dtype)
    for k, value in enumerate(STRANGE[: rows // 2]):
        x[2 * k, k % classes] = value
    target = ints(classes, rows)
    target[5::7] = -100
    smoothing = 0.1 if kind == "smoothed" else 0.0
    if kind == "probabilities":
        target = rand(rows, classes, seed=1).softmax(1)
        target[5::7] = -100
    for gamma in (0.5, 2.0, 20.0):
        options = settings(gamma, dtype=dtype, ignored=-100, smoothing=smoothing)
        together = make_softmax(x, target, options, True)
        for i in range(0, rows, 1 + rows // 20):
            alone = make_softmax(x[i : i + 1], target[i : i + 1], options, True)
            same(alone, [v[i : i + 1] for v in together])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [2.0, 20.0])
def test_threads_change_no_bit(dtype, gamma):
    x, y = rand(300, 1001, scale=4, dtype=dtype), ints(2, 300, 1001)
    t, probabilities = ints(1001, 300), rand(300, 1001, seed=1).softmax(1).to(dtype)
    options = settings(gamma, "mean", ignored=-100)
    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            made.append(
                [
                    *make_sigmoid(x, y, options, True),
                    *make_softmax(x, t, options, True),
                    *make_softmax(x, probabilities, options, True),
                ]
            )
    finally:
        torch.set_num_threads(before)
    for others in made[1:]:
        same(others, made[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_are_of_all_losses(dtype):
    x = rand(70, 1001, scale=4, dtype=dtype)
    for make, target in (
        (make_sigmoid, ints(2, 70, 1001)),
        (make_softmax, ints(1001, 70)),
        (make_softmax, rand(70, 1001, seed=1).softmax(1).to(dtype)),
    ):
        losses = make(x, target, settings(dtype=dtype, ignored=-100), False)[0].flatten()
        total = make(x, target, settings(reduction="sum", ignored=-100), False)[0].item()
        rounded = 1e-15 if dtype == torch.float64 else 1e-7
        assert total == pytest.approx(math.fsum(losses.tolist()), rel=rounded)


# --- Limits, and what is left out -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 20.0])
def test_limits(dtype, gamma):
    x = torch.tensor([INF, -INF, NAN, INF, -INF], dtype=dtype)
    y = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    loss, gradient = make_sigmoid(x, y, settings(gamma, dtype=dtype), True)
    same([loss, gradient], torch.tensor([[0, INF, NAN, INF, 0], [0, -1, NAN, 1, 0]], dtype=dtype))
    none = settings(gamma, dtype=dtype, weight=torch.zeros(()))
    loss, gradient = make_sigmoid(x, y, none, True)
    same([loss, gradient], torch.tensor([[0, 0, NAN, 0, 0]] * 2, dtype=dtype))
    rows = torch.tensor(
        [[INF, 0, 0], [INF, INF, 0], [-INF] * 3, [0, NAN, 0], [0, 0, -INF]], dtype=dtype
    )
    for target in ([0, 0, 0, 0, 2], [1, 0, 0, 0, 0]):
        t = torch.tensor(target)
        hard = make_softmax(rows, t, settings(gamma, dtype=dtype, ignored=-100), True)
        y = torch.nn.functional.one_hot(t, 3).to(dtype)
        soft = make_softmax(rows, y, settings(gamma, dtype=dtype, ignored=-100), True)
        torch.testing.assert_close(hard, soft, equal_nan=True)
        assert hard[0][1:4].isnan().all() and hard[1][1:4].isnan().all()
        assert hard[0][0] == (INF if target[0] else 0)
        assert hard[1][0].tolist() == ([1, -1, 0] if target[0] else [0, 0, 0])
        assert math.isfinite(hard[0][4]) is (target[4] == 0)


def test_what_is_ignored_costs_nothing():
    x = torch.tensor([1.0, NAN, INF, -2.0])
    for y in (torch.tensor([1, 255, 255, 0], dtype=torch.uint8), torch.tensor([1, 255, 255, 0])):
        for reduction, share in (("mean", 0.5), ("sum", 1.0)):
            made = make_sigmoid(x, y, settings(reduction=reduction, ignored=255), True)
            kept = make_sigmoid(x[::3], y[::3], settings(reduction=reduction), True)
            same(made[:1], kept[:1])
            assert made[1].tolist() == [kept[1][0].item(), 0, 0, kept[1][1].item()], share
    mean, gradient = make_sigmoid(x[1:3], y[1:3], settings(reduction="mean", ignored=255), True)
    assert mean.isnan() and (gradient == 0).all()
    rows = torch.tensor([[0.0, 1], [NAN, INF], [2, 0]])
    for target in (torch.tensor([0, -1, 1]), torch.tensor([[1.0, 0], [-1, -1], [0, 1]])):
        made = make_softmax(rows, target, settings(reduction="mean", ignored=-1), True)
        kept = make_softmax(rows[::2], target[::2], settings(reduction="mean", ignored=-1), True)
        same(made[:1], kept[:1])
        same([made[1][::2], made[1][1]], [kept[1], torch.zeros(2)])


@pytest.mark.parametrize("bad", [-0.1, 1.5, NAN, INF])
def test_bad_targets_are_named(bad):
    y = torch.tensor([0.0, 1.0, bad] * 300)
    with pytest.raises(ValueError, match=r"^targets: takes numbers in \[0, 1\], got"):
        make_sigmoid(rand(900), y, settings(), True)
    with pytest.raises(ValueError, match=r"^target: takes numbers in \[0, 1\], got"):
        make_softmax(rand(300, 3), y.view(300, 3), settings(ignored=-100), True)
    with pytest.raises(ValueError, match=r"^target: takes class indices from 0 to 2, .* got 7"):
        make_softmax(rand(3, 3), torch.tensor([0, -100, 7]), settings(ignored=-100), True)
    with pytest.raises(ValueError, match=r"^target: takes class indices from 0 to 2, .* got -1"):
        options = settings(reduction="mean", ignored=-100, weight=torch.ones(3))
        make_softmax(rand(3, 3), torch.tensor([0, -100, -1]), options, True)


@pytest.mark.parametrize(
    "shape", [(), (1,), (4,), (5, 1), (3, 1, 1), (1, 5, 4), (3, 1, 4), (3, 5, 4)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_that_broadcast(shape, dtype):
    x, y = rand(3, 5, 4, dtype=dtype), rand(3, 5, 4, seed=1).sigmoid()
    w, v = rand(*shape, seed=2).exp(), rand(5, 1, seed=3).exp()
    options = settings(0.0, dtype=dtype, weight=w, pos_weight=v, positive=0.3, negative=0.6)
    loss, _ = make_sigmoid(x, y, options, True)
    u, u_other = -torch.nn.functional.logsigmoid(x), -torch.nn.functional.logsigmoid(-x)
    expected = w * (0.3 * v * y * u + 0.6 * (1 - y) * u_other)
    torch.testing.assert_close(loss, expected.to(dtype))


@pytest.mark.parametrize("shape", [(5, 1), (7, 1, 1), (1300,), (7, 5, 1300)])
def test_weights_of_many_elements(shape):
    x, y, w = rand(7, 5, 1300), ints(2, 7, 5, 1300), rand(*shape, seed=2).exp()
    weighted = make_sigmoid(x, y, settings(weight=w), True)
    for made, plain in zip(weighted, make_sigmoid(x, y, settings(), True), strict=True):
        torch.testing.assert_close(made, w * plain, rtol=1e-14, atol=0)


# --- Which library is used ------------------------------------------------------------------------


SOURCES = {
    "older": "int focal_interface(void) { return 1; } void focal_threads(void *p) {}"
    "int focal_sigmoid(void *p) { return 0; } int focal_softmax(void *p) { return 0; }",
    "none": "int focal(void) { return 0; }",
    "broken": None,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_another_library_is_not_called(kind, tmp_path):
    library = tmp_path / "stale.so"
    if SOURCES[kind] is None:
        library.write_bytes(b"no library")
    else:
        source = tmp_path / "stale.c"
        source.write_text(SOURCES[kind])
        compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
        subprocess.run([*compiler, "-shared", "-fPIC", source, "-o", library], check=True)
    code = f"""
import importlib.util, warnings
from types import SimpleNamespace
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: (
    SimpleNamespace(origin={str(library)!r}) if name.endswith("_cpu_kernels") else find(name)
)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    from focal_lib._ways import compiled
assert compiled.kernels is None and "install focal_lib again" in compiled.why_not
assert [w.category for w in seen if "focal_lib" in str(w.message)] == [RuntimeWarning]
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
