"""Named and custom tasks: items of files are scored, and problems of files are reported."""

import json
import warnings

import pandas as pd
import pytest

from lmri import evaluate
from lmri.exceptions import DataWarning
from lmri.lesions import tasks
from lmri.lesions.tasks.items import load_dataset
from lmri.storage import text_hash
from tiny_models import build, byte_tokenizer

GLUE = {
    "cola": ({"sentence": "They sang it.", "label": 1}, "acceptable", "unacceptable", 0),
    "sst2": ({"sentence": "a fine film", "label": 0}, "negative", "positive", 1),
    "mrpc": ({"sentence1": "It rains.", "sentence2": "Rain falls.", "label": 1}, "equivalent", "not_equivalent", 0),
    "qqp": ({"question1": "Why?", "question2": "How so?", "label": 0}, "not_duplicate", "duplicate", 1),
    "mnli": ({"premise": "It rains.", "hypothesis": "It is wet.", "label": 0}, "entailment", "contradiction", 2),
    "qnli": ({"question": "Who?", "sentence": "It was she.", "label": 0}, "entailment", "not_entailment", 1),
    "ag-news": ({"text": "Oil rises again.", "label": 2}, "Business", "World", 0),
}


@pytest.fixture(autouse=True)
def quiet(request):
    """Ignore warnings about missing labels, which small samples cause."""
    if "warns" in request.node.name or "said" in request.node.name:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def two(name):
    """Return one row for each of two labels, and the labels."""
    row, first, second, number = GLUE[name]
    return [row, {**{key: f"{value} (b)" for key, value in row.items()}, "label": number}], [first, second]


# -- named tasks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GLUE)
@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_labels_and_texts_are_read_from_files_as_hugging_face_names_them(tmp_path, name, ending):
    rows, labels = two(name)
    path = tmp_path / f"data.{ending}"
    table = pd.DataFrame(rows)
    {
        "jsonl": lambda: write(path, rows),
        "json": lambda: path.write_text(json.dumps(rows)),
        "csv": lambda: table.to_csv(path, index=False),
        "parquet": lambda: table.to_parquet(path),
    }[ending]()
    task = tasks.load(name, path)
    assert task.labels == labels
    assert task.info.scoring == "loglikelihood"
    assert task.info.metric == "accuracy"
    for prompt, row in zip(task.prompts, rows, strict=True):
        assert all(str(value) in prompt for key, value in row.items() if key != "label")
        assert "{" not in prompt
    # A folder with one table is that table.
    assert tasks.load(name, tmp_path).digest() == task.digest()


@pytest.mark.parametrize("name", GLUE)
def test_datasets_of_hugging_face_are_read_from_disk_and_by_their_loader(tmp_path, name):
    import datasets

    rows, labels = two(name)
    names = list(tasks.TASKS[name].recipe.labels)
    features = datasets.Features(
        {key: datasets.ClassLabel(names=names) if key == "label" else datasets.Value("string") for key in rows[0]}
    )
    saved = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict({"validation": saved, "test": saved}).save_to_disk(tmp_path / "disk")
    assert tasks.load(name, tmp_path / "disk", dataset_split="validation").labels == labels
    with pytest.raises(ValueError, match="has no split 'dev'; choose from 'validation', 'test'"):
        tasks.load(name, tmp_path / "disk", dataset_split="dev")
    (tmp_path / "loader").mkdir()
    saved.to_parquet(tmp_path / "loader" / "validation.parquet")
    loaded = load_dataset(str(tmp_path / "loader"))
    assert loaded["label"].tolist() == labels
    with pytest.raises(ValueError, match="is not a file and could not be loaded as a dataset"):
        load_dataset(str(tmp_path / "nowhere"))


