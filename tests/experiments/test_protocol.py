"""The protocol: its draws, contrasts and best-of-n, and the comparison of runs made again."""

import itertools

import numpy as np
import pytest
from scipy import stats

from experiments.again import differences
from experiments.protocol import Knob, Statement, best_of, contrast


def statement(**changes):
    return Statement(
        **{
            "question": "?",
            "metric": "m",
            "margin": 0.1,
            "contrasts": (("a", "b"),),
            "shared": {"rate": Knob(between=(1e-4, 1e-1))},
            "arms": {"a": {}, "b": {"gamma": Knob(among=(0.5, 1, 2))}},
            "draws": 20,
            "tuning_seeds": (100,),
            "seeds": (0, 1),
            **changes,
        }
    )


def test_all_arms_draw_the_same_values_of_what_they_share():
    given = statement()
    a, b = ([given.draw(arm, n) for n in range(200)] for arm in "ab")
    assert [how["rate"] for how in a] == [how["rate"] for how in b]
    assert a == [given.draw("a", n) for n in range(200)]
    rates = np.log10([how["rate"] for how in a])
    assert stats.kstest(rates, "uniform", (-4, 3)).pvalue > 1e-3
    assert np.bincount([[0.5, 1, 2].index(how["gamma"]) for how in b]).min() > 45


def test_a_seed_of_the_verdict_was_not_used_for_tuning():
    with pytest.raises(ValueError, match="tuning seeds"):
        statement(tuning_seeds=(1,))


def test_the_fingerprint_is_of_every_part():
    prints = {
        statement().fingerprint,
        statement(margin=0.2).fingerprint,
        statement(shared={"rate": Knob(between=(1e-4, 2e-1))}).fingerprint,
        statement(arms={"a": {}, "b": {"gamma": Knob(among=(0.5, 1, 3))}}).fingerprint,
    }
    assert len(prints) == 4 and statement().fingerprint in prints


def test_a_contrast_is_a_paired_test_and_two_one_sided_ones():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.03, 0.1, 25), rng.normal(0, 0.1, 25)
    got = contrast(a, b, 0.1)
    assert got.mean == pytest.approx((a - b).mean())
    low, high = stats.ttest_rel(a, b).confidence_interval()
    assert (got.mean - got.half, got.mean + got.half) == pytest.approx((low, high))
    assert got.p_difference == pytest.approx(stats.ttest_rel(a, b).pvalue)
    sides = [
        stats.ttest_1samp(a - b, edge, alternative=side).pvalue
        for edge, side in ((-0.1, "greater"), (0.1, "less"))
    ]
    assert got.p_margin == pytest.approx(max(sides))
    assert (got.ahead, got.pairs) == ((a > b).sum(), 25)


def test_verdicts():
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.01, 30)
    for shift, spread, expected in (
        (0, 1, "level"),
        (0.2, 1, "ahead"),
        (-0.2, 1, "behind"),
        (0, 50, "open"),
    ):
        got = contrast(shift + spread * noise, np.zeros(30), 0.1)
        assert got.verdict(got.p_difference, got.p_margin) == expected
    for bad in (np.zeros(1), np.zeros(29)):
        with pytest.raises(ValueError, match="pairs"):
            contrast(np.zeros(30), bad, 0.1)


def test_best_of_is_the_mean_over_all_choices():
    values = np.array([0.3, 0.9, 0.1, 0.5, 0.5])
    expected = [
        np.mean([max(some) for some in itertools.combinations(values, n)]) for n in range(1, 6)
    ]
    assert best_of(values) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("again", "worst"),
    [
        ({"a": [1.0, 2.0], "b": "x", "c": None}, 0.0),
        ({"a": [1.0, 2.2], "b": "x", "c": None}, 0.1),
        ({"a": [1.0], "b": "x", "c": None}, np.inf),
        ({"a": [1.0, 2.0], "b": "y", "c": None}, np.inf),
        ({"a": [1.0, 2.0], "b": "x", "c": 1.0}, np.inf),
        ({"a": [1.0, 2.0], "b": "x"}, np.inf),
    ],
)
def test_differences_of_runs(again, worst):
    stored = {"a": [1.0, 2.0], "b": "x", "c": None}
    assert max(differences(stored, again)) == pytest.approx(worst)
