"""Commands about networks and texts return the results of the library, and report excluded data."""

import json
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from lmri import FastICA, NetworkSet, storage
from lmri.cli.app import app
from lmri.decomposition.individuals import contrast, dual_regression
from lmri.decomposition.order import estimate_order
from lmri.networks.annotation import annotate
from lmri.networks.connectivity import connectivity
from lmri.report.figures import order_figure
from lmri.storage import read_json, read_table
from lmri.study import open_study
from tolerances import rounding


def run(*arguments: object):
    """Run a command that must succeed."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def result(*arguments: object):
    return json.loads(run(*arguments, "--json").stdout)


def fails(*arguments: object, code: int = 1) -> str:
    """Run a command that must fail with a message, and return the message in one line."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    assert isinstance(done.exception, SystemExit)
    assert not done.stdout
    return " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def small(recorded, tmp_path_factory):
    """Create a study of short texts with two networks at one of its two sites."""
    study = open_study(shutil.copytree(recorded.root, tmp_path_factory.mktemp("small") / "study"))
    recording = study.recording("words", "mlp_out")
    estimator = FastICA(recording.space, 2, random_state=0).fit(recording.imgs)
    study.save_decomposition(estimator, [recording], "two")
    study.save_networks(NetworkSet.from_estimator(estimator).threshold("z", z=2.0), "two")
    return study


# -- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["group", "run"])
def test_order_gives_the_librarys_numbers(recorded, scope):
    content = result("order", recorded.root, "--site", "mlp_out", "--scope", scope)
    expected = estimate_order(recorded.recording("words", "mlp_out").arrays(), scope=scope)
    assert content["recommended"] == expected.recommended > 0
    assert [row["parallel"] for row in content["runs"]] == expected.table["parallel"].tolist()
    names = ["words 1", "words 2", "words 3"]
    assert [row["run"] for row in content["runs"]] == (names if scope == "run" else [*names, "all"])


def test_order_writes_a_figure_and_prints_the_next_step(recorded, tmp_path):
    figure = tmp_path / "order.svg"
    done = run("order", recorded.root, "--site", "mlp_out", "--figure", figure)
    n = estimate_order(recorded.recording("words", "mlp_out").arrays()).recommended
    assert f"--n-components {n} --site mlp_out" in done.stdout
    text = "".join(ET.fromstring(figure.read_text()).itertext())
    assert f"All runs together: {n} components" in text
    before = figure.read_bytes()
    assert "Nothing was overwritten" in fails("order", recorded.root, "--site", "mlp_out", "--figure", figure)
    assert figure.read_bytes() == before
    said = fails("order", recorded.root, "--site", "mlp_out", "--figure", tmp_path / "order.png")
    assert "figures are written as SVG" in said
    assert not (tmp_path / "order.png").exists()
    assert "Choose from: mlp_hidden, mlp_out" in fails("order", recorded.root)
    assert "scope is 'all'" in fails("order", recorded.root, "--site", "mlp_out", "--scope", "all")


def test_the_scree_shows_planted_networks_and_none_in_noise():
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(100, 300)) for _ in range(2)]
    maps = rng.laplace(size=(5, 300))
    planted = [rng.normal(size=(100, 5)) @ maps + run for run in noise]
    titles = {}
    for name, runs in (("noise", noise), ("planted", planted)):
        for scope in ("group", "run"):
            figure = order_figure(estimate_order(runs, scope=scope).curves)
            titles[name, scope] = "".join(ET.fromstring(figure).itertext())
            assert "mathdefault" not in figure
    assert "All runs together: 5 components" in titles["planted", "group"]
    assert "Separate runs: median 5" in titles["planted", "group"]
    assert "All runs together: 0 components" in titles["noise", "group"]
    assert "Separate runs: median 0" in titles["noise", "run"]
    assert "All runs" not in titles["noise", "run"]


def test_order_of_noise_recommends_nothing(recorded, tmp_path):
    study = open_study(shutil.copytree(recorded.root, tmp_path / "study"))
    recording, rng = study.recording("words", "mlp_out"), np.random.default_rng(0)
    for one in recording.runs:
        values = rng.normal(size=(one.n_volumes, recording.space.n_neurons)).astype(np.float32)
        storage.save_img(recording.space.to_img(values), one.img)
    done = run("order", study.root, "--site", "mlp_out")
    assert "No component exceeds the circularly shifted surrogates" in done.stdout
    assert "Next" not in done.stdout


# -- dual regression --------------------------------------------------------------------------------------------------