OFFICIAL = {
    "cola": (
        "dev.tsv",
        'gj04\t1\t\tThe sailors rode the "breeze.\ngj04\t0\t*\tRode sailors the.\n',
        ["acceptable", "unacceptable"],
    ),
    "sst2": ("dev.tsv", 'sentence\tlabel\n"one long string\t0\na delight\t1\n', ["negative", "positive"]),
    "mrpc": (
        "msr_paraphrase_test.txt",
        '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\t"It rains.\tRain falls.\n0\t3\t4\tA.\tB.\n',
        ["equivalent", "not_equivalent"],
    ),
    "qqp": (
        "dev.tsv",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
        '1\t1\t2\tWhy "so?\tHow?\t1\n2\t3\t4\tWho?\tWhat?\t0\n3\t5\n',
        ["duplicate", "not_duplicate"],
    ),
    "mnli-matched": (
        "dev_matched.tsv",
        "index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n0\tslate\tIt rains.\tWet.\tneutral\tentailment\n"
        "1\tfiction\tA.\tB.\tneutral\t-\n2\tslate\tC.\tD.\tneutral\tneutral\n",
        ["entailment", "neutral"],
    ),
    "qnli": (
        "dev.tsv",
        "index\tquestion\tsentence\tlabel\n0\tWho?\tIt was she.\tentailment\n1\tWhy?\tNo.\tnot_entailment\n",
        ["entailment", "not_entailment"],
    ),
    "ag-news": ("test.csv", '"3","Oil","Oil ""rises"" again."\n"1","Talks","They talk."\n', ["Business", "World"]),
}  # fmt: skip


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_files_are_read_with_their_quotes_and_without_a_header(tmp_path, name):
    file, content, labels = OFFICIAL[name]
    (tmp_path / file).write_text(content, encoding="utf-8")
    (tmp_path / "train.tsv").write_text("not this one\n")
    task = tasks.load(name, tmp_path)
    assert task.labels == labels
    # An opening quotation mark belongs to the text, and ends neither the field nor the line.
    expected = {
        "cola": 'The sailors rode the "breeze.', "sst2": '"one long string', "mrpc": '"It rains.', "qqp": 'Why "so?',
        "mnli-matched": "It rains.", "qnli": "Who?", "ag-news": 'Oil Oil "rises" again.',
    }  # fmt: skip
    assert task.texts[0] == expected[name]


def test_ag_news_counts_from_0_or_from_1_as_the_file_does(tmp_path):
    named = tmp_path / "named.csv"
    named.write_text("Class Index,Title,Description\n3,Oil,Up.\n4,Mars,Red.\n")
    assert tasks.load("ag-news", named).labels == ["Business", "Sci/Tech"]
    zero = write(tmp_path / "zero.jsonl", [{"title": "Oil", "text": "Up.", "label": 3, "label_name": "Sci/Tech"}] * 2)
    assert tasks.load("ag-news", zero).labels == ["Sci/Tech"] * 2
    named.write_text("Class Index,Title,Description\n0,Oil,Up.\n4,Mars,Red.\n")
    with pytest.raises(ValueError, match=r"has the class indices \['0'\]; the classes are 1 to 4"):
        tasks.load("ag-news", named)


def test_mnli_is_matched_or_mismatched_where_the_file_says_so(tmp_path):
    rows = [
        {"premise": f"P{n}", "hypothesis": "H", "label": n % 3, "split": f"mnli_{'mis' * (n % 2)}matched"}
        for n in range(12)
    ]
    path = write(tmp_path / "dev.jsonl", rows)
    matched, mismatched, both = (tasks.load(name, path) for name in ("mnli-matched", "mnli-mismatched", "mnli"))
    assert [task.info.name for task in (matched, mismatched, both)] == ["mnli-matched", "mnli-mismatched", "mnli"]
    assert matched.texts[::2] == [f"P{n}" for n in range(0, 12, 2)]
    assert mismatched.texts[::2] == [f"P{n}" for n in range(1, 12, 2)]
    assert len(both.labels) == 12
    assert both.info.note == "matched and mismatched together"
    silent = write(tmp_path / "silent.jsonl", [{**row, "split": "dev"} for row in rows])
    assert len(tasks.load("mnli", silent).labels) == 12
    with pytest.raises(ValueError, match="does not identify the matched rows"):
        tasks.load("mnli-matched", silent)
    with pytest.raises(ValueError, match="contains no mismatched rows"):
        tasks.load("mnli-mismatched", write(tmp_path / "some.jsonl", rows[::2]))


def test_metrics_are_those_of_glue(tmp_path):
    also = {}
    for name in GLUE:
        task = tasks.load(name, write(tmp_path / f"{name}.jsonl", two(name)[0]))
        also[name] = (task.info.metrics, task.info.positive)
    assert also.pop("cola") == (("accuracy", "matthews"), "")
    assert also.pop("mrpc") == (("accuracy", "f1"), "equivalent")
    assert also.pop("qqp") == (("accuracy", "f1"), "duplicate")
    assert set(also.values()) == {(("accuracy",), "")}


