"""Several models in one study: shared texts, addresses, locks, group decompositions, BIDS, report."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lmri import NeuronICA, open_study, record, storage
from lmri.cli.app import app
from lmri.cli.networks import next_step
from lmri.decomposition.group import decompose_group
from lmri.decomposition.individuals.dual_regression import StageOne, regress_twice
from lmri.decomposition.settings import DecompositionSettings
from lmri.decomposition.standardization import StandardizedRuns
from lmri.exceptions import AmbiguousChoiceError, EntryExistsError, SpaceMismatchError, StudyError
from lmri.models.study_model import suggest_task
from lmri.report import write_reports
from lmri.report.validation import validate
from lmri.storage.corpora import known_split, stored_texts
from lmri.storage.entries import as_name, make_address, parse_address
from lmri.storage.files import LockedError, lock_wait
from lmri.storage.recordings import group_space
from lmri.study import open_scopes
from tiny_models import build, sentences, word_tokenizer

TEXTS = sentences(40)
OPTIONS = {"corpus": "news", "run_tokens": 60}
SETTINGS = DecompositionSettings(n_components=3, threshold="z:2", options={"n_init": 2})


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


@pytest.fixture(scope="module")
def two(tmp_path_factory, tokenizer):
    """A study of two models of one geometry. It is shared: copy its folder before writing."""
    root = tmp_path_factory.mktemp("two") / "study"
    for number, subject in enumerate(["alpha", "beta"]):
        record(build("gpt2", seed=number), tokenizer, TEXTS, root, **OPTIONS, subject=subject)
    return root


@pytest.fixture
def copy(two, tmp_path):
    return shutil.copytree(two, tmp_path / "study")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [("sub-a", "ica", "mlp_out"), ("group", "g.1", "mlp_hidden")])
def test_addresses_are_inverse_and_make_valid_names(parts):
    address = make_address(*parts)
    assert parse_address(address) == parts
    assert storage.check_name(as_name(address))


# -- shared texts -----------------------------------------------------------------------------------------------------


def test_models_share_texts_and_split(two):
    alpha, beta = open_study(two, "alpha"), open_study(two, "beta")
    first, second = alpha.recording().texts, beta.recording().texts
    assert first[["text_id", "sha256", "split", "text"]].equals(second[["text_id", "sha256", "split", "text"]])
    shared = storage.read_table(alpha.layout.texts("news"), ["text_id", "sha256", "split", "text"])
    assert list(shared.columns) == ["text_id", "sha256", "split", "text"]
    own = storage.read_table(alpha.layout.read_texts("news"), ["text_id"])
    assert list(own.columns) == ["text_id", "run", "n_tokens", "n_volumes", "n_cut"]
    assert known_split(alpha.layout) == dict(first[["sha256", "split"]].to_numpy())


@pytest.mark.parametrize(
    ("texts", "options", "words"),
    [
        (TEXTS[:-1], {}, r"other texts \(40 there, 39 here, 39 in common\)"),
        (TEXTS[::-1], {}, "the same texts in another order"),
        (TEXTS, {"seed": 1}, "seed = 0, not 1"),
        (TEXTS, {"test_fraction": 0.5}, r"test_fraction = 0\.25, not 0\.5"),
    ],
)
def test_a_corpus_is_the_same_in_all_models(copy, tokenizer, texts, options, words):
    before = sorted(path.name for path in copy.rglob("*"))
    with pytest.raises(EntryExistsError, match=words):
        record(build("gpt2", seed=5), tokenizer, texts, copy, **(OPTIONS | options), subject="gamma")
    assert sorted(path.name for path in copy.rglob("*")) == before


def test_other_parameters_may_differ_between_models(copy, tokenizer):
    recording = record(build("gpt2", seed=5), tokenizer, TEXTS, copy, corpus="news", run_tokens=30, subject="gamma")
    assert len(recording.runs) > len(open_study(copy, "alpha").recording().runs)
    assert recording.texts["split"].equals(open_study(copy, "alpha").recording().texts["split"])


def test_a_text_has_one_split_in_all_models(copy, tokenizer):
    """Another corpus of another model shares texts: they keep the split that the first model gave them."""
    split = known_split(open_study(copy, "alpha").layout)
    recording = record(
        build("gpt2", seed=5), tokenizer, TEXTS[::2] + sentences(10, seed=9), copy, corpus="other", seed=7,
        subject="gamma",
    )  # fmt: skip
    shared = [(sha, side) for sha, side in recording.texts[["sha256", "split"]].to_numpy() if sha in split]
    assert len(shared) == 20
    assert all(split[sha] == side for sha, side in shared)


def test_texts_that_another_model_was_fitted_on_are_not_scored(copy, tokenizer):
    record(build("gpt2", seed=5), tokenizer, sentences(20, seed=9), copy, corpus="own", subject="gamma")
    fitted = open_study(copy, "gamma").recording().fit_texts[0]
    with pytest.raises(StudyError, match="recorded for fitting"):
        open_study(copy, "alpha").check_apart([fitted], "a task")
    open_study(copy, "alpha").check_apart(["a text that no model has read"], "a task")


def test_without_texts_every_corpus_is_recorded_with_the_stored_parameters(copy, tokenizer, tmp_path):
    model = build("gpt2", seed=5)
    record(build("gpt2"), tokenizer, sentences(12, seed=3), copy, corpus="more", run_tokens=40, n_dummy=2, seed=4,
           site=["mlp_out", "mlp_hidden"], subject="alpha")  # fmt: skip
    recorded = record(model, tokenizer, None, copy, subject="gamma")
    assert [(one.corpus, one.space.site) for one in recorded] == [
        ("more", "mlp_hidden"), ("more", "mlp_out"), ("news", "mlp_out"),
    ]  # fmt: skip
    alone = tmp_path / "alone"
    record(model, tokenizer, TEXTS, alone, **OPTIONS, subject="gamma")
    record(model, tokenizer, sentences(12, seed=3), alone, corpus="more", run_tokens=40, n_dummy=2, seed=4,
           site=["mlp_out", "mlp_hidden"])  # fmt: skip
    for img in sorted((alone / "sub-gamma" / "func").glob("*")):
        assert img.read_bytes() == (copy / "sub-gamma" / "func" / img.name).read_bytes(), img.name
    assert [one.n_volumes for one in record(model, tokenizer, None, copy, site=["mlp_out"])]  # stored already


def test_options_that_the_study_determines_are_refused_without_texts(copy, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="run_tokens, seed cannot be chosen"):
        record(build("gpt2", seed=5), tokenizer, None, copy, run_tokens=3, seed=3)
    with pytest.raises(StudyError, match="not a study"):
        record(build("gpt2", seed=5), tokenizer, None, tmp_path / "none")


def test_prompts_are_shared_and_continuations_belong_to_the_model(tmp_path, tokenizer):
    root, prompts = tmp_path / "study", sentences(12, seed=2)
    options = {"corpus": "made", "generate": 6, "subject": "alpha"}
    first = record(build("gpt2"), tokenizer, prompts, root, **options)
    [second] = record(build("gpt2", seed=3), tokenizer, None, root, subject="beta")
    assert stored_texts(open_study(root, "alpha").layout, "made") == prompts
    assert first.texts["prompt_sha256"].equals(second.texts["prompt_sha256"])
    assert first.texts["split"].equals(second.texts["split"])
    assert not first.texts["text"].equals(second.texts["text"])
    assert open_study(root, "alpha").recording().texts.equals(first.texts)
    with pytest.raises(EntryExistsError, match="other texts"):
        record(build("gpt2", seed=4), tokenizer, prompts[1:], root, **(options | {"subject": "gamma"}))


# -- commands at the same time ----------------------------------------------------------------------------------------

RECORD = """
import sys
from lmri import record
from tiny_models import build, sentences, word_tokenizer
def wait(done, total):
    print("reading", flush=True)
    sys.stdin.readline()
