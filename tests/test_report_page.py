"""The report in a real browser: it opens without an error or a serious barrier, sorts, moves, reads out and prints."""

import base64
import io
import json
import re
import shutil
from contextlib import contextmanager
from importlib import resources
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lmri import NetworkSet, compare, storage
from lmri.lesions.scores import TaskInfo
from lmri.networks.annotation.features import MORE_CONFOUNDS
from lmri.networks.thresholds import q_values
from lmri.report.charts import spectrum_chart
from lmri.report.sections import courses as course_section
from lmri.report.sections.networks import MOST_CARDS
from lmri.report.sections.recorded import _marks
from lmri.report.sections.results import _n_together, scored_neurons
from lmri.report.wording import metric_heading
from lmri.space import ModelInfo, NeuronSpace
from lmri.storage.adding import adding
from lmri.storage.corpora import write_texts_table
from lmri.storage.dataset_files import write_event_sidecars, write_recording_index, write_recording_site
from lmri.storage.outcome import Outcome
from lmri.storage.recording import Recording, Run
from lmri.study import open_study
from test_scores import _scores

HOSTILE = (
    "<script>window.hit=1</script>", "</script><img src=x onerror=window.hit=1>", '" onmouseover="window.hit=1', "'",
    "&amp;", "\u202eright to left", "\u05e9\u05dc\u05d5\u05dd", "a\u200bb", "\u200d", "\n", "\t", " ", "\x00", "\ud800",
    "\u2028", "\u0301", "{{ 7 * 7 }}", "\U0001d518", "NaN", "null", "x" * 200, "<!--", "]]>",
)  # fmt: skip
WORDS = (" the", " cat", " sat", " on", " a", " mat", " and", " saw", " the", " moon", ".")
SITE = "mlp_hidden"
LOSS = TaskInfo("perplexity", "loglikelihood", "nats_per_token", higher_is_better=False, per_token=True)
QUIET = (
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip


# -- planted studies --------------------------------------------------------------------------------------------------


def planted(
    root, widths=(60, 48, 60), n_networks=4, runs=(120, 90), words=WORDS, corpus="news", name="ica", z=2.0, axis=(),
    found=(), shift=0.0, more=None,
):  # fmt: skip
    """Write a study with one corpus and one set of networks without a model; images are empty, as none is read.

    `axis` are parameters of the recording, `found` results of the decomposition, `more` further metrics.
    """
    rng = np.random.default_rng(0)
    space = NeuronSpace.build(widths, SITE, ModelInfo("planted", None, "00ff00ff", "gpt2", "float32"))
    maps = (rng.laplace(size=(n_networks, space.n_neurons)) + shift).astype(np.float32)
    with adding(root, space.model) as study:
        recording = _recorded(study, space, corpus, runs, words, dict(axis))
    courses = [rng.laplace(size=(n, n_networks)) for n in runs]
    names = [f"{name}-{number:02d}" for number in range(n_networks)]
    metrics = pd.DataFrame({"network": names, "variance": rng.random(n_networks), "iq": rng.random(n_networks)})
    metrics = metrics.assign(**(more or {}))
    about = {"name": name, "site": SITE, "inputs": {"corpora": [corpus], "recordings_sha256": [_digest(study)]}}
    settings = {"n_components": n_networks, "standardize": "zscore", "scope": "run", "random_state": 0}

    def write(folder):
        def file(suffix):
            return study.layout.in_entry(folder, SITE, name, suffix)

        storage.save_img(space.to_img(maps, "estimate"), file("components.nii.gz"))
        storage.write_table(file("metrics.tsv"), metrics)
        for run, course in enumerate(courses, start=1):
            table = pd.DataFrame(course, columns=names)
            storage.write_table(file(f"task-{corpus}_run-{run:03d}_mixing.tsv"), table)

    results = {
        "method": "ica", "parameters": settings, "n_runs": len(runs), "n_volumes": sum(runs), "n_dead_neurons": 0,
        "dead_neurons": [], "variance_explained_together": 0.5, "convergence": {"n_starts": 10, "n_converged": 10},
    } | dict(found)  # fmt: skip
    parameters = {"method": results["method"], **results["parameters"]}
    study.entries.write("decompositions", SITE, name, about["inputs"], parameters, results, write)
    if z:
        _thresholded(study, space, maps, metrics, name, z)
    return open_study(recording.root)


def _thresholded(study, space, maps, metrics, name, z):
    """Store the networks as a study does, but for a picture of each that only viewers want."""
    networks = NetworkSet(space, maps, method=name, metrics=metrics.drop(columns="network")).threshold("z", z=z)

    def write(folder):
        def file(suffix):
            return study.layout.in_entry(folder, SITE, name, suffix)

        storage.save_img(space.to_img(networks.weights, "estimate"), file("weights.nii.gz"))
        storage.save_img(space.to_img(networks.members), file("members.nii.gz"))
        storage.write_table(file("networks.tsv"), networks.table)

    source = study.entries.find("decompositions", name, SITE)
    inputs = {"decomposition": name, "decomposition_sha256": source.digest}
    counts = {"n_networks": len(maps), "n_empty": 0}
    study.entries.write("networks", SITE, name, inputs, dict(networks.origin.threshold), counts, write)


def _digest(study):
    from lmri.storage.dataset_files import recording_digest

    return recording_digest(open_study(study.root).recordings()[0])


def _recorded(study, space, corpus, lengths, words, axis):
    layout, rows, found = study.layout, [], []
    for number, n in enumerate(lengths, start=1):
        tokens = [words[place % len(words)] for place in range(n)]
        edges = [0, *range(40, n - 20, 47), n]
        names = [f"{corpus}-{len(rows) + place:04d}" for place in range(len(edges) - 1)]
        sizes = [last - first for first, last in pairwise(edges)]
        position = np.concatenate([np.arange(1, size + 1) for size in sizes])
        within = [tokens[first:last] for first, last in pairwise(edges)]
        ends = np.concatenate([np.cumsum([len(token) for token in text]) for text in within])
        events = pd.DataFrame({"onset": np.arange(n, dtype=float), "duration": 1.0, "trial_type": corpus})
        events = events.assign(text_id=np.repeat(names, sizes), token=pd.Series(tokens, dtype=object), token_id=7)
        events = events.assign(position=position, start=ends - [len(token) for token in tokens], end=ends)
        stem = (corpus, number)
        run = Run(layout.bold(*stem, space.site), layout.events(*stem), layout.tokens(*stem), n)
        run.img.parent.mkdir(parents=True, exist_ok=True)
        with run.img.open("wb") as stream:  # of the right size, and empty
            stream.truncate(n * int(np.prod(space.shape)) * 4 + 4096)
        storage.write_table(run.events, events)
        storage.write_table(run.tokens, events.assign(dummy=0, volume=np.arange(n)))
        found.append(run)
        rows += [
            (one, f"{one:0>64}", "fit", number, size, size, 0, "".join(text))
            for one, size, text in zip(names, sizes, within, strict=True)
        ]
    columns = ["text_id", "sha256", "split", "run", "n_tokens", "n_volumes", "n_cut", "text"]
    whole = dict.fromkeys(("run", "n_tokens", "n_volumes", "n_cut"), int)
    # As objects: texts may hold what pandas' own strings cannot.
    texts = pd.DataFrame(rows, columns=columns, dtype=object).astype(whole)
    parameters = {"n_dummy": 1, **axis}
    write_texts_table(layout, corpus, texts, {})
    write_event_sidecars(layout, corpus, len(found))
    write_recording_site(layout, space, corpus, texts, parameters)
    write_recording_index(layout, Recording(space, corpus, tuple(found), texts, {}), parameters, storage.versions())
    return study


def planted_values(study, network=0):
    """Return a time course as on the page: z-scored over all volumes."""
    course = np.concatenate([table.to_numpy() for _, _, table in study.time_courses("ica")])[:, network]
    return (course - course.mean()) / course.std()


# -- without a browser ------------------------------------------------------------------------------------------------


def test_fifty_networks_of_a_gpt2_with_thousands_of_tokens_stay_far_below_15_megabytes(tmp_path):
    study = planted(tmp_path / "study", (768,) * 12, 50, (2000, 2000))
    html = study.report().read_text(encoding="utf-8")
    assert len(html.encode()) < 8e6
    assert html.count('<details class="network"') == 50
    assert "have a picture here" not in html
    # All values are there, as bytes: each within half a step of what was stored.
    low, high, packed = _courses(html)[0]
    values = low + np.frombuffer(base64.b64decode(packed), np.uint8) / 255 * (high - low)
    grain = (high - low) / 510 + 1e-5  # half a step; time courses are stored with 6 digits
    assert np.abs(values - planted_values(study)).max() <= grain


def test_five_hundred_networks_are_all_in_the_table_and_the_page_says_whose_pictures_are_not(tmp_path):
    html = planted(tmp_path / "study", (40, 40), 500, (60,)).report().read_text(encoding="utf-8")
    assert html.count('<details class="network"') == MOST_CARDS
    assert f"<b>{MOST_CARDS} of 500 networks are shown in detail</b>" in html
    assert len(set(re.findall(r"\bica-\d\d+\b", html))) == 500
    assert len(html.encode()) < 15e6


def test_if_there_are_too_many_networks_nonempty_ones_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr("lmri.report.sections.networks.MOST_CARDS", 3)
    monkeypatch.setattr("lmri.report.sections.networks.FEWEST_CARDS", 2)
    study = planted(tmp_path / "study", n_networks=6, z=4.2)
    filled = np.flatnonzero(study.networks("ica").members.any(axis=1))
    assert 0 < len(filled) < 6
    html = study.report().read_text(encoding="utf-8")
    cards = [int(number) for number in re.findall(r'<details class="network" id="set-mlp_hidden-ica--(\d+)"', html)]
    assert len(cards) == 3
    assert set(filled[:3]) <= set(cards)


def test_a_long_time_course_is_carried_as_ranges_that_hold_every_value(tmp_path, monkeypatch):
    monkeypatch.setattr("lmri.report.sections.networks.MOST_VALUES", 50)
    study = planted(tmp_path / "study")
    html = study.report().read_text(encoding="utf-8")
    low, high, packed = _courses(html)[0]
    step = json.loads(html.split('id="data">')[1].split("</script>")[0])["sets"]["set-mlp_hidden-ica"]["step"]
    assert step == 5
    assert f"the lowest and highest value of every {step} tokens" in html
    lowest, highest = (low + np.frombuffer(base64.b64decode(packed), np.uint8) / 255 * (high - low)).reshape(2, -1)
    own = planted_values(study).reshape(-1, step)
    grain = (high - low) / 510 + 1e-5  # half a step; time courses are stored with 6 digits
    assert np.abs(lowest - own.min(axis=1)).max() <= grain
    assert np.abs(highest - own.max(axis=1)).max() <= grain


def test_with_too_many_tokens_the_page_says_that_it_has_no_text(tmp_path, monkeypatch):
    monkeypatch.setattr(course_section, "MOST_TOKENS", 200)
    html = planted(tmp_path / "study").report().read_text(encoding="utf-8")
    assert "too many volumes to include their text" in html
    assert '"tokens":{}' in html


@pytest.mark.parametrize(
    ("axis", "unit", "meaning"),
    [
        ({}, "token", ""), ({"per": "word"}, "word", ""), ({"per": "sentence"}, "sentence", ""),
        ({"every": 2}, "volume", " (every 2nd token)"),
    ],
)  # fmt: skip
def test_volumes_are_called_what_they_are(tmp_path, axis, unit, meaning):
    courses = {"spectral_peak": [0.25], "r_position": [0.5], "r_surprisal": [0.1]}
    html = planted(tmp_path / "study", n_networks=1, axis=axis, more=courses).report().read_text(encoding="utf-8")
    own = html[html.index('id="set-mlp_hidden-ica"') : html.index('id="methods"')]
    assert f"Time course of the whole map over 210 {unit}s{meaning}, in" in own
    assert f"Variance per cycle per {unit}, over cycles per {unit}, in windows of 32 {unit}s of" in own
    assert f"<h3>Top {unit}s of the whole map</h3>" in own
    assert "<h3>Power spectrum of the whole map</h3>" in own
    assert f"<dd>frequency (cycles per {unit}) at which" in own
    noun = "token" if unit == "volume" else unit
    assert f"the logarithm of the position of the {noun} in its text: log(1 + position)" in own
    assert ("summed over its tokens" in own) == (unit in ("word", "sentence"))
    others = {"token", "word", "sentence", "volume"} - {unit}
    assert not re.findall(rf"\b(?:per|210|32|Top) ({'|'.join(others)})s?\b", own)
    assert str(spectrum_chart(np.arange(6) / 10, np.ones(6), 0.25, unit)).count(f"0.250 cycles per {unit}") == 1


def test_the_table_lists_both_extremes_of_a_time_course(tmp_path):
    study = planted(tmp_path / "study", n_networks=1)
    html = study.report().read_text(encoding="utf-8")
    table = html[html.index('<table class="tokens">') :].split("</table>")[0]
    assert re.findall(r'<th colspan="3"[^>]*>(\w+)</th>', table) == ["Highest", "Lowest"]
    shown = re.findall(r"<td>([−\d.]+)</td>", table)
    values = np.sort(planted_values(study))
    assert shown == [f"{one:.1f}".replace("-", "−") for one in [*values[::-1][:5], *values[:5]]]


CONTRAST = {
    "method": "localizer", "level": "between",
    "parameters": {"contrast": "a - b", "column": "trial_type", "test": "max_t", "random_state": 0},
    "n_units": {"a": 3, "b": 3},
}  # fmt: skip


@pytest.mark.parametrize("is_t", [True, False])
def test_a_localizer_is_shown_by_its_t_and_a_map_by_its_z(tmp_path, is_t):
    # Far from 0 in the mean, so that z over neurons has other signs than t.
    more = {"p_min": [0.0001], "max_abs_t": [9.0], "skewness": [0.2], "sign_determined": [1]}
    found = CONTRAST if is_t else {}
    study = planted(tmp_path / "study", n_networks=1, z=1.5, shift=3.0, found=found, more=more)
    network = study.networks("ica")[0]
    strength = network.weights if is_t else network.z
    members = network.members
    assert (np.sign(network.z) != np.sign(network.weights))[members].any()
    html = study.report().read_text(encoding="utf-8")
    own = html[html.index('id="set-mlp_hidden-ica"') :]
    name = "t" if is_t else "z"
    assert f"opacity shows |{name}|, up to {np.abs(strength[members]).max():.1f}." in own
    table = own[own.index("<h3>Top neurons</h3>") :].split("</table>")[0]
    assert f"<th>{name}</th>" in table
    rows = re.findall(r"<tr><td>(\d+)</td><td>(\d+)</td><td>([−\d.]+)</td></tr>", table)
    layers, neurons = network.space.layer_of, network.space.neuron_of
    for layer, neuron, value in rows:
        place = np.flatnonzero((layers == int(layer)) & (neurons == int(neuron)))[0]
        assert value == f"{strength[place]:.1f}".replace("-", "−")
    # Red where it is above 0, blue where it is below.
    strip = own[own.index('class="strip"') :].split("base64,")[1].split('"')[0]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(strip))))[layers, neurons]
    assert ((pixels[:, 3] > 0) == members).all()
    assert ((pixels[:, 0] > pixels[:, 2]) == (strength > 0))[members].all()
    # p is small, and not 0.
    assert '<td class="v-main" data-v="0.0001">&lt; 0.001</td>' in own
    assert ("the contrast determines the sign" in own) == is_t
    assert ("signed so that the heavier tail is positive" in own.split('id="methods"')[0]) == (not is_t)


