"""Every kind of bad input, for every function of both libraries, names its argument."""

import ast
import inspect
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import focal_lib
import focal_lib.estimation
import focal_lib.numpy
import focal_lib.torch
import focal_lib.weights

X = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, -0.5]])
Y = np.array([[1.0, 0.0, 1.0], [0.0, 0.5, 1.0]])
T = np.array([0, 2])
P = np.array([0.2, 0.9])
INF, NAN = np.inf, np.nan

# A good call of each function: (first arguments) and the options it takes.
SIGMOID = {"inputs": X, "targets": Y, "alpha": 0.25, "gamma": 2.0, "reduction": "mean"}
BINARY = SIGMOID | {"alpha": None, "weight": X**2, "pos_weight": np.ones(3), "ignore_index": 255}
SOFTMAX = {
    "input": X,
    "target": T,
    "weight": np.ones(3),
    "gamma": 2.0,
    "ignore_index": -100,
    "reduction": "mean",
    "label_smoothing": 0.1,
}
GOOD = {
    "target_probability": {"p": P, "y": T // 2},
    "target_weight": {"alpha": 0.25, "y": T // 2},
    "cross_entropy": {"p_t": P},
    "balanced_cross_entropy": {"p_t": P, "alpha_t": P},
    "modulating_factor": {"p_t": P, "gamma": 2.0},
    "focal_loss": {"p_t": P, "gamma": 2.0, "alpha_t": P},
    "sigmoid_focal_loss": BINARY,
    "sigmoid_focal_loss_gradient": BINARY,
    "sigmoid_focal_loss_hessian": BINARY,
    "softmax_focal_loss": SOFTMAX,
    "softmax_focal_loss_gradient": SOFTMAX,
    "softmax_focal_loss_hessian": SOFTMAX,
    "kernels": {},
    "inverse_frequency": {"counts": [90, 10]},
    "effective_number": {"counts": [90, 10], "beta": 0.9},
    "prior_logit": {"pi": 0.01},
    "sigmoid_posterior": {"inputs": X, "alpha": 0.25, "gamma": 2.0, "from_logits": True},
    "sigmoid_score": {"posterior": X, "alpha": 0.25, "gamma": 2.0, "from_logits": True},
    "softmax_posterior": {"input": X, "weight": np.ones(3), "gamma": 2.0, "from_logits": True},
    "softmax_score": {"posterior": X, "weight": np.ones(3), "gamma": 2.0, "from_logits": True},
}
NOT_A_NUMBER = [("2", TypeError), (True, TypeError), (1j, TypeError), ([2.0], TypeError)]
NOT_A_NUMBER += [(np.timedelta64(2), TypeError), (10**400, ValueError)]
NOT_A_NUMBER += [(Fraction(10**400), ValueError), (-(10**400), ValueError)]
NOT_AN_ARRAY = [(None, TypeError), ("0.5", TypeError), (object(), TypeError)]
NOT_A_PROBABILITY = [
    *NOT_AN_ARRAY,
    (np.array([0.5, -1e-9]), ValueError),
    (np.array([1.0000001, 0.5]), ValueError),
    (np.array([NAN, 0.5]), ValueError),
    (np.array([0.5, 0.5j]), TypeError),
    (np.array([True, False]), TypeError),
]
NOT_GAMMA = [(None, TypeError), (-1e-9, ValueError), (-1, ValueError), (INF, ValueError)]
NOT_GAMMA += [(NAN, ValueError), *NOT_A_NUMBER]
NOT_ALPHA = [(-0.5, ValueError), (-1.0001, ValueError), (1.5, ValueError), (2, ValueError)]
NOT_ALPHA += [(NAN, ValueError), *NOT_A_NUMBER]
NOT_COUNTS = [(n, ValueError) for n in ([5, 0], [5, -1], [5, NAN], [5, INF], [], 5, [[5, 5]])]
NOT_COUNTS += [(n, TypeError) for n in (None, "5", [5, "5"], [5, 5j], [True, False])]
NOT_BETWEEN = [(0.0 - 1e-9, ValueError), (1.0, ValueError), (NAN, ValueError), *NOT_A_NUMBER]
NOT_LOGITS = [*NOT_AN_ARRAY, (X * 1j, TypeError), (X > 0, TypeError)]

# What each argument does not take.
BAD = {
    "p": NOT_A_PROBABILITY,
    "p_t": NOT_A_PROBABILITY,
    "y": [
        *NOT_AN_ARRAY,
        (np.array([0, 2]), ValueError),
        (np.array([-1, 1]), ValueError),
        (np.array([0.5, 1.0]), ValueError),
        (np.array([NAN, 1.0]), ValueError),
    ],
    "alpha_t": [
        (None, TypeError),
        ("1", TypeError),
        (-1.0, ValueError),
        (INF, ValueError),
        (NAN, ValueError),
        (np.array([1.0, -0.1]), ValueError),
        (np.array([1.0, INF]), ValueError),
        (np.array([True, False]), TypeError),
    ],
    "gamma": NOT_GAMMA,
    "alpha": NOT_ALPHA,
    "reduction": [
        (None, TypeError),
        (1, TypeError),
        ("average", ValueError),
        ("Mean", ValueError),
        ("", ValueError),
    ],
    "inputs": NOT_LOGITS,
    "input": [
        *NOT_LOGITS,
        (np.array(0.5), ValueError),
        (np.empty((2, 0)), ValueError),
        (np.empty(0), ValueError),
    ],
    "targets": [
        *NOT_AN_ARRAY,
        (Y * 1j, TypeError),
        (Y[:1], ValueError),  # would broadcast
        (Y[:, :1], ValueError),
        (Y[0], ValueError),
        (Y.T, ValueError),
        (Y[None], ValueError),
        (T, ValueError),
        (Y + 1e-6, ValueError),
        (-Y, ValueError),
        (np.where(Y > 0, Y, NAN), ValueError),
        (2 * Y - 1, ValueError),  # labels -1 and +1
    ],
    "target": [
        *NOT_AN_ARRAY,
        (T * 1j, TypeError),
        (T > 0, TypeError),
        (T + 1, ValueError),
        (T - 1, ValueError),
        (np.array([-100, -99]), ValueError),
        (T[:1], ValueError),
        (T[:, None], ValueError),
        (np.array([0, 1, 2]), ValueError),
        (T.astype(float), TypeError),  # indices are integers
        (Y.astype(int), TypeError),  # probabilities are floats
        (Y.T, ValueError),
        (Y[:, :2], ValueError),
        (-Y, ValueError),
        (Y * 1.5, ValueError),
        (np.where(Y > 0, Y, NAN), ValueError),
    ],
    "weight": [
        ("1", TypeError),
        (object(), TypeError),
        (np.ones(3) * 1j, TypeError),
        (np.ones(3) > 0, TypeError),
        (np.ones(2), ValueError),
        (np.ones((3, 1)), ValueError),
        (np.array([1.0, -1.0, 1.0]), ValueError),
        (np.array([1.0, INF, 1.0]), ValueError),
        (np.array([1.0, NAN, 1.0]), ValueError),
    ],
    "ignore_index": [
        (1.0, TypeError),
        ("1", TypeError),
        (True, TypeError),
        (np.timedelta64(2), TypeError),
        (2**70, ValueError),
        (-(2**63) - 1, ValueError),
    ],
    "label_smoothing": [
        (None, TypeError),
        (-0.1, ValueError),
        (1.1, ValueError),
        (NAN, ValueError),
        *NOT_A_NUMBER,
    ],
}

BAD |= {
    "pos_weight": BAD["weight"],
    "posterior": NOT_LOGITS,
    "counts": NOT_COUNTS,
    "beta": NOT_BETWEEN,
    "pi": [(0.0, ValueError), *NOT_BETWEEN],
    "from_logits": [(None, TypeError), (1, TypeError), ("yes", TypeError)],
}
# What one function does not take though others do.
ALSO_BAD = {
    **{
        (f"{loss}_focal_loss{derivative}", "ignore_index"): values
        for loss, values in (
            ("sigmoid", [(0, ValueError), (1, ValueError)]),
            ("softmax", [(None, TypeError)]),
        )
        for derivative in ("", "_gradient", "_hessian")
    },
    ("sigmoid_posterior", "alpha"): [(0, ValueError), (1.0, ValueError)],  # not to be undone
    ("sigmoid_score", "alpha"): [(0, ValueError), (1.0, ValueError)],
    ("softmax_posterior", "weight"): [(np.array([1.0, 0.0, 1.0]), ValueError)],
    ("softmax_score", "weight"): [(np.array([1.0, 0.0, 1.0]), ValueError)],
    ("softmax_score", "posterior"): BAD["input"],
}

LIBRARIES = {
    "numpy": focal_lib.numpy,
    "torch": focal_lib.torch,
    "weights": focal_lib.weights,
    "estimation": focal_lib.estimation,
}
CASES = [
    pytest.param(library, name, argument, value, error, id=f"{library}-{name}-{argument}-{i}")
    for library, module in LIBRARIES.items()
    for name, good in GOOD.items()
    if hasattr(module, name)
    for argument in good
    for i, (value, error) in enumerate(BAD[argument] + ALSO_BAD.get((name, argument), []))
]


def call(library, name, arguments):
    if library == "torch":
        arguments = {
            k: torch.from_numpy(np.array(v)) if isinstance(v, np.ndarray) else v
            for k, v in arguments.items()
        }
    return getattr(LIBRARIES[library], name)(**arguments)


@pytest.mark.parametrize(("library", "name", "argument", "value", "error"), CASES)
def test_bad_input(library, name, argument, value, error):
    with pytest.raises(error) as raised:
        call(library, name, {**GOOD[name], argument: value})
    message = str(raised.value)
    assert message.startswith(f"{argument}: takes ") and ", got " in message


@pytest.mark.parametrize("library", LIBRARIES)
def test_good_input_is_good(library):
    for name, good in GOOD.items():
        if hasattr(LIBRARIES[library], name):
            call(library, name, good)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_table_has_every_public_function(library):
    module = LIBRARIES[library]
    public = {
        name: function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if not name.startswith("_") and function.__module__ == module.__name__
        if name != "kernels"  # which takes nothing
    }
    assert set(public) <= set(GOOD)
    for name, function in public.items():
        assert set(inspect.signature(function).parameters) == set(GOOD[name])
        assert function.__doc__


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_error_shows_the_value(library):
    for argument, value, shown in (
        ("target", np.array([0, 17]), "17"),
        ("target", Y * 1.5, "1.5"),
        ("weight", np.array([1.0, -3.5, 1.0]), "-3.5"),
        ("gamma", -0.125, "-0.125"),
        ("reduction", "average", "'average'"),
    ):
        with pytest.raises(ValueError, match=rf"^{argument}: takes .*, got {shown}$"):
            call(library, "softmax_focal_loss", {**SOFTMAX, argument: value})


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_probabilities_cannot_be_left_out_by_an_index(library):
    arguments = {**SOFTMAX, "target": Y / 2, "ignore_index": 1}
    with pytest.raises(ValueError, match=r"^ignore_index: takes .*, got 1$"):
        call(library, "softmax_focal_loss", arguments)


def test_alpha_and_gamma_swapped_by_position():
    with pytest.raises(ValueError, match=r"^alpha: takes None, -1 or a number in "):
        focal_lib.numpy.sigmoid_focal_loss(X, Y, 2.0, 0.25)


@pytest.mark.parametrize(
    ("module", "good"),
    [
        (
            focal_lib.torch.SigmoidFocalLoss,
            {k: SIGMOID[k] for k in ("alpha", "gamma", "reduction")},
        ),
        (
            focal_lib.torch.SoftmaxFocalLoss,
            {k: SOFTMAX[k] for k in SOFTMAX if k not in ("input", "target")},
        ),
    ],
)
def test_modules_check_when_they_are_made(module, good):
    good = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in good.items()}
    module(**good)
    for argument in good:
        for value, error in BAD[argument]:
            if isinstance(value, np.ndarray):
                value = torch.from_numpy(np.array(value))
            if argument == "weight" and isinstance(value, torch.Tensor) and len(value) == 2:
                continue  # how many classes there are is not known yet
            with pytest.raises(error, match=rf"^{argument}: takes .*, got "):
                module(**{**good, argument: value})


def test_tensors_stay_where_they_are():
    elsewhere = torch.empty(2, 3, device="meta")
    x, t = torch.from_numpy(X), torch.from_numpy(T)
    with pytest.raises(ValueError, match=r"^targets: takes a tensor on cpu, got one on meta"):
        focal_lib.torch.sigmoid_focal_loss(x, elsewhere)
    with pytest.raises(ValueError, match=r"^target: takes a tensor on cpu, got one on meta"):
        focal_lib.torch.softmax_focal_loss(x, elsewhere)
    with pytest.raises(ValueError, match=r"^weight: takes a tensor on cpu, got one on meta"):
        focal_lib.torch.softmax_focal_loss(x, t, elsewhere[0])


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("sigmoid_focal_loss", "inputs"),
        ("sigmoid_focal_loss", "targets"),
        ("softmax_focal_loss", "input"),
        ("softmax_focal_loss", "target"),
        ("softmax_focal_loss", "weight"),
        ("focal_loss", "p_t"),
        ("target_probability", "p"),
        ("target_probability", "y"),
    ],
)
def test_only_dense_tensors(name, argument):
    good = {
        k: torch.as_tensor(v) if k in BAD and isinstance(v, np.ndarray) else v
        for k, v in GOOD[name].items()
    }
    tensor = torch.as_tensor(GOOD[name][argument])
    for value in (tensor.to_sparse(), tensor.numpy(), tensor.tolist()):
        with pytest.raises(TypeError, match=rf"^{argument}: takes .*, got "):
            getattr(focal_lib.torch, name)(**{**good, argument: value})


