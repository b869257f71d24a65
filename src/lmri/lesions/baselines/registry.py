"""The registry of baselines: a new kind is one file of this package and one line here."""

from lmri.lesions.baselines import mean, resample, zero
from lmri.lesions.baselines.kinds import BaselineKind

BASELINES: dict[str, BaselineKind] = {
    kind.name: kind
    for kind in (
        zero.KIND,
        mean.KIND,
        resample.KIND,
    )
}
"""Kinds of baselines by name."""


def baselines_help() -> str:
    """List the forms of baselines, each with its description, for ``--help``."""
    return "\n\n".join(f"{kind.form}: {kind.help}" if kind.help else kind.form for kind in BASELINES.values())


def baseline_forms() -> list[str]:
    """List the forms of baselines for ``--help``."""
    return [kind.form for kind in BASELINES.values()]


def accepted_baselines() -> str:
    """List the accepted forms of baselines for error messages."""
    *first, last = [form for kind in BASELINES.values() for form in kind.accepted]
    return f"choose from {', '.join(first)} and {last}"
