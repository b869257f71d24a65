"""Settings of a decomposition, checked before anything is fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmri.decomposition.methods import METHODS, DecompositionMethod, find_method
from lmri.decomposition.parity import THRESHOLD as PAPER_THRESHOLD
from lmri.decomposition.parity import Z_LESIONS
from lmri.networks.thresholds import THRESHOLDS, parse_threshold
from lmri.networks.thresholds.registry import alternatives

N_COMPONENTS, PAPERS_N_COMPONENTS = 20, 10
"""Default numbers of maps."""

N_SURROGATES = 20
"""Default number of surrogates of a threshold that needs them, and the smallest number that it accepts."""


@dataclass(frozen=True)
class Repeats:
    """Repetitions of a decomposition.

    Parameters
    ----------
    n_surrogates : int, optional
        Number of surrogates for the null of the threshold; by default 20 if the threshold needs them, else 0.
    n_bootstraps : int, default=0
        Number of bootstraps of the texts, for the stability of each map.
    n_splits : int, default=0
        Number of random halves of the texts, for split-half reproducibility.
    """

    n_surrogates: int | None = None
    n_bootstraps: int = 0
    n_splits: int = 0

    @property
    def of_texts(self) -> bool:
        """Whether the decomposition is repeated on samples of the texts."""
        return bool(self.n_bootstraps or self.n_splits)


@dataclass(frozen=True)
class DecompositionSettings:
    """Method, parameters and threshold of a decomposition.

    Parameters
    ----------
    method : str, default="ica"
        Name of the method; see `lmri.decomposition.methods`.
    n_components : int or "auto", optional
        Number of maps; by default 20, with `paper` 10.
    standardize : {"zscore", "center", "none"}, default="zscore"
        Standardization of each neuron's time series.
    scope : {"run", "study"}, default="run"
        Scope of the mean and standard deviation.
    confounds : sequence of str
        Names of stored confounds to regress out.
    options : mapping, optional
        Parameters of single methods, ``alpha``, ``solver``, ``n_init`` and ``device``; None is the method's default, as
        is the device ``"cpu"``.
    threshold : str, optional
        Threshold as text, such as ``"fdr:0.05"``; by default the method's own.
    repeats : Repeats, optional
        Repetitions for the null of the threshold and for stability.
    paper : bool, default=False
        Whether the paper's choices are used.
    n_jobs : int, default=1
        Number of processes or threads.
    seed : int, default=0
        Random seed.

    Raises
    ------
    ValueError
        If the method does not have an option, or choices exclude each other.
    """

    method: str = "ica"
    n_components: int | str | None = None
    standardize: str = "zscore"
    scope: str = "run"
    confounds: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    threshold: str | None = None
    repeats: Repeats = Repeats()
    paper: bool = False
    n_jobs: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        method = self.registered
        can_be_auto = method.auto and not self.paper
        if isinstance(self.n_components, str) and not (self.n_components == "auto" and can_be_auto):
            takers = alternatives((candidate.name for candidate in METHODS.values() if candidate.auto), "and")
            accepted = "an integer or auto" if can_be_auto else f"an integer (auto only with {takers})"
            raise ValueError(f"--n-components is {self.n_components!r}; accepted is {accepted}.")
        for name in self.own_options:
            if name not in method.options:
                raise ValueError(
                    f"--{name.replace('_', '-')} is not an option of {method.name}. Leave it out, or choose another "
                    "--method."
                )
        if self.paper:
            self._check_paper()
        else:
            self._check_surrogates()

    def _check_paper(self) -> None:
        """Raise an error for options that exclude the paper's choices."""
        repeated = self.repeats.n_surrogates or self.repeats.of_texts
        is_default = (self.method, self.standardize, self.scope) == ("ica", "zscore", "run")
        if not is_default or repeated or self.confounds:
            raise ValueError(
                "--paper sets method, standardization, confounds (none) and repeats. Leave out these options, or "
                "--paper."
            )
        if parse_threshold(self.threshold)[0] not in (None, PAPER_THRESHOLD):
            raise ValueError(
                f"--threshold is {self.threshold!r}; accepted with --paper: z_positive:3.6 and z_positive:1.96."
            )

    def _check_surrogates(self) -> None:
        """Raise an error if the threshold needs more surrogates."""
        n, threshold = self.n_surrogates, THRESHOLDS[self.chosen_threshold[0]]
        if n < 0:
            raise ValueError(f"--n-surrogates is {n}; it must be at least 0.")
        if threshold.needs_null and n < N_SURROGATES:
            raise ValueError(
                f"--n-surrogates is {n}, but {threshold.name} needs at least {N_SURROGATES}. Choose a threshold that "
                "needs no surrogates, such as --threshold z:3."
            )

    @property
    def registered(self) -> DecompositionMethod:
        """The method."""
        return find_method(self.method)

    @property
    def chosen_threshold(self) -> tuple[str, dict[str, float]]:
        """Name of the threshold, by default the method's own, and its parameters."""
        name, values = parse_threshold(self.threshold)
        return name or self.registered.threshold, values

    @property
    def paper_z(self) -> float:
        """One-sided z with the paper's choices."""
        return self.chosen_threshold[1].get("z", Z_LESIONS)

    @property
    def number_of_maps(self) -> int | str:
        """Number of maps, or ``"auto"``."""
        if self.n_components is not None:
            return self.n_components
        return PAPERS_N_COMPONENTS if self.paper else N_COMPONENTS

    @property
    def n_surrogates(self) -> int:
        """Number of surrogates."""
        if self.repeats.n_surrogates is not None:
            return self.repeats.n_surrogates
        return N_SURROGATES if THRESHOLDS[self.chosen_threshold[0]].needs_null else 0

    @property
    def own_options(self) -> dict[str, Any]:
        """Parameters of single methods that differ from the defaults."""
        defaults = (None, "cpu")
        return {name: value for name, value in self.options.items() if value not in defaults}

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the estimator."""
        jobs = {"n_jobs": self.n_jobs} if "n_jobs" in self.registered.options else {}
        return {
            "n_components": self.number_of_maps,
            "standardize": self.standardize,
            "scope": self.scope,
            "random_state": self.seed,
            **self.own_options,
            **jobs,
        }
