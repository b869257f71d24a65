"""Every threshold keeps what it says, on signal and on noise."""

import numpy as np
import pytest
from scipy import stats

from lmri.thresholds import DESCRIPTIONS, THRESHOLDS, q_values, robust_z_scores, z_scores


@pytest.fixture
def maps():
    """Gaussian noise with 30 neurons of either sign far out in the first map."""
    maps = np.random.default_rng(0).normal(size=(3, 4000))
    maps[0, :20] += 12
    maps[0, 20:30] -= 12
    return maps


@pytest.mark.parametrize("method", ["z", "robust_z", "fdr_gaussian"])
def test_planted_neurons_are_kept_on_both_sides(maps, method):
    members = THRESHOLDS[method](maps)
    assert members[0, :30].all()
    assert members[0, 30:].mean() < 0.01


@pytest.mark.parametrize("method", list(THRESHOLDS))
def test_scale_and_sign_of_a_map_do_not_matter(maps, method):
    # All maps by the same factor, because "auto" ranks them against each other.
    assert np.array_equal(THRESHOLDS[method](maps), THRESHOLDS[method](-7 * maps))


def test_fdr_keeps_nothing_of_gaussian_noise_and_quotas_keep_their_share():
    noise = np.random.default_rng(1).normal(size=(20, 5000))
    assert THRESHOLDS["fdr_gaussian"](noise).mean() <= 0.001
    assert THRESHOLDS["auto"](noise).sum() == 5000
    assert (THRESHOLDS["top"](noise, share=0.02).sum(axis=1) == 100).all()


def test_fdr_as_if_gaussian_is_fooled_by_heavy_tails_which_its_description_says():
    laplace = np.random.default_rng(0).laplace(size=(1, 9216))
    assert THRESHOLDS["fdr_gaussian"](laplace).sum() > 20
    assert "not calibrated" in DESCRIPTIONS["fdr_gaussian"]


def test_z_is_two_sided_where_one_sided_would_lose_the_minority(maps):
    assert THRESHOLDS["z"](maps, z=3.0)[0, 20:30].all()
    assert not (z_scores(maps) > 3.0)[0, 20:30].any()


def test_robust_z_is_not_inflated_by_what_it_looks_for(maps):
    noise = maps[0, 30:]
    assert np.isclose(robust_z_scores(maps)[0, 30:].std(), noise.std(), rtol=0.05)
    assert z_scores(maps)[0, 30:].std() < 0.9 * noise.std()


def test_support_keeps_what_is_not_zero():
    assert THRESHOLDS["support"](np.array([[0.0, -0.1, 3.0, 0.0]])).tolist() == [[False, True, True, False]]


@pytest.mark.parametrize("method", list(THRESHOLDS))
def test_a_map_of_zeros_gives_an_empty_network(method):
    assert not THRESHOLDS[method](np.zeros((2, 50))).any()


def test_top_counts_exactly_also_with_ties():
    assert THRESHOLDS["top"](np.ones((1, 100)), share=0.07).sum() == 7


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("z", {"z": 0}),
        ("z", {"z": -1}),
        ("top", {"share": 1.0}),
        ("fdr_gaussian", {"alpha": 0}),
        ("auto", {"ratio": 0}),
    ],
)
def test_values_out_of_range_are_refused(method, values):
    with pytest.raises(ValueError, match=f"{next(iter(values))} is"):
        THRESHOLDS[method](np.ones((1, 10)), **values)


def test_q_values_equal_scipys():
    p = np.random.default_rng(0).uniform(size=200) ** 2
    assert np.allclose(q_values(p), stats.false_discovery_control(p))
