"""Interpretation of the values of a region-of-interest image: a mask, a label image or a weight map.

The rule and its limits are in `docs/decisions/31-roi-values.md`.
"""

from dataclasses import dataclass

import numpy as np

from lmri.space import NeuronSpace

MASK, LABELS, WEIGHTS = "mask", "label image", "weight map"

NOISE = 1e-6
"""Largest rounding error relative to the largest value: several units in the last place of float32."""

FAINT = 1e-3
"""Smallest weight of a region relative to the largest; smoothed and unthresholded maps have smaller ones."""

FAINT_ONE_SIDED = 0.05
"""As `FAINT`, for weights of one sign, which also a mask has after it was resampled or smoothed with a small kernel."""

SCALES = (1, 100, 255)
"""Largest values of masks, probabilities and percentages, also after they were resampled or smoothed."""

MANY_LABELS = 20
"""Largest number of labels in an image whose header does not declare labels: more are counts or intensities."""

_NEXT = "nilearn.image.math_img('{}', img=FILE).to_filename('mask.nii.gz')"


@dataclass(frozen=True)
class RoiValues:
    """Regions in the values of an image.

    Parameters
    ----------
    kind : {"mask", "label image", "weight map"}
        Interpretation of the values.
    regions : dict of int to ndarray of bool, shape (n_neurons,)
        Members of each region by its label; the label of a mask and of a weight map is 1.
    weights : ndarray of float32, shape (n_neurons,)
        Weight of each neuron: 1 in regions of a mask or label image; 0 outside.
    resolution : float
        Largest absolute value that counts as 0.
    """

    kind: str
    regions: dict[int, np.ndarray]
    weights: np.ndarray
    resolution: float


def interpret(
    values: np.ndarray, space: NeuronSpace, what: str, step: float = 0.0, is_label: bool = False
) -> RoiValues:
    """Interpret the values of an image as a mask, a label image or a weight map.

    - A *mask* has one value besides 0.
    - A *label image* has several positive whole numbers besides 0; each is a region of its own.
    - A *weight map* has other values besides 0, none of them close to 0, and is not a resampled or smoothed mask.

    Values that are 0 up to rounding are 0. All other images are refused, because their regions would be a guess.

    Parameters
    ----------
    values : ndarray of shape (n_neurons,)
        Finite values, in (layer, neuron) order.
    space : NeuronSpace
        Neurons that the image covers.
    what : str
        Name of the image, for messages.
    step : float, default=0.0
        Difference between neighbouring values that the image can store, if it stores scaled integers.
    is_label : bool, default=False
        Whether the header declares labels, so that all positive whole numbers are accepted.

    Raises
    ------
    ValueError
        If no neuron or every neuron is selected, or if the values have several interpretations.

    Examples
    --------
    >>> interpret(np.array([0, 2, 1, 0]), NeuronSpace.build([4]), "The image").kind
    'label image'
    """
    values = np.asarray(values, dtype=np.float64)
    largest = float(np.abs(values).max(initial=0))
    noise = min(NOISE * largest, 0.01)  # so that label 1 remains next to label 10,000,000
    resolution = max(step / 2, noise)
    inside = np.abs(values) > resolution
    selected, rounded = values[inside], np.rint(values)
    if largest < NOISE or not len(selected):
        scale = f"at most {largest:.3g} in absolute value, which is rounding noise" if largest else "0 everywhere"
        raise ValueError(f"{what} is {scale}: it selects no neuron. Draw at least one, with the value 1.")
    is_whole = step < 0.5 and bool((np.abs(values - rounded) <= resolution).all())
    several_labels = is_label and is_whole and selected.min() > 0 and np.ptp(selected) > 0.5
    if inside.all() and not several_labels:
        raise ValueError(f"{what} has no background, which is 0: its values are {_listed(values)}. {_advice(values)}")
    ones = inside.astype(np.float32)
    if np.ptp(selected) <= 2 * noise:
        return RoiValues(MASK, {1: inside}, ones, resolution)
    if step >= 0.5:
        raise ValueError(
            f"{what} stores integers in steps of {step:.3g}, so labels and other values cannot be distinguished. Save "
            "it with a slope of 1, or as float32."
        )
    if is_whole:
        if not several_labels:
            _check_labels(np.where(inside, rounded, 0), space, what)
        regions = {int(label): rounded == label for label in np.unique(rounded[inside])}
        return RoiValues(LABELS, regions, ones, resolution)
    _check_weights(np.where(inside, values, 0), space, what)
    return RoiValues(WEIGHTS, {1: inside}, np.where(inside, values, 0).astype(np.float32), resolution)


