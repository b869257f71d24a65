"""Special tokens at the ends of texts are read once, prompts end where the text ends, and words are no pads."""

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    ByT5Tokenizer,
    CanineTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

import lmri
from lmri import storage, tasks
from lmri.exceptions import DataWarning
from lmri.lesions.finetuning import make_classifier
from lmri.lesions.tasks.generation import generate
from lmri.lesions.tasks.head import head_inputs
from lmri.models import encode, prompt_ids, special_ids, tokenize
from lmri.models.recorder.generating import continue_prompt
from lmri.models.recorder.options import Generation
from tiny_models import WORDS, build, byte_tokenizer, randomize, sentences

MARKS = ("<pad>", "<unk>", "<s>", "</s>", "[CLS]", "[SEP]", "[gMASK]", "<sop>")
VOCABULARY = {word: number for number, word in enumerate([*MARKS, *WORDS])}


def tokenizer(template="<s> $A", pair=None, **roles):
    """Build a tokenizer with one token per word, which adds special tokens by a template."""
    inner = Tokenizer(models.WordLevel(VOCABULARY, unk_token=roles.get("unk_token", "<unk>")))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    added = [(mark, VOCABULARY[mark]) for mark in MARKS]
    inner.post_processor = processors.TemplateProcessing(single=template, pair=pair, special_tokens=added)
    extra = [mark for mark in MARKS if mark in template and mark not in roles.values()]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        additional_special_tokens=extra,
        **{"pad_token": "<pad>", "unk_token": "<unk>", **roles},
    )


TEMPLATES = {
    "llama": ("<s> $A", {"bos_token": "<s>"}),
    "t5": ("$A </s>", {"eos_token": "</s>"}),
    "both": ("<s> $A </s>", {"bos_token": "<s>", "eos_token": "</s>"}),
    "bert": ("[CLS] $A [SEP]", {"cls_token": "[CLS]", "sep_token": "[SEP]"}),
    "xlnet": ("$A [SEP] [CLS]", {"cls_token": "[CLS]", "sep_token": "[SEP]"}),
    "glm": ("[gMASK] <sop> $A", {}),
    "one token for both": ("<s> $A <s>", {"bos_token": "<s>", "eos_token": "<s>"}),
    "none": ("$A", {"bos_token": "<s>", "eos_token": "</s>"}),
}


def ends(name):
    """Return the special tokens before and after a text, as text."""
    before, after = TEMPLATES[name][0].split("$A")
    return before.strip(), after.strip()


def rendered(name, text):
    """Return a text with its special tokens, as a chat template renders it."""
    before, after = ends(name)
    return " ".join(filter(None, [before, text, after]))


def names(tokenizer, ids):
    return " ".join(tokenizer.convert_ids_to_tokens(ids))


# -- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_text_that_has_its_special_tokens_is_read_like_the_text_without_them(name):
    template, roles = TEMPLATES[name]
    reader, model = tokenizer(template, **roles), build("gpt2")
    for text in ["the cat", "cat", *sentences(5)]:
        plain, own = encode(model, reader, text), encode(model, reader, rendered(name, text))
        assert plain.ids == own.ids == reader(text)["input_ids"]
        assert plain.special == own.special
        assert plain.n_repeated == 0
        assert own.n_repeated == len(own.ids) - len(text.split())
        assert [rendered(name, text)[start:end] for start, end in own.spans] == own.tokens


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("limit", [4, 5, 7])
def test_it_is_so_where_both_are_truncated(name, limit):
    template, roles = TEMPLATES[name]
    reader, model, text = tokenizer(template, **roles), build("gpt2"), " ".join(WORDS[:9])
    plain, own = (encode(model, reader, one, limit) for one in (text, rendered(name, text)))
    assert plain.ids == own.ids == reader(text, truncation=True, max_length=limit)["input_ids"]
    assert plain.n_cut == own.n_cut == len(reader(text)["input_ids"]) - limit


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("both", "<s> the cat", "<s> the cat </s>"),
        ("both", "the cat </s>", "<s> the cat </s>"),
        ("both", "the <s> cat </s> dog", "<s> the <s> cat </s> dog </s>"),  # within a text, they separate its parts
        ("both", "</s> the cat <s>", "<s> </s> the cat <s> </s>"),
        ("both", "<s>", "<s> </s>"),
        ("both", "<s> </s>", "<s> </s>"),
        ("both", "<s> <s> the </s> </s>", "<s> <s> the </s> </s>"),  # whoever wants two writes two
        ("glm", "<sop> the cat", "[gMASK] <sop> the cat"),
        ("glm", "[gMASK] the cat", "[gMASK] <sop> [gMASK] the cat"),
        ("xlnet", "the cat [SEP]", "the cat [SEP] [CLS]"),
        ("one token for both", "<s>", "<s> <s>"),
        ("none", "<s> the cat </s>", "<s> the cat </s>"),
    ],
)
def test_no_token_of_the_text_is_lost_and_no_special_token_is_doubled(name, text, read):
    template, roles = TEMPLATES[name]
    reader = tokenizer(template, **roles)
    assert names(reader, tokenize(reader, text).ids) == read


