"""The viewer server returns the values of the library, and serves only files of the study."""

import dataclasses
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from urllib.parse import urlencode, urlsplit

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

import lmri
from lmri import storage
from lmri.exceptions import StudyError
from lmri.lesions.scores import INTACT
from lmri.networks import NetworkSet
from lmri.networks import codec as results
from lmri.networks.rois import members_of, read_roi, save
from lmri.report.viewer import cached_reader as holdings_module
from lmri.report.viewer import guard, images, server
from lmri.report.viewer.api import ANSWERS, plain
from lmri.report.viewer.cached_reader import CachedReader, read_numbers
from lmri.report.viewer.kept import Kept
from lmri.space.layers import ModelInfo
from lmri.storage.adding import adding
from lmri.storage.outcome import Outcome
from test_imports import _loaded
from test_report_page import CONTRAST, planted
from tolerances import rounding

SITE = "mlp_hidden"
HERE = "http://127.0.0.1:8765"


class Page:
    """Client that sends requests like the page."""

    def __init__(self, root):
        app = server.make_app(root, fresh=0)
        self.client = TestClient(app, base_url=HERE, raise_server_exceptions=False)

    def ask(self, name, status=200, /, **parameters):
        answer = self.client.get(f"/api/{name}", params=parameters)
        assert answer.status_code == status, (answer.status_code, answer.text[:500])
        if name.rpartition(".")[2] in ("gz", "nii") and status == 200:
            return answer.content
        return json.loads(answer.content, parse_constant=_no_constant)

    def img(self, name, /, **parameters):
        content = self.ask(name, **parameters)
        return nib.Nifti1Image.from_bytes(__import__("gzip").decompress(content) if name.endswith("gz") else content)

    def draw(self, content, site=0):
        """What the page sends: the neurons, and what they were drawn on."""
        said = self.ask("study")
        shown = {"root": said["root"], "fingerprint": said["fingerprint"], "geometry": said["sites"][site]["geometry"]}
        return {**shown, **content}

    def post(self, content, **headers):
        if isinstance(content, dict):
            content = self.draw(content)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.client.post(
            "/api/rois", content=data, headers={"Origin": HERE, "Content-Type": "application/json", **headers}
        )


def _no_constant(word):
    raise AssertionError(f"{word} is no JSON")


@pytest.fixture(scope="module")
def page(walked):
    return Page(walked.root)


@pytest.fixture
def copy(walked, tmp_path):
    return lmri.open_study(shutil.copytree(walked.root, tmp_path / "study"))


CHOICE = {"site": SITE, "set": "canica", "network": "canica-02"}


# -- the numbers are the library's ------------------------------------------------------------------------------------


def test_the_overview_lists_what_is_there(page, walked):
    said = page.ask("study")
    assert (said["model"], said["fingerprint"]) == (walked.model.id, walked.model.fingerprint)
    assert said["problems"] == []
    [site] = said["sites"]
    space = walked.space()
    assert (site["site"], site["shape"], site["n_neurons"]) == (SITE, list(space.shape), space.n_neurons)
    assert [(one["name"], one["width"]) for one in site["layers"]] == [(one.name, one.width) for one in space.layers]
    assert {one["corpus"]: one["runs"] for one in site["corpora"]} == {
        one.corpus: [run.n_volumes for run in one.runs] for one in walked.recordings()
    }
    sets = {one["name"]: one for one in site["sets"]}
    assert set(sets) == {"canica", "fastica-temporal", "nothing"}
    assert (sets["nothing"]["n_networks"], sets["nothing"]["n_empty"]) == (4, 4)
    assert (sets["canica"]["threshold"], sets["canica"]["method"]) == ("z:3", "canica")
    assert site["comparisons"] == [
        {"name": "canica--fastica-temporal", "first": "canica", "second": "fastica-temporal"}
    ]


@pytest.mark.parametrize("name", ["canica", "fastica-temporal", "nothing"])
def test_networks_equal_the_stored_networks(page, walked, name):
    own = walked.networks(name)
    said = page.ask("networks", site=SITE, set=name)
    for row, network, wanted in zip(said["networks"], own, own.table.to_dict("records"), strict=True):
        assert row["name"] == network.name
        assert row["profile"] == network.layer_profile().tolist()
        assert row["max"] == np.abs(network.stat_map).max()
        for column, value in wanted.items():
            if column != "network":
                assert row[column] == (None if isinstance(value, float) and np.isnan(value) else value), column
    assert said["z"] == (1000.0 if name == "nothing" else 3.0)
    for number, network in enumerate(own):
        asked = {"site": SITE, "set": name, "network": network.name}
        z, members = page.img("map.nii.gz", **asked), page.img("members.nii.gz", **asked)
        for img, values in ((z, network.z), (members, np.where(network.members, network.z, 0))):
            np.testing.assert_array_equal(own.space.from_img(img), values.astype(np.float32))
            assert int(img.header["intent_code"]) == 5
            np.testing.assert_array_equal(img.affine, np.eye(4))
        if number == 0:
            same = walked.space().from_img(
                next((walked.entries.find("networks", name).folder).glob("*network-00_stat-z_statmap.nii.gz"))
            )
            np.testing.assert_array_equal(own.space.from_img(members), same)


@pytest.mark.parametrize("is_t", [True, False])
def test_a_localizer_is_shown_by_its_t(tmp_path, is_t):
    # Far from 0 in the mean, so that z over neurons has other signs than t.
    more = {"p_min": [0.0001], "max_abs_t": [9.0], "skewness": [0.2], "sign_determined": [1]}
    study = planted(tmp_path / "study", n_networks=1, z=1.5, shift=3.0, found=CONTRAST if is_t else {}, more=more)
    own, page = study.networks("ica"), Page(study.root)
    assert own.stat_type == ("t" if is_t else "z")
    assert page.ask("study")["sites"][0]["sets"][0]["stat"] == own.stat_type
    strength = own.weights[0] if is_t else own[0].z
    asked = {"site": SITE, "set": "ica", "network": "ica-00"}
    [row] = page.ask("networks", site=SITE, set="ica")["networks"]
    assert row["max"] == pytest.approx(np.abs(strength).max())
    assert row["n_positive"] == (own.members[0] & (strength > 0)).sum()
    img = page.img("map.nii.gz", **asked)
    np.testing.assert_array_equal(own.space.from_img(img), strength.astype(np.float32))
    assert int(img.header["intent_code"]) == (3 if is_t else 5)
    shown = page.ask("slices", kind="members", **asked)
    assert sum(value > 0 for layer in shown["values"] for value in layer if value is not None) == row["n_positive"]


