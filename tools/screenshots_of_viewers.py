"""Take the screenshots of docs/viewers: every installed viewer opens unmodified files of a study.

    python tools/screenshots_of_viewers.py STUDY NETWORKS [SITE [VIEWER ...]]

Programs with windows run on a separate virtual display. NiiVue runs in Chromium, from the bundle included in nilearn.
Viewers that are not installed are skipped. To install all of them:

    apt-get install xvfb matchbox-window-manager xdotool imagemagick chromium mrtrix3 mricron connectome-workbench
    pip install fsleyes

Click positions are specific to the versions named on the pages (Workbench 1.5, mrview 3.0, MRIcron 1.2): check the
images.
"""

import contextlib
import functools
import gzip
import http.server
import io
import json
import math
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
from PIL import Image

import lmri
from lmri.report.export import export

OUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "viewers"
SIZE = (1280, 720)
MANAGER = "matchbox-window-manager"

NIIVUE = """<!doctype html><meta charset="utf-8">
<style>html, body {{ margin: 0; height: 100%; background: #000 }}</style>
<canvas id="view"></canvas><script src="/niivue.umd.js"></script><script>
(async () => {{
  const nv = new niivue.Niivue({{ isNearestInterpolation: true, crosshairWidth: 0, centerMosaic: true,
    isOrientationTextVisible: false }});
  await nv.attachTo("view");
  await nv.loadVolumes({volumes});
  {then}
  nv.setSliceMosaicString("{mosaic}");
}})();
</script>"""


@dataclass(frozen=True)
class Scene:
    """Files that viewers open.

    Parameters
    ----------
    mean, network, labels : Path
        Mean image of the recording, z map of a network, and label image of the layers.
    names : Path
        Folder with the names of the layers.
    ica, cifti, strip : Path
        Networks in the MELODIC layout, folder of the networks in CIFTI, and strip image of the network with one row per
        layer.
    number, n_layers : int
        Index of the network, counted from 0, and number of slices.
    """

    mean: Path
    network: Path
    labels: Path
    names: Path
    ica: Path
    cifti: Path
    strip: Path
    number: int
    n_layers: int


def scene(root: str, name: str, site: str | None) -> Scene:
    """Collect the files of a study for the network with members in most layers."""
    study = lmri.open_study(root)
    networks = study.networks(name, site)
    at = networks.space.site
    entry = study.entries.find("networks", name, at)
    source = study.entries.find("decompositions", entry.info["inputs"]["decomposition"], at)
    reached = [(len(set(networks.space.layer_of[members])), members.sum()) for members in networks.members]
    number = max(range(len(reached)), key=reached.__getitem__)
    atlas = study.layout.atlas(at)
    return Scene(
        next(source.folder.glob("*_mean.nii.gz")),
        next(entry.folder.glob(f"*_network-{number:02d}_stat-z_statmap.nii.gz")),
        atlas / "layers.nii.gz",
        atlas,
        export(study, name, "melodic", at),
        export(study, name, "workbench", at),
        export(study, name, "strip", at) / f"{networks[number].name}_strip.nii.gz",
        number,
        networks.space.n_layers,
    )


# -- in Chromium ------------------------------------------------------------------------------------------------------


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Suppress log messages."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder on the loopback interface."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def niivue(what: Scene) -> None:
    """Show a network on the mean image, and named layers, in NiiVue."""
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
            root = Path(folder)
            (root / "niivue.umd.js").write_bytes(bundle.read_bytes())
            shutil.copy(what.mean, root / "mean.nii.gz")
            shutil.copy(what.network, root / "network.nii.gz")
            shutil.copy(what.labels, root / "layers.nii.gz")
            shutil.copy(what.names / "layers.json", root / "layers.json")
            page = NIIVUE.format(volumes=json.dumps(volumes), then=then, mosaic=mosaic)
            (root / "index.html").write_text(page)
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


