"""Methods section: one paragraph per analysis, generated from the stored provenance, with references.

The module is longer than most because it contains the sentences of every kind of analysis, which form one text.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmri import storage
from lmri.decomposition.base import SURROGATE_ITERATIONS
from lmri.decomposition.model_maps import DualRegression
from lmri.lesions.controls.registry import CONTROLS
from lmri.lesions.scores import ALPHA, N_BOOTSTRAP
from lmri.networks import LOCALIZER
from lmri.report.citing import Methods
from lmri.report.environment import plural
from lmri.report.sections.results import scored_neurons
from lmri.report.wording import INTERVENTIONS, SOLVERS, method_words, standardized_words, threshold_words
from lmri.space.sites import DECODER, site_wording
from lmri.storage.entries import Entry
from lmri.storage.recording import volume_meaning
from lmri.storage.tolerant import ReportReader

_LIVE = ("lmri", "torch", "transformers")
"""Packages that are cited if the model was run; all versions are listed below the methods."""


def methods(reader: ReportReader, quality: Sequence[Mapping[str, Any]]) -> Methods:
    """Write the methods section of a study.

    Parameters
    ----------
    reader : ReportReader
        The study.
    quality : sequence of mapping
        Quality control of each recording, as the report shows it.

    Returns
    -------
    lmri.report.citing.Methods
        Paragraphs and their references.
    """
    section = Methods()
    _recording(section, reader)
    if any(recording["tables"] for recording in quality):
        _quality(section)
    decompositions = reader.entries["decompositions"]
    for entry in decompositions:
        if entry.parameters.get("method") != LOCALIZER:
            write = _dual_regression if entry.parameters.get("method") == DualRegression.method_name else _decomposition
            write(section, entry, _sets_of(reader, entry))
    if reader.entries["networks"]:
        section.add(
            "Time courses and spectra",
            "Time courses were computed for the whole maps of the decomposition, not for the members of a network; "
            "they are in standard deviations from the mean of the whole time course. Power spectra were estimated by "
            "Welch's method [@welch1967] with Hann windows that overlap by half, separately for each text, and "
            "averaged over texts; texts shorter than a window (a power of two that half of the texts reach, 16 to 256 "
            "volumes) were excluded. Peaks were tested against red noise, an autoregressive process of order 1 fitted "
            "by Whittle's likelihood [@gilman1963] (chi-squared test at 5 %, Bonferroni-corrected over networks and "
            "frequencies).",
        )
    if reader.entries["comparisons"]:
        _comparisons(section, reader.entries["comparisons"])
    for entry in reader.entries["scores"]:
        _evaluation(section, entry, scored_neurons(entry, reader.entries["experiments"]))
    for entry in reader.entries["experiments"]:
        _experiment(section, entry)
    for entry in decompositions:
        if entry.parameters.get("method") == LOCALIZER:
            _localizer(section, entry, _sets_of(reader, entry))
    return section


def _sets_of(reader: ReportReader, source: Entry) -> list[Entry]:
    """List the sets of networks that were thresholded from a decomposition."""
    return [
        networks
        for networks in reader.entries["networks"]
        if (networks.inputs.get("decomposition"), networks.site) == (source.name, source.site)
    ]


def listed(values: Mapping[str, Any], without: Sequence[str] = ()) -> list[str]:
    """Format settings as ``name = value``; elements of lists are joined by commas."""
    shown = {name: value for name, value in values.items() if name not in without and value not in ("", None, [], {})}
    return [f"{name} = {_value(value)}" for name, value in shown.items()]


def _settings(values: Mapping[str, Any], without: Sequence[str] = ()) -> list[tuple[str, Sequence[str]]]:
    settings = listed(values, without)
    return [("", settings)] if settings else []


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}: {_value(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(_value, value)) if isinstance(value, list) else str(value)


def site_words(site: str) -> str:
    """Return the description of a site."""
    description = site_wording(site)
    return description + " in the decoder" if site.startswith(DECODER) else description


def _recording(section: Methods, reader: ReportReader) -> None:
    model = reader.study.model
    recordings = reader.recordings
    revision = f", revision {model.revision}" if model.revision else ""
    about = f"{model.id} ({model.model_type}, {model.dtype}{revision}, weights {model.fingerprint})"
    if not recordings:
        section.add("Recording", f"There is no complete recording of {about}. The design follows [@liu2025].")
        return
    sites = " and ".join(
        f"{site} ({site_words(site)})" for site in sorted({recording.space.site for recording in recordings})
    )
    versions = _same(recording.info["versions"] for recording in recordings)
    meaning = volume_meaning(recordings)
    per = f" (one volume {'for' if meaning.startswith('every') else 'per'} {meaning})" if meaning else ""
    text = (
        f"Activations of {about} at {sites} were recorded with "
        f"{_software(versions, _LIVE)} while the model read each text separately, and "
        f"stored as 4D NIfTI images{per} [@liu2025] "
        "in a BIDS derivative dataset [@gorgolewski2016]. "
    )
    for n in sorted({recording.info["parameters"]["n_dummy"] for recording in recordings}):
        if n:
            text += f"{'The first token' if n == 1 else f'The first {n} tokens'} of each text and special tokens were "
            text += "excluded from the images. "
        else:
            text += "Special tokens were excluded from the images. "
    groups: dict[tuple[str, ...], list[str]] = {}
    for recording in recordings:
        settings = tuple(listed(recording.info["parameters"]))
        corpora = groups.setdefault(settings, [])
        if recording.corpus not in corpora:
            corpora.append(recording.corpus)
    section.add(
        "Recording", text.rstrip(), [(", ".join(names), settings) for settings, names in groups.items() if settings]
    )


def _same(versions: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Merge software versions; all versions of a package are listed."""
    merged: dict[str, list[str]] = {}
    for package_versions in versions:
        for name, version in package_versions.items():
            merged.setdefault(name, [])
            if version not in merged[name]:
                merged[name].append(version)
    return {name: " and ".join(sorted(several)) for name, several in merged.items()}


