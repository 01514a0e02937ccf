"""An experiment of many runs: what is finished is stored after every run, so that one that was
stopped goes on where it was."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

Runs = list[dict[str, Any]]


def rounded(value: Any) -> Any:
    """A result with 4 digits for each of its numbers that are not whole."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value


def write(path: Path, facts: dict[str, Any], runs: Runs) -> None:
    """Store facts and runs, a line for each run. The file is there as a whole or as it was."""

    def text(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    lines = ",".join(f"\n{text(run)}" for run in runs)
    head = text(facts | {"runs": []}).removesuffix("]}")
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(f"{head}{lines}]}}\n", "utf-8")
    os.replace(partial, path)


def progress(done: int, total: int, since: float, new: int) -> str:
    bar = "#" * (30 * done // total)
    left = (time.monotonic() - since) / max(new, 1) * (total - done) / 60
    return f"\r[{bar:<30}] {done}/{total} runs, {left:.0f} min left "


def go_on(
    about: str,
    run: Callable[..., dict[str, Any]],
    todo: list[tuple[Any, ...]],
    runs: Runs,
    store: Callable[[Runs], None],
) -> None:
    """The program of an experiment: run what is to do beside what has been run, and store it."""
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="processes, each on one core")
    jobs = parser.parse_args().jobs
    since, before, total = time.monotonic(), len(runs), len(runs) + len(todo)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run, *unit) for unit in todo]):
            runs.append(future.result())
            store(runs)
            sys.stderr.write(progress(len(runs), total, since, len(runs) - before))
            sys.stderr.flush()
    print(f"\n{total} runs are stored")