def test_what_a_person_rejected_is_said_to_be(copy):
    networks = copy.networks("canica")
    kept = replace(
        networks,
        members=networks.members & (np.arange(len(networks)) != 1)[:, None],
        origin=replace(
            networks.origin, threshold={"method": "accepted", "by": "z", "description": "", "rejected": [1]}
        ),
    )
    copy.save_networks(kept, "canica", "accepted")
    rows = Page(copy.root).ask("networks", site=SITE, set="accepted")["networks"]
    assert [row["rejected"] for row in rows] == [False, True, False, False]


@pytest.mark.parametrize(("per", "unit"), [("token", "token"), ("word", "word")])
def test_volumes_are_called_what_they_are(tmp_path, per, unit):
    study = planted(tmp_path / "study", n_networks=1, z=1.5, axis={} if per == "token" else {"per": per})
    [corpus] = Page(study.root).ask("study")["sites"][0]["corpora"]
    assert corpus["unit"] == unit


def test_time_courses_are_z_scored_over_all_runs(page, walked):
    for name in ("canica", "fastica-temporal"):
        tables = walked.time_courses(name)
        whole = np.concatenate([table.to_numpy() for _, _, table in tables])
        for corpus, run, table in tables:
            for number in range(table.shape[1]):
                asked = {"site": SITE, "set": name, "network": f"{name}-{number:02d}", "corpus": corpus, "run": run}
                values = page.ask("course", **asked)["values"]
                column = whole[:, number]
                expected = (table.iloc[:, number].to_numpy() - column.mean()) / column.std()
                np.testing.assert_allclose(values, expected, rtol=0, atol=rounding(expected, len(whole)))


