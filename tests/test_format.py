"""What docs/format.md says of a study, clause by clause, on a study that the embedded model made.

Files are read here as the page says, with nibabel, json and str.split, so that code and page have to agree.
"""

import hashlib
import json
import math
import re
import shutil
from itertools import chain
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import lmri
from lmri.exceptions import NonFiniteError, SpaceMismatchError, StudyError
from lmri.storage import escape, unescape
from tolerances import rounding

PAGE = Path(__file__).parents[1] / "docs" / "format.md"


@pytest.fixture(scope="module")
def root(walked):
    return walked.root


@pytest.fixture
def copy(root, tmp_path):
    return Path(shutil.copytree(root, tmp_path / "study"))


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _table(path):
    """Split a table as F17 says: rows are lines, fields lie between tabs."""
    text = path.read_bytes().decode("utf-8")
    assert text.endswith("\n")
    header, *rows = [line.split("\t") for line in text[:-1].split("\n")]
    assert {len(row) for row in rows} <= {len(header)}
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def _bolds(root):
    return sorted(root.glob("sub-*/func/*_bold.nii"))


def _sidecar(path):
    return path.with_name(path.name.split(".nii")[0] + ".json")


def _sha(content):
    return hashlib.sha256(content).hexdigest()[:16]


def _entries(root):
    return sorted(root.glob("lmri/*/*/*/*/entry.json"))


def _images(root):
    return sorted(path for path in root.rglob("*.nii*"))


