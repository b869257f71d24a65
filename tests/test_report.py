"""The report is one whole page, says what the data say, and runs nothing that a text contains."""

import base64
import shutil
from html import escape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from lmri import storage
from lmri.outcome import Drawing, Outcome
from lmri.study import open_study
from walking import NASTY


class Page(HTMLParser):
    """Elements and visible text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self._hidden = [], [], "", 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend((tag, *attribute) for attribute in attrs)
        self._hidden += tag == "style"

    def handle_endtag(self, tag):
        self._hidden -= tag == "style"

    def handle_data(self, data):
        self.text += "" if self._hidden else data


@pytest.fixture(scope="module")
def page(walked):
    return Page(walked.layout.report.read_text())


def test_nothing_is_loaded_from_elsewhere(page):
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "data") and value:
            assert value.startswith(("data:", "#")), (tag, value)
    assert "link" not in page.tags


def test_texts_are_escaped(walked, tmp_path, monkeypatch):
    def nasty(courses, recordings):
        top = {"before": NASTY, "token": NASTY, "after": "</table>", "value": 1.0, "corpus": "news"}
        return [[top]] * courses[0][2].shape[1]

    monkeypatch.setattr("lmri.report.page.top_tokens", nasty)
    html = walked.report(tmp_path / "r.html").read_text()
    page = Page(html)
    assert "script" not in page.tags
    assert "<script" not in html
    assert NASTY in page.text  # shown as it is, template marks and entities included


def test_every_network_recording_and_score_is_there(page, walked):
    for name in ("canica", "fastica-temporal", "nothing"):
        for network in walked.networks(name).names:
            assert network in page.text
    assert page.text.count("Empty: no neuron passes the threshold") == 4
    for corpus in ("code", "news"):
        assert corpus in page.text
    assert "random-15%" in page.text
    assert "What this does not show" in page.text


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
    lit = [imread(io.BytesIO(base64.b64decode(uri.split(",")[1])))[..., 3] > 0 for uri in lightbox(network)]
    assert [int(layer.sum()) for layer in lit] == network.layer_profile().tolist()
    # Viewers draw y upwards: neuron 0 is the lower left pixel.
    nx, ny, _ = network.space.shape
    first = network.neurons().iloc[0]
    layer, neuron = int(first["layer"]), int(first["neuron"])
    assert lit[layer][ny - 1 - neuron // nx, neuron % nx]
    rows = imread(io.BytesIO(base64.b64decode(strip(network).split(",")[1])))[..., 3] > 0
    assert rows.sum() == network.n_neurons
    assert rows[layer, neuron]


def test_top_tokens_are_those_of_the_time_course(walked):
    from lmri.report.page import top_tokens

    recordings = {one.corpus: one for one in walked.group()}
    courses = walked.time_courses("canica")
    tops = top_tokens(courses, recordings)
    best = max(
        ((table.iloc[:, 0].max(), corpus, run, table.iloc[:, 0].idxmax()) for corpus, run, table in courses),
        key=lambda one: one[0],
    )
    assert tops[0][0]["token"] == recordings[best[1]].events[best[2] - 1]["token"].iloc[best[3]]
    assert [top["value"] for top in tops[0]] == sorted((top["value"] for top in tops[0]), reverse=True)


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
    assert "script" not in page.tags
    assert "<script" not in html
    assert not [one for one in page.attributes if one[1].startswith("on")]
    test_nothing_is_loaded_from_elsewhere(page)
    for text in (f"Title {close}", f"One {NASTY}.", f"Two {close}.", f"Caption {close}", f"what = {close}"):
        assert text in page.text
    for cell in ("1,234", "0.123", "0.8538", "paper: accuracy", "further rows", "100 more rows are in the file"):
        assert cell in page.text
    assert "lmri/experiments/mlphidden/kept" in page.text
    assert "1 experiment." in page.text
    pictures = [value for _, name, value in page.attributes if name == "src" and value.startswith("data:image/svg+xml")]
    assert [base64.b64decode(one.partition(",")[2]).decode() for one in pictures] == [svg]
    # A table of the page: as many cells in each row as there are headings.
    table = html[html.index('<table class="layout">') : html.index("</table>", html.index('<table class="layout">'))]
    assert table.count("<th") - table.count("<thead") == 2
    assert table.count("<td") == 4


def test_a_study_without_experiments_says_nothing_of_them(page):
    assert "xperiment" not in page.text
