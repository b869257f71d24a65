"""Connectivity equals numpy without shrinkage, tests count texts, and spectra find simulated rhythms."""

import numpy as np
import pytest
from scipy import signal, stats

from lmri.exceptions import DataWarning
from lmri.networks.connectivity import _welch, connectivity, fisher_z
from lmri.networks.spectra import spectra
from tolerances import rounding


def red(rng, n_volumes, n_networks, rho=0.9):
    """Simulate independent AR(1) time courses."""
    noise = rng.normal(size=(n_volumes + 200, n_networks))
    return signal.lfilter([1], [1, -rho], noise, axis=0)[200:]


def in_texts(rng, make, n_texts=30, n_volumes=60, n_runs=2):
    """Simulate runs of texts: time courses, and the text id of every volume."""
    courses = [make(rng, n_volumes) for _ in range(n_texts)]
    ids = [[f"news-{number:03d}"] * n_volumes for number in range(n_texts)]
    half = n_texts // n_runs
    runs = [slice(first, first + half) for first in range(0, n_texts, half)]
    return [np.concatenate(courses[run]) for run in runs], [np.concatenate(ids[run]) for run in runs]


def test_correlations_are_numpys_and_averaged_as_fishers_z():
    rng = np.random.default_rng(0)
    courses = [rng.normal(size=(n, 4)) @ rng.normal(size=(4, 4)) + 7 for n in (50, 80)]
    found = connectivity(courses)
    for matrix, course in zip(found.runs, courses, strict=True):
        np.testing.assert_allclose(matrix, np.corrcoef(course.T), atol=rounding(1.0, len(course)))
    expected = np.tanh(np.mean([np.arctanh(np.corrcoef(course.T)[0, 1]) for course in courses]))
    assert found.mean[0, 1] == pytest.approx(expected)
    assert (np.diag(found.mean) == 1).all()
    assert np.isnan(np.diag(fisher_z(found.runs[0]))).all()


def test_partial_correlation_tells_a_chain_from_a_direct_link():
    rng = np.random.default_rng(0)
    a = rng.normal(size=20000)
    b = a + 0.5 * rng.normal(size=20000)
    c = b + 0.5 * rng.normal(size=20000)
    chain = np.column_stack([a, 1000 * b, c])  # the scale of a network must not matter
    plain, partial = (connectivity([chain], kind).runs[0] for kind in ("correlation", "partial correlation"))
    assert plain[0, 2] > 0.75
    assert abs(partial[0, 2]) < 0.03
    precision = np.linalg.inv(np.corrcoef(chain.T))
    expected = -precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])
    assert partial[0, 1] == pytest.approx(expected, abs=1 / np.sqrt(20000))  # shrinkage decreases faster than 1 / √n
    assert connectivity([chain[:20]], "partial correlation").runs[0] == pytest.approx(
        connectivity([chain[:20] * [1, 1e-6, 1e6]], "partial correlation").runs[0]
    )


def test_a_texts_matrix_knows_only_its_own_tokens():
    rng = np.random.default_rng(0)
    courses, texts = in_texts(rng, lambda rng, n: rng.normal(size=(n, 3)) + 20 * rng.normal())
    found = connectivity(courses, texts=texts)
    assert found.runs[0][0, 1] > 0.9  # texts differ in their mean, in all networks alike
    assert abs(found.mean[0, 1]) < 0.1
    np.testing.assert_allclose(found.texts[1], np.corrcoef(courses[0][60:120].T), atol=rounding(1.0, 60))


def test_p_is_uniform_over_texts_of_independent_red_noise_and_would_not_be_over_tokens():
    rng = np.random.default_rng(1)
    courses, texts = in_texts(rng, lambda rng, n: red(rng, n, 40) * np.exp(rng.normal()), n_texts=16)
    found = connectivity(courses, texts=texts).table
    low, high = stats.binom.interval(0.999, len(found), 0.05)
    assert low <= (found["p"] < 0.05).sum() <= high
    assert (found["q"] > 0.05).all()
    stacked = np.concatenate(courses)
    over_tokens = [stats.pearsonr(stacked[:, 2 * pair], stacked[:, 2 * pair + 1])[1] for pair in range(20)]
    assert np.mean(np.array(over_tokens) < 0.05) > 0.3


