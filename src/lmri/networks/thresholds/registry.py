"""The thresholds by their names. A new threshold needs its own file and one line in `THRESHOLDS`."""

import textwrap
from collections.abc import Iterable

from lmri.networks.thresholds.descriptive import AUTO, FDR_GAUSSIAN, ROBUST_Z, SUPPORT, TOP, Z_POSITIVE, Z
from lmri.networks.thresholds.method import ThresholdMethod
from lmri.networks.thresholds.mixture import MIXTURE
from lmri.networks.thresholds.null import FDR, FDR_SET

THRESHOLDS: dict[str, ThresholdMethod] = {
    one.name: one
    for one in (
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
"""All thresholds: help texts, docstrings, error messages and the report are generated from them."""


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
    """Describe how a threshold is chosen on the command line."""
    calibrated = [one.name for one in THRESHOLDS.values() if one.calibrated]
    return (
        f"Threshold, METHOD or METHOD:VALUE: {alternatives(one.usage for one in THRESHOLDS.values())}. "
        f"Only {alternatives(calibrated, 'and')} are calibrated."
    )


def names_in_docstring() -> str:
    """List all names as a docstring of numpydoc does."""
    return "{" + ", ".join(f'"{name}"' for name in THRESHOLDS) + "}"


def parameters_in_docstring() -> str:
    """List the parameters of all thresholds with their defaults: ``alpha=0.05`` of `fdr` and so on."""
    users: dict[str, list[str]] = {}
    for one in THRESHOLDS.values():
        for name, default in one.defaults.items():
            users.setdefault(f"``{name}={default}``", []).append(f"`{one.name}`")
    text = ", ".join(f"{value} of {alternatives(names, 'and')}" for value, names in users.items())
    return textwrap.fill(text, 108).replace("\n", f"\n{' ' * 12}")
