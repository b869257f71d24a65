"""Figures and interactive views for notebooks, with nilearn and matplotlib, which are imported on first use."""

import contextlib
import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from nilearn.plotting.html_stat_map import StatMapView

    from lmri.space import NeuronSpace

GAP = 2
"""Gap between layers and between maps, in pixels."""

MOST_PIXELS = 1600
"""Width in pixels above which mosaics are pooled, because a screen would omit some of their pixels."""

COLOURS = "RdBu_r"


def view(img: nib.Nifti1Image, title: str, **options: Any) -> "StatMapView":
    """Show a map in nilearn's interactive viewer for notebooks, without a background brain and without interpolation.

    Parameters
    ----------
    img : Nifti1Image
        3D image of z or t values.
    title : str
        Title of the view.
    **options
        Options of `nilearn.plotting.view_img`.

    Returns
    -------
    StatMapView
        View returned by `nilearn.plotting.view_img`.
    """
    from nilearn.plotting import view_img

    values = np.asarray(img.dataobj)
    strongest = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    chosen: dict[str, Any] = {
        "bg_img": False,
        "resampling_interpolation": "nearest",
        "black_bg": False,
        "cut_coords": tuple(int(coordinate) for coordinate in strongest),  # the affine is the identity
        "cmap": COLOURS,
        "title": title,
        "show_lr": False,
        "draw_cross": False,  # it would hide the neuron at its centre
    }
    if not values.any():  # an empty network: the range of the scale is arbitrary but must not be 0
        chosen |= {"vmax": 1.0, "threshold": None}
    return view_img(img, **{**chosen, **options})


def mosaic(space: "NeuronSpace", values: np.ndarray) -> tuple[np.ndarray, list[float], list[float]]:
    """Arrange maps as one picture, with one row per map and one tile per layer, oriented as in the image (``y`` up).

    Parameters
    ----------
    space : NeuronSpace
        Neuron space of the maps.
    values : ndarray of shape (n_maps, n_neurons)
        Maps in (layer, neuron) order.

    Returns
    -------
    picture : ndarray of shape (height, width)
        Values of the pixels; NaN outside the mask. If the picture would be too wide for a screen, each pixel is the
        strongest of several neurons, so that no neuron disappears.
    rows, columns : list of float
        Centre coordinates of the maps and of the layers, in pixels.
    """
    nx, ny, nz = space.shape
    volumes = np.full((len(values), space.inside.size), np.nan, dtype=np.float32)
    volumes[:, space.inside] = values
    tiles = volumes.reshape(len(values), nz, ny, nx)[:, :, ::-1]  # (n_maps, layer, y downwards, x)
    tiles = pooled(tiles, math.ceil(nz * (nx + GAP) / MOST_PIXELS))
    height, width = tiles.shape[2] + GAP, tiles.shape[3] + GAP
    padded = np.pad(tiles, ((0, 0), (0, 0), (0, GAP), (0, GAP)), constant_values=np.nan)
    picture = padded.transpose(0, 2, 1, 3).reshape(len(values) * height, nz * width)
    rows = [number * height + (height - GAP - 1) / 2 for number in range(len(values))]
    columns = [layer * width + (width - GAP - 1) / 2 for layer in range(nz)]
    return picture[:-GAP, :-GAP], rows, columns


def pooled(tiles: np.ndarray, factor: int) -> np.ndarray:
    """Return the strongest value, with its sign, of each block of ``factor × factor`` on the last two axes."""
    if factor == 1:
        return tiles
    *front, height, width = tiles.shape
    extra = [(0, 0)] * len(front) + [(0, -height % factor), (0, -width % factor)]
    padded = np.pad(tiles, extra, constant_values=np.nan)
    blocks = padded.reshape(*front, padded.shape[-2] // factor, factor, padded.shape[-1] // factor, factor)
    blocks = np.moveaxis(blocks, -3, -2).reshape(*blocks.shape[:-3], blocks.shape[-2], factor**2)
    strongest = np.argmax(np.nan_to_num(np.abs(blocks), nan=-1.0), axis=-1)
    return np.asarray(np.take_along_axis(blocks, strongest[..., None], axis=-1)[..., 0])


def plot_maps(
    space: "NeuronSpace",
    values: np.ndarray,
    names: Sequence[str],
    axes: "Axes | None" = None,
    figure: "Figure | None" = None,
    output_file: str | Path | None = None,
    title: str | None = None,
    vmax: float | None = None,
    cmap: str = COLOURS,
    label: str = "z",
) -> "Figure | None":
    """Plot maps as a mosaic with a common colour scale; see `mosaic`, and `NetworkSet.plot` for the parameters."""
    import matplotlib.pyplot as plt

    picture, rows, columns = mosaic(space, values)
    if axes is None:
        if figure is None:
            width = 10.0
            figure = plt.figure(
                figsize=(width, 1.0 + width * 0.8 * picture.shape[0] / picture.shape[1]), layout="constrained"
            )
        axes = figure.add_subplot(1, 1, 1)
    drawn_in: Any = axes.figure
    largest = float(np.nanmax(np.abs(picture), initial=0.0, where=np.isfinite(picture)))
    limit = vmax if vmax is not None else largest or 1.0
    axes.set_facecolor("0.93")
    image = axes.imshow(picture, cmap=cmap, vmin=-limit, vmax=limit, interpolation="nearest")
    step = max(1, math.ceil(len(columns) / 24))
    axes.set_xticks(columns[::step], [str(layer) for layer in range(len(columns))][::step])
    # Names are plain text: a dollar sign must not start a formula.
    axes.set_yticks(rows, list(names), parse_math=False)
    axes.set_xlabel("layer")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title, loc="left", parse_math=False)
    drawn_in.colorbar(image, ax=axes, label=label, shrink=0.8, pad=0.01)
    return _saved_or_returned(drawn_in, output_file)


def plot_carpet(
    space: "NeuronSpace",
    img: str,
    title: str,
    axes: "Axes | None" = None,
    figure: "Figure | None" = None,
    output_file: str | Path | None = None,
    **options: Any,
) -> "Figure | None":
    """Plot a run as a carpet with nilearn, neurons grouped by layer; see `Recording.plot_carpet` for the parameters."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap
    from nilearn import plotting

    # nilearn plots the layers into the current figure.
    if axes is not None:
        plt.sca(axes)
    elif figure is not None:
        plt.figure(figure)
    chosen: dict[str, Any] = {
        "mask_img": space.labels_img,
        "mask_labels": {layer.name: z for z, layer in enumerate(space.layers, start=1)},
        "cmap_labels": ListedColormap(list(space.labels_table["color"])),
        "t_r": 1.0,
        "title": title,
    }
    # nilearn warns and prints about its internal conversion of labels to numbers.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.filterwarnings("ignore", "Casting data")
        drawn = plotting.plot_carpet(img, axes=axes, figure=figure, **{**chosen, **options})
    for panel in drawn.axes:
        if panel.get_xlabel().startswith("time"):  # one second is one volume here
            panel.set_xlabel("volume")
            panel.set_xticks(panel.get_xticks(), [f"{float(text.get_text()):.0f}" for text in panel.get_xticklabels()])
    return _saved_or_returned(drawn, output_file)


def _saved_or_returned(figure: "Figure", output_file: str | Path | None) -> "Figure | None":
    """Save and close a figure if there is an output file, as nilearn does, else return the figure."""
    if output_file is None:
        return figure
    import matplotlib.pyplot as plt

    figure.savefig(output_file)
    plt.close(figure)
    return None
