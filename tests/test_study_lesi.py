"""Commands on lesions are methods of a study, with the same options, and everything they name comes from registries."""

import inspect
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import lmri
from lmri.cli.app import app
from lmri.exceptions import EntryExistsError
from lmri.lesions.baselines import BASELINES, Baseline
from lmri.lesions.controls import CONTROLS, ControlOptions, MatchedControls
from lmri.lesions.controls.registry import family_words
from lmri.lesions.plans import plan_networks
from lmri.lesions.requests import Request
from lmri.lesions.tasks import TASKS, TaskOptions
from lmri.models.study_model import ModelSource
from lmri.report.methods import _controls
from walking import two_of

pytestmark = pytest.mark.filterwarnings("ignore")

COMMANDS = ("lesion", "preserve", "amplify", "robustness", "dissociate", "templates")
PRINTING = {"study", "subject", "session", "wait", "quiet", "json", "out", "dry_run"}
LISTS = ("vary", "thresholds", "seeds", "methods")
"""Options of robustness that the command line writes with commas."""


@pytest.fixture(scope="module")
def demo():
    return lmri.load_model("lmri-demo")


@pytest.fixture
def study(walked, tmp_path):
    """A study that the test may change, with two networks that are cheap to lesion."""
    opened = lmri.open_study(shutil.copytree(walked.root, tmp_path / "study"))
    opened.save_networks(two_of(opened.networks("canica")), "canica", "pair")
    return opened


def same(first, second):
    """Compare two outcomes by everything that they hold."""
    return first.digest == second.digest


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_method_have_the_same_options(name):
    command = typer.main.get_command(app).commands[name]
    options = {one.name: one for one in command.params if one.name not in PRINTING}
    method = inspect.signature(getattr(lmri.Study, name)).parameters
    own = {one: parameter for one, parameter in method.items() if one not in ("self", "progress")}
    assert set(options) == set(own)
    for one, parameter in own.items():
        if options[one].required:
            assert parameter.default is inspect.Parameter.empty
        elif one in LISTS:
            assert options[one].default == ",".join(map(str, parameter.default))
        else:
            assert options[one].default == parameter.default
        assert (
            f"{one} :" in getattr(lmri.Study, name).__doc__
            or f"{one}, " in getattr(lmri.Study, name).__doc__
            or (f", {one} :" in getattr(lmri.Study, name).__doc__)
        )


def test_a_lesion_is_stored_and_returned(study, demo):
    calls = []
    scores = study.lesion("pair", n_controls=2, model=demo, progress=lambda done, total: calls.append((done, total)))
    stored = study.scores("lesion-pair")
    pd.testing.assert_frame_equal(scores.summary(), stored.summary())
    assert study.experiment("lesion-pair").experiment == "lesion"
    assert calls[-1][0] == calls[-1][1]
    calls.clear()
    again = study.lesion("pair", n_controls=2, model="lmri-demo", progress=lambda *one: calls.append(one))
    pd.testing.assert_frame_equal(again.items, scores.items)
    assert not calls  # from what is stored
    words = ["lesion", str(study.root), "--networks", "pair", "--n-controls", "2", "--json"]
    printed = CliRunner().invoke(app, words)
    assert printed.exit_code == 0, printed.output
    assert [row["value"] for row in json.loads(printed.stdout)["summary"]] == scores.summary()["value"].tolist()
    with pytest.raises(EntryExistsError):
        study.lesion("pair", n_controls=1, model=demo)


def test_sizes_are_compared_and_one_set_is_scored(study, demo):
    scores = study.preserve("pair", n_controls=1, model=demo)
    pd.testing.assert_frame_equal(scores.summary(), study.scores("preserve-pair").summary())
    outcome = study.preserve(share=[0.1, 0.5], decomposition="canica", n_controls=1, model=demo, name="sizes")
    assert same(outcome, study.experiment("sizes"))
    assert outcome.experiment == study.entries.find("experiments", "sizes").parameters["experiment"]
    assert study.scores("sizes").summary()["condition"].nunique() == 4


