"""The experiment of the page on use: focal loss and its rivals on ordinary tables and images.

    python experiments/classification.py            run what is missing, then stop
    python experiments/classification.py --jobs 1   in one process instead of two

What is asked, and how it is decided, is STATEMENT, which was committed before the first run. (A
trial of one draw, on the first tuning seed of two sets, came before, for the time that it takes;
after it the budgets were halved.)

Data. Six sets that packages ship (`experiments/data.py`), from one positive to 9 negatives to one
to 111. For each seed another half of the groups is for training (20,000 rows at most), a quarter
for choosing (20,000), a quarter for testing (40,000).

Models. A linear one, and one hidden layer of 64 units. Adam with decoupled weight decay, 256 rows a
step, no schedule, so that a run of 4,000 steps holds those of 250 and of 1,000 within it.

Arms. Cross entropy from probabilities of one half; from the base rate; with a weight on the
positives; on batches with more positives than there are; focal loss. For two classes logit
adjustment is cross entropy with a bias that starts elsewhere (prop-logit-adjustment), so it is no
arm.

Choice. A run stops where its own loss on the rows for choosing is least, among the steps of
CHECKPOINTS within its budget. Of an arm's draws that with the best metric on those rows, over the
tuning seeds, goes on. On fresh seeds it is trained and tested, once.

After each run a threshold is chosen on the rows for choosing, by F1 and by balanced accuracy, and
Platt's map is fitted to them. Tested are the average precision, both measures at their thresholds,
and the log loss after the map and before it.
"""

import itertools
import json
import platform
import sys
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments import data
from experiments.boosting import best_threshold, log_loss, platt
from experiments.protocol import Knob, Statement
from experiments.runs import Runs, go_on, rounded, write
from focal_lib.torch import sigmoid_focal_loss

CHECKPOINTS = (30, 60, 125, 250, 500, 1000, 2000, 4000)
BUDGETS = (250, 1000, 4000)  # steps; the verdict is by 1,000, a quarter and four times beside it
MOST = (20_000, 20_000, 40_000)  # rows for training, choosing, testing
BATCH, HIDDEN = 256, 64
MODELS = ("linear", "network")

STATEMENT = Statement(
    question=(
        "On tables and images with rare positives, does focal loss rank better than cross entropy, "
        "weights or resampling, each tuned with as many draws and stopped by its own loss?"
    ),
    metric="average precision on the test rows",
    margin=0.01,
    contrasts=(
        ("focal loss", "cross entropy, base rate"),
        ("focal loss", "cross entropy, one half"),
        ("focal loss", "weights"),
        ("focal loss", "resampling"),
    ),
    shared={"rate": Knob(between=(1e-4, 3e-2)), "decay": Knob(between=(1e-6, 1e-1))},
    arms={
        "cross entropy, one half": {},
        "cross entropy, base rate": {},
        "weights": {"power": Knob(among=(0.25, 0.5, 0.75, 1.0))},
        "resampling": {"positives": Knob(among=(0.05, 0.1, 0.25, 0.5))},
        "focal loss": {
            "gamma": Knob(between=(0.25, 5.0)),
            "alpha": Knob(among=(None, 0.25, 0.75)),
            "start": Knob(among=(0.5, "base rate")),
        },
    },
    draws=12,
    tuning_seeds=(1000, 1001),
    seeds=tuple(range(30)),
)