def _software(versions: Mapping[str, str], names: Sequence[str]) -> str:
    known = [f"{name} {versions[name]}" for name in names if name in versions]
    return ", ".join(known) if known else "lmri"


def _quality(section: Methods) -> None:
    section.add(
        "Quality control",
        "Quality metrics were computed; no data were excluded. DVARS is the root mean "
        "square, over z-scored neurons, of the difference from the previous volume of the same text [@power2012]; a "
        "spike is a volume with an outlying DVARS in its run (robust z). A massive activation is a |value| above 100 "
        "and at least 1,000 times the median |value| of its layer [@sun2024]. Computed with "
        f"lmri {storage.versions()['lmri']}, or read from the study.",
    )


_SOURCES = {
    "ica": "[@hyvarinen1999,smith2014,himberg2004]",
    "ica-temporal": "[@hyvarinen1999,himberg2004]",
    "canica": "[@varoquaux2010]",
    "dictlearning": "[@mensch2016]",
}


def _decomposition(section: Methods, entry: Entry, sets: Sequence[Entry]) -> None:
    parameters, results, versions = entry.parameters, entry.results, entry.versions
    method = parameters["method"]
    starts, n_runs = results["convergence"], results["n_runs"]
    text = (
        f"At {entry.site}, the recordings of {', '.join(entry.inputs['corpora'])} ({results['n_volumes']:,} volumes in "
        f"{plural(n_runs, 'run')}) were decomposed by {method_words(method)} into {_n_maps(parameters)} "
        f"({standardized_words(str(parameters.get('standardize')), str(parameters.get('scope')))}; "
        f"seed {parameters.get('random_state')}), using {_how(method, parameters, versions)} "
        f"{_SOURCES.get(method, '[@hyvarinen2000]')}. {_converged(starts['n_converged'], starts['n_starts'])}"
    )
    if parameters.get("signs", "skewness") == "skewness":
        text += "The sign of each map was chosen such that its heavier tail is positive. "
    else:
        text += f"The signs of the maps are those returned by the {parameters['signs']}. "
    if parameters.get("confounds"):
        text += f"Confounds were regressed out of every run: {', '.join(parameters['confounds'])}. "
    if "order" in results:
        text += (
            f"The number of maps was estimated as {results['order']['recommended']} by parallel analysis [@horn1965], "
            "with surrogates in which every neuron was circularly shifted independently; the minimum description "
            "length [@wax1985] was computed for comparison. "
        )
    text += _repeats(method, parameters)
    text += "".join(_threshold(networks) for networks in sets)
    section.add(f"Decomposition {entry.name}", text.rstrip(), _settings(parameters, ("method", "label", "confounds")))


