"""focal_lib.numpy against 60-digit arithmetic, its identities, its limits and its results' form."""

import itertools
import tracemalloc
from unittest import mock

import exact
import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import focal_lib.numpy
from focal_lib.numpy import (
    balanced_cross_entropy,
    cross_entropy,
    focal_loss,
    modulating_factor,
    sigmoid_focal_loss,
    sigmoid_focal_loss_gradient,
    sigmoid_focal_loss_hessian,
    softmax_focal_loss,
    softmax_focal_loss_gradient,
    softmax_focal_loss_hessian,
    target_probability,
    target_weight,
)

pytestmark = pytest.mark.filterwarnings("error")

EPS = np.finfo(np.float64).eps
GAMMAS = [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 5.0, 20.0]
LOGITS = [0.0, 1e-3, 3.3, 16.64, 40.2, 300.5, -1e-3, -0.7, -3.3, -16.64, -40.2, -690.1, -716.9]
SIGMOID = tuple(
    lambda x, y, alpha=0.25, gamma=2.0, reduction="none", f=f, **options: f(
        x, y, alpha=alpha, gamma=gamma, reduction=reduction, **options
    )
    for f in (sigmoid_focal_loss, sigmoid_focal_loss_gradient, sigmoid_focal_loss_hessian)
)
SOFTMAX = (softmax_focal_loss, softmax_focal_loss_gradient, softmax_focal_loss_hessian)
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers(monkeypatch):
    """What a test draws does not depend on which ran before it."""
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(0))


logits = st.floats(-50, 50)
gammas = st.sampled_from([0.0, 0.3, 0.5, 1.0, 2.0, 3.7, 8.0])


def relative(got, true, scale=None):
    """The error in units of the true value, or of the scale; below the normal numbers, of those."""
    scale = abs(true) if scale is None else scale
    return float(abs(mp.mpf(float(got)) - true) / max(scale, mp.mpf(2) ** -1022))


# --- In p_t ---------------------------------------------------------------------------------------


def test_the_definitions():
    p = np.array([0.0, 0.25, 0.5, 0.968, 1.0])
    np.testing.assert_array_equal(target_probability(p, 1), p)
    np.testing.assert_array_equal(target_probability(p, 0), 1 - p)
    np.testing.assert_array_equal(target_probability(p[:, None], [0, 1]).shape, (5, 2))
    np.testing.assert_array_equal(target_weight(0.25, [[1, 0]]), [[0.25, 0.75]])
    np.testing.assert_array_equal(cross_entropy(p)[[0, 4]], [np.inf, 0])
    np.testing.assert_array_equal(modulating_factor(p, 2), (1 - p) ** 2)
    np.testing.assert_array_equal(modulating_factor(p, 0), 1)
    with mp.workdps(60):
        for p_t, gamma in itertools.product(p[1:4], GAMMAS):
            true = exact.focal(mp.mpf(p_t), gamma)
            bound = 4 * EPS * (1 + gamma)
            assert relative(focal_loss(p_t, gamma), true) < bound
            assert relative(focal_loss(p_t, gamma, 0.25), true / 4) < bound
            assert relative(balanced_cross_entropy(p_t, 0.75), 0.75 * -mp.log(mp.mpf(p_t))) < bound


def test_the_paper_in_numbers():
    ratio = cross_entropy([0.5, 0.9, 0.968]) / focal_loss([0.5, 0.9, 0.968], 2)
    np.testing.assert_allclose(ratio, [4, 100, 976.5625], rtol=1e-13)


def test_definitions_at_the_ends():
    np.testing.assert_array_equal(focal_loss([0.0, 1.0], 2), [np.inf, 0])
    np.testing.assert_array_equal(focal_loss([0.0, 1.0], 0), [np.inf, 0])
    np.testing.assert_array_equal(focal_loss([0.0, 1.0], 2, 0.0), [0, 0])  # 0 times infinity
    assert not np.signbit(cross_entropy(1.0))


# --- Two classes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", GAMMAS)
def test_sigmoid_is_exact(gamma):
    hard = [(x, 1, None) for x in LOGITS] + [(-16.64, 0, None), (3.3, 0, None)]
    soft = [(x, y, alpha) for x in (-3.3, 0.7, 16.64) for y, alpha in ((0.3, None), (0.6, 0.9))]
    for x, y, alpha in hard + soft + [(-3.3, 0, 0.25), (40.2, 1, 0.25)]:
        arguments = (x, y, alpha, gamma)
        value, slope, curvature = (exact.sigmoid(*arguments, derivative=n) for n in range(3))
        # The derivatives for the two labels of a soft target can cancel: by the sum of their sizes.
        weights = y * (1 if alpha is None else alpha), (1 - y) * (1 if alpha is None else 1 - alpha)
        parts = [(w, z) for w, z in zip(weights, (x, -x), strict=True) if w]
        scale = sum(w * exact.curvature_scale(z, gamma) for w, z in parts)
        size = abs(slope)
        if len(parts) == 2:
            size = sum(w * abs(exact.sigmoid(z, 1, None, gamma, 1)) for w, z in parts)
        assert relative(sigmoid_focal_loss(*arguments), value) < 32 * EPS, arguments
        assert (
            relative(sigmoid_focal_loss_gradient(x, y, alpha=alpha, gamma=gamma), slope, size)
            < 32 * EPS
        ), arguments
        hessian = sigmoid_focal_loss_hessian(x, y, alpha=alpha, gamma=gamma)
        assert relative(hessian, curvature, scale) < 32 * EPS, arguments


def test_a_large_gamma_does_not_multiply_the_rounding_of_q():
    x = np.random.default_rng(2).uniform(2, 8, 3000)
    got = sigmoid_focal_loss(x, 1, None, 20.0)
    with mp.workdps(40):
        odds = [mp.exp(-mp.mpf(v)) for v in x]
        true = [(e / (1 + e)) ** 20 * mp.log1p(e) for e in odds]
        assert max(map(relative, got, true)) < 20 * EPS


