"""Outcomes of experiments are stored completely, read back unchanged, and refused if their inputs are missing."""

import io
import shutil
import xml.etree.ElementTree as ET
from functools import cache

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from lmri import storage
from lmri.cli.app import app
from lmri.decomposition.parity import PARITY
from lmri.exceptions import AmbiguousChoiceError, EntryExistsError, StudyError
from lmri.lesions.experiments.dissociation import dissociate, dissociation_outcome
from lmri.lesions.experiments.effects import draw_dissociations
from lmri.lesions.scores import Scores
from lmri.lesions.scores.codec import scores_inputs
from lmri.report.validation import validate
from lmri.space.drawing import STYLE, drawing
from lmri.storage.outcome import Outcome, to_markdown
from lmri.study import open_study
from test_dissociation import make_scores
from walking import NASTY

SITE = "mlp_hidden"


@cache
def draw(label="a"):
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3, 2), layout="constrained")
        figure.subplots().plot([0, 1], label=label)
        figure.axes[0].set_title(label)
    return drawing(figure, f"The line {label}.")


def make(text="Nothing was found.", value=0.1 + 0.2):
    main = pd.DataFrame(
        {
            "task": ["sst2", "", NASTY],
            "value": [value, np.nan, np.inf],
            "n": [1, 2, 3],
            "flag": [True, False, True],
            "gaps": [None, None, None],
            "q": pd.Series([np.nan, 0.5, None], dtype=object),
            "words": ["NA", None, "1e3"],
        }
    )
    one = pd.DataFrame({"only": ["a", "n/a"]})
    empty = pd.DataFrame({"name": pd.Series(dtype=object), "n": pd.Series(dtype=int), "x": pd.Series(dtype=float)})
    layout = pd.DataFrame({"network (neurons)": ["1 (37)", NASTY], "paper: accuracy": ["0.8538", None]})
    return Outcome(
        "preserve", "What is kept", text, {"main": main, "one": one, "empty": empty}, {"table-8": layout},
        {"main": draw(), "other": draw("<script>")},
    )  # fmt: skip


@pytest.fixture
def copy(walked, tmp_path):
    """Return a copy of the study that the test may change."""
    return open_study(shutil.copytree(walked.root, tmp_path / "study", ignore=shutil.ignore_patterns("experiments")))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_written_comes_back_and_is_written_again_byte_for_byte(tmp_path):
    outcome = make()
    first = outcome.write(tmp_path / "first")
    again = Outcome.read(first.joinpath)
    second = again.write(tmp_path / "second")
    assert files(first) == files(second)
    assert set(files(first)) == {
        "outcome.json", "main.tsv", "one.tsv", "empty.tsv", "table-8.layout.tsv", "table-8.md", "main.svg", "main.png",
        "other.svg", "other.png",
    }  # fmt: skip
    assert (again.title, again.text, again.digest) == (outcome.title, outcome.text, outcome.digest)
    assert list(again.tables) == ["main", "one", "empty"]
    for stem, table in outcome.tables.items():
        pd.testing.assert_frame_equal(again.tables[stem], table)
    pd.testing.assert_frame_equal(again.layouts["table-8"], outcome.layouts["table-8"])
    assert again.figures == outcome.figures
    main = again.tables["main"]
    assert main["flag"].tolist() == [1, 0, 1]
    assert main["words"].tolist() == ["NA", "", "1e3"]  # text that looks like something else stays text
    assert main["value"][0] == 0.1 + 0.2
    assert main["gaps"].isna().all()
    assert again.tables["one"]["only"].tolist() == ["a", "n/a"]
    assert again.layouts["table-8"].iloc[1].tolist() == [NASTY, "–"]


def test_nothing_is_overwritten(tmp_path):
    make().write(tmp_path / "out")
    with pytest.raises(FileExistsError, match="Choose another --out"):
        make().write(tmp_path / "out")