def _dual_regression(section: Methods, entry: Entry, sets: Sequence[Entry]) -> None:
    parameters, results = entry.parameters, entry.results
    text = (
        f"At {entry.site}, the maps of the group decomposition {entry.inputs['decomposition']} were regressed on the "
        f"recordings of {', '.join(entry.inputs['corpora'])} ({results['n_volumes']:,} volumes in "
        f"{plural(results['n_runs'], 'run')}; "
        f"{standardized_words(str(parameters.get('standardize')), str(parameters.get('scope')))}) by dual regression "
        f"[@nickerson2017], computed with lmri {entry.versions.get('lmri', '')}: each volume was regressed on the "
        f"{parameters.get('n_components')} group maps, and each neuron on the resulting time courses of all runs, "
        "scaled to unit variance; both regressions include an intercept. The maps keep the order and the signs of the "
        "group maps. A neuron contributes to the time course on which it is regressed, so its weight is not 0 even in "
        "noise. "
    )
    if parameters.get("confounds"):
        text += f"Confounds were regressed out of every run: {', '.join(parameters['confounds'])}. "
    text += "".join(_threshold(networks) for networks in sets)
    section.add(f"Dual regression {entry.name}", text.rstrip(), _settings(parameters, ("method", "confounds")))


def _converged(n_converged: int, n_starts: int) -> str:
    """Describe the convergence of the initializations; empty if the solver does not report it (``n_starts`` is 0)."""
    if not n_starts:
        return ""
    if not n_converged:
        return (
            "The algorithm did not converge. " if n_starts == 1 else f"None of {n_starts} initializations converged. "
        )
    if n_starts == 1:
        return "The algorithm converged. "
    number = f"All {n_starts}" if n_converged == n_starts else f"{n_converged} of {n_starts}"
    return f"{number} initializations converged. "


def _n_maps(parameters: Mapping[str, Any]) -> str:
    n = parameters.get("n_components")
    return plural(n, "component") if isinstance(n, int) else "an estimated number of components"


