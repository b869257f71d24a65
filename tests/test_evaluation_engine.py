"""The evaluation engine scores nothing twice, loses nothing, and reuses results without changing values."""

import copy
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lmri import MatchedControls, Network, NetworkSet, amplify, conditions_of, evaluate, find_sites, lesion
from lmri.lesions import tasks
from lmri.lesions.baselines import ResampleSource
from lmri.lesions.controls import PermutedControls, SharedControls
from lmri.lesions.evaluation import ItemStore, estimate_cost
from lmri.lesions.evaluation.prefix import PrefixCache
from lmri.lesions.evaluation.run import first_layer
from lmri.lesions.interventions import preserve
from lmri.lesions.scores import Design
from tiny_models import albert, build, remote_code, sentences

TEXTS = sentences(8)


def network(space, layers, seed=0, share=0.2, name="some"):
    members = np.random.default_rng(seed).random(space.n_neurons) < share
    return Network.from_members(space, members & np.isin(space.layer_of, layers), name)


class Counting:
    """Task that counts how often a model is scored on it."""

    def __init__(self, task, fail_at=None):
        self.task, self.n, self.fail_at = task, 0, fail_at

    def __getattr__(self, name):
        return getattr(self.task, name)

    @property
    def info(self):
        return self.task.info

    @info.setter
    def info(self, value):
        self.task.info = value

    def score(self, model, tokenizer):
        self.n += 1
        if self.n == self.fail_at:
            raise KeyboardInterrupt
        return self.task.score(model, tokenizer)


def same(first, second):
    pd.testing.assert_frame_equal(first.items, second.items, check_exact=True)
    pd.testing.assert_frame_equal(first.conditions, second.conditions, check_exact=True)
    pd.testing.assert_frame_equal(first.summary(), second.summary(), check_exact=True)


# -- stored item rows -------------------------------------------------------------------------------------------------


def several():
    return [
        tasks.Perplexity(TEXTS),
        tasks.Classification(TEXTS, ["a", "b"] * 4, {"a": " good", "b": " bad"}, name="mood"),
    ]


def conditions(space):
    sets = [network(space, [0, 1], 1, name="a"), network(space, [2], 2, name="b")]
    return {one.name: lesion(one) for one in sets}


def test_an_evaluation_that_stops_anywhere_goes_on_to_the_same_table(tmp_path, gpt2, tokenizer):
    space = find_sites(gpt2)
    whole = evaluate(gpt2, tokenizer, several(), conditions(space), MatchedControls(3), seed=1)
    n_evaluations = 1 + 2 * (1 + 3)
    for fail_at in (2, 5, n_evaluations):
        store = tmp_path / str(fail_at)
        broken = [Counting(one, fail_at) for one in several()]
        with pytest.raises(KeyboardInterrupt):
            evaluate(gpt2, tokenizer, broken, conditions(space), MatchedControls(3), seed=1, store=ItemStore(store))
        resumed = [Counting(one) for one in several()]
        found = evaluate(
            gpt2, tokenizer, resumed, conditions(space), MatchedControls(3), seed=1, store=ItemStore(store)
        )
        same(found, whole)
        # The intact model is always scored, to see that it is the same.
        assert [one.n for one in resumed] == [n_evaluations - fail_at + 2, n_evaluations - fail_at + 2]


def test_an_evaluation_that_was_killed_goes_on(tmp_path, gpt2, tokenizer):
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        import test_evaluation_engine as t
        from lmri import MatchedControls, evaluate, find_sites
        from lmri.lesions.evaluation import ItemStore
        from tiny_models import build, word_tokenizer
        model, n = build("gpt2"), 0
        def progress(done, of):
            if done == 7:
                os.kill(os.getpid(), signal.SIGKILL)
        evaluate(model, word_tokenizer(), t.several(), t.conditions(find_sites(model)), MatchedControls(3), 1,
                 False, progress, store=ItemStore(Path(sys.argv[1])))
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)], check=False)
    assert done.returncode == -signal.SIGKILL
    space = find_sites(gpt2)
    for path in tmp_path.glob("*.jsonl"):  # and the line that was being written is torn
        with path.open("a") as file:
            file.write('{"of": "half a li')
    resumed = [Counting(one) for one in several()]
    found = evaluate(gpt2, tokenizer, resumed, conditions(space), MatchedControls(3), seed=1, store=ItemStore(tmp_path))
    same(found, evaluate(gpt2, tokenizer, several(), conditions(space), MatchedControls(3), seed=1))
    assert sum(one.n for one in resumed) < 2 * 9