@pytest.mark.parametrize(
    ("gamma", "largest_gradient", "peak", "largest_curvature"),
    [
        (0.5, 1.009, 0.0177, 0.325),
        (1, 1.045, 0.0432, 0.390),
        (2, 1.129, 0.0578, 0.496),
        (3, 1.202, 0.0575, 0.579),
        (5, 1.315, 0.0502, 0.701),
    ],
)
def test_largest_gradient_and_curvature(gamma, largest_gradient, peak, largest_curvature):
    x = np.linspace(-12, 12, 240001)
    gradient = abs(sigmoid_focal_loss_gradient(x, 1, alpha=None, gamma=gamma))
    hessian = sigmoid_focal_loss_hessian(x, 1, alpha=None, gamma=gamma)
    p = 1 / (1 + np.exp(-x))
    assert gradient.max() == pytest.approx(largest_gradient, abs=6e-4)
    assert p[gradient.argmax()] == pytest.approx(peak, abs=6e-5)
    assert hessian.max() == pytest.approx(largest_curvature, abs=6e-4)
    # Concave below the peak of the gradient, convex above.
    assert (hessian[p < peak - 1e-4] < 0).all() and (hessian[p > peak + 1e-4] > 0).all()


@given(arrays(float, array_shapes(min_dims=0, max_dims=3, min_side=0), elements=logits), gammas)
def test_sigmoid_properties(x, gamma):
    for y in (0, 1):
        loss = sigmoid_focal_loss(x, y, None, gamma)
        plain = sigmoid_focal_loss(x, y, None, 0)
        assert np.shape(loss) == x.shape
        assert np.all(loss >= 0) and np.all(loss <= plain)
        assert np.all(sigmoid_focal_loss(x, y, None, gamma + 0.5) <= loss)
        np.testing.assert_array_equal(loss, sigmoid_focal_loss(-x, 1 - y, None, gamma))
        np.testing.assert_allclose(plain, np.logaddexp(0, x if y == 0 else -x), rtol=1e-15)
        slope = sigmoid_focal_loss_gradient(x, y, alpha=None, gamma=gamma)
        assert np.all(slope <= 0 if y else slope >= 0)
        np.testing.assert_array_equal(
            slope, -sigmoid_focal_loss_gradient(-x, 1 - y, alpha=None, gamma=gamma)
        )


@given(
    arrays(float, 5, elements=logits),
    arrays(float, 5, elements=st.floats(0, 1)),
    st.sampled_from([None, 0.0, 0.25, 1.0]),
    gammas,
)
def test_a_soft_target_is_the_expectation(x, y, alpha, gamma):
    for function in SIGMOID:
        one, zero = function(x, 1, alpha, gamma), function(x, 0, alpha, gamma)
        np.testing.assert_allclose(
            function(x, y, alpha, gamma), y * one + (1 - y) * zero, rtol=1e-12, atol=1e-300
        )


def test_sigmoid_reductions_and_their_gradients():
    x, y = RNG.normal(0, 3, (4, 3)), RNG.integers(0, 2, (4, 3))
    loss = sigmoid_focal_loss(x, y)
    np.testing.assert_array_equal(loss, sigmoid_focal_loss(x, y, 0.25, 2.0, "none"))
    assert sigmoid_focal_loss(x, y, reduction="sum") == pytest.approx(loss.sum(), rel=1e-15)
    assert sigmoid_focal_loss(x, y, reduction="mean") == pytest.approx(loss.sum() / 12, rel=1e-15)
    for derivative in SIGMOID[1:]:
        own = derivative(x, y)
        np.testing.assert_array_equal(derivative(x, y, reduction="sum"), own)
        np.testing.assert_allclose(derivative(x, y, reduction="mean"), own / 12, rtol=1e-15)


def test_no_alpha_has_two_names():
    for function in SIGMOID:
        assert function(1.3, 1, -1) == function(1.3, 1, None) == 4 * function(1.3, 1, 0.25)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 1e3])
def test_sigmoid_at_infinity(gamma):
    x = np.array([np.inf, -np.inf])
    np.testing.assert_array_equal(sigmoid_focal_loss(x, 1, None, gamma), [0, np.inf])
    np.testing.assert_array_equal(sigmoid_focal_loss(x, 0, None, gamma), [np.inf, 0])
    np.testing.assert_array_equal(sigmoid_focal_loss(x, 1, 0.0, gamma), [0, 0])  # of weight 0
    np.testing.assert_array_equal(sigmoid_focal_loss(x, 0.5, 0.25, gamma), np.inf)
    np.testing.assert_array_equal(
        sigmoid_focal_loss_gradient(x, 1, alpha=0.25, gamma=gamma), [0, -0.25]
    )
    np.testing.assert_array_equal(
        sigmoid_focal_loss_gradient(x, 0, alpha=0.25, gamma=gamma), [0.75, 0]
    )
    np.testing.assert_array_equal(sigmoid_focal_loss_hessian(x, 1, alpha=None, gamma=gamma), [0, 0])
    assert np.isnan(sigmoid_focal_loss(np.nan, 1))


@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.5, 1.0, 3.0, 1e3, 1e9, 1e200])
def test_sigmoid_is_finite_for_finite_logits(gamma):
    x = np.array([0, 1e-300, 1, 16.64, 17.33, 36, 37, 708, 745, 746, 1e4, np.finfo(float).max])
    for function, y in itertools.product(SIGMOID, (0, 1, 0.5)):
        for inputs in (x, -x):
            assert np.isfinite(function(inputs, y, 0.25, gamma)).all()


# --- Large gamma, large and small weights ---------------------------------------------------------


def derivatives(z, gamma):
    """f, f' and f'' of a margin in mpmath, and the sizes of their terms."""
    p, q, u = 1 / (1 + mp.exp(-z)), 1 / (1 + mp.exp(z)), mp.log1p(mp.exp(-z))
    power, g = q**gamma, gamma
    first, second = -power * (q + g * p * u), p * power * ((1 + 2 * g) * q - g * (q - g * p) * u)
    size = p * power * ((1 + 2 * g) * q + g * (q + g * p) * u)
    return (power * u, first, second), (power * u, -first, size)


def check_sigmoid(x, y, gamma, bound=32 * EPS, **options):
    weight, pos_weight = options.get("weight", 1.0), options.get("pos_weight", 1.0)
    with mp.workdps(400 + int(np.log10(1 + gamma))):
        ahead, behind = (derivatives(sign * mp.mpf(x), mp.mpf(gamma)) for sign in (1, -1))
        one, zero = mp.mpf(weight) * mp.mpf(pos_weight) * mp.mpf(y), weight * (1 - mp.mpf(y))
        for order, function in enumerate(SIGMOID):
            true = one * ahead[0][order] + (-1) ** order * zero * behind[0][order]
            scale = one * ahead[1][order] + zero * behind[1][order]
            got = function(x, y, None, gamma, **options)
            assert relative(got, true, scale) <= bound, (x, y, gamma, options, order)