def test_clusters_are_what_the_task_declares(tmp_path):
    rows = [{"premise": premise, "hypothesis": str(n), "label": n % 3} for n, premise in enumerate("aabbc")]
    clusters = tasks.load("mnli", write(tmp_path / "mnli.jsonl", rows)).clusters
    assert clusters == [text_hash(premise) for premise in "aabbc"]
    pairs = [("x", "y"), ("y", "x"), ("x", "z")]
    rows = [{"question1": one, "question2": other, "label": n % 2} for n, (one, other) in enumerate(pairs)]
    clusters = tasks.load("qqp", write(tmp_path / "qqp.jsonl", rows)).clusters
    assert clusters[0] == clusters[1] != clusters[2]


# -- choosing items ---------------------------------------------------------------------------------------------------


def test_splits_are_disjoint_whole_and_named_in_every_row(tmp_path):
    rows = [{"question1": f"q{n % 150}", "question2": f"r{n}", "label": n % 2} for n in range(400)]
    path = write(tmp_path / "qqp.jsonl", rows)
    parts = {split: tasks.load("qqp", path, split=split, seed=1) for split in ("fit", "select", "test")}
    assert sum(len(task.labels) for task in parts.values()) == 400
    for split, task in parts.items():
        assert task.info.split == split
        for other in set(parts) - {split}:
            assert not set(task.texts) & set(parts[other].texts)
            assert not set(task.clusters) & set(parts[other].clusters)
    # Fewer items do not change sides, unless they joined others.
    half = tasks.load("qqp", write(tmp_path / "half.jsonl", rows[:150]), split="test", seed=1)
    alone = tasks.load("qqp", write(tmp_path / "alone.jsonl", rows[:75]), split="test", seed=1)
    assert set(alone.texts) <= set(half.texts)
    assert len(alone.texts) < len(half.texts)
    scores = evaluate(build("gpt2", vocab_size=300, context=512), byte_tokenizer(), [half], {})
    assert set(scores.summary()["split"]) == {"test"}
    with pytest.raises(ValueError, match="split is 'train'; choose from 'fit', 'select', 'test'"):
        tasks.load("qqp", path, split="train")
    with pytest.raises(ValueError, match="None of the 1 items of 'qqp' is in the split"):
        tasks.load("qqp", write(tmp_path / "one.jsonl", rows[:1]), split="test", shares=(1, 0, 0))


def test_known_texts_are_not_tested(tmp_path):
    rows = [{"sentence": f"s{n}", "label": n % 2} for n in range(60)]
    path = write(tmp_path / "sst2.jsonl", rows)
    tested = tasks.load("sst2", path, split="test").texts
    known = {text_hash(text): "fit" for text in tested[:5]}
    assert tasks.load("sst2", path, split="test", known=known).texts == tested[5:]


def test_a_limit_draws_at_random_since_files_are_sorted(tmp_path):
    rows = [{"sentence": f"s{n}", "label": int(n >= 500)} for n in range(1000)]
    path = write(tmp_path / "sst2.jsonl", rows)
    drawn = tasks.load("sst2", path, limit=100)
    assert 30 < drawn.labels.count("positive") < 70
    assert len(set(drawn.texts)) == 100
    assert drawn.digest() == tasks.load("sst2", path, limit=100).digest()
    assert drawn.digest() != tasks.load("sst2", path, limit=100, seed=1).digest()
    with pytest.raises(ValueError, match="limit is 0; it must be at least 1"):
        tasks.load("sst2", path, limit=0)


# -- bad input --------------------------------------------------------------------------------------------------------


def test_it_warns_of_fewer_items_than_asked_for_and_rows_say_so(tmp_path):
    path = write(tmp_path / "sst2.jsonl", two("sst2")[0])
    with pytest.warns(DataWarning, match="sst2: 500 items asked for, 2 there"):
        task = tasks.load("sst2", path, limit=500)
    scores = evaluate(build("gpt2", vocab_size=300, context=512), byte_tokenizer(), [task], {})
    assert scores.summary()["note"].tolist() == ["500 items asked for, 2 there"]


