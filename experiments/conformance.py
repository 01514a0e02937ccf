"""The examination of public focal losses that the field guide draws: what `make conformance` runs.

    python experiments/conformance.py                  every library, each in a process of its own
    python experiments/conformance.py --only kornia    some of them; the rest stays as it is stored

Each library is called by its public name, with its weights off, at the logits (or, where it takes
nothing else, the probabilities) that it documents; its derivatives are those of its own framework.
focal_lib goes through the same. What is measured goes to chapters/data/conformance.json:

    python, platform   what it ran on
    grid               gammas; margins: how many, from, to (binary); classes; rows: how many for
                       each number of classes, from, to (softmax); step and limit of the scan
    libraries[]        package, version, engine ("torch 2.13.0"); by package
    functions[]        one function each, by id:
      id, package, version, function, family ("binary", "softmax"), engine, note
      call, off        the call, f being the function; the options, as set where not examined
      defaults         of those of its options that have a name in common use
      formula          value, gradient, second: whether it is focal loss's, to 1e-3 at logits of at
                       most 2 for every gamma; null: it has none. So what is only inexact is told
                       from what is another loss
      accuracy.DTYPE   float32 and float64: output, the dtype of the result, and for value, gradient
                       and second: null (it has none), {"error": ...}, or
        cases            where the true result is well above underflow
        within_32_eps, within_1e-3   how many of them, by relative error; the second derivative's
                         is relative to the size of its terms, a Hessian's to its largest entry
        zero             how many results are exactly 0 where the true one counts
        nan, inf         how many, of all: every true result is finite
        largest, at      the largest error of a finite result, and its gamma, x, y, got, true
      smallest[]       where the scan, outwards from logit 0, first shows a fault: dtype, gamma,
                       side ("easy": the label's logit is ahead; "hard": it is behind), event, x, y,
                       got, true. Events: value_, gradient_ and second_ with nan (or infinite), zero
                       (where the true one counts), 1pc (off by more; not in the half types).
                       The steps are 1/16, and 1/2 where a function is called item by item
      soft             rule (a name in rules, "rejected" or "other"), x, y, gamma, got (or the
                       error), rules: what each rule gives there. null: no value
      options          null where it has no such option
        gamma_zero_is_cross_entropy, mean_divides_by, reductions, targets (of "indices", "one-hot")
        alpha            the factors at 0.25: positive, negative; or of classes 0, 1, 2
        weight           factors, at 2, 1, 0.5; mean_divides_by
        ignore_index     loss (of the item ignored), mean_divides_by
        label_smoothing  "the expectation"; "cross entropy's at gamma = 0 only"; "another loss"
        half.DTYPE       the dtype of the result, or the error; null: an objective for trees
      bad.CASE         for each case of bad_inputs: null (no such option), or outcome ("error",
                       "value", "nan", "inf"), detail (the error, or the result's shape), got; for
                       infinite logits got is the value and the gradient, and limit says whether
                       they are the limits of the true loss
    left_out[]         package, version, reason
    upstream[]         package, about, url, title, status: threads on these findings, as they stand
                       in a stored copy of the tracker

Numbers are rounded to 5 digits; x is exact. JSON has no NaN: those and infinities are words.
"""

import argparse
import importlib
import inspect
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import mpmath as mp
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from exact import forms

RESULTS = Path(__file__).parents[1] / "chapters" / "data" / "conformance.json"
GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
DTYPES, HALF = ("float32", "float64"), ("float16", "bfloat16")
MEASURES = ("value", "gradient", "second")
CLASSES = (2, 3, 10)
STEP, LIMIT = 1 / 16, 100.0  # of the scan; its logits are exact in every dtype but bfloat16
# The least number that is asked for: 2^10 times the least normal one, so that no flush to 0 counts.
TINY = {"float32": 2.0**-116, "float64": 2.0**-1012, "float16": 2.0**-14, "bfloat16": 2.0**-116}
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}


# --- True values ----------------------------------------------------------------------------------


def plain(z: Any, gamma: float) -> tuple[Any, Any, Any, Any]:
    """What `forms` gives, in float64: for what is off by 1%."""
    z = np.asarray(z, float)
    u, log_q = np.logaddexp(0, -z), -np.logaddexp(0, z)
    p, q, power = np.exp(-u), np.exp(log_q), np.exp(gamma * log_q)
    second = p * power * ((1 + 2 * gamma) * q - gamma * (q - gamma * p) * u)
    scale = p * power * ((1 + 2 * gamma) * q + gamma * (1 + (1 + gamma) * p) * u)
    return power * u, -power * (q + gamma * p * u), second, scale


class Truth(NamedTuple):
    """Inputs and results of a grid, at one gamma; scale is what the second is measured against."""

    x: Any
    y: Any
    value: Any
    gradient: Any
    second: Any
    scale: Any


@cache
def margins() -> Any:
    """Margins, dense where the naive formulas give out; exact in float32, not in half types."""
    half = np.concatenate([np.linspace(0.1, 20, 60), np.linspace(21, 100, 40)]).astype(np.float32)
    return np.concatenate([-half[::-1], half]).astype(float)


def binary_at(x: Any, y: Any, gamma: float) -> Truth:
    signs = 2 * y - 1
    with mp.workdps(60):
        parts = [[float(v) for v in forms(mp.mpf(z), gamma)] for z in x * signs]
    value, slope, second, scale = np.array(parts).T
    return Truth(x, y, value, slope * signs, second, scale)


def softmax_at(x: Any, y: Any, gamma: float) -> Truth:
    results = []
    for row, t in zip(x, y, strict=True):
        with mp.workdps(60):
            e = [mp.exp(mp.mpf(v) - row[t]) for v in row]
            e[t] = mp.mpf(0)
            others = mp.fsum(e)
            r = np.array([v / others for v in e])
            value, slope, bend, _ = forms(-mp.log(others), gamma)
            v = -r
            v[t] = mp.mpf(1)
            hessian = np.outer(v, v) * bend
            for j in range(len(row)):
                for k in range(len(row)):
                    if t not in (j, k):
                        rest = mp.fsum(np.delete(e, [j, t])) / others
                        hessian[j, k] -= slope * (r[j] * rest if j == k else -r[j] * r[k])
            results.append([np.asarray(a).astype(float) for a in (value, v * slope, hessian)])
    value, gradient, hessian = (np.array(part) for part in zip(*results, strict=True))
    scale = np.abs(hessian).max(axis=(1, 2), keepdims=True) * np.ones_like(hessian)
    return Truth(x, y, value, gradient, hessian, scale)