GREAT = [20.5, 50.0, 100.0, 1e3, 1e6, 1e300]


@pytest.mark.parametrize("gamma", GREAT)
def test_sigmoid_is_exact_for_a_large_gamma(gamma):
    border = -np.log(gamma)  # there q^gamma is 1/e
    near = [border + t for t in (-30.0, -3.1, -1.3, -0.2, 0.0, 0.7, 1.9, 3.3)]
    for x in (*near, 0.0, 1.1, -0.3, 3.0, 710.0 / gamma, -710.0, -1e4):
        for y in (0, 1, 0.3, 1e-9):
            check_sigmoid(x, y, gamma)
            check_sigmoid(-x, y, gamma)


@pytest.mark.parametrize("gamma", GREAT)
def test_softmax_is_exact_for_a_large_gamma(gamma):
    border = -np.log(gamma)
    for far in (border - 2.0, border, border + 2.5, 3.0, -1e3 / gamma):
        for x in ([far, 0.0, -0.5], [far + 0.3, -600.0, 0.3], [1e4 + far, 1e4, 1e4 - 3.25]):
            for target in (0, 1, [0.2, 0.5, 0.3], [1.0, 0.0, 1e-9]):
                y = np.eye(3)[target] if isinstance(target, int) else target
                check_softmax(x, y, target, gamma)


def check_softmax(x, factor, target, gamma, bound=32 * EPS, **options):
    with mp.workdps(400 + int(max(x) - min(x)) + int(np.log10(1 + gamma))):
        e = [mp.exp(mp.mpf(v)) for v in x]
        classes = range(len(x))
        rest = [mp.fsum(e[:c] + e[c + 1 :]) for c in range(len(x))]
        r = [[0 if j == c else e[j] / rest[c] for j in classes] for c in classes]
        forms = [derivatives(mp.log(e[c] / rest[c]), mp.mpf(gamma)) for c in classes]
        a = [mp.mpf(v) for v in factor]
        options = {**options, "gamma": gamma, "reduction": "sum"}
        value = mp.fsum(a[c] * forms[c][0][0] for c in classes)
        assert relative(softmax_focal_loss(x, target, **options), value) <= bound, (x, target)
        got = softmax_focal_loss_gradient(x, target, **options)
        for j in classes:
            parts = [a[c] * forms[c][0][1] * ((c == j) - r[c][j]) for c in classes]
            scale = mp.fsum(map(abs, parts))
            assert relative(got[j], mp.fsum(parts), scale) <= bound, (x, target, j)
        hessian, true, norm = softmax_focal_loss_hessian(x, target, **options), {}, 0
        for i, j in itertools.product(classes, repeat=2):
            v = [((c == i) - r[c][i], (c == j) - r[c][j]) for c in classes]
            bent = [(i == j) * r[c][i] - r[c][i] * r[c][j] for c in classes]
            parts = [
                (a[c] * forms[c][0][2] * v[c][0] * v[c][1], -a[c] * forms[c][0][1] * bent[c])
                for c in classes
            ]
            true[i, j] = mp.fsum(map(sum, parts))
            norm = max(norm, sum(a[c] * forms[c][1][2] for c in classes), *map(abs, true.values()))
        for (i, j), entry in true.items():
            assert relative(hessian[i, j], entry, norm) <= 64 * EPS, (x, target, i, j)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("weight", [1e300, 1e17])
def test_a_large_weight_finds_the_digits_of_a_small_loss(weight, gamma):
    for x in (599.0, 601.3, 720.0, 744.0, 750.0, 800.0, 1300.0):
        check_sigmoid(x, 1, gamma, weight=weight)
        check_sigmoid(x, 1, gamma, weight=weight / 1e9, pos_weight=1e9)
        check_sigmoid(-x, 1e-200, gamma, weight=weight)
        check_sigmoid(x / 100, 1e-250, gamma, weight=weight * 1e-200, pos_weight=1e200)
        check_sigmoid(x / 100, 1e-300, gamma, weight=weight, pos_weight=1e300)
        check_softmax([0.5, -x], [weight, 0], 0, gamma, weight=[weight, weight])
        check_softmax([0.5, -x, -x - 0.25], [0, weight, 0], 1, gamma, weight=[1.0, weight, 1.0])
        y = [0.5, 0.0, 1e-20]
        check_softmax([x, 0.5, 0], weight * np.array(y), y, gamma, weight=[weight] * 3)


def test_a_mean_that_is_a_number_is_found():
    largest = 1.7e308
    assert sigmoid_focal_loss([-largest] * 4, 1, None, 0.0, "mean") == largest
    assert sigmoid_focal_loss([-largest] * 4, 1, None, 0.0, "sum") == np.inf
    weighted = sigmoid_focal_loss([-700.0] + 999 * [0.0], 1, None, 0.0, "mean", weight=1e308)
    assert weighted == pytest.approx(1e308 / 1000 * (700 + 999 * np.log(2)), rel=1e-14)
    soft = softmax_focal_loss(
        [[0.0, 700.0]] + 999 * [[0.0, 0.0]], [[1.0, 0.0]] * 1000, [1e308, 1.0], gamma=0.0
    )
    assert soft == pytest.approx(1e308 / 1000 * (700 + 999 * np.log(2)), rel=1e-14)
    x, t = [[0.0, 1.0], [2.0, 0.5]], [0, 0]
    for function in SOFTMAX:
        for weight in ([5e-324, 1.0], [1e308, 1.0], [1e-300, 1e308]):
            np.testing.assert_allclose(function(x, t, weight), function(x, t), rtol=4 * EPS)
    assert softmax_focal_loss([[0.0, 1.0], [1e3, 0.0]], [0, 0], [5e-324, 1]) == pytest.approx(
        softmax_focal_loss([0.0, 1.0], 0) / 2, rel=1e-15
    )


# --- Weights and what is left out -----------------------------------------------------------------