def test_the_digest_is_of_words_and_numbers():
    assert make().digest == make().digest
    assert make().digest != make(text="Something was found.").digest
    assert make().digest != make(value=0.3).digest


def test_a_drawing_is_the_same_every_time_in_both_formats():
    one, other = draw("$x_1$ <script>"), draw.__wrapped__("$x_1$ <script>")
    assert one == other
    assert "$x_1$ <script>" in "".join(ET.fromstring(one.svg).itertext())
    assert b"Date" not in one.png
    assert b"Matplotlib" not in one.png
    assert matplotlib.image.imread(io.BytesIO(one.png)).shape[:2] == (400, 600)  # 200 dots an inch


def test_markdown_holds_no_markup_but_the_table():
    text = to_markdown(pd.DataFrame({"a|b": ["<b>x</b>", "two\nlines"], "n": [1.5, np.nan]}))
    assert text == "| a\\|b | n |\n| --- | ---: |\n| \\<b\\>x\\</b\\> | 1.5 |\n| two lines | – |\n"


def test_what_cannot_be_stored_is_refused():
    good = pd.DataFrame({"a": [1]})
    for stem in ("../up", "", "a.b", "-a"):
        with pytest.raises(ValueError, match="use only letters, digits"):
            Outcome("x", "x", "x", {stem: good})
    for table in (pd.DataFrame(), pd.DataFrame([[1, 2]], columns=["a", "a"]), pd.DataFrame({"a\tb": [1]})):
        with pytest.raises(ValueError, match="Rename them"):
            Outcome("x", "x", "x", {"main": table})
    with pytest.raises(ValueError, match="second column"):
        Outcome("x", "x", "x", {"main": pd.DataFrame({"a": ["", "b"]})})
    for column in ([[1], [2]], [1, "a"], [1j, 2]):
        with pytest.raises(TypeError, match=r"main\.a contains"):
            Outcome("x", "x", "x", {"main": pd.DataFrame({"a": pd.Series(column, dtype=object)})})
    with pytest.raises(TypeError, match="accepted is a pandas DataFrame"):
        Outcome("x", "x", "x", {"main": good}, {"layout": "| a |"})
    with pytest.raises(TypeError, match=r"drawing\.drawing"):
        Outcome("x", "x", "x", {"main": good}, {}, {"main": "<svg/>"})


def test_a_study_keeps_experiments_and_says_what_they_were_made_of(copy):
    outcome = make()
    inputs = {"networks": "canica", "scores": ["lesion-canica", "lesion-nothing"], "tasks": {"a": "123"}}
    entry = copy.save_experiment(outcome, "kept", SITE, inputs, {"n_components": [10, 64]})
    again = copy.experiment("kept")
    assert again.digest == outcome.digest
    assert again.figures == outcome.figures
    assert entry.inputs["networks_sha256"] == copy.entries.find("networks", "canica").digest
    assert len(entry.inputs["scores_sha256"]) == 2
    assert entry.inputs["tasks"] == {"a": "123"}
    assert entry.parameters == {"experiment": "preserve", "n_components": [10, 64]}
    assert entry.results["title"] == "What is kept"
    assert not validate(copy).problems
    row = copy.info().set_index("kind").loc["experiments"]
    assert (row["name"], row["site"]) == ("kept", SITE)
    assert "lesion-canica, lesion-nothing" in row["made of"]


def test_storing_the_same_outcome_twice_is_allowed_and_another_needs_another_name(copy):
    first = copy.save_experiment(make(), "kept", SITE, {"networks": "canica"})
    before = files(first.folder)
    copy.save_experiment(make(), "kept", SITE, {"networks": "canica"})
    with pytest.raises(EntryExistsError, match="its outcome is different"):
        copy.save_experiment(make("Otherwise."), "kept", SITE, {"networks": "canica"})
    with pytest.raises(EntryExistsError, match="with different settings"):
        copy.save_experiment(make(), "kept", SITE, {"networks": "nothing"})
    with pytest.raises(EntryExistsError, match="with different settings"):
        copy.save_experiment(make(), "kept", SITE, {"networks": "canica"}, {"seed": 1})
    assert files(first.folder) == before


