"""The objectives for gradient boosting: their formulas, and how the real libraries take them."""

import inspect
import pickle
import re

import lightgbm
import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit, softmax
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier

from focal_lib.boosting import SigmoidFocalObjective, SoftmaxFocalObjective
from focal_lib.numpy import (
    sigmoid_focal_loss,
    sigmoid_focal_loss_gradient,
    sigmoid_focal_loss_hessian,
    softmax_focal_loss,
    softmax_focal_loss_gradient,
    softmax_focal_loss_hessian,
)

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
gammas = st.floats(0, 8)
each_gamma = pytest.mark.parametrize("gamma", GAMMAS)


def rows(classes: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, (6, classes), elements=st.floats(-30, 30))


# The formulas, two classes


@each_gamma
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_gradient_and_hessian_of_two_classes(gamma: float, alpha: float | None) -> None:
    x = np.repeat(np.linspace(-20, 20, 401), 2)
    y = np.tile([0, 1], 401)
    gradient, hessian = SigmoidFocalObjective(alpha=alpha, gamma=gamma)(y, x)
    np.testing.assert_allclose(
        gradient, sigmoid_focal_loss_gradient(x, y, alpha=alpha, gamma=gamma), 1e-14
    )
    p = expit(np.where(y, x, -x))
    exact = sigmoid_focal_loss_hessian(x, y, alpha=alpha, gamma=gamma)
    expected = np.maximum(np.maximum(exact, p * np.abs(gradient)), 1e-16 * 0.25)
    large = expected > 1e-15
    np.testing.assert_allclose(hessian[large], expected[large], 1e-14)
    assert (hessian > 0).all()
    assert ((exact < 0).any() and (hessian > exact).any()) == (gamma > 0)


@given(gammas, st.floats(-30, 30))
def test_the_step_is_the_shorter_of_two(gamma: float, z: float) -> None:
    """That of cross entropy, 1/p, and where the loss is convex that of Newton's method."""
    (g,), (h,) = SigmoidFocalObjective(alpha=None, gamma=gamma)([1], [z])
    curvature = sigmoid_focal_loss_hessian(z, 1, alpha=None, gamma=gamma)
    steps = [1 / expit(z)] + ([-g / curvature] if curvature > 0 else [])
    if h > 1e-15:
        np.testing.assert_allclose(-g / h, min(steps), rtol=1e-12)
    else:
        assert -g / h <= min(steps) * (1 + 1e-12)


def test_soft_labels_are_an_expectation() -> None:
    focal, x = SigmoidFocalObjective(alpha=0.25, gamma=2.0), np.array([-3.0, 0.5, 2.0])
    for one, zero, soft in zip(*(focal([y] * 3, x) for y in (1, 0, 0.3)), strict=True):
        np.testing.assert_allclose(soft, 0.3 * one + 0.7 * zero, 1e-14)


def test_gamma_zero_is_the_log_loss_of_the_libraries() -> None:
    x, y = np.linspace(-8, 8, 33), np.arange(33) % 2
    gradient, hessian = SigmoidFocalObjective(alpha=None, gamma=0.0)(y, x)
    np.testing.assert_allclose(gradient, expit(x) - y, 1e-12)
    np.testing.assert_allclose(hessian, expit(x) * expit(-x), 1e-12)


# The formulas, many classes


@given(rows(4), gammas)
def test_gradient_of_many_classes(x: np.ndarray, gamma: float) -> None:
    y, weight = np.array([0, 1, 2, 3, 0, 1]), [0.5, 1.0, 2.0, 3.0]
    gradient, hessian = SoftmaxFocalObjective(4, weight, gamma=gamma)(y, x)
    expected = softmax_focal_loss_gradient(x, y, weight, gamma=gamma, reduction="none")
    np.testing.assert_allclose(gradient, expected, 1e-12, 1e-300)
    assert (hessian > 0).all()


