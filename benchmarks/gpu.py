"""Speed, bandwidth and peak memory of the losses on a CUDA device: what `make bench-gpu` runs.

The peers are those of benchmarks/speed.py: torchvision's formula, kornia's focal losses and torch's
cross entropies, which compute less; and the softmax focal loss as it is mostly written, over
F.cross_entropy. All but kornia's are there eager and compiled. Those of the same loss must agree in
value and in the gradient's norm, or the run fails. What is not installed, does not compile or runs
out of memory is left out with a note.

What is timed: "forward", of inputs that need no gradient; "backward", of a graph made outside of
the timing; and "both", as a step of training. Each time is between two CUDA events. Before the
first, a buffer of several times the L2 cache is written and then read, which has two purposes: no
call finds its inputs in the cache, or what was written there and has yet to reach memory; and the
device is busy while Python prepares the call, so that the events measure the device. That the
device was still busy is looked up after each call; if not, the buffer is written more often, and a
call that waits for the device itself gets a note. Each case has a process of its own, in which the
implementations take turns, A B C A B C; a ratio is taken within a turn. What Python costs is in
"host_seconds": the time of "both" called back to back.

Each pass must move some bytes: it reads the logits and the targets, and the backward, which cannot
know its upstream gradient earlier, reads them again and writes the gradient. How near that is to
the device's bandwidth, a copy of as many bytes tells, half of them read and half written, which
takes its turn as the others do; and for what a pass mostly reads, a sum of as many bytes. A share
above 1 is the cache's: what one pass leaves there, the next need not read.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils import collect_env

sys.path.insert(0, str(Path(__file__).parents[1]))  # it runs without an installation, too

from benchmarks import peers, speed
from benchmarks.speed import ALPHA, BCE, BYTES, CE, KORNIA, OURS, SPEED, TORCHVISION, Case, check

RESULTS = Path(__file__).parent / "results"
COPY, READ, FOCAL_CE, COMPILED = "copy", "read", "focal loss of F.cross_entropy", ", torch.compile"
KINDS = ("forward", "backward", "both")
SHARE = 0.85  # of the copy's bandwidth, the target
ROUNDS = 50
FLUSH, WRITES = 2**28, 32  # bytes of the buffer, at least, and how often it is written, at most
# bfloat16 has 8 bits, and the peers round to it after each operation.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}


def _case(loss: str, shape: tuple[int, ...], dtype: str, reduction: str = "mean") -> Case:
    """A case with its targets: those of float32 and the mean, mostly of 2^24 elements or more."""
    elements = math.prod(shape)
    usual = dtype == "float32" and reduction == "mean"
    large = usual and elements >= 2**24
    plain, formula = (BCE, TORCHVISION) if loss == "sigmoid" else (CE, FOCAL_CE)
    targets = {
        formula: 10 if large and loss == "sigmoid" else None,
        formula + COMPILED: 1 if large else None,
        KORNIA: None,
        plain: None,
        plain + COMPILED: 1 if large else None,
        COPY: SHARE if large else None,
        READ: None,
    }
    if usual and loss == "softmax":
        targets[CE] = 1.7
    elif usual and elements == 2**14:
        targets[BCE] = 1
    size = f"2^{elements.bit_length() - 1}" if loss == "sigmoid" else "x".join(map(str, shape))
    # The gradient is 4 bytes an element. The rest is for what is small beside it: the loss, partial
    # sums, a number or two an item, and the allocator's rounding.
    return Case(f"{loss}-{reduction}-{dtype}-{size}", shape, targets, 4.1 if large else None)


# Items and classes; and images, classes, rows and columns.
SHAPES = [(65536, 80), (8192, 1000), (8, 21, 512, 512), (8192, 32000), (4096, 128256)]
CASES = [
    *(_case("sigmoid", (2**k // 128, 128), "float32") for k in range(14, 29, 2)),
    *(_case("sigmoid", (2**k // 128, 128), "bfloat16") for k in (24, 26)),
    _case("sigmoid", (2**17, 128), "float32", "none"),
    *(_case("softmax", shape, "float32") for shape in SHAPES),
    _case("softmax", (8192, 32000), "bfloat16"),
]


def dtype_of(case: Case) -> str:
    return case.name.split("-")[2]


def traffic(case: Case) -> dict[str, int]:
    """The bytes that no implementation can do without: each input read, each result written.

    A loss that is not reduced is written by the forward, and its upstream gradient is read by the
    backward; reduced, they are one number. Class indices have 8 bytes an item.
    """
    elements = math.prod(case.shape)
    logits = elements * getattr(torch, dtype_of(case)).itemsize
    targets = logits if "sigmoid" in case.name else 8 * elements // case.shape[1]
    loss = logits if "-none-" in case.name else 0
    forward, backward = logits + targets + loss, logits + targets + loss + logits
    return {"forward": forward, "backward": backward, "both": forward + backward}


# --- What is compared -----------------------------------------------------------------------------


def implementation(case: Case, name: str, gamma: float) -> Callable[[Any, Any], Any]:
    """The call f(x, y) to measure, of benchmarks/speed.py where it has one."""
    if name.endswith(COMPILED):
        eager = implementation(case, name.removesuffix(COMPILED), gamma)
        return torch.compile(eager, dynamic=False)
    if name == BCE and "-none-" in case.name:
        return lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none")
    if name == FOCAL_CE:
        return lambda x, y: peers.softmax_of_cross_entropy(x, y, gamma=gamma, reduction="mean")
    return speed.implementation(case, name, gamma)


class Step(NamedTuple):
    """What is timed; and what is done before it, outside of the timing, and handed to it."""

    call: Callable[[Any], Any]
    before: Callable[[], Any] = lambda: None


def steps_of(f: Callable[[Any, Any], Any], x: Any, y: Any, seed: list[Any]) -> dict[str, Step]:
    """The three kinds of step; ``seed`` is the upstream gradient of a loss that is not reduced."""
    plain = x.detach()

    def clear() -> None:
        x.grad = None

    def graph() -> Any:
        clear()
        return f(x, y)

    def both(_: Any) -> Any:
        loss = f(x, y)
        loss.backward(*seed)
        return loss

    return {
        "forward": Step(lambda _: f(plain, y), clear),
        "backward": Step(lambda loss: loss.backward(*seed), graph),
        "both": Step(both, clear),
    }


def inputs(case: Case, device: str) -> tuple[Any, Any, list[Any]]:
    """The logits, the targets and the seed, the same in every run on the same device."""
    rows, classes, *places = case.shape
    dtype = getattr(torch, dtype_of(case))
    generator = torch.Generator(device).manual_seed(0)
    made: dict[str, Any] = {"generator": generator, "device": device}
    x = torch.randn(case.shape, dtype=dtype, **made)
    if "sigmoid" in case.name:
        y = (torch.rand(case.shape, **made) < 0.01).to(dtype)
    else:
        y = torch.randint(classes, (rows, *places), **made)
    seed = [torch.ones_like(x)] if "-none-" in case.name else []
    return x.requires_grad_(), y, seed


# --- Timers ---------------------------------------------------------------------------------------


class CpuTimer:
    """Times on the CPU that say nothing: with them the tests run all the rest."""

    device, compiles, span = "cpu", False, 0.0

    def wait(self) -> None:
        """Until the device has done all it was given."""

    def seconds(self, step: Step) -> float:
        """The time of one call on the device."""
        made = step.before()
        start = time.perf_counter()
        step.call(made)
        return time.perf_counter() - start

    def waits(self, step: Step) -> bool:
        """Whether the times of this step have the host's in them."""
        return False

    def peak(self, step: Step) -> int:
        """The most memory in use during one call beyond that before, in bytes."""
        return 0

    def host(self, step: Step) -> float:
        """The time of a call as the host sees it: calls back to back, then the wait for the last.

        The first of them, waited for, says how many fill ``span`` seconds.
        """
        calls = 1
        for _ in range(2):
            self.wait()
            start = time.perf_counter()
            for _ in range(calls):
                step.call(step.before())
            self.wait()
            each = (time.perf_counter() - start) / calls
            calls = min(max(int(self.span / each), 5), 500)
        return each


