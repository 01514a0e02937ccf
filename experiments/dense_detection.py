"""The sweep of the chapter on dense detection: some fifty ways to train one small detector.

    python experiments/dense_detection.py            run what is missing, then stop
    python experiments/dense_detection.py --jobs 1   in one process instead of two

Results go to chapters/data/dense_detection.json after every run, so that a sweep that was stopped
goes on where it was; what was run under other conditions is run again. The test canvases are
scored once, at the end of each run; whatever is chosen, is chosen by the validation canvases.
"""

import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.runs import Runs, go_on, rounded, write
from focal_notes import detection
from focal_notes.detection import (
    CURVE,
    FIXED,
    RESULTS,
    Settings,
    cumulative,
    evaluate,
    fingerprint,
    recorded_steps,
    scores,
    train,
)

SEEDS = (0, 1, 2, 3, 4)
CHECKPOINTS = (100, 200)  # steps at which the validation canvases are scored, besides the end
GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)

CE, FOCAL = Settings(), Settings(alpha=0.25, gamma=2.0)
BASE_RATE = 0.001  # of the positives among all scores, rounded
SGD_RATES = (0.03, 0.1, 0.3)


def groups() -> dict[str, list[Settings]]:
    """What is trained, by the question that it answers; some settings answer several."""
    both = (CE, FOCAL)
    return {
        "alpha": [replace(CE, alpha=a) for a in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)],
        "gamma": [
            replace(CE, gamma=gamma, alpha=a)
            for gamma in GAMMAS[1:]
            for a in (0.1, 0.25, 0.5, 0.75)
        ],
        "prior": [
            replace(how, start=p, warmup=warmup)
            for how, starts in ((CE, (0.5, 0.01, BASE_RATE)), (FOCAL, (0.05, 0.01, BASE_RATE)))
            for p in starts
            for warmup in (20, 0)
        ],
        "baselines": [
            replace(CE, negatives=rule) for rule in ("random:1", "random:3", "hardest:3")
        ],
        "sgd": [
            replace(how, optimizer="sgd", learning_rate=rate)
            for how in (replace(CE, start=0.5), *both)
            for rate in SGD_RATES
        ],
        "normalizer": [
            *(replace(how, normalizer="anchors") for how in both),
            # a thousand scores to a positive: a rate of 100 makes up for the normalizer
            *(
                replace(CE, normalizer="anchors", optimizer="sgd", learning_rate=rate)
                for rate in (0.1, 0.1 / BASE_RATE)
            ),
        ],
        "rate": [replace(how, learning_rate=rate) for how in both for rate in (0.01, 0.04)],
        "longer": [
            replace(how, steps=3 * how.steps)
            for how in (*both, replace(CE, start=BASE_RATE), replace(CE, negatives="hardest:3"))
        ],
    }


def grid() -> list[Settings]:
    """All settings, each once."""
    return list(dict.fromkeys(how for members in groups().values() for how in members))


def watched() -> set[Settings]:
    """The settings whose ledgers through training are stored."""
    ends = [replace(CE, gamma=gamma, alpha=a) for gamma in GAMMAS for a in (0.25, 0.5)]
    return {*groups()["prior"], *ends, replace(CE, alpha=0.75), replace(CE, alpha=0.999)}


def conditions() -> str:
    """The hash of what all runs share, except the code and its libraries."""
    names = ("DIGIT", "CANVAS", "STRIDE", "CLASSES", "SPLITS", "MATCH", "IGNORE", "SUPPRESS")
    constants = {name: getattr(detection, name) for name in (*names, "KEPT", "EASY", "WRONG")}
    return fingerprint(constants, FIXED, CURVE.round(9).tolist(), GAMMAS, CHECKPOINTS)


def identity() -> str:
    """The hash of the whole sweep: the conditions, the grid and the seeds."""
    return fingerprint(conditions(), [asdict(how) for how in grid()], SEEDS)


def run(how: Settings, seed: int) -> dict[str, Any]:
    """Train and evaluate one detector; the result is ready to be stored."""
    torch.set_num_threads(1)
    checkpoints: dict[int, float] = {}

    def watch(step: int, model: torch.nn.Module) -> None:
        if step in CHECKPOINTS:
            checkpoints[step] = evaluate(model, seed, "validation")

    model, record = train(how, seed, watch=watch)
    losses = record["losses"]
    reached = [checkpoints.get(step, 0.0) for step in CHECKPOINTS]
    result = {
        "settings": how.key,
        "seed": seed,
        "validation": [*reached, evaluate(model, seed, "validation")],
        "test": evaluate(model, seed, "test"),
        "first_loss": losses[0],
        "largest_loss": max(losses),
        "last_loss": float(np.mean(losses[-20:])),
        "steps": len(losses),
    }
    if how in watched():
        result["ledger"] = record["ledger"].tolist()
    if how in (CE, FOCAL):
        result["curves"] = _curves(model, seed)
    return rounded(result)


def _curves(model: torch.nn.Module, seed: int) -> dict[str, dict[str, list[float]]]:
    """Figure 4 of the paper: cumulative losses on the test canvases, the model fixed."""
    data, targets = detection.split_of(seed, "test")
    logits = scores(model, data.images)
    kept = targets.kept.expand_as(logits) > 0
    curves = {}
    for gamma in GAMMAS:
        loss = detection.sigmoid_focal_loss(logits, targets.labels, None, gamma)
        curves[f"{gamma:g}"] = {
            name: cumulative(loss[kept & (targets.labels == y)].numpy()).tolist()
            for y, name in enumerate(("negatives", "positives"))
        }
    return curves


def versions() -> dict[str, str]:
    import sklearn

    return {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }


def stored(path: Path = RESULTS) -> Runs:
    """The runs of this sweep that were finished before, under the same conditions."""
    if not path.exists():
        return []
    results = json.loads(path.read_text("utf-8"))
    wanted = {(how.key, seed) for how in grid() for seed in SEEDS}
    same = results["conditions"] == conditions()
    return [run for run in results["runs"] if same and (run["settings"], run["seed"]) in wanted]


def store(runs: Runs, path: Path = RESULTS) -> None:
    order = {how.key: number for number, how in enumerate(grid())}
    facts = {
        "identity": identity(),
        "conditions": conditions(),
        "versions": versions(),
        "seeds": SEEDS,
        "fixed": FIXED,
        "checkpoints": [*CHECKPOINTS, CE.steps],
        "recorded_steps": recorded_steps(CE.steps),
        "curve_fractions": rounded(CURVE.tolist()),
        "groups": {name: [how.key for how in members] for name, members in groups().items()},
        "settings": {how.key: asdict(how) for how in grid()},
    }
    write(path, facts, sorted(runs, key=lambda run: (order[run["settings"]], run["seed"])))


def missing(runs: Runs) -> Iterator[tuple[Settings, int]]:
    """What is still to be run, seed by seed."""
    done = {(run["settings"], run["seed"]) for run in runs}
    return ((how, s) for s in SEEDS for how in grid() if (how.key, s) not in done)


if __name__ == "__main__":
    finished = stored()
    go_on(__doc__, run, list(missing(finished)), finished, store)
