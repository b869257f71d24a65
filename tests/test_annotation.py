"""Annotation finds simulated properties of networks and nothing in noise; the text is the unit of inference."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import signal, stats
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from lmri.exceptions import DataWarning
from lmri.networks.annotation import (
    TABLE_TEXT,
    UNCLEAR,
    Annotation,
    annotate,
    confound_correlations,
    decode,
    enrichment,
    suggest_label,
    token_features,
    top_tokens,
)
from lmri.networks.annotation.decoding import _folds, _predictors
from lmri.networks.annotation.enrichment import _welch
from lmri.networks.annotation.reading import exchange_time_courses, gather, reverse_time_courses, without_position
from lmri.storage import read_table, write_table
from tolerances import rounding

FIRST, LAST, NUMBER = 900, 901, 902
WORDS = {FIRST: " Start", LAST: ".", NUMBER: " 42"}


def texts(rng, n_texts=40, shortest=30, longest=70, n_types=12, kinds=("code", "news")):
    """Generate bursty texts of two kinds with equal beginnings and ends, in two runs; only the first has numbers."""
    parts = []
    for number in range(n_texts):
        n, kind = int(rng.integers(shortest, longest)), kinds[number % len(kinds)]
        ids = rng.choice(n_types, n, p=rng.dirichlet(np.full(n_types, 0.5)))
        if kind == kinds[0]:
            ids[rng.random(n) < 0.1] = NUMBER
        ids[0], ids[-1] = FIRST, LAST
        columns = {"trial_type": kind, "text_id": f"{kind}-{number:05d}", "token_id": ids}
        parts.append(pd.DataFrame(columns).assign(position=np.arange(1, n + 1)))
    for part in parts:
        part["token"] = [WORDS.get(one, f" w{chr(97 + one)}" if one < 900 else "") for one in part["token_id"]]
    half = n_texts // 2
    return [pd.concat(parts[:half], ignore_index=True), pd.concat(parts[half:], ignore_index=True)]


def noise(rng, events, n_networks, rho=0.9, trend=0.0, kind=0.0, skewed=False):
    """Simulate autocorrelated time courses, independent of tokens and related at most to position and kind of text."""

    def course(table):
        white = rng.normal(size=(len(table) + 100, n_networks))
        values = signal.lfilter([1], [1, -rho], white, axis=0)[100:] * np.sqrt(1 - rho**2)
        values = np.exp(values) if skewed else values
        place = np.arange(len(table))
        values = values * (1 + trend * np.exp(-place / 3))[:, None] + trend * np.log1p(place)[:, None]
        return values + kind * (table["trial_type"].iloc[0] == "code")

    return [np.concatenate([course(table) for _, table in run.groupby("text_id", sort=False)]) for run in events]


def assert_uniform(p):
    """Assert that p is below 0.05, and below 0.2, as often as expected by chance."""
    for level in (0.05, 0.2):
        low, high = stats.binom.interval(0.999, len(p), level)
        assert low <= (p <= level).sum() <= high, ((p <= level).mean(), level)


# -- top tokens -------------------------------------------------------------------------------------------------------


def test_top_tokens_come_with_the_context_of_their_own_text():
    events = [
        pd.DataFrame(
            {
                "text_id": ["a", "a", "a", "b", "b", "c"],
                "token": ["one", " two", " three", "four", " five", "six"],
                "token_id": range(6),
                "position": [1, 2, 3, 1, 2, 1],
                "trial_type": "news",
            }
        )
    ]
    found = top_tokens([np.array([[0.0, 0, 9, 5, -1, -8]]).T], events, 0, n=2)
    assert found["token"].tolist() == [" three", "four", "six", " five"]
    assert found["side"].tolist() == ["positive"] * 2 + ["negative"] * 2
    assert found["before"].tolist() == ["one two", "", "", "four"]
    assert found["after"].tolist() == ["", " five", "", ""]
    assert found["z"].iloc[0] == pytest.approx((9 - 5 / 6) / np.std([0, 0, 9, 5, -1, -8]))
    assert top_tokens([np.array([[0.0, 0, 9, 5, -1, -8]]).T], events, 0, n=1, width=1)["before"].iloc[0] == " two"


# -- nulls ------------------------------------------------------------------------------------------------------------


def test_whole_time_courses_are_exchanged_within_kinds_position_by_position():
    rng = np.random.default_rng(0)
    events = texts(rng)
    reading = gather(noise(rng, events, 1), events)
    null = exchange_time_courses(reading)
    slots = null.draw(50, rng)
    for draw in slots:
        source = null.sources[draw[reading.text], np.arange(len(reading.text))]
        given = reading.text[source[reading.starts[:-1]]]
        assert sorted(given) == list(range(reading.n_texts))  # every time course is given to one text
        assert (reading.kinds[given] == reading.kinds).all()
        assert (reading.text[source] == given[reading.text]).all()  # and to that text alone
        reached = reading.place < reading.lengths[given][reading.text]
        assert (reading.place[source] == reading.place)[reached].all()
        assert (2 * reading.place[source] + 2 >= reading.lengths[reading.text[source]])[~reached].all()
    own = null.sources[null.own_slot[reading.text], np.arange(len(reading.text))]
    assert (own == np.arange(len(reading.text))).all()
    assert len(np.unique(slots, axis=0)) == 50


def test_time_courses_are_read_backwards_text_by_text():
    rng = np.random.default_rng(0)
    events = texts(rng)
    reading = gather(noise(rng, events, 1), events)
    _, back = reverse_time_courses(reading).sources
    for first, last in pairwise(reading.starts):
        assert back[first:last].tolist() == list(range(first, last))[::-1]


# -- enrichment -------------------------------------------------------------------------------------------------------


def test_tokens_are_not_enriched_in_noise_that_is_autocorrelated_skewed_and_follows_position_and_kind():
    rng = np.random.default_rng(0)
    events = texts(rng)
    found = enrichment(noise(rng, events, 250, trend=1.0, kind=2.0, skewed=True), events, n_permutations=300)
    tokens = found[found["feature"] == "token"]
    for token in (" wa", " wb", " wc", " 42"):
        assert_uniform(tokens.loc[tokens["value"] == token, "p"])
    # The first token of all texts is no more than its position, and the number no more than its kind.
    assert (tokens.loc[tokens["value"] == " Start", "p"] > 0.05).mean() > 0.9
    assert (tokens["q"] <= 0.05).sum() == 0
    # The kind, which is there, is found.
    kinds = found[(found["feature"] == "kind") & (found["value"] == "code")]
    assert (kinds["q"] <= 0.05).mean() > 0.9
    assert (kinds["effect"] > 0).all()


def test_shuffling_tokens_instead_of_texts_would_not_be_calibrated():
    rng = np.random.default_rng(0)
    events = texts(rng)
    courses = noise(rng, events, 100)
    ids = np.concatenate([table["token_id"] for table in events])
    stacked = np.concatenate(courses)
    p = stats.ttest_ind(stacked[ids == 0], stacked[ids != 0]).pvalue
    assert (p < 0.05).mean() > 0.2


def test_one_planted_token_among_many_is_found_with_few_permutations():
    rng = np.random.default_rng(1)
    events = texts(rng, n_types=60)
    courses = noise(rng, events, 5)
    for course, table in zip(courses, events, strict=True):
        course[table["token_id"] == 3, 2] += 1.5
        course[table["token_id"] == 4, 1] -= 1.5
    found = enrichment(courses, events, n_permutations=100, networks=list("abcde"))
    significant = found[found["q"] <= 0.05]
    assert sorted(zip(significant["network"], significant["value"], strict=True)) == [("b", " we"), ("c", " wd")]
    assert np.sign(significant["effect"]).tolist() == [-1, 1]
    row = significant[significant["network"] == "c"].iloc[0]
    ids = np.concatenate([table["token_id"] for table in events])
    names = np.concatenate([table["text_id"] for table in events])
    assert (row["n_volumes"], row["n_texts"]) == ((ids == 3).sum(), len(set(names[ids == 3])))
    assert row["effect"] == pytest.approx(1.2, abs=2 / np.sqrt(row["n_texts"]))  # 2 standard errors
    # A hundred permutations cannot tell one among 300 tests; those that were needed were added.
    assert row["p"] < 1 / 101


def test_few_permutations_give_the_p_of_many():
    rng = np.random.default_rng(2)
    events = texts(rng)
    courses = noise(rng, events, 4)
    for course, table in zip(courses, events, strict=True):
        course[table["token_id"] == 3, 2] += 0.35
    many, few = (enrichment(courses, events, n_permutations=n, random_state=n) for n in (20_000, 2000))
    np.testing.assert_allclose(few["p"], many["p"], atol=4 * 0.5 / np.sqrt(2000))  # 4 standard errors of a share


def test_a_token_in_fewer_texts_than_asked_for_is_not_tested():
    rng = np.random.default_rng(0)
    events = texts(rng, n_texts=8)
    events[0].loc[5, ["token", "token_id"]] = [" once", 77]
    courses = noise(rng, events, 2)
    assert " once" not in set(enrichment(courses, events, n_permutations=10)["value"])
    assert " once" in set(enrichment(courses, events, n_permutations=10, min_texts=1)["value"])
    two = enrichment(courses, events, n_permutations=10, max_types=2)
    assert two.loc[two["feature"] == "token", "value"].nunique() == 2


def test_kinds_are_not_told_apart_by_the_length_of_their_texts():
    rng = np.random.default_rng(3)
    events = [
        table[(table["trial_type"] == "news") | (table["position"] <= 15)].reset_index(drop=True)
        for table in texts(rng)
    ]
    courses = noise(rng, events, 300, rho=0.7, trend=1.0)
    found = enrichment(courses, events, n_permutations=300, max_types=1)
    for feature in ("kind", "kind_activity"):
        assert_uniform(found.loc[(found["feature"] == feature) & (found["value"] == "code"), "p"])
    # Without taking the course over positions out, nearly all would differ.
    stacked, name = np.concatenate(courses), np.concatenate([table["text_id"] for table in events])
    means = pd.DataFrame(stacked).groupby(name).mean()
    is_code = means.index.str.startswith("code")
    assert (stats.ttest_ind(means[is_code], means[~is_code]).pvalue < 0.05).mean() > 0.5


def test_the_statistic_of_kinds_is_welchs_t():
    values, is_a = np.random.default_rng(0).normal(size=(20, 3)) + 5, np.arange(20) < 6
    t, difference = _welch(np.array([is_a, ~is_a], dtype=float), values)
    expected = stats.ttest_ind(values[is_a], values[~is_a], equal_var=False).statistic
    np.testing.assert_allclose(t, [expected, -expected])
    np.testing.assert_allclose(difference[0], values[is_a].mean(axis=0) - values[~is_a].mean(axis=0))


def test_kinds_cannot_differ_in_mean_where_runs_were_centred_and_can_in_activity():
    rng = np.random.default_rng(4)
    mixed = texts(rng)
    joined = pd.concat(mixed, ignore_index=True)
    events = [part.reset_index(drop=True) for _, part in joined.groupby("trial_type")]
    courses = noise(rng, events, 2)
    courses[0][:, 1] *= 3
    found = enrichment([course - course.mean(axis=0) for course in courses], events, n_permutations=200)
    assert found.loc[found["feature"] == "kind", ["p", "q"]].isna().all(axis=None)
    active = found[(found["feature"] == "kind_activity") & (found["q"] <= 0.05)]
    assert set(zip(active["network"], active["value"], strict=True)) == {("network-01", "code"), ("network-01", "news")}
    assert enrichment(courses, events, n_permutations=200).loc[lambda t: t["feature"] == "kind", "p"].notna().all()


def test_a_text_that_comes_twice_counts_once():
    rng = np.random.default_rng(5)
    events = texts(rng, n_texts=10)
    courses = noise(rng, events, 2)
    again = events[0].assign(text_id="copy-" + events[0]["text_id"])
    with pytest.warns(DataWarning, match="5 of 15 texts"):
        twice = enrichment([*courses, courses[0]], [*events, again], n_permutations=50)
    once = enrichment(courses, events, n_permutations=50)
    pd.testing.assert_frame_equal(twice, once)


# -- features and decoding --------------------------------------------------------------------------------------------


def test_features_of_tokens():
    tokens = [" The", "==", " ", "x1", "½", "ÉTÉ", "no", "…"]
    events = pd.DataFrame({"token": tokens, "token_id": [1, 2, 3, 4, 5, 6, 1, 8], "position": range(8)})
    found = token_features(events)
    assert found["is_punctuation"].tolist() == [0, 1, 0, 0, 0, 0, 0, 1]
    assert found["has_digit"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    assert found["is_capitalized"].tolist() == [1, 0, 0, 0, 0, 1, 0, 0]
    assert found["token_length"].tolist() == [3, 2, 0, 2, 1, 3, 2, 1]
    assert found["log_frequency"].iloc[[0, 1]].tolist() == pytest.approx([np.log(2 / 8), np.log(1 / 8)])
    assert "surprisal" not in found
    assert token_features(events.assign(surprisal=1.0))["surprisal"].eq(1).all()


def test_nothing_is_decoded_from_autocorrelated_noise():
    rng = np.random.default_rng(6)
    events = [table.assign(surprisal=rng.exponential(size=len(table))) for table in texts(rng)]
    courses = noise(rng, events, 80, trend=1.0, skewed=True)
    found = decode(courses, events, n_permutations=200)
    for feature in ("log_frequency", "surprisal", "has_digit"):
        assert_uniform(found.loc[found["feature"] == feature, "p"])
    # Position is there in all of them.
    assert (found.loc[found["feature"] == "position", "q"] <= 0.05).all()
    auc = found.loc[found["feature"] == "has_digit", "score"]
    assert abs(auc.mean() - 0.5) < 0.02
    assert not (decode(noise(rng, events, 20), events)["q"] <= 0.05).any()


def test_position_is_not_decoded_from_time_courses_that_wander():
    rng = np.random.default_rng(7)
    events = texts(rng, shortest=20, longest=40)
    found = decode(noise(rng, events, 80, rho=0.98), events, n_permutations=200)
    assert_uniform(found.loc[found["feature"] == "position", "p"])


def test_planted_features_are_decoded_also_from_either_side():
    rng = np.random.default_rng(8)
    events = [table.assign(surprisal=rng.exponential(size=len(table))) for table in texts(rng)]
    courses = noise(rng, events, 4, rho=0.5)
    for course, table in zip(courses, events, strict=True):
        course[:, 0] += 2 * (table["token_id"] == NUMBER)
        course[:, 1] += np.sign(course[:, 1]) * 2 * (table["token_id"] == NUMBER)
        course[:, 2] -= table["surprisal"]
    found = decode(courses, events, networks=["digits", "both", "surprisal", "nothing"], n_permutations=200)
    significant = found[found["q"] <= 0.05].set_index(["network", "feature"])
    best = {name: rows.sort_values("r")["feature"].iloc[-1] for name, rows in found.groupby("network")}
    assert (best["digits"], best["both"], best["surprisal"]) == ("has_digit", "has_digit", "surprisal")
    assert significant.loc[("digits", "has_digit"), "score"] > 0.85
    assert significant.loc[("both", "has_digit"), "score"] > 0.8
    assert abs(significant.loc[("both", "has_digit"), "correlation"]) < 0.15
    assert significant.loc[("surprisal", "surprisal"), "correlation"] < -0.5
    assert "nothing" not in significant.index


def test_r_is_that_of_scikit_learns_ridge_in_texts_held_out():
    rng = np.random.default_rng(9)
    events = texts(rng, n_texts=12)
    courses = noise(rng, events, 1)
    joined, z = pd.concat(events, ignore_index=True), np.concatenate(courses)[:, 0]
    z = (z - z.mean()) / z.std()
    target = np.log1p(joined["position"].to_numpy(dtype=float))
    frame = pd.DataFrame({"z": z, "size": np.abs(z), "y": target})
    centred = frame - frame.groupby(joined["text_id"].to_numpy()).transform("mean")
    centred["y"] /= centred["y"].std(ddof=0)
    reading = gather(courses, events)
    fold = _folds(reading, 4)[reading.text]
    r = []
    for number in range(4):
        train = fold != number
        model = Ridge(alpha=1.0, fit_intercept=False).fit(centred.loc[train, ["z", "size"]], centred.loc[train, "y"])
        for text in np.unique(reading.text[~train]):
            own = centred[reading.text == text]
            r.append(np.corrcoef(model.predict(own[["z", "size"]]), own["y"])[0, 1])
    found = decode(courses, events, n_permutations=1, n_folds=4)
    assert found.loc[found["feature"] == "position", "r"].iloc[0] == pytest.approx(np.mean(r))


def test_the_score_of_a_binary_feature_is_scikit_learns_roc_auc_in_texts_held_out():
    rng = np.random.default_rng(13)
    events = texts(rng, n_texts=12, kinds=("code",))
    courses = [np.round(course, 1) for course in noise(rng, events, 1)]  # with ties
    found = decode(courses, events, n_permutations=1, n_folds=3).set_index("feature")
    reading = gather(courses, events)
    fold = _folds(reading, 3)[reading.text]
    x = _predictors(reading, without_position(reading, reading.z))[:, 0]
    truth = reading.events["token_id"].to_numpy() == NUMBER
    areas = []
    for number in range(3):
        model = LogisticRegression(tol=1e-10).fit(x[fold != number], truth[fold != number])
        for text in np.unique(reading.text[fold == number]):
            own = reading.text == text
            if truth[own].any():
                areas.append(roc_auc_score(truth[own], model.decision_function(x[own])))
    assert found.loc["has_digit", "score"] == pytest.approx(np.mean(areas), abs=1e-3)  # 2 of 2,700 pairs


def test_a_feature_that_too_few_texts_have_is_not_tested():
    rng = np.random.default_rng(0)
    events = texts(rng, n_texts=20)
    events[0].loc[3, ["token", "token_id"]] = ["Once", 77]
    found = decode(noise(rng, events, 1), events, n_permutations=10).set_index("feature")
    assert found.loc["is_capitalized", "n_texts"] == 20  # each text starts with a capital
    few = [table[~table["token"].isin([" Start"])].reset_index(drop=True) for table in events]
    found = decode(noise(rng, few, 1), few, n_permutations=10).set_index("feature")
    assert found.loc["is_capitalized", ["p", "q", "score"]].isna().all()
    assert np.isfinite(found.loc["has_digit", "p"])


def test_confounds_are_correlations_within_texts():
    rng = np.random.default_rng(10)
    events = texts(rng)
    offsets = [table["text_id"].map(lambda name: 50.0 * (hash(name) % 7)).to_numpy() for table in events]
    courses = [
        np.column_stack([np.log1p(table["position"]) + offset, -table["token"].str.strip().str.len() + offset])
        for table, offset in zip(events, offsets, strict=True)
    ]
    found = confound_correlations(courses, events, ["position", "length"])
    assert found["r_position"].iloc[0] == pytest.approx(1)
    assert found["r_token_length"].iloc[1] == pytest.approx(-1)
    assert abs(found["r_position"].iloc[1]) < 0.5


# -- labels and the whole ---------------------------------------------------------------------------------------------


def rows(**columns):
    return pd.DataFrame(columns)


def test_labels_name_significant_results_only():
    enriched = rows(
        network="a",
        feature=["token", "token", "token", "kind", "kind"],
        value=[" return", "=", " big", "code", "news"],
        effect=[2.0, 1.0, 5.0, 1.0, 2.0],
        q=[0.01, 0.05, 0.06, 0.02, np.nan],
    )
    decoded = rows(
        network="a",
        feature=["has_digit", "position", "is_punctuation"],
        r=[0.5, 0.3, 0.05],
        correlation=[0.5, -0.3, 0.05],
        q=[0.01, 0.01, 0.01],
    )
    assert suggest_label(enriched, decoded.head(1), "a") == "digits; 'return', '='; code"
    assert suggest_label(enriched, decoded, "a") == "digits; early tokens; 'return', '='; code"
    assert suggest_label(enriched.assign(q=0.2), decoded.assign(q=np.nan), "a") == UNCLEAR
    assert suggest_label(enriched, decoded, "b") == UNCLEAR
    low = enriched.assign(effect=-enriched["effect"])
    assert suggest_label(low, decoded.assign(q=1.0), "a") == "low: 'return', '='; code"


@pytest.fixture(scope="module")
def annotated():
    rng = np.random.default_rng(11)
    events = texts(rng)
    courses = noise(rng, events, 3, rho=0.5)
    for course, table in zip(courses, events, strict=True):
        course[:, 1] += 3 * (table["token_id"] == NUMBER)
    return annotate(["noise", "numbers", "more noise"], courses, events, n_permutations=200)


def test_annotate_labels_what_was_planted_and_calls_noise_unclear(annotated):
    assert annotated.label("numbers").startswith("digits")
    assert "'42'" in annotated.label("numbers")
    assert annotated.label("noise") == annotated.label("more noise") == UNCLEAR
    assert any("surprisal" in note for note in annotated.info["notes"])
    assert (annotated.top.loc[annotated.top["network"] == "numbers", "token"].head(5) == " 42").all()


def test_a_label_can_be_edited_and_travels(annotated, tmp_path):
    edited = annotated.with_label("noise", "  my favourite ")
    assert (edited.label("noise"), annotated.label("noise")) == ("my favourite", UNCLEAR)
    assert edited.labels["suggested"].tolist() == annotated.labels["suggested"].tolist()
    tables = {}
    for name, table in edited.tables.items():
        write_table(tmp_path / f"{name}.tsv", table)
        tables[name] = read_table(tmp_path / f"{name}.tsv", TABLE_TEXT)
    again = Annotation.from_tables(tables, json.loads(json.dumps(edited.info)))
    for name, table in again.tables.items():
        pd.testing.assert_frame_equal(table, edited.tables[name], check_dtype=False)
    content = json.loads(json.dumps(again.to_dict(), allow_nan=False))
    assert content == json.loads(json.dumps(edited.to_dict(), allow_nan=False))
    assert content["networks"][0]["label"] == "my favourite"
    assert content["networks"][1]["enriched"][0]["value"] == " 42"
    with pytest.raises(KeyError, match="more noise"):
        edited.with_label("nobody", "x")
    with pytest.raises(ValueError, match="at least one word"):
        edited.with_label("noise", " ")


def test_annotation_is_the_same_whatever_the_sign_and_scale_of_a_network():
    rng = np.random.default_rng(12)
    events = texts(rng, n_texts=16)
    courses = noise(rng, events, 2)
    plain = enrichment(courses, events, n_permutations=99)
    turned = enrichment([course * [-3, 5] + 7 for course in courses], events, n_permutations=99)
    np.testing.assert_allclose(plain["p"], turned["p"])
    first = plain["network"] == "network-00"
    tokens = plain["feature"] == "token"
    close = rounding(plain["effect"], sum(map(len, courses)))
    np.testing.assert_allclose(plain["effect"][first & tokens], -turned["effect"][first & tokens], atol=close)


def test_a_constant_network_is_unclear():
    rng = np.random.default_rng(0)
    events = texts(rng, n_texts=16)
    found = annotate(["flat"], [np.full((len(table), 1), 0.5) for table in events], events, n_permutations=50)
    assert found.label("flat") == UNCLEAR
    assert not (found.enrichment["q"] <= 0.05).any()


def test_wrong_input_is_refused():
    rng = np.random.default_rng(0)
    events = texts(rng, n_texts=4)
    courses = noise(rng, events, 2)
    with pytest.raises(ValueError, match="1 time courses and 2 tables"):
        enrichment(courses[:1], events)
    with pytest.raises(ValueError, match="run 1 have shape"):
        enrichment(courses[::-1], events)
    with pytest.raises(ValueError, match="lack token_id"):
        enrichment(courses, [table.drop(columns="token_id") for table in events])
    with pytest.raises(ValueError, match="in several places"):
        enrichment(courses, [table.assign(text_id="a") for table in events])
    with pytest.raises(ValueError, match="NaN"):
        enrichment([course * np.nan for course in courses], events)
    with pytest.raises(ValueError, match="1 different names for 2"):
        annotate(["a", "a"], courses, events)
    with pytest.raises(ValueError, match="n_permutations is 0"):
        decode(courses, events, n_permutations=0)
    with pytest.raises(IndexError, match="network is 2"):
        top_tokens(courses, events, 2)
