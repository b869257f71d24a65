"""Every example of the gallery runs, and the claims of its text hold."""

import runpy
import tempfile
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

GALLERY = Path(__file__).parents[1] / "examples" / "gallery"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run an example without display; return its names, its output and its number of figures."""

    folders = []

    def run_example(stem):
        mpl.use("Agg")
        from matplotlib import pyplot as plt

        plt.close("all")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        drawn = []
        monkeypatch.setattr(plt, "show", lambda: drawn.extend(plt.get_fignums()) or plt.close("all"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what an example says it says in its text
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            names = runpy.run_path(str(GALLERY / f"{stem}.py"))
        if "folder" in names:
            folders.append(names["folder"])
        assert drawn, "an example without a figure"
        assert plt.get_fignums() == [], "a figure that is not shown"
        return names, capsys.readouterr().out

    yield run_example
    for folder in folders:
        folder.cleanup()


def test_every_example_is_run_here():
    text = Path(__file__).read_text(encoding="utf-8")
    for path in GALLERY.glob("plot_*.py"):
        assert f'run("{path.stem}")' in text
        assert "# Limitations\n" in path.read_text(encoding="utf-8")


def test_record_and_look(run):
    names, _ = run("plot_01_record_and_look")
    img, events = names["img"], names["events"]
    assert img.shape[3] == len(events) == len(names["values"])
    assert img.shape[:3] == names["recording"].space.shape
    assert names["values"][:, names["neuron"]].std() > 0
    assert len(names["starts"]) == events["text_id"].nunique()


def test_methods_and_their_null(run):
    names, _ = run("plot_02_methods_and_their_null")
    spatial, temporal, mixed = (names["found"][pair] for pair in names["pairs"])
    for alike in (spatial, temporal):
        assert alike.mean_r > alike.null_95 > alike.null_mean > 0.4
        assert alike.table["above_null"].all()
    assert mixed.mean_r < mixed.null_95
    # Turned at random, the same maps still resemble themselves, and no more than such turns do.
    assert 0.4 < names["nothing"].mean_r < names["nothing"].null_95


def test_why_no_smoothing(run):
    names, printed = run("plot_03_why_no_smoothing")
    r = names["r"]
    assert (r["as they are"] > 0.9).all()
    assert (r["smoothed by 2 mm"] < 0.8).all()
    assert (r["smoothed by 6 mm"] < 0.3).all()
    assert "Neighbouring voxels hold unrelated neurons" in printed


def test_nothing_in_noise(run):
    names, _ = run("plot_04_nothing_in_noise")
    sizes = names["sizes"]
    assert (sizes["salmon", "fdr"] == 0).all()
    for threshold in ("z", "auto"):
        assert (sizes["salmon", threshold] > 0).all()


def test_lesion_with_controls(run):
    names, _ = run("plot_05_lesion_with_controls")
    assert names["again"] == names["intact"] != names["lesioned"]
    shown = names["shown"]
    assert len(shown) == 8
    assert shown["p"].min() > 0.1  # no network does more harm than its controls
    assert all(
        profile.sum() == one.n_neurons for profile, one in zip(names["profiles"], names["networks"], strict=True)
    )


def test_localizer(run):
    names, _ = run("plot_06_localizer")
    assert names["everything"].n_neurons > 100  # significant is not selective
    assert names["chosen"].n_neurons == 60
    diffs = names["shown"].set_index("task")["diff"]
    assert diffs["code"] > 2 * diffs["news"] > 0
    assert names["shown"].set_index("task")["p"]["code"] == 1 / 20  # worse than each control


def test_confounds(run):
    names, _ = run("plot_07_confounds")
    assert np.abs(names["before"]).max() > 0.3
    assert np.abs(names["after"]).max() < 0.02
