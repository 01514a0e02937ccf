"""The benchmark runs, compares what is the same, and does without the peers that are absent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

from benchmarks.speed import BCE, CASES, CE, KORNIA, NAIVE, OURS, TORCHVISION, measure, plot

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "speed.py"


@pytest.fixture(autouse=True)
def restored():
    """A measurement sets torch's threads, and the plot its style: not for the tests that follow."""
    threads = torch.get_num_threads()
    with mpl.rc_context():
        yield
    torch.set_num_threads(threads)


def run(output, *options, absent=None):
    """The report of one run and what it printed; ``absent`` is a folder to hide kornia with."""
    environment = dict(os.environ)
    if absent:
        (absent / "kornia.py").write_text("raise ImportError('hidden')")
        environment["PYTHONPATH"] = str(absent)
    command = [sys.executable, str(SCRIPT), *options, "--output", str(output)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text()), done.stdout


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return run(tmp_path_factory.mktemp("quick") / "cpu.json", "--quick")


def test_a_quick_run_has_every_case_and_every_field(quick):
    report, printed = quick
    assert {"date", "cpu", "cpus", "threads", "load", "versions", "gamma", "notes"} <= set(report)
    assert set(report["versions"]) == {"python", "numpy", "torch", "kornia"}
    assert [record["name"] for record in report["cases"]] == [case.name for case in CASES]
    for case, record in zip(CASES, report["cases"], strict=True):
        assert case.name in printed
        without = {KORNIA} if any(KORNIA in note for note in report["notes"]) else set()
        expected = {OURS, *case.targets} - without
        assert set(record["seconds"]) == expected
        assert all(time > 0 for rounds in record["seconds"].values() for time in rounds)
        checks = {(c["implementation"], c["peer"]): c for c in record["checks"]}
        for peer in expected - {OURS}:
            assert checks[OURS, peer]["target"] == case.targets[peer]
            assert checks[OURS, peer]["reached"] in (
                [None] if case.targets[peer] is None else [True, False]
            )
        if case.memory:
            assert checks[OURS, None]["target"] == case.memory
            assert {name for name, peer in checks if peer is None} == expected
            assert all(c["value"] > 0 for c in record["checks"])


def test_an_absent_peer_is_a_note(tmp_path):
    report, printed = run(tmp_path / "cpu.json", "--quick", "--only", "x80", absent=tmp_path)
    assert "kornia is left out: hidden" in report["notes"]
    assert "kornia is left out: hidden" in printed
    assert [set(record["seconds"]) for record in report["cases"]] == [{OURS, CE}, {OURS, CE}]


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_peers_compute_the_same_loss_and_gradient(case, gamma):
    def computed(name):
        return measure(case.small(), name, gamma, "time", 0.0).get("computed")

    for name in case.targets:
        same = name in (TORCHVISION, NAIVE, KORNIA) or (name == CE and gamma == 0)
        if same and (theirs := computed(name)):  # none where kornia is not installed
            assert theirs == pytest.approx(computed(OURS), rel=1e-5)
        assert same or name in (BCE, CE)


def test_a_difference_between_peers_is_an_error(tmp_path):
    """Nothing is compared with a kornia that computes something else."""
    (tmp_path / "kornia").mkdir()
    (tmp_path / "kornia" / "__init__.py").touch()
    (tmp_path / "kornia" / "losses.py").write_text(
        "def focal_loss(x, y, **settings):\n    return (x**2).mean()\n"
    )
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--only", "softmax-mean-4096x10$"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "kornia computes" in done.stderr


def test_a_measurement_in_its_own_process(tmp_path):
    only = ["--only", "numpy-softmax-4096x10$", "--rounds", "2", "--gamma", "1.5"]
    report, printed = run(tmp_path / "cpu.json", *only)
    (record,) = report["cases"]
    assert report["gamma"] == 1.5
    assert record["shape"] == [4096, 10]
    assert {name: len(rounds) for name, rounds in record["seconds"].items()} == {OURS: 2, NAIVE: 2}
    assert "0 of 0 targets are reached" in printed


def test_the_plot_is_the_same_in_every_run(quick, tmp_path):
    report, _ = quick
    plot(report, tmp_path / "one.svg")
    plot(report, tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert b"<dc:date>" not in (tmp_path / "one.svg").read_bytes()