def test_binary_weights_are_factors():
    x, y = RNG.normal(0, 3, (4, 3)), RNG.integers(0, 2, (4, 3)).astype(float)
    y[1] = 0.3
    shapes = ((), (3,), (1, 3), (4, 1), (4, 3), (1, 1))
    for of_w, of_pos, function in itertools.product(shapes, shapes, SIGMOID):
        w, pos = RNG.uniform(0, 3, of_w), RNG.uniform(0, 3, of_pos)
        one, zero = (function(x, label, None, 1.5) for label in (1, 0))
        expected = w * (pos * y * one + (1 - y) * zero)
        got = function(x, y, None, 1.5, weight=w, pos_weight=pos)
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-15)
        mean = function(x, y, None, 1.5, "mean", weight=w, pos_weight=pos)
        expected = np.mean(expected) if np.ndim(mean) == 0 else expected / 12
        np.testing.assert_allclose(mean, expected, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(
        sigmoid_focal_loss(x, y, 0.2, 2.0, weight=w),
        sigmoid_focal_loss(x, y, 0.2, 2.0) * w,
        rtol=1e-14,
    )


def test_without_focus_it_is_torchs_binary_loss():
    x, y = RNG.normal(0, 3, (5, 3)), RNG.random((5, 3))
    w, pos = RNG.uniform(0, 3, (5, 1)), RNG.uniform(0, 3, 3)
    for reduction in ("none", "mean", "sum"):
        inputs, targets, weight, pos_weight = map(torch.from_numpy, (x, y, w, pos))
        theirs = torch.nn.functional.binary_cross_entropy_with_logits(
            inputs, targets, weight, pos_weight=pos_weight, reduction=reduction
        )
        ours = sigmoid_focal_loss(x, y, None, 0.0, reduction, weight=w, pos_weight=pos)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-13)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.9])
def test_alpha_is_a_pos_weight(alpha):
    x, y = RNG.normal(0, 3, 9), np.linspace(0, 1, 9)
    for function in SIGMOID:
        by_pos_weight = function(x, y, None, pos_weight=alpha / (1 - alpha), weight=1 - alpha)
        np.testing.assert_allclose(by_pos_weight, function(x, y, alpha), rtol=1e-13, atol=1e-16)
    with pytest.raises(ValueError, match=r"^alpha: takes None beside pos_weight, .*, got 0.25$"):
        sigmoid_focal_loss(x, y, pos_weight=2.0)


@pytest.mark.parametrize("ignored", [-1, 255])
def test_ignored_elements_do_not_matter(ignored):
    x = np.array([0.5, np.nan, -2.0, np.inf, -1.0])
    y = np.array([1.0, ignored, 0.0, ignored, 0.3])
    w, kept = np.array([2.0, 1e300, 0.5, 0.0, 1.0]), y != ignored
    for function in SIGMOID:
        for options in ({}, {"weight": w, "pos_weight": w}):
            of_kept = {name: v[kept] for name, v in options.items()}
            got = function(x, y, None, ignore_index=ignored, **options)
            alone = function(x[kept], y[kept], None, **of_kept)
            np.testing.assert_array_equal(got[kept], alone)
            np.testing.assert_array_equal(got[~kept], 0)
            assert not np.signbit(got[~kept]).any()
            got, alone = (
                function(*arguments, None, reduction="mean", **more)
                for arguments, more in (
                    ((x, y), {"ignore_index": ignored, **options}),
                    ((x[kept], y[kept]), of_kept),
                )
            )
            np.testing.assert_allclose(got[kept] if np.ndim(got) else got, alone, rtol=1e-15)
    assert np.isnan(sigmoid_focal_loss(x, ignored, reduction="mean", ignore_index=ignored))
    assert sigmoid_focal_loss(x, ignored, reduction="sum", ignore_index=ignored) == 0
    for derivative in SIGMOID[1:]:
        np.testing.assert_array_equal(
            derivative(x, ignored, reduction="mean", ignore_index=ignored), 0
        )
    with pytest.raises(ValueError, match=r"^targets: takes .*, got 1.5$"):
        sigmoid_focal_loss(x, np.where(kept, y, 1.5), ignore_index=ignored)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignored_probabilities_do_not_matter(smoothing):
    x = np.array([[1.0, 2.0, 0.0], [np.nan, 0.0, 0.0], [np.inf, np.inf, 0.0], [0.0, 0.5, -1.0]])
    y = np.array([[0.2, 0.5, 0.3], [-1.0] * 3, [-1.0] * 3, [0.0, 0.0, 1.0]])
    options = {"label_smoothing": smoothing, "ignore_index": -1, "weight": [1.0, 2.0, 0.5]}
    for function in SOFTMAX:
        got = function(x, y, reduction="none", **options)
        np.testing.assert_array_equal(
            got[::3], function(x[::3], y[::3], reduction="none", **options)
        )
        np.testing.assert_array_equal(got[1:3], 0)
        got, alone = function(x, y, **options), function(x[::3], y[::3], **options)
        np.testing.assert_allclose(got[::3] if np.ndim(got) else got, alone, rtol=1e-15)
    assert np.isnan(softmax_focal_loss(x, np.full((4, 3), -1.0), ignore_index=-1))
    with pytest.raises(ValueError, match=r"^target: takes numbers in \[0, 1\], got -1.0$"):
        softmax_focal_loss(x, [[0.5, -1.0, 0.5]] * 4, ignore_index=-1)  # not all of an item's


# --- Many classes ---------------------------------------------------------------------------------


def rows_of_logits():
    rng = np.random.default_rng(1)
    for classes in (1, 2, 3, 10):
        yield rng.normal(0, 1, classes)
        yield np.linspace(0, 30, classes) + 3000.0
        yield np.where(np.arange(classes) == 0, 17.25, rng.normal(0, 1, classes).round(3))
        yield rng.normal(0, 60, classes).round(2)
    yield np.array([2.5, 2.5, 2.5])
    yield np.array([-600.0, 0.0, 1.0])
    yield np.array([650.5, 0.0, 1.0])
    yield np.array([0.3, 0.1, -699.83])  # a small margin, and a difference that is not exact


ROWS = list(rows_of_logits())


def cases_of(x):
    """Targets of a row, the factors w_c y_c they stand for, and the options."""
    classes = len(x)
    w, first = 0.5 + np.arange(classes) / 4, np.eye(classes)[0]
    soft = np.arange(1.0, classes + 1) / np.sum(np.arange(1, classes + 1))
    nearly_hard = (1 - 1e-9) * first + 1e-9 / classes
    smoothed = w * (0.9 * first + 0.1 / classes)
    yield from ((t, w * np.eye(classes)[t], {"weight": w}) for t in {0, classes - 1})
    yield from ((y, w * y, {"weight": w}) for y in (soft, nearly_hard))
    yield 0, smoothed, {"weight": w, "label_smoothing": 0.1}


def alone(factor):
    """Each class's part of the factors."""
    return [a for a in np.diag(factor) if a.any()]


@pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0, 2.0, 20.0])
@pytest.mark.parametrize("row", range(len(ROWS)))
def test_softmax_is_exact(row, gamma):
    x = ROWS[row]
    for target, factor, options in cases_of(x):
        options = {**options, "gamma": gamma, "reduction": "sum"}
        # Soft targets cancel: by the sum of the sizes of the classes' own gradients.
        parts = np.array([exact.softmax_gradient(x, a, gamma) for a in alone(factor)])
        with mp.workdps(500):
            true, scale = parts.sum(axis=0), abs(parts).sum(axis=0)
        bound = 64 * EPS
        if np.ndim(target) == 0 and "label_smoothing" not in options:
            z = x[target] - np.logaddexp.reduce(np.delete(x, target))
            bound = max(32 * EPS, (gamma + 1) * np.spacing(abs(z))) if len(x) > 1 else 0
        value = softmax_focal_loss(x, target, **options)
        assert relative(value, exact.softmax(x, factor, gamma)) <= bound, target
        got = softmax_focal_loss_gradient(x, target, **options)
        for j in range(len(x)):
            assert relative(got[j], true[j], scale[j]) <= bound, (target, j)


def exact_hessian(x, factor, gamma):
    """Second derivatives of the definition."""
    with mp.workdps(80 + int(max(x) - min(x))):

        def entry(i, j):
            def moved(*v):
                row = {**dict(enumerate(map(mp.mpf, x))), **dict(zip((i, j), v, strict=False))}
                return exact._softmax(list(row.values()), factor, gamma)

            at = mp.mpf(x[i]), mp.mpf(x[j])
            return mp.diff(moved, at[0], 2) if i == j else mp.diff(moved, at, (1, 1))

        upper = {(i, j): entry(i, j) for j in range(len(x)) for i in range(j + 1)}
        return [[upper[min(i, j), max(i, j)] for j in range(len(x))] for i in range(len(x))]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 20.0])
@pytest.mark.parametrize("row", [i for i, x in enumerate(ROWS) if len(x) <= 3 and np.ptp(x) < 99])
def test_softmax_hessian_is_exact(row, gamma):
    x = ROWS[row]
    for target, factor, options in cases_of(x):
        got = softmax_focal_loss_hessian(x, target, **options, gamma=gamma, reduction="sum")
        parts = [exact_hessian(x, a, gamma) for a in alone(factor)]
        norm = max(sum(abs(part[i][j]) for part in parts) for i, j in np.ndindex(got.shape))
        with mp.workdps(80):
            for i, j in np.ndindex(got.shape):
                true = mp.fsum(part[i][j] for part in parts)
                assert relative(got[i, j], true, norm) <= 64 * EPS, (target, i, j)


@given(arrays(float, array_shapes(min_dims=1, max_dims=1, max_side=6), elements=logits), gammas)
def test_two_classes_are_the_binary_loss_of_the_difference(x, gamma):
    two = np.stack([np.zeros_like(x), x], axis=1)
    for t in (0, 1):
        target = np.full(x.shape, t)
        loss = softmax_focal_loss(two, target, gamma=gamma, reduction="none")
        np.testing.assert_allclose(loss, sigmoid_focal_loss(x, t, None, gamma), rtol=1e-13)
        gradient = softmax_focal_loss_gradient(two, target, gamma=gamma, reduction="none")
        binary = sigmoid_focal_loss_gradient(x, t, alpha=None, gamma=gamma)
        np.testing.assert_allclose(gradient, np.stack([-binary, binary], axis=1), rtol=1e-13)


@given(arrays(float, (3, 5), elements=logits), st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_softmax_properties(x, t):
    loss = softmax_focal_loss(x, t, gamma=2.0, reduction="none")
    plain = softmax_focal_loss(x, t, gamma=0.0, reduction="none")
    assert (loss >= 0).all() and (loss <= plain).all()
    log_p = x - np.logaddexp.reduce(x, axis=1, keepdims=True)
    np.testing.assert_allclose(plain, -log_p[range(3), t], rtol=1e-9, atol=1e-13)
    order = [2, 0, 4, 1, 3]
    moved = softmax_focal_loss(x[:, order], [order.index(c) for c in t], reduction="none")
    np.testing.assert_allclose(moved, loss, rtol=1e-13)
    gradient = softmax_focal_loss_gradient(x, t)
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-15)


@given(arrays(float, (2, 4), elements=st.floats(-6, 6)), st.sampled_from([0.0, 0.5, 2.0, 3.7]))
def test_softmax_hessian_properties(x, gamma):
    for target in ([2, 0], RNG.dirichlet(np.ones(4), 2)):
        hessian = softmax_focal_loss_hessian(x, target, gamma=gamma, reduction="none")
        np.testing.assert_array_equal(hessian, hessian.swapaxes(1, 2))
        np.testing.assert_allclose(hessian.sum(axis=2), 0, atol=1e-15)
        step = 1e-5
        for j, move in enumerate(step * np.eye(4)):
            up, down = (
                softmax_focal_loss_gradient(v, target, gamma=gamma) for v in (x + move, x - move)
            )
            np.testing.assert_allclose(hessian[:, j] / 2, (up - down) / (2 * step), atol=1e-8)


@given(arrays(float, array_shapes(min_dims=1, max_dims=1, max_side=6), elements=logits), gammas)
def test_hessian_of_two_classes_is_the_binary_second_derivative(x, gamma):
    two = np.stack([np.zeros_like(x), x], axis=1)
    for t in (0, 1):
        got = softmax_focal_loss_hessian(two, np.full(x.shape, t), gamma=gamma, reduction="none")
        binary = sigmoid_focal_loss_hessian(x, t, alpha=None, gamma=gamma)[:, None, None]
        np.testing.assert_allclose(got, binary * [[1, -1], [-1, 1]], rtol=1e-12, atol=1e-18)


