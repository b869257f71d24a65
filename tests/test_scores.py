"""The summary is a function of the rows, and each value has the stated definition."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from lmri.exceptions import DataWarning
from lmri.lesions.scores import SUMMARY_COLUMNS, Scores, TaskInfo, columns
from tolerances import rounding

LOSS = TaskInfo("loss", "loglikelihood", "nats_per_token", higher_is_better=False, per_token=True)
ACCURACY = TaskInfo("accuracy", "loglikelihood", "accuracy", higher_is_better=True, per_token=False)


def _scores(values, tasks=(LOSS,), n_tokens=(10, 20, 30, 10, 10, 20), clusters="abcdef", seed=0):
    """Build scores from item values by condition; names such as ``a/1`` are controls of ``a``."""
    items, conditions = [], []
    for name, own in values.items():
        control_of = name.split("/")[0] if "/" in name else ""
        kind = "control" if control_of else "intact" if name == "intact" else "network"
        conditions.append(
            {"condition": name, "kind": kind, "network": "" if kind == "intact" else name, "n_neurons": 5,
             "control_of": control_of, "control_family": "layer+size" if control_of else "", "draw": -1}
        )  # fmt: skip
        for task in tasks:
            for number, value in enumerate(own):
                items.append(
                    {"condition": name, "task": task.name, "item": number, "cluster": clusters[number],
                     "n_tokens": n_tokens[number], "value": value}
                )  # fmt: skip
    return Scores(pd.DataFrame(items), pd.DataFrame(conditions), tasks, seed)


INTACT = np.array([1.0, 2.0, 3.0, 2.0, 1.0, 2.0])


def _with_controls(diff, control_diffs, tasks=(LOSS,)):
    values = {"intact": INTACT, "a": INTACT + diff}
    values |= {f"a/{number}": INTACT + one for number, one in enumerate(control_diffs)}
    return _scores(values, tasks)


def test_columns_are_fixed_and_intact_comes_first():
    summary = _with_controls(1.0, [0.1, 0.2]).summary()
    assert tuple(summary.columns) == SUMMARY_COLUMNS
    assert summary["condition"].tolist() == ["intact", "a"]


def test_every_computed_value_has_a_defined_column():
    """A value without a column would be dropped from the table without a message."""
    scores = _with_controls(1.0, [0.1, 0.2])
    computed = {name for row in scores._rows(LOSS, LOSS.metric) for name in row}
    assert {"value", "effect", "p", "effect_low"} <= computed <= set(SUMMARY_COLUMNS)


def test_columns_are_described_where_they_are_returned():
    for table, documented in (
        (columns.SUMMARY, Scores.summary),
        (columns.LABELS, Scores.label_counts),
        (columns.ITEMS, Scores),
        (columns.CONDITIONS, Scores),
    ):
        words = " ".join(documented.__doc__.split())
        for name, column in table.items():
            assert column.meaning.endswith(".")
            assert column.unit
            unit = "" if column.unit == columns.TEXT else f" ({column.unit})"
            assert f"``{name}``{unit} {column.meaning}" in words


def test_the_mean_weighs_tokens_or_items():
    weights = np.array([10, 20, 30, 10, 10, 20])
    summary = _with_controls(0.0, [], (LOSS, ACCURACY)).summary().set_index("task")
    assert np.isclose(summary.loc["loss", "value"].iloc[0], (INTACT * weights).sum() / weights.sum())
    assert np.isclose(summary.loc["accuracy", "value"].iloc[0], INTACT.mean())


def test_effect_is_what_a_lesion_does_beyond_its_controls():
    row = _with_controls(1.0, [0.1, 0.2, 0.3]).summary().iloc[1]
    assert np.isclose(row["diff"], 1.0)
    assert np.isclose(row["control_mean"], 0.2)
    assert np.isclose(row["effect"], 0.8)
    assert row["n_controls"] == 3


@pytest.mark.parametrize(
    ("task", "diff", "controls", "p"),
    [
        (LOSS, 1.0, [0.1, 0.2, 0.3], 1 / 4),  # worse than all: the floor, never 0
        (LOSS, 0.2, [0.1, 0.2, 0.3], 3 / 4),  # equally bad counts
        (LOSS, -1.0, [0.1, 0.2, 0.3], 1.0),  # an improvement is not an effect of a lesion
        (ACCURACY, -0.5, [-0.1, 0.0, 0.1], 1 / 4),  # lower is worse
        (ACCURACY, 0.5, [-0.1, 0.0, 0.1], 1.0),
    ],
)
def test_p_counts_controls_that_are_at_least_as_bad(task, diff, controls, p):
    assert np.isclose(_with_controls(diff, controls, (task,)).summary().iloc[1]["p"], p)


@pytest.mark.parametrize(("n", "given"), [(18, False), (19, True)])
def test_no_q_is_given_where_the_floor_makes_significance_impossible(n, given):
    scores = _with_controls(1.0, np.linspace(0, 0.5, n))
    assert np.isclose(scores.p_floor, 1 / (n + 1))
    assert np.isfinite(scores.summary().iloc[1]["q"]) == given


def test_q_is_adjusted_within_a_task():
    values = {"intact": INTACT}
    for name, diff in (("a", 1.0), ("b", 0.25), ("c", 0.0)):
        values[name] = INTACT + diff
        values |= {f"{name}/{number}": INTACT + one for number, one in enumerate(np.linspace(0.01, 0.5, 39))}
    scores = _scores(values, (LOSS, ACCURACY))
    summary = scores.summary()
    loss = summary[(summary["task"] == "loss") & (summary["condition"] != "intact")]
    assert np.allclose(loss["q"], [3 * 1 / 40, loss["p"].iloc[1] * 3 / 2, 1.0])
    # One network alone needs a floor of 0.05 / 3.
    assert scores.controls_needed == 59


def test_intervals_are_of_resampled_texts_and_hold_the_difference():
    rng = np.random.default_rng(0)
    n = 40
    intact, noise = rng.normal(2, 1, n), rng.normal(0.5, 0.2, n)
    clusters, tokens = [str(number) for number in range(n)], np.full(n, 10)
    row = _scores({"intact": intact, "a": intact + noise}, n_tokens=tokens, clusters=clusters).summary().iloc[1]
    # Paired over texts: the spread between texts, which is larger, cancels.
    error = noise.std(ddof=1) / np.sqrt(n)
    close = 0.3 * error  # 5 standard errors of the ends of an interval of 2,000 draws
    assert np.isclose(row["ci_low"], noise.mean() - 1.96 * error, atol=close)
    assert np.isclose(row["ci_high"], noise.mean() + 1.96 * error, atol=close)


def test_no_interval_is_given_for_a_handful_of_texts():
    short = {"intact": INTACT[:4], "a": INTACT[:4] + np.arange(4)}
    assert np.isnan(_scores(short).summary().iloc[1]["ci_low"])
    grouped = _scores({"intact": INTACT, "a": INTACT + np.arange(6)}, clusters="aabbcc")
    assert np.isnan(grouped.summary().iloc[1]["ci_low"])


def test_items_of_one_cluster_are_resampled_together():
    rng = np.random.default_rng(0)
    shift = np.repeat(rng.normal(0, 1, 10), 8)
    intact = np.zeros(80)
    one, tokens = [str(number) for number in range(80)], np.full(80, 10)
    alone = _scores({"intact": intact, "a": shift}, n_tokens=tokens, clusters=one).summary().iloc[1]
    together = _scores(
        {"intact": intact, "a": shift}, n_tokens=tokens, clusters=[str(number // 8) for number in range(80)]
    ).summary().iloc[1]  # fmt: skip
    assert together["ci_high"] - together["ci_low"] > 2 * (alone["ci_high"] - alone["ci_low"])


def test_answers_that_cannot_be_read_are_counted_and_not_scored():
    generated = TaskInfo("answers", "generate", "accuracy", higher_is_better=True, per_token=False)
    row = _scores({"intact": INTACT, "a": [1.0, np.nan, np.nan, 1.0, 0.0, 0.0]}, (generated,)).summary().iloc[1]
    assert np.isclose(row["unparseable"], 2 / 6)
    assert np.isclose(row["value"], 0.5)


def test_the_summary_is_the_same_every_time_and_whatever_the_order_of_rows():
    scores = _with_controls(1.0, np.linspace(0, 2, 25))
    shuffled = Scores(scores.items.sample(frac=1, random_state=0), scores.conditions, scores.tasks, scores.seed)
    pd.testing.assert_frame_equal(scores.summary(), scores.summary())
    pd.testing.assert_frame_equal(scores.summary(), shuffled.summary())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_broken_model_has_no_score_and_no_p(bad):
    values = {"intact": INTACT, "a": np.where(np.arange(6) == 2, bad, INTACT)}
    values |= {f"a/{number}": INTACT + number / 100 for number in range(20)}
    with pytest.warns(DataWarning, match="Under 'a' the model gives NaN"):
        row = _scores(values).summary().iloc[1]
    assert np.isnan(row["value"])
    assert np.isnan(row["p"])
    assert np.isnan(row["ci_low"])


def test_a_control_that_breaks_the_model_is_at_least_as_bad():
    values = {"intact": INTACT, "a": INTACT + 1.0, "a/0": INTACT * np.nan, "a/1": INTACT, "a/2": INTACT}
    assert np.isclose(_scores(values).summary().iloc[1]["p"], 2 / 4)


# -- metrics of labels ------------------------------------------------------------------------------------------------


def _classified(n=120, n_labels=3, n_clusters=30, seed=0, right=(("intact", 0.8), ("a", 0.5)), also=None, **info):
    """Make scores of labels, of which a share is right under each condition, and other tasks' columns are absent."""
    rng = np.random.default_rng(seed)
    names = [f"label-{number}" for number in range(n_labels)]
    true = rng.choice(names, n, p=np.arange(1, n_labels + 1) / (n_labels * (n_labels + 1) / 2))
    clusters = rng.integers(n_clusters, size=n).astype(str)
    items, conditions = [], []
    for name, share in right:
        control_of = name.split("/")[0] if "/" in name else ""
        kind = "control" if control_of else "intact" if name == "intact" else "network"
        conditions.append(
            {"condition": name, "kind": kind, "network": "" if kind == "intact" else name, "n_neurons": 5,
             "control_of": control_of, "control_family": "layer+size" if control_of else "", "draw": -1}
        )  # fmt: skip
        predicted = np.where(rng.random(n) < share, true, rng.choice(names, n))
        items.append(
            pd.DataFrame(
                {"condition": name, "task": "t", "item": range(n), "cluster": clusters, "n_tokens": 5, "label": true,
                 "predicted": predicted, "value": (predicted == true).astype(float), "margin": 0.0}
            )
        )  # fmt: skip
    also = ("f1", "matthews", "balanced_accuracy") if also is None else also
    info = {"positive": "label-1", "scoring": "head"} | info
    task = TaskInfo("t", metric="accuracy", higher_is_better=True, per_token=False, also=also, **info)
    return Scores(pd.concat(items, ignore_index=True), pd.DataFrame(conditions), [task], seed)


