"""Preservation: carrier neurons recover the complete score, other neurons recover nothing."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from lmri import MatchedControls, Network, NetworkSet, evaluate, find_sites, lesion, open_study
from lmri.cli.app import app
from lmri.lesions import tasks
from lmri.lesions.experiments.preservation import (
    COLUMNS,
    NOTHING,
    preservation_conditions,
    preservation_grid,
    preservation_table,
    strongest,
)
from lmri.lesions.experiments.preservation_text import paper_layout, preservation_layout, preservation_outcome
from lmri.lesions.experiments.tails import control_table, p_better
from lmri.lesions.scores import Scores, TaskInfo
from lmri.space import NeuronSpace
from tiny_models import build, sentences
from tolerances import relative

pytestmark = pytest.mark.filterwarnings("ignore::lmri.exceptions.LMRIWarning")

TEXTS = sentences(8)
CARRIERS = ((0, 5), (0, 70), (1, 3), (2, 99), (2, 150))
"""Layer and neuron of all hidden neurons of the rigged model that reach anything."""


@pytest.fixture(scope="module")
def rigged():
    """Build a model in which only the carriers have an output at `mlp_hidden`; its quality is irrelevant."""
    model = build("gpt2", hidden=200)
    with torch.no_grad():
        for layer, block in enumerate(model.transformer.h):
            keep = [neuron for own, neuron in CARRIERS if own == layer]
            weight = block.mlp.c_proj.weight
            carried = 4 * weight[keep].clone()
            weight.zero_()
            weight[keep] = carried
    return model


@pytest.fixture(scope="module")
def likely(rigged, tokenizer):
    """Generate texts that the rigged model predicts better intact than with nothing kept: its own continuations."""
    generator = torch.Generator().manual_seed(0)
    texts = []
    for start in range(8, 16):
        ids = [start]
        for _ in range(12):
            with torch.no_grad():
                logits = rigged(input_ids=torch.tensor([ids])).logits[0, -1, 5:90]
            ids.append(5 + int(torch.multinomial(logits.softmax(-1), 1, generator=generator)))
        texts.append(tokenizer.decode(ids))
    return texts


def set_of(space, members, method, k=2):
    """A set of `k` networks, whose union has these members."""
    weights = np.zeros((k, space.n_neurons), dtype=np.float32)
    for number, place in enumerate(np.flatnonzero(members)):
        weights[number % k, place] = 1 + number
    return NetworkSet(space, weights, method=method).threshold("support")


def places(space, neurons):
    members = np.zeros(space.n_neurons, dtype=bool)
    members[[space.index(*one) for one in neurons]] = True
    return members


# -- planted truth ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(rigged, tokenizer, likely):
    """Keep the carriers, as many neurons that do nothing, and nothing: grid, scores and table."""
    # Of the model before it was rigged: neurons without any output are refused as a broken site.
    space = find_sites(build("gpt2", hidden=200), "mlp_hidden")
    idle = places(space, [(layer, neuron + 1) for layer, neuron in CARRIERS])
    sets = [
        set_of(space, places(space, CARRIERS), "carriers", 2),
        set_of(space, idle, "idle", 3),
        set_of(space, np.zeros(space.n_neurons, dtype=bool), "empty", 4),
    ]
    grid = preservation_grid(sets)
    several = [tasks.Perplexity(likely)]
    scores = evaluate(rigged, tokenizer, several, preservation_conditions(grid), MatchedControls(19))
    return grid, scores, preservation_table(scores, grid)


def test_neurons_that_carry_everything_recover_everything_and_no_others_do(planted):
    _, _, table = planted
    rows = table.set_index("condition")
    assert tuple(table.columns) == COLUMNS
    close = relative(3 * 400, np.float32)  # a ratio of losses of a model with 3 layers of 400 neurons
    assert rows.loc["carriers-union", "recovered"] == pytest.approx(1, abs=close)
    assert rows.loc["carriers-union", "diff"] == pytest.approx(0, abs=close)
    assert rows.loc["carriers-union", "p_better"] == 1 / 20
    assert rows.loc["carriers-union", "p"] == 1.0
    assert rows.loc["carriers-union", "control_recovered"] < 0.5
    # The negative control: as many neurons in the same layers, without an effect.
    assert rows.loc["idle-union", "recovered"] == pytest.approx(0, abs=close)
    assert rows.loc["idle-union", "p_better"] > 0.2
    assert rows.loc["idle-union", "n_neurons"] == rows.loc["carriers-union", "n_neurons"] == len(CARRIERS)


def test_intact_and_nothing_kept_are_the_ends_of_the_scale(planted, rigged, tokenizer, likely):
    grid, _, table = planted
    rows = table.set_index("condition")
    assert rows.loc[["intact", NOTHING], "recovered"].tolist() == [1, 0]
    assert rows.loc[["intact", NOTHING], "n_neurons"].tolist() == [600, 0]
    assert rows.loc[["intact", NOTHING], "n_controls"].tolist() == [0, 0]
    everything = Network.from_members(grid[0].network.space, np.ones(600, dtype=bool))
    with lesion(everything).on(rigged):
        own = tasks.Perplexity(likely).score(rigged, tokenizer)
    mean = np.average(own["value"], weights=own["n_tokens"])
    assert rows.loc[NOTHING, "value"] == pytest.approx(mean, rel=relative(len(own)))
    assert rows.loc[NOTHING, "value"] > rows.loc["intact", "value"]  # else nothing could be recovered
    empty = rows.loc["empty-union"]
    assert empty["recovered"] == 0
    assert "empty: nothing is kept" in empty["note"]
    assert np.isnan(empty["p_better"])


def test_equal_size_controls_keep_as_many_neurons_in_every_layer(planted):
    _, scores, _ = planted
    controls = scores.conditions[scores.conditions["control_of"] == "carriers-union"]
    assert len(controls) == 19
    assert (controls["n_neurons"] == len(CARRIERS)).all()


def test_rows_agree_with_the_summary_and_the_layout_with_the_rows(planted):
    _, scores, table = planted
    summary = scores.summary().set_index("condition")
    rows = table.set_index("condition")
    for column in ("value", "diff", "ci_low", "ci_high", "control_mean", "effect", "p", "q", "n_controls"):
        pd.testing.assert_series_equal(
            rows[column].astype(float), summary.loc[rows.index, column].astype(float), check_names=False
        )
    layout = preservation_layout(table)
    assert list(layout) == ["task", "intact", "K = 2", "K = 3", "K = 4", "nothing kept"]
    words = ["perplexity (nats per token, less is better)", "layer+size controls: mean (p_better)"]
    assert layout["task"].tolist() == words
    kept, controls = rows.loc["carriers-union"], scores.control_diffs(scores.tasks[0])["carriers-union"]
    beside = f"{rows.loc['intact', 'value'] + controls.mean():.4f} ({kept['p_better']:.3g})"
    assert layout["K = 2"].tolist() == [f"{kept['value']:.4f} (5)", beside]
    assert layout["nothing kept"].tolist() == [f"{rows.loc[NOTHING, 'value']:.4f} (0)", "–"]


def test_the_outcome_says_what_came_out_and_its_limits(planted, tmp_path):
    grid, scores, _ = planted
    outcome = preservation_outcome(scores, grid, "mean of words")
    assert "K = 2 of carriers, 5 neurons (0.8 %)" in outcome.text
    assert "100 % recovered" in outcome.text
    assert "K = 4 of empty, 0 neurons (0.0 %): nothing" in outcome.text
    assert "mean of words" in outcome.text
    assert "1 of 2 points preserve more than their controls" not in outcome.text  # two tested: q is 0.1
    assert "0 of 2 points preserve more" in outcome.text
    assert "One model is one subject" in outcome.text
    again = preservation_outcome(scores, grid, "mean of words")
    assert again.figures["preservation"] == outcome.figures["preservation"]  # to the last byte
    assert "not shown, as the axis is logarithmic" in outcome.figures["preservation"].caption
    outcome.write(tmp_path / "out")
    assert {"preservation.tsv", "preservation.svg", "preservation.png", "table-8.md"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


# -- by hand ----------------------------------------------------------------------------------------------------------


def hand_made(values, higher_is_better=True, metric="score"):
    """Build scores with one item per condition and five texts of equal value; controls are named a/control-0."""
    conditions, items = [], []
    for name, value in values.items():
        kind = "intact" if name == "intact" else "control" if "/" in name else "network"
        control_of = name.split("/")[0] if "/" in name else ""
        conditions.append(
            {"condition": name, "kind": kind, "network": name, "n_neurons": 2, "control_of": control_of,
             "control_family": "layer+size" if control_of else "", "note": "",
             "draw": int(name.split("-")[-1]) if control_of else -1}
        )  # fmt: skip
        items += [
            {"condition": name, "task": "sst2", "item": item, "cluster": f"c{item}", "n_tokens": 1, "value": value}
            for item in range(5)
        ]
    info = TaskInfo("sst2", "loglikelihood", metric, higher_is_better, False)
    return Scores(pd.DataFrame(items), pd.DataFrame(conditions), [info], 0)


SPACE = NeuronSpace.build([4, 6])


def hand_grid():
    members = np.zeros(10, dtype=bool)
    members[[1, 7]] = True
    return preservation_grid([set_of(SPACE, members, "a", 1)])


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_p_of_both_tails_is_counted(higher_is_better):
    sign = 1 if higher_is_better else -1
    values = {"intact": 0.9, NOTHING: 0.1, "a-union": 0.7, "a-union/control-0": 0.3, "a-union/control-1": 0.7,
              "a-union/control-2": 0.8, "a-union/control-3": 0.2}  # fmt: skip
    scores = hand_made({name: sign * value for name, value in values.items()}, higher_is_better)
    row = preservation_table(scores, hand_grid()).set_index("condition").loc["a-union"]
    assert row["p_better"] == pytest.approx(3 / 5)  # one ties, one is better
    assert row["p"] == pytest.approx(4 / 5)  # one ties, two are worse
    assert row["recovered"] == pytest.approx(0.75)
    assert row["control_recovered"] == pytest.approx((0.5 - 0.1) / 0.8)
    assert row["better"] == ("more" if higher_is_better else "less")
    assert np.isnan(row["q_better"])  # five sets could not reach 0.05


def test_a_control_that_breaks_the_model_is_worse_and_never_better():
    assert p_better(0.5, np.array([np.nan, np.inf, 0.1]), True) == 1 / 4
    assert p_better(0.5, np.array([np.nan, -np.inf, 0.9]), False) == 1 / 4
    assert np.isnan(p_better(np.nan, np.array([0.1]), True))
    assert np.isnan(p_better(0.5, np.empty(0), True))


def test_nothing_is_called_recovered_where_the_intact_model_is_no_better_than_nothing():
    scores = hand_made({"intact": 0.4, NOTHING: 0.6, "a-union": 0.5})
    table = preservation_table(scores, hand_grid())
    assert table["recovered"].isna().all()
    assert table["note"].str.contains("not better than one of which nothing is kept").all()


def test_the_papers_numbers_stand_beside_tasks_that_it_has():
    values = {"intact": 0.9, NOTHING: 0.1, "a-union": 0.7}
    table = preservation_table(hand_made(values, metric="accuracy"), hand_grid())
    paper = paper_layout(table)
    assert paper["K = 512"].tolist() == ["0.9163 (1357)"]
    assert len(paper_layout(table.assign(task="perplexity"))) == 0
    assert len(paper_layout(table.assign(metric="matthews"))) == 0  # another metric is another number


def test_scores_of_another_grid_are_refused():
    with pytest.raises(ValueError, match="have no condition 'a-union'"):
        preservation_table(hand_made({"intact": 0.9, NOTHING: 0.1}), hand_grid())
    with pytest.raises(ValueError, match="have no condition 'nothing-kept'"):
        preservation_table(hand_made({"intact": 0.9, "a-union": 0.1}), hand_grid())


def test_controls_are_listed_with_their_values():
    scores = hand_made({"intact": 0.9, NOTHING: 0.1, "a-union": 0.7, "a-union/control-0": 0.3})
    row = control_table(scores, scores.summary()).iloc[0]
    assert (row["condition"], row["draw"], row["value"]) == ("a-union", 0, pytest.approx(0.3))


# -- shares -----------------------------------------------------------------------------------------------------------


def test_the_strongest_neurons_have_the_largest_z_of_any_map():
    rng = np.random.default_rng(0)
    maps = NetworkSet(SPACE, rng.normal(size=(3, 10)).astype(np.float32) * [[1], [100], [0.01]], method="ica")
    z = (maps.weights - maps.weights.mean(axis=1, keepdims=True)) / maps.weights.std(axis=1, keepdims=True)
    order = np.argsort(-np.abs(z).max(axis=0))
    for share in (0.1, 0.3, 1.0):
        network = strongest(maps, share)
        assert set(np.flatnonzero(network.members)) == set(order[: round(10 * share)])
        assert network.kind == "union"
    assert strongest(maps, 0.3).name == "ica-top-30%"


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_shares_beyond_zero_and_one_are_refused(share):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        strongest(NetworkSet(SPACE, np.ones((1, 10), dtype=np.float32)), share)


def test_bad_grids_are_refused():
    maps = NetworkSet(SPACE, np.random.default_rng(0).normal(size=(1, 10)).astype(np.float32), method="ica")
    members = np.arange(10) < 3
    with pytest.raises(ValueError, match=r"none of 10 neurons; it must be at least 0\.1"):
        strongest(maps, 0.01)
    with pytest.raises(ValueError, match="nothing to preserve"):
        preservation_grid()
    with pytest.raises(ValueError, match="Give both or neither"):
        preservation_grid([], None, [0.5])
    with pytest.raises(ValueError, match="ica-top-50% is repeated"):
        preservation_grid([], maps, [0.5, 0.3, 0.5])
    own = set_of(SPACE, members, "a")
    with pytest.raises(ValueError, match="a-union is repeated"):
        preservation_grid([own, own])
    other = NeuronSpace.build([4, 6], site="mlp_hidden")
    with pytest.raises(ValueError, match="Give sets of one site"):
        preservation_grid([own, set_of(other, members, "b")])


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
    root = tmp_path_factory.mktemp("preserved") / "study"
    shutil.copytree(walked.root, root)
    return root


def test_a_grid_is_scored_stored_and_written(study, tmp_path):
    command = (
        "preserve", study, "--networks", "canica", "--networks", "nothing", "--share", 0.05, "--share", 1,
        "--decomposition", "fastica-temporal", "--n-controls", 2,
    )  # fmt: skip
    done = run(*command, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    own = [row for row in content["table"] if row["task"] == "perplexity-news"]
    assert [row["condition"] for row in own] == [
        "intact", NOTHING, "canica-union", "nothing-union", "fastica-temporal-top-5%", "fastica-temporal-top-100%",
    ]  # fmt: skip
    assert [row["recovered"] for row in own][3] == 0
    assert own[5]["diff"] == 0  # all are kept
    assert own[5]["share_kept"] == 1
    assert own[4]["n_neurons"] == round(0.05 * own[0]["n_neurons"])
    assert own[2]["n_controls"] == own[4]["n_controls"] == 2
    opened = open_study(study)
    stored = opened.experiment(content["name"])
    assert stored.text == content["text"]
    assert opened.scores(content["name"]).summary()["condition"].nunique() == 6
    assert (tmp_path / "out" / "preservation.svg").read_text().startswith("<svg")
    # Again, from what is stored.
    assert run(*command, "--json").stdout == done.stdout
    assert "Nothing was overwritten" in fails(*command, "--out", tmp_path / "out")


def test_several_families_of_controls_have_rows_of_their_own(study):
    done = run("preserve", study, "--networks", "canica", "--share", 0.1, "--decomposition", "canica", "--json",
               "--n-controls", 2, "--controls", "layer", "--controls", "energy", "--name", "families")  # fmt: skip
    assert done.exit_code == 0, done.output
    table = pd.DataFrame(json.loads(done.stdout)["table"])
    own = table[(table["task"] == "perplexity-news") & (table["condition"] == "canica-union")]
    assert own["control_family"].tolist() == ["layer+size", "layer+size+energy"]
    assert own["value"].nunique() == 1
    assert own["control_mean"].nunique() == 2


def test_a_dry_run_says_the_cost_of_the_whole_grid_and_stores_nothing(study):
    before = sorted(path for path in study.rglob("*") if path.is_file())
    # With a baseline of its own, so that no other test has scored the same before.
    done = run("preserve", study, "--networks", "canica", "--networks", "fastica-temporal", "--n-controls", 3,
               "--baseline", "news", "--dry-run", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["n_conditions"] == 3
    assert content["cost"][0]["n_evaluations"] == 1 + 1 + 2 * 4  # intact, nothing, two unions with controls
    assert sorted(path for path in study.rglob("*") if path.is_file()) == before


def test_a_single_set_is_scored_without_a_grid(study):
    done = run("preserve", study, "--networks", "canica", "--n-controls", 1, "--json")
    assert done.exit_code == 0, done.output
    conditions = list(dict.fromkeys(row["condition"] for row in json.loads(done.stdout)["summary"]))
    assert conditions == ["intact", *(f"canica-0{number}" for number in range(4)), "canica-union", "random-15%"]


def test_shares_are_of_the_decomposition_that_the_networks_came_from(study):
    asked = ("preserve", study, "--networks", "fastica-temporal", "--share", 0.1, "--dry-run", "--json",
             "--n-controls", 1, "--baseline", "news")  # fmt: skip
    done = run(*asked)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n_conditions"] == 3  # nothing, the union, a tenth of all neurons


def test_bad_requests_are_explained(study, tmp_path):
    assert "nothing to preserve" in fails("preserve", study)
    assert "above 0 and at most 1" in fails("preserve", study, "--share", 1.5, "--decomposition", "canica")
    assert "Choose from" in fails("preserve", study, "--share", 0.5)  # there are two decompositions
    assert "Choose from" in fails("preserve", study, "--share", 0.5, "--decomposition", "nonsense")
    assert "used only with --share" in fails("preserve", study, "--networks", "canica", "--decomposition", "canica")
    assert "only written for a grid" in fails("preserve", study, "--networks", "canica", "--out", tmp_path / "out")
    two = ("preserve", study, "--networks", "canica", "--networks")
    assert "is repeated" in fails(*two, "canica")
    assert "Choose from" in fails(*two, "nonsense")
    assert "shared controls are larger than their network" in fails(*two, "nothing", "--controls", "shared")
    assert "--n-controls is -1" in fails(*two, "nothing", "--n-controls", -1)