@cache
def binary_truth(gamma: float, thin: int = 1) -> Truth:
    z = margins()[::thin]
    return binary_at(np.concatenate([z, -z]), np.repeat([1.0, 0.0], len(z)), gamma)


@cache
def softmax_truth(gamma: float, classes: int, thin: int = 1) -> Truth:
    """Rows with one logit ahead of or behind the others, all multiples of 1/16, so that differences
    of logits are exact: what is measured is the loss, not the rounding of a margin."""
    rng, rows, labels = np.random.default_rng(classes), [], []
    for i, margin in enumerate(np.linspace(-100, 100, 81)[::thin]):
        row, t = np.round(rng.normal(0, 1, classes) * 16) / 16, i % classes
        row[t] = np.delete(row, t).max() + margin
        rows.append(row)
        labels.append(t)
    return softmax_at(np.array(rows), np.array(labels), gamma)


def truths(family: str, gamma: float, thin: int) -> list[Truth]:
    if family == "binary":
        return [binary_truth(gamma, thin)]
    return [softmax_truth(gamma, classes, thin) for classes in CLASSES]


# --- Rules for soft targets -----------------------------------------------------------------------


def f(log_p: Any, q: Any, gamma: float) -> Any:
    return q**gamma * -log_p


def binary_rules(x: float, y: float, g: float) -> dict[str, float]:
    p = 1 / (1 + math.exp(-x))
    ce = -y * math.log(p) - (1 - y) * math.log(1 - p)
    return {
        "expectation": y * f(math.log(p), 1 - p, g) + (1 - y) * f(math.log(1 - p), p, g),
        "p_t interpolated": (1 - (p * y + (1 - p) * (1 - y))) ** g * ce,
        "|y - p|": abs(y - p) ** g * ce,
        "p_t = exp(-CE)": (1 - math.exp(-ce)) ** g * ce,
        "sigmoid(-(2y - 1) x)": (1 + math.exp((2 * y - 1) * x)) ** -g * ce,
        "geometric": (p ** (1 - y) * (1 - p) ** y) ** g * ce,
        "modulator of y = 1": (1 - p) ** g * ce,
        "target cast to an integer": f(math.log(1 - p), p, g),
        "CE in place of p_t": (1 - ce) ** g * ce,
    }


def softmax_rules(x: Any, y: Any, g: float) -> dict[str, float]:
    p = np.exp(x) / np.exp(x).sum()
    ce, k = float(-(y * np.log(p)).sum()), y.argmax()
    return {
        "expectation": float((y * f(np.log(p), 1 - p, g)).sum()),
        "p_t interpolated": float((1 - (y * p).sum()) ** g * ce),
        "|y - p|": float(abs(y[k] - p[k]) ** g * ce),
        "p_t = exp(-CE)": (1 - math.exp(-ce)) ** g * ce,
        "CE in place of p_t": (1 - ce) ** g * ce,
    }


# --- What is examined -----------------------------------------------------------------------------


class Function(NamedTuple):
    """`call` is evaluated, with f the function or class of that name; `off` are the options that it
    names, as they are set where an option is not examined: no weights, a loss for each item."""

    package: str
    family: str
    name: str
    engine: str
    off: str
    call: str
    note: str
    onehot: bool  # takes class targets as rows of 0 and 1
    single: bool  # has no reduction "none", and is called item by item

    def load(self) -> tuple[Any, Any]:
        """f, and loss(x, y, gamma, **options)."""
        if self.engine == "torch":
            make_torchvision_importable()
        module, _, name = self.name.rpartition(".")
        if module.startswith("focal_loss."):  # two packages have it: its __init__ is of either
            stub = types.ModuleType("focal_loss")
            stub.__path__ = [f"{folder}/focal_loss" for folder in sys.path]
            sys.modules["focal_loss"] = stub
        f = getattr(importlib.import_module(module), name)
        known = {"f": f, "beside": beside, "whole": whole, "matrix": matrix}
        return f, eval(f"lambda x, y, gamma, {self.off}: {self.call}", known)


def functions(text: str) -> list[Function]:
    """Of a table as below: a line for what it is, and one (with what continues it) a part."""
    found = []
    for row in re.split(r"\n(?! )", text.strip()):
        first, *parts = re.split(r"\n {4}(?! )", row)
        package, family, name, *words = first.split("; ")
        flags = " ".join(words).split()
        engine = next((word for word in flags if word in ENGINES), "torch")
        given = {"off": "", "note": ""}
        given |= dict(" ".join(part.split()).split(": ", 1) for part in parts)
        kinds = {kind: kind in flags for kind in ("onehot", "single")}
        found.append(Function(package, family, name, engine, **given, **kinds))
    return found


def make_torchvision_importable() -> None:
    """Its wheel is made for torch with CUDA. Beside another torch its compiled operators are
    missing, and the import fails where it describes them; the focal loss is Python."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        sys.modules["torchvision._meta_registrations"] = types.ModuleType("stub")
    except ModuleNotFoundError:
        pass  # not asked for


def beside(x: Any, value: float) -> Any:
    """One more item, of this value."""
    import torch

    return torch.cat([x, x.new_full((1,), value)])


def whole(y: Any) -> Any:
    """Labels as integers, where a library takes those alone; what is not whole goes in as it is."""
    return y.long() if bool((y == y.round()).all()) else y


def matrix(y: Any) -> Any:
    """What an objective of XGBoost asks for its labels."""
    return types.SimpleNamespace(get_label=lambda: y)


FUNCTIONS = """
focal_lib; binary; focal_lib.torch.sigmoid_focal_loss
    off: alpha=None, reduction='none'
    call: f(x, y, alpha, gamma, reduction)
focal_lib; softmax; focal_lib.torch.softmax_focal_loss
    off: weight=None, ignore_index=-100, reduction='none', label_smoothing=0.0
    call: f(x, y, weight, gamma=gamma, ignore_index=ignore_index, reduction=reduction,
        label_smoothing=label_smoothing)
torchvision; binary; torchvision.ops.sigmoid_focal_loss
    off: alpha=-1, reduction='none'
    call: f(x, y, alpha, gamma, reduction)
