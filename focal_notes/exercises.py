"""``check_answer``: tells a reader whether an answer to an exercise is right.

The right answers are computed, not stored: ``focal_notes.answers.NAME.ANSWERS`` maps each exercise
label of the chapter NAME to an `Answer`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np

import focal_notes.answers

INVITATION = "Put your answer in place of `...` and run this cell again."


@dataclass(frozen=True)
class Answer:
    """The right answer to one exercise, and what to say to a wrong one.

    ``expected`` computes it: a number, an array, a string (the letter of a choice), or, if
    ``points`` is given, a function that is compared with the reader's at each tuple of arguments.
    ``near_misses`` maps what the reader probably did to the answer which that gives.
    """

    expected: Callable[[], Any]
    rtol: float = 0.01
    atol: float = 0.0
    hint: str = ""
    points: tuple[tuple[Any, ...], ...] = ()
    near_misses: Mapping[str, Callable[[], Any]] = field(default_factory=dict)

    def matches(self, given: Any, expected: Any) -> bool:
        """Whether ``given`` is ``expected``, up to the tolerances."""
        if isinstance(expected, str):
            return isinstance(given, str) and given.strip().lower() == expected.lower()
        if self.points:
            return all(self._close(given(*point), expected(*point)) for point in self.points)
        return self._close(given, expected)

    def _close(self, given: Any, expected: Any) -> bool:
        given, expected = np.asarray(given, float), np.asarray(expected, float)
        return given.shape == expected.shape and bool(
            np.allclose(given, expected, rtol=self.rtol, atol=self.atol, equal_nan=False)
        )


def all_answers() -> dict[str, Answer]:
    """Every exercise label of the book with its answer."""
    answers: dict[str, Answer] = {}
    for module in iter_modules(focal_notes.answers.__path__):
        for label, answer in import_module(f"focal_notes.answers.{module.name}").ANSWERS.items():
            if label in answers:
                raise ValueError(f"two answers for the exercise {label!r}")
            answers[label] = answer
    return answers


def check_answer(label: str, answer: Any) -> None:
    """Print, in one line, whether ``answer`` is right for the exercise ``label``.

    An answer that cannot be read (the wrong type or shape, a function that raises) is answered,
    not raised: the rest of the notebook still runs.
    """
    answers = all_answers()
    if label not in answers:
        raise ValueError(f"label: there is no exercise {label!r}; there are {sorted(answers)}")
    print(_verdict(answers[label], answer))


def _verdict(right: Answer, given: Any) -> str:
    if given is ...:
        return INVITATION
    expected = right.expected()
    if right.points and not callable(given):
        return f"Not yet: the answer is a function, and this is {type(given).__name__}."
    try:
        if right.matches(given, expected):
            return "Right."
        for what, miss in right.near_misses.items():
            if right.matches(given, miss()):
                return f"Not yet: {what}."
        if not right.points and not isinstance(expected, str):
            got, want = np.shape(given), np.shape(expected)
            if got != want:
                return f"Not yet: the answer has the shape {want}, and this has {got}."
    except Exception as error:  # whatever a reader's answer does is an answer, not a crash
        return f"Not yet: this could not be checked ({type(error).__name__}: {error})."
    return "Not yet." + (f" {right.hint}" if right.hint else "")