def _check_labels(values: np.ndarray, space: NeuronSpace, what: str) -> None:
    """Raise an error if whole numbers without a declaration in the header may be no labels."""
    selected = values[values != 0]
    distinct = np.unique(selected)
    if distinct[0] < 0:
        raise ValueError(
            f"{what} has negative whole numbers: {_listed(values)}. They are neither a mask nor labels. Keep one sign, "
            f"{_NEXT.format('img > 0')}, or both, {_NEXT.format('abs(img) > 0')}."
        )
    if len(distinct) > MANY_LABELS:
        reason = f"{len(distinct)} different whole numbers from {distinct[0]:g} to {distinct[-1]:g}"
    elif len(distinct) > max(3, len(selected) / 2):
        reason = f"{len(distinct)} different whole numbers for {len(selected)} neurons"
    elif _peaks_are_inside(values, space):
        reason = f"whole numbers that rise from 0 to {distinct[-1]:g}: no neuron with the largest is next to one with 0"
    else:
        return
    raise ValueError(
        f"{what} has {reason}. They may be labels, counts or intensities. Labels can be declared in the header: "
        f'space.to_img(labels, intent="label"), or intent code 1002. Threshold other values: '
        f"{_NEXT.format(f'img > {distinct[-1] / 2:g}')}."
    )


def _check_weights(values: np.ndarray, space: NeuronSpace, what: str) -> None:
    """Raise an error if the extent of a weight map depends on a threshold that was not applied."""
    selected, largest = np.abs(values[values != 0]), float(np.abs(values).max())
    is_one_sided = bool((values >= 0).all() or (values <= 0).all())
    faint = (FAINT_ONE_SIDED if is_one_sided else FAINT) * largest
    if n_faint := int((selected < faint).sum()):
        reason = (
            f"{n_faint} of its {len(selected)} nonzero values are below {faint:.3g}, and the largest is {largest:.3g}"
        )
    elif is_one_sided and np.isclose(largest, SCALES, rtol=NOISE).any():
        reason = f"its values are between 0 and {largest:.3g}, such as {selected.min():.3g}"
    elif is_one_sided and _is_smooth(np.abs(values), space):
        reason = f"its values rise from 0 to {largest:.3g} over neighbouring voxels"
    else:
        return
    raise ValueError(
        f"{what} is not thresholded: {reason}. It may be a smoothed or resampled mask, a map of probabilities, or "
        "weights, so the extent of the region is unknown. Threshold it: "
        f"{_NEXT.format(f'abs(img) > {largest / 2:.3g}')}."
    )


def _is_smooth(values: np.ndarray, space: NeuronSpace) -> bool:
    """Return whether nearly all members have a neighbouring one, or the largest are inside, as after smoothing."""
    is_member = _volume(values, space) > 0
    # Members at random positions would have to be a third of all neurons. At an edge, one of a pair may be cut off.
    is_connected = (is_member & _next_to(is_member)).sum() >= 0.9 * is_member.sum()
    return bool(is_connected) or _peaks_are_inside(values, space)


def _peaks_are_inside(values: np.ndarray, space: NeuronSpace) -> bool:
    """Return whether no neuron with the largest value is next to one with 0."""
    volume = _volume(values, space)
    return not ((volume == values.max()) & _next_to(volume == 0)).any()


def _volume(values: np.ndarray, space: NeuronSpace) -> np.ndarray:
    """Arrange values of neurons on the grid, NaN at voxels without a neuron."""
    volume = np.full(space.inside.size, np.nan)
    volume[space.inside] = values
    return volume.reshape(space.shape, order="F")


def _next_to(volume: np.ndarray) -> np.ndarray:
    """Return which voxels share a face with a voxel of a boolean volume."""
    padded = np.pad(volume, 1)  # so that opposite faces of the grid are not neighbours
    moved = [np.roll(padded, shift, axis) for axis in range(3) for shift in (-1, 1)]
    return np.any(moved, axis=0)[1:-1, 1:-1, 1:-1]


def _listed(values: np.ndarray) -> str:
    """List values with their numbers of neurons."""
    distinct, counts = np.unique(values, return_counts=True)
    shown = [f"{value:.4g} ({count} neurons)" for value, count in zip(distinct[:4], counts[:4], strict=True)]
    return ", ".join(shown) + (f" and {len(distinct) - 4} more" if len(distinct) > 4 else "")


def _advice(values: np.ndarray) -> str:
    """Name the next step for an image without background."""
    distinct = np.unique(values)
    if len(distinct) == 1:
        return "A region of all neurons has no matched controls. Set the neurons outside the region to 0."
    if len(distinct) == 2:
        return f"Set the neurons outside the region to 0: {_NEXT.format(f'img == {distinct[1]:g}')}."
    largest = np.abs(values).max()
    return (
        f"Set the neurons outside the region to 0, such as {_NEXT.format(f'abs(img) > {largest / 2:.3g}')}. Labels of "
        'all neurons can be declared in the header: space.to_img(labels, intent="label"), or intent code 1002.'
    )