@given(rows(2), gammas)
def test_two_classes_are_the_binary_objective(x: np.ndarray, gamma: float) -> None:
    y = np.array([0, 1, 0, 1, 0, 1])
    gradient, hessian = SoftmaxFocalObjective(2, gamma=gamma)(y, x)
    g, h = SigmoidFocalObjective(alpha=None, gamma=gamma)(y, x[:, 1] - x[:, 0])
    np.testing.assert_allclose(gradient, np.stack([-g, g], axis=1), 1e-10, 1e-300)
    np.testing.assert_allclose(hessian, 2 * np.stack([h, h], axis=1), 1e-10, 3e-16)


@given(rows(5), gammas)
def test_the_diagonal_bounds_the_hessian(x: np.ndarray, gamma: float) -> None:
    y, x = np.array([0, 1, 2, 3, 4, 0]), x / 4
    hessian = SoftmaxFocalObjective(5, gamma=gamma)(y, x)[1]
    exact = softmax_focal_loss_hessian(x, y, gamma=gamma, reduction="none")
    for diagonal, matrix in zip(hessian, exact, strict=True):
        if diagonal.min() > 1e-12:  # so that 1e-16, the rounding of 1 - r, is nothing to it
            scale = np.sqrt(diagonal)
            assert np.linalg.eigvalsh(matrix / scale / scale[:, None]).max() <= 1 + 1e-3
            assert np.linalg.eigvalsh(matrix - np.diag(diagonal)).max() <= 1e-15


@given(gammas, st.floats(-6, 6), st.floats(-6, 6))
def test_the_factor_two_is_needed(gamma: float, a: float, b: float) -> None:
    """Half the diagonal does not bound the Hessian where two classes alone matter."""
    x = np.array([[a, b, -80.0]])
    half = SoftmaxFocalObjective(3, gamma=gamma)([0], x)[1][0] / 2
    exact = softmax_focal_loss_hessian(x, [0], gamma=gamma, reduction="none")[0]
    if exact[0, 0] > 1e-6 and exact[0, 0] >= half[0] * (1 - 1e-12):  # f'' itself, no treatment
        direction = np.array([1.0, -1.0, 0.0])
        assert direction @ exact @ direction > 1.99 * (half * direction**2).sum() > 0


def test_gamma_zero_is_multi_softprob() -> None:
    x, y = np.random.default_rng(0).normal(size=(50, 4)) * 3, np.arange(50) % 4
    gradient, hessian = SoftmaxFocalObjective(4, gamma=0.0)(y, x)
    p = softmax(x, axis=1)
    np.testing.assert_allclose(gradient, p - np.eye(4)[y], 1e-11, 1e-15)
    np.testing.assert_allclose(hessian, 2 * p * (1 - p), 1e-11)


# What both do with weights, scores and labels


@pytest.mark.parametrize(
    ("focal", "y", "raw"),
    [
        (SigmoidFocalObjective(alpha=0.25, gamma=2.0), [0, 1, 1], np.array([-2.0, 0.5, 3.0])),
        (SoftmaxFocalObjective(3, [1, 2, 3]), [0, 1, 2], np.arange(9.0).reshape(3, 3) % 4),
    ],
)
def test_sample_weights_multiply(focal, y, raw) -> None:
    weight = np.array([0.0, 1.0, 2.5])
    shape = (3,) + (1,) * (raw.ndim - 1)
    for plain, weighted in zip(focal(y, raw), focal(y, raw, weight), strict=True):
        np.testing.assert_allclose(weighted, plain * weight.reshape(shape), 1e-15)
    losses = focal._losses(np.array(y), raw)
    assert focal.lightgbm_metric(y, raw, weight) == (
        "focal_loss",
        pytest.approx((weight * losses).sum() / 3.5, rel=1e-14),
        False,
    )


