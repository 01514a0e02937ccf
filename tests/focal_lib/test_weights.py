"""Class weights and the logit of a prior."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from focal_lib.weights import effective_number, inverse_frequency, prior_logit

COUNTS = st.lists(st.integers(1, 10**9), min_size=1, max_size=6)


@given(COUNTS)
def test_inverse_frequency_gives_every_class_the_same_total(counts):
    w = inverse_frequency(counts)
    total = sum(counts)
    np.testing.assert_allclose(w * counts, total / len(counts), rtol=1e-14)
    np.testing.assert_allclose(np.sum(w * counts) / total, 1, rtol=1e-14)  # of mean 1


BETAS = [0.0, 1e-300, 1e-8, 0.5, 0.9, 0.99, 0.9999, 1 - 1e-9, 1 - 1e-15, 1 - 2.0**-53]


@given(st.lists(st.integers(1, 10**18), min_size=1, max_size=6), st.sampled_from(BETAS))
def test_effective_number_is_its_formula(counts, beta):
    with mp.workdps(60):
        inverse = [(1 - mp.mpf(beta)) / (1 - mp.mpf(beta) ** n) for n in counts]
        exact = [float(len(counts) * v / mp.fsum(inverse)) for v in inverse]
    np.testing.assert_allclose(effective_number(counts, beta), exact, rtol=2e-15)


@pytest.mark.parametrize("size", [1e308, 1e-300])
def test_counts_of_every_size(size):
    np.testing.assert_allclose(inverse_frequency([size, size, size]), 1, rtol=1e-15)
    np.testing.assert_allclose(inverse_frequency([size, size / 2]), [0.75, 1.5], rtol=1e-15)
    np.testing.assert_allclose(effective_number([size] * 3, 0.9), 1, rtol=1e-15)


def test_effective_number_lies_between_equal_weights_and_inverse_frequency():
    counts = [3, 40, 5000]
    np.testing.assert_array_equal(effective_number(counts, 0.0), 1)
    inverse = inverse_frequency(counts)
    limit = inverse * len(counts) / inverse.sum()
    np.testing.assert_allclose(effective_number(counts, 1 - 1e-12), limit, rtol=1e-8)


HALF = [0.5 + sign * 2.0**-k for k in range(2, 53) for sign in (-1, 1)]


@pytest.mark.parametrize("pi", [5e-324, 1e-300, 1e-9, 0.01, 0.3, 0.5, 0.999, 1 - 2.0**-53, *HALF])
def test_prior_logit(pi):
    with mp.workdps(400):
        exact = mp.log(mp.mpf(pi) / (1 - mp.mpf(pi)))
    assert prior_logit(pi) == pytest.approx(float(exact), rel=1e-15, abs=0)
    assert isinstance(prior_logit(pi), float)


def test_the_prior_of_the_paper_starts_at_one_in_a_hundred():
    assert 1 / (1 + np.exp(-prior_logit(0.01))) == pytest.approx(0.01)


NOT_COUNTS = [
    ([], ValueError),
    (5, ValueError),
    ([[1, 2], [3, 4]], ValueError),
    ([3, 0], ValueError),
    ([3, -1], ValueError),
    ([3.0, np.nan], ValueError),
    ([3.0, np.inf], ValueError),
    (["a", "b"], TypeError),
    (None, TypeError),
    ([True, False], TypeError),
    ([1j, 2], TypeError),
]


@pytest.mark.parametrize(("counts", "error"), NOT_COUNTS)
@pytest.mark.parametrize("weights", [inverse_frequency, lambda n: effective_number(n, 0.9)])
def test_bad_counts(weights, counts, error):
    with pytest.raises(error, match=r"^counts: takes .* got "):
        weights(counts)


def test_the_error_shows_the_count():
    counts = np.ones(5000)
    counts[4321] = 0
    with pytest.raises(ValueError, match=r"^counts: takes .* got 0.0 for class 4321$"):
        inverse_frequency(counts)


OUTSIDE = [(np.nan, ValueError), (-0.1, ValueError), (1.5, ValueError)]
OUTSIDE += [(None, TypeError), ("0.9", TypeError), (True, TypeError), ([0.9], TypeError)]


@pytest.mark.parametrize(("beta", "error"), [(1, ValueError), *OUTSIDE])
def test_bad_beta(beta, error):
    with pytest.raises(error, match=r"^beta: takes .* got "):
        effective_number([1, 2], beta)


@pytest.mark.parametrize(("pi", "error"), [(0, ValueError), (1.0, ValueError), *OUTSIDE])
def test_bad_prior(pi, error):
    with pytest.raises(error, match=r"^pi: takes .* got "):
        prior_logit(pi)