def sentencepiece(prepend):
    """Build a tokenizer with a space before every word, like those of LLaMA and T5."""
    pieces = ["<unk>", "<s>", "</s>", "▁", "\n", *(f"▁{word}" for word in WORDS), *WORDS]
    scores = [(piece, -1.0 - 0.01 * number) for number, piece in enumerate(dict.fromkeys(pieces))]
    inner = Tokenizer(models.Unigram(scores, unk_id=0))
    inner.add_special_tokens([AddedToken(mark, normalized=False) for mark in ("<s>", "</s>")])
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    inner.decoder = decoders.Metaspace(prepend_scheme=prepend)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("prepend", ["first", "always", "never"])
@pytest.mark.parametrize("text", ["<s>the cat</s>", "<s> the cat </s>", " <s>the cat</s>\n", "\n<s>the cat</s> "])
def test_white_space_around_special_tokens_does_not_matter(prepend, text):
    reader = sentencepiece(prepend)
    read = tokenize(reader, text)
    assert read.n_repeated == 2
    assert (read.ids.count(1), read.ids.count(2)) == (1, 1)
    # Only blank tokens stand before and after them, and none of the text is lost.
    first, last = read.ids.index(1), read.ids.index(2)
    assert not reader.decode([*read.ids[:first], *read.ids[last + 1 :]]).strip()
    assert reader.decode(read.ids[first + 1 : last]).split() == ["the", "cat"]


def test_byte_level_tokenizers_and_chat_templates():
    reader = byte_tokenizer()
    end = reader.eos_token_id
    reader.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", end)]
    )
    reader.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    chat = reader.apply_chat_template([{"role": "user", "content": "the cat sits"}], tokenize=False)
    assert chat == "<|endoftext|>the cat sits"
    read = tokenize(reader, chat)
    assert read.ids == reader("the cat sits")["input_ids"]
    assert read.ids == reader.apply_chat_template([{"role": "user", "content": "the cat sits"}])["input_ids"]
    assert (read.n_repeated, reader(chat)["input_ids"].count(end)) == (1, 2)


@pytest.mark.filterwarnings("ignore:This sequence already has")
@pytest.mark.parametrize(
    ("reader", "before", "after"), [(ByT5Tokenizer(), "", "</s>"), (CanineTokenizer(), chr(0xE000), chr(0xE001))]
)
def test_tokenizers_written_in_python(reader, before, after):
    plain, own = tokenize(reader, "ab c"), tokenize(reader, f"{before}ab c{after}")
    assert not reader.is_fast
    assert plain.ids == own.ids == reader("ab c")["input_ids"]
    assert plain.prompt == reader("ab c")["input_ids"][:-1]


# -- recordings -------------------------------------------------------------------------------------------------------


def test_recordings_are_those_of_the_plain_texts_and_the_sidecars_have_the_number(tmp_path):
    template, roles = TEMPLATES["both"]
    reader, model, texts = tokenizer(template, **roles), build("gpt2"), sentences(8)
    some = [rendered("both", text) if number % 2 else text for number, text in enumerate(texts)]
    options = {"test_fraction": 0, "run_tokens": 30}
    plain = lmri.record(model, reader, texts, tmp_path / "plain", **options)
    with pytest.warns(DataWarning, match=r"4 of 8 texts already begin or end with special tokens .*not added again"):
        own = lmri.record(model, reader, some, tmp_path / "own", **options)
    for one, other in zip(plain.arrays(), own.arrays(), strict=True):
        np.testing.assert_array_equal(one, other)
    for recording, n in ((plain, 0), (own, 4)):
        assert recording.info["n_texts_with_own_special_tokens"] == n
        counts = [
            storage.read_json(storage.sidecar(run.img))["NumberOfTextsWithOwnSpecialTokens"] for run in recording.runs
        ]
        assert len(counts) > 1
        assert sum(counts) == n


# -- prompts and tasks ------------------------------------------------------------------------------------------------