def test_planted_coupling_is_found_alone():
    def make(rng, n):
        course = red(rng, n, 6)
        course[:, 1] -= 0.6 * course[:, 0]
        return course

    courses, texts = in_texts(np.random.default_rng(2), make)
    table = connectivity(courses, texts=texts, names=list("abcdef")).table
    best = table.loc[table["p"].idxmin()]
    assert (best["first"], best["second"]) == ("a", "b")
    assert best["r"] < -0.3
    assert best["ci_low"] < best["r"] < best["ci_high"] < 0
    assert (table["q"] <= 0.05).sum() == 1


def test_short_texts_are_left_out_and_counted_and_few_are_not_tested():
    rng = np.random.default_rng(0)
    courses = [rng.normal(size=(5 * 30 + 10, 2))]
    texts = [["a"] * 30 + ["b"] * 30 + ["c"] * 30 + ["d"] * 30 + ["e"] * 30 + ["f"] * 10]
    with pytest.warns(DataWarning, match="1 of 6 texts"):
        found = connectivity(courses, texts=texts)
    assert (found.n_left_out, found.text_ids) == (1, tuple("abcde"))
    assert found.table["p"].isna().all()
    assert found.table["q"].isna().all()
    assert np.isfinite(found.table["r"]).all()


def test_a_constant_network_is_missing_and_leaves_the_others_alone():
    course = np.random.default_rng(0).normal(size=(100, 3))
    course[:, 1] = 0.1
    for kind in ("correlation", "partial correlation"):
        matrix = connectivity([course], kind).runs[0]
        assert np.isnan(matrix[1, [0, 2]]).all()
        assert np.isfinite(matrix[0, 2])


def test_contrast_finds_a_coupling_that_one_set_has_and_nothing_else():
    count = iter(range(100))

    def make(rng, n):
        course = red(rng, n, 5, 0.5)
        if next(count) < 15:
            course[:, 3] += course[:, 2]
        return course

    courses, texts = in_texts(np.random.default_rng(3), make)
    found = connectivity(courses, texts=texts)
    ids = found.text_ids
    table = found.contrast(ids[:15], ids[15:], n_permutations=2000)
    best = table.loc[table["p"].idxmin()]
    assert (best["first"], best["second"]) == ("network-02", "network-03")
    assert best["difference"] > 0.3
    assert (table["q"] <= 0.05).sum() == 1
    swapped = found.contrast(ids[15:], ids[:15], n_permutations=2000)
    np.testing.assert_allclose(swapped["difference"], -table["difference"])


def test_contrast_of_like_texts_of_unlike_length_is_calibrated():
    rng = np.random.default_rng(4)
    lengths = [25] * 8 + [150] * 20
    course = np.concatenate([red(rng, n, 30, 0.8) for n in lengths])
    texts = [np.repeat(np.arange(len(lengths)), lengths).astype(str)]
    found = connectivity([course], texts=texts)
    p = found.contrast(found.text_ids[:8], found.text_ids[8:], n_permutations=1000)["p"]
    low, high = stats.binom.interval(0.999, len(p), 0.05)
    assert low <= (p < 0.05).sum() <= high


def test_the_statistic_of_contrast_is_welchs_t():
    values, is_a = np.random.default_rng(0).normal(size=(20, 3)) + 5, np.arange(20) < 6
    expected = stats.ttest_ind(values[is_a], values[~is_a], equal_var=False).statistic
    np.testing.assert_allclose(_welch(is_a[None], values)[0], expected)


def test_contrast_refuses_what_it_cannot_test():
    rng = np.random.default_rng(0)
    courses, texts = in_texts(rng, lambda rng, n: rng.normal(size=(n, 2)), n_texts=8)
    found = connectivity(courses, texts=texts)
    with pytest.raises(ValueError, match="at least 4"):
        found.contrast(found.text_ids[:3], found.text_ids[3:])
    with pytest.raises(ValueError, match="in both sets"):
        found.contrast(found.text_ids[:4], found.text_ids[3:])
    with pytest.raises(ValueError, match=r"8 of 8 texts are unknown.*Pass texts="):
        connectivity(courses).contrast(found.text_ids[:4], found.text_ids[4:])
    with pytest.raises(ValueError, match=r"1 of 9 texts are unknown \(first: 'mistyped'"):
        found.contrast([*found.text_ids[:4], "mistyped"], found.text_ids[4:])


