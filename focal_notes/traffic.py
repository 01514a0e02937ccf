"""What a loss moves through memory, counted in three ways; the source of the kernels; and what the
benchmarks have measured.

`profiled` counts torch's operations with torch's profiler, `dispatched` the same operations as
torch's dispatcher sees them, and `interpreted` the kernels of focal_lib as Triton's interpreter
runs them. Each returns a list of `Kernel`.
"""

import ast
import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import dedent
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from focal_notes.stored import BENCHMARKS

ROOT = Path(__file__).parents[1]
SMALL = 4096  # a kernel that moves fewer bytes is left out: it handles single numbers


class Kernel(NamedTuple):
    """One kernel, and the bytes that it reads and writes, each of them counted once."""

    name: str
    is_backward: bool
    read: int
    written: int
    operations: Mapping[str, int] = MappingProxyType({})

    @property
    def bytes(self) -> int:
        return self.read + self.written


def bytes_of(kernels: list[Kernel], elements: int) -> float:
    """What all of them move, in bytes an element."""
    return sum(kernel.bytes for kernel in kernels) / elements


# --- torch's operations ---------------------------------------------------------------------------

# What makes or looks at a tensor without touching what is in it.
_NO_KERNEL = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_NO_KERNEL |= {"as_strided", "expand", "view", "_unsafe_view", "reshape", "unsqueeze", "squeeze"}
_NO_KERNEL |= {"alias", "detach", "t", "transpose", "permute", "select", "slice", "result_type"}
_NO_KERNEL |= {"expand_as", "view_as", "numpy_T", "movedim", "narrow", "chunk", "split", "flatten"}
_NO_KERNEL |= {"to", "item", "_local_scalar_dense", "is_nonzero"}
_ALSO = {"nll_loss_backward", "sum"}  # what moves something beside what it calls
_ONLY_WRITES = {"fill_", "copy_", "zero_"}  # in place, and what was there before is not read
_BYTES = {"float": 4, "double": 8, "c10::BFloat16": 2, "c10::Half": 2, "bool": 1}
_BYTES |= {"long int": 8, "int": 4, "short int": 2, "signed char": 1, "unsigned char": 1}


def _kernel(name: str, is_backward: bool, inputs: list[int], output: int) -> Kernel:
    """What the operation of this name moves on CUDA, given the bytes of its tensors."""
    read, written = sum(inputs), output
    if name == "nll_loss_forward":  # the target of each row, and one logit
        rows = inputs[1] // 8
        read = 12 * rows
    elif name == "nll_loss_backward":  # beside the zeros, which are an operation of their own
        rows = inputs[2] // 8
        read, written = inputs[0] + 8 * rows, 4 * rows
    elif name == "log_sigmoid_forward":  # its second result is the CPU's alone
        written = inputs[0]
    elif name == "log_sigmoid_backward":
        read = sum(inputs[:2])
    elif name.startswith("new_") or name.endswith("_like"):
        read = 0
    elif name.endswith("_"):
        read, written = sum(inputs[name in _ONLY_WRITES :]), inputs[0] if inputs else 0
    return Kernel(name, is_backward, read, written)


def _distinct(shape: Any, strides: Any, itemsize: int) -> int:
    """The bytes of a tensor, in which an expanded dimension adds none."""
    sizes = [n for n, step in zip(shape, strides, strict=True) if step or n == 0]
    return itemsize * int(np.prod(sizes, dtype=np.int64))