def test_doses_are_compared_and_one_dose_is_scored(study, demo):
    scores = study.amplify("pair", gain=[1.5], n_controls=1, model=demo)
    pd.testing.assert_frame_equal(scores.summary(), study.scores("amplify-pair").summary())
    outcome = study.amplify("pair", gain=[1.5, 2], n_controls=1, split=["test"], model=demo)
    assert same(outcome, study.experiment("amplify-pair-doses"))


def test_robustness_dissociation_and_templates_are_stored_and_returned(study, demo):
    found = study.robustness(
        "pair", "0", vary=["threshold"], thresholds=["z:2.5"], n_controls=19, model=demo, name="robust"
    )
    assert same(found, study.experiment("robust"))
    study.lesion("pair", n_controls=19, model=demo, name="many")
    assert same(study.dissociate("many"), study.experiment("dissociate-many"))
    found = study.templates(n_components=3, n_group=3, n_individual=2)
    assert same(found, study.experiment("templates-code-news"))


def test_the_paper_s_choices_are_made_and_labelled(study, demo):
    scores = study.lesion(paper=True, model=demo)
    assert not (scores.conditions["kind"] == "control").any()
    assert study.experiment("lesion-paper-parity").title.casefold().startswith("paper parity")


def test_contradictions_are_refused_before_a_model_is_loaded(study):
    for options, words in (
        ({}, "nothing to lesion"),
        ({"roi": ["x.nii"], "networks": "pair"}, "--roi cannot be combined with"),
        ({"paper": True, "baseline": "news"}, "--paper sets"),
        ({"networks": "pair", "n_controls": -1}, "--n-controls is -1"),
        ({"networks": "pair", "controls": ["layer", "layer"]}, "each at most once"),
        ({"networks": "pair", "stop_after": -1}, "--stop-after is -1"),
        ({"networks": "pair", "n_seeds": 2}, "--n-seeds is 2"),
        ({"networks": "pair", "baseline": "a:b"}, "choose from zero, CORPUS, resample:CORPUS and"),
        ({"networks": "pair", "task": ["nonsense"]}, "There is no task 'nonsense'"),
    ):
        with pytest.raises(ValueError, match=words):
            study.lesion(**options, model="nowhere")
    with pytest.raises(ValueError, match="Give exactly one of --gain"):
        study.amplify("pair", model="nowhere")
    with pytest.raises(ValueError, match="with a single dose there is no dose to choose"):
        study.amplify("pair", gain=[2], split=["select", "test"], model="nowhere")
    with pytest.raises(ValueError, match="nothing to preserve"):
        study.preserve(model="nowhere")


def test_the_cost_of_a_plan_is_a_table_and_stores_nothing(study, demo):
    before = sorted(study.root.rglob("*"))
    request = Request("lesion", {"baseline": "zero"}, "pair", controls=ControlOptions(n=3))
    cost = plan_networks(study, request).cost(ModelSource(demo))
    assert cost["task"].tolist() == ["perplexity-code", "perplexity-news"]
    assert (cost["n_evaluations"] == 1 + 3 * (1 + 3) + 1).all()  # intact; two networks and their union; random neurons
    assert sorted(study.root.rglob("*")) == before


# -- registries -------------------------------------------------------------------------------------------------------


def test_a_new_family_of_controls_is_known_everywhere(study, demo, monkeypatch):
    class Dummy(MatchedControls):
        family = "layer+size+dummy"

    dummy = replace(
        CONTROLS["layer"], name="dummy", family=Dummy.family, help="nothing else", words="nothing in common",
        make=lambda _, n: Dummy(n),
    )  # fmt: skip
    monkeypatch.setitem(CONTROLS, "dummy", dummy)
    with pytest.raises(ValueError, match="choose from layer, energy, index, shared, dummy, each at most once"):
        ControlOptions("nonsense")
    scores = study.lesion("pair", controls="dummy", n_controls=1, model=demo, name="dummy")
    assert set(scores.conditions["control_family"]) == {"", "layer+size+dummy"}
    assert "nothing in common" in study.experiment("dummy").text
    assert _controls({"controls": ["layer", "dummy"]}).endswith("in every layer as the network; or nothing in common.")
    assert family_words("layer+size+dummy") == "nothing in common"


