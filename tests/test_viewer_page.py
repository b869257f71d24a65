"""The viewer page in a real browser: displayed and saved values equal the recording."""

import io
import re
import shlex
import shutil
import warnings
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from types import SimpleNamespace

import matplotlib.image
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from lmri import FastICA, compare, storage
from lmri.lesions.scores import TaskInfo
from lmri.report.viewer import serving
from lmri.space import ModelInfo, NeuronSpace
from lmri.storage.adding import adding
from lmri.storage.corpora import write_texts_table
from lmri.storage.dataset_files import write_event_sidecars, write_recording_index, write_recording_site
from lmri.storage.recording import Recording, Run
from lmri.study import open_study
from test_report_page import serious
from test_scores import _scores
from tolerances import epsilon

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("there is no Chromium on this machine: apt-get install chromium", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
playwright.expect.set_options(timeout=15000)

WIDTHS = (60, 48, 60)  # 10 × 6 voxels a layer; the middle one has room to spare
HOSTILE = (
    "<script>window.hit=1</script>", "<img src=x onerror=window.hit=1>", "\" onmouseover=\"window.hit=1", "'", "&amp;",
    "&",
    "\u202eright to left", "\u05e9\u05dc\u05d5\u05dd", "a\u200bb", "\u200d", "\n", "\t", " ", "   ", "\x00", "\x1b[31m",
    "\u0301", "", "{{ 7 * 7 }}", "𝔘", "NaN", "null", "x" * 300, "javascript:window.hit=1",
)  # fmt: skip
WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "saw", "the", "moon", ".")
LOSS = TaskInfo("perplexity", "loglikelihood", "nats_per_token", higher_is_better=False, per_token=True)
QUIET = ("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update")
SOFTWARE = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


# -- studies ----------------------------------------------------------------------------------------------------------


def tokens_of(n, own=WORDS):
    """Texts of a run: lists of tokens of unlike length."""
    if own is WORDS:  # no text twice
        words = [f" {own[(place + place * place // 50) % len(own)]}" for place in range(n)]
    else:
        words = [own[place % len(own)] for place in range(n)]
    edges = [0, *range(17, n - 5, 23), n]
    return [words[first:last] for first, last in pairwise(edges)]


def plant(root, widths=WIDTHS, corpora=None, n_networks=4, seed=0):
    """Write a study with a few simulated networks, without a model."""
    rng = np.random.default_rng(seed)
    corpora = corpora or {"news": [tokens_of(120), tokens_of(90)], "odd": [tokens_of(75, HOSTILE)]}
    space = NeuronSpace.build(widths, "mlp_hidden", ModelInfo("planted", None, "00ff00ff", "gpt2", "float32"))
    maps = np.where(
        rng.random((n_networks, space.n_neurons)) < 0.06, rng.normal(2.5, 1, (n_networks, space.n_neurons)), 0
    )
    maps *= rng.choice([-1, 1], maps.shape, p=(0.3, 0.7))
    with adding(root, space.model) as study:
        for corpus, runs in corpora.items():
            record(
                study,
                space,
                corpus,
                runs,
                lambda n: rng.laplace(size=(n, n_networks)) @ maps + rng.normal(size=(n, space.n_neurons)),
            )
    return open_study(root)


def record(study, space, corpus, runs, draw):
    """Write one corpus of a study: runs of texts of tokens, and activations as `draw` gives them."""
    layout, rows, found = study.layout, [], []
    for number, texts in enumerate(runs, start=1):
        names = [f"{corpus}-{len(rows) + place:03d}" for place in range(len(texts))]
        tokens = [token for text in texts for token in text]
        lengths = [len(text) for text in texts]
        ends = np.concatenate([np.cumsum([len(token) for token in text]) for text in texts])
        position = np.concatenate([np.arange(1, length + 1) for length in lengths])
        events = pd.DataFrame({"onset": np.arange(len(tokens), dtype=float), "duration": 1.0, "trial_type": corpus})
        events = events.assign(
            text_id=np.repeat(names, lengths), token=pd.Series(tokens, dtype=object), token_id=7, position=position
        )
        events = events.assign(start=ends - [len(token) for token in tokens], end=ends)
        stem = (corpus, number)
        run = Run(layout.bold(*stem, space.site), layout.events(*stem), layout.tokens(*stem), len(tokens))
        run.img.parent.mkdir(parents=True, exist_ok=True)
        nib.save(space.to_img(draw(len(tokens)).astype(np.float32)), run.img)
        storage.write_table(run.events, events)
        storage.write_table(run.tokens, events.assign(dummy=0, volume=np.arange(len(tokens))))
        found.append(run)
        rows += [
            (name, f"{name:0>64}", "fit", number, length, length, 0, "".join(text))
            for name, length, text in zip(names, lengths, texts, strict=True)
        ]
    texts = pd.DataFrame(rows, columns=["text_id", "sha256", "split", "run", "n_tokens", "n_volumes", "n_cut", "text"])
    parameters = {"n_dummy": 1}
    write_texts_table(layout, corpus, texts, {})
    write_event_sidecars(layout, corpus, len(found))
    write_recording_site(layout, space, corpus, texts, parameters)
    write_recording_index(layout, Recording(space, corpus, tuple(found), texts, {}), parameters, storage.versions())


