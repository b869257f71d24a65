"""Amplification: doses have the stated effect, p is two-tailed, and best doses are evaluated on separate texts."""

import json
import shutil
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from lmri import MatchedControls, NetworkSet, amplify, evaluate, find_sites, open_study
from lmri.cli.app import app
from lmri.lesions.experiments.amplification import COLUMNS, dose_conditions, dose_grid, dose_table
from lmri.lesions.experiments.amplification_text import amplification_outcome, dose_layout
from lmri.lesions.experiments.dose_choice import BEST_COLUMNS, base_name, best_doses
from lmri.lesions.scores import Scores, TaskInfo
from lmri.space import NeuronSpace
from tiny_models import sentences
from tolerances import rounding
from walking import two_of

pytestmark = pytest.mark.filterwarnings("ignore::lmri.exceptions.LMRIWarning")


def set_of(space, places, method="net"):
    """Build networks with these members, with the weights 1, -2, 3, …"""
    weights = np.zeros((len(places), space.n_neurons), dtype=np.float32)
    for number, own in enumerate(places):
        for place, neuron in enumerate(own):
            weights[number, neuron] = (1 + place) * (-1) ** place
    return NetworkSet(space, weights, method=method).threshold("support")


# -- planted truth: a read-out that is linear in what is amplified ----------------------------------------------------


@dataclass(eq=False)
class Readout:
    """Task whose score is the summed activity of some neurons in the last layer, averaged over tokens."""

    neurons: list
    split: str = ""
    texts: list = field(default_factory=lambda: sentences(6))
    info: TaskInfo = None

    def __post_init__(self):
        name = f"readout-{self.split}" if self.split else "readout"
        self.info = TaskInfo(name, "loglikelihood", "activity", True, False, split=self.split)

    def digest(self):
        return f"{self.neurons} {self.split} {self.texts}"

    def score(self, model, tokenizer):
        rows = []
        for item, text in enumerate(self.texts):
            seen = []

            def keep(module, args, output, seen=seen):
                seen.append(output)

            handle = model.transformer.h[-1].mlp.c_proj.register_forward_hook(keep)
            with torch.no_grad():
                model(input_ids=torch.tensor([tokenizer(text)["input_ids"]]))
            handle.remove()
            value = float(seen[0][0].double().numpy()[:, self.neurons].sum(axis=1).mean())
            rows.append({"item": item, "cluster": f"{self.split}{item}", "n_tokens": 1, "value": value})
        return pd.DataFrame(rows)


NEURONS = [3, 7, 20]
GAINS, OFFSETS = [0.0, 1.0, 1.5, 3.0], [-1.0, 0.0, 2.0]
CLOSE = rounding(10, len(NEURONS), np.float32)
# Scores are sums of 3 activations and offsets in float32, each below 10.


@pytest.fixture
def readout(gpt2):
    """Return the space, and a set of three networks: readout neurons, other neurons, and none."""
    space = find_sites(gpt2)
    own = [space.index(2, neuron) for neuron in NEURONS]
    others = [space.index(2, neuron) for neuron in (4, 8)]
    return space, set_of(space, [own, others, []])


def test_the_dose_response_of_a_linear_readout_is_as_computed_by_hand(gpt2, tokenizer, readout):
    _, networks = readout
    task = Readout(NEURONS)
    intact = task.score(gpt2, tokenizer)["value"].mean()
    grid = dose_grid(networks, GAINS, OFFSETS)
    scores = evaluate(gpt2, tokenizer, [task], dose_conditions(grid), MatchedControls(3))
    table = dose_table(scores, grid)
    assert tuple(table.columns) == COLUMNS
    rows = table.set_index(["network", "kind", "dose"])
    for gain in GAINS:
        assert rows.loc[("net-00", "gain", gain), "diff"] == pytest.approx((gain - 1) * intact, abs=CLOSE)
    for offset in OFFSETS:
        assert rows.loc[("net-00", "offset", offset), "diff"] == pytest.approx(3 * offset, abs=CLOSE)
    # The negative control: neurons that are not read.
    assert rows.loc["net-01", "diff"].abs().max() == 0
    # Nothing is changed exactly by doses that change nothing, and in an empty network.
    for unchanged in (("gain", 1.0), ("offset", 0.0)):
        assert (rows.xs(unchanged, level=("kind", "dose"))["diff"] == 0).all()
    assert (rows.loc["net-02", "diff"] == 0).all()
    assert (rows.loc["net-02", "note"] == "empty: nothing changes").all()
    assert rows.loc["net-02", "p"].isna().all()
    union = rows.loc["net-union", "diff"].to_numpy()
    np.testing.assert_allclose(union, rows.loc["net-00", "diff"].to_numpy(), atol=CLOSE)