fvcore; binary; fvcore.nn.sigmoid_focal_loss
    off: alpha=-1, reduction='none'
    call: f(x, y, alpha, gamma, reduction)
kornia; binary; kornia.losses.binary_focal_loss_with_logits
    off: alpha=None, reduction='none', ignore_index=-100
    call: f(x[:, None], y[:, None], alpha, gamma, reduction, ignore_index=ignore_index)
kornia; softmax; kornia.losses.focal_loss
    off: alpha=None, reduction='none', weight=None, ignore_index=-100
    call: f(x, y, alpha, gamma, reduction, weight, ignore_index)
monai; binary; monai.losses.FocalLoss
    off: alpha=None, reduction='none', ignore_index=None
    call: f(gamma=gamma, alpha=alpha, reduction=reduction, ignore_index=ignore_index)(x[:, None],
        y[:, None])
monai; softmax; monai.losses.FocalLoss
    off: alpha=None, weight=None, reduction='none', ignore_index=None
    call: f(gamma=gamma, alpha=alpha, weight=weight, reduction=reduction,
        ignore_index=ignore_index, use_softmax=True, to_onehot_y=y.ndim < x.ndim)
        (x, y if y.ndim == x.ndim else y[:, None])
    note: Takes class indices with a class axis of length 1, and to_onehot_y=True.
keras; binary; keras.losses.binary_focal_crossentropy
    off: alpha=None, label_smoothing=0.0
    call: f(y[..., None], x[..., None], alpha is not None, alpha, gamma, True, label_smoothing)
    note: On its torch backend; from_logits=True. alpha counts with apply_class_balancing=True. It
        means over the last axis, of length 1 here.
keras; softmax; keras.losses.categorical_focal_crossentropy; onehot
    off: alpha=1.0, weight=None, label_smoothing=0.0
    call: f(y, x, alpha if weight is None else weight, gamma, True, label_smoothing)
    note: On its torch backend; from_logits=True. Its alpha may be a list, the weights.
optax; binary; optax.losses.sigmoid_focal_loss; jax
    off: alpha=None
    call: f(x, y, alpha=alpha, gamma=gamma)
segmentation-models-pytorch; binary; segmentation_models_pytorch.losses.FocalLoss
    off: alpha=None, reduction='none', ignore_index=None
    call: f('binary', alpha, gamma, ignore_index, reduction=reduction)(x, y)
    note: mode='multiclass' is this loss on each class's logit, one against the rest.
transformers; binary; transformers.loss.loss_for_object_detection.sigmoid_focal_loss; single
    off: alpha=-1
    call: f(x[:, None], y[:, None], 1, alpha, gamma)
    note: The loss of its DETR models. It means over axis 1, and divides by num_boxes, 1 here.
pytorch-toolbelt; binary; pytorch_toolbelt.losses.functional.focal_loss_with_logits
    off: alpha=None, reduction='none', ignore_index=None
    call: f(x, y, gamma, alpha, reduction, ignore_index=ignore_index)
pytorch-toolbelt; softmax; pytorch_toolbelt.losses.functional.softmax_focal_loss_with_logits
    off: weight=None, reduction='none', ignore_index=-100
    call: f(x, y, weight, gamma, reduction, ignore_index=ignore_index)
    note: The cross entropy in it is the binary one of each logit; only the factor has the
        softmax.
catalyst; binary; catalyst.contrib.losses.FocalLossBinary
    off: alpha=None, reduction='none', ignore_index=None
    call: f(ignore_index, gamma=gamma, alpha=alpha, reduction=reduction)(x, y)
    note: FocalLossMultiClass is this loss on each class's logit, one against the rest.
focal-loss; binary; focal_loss._binary_focal_loss.binary_focal_loss; tensorflow
    off: label_smoothing=None
    call: f(y, x, gamma, from_logits=True, label_smoothing=label_smoothing)
focal-loss; softmax; focal_loss._categorical_focal_loss.sparse_categorical_focal_loss; tensorflow
    off: weight=None
    call: f(y, x, gamma, class_weight=weight, from_logits=True)
focal-loss-torch; binary; focal_loss.focal_loss.FocalLoss
    off: reduction='none', ignore_index=-100
    call: f(gamma, None, reduction, ignore_index)(x.sigmoid(), whole(y))
    note: Takes probabilities. Its module has the name of the package focal-loss's.
focal-loss-torch; softmax; focal_loss.focal_loss.FocalLoss
    off: weight=None, reduction='none', ignore_index=-100
    call: f(gamma, weight, reduction, ignore_index)(x.softmax(-1), y)
    note: Takes probabilities.
balanced-loss; binary; balanced_loss.losses.focal_loss; single
    call: f(beside(x, 200), beside(y, 1), gamma=gamma) * (y.sum() + 1)
    note: It divides the sum of the losses by the sum of the labels, infinite where all are 0: so
        a positive at logit 200 stands beside each item, and that sum is multiplied out.
cbloss; binary; cbloss.loss.FocalLoss
    off: alpha=1, reduction='none'
    call: f(2, alpha, gamma, reduction)(x, y)
cbloss; softmax; cbloss.loss.FocalLoss
    off: alpha=1, reduction='none'
    call: f(x.shape[-1] + 1, alpha, gamma, reduction)(x, y)
    note: num_classes=2 is the binary loss, so two logits are called three classes here.
imbalanced-losses; binary; imbalanced_losses.SigmoidFocalLoss
    off: alpha=-1, reduction='none'
    call: f(alpha, gamma, reduction)(x, y)
imbalanced-losses; softmax; imbalanced_losses.SoftmaxFocalLoss
    off: weight=None, reduction='none', label_smoothing=0.0, ignore_index=-100
    call: f(weight, gamma, reduction, label_smoothing, ignore_index)(x, y)
focal-ce-loss; binary; focal_ce_loss.BFCELoss
    off: alpha=1, reduction='none'
    call: f(False, alpha, gamma, reduction=reduction)(x.sigmoid(), y)
    note: Takes probabilities. What it calls p_t is the cross entropy.
focal-ce-loss; softmax; focal_ce_loss.FocalCELoss
    off: alpha=1, weight=None, reduction='none', label_smoothing=0.0
    call: f(False, alpha, gamma, label_smoothing, -1, reduction, weight)(x, y)
    note: Takes logits. What it calls p_t is the cross entropy.
