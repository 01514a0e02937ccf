"""The long experiments: their parts by hand, and the stored results against the scripts' settings.

A sweep is too long for the tests. They run one tiny configuration of it, and hold what is stored to
the settings that the script has now.
"""

import json
from collections import Counter
from dataclasses import asdict, fields, replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import dense_detection as sweep
from focal_lib.torch import sigmoid_focal_loss
from focal_notes import detection
from focal_notes.detection import (
    CANVAS,
    CLASSES,
    DIGIT,
    GRID,
    Canvases,
    Detections,
    Results,
    Settings,
    Targets,
    anchor_edges,
    area,
    assign,
    average_precision,
    canvases,
    cumulative,
    detect,
    digits,
    ledger,
    match,
    network,
    objective,
    overlap,
    rate,
    recorded_steps,
    scores,
    spread,
)

# Average precision, by hand


@pytest.mark.parametrize(
    ("hits", "total", "expected"),
    [
        ([1], 1, 1.0),
        ([0], 1, 0.0),
        ([1], 2, 0.5),  # one digit is never found
        ([0, 1], 1, 0.5),
        ([1, 0, 1], 2, (1 + 2 / 3) / 2),
        ([0, 1, 1], 2, 2 / 3),  # the better precision at a higher recall counts for both
        ([1, 0, 0, 1], 2, (1 + 1 / 2) / 2),
        ([], 3, 0.0),
    ],
)
def test_area_by_hand(hits: list[int], total: int, expected: float) -> None:
    assert area(np.array(hits, bool), total) == pytest.approx(expected)


def found(*rows: tuple[int, int, int, int, float]) -> Detections:
    canvas, kind, top, left, score = np.array(rows, float).T
    return Detections(canvas.astype(int), kind.astype(int), top, left, score)


OBJECTS = np.array([[0, 3, 10, 10], [0, 5, 30, 30], [1, 3, 10, 10]])  # canvas, class, top, left


@pytest.mark.parametrize(
    ("detections", "hits"),
    [
        ([(0, 3, 10, 10, 0.9)], [True]),
        ([(0, 3, 12, 10, 0.9)], [True]),  # an IoU of 48/80 = 0.6
        ([(0, 3, 12, 12, 0.9)], [False]),  # 36/92 = 0.39
        ([(0, 3, 30, 30, 0.9)], [False]),  # there is a digit, of another class
        ([(2, 3, 10, 10, 0.9)], [False]),  # and here one of this class, on another canvas
        ([(0, 3, 10, 10, 0.4), (0, 3, 11, 10, 0.8)], [True, False]),  # the second is a duplicate
        ([(0, 3, 10, 10, 0.8), (1, 3, 9, 10, 0.9)], [True, True]),
        ([(0, 5, 30, 30, 0.9)], []),  # not of the class that is asked for
    ],
)
def test_match_by_hand(detections: list[tuple[int, int, int, int, float]], hits: list[bool]):
    assert match(found(*detections), OBJECTS, 3).tolist() == hits


def test_a_detection_takes_the_digit_that_it_overlaps_most() -> None:
    two = np.array([[0, 3, 10, 10], [0, 3, 10, 13]])
    # The first takes the digit at 13, not that at 10; then the second finds its own.
    assert match(found((0, 3, 10, 12, 0.9), (0, 3, 10, 10, 0.8)), two, 3).tolist() == [True, True]


def test_detections_are_suppressed_greedily() -> None:
    logits = np.full((1, CLASSES, GRID, GRID), -9.0)
    for row, column, score in ((5, 5, 3), (5, 6, 2), (6, 6, 1), (5, 8, 0.5), (20, 20, 4)):
        logits[0, 2, row, column] = score
    logits[0, 4, 5, 5] = 2.5  # another class is not suppressed
    best = detect(logits)
    mine = best.kind == 2
    edge = anchor_edges()
    assert best.score[mine][:3].tolist() == [4, 3, 0.5]
    assert best.top[mine][:3].tolist() == edge[[20, 5, 5]].tolist()
    assert best.left[mine][:3].tolist() == edge[[20, 5, 8]].tolist()
    assert best.score[best.kind == 4][0] == 2.5
    assert len(best.score) == CLASSES * detection.KEPT and not best.canvas.any()


