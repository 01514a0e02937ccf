"""The population and the trainer that two chapters share."""

import numpy as np
import pytest
from scipy.special import expit

from focal_lib.numpy import sigmoid_focal_loss
from focal_notes.imbalance import (
    BACKGROUND,
    CENTERS,
    LOOKALIKES,
    POSITIVES,
    Population,
    average_precision,
    fit,
    ledger,
    optimum,
    population,
    settling_steps,
)

SMALL = {"n_background": 400, "n_lookalikes": 20, "n_positives": 10}


def test_population_has_the_stated_sizes_and_labels() -> None:
    data = population(0)
    assert data.sizes.tolist() == [9_900, 100, 20]
    assert np.array_equal(data.y, data.group == POSITIVES)
    assert data.prior == pytest.approx(1 / 501)
    assert data.inverse_frequency == pytest.approx(500 / 501)
    assert population(0, held_out=True).sizes.tolist() == [99_000, 1_000, 200]


def test_draws_are_reproducible_and_independent() -> None:
    assert np.array_equal(population(3).points, population(3).points)
    assert not np.array_equal(population(3).points, population(4).points)
    train, held_out = population(3, **SMALL), population(3, **SMALL, held_out=True)
    assert not np.isin(train.points, held_out.points).any()


def test_groups_lie_where_they_are_said_to() -> None:
    data = population(0, n_background=20_000, n_lookalikes=20_000, n_positives=20_000)
    for group, center in enumerate(CENTERS):
        points = data.points[data.group == group]
        assert points.mean(axis=0) == pytest.approx(center, abs=0.05)
        assert np.cov(points.T) == pytest.approx(np.eye(2), abs=0.05)
    assert np.linalg.norm(CENTERS[POSITIVES] - CENTERS[LOOKALIKES]) == 3
    assert np.linalg.norm(CENTERS[POSITIVES] - CENTERS[BACKGROUND]) > 4


def test_posterior_is_calibrated() -> None:
    data = population(0, n_background=20_000, n_lookalikes=20_000, n_positives=20_000)
    posterior = expit(data.posterior_logit(data.points))
    for low in (0.0, 0.25, 0.5, 0.75):
        chosen = (posterior >= low) & (posterior < low + 0.25)
        assert data.y[chosen].mean() == pytest.approx(posterior[chosen].mean(), abs=0.02)


@pytest.mark.parametrize("alpha", [None, 0.9])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("hidden", [0, 3])
def test_first_step_follows_the_numerical_gradient(
    alpha: float | None, gamma: float, hidden: int
) -> None:
    data = population(1, **SMALL)
    run = fit(data, alpha, gamma, hidden=hidden, steps=3, learning_rate=1e-3, momentum=0.0)
    weight = np.ones(data.y.size) if alpha is None else np.where(data.y == 1, alpha, 1 - alpha)

    def objective(parameters: list[np.ndarray]) -> float:
        *layer, weights, bias = parameters
        features = np.tanh(data.points @ layer[0] + layer[1]) if layer else data.points
        losses = sigmoid_focal_loss(features @ weights + bias, data.y, alpha, gamma)
        return float(losses.sum() / weight.sum())

    before, after = run.path[1], run.path[2]  # at the start a hidden layer has no gradient yet
    for index, parameter in enumerate(before):
        slope = (parameter - after[index]) / 1e-3
        for entry in np.ndindex(parameter.shape):
            changed = [p.copy() for p in before]
            changed[index][entry] += 1e-5
            up = objective(changed)
            changed[index][entry] -= 2e-5
            numerical = (up - objective(changed)) / 2e-5
            assert slope[entry] == pytest.approx(numerical, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("start", [0.5, 0.01])
@pytest.mark.parametrize("hidden", [0, 4])
def test_every_example_starts_at_the_stated_score(start: float, hidden: int) -> None:
    data = population(1, **SMALL)
    run = fit(data, start=start, hidden=hidden, steps=1)
    assert expit(run.logits(data.points, 0)) == pytest.approx(start)


def test_training_separates_the_groups_and_is_deterministic() -> None:
    data = population(2, **SMALL)
    first, again = fit(data, 0.9, steps=300), fit(data, 0.9, steps=300)
    assert np.array_equal(first.logits(data.points), again.logits(data.points))
    assert first.steps[0] == 0 and first.steps[-1] == 300
    assert len(first.path) == len(first.steps)
    books = first.ledgers(data)
    assert books["loss"].shape == (len(first.steps), 3)
    assert books["loss"][-1].sum() < 0.3 * books["loss"][0].sum()


def test_constant_weights_change_nothing_in_training() -> None:
    data = population(2, **SMALL)
    plain, half = fit(data, None, steps=50), fit(data, 0.5, steps=50)
    assert plain.logits(data.points) == pytest.approx(half.logits(data.points), rel=1e-10)


def test_ledger_at_the_start() -> None:
    data = population(0, **SMALL)
    books = ledger(np.zeros(data.y.size), data, alpha=0.9)
    assert books["cross_entropy"] == pytest.approx(np.log(2) * data.sizes)
    assert books["loss"] == pytest.approx(np.log(2) * data.sizes * [0.1, 0.1, 0.9])
    assert books["gradient"] == pytest.approx(data.sizes / 2 * [0.1, 0.1, 0.9])


def test_settling_steps_by_hand() -> None:
    steps = np.array([0, 1, 2, 5, 9])
    falls, rises_first, slow = (
        [1.0, 0.05, 0.02, 0, 0],
        [1.0, 4.0, 0.1, 0.41, 0.4],
        [1.0, 0, 0, 0, 0.2],
    )
    curves = np.array([[falls, rises_first, slow]]).transpose(0, 2, 1)
    assert settling_steps(steps, curves, np.zeros((1, 3))).tolist() == [[1.0, 9.0, np.inf]]


def test_optimum_is_where_training_ends() -> None:
    data = population(2, n_background=400, n_lookalikes=40, n_positives=40)
    for alpha in (None, 0.9):
        end = optimum(data, alpha).logits(data.points)
        run = fit(data, alpha, steps=5_000)
        assert run.logits(data.points) == pytest.approx(end, rel=1e-3, abs=1e-3)
        pull = ledger(end, data, alpha)["gradient"]
        assert pull[POSITIVES] == pytest.approx(pull[:POSITIVES].sum(), rel=1e-9)


def test_optimum_says_when_there_is_none() -> None:
    points = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 1.0]])
    data = Population(points, np.array([0, 0, 1]), np.array([0, 1, 2]))
    with pytest.raises((RuntimeError, np.linalg.LinAlgError)):
        optimum(data)


def test_average_precision_by_hand() -> None:
    assert (
        average_precision(np.array([4.0, 3.0, 2.0, 1.0]), np.array([1, 0, 1, 0])) == (1 + 2 / 3) / 2
    )
    assert average_precision(np.array([1.0, 2.0]), np.array([0, 1])) == 1.0
