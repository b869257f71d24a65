"""What commands do between their options and the library, each stage as one function."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lmri.cli.console import Output, check_new_figure, quote, records
from lmri.decomposition.stored import decomposition_identity
from lmri.exceptions import EntryExistsError
from lmri.networks import NetworkSet
from lmri.networks.comparison import (
    AnyComparison,
    Consensus,
    CourseComparison,
    check_standardization,
    compare,
    compare_many,
)
from lmri.networks.thresholds import THRESHOLDS, SurrogateNull, needs_null, value_name
from lmri.storage import ENTRY_KINDS, check_writable
from lmri.storage.freshness import KINDS
from lmri.study import Study, open_study

if TYPE_CHECKING:
    pass

NAMED = (*KINDS, "first", "second", "second_site", "sets")
"""Inputs of an entry that have a name in the study."""

Threshold = tuple[str | None, dict[str, float]]


def parse_threshold(text: str | None) -> Threshold:
    """Read ``METHOD`` or ``METHOD:VALUE``.

    Examples
    --------
    >>> parse_threshold("z:2.5")
    ('z', {'z': 2.5})
    """
    if text is None:
        return None, {}
    method, _, value = text.partition(":")
    if method not in THRESHOLDS:
        raise ValueError(f"The threshold is {method!r}; accepted are {', '.join(THRESHOLDS)}.")
    if not value:
        return method, {}
    name = value_name(method)
    if name is None:
        raise ValueError(f"The threshold {method!r} takes no value, but {value!r} was given. Leave it out.")
    try:
        values = {name: float(value)}
    except ValueError:
        raise ValueError(f"The threshold {text!r} has the value {value!r}, which is not a number.") from None
    # Fails now on a bad value, rather than after the fit.
    null = {"null": SurrogateNull.from_maps([np.zeros((1, 2))])} if needs_null(method) else {}
    THRESHOLDS[method](np.zeros((1, 2)), **null, **values)
    return method, values


@dataclass(frozen=True)
class Repeats:
    """How often a decomposition is repeated, to know what it is worth.

    Parameters
    ----------
    n_surrogates : int
        On surrogates, for the threshold.
    n_bootstraps, n_splits : int
        On other samples of the texts, for stability.
    """

    n_surrogates: int = 20
    n_bootstraps: int = 0
    n_splits: int = 0


def decompose_study(
    output: Output,
    study: Study,
    method: str,
    site: str | None,
    corpora: Sequence[str] | None,
    parameters: Mapping[str, Any],
    threshold: Threshold,
    name: str | None,
    repeats: Repeats,
    n_jobs: int = 1,
    confounds: Sequence[str] = (),
) -> tuple[NetworkSet, str]:
    """Fit a decomposition unless it is there, threshold it, store both, and give the networks and their name."""
    from lmri.decomposition import build
    from lmri.decomposition.confounds import select
    from lmri.decomposition.reproducibility import FEWEST_TEXTS, reproducibility, volume_texts

    check_writable(study.root)
    recordings = study.group(site, corpora)
    space = recordings[0].space
    estimator = build(method, space, **parameters)
    label = name or estimator.method_name
    nuisance = select(recordings, confounds) if confounds else None
    estimator.announce(nuisance)
    identity = decomposition_identity(
        estimator, recordings, repeats.n_surrogates, repeats.n_bootstraps, repeats.n_splits
    )
    if not study.entries.has("decompositions", space.site, label, *identity):
        if study.layout.entry("networks", space.site, label).is_dir():
            raise EntryExistsError(
                f"{label!r} exists among the networks at {space.site} in {study.root}, made of a decomposition that is "
                f"no longer there. Nothing is overwritten: choose another --name, or delete "
                f"{study.layout.entry('networks', space.site, label)} and what was made of it."
            )
        texts = volume_texts(recordings)
        n_texts = len({name for run in texts for name in run})
        if (repeats.n_bootstraps or repeats.n_splits) and n_texts < FEWEST_TEXTS:
            raise ValueError(
                f"There are {n_texts} texts, too few to ask what others would give (at least {FEWEST_TEXTS}). Record "
                "more, or leave out --n-bootstraps and --n-splits."
            )
        with output.progress(f"Decomposing by {method}"):
            estimator.fit([img for recording in recordings for img in recording.imgs], confounds=nuisance)
        if repeats.n_surrogates:
            with output.progress(f"Repeating it on {repeats.n_surrogates} surrogates"):
                estimator.surrogate_null(repeats.n_surrogates, n_jobs)
        found = None
        if repeats.n_bootstraps or repeats.n_splits:
            with output.progress("Repeating it on other samples of the texts") as progress:
                found = reproducibility(
                    estimator,
                    texts,
                    repeats.n_bootstraps,
                    repeats.n_splits,
                    n_jobs=n_jobs,
                    progress=progress,
                )
        study.save_decomposition(estimator, recordings, label, found)
    networks = study.decomposition(label, space.site).threshold(threshold[0], **threshold[1])
    study.save_networks(networks, label)
    return study.networks(label, space.site), label


def decompose_as_paper(
    study: Study,
    site: str | None = None,
    threshold: float = 3.6,
    *,
    corpora: Sequence[str] | None = None,
    n_components: int = 10,
    seed: int = 0,
    name: str = "paper-parity",
    output: Output | None = None,
) -> tuple[NetworkSet, str]:
    """Decompose with the paper's choices unless exactly that is there, and give the stored networks and their name.

    Parameters
    ----------
    study : Study
        With recordings.
    site : str, optional
        Needed if there are several.
    threshold : {3.6, 1.96}, default=3.6
        One-sided z: of the paper's lesions, or the default of its code.
    corpora : sequence of str, optional
        All at the site by default; they are stacked in time.
    n_components : int, default=10
        The paper: 10, and for preservation up to 512.
    seed : int, default=0
        Of the start.
    name : str, default="paper-parity"
        Of decomposition and networks.
    output : Output, optional
        Where progress is shown.
    """
    from lmri.lesions.experiments.parity import METHOD, as_parity, check_z, paper_estimator

    check_z(threshold)
    output = output or Output(quiet=True)
    recordings = study.group(site, corpora)
    at = recordings[0].space.site
    estimator = paper_estimator(recordings[0].space, seed, n_components)
    if not study.entries.has("decompositions", at, name, *decomposition_identity(estimator, recordings)):
        with output.progress(f"Decomposing by {METHOD}, as in the paper"):
            estimator.fit([img for recording in recordings for img in recording.imgs])
        study.save_decomposition(estimator, recordings, name)
    networks = as_parity(study.decomposition(name, at).threshold("z_positive", z=threshold))
    study.save_networks(networks, name)
    return study.networks(name, at), name


def say_empty(output: Output, folder: Path, decomposition: str, networks: NetworkSet) -> None:
    """Say what no neuron in any network means, and what can be done."""
    hint = site_hint(folder, networks.space.site)
    z = networks.info["threshold"]["method"] != "z"
    by, name = ("z:3", "z3") if z else ("top:0.01", "top1")
    other = (
        " The hidden units often show more: lmri record ... --site mlp_hidden."
        if networks.space.site == "mlp_out"
        else ""
    )
    output.say(
        "No network keeps a neuron: none stands out of its map beyond this threshold. That is a result, and says "
        "nothing against the maps as a whole: look at Iq, at lmri describe and at other methods. To choose neurons all "
        f"the same, by a descriptive threshold: lmri threshold {quote(folder)} {decomposition} --by {by} --name "
        f"{decomposition}-{name}{hint}.{other}"
    )


_STABILITY = {"Iq": "iq", "Iq texts": "iq_texts", "split-half r": "split_half_r"}


def brief(networks: NetworkSet) -> pd.DataFrame:
    """Choose the columns of a network table that fit on a screen."""
    table = networks.table
    return pd.DataFrame(
        {
            "network": table["network"],
            **({"label": table["label"]} if "label" in table else {}),
            "neurons": table["n_neurons"],
            "positive": table["n_positive"],
            "mean layer": table["mean_layer"].round(1),
            "variance %": (100 * table["variance"]).round(2),
            **{shown: table[key].round(2) for shown, key in _STABILITY.items() if key in table},
            "sign": ["" if known else "undetermined" for known in table["sign_determined"]],
        }
    )


def compare_stored(
    study: Study, names: Sequence[str], site: str | None, seed: int, mixed_standardization: bool
) -> AnyComparison:
    """Compare stored network sets by their maps, or two of two sites by their time courses.

    A name may say its site, as ``canica@mlp_out``.
    """
    sets: list[NetworkSet] = []
    for name in names:
        label, _, own = name.partition("@")
        # Without a word on it, all are at the site of the first.
        sets.append(study.networks(label, own or site or (sets[0].space.site if sets else None)))
    places = [(one.method, one.space.site) for one in sets]
    if repeated := sorted({"@".join(one) for one in places if places.count(one) > 1}):
        raise ValueError(f"{', '.join(repeated)} was named twice; a set always agrees with itself. Name others.")
    if len({at for _, at in places}) == 1:
        if len(sets) == 2:
            return compare(sets[0], sets[1], seed, not mixed_standardization)
        return compare_many(sets, seed, same_standardization=not mixed_standardization)
    if len(sets) > 2:
        raise ValueError(
            f"The sets are of several sites ({', '.join(map('@'.join, places))}): other neurons, which have no maps in "
            "common. Compare two of them at a time, by their time courses."
        )
    if not mixed_standardization:
        check_standardization(sets[0], sets[1])
    return study.compare_sites(places[0], places[1], seed)


def comparison_result(found: AnyComparison) -> dict[str, Any]:
    """Give a comparison as JSON."""
    if isinstance(found, Consensus):
        return {
            "n_found_by_all": found.n_found_by_all,
            "consensus": records(found.table),
            "pairs": records(found.pairs),
            "sets": records(found.overview),
        }
    return {
        "mean_abs_r": found.mean_r,
        "null_mean": found.null_mean,
        "null_95": found.null_95,
        "pairs": records(found.table),
    }


def say_comparison(output: Output, found: AnyComparison) -> None:
    """Show a comparison to people."""
    if isinstance(found, Consensus):
        _say_consensus(output, found)
        return
    above = int(found.table["above_null"].sum())
    what = "random orders and unmixings" if isinstance(found, CourseComparison) else "arbitrary unmixings"
    output.say(
        f"Mean matched |r| of {found.first.method} and {found.second.method}: {found.mean_r:.3f}; "
        f"{what} give {found.null_mean:.3f} (95 %: {found.null_95:.3f}). "
        f"{above} of {len(found.table)} pairs exceed the null."
    )
    columns = {"r": found.table["r"].round(3), "null 95 %": found.table["r_null_95"].round(3)}
    if "iou" in found.table:
        columns |= {"IoU": found.table["iou"].round(2), "IoU null 95 %": found.table["iou_null_95"].round(2)}
        columns |= {"both": found.table["n_both"]}
    output.table(pd.DataFrame({"first": found.table["first"], "second": found.table["second"], **columns}))


def _say_consensus(output: Output, found: Consensus) -> None:
    n, table = len(found.sets), found.table
    output.say(f"{len(table)} networks were found by two or more of {n} sets, {found.n_found_by_all} of them by all.")
    shown = {
        "network": table["network"],
        "found by": table["found_by"],
        "mean |r|": table["mean_r"].round(3),
        "limit": table["r_limit"].round(3),
        "IoU": table["mean_iou"].round(2),
        "stability": table["iq"].round(2),
    }
    for name in found.names:  # the set is in the heading already
        shown[name] = [map_.rsplit("-", 1)[-1] for map_ in table[name]]
    output.table(pd.DataFrame(shown).dropna(axis="columns", how="all"))
    overview = found.overview.rename(columns={"n_networks": "networks", "n_found": "found again", "iq": "stability"})
    output.table(overview.dropna(axis="columns", how="all").round(2))
    output.table(found.pairs.round(3), "Every two sets: mean matched |r| beside its null")


def site_hint(folder: Path, site: str) -> str:
    """Give the option that the next command needs if more than one site was recorded."""
    return f" --site {site}" if len(open_study(folder).sites) > 1 else ""


def save_figure(path: Path, found: AnyComparison) -> None:
    """Draw a comparison into a new file."""
    from lmri.report.figures import comparison_figure
    from lmri.storage import write_text

    check_new_figure("--figure", path)
    write_text(path, comparison_figure(found))


def study_contents(study: Study) -> pd.DataFrame:
    """List recordings and entries."""
    rows = [
        {"kind": "recording", "name": one.corpus, "site": one.space.site, "made of": f"{one.n_volumes} volumes"}
        for one in study.recordings()
    ]
    for kind in ENTRY_KINDS:
        for entry in study.entries.list(kind):
            inputs = [value for key, value in entry.inputs.items() if key in NAMED and value]
            made_of = ", ".join(", ".join(value) if isinstance(value, list) else str(value) for value in inputs)
            rows.append({"kind": kind, "name": entry.name, "site": entry.site, "made of": made_of})
    return pd.DataFrame(rows, columns=["kind", "name", "site", "made of"])
