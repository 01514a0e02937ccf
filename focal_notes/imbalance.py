"""One imbalanced population, which two chapters share, and a trainer small enough to read whole.

The population lies in the plane, in three groups:

- background: many negatives, more than four standard deviations away from the positives (easy);
- lookalikes: a few negatives, three standard deviations away from the positives (hard);
- positives: fewest of all.

Each group is a round Gaussian of standard deviation 1, so the true posterior is known. The
background is at the origin: the points are scaled as an ordinary pipeline would scale them, to mean
0 and standard deviation 1 over a training set that is nearly all background.

The model is logistic regression on the two coordinates, or a network with one hidden layer, trained
on the whole training set at each step by gradient descent with momentum.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focal_lib.numpy import (
    sigmoid_focal_loss,
    sigmoid_focal_loss_gradient,
    sigmoid_focal_loss_hessian,
    target_weight,
)
from focal_lib.weights import prior_logit

Array = NDArray[Any]

GROUPS = ("background", "lookalikes", "positives")
BACKGROUND, LOOKALIKES, POSITIVES = range(3)
CENTERS = np.array([[0.0, 0.0], [4.0, -1.5], [4.0, 1.5]])  # of the three groups


@dataclass(frozen=True)
class Population:
    """Points of the plane (N, 2), labels y in {0, 1} (N,), and the group of each point (N,)."""

    points: Array
    y: Array
    group: Array

    @property
    def sizes(self) -> Array:
        """The number of points in each group."""
        return np.bincount(self.group, minlength=len(GROUPS))

    @property
    def prior(self) -> float:
        """pi, the share of the positives."""
        return float(self.y.mean())

    @property
    def inverse_frequency(self) -> float:
        """The alpha that weights the classes by their inverse frequencies, N_0 / N."""
        return 1.0 - self.prior

    def posterior_logit(self, points: Array) -> Array:
        """The true log odds of class 1 at each point, at this population's group sizes."""
        log_joint = np.log(self.sizes) - ((points[:, None] - CENTERS) ** 2).sum(axis=2) / 2
        negatives = np.logaddexp(log_joint[:, BACKGROUND], log_joint[:, LOOKALIKES])
        return np.asarray(log_joint[:, POSITIVES] - negatives)


def population(
    seed: int,
    *,
    n_background: int = 9_900,
    n_lookalikes: int = 100,
    n_positives: int = 20,
    held_out: bool = False,
) -> Population:
    """Draw the training set of this seed, or its held-out set: independent, ten times as large.

    As it stands there are 500 negatives to a positive, and 99 easy negatives to a hard one.
    """
    sizes = np.array([n_background, n_lookalikes, n_positives]) * (10 if held_out else 1)
    rng = np.random.default_rng([seed, int(held_out)])
    group = np.repeat(np.arange(len(GROUPS)), sizes)
    points = CENTERS[group] + rng.standard_normal((group.size, 2))
    return Population(points, (group == POSITIVES).astype(int), group)


@dataclass(frozen=True)
class Fit:
    """A training run: the parameters after each of the recorded steps, and what was minimized."""

    steps: Array
    path: list[list[Array]]
    alpha: float | None
    gamma: float

    def logits(self, points: Array, record: int = -1) -> Array:
        """The model's logits at one recorded step; at the last one by default."""
        return _forward(self.path[record], points)[1]

    def ledgers(self, data: Population) -> dict[str, Array]:
        """`ledger` at each recorded step: arrays with a row per record and a column per group."""
        rows = [
            ledger(self.logits(data.points, record), data, self.alpha, self.gamma)
            for record in range(len(self.steps))
        ]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def class_means(self, data: Population) -> Array:
        """Each class's mean cross entropy at each recorded step: a column for class 0 and for 1."""
        means = []
        for record in range(len(self.steps)):
            losses = sigmoid_focal_loss(self.logits(data.points, record), data.y, None, 0.0)
            means.append([losses[data.y == label].mean() for label in (0, 1)])
        return np.array(means)


