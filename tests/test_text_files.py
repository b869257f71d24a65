"""Files of texts: no row is lost or merged, and an error names the line."""

import csv
import inspect
import io
import json
import logging
import random

import pytest
import typer
from typer.testing import CliRunner

import lmri
from lmri.cli.app import app
from lmri.exceptions import DataWarning, StudyError
from lmri.lesions import tasks
from lmri.lesions.tasks.items import gather, read_source
from lmri.lesions.tasks.options import TaskDataOptions
from lmri.storage import read_table
from lmri.storage.json_files import DuplicateKeyError, parse_json
from lmri.storage.text_files import TextFile
from lmri.storage.texts import read_texts
from lmri.storage.user_tables import read_table_file

MRPC = [
    ("0", "He said it was fine ."),
    ("1", '"That is what I call a start , he told them .'),
    ("0", "Shares rose 3 % on Friday ."),
    ("1", 'The " old " rule stands .'),
    ("1", '"Quoted whole line ."'),
    ("0", '5" disks were common once .'),
    ("1", "The end ."),
]
"""Quotation marks as in GLUE's files; read as quoting, rows 2 to 4 are one."""


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def tsv(rows, header=("label", "text")):
    return "".join("\t".join(row) + "\n" for row in [header, *rows])


# -- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("seed", range(5))
def test_csv_is_read_as_the_standard_library_wrote_it(write, separator, line_end, seed):
    """The oracle is an independent implementation of RFC 4180, on fields made of its special characters."""
    rng = random.Random(seed)
    alphabet = [
        '"',
        '""',
        ",",
        ";",
        "\t",
        "a",
        " ",
        "\u2028",
        "\x85",
        "\x0c",
        "ü",
        *([line_end] if line_end != "\r\n" else ["\r\n"]),
    ]
    rows = [["".join(rng.choices(alphabet, k=rng.randrange(8))) for _ in range(3)] for _ in range(40)]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=separator, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([["a", "b", "c"], *rows])
    table = read_table_file(write("t.csv", stream.getvalue()))
    assert table.to_numpy().tolist() == rows
    # The place of each row is the line on which it begins.
    n_ends = [1 + sum(field.count(line_end) for field in row) for row in rows]
    assert table.index.tolist() == [2 + sum(n_ends[:number]) for number in range(len(rows))]


