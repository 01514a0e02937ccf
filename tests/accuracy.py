"""How exact the losses are: a grid of logits, 60-digit references, and the error of each path.

`python tests/accuracy.py` prints the table, with the formulas in common use below ours (words after
it keep the paths whose name has them; --device cuda has torch's on a CUDA device); test_accuracy.py
asserts the bounds.
"""

import argparse
import os
import pathlib
import shutil
import sys
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="what a path has in its name, to be printed")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = parser.parse_args()
    if asked.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    else:
        os.environ.pop("TRITON_INTERPRET", None)

import mpmath as mp
import numpy as np
import torch

sys.path.append(str(pathlib.Path(__file__).parents[1]))

import focal_lib.numpy
import focal_lib.torch
from benchmarks.peers import softmax_of_cross_entropy, torchvision_sigmoid

# Where Triton is interpreted, its kernels run on the CPU.
CUDA = torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1"
DEVICE = "cuda" if CUDA else "cpu"
BOUND = 32.0  # eps
GAMMAS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 5.0, 20.0, 1000.0, 1e6)
DTYPES = ("float32", "float64", "bfloat16", "float16")
HALF = DTYPES[2:]
HARD = ("sigmoid", "softmax")
LOSSES = (*HARD, "sigmoid, soft", "softmax, soft")
# The second derivative of the binary loss, the Hessian of the softmax loss; of hard targets.
MEASURES = ("value", "gradient", "second")


# --- True values ----------------------------------------------------------------------------------


class Exact(NamedTuple):
    """(high + low) 2^exponent: 105 bits, and as far below float64's least number as it may be."""

    high: Any
    low: Any
    exponent: Any


def exact(values):
    """Of an array of mpmath's numbers."""

    def parts(v):
        whole, bits = int(v.man) * (-1 if v < 0 else 1), int(v.bc)
        high = whole / (1 << bits)  # at least 1/2, and rounded to nearest, as Python divides
        low = (whole - (int(high * 2**53) << bits >> 53)) / (1 << bits)
        return high, low, int(v.exp) + bits

    array = np.asarray(values, dtype=object)
    return Exact(*(np.reshape(of, array.shape) for of in zip(*map(parts, array.flat), strict=True)))


def multiple(values):
    """An array of floats as mpmath's numbers."""
    return np.vectorize(mp.mpf, otypes=[object])(values)


def focal(others):
    """For each gamma f, -f', f'' and the scale of f'' at p = 1 / (1 + others), q = 1 - p."""
    p, q, u = 1 / (1 + others), others / (1 + others), mp.log1p(others)
    forms = []
    for g in GAMMAS:
        power = mp.exp(-g * mp.log1p(1 / others))  # q^g
        second = p * power * ((1 + 2 * g) * q - g * (q - g * p) * u)
        scale = p * power * ((1 + 2 * g) * q + g * (1 + (1 + g) * p) * u)
        forms.append((power * u, power * (q + g * p * u), second, scale))
    return forms


def margin(x, t):
    """z = x_t - log sum of the other e^x, its derivative v by each logit, the forms of z, and v v'
    and r r' - diag r on the others, r = -v: the Hessian is f'' times the one plus f' the other.
    """
    e = np.array([mp.exp(mp.mpf(v) - mp.mpf(x[t])) for v in x])
    e[t] = mp.mpf(0)
    others = mp.fsum(e)
    v = e / -others
    v[t] = mp.mpf(1)
    both = bend = None
    if len(x) <= 10:  # larger Hessians are not looked at
        both = np.outer(v, v)
        bend = both.copy()
        for j, r in enumerate(-v):  # r (r - 1) from the others' r: 60 digits may not show 1 - r
            bend[j, j] = -r * (mp.fsum(np.delete(e, [j, t])) / others)
        bend[t] = bend[:, t] = mp.mpf(0)
    return -mp.log(others), v, focal(others), both, bend


# --- The grid -------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Arguments of a loss; for each measure the true result, its scale, and the bound in eps."""

    loss: str
    x: Any
    target: Any
    options: dict[str, Any]
    true: dict[str, tuple[Exact, Exact, Any]]


def rounded(values, dtype):
    """To numbers of the dtype, in float64."""
    return torch.as_tensor(np.asarray(values)).to(getattr(torch, dtype)).double().numpy()