def test_contrast_counts_only_texts_that_are_long_enough():
    lengths = [30] * 10 + [10]
    course = np.random.default_rng(0).normal(size=(sum(lengths), 2))
    texts = [np.repeat(np.arange(len(lengths)), lengths).astype(str)]
    with pytest.warns(DataWarning, match="1 of 11 texts have fewer than 20"):
        found = connectivity([course], texts=texts)
    assert found.left_out_ids == ("10",)
    table = found.contrast(list("01234"), [*"56789", "10"], n_permutations=10)
    assert set(table["n_a"]) == set(table["n_b"]) == {5}


def test_wrong_input_is_refused():
    course = np.ones((30, 2))
    with pytest.raises(ValueError, match="kind is 'tangent'"):
        connectivity([course], "tangent")
    with pytest.raises(ValueError, match="run 2"):
        connectivity([course, course[:, :1]])
    with pytest.raises(ValueError, match="NaN"):
        connectivity([course * np.nan])
    with pytest.raises(ValueError, match=r"\[29\]"):
        connectivity([course], texts=[["a"] * 29])
    with pytest.raises(ValueError, match="'a' is repeated"):
        connectivity([course, course], texts=[["a"] * 30, ["a"] * 30])


# -- spectra ----------------------------------------------------------------------------------------------------------


def test_white_noise_is_flat_and_red_noise_is_not_and_neither_has_a_peak():
    rng = np.random.default_rng(5)
    course = np.hstack([rng.normal(size=(60000, 10)), red(rng, 60000, 10), red(rng, 60000, 10, -0.6)])
    found = spectra([course], window=64)
    close = 5 / np.sqrt(60000 / 64)  # 5 standard errors of the mean of 900 windows
    np.testing.assert_allclose(found.power[:10, 2:-1], 2, rtol=close)
    assert (found.power[10:20, 2] > 20 * found.power[10:20, -2]).all()
    assert (found.power[20:, 2] < 0.2 * found.power[20:, -2]).all()
    assert np.isnan(found.peaks).all()


def test_noise_in_texts_rarely_has_a_peak():
    rng = np.random.default_rng(6)
    n_false = 0
    for rho in (0.0, 0.5, 0.9, 0.97):
        for _ in range(15):
            courses, texts = in_texts(rng, lambda rng, n, rho=rho: red(rng, n, 4, rho))
            n_false += bool(np.isfinite(spectra(courses, texts).peaks).any())
    assert n_false <= stats.binom.isf(0.001, 60, 0.05)


@pytest.mark.parametrize("frequency", [0.11, 0.25, 0.4])
def test_a_planted_rhythm_is_found_within_the_resolution_in_red_noise(frequency):
    def make(rng, n):
        course = red(rng, n, 3)
        course[:, 1] += 1.5 * np.sin(2 * np.pi * (frequency * np.arange(n) + rng.random()))
        return course

    courses, texts = in_texts(np.random.default_rng(7), make)
    found = spectra(courses, texts)
    assert found.window == 32
    assert found.n_segments == 30
    assert abs(found.peaks[1] - frequency) <= 1 / found.window
    assert np.isnan(found.peaks[[0, 2]]).all()
    # Red noise is largest at the lowest frequency all the same: the largest power is no peak.
    assert found.power[1].argmax() < 3


def test_power_is_welchs_of_each_text_averaged_over_texts():
    rng = np.random.default_rng(8)
    lengths = (40, 100, 20)
    course = rng.normal(size=(160, 2))
    texts = [np.repeat(["a", "b", "c"], lengths)]
    found = spectra([course], texts, window=32)
    z = (course - course.mean(axis=0)) / course.std(axis=0)
    expected = np.mean([signal.welch(part, nperseg=32, axis=0)[1] for part in (z[:40], z[40:140])], axis=0)
    np.testing.assert_allclose(found.power, expected.T)
    assert (found.n_segments, found.n_left_out) == (2, 1)
    assert found.frequencies[[0, -1]].tolist() == [0, 0.5]


def test_peaks_are_missing_where_all_is_too_short():
    found = spectra([np.random.default_rng(0).normal(size=(10, 3))])
    assert found.n_left_out == 1
    assert found.power.shape == (3, 0)
    assert np.isnan(found.peaks).all()
    assert found.peaks.shape == (3,)