def test_columns_say_whose_signs_the_maps_have(tmp_path):
    found = {"parameters": {"standardize": "zscore", "scope": "run", "random_state": 0, "signs": "solver"}}
    more = {"skewness": [0.2], **{f"r_{name}": [0.1] for name in MORE_CONFOUNDS}}
    html = planted(tmp_path / "study", n_networks=1, found=found, more=more).report().read_text(encoding="utf-8")
    own = html[html.index('id="set-mlp_hidden-ica"') : html.index('id="methods"')]
    assert "signs do not depend on it" in own
    assert "heavier tail is positive" not in own
    # All correlations with confounds that a decomposition may have are explained.
    for name in more:
        assert re.search(rf"<dt>{re.escape(metric_heading(name))}</dt><dd>[^{{]+</dd>", own)


def _courses(html):
    found = re.findall(r'data-low="([^"]+)" data-high="([^"]+)" data-values="([^"]+)"', html)
    return [(float(low), float(high), packed) for low, high, packed in found]


# -- in a browser -----------------------------------------------------------------------------------------------------


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine: apt-get install chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *QUIET])
        yield opened
        opened.close()


@contextmanager
def opened(browser, path, **options):
    """Open a page from disk and offline, and assert that it has no errors and requests nothing."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 720}, **options)
    page = context.new_page()
    wrong, asked = [], []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert wrong == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    context.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The report of a study whose tokens, labels and names would do harm as markup."""
    root = tmp_path_factory.mktemp("hostile") / "study"
    study = planted(root, words=(*WORDS, *HOSTILE), n_networks=5)
    study.label("ica-01", "</td><script>window.hit=1</script>\u202e\u200b", SITE)
    maps = study.decomposition("ica")
    study.save_networks(maps.threshold("z", z=1000.0), "ica", "nothing")
    study.save_comparison(compare(study.networks("ica"), study.networks("nothing")), seed=0)
    base = np.array([1.0, 2.0, 3.0, 2.0, 1.0, 2.0])
    drawn = {f"ica-00/{number}": base + 0.02 * number for number in range(19)}
    scores = _scores({"intact": base, "ica-00": base + 0.5, **drawn}, (LOSS,))
    study.save_scores(scores, "lesion-ica", SITE, "ica", {"intervention": "lesion"})
    rows = pd.DataFrame({"task": [*HOSTILE[:4]], "value": [0.1, 0.2, np.nan, 0.3]})
    outcome = Outcome("preserve", HOSTILE[0], HOSTILE[1], {"main": rows}, {"table-1": rows.astype(str)})
    study.save_experiment(outcome, "kept", SITE, {"networks": "ica"})
    return study.report()