@pytest.mark.filterwarnings("ignore:Sparse")  # as PyTorch calls them: new
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        (name, argument)
        for name, good in GOOD.items()
        for argument, value in good.items()
        if isinstance(value, np.ndarray | list)
    ],
)
def test_what_numpy_would_read_wrongly(name, argument):
    good = np.array(GOOD[name][argument], float)
    tensor = torch.from_numpy(good)
    module = next(m for k, m in LIBRARIES.items() if k != "torch" and hasattr(m, name))
    for value in (
        np.ma.masked_array(good, mask=good == good.flat[0]),
        tensor.clone().requires_grad_(),
        tensor.bfloat16(),
        tensor.to_sparse(),
        [[1.0], [1.0, 2.0]],
    ):
        with pytest.raises(TypeError, match=rf"(?s)^{argument}: takes .*, got "):
            getattr(module, name)(**{**GOOD[name], argument: value})


def test_optimized_python_keeps_the_checks():
    for path in Path(focal_lib.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)], path
    code = "from focal_lib.numpy import cross_entropy; cross_entropy(2.0)"
    done = subprocess.run(
        [sys.executable, "-O", "-c", code],
        cwd=Path(focal_lib.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ValueError: p_t: takes numbers in [0, 1], got 2.0" in done.stderr


@pytest.mark.parametrize(
    ("module", "blocked"),
    [
        ("focal_lib", ["numpy", "torch"]),
        ("focal_lib.numpy", ["torch", "scipy"]),
        ("focal_lib.weights", ["torch", "scipy"]),
    ],
)
def test_what_an_import_does_without(module, blocked):
    block = "".join(f"sys.modules[{name!r}] = None; " for name in blocked)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {block}import {module}"],
        cwd=Path(focal_lib.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
