"""Take the screenshots of docs/viewers.md: every viewer that is installed opens files of a study, unmodified.

    python tools/screenshots_of_viewers.py STUDY NETWORKS [SITE [VIEWER ...]]

Programs with windows run out of sight, on a display of their own (Debian: xvfb, imagemagick, mrtrix3; PyPI: fsleyes);
NiiVue runs in Chromium, from the bundle that nilearn brings. What is not installed is left out.
"""

import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np

import lmri
from lmri.export import export

OUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "viewers"
SIZE = (1280, 720)

NIIVUE = """<!doctype html><meta charset="utf-8">
<style>html, body {{ margin: 0; height: 100%; background: #000 }}</style>
<canvas id="view"></canvas><script src="/niivue.umd.js"></script><script>
(async () => {{
  const nv = new niivue.Niivue({{ isNearestInterpolation: true, crosshairWidth: 0, isOrientationTextVisible: false }});
  await nv.attachTo("view");
  await nv.loadVolumes({volumes});
  {then}
  nv.setSliceMosaicString("{mosaic}");
}})();
</script>"""


@dataclass(frozen=True)
class Scene:
    """What is to be opened.

    Parameters
    ----------
    mean, network, labels : Path
        The mean of what was recorded, the z map of a network on it, and the layers.
    names : Path
        Folder of the names of the layers.
    ica : Path
        The networks as MELODIC leaves them.
    n_layers : int
        Slices.
    bold : Path
        A run.
    """

    mean: Path
    network: Path
    labels: Path
    names: Path
    ica: Path
    n_layers: int
    bold: Path


def scene(root: str, name: str, site: str | None) -> Scene:
    """Find the files of a study, of the largest network."""
    study = lmri.open_study(root)
    networks = study.networks(name, site)
    at = networks.space.site
    entry = study.entries.find("networks", name, at)
    source = study.entries.find("decompositions", entry.info["inputs"]["decomposition"], at)
    largest = int(networks.members.sum(axis=1).argmax())
    atlas = study.layout.atlas(at)
    return Scene(
        next(source.folder.glob("*_mean.nii.gz")),
        next(entry.folder.glob(f"*_network-{largest:02d}_stat-z_statmap.nii.gz")),
        atlas / "layers.nii.gz",
        atlas,
        export(study, name, "melodic", at),
        networks.space.n_layers,
        study.recordings(at)[0].runs[0].img,
    )


# -- in Chromium ------------------------------------------------------------------------------------------------------


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder on this computer alone."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def niivue(what: Scene) -> None:
    """Show a network on the mean, and the layers by name, in NiiVue."""
    bundle = files("nilearn") / "_assets" / "js" / "niivue.umd.js"
    columns = max(1, round((what.n_layers / 2) ** 0.5))
    rows = [range(first, min(first + columns, what.n_layers)) for first in range(0, what.n_layers, columns)]
    mosaic = " ; ".join("A L+ " + " ".join(map(str, row)) for row in rows)
    low, high = np.percentile(np.asarray(nib.load(what.mean).dataobj), [5, 95])
    network = [
        {"url": "mean.nii.gz", "colormap": "gray", "cal_min": float(low), "cal_max": float(high)},
        {"url": "network.nii.gz", "colormap": "warm", "colormapNegative": "winter", "cal_min": 2, "cal_max": 6},
    ]
    for name, volumes, then in (
        ("niivue-network", network, ""),
        ("niivue-layers", [{"url": "layers.nii.gz"}], "await nv.volumes[0].setColormapLabelFromUrl('layers.json');"
         "nv.updateGLVolume();"),
    ):  # fmt: skip
        with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as address:
            place = Path(folder)
            (place / "niivue.umd.js").write_bytes(bundle.read_bytes())
            shutil.copy(what.mean, place / "mean.nii.gz")
            shutil.copy(what.network, place / "network.nii.gz")
            shutil.copy(what.labels, place / "layers.nii.gz")
            shutil.copy(what.names / "layers.json", place / "layers.json")
            page = NIIVUE.format(volumes=json.dumps(volumes), then=then, mosaic=mosaic)
            (place / "index.html").write_text(page)
            with tempfile.TemporaryDirectory() as profile:
                flags = "--headless --no-sandbox --disable-quic --no-first-run --disable-background-networking"
                flags += " --disable-component-update --disable-sync --use-gl=angle --use-angle=swiftshader"
                flags += " --enable-unsafe-swiftshader --hide-scrollbars --virtual-time-budget=20000"
                subprocess.run(
                    ["chromium", *flags.split(), f"--user-data-dir={profile}", f"--window-size={SIZE[0]},{SIZE[1]}",
                     f"--screenshot={OUT / f'{name}.png'}", f"{address}/index.html"],
                    check=True, capture_output=True, timeout=180,
                )  # fmt: skip


