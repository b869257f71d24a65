"""Methods: a paragraph for every stage that was run, from what the entries say of themselves, with its references."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmri import storage
from lmri.decomposition.base import SURROGATE_ITERATIONS
from lmri.decomposition.quality.findings import sentence
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
"""What a result depends on where the model runs; all versions stand below the methods."""


def methods(reader: ReportReader, quality: Sequence[Mapping[str, Any]]) -> Methods:
    """Write the methods of a study.

    Parameters
    ----------
    reader : ReportReader
        The study.
    quality : sequence of mapping
        What the report shows of quality control.
    """
    made = Methods()
    _recording(made, reader)
    if any(one["tables"] for one in quality):
        _quality(made)
    decompositions = reader.entries["decompositions"]
    for entry in decompositions:
        if entry.parameters.get("method") != LOCALIZER:
            _decomposition(made, entry, _sets_of(reader, entry))
    if reader.entries["networks"]:
        made.add(
            "Time courses and spectra",
            "Time courses are those of the whole maps of the decomposition, not of the members of a network, in "
            "standard deviations from the mean of the whole time course. Power spectra are by Welch's method "
            "[@welch1967] with Hann windows that overlap by half, text by text, averaged over texts; texts that are "
            "shorter than a window (a power of two that half of the texts reach, 16 to 256 volumes) are left out. A "
            "peak exceeds red noise, an "
            "autoregression of order 1 fitted by Whittle's likelihood [@gilman1963], beyond what chance gives in any "
            "of the networks (chi-squared, Bonferroni, 5 %).",
        )
    if reader.entries["comparisons"]:
        _comparisons(made, reader.entries["comparisons"])
    for entry in reader.entries["scores"]:
        _evaluation(made, entry, scored_neurons(entry, reader.entries["experiments"]))
    for entry in reader.entries["experiments"]:
        _experiment(made, entry)
    for entry in decompositions:
        if entry.parameters.get("method") == LOCALIZER:
            _localizer(made, entry, _sets_of(reader, entry))
    return made


def _sets_of(reader: ReportReader, source: Entry) -> list[Entry]:
    """Find the sets of networks that were thresholded from a decomposition."""
    return [
        one
        for one in reader.entries["networks"]
        if (one.inputs.get("decomposition"), one.site) == (source.name, source.site)
    ]


def listed(values: Mapping[str, Any], without: Sequence[str] = ()) -> list[str]:
    """Write settings as ``name = value``; lists by their parts."""
    shown = {name: value for name, value in values.items() if name not in without and value not in ("", None, [], {})}
    return [f"{name} = {_value(value)}" for name, value in shown.items()]


def _settings(values: Mapping[str, Any], without: Sequence[str] = ()) -> list[tuple[str, Sequence[str]]]:
    own = listed(values, without)
    return [("", own)] if own else []


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}: {_value(one)}" for name, one in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(_value, value)) if isinstance(value, list) else str(value)


def site_words(site: str) -> str:
    """Say what a site is."""
    own = site_wording(site)
    return own + " in the decoder" if site.startswith(DECODER) else own


def _recording(made: Methods, reader: ReportReader) -> None:
    model = reader.study.model
    recordings = reader.recordings
    revision = f", revision {model.revision}" if model.revision else ""
    about = f"{model.id} ({model.model_type}, {model.dtype}{revision}, weights {model.fingerprint})"
    if not recordings:
        made.add("Recording", f"Nothing that is whole was recorded of {about}. The design is that of [@liu2025].")
        return
    sites = " and ".join(f"{site} ({site_words(site)})" for site in sorted({one.space.site for one in recordings}))
    versions = _same(one.info["versions"] for one in recordings)
    meaning = volume_meaning(recordings)
    per = f" (a volume is {meaning if meaning.startswith('every') else f'a {meaning}'})" if meaning else ""
    text = (
        f"Activations of {about} at {sites} were recorded with "
        f"{_software(versions, _LIVE)} while the model read each text on its own, and "
        f"stored as 4D NIfTI images{per} [@liu2025], "
        "as a derivative dataset after BIDS [@gorgolewski2016]. "
    )
    for n in sorted({one.info["parameters"]["n_dummy"] for one in recordings}):
        if n:
            text += f"{'The first token' if n == 1 else f'The first {n} tokens'} of each text and special tokens were "
            text += "left out of the images. "
        else:
            text += "Special tokens were left out of the images. "
    groups: dict[tuple[str, ...], list[str]] = {}
    for one in recordings:
        settings = tuple(listed(one.info["parameters"]))
        own = groups.setdefault(settings, [])
        if one.corpus not in own:
            own.append(one.corpus)
    made.add(
        "Recording", text.rstrip(), [(", ".join(names), settings) for settings, names in groups.items() if settings]
    )


def _same(versions: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Put versions together: several of one package are all named."""
    found: dict[str, list[str]] = {}
    for own in versions:
        for name, version in own.items():
            found.setdefault(name, [])
            if version not in found[name]:
                found[name].append(version)
    return {name: " and ".join(sorted(several)) for name, several in found.items()}


