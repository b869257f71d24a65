"""Subjects and sessions: labels, tables, and the choice of a model; a study with one model needs no choice."""

import json
import warnings
from pathlib import Path

import pytest

from lmri import open_study, record, storage
from lmri.exceptions import AmbiguousChoiceError, DataWarning, EntryExistsError, StudyError
from lmri.models import describe_model
from lmri.report.validation import validate
from lmri.space import ModelInfo
from lmri.storage import Layout
from lmri.storage.adding import ModelLabels, adding
from lmri.storage.identifiers import make_scope, split_scope
from lmri.storage.layout import run_suffix
from lmri.storage.subjects import assign_scope, choose_member, choose_scope, models, write_model
from tiny_models import build, sentences, word_tokenizer

ALPHA = ModelInfo("lab/Alpha-1.5", "abc", "a" * 16, "gpt2", "float32")
BETA = ModelInfo("beta", None, "b" * 16, "llama", "float32")


def add(root, model, subject=None, session=None):
    """Add a model without recordings, which is kept: the scope contains a file."""
    with adding(root, model, ModelLabels(subject, session)) as store:
        (store.layout.folder / "kept").touch()
    return store.scope


def read_rows(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("scope", ["sub-a", "sub-A1_ses-b2"])
def test_scopes_and_labels_are_inverse(scope):
    assert make_scope(*split_scope(scope)) == scope


def test_the_group_has_no_subject():
    assert make_scope("group") == "group"
    assert split_scope("group") == ("", None)


def test_suffixes_of_a_run_begin_with_the_model_in_the_group():
    layout = Layout(Path("s"), "group")
    suffix = run_suffix("sub-a_ses-b/news@mlp_out", 2, "mixing.tsv")
    name = layout.in_entry(layout.root, "mlp_out", "g", suffix).name
    assert name == "sub-a_ses-b_task-news_run-002_space-mlpout_desc-g_mixing.tsv"
    assert layout.in_entry(layout.root, "mlp_out", "g", "metrics.tsv").name == "space-mlpout_desc-g_metrics.tsv"
    one = layout.at("sub-a").in_entry(layout.root, "mlp_out", "g", run_suffix("news", 2, "mixing.tsv"))
    assert one.name == "sub-a_space-mlpout_desc-g_task-news_run-002_mixing.tsv"


def test_a_layout_without_a_scope_has_no_paths_of_a_model(tmp_path):
    with pytest.raises(ValueError, match="has no scope"):
        _ = Layout(tmp_path).model


def test_the_label_is_the_last_part_of_the_id(tmp_path):
    assert add(tmp_path / "s", ALPHA) == "sub-Alpha15"
    assert open_study(tmp_path / "s").model == ALPHA


def test_with_one_model_no_choice_is_needed_and_with_several_the_choices_are_listed(tmp_path):
    root = tmp_path / "s"
    add(root, ALPHA)
    assert open_study(root).scope == "sub-Alpha15"
    add(root, BETA)
    with pytest.raises(
        AmbiguousChoiceError, match=r"contains several models, and none was chosen.*--subject Alpha15; --subject beta"
    ):
        open_study(root)
    assert open_study(root, "beta").model == BETA
    assert open_study(root, "sub-beta").model == BETA
    with pytest.raises(AmbiguousChoiceError, match=r"no model with subject='gamma'.*--subject Alpha15; --subject beta"):
        open_study(root, "gamma")
    with pytest.raises(AmbiguousChoiceError, match="contains no model with"):
        open_study(root, "beta", "late")
    assert open_study(root, "group").scope == "group"
    with pytest.raises(AmbiguousChoiceError, match="no sessions"):
        open_study(root, "group", "late")
    with pytest.raises(StudyError, match="no model of its own"):
        _ = open_study(root, "group").model


def test_the_same_weights_are_one_subject_whatever_their_name(tmp_path):
    root = tmp_path / "s"
    add(root, ALPHA)
    renamed = ModelInfo("moved/elsewhere", None, ALPHA.fingerprint, "gpt2", "float32")
    assert assign_scope(Layout(root), renamed) == "sub-Alpha15"
    assert assign_scope(Layout(root), renamed, subject="twin") == "sub-twin"
    with pytest.warns(DataWarning, match="sub-twin has the same weights and precision as sub-Alpha15"):
        add(root, renamed, subject="twin")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        add(root, renamed, subject="twin")  # it is recorded already
        add(root, BETA)


@pytest.mark.parametrize(
    "other",
    [
        ModelInfo("lab/Alpha-1.5", "abc", "c" * 16, "gpt2", "float32"),
        ModelInfo("lab/Alpha-1.5", "abc", "a" * 16, "gpt2", "bfloat16"),
        ModelInfo("else/alpha15", None, "c" * 16, "gpt2", "float32"),
    ],
    ids=["other weights", "other precision", "other case"],
)
def test_a_label_of_another_model_is_refused(tmp_path, other):
    root = tmp_path / "s"
    add(root, ALPHA)
    before = sorted(path.name for path in root.rglob("*"))
    with pytest.raises(StudyError, match=r"--subject.*--session"):
        add(root, other)
    assert sorted(path.name for path in root.rglob("*")) == before
    assert add(root, other, subject="other") == "sub-other"


@pytest.mark.parametrize("label", ["group", "Group", "a-b", "", "ä", "a b"])
def test_invalid_labels_are_refused(tmp_path, label):
    with pytest.raises(ValueError, match=r"--subject: letters and digits only|reserved"):
        assign_scope(Layout(tmp_path), ALPHA, subject=label)
    if label.casefold() != "group":
        with pytest.raises(ValueError, match="--session"):
            assign_scope(Layout(tmp_path), ALPHA, session=label)


def test_a_chosen_label_that_differs_in_case_is_refused(tmp_path):
    add(tmp_path / "s", ALPHA)
    with pytest.raises(EntryExistsError, match="only in case"):
        assign_scope(Layout(tmp_path / "s"), BETA, subject="alpha15")


def test_a_model_whose_label_would_be_group_needs_a_label(tmp_path):
    model = ModelInfo("my/group", None, "d" * 16, "gpt2", "float32")
    with pytest.raises(ValueError, match="reserved"):
        add(tmp_path / "s", model)
    assert not (tmp_path / "s").exists()


def test_a_subject_either_has_sessions_or_has_none(tmp_path):
    root = tmp_path / "s"
    early = ModelInfo("alpha", "1", "1" * 16, "gpt2", "float32")
    late = ModelInfo("alpha", "2", "2" * 16, "gpt2", "float32")
    assert add(root, early, session="early") == "sub-alpha_ses-early"
    with pytest.raises(StudyError, match=r"has the sessions early.*choose one"):
        add(root, late)
    with pytest.raises(StudyError, match="sub-alpha_ses-early"):
        add(root, late, session="early")
    assert add(root, late, session="late") == "sub-alpha_ses-late"
    with pytest.raises(AmbiguousChoiceError, match=r"--subject alpha --session early; --subject alpha --session late"):
        open_study(root)
    assert open_study(root, session="late").model == late
    assert open_study(root, "sub-alpha_ses-late").model == late
    assert choose_scope(Layout(root), "alpha", "ses-early") == "sub-alpha_ses-early"
    assert choose_scope(Layout(root), "alpha_ses-early") == "sub-alpha_ses-early"
    for name in ("sub-alpha_ses-late", "alpha_ses-late", " alpha_ses-late "):
        assert choose_member(Layout(root), name) == "sub-alpha_ses-late"
    for name in ("alpha", "sub-alpha"):  # the option --session cannot choose one of several models
        with pytest.raises(AmbiguousChoiceError, match=r"several sessions.*: sub-alpha_ses-early, sub-alpha_ses-late"):
            choose_member(Layout(root), name)
    add(root, BETA)
    with pytest.raises(StudyError, match="has no sessions"):
        add(root, BETA, session="x")
    assert choose_member(Layout(root), "beta") == "sub-beta"
    with pytest.raises(AmbiguousChoiceError, match=r"'beta_ses-x'.*: sub-alpha_ses-early, sub-alpha_ses-late, beta\."):
        choose_member(Layout(root), "beta_ses-x")


def test_tables_are_generated_and_columns_of_users_are_kept(tmp_path):
    root = tmp_path / "s"
    add(root, ALPHA, session="one")
    add(root, BETA)
    layout = Layout(root)
    assert read_rows(layout.participants) == [
        ["participant_id", "id", "revision", "fingerprint", "model_type", "dtype"],
        ["sub-Alpha15", ALPHA.id, "abc", ALPHA.fingerprint, "gpt2", "float32"],
        ["sub-beta", "beta", "n/a", BETA.fingerprint, "llama", "float32"],
    ]
    header, *rows = read_rows(layout.participants)
    notes = {"sub-Alpha15": ["big", 'say "x"\\'], "sub-beta": ["small", "n/a"]}
    lines = [[*header, "size", "note"], *(row + notes[row[0]] for row in rows)]
    layout.participants.write_text("\n".join(map("\t".join, lines)) + "\n", encoding="utf-8")
    about = storage.sidecar(layout.participants)
    about.write_text(json.dumps(json.loads(about.read_text()) | {"size": {"Description": "mine"}}))
    sessions = layout.sessions("Alpha15")
    header, row = read_rows(sessions)
    sessions.write_text("\t".join([*header, "steps"]) + "\n" + "\t".join([*row, "1000"]) + "\n")
    other = ModelInfo("lab/Alpha-1.5", "def", "e" * 16, "gpt2", "float32")
    add(root, other, session="two")
    assert [row[-2:] for row in read_rows(layout.participants)] == [["size", "note"], *notes.values()]
    assert json.loads(about.read_text())["size"] == {"Description": "mine"}
    assert [(row[0], row[-1]) for row in read_rows(sessions)] == [
        ("session_id", "steps"), ("ses-one", "1000"), ("ses-two", "n/a"),
    ]  # fmt: skip
    # The states of one model share its id, and not its weights.
    shared = dict(zip(*read_rows(layout.participants)[:2], strict=True))
    assert (shared["id"], shared["fingerprint"], shared["revision"]) == (ALPHA.id, "n/a", "n/a")
    table = open_study(root, "beta").subjects
    assert table["scope"].tolist() == ["sub-Alpha15_ses-one", "sub-Alpha15_ses-two", "sub-beta"]
    assert table["size"].tolist() == ["big", "big", "small"]
    assert table["fingerprint"].tolist() == [ALPHA.fingerprint, other.fingerprint, BETA.fingerprint]


def test_a_row_of_a_subject_of_the_user_is_kept_and_one_of_a_failed_recording_is_not(tmp_path):
    root = tmp_path / "s"
    add(root, ALPHA)
    layout = Layout(root)
    with layout.participants.open("a") as stream:
        stream.write("sub-mine\thuman\tn/a\tn/a\tn/a\tn/a\nsub-gone\tx\tn/a\tn/a\tn/a\tn/a\n")
    (root / "sub-mine").mkdir()
    add(root, BETA)
    assert [row[0] for row in read_rows(layout.participants)] == [
        "participant_id", "sub-Alpha15", "sub-beta", "sub-mine",
    ]  # fmt: skip


def test_a_damaged_table_of_participants_stops_the_command_and_is_not_overwritten(tmp_path):
    root = tmp_path / "s"
    add(root, ALPHA)
    path = Layout(root).participants
    for content in (b"participant_id\tid\nsub-Alpha15\n", b"\xff\xfe\x00bad", b"a\ta\n1\t2\n"):
        path.write_bytes(content)
        with pytest.raises(StudyError, match=r"participants\.tsv"):
            add(root, BETA)
        assert path.read_bytes() == content
    assert models(Layout(root)).keys() == {"sub-Alpha15"}


def test_the_description_names_all_models_and_keeps_the_words_of_the_user(tmp_path):
    root = tmp_path / "s"
    add(root, ALPHA)
    path = Layout(root).description
    assert json.loads(path.read_text())["Name"] == f"Activations of {ALPHA.id}"
    add(root, BETA)
    content = json.loads(path.read_text())
    assert content["Name"] == f"Activations of {ALPHA.id} and beta"
    assert [source["URL"] for source in content["SourceDatasets"]] == ["bids::sub-Alpha15", "bids::sub-beta"]
    content["Name"], content["Authors"] = "My study", ["Me"]
    content["SourceDatasets"].append({"URL": "https://example.org"})
    path.write_text(json.dumps(content))
    add(root, ModelInfo("gamma", None, "f" * 16, "gpt2", "float32"))
    after = json.loads(path.read_text())
    assert (after["Name"], after["Authors"]) == ("My study", ["Me"])
    assert "https://example.org" in [source["URL"] for source in after["SourceDatasets"]]


class StoppedError(Exception):
    """Error that a test raises in place of Ctrl-C."""


def test_a_second_model_that_fails_leaves_the_study_as_it_was(tmp_path):
    root = tmp_path / "s"
    add(root, ALPHA)

    def state():
        return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != storage.LOCK}

    before = state()
    with pytest.raises(StoppedError), adding(root, BETA):
        raise StoppedError
    assert state() == before
    with pytest.raises(StoppedError), adding(root, BETA, ModelLabels("beta", "late")):
        raise StoppedError
    assert state() == before