def test_an_offset_along_the_sign_has_a_distinct_label(gpt2, tokenizer, readout):
    _, networks = readout
    task = Readout(NEURONS)
    grid = dose_grid(networks, [2.0], [1.0], along_sign=True)
    assert [one.kind for one in grid[:2]] == ["gain", "offset along sign"]
    rows = dose_table(evaluate(gpt2, tokenizer, [task], dose_conditions(grid)), grid).set_index(["network", "kind"])
    assert rows.loc[("net-00", "offset along sign"), "diff"] == pytest.approx(1 - 1 + 1, abs=CLOSE)
    assert rows.loc[("net-00", "gain"), "diff"] == pytest.approx(task.score(gpt2, tokenizer)["value"].mean(), abs=CLOSE)


def test_the_best_dose_of_a_network_that_is_read_is_found(gpt2, tokenizer, readout):
    _, networks = readout
    several = [Readout(NEURONS, "select", sentences(6)), Readout(NEURONS, "test", sentences(9)[3:])]
    grid = dose_grid(networks, offsets=[-1.0, 1.0, 4.0])
    scores = evaluate(gpt2, tokenizer, several, dose_conditions(grid), MatchedControls(19))
    best = best_doses(scores, grid)
    assert tuple(best.columns) == BEST_COLUMNS
    rows = best.set_index("network")
    assert list(rows.index) == ["net-00", "net-01", "net-union"]  # none of an empty network
    assert rows.loc["net-00", ["task", "kind", "dose"]].tolist() == ["readout", "offset", 4.0]
    assert rows.loc["net-00", "diff"] == pytest.approx(12, abs=CLOSE)
    assert rows.loc["net-00", "improves_on_select"] == 1
    assert rows.loc["net-00", "p_better"] == 1 / 20
    assert rows.loc["net-00", "q_better"] == pytest.approx(3 / 20 / 2)  # the second smallest of three p
    # Not one dose of the others does anything: the first is named, and none is said to help.
    assert rows.loc["net-01", ["dose", "diff", "improves_on_select"]].tolist() == [-1.0, 0, 0]
    text = amplification_outcome(scores, grid).text
    assert "In 2 of 3 pairs of a network and a task, a dose is better than intact on select; on test, 2" in text
    assert "readout, net-00: chosen offset 4; on test +12.0000" in text
    assert "net-01: chosen" not in text


# -- by hand ----------------------------------------------------------------------------------------------------------

SPACE = NeuronSpace.build([4, 6])


def hand_made(values, higher_is_better=True):
    """Build scores from {split: {condition: value}}, five texts with one value; controls are "a gain 2/control-0"."""
    items, conditions = [], {}
    sign = 1 if higher_is_better else -1
    for split, own in values.items():
        for name, value in own.items():
            control_of = name.split("/")[0] if "/" in name else ""
            kind = "intact" if name == "intact" else "control" if control_of else "network"
            conditions[name] = {
                "condition": name, "kind": kind, "network": name, "n_neurons": 2, "control_of": control_of, "note": "",
                "control_family": "layer+size" if control_of else "",
                "draw": int(name[-1]) if control_of else -1,
            }  # fmt: skip
            items += [
                {"condition": name, "task": f"mood-{split}", "item": item, "cluster": f"c{item}", "n_tokens": 1,
                 "value": sign * value}
                for item in range(5)
            ]  # fmt: skip
    infos = [
        TaskInfo(f"mood-{split}", "loglikelihood", "score", higher_is_better, False, split=split) for split in values
    ]
    return Scores(pd.DataFrame(items), pd.DataFrame(list(conditions.values())), infos, 0)


