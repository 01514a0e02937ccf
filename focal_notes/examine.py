"""``examine_loss``: runs a focal loss where floating point breaks it, and says what came out.

It takes any torch function of logits, targets and gamma, compares its values and its gradients with
60-digit arithmetic, and returns a `Report`, which prints as a short table:

    print(examine_loss(lambda x, y, gamma: sigmoid_focal_loss(x, y, None, gamma)))

A relative error up to ``rtol`` is let pass, and in any case what rounding may cost a careful
program by the chapter on floating point: 16 (1 + gamma) units of roundoff, and for softmax, whose
margin is a rounded difference of logits, (1 + gamma) z more. Numbers too small for the type to hold
in full count as 0.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mpmath as mp
import numpy as np
import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor, float], Tensor]

# Margins, up to the sign of each: multiples of 1/2 that every type holds but for the largest.
ORDINARY = tuple(np.arange(0, 4.5, 0.5))
EASY = (4.5, 5.5, 6.5, 8.5, 10.0, 12.5, 14.5, 15.5, 17.0, 18.0, 20.0, 25.0, 34.0, 38.0, 60.0, 110.0)
HARD = (-4.5, -6.0, -8.0, -10.0, -12.5, -17.0, -20.0, -40.0, -88.0, -104.0, -1000.0, -10000.0)
OTHERS = (0.0, -1.0, -3.0)  # the logits of the other classes, in softmax
OFFSET = 2.0**17


@dataclass(frozen=True)
class Finding:
    """What one check found: its name, whether all was right, and a case that was not.

    That is the first that is not finite, else the first that is 0, else the first; the nearest to 0
    of its gamma.
    """

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """The findings of `examine_loss`: ``report["name"]`` is one, ``print`` gives a table."""

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that did not pass."""
        return tuple(finding.name for finding in self.findings if not finding.passed)

    def __getitem__(self, name: str) -> Finding:
        return {finding.name: finding for finding in self.findings}[name]

    def __str__(self) -> str:
        width = max(len(finding.name) for finding in self.findings)
        return "\n".join(
            f"{finding.name:{width}}  " + ("ok" if finding.passed else f"WRONG {finding.detail}")
            for finding in self.findings
        )


@dataclass(frozen=True)
class _Case:
    """One example: its logits, target, gamma, true value and gradient, and the error allowed."""

    logits: tuple[float, ...]
    target: int
    gamma: float
    value: Any
    gradient: tuple[Any, ...]
    room: float
    where: str


def examine_loss(
    loss: Loss,
    kind: str = "sigmoid",
    gammas: Sequence[float] = (0.5, 1.0, 2.0),
    rtol: float = 1e-3,
    dtype: torch.dtype = torch.float32,
    half: Sequence[torch.dtype] = (torch.bfloat16, torch.float16),
) -> Report:
    """Examine a focal loss.

    Args:
        loss: ``loss(inputs, targets, gamma)`` gives the loss of each example, without weights. For
            "sigmoid" both are floating-point tensors (N,), the targets 0 or 1; for "softmax" the
            inputs are (N, 4) and the targets class indices (N,).
        kind: "sigmoid" or "softmax".
        gammas: the focusing parameters to try; 0 is always tried, against cross entropy.
        rtol: the relative error that is let pass; 0 asks for all that rounding leaves.
        dtype: float32 or float64, the type of all checks but those of half precision.
        half: the half types to try; () for none.

    The checks, by name: "ordinary value" and "ordinary gradient" (margins from -4 to 4: is it the
    formula at all?), "easy" and "hard" ones beyond, "gamma = 0" (cross entropy), each half type
    (values and gradients, for logits that were rounded to it), "infinite logits" (the limits), and
    for softmax "offset" (one constant on all logits).
    """
    if kind not in ("sigmoid", "softmax"):
        raise ValueError(f"kind: takes 'sigmoid' or 'softmax', got {kind!r}")

    def cases(margins: Sequence[float], gammas: Sequence[float], of: torch.dtype) -> list[_Case]:
        every = (case for gamma in gammas for case in _cases(kind, margins, gamma, of))
        return [replace(case, room=max(case.room, rtol)) for case in every]

    def finding(name: str, cases: list[_Case], of: torch.dtype, *parts: str) -> Finding:
        return _finding(name, loss, kind, cases, of, parts or ("value", "gradient"))

    both = tuple(sorted({*ORDINARY, *(-z for z in ORDINARY)}, key=abs))
    found = []
    for name, margins in (("ordinary", both), ("easy", EASY), ("hard", HARD)):
        here = cases(margins, gammas, dtype)
        found += [finding(f"{name} {part}", here, dtype, part) for part in ("value", "gradient")]
    everywhere = (*both, *EASY, *HARD)
    found.append(finding("gamma = 0", cases(everywhere, (0.0,), dtype), dtype))
    for of in half:
        name = str(of).removeprefix("torch.")
        found.append(finding(name, cases(everywhere, (0.0, *gammas), of), of))
    infinite = [case for gamma in (0.0, *gammas) for case in _infinite(kind, gamma)]
    found.append(finding("infinite logits", infinite, dtype))
    if kind == "softmax":
        near = [z for z in everywhere if abs(z) <= 40]
        moved = [
            replace(case, logits=tuple(v + OFFSET for v in case.logits))
            for case in cases(near, gammas, dtype)
        ]
        found.append(finding("offset", moved, dtype))
    return Report(tuple(found))


