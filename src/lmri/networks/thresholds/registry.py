"""Registry of thresholds by name. A new threshold needs its own file and one line in `THRESHOLDS`."""

import textwrap
from collections.abc import Iterable

from lmri.networks.thresholds.descriptive import AUTO, FDR_GAUSSIAN, ROBUST_Z, SUPPORT, TOP, Z_POSITIVE, Z
from lmri.networks.thresholds.method import ThresholdMethod
from lmri.networks.thresholds.mixture import MIXTURE
from lmri.networks.thresholds.null import FDR, FDR_SET

THRESHOLDS: dict[str, ThresholdMethod] = {
    threshold.name: threshold
    for threshold in (
        FDR,
        FDR_SET,
        Z,
        Z_POSITIVE,
        ROBUST_Z,
        MIXTURE,
        TOP,
        SUPPORT,
        AUTO,
        FDR_GAUSSIAN,
    )
}
"""All thresholds; help texts, docstrings, error messages and the report are generated from this table."""


def value_name(method: str) -> str | None:
    """Return the name of a threshold's one parameter, such as ``"alpha"``; None if it has none."""
    return THRESHOLDS[method].parameter


def needs_null(method: str) -> bool:
    """Return whether a threshold needs a `SurrogateNull`."""
    return THRESHOLDS[method].needs_null


def alternatives(names: Iterable[str], last: str = "or") -> str:
    """Join names into a phrase.

    Examples
    --------
    >>> alternatives(["z", "top", "auto"]), alternatives(["z", "top"], "and"), alternatives(["z"])
    ('z, top or auto', 'z and top', 'z')
    """
    *first, end = names
    return f"{', '.join(first)} {last} {end}" if first else end


def usage() -> str:
    """Return the help text of the option that selects a threshold."""
    calibrated = [threshold.name for threshold in THRESHOLDS.values() if threshold.calibrated]
    return (
        f"Threshold, METHOD or METHOD:VALUE: {alternatives(threshold.usage for threshold in THRESHOLDS.values())}. "
        f"Only {alternatives(calibrated, 'and')} are calibrated."
    )


def names_in_docstring() -> str:
    """Format all names as a numpydoc set of choices."""
    return "{" + ", ".join(f'"{name}"' for name in THRESHOLDS) + "}"


def parameters_in_docstring() -> str:
    """Format the parameters of all thresholds with their defaults: ``alpha=0.05`` of `fdr` and so on."""
    users: dict[str, list[str]] = {}
    for threshold in THRESHOLDS.values():
        for name, default in threshold.defaults.items():
            users.setdefault(f"``{name}={default}``", []).append(f"`{threshold.name}`")
    text = ", ".join(f"{value} of {alternatives(names, 'and')}" for value, names in users.items())
    return textwrap.fill(text, 108).replace("\n", f"\n{' ' * 12}")