def of_doses(network, controls):
    """Return values by name at gain 2 and gain 3 of net-00, and of its controls."""
    found = {"intact": 0.5}
    for dose, value in zip((2, 3), network, strict=True):
        found[f"net-00 gain {dose}"] = value
        found |= {f"net-00 gain {dose}/control-{draw}": own[dose - 2] for draw, own in enumerate(controls)}
    return found


SELECT = of_doses((0.7, 0.6), [(0.5, 0.9), (0.6, 0.4), (0.5, 0.4), (0.8, 0.1)])
TEST = of_doses((0.6, 0.9), [(0.9, 0.55), (0.6, 0.2), (0.3, 0.9), (0.7, 0.99)])


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_best_doses_of_networks_and_controls_are_selected_on_select_and_reported_on_test(higher_is_better):
    grid = dose_grid(set_of(SPACE, [[1, 7]]), [2.0, 3.0])
    scores = hand_made({"select": SELECT, "test": TEST}, higher_is_better)
    row = best_doses(scores, grid).iloc[0]
    sign = 1 if higher_is_better else -1
    assert row["dose"] == 2.0  # 3 would be better on test, which must not be known
    assert row["diff"] == pytest.approx(sign * 0.1)
    assert row["diff_select"] == pytest.approx(sign * 0.2)
    # Controls choose 3, 2, 2, 2, and have 0.55, 0.6, 0.3, 0.7 on test; the network has 0.6.
    assert row["control_mean"] == pytest.approx(sign * (0.05 + 0.1 - 0.2 + 0.2) / 4)
    assert row["p_better"] == pytest.approx((1 + 2) / 5)
    assert row["p"] == pytest.approx((1 + 3) / 5)
    assert row["effect"] == pytest.approx(row["diff"] - row["control_mean"])


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_p_of_both_tails_is_counted_at_every_dose(higher_is_better):
    grid = dose_grid(set_of(SPACE, [[1, 7]]), [2.0, 3.0])
    rows = dose_table(hand_made({"test": TEST}, higher_is_better), grid).set_index("dose")
    # 0.6 beside 0.9, 0.6, 0.3, 0.7, and 0.9 beside 0.55, 0.2, 0.9, 0.99.
    assert rows["p_better"].tolist() == pytest.approx([4 / 5, 3 / 5])
    assert rows["p"].tolist() == pytest.approx([3 / 5, 4 / 5])
    assert (rows["better"] == ("more" if higher_is_better else "less")).all()
    layout = dose_layout(rows.reset_index())
    sign = "+" if higher_is_better else "-"
    assert layout["gain 2"].tolist() == [f"{sign}0.1000 (0.6 / 0.8)"]


def test_a_control_that_breaks_the_model_at_every_dose_is_worse_than_any():
    broken = {name: np.nan if name.endswith("control-3") else value for name, value in SELECT.items()}
    on_test = {name: np.nan if name.endswith("control-3") else value for name, value in TEST.items()}
    grid = dose_grid(set_of(SPACE, [[1, 7]]), [2.0, 3.0])
    row = best_doses(hand_made({"select": broken, "test": on_test}), grid).iloc[0]
    # Of 0.55, 0.6 and 0.3 and the broken one, one is as good as 0.6, and all are as bad.
    assert row["p_better"] == pytest.approx(2 / 5)
    assert row["p"] == 1


def test_no_best_dose_is_reported_on_its_selection_texts():
    grid = dose_grid(set_of(SPACE, [[1, 7]]), [2.0, 3.0])
    scores = hand_made({"test": TEST})
    assert len(best_doses(scores, grid)) == 0
    outcome = amplification_outcome(scores, grid)
    assert "No best dose is given" in outcome.text
    assert "scored were only: test" in outcome.text
    assert list(outcome.tables) == ["doses", "controls"]
    both = amplification_outcome(hand_made({"select": SELECT, "test": TEST}), grid)
    assert "No best dose" not in both.text
    assert set(both.tables) == {"doses", "controls", "best"}


