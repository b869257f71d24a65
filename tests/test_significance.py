"""Tests against controls keep their level under the null, and detect effects."""

import numpy as np
import pytest

from lmri.lesions.scores.p_values import at_least_as_bad, maxt_p, permutation_p, sequential_p


def test_at_least_as_bad_knows_the_metric_and_ties_and_broken_controls():
    controls = np.array([-1.0, 0.5, 0.5 - 1e-12, 2.0, np.nan])
    assert at_least_as_bad(controls, 0.5, higher_is_better=False).tolist() == [False, True, True, True, True]
    assert at_least_as_bad(controls, 0.5, higher_is_better=True).tolist() == [True, True, True, False, True]


def test_p_stops_with_the_control_that_was_the_last_needed():
    bad = np.array([0, 1, 0, 0, 1, 1, 0, 1], dtype=bool)
    assert sequential_p(bad, 1) == 1 / 2
    assert sequential_p(bad, 2) == 2 / 5
    assert sequential_p(bad, 3) == 3 / 6
    # Never reached: the count over all planned draws.
    assert sequential_p(bad, 5) == permutation_p(bad) == 5 / 9
    # What another task made necessary does not count.
    assert sequential_p(bad[:5], 2) == sequential_p(bad, 2)


@pytest.mark.parametrize("stop_after", [1, 3, 10])
def test_sequential_p_keeps_its_level(stop_after):
    # Under the null a network is one of the sets that could have been drawn.
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4000, 100))
    p = np.array([sequential_p(own[1:] >= own[0], stop_after) for own in values])
    for level in (0.02, 0.05, 0.2, 0.5):
        share = (p <= level + 1e-12).mean()  # ties but for rounding
        assert share <= level + 3 * np.sqrt(level / 4000)
    # And it is not idle: of a large effect it is as small as 99 draws allow.
    assert sequential_p(rng.normal(size=99) >= 9, stop_after) == 0.01


def test_the_largest_of_many_effects_keeps_the_family_wise_level():
    rng = np.random.default_rng(1)
    # Networks whose controls go together, as sets that overlap do, of very different scale.
    mixing = rng.normal(size=(8, 8)) * 10.0 ** rng.uniform(-2, 2, size=8)
    smallest = [maxt_p(rng.normal(size=(40, 8)) @ mixing).min() for _ in range(2000)]
    for level in (0.05, 0.2):
        assert (np.array(smallest) <= level).mean() <= level + 3 * np.sqrt(level / 2000)
    # Uncorrected p of each would say that something is there in every third family.
    plain = [(harm >= harm[0]).mean(axis=0).min() for harm in rng.normal(size=(2000, 40, 8))]
    assert (np.array(plain) <= 0.05).mean() > 0.25


def test_the_largest_effect_is_found_and_only_it():
    rng = np.random.default_rng(2)
    harm = rng.normal(size=(100, 5))
    harm[0] = [0.0, 30.0, 0.3, -30.0, 0.1]
    adjusted = maxt_p(harm)
    assert adjusted[1] == 0.01
    assert (adjusted[[0, 2, 3, 4]] > 0.2).all()
    # By hand: standardized over all rows, the largest of each row.
    scaled = (harm - harm.mean(axis=0)) / harm.std(axis=0)
    expected = [(scaled.max(axis=1) >= one - 1e-9).mean() for one in scaled[0]]  # ties but for rounding
    np.testing.assert_allclose(adjusted, expected)


def test_units_do_not_matter_to_the_largest_effect():
    harm = np.random.default_rng(3).normal(size=(50, 4))
    np.testing.assert_allclose(maxt_p(harm), maxt_p(harm * [1, 1e-3, 50, 7] + [0, 5, -9, 1]))


def test_broken_or_constant_effects_have_no_p_and_do_not_mask_others():
    harm = np.random.default_rng(4).normal(size=(50, 4))
    harm[0, 1], harm[:, 2], harm[7, 3] = np.nan, 0.25, np.inf
    harm[0, 0] = 9.0
    adjusted = maxt_p(harm)
    assert np.isnan(adjusted[1])
    assert np.isnan(adjusted[2])
    # The control that breaks the model stands above the network, and so counts.
    assert adjusted[0] == 2 / 50
