"""The viewer of a study of several models: each request is answered from the model that it names."""

import json
import shutil
import warnings

import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

import lmri
from lmri import FastICA
from lmri.cli.app import app
from lmri.exceptions import AmbiguousChoiceError, StudyError
from lmri.networks.rois import members_of, read_roi
from lmri.report.viewer import server
from test_viewer import HERE, Page
from tiny_models import build, sentences, word_tokenizer

SITE = "mlp_out"
BIG, SMALL = "sub-big", "sub-small_ses-int8"  # in alphabetical order


def recorded_in(root, subject, session=None, **sizes):
    """Record a tiny model in a study, and store networks under the names that all models share."""
    model, tokenizer = build("gpt2", **sizes), word_tokenizer()
    lmri.record(
        model, tokenizer, sentences(24), root, corpus="words", site=SITE, run_tokens=50, subject=subject,
        session=session,
    )  # fmt: skip
    study = lmri.open_study(root, subject, session)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = FastICA(study.space(), 3).fit(study.recording().imgs)
    study.save_decomposition(fitted, [study.recording()], "ica")
    for name, z in (("ica", 2.0), ("strict", 2.5)):
        study.save_networks(study.decomposition("ica").threshold("z", z=z), "ica", name)
    return study


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A study of two models of different widths and depths, with results of the same names."""
    root = tmp_path_factory.mktemp("several") / "study"
    recorded_in(root, "big", width=32, layers=3)
    recorded_in(root, "small", "int8", width=16, layers=2, seed=1)
    return {scope: lmri.open_study(root, scope) for scope in (BIG, SMALL)}


@pytest.fixture(scope="module")
def root(several):
    return several[BIG].root


@pytest.fixture(scope="module")
def page(root):
    return Page(root)


@pytest.fixture
def copy(root, tmp_path):
    """A page of a study that the test may change."""
    return Page(shutil.copytree(root, tmp_path / "study"))


def region(said, name="mine", neurons=((0, 3), (1, 0)), **changes):
    """What the page sends for a region that was drawn on a model."""
    shown = {key: said[key] for key in ("root", "scope", "fingerprint")}
    geometry = said["sites"][0]["geometry"]
    return {**shown, "geometry": geometry, "site": SITE, "name": name, "neurons": neurons, **changes}


def post(page, content, query=""):
    headers = {"Origin": HERE, "Content-Type": "application/json"}
    return page.client.post(f"/api/rois{query}", content=json.dumps(content).encode(), headers=headers)


# -- answers ----------------------------------------------------------------------------------------------------------


def test_each_model_is_answered_with_its_own_values(page, several):
    for scope, study in several.items():
        said = page.ask("study", scope=scope)
        [site] = said["sites"]
        assert (said["scope"], said["fingerprint"]) == (scope, study.model.fingerprint)
        assert (site["shape"], site["n_neurons"]) == (list(study.space().shape), study.space().n_neurons)
        assert said["problems"] == []
        recording, networks = study.recording(), study.networks("ica")
        asked = {"scope": scope, "site": SITE, "set": "ica", "network": "ica-00"}
        assert [row["max"] for row in page.ask("networks", scope=scope, site=SITE, set="ica")["networks"]] == [
            np.abs(one.strength).max() for one in networks
        ]
        values = study.space().from_img(page.img("map.nii.gz", **asked))
        np.testing.assert_array_equal(values, networks[0].z.astype(np.float32))
        mean = study.space().from_img(page.img("mean.nii.gz", scope=scope, site=SITE, corpus="words"))
        np.testing.assert_array_equal(mean, recording.mean.astype(np.float32))
        tokens = page.ask("tokens", scope=scope, site=SITE, corpus="words", run=1)["tokens"]
        assert tokens == recording.events[0]["token"].tolist()
        neuron = page.ask("neuron", scope=scope, site=SITE, corpus="words", run=1, layer=1, neuron=5)
        column = next(iter(recording.arrays()))[:, study.space().index(1, 5)]
        assert neuron["values"] == column.tolist()
        table = study.time_courses("ica")[0][2].iloc[:, 0]
        course = page.ask("course", **asked, corpus="words", run=1)["values"]
        assert np.corrcoef(course, table)[0, 1] == pytest.approx(1)
    assert several[BIG].space().shape != several[SMALL].space().shape


def test_the_menu_lists_the_models_and_not_the_group(copy):
    root = lmri.open_study(copy.ask("study")["root"], "big").root
    (root / "lmri" / "group" / "networks" / "mlpout" / "x").mkdir(parents=True)
    said = copy.ask("study")
    assert said["models"] == [{"scope": BIG, "label": "big"}, {"scope": SMALL, "label": "small · int8"}]
    assert (said["scope"], said["first"]) == (BIG, BIG)
    copy.ask("study", 404, scope="group")


@pytest.mark.parametrize("scope", ["", "sub-none", "big", "sub-big/../sub-big", "../..", "sub-big\x00", "SUB-BIG"])
def test_an_unknown_model_is_refused_with_the_names_of_the_models(page, scope):
    for name, asked in (("study", {}), ("networks", {"site": SITE, "set": "ica"}), ("rois", {})):
        error = page.ask(name, 404, scope=scope, **asked)["error"]
        assert repr(scope) in error
        assert repr(BIG) in error
        assert repr(SMALL) in error
    assert post(page, region(page.ask("study")), f"?scope={scope.replace(chr(0), '%00')}").status_code == 404


def test_a_model_that_is_chosen_is_shown_first_and_the_others_are_listed(root, several):
    page = TestClient(server.make_app(root, subject="small", session="int8"), base_url=HERE)
    said = page.get("/api/study").json()
    assert (said["scope"], said["first"], len(said["models"])) == (SMALL, SMALL, 2)
    assert page.get("/api/study", params={"scope": BIG}).json()["scope"] == BIG
    with pytest.raises(AmbiguousChoiceError, match="--subject big"):
        server.make_app(root, subject="none")
    with pytest.raises(StudyError, match="one at a time"):
        server.make_app(root, subject="group")


def test_the_command_serves_all_models_or_starts_with_the_chosen_one(root, monkeypatch):
    seen = []
    monkeypatch.setattr("lmri.report.viewer.serve", lambda study, port, ready, **others: seen.append(others))
    for chosen in ([], ["--subject", "small"]):
        answer = CliRunner().invoke(app, ["view", str(root), "--no-browser", *chosen])
        assert answer.exit_code == 0, answer.output
    assert [(one["subject"], one["session"]) for one in seen] == [("big", None), ("small", "int8")]


def test_commands_name_the_model(page, root, several):
    assert page.ask("study")["folder"] == f"{root} --subject big"
    assert page.ask("study", scope=SMALL)["folder"] == f"{root} --subject small --session int8"
    for scope, options in ((BIG, "--subject big"), (SMALL, "--subject small --session int8")):
        error = page.ask("matches", 404, scope=scope, site=SITE, first="ica", second="strict")["error"]
        assert error.endswith(f"Run: lmri compare {root} ica strict {options}")


def test_one_model_is_answered_as_before(tmp_path):
    study = recorded_in(tmp_path / "study", "only", width=16, layers=2)
    page = Page(study.root)
    said = page.ask("study")
    assert {"scope", "first", "models"}.isdisjoint(said)
    assert said["folder"] == str(study.root)
    assert page.ask("study", scope="sub-only") == said
    answer = page.post({"site": SITE, "name": "mine", "neurons": [[0, 1]]})
    assert answer.json()["command"] == f"lmri lesion {study.root} --roi {study.layout.roi(SITE, 'mine')}"


def test_a_page_of_the_only_model_stays_with_it_when_another_is_added_before_it(tmp_path):
    study = recorded_in(tmp_path / "study", "m", width=16, layers=2)
    page = Page(study.root)
    before = page.ask("study")
    recorded_in(study.root, "a", width=32, layers=3)
    after = page.ask("study")
    assert (after["scope"], after["fingerprint"]) == ("sub-m", before["fingerprint"])
    assert [one["scope"] for one in after["models"]] == ["sub-a", "sub-m"]


# -- regions of interest ----------------------------------------------------------------------------------------------


def test_a_region_is_saved_in_the_model_on_which_it_was_drawn(copy):
    for scope, options in ((BIG, "--subject big"), (SMALL, "--subject small --session int8")):
        said = copy.ask("study", scope=scope)
        answer = post(copy, region(said), f"?scope={scope}")
        assert answer.status_code == 201, answer.text
        assert answer.json()["path"] == f"lmri/{scope}/rois/mlpout/mine.nii.gz"
        study = lmri.open_study(said["root"], scope)
        path = study.layout.roi(SITE, "mine")
        assert answer.json()["command"] == f"lmri lesion {study.root} {options} --roi {path}"
        expected = members_of(study.space(), [[0, 3], [1, 0]])
        np.testing.assert_array_equal(read_roi(path, study.space()).members, expected)
        assert copy.ask("rois", scope=scope) == [{"name": "mine", "site": SITE, "n_neurons": 2}]
        assert copy.ask("roi.nii.gz", scope=scope, site=SITE, name="mine") == path.read_bytes()


@pytest.mark.parametrize("changes", [{}, {"scope": SMALL}, {"scope": None}, {"scope": 3}])
def test_a_region_of_another_model_is_refused(copy, changes):
    # Drawn on one model, sent to the other one; also if the page claims the other one, whose neurons differ.
    answer = post(copy, region(copy.ask("study", scope=BIG), **changes), f"?scope={SMALL}")
    assert answer.status_code == 409
    assert "Reload the page" in answer.json()["error"]
    root = lmri.open_study(copy.ask("study")["root"], "big").root
    assert list(root.rglob("mine.nii.gz")) == []


def test_states_of_one_model_with_equal_weights_and_neurons_are_told_apart(tmp_path):
    study = recorded_in(tmp_path / "study", "m", "a", width=16, layers=2)
    recorded_in(study.root, "m", "b", width=16, layers=2, seed=1)
    page = Page(study.root)
    first = page.ask("study", scope="sub-m_ses-a")
    second = page.ask("study", scope="sub-m_ses-b")
    # All that identifies the other state, except its name: as of two precisions with the same description.
    claimed = {**second, "scope": first["scope"]}
    answer = post(page, region(claimed), "?scope=sub-m_ses-b")
    assert answer.status_code == 409
    assert "'sub-m_ses-a'" in answer.json()["error"]
