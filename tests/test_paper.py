"""Published values match the paper, are shown only for the same metrics, and its settings are recognized."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import FastICA

from lmri import Origin
from lmri.decomposition.parity import PARITY, differences, paper_networks
from lmri.lesions.experiments import paper
from lmri.lesions.experiments.lesions import lesion_outcome
from lmri.lesions.experiments.parity import check_parity
from lmri.lesions.scores import Scores, TaskInfo
from lmri.study import open_study

N_TEXTS = 20
SST2 = TaskInfo("sst2", "head", "accuracy", higher_is_better=True, per_token=False)
COLA = TaskInfo("cola", "head", "accuracy", higher_is_better=True, per_token=False, also=("matthews",))
AG_NEWS = TaskInfo("ag-news", "head", "accuracy", higher_is_better=True, per_token=False)
AG_LOSS = TaskInfo("ag-news", "loglikelihood", "nats_per_token", higher_is_better=False, per_token=True)
SQUAD = TaskInfo("squad", "generate", "answer_f1", higher_is_better=True, per_token=False)
SQUAD_EXACT = TaskInfo("squad", "generate", "exact_match", higher_is_better=True, per_token=False)


def make_scores(tasks, harm=None, n_controls=0, union="ica-union", unread=0):
    """Make scores of two networks, their union, random neurons and controls; `harm` is by condition, 0 to 1."""
    rng = np.random.default_rng(0)
    harm = {"ica-00": 0.1, "ica-01": 0.6, union: 0.8, "random-15%": 0.05} | (harm or {})
    rows = [("intact", "intact", "", "", 0.0, 0)]
    kinds = {union: "union", "random-15%": "random"}
    sizes = {"ica-00": 37, "ica-01": 21, union: 58, "random-15%": 138}
    for name, effect in harm.items():
        rows.append((name, kinds.get(name, "network"), "", "", effect, sizes.get(name, 5)))
        if name != "random-15%":
            rows += [
                (f"{name}/{draw}", "control", name, "layer+size", 0.05 * rng.random(), sizes.get(name, 5))
                for draw in range(n_controls)
            ]
    conditions = pd.DataFrame(
        [
            {"condition": name, "kind": kind, "network": name, "n_neurons": size, "control_of": of,
             "control_family": family, "draw": -1, "note": ""}
            for name, kind, of, family, _, size in rows
        ]
    )  # fmt: skip
    items = []
    for task in tasks:
        for name, _, _, _, effect, _ in rows:
            n_wrong = round(N_TEXTS * effect)
            for text in range(N_TEXTS):
                right = text >= n_wrong
                label = "yes" if text % 2 else "no"
                items.append(
                    {"condition": name, "task": task.name, "item": str(text), "cluster": str(text), "n_tokens": 5,
                     "value": float(right) if task.higher_is_better else 1.0 + effect * (1 + text / 20),
                     "label": label if task.scoring == "head" else "",
                     "predicted": (label if right else {"yes": "no", "no": "yes"}[label])
                     if task.scoring == "head" else ""}
                )  # fmt: skip
                if name == "intact" and text < unread:
                    items[-1]["value"] = np.nan
    return Scores(pd.DataFrame(items), conditions, list(tasks), 0)


def cells(layout):
    return layout.astype(str).to_numpy().ravel().tolist()


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_one_number_of_every_table():
    assert paper.TEMPLATES["gpt2"][0] == (15, 208, 142, 140)  # Table 1
    assert paper.TEMPLATES["qwen2.5-3b"][6] == (64, 73, 55, 58)  # Table 2
    assert paper.TEMPLATES["chatglm3-6b"][5] == (3, 0, 8, 0)  # Table 3
    assert paper.AG_NEWS_NETWORKS[4] == (36, 0.5749)  # Table 4
    assert paper.LESIONS["gpt2"]["sst2"] == (0.9163, 0.9083, 0.5436)  # Table 5
    assert paper.LESIONS["qwen2.5-3b"]["squad"] == (0.2104, None, 0.0057)  # Table 6
    assert paper.LESIONS["chatglm3-6b"]["sst2"] == (0.9392, None, 0.1422)  # Table 7
    assert paper.PRESERVED["gpt2"]["qnli"][4] == (0.8720, 3651)  # Table 8
    assert paper.PRESERVED["qwen2.5-3b"]["ag-news"][1] == (0.0061, 7423)  # Table 9
    assert paper.PRESERVED["chatglm3-6b"]["squad"][4] == (0.9021, 30226)  # Table 10


def test_every_table_is_whole():
    for counts in paper.TEMPLATES.values():
        assert [len(row) for row in counts] == [4] * 10
    assert len(paper.AG_NEWS_NETWORKS) == 10
    for model in paper.MODELS:
        known = [task for task in paper.TASKS if model == "gpt2" or task != "qqp"]
        assert sorted(paper.LESIONS[model]) == sorted(paper.PRESERVED[model]) == sorted(known)
        assert {len(row) for row in paper.PRESERVED[model].values()} == {len(paper.COMPONENTS)}
    assert paper.LESIONS["gpt2"]["ag-news"][0] == paper.AG_NEWS_INTACT


def test_the_numbers_are_those_of_the_text_of_the_paper(real_data):
    """Read every table anew out of the text, where it is at hand."""
    rows = {}
    for part in re.split(r"\nTable (?=\d+\. )", (real_data / "paper.txt").read_text())[1:]:
        lines = part.split("\n\n", 2)[1].split("\n")[1:]
        read = [re.findall(r"(?<=[\t→])[0-9.]+(?=\t|$)", line.replace("\t", "\t\t")) for line in lines]
        rows[int(part.split(".")[0])] = [[float(value) for value in row] for row in read if row]
    assert sorted(rows) == list(range(1, 11))
    for number, model in enumerate(paper.MODELS):
        assert rows[1 + number] == [list(counts) for counts in paper.TEMPLATES[model]]
        assert rows[5 + number] == [[v for v in row if v is not None] for row in paper.LESIONS[model].values()]
        known = [list(part) for row in paper.PRESERVED[model].values() for part in zip(*row, strict=True)]
        assert rows[8 + number] == known
    sizes = re.findall(r"^\d+→(\d+)\t", (real_data / "paper.txt").read_text(), re.MULTILINE)
    assert [int(size) for size in sizes] == [size for size, _ in paper.AG_NEWS_NETWORKS]
    assert [row[-1] for row in rows[4]] == [value for _, value in paper.AG_NEWS_NETWORKS]


# -- layouts ----------------------------------------------------------------------------------------------------------


def test_the_papers_numbers_stand_beside_the_same_task_and_metric():
    layout = paper.lesion_layout(make_scores([SST2, COLA]), "gpt2").set_index(["task", "metric"])
    sst2 = layout.loc[("sst2", "accuracy")]
    assert sst2["paper: intact"] == "0.9163"
    assert sst2["paper: random 15 %"] == "0.9083"
    assert sst2["paper: 10 networks"] == "0.5436"
    assert sst2["intact"] == "1.0000"
    assert sst2["all networks"].startswith("0.2000 (58); −0.8000 [−")  # our interval stands beside our number
    assert layout.loc[("cola", "accuracy"), "paper: intact"] == "0.7776"
    other = paper.lesion_layout(make_scores([SST2]), "qwen2.5-3b")
    assert other["paper: 10 networks"].tolist() == ["0.0000"]
    assert "paper: random 15 %" not in other  # which the paper has of GPT-2 only


@pytest.mark.parametrize("model", list(paper.MODELS))
def test_the_papers_numbers_never_stand_beside_another_metric(model):
    known = {f"{value:.4f}" for table in (paper.LESIONS, paper.PRESERVED) for row in table[model].values()
             for one in row for value in (one if isinstance(one, tuple) else (one,)) if value}  # fmt: skip
    for task in (AG_LOSS, SQUAD_EXACT, replace(SST2, metric="balanced_accuracy"), replace(SST2, name="my-sst2-like")):
        scores = make_scores([task])
        layouts = [
            paper.lesion_layout(scores, model),
            paper.networks_layout(scores, task.name, model),
            paper.preserve_layout({10: scores, 64: scores}, model),
        ]
        for layout in layouts:
            assert not [name for name in layout if name.startswith("paper")]
            assert not known & set(cells(layout)) - {"0.2000", "0.4000", "0.9000"}
    row = paper.lesion_layout(make_scores([COLA]), model).set_index("metric")
    assert row.loc["matthews", "paper: intact"] == "–"  # positive control: the same task's accuracy has one
    assert row.loc["accuracy", "paper: intact"] != "–"
    assert paper.lesion_layout(make_scores([SQUAD]), model)["paper: intact"].tolist() == [
        f"{paper.LESIONS[model]['squad'][0]:.4f}"
    ]


def test_single_networks_are_sorted_on_both_sides_the_worst_first():
    layout = paper.networks_layout(make_scores([AG_NEWS]), "ag-news", "gpt2")
    assert layout["network (neurons)"].tolist()[:3] == ["intact", "ica-01 (21)", "ica-00 (37)"]
    assert layout["accuracy"].tolist()[:3] == ["1.0000", "0.4000", "0.9000"]
    assert layout["paper: network (neurons)"].tolist()[:3] == ["intact", "5 (36)", "2 (21)"]
    assert layout["paper: accuracy"].iloc[0] == "0.8614"
    assert layout["paper: accuracy"].tolist()[1:] == sorted(layout["paper: accuracy"][1:])
    loss = paper.networks_layout(make_scores([AG_LOSS]), "ag-news")
    assert loss["network (neurons)"].tolist() == ["intact", "ica-01 (21)", "ica-00 (37)"]  # less is better
    for model in ("qwen2.5-3b", "chatglm3-6b", None):
        assert not [one for one in paper.networks_layout(make_scores([AG_NEWS]), "ag-news", model) if "paper" in one]


def test_preservation_by_number_of_components():
    scores = make_scores([SST2])
    layout = paper.preserve_layout({64: scores, 10: scores, 20: scores}, "gpt2").iloc[0]
    assert list(layout.index) == [
        "task", "metric", "intact", "K = 10", "paper: K = 10", "K = 20", "K = 64", "paper: K = 64",
    ]  # fmt: skip
    assert layout["paper: K = 64"] == "0.7970 (391)"
    assert layout["K = 64"].startswith("0.2000 (58); −0.8000 [")


def test_a_summary_does_as_well_as_the_scores():
    scores = make_scores([AG_NEWS, COLA], n_controls=3)
    summary = scores.summary()
    pd.testing.assert_frame_equal(paper.lesion_layout(scores, "gpt2"), paper.lesion_layout(summary, "gpt2"))
    pd.testing.assert_frame_equal(
        paper.networks_layout(scores, "ag-news", "gpt2"), paper.networks_layout(summary, "ag-news", "gpt2")
    )
    pd.testing.assert_frame_equal(paper.preserve_layout({10: scores}), paper.preserve_layout({10: summary}))


def test_answers_that_cannot_be_read_are_said():
    layout = paper.lesion_layout(make_scores([SQUAD], unread=5), "gpt2")
    assert layout["intact"].tolist() == ["1.0000 (25% unread)"]


def test_templates_of_the_same_rank_stand_side_by_side():
    rows = [
        {"template": f"t{number}", "label": label, "n_template": 5, "n_individuals": 8, "n_above": count,
         "chance_95": 1.0}
        for number, counts in enumerate([(0, 1), (7, 7)]) for label, count in zip(("news", "code"), counts, strict=True)
    ]  # fmt: skip
    layout = paper.templates_layout(pd.DataFrame(rows), "gpt2")
    assert layout["template (neurons)"].tolist()[:3] == ["t1 (5)", "t0 (5)", "–"]
    assert layout["news (8 texts)"].tolist()[:2] == ["7 (1)", "0 (1)"]
    assert layout["paper: template"].tolist()[0] == "1"
    assert layout["paper: WIKI (100 texts)"].tolist()[0] == "208"
    with pytest.raises(ValueError, match="a layout accepts one corpus"):
        paper.templates_layout(pd.DataFrame(rows).assign(templates_of=["a", "a", "b", "b"]))


def test_bad_requests_are_refused():
    scores = make_scores([SST2])
    with pytest.raises(ValueError, match="choose from gpt2, qwen2"):
        paper.lesion_layout(scores, "gpt3")
    with pytest.raises(ValueError, match="no scores of 'x'; choose from sst2"):
        paper.networks_layout(scores, "x")
    without = replace(scores, conditions=scores.conditions[scores.conditions["kind"] != "union"])
    with pytest.raises(ValueError, match="With 10 components"):
        paper.preserve_layout({10: without})


# -- lesions ----------------------------------------------------------------------------------------------------------


def test_a_lesion_says_what_exceeds_its_controls_and_what_collapsed():
    outcome = lesion_outcome(make_scores([SST2], {"ica-00": 0.0, "ica-02": 0.5}, n_controls=59), "ica", "gpt2")
    assert "2 of 3 networks exceed their layer+size controls (q ≤ 0.05): ica-01 (" in outcome.text
    assert (
        "Lesioning all networks jointly, ica-union (58 neurons) changed accuracy by −0.8000 (95 % CI " in outcome.text
    )
    assert "Lesioning random-15% (138 neurons) changed accuracy by −0.0500 (95 % CI " in outcome.text
    assert "One model is one subject" in outcome.text
    assert list(outcome.tables) == ["scores", "labels"]
    assert list(outcome.layouts) == ["lesions", "networks-sst2"]
    assert list(outcome.figures) == ["lesions"]
    assert "All predictions on one label" not in outcome.text


def test_a_collapse_onto_one_label_is_flagged():
    scores = make_scores([SST2])
    items = scores.items.copy()
    own = items["condition"] == "ica-union"
    items.loc[own, "predicted"] = "no"
    items.loc[own, "value"] = (items.loc[own, "label"] == "no").astype(float)
    outcome = lesion_outcome(replace(scores, items=items))
    assert "All predictions on one label" in outcome.text
    assert "ica-union on sst2" in outcome.text
    assert "ica-00 on sst2" not in outcome.text


def test_without_enough_controls_it_says_so():
    few = lesion_outcome(make_scores([SST2], n_controls=5)).text
    assert "5 controls per network are too few for a q" in few
    none = lesion_outcome(make_scores([SST2])).text
    assert "No network has matched controls" in none


def test_the_label_of_parity_is_in_title_and_text():
    outcome = lesion_outcome(make_scores([SST2]), "ica", parity=True)
    assert outcome.title == "Paper parity: lesions of ica"
    assert PARITY in outcome.text
    assert PARITY not in lesion_outcome(make_scores([SST2])).text


# -- parity -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_networks_are_those_of_scikit_learn_with_a_one_sided_threshold(recorded):
    recording = recorded.recording(site="mlp_hidden")
    X = np.concatenate([np.asarray(array, dtype=np.float64) for array in recording.arrays()])
    found = paper_networks(recording.space, recording.imgs, 1.96, seed=0, n_components=3)
    oracle = FastICA(3, random_state=0, whiten_solver="svd").fit(X).mixing_.T
    z = (oracle - oracle.mean(axis=1, keepdims=True)) / oracle.std(axis=1, keepdims=True)
    expected = {tuple(row) for row in z > 1.96}
    assert {tuple(row) for row in found.members} == expected  # signs included, in any order
    assert found.origin.threshold["label"] == PARITY


@pytest.mark.filterwarnings("ignore")
def test_parity_is_stored_found_again_and_labelled(recorded, tmp_path):
    study = open_study(shutil.copytree(recorded.root, tmp_path / "study"))
    networks = study.decompose(paper=True, n_components=4, site="mlp_hidden")
    assert study.decompose(paper=True, n_components=4, site="mlp_hidden").names == networks.names  # the same again
    name = networks.method
    check_parity(networks, study.entries.find("networks", name).parameters, n_components=4)
    assert networks.origin.threshold["z"] == 3.6
    for kind in ("decompositions", "networks"):
        assert study.entries.find(kind, name).parameters["label"] == PARITY
    assert PARITY in study.report().read_text()
    with pytest.raises(ValueError, match="n_components is 4, and 10 in the paper"):
        check_parity(networks)


def test_results_with_other_settings_are_refused_by_name(walked):
    with pytest.raises(ValueError, match=r"method is 'canica', and 'fastica-temporal' in the paper.*--paper"):
        check_parity(walked.networks("canica"))
    found = {one.what: one.value for one in differences(walked.networks("fastica-temporal"))}
    assert found == {
        "n_components": 4, "signs": "skewness", "standardize": "zscore", "scope": "run", "max_iter": 1000,
        "threshold": "z",
    }  # fmt: skip


def parity_origin(**changes):
    info = {
        "method": "fastica-temporal",
        "parameters": {
            "n_components": 10, "fun": "logcosh", "standardize": "center", "scope": "study", "max_iter": 200,
            "tol": 1e-4, "signs": "solver", "random_state": 3,
        },
        "threshold": {"method": "z_positive", "z": 3.6, "description": ""},
    }  # fmt: skip
    for key, value in changes.items():
        part = info if key == "method" else info["threshold"] if key == "z" else info["parameters"]
        part[key] = value
    return Origin.of(info)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("signs", "skewness"),
        ("n_components", 20),
        ("scope", "run"),
        ("standardize", "zscore"),
        ("fun", "cube"),
        ("z", 2.0),
    ],
)
def test_every_setting_is_required_for_parity(walked, change, value):
    good = parity_origin()
    networks = walked.networks("canica")
    check_parity(replace(networks, origin=good))  # positive control
    bad = parity_origin(**{change: value})
    with pytest.raises(ValueError, match=f"{change} is {value!r}"):
        check_parity(replace(networks, origin=bad))


def test_an_evaluation_with_controls_or_other_interventions_is_not_the_papers(walked):
    networks = replace(walked.networks("canica"), origin=parity_origin())
    check_parity(networks, {"intervention": "lesion", "baseline": "zero", "n_controls": 0})
    for name, value in (("intervention", "amplify"), ("baseline", "news"), ("n_controls", 99)):
        with pytest.raises(ValueError, match=f"{name} is {value!r}"):
            check_parity(networks, {name: value})


def test_thresholds_of_others_are_refused_before_anything_is_fitted(recorded):
    with pytest.raises(ValueError, match=r"the paper's are 1\.96 and 3\.6"):
        recorded.decompose(paper=True, site="mlp_out", threshold="z_positive:2.0")