pytorch-focalloss; binary; torch_focalloss.BinaryFocalLoss
    off: alpha=None, reduction='none'
    call: f(gamma, None if alpha is None else x.new_tensor(alpha), reduction)(x, y)
    note: Its alpha is the weight of the positive class alone, as it documents.
pytorch-focalloss; softmax; torch_focalloss.MultiClassFocalLoss
    off: weight=None, reduction='none', ignore_index=-100, label_smoothing=0.0
    call: f(gamma, weight, reduction, ignore_index, label_smoothing)(x, y)
    note: With probabilities for targets, a batch of one item raises IndexError.
torchlosses; softmax; torchlosses.FocalLoss; single
    off: alpha=1.0, reduction='sum'
    call: f(alpha, gamma, reduction)(x, y)
imbalance-xgboost; binary; imxgboost.focal_loss.Focal_Binary_Loss; objective
    call: f(gamma).focal_binary_object(x, matrix(y))
    note: An objective of XGBoost: the gradient and the Hessian, no value.
imlightgbm; binary; imlightgbm.objective.binary_focal_objective; objective
    call: f(y, x, gamma)
    note: An objective of LightGBM: the gradient and the Hessian, no value.
imlightgbm; softmax; imlightgbm.objective.multiclass_focal_objective; objective
    call: f(y, x, gamma, x.shape[1])
    note: An objective of LightGBM: the gradient and the Hessian's diagonal, no value.
