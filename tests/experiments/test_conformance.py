"""The examination of public focal losses: its stored results, its oracle, and planted faults.

The libraries are not installed here. What is stored of focal_lib is examined again, so that it
can't go stale; what is stored of the others is held to the script's table and to the pinned
versions.
"""

import json
import re
from itertools import combinations
from pathlib import Path

import exact
import mpmath as mp
import numpy as np
import pytest
import torch
from exact import forms

from experiments import conformance
from experiments.conformance import (
    DTYPES,
    GAMMAS,
    MEASURES,
    RESULTS,
    Examiner,
    Function,
    bad_inputs,
    binary_rules,
    binary_truth,
    functions,
    plain,
    softmax_rules,
    softmax_truth,
    stored,
)

ROOT = Path(__file__).parents[2]
TEXT = RESULTS.read_text(encoding="utf-8")
DATA = json.loads(TEXT)
ROWS = {row["id"]: row for row in DATA["functions"]}
TABLE = functions(conformance.FUNCTIONS)
ASKED = {
    *("torchvision", "fvcore", "kornia", "monai", "keras", "optax"),
    *("segmentation-models-pytorch", "focal_lib"),
}
OURS = [f for f in TABLE if f.package == "focal_lib"]
PERFECT = {"zero": 0, "nan": 0, "inf": 0}


# --- What is stored -------------------------------------------------------------------------------


def pins(name):
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))


def test_every_library_is_examined_by_the_calls_of_the_script():
    assert {row["package"] for row in DATA["libraries"]} >= ASKED
    assert sorted(f"{f.package}.{f.family}" for f in TABLE) == list(ROWS)
    for f in TABLE:
        row = ROWS[f"{f.package}.{f.family}"]
        kept = (row["function"], row["off"], row["call"], row["note"])
        assert kept == (f.name, f.off, f.call, f.note)


def test_versions_are_those_that_are_pinned():
    ours = {"focal_lib": ROWS["focal_lib.binary"]["version"]}
    pinned = pins("conformance.txt") | pins("torch.txt") | ours
    if "torch" not in pinned:
        pytest.skip("torch is not pinned (make test-newest): the results are of its pin")
    pinned["tensorflow"] = pinned["tensorflow-cpu"]
    for row in [*DATA["libraries"], *DATA["functions"]]:
        assert row["version"] == pinned[row["package"]]
        engine, version = row["engine"].split()
        assert version == pinned[engine]
    # What is examined is named on purpose, and is not what something else asks for.
    named = pins("conformance.in") | ours
    assert {row["package"] for row in DATA["libraries"]} <= set(named)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_rows_are_whole(row):
    fields = "id package version function family call off note engine defaults formula accuracy"
    assert list(row) == [*fields.split(), "smallest", "soft", "options", "bad"]
    for dtype in DTYPES:
        figures = row["accuracy"][dtype]
        assert list(figures) == ["output", *MEASURES]
        for measure in MEASURES:
            of = figures[measure]
            if of and "error" not in of:
                within, close = of["within_32_eps"], of["within_1e-3"]
                assert 0 <= within <= close <= of["cases"] > 0
                assert close < of["cases"] or not of["nan"] + of["inf"]
                assert of["at"] is None or of["at"]["gamma"] in GAMMAS
    for event in row["smallest"]:
        assert re.fullmatch(r"(value|gradient|second)_(nan|zero|1pc)", event["event"])
        x = np.max(np.abs(event["x"]))
        assert x <= conformance.LIMIT
    options = row["options"]
    assert set(options["half"]) == set(conformance.HALF)
    assert (options["targets"] is None) == (row["family"] == "binary" or row["soft"] is None)
    if row["soft"]:
        rules = binary_rules if row["family"] == "binary" else softmax_rules
        at = (np.array(row["soft"]["x"]), np.array(row["soft"]["y"]))
        expected = rules(*at, row["soft"]["gamma"])
        assert row["soft"]["rules"] == {k: conformance.digits(v) for k, v in expected.items()}
        assert row["soft"]["rule"] in {*expected, "rejected", "other"}
    outcomes = [of["outcome"] for of in row["bad"].values() if of]
    assert len(outcomes) >= 8
    assert set(outcomes) <= {"error", "value", "nan", "inf"}