def test_more_controls_are_added_to_those_there(tmp_path, gpt2, tokenizer):
    space = find_sites(gpt2)
    first = evaluate(gpt2, tokenizer, several(), conditions(space), MatchedControls(2), store=ItemStore(tmp_path))
    task = [Counting(one) for one in several()]
    more = evaluate(gpt2, tokenizer, task, conditions(space), MatchedControls(5), store=ItemStore(tmp_path))
    assert [one.n for one in task] == [1 + 2 * 3] * 2
    same(more, evaluate(gpt2, tokenizer, several(), conditions(space), MatchedControls(5)))
    old = first.items.merge(more.items, how="left", indicator=True)
    assert (old["_merge"] == "both").all()
    cost = estimate_cost(gpt2, tokenizer, several(), conditions(space), MatchedControls(7), store=ItemStore(tmp_path))
    assert cost["n_evaluations"].tolist() == [1 + 2 * 2] * 2


def test_what_is_stored_is_not_taken_for_other_weights_texts_or_interventions(tmp_path, gpt2, tokenizer):
    space = find_sites(gpt2)
    made = conditions(space)
    evaluate(gpt2, tokenizer, several()[:1], made, store=ItemStore(tmp_path))

    def n_scored(model, task, made):
        counting = Counting(task)
        evaluate(model, tokenizer, [counting], made, store=ItemStore(tmp_path))
        return counting.n

    assert n_scored(gpt2, tasks.Perplexity(TEXTS), made) == 1
    assert n_scored(gpt2, tasks.Perplexity(TEXTS[1:]), made) == 3
    assert n_scored(gpt2, tasks.Perplexity(TEXTS), {name: preserve(one.target) for name, one in made.items()}) == 3
    assert n_scored(gpt2, tasks.Perplexity(TEXTS), {name: amplify(one.target, 2) for name, one in made.items()}) == 3
    other = build("gpt2")
    with torch.no_grad():
        other.transformer.h[0].mlp.c_proj.weight[0, 0] += 1
    assert n_scored(other, tasks.Perplexity(TEXTS), {name: lesion(one.target) for name, one in made.items()}) == 3
    with lesion(made["a"].target).on(gpt2), pytest.warns(UserWarning, match="already under an intervention"):
        # The same weights, but not the same model.
        assert n_scored(gpt2, tasks.Perplexity(TEXTS), {"b": made["b"]}) == 2


def test_rows_of_a_model_that_scores_otherwise_are_dropped(tmp_path, gpt2, tokenizer):
    space = find_sites(gpt2)
    evaluate(gpt2, tokenizer, several()[:1], conditions(space), store=ItemStore(tmp_path))
    (path,) = tmp_path.glob("*.jsonl")
    text = path.read_text()
    value = text.split('"value": ')[1][:6]
    path.write_text(text.replace(f'"value": {value}', f'"value": {float(value) + 0.1:.4f}', 1))
    task = Counting(several()[0])
    found = evaluate(gpt2, tokenizer, [task], conditions(space), store=ItemStore(tmp_path))
    assert task.n == 3
    same(found, evaluate(gpt2, tokenizer, several()[:1], conditions(space)))
    # They may have taken hours, so they are put aside rather than deleted.
    assert [one.name.partition(".")[2] for one in sorted(tmp_path.iterdir())] == ["jsonl", "old-1"]


def test_what_a_text_leaves_in_the_tokenizer_is_no_other_tokenizer(gpt2, tokenizer, tmp_path):
    tokenizer = copy.deepcopy(tokenizer)  # that of the other tests stays as it is
    store, task = ItemStore(tmp_path), tasks.Perplexity(TEXTS)
    before = store.key(gpt2, tokenizer, task)
    tokenizer("the cat sits on the big house", truncation=True, max_length=2)
    assert store.key(gpt2, tokenizer, task) == before
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["zebra"])
    assert store.key(gpt2, other, task) != before


def test_notes_that_a_task_is_given_are_its_own_and_those_of_scoring_come_back(tmp_path, gpt2, tokenizer):
    made = conditions(find_sites(gpt2))
    texts = [*TEXTS, "word"]  # one token, which cannot be scored
    first = tasks.Perplexity(texts, note="as it was")
    evaluate(gpt2, tokenizer, [first], made, store=ItemStore(tmp_path))
    again = tasks.Perplexity(texts, note="put right")
    notes = evaluate(gpt2, tokenizer, [again], made, store=ItemStore(tmp_path)).summary()["note"]
    assert (notes == "put right; 1 texts not scored").all()