def _software(versions: Mapping[str, str], names: Sequence[str]) -> str:
    known = [f"{name} {versions[name]}" for name in names if name in versions]
    return ", ".join(known) if known else "lmri"


def _quality(made: Methods) -> None:
    made.add(
        "Quality control",
        "Recordings were looked at, and nothing was removed. DVARS is the root mean "
        "square, over z-scored neurons, of the difference from the volume before in the same text [@power2012]; a "
        "spike is an outlying one in its run, by robust z. A massive activation is a |value| above 100 and 1,000 times "
        f"the median |value| of its layer [@sun2024]. Made with lmri {storage.versions()['lmri']}, or read as stored.",
    )


_SOURCES = {
    "ica": "[@hyvarinen1999,smith2014,himberg2004]",
    "ica-temporal": "[@hyvarinen1999,himberg2004]",
    "canica": "[@varoquaux2010]",
    "dictlearning": "[@mensch2016]",
}


def _decomposition(made: Methods, entry: Entry, sets: Sequence[Entry]) -> None:
    parameters, results, versions = entry.parameters, entry.results, entry.versions
    method = parameters["method"]
    starts, n_runs = results["convergence"], results["n_runs"]
    text = (
        f"At {entry.site}, {method_words(method)} ({_n_maps(parameters)}; "
        f"{standardized_words(str(parameters.get('standardize')), str(parameters.get('scope')))}; "
        f"seed {parameters.get('random_state')}) of "
        f"{', '.join(entry.inputs['corpora'])} ({results['n_volumes']:,} volumes in "
        f"{plural(n_runs, 'run')}) gave the maps of {entry.name}: {_how(method, parameters, versions)} "
        f"{_SOURCES.get(method, '[@hyvarinen2000]')}. "
    )
    if starts["n_starts"]:  # else the solver does not say
        text += f"Of {plural(starts['n_starts'], 'start')}, {starts['n_converged']} converged. "
    if parameters.get("signs", "skewness") == "skewness":
        text += "Maps are signed so that the heavier tail is positive. "
    else:
        text += f"Signs of the maps are as the {parameters['signs']} gave them. "
    if parameters.get("confounds"):
        text += f"Confounds were regressed out of every run: {', '.join(parameters['confounds'])}. "
    if "order" in results:
        text += (
            f"The number of maps was estimated as {results['order']['recommended']} by parallel analysis [@horn1965], "
            "against neurons that were shifted circularly on their own, beside the minimum description length "
            "[@wax1985]. "
        )
    text += _repeats(method, parameters)
    text += "".join(_threshold(one) for one in sets)
    made.add(f"Decomposition {entry.name}", text.rstrip(), _settings(parameters, ("method", "label", "confounds")))


def _n_maps(parameters: Mapping[str, Any]) -> str:
    n = parameters.get("n_components")
    return plural(n, "component") if isinstance(n, int) else "as many components as were estimated"


