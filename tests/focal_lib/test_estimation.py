"""From a focal-trained score to a probability and back, against the definition in 60 digits."""

from functools import wraps

import exact
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from focal_lib.estimation import (
    sigmoid_posterior,
    sigmoid_score,
    softmax_posterior,
    softmax_score,
)
from focal_lib.numpy import sigmoid_focal_loss_gradient, softmax_focal_loss_gradient


def without_alpha(function):
    """Has alpha=None by default."""

    @wraps(function)
    def convert(value, alpha=None, **options):
        return function(value, alpha=alpha, **options)

    return convert


SIGMOID = [without_alpha(f) for f in (sigmoid_posterior, sigmoid_score)]
GAMMAS = [0, 1e-6, 0.25, 0.5, 1, 2, 3.5, 20, 1000]
EPS = np.finfo(np.float64).eps


# --- The definition -------------------------------------------------------------------------------


def pull(p, gamma):
    """-f'(p), a numerical derivative of the definition; its argument is log p, which has a scale.

    The score minimises sum_c w_c eta_c f(p_c) where all w_c eta_c pull(p_c) are equal.
    """
    return -mp.diff(lambda log_p: exact.focal(mp.exp(log_p), gamma), mp.log(p)) / p


def exact_posterior(x, weight, gamma):
    """log eta of logits."""
    with mp.workdps(100 + 3 * int(max(x) - min(x))):
        e = [mp.exp(mp.mpf(v)) for v in x]
        eta = [
            1 / (mp.mpf(w) * pull(v / mp.fsum(e), gamma)) for v, w in zip(e, weight, strict=True)
        ]
        return [mp.log(v / mp.fsum(eta)) for v in eta]


def exact_score(x, weight, gamma, start):
    """log p of log eta (up to a constant), by Newton's method from a guess of it."""
    with mp.workdps(60 + int(max(x) - min(x)) + int(-min(start))):
        gamma = mp.mpf(gamma)
        b = [mp.mpf(v) + mp.log(mp.mpf(w)) for v, w in zip(x, weight, strict=True)]
        top = max(range(len(b)), key=b.__getitem__)
        others = [c for c in range(len(b)) if c != top]

        def log_pull(p):
            q = 1 - p
            return mp.log(q**gamma / p - gamma * q ** (gamma - 1) * mp.log(p))

        def equations(*log_p):
            p = [mp.exp(v) for v in log_p]
            level = b[top] + log_pull(1 - mp.fsum(p))
            return [b[c] + log_pull(v) - level for c, v in zip(others, p, strict=True)]

        guess = [mp.mpf(float(start[c])) for c in others]
        root = list(mp.findroot(equations, guess, tol=mp.mpf(10) ** -80))
        root.insert(top, mp.log(1 - mp.fsum(mp.exp(v) for v in root)))
        return root


def error(value, expected):
    """The largest error, relative to what is expected or to 1."""
    pairs = zip(np.ravel(value).tolist(), expected, strict=True)
    return max(float(abs(mp.mpf(v) - e) / max(1, abs(e))) for v, e in pairs)


def relative_error(value, expected):
    return float(abs((mp.mpf(float(value)) - expected) / expected))


BINARY = [1e-9, -3e-4, 0.1, 0.7, -1.0, 3.0, -9.0, 30.0, -200.0]
MANY = [
    ([0.3, -0.4], [1, 1]),
    ([1e-9, 0.0, 0.0], [1, 1, 1]),
    ([0.5, 0.5, -2.0], [1, 2.5, 0.1]),
    ([4.0, 1.0, 0.0, -3.0], [1, 1, 1, 1]),
    ([30.0, 0.0, -1.0, 29.0], [3, 1, 1, 0.5]),
    ([-60.0, 40.0, 0.0], [1, 1e-6, 7]),
    ([0.2, 0.1, 0.0, -0.1, -0.2, 1.5, 0.3], [1, 2, 3, 4, 5, 6, 7]),
]


@pytest.mark.parametrize("gamma", GAMMAS)
def test_sigmoid_posterior_is_the_definition(gamma):
    for x in BINARY:
        one, zero = exact_posterior([x, 0], [1, 1], gamma)
        assert relative_error(sigmoid_posterior(x, alpha=None, gamma=gamma), one - zero) < 4e-16, x
        one, zero = exact_posterior([x, 0], [0.9, 1 - 0.9], gamma)
        assert error(sigmoid_posterior(x, alpha=0.9, gamma=gamma), [one - zero]) < 1e-15, x