def test_rows_that_two_processes_write_at_once_are_whole(tmp_path, gpt2, tokenizer):
    made, task = conditions(find_sites(gpt2)), tasks.Perplexity(TEXTS)
    one, other = ItemStore(tmp_path), ItemStore(tmp_path)
    evaluate(gpt2, tokenizer, [task], {"a": made["a"]}, store=one)
    key = other.key(gpt2, tokenizer, task)
    (path,) = tmp_path.glob("*.jsonl")
    with path.open("a") as file:
        file.write('{"of": "torn')
    evaluate(gpt2, tokenizer, [task], {"b": made["b"]}, store=other)
    fresh = ItemStore(tmp_path)
    assert all(fresh.find(key, one.digest(), task) is not None for one in made.values())


def test_shared_controls_are_scored_once(gpt2, tokenizer):
    space = find_sites(gpt2)
    rng = np.random.default_rng(0)
    sets = []
    for number in range(3):
        members = np.zeros(space.n_neurons, dtype=bool)
        for z in range(space.n_layers):
            members[int(space.offsets[z]) + rng.choice(space.widths[z], 3, replace=False)] = True
        sets.append(Network.from_members(space, members, f"net-{number}"))
    made = {one.name: lesion(one) for one in sets}
    task = Counting(several()[0])
    scores = evaluate(gpt2, tokenizer, [task], made, SharedControls(sets, n=4))
    assert task.n == 1 + 3 + 4
    summary = scores.summary()
    assert summary["n_controls"].tolist() == [0, 4, 4, 4]
    assert summary["control_mean"].iloc[1:].nunique() == 1
    assert summary["p_fwe"].isna().all()
    with pytest.raises(ValueError, match=r"is not a lesion\. Shared controls are larger"):
        evaluate(gpt2, tokenizer, [task], {"x": preserve(sets[0])}, SharedControls(sets, n=4))


# -- families, repetitions, stopping ----------------------------------------------------------------------------------


def test_every_family_has_a_row_of_its_own(gpt2, tokenizer):
    space = find_sites(gpt2)
    made = conditions(space)
    both = evaluate(gpt2, tokenizer, several()[:1], made, [MatchedControls(4), PermutedControls(3)]).summary()
    for controls, n in ((MatchedControls(4), 4), (PermutedControls(3), 3)):
        alone = evaluate(gpt2, tokenizer, several()[:1], made, controls).summary()
        rows = both[both["control_family"] == controls.family]
        assert rows["n_controls"].tolist() == [n, n]
        pd.testing.assert_frame_equal(
            rows.reset_index(drop=True), alone.iloc[1:].reset_index(drop=True), check_dtype=False
        )
    with pytest.raises(ValueError, match="do not repeat one"):
        evaluate(gpt2, tokenizer, several()[:1], made, [MatchedControls(4), MatchedControls(3)])


def test_repetitions_are_put_together_and_their_spread_is_told(gpt2, tokenizer):
    space = find_sites(gpt2)
    target = network(space, [0, 1, 2], share=0.5)
    rng = np.random.default_rng(0)
    made = [
        lesion(target, ResampleSource(space, rng.normal(size=(20, space.n_neurons)).astype(np.float32), "texts", seed))
        for seed in range(4)
    ]
    task = several()[0]
    scores = evaluate(gpt2, tokenizer, [task], {"ten": made, "one": made[0]}, MatchedControls(2))
    summary = scores.summary().set_index("condition")
    alone = [evaluate(gpt2, tokenizer, [task], {"x": one}).summary()["value"].iloc[1] for one in made]
    assert summary.loc["ten", "value"] == pytest.approx(np.mean(alone))
    assert summary.loc["ten", "sd_repeats"] == pytest.approx(np.std(alone, ddof=1))
    assert summary["n_repeats"].tolist() == [1, 4, 1]
    assert summary["n_items"].tolist() == [8, 8, 8]
    assert np.isnan(summary.loc["one", "sd_repeats"])
    with pytest.raises(ValueError, match="on different neurons"):
        evaluate(gpt2, tokenizer, [task], {"x": [lesion(target), lesion(network(space, [0]))]})
    with pytest.raises(ValueError, match="empty list"):
        evaluate(gpt2, tokenizer, [task], {"x": []})


