"""Focal loss as an objective for XGBoost, LightGBM and scikit-learn's gradient boosting.

A boosting library asks its objective for the gradient g and the Hessian h of each example's loss by
its raw score, and gives a leaf the value -sum g / (sum h + lambda). The second derivative of focal
loss is negative or nearly 0 on hard examples, where that value has the wrong sign or no bound. The
objectives here take the larger of it and of the Hessian of cross entropy, weighted to have focal
loss's gradient. That is positive, and the step g / h of one example is never longer than cross
entropy's, nor than focal loss's own where that loss is convex (the book's prop-boosting-step).

Each library calls an objective in its own way; one object here answers to all of them::

    focal = SigmoidFocalObjective(alpha=None, gamma=2.0)
    XGBClassifier(objective=focal)
    xgboost.train({"base_score": focal.initial_score(y)}, data, obj=focal)
    LGBMClassifier(objective=focal).fit(X, y, init_score=[focal.initial_score(y)] * len(y))
    lightgbm.train({"objective": focal}, data)  # the init_score is the Dataset's
    HistGradientBoostingClassifier(loss=focal.sklearn_loss())

XGBClassifier takes its ``base_score`` as a probability, whose logit is the initial score; for many
classes, scores of one's own are a ``base_margin``.

What these models then call a probability is not one: XGBClassifier's is sigma(x) or the softmax of
the raw scores, and LGBMClassifier's the raw score itself. ``focal.posterior(raw)`` makes
probabilities of raw scores, which are XGBoost's ``predict(X, output_margin=True)``, LightGBM's
``predict(X, raw_score=True)`` plus the init_score, and scikit-learn's ``decision_function(X)``.

The Hessians of easy examples are small, of the order of (1 - p_t)^(gamma + 1). So a lower bound on
their sum in a leaf (``min_child_weight``, ``min_sum_hessian_in_leaf``) forbids more splits than it
does for cross entropy.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from focal_lib import _checks, _margins
from focal_lib._arrays import LARGEST, Array, array, check, quiet, within
from focal_lib.estimation import sigmoid_posterior, sigmoid_score, softmax_posterior, softmax_score
from focal_lib.numpy import sigmoid_focal_loss, softmax_focal_loss

_LEAST = 1e-16  # of a Hessian, as in XGBoost's own objectives: where p_t is 0 it would be 0


class _Objective:
    """What the two objectives share: how each library calls them."""

    def __call__(
        self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """The gradient and the positive Hessian of each example's loss by its raw scores.

        Args:
            y_true: labels, (N,).
            y_pred: raw scores. (Where a library calls with scores first, and then a DMatrix or a
                Dataset, labels and weights are taken from that.)
            sample_weight: finite and >= 0, (N,); 1 if not given. It multiplies both results.

        Returns both in float64 and in the shape of the scores. Raises TypeError or ValueError,
        naming the argument.
        """
        y, raw, weight = self._arguments(y_true, y_pred, sample_weight)
        gradient, hessian = self._derivatives(y, raw)
        weight = weight.reshape(-1, *(1,) * (gradient.ndim - 1))
        return (gradient * weight).reshape(raw.shape), (hessian * weight).reshape(raw.shape)

    def xgboost_metric(
        self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None = None
    ) -> Any:
        """The mean loss as XGBoost's evaluation metric, weighted by the sample weights.

        For the ``eval_metric`` of XGBClassifier and, with the name "focal_loss" in the result, for
        the ``custom_metric`` of xgboost.train.
        """
        loss = self._mean_loss(y_true, y_pred, sample_weight)
        return ("focal_loss", loss) if hasattr(y_pred, "get_label") else loss

    def lightgbm_metric(
        self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None = None
    ) -> tuple[str, float, bool]:
        """The mean loss as LightGBM's evaluation metric, weighted by the sample weights.

        For the ``eval_metric`` of LGBMClassifier.fit and the ``feval`` of lightgbm.train. The
        result is its name, its value, and that a higher value is not better.
        """
        return "focal_loss", self._mean_loss(y_true, y_pred, sample_weight), False

    def _mean_loss(self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None) -> float:
        y, raw, weight = self._arguments(y_true, y_pred, sample_weight)
        if not (weight > 0).any():
            raise ValueError("sample_weight: takes a positive total, got 0")
        weight = _in_units_of_the_largest(weight)
        return float(weight @ self._losses(y, raw) / weight.sum())

    def sklearn_loss(self) -> Any:
        """The ``loss`` for HistGradientBoostingClassifier, which starts at the initial score.

        For two classes it grows one tree a step, and takes a `SigmoidFocalObjective` alone.

        Its ``predict_proba`` then gives the posterior. scikit-learn takes such an object, but keeps
        what is asked of it private: this is tested with scikit-learn 1.9.
        """
        from focal_lib._sklearn import FocalLoss

        if self.n_classes == 2 and self.is_multiclass:
            raise ValueError(
                "n_classes: takes 3 or more for scikit-learn, which grows one tree for two classes "
                "(SigmoidFocalObjective has its loss), got 2"
            )
        return FocalLoss(self)

    def _arguments(
        self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None
    ) -> tuple[Array, Array, Array]:
        if hasattr(y_pred, "get_label"):  # a library's data set
            data, y_pred = y_pred, y_true
            y_true, sample_weight = data.get_label(), data.get_weight()
            if sample_weight is not None and np.size(sample_weight) == 0:
                sample_weight = None
        raw = self._scores(y_pred)
        y = self._labels(y_true)
        if y.shape != raw.shape[:1]:
            raise ValueError(f"y_true: takes the shape {raw.shape[:1]}, got {y.shape}")
        return y, raw, _sample_weight(sample_weight, y)

    n_classes: int
    is_multiclass: bool

    def _scores(self, raw: ArrayLike) -> Array:
        raise NotImplementedError

    def _labels(self, y: ArrayLike) -> Array:
        raise NotImplementedError

    def _losses(self, y: Array, raw: Array) -> Array:
        raise NotImplementedError

    def _derivatives(self, y: Array, raw: Array) -> tuple[Array, Array]:
        raise NotImplementedError

    def initial_score(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        raise NotImplementedError

    def posterior(self, raw: ArrayLike) -> Array:
        raise NotImplementedError


class SigmoidFocalObjective(_Objective):
    """The binary focal loss as an objective, by one raw score an example.

    With the margin z = (2y - 1) raw, f(z) the loss, p = sigma(z), q = 1 - p, u = -log p and
    G = q^gamma (q + gamma p u)::

        g = -(2y - 1) alpha_t G,        h = alpha_t max(f''(z), p G)

    p G is the Hessian of the cross entropy whose gradient has been multiplied by a constant so that
    it is focal loss's. At gamma = 0 both are p q, and h is that of the libraries' own log loss.

    Args:
        alpha: the weight of class 1, in [0, 1]; None, or exactly -1, is no weight.
        gamma: the focusing parameter, finite, >= 0.

    Labels are 0 and 1, or in between for an expectation; scores are (N,) or (N, 1). Raises
    TypeError or ValueError, naming the argument. Source: Lin et al. 2017, equation 5; the book's
    prop-boosting-step.

    >>> focal = SigmoidFocalObjective(alpha=None, gamma=2.0)
    >>> gradient, hessian = focal([1, 1, 0], [-5.0, 0.0, 0.0])
    >>> print(gradient.round(4), hessian.round(4))
    [-1.0462 -0.2983  0.2983] [0.007  0.3991 0.3991]
    """

    n_classes = 2
    is_multiclass = False

    def __init__(self, *, alpha: float | None, gamma: float = 2.0) -> None:
        self.alpha = _checks.alpha(alpha)
        self.gamma = _checks.nonnegative("gamma", gamma)

    def __repr__(self) -> str:
        return f"SigmoidFocalObjective(alpha={self.alpha}, gamma={self.gamma})"

    def initial_score(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """The constant raw score that minimises the weighted mean loss of the labels.

        It is the `focal_lib.estimation.sigmoid_score` of the share of class 1, hence the logit of
        that share for gamma = 0 without alpha. Both classes must occur, and alpha must not be 0
        or 1.

        >>> round(SigmoidFocalObjective(alpha=None, gamma=0.0).initial_score([0] * 99 + [1]), 4)
        -4.5951
        >>> round(SigmoidFocalObjective(alpha=None, gamma=2.0).initial_score([0] * 99 + [1]), 4)
        -1.7065
        """
        labels = self._labels(y)
        weight = _in_units_of_the_largest(_sample_weight(sample_weight, labels))
        ones, zeros = weight @ labels, weight @ (1 - labels)
        if not (ones > 0 and zeros > 0):
            raise ValueError("y: takes examples of both classes")
        log_odds = np.log(ones) - np.log(zeros)
        return float(sigmoid_score(log_odds, alpha=self.alpha, gamma=self.gamma))

    @quiet
    def posterior(self, raw: ArrayLike) -> Array:
        """The probabilities of class 0 and 1, (N, 2), by `focal_lib.estimation.sigmoid_posterior`.

        alpha must not be 0 or 1.

        >>> SigmoidFocalObjective(alpha=None, gamma=2.0).posterior([-1.7067, 0.0]).round(4)
        array([[0.99, 0.01],
               [0.5 , 0.5 ]])
        """
        scores = self._scores(raw).reshape(-1).astype(np.float64)
        logit = sigmoid_posterior(scores, alpha=self.alpha, gamma=self.gamma)
        return np.stack([1 / (1 + np.exp(logit)), 1 / (1 + np.exp(-logit))], axis=1)

    def _scores(self, raw: ArrayLike) -> Array:
        scores = array("y_pred", raw, "iuf")
        if scores.ndim != 1 and (scores.ndim != 2 or scores.shape[1] != 1):
            raise ValueError(f"y_pred: takes the shape (N,) or (N, 1), got {scores.shape}")
        return scores

    def _labels(self, y: ArrayLike) -> Array:
        labels = within("y_true", y, 1)
        if labels.ndim != 1:
            raise ValueError(f"y_true: takes the shape (N,), got {labels.shape}")
        return labels

    def _losses(self, y: Array, raw: Array) -> Array:
        scores = raw.reshape(-1).astype(np.float64)
        return np.asarray(sigmoid_focal_loss(scores, y, self.alpha, self.gamma))

    @quiet
    def _derivatives(self, y: Array, raw: Array) -> tuple[Array, Array]:
        scores = raw.reshape(-1).astype(np.float64)
        gradient, hessian = np.zeros_like(scores), np.zeros_like(scores)
        one, zero = _checks.class_weights(self.alpha)
        for sign, share in ((1, one * y), (-1, zero * (1 - y))):
            margin = _margins.of_logit(np, sign * scores, self.gamma)
            slope, curvature = _slope_and_curvature(margin, self.gamma)
            gradient -= sign * share * slope
            hessian += share * np.maximum(curvature, _LEAST)
        return gradient, hessian


class SoftmaxFocalObjective(_Objective):
    """The multi-class focal loss as an objective, by C raw scores an example.

    With the margin z of the label t, f(z) the loss, p = p_t, q = 1 - p, u = -log p,
    G = q^gamma (q + gamma p u), m = max(f''(z), p G), and r the softmax over the other classes::

        g_t = -w_t G,     g_j = w_t G r_j,
        h_t = 2 w_t m,    h_j = 2 w_t (m r_j^2 + max(m, G) r_j (1 - r_j))

    The matrix diag(h) is at least that of focal loss's Hessian, and of the one that has m for
    f''(z). Libraries grow a tree for each class and use the diagonal alone: the factor 2 makes up
    for it. At gamma = 0, h_j = 2 p_j (1 - p_j), which is that of XGBoost's own ``multi:softprob``;
    LightGBM's own has the factor C / (C - 1), and scikit-learn's 1, as has ``sklearn_loss``.

    Args:
        n_classes: C, at least 2.
        weight: w, finite and >= 0, (C,); 1 if not given.
        gamma: the focusing parameter, finite, >= 0.

    Labels are class indices, scores (N, C). Raises TypeError or ValueError, naming the argument.
    Source: Lin et al. 2017, section 3; the book's prop-boosting-softmax.

    >>> gradient, hessian = SoftmaxFocalObjective(3, gamma=0.0)([0], [[0.0, 0.0, 0.0]])
    >>> print(gradient.round(4), hessian.round(4))
    [[-0.6667  0.3333  0.3333]] [[0.4444 0.4444 0.4444]]
    """

    is_multiclass = True

    def __init__(
        self, n_classes: int, weight: ArrayLike | None = None, *, gamma: float = 2.0
    ) -> None:
        self.n_classes = _checks.count("n_classes", n_classes, 2)
        self.weight = None if weight is None else within("weight", weight, LARGEST)
        if self.weight is not None and self.weight.shape != (self.n_classes,):
            raise ValueError(f"weight: takes the shape ({n_classes},), got {self.weight.shape}")
        self.gamma = _checks.nonnegative("gamma", gamma)

    def __repr__(self) -> str:
        weight = None if self.weight is None else self.weight.tolist()
        return f"SoftmaxFocalObjective({self.n_classes}, {weight}, gamma={self.gamma})"

    def initial_score(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """The constant raw scores, (C,), that minimise the weighted mean loss; their sum is 0.

        They are the `focal_lib.estimation.softmax_score` of the shares of the classes, hence the
        logarithms of these shares, up to a constant, for gamma = 0 without weights. Each class must
        occur, and the weights must be positive.

        >>> SoftmaxFocalObjective(3, gamma=2.0).initial_score([0] * 98 + [1, 2]).round(4)
        array([ 1.4148, -0.7074, -0.7074])
        """
        labels = self._labels(y)
        weight = _in_units_of_the_largest(_sample_weight(sample_weight, labels))
        total = np.bincount(labels, weight, self.n_classes)
        if not (total > 0).all():
            raise ValueError(f"y: takes examples of every class, got none of {total.argmin()}")
        scores = softmax_score(np.log(total / total.sum()), self.weight, gamma=self.gamma)
        return np.asarray(scores - scores.mean())

    def posterior(self, raw: ArrayLike) -> Array:
        """The probabilities of the classes, (N, C), by `focal_lib.estimation.softmax_posterior`.

        The weights must be positive.
        """
        scores = self._scores(raw).astype(np.float64)
        return np.asarray(np.exp(softmax_posterior(scores, self.weight, gamma=self.gamma)))

    def _scores(self, raw: ArrayLike) -> Array:
        scores = array("y_pred", raw, "iuf")
        if scores.ndim != 2 or scores.shape[1] != self.n_classes:
            raise ValueError(f"y_pred: takes the shape (N, {self.n_classes}), got {scores.shape}")
        return scores

    def _labels(self, y: ArrayLike) -> Array:
        labels = array("y_true", y, "iuf")
        if labels.ndim != 1:
            raise ValueError(f"y_true: takes the shape (N,), got {labels.shape}")
        right = (labels >= 0) & (labels < self.n_classes) & (labels == np.floor(labels))
        check("y_true", labels, right, f"class indices from 0 to {self.n_classes - 1}")
        return labels.astype(np.int64)

    def _losses(self, y: Array, raw: Array) -> Array:
        scores = raw.astype(np.float64)
        return np.asarray(
            softmax_focal_loss(scores, y, self.weight, gamma=self.gamma, reduction="none")
        )

    @quiet
    def _derivatives(self, y: Array, raw: Array) -> tuple[Array, Array]:
        target = (np.arange(len(y)), y)
        rows = _margins.of_rows(np, raw.astype(np.float64, order="C"))
        margin, _, others = _margins.of_classes(np, rows, y[:, None], self.gamma)
        slope, curvature = _slope_and_curvature(margin, self.gamma)
        r = rows.times(1 / others)
        r[target] = 0
        gradient = slope * r
        hessian = 2 * (curvature * r * r + np.maximum(curvature, slope) * r * (1 - r))
        gradient[target], hessian[target] = -slope[:, 0], 2 * curvature[:, 0]
        hessian = np.maximum(hessian, _LEAST)
        if self.weight is not None:
            gradient *= self.weight[y, None]
            hessian *= self.weight[y, None]
        return gradient, hessian


def _slope_and_curvature(margin: _margins.Margin, gamma: float) -> tuple[Array, Array]:
    """G = -f'(z), and the larger of f''(z) and p G."""
    slope = -_margins.focal(np, 1, margin, gamma)
    return slope, np.maximum(_margins.focal(np, 2, margin, gamma), margin.p * slope)


def _in_units_of_the_largest(weight: Array) -> Array:
    """A mean does not depend on the unit of weights: in this one their sum neither is 0 nor inf."""
    return np.asarray(np.ldexp(weight, -np.frexp(weight.max(initial=0.0))[1]))


def _sample_weight(sample_weight: ArrayLike | None, y: Array) -> Array:
    if sample_weight is None:
        return np.ones(y.shape)
    weight = within("sample_weight", sample_weight, LARGEST)
    if weight.shape != y.shape:
        raise ValueError(f"sample_weight: takes the shape {y.shape}, got {weight.shape}")
    return weight