def test_it_warns_of_one_class_and_of_rows_left_out(tmp_path):
    rows = [{"sentence": f"s{n}", "label": 1} for n in range(5)]
    with pytest.warns(DataWarning, match="no item is 'negative'"):
        assert "no item is 'negative'" in tasks.load("sst2", write(tmp_path / "one.jsonl", rows)).info.note
    rows = [*two("sst2")[0], {"sentence": "c", "label": -1}, {"sentence": " ", "label": 1}]
    with pytest.warns(DataWarning) as heard:
        task = tasks.load("sst2", write(tmp_path / "some.jsonl", rows))
    assert task.info.note == "1 rows without a label left out; 1 rows with an empty text left out"
    assert len(heard) == 2
    assert len(task.labels) == 2


def test_it_warns_of_a_label_that_the_prompt_never_names(tmp_path):
    path = write(tmp_path / "sst2.jsonl", two("sst2")[0])
    with pytest.warns(DataWarning, match="the prompt does not name 'negative'"):
        task = tasks.load("sst2", path, prompt="{sentence} Is this positive?")
    assert task.info.note == "the prompt does not name 'negative'"
    # A prompt to be completed names none, which is as it should be; an answer to it cannot be read.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not tasks.load("sst2", path, prompt="{sentence} It was").info.note
        tasks.load("sst2", path)
        tasks.load("sst2", path, scoring="head", prompt="{sentence} Is this positive?")
    with pytest.warns(DataWarning, match="the prompt does not name 'negative' or 'positive'"):
        tasks.load("sst2", path, prompt="{sentence} It was", scoring="generate")


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"text2": "a", "label": 1}], {}, r"has no column 'sentence' or 'text'; it has \['text2', 'label'\]"),
        ([{"sentence": "a"}], {}, "has no column 'label'"),
        ([{"sentence": "a", "label": 2}], {}, "has the label '2'; sst2 accepts 'negative' or '0', 'positive' or '1'"),
        ([{"sentence": "a", "label": -1}], {}, r"None of the 1 rows .* has both a label and texts \(1 without a label"),
        ([], {}, "contains no rows"),
        (two("sst2")[0], {"words": {"negative": " bad"}}, "The words of a label are empty"),
        (two("sst2")[0], {"words": {"negative": " x", "positive": "X"}}, "Two labels have the same words"),
        (two("sst2")[0], {"prompt": "Good?"}, r"does not contain '\{sentence\}'"),
        (two("sst2")[0], {"prompt": "{sentence} {title}"}, "has a placeholder for 'title'; the items have 'sentence'"),
        (two("sst2")[0], {"scoring": "guess"}, "scoring is 'guess'; for sst2, choose from 'loglikelihood'"),
        (two("sst2")[0], {"max_new_tokens": 0}, "max_new_tokens is 0"),
    ],
)
def test_what_cannot_be_a_task_is_refused(tmp_path, rows, options, message):
    with pytest.raises(ValueError, match=message):
        tasks.load("sst2", write(tmp_path / "data.jsonl", rows), **options)


def test_unknown_tasks_files_and_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="There is no task 'sst3'; choose from cola, mrpc"):
        tasks.load("sst3", tmp_path)
    for name in ("sst2", "ag-news", "ag_news"):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl does not exist"):
            tasks.load(name, tmp_path / "nowhere.jsonl")
    with pytest.raises(ValueError, match=r"contains several tables or none \(none\)"):
        tasks.load("sst2", tmp_path)
    write(tmp_path / "a.jsonl", [])
    write(tmp_path / "b.jsonl", [])
    with pytest.raises(ValueError, match=r"contains several tables or none \(a.jsonl, b.jsonl\)"):
        tasks.load("sst2", tmp_path)
    with pytest.raises(ValueError, match="perplexity has no default data"):
        tasks.load("perplexity")
    texts = tmp_path / "texts.txt"
    texts.write_text("one\ntwo\n")
    for options in ({"scoring": "generate"}, {"prompt": "{text}"}, {"words": {"a": "b"}}):
        with pytest.raises(ValueError, match=r"choose from 'loglikelihood'|perplexity does not accept it"):
            tasks.load("perplexity", texts, **options)