def logits(dtype):
    """Positive ones, denser where naive formulas and exponents give out."""
    rng = np.random.default_rng(0)
    ranges = [(0.1, 20, 70), (16.5, 17.5, 20), (86, 104, 30), (700, 746, 30), (1000, 10000, 20)]
    simple = [0.5, 1, 2, 8, 16.64, 17.33, 36, 37, 88, 104, 708, 745, 746, 1e4]
    parts = [np.geomspace(1e-3, 1e4, 100), simple, *(rng.uniform(*limits) for limits in ranges)]
    return np.unique(rounded(np.concatenate(parts), dtype))


def rows(classes, dtype):
    """Rows of logits: of every spread, one class ahead or behind, all moved by thousands, ties."""
    rng = np.random.default_rng(classes)
    made = [rng.normal(0, s, classes) for s in (0.01, 0.3, 1, 3, 10, 30, 100, 1000, 4000)]
    for ahead in (8, 16.64, 30, 50, 86.5, 95, 104, 350, 720, 9000.3, -17.33, -90, -700, -9000.3):
        made.append(rng.permutation(rng.normal(0, 1, classes) + ahead * np.eye(classes)[0]))
    made += [row + offset for row, offset in zip(made[::2], 6 * [3000.7, -5000.3], strict=True)]
    made += [np.full(classes, 2.5), np.where(np.arange(classes) < 2, 7.7, made[2])]
    return rounded(made[:: {10: 2, 1000: 7}.get(classes, 1)], dtype)


@cache
def batches(loss, dtype):
    make = sigmoid_batches if loss.startswith("sigmoid") else softmax_batches
    with mp.workdps(60):
        return list(make(dtype, loss not in HARD))


