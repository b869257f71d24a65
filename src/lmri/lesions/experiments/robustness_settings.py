"""Settings of a robustness analysis: validated, with their defaults."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

from lmri.lesions.experiments.choices import KINDS, Choice, Threshold
from lmri.lesions.experiments.specifications import OTHER_METHODS, OTHER_THRESHOLDS, SEEDS, Specifications
from lmri.lesions.scores import ALPHA


class RobustnessKeywords(TypedDict, total=False):
    """Keywords of `lmri.experiments.robustness`; see there."""

    vary: Iterable[str]
    baselines: Sequence[str] | None
    thresholds: Sequence[Threshold]
    seeds: Sequence[int]
    methods: Sequence[str]
    controls: str
    n_controls: int
    alpha: float
    seed: int


@dataclass(frozen=True)
class RobustnessSettings:
    """Settings of `lmri.experiments.robustness`, under the same names; see there."""

    vary: Iterable[str] = KINDS
    baselines: Sequence[str] | None = None
    thresholds: Sequence[Threshold] = OTHER_THRESHOLDS
    seeds: Sequence[int] = SEEDS
    methods: Sequence[str] = OTHER_METHODS
    controls: str = "layer"
    n_controls: int = 39
    alpha: float = ALPHA
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha is {self.alpha}; it must be between 0 and 1, such as 0.05.")
        if (needed := _controls_needed(self.alpha)) > self.n_controls:
            raise ValueError(
                f"n_controls is {self.n_controls}, too few for any p to reach {self.alpha:g}. Give at least {needed} "
                "(--n-controls)."
            )

    def choices(self, base: Specifications) -> list[Choice]:
        """List the base and all variants that differ from it in one choice."""
        return base.choices(self.vary, self.baselines, self.thresholds, self.seeds, self.methods)


def _controls_needed(alpha: float) -> int:
    n = int(1 / alpha) - 1
    return n if 1 / (n + 1) <= alpha else n + 1
