"""The compiled sigmoid loss at every float32 logit: what `make certify` runs.

For each gamma and label the loss and the gradient are compared, wherever they are normal numbers,
with the same in double (see certify.c): some minutes a gamma. What is done is stored, and is done
again only when cpu_kernels.c changes.
"""

import argparse
import ctypes
import hashlib
import json
import platform
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from datetime import date
from pathlib import Path

import numpy as np

from focal_lib._ways import compiled

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "focal_lib" / "_ways" / "cpu_kernels.c"
RESULTS = ROOT / "benchmarks" / "results" / "certified.json"
GAMMAS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)
INFINITY = 0x7F800000  # the bits of the first float32 that is not finite
_BLOCK = 2048


class Errors(ctypes.Structure):
    _fields_ = (
        ("ulp", ctypes.c_double),
        ("at", ctypes.c_double),
        ("count", ctypes.c_int64),
        ("rounded", ctypes.c_int64),
    )


def source_hash() -> str:
    """Of the source of the sigmoid loss, which stands before that of the softmax loss."""
    sigmoid, softmax, _ = SOURCE.read_text("utf-8").partition("/* --- Softmax")
    assert softmax
    return hashlib.sha256(sigmoid.encode()).hexdigest()


def compiler() -> list[str]:
    return shlex.split(sysconfig.get_config_var("CC") or "cc")


def load() -> ctypes.CDLL:
    """The reference, compiled."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "certify.so"
        source = Path(__file__).with_suffix(".c")
        options = ["-std=c11", "-O2", "-ffp-contract=off", "-fPIC", "-shared"]
        subprocess.run([*compiler(), *options, str(source), "-o", str(library), "-lm"], check=True)
        return ctypes.CDLL(str(library))


def certify(
    reference: ctypes.CDLL,
    gamma: float,
    first: int,
    last: int,
    stride: int = 1,
    kernel_gamma: float | None = None,
) -> dict[tuple[str, str], Errors]:
    """The largest errors at the logits whose absolute values have these bits."""
    assert compiled.kernels is not None, compiled.why_not
    arrays = {name: np.zeros(2 * _BLOCK, np.float32) for name in ("x", "y", "loss", "gradient")}
    one = np.ones(1)
    focal = compiled._Focal(
        **{name: array.ctypes.data for name, array in (arrays | {"one": one, "zero": one}).items()},
        classes=1,
        inner=1,
        gamma=gamma if kernel_gamma is None else kernel_gamma,
        share=1.0,
        unit=1.0,
        ignored=np.nan,
        threads=1,
    )
    errors = (Errors * 4)()
    reference.certify(
        compiled.kernels.focal_sigmoid,
        ctypes.byref(focal),
        ctypes.c_void_p(ctypes.addressof(focal) + compiled._Focal.count.offset),
        *[ctypes.c_void_p(array.ctypes.data) for array in arrays.values()],
        ctypes.c_double(gamma),
        *[ctypes.c_uint32(bits) for bits in (first, last, stride)],
        errors,
    )
    names = [(f"label {label}", what) for label in (0, 1) for what in ("loss", "gradient")]
    return dict(zip(names, errors, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gammas", type=float, nargs="+", default=GAMMAS)
    gammas = parser.parse_args().gammas
    if compiled.kernels is None:
        sys.exit(f"there are no kernels to certify: {compiled.why_not}")
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if stored.get("source") != source_hash():
        stored = {"source": source_hash(), "gammas": {}}
    version = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, check=True)
    stored |= {
        "compiler": version.stdout.splitlines()[0],
        "processor": platform.machine(),
        "date": date.today().isoformat(),
    }
    cpu = Path("/proc/cpuinfo")
    for line in cpu.read_text().splitlines() if cpu.exists() else ():
        if line.startswith("model name"):
            stored["processor"] = line.partition(":")[2].strip()
    reference = load()
    for gamma in gammas:
        if str(gamma) not in stored["gammas"]:
            rows = [
                {
                    "of": f"{what}, {label}",
                    "results": errors.count,
                    "ulp": round(errors.ulp, 4),
                    "at": errors.at,
                    "nearest": round(errors.rounded / errors.count, 6),
                }
                for (label, what), errors in certify(reference, gamma, 0, INFINITY).items()
            ]
            stored["gammas"][str(gamma)] = rows
            RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
        for row in stored["gammas"][str(gamma)]:
            print(
                f"gamma {gamma:g}, {row['of']:18} {row['results']:>13,} results, "
                f"within {row['ulp']:.4f} ulp (at {row['at']:.9g}), "
                f"{row['nearest']:.2%} of them the nearest",
                flush=True,
            )


if __name__ == "__main__":
    main()
