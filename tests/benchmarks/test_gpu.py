"""The benchmark of CUDA devices, without one: a smoke run on the CPU, and its arithmetic."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import COMPILED, COPY, FOCAL_CE, KINDS, READ, CpuTimer, measure, plot, traffic
from benchmarks.speed import BCE, BYTES, CE, KORNIA, OURS, SPEED, TORCHVISION

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
CASES = {case.name: case for case in gpu.CASES}
LARGE = [f"sigmoid-mean-float32-2^{k}" for k in (24, 26, 28)]
LARGE += [
    f"softmax-mean-float32-{shape}" for shape in ("8x21x512x512", "8192x32000", "4096x128256")
]
SMALL, LAST = "sigmoid-mean-float32-2^14", "softmax-mean-float32-4096x128256"


@pytest.fixture(autouse=True)
def restored():
    with mpl.rc_context():
        yield


def run(*options):
    """The script where no device is seen."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    output = tmp_path_factory.mktemp("quick") / "gpu.json"
    done = run("--quick", "--device", "cpu", "--output", output)
    assert done.returncode == 0, done.stderr
    assert output.with_suffix(".svg").exists()
    return json.loads(output.read_text()), done.stdout


class Planted(CpuTimer):
    """A timer that compiles, has run every step, and tells the seconds that it was given."""

    compiles = True

    def __init__(self, *rounds):
        self.rounds, self.calls = rounds, {}

    def seconds(self, step):
        step.call(step.before())
        turn = self.calls[step] = self.calls.get(step, -1) + 1
        return self.rounds[turn % len(self.rounds)]

    def peak(self, step):
        return 8200

    def host(self, step):
        return 0.5


@pytest.fixture
def uncompiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda f, dynamic: f)


def test_a_quick_run_has_every_case_and_every_field(quick):
    report, printed = quick
    facts = {"device", "multiprocessors", "memory", "l2", "driver", "date", "system"}
    assert facts | {"gamma", "alpha", "rounds", "quick", "notes", "versions"} <= set(report)
    assert {"python", "torch", "cuda", "triton", "kornia"} <= set(report["versions"])
    assert [record["name"] for record in report["cases"]] == list(CASES)
    for case, record in zip(CASES.values(), report["cases"], strict=True):
        assert case.name in printed
        assert record["dtype"] in case.name
        without = {KORNIA} if any(KORNIA in note for note in report["notes"]) else set()
        timed = {name for name in {OURS, *case.targets} - without if not name.endswith(COMPILED)}
        assert record["minimal_bytes"] == traffic(case.small())
        assert set(record["computed"]) == timed - {COPY, READ}
        for field in ("seconds", "host_seconds", "bytes_a_second", "share_of_copy"):
            assert set(record[field]) == timed
        for name in timed:
            assert record["host_seconds"][name] > 0
            assert list(record["seconds"][name]) == list(KINDS)
            for low, middle, high in record["seconds"][name].values():
                assert 0 < low <= middle <= high
        checks = {(c["implementation"], c["peer"]): c for c in record["checks"]}
        assert set(checks) == {(OURS, peer) for peer in timed - {OURS}} | {
            (name, None) for name in timed - {COPY, READ}
        }
        for (name, peer), c in checks.items():
            assert c["unit"] == (SPEED if peer else BYTES)
            ours = case.targets[peer] if peer else case.memory
            assert c["target"] == (ours if name == OURS else None)
            assert c["reached"] in ([None] if c["target"] is None else [True, False])


def test_the_cases_are_those_named():
    sizes = [f"sigmoid-mean-float32-2^{k}" for k in range(14, 29, 2)]
    sizes += ["sigmoid-mean-bfloat16-2^24", "sigmoid-mean-bfloat16-2^26"]
    softmax = ["float32-65536x80", "float32-8192x1000", "float32-8x21x512x512"]
    softmax += ["float32-8192x32000", "float32-4096x128256", "bfloat16-8192x32000"]
    named = [*sizes, "sigmoid-none-float32-2^24", *(f"softmax-mean-{name}" for name in softmax)]
    assert list(CASES) == named
    for case in CASES.values():
        if "^" in case.name:
            assert case.shape[0] * case.shape[1] == 2 ** int(case.name.split("^")[1])
        else:
            assert case.name.endswith("-" + "x".join(map(str, case.shape)))
        formula, plain = (TORCHVISION, BCE) if "sigmoid" in case.name else (FOCAL_CE, CE)
        peers = {formula, formula + COMPILED, KORNIA, plain, plain + COMPILED, COPY, READ}
        assert set(case.targets) == peers


def test_the_targets_are_on_the_large_cases_and_few_others():
    for name, case in CASES.items():
        expected = {}
        if name in LARGE:
            compiled = {peer: 1 for peer in case.targets if peer.endswith(COMPILED)}
            assert len(compiled) == 2
            expected = {COPY: 0.85, **compiled}
            expected |= {TORCHVISION: 10} if "sigmoid" in name else {}
        if name.startswith("softmax-mean-float32"):
            expected[CE] = 1.7
        if name == SMALL:
            expected[BCE] = 1
        assert {peer: t for peer, t in case.targets.items() if t} == expected
        assert case.memory == (4.1 if name in LARGE else None)