def test_the_file_is_as_the_script_writes_it_and_names_no_machine():
    assert stored(DATA) == TEXT
    assert not re.search(r"/root|/tmp|/home|/work|site-packages|0x[0-9a-f]{4}", TEXT)
    assert DATA["upstream"] == conformance.upstream()
    examined = {row["package"] for row in DATA["libraries"]}
    out = {row["package"] for row in DATA["left_out"]}
    assert not examined & out
    for thread in DATA["upstream"]:
        assert thread["package"] in examined | out
        assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", thread["url"])
        assert thread["status"] in ("open", "closed", "merged")


# --- focal_lib, again -----------------------------------------------------------------------------


@pytest.mark.devices("cpu")
@pytest.mark.parametrize("function", OURS, ids=[f.family for f in OURS])
def test_what_is_stored_of_focal_lib_is_so(function):
    again, row = Examiner(function).report(thin=8), ROWS[f"focal_lib.{function.family}"]
    exempt = ("accuracy", "engine", "version")  # the numbers hold, whatever they are called
    assert {k: v for k, v in again.items() if k not in exempt} == {
        k: v for k, v in row.items() if k not in exempt
    }
    assert row["smallest"] == []
    assert row["formula"] == dict.fromkeys(MEASURES, True)
    for report in (again, row):
        for dtype, figures in report["accuracy"].items():
            assert figures["output"] == dtype
            for measure in MEASURES:
                of = figures[measure]
                assert of["within_32_eps"] == of["cases"]
                assert of | PERFECT == of


# --- The oracle -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", GAMMAS)
def test_true_values_are_those_of_the_definition(gamma):
    with mp.workdps(60):
        for z in (-9.5, -2.94, 0.25, 7.0):
            value, slope, bend, scale = forms(mp.mpf(z), gamma)
            for order, of in enumerate((value, slope, bend)):
                expected = exact.sigmoid(z, 1, gamma=gamma, derivative=order)
                assert float(of) == pytest.approx(float(expected), rel=1e-14, abs=1e-300)
            assert scale >= abs(bend)
            in_float = [float(v) for v in (value, slope, bend, scale)]
            assert list(plain(z, gamma)) == pytest.approx(in_float, rel=1e-11)
    truth = binary_truth(gamma, 40)
    for x, y, gradient in zip(truth.x, truth.y, truth.gradient, strict=True):
        expected = exact.sigmoid(x, y, gamma=gamma, derivative=1)
        assert gradient == pytest.approx(float(expected), rel=1e-14, abs=1e-300)


@pytest.mark.parametrize("classes", [2, 3])
def test_true_gradients_and_hessians_of_softmax(classes):
    truth, gamma, step = softmax_truth(2.0, classes, 16), 2.0, mp.mpf(10) ** -25
    for i, (x, t) in enumerate(zip(truth.x, truth.y, strict=True)):
        one = np.eye(classes)[t]
        assert truth.value[i] == pytest.approx(float(exact.softmax(x, one, gamma)), rel=1e-14)
        with mp.workdps(120):
            moved = [
                [v + s * (j == 0) for j, v in enumerate(map(mp.mpf, x))] for s in (-step, step)
            ]
            down, up = (exact.softmax_gradient(row, one, gamma) for row in moved)
            column = [float((b - a) / (2 * step)) for a, b in zip(down, up, strict=True)]
        gradient = [float(v) for v in exact.softmax_gradient(x, one, gamma)]
        assert truth.gradient[i] == pytest.approx(gradient, rel=1e-13)
        assert truth.second[i][:, 0] == pytest.approx(
            column, rel=1e-8, abs=1e-8 * truth.scale[i].max()
        )


# --- Faults, planted ------------------------------------------------------------------------------


def naive(x, y, gamma):
    p = x.sigmoid()
    return -y * (1 - p) ** gamma * p.log() - (1 - y) * p**gamma * (1 - p).log()


def clipped(x, y, gamma):
    p = x.sigmoid().clamp(1e-7, 1 - 1e-7)
    return -y * (1 - p) ** gamma * p.log() - (1 - y) * p**gamma * (1 - p).log()


def softmax_of_interpolated(x, y, gamma):
    ce = torch.nn.functional.cross_entropy(x, y, reduction="none")
    y = torch.nn.functional.one_hot(y, x.shape[1]) if y.ndim < x.ndim else y
    return (1 - (x.softmax(1) * y).sum(1)) ** gamma * ce