def _cases(kind: str, margins: Sequence[float], gamma: float, of: torch.dtype) -> Iterator[_Case]:
    """Examples near these margins, of numbers of the type, with what is true of them."""
    roundoff = torch.finfo(of).eps / 2
    for number, near in enumerate(margins):
        near = torch.tensor(near, dtype=of).item()
        room = 16 * (1 + gamma) * roundoff
        if kind == "sigmoid":
            with mp.workdps(60):
                value, slope = _true(mp.mpf(near), gamma)
            for y in (1, 0):
                sign = 2 * y - 1
                where = f"y {y}, x {sign * near:g}"
                yield _Case((sign * near,), y, gamma, value, (sign * slope,), room, where)
        else:
            target = number % (len(OTHERS) + 1)
            logits = (*OTHERS[:target], near, *OTHERS[target:])
            room += (1 + gamma) * max(near, 1.0) * roundoff
            value, gradient = _true_row(logits, target, gamma)
            yield _Case(logits, target, gamma, value, gradient, room, f"target at {near:g}")


def _true(z: Any, gamma: float) -> tuple[Any, Any]:
    """The loss of a margin and its derivative."""
    odds = mp.exp(-z)
    p, q, u = 1 / (1 + odds), odds / (1 + odds), mp.log1p(odds)
    power = q ** mp.mpf(gamma)
    return power * u, -power * (q + gamma * p * u)


def _true_row(logits: Sequence[float], target: int, gamma: float) -> tuple[Any, tuple[Any, ...]]:
    """The loss of logits, some of the others perhaps -inf, and its gradient."""
    with mp.workdps(60):
        own = mp.mpf(logits[target])
        others = [mp.exp(mp.mpf(v) - own) if v > -np.inf else mp.mpf(0) for v in logits]
        others[target] = mp.mpf(0)
        total = mp.fsum(others)
        value, slope = _true(-mp.log(total), gamma)
        gradient = [-slope * other / total for other in others]
        gradient[target] = slope
        return value, tuple(gradient)


def _infinite(kind: str, gamma: float) -> Iterator[_Case]:
    """Infinite logits, where the loss has a limit."""
    inf, room = np.inf, 1e-5
    if kind == "sigmoid":
        for y, sign in ((1, 1), (0, -1)):
            for z, value, slope in ((inf, 0, 0), (-inf, inf, -1)):
                where = f"y {y}, x {sign * z:g}"
                yield _Case((sign * z,), y, gamma, value, (sign * slope,), room, where)
        return
    yield _Case((inf, 0, -1, 2), 0, gamma, 0, (0, 0, 0, 0), room, "target at inf")
    yield _Case((2, 0, inf, -1), 0, gamma, inf, (-1, 0, 1, 0), room, "another at inf")
    yield _Case((-inf, 0, 0, -inf), 0, gamma, inf, (-1, 0.5, 0.5, 0), room, "target at -inf")
    for logits in ((2, 0, -inf, -1), (-1, -inf, -inf, 0)):
        yield _Case(logits, 0, gamma, *_true_row(logits, 0, gamma), room, "another at -inf")


def _finding(
    name: str, loss: Loss, kind: str, cases: list[_Case], of: torch.dtype, parts: Sequence[str]
) -> Finding:
    wrong: list[tuple[int, str]] = []
    for gamma in dict.fromkeys(case.gamma for case in cases):
        here = [case for case in cases if case.gamma == gamma]
        try:
            values, gradients = _run(loss, kind, here, gamma, of)
        except Exception as error:  # whatever a loss does is a finding
            return Finding(name, False, f"gamma {gamma:g}: {type(error).__name__}: {error}")
        for case, value, gradient in zip(here, values, gradients, strict=True):
            compared = [("value", value, case.value)]
            compared += [("gradient", *pair) for pair in zip(gradient, case.gradient, strict=True)]
            bad = []
            for part, got, true in compared:
                if part in parts and _off(got, true, case.room, torch.finfo(of).tiny):
                    rank = 2 if got and np.isfinite(got) else 1 if got == 0 else 0
                    of_part = f"{part} " if len(parts) > 1 else ""
                    numbers = f"{of_part}{got:.4g}, not {float(true):.4g}"
                    bad.append((rank, f"gamma {gamma:g}, {case.where}: {numbers}"))
            wrong += [min(bad, key=lambda item: item[0])] if bad else []
    if not wrong:
        return Finding(name, True)
    shown = min(wrong, key=lambda item: item[0])[1]
    return Finding(name, False, f"{len(wrong)} of {len(cases)}; {shown}")


def _run(
    loss: Loss, kind: str, cases: list[_Case], gamma: float, of: torch.dtype
) -> tuple[list[float], list[list[float]]]:
    """The loss and its gradient of each case."""
    logits = torch.tensor([case.logits for case in cases], dtype=of)
    targets = torch.tensor([case.target for case in cases])
    if kind == "sigmoid":
        logits, targets = logits[:, 0], targets.to(of)
    logits.requires_grad_()
    values = loss(logits, targets, gamma)
    if values.shape != (len(cases),):
        raise ValueError(f"takes one loss an example, {(len(cases),)}, got {tuple(values.shape)}")
    (gradients,) = torch.autograd.grad(values.sum(), logits)
    rows = gradients.double().reshape(len(cases), -1).tolist()
    return values.detach().double().tolist(), rows


def _off(got: float, true: Any, room: float, tiny: float) -> bool:
    if not np.isfinite(got) or not mp.isfinite(true):
        return bool(got != true)
    return bool(abs(mp.mpf(got) - true) > room * abs(true) + tiny)
