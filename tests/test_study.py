"""A study stores entries unchanged, records their inputs, and overwrites nothing."""

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import lmri
import lmri.exceptions
from lmri import FastICA, storage
from lmri.demo.texts import generate
from lmri.exceptions import AmbiguousChoiceError, EntryExistsError, StudyError
from lmri.models import describe_model
from lmri.report.validation import validate
from lmri.storage.adding import adding
from lmri.storage.files import lock_wait
from lmri.study import open_study
from sharing import SHARED


@pytest.fixture
def copy(walked, tmp_path):
    """Return a copy of the study that the test may change."""
    return open_study(shutil.copytree(walked.root, tmp_path / "study"))


def test_networks_come_back_as_they_went_in(walked):
    maps, networks = walked.decomposition("canica"), walked.networks("canica")
    again = maps.threshold("z", z=3.0)
    assert np.array_equal(networks.weights, again.weights)
    assert np.array_equal(networks.members, again.members)
    assert networks.space == walked.space()
    assert networks.origin.threshold == again.origin.threshold
    assert networks.names == ["canica-00", "canica-01", "canica-02", "canica-03"]
    pd.testing.assert_frame_equal(networks.table, again.table)


def test_an_empty_set_of_networks_is_stored_and_opened(walked):
    nothing = walked.networks("nothing")
    assert nothing.table["n_neurons"].tolist() == [0] * 4
    summary = walked.scores("lesion-nothing").summary()
    lesioned = summary[summary["network"].str.startswith("nothing")]
    assert (lesioned["n_neurons"] == 0).all()
    assert (lesioned["diff"] == 0).all()
    assert lesioned["p"].isna().all()


def test_fitted_texts_travel_with_networks_and_are_not_the_ones_held_out(walked):
    fitted = walked.networks("canica").fit_texts
    for recording in walked.group():
        assert {storage.text_hash(text) for text in recording.fit_texts} <= fitted
        assert not {storage.text_hash(text) for text in recording.test_texts} & fitted


def test_time_courses_have_a_row_a_volume(walked):
    courses = walked.time_courses("canica")
    volumes = [len(events) for recording in walked.group() for events in recording.events]
    assert [len(table) for _, _, table in courses] == volumes
    assert list(courses[0][2]) == walked.networks("canica").names


def test_a_time_course_that_was_cut_short_is_refused(copy):
    entry = copy.entries.find("decompositions", "canica")
    path = sorted(entry.folder.glob("*_mixing.tsv"))[0]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-3]))
    with pytest.raises(StudyError, match=rf"has {len(lines) - 4} rows, but run 1 of .* has {len(lines) - 1} volumes"):
        copy.time_courses("canica")
    assert "rows, but run 1" in copy.report().read_text(encoding="utf-8")  # what is left is shown


def test_scores_come_back_with_the_same_summary(walked):
    entry = walked.entries.find("scores", "lesion-canica")
    stored = walked.layout.in_entry(entry.folder, entry.site, entry.name, "scores.tsv")
    from lmri.lesions.scores import SUMMARY_TEXT

    pd.testing.assert_frame_equal(
        storage.read_table(stored, SUMMARY_TEXT), walked.scores("lesion-canica").summary(), check_dtype=False
    )


def test_a_choice_that_is_ambiguous_lists_the_options(walked):
    with pytest.raises(AmbiguousChoiceError, match=r"several recordings, and none was chosen.* code \(.* news \("):
        walked.recording()
    with pytest.raises(AmbiguousChoiceError, match=r"several networks.* canica \(mlp_hidden\), fastica-temporal \("):
        walked.networks()
    with pytest.raises(AmbiguousChoiceError, match=r"There are no networks named 'pca' in .* Choose from: canica"):
        walked.networks("pca")
    assert walked.recording("news").corpus == "news"
    assert walked.site() == "mlp_hidden"