def test_a_failed_write_leaves_nothing(copy, monkeypatch):
    def fail(path, text):
        raise OSError("disk full")

    monkeypatch.setattr("lmri.storage.outcome.write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        copy.save_experiment(make(), "kept", SITE, {"networks": "canica"})
    assert not copy.layout.entries("experiments")
    assert not list(copy.root.rglob(".partial-*"))


@pytest.mark.parametrize(
    ("inputs", "replaced"),
    [
        ({"networks": "canica"}, ("networks", "canica")),
        ({"decomposition": "canica"}, ("decompositions", "canica")),
        ({"scores": "lesion-canica"}, ("scores", "lesion-canica")),
        ({"scores": ["lesion-nothing", "lesion-canica"]}, ("networks", "canica")),  # one further back
        ({"scores": f"lesion-canica@{SITE}"}, ("decompositions", "canica")),  # and two
        ({"comparison": "canica--fastica-temporal"}, ("networks", "fastica-temporal")),
        ({"experiment": "base"}, ("networks", "canica")),
    ],
)
def test_an_experiment_is_refused_when_what_it_was_made_of_was_replaced(copy, inputs, replaced):
    copy.save_experiment(make(), "base", SITE, {"networks": "canica"})
    copy.save_experiment(make(), "kept", SITE, inputs)
    copy.save_experiment(
        make(), "apart", SITE, {"networks": "nothing" if replaced[1] != "canica" else "fastica-temporal"}
    )
    copy.experiment("kept")
    path = copy.entries.find(replaced[0], replaced[1], SITE).folder / "entry.json"
    content = storage.read_json(path)
    content["parameters"]["again"] = 1
    storage.write_json(path, content)
    with pytest.raises(StudyError, match=r"ha(s|ve) changed since"):
        copy.experiment("kept")
    copy.experiment("apart")  # which has nothing to do with it
    with pytest.raises(StudyError, match=r"ha(s|ve) changed since"):
        copy.report(copy.root / "other.html")


def test_a_recording_counts_as_well(copy):
    copy.save_experiment(make(), "kept", SITE, {"corpora": ["news"]})
    path = copy.layout.recording(SITE, "news")
    content = storage.read_json(path)
    content["parameters"]["n_dummy"] = 2
    storage.write_json(path, content)
    with pytest.raises(StudyError, match=r"recording 'news'.*ha(s|ve) changed since"):
        open_study(copy.root).experiment("kept")


def test_inputs_that_are_not_there_or_are_others_are_refused(copy):
    with pytest.raises(ValueError, match="pca"):
        copy.save_experiment(make(), "kept", SITE, {"networks": "pca"})
    with pytest.raises(StudyError, match="Repeat the experiment"):
        copy.save_experiment(make(), "kept", SITE, {"networks": "canica", "networks_sha256": "0" * 16})
    made = scores_inputs(copy, "canica", SITE, {"model": "abc"})
    assert copy.experiment_inputs(made, SITE) == made  # what scores say of themselves is understood


def test_a_file_that_was_changed_is_refused_and_found(copy):
    entry = copy.save_experiment(make(), "kept", SITE, {"networks": "canica"})
    path = next(path for path in entry.folder.iterdir() if path.name.endswith("main.tsv"))
    path.write_text(path.read_text().replace("sst2", "cola"))
    with pytest.raises(StudyError, match="was changed"):
        copy.experiment("kept")
    assert any("was changed" in problem for problem in validate(copy).problems)


def test_the_figure_of_dissociations_marks_the_two_lesions_of_each_pair():
    effects = pd.DataFrame(
        [
            {"network": network, "task": task, "effect": effect, "ci_low": effect - 1, "ci_high": effect + 1}
            for network, row in {"ica-00": (8.0, 0.0), "ica-01": (0.5, 6.0), "ica-02": (1.0, np.nan)}.items()
            for task, effect in zip(("news", "code"), row, strict=True)
        ]
    )
    pair = {"network_a": "ica-00", "task_1": "news", "network_b": "ica-01", "task_2": "code", "interaction": 13.5}
    marked = draw_dissociations(effects, pd.DataFrame([pair | {"dissociated": 1}]))
    left, right = marked.axes
    assert [axis.get_title(loc="left") for axis in marked.axes] == ["news", "code"]
    letters = {
        axis: [(one.get_text(), one.xy[1]) for one in axis.texts if len(one.get_text()) == 1] for axis in marked.axes
    }
    assert letters == {left: [("a", 0)], right: [("a", 1)]}
    assert "controls have no effect" in [one.get_text() for one in right.texts]
    assert drawing(marked, "x") == drawing(marked, "x")
    none = draw_dissociations(effects, pd.DataFrame([pair | {"dissociated": 0}]))
    assert not [one for axis in none.axes for one in axis.texts if len(one.get_text()) == 1]


def test_dissociations_are_told_in_words_tables_and_a_figure_for_each_family():
    found = dissociate(make_scores({"a": (6, 0), "b": (0, 6)}, n_controls=59, noise=0.3))
    outcome = dissociation_outcome(found, "matched")
    assert "1 of 1 pairs of networks and tasks show a double dissociation" in outcome.text
    assert "a matters more for loss and b for accuracy: interaction" in outcome.text
    assert "One model is one subject" in outcome.text
    assert list(outcome.tables) == ["dissociations", "effects"]
    own = outcome.tables["effects"]
    assert ((own["ci_low"] <= own["effect"]) & (own["effect"] <= own["ci_high"])).all()
    assert list(outcome.figures) == ["effects"]
    assert "layer+size" in outcome.figures["effects"].caption
    nothing = dissociation_outcome(dissociate(make_scores({}, n_controls=59)), "matched")
    assert "0 of 1 pairs" in nothing.text
    assert "matters more" not in nothing.text


@pytest.mark.filterwarnings("ignore")
def test_commands_store_what_they_find_under_a_name_that_says_what_it_is_made_of(copy, tmp_path):
    def run(*words):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    few = ["--n-group", 3, "--n-individual", 3, "--min-volumes", 20]
    said = run("templates", copy.root, *few, "--paper", "--paper-model", "gpt2", "--out", tmp_path / "out")
    assert "Stored as templates-paper-code-news" in said
    stored = copy.experiment("templates-paper-code-news")
    assert stored.title == "Paper parity: templates by corpus"
    assert Outcome.read((tmp_path / "out").joinpath).digest == stored.digest
    assert stored.figures["templates"].png[:4] == b"\x89PNG"
    assert stored.layouts["templates-of-news"]["paper: WIKI (100 texts)"][0] == "208"
    entry = copy.entries.find("experiments", "templates-paper-code-news")
    assert entry.parameters["label"] == PARITY
    assert entry.parameters["signs"] == "solver"
    scores = make_scores({"a": (6, 0), "b": (0, 6)}, n_controls=39)
    conditions = scores.conditions.assign(note="")
    copy.save_scores(Scores(scores.items, conditions, scores.tasks, 0), "planted", SITE)
    assert "Stored as dissociate-planted." in run("dissociate", copy.root, "planted")
    assert "Stored as mine." in run(
        "dissociate", copy.root, "planted", "--name", "mine", "--network", "a", "--network", "b"
    )
    assert copy.experiment("mine").digest == copy.experiment("dissociate-planted").digest
    assert copy.entries.find("experiments", "mine").parameters["networks"] == ["a", "b"]
    shutil.rmtree(copy.entries.find("scores", "planted").folder)
    with pytest.raises(AmbiguousChoiceError, match="planted"):
        copy.experiment("mine")
    assert any("planted" in problem for problem in validate(copy).problems)