def profiled(step: Callable[[], Any]) -> list[Kernel]:
    """The kernels of a step on the CPU, by torch's profiler.

    An operation that calls others which move something stands for those. Each that is left is one
    kernel: it reads its tensors and writes what it allocates, or its first tensor if its name says
    that it works in place.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(
        activities=[ProfilerActivity.CPU], record_shapes=True, profile_memory=True, acc_events=True
    ) as run:
        step()
    roots = [event for event in run.events() if event.cpu_parent is None]
    kernels = [kernel for event in roots for kernel in _of_event(event, False)]
    return [kernel for kernel in kernels if kernel.bytes >= SMALL]


def _of_event(event: Any, is_backward: bool) -> list[Kernel]:
    is_backward = is_backward or event.name.startswith("autograd::engine")
    name = event.name.removeprefix("aten::")
    if name == "to" and event.cpu_parent is not None:
        return []  # an operation of two types converts one on the CPU; on CUDA as it reads it
    inside = [kernel for e in event.cpu_children for kernel in _of_event(e, is_backward)]
    is_own = name != event.name and name not in _NO_KERNEL
    if not is_own or (inside and name not in _ALSO):
        return inside
    tensors = zip(
        event.structured_input_shapes or [],
        event.structured_input_strides or [],
        event.input_dtypes or [],
        strict=True,
    )
    inputs = [_distinct(n, step, _BYTES[dtype]) for n, step, dtype in tensors if dtype in _BYTES]
    return [*inside, _kernel(name, is_backward, inputs, max(event.cpu_memory_usage, 0))]


class _Dispatched(TorchDispatchMode):
    """Notes what is called below autograd, with the tensors themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        keys = torch._C.DispatchKey
        for key in (keys.CompositeImplicitAutograd, keys.CompositeExplicitAutograd):
            composed = torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), key)
            if composed and function.overloadpacket.__name__ in _COMPOSED:
                with self:
                    return function._op_dk(key, *args, **kwargs)
        result = function(*args, **kwargs)
        name = function.overloadpacket.__name__
        if name not in _NO_KERNEL:
            self._note(name, [a for a in args if isinstance(a, torch.Tensor)], result)
        return result

    def _note(self, name: str, tensors: list[torch.Tensor], result: Any) -> None:
        inputs = [_distinct(t.shape, t.stride(), t.element_size()) for t in tensors]
        outputs = result if isinstance(result, (tuple, list)) else [result]
        there = {t.data_ptr() for t in tensors}
        output = sum(
            _distinct(t.shape, t.stride(), t.element_size())
            for t in outputs
            if isinstance(t, torch.Tensor) and t.data_ptr() not in there
        )
        is_backward = torch._C._current_autograd_node() is not None
        kernels = [_kernel(name, is_backward, inputs, output)]
        if name == "nll_loss_backward":
            kernels.append(Kernel("fill_", True, 0, output))
        self.kernels += [kernel for kernel in kernels if kernel.bytes >= SMALL]


_COMPOSED = {"binary_cross_entropy_with_logits", "log_sigmoid", "rsub"}


def dispatched(step: Callable[[], Any]) -> list[Kernel]:
    """The kernels of a step on the CPU, by what torch's dispatcher hands on: a second opinion."""
    with _Dispatched() as seen:
        step()
    return seen.kernels


# --- Triton's kernels, in its interpreter ---------------------------------------------------------

_ARITHMETIC = {"add", "subtract", "multiply"}
_SPECIAL = {"exp2", "exp", "log", "log2", "sqrt", "divide"}  # a division takes a reciprocal


@contextmanager
def on_interpreter() -> Iterator[None]:
    """Losses of CPU tensors take the kernels, which must have been imported to be interpreted."""
    import focal_lib.torch

    if focal_lib._ways.triton is None:
        raise RuntimeError(
            "the kernels need Triton, which exists for Linux, and TRITON_INTERPRET=1 in the "
            "environment before focal_lib.torch is imported"
        )
    with mock.patch("focal_lib._ways.TRITON_DEVICE", "cpu"), np.errstate(all="ignore"):
        yield


def interpreted(step: Callable[[], Any]) -> list[Kernel]:
    """The kernels that a step launches, with the addresses that they touch and what they compute.

    An address that a launch reads twice counts once. The operations are numbers computed, of three
    kinds: "arithmetic" (+, - and x of floats), "special" (exp2, log and reciprocals) and "other"
    (comparisons, choices, integers, bits). Sums over a block are not among them.
    """
    from triton.runtime import interpreter

    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    kernels: list[Kernel] = []
    moved: dict[str, list[Any]] = {}
    operations: Counter[str] = Counter()

    def touching(method: str, way: str) -> Any:
        plain = getattr(builder, method)

        def note(self: Any, pointers: Any, *rest: Any, **named: Any) -> Any:
            mask = rest[0 if way == "read" else 1].data
            size = pointers.get_element_ty().primitive_bitwidth // 8
            moved[way].append((size, np.unique(pointers.data[mask])))
            return plain(self, pointers, *rest, **named)

        return mock.patch.object(builder, method, note)

    def computing(method: str, position: int) -> Any:
        plain = getattr(builder, method)

        def note(self: Any, *arguments: Any) -> Any:
            result = plain(self, *arguments)
            name = arguments[position].__name__
            is_float = arguments[0].dtype.scalar.is_floating()
            kind = "special" if name in _SPECIAL else "other"
            if name in _ARITHMETIC and is_float:
                kind = "arithmetic"
            operations[kind] += result.data.size if result.data.size > 1 else 0
            return result

        return mock.patch.object(builder, method, note)

    launch = executor.__call__

    def launching(self: Any, *arguments: Any, **named: Any) -> Any:
        moved.update(read=[], written=[])
        operations.clear()
        result = launch(self, *arguments, **named)
        read, written = (_union(moved[way]) for way in ("read", "written"))
        name = self.fn.__name__
        kernels.append(Kernel(name, "backward" in name, read, written, operations.copy()))
        return result

    with ExitStack() as stack:
        stack.enter_context(on_interpreter())
        stack.enter_context(touching("create_masked_load", "read"))
        stack.enter_context(touching("create_masked_store", "written"))
        stack.enter_context(computing("binary_op", 2))
        stack.enter_context(computing("ternary_op", 3))
        stack.enter_context(computing("unary_op", 1))
        stack.enter_context(mock.patch.object(executor, "__call__", launching))
        step()
    return kernels


