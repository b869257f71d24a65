"""Evaluation of tasks under conditions with matched controls finds simulated effects, and none by chance."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import false_discovery_control

import lmri
from lmri import (
    MatchedControls,
    Network,
    NetworkSet,
    amplify,
    conditions_of,
    evaluate,
    find_sites,
    lesion,
    open_study,
    preserve,
    record,
)
from lmri.demo.texts import generate
from lmri.exceptions import DataWarning, EntryExistsError, OtherWeightsWarning, SpaceMismatchError
from lmri.lesions import tasks
from lmri.lesions.controls import random_share
from lmri.lesions.scores import SUMMARY_COLUMNS
from lmri.models import hashes
from lmri.space import NeuronSpace
from tiny_models import WORDS, assert_untouched, build, sentences, snapshot
from tolerances import rounding

TEXTS = sentences(10)
HIDDEN = 400
PLANTED = ((1, 3), (1, 77), (2, 200), (2, 399))
"""Layer and neuron of four hidden neurons that together carry what the rigged model knows."""


def members_at(space, places):
    members = np.zeros(space.n_neurons, dtype=bool)
    members[[space.index(layer, neuron) for layer, neuron in places]] = True
    return members


def some(space, seed=0, share=0.1, name="some"):
    return Network.from_members(space, np.random.default_rng(seed).random(space.n_neurons) < share, name)


@pytest.fixture(scope="module")
def rigged(tokenizer):
    """Build a model that predicts "the" after any word by means of exactly four hidden neurons."""
    model = build("gpt2", hidden=HIDDEN)
    with torch.no_grad():
        direction = torch.randn(model.config.n_embd, generator=torch.Generator().manual_seed(1))
        direction -= direction.mean()  # layer norm takes the mean away
        for block in model.transformer.h:
            block.mlp.c_proj.weight.mul_(0.1)
        for layer, neuron in PLANTED:
            mlp = model.transformer.h[layer].mlp
            mlp.c_fc.weight[:, neuron] = 0
            mlp.c_fc.bias[neuron] = 4.0  # always active
            mlp.c_proj.weight[neuron] = direction
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())  # no longer tied to the embedding
        model.lm_head.weight[tokenizer.convert_tokens_to_ids("the")] = 0.3 * direction
        model.transformer.ln_f.weight.fill_(1)
        model.transformer.ln_f.bias.zero_()
    return model


@pytest.fixture(scope="module")
def texts_of_the():
    return [" ".join([word, *["the"] * (4 + number)]) for number, word in enumerate(WORDS[1:13])]


# -- planted truth ----------------------------------------------------------------------------------------------------


def test_a_planted_network_is_found_and_random_networks_are_not(rigged, tokenizer, texts_of_the):
    space = find_sites(rigged, "mlp_hidden")
    planted = Network.from_members(space, members_at(space, PLANTED), "planted")
    chance = [MatchedControls().draw(planted, number, seed=99) for number in range(5)]
    chance = [Network.from_members(space, one.members, f"chance-{number}") for number, one in enumerate(chance)]
    assert not any((one.members & planted.members).any() for one in chance)
    conditions = {network.name: lesion(network) for network in (planted, *chance)}
    scores = evaluate(rigged, tokenizer, [tasks.Perplexity(texts_of_the)], conditions, MatchedControls(n=39), seed=0)
    table = scores.summary().set_index("condition")
    found = table.loc["planted"]
    assert found["p"] == 1 / 40
    assert found["q"] == pytest.approx(6 / 40)  # one of six at the floor
    assert found["diff"] > 1
    assert found["effect"] > 0.9 * found["diff"]  # the controls do next to nothing
    assert found["ci_low"] > 0.5
    others = table.loc[[network.name for network in chance]]
    assert (others["p"] > 0.05).all()
    assert (others["diff"].abs() < 0.05 * found["diff"]).all()


def test_a_lesion_that_helps_is_not_called_harmful(rigged, tokenizer):
    # The control of the direction: where "the" never comes, the planted neurons mislead, and losing them helps.
    space = find_sites(rigged, "mlp_hidden")
    planted = Network.from_members(space, members_at(space, PLANTED), "planted")
    texts = [" ".join(word for word in text.split() if word != "the") for text in sentences(12, shortest=6)]
    perplexity = evaluate(
        rigged, tokenizer, [tasks.Perplexity(texts)], {"planted": lesion(planted)}, MatchedControls(n=19)
    )
    row = perplexity.summary().set_index("condition").loc["planted"]
    assert row["diff"] < -1
    assert row["p"] == 1.0
    # And where higher is better, worse is lower.
    always = tasks.Classification(texts, ["the"] * 12, {"the": " the", "dog": " dog"})
    classified = evaluate(rigged, tokenizer, [always], {"planted": lesion(planted)}, MatchedControls(n=19)).summary()
    assert classified["value"].iloc[0] == 1.0
    row = classified.set_index("condition").loc["planted"]
    assert row["diff"] < 0
    assert row["p"] == 1 / 20


# -- what is evaluated ------------------------------------------------------------------------------------------------


def test_intact_comes_first_and_controls_follow_their_condition(gpt2, tokenizer):
    space = find_sites(gpt2)
    conditions = {"one": lesion(some(space, 1, name="a")), "two": lesion(some(space, 2, name="b"))}
    scores = evaluate(gpt2, tokenizer, [tasks.Perplexity(TEXTS)], conditions, MatchedControls(n=2))
    assert scores.conditions["condition"].tolist() == [
        "intact", "one", "one/control-000", "one/control-001", "two", "two/control-000", "two/control-001",
    ]  # fmt: skip
    assert scores.conditions["kind"].tolist() == ["intact", *["network", "control", "control"] * 2]
    assert scores.conditions["control_of"].tolist() == ["", "", "one", "one", "", "two", "two"]
    assert scores.conditions["draw"].tolist() == [-1, -1, 0, 1, -1, 0, 1]
    summary = scores.summary()
    assert tuple(summary.columns) == SUMMARY_COLUMNS
    assert summary["condition"].tolist() == ["intact", "one", "two"]
    assert summary["network"].tolist() == ["", "a", "b"]
    assert summary["n_neurons"].tolist() == [0, some(space, 1).n_neurons, some(space, 2).n_neurons]
    intact = summary.iloc[0]
    assert intact[["diff", "ci_low", "ci_high", "control_mean", "effect", "p", "q"]].isna().all()
    assert intact["n_controls"] == 0


def test_every_condition_is_scored_under_its_own_intervention(gpt2, tokenizer):
    space = find_sites(gpt2, "mlp_hidden")
    network, task = some(space), tasks.Perplexity(TEXTS)
    conditions = {
        "lesion": lesion(network),
        "preserve": preserve(network),
        "amplify": amplify(network, gain=2),
    }
    scores = evaluate(gpt2, tokenizer, [task], conditions, MatchedControls(n=1))
    control = MatchedControls(n=1).draw(network, 0, 0)
    expected = {"intact": task.score(gpt2, tokenizer)["value"].tolist()}
    for name, intervention in conditions.items():
        with intervention.on(gpt2):
            expected[name] = task.score(gpt2, tokenizer)["value"].tolist()
        # A control is the same intervention on other neurons.
        with intervention.on_other(control).on(gpt2):
            expected[f"{name}/control-000"] = task.score(gpt2, tokenizer)["value"].tolist()
    got = {name: items["value"].tolist() for name, items in scores.items.groupby("condition")}
    assert got == expected
    assert len({tuple(values) for values in got.values()}) == 7  # all of them differ
    summary = scores.summary().set_index("condition")
    weights = scores.items.loc[scores.items["condition"] == "intact", "n_tokens"]
    close = rounding(summary.loc["intact", "value"], len(TEXTS))
    for name in ("intact", *conditions):
        assert summary.loc[name, "value"] == pytest.approx(np.average(expected[name], weights=weights), abs=close)
        assert summary.loc["lesion", "n_items"] == len(TEXTS)
    diff = summary.loc["lesion", "value"] - summary.loc["intact", "value"]
    control_diff = np.average(expected["lesion/control-000"], weights=weights) - summary.loc["intact", "value"]
    assert summary.loc["lesion", "diff"] == pytest.approx(diff, abs=close)
    assert summary.loc["lesion", "control_mean"] == pytest.approx(control_diff, abs=close)
    assert summary.loc["lesion", "effect"] == pytest.approx(diff - control_diff, abs=close)


def test_the_model_is_itself_afterwards_also_if_a_task_fails(gpt2, tokenizer):
    space = find_sites(gpt2)
    before = snapshot(gpt2)
    evaluate(gpt2, tokenizer, [tasks.Perplexity(TEXTS)], {"one": lesion(some(space))}, MatchedControls(n=2))
    assert_untouched(gpt2, before)

    class Failing(tasks.Perplexity):
        n_calls = 0

        def score(self, model, tokenizer):
            self.n_calls += 1
            if self.n_calls == 2:
                raise RuntimeError("out of memory")
            return super().score(model, tokenizer)

    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(gpt2, tokenizer, [Failing(TEXTS)], {"one": lesion(some(space))})
    assert_untouched(gpt2, before)


def test_an_empty_network_is_a_row_of_no_neurons_and_no_difference(gpt2, tokenizer):
    space = find_sites(gpt2)
    empty = Network.from_members(space, np.zeros(space.n_neurons, dtype=bool), "empty")
    conditions = {"empty": lesion(empty), "full": lesion(some(space))}
    scores = evaluate(gpt2, tokenizer, [tasks.Perplexity(TEXTS)], conditions, MatchedControls(n=2))
    row = scores.summary().set_index("condition").loc["empty"]
    assert row["n_neurons"] == 0
    assert row["diff"] == 0
    assert row["n_controls"] == 0
    assert np.isnan(row["p"])
    assert scores.summary().set_index("condition").loc["full", "n_controls"] == 2
    # Of nothing preserved, all is silenced: then no neurons do make a difference.
    preserved = evaluate(gpt2, tokenizer, [tasks.Perplexity(TEXTS)], {"empty": preserve(empty)}).summary()
    assert preserved["diff"].iloc[1] != 0


def test_the_conditions_of_the_paper_are_each_network_their_union_and_a_random_share(gpt2, tokenizer):
    space = find_sites(gpt2)
    weights = np.zeros((2, space.n_neurons), dtype=np.float32)
    weights[0, :3], weights[1, 2:7] = 1, -2
    networks = NetworkSet(space, weights, method="canica").threshold("support")
    conditions = conditions_of(networks, lesion)
    assert list(conditions) == ["canica-00", "canica-01", "canica-union", "random-15%"]
    sizes = [one.target.n_neurons for one in conditions.values()]
    assert sizes == [3, 5, 7, round(0.15 * space.n_neurons)]
    scores = evaluate(gpt2, tokenizer, [tasks.Perplexity(TEXTS)], conditions, MatchedControls(n=1))
    summary = scores.summary().set_index("condition")
    # The random share is a control itself, and gets none.
    assert summary["n_controls"].to_dict() == {
        "intact": 0, "canica-00": 1, "canica-01": 1, "canica-union": 1, "random-15%": 0,
    }  # fmt: skip
    assert scores.conditions.set_index("condition")["kind"][["canica-union", "random-15%"]].tolist() == [
        "union",
        "random",
    ]


def test_several_tasks_are_kept_apart(gpt2, tokenizer):
    space = find_sites(gpt2)
    labels = ["a", "b"] * 5
    several = [
        tasks.Perplexity(TEXTS[:6], name="short"),
        tasks.Classification(TEXTS, labels, {"a": " good", "b": " bad"}, name="mood"),
    ]
    scores = evaluate(gpt2, tokenizer, several, {"one": lesion(some(space))}, MatchedControls(n=2))
    summary = scores.summary()
    assert summary["task"].tolist() == ["short", "short", "mood", "mood"]
    assert summary["metric"].tolist() == ["nats_per_token", "nats_per_token", "accuracy", "accuracy"]
    assert summary["n_items"].tolist() == [6, 6, 10, 10]
    alone = evaluate(gpt2, tokenizer, several[:1], {"one": lesion(some(space))}, MatchedControls(n=2)).summary()
    pd.testing.assert_frame_equal(summary.iloc[:2], alone)
    assert set(scores.label_counts()["task"]) == {"mood"}
    assert set(scores.label_counts()["condition"]) == {"intact", "one"}


def test_progress_is_told_for_every_task_and_condition(gpt2, tokenizer):
    told = []
    space = find_sites(gpt2)
    empty = Network.from_members(space, np.zeros(space.n_neurons, dtype=bool))
    several = [tasks.Perplexity(TEXTS, name="one"), tasks.Perplexity(TEXTS[:3], name="two")]
    conditions = {"some": lesion(some(space)), "empty": lesion(empty)}
    evaluate(
        gpt2,
        tokenizer,
        several,
        conditions,
        MatchedControls(n=2),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(done, 10) for done in range(1, 11)]  # two tasks: intact, some, two controls, empty


# -- what is refused --------------------------------------------------------------------------------------------------


def test_names_that_would_collide_are_refused(gpt2, tokenizer):
    space = find_sites(gpt2)
    with pytest.raises(ValueError, match="A condition is named 'intact'"):
        evaluate(gpt2, tokenizer, [tasks.Perplexity(TEXTS)], {"intact": lesion(some(space))})
    with pytest.raises(ValueError, match=r"named \['perplexity', 'perplexity'\]; names must be unique"):
        evaluate(gpt2, tokenizer, [tasks.Perplexity(TEXTS), tasks.Perplexity(TEXTS[:3])], {})
    with pytest.raises(ValueError, match="tasks is empty"):
        evaluate(gpt2, tokenizer, [], {})


def test_scoring_the_texts_that_made_a_network_is_warned_of(recorded, gpt2, tokenizer):
    recording = recorded.recording("words", "mlp_out")
    space = recording.space
    networks = NetworkSet(
        space, np.eye(2, space.n_neurons, dtype=np.float32), fit_texts=hashes(recording.fit_texts)
    ).threshold("support")
    fitted, held_out = recording.fit_texts[:3], recording.test_texts
    for conditions in (conditions_of(networks, lesion), {"union": lesion(networks.union())}):
        with pytest.warns(DataWarning, match="3 of the 4 texts of 'perplexity' were used to find the networks"):
            evaluate(gpt2, tokenizer, [tasks.Perplexity([*fitted, held_out[0]])], conditions)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*worse than guessing")  # the model is untrained
            evaluate(gpt2, tokenizer, [tasks.Perplexity(held_out)], conditions)


def test_other_weights_are_warned_of_or_refused(tokenizer, gpt2):
    conditions = {"one": lesion(some(find_sites(build("gpt2", seed=1))))}
    with pytest.warns(OtherWeightsWarning):
        evaluate(gpt2, tokenizer, [tasks.Perplexity(TEXTS)], conditions)
    with pytest.raises(SpaceMismatchError, match="other weights"):
        evaluate(gpt2, tokenizer, [tasks.Perplexity(TEXTS)], conditions, strict=True)


# -- controls ---------------------------------------------------------------------------------------------------------


SPACE = NeuronSpace.build([40, 60, 20, 50])


def test_controls_have_as_many_neurons_in_every_layer():
    network = Network.from_members(SPACE, np.random.default_rng(0).random(SPACE.n_neurons) < 0.3)
    whole_layer = Network.from_members(SPACE, SPACE.layer_of == 2)
    for number in range(30):
        drawn = MatchedControls(n=30).draw(network, number, seed=0)
        assert drawn.layer_profile().tolist() == network.layer_profile().tolist()
        assert drawn.kind == "control"
        assert not np.array_equal(drawn.members, network.members)
        # Of a whole layer there is only one set of that size.
        assert np.array_equal(MatchedControls(n=30).draw(whole_layer, number, 0).members, whole_layer.members)


def test_controls_differ_between_draws_and_seeds_and_repeat_otherwise():
    network, other = some(SPACE, name="one"), some(SPACE, name="other")

    def neurons(network, number, seed, n=5):
        return tuple(np.flatnonzero(MatchedControls(n=n).draw(network, number, seed).members))

    drawn = {neurons(network, number, seed) for number in range(10) for seed in range(3)}
    assert len(drawn) == 30
    assert neurons(other, 0, 0) == neurons(network, 0, 0)  # a name changes nothing
    assert neurons(network, 3, 1) == neurons(network, 3, 1) == neurons(network, 3, 1, n=100)


def test_every_neuron_of_a_layer_is_drawn_equally_often():
    network = Network.from_members(SPACE, members_at(SPACE, [(0, 0), (0, 1), (3, 9)]))
    counts = sum(MatchedControls().draw(network, number, 0).members.astype(int) for number in range(2000))
    assert counts[SPACE.layer_of == 0].sum() == 4000
    assert counts[SPACE.layer_of == 3].sum() == 2000
    assert not counts[np.isin(SPACE.layer_of, [1, 2])].any()
    # 100 and 40 expected, with a standard deviation of 9.7 and 6.3; five of them are never exceeded by chance.
    assert np.abs(counts[SPACE.layer_of == 0] - 100).max() < 50
    assert np.abs(counts[SPACE.layer_of == 3] - 40).max() < 32


def test_controls_of_one_condition_do_not_depend_on_the_others(gpt2, tokenizer):
    space, task = find_sites(gpt2), tasks.Perplexity(TEXTS)
    one, two = lesion(some(space, 1, name="a")), lesion(some(space, 2, name="b"))
    controls = MatchedControls(n=3)
    both = evaluate(gpt2, tokenizer, [task], {"two": two, "one": one}, controls, seed=5).summary()
    alone = evaluate(gpt2, tokenizer, [task], {"one": one}, controls, seed=5).summary()
    again = evaluate(gpt2, tokenizer, [task], {"one": one}, controls, seed=5).summary()
    other = evaluate(gpt2, tokenizer, [task], {"one": one}, controls, seed=6).summary()
    pd.testing.assert_frame_equal(alone, again)
    # But for p of the largest effect, which is of all that was looked at.
    pd.testing.assert_series_equal(both.iloc[2].drop("p_fwe"), alone.iloc[1].drop("p_fwe"), check_names=False)
    assert other["control_mean"].iloc[1] != alone["control_mean"].iloc[1]


def test_a_random_share_has_its_size_and_its_seed():
    drawn = random_share(SPACE, 0.15, seed=0)
    assert drawn.n_neurons == round(0.15 * 170)
    assert drawn.name == "random-15%"
    assert drawn.kind == "random"
    assert np.array_equal(random_share(SPACE, 0.15, seed=0).members, drawn.members)
    assert not np.array_equal(random_share(SPACE, 0.15, seed=1).members, drawn.members)
    mean = np.mean([random_share(SPACE, 0.15, seed).layer_profile() for seed in range(300)], axis=0)
    # Uniform over neurons, so wide layers have more; the standard error of a mean is at most 0.15.
    np.testing.assert_allclose(mean, np.array(SPACE.widths) * round(0.15 * 170) / 170, atol=0.75)  # 5 standard errors
    for share in (0, 1, -0.1):
        with pytest.raises(ValueError, match="it must lie between 0 and 1"):
            random_share(SPACE, share, 0)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"match": ("layer",)}, {"match": ("layer", "size", "energy")}])
def test_controls_that_do_not_exist_are_refused(wrong):
    with pytest.raises(ValueError, match=r"controls=None|accepted is"):
        MatchedControls(**wrong)


# -- p, q and intervals -----------------------------------------------------------------------------------------------


def test_q_is_that_of_benjamini_and_hochberg_over_the_conditions_of_a_task(gpt2, tokenizer):
    space = find_sites(gpt2)
    conditions = {f"c{number}": lesion(some(space, number, name=f"c{number}")) for number in range(4)}
    several = [tasks.Perplexity(TEXTS, name="one"), tasks.Perplexity(TEXTS[:6], name="two")]
    table = evaluate(gpt2, tokenizer, several, conditions, MatchedControls(n=19)).summary()
    for _, own in table[table["p"].notna()].groupby("task"):
        assert own["p"].nunique() > 1
        expected = false_discovery_control(own["p"].to_numpy(dtype=float))
        np.testing.assert_allclose(own["q"].to_numpy(dtype=float), expected)


@pytest.mark.parametrize("n", [5, 19])
def test_q_is_missing_where_even_the_smallest_p_would_not_be_significant(rigged, tokenizer, texts_of_the, n):
    space = find_sites(rigged, "mlp_hidden")
    planted = Network.from_members(space, members_at(space, PLANTED), "planted")
    conditions = {"planted": lesion(planted)}
    scores = evaluate(rigged, tokenizer, [tasks.Perplexity(texts_of_the)], conditions, MatchedControls(n=n))
    row = scores.summary().iloc[1]
    assert row["p"] == scores.p_floor == 1 / (n + 1)
    assert row["n_controls"] == n
    assert np.isnan(row["q"]) == (n == 5)


def test_the_interval_is_that_of_a_mean_over_texts_of_different_lengths(gpt2, tokenizer):
    space, texts = find_sites(gpt2), sentences(60, shortest=6)
    scores = evaluate(gpt2, tokenizer, [tasks.Perplexity(texts)], {"one": lesion(some(space))})
    row = scores.summary().iloc[1]
    assert row["ci_low"] < row["diff"] < row["ci_high"]
    # The oracle: the standard error of a weighted mean, sum(w d) / sum(w), over independent texts.
    values = {name: items["value"].to_numpy() for name, items in scores.items.groupby("condition")}
    weights = scores.items.loc[scores.items["condition"] == "one", "n_tokens"].to_numpy()
    differences = values["one"] - values["intact"]
    error = np.sqrt(((weights * (differences - row["diff"])) ** 2).sum()) / weights.sum()
    # The ends of an interval of 2,000 draws are off by about 3 %, and the theory holds for many texts.
    assert (row["ci_high"] - row["ci_low"]) / 2 == pytest.approx(1.96 * error, rel=0.1)  # 3 times that error


@pytest.mark.parametrize(("n_texts", "is_there"), [(4, False), (5, True)])
def test_there_is_no_interval_of_fewer_than_five_texts(gpt2, tokenizer, n_texts, is_there):
    task = tasks.Perplexity(TEXTS[:n_texts])
    row = evaluate(gpt2, tokenizer, [task], {"one": lesion(some(find_sites(gpt2)))}).summary().iloc[1]
    assert np.isfinite(row["diff"])
    assert (np.isfinite(row["ci_low"]), np.isfinite(row["ci_high"])) == (is_there, is_there)


# -- on disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 19])
def test_the_summary_of_stored_rows_is_the_same(tmp_path, gpt2, tokenizer, n):
    space = find_sites(gpt2)
    several = [
        tasks.Perplexity(TEXTS),
        tasks.Classification(TEXTS, ["NA", "1e3"] * 5, {"NA": " good", "1e3": " bad"}, name="mood"),
    ]
    empty = Network.from_members(space, np.zeros(space.n_neurons, dtype=bool), "empty")
    conditions = {"null": lesion(some(space, share=0.3)), "nothing": lesion(empty)}
    scores = evaluate(gpt2, tokenizer, several, conditions, MatchedControls(n=n))
    record(gpt2, tokenizer, TEXTS, tmp_path)
    study = open_study(tmp_path)
    entry = study.save_scores(scores, "lesions", "mlp_out", parameters={"intervention": "lesion"})
    read = study.scores("lesions")
    assert tuple(read.summary().columns) == SUMMARY_COLUMNS
    pd.testing.assert_frame_equal(read.summary(), scores.summary())
    pd.testing.assert_frame_equal(read.label_counts(), scores.label_counts())
    assert read.p_floor == scores.p_floor == 1 / (n + 1)
    assert list(read.tasks) == list(scores.tasks)
    assert any(path.name.endswith("scores.tsv") for path in entry.folder.iterdir())


def test_scores_are_stored_once_and_others_need_another_name(tmp_path, gpt2, tokenizer):
    record(gpt2, tokenizer, TEXTS, tmp_path)
    study, space = open_study(tmp_path), find_sites(gpt2)
    task, network, controls = tasks.Perplexity(TEXTS), some(space), MatchedControls(n=2)

    def save(tasks=(task,), intervention=None, controls=controls, seed=0, model=gpt2):
        conditions = {"one": intervention or lesion(network)}
        return study.save_scores(evaluate(model, tokenizer, tasks, conditions, controls, seed), "mine", "mlp_out")

    first = save()
    before = {path: path.read_bytes() for path in first.folder.iterdir()}
    assert save().folder == first.folder
    head = build("gpt2", tie_word_embeddings=False)
    with torch.no_grad():  # the same body, another head
        head.transformer.load_state_dict(gpt2.transformer.state_dict())
    for other in (
        {"tasks": [tasks.Perplexity(TEXTS[:-1])]},
        {"intervention": lesion(some(space, seed=1))},
        {"intervention": amplify(network, gain=2)},
        {"controls": MatchedControls(n=3)},
        {"controls": None},
        {"seed": 1},
        {"model": head},
    ):
        with pytest.raises(EntryExistsError, match=r"Scores 'mine' \(.*\) already exist"):
            save(**other)
    assert {path: path.read_bytes() for path in first.folder.iterdir()} == before


def test_only_the_intact_model_can_be_scored(gpt2, tokenizer):
    scores = evaluate(gpt2, tokenizer, [tasks.Perplexity(TEXTS)], {})
    assert scores.summary()["condition"].tolist() == ["intact"]
    assert scores.p_floor == 1.0
    assert len(scores.items) == len(TEXTS)


def test_a_model_that_only_guesses_is_warned_of_and_a_trained_one_is_not(gpt2, tokenizer):
    with torch.no_grad():
        gpt2.lm_head.weight.mul_(50)  # sure of itself, and wrong
    conditions = {"one": lesion(some(find_sites(gpt2)))}
    with pytest.warns(DataWarning, match="worse than guessing"):
        evaluate(gpt2, tokenizer, [tasks.Perplexity(TEXTS)], conditions)
    demo, own = lmri.load_model("lmri-demo")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(demo, own, [tasks.Perplexity(generate("news", 3, 1))], {"one": lesion(some(find_sites(demo)))})