def test_controls_stop_once_enough_were_as_bad(gpt2, tokenizer):
    space = find_sites(gpt2)
    made = conditions(space)
    full = evaluate(gpt2, tokenizer, several(), made, MatchedControls(40))
    task = [Counting(one) for one in several()]
    told = []
    early = evaluate(
        gpt2, tokenizer, task, made, MatchedControls(40), progress=lambda *at: told.append(at), stop_after=3
    )
    assert early.design == Design(3, 40, ("layer+size",))
    assert task[0].n < 1 + 2 * 41
    assert told[-1] == (2 * (1 + 2 * 41), 2 * (1 + 2 * 41))
    rows, whole = early.summary(), full.summary()
    for (_, row), (_, other) in zip(rows.iterrows(), whole.iterrows(), strict=True):
        if row["condition"] == "intact":
            continue
        controls = full.conditions[full.conditions["control_of"] == row["condition"]]
        diffs = full.control_diffs(next(one for one in full.tasks if one.name == row["task"]))[row["condition"]]
        better = row["task"] == "mood"
        bad = (diffs <= other["diff"] + 1e-9) if better else (diffs >= other["diff"] - 1e-9)  # ties but for rounding
        stops = np.flatnonzero(np.cumsum(bad) >= 3)
        expected = 3 / (stops[0] + 1) if stops.size else (1 + bad.sum()) / 41
        assert row["p"] == pytest.approx(expected)
        assert row["n_controls"] <= len(controls)
        assert row["diff"] == other["diff"]
    assert rows["p_fwe"].isna().all()
    assert early.p_floor == 1 / 41
    with pytest.raises(ValueError, match="stop_after is -1"):
        evaluate(gpt2, tokenizer, several(), made, stop_after=-1)


def test_joint_draws_give_a_p_of_the_largest(gpt2, tokenizer):
    space = find_sites(gpt2)
    scores = evaluate(gpt2, tokenizer, several()[:1], conditions(space), MatchedControls(9))
    summary = scores.summary().iloc[1:]
    task = scores.tasks[0]
    controls = scores.control_diffs(task)
    harm = np.column_stack([np.r_[row["diff"], controls[row["condition"]]] for _, row in summary.iterrows()])
    scaled = (harm - harm.mean(axis=0)) / harm.std(axis=0)
    expected = [(scaled.max(axis=1) >= one - 1e-9).mean() for one in scaled[0]]  # ties but for rounding
    np.testing.assert_allclose(summary["p_fwe"], expected)