def test_no_two_detections_of_a_class_overlap() -> None:
    logits = np.random.default_rng(0).standard_normal((2, CLASSES, GRID, GRID))
    best = detect(logits)
    for canvas in range(2):
        for kind in range(CLASSES):
            here = (best.canvas == canvas) & (best.kind == kind)
            iou = overlap(*(part[here][:, None] for part in (best.top, best.left)),
                          best.top[here], best.left[here])  # fmt: skip
            assert (iou - np.eye(here.sum()) <= detection.SUPPRESS).all()
            assert (np.diff(best.score[here]) <= 0).all()


def test_a_perfect_detector_and_its_opposite() -> None:
    data = canvases(0, "validation", 6)
    labels = assign(data).labels
    perfect = average_precision(labels, data.objects)
    there = np.bincount(data.objects[:, 1], minlength=CLASSES) > 0
    # At a corner of four positives the diagonal is no duplicate: it overlaps by more than 0.3.
    assert np.array_equal(np.isnan(perfect), ~there) and np.all(perfect[there] == 1)
    assert np.nanmax(average_precision(-9 * labels, data.objects)) < 0.1
    assert np.nanmax(average_precision(torch.full_like(labels, torch.nan), data.objects)) < 0.1


def test_only_the_order_counts() -> None:
    data = canvases(0, "validation", 6)
    logits = scores(network(0, 0.01), data.images)
    same = average_precision(logits, data.objects)
    for change in (lambda x: x + 3, lambda x: 5 * x, torch.sigmoid, lambda x: x**3):
        changed = average_precision(change(logits.double()).float(), data.objects)
        assert np.array_equal(changed, same, equal_nan=True)


# Canvases and anchors


def test_splits_share_no_digit_and_seeds_share_no_canvas() -> None:
    ends = sorted(detection.SPLITS.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))
    assert sum(len(digits(split)[0]) for split in detection.SPLITS) == 1797
    images = [canvases(seed, split, 3).images for seed in (0, 1) for split in ("train", "test")]
    assert torch.equal(canvases(0, "train", 3).images, images[0])
    assert not any(torch.equal(one, other) for one, other in combinations(images, 2))


def test_digits_lie_whole_and_apart_where_they_are_said_to() -> None:
    data = canvases(3, "train", 30, fragments=0, noise=0)
    shapes, classes = digits("train")
    for canvas, kind, top, left in data.objects:
        patch = data.images[canvas, 0, top : top + DIGIT, left : left + DIGIT].numpy()
        assert patch.shape == (DIGIT, DIGIT)
        assert kind in classes[(shapes == patch).all(axis=(1, 2))]
    for canvas in range(30):
        corners = data.objects[data.objects[:, 0] == canvas, 2:]
        assert len(corners) == 2 + canvas % 3
        gaps = abs(corners[:, None] - corners).max(axis=2) + DIGIT * np.eye(len(corners))
        assert gaps.min() >= DIGIT


def test_anchors_are_assigned_by_their_overlap() -> None:
    data = Canvases(torch.zeros(2, 1, CANVAS, CANVAS), np.array([[0, 7, 20, 31], [1, 2, 0, 56]]))
    targets = assign(data)
    edges = anchor_edges()
    for canvas, kind, top, left in data.objects:
        for row in range(GRID):
            for column in range(GRID):
                rows = len({*range(top, top + 8)} & {*range(edges[row], edges[row] + 8)})
                columns = len({*range(left, left + 8)} & {*range(edges[column], edges[column] + 8)})
                iou = rows * columns / (128 - rows * columns)
                assert targets.labels[canvas, kind, row, column] == (iou >= 0.5)
                assert targets.kept[canvas, 0, row, column] == (not 0.4 <= iou < 0.5)
    assert targets.labels.sum(dim=(1, 2, 3)).min() >= 2
    positives, negatives = targets.counts
    assert positives + negatives == CLASSES * targets.kept.sum()


def test_positives_are_rarer_than_one_in_a_thousand() -> None:
    positives, negatives = detection.split_of(0, "train")[1].counts
    assert negatives / positives > 1000


