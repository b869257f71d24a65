"""The registry of control families: a new family is one file ``NAME.py`` of this package and one line here.

The file contains the class of the controls and its description ``FAMILY``; ``layer`` is the simplest example. All other
modules are helpers: ``family`` (description of a family), ``base`` (interface of the controls, and functions for random
draws), ``energy_measurement`` and ``energy_balance``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmri.lesions.controls import energy, index, layer, shared
from lmri.lesions.controls.family import ControlFamily

CONTROLS: dict[str, ControlFamily] = {
    family.name: family
    for family in (
        layer.FAMILY,
        energy.FAMILY,
        index.FAMILY,
        shared.FAMILY,
    )
}
"""Families of controls by their name on the command line."""


@dataclass(frozen=True)
class ControlOptions:
    """Choice of the matched controls of an evaluation.

    Parameters
    ----------
    families : str or sequence of str, optional
        Names in `CONTROLS`, each once; ``"layer"`` by default.
    n : int, default=20
        Number of draws per network; 0 for no controls.
    stop_after : int, default=0
        Number of controls that do at least as much harm as the network after which drawing stops; 0 to draw all.

    Raises
    ------
    ValueError
        If a family is unknown or repeated, or a number is negative.
    """

    families: str | Sequence[str] | None = None
    n: int = 20
    stop_after: int = 0

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"--n-controls is {self.n}; it must be at least 0.")
        for family in self.names:
            if family not in CONTROLS or self.names.count(family) > 1:
                raise ValueError(f"--controls is {family!r}; choose from {', '.join(CONTROLS)}, each at most once.")
        if self.stop_after < 0:
            raise ValueError(
                f"--stop-after is {self.stop_after}; it must be 0 (draw all controls) or a positive integer, as 10."
            )

    @property
    def names(self) -> list[str]:
        """Names of the families, as a list."""
        return [self.families] if isinstance(self.families, str) else list(self.families or ["layer"])


def controls_help() -> str:
    """List the families of controls, each with its description, for ``--help``."""
    return "\n\n".join(f"{family.name}: {family.help}" if family.help else family.name for family in CONTROLS.values())


def family_words(family: str) -> str:
    """Describe a family for the report, after "Controls have", from its name in tables.

    Examples
    --------
    >>> family_words("layer+size"), family_words("my own")
    ('the same number of neurons in every layer as the network', 'my own')
    """
    known = [entry.words for entry in CONTROLS.values() if entry.family == family]
    return known[0] if known else family
