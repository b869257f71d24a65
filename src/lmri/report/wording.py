"""Labels: readable names of settings, thresholds and columns for pages; code and files keep the stored names."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from lmri.decomposition.confounds import CONFOUNDS
from lmri.decomposition.methods import METHODS
from lmri.lesions.scores.columns import SUMMARY
from lmri.networks.thresholds import THRESHOLDS

SOLVERS = {"fastica": "FastICA", "picard": "Picard"}

INTERVENTIONS = {"preserve": "preservation", "amplify": "amplification"}

_STANDARDIZED = {"zscore": "every neuron z-scored", "center": "every neuron centred on its mean"}
_SCOPES = {"run": "within each run", "study": "over all runs together"}

_METRICS = {
    "variance": "variance explained",
    "sign_determined": "sign determined",
    "layer_centre": "mean {slice}, whole map",
    "layer_entropy": "{slice} entropy",
    "top_token_share": "top {unit} share",
    "iq": "Iq",
    "iq_texts": "Iq over texts",
    "split_half_r": "split-half |r|",
    "split_half_null": "split-half null (95 %)",
    "spectral_peak": "spectral peak",
    "converged": "share converged",
    "max_abs_t": "largest |t|",
    "p_min": "smallest p",
    **{f"r_{name}": confound.heading for name, confound in CONFOUNDS.items()},
}
"""Labels of network metrics that differ from the stored names."""

_SHAPE = ("skewness", "sign_determined", "kurtosis", "sparsity", "layer_centre", "layer_entropy")

VIEWS = {"main": "overview", "shape": "shape of the map", "confounds": "confounds"}
"""Groups of columns of the table of networks, each narrow enough for a page."""

_COLUMNS = {
    **{name: column.heading for name, column in SUMMARY.items() if column.heading},
    "control_sd": "controls, sd",
    "control_low": "controls from",
    "control_high": "controls to",
    "r_null_95": "r, null 95 %",
    "chance_95": "chance, 95 %",
    "p_better": "p of improvement",
    "q_better": "q of improvement",
    "p_min": "smallest p",
    "p_uncorrected": "p, uncorrected",
    "p_corrected": "p, corrected",
    "p_floor": "smallest possible p",
    "K": "K",
}
"""Labels of columns of tables that differ from the stored names; those of scores are in `SUMMARY`."""

_SUBSCRIPTED = re.compile(r"\b([pq])_(better|worse)\b")
_SETTING = re.compile(r"\b(standardize = \w+)")
_FAMILY = re.compile(r"\blayer\+\w+(?:\+\w+)*")
_HYPHENS = re.compile(r"(?:(?<=^)|(?<=[\s(\[]))-(?=\d)")


def metric_heading(name: str, slice_: str = "layer", unit: str = "token") -> str:
    """Return the label of a network metric.

    Examples
    --------
    >>> metric_heading("p_min"), metric_heading("layer_entropy", "slice"), metric_heading("own_metric")
    ('smallest p', 'slice entropy', 'own metric')
    """
    if name not in _METRICS:
        return name.replace("_", " ")
    return _METRICS[name].format(slice=slice_, unit=unit)


def view_of(name: str) -> str:
    """Return the group of columns that a metric belongs to."""
    return "shape" if name in _SHAPE else "confounds" if name.startswith("r_") else "main"


def heading(column: str) -> str:
    """Return the label of a column of a stored table; by default its name with spaces.

    Examples
    --------
    >>> heading("ci_low"), heading("n_items"), heading("control_recovered")
    ('95 % from', 'n items', 'control recovered')
    """
    return _COLUMNS.get(column, column.replace("_", " "))


def cell(column: str, value: object) -> object:
    """Format the name of a metric or control family for display.

    Examples
    --------
    >>> cell("metric", "nats_per_token"), cell("control_family", "layer+size"), cell("task", "a_b")
    ('nats per token', 'layer + size', 'a_b')
    """
    if column == "metric" and isinstance(value, str):
        return value.replace("_", " ")
    if column == "control_family" and isinstance(value, str):
        return value.replace("+", " + ")
    return value


def typeset(text: Any) -> Markup:
    """Typeset stored text: subscripts of p and q, settings as code, true minus signs; everything else is escaped.

    Examples
    --------
    >>> print(typeset("ica-02: -0.5 (-1 to 2), p_better < 0.1"))
    ica-02: −0.5 (−1 to 2), p<sub>better</sub> &lt; 0.1
    """
    words = _FAMILY.sub(lambda match: match[0].replace("+", " + "), _HYPHENS.sub("−", str(escape(text))))
    return Markup(_SETTING.sub(r"<code>\1</code>", _SUBSCRIPTED.sub(r"\1<sub>\2</sub>", words)))


def method_words(method: str) -> str:
    """Return the label of a decomposition method."""
    if method in METHODS:
        return METHODS[method].words
    return "dual regression of a group" if method == "dual-regression" else method


def standardized_words(standardize: str, scope: str) -> str:
    """Describe the standardization of neurons.

    Examples
    --------
    >>> standardized_words("zscore", "run"), standardized_words("none", "study")
    ('every neuron z-scored within each run', 'activations as recorded')
    """
    if standardize == "none":
        return "activations as recorded"
    return f"{_STANDARDIZED.get(standardize, standardize)} {_SCOPES.get(scope, f'within {scope}')}"


def threshold_words(method: str, values: Mapping[str, Any]) -> tuple[str, str]:
    """Describe the threshold that selected the neurons: a preposition, and the limit.

    Examples
    --------
    >>> threshold_words("fdr", {"alpha": 0.05, "n_surrogates": 20})
    ('at', 'a false discovery rate of 0.05 (20 surrogates)')
    >>> threshold_words("z", {"z": 3.0}), threshold_words("top", {"share": 0.01})
    (('by', 'z (z = 3)'), ('at', 'the strongest 1 % of all neurons'))
    >>> threshold_words("mine", {"my_limit": 2})
    ('by', 'mine (my limit 2)')
    """
    known, kind = dict(values), method.split("-")[0]
    alpha = _plain(known.get("alpha", ""))
    if kind in ("max_t", "parametric") and alpha:
        known.pop("alpha")
        side = [_side(method)] if "-" in method else []
        error, how = ("familywise error", "largest t") if kind == "max_t" else ("false discovery rate", "parametric")
        return "at", f"a {error} of {alpha}" + _brackets([how, *side, *_rest(known)])
    if method not in THRESHOLDS:
        return "by", method.replace("_", " ") + _brackets(_rest(known))
    threshold = THRESHOLDS[method]
    at, _, words = threshold.words.partition(" ")
    value = known.pop(threshold.parameter, "") if threshold.parameter else ""
    notes = [threshold.note] if threshold.note else []
    if "{" not in words:
        equal = [] if value == "" else [f"{threshold.parameter} = {_plain(value)}"]
        return at, words + _brackets([*equal, *notes, *_rest(known)])
    if value == "":
        return "by", method.replace("_", " ") + _brackets(_rest(known))
    percent = f"{100 * float(value):.6g}" if "{percent}" in words else ""
    return at, words.format(value=_plain(value), percent=percent) + _brackets([*notes, *_rest(known)])


def _side(method: str) -> str:
    return {"positive": "positive t alone", "negative": "negative t alone"}.get(method.split("-", 1)[1], method)


_COUNTS = {"n_surrogates": "{} surrogates", "n_permutations": "{} permutations", "most": "{} neurons at most"}


def _rest(values: Mapping[str, Any]) -> list[str]:
    return [
        _COUNTS[name].format(_plain(value)) if name in _COUNTS else f"{name.replace('_', ' ')} {_plain(value)}"
        for name, value in values.items()
        if value not in ("", None)
    ]


def _brackets(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def _plain(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)
