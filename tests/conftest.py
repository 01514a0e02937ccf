"""What all tests share: examples that are the same in every run, one thread, and the devices.

A test with the mark `devices` is run by each of the ways to the losses: on the CPU, and there also
by the kernels for CUDA in Triton's interpreter; or, with --device cuda, on a CUDA device alone.
Of cases that are alike a sample is run, and with --cases rest the others: see cases.py. The end of
a run says what was run by what, what was left to `make audit`, and why a test was skipped.
"""

import os
from collections import Counter, defaultdict
from contextlib import ExitStack
from importlib.util import find_spec
from unittest import mock

import numpy as np
import pytest
import torch  # which does not import Triton
from hypothesis import is_hypothesis_test, settings

from tools import chromium

if find_spec("playwright"):  # which the machine of `make test-gpu` need not have
    from browser import address, browser  # noqa: F401 (the fixtures of the site's tests)

settings.register_profile("focal", deadline=None, derandomize=True, max_examples=60, database=None)
settings.load_profile("focal")
torch.set_num_threads(1)
approx = pytest.approx


def relative(expected, rel=None, abs=None, **options):
    """approx, which takes any two numbers within 1e-12 for equal: small losses are not alike."""
    if abs is None:
        rel, abs = 1e-6 if rel is None else rel, 0.0
    return approx(expected, rel, abs, **options)


pytest.approx = relative
WAYS = {"cpu": ("cpu", "interpreter"), "cuda": ("cuda",)}


def pytest_addoption(parser):
    what = "where the tests of all devices are run: on the CPU, or on a CUDA device"
    parser.addoption("--device", choices=tuple(WAYS), default="cpu", help=what)
    what = "of cases that are alike a sample, the rest of them, or all tests"
    parser.addoption("--cases", choices=("sample", "rest", "all"), default="sample", help=what)


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "devices(*ways, reason=...): run the test on each device; if there are ways, by these "
        "alone ('cpu', 'interpreter', 'cuda'), and skip the others if there is a reason",
    )
    config.addinivalue_line(
        "markers", "exhaustive: one of the cases that a sample stands for (--cases rest)"
    )
    if config.getoption("device") == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    else:
        os.environ.pop("TRITON_INTERPRET", None)
        if not torch.cuda.is_available():
            raise pytest.UsageError("--device cuda: torch finds no CUDA device")


def pytest_generate_tests(metafunc):
    mark = metafunc.definition.get_closest_marker("devices")
    if mark is None:
        return
    ways = []
    for way in WAYS[metafunc.config.getoption("device")]:
        if not mark.args or way in mark.args:
            ways.append(way)
        elif "reason" in mark.kwargs:
            reason = f"not by the way {way!r}: {mark.kwargs['reason']}"
            ways.append(pytest.param(way, marks=pytest.mark.skip(reason=reason)))
    metafunc.parametrize("way_of_losses", ways, indirect=True)


@pytest.fixture(autouse=True)
def way_of_losses(request):
    """The way to the losses in this test; new tensors are on its device."""
    import focal_lib._ways

    way = getattr(request, "param", "cpu")
    with ExitStack() as stack:
        if way != "cpu" and focal_lib._ways.triton is None:
            reason = "there is no Triton, or an old one"
            if way == "cuda" or os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        if way == "interpreter":
            stack.enter_context(mock.patch("focal_lib._ways.TRITON_DEVICE", "cpu"))
            stack.enter_context(np.errstate(all="ignore"))  # as the kernels compute
            if is_hypothesis_test(request.function):  # Python for each block of numbers is slow
                few = settings(max_examples=10)
                name = "_hypothesis_internal_use_settings"
                stack.enter_context(mock.patch.object(request.function, name, few))
        if way == "cuda":
            torch.set_default_device("cuda")
            stack.callback(torch.set_default_device, None)
        yield way


def pytest_collection_modifyitems(config, items):
    asked = config.getoption("cases")
    if asked == "all":
        return
    kept, left = [], []
    for item in items:
        is_rest = item.get_closest_marker("exhaustive") is not None
        (kept if is_rest == (asked == "rest") else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept
    if asked == "sample" and hasattr(config, "workeroutput"):
        config.workeroutput["left"] = len(left)


def pytest_testnodedown(node, error):
    """One of the two workers, which have collected the same tests, is done."""
    node.config.left_to_audit = getattr(node, "workeroutput", {}).get("left", 0)


def pytest_itemcollected(item):
    way = getattr(item, "callspec", None) and item.callspec.params.get("way_of_losses")
    if way:
        item.user_properties.append(("way of losses", way))


def pytest_terminal_summary(terminalreporter, config):
    """What ran where, and what did not."""
    write = terminalreporter.write_line
    reports = [report for all_of in terminalreporter.stats.values() for report in all_of]
    if any("tests/theme/test_site.py" in getattr(report, "nodeid", "") for report in reports):
        path = chromium.find()
        write(f"the browser: {chromium.about(path) if path else chromium.ADVICE}")
    if left := getattr(config, "left_to_audit", 0):
        write(f"{left} more cases, which are like those that ran, are run by `make audit`")
    reasons = Counter(
        str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        for report in terminalreporter.stats.get("skipped", ())
    )
    for reason, count in reasons.most_common():
        write(f"{count} skipped: {reason.removeprefix('Skipped: ')}")
    ran = defaultdict(Counter)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, way in getattr(report, "user_properties", ()):
                if name == "way of losses":
                    ran[way][outcome] += 1
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "CUDA"
    for way, name, target in (
        ("cpu", "the CPU", "test"),
        ("interpreter", "Triton's interpreter", "test"),
        ("cuda", gpu, "test-gpu"),
    ):
        counts = ", ".join(f"{count} {outcome}" for outcome, count in ran[way].items())
        if any(ran.values()):
            write(f"losses on {name}: {counts or f'not run (make {target})'}")