@pytest.mark.parametrize(
    "name, forward, backward",
    [
        (SMALL, 8 * 16384, 12 * 16384),
        ("sigmoid-mean-bfloat16-2^24", 4 * 16777216, 6 * 16777216),
        ("sigmoid-none-float32-2^24", 12 * 16777216, 16 * 16777216),
        # 5,242,880 logits, and an index of 8 bytes for each of the 65,536 items
        ("softmax-mean-float32-65536x80", 20971520 + 524288, 41943040 + 524288),
        # 44,040,192 logits, and an index for each of the 2,097,152 pixels
        ("softmax-mean-float32-8x21x512x512", 176160768 + 16777216, 352321536 + 16777216),
        ("softmax-mean-bfloat16-8192x32000", 524288000 + 65536, 1048576000 + 65536),
    ],
)
def test_the_least_traffic_worked_by_hand(name, forward, backward):
    assert traffic(CASES[name]) == {
        "forward": forward,
        "backward": backward,
        "both": forward + backward,
    }


def test_known_seconds_and_bytes_give_the_known_figures(uncompiled, monkeypatch):
    """All take 1 ms in the turn to warm up, and 2, 4, 8 and 16 ms in the four that count."""
    record, notes = measure(CASES[SMALL].small(), Planted(1e-3, 2e-3, 4e-3, 8e-3, 16e-3), 2.0, 4)
    assert notes == [] or all(KORNIA in note for note in notes)
    assert {OURS, TORCHVISION + COMPILED, BCE + COMPILED, COPY} <= set(record["seconds"])
    assert record["minimal_bytes"] == {"forward": 16000, "backward": 24000, "both": 40000}
    for name, kinds in record["seconds"].items():
        assert list(kinds.values()) == [pytest.approx([3.5e-3, 6e-3, 10e-3])] * 3
        assert record["bytes_a_second"][name]["forward"] == pytest.approx(16000 / 6e-3)
        assert record["share_of_copy"][name]["both"] == [1, 1, 1]
        assert record["host_seconds"][name] == 0.5
    peaks = [c for c in record["checks"] if c["unit"] == BYTES]
    assert {c["value"] for c in peaks} == {4.1}  # 8,200 bytes for 2,000 elements


def test_a_ratio_is_taken_within_a_turn(uncompiled):
    """The copy takes three times as long as each of the others, in every turn of a drift."""

    class Drifting(Planted):
        def seconds(self, step):
            is_copy = "copy_" in step.call.__code__.co_names
            return super().seconds(step) * (3 if is_copy else 1)

    record, _ = measure(CASES[LAST].small(), Drifting(1e-3, 5e-3, 2e-3), 2.0, 2)
    checks = {c["peer"]: c for c in record["checks"] if c["peer"]}
    assert checks[COPY]["rounds"] == pytest.approx([3, 3, 3])
    assert (checks[COPY]["target"], checks[COPY]["reached"]) == (0.85, True)
    assert checks[CE]["value"] == pytest.approx(1)
    assert (checks[CE]["target"], checks[CE]["reached"]) == (1.7, False)
    for name in (OURS, CE, FOCAL_CE + COMPILED):
        assert record["share_of_copy"][name]["both"] == pytest.approx([3, 3, 3])


@pytest.mark.parametrize("gamma", [0.0, 1.5])
@pytest.mark.parametrize(
    "name", ["sigmoid-none-float32-2^24", "softmax-mean-bfloat16-8192x32000", SMALL, LAST]
)
def test_the_peers_compute_the_same(uncompiled, name, gamma):
    """That is for `measure` to see; where gamma is 0, the cross entropy of classes is a peer."""
    case = CASES[name]._replace(shape=(256, 1000))
    record, _ = measure(case, Planted(1.0), gamma, 1)
    computed = record["computed"]
    assert {OURS, *case.targets} - {KORNIA, COPY, READ} <= set(computed)
    if CE in computed:
        assert (computed[CE] == pytest.approx(computed[OURS], rel=2e-4)) is (gamma == 0)


def test_what_differs_is_an_error(monkeypatch, tmp_path):
    kornia = SimpleNamespace(focal_loss=lambda x, y, **settings: (x**2).mean())
    monkeypatch.setitem(sys.modules, "kornia", SimpleNamespace(losses=kornia))
    monkeypatch.setitem(sys.modules, "kornia.losses", kornia)
    only = ["--only", "softmax-mean-float32-65536x80", "--output", str(tmp_path / "gpu.json")]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--quick", "--device", "cpu", *only])
    with pytest.raises(SystemExit, match="kornia computes"):
        gpu.main()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("name", [TORCHVISION, BCE + COMPILED])