@pytest.mark.parametrize("gamma", GAMMAS)
def test_sigmoid_score_is_the_root(gamma):
    for y in [*BINARY, 1e-300, *(v * (gamma + 1) for v in BINARY)]:
        x = float(sigmoid_score(y, alpha=None, gamma=gamma))
        with mp.workdps(60 + int(2 * abs(x)) + (600 if abs(y) < 1e-9 else 0)):
            g = mp.mpf(gamma)

            def excess(x, y=y, g=g):
                p, q = 1 / (1 + mp.exp(-x)), 1 / (1 + mp.exp(x))
                one = q**g * (q - g * p * mp.log(p))
                zero = p**g * (p - g * q * mp.log(q))
                return mp.log(zero / one) - mp.mpf(y)

            root = mp.findroot(excess, (mp.mpf(x), mp.mpf(x) * (1 + mp.mpf(10) ** -12)))
            assert relative_error(x, root) < 1e-15, y


@pytest.mark.parametrize("gamma", GAMMAS)
def test_softmax_posterior_is_the_definition(gamma):
    for x, weight in MANY:
        expected = exact_posterior(x, weight, gamma)
        assert error(softmax_posterior(x, weight, gamma=gamma), expected) < 3e-15, x


@pytest.mark.parametrize("gamma", GAMMAS)
def test_softmax_score_is_the_root(gamma):
    for x, weight in MANY:
        for scaled in (x, [v * (gamma + 1) for v in x]):
            score = softmax_score(scaled, weight, gamma=gamma)
            if np.ptp(scaled) < 500:
                assert error(score, exact_score(scaled, weight, gamma, score)) < 3e-15, scaled


@pytest.mark.parametrize(
    ("eta", "alpha", "gamma"), [(0.8, None, 2), (0.03, 0.25, 0.5), (0.6, 0.9, 5)]
)
def test_sigmoid_score_is_the_least_expected_loss(eta, alpha, gamma):
    """By the definition alone: the loss is lower there than on both sides."""
    x = float(sigmoid_score(np.log(eta) - np.log1p(-eta), alpha=alpha, gamma=gamma))
    least = exact.sigmoid(x, eta, alpha, gamma)
    for step in (1e-7, 1e-3, 1.0):
        assert exact.sigmoid(x + step, eta, alpha, gamma) > least
        assert exact.sigmoid(x - step, eta, alpha, gamma) > least


@pytest.mark.parametrize("gamma", [0.5, 2, 7])
def test_softmax_score_is_the_least_expected_loss(gamma):
    eta, weight = np.array([0.5, 0.3, 0.15, 0.05]), np.array([1, 3, 0.5, 2])
    x = softmax_score(np.log(eta), weight, gamma=gamma)
    least = exact.softmax(x, weight * eta, gamma)
    for step in (1e-7, 1e-3, 1.0):
        for move in np.eye(4) * step:
            assert exact.softmax(x + move, weight * eta, gamma) > least
            assert exact.softmax(x - move, weight * eta, gamma) > least


@given(
    st.floats(0.001, 0.999),
    st.sampled_from([None, -1, 0.25, 0.9]),
    st.sampled_from([0, 0.3, 1, 2, 5]),
)
def test_the_gradient_vanishes_at_the_binary_score(eta, alpha, gamma):
    x = sigmoid_score(np.log(eta) - np.log1p(-eta), alpha=alpha, gamma=gamma)
    one = sigmoid_focal_loss_gradient(x, 1.0, alpha=alpha, gamma=gamma)
    assert abs(sigmoid_focal_loss_gradient(x, eta, alpha=alpha, gamma=gamma)) < 1e-13 * abs(
        eta * one
    )


@given(
    st.lists(st.floats(0.01, 1), min_size=2, max_size=6),
    st.booleans(),
    st.sampled_from([0, 0.3, 1, 2, 5]),
)
def test_the_gradient_vanishes_at_the_softmax_score(eta, weighted, gamma):
    eta = np.array(eta) / np.sum(eta)
    weight = 1 + np.arange(eta.size) if weighted else None
    x = softmax_score(np.log(eta), weight, gamma=gamma)
    gradient = softmax_focal_loss_gradient(x, eta, weight, gamma=gamma, reduction="none")
    size = np.abs(softmax_focal_loss_gradient(x, 0, weight, gamma=gamma, reduction="none")).max()
    assert np.abs(gradient).max() < 1e-13 * size


