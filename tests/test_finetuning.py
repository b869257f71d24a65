"""Fine-tuning learns learnable tasks only, and networks of the parent fit the child."""

import json
import random
import warnings

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lmri import evaluate, lesion, load_model
from lmri.exceptions import DataWarning, OtherWeightsWarning, SpaceMismatchError
from lmri.lesions import finetuning, tasks
from lmri.lesions.finetuning import Training, finetune, learned_texts, make_classifier, save
from lmri.lesions.scores import ITEM_TEXT, SUMMARY_TEXT
from lmri.models import hashes
from lmri.models.sites import find_sites
from lmri.networks import Network
from lmri.storage import read_table
from tiny_models import WORDS, assert_untouched, bert_tokenizer, build, snapshot, word_tokenizer
from tolerances import model_rounding

pytest.importorskip("accelerate", reason="accelerate is not installed: pip install 'lmri[finetune]'")

WORDS_FOR = {"night": " night", "day": " day"}


def items(n, seed, shuffled=False):
    """Generate texts that contain "moon" or "sun", labelled accordingly or at random."""
    rng = random.Random(seed)
    neutral = [word for word in WORDS if word not in ("moon", "sun")]
    labels = [("night", "day")[rng.random() < 0.6] for _ in range(n)]
    texts = []
    for number, label in enumerate(labels):
        words = rng.choices(neutral, k=rng.randint(4, 9))
        words[rng.randrange(len(words))] = "moon" if label == "night" else "sun"
        texts.append(f"{' '.join(words)} {neutral[(number + seed) % len(neutral)]}")
    return texts, rng.sample(labels, n) if shuffled else labels


def task(n=160, seed=0, shuffled=False, **options):
    texts, labels = items(n, seed, shuffled)
    return tasks.Classification(texts, labels, WORDS_FOR, name="sky", scoring="head", **options)


TRAINING = Training(epochs=4, batch_size=16, learning_rate=3e-3)


@pytest.fixture(scope="module")
def child():
    """Return a parent and its child, fine-tuned on a learnable task."""
    parent = build("gpt2")
    return parent, finetune(parent, word_tokenizer(), task(), task(80, seed=1), TRAINING)


def test_a_learnable_task_is_learned(child):
    row = child[1].held_out.iloc[0]
    assert row["scoring"] == "head"
    assert row["value"] > row["majority_rate"] + 0.2
    assert row["balanced_accuracy"] > 0.8
    assert row["mean_margin"] > 0
    assert not row["collapsed"]


def test_labels_that_are_shuffled_cannot_be_learned():
    made = finetune(build("gpt2"), word_tokenizer(), task(shuffled=True), task(80, seed=1), TRAINING)
    row = made.held_out.iloc[0]
    # Three standard errors of a rate of 80.
    assert row["value"] < row["majority_rate"] + 3 * np.sqrt(0.25 / 80)


def test_networks_of_the_parent_lesion_the_child(child, tmp_path):
    parent, made = child
    space = find_sites(parent, "mlp_hidden")
    network = Network.from_members(space, np.random.default_rng(0).random(space.n_neurons) < 0.3)
    save(made, tmp_path / "child")
    loaded, tokenizer = load_model(tmp_path / "child")
    assert type(loaded).__name__ == "GPT2ForSequenceClassification"
    assert find_sites(loaded, "mlp_hidden") == space  # the same geometry
    held_out = task(80, seed=1)
    with pytest.warns(OtherWeightsWarning, match="has the geometry of the recorded model .*, but other weights"):
        scores = evaluate(loaded, tokenizer, [held_out], {"lesion": lesion(network)})
    summary = scores.summary().set_index("condition")
    assert summary.loc["intact", "value"] == made.held_out["value"].iloc[0]
    own = scores.items.set_index(["condition", "item"])["margin"]
    assert (own["lesion"] != own["intact"]).all()
    # The oracle: the rows of the down projection are zero.
    with torch.no_grad():
        for z, block in enumerate(loaded.transformer.h):
            layer = slice(int(space.offsets[z]), int(space.offsets[z + 1]))
            block.mlp.c_proj.weight[torch.from_numpy(network.members[layer])] = 0
    zeroed = held_out.score(loaded, tokenizer)["margin"]
    np.testing.assert_allclose(zeroed, own["lesion"], atol=model_rounding(loaded, own["lesion"]))
    with pytest.raises(SpaceMismatchError, match="other weights"), lesion(network).on(made.model, strict=True):
        pass
    with pytest.raises(SpaceMismatchError), lesion(network).on(build("gpt2", layers=2)):
        pass


