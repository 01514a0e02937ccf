"""A one-stage detector in miniature: handwritten digits among fragments of digits.

The data are scikit-learn's handwritten digits, 8 by 8 pixels each. A canvas of 64 by 64 pixels
holds two to four whole digits, in boxes that do not overlap, and fragments of other digits. A
small convolutional network gives, at each of 32 by 32 places, one score for each of the ten digits.
The place stands for a box of 8 by 8 pixels, its anchor; the assignment of anchors to digits is that
of the paper: an overlap (intersection over union, IoU) of at least 0.5 is a positive, one below 0.4
a negative, and what lies between is left out of the loss.

Everything that is random depends on the seed: the canvases of the three splits (each made from
digits of its own), the initial weights, and the order of the batches.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from focal_lib.torch import sigmoid_focal_loss
from focal_lib.weights import prior_logit
from focal_notes.stored import EXPERIMENTS

Array = NDArray[Any]

DIGIT, CANVAS, STRIDE, CLASSES = 8, 64, 2, 10
GRID = CANVAS // STRIDE
SPLITS = {"train": (0, 1000), "validation": (1000, 1300), "test": (1300, 1797)}  # by image number
MATCH, IGNORE = 0.5, 0.4  # of the overlap of an anchor, or a detection, with a digit
SUPPRESS = 0.3  # detections of one class that overlap by more are one detection
KEPT = 10  # the detections kept of one class in one canvas
GROUPS = ("positives", "easy negatives", "doubtful negatives", "wrong negatives")
EASY, WRONG = 0.1, 0.5  # the scores that bound the groups of negatives
RESULTS = EXPERIMENTS / "dense_detection.json"


@lru_cache(maxsize=1)
def _all_digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images / 16).astype(np.float32), data.target


def digits(split: str) -> tuple[Array, Array]:
    """The images (n, 8, 8), from 0 to 1, and the classes (n,) of one split."""
    images, classes = _all_digits()
    first, end = SPLITS[split]
    return images[first:end], classes[first:end]


@dataclass(frozen=True)
class Canvases:
    """Images (n, 1, 64, 64), and a row (canvas, class, top, left) for each digit on them."""

    images: Tensor
    objects: Array


def canvases(seed: int, split: str, n: int, fragments: int = 16, noise: float = 0.1) -> Canvases:
    """Draw ``n`` canvases of two to four digits, ``fragments`` fragments, and pixel noise."""
    rng = np.random.default_rng([seed, list(SPLITS).index(split)])
    shapes, classes = digits(split)
    images = np.zeros((n, CANVAS, CANVAS), np.float32)
    objects = []
    for canvas, image in enumerate(images):
        places: list[Array] = []
        while len(places) < 2 + canvas % 3:
            place = rng.integers(0, CANVAS - DIGIT + 1, 2)
            if all(abs(place - other).max() >= DIGIT for other in places):
                places.append(place)
        for top, left in places:
            k = rng.integers(len(shapes))
            _paste(image, shapes[k], top, left)
            objects.append([canvas, classes[k], top, left])
        for k in rng.integers(len(shapes), size=fragments):
            piece = _fragment(shapes[k], rng)
            top, left = (rng.integers(0, CANVAS - side + 1) for side in piece.shape)
            _paste(image, piece, top, left)
    images += noise * rng.standard_normal(images.shape, np.float32)
    return Canvases(torch.from_numpy(images)[:, None], np.array(objects))


def _paste(image: Array, piece: Array, top: int, left: int) -> None:
    height, width = piece.shape
    window = image[top : top + height, left : left + width]
    np.maximum(window, piece, out=window)


def _fragment(shape: Array, rng: np.random.Generator) -> Array:
    """A part of a digit, 3 to 5 pixels high and wide."""
    height, width = rng.integers(3, 6, 2)
    top, left = rng.integers(0, DIGIT - height + 1), rng.integers(0, DIGIT - width + 1)
    return shape[top : top + height, left : left + width]


# Anchors


def anchor_edges() -> Array:
    """The top (or left) edge of the anchor of each row (or column) of places.

    An anchor is as large as a digit and centered on its place, so at the border it sticks out.
    """
    return STRIDE * np.arange(GRID) + (STRIDE - DIGIT) // 2


def overlap(tops: Array, lefts: Array, other_tops: Array, other_lefts: Array) -> Array:
    """The IoU of boxes of a digit's size with other such boxes, given their edges."""
    height = np.clip(DIGIT - abs(tops - other_tops), 0, None)
    width = np.clip(DIGIT - abs(lefts - other_lefts), 0, None)
    return height * width / (2 * DIGIT**2 - height * width)


