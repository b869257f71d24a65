"""The viewer page of a study of several models, in a real browser: the menu of models, and what a change leaves."""

import re
import warnings
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from lmri import FastICA
from lmri.report.viewer import serving
from lmri.space import ModelInfo, NeuronSpace
from lmri.storage.adding import ModelLabels, adding
from lmri.study import open_study
from test_report_page import serious
from test_viewer_page import (
    NO_WEBGL,
    RELEASE,
    SOFTWARE,
    WIDTHS,
    decompose,
    drawn,
    hold,
    in_words,
    launched,
    opened,
    plant,
    playwright,
    record,
    says,
    state,
    tokens_of,
    voxel,
)

SMALL = (35, 35)  # 6 × 6 voxels a layer, one layer less than the first model
ALPHA, BETA = "sub-alpha", "sub-beta_ses-int8"


def halves(texts):
    """The same texts in other tokens: each word as two."""
    return [[part for token in text for part in (token[:2], token[2:]) if part] for text in texts]


def add(root, labels, widths, corpora, seed):
    """Add a model to a study; its activations are simulated."""
    rng = np.random.default_rng(seed)
    model = ModelInfo(f"maker/{labels.subject}", None, f"{seed:0>16}", "gpt2", "float32")
    space = NeuronSpace.build(widths, "mlp_hidden", model)
    maps = np.where(rng.random((4, space.n_neurons)) < 0.08, rng.normal(2.5, 1, (4, space.n_neurons)), 0)

    def draw(n):
        return rng.laplace(size=(n, 4)) @ maps + rng.normal(size=(n, space.n_neurons))

    with adding(root, model, labels) as study:
        for corpus, runs in corpora.items():
            record(study, space, corpus, runs, draw)
    return open_study(root, labels.subject, labels.session)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of other sizes, tokens and networks; sites, corpora and sets have equal names."""
    root = tmp_path_factory.mktemp("several") / "study"
    runs = [tokens_of(120), tokens_of(90)]
    alpha = add(root, ModelLabels("alpha"), WIDTHS, {"news": runs, "odd": [tokens_of(75)]}, seed=1)
    decompose(alpha)
    beta = add(root, ModelLabels("beta", "int8"), SMALL, {"news": [halves(run) for run in runs]}, seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = FastICA(beta.space(), 3).fit(beta.recording().imgs)
    beta.save_decomposition(fitted, beta.group(), "ica")
    beta.save_networks(beta.decomposition("ica").threshold("z", z=2.0), "ica")
    return SimpleNamespace(root=root, alpha=open_study(root, "alpha"), beta=open_study(root, "beta"))


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver, launched(driver, SOFTWARE) as found:
        yield found


@pytest.fixture(scope="module")
def address(models):
    with serving(models.root) as found:
        yield found


def shows(page, study, network="ica-00"):
    """Wait until the page shows one model, and check that no part of it is of another one."""
    space, networks, recording = study.space(), study.networks("ica"), study.recording("news")
    page.wait_for_selector(f"#table-pane tr[data-key={network}][aria-selected=true]")
    shown = networks[networks.names.index(network)]
    says(page, "#readout", f"{shown.members.sum()} neurons shown")
    says(page, "#readout", f"of {space.n_neurons}")
    says(page, "#study-model", study.model.id)
    playwright.expect(page.locator("#model")).to_have_value(study.scope)
    playwright.expect(page.locator("#table-pane tbody tr")).to_have_count(len(networks))
    playwright.expect(page.locator(".stage >> nth=0").locator(".tile")).to_have_count(space.n_layers)
    playwright.expect(page.locator(".bars i")).to_have_count(space.n_layers)
    tokens = recording.events[0]["token"].tolist()
    playwright.expect(page.locator(".token")).to_have_count(len(tokens))
    assert page.locator(".token").all_text_contents() == tokens
    says(page, "#strip-note", f"of {len(tokens)}")
    page.wait_for_selector("#network-tops button", state="attached")
    assert state(page).scope == study.scope


# -- one model --------------------------------------------------------------------------------------------------------


def test_one_model_has_no_menu_and_no_name_in_addresses(browser, tmp_path):
    study, asked = plant(tmp_path / "study", corpora={"news": [tokens_of(60)]}), []
    with serving(study.root) as url, opened(browser, url, ready=".token", script=NO_WEBGL) as page:
        page.on("request", lambda one: asked.append(one.url))
        page.reload()
        page.wait_for_selector(".token")
        assert page.locator("#models").is_hidden()
        assert "scope" not in page.url
        assert asked
        assert not [url for url in asked if "scope" in url]
        assert page.title() == "study · lmri view"
        assert page.inner_text("#panel-network code") == f"lmri decompose {study.root}"


# -- several models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("webgl", [False, True])
def test_the_menu_shows_the_other_model_and_keeps_what_it_has_too(browser, address, models, webgl):
    asked = []
    with opened(browser, f"{address}#network=ica-01&underlay=mask", script=None if webgl else NO_WEBGL) as page:
        painter = "niivue" if webgl else None
        drawn(page, painter)
        shows(page, models.alpha, "ica-01")
        assert page.locator("#model option").all_inner_texts() == ["alpha", "beta · int8"]
        page.on("request", lambda one: asked.append(one.url))
        page.select_option("#model", BETA)
        shows(page, models.beta, "ica-01")
        drawn(page, painter)
        assert (state(page).site, state(page).corpus, state(page).set) == ("mlp_hidden", "news", "ica")
        assert page.title() == "study · beta · int8 · lmri view"
        assert asked
        assert not [url for url in asked if f"scope={BETA}" not in url]
        space, networks = models.beta.space(), models.beta.networks("ica")
        for layer, neuron in ((0, 0), (1, 34)):
            page.mouse.move(*voxel(page, space, layer, neuron))
            says(page, "#tip", f"layer {layer} · neuron {neuron}")
            says(page, "#tip", f"z {in_words(networks[1].z[space.index(layer, neuron)])}")
        says(page, "#lesions code", f"lmri lesion {models.root} --subject beta --session int8 --networks ica")
        page.keyboard.press("c")
        says(page, "#compare-summary code", f"lmri decompose {models.root} --subject beta --session int8 --method")
        page.keyboard.press("c")
        page.select_option("#model", ALPHA)
        shows(page, models.alpha, "ica-01")


def test_what_the_other_model_lacks_falls_back_to_what_it_has(browser, address, models):
    link = f"{address}#set=other&network=other-03&corpus=odd&volume=70&layer=2&neuron=59&view=compare&second=ica"
    ready, lacking = "#compare-pane tr[aria-selected=true]", []
    # The first model has not decomposed this corpus; of the second one, nothing is requested that it lacks.
    with opened(browser, link, allowed=("404",), ready=ready, script=NO_WEBGL) as page:
        page.on("response", lambda one: lacking.append(one.url) if one.status == 404 and BETA in one.url else None)
        page.select_option("#model", BETA)
        says(page, "#compare-summary", "only one set of networks")
        page.keyboard.press("c")
        shows(page, models.beta)
        assert (state(page).set, state(page).corpus, state(page).volume) == ("ica", "news", "70")
        assert not hasattr(state(page), "layer")
        assert page.locator("#second option").count() == 0
        assert lacking == []


def test_a_link_restores_the_model_and_without_one_means_the_first(browser, address, models):
    link = f"{address}#scope={BETA}&set=ica&network=ica-02&volume=31"
    with opened(browser, link, script=NO_WEBGL) as page:
        for _ in range(2):
            shows(page, models.beta, "ica-02")
            page.wait_for_selector("#token-31[aria-selected=true]")
            page.reload()
        shows(page, models.beta, "ica-02")
        page.evaluate("location.hash = '#network=ica-01'")
        shows(page, models.alpha, "ica-01")
        page.evaluate(f"location.hash = '#scope={BETA}'")
        shows(page, models.beta)
    for old in ("network=ica-00", "scope=sub-none", "scope=%2E%2E%2F&network=ica-00"):
        with opened(browser, f"{address}#{old}", script=NO_WEBGL) as page:
            shows(page, models.alpha)


def test_the_model_that_was_chosen_on_the_command_line_is_shown_first(browser, models):
    with serving(models.root, subject="beta") as url, opened(browser, url, script=NO_WEBGL) as page:
        shows(page, models.beta)
        page.select_option("#model", ALPHA)
        shows(page, models.alpha)


def test_nothing_of_the_previous_model_stands_under_the_name_of_the_next(browser, address, models):
    """While answers are pending, neither the picture nor a number, token or name of the previous model is shown."""
    held = hold("study|networks|map|members|mean|tokens|course|tops|scores|neuron|rois|volume|matches")
    link = f"{address}#layer=1&neuron=7&underlay=volume"
    with opened(browser, link, script=f"{held};{NO_WEBGL}") as page:
        shows(page, models.alpha)
        drawn(page, None)
        page.keyboard.press("2")
        says(page, "#neuron-facts", "member")
        page.keyboard.press("3")
        page.click("#roi-members")
        page.evaluate("window.held = []")
        page.select_option("#model", BETA)
        page.wait_for_selector("main", state="hidden")
        assert page.locator(".stage").first.is_hidden()
        assert page.locator("#tokens").is_hidden()

        # The overview arrives, and nothing else does.
        page.evaluate("const first = window.held; window.held = []; first.forEach(go => go())")
        says(page, "#study-model", models.beta.model.id)
        page.wait_for_selector("main", state="visible")
        playwright.expect(page.locator("#set")).to_have_value("ica")
        playwright.expect(page.locator("#set option")).to_have_count(1)
        for part in (".token", "#table-pane tbody tr", "#network-tops button", ".score", "#roi-list li"):
            assert page.locator(part).count() == 0, part
        assert page.inner_text("#course-legend") == ""
        assert "sd" not in page.inner_text("#strip-note")
        assert page.inner_text("#roi-count") == "The ROI is empty."
        page.keyboard.press("2")
        assert re.findall(r"\d\.\d", page.inner_text("#neuron-facts")) == []
        page.keyboard.press("1")
        assert page.inner_text("#panel-network") == "…"
        page.evaluate(RELEASE)
        shows(page, models.beta)
        drawn(page, None)


def test_after_fast_changes_the_page_shows_the_last_choice(browser, address, models):
    held = hold("study|networks|map|members|mean|tokens|course|tops|scores")
    with opened(browser, address, script=f"{held};{NO_WEBGL}") as page:
        shows(page, models.alpha)
        for choices, study in (
            ((BETA, ALPHA), models.alpha),
            ((BETA, ALPHA, BETA), models.beta),
            ((ALPHA, BETA, ALPHA), models.alpha),
        ):
            # All overviews are pending at once.
            page.evaluate("window.held = []")
            for scope in choices:
                page.select_option("#model", scope)
            page.evaluate(RELEASE)
            shows(page, study)
        for scope, study in ((BETA, models.beta), (ALPHA, models.alpha)):
            # The overview of the first choice has arrived; all its other answers are pending.
            page.select_option("#model", BETA if scope == ALPHA else ALPHA)
            says(page, "#study-model", "beta" if scope == ALPHA else "alpha")
            page.evaluate("window.held = []")
            page.keyboard.press("Escape")
            page.evaluate(f"""() => {{ const menu = document.getElementById('model'); menu.value = '{scope}';
              menu.dispatchEvent(new Event('change')); }}""")
            page.evaluate(RELEASE)
            shows(page, study)


def test_a_region_stays_with_its_model(browser, address, models):
    with opened(browser, address, script=NO_WEBGL) as page:
        shows(page, models.alpha)
        page.keyboard.press("3")
        says(page, "#roi-list", "none yet")
        page.click("#roi-members")
        drawn_there = page.inner_text("#roi-count")
        page.select_option("#model", BETA)
        shows_roi = playwright.expect(page.locator("#roi-count"))
        shows_roi.to_have_text("The ROI is empty.")
        says(page, "#study-model", "beta")
        shows(page, models.beta)
        page.mouse.click(2, 2)
        page.click("[data-tool=pick]")
        page.mouse.click(*voxel(page, models.beta.space(), 1, 34))
        page.fill("#roi-name", "mine")
        page.click("#panel-roi .strong")
        says(page, "#roi-path", f"lmri/{BETA}/rois/mlphidden/mine.nii.gz")
        says(page, "#roi-result .command code", "--subject beta --session int8 --roi")
        says(page, "#roi-list", "mine")
        page.select_option("#model", ALPHA)
        shows_roi.to_have_text(drawn_there)
        says(page, "#roi-list", "none yet")
        assert page.inner_text("#roi-result") == ""
        assert [path.name for path in models.beta.layout.rois()] == ["mine.nii.gz"]
        assert models.alpha.layout.rois() == []


def test_a_model_without_recordings_can_be_left_again(browser, tmp_path):
    root = tmp_path / "study"
    add(root, ModelLabels("full"), SMALL, {"news": [tokens_of(60)]}, seed=3)
    add(root, ModelLabels("none"), SMALL, {}, seed=4)
    with serving(root) as url, opened(browser, url, ready=".token", script=NO_WEBGL) as page:
        page.select_option("#model", "sub-none")
        says(page, ".over", "no readable recording")
        says(page, "#panel-network code", f"lmri record MODEL TEXTS --out {root} --subject none")
        page.select_option("#model", "sub-full")
        playwright.expect(page.locator(".token")).to_have_count(60)


def test_a_page_notices_that_models_were_added_or_are_gone(browser, tmp_path):
    root = tmp_path / "study"
    add(root, ModelLabels("one"), SMALL, {"news": [tokens_of(60)]}, seed=5)
    with serving(root) as url, opened(browser, url, allowed=("404",), ready=".token", script=NO_WEBGL) as page:
        assert page.locator("#models").is_hidden()
        another = add(root, ModelLabels("two"), SMALL, {"news": [halves(tokens_of(60))]}, seed=6)
        page.evaluate("window.dispatchEvent(new Event('focus'))")
        page.select_option("#model", "sub-two")
        playwright.expect(page.locator(".token")).to_have_count(len(another.recording().events[0]))
        another.layout.model.unlink()
        page.evaluate("window.dispatchEvent(new Event('focus'))")
        playwright.expect(page.locator(".token")).to_have_count(60)
        assert page.locator("#models").is_hidden()
        assert "scope" not in page.url


def test_models_are_changed_from_the_keyboard_and_there_is_no_serious_barrier(browser, address, models):
    pytest.importorskip("axe_playwright_python", reason="axe is not installed: pip install axe-playwright-python")
    for scheme in ("light", "dark"):
        with opened(browser, address, script=NO_WEBGL, color_scheme=scheme) as page:
            shows(page, models.alpha)
            playwright.expect(page.get_by_label("Model")).to_have_value(ALPHA)
            page.locator("#networks").focus()
            page.evaluate("document.querySelector('.skip').focus()")
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.id") == "model"
            page.keyboard.press("b")  # the first letter of an option chooses it, in every browser
            shows(page, models.beta)
            assert page.evaluate("document.activeElement.id") == "model"
            drawn(page, None)
            assert serious(page, ()) == []


def test_the_menu_fits_into_a_window_of_1280_by_720(browser, address, models):
    with opened(browser, address, script=NO_WEBGL) as page:
        shows(page, models.alpha)
        for long in (False, True):
            if long:
                page.evaluate("""() => { for (const id of ['model', 'set', 'corpus']) {
                  document.getElementById(id).append(new Option('a name of many words '.repeat(4), '', true, true));
                } }""")
            size = page.evaluate("[document.scrollingElement.scrollWidth, document.scrollingElement.scrollHeight]")
            assert size[0] <= 1280
            assert size[1] <= 720
            boxes = [page.locator(part).bounding_box() for part in ("#model", "#site", "#set", "#corpus", "#run")]
            for box in boxes:
                assert box["width"] > 30
                assert box["x"] + box["width"] <= 1280
            for left, right in pairwise(boxes):
                assert left["x"] + left["width"] <= right["x"]
