"""The report is one complete page, agrees with the data, and runs no content of texts."""

import base64
import dataclasses
import hashlib
import json
import re
import shutil
import warnings
from html import escape
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import lmri
from lmri import storage
from lmri.decomposition import METHODS
from lmri.decomposition.reproducibility import reproducibility, volume_texts
from lmri.networks.thresholds import THRESHOLDS, value_name
from lmri.report.citing import Methods
from lmri.report.environment import environment, p_value
from lmri.report.quality.page import write_page
from lmri.report.references import REFERENCES
from lmri.report.sections.summary import _failed_initializations
from lmri.report.wording import method_words, threshold_words
from lmri.space import ModelInfo
from lmri.space.drawing import Drawing
from lmri.storage.adding import adding
from lmri.storage.outcome import Outcome
from lmri.storage.recording import volume_meaning, volume_unit
from lmri.study import open_study
from walking import NASTY


class Page(HTMLParser):
    """Elements and visible text of a page, without our own script and its data."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self._hidden = [], [], "", 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend((tag, *attribute) for attribute in attrs)
        self._hidden += tag in ("style", "script")

    def handle_endtag(self, tag):
        self._hidden -= tag in ("style", "script")

    def handle_data(self, data):
        self.text += "" if self._hidden else data


@pytest.fixture(scope="module")
def page(walked):
    return Page(walked.layout.report.read_text())


def only_our_scripts(html):
    """Return the data of the page, and assert that it runs no script except our own."""
    data, code = re.findall(r'<script(?: type="application/json" id="data")?>(.*?)</script>', html, re.DOTALL)
    assert code == (resources.files("lmri.report") / "templates/report.js").read_text()
    allowed = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'" in html
    assert html.count("<script") == html.count("</script") == 2
    assert data.isascii()
    assert not set("<>&") & set(data)
    return json.loads(data)


def test_nothing_is_loaded_from_elsewhere(page):
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "data") and value:
            assert value.startswith(("data:", "#")), (tag, value)
    assert "link" not in page.tags
    assert not [one for one in page.attributes if one[1].startswith("on")]


def test_texts_are_escaped(walked, tmp_path, monkeypatch):
    def nasty(courses, recordings, networks):
        top = {"side": "lowest", "before": NASTY, "token": NASTY, "after": "</table>", "value": 1.0, "corpus": "news"}
        return [[top]] * len(networks)

    monkeypatch.setattr("lmri.report.sections.courses.top_tokens", nasty)
    html = walked.report(tmp_path / "r.html").read_text()
    data = only_our_scripts(html)
    assert NASTY in Page(html).text  # shown as it is, template marks and entities included
    tokens = [token for corpus in data["tokens"].values() for run in corpus for token in run["tokens"]]
    assert "script" in "".join(tokens)


def test_every_network_recording_and_score_is_there(page, walked):
    for name in ("canica", "fastica-temporal", "nothing"):
        for network in walked.networks(name).names:
            assert network in page.text
    assert page.text.count("Empty: no neuron passes the threshold") == 4
    for corpus in ("code", "news"):
        assert corpus in page.text
    assert "random-15%" in page.text
    assert "Limitations" in page.text


def test_numbers_are_those_of_the_tables(page, walked):
    summary = walked.scores("lesion-canica").summary()
    row = summary[summary["condition"] == "canica-union"].iloc[0]
    for value in (row["value"], row["control_mean"], row["effect"]):
        assert f"{value:.4f}".replace("-", "−") in page.text
    assert f"{walked.comparison().mean_r:.3f}" in page.text


def test_methods_name_versions_settings_and_sources(page):
    versions = storage.versions()
    for name in ("lmri", "nilearn", "numpy"):
        assert f"{name} {versions[name]}" in page.text
    assert "@article{liu2025," in page.text
    assert "arXiv:2502.20408" in page.text
    assert "n_components = 4" in page.text


def test_pictures_have_a_description(page):
    pictures = [dict(alt=None) for tag in page.tags if tag == "img"]
    described = [value for tag, name, value in page.attributes if tag == "img" and name == "alt"]
    assert len(described) == len(pictures) > 0
    assert all(described)


def test_the_same_study_gives_the_same_page(walked, tmp_path):
    again = walked.report(tmp_path / "again.html")
    assert again.read_bytes() == walked.layout.report.read_bytes()


def test_a_study_with_recordings_only_has_a_report(recorded, tmp_path):
    page = Page(recorded.report(tmp_path / "r.html").read_text())
    assert "mlp_out" in page.text
    assert "Scores" not in page.text


def test_lightboxes_show_every_member_once(walked):
    import base64
    import io

    from matplotlib.image import imread

    from lmri.report.figures import lightbox, strip

    network = walked.networks("canica")[0]
    values = np.where(network.members, network.z, 0)
    images = lightbox(network.space, values)
    lit = [imread(io.BytesIO(base64.b64decode(uri.split(",")[1])))[..., 3] > 0 for uri in images]
    assert [int(layer.sum()) for layer in lit] == network.layer_profile().tolist()
    # Viewers draw y upwards: neuron 0 is the lower left pixel.
    nx, ny, _ = network.space.shape
    first = network.neurons().iloc[0]
    layer, neuron = int(first["layer"]), int(first["neuron"])
    assert lit[layer][ny - 1 - neuron // nx, neuron % nx]
    rows = imread(io.BytesIO(base64.b64decode(strip(network.space, values).split(",")[1])))[..., 3] > 0
    assert rows.sum() == network.n_neurons
    assert rows[layer, neuron]


def test_top_tokens_are_those_of_both_ends_of_the_time_course(walked):
    from lmri.report.sections.courses import N_TOP, top_tokens

    recordings = {one.corpus: one for one in walked.group()}
    courses = walked.time_courses("canica")
    for network, tops in enumerate(top_tokens(courses, recordings)):
        places = [
            (value, corpus, run, volume)
            for corpus, run, table in courses
            for volume, value in enumerate(table.iloc[:, network])
        ]
        sd = np.std([value for value, *_ in places])
        for side, sign in (("highest", -1), ("lowest", 1)):
            ordered = sorted(places, key=lambda one: sign * one[0])
            own = [top for top in tops if top["side"] == side]
            # Where they say that they are, signed, the furthest first.
            found = [(top["value"] * sd, top["corpus"], top["run"], top["volume"]) for top in own]
            assert [one[1:] for one in found] == [one[1:] for one in ordered[:N_TOP]]
            assert [one[0] for one in found] == pytest.approx([one[0] for one in ordered[:N_TOP]])
            for top in own:
                events = recordings[top["corpus"]].events[top["run"] - 1]
                assert top["token"] == events["token"].iloc[top["volume"]]
        assert tops[N_TOP]["side"] == "lowest"
        assert tops[N_TOP]["value"] < 0 < tops[0]["value"]


def made_with(**parameters):
    return SimpleNamespace(info={"parameters": {"n_dummy": 1, **parameters}})


@pytest.mark.parametrize(
    ("recordings", "unit", "meaning"),
    [
        ([made_with()], "token", "token"),
        ([made_with(), made_with(per="token", every=1)], "token", "token"),
        ([made_with(per="word")], "word", "word"),
        ([made_with(per="sentence"), made_with(per="sentence")], "sentence", "sentence"),
        ([made_with(every=2), made_with(every=2)], "volume", "every 2nd token"),
        ([made_with(every=11)], "volume", "every 11th token"),
        ([made_with(every=23)], "volume", "every 23rd token"),
        ([made_with(per="word"), made_with()], "volume", ""),
        ([made_with(every=2), made_with(every=3)], "volume", ""),
        ([made_with(per="line")], "volume", ""),
        ([], "volume", ""),
    ],
)
def test_what_a_volume_is_follows_from_the_recordings(recordings, unit, meaning):
    assert volume_unit(recordings) == (unit, f"{unit}s")
    assert volume_meaning(iter(recordings)) == meaning


def test_a_small_p_is_never_shown_as_0():
    shown = {0.0: "< 0.001", 0.0004999: "< 0.001", 0.0005: "0.001", 0.0496: "0.050", 1.0: "1.000"}
    assert {value: p_value(np.float64(value)) for value in shown} == shown
    assert p_value(None) == p_value(np.nan) == "–"
    assert environment().from_string("{{ 0.0001 | p_value }}").render() == "&lt; 0.001"


def test_open_study_reports_too(walked, tmp_path):
    assert open_study(walked.root).report(tmp_path / "r.html").is_file()


def test_experiments_are_shown_whole_and_nothing_in_them_runs(walked, tmp_path):
    ours = shutil.ignore_patterns("experiments")
    copy = open_study(shutil.copytree(walked.root, tmp_path / "study", ignore=ours))
    close = "</td></table></details><script>alert(2)</script><img src=x onerror=alert(3)>"
    rows = pd.DataFrame({"task": [NASTY, close], "n_items": [1234, 5], "value": [0.12345, np.nan]})
    layout = pd.DataFrame({"network (neurons)": [close, "1 (37)"], "paper: accuracy": ["0.8538", None]})
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(4)</script><text>{escape(close)}</text></svg>'
    outcome = Outcome(
        "preserve", f"Title {close}", f"One {NASTY}.\n\nTwo {close}.",
        {"main": rows, "further_rows": pd.DataFrame({"n": range(300)})}, {"table-8": layout},
        {"main": Drawing(svg, b"png", f"Caption {close}")},
    )  # fmt: skip
    copy.save_experiment(outcome, "kept", "mlp_hidden", {"networks": "canica"}, {"what": close})
    html = copy.report().read_text()
    page = Page(html)
    only_our_scripts(html)
    test_nothing_is_loaded_from_elsewhere(page)
    for text in (f"Title {close}", f"One {NASTY}.", f"Two {close}.", f"Caption {close}", f"what = {close}"):
        assert text in page.text
    for cell in ("1,234", "0.123", "0.8538", "paper: accuracy", "further rows", "100 more rows in the file"):
        assert cell in page.text
    assert "/experiments/mlphidden/kept" in page.text
    assert "1 experiment." in page.text
    pictures = [value for _, name, value in page.attributes if name == "src" and value.startswith("data:image/svg+xml")]
    assert [base64.b64decode(one.partition(",")[2]).decode() for one in pictures] == [svg]
    # A table of the page: as many cells in each row as there are headings.
    table = html[html.index('<table class="layout">') : html.index("</table>", html.index('<table class="layout">'))]
    assert table.count("<th") - table.count("<thead") == 2
    assert table.count("<td") == 4


def test_a_report_without_experiments_does_not_mention_them(page):
    assert "Experiment" not in page.text
    assert "experiments" not in [value for _, name, value in page.attributes if name == "id"]


# -- what stands where ------------------------------------------------------------------------------------------------


def test_sections_stand_in_order_and_the_navigation_leads_to_them(page, walked):
    ids = [value for tag, name, value in page.attributes if tag == "section" and name == "id"]
    sets = [f"set-mlp_hidden-{one.name}" for one in walked.entries.list("networks")]
    assert ids == ["summary", "quality", "stability", *sets, "compared", "scores", "methods", "limits"]
    every = [value for _, name, value in page.attributes if name == "id"]
    assert len(every) == len(set(every))
    links = {value[1:] for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert set(ids) <= links <= set(every)


def test_the_summary_says_what_was_found_and_what_was_not_done(page, walked, recorded, tmp_path):
    comparison = walked.comparison()
    above = int(comparison.table["above_null"].sum())
    assert f"canica and fastica-temporal at mlp_hidden: {above} of 4 matched pairs exceed their null" in page.text
    assert "nothing at mlp_hidden: 4 maps explain" in page.text
    assert "0 of 4 networks non-empty at |z| > " in page.text
    assert "with 3 controls no test can be significant (the smallest possible p is 0.250)" in page.text
    assert "Analyses not run" not in page.text
    bare = Page(recorded.report(tmp_path / "r.html").read_text()).text
    for words in ("There are no networks", "Methods were not compared", "No network was lesioned"):
        assert words in bare


@pytest.mark.parametrize(
    ("n_converged", "n_starts", "expected"),
    [
        (0, 10, "; 0 of 10 initializations converged"),
        (0, 1, "; 0 of 1 initialization converged"),
        (10, 10, ""),
        (0, 0, ""),
    ],
)
def test_the_summary_says_that_initializations_did_not_converge(n_converged, n_starts, expected):
    results = {"convergence": {"n_converged": n_converged, "n_starts": n_starts}}
    assert _failed_initializations({"results": results}) == expected
    assert not _failed_initializations({"results": {}})


def test_quality_is_computed_or_as_it_was_stored_and_linked_where_there_is_a_page(recorded, tmp_path):
    copy = open_study(shutil.copytree(recorded.root, tmp_path / "study"))
    computed = Page(copy.report().read_text())
    quality = lmri.decomposition.quality.inspect(copy.recording("words", "mlp_out"))
    for finding in quality.findings["finding"]:
        assert finding in computed.text
    assert computed.text.count("Computed for this report") == 2
    folder = quality.write(copy.layout.quality("mlp_out", "words"))
    write_page(quality, folder / "qc.html")
    stored = Page(copy.report().read_text())
    links = [value for tag, name, value in stored.attributes if tag == "a" and name == "href" and value[0] != "#"]
    assert links == ["lmri/sub-unnamedgpt2/qc/mlpout/words/qc.html"]
    assert (copy.root / links[0]).is_file()
    # The same numbers, whether they were stored or not: the pages differ in where they come from alone.
    source = re.compile(r"Computed for this report.*and texts\.|Carpets, neurons.*(?:in the study|with this report)\.")
    assert len(source.findall(stored.text)) == len(source.findall(computed.text)) == 2
    assert source.sub("", stored.text) == source.sub("", computed.text)
    # Elsewhere a link would lead nowhere.
    apart = Page(copy.report(tmp_path / "r.html").read_text())
    assert "lmri/sub-unnamedgpt2/qc/mlpout/words/qc.html" in apart.text
    assert not [value for tag, name, value in apart.attributes if tag == "a" and name == "href" and value[0] != "#"]


def test_quality_of_another_recording_is_not_shown(recorded, tmp_path):
    copy = open_study(shutil.copytree(recorded.root, tmp_path / "study"))
    quality = lmri.decomposition.quality.inspect(copy.recording("words", "mlp_out"))
    findings = quality.findings.assign(finding="made up")
    info = {**quality.info, "n_volumes": 7}
    folder = dataclasses.replace(quality, findings=findings, info=info).write(copy.layout.quality("mlp_out", "words"))
    text = Page(copy.report().read_text()).text
    assert f"{folder} describes another recording" in text
    assert "made up" not in text
    assert text.count("Computed for this report") == 2


def test_large_recordings_are_not_inspected_for_the_report_and_it_says_so(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr("lmri.report.sections.recorded.MOST_VALUES", 10)
    text = Page(recorded.report(tmp_path / "r.html").read_text()).text
    assert (
        "Not computed, because it would take longer than the rest of this report: words at mlp_hidden, words at" in text
    )
    assert "Computed for this report" not in text


def test_quality_that_cannot_be_computed_is_not_called_too_slow(recorded, tmp_path, monkeypatch):
    def fails(recording):
        raise ValueError("run 1 is damaged")

    monkeypatch.setattr("lmri.report.sections.recorded._computed", fails)
    text = Page(recorded.report(tmp_path / "r.html").read_text()).text
    assert "Quality control of words at mlp_out: run 1 is damaged" in text
    assert "Could not be computed, for the reason at the top of this report: words at mlp_hidden, words at" in text
    assert "would take longer" not in text


def test_order_and_stability_are_shown_where_they_were_asked_for(recorded, tmp_path):
    copy = open_study(shutil.copytree(recorded.root, tmp_path / "study"))
    one = copy.recording(site="mlp_out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = lmri.NeuronICA(one.space, "auto", n_init=2, random_state=0).fit(one.imgs)
        found = reproducibility(fitted, volume_texts([one]), n_bootstraps=2, n_splits=2)
        copy.save_decomposition(fitted, [one], reproducibility=found)
        plain = lmri.FastICA(one.space, 2).fit(one.imgs)
    copy.save_decomposition(plain, [one], "plain")
    page = Page(copy.report().read_text())
    assert f"The number of maps was estimated as {fitted.order_.recommended} by parallel analysis" in page.text
    halves = found.metrics["split_half_r"]
    assert f"halves of the texts: median {halves.median():.2f}" in page.text
    beyond = int((halves > found.metrics["split_half_null"]).sum())
    assert f"{beyond} of {len(halves)} maps have a split-half |r| above" in page.text
    assert "All runs together" in page.text  # in the figure of the order
    assert page.text.count("Stability across texts was not assessed") == 1
    assert page.text.count("The number of maps was set by the user, not estimated") == 1


def test_methods_cite_what_was_used_and_nothing_else(walked, page):
    for cited in ("Varoquaux", "Hyvärinen & Oja", "Kuhn", "Phipson"):
        assert cited in page.text
    for other in ("Mensch", "Horn", "Saxe", "Himberg"):
        assert other not in page.text
    n = len(set(re.findall(r"@\w+{(\w+),", page.text)))
    ids = [value for tag, name, value in page.attributes if tag == "li" and name == "id"]
    links = [value[1:] for tag, name, value in page.attributes if name == "href" and value.startswith("#ref-")]
    assert len(ids) == n
    assert set(links) == set(ids)
    settings = walked.entries.find("decompositions", "canica").parameters
    assert f"n_init = {settings['n_init']}" in page.text


def test_custom_descriptions_cite_nothing_and_are_escaped():
    made = Methods()
    made.add("a", "x [@horn1965,nobody] [@nobody] <b> [@horn1965]")
    assert made.cited == ["horn1965"]
    assert str(made.paragraphs[0][1]) == 'x [@horn1965,nobody] [@nobody] &lt;b&gt; [<a href="#ref-horn1965">1</a>]'


@pytest.mark.parametrize("key", REFERENCES)
def test_every_reference_is_a_whole_bibtex_entry(key):
    text = REFERENCES[key].bibtex(key)
    assert text.count("{") == text.count("}")
    assert text.isascii() or REFERENCES[key].title in text
    for name in ("author", "title", "year"):
        assert f"  {name} = {{" in text


# -- studies that are not whole ---------------------------------------------------------------------------------------


def damaged(walked, tmp_path, damage):
    """Damage a copy, write its report, and return its text; comparisons are removed because they take long."""
    left_out = shutil.ignore_patterns("comparisons")
    copy = open_study(shutil.copytree(walked.root, tmp_path / "study", ignore=left_out))
    damage(copy.layout)
    return Page(open_study(copy.root).report().read_text()).text


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def shorten(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def file_of(layout, kind, name, suffix):
    folder = layout.entry(kind, "mlp_hidden", name)
    return next(folder.glob(f"*{suffix}")) if suffix else folder


@pytest.mark.parametrize(
    ("kind", "name", "suffix", "damage", "lost"),
    [
        ("networks", "canica", "_members.nii.gz", Path.unlink, "Networks 'canica'"),
        ("networks", "canica", "_weights.nii.gz", cut, "Networks 'canica'"),
        ("networks", "canica", "entry.json", cut, "Networks 'canica'"),
        ("scores", "lesion-canica", "_items.tsv.gz", cut, "Scores 'lesion-canica'"),
        ("scores", "lesion-canica", "_conditions.tsv", shorten, "Scores 'lesion-canica'"),
        ("networks", "canica", "_neurons.tsv", shorten, "Networks 'canica'"),
        ("decompositions", "canica", "task-code_run-001_mixing.tsv", Path.unlink, "Decomposition 'canica'"),
        ("decompositions", "canica", "", shutil.rmtree, "Networks 'canica'"),
    ],
)
def test_what_is_missing_or_damaged_is_named_and_the_rest_is_shown(walked, tmp_path, kind, name, suffix, damage, lost):
    text = damaged(walked, tmp_path, lambda layout: damage(file_of(layout, kind, name, suffix)))
    assert "could not be read" in text
    assert lost in text
    assert "Networks: fastica-temporal at mlp_hidden" in text
    assert ("Networks: canica at mlp_hidden" in text) == (kind == "scores")
    assert "Limitations" in text


def test_a_table_of_a_decomposition_that_was_changed_is_named(walked, tmp_path):
    def damage(layout):
        path = layout.entry("decompositions", "mlp_hidden", "canica") / "entry.json"
        entry = storage.read_json(path)
        storage.write_text(path.with_name("canica_order.tsv"), "n\n1\n")
        entry["files"]["canica_order.tsv"] = "0" * 16
        storage.write_json(path, entry)

    text = damaged(walked, tmp_path, damage)
    assert "Decomposition 'canica'" in text
    assert "canica_order.tsv is missing or was changed" in text


@pytest.mark.parametrize("what", ["index", "image", "everything"])
def test_a_study_without_a_whole_recording_says_so(walked, tmp_path, what):
    def damage(layout):
        if what == "index":
            cut(layout.recording("mlp_hidden", "news"))
        elif what == "image":
            cut(next(layout.root.glob("sub-*/func/*_bold.nii")))
        else:
            shutil.rmtree(layout.folder / "recordings")

    text = damaged(walked, tmp_path, damage)
    assert "could not be read" in text
    assert "Limitations" in text


def test_a_recording_that_was_begun_is_named(recorded, tmp_path):
    copy = open_study(shutil.copytree(recorded.root, tmp_path / "study"))
    (copy.layout.unfinished / "more_mlpout").mkdir(parents=True)
    assert "Unfinished recordings are not included in this report: more_mlpout" in Page(copy.report().read_text()).text


def test_an_empty_study_has_a_page_that_says_so(tmp_path):
    with adding(tmp_path / "study", ModelInfo("<b>m</b>", None, "00", "gpt2", "float32")):
        pass
    page = Page(open_study(tmp_path / "study").report().read_text())
    assert "There are no recordings" in page.text
    assert "Functional networks of <b>m</b>" in page.text
    assert "Limitations" in page.text


# -- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "values", "words"),
    [
        ("fdr", {"alpha": 0.05, "n_surrogates": 20}, "at a false discovery rate of 0.05 (20 surrogates)"),
        ("fdr_set", {"alpha": 0.05}, "at a false discovery rate of 0.05 over all maps"),
        ("fdr_gaussian", {"alpha": 0.1}, "at a false discovery rate of 0.1 (as if Gaussian)"),
        ("max_t", {"alpha": 0.05, "n_permutations": 1000, "most": 50},
         "at a familywise error of 0.05 (largest t, 1,000 permutations, 50 neurons at most)"),
        ("max_t-positive", {"alpha": 0.05}, "at a familywise error of 0.05 (largest t, positive t alone)"),
        # nilearn's second level is thresholded by q, not by familywise error.
        ("parametric", {"alpha": 0.05}, "at a false discovery rate of 0.05 (parametric)"),
        ("z_positive", {"z": 1.96}, "by positive z (z = 1.96)"),
        ("mixture", {"p": 0.5}, "by a mixture (p = 0.5)"),
        ("top", {"share": 0.01}, "at the strongest 1 % of all neurons"),
        ("support", {}, "by every weight that is not 0"),
    ],
)  # fmt: skip
def test_thresholds_are_put_into_words(method, values, words):
    assert " ".join(threshold_words(method, values)) == words


def test_every_threshold_and_method_has_words():
    for name in THRESHOLDS:
        assert "_" not in " ".join(threshold_words(name, {value_name(name): 0.5} if value_name(name) else {}))
    assert all(method_words(name) != name for name in METHODS)


def test_names_of_settings_stand_in_code_alone(walked):
    html = walked.layout.report.read_text()
    html = html[html.index("<main>") : html.index("</main>")]
    assert "<code>n_components = 4</code>" in html
    text = Page(re.sub(r"<code>.*?</code>|<pre.*?</pre>|<svg.*?</svg>", "", html, flags=re.DOTALL)).text
    assert re.findall(r"\b(?:n_[a-z]+|standardize|scope|max_iter|random_state|nats_per_token)\b", text) == []
    assert "nats per token, lower is better" in text


def test_a_caption_says_of_how_many_items_a_score_is(page, walked):
    summary = walked.scores("lesion-canica").summary()
    few, most = summary["n_items"].min(), summary["n_items"].max()
    assert f"({most} items per task)" in page.text if few == most else f"({few} to {most} items per task)" in page.text