def _sklearn(items):
    true, predicted = items["label"], items["predicted"]
    return {
        "accuracy": metrics.accuracy_score(true, predicted),
        "f1": metrics.f1_score(true, predicted, labels=["label-1"], average="macro", zero_division=0),
        "matthews": metrics.matthews_corrcoef(true, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(true, predicted),
    }


@pytest.mark.parametrize("n_labels", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_labels_are_those_of_scikit_learn(n_labels, seed):
    scores = _classified(n_labels=n_labels, seed=seed)
    summary = scores.summary()
    assert summary["metric"].tolist() == [name for name in _sklearn(scores.items) for _ in range(2)]
    for (metric, condition), row in summary.set_index(["metric", "condition"]).iterrows():
        own = scores.items[scores.items["condition"] == condition]
        assert row["value"] == pytest.approx(_sklearn(own)[metric], abs=rounding(1.0, len(own)))


def test_intervals_of_labels_are_of_resampled_clusters():
    scores = _classified(n=90, n_clusters=12)
    summary = scores.summary().query("condition == 'a'").set_index("metric")
    # The oracle: whole clusters are drawn, their items put together, and scikit-learn is asked.
    items = {name: dict(tuple(own.groupby("cluster"))) for name, own in scores.items.groupby("condition")}
    clusters = sorted(items["a"])
    rng, draws = np.random.default_rng(1), []
    for _ in range(100):
        drawn = rng.choice(clusters, len(clusters))
        both = [_sklearn(pd.concat([items[name][cluster] for cluster in drawn])) for name in ("a", "intact")]
        draws.append({metric: both[0][metric] - both[1][metric] for metric in both[0]})
    for metric, values in pd.DataFrame(draws).items():
        low, high = np.percentile(values, [2.5, 97.5])
        # Ends of an interval of 100 draws are off by about a tenth of its width.
        width = high - low
        assert summary.loc[metric, "ci_low"] == pytest.approx(low, abs=0.2 * width)  # 3 times that error
        assert summary.loc[metric, "ci_high"] == pytest.approx(high, abs=0.2 * width)  # 3 times that error


def test_controls_and_p_are_of_the_metric_of_the_row():
    right = [("intact", 0.9), ("a", 0.2), *((f"a/{number}", 0.85) for number in range(19))]
    right += [("b", 0.85), *((f"b/{number}", 0.85) for number in range(19))]
    scores = _classified(right=right)
    summary = scores.summary()
    task = scores.tasks[0]
    for metric, own in summary.groupby("metric"):
        own = own.set_index("condition")
        by_hand = [
            _sklearn(scores.items[scores.items["condition"] == f"a/{number}"])[metric] - own.loc["intact", "value"]
            for number in range(19)
        ]
        np.testing.assert_allclose(
            scores.control_diffs(task, metric)["a"], by_hand, atol=rounding(1.0, len(scores.items))
        )
        assert own.loc["a", "control_mean"] == pytest.approx(np.mean(by_hand))
        assert own.loc["a", "p"] == 1 / 20  # planted
        assert own.loc["b", "p"] > 0.05  # and not planted
        assert np.isnan(own.loc["intact", "p"])
    # Each metric is a family of its own.
    assert summary.loc[summary["condition"] == "a", "q"].tolist() == [2 / 20] * 4
    last = summary[summary["condition"] == "b"]
    assert last["p"].nunique() > 1
    assert last["q"].tolist() == pytest.approx(last["p"].tolist())  # the larger of two p is its own q
    np.testing.assert_allclose(scores.control_diffs(task)["a"], scores.control_diffs(task, "accuracy")["a"])


@pytest.mark.parametrize("metric", ["f1", "matthews", "balanced_accuracy"])
def test_collapse_onto_one_label_is_not_rewarded(metric):
    scores = _classified(n_labels=2, also=(metric,))
    items = scores.items.assign(predicted="label-0")
    items["value"] = (items["label"] == items["predicted"]).astype(float)
    row = Scores(items, scores.conditions, scores.tasks, 0).summary().set_index("metric").loc[metric].iloc[0]
    assert row["value"] == {"f1": 0, "matthews": 0, "balanced_accuracy": 0.5}[metric]
    assert row["collapsed"] == 1
    assert row["predicted_counts"] == f"label-0 {len(items) // 2}, label-1 0"


def test_a_label_that_never_comes_has_an_f1_of_0():
    scores = _classified(n_labels=2, also=("f1",), positive="label-7")
    assert scores.summary().query("metric == 'f1'")["value"].tolist() == [0, 0]


@pytest.mark.parametrize("scoring", ["head", "generate"])
def test_values_that_are_missing_break_a_metric_or_are_left_out(scoring):
    scores = _classified(scoring=scoring)
    items = scores.items.copy()
    lost = (items["condition"] == "a") & (items["item"] < 20)
    items.loc[lost, ["value", "predicted"]] = [np.nan, ""]
    broken = Scores(items, scores.conditions, scores.tasks, 0)
    if scoring == "head":
        with pytest.warns(DataWarning, match="Under 'a' the model gives NaN"):
            summary = broken.summary()
        assert summary.loc[summary["condition"] == "a", ["value", "diff", "ci_low"]].isna().all().all()
        return
    rows = broken.summary().query("condition == 'a'").set_index("metric")
    expected = _sklearn(items[(items["condition"] == "a") & ~lost])
    for metric, value in expected.items():
        assert rows.loc[metric, "value"] == pytest.approx(value)
    assert (rows["unparseable"] == 20 / 120).all()
    assert rows["balanced_accuracy"].tolist() == pytest.approx([expected["balanced_accuracy"]] * 4)
    assert rows["predicted_counts"].iloc[0].startswith("label-0 ")


def test_every_row_of_labels_has_what_it_must_be_read_beside():
    scores = _classified(split="test", note="3 rows left out")
    summary = scores.summary()
    counts = scores.label_counts()
    for row in summary.itertuples():
        own = counts[counts["condition"] == row.condition]
        assert row.majority_rate == own["n_true"].max() / 120 == own["majority_rate"].iloc[0]
        assert row.balanced_accuracy == own["balanced_accuracy"].iloc[0]
        assert row.mean_margin == 0
        assert row.predicted_counts == ", ".join(f"{one.label} {one.n_predicted}" for one in own.itertuples())
        assert (row.collapsed, row.split, row.note) == (0, "test", "3 rows left out")


def test_rows_without_labels_have_none_of_it():
    row = _with_controls(1.0, [0.1]).summary().iloc[1]
    assert row[["majority_rate", "balanced_accuracy", "mean_margin", "collapsed"]].isna().all()
    assert (row["predicted_counts"], row["split"], row["note"]) == ("", "", "")


def test_a_task_names_its_metrics():
    with pytest.raises(ValueError, match="'t' has the metric 'f1', but no positive label"):
        TaskInfo("t", "head", "accuracy", True, False, also=("f1",))
    with pytest.raises(ValueError, match="The items have no column 'exact_match'"):
        _classified(also=("exact_match",)).summary()
    stored = TaskInfo("t", "head", "accuracy", True, False, also=["f1"], positive="yes", split="test", note="x")
    assert stored.metrics == ("accuracy", "f1")
    # Scores on disk are found by hashes that know neither notes nor what was not there yet.
    plain = {"name": "t", "scoring": "head", "metric": "accuracy", "higher_is_better": True, "per_token": False}
    assert stored.identity() == plain | {"also": ("f1",), "positive": "yes", "split": "test"}
    assert ACCURACY.identity() == plain | {"name": "accuracy", "scoring": "loglikelihood"}