def test_dual_regression_writes_the_librarys_maps_and_says_what_was_left_out(small, tmp_path):
    done = run("dual-regression", small.root, "two", "--out", tmp_path / "out")
    expected = dual_regression(small.networks("two"), small.recording("words", "mlp_out"), too_short="skip")
    assert expected.left_out
    n = len(expected) + len(expected.left_out)
    assert f"Excluded: {len(expected.left_out)} of {n} texts, with fewer than 6 volumes (3 per map)" in done.stdout
    assert f"{len(expected)} of these texts were used to fit the networks" in done.stdout
    table = read_table(tmp_path / "out" / "texts.tsv", ["text", "corpus", "made_networks", "img"])
    assert table["text"].tolist() == list(expected.names)
    assert set(table["made_networks"]) == {"yes"}
    assert table["n_volumes"].min() >= 6
    for row, maps, course in zip(table.itertuples(), expected.maps, expected.time_courses, strict=True):
        assert np.array_equal(small.space("mlp_out").from_img(tmp_path / "out" / row.img), maps)
        np.testing.assert_allclose(table.loc[row.Index, "amplitude_two-00"], course[:, 0].std())
    assert read_json(tmp_path / "out" / "about.json")["left_out"] == list(expected.left_out)
    assert "Nothing was overwritten" in fails("dual-regression", small.root, "two", "--out", tmp_path / "out")


def test_dual_regression_standardizes_as_the_networks_were(small, tmp_path):
    study = open_study(shutil.copytree(small.root, tmp_path / "study"))
    recording = study.recording("words", "mlp_out")
    centred = FastICA(recording.space, 2, standardize="center").fit(recording.imgs)
    study.save_decomposition(centred, [recording], "centred")
    study.save_networks(NetworkSet.from_estimator(centred).threshold("z", z=2.0), "centred")
    assert result("dual-regression", study.root, "two")["standardize"] == "zscore"
    content = result("dual-regression", study.root, "centred")
    assert content["standardize"] == "center"
    expected = dual_regression(study.networks("centred"), recording, standardize="center", too_short="skip")
    courses = [row["centred-01"] for row in content["amplitudes"]]
    np.testing.assert_allclose(courses, [course[:, 1].std() for course in expected.time_courses])


def test_two_corpora_are_contrasted_over_their_texts(walked, tmp_path):
    options = ("--n-permutations", 50, "--out", tmp_path / "out")
    content = result("dual-regression", walked.root, "canica", "--contrast", "news", "code", *options)
    recordings = [walked.recording(corpus) for corpus in ("news", "code")]
    texts = [list(table["text_id"]) for one in recordings for table in one.events]
    imgs = [img for one in recordings for img in one.imgs]
    found = dual_regression(walked.networks("canica"), imgs, texts=texts)
    groups = {name: name.split("-")[0] for name in found.names}
    expected = contrast(found, groups, 50, 0, family="set")
    # Whichever is named first, the difference is said in the order it was taken in.
    assert (content["contrast"]["first"], content["contrast"]["second"]) == ("code", "news")
    assert content["n_made_maps"] == content["n_texts"] == len(found)
    assert content["contrast"]["networks"] == expected.table.to_dict("records")
    space = walked.space()
    for what, values in (("effect", expected.effect), ("t", expected.t), ("p", expected.p)):
        stored = space.from_img(tmp_path / "out" / f"contrast_{what}.nii.gz")
        np.testing.assert_array_equal(stored, values.astype(np.float32))
    code = np.array([name.startswith("code") for name in found.names])
    np.testing.assert_allclose(
        expected.effect,
        found.maps[code].mean(axis=0) - found.maps[~code].mean(axis=0),
        atol=rounding(found.maps, len(found)),
    )


def test_dual_regression_says_what_cannot_be(walked, small):
    assert "Choose from: code (mlp_hidden)" in fails("dual-regression", walked.root, "canica")
    assert "both given" in fails(
        "dual-regression", walked.root, "canica", "--corpus", "code", "--contrast", "code", "news"
    )
    assert "names 'code' twice" in fails("dual-regression", walked.root, "canica", "--contrast", "code", "code")
    assert "corpus 'poems' at mlp_hidden" in fails(
        "dual-regression", walked.root, "canica", "--contrast", "code", "poems"
    )
    assert "named 'pca'" in fails("dual-regression", small.root, "pca")
    fails("dual-regression", walked.root, "canica", "--contrast", "code", code=2)


# -- describe, connectivity, phantom ----------------------------------------------------------------------------------


def test_describe_and_connectivity_give_the_librarys_numbers(small, tmp_path):
    courses = [table.to_numpy() for _, _, table in small.time_courses("two")]
    events = small.recording("words", "mlp_out").events
    content = result("describe", small.root, "two", "--n-permutations", 20, "--out", tmp_path / "described")
    expected = annotate(["two-00", "two-01"], courses, events, 20)
    assert content == json.loads(json.dumps(expected.to_dict()))
    written = read_table(tmp_path / "described" / "labels.tsv", ["network", "label", "suggested"])
    pd.testing.assert_frame_equal(written, expected.labels, check_dtype=False)

    content = result("connectivity", small.root, "two", "--min-volumes", 6)
    texts = [table["text_id"].tolist() for table in events]
    found = connectivity(courses, "correlation", texts, ["two-00", "two-01"], 6)
    assert content["pairs"][0]["r"] == found.table["r"].iloc[0]
    assert content["n_left_out"] == found.n_left_out > 0
    assert "--kind is 'mutual'" in fails("connectivity", small.root, "two", "--kind", "mutual")
    assert not small.layout.network_labels.exists()  # nothing was saved without being asked