def with_another_factor(x, y, gamma):
    p = x.sigmoid()
    return -y * (1 - p**gamma) * p.log() - (1 - y) * (1 - (1 - p) ** gamma) * (1 - p).log()


def planted(loss, family="binary"):
    name = f"{__name__}.{loss.__name__}"
    return Examiner(
        Function("focal_lib", family, name, "torch", "", "f(x, y, gamma)", "", False, False)
    )


def events(examiner):
    found = examiner.smallest(thin=1)
    return {(e["dtype"], e["gamma"], e["side"], e["event"]): e for e in found}


@pytest.mark.devices("cpu")
def test_a_naive_formula_is_caught():
    examiner = planted(naive)
    figures, found = examiner.accuracy("float32", 4), events(examiner)
    assert figures["value"]["nan"] > 0
    assert figures["value"]["within_1e-3"] < 0.9 * figures["value"]["cases"]
    at = found["float32", 0.5, "easy", "gradient_nan"]
    assert abs(at["x"]) == pytest.approx(16.6875)
    x = torch.tensor(at["x"], requires_grad=True)
    naive(x, torch.tensor(at["y"]), 0.5).backward()
    assert x.grad.isnan()
    x = torch.tensor(at["x"] * (1 - 1 / 64), requires_grad=True)
    naive(x, torch.tensor(at["y"]), 0.5).backward()
    assert x.grad.isfinite()
    assert ("float32", 2.0, "easy", "value_1pc") in found
    assert examiner.bad()["gamma_negative"]["outcome"] == "value"
    assert examiner.bad()["infinite_right"]["limit"] is False
    assert examiner.bad()["alpha_2"] is None
    assert examiner.soft()["rule"] == "expectation"


@pytest.mark.devices("cpu")
def test_a_clipped_probability_is_caught():
    examiner = planted(clipped)
    figures, found = examiner.accuracy("float32", 4), events(examiner)
    assert figures["value"]["nan"] == figures["gradient"]["nan"] == 0
    assert figures["gradient"]["zero"] > 0
    at = found["float32", 2.0, "hard", "gradient_zero"]  # where the mistake is largest
    # From 16.1 on the probability is beyond the bound. In float32 it is at the bound from 15.5 on,
    # where torch's clamp has the derivative 1, and 0 from torch 2.14 on.
    assert 15.5 < abs(at["x"]) < 17
    assert (at["got"], abs(at["true"])) == (0, pytest.approx(1, rel=1e-3))


@pytest.mark.devices("cpu")
def test_another_formula_is_told_from_an_inexact_one():
    assert planted(naive).formula() == planted(clipped).formula() == dict.fromkeys(MEASURES, True)
    assert planted(with_another_factor).formula() == dict.fromkeys(MEASURES, False)


@pytest.mark.devices("cpu")
def test_another_rule_and_loose_shapes_are_caught():
    examiner = planted(softmax_of_interpolated, "softmax")
    assert examiner.soft()["rule"] == "p_t interpolated"
    assert examiner.offered()["targets"] == ["indices", "one-hot"]
    assert examiner.bad()["target_above"]["outcome"] == "error"
    shapes = planted(naive).bad()["shapes_broadcast"]
    assert (shapes["outcome"], shapes["detail"]) == ("value", "shape (4, 4)")


@pytest.mark.parametrize("rules", [binary_rules, softmax_rules])
def test_rules_differ_where_they_are_told_apart(rules):
    family = "binary" if rules is binary_rules else "softmax"
    at = ROWS[f"focal_lib.{family}"]["soft"]
    values = rules(np.array(at["x"]), np.array(at["y"]), at["gamma"])
    for (_, a), (_, b) in combinations(values.items(), 2):
        assert abs(a - b) > 0.005 * min(a, b)


def test_bad_inputs_are_bad():
    for function in OURS:
        cases = bad_inputs(Examiner(function))
        assert {"gamma_negative", "gamma_nan", "target_above", "infinite_wrong"} <= set(cases)
        row = ROWS[f"focal_lib.{function.family}"]["bad"]
        assert list(row) == list(cases)
        for case, outcome in row.items():
            if case.startswith("infinite"):
                assert outcome["limit"]
            elif not case.startswith("empty"):
                assert outcome["outcome"] == "error"
                assert re.match("ValueError|TypeError", outcome["detail"])