def test_class_weights_are_weights_of_the_examples() -> None:
    rng = np.random.default_rng(4)
    raw, y, weight = rng.normal(size=(9, 3)), np.arange(9) % 3, np.array([1.0, 2.0, 5.0])
    np.testing.assert_allclose(
        SoftmaxFocalObjective(3, weight)(y, raw), SoftmaxFocalObjective(3)(y, raw, weight[y]), 1e-14
    )
    y = np.arange(9) % 2
    np.testing.assert_allclose(
        SigmoidFocalObjective(alpha=0.2)(y, raw[:, 0]),
        SigmoidFocalObjective(alpha=None)(y, raw[:, 0], np.where(y, 0.2, 0.8)),
        1e-14,
    )


@each_gamma
@pytest.mark.parametrize("alpha", [None, 0.25, 0.9])
def test_the_initial_score_minimises_the_loss(gamma: float, alpha: float | None) -> None:
    rng = np.random.default_rng(1)
    y, w = (rng.random(500) < 0.07).astype(int), rng.uniform(0, 3, 500)
    focal = SigmoidFocalObjective(alpha=alpha, gamma=gamma)
    score = focal.initial_score(y, w)
    slopes = focal(y, np.full(500, score), w)[0]
    assert abs(slopes.sum()) < 1e-12 * np.abs(slopes).sum()
    np.testing.assert_allclose(focal.posterior([score])[0, 1], w @ y / w.sum(), 1e-12)


@each_gamma
@pytest.mark.parametrize("weight", [None, [1.0, 5.0, 0.2]])
def test_the_initial_scores_minimise_the_loss(gamma: float, weight: list[float] | None) -> None:
    rng = np.random.default_rng(2)
    y, w = rng.choice(3, 500, p=[0.9, 0.08, 0.02]), rng.uniform(0, 3, 500)
    focal = SoftmaxFocalObjective(3, weight, gamma=gamma)
    scores = focal.initial_score(y, w)
    assert abs(scores.sum()) < 1e-12
    slopes = focal(y, np.tile(scores, (500, 1)), w)[0]
    assert (abs(slopes.sum(axis=0)) < 1e-12 * np.abs(slopes).sum(axis=0)).all()
    shares = np.bincount(y, w, 3) / w.sum()
    np.testing.assert_allclose(focal.posterior(scores[None])[0], shares, 1e-12)


def test_results_have_the_shape_of_the_scores() -> None:
    focal = SigmoidFocalObjective(alpha=None)
    assert [a.shape for a in focal([0, 1], np.zeros((2, 1), np.float32))] == [(2, 1)] * 2
    assert [a.dtype for a in focal([0, 1], np.zeros(2, np.float32))] == [np.float64] * 2
    fortran = np.asfortranarray(np.random.default_rng(0).normal(size=(4, 3)))
    both = SoftmaxFocalObjective(3)
    c_order = both([0, 1, 2, 0], fortran.copy("C"))
    for a, b in zip(both([0, 1, 2, 0], fortran), c_order, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("x", [-np.inf, -1e308, -800.0, 800.0, 1e308, np.inf])
def test_extreme_scores(x: float) -> None:
    for y in (0, 1):
        gradient, hessian = SigmoidFocalObjective(alpha=None, gamma=0.5)([y], [x])
        assert np.isfinite(gradient).all() and (hessian > 0).all() and np.isfinite(hessian).all()
        gradient, hessian = SoftmaxFocalObjective(3, gamma=0.5)([y], [[0.0, x, 0.0]])
        assert np.isfinite(gradient).all() and (hessian > 0).all() and np.isfinite(hessian).all()


@pytest.mark.parametrize("size", [1.7e308, 1e300, 1e-300, 5e-324])
def test_the_unit_of_sample_weights_is_free(size: float) -> None:
    y, raw, share = [1, 1, 0, 1], np.array([-1.0, 0.5, 2.0, 0.0]), np.array([1.0, 1.0, 1.0, 1.0])
    rows = np.stack([np.zeros(4), raw], axis=1)
    for focal, scores in (
        (SigmoidFocalObjective(alpha=0.25, gamma=2.0), raw),
        (SoftmaxFocalObjective(2), rows),
    ):
        plain, ours = (focal.xgboost_metric(y, scores, w) for w in (None, size * share))
        assert ours == pytest.approx(plain, rel=1e-15)
        np.testing.assert_allclose(
            focal.initial_score(y, size * share), focal.initial_score(y), rtol=1e-15, atol=1e-15
        )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 20.0, 1e6, 1e300])