def _union(parts: list[tuple[int, Any]]) -> int:
    """The bytes at all addresses, those that occur in several parts once."""
    total = 0
    for size in {size for size, _ in parts}:
        addresses = np.concatenate([where for n, where in parts if n == size])
        total += size * np.unique(addresses).size
    return total


def source_of(name: str, start: str = "", stop: str = "") -> str:
    """Some lines of a function of focal_lib/_ways/triton_kernels.py as it is now.

    From the first line of the body that has ``start`` in it to the one before the next that has
    ``stop``; without them, all of it. Docstrings are left out.
    """
    text = (ROOT / "focal_lib" / "_ways" / "triton_kernels.py").read_text("utf-8")
    [function] = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    body = function.body[1:] if ast.get_docstring(function) else function.body
    lines = text.split("\n")
    if not start:
        signature = lines[function.lineno - 1 : function.body[0].lineno - 1]
        code = lines[body[0].lineno - 1 : function.end_lineno]
        return dedent("\n".join(signature + code))
    code = lines[body[0].lineno - 1 : function.end_lineno]
    first = next(i for i, line in enumerate(code) if start in line)
    last = next((i for i, line in enumerate(code) if stop and i > first and stop in line), None)
    return dedent("\n".join(code[first:last]))


# --- What was measured ----------------------------------------------------------------------------


def cpu_report(folder: Path = BENCHMARKS) -> dict[str, Any]:
    """What benchmarks/speed.py stored."""
    return dict(json.loads((folder / "cpu.json").read_text("utf-8")))


def gpu_reports(folder: Path = BENCHMARKS) -> list[dict[str, Any]]:
    """What benchmarks/gpu.py stored: one report for each device, none if none was measured."""
    reports = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    return [r for r in reports if "multiprocessors" in r and not r["quick"]]


def speedups(report: dict[str, Any], peer: str, name: str = "focal_lib") -> list[tuple[Any, ...]]:
    """(case, least, median and greatest ratio) of each comparison of ``name`` with a peer."""
    return [
        (record["name"], min(check["rounds"]), check["value"], max(check["rounds"]))
        for record in report["cases"]
        for check in record["checks"]
        if check["peer"] == peer and check["implementation"] == name
    ]


def peaks(report: dict[str, Any], case: str) -> dict[str, float]:
    """The most memory in use beyond the inputs, in bytes an element, by implementation."""
    [record] = [record for record in report["cases"] if record["name"] == case]
    return {c["implementation"]: c["value"] for c in record["checks"] if c["peer"] is None}


def gpu_lines(report: dict[str, Any]) -> list[str]:
    """A GPU's figures in words: the device; and for each case the time of forward and backward
    together, the share of a copy's bandwidth that they reach, and how many times faster they are
    than each peer.
    """
    versions = report["versions"]
    lines = [
        f"{report['device']}, torch {versions['torch']}, Triton {versions['triton']}, "
        f"CUDA {versions['cuda']}, {report['date']}"
    ]
    for record in report["cases"]:
        seconds = statistics.median(record["seconds"]["focal_lib"]["both"])
        share = statistics.median(record["share_of_copy"]["focal_lib"]["both"])
        lines.append(
            f"{record['name']}: {1000 * seconds:.3g} ms, {share:.2f} of a copy's bandwidth"
        )
        lines += [
            f"    {check['value']:.2f} times as fast as {check['peer']}"
            for check in record["checks"]
            if check["peer"] and check["peer"] not in ("copy", "read")
        ]
    return lines