def test_two_sites_need_a_choice(recorded):
    assert recorded.sites == ["mlp_hidden", "mlp_out"]
    with pytest.raises(
        AmbiguousChoiceError, match=r"Choose from: mlp_hidden, mlp_out\. Use --site \(site= in Python\)"
    ):
        recorded.space()
    assert recorded.recording(site="mlp_out").space.site == "mlp_out"


def test_an_entry_is_made_once_and_never_overwritten(copy):
    networks = copy.decomposition("canica").threshold("z", z=3.0)
    folder = copy.layout.entry("networks", "mlp_hidden", "canica")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    copy.save_networks(networks, "canica")  # the same again is the same
    reworded = networks.origin.threshold | {"description": "z of another version, in other words"}
    copy.save_networks(replace(networks, origin=replace(networks.origin, threshold=reworded)), "canica")
    with pytest.raises(EntryExistsError, match=r"z: 3\.0 stored, 2\.0 requested.*lmri threshold STUDY canica"):
        copy.save_networks(networks.threshold("z", z=2.0), "canica")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    copy.save_networks(networks.threshold("z", z=2.0), "canica", "looser")
    assert copy.networks("looser").members.sum() > networks.members.sum()


def test_entries_say_what_they_are_made_of(walked):
    entry = walked.entries.find("decompositions", "canica")
    assert entry.inputs["corpora"] == ["code", "news"]
    assert entry.parameters["n_components"] == 4
    assert entry.parameters["random_state"] == 0
    assert {"lmri", "nilearn", "numpy"} <= set(entry.versions)
    assert entry.results["convergence"]["n_starts"] == 10


def test_nothing_on_disk_knows_when_and_where_it_was_made(walked):
    for path in walked.root.rglob("*"):
        if path.is_file() and path != walked.layout.log:
            content = path.read_bytes()
            assert str(walked.root).encode() not in content, path
            assert str(SHARED).encode() not in content, path  # where it was built


def test_texts_that_were_fitted_cannot_be_scored(walked):
    recording = walked.recording("news")
    walked.check_apart(recording.test_texts, "the test texts")
    with pytest.raises(StudyError, match="1 of the 2 texts of mine were recorded for fitting"):
        walked.check_apart([recording.fit_texts[0], recording.test_texts[0]], "mine")


def test_newer_and_foreign_folders_are_refused(copy, tmp_path):
    with pytest.raises(StudyError, match="is not a study"):
        open_study(tmp_path)
    info = json.loads(copy.layout.study.read_text())
    copy.layout.study.write_text(json.dumps(info | {"format_version": 99}))
    with pytest.raises(StudyError, match=r"format version 99.*Update lmri"):
        open_study(copy.root)


# -- validation -------------------------------------------------------------------------------------------------------


def test_a_whole_study_has_no_problem_also_by_the_bids_validator(walked):
    found = validate(walked)
    assert found.problems == []
    assert found.notes == ["Checked by the BIDS validator."]


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def _drop_row(path):
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def _nan(path):
    content = bytearray(path.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("pattern", "damage", "says"),
    [
        ("sub-*/func/*task-news_run-001*_bold.nii", _cut, "cut short"),
        ("sub-*/func/*task-news_run-001*_bold.nii", lambda path: path.unlink(), "is missing"),
        ("sub-*/func/*task-news_run-001*_bold.nii", _nan, "holds nan"),
        ("sub-*/func/*task-news_run-001_events.tsv", _drop_row, "its events"),
        ("sub-*/func/*task-news_*_mask.nii.gz", lambda path: path.unlink(), "does not exist"),
        ("lmri/*/networks/*/canica/*_members.nii.gz", _cut, "members.nii.gz"),
        ("lmri/*/scores/*/lesion-canica/*_items.tsv.gz", _cut, "not a complete table"),
        ("lmri/texts/news.tsv", lambda path: path.unlink(), "is missing"),
        ("lmri/*/networks/*/canica/entry.json", lambda path: path.write_text("{"), "not complete JSON"),
        ("dataset_description.json", lambda path: path.unlink(), "BIDS"),
    ],
)
def test_damage_is_found_and_named(copy, monkeypatch, pattern, damage, says):
    (path,) = copy.root.glob(pattern)
    damage(path)
    if says != "BIDS":  # the BIDS validator is a program of its own, and finds none of the others
        monkeypatch.setattr("lmri.report.validation._check_bids", lambda *_: None)
    problems = validate(open_study(copy.root)).problems
    assert any(says in problem for problem in problems), problems