def serious(page, rules=()):
    """List the serious accessibility problems reported by axe: rule and first element."""
    page.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    # Within figures by matplotlib there are thousands of lines, and nothing to focus.
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found = page.evaluate("(options) => axe.run({exclude: ['figure.chart svg']}, options)", options)["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize(("scheme", "rules"), [("light", ()), ("dark", ("color-contrast",))])
def test_there_is_no_serious_barrier(browser, hostile, scheme, rules):
    pytest.importorskip("axe_playwright_python", reason="axe is not installed: pip install axe-playwright-python")
    with opened(browser, hostile, color_scheme=scheme) as page:
        page.evaluate("document.querySelectorAll('details:not(.network)').forEach((one) => { one.open = true })")
        assert serious(page, rules) == []
        # It would notice.
        page.evaluate("document.querySelector('.lightbox img').removeAttribute('alt')")
        assert {rule for rule, _ in serious(page, ("image-alt",))} == {"image-alt"}


def test_nothing_that_a_text_holds_runs_or_is_loaded(browser, hostile):
    with opened(browser, hostile) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        page.wait_for_selector(".plot[role=slider]")
        for plot in page.locator(".plot.time").all():
            plot.focus()
            for place in ("Home", "PageUp", "PageUp", "PageUp", "End"):
                page.keyboard.press(place)
        assert page.evaluate("window.hit") is None
        assert page.locator("main script, main img[src^=x]").count() == 0
        shown = page.locator(".reading .text").first.inner_text()
        assert "<" in "".join(page.locator(".reading .text").all_inner_texts())
        assert "\u202e" not in shown


def test_scripts_that_are_not_ours_would_not_run(browser, hostile, tmp_path):
    html = hostile.read_text(encoding="utf-8")
    path = tmp_path / "report.html"
    path.write_text(html.replace("</main>", "<script>window.hit=1</script></main>", 1), encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("window.hit") is None
    assert page.locator(".networks th button").count() > 0  # and ours did
    context.close()


def column(page, number):
    return page.locator("table.networks").first.locator(f"tbody tr td:nth-child({number})").all_inner_texts()


def test_tables_sort_by_click_and_by_keyboard(browser, hostile):
    with opened(browser, hostile) as page:
        head = page.locator("table.networks").first.locator("th", has_text=re.compile("^neurons"))
        place = [one.strip() for one in page.locator("table.networks").first.locator("th").all_inner_texts()]
        number = 1 + next(index for index, text in enumerate(place) if text.startswith("neurons"))
        sizes = [int(text) for text in column(page, number)]
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert [int(text) for text in column(page, number)] == sorted(sizes, reverse=True)
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        assert [int(text) for text in column(page, number)] == sorted(sizes)
        page.locator("table.networks").first.locator("th button").first.click()
        assert column(page, 1) == [f"ica-{number:02d}" for number in range(5)]
        assert page.locator("th[aria-sort]").count() == 1


def test_missing_values_come_last_either_way(browser, tmp_path):
    study = planted(tmp_path / "study", n_networks=6, z=4.2)
    with opened(browser, study.report()) as page:
        head = page.locator("table.networks th button", has_text="mean layer")
        for _ in range(2):
            head.click()
            values = column(page, 5)
            known = [text for text in values if text != "–"]
            assert values == known + ["–"] * (6 - len(known))
            assert 0 < len(known) < 6


def test_keys_move_through_the_networks_and_links_open_them(browser, hostile):
    with opened(browser, hostile) as page:

        def is_open():
            return page.locator("[data-set=set-mlp_hidden-ica] details.network[open] > summary > b").all_inner_texts()

        assert is_open() == ["ica-00"]
        page.keyboard.press("j")  # from the top of the page the first is the next
        assert is_open() == ["ica-00"]
        for key, name in (("j", "ica-01"), ("ArrowRight", "ica-02"), ("k", "ica-01"), ("ArrowLeft", "ica-00")):
            page.keyboard.press(key)
            assert is_open() == [name]
            assert page.evaluate("document.activeElement.innerText").startswith(name)
        page.keyboard.press("k")  # there is none before the first
        assert is_open() == ["ica-00"]
        page.locator("table.networks a", has_text="ica-03").first.click()
        page.wait_for_function("document.getElementById('set-mlp_hidden-ica--03').open")
        assert is_open() == ["ica-03"]
        page.keyboard.press("Control+j")
        assert is_open() == ["ica-03"]


def test_the_navigation_follows(browser, hostile):
    with opened(browser, hostile) as page:
        assert page.locator("nav li > a[aria-current]").inner_text() == "Summary"
        for name, anchor in (("Methods", "methods"), ("ica · mlp_hidden", "set-mlp_hidden-ica")):
            page.evaluate(f"document.getElementById('{anchor}').scrollIntoView()")
            page.locator("nav a[aria-current]", has_text=name).wait_for()
        assert page.locator(".chips a:visible").count() == 5


def test_a_time_course_reads_out_the_token_and_the_value_that_are_there(browser, tmp_path):
    study = planted(tmp_path / "study")
    values = planted_values(study)
    with opened(browser, study.report()) as page:
        plot = page.locator("details[open] .plot.time")
        plot.focus()
        page.keyboard.press("Home")
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        own = page.locator("details[open] .reading")
        expected = f"{values[3]:.1f}".replace("-", "−")
        assert own.locator(".at").inner_text().startswith(f"{expected} sd · news, run 1, volume 3")
        assert own.locator(".here").inner_text() == WORDS[3]
        assert "“on”" in plot.get_attribute("aria-valuetext")
        # Arrow keys on the course do not leave the network.
        assert page.locator("details.network[open] > summary > b").all_inner_texts() == ["ica-00"]
        box = plot.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 150.5 / 210, box["y"] + 20)
        assert "news, run 2, volume 30" in own.locator(".at").inner_text()
        assert own.locator(".here").inner_text() == WORDS[30 % len(WORDS)]


def test_without_scripts_networks_open_and_all_is_there_to_read(browser, hostile):
    with opened(browser, hostile, java_script_enabled=False) as page:
        assert page.locator("details.network").count() == 10
        second = page.locator("details.network").nth(1)
        assert not second.locator(".lightbox").is_visible()
        second.locator("summary").click()
        assert second.locator(".lightbox").is_visible()
        assert second.locator(".plot svg").is_visible()
        assert second.locator(".tokens").is_visible()
        assert not page.locator(".reading:visible, .live:visible, .copy:visible, .keys:visible").count()


def test_in_print_everything_is_open_and_there_is_no_navigation(browser, hostile):
    with opened(browser, hostile) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = false })")
        page.emulate_media(media="print")
        assert not page.locator("nav").is_visible()
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details[open]").count() == 0
        assert len(page.pdf()) > 10_000


