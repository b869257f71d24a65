"""Commands on decompositions and networks are methods of a study, and their lists come from the registries."""

import importlib
import inspect
import shutil
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from lmri import Origin, open_study
from lmri.cli.app import app
from lmri.decomposition.methods import METHODS, DecompositionMethod, build
from lmri.networks import NetworkSet
from lmri.networks.thresholds import THRESHOLDS, SurrogateNull, ThresholdMethod, parse_threshold
from lmri.networks.thresholds.registry import names_in_docstring, parameters_in_docstring
from lmri.report.wording import method_words, threshold_words
from lmri.study import Study

COMMANDS = (
    "order", "decompose", "threshold", "compare", "describe", "label", "connectivity", "dual-regression", "localize",
)  # fmt: skip

PRINTING = {"study", "subject", "session", "wait", "quiet", "json", "help", "out", "figure", "overlap"}
"""Options of a command that only affect printed output, or files written for the user."""


@pytest.fixture
def copy(walked, tmp_path):
    """A study that the test may change."""
    return open_study(shutil.copytree(walked.root, tmp_path / "study"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_method_have_the_same_options(name):
    command = typer.main.get_command(app).commands[name]
    options = {one.name: one for one in command.params if one.name not in PRINTING}
    parameters = dict(inspect.signature(getattr(Study, name.replace("-", "_"))).parameters)
    del parameters["self"]
    parameters.pop("progress", None)
    parameters.pop("subjects", None)  # on the command line: --subject A,B
    assert set(parameters) == set(options)
    for key, option in options.items():
        default = parameters[key].default
        assert option.required == (default is inspect.Parameter.empty), key
        if not option.required:
            assert option.default == default, key


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_of_a_method_is_documented(name):
    method = getattr(Study, name.replace("-", "_"))
    for parameter in inspect.signature(method).parameters:
        assert parameter == "self" or f"{parameter} : " in method.__doc__ or f"{parameter}, " in method.__doc__ or (
            f", {parameter} : " in method.__doc__
        ), parameter  # fmt: skip


def same(one: NetworkSet, other: NetworkSet) -> bool:
    """Return whether two sets are equal in names, weights, members and table."""
    pd.testing.assert_frame_equal(one.table, other.table)
    return (
        one.method == other.method
        and np.array_equal(one.weights, other.weights)
        and np.array_equal(one.members, other.members)
    )


@pytest.mark.filterwarnings("ignore")
def test_methods_return_what_they_store(copy):
    made = copy.decompose("fastica-temporal", 3, corpus="code", threshold="z:2.5", name="own")
    assert same(made, copy.networks("own"))
    assert made.origin.threshold["z"] == 2.5
    assert copy.entries.find("decompositions", "own").inputs["corpora"] == ["code"]
    written = copy.entries.find("decompositions", "own").folder.stat().st_mtime_ns
    assert same(made, copy.decompose("fastica-temporal", 3, corpus=["code"], threshold="z:2.5", name="own"))
    assert copy.entries.find("decompositions", "own").folder.stat().st_mtime_ns == written  # computed once
    top = copy.threshold("own", "top:0.02", "own-top")
    assert same(top, copy.networks("own-top"))
    found = copy.compare("own", "own-top", name="both")
    pd.testing.assert_frame_equal(found.table, copy.comparison("both").table)
    several = copy.compare("own", "canica", ["fastica-temporal"])
    pd.testing.assert_frame_equal(several.table, copy.comparison("own--canica--fastica-temporal").table)
    localized = copy.localize("code - news", n_permutations=50)
    assert same(localized, copy.networks("code-news"))


def test_an_order_is_returned_and_nothing_is_stored(recorded):
    before = {path for path in recorded.root.rglob("*") if path.is_file()}
    steps = []
    estimate = recorded.order("mlp_out", n_surrogates=19, progress=lambda done, total: steps.append((done, total)))
    assert estimate.scope == "group"
    assert steps[-1][0] == steps[-1][1] == len(recorded.recording(site="mlp_out").runs)
    assert {path for path in recorded.root.rglob("*") if path.is_file()} == before


def test_connectivity_is_returned_and_nothing_is_stored(copy):
    before = {path for path in copy.root.rglob("*") if path.is_file()}
    courses = copy.connectivity("canica", kind="partial", min_volumes=10)
    assert courses.kind == "partial correlation"
    assert list(courses.peaks["network"]) == courses.names == copy.decomposition("canica").names
    assert set(courses.tables) == {"connectivity", "spectra", "peaks"}
    assert {path for path in copy.root.rglob("*") if path.is_file()} == before
    with pytest.raises(ValueError, match="accepted values are correlation and partial"):
        copy.connectivity("canica", kind="other")


@pytest.mark.filterwarnings("ignore")
def test_dual_regression_returns_texts_and_with_a_contrast_their_test(copy, tmp_path):
    alone = copy.dual_regression("canica", "code")
    assert alone.test is None
    assert set(alone.corpora.values()) == {"code"}
    both = copy.dual_regression("canica", contrast=("code", "news"), n_permutations=50)
    assert both.test.effect.shape == (len(both.individuals.networks), both.individuals.space.n_neurons)
    assert both.amplitudes.shape == (len(both.individuals), len(both.individuals.networks))
    folder = both.write(tmp_path / "out")
    assert (folder / "contrast.tsv").is_file()
    with pytest.raises(ValueError, match="were both given"):
        copy.dual_regression("canica", "code", ("code", "news"))


def test_descriptions_are_stored_as_labels_on_request(copy):
    found = copy.describe("canica", n_permutations=20)
    assert len(copy.labels("canica")) == 0
    copy.label("canica-01", "mine")
    assert list(copy.describe("canica", n_permutations=20, save=True).labels["label"]) == list(found.labels["label"])
    stored = copy.labels("canica").set_index("network")
    assert stored.loc["canica-01", "label"] == "mine"
    assert stored.loc["canica-00", "label"] == found.labels["suggested"].iloc[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 3.0}, "--alpha is not an option of ica"),
        ({"method": "canica", "solver": "picard"}, "--solver is not an option of canica"),
        ({"method": "canica", "n_components": "auto"}, r"an integer \(auto only with ica and ica-temporal\)"),
        ({"n_components": "many"}, "accepted is an integer or auto"),
        ({"method": "pca"}, "There is no method 'pca'; choose from 'ica'"),
        ({"threshold": "fdr", "n_surrogates": 3}, "--n-surrogates is 3, but fdr needs at least 20"),
        ({"threshold": "z:3", "n_surrogates": -1}, "it must be at least 0"),
        ({"paper": True, "n_splits": 2}, "--paper sets method"),
        ({"paper": True, "threshold": "z:3"}, "accepted with --paper: z_positive:3.6"),
        ({"paper": True, "threshold": "z_positive:2"}, r"the paper's are 1\.96 and 3\.6"),
    ],
)
def test_choices_that_exclude_each_other_are_refused_before_the_fit(walked, options, message):
    with pytest.raises(ValueError, match=message):
        walked.decompose(**options)