def test_the_interval_beyond_controls_is_that_of_resampled_texts(gpt2, tokenizer):
    space = find_sites(gpt2)
    scores = evaluate(gpt2, tokenizer, several()[:1], conditions(space), MatchedControls(6), seed=3)
    row = scores.summary().iloc[1]
    items = scores.items.pivot(index="cluster", columns="condition", values="value")
    tokens = scores.items.pivot(index="cluster", columns="condition", values="n_tokens")["intact"]
    controls = [f"a/control-{number:03d}" for number in range(6)]
    beyond = items["a"] - items[controls].mean(axis=1)
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(items), size=(4000, len(items)))
    means = (beyond.to_numpy() * tokens.to_numpy())[drawn].sum(1) / tokens.to_numpy()[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    width = high - low
    # The Monte Carlo error of the ends, of 2,000 and 4,000 draws, is 2 % of the width.
    assert row["effect_low"] == pytest.approx(low, abs=0.1 * width)  # 5 standard errors
    assert row["effect_high"] == pytest.approx(high, abs=0.1 * width)  # 5 standard errors
    assert row["effect_low"] < row["effect"] < row["effect_high"]


# -- what lies below a lesion -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt", "gpt_neox", "gemma2"])
def test_blocks_below_a_lesion_are_not_run_and_no_number_changes(architecture, tokenizer):
    model = build(architecture)
    space = find_sites(model)
    deep = network(space, [space.n_layers - 1], share=0.5, name="deep")
    middle = network(space, range(1, space.n_layers), share=0.3, name="middle")
    made = {"deep": lesion(deep), "middle": lesion(middle)}
    tasks.Perplexity(TEXTS).score(model, tokenizer)  # the tests of causality and of batches run once per model
    calls = []
    from lmri.models.sites import blocks

    handles = [
        block.register_forward_hook(remote_code(lambda *_, z=z: calls.append(z)), always_call=True)
        for z, block in enumerate(blocks(model))
    ]
    ran = []
    for z, block in enumerate(blocks(model)):
        part = next(block.children())
        handles.append(part.register_forward_hook(remote_code(lambda *_, z=z: ran.append(z))))
    found = evaluate(model, tokenizer, [tasks.Perplexity(TEXTS)], made, MatchedControls(2))
    for handle in handles:
        handle.remove()
    n = space.n_layers
    n_forward = ran.count(n - 1)
    assert ran.count(0) < n_forward / 2
    assert all("forward" not in vars(block) for block in blocks(model))
    for name, one in made.items():
        with one.on(model):
            whole = tasks.Perplexity(TEXTS).score(model, tokenizer)
        np.testing.assert_array_equal(found.items.loc[found.items["condition"] == name, "value"], whole["value"])


def test_a_model_that_gives_something_else_without_its_blocks_is_run_whole(gpt2, tokenizer):
    # Somebody steers the model: what the block gave was steered when it was kept, and would be steered again.
    def steer(module, args, output):
        return (output[0] + 0.5, *output[1:]) if isinstance(output, tuple) else output + 0.5

    handle = gpt2.transformer.h[1].register_forward_hook(remote_code(steer))
    task = tasks.Perplexity(TEXTS)
    prefix = PrefixCache(gpt2, [1, 2])
    with prefix.keeping():
        task.score(gpt2, tokenizer)
    prefix.check()
    assert prefix.depths == [1]
    made = lesion(network(find_sites(gpt2), [2], share=0.5))
    found = evaluate(gpt2, tokenizer, [task], {"x": made}).items
    with made.on(gpt2):
        whole = task.score(gpt2, tokenizer)
    np.testing.assert_array_equal(found.loc[found["condition"] == "x", "value"], whole["value"])
    handle.remove()


def test_a_model_that_leaves_something_behind_for_later_blocks_is_run_whole(gpt2, tokenizer):
    left = {}
    first, last = gpt2.transformer.h[0], gpt2.transformer.h[2]
    handles = [
        first.attn.register_forward_hook(remote_code(lambda module, args, output: left.update(value=output[0].mean()))),
        last.register_forward_pre_hook(remote_code(lambda module, args: (args[0] + left["value"], *args[1:]))),
    ]
    task = tasks.Perplexity(TEXTS, batch_size=2)
    prefix = PrefixCache(gpt2, [1, 2])
    with prefix.keeping():
        task.score(gpt2, tokenizer)
    prefix.check()
    assert prefix.depths == []
    for handle in handles:
        handle.remove()


def test_a_model_whose_later_blocks_miss_the_earlier_ones_is_run_whole(gpt2, tokenizer):
    shared = {}
    first, last = gpt2.transformer.h[0], gpt2.transformer.h[2]
    handles = [
        first.attn.register_forward_hook(remote_code(lambda module, args, output: shared.update(key=output[0]))),
        last.register_forward_hook(remote_code(lambda module, args, output: shared.pop("key") * 0 + output)),
    ]
    made = lesion(network(find_sites(gpt2), [2], share=0.5))
    found = evaluate(gpt2, tokenizer, [tasks.Perplexity(TEXTS)], {"x": made}).items
    with made.on(gpt2):
        whole = tasks.Perplexity(TEXTS).score(gpt2, tokenizer)
    np.testing.assert_array_equal(found.loc[found["condition"] == "x", "value"], whole["value"])
    for handle in handles:
        handle.remove()


def test_prefixes_beyond_the_cache_limit_are_computed(tokenizer):
    model = build("gpt2")
    space = find_sites(model)
    task = tasks.Perplexity(TEXTS, batch_size=2)
    prefix = PrefixCache(model, [2], budget=20_000)
    with prefix.keeping():
        task.score(model, tokenizer)
    assert 0 < prefix.n_bytes <= 20_000
    prefix.check()
    made = lesion(network(space, [2], share=0.5))
    with prefix.using(2), made.on(model):
        mixed = task.score(model, tokenizer)
    with made.on(model):
        whole = task.score(model, tokenizer)
    assert prefix.n_skipped > 0
    pd.testing.assert_frame_equal(mixed, whole, check_exact=True)


def test_the_first_layer_is_that_of_what_changes():
    model = build("gpt2")
    space = find_sites(model)
    assert first_layer(lesion(network(space, [2]))) == 2
    assert first_layer(preserve(network(space, [0]))) == 0
    assert first_layer(lesion(network(space, []))) == 0


def test_conditions_can_have_repetitions(gpt2):
    space = find_sites(gpt2)
    one = network(space, [0, 1], name="a")
    sets = NetworkSet(space, one.weights[None], one.members[None], "set")
    made = conditions_of(sets, lambda target: [lesion(target), lesion(target)])
    assert [len(own) for own in made.values()] == [2, 2, 2]


def test_layers_that_share_their_blocks_are_run_whole():
    model = albert(4, 2)
    space = find_sites(model, "mlp_out")
    for z in range(4):
        network = Network.from_members(space, space.layer_of == z)
        assert first_layer(lesion(network)) == 0
