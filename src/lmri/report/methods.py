"""Methods section: one paragraph per analysis, generated from the stored provenance, with references.

The module is longer than most because it contains the sentences of every kind of analysis, which form one text.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmri import storage
from lmri.decomposition.base import SURROGATE_ITERATIONS
from lmri.decomposition.model_maps import DualRegression
from lmri.decomposition.quality.findings import sentence
from lmri.lesions.baselines.baseline import Baseline
from lmri.lesions.baselines.registry import BASELINES
from lmri.lesions.controls.registry import CONTROLS
from lmri.lesions.scores import ALPHA, N_BOOTSTRAP
from lmri.networks import LOCALIZER
from lmri.networks.thresholds.registry import THRESHOLDS
from lmri.report.citing import Methods
from lmri.report.environment import plural
from lmri.report.sections.results import OTHER_NEURONS, scored_neurons
from lmri.report.wording import INTERVENTIONS, SOLVERS, method_words, standardized_words, threshold_words
from lmri.space.sites import DECODER, site_wording
from lmri.storage.entries import Entry
from lmri.storage.recording import volume_meaning
from lmri.storage.tolerant import ReportReader

_NUMERIC = ("lmri", "numpy", "scipy")
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
            "Time courses were computed from the complete maps of a decomposition, before thresholding, and were "
            "standardized to mean 0 and standard deviation 1. Power spectra were estimated for each text by Welch's "
            "method [@welch1967], with Hann windows that overlapped by half, and were averaged over texts. The length "
            "of the windows was a power of two (16 to 256 volumes) that at least half of the texts reached; shorter "
            "texts were excluded. Peaks were tested against red noise, modelled as a first-order autoregressive "
            "process that was fitted by Whittle's likelihood [@gilman1963] (chi-squared test at 5 %, "
            "Bonferroni-corrected over networks and frequencies).",
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


def joined(items: Iterable[str]) -> str:
    """Join words into an enumeration.

    Examples
    --------
    >>> joined(["code", "news", "wiki"]), joined(["code", "news"]), joined(["code"])
    ('code, news and wiki', 'code and news', 'code')
    """
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def _quoted(names: Iterable[str]) -> str:
    return joined(f"“{name}”" for name in dict.fromkeys(names))


def _corpora(names: Iterable[str]) -> str:
    """Name corpora: ``the corpora “code” and “news”``."""
    unique = list(dict.fromkeys(names))
    return f"the {'corpus' if len(unique) == 1 else 'corpora'} {_quoted(unique)}"


def _recording(section: Methods, reader: ReportReader) -> None:
    model = reader.study.model
    recordings = reader.recordings
    revision = f", revision {model.revision}" if model.revision else ""
    about = f"{model.id} ({model.model_type}, {model.dtype}{revision}, weights {model.fingerprint})"
    if not recordings:
        section.add("Recording", f"There is no complete recording of {about}. The design follows [@liu2025].")
        return
    sites = sorted({recording.space.site for recording in recordings})
    described = joined(f"{site} ({site_words(site)})" for site in sites)
    versions = _same(recording.info["versions"] for recording in recordings)
    meaning = volume_meaning(recordings)
    per = f" (one volume {'for' if meaning.startswith('every') else 'per'} {meaning})" if meaning else ""
    text = (
        f"Activations of the model {about} were recorded at the {'site' if len(sites) == 1 else 'sites'} {described} "
        f"while the model read {_corpora(recording.corpus for recording in recordings)}. Each text was read "
        f"separately. The activations were stored as 4D NIfTI images{per} [@liu2025] in a BIDS derivative dataset "
        f"[@gorgolewski2016], using {_software(versions, _LIVE)}. "
    )
    for n in sorted({recording.info["parameters"]["n_dummy"] for recording in recordings}):
        if n:
            text += f"{'The first token' if n == 1 else f'The first {n} tokens'} of each text and all special tokens "
            text += "were excluded from the images. "
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
    return joined(known) if known else "lmri"


def _quality(section: Methods) -> None:
    section.add(
        "Quality control",
        f"Quality metrics were computed with lmri {storage.versions()['lmri']}; no data were excluded. DVARS was "
        "computed as the root mean square, over z-scored neurons, of the difference between a volume and the previous "
        "volume of the same text [@power2012]. Volumes whose DVARS was an outlier within the run (robust z) were "
        "counted as spikes. Activations were counted as massive if their absolute value exceeded 100 and was at least "
        "1,000 times the median absolute value of the layer [@sun2024].",
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
        f"The recordings of {_corpora(entry.inputs['corpora'])} at {entry.site} ({results['n_volumes']:,} volumes in "
        f"{plural(n_runs, 'run')}) were decomposed by {method_words(method)} into {_n_maps(parameters)} (named "
        f"“{entry.name}” below). {_standardized(parameters)} {_how(method, parameters, versions)} "
        f"{_SOURCES.get(method, '[@hyvarinen2000]')}. {_converged(starts['n_converged'], starts['n_starts'])}"
    )
    if parameters.get("signs", "skewness") == "skewness":
        text += "The sign of each map was chosen such that its heavier tail was positive. "
    else:
        text += f"The signs of the maps were those returned by the {parameters['signs']}. "
    if parameters.get("confounds"):
        text += f"The confounds {_quoted(parameters['confounds'])} were regressed out of every run. "
    if "order" in results:
        text += (
            f"The number of components was estimated as {results['order']['recommended']} by parallel analysis "
            "[@horn1965], with surrogates in which every neuron was circularly shifted independently; the minimum "
            "description length [@wax1985] was computed for comparison. "
        )
    text += _repeats(method, parameters)
    text += "".join(_threshold(networks) for networks in sets)
    section.add(f"Decomposition {entry.name}", text.rstrip(), _settings(parameters, ("method", "label", "confounds")))


def _dual_regression(section: Methods, entry: Entry, sets: Sequence[Entry]) -> None:
    parameters, results = entry.parameters, entry.results
    text = (
        f"The version of the group maps “{entry.inputs['decomposition']}” in this model was estimated by dual "
        f"regression [@nickerson2017] from the recordings of {_corpora(entry.inputs['corpora'])} at {entry.site} "
        f"({results['n_volumes']:,} volumes in {plural(results['n_runs'], 'run')}), using lmri "
        f"{entry.versions.get('lmri', '')}. {_standardized(parameters)} Each volume was regressed on the "
        f"{parameters.get('n_components')} group maps, and each neuron was then regressed on the resulting time "
        "courses of all runs, scaled to unit variance; both regressions included an intercept. The maps have the order "
        "and the signs of the group maps. A neuron contributes to the time course on which it is regressed, so its "
        "weight is not 0 even in noise. "
    )
    if parameters.get("confounds"):
        text += f"The confounds {_quoted(parameters['confounds'])} were regressed out of every run. "
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


def _standardized(parameters: Mapping[str, Any]) -> str:
    words = standardized_words(str(parameters.get("standardize")), str(parameters.get("scope")))
    if words.startswith("every neuron "):
        return f"Every neuron was {words.removeprefix('every neuron ')}."
    return f"The data were {words}."


def _how(method: str, parameters: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """Describe the estimation of the maps in sentences; the last one has no full stop, so that sources can follow."""
    seed = f"(random seed {parameters.get('random_state')})"
    if method == "canica":
        return (
            f"The components were estimated by CanICA as implemented in nilearn {versions.get('nilearn')}, from "
            f"{parameters.get('n_init')} random initializations {seed}, with {_smoothing(parameters)} and without "
            "detrending or CCA"
        )
    if method in ("ica", "ica-temporal"):
        reduced = "The data were reduced by an incremental group PCA. " if method == "ica" else ""
        solver = parameters.get("solver")
        cited = " [@ablin2018]" if solver == "picard" else ""
        return (
            f"{reduced}The components were estimated by {SOLVERS.get(str(solver), solver)}{cited} with the "
            f"nonlinearity {parameters.get('fun')}, as implemented in lmri {versions.get('lmri')}, from "
            f"{parameters.get('n_init')} random initializations {seed}, and the estimates of all initializations were "
            "clustered with ICASSO"
        )
    if method == "dictlearning":
        return (
            "The components were estimated by dictionary learning as implemented in nilearn "
            f"{versions.get('nilearn')}, with a sparsity penalty of {parameters.get('alpha')} and "
            f"{_smoothing(parameters)}, and without detrending {seed}"
        )
    return (
        f"The components were estimated by FastICA as implemented in scikit-learn {versions.get('scikit-learn')}, with "
        f"the nonlinearity {parameters.get('fun')} {seed}"
    )


def _smoothing(parameters: Mapping[str, Any]) -> str:
    fwhm = parameters.get("smoothing_fwhm")
    return f"smoothing by {fwhm:g} mm FWHM over neighbouring neuron indices" if fwhm else "no smoothing"


def _repeats(method: str, parameters: Mapping[str, Any]) -> str:
    text = ""
    if parameters.get("n_surrogates"):
        other = " with the temporal ICA of lmri" if method == "fastica-temporal" else ""
        text += (
            f"Null distributions were obtained by repeating the decomposition{other} on "
            f"{parameters['n_surrogates']} surrogate recordings, in which the time series of every neuron was "
            "circularly shifted within its run by an independent random amount (one initialization and at most "
            f"{SURROGATE_ITERATIONS} iterations per surrogate). "
        )
    if parameters.get("n_bootstraps"):
        text += (
            "Stability across texts was measured by the cluster index Iq over "
            f"{parameters['n_bootstraps']} bootstrap samples of the texts [@himberg2004]. "
        )
    if parameters.get("n_splits"):
        text += (
            f"Split-half reproducibility was computed over {parameters['n_splits']} random splits of the texts "
            "[@yang2008] and compared with arbitrary unmixings of the same data. "
        )
    return text


def _threshold(entry: Entry) -> str:
    """Describe how the neurons of a set of networks were selected."""
    parameters = entry.parameters
    method = parameters.get("by") or parameters["method"]  # set if networks were rejected manually afterwards
    cited = " [@benjamini1995]" if "fdr" in method else " [@beckmann2004]" if method == "mixture" else ""
    without = ("method", "description", "label", "by", "rejected")
    values = {name: value for name, value in parameters.items() if name not in without}
    threshold = THRESHOLDS.get(method)
    value = values.get(threshold.parameter) if threshold and threshold.parameter else None
    if threshold and threshold.sentence and (value is not None or not threshold.parameter):
        percent = f"{100 * value:.6g}" if value is not None else ""
        text = threshold.sentence.format(value=value if value is None else f"{value:g}", percent=percent)
    else:
        at, limit = threshold_words(method, values)
        description = f": {parameters['description']}" if parameters.get("description") else ""
        text = f"The maps were thresholded {at} {limit}{description}"
    text = f"For the network set “{entry.name}”, {text[0].lower()}{text[1:]}{cited}. "
    if "rejected" in parameters:
        number = len(parameters["rejected"])
        text += f"{plural(number, 'network').capitalize()} of this set {'was' if number == 1 else 'were'} rejected "
        text += "after visual inspection. "
    return text


def _comparisons(section: Methods, entries: Sequence[Entry]) -> None:
    seeds = joined(sorted({str(entry.parameters.get("seed")) for entry in entries}))
    compared = "; ".join(f"{_sets_compared(entry)} at {entry.site}" for entry in entries)
    between = several = ""
    if any("second_site" in entry.inputs for entry in entries):
        between = (
            "Between sites, time courses were matched instead of maps, and a second null distribution was obtained by "
            "exchanging whole texts. "
        )
    if any("first" not in entry.inputs for entry in entries):
        several = (
            "A consensus of several sets contains pairs that exceed their null distribution at 5 %, corrected for all "
            "comparisons. "
        )
    section.add(
        "Comparison of maps",
        f"The following sets of maps were compared: {compared}. Maps were matched one to one by the Hungarian "
        "algorithm, which maximized the sum of the absolute correlations |r| over neurons [@kuhn1955]. Because two "
        "bases of the same subspace always resemble each other, |r| was compared with a null distribution: the maps of "
        "one set were replaced by a random basis of the subspace that they span, and were matched again. The same was "
        "done with the other set, and the null distribution with the larger values was used. A pair was considered to "
        "exceed chance if its |r| was above the 95th percentile of the null distribution for pairs of the same "
        f"rank, without correction for the number of pairs. {between}{several}"
        f"Comparisons were computed with {_software(_same(entry.versions for entry in entries), _NUMERIC)} (random "
        f"seed {seeds}).",
    )


def _sets_compared(entry: Entry) -> str:
    inputs = entry.inputs
    return _quoted([inputs["first"], inputs["second"]] if "first" in inputs else inputs["sets"])


def _evaluation(section: Methods, entry: Entry, target: str) -> None:
    parameters, results = entry.parameters, entry.results
    scored = results.get("model")
    scores = (
        joined(
            f"{_quoted(names)} ({metric.replace('_', ' ')}; {'higher' if higher_is_better else 'lower'} is better)"
            for (metric, higher_is_better), names in _by_metric(results.get("tasks", [])).items()
        )
        if results.get("tasks")
        else "no task"
    )
    kind = str(parameters.get("intervention", "intervention"))
    text = (
        f"{_intervention(kind, target, entry.site, parameters)} The weights of the model were not changed. The model"
        f"{' ' + scored['id'] if scored else ''} was evaluated on {scores}. Confidence intervals (95 %) were "
        f"computed from {N_BOOTSTRAP:,} bootstrap samples of texts (percentile method). "
    )
    if results.get("p_floor", 1.0) < 1:
        early = results.get("design", {}).get("stop_after")
        text += (
            f"{_controls(parameters)} One-sided p-values for worse performance were computed as (1 + number of "
            "controls that performed at least as badly) / (1 + number of controls) [@phipson2010]"
            f"{' or, if drawing stopped early, by sequential Monte Carlo [@besag1991]' if early else ''}. Within each "
            "task, metric and family of controls, p-values were adjusted for the number of conditions by the procedure "
            f"of Benjamini and Hochberg [@benjamini1995]; q-values were computed only if the number of "
            f"controls was large enough to reach q ≤ {ALPHA}. "
        )
    else:
        text += "No matched controls were evaluated. "
    text += f"Evaluations were computed with {_software(entry.versions, _LIVE)}."
    section.add(f"Evaluation {entry.name}", text, _settings(parameters, ("intervention", "networks", "rois")))


def _by_metric(tasks: Iterable[Mapping[str, Any]]) -> dict[tuple[str, bool], list[str]]:
    """Group the names of tasks by metric and by whether higher values are better."""
    groups: dict[tuple[str, bool], list[str]] = {}
    for task in tasks:
        groups.setdefault((task["metric"], task["higher_is_better"]), []).append(task["name"])
    return groups


def _intervention(kind: str, target: str, site: str, parameters: Mapping[str, Any]) -> str:
    """Describe the change of activations."""
    neurons = target if target == OTHER_NEURONS else f"the neurons of {_quoted(target.split(', '))}"
    notation = parameters.get("baseline")
    if kind != "lesion" or not isinstance(notation, str):
        action = INTERVENTIONS.get(kind, kind)
        return f"The {action} of {neurons} at {site} was applied to the activations during the forward pass."
    baseline = Baseline.parse(notation)
    words = BASELINES[baseline.kind].words.format(corpus=_corpora([baseline.corpus]))
    return f"{sentence(neurons)} at {site} were lesioned: their activations were {words} during the forward pass."


def _controls(parameters: Mapping[str, Any]) -> str:
    """Describe the number of controls, and the properties that they share with their network."""
    named = parameters.get("controls") or []
    known = [CONTROLS[family].words for family in ([named] if isinstance(named, str) else named) if family in CONTROLS]
    number = parameters.get("n_controls")
    sets = f"{number} sets of random neurons" if number else "sets of random neurons"
    shared = f" Controls had {'; or '.join(known)}." if known else ""
    if parameters.get("intervention") == "lesion":
        return f"Each lesion was compared with the lesions of {sets} (controls).{shared}"
    return f"Each condition was compared with {sets} that were changed in the same way (controls).{shared}"


def _experiment(section: Methods, entry: Entry) -> None:
    inputs = entry.inputs
    sources = {name: value for name, value in inputs.items() if f"{name}_sha256" in inputs}
    named = (f"{name.replace('_', ' ')} {_value(value)}" for name, value in sources.items())
    of = f" from the {joined(named)}" if sources else ""
    section.add(
        f"Experiment {entry.name}",
        f"The result “{entry.results.get('title', entry.name)}” at {entry.site} was computed with "
        f"{_software(entry.versions, ('lmri',))}{of}.",
        _settings(entry.parameters),
    )


def _localizer(section: Methods, entry: Entry, sets: Sequence[Entry]) -> None:
    parameters, results, versions = entry.parameters, entry.results, entry.versions
    if parameters["test"] == "parametric":
        how = f"by nilearn's second level (nilearn {versions.get('nilearn')})"
    else:
        how = f"by permutation (random seed {parameters['random_state']}) [@nichols2002]"
    section.add(
        f"Localizer {entry.name}",
        f"The contrast “{parameters['contrast']}” was tested at {entry.site} {results.get('level', '')} texts, {how}, "
        f"as a functional localizer [@saxe2006]. {''.join(_threshold(networks) for networks in sets)}"
        f"The test was computed with {_software(versions, ('lmri', 'nilearn'))}.",
        _settings(parameters, ("method", "contrast")),
    )