def test_what_an_interrupted_command_leaves_is_named(copy):
    (copy.root / "lmri" / ".partial-entry").mkdir()
    assert any("left over" in problem for problem in validate(copy).problems)


# -- what belongs together --------------------------------------------------------------------------------------------


def _replace_decomposition(study):
    """Delete the decomposition that other entries depend on, and store another under its name."""
    shutil.rmtree(study.layout.entry("decompositions", "mlp_hidden", "canica"))
    recordings = study.group()
    other = FastICA(study.space(), 5).fit([img for one in recordings for img in one.imgs])
    study.save_decomposition(other, recordings, "canica")


@pytest.mark.filterwarnings("ignore")
def test_what_was_made_from_a_replaced_decomposition_is_refused_not_shown(copy):
    _replace_decomposition(copy)
    with pytest.raises(StudyError, match=r"Networks 'canica' .* out of date: the decomposition 'canica'.*Delete"):
        copy.networks("canica")
    with pytest.raises(StudyError, match="out of date"):
        copy.report()
    assert any("out of date" in problem for problem in validate(copy).problems)
    # Networks made anew make the scores of the old ones stale in turn.
    shutil.rmtree(copy.layout.entry("networks", "mlp_hidden", "canica"))
    copy.save_networks(copy.decomposition("canica").threshold("z", z=3.0), "canica")
    with pytest.raises(StudyError, match=r"Scores 'lesion-canica' .* out of date: the networks 'canica'"):
        copy.scores("lesion-canica")
    with pytest.raises(StudyError, match="comparisons"):
        copy.comparison()


def test_an_estimator_fitted_on_other_recordings_is_not_stored(copy):
    news, code = copy.recording("news"), copy.recording("code")
    estimator = FastICA(copy.space(), 3).fit(news.imgs)
    for wrong in ([code], [news, code]):
        with pytest.raises(ValueError, match="fitted on runs of"):
            copy.save_decomposition(estimator, wrong, "other")
    copy.save_decomposition(estimator, [news], "other")


def test_other_scores_under_the_same_name_are_refused_not_dropped(copy):
    scores = copy.scores("lesion-canica")
    entry = copy.entries.find("scores", "lesion-canica")
    made_of = {key: value for key, value in entry.inputs.items() if not key.startswith("networks")}
    same = replace(scores, made_of=made_of)
    copy.save_scores(same, "lesion-canica", "mlp_hidden", "canica", {"intervention": "lesion"})
    other = replace(scores, made_of={**made_of, "tasks": {"perplexity-news": "0" * 16}})
    with pytest.raises(EntryExistsError, match="tasks"):
        copy.save_scores(other, "lesion-canica", "mlp_hidden", "canica", {"intervention": "lesion"})


def test_a_prompt_that_holds_a_fitted_text_counts_as_fitted(walked):
    text = walked.recording("news").fit_texts[0]
    with pytest.raises(StudyError, match="or contain such a text"):
        walked.check_apart([f"Summarize: {text} Summary:"], "mine")


def test_one_command_writes_at_a_time(copy):
    with storage.write_lock(copy.root), lock_wait(0), pytest.raises(StudyError, match="Another command is writing"):
        copy.save_networks(copy.decomposition("canica").threshold("z", z=2.0), "canica", "looser")
    copy.save_networks(copy.decomposition("canica").threshold("z", z=2.0), "canica", "looser")


def test_one_damaged_entry_does_not_stop_the_others(copy):
    (copy.layout.entry("networks", "mlp_hidden", "nothing") / "entry.json").write_text("{")
    assert len(copy.networks("canica", "mlp_hidden")) == 4