# -- programs with windows --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def display(size: tuple[int, int] = SIZE) -> Iterator[dict[str, str]]:
    """Give the environment of a display that nobody sees, drawn by software, with a home of its own."""
    number = next(n for n in range(90, 200) if not Path(f"/tmp/.X11-unix/X{n}").exists())
    command = ["Xvfb", f":{number}", "-noreset", "-screen", "0", f"{size[0]}x{size[1]}x24"]
    with tempfile.TemporaryDirectory() as home, open(os.devnull, "w") as nowhere:  # noqa: PTH123
        server = subprocess.Popen(command, stderr=nowhere)
        try:
            for _ in range(300):
                if Path(f"/tmp/.X11-unix/X{number}").exists():
                    break
                time.sleep(0.1)
            else:
                raise TimeoutError(
                    f"Xvfb did not start display {number} in 30 s. Is it installed (apt-get install xvfb)?"
                )
            # FSLeyes asks for FSL, which it can do without, unless it believes that it is there.
            yield {**os.environ, "DISPLAY": f":{number}", "LIBGL_ALWAYS_SOFTWARE": "1", "HOME": home, "FSLDIR": home}
        finally:
            server.terminate()
            server.wait()


def window(name: str, command: list[str], wait: float, size: tuple[int, int] = SIZE) -> None:
    """Start a program, give it time to draw, and keep what the screen shows."""
    with display(size) as environment, open(os.devnull, "w") as nowhere:  # noqa: PTH123
        program = subprocess.Popen(command, env=environment, stdout=nowhere, stderr=nowhere)
        try:
            time.sleep(wait)
            path = OUT / f"{name}.png"
            subprocess.run(["import", "-window", "root", "-colors", "256", path], env=environment, check=True)
        finally:
            program.terminate()
            program.wait(timeout=30)


def fsleyes(what: Scene) -> None:
    """Show a network, the layers by name, and the MELODIC layout with time course, spectrum and labels."""
    slices = f"--scene lightbox -zx Z -av -zr 0 {what.n_layers} -ss 1 -sp voxel -hc".split()
    colors = ["-cm", "red-yellow", "-nc", "blue-lightblue", "-un", "-dr", "3", "8"]
    with display() as environment:
        for name, overlays in (
            ("fsleyes-network", [what.mean, what.network, *colors]),
            ("fsleyes-layers", [what.labels, "-ot", "label", "-l", what.names / "layers.lut"]),
        ):
            command = ["fsleyes", "render", "-of", OUT / f"{name}.png", "-sz", *map(str, SIZE), *slices, *overlays]
            done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"fsleyes render failed: {done.stderr[-500:]}")
    window("fsleyes-melodic", ["fsleyes", "--scene", "melodic", str(what.ica / "melodic_IC.nii.gz")], 100, (1760, 990))


def mrview(what: Scene) -> None:
    """Show a network in the light box of MRtrix."""
    overlay = "-overlay.threshold_min 3 -overlay.colourmap 1 -overlay.interpolation 0"
    with display() as environment, tempfile.TemporaryDirectory() as folder:
        command = [
            "mrview", what.mean, "-mode", "4", "-interpolation", "0", "-size", ",".join(map(str, SIZE)),
            "-voxel", "0,0,0",
            "-overlay.load", what.network, *overlay.split(),
            "-capture.folder", folder, "-capture.prefix", "shot", "-capture.grab", "-exit",
        ]  # fmt: skip
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
        shutil.copy(next(Path(folder).glob("*.png")), OUT / "mrview-network.png")


VIEWERS: dict[str, tuple[str, Callable[[Scene], None]]] = {
    "niivue": ("chromium", niivue),
    "fsleyes": ("fsleyes", fsleyes),
    "mrview": ("mrview", mrview),
}


def main() -> None:
    """Take what can be taken; names behind the site choose viewers."""
    root, name, site, *wanted = [*sys.argv[1:], *[""] * (4 - len(sys.argv))]
    what = scene(root, name, site or None)
    OUT.mkdir(parents=True, exist_ok=True)
    for viewer, (program, take) in VIEWERS.items():
        if wanted and viewer not in wanted:
            continue
        if shutil.which(program) is None:
            print(f"{viewer}: {program} is not installed")
            continue
        take(what)
        print(f"{viewer}: {', '.join(sorted(path.name for path in OUT.glob(f'{viewer}*.png')))}")


if __name__ == "__main__":
    main()
