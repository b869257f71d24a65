"""Stability is high for replicated components and low for others, and texts are the unit of resampling."""

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lmri.decomposition import NeuronICA, ica
from lmri.decomposition.reproducibility import bootstrap_index, reproducibility, volume_texts
from lmri.decomposition.stability import cluster_index, clusters, icasso
from lmri.space import NeuronSpace
from phantom import gaussian_noise, planted
from tolerances import rounding

SPACE = NeuronSpace.build([128] * 4)
K = 4


def orthogonal(n, k, seed=0):
    return ica.starts(k, n, seed)


# -- several starts ---------------------------------------------------------------------------------------------------


def test_identical_starts_are_perfectly_stable_whatever_their_order_and_sign():
    rng = np.random.default_rng(0)
    W = orthogonal(1, 6)[0]
    starts = np.stack([W[rng.permutation(6)] * rng.choice([-1, 1], size=(6, 1)) for _ in range(8)])
    found, iq = icasso(starts)
    assert np.allclose(iq, 1, rtol=0, atol=rounding(1.0, starts.size))
    similarity = np.abs(found @ W.T)
    assert np.allclose(np.sort(similarity, axis=1)[:, -1], 1)
    assert sorted(similarity.argmax(axis=1)) == list(range(6))


def test_arbitrary_starts_are_not_stable():
    _, iq = icasso(orthogonal(10, 12))
    assert iq.shape == (12,)
    assert iq.mean() < 0.6
    assert iq.min() < 0.5


def test_only_the_components_that_come_back_are_stable_and_they_come_first():
    """Three of eight components are the same in all starts, the rest is turned at random."""
    base = orthogonal(1, 8)[0]
    starts = np.stack([np.concatenate([base[:3], turn @ base[3:]]) for turn in orthogonal(10, 5, seed=1)])
    found, iq = icasso(starts)
    assert (iq[:3] > 0.95).all()
    assert (iq[3:] < 0.7).all()
    assert np.allclose(np.abs(found[:3] @ base[:3].T).max(axis=0), 1)
    assert (np.diff(iq) <= 0).all()


def test_a_failed_start_does_not_change_what_is_chosen():
    W = orthogonal(1, 5)[0]
    found, iq = icasso(np.concatenate([np.repeat(W[None], 9, axis=0), orthogonal(1, 5, seed=9)]))
    assert np.allclose(np.sort(np.abs(found @ W.T), axis=1)[:, -1], 1)
    assert 0.6 < iq.min() < 0.99


@pytest.mark.parametrize("n_starts", [2, 3, 10])
def test_there_are_always_as_many_clusters_as_components(n_starts):
    for starts in (orthogonal(n_starts, 7), np.repeat(np.eye(7)[None], n_starts, axis=0)):  # ties throughout
        similarity = np.clip(np.abs(starts.reshape(-1, 7) @ starts.reshape(-1, 7).T), 0, 1)
        assert sorted(set(clusters(similarity, 7))) == list(range(7))
        found, iq = icasso(starts)
        assert found.shape == (7, 7)
        assert np.isfinite(iq).all()
        assert (iq <= 1 + rounding(1.0, starts.size)).all()


def test_one_start_says_nothing_of_stability():
    W = orthogonal(1, 5)
    found, iq = icasso(W)
    assert np.array_equal(found, W[0])
    assert np.isnan(iq).all()


def test_a_centrotype_is_one_of_the_estimates_and_the_one_most_like_its_cluster():
    rng = np.random.default_rng(0)
    starts = ica.decorrelated(np.eye(4) + 0.05 * rng.normal(size=(9, 4, 4)))
    found, _ = icasso(starts)
    estimates = starts.reshape(-1, 4)
    for row in found:
        assert np.isclose(np.abs(estimates @ row), 1).any()
        own = estimates[np.abs(estimates).argmax(axis=1) == np.abs(row).argmax()]
        assert np.abs(own @ row).sum() >= np.abs(own @ own.T).sum(axis=1).max() - rounding(1.0, starts.size)


def test_the_cluster_index_is_the_mean_within_minus_the_mean_to_all_others():
    rng = np.random.default_rng(0)
    similarity = rng.uniform(size=(9, 9))
    similarity = (similarity + similarity.T) / 2
    labels = np.array([0, 1, 0, 2, 2, 1, 1, 0, 2])
    expected = [
        np.mean([[similarity[i, j] for j in range(9) if labels[j] == label] for i in range(9) if labels[i] == label])
        - np.mean([[similarity[i, j] for j in range(9) if labels[j] != label] for i in range(9) if labels[i] == label])
        for label in range(3)
    ]
    assert np.allclose(cluster_index(similarity, labels), expected)


# -- other texts ------------------------------------------------------------------------------------------------------


