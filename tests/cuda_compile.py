"""Compiles the kernels for a CUDA device that need not be there, as they would be launched.

`python tests/cuda_compile.py 90` compiles for capability 9.0 and prints what came of each launch, as
JSON. Triton brings the assembler, and what is launched is only compiled.
"""

import json
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
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
    from focal_lib import _triton

    launches = []

    def sigmoid(case, n, dtype, gamma=2.0, reduction="mean", strided=False):
        x = torch.zeros(2 * n, dtype=dtype)[:: 2 if strided else 1][:n]
        options = (0.25, 0.75, gamma, reduction)
        with compile_launches(launches, case):
            loss = _triton.sigmoid_forward(x, x, *options, dtype)
            _triton.sigmoid_backward(loss, x, x, *options)

    def softmax(case, shape, dtype, gamma=2.0, reduction="mean", smoothing=0.0, soft=False, w=None):
        x = torch.zeros(shape, dtype=dtype)
        target = x if soft else torch.zeros(shape[:1] + shape[2:], dtype=torch.long)
        options = (gamma, -100, smoothing, reduction)
        with compile_launches(launches, case):
            loss, *kept = _triton.softmax_forward(x, target, w, *options, dtype, True)
            _triton.softmax_backward(loss, x, target, w, *kept, *options)

    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        sigmoid(f"{dtype}, aligned", 4096, dtype)
        softmax(f"{dtype}, aligned", (64, 1000), dtype)
    for classes in (80, 32000):
        softmax(f"{classes} classes, aligned", (64, classes), torch.float32)
        softmax(
            f"{classes} classes, smoothed, aligned", (64, classes), torch.float32, smoothing=0.1
        )
    for gamma in (0.0, 0.3, 1.0, 16.0, 1e6):
        sigmoid("another gamma", 4096, torch.float32, gamma)
        softmax("another gamma", (64, 80), torch.float32, gamma)
    sigmoid("each, strided", 4001, torch.float32, reduction="none", strided=True)
    weight = torch.ones(21)
    softmax("each, 21 planes, aligned", (2, 21, 8, 8), torch.float32, reduction="none", w=weight)
    softmax(
        "each, probabilities, aligned", (2, 21, 8, 8), torch.float64, reduction="none", soft=True
    )
    print(json.dumps(launches))


if __name__ == "__main__":
    main()