# Losses


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    targets = assign(canvases(0, "train", 4))
    logits = torch.randn(targets.labels.shape, generator=torch.Generator().manual_seed(0))
    return logits, targets.labels, targets.kept


@pytest.mark.parametrize("how", [Settings(), Settings(alpha=0.25, gamma=2.0)])
def test_objective_is_the_sum_over_kept_anchors(batch, how: Settings) -> None:
    logits, labels, kept = batch
    chosen = kept.expand_as(labels) > 0
    total = sigmoid_focal_loss(logits[chosen], labels[chosen], how.alpha, how.gamma).sum()
    assert objective(*batch, how) == pytest.approx(float(total / labels.sum()), rel=1e-5)
    anchors = objective(*batch, replace(how, normalizer="anchors"))
    assert anchors == pytest.approx(float(total / chosen.sum()), rel=1e-5)


def test_chosen_negatives(batch) -> None:
    logits, labels, kept = batch
    positives = int(labels.sum())
    negative = (labels == 0) & (kept > 0)
    losses = sigmoid_focal_loss(logits, labels, 0.5, 0.0)
    for rule, count in (("hardest:3", 3), ("random:1", 1)):
        mask = detection._chosen(losses, labels, kept, rule) > 0
        assert mask[labels > 0].all() and int((mask & negative).sum()) == count * positives
        assert not mask[:, :][(kept == 0).expand_as(mask)].any()
    mask = detection._chosen(losses, labels, kept, "hardest:3") > 0
    assert losses[mask & negative].min() >= losses[~mask & negative].max()


def test_ledger_adds_up(batch) -> None:
    logits, labels, kept = batch
    book = ledger(logits, Targets(labels, kept), 0.25, 2.0)
    kept_scores = CLASSES * kept.sum()
    assert book.shape == (4, 3) and book[:, 0].sum() == kept_scores
    assert book[0, 0] == labels.sum()
    losses = sigmoid_focal_loss(logits, labels, 0.25, 2.0) * kept
    assert book[:, 1].sum() == pytest.approx(float(losses.sum()), rel=1e-5)
    at_half = ledger(torch.zeros_like(logits), Targets(labels, kept), None, 0.0)
    n = float(kept_scores - labels.sum())
    assert at_half[2].tolist() == pytest.approx([n, np.log(2) * n, n / 2])


def test_cumulative_by_hand() -> None:
    losses, fractions = np.array([1.0, 5.0, 2.0, 0.0]), np.array([0, 0.125, 0.25, 0.5, 1])
    assert cumulative(losses, fractions) == pytest.approx([0, 2.5 / 8, 5 / 8, 7 / 8, 1])