def test_tables_of_numbers_are_read_to_the_last_bit_or_not_at_all(tmp_path):
    path = tmp_path / "mixing.tsv"
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(500, 3)) ** 9, columns=list("abc"))
    table.iloc[3, 1] = np.nan
    storage.write_table(path, table)
    np.testing.assert_array_equal(read_numbers(path), table.to_numpy())
    whole = path.read_bytes()
    for cut in (
        whole[:-1],
        whole[:-5],
        whole[: len(whole) // 2],
        whole[: whole.rindex(b"\t")],
        b"",
        whole + b"x\ty\tz\n",
    ):
        path.write_bytes(cut)
        with pytest.raises(StudyError, match="not a complete table"):
            read_numbers(path)


def test_top_tokens_are_the_highest_and_the_lowest_volumes_in_their_text(page, walked):
    recordings = {one.corpus: one for one in walked.recordings()}
    rows = [
        {"corpus": corpus, "run": run, "volume": volume, "value": values}
        for corpus, run, table in walked.time_courses("canica")
        for volume, values in enumerate(table.to_numpy())
    ]
    for number in range(4):
        asked = {**CHOICE, "network": f"canica-{number:02d}"}
        said = page.ask("tops", **asked)
        for end, sign in (("highest", -1), ("lowest", 1)):
            extreme = sorted(rows, key=lambda row, sign=sign: sign * row["value"][number])[:8]
            assert [{key: one[key] for key in ("corpus", "run", "volume")} for one in said[end]] == [
                {key: one[key] for key in ("corpus", "run", "volume")} for one in extreme
            ]
        for one in said["highest"] + said["lowest"]:
            place = {"corpus": one["corpus"], "run": one["run"]}
            assert page.ask("course", **asked, **place)["values"][one["volume"]] == one["value"]
            recording = recordings[one["corpus"]]
            event = recording.events[one["run"] - 1].iloc[one["volume"]]
            text = recording.texts.set_index("text_id")["text"][event["text_id"]]
            assert one["token"] == text[event["start"] : event["end"]] != ""
            before, after = text[: event["start"]], text[event["end"] :]
            assert before.endswith(one["before"])
            assert after.startswith(one["after"])
            assert (one["before"] == "") == (event["position"] == 0)


def test_a_neuron_is_its_column_of_the_recording(page, walked):
    recording = walked.recording("code")
    arrays = list(recording.arrays())
    space = recording.space
    for layer, neuron in ((0, 0), (1, 7), (space.n_layers - 1, space.widths[-1] - 1)):
        column = space.index(layer, neuron)
        whole = np.concatenate([array[:, column] for array in arrays]).astype(np.float64)
        for run, array in enumerate(arrays, start=1):
            said = page.ask("neuron", site=SITE, layer=layer, neuron=neuron, corpus="code", run=run)
            assert said["values"] == array[:, column].tolist()
            close = rounding(whole, len(whole))
            np.testing.assert_allclose([said["mean"], said["sd"]], [whole.mean(), whole.std()], rtol=0, atol=close)
            assert said["layer_name"] == space.layers[layer].name
        assert [one["value"] for one in said["highest"]] == np.sort(whole)[::-1][:8].tolist()
        assert [one["value"] for one in said["lowest"]] == np.sort(whole)[:8].tolist()
        for one in said["highest"] + said["lowest"]:
            assert arrays[one["run"] - 1][one["volume"], column] == one["value"]


def test_a_neuron_beside_a_network_is_scaled_by_the_same_corpora(page, walked):
    corpora = walked.entries.find("decompositions", "canica").inputs["corpora"]
    assert len(corpora) == 2
    arrays = {one.corpus: np.concatenate(list(one.arrays())) for one in walked.recordings()}
    column = walked.space().index(1, 7)
    asked = {"site": SITE, "layer": 1, "neuron": 7, "corpus": "code", "run": 1}
    for given, names in (({"set": "canica"}, corpora), ({}, ["code"])):
        base = np.concatenate([arrays[name][:, column] for name in names]).astype(np.float64)
        said = page.ask("neuron", **asked, **given)["baseline"]
        assert said["corpora"] == names
        close = rounding(base, len(base))
        np.testing.assert_allclose([said["mean"], said["sd"]], [base.mean(), base.std()], rtol=0, atol=close)


def test_a_neuron_of_a_corpus_that_was_not_decomposed_is_scaled_by_that_alone(page, monkeypatch):
    contents = CachedReader.contents

    def fewer(self, now=False):
        found = contents(self, now)
        entries = {
            key: dataclasses.replace(one, inputs={**one.inputs, "corpora": ["news"]})
            for key, one in found.entries["decompositions"].items()
        }
        return dataclasses.replace(found, entries={**found.entries, "decompositions": entries})

    monkeypatch.setattr(CachedReader, "contents", fewer)
    asked = {"site": SITE, "layer": 1, "neuron": 7, "run": 1, "set": "canica"}
    for corpus in ("code", "news"):
        said = page.ask("neuron", **asked, corpus=corpus)
        assert said["baseline"] == {"corpora": [corpus], "mean": said["mean"], "sd": said["sd"]}


def test_volumes_masks_and_means_are_the_recordings(page, walked):
    for recording in walked.recordings():
        space, asked = recording.space, {"site": SITE, "corpus": recording.corpus}
        mean = recording.mean.astype(np.float32)
        np.testing.assert_array_equal(space.from_img(page.img("mean.nii.gz", **asked)), mean)
        mask = page.img("mask.nii.gz", site=SITE)
        np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(space.mask_img.dataobj))
        for run, array in enumerate(recording.arrays(), start=1):
            for volume in (0, len(array) // 2, len(array) - 1):
                img = page.img("volume.nii", **asked, run=run, volume=volume)
                np.testing.assert_array_equal(space.from_img(img), array[volume])
                assert img.shape == space.shape


def test_tokens_are_those_of_the_events(page, walked):
    for recording in walked.recordings():
        for run, events in enumerate(recording.events, start=1):
            said = page.ask("tokens", site=SITE, corpus=recording.corpus, run=run)
            assert said["tokens"] == events["token"].tolist()
            bounds = [*said["text_starts"], len(events)]
            again = [one for one, n in zip(said["text_ids"], np.diff(bounds), strict=True) for _ in range(n)]
            assert again == events["text_id"].tolist()
            assert len(said["text_ids"]) == events["text_id"].nunique()


@pytest.mark.parametrize("kind", ["map", "members", "mean", "volume"])
def test_slices_equal_the_image(page, walked, kind):
    asked = {**CHOICE, "corpus": "news", "run": 1, "volume": 5}
    said = page.ask("slices", kind=kind, **asked)
    img = page.img({"volume": "volume.nii"}.get(kind, f"{kind}.nii.gz"), **asked)
    volume = np.array(said["values"], dtype=np.float32).reshape(said["shape"][::-1]).transpose(2, 1, 0)
    np.testing.assert_array_equal(volume, np.asarray(img.dataobj))


def test_slices_have_nothing_where_no_neuron_is():
    space = lmri.NeuronSpace.build([4, 3])
    values = np.array([1, 2, np.nan, 4, 5, 6, np.inf], dtype=np.float32)
    assert images.slices(space, values) == [[1, 2, None, 4], [5, 6, None, None]]


def test_scores_are_the_summarys(page, walked):
    said = page.ask("scores", **CHOICE)
    summary = walked.scores("lesion-canica").summary()
    own = summary[summary["condition"] == "canica-02"]
    assert len(said) == len(own) > 0
    for row, (_, wanted) in zip(said, own.iterrows(), strict=True):
        assert (row["name"], row["intervention"]) == ("lesion-canica", "lesion")
        intact = summary[(summary["condition"] == INTACT) & (summary["task"] == wanted["task"])]
        assert row["intact"] == intact[intact["metric"] == wanted["metric"]]["value"].iloc[0]
        for column in ("value", "diff", "ci_low", "ci_high", "control_mean", "effect", "p", "q"):
            assert row[column] == (None if pd.isna(wanted[column]) else wanted[column]), column
        assert (row["task"], row["metric"], row["n_controls"]) == (wanted["task"], wanted["metric"], 3)
        assert row["control_family"] == wanted["control_family"]
    assert page.ask("scores", site=SITE, set="fastica-temporal", network="fastica-temporal-00") == []


def test_scores_of_other_neurons_are_no_networks_unless_an_experiment_says_so(copy):
    page = Page(copy.root)
    copy.save_scores(copy.scores("lesion-canica"), "doses", SITE, None, {"intervention": "amplify"})
    assert {row["name"] for row in page.ask("scores", **CHOICE)} == {"lesion-canica"}
    outcome = Outcome("amplify", "Doses", "One and another.", {"doses": pd.DataFrame({"gain": [2.0]})})
    copy.save_experiment(outcome, "doses", SITE, {"networks": ["canica"], "scores": "doses"})
    said = page.ask("scores", **CHOICE)
    assert {(row["name"], row["intervention"]) for row in said} == {("lesion-canica", "lesion"), ("doses", "amplify")}
    assert page.ask("scores", site=SITE, set="nothing", network="nothing-00")[0]["name"] == "lesion-nothing"


def test_matches_are_the_comparisons_from_either_side(page, walked):
    comparison = walked.comparison()
    for first, second in (("canica", "fastica-temporal"), ("fastica-temporal", "canica")):
        said = page.ask("matches", site=SITE, first=first, second=second)
        assert said["source"] == "canica--fastica-temporal"
        np.testing.assert_allclose(said["mean_r"], comparison.mean_r)
        np.testing.assert_allclose(said["null_95"], comparison.null_95)
        for pair, (_, row) in zip(said["pairs"], comparison.table.iterrows(), strict=True):
            sides = {row["first"], row["second"]}
            assert {pair["first"], pair["second"]} == sides
            assert pair["first"].startswith(first)
            np.testing.assert_allclose(
                [pair["r"], pair["r_null_95"], pair["iou"]], [row["r"], row["r_null_95"], row["iou"]]
            )
            assert pair["above_null"] is bool(row["above_null"])
    error = page.ask("matches", 404, site=SITE, first="canica", second="nothing")["error"]
    assert f"lmri compare {walked.root} canica nothing" in error


def test_one_volume_is_read_and_nothing_else(tmp_path):
    """A sparse file of 200 GB: reading more than one volume exceeds the memory."""
    space = lmri.NeuronSpace.build([1000] * 50)
    values = np.arange(space.n_neurons, dtype=np.float32)
    header = nib.Nifti2Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape((*space.shape, 1_000_000))
    header.set_sform(np.eye(4), 1)
    header["magic"], header["vox_offset"] = b"n+2", 544
    volume = np.asarray(space.to_img(values).dataobj)
    path = tmp_path / "big.nii"
    with path.open("wb") as stream:
        stream.write(header.binaryblock + b"\0" * 4)
        stream.truncate(544 + 4 * volume.size * 1_000_000)
        stream.seek(544 + 4 * volume.size * 777_777)
        stream.write(volume.tobytes(order="F"))
    np.testing.assert_array_equal(images.values_of(space, path, 777_777), values)
    assert not images.values_of(space, path, 777_778).any()


def test_runs_that_other_software_re_saved_give_the_same_numbers(tmp_path):
    space = lmri.NeuronSpace.build([12, 10])
    values = np.arange(3 * 22, dtype=np.float32).reshape(3, 22)
    img = space.to_img(values)
    raw = nib.Nifti1Image(np.asarray(img.dataobj).astype(np.int16), np.eye(4))
    raw.header.set_slope_inter(0.5, 1)
    expected = {"plain": values, "scaled": 0.5 * values + 1, "flipped": values}
    flipped = img.as_reoriented(np.array([[0, -1], [1, -1], [2, 1]]))
    for (name, wanted), saved in zip(expected.items(), (img, raw, flipped), strict=True):
        path = tmp_path / f"{name}.nii"
        nib.save(saved, path)
        np.testing.assert_array_equal(images.values_of(space, path, 1), wanted[1])
        np.testing.assert_array_equal(images.course_of(space, path, 1, 9, 3), wanted[:, 21])


# -- what is asked wrongly --------------------------------------------------------------------------------------------

NASTY = [
    "",
    "..",
    "../canica",
    "/etc/passwd",
    "canica/../canica",
    "%2e%2e",
    "canica\x00",
    "Canica",
    "*",
    "\u202e",
    "a" * 5000,
]
EVERYTHING = {
    **CHOICE,
    "corpus": "code", "run": "1", "volume": "0", "kind": "map", "layer": "0", "neuron": "0", "first": "canica",
    "second": "fastica-temporal", "name": "mine",
}  # fmt: skip
NUMBERS = {"run": ["0", "99"], "volume": ["99999"], "layer": ["99"], "neuron": ["99999"]}
BAD_NUMBERS = ["", "-1", "1.0", " 1", "+1", "1e3", "1_0", "١", "0x1", "nan", "9" * 30]


def _is_missed(page, name, asked, key):
    """Return whether an address requires a parameter."""
    others = {one: value for one, value in asked.items() if one != key}
    return page.client.get(f"/api/{name}", params=others).status_code == 400


def test_all_requests_succeed_for_a_valid_study(page):
    for name in set(ANSWERS) - {"roi.nii.gz"}:
        page.ask(name, **EVERYTHING)


NAMES = sorted(set(ANSWERS) - {"study", "rois"})


@pytest.mark.parametrize("name", NAMES)
def test_names_and_numbers_that_do_not_exist_are_refused(page, name):
    asked = EVERYTHING | {"kind": "volume"} if name == "slices" else EVERYTHING
    used = ["name", "site"] if name == "roi.nii.gz" else [key for key in asked if _is_missed(page, name, asked, key)]
    assert used
    # All addresses check a parameter with the same function: each address has a few values, and together all.
    for number, key in enumerate(used):
        numbers, start = key in NUMBERS, NAMES.index(name) + number
        bad = BAD_NUMBERS if numbers else NASTY
        for value in [*(NUMBERS[key] if numbers else ()), *(bad[(start + 3 * step) % len(bad)] for step in range(4))]:
            error = page.ask(name, 400 if numbers or key == "kind" else 404, **(asked | {key: value}))["error"]
            assert len(error) > 10


def test_other_addresses_and_methods_are_refused(page):
    for address in ("/api", "/api/", "/api/nothing", "/favicon.ico", "/page/", "/page/none.js", "/lmri/study.json"):
        answer = page.client.get(address)
        assert answer.status_code == 404
        assert "error" in answer.json()
    assert page.client.delete("/api/rois", headers={"Origin": HERE}).status_code == 405
    assert page.client.post("/api/study", headers={"Origin": HERE}).status_code == 405


def test_static_files_are_those_of_the_page(page, monkeypatch, tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<p>here")
    (folder / "own.js").write_text("1")
    (folder / "server.py").write_text("no")
    (tmp_path / "beside.js").write_text("no")
    monkeypatch.setattr(server, "PAGE", folder)
    assert page.client.get("/").text == "<p>here"
    own = page.client.get("/page/own.js")
    assert (own.text, own.headers["content-type"]) == ("1", "text/javascript; charset=utf-8")
    for name in ("server.py", "..%2fbeside.js", "%2e%2e%2fbeside.js", "own.js%00", "own.js/"):
        assert page.client.get(f"/page/{name}").status_code == 404
    (folder / "index.html").unlink()
    assert "Install it again" in page.client.get("/").json()["error"]


def test_the_page_asks_for_all_of_its_parts_at_once(page):
    """A part that is only asked for by another part comes a round later."""
    index = page.client.get("/").text
    for path in server.PAGE.glob("*.js"):
        assert f'"/page/{path.name}"' in index


# -- who may ask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8765", None, None),
        ("localhost:8765", None, None),
        ("LOCALHOST", None, None),
        ("[::1]:1", None, None),
        ("127.0.0.1:8765", "http://127.0.0.1:8765", None),
        ("localhost:9000", "http://localhost:9000", None),
        ("evil.example", None, 421),
        ("evil.example:8765", "http://evil.example:8765", 421),
        ("127.0.0.1.evil.example", None, 421),
        ("localhost.", None, 421),
        ("127.0.0.1:8765@evil.example", None, 421),
        ("127.0.0.1:x", None, 421),
        ("127.0.0.1:", None, 421),
        ("", None, 421),
        ("0.0.0.0:8765", None, 421),
        ("127.0.0.1:8765", "http://evil.example", 403),
        ("127.0.0.1:8765", "http://127.0.0.1:8766", 403),
        ("127.0.0.1:8765", "http://localhost:8765", 403),
        ("127.0.0.1:8765", "https://127.0.0.1:8765", 403),
        ("127.0.0.1:8765", "null", 403),
        ("127.0.0.1:8765", "", 403),
    ],
)
def test_only_requests_from_the_own_page_are_accepted(host, origin, status):
    headers = [(b"host", host.encode())] + ([] if origin is None else [(b"Origin", origin.encode())])
    found = guard.refusal("GET", headers)
    assert (found and found[0]) == status