def fitted(imgs, n_components=K, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noise need not converge
        return NeuronICA(SPACE, n_components, n_init=2, **options).fit(imgs)


def texts_of_length(imgs, n_tokens):
    """Split every run into texts."""
    return [np.array([f"{run}-{t // n_tokens}" for t in range(img.shape[3])], object) for run, img in enumerate(imgs)]


@pytest.fixture(scope="module")
def phantom():
    return planted(SPACE, n_networks=K, share=0.04, n_runs=4, n_volumes=200)


@pytest.mark.parametrize("kind", ["spatial", "temporal"])
def test_planted_networks_come_back_from_other_texts(phantom, kind):
    found = reproducibility(fitted(phantom.imgs, kind=kind), texts_of_length(phantom.imgs, 20), 4, 2, sizes=(0.5,))
    assert (found.metrics["iq_texts"] > 0.75).all()
    assert (found.metrics["split_half_r"] > 0.85).all()
    assert (found.metrics["split_half_r"] > found.metrics["split_half_null"]).all()
    assert (found.metrics["split_half_null"] < 0.9).all()
    assert list(found.curve["n_texts"]) == [10, 10, 20, 20]
    assert (found.curve["n_volumes"] == 20 * found.curve["n_texts"]).all()
    assert (found.curve["mean_r"] > found.curve["null_95"]).all()
    assert found.curve["mean_r"].iloc[2:].mean() > found.curve["mean_r"].iloc[:2].mean()  # more texts, better maps
    assert (found.curve["n_above"] >= [K - 1, K - 1, K, K]).all()
    assert (found.n_bootstraps, found.n_splits) == (4, 2)


def test_noise_does_not_come_back():
    above, of = 0, 0
    for seed in range(10):
        imgs = gaussian_noise(SPACE, n_runs=2, n_volumes=160, seed=seed)
        found = reproducibility(fitted(imgs), texts_of_length(imgs, 20), 2, 1, sizes=(), random_state=seed)
        above += int((found.curve["mean_r"] > found.curve["null_95"]).sum())
        of += len(found.curve)
        assert found.metrics["split_half_r"].max() < 0.5
    assert of == 10
    assert above <= 3  # 5 % each: more than three of ten happens once in a thousand


def test_iq_over_texts_is_high_for_the_planted_and_low_for_what_is_asked_for_beyond(phantom):
    found = reproducibility(fitted(phantom.imgs, K + 3), texts_of_length(phantom.imgs, 20), 6, 1, sizes=())
    iq = np.sort(found.metrics["iq_texts"])[::-1]
    assert iq[:K].min() > 0.8
    assert iq[K:].max() < 0.6


def test_runs_are_texts_if_none_are_named(phantom):
    estimator = fitted(phantom.imgs)
    by_default = reproducibility(estimator, None, 2, 1, sizes=())
    named = reproducibility(estimator, [np.full(200, number, object) for number in range(4)], 2, 1, sizes=())
    assert by_default.metrics.equals(named.metrics)
    assert by_default.curve["n_texts"].tolist() == [2]


def test_results_are_reproducible_and_depend_on_the_seed(phantom):
    estimator, texts = fitted(phantom.imgs), texts_of_length(phantom.imgs, 25)
    first, again = (reproducibility(estimator, texts, 2, 1, sizes=(), random_state=3) for _ in range(2))
    other = reproducibility(estimator, texts, 2, 1, sizes=(), random_state=4)
    assert first.metrics.equals(again.metrics)
    assert first.curve.equals(again.curve)
    assert not np.allclose(first.metrics["iq_texts"], other.metrics["iq_texts"], atol=1e-9)  # not rounding either


def test_too_few_texts_and_unnamed_volumes_are_refused(phantom):
    estimator = fitted(phantom.imgs)
    three = [np.array(["a"] * 100 + ["b"] * 100), *[np.full(200, "c")] * 3]
    with pytest.raises(ValueError, match=r"There are 3 texts\. Stability across texts needs at least 4"):
        reproducibility(estimator, three)
    with pytest.raises(ValueError, match="Name the text of every volume"):
        reproducibility(estimator, [np.full(10, number) for number in range(4)])


def test_smaller_samples_with_too_few_volumes_for_the_maps_are_left_out(phantom):
    estimator = fitted([phantom.imgs[0]])
    texts = [np.repeat(np.arange(67), 3)[:200]]  # a quarter of a half are 8 texts of 3 volumes
    found = reproducibility(estimator, texts, 0, 1, sizes=(0.01, 0.25))
    assert found.curve["n_texts"].tolist() == [8, 33]
    assert found.metrics["iq_texts"].isna().all()  # there was no bootstrap


def test_volumes_of_the_samples_are_whole_texts_and_one_chosen_twice_counts_twice(phantom, monkeypatch):
    estimator, texts = fitted(phantom.imgs), texts_of_length(phantom.imgs, 50)
    estimator_maps, asked = estimator.maps_of, []

    def maps_of(volumes):
        asked.append(volumes)
        return estimator_maps(volumes)

    monkeypatch.setattr(estimator, "maps_of", maps_of)
    progress = []
    reproducibility(estimator, texts, 3, 2, sizes=(), progress=lambda done, of: progress.append((done, of)))
    assert len(asked) == 3 + 2 * 2
    assert progress == [(number + 1, 7) for number in range(7)]
    twice = 0
    for number, volumes in enumerate(asked):
        counts = [np.bincount(rows, minlength=200) for rows in volumes]
        for own, names in zip(counts, texts, strict=True):
            for name in set(names):
                assert len(set(own[names == name])) == 1  # never half a text
        total = sum(own.sum() for own in counts)
        assert total == (800 if number < 3 else 400)
        if number < 3:
            twice += sum(int((own == 2).sum()) for own in counts)
        else:
            assert max(own.max() for own in counts) == 1
    assert twice > 0
    for first, second in ((3, 4), (5, 6)):  # halves share no text
        for a, b in zip(asked[first], asked[second], strict=True):
            assert not set(a) & set(b)


def test_a_text_taken_twice_weighs_as_a_copy_of_it_does(phantom):
    """Resampled volumes [0, 0, 1] of an image give the same maps as an image with these volumes."""
    order = np.concatenate([np.repeat(np.arange(60), 2), np.arange(60, 200)])
    written = SPACE.to_img(SPACE.from_img(phantom.imgs[0])[order])
    taken = fitted([phantom.imgs[0]]).maps_of([order])
    copied = fitted([written]).maps_of([np.arange(260)])
    close = rounding(copied, SPACE.n_neurons, np.float32)
    assert np.allclose(taken, copied, atol=close)
    once = fitted([phantom.imgs[0]]).maps_of([np.arange(200)])
    assert not np.allclose(taken, once, atol=100 * close)


def test_a_run_of_which_no_text_is_taken_is_left_out(phantom):
    estimator = fitted(phantom.imgs)
    some = estimator.maps_of([np.arange(200), np.arange(0), np.arange(200), np.arange(0)])
    two = fitted([phantom.imgs[0], phantom.imgs[2]]).maps_of([np.arange(200)] * 2)
    assert np.allclose(some, two, atol=rounding(two, SPACE.n_neurons, np.float32))


def test_maps_have_the_index_of_their_cluster():
    rng = np.random.default_rng(0)
    own = rng.laplace(size=(3, 500))
    assert np.isnan(bootstrap_index(own, [])).all()
    copies = [own[[2, 0, 1]] * -1, own]
    assert (bootstrap_index(own, copies) > 0.9).all()
    assert (bootstrap_index(own, [rng.laplace(size=(3, 500)) for _ in range(5)]) < 0.7).all()


def test_texts_of_two_corpora_with_the_same_number_are_two():
    def recorded(corpus, ids):
        return SimpleNamespace(corpus=corpus, events=[pd.DataFrame({"text_id": ids})])

    named = volume_texts([recorded("a", [0, 0, 1]), recorded("b", [0, 1])])
    assert [len(one) for one in named] == [3, 2]
    assert len({name for one in named for name in one}) == 4


class Mixed:
    """Estimator whose every fit is another unmixing of the same data, so that no map is replicated."""

    space = NeuronSpace.build([60] * 3)

    def __init__(self, seed: int, noise: float | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.noise, self.components_ = noise, self.rng.normal(size=(6, 180))
        self.n_volumes_by_run = [10] * 8

    def can_fit(self, n_volumes: list[int]) -> bool:
        return True

    def maps_of(self, volumes: list[np.ndarray]) -> np.ndarray:
        if self.noise is not None:  # the positive control: maps come back, with noise
            return self.components_ + self.noise * self.rng.normal(size=(6, 180))
        q, r = np.linalg.qr(self.rng.normal(size=(6, 6)))
        _, values, right = np.linalg.svd(self.components_, full_matrices=False)
        return (q * np.sign(np.diag(r))) @ (values[:, None] * right)


def test_the_null_of_split_halves_is_that_of_maps_which_do_not_come_back():
    def above(noise, n):
        metrics = [reproducibility(Mixed(seed, noise), None, 0, 3, sizes=()).metrics for seed in range(n)]
        return np.mean([(one["split_half_r"] > one["split_half_null"]).mean() for one in metrics])

    assert above(None, 20) <= 0.10  # 5 %, and 120 maps that depend on each other
    assert above(0.3, 5) >= 0.95