def test_derivatives_for_every_gamma(gamma: float) -> None:
    x = np.array([-1e4, -800.0, -690.0, -14.0, -1.0, 0.0, 1.0, 30.0, 800.0])
    for y in (0, 1, 0.3):
        for got in SigmoidFocalObjective(alpha=None, gamma=gamma)(np.full(9, y), x):
            assert np.isfinite(got).all()
    rows = np.stack([x, -x, np.zeros(9)], axis=1)
    for got in SoftmaxFocalObjective(3, gamma=gamma)(np.arange(9) % 3, rows):
        assert np.isfinite(got).all()


BINARY, MULTI = SigmoidFocalObjective(alpha=None), SoftmaxFocalObjective(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SigmoidFocalObjective(alpha=2.0), ValueError, "alpha: takes"),
        (lambda: SigmoidFocalObjective(alpha=None, gamma=-1.0), ValueError, "gamma: takes"),
        (lambda: SigmoidFocalObjective(alpha=None, gamma=True), TypeError, "gamma: takes"),
        (lambda: SoftmaxFocalObjective(1), ValueError, "n_classes: takes an integer >= 2, got 1"),
        (lambda: SoftmaxFocalObjective(2.0), TypeError, "n_classes: takes an integer"),
        (lambda: SoftmaxFocalObjective(3, [1, 1]), ValueError, "weight: takes the shape (3,)"),
        (lambda: SoftmaxFocalObjective(3, [1, 1, -1]), ValueError, "weight: takes"),
        (lambda: SoftmaxFocalObjective(3, gamma=np.nan), ValueError, "gamma: takes"),
        (lambda: SoftmaxFocalObjective(np.timedelta64(3)), TypeError, "n_classes: takes an integ"),
        (lambda: SoftmaxFocalObjective(3, [True] * 3), TypeError, "weight: takes real numbers"),
        (lambda: SoftmaxFocalObjective(2).sklearn_loss(), ValueError, "n_classes: takes 3 or more"),
        (lambda: BINARY(np.ma.ones(2), [0.0, 0.0]), TypeError, "y_true: takes an array without"),
        (lambda: BINARY([0, 1], [0.0, 0.0], [True] * 2), TypeError, "sample_weight: takes real"),
        (lambda: BINARY([0, 2], [0.0, 0.0]), ValueError, "y_true: takes numbers in [0, 1]"),
        (lambda: BINARY([0, 1, 1], [0.0, 0.0]), ValueError, "y_true: takes the shape (2,)"),
        (lambda: BINARY([[0, 1]], [0.0, 0.0]), ValueError, "y_true: takes the shape (N,)"),
        (lambda: BINARY([0, 1], np.zeros((2, 2))), ValueError, "y_pred: takes the shape (N,)"),
        (lambda: BINARY([0, 1], ["a", "b"]), TypeError, "y_pred: takes real numbers"),
        (lambda: BINARY([0, 1], [0.0, 0.0], [1, -1]), ValueError, "sample_weight: takes"),
        (lambda: BINARY([0, 1], [0.0, 0.0], [1]), ValueError, "sample_weight: takes the shape"),
        (lambda: BINARY.initial_score([1, 1]), ValueError, "y: takes examples of both classes"),
        (lambda: SigmoidFocalObjective(alpha=1.0).initial_score([0, 1]), ValueError, "alpha"),
        (lambda: SigmoidFocalObjective(alpha=0.0).posterior([0.0]), ValueError, "alpha"),
        (lambda: BINARY.xgboost_metric([1], [0.0], [0]), ValueError, "sample_weight: takes a pos"),
        (lambda: MULTI([0, 3], np.zeros((2, 3))), ValueError, "y_true: takes class indices from 0"),
        (lambda: MULTI([0, 0.5], np.zeros((2, 3))), ValueError, "y_true: takes class indices"),
        (lambda: MULTI([0, 1], np.zeros((3, 2))), ValueError, "y_pred: takes the shape (N, 3)"),
        (lambda: MULTI([0, 1], np.zeros(6)), ValueError, "y_pred: takes the shape (N, 3)"),
        (lambda: MULTI.initial_score([0, 1]), ValueError, "y: takes examples of every class"),
        (lambda: SoftmaxFocalObjective(2, [1, 0]).posterior([[0.0, 1.0]]), ValueError, "weight"),
    ],
)
def test_bad_input(call, error, message) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