def fit(
    data: Population,
    alpha: float | None = None,
    gamma: float = 0.0,
    *,
    start: float = 0.5,
    hidden: int = 0,
    steps: int = 1_000,
    learning_rate: float = 0.5,
    momentum: float = 0.9,
    seed: int = 0,
) -> Fit:
    """Train on the sum of alpha_t (1 - p_t)^gamma (-log p_t), divided by the sum of alpha_t.

    Dividing by the total weight makes one learning rate fair to every alpha. Each example starts at
    the score ``start``. ``hidden`` is the width of a tanh layer (its weights drawn from ``seed``);
    0 is logistic regression. The parameters are recorded at the start, then at every step up to the
    tenth, then at intervals that grow by a tenth, and at the end.
    """
    rng = np.random.default_rng([seed, 2])  # a stream apart from those of `population`
    width = hidden or data.points.shape[1]
    layer = [rng.standard_normal((2, hidden)), rng.standard_normal(hidden)] if hidden else []
    parameters = [*layer, np.zeros(width), np.array(prior_logit(start))]
    velocity = [np.zeros_like(parameter) for parameter in parameters]
    total = data.y.size if alpha is None else target_weight(alpha, data.y).sum()

    grid = (1.1 ** np.arange(150)).round().astype(int)
    recorded = np.unique([0, *grid[grid < steps], steps])
    path = [[parameter.copy() for parameter in parameters]]
    for step in range(1, steps + 1):
        features, logits = _forward(parameters, data.points)
        error = sigmoid_focal_loss_gradient(logits, data.y, alpha=alpha, gamma=gamma) / total
        slopes = [features.T @ error, error.sum()]
        if hidden:
            inner = np.outer(error, parameters[-2]) * (1 - features**2)
            slopes = [data.points.T @ inner, inner.sum(axis=0), *slopes]
        for parameter, change, slope in zip(parameters, velocity, slopes, strict=True):
            change *= momentum
            change -= learning_rate * slope
            parameter += change
        if step in recorded:
            path.append([parameter.copy() for parameter in parameters])
    return Fit(recorded, path, alpha, gamma)


def optimum(data: Population, alpha: float | None = None) -> Fit:
    """Where the training of a logistic regression under balanced cross entropy ends.

    The loss is convex and Newton's method finds its one minimum, to rounding error; there is none
    where a line separates the classes, and then this does not converge.
    """
    columns = np.column_stack([data.points, np.ones(data.y.size)])
    parameters = np.array([0.0, 0.0, prior_logit(data.prior)])
    for step in range(1, 101):
        logits = columns @ parameters
        slope = columns.T @ sigmoid_focal_loss_gradient(logits, data.y, alpha=alpha, gamma=0.0)
        curvature = sigmoid_focal_loss_hessian(logits, data.y, alpha=alpha, gamma=0.0)
        change = np.linalg.solve(columns.T @ (columns * curvature[:, None]), slope)
        parameters = parameters - change / max(1.0, abs(change).max())  # no leap longer than 1
        if abs(change).max() < 1e-10:
            return Fit(np.array([step]), [[parameters[:2], parameters[2]]], alpha, 0.0)
    raise RuntimeError("Newton's method did not converge: are the classes separated by a line?")


def _forward(parameters: list[Array], points: Array) -> tuple[Array, Array]:
    """The last layer's inputs, and the logits."""
    *layer, weights, bias = parameters
    features = np.tanh(points @ layer[0] + layer[1]) if layer else points
    return features, features @ weights + bias


def ledger(
    logits: Array, data: Population, alpha: float | None = None, gamma: float = 0.0
) -> dict[str, Array]:
    """What each group owns, in totals: of the cross entropy, of the loss with this alpha and gamma,
    and of the absolute gradient of that loss with respect to each example's logit."""

    def by_group(values: Array) -> Array:
        return np.bincount(data.group, weights=values, minlength=len(GROUPS))

    return {
        "cross_entropy": by_group(sigmoid_focal_loss(logits, data.y, None, 0.0)),
        "loss": by_group(sigmoid_focal_loss(logits, data.y, alpha, gamma)),
        "gradient": by_group(
            abs(sigmoid_focal_loss_gradient(logits, data.y, alpha=alpha, gamma=gamma))
        ),
    }


def settling_steps(steps: Array, curves: Array, rest: Array) -> Array:
    """When each curve is, for good, within a tenth of its largest distance from where it ends.

    ``curves`` has the shape (runs, records, curves), ``rest``, the ends, (runs, curves). The result
    is a recorded step for each, or inf where the run is too short.
    """
    distance = abs(curves - rest[:, None])
    far = distance > distance.max(axis=1, keepdims=True) / 10
    last = far.shape[1] - 1 - far[:, ::-1].argmax(axis=1)
    return np.append(steps, np.inf)[last + 1]


def average_precision(scores: Array, y: Array) -> float:
    """The mean, over the positives, of the precision among all that score at least as high."""
    order = np.argsort(-scores, kind="stable")
    found = y[order].cumsum()
    precision = found / np.arange(1, y.size + 1)
    return float(precision[y[order] == 1].mean())
