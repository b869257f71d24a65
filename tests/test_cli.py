"""The command line returns the results of the library, and reports errors as messages."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import lmri
from lmri.cli.app import app
from lmri.cli.console import format_p, records
from lmri.demo.texts import generate
from lmri.networks.thresholds import parse_threshold
from lmri.study import open_study


def run(*arguments: object):
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fails(*arguments: object, code: int = 1) -> str:
    """Run a command that must fail with a message, and return the message in one line."""
    done = run(*arguments)
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    assert "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)
    assert not done.stdout
    return " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "news.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in generate("news", 24, 9)))
    return path


@pytest.fixture(scope="module")
def study(texts):
    """Create a study with commands alone."""
    out = texts.parent / "study"
    record = run("record", "lmri-demo", texts, "--out", out, "--corpus", "news", "--run-tokens", 500, "--json")
    assert record.exit_code == 0, record.output
    assert json.loads(record.stdout)["n_test"] == 6
    for method in ("canica", "fastica-temporal"):
        done = run("decompose", out, "--method", method, "--n-components", 3, "--threshold", "z:3", "--json")
        assert done.exit_code == 0, done.output
        assert len(json.loads(done.stdout)["networks"]) == 3
    return out


@pytest.fixture
def copy(study, tmp_path):
    return shutil.copytree(study, tmp_path / "study")


def test_a_renamed_key_of_json_output_is_printed_under_both_names():
    table = pd.DataFrame({"p": [0.1, 0.2], "p_fwe": [0.3, np.nan]})
    assert records(table) == [{"p": 0.1, "p_fwe": 0.3, "p_max": 0.3}, {"p": 0.2, "p_fwe": None, "p_max": None}]
    assert records(table[["p"]]) == [{"p": 0.1}, {"p": 0.2}]
    assert list(table) == ["p", "p_fwe"]


def test_nothing_is_computed_for_a_study_that_cannot_be_written_to(study, monkeypatch):
    monkeypatch.setattr("lmri.storage.files.os.access", lambda path, mode, **_: not mode & os.W_OK)
    for command in (("decompose", study, "--name", "other"), ("lesion", study, "--networks", "canica")):
        assert "cannot be written to (it is read-only for this account). Copy the study" in fails(*command)


def test_p_and_convergence_are_printed_exactly():
    assert [format_p(p) for p in (0.0, 0.00004, 0.00005, 0.25, float("nan"))] == [
        "< 0.0001", "< 0.0001", "0.0001", "0.2500", "–",
    ]  # fmt: skip


def test_compare_gives_the_librarys_numbers(study):
    content = json.loads(run("compare", study, "canica", "fastica-temporal", "--json").stdout)
    assert content["mean_abs_r"] == open_study(study).comparison().mean_r
    assert len(content["pairs"]) == 3


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("lesion", []),
        ("preserve", ["--baseline", "news"]),
        ("amplify", ["--gain", 1.5]),
        ("amplify", ["--offset", 1.0]),
    ],
)
def test_interventions_are_scored_on_held_out_texts(copy, command, options):
    done = run(command, copy, "--networks", "canica", "--n-controls", 2, "--json", *options)
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["name"] == f"{command}-canica"
    assert content["summary"][0]["condition"] == "intact"
    assert content["summary"][0]["task"] == "perplexity-news"
    assert content["summary"][0]["n_items"] == 6
    assert open_study(copy).scores().summary()["condition"].tolist()[-1] == "random-15%"


def test_the_same_command_again_changes_nothing(copy):
    first = run("lesion", copy, "--networks", "canica", "--n-controls", 2, "--json")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    again = run("lesion", copy, "--networks", "canica", "--n-controls", 2, "--json")
    assert again.stdout == first.stdout
    run("decompose", copy, "--method", "canica", "--n-components", 3, "--threshold", "z:3")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    message = fails("lesion", copy, "--networks", "canica", "--n-controls", 3)
    assert "n_controls: 2 stored, 3 requested" in message
    assert "--name" in message


def test_other_texts_and_classification_are_scored_from_files(copy, tmp_path):
    (tmp_path / "more.txt").write_text("\n".join(generate("code", 1, 3)[0].split("\n")))
    (tmp_path / "sorts.csv").write_text('prompt,label\n"The company said its",shares\n"He scored two",goals\n')
    done = run(
        "lesion", copy, "--networks", "canica", "--n-controls", 0, "--json",
        "--task", f"perplexity:{tmp_path / 'more.txt'}", "--task", f"classification:{tmp_path / 'sorts.csv'}",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)["summary"]
    assert {row["task"] for row in summary} == {"perplexity-more", "classification-sorts"}
    assert {row["metric"] for row in summary} == {"nats_per_token", "accuracy"}


def test_thresholds_are_made_again_from_the_stored_maps(copy):
    done = run("threshold", copy, "canica", "--by", "top:0.01", "--name", "canica-top", "--json")
    assert [row["n_neurons"] for row in json.loads(done.stdout)["networks"]] == [8, 8, 8]  # 1 % of 6 × 128


def test_report_info_and_validate(copy):
    assert run("report", copy).stdout.strip() == f"Report: {copy / 'report.html'}"
    assert "canica" in run("info", copy).stdout
    done = run("validate", copy, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["problems"] == []
    next((copy / "sub-lmridemo" / "func").glob("*_bold.nii")).unlink()
    broken = run("validate", copy)
    assert broken.exit_code == 1
    assert "is missing" in broken.stdout
    assert "is missing" in run("validate", copy, "--quiet").stderr


def test_a_report_overwrites_no_file_but_a_report(copy, tmp_path):
    path = tmp_path / "thesis.html"
    path.write_text("mine")
    assert "is not a report. Nothing was overwritten" in fails("report", copy, "--out", path)
    assert path.read_text() == "mine"
    assert run("report", copy).exit_code == run("report", copy).exit_code == 0


def test_a_child_of_the_model_is_scored_under_its_own_weights(copy, tmp_path):
    model, tokenizer = lmri.load_model("lmri-demo")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
    model.save_pretrained(tmp_path / "child")
    tokenizer.save_pretrained(tmp_path / "child")
    lesion = ("lesion", copy, "--networks", "canica", "--n-controls", 1)
    assert run(*lesion, "--json").exit_code == 0
    # The same name with other weights must not give back the parent's scores.
    assert "model: " in fails(*lesion, "--model", tmp_path / "child")
    done = run(*lesion, "--model", tmp_path / "child", "--name", "child")
    assert done.exit_code == 0
    assert "other weights" in done.stderr
    study = open_study(copy)
    assert study.scores("child").model.id == "child"
    assert study.scores("child").model.fingerprint != study.model.fingerprint
    assert "differ from the recorded model" in study.report().read_text()


def test_names_of_files_are_names_and_no_markup(study, tmp_path):
    odd = shutil.copytree(study, tmp_path / "q[red]z")
    (tmp_path / "a$b^$c.txt").write_text("\n".join(generate("code", 1, 3)[0].split("\n")))
    done = run(
        "lesion", odd, "--networks", "canica", "--n-controls", 1, "--task", f"perplexity:{tmp_path / 'a$b^$c.txt'}"
    )
    assert done.exit_code == 0, done.output
    assert "q[red]z" in run("report", odd).stdout


def test_a_changed_label_is_another_task(copy, tmp_path):
    path = tmp_path / "sorts.csv"
    path.write_text('prompt,label\n"The company said its",shares\n"He scored two",goals\n')
    lesion = ("lesion", copy, "--networks", "canica", "--n-controls", 0, "--task", f"classification:{path}")
    first = run(*lesion, "--json")
    assert first.exit_code == 0, first.output
    assert {row["label"] for row in json.loads(first.stdout)["labels"]} == {"shares", "goals"}
    path.write_text('prompt,label\n"The company said its",goals\n"He scored two",shares\n')
    assert "tasks: " in fails(*lesion)


def test_quiet_prints_nothing(copy):
    done = run("report", copy, "--quiet")
    assert done.output == ""
    assert done.exit_code == 0


def test_tables_are_not_cut_where_there_is_no_terminal(study):
    lines = run("info", study).stdout.splitlines()
    assert any("fastica-temporal" in line and "mlp_out" in line for line in lines)
    assert "…" not in run("compare", study, "canica", "fastica-temporal").stdout


# -- bad input --------------------------------------------------------------------------------------------------------


def test_bad_recordings_end_in_a_message(texts, tmp_path, study):
    out = tmp_path / "out"
    assert "absent.jsonl does not exist" in fails("record", "lmri-demo", "absent.jsonl", "--out", out)
    assert "no column 'body'; it has 'text'" in fails(
        "record", "lmri-demo", texts, "--out", out, "--text-column", "body"
    )
    assert "no/such-model" in fails("record", "no/such-model", texts, "--out", out)
    assert "'attn'; choose from 'mlp_out', 'mlp_hidden'" in fails(
        "record", "lmri-demo", texts, "--out", out, "--site", "attn"
    )
    assert "Try 'mynews'" in fails("record", "lmri-demo", texts, "--out", out, "--corpus", "my news")
    assert "dtype is 'int3'" in fails("record", "lmri-demo", texts, "--out", out, "--dtype", "int3")
    assert not out.exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("mine")
    assert "Nothing was written" in fails("record", "lmri-demo", texts, "--out", tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.doc"]
    assert "with run_tokens = 500, not 1024" in fails("record", "lmri-demo", texts, "--out", study, "--corpus", "news")


def test_bad_decompositions_end_in_a_message(study, tmp_path):
    assert "is not a study" in fails("decompose", tmp_path)
    assert "'pca'; choose from 'ica'," in fails("decompose", study, "--method", "pca")
    assert "which allows at most" in fails("decompose", study, "--n-components", 5000, "--name", "x")
    assert "Choose from: news (mlp_out)" in fails("decompose", study, "--corpus", "poems", "--name", "x")
    assert "n_components: 3 stored, 4 requested" in fails("decompose", study, "--method", "canica", "--n-components", 4)
    assert "choose from fdr, fdr_set, z" in fails("decompose", study, "--threshold", "p:0.05")
    assert "'z:high' has the value 'high'" in fails("decompose", study, "--threshold", "z:high")
    assert "--alpha is not an option of ica" in fails("decompose", study, "--alpha", 3)


def test_bad_interventions_end_in_a_message(study, texts, tmp_path):
    lesion = ("lesion", study, "--networks", "canica")
    assert "Choose from: canica (mlp_out)" in fails("lesion", study, "--networks", "pca")
    assert "choose from perplexity" in fails(*lesion, "--task", "mmlu")
    assert "absent.txt does not exist" in fails(*lesion, "--task", "perplexity:absent.txt")
    assert "were recorded for fitting" in fails(*lesion, "--task", f"perplexity:{texts}")
    assert "pass its location with --model" in fails(*lesion, "--model", tmp_path / "nowhere")
    assert "--n-controls is -1" in fails(*lesion, "--n-controls", -1)
    assert "Choose from: news (mlp_out)" in fails(*lesion, "--baseline", "poems")
    assert "exactly one of --gain" in fails("amplify", study, "--networks", "canica")


def test_wrong_usage_is_exit_code_2():
    assert run("record").exit_code == 2
    assert run("nonsense").exit_code == 2


@pytest.mark.parametrize("text", ["z", "z:2.5", "support", "fdr_gaussian:0.1"])
def test_thresholds_are_read(text):
    method, values = parse_threshold(text)
    assert method == text.split(":")[0]
    assert list(values.values()) == [float(value) for value in text.split(":")[1:]]


def test_support_takes_no_value():
    with pytest.raises(ValueError, match="takes no value"):
        parse_threshold("support:3")


def test_every_command_explains_its_options():
    for command in ("demo", "record", "order", "decompose", "threshold", "compare", "describe", "label",
                    "connectivity", "dual-regression", "lesion", "preserve", "amplify", "report", "info", "validate",
                    "phantom"):  # fmt: skip
        done = run(command, "--help")
        assert done.exit_code == 0
        assert "Usage" in done.output
