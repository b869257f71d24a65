"""The summary is a function of the rows, and each of its numbers is what its name says."""

import numpy as np
import pandas as pd
import pytest

from lmri.exceptions import DataWarning
from lmri.scores import SUMMARY_COLUMNS, Scores, TaskInfo

LOSS = TaskInfo("loss", "loglikelihood", "nats_per_token", higher_is_better=False, per_token=True)
ACCURACY = TaskInfo("accuracy", "loglikelihood", "accuracy", higher_is_better=True, per_token=False)


def _scores(values, tasks=(LOSS,), n_tokens=(10, 20, 30, 10, 10, 20), clusters="abcdef", seed=0):
    """Make scores from item values by condition; names such as ``a/1`` are controls of ``a``."""
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
    assert np.isclose(row["ci_low"], noise.mean() - 1.96 * error, atol=0.02)
    assert np.isclose(row["ci_high"], noise.mean() + 1.96 * error, atol=0.02)


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