SHAPES = [(4,), (6, 4), (0, 4), (3, 4, 2), (2, 4, 3, 2), (2, 4, 0)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_item_by_item(shape, smoothing, weighted):
    """Every option against its definition, one item at a time."""
    x = RNG.normal(0, 3, shape)
    axis = min(len(shape) - 1, 1)
    rows = np.moveaxis(x, axis, -1)
    items = rows.shape[:-1]
    w = np.array([0.5, 0.0, 2.0, 1.25]) if weighted else np.ones(4)
    options = {"weight": w if weighted else None, "gamma": 1.5, "label_smoothing": smoothing}

    def loss(x, y):
        p = np.exp(x) / np.exp(x).sum()
        return focal_loss(p, 1.5, w * ((1 - smoothing) * y + smoothing / 4)).sum()

    index = RNG.integers(0, 4, items)
    index = np.where(RNG.random(items) < 0.3, 7, index)  # some are ignored
    soft = np.moveaxis(RNG.dirichlet(np.ones(4), items), -1, axis)
    kept = index != 7
    by_index, by_probability = np.zeros(items), np.zeros(items)
    for i in np.ndindex(items):
        if kept[i]:
            by_index[i] = loss(rows[i], np.eye(4)[index[i]])
        by_probability[i] = loss(rows[i], np.moveaxis(soft, axis, -1)[i])
    divisors = (w[np.where(kept, index, 0)] * kept).sum(), by_probability.size
    targets = ((index, {"ignore_index": 7}), (soft, {}))
    for (target, ignored), each, divisor in zip(
        targets, (by_index, by_probability), divisors, strict=True
    ):
        with np.errstate(invalid="ignore"):
            expected = {
                "none": each,
                "sum": each.sum(),
                "mean": each.sum() / np.float64(divisor or np.nan),
            }
        own = softmax_focal_loss_gradient(x, target, **options, **ignored, reduction="none")
        assert own.shape == shape
        hessian = softmax_focal_loss_hessian(x, target, **options, **ignored, reduction="none")
        assert hessian.shape == (*items, 4, 4)
        for i in np.ndindex(items):
            one = np.moveaxis(target, axis, -1)[i] if target is soft else target[i]
            of_item = softmax_focal_loss_hessian(
                rows[i], one, **options, **ignored, reduction="sum"
            )
            np.testing.assert_allclose(hessian[i], of_item, rtol=1e-14, atol=1e-15)
        for reduction, value in expected.items():
            got = softmax_focal_loss(x, target, **options, **ignored, reduction=reduction)
            assert np.shape(got) == np.shape(value)
            np.testing.assert_allclose(got, value, rtol=1e-12)
            gradient = softmax_focal_loss_gradient(
                x, target, **options, **ignored, reduction=reduction
            )
            second = softmax_focal_loss_hessian(
                x, target, **options, **ignored, reduction=reduction
            )
            share = divisor if reduction == "mean" and own.size and divisor else 1
            if not (reduction == "mean" and divisor == 0):
                np.testing.assert_allclose(gradient, own / share, rtol=1e-14, atol=1e-15)
                np.testing.assert_allclose(second, hessian / share, rtol=1e-14, atol=1e-15)
        if ignored:
            assert (np.moveaxis(own, axis, -1)[~kept] == 0).all()
            assert (hessian[~kept] == 0).all()


def test_mean_of_indices_and_of_one_hot_probabilities_differ():
    x, t, w = RNG.normal(0, 2, (5, 3)), np.array([0, 1, 2, 2, 1]), np.array([1.0, 2.0, 4.0])
    total = softmax_focal_loss(x, t, w, reduction="sum")
    assert softmax_focal_loss(x, t, w) == pytest.approx(total / w[t].sum(), rel=1e-15)
    assert softmax_focal_loss(x, np.eye(3)[t], w) == pytest.approx(total / 5, rel=1e-15)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_limits(gamma):
    def both(x, target, **options):
        options = {"gamma": gamma, "reduction": "sum", **options}
        return (
            softmax_focal_loss(x, target, **options),
            softmax_focal_loss_gradient(x, target, **options),
        )

    inf = np.inf
    # A masked class is as if it were not there, unless it is the target.
    loss, gradient = both([1.0, -inf, 0.5], 0)
    two, gradient_of_two = both([1.0, 0.5], 0)
    assert loss == two
    np.testing.assert_array_equal(gradient, [gradient_of_two[0], 0, gradient_of_two[1]])
    loss, gradient = both([0.0, -inf, 0.0], 1)
    assert loss == inf
    np.testing.assert_array_equal(gradient, [0.5, -1, 0.5])
    # Soft targets and weights: 0 times infinity is 0.
    assert both([0.0, -inf, 0.0], [0.5, 0.0, 0.5])[0] == both([0.0, 0.0], [0.5, 0.5])[0]
    assert np.isfinite(both([0.0, -inf], 0, weight=[1.0, 0.0], label_smoothing=0.1)[0])
    assert both([0.0, -inf], 0, label_smoothing=0.1)[0] == inf
    # One logit at +inf has probability 1.
    loss, gradient = both([0.0, inf, 1.0], 1)
    assert loss == 0 and not gradient.any()
    loss, gradient = both([0.0, inf, 1.0], 0)
    assert loss == inf
    np.testing.assert_array_equal(gradient, [-1, 1, 0])
    # No limit.
    for x in ([inf, inf, 0.0], [-inf, -inf], [np.nan, 0.0], [0.0, np.nan]):
        loss, gradient = both(x, 0)
        assert np.isnan(loss) and np.isnan(gradient).all()
    # One class is certain.
    for x in ([3.0], [inf], [-inf]):
        loss, gradient = both(x, 0)
        assert loss == 0 and gradient == 0
    assert np.isnan(np.hstack(both([np.nan], 0))).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_hessian_limits(gamma):
    def hessian(x, target):
        return softmax_focal_loss_hessian(x, target, gamma=gamma, reduction="sum")

    inf = np.inf
    masked = hessian([1.0, -inf, 0.5], 0)
    np.testing.assert_array_equal(masked[::2, ::2], hessian([1.0, 0.5], 0))
    assert not masked[1].any() and not masked[:, 1].any()
    # What is left of a target at -inf is the log of the sum of the others.
    np.testing.assert_array_equal(
        hessian([0.0, -inf, 0.0], 1), [[0.25, 0, -0.25], [0, 0, 0], [-0.25, 0, 0.25]]
    )
    for target in (0, 1, [0.5, 0.5, 0.0]):
        assert not hessian([0.0, inf, 1.0], target).any()
    for x in ([inf, inf, 0.0], [-inf, -inf], [np.nan, 0.0], [0.0, np.nan], [np.nan]):
        assert np.isnan(hessian(x, 0)).all()
    for x in ([3.0], [inf], [-inf]):
        assert hessian(x, 0) == 0


@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.5, 1.0, 3.0, 1e3, 1e9, 1e200])
def test_softmax_is_finite_for_finite_logits(gamma):
    margins = [0, 1e-300, 1, 16.64, 17.33, 36, 37, 708, 745, 746, 1e4, 1e300]
    x = np.array([[sign * m, 0.0, -0.5] for m in margins for sign in (-1, 1)])
    for function, target in itertools.product(SOFTMAX, (0, 1, None)):
        target = [[0.7, 0.1, 0.2]] * len(x) if target is None else np.full(len(x), target)
        assert np.isfinite(function(x, target, gamma=gamma)).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 20.0])