@dataclass(frozen=True)
class Targets:
    """Labels (n, 10, 32, 32), and which places count in the loss (n, 1, 32, 32); both 0 or 1."""

    labels: Tensor
    kept: Tensor

    @property
    def counts(self) -> tuple[int, int]:
        """The numbers of positive and of negative scores."""
        positive = int(self.labels.sum())
        return positive, int(self.kept.sum()) * CLASSES - positive


def assign(data: Canvases) -> Targets:
    """Every anchor's labels, by its overlap with the digits."""
    canvas, kind, top, left = data.objects.T
    edges = anchor_edges()
    iou = overlap(edges[:, None], edges, top[:, None, None], left[:, None, None])
    labels = torch.zeros(len(data.images), CLASSES, GRID, GRID)
    kept = torch.ones(len(data.images), 1, GRID, GRID)
    which, row, column = np.nonzero(iou >= MATCH)
    labels[canvas[which], kind[which], row, column] = 1
    which, row, column = np.nonzero((iou >= IGNORE) & (iou < MATCH))
    kept[canvas[which], 0, row, column] = 0
    return Targets(labels, kept)


# The network


def network(seed: int, start: float) -> nn.Sequential:
    """Three convolutions, the last of which gives the scores; every score starts near ``start``."""
    generator = torch.Generator().manual_seed(seed)
    first = nn.Conv2d(1, 12, 5, STRIDE, 2, bias=False)
    second = nn.Conv2d(12, 24, 3, 1, 1, bias=False)
    head = nn.Conv2d(24, CLASSES, 3, 1, 1)
    for layer in (first, second):
        nn.init.normal_(layer.weight, 0, math.sqrt(2 / layer.weight[0].numel()), generator)
    nn.init.normal_(head.weight, 0, 0.01, generator)
    nn.init.constant_(head.bias, prior_logit(start))
    norms = nn.BatchNorm2d(12), nn.BatchNorm2d(24)
    return nn.Sequential(first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU(), head)


@torch.no_grad()
def scores(model: nn.Module, images: Tensor, batch: int = 64) -> Tensor:
    """The logits (n, 10, 32, 32) of all images, on the CPU."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    logits = torch.cat([model(part.to(device)).cpu() for part in images.split(batch)])
    model.train(was_training)
    return logits


# Average precision


@dataclass(frozen=True)
class Detections:
    """One entry for each detection: canvas, class, edges of its box, and score."""

    canvas: Array
    kind: Array
    top: Array
    left: Array
    score: Array


def detect(logits: Tensor | Array) -> Detections:
    """The best ``KEPT`` detections of each class in each canvas, with non-maximum suppression.

    Greedy: the highest score is a detection, anchors that overlap it by more than ``SUPPRESS``
    are struck out, and so on with the rest.
    """
    planes = np.array(logits, np.float32).reshape(-1, GRID, GRID)
    reach = DIGIT // STRIDE
    edges = STRIDE * np.arange(-reach, reach + 1)
    struck = overlap(edges[:, None], edges, np.array(0), np.array(0)) > SUPPRESS
    padded = np.full((len(planes), GRID + 2 * reach, GRID + 2 * reach), -np.inf, np.float32)
    inner = padded[:, reach:-reach, reach:-reach]
    inner[:] = planes
    steps = np.argwhere(struck) - reach
    rows = np.arange(len(planes))
    found = []
    for _ in range(KEPT):
        best = padded.reshape(len(planes), -1).argmax(axis=1)
        row, column = np.divmod(best, GRID + 2 * reach)
        found.append((row - reach, column - reach, padded[rows, row, column]))
        for down, right in steps:
            padded[rows, row + down, column + right] = -np.inf
    row, column, score = (np.stack(part, axis=1).ravel() for part in zip(*found, strict=True))
    plane = np.repeat(rows, KEPT)
    edge = anchor_edges()
    return Detections(plane // CLASSES, plane % CLASSES, edge[row], edge[column], score)


def match(found: Detections, objects: Array, kind: int) -> Array:
    """Which of the detections of one class, best first, is a hit.

    In the order of their scores, each is matched with the digit of that class in its canvas that it
    overlaps most among those not yet matched, if that overlap is at least ``MATCH``.
    """
    mine = np.flatnonzero(found.kind == kind)
    mine = mine[np.argsort(-found.score[mine], kind="stable")]
    free: dict[int, list[tuple[int, int]]] = {}
    for canvas, _, top, left in objects[objects[:, 1] == kind]:
        free.setdefault(int(canvas), []).append((int(top), int(left)))
    hits = np.zeros(len(mine), bool)
    for number, k in enumerate(mine):
        there = free.get(int(found.canvas[k]))
        if not there:
            continue
        tops, lefts = np.array(there).T
        iou = overlap(tops, lefts, found.top[k], found.left[k])
        if iou.max() >= MATCH:
            hits[number] = True
            del there[int(iou.argmax())]
    return hits


def area(hits: Array, total: int) -> float:
    """The average precision of hits and misses, best first, where ``total`` digits could be hit.

    All-point interpolation: the mean over the ``total`` digits of the best precision at the recall
    at which each is found or any higher one; 0 for a digit that is never found.
    """
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[np.asarray(hits, bool)].sum() / total)


def average_precision(logits: Tensor | Array, objects: Array) -> Array:
    """The average precision of each class; NaN if no digit of that class is there.

    Scores that are not numbers detect nothing.
    """
    found = detect(np.nan_to_num(np.asarray(logits, np.float32), nan=0.0))
    totals = np.bincount(objects[:, 1], minlength=CLASSES)
    return np.array(
        [
            area(match(found, objects, kind), total) if total else np.nan
            for kind, total in enumerate(totals)
        ]
    )


# Training


@dataclass(frozen=True)
class Settings:
    """One way to train. What is not named here is the same in all of them, and in `FIXED`."""

    alpha: float = 0.5
    gamma: float = 0.0
    start: float = 0.01
    optimizer: str = "adam"
    learning_rate: float = 0.02
    normalizer: str = "positives"
    negatives: str = "all"
    warmup: int = 20
    steps: int = 400

    @property
    def key(self) -> str:
        """A name that no other settings have."""
        return ",".join(f"{name}={value}" for name, value in asdict(self).items())


FIXED: dict[str, Any] = {
    "batch": 8,
    "train": 800,
    "validation": 150,
    "test": 300,
    "probe": 48,
    "momentum": 0.9,
    "fragments": 16,
    "noise": 0.1,
}


def fingerprint(*parts: Any) -> str:
    """A short hash of settings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@lru_cache(maxsize=6)
