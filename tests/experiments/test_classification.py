"""The experiment on ordinary classification: its parts on made-up rows, and its choices."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score

from experiments import classification as experiment
from experiments import data
from experiments.classification import STATEMENT
from focal_lib.torch import sigmoid_focal_loss

ARMS = list(STATEMENT.arms)


def made_up(n=4000, grouped=False):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    y = (rng.random(n) < 1 / (1 + np.exp(4 - 2 * x[:, 0]))).astype(int)
    holes = np.where(rng.random(n) < 0.1, np.nan, x[:, 1])
    text = np.where(x[:, 0] > 0, "yes", "no")
    table = {"a": x[:, 0], "b": holes, "text": text, "constant": np.zeros(n)}
    return data.Data("made up", table, y, np.arange(n) // 40 if grouped else None)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(data, "read", lambda name: made_up())
    monkeypatch.setattr(experiment, "CHECKPOINTS", (10, 40, 160))
    monkeypatch.setattr(experiment, "BUDGETS", (40, 160))
    experiment.parts.cache_clear()
    yield
    experiment.parts.cache_clear()


@pytest.mark.parametrize("grouped", [False, True])
def test_a_split_is_of_all_rows_once_and_keeps_groups_together(grouped):
    known = made_up(grouped=grouped)
    parts = data.split(known, 3, (10_000, 10_000, 10_000))
    assert sorted(np.concatenate(parts)) == list(range(4000))
    assert [len(part) / 4000 for part in parts] == pytest.approx([0.5, 0.25, 0.25], abs=0.01)
    if grouped:
        groups = [set(known.group[part]) for part in parts]
        assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    else:
        assert [known.y[part].mean() for part in parts] == pytest.approx(
            [known.y.mean()] * 3, rel=0.02
        )
    fewer = data.split(known, 3, (100, 50, 20))
    assert [len(part) for part in fewer] == [100, 50, 20]
    assert not np.array_equal(fewer[0], data.split(known, 4, (100, 50, 20))[0])


def test_features_are_made_by_the_training_rows_alone():
    known, train = made_up(), np.arange(2000)
    x = data.features(known.table, train)
    assert x.shape == (4000, 5)  # a, b, where b is missing, yes, no
    assert x[train, 0].mean() == pytest.approx(0, abs=1e-3) and x[train, 0].std() > 0.99
    assert np.array_equal(np.argsort(known.table["a"][train]), np.argsort(x[train, 0]))
    missing = np.isnan(known.table["b"])
    assert np.array_equal(x[:, 2] == 1, missing) and (x[missing, 1] == 0).all()
    assert (x[:, 3] + x[:, 4] == 1).all()
    changed = {**known.table, "a": known.table["a"].copy()}
    changed["a"][3000:] += 50
    assert np.array_equal(data.features(changed, train)[:3000], x[:3000])


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_starts_at_its_best_constant_or_where_it_says(arm):
    rate = 0.02
    how = {"power": 0.5, "positives": 0.25, "gamma": 2.0, "alpha": None, "start": "base rate"}
    start = experiment.start_of(arm, how, rate)
    z = torch.tensor(np.log(start / (1 - start)), requires_grad=True)
    y = torch.tensor([1.0] * 20 + [0.0] * 980, dtype=torch.float64)
    if arm == "cross entropy, one half":
        assert start == 0.5
    elif arm == "focal loss":
        assert start == rate
    else:
        weight = torch.where(y == 1, 0.25 / 0.02, 0.75 / 0.98) if arm == "resampling" else 1.0
        losses = weight * experiment.loss_of(arm, how, z.expand(1000), y, rate)
        if arm == "resampling":
            bce = torch.nn.functional.binary_cross_entropy_with_logits
            losses = bce(z.expand(1000), y, weight)
        losses.mean().backward()
        assert abs(z.grad.item()) < 1e-6


def test_losses_are_what_they_are_called():
    x, y = torch.randn(50, dtype=torch.float64), (torch.arange(50) % 5 == 0).double()
    how = {"power": 0.5, "gamma": 1.5, "alpha": 0.25}
    p = torch.where(y == 1, x.sigmoid(), (-x).sigmoid())
    ce = -p.log()
    for arm, expected in (
        ("cross entropy, base rate", ce),
        ("weights", torch.where(y == 1, 3.0, 1.0) * ce),
        ("focal loss", torch.where(y == 1, 0.25, 0.75) * (1 - p) ** 1.5 * ce),
    ):
        got = experiment.loss_of(arm, how, x, y, 0.1)
        torch.testing.assert_close(got, expected.mean())
    assert sigmoid_focal_loss is experiment.sigmoid_focal_loss


def test_measures_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    y = (rng.random(600) < 0.2).astype(int)
    scores = rng.normal(size=600) + 1.5 * y
    got = experiment.measures(scores[:300], y[:300], scores[300:], y[300:])
    assert got["ap"] == pytest.approx(average_precision_score(y[300:], scores[300:]))
    for name, of in (("f1", f1_score), ("balanced", balanced_accuracy_score)):
        cut = experiment.best_threshold(scores[:300], y[:300], name)
        assert got[name] == pytest.approx(of(y[300:], scores[300:] > cut))
    assert got["log_loss"] < got["log_loss_as_is"]


@pytest.mark.parametrize("model", experiment.MODELS)
@pytest.mark.parametrize("arm", ARMS)
def test_a_run_learns_and_is_made_again(small, arm, model):
    seed = STATEMENT.seeds[0]
    draw = next(n for n in range(99) if STATEMENT.draw(arm, n)["rate"] > 0.01)
    one = experiment.run("made up", model, arm, draw, seed)
    assert one == experiment.run("made up", model, arm, draw, seed)
    assert one["160"]["ap"] > 0.25 > 2 * made_up().y.mean()
    assert one["40"]["step"] in (10, 40) and one["rest"]["step"] == 160
    assert experiment.unit_of(one) == ("made up", model, arm, draw, seed, 1.0)
    other = experiment.run("made up", model, arm, draw, STATEMENT.tuning_seeds[0])
    assert set(other["160"]) == {"step", "choose"}  # its test rows are not looked at


def test_the_choice_is_of_the_mean_over_the_tuning_seeds():
    cell = ("flights", "linear", "weights")

    def run(draw, seed, value):
        unit = dict(zip(("data", "model", "arm"), cell, strict=True))
        return {**unit, "draw": draw, "seed": seed, "scale": 1.0, "1000": {"choose": value}}

    first, second = STATEMENT.tuning_seeds
    runs = [run(n, seed, 0.1) for n in range(STATEMENT.draws) for seed in (first, second)]
    runs[4] = run(2, first, 0.9)
    runs[5] = run(2, second, 0.1)
    runs[6] = run(3, first, 0.6)
    runs[7] = run(3, second, 0.6)
    runs.append(run(5, STATEMENT.seeds[0], 1.0))  # of the verdict: it has no say
    assert experiment.choice(runs, cell, "1000") == 3
    with pytest.raises(LookupError, match="draw 7"):
        experiment.choice([r for r in runs if r["draw"] != 7], cell, "1000")


def test_what_is_stored_goes_on(tmp_path, monkeypatch):
    unit = {
        "data": "hotel",
        "model": "linear",
        "arm": "weights",
        "draw": 1,
        "seed": 0,
        "scale": 1.0,
    }
    path = tmp_path / "runs.json"
    assert experiment.stored(path) == []
    experiment.store([dict(unit)], path)
    assert experiment.stored(path) == [{**unit, "versions": 0}]
    monkeypatch.setattr(experiment, "version", lambda package: "99")
    experiment.store([*experiment.stored(path), {**unit, "seed": 1}], path)
    assert [run["versions"] for run in experiment.stored(path)] == [0, 1]
    assert [v["torch"] for v in json.loads(path.read_text())["versions"]] == [
        torch.__version__,
        "99",
    ]
    path.write_text(path.read_text().replace(STATEMENT.fingerprint, "another"))
    assert experiment.stored(path) == []