# -- interrupted and damaged recordings -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo_model():
    return lmri.load_model("lmri-demo")


def _record(model, root, **options):
    return lmri.record(*model, generate("news", 12, 3), root, corpus="news", run_tokens=300, **options)


def test_a_damaged_recording_is_repaired_by_recording_again(tmp_path, demo_model):
    recording = _record(demo_model, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.nii")}
    recording.runs[0].img.write_bytes(b"")
    recording.runs[1].img.unlink()
    _record(demo_model, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.nii")} == before
    assert validate(open_study(tmp_path)).problems == []


@pytest.mark.parametrize("where", ["write_recording_tables", "write_recording_index"])
def test_an_interrupted_recording_leaves_no_trace_in_the_next(tmp_path, demo_model, monkeypatch, where):
    first = lmri.record(*demo_model, generate("code", 12, 3), tmp_path, corpus="code", run_tokens=300)
    with monkeypatch.context() as patch:

        def stop(*arguments):
            raise KeyboardInterrupt

        if where == "write_recording_index":  # all tables and images are there, and the index is not
            patch.setattr("lmri.models.recorder.finalize.write_recording_index", stop)
        else:
            patch.setattr("lmri.storage.dataset_files.write_atlas", stop)
        with pytest.raises(KeyboardInterrupt):
            _record(demo_model, tmp_path, test_fraction=0, texts_per_run=1)
    study = open_study(tmp_path)
    assert [one.corpus for one in study.recordings()] == ["code"]
    if where == "write_recording_index":
        found = validate(study)
        assert study.orphans()
        assert not any("_task-" in problem for problem in found.problems)  # --resume needs these files
        assert any("is not finished. Continue it with" in note for note in found.notes)
    with pytest.raises(StudyError, match=r"was interrupted; \d+ finished batch(es were| was) saved"):
        _record(demo_model, tmp_path)
    shutil.rmtree(study.unfinished()[0])  # as the message says
    again = _record(demo_model, tmp_path)
    assert len(again.test_texts) == 3  # not the 0 of the one that was interrupted
    assert validate(open_study(tmp_path)).problems == []
    assert open_study(tmp_path).recording("code").texts.equals(first.texts)


def test_a_missing_test_split_is_reported(tmp_path, demo_model):
    texts = generate("news", 2, 3)
    with pytest.warns(lmri.exceptions.DataWarning, match="None of the 1 texts of 'one' is held out"):
        lmri.record(*demo_model, texts[:1], tmp_path, corpus="one")
    with warnings.catch_warnings():
        warnings.simplefilter("error", lmri.exceptions.DataWarning)
        assert not lmri.record(*demo_model, texts, tmp_path, corpus="wanted", test_fraction=0).test_texts
        assert lmri.record(*demo_model, generate("code", 8, 3), tmp_path, corpus="enough").test_texts


def test_a_first_recording_that_fails_leaves_the_folder_as_it_was(tmp_path, demo_model):
    with pytest.raises(ValueError, match="Use longer texts"), pytest.warns(lmri.exceptions.DataWarning):
        lmri.record(*demo_model, ["a"], tmp_path / "new", corpus="news")
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="Use longer texts"), pytest.warns(lmri.exceptions.DataWarning):
        lmri.record(*demo_model, ["a"], tmp_path / "empty", corpus="news")
    assert list((tmp_path / "empty").iterdir()) == []


class StoppedError(Exception):
    """Error that a test raises in place of Ctrl-C."""


@pytest.mark.parametrize("folder_existed", [False, True])
def test_a_first_recording_that_is_stopped_removes_no_file_of_the_user(tmp_path, demo_model, folder_existed):
    root = tmp_path / "new"
    if folder_existed:
        root.mkdir()

    def record():
        with adding(root, describe_model(demo_model[0])) as study:
            assert (root / "lmri" / "study.json").is_file()
            (root / "notes.txt").write_text("mine")
            (root / "results").mkdir()
            (root / "results" / "x").write_text("1")
            (root / "lmri" / "my_protocol.md").write_text("mine, too")
            study.layout.readme.write_text("edited by the user")
            raise StoppedError

    with pytest.raises(StoppedError):
        record()
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert found - {storage.LOCK} == {"notes.txt", "results/x", "lmri/my_protocol.md", "README.md"}
    assert (root / "notes.txt").read_text() == "mine"


def test_a_first_recording_that_is_stopped_leaves_no_folder_where_there_was_none(tmp_path, demo_model):
    with pytest.raises(StoppedError), adding(tmp_path / "new", describe_model(demo_model[0])):
        raise StoppedError
    assert not (tmp_path / "new").exists()


def test_recording_again_deletes_the_files_of_the_recording_and_no_others(copy):
    func = copy.layout.func
    bold = copy.layout.bold("code", 1, "mlp_hidden")
    foreign = [
        bold.with_name(bold.name.replace("_bold.nii", "_desc-smoothed_bold.nii")),
        func / f"sub-{copy.subject}_task-code_notes.txt",
        func / "mine_task-code_run-001_bold.nii",
    ]
    for path in foreign:
        path.write_text("mine")
    assert not set(foreign) & set(copy.orphans())
    copy.clear_remains("code", "mlp_hidden")
    assert all(path.read_text() == "mine" for path in foreign)
    assert not bold.exists()
    assert copy.layout.recorded_files("code") == []
    assert copy.layout.recorded_files("news") != []


def test_corpora_that_differ_only_in_case_are_refused(tmp_path, demo_model):
    texts = generate("news", 6, 1)
    root = tmp_path / "study"
    lmri.record(*demo_model, texts, root, corpus="mine")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(EntryExistsError, match="'Mine' differs from the existing corpus 'mine' only in case"):
        lmri.record(*demo_model, generate("news", 6, 2), root, corpus="Mine")
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    lmri.record(*demo_model, texts, root, corpus="mine")  # the same one is no clash
    lmri.record(*demo_model, generate("news", 6, 2), root, corpus="mine2")


@pytest.mark.parametrize("folder", [".unfinished/mine_mlpout", ".unfinished/mine_mlpout_shards-2", ".generated/mine"])
def test_a_corpus_that_is_being_recorded_keeps_its_name_in_any_case(copy, folder):
    (copy.layout.folder / folder).mkdir(parents=True)
    copy.check_new_corpus("mine")
    with pytest.raises(EntryExistsError, match="only in case"):
        copy.check_new_corpus("MINE")


@pytest.mark.parametrize("name", ["con", "NUL", "Aux", "prn", "com1", "LPT9"])
def test_names_that_windows_reserves_are_refused_when_they_are_created(copy, demo_model, name):
    with pytest.raises(ValueError, match=f"'{name}' cannot be created: Windows reserves"):
        copy.check_new_corpus(name)
    with pytest.raises(ValueError, match="Windows reserves"):
        copy.entries.has("networks", "mlp_hidden", name, {}, {})
    copy.check_new_corpus(f"{name}x")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("CanICA", EntryExistsError),
        ("canica.", ValueError),
        ("nul.txt", ValueError),
        ("n" * 101, ValueError),
    ],
)
def test_entries_with_names_that_other_disks_confuse_are_refused(copy, name, error):
    for kind in ("networks", "decompositions"):
        with pytest.raises(error, match=r"differs from|cannot be created|at most 100"):
            copy.entries.has(kind, "mlp_hidden", name, {}, {})
    assert not copy.entries.has("networks", "mlp_hidden", "n" * 100, {}, {})