def test_quotation_marks_are_only_used_where_a_field_begins_with_one(write):
    content = 'text,label\n5" disk,1\n"a, ""b""",2\n"",3\n'
    table = read_table_file(write("t.csv", content))
    assert table["text"].tolist() == ['5" disk', 'a, "b"', ""]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("text;label\nrain, snow;1\n", ["rain, snow"]),
        ("text,label\nrain; snow,1\n", ["rain; snow"]),
        ('"te;xt",text\n1,rain\n', ["rain"]),  # a separator within a quoted name decides nothing
        ('"te,xt";text\n1;rain\n', ["rain"]),
        ("text\nrain; snow\n", ["rain; snow"]),
        (",text,\n0,rain,\n1,snow,\n", ["rain", "snow"]),  # an index that a program added, and empty columns
        ("\n\ntext,label\n\nrain,1\n \nsnow,2\n\n\n", ["rain", "snow"]),
        ("text\nNA\nnull\nnan\n01\n1.0\n1e3\nTRUE\n", ["NA", "null", "nan", "01", "1.0", "1e3", "TRUE"]),
        ("text,label\n" + "x" * 200_000 + ",1\n", ["x" * 200_000]),  # the standard library stops at 131,072
        ("text,label\nlast,1", ["last"]),
    ],
)
def test_separators_blank_lines_and_texts_like_numbers(write, content, texts):
    assert read_texts(write("t.csv", content)) == texts


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "text;label,x\na,b\n", "line 1 contains both ',' and ';'"),
        ("t.csv", "text,label,text\na,b,c\n", "line 1 names the columns 1 and 3 'text'"),
        ("t.csv", '\n"text", text\na,b\n', "line 2 names|line 2 has a space"),
        ("t.csv", 'text,label\n"a\nb",1\n\nc\n', "line 5 has 1 fields, fewer than"),
        ("t.csv", 'text,label\r\n"a\r\n\r\nb",1\r\nc,1,2\r\n', "line 5 has 3 fields, more than"),
        ("t.csv", 'text,label\na,1\n"open,1\nb,2\n', "line 3 begins a quoted field that does not end"),
        ("t.csv", 'text,label\n"a,1\n"b",2\n', "line 3 has .* closes the field of line 2"),
        ("t.csv", 'text,label\n"a" ,1\n', "line 2 has ' ,1"),
        ("t.csv", 'text,label\n1, "a"\n', "line 2 has a space before an opening quotation mark"),
        ("t.csv", "text,label\nrain, snow,1\n", "line 2 has 3 fields, more than .* Enclose texts that contain ','"),
        ("t.csv", "text\na\rb\n", "line 2 contains a carriage return"),
        ("t.tsv", "text\ta\nb\tc\n\nd\n", "line 4 has 1 fields, fewer than"),
        ("t.tsv", "text\ttext\nb\tc\n", "line 1 names the columns 1 and 2 'text'"),
        ("t.txt", "one\ntwo\rthree\n", "line 2 contains a carriage return"),
        ("t.txt", "one\r\ntwo\r\r\n", "line 2 contains a carriage return"),
        ("t.csv", "", "is empty"),
        ("t.csv", "text,label\n", "contains no texts"),
        ("t.tsv", "\n\n", "is empty"),
        ("t.jsonl", "\n \n", "contains no rows"),
        ("t.jsonl", '{"text": "a"}\n\n{"text":\n', "line 3 is not JSON: Expecting value"),
        ("t.jsonl", '{"text": "a"}\n["b"]\n', r"line 2 is \[\"b\"\]; needed is an object"),
        ("t.jsonl", '{"text": "a"}\r\n{"text": "a", "text": "b"}\r\n', "line 2 begins an object with two keys 'text'"),
        ("t.jsonl", '{"text": "a", "meta": [{"id": 1, "id": 1}]}\n', "line 1 begins an object with two keys 'id'"),
        ("t.json", '[\n{"text": "{a"},\n{"text": "b",\n"o":\n{"k": 1, "k": 2}}]', "line 5 .* two keys 'k'"),
        ("t.json", '[{"text": "a"},\n{"text":}]', "line 2 is not JSON"),
        ("t.json", '[{"text": "a"}, "b"]', "item 2 is 'b'"),
        ("t.json", "[" * 100_000, "nested too deeply"),
        ("t.csv.gz", b"\x1f\x8b", "ends in '.gz'; choose from"),
    ],
)
def test_an_error_names_the_line(write, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_texts(write(name, content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", '\n{"text": "a"}\n{"text": null}\n', r"line 3, column 'text', is None"),
        ("t.jsonl", '{"text": "a"}\n{"text": 2004}\n', r"line 2, column 'text', is 2004 \(int\)"),
        ("t.jsonl", '{"text": ["a"]}\n', r"line 1, column 'text', is \['a'\]"),
        ("t.jsonl", '{"text": "a"}\n{"body": "b"}\n', "line 2, column 'text', is missing"),
        ("t.json", '[{"text": "a"}, {"text": true}]', "item 2, column 'text', is True"),
    ],
)
def test_values_that_are_not_texts_are_named_and_not_converted(write, name, content, message):
    with pytest.raises(TypeError, match=message):
        read_texts(write(name, content))


# -- TSV --------------------------------------------------------------------------------------------------------------


def test_quotation_marks_in_tsv_belong_to_the_texts(write):
    path = write("t.tsv", tsv(MRPC))
    assert read_texts(path) == [text for _, text in MRPC]
    assert read_table_file(path)["label"].tolist() == [label for label, _ in MRPC]
    # The same rows as CSV with quoting, which is the default there.
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([("label", "text"), *MRPC])
    assert read_texts(write("t.csv", stream.getvalue())) == [text for _, text in MRPC]
    assert read_texts(write("u.csv", tsv(MRPC).replace(" , ", " - ").replace("\t", ",")), quoting="none")[1][0] == '"'


@pytest.mark.parametrize(
    ("content", "n_quoted", "n_plain"),
    [
        ('text\tlabel\n"two\nlines"\t1\nb\t2\n', 2, 3),
        ('text\tlabel\n"a\ttab"\t1\nb\t2\n', 2, 2),
        ('text\n"two\nlines"\n"b ""c"""\n', 2, 3),
        ('text\r\n"two\r\nlines"\r\nb\r\n', 2, 3),
        ('text\tlabel\n"\t1\n"\t2\n', 1, 2),  # two texts that are a quotation mark each, or one text with a tab
        ('text\tlabel\n "a"\t1\n"two\nlines"\t2\n', 2, 3),
    ],
)
def test_a_tsv_file_whose_rows_depend_on_quoting_is_refused_with_both_counts(write, content, n_quoted, n_plain):
    path = write("t.tsv", content)
    counts = [f"{n} text{'s' * (n != 1)}" for n in (n_quoted, n_plain)]
    with pytest.raises(ValueError, match=f"{counts[0]} with quoting, and {counts[1]} without.*--quoting csv.*none"):
        read_texts(path)
    assert len(read_table_file(path, "csv")) == n_quoted
    if "\tlabel" not in content:
        assert len(read_table_file(path, "none")) == n_plain


@pytest.mark.parametrize(
    "field",
    ['"open', 'closed"', '"whole"', '"a" and "b"', '"', '""', '"""', "'", '5"', '" spaced "'],
)
def test_one_text_with_quotation_marks_never_merges_rows(write, field):
    rows = [("1", "before"), ("0", field), ("1", "after"), ("0", "the end")]
    assert read_texts(write("t.tsv", tsv(rows))) == [text for _, text in rows]


def test_doubled_quotation_marks_in_tsv_are_kept_with_a_warning(write):
    path = write("t.tsv", 'text\tlabel\n"a ""b"""\t1\nplain\t2\n')
    with pytest.warns(DataWarning, match="1 fields of .* contain doubled ones.*--quoting csv"):
        assert read_texts(path) == ['"a ""b"""', "plain"]
    assert read_texts(path, quoting="csv") == ['a "b"', "plain"]


def test_quoted_names_of_columns_lead_to_the_option(write):
    path = write("t.tsv", '"text"\t"label"\n"a"\t"b"\n')
    with pytest.raises(ValueError, match=r"no column 'text'; it has '\"text\"', .*--quoting csv"):
        read_texts(path)
    assert read_texts(path, quoting="csv") == ["a"]
    with pytest.raises(ValueError, match="quoting is 'all'; choose from 'csv'"):
        read_texts(path, quoting="all")


# -- encodings and lines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["txt", "csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_name_the_encoding(write, ending, encoding):
    texts = ["Größe", "Привет", "日本語 🙂", "一Ā"]
    content = {
        "txt": "\r\n".join(texts),
        "jsonl": "\r\n\r\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts),
        "json": json.dumps([{"text": text} for text in texts], ensure_ascii=False),
    }.get(ending, "\r\n".join(["text", *texts]))
    assert read_texts(write(f"t.{ending}", content.encode(encoding))) == texts
    if encoding.startswith("utf-16"):
        body = content.encode("utf-16-be")
        assert read_texts(write(f"u.{ending}", b"\xfe\xff" + body)) == texts
        for unmarked in (body, content.encode("utf-16-le")):
            with pytest.raises(
                ValueError, match="line 1 contains a zero byte: the file is UTF-16 without a byte-order"
            ):
                read_texts(write(f"v.{ending}", unmarked))


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "gb18030", "shift_jis", "koi8-r"])
def test_other_encodings_are_refused_with_the_line(write, encoding):
    text = {"gb18030": "日本", "shift_jis": "日本", "koi8-r": "Привет"}.get(encoding, "Grüße")
    with pytest.raises(ValueError, match=r"line 3 contains the bytes .* not UTF-8"):
        read_texts(write("t.csv", f"text\nplain\n{text}\n".encode(encoding)))


