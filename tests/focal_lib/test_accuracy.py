"""Every path is within its bounds on the grid of accuracy.py; the grid and the meter are right."""

from functools import cache
from itertools import product

import accuracy
import exact
import mpmath as mp
import numpy as np
import pytest
import torch
from accuracy import DTYPES, GAMMAS, HALF, HARD, LOSSES, PATHS, Path, batches, measured
from cases import exhaustive

figures = cache(lambda path, loss, dtype: measured(PATHS[path], loss, dtype))

# Paths that differ in who runs the same code: of these the type of most users is the sample.
SLOW = ("torch, compiled", "torch, Triton interpreter")
CASES = [
    pytest.param(
        name, loss, dtype, measure, marks=[exhaustive] * (name in SLOW and dtype != "float32")
    )
    for (name, path), loss, dtype in product(PATHS.items(), LOSSES, DTYPES)
    for measure in path.measures
    if loss in path.losses and dtype in path.dtypes and (measure != "second" or loss in HARD)
]


@pytest.fixture(autouse=True, scope="module")
def fresh_compiler() -> None:
    """What other tests compiled must not decide how the losses are compiled here."""
    torch._dynamo.reset()


@pytest.mark.parametrize(("path", "loss", "dtype", "measure"), CASES)
def test_all_within_the_bounds(path, loss, dtype, measure, request):
    request.node.user_properties.append(("way of losses", PATHS[path].way))
    of = [b for b in batches(loss, dtype) if b.options["gamma"] in PATHS[path].gammas]
    entries = sum(b.true[measure][0].high.size for b in of if measure in b.true)
    got = figures(path, loss, dtype)[measure]
    assert got.cases > max(entries / 4, 150)  # the others' true results are too small
    assert got.within == got.cases, f"{got.cases - got.within} of {got.cases}: {got.worst[1]}"
    if dtype in HALF and measure != "second":
        assert got.largest < 0.51, f"rounded more than once: {got.worst[1]}"


# --- The grid -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_grid_holds_what_it_should(dtype):
    for loss in LOSSES:
        assert {b.options["gamma"] for b in batches(loss, dtype)} == set(GAMMAS)
        assert all((accuracy.rounded(b.x, dtype) == b.x).all() for b in batches(loss, dtype))
    for b in batches("sigmoid", dtype):
        size = np.abs(b.x)
        assert size.min() == pytest.approx(1e-3, rel=0.01) and size.max() > 9900
        assert len(np.unique(size)) > 200 and (size % 1 != 0).mean() > 0.6
        assert {*zip(np.sign(b.x), b.target, strict=True)} == {*product((1, -1), (0, 1))}
    assert {b.options["alpha"] for b in batches("sigmoid", dtype)} == {None, 0.25}
    softmax = batches("softmax", dtype)
    assert {b.x.shape[1] for b in softmax} == {2, 3, 10, 1000}
    weighted = {(b.options["gamma"], b.options["weight"] is None) for b in softmax}
    assert weighted == {*product(GAMMAS, (True, False))}
    for b in softmax:
        others = np.where(np.arange(b.x.shape[1]) == b.target[:, None], -np.inf, b.x)
        ahead = np.take_along_axis(b.x, b.target[:, None], 1)[:, 0] - others.max(axis=1)
        assert ahead.max() > 90 and ahead.min() < -600 and (ahead == 0).any()
        assert (b.x.min(axis=1) > 2900).any() or (b.x.max(axis=1) < -4900).any()
        if dtype not in HALF:
            largest = b.x.max(axis=1, keepdims=True)
            assert (accuracy.rounded(b.x - largest, dtype) + largest != b.x).any()


def numbers(a, item):
    """An item of an Exact as mpmath's numbers."""
    parts = zip(*(part[item].ravel().tolist() for part in a), strict=True)
    return np.array(
        [mp.ldexp(mp.mpf(high) + mp.mpf(low), exponent) for high, low, exponent in parts]
    )


