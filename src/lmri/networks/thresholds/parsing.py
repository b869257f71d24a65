"""Parsing of thresholds: ``METHOD`` or ``METHOD:VALUE``."""

import numpy as np

from lmri.networks.thresholds.null import SurrogateNull
from lmri.networks.thresholds.registry import THRESHOLDS

Threshold = tuple[str | None, dict[str, float]]
"""Method (None for the default of the maps) and its parameters."""


def parse_threshold(text: str | None) -> Threshold:
    """Parse ``METHOD`` or ``METHOD:VALUE``.

    Parameters
    ----------
    text : str or None
        Threshold as text; None for the default of the maps.

    Returns
    -------
    tuple of (str or None, dict)
        Method and parameters of `NetworkSet.threshold`.

    Raises
    ------
    ValueError
        If the threshold is unknown, takes no value, or the value is out of range.

    Examples
    --------
    >>> parse_threshold("z:2.5")
    ('z', {'z': 2.5})
    """
    if text is None:
        return None, {}
    method, _, value = text.partition(":")
    if method not in THRESHOLDS:
        raise ValueError(f"There is no threshold {method!r}; choose from {', '.join(THRESHOLDS)}.")
    if not value:
        return method, {}
    threshold = THRESHOLDS[method]
    if threshold.parameter is None:
        raise ValueError(f"The threshold {method!r} takes no value, but {value!r} was given. Leave it out.")
    try:
        values = {threshold.parameter: float(value)}
    except ValueError:
        raise ValueError(f"The threshold {text!r} has the value {value!r}, which is not a number.") from None
    # An invalid value raises here, rather than after the fit.
    null = [SurrogateNull.from_maps([np.zeros((1, 2))])] if threshold.needs_null else []
    threshold(np.zeros((1, 2)), *null, **values)
    return method, values
