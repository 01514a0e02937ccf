"""What `make certify` finds at every float32 logit: here at four million, and as it was stored."""

import json

import pytest

from focal_lib._ways import compiled
from tools import certify

ULPS = 2


@pytest.fixture(scope="module")
def reference():
    if compiled.kernels is None:
        pytest.skip(compiled.why_not)
    return certify.load()


@pytest.mark.parametrize("gamma", certify.GAMMAS)
def test_logits_of_all_sizes(reference, gamma):
    errors = certify.certify(reference, gamma, 0, certify.INFINITY, certify.INFINITY >> 21)
    for name, error in errors.items():
        assert error.ulp <= ULPS, name
        assert error.count > 3e6 and error.rounded / error.count > 0.98


def test_an_error_would_be_seen(reference):
    """The reference with another gamma."""
    errors = certify.certify(reference, 2.0, 0, certify.INFINITY, 1 << 16, kernel_gamma=2.000001)
    assert all(error.ulp > ULPS for error in errors.values())


def test_the_stored_result():
    stored = json.loads(certify.RESULTS.read_text())
    if stored["source"] != certify.source_hash():
        pytest.skip("cpu_kernels.c has changed since: make certify")
    for rows in stored["gammas"].values():
        assert all(row["ulp"] <= ULPS and row["results"] > 3.2e9 for row in rows)