# -- registries -------------------------------------------------------------------------------------------------------


@pytest.fixture
def helped(monkeypatch):
    """Return a function that prints the help of ``lmri decompose`` with the registries as they are now."""

    def show() -> str:
        monkeypatch.delitem(sys.modules, "lmri.cli.decompose")
        fresh = typer.Typer()
        fresh.command()(importlib.import_module("lmri.cli.decompose").decompose)
        return " ".join(CliRunner().invoke(fresh, ["--help"], env={"COLUMNS": "400"}).output.split())

    return show


def largest(maps: np.ndarray, size: float = 2.0) -> np.ndarray:
    """Keep weights above a limit."""
    return maps > size


def test_a_new_threshold_is_an_entry_of_the_registry(monkeypatch, helped):
    one = ThresholdMethod("largest", largest, "weights above a limit", "at {value} units of weight")
    monkeypatch.setitem(THRESHOLDS, one.name, one)
    assert parse_threshold("largest:3") == ("largest", {"size": 3.0})
    with pytest.raises(ValueError, match=r"choose from fdr, .*, largest"):
        parse_threshold("nonsense")
    assert "fdr_gaussian:0.05 or largest:2.0" in helped()
    assert threshold_words("largest", {"size": 3.0}) == ("at", "3 units of weight")
    assert '"largest"' in names_in_docstring()
    assert "``size=2.0`` of `largest`" in " ".join(parameters_in_docstring().split())


def test_a_new_method_is_an_entry_of_the_registry(monkeypatch, helped, walked):
    one = DecompositionMethod("again", "lmri.decomposition.fastica:FastICA", "ICA again", "FastICA again")
    monkeypatch.setitem(METHODS, one.name, one)
    assert "fastica-temporal, fastica-spatial or again." in helped()
    with pytest.raises(ValueError, match=r"choose from 'ica', .*, 'again'"):
        build("nonsense", walked.space())
    assert method_words("again") == "ICA again"
    assert build("again", walked.space(), n_components=2).n_components == 2


def test_registered_estimators_exist(walked):
    for name in METHODS:
        assert build(name, walked.space(), n_components=2).method_name == name


def test_maps_without_a_choice_have_the_default_threshold_of_their_method(walked):
    maps = walked.decomposition("canica")
    for name, method in METHODS.items():
        by = replace(maps, origin=Origin(name), null=SurrogateNull.from_maps([maps.weights])).threshold()
        assert by.origin.threshold["method"] == method.threshold


def test_docstrings_list_all_thresholds():
    for name in THRESHOLDS:
        assert f'"{name}"' in NetworkSet.threshold.__doc__
    assert "<" not in NetworkSet.threshold.__doc__
    assert all(f'``"{name}"``' in build.__doc__ for name in METHODS)