def test_a_new_baseline_is_known_everywhere(study, demo, monkeypatch):
    dummy = replace(
        BASELINES["mean"], name="dummy", keyword="dummy", accepted=("dummy:CORPUS",), form="dummy:CORPUS",
        help="nothing else", label=lambda corpus, _: f"dummy of {corpus}",
    )  # fmt: skip
    monkeypatch.setitem(BASELINES, "dummy", dummy)
    with pytest.raises(ValueError, match="resample:CORPUS:SEED and dummy:CORPUS"):
        Baseline.parse("a:b")
    assert Baseline.parse("dummy:news").label == "dummy of news"
    by_name, by_dummy = (
        study.lesion("pair", baseline=one, controls="energy", n_controls=1, model=demo, name=name)
        for name, one in (("mean", "news"), ("dummy", "dummy:news"))
    )
    intact = by_name.items["condition"] != "intact"
    assert np.array_equal(by_name.items[intact]["value"], by_dummy.items[intact]["value"])
    entry = study.entries.find("experiments", "dummy")
    assert entry.parameters["baseline"] == "dummy:news"
    assert "dummy:news" in study.report().read_text(encoding="utf-8")


def test_a_new_task_is_known_everywhere(study, demo, monkeypatch, tmp_path):
    recipe = replace(TASKS["sst2"].recipe, name="dummy")
    monkeypatch.setitem(TASKS, "dummy", replace(TASKS["sst2"], recipe=recipe, help="nothing"))
    file = tmp_path / "own.jsonl"
    rows = [{"sentence": f"It is {'good' if n % 2 else 'bad'}, {n}.", "label": n % 2} for n in range(6)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(ValueError, match="squad, summarization, dummy, or a YAML file"):
        TaskOptions(["nonsense"]).build(study)
    with pytest.raises(ValueError, match="summarization, dummy, perplexity, and YAML files"):
        lmri.tasks.load("nonsense")
    study.lesion("pair", task=[f"dummy:{file}"], n_controls=0, model=demo, name="dummy")
    assert study.scores("dummy").tasks[0].name == "dummy"
    assert study.entries.find("scores", "dummy").parameters["tasks"] == ["dummy:own.jsonl"]
    assert "dummy (accuracy" in study.report().read_text(encoding="utf-8")


def test_help_is_made_of_the_registries():
    code = """
from dataclasses import replace
from lmri.lesions.baselines import BASELINES
from lmri.lesions.controls import CONTROLS
from lmri.lesions.tasks import TASKS
CONTROLS["d1"] = replace(CONTROLS["layer"], name="d1", help="my family")
BASELINES["d2"] = replace(BASELINES["mean"], name="d2", keyword="d2", form="d2:CORPUS", help="my baseline")
TASKS["d3"] = replace(TASKS["sst2"], recipe=replace(TASKS["sst2"].recipe, name="d3"))
from lmri.cli.app import app
app(["lesion", "--help"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"COLUMNS": "400", **_paths()}
    )
    shown = " ".join(done.stdout.replace("│", " ").split())
    for words in ("which is faster d1: my family", "d2:CORPUS: my baseline", "summarization, d3 "):
        assert words in shown, done.stdout + done.stderr


def _paths():
    import os

    return {name: value for name, value in os.environ.items() if name != "COLUMNS"}


@pytest.mark.parametrize("registry", [CONTROLS, BASELINES, TASKS])
def test_names_in_a_registry_are_those_of_its_items(registry):
    assert [item.name for item in registry.values()] == list(registry)


def test_every_family_of_controls_calls_itself_as_its_description_does(recorded, demo):
    from lmri.lesions.requests import lesioned_by

    space = recorded.space("mlp_out")
    network = lmri.Network.from_members(space, np.arange(space.n_neurons) < 3, "first")
    lesioned = lesioned_by(recorded, Baseline(), "mlp_out", None, None, lambda: [network])
    for family in CONTROLS.values():
        assert family.make(lesioned, 2).family == family.family


def test_a_request_says_what_is_stored():
    request = Request("lesion", {"baseline": "zero"}, "x", TaskOptions(["sst2:/somewhere/dev.jsonl"]))
    assert request.parameters() == {
        "intervention": "lesion", "baseline": "zero", "n_controls": 20, "controls": "layer",
        "tasks": ["sst2:dev.jsonl"],
    }  # fmt: skip
