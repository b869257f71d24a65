"""Localizer: contrast map and test from images and events.

The module is longer than most because it is one estimator whose docstrings describe every parameter; `localize` applies
it to recordings.
"""

import re
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lmri import storage
from lmri.decomposition.confounds import select
from lmri.decomposition.localizer.conditions import Labelled, decide_level, labelled, warn_of_spread, without_repeats
from lmri.decomposition.localizer.contrast import Contrast
from lmri.decomposition.localizer.first_level import first_level, text_means
from lmri.decomposition.localizer.second_level import ALPHA, TESTS, SecondLevel, between_texts, within_units
from lmri.decomposition.map_metrics import explained_variance, shape_metrics, top_token_share
from lmri.decomposition.nuisance import Nuisance
from lmri.decomposition.standardization import StandardizedRuns
from lmri.exceptions import DataWarning
from lmri.networks import NetworkSet
from lmri.networks.origin import Origin
from lmri.networks.thresholds import z_scores
from lmri.space import Img, NeuronSpace
from lmri.storage.recording import Recording

UNITS = ("run", "text")
STANDARDIZE = ("none", "zscore")

_ROUNDING = 1e-6  # sd relative to the mean that is within the rounding error of float32


class Localizer:
    """Functional localizer: contrast of conditions, tested at every neuron over texts or runs [1]_.

    *Between texts*, each text is in one condition: every text yields one mean map, and texts are the units. *Within
    texts*, conditions alternate inside texts: every run yields one effect map, by least squares with an intercept for
    each text, and runs are the units. Tests are never over tokens, which are autocorrelated.

    Maps are computed from raw activations, or from activations scaled over all runs. Standardization within runs is not
    available, because it would remove differences between texts.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space.
    contrast : str or Contrast
        Contrast, such as ``"code - prose"``, or ``"code - 0.5*news - 0.5*wiki"``.
    column : str, default="trial_type"
        Column of the events with the conditions; in recordings ``trial_type`` is the corpus. If the events lack them,
        ``is_punctuation``, ``has_digit`` and ``is_capitalized`` (1 or 0) are computed from the tokens.
    level : {"auto", "between", "within"}, default="auto"
        Level of the contrast. ``"auto"`` is within if most texts contain several of the conditions, or if the column is
        computed from tokens.
    unit : {"run", "text"}, default="run"
        Unit of an effect map in contrasts within texts.
    test : {"max_t", "parametric"}, default="max_t"
        Permutation of texts' labels (or signs of effect maps), with p corrected by the largest t over neurons; or
        nilearn's `SecondLevelModel`.
    n_permutations : int, default=1000
        Number of permutations. If there are at most as many distinct ones, all are used and p is exact.
    standardize : {"none", "zscore"}, default="none"
        Units of the effects: activation, or standard deviations over all volumes. t is the same.
    match_positions : bool, default=False
        Whether contrasts between texts use only positions that the median text of every condition reaches.
    random_state : int, default=0
        Random seed of the permutations.

    Attributes
    ----------
    contrast_ : Contrast
        Parsed contrast.
    level_ : {"between", "within"}
        Level of the contrast.
    test_ : SecondLevel
        Effect, t and p of every neuron.
    components_ : ndarray of float32, shape (1, n_neurons)
        t map, positive where activity is higher in the conditions with positive weights.
    components_img_ : Nifti1Image
        The t map as a 4D image.
    units_ : dict
        Names of the texts in each condition, or of the runs (texts) with an effect map.
    metrics_, info_, time_courses_, fit_texts_
        Attributes as in decompositions, so that studies can store a localizer as a decomposition.

    References
    ----------
    .. [1] Saxe, Brett & Kanwisher (2006). Divide and conquer: a defense of functional localizers. NeuroImage, 30.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> space = NeuronSpace.build([20, 20])
    >>> data = rng.normal(size=(120, 40))
    >>> data[:60, 3] += 3  # neuron 3 of layer 0, in the first six texts
    >>> onsets = np.arange(120.0)
    >>> events = pd.DataFrame({"onset": onsets, "duration": 1.0, "text_id": [f"t{n // 10}" for n in range(120)],
    ...                        "kind": ["code"] * 60 + ["prose"] * 60})
    >>> found = Localizer(space, "code - prose", "kind").fit([space.to_img(data)], [events])
    >>> np.flatnonzero(found.threshold()[0].members).tolist()
    [3]
    """

    method_name = "localizer"
    scope = "study"
    _nuisance: Nuisance | None = None

    def __init__(
        self,
        space: NeuronSpace,
        contrast: str | Contrast,
        column: str = "trial_type",
        level: str = "auto",
        unit: str = "run",
        test: str = "max_t",
        n_permutations: int = 1000,
        standardize: str = "none",
        match_positions: bool = False,
        random_state: int = 0,
    ) -> None:
        self.space, self.contrast, self.column, self.level, self.unit = space, contrast, column, level, unit
        self.test, self.n_permutations, self.standardize = test, n_permutations, standardize
        self.match_positions, self.random_state = match_positions, random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters that determine the result; after the fit, with a hash of the conditions."""
        names = ("column", "level", "unit", "test", "n_permutations", "standardize", "match_positions", "random_state")
        parameters = {
            "space": self.space,
            "contrast": str(self._contrast),
            **{name: getattr(self, name) for name in names},
        }
        conditions = getattr(self, "conditions_sha256_", None)
        parameters |= {"confounds": self.confound_names} if self.confound_names else {}
        return {**parameters, "scope": self.scope} | ({"conditions_sha256": conditions} if conditions else {})

    @property
    def confounds_digest(self) -> str | None:
        """Hash of the nuisance regressors, or None."""
        return None if self._nuisance is None else self._nuisance.digest

    @property
    def confound_names(self) -> list[str]:
        """Names of the confounds."""
        return [] if self._nuisance is None else list(self._nuisance.names)

    def fit(
        self,
        imgs: Sequence[Img],
        events: Sequence[pd.DataFrame],
        text_hashes: Mapping[str, str] | None = None,
        confounds: Sequence[pd.DataFrame] | None = None,
    ) -> "Localizer":
        """Estimate and test the contrast.

        Parameters
        ----------
        imgs : sequence of path or Nifti1Image
            4D images, one per run, in activation units, not standardized.
        events : sequence of DataFrame
            Events, one table per run, with ``onset, duration`` in tokens, ``text_id`` and the column of the conditions.
        text_hashes : mapping from str to str, optional
            Hashes (`lmri.storage.text_hash`) of texts by ``text_id``, which identify copies of texts.
        confounds : sequence of DataFrame, optional
            Nuisance regressors for contrasts within texts, one table per run, one row per volume, as from
            `lmri.confounds.select`.

        Returns
        -------
        Localizer
            The fitted localizer itself.

        Raises
        ------
        ValueError
            If a condition is absent, texts are in several conditions, or there are too few texts; if confounds are
            passed for a contrast between texts.
        NonFiniteError
            If values are NaN or infinite.

        Warns
        -----
        DataWarning
            If texts are copies of each other, their lengths differ between conditions, or runs could not be used.
        """
        started, contrast = time.perf_counter(), self._check()
        imgs = list(imgs)
        runs = StandardizedRuns(self.space, imgs, self.standardize, self.scope)
        rows = labelled(events, self.column, runs.n_volumes, contrast)
        level = decide_level(rows, contrast, self.column) if self.level == "auto" else self.level
        self._nuisance = self._checked(confounds, runs, level)
        moments = runs.moments  # reads all runs, and raises an error for values that are not finite
        dead = moments.dead | (moments.sd <= _ROUNDING * np.abs(moments.mean))
        if level == "between":
            test, units = self._between(runs, rows, contrast, dict(text_hashes or {}), dead)
        else:
            test, units = self._within(runs, rows, contrast, dead)
        self.contrast_, self.level_, self.test_, self.units_ = contrast, level, test, units
        self._store_results(runs, rows, dict(text_hashes or {}), dead)
        self.seconds_ = time.perf_counter() - started
        return self

    def _checked(self, confounds: Sequence[pd.DataFrame] | None, runs: StandardizedRuns, level: str) -> Nuisance | None:
        """Return the nuisance regressors; raise an error if they do not match the contrast or the runs."""
        if confounds is None:
            return None
        if level == "between":
            raise ValueError(
                "confounds are properties of tokens, but this contrast is between texts, which are averaged over "
                "tokens. Use positions that all conditions reach, match_positions=True (--match-positions), or a "
                "contrast within texts."
            )
        if not all(isinstance(table, pd.DataFrame) for table in confounds):
            raise TypeError(
                "confounds must be tables, one per run, with one column per confound, as from "
                "lmri.decomposition.confounds.select."
            )
        return Nuisance.read(confounds).checked(runs.n_volumes)

    def _nuisance_of(self, number: int) -> pd.DataFrame | None:
        """Return the nuisance regressors of a run."""
        if self._nuisance is None:
            return None
        return pd.DataFrame(self._nuisance.runs[number], columns=list(self._nuisance.names))

    def _check(self) -> Contrast:
        """Return the contrast; raise an error for parameters outside of their accepted values."""
        for name, value, accepted in (
            ("level", self.level, ("auto", "between", "within")),
            ("unit", self.unit, UNITS),
            ("test", self.test, TESTS),
        ):
            if value not in accepted:
                raise ValueError(f"{name} is {value!r}; choose from {', '.join(map(repr, accepted))}.")
        if self.standardize not in STANDARDIZE:
            raise ValueError(
                f"standardize is {self.standardize!r}; accepted values are 'none' and 'zscore' (over all runs). "
                "Standardization within runs would remove differences between texts."
            )
        return self._contrast

    @property
    def _contrast(self) -> Contrast:
        """Parsed contrast."""
        return self.contrast if isinstance(self.contrast, Contrast) else Contrast.parse(self.contrast)

    # -- second level -------------------------------------------------------------------------------------------------

    def _between(
        self, runs: StandardizedRuns, rows: Labelled, contrast: Contrast, hashes: dict[str, str], dead: np.ndarray
    ) -> tuple[SecondLevel, dict[str, list[str]]]:
        """Test a contrast between texts; return the test and the texts in each condition."""
        condition = rows.condition_of_texts(contrast)
        condition = without_repeats(condition, hashes)
        texts = rows.texts_in(condition, rows.n_first(condition, self.match_positions))
        names, means = text_means((runs.run(number) for number in range(len(runs))), texts)
        means[:, dead] = 0.0  # only rounding errors, which depend on the length of a text
        labels = [condition[name] for name in names]
        warn_of_spread(means, labels)
        test = between_texts(means, labels, contrast, self.test, self.n_permutations, self.random_state, self.space)
        return test, {
            chosen: [name for name, label in zip(names, labels, strict=True) if label == chosen]
            for chosen in contrast.conditions
        }

    def _within(
        self, runs: StandardizedRuns, rows: Labelled, contrast: Contrast, dead: np.ndarray
    ) -> tuple[SecondLevel, dict[str, list[str]]]:
        """Test a contrast within texts; return the test and the names of the units."""
        if self.match_positions:
            raise ValueError(
                "match_positions applies only to contrasts between texts, and this contrast is within texts. Leave it "
                "out."
            )
        names: list[str] = []
        effects: list[np.ndarray] = []
        n_units = 0
        for number in range(len(runs)):
            array, labels, texts = runs.run(number), rows.labels[number], rows.texts[number]
            nuisance = self._nuisance_of(number)
            by_text = self.unit == "text"
            units = list(dict.fromkeys(text for text in texts if text is not None)) if by_text else [None]
            for text in units:
                taken = slice(None) if text is None else texts == text
                n_units += 1
                own_nuisance = None if nuisance is None else nuisance[taken]
                effect = first_level(array[taken], labels[taken], texts[taken], contrast, own_nuisance)
                if effect is not None:
                    names.append(f"run {number + 1}" if text is None else str(text))
                    effects.append(effect)
        what = "run" if self.unit == "run" else "text"
        confounded = self._nuisance is not None
        if not effects:
            raise ValueError(
                f"No {what} has all conditions of the contrast ({', '.join(map(repr, contrast.conditions))}) within "
                f"texts{' and can separate them from the confounds' if confounded else ''}. Name other conditions, or "
                "compare texts: level='between'."
            )
        if len(effects) < n_units:
            warnings.warn(
                f"{n_units - len(effects)} of {n_units} {what}s lack a condition within texts"
                f"{', or cannot separate it from the confounds,' if confounded else ''} and are left out.",
                DataWarning,
                stacklevel=3,
            )
        maps = np.stack(effects)
        maps[:, dead] = 0.0
        test = within_units(maps, self.test, self.n_permutations, self.random_state, self.space)
        return test, {f"{what}s": names}

    # -- attributes of stored decompositions --------------------------------------------------------------------------

    def _store_results(self, runs: StandardizedRuns, rows: Labelled, hashes: dict[str, str], dead: np.ndarray) -> None:
        """Set the attributes of decompositions: map, time courses, metrics and provenance."""
        contrast, test, space = self.contrast_, self.test_, self.space
        maps = test.t[None].astype(np.float32)
        alone, together, self.time_courses_ = explained_variance(maps.astype(np.float64), runs)
        self.components_ = maps
        self.components_img_ = space.to_img(maps, "t")
        self.mask_img_ = space.mask_img
        self.extra_imgs_ = {
            "effect.nii.gz": space.to_img(test.effect.astype(np.float32), "estimate"),
            "p.nii.gz": space.to_img(test.p().astype(np.float32), "p"),
        }
        self.fit_texts_by_run_ = [storage.texts_of([img]) for img in runs.imgs]
        used = {name for names in self.units_.values() for name in names} if self._by_text else set(rows.used)
        self.fit_texts_ = frozenset(hashes[name] for name in used if name in hashes)
        self.conditions_sha256_ = rows.digest
        skewness = float((z_scores(maps) ** 3).mean())
        self.metrics_ = pd.DataFrame(
            {
                "variance": alone,
                "skewness": [abs(skewness)],
                "sign_determined": [1],  # by the contrast
                **shape_metrics(maps, space),
                "top_token_share": top_token_share(self.time_courses_),
                "max_abs_t": [float(np.abs(test.t).max())],
                "p_min": [float(test.p().min())],
            }
        )
        hidden = ("space", "conditions_sha256")
        self.info_ = {
            "method": self.method_name,
            "parameters": {name: value for name, value in self.get_params().items() if name not in hidden},
            "n_runs": len(runs),
            "n_volumes": int(sum(runs.n_volumes)),
            "n_dead_neurons": int(dead.sum()),
            "dead_neurons": np.column_stack([space.layer_of[dead], space.neuron_of[dead]]).tolist(),
            "variance_explained_together": together,
            "convergence": {"n_starts": 1, "n_converged": 1},  # a test has no starts, but stored maps need the number
            "contrast": dict(contrast.weights),
            "level": self.level_,
            "n_units": {name: len(names) for name, names in self.units_.items()},
            "p_floor": test.p_floor(),
        }

    @property
    def _by_text(self) -> bool:
        """Whether the units are texts."""
        return self.level_ == "between" or self.unit == "text"

    @property
    def _fitted(self) -> SecondLevel:
        """Test of the fitted localizer."""
        if not hasattr(self, "test_"):
            raise ValueError("The localizer is not fitted. Call fit(recording.imgs, recording.events) first.")
        return self.test_

    @property
    def name(self) -> str:
        """Default name of the result: the conditions, such as ``"code-news"``, after the column if not the default."""
        names = ([] if self.column == "trial_type" else [self.column]) + list(self._contrast.conditions)
        parts = (re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-._") for name in names)
        return "-".join(part for part in parts if part) or self.method_name

    def threshold(self, alpha: float = ALPHA, tail: str = "two", most: int | None = None) -> NetworkSet:
        """Return the t map as a set of one network, whose members are the significant neurons; it may be empty.

        Parameters
        ----------
        alpha : float, default=0.05
            Familywise error over neurons for ``test="max_t"``, false discovery rate for ``"parametric"``.
        tail : {"two", "positive", "negative"}, default="two"
            Direction of the difference: either, or only higher (lower) activity in conditions with positive weights.
        most : int, optional
            Largest number of members, those with the largest t; useful if half of all neurons are significant.

        Returns
        -------
        NetworkSet
            Input of `lesion`, `save_networks` and `overlap_table`.

        Raises
        ------
        ValueError
            If `alpha` is below the smallest possible p.
        """
        test = self._fitted
        method = test.kind if tail == "two" else f"{test.kind}-{tail}"
        chosen: dict[str, Any] = {"method": method, "alpha": float(alpha), "description": test.describe(tail)}
        if test.kind == "max_t":
            chosen["n_permutations"] = len(test.extremes)
        if most is not None:
            chosen["most"] = int(most)
            chosen["description"] += f"; of these the {most} with the largest t at most"
        mask = np.zeros((1, self.space.n_neurons), dtype=bool)
        mask[0, self._member_indices(alpha, tail, most)] = True
        origin = Origin.of({**self.info_, "threshold": chosen})
        return NetworkSet(self.space, self.components_, mask, self.name, self.metrics_, origin, self.fit_texts_)

    def _member_indices(self, alpha: float, tail: str, most: int | None) -> np.ndarray:
        """Return the indices of the members, the largest ``|t|`` first."""
        if most is not None and most < 1:
            raise ValueError(f"most is {most}; it must be at least 1, or None for all.")
        indices = np.flatnonzero(self._fitted.members(alpha, tail))
        return np.asarray(indices[np.argsort(-np.abs(self._fitted.t[indices]), kind="stable")][:most])

    def table(self, alpha: float = ALPHA, tail: str = "two", most: int | None = None) -> pd.DataFrame:
        """List the members: ``layer, neuron, effect, t, p``, the largest ``|t|`` first."""
        test, indices = self._fitted, self._member_indices(alpha, tail, most)
        return pd.DataFrame(
            {
                "layer": self.space.layer_of[indices],
                "neuron": self.space.neuron_of[indices],
                "effect": test.effect[indices],
                "t": test.t[indices],
                "p": test.p(tail)[indices],
            }
        )

    def __repr__(self) -> str:
        state = "not fitted" if not hasattr(self, "test_") else f"{self.level_} texts, {self.space.describe()}"
        return f"<Localizer {str(self.contrast)!r}: {state}>"


def localize(
    recordings: Recording | Sequence[Recording],
    contrast: str | Contrast,
    column: str = "trial_type",
    confounds: Sequence[str] = (),
    **parameters: Any,
) -> Localizer:
    """Compute a localizer of the neurons that differ between conditions of recordings.

    Texts held out for evaluation were not recorded, so lesions of the localized neurons can be scored on them.

    Parameters
    ----------
    recordings : Recording or sequence of Recording
        Recordings of one site; corpora are the default conditions.
    contrast : str or Contrast
        Contrast, such as ``"code - prose"``.
    column : str, default="trial_type"
        Column of the events with the conditions.
    confounds : sequence of str
        Names from `lmri.confounds.COLUMNS`, as nuisance regressors of a contrast within texts.
    **parameters
        Parameters of `Localizer`.

    Returns
    -------
    Localizer
        Fitted localizer. ``localizer.threshold()`` returns the network; ``study.save_decomposition(localizer,
        recordings, name)`` and ``study.save_networks(localizer.threshold(), name)`` store both.

    Raises
    ------
    SpaceMismatchError
        If the recordings are from several sites.
    ValueError
        For the reasons listed in `Localizer.fit`.
    """
    recordings = [recordings] if isinstance(recordings, Recording) else list(recordings)
    if not recordings:
        raise ValueError("recordings is empty. Pass at least one recording, such as study.group().")
    space = recordings[0].space
    for other in recordings[1:]:
        space.check_same(other.space, f"The recording of {other.corpus!r}")
    hashes = {row.text_id: row.sha256 for recording in recordings for row in recording.texts.itertuples()}
    imgs = [img for recording in recordings for img in recording.imgs]
    events = [table for recording in recordings for table in recording.events]
    nuisance = select(recordings, confounds) if confounds else None
    return Localizer(space, contrast, column, **parameters).fit(imgs, events, hashes, nuisance)
