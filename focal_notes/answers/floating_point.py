"""The answers to the exercises of the chapter on floating point."""

from typing import Any

import numpy as np
from scipy.special import expit, softmax

from focal_notes.exercises import Answer


def _modulator(x: Any, gamma: float) -> float:
    e = np.exp(np.asarray(x, float) - np.max(x))
    rest = e[1:].sum()
    return float((rest / (e[0] + rest)) ** gamma)


ANSWERS = {
    "ex-float-sixteen": Answer(
        lambda: np.log(2 / 2.0**-11 - 1),
        rtol=0.005,
        hint="The sigmoid rounds to 1 where the rest is at most half a gap below 1.",
        near_misses={
            "that is a sigmoid composed as 1 / (1 + exp(-z)), or one of 10 bits": (
                lambda: 11 * np.log(2)
            ),
            "that is bfloat16, of 8 bits": lambda: np.log(2 / 2.0**-8 - 1),
        },
    ),
    "ex-float-half-logit": Answer(
        lambda: np.expm1(4 / 16),
        rtol=0.02,
        hint="Half an ulp of the logit, times 1 + gamma, is the change of the loss's logarithm.",
        near_misses={
            "an ulp is what neighbors differ by; rounding moves by half of it": (
                lambda: np.expm1(4 / 8)
            ),
            "the loss falls like a power 1 + gamma of q": lambda: np.expm1(3 / 16),
            "that is the change of the logarithm; the share is its exponential less 1": (
                lambda: 4 / 16
            ),
            "that is how much it can shrink": lambda: -np.expm1(-4 / 16),
        },
    ),
    "ex-float-clip": Answer(
        lambda: expit(-10.0),
        hint="A clip takes the gradient where p_t is below its level.",
        near_misses={
            "a margin is not a power of ten": lambda: 1e-10,
            "that is a margin of -5": lambda: expit(-5.0),
        },
    ),
    "ex-float-rewrite": Answer(
        lambda: _modulator,
        points=(
            ([1.0, 0.5, -2.0], 2.0),
            ([40.0, 0.0, 0.0], 2.0),
            ([0.0, 40.0, 3.0], 0.5),
            ([3050.0, 3000.0, 2999.0, -5000.0], 1.5),
        ),
        rtol=1e-6,
        hint="What class 0 does not have, the others have. Logits near 3000 must not overflow.",
        near_misses={
            "it is 0 at [40, 0, 0]: the difference from 1 comes too late": (
                lambda: lambda x, gamma: (1 - softmax(x)[0]) ** gamma
            ),
        },
    ),
    "ex-float-second": Answer(
        lambda: [1, 0, 1, 0, 0],
        rtol=0,
        hint="Differentiate q^gamma twice. Which powers of 0 are infinite?",
        near_misses={
            "that is the first derivative": lambda: [1, 0, 0, 0, 0],
            "at gamma = 1 the power of q is constant, and torch knows it": lambda: [1, 1, 1, 0, 0],
        },
    ),
}