record(build("gpt2"), word_tokenizer(), sentences(40), sys.argv[1], corpus="news", run_tokens=60, subject="alpha",
       batch_size=40, progress=wait)
print("recorded", flush=True)
"""


def test_two_models_are_recorded_at_once_and_one_model_is_not(tmp_path, tokenizer):
    root = tmp_path / "study"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-c", RECORD, str(root)], **pipes) as other:
        assert other.stdout.readline() == "reading\n"  # it is in the middle of its recording
        with pytest.raises(LockedError, match="is recording sub-alpha"):
            record(build("gpt2"), tokenizer, TEXTS, root, **OPTIONS, subject="alpha")
        # Another split of the same corpus is refused before anything is read, although alpha is not finished.
        with pytest.raises(EntryExistsError, match="already recorded by sub-alpha"):
            record(build("gpt2", seed=1), tokenizer, TEXTS, root, **(OPTIONS | {"seed": 3}), subject="beta")
        recording = record(build("gpt2", seed=1), tokenizer, TEXTS, root, **OPTIONS, subject="beta")
        assert open_scopes(root)[0].recordings() == []
        NeuronICA(recording.space, 2, n_init=1).fit(recording.imgs)
        other.stdin.write("\n" * 10)
        other.stdin.close()
        assert "recorded\n" in other.stdout.readlines()
        assert other.wait() == 0
    assert [study.scope for study in open_scopes(root)] == ["sub-alpha", "sub-beta"]
    assert validate(*open_scopes(root)).problems == []
    splits = [study.recording().texts["split"] for study in open_scopes(root)]
    assert splits[0].equals(splits[1])


def test_a_finished_result_is_kept_if_the_study_is_locked_and_is_not_computed_again(copy, monkeypatch):
    study = open_study(copy, "alpha")
    with storage.write_lock(copy), lock_wait(0), pytest.raises(LockedError, match="was kept in") as raised:
        study.decompose(n_components=2, n_init=1, threshold="z:2", name="kept")
    assert study.entries.list("decompositions") == []
    [kept] = study.kept_results()
    assert str(kept) in str(raised.value)
    assert any("not moved into place" in note for note in validate(study).notes)

    def fit(*arguments, **options):
        raise AssertionError("It was computed again.")

    with monkeypatch.context() as patch:
        patch.setattr(NeuronICA, "fit", fit)
        study.decompose(n_components=2, n_init=1, threshold="z:2", name="kept")
    assert study.networks("kept").method == "kept"
    assert study.kept_results() == []
    assert not study.layout.unfinished.exists()


def test_the_printed_command_moves_a_kept_result_into_place(copy):
    study = open_study(copy, "alpha")
    with storage.write_lock(copy), lock_wait(0), pytest.raises(LockedError) as raised:
        study.decompose(n_components=2, n_init=1, threshold="z:2", name="kept")
    command = shlex.split(str(raised.value).rpartition("so does: ")[2])
    assert command[0] == "mv"
    Path(command[2]).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(*command[1:])
    assert study.decomposition("kept").method == "kept"


def test_a_kept_result_of_other_parameters_is_not_used(copy):
    study = open_study(copy, "alpha")
    with storage.write_lock(copy), lock_wait(0), pytest.raises(LockedError):
        study.decompose(n_components=2, n_init=1, threshold="z:2", name="kept")
    study.decompose(n_components=3, n_init=1, threshold="z:2", name="kept")
    assert len(study.decomposition("kept")) == 3


def test_a_command_waits_for_the_lock(copy):
    study, held, release = open_study(copy, "alpha"), threading.Event(), threading.Event()

    def hold():
        with storage.write_lock(copy):
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    timer = threading.Timer(0.3, release.set)
    timer.start()
    with lock_wait(60):
        study.decompose(n_components=2, n_init=1, threshold="z:2", name="waited")
    thread.join()
    assert study.networks("waited").method == "waited"


def test_the_wait_is_an_option_and_not_negative(copy):
    with storage.write_lock(copy):
        result = run("decompose", copy, "--subject", "alpha", "--n-components", 2, "--n-init", 1, "--wait", 0)
    assert result.exit_code == 1
    assert "--wait" in result.output
    with pytest.raises(ValueError, match="wait is -1"), lock_wait(-1):
        pass


# -- the group --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grouped(two, tmp_path_factory):
    """The study of two models, with a group decomposition."""
    root = shutil.copytree(two, tmp_path_factory.mktemp("grouped") / "study")
    decompose_group(open_study(root, "alpha"), ["alpha", "beta"], SETTINGS, name="g")
    return root


def test_a_group_decomposition_is_stored_without_a_subject(grouped):
    group = open_study(grouped, "group")
    entry = group.find("decompositions", "g")
    assert entry.inputs["corpora"] == ["sub-alpha/news@mlp_out", "sub-beta/news@mlp_out"]
    names = sorted(entry.files)
    assert "space-mlpout_desc-g_components.nii.gz" in names
    runs = [name for name in names if name.endswith("_mixing.tsv")]
    n_runs = len(open_study(grouped, "alpha").recording().runs)
    assert runs == [
        f"sub-{subject}_task-news_run-{number:03d}_space-mlpout_desc-g_mixing.tsv"
        for subject in ("alpha", "beta")
        for number in range(1, n_runs + 1)
    ]
    assert [name for name in names if name.startswith("sub-") and name not in runs] == []
    courses = group.time_courses("g")
    assert courses[0][:2] == ("sub-alpha/news@mlp_out", 1)
    assert group.networks("g").fit_texts == frozenset(
        storage.text_hash(text) for text in open_study(grouped, "alpha").recording().fit_texts
    )
    assert open_study(grouped, "alpha").find("decompositions", "g-dr").inputs["decomposition"] == "group/g@mlp_out"


def test_stacking_a_model_with_its_copy_gives_the_maps_of_the_model(copy, tokenizer):
    """Oracle: two identical recordings have the covariance of one, and the dual regressions are equal."""
    record(build("gpt2"), tokenizer, TEXTS, copy, **OPTIONS, subject="twin")
    alpha = open_study(copy, "alpha")
    decompose_group(alpha, ["alpha", "twin"], SETTINGS, name="g")
    alpha.decompose("ica", 3, n_init=2, threshold="z:2", name="alone")
    group = open_study(copy, "group").decomposition("g").weights.astype(float)
    alone = alpha.decomposition("alone").weights.astype(float)
    r = np.abs(np.corrcoef(group, alone)[:3, 3:])
    assert (r.max(axis=1) > 0.99).all()
    regressed = [open_study(copy, subject).decomposition("g-dr").weights for subject in ("alpha", "twin")]
    assert np.array_equal(*regressed)
    # Regressed on its own maps, a model has nearly these maps; the negative control is the next map.
    own = np.corrcoef(group, regressed[0].astype(float))[:3, 3:]
    assert (np.diag(own) > 0.9).all()
    assert (np.diag(own) > np.abs(own - np.diag(np.diag(own))).max(axis=1)).all()


def test_the_dual_regression_is_that_of_all_volumes_together(grouped):
    beta = open_study(grouped, "beta")
    maps = open_study(grouped, "group").decomposition("g")
    recording = beta.recording()
    X = np.concatenate(list(StandardizedRuns(recording.space, recording.imgs, "zscore", "run"))).astype(np.float64)
    courses, weights, _ = regress_twice(StageOne.of(maps), X, True, False, "beta")
    stored = beta.decomposition("g-dr").weights
    # Sums of float32 products over all volumes, and one rounding to float32.
    assert np.abs(stored - weights).max() <= 4 * np.finfo(np.float32).eps * np.abs(weights).max()
    table = np.concatenate([table.to_numpy() for _, _, table in beta.time_courses("g-dr")])
    assert np.abs(table - courses).max() <= 4 * np.finfo(np.float32).eps * np.abs(courses).max()


def test_each_model_is_standardized_on_its_own(two):
    """With the scope of a study, the mean and standard deviation are those of one model; without models, of all."""
    recordings = [open_study(two, subject).recording() for subject in ("alpha", "beta")]
    imgs = [img for recording in recordings for img in recording.imgs]
    models = [number for number, recording in enumerate(recordings) for _ in recording.imgs]
    space = recordings[0].space
    together = list(StandardizedRuns(space, imgs, "zscore", "study", models=models))
    alone = [run for one in recordings for run in StandardizedRuns(one.space, one.imgs, "zscore", "study")]
    assert all(np.array_equal(first, second) for first, second in zip(together, alone, strict=True))
    pooled = list(StandardizedRuns(space, imgs, "zscore", "study"))
    assert not np.allclose(pooled[0], alone[0])
    with pytest.raises(ValueError, match="models has 1 entries"):
        StandardizedRuns(space, imgs, "zscore", "study", models=[0])


def test_a_scaled_model_does_not_dominate_the_group(two):
    """Units of the models do not matter: a model whose activations are multiplied gives the same standardized runs."""
    recording = open_study(two, "alpha").recording()
    arrays = list(recording.arrays())
    imgs = [recording.space.to_img(array) for array in arrays]
    scaled = [recording.space.to_img(1024 * array) for array in arrays]  # exact in binary
    runs = list(
        StandardizedRuns(recording.space, [*imgs, *scaled], "zscore", "study", models=[0] * len(imgs) + [1] * len(imgs))
    )
    for first, second in zip(runs[: len(imgs)], runs[len(imgs) :], strict=True):
        assert np.array_equal(first, second)


def test_models_of_other_geometry_are_not_decomposed_together(copy, tokenizer):
    other = record(build("llama"), tokenizer, TEXTS, copy, **OPTIONS, subject="llama")
    first = open_study(copy, "alpha").recording()
    same = other.space.widths == first.space.widths
    if same:  # the tiny models have one geometry: module paths may differ
        assert group_space([first, other]).model is None
    wide = record(build("gpt2", n_embd=48), tokenizer, TEXTS, copy, **OPTIONS, subject="wide")
    with pytest.raises(SpaceMismatchError, match="same site, number of layers and widths"):
        group_space([first, wide])
    with pytest.raises(SpaceMismatchError, match="sub-wide has 3 layers of 48"):
        decompose_group(open_study(copy, "alpha"), ["alpha", "wide"], SETTINGS)
    assert open_study(copy, "group").entries.list("decompositions") == []


@pytest.mark.parametrize(
    ("subjects", "changes", "words"),
    [
        (["alpha"], {}, "two or more"),
        (["alpha", "sub-alpha"], {}, "two or more"),
        (["alpha", "group"], {}, r"there is no model 'group'\. Names accepted .* alpha, beta\."),
        (["alpha", "nobody"], {}, r"there is no model 'nobody'\. Names accepted .* alpha, beta\."),
        (["alpha", " "], {}, "there is no model ''"),
        (["alpha", "beta"], {"standardize": "none"}, "units differ"),
    ],
)
def test_requests_that_make_no_group_are_refused(two, subjects, changes, words):
    settings = DecompositionSettings(n_components=3, threshold="z:2", **changes)
    with pytest.raises(ValueError, match=words):
        decompose_group(open_study(two, "alpha"), subjects, settings)


def test_models_need_a_corpus_in_common(copy, tokenizer):
    record(build("gpt2", seed=5), tokenizer, sentences(20, seed=9), copy, corpus="own", subject="gamma")
    with pytest.raises(AmbiguousChoiceError, match="no corpus in common"):
        decompose_group(open_study(copy, "alpha"), ["alpha", "gamma"], SETTINGS)


def test_the_group_itself_is_not_decomposed(two):
    with pytest.raises(ValueError, match="--subject A,B"):
        open_study(two, "group").decompose(n_components=2)


def test_a_changed_group_makes_the_dual_regressions_out_of_date(grouped, tmp_path):
    root = shutil.copytree(grouped, tmp_path / "study")
    assert open_study(root, "beta").decomposition("g-dr").method == "g-dr"
    path = open_study(root, "group").find("decompositions", "g").folder / "entry.json"
    content = json.loads(path.read_text())
    content["parameters"]["random_state"] = 17
    path.write_text(json.dumps(content))
    with pytest.raises(StudyError, match="out of date"):
        open_study(root, "beta").decomposition("g-dr")


def test_networks_of_another_scope_are_compared_and_lesioned_by_their_address(grouped, tmp_path):
    root = shutil.copytree(grouped, tmp_path / "study")
    alpha = open_study(root, "alpha")
    alpha.decompose("ica", 3, n_init=2, threshold="z:2")
    comparison = alpha.compare("ica", "group/g@mlp_out")
    assert comparison.second.method == "group/g@mlp_out"
    stored = alpha.comparison("ica--group-g-mlp_out")
    assert stored.mean_r == comparison.mean_r
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = alpha.lesion("group/g@mlp_out", model=(build("gpt2"), word_tokenizer()), n_controls=2, site="mlp_out")
    assert any(name.startswith("group/g@mlp_out-") for name in scores.conditions["condition"])
    entry = alpha.find("scores", "lesion-group-g-mlp_out")
    assert entry.inputs["networks"] == "group/g@mlp_out"
    assert entry.inputs["networks_sha256"] == open_study(root, "group").find("networks", "g").digest
    assert validate(*open_scopes(root)).problems == []


# -- the command line, BIDS and the report ----------------------------------------------------------------------------


def test_commands_need_a_choice_and_whole_study_commands_do_not(copy):
    result = run("decompose", copy, "--n-components", 2)
    assert (result.exit_code, "--subject alpha; --subject beta" in " ".join(result.output.split())) == (1, True)
    for command in ("info", "validate", "report"):
        result = run(command, copy, "--json")
        assert result.exit_code == 0, result.output
        json.loads(result.output)
    result = run("decompose", copy, "--subject", "alpha,beta", "--n-components", 2, "--n-init", 1, "--threshold", "z:2",
                 "--name", "g")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "--subject alpha --networks group/g@mlp_out --task perplexity" in " ".join(result.output.split())
    result = run("decompose", copy, "--subject", "alpha, beta", "--session", "late", "--n-components", 2)
    assert result.exit_code == 1
    assert "--subject sub-alpha_ses-late,..., and omit --session" in " ".join(result.output.split())
    assert [item["scope"] for item in json.loads(run("info", copy, "--json").output)["models"]] == [
        "sub-alpha", "sub-beta", "group",
    ]  # fmt: skip


def test_the_validator_accepts_models_of_three_geometries_and_two_sessions(tmp_path, tokenizer):
    root = tmp_path / "study"
    for number, width in enumerate([32, 48, 64]):
        model = build("gpt2", seed=number, n_embd=width)
        record(model, tokenizer, TEXTS, root, **OPTIONS, subject=f"w{width}")
    for number, label in enumerate(["early", "late"]):
        record(build("gpt2", seed=7 + number), tokenizer, TEXTS, root, **OPTIONS, subject="tiny", session=label)
    findings = validate(*open_scopes(root))
    assert findings.problems == []
    if not any("Checked by the BIDS validator" in note for note in findings.notes):
        pytest.skip("the BIDS validator is not installed: pip install 'lmri[bids]'")


def test_nilearn_reads_subjects_of_one_geometry_together(two):
    from nilearn.glm.first_level import first_level_from_bids

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models, imgs, events, _ = first_level_from_bids(
            str(two), "news", space_label="mlpout", img_filters=[], derivatives_folder=".", slice_time_ref=0.5,
            mask_img=open_study(two, "alpha").recording().mask_img,
        )  # fmt: skip
    assert [model.subject_label for model in models] == ["alpha", "beta"]
    n_runs = len(open_study(two, "alpha").recording().runs)
    assert [len(item) for item in imgs] == [n_runs, n_runs]
    assert all(len(table) for item in events for table in item)


def test_the_report_of_several_models_is_an_overview(grouped, tmp_path):
    root = shutil.copytree(grouped, tmp_path / "study")
    overview, *others = write_reports(open_scopes(root))
    assert overview == root / "report.html"
    assert [path.name for path in others] == ["report-sub-alpha.html", "report-sub-beta.html"]
    text = overview.read_text(encoding="utf-8")
    for name in ("report-sub-alpha.html", "report-sub-beta.html"):
        assert f'href="{name}"' in text
    assert "g · mlp_out" in text
    ignored = (root / ".bidsignore").read_text().splitlines()
    assert "report-*.html" in ignored
    overview.write_text("mine")
    with pytest.raises(StudyError, match="not a report"):
        write_reports(open_scopes(root))
    assert overview.read_text() == "mine"
    result = run("report", root, "--out", tmp_path / "x.html")
    assert result.exit_code == 1
    assert "Choose a model" in " ".join(result.output.split())


def test_the_methods_of_a_dual_regression_are_its_own(grouped, tmp_path):
    study = open_study(shutil.copytree(grouped, tmp_path / "study"), "alpha")
    study.decompose("ica", 2, n_init=1, threshold="z:2", name="own")
    text = study.report(tmp_path / "report.html").read_text(encoding="utf-8")
    paragraphs = re.findall(r'<p class="method">(.*?)</p>', text, re.DOTALL)
    [regressed] = [paragraph for paragraph in paragraphs if "group/g@mlp_out" in paragraph]
    [decomposed] = [paragraph for paragraph in paragraphs if "own" in paragraph and "group/g" not in paragraph]
    for words in ("seed", "heavier tail", "initializations", "scikit-learn", "None"):
        assert words not in regressed
    assert "by dual regression" in regressed
    assert "Nickerson" in text
    assert "seed 0" in decomposed


@pytest.mark.parametrize(
    "command",
    [
        ["report"],
        ["qc"],
        ["confounds"],
        ["order"],
        ["view", "--no-browser"],
        ["localize", "--contrast", "a-b"],
        ["describe", "g"],
        ["connectivity", "g"],
    ],
)
def test_commands_that_need_a_model_refuse_the_group_in_words(grouped, tmp_path, command):
    root = shutil.copytree(grouped, tmp_path / "study")
    result = run(command[0], root, "--subject", "group", *command[1:])
    assert result.exit_code == 1
    assert "bug in lmri" not in result.output
    assert "Rename the text ids" not in result.output


def test_a_study_with_one_model_has_one_report(tmp_path, tokenizer):
    root = tmp_path / "study"
    record(build("gpt2"), tokenizer, TEXTS, root, **OPTIONS)
    assert open_study(root).report() == root / "report.html"
    assert len(open_scopes(root)) == 1


def test_lines_of_the_log_contain_the_scope(grouped):
    lines = storage.read_log(open_study(grouped, "alpha").layout)
    assert {line["scope"] for line in lines} == {"sub-alpha", "sub-beta", "group"}
    assert all("scope" in line for line in lines)


# -- the next step ----------------------------------------------------------------------------------------------------

CONFIGS = {
    "GPT2LMHeadModel": "--task perplexity",
    "OPTForCausalLM": "--task perplexity",
    "Gemma3ForConditionalGeneration": "--task perplexity",
    "CodeOfItsOwn": "--task perplexity",
    "GPT2ForSequenceClassification": "--task TASK:FILE --scoring head",
    "BertForMaskedLM": "",
    "GPT2Model": "",
    "T5EncoderModel": "",
}


@pytest.mark.parametrize(("name", "options"), CONFIGS.items())
def test_the_suggested_task_can_score_the_model(copy, tmp_path, name, options):
    folder = tmp_path / "a model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": [name]}))
    study = open_study(copy, "alpha")
    assert suggest_task(study) == "--task perplexity"  # it is not known where the model is
    storage.write_log(study.layout, "record", corpus="news", site="mlp_out", model=str(folder))
    assert suggest_task(study) == options
    assert suggest_task(open_study(copy, "beta")) == "--task perplexity"
    said = next_step(study, "study", "ica", " --site mlp_out")
    expected = f"lmri lesion study --networks ica {options} --n-controls 20 --site mlp_out"
    assert expected in said if options else "lmri report study" in said and "lesion study" not in said


@pytest.mark.parametrize("content", ["", "[]", '{"architectures": null}', '{"architectures": [1]}', "{}"])
def test_a_configuration_that_says_nothing_is_no_reason_to_fail(copy, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    study = open_study(copy, "alpha")
    for place in (tmp_path, tmp_path / "moved", "someone/something", "no name at all"):
        storage.write_log(study.layout, "record", corpus="news", site="mlp_out", model=str(place))
        assert suggest_task(study) == "--task perplexity"


def test_a_model_that_reads_a_whole_text_first_has_no_task(copy, tmp_path):
    config = {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    study = open_study(copy, "alpha")
    storage.write_log(study.layout, "record", corpus="news", site="mlp_out", model=str(tmp_path))
    assert suggest_task(study) == ""


def test_the_hint_after_a_group_decomposition_depends_on_the_model(copy, tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["GPT2ForSequenceClassification"]}')
    storage.write_log(open_study(copy, "beta").layout, "record", corpus="news", site="mlp_out", model=str(tmp_path))
    arguments = ("--n-components", 2, "--n-init", 1, "--threshold", "z:2", "--name", "g")
    result = run("decompose", copy, "--subject", "beta,alpha", *arguments)
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "--subject beta --networks group/g@mlp_out --task TASK:FILE --scoring head --n-controls 20" in words