@pytest.mark.parametrize(("origin", "status"), [("cross-site", 403), ("same-site", 403), ("Cross-Site", 403),
                                                ("same-origin", None), ("none", None)])  # fmt: skip
def test_other_pages_of_this_machine_may_not_ask_either(origin, status):
    headers = [(b"host", b"localhost:8765"), (b"Sec-Fetch-Site", origin.encode())]
    found = guard.refusal("GET", headers, "/api/volume.nii")
    assert (found and found[0]) == status
    assert guard.refusal("GET", headers, "/") is None  # a link in another page may lead here


def test_without_the_token_of_the_address_nothing_is_given_away(walked):
    def client(token="right", base=HERE):
        return TestClient(server.make_app(walked.root, token), base_url=base)

    page = client()
    for path in ("/", "/?token=wrong", "/?token=", "/?token=righ", "/page/main.js", "/niivue.umd.js", "/api/study",
                 "/api/study?token=right", "/nothing"):  # fmt: skip
        answer = page.get(path)
        assert answer.status_code == 403, path
        assert "Open the complete address that lmri view printed" in answer.text, path
        assert "set-cookie" not in answer.headers, path
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert page.get("/api/study").json()["closed"] is True
    assert page.post("/api/rois", headers={"Origin": HERE}).status_code == 403
    first = page.get("/?token=right")
    assert first.status_code == 200
    words = first.headers["set-cookie"]
    assert words == "lmri-view-8765=right; Path=/; HttpOnly; SameSite=Lax"
    for path in ("/", "/page/main.js", "/api/study"):  # a second tab, and loading it anew
        assert page.get(path).status_code == 200, path
    for cookie in ("lmri-view-8766=right", "lmri-view-8765=wrong", "lmri-view-8765=", "x=right", "\xff"):
        assert client().get("/api/study", headers={"Cookie": cookie.encode("latin-1")}).status_code == 403, cookie
    also = {"Cookie": "theme=dark; lmri-view-8765=right"}
    assert client().get("/api/study", headers=also).status_code == 200
    assert page.get("/?token=right", headers={"Host": "evil.example"}).status_code == 421


