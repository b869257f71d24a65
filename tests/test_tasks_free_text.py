"""Free text: SQuAD's own arithmetic, ROUGE by its library, and prompts that fit."""

import json

import numpy as np
import pytest

from lmri import evaluate, lesion
from lmri.exceptions import DataWarning
from lmri.lesions import tasks
from lmri.lesions.tasks.squad import answer_f1, exact_match, normalize
from lmri.models.sites import find_sites
from lmri.networks import Network
from tiny_models import WORDS

SQUAD = [
    {"context": "the red cat sits near a tree", "question": "who sits ?", "answers": ["the red cat", "cat"]},
    {"context": "the red cat sits near a tree", "question": "where ?", "answers": ["near a tree"]},
    {"context": "a small bird sings", "question": "what does it ?", "answers": ["sings"]},
]


def table(tmp_path, rows=SQUAD, name="squad.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("answer", "references", "f1", "exact"),
    [
        ("The Red Cat!", ["red cat"], 1, 1),  # case, punctuation and articles do not count
        ("a cat", ["the red cat"], 2 / 3, 0),
        ("red red cat", ["red cat"], 4 / 5, 0),  # a word counts as often as both have it
        ("dog", ["cat", "the dog"], 1, 1),  # the best of the references
        ("dog", ["cat"], 0, 0),
        ("", ["cat"], 0, 0),
        ("the", ["a"], 0, 1),  # the official F1 of nothing is 0, and the official match of nothing is 1
        ("Panthers' defense", ["panthers defense"], 1, 1),
        ("thea", ["a"], 0, 0),  # articles are words, not letters
    ],
)
def test_answers_are_compared_as_squad_does(answer, references, f1, exact):
    assert answer_f1(answer, references) == pytest.approx(f1)
    assert exact_match(answer, references) == exact


def test_normalization_is_the_official_one():
    assert normalize(" An  apple,\ta pear\nand THE end. ") == "apple pear and end"
    assert normalize("6½ sacks — U.S.") == "6½ sacks — us"


def test_squad_is_read_from_its_own_layout_and_from_tables(tmp_path):
    official = {
        "data": [
            {
                "title": "t",
                "paragraphs": [
                    {
                        "context": context,
                        "qas": [
                            {
                                "id": "1",
                                "question": row["question"],
                                "answers": [{"text": one} for one in row["answers"]],
                            }
                            for row in SQUAD
                            if row["context"] == context
                        ],
                    }
                    for context in dict.fromkeys(row["context"] for row in SQUAD)
                ],
            }
        ]
    }
    (tmp_path / "dev-v1.1.json").write_text(json.dumps(official))
    hub = [{**row, "answers": {"text": row["answers"], "answer_start": [0]}} for row in SQUAD]
    written = [tasks.load("squad", source) for source in (
        tmp_path, tmp_path / "dev-v1.1.json", table(tmp_path), table(tmp_path, hub, "hub.jsonl"),
    )]  # fmt: skip
    assert len({task.digest() for task in written}) == 1
    task = written[0]
    assert task.references == [row["answers"] for row in SQUAD]
    assert task.clusters[0] == task.clusters[1] != task.clusters[2]  # the paragraph
    assert task.info.metrics == ("answer_f1", "exact_match")
    assert task.info.scoring == "generate"
    assert task.prompts[1] == "the red cat sits near a tree\nQuestion: where ?\nAnswer:"


def test_items_without_an_answer_are_left_out_and_other_layouts_refused(tmp_path):
    with pytest.warns(DataWarning, match="1 rows without a label left out"):
        task = tasks.load("squad", table(tmp_path, [*SQUAD, {**SQUAD[0], "answers": []}]))
    assert len(task.items) == 3
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"title": "t"}]}))
    with pytest.raises(ValueError, match=r"not in the layout of SQuAD v1\.1: KeyError\('paragraphs'\) is missing"):
        tasks.load("squad", tmp_path / "dev.json")
    with pytest.raises(ValueError, match="scoring is 'head'; for squad, choose from 'generate'"):
        tasks.load("squad", table(tmp_path), scoring="head")
    with pytest.raises(ValueError, match=r"words is .* squad does not accept it"):
        tasks.load("squad", table(tmp_path), words={"a": "b"})


def test_answers_are_the_first_line_and_both_metrics_have_rows(gpt2, tokenizer, tmp_path, monkeypatch):
    answers = [" The red cat.\nQuestion: who", "near trees", None]
    monkeypatch.setattr("lmri.lesions.tasks.free_text.generate", lambda *args: list(answers))
    task = tasks.load("squad", table(tmp_path))
    scored = task.score(gpt2, tokenizer)
    assert scored["answer"].tolist() == ["The red cat.", "near trees", ""]
    np.testing.assert_allclose(scored["value"], [1, 1 / 2, np.nan])
    np.testing.assert_allclose(scored["exact_match"], [1, 0, np.nan])
    summary = evaluate(gpt2, tokenizer, [task], {}).summary()
    assert summary["metric"].tolist() == ["answer_f1", "exact_match"]
    assert summary["value"].tolist() == [0.75, 0.5]  # a model that gives NaN has given no answer
    assert summary["unparseable"].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert summary["predicted_counts"].tolist() == ["", ""]
    assert summary["majority_rate"].isna().all()


def test_free_text_is_generated_also_under_a_lesion(gpt2, tokenizer, tmp_path):
    space = find_sites(gpt2, "mlp_hidden")
    network = Network.from_members(space, np.random.default_rng(0).random(space.n_neurons) < 0.5)
    task = tasks.load("squad", table(tmp_path), max_new_tokens=6)
    scores = evaluate(gpt2, tokenizer, [task], {"lesion": lesion(network)})
    own = scores.items.set_index(["condition", "item"])["answer"]
    assert (own["lesion"] != own["intact"]).any()