WORDS_FOR = {"y": " yes", "n": " no"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_prompt_has_the_tokens_with_which_the_whole_begins(name):
    template, roles = TEMPLATES[name]
    reader, model = tokenizer(template, **roles), build("gpt2")
    before, _ = ends(name)
    for text in ("the cat", f"{before} the cat".strip()):
        prompt = prompt_ids(reader, text)
        assert names(reader, prompt) == f"{before} the cat".strip()
        assert prompt_ids(reader, f"{text} yes") == [*prompt, VOCABULARY["yes"]]
        assert continue_prompt(model, reader, text, Generation(1)).encoding.ids[: len(prompt)] == prompt
        assert encode(model, reader, text).opened().ids == prompt


@pytest.mark.parametrize("name", ["t5", "both", "bert", "xlnet"])
def test_a_special_token_at_the_end_of_a_prompt_is_kept(name):
    template, roles = TEMPLATES[name]
    reader = tokenizer(template, **roles)
    text = rendered(name, "the cat")
    assert prompt_ids(reader, text) == tokenize(reader, text).ids == tokenize(reader, "the cat").ids


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("scoring", ["loglikelihood", "generate"])
def test_tasks_score_prompts_with_and_without_their_special_tokens_alike(name, scoring):
    template, roles = TEMPLATES[name]
    reader, model = tokenizer(template, **roles), build("gpt2")
    texts = ["the cat sees", "a dog runs"]
    scored = {}
    for before in ("", ends(name)[0]):
        task = tasks.Classification(
            [f"{before} {text}".strip() for text in texts], ["y", "n"], WORDS_FOR, "{text} yes or no", scoring=scoring,
            max_new_tokens=2,
        )  # fmt: skip
        scored[before] = task.score(model, reader).drop(columns="cluster")
        assert ("not added again" in task.info.note) == bool(before)
    assert len({frame.to_csv() for frame in scored.values()}) == 1


def test_answers_follow_the_prompt_and_not_the_separator():
    template, roles = TEMPLATES["bert"]
    reader, model = tokenizer(template, **roles), build("gpt2")
    task = tasks.Classification(["the cat", "the dog"], ["y", "n"], WORDS_FOR, "{text} very")
    for number, text in enumerate(("the cat very", "the dog very")):
        ids = [VOCABULARY[word] for word in ["[CLS]", *text.split()]]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1].double()
        better = "y" if logits[VOCABULARY["yes"]] > logits[VOCABULARY["no"]] else "n"
        assert task.score(model, reader)["predicted"][number] == better


def test_perplexity_and_free_text_count_such_texts():
    template, roles = TEMPLATES["both"]
    reader, model, texts = tokenizer(template, **roles), build("gpt2"), sentences(4)
    own = [rendered("both", texts[0]), *texts[1:]]
    perplexity = tasks.Perplexity(own)
    with pytest.warns(DataWarning, match="1 of 4 texts already begin or end with special tokens"):
        scored = perplexity.score(model, reader)
    assert "1 of 4 texts" in perplexity.info.note
    assert scored["value"].tolist() == tasks.Perplexity(texts).score(model, reader)["value"].tolist()
    free = tasks.FreeText(
        [{"text": text} for text in ("<s> the cat", "a dog")], [["x"], ["y"]], "{text}",
        {"exact_match": lambda answer, references: float(answer in references)}, max_new_tokens=2,
    )  # fmt: skip
    with pytest.warns(DataWarning, match="1 of 2 prompts"):
        free.score(model, reader)


def test_a_classifier_reads_special_tokens_once_in_texts_and_pairs():
    reader = tokenizer("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", cls_token="[CLS]", sep_token="[SEP]")
    plain = head_inputs(reader, {"one": "the cat", "two": "a dog"}, None)[0]
    pairs = ("[CLS] the cat", "a dog [SEP]"), ("the cat [SEP]", "a dog"), ("[CLS] the cat [SEP]", "a dog [SEP]")
    for one, two in pairs:
        own, _, n_repeated = head_inputs(reader, {"one": one, "two": two}, None)
        assert own["input_ids"] == plain["input_ids"]
        assert n_repeated > 0
    single = head_inputs(reader, {"text": "[CLS] the cat [SEP]"}, None)[0]
    assert single["input_ids"] == head_inputs(reader, {"text": "the cat"}, None)[0]["input_ids"]


# -- a special token that is also a word ------------------------------------------------------------------------------


def with_word(role, word):
    """Build a tokenizer in which a word of texts has a role of a special token."""
    return tokenizer("<s> $A </s>", **{"bos_token": "<s>", "eos_token": "</s>", role: word})


