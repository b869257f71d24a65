"""Commands on recordings and files are methods of Study; sites and confounds are registries; results show as HTML."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from dataclasses import MISSING, fields
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer

import lmri
from lmri import Study, open_study
from lmri.cli.app import app
from lmri.demo.texts import generate
from lmri.models.loading.options import LoadingOptions
from lmri.models.recorder.options import RecordingOptions
from lmri.report.validation import Findings
from lmri.space.html import MOST_ROWS, html_table
from tiny_models import build, sentences, word_tokenizer

COMMANDS = (
    "record", "merge", "qc", "confounds", "export", "accept", "report", "info", "validate", "view", "phantom",
)  # fmt: skip

NO_METHOD = {
    "demo": "makes a study, and prints the results of all stages",
    "finetune": "makes a model, and needs no study: lmri.finetune",
}

ONLY_PRINTED = {"quiet", "json", "help"}

DIFFERENT = {
    ("record", "out"): "the study itself",
    ("phantom", "study"): "the study itself",
    ("phantom", "layers"): "simulated neurons need no study: lmri.phantom.make",
    ("phantom", "width"): "simulated neurons need no study: lmri.phantom.make",
    ("phantom", "table"): "a copy of the result, in Markdown",
    ("phantom", "save"): "images of phantoms: lmri.phantom.make(...).save",
}
"""Options that the method does not have, and why."""

ONLY_IN_PYTHON = {"self", "progress", "ready"}


@pytest.fixture
def copy(walked, tmp_path):
    """A study that the test may change."""
    return open_study(shutil.copytree(walked.root, tmp_path / "study"))


def _options(name):
    command = typer.main.get_command(app).commands[name]
    return {one.name: one for one in command.params if one.name not in ONLY_PRINTED}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_method_have_the_same_options_and_defaults(name):
    parameters = {
        key: one for key, one in inspect.signature(getattr(Study, name)).parameters.items() if key not in ONLY_IN_PYTHON
    }
    options = {key: one for key, one in _options(name).items() if (name, key) not in DIFFERENT}
    options.pop("study", None)
    options.pop("wait", None)  # in Python: lmri.storage.files.lock_wait
    if name != "record":  # all other methods belong to a study that was opened for one model
        for chosen in ("subject", "session"):
            options.pop(chosen, None)
    assert set(options) == set(parameters)
    for key, option in options.items():
        default = parameters[key].default
        if option.required:
            assert default is inspect.Parameter.empty, key
        else:
            assert option.default == default, key


@pytest.mark.parametrize("name", NO_METHOD)
def test_other_commands_act_on_no_study(name):
    assert name in typer.main.get_command(app).commands
    assert not hasattr(Study, name)


def test_options_of_recordings_are_those_of_record_and_of_load_model():
    of_record = inspect.signature(lmri.record).parameters
    for one in fields(RecordingOptions):
        assert one.default == of_record[one.name].default, one.name
    rest = set(of_record) - {one.name for one in fields(RecordingOptions)}
    assert rest == {"model", "tokenizer", "texts", "out", "progress"}
    of_load = inspect.signature(lmri.load_model).parameters
    for one in fields(LoadingOptions):
        assert one.default is not MISSING
        assert one.default == of_load[one.name].default, one.name


def test_the_index_names_what_is_not_as_usual():
    usual = RecordingOptions().parameters
    assert list(usual) == [
        "run_tokens", "texts_per_run", "n_dummy", "test_fraction", "seed", "max_tokens", "batch_size", "projection",
    ]  # fmt: skip
    options = RecordingOptions(
        site=["mlp_hidden"], experts=(4, 0, 4), per="word", generate=3, temperature=0.5, batch_tokens=9, texts_per_run=2
    )
    more = {"experts": [0, 4], "per": "word", "generate": 3, "batch_tokens": 9, "temperature": 0.5}
    assert options.parameters == usual | {"run_tokens": None, "texts_per_run": 2} | more
    assert list(options.parameters) == [*usual, *more]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"site": []}, "site is"),
        ({"n_dummy": -1}, "n_dummy is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_tokens": 0}, "batch_tokens is 0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"shard": (3, 2)}, "shard is 3/2"),
        ({"per": "line"}, "per is 'line'"),
        ({"every": 0}, "every is 0"),
        ({"generate": 0}, "generate is 0"),
        ({"generate": 1, "temperature": -1.0}, "temperature is -1.0"),
        ({"experts": [1]}, "Record 'mlp_hidden' too"),
        ({"corpus": "a b"}, "a b"),
    ],
)
def test_options_of_a_recording_check_themselves(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        RecordingOptions(**wrong)


def test_methods_return_what_is_stored(copy):
    words = generate("mathematics", 8, 5)
    location = copy.model_location
    found = copy.record(location, words, corpus="math", site="mlp_hidden")
    assert found.imgs == copy.recording("math", "mlp_hidden").imgs
    both = copy.record(lmri.load_model(location), words, corpus="again", site=["mlp_hidden"])
    assert [one.corpus for one in both] == ["again"]
    assert both[0].imgs == copy.recording("again").imgs

    assert copy.record(location, words, corpus="parts", site="mlp_hidden", shard=(1, 1)) is None
    assert [one.imgs for one in copy.merge(corpus="parts")] == [copy.recording("parts").imgs]

    [quality] = copy.qc(corpus="math")
    assert quality.info["corpus"] == "math"
    folder = copy.layout.quality("mlp_hidden", "math")
    assert (folder / "qc.html").is_file()
    assert len((folder / "texts.tsv").read_text(encoding="utf-8").splitlines()) == 1 + len(quality.texts)

    [tables] = copy.confounds(corpus="math", no_model=True)
    assert all(path.is_file() for path in tables.written)
    stored = pd.concat(copy.recording("math").confounds)
    np.testing.assert_array_equal(tables.summary["mean"], stored.mean())
    assert "surprisal" in tables.reasons
    assert [one.written for one in copy.confounds(corpus=["math"], no_model=True)] == [()]

    exported = copy.export("canica", to="strip")
    assert exported.is_dir()
    assert (exported / "lmri.json").is_file()

    labels = exported / "labels.txt"
    labels.write_text("melodic\n" + "".join(f"{number}, Signal, False\n" for number in range(1, 5)) + "[]\n")
    accepted = copy.accept("canica", labels, "accepted")
    assert accepted.rejected == []
    assert np.array_equal(accepted.networks.members, copy.networks("accepted").members)

    assert copy.report() == copy.layout.report
    listed = copy.info()
    assert set(listed.loc[listed["kind"] == "recording", "name"]) == {"code", "news", "math", "again", "parts"}
    assert "accepted" in set(listed["name"])
    checked = copy.validate()
    assert isinstance(checked, Findings)
    assert checked.problems == []


def test_phantoms_are_of_the_neurons_of_the_study(walked):
    table = walked.phantom(data=["t5"], method=["fastica-spatial"], threshold=["z:3"], n_components=2)
    assert table["data"].tolist() == ["t5"]
    assert table["n_maps"].tolist() == [2]


def test_a_view_serves_the_study(walked, monkeypatch):
    seen = {}
    monkeypatch.setattr("lmri.report.viewer.serve", lambda study, port, ready, **others: seen.update(vars()))
    walked.view(port=0, no_browser=True)
    assert (seen["study"], seen["port"], seen["others"]["browser"]) == (walked.root, 0, False)
    assert (seen["others"]["subject"], seen["others"]["session"]) == (walked.subject, walked.session)


def test_a_cluster_loads_the_model_itself(tmp_path):
    root = tmp_path / "study"
    lmri.record(build("gpt2"), word_tokenizer(), sentences(8), root)
    with pytest.raises(ValueError, match="Pass its location instead"):
        open_study(root).record((build("gpt2"), word_tokenizer()), sentences(8), corpus="b", scheduler="tcp://x:1")
    with pytest.raises(ValueError, match="--shard and --scheduler"):
        open_study(root).record("nowhere", sentences(8), corpus="b", scheduler="tcp://x:1", shard=(1, 2))


# -- registries -------------------------------------------------------------------------------------------------------


def _fresh(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_a_new_site_is_one_entry():
    program = """