def test_long_contexts_are_cut_at_the_end_and_rows_say_so(gpt2, tokenizer, tmp_path):
    long = {"context": " ".join([*WORDS, *WORDS]), "question": "who sits ?", "answers": ["cat"]}
    task = tasks.load("squad", table(tmp_path, [long, SQUAD[0]]), max_new_tokens=10)
    with pytest.warns(DataWarning, match=r"squad: 1 of 2 items cut at the context \(context\)"):
        row = evaluate(gpt2, tokenizer, [task], {}).summary().iloc[0]
    assert row["note"] == "1 of 2 items cut at the context (context)"
    ids, is_cut = task._row(0, tokenizer, 54)
    assert is_cut
    assert 45 < len(ids) <= 54
    end = tokenizer("Question: who sits ? Answer:")["input_ids"]
    assert ids[-len(end) :] == end  # the question is still there
    assert ids[:20] == tokenizer(long["context"])["input_ids"][:20]
    asked = {**SQUAD[0], "question": " ".join(WORDS)}
    with pytest.raises(ValueError, match=r"Item 0 of 'squad' has .* more are to be generated; the model reads 64"):
        tasks.load("squad", table(tmp_path, [asked]), max_new_tokens=10).score(gpt2, tokenizer)


def test_summaries_are_scored_by_rouge(gpt2, tokenizer, tmp_path, monkeypatch):
    pytest.importorskip("rouge_score")
    rows = [
        {"id": "1", "text": "the cat sits under the old tree", "summaries": ["the cat sits", "a dog"]},
        {"id": "2", "text": "rain and snow", "summaries": ["rain and snow"]},
    ]
    task = tasks.load("summarization", table(tmp_path, rows), max_new_tokens=10)
    assert task.info.metric == "rouge_l"
    monkeypatch.setattr("lmri.lesions.tasks.free_text.generate", lambda *args: ["The cat\nsat", "wind"])
    scored = task.score(gpt2, tokenizer)
    # Longest common subsequence of "the cat sat" and "the cat sits": 2 of 3 and 3 words.
    np.testing.assert_allclose(scored["value"], [2 / 3, 0])
    assert scored["answer"][0] == "The cat\nsat"
    one = [{"article": row["text"], "highlights": row["summaries"][0]} for row in rows]
    assert tasks.load("summarization", table(tmp_path, one)).references == [["the cat sits"], ["rain and snow"]]


def test_without_the_library_the_command_to_install_it_is_named(tmp_path, monkeypatch):
    from lmri.lesions.tasks import summarization

    def absent(name):
        raise ImportError(name)

    summarization._scorer.cache_clear()
    monkeypatch.setattr(summarization.importlib, "import_module", absent)
    with pytest.raises(ValueError, match=r"pip install 'lmri\[tasks\]'"):
        tasks.load("summarization", table(tmp_path, [{"text": "a", "summary": "b"}]))


def test_own_free_text_takes_yaml(tmp_path, gpt2, tokenizer, monkeypatch):
    table(
        tmp_path,
        [{"q": "two and two ?", "a": "four", "kind": "k"}, {"q": "one and one ?", "a": ["two", "2"], "kind": "k"}],
    )
    path = tmp_path / "sums.yaml"
    path.write_text('data: squad.jsonl\nprompt: "{q} It is"\nreferences: a\nmetric: exact_match\ncluster: kind\n')
    task = tasks.load(path)
    assert (task.info.name, task.info.metric, task.clusters) == ("sums", "exact_match", ["k", "k"])
    assert task.prompts == ["two and two ? It is", "one and one ? It is"]
    monkeypatch.setattr("lmri.lesions.tasks.free_text.generate", lambda *args: ["Five", "2"])
    assert task.score(gpt2, tokenizer)["value"].tolist() == [0, 1]
    for key, message in (
        ("metric: bleu", "choose from answer_f1, exact_match, rouge_l"),
        ("label: a", "has the unknown key"),
    ):
        path.write_text(f'data: squad.jsonl\nprompt: "{{q}}"\nreferences: a\n{key}\n')
        with pytest.raises(ValueError, match=message):
            tasks.load(path)


def test_free_text_needs_references_and_room():
    measure = {"exact_match": exact_match}
    with pytest.raises(ValueError, match="each item needs a cluster and at least one reference"):
        tasks.FreeText([{"text": "a"}], [[]], "{text}", measure)
    with pytest.raises(ValueError, match="has no items"):
        tasks.FreeText([], [], "{text}", measure)
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        tasks.FreeText([{"text": "a"}], [["b"]], "{text}", measure, max_new_tokens=0)


@pytest.mark.slow
def test_real_questions_and_articles_are_answered(real_data):
    from lmri import load_model

    model, tokenizer = load_model(real_data / "models" / "mini-gpt2")
    squad = real_data / "data" / "squad_xquad_en"
    layouts = [tasks.load("squad", squad / file) for file in ("xquad.en.json", "xquad_en.jsonl")]
    assert layouts[0].digest() == layouts[1].digest()
    assert len(layouts[0].items) == 1190
    assert len(set(layouts[0].clusters)) == 240
    pytest.importorskip("rouge_score")
    several = [
        tasks.load("squad", squad / "xquad_en.jsonl", limit=6, split="test", max_new_tokens=8),
        tasks.load("summarization", real_data / "data" / "summ_cnndm", limit=2, max_new_tokens=24),
    ]
    with pytest.warns(DataWarning, match="cut at the context"):
        summary = evaluate(model, tokenizer, several, {}).summary()
    assert summary["value"].between(0, 1).all()