def test_a_killed_command_leaves_no_subject_before_its_description_is_written(tmp_path, monkeypatch):
    root = tmp_path / "s"
    add(root, ALPHA)
    layout = Layout(root, "sub-beta")

    def killed(path, content):
        if path.name == "model.json":
            raise StoppedError
        storage.write_text(path, json.dumps(content))

    monkeypatch.setattr("lmri.storage.subjects.write_json", killed)
    with pytest.raises(StoppedError):
        write_model(layout, BETA)
    monkeypatch.undo()
    assert Layout(root).scopes() == ["sub-Alpha15"]
    assert "sub-beta" in layout.participants.read_text()  # a row without a subject, which the next command removes
    add(root, ModelInfo("gamma", None, "f" * 16, "gpt2", "float32"))
    assert "sub-beta" not in layout.participants.read_text()


def test_sessions_of_a_real_recording_have_their_own_folders(tmp_path):
    root, texts, tokenizer = tmp_path / "s", sentences(12), word_tokenizer()
    for number, label in enumerate(["early", "late"]):
        recording = record(
            build("gpt2", seed=number), tokenizer, texts, root, corpus="news", subject="tiny", session=label
        )
        assert recording.scope == f"sub-tiny_ses-{label}"
        assert recording.runs[0].img.parent == root / "sub-tiny" / f"ses-{label}" / "func"
        assert recording.runs[0].img.name.startswith(f"sub-tiny_ses-{label}_task-news_run-001")
    assert validate(*(open_study(root, "tiny", label) for label in ("early", "late"))).problems == []
    logged = [line["scope"] for line in storage.read_log(Layout(root)) if line["event"] == "record"]
    assert logged == ["sub-tiny_ses-early", "sub-tiny_ses-late"]
    assert open_study(root, "tiny", "late").model == describe_model(build("gpt2", seed=1))