def test_class_indices_are_one_hot_probabilities(gamma):
    for x in (*ROWS, np.array([-np.inf, 0.5, 1.0])):
        for t, function in itertools.product({0, len(x) - 1}, SOFTMAX):
            options = {"gamma": gamma, "reduction": "sum"}
            by_index, by_probability = (
                function(x, target, **options) for target in (t, np.eye(len(x))[t])
            )
            np.testing.assert_allclose(by_index, by_probability, rtol=1e-14, atol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignored_items_do_not_matter(smoothing):
    x = np.array([[1.0, 2.0], [np.nan, 0.0], [np.inf, np.inf], [0.0, -np.inf]])
    t = np.array([0, -100, -100, -100])
    for function in SOFTMAX:
        got = function(x, t, reduction="none", label_smoothing=smoothing)
        alone = function(x[:1], t[:1], reduction="none", label_smoothing=smoothing)
        np.testing.assert_array_equal(got[:1], alone)
        np.testing.assert_array_equal(got[1:], 0)
    mean = softmax_focal_loss(x, t, label_smoothing=smoothing)
    assert mean == softmax_focal_loss(x[:1], t[:1], label_smoothing=smoothing)


def test_nothing_to_average():
    empty, none = np.empty((0, 3)), np.empty(0, int)
    ignored = np.full(2, -100)
    x = RNG.normal(size=(2, 3))
    for inputs, target in ((empty, none), (empty, empty), (x, ignored)):
        assert np.isnan(softmax_focal_loss(inputs, target))
        assert softmax_focal_loss(inputs, target, reduction="sum") == 0
        gradient = softmax_focal_loss_gradient(inputs, target)
        np.testing.assert_array_equal(gradient, np.zeros(inputs.shape))
    assert np.isnan(softmax_focal_loss(x, [0, 0], [0.0, 1.0, 1.0]))  # zero total weight
    assert softmax_focal_loss(x, [0, 0], [0.0, 1.0, 1.0], reduction="sum") == 0
    assert np.isnan(sigmoid_focal_loss([], [], reduction="mean"))
    assert sigmoid_focal_loss([], [], reduction="sum") == 0
    assert sigmoid_focal_loss_gradient([], [], alpha=None, reduction="mean").shape == (0,)


# --- Chunks ---------------------------------------------------------------------------------------


def test_chunks_change_nothing(monkeypatch):
    x, y = RNG.normal(0, 5, 40), RNG.integers(0, 2, 40).astype(float)
    y[[7, 21]] = 0.3, 1e-17  # hard targets beside soft ones
    rows, t, soft = RNG.normal(0, 5, (40, 3)), RNG.integers(0, 3, 40), RNG.dirichlet(np.ones(3), 40)
    t[5] = -100

    def results(n):
        part = slice(0, n)
        for function, reduction in itertools.product(SIGMOID, ("none", "sum", "mean")):
            yield function(x[part], y[part], 0.25, 1.5, reduction)
        for function, target in itertools.product(SOFTMAX, (t, soft)):
            for reduction in ("none", "sum", "mean"):
                yield function(rows[part], target[part], gamma=1.5, reduction=reduction)

    for n in (0, 1, 5, 7, 8, 9, 40):
        expected = list(results(n))
        for chunk in (1, 32, 48, 160):  # of the binary loss 1, 8, 12 and 40 logits
            monkeypatch.setattr(focal_lib.numpy, "_CHUNK", chunk)
            for got, one in zip(results(n), expected, strict=True):
                np.testing.assert_allclose(got, one, rtol=1e-14)
            monkeypatch.undo()


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_at_the_border_of_a_chunk(more):
    n = focal_lib.numpy._CHUNK // 4 + more
    x, y = RNG.normal(0, 5, n).astype(np.float32), RNG.integers(0, 2, n)
    rows, t = RNG.normal(0, 5, (4 * n // 10 + more, 10)), RNG.integers(0, 10, 4 * n // 10 + more)
    for function in SIGMOID:
        pieces = [function(x[i : i + 999], y[i : i + 999]) for i in range(0, n, 999)]
        np.testing.assert_array_equal(function(x, y), np.concatenate(pieces))
    for function in SOFTMAX[:2]:
        pieces = [
            function(rows[i : i + 99], t[i : i + 99], reduction="none")
            for i in range(0, len(t), 99)
        ]
        np.testing.assert_array_equal(function(rows, t, reduction="none"), np.concatenate(pieces))
    wide = RNG.normal(0, 5, (2, 4 * n))
    got = softmax_focal_loss_gradient(wide, [0, n], reduction="sum")
    one_by_one = [softmax_focal_loss_gradient(v, c) for v, c in zip(wide, (0, n), strict=True)]
    np.testing.assert_array_equal(got, one_by_one)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_memory_beyond_the_inputs(reduction):
    def peak(function, x, target):
        function(x, target, reduction=reduction)
        tracemalloc.start()
        function(x, target, reduction=reduction)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / x.size

    x = RNG.normal(size=(2000, 1000)).astype(np.float32)
    y, t, soft = x > 1, np.arange(2000) % 1000, abs(np.sin(x))
    for order in (0, 1):
        result = 4 if order or reduction == "none" else 0
        assert peak(SIGMOID[order], x[:100], y[:100]) < result + 10  # a dozen arrays of a chunk
        assert peak(SIGMOID[order], x, y) < result + 0.5
        assert peak(SIGMOID[order], x, soft) < result + 0.5
        assert peak(SOFTMAX[order], x, t) < result + 1
        assert peak(SOFTMAX[order], x, soft) < result + 2.5


LOGIT = st.one_of(
    st.sampled_from([0.0, np.inf, -np.inf, np.nan, 1e300, -1e300, 601.0, -601.0, 745.5, -720.0]),
    st.floats(-40, 40),
)
FOCUS = st.sampled_from([0.0, 0.5, 2.0, 2.3, 4.7, 7.3, 1e3, 1e6])
SIZE = st.sampled_from([1e-300, 0.0, 1.0, 0.7, 1e300])


@given(
    st.lists(
        st.tuples(LOGIT, st.sampled_from([0, 1, 0.3, 1e-17, 255]), SIZE, SIZE),
        min_size=2,
        max_size=9,
    ),
    FOCUS,
    st.sampled_from([4, 8, 28672]),
    st.booleans(),
    st.sampled_from([np.float64, np.float32]),
)
def test_an_element_does_not_see_its_neighbours(elements, gamma, chunk, weighted, dtype):
    x, y, w, pos = map(np.array, zip(*elements, strict=True))
    with np.errstate(over="ignore"):
        x = x.astype(dtype)
    for function in SIGMOID:

        def result(part, function=function):
            factors = {"weight": w[part], "pos_weight": pos[part]} if weighted else {}
            return function(x[part], y[part], None, gamma, ignore_index=255, **factors)

        with mock.patch.object(focal_lib.numpy, "_CHUNK", chunk):
            together = result(slice(None))
        alone = [result(slice(i, i + 1))[0] for i in range(len(x))]
        np.testing.assert_array_equal(together, np.array(alone))


@given(
    st.lists(st.tuples(*[LOGIT] * 3, st.integers(0, 3), SIZE), min_size=2, max_size=7),
    FOCUS,
    st.sampled_from([4, 12, 28672]),
    st.sampled_from([None, (1.0, 2.0, 0.3), (1e300, 1e-300, 1.0)]),
    st.sampled_from(["index", "smoothed", "soft"]),
    st.sampled_from("CF"),
)
def test_an_item_does_not_see_its_neighbours(items, gamma, chunk, weight, kind, order):
    *x, t, share = map(np.array, zip(*items, strict=True))
    x = np.array(np.stack(x, axis=1), order=order)
    options = {"gamma": gamma, "weight": weight, "ignore_index": 3, "reduction": "none"}
    if kind == "smoothed":
        options["label_smoothing"] = 0.1
    if kind == "soft":
        share = np.minimum(share, 1)[:, None]
        t = np.where((t == 3)[:, None], 3.0, share * np.eye(4)[t, :3] + (1 - share) * [0, 0.4, 0.6])
    for function in SOFTMAX:
        with mock.patch.object(focal_lib.numpy, "_CHUNK", chunk):
            together = function(x, t, **options)
        alone = [function(x[i], t[i], **options) for i in range(len(x))]
        np.testing.assert_array_equal(together, np.array(alone))


@pytest.mark.parametrize("order", "CF")
def test_a_row_of_many_classes_does_not_see_its_neighbours(order):
    x, t = np.array(RNG.normal(0, 3, (60, 333)), order=order), RNG.integers(0, 333, 60)
    for function, gamma in itertools.product(SOFTMAX[:2], (1.5, 2.3, 50.0)):
        together = function(x, t, gamma=gamma, reduction="none")
        alone = [
            function(row, c, gamma=gamma, reduction="none") for row, c in zip(x, t, strict=True)
        ]
        np.testing.assert_array_equal(together, np.array(alone))


# --- The form of results --------------------------------------------------------------------------


def test_no_negative_zeros():
    x = np.array([800.0, np.inf, -800.0, -np.inf])
    for y in (0, 1, 0.5, np.array([1, 1, 0, 0])):
        for function in SIGMOID:
            got = function(x, y)
            assert not np.signbit(got[got == 0]).any()
    for function, target in itertools.product(SOFTMAX, (0, 1, [0.5, 0.5, 0.0])):
        got = function([800.0, -0.5, -np.inf], target, reduction="sum")
        assert not np.signbit(got[got == 0]).any()


def calls(dtype):
    """Every function of logits or of p_t, called with its first argument in this dtype."""
    x, row = np.array([1, 0, 1], dtype), np.array([[2, 0, 1]], dtype)
    yield target_probability(x, 1)
    yield cross_entropy(x)
    yield balanced_cross_entropy(x, [0.5, 0.5, 2.0])
    yield modulating_factor(x, 1.5)
    yield focal_loss(x, 1.5)
    for function in SIGMOID:
        yield function(x, [0.5, 1.0, 0.0])
        yield function(x[0], 1)
        yield function(x, 1, reduction="mean")
    for function in SOFTMAX:
        yield function(row, [0], np.ones(3))
        yield function(row, row / row.sum() if dtype(0.5) else np.full((1, 3), 1 / 3))


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int64, np.float64),
    ],
)
def test_dtypes(given, returned):
    for result in calls(given):
        assert result.dtype == returned