def _fold(width):
    """Fold as F8 says, by trying all factors."""
    pairs = [(width // ny, ny) for ny in range(1, width + 1) if width % ny == 0 and ny <= width // ny <= 2 * ny]
    if pairs:
        return min(pairs, key=lambda pair: pair[0])
    nx = math.ceil(math.sqrt(width))
    return nx, math.ceil(width / nx)


def test_every_clause_of_the_page_has_a_test_here():
    clauses = re.findall(r"^\*\*F(\d+)\.\*\*", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert clauses == [str(number) for number in range(1, len(clauses) + 1)]
    tested = [int(name.split("_")[1][1:]) for name in globals() if re.match(r"test_f\d+_", name)]
    assert sorted(tested) == list(range(1, len(clauses) + 1))


# -- the folder -------------------------------------------------------------------------------------------------------


def test_f1_study_json_makes_a_study_and_newer_ones_are_refused(copy):
    path = copy / "lmri" / "study.json"
    about = _json(path)
    assert about == {"format_version": 2}
    model = _json(copy / "lmri" / "sub-lmridemo" / "model.json")
    assert set(model) == {"subject", "session", "model"}
    assert set(model["model"]) == {"id", "revision", "fingerprint", "model_type", "dtype"}
    for version, words in ((3, "Update lmri"), (1, "lmri upgrade")):
        path.write_text(json.dumps({**about, "format_version": version}))
        with pytest.raises(StudyError, match=f"format version {version}.*{words}"):
            lmri.open_study(copy)
    path.unlink()
    with pytest.raises(StudyError, match="not a study"):
        lmri.open_study(copy)


def test_f2_what_bids_has_no_name_for_is_ignored_by_it(root):
    description = _json(root / "dataset_description.json")
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "lmri"
    ignored = (root / ".bidsignore").read_text().split()
    known = {"dataset_description.json", "participants.tsv", "participants.json", "README.md", ".bidsignore"}
    for path in root.rglob("*"):
        inside = path.relative_to(root)
        if path.is_dir() or inside.parts[0] in ignored or any(inside.match(one) for one in ignored):
            continue
        is_named = re.fullmatch(r"sub-\w+_task-.+_(bold|events|mask|dseg)\.(nii|nii\.gz|tsv|json)", path.name)
        assert inside.as_posix() in known or (inside.parts[1] == "func" and is_named), inside


def test_f3_one_subject(root):
    [model] = root.glob("lmri/*/model.json")
    subject = f"sub-{_json(model)['subject']}"
    assert model.parent.name == subject
    assert [path.name for path in root.glob("sub-*")] == [subject]
    assert {path.parent for path in root.rglob("*_bold.nii")} == {root / subject / "func"}


def test_f4_what_is_not_whole_is_not_there(copy):
    study = lmri.open_study(copy)
    before = [entry.name for entry in study.entries.list("networks")]
    (copy / "lmri" / "sub-lmridemo" / "networks" / "mlphidden" / ".partial-half").mkdir()
    assert [entry.name for entry in study.entries.list("networks")] == before
    assert list(copy.rglob(".partial-*/entry.json")) == []


def test_f5_no_absolute_path_and_no_time_but_in_the_log(root):
    log = root / "lmri" / "log.jsonl"
    assert all("time" in json.loads(line) for line in log.read_text().splitlines())
    year = json.loads(log.read_text().splitlines()[0])["time"][:4]
    for path in chain(root.rglob("*.json"), root.rglob("*.tsv"), root.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        assert str(root) not in text, path
        assert not re.search(rf"\b{year}-\d\d-\d\dT", text), path
    for index in root.glob("lmri/*/recordings/*/*.json"):
        for run in _json(index)["runs"]:
            for kind in ("img", "events", "tokens"):
                assert not Path(run[kind]).is_absolute()
                assert "\\" not in run[kind]
                assert (root / run[kind]).is_file()


def test_f6_what_is_not_known_is_ignored_and_what_is_derived_may_go(copy):
    path = copy / "lmri" / "study.json"
    path.write_text(json.dumps({**_json(path), "colour": "red"}))
    (copy / "lmri" / "colours").mkdir()
    events = next(copy.glob("sub-*/func/*_events.tsv"))
    header, *rows = events.read_text(encoding="utf-8").splitlines()
    events.write_text("\n".join([f"{header}\tmood", *(f"{row}\tNA" for row in rows)]) + "\n", encoding="utf-8")
    (copy / "report.html").unlink()
    for name in ("sub-lmridemo/qc", ".items"):
        shutil.rmtree(copy / "lmri" / name, ignore_errors=True)
    study = lmri.open_study(copy)
    runs = [table for recording in study.recordings() for table in recording.events]
    assert set().union(*(table["mood"].tolist() for table in runs if "mood" in table)) == {"NA"}
    assert len(study.networks("canica")) == 4
    assert len(study.scores("lesion-canica").summary())


# -- neurons and voxels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [[512] * 6, [193, 7, 40]])
def test_f7_which_voxel_a_neuron_is(widths):
    space = lmri.NeuronSpace.build(widths)
    nx, ny, nz = space.to_dict()["grid"]
    values = np.arange(1, sum(widths) + 1)
    data = np.asarray(space.to_img(values).dataobj)
    expected = np.zeros((nx, ny, nz))
    numbers = iter(values)
    for z, width in enumerate(widths):
        for n in range(width):
            expected[n % nx, n // nx, z] = next(numbers)
    np.testing.assert_array_equal(data, expected)


def test_f8_how_a_layer_is_folded():
    for width in [1, 2, 3, 7, 13, 64, 120, 193, 512, 768, 3072, 11008, 18944]:
        assert lmri.NeuronSpace.build([width]).shape[:2] == _fold(width)


def test_f9_the_mask_says_where_neurons_are(root):
    for path in root.glob("sub-*/func/*_mask.nii.gz"):
        img = nib.load(path)
        assert img.get_data_dtype() == np.uint8
        assert np.asarray(img.dataobj).min() == 1  # layers of 512 fill their slices
    space = lmri.NeuronSpace.build([193, 7])
    mask = np.asarray(space.mask_img.dataobj)
    x, y, z = np.indices(mask.shape)
    np.testing.assert_array_equal(mask, x + mask.shape[0] * y < np.array([193, 7])[z])
    assert not np.asarray(space.to_img(np.ones(200)).dataobj)[mask == 0].any()


def test_f10_labels_are_layers_counted_from_one(root):
    for path in root.glob("sub-*/func/*_dseg.nii.gz"):
        img = nib.load(path)
        assert img.get_data_dtype() == np.int16
        data = np.asarray(img.dataobj)
        np.testing.assert_array_equal(data, np.broadcast_to(np.arange(1, data.shape[2] + 1), data.shape))
        table = _table(path.with_name(path.name.replace(".nii.gz", ".tsv")))
        assert table["index"] == [str(number) for number in range(1, data.shape[2] + 1)]
        assert {"name", "color"} <= set(table)


# -- images -----------------------------------------------------------------------------------------------------------


def test_f11_a_token_is_a_range_of_bytes(root):
    for path in _bolds(root):
        img, content = nib.load(path), path.read_bytes()
        assert type(img) is nib.Nifti1Image
        assert content[344:348] == b"n+1\0"
        offset = int(np.frombuffer(content, "<f4", 1, 108)[0])
        assert np.frombuffer(content, "<i2", 2, 70).tolist() == [16, 32]  # float32, 32 bits
        assert np.frombuffer(content, "<f4", 2, 112).tolist() in ([1, 0], [0, 0])  # slope and intercept
        nx, ny, nz, n_volumes = img.shape
        assert n_volumes <= 32767
        data = np.frombuffer(content, "<f4", offset=offset).reshape(n_volumes, nz, ny, nx)
        np.testing.assert_array_equal(data.transpose(3, 2, 1, 0), np.asarray(img.dataobj))


def test_f12_what_is_not_finite_is_refused(copy):
    assert all(np.isfinite(np.asarray(nib.load(path).dataobj)).all() for path in _images(copy))
    path = _bolds(copy)[0]
    content = bytearray(path.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    path.write_bytes(content)
    recording = next(one for one in lmri.open_study(copy).recordings() if str(path) in one.imgs)
    with pytest.raises(NonFiniteError):
        recording.space.from_img(path)


def test_f13_millimetres_are_voxels_and_seconds_tokens(root):
    for path in _images(root):
        header = nib.load(path).header
        for affine, code in (header.get_sform(coded=True), header.get_qform(coded=True)):
            assert code == 1, path
            np.testing.assert_array_equal(affine, np.eye(4))
        assert header.get_xyzt_units() == ("mm", "sec")
        assert set(header.get_zooms()) == {1.0}


def test_f14_intent_codes(root):
    none = dict.fromkeys(("bold", "mask", "members", "mean"), 0)
    codes = {**none, "components": 1001, "weights": 1001, "statmap": 5, "dseg": 1002, "layers": 1002}
    seen = set()
    for path in _images(root):
        kind = path.name.split(".nii")[0].rsplit("_", 1)[-1]
        assert int(nib.load(path).header["intent_code"]) == codes[kind], path
        seen.add(kind)
    assert seen == set(codes)
    assert int(lmri.NeuronSpace.build([4]).to_img(np.ones(4), "t").header["intent_code"]) == 3


def test_f15_the_header_says_which_neuron_is_which_voxel(root):
    for path in _images(root):
        extensions = nib.load(path).header.extensions
        if path.name.split(".nii")[0].endswith(("_mask", "_dseg", "layers")):
            assert len(extensions) == 0
            continue
        assert [one.get_code() for one in extensions] == [6]
        space = json.loads(extensions[0].text)["lmri"]
        assert {"site", "grid", "layout", "layers", "model"} == set(space)
        if path.name.endswith("_bold.nii"):
            assert space == _json(_sidecar(path))["LMRI"]


def test_f16_flipped_images_are_read_and_resampled_ones_refused(root):
    path = _bolds(root)[0]
    space, img = lmri.open_study(root).space(), nib.load(path)
    data = np.asarray(img.dataobj)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = data.shape[0] - 1
    np.testing.assert_array_equal(space.from_img(nib.Nifti1Image(data[::-1], flip)), space.from_img(img))
    with pytest.raises(SpaceMismatchError):
        space.from_img(nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])))


# -- tables -----------------------------------------------------------------------------------------------------------


def test_f17_rows_are_lines_whoever_reads(root):
    for path in root.rglob("*.tsv"):
        _table(path)
        assert b'"' not in path.read_bytes()
        assert b"\r" not in path.read_bytes()
    nasty = 'a\tb\nc\rd\\e"f\x00g\u2028h\ud800 NA n/a'
    field = escape(nasty)
    assert field == r"a\tb\nc\rd\\e\u0022f\u0000g\u2028h\ud800 NA n/a"
    assert unescape(field) == nasty
    text = next((root / "lmri" / "texts").glob("*.tsv"))
    assert any(r"\u0022quoted\u0022" in one for one in _table(text)["text"])  # as the walk's texts have it


def test_f18_an_event_is_a_volume(root):
    for path in _bolds(root):
        events = _table(path.with_name(re.sub(r"_space-.*", "_events.tsv", path.name)))
        n_volumes = nib.load(path).shape[3]
        assert [float(onset) for onset in events["onset"]] == list(range(n_volumes))
        assert {float(duration) for duration in events["duration"]} == {1.0}
        first = ["onset", "duration", "trial_type", "text_id", "token", "token_id", "position", "start", "end"]
        assert list(events) == first
        assert set(events["trial_type"]) == {re.search("task-([^_]+)", path.name)[1]}


def test_f19_a_token_says_which_volume_it_is_in(root):
    for path in root.glob("sub-*/func/*_tokens.tsv"):
        tokens = _table(path)
        events = _table(path.with_name(path.name.replace("_tokens", "_events")))
        kept = [number for number, volume in enumerate(tokens["volume"]) if volume != "n/a"]
        assert [float(tokens["volume"][number]) for number in kept] == list(range(len(events["onset"])))
        assert [tokens["token_id"][number] for number in kept] == events["token_id"]
        assert {tokens["dummy"][number] for number in kept} == {"0"}
        assert set(tokens["dummy"]) == {"0", "1"}


def test_f20_texts_and_their_hashes(root):
    for path in (root / "lmri" / "texts").glob("*.tsv"):
        texts = _table(path)
        assert list(texts) == ["text_id", "sha256", "split", "text"]
        own = _table(root / "lmri" / "sub-lmridemo" / "texts" / path.name)
        assert list(own) == ["text_id", "run", "n_tokens", "n_volumes", "n_cut"]
        assert own["text_id"] == texts["text_id"]
        assert texts["sha256"] == [_sha(unescape(text).encode()) for text in texts["text"]]


def test_f21_texts_held_out_are_in_no_image(root):
    side = {}
    for path in (root / "lmri" / "texts").glob("*.tsv"):
        texts = _table(path)
        for sha, split in zip(texts["sha256"], texts["split"], strict=True):
            assert side.setdefault(sha, split) == split
    assert set(side.values()) == {"fit", "test"}
    recorded = [text["sha256"] for path in _bolds(root) for text in _json(_sidecar(path))["Texts"]]
    assert {side[sha] for sha in recorded} == {"fit"}
    split = _table(root / "lmri" / "split.tsv")
    assert {(sha, one) for sha, one in zip(split["sha256"], split["split"], strict=True)} == set(side.items())


# -- recordings and results -------------------------------------------------------------------------------------------


def test_f22_the_index_makes_a_recording(copy):
    indices = sorted(copy.glob("lmri/*/recordings/*/*.json"))
    for path in indices:
        index = _json(path)
        needed = {"corpus", "n_volumes", "texts_sha256", "parameters", "versions", "space", "runs"}
        assert needed <= set(index)
        assert index["n_volumes"] == sum(run["n_volumes"] for run in index["runs"])
        for run in index["runs"]:
            assert nib.load(copy / run["img"]).shape[3] == run["n_volumes"]
    assert len(lmri.open_study(copy).recordings()) == len(indices) == 2
    indices[0].unlink()
    assert [one.corpus for one in lmri.open_study(copy).recordings()] == [indices[1].stem]


def test_f23_an_entry_names_all_of_its_files(copy):
    assert len(_entries(copy)) >= 8
    for path in _entries(copy):
        entry = _json(path)
        assert set(entry) == {"kind", "name", "site", "inputs", "parameters", "results", "versions", "files"}
        assert (path.parents[2].name, path.parent.name) == (entry["kind"], entry["name"])
        there = {one.name: _sha(one.read_bytes()) for one in path.parent.iterdir() if one != path}
        assert there == entry["files"]
    (path.parent / next(iter(entry["files"]))).write_bytes(b"changed")
    found = lmri.open_study(copy).entries.find(entry["kind"], entry["name"], entry["site"])
    assert len(found.check_files()) == 1


def test_f24_entries_name_their_parents_by_content(copy):
    def digest(path):
        entry = _json(path)
        content = [entry["inputs"], entry["parameters"], entry["files"]]
        return _sha(json.dumps(content, sort_keys=True).encode())

    networks = copy / "lmri" / "sub-lmridemo" / "networks" / "mlphidden" / "canica" / "entry.json"
    parent = copy / "lmri" / "sub-lmridemo" / "decompositions" / "mlphidden" / "canica" / "entry.json"
    inputs = _json(networks)["inputs"]
    assert inputs == {"decomposition": "canica", "decomposition_sha256": digest(parent)}
    scores = copy / "lmri" / "sub-lmridemo" / "scores" / "mlphidden" / "lesion-canica" / "entry.json"
    assert _json(scores)["inputs"]["networks_sha256"] == digest(networks)
    parent.write_text(json.dumps({**_json(parent), "parameters": {"n_components": 5}}))
    with pytest.raises(StudyError, match="has changed since"):
        lmri.open_study(copy).networks("canica")


def _of(folder, suffix):
    return next(path for path in folder.iterdir() if path.name.endswith(suffix) and "network-" not in path.name)


def test_f25_a_decomposition(root):
    folder = root / "lmri" / "sub-lmridemo" / "decompositions" / "mlphidden" / "canica"
    maps = np.asarray(nib.load(_of(folder, "_components.nii.gz")).dataobj, dtype=np.float64)
    n_maps = maps.shape[3]
    for number in range(n_maps):
        one = next(path for path in folder.iterdir() if f"_component-{number:02d}_stat-z_" in path.name)
        z = (maps[..., number] - maps[..., number].mean()) / maps[..., number].std()
        np.testing.assert_allclose(np.asarray(nib.load(one).dataobj), z, atol=rounding(z, 1, np.float32))
    volumes = np.concatenate([np.asarray(nib.load(path).dataobj) for path in _bolds(root)], axis=3)
    mean = np.asarray(nib.load(_of(folder, "_mean.nii.gz")).dataobj)
    np.testing.assert_allclose(mean, volumes.mean(axis=3, dtype=np.float64), atol=rounding(volumes))
    assert len(_table(_of(folder, "_metrics.tsv"))["network"]) == n_maps == 4
    for path in _bolds(root):
        corpus, run = re.search(r"_(task-[^_]+)_(run-\d+)_", path.name).groups()
        mixing = _table(_of(folder, f"_{corpus}_{run}_mixing.tsv"))
        assert list(mixing) == [f"canica-{number:02d}" for number in range(n_maps)]
        assert {len(column) for column in mixing.values()} == {nib.load(path).shape[3]}


def test_f26_networks(root):
    folder = root / "lmri" / "sub-lmridemo" / "networks" / "mlphidden" / "canica"
    weights, members, shown = (
        np.asarray(nib.load(_of(folder, suffix)).dataobj, dtype=np.float64)
        for suffix in ("_weights.nii.gz", "_members.nii.gz", "_stat-z_statmap.nii.gz")
    )
    assert set(np.unique(members)) == {0, 1}
    z = (weights - weights.mean(axis=(0, 1, 2))) / weights.std(axis=(0, 1, 2))  # every voxel holds a neuron
    np.testing.assert_allclose(shown, np.where(members, z, 0), atol=rounding(z, 1, np.float32))
    np.testing.assert_array_equal(members == 1, np.abs(z) > 3)
    for number in range(weights.shape[3]):
        one = next(path for path in folder.iterdir() if f"_network-{number:02d}_" in path.name)
        np.testing.assert_array_equal(np.asarray(nib.load(one).dataobj), shown[..., number].astype(np.float32))
    empty = root / "lmri" / "sub-lmridemo" / "networks" / "mlphidden" / "nothing"
    assert not np.asarray(nib.load(_of(empty, "_members.nii.gz")).dataobj).any()


def test_f27_scores(root):
    folder = root / "lmri" / "sub-lmridemo" / "scores" / "mlphidden" / "lesion-canica"
    assert {"items.tsv.gz", "conditions.tsv", "scores.tsv"} <= {
        path.name.rsplit("_", 1)[1] for path in folder.iterdir() if path.name != "entry.json"
    }
    stored = _table(_of(folder, "_scores.tsv"))
    assert stored["condition"][0] == "intact"
    again = lmri.open_study(root).scores("lesion-canica").summary()
    np.testing.assert_array_equal([float(value) for value in stored["value"]], again["value"])


def test_reading_without_lmri_as_the_page_shows_it(root):
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert "lmri" not in code.lower().replace('["lmri"]', "")
    names = {}
    exec(compile(code.replace('"study"', repr(str(root))), str(PAGE), "exec"), names)
    space = lmri.open_study(root).space()
    np.testing.assert_array_equal(np.concatenate(names["layers"], axis=1), space.from_img(names["path"]))