# --- What is known of the map ---------------------------------------------------------------------


def test_known_values():
    score = sigmoid_score([0.5, 0.8, 0.9, 0.99], alpha=None, gamma=2, from_logits=False)
    np.testing.assert_allclose(score, [0.5, 0.6266, 0.6942, 0.8464], atol=5e-5)
    # The slope of logit eta at 0, after Komisarenko and Kull 2024.
    for gamma in (0.5, 2, 5):
        log2 = np.log(2)
        slope = 1 + gamma * (2 - (2 - gamma) * log2) / (1 + gamma * log2)
        assert sigmoid_posterior(1e-12, alpha=None, gamma=gamma) == pytest.approx(
            slope * 1e-12, rel=1e-11
        )


def test_many_classes_can_be_scored_too_high():
    """Twenty classes, all but one alike: too high below .1835 at gamma = 2, too low above."""

    def score(largest, gamma=2.0):
        return softmax_score([largest] + 19 * [(1 - largest) / 19], gamma=gamma, from_logits=False)

    assert score(0.14)[0] == pytest.approx(0.1433, abs=5e-5)
    assert score(0.183)[0] > 0.183
    assert score(0.184)[0] < 0.184
    assert score(0.14, 3)[0] < 0.14


@given(st.floats(-50, 50), st.floats(0.01, 20))
def test_a_binary_score_is_never_too_sure(y, gamma):
    assert abs(sigmoid_score(y, alpha=None, gamma=gamma)) <= abs(y)


@given(st.floats(-700, 700), st.sampled_from([0.25, 0.9, None]))
def test_without_focus_only_the_weight_is_undone(x, alpha):
    shift = 0 if alpha is None else np.log(alpha) - np.log1p(-alpha)
    assert sigmoid_posterior(x, alpha=alpha, gamma=0) == x - shift
    assert sigmoid_score(x, alpha=alpha, gamma=0) == pytest.approx(x + shift, rel=4 * EPS)


def test_without_focus_softmax_only_normalises_and_weighs():
    x, w = np.array([[2.0, -1.0, 0.0], [-50.0, 3.0, 1e-9]]), np.array([1.0, 0.2, 6.0])
    for result, factor in (
        (softmax_posterior(x, w, gamma=0), 1 / w),
        (softmax_score(x, w, gamma=0), w),
    ):
        p = np.exp(x) * factor
        expected = np.log(p / p.sum(axis=1, keepdims=True))
        np.testing.assert_allclose(result, expected, rtol=1e-15, atol=1e-15)


@given(st.floats(-100, 100), st.sampled_from(GAMMAS), st.sampled_from([0.5, 0.25, 0.99]))
def test_two_classes_are_the_binary_case(x, gamma, alpha):
    """The binary weights alpha and 1 - alpha are those of two classes; so is the logit."""
    weight = [1 - alpha, alpha]
    posterior = softmax_posterior([0, x], weight, gamma=gamma)
    expected = sigmoid_posterior(x, alpha=alpha, gamma=gamma)
    assert posterior[1] - posterior[0] == pytest.approx(expected, rel=5e-15, abs=5e-15)
    score = softmax_score([0, x], weight, gamma=gamma)
    expected = sigmoid_score(x, alpha=alpha, gamma=gamma)
    assert score[1] - score[0] == pytest.approx(expected, rel=5e-15, abs=5e-15)


@given(
    st.floats(-1e4, 1e4), st.sampled_from([0, 1e-6, 0.25, 1, 2, 50]), st.sampled_from([None, 0.1])
)
def test_sigmoid_round_trips(x, gamma, alpha):
    there = sigmoid_posterior(x, alpha=alpha, gamma=gamma)
    assert sigmoid_score(there, alpha=alpha, gamma=gamma) == pytest.approx(x, rel=4e-15, abs=4e-15)
    back = sigmoid_posterior(sigmoid_score(x, alpha=alpha, gamma=gamma), alpha=alpha, gamma=gamma)
    assert back == pytest.approx(x, rel=4e-15, abs=2e-14)


