"""Measure the loading time of the viewer for a study of the size of GPT-2.

    python benchmarks/viewer.py                  # about 5 minutes on 2 cores, mostly to create the study
    python benchmarks/viewer.py --folder scratch # keeps the study for another run

The study is simulated: 12 layers of 3,072 hidden units, 1,000 volumes, 20 networks. It is displayed by the server of
`lmri view` in headless Chromium, which needs ``pip install playwright``. "Cold" is a newly started browser and server;
"warm" is a new tab of the same browser and server. Times start when the address is opened.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from playwright.sync_api import sync_playwright

import lmri
from lmri import storage
from lmri.report.viewer import serving
from lmri.space import ModelInfo, NeuronSpace
from lmri.storage.adding import adding
from lmri.storage.corpora import write_texts_table
from lmri.storage.dataset_files import write_event_sidecars, write_recording_index, write_recording_site
from lmri.storage.recording import Recording, Run

WIDTHS, N_VOLUMES, N_NETWORKS = [3072] * 12, 1000, 20
SITE, CORPUS, LENGTH = "mlp_hidden", "news", 50
FLAGS = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
NIIVUE = '.stage[data-painter="niivue"][data-painted]'


def make_study(root: Path) -> None:
    """Write a study with simulated networks, and decompose it."""
    rng = np.random.default_rng(0)
    space = NeuronSpace.build(WIDTHS, SITE, ModelInfo("planted", None, "00ff00ff", "gpt2", "float32"))
    maps = rng.laplace(size=(N_NETWORKS, space.n_neurons)) * (rng.random((N_NETWORKS, space.n_neurons)) < 0.05)
    activations = rng.laplace(size=(N_VOLUMES, N_NETWORKS)) @ maps + rng.normal(size=(N_VOLUMES, space.n_neurons))
    with adding(root, space.model) as study:
        record(study, space, activations.astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is not needed for display
        fitted = lmri.FastICA(space, N_NETWORKS, max_iter=20).fit(study.recording(CORPUS).imgs)
    study.save_decomposition(fitted, study.recordings(), "ica")
    study.save_networks(study.decomposition("ica").threshold("z", z=3.0), "ica")


def record(study, space: NeuronSpace, activations: np.ndarray) -> None:
    """Write a recording with one run of texts of equal length."""
    layout, n = study.layout, len(activations)
    words = [f" word{token % 97}" for token in range(n)]
    names = np.repeat([f"{CORPUS}-{number:03d}" for number in range(n // LENGTH)], LENGTH)
    texts = ["".join(words[first : first + LENGTH]) for first in range(0, n, LENGTH)]
    ends = np.concatenate([np.cumsum([len(word) for word in words[at : at + LENGTH]]) for at in range(0, n, LENGTH)])
    events = pd.DataFrame({"onset": np.arange(n, dtype=float), "duration": 1.0, "trial_type": CORPUS, "text_id": names})
    events = events.assign(token=words, token_id=np.arange(n), position=np.tile(np.arange(1, LENGTH + 1), n // LENGTH))
    events = events.assign(start=ends - [len(word) for word in words], end=ends)
    stem = (CORPUS, 1)
    run = Run(layout.bold(*stem, SITE), layout.events(*stem), layout.tokens(*stem), n)
    run.img.parent.mkdir(parents=True, exist_ok=True)
    nib.save(space.to_img(activations), run.img)
    storage.write_table(run.events, events)
    storage.write_table(run.tokens, events.assign(dummy=0, volume=np.arange(n)))
    table = pd.DataFrame({"text_id": pd.unique(names), "sha256": "0" * 64, "split": "fit", "run": 1})
    table = table.assign(n_tokens=LENGTH, n_volumes=LENGTH, n_cut=0, text=texts)
    write_texts_table(layout, CORPUS, table, {})
    write_event_sidecars(layout, CORPUS, 1)
    write_recording_site(layout, space, CORPUS, table, {"n_dummy": 0})
    recording = Recording(space, CORPUS, (run,), table, {})
    write_recording_index(layout, recording, {"n_dummy": 0}, storage.versions())


@contextmanager
def launched(driver):
    """Start a browser with an empty cache."""
    browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
    try:
        yield browser
    finally:
        browser.close()


def seconds(browser, url: str, size: tuple[int, int]) -> dict[str, float]:
    """Open the page once, and return the seconds until each element is loaded."""
    context = browser.new_context(viewport=dict(zip(("width", "height"), size, strict=True)))
    page = context.new_page()
    page.goto(url, wait_until="commit")
    page.wait_for_selector(NIIVUE)
    times = page.evaluate(
        """() => {
      const at = (kind, name) => performance.getEntriesByType(kind).find((one) => one.name.startsWith(name));
      const came = (name) => { const one = performance.getEntriesByType('resource').find((o) => o.name.includes(name));
        return one ? one.responseEnd : NaN; };
      return {
        'first paint': at('paint', 'first-contentful-paint')?.startTime ?? NaN,
        'study listed': came('/api/study'), 'networks listed': came('/api/networks'),
        'map loaded': came('/api/map.nii.gz'), 'mean loaded': came('/api/mean.nii.gz'),
        'mosaic drawn': at('mark', 'lmri-mosaic').startTime, 'NiiVue drawn': performance.now(),
      }; }"""
    )
    context.close()
    return {name: value / 1000 for name, value in times.items()}


def main() -> None:
    """Print the median of each time, cold and warm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        root = (options.folder or Path(scratch)) / "study"
        if not root.is_dir():
            make_study(root)
        measured: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
        for _ in range(options.repeats):
            with serving(root) as url, launched(driver) as browser:
                measured["cold"].append(seconds(browser, url, options.size))
                measured["warm"].append(seconds(browser, url, options.size))
        for kind, rows in measured.items():
            medians = {name: round(statistics.median(row[name] for row in rows), 2) for name in rows[0]}
            print(f"{kind}: seconds, medians of {len(rows)}: {json.dumps(medians)}")


if __name__ == "__main__":
    main()