def test_only_line_ends_end_lines(write):
    line = "a\u2028b\u2029c\x85d\x0ce\x0bf\x1cg\x1dh\x1ei"
    assert read_texts(write("t.txt", f"{line}\nend\n")) == [line, "end"]
    assert read_texts(write("t.tsv", f"text\n{line}\nend\n")) == [line, "end"]
    assert read_texts(write("t.csv", f"text\n{line}\nend\n")) == [line, "end"]
    assert read_texts(write("t.jsonl", '{"text": "a\u2028b\x85c"}\n{"text": "end"}\n')) == ["a\u2028b\x85c", "end"]
    assert read_texts(write("old.txt", "one\rtwo\r")) == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "n_lines"),
    [("", 0), ("a", 1), ("a\n", 1), ("a\n\nb", 3), ("a\r\nb\r\n", 2), ("a\rb", 2), ("\n\n", 2), ("a\u2028b\n", 1)],
)
def test_lines_are_counted_as_editors_do(write, content, n_lines):
    file = TextFile.read(write("t.txt", content))
    assert file.n_lines == len(file.lines()) == n_lines


def test_texts_are_counted_next_to_lines(write, caplog):
    with caplog.at_level(logging.INFO, "lmri.notices"):
        read_texts(write("t.csv", 'text\n"two\nlines"\n\nb\n'))
        read_texts(write("t.txt", "a\n\n \nb\n"))
        read_source(write("t.jsonl", '{"a": 1}\n\n'))
    told = [record.getMessage() for record in caplog.records if record.name == "lmri.notices"]
    assert [text.partition(" of ")[0] for text in told] == [
        "Read 2 texts from 5 lines",
        "Read 2 texts from 4 lines",
        "Read 1 text from 2 lines",
    ]


