"""Specifications: the choices behind a lesion, and the corresponding network under each alternative choice."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lmri.decomposition import METHODS, build
from lmri.decomposition.codec import DECOMPOSITION_CODEC
from lmri.decomposition.confounds import COLUMNS, select
from lmri.decomposition.nuisance import Nuisance
from lmri.exceptions import ConvergenceWarning, DataWarning, LMRIError, StudyError
from lmri.lesions.baselines import Baseline
from lmri.lesions.experiments.choices import (
    BASE,
    FAMILIES,
    KINDS,
    UNION,
    Choice,
    Threshold,
    Variant,
    check_known,
    choice_label,
)
from lmri.networks import NetworkSet
from lmri.networks.codec import NETWORKS, NETWORKS_CODEC, DecompositionInputs, source_of, time_courses
from lmri.networks.comparison import compare, compare_time_courses
from lmri.networks.thresholds import THRESHOLDS, needs_null, value_name
from lmri.storage.store import Store

if TYPE_CHECKING:
    from lmri.lesions.interventions import Intervention

SEEDS = (1, 2, 3)
OTHER_METHODS = ("ica", "canica", "fastica-temporal")
OTHER_THRESHOLDS: tuple[Threshold, ...] = (
    ("z", {"z": 2.5}),
    ("z", {"z": 3.0}),
    ("z", {"z": 3.5}),
    ("top", {"share": 0.01}),
)

FAILURES = (LMRIError, ValueError, RuntimeError, ArithmeticError)
"""Errors that count as the result of one variant instead of aborting the analysis."""


@dataclass(eq=False)
class Maps:
    """A decomposition: unthresholded maps, their time courses and its convergence."""

    networks: NetworkSet
    courses: list[np.ndarray]

    @property
    def convergence(self) -> tuple[int, int]:
        """Numbers of converged starts and of all starts."""
        counts = self.networks.origin.convergence
        return int(counts.get("n_converged", 0)), int(counts.get("n_starts", 0))


@dataclass(eq=False)
class Specifications:
    """A stored network set and its lesioned target, the base from which one choice at a time is varied.

    Parameters
    ----------
    study : Store
        It is read only; decompositions made here are not stored.
    name, site : str, optional
        Name and site of the network set; required if there are several.
    network : str, default="union"
        Target: the ``"union"`` of the set, or one network by name or number.
    controls : {"layer", "energy"}
        Family of controls of the base.
    """

    study: Store
    name: str | None = None
    site: str | None = None
    network: str = UNION
    controls: str = "layer"
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_known("controls", [self.controls], FAMILIES)
        entry = self.study.find(NETWORKS, self.name, self.site)
        self.name, self.site = entry.name, entry.site
        self.entry = entry
        self.networks = self.study.open(NETWORKS_CODEC, entry.name, entry.site)
        source = source_of(self.study, entry)
        self.source, self.inputs = source.name, DecompositionInputs.of(source)
        self.corpora = list(self.inputs.corpora)
        self.number = None if self.network == UNION else self._number(self.network)
        origin, settings = self.networks.origin, self.networks.origin.threshold
        by = settings["method"]
        if by not in THRESHOLDS:
            raise StudyError(
                f"The networks {entry.name!r} were selected by {by!r}, which cannot be repeated with other maps; "
                f"those that can be repeated are {', '.join(THRESHOLDS)}. Give a set created by lmri threshold."
            )
        threshold = (by, {key: settings[key] for key in [value_name(by)] if key is not None})
        seed = int(origin.parameters.get("random_state") or 0)
        self.base = Choice(BASE, "as stored", entry.site, str(origin.method), seed, threshold, controls=self.controls)
        maps = self.study.open(DECOMPOSITION_CODEC, self.source, entry.site)
        courses = [table.to_numpy() for _, _, table in time_courses(self.study, self.source, entry.site)]
        self._fitted = {self._key(self.base): Maps(maps, courses)}

    @property
    def target(self) -> str:
        """Name of the lesioned network or union in the base."""
        return self.networks.union().name if self.number is None else self.networks.names[self.number]

    def _number(self, network: str) -> int:
        names = self.networks.names
        if network in names:
            return names.index(network)
        if network.isdecimal() and int(network) < len(names):
            return int(network)
        raise ValueError(
            f"network is {network!r}; accepted values are {UNION!r}, numbers from 0 to {len(names) - 1}, and the names "
            f"{', '.join(names)}."
        )

    # -- choices ------------------------------------------------------------------------------------------------------

    def choices(
        self,
        vary: Iterable[str] = KINDS,
        baselines: Sequence[str] | None = None,
        thresholds: Sequence[Threshold] = OTHER_THRESHOLDS,
        seeds: Sequence[int] = SEEDS,
        methods: Sequence[str] = OTHER_METHODS,
    ) -> list[Choice]:
        """List the base and all variants that differ from it in one choice, without fitting.

        Raises
        ------
        StudyError
            If a choice needs a new fit, but the confounds of the base differ from the confounds in the study.
        """
        vary = list(dict.fromkeys(vary))
        check_known("vary", vary, KINDS)
        check_known("methods", methods, tuple(METHODS))
        check_known("thresholds", [by for by, _ in thresholds], tuple(THRESHOLDS))
        if baselines is None:
            baselines = [f"{kind}{corpus}" for kind in ("", "resample:") for corpus in self.corpora]
        for value in baselines:
            Baseline.parse(value).recording(self.study, self.base.site)  # raises here if there is no recording
        base = self.base
        others: dict[str, list[dict[str, Any]]] = {
            "site": [{"site": value} for value in self.study.sites],
            "baseline": [{"baseline": value} for value in baselines],
            "threshold": [{"threshold": (by, dict(values))} for by, values in thresholds],
            "seed": [{"seed": int(value)} for value in seeds],
            "method": [{"method": value} for value in methods],
            "sinks": [{"spared": "sinks"}],
            "controls": [{"controls": value} for value in FAMILIES],
        }
        choices = [base]
        for kind in KINDS:
            variants = [replace(base, **changes) for changes in others[kind]] if kind in vary else []
            variants = [
                replace(choice, kind=kind, label=choice_label(kind, choice)) for choice in variants if choice != base
            ]
            if kind in vary and not variants:
                self.notes.append(f"{kind} was not varied: there is no alternative to the base")
            # Repeated choices are listed once.
            choices.extend(choice for index, choice in enumerate(variants) if choice not in variants[:index])
        if any(self._key(choice) not in self._fitted for choice in choices):
            self._confounds(base.site)  # raises here if the base's confounds cannot be removed again
        return choices

    # -- variants -----------------------------------------------------------------------------------------------------

    def variant(self, choice: Choice, seed: int = 0) -> Variant:
        """Find the network that corresponds to the base's under a choice; a failure gives a variant with a problem.

        Parameters
        ----------
        choice : Choice
            Choice in `choices`.
        seed : int, default=0
            Seed of the nulls of the matching.
        """
        try:
            maps = self._maps(choice)
            chosen = self.networks if choice.kind == BASE else self._thresholded(maps.networks, choice)
            result = self._matched(maps, chosen, choice, seed)
        except FAILURES as error:
            return Variant(choice, above_null=False, problem=f"{type(error).__name__}: {error}")
        n_converged, n_starts = maps.convergence
        return replace(result, n_converged=n_converged, n_starts=n_starts)

    def _key(self, choice: Choice) -> tuple[str, str, int]:
        return choice.site, choice.method, choice.seed

    def _maps(self, choice: Choice) -> Maps:
        key = self._key(choice)
        if key not in self._fitted:
            self._fitted[key] = self._fit(choice)
        return self._fitted[key]

    def _fit(self, choice: Choice) -> Maps:
        known = dict(self.networks.origin.parameters)
        known |= {"n_components": len(self.networks), "random_state": choice.seed}
        known.pop("confounds", None)  # a property of the data, not of the method
        held = ("n_components", "random_state", "standardize", "scope")
        # Another method has different parameters; only those that describe the data are kept.
        names = [name for name in known if name != "kind"] if choice.method == self.base.method else held
        parameters = {name: known[name] for name in names if name in known}
        recordings = self.study.group(choice.site, self.corpora)
        estimator = build(choice.method, recordings[0].space, **parameters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # convergence is in the row
            imgs = [img for recording in recordings for img in recording.imgs]
            estimator.fit(imgs, confounds=self._confounds(choice.site))
        if needs_null(choice.threshold[0]):
            estimator.surrogate_null(int(self.networks.origin.threshold["n_surrogates"]))
        return Maps(NetworkSet.from_estimator(estimator), list(estimator.time_courses_))

    def _confounds(self, site: str) -> list[pd.DataFrame] | None:
        """Return the confounds removed from the base's data, at any site; raise if the study's values differ."""
        names, digest = list(self.networks.origin.parameters.get("confounds") or []), self.inputs.confounds_sha256
        if digest is None and not names:
            return None
        known = bool(names) and set(names) <= set(COLUMNS)
        table = None
        if known:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # already warned when the base was fitted
                table = select(self.study.group(self.base.site, self.corpora), names)
        if table is None or (digest is not None and Nuisance.read(table).digest != digest):
            what = f"the confounds {', '.join(names)}" if names else "confounds without names"
            raise StudyError(
                f"{self.source!r} was fitted with {what}, whose values differ from the study's tables, so variants "
                "cannot be fitted in the same way. Vary only threshold, baseline, sinks and controls (--vary), or fit "
                "it again: lmri decompose STUDY --confounds NAME."
            )
        return table if site == self.base.site else select(self.study.group(site, self.corpora), names)

    def _thresholded(self, maps: NetworkSet, choice: Choice) -> NetworkSet:
        by, values = choice.threshold
        return maps.threshold(by, **values)

    def _matched(self, maps: Maps, chosen: NetworkSet, choice: Choice, seed: int) -> Variant:
        if self.number is None:
            return Variant(choice, chosen.union())
        if self._key(choice) == self._key(self.base):
            return Variant(choice, chosen[self.number])
        base = self._fitted[self._key(self.base)]
        if choice.site == self.site:
            by, table = "maps", compare(base.networks, maps.networks, seed).table
            first, second = base.networks.names, maps.networks.names
        else:
            by, comparison = "time courses", compare_time_courses(base.courses, maps.courses, self._texts(), seed)
            table, first, second = comparison.table, comparison.first.names, comparison.second.names
        partners = table[table["first"] == first[self.number]]
        if partners.empty:
            return Variant(choice, None, by, above_null=False, problem="every map of the other set has a closer match")
        row = partners.iloc[0]
        network = chosen[second.index(row["second"])]
        return Variant(choice, network, by, float(row["r"]), float(row["r_null_95"]), bool(row["above_null"]))

    def _texts(self) -> list[list[Any]]:
        runs = [events for corpus in self.corpora for events in self.study.recording(corpus, self.site).events]
        return [list(events["text_id"]) for events in runs]

    def intervention(self, variant: Variant) -> "Intervention":
        """Create the lesion of a variant with a network."""
        from lmri.lesions.interventions import lesion

        if variant.network is None:
            raise ValueError(
                f"{variant.choice.name!r} has no network to lesion: {variant.problem}. Choose another variant."
            )
        baseline = Baseline.parse(variant.choice.baseline).value(self.study, variant.choice.site)
        return lesion(variant.network, baseline, spare=variant.choice.spared or None)
