"""What the chapter on the GPU counts: small formulas by hand, and each count against another."""

import json
import os
import shutil
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from benchmarks import gpu
from benchmarks.peers import torchvision_sigmoid
from benchmarks.speed import TORCHVISION
from focal_lib.torch import sigmoid_focal_loss, softmax_focal_loss
from focal_notes import processes
from focal_notes.traffic import (
    Kernel,
    bytes_of,
    cpu_report,
    dispatched,
    gpu_lines,
    gpu_reports,
    interpreted,
    on_interpreter,
    peaks,
    profiled,
    source_of,
    speedups,
)

N, COLUMNS = 2**15, 64
COUNTS = pytest.mark.parametrize("count", [profiled, dispatched])


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("KINETO_LOG_LEVEL", "6")


@pytest.fixture
def x():
    return torch.randn(N // COLUMNS, COLUMNS, generator=torch.Generator().manual_seed(0))


def moved(kernels):
    return [(kernel.read / N, kernel.written / N) for kernel in kernels]


@COUNTS
@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda x: x.exp(), [(4, 4)]),
        (lambda x: x + x.exp(), [(4, 4), (8, 4)]),
        (lambda x: x.clone().mul_(2), [(4, 4), (4, 4)]),
        (lambda x: torch.zeros_like(x), [(0, 4)]),
        (lambda x: x * x[:, :1].expand_as(x), [(4 + 4 / COLUMNS, 4)]),
        (lambda x: x.T.movedim(0, 1)[1:].unsqueeze(0), []),
        (lambda x: x > 0, [(4, 1)]),
        (lambda x: x * (x > 0), [(4, 1), (5, 4)]),
        (lambda x: x.bfloat16() * 2, [(4, 2), (2, 2)]),
        (lambda x: torch.where(x > 0, x, 0.0), [(4, 1), (5, 4)]),
    ],
)
def test_counts_by_hand(count, formula, expected, x):
    found = moved(count(lambda: formula(x)))
    assert found == [pytest.approx(pair, abs=0.01) for pair in expected]


@COUNTS
def test_a_sum_and_its_backward(count, x):
    x.requires_grad_()
    kernels = count(lambda: torch.autograd.grad((x * 3).sum(), x))
    assert moved(kernels) == [pytest.approx(pair, abs=0.01) for pair in ((4, 4), (4, 0), (0, 4))]
    assert [kernel.is_backward for kernel in kernels] == [False, False, True]


def peers():
    """What is counted in the chapter, as it is installed: kernels, and bytes an element."""
    return [
        ("torchvision", partial(torchvision_sigmoid, reduction="mean"), 37, 364),
        ("bce", F.binary_cross_entropy_with_logits, 10, 88),
        ("kornia", None, 45, 426),
    ]


@COUNTS
@pytest.mark.parametrize(("name", "loss", "kernels", "expected"), peers())
def test_what_the_peers_move(count, name, loss, kernels, expected, x):
    if name == "kornia":
        kornia = pytest.importorskip("kornia.losses")

        def loss(x, y):
            return kornia.binary_focal_loss_with_logits(x, y, 0.25, 2.0, "mean")

    x.requires_grad_()
    y = (x.detach() > 2).float()
    found = count(lambda: torch.autograd.grad(loss(x, y), x))
    assert len(found) == kernels
    assert bytes_of(found, N) == pytest.approx(expected, abs=0.1)


@COUNTS
def test_what_cross_entropy_moves(count, x):
    x.requires_grad_()
    t = torch.zeros(len(x), dtype=torch.long)
    found = count(lambda: torch.autograd.grad(F.cross_entropy(x, t), x))
    assert bytes_of(found, N) == pytest.approx(24 + (12 + 8 + 4) / COLUMNS, abs=0.01)