def split_of(seed: int, split: str) -> tuple[Canvases, Targets]:
    """The canvases of one split, and what their anchors are assigned to."""
    data = canvases(seed, split, FIXED[split], FIXED["fragments"], FIXED["noise"])
    return data, assign(data)


def objective(logits: Tensor, labels: Tensor, kept: Tensor, how: Settings) -> Tensor:
    """The loss of a batch: a sum over the anchors' scores, divided by the normalizer."""
    losses = sigmoid_focal_loss(logits, labels, how.alpha, how.gamma) * kept
    positives = labels.sum().clamp(min=1)
    if how.negatives != "all":
        losses = losses * _chosen(losses.detach(), labels, kept, how.negatives)
    count = {"positives": positives, "anchors": kept.sum() * CLASSES}[how.normalizer]
    return losses.sum() / count


def _chosen(losses: Tensor, labels: Tensor, kept: Tensor, rule: str) -> Tensor:
    """All positives, and for each of them ``ratio`` negatives: the hardest ones or random ones."""
    kind, ratio = rule.split(":")
    rank = losses if kind == "hardest" else torch.rand_like(losses)
    rank = torch.where((labels == 0) & (kept > 0), rank, -torch.inf).flatten()
    n = int(ratio) * max(int(labels.sum()), 1)
    mask = labels.clone().flatten()
    mask[rank.topk(n).indices] = 1
    return mask.view_as(labels)


def ledger(logits: Tensor, targets: Targets, alpha: float, gamma: float) -> Array:
    """How many scores each of the `GROUPS` has, and their totals of loss and absolute gradient."""
    kept = targets.kept.expand_as(logits) > 0
    x = logits[kept].detach().double().requires_grad_()
    y = targets.labels[kept].double()
    loss = sigmoid_focal_loss(x, y, alpha, gamma)
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    p = x.detach().sigmoid()
    group = torch.where(y > 0, 0, 1 + (p > EASY).long() + (p > WRONG).long()).numpy()
    columns = (np.ones(len(group)), loss.detach().numpy(), gradient.abs().numpy())
    return np.stack([np.bincount(group, c, minlength=len(GROUPS)) for c in columns], axis=1)


# Fractions, the hardest first: by powers of ten, and in twentieths.
# Rounded, so that no two differ by NumPy's last digit alone.
CURVE = np.unique(np.append(np.geomspace(1e-5, 1, 41), np.arange(21) / 20).round(12))