ITEMS = st.lists(st.floats(-60, 60), min_size=1, max_size=8)


@given(ITEMS, st.sampled_from([0, 1e-6, 0.25, 1, 2, 50]), st.booleans())
def test_softmax_round_trips(x, gamma, weighted):
    weight = 1.0 + np.arange(len(x)) if weighted else None
    log_p = softmax_posterior(x, gamma=0)
    there = softmax_posterior(x, weight, gamma=gamma)
    assert np.logaddexp.reduce(there) == pytest.approx(0, abs=1e-14)
    back = softmax_score(there, weight, gamma=gamma)
    scale = np.maximum(1, np.abs(there).max())
    np.testing.assert_allclose(back, log_p, rtol=1e-14, atol=1e-14 * scale / (1 + gamma) + 1e-14)
    score = softmax_score(x, weight, gamma=gamma)
    assert np.logaddexp.reduce(score) == pytest.approx(0, abs=1e-14)
    back = softmax_posterior(score, weight, gamma=gamma)
    np.testing.assert_allclose(back, log_p, rtol=1e-14, atol=3e-15 * (1 + gamma))


@given(ITEMS, st.sampled_from(GAMMAS))
def test_the_order_of_the_classes_is_kept(x, gamma):
    order = np.argsort(x)
    for result in (softmax_posterior(x, gamma=gamma), softmax_score(x, gamma=gamma)):
        assert (np.diff(result[order]) >= -1e-14 * np.abs(result[order][1:])).all()


def test_probabilities_are_those_of_the_logits():
    x = np.array([[3.0, -1.0, 0.5], [-20.0, 4.0, 0.0]])
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    for convert in (softmax_posterior, softmax_score):
        expected = np.exp(convert(x, [1, 2, 3]))
        np.testing.assert_allclose(convert(p, [1, 2, 3], from_logits=False), expected, rtol=1e-13)
    p = 1 / (1 + np.exp(-x))
    for convert in SIGMOID:
        expected = 1 / (1 + np.exp(-convert(x)))
        np.testing.assert_allclose(convert(p, from_logits=False), expected, rtol=1e-13)


# --- Limits and extremes --------------------------------------------------------------------------


@pytest.mark.parametrize("convert", SIGMOID)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_sigmoid_limits(convert, gamma):
    x = [np.inf, -np.inf, np.nan]
    np.testing.assert_array_equal(convert(x, 0.3, gamma=gamma), x)
    p = convert([1, 0, 0.5], gamma=gamma, from_logits=False)
    np.testing.assert_array_equal(p, [1, 0, 0.5])
    x = np.array([1e-300, -700.0, 1e4, 1e300])
    assert np.isfinite(convert(x, 0.3, gamma=gamma)).all()
    np.testing.assert_array_equal(convert(-x, gamma=gamma), -convert(x, gamma=gamma))


@pytest.mark.parametrize("convert", SIGMOID)
@pytest.mark.parametrize("gamma", [0.0, 2.0, 1e6, 1e300, 1.7e308])
def test_sigmoid_limits_for_every_gamma(convert, gamma):
    np.testing.assert_array_equal(convert([np.inf, -np.inf], gamma=gamma), [np.inf, -np.inf])
    assert not np.isnan(convert([0.0, 1e-3, -30.0, 1e300, -1e300], gamma=gamma)).any()


INF, NAN = np.inf, np.nan
SOFTMAX_LIMITS = [
    ([5.0], [0.0]),
    ([-INF], [0.0]),
    ([INF], [0.0]),
    ([INF, 0, -INF], [0, -INF, -INF]),
    ([-INF, 3.0, -INF], [-INF, 0, -INF]),
    ([2.0, -INF, 2.0], [-np.log(2), -INF, -np.log(2)]),
    ([1e300, 0, -1e300], [0, -INF, -INF]),
    ([INF, INF, 0], [NAN, NAN, NAN]),
    ([-INF, -INF], [NAN, NAN]),
    ([NAN, 0, 1], [NAN, NAN, NAN]),
    ([4.0] * 7, [-np.log(7)] * 7),
    ([1000.0] * 1000, [-np.log(1000)] * 1000),
]