def test_kernels_in_the_interpreter(x):
    if "TRITON_INTERPRET" not in os.environ:
        pytest.skip("the kernels are not interpreted")
    try:
        with on_interpreter():
            pass
    except RuntimeError as error:
        pytest.skip(str(error))
    x.requires_grad_()
    y, t = x.detach() > 2, torch.zeros(len(x), dtype=torch.long)

    def sigmoid():
        return torch.autograd.grad(sigmoid_focal_loss(x, y, reduction="mean"), x)

    forward, finish, backward = interpreted(sigmoid)
    assert [k.name for k in (forward, finish, backward)] == [
        "sigmoid_focal_forward", "sum_up", "sigmoid_focal_backward",
    ]  # fmt: skip
    programs = N // 1024
    assert (forward.read, forward.written) == (5 * N, 8 * programs)
    assert (finish.read, finish.written) == (8 * programs, 4 + 8)
    assert (backward.read, backward.written) == (5 * N + 4 + 8, 4 * N)
    assert backward.is_backward and not forward.is_backward
    assert forward.operations["special"] == 3 * N  # two powers of 2 and a reciprocal
    forward, _, backward = interpreted(lambda: torch.autograd.grad(softmax_focal_loss(x, t), x))
    rows, programs = len(x), N // 2048
    assert (forward.read, forward.written) == (4 * N + 8 * rows, 12 * rows + 16 * programs)
    assert (backward.read, backward.written) == (4 * N + 20 * rows + 4 + 8, 4 * N)


def test_kernel_bytes():
    assert Kernel("a", False, 3, 4).bytes == 7
    assert bytes_of([Kernel("a", False, 3, 4), Kernel("b", True, 1, 0)], 4) == 2


def test_source_is_read_from_the_file():
    whole = source_of("_at")
    assert whole.startswith("def _at(i, n1") and '"""' not in whole
    assert whole.endswith("(i % n1).to(tl.int64) * s1 + last * s2")
    part = source_of("_at", "last =", "if DIMS == 2")
    assert part == "last = (i % n2).to(tl.int64)\ni = i // n2"
    assert source_of("_at", "last =").startswith(part)
    with pytest.raises(ValueError, match="unpack"):
        source_of("_no_such_kernel")


# --- What was measured ----------------------------------------------------------------------------


def test_the_cpu_report_and_its_ratios():
    report = cpu_report()
    found = dict((case, value) for case, _, value, _ in speedups(report, "torchvision"))
    assert {"sigmoid-mean-1e3", "sigmoid-mean-1e7"} <= set(found) and min(found.values()) > 1
    for _, least, value, most in speedups(report, "kornia"):
        assert least <= value <= most
    assert peaks(report, "sigmoid-mean-4e6")["focal_lib"] < 5


def test_a_report_of_a_gpu_is_found_and_told(tmp_path):
    case = gpu.CASES[0].small()
    record, _ = gpu.measure(case, gpu.CpuTimer(), 2.0, 1)
    report = gpu.machine("cpu") | {"device": "Some GPU", "quick": False, "cases": [record]}
    (tmp_path / "cpu.json").write_text(json.dumps(cpu_report()))
    assert gpu_reports(tmp_path) == []
    (tmp_path / "some-gpu.json").write_text(json.dumps(report))
    (tmp_path / "smoke.json").write_text(json.dumps(report | {"quick": True}))
    [found] = gpu_reports(tmp_path)
    lines = gpu_lines(found)
    assert lines[0].startswith(f"Some GPU, torch {torch.__version__.partition('+')[0]}")
    assert lines[1].startswith(f"{case.name}: ") and "of a copy's bandwidth" in lines[1]
    assert any(line.endswith(f"times as fast as {TORCHVISION}") for line in lines)
    assert not any("as copy" in line for line in lines)


# --- Processes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", processes.LOSSES)
def test_batches_of_processes_have_different_normalizers(loss):
    x, target = processes.batch(loss)
    again, _ = processes.batch(loss)
    assert torch.equal(x, again) and len(x) == 2 * processes.ITEMS
    logits = processes.model(loss)(x)
    parts = zip(logits.chunk(2), target.chunk(2), strict=True)
    first, second = (processes.terms(loss, *part)[1].item() for part in parts)
    assert first < second / 5
    if loss == "sigmoid":
        assert (first, second) == processes.POSITIVES


def test_a_process_that_fails_is_told(monkeypatch):
    """That the gradients are right is checked in the chapter, which starts the processes."""
    monkeypatch.setattr(processes.sys, "executable", shutil.which("false"))
    with pytest.raises(RuntimeError):
        processes.gradients(1)