def test_the_bibliography_can_be_copied(browser, hostile):
    with opened(browser, hostile) as page:
        page.locator(".bibtex > summary").click()
        page.locator(".copy").click()
        page.wait_for_function("document.querySelector('.copy').textContent !== 'Copy'")
        assert page.evaluate("getSelection().toString()").lstrip().startswith("@article{liu2025,")


def test_the_table_of_networks_fits_a_page_and_no_number_is_lost(browser, tmp_path):
    stability = {"iq_texts": 0.5, "split_half_r": 0.4, "split_half_null": 0.3, "spectral_peak": 0.25, "converged": 1.0}
    shape = {"skewness": 0.2, "sign_determined": 1, "kurtosis": 3.0, "sparsity": 0.3, "layer_centre": 1.0}
    confounds = {f"r_{name}": -0.1 for name in MORE_CONFOUNDS}
    more = stability | shape | {"layer_entropy": 0.9, "top_token_share": 0.01} | confounds
    study = planted(tmp_path / "study", name="fastica-temporal", more=more)
    with opened(browser, study.report()) as page:
        own = page.locator("[data-set=set-mlp_hidden-fastica-temporal]")
        seen = set()
        for view in ("main", "shape", "confounds"):
            own.locator(f".views input[value={view}]").check()
            wide, fits = own.locator(".scroll").first.evaluate("(one) => [one.scrollWidth, one.clientWidth]")
            assert wide <= fits
            heads = own.locator(".networks th:visible")
            seen |= {name for name in heads.evaluate_all("(all) => all.map((one) => one.title)") if name}
            head = heads.nth(3).locator("button")
            head.click()
            assert heads.nth(3).get_attribute("aria-sort") == "descending"
        assert seen == {"variance", "iq", *more}
        own.locator(".views input[value=all]").check()
        assert own.locator(".networks th:visible").count() == 5 + len(seen)
        page.emulate_media(media="print")
        assert own.locator(".networks th:visible").count() == 5 + len(seen)
        assert not own.locator(".views").is_visible()


