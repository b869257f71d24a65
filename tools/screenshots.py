"""Take the screenshots of README.md and docs/view.md from the study of ``lmri demo``.

    python tools/screenshots.py STUDY

Chromium is controlled by playwright (Debian: chromium; PyPI: playwright).
"""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from lmri.report.viewer import serving
from lmri.study import open_study

OUT = Path(__file__).resolve().parents[1] / "docs" / "images"
SITE, NETWORKS = "mlp_hidden", "ica-z3"
QUIET = ("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update")
SOFTWARE = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@contextlib.contextmanager
def opened(browser: Browser, url: str, scheme: str) -> Iterator[Page]:
    """Open a page in a 1280 x 720 viewport."""
    page = browser.new_page(viewport={"width": 1280, "height": 720}, color_scheme=scheme)
    page.goto(url)
    try:
        yield page
    finally:
        page.close()


def view(browser: Browser, study: Path) -> None:
    """Show a network with its text and, in the dark scheme, one of its neurons."""
    network = widest(study)
    with serving(study) as url:
        address = f"{url}#site={SITE}&set={NETWORKS}&network={network}&corpus=code&run=1&volume=40"
        for scheme, name, more in (("light", "view.png", ""), ("dark", "view-neuron.png", strongest(study))):
            with opened(browser, address + more, scheme) as page:
                page.wait_for_selector("[data-painter=niivue]", state="attached", timeout=60_000)
                if more:
                    page.get_by_role("tab", name="Neuron").click()
                page.wait_for_load_state("networkidle")
                page.wait_for_timeout(3000)
                page.screenshot(path=OUT / name)


def widest(study: Path) -> str:
    """Return the name of the network with the smallest share of neurons in a single layer."""
    networks = open_study(study).networks(NETWORKS, SITE)
    return min(networks, key=lambda network: max(network.layer_profile()) / max(1, network.n_neurons)).name


def strongest(study: Path) -> str:
    """Return the neuron with the largest weight in the widest network, as part of an address."""
    neuron = open_study(study).networks(NETWORKS, SITE)[widest(study)].neurons().iloc[0]
    return f"&layer={neuron['layer']:.0f}&neuron={neuron['neuron']:.0f}"


def report(browser: Browser, study: Path) -> None:
    """Show a network in the report."""
    with opened(browser, (study / "report.html").resolve().as_uri(), "light") as page:
        card = page.locator(f"details:has(summary:has-text('{widest(study)}'))").first
        card.evaluate("element => { element.open = true; element.scrollIntoView(); }")
        page.wait_for_timeout(1000)
        page.screenshot(path=OUT / "report.png")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", *QUIET, *SOFTWARE]
        )
        view(chromium, folder)
        report(chromium, folder)
        chromium.close()