def test_the_network_starts_at_the_stated_score() -> None:
    images = canvases(0, "train", 4).images
    for start in (0.5, 0.01):
        model = network(0, start)
        p = scores(model, images).sigmoid()
        assert p.mean() == pytest.approx(start, rel=0.05)
        assert model.training  # as it was before
    first, again, other = (network(seed, 0.01)[0].weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_schedule() -> None:
    how = Settings(warmup=20, steps=400)
    assert rate(0, how) == 1 / 20 and rate(19, how) == 1 - 19 / 400
    assert rate(200, how) == 0.5 and rate(400, how) == 0
    assert rate(0, replace(how, warmup=0)) == 1
    assert recorded_steps(400)[:6] == [0, 1, 2, 3, 5, 8] and recorded_steps(400)[-1] == 400


def test_spread_is_students_interval() -> None:
    mean, half = spread([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.302653 / 3**0.5)


# The sweep


def test_settings_have_different_keys_and_each_group_is_in_the_grid() -> None:
    grid = sweep.grid()
    assert len({how.key for how in grid}) == len(grid)
    assert sweep.watched() <= {*grid}
    for name in ("alpha", "gamma"):  # only these vary there
        for how in sweep.groups()[name]:
            assert replace(how, alpha=0.5, gamma=0.0) == sweep.CE
    assert {field.name for field in fields(Settings)} == {*asdict(sweep.CE)}


def test_stored_results_are_those_of_the_script() -> None:
    stored = json.loads(sweep.RESULTS.read_text("utf-8"))
    assert sweep.RESULTS.stat().st_size < 1e6
    assert stored["identity"] == sweep.identity(), "run the script again: its settings changed"
    assert stored["seeds"] == [*sweep.SEEDS] and len(sweep.SEEDS) >= 5
    assert stored["fixed"] == detection.FIXED
    assert stored["checkpoints"] == [*sweep.CHECKPOINTS, sweep.CE.steps]
    assert stored["recorded_steps"] == recorded_steps(sweep.CE.steps)
    assert stored["curve_fractions"] == pytest.approx(detection.CURVE, rel=1e-3)
    assert {*stored["versions"]} == {"python", "torch", "numpy", "scikit-learn"}
    assert stored["settings"] == {how.key: asdict(how) for how in sweep.grid()}
    assert stored["groups"] == {
        name: [how.key for how in members] for name, members in sweep.groups().items()
    }


def test_every_run_was_made_once_and_is_whole() -> None:
    stored = json.loads(sweep.RESULTS.read_text("utf-8"))
    runs = Counter((run["settings"], run["seed"]) for run in stored["runs"])
    assert runs == {(how.key, seed): 1 for how in sweep.grid() for seed in sweep.SEEDS}
    watched = {how.key for how in sweep.watched()}
    for run in stored["runs"]:
        assert 0 <= run["test"] <= 1 and len(run["validation"]) == 3
        assert ("ledger" in run) == (run["settings"] in watched)
        assert ("curves" in run) == (run["settings"] in {sweep.CE.key, sweep.FOCAL.key})


def test_results_are_read_by_settings() -> None:
    results = Results()
    assert results.group("alpha") == sweep.groups()["alpha"]
    assert results.test(sweep.CE).shape == (len(sweep.SEEDS),)
    steps = len(recorded_steps(sweep.CE.steps))
    assert results.of("ledger", sweep.CE).shape == (len(sweep.SEEDS), steps, 4, 3)
    best = results.best(sweep.groups()["alpha"])
    assert results.validation(best) == max(map(results.validation, sweep.groups()["alpha"]))
    curves = results.curves(sweep.FOCAL, 2.0, "negatives")
    assert curves.shape == (len(sweep.SEEDS), len(detection.CURVE))
    assert np.all(curves[:, 0] == 0) and np.all(curves[:, -1] == 1)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch):
    """A sweep of canvases and runs that take no time."""
    small = {"batch": 2, "train": 6, "validation": 4, "test": 4, "probe": 2}
    monkeypatch.setattr(detection, "FIXED", detection.FIXED | small)
    detection.split_of.cache_clear()
    yield
    detection.split_of.cache_clear()


def test_one_tiny_run(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "CHECKPOINTS", (1, 2))
    stored = json.loads(sweep.RESULTS.read_text("utf-8"))
    shapes = {run["settings"]: {*run} for run in stored["runs"]}
    how = replace(sweep.FOCAL, steps=4)
    run = sweep.run(how, 0)
    assert {*run} | {"ledger", "curves"} == shapes[sweep.FOCAL.key]
    assert run == sweep.run(how, 0) != sweep.run(how, 1)
    assert run["steps"] == 4 and len(run["validation"]) == 3
    assert run["settings"] == how.key and json.loads(json.dumps(run)) == run
    model, record = detection.train(how, 0)
    assert record["steps"] == [0, 1, 2, 3, 4] and record["ledger"].shape == (5, 4, 3)
    curves = sweep._curves(model, 0)
    assert {*curves} == {"0", "0.5", "1", "2", "5"}


def test_a_sweep_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    assert sweep.stored(path) == []
    runs = sweep.stored()
    kept = runs[:7] + runs[8:]
    sweep.store(kept[::-1], path)
    assert sweep.stored(path) == kept
    [(how, seed)] = sweep.missing(sweep.stored(path))
    assert (how.key, seed) == (runs[7]["settings"], runs[7]["seed"])
    monkeypatch.setattr(sweep, "SEEDS", (0, 1))
    assert sweep.stored(path) == [run for run in kept if run["seed"] in (0, 1)]
    monkeypatch.setattr(detection, "KEPT", 5)
    assert sweep.stored(path) == []  # other conditions: nothing of it is used
