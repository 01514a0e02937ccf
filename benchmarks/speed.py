"""Speed and peak memory of the losses on CPU beside their peers: what `make bench` runs.

Each case is float32, on two threads, with the default allocator: forward and backward together, or
forward alone where its name says so. The peers:

- torchvision's formula, written out in peers.py from the same torch operations;
- focal_lib as it is installed where there is no C compiler, and under torch.compile;
- kornia's focal losses (requirements/peers.txt), left out with a note where they are not installed;
- torch's cross entropies, which compute less: no modulating factor;
- for NumPy, a stable form written over whole arrays.

Each measurement has a process of its own: what was allocated before decides how many page faults a
large array costs, and those decide the large cases. The processes of a case take turns, A B A B,
and a ratio is taken within a turn, so that a drift of the machine hits both. Implementations of the
same loss must return the same value and gradient, or the run fails: it would compare two things.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from datetime import date
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # it runs without an installation, too

RESULTS = Path(__file__).parent / "results" / "cpu.json"
THREADS = 2
ALPHA = 0.25  # in the sigmoid cases; the softmax cases have no class weights
OURS, WITHOUT, COMPILED = "focal_lib", "focal_lib, no C compiler", "focal_lib, torch.compile"
TORCHVISION, KORNIA, NAIVE = "torchvision", "kornia", "naive"
SPEED, BYTES = "times as fast", "bytes an element"
BCE, CE = "F.binary_cross_entropy_with_logits", "F.cross_entropy"


class Case(NamedTuple):
    """What is computed, as its name says (library or loss, reduction), and what it must reach."""

    name: str
    shape: tuple[int, ...]
    targets: dict[str, float | None]  # by peer, how many times faster; None: for information
    memory: float | None = None  # peak beyond the inputs, bytes an element

    def small(self) -> "Case":
        largest = (20, 100, 8, 8)
        return self._replace(shape=tuple(map(min, self.shape, largest)))


CASES = [
    Case("sigmoid-mean-1e3", (10, 100), {TORCHVISION: 2.3}),
    Case("sigmoid-mean-1e5", (1000, 100), {TORCHVISION: 3}),
    Case("sigmoid-mean-4e6", (40000, 100), {TORCHVISION: 5, KORNIA: 10}, memory=5),
    Case("sigmoid-mean-1e7", (100000, 100), {TORCHVISION: 14}, memory=5),
    Case("sigmoid-none-4e6", (40000, 100), {TORCHVISION: 4}),
    Case("sigmoid-none-1e7", (100000, 100), {TORCHVISION: 8}),
    Case("softmax-mean-4096x10", (4096, 10), {CE: 1.4, KORNIA: 2.3}, memory=5),
    Case("softmax-mean-4096x1000", (4096, 1000), {CE: 1.4, KORNIA: 2.3}, memory=5),
    Case("softmax-mean-65536x80", (65536, 80), {CE: 1.4, KORNIA: 2.3}, memory=5),
    Case("softmax-mean-1024x50000", (1024, 50000), {CE: 1.4, KORNIA: 2.3}, memory=5),
    Case("sigmoid-forward-1e3", (10, 100), {BCE: 1}),
    Case("sigmoid-forward-1e5", (1000, 100), {BCE: 1}),
    Case("sigmoid-forward-4e6", (40000, 100), {BCE: 1}),
    Case("sigmoid-forward-1e7", (100000, 100), {BCE: 1}),
    Case("softmax-forward-4096x10", (4096, 10), {CE: 1}),
    Case("softmax-forward-4096x1000", (4096, 1000), {CE: 1}),
    Case("softmax-forward-65536x80", (65536, 80), {CE: 1}),
    Case("softmax-forward-1024x50000", (1024, 50000), {CE: 1}),
    Case("numpy-sigmoid-1e5", (1000, 100), {NAIVE: 3}, memory=12),
    Case("numpy-sigmoid-4e6", (40000, 100), {NAIVE: 3}, memory=8),
    Case("numpy-softmax-4096x10", (4096, 10), {NAIVE: None}),
    Case("numpy-softmax-4096x1000", (4096, 1000), {NAIVE: None}),
]


# --- What is compared -----------------------------------------------------------------------------


def naive_sigmoid(x: Any, y: Any, gamma: float) -> tuple[Any, Any]:
    """The mean loss, then its gradient: two calls, as in focal_lib, that share nothing."""

    def parts() -> tuple[Any, ...]:
        s = 2 * y - 1
        u, q = np.logaddexp(0, -s * x), np.exp(-np.logaddexp(0, s * x))
        return s, u, q, (ALPHA * y + (1 - ALPHA) * (1 - y)) * q**gamma

    def loss() -> Any:
        _, u, _, factor = parts()
        return (factor * u).mean()

    def gradient() -> Any:
        s, u, q, factor = parts()
        return -s * factor * (q + gamma * np.exp(-u) * u) / x.size

    return loss(), gradient()


def naive_softmax(x: Any, y: Any, gamma: float) -> tuple[Any, Any]:
    """As `naive_sigmoid`, for class indices."""
    rows = np.arange(len(y))

    def parts() -> tuple[Any, ...]:
        below = x - x.max(axis=1, keepdims=True)
        log_p = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
        return log_p, -log_p[rows, y], -np.expm1(log_p[rows, y])

    def loss() -> Any:
        _, u, q = parts()
        return (q**gamma * u).mean()

    def gradient() -> Any:
        log_p, u, q = parts()
        p = np.exp(log_p)
        p[rows, y] = -q
        return p * (q ** (gamma - 1) * (q + gamma * np.exp(-u) * u) / len(y))[:, None]

    return loss(), gradient()


def implementation(case: Case, name: str, gamma: float) -> Callable[[Any, Any], Any]:
    """The call f(x, y) to measure. It imports what it needs and nothing else."""
    reduction = "none" if "-none-" in case.name else "mean"
    settings: dict[str, Any] = {"gamma": gamma, "reduction": reduction}
    loss = "softmax_focal_loss"
    if "sigmoid" in case.name:
        loss, settings["alpha"] = "sigmoid_focal_loss", ALPHA
    if name == NAIVE:
        naive = naive_sigmoid if "sigmoid" in case.name else naive_softmax
        return lambda x, y: naive(x, y, gamma)
    if case.name.startswith("numpy"):
        import focal_lib.numpy

        value = getattr(focal_lib.numpy, loss)
        slope = getattr(focal_lib.numpy, f"{loss}_gradient")
        return lambda x, y: (value(x, y, **settings), slope(x, y, **settings))
    import torch
    import torch.nn.functional as F

    if name == TORCHVISION:
        from benchmarks import peers

        return lambda x, y: peers.torchvision_sigmoid(x, y, **settings)
    if name in (BCE, CE):
        return F.cross_entropy if name == CE else F.binary_cross_entropy_with_logits
    if name == KORNIA:
        import kornia.losses as kornia

        if "sigmoid" in case.name:
            return lambda x, y: kornia.binary_focal_loss_with_logits(x, y, **settings)
        return lambda x, y: kornia.focal_loss(x, y, alpha=None, **settings)
    import focal_lib._ways.compiled
    import focal_lib.torch

    if name == WITHOUT:
        focal_lib._ways.compiled.kernels = None
    call = getattr(focal_lib.torch, loss)
    if name == COMPILED:
        call = torch.compile(call)
    return lambda x, y: call(x, y, **settings)


def prepare(case: Case, name: str, gamma: float) -> Callable[[], tuple[Any, Any]]:
    """One step as a user does it, to (loss, gradient), on the inputs that all share."""
    f = implementation(case, name, gamma)
    rows, columns = case.shape
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(case.shape, np.float32)
    if "sigmoid" in case.name:
        labels = (rng.random(case.shape, np.float32) < 0.01).astype(np.float32)
    else:
        labels = rng.integers(columns, size=rows)
    if case.name.startswith("numpy"):
        return lambda: f(logits, labels)
    import torch

    torch.set_num_threads(THREADS)
    x, y = torch.from_numpy(logits).clone(), torch.from_numpy(labels).clone()
    if "-forward-" in case.name:  # no input asks for a gradient: it is for the library to see
        return lambda: (f(x, y), None)
    x.requires_grad_()
    seed = [torch.ones_like(x)] if "-none-" in case.name else []

    def step() -> tuple[Any, Any]:
        x.grad = None
        loss = f(x, y)
        loss.backward(*seed)
        return loss.detach(), x.grad

    return step


# --- One measurement ------------------------------------------------------------------------------


def measure(case: Case, name: str, gamma: float, what: str, seconds: float) -> dict[str, Any]:
    """The "time" or the "memory" of one implementation in one case, or why there is none."""
    try:
        if what == "memory":
            return _memory(case, name, gamma)
        return _time(case, name, gamma, seconds)
    except ImportError as error:
        if name != KORNIA:
            raise
        return {"absent": f"kornia is left out: {error}"}


def _time(case: Case, name: str, gamma: float, seconds: float) -> dict[str, Any]:
    """The median over the repetitions, and the mean loss and the norm of the gradient."""
    step = prepare(case, name, gamma)
    loss, gradient = step()  # this one compiles, starts the threads and imports
    # kornia's mean over N items of C classes divides by N C.
    scale = case.shape[1] if name == KORNIA and "softmax" in case.name else 1
    computed = [scale * float(np.asarray(loss).mean(dtype=np.float64))]
    if gradient is not None:
        computed.append(scale * float(np.linalg.norm(np.asarray(gradient, np.float64))))
    del loss, gradient  # the timed steps have the memory to themselves
    end = time.perf_counter() + seconds / 4
    step()
    while time.perf_counter() < end:
        step()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return {"seconds": statistics.median(times), "computed": computed}


def _memory(case: Case, name: str, gamma: float) -> dict[str, Any]:
    """The peak of a step beyond the inputs, in bytes an element, by the allocator's own account.

    torch's profiler records each allocation with the total in use, and NumPy reports to
    tracemalloc. That is exact. The resident memory of another step is the cross-check, where large:
    it counts what anything else allocates, but also what malloc keeps, and only Linux tells it.
    """
    peak_of = _numpy_peak if case.name.startswith("numpy") else _torch_peak
    peak_of(prepare(case.small(), name, gamma))  # what the first call and the profiler keep
    elements = case.shape[0] * case.shape[1]
    result = {"bytes": peak_of(prepare(case, name, gamma)) / elements, "resident": None}
    mark = Path("/proc/self/clear_refs")  # writing 5 starts the high-water mark afresh
    if elements > 1e6 and mark.exists():
        step = prepare(case, name, gamma)
        mark.write_text("5")
        before = _resident("VmRSS")
        step()
        result["resident"] = (_resident("VmHWM") - before) / elements
    return result


def _resident(key: str) -> int:
    return 1024 * int(re.search(rf"{key}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])


def _torch_peak(step: Callable[[], Any]) -> int:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        profiler.export_chrome_trace(f"{folder}/trace.json")
        trace = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    events = sorted((e for e in trace if e["name"] == "[memory]"), key=lambda e: float(e["ts"]))
    total = [event["args"]["Total Allocated"] for event in events]
    return int(max(total) - (total[0] - events[0]["args"]["Bytes"]))


def _numpy_peak(step: Callable[[], Any]) -> int:
    tracemalloc.start()
    step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


# --- All of them, in turns ------------------------------------------------------------------------


def in_process(case: Case, **job: Any) -> dict[str, Any]:
    """`measure` in a fresh process, with two threads and the allocator as it comes."""
    tuned = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(tuned)}
    environment |= {"OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}
    if job["what"] == "memory":  # malloc gives large blocks back at once: resident is in use
        environment["MALLOC_MMAP_THRESHOLD_"] = "65536"
    command = [sys.executable, __file__, "--measure", json.dumps({"case": case.name, **job})]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode and job["name"] == COMPILED:  # this machine has no compiler, perhaps
        return {"absent": f"{COMPILED} is left out of {case.name}: {run.stderr.strip()[-300:]}"}
    if run.returncode:
        sys.exit(f"{case.name}, {job['name']}, failed:\n{run.stderr}")
    return dict(json.loads(run.stdout.splitlines()[-1]))


def run_case(case: Case, rounds: int, gamma: float, quick: bool) -> tuple[dict[str, Any], set[str]]:
    """The record of one case, and notes on what is absent."""
    case = case.small() if quick else case

    def run(name: str, what: str) -> dict[str, Any]:
        """A quick run is for a test of this file: it has no process of its own, nor time."""
        job = {"name": name, "gamma": gamma, "what": what, "seconds": 0.0 if quick else 0.3}
        return measure(case, **job) if quick else in_process(case, **job)

    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in [OURS, *case.targets]}
    notes = set()
    if not case.name.startswith("numpy") and not quick:
        runs[WITHOUT] = []
    if re.match("(sigmoid|softmax)-mean", case.name) and not quick:  # it takes half a minute
        if shutil.which(os.environ.get("CXX", "g++")):
            runs[COMPILED] = []
        else:
            notes.add(f"{COMPILED} is left out: there is no C++ compiler")
    for turn in range(rounds):
        for name in list(runs):
            if name in (WITHOUT, COMPILED) and turn:
                continue  # one round, as they are for information
            result = run(name, "time")
            if "absent" in result:
                notes.add(result["absent"])
                del runs[name]
            else:
                runs[name].append(result)
    computed = {name: results[0]["computed"] for name, results in runs.items()}
    for name, result in computed.items():
        another_loss = name == BCE or (name == CE and gamma != 0)
        if not another_loss and not np.allclose(result, computed[OURS], rtol=1e-4, atol=0):
            sys.exit(f"{case.name}: {name} computes {result}, {OURS} {computed[OURS]}")
    times = {name: [result["seconds"] for result in results] for name, results in runs.items()}
    peers = [peer for peer in case.targets if peer in times]
    pairs = [(OURS, peer, case.targets[peer]) for peer in peers]
    pairs += [(n, peer, None) for n in (WITHOUT, COMPILED) for peer in peers[:1] if n in times]
    checks = []
    for name, peer, target in pairs:
        ratios = [b / a for a, b in zip(times[name], times[peer], strict=False)]
        checks.append(check(name, peer, SPEED, ratios, target))
    for name in [OURS, *peers] if case.memory else []:
        peak = run(name, "memory")
        target = case.memory if name == OURS else None
        checks.append(check(name, None, BYTES, [peak["bytes"]], target))
        checks[-1]["resident"] = peak["resident"]
    record = {"name": case.name, "shape": case.shape, "seconds": times, "computed": computed}
    return {**record, "checks": checks}, notes


def check(
    name: str, peer: str | None, unit: str, rounds: list[float], target: float | None
) -> dict[str, Any]:
    value = statistics.median(rounds)
    reached = None if target is None else value >= target if unit == SPEED else value <= target
    return {
        "implementation": name,
        "peer": peer,
        "unit": unit,
        "rounds": rounds,
        "value": value,
        "target": target,
        "reached": reached,
    }


# --- What is told ---------------------------------------------------------------------------------


def show(record: dict[str, Any]) -> None:
    times = {name: f"{1e3 * statistics.median(t):.3g} ms" for name, t in record["seconds"].items()}
    print(f"{record['name']}: {times[OURS]}")
    for c in record["checks"]:
        line = f"  {c['implementation']:24} {c['value']:6.2f} {c['unit']}"
        if c["peer"]:
            line += f" as {c['peer']}, {times[c['peer']]}"
            line += f" ({min(c['rounds']):.2f} to {max(c['rounds']):.2f})"
        elif c["resident"]:
            line += f" (resident {c['resident']:.1f})"
        if c["target"]:
            line += f"; target {c['target']:g} {'reached' if c['reached'] else 'MISSED'}"
        print(line, flush=True)


def summary(records: list[dict[str, Any]]) -> str:
    """How many targets are reached, and each that is missed, with how much."""
    checks = [(r["name"], c) for r in records for c in r["checks"] if c["target"]]
    lines = [f"{sum(c['reached'] for _, c in checks)} of {len(checks)} targets are reached"]
    for name, c in checks:
        if not c["reached"]:
            against = f", against {c['peer']}" if c["peer"] else ""
            off = abs(c["value"] / c["target"] - 1)
            lines.append(
                f"missed by {off:.0%}: {name}{against}: {c['value']:.2f} {c['unit']}, "
                f"target {c['target']:g}"
            )
    return "\n  ".join(lines)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("numpy", "torch", "kornia"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "date": date.today().isoformat(),
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": THREADS,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def plot(report: dict[str, Any], path: Path) -> None:
    """The ratios with their spread, the peaks, and the targets: black on white, as the book's."""
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullLocator

    from focal_notes import use_style

    use_style()
    checks = [(record["name"], c) for record in report["cases"] for c in record["checks"]]
    panels: dict[str, dict[str, list[dict[str, Any]]]] = {SPEED: {}, BYTES: {}}
    for name, c in checks:  # a row for each comparison, and one for each case's memory
        peer = f", {c['peer']}" if c["peer"] else ""
        way = c["implementation"].removeprefix(OURS) if c["peer"] else ""
        panels[c["unit"]].setdefault(name + peer + way, []).append(c)
    panels = {unit: rows for unit, rows in panels.items() if rows}
    heights = [len(rows) + 1 for rows in panels.values()]
    figure, axes = plt.subplots(
        len(panels), figsize=(8, 1.2 + 0.21 * sum(heights)), height_ratios=heights, squeeze=False
    )
    plain, ours, target = "0.45", "C1", "C2"
    for axis, (unit, rows) in zip(axes[:, 0], panels.items(), strict=True):
        for row, c in ((i, c) for i, group in enumerate(rows.values()) for c in group):
            color = ours if c["target"] else plain
            face = "white" if c["reached"] is False else color
            if c["target"]:
                axis.plot(c["target"], row, "|", color=target, ms=12, mew=2.2)
            axis.plot([min(c["rounds"]), max(c["rounds"])], [row, row], color=color)
            mark, order = ("o", 4) if c["target"] else ("D", 3)
            axis.plot(c["value"], row, mark, color=color, mfc=face, ms=5, zorder=order)
        axis.set_yticks(range(len(rows)), list(rows), fontsize=8)
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set(xscale="log", xlabel=f"{unit} as" if unit == SPEED else f"{unit}, at the peak")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
    legend = [
        Line2D([], [], color=ours, marker="o", label="focal_lib, target reached"),
        Line2D([], [], color=ours, marker="o", mfc="white", label="focal_lib, target missed"),
        Line2D([], [], color=target, marker="|", ms=12, mew=2.2, ls="", label="target"),
        Line2D([], [], color=plain, marker="D", label="no target, or a peer's memory"),
    ]
    figure.legend(handles=legend, loc="outside upper center", ncols=4, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Speed and peak memory of focal_lib on CPU, beside its peers."
    )
    parser.add_argument("--only", metavar="PATTERN", help="cases whose name has this expression")
    parser.add_argument("--rounds", type=int, default=5, help="turns of the processes (5)")
    parser.add_argument("--gamma", type=float, default=2.0, help="the focusing parameter (2)")
    parser.add_argument("--output", type=Path, help="the JSON to write, a plot beside it")
    parser.add_argument("--quick", action="store_true", help="a smoke run, whose times say nothing")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # one job, for a process of its own
    given = parser.parse_args()
    by_name = {case.name: case for case in CASES}
    if given.measure:
        job = json.loads(given.measure)
        print(json.dumps(measure(by_name[job.pop("case")], **job)))
        return
    chosen = [case for case in CASES if re.search(given.only or "", case.name)]
    if not chosen:
        parser.error(f"--only: no case of {', '.join(by_name)} matches {given.only!r}")
    # The stored results are those of the whole run with its usual settings.
    usual = not (given.only or given.quick or given.rounds != 5 or given.gamma != 2)
    output = given.output or (RESULTS if usual else None)
    report: dict[str, Any] = {**machine(), "gamma": given.gamma, "alpha": ALPHA, "dtype": "float32"}
    print(f"{report['cpu']}, {report['cpus']} CPUs, {THREADS} threads, load {report['load']}")
    rounds = 1 if given.quick else max(given.rounds, 1)
    notes, records = set(), []
    if not find_spec("focal_lib._ways._cpu_kernels"):
        notes.add(f"There was no C compiler at installation: {OURS} is {WITHOUT}")
    if (report["load"] or 0) > 0.5:  # with two threads, one that waits for the other costs most
        notes.add(f"The machine was busy at the start (load {report['load']}): times are rough")
    for case in chosen:
        record, absent = run_case(case, rounds, given.gamma, given.quick)
        records.append(record)
        notes |= absent
        show(record)
    print(
        *sorted(notes),
        "A smoke run: no figure counts" if given.quick else summary(records),
        sep="\n",
    )
    report |= {"quick": given.quick, "rounds": rounds, "notes": sorted(notes), "cases": records}
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report, indent=1) + "\n")
        plot(report, output.with_suffix(".svg"))


if __name__ == "__main__":
    main()