@lru_cache(maxsize=2)
def parts(name: str, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Rows for training, choosing and testing."""
    known = data.read(name)
    rows = data.split(known, seed, MOST)
    x = data.features(known.table, rows[0])
    return [(torch.from_numpy(x[r]), torch.from_numpy(known.y[r]).float()) for r in rows]


def make(model: str, columns: int, start: float, generator: torch.Generator) -> list[Tensor]:
    """Weights: uniform as torch's layers have them, and a last bias that gives the start."""
    sizes = [columns, HIDDEN, 1] if model == "network" else [columns, 1]
    weights = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        w = (2 * torch.rand(fan_in, fan_out, generator=generator) - 1) / fan_in**0.5
        weights += [w, torch.zeros(fan_out)]
    if model == "linear":
        weights[0].zero_()
    weights[-1].fill_(float(np.log(start / (1 - start))))
    return [w.requires_grad_() for w in weights]


def logits(weights: list[Tensor], x: Tensor) -> Tensor:
    if len(weights) == 4:
        x = torch.relu(torch.addmm(weights[1], x, weights[0]))
    return torch.addmm(weights[-1], x, weights[-2]).squeeze(1)


def loss_of(arm: str, how: dict[str, Any], x: Tensor, y: Tensor, rate: float) -> Tensor:
    """The mean loss that an arm minimizes, where the base rate of the training rows is given."""
    if arm == "focal loss":
        return sigmoid_focal_loss(x, y, how["alpha"], how["gamma"], "mean")
    weight = None
    if arm == "weights":
        weight = torch.tensor(((1 - rate) / rate) ** how["power"])
    return F.binary_cross_entropy_with_logits(x, y, pos_weight=weight)


def start_of(arm: str, how: dict[str, Any], rate: float) -> float:
    start: float | str = 0.5
    if arm == "cross entropy, base rate":
        start = "base rate"
    elif arm == "focal loss":
        start = how["start"]
    elif arm == "weights":  # of the weighted rows
        odds = (rate / (1 - rate)) ** (1 - how["power"])
        start = odds / (1 + odds)
    elif arm == "resampling":
        start = max(how["positives"], rate)
    return rate if start == "base rate" else float(start)


def train(
    name: str, model: str, arm: str, how: dict[str, Any], seed: int, scale: float = 1.0
) -> dict[int, dict[str, Any]]:
    """By step: the own loss on the rows for choosing, and the scores of these and the test rows."""
    (x, y), (x_choose, y_choose), (x_test, _) = parts(name, seed)
    generator = torch.Generator().manual_seed(seed)
    rate = float(y.mean())
    weights = make(model, x.shape[1], start_of(arm, how, rate), generator)
    matrices, biases = weights[::2], weights[1::2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": how["decay"]}, {"params": biases, "weight_decay": 0}],
        lr=scale * how["rate"],
    )
    positives, negatives = torch.nonzero(y == 1)[:, 0], torch.nonzero(y == 0)[:, 0]
    share = how.get("positives", rate)
    result = {}
    for step in range(1, CHECKPOINTS[-1] + 1):
        if arm == "resampling" and share > rate:
            k = int(torch.binomial(torch.tensor(float(BATCH)), torch.tensor(share), generator))
            of_one = torch.randint(len(positives), (k,), generator=generator)
            of_zero = torch.randint(len(negatives), (BATCH - k,), generator=generator)
            batch = torch.cat([positives[of_one], negatives[of_zero]])
        else:
            batch = torch.randint(len(y), (BATCH,), generator=generator)
        optimizer.zero_grad()
        loss_of(arm, how, logits(weights, x[batch]), y[batch], rate).backward()
        optimizer.step()
        if step in CHECKPOINTS:
            with torch.no_grad():
                chosen, tested = logits(weights, x_choose), logits(weights, x_test)
                own = _own_loss(arm, how, chosen, y_choose, rate)
            result[step] = {"own": own, "choose": chosen.numpy(), "test": tested.numpy()}
            if not np.isfinite(own):
                break
    return result


def _own_loss(arm: str, how: dict[str, Any], x: Tensor, y: Tensor, rate: float) -> float:
    """On rows that are as they come: of resampled batches, positives count as much more."""
    if arm == "resampling" and how["positives"] > rate:
        share = how["positives"]
        weight = torch.where(y == 1, share / rate, (1 - share) / (1 - rate))
        return float(F.binary_cross_entropy_with_logits(x, y, weight))
    return float(loss_of(arm, how, x.double(), y.double(), rate))


def measures(choose: Any, y_choose: Any, test: Any, y_test: Any) -> dict[str, float]:
    """What the scores of the test rows are worth, with thresholds and map from the others."""
    slope, shift = platt(choose, y_choose)
    result = {
        "ap": average_precision_score(y_test, test),
        "log_loss": log_loss(slope * test + shift, y_test),
        "log_loss_as_is": log_loss(test, y_test),
    }
    for measure in ("f1", "balanced"):
        said = test > best_threshold(choose, y_choose, measure)
        hits, ones = (said & (y_test == 1)).sum(), (y_test == 1).sum()
        if measure == "f1":
            result[measure] = 2 * hits / (said.sum() + ones)
        else:
            result[measure] = (
                hits / ones + (~said & (y_test == 0)).sum() / (y_test == 0).sum()
            ) / 2
    return {key: float(value) for key, value in result.items()}


def run(
    name: str, model: str, arm: str, number: int, seed: int, scale: float = 1.0
) -> dict[str, Any]:
    """One training run: by budget the step at which it stops, and what it is worth there; and at
    its end. Of a tuning seed only the rows for choosing are looked at.
    """
    torch.set_num_threads(1)
    how = STATEMENT.draw(arm, number)
    path = train(name, model, arm, how, seed, scale)
    _, (_, y_choose), (_, y_test) = parts(name, seed)
    y_choose, y_test = y_choose.numpy(), y_test.numpy()
    result: dict[str, Any] = {
        "data": name,
        "model": model,
        "arm": arm,
        "draw": number,
        "seed": seed,
        "scale": scale,
    }
    ends = {str(budget): _stop(path, budget) for budget in BUDGETS} | {"rest": max(path)}
    for end, step in ends.items():
        at = path[step]
        values = {"step": step, "choose": float(average_precision_score(y_choose, at["choose"]))}
        if seed in STATEMENT.seeds:
            values |= measures(
                at["choose"].astype(float), y_choose, at["test"].astype(float), y_test
            )
        result[end] = values
    return dict(rounded(result))


def _stop(path: dict[int, dict[str, Any]], budget: int) -> int:
    return min((at["own"], step) for step, at in path.items() if step <= budget)[1]


# --- The program ----------------------------------------------------------------------------------

RESULTS = Path(__file__).parents[1] / "chapters" / "data" / "classification.json"
ENDS = (*map(str, BUDGETS), "rest")
MAIN, FEW = "1000", 8  # the budget of the verdict; the seeds of every other choice
SCALES = (0.25, 4.0)
Unit = tuple[str, str, str, int, int, float]  # data, model, arm, draw, seed, scale of the rate


def cells() -> list[tuple[str, str, str]]:
    return list(itertools.product(data.SETS, MODELS, STATEMENT.arms))


def tuning() -> list[Unit]:
    draws, seeds = range(STATEMENT.draws), STATEMENT.tuning_seeds
    return _together([(*c, d, s, 1.0) for c, d, s in itertools.product(cells(), draws, seeds)])


def choice(runs: Runs, cell: tuple[str, str, str], end: str) -> int:
    """The draw with the best metric on the rows for choosing, over the tuning seeds."""
    means: dict[int, float] = {}
    for draw in range(STATEMENT.draws):
        values = [
            run[end]["choose"]
            for run in runs
            if unit_of(run)[:4] == (*cell, draw) and run["seed"] in STATEMENT.tuning_seeds
        ]
        if len(values) < len(STATEMENT.tuning_seeds):
            raise LookupError(f"{cell}: draw {draw} has not been run on every tuning seed")
        means[draw] = float(np.mean(values))
    return max(means, key=lambda draw: means[draw])


def verdicts(runs: Runs) -> list[Unit]:
    """The winners on fresh seeds: of the main budget on all, and of what is beside it on a few."""
    units = []
    for cell in cells():
        main = choice(runs, cell, MAIN)
        units += [(*cell, main, seed, 1.0) for seed in STATEMENT.seeds]
        units += [(*cell, main, seed, s) for s in SCALES for seed in STATEMENT.seeds[:FEW]]
        others = {choice(runs, cell, end) for end in ENDS} - {main}
        units += [(*cell, draw, s, 1.0) for draw in sorted(others) for s in STATEMENT.seeds[:FEW]]
    return _together(units)


def _together(units: list[Unit]) -> list[Unit]:
    """Those with the same rows one after the other: they are read once."""
    return sorted(units, key=lambda unit: (unit[0], unit[4]))


def unit_of(run: dict[str, Any]) -> Unit:
    return run["data"], run["model"], run["arm"], run["draw"], run["seed"], run["scale"]


def stored(path: Path = RESULTS) -> Runs:
    """What was run under this statement."""
    if not path.exists():
        return []
    results = json.loads(path.read_text("utf-8"))
    return list(results["runs"]) if results["statement"] == STATEMENT.fingerprint else []


def store(runs: Runs, path: Path = RESULTS) -> None:
    """With each run the number of the versions that made it."""
    versions = json.loads(path.read_text("utf-8"))["versions"] if stored(path) else []
    now = {"python": platform.python_version()}
    now |= {package: version(package) for package in ("torch", "numpy", "scikit-learn")}
    if now not in versions:
        versions.append(now)
    for run in runs:
        run.setdefault("versions", versions.index(now))
    facts = {
        "statement": STATEMENT.fingerprint,
        "versions": versions,
        "checkpoints": CHECKPOINTS,
        "draws": {
            arm: [STATEMENT.draw(arm, number) for number in range(STATEMENT.draws)]
            for arm in STATEMENT.arms
        },
    }
    write(path, facts, sorted(runs, key=unit_of))


def go_on_with(units: list[Unit], runs: Runs) -> None:
    done = {unit_of(run) for run in runs}
    go_on(__doc__, run, [unit for unit in units if unit not in done], runs, store)


if __name__ == "__main__":
    finished = stored()
    go_on_with(tuning(), finished)
    go_on_with(verdicts(finished), finished)
