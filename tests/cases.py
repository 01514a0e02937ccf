"""Which cases are run: a sample of those that are alike, or all of them.

`make test` runs the sample, which still sees each kind of break; `make audit` runs the rest.
"""

from collections.abc import Iterable
from typing import Any

import pytest

exhaustive = pytest.mark.exhaustive


def sampled(values: Iterable[Any], *kept: Any) -> list[Any]:
    """Parameters of a test of which the kept ones are the sample.

    There are none where they are pages, and no site is built.
    """
    values = list(values)
    assert not values or all(value in values for value in kept), kept
    return [value if value in kept else pytest.param(value, marks=exhaustive) for value in values]