class CudaTimer(CpuTimer):
    """Times on the device, as this file's docstring says."""

    device, compiles, span = "cuda", True, 0.1

    def __init__(self) -> None:
        cache = torch.cuda.get_device_properties(0).L2_cache_size
        self.buffer = torch.empty(max(FLUSH, 4 * cache), dtype=torch.uint8, device="cuda")
        self.doubled: Counter[Step] = Counter()

    def wait(self) -> None:
        torch.cuda.synchronize()

    def seconds(self, step: Step) -> float:
        while True:
            made = step.before()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            for _ in range(2 ** self.doubled[step]):
                self.buffer.zero_()
            self.buffer.max()  # of the cache's lines none is left to be written
            start.record()
            step.call(made)
            end.record()
            ahead = not start.query()  # the host has given all, and the device not begun with it
            end.synchronize()
            if ahead or self.waits(step):
                return start.elapsed_time(end) / 1000
            self.doubled[step] += 1

    def waits(self, step: Step) -> bool:
        return 2 ** self.doubled[step] >= WRITES

    def peak(self, step: Step) -> int:
        made = step.before()
        self.wait()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step.call(made)
        return torch.cuda.max_memory_allocated() - before


# --- One case -------------------------------------------------------------------------------------


def attempt(case: Case, name: str, notes: list[str], run: Callable[[], Any]) -> Any:
    """What ``run`` returns; None, and a note, where there is no memory, compiler or kornia."""
    try:
        return run()
    except torch.OutOfMemoryError:
        notes.append(f"{name} is left out of {case.name}: out of memory")
    except Exception as error:
        if name == KORNIA and isinstance(error, ImportError):
            notes.append(f"kornia is left out: {error}")
        elif name.endswith(COMPILED):
            why = " ".join(str(error).splitlines()[:2])
            notes.append(f"{name} is left out of {case.name}: {why}")
        else:
            raise
    torch.cuda.empty_cache()
    return None