def test_tasks_are_named_after_their_split():
    assert base_name(TaskInfo("mood-test", "head", "accuracy", True, False, split="test")) == "mood"
    assert base_name(TaskInfo("mood-test", "head", "accuracy", True, False)) == "mood-test"


def test_figures_are_the_same_every_time_and_many_networks_fit():
    grid = dose_grid(set_of(SPACE, [[1, 7]]), [2.0, 3.0])
    scores = hand_made({"select": SELECT, "test": TEST})
    first, again = (amplification_outcome(scores, grid).figures["doses"] for _ in range(2))
    assert first == again
    assert "mood-test" in first.svg
    assert "mood-select" not in first.svg
    names = [f"net-{number:02d} gain 2" for number in range(12)]
    many = dose_grid(set_of(SPACE, [[1, 7]] * 12), [2.0])
    values = {"intact": 0.5} | {name: 0.4 + 0.01 * number for number, name in enumerate(names)}
    svg = amplification_outcome(hand_made({"": values | {"net-union gain 2": 0.45}}), many).figures["doses"].svg
    assert "other networks" in svg
    assert "net-11" in svg
    assert "net-00" in svg
    assert "net-05" not in svg


@pytest.mark.parametrize(
    ("doses", "message"),
    [
        ({}, "There is no dose"),
        ({"gains": [1.5, 2, 1.5]}, "gain 1.5 is repeated"),
        ({"gains": [float("inf")]}, "gain is inf; it must be finite"),
        ({"offsets": [1.0, -1.0], "along_sign": True}, "offsets of at least 0"),
        ({"gains": [2.0], "along_sign": True}, "offsets of at least 0"),
    ],
)
def test_bad_doses_are_refused(doses, message):
    with pytest.raises(ValueError, match=message):
        dose_grid(set_of(SPACE, [[1]]), **doses)


def test_conditions_are_those_of_amplify():
    networks = set_of(SPACE, [[1, 7]])
    made = dose_conditions(dose_grid(networks, [1.5], [2.0]))
    assert list(made) == ["net-00 gain 1.5", "net-00 offset 2"]
    assert made["net-00 gain 1.5"].digest() == amplify(networks[0], gain=1.5).digest()
    assert made["net-00 offset 2"].digest() == amplify(networks[0], offset=2.0).digest()
    with pytest.raises(ValueError, match="have no condition 'net-00 gain 2'"):
        dose_table(hand_made({"test": {"intact": 0.5}}), dose_grid(networks, [2.0]))


# -- the command ------------------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fails(*arguments):
    done = run(*arguments)
    assert done.exit_code == 1, done.output
    return " ".join(done.output.split())


@pytest.fixture(scope="module")
def study(walked, tmp_path_factory):
    """Return a copy of the complete study, for writing."""
    root = tmp_path_factory.mktemp("amplified") / "study"
    shutil.copytree(walked.root, root)
    opened = open_study(root)
    opened.save_networks(two_of(opened.networks("canica")), "canica", "pair")
    return root