# The real libraries


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1500, 4))
    signal = x[:, 0] + x[:, 1] * x[:, 2] / 2 + rng.normal(size=1500) / 2
    y, classes = (signal > 1.6).astype(int), np.digitize(signal, [-1.0, 1.6])
    assert 0.05 < y.mean() < 0.12
    return x, y, classes, rng.uniform(0.5, 2, 1500)


XGB = {"n_estimators": 15, "n_jobs": 1, "min_child_weight": 1e-3}
LGB = {"n_estimators": 15, "n_jobs": 1, "verbose": -1, "deterministic": True}
SKL = {"max_iter": 15, "random_state": 0}


def margins(model, x):
    return model.predict(x, output_margin=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_gamma_zero_grows_xgboosts_own_trees(data, weighted) -> None:
    x, y, classes, w = data
    w = w if weighted else None
    for own, focal, labels in (
        ("binary:logistic", SigmoidFocalObjective(alpha=None, gamma=0.0), y),
        ("multi:softprob", SoftmaxFocalObjective(3, gamma=0.0), classes),
    ):
        ours, theirs = (
            xgboost.XGBClassifier(objective=objective, base_score=0.5, **XGB).fit(
                x, labels, sample_weight=w
            )
            for objective in (focal, own)
        )
        np.testing.assert_allclose(margins(ours, x), margins(theirs, x), atol=5e-6)
        posterior = focal.posterior(margins(ours, x))
        np.testing.assert_allclose(posterior, theirs.predict_proba(x), atol=2e-6)


def test_the_initial_score_is_xgboosts_base_score(data) -> None:
    x, y, _, w = data
    for gamma in (0.0, 2.0):
        focal = SigmoidFocalObjective(alpha=None, gamma=gamma)
        score = focal.initial_score(y, w)
        native = xgboost.train(
            {"base_score": score, "min_child_weight": 1e-3, "nthread": 1},
            xgboost.DMatrix(x, y, weight=w),
            15,
            obj=focal,
        ).predict(xgboost.DMatrix(x), output_margin=True)
        model = xgboost.XGBClassifier(objective=focal, base_score=expit(score), **XGB)
        np.testing.assert_allclose(
            margins(model.fit(x, y, sample_weight=w), x), native, rtol=1e-4, atol=1e-5
        )
        # What the classifier calls a probability is the score.
        np.testing.assert_allclose(model.predict_proba(x)[:, 1], expit(native), rtol=1e-4)
    prior = np.average(y, weights=w)
    zero = SigmoidFocalObjective(alpha=None, gamma=0.0).initial_score(y, w)
    assert zero == pytest.approx(logit(prior), rel=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_xgboosts_metric(data, gamma) -> None:
    x, y, classes, w = data
    for focal, labels in (
        (SigmoidFocalObjective(alpha=0.25, gamma=gamma), y),
        (SoftmaxFocalObjective(3, [1, 2, 3], gamma=gamma), classes),
    ):
        model = xgboost.XGBClassifier(
            objective=focal, eval_metric=focal.xgboost_metric, early_stopping_rounds=5, **XGB
        ).fit(
            x, labels, sample_weight=w, eval_set=[(x, labels)], sample_weight_eval_set=[w],
            verbose=False,
        )  # fmt: skip
        curve = model.evals_result()["validation_0"]["xgboost_metric"]
        assert curve[-1] < curve[0]
        losses = focal._losses(labels, margins(model, x))
        assert curve[model.best_iteration] == pytest.approx(np.average(losses, weights=w), rel=1e-4)

        matrix, results = xgboost.DMatrix(x, labels, weight=w), {}
        parameters = {"disable_default_eval_metric": 1, "nthread": 1}
        if labels is classes:
            parameters["num_class"] = 3
        booster = xgboost.train(
            parameters, matrix, 5, obj=focal, custom_metric=focal.xgboost_metric,
            evals=[(matrix, "train")], evals_result=results, verbose_eval=False,
        )  # fmt: skip
        losses = focal._losses(labels, booster.predict(matrix, output_margin=True))
        expected = pytest.approx(np.average(losses, weights=w), rel=1e-4)
        assert results["train"]["focal_loss"][-1] == expected


@pytest.mark.parametrize("weighted", [False, True])
def test_gamma_zero_grows_lightgbms_own_trees(data, weighted) -> None:
    x, y, classes, w = data
    w, focal = w if weighted else None, SigmoidFocalObjective(alpha=None, gamma=0.0)
    start = np.full(len(y), focal.initial_score(y, w))
    ours, theirs = (
        lightgbm.LGBMClassifier(objective=objective, boost_from_average=False, **LGB)
        .fit(x, y, sample_weight=w, init_score=start)
        .predict(x, raw_score=True)
        for objective in (focal, "binary")
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    # Of many classes, with LightGBM's factor C / (C - 1) = 1.5 for 2, if nothing but the factor of
    # the Hessian differs.
    free = LGB | {"min_sum_hessian_in_leaf": 0.0, "n_estimators": 1, "num_leaves": 8}
    model = lightgbm.LGBMClassifier(
        objective=SoftmaxFocalObjective(3, gamma=0.0), learning_rate=0.1 * 2 / 1.5, **free
    ).fit(x, classes, sample_weight=w, init_score=np.zeros((len(y), 3)))
    own = lightgbm.LGBMClassifier(objective="multiclass", boost_from_average=False, **free)
    theirs = own.fit(x, classes, sample_weight=w).predict(x, raw_score=True)
    np.testing.assert_allclose(model.predict(x, raw_score=True), theirs, atol=1e-5)


def test_lightgbms_metric(data) -> None:
    x, y, classes, w = data
    for focal, labels in (
        (SigmoidFocalObjective(alpha=0.25, gamma=2.0), y),
        (SoftmaxFocalObjective(3, [1, 2, 3]), classes),
    ):
        model = lightgbm.LGBMClassifier(objective=focal, metric="none", **LGB)
        watched: dict[str, object] = {"eval_X": x, "eval_y": labels}
        if "eval_X" not in inspect.signature(model.fit).parameters:  # LightGBM before 4.7
            watched = {"eval_set": [(x, labels)]}
        model.fit(
            x, labels, sample_weight=w, **watched, eval_sample_weight=[w],
            eval_metric=focal.lightgbm_metric, callbacks=[lightgbm.early_stopping(5, verbose=0)],
        )  # fmt: skip
        [(_, curves)] = model.evals_result_.items()
        assert list(curves) == ["focal_loss"]
        curve = curves["focal_loss"]
        assert curve[-1] < curve[0]
        losses = focal._losses(labels, model.predict(x, raw_score=True))
        assert curve[model.best_iteration_ - 1] == pytest.approx(np.average(losses, weights=w))

        start = focal.initial_score(labels, w)
        start = np.tile(start, (len(y), 1)) if labels is classes else np.full(len(y), start)
        parameters = {"objective": focal, "metric": "none", "verbose": -1, "num_threads": 1}
        if labels is classes:
            parameters["num_class"] = 3
        dataset, results = lightgbm.Dataset(x, labels, weight=w, init_score=start), {}
        booster = lightgbm.train(
            parameters, dataset, 5, valid_sets=[dataset], feval=focal.lightgbm_metric,
            callbacks=[lightgbm.record_evaluation(results)],
        )  # fmt: skip
        losses = focal._losses(labels, booster.predict(x, raw_score=True) + start)
        assert results["training"]["focal_loss"][-1] == pytest.approx(np.average(losses, weights=w))


@pytest.mark.parametrize("weighted", [False, True])
def test_gamma_zero_grows_scikit_learns_own_trees(data, weighted) -> None:
    x, y, classes, w = data
    for focal, labels in (
        (SigmoidFocalObjective(alpha=None, gamma=0.0), y),
        (SoftmaxFocalObjective(3, gamma=0.0), classes),
    ):
        ours, theirs = (
            HistGradientBoostingClassifier(loss=loss, early_stopping=True, **SKL).fit(
                x, labels, sample_weight=w if weighted else None
            )
            for loss in (focal.sklearn_loss(), "log_loss")
        )
        np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-8)
        np.testing.assert_allclose(ours.validation_score_, theirs.validation_score_, atol=1e-8)
        np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))