def test_float32_is_rounded_once():
    x = RNG.normal(0, 20, (50, 4)).astype(np.float32)
    t = RNG.integers(0, 4, 50)
    y = RNG.integers(0, 2, (50, 4))
    for function in SIGMOID:
        np.testing.assert_array_equal(function(x, y), function(x.astype(float), y).astype("f4"))
    for function in SOFTMAX:
        np.testing.assert_array_equal(function(x, t), function(x.astype(float), t).astype("f4"))


def test_scalars_and_lists():
    assert isinstance(sigmoid_focal_loss(0.3, 1), np.float64)
    assert isinstance(sigmoid_focal_loss([0.3], [1], reduction="sum"), np.float64)
    assert isinstance(softmax_focal_loss([0.3, 0.1], 1, reduction="none"), np.float64)
    assert isinstance(cross_entropy(0.3), np.float64)
    assert sigmoid_focal_loss([[0.3]], [[True]]).shape == (1, 1)


def test_strided_and_integer_arrays():
    x = np.moveaxis(RNG.normal(size=(3, 6, 4)), 0, 2)[::2]
    t = RNG.integers(0, 4, (3, 3))
    y = RNG.integers(0, 2, x.shape)
    for function in SIGMOID:
        expected = function(x.copy(), y.astype(float))
        for target in (y, y.astype(bool), y.astype(np.uint8), np.asfortranarray(y)):
            np.testing.assert_array_equal(function(x, target), expected)
    for function in SOFTMAX:
        expected = function(x.copy(), t)
        for target in (t.astype(np.uint8), t.astype(np.int32), np.asfortranarray(t)):
            np.testing.assert_allclose(function(x, target), expected, rtol=1e-14)


def test_arguments_are_not_changed():
    x, y, t = RNG.normal(size=(3, 4)), RNG.random((3, 4)), np.array([0, -100, 2])
    w = np.arange(4.0)
    before = [a.copy() for a in (x, y, t, w)]
    for function in SIGMOID:
        function(x, y, reduction="mean")
    for function in SOFTMAX:
        function(x, t, w)
        function(x, y, w, label_smoothing=0.1)
    for a, b in zip((x, y, t, w), before, strict=True):
        np.testing.assert_array_equal(a, b)