def test_a_grid_of_doses_is_scored_on_two_halves_that_share_no_text(study, tmp_path):
    command = ("amplify", study, "--networks", "pair", "--gain", 1, "--gain", 2, "--offset", 0.5, "--n-controls", 2)
    done = run(*command, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    table = pd.DataFrame(content["table"])
    assert set(table["task"]) == {
        f"perplexity-{name}-{split}" for name in ("code", "news") for split in ("select", "test")
    }
    assert set(zip(table["kind"], table["dose"], strict=True)) == {("gain", 1), ("gain", 2), ("offset", 0.5)}
    assert (table.loc[(table["kind"] == "gain") & (table["dose"] == 1), "diff"] == 0).all()
    best = pd.DataFrame(content["best"])
    assert set(best["task"]) == {"perplexity-code", "perplexity-news"}
    opened = open_study(study)
    items = opened.scores(content["name"]).items
    clusters = items.groupby("task")["cluster"].agg(set)
    for name in ("code", "news"):
        select, test = clusters[f"perplexity-{name}-select"], clusters[f"perplexity-{name}-test"]
        assert select
        assert test
        assert not select & test
        assert len(select | test) == len(set(opened.recording(name).test_texts))
    assert opened.experiment(content["name"]).tables["best"].shape == best.shape
    assert (tmp_path / "out" / "best.md").is_file()
    assert run(*command, "--json").stdout == done.stdout


def test_on_one_split_there_is_no_best_dose(study):
    done = run("amplify", study, "--networks", "pair", "--gain", 0.5, "--gain", 2, "--n-controls", 1,
               "--split", "test", "--name", "one", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert "best" not in content
    assert "scored were only: test" in content["text"]


def test_classification_files_are_halved_too(study, tmp_path):
    file = tmp_path / "moods.csv"
    rows = [f"text number {number} is,{'good' if number % 2 else 'bad'}" for number in range(12)]
    file.write_text("\n".join(["prompt,label", *rows]))
    done = run("amplify", study, "--networks", "pair", "--gain", 0.5, "--gain", 2, "--n-controls", 0,
               "--task", f"classification:{file}", "--name", "moods", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    clusters = open_study(study).scores("moods").items.groupby("task")["cluster"].agg(set)
    assert list(clusters.index) == ["classification-moods-select", "classification-moods-test"]
    assert not clusters.iloc[0] & clusters.iloc[1]
    assert len(clusters.iloc[0] | clusters.iloc[1]) == 12


def test_named_tasks_keep_the_splits_that_they_have_and_empty_networks_are_rows(study, tmp_path):
    file = tmp_path / "films.jsonl"
    rows = [{"idx": n, "sentence": f"a film of number {n} .", "label": n % 2} for n in range(24)]
    file.write_text("\n".join(map(json.dumps, rows)))
    done = run("amplify", study, "--networks", "nothing", "--offset", 0.5, "--offset", 2, "--along-sign",
               "--n-controls", 1, "--task", f"sst2:{file}", "--name", "films", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    table = pd.DataFrame(content["table"])
    assert list(dict.fromkeys(zip(table["task"], table["split"], strict=True))) == [
        ("sst2-select", "select"), ("sst2-test", "test"),
    ]  # fmt: skip
    assert set(table["kind"]) == {"offset along sign"}
    assert (table["diff"] == 0).all()
    assert table["note"].str.contains("empty: nothing changes").all()
    assert "no network has both neurons" in content["text"]


def test_a_dry_run_says_the_cost_of_all_doses(study):
    done = run("amplify", study, "--networks", "pair", "--gain", 1, "--gain", 7, "--n-controls", 3, "--dry-run",
               "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["n_conditions"] == 2 * 5
    # Gain 1 changes nothing and costs nothing.
    assert content["cost"][0]["n_evaluations"] == 1 + 3 * 4
    assert len(content["cost"]) == 4


def test_a_single_dose_is_scored_without_a_grid(study):
    done = run("amplify", study, "--networks", "pair", "--gain", 2, "--n-controls", 1, "--json")
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["name"] == "amplify-pair"
    assert content["summary"][0]["task"] == "perplexity-code"
    conditions = list(dict.fromkeys(row["condition"] for row in content["summary"]))
    assert conditions == ["intact", *(f"pair-0{number}" for number in range(4)), "pair-union", "random-15%"]


def test_bad_requests_are_explained(study, tmp_path):
    one = ("amplify", study, "--networks", "pair")
    assert "exactly one of --gain" in fails(*one)
    assert "gain 2 is repeated" in fails(*one, "--gain", 2, "--gain", 2)
    assert "only written for a grid" in fails(*one, "--gain", 2, "--out", tmp_path / "out")
    assert "no dose to choose" in fails(*one, "--gain", 2, "--split", "select", "--split", "test")
    two = (*one, "--gain", 2, "--gain", 3)
    assert "choose from fit, select, test" in fails(*two, "--split", "dev")
    assert "only select and test" in fails(*two, "--split", "fit")
    assert "at least 0" in fails(*one, "--offset", 1, "--offset", -1, "--along-sign")
    assert "--controls is 'size'" in fails(*two, "--controls", "size")
