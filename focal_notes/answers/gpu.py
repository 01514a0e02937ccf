"""The answers to the exercises of the chapter on the GPU."""

import numpy as np

from focal_notes.exercises import Answer


def _recomputed(logit: int, label: int) -> int:
    """Bytes an element: read both, twice, and write the gradient."""
    return 2 * (logit + label) + logit


def _kept(logit: int, label: int) -> int:
    """Bytes an element: read both, write the derivative, read it and write the gradient."""
    return (logit + label) + logit + 2 * logit


def _references(largest: range, beyond: float) -> int:
    count, reference = 0, float("-inf")
    for top in largest:
        if top > reference + beyond:
            count, reference = count + 1, float(top)
    return count


_POSITIVES = np.array([2.0, 10.0, 50.0, 138.0])


def _too_long() -> float:
    """The average of the own means over the mean of the batch, for sums of one gradient each."""
    return float(np.mean(1 / _POSITIVES) / (len(_POSITIVES) / _POSITIVES.sum()))


ANSWERS = {
    "ex-bytes-bfloat16": Answer(
        lambda: _recomputed(2, 1),
        hint="Both passes read the logits and the labels, and the backward writes the gradient.",
        near_misses={
            "that is with float32 logits": lambda: _recomputed(4, 1),
            "that is with labels of two bytes": lambda: _recomputed(2, 2),
            "the backward reads the labels, too": lambda: _recomputed(2, 1) - 1,
            "that is one pass, with the upstream gradient known": lambda: 2 * 2 + 1,
        },
    ),
    "ex-recompute-or-keep": Answer(
        lambda: min(_recomputed(4, 8), _kept(4, 8)),
        hint="Count both: one reads the labels twice, the other writes and reads a derivative.",
        near_misses={
            "that is the larger of the two": lambda: max(_recomputed(4, 8), _kept(4, 8)),
            "that is with float32 labels": lambda: _kept(4, 4),
            "the derivative is written and read, and the gradient written": lambda: 16,
        },
    ),
    "ex-row-blocks": Answer(
        lambda: 4097,
        rtol=0,
        hint="What is the largest row that one block of 4096 holds?",
        near_misses={
            "a row of 4096 classes still fits": lambda: 4096,
            "a row of 2049 classes has a block of 4096": lambda: 2049,
        },
    ),
    "ex-reference-moves": Answer(
        lambda: _references(range(61), 8.0),
        rtol=0,
        hint="From 0 on: which is the first block whose largest logit is more than 8 above?",
        near_misses={
            "that is with a move at each new largest logit": lambda: _references(range(61), 0.0),
            "it moves by more than 8, not by 8": lambda: _references(range(61), 7.5),
            "the first block sets it, too": lambda: _references(range(61), 8.0) - 1,
        },
    ),
    "ex-four-devices": Answer(
        _too_long,
        hint="Divide the average of the four quotients by what the sum of all would give.",
        near_misses={
            "that is the factor of the first device's examples": lambda: float(
                _POSITIVES.mean() / _POSITIVES[0]
            ),
            "that is the inverse": lambda: 1 / _too_long(),
            "that is the ratio of the largest count to the smallest": lambda: 69.0,
        },
    ),
}