@dataclass(frozen=True)
class Screen:
    """Virtual display with mouse, keyboard and screenshots.

    Parameters
    ----------
    environment : dict
        Environment of programs that use the display.
    """

    environment: dict[str, str]

    def call(self, *command: object) -> bytes:
        """Run a command to completion, and return its output."""
        arguments = [str(part) for part in command]
        return subprocess.run(arguments, env=self.environment, check=True, capture_output=True, timeout=180).stdout

    def click(self, *positions: tuple[int, int]) -> None:
        """Click at positions, and wait for the program after each click."""
        for x, y in positions:
            self.call("xdotool", "mousemove", x, y, "click", 1)
            time.sleep(1.5)

    def type(self, x: int, y: int, words: str) -> None:
        """Replace the content of a text field."""
        self.call("xdotool", "mousemove", x, y, "click", "--repeat", 3, 1)
        self.call("xdotool", "key", "ctrl+a")
        self.call("xdotool", "type", words)
        self.call("xdotool", "key", "Return")
        time.sleep(1.5)

    def press(self, *keys: str) -> None:
        """Press keys in sequence, and wait for the program after each key."""
        for key in keys:
            self.call("xdotool", "key", key)
            time.sleep(1)
        time.sleep(1)

    def settle(self, least: float, most: float = 120) -> None:
        """Wait until the display is stable, for at least `least` and at most `most` seconds."""
        begin, before, same = time.monotonic(), b"", 0
        while time.monotonic() - begin < most and (same < 3 or time.monotonic() - begin < least):
            time.sleep(2)
            now = self.call("import", "-window", "root", "rgb:-")
            same, before = (same + 1 if now == before else 0), now

    def keep(self, name: str, part: tuple[int, int, int, int] | None = None, enlarged: int = 1) -> None:
        """Save the display, or a part of it (left, top, right, bottom), as an image of the documentation."""
        picture = Image.open(io.BytesIO(self.call("import", "-window", "root", "png:-"))).convert("RGB").crop(part)
        large = picture.resize((picture.width * enlarged, picture.height * enlarged), Image.Resampling.NEAREST)
        large.quantize(256, dither=Image.Dither.NONE).save(OUT / f"{name}.png", optimize=True)


@contextlib.contextmanager
def display(size: tuple[int, int] = SIZE, titles: bool = False) -> Iterator[Screen]:
    """Start a virtual display with software rendering, a separate home folder, and maximized windows."""
    if missing := [name for name in ("Xvfb", MANAGER, "xdotool", "import") if shutil.which(name) is None]:
        raise FileNotFoundError(
            f"{', '.join(missing)} not found. Install the packages listed at the top of {__file__}."
        )
    number = next(n for n in range(90, 200) if not Path(f"/tmp/.X11-unix/X{n}").exists())
    command = ["Xvfb", f":{number}", "-noreset", "-screen", "0", f"{size[0]}x{size[1]}x24"]
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        # FSLeyes asks for an FSL installation, which it does not need, unless FSLDIR is set.
        overrides = {"DISPLAY": f":{number}", "LIBGL_ALWAYS_SOFTWARE": "1", "HOME": home, "FSLDIR": home}
        environment = {**os.environ, **overrides, "XDG_RUNTIME_DIR": home}
        stack.enter_context(running(command, environment))
        for _ in range(300):
            if Path(f"/tmp/.X11-unix/X{number}").exists():
                break
            time.sleep(0.1)
        else:
            raise TimeoutError(f"Xvfb did not start display {number} in 30 s. Try to run: {' '.join(command)}")
        stack.enter_context(running([MANAGER, "-use_titlebar", "yes" if titles else "no"], environment))
        yield Screen(environment)