@pytest.mark.parametrize("convert", [softmax_posterior, softmax_score])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_softmax_limits(convert, gamma):
    for x, expected in SOFTMAX_LIMITS:
        log_p = convert(x, gamma=gamma)
        exists = np.where(log_p < -1e290, -INF, log_p)
        np.testing.assert_allclose(exists, expected, rtol=1e-15, err_msg=str(x))
    p = convert([[1, 0, 0], [0, 0.5, 0.5]], gamma=gamma, from_logits=False)
    np.testing.assert_allclose(p, [[1, 0, 0], [0, 0.5, 0.5]], rtol=1e-15)


@pytest.mark.parametrize("gamma", [*GAMMAS, 1e-300, 1e6])
@pytest.mark.parametrize("classes", [2, 3, 50, 1000])
def test_softmax_score_converges(classes, gamma):
    rng = np.random.default_rng(classes)
    for scale in (1e-300, 1e-3, 1, 20, 700, 1e4, 1e200):
        x = scale * rng.normal(size=(3, classes))
        x[1] = np.round(x[1] / scale) * scale  # ties
        x[2] += scale * 3 * (rng.random(classes) < 0.3)  # two groups
        score = softmax_score(x, gamma=gamma)
        assert np.abs(np.logaddexp.reduce(score, axis=1)).max() < 1e-14, scale
        back = softmax_posterior(score, gamma=gamma)
        log_p = softmax_posterior(x, gamma=0)
        rounding = 4 * EPS * ((1 + gamma) * (1 + np.abs(score)) + 10 * np.abs(log_p))
        assert (np.abs(back - log_p) <= rounding).all(), scale


def test_softmax_score_converges_where_gamma_and_logits_are_absurd():
    x = 1e250 * np.random.default_rng(0).normal(size=(200, 3))
    score = softmax_score(x, gamma=1e10)
    log_p = softmax_posterior(x, gamma=0)
    np.testing.assert_allclose(softmax_posterior(score, gamma=1e10), log_p, rtol=1e-14)
    assert (score.max(axis=1) == 0).all()
    np.testing.assert_allclose(softmax_score([-1.0, 2.0], gamma=1e100), -np.log(2), rtol=1e-15)


def test_one_ill_item_leaves_the_others_alone():
    x = np.array([[1.0, 2.0, 0.0], [NAN, 0, 0], [INF, 0, 0], [INF, INF, 0]])
    for convert in (softmax_posterior, softmax_score):
        np.testing.assert_array_equal(convert(x)[0], convert(x[0]))
        assert np.isnan(convert(x)[[1, 3]]).all()


def test_arguments_without_items():
    for convert in SIGMOID:
        assert convert([]).shape == (0,)
    for convert in (softmax_posterior, softmax_score):
        assert convert(np.zeros((0, 3))).shape == (0, 3)
        assert convert(np.zeros((2, 3, 0)), from_logits=False).shape == (2, 3, 0)


# --- Shapes, dtypes, arguments --------------------------------------------------------------------

ALL = [*SIGMOID, softmax_posterior, softmax_score]


@pytest.mark.parametrize("convert", [softmax_posterior, softmax_score])
def test_the_axis_of_the_classes(convert):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    w = [1.0, 2.0, 0.5]
    whole = convert(x, w)
    assert whole.shape == x.shape
    np.testing.assert_allclose(whole[1, :, 2, 3], convert(x[1, :, 2, 3], w), rtol=1e-14)
    np.testing.assert_allclose(whole[..., 1, 1], convert(x[..., 1, 1], w), rtol=1e-14)


@pytest.mark.parametrize("convert", ALL)
@pytest.mark.parametrize("from_logits", [True, False])
def test_dtypes(convert, from_logits):
    x = np.array([0.25, 0.5, 0.25])
    exact_result = convert(x, from_logits=from_logits)
    assert exact_result.dtype == np.float64
    for dtype in (np.float16, np.float32):
        result = convert(x.astype(dtype), from_logits=from_logits)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, exact_result.astype(dtype))  # rounded once
    assert convert([0, 1, 0], from_logits=from_logits).dtype == np.float64


@pytest.mark.parametrize("convert", ALL)
@pytest.mark.parametrize("from_logits", [True, False])
def test_arguments_are_not_changed(convert, from_logits):
    x = np.array([0.25, 0.75])
    x.flags.writeable = False
    options = {} if "sigmoid" in convert.__name__ else {"weight": np.array([1.0, 2.0])}
    for value in options.values():
        value.flags.writeable = False
    convert(x, **options, from_logits=from_logits)
    np.testing.assert_array_equal(x, [0.25, 0.75])


