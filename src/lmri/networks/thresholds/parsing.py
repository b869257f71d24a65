"""Thresholds as they are written on the command line: ``METHOD`` or ``METHOD:VALUE``."""

import numpy as np

from lmri.networks.thresholds import THRESHOLDS, SurrogateNull, needs_null, value_name

Threshold = tuple[str | None, dict[str, float]]


def parse_threshold(text: str | None) -> Threshold:
    """Read ``METHOD`` or ``METHOD:VALUE``.

    Examples
    --------
    >>> parse_threshold("z:2.5")
    ('z', {'z': 2.5})
    """
    if text is None:
        return None, {}
    method, _, value = text.partition(":")
    if method not in THRESHOLDS:
        raise ValueError(f"The threshold is {method!r}; accepted are {', '.join(THRESHOLDS)}.")
    if not value:
        return method, {}
    name = value_name(method)
    if name is None:
        raise ValueError(f"The threshold {method!r} takes no value, but {value!r} was given. Leave it out.")
    try:
        values = {name: float(value)}
    except ValueError:
        raise ValueError(f"The threshold {text!r} has the value {value!r}, which is not a number.") from None
    # Fails now on a bad value, rather than after the fit.
    null = {"null": SurrogateNull.from_maps([np.zeros((1, 2))])} if needs_null(method) else {}
    THRESHOLDS[method](np.zeros((1, 2)), **null, **values)
    return method, values