def by_definition(b, item):
    """The value, gradient, second derivative and its scale, from the definition alone."""
    x, target, gamma = b.x[item].tolist(), b.target[item].tolist(), b.options["gamma"]
    if b.loss == "sigmoid_focal_loss":
        alpha = b.options["alpha"]
        weight = 1 if alpha is None else (alpha if target == 1 else 1 - alpha)
        scale = weight * exact.curvature_scale(x if target == 1 else -x, gamma)
        return [*(exact.sigmoid(x, target, alpha, gamma, n) for n in (0, 1, 2)), scale]
    w, e = b.options["weight"], mp.mpf(b.options.get("label_smoothing", 0.0))
    w = [1.0] * len(x) if w is None else w.tolist()
    y = [float(c == target) for c in range(len(x))] if isinstance(target, int) else target
    factor = [mp.mpf(a) * (mp.mpf(v) * (1 - e) + e / len(x)) for a, v in zip(w, y, strict=True)]

    def second(i, j):
        def moved(*by):
            row = list(map(mp.mpf, x))
            for k, step in zip((i, j), by, strict=False):
                row[k] += step
            return exact.softmax(row, factor, gamma)

        at, order = (0, 2) if i == j else ((0, 0), (1, 1))
        return mp.diff(moved, at, order, h=mp.mpf(10) ** -12)

    hessian = [second(i, j) for i in range(len(x)) for j in range(len(x))]
    gradient = exact.softmax_gradient(x, factor, gamma)
    return [exact.softmax(x, factor, gamma), gradient, hessian, max(map(abs, hessian))]


@pytest.mark.parametrize("loss", LOSSES)
def test_references_are_derivatives_of_the_definition(loss):
    rng, checked = np.random.default_rng(0), 0
    for b in batches(loss, "float64"):
        if b.options["gamma"] > 20:
            continue  # the steps of a numerical derivative are too long
        few = b.x.ndim == 1 or b.x.shape[1] <= 3  # numerical derivatives are slow
        spread = np.abs(b.x) if b.x.ndim == 1 else np.ptp(b.x, axis=1)
        for item in rng.choice(np.flatnonzero(spread < (800 if b.x.ndim == 1 else 100)), 3 * few):
            with mp.workdps(120):
                *expected, scale = by_definition(b, item)
                for (measure, (true, size, _)), of in zip(b.true.items(), expected, strict=False):
                    error = np.abs(numbers(true, item) - np.array(of)) / numbers(size, item)
                    by_steps = measure == "second" and b.x.ndim == 2
                    assert (error < (1e-20 if by_steps else 1e-30)).all(), (b.options, b.x[item])
                    checked += 1
                if "second" in b.true:
                    assert abs(numbers(b.true["second"][1], item)[0] / scale - 1) < 1e-20
    assert checked > 80


# --- The meter ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_meter_reads_what_was_put_in(loss, dtype):
    def truth(batch, dtype, factor=1.0):
        true = {m: np.ldexp(a.high, a.exponent) for m, (a, _, _) in batch.true.items()}
        return {m: accuracy.rounded(v, dtype) * factor for m, v in true.items()}

    for got in measured(Path(truth), loss, dtype).values():
        assert got.within == got.cases and got.largest < 0.75  # twice rounded where subnormal
    off = Path(lambda b, d: truth(b, d, 1 + 70 * accuracy.eps(d)))
    got = measured(off, loss, dtype)["value"]
    assert 69 <= got.largest <= 71.5 and (dtype == "float64" or got.within == 0 < got.cases)
    got = measured(Path(lambda b, d: {m: v * np.nan for m, v in truth(b, d).items()}), loss, dtype)
    assert all(f.within == 0 and np.isinf(f.largest) for f in got.values() if f.cases)


@pytest.mark.skipif(accuracy.CUDA, reason="the CPU shows it")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", HARD)
def test_formulas_in_common_use_miss(loss, dtype):
    figures = measured(accuracy.peers()["common formula"], loss, dtype)
    assert all(0 < f.within < f.cases for f in figures.values())
    assert "got nan" in figures["gradient"].worst[1]
