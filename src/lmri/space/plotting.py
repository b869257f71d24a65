"""What notebooks show: figures and views as nilearn and matplotlib make them. Both are loaded when one is asked for."""

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

    from lmri.space import NeuronSpace

GAP = 2
"""Pixels between layers, and between networks."""

MOST_PIXELS = 1600
"""Wider mosaics than that are pooled: a screen would show some of their pixels and leave out others."""

COLOURS = "RdBu_r"


def view(img: nib.Nifti1Image, title: str, **options: Any) -> Any:
    """Show a map in nilearn's viewer for notebooks: no brain behind it, and no interpolation between neurons.

    Parameters
    ----------
    img : Nifti1Image
        3D, of z or t.
    title : str
        What stands above it.
    **options
        As for `nilearn.plotting.view_img`.

    Returns
    -------
    StatMapView
        What `nilearn.plotting.view_img` gives.
    """
    from nilearn.plotting import view_img

    values = np.asarray(img.dataobj)
    strongest = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    chosen: dict[str, Any] = {
        "bg_img": False,
        "resampling_interpolation": "nearest",
        "black_bg": False,
        "cut_coords": tuple(int(one) for one in strongest),  # the affine is the identity
        "cmap": COLOURS,
        "title": title,
        "show_lr": False,
        "draw_cross": False,  # it would hide the neuron that it is at
    }
    if not values.any():  # an empty network: any scale will do, but none of 0 width
        chosen |= {"vmax": 1.0, "threshold": None}
    return view_img(img, **{**chosen, **options})


def mosaic(space: "NeuronSpace", values: np.ndarray) -> tuple[np.ndarray, list[float], list[float]]:
    """Lay maps out as one picture: a row a map, in it every layer as it lies in the image, ``y`` upwards.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    values : ndarray of shape (n_maps, n_neurons)
        In (layer, neuron) order.

    Returns
    -------
    picture : ndarray of shape (height, width)
        NaN where no neuron is. If it would be too wide for a screen, each pixel is the strongest of several neurons, so
        that none disappears.
    rows, columns : list of float
        Where the middle of each map and of each layer is.
    """
    nx, ny, nz = space.shape
    volumes = np.full((len(values), space.inside.size), np.nan, dtype=np.float32)
    volumes[:, space.inside] = values
    tiles = volumes.reshape(len(values), nz, ny, nx)[:, :, ::-1]  # (n_maps, layer, y downwards, x)
    tiles = pooled(tiles, math.ceil(nz * (nx + GAP) / MOST_PIXELS))
    height, width = tiles.shape[2] + GAP, tiles.shape[3] + GAP
    padded = np.pad(tiles, ((0, 0), (0, 0), (0, GAP), (0, GAP)), constant_values=np.nan)
    picture = padded.transpose(0, 2, 1, 3).reshape(len(values) * height, nz * width)
    rows = [place * height + (height - GAP - 1) / 2 for place in range(len(values))]
    columns = [place * width + (width - GAP - 1) / 2 for place in range(nz)]
    return picture[:-GAP, :-GAP], rows, columns


def pooled(tiles: np.ndarray, factor: int) -> np.ndarray:
    """Take the strongest value, with its sign, of every ``factor × factor`` neighbours on the last two axes."""
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
    """Draw maps as a mosaic, all on one scale of colours; see `mosaic`, and `NetworkSet.plot` for the parameters."""
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
    axes.set_xticks(columns[::step], [str(place) for place in range(len(columns))][::step])
    # Names are text: a dollar sign in them is no formula.
    axes.set_yticks(rows, list(names), parse_math=False)
    axes.set_xlabel("layer")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title, loc="left", parse_math=False)
    drawn_in.colorbar(image, ax=axes, label=label, shrink=0.8, pad=0.01)
    return _given(drawn_in, output_file)


def plot_carpet(
    space: "NeuronSpace",
    img: str,
    title: str,
    axes: "Axes | None" = None,
    figure: "Figure | None" = None,
    output_file: str | Path | None = None,
    **options: Any,
) -> "Figure | None":
    """Draw a run as nilearn's carpet, neurons grouped by layer; see `Recording.plot_carpet` for the parameters."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap
    from nilearn import plotting

    # nilearn draws the layers into whatever figure was used last.
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
    # That labels become numbers is nilearn's own business, but it says so.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.filterwarnings("ignore", "Casting data")
        drawn = plotting.plot_carpet(img, axes=axes, figure=figure, **{**chosen, **options})
    for one in drawn.axes:
        if one.get_xlabel().startswith("time"):  # a second is a volume here
            one.set_xlabel("volume")
            one.set_xticks(one.get_xticks(), [f"{float(text.get_text()):.0f}" for text in one.get_xticklabels()])
    return _given(drawn, output_file)


def _given(figure: Any, output_file: str | Path | None) -> Any:
    """Save and close a figure if a file is given, as nilearn does, else return it."""
    if output_file is None:
        return figure
    import matplotlib.pyplot as plt

    figure.savefig(output_file)
    plt.close(figure)
    return None