import inspect
from lmri.space.sites import SITES, Site
SITES["dummy"] = Site("dummy", "a dummy", "the wording of a dummy", "a dummy neuron", is_input=True)
import typer
from lmri.cli.app import app
from lmri.models.sites import find_sites
from lmri.report.methods import site_wording
from lmri.space import NeuronSpace
from lmri.space.layers import is_input
command = typer.main.get_command(app).commands["record"]
assert "router or dummy, also" in next(one.help for one in command.params if one.name == "site")
assert '"router", "dummy"}' in find_sites.__doc__ and '"dummy"}' in NeuronSpace.__doc__
assert site_wording("decoder_dummy") == "the wording of a dummy"
assert is_input("dummy") and NeuronSpace.build([4], "decoder_dummy").site == "decoder_dummy"
try:
    NeuronSpace.build([4], "nothing")
except ValueError as error:
    assert "'router', 'dummy'" in str(error), error
else:
    raise AssertionError
"""
    done = _fresh(program)
    assert done.returncode == 0, done.stderr


def test_a_new_confound_is_one_entry(recorded):
    program = f"""
from lmri.decomposition.confounds.registry import CONFOUNDS, Confound
import numpy as np
CONFOUNDS["dummy"] = Confound(
    "dummy", lambda run: np.arange(len(run.events)), "dummies", "A dummy", "counts dummies", "r with dummies",
    "the same with dummies", levels={{"0": "none"}},
)
import typer
import lmri
from lmri.cli.app import app
from lmri.confounds import compute, select
from lmri.report.sections.networks import METRICS
from lmri.report.wording import metric_heading
command = typer.main.get_command(app).commands["confounds"]
assert "dummy (dummies): counts dummies" in command.help, command.help
assert metric_heading("r_dummy") == "r with dummies" and METRICS["r_dummy"] == "the same with dummies"
recording = lmri.open_study({str(recorded.root)!r}).recording(site="mlp_out")
assert compute(recording)[0]["dummy"].tolist() == list(range(recording.runs[0].n_volumes))
try:
    select(recording, ["nothing"])