def test_a_ticket_is_good_once_and_for_the_own_account_only(walked, monkeypatch):
    app = server.make_app(walked.root, "right", ticket="once")
    client = lambda: TestClient(app, base_url=HERE)  # noqa: E731
    own = [False]
    monkeypatch.setattr(guard, "is_own", lambda *ends: own[0])
    assert client().get("/?ticket=once").status_code == 403  # another account has read it
    own[0] = True
    for path in ("/?ticket=right", "/?ticket=", "/?token=once", "/api/study?ticket=once", "/page/main.js?ticket=once"):
        assert client().get(path).status_code == 403, path
    assert client().get("/?ticket=once", headers={"Host": "evil.example"}).status_code == 421
    let_in = client()
    first = let_in.get("/?ticket=once")
    assert first.status_code == 200
    assert first.headers["set-cookie"].startswith("lmri-view-8765=right; ")
    for path in ("/", "/?ticket=once", "/api/study"):  # whoever is in stays in
        assert let_in.get(path).status_code == 200, path
    second = client().get("/?ticket=once")
    assert second.status_code == 403
    assert "Open the complete address that lmri view printed" in second.text
    for _ in range(2):
        assert client().get("/?token=right").status_code == 200
    assert TestClient(server.make_app(walked.root, "right"), base_url=HERE).get("/?ticket=").status_code == 403


@pytest.mark.skipif(not guard.CONNECTIONS[0].is_file(), reason="only Linux says whose a connection is")
def test_the_owner_of_a_connection_is_determined():
    own = os.geteuid()
    accounts = [own, 65534] if own == 0 else [own]  # only root can take another
    for account in accounts:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            os.seteuid(account)
            try:
                client = socket.create_connection(listening.getsockname())
            finally:
                os.seteuid(own)
            with client:
                ends = client.getsockname(), listening.getsockname()
                assert guard.is_own(*ends) == (account == own)
                assert not guard.is_own(("127.0.0.2", ends[0][1]), ends[1])
            assert not guard.is_own(*ends)  # what is closed is nobody's


def test_connections_are_accepted_if_the_system_reports_no_owner(monkeypatch, tmp_path):
    monkeypatch.setattr(guard, "CONNECTIONS", (tmp_path / "tcp", tmp_path / "tcp6"))
    assert guard.is_own(("127.0.0.1", 1), ("127.0.0.1", 2))
    (tmp_path / "tcp").write_text("sl\n")
    assert not guard.is_own(("127.0.0.1", 1), ("127.0.0.1", 2))
    row = "0: 0000000000000000FFFF0000{0}:0001 0000000000000000FFFF0000{0}:0002 01 0:0 0:0 0 {1} 0\n"
    place = "0100007F" if sys.byteorder == "little" else "7F000001"
    for account in (os.geteuid(), os.geteuid() + 1):
        (tmp_path / "tcp6").write_text("sl\n" + row.format(place, account))
        assert guard.is_own(("127.0.0.1", 1), ("127.0.0.1", 2)) == (account == os.geteuid())


def test_doubtful_headers_are_refused():
    host = (b"host", b"localhost")
    assert guard.refusal("GET", [])[0] == 400
    assert guard.refusal("GET", [host, (b"host", b"evil.example")])[0] == 400
    assert guard.refusal("GET", [host, (b"origin", b"http://localhost"), (b"origin", b"http://evil.example")])[0] == 400
    assert guard.refusal("POST", [host])[0] == 403  # a form of another page may leave it out, a script may not
    assert guard.refusal("POST", [host, (b"origin", b"http://localhost")]) is None


def test_refusals_reach_the_client_and_all_answers_bind_the_page(page):
    assert page.client.get("/api/study", headers={"Host": "evil.example"}).status_code == 421
    refused = page.client.get("/api/study", headers={"Origin": "http://evil.example"})
    assert refused.status_code == 403
    for answer in (refused, page.client.get("/api/study"), page.client.get("/nothing")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; ")
        assert "access-control-allow-origin" not in answer.headers


# -- regions of interest ----------------------------------------------------------------------------------------------


def test_neurons_are_saved_as_a_region_and_never_over_another(copy):
    page, neurons = Page(copy.root), [[0, 3], [1, 0], [0, 3]]
    assert page.ask("rois") == []
    answer = page.post({"site": SITE, "name": "mine", "neurons": neurons})
    assert answer.status_code == 201, answer.text
    said = answer.json()
    assert (said["path"], said["n_neurons"]) == ("lmri/sub-lmridemo/rois/mlphidden/mine.nii.gz", 2)
    path = copy.root / said["path"]
    assert said["command"] == f"lmri lesion {copy.root} --roi {path}"
    found = read_roi(path, copy.space())
    np.testing.assert_array_equal(found.members, members_of(copy.space(), neurons))
    assert page.ask("rois") == [{"name": "mine", "site": SITE, "n_neurons": 2}]
    assert page.ask("roi.nii.gz", site=SITE, name="mine") == path.read_bytes()
    again = page.post({"site": SITE, "name": "mine", "neurons": [[2, 2]]})
    assert again.status_code == 409
    assert "Choose another name" in again.json()["error"]
    assert page.ask("roi.nii.gz", site=SITE, name="mine") == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({"site": SITE, "name": "mine", "neurons": []}, 400),
        ({"site": SITE, "name": "mine", "neurons": [[99, 0]]}, 400),
        ({"site": SITE, "name": "mine", "neurons": [[0, 99999]]}, 400),
        ({"site": SITE, "name": "mine", "neurons": [[0, -1]]}, 400),
        ({"site": SITE, "name": "mine", "neurons": [[0, 1.5]]}, 400),
        ({"site": SITE, "name": "mine", "neurons": [[0, True]]}, 400),
        ({"site": SITE, "name": "mine", "neurons": [0, 1]}, 400),
        ({"site": SITE, "name": "mine", "neurons": {"0": 1}}, 400),
        ({"site": SITE, "name": "../mine", "neurons": [[0, 1]]}, 400),
        ({"site": SITE, "name": "a\x00b", "neurons": [[0, 1]]}, 400),
        ({"site": SITE, "name": "intact", "neurons": [[0, 1]]}, 400),
        ({"site": SITE, "name": 3, "neurons": [[0, 1]]}, 400),
        ({"site": "mlp_out", "name": "mine", "neurons": [[0, 1]]}, 404),
        ({"site": "../..", "name": "mine", "neurons": [[0, 1]]}, 404),
        ({"name": "mine"}, 400),
        ([], 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b"\xff", 400),
    ],
)
def test_regions_that_make_no_sense_are_refused(page, walked, content, status):
    answer = page.post(content)
    assert answer.status_code == status, answer.text
    assert len(answer.json()["error"]) > 10
    assert not walked.layout.rois()