@contextlib.contextmanager
def running(command: list[object], environment: dict[str, str]) -> Iterator[None]:
    """Run a program in the background, and terminate it at the end."""
    program = subprocess.Popen(
        [str(part) for part in command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        program.terminate()
        try:
            program.wait(timeout=15)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


@contextlib.contextmanager
def window(command: list[object], least: float, size: tuple[int, int] = SIZE, titles: bool = False) -> Iterator[Screen]:
    """Start a program on a separate display, and wait until the display is stable."""
    with display(size, titles) as screen, running(command, screen.environment):
        screen.settle(least)
        yield screen


def fsleyes(what: Scene) -> None:
    """Show a network, named layers, the strip image, and the MELODIC layout with labels, in FSLeyes."""
    slices = f"--scene lightbox -zx Z -av -zr 0 {what.n_layers} -ss 1 -sp voxel -sg -hc".split()
    flat = ["--scene", "ortho", "-xh", "-yh", "-hc", "-hl", "-bg", "1", "1", "1"]
    colors = ["-cm", "red-yellow", "-nc", "blue-lightblue", "-un", "-dr", "3", "8"]
    with display() as screen:
        for name, size, scene_, overlays in (
            ("fsleyes-network", SIZE, slices, [what.mean, what.network, *colors]),
            ("fsleyes-layers", SIZE, slices, [what.labels, "-ot", "label", "-l", what.names / "layers.lut"]),
            ("fsleyes-strip", (1280, 640), flat, [what.strip, *colors]),
        ):
            screen.call("fsleyes", "render", "-of", OUT / f"{name}.png", "-sz", *size, *scene_, *overlays)
    melodic = ["fsleyes", "--scene", "melodic", *slices[2:], what.ica / "melodic_IC.nii.gz", *colors[:-2], "1", "6"]
    with window(melodic, 45, (1760, 1200)) as screen:
        screen.keep("fsleyes-melodic")


def mrview(what: Scene) -> None:
    """Show a network in the light box of MRtrix, with both signs on one colour map."""
    columns = math.ceil(what.n_layers**0.5)
    colors = ["-overlay.colourmap", "3", "-overlay.intensity", "-6,6", "-overlay.interpolation", "0"]
    command = ["mrview", what.mean, "-mode", "4", "-interpolation", "0", "-voxel", "0,0,0"]
    for limit in (("-overlay.threshold_min", "3"), ("-overlay.threshold_max", "-3")):
        command += ["-overlay.load", what.network, *limit, *colors]
    with window(command, 5, (1600, 900)) as screen:
        screen.call("xdotool", "key", "ctrl+F1")  # View options
        time.sleep(2)
        screen.type(1437, 337, str(math.ceil(what.n_layers / columns)))
        screen.type(1437, 363, str(columns))
        screen.type(1390, 128, str(round(1.2 * nib.load(what.mean).shape[0])))  # millimetres per slice
        screen.settle(4)
        screen.keep("mrview-network")


def mricron(what: Scene) -> None:
    """Show a network on one layer, all layers in the window Multislice, and a named layer, in MRIcron."""
    high = np.percentile(np.asarray(nib.load(what.mean).dataobj), 95)
    command = ["mricron", what.mean, "-h", f"{high:.3f}", "-s", "0", "-b", "0"]
    for color, limits in (("-12", (3, 6)), ("-9", (-3, -6))):  # 5redyell and 2winter, by their index in the list
        command += ["-o", what.network, "-c", color, "-l", limits[0], "-h", limits[1], "-z"]
    axial = ["alt+v", "Right", *["Down"] * 4, "Return"]  # View, Display, Axial only
    nx, ny, n_layers = nib.load(what.mean).shape
    with tempfile.TemporaryDirectory() as folder:
        slices = Path(folder) / "slices.ini"
        numbers = ",".join(str(number + 1) for number in range(n_layers))
        slices.write_text(f"[STR]\nSlices={numbers}\n[BOOL]\nOrthoView=0\nSliceLabel=0\n[INT]\nOrient=1\n")
        with window([*command, "-m", slices], 6) as screen:
            screen.call("xdotool", "search", "--name", "^MultiSlice$", "windowactivate")
            screen.settle(4)
            # One voxel is one pixel in this window.
            screen.keep("mricron-multislice", (2, 25, 1 + n_layers * (nx + 1), 25 + ny), enlarged=6)
        with window(command, 6, titles=True) as screen:
            screen.press(*axial)
            screen.keep("mricron-network")
        # MRIcron reads compressed files only if they have at least 348 bytes.
        labels = Path(folder) / "layers.nii"
        labels.write_bytes(gzip.decompress(what.labels.read_bytes()))
        shutil.copy(what.names / "layers.txt", folder)
        with window(["mricron", labels], 6, (800, 450), titles=True) as screen:
            screen.press(*axial)
            screen.click((400, 250))
            screen.settle(4)
            screen.keep("mricron-layers", (0, 0, 800, 425))


def workbench(what: Scene) -> None:
    """Show a network, and named layers, in the montage of Connectome Workbench."""
    columns = math.ceil(what.n_layers**0.5)
    for name, shown in (("network", "networks_stat-z.dscalar.nii"), ("layers", "layers.dlabel.nii")):
        command = ["wb_view", "-no-splash", "-no-recent-files-dialog", what.cifti / shown, what.mean]
        with window(command, 10, (1760, 990)) as screen:
            screen.type(380, 74, str(math.ceil(what.n_layers / columns)))
            screen.type(380, 98, str(columns))
            screen.type(510, 133, str(what.n_layers // 2))  # central slice of the montage
            screen.click((379, 185))  # On
            for step in ("2", "1"):  # the step is applied only after it has been changed
                screen.type(380, 122, step)
            screen.click((637, 867), (400, 830))  # the first file of the list
            if name == "network":
                screen.type(710, 866, str(what.number + 1))
            screen.click((14, 866))
            if name == "layers":
                screen.click((880, 360))
            screen.settle(4)
            screen.keep(f"workbench-{name}")


# -- libraries --------------------------------------------------------------------------------------------------------


def nilearn(what: Scene) -> None:
    """Plot a network with nilearn alone."""
    from nilearn.plotting import plot_stat_map

    layers = list(range(what.n_layers))
    shown = plot_stat_map(
        str(what.network), bg_img=str(what.mean), display_mode="z", cut_coords=layers, draw_cross=False, black_bg=True
    )
    shown.savefig(OUT / "nilearn-network.png", dpi=150)
    shown.close()


VIEWERS: dict[str, tuple[str, Callable[[Scene], None]]] = {
    "niivue": ("chromium", niivue),
    "fsleyes": ("fsleyes", fsleyes),
    "mrview": ("mrview", mrview),
    "mricron": ("mricron", mricron),
    "workbench": ("wb_view", workbench),
    "nilearn": (sys.executable, nilearn),
}


def main() -> None:
    """Take the screenshots of installed viewers; names after the site select viewers."""
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