def cumulative(losses: Array, fractions: Array = CURVE) -> Array:
    """The share of the total that the hardest fraction of the losses has."""
    ordered = np.sort(np.asarray(losses, float))[::-1]
    running = np.concatenate([[0], np.cumsum(ordered)])
    position = fractions * len(ordered)
    return np.interp(position, np.arange(len(running)), running / running[-1])


def recorded_steps(steps: int) -> list[int]:
    """When a run is looked at: at the start, then at steps that grow by half, and at the end."""
    grid = np.unique((1.5 ** np.arange(40)).round().astype(int))
    return [0, *(int(step) for step in grid if step < steps), steps]


def train(
    how: Settings,
    seed: int,
    *,
    device: str = "cpu",
    watch: Callable[[int, nn.Module], None] | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Train one detector; returns it and what was recorded on the way."""
    data, targets = split_of(seed, "train")
    probe = Targets(targets.labels[: FIXED["probe"]], targets.kept[: FIXED["probe"]])
    model = network(seed, how.start).to(device)
    parameters = list(model.parameters())
    optimizer = (
        torch.optim.SGD(parameters, how.learning_rate, FIXED["momentum"])
        if how.optimizer == "sgd"
        else torch.optim.Adam(parameters, how.learning_rate)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, how))
    torch.manual_seed(seed)  # for the negatives that are drawn at random
    batches = _batches(np.random.default_rng([seed, 9]), len(data.images), how.steps)
    steps = recorded_steps(how.steps)
    books, losses = [], []
    for step in range(how.steps + 1):
        if step in steps:
            logits = scores(model, data.images[: FIXED["probe"]])
            books.append(ledger(logits, probe, how.alpha, how.gamma))
        if watch:
            watch(step, model)
        if step == how.steps:
            break
        chosen = torch.from_numpy(next(batches))
        inputs, labels, kept = (
            part[chosen].to(device) for part in (data.images, targets.labels, targets.kept)
        )
        loss = objective(model(inputs), labels, kept, how)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
    return model, {"steps": steps[: len(books)], "ledger": np.array(books), "losses": losses}


def rate(step: int, how: Settings) -> float:
    """The learning rate as a multiple of the one named: a linear warm-up, and a linear decay."""
    return min(1.0, (step + 1) / max(how.warmup, 1)) * (1 - step / how.steps)


def _batches(rng: np.random.Generator, n: int, steps: int) -> Iterator[Array]:
    """Batches of canvas numbers, each canvas once in a pass."""
    size = FIXED["batch"]
    order = np.concatenate([rng.permutation(n) for _ in range(1 + steps * size // n)])
    for step in range(steps):
        yield order[step * size : (step + 1) * size]


def evaluate(model: nn.Module, seed: int, split: str) -> float:
    """The mean over the classes of the average precision on the canvases of one split."""
    data, _ = split_of(seed, split)
    return float(np.nanmean(average_precision(scores(model, data.images), data.objects)))


def spread(values: Sequence[float] | Array) -> tuple[float, float]:
    """The mean over seeds and the half width of its 95% interval (Student's t)."""
    from scipy.stats import t

    values = np.asarray(values, float)
    n = len(values)
    return float(values.mean()), float(t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5)


# Stored results


class Results:
    """The stored results of experiments/dense_detection.py, an array over the seeds for each."""

    def __init__(self, path: Path = RESULTS) -> None:
        self.stored: dict[str, Any] = json.loads(path.read_text("utf-8"))
        self._runs: dict[str, list[dict[str, Any]]] = {}
        for run in sorted(self.stored["runs"], key=lambda run: run["seed"]):
            self._runs.setdefault(run["settings"], []).append(run)

    def group(self, name: str) -> list[Settings]:
        """The settings of one group of runs."""
        return [Settings(**self.stored["settings"][key]) for key in self.stored["groups"][name]]

    def of(self, what: str, how: Settings) -> Array:
        """One entry of the runs with these settings: "test", "validation", "ledger", ..."""
        return np.array([run[what] for run in self._runs[how.key]])

    def test(self, how: Settings) -> Array:
        """The average precision on the test canvases, for each seed."""
        return self.of("test", how)

    def validation(self, how: Settings) -> float:
        """The average precision on the validation canvases at the end, the mean over the seeds."""
        return float(self.of("validation", how)[:, -1].mean())

    def best(self, candidates: Sequence[Settings]) -> Settings:
        """The settings that are best on the validation canvases."""
        return max(candidates, key=self.validation)

    def curves(self, how: Settings, gamma: float, name: str) -> Array:
        """The cumulative losses of one class, for each seed: the rows go with ``CURVE``."""
        return np.array([run["curves"][f"{gamma:g}"][name] for run in self._runs[how.key]])