def _how(method: str, parameters: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """Say in words what the method does; those of others by their package."""
    if method == "canica":
        return (
            f"nilearn {versions.get('nilearn')}, {parameters.get('n_init')} starts, {_smoothing(parameters)}, no "
            "detrending or CCA"
        )
    if method in ("ica", "ica-temporal"):
        reduced = ", after an incremental group PCA" if method == "ica" else ""
        solver = parameters.get("solver")
        cited = " [@ablin2018]" if solver == "picard" else ""
        return (
            f"lmri {versions.get('lmri')}, {SOLVERS.get(str(solver), solver)}{cited} with the nonlinearity "
            f"{parameters.get('fun')}, {parameters.get('n_init')} starts clustered by ICASSO{reduced}"
        )
    if method == "dictlearning":
        return (
            f"nilearn {versions.get('nilearn')}, sparsity penalty {parameters.get('alpha')}, {_smoothing(parameters)}, "
            "no detrending"
        )
    return f"scikit-learn {versions.get('scikit-learn')}, nonlinearity {parameters.get('fun')}"


def _smoothing(parameters: Mapping[str, Any]) -> str:
    fwhm = parameters.get("smoothing_fwhm")
    return f"smoothed by {fwhm:g} mm over neighbouring neuron numbers" if fwhm else "no smoothing"


def _repeats(method: str, parameters: Mapping[str, Any]) -> str:
    text = ""
    if parameters.get("n_surrogates"):
        other = ", by lmri's own temporal ICA" if method == "fastica-temporal" else ""
        text += (
            f"The whole pipeline was repeated on {parameters['n_surrogates']} surrogates, in which every neuron was "
            f"shifted circularly on its own within its run{other}; one start each, of {SURROGATE_ITERATIONS} "
            "iterations at most. "
        )
    if parameters.get("n_bootstraps"):
        text += (
            f"Stability over texts is the cluster index Iq of {parameters['n_bootstraps']} bootstraps of the texts "
            "[@himberg2004]. "
        )
    if parameters.get("n_splits"):
        text += (
            f"Split-half reproducibility is over {parameters['n_splits']} random halves of the texts [@yang2008], "
            "beside arbitrary unmixings of the same data. "
        )
    return text


def _threshold(entry: Entry) -> str:
    parameters = entry.parameters
    method = parameters.get("by") or parameters["method"]  # a person may have rejected some since
    cited = " [@benjamini1995]" if "fdr" in method else " [@beckmann2004]" if method == "mixture" else ""
    without = ("method", "description", "label", "by", "rejected")
    at, limit = threshold_words(method, {name: value for name, value in parameters.items() if name not in without})
    return f"Networks {entry.name} were thresholded {at} {limit}: {parameters.get('description', '')}{cited}. "


def _comparisons(made: Methods, entries: Sequence[Entry]) -> None:
    seeds = sorted({str(one.parameters.get("seed")) for one in entries})
    between = several = ""
    if any("second_site" in one.inputs for one in entries):
        between = "Between sites, time courses were matched instead, and texts in random order are a second null. "
    if any("first" not in one.inputs for one in entries):
        several = (
            "A consensus of several sets takes pairs that exceed their null at 5 % over all comparisons together. "
        )
    made.add(
        "Comparison of methods",
        "Maps of two methods were matched one to one by the Hungarian algorithm on |r| [@kuhn1955]. The null is an "
        "arbitrary unmixing of the subspace of either method, matched again; the stricter of the two counts, at 5 % "
        f"for the pair of each rank, without correction for their number. {between}{several}"
        f"Compared: {', '.join(f'{one.name} at {one.site}' for one in entries)} (seed {', '.join(seeds)}; "
        f"{_software(_same(one.versions for one in entries), ('lmri', 'numpy', 'scipy'))}).",
    )


def _evaluation(made: Methods, entry: Entry, of: str) -> None:
    parameters, results = entry.parameters, entry.results
    scored = results.get("model")
    tasks = ", ".join(
        f"{task['name']} ({task['metric'].replace('_', ' ')}, "
        f"{'more' if task['higher_is_better'] else 'less'} is better)"
        for task in results.get("tasks", [])
    )
    kind = str(parameters.get("intervention", "intervention"))
    what = sentence(INTERVENTIONS.get(kind, kind))
    text = (
        f"{what} of {of} at {entry.site} was made with hooks on the live "
        f"model{' ' + scored['id'] if scored else ''}, and scored on "
        f"{tasks or 'no task'}. Intervals are percentiles of {N_BOOTSTRAP:,} "
        "bootstrap samples of texts. "
    )
    if results.get("p_floor", 1.0) < 1:
        design = results.get("design", {})
        text += (
            f"{_controls(parameters)}; p, one-sided, towards worse, is "
            "(1 + controls at least as bad) / (1 + controls) [@phipson2010]"
        )
        text += (
            " or, where draws stopped early, that of sequential tests [@besag1991]" if design.get("stop_after") else ""
        )
        text += (
            f", and q the false discovery rate over all conditions of a task, metric and family of controls "
            f"[@benjamini1995], given where the smallest possible p could reach {ALPHA}. "
        )
    else:
        text += "There were no matched controls. "
    text += f"Made with {_software(entry.versions, _LIVE)}."
    made.add(f"Evaluation {entry.name}", text, _settings(parameters, ("intervention", "networks", "rois")))


def _controls(parameters: Mapping[str, Any]) -> str:
    """Say what controls have in common with their network, by the families that were asked for."""
    named = parameters.get("controls") or []
    known = [CONTROLS[one].words for one in ([named] if isinstance(named, str) else named) if one in CONTROLS]
    return f"Controls have {'; or '.join(known)}" if known else "Controls are matched neurons"


def _experiment(made: Methods, entry: Entry) -> None:
    inputs = entry.inputs
    sources = {name: value for name, value in inputs.items() if f"{name}_sha256" in inputs}
    named = (f"{name.replace('_', ' ')} {_value(value)}" for name, value in sources.items())
    of = f", made of {', '.join(named)}" if sources else ""
    made.add(
        f"Experiment {entry.name}",
        f"{entry.results.get('title', entry.name)} at {entry.site}{of}. "
        f"Made with {_software(entry.versions, ('lmri',))}.",
        _settings(entry.parameters),
    )


def _localizer(made: Methods, entry: Entry, sets: Sequence[Entry]) -> None:
    parameters, results, versions = entry.parameters, entry.results, entry.versions
    if parameters["test"] == "parametric":
        how = f"by nilearn's second level (nilearn {versions.get('nilearn')})"
    else:
        how = f"by permutation (seed {parameters['random_state']}) [@nichols2002]"
    made.add(
        f"Localizer {entry.name}",
        f"At {entry.site}, the contrast {parameters['contrast']} was tested {results.get('level', '')} texts {how}, a "
        f"functional localizer [@saxe2006]. {''.join(_threshold(one) for one in sets)}"
        f"Made with {_software(versions, ('lmri', 'nilearn'))}.",
        _settings(parameters, ("method", "contrast")),
    )