RAW = re.compile(r"\b(?:n_\w+|standardize|scope|max_iter|p_\w+|q_\w+|nats_per_token|fdr_set|max_t|layer\+size)\b")


def test_no_names_of_settings_stand_in_the_words_of_the_page(browser, hostile):
    with opened(browser, hostile) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        everything = page.locator("body").inner_text()
        assert RAW.search(everything)  # as code they are there
        page.evaluate("document.querySelectorAll('code, pre, .tokens, .reading').forEach((one) => one.remove())")
        words = page.locator("main").inner_text()
        assert "every neuron z-scored within each run" in words
        assert RAW.findall(words) == []


# -- what is said of scores, and of spikes ----------------------------------------------------------------------------


@pytest.mark.parametrize(("n_networks", "n_controls", "too_few"), [(2, 39, False), (2, 38, True), (6, 119, False)])
def test_a_single_test_has_to_stand_out_among_those_of_its_task_alone(n_networks, n_controls, too_few):
    """Benjamini and Hochberg's procedure runs within a task, metric and family; more tasks take no more controls."""
    rows = [
        {"task": task, "metric": "loss", "control_family": "layer+size", "condition": f"n-{number}"}
        for task in ("news", "code", "maths")
        for number in range(n_networks)
    ]
    p = 1 / (1 + n_controls)
    assert (p * _n_together(pd.DataFrame(rows)) > 0.05 + 1e-12) == too_few  # ties but for rounding
    p_values = np.r_[p, np.ones(n_networks - 1)]
    assert (q_values(p_values).min() > 0.05 + 1e-12) == too_few  # what it means


def entry_of(name, inputs, **parameters):
    return SimpleNamespace(name=name, site=SITE, inputs=inputs, parameters=parameters)


def test_scores_say_whose_neurons_were_changed():
    doses = entry_of("doses", {"networks": ["ica", "canica"], "scores": "amplified"})
    other = entry_of("other", {"networks": "else", "scores": "else"})
    assert scored_neurons(entry_of("lesion", {"networks": "ica"}), [doses]) == "ica"
    assert scored_neurons(entry_of("amplified", {}), [other, doses]) == "ica, canica"
    assert scored_neurons(entry_of("lesion-mine", {}, rois=[{"name": "mine"}, {"name": "yours"}]), []) == "mine, yours"
    assert scored_neurons(entry_of("lesion-15%", {}), [doses]) == "other neurons"


def test_marks_of_spikes_lie_over_the_whole_time_course():
    few = _marks(np.array([0, 999]), 1000)
    assert few == [0.1, 99.9]
    many = _marks(np.arange(0, 100_000, 2), 100_000)
    assert len(many) == 500
    assert min(many) < 1
    assert max(many) > 99