"""

LEFT_OUT = [
    ("detectron2", None, "Not on PyPI. Its focal loss is fvcore's."),
    ("paddlepaddle", "3.3.1", "A framework of 0.7 GB for one function, with an engine of its own."),
    ("ultralytics", "8.4.190", "A trainer of detectors; its import needs matplotlib and polars."),
    ("mmcv", None, "No wheel on PyPI; its focal loss is a compiled operator."),
    ("mmdet", "3.3.0", "Its focal loss needs mmcv's compiled operators."),
    (
        "tensorflow-addons",
        "0.23.0",
        "Its import fails with Keras 3, and it is no longer developed.",
    ),
    (
        "focalloss4keras",
        "0.0.3",
        "Installs the module name focal_loss, which is that of the package focal-loss, and needs "
        "distutils, which Python 3.12 has not.",
    ),
    ("focal-loss-pytorch", "0.0.3", "Its wheel holds no module."),
    ("robustloss-lab", "2.1.7", "A runner of experiments; its import needs pandas and matplotlib."),
    ("unified-focal-loss-pytorch", "0.1.2", "Another loss, of Dice and cross entropy."),
]

# --- Calls, in each framework ---------------------------------------------------------------------


class Engine(NamedTuple):
    """measures(loss, x, order): MEASURES up to that order, as arrays of float64 or the error of
    one, and the dtype of the result."""

    package: str
    tensor: Callable[..., Any]
    measures: Callable[..., dict[str, Any]]


def attempt(make: Callable[[], Any]) -> Any:
    """What it gives, or "Name: first line" of its error."""
    try:
        return make()
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        said = re.sub(r"^{{.*?}} ", "", " ".join(lines[0].split()))  # TensorFlow's node
        return f"{type(error).__name__}: {said[:100]}".rstrip(": ")


def in_torch() -> Engine:
    import torch

    def tensor(values: Any, dtype: str) -> Any:
        return torch.tensor(np.asarray(values), dtype=getattr(torch, dtype))

    def measures(loss: Any, x: Any, order: int) -> dict[str, Any]:
        value = loss(x.requires_grad_())
        got = {"value": value}
        if order > 0:
            got["gradient"] = attempt(lambda: torch.autograd.grad(value.sum(), x)[0])

        def second() -> Any:
            (slope,) = torch.autograd.grad(loss(x).sum(), x, create_graph=True)
            parts = slope.reshape(len(x), -1).unbind(1)
            rows = [torch.autograd.grad(part.sum(), x, retain_graph=True)[0] for part in parts]
            return torch.stack(rows, -1).reshape(*x.shape, *x.shape[1:])

        if order > 1:
            got["second"] = attempt(second)
        got["dtype"] = str(value.dtype).removeprefix("torch.")
        return {
            k: v.detach().double().numpy() if hasattr(v, "detach") else v for k, v in got.items()
        }

    return Engine("torch", tensor, measures)


def in_jax() -> Engine:
    import jax

    jax.config.update("jax_enable_x64", True)

    def tensor(values: Any, dtype: str) -> Any:
        return jax.numpy.asarray(np.asarray(values), dtype=dtype)

    def measures(loss: Any, x: Any, order: int) -> dict[str, Any]:
        def slope(x: Any) -> Any:
            return jax.grad(lambda x: loss(x).sum())(x)

        value = loss(x)
        got = {"value": value}
        if order > 0:
            got["gradient"] = attempt(lambda: slope(x))
        if order > 1:  # of binary losses: no library here has a softmax one
            got["second"] = attempt(lambda: jax.grad(lambda x: slope(x).sum())(x))
        got = {k: v if isinstance(v, str) else np.asarray(v, float) for k, v in got.items()}
        return got | {"dtype": str(value.dtype)}

    return Engine("jax", tensor, measures)


def in_tensorflow() -> Engine:
    import tensorflow as tf

    def tensor(values: Any, dtype: str) -> Any:
        return tf.cast(tf.constant(np.asarray(values)), dtype)

    def measures(loss: Any, x: Any, order: int) -> dict[str, Any]:
        value = loss(x)
        got = {"value": value}
        if order == 0:
            return {"value": np.asarray(value, float), "dtype": value.dtype.name}
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                total = tf.reduce_sum(loss(x))
            slope = inner.gradient(total, x)
            parts = [slope] if len(x.shape) < 2 else tf.unstack(slope, axis=1)
        got["gradient"] = slope
        if order > 1:
            rows = [outer.gradient(part, x) for part in parts]
            got["second"] = rows[0] if len(x.shape) < 2 else tf.stack(rows, -1)
        return {k: np.asarray(v, float) for k, v in got.items()} | {"dtype": value.dtype.name}

    return Engine("tensorflow", tensor, measures)


def of_objectives() -> Engine:
    def measures(loss: Any, x: Any, order: int) -> dict[str, Any]:
        gradient, second = (np.asarray(v, float) for v in loss(x))
        return {"gradient": gradient, "second": second, "dtype": str(loss(x)[0].dtype)}

    return Engine("numpy", lambda values, dtype: np.asarray(values).astype(dtype), measures)


ENGINES = {
    "torch": in_torch,
    "jax": in_jax,
    "tensorflow": in_tensorflow,
    "objective": of_objectives,
}


class Examiner:
    """A function and its engine: calls it, and says what came of it."""

    def __init__(self, function: Function) -> None:
        self.function, self.engine = function, ENGINES[function.engine]()
        self.target, self.loss = function.load()
        self.binary = function.family == "binary"
        self.options = list(inspect.signature(self.loss).parameters)[3:]

    def call(self, x, y, gamma=2.0, dtype="float32", order=0, raw=False, onehot=None, **options):
        """The measures up to an order, as arrays of float64, and the dtype of the result. raw: the
        result as it is, not one loss an item."""
        f, x = self.function, self.engine.tensor(x, dtype)
        y = np.asarray(y)
        if not self.binary and y.dtype.kind == "i":
            if f.onehot if onehot is None else onehot:
                y = np.eye(x.shape[1])[y]
        y = self.engine.tensor(y, dtype if self.binary or y.dtype.kind == "f" else "int64")
        if "weight" in options:
            options["weight"] = self.engine.tensor(options["weight"], dtype)

        def loss(x: Any) -> Any:
            if f.single and not raw:
                import torch

                parts = [
                    self.loss(x[i : i + 1], y[i : i + 1], gamma, **options) for i in range(len(x))
                ]
                return torch.stack([part.reshape(()) for part in parts])
            value = self.loss(x, y, gamma, **options)
            if raw or f.engine != "torch" or value.ndim < 2:
                return value
            return value.reshape(x.shape) if self.binary else value.sum(1)

        with np.errstate(all="ignore"):
            return self.engine.measures(loss, x, order)

    def report(self, thin: int = 1) -> dict[str, Any]:
        f = self.function
        return {
            "id": f"{f.package}.{f.family}",
            "package": f.package,
            "version": version(f.package),
            "function": f.name,
            "family": f.family,
            "call": f.call,
            "off": f.off,
            "note": f.note,
            "engine": f"{self.engine.package} {version(self.engine.package)}",
            "defaults": self.defaults(),
            "formula": self.formula(),
            "accuracy": {dtype: self.accuracy(dtype, thin) for dtype in DTYPES},
            "smallest": self.smallest(thin),
            "soft": self.soft(),
            "options": self.offered(),
            "bad": self.bad(),
        }

    def defaults(self) -> dict[str, Any]:
        shown = ("gamma", "alpha", "reduction", "weight", "label_smoothing", "ignore_index", "eps")
        parameters = inspect.signature(self.target).parameters.items()
        given = {k: p.default for k, p in parameters if k in shown and p.default is not p.empty}
        return {
            k: v if isinstance(v, (int, float, type(None))) else str(v) for k, v in given.items()
        }

    # Accuracy

    def formula(self) -> dict[str, bool | None]:
        """Whether it is focal loss at all: to 1e-3, at logits of 2 and less."""
        (x, y), same = self.example(), dict.fromkeys(MEASURES)
        for gamma in GAMMAS:
            truth = (binary_at if self.binary else softmax_at)(x, y, gamma)
            got = attempt(partial(self.call, x, y, gamma, order=2))
            for measure in MEASURES if not isinstance(got, str) else ():
                figures = Figures()
                figures.add(truth, measure, got.get(measure), gamma, "float32")
                if (counts := figures.report()) and "error" not in counts:
                    near = counts["within_1e-3"] == counts["cases"]
                    same[measure] = near and same[measure] is not False
        return same

    def accuracy(self, dtype: str, thin: int) -> dict[str, Any]:
        output, figures = None, {m: Figures() for m in MEASURES}
        for gamma in GAMMAS:
            for truth in truths(self.function.family, gamma, thin):
                got = attempt(partial(self.call, truth.x, truth.y, gamma, dtype, 2))
                if isinstance(got, str):
                    return {"output": None, **{m: {"error": got} for m in MEASURES}}
                output = got["dtype"]
                for measure in MEASURES:
                    figures[measure].add(truth, measure, got.get(measure), gamma, dtype)
        return {"output": output, **{m: figures[m].report() for m in MEASURES}}

    # The smallest inputs that show a fault

    def smallest(self, thin: int) -> list[dict[str, Any]]:
        found = []
        z = np.arange(STEP, LIMIT + STEP, STEP * thin)
        for dtype in DTYPES if self.function.engine == "objective" else (*DTYPES, *HALF):
            for gamma in GAMMAS if dtype in DTYPES else (0.5, 2.0):
                for side in ("easy", "hard"):
                    scanned = attempt(partial(self.scan, z if side == "easy" else -z, gamma, dtype))
                    if not isinstance(scanned, str):
                        head = {"dtype": dtype, "gamma": gamma, "side": side}
                        found += [head | event for event in scanned]
        return found

    def scan(self, z: Any, gamma: float, dtype: str) -> list[dict[str, Any]]:
        z = z[7::8] if self.function.single else z  # it is slow
        if dtype in HALF:  # numbers of 8 bits
            mantissa, exponent = np.frexp(z)
            z = np.ldexp(np.round(mantissa * 256) / 256, exponent)
        value, slope, second, scale = plain(z if self.binary else z - np.log(2), gamma)
        if self.binary:  # both labels at each logit
            signs = np.tile([1, -1], len(z))
            x, y = np.repeat(z, 2) * signs, np.tile([1.0, 0.0], len(z))
            value, second, scale = (np.repeat(v, 2) for v in (value, second, scale))
            gradient = np.repeat(slope, 2) * signs
        else:
            x, y = np.outer(z, [1.0, 0, 0]) + 0.0, np.zeros(len(z), int)
            gradient = np.outer(slope, [1, -0.5, -0.5])
        got, events = self.call(x, y, gamma, dtype, 2), []
        true = {
            "value": (value, value),
            "gradient": (gradient, gradient),
            "second": (second, scale),
        }
        for measure, (expected, size) in true.items():
            found = got.get(measure)
            if found is None or isinstance(found, str):
                continue
            wrong = {"nan": ~np.isfinite(found)}
            if measure == "second" and not self.binary:  # by the label's logit, as f''
                found = found[:, 0] if found.ndim == 2 else found[:, 0, 0]
            counts = (np.abs(size) >= TINY[dtype]) & np.isfinite(found)
            wrong["zero"] = counts & (found == 0) & (np.abs(expected) > 0.01 * np.abs(size))
            if dtype in DTYPES:
                wrong["1pc"] = counts & (np.abs(found - expected) > 0.01 * np.abs(size))
            for event, where in wrong.items():
                if where.any():
                    i = tuple(np.argwhere(where)[0])
                    here = {"x": x[i[0]].tolist(), "y": y[i[0]].item()}
                    if event != "nan":
                        here |= {"got": digits(found[i]), "true": digits(expected[i])}
                    events.append({"event": f"{measure}_{event}"} | here)
        return events

    # The rule for soft targets

    def soft(self) -> dict[str, Any] | None:
        if self.function.engine == "objective":
            return None
        gamma, tolerance = 2.0, {"float64": 1e-6, "float32": 1e-4}
        x: Any = 0.75 if self.binary else np.array([0.5, -0.25, 1.0])
        y: Any = 0.3 if self.binary else np.array([0.6, 0.3, 0.1])
        rules = (binary_rules if self.binary else softmax_rules)(x, y, gamma)
        made: Any = None
        for dtype in ("float64", "float32"):
            made = attempt(partial(self.call, np.array([x, x]), np.array([y, y]), gamma, dtype))
            if not isinstance(made, str):
                got = made["value"][0]
                near = [r for r, v in rules.items() if abs(got - v) <= tolerance[dtype] * v]
                rule = near[0] if near else "other"
                if near or made["dtype"] == dtype:
                    break
        else:
            if isinstance(made, str):
                rule, got = "rejected", made
        at = {"x": np.asarray(x).tolist(), "y": np.asarray(y).tolist(), "gamma": gamma}
        kept = got if isinstance(got, str) else digits(got)
        return {"rule": rule, **at, "got": kept, "rules": {k: digits(v) for k, v in rules.items()}}

    # Options

    def example(self) -> tuple[Any, Any]:
        if self.binary:
            return np.array([0.5, -1.0, 2.0, 0.25]), np.array([1.0, 0.0, 1.0, 0.0])
        rows = [[0.5, -1.0, 0.0], [1.0, 0.25, -0.5], [0.0, 0.0, 0.75], [-1.5, 0.5, 0.5]]
        return np.array(rows), np.array([0, 1, 2, 1])

    def values(self, x: Any, y: Any, gamma: float = 2.0, **options: Any) -> Any:
        """One loss an item; the error, if there is one."""
        got = attempt(lambda: self.call(x, y, gamma, **options))
        return got if isinstance(got, str) else got.get("value")

    def divisor(self, total: float, x: Any, y: Any, names: dict[str, float], **options: Any) -> Any:
        """What the mean divides the sum by."""
        if "reduction" not in self.options:
            return None
        mean = attempt(lambda: self.call(x, y, raw=True, reduction="mean", **options)["value"])
        if isinstance(mean, str):
            return None
        near = [k for k, v in names.items() if abs(total / mean.item() - v) < 1e-3 * v]
        return near[0] if near else "other"

    def offered(self) -> dict[str, Any]:
        x, y = self.example()
        plain_values, names = self.values(x, y), {"items": 4.0}
        names |= {} if self.binary else {"items times classes": 12.0}
        report: dict[str, Any] = {"gamma_zero_is_cross_entropy": self.starts_from_cross_entropy()}
        keys = ("alpha", "weight", "ignore_index", "label_smoothing", "reductions")
        report |= dict.fromkeys((*keys, "mean_divides_by", "targets"))
        report["half"] = dict.fromkeys(HALF)
        if self.function.engine == "objective":
            return report
        report["half"] = {d: self.half(d) for d in HALF}
        first, total = ([0, 1] if self.binary else [0, 1, 2]), plain_values.sum()
        if "alpha" in self.options:
            factors = self.values(x, y, alpha=0.25)
            if not isinstance(factors, str):
                names_of = ("positive", "negative") if self.binary else ("0", "1", "2")
                ratios = (factors / plain_values)[first]
                report["alpha"] = {n: digits(r) for n, r in zip(names_of, ratios, strict=True)}
            else:
                report["alpha"] = {"error": factors}
        if "weight" in self.options:
            factors = self.values(x, y, weight=[2.0, 1.0, 0.5])
            if isinstance(factors, str):
                report["weight"] = {"error": factors}
            else:
                weighed = {"total weight": 4.5, **names}
                divisor = self.divisor(factors.sum(), x, y, weighed, weight=[2.0, 1.0, 0.5])
                ratios = [digits(r) for r in (factors / plain_values)[first]]
                report["weight"] = {"factors": ratios, "mean_divides_by": divisor}
        if "ignore_index" in self.options:
            ignored = np.array([*y[:3], -100]).astype(y.dtype)
            got = self.values(x, ignored, ignore_index=-100)
            if isinstance(got, str):
                report["ignore_index"] = {"error": got}
            else:
                kept = {"kept items": 3.0, **names}
                divisor = self.divisor(got[:3].sum(), x, ignored, kept, ignore_index=-100)
                loss = digits(got[3]) if len(got) > 3 else "left out"
                report["ignore_index"] = {"loss": loss, "mean_divides_by": divisor}
        if "label_smoothing" in self.options:
            report["label_smoothing"] = self.smoothing()
        if "reduction" in self.options:
            tried = {
                r: attempt(partial(self.call, x, y, raw=True, reduction=r)) for r in REDUCTIONS
            }
            report["reductions"] = [r for r, got in tried.items() if not isinstance(got, str)]
            report["mean_divides_by"] = self.divisor(total, x, y, names)
        if not self.binary:
            report["targets"] = []
            for kind, onehot in (("indices", False), ("one-hot", True)):
                got = self.values(x, y, onehot=onehot)
                if not isinstance(got, str) and np.allclose(got, plain_values, rtol=1e-4):
                    report["targets"].append(kind)
        return report

    def starts_from_cross_entropy(self) -> bool:
        x, y = self.example()
        if self.binary:
            z = x * (2 * y - 1)
            gradient = -(2 * y - 1) / (1 + np.exp(z))
        else:
            p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
            gradient = p - np.eye(3)[y]
        got = attempt(partial(self.call, x, y, 0.0, order=1))
        return not isinstance(got, str) and bool(np.allclose(got["gradient"], gradient, rtol=1e-4))

    def smoothing(self) -> str:
        """At gamma = 0, against the cross entropy of the smoothed target; then at 2."""
        x, y = self.example()
        classes = 2 if self.binary else 3
        both = np.stack([np.zeros_like(x), x], 1) if self.binary else x
        log_p = both - np.log(np.exp(both).sum(1, keepdims=True))
        target = 0.8 * np.eye(classes)[y.astype(int)] + 0.2 / classes
        for gamma in (0.0, 2.0):
            got = self.values(x, y, gamma, label_smoothing=0.2)
            if isinstance(got, str):
                return got
            true = (target * (1 - np.exp(log_p)) ** gamma * -log_p).sum(1)
            if not np.allclose(got, true, rtol=1e-4):
                return "another loss" if gamma == 0 else "cross entropy's at gamma = 0 only"
        return "the expectation"

    def half(self, dtype: str) -> str:
        x, y = self.example()
        got = attempt(partial(self.call, x, y, dtype=dtype, order=1))
        return got if isinstance(got, str) else got["dtype"]

    # Bad input

    def bad(self) -> dict[str, Any]:
        return {case: self.outcome(case, *given) for case, given in bad_inputs(self).items()}

    def outcome(self, case: str, x: Any, y: Any, options: dict[str, Any], limit: Any) -> Any:
        if set(options) - {"gamma", *self.options}:
            return None
        order = 0 if limit is None else 1
        got = attempt(lambda: self.call(x, y, order=order, raw=limit is None, **options))
        if isinstance(got, str):
            return {"outcome": "error", "detail": got}
        result = got.get("value", got.get("gradient"))
        shape = f"shape {tuple(result.shape)}"
        outcome = "value" if np.isfinite(result).all() else "inf"
        outcome = "nan" if np.isnan(result).any() else outcome
        report = {
            "outcome": outcome,
            "detail": shape,
            "got": [digits(v) for v in result.ravel()[:4]],
        }
        if limit is not None:
            parts = [got[m].ravel() for m in MEASURES[:2] if not isinstance(got.get(m, ""), str)]
            want = limit if "value" in got else limit[1:]
            limits = [np.array_equal(a, np.ravel(b)) for a, b in zip(parts, want, strict=False)]
            report["limit"] = len(parts) == len(want) and all(limits)
            report["got"] = [digits(v) for part in parts for v in part]
        return report


REDUCTIONS = ("none", "mean", "sum")


def bad_inputs(examiner: Examiner) -> dict[str, tuple[Any, Any, dict[str, Any], Any]]:
    """x, y, options, and for infinite logits the limits of the value and the gradient."""
    x, y = examiner.example()
    infinite, never = math.inf, None
    if examiner.binary:
        above, below = y.copy(), y.copy()
        above[0], below[0] = 2, -1
        shapes, cases = (x[:, None], y), {"alpha_2": (x, y, {"alpha": 2.0}, never)}
        right = np.array([infinite]), np.array([1.0]), {}, (0.0, 0.0)
        wrong = np.array([-infinite]), np.array([1.0]), {}, (infinite, -1.0)
    else:
        above, below = np.array([3, 1, 2, 1]), np.array([-1, 1, 2, 1])
        if examiner.function.onehot:
            above = below = np.eye(3)[y]
            above, below = above * [[2.0], [1], [1], [1]], below * [[-1.0], [1], [1], [1]]
        shapes = x, (np.eye(3)[y][:1] if examiner.function.onehot else y[:, None])
        cases = {"weight_negative": (x, y, {"weight": [-1.0, 1.0, 1.0]}, never)}
        row = np.array([[infinite, 0.0, 0.0]])
        right = row, np.array([0]), {}, (0.0, np.zeros(3))
        wrong = row, np.array([1]), {}, (infinite, [1.0, -1.0, 0.0])
    cases |= {
        "gamma_negative": (x, y, {"gamma": -1.0}, never),
        "gamma_nan": (x, y, {"gamma": math.nan}, never),
        "target_above": (x, above, {}, never),
        "target_below": (x, below, {}, never),
        "shapes_broadcast": (*shapes, {}, never),
        "empty": (x[:0], y[:0], {}, never),
        "empty_mean": (x[:0], y[:0], {"reduction": "mean"}, never),
        "infinite_right": right,
        "infinite_wrong": wrong,
    }
    return dict(sorted(cases.items()))


class Figures:
    """Counts of one measure; see the module's docstring."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = dict.fromkeys(
            ("cases", "within_32_eps", "within_1e-3", "zero", "nan", "inf"), 0
        )
        self.largest, self.at, self.error, self.seen = -1.0, None, None, False

    @np.errstate(all="ignore")
    def add(self, truth: Truth, measure: str, got: Any, gamma: float, dtype: str) -> None:
        if got is None or isinstance(got, str):
            self.error = got
            return
        self.seen, true = True, getattr(truth, measure)
        scale = truth.scale if measure == "second" else true
        if got.shape != true.shape and got.ndim == 2 < true.ndim:  # a diagonal
            true, scale = (np.einsum("ijj->ij", v) for v in (true, scale))
        if got.shape != true.shape:
            self.error = f"shape {got.shape}, not {true.shape}"
            return
        counted = np.abs(scale) >= TINY[dtype]
        error = np.abs(got - true) / np.abs(scale)
        close = counted & np.isfinite(got)
        self.counts["cases"] += int(counted.sum())
        self.counts["within_32_eps"] += int((close & (error <= 32 * EPS[dtype])).sum())
        self.counts["within_1e-3"] += int((close & (error <= 1e-3)).sum())
        matters = (np.abs(true) >= TINY[dtype]) & (np.abs(true) >= 1e-3 * np.abs(scale))
        self.counts["zero"] += int(((got == 0) & matters).sum())
        self.counts["nan"] += int(np.isnan(got).sum())
        self.counts["inf"] += int(np.isinf(got).sum())
        error = np.where(close, error, -1)
        i = np.unravel_index(error.argmax(), error.shape)
        if error[i] > self.largest:
            x, y = truth.x[i[0]].tolist(), truth.y[i[0]].item()
            found = {"got": digits(got[i]), "true": digits(true[i])}
            self.largest, self.at = float(error[i]), {"gamma": gamma, "x": x, "y": y, **found}

    def report(self) -> dict[str, Any] | None:
        if self.error:
            return {"error": self.error}
        return self.counts | {"largest": digits(self.largest), "at": self.at} if self.seen else None