def _how(method: str, parameters: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """Describe the implementation of a method: its package, its version and its main settings."""
    if method == "canica":
        return (
            f"nilearn {versions.get('nilearn')} with {parameters.get('n_init')} initializations and "
            f"{_smoothing(parameters)}, without detrending or CCA"
        )
    if method in ("ica", "ica-temporal"):
        reduced = " after an incremental group PCA" if method == "ica" else ""
        solver = parameters.get("solver")
        cited = " [@ablin2018]" if solver == "picard" else ""
        return (
            f"{SOLVERS.get(str(solver), solver)}{cited} of lmri {versions.get('lmri')} (nonlinearity "
            f"{parameters.get('fun')}){reduced}; the components of {parameters.get('n_init')} initializations were "
            "clustered by ICASSO"
        )
    if method == "dictlearning":
        return (
            f"nilearn {versions.get('nilearn')} with a sparsity penalty of {parameters.get('alpha')} and "
            f"{_smoothing(parameters)}, without detrending"
        )
    return f"scikit-learn {versions.get('scikit-learn')} (nonlinearity {parameters.get('fun')})"


def _smoothing(parameters: Mapping[str, Any]) -> str:
    fwhm = parameters.get("smoothing_fwhm")
    return f"smoothing by {fwhm:g} mm FWHM over neighbouring neuron indices" if fwhm else "no smoothing"


def _repeats(method: str, parameters: Mapping[str, Any]) -> str:
    text = ""
    if parameters.get("n_surrogates"):
        other = ", with the temporal ICA of lmri," if method == "fastica-temporal" else ""
        text += (
            f"To obtain null distributions, the same pipeline{other} was applied to {parameters['n_surrogates']} "
            "surrogate recordings, in which every neuron was circularly shifted by an independent random amount within "
            f"its run (one initialization and at most {SURROGATE_ITERATIONS} iterations per surrogate). "
        )
    if parameters.get("n_bootstraps"):
        text += (
            f"Stability across texts is the cluster index Iq over {parameters['n_bootstraps']} bootstraps of the texts "
            "[@himberg2004]. "
        )
    if parameters.get("n_splits"):
        text += (
            f"Split-half reproducibility was computed over {parameters['n_splits']} random splits of the texts "
            "[@yang2008] and compared with arbitrary unmixings of the same data. "
        )
    return text


def _threshold(entry: Entry) -> str:
    parameters = entry.parameters
    method = parameters.get("by") or parameters["method"]  # set if networks were rejected manually afterwards
    cited = " [@benjamini1995]" if "fdr" in method else " [@beckmann2004]" if method == "mixture" else ""
    without = ("method", "description", "label", "by", "rejected")
    at, limit = threshold_words(method, {name: value for name, value in parameters.items() if name not in without})
    description = f": {parameters['description']}" if parameters.get("description") else ""
    return f"The networks {entry.name} were thresholded {at} {limit}{description}{cited}. "


def _comparisons(section: Methods, entries: Sequence[Entry]) -> None:
    seeds = sorted({str(entry.parameters.get("seed")) for entry in entries})
    between = several = ""
    if any("second_site" in entry.inputs for entry in entries):
        between = "Between sites, time courses were matched instead, with texts in random order as a second null. "
    if any("first" not in entry.inputs for entry in entries):
        several = "A consensus of several sets uses pairs that exceed their null at 5 % over all comparisons together. "
    section.add(
        "Comparison of methods",
        "The maps of two methods were matched one to one by the Hungarian algorithm on |r|, their absolute correlation "
        "over neurons [@kuhn1955]. The null distribution was computed from arbitrary unmixings of the subspace of "
        "either method, matched in the same way; the stricter of the two was used, at a level of 5 % for the pair of "
        "each rank, without correction for the number of pairs. "
        f"{between}{several}"
        f"Comparisons: {', '.join(f'{entry.name} at {entry.site}' for entry in entries)} (seed {', '.join(seeds)}; "
        f"{_software(_same(entry.versions for entry in entries), ('lmri', 'numpy', 'scipy'))}).",
    )


def _evaluation(section: Methods, entry: Entry, target: str) -> None:
    parameters, results = entry.parameters, entry.results
    scored = results.get("model")
    tasks = ", ".join(
        f"{', '.join(names)} ({metric.replace('_', ' ')}, {'higher' if higher_is_better else 'lower'} is better)"
        for (metric, higher_is_better), names in _by_metric(results.get("tasks", [])).items()
    )
    kind = str(parameters.get("intervention", "intervention"))
    action = INTERVENTIONS.get(kind, kind)
    text = (
        f"The {action} of {target} at {entry.site} was applied to the activations of "
        f"{scored['id'] if scored else 'the model'} during the forward pass; the weights were not changed. The model "
        f"was evaluated on {tasks or 'no task'}. Confidence intervals (95 %) are percentiles of {N_BOOTSTRAP:,} "
        "bootstrap samples of texts. "
    )
    if results.get("p_floor", 1.0) < 1:
        design = results.get("design", {})
        text += (
            f"{_controls(parameters)}. p-values are one-sided (worse performance) and computed as "
            "(1 + number of controls that perform at least as badly) / (1 + number of controls) [@phipson2010]"
        )
        text += (
            " or, if drawing stopped early, as sequential Monte Carlo p-values [@besag1991]"
            if design.get("stop_after")
            else ""
        )
        text += (
            ". They were corrected for the false discovery rate over all conditions of a task, metric and family of "
            f"controls [@benjamini1995]; q-values are reported if the smallest possible value can reach {ALPHA}. "
        )
    else:
        text += "No matched controls were evaluated. "
    text += f"Computed with {_software(entry.versions, _LIVE)}."
    section.add(f"Evaluation {entry.name}", text, _settings(parameters, ("intervention", "networks", "rois")))


def _by_metric(tasks: Iterable[Mapping[str, Any]]) -> dict[tuple[str, bool], list[str]]:
    """Group the names of tasks by metric and by whether higher values are better."""
    groups: dict[tuple[str, bool], list[str]] = {}
    for task in tasks:
        groups.setdefault((task["metric"], task["higher_is_better"]), []).append(task["name"])
    return groups


def _controls(parameters: Mapping[str, Any]) -> str:
    """Describe the properties that controls share with their network, from the requested families."""
    named = parameters.get("controls") or []
    known = [CONTROLS[family].words for family in ([named] if isinstance(named, str) else named) if family in CONTROLS]
    shared = f". Controls have {'; or '.join(known)}" if known else ""
    return f"Effects were compared with those of random neurons (controls){shared}"


def _experiment(section: Methods, entry: Entry) -> None:
    inputs = entry.inputs
    sources = {name: value for name, value in inputs.items() if f"{name}_sha256" in inputs}
    named = (f"{name.replace('_', ' ')} {_value(value)}" for name, value in sources.items())
    of = f", based on {', '.join(named)}" if sources else ""
    section.add(
        f"Experiment {entry.name}",
        f"{entry.results.get('title', entry.name)} at {entry.site}{of}. "
        f"Computed with {_software(entry.versions, ('lmri',))}.",
        _settings(entry.parameters),
    )


def _localizer(section: Methods, entry: Entry, sets: Sequence[Entry]) -> None:
    parameters, results, versions = entry.parameters, entry.results, entry.versions
    if parameters["test"] == "parametric":
        how = f"by nilearn's second level (nilearn {versions.get('nilearn')})"
    else:
        how = f"by permutation (seed {parameters['random_state']}) [@nichols2002]"
    section.add(
        f"Localizer {entry.name}",
        f"At {entry.site}, the contrast {parameters['contrast']} was tested {results.get('level', '')} texts {how}, as "
        f"a functional localizer [@saxe2006]. {''.join(_threshold(networks) for networks in sets)}"
        f"Computed with {_software(versions, ('lmri', 'nilearn'))}.",
        _settings(parameters, ("method", "contrast")),
    )
