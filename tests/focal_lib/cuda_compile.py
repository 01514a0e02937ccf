"""Compiles the kernels for a CUDA device that need not be there, as they would be launched.

`python tests/focal_lib/cuda_compile.py 90` compiles for capability 9.0 and prints what came of each
launch, as JSON; with `few` after it, of those in float32 alone. Triton brings the assembler, and
what is launched is only compiled.
"""

import json
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class Target:
    """In the place of a driver: which device it would be."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", int(sys.argv[1]), 32)


@contextmanager
def compile_launches(launches, case):
    """What is launched meanwhile is compiled, if it was not before, and noted."""
    launch = JITFunction.run

    def compile_only(self, *arguments, grid, warmup, **options):
        known = sum(len(cache[0]) for cache in self.device_caches.values())
        kernel = launch(self, *arguments, grid=grid, warmup=True, **options)
        new = sum(len(cache[0]) for cache in self.device_caches.values()) > known
        launches.append({"case": case, "name": self.fn.__name__, "compiled": new} | facts(kernel))
        return kernel

    JITFunction.run = compile_only
    try:
        yield
    finally:
        JITFunction.run = launch


def facts(kernel):
    """What the assembler made of a kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(kernel.asm["cubin"])
        code = run("nvdisasm", file.name)
        usage = run("cuobjdump", "-res-usage", file.name)
    return {
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "stack": int(re.search(r"STACK:(\d+)", usage)[1]),
        "instructions": len(re.findall(r"/\*[0-9a-f]{4,}\*/ +[@A-Z]", code)),
        "wide_reads": len(re.findall(r"LDG\.E\.\w*\.?128|LDG\.E\.128", code)),
    }


def run(tool, *arguments):
    command = [str(TOOLS / tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main():
    driver.set_active(Target())
    _triton = import_module("focal_lib._ways.triton")
    from focal_lib._ways.settings import Settings

    launches = []

    def passes(case, loss, x, target, gamma, settings):
        there = isinstance(gamma, torch.Tensor)
        gamma = _triton._Gamma(0.0, gamma, False) if there else _triton._gamma_of(settings)
        with compile_launches(launches, case):
            if loss == "sigmoid":
                value, share = _triton.launch_sigmoid_forward(x, target, gamma, settings)
                _triton.launch_sigmoid_backward(value, x, target, share, gamma, settings)
            else:
                value, *kept = _triton.launch_softmax_forward(x, target, gamma, settings, True)
                _triton.launch_softmax_backward(value, x, target, *kept, gamma, settings)

    def sigmoid(case, x, y=None, gamma=2.0, reduction="mean", **options):
        settings = Settings(gamma, reduction, x.dtype, positive=0.25, negative=0.75, **options)
        passes(case, "sigmoid", x, x if y is None else y, gamma, settings)

    def softmax(case, x, gamma=2.0, reduction="mean", soft=False, **options):
        target = x if soft else torch.zeros(x.shape[:1] + x.shape[2:], dtype=torch.long)
        settings = Settings(gamma, reduction, x.dtype, ignored=-100, **options)
        passes(case, "softmax", x, target, gamma, settings)

    zeros = torch.zeros
    few = "few" in sys.argv
    for dtype in (torch.float32,) if few else (torch.float32, torch.float64, torch.bfloat16):
        sigmoid(f"{dtype}, aligned", zeros(4096, dtype=dtype))
        softmax(f"{dtype}, aligned", zeros((64, 1000), dtype=dtype))
    for classes in (80,) if few else (80, 32000):
        softmax(f"{classes} classes, aligned", zeros(64, classes))
        softmax(f"{classes} classes, smoothed, aligned", zeros(64, classes), smoothing=0.1)
    if few:
        print(json.dumps(launches))
        return
    for gamma in (0.0, 0.3, 1.0, 16.0):
        sigmoid("another gamma", zeros(4096), gamma=gamma)
        softmax("another gamma", zeros(64, 80), gamma=gamma)
    for dtype in (torch.float32, torch.float64):
        sigmoid(f"a large gamma, {dtype}", zeros(4096, dtype=dtype), gamma=1e6)
        softmax(f"a large gamma, {dtype}", zeros(64, 80, dtype=dtype), gamma=1e6)
        softmax(f"a large gamma, soft, {dtype}", zeros(64, 80, dtype=dtype), 1e6, soft=True)
    rows = zeros(64, 80)
    options = {"weight": torch.ones(80), "pos_weight": torch.ones(64, 1), "ignored": -1}
    sigmoid("weights, ignored", rows, **options)
    planes = zeros(2, 21, 8, 8)
    softmax("21 planes, aligned", planes, reduction="none", weight=torch.ones(21))
    softmax("21 planes, soft, aligned", planes.double(), reduction="none", soft=True)
    there = torch.tensor(2.0, dtype=torch.float64)
    sigmoid("gamma on the device", zeros(4096), gamma=there)
    softmax("gamma on the device", zeros(64, 80), gamma=there)
    sigmoid("every other, bool", zeros(8002)[::2], zeros(4001, dtype=torch.bool), reduction="none")
    sigmoid("transposed", zeros(30, 50).T, zeros(50, 30), reduction="none")
    sigmoid("permuted", zeros(4, 5, 6).permute(2, 0, 1), zeros(6, 4, 5), reduction="none")
    large = torch.empty(2**32, dtype=torch.float16)  # and never touched
    large = large.as_strided((2**16, 2**15 + 1), (2**16, 1))
    sigmoid("2^31 elements", large)
    print(json.dumps(launches))


if __name__ == "__main__":
    main()