def digits(value: Any) -> float | str:
    """Five of them; what JSON has no number for, as a word."""
    value = float(value)
    return float(f"{value:.5g}") if math.isfinite(value) else str(value)


def version(package: str) -> str:
    """Without what a build added to it, as +cpu."""
    if package == "focal_lib":
        return importlib.import_module(package).__version__
    wheels = {"tensorflow": "tensorflow-cpu"}
    return metadata.version(wheels.get(package, package)).partition("+")[0]


# --- The run --------------------------------------------------------------------------------------

UPSTREAM = """
torchvision; alpha_2; merged; pytorch/vision/pull/8882;
    feat: Raise ValueError for alpha > 1 in sigmoid_focal_loss
torchvision; softmax; open; pytorch/vision/issues/3250;
    Multi-class focal loss
kornia; gradient_nan; closed; kornia/kornia/issues/918;
    NaN gradients on backward pass with focal loss
kornia; value_nan; closed; kornia/kornia/issues/2115;
    Binary focal loss is numerically unstable
kornia; alpha; merged; kornia/kornia/pull/2393;
    fix the `alpha` of focal loss
monai; softmax; closed; Project-MONAI/MONAI/issues/6510;
    implement a softmax version of focal loss
monai; alpha; open; Project-MONAI/MONAI/issues/8117;
    In MONAI's focal loss implementation, why does the alpha parameter become invalid when
    softmax is used and include_background=False?
keras; gradient_nan; closed; tensorflow/tensorflow/issues/70326;
    Stable Gradient for BinaryFocalCrossEntropy
keras; alpha; closed; tensorflow/tensorflow/issues/61519;
    BinaryFocalCrossentropy: alpha does not work
keras; value_1pc; closed; keras-team/keras/issues/9247;
    binary_crossentropy possible numerical instability
optax; gradient_nan; closed; google-deepmind/optax/issues/1267;
    NaNs with optax.losses.sigmoid_focal_loss
optax; gradient_nan; merged; google-deepmind/optax/pull/1346;
    Fix gradient NaN issues in sigmoid_focal_loss for extreme logits
segmentation-models-pytorch; softmax; closed; qubvel-org/segmentation_models.pytorch/issues/671;
    softmax focal loss
pytorch-toolbelt; softmax; closed; BloodAxe/pytorch-toolbelt/issues/78;
    FocalLoss
transformers; reduction; open; fundamentalvision/Deformable-DETR/issues/172;
    Questions about computing focal loss
balanced-loss; reduction; open; richardaecn/class-balanced-loss/issues/16;
    Nan values in focal loss
imbalance-xgboost; gradient_1pc; closed; jhwjhw0123/Imbalance-XGBoost/issues/1;
    the formual is wrong ?
tensorflow-addons; gradient_zero; closed; tensorflow/addons/issues/693;
    Lost gradient after clipping in focal loss?
mmcv; value_nan; closed; open-mmlab/mmcv/issues/1488;
    SigmodFocalLoss return NAN
"""