def sigmoid_batches(dtype, soft):
    x = logits(dtype)[:: 4 if soft else 1]
    x = np.concatenate([-x[::-1], x])
    one = np.array([focal(mp.exp(-mp.mpf(v))) for v in x])  # of label 1
    y = np.resize(rounded([0.5, 1e-3, 0.9, 1 / 3, 0.996, 0.0625, 0.7], dtype), len(x))
    zero = one[::-1]
    if not soft:
        x, one, zero = np.tile(x, 2), np.tile(one, (2, 1, 1)), np.tile(zero, (2, 1, 1))
        y = np.repeat([1, 0], len(x) // 2)
    for (k, gamma), alpha in product(enumerate(GAMMAS), (None, 0.25)):
        a, b = (alpha, 1 - alpha) if alpha else (1, 1)
        up, down = multiple(y)[:, None] * a * one[:, k], (1 - multiple(y))[:, None] * b * zero[:, k]
        value, size, second, scale = (exact(column) for column in (up + down).T)
        gradient = exact((down - up)[:, 1])
        true = {"value": (value, value, BOUND), "gradient": (gradient, size, BOUND)}
        true |= {} if soft else {"second": (second, scale, BOUND)}
        yield Batch("sigmoid_focal_loss", x, y, {"alpha": alpha, "gamma": gamma}, true)


def softmax_batches(dtype, soft):
    for classes in (2, 3, 10) if soft else (2, 3, 10, 1000):
        rng = np.random.default_rng(classes)
        x, w = rows(classes, dtype), rounded(rng.uniform(0.2, 4, classes), dtype)
        order = x.argsort(axis=1, kind="stable")[:, sorted({0, classes // 2, classes - 1})]
        if soft:
            index = rng.permuted(order, axis=1)[:, 0]
            y = 0.999 * np.eye(classes)[index] + 0.001 / classes
            y[::2] = rng.dirichlet(np.ones(classes), len(y[::2]))
            y = rounded(y, dtype)
            kinds = [(index, 0.1), (y, 0.1), (y, 0.0)]
        else:  # each row with its hardest, a middle and its easiest class
            x, index = x.repeat(order.shape[1], axis=0), order.ravel()
            kinds = [(index, 0.0)]
        of = cache(lambda i, c, x=x: margin(x[i], c))
        for target, smoothing in kinds:
            y = np.eye(classes)[index] if target is index else target
            y = multiple(y) * (1 - mp.mpf(smoothing)) + mp.mpf(smoothing) / classes
            for k, gamma in enumerate(GAMMAS):
                weight = w if (k + classes) % 2 else None
                true = softmax_true(k, y if weight is None else multiple(w) * y, of)
                true = {m: (*both, BOUND) for m, both in true.items()}
                options = {"weight": weight, "gamma": gamma}
                options |= {"label_smoothing": smoothing} if soft else {}
                yield Batch("softmax_focal_loss", x, target, options, true)


def softmax_true(k, factors, of):
    """Each measure and its scale, for the k-th gamma; a factor is w_c y_c."""
    values, gradients, sizes, matrices = [], [], [], []
    for i, factor in enumerate(factors):
        classes = np.flatnonzero(factor)
        parts = [(factor[c], *of(i, c)[1:3]) for c in classes]
        values.append(sum(a * f[k][0] for a, _, f in parts))
        slopes = [v * (-a * f[k][1]) for a, v, f in parts]
        gradients.append(np.sum(slopes, axis=0))
        if len(parts) > 1:
            sizes.append(np.abs(slopes).sum(axis=0))
        if len(parts) == 1 and len(factor) <= 10:
            a, (*_, f, both, bend) = factor[classes[0]], of(i, classes[0])
            matrices.append(both * (a * f[k][2]) - bend * (a * f[k][1]))
    value, gradient = exact(values), exact(gradients)
    size = exact(sizes) if sizes else gradient
    true = {"value": (value, value), "gradient": (gradient, size)}
    if matrices:
        norm = np.abs(matrices).max(axis=(1, 2), keepdims=True)
        true["second"] = exact(matrices), exact(norm)
    return true


# --- The paths ------------------------------------------------------------------------------------


class Path(NamedTuple):
    """An implementation: run(batch, dtype) gives its measures of a batch, in float64.

    The way is the one of conftest.py's that it takes.
    """

    run: Callable[[Batch, str], dict[str, Any]]
    dtypes: tuple[str, ...] = DTYPES
    losses: tuple[str, ...] = LOSSES
    measures: tuple[str, ...] = MEASURES
    gammas: tuple[float, ...] = GAMMAS
    way: str = DEVICE


def with_numpy(batch, dtype):
    x, options, got = batch.x.astype(dtype), batch.options | {"reduction": "none"}, {}
    for measure, suffix in zip(MEASURES, ("", "_gradient", "_hessian"), strict=True):
        if measure in batch.true:
            function = getattr(focal_lib.numpy, batch.loss + suffix)
            got[measure] = np.asarray(function(x, batch.target, **options), float)
    return got


def with_torch(derivatives, library, batch, dtype):
    """The library's loss of tensors of the dtype (class indices stay), and what is made of it."""

    def tensor(v):
        if not isinstance(v, np.ndarray):
            return v
        indices = v.dtype.kind == "i" and batch.loss == "softmax_focal_loss"
        return torch.tensor(v, dtype=None if indices else getattr(torch, dtype), device=DEVICE)

    options = {name: tensor(v) for name, v in batch.options.items()} | {"reduction": "none"}
    target, function = tensor(batch.target), getattr(library, batch.loss)
    got = derivatives(lambda x: function(x, target, **options), tensor(batch.x), batch)
    return {measure: v.detach().double().cpu().numpy() for measure, v in got.items()}


def backward(loss, x, batch):
    """One backward pass; the second derivative by another through a gradient with a graph."""
    value = loss(x.requires_grad_())
    got = {"value": value, "gradient": torch.autograd.grad(value.sum(), x)[0]}
    if "second" in batch.true:
        (slope,) = torch.autograd.grad(loss(x).sum(), x, create_graph=True)
        columns = slope.reshape(len(x), -1).unbind(1)
        again = [torch.autograd.grad(v.sum(), x, retain_graph=True)[0] for v in columns]
        got["second"] = torch.stack(again, -1).reshape(*x.shape, *x.shape[1:])
    return got


def transforms(loss, x, batch):
    """torch.func, under which the operations are composed."""

    def total(x):
        value = loss(x)
        return value.sum(), value

    def column(x, j):
        return gradient(x)[0].reshape(len(x), -1)[:, j].sum()

    gradient = torch.func.grad(total, has_aux=True)
    got = dict(zip(("gradient", "value"), gradient(x), strict=True))
    if "second" in batch.true:
        again = [torch.func.grad(column)(x, j) for j in range(x[0].numel())]
        got["second"] = torch.stack(again, -1).reshape(*x.shape, *x.shape[1:])
    return got


def once(loss, x, batch):
    """One backward pass, and no more of it."""
    return backward(loss, x, batch._replace(true={}))


def compiled(backend):
    """Under torch.compile; fullgraph, so that nothing falls back to eager.

    AOT autograd has no double backward.
    """
    names = ("sigmoid_focal_loss", "softmax_focal_loss")
    wrap = partial(torch.compile, backend=backend, fullgraph=True, dynamic=True)
    library = SimpleNamespace(**{name: wrap(getattr(focal_lib.torch, name)) for name in names})

    limits = torch._dynamo.config.patch(recompile_limit=999, accumulated_recompile_limit=999)
    run = limits(partial(with_torch, once, library))
    return Path(run, DTYPES[:3], measures=MEASURES[:2])


def without_kernels(batch, dtype):
    with mock.patch("focal_lib._ways.compiled.kernels", None):
        return with_torch(backward, focal_lib.torch, batch, dtype)


def without_float64(batch, dtype):
    """As on a device that has no float64."""
    with (
        mock.patch("focal_lib._ways.composed.has_float64", lambda _: False),
        mock.patch("focal_lib._ways.way", lambda *_: focal_lib._ways.composed),
    ):
        return with_torch(once, focal_lib.torch, batch, dtype)


@np.errstate(all="ignore")  # the kernels compute with what is not finite
def interpreted(batch, dtype):
    with mock.patch("focal_lib._ways.TRITON_DEVICE", "cpu"):
        return with_torch(once, focal_lib.torch, batch, dtype)


WHOLE = torch.__version__ >= "2.13"  # an older torch compiles the losses in parts alone
eager = Path(partial(with_torch, backward, focal_lib.torch))
composed = Path(partial(with_torch, transforms, focal_lib.torch))
if CUDA:
    PATHS = {
        "torch, CUDA": eager,
        "torch, CUDA, composed": composed,
        "torch, CUDA, compiled": compiled("aot_eager"),
    }
else:
    PATHS = {
        "numpy": Path(with_numpy, ("float32", "float64", "float16")),
        "torch": eager,
        "torch, chunked": Path(without_kernels, DTYPES[:3]),
        "torch, composed": composed,
        "torch, no float64": Path(without_float64, ("float32", *HALF), measures=MEASURES[:2]),
        "torch, compiled": compiled("aot_eager"),
        # its second derivatives are composed
        "torch, Triton interpreter": Path(
            interpreted, measures=MEASURES[:2], gammas=(0.0, 0.5, 2.0, 20.0, 1e3), way="interpreter"
        ),
    }
    if focal_lib._ways.triton is None:
        del PATHS["torch, Triton interpreter"]
PATHS = {name: path for name, path in PATHS.items() if WHOLE or "compiled" not in name}


def peers():
    def peer(sigmoid, softmax):
        library = SimpleNamespace(sigmoid_focal_loss=sigmoid, softmax_focal_loss=softmax)
        return Path(partial(with_torch, backward, library), losses=HARD, gammas=GAMMAS[:8])

    def common_sigmoid(x, y, alpha, **options):
        return torchvision_sigmoid(x, y, -1 if alpha is None else alpha, **options)

    found = {"common formula": peer(common_sigmoid, softmax_of_cross_entropy)}
    try:
        from kornia.losses import binary_focal_loss_with_logits, focal_loss
    except ImportError:
        return found

    def kornia_sigmoid(x, y, **options):  # takes two dimensions or more
        return binary_focal_loss_with_logits(x[:, None], y[:, None], **options)[:, 0]

    def kornia_softmax(x, t, weight, gamma, reduction):
        return focal_loss(x, t, None, gamma, reduction, weight).sum(dim=1)

    return found | {"kornia": peer(kornia_sigmoid, kornia_softmax)}


# --- The figures ----------------------------------------------------------------------------------


class Figures(NamedTuple):
    """Of the cases whose true result (or its scale) is a normal number of the dtype."""

    cases: int = 0
    within: int = 0
    largest: float = 0.0  # error, in eps
    worst: tuple[float, str] = (-1.0, "")  # the largest error as a part of its bound, and the case


def eps(dtype):
    return torch.finfo(getattr(torch, dtype)).eps


def measured(path, loss, dtype):
    """The figures of each measure that the path gives."""
    figures = {measure: Figures() for measure in MEASURES}
    for batch in batches(loss, dtype):
        if batch.options["gamma"] in path.gammas:
            for measure, got in path.run(batch, dtype).items():
                figures[measure] = added(figures[measure], batch, measure, got, dtype)
    return figures


@np.errstate(all="ignore")
def added(figures, batch, measure, got, dtype):
    true, scale, bound = batch.true[measure]
    assert got.shape == true.high.shape, (batch.loss, measure, got.shape)
    info = torch.finfo(getattr(torch, dtype))
    moved = true.exponent - scale.exponent
    gap = np.ldexp(got, -scale.exponent) - np.ldexp(true.high, moved) - np.ldexp(true.low, moved)
    error = np.where(np.isfinite(got), np.abs(gap / scale.high), np.inf) / info.eps
    size = np.abs(np.ldexp(scale.high, scale.exponent))
    # NaN and infinity are misses also where the true result is below the normal numbers.
    counted = (size <= info.max) & ((size >= info.tiny) | np.isinf(error))
    error = np.where(counted, error, 0.0)
    ratio = error / bound
    at = np.unravel_index(ratio.argmax(), ratio.shape)
    worst = figures.worst
    if ratio[at] > worst[0]:
        show = partial(np.array2string, threshold=20, floatmode="unique", max_line_width=10**6)
        options = ", ".join(f"{name}={show(np.asarray(v))}" for name, v in batch.options.items())
        arguments = f"{show(batch.x[at[0]])}, {show(batch.target[at[0]])}, {options}"
        expected = np.ldexp(true.high, true.exponent)[at]
        worst = (
            ratio[at],
            f"{batch.loss}({arguments}), {measure}{[int(j) for j in at[1:]]}: got {got[at]}, "
            f"expected {expected}, error {error[at]:.4g} eps, {ratio[at]:.3g} of the bound",
        )
    counted = np.broadcast_to(counted, error.shape)
    within = int((counted & (ratio <= 1)).sum())
    largest = max(figures.largest, float(error.max()))
    return Figures(figures.cases + int(counted.sum()), figures.within + within, largest, worst)


def as_float32(path, loss, dtype):
    """The share of the values and gradients that are those of float32, rounded."""
    same = []
    for batch in batches(loss, dtype):
        if batch.options["gamma"] in path.gammas:
            half, single = path.run(batch, dtype), path.run(batch, "float32")
            same += [(half[m] == rounded(single[m], dtype)).ravel() for m in MEASURES[:2]]
    return np.concatenate(same).mean()


def percent(share):
    return f"{np.floor(share * 1e4) / 100:g}"  # 100 is all of them


def table(paths):
    yield "loss", "dtype", "path", "cases", *MEASURES, "% within bound", "% as float32"
    for loss, dtype, (name, path) in product(LOSSES, DTYPES, paths.items()):
        if loss in path.losses and dtype in path.dtypes:
            figures = measured(path, loss, dtype).values()
            yield (
                *(loss, dtype, name, str(sum(f.cases for f in figures))),
                *(f"{f.largest:.3g}" if f.cases else "-" for f in figures),
                " / ".join(percent(f.within / f.cases) if f.cases else "-" for f in figures),
                percent(as_float32(path, loss, dtype)) if dtype in HALF else "",
            )


if __name__ == "__main__":
    if asked.device != DEVICE:
        parser.error("--device cuda: torch finds no CUDA device")
    if CUDA and focal_lib._ways.triton is None:
        parser.error("--device cuda: there is no Triton, or an old one")
    has_inductor = WHOLE and (CUDA or shutil.which("g++"))
    inductor = {"torch, inductor": compiled("inductor")} if has_inductor else {}
    chosen = (PATHS | inductor | peers()).items()
    where = f", on {torch.cuda.get_device_name()}" if CUDA else ""
    print(f"The largest error in eps of the dtype, and the share within the bound{where}\n")
    for row in table({k: v for k, v in chosen if all(word in k for word in asked.words)}):
        widths = (14, 9, 25, 8, 9, 9, 9, 21, 0)
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip(), flush=True)
