"""The focal loss that scikit-learn's HistGradientBoostingClassifier takes as its ``loss``."""

from typing import Any

import numpy as np
from sklearn._loss.link import LogitLink, MultinomialLogit
from sklearn._loss.loss import BaseLoss


class FocalLoss(BaseLoss):  # type: ignore[misc]
    """An objective of `focal_lib.boosting` with the methods that scikit-learn calls."""

    def __init__(self, objective: Any) -> None:
        link = MultinomialLogit() if objective.is_multiclass else LogitLink()
        super().__init__(closs=None, link=link, n_classes=objective.n_classes)
        self.objective = objective
        self.is_multiclass = objective.is_multiclass
        self.approx_hessian = True

    def loss(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any = None,
        loss_out: Any = None,
        n_threads: int = 1,
    ) -> Any:
        y, raw, weight = self.objective._arguments(y_true, raw_prediction, sample_weight)
        losses = weight * self.objective._losses(y, raw)
        if loss_out is None:
            return losses
        loss_out[...] = losses
        return loss_out

    def gradient_hessian(
        self,
        y_true: Any,
        raw_prediction: Any,
        sample_weight: Any = None,
        gradient_out: Any = None,
        hessian_out: Any = None,
        n_threads: int = 1,
    ) -> Any:
        gradient, hessian = self.objective(y_true, raw_prediction, sample_weight)
        if self.is_multiclass:  # in scikit-learn's convention
            hessian = hessian / 2
        if gradient_out is None:
            gradient_out = np.empty_like(gradient)
        if hessian_out is None:
            hessian_out = np.empty_like(hessian)
        gradient_out[...] = gradient.reshape(gradient_out.shape)
        hessian_out[...] = hessian.reshape(hessian_out.shape)
        return gradient_out, hessian_out

    def fit_intercept_only(self, y_true: Any, sample_weight: Any = None) -> Any:
        return np.asarray(self.objective.initial_score(y_true, sample_weight))

    def predict_proba(self, raw_prediction: Any) -> Any:
        return self.objective.posterior(raw_prediction)