def upstream() -> list[dict[str, str]]:
    rows = re.split(r"\n(?! )", UPSTREAM.strip())
    parts = [[" ".join(cell.split()) for cell in row.split(";", 4)] for row in rows]
    keys = ("package", "about", "status", "url", "title")
    threads = [dict(zip(keys, cells, strict=True)) for cells in parts]
    return [thread | {"url": f"https://github.com/{thread['url']}"} for thread in threads]


ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "HF_HUB_OFFLINE": "1",
    "PYTHONHASHSEED": "0",
}


def part(package: str) -> list[dict[str, Any]]:
    warnings.simplefilter("ignore")
    return [Examiner(f).report() for f in functions(FUNCTIONS) if f.package == package]


def apart(package: str) -> list[dict[str, Any]]:
    """The part of a package, made in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "part.json"
        command = [sys.executable, __file__, "--part", package, "--to", str(to)]
        home = {"KERAS_HOME": folder, "PYTHONPATH": str(Path(__file__).parents[1])}
        home |= {"KERAS_BACKEND": "torch" if package == "keras" else "tensorflow"}
        run = subprocess.run(
            command, env=os.environ | ENVIRONMENT | home, capture_output=True, text=True
        )
        if run.returncode:
            sys.exit(f"{package}: {run.stdout[-2000:]}{run.stderr[-4000:]}")
        return json.loads(to.read_text())


def merged(functions: list[dict[str, Any]]) -> dict[str, Any]:
    functions = sorted(functions, key=lambda row: row["id"])
    rows = {row["package"]: row for row in functions}.values()
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "grid": {
            "gammas": GAMMAS,
            "margins": [len(margins()), margins().min(), margins().max()],
            "classes": CLASSES,
            "rows": [81, -100.0, 100.0],
            "step": STEP,
            "limit": LIMIT,
        },
        "libraries": [{k: row[k] for k in ("package", "version", "engine")} for row in rows],
        "functions": functions,
        "left_out": [
            dict(zip(("package", "version", "reason"), row, strict=True)) for row in LEFT_OUT
        ],
        "upstream": upstream(),
    }


def stored(results: dict[str, Any]) -> str:
    """JSON, a line for each part of a function: what changes shows in a diff."""
    lines = []
    for key, value in results.items():
        if key != "functions":
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
            continue
        rows = []
        for row in value:
            parts = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in row.items()]
            rows.append("{\n" + ",\n".join(parts) + "}")
        lines.append('"functions": [' + ",\n".join(rows) + "]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    packages = list(dict.fromkeys(f.package for f in functions(FUNCTIONS)))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=packages, default=packages)
    parser.add_argument("--part", choices=packages, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        asked.to.write_text(json.dumps(part(asked.part)))
        return
    rows = []
    if asked.only != packages and RESULTS.exists():
        before = json.loads(RESULTS.read_text())["functions"]
        rows = [row for row in before if row["package"] not in asked.only]
    for package in asked.only:
        print(package, flush=True)
        rows += apart(package)
    RESULTS.write_text(stored(merged(rows)))


if __name__ == "__main__":
    main()
