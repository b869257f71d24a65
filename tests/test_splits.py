"""Splits are disjoint, have the requested shares, and are stable for each item."""

import random
import warnings

import numpy as np
import pytest

from lmri.exceptions import DataWarning
from lmri.storage import text_hash
from lmri.storage.splits import SHARES, SPLITS, split_clusters

CLUSTERS = [f"cluster-{number}" for number in range(4000)]


def test_shares_are_those_asked_for():
    for shares in (SHARES, (0.1, 0.2, 0.7), (0.75, 0.0, 0.25), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)):
        assigned = split_clusters(CLUSTERS, shares=shares)
        for name, share in zip(SPLITS, shares, strict=True):
            close = 5 * np.sqrt(share * (1 - share) / 4000)  # 5 standard errors
            assert np.isclose(assigned.count(name) / 4000, share, atol=close)


def test_a_cluster_keeps_its_split_whatever_else_there_is():
    whole = dict(zip(CLUSTERS, split_clusters(CLUSTERS, seed=3), strict=True))
    some = random.Random(0).sample(CLUSTERS, 500)
    assert split_clusters(some, seed=3) == [whole[cluster] for cluster in some]
    # Another seed is another draw: as many agree as chance has it, .5² + .25² + .25².
    other = split_clusters(CLUSTERS, seed=4)
    agreement = np.mean([one == whole[cluster] for one, cluster in zip(other, CLUSTERS, strict=True)])
    assert np.isclose(agreement, 0.375, atol=5 * np.sqrt(0.375 * 0.625 / 4000))  # 5 standard errors


def test_no_cluster_and_no_text_comes_into_two_splits():
    rng = random.Random(0)
    clusters = [f"c{rng.randrange(300)}" for _ in range(900)]
    texts = [(f"t{rng.randrange(2000)}", f"own {number}") for number in range(900)]
    assigned = split_clusters(clusters, texts)
    assert set(assigned) == set(SPLITS)
    for things in (
        zip(clusters, assigned, strict=True),
        ((one[0], to) for one, to in zip(texts, assigned, strict=True)),
    ):
        seen: dict[str, str] = {}
        assert all(seen.setdefault(thing, to) == to for thing, to in things)
    # The negative control: by clusters alone, texts do leak.
    alone = split_clusters(clusters)
    assert len({(one[0], to) for one, to in zip(texts, alone, strict=True)}) > len({one[0] for one in texts})


def test_clusters_that_share_a_text_are_joined_over_others():
    # a and b share one text, b and c another.
    for seed in range(30):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert len(set(split_clusters(["c", "a", "b", "b"], ["y", "x", "x", "y"], seed=seed))) == 1
            assert split_clusters(["a"], ["x"], seed=seed)[0] == split_clusters(["c", "a"], ["x", "x"], seed=seed)[0]


def test_known_texts_stay_where_they_are_and_take_their_cluster_along():
    texts = [f"text {number}" for number in range(4000)]
    clusters = [str(number // 2) for number in range(4000)]
    known = {text_hash(text): "fit" for text in texts[::20]}
    free, bound = split_clusters(clusters, texts), split_clusters(clusters, texts, known=known)
    for number in range(4000):
        expected = "fit" if number // 2 * 2 % 20 == 0 else free[number]
        assert bound[number] == expected
    with pytest.raises(ValueError, match="belong to fit and to test, but a cluster belongs to one split"):
        split_clusters(["a", "a"], ["x", "y"], known={text_hash("x"): "fit", text_hash("y"): "test"})
    with pytest.raises(ValueError, match=r"known names the splits \['train'\]"):
        split_clusters(["a"], ["x"], known={text_hash("x"): "train"})


def test_too_few_clusters_for_three_splits_are_said():
    with pytest.warns(DataWarning, match="No item was assigned to .*: 1 clusters are too few"):
        split_clusters(["a", "a"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split_clusters(["a", "a"], shares=(0, 0, 1))


@pytest.mark.parametrize(
    "shares", [(0.5, 0.5), (0.5, 0.6, -0.1), (0.3, 0.3, 0.3), (1.0, 1.0, -1.0), (np.nan, 0.5, 0.5)]
)
def test_invalid_shares_are_refused(shares):
    with pytest.raises(ValueError, match="give 3 numbers from 0 to 1 that add up to 1"):
        split_clusters(CLUSTERS[:9], shares=shares)


def test_each_item_needs_a_cluster_and_texts():
    with pytest.raises(ValueError, match="There are 2 clusters and 1 texts"):
        split_clusters(["a", "b"], ["x"])


def test_the_draw_is_the_same_on_every_machine():
    letters = {"f": "fit", "s": "select", "t": "test"}
    assert split_clusters([f"c{number}" for number in range(12)]) == [letters[one] for one in "stsffffttssf"]