def test_sums_near_one_are_taken():
    p = np.array([0.2, 0.3, 0.5])
    for dtype, miss in ((np.float64, 5e-7), (np.float32, 5e-6), (np.float16, 0.02)):
        softmax_posterior((p * (1 + miss)).astype(dtype), from_logits=False)
        with pytest.raises(ValueError, match=r"^input: takes .* sum 1, got the sum "):
            softmax_posterior((p * (1 + 10 * miss)).astype(dtype), from_logits=False)


FIRST = [
    ("x", TypeError, {}),
    (None, TypeError, {}),
    (1j, TypeError, {}),
    ([True, False], TypeError, {}),
    ([[1.0], [1.0, 2.0]], TypeError, {}),
    ([0.5, 1.5], ValueError, {"from_logits": False}),
    ([0.5, -0.5], ValueError, {"from_logits": False}),
    ([0.5, NAN], ValueError, {"from_logits": False}),
]
FIRST_OF_SOFTMAX = [
    (0.5, ValueError, {}),
    ([], ValueError, {}),
    (np.zeros((3, 0)), ValueError, {}),
    ([0.5, 0.4], ValueError, {"from_logits": False}),
    ([0.0, 0.0], ValueError, {"from_logits": False}),
]
OPTIONS = [
    ("gamma", -0.1, ValueError),
    ("gamma", INF, ValueError),
    ("gamma", NAN, ValueError),
    ("gamma", "2", TypeError),
    ("gamma", None, TypeError),
    ("gamma", True, TypeError),
    ("from_logits", 1, TypeError),
    ("from_logits", None, TypeError),
    ("from_logits", "no", TypeError),
]
ALPHA = [(0, ValueError), (1, ValueError), (1.0, ValueError), (-0.5, ValueError), (2, ValueError)]
ALPHA += [(NAN, ValueError), ("0.5", TypeError), (True, TypeError), ([0.5], TypeError)]
WEIGHT = [
    ([1, 0], ValueError),
    ([1, -1], ValueError),
    ([1, INF], ValueError),
    ([1, NAN], ValueError),
]
WEIGHT += [([1], ValueError), ([1, 2, 3], ValueError), ([[1, 2]], ValueError), (1.0, ValueError)]
WEIGHT += [(["a", "b"], TypeError), ([1j, 1], TypeError)]


@pytest.mark.parametrize("convert", ALL)
def test_bad_first_argument(convert):
    softmax, score = (kind in convert.__name__ for kind in ("softmax", "score"))
    name = "posterior" if score else "input" if softmax else "inputs"
    for value, kind, options in FIRST + (FIRST_OF_SOFTMAX if softmax else []):
        with pytest.raises(kind, match=rf"(?s)^{name}: takes .* got "):
            convert(value, **options)


@pytest.mark.parametrize("convert", ALL)
@pytest.mark.parametrize(("name", "value", "kind"), OPTIONS)
def test_bad_options(convert, name, value, kind):
    with pytest.raises(kind, match=rf"^{name}: takes .* got "):
        convert([0.5, 0.5], **{name: value})


@pytest.mark.parametrize("convert", SIGMOID)
@pytest.mark.parametrize(("alpha", "kind"), ALPHA)
def test_bad_alpha(convert, alpha, kind):
    with pytest.raises(kind, match=r"^alpha: takes .* got "):
        convert([0.5, 0.5], alpha)


@pytest.mark.parametrize("convert", ALL[2:])
@pytest.mark.parametrize(("weight", "kind"), WEIGHT)
def test_bad_weight(convert, weight, kind):
    with pytest.raises(kind, match=r"^weight: takes .* got "):
        convert([0.5, 0.5], weight)


def test_a_number_gives_a_scalar():
    for convert in SIGMOID:
        assert isinstance(convert(np.float32(0.5)), np.float32)
        assert isinstance(convert(0.5, from_logits=False), np.float64)


def test_minus_one_is_no_weight():
    for convert in SIGMOID:
        np.testing.assert_array_equal(convert([0.3, 2.0], -1), convert([0.3, 2.0], None))