def decompose(study, corpora=("news",), n_components=4):
    """Store networks of two methods, an empty set, a comparison, and the scores of a lesion."""
    recordings = study.group(corpora=list(corpora))
    imgs = [img for one in recordings for img in one.imgs]
    for name, kind in (("ica", "temporal"), ("other", "spatial")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = FastICA(recordings[0].space, n_components, kind=kind).fit(imgs)
        study.save_decomposition(fitted, recordings, name)
        study.save_networks(study.decomposition(name).threshold("z", z=2.0), name)
    study.save_networks(study.decomposition("ica").threshold("z", z=1000.0), "ica", "nothing")
    study.save_comparison(compare(study.networks("ica"), study.networks("other")), seed=0)
    base = np.array([1.0, 2.0, 3.0, 2.0, 1.0, 2.0])
    drawn = {f"ica-00/{number}": base + 0.02 * number for number in range(19)}
    scores = _scores({"intact": base, "ica-00": base + np.array([0.7, 0.5, 0.6, 0.4, 0.8, 0.5]), **drawn}, (LOSS,))
    study.save_scores(scores, "lesion-ica", "mlp_hidden", "ica", {"intervention": "lesion"})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two corpora, one of them of tokens that would do harm as markup; three sets of networks, and scores."""
    found = plant(tmp_path_factory.mktemp("viewed") / "study")
    decompose(found)
    return open_study(found.root)


@pytest.fixture(scope="module")
def address(study):
    with serving(study.root) as found:
        yield found


# -- browsers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driver():
    with playwright.sync_playwright() as found:
        yield found


@pytest.fixture(scope="module")
def browser(driver):
    with launched(driver, SOFTWARE) as found:
        yield found


@contextmanager
def launched(driver, flags):
    found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *QUIET, *flags])
    try:
        yield found
    finally:
        found.close()


@contextmanager
def opened(browser, url, allowed=(), ready=".left tr[aria-selected=true]", script=None, routes=None, **options):
    """Open the page, and fail if it wrote an error to the console, or asked for anything elsewhere."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 720}, "reduced_motion": "reduce", **options})
    if script:
        context.add_init_script(script)
    for pattern, answer in (routes or {}).items():
        context.route(pattern, answer)
    page, wrong, asked = context.new_page(), [], []
    page.on("console", lambda one: wrong.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda one: wrong.append(str(one)))
    page.on("request", lambda one: asked.append(one.url))
    page.wrong = wrong
    page.set_default_timeout(15000)
    try:
        page.goto(url)
        if ready:
            page.wait_for_selector(ready)
        yield page
        assert page.evaluate("window.hit") is None
        assert [one for one in wrong if not any(re.search(own, one) for own in allowed)] == []
        origin = url.split("#")[0].split("/", 3)[:3]
        assert [
            one for one in asked if not one.startswith(("data:", "blob:")) and one.split("/", 3)[:3] != origin
        ] == []
    finally:
        context.close()


@pytest.fixture(scope="module")
def shared(browser, address):
    """One page for tests that leave no trace but in the address."""
    with opened(browser, address) as found:
        yield found


@pytest.fixture
def page(shared, address):
    shared.goto(f"{address.partition('?')[0]}#from=start")  # goes nowhere else, as the page is there already
    shared.mouse.move(2, 2)
    says(shared, "#table-pane tr[aria-selected=true]", "ica-00")
    drawn(shared)
    yield shared
    assert shared.wrong == []


def drawn(page, painter="niivue"):
    """Wait until the mosaic has been painted, by NiiVue or without it."""
    page.wait_for_selector(
        f'.stage[data-painter="{painter}"][data-painted]' if painter else ".stage:not([data-painter])[data-painted]"
    )
    says(page, "#readout", re.compile("shown"))


def says(page, selector, words):
    """Wait until the text of an element contains the given words, or matches a pattern."""
    playwright.expect(page.locator(selector).first).to_contain_text(words)


def in_words(value, digits=2):
    """Format a number like the page."""
    return f"{value:.{digits}f}".replace("-", "−")


def tile(page, layer, mosaic=0):
    """The slice of a layer on the screen: left, top, width and height."""
    found = page.locator(".stage").nth(mosaic).locator(f'.tile[data-layer="{layer}"]')
    # It waits for a slice that is being laid out anew, which bounding_box() does not.
    return tuple(
        found.evaluate("one => { const at = one.getBoundingClientRect(); return [at.x, at.y, at.width, at.height]; }")
    )


def voxel(page, space, layer, neuron, mosaic=0, slices=None):
    """Return the position of a neuron on the screen: the centre of its voxel."""
    nx, ny, _ = space.shape
    left, top, width, height = slices[layer] if slices else tile(page, layer, mosaic)
    return left + (neuron % nx + 0.5) * width / nx, top + height - (neuron // nx + 0.5) * height / ny


def pixels(page):
    return matplotlib.image.imread(io.BytesIO(page.screenshot()))[..., :3]


def state(page):
    return SimpleNamespace(**dict(re.findall(r"(\w+)=([^&]*)", page.url.partition("#")[2])))


def asked(page, path, **names):
    """Request data from the server like the page."""
    return page.request.get(f"{page.url.split('#')[0]}api/{path}", params=names).json()


NO_WEBGL = """HTMLCanvasElement.prototype.getContext = (old => function (kind, ...rest) {
  return kind === 'webgl2' ? null : old.call(this, kind, ...rest) })(HTMLCanvasElement.prototype.getContext)"""


@pytest.fixture
def own(browser, address):
    """A page of its own, without WebGL2, which takes a second less to start; nothing but the painting differs."""
    with opened(browser, address, script=NO_WEBGL) as found:
        drawn(found, None)
        yield found


# -- the mosaic -------------------------------------------------------------------------------------------------------


def test_a_voxel_is_the_neuron_that_the_recording_has_there(page, study):
    space, recording = study.space(), study.recording("news")
    activations = np.concatenate([space.from_img(img) for img in recording.imgs])
    network = study.networks("ica")[0]
    for layer, neuron in ((0, 0), (0, 9), (1, 47), (2, 37), (2, 59)):
        x, y = voxel(page, space, layer, neuron)
        page.mouse.move(x, y)
        index = space.index(layer, neuron)
        assert f"layer {layer} · neuron {neuron}" in page.inner_text("#tip")
        assert f"z {in_words(network.z[index])}" in page.inner_text("#tip")
        page.mouse.click(x, y)
        says(page, "#neuron-name", f"layer {layer} · neuron {neuron}")
        own = asked(page, "neuron", site="mlp_hidden", layer=layer, neuron=neuron, corpus="news", run=1)
        np.testing.assert_allclose(own["values"], activations[:120, index], rtol=epsilon(np.float32))
        says(page, "#neuron-facts", in_words(activations[:, index].mean(), 3))
        assert f"layer {layer} · {neuron}" in page.inner_text("#course-legend")
        assert (state(page).layer, state(page).neuron) == (str(layer), str(neuron))


def test_beyond_the_mask_there_is_no_neuron(page, study):
    for neuron in (48, 59):  # layer 1 ends at 47
        x, y = voxel(page, study.space(), 1, neuron)
        page.mouse.move(x, y)
        page.mouse.click(x, y)
        assert page.locator("#tip").is_hidden()
    assert "layer=" not in page.url


@pytest.mark.parametrize("webgl", [True, False])
def test_members_are_red_above_0_and_blue_below_it_and_others_grey(browser, address, study, webgl):
    space, networks = study.space(), study.networks("ica")
    network = max(networks, key=lambda one: (one.members & (one.z < 0)).sum())
    with opened(browser, f"{address}#network={network.name}&underlay=mask", script=None if webgl else NO_WEBGL) as page:
        drawn(page, "niivue" if webgl else None)
        page.mouse.move(2, 2)
        found = pixels(page)
        signs = np.sign(np.where(network.members, network.z, 0))
        assert {-1, 0, 1} == set(signs)
        slices = [tile(page, layer) for layer in range(space.n_layers)]
        for index, sign in enumerate(signs):
            x, y = voxel(page, space, space.layer_of[index], space.neuron_of[index], slices=slices)
            wide, high = (slices[0][2] / space.shape[0], slices[0][3] / space.shape[1])
            for right, down in ((0, 0), (0.5 - wide / 2, 0.5 - high / 2), (wide / 2 - 0.5, high / 2 - 0.5)):
                red, _, blue = found[int(y + down), int(x + right)]  # also its first and its last pixel
                assert (sign > 0) == (red - blue > 0.08), (index, red, blue, right, down)
                assert (sign < 0) == (blue - red > 0.08), (index, red, blue, right, down)


def test_the_slider_starts_at_the_stored_members_and_hides_what_is_below(page, study):
    network = study.networks("ica")[0]
    says(page, "#readout", f"{network.members.sum()} neurons shown")
    first = page.input_value("#threshold")
    start = float(first)
    assert start <= np.abs(network.z[network.members]).min() < start + 0.01
    for limit, overlay in ((3.0, "members"), (1.0, "map")):
        page.select_option("#overlay", overlay)
        page.locator("#threshold").fill(str(limit))
        z = np.where(network.members, network.z, 0) if overlay == "members" else network.z
        says(page, "#readout", f"{(np.abs(z) >= limit).sum()} neurons shown ({(z >= limit).sum()} above 0")
    page.click("#threshold-reset")
    playwright.expect(page.locator("#threshold")).to_have_value(first)


def test_the_colour_bar_has_numbers_and_ends_at_the_largest_value(page, study):
    words = page.get_attribute("#colorbar", "aria-label")
    low, high = map(float, re.search(r"from ([\d.]+) to ([\d.]+) in red", words).groups())
    sizes = np.abs(study.networks("ica")[0].z)
    assert low < high <= sizes.max() + 0.05
    assert high >= np.quantile(sizes, 0.98) - 0.05


def test_an_empty_network_says_so(browser, address):
    with opened(browser, f"{address}#set=nothing", script=NO_WEBGL) as page:
        says(page, ".over", "is empty")
        assert "An empty network is a valid result" in page.inner_text("#panel-network")
        page.keyboard.press("m")
        page.wait_for_selector(".over >> nth=0", state="hidden")


CROWDED = (8100,) * 16  # 90 × 90 voxels a layer


def test_where_neurons_share_a_pixel_the_strongest_is_painted_and_named(browser, tmp_path):
    rng = np.random.default_rng(3)
    spikes = {(int(layer), int(neuron)): sign for layer, neuron, sign in zip(
        rng.integers(0, 16, 60), rng.integers(0, 8100, 60), rng.choice([-1, 1], 60), strict=True)}  # fmt: skip

    def draw(n):
        values = rng.normal(size=(n, 16 * 8100))
        for (layer, neuron), sign in spikes.items():
            values[:, layer * 8100 + neuron] = sign * 20
        return values

    space = NeuronSpace.build(CROWDED, "mlp_hidden", ModelInfo("planted", None, "00ff00ff", "gpt2", "float32"))
    with adding(tmp_path / "crowded", space.model) as crowded:
        record(crowded, space, "news", [tokens_of(8)], draw)
    with serving(crowded.root) as url, opened(
        browser, f"{url}#overlay=volume&underlay=mask&threshold=12", ready="#panel-network .command",
        viewport={"width": 900, "height": 520},
    ) as page:  # fmt: skip
        drawn(page, None)
        says(page, "#coarse", "several neurons per pixel: enlarge a layer")
        page.evaluate("""import('/page/scene.js').then(({mosaics: [one]}) => new Promise(done => {
          const look = () => (one.painter === one.flat ? requestAnimationFrame(look) : done()); look(); }))""")
        page.keyboard.press("z")  # enlarged, every neuron has its pixels, and NiiVue draws
        page.wait_for_selector(".stage[data-painter=niivue]")
        assert page.locator("#coarse").is_hidden()
        page.keyboard.press("z")
        drawn(page, None)
        assert page.locator("#coarse").is_visible()
        page.mouse.move(2, 2)
        found, slices = pixels(page), [tile(page, layer) for layer in range(16)]
        assert slices[0][2] < 90
        share = lambda place, n: next(one for one in range(n) if place < (one + 1) * 90 // n)  # noqa: E731
        wanted = {}
        for (layer, neuron), sign in spikes.items():
            left, top, wide, high = map(round, slices[layer])
            wanted[left + share(neuron % 90, wide), top + share(89 - neuron // 90, high)] = (layer, neuron, sign)
        for (x, y), (layer, neuron, sign) in wanted.items():
            red, _, blue = found[y, x]
            assert (red - blue > 0.08, blue - red > 0.08) == (sign > 0, sign < 0), (layer, neuron)
            page.mouse.move(x, y)
            assert f"layer {layer} · neuron {neuron}\n" in page.inner_text("#tip")
        for left, top, wide, high in slices:
            inside = found[round(top) : round(top + high), round(left) : round(left + wide)]
            coloured = np.abs(inside[..., 0] - inside[..., 2]) > 0.08
            assert coloured.sum() == sum(
                round(left) <= x < round(left + wide) and round(top) <= y < round(top + high) for x, y in wanted
            )


def test_hundreds_of_layers_scroll_at_a_size_that_can_be_seen(browser, tmp_path):
    deep = plant(tmp_path / "deep", (16,) * 400, {"news": [tokens_of(30)]}, n_networks=2)
    with (
        serving(deep.root) as url,
        opened(browser, f"{url}#layer=300&neuron=5", ready="#panel-network .command", script=NO_WEBGL) as page,
    ):
        page.wait_for_selector(".stage[data-painted] .tile")
        tiles = page.locator(".stage").first.locator(".tile")
        layers = lambda: tiles.evaluate_all("all => all.map(one => Number(one.dataset.layer))")  # noqa: E731
        assert 300 in layers()  # the one that is selected is in sight
        assert len(layers()) < 400
        box = tile(page, 300)
        assert min(box[2:]) >= 30
        page.mouse.move(*voxel(page, deep.space(), 300, 9))
        assert "layer 300 · neuron 9" in page.inner_text("#tip")
        page.focus(".stage >> nth=0")
        for _ in range(40):
            page.keyboard.press("Shift+PageDown")
        playwright.expect(tiles.filter(has_text="layer 340")).to_have_count(1)
        page.locator(".stage").first.evaluate("one => { one.scrollTop = one.scrollHeight; }")
        playwright.expect(tiles.filter(has_text="layer 399")).to_have_count(1)
        for _ in range(60):  # slices are laid out anew by the frame, as they scroll
            page.mouse.move(*voxel(page, deep.space(), 399, 15))
            if "layer 399 · neuron 15" in page.inner_text("#tip"):
                break
            page.evaluate("() => new Promise((done) => requestAnimationFrame(done))")
        assert "layer 399 · neuron 15" in page.inner_text("#tip")


def test_a_threshold_stays_behind_where_the_unit_changes(own, study):
    own.select_option("#overlay", "volume")
    own.locator("#threshold").fill("1.5")
    assert "threshold=1.5" in own.url
    own.keyboard.press("m")
    assert (state(own).overlay, "threshold" in own.url) == ("members", False)
    own.locator("#threshold").fill("3")
    own.keyboard.press("m")
    assert state(own).threshold == "3"
    own.select_option("#overlay", "none")
    own.keyboard.press("3")
    own.click("#roi-members")  # nothing is shown by a threshold, so none is meant
    assert own.inner_text("#roi-count").startswith(f"{study.networks('ica')[0].members.sum()} neurons")


# -- time -------------------------------------------------------------------------------------------------------------


def test_the_strip_is_coloured_by_the_time_course(page, study):
    course = np.array(
        asked(page, "course", site="mlp_hidden", set="ica", network="ica-00", corpus="news", run=1)["values"]
    )
    page.wait_for_selector(".token.positive")
    cells = page.eval_on_selector_all(
        ".token", "all => all.map(one => [one.textContent, one.className, getComputedStyle(one).backgroundColor])"
    )
    tokens = list(study.recording("news").events[0]["token"])
    assert [text for text, *_ in cells] == tokens
    for value, (_, kind, _) in zip(course, cells, strict=True):
        assert ("positive" in kind, "negative" in kind) == (value > 0, value < 0)
    strong = page.evaluate(
        "Array.from(document.querySelectorAll('.token'), one => Number(one.style.getPropertyValue('--share')))"
    )
    full = max(2, np.sort(np.abs(course))[int(0.99 * len(course))])
    np.testing.assert_allclose(strong, np.minimum(1, np.abs(course) / full), atol=1e-3)  # written with 3 decimals


def test_a_token_that_is_clicked_is_the_volume_under_the_map(page, study):
    space = study.space()
    volume = 41
    page.hover(f"#token-{volume}")
    course = asked(page, "course", site="mlp_hidden", set="ica", network="ica-00", corpus="news", run=1)["values"]
    assert f"volume {volume} · {in_words(course[volume])} sd" in page.inner_text("#tip")
    page.click(f"#token-{volume}")
    playwright.expect(page.locator("#underlay")).to_have_value("volume")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert state(page).volume == str(volume + 1)
    assert page.get_attribute(f"#token-{volume + 1}", "aria-selected") == "true"
    values = space.from_img(study.recording("news").imgs[0])[volume + 1]
    layer, neuron = 2, 23
    page.mouse.move(*voxel(page, space, layer, neuron))
    # Before the volume has come there is no number; there is never that of another volume.
    says(page, "#tip", f"activation {in_words(values[space.index(layer, neuron)], 3)}")


def hold(what):
    """A script that holds back answers from `window.held = []` on."""
    return f"""const go = window.fetch; window.fetch = (url, ...rest) => window.held && /{what}/.test(url)
      ? new Promise(done => window.held.push(() => done(go(url, ...rest)))) : go(url, ...rest)"""


RELEASE = "(held => { window.held = null; held.forEach(go => go()); })(window.held)"


def test_no_value_of_the_previous_selection_remains(browser, address, study):
    """While a request is pending, values of the previous selection are not displayed for the new one."""
    space, held = study.space(), hold("volume|map|members|course")
    with opened(browser, f"{address}#underlay=volume", script=f"{held};{NO_WEBGL}") as page:
        drawn(page, None)
        page.mouse.move(*voxel(page, space, 2, 23))
        says(page, "#tip", "activation")
        says(page, "#token-value", "sd")
        page.evaluate("window.held = []")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        assert page.inner_text("#tip").splitlines() == ["layer 2 · neuron 23"]
        assert "sd" not in page.inner_text("#strip-note")
        assert "ica-01" not in page.inner_text("#course-legend")  # the line is still the last one's, and called so
        page.keyboard.press("3")
        page.click("#roi-members")
        assert page.inner_text("#roi-count") == "The ROI is empty."
        page.hover("#token-9")
        assert page.inner_text("#tip").splitlines()[-1] == "volume 9 · …"
        page.mouse.move(*voxel(page, space, 2, 23))
        page.evaluate(RELEASE)
        says(page, "#tip", f"z {in_words(study.networks('ica')[1].z[space.index(2, 23)])}")
        values = space.from_img(study.recording("news").imgs[0])[1]
        says(page, "#tip", f"activation {in_words(values[space.index(2, 23)], 3)}")
        says(page, "#course-legend", "ica-01")


def test_an_answer_that_takes_long_leaves_nothing_of_the_last_one(browser, address, study):
    """The picture, the colours and the line of another network go away, and nothing of them can be clicked."""
    networks, held = study.networks("ica"), hold("map|members|course|tokens|networks[?]")
    with opened(browser, f"{address}#underlay=mask", script=f"{held};{NO_WEBGL}") as page:
        drawn(page, None)
        page.mouse.move(2, 2)
        coloured = lambda: int((np.ptp(picture(page), axis=-1) > 0.1).sum())  # noqa: E731
        readout = playwright.expect(page.locator("#readout"))
        assert coloured() > 100
        page.evaluate("window.held = []")
        page.keyboard.press("ArrowDown")
        readout.not_to_contain_text("shown")
        for key in ("z", "]", "m", "m", "z", "u", "u", "u"):
            page.keyboard.press(key)
        readout.not_to_contain_text("shown")
        playwright.expect(page.locator(".stage >> nth=0").locator(".tile")).to_have_count(3)
        playwright.expect(page.locator(".token.positive")).to_have_count(0)
        assert page.inner_text("#course-legend") == ""
        assert coloured() == 0
        page.evaluate(RELEASE)
        says(page, "#readout", f"{networks[1].members.sum()} neurons shown")
        page.wait_for_selector(".token.positive")
        assert coloured() > 100

        page.evaluate("window.held = []")
        page.click("#token-50")
        page.evaluate("""() => { const run = document.getElementById('run'); run.value = '2';
          run.dispatchEvent(new Event('change')); document.getElementById('token-100').click(); }""")
        assert (state(page).run, state(page).volume) == ("2", "50")  # run 1 had a token 100, run 2 has 90
        for key in ("End", "PageDown"):
            page.keyboard.press(key)
        assert state(page).volume == "89"
        playwright.expect(page.locator(".token")).to_have_count(0)
        says(page, "#strip-note", "volume 89 of 90")
        page.evaluate(RELEASE)
        playwright.expect(page.locator(".token")).to_have_count(90)
        page.wait_for_selector("#token-89[aria-selected=true]")

        page.evaluate("window.held = []")
        page.select_option("#set", "other")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("c")
        playwright.expect(page.locator("#table-pane tbody tr")).to_have_count(0)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("c")
        page.evaluate(RELEASE)
        page.wait_for_selector("#table-pane tr[data-key=other-00][aria-selected=true]")
        says(page, "#readout", f"{study.networks('other')[0].members.sum()} neurons shown")


def picture(page):
    """The first mosaic, as it is on the screen."""
    return matplotlib.image.imread(io.BytesIO(page.locator(".stage").first.screenshot()))[..., :3]


KEYS = "ArrowLeft ArrowRight PageUp PageDown Home End ArrowUp ArrowDown Shift+ArrowRight Shift+PageDown [ ] 0 m u z c 1 2 3 r Control+z Enter Space Escape / Escape t t ? ?"  # noqa: E501


def test_keys_pressed_before_the_study_is_loaded_are_ignored(browser, address):
    held = []
    routes = {"**/api/study": lambda route: held.append(route)}
    link = f"{address}#network=ica-02&volume=7&layer=1&neuron=5&overlay=map"
    with opened(browser, link, ready=None, script=NO_WEBGL, routes=routes) as page:
        page.wait_for_selector("#help-table tr", state="attached")
        page.focus(".stage >> nth=0")
        for key in KEYS.split():
            page.keyboard.press(key)
        for button in ("#zoom", "#view-compare", "#tab-roi", "#tab-neuron", "#theme", "#theme"):
            page.click(button)
        page.locator(".stage").first.click()
        while not held:
            page.evaluate("1")
        held.pop().continue_()
        page.wait_for_selector("#table-pane tr[data-key=ica-02][aria-selected=true]")
        says(page, "#neuron-name", "layer 1 · neuron 5")
        now = state(page)
        assert (now.network, now.volume, now.overlay, now.view) == ("ica-02", "7", "map", "networks")
        assert not {"zoom", "threshold"} & vars(now).keys()


def test_layers_are_enlarged_before_niivue_has_started(browser, address, study):
    held = []
    routes = {"**/niivue.umd.js": lambda route: held.append(route)}
    space, network = study.space(), study.networks("ica")[1]
    with opened(browser, f"{address}#underlay=mask", routes=routes) as page:
        drawn(page, None)
        page.wait_for_selector("script[src='/niivue.umd.js']", state="attached")
        for key in ("z", "Shift+ArrowRight", "Shift+PageDown", "ArrowDown", "t", "t"):
            page.keyboard.press(key)
        says(page, "#readout", f"{network.members.sum()} neurons shown")
        while not held:
            page.evaluate("1")
        held.pop().continue_()
        for key in ("z", "z", "z", "z"):  # while it starts
            page.keyboard.press(key)
        drawn(page)
        playwright.expect(page.locator(".stage >> nth=0").locator(".tile")).to_have_count(1)
        for neuron in (0, 13, 47):
            page.mouse.move(*voxel(page, space, 1, neuron))
            assert page.inner_text("#tip").startswith(f"layer 1 · neuron {neuron}")
            assert f"z {in_words(network.z[space.index(1, neuron)])}" in page.inner_text("#tip")
        page.keyboard.press("z")
        playwright.expect(page.locator(".stage >> nth=0").locator(".tile")).to_have_count(3)
        page.mouse.move(*voxel(page, space, 2, 59))
        assert page.inner_text("#tip").startswith("layer 2 · neuron 59")


def test_a_volume_as_overlay_has_the_colours_of_its_signs(page, study):
    space = study.space()
    page.select_option("#overlay", "volume")
    page.keyboard.press("Home")
    page.locator("#threshold").fill("0")
    says(page, "#readout", "168 neurons shown")
    drawn(page)
    page.mouse.move(2, 2)
    found = pixels(page)
    values = space.from_img(study.recording("news").imgs[0])[0]
    for index in np.argsort(-np.abs(values))[:20]:
        x, y = voxel(page, space, space.layer_of[index], space.neuron_of[index])
        red, _, blue = found[int(y), int(x)]
        assert (values[index] > 0) == (red > blue)


def test_a_corpus_that_was_not_decomposed_says_so(browser, address):
    with opened(browser, f"{address}#corpus=odd", allowed=("404",), script=NO_WEBGL) as page:
        says(page, "#course-note", "was computed from")
        assert page.locator(".token.positive").count() == 0
        assert page.locator(".token").count() == 75


def test_both_ends_of_a_time_course_are_called_what_they_are(own, study):
    own.mouse.click(*voxel(own, study.space(), 0, 3))
    says(own, "#neuron-name", "neuron 3")
    network = asked(own, "tops", site="mlp_hidden", set="ica", network="ica-00")
    neuron = asked(own, "neuron", site="mlp_hidden", layer=0, neuron=3, corpus="news", run=1)
    for panel, said in (("neuron", neuron), ("network", network)):
        own.click(f"#tab-{panel}")
        own.wait_for_selector(f"#panel-{panel} .tops")
        heads = own.locator(f"#panel-{panel} h3").all_inner_texts()[-2:]
        assert heads == ["Highest values", "Lowest values"]
        for place, end in enumerate(("highest", "lowest")):
            shown = own.locator(f"#panel-{panel} .tops").nth(place).locator(".value").all_inner_texts()
            digits = 3 if panel == "neuron" else 1  # activations may be small, standard deviations are not
            assert shown == [in_words(one["value"], digits) for one in said[end]]


def test_a_neuron_is_drawn_in_the_unit_of_the_network_beside_it(browser, address):
    def answer(route):
        assert "set=ica" in route.request.url
        found = route.fetch().json()
        route.fulfill(json={**found, "baseline": {"corpora": ["news", "more"], "mean": 3.0, "sd": 0.5}})

    link = f"{address}#layer=0&neuron=3"
    with opened(browser, link, script=NO_WEBGL, routes={"**/api/neuron*": answer}) as page:
        says(page, "#course-legend", "in sd over news, more")
        values = asked(page, "neuron", site="mlp_hidden", layer=0, neuron=3, corpus="news", run=1)["values"]
        box = page.locator("#course").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        volume = int(re.search(r"volume (\d+)", page.inner_text("#tip"))[1])
        assert f"layer 0 · 3: {in_words((values[volume] - 3) / 0.5)} sd" in page.inner_text("#tip")


def test_top_tokens_lead_to_their_place(page):
    top = asked(page, "tops", site="mlp_hidden", set="ica", network="ica-00")["highest"][1]
    page.click(".tops li:nth-child(2) button")
    page.wait_for_selector(f"#token-{top['volume']}[aria-selected=true]")
    assert (state(page).run, state(page).volume) == (str(top["run"]), str(top["volume"]))


# -- the table, and two sets ------------------------------------------------------------------------------------------


def test_the_table_is_sorted_and_filtered_and_walked(own, study):
    table = study.networks("ica").table
    names = lambda: own.eval_on_selector_all("#table-pane tbody tr", "all => all.map(one => one.dataset.key)")  # noqa: E731
    assert names() == list(table["network"])
    for key in ("n_neurons", "variance"):
        for ascending in (False, True):
            own.click(f"#table-pane th[data-key={key}] button")
            assert names() == list(table.sort_values(key, ascending=ascending, kind="stable")["network"])
    own.keyboard.press("ArrowDown")
    assert state(own).network == names()[names().index("ica-00") + 1] if names()[-1] != "ica-00" else "ica-00"
    own.fill("#table-pane .filter", "-02")
    assert names() == ["ica-02"]
    own.fill("#table-pane .filter", "<b>nothing")
    assert "No network has “<b>nothing”" in own.inner_text("#table-pane")


def test_500_networks_are_listed_sorted_and_walked(browser, address):
    fixed = {"label": "", "n_positive": 0, "iq": 0.9, "max": 3.0, "rejected": False, "profile": [1, 0, 2]}
    rows = [
        {
            "name": f"n-{one:03d}",
            "n_neurons": one % 7,
            "mean_layer": one / 300,
            "variance": (one * 37 % 500) / 500,
            **fixed,
        }
        for one in range(500)
    ]

    def answer(route):
        route.fulfill(json={"networks": rows, "threshold": "z:2", "z": 2})

    with opened(browser, address, allowed=("404",), script=NO_WEBGL, routes={"**/api/networks*": answer}) as page:
        assert page.locator("#table-pane tbody tr").count() == 500
        page.click("#table-pane th[data-key=variance] button")
        assert (
            page.inner_text("#table-pane tbody tr:first-child bdi")
            == max(rows, key=lambda one: one["variance"])["name"]
        )
        page.click("#table-pane tbody tr:nth-child(400)")
        page.keyboard.press("ArrowDown")
        inside = """row => { const [a, b] = [row, row.closest('.scroll')].map(one => one.getBoundingClientRect());
          return a.top >= b.top && a.bottom <= b.bottom + 1; }"""
        assert page.eval_on_selector("#table-pane tbody tr:nth-child(401)[aria-selected=true]", inside)
        assert page.evaluate("document.scrollingElement.scrollHeight <= innerHeight")


def test_two_sets_stand_side_by_side_with_their_pairs(page, study):
    page.click("#view-compare")
    page.wait_for_selector("#compare-pane tbody tr")
    stored = (
        study.comparison("ica-vs-other")
        if "ica-vs-other" in str(study.entries.list("comparisons"))
        else study.comparison()
    )
    cells = page.eval_on_selector_all(
        "#compare-pane tbody tr", "all => all.map(row => Array.from(row.cells, one => one.textContent))"
    )
    assert len(cells) == len(stored.table)
    for found, (_, row) in zip(cells, stored.table.iterrows(), strict=True):
        expected = [
            row["first"],
            row["second"],
            in_words(row["r"]),
            in_words(row["r_null_95"]),
            "●" if row["above_null"] else "○",
        ]
        assert found[:5] == expected
    page.click("#compare-pane tbody tr:nth-child(2)")
    first, second = cells[1][:2]
    playwright.expect(page.locator(".mosaic-title")).to_have_text([first, second])
    page.wait_for_selector('.mosaic:nth-child(2) .stage[data-painter="niivue"]')
    space, network = study.space(), study.networks("other")[study.networks("other").names.index(second)]
    index = int(np.argmax(np.abs(network.z)))
    expected = f"z {in_words(network.z[index])}"
    for _ in range(100):  # until the map of the second set has arrived; the text is that of the last movement
        page.mouse.move(0, 0)
        page.mouse.move(*voxel(page, space, space.layer_of[index], space.neuron_of[index], mosaic=1))
        if expected in page.inner_text("#tip"):
            break
    assert expected in page.inner_text("#tip")


def test_both_sides_have_one_scale(browser, address, study):
    """Colours have the same meaning on both sides: both use a common scale."""
    row = study.comparison().table.iloc[0]
    sides, said = [("ica", row["first"]), ("other", row["second"])], []
    for (first, network), (second, partner) in (sides, sides[::-1]):
        link = f"{address}#view=compare&set={first}&network={network}&second={second}&partner={partner}"
        with opened(browser, link, ready="#compare-pane tr[aria-selected=true]", script=NO_WEBGL) as page:
            page.wait_for_selector(".mosaic:nth-child(2) .stage[data-painted]")
            page.wait_for_load_state("networkidle")
            said.append((page.get_attribute("#colorbar", "aria-label"), page.input_value("#threshold")))
    assert said[0] == said[1]
    low = min(np.abs(one.z[one.members]).min() for one in
              (study.networks(name)[study.networks(name).names.index(network)] for name, network in sides))  # fmt: skip
    assert float(said[0][1]) <= low < float(said[0][1]) + 0.01


def test_sets_that_were_not_compared_come_with_the_command(browser, address):
    with opened(
        browser,
        f"{address}#view=compare&second=nothing",
        allowed=("404",),
        ready="#compare-summary .command",
        script=NO_WEBGL,
    ) as page:
        assert re.search(r"lmri compare \S+ ica nothing", page.inner_text("#compare-summary code"))


# -- regions of interest, lesions -------------------------------------------------------------------------------------


def test_a_region_has_exactly_the_neurons_that_were_drawn(browser, address, study):
    space = study.space()
    with opened(browser, address, allowed=("409",)) as page:
        drawn(page)
        page.click("#tab-roi")
        page.click("[data-tool=pick]")
        for layer, neuron in ((0, 3), (2, 59), (1, 12), (0, 3)):  # the last click takes the first out again
            page.mouse.click(*voxel(page, space, layer, neuron))
        wanted = {(2, 59), (1, 12)}
        page.click("[data-tool=box]")  # from (7, 3) to (9, 5) in layer 1, which has no neurons from 48 = (8, 4) on
        page.mouse.move(*voxel(page, space, 1, 37))
        page.mouse.down()
        page.mouse.move(*voxel(page, space, 1, 59), steps=3)
        page.mouse.up()
        wanted |= {(1, neuron) for neuron in (37, 38, 39, 47)}
        page.click("[data-tool=paint]")  # along the lowest row of layer 0, faster than the pointer is asked
        page.mouse.move(*voxel(page, space, 0, 1))
        page.mouse.down()
        page.mouse.move(*voxel(page, space, 0, 6))
        page.mouse.up()
        wanted |= {(0, neuron) for neuron in range(1, 7)}
        page.click("#roi-clear")
        assert "The ROI is empty" in page.inner_text("#roi-count")
        page.click("#roi-undo")
        assert page.inner_text("#roi-count") == f"{len(wanted)} neurons in 3 layers"
        page.fill("#roi-name", "mine")
        page.press("#roi-name", "Enter")
        page.wait_for_selector("#roi-path")
        path = study.root / page.inner_text("#roi-path")
        members = space.from_img(path)
        assert {(int(space.layer_of[one]), int(space.neuron_of[one])) for one in np.flatnonzero(members)} == wanted
        assert "lmri lesion" in page.inner_text("#roi-result code:last-of-type") or "--roi" in page.inner_text(
            "#roi-result"
        )
        says(page, "#roi-list", "mine")
        page.press("#roi-name", "Enter")  # never overwritten
        page.wait_for_selector("#roi-result .bad")


def test_a_region_can_be_the_members_of_a_network(own, study):
    network = study.networks("ica")[0]
    own.keyboard.press("3")
    own.click("#roi-members")
    assert own.inner_text("#roi-count").startswith(f"{network.members.sum()} neurons")
    own.fill("#roi-name", "network")
    own.click("#panel-roi .strong")
    own.wait_for_selector("#roi-path")
    np.testing.assert_array_equal(
        study.space().from_img(study.root / own.inner_text("#roi-path")) != 0, network.members
    )


def test_a_region_needs_neurons_and_a_name(own):
    own.keyboard.press("3")
    own.click("#panel-roi .strong")
    assert "The ROI is empty" in own.inner_text("#roi-result")
    own.click("#roi-members")
    own.click("#panel-roi .strong")
    assert "name" in own.inner_text("#roi-result")


def test_stored_lesions_stand_beside_their_network(page, study):
    row = study.scores("lesion-ica").summary().set_index("condition").loc["ica-00"]
    page.wait_for_selector(".score")
    words = page.inner_text(".score")
    for value in (row["diff"], row["control_mean"], row["effect"]):
        assert f"{value:.4f}" in words
    assert f"{row['p']:.3f} · {row['q']:.3f}" in words
    assert f"{row['n_controls']:.0f}, layer+size" in words
    page.click("#table-pane tbody tr:nth-child(2)")
    page.wait_for_selector("#lesions .command")
    assert f"lmri lesion {shlex.quote(str(study.root))} --networks ica" in page.inner_text("#lesions")


def test_doses_of_one_network_are_told_apart(browser, address):
    row = {"name": "doses", "intervention": "amplify", "task": "perplexity", "metric": "nats_per_token", "diff": 0.1}
    rows = [{**row, "condition": f"ica-00@{dose}", "split": "test"} for dose in (0, 2)]
    rows.append({**row, "name": "alone", "condition": "ica-00", "split": "test"})
    routes = {"**/api/scores*": lambda route: route.fulfill(json=rows)}
    with opened(browser, address, script=NO_WEBGL, routes=routes) as page:
        page.wait_for_selector(".score")
        cards = [page.locator(".score").nth(place) for place in range(3)]
        assert [one.locator(".condition").all_inner_texts() for one in cards] == [["ica-00@0"], ["ica-00@2"], []]


def test_new_results_appear_without_reloading(browser, study, tmp_path):
    shutil.copytree(study.root, tmp_path / "study")
    entries, aside = tmp_path / "study" / "lmri" / study.scope, tmp_path / "aside"
    [scores] = entries.glob("scores/*/lesion-ica")
    [nothing] = entries.glob("networks/*/nothing")
    shutil.move(scores, aside / "scores")
    shutil.move(nothing, aside / "nothing")
    with serving(tmp_path / "study") as url, opened(browser, url, script=NO_WEBGL) as page:
        drawn(page, None)
        says(page, "#lesions", "No lesion of ica-00 is stored")
        assert page.locator("#set option").count() == 2
        shutil.move(aside / "scores", scores)
        asked(page, "study")  # looks at once
        page.keyboard.press("ArrowDown")
        says(page, "#lesions", "No lesion of ica-01 is stored")
        page.keyboard.press("ArrowUp")
        page.wait_for_selector(".score")
        shutil.move(aside / "nothing", nothing)
        page.evaluate("window.dispatchEvent(new Event('focus'))")
        playwright.expect(page.locator("#set option")).to_have_count(3)


# -- what may go wrong ------------------------------------------------------------------------------------------------


def test_tokens_that_look_like_markup_are_text(browser, address, study):
    with opened(browser, f"{address}#corpus=odd", allowed=("404",), script=NO_WEBGL) as page:
        page.wait_for_selector(".token")
        shown = page.eval_on_selector_all(".token", "all => all.map(one => one.textContent)")
        tokens = list(study.recording("odd").events[0]["token"])
        signs = {"\n": "⏎", "\t": "⇥", " ": "␣", "   ": "␣␣␣", "\x00": "␀", "\x1b[31m": "␛[31m", "": "∅",
                 "\u200d": "U+200D",
                 "\u202eright to left": "U+202Eright to left", "a\u200bb": "aU+200Bb", "\u0301": "◌\u0301"}  # fmt: skip
        assert shown == [signs.get(token, token) for token in tokens]
        assert page.locator("#tokens script, #tokens img").count() == 0
        assert page.locator(".token > bdi").count() == len(tokens)
        for volume in range(len(HOSTILE)):
            page.hover(f"#token-{volume}")
        page.evaluate("window.hit === undefined")


def test_without_webgl2_all_of_it_works_on_a_plain_canvas(driver, address, study):
    space = study.space()
    with launched(driver, ("--disable-3d-apis",)) as found, opened(found, address) as page:
        drawn(page, None)
        says(page, "#no-webgl", "no WebGL2")
        with page.expect_request("**/api/slices?kind=members*"):
            page.keyboard.press("ArrowDown")
        network = study.networks("ica")[1]
        says(page, "#readout", f"{network.members.sum()} neurons shown")
        page.mouse.click(*voxel(page, space, 2, 11))
        says(page, "#neuron-name", "layer 2 · neuron 11")
        page.click("#token-5")
        playwright.expect(page.locator("#underlay")).to_have_value("volume")
        page.click("#view-compare")
        page.wait_for_selector("#compare-pane tbody tr")


def test_a_study_without_networks_and_one_without_recordings(browser, tmp_path):
    bare = plant(tmp_path / "bare", corpora={"news": [tokens_of(40)]})
    with serving(bare.root) as url, opened(browser, url, ready="#panel-network .command", script=NO_WEBGL) as page:
        assert "lmri decompose" in page.inner_text("#panel-network")
        page.wait_for_selector(".token")
        page.mouse.click(*voxel(page, bare.space(), 1, 5))
        says(page, "#neuron-name", "layer 1 · neuron 5")
    with adding(tmp_path / "empty", ModelInfo("planted", None, "00ff00ff", "gpt2", "float32")) as empty:
        pass
    with serving(empty.root) as url, opened(browser, url, ready="#panel-network .command", script=NO_WEBGL) as page:
        assert "no readable recording" in page.inner_text(".over")


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(browser, study, tmp_path):
    shutil.copytree(study.root, tmp_path / "half")
    victim = next((tmp_path / "half" / "lmri" / study.scope / "networks").rglob("other/entry.json"))
    victim.write_text("{")
    with serving(tmp_path / "half") as url, opened(browser, url, script=NO_WEBGL) as page:
        assert "could not be read" in page.inner_text("#problems summary")
        page.click("#problems summary")
        assert "other" in page.inner_text("#problems ul")
        assert page.locator("#table-pane tbody tr").count() == 4


def test_a_server_that_is_gone_is_noticed(browser, study):
    with serving(study.root) as url, opened(browser, url, allowed=("ERR_CONNECTION",), script=NO_WEBGL) as page:
        drawn(page, None)
        page.wait_for_load_state("networkidle")
        page.route("**/api/**", lambda route: route.abort("connectionrefused"))
        page.keyboard.press("ArrowDown")
        page.wait_for_selector("#lost:not([hidden])")
        assert "Connection lost" in page.inner_text("#lost")
        page.unroute("**/api/**")
        page.wait_for_selector("#lost", state="hidden")  # it tries again by itself
        page.wait_for_selector("#lesions .command, #lesions .score")


def test_a_server_that_takes_a_question_and_never_answers_is_gone(browser, address):
    with opened(browser, address, allowed=("ERR_",), script=NO_WEBGL) as page:
        drawn(page, None)
        held = []
        page.route("**/api/study", lambda route: held.append(route))
        page.evaluate("window.dispatchEvent(new Event('focus'))")
        says(page, "#lost", "the server does not answer")
        assert held
        page.unroute("**/api/study")
        page.wait_for_selector("#lost", state="hidden")


def test_a_page_that_was_left_open_never_mixes_two_studies(browser, study, tmp_path):
    other = plant(tmp_path / "another", corpora={"news": [tokens_of(30)]}, seed=1)
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        url = server.enter_context(serving(study.root))
        port = int(re.search(r":(\d+)/", url)[1])
        page = stack.enter_context(opened(browser, url, allowed=("ERR_", "403"), script=NO_WEBGL))
        drawn(page, None)
        assert "token" not in page.url
        page.keyboard.press("3")
        page.click("#roi-members")
        drawn_there = page.inner_text("#roi-count")
        page.evaluate("window.marker = true")

        def again(root):
            server.close()
            found = server.enter_context(serving(root, port))
            page.evaluate("window.dispatchEvent(new Event('focus'))")
            says(page, "#lost", "open the complete address that it printed")
            with opened_beside(page, found) as second:
                says(second, "#study-name", root.name)

        again(study.root)
        page.wait_for_selector("#lost", state="hidden")
        assert page.evaluate("window.marker")
        assert page.inner_text("#roi-count") == drawn_there  # the same study: what was drawn is still there
        again(other.root)
        says(page, "#study-name", "another")
        page.wait_for_selector("#panel-network .command")
        assert page.evaluate("window.marker") is None
        assert page.inner_text("#roi-count") == "The ROI is empty."


def test_a_link_on_another_site_leads_here_and_the_page_loads_anew(browser, address):
    plain = address.partition("?")[0]
    links = f'<a id="first" href="{address}">look</a> <a id="again" href="{plain}#network=ica-01">again</a>'
    routes = {"http://elsewhere.example/": lambda route: route.fulfill(content_type="text/html", body=links)}
    context = browser.new_context(reduced_motion="reduce")
    try:
        context.add_init_script(NO_WEBGL)
        for pattern, answer in routes.items():
            context.route(pattern, answer)
        page = context.new_page()
        page.goto("http://elsewhere.example/")
        page.click("#again")
        says(page, "body", "This browser is not authorized")  # not yet
        for link, network in (("#first", "ica-00"), ("#again", "ica-01")):
            page.goto("http://elsewhere.example/")
            page.click(link)
            for _ in range(2):
                page.wait_for_selector(f"#table-pane tr[data-key={network}][aria-selected=true]")
                assert "token" not in page.url
                page.reload()
    finally:
        context.close()


@contextmanager
def opened_beside(page, url):
    """Open an address in a second tab."""
    second = page.context.new_page()
    try:
        second.goto(url)
        yield second
    finally:
        second.close()


# -- the page as a whole ----------------------------------------------------------------------------------------------


def test_an_address_leads_back_to_what_was_looked_at(browser, address):
    wanted = {
        "set": "other",
        "network": "other-02",
        "corpus": "news",
        "run": "2",
        "volume": "31",
        "layer": "2",
        "neuron": "17",
        "overlay": "map",
        "underlay": "mask",
    }
    link = f"{address}#" + "&".join(f"{name}={value}" for name, value in wanted.items())
    with opened(browser, link, script=NO_WEBGL) as page:
        page.wait_for_selector("#token-31[aria-selected=true]")
        assert wanted.items() <= vars(state(page)).items()
        page.reload()
        page.wait_for_selector("#table-pane tr[data-key=other-02][aria-selected=true]")
        assert wanted.items() <= vars(state(page)).items()
    with opened(
        browser,
        f"{address}#set=%3Cimg%20src=x%20onerror=window.hit=1%3E&run=99&volume=-4&overlay=nonsense&layer=7",
        script=NO_WEBGL,
    ) as page:
        assert (state(page).set, state(page).run, state(page).volume, state(page).overlay) == (
            "ica",
            "2",
            "0",
            "members",
        )


def test_everything_can_be_done_from_the_keyboard(own, study):
    page = own
    press = page.keyboard.press
    # The place from which Tab starts depends on the browser and on the fragment of the address: the top of the page.
    page.evaluate("document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')")
    press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    press("ArrowDown")
    assert state(page).network == "ica-01"
    says(page, "#readout", f"{study.networks('ica')[1].members.sum()} neurons shown")
    press("ArrowRight")
    press("PageDown")
    assert (
        int(state(page).volume) == study.recording("news").events[0]["text_id"].duplicated().argmin()
        or int(state(page).volume) > 1
    )
    press("End")
    assert state(page).volume == "119"
    press("m")
    assert state(page).overlay == "map"
    press("]")
    assert float(state(page).threshold) > 0
    press("0")
    assert "threshold" not in page.url
    for key in ("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowUp", "Shift+PageDown"):
        press(key)
    assert (state(page).layer, state(page).neuron) == ("1", "11")
    press("r")  # picking
    page.focus(".stage >> nth=0")
    press("Enter")
    press("Shift+ArrowRight")
    press("Space")
    assert page.inner_text("#roi-count") == "2 neurons in 1 layer"
    press("Control+z")
    assert page.inner_text("#roi-count") == "1 neuron in 1 layer"
    page.focus("#roi-name")
    page.keyboard.type("by-key")
    press("Enter")
    page.wait_for_selector("#roi-path")
    np.testing.assert_array_equal(
        np.flatnonzero(study.space().from_img(study.root / page.inner_text("#roi-path"))), [60 + 11]
    )
    press("Escape")
    press("z")
    playwright.expect(page.locator(".stage >> nth=0").locator(".tile")).to_have_count(1)
    press("z")
    press("?")
    assert page.locator("#help").is_visible()
    press("Escape")
    assert page.locator("#help").is_hidden()
    press("c")
    page.wait_for_selector("#compare-pane tbody tr")
    reached = set()
    for _ in range(60):
        press("Tab")
        name, seen = page.evaluate("""(one => [one.id || one.className || one.tagName,
          one === document.body || one.matches(':focus-visible')])(document.activeElement)""")
        assert seen, name
        reached.add(name)
    assert {
        "site",
        "set",
        "corpus",
        "run",
        "view-networks",
        "theme",
        "help-open",
        "second",
        "underlay",
        "overlay",
        "stage",
        "tokens",
        "course",
    } <= reached


def test_nothing_scrolls_at_1280_by_720_and_all_of_it_is_in_sight(own):
    page = own
    for view in ("networks", "compare", "long names"):
        if view == "long names":
            page.evaluate("""() => {
              document.getElementById('study-name').textContent = 'a study of many words in its name '.repeat(3);
              for (const id of ['set', 'corpus', 'second'])
                document.getElementById(id).append(new Option('a name of many words '.repeat(4), '', true, true)); }""")
        else:
            page.click(f"#view-{view}")
        assert page.evaluate(
            "document.scrollingElement.scrollHeight <= 720 && document.scrollingElement.scrollWidth <= 1280"
        )
        if view != "networks":
            right = [page.locator(part).bounding_box() for part in (".left", "#second")]
            assert right[1]["x"] + right[1]["width"] < right[0]["x"] + right[0]["width"]
        parts = [".bar", ".left", ".centre", ".right", ".stage", ".legend", "#tokens", "#course", "#help-open", "#run"]
        for part in parts:
            box = page.locator(part).first.bounding_box()
            assert box["x"] >= 0, part
            assert box["y"] >= 0, part
            assert box["x"] + box["width"] <= 1280.5, part
            assert box["y"] + box["height"] <= 720.5, part
            assert min(box["width"], box["height"]) > 15, part


def test_a_small_page_starts_at_its_top_and_scrolls(browser, address):
    link, small = f"{address}#volume=100", {"width": 700, "height": 800}
    with opened(browser, link, script=NO_WEBGL, viewport=small) as page:
        page.wait_for_selector("#token-100[aria-selected=true]")
        assert page.evaluate("scrollY") == 0
        assert page.locator("#token-100").evaluate(
            """one => { const [own, all] = [one, one.closest('#tokens')].map((at) => at.getBoundingClientRect());
              return own.top > all.top - 1 && own.bottom < all.bottom + 1; }"""
        )
        page.locator("#course").scroll_into_view_if_needed()
        assert page.evaluate("scrollY") > 0
        assert page.evaluate("document.scrollingElement.scrollWidth") == 700


def test_light_and_dark_follow_the_browser_and_the_button(browser, address):
    with opened(browser, address, script=NO_WEBGL, color_scheme="dark") as page:
        brightness = lambda: pixels(page)[300:500:7, 5:1275:11].mean()  # noqa: E731
        drawn(page, None)
        assert brightness() < 0.3
        page.keyboard.press("t")
        assert brightness() > 0.7
        page.reload()
        drawn(page, None)
        assert brightness() > 0.7  # remembered
        for selector in (".left td", ".soft", "dt", ".token.positive", ".token.negative"):
            assert contrast(page, selector) >= 4.5, selector
        page.keyboard.press("t")
        for selector in (".left td", ".soft", "dt", ".token.positive", ".token.negative"):
            assert contrast(page, selector) >= 4.5, selector


def contrast(page, selector):
    """The contrast of the words of the first such element, as WCAG has it; of tokens at their full colour."""
    page.eval_on_selector_all(
        selector, "all => all.forEach(one => one.classList.contains('token') && one.style.setProperty('--share', 1))"
    )
    colors = page.eval_on_selector(selector, """one => {
      const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
      const paint = color => { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); };
      paint(getComputedStyle(document.body).backgroundColor); paint(getComputedStyle(one).backgroundColor);
      const under = Array.from(canvas.getImageData(0, 0, 1, 1).data); paint(getComputedStyle(one).color);
      return [under, Array.from(canvas.getImageData(0, 0, 1, 1).data)]; }""")  # fmt: skip

    def luminance(rgb):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(rgb[:3]) / 255]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    low, high = sorted(map(luminance, colors))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("scheme", "rules"), [
    ("light", ()), pytest.param("dark", ("color-contrast",), marks=pytest.mark.slow),
])  # fmt: skip
def test_there_is_no_serious_barrier(browser, address, study, scheme, rules):
    pytest.importorskip("axe_playwright_python", reason="axe is not installed: pip install axe-playwright-python")
    with opened(browser, address, script=NO_WEBGL, color_scheme=scheme) as page:
        page.wait_for_selector(".score")
        drawn(page, None)
        found = {"a network with lesions": serious(page, rules)}
        page.keyboard.press("ArrowDown")
        page.wait_for_selector("#lesions .command")
        page.click("#token-9")
        page.mouse.click(*voxel(page, study.space(), 2, 11))
        page.wait_for_selector("#panel-neuron .tops button")
        found["a neuron, a volume"] = serious(page, rules)
        page.keyboard.press("3")
        page.click("[data-tool=paint]")
        page.click("#roi-members")
        page.click("#panel-roi .strong")
        found["a region"] = serious(page, rules)
        page.keyboard.press("Escape")  # out of the field for its name
        page.keyboard.press("c")
        page.wait_for_selector("#compare-pane tr[aria-selected=true]")
        found["two sets"] = serious(page, rules)
        page.keyboard.press("?")
        found["help"] = serious(page, rules)
        assert {name: what for name, what in found.items() if what} == {}
        # It would notice.
        page.keyboard.press("Escape")
        page.evaluate("document.getElementById('second').parentElement.replaceWith(document.getElementById('second'))")
        page.evaluate("document.getElementById('compare-summary').style.color = 'var(--line)'")
        rules = ("select-name", "color-contrast")
        assert {rule for rule, _ in serious(page, rules)} == set(rules)


@pytest.mark.slow
def test_a_study_as_large_as_gpt2_is_drawn(browser, tmp_path):
    large = plant(tmp_path / "large", [3072] * 12, {"news": [tokens_of(1000)]}, n_networks=6)
    decompose_once(large)
    space = large.space()
    with serving(large.root) as url, opened(browser, url) as page:
        drawn(page)
        assert page.evaluate("performance.getEntriesByName('lmri-mosaic').length") == 1
        page.mouse.click(*voxel(page, space, 11, 3071))
        says(page, "#neuron-name", "layer 11 · neuron 3071")
        assert page.locator(".token").count() == 1000


def decompose_once(study):
    recordings = study.group()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = FastICA(recordings[0].space, 6, max_iter=5).fit(recordings[0].imgs)
    study.save_decomposition(fitted, recordings, "ica")
    study.save_networks(study.decomposition("ica").threshold("z", z=2.0), "ica")
