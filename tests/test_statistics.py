"""Interquartile means, their intervals, and the one rule by which a claim holds."""

import numpy as np
import pytest

from bmrl.statistics import bootstrap_interval, iqm, verdict


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert iqm([100.0, 1.0, 2.0, 3.0, -50.0]) == 2.0
    assert iqm([5.0]) == 5.0
    assert iqm([1.0, 3.0, 8.0]) == 4.0  # a quarter of three is none
    np.testing.assert_allclose(iqm(np.array([[0.0, 1, 2, 9], [3, 3, 3, 3]])), [1.5, 3])


def test_the_bootstrap_interval_of_equal_values_is_that_value():
    assert bootstrap_interval([2.0] * 5) == (2.0, 2.0)


@pytest.mark.parametrize(("seeds", "share"), [(3, 0.75), (5, 0.91), (20, 0.95)])
def test_the_bootstrap_interval_of_few_seeds_covers_the_mean_less_often_than_it_says(seeds, share):
    """As the pages of results say of it."""
    samples = np.random.default_rng(0).normal(size=(400, seeds))
    covered = [low <= 0 <= high for low, high in map(bootstrap_interval, samples)]
    assert np.mean(covered) == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize(
    ("held", "seeds", "changed", "found"),
    [
        ([True] * 3, 3, False, "holds"),
        ([True] * 3, 3, True, "holds with a change"),
        ([True] * 3 + [False], 4, True, "holds in part"),
        ([True] * 2 + [False], 3, False, "does not hold"),
        ([False] * 5, 5, False, "does not hold"),
        ([True] * 6, 2, False, "too few seeds"),  # three MDPs of two seeds
        ([False] * 2, 2, False, "too few seeds"),
    ],
)
def test_a_claim_holds_where_it_is_true(held, seeds, changed, found):
    assert verdict(held, seeds, changed) == found