@pytest.mark.parametrize("role", ["pad_token", "mask_token", "unk_token"])
def test_a_word_with_the_role_of_a_special_token_stays_a_word(role, tmp_path):
    texts = ["the cat ! runs !", "a dog ! ! sits", "! the bird", "the fish !"]
    reader, other = with_word(role, "!"), with_word("pad_token", "<pad>")
    model = build("gpt2", pad_token_id=None)
    assert VOCABULARY["!"] not in special_ids(reader)
    assert VOCABULARY["<pad>"] in special_ids(other)
    one, two = (
        lmri.record(model, each, texts, tmp_path / name, test_fraction=0)
        for each, name in ((reader, "word"), (other, "mark"))
    )
    assert one.n_volumes == two.n_volumes == sum(len(text.split()) for text in texts)
    assert [table["token"].tolist() for table in one.events] == [table["token"].tolist() for table in two.events]
    assert sum(table["token"].tolist().count("!") for table in one.events) == 6
    for first, second in zip(one.arrays(), two.arrays(), strict=True):
        np.testing.assert_array_equal(first, second)
    scores = [tasks.Perplexity(texts).score(model, each)["value"].tolist() for each in (reader, other)]
    assert scores[0] == scores[1]


def test_names_of_marks_in_a_text_stay_special_and_an_unknown_word_does_not():
    reader, model = with_word("pad_token", "!"), build("gpt2")
    read = encode(model, reader, "the </s> cat ! unheard")
    assert names(reader, read.ids) == "<s> the </s> cat ! <unk> </s>"
    assert read.special == [True, False, True, False, False, False, True]


def test_a_generated_word_that_is_a_pad_is_part_of_the_answer():
    reader, model = with_word("pad_token", "!"), build("phi")
    with torch.no_grad():
        model.lm_head.bias.fill_(-1000.0)
        model.lm_head.bias[VOCABULARY["!"]] = 1000.0
    assert generate(model, reader, [prompt_ids(reader, "the cat")], 2, 1) == ["! !"]
    made = continue_prompt(model, reader, "the cat", Generation(3))
    assert made.encoding.special[made.n_prompt :] == [False, False]


def classifier(pad_token_id, n_ids):
    config = GPT2Config(
        vocab_size=n_ids, n_embd=16, n_layer=2, n_head=2, n_positions=64, num_labels=2, pad_token_id=pad_token_id,
        id2label={0: "y", 1: "n"}, label2id={"y": 0, "n": 1}, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    return randomize(GPT2ForSequenceClassification(config))


def last_hidden(model, ids):
    """Return the logits of a classifier at the last token of a text: the oracle."""
    with torch.no_grad():
        return model.score(model.transformer(torch.tensor([ids]))[0])[0, -1].double().log_softmax(-1).numpy()


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("n_ids", [len(VOCABULARY), 12])
def test_a_classifier_reads_the_last_word_even_if_it_is_the_pad(batch_size, n_ids):
    listed = ("!", "the", "cat", "dog", "sits", "runs", "a", ".", "x", "y", "z", "<unk>")
    words = {word: number for number, word in enumerate(listed)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    reader = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="!")
    # With 12 tokens, the texts use all of them, so that no id is left for a pad.
    texts = ["the cat !", "a dog sits ! !", "the dog runs", "x y z . <unk> ! !"]
    model = classifier(0, n_ids)
    assert n_ids > 12 or len({token for text in texts for token in reader(text)["input_ids"]}) == 12
    scored = tasks.Classification(texts, ["y", "n"] * 2, WORDS_FOR, scoring="head", batch_size=batch_size).score(
        model, reader
    )
    for text, label, margin in zip(texts, ["y", "n"] * 2, scored["margin"], strict=True):
        y, n = last_hidden(model, reader(text)["input_ids"])
        # Logits are sums of 16 products of size 1, and are rounded some 30 times on their way.
        assert margin == pytest.approx((y - n) * (1 if label == "y" else -1), abs=1e-5)  # 80 eps of values near 1
    assert model.config.pad_token_id == 0


def test_a_new_classifier_gets_a_pad_that_is_no_word():
    model = build("gpt2")
    for reader, pad in (
        (with_word("pad_token", "!"), "</s>"),
        (tokenizer("$A", pad_token="!", eos_token="."), "<pad>"),
        (tokenizer("$A"), "<pad>"),
    ):
        child, own = make_classifier(model, reader, ["y", "n"])
        assert own.pad_token == pad
        assert child.config.pad_token_id == own.pad_token_id
