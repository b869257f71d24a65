"""Take the screenshots of README.md and docs/view.md, of the study that ``lmri demo`` makes.

    python tools/screenshots.py STUDY

Chromium is driven by playwright (Debian: chromium; PyPI: playwright).
"""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from lmri.study import open_study
from lmri.viewer import serving

OUT = Path(__file__).resolve().parents[1] / "docs" / "images"
SITE, NETWORKS = "mlp_hidden", "ica-z3"
QUIET = ("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update")
SOFTWARE = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@contextlib.contextmanager
def opened(browser: Browser, url: str, scheme: str) -> Iterator[Page]:
    """Open a page of the size of a small screen."""
    page = browser.new_page(viewport={"width": 1280, "height": 720}, color_scheme=scheme)
    page.goto(url)
    try:
        yield page
    finally:
        page.close()


def view(browser: Browser, study: Path) -> None:
    """Show a network with its text, and a neuron that was clicked, in the dark."""
    network = largest(study)
    with serving(study) as url:
        address = f"{url}#site={SITE}&set={NETWORKS}&network={network}&corpus=code&run=1&volume=40"
        for scheme, name, tab in (("light", "view.png", ""), ("dark", "view-neuron.png", "neuron")):
            with opened(browser, address, scheme) as page:
                page.wait_for_selector("[data-drawn]", state="attached", timeout=60_000)
                if tab:
                    page.mouse.click(*middle(page))
                page.wait_for_load_state("networkidle")
                page.wait_for_timeout(3000)
                page.screenshot(path=OUT / name)


def middle(page: Page) -> tuple[float, float]:
    """Give a place within the first layer."""
    box = page.locator("canvas").first.bounding_box()
    return box["x"] + 0.2 * box["width"], box["y"] + 0.3 * box["height"]


def largest(study: Path) -> str:
    """Name the network that has the most neurons."""
    table = open_study(study).networks(NETWORKS, SITE).table
    return str(table.loc[table["n_neurons"].idxmax(), "name"])


def report(browser: Browser, study: Path) -> None:
    """Show a network in the report."""
    with opened(browser, (study / "report.html").resolve().as_uri(), "light") as page:
        card = page.locator(f"details:has(summary:has-text('{largest(study)}'))").first
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