def test_validation_never_advises_to_delete_files_of_an_unfinished_recording(copy):
    bold = copy.layout.bold("fresh", 1, "mlp_hidden")
    bold.write_bytes(b"")
    assert [line for line in validate(copy).problems if "Record 'fresh' again, or delete the file" in line]
    unfinished = copy.layout.unfinished_recording("fresh", ["mlp_hidden"])
    unfinished.mkdir(parents=True)
    found = validate(copy)
    assert not any("elete" in line and "fresh" in line for line in found.problems)
    (note,) = [line for line in found.notes if "'fresh' is not finished" in line]
    assert "lmri record --resume" in note
    unfinished.rename(copy.layout.unfinished_recording("fresh", ["mlp_hidden"], 2))
    assert any("Continue it with lmri merge" in line for line in validate(copy).notes)


def test_validation_does_not_judge_what_another_command_is_writing(copy):
    (copy.root / "lmri" / ".partial-x").write_text("")
    assert any(".partial-x is left over" in line for line in validate(copy).problems)
    with storage.write_lock(copy.root):
        found = validate(copy)
    assert not any(".partial-x" in line for line in found.problems)
    assert any("Another command is writing to this study" in line for line in found.notes)


def test_a_lesioned_model_is_not_recorded_as_the_intact_one(tmp_path, demo_model):
    recording = _record(demo_model, tmp_path / "study")
    network = lmri.Network.from_members(recording.space, np.arange(recording.space.n_neurons) < 5)
    with lmri.lesion(network).on(demo_model[0]), pytest.raises(ValueError, match="under an intervention"):
        _record(demo_model, tmp_path / "other")
    _record(demo_model, tmp_path / "other")