@pytest.mark.parametrize("key", ["root", "fingerprint", "geometry"])
def test_neurons_that_were_drawn_on_another_study_are_refused(page, walked, key):
    answer = page.post({"site": SITE, "name": "mine", "neurons": [[0, 1]], key: "other"})
    assert answer.status_code == 409
    assert "Reload the page" in answer.json()["error"]
    content = page.draw({"site": SITE, "name": "mine", "neurons": [[0, 1]]})
    del content[key]
    answer = page.post(json.dumps(content).encode())
    assert answer.status_code == 400
    assert "geometry" in answer.json()["error"]
    assert not walked.layout.rois()


def test_a_region_is_saved_for_the_own_page_only(page, walked, monkeypatch):
    content = {"site": SITE, "name": "mine", "neurons": [[0, 1]]}
    assert page.post(content, Origin="http://evil.example").status_code == 403
    assert page.client.post("/api/rois", json=content).status_code == 403
    assert page.post(content, **{"Content-Type": "text/plain"}).status_code == 415
    monkeypatch.setattr(server, "LARGEST_BODY", 10)
    assert page.post(content).status_code == 413
    assert not walked.layout.rois()


# -- outside the study ------------------------------------------------------------------------------------------------


def test_links_that_lead_out_of_the_study_are_not_followed(copy, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    space = copy.space()
    roi = save(copy.layout, space, "mine", members_of(space, [[0, 1]]))
    events = copy.recording("code").runs[0].events
    moved = [roi, events, copy.layout.texts("news"), copy.entries.find("scores", "lesion-canica").folder / "entry.json"]
    for path in moved:
        shutil.move(path, secret / path.name)
        path.symlink_to(secret / path.name)
    page = Page(copy.root)
    problems = page.ask("study")["problems"]
    for words in ("mine", "code", "lesion-canica"):
        assert any(words in problem and re.search("out(side| of) the study", problem) for problem in problems), words
    assert page.ask("rois") == []
    page.ask("roi.nii.gz", 404, site=SITE, name="mine")
    page.ask("tokens", 404, site=SITE, corpus="code", run=1)
    assert page.ask("scores", **CHOICE) == []
    layer = {"site": SITE, "layer": 0, "neuron": 0, "run": 1}
    assert "links to a file outside" in page.ask("neuron", 404, **layer, corpus="news")["error"]
    page.ask("networks", site=SITE, set="canica")  # the rest is there

    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(roi.parent)
    roi.parent.symlink_to(outside)
    answer = page.post({"site": SITE, "name": "new", "neurons": [[0, 1]]})
    assert answer.status_code == 409
    assert list(outside.iterdir()) == []


def test_an_index_that_names_files_elsewhere_is_refused(copy, tmp_path):
    shutil.copy(copy.recording("code").runs[0].img, tmp_path / "elsewhere.nii")
    path = copy.layout.recording(SITE, "code")
    index = storage.read_json(path)
    for place in (str(tmp_path / "elsewhere.nii"), "../elsewhere.nii"):
        index["runs"][0]["img"] = place
        storage.write_json(path, index)
        page = Page(copy.root)
        assert any("outside the study" in problem for problem in page.ask("study")["problems"])
        page.ask("volume.nii", 404, site=SITE, corpus="code", run=1, volume=0)


# -- whatever state the study is in -----------------------------------------------------------------------------------


def test_a_study_without_anything_is_shown(tmp_path):
    layout = storage.Layout(tmp_path / "study")
    with pytest.raises(StudyError, match="lmri record"):
        server.make_app(tmp_path / "study")
    with adding(layout.root, ModelInfo("a/b", None, "0" * 16, "gpt2", "float32")):
        pass
    page = Page(layout.root)
    said = page.ask("study")
    assert (said["model"], said["sites"], said["problems"]) == ("a/b", [], [])
    for name in set(ANSWERS) - {"study", "rois"}:
        page.ask(name, 404, **EVERYTHING)


def test_a_recording_alone_is_shown(copy):
    for kind in storage.ENTRY_KINDS:
        shutil.rmtree(copy.layout.folder / kind, ignore_errors=True)
    page = Page(copy.root)
    said = page.ask("study")
    assert (said["problems"], said["sites"][0]["sets"], said["sites"][0]["comparisons"]) == ([], [], [])
    page.ask("neuron", **{key: value for key, value in EVERYTHING.items() if key != "set"})
    page.ask("networks", 404, **EVERYTHING)


def garbled(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_what_is_damaged_is_named_and_the_rest_is_shown(copy):
    def first(name, kind="networks"):
        return copy.layout.entry(kind, SITE, name)

    garbled(copy.recording("news").runs[0].img)
    garbled(first("nothing") / "entry.json")
    storage.write_json(first("lesion-canica", "scores") / "entry.json", {"name": "lesion-canica"})
    next(first("fastica-temporal").glob("*weights.nii.gz")).unlink()
    (copy.layout.folder / "networks" / "mlphidden" / "empty").mkdir()
    storage.write_text(copy.layout.folder / "networks" / "mlphidden" / ".partial-x" / "entry.json", "{")
    (copy.layout.unfinished / "more_mlpout").mkdir(parents=True)
    page = Page(copy.root)
    said = page.ask("study")
    for words in ("'nothing'", "lesion-canica", "weights.nii.gz", "news", "'empty'", "--resume"):
        assert any(words in problem for problem in said["problems"]), words
    assert not any("partial" in problem for problem in said["problems"])
    [site] = said["sites"]
    assert [one["name"] for one in site["sets"]] == ["canica"]
    assert [one["corpus"] for one in site["corpora"]] == ["code"]
    assert site["comparisons"] == []
    assert len(page.ask("networks", site=SITE, set="canica")["networks"]) == 4
    page.img("map.nii.gz", **CHOICE)
    page.ask("networks", 404, site=SITE, set="fastica-temporal")
    # A course is scaled by all runs, and one of them is gone.
    assert "'news'" in page.ask("course", 404, **CHOICE, corpus="code", run=1)["error"]
    assert page.ask("scores", **CHOICE) == []

    garbled(next(first("canica").glob("*weights.nii.gz")))
    fresh = Page(copy.root)
    assert "cannot be shown" in fresh.ask("map.nii.gz", 500, **CHOICE)["error"]
    fresh.ask("neuron", **EVERYTHING)


def test_a_time_course_without_its_last_volumes_is_refused(copy):
    """It would be scaled by what is left, and look whole."""
    path = next(copy.entries.find("decompositions", "canica").folder.glob("*task-news_run-001_mixing.tsv"))
    whole = path.read_text()
    path.write_text(whole[: whole[:-1].rindex("\n") + 1])
    n = copy.recording("news").runs[0].n_volumes
    page = Page(copy.root)
    for name, corpus in (("course", "news"), ("course", "code"), ("tops", "code")):
        assert f"{n - 1} rows for {n} volumes" in page.ask(name, 404, **CHOICE, corpus=corpus, run=1)["error"]
    path.write_text(whole)
    assert len(Page(copy.root).ask("course", **CHOICE, corpus="news", run=1)["values"]) == n


@pytest.mark.parametrize(("kind", "ending"), [("scores", "_scores.tsv"), ("comparisons", "_matches.tsv")])
def test_a_table_without_its_last_rows_is_named_and_not_shown(copy, kind, ending):
    [entry, *_] = copy.entries.list(kind)
    path = next(entry.folder.glob(f"*{ending}"))
    whole, page = path.read_text(), Page(copy.root)

    def ask():
        said = page.ask("study")
        if kind == "scores":
            return said["problems"], page.ask("scores", **CHOICE)
        return said["problems"], said["sites"][0]["comparisons"]

    problems, shown = ask()
    assert not problems
    assert shown
    path.write_text(whole[: whole[:-1].rindex("\n") + 1])
    problems, left = ask()
    assert any(f"{path.name} is missing or was changed" in problem for problem in problems)
    assert len(left) < len(shown)
    path.write_text(whole)
    assert ask() == ([], shown)


def test_what_was_made_of_something_else_is_not_shown(copy):
    path = copy.entries.find("decompositions", "canica").folder / "entry.json"
    content = storage.read_json(path)
    content["parameters"]["n_components"] = 5
    storage.write_json(path, content)
    said = Page(copy.root).ask("study")
    assert [one["name"] for one in said["sites"][0]["sets"]] == ["fastica-temporal"]
    assert any("out of date" in problem and "'canica'" in problem for problem in said["problems"])
    assert said["sites"][0]["comparisons"] == []


def test_a_study_may_change_while_it_is_looked_at(copy, tmp_path):
    page = Page(copy.root)
    folder = copy.entries.find("scores", "lesion-canica").folder
    rows = page.ask("scores", **CHOICE)
    shutil.move(folder, tmp_path / "aside")
    assert page.ask("scores", **CHOICE) == []
    shutil.move(tmp_path / "aside", folder)  # as if a lesion had ended
    assert page.ask("scores", **CHOICE) == rows != []
    assert page.ask("networks", site=SITE, set="canica")["networks"][2]["label"] == ""
    copy.label("canica-02", "<b>verbs</b>")
    assert page.ask("networks", site=SITE, set="canica")["networks"][2]["label"] == "<b>verbs</b>"
    shutil.rmtree(copy.entries.find("networks", "canica").folder)
    page.ask("map.nii.gz", 404, **CHOICE)


TEXT = ["<script>alert(1)</script>", "\u202eevil", "\u200b", "\ud800", "'\"&", "\x00", "\u2028", "NaN"]


def test_any_text_is_given_as_it_is_stored(copy):
    run = copy.recording("code").runs[0]
    events = copy.recording("code").events[0]
    events.loc[: len(TEXT) - 1, "token"] = TEXT
    storage.write_table(run.events, events)
    answer = Page(copy.root).client.get("/api/tokens", params={"site": SITE, "corpus": "code", "run": 1})
    assert answer.content.isascii()
    assert json.loads(answer.content)["tokens"][: len(TEXT)] == TEXT
    assert answer.headers["content-type"] == "application/json"


def test_hundreds_of_networks(copy):
    """500 networks of one set: they are listed, and each can be looked at."""
    space, rng = copy.space(), np.random.default_rng(0)
    weights = rng.laplace(size=(500, space.n_neurons)).astype(np.float32)
    many = NetworkSet(space, weights, method="many").threshold("z", z=4.0)
    source = copy.entries.find("decompositions", "canica")
    made = copy.entries.write(
        "decompositions", SITE, "many", source.inputs, {"method": "many"}, {}, lambda folder: None
    )

    def write(folder):
        file = lambda suffix: copy.layout.in_entry(folder, SITE, "many", suffix)  # noqa: E731
        table = many.table.assign(network=results.names("many", 500))
        storage.save_img(space.to_img(many.weights), file("weights.nii.gz"))
        storage.save_img(space.to_img(many.members), file("members.nii.gz"))
        storage.write_table(file("networks.tsv"), table)

    inputs = {"decomposition": "many", "decomposition_sha256": made.digest}
    copy.entries.write("networks", SITE, "many", inputs, many.origin.threshold, {"n_networks": 500}, write)
    page = Page(copy.root)
    assert page.ask("study")["problems"] == []
    said = page.ask("networks", site=SITE, set="many")["networks"]
    assert [row["n_neurons"] for row in said] == many.members.sum(axis=1).tolist()
    img = page.img("map.nii.gz", site=SITE, set="many", network="many-499")
    np.testing.assert_array_equal(space.from_img(img), many[499].z.astype(np.float32))


# -- parts ------------------------------------------------------------------------------------------------------------


def test_json_is_strict():
    given = {"a": np.float32(0.5), 1: np.array([1.0, np.nan]), "b": (np.int64(3), np.bool_(True), None, float("inf"))}
    assert plain(given) == {"a": 0.5, "1": [1.0, None], "b": [3, True, None, None]}
    assert plain(True) is True


def test_what_was_read_is_kept_until_its_file_changes(tmp_path):
    kept, file, n_read = Kept(2), tmp_path / "file", []

    def read():
        n_read.append(1)
        return file.read_text()

    file.write_text("one")
    assert [kept.get("a", [file], read) for _ in range(3)] == ["one"] * 3
    assert len(n_read) == 1
    file.write_text("two!")
    assert kept.get("a", [file], read) == "two!"
    for key in "bc":
        kept.get(key, [], lambda: None)
    kept.get("a", [file], read)
    assert len(n_read) == 3  # of two that are kept it was the first


def test_simultaneous_requests_read_a_file_once():
    kept, n_read, begun, go = Kept(9), [], threading.Event(), threading.Event()

    def read():
        n_read.append(1)
        begun.set()
        go.wait()
        return "it"

    found = []
    threads = [threading.Thread(target=lambda: found.append(kept.get("slow", [], read))) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    assert kept.get("other", [], lambda: 1) == 1  # does not wait for the slow one
    go.set()
    for thread in threads:
        thread.join()
    assert (found, len(n_read)) == (["it"] * 4, 1)


def test_the_state_changes_with_whatever_is_made(copy):
    page, states = Page(copy.root), []

    def state():
        states.append(page.ask("study")["state"])
        return states[-1]

    assert state() == state()
    copy.label("canica-02", "verbs")
    state()
    copy.save_scores(copy.scores("lesion-canica"), "more", SITE, None, {"intervention": "amplify"})
    state()
    shutil.rmtree(copy.entries.find("networks", "nothing").folder)
    state()
    assert len(set(states)) == 4


def test_one_click_lists_entries_once(walked, monkeypatch):
    clock, looks = [100.0], []
    look = CachedReader.look
    monkeypatch.setattr(holdings_module, "monotonic", lambda: clock[0])
    monkeypatch.setattr(CachedReader, "look", lambda self: looks.append(1) or look(self))
    page = TestClient(server.make_app(walked.root), base_url=HERE)
    for name in ("tops", "course", "scores", "map.nii.gz", "members.nii.gz", "tokens"):
        assert page.get(f"/api/{name}", params=EVERYTHING).status_code == 200
    assert len(looks) == 1
    page.get("/api/study")  # what the page compares with is what there is
    assert len(looks) == 2
    clock[0] += 2
    page.get("/api/scores", params=EVERYTHING)
    assert len(looks) == 3


def test_holdings_read_small_things_once(walked, monkeypatch):
    reader = CachedReader(walked.root, fresh=0)
    reader.contents()
    for module in ("files", "entries"):
        monkeypatch.setattr(
            f"lmri.storage.{module}.read_json", lambda path: pytest.fail(f"{path} is read again"), raising=True
        )
    monkeypatch.setattr(storage, "read_json", lambda path: pytest.fail(f"{path} is read again"))
    assert len(reader.contents().recordings) == 2


# -- running ----------------------------------------------------------------------------------------------------------


def test_niivue_is_found_and_served(page):
    path = server.niivue_path()
    assert path.stat().st_size > 1e6
    answer = page.client.get("/niivue.umd.js")
    assert answer.content == path.read_bytes()
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert b"Niivue" in answer.content


def test_without_niivue_the_command_and_the_page_say_what_to_install(page, walked, monkeypatch, tmp_path):
    monkeypatch.setattr(server.importlib.resources, "files", lambda package: tmp_path)
    assert "pip install 'nilearn" in page.client.get("/niivue.umd.js").json()["error"]
    with pytest.raises(StudyError, match="has no NiiVue bundle"):
        server.serve(walked.root)


def test_a_port_in_use_is_named_with_one_that_is_free(walked):
    with server.bound(0) as taken:
        host, port = taken.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(OSError, match=rf"Port {port} is not available .*--port \d+ is free") as error:
            server.serve(walked.root, port)
        free = int(str(error.value).split("--port ")[1].split()[0])
        with server.bound(free) as other:
            assert other.getsockname() == ("127.0.0.1", free)
    with pytest.raises(ValueError, match="65535"):
        server.bound(70000)


def test_the_port_is_the_usual_one_or_any_that_is_free(monkeypatch):
    with server.bound(0) as usual:
        monkeypatch.setattr(server, "PORT", usual.getsockname()[1])
        with server.bound() as other:
            assert other.getsockname()[1] != usual.getsockname()[1]
    with server.bound() as usual:
        assert usual.getsockname()[1] == server.PORT


def raw(url, path, **headers):
    """Ask for exactly this address, as a browser that was let in: other clients tidy it up first."""
    place = urlsplit(url)
    headers = {"Cookie": f"lmri-view-{place.port}={place.query.partition('=')[2]}", **headers}
    connection = http.client.HTTPConnection(place.hostname, place.port)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_a_real_server_answers_and_is_gone_afterwards(walked):
    with server.serving(walked.root) as url:
        status, body = raw(url, "/api/study")
        assert (status, json.loads(body)["name"]) == (200, walked.root.name)
        assert raw(url, "/api/study", Cookie="")[0] == 403
        with server.serving(walked.root) as other:
            assert other.partition("=")[2] != url.partition("=")[2]
            assert len(url.partition("=")[2]) >= 32
        for path in (
            "/page/../server.py", "/page/%2e%2e/server.py", "/page/..%2fserver.py", "/page//etc/passwd", "//etc/passwd",
            "/../../../../etc/passwd", "/page/%00", "/api/../lmri/study.json", "/%2e%2e/study.json",
        ):  # fmt: skip
            status, body = raw(url, path)
            assert status == 404, path
            assert b"root:" not in body
        asked = urlencode({"site": SITE, "name": "../../../../../../etc/passwd"})
        assert raw(url, f"/api/roi.nii.gz?{asked}")[0] == 404
        assert raw(url, "/api/study", Host="evil.example")[0] == 421
        assert raw(url, "/api/study", Origin="http://evil.example")[0] == 403
    with pytest.raises(OSError, match="refused"):
        raw(url, "/")


def test_the_command_prints_its_address_and_ends_with_ctrl_c(walked):
    command = [sys.executable, "-m", "lmri.cli", "view", str(walked.root), "--port", "0", "--no-browser", "--json"]
    code = "from lmri.cli import main; main()"
    command[1:3] = ["-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = "".join(process.stdout.readline() for _ in range(3))
        url = json.loads(said)["url"]
        assert raw(url, "/api/study")[0] == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")


def test_the_address_that_a_browser_is_started_with_is_worth_nothing_to_others(walked):
    code = "from lmri.cli import main; main()"
    command = [sys.executable, "-c", code, "view", str(walked.root), "--port", "0"]
    environment = {**os.environ, "BROWSER": "/bin/echo %s"}  # prints what stands on its command line
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            printed, opened = (process.stdout.readline().strip() for _ in range(2))
            assert printed.partition("=")[2] not in opened
            printed, opened = urlsplit(printed), urlsplit(opened)
            assert (opened.netloc, opened.query.partition("=")[0]) == (printed.netloc, "ticket")
            for query, wanted in ((opened.query, [200, 403]), (printed.query, [200, 200])):
                assert [raw(printed.geturl(), f"/?{query}", Cookie="")[0] for _ in range(2)] == wanted
        finally:
            process.send_signal(signal.SIGINT)


def test_looking_at_a_study_loads_no_torch(walked):
    asked = [f"/api/{name}?{urlencode(EVERYTHING)}" for name in sorted(set(ANSWERS) - {"roi.nii.gz"})]
    code = (
        "import http.cookiejar, urllib.request\nfrom lmri.report.viewer import serving\n"
        "jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())\n"
        "go = urllib.request.build_opener(jar).open\n"
        f"with serving({str(walked.root)!r}) as url:\n"
        f"    go(url).read()\n"
        f"    for one in {asked!r}: go(url.partition('?')[0] + one[1:]).read()"
    )
    assert _loaded(code) == set()
