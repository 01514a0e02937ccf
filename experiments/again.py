"""Make stored runs again, chosen at random, and compare.

    python experiments/again.py classification --share 0.05 --seed 0

An experiment is a module with `stored`, `unit_of` and `run`. A number is the same where both have
it to 4 digits, as it is stored.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))


def differences(stored: Any, again: Any) -> list[float]:
    """The relative differences of all numbers; other values must be equal."""
    if isinstance(stored, dict):
        if set(stored) != set(again):
            return [np.inf]
        return [d for key in stored for d in differences(stored[key], again[key])]
    if isinstance(stored, list):
        if len(stored) != len(again):
            return [np.inf]
        return [
            d for one, other in zip(stored, again, strict=True) for d in differences(one, other)
        ]
    if isinstance(stored, float):
        return [abs(stored - again) / max(abs(stored), 1e-300)] if stored != again else [0.0]
    return [0.0 if stored == again else np.inf]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("experiment", help="a module of experiments/")
    parser.add_argument("--share", type=float, default=0.05, help="of the stored runs")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    experiment = import_module(f"experiments.{given.experiment}")
    runs = experiment.stored()
    count = max(1, round(given.share * len(runs)))
    chosen = np.random.default_rng(given.seed).choice(len(runs), count, replace=False)
    units = [experiment.unit_of(runs[i]) for i in chosen]
    worst = []
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        for i, run in zip(chosen, pool.map(experiment.run, *zip(*units, strict=True)), strict=True):
            worst.append(max(differences({key: runs[i][key] for key in run}, run)))
    same = sum(d == 0 for d in worst)
    print(f"{count} of {len(runs)} runs made again: {same} the same in every digit that is stored")
    print(f"largest relative difference of a number: {max(worst):.1e}")


if __name__ == "__main__":
    main()