def test_a_failure_never_clears_a_study_that_was_there(copy, demo_model):
    for corpus in ("code", "news"):  # its recordings are gone, its results and the user's own notes are not
        copy.clear_remains(corpus, "mlp_hidden")
    (copy.root / "notes.txt").write_text("mine")
    before = {path for path in copy.root.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="Use longer texts"), pytest.warns(lmri.exceptions.DataWarning):
        lmri.record(*demo_model, ["a"], copy.root, corpus="more")
    assert before <= {path for path in copy.root.rglob("*") if path.is_file()}


def test_other_confounds_are_another_decomposition(copy):
    recordings = copy.group()
    imgs = [img for recording in recordings for img in recording.imgs]
    rng = np.random.default_rng(0)
    confounds = [rng.normal(size=(run.n_volumes, 1)) for recording in recordings for run in recording.runs]
    plain = lmri.NeuronICA(recordings[0].space, 2, n_init=1).fit(imgs)
    copy.save_decomposition(plain, recordings, "mine")
    with pytest.raises(EntryExistsError, match="confounds_sha256"):
        copy.save_decomposition(plain.fit(imgs, confounds=confounds), recordings, "mine")


def test_networks_of_other_maps_are_refused(copy):
    maps = copy.decomposition("canica").threshold("z", z=3.0)
    with pytest.raises(ValueError, match="not the maps of the decomposition 'fastica-temporal'"):
        copy.save_networks(maps, "fastica-temporal", "wrong")


def test_a_stale_set_is_not_compared_by_its_time_courses(copy):
    at = ("canica", "mlp_hidden")
    assert copy.compare_sites(at, ("fastica-temporal", "mlp_hidden")).mean_r > 0
    recordings = copy.group()
    shutil.rmtree(copy.layout.entry("decompositions", "mlp_hidden", "canica"))
    imgs = [img for recording in recordings for img in recording.imgs]
    copy.save_decomposition(FastICA(recordings[0].space, 4, kind="spatial").fit(imgs), recordings, "canica")
    with pytest.raises(StudyError, match="out of date: the decomposition"):
        copy.compare_sites(at, ("fastica-temporal", "mlp_hidden"))


def test_recordings_in_another_order_than_the_fit_are_refused(copy):
    first, second = copy.group()
    longest = min(first.n_volumes, second.n_volumes)
    assert longest > 0
    imgs = [*first.imgs, *second.imgs]
    fitted = FastICA(first.space, 2).fit(imgs)
    fitted.time_courses_ = [np.zeros((run.n_volumes, 2)) for one in (second, first) for run in one.runs]  # as if alike
    with pytest.raises(ValueError, match="in this order"):
        copy.save_decomposition(fitted, [second, first], "swapped")