def test_each_of_value_and_gradient_is_compared(name, at):
    """A compiled cross entropy is another loss than ours, and the same as the eager one."""
    computed = {OURS: [0.2] * 3, TORCHVISION: [0.2] * 3, BCE: [0.7] * 3, BCE + COMPILED: [0.7] * 3}
    gpu.compare(CASES[SMALL], computed, 2.0)
    computed[name] = [v * (1.001 if i == at else 1) for i, v in enumerate(computed[name])]
    with pytest.raises(SystemExit, match=f"{name} computes"):
        gpu.compare(CASES[SMALL], computed, 2.0)


def test_what_is_not_there_is_a_note(monkeypatch):
    def compiled(f, dynamic):
        def failing(x, y):
            raise RuntimeError("no triton\nhere\nbut there")

        return failing

    def formula(x, y, **settings):
        raise torch.OutOfMemoryError("2 GiB")

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr("benchmarks.peers.torchvision_sigmoid", formula)
    monkeypatch.setitem(sys.modules, "kornia.losses", None)
    record, notes = measure(CASES[SMALL].small(), Planted(1.0), 2.0, 1)
    assert set(record["seconds"]) == {OURS, BCE, COPY, READ}
    assert f"{TORCHVISION} is left out of {SMALL}: out of memory" in notes
    assert f"{BCE + COMPILED} is left out of {SMALL}: no triton here" in notes
    assert len([note for note in notes if note.startswith("kornia is left out: ")]) == 1


@pytest.mark.parametrize("at, name", [(0, OURS), (15, TORCHVISION)])
def test_memory_that_runs_out_later_is_a_note(uncompiled, at, name, monkeypatch):
    class Full(Planted):
        def seconds(self, step):
            if len(self.calls) == at and step not in self.calls:
                self.calls[object()] = 0
                raise torch.OutOfMemoryError("2 GiB")
            return super().seconds(step)

    monkeypatch.setitem(sys.modules, "kornia.losses", None)  # seven take turns: 15 is one's "both"
    record, notes = measure(CASES[SMALL].small(), Full(1.0), 2.0, 1)
    assert f"{name} is left out of {SMALL}: out of memory" in notes
    if name == OURS:
        assert record is None
    else:
        assert name not in set(record["seconds"]) | set(record["computed"])
        assert (name, None) not in {(c["implementation"], c["peer"]) for c in record["checks"]}


def test_a_case_that_does_not_fit_is_a_note(monkeypatch):
    def inputs(case, device):
        raise torch.OutOfMemoryError("2 GiB")

    monkeypatch.setattr(gpu, "inputs", inputs)
    notes = [f"every implementation is left out of {SMALL}: out of memory"]
    assert measure(CASES[SMALL].small(), CpuTimer(), 2.0, 1) == (None, notes)


def test_an_error_of_ours_is_an_error(monkeypatch):
    monkeypatch.setattr("focal_lib.torch.sigmoid_focal_loss", lambda x, y, **settings: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure(CASES[SMALL].small(), CpuTimer(), 2.0, 1)


@pytest.mark.parametrize(
    "needed, written", [(1, 1), (3, 1 + 2 + 4), (1000, 1 + 2 + 4 + 8 + 16 + 32)]
)
def test_the_buffer_is_written_until_the_host_is_ahead(monkeypatch, needed, written):
    """A call that waits for the device is never ahead: at 32 times, it is timed as it is."""
    writes = []

    class Event:
        def __init__(self, enable_timing):
            self.at = len(writes)

        def record(self):
            self.at = len(writes)

        def query(self):  # done: the writes before it took less time than the host
            return self.at - begun[-1] < needed

        def synchronize(self):
            pass

        def elapsed_time(self, end):
            return 2.0

    class Buffer:
        def zero_(self):
            writes.append(None)
            events.append("write")

        def max(self):
            events.append("read")

    begun, events = [], []
    timer = gpu.CudaTimer.__new__(gpu.CudaTimer)
    timer.buffer, timer.doubled = Buffer(), gpu.Counter()
    monkeypatch.setattr(torch.cuda, "Event", Event)
    step = gpu.Step(lambda made: made, lambda: begun.append(len(writes)))
    assert timer.seconds(step) == 2e-3
    assert len(writes) == written
    assert events[-2:] == ["write", "read"]
    assert timer.waits(step) is (needed == 1000)


def test_without_a_device_it_says_so_and_writes_nothing(tmp_path):
    done = run("--output", tmp_path / "gpu.json")
    assert done.returncode == 1
    assert done.stderr.startswith("bench-gpu: no CUDA device; ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_plot_is_the_same_in_every_run_and_from_the_json(quick, monkeypatch, tmp_path):
    report, _ = quick
    plot(report, tmp_path / "one.svg")
    (tmp_path / "two.json").write_text(json.dumps(report))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--plot", str(tmp_path / "two.json")])
    gpu.main()
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert b"<dc:date>" not in (tmp_path / "one.svg").read_bytes()