def test_the_folder_is_a_model_and_says_what_it_was_made_of(child, tmp_path):
    _, made = child
    out = save(made, tmp_path / "child")
    loaded, tokenizer = load_model(out)
    assert loaded.config.id2label == {0: "night", 1: "day"}
    for name, values in made.model.state_dict().items():
        assert torch.equal(values, loaded.state_dict()[name])
    scored = task(80, seed=1).score(loaded, tokenizer)
    assert scored["predicted"].tolist() == made.items["predicted"].tolist()
    about = json.loads((out / "finetuning.json").read_text())
    assert about["parent"]["fingerprint"] != about["child"]["fingerprint"]
    assert about["labels"] == ["night", "day"]
    assert about["training"]["steps"] == 40
    assert (about["n_train"], about["n_held_out"]) == (160, 80)
    written = read_table(out / "held_out.tsv", SUMMARY_TEXT)
    assert written["value"].tolist() == made.held_out["value"].tolist()
    assert len(read_table(out / "held_out_items.tsv", ITEM_TEXT)) == 80
    with pytest.raises(ValueError, match=r"already exists\. It was not overwritten"):
        save(made, out)


def test_the_parent_and_the_callers_random_numbers_are_left_alone(tokenizer):
    parent = build("gpt2")
    before, config = snapshot(parent), parent.config.to_dict()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    finetune(parent, tokenizer, task(24), task(12, seed=1), Training(max_steps=1))
    after = random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert after == (random.random(), np.random.random(), torch.rand(1))  # noqa: NPY002
    assert_untouched(parent, before)
    assert parent.config.to_dict() == config


def test_a_seed_gives_one_child_and_another_seed_another():
    def weights(seed):
        made = finetune(build("gpt2"), word_tokenizer(), task(24), task(12, seed=1), Training(max_steps=3, seed=seed))
        return made.about["child"]["fingerprint"], made.model.score.weight

    one, again, other = weights(0), weights(0), weights(1)
    assert one[0] == again[0] != other[0]
    assert torch.equal(one[1], again[1])


@pytest.mark.parametrize("name", ["llama", "opt", "bert", "phi"])
def test_other_architectures_keep_their_bodies(name):
    tokenizer = bert_tokenizer() if name == "bert" else word_tokenizer()
    parent = build(name)
    child, own = make_classifier(parent, tokenizer, ["a", "b", "c"])
    assert find_sites(child) == find_sites(parent)
    state = child.base_model.state_dict()
    assert all(torch.equal(state[key], values) for key, values in parent.base_model.state_dict().items())
    assert child.config.num_labels == 3
    assert own.pad_token_id == tokenizer.pad_token_id


def test_a_pad_token_is_found_or_added():
    parent = build("gpt2", pad_token_id=None)
    ends = word_tokenizer()
    ends.pad_token = None
    child, own = make_classifier(parent, ends, ["a", "b"])
    assert own.pad_token_id == own.eos_token_id == child.config.pad_token_id == 3
    assert ends.pad_token is None
    bare = word_tokenizer(special=False)
    small = build("gpt2", vocab_size=len(bare), pad_token_id=None, eos_token_id=None, bos_token_id=None)
    child, own = make_classifier(small, bare, ["a", "b"])
    assert own.pad_token_id == child.config.pad_token_id == len(bare)
    assert bare.pad_token is None
    kept = child.transformer.wte.weight[: len(bare)]
    assert torch.equal(kept, small.transformer.wte.weight)
    texts = ["the cat", "a small dog runs", "the king"]
    labels = tasks.Classification(texts, ["a", "b", "a"], {"a": " a", "b": " b"}, "{text} a b", scoring="head")
    one_by_one = tasks.Classification(
        texts, ["a", "b", "a"], {"a": " a", "b": " b"}, "{text} a b", scoring="head", batch_size=1
    )
    child.eval()
    batched, alone = (task.score(child, own)["margin"] for task in (labels, one_by_one))
    np.testing.assert_allclose(batched, alone, atol=model_rounding(child, alone))