# -- folders ----------------------------------------------------------------------------------------------------------


def test_folders_are_read_by_the_same_rules(tmp_path):
    """The `datasets` library would turn "NA" into a missing value."""
    (tmp_path / "a.csv").write_text("text\nNA\nx\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.csv").write_text("text;n\ny, z;1\n")
    assert read_texts(tmp_path) == ["NA", "x", "y, z"]
    (tmp_path / "test.csv").write_text("text\nheld out\n")
    assert read_texts(tmp_path, split="test") == ["held out"]
    with pytest.raises(ValueError, match=r"has no split 'train'; choose from 'test'\. Name one"):
        read_texts(tmp_path)
    (tmp_path / "notes.txt").write_text("note\n")
    with pytest.raises(ValueError, match=r"files of several formats .*Name one file"):
        read_texts(tmp_path)


# -- tasks ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::lmri.exceptions.DataWarning")
def test_tasks_read_the_same_rows_as_texts(write):
    rows = [(label, text, "Another sentence .") for label, text in MRPC]
    names = ("label", "sentence1", "sentence2")
    found = {
        ending: tasks.load("mrpc", write(f"t.{ending}", content))
        for ending, content in {
            "tsv": tsv(rows, names),
            "txt": tsv(rows, names),
            "jsonl": "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows),
        }.items()
    }
    for task in found.values():
        assert [item["sentence1"] for item in task.items] == [text for _, text in MRPC]
        assert task.labels == [{"0": "not_equivalent", "1": "equivalent"}[label] for label, _ in MRPC]
    quoted = write("q.tsv", "\t".join(names) + '\n1\t"a\tb"\tc\n0\td\te\n')
    with pytest.raises(ValueError, match="2 texts with quoting"):
        tasks.load("mrpc", quoted)
    assert tasks.load("mrpc", quoted, quoting="csv").items[0]["sentence1"] == "a\tb"
    texts = write("p.tsv", tsv(MRPC))
    assert tasks.load("perplexity", texts).texts == [text for _, text in MRPC]
    with pytest.raises(ValueError, match="line 3"):
        tasks.load("perplexity", texts, quoting="csv")


@pytest.mark.filterwarnings("ignore::lmri.exceptions.DataWarning")
def test_own_prompts_are_read_by_the_same_rules(write):
    table = tsv([("yes", '"Open'), ("no", "b"), ("01", 'a "c"'), ("1", "NA")], ("label", "prompt"))
    task = tasks.Classification.from_file(write("t.tsv", table))
    assert [item["text"] for item in task.items] == ['"Open', "b", 'a "c"', "NA"]
    assert task.labels == ["yes", "no", "01", "1"]
    rows = [{"prompt": "a", "label": 0}, {"prompt": "b", "label": None}, {"prompt": "c", "label": 1}]
    task = tasks.Classification.from_file(write("t.jsonl", "\n".join(map(json.dumps, rows))))
    assert (task.labels, task.info.note) == (["0", "1"], "1 rows without a label left out")
    for row, message in [
        ({"prompt": 5, "label": 0}, "line 4, prompt is 5"),
        ({"prompt": "d", "label": ["x"]}, r"line 4, has the label \['x'\] \(list\)"),
    ]:
        with pytest.raises(TypeError, match=message):
            tasks.Classification.from_file(write("t.jsonl", "\n".join(map(json.dumps, [*rows, row]))))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sst2", "sentence,label\na,1\n\nb,5\n", "line 4, has the label '5'"),
        ("sst2", "sentence,label,Label\na,1,0\n", "'label' and 'Label', which differ only in case"),
        ("sst2", "sentence,label\na\n", "line 2 has 1 fields"),
        ("ag-news", "Class Index,Title,Description\n1,a,b\n7,c,d\n", r"line 3 has the class indices \['7'\]"),
    ],
)
def test_problems_of_tasks_are_named_with_the_line(write, name, content, message):
    with pytest.raises(ValueError, match=message):
        tasks.load(name, write("t.csv", content))


def test_items_without_a_cluster_are_not_put_together(write):
    table, where = read_source(write("t.csv", "text,kind,document\na,x,1\nb,y,\n"))
    with pytest.raises(ValueError, match="line 3, has no 'document'"):
        gather(table, where, {"text": ("text",)}, lambda raw, here: raw, ("kind",), ("text",), (), "document")