def measure(
    case: Case, timer: CpuTimer, gamma: float, rounds: int
) -> tuple[dict[str, Any] | None, list[str]]:
    """The record of one case, or None where the device is too small for it, and the notes."""
    notes: list[str] = []
    moved = traffic(case)

    def prepared() -> tuple[Any, ...]:
        return *inputs(case, timer.device), torch.zeros(
            moved["both"] // 4, dtype=torch.float32, device=timer.device
        )

    if not (made := attempt(case, "every implementation", notes, prepared)):
        return None, notes
    x, y, seed, copied = made
    steps: dict[str, dict[str, Step]] = {}
    computed: dict[str, list[float]] = {}

    def first(name: str) -> list[float]:
        """The mean of the loss, without and with a gradient, and the gradient's norm."""
        steps[name] = steps_of(implementation(case, name, gamma), x, y, seed)
        forward, _, both = steps[name].values()
        # kornia's mean over N items of C classes divides by N C.
        scale = case.shape[1] if name == KORNIA and "softmax" in case.name else 1
        losses = [step.call(step.before()).detach() for step in (forward, both)]
        norm = torch.linalg.vector_norm(x.grad, dtype=torch.float64)
        means = [loss.mean(dtype=torch.float64) for loss in losses]
        return [scale * number.item() for number in (*means, norm)]

    torch.compiler.reset()
    for name in [OURS, *case.targets]:
        if name in (COPY, READ) or (name.endswith(COMPILED) and not timer.compiles):
            continue
        if result := attempt(case, name, notes, lambda name=name: first(name)):
            computed[name] = result
        else:
            steps.pop(name, None)
    compare(case, computed, gamma)
    steps[COPY] = {
        kind: Step(lambda _, n=moved[kind] // 8: copied[:n].copy_(copied[-n:])) for kind in KINDS
    }
    steps[READ] = {kind: Step(lambda _, n=moved[kind] // 4: copied[:n].sum()) for kind in KINDS}
    times: dict[str, dict[str, list[float]]] = {n: {kind: [] for kind in KINDS} for n in steps}
    for turn in range(-1 - rounds // 10, rounds):  # the first ones are to warm up
        for kind in KINDS:
            for name in list(steps):
                step = steps[name][kind]
                seconds = attempt(case, name, notes, lambda step=step: timer.seconds(step))
                if seconds is None:
                    del steps[name], computed[name]
                elif turn >= 0:
                    times[name][kind].append(seconds)
    if OURS not in steps:
        return None, notes
    for name, kind in ((n, k) for n in steps for k in KINDS if timer.waits(steps[n][k])):
        notes.append(f"{name} waits for the device: its {kind} in {case.name} includes the host's")
    seconds = {n: {k: quartiles(times[n][k]) for k in KINDS} for n in steps}

    def share(name: str, kind: str) -> list[float]:
        return quartiles(np.divide(times[COPY][kind], times[name][kind]))

    checks = [
        check(OURS, peer, SPEED, quartiles(np.divide(times[peer]["both"], times[OURS]["both"])), t)
        for peer, t in case.targets.items()
        if peer in steps
    ]
    for name in computed:
        bytes_an_element = timer.peak(steps[name]["both"]) / math.prod(case.shape)
        target = case.memory if name == OURS else None
        checks.append(check(name, None, BYTES, [bytes_an_element], target) | {"resident": None})
    record = {
        "name": case.name,
        "shape": case.shape,
        "dtype": dtype_of(case),
        "minimal_bytes": moved,
        "seconds": seconds,
        "host_seconds": {name: timer.host(steps[name]["both"]) for name in steps},
        "bytes_a_second": {n: {k: moved[k] / seconds[n][k][1] for k in KINDS} for n in steps},
        "share_of_copy": {n: {k: share(n, k) for k in KINDS} for n in steps},
        "computed": computed,
        "checks": checks,
    }
    return record, notes


def compare(case: Case, computed: dict[str, list[float]], gamma: float) -> None:
    """Fails where one computes something else than ours; a cross entropy, than it does eagerly."""
    for name, result in computed.items():
        eager = name.removesuffix(COMPILED)
        another_loss = eager == BCE or (eager == CE and gamma != 0)
        reference = eager if another_loss else OURS
        expected = computed.get(reference, result)
        if not np.allclose(result, expected, rtol=TOLERANCE[dtype_of(case)], atol=0):
            sys.exit(f"{case.name}: {name} computes {result}, {reference} {expected}")


def quartiles(values: Any) -> list[float]:
    """The first quartile, the median and the third: what is kept of all rounds."""
    return [float(q) for q in np.quantile(values, (0.25, 0.5, 0.75))]


def in_process(case: Case, gamma: float, rounds: int) -> tuple[dict[str, Any] | None, list[str]]:
    """`measure` in a fresh process, with the allocator as it comes."""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_ALLOC_CONF")}
    job = json.dumps({"case": case.name, "gamma": gamma, "rounds": rounds})
    command = [sys.executable, __file__, "--measure", job]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{case.name} failed:\n{run.stderr}")
    record, notes = json.loads(run.stdout.splitlines()[-1])
    return record, notes


# --- What is told ---------------------------------------------------------------------------------


def show(record: dict[str, Any]) -> None:
    """The comparisons as benchmarks/speed.py shows them, then the times of each implementation."""
    speed.show({**record, "seconds": {n: t["both"] for n, t in record["seconds"].items()}})
    print(f"  {'milliseconds':50} forward backward     both  of copy     host")
    for name, kinds in record["seconds"].items():
        figures = [1000 * kinds[kind][1] for kind in KINDS]
        figures += [record["share_of_copy"][name]["both"][1], 1000 * record["host_seconds"][name]]
        print(f"  {name:49}", *(f"{figure:8.3g}" for figure in figures), flush=True)


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    host = speed.machine()
    del host["threads"]
    triton = import_module("triton").__version__ if find_spec("triton") else None
    host["versions"] |= {"cuda": torch.version.cuda, "triton": triton}
    properties = torch.cuda.get_device_properties(0) if device == "cuda" else None
    return {
        "device": getattr(properties, "name", device),
        "multiprocessors": getattr(properties, "multi_processor_count", None),
        "memory": getattr(properties, "total_memory", None),
        "l2": getattr(properties, "L2_cache_size", None),
        "driver": collect_env.get_nvidia_driver_version(collect_env.run) if properties else None,
        **host,
    }


def look(name: str) -> dict[str, Any]:
    """The line of an implementation; compiled, it is that of the eager one, dashed and open."""
    formula, plain = ("C2", "s"), ("C4", "D")
    known = {OURS: ("C1", "o"), KORNIA: ("C3", "^"), COPY: ("black", "|")}
    known |= {READ: ("black", "_")}
    known |= {TORCHVISION: formula, FOCAL_CE: formula, BCE: plain, CE: plain}
    color, mark = known[name.removesuffix(COMPILED)]
    face, line = ("white", "--") if name.endswith(COMPILED) else (color, "-")
    order = 4 if name == OURS else 3
    return {"color": color, "marker": mark, "mfc": face, "ls": line, "zorder": order}


def plot(report: dict[str, Any], path: Path) -> None:
    """The share of the copy's bandwidth: by size for the sigmoid loss, in rows for the others."""
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullLocator

    from focal_notes import use_style

    use_style()
    by_size = "sigmoid-mean-float32"
    lines: dict[str, list[tuple[float, ...]]] = {}  # by name: the size, and the share's quartiles
    rows = [r for r in report["cases"] if not r["name"].startswith(by_size)]
    heights = [10, 1.5 + 1.2 * len(rows)]
    figure, (sizes, others) = plt.subplots(
        2, figsize=(8, 1.4 + 0.33 * sum(heights)), height_ratios=heights
    )
    for record in report["cases"]:
        for name, kinds in record["share_of_copy"].items():
            low, middle, high = kinds["both"]
            line = lines.setdefault(name, [])
            if record in rows:
                row, style = rows.index(record), look(name) | {"ls": ""}
                others.plot([low, high], [row, row], color=style["color"], lw=1.2)
                others.plot(middle, row, **style)
            else:
                line.append((math.prod(record["shape"]), low, middle, high))
    for name, line in lines.items():
        if line:
            size, low, middle, high = zip(*line, strict=True)
            sizes.plot(size, middle, **look(name))
            sizes.fill_between(size, low, high, color=look(name)["color"], alpha=0.15, lw=0)
    target: dict[str, Any] = {"color": "0.45", "ls": ":", "lw": 1.2}
    sizes.axhline(SHARE, **target)
    others.axvline(SHARE, **target)
    share = "bytes a second, share of the copy's"
    sizes.set(yscale="log", xlabel=f"elements, {by_size}", ylabel=share)
    sizes.set_xscale("log", base=2)
    others.set(xscale="log", xlabel=share, ylim=(len(rows) - 0.4, -0.6))
    others.set_yticks(range(len(rows)), [record["name"] for record in rows], fontsize=8)
    for axis in (sizes.yaxis, others.xaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    legend = [Line2D([], [], label=name, **look(name)) for name in lines]
    legend.append(Line2D([], [], label="target, from 2^24 elements", **target))
    figure.legend(handles=legend, loc="outside upper center", ncols=2, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Speed, bandwidth and peak memory of focal_lib on a CUDA device."
    )
    parser.add_argument("--only", metavar="PATTERN", help="cases whose name has this expression")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns in a case ({ROUNDS})")
    parser.add_argument("--gamma", type=float, default=2.0, help="the focusing parameter (2)")
    parser.add_argument("--output", type=Path, help="the JSON to write, a plot beside it")
    parser.add_argument("--quick", action="store_true", help="a smoke run, whose times say nothing")
    parser.add_argument("--plot", type=Path, metavar="JSON", help="only plot an earlier run")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # one case, for a process of its own
    given = parser.parse_args()
    if given.plot:
        plot(json.loads(given.plot.read_text()), given.plot.with_suffix(".svg"))
        return
    by_name = {case.name: case for case in CASES}
    if given.measure:
        job = json.loads(given.measure)
        print(json.dumps(measure(by_name[job.pop("case")], CudaTimer(), **job)))
        return
    chosen = [case for case in CASES if re.search(given.only or "", case.name)]
    if not chosen:
        parser.error(f"--only: no case of {', '.join(by_name)} matches {given.only!r}")
    if given.device == "cpu" and not given.quick:
        parser.error("--device cpu: for --quick alone")
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("bench-gpu: no CUDA device; `make bench` measures on the CPU")
    report: dict[str, Any] = {**machine(given.device), "gamma": given.gamma, "alpha": ALPHA}
    # The stored results are those of the whole run with its usual settings.
    usual = not (given.only or given.quick or given.rounds != ROUNDS or given.gamma != 2)
    slug = re.sub("[^a-z0-9]+", "-", report["device"].lower()).strip("-")
    output = given.output or (RESULTS / f"{slug}.json" if usual else None)
    print(f"{report['device']}, torch {report['versions']['torch']}")
    rounds = 1 if given.quick else max(given.rounds, 1)
    timer = CpuTimer if given.device == "cpu" else CudaTimer
    notes, records = set(), []
    report |= {"quick": given.quick, "rounds": rounds}
    for case in chosen:
        if given.quick:
            record, found = measure(case.small(), timer(), given.gamma, rounds)
        else:
            record, found = in_process(case, given.gamma, rounds)
        notes |= set(found)
        if record:
            records.append(record)
            show(record)
        report |= {"notes": sorted(notes), "cases": records}
        if output:  # after each case: what is stopped has stored those before
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(json.dumps(report, indent=1) + "\n")
    print(
        *sorted(notes),
        "A smoke run: no figure counts" if given.quick else speed.summary(records),
        sep="\n",
    )
    if output:
        plot(report, output.with_suffix(".svg"))


if __name__ == "__main__":
    main()