except ValueError as error:
    assert "dummy" in str(error), error
else:
    raise AssertionError
"""
    done = _fresh(program)
    assert done.returncode == 0, done.stderr


# -- log messages -----------------------------------------------------------------------------------------------------

LOGGING = "import logging, lmri; logging.getLogger('lmri.x').info('a stage'); logging.getLogger('lmri.x').error('bad')"


def test_the_log_is_silent_unless_a_level_is_set():
    assert _fresh(LOGGING, LMRI_LOG="").stderr == ""
    assert _fresh(LOGGING, LMRI_LOG="info").stderr.splitlines() == ["INFO lmri.x: a stage", "ERROR lmri.x: bad"]
    assert _fresh(LOGGING, LMRI_LOG="error").stderr.splitlines() == ["ERROR lmri.x: bad"]


def test_an_unknown_level_is_refused():
    done = _fresh("import lmri", LMRI_LOG="loud")
    assert done.returncode == 1
    assert "'debug', 'info', 'warning', 'error'" in done.stderr.splitlines()[-1]
    with pytest.raises(ValueError, match="The log level is 'loud'"):
        lmri.set_log_level("loud")


def test_the_level_is_set_from_python_too_and_may_change():
    program = LOGGING.replace("lmri;", "lmri; lmri.set_log_level('info'); lmri.set_log_level('error');")
    assert _fresh(program, LMRI_LOG="debug").stderr.splitlines() == ["ERROR lmri.x: bad"]


# -- notebooks --------------------------------------------------------------------------------------------------------


class Seen(HTMLParser):
    """Tags, attributes and text of a piece of HTML."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.scopes, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "th":
            self.scopes.append(dict(attrs).get("scope"))

    def handle_data(self, data):
        self.text += data


HOSTILE = "<script>alert(1)</script>&\"'"


def _check(html):
    seen = Seen(html)
    assert set(seen.tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert seen.tags[:2] == ["table", "caption"]
    assert seen.scopes
    assert set(seen.scopes) <= {"col", "row"}
    return seen.text


def test_hostile_names_are_escaped():
    text = _check(html_table(HOSTILE, pd.DataFrame({HOSTILE: [HOSTILE], "x": [np.nan]})))
    assert text.count("<script>") == 3
    assert HOSTILE in _check(html_table("t", {HOSTILE: HOSTILE}))


def test_networks_with_a_hostile_name_are_shown_and_escaped(walked):
    from dataclasses import replace

    text = _check(replace(walked.networks("canica"), method=HOSTILE)._repr_html_())
    assert HOSTILE in text
    assert "mean layer" in text
    _check(walked.decomposition("canica")._repr_html_())


def test_studies_recordings_and_scores_show_as_tables(walked, tmp_path):
    assert "lesion-canica" in _check(walked._repr_html_())
    assert "mlp_hidden" in _check(walked.recording("code")._repr_html_())
    scores = walked.scores("lesion-canica")
    assert "intact" in _check(scores._repr_html_())
    scores.conditions["network"] = HOSTILE
    _check(type(scores)(scores.items, scores.conditions, scores.tasks, scores.seed)._repr_html_())
    hostile = shutil.copytree(walked.root, tmp_path / "<b>&")
    assert "<b>&" in _check(open_study(hostile)._repr_html_())


def test_long_tables_say_how_much_they_leave_out():
    text = _check(html_table("t", pd.DataFrame({"name": range(MOST_ROWS + 3), "n": 0.123456})))
    assert "and 3 more" in text
    assert "0.123" in text


def test_pages_take_their_tables_from_the_registries():
    docs = Path(__file__).resolve().parents[1] / "docs"
    assert "```{lmri-sites}" in (docs / "recording.md").read_text(encoding="utf-8")
    assert "```{lmri-confounds}" in (docs / "confounds.md").read_text(encoding="utf-8")