@pytest.mark.filterwarnings("ignore::lmri.exceptions.DataWarning")
def test_missing_fields_do_not_become_words(write):
    rows = [
        {"title": None, "text": "Up.", "label": 2},
        {"title": "Oil", "text": None, "label": 2},
        {"title": "Oil", "text": "Up again.", "label": 0},
    ]
    task = tasks.load("ag-news", write("t.jsonl", "\n".join(map(json.dumps, rows))))
    assert task.texts == ["Up.", "Oil Up again."]
    with pytest.raises(TypeError, match=r"line 1, sentence is \['a'\] \(list\)"):
        tasks.load("sst2", write("s.jsonl", '{"sentence": ["a"], "label": 1}'))


@pytest.mark.parametrize(
    ("answers", "expected"),
    [("cat", ["cat"]), (["cat", "dog"], ["cat", "dog"]), ('["cat"]', ["cat"]), ("[cat", ["[cat"])],
)
def test_references_are_texts_or_lists(write, answers, expected):
    row = {"context": "c", "question": "q", "answers": answers}
    assert tasks.load("squad", write("t.jsonl", json.dumps(row))).references == [expected]


@pytest.mark.parametrize("answers", [42, [1], [None], '{"text": ["a"], "text": ["b"]}'])
def test_references_of_other_types_are_refused(write, answers):
    row = {"context": "c", "question": "q", "answers": answers}
    with pytest.raises((TypeError, ValueError), match=r"line 1|two keys 'text'"):
        tasks.load("squad", write("t.jsonl", json.dumps(row)))


def test_keys_that_occur_twice_are_refused_everywhere(write):
    with pytest.raises(DuplicateKeyError, match="two keys 'a'"):
        parse_json('{"b": {"a": 1, "a": 1}}')
    assert parse_json('{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}')["b"][1] == {"a": 2}
    with pytest.raises(ValueError, match=r"SQuAD|two keys 'data'"):
        tasks.load("squad", write("dev.json", '{"data": [],\n"data": []}'))
    yaml = 'prompt: "{text}"\nlabel: kind\nwords: {a: x, b: y}\n'
    assert tasks.table.read_yaml(write("t.yaml", yaml))[0].label_columns == ("kind",)
    for twice in (yaml + "label: other\n", yaml.replace("b: y", "a: y")):
        with pytest.raises(ValueError, match=r"(?s)occurs twice.*line"):
            tasks.table.read_yaml(write("t.yaml", twice))


def test_tables_of_a_study_with_two_columns_of_one_name_are_refused(write):
    assert list(read_table(write("t.tsv", "a\tb\n1\t2\n"))) == ["a", "b"]
    with pytest.raises(StudyError, match="several columns 'a'"):
        read_table(write("t.tsv", "a\tb\ta\n1\t2\t3\n"))


# -- commands ---------------------------------------------------------------------------------------------------------

COMMANDS = ("record", "lesion", "preserve", "amplify", "robustness", "finetune", "check")
"""Commands that read texts or tasks of a user."""


def test_every_reader_of_texts_takes_quoting():
    for name, command in typer.main.get_command(app).commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert ("--quoting" in options) == (name in COMMANDS), name
    functions = [read_texts, lmri.check_model, tasks.Classification.from_file, TaskDataOptions]
    functions += [getattr(lmri.Study, name) for name in COMMANDS[:5]]
    assert all(inspect.signature(function).parameters["quoting"].default is None for function in functions)


def test_the_command_prints_both_counts_and_takes_the_option(write, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    path, record = write("t.tsv", tsv(MRPC)), ("record", "lmri-demo", "--out")
    done = run(*record, tmp_path / "a", path)
    assert done.exit_code == 0, done.output
    assert f"Read 7 texts from 8 lines of {path}" in done.stderr
    assert f"Read 7 texts from 8 lines of {path}" not in done.stdout  # which holds the result alone
    assert "Read" not in run(*record, tmp_path / "b", path, "--quiet").stderr

    quoted = write("q.tsv", 'text\n"the red\nand the black"\n"the second"\nthe third\n')
    done = run(*record, tmp_path / "c", quoted)
    assert (done.exit_code, "3 texts with quoting, and 4 texts without" in " ".join(done.stderr.split())) == (1, True)
    done = run(*record, tmp_path / "c", quoted, "--quoting", "csv")
    assert (done.exit_code, "Read 3 texts from 5 lines" in done.stderr) == (0, True)
    done = run("lesion", tmp_path / "c", "--networks", "x", "--task", f"perplexity:{quoted}", "--quoting", "all")
    assert done.exit_code == 1
