"""Double dissociations are found where they are simulated, and nowhere else."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmri.lesions.experiments.dissociation import COLUMNS, dissociate
from lmri.lesions.scores import Scores, TaskInfo

LOSS = TaskInfo("loss", "loglikelihood", "nats_per_token", higher_is_better=False, per_token=True)
ACCURACY = TaskInfo("accuracy", "loglikelihood", "accuracy", higher_is_better=True, per_token=False)
OTHER = TaskInfo("other", "loglikelihood", "nats_per_token", higher_is_better=False, per_token=True)
N_TEXTS = 30


def make_scores(harm, n_controls=59, tasks=(LOSS, ACCURACY), seed=0, spread=0.1, noise=0.0, networks="ab"):
    """Make scores in which lesions of networks do `harm`, {network: (on task 1, on task 2)}, and controls do little.

    Controls of task 2 spread ten times as much as those of task 1, as those of other tasks may.
    """
    rng = np.random.default_rng(seed)
    intact = {task.name: rng.normal(0, 1, N_TEXTS) for task in tasks}
    conditions = [("intact", "intact", "", {task.name: 0.0 for task in tasks})]
    for name in networks:
        sd = {task.name: spread * 10**place for place, task in enumerate(tasks)}
        own = harm.get(name)
        effect = {
            task.name: (rng.normal() * sd[task.name] if own is None else own[place] * sd[task.name])
            for place, task in enumerate(tasks)
        }
        conditions.append((name, "network", "", effect))
        for draw in range(n_controls):
            conditions.append((f"{name}/{draw}", "control", name, {task: rng.normal() * sd[task] for task in sd}))
    items = [
        {"condition": name, "task": task.name, "item": text, "cluster": str(text), "n_tokens": 10,
         "value": intact[task.name][text] + (-1 if task.higher_is_better else 1)
         * (effect[task.name] + noise * rng.normal() * effect[task.name])}
        for name, _, _, effect in conditions for task in tasks for text in range(N_TEXTS)
    ]  # fmt: skip
    table = pd.DataFrame(
        [
            {"condition": name, "kind": kind, "network": name, "n_neurons": 5, "control_of": of,
             "control_family": "layer+size" if of else "", "draw": -1}
            for name, kind, of, _ in conditions
        ]
    )  # fmt: skip
    return Scores(pd.DataFrame(items), table, tasks, seed)


def test_a_planted_dissociation_is_found_whichever_way_round_and_on_tasks_of_any_scale():
    for harm, first in (({"a": (6, 0), "b": (0, 6)}, "loss"), ({"a": (0, 6), "b": (6, 0)}, "accuracy")):
        row = dissociate(make_scores(harm)).table.iloc[0]
        assert (row["network_a"], row["network_b"], row["task_1"]) == ("a", "b", first)
        assert row["dissociated"] == 1
        assert row["interaction"] > 8
        assert row["p"] == max(row["p_interaction"], row["p_a"], row["p_b"])
        assert row["p_a"] == pytest.approx(1 / 60)  # the floor, never 0


@pytest.mark.parametrize(
    "harm",
    [
        {"a": (6, 6), "b": (6, 6)},  # both matter for both
        {"a": (9, 9), "b": (3, 3)},  # one is larger
        {"a": (9, 0), "b": (0, 0)},  # single dissociation
        {"a": (9, 0), "b": (0.8, 0.8)},  # the same, and the other does a little harm
        {"a": (9, 3), "b": (3, 1)},  # one network does more of the same
        {"a": (4, 10), "b": (4, 30)},  # and so does the other
        {"a": (-6, 0), "b": (0, -6)},  # lesions that help
        {},  # networks that are as any control
    ],
)
def test_only_double_dissociations_are_reported(harm):
    assert dissociate(make_scores(harm)).table["dissociated"].tolist() == [0]


def test_false_dissociations_are_controlled_for_networks_like_their_controls():
    found = [dissociate(make_scores({}, 19, seed=seed)).table.iloc[0] for seed in range(120)]
    called = sum(row["dissociated"] for row in found)
    assert stats.binomtest(int(called), len(found), 0.05, "greater").pvalue > 0.05
    # The interaction alone is calibrated: among pairs of sets, any pair is as likely to be the largest.
    p = np.array([row["p_interaction"] for row in found])
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_effects_are_in_sd_of_the_controls_and_positive_if_worse():
    scores = make_scores({"a": (3, -2), "b": (0, 0)})
    effects = dissociate(scores).effects.set_index(["network", "task"])
    own = effects.loc[("a", "accuracy")]
    summary = scores.summary().set_index(["condition", "task"]).loc[("a", "accuracy")]
    assert own["diff"] == pytest.approx(-summary["diff"])
    assert own["effect"] == pytest.approx(-summary["effect"] / own["control_sd"])
    assert own["effect"] < 0


def test_the_interaction_equals_its_parts_and_is_within_its_interval():
    row = dissociate(make_scores({"a": (4, 0), "b": (0, 4)}, noise=0.5)).table.iloc[0]
    parts = (row["a_on_1"] - row["a_on_2"]) - (row["b_on_1"] - row["b_on_2"])
    assert row["interaction"] == pytest.approx(parts)
    assert row["ci_low"] < row["interaction"] < row["ci_high"]


def test_all_pairs_of_networks_and_tasks_are_one_family():
    scores = make_scores({"a": (6, 0, 0), "b": (0, 6, 0)}, tasks=(LOSS, ACCURACY, OTHER), networks="abc")
    table = dissociate(scores).table
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 3 * 3
    assert (table["q"] >= table["p"]).all()
    some = dissociate(scores, ["a", "b"], ["loss", "accuracy"]).table
    assert len(some) == 1
    assert some["p"].iloc[0] <= some["q"].iloc[0]


def test_a_task_that_no_control_touches_gives_no_p():
    scores = make_scores({"a": (6, 0), "b": (0, 6)}, spread=0.0)
    row = dissociate(scores).table.iloc[0]
    assert np.isnan(row["p"])
    assert row["dissociated"] == 0


def test_what_cannot_be_tested_is_refused():
    scores = make_scores({})
    with pytest.raises(ValueError, match="needs two tasks"):
        dissociate(scores, tasks=["loss"])
    with pytest.raises(ValueError, match=r"no scores of \['x'\]; choose from \['loss', 'accuracy'\]"):
        dissociate(scores, tasks=["x", "loss"])
    with pytest.raises(ValueError, match="needs two networks"):
        dissociate(scores, ["a"])
    with pytest.raises(ValueError, match=r"no controls of \['z'\]"):
        dissociate(scores, ["a", "z"])
    with pytest.raises(ValueError, match="has 5 controls; with fewer than 19"):
        dissociate(make_scores({}, 5))