def test_perplexity_is_loaded_by_name_too(tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"text {number}\n" for number in range(40)))
    parts = [tasks.load("perplexity", texts, split=split) for split in ("fit", "select", "test")]
    assert sorted(text for part in parts for text in part.texts) == sorted(f"text {number}" for number in range(40))
    assert [part.info.split for part in parts] == ["fit", "select", "test"]
    assert tasks.load("perplexity", texts).digest() == tasks.Perplexity([f"text {n}" for n in range(40)]).digest()


# -- own tables -------------------------------------------------------------------------------------------------------

YAML = """
name: irony
data: irony.csv
prompt: "{text} ({place}). Is this ironic, yes or no?\\nAnswer:"
label: kind
words: {no: yes, off: " no"}
cluster: document
positive: no
"""


def own(tmp_path, content=YAML):
    (tmp_path / "irony.csv").write_text("text,place,kind,document\nOh great,here,no,1\nFine,there,off,1\nNA,x,off,2\n")
    path = tmp_path / "irony.yaml"
    path.write_text(content)
    return path


def test_an_own_table_takes_a_few_lines_of_yaml(tmp_path):
    task = tasks.load(own(tmp_path))
    assert task.info.name == "irony"
    # YAML would read the labels as truth values.
    assert task.labels == ["no", "off", "off"]
    assert task.verbalizer == {"no": " yes", "off": " no"}
    assert task.clusters == ["1", "1", "2"]
    assert task.info.metrics == ("accuracy", "f1")
    assert task.info.positive == "no"
    assert task.prompts[2] == "NA (x). Is this ironic, yes or no?\nAnswer:"
    other = tmp_path / "other.csv"
    other.write_text("text,place,kind,document\nA,B,no,1\nC,D,off,2\n")
    assert tasks.load(own(tmp_path), other).texts == ["A", "B", "C", "D"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("label: kind\n", ""), "lacks the key 'label'"),
        (("label:", "lable:"), "has the unknown key 'lable'"),
        (("words: {no: yes, off: \" no\"}", "words: yes"), "give words by label"),
        (("positive: no", "positive: maybe"), "needs positive: one of the labels 'no', 'off'"),
        (("positive: no", "scoring: guess"), "has scoring: 'guess'"),
        (("positive: no", "metrics: [bleu]"), "choose from f1, matthews, balanced_accuracy"),
        (("{text} ({place})", "Text"), "has no column in braces"),
        (("{text}", "{body}"), "has no column 'body'"),
        (("data: irony.csv", "data: lost.csv"), r"lost\.csv does not exist"),
        (("cluster: document", "cluster: page"), "has no column 'page'"),
        (("name: irony", "name: [a"), "cannot be read as YAML"),
        ((YAML, "irony"), "does not contain keys with values"),
    ],
)  # fmt: skip
def test_yaml_that_describes_no_task_is_refused(tmp_path, change, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        tasks.load(own(tmp_path, YAML.replace(*change)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file", "n", "share"),
    [
        ("cola", "glue_cola", 1043, 719 / 1043),
        ("mrpc", "glue_mrpc/test.jsonl", 1725, 1147 / 1725),
        ("qqp", "glue_qqp", 46, 24 / 46),
        ("sst2", "glue_sst2", 872, 444 / 872),
        ("mnli-matched", "glue_mnli/dev_subset.jsonl", 1000, None),
        ("mnli-mismatched", "glue_mnli", 1000, None),
        ("qnli", "glue_qnli/dev.jsonl", 2000, 1001 / 2000),
        ("ag-news", "ag_news", 2000, 513 / 2000),
    ],
)
def test_real_data_are_read_and_scored(real_data, name, file, n, share):
    from lmri import load_model

    source = real_data / "data" / file
    whole = tasks.load(name, source)
    assert len(whole.labels) == n
    if share is not None:
        assert max(whole.labels.count(label) for label in set(whole.labels)) / n == pytest.approx(share)
    parts = [tasks.load(name, source, split=split) for split in ("fit", "select", "test")]
    assert sum(len(part.labels) for part in parts) == n
    model, tokenizer = load_model(real_data / "models" / "mini-gpt2")
    scored = evaluate(model, tokenizer, [tasks.load(name, source, split="test", limit=8)], {})
    summary = scored.summary()
    assert summary["value"].between(-1, 1).all()
    assert summary["majority_rate"].between(0, 1).all()
