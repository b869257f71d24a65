"""The lm-evaluation-harness on the loaded model: identical results, lesions included, and no side effects."""

import copy
import json
import math
import sys
import textwrap

import numpy as np
import pytest
import torch

from lmri import MatchedControls, Network, evaluate, find_sites, lesion
from lmri.exceptions import DataWarning
from lmri.lesions.tasks.base import Task
from lmri.models import hashes
from tiny_models import assert_untouched, build, sentences, snapshot, word_tokenizer

pytest.importorskip("lm_eval", reason="the lm-evaluation-harness is not installed: pip install 'lmri[lm-eval]'")
pytest.importorskip("accelerate", reason="accelerate is not installed, which the harness' models need")

from lmri.lesions.tasks.lm_eval import HarnessTask, LMEval
from tolerances import model_rounding

CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
  cache_dir: {cache}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}} it was"
doc_to_choice: ["good", "very bad and sad"]
doc_to_target: label
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
  - {{metric: mcc}}
"""
GENERATE = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
  cache_dir: {cache}
test_split: test
output_type: generate_until
doc_to_text: "{{{{text}}}}"
doc_to_target: answer
generation_kwargs: {{max_gen_toks: 6, do_sample: false, until: ["</s>"]}}
filter_list:
  - name: first-letter
    filter:
      - {{function: regex, regex_pattern: "^ ?([a-h]\\\\w*)"}}
      - {{function: take_first}}
  - name: rest
    filter:
      - {{function: take_first}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with three tasks of the harness and their documents."""
    root = tmp_path_factory.mktemp("harness")
    rng = np.random.default_rng(0)
    docs = [
        {"text": text, "label": int(rng.integers(2)), "author": f"author {number % 4}", "answer": "the"}
        for number, text in enumerate(sentences(24))
    ]
    (root / "docs.jsonl").write_text("\n".join(map(json.dumps, docs)), encoding="utf-8")
    rolling = CHOICE.replace("multiple_choice", "loglikelihood_rolling").replace("acc,", "word_perplexity,")
    for name, form in {"tiny_choice": CHOICE, "tiny_answer": GENERATE, "tiny_rolling": rolling}.items():
        text = form.format(name=name, data=root / "docs.jsonl", cache=root / "cache")
        (root / f"{name}.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def choice(folder):
    return LMEval(["tiny_choice"], include=folder)[0]


def some(space, seed=0, share=0.3):
    return Network.from_members(space, np.random.default_rng(seed).random(space.n_neurons) < share, "some")


def own_results(folder, name, model, tokenizer):
    """Score with the harness alone: the oracle."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    lm = HFLM(pretrained=copy.deepcopy(model), tokenizer=copy.deepcopy(tokenizer), batch_size=8)
    return simple_evaluate(model=lm, tasks=[name], task_manager=manager, bootstrap_iters=0)


def zeroed(model, network):
    """Copy a GPT-2 with the output weights of hidden neurons set to 0."""
    copied = copy.deepcopy(model)
    for z, layer in enumerate(network.space.layers):
        neurons = np.flatnonzero(network.members[network.space.layer_of == z])
        copied.base_model.get_submodule(layer.module).weight.data[neurons] = 0
    return copied


def test_values_are_those_of_the_harness_intact_and_lesioned(folder, choice, gpt2, tokenizer):
    network = some(find_sites(gpt2, "mlp_hidden"))
    scored = {"intact": choice.score(gpt2, tokenizer)}
    with lesion(network).on(gpt2):
        scored["lesion"] = choice.score(gpt2, tokenizer)
    for condition, model in (("intact", gpt2), ("lesion", zeroed(gpt2, network))):
        own = own_results(folder, "tiny_choice", model, tokenizer)
        samples = own["samples"]["tiny_choice"]
        assert scored[condition]["value"].tolist() == [sample["acc"] for sample in samples]
        assert scored[condition]["value"].mean() == own["results"]["tiny_choice"]["acc,none"]
        margins = [
            sample["filtered_resps"][sample["target"]][0] - sample["filtered_resps"][1 - sample["target"]][0]
            for sample in samples
        ]
        close = model_rounding(model, [answer[0] for sample in samples for answer in sample["filtered_resps"]])
        np.testing.assert_allclose(scored[condition]["margin"], margins, atol=close)
    # The control: the lesion was seen at all.
    assert (scored["intact"]["margin"] - scored["lesion"]["margin"]).abs().min() > close


def test_rows_are_what_a_task_gives(choice, gpt2, tokenizer):
    assert isinstance(choice, HarnessTask)
    protocol: Task = choice
    info = protocol.info
    assert (info.name, info.scoring, info.metric, info.higher_is_better) == (
        "tiny_choice",
        "loglikelihood",
        "accuracy",
        True,
    )
    rows = choice.score(gpt2, tokenizer)
    assert list(rows) == ["item", "cluster", "n_tokens", "value", "label", "predicted", "margin"]
    assert len(rows) == rows["cluster"].nunique() == 24
    assert set(rows["label"]) == {"good", "very bad and sad"}
    assert ((rows["predicted"] == rows["label"]) == rows["value"].astype(bool)).all()
    assert ((rows["margin"] > 0) == rows["value"].astype(bool)).all()
    texts = sentences(24)
    assert set(texts) <= set(choice.texts)  # so that texts which were fitted are noticed
    longest = [len(f"{text} it was very bad and sad".split()) for text in texts]
    assert rows["n_tokens"].tolist() == longest
    again = choice.score(gpt2, tokenizer)
    assert again.equals(rows)


def test_the_normalized_accuracy_is_by_characters(folder, gpt2, tokenizer):
    task = LMEval(["tiny_choice"], include=folder, metric="acc_norm")[0]
    assert (task.info.scoring, task.info.metric) == ("loglikelihood/character", "accuracy")
    own = own_results(folder, "tiny_choice", gpt2, tokenizer)["samples"]["tiny_choice"]
    rows = task.score(gpt2, tokenizer)
    assert rows["value"].tolist() == [sample["acc_norm"] for sample in own]
    assert ((rows["predicted"] == rows["label"]) == rows["value"].astype(bool)).all()


def test_clusters_can_be_a_field_of_the_documents(folder, gpt2, tokenizer):
    task = LMEval(["tiny_choice"], include=folder, cluster="author")[0]
    assert task.score(gpt2, tokenizer)["cluster"].nunique() == 4
    with pytest.raises(ValueError, match="have no field 'premise'; they have 'text', 'label'"):
        LMEval(["tiny_choice"], include=folder, cluster="premise")


def test_an_answer_that_the_filter_cannot_read_is_missing_and_not_wrong(folder, gpt2, tokenizer):
    task = LMEval(["tiny_answer"], include=folder)[0]
    assert (task.info.scoring, task.info.metric, task.filter) == ("generate", "exact_match", "first-letter")
    rows = task.score(gpt2, tokenizer)
    unread = rows["answer"] == "[invalid]"
    assert 0 < unread.sum() < len(rows)
    assert rows["value"].isna().equals(unread)
    own = own_results(folder, "tiny_answer", gpt2, tokenizer)["samples"]["tiny_answer"]
    expected = [sample["filtered_resps"][0] for sample in own if sample["filter"] == "first-letter"]
    assert rows["answer"].tolist() == expected
    network = some(find_sites(gpt2), share=0.8)
    with lesion(network).on(gpt2):
        assert task.score(gpt2, tokenizer)["answer"].tolist() != expected
    whole = LMEval(["tiny_answer"], include=folder, filter="rest")[0]
    assert whole.score(gpt2, tokenizer)["value"].notna().all()
    with pytest.raises(ValueError, match="filter of 'tiny_answer' is 'x'; choose from 'first-letter', 'rest'"):
        LMEval(["tiny_answer"], include=folder, filter="x")


def test_an_evaluation_takes_the_tasks_beside_controls(folder, gpt2, tokenizer):
    harness = LMEval(["tiny_choice", "tiny_answer"], include=folder, limit=6)
    assert [task.info.name for task in harness] == ["tiny_choice", "tiny_answer"]
    assert [task.info.name for task in harness[:1]] == ["tiny_choice"]
    network = some(find_sites(gpt2))
    scores = evaluate(gpt2, tokenizer, harness, {"some": lesion(network)}, MatchedControls(n=3))
    table = scores.summary()
    assert set(table["task"]) == {"tiny_choice", "tiny_answer"}
    assert (table["n_items"] == 6).all()
    assert table.loc[table["condition"] == "some", "n_controls"].eq(3).all()


def test_neither_model_nor_tokenizer_is_changed(choice):
    # The harness ties weights, and sets a pad token where there is none.
    tokenizer, model = word_tokenizer(), build("gpt2")
    tokenizer.pad_token = None
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone() + 1)  # untied
    model.train()
    before, vocabulary, pad = snapshot(model), len(tokenizer), tokenizer.pad_token
    state = torch.random.get_rng_state()
    choice.score(model, tokenizer)
    assert_untouched(model, before)
    assert "tie_weights" not in vars(model)
    assert (len(tokenizer), tokenizer.pad_token) == (vocabulary, pad)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nothing_is_printed(folder, gpt2, tokenizer, capsys):
    LMEval(["tiny_choice"], include=folder)[0].score(gpt2, tokenizer)
    assert capsys.readouterr() == ("", "")


def test_the_digest_depends_on_what_scores_depend_on(folder, choice):
    made = {choice.digest()}
    for options in ({"limit": 5}, {"num_fewshot": 2}, {"metric": "acc_norm"}, {"cluster": "author"}, {"batch_size": 2}):
        made.add(LMEval(["tiny_choice"], include=folder, **options)[0].digest())
    assert len(made) == 6
    assert LMEval(["tiny_choice"], include=folder)[0].digest() == choice.digest()
    shots = [LMEval(["tiny_choice"], include=folder, num_fewshot=2, seed=seed)[0].digest() for seed in (1, 1, 2)]
    assert shots[0] == shots[1] != shots[2]


def test_a_model_that_gives_nan_has_no_accuracy(choice, gpt2, tokenizer):
    choice.score(gpt2, tokenizer)  # otherwise the test of causality refuses the model
    with torch.no_grad():
        gpt2.transformer.ln_f.bias[0] = math.nan
    rows = choice.score(gpt2, tokenizer)
    assert rows["value"].isna().all()  # the harness alone would score the first choice


def test_fitted_texts_are_noticed(choice, gpt2, tokenizer):
    space = find_sites(gpt2)
    fitted = hashes(sentences(24)[:3])
    network = Network(space, np.ones(space.n_neurons, np.float32), np.arange(space.n_neurons) < 3, fit_texts=fitted)
    with pytest.warns(DataWarning, match="were used to find the networks"):
        evaluate(gpt2, tokenizer, [choice], {"some": lesion(network)})


def test_prompts_beyond_the_context_are_warned_of(choice, tokenizer):
    model = build("gpt2", context=8)
    with pytest.warns(DataWarning, match=r"items of 'tiny_choice' are longer than the 8 tokens"):
        choice.score(model, tokenizer)


def test_bad_requests_are_refused_with_what_to_do(folder, choice, tokenizer):
    with pytest.raises(TypeError, match=r"give a list: LMEval\(\['tiny_choice'\]\)"):
        LMEval("tiny_choice", include=folder)
    with pytest.raises(ValueError, match="limit is 0"):
        LMEval(["tiny_choice"], include=folder, limit=0)
    with pytest.raises(ValueError, match="which is not a folder"):
        LMEval(["tiny_choice"], include=folder / "absent")
    with pytest.raises(ValueError, match=r"metric of 'tiny_choice' is 'mcc'; .* 'acc', 'acc_norm' \(of"):
        LMEval(["tiny_choice"], include=folder, metric="mcc")
    with pytest.raises(ValueError, match=r"'loglikelihood_rolling'.*lmri.lesions.tasks.Perplexity"):
        LMEval(["tiny_rolling"], include=folder)
    with pytest.raises(TypeError, match="LMEval needs a causal language model"):
        choice.score(build("bert"), tokenizer)
    with pytest.raises(ValueError, match="start or the end of a text; this one has neither"):
        choice.score(build("gpt2"), word_tokenizer(special=False))
    with pytest.raises(ValueError, match="There is no task in"):
        LMEval([], include=folder)


@pytest.mark.slow
def test_an_unknown_name_is_refused_after_a_look_at_all_tasks(folder):
    with pytest.raises(ValueError, match=r"'no_such_task' is not a registered task.*include="):
        LMEval(["no_such_task"], include=folder)


def test_without_the_harness_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(ImportError, match=r"'lm_eval.tasks' is not installed.*pip install 'lmri\[lm-eval\]'"):
        LMEval(["tiny_choice"], include=folder)