def test_scikit_learn_gives_the_posterior(data) -> None:
    x, y, classes, w = data
    for focal, labels in (
        (SigmoidFocalObjective(alpha=0.25, gamma=2.0), np.array(["no", "yes"])[y]),
        (SoftmaxFocalObjective(3, [1, 2, 3]), np.array(["a", "b", "c"])[classes]),
    ):
        model = HistGradientBoostingClassifier(
            loss=focal.sklearn_loss(), class_weight="balanced", **SKL
        )
        model = pickle.loads(pickle.dumps(clone(model).fit(x, labels, sample_weight=w)))
        raw = model.decision_function(x)
        np.testing.assert_allclose(model.predict_proba(x), focal.posterior(raw), atol=1e-15)
        np.testing.assert_allclose(model.predict_proba(x).sum(axis=1), 1, 1e-12)


def test_objectives_can_be_cloned_and_pickled() -> None:
    for model in (
        xgboost.XGBClassifier(objective=SigmoidFocalObjective(alpha=0.25, gamma=3.0)),
        lightgbm.LGBMClassifier(objective=SigmoidFocalObjective(alpha=0.25, gamma=3.0)),
    ):
        copied = pickle.loads(pickle.dumps(clone(model)))
        assert repr(copied.objective) == "SigmoidFocalObjective(alpha=0.25, gamma=3.0)"
    assert repr(SoftmaxFocalObjective(2, [1, 3])) == (
        "SoftmaxFocalObjective(2, [1.0, 3.0], gamma=2.0)"
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_the_treated_hessian_keeps_leaves_small(gamma) -> None:
    """Where every positive starts at a curvature of nearly 0, the plain one makes a huge leaf."""
    prior = {0.5: 0.0177, 2.0: 0.0578, 5.0: 0.0502}[gamma]
    x, focal = logit(prior), SigmoidFocalObjective(alpha=None, gamma=gamma)
    plain = sigmoid_focal_loss_hessian(x, 1, alpha=None, gamma=gamma)
    (g,), (h,) = focal([1], [x])
    assert abs(g / plain) > 20 * abs(g / h)
    assert abs(g / h) <= 1 / prior * (1 + 1e-12)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_training_lowers_the_loss_from_the_initial_score(data, gamma) -> None:
    x, y, classes, _ = data
    for focal, labels, plain in (
        (SigmoidFocalObjective(alpha=None, gamma=gamma), y, sigmoid_focal_loss),
        (SoftmaxFocalObjective(3, gamma=gamma), classes, softmax_focal_loss),
    ):
        start = np.tile(focal.initial_score(labels), (len(y), 1)).squeeze()
        raw = lightgbm.LGBMClassifier(objective=focal, **LGB).fit(x, labels, init_score=start)
        arguments = {"alpha": None} if labels is y else {}
        before, after = (
            plain(scores, labels, gamma=gamma, reduction="mean", **arguments)
            for scores in (start, raw.predict(x, raw_score=True) + start)
        )
        assert after < before * 0.5