def test_what_cannot_be_trained_is_refused(tokenizer, monkeypatch):
    with pytest.raises(ValueError, match=r"texts and .* clusters are in both the training and the held-out items"):
        finetune(build("gpt2"), tokenizer, task(24), task(24))
    asked = tasks.Classification(*items(24, 1), WORDS_FOR, "{text} night day")
    with pytest.raises(ValueError, match=r"is scored by 'loglikelihood'; fine-tuning trains a head"):
        finetune(build("gpt2"), tokenizer, task(24), asked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        one = tasks.Classification(["the sun"], ["day"], WORDS_FOR, scoring="head")
    with pytest.raises(ValueError, match="All 1 training items have the label 'day'"):
        finetune(build("gpt2"), tokenizer, one, task(24))
    with pytest.raises(TypeError, match="transformers has no sequence classifier for CohereForCausalLM"):
        make_classifier(build("cohere"), tokenizer, ["a", "b"])
    with pytest.raises(ValueError, match=r"Training diverged.*Lower learning_rate, which is 1e\+38"):
        finetune(build("gpt2"), tokenizer, task(24), task(12, seed=1), Training(max_steps=3, learning_rate=1e38))
    for wrong in ({"epochs": 0}, {"learning_rate": float("nan")}, {"max_steps": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="it must be"):
            Training(**wrong)
    monkeypatch.setattr(finetuning.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'lmri\[finetune\]'"):
        finetune(build("gpt2"), tokenizer, task(24), task(12, seed=1))


# -- the command ------------------------------------------------------------------------------------------------------


def run(*arguments):
    import typer

    from lmri.cli.finetune import finetune as command

    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a parent and the table of a task."""
    build("gpt2").save_pretrained(tmp_path / "parent")
    word_tokenizer().save_pretrained(tmp_path / "parent")
    texts, labels = items(200, 0)
    rows = [{"sentence": text, "label": int(label == "day")} for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "sst2.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_the_command_makes_a_child_and_scores_it_on_the_test_split(folder):
    out = folder / "child"
    arguments = (
        folder / "parent", "--task", "sst2", "--data", folder / "sst2.jsonl", "--epochs", 4, "--learning-rate", 3e-3,
    )  # fmt: skip
    result = run(*arguments, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    row = content["held_out"][0]
    assert row["value"] > row["majority_rate"] + 0.15
    assert row["split"] == "test"
    # What was scored is what the same split gives again, and nothing of it was learned.
    test = tasks.load("sst2", folder / "sst2.jsonl", split="test", shares=(0.5, 0.25, 0.25), scoring="head")
    assert content["held_out_sha256"] == test.digest()
    assert content["n_train"] < 140
    loaded, tokenizer = load_model(out)
    assert test.score(loaded, tokenizer)["value"].mean() == pytest.approx(row["value"])
    # The splits of the command are those of every other one, and what was learned is known by its texts.
    for split, learned in (("fit", True), ("select", False), ("test", False)):
        own = tasks.load("sst2", folder / "sst2.jsonl", split=split, scoring="head")
        assert bool(hashes(own.texts) & learned_texts(out)) == learned
    assert learned_texts(folder / "parent") == frozenset()
    again = run(*arguments, "--out", out)
    assert again.exit_code == 1
    assert "exists. Nothing was overwritten" in again.output


def test_the_command_says_when_nothing_was_learned(folder):
    result = run(
        folder / "parent", "--task", "sst2", "--data", folder / "sst2.jsonl", "--max-steps", 1, "--learning-rate",
        1e-9, "--out", folder / "child",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "held-out items (split test)" in result.output
    wrong = run(folder / "parent", "--task", "squad", "--data", folder / "sst2.jsonl", "--out", folder / "other")
    assert wrong.exit_code == 1
    assert "for squad, choose from 'generate'" in wrong.output


@pytest.mark.slow
def test_a_trained_model_learns_a_real_task(real_data, tmp_path):
    parent, tokenizer = load_model(real_data / "models" / "mini-gpt2")
    source = real_data / "data" / "ag_news"
    train = tasks.load("ag-news", source, split="fit", limit=400, scoring="head")
    test = tasks.load("ag-news", source, split="test", limit=150, scoring="head")
    made = finetune(parent, tokenizer, train, test, Training(epochs=2, learning_rate=1e-3, max_tokens=64))
    row = made.held_out.iloc[0]
    assert row["value"] > row["majority_rate"] + 0.25
    space = find_sites(parent, "mlp_hidden")
    half = Network.from_members(space, np.random.default_rng(0).random(space.n_neurons) < 0.5)
    with pytest.warns(OtherWeightsWarning):
        scores = evaluate(made.model, made.tokenizer, [test], {"half": lesion(half)})
    assert scores.summary()["diff"].iloc[1] < 0
