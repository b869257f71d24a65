"""Table of the performance of methods and thresholds on phantoms and nulls, over several seeds."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from lmri.decomposition.phantom.evaluation import EFFECT_EDGES, false_maps, measure, power_by_effect
from lmri.decomposition.phantom.nulls import NULLS
from lmri.decomposition.phantom.planting import Phantom, plant
from lmri.exceptions import ConvergenceWarning, DataWarning, LMRIWarning
from lmri.networks import NetworkSet
from lmri.networks.thresholds import THRESHOLDS as KNOWN_THRESHOLDS
from lmri.networks.thresholds import value_name
from lmri.space import Img, NeuronSpace

Maker = Callable[[int], Phantom]
"""Function from a seed to a phantom."""

HARD = {"n_engaged": 5, "strength": (0.6, 1.2)}

PHANTOMS: dict[str, dict[str, Any]] = {
    "sharp": {},
    "hard": HARD,
    "short-runs": {"n_engaged": 5, "n_runs": 100, "n_volumes": 30},
    "graded": {"weights": "graded"},
    "unequal": {"strength": (0.3, 3.0)},
    "gaussian-time-courses": {"time_courses": "gaussian"},
    "massive": {"n_massive": 4},
    "trend": {"trend": 1.0},
    "minority-25": {"minority": 0.25},
}
"""Parameters of each named phantom that differ from the defaults of `plant`; sized for 12 layers of 768 neurons.

In ``hard``, 5 of 20 networks are active in each run, with strengths from 0.6 to 1.2: a regression on the true time
courses of the 750 volumes in which a network is active would correlate with the weakest map at 0.85, so that all
networks are just detectable.
"""

THRESHOLDS = ("z:3", "robust_z:3", "top:0.01", "auto", "fdr_gaussian", "fdr", "mixture")
"""Thresholds of the table, as on the command line."""

N_COMPONENTS = 20
"""Number of maps on a null; on a phantom it is the number of planted networks."""

EFFECTS = tuple(f"power_{low:g}_{high:g}".replace("inf", "up") for low, high in pairwise(EFFECT_EDGES))


def make(
    name: str, space: NeuronSpace, random_state: int = 0, imgs: Sequence[Img] | None = None, **changes: Any
) -> Phantom:
    """Create a phantom or a null by its name.

    Parameters
    ----------
    name : str
        Name from `PHANTOMS` or `NULLS`.
    space : NeuronSpace
        Neuron space.
    random_state : int, default=0
        Random seed.
    imgs : sequence of path or Nifti1Image, optional
        Images of the recording that ``"salmon"`` shifts.
    **changes
        Other parameters of `plant`, or of the null.

    Raises
    ------
    ValueError
        If the name is unknown, or there is no recording for ``"salmon"``.
    """
    if name == "salmon":
        if not imgs:
            raise ValueError("imgs is missing; 'salmon' shifts a real recording. Pass imgs=recording.imgs.")
        return NULLS[name](imgs, space, random_state=random_state, **changes)
    if name in NULLS:
        return NULLS[name](space, random_state=random_state, **changes)
    if name in PHANTOMS:
        return plant(space, **{**PHANTOMS[name], **changes}, random_state=random_state, name=name)
    raise ValueError(f"There is no phantom {name!r}; there are {', '.join([*PHANTOMS, *NULLS])}.")


def table(
    data: Mapping[str, Maker],
    methods: Sequence[str],
    thresholds: Sequence[str] = THRESHOLDS,
    seeds: Iterable[int] = range(5),
    n_components: int | None = None,
    order: bool = False,
    n_jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Evaluate methods and thresholds on phantoms and nulls.

    Parameters
    ----------
    data : mapping of str to function
        Functions that create a phantom from a seed, by name, such as
        ``{"hard": lambda seed: make("hard", space, seed)}``; with several jobs they must be picklable.
    methods : sequence of str
        Names of methods for `lmri.decomposition.build`; data and method use the same seed.
    thresholds : sequence of str
        Thresholds as ``METHOD`` or ``METHOD:VALUE``.
    seeds : iterable of int, default=range(5)
        Random seeds, one phantom each.
    n_components : int, optional
        Number of maps; by default the number of planted networks, and 20 on a null.
    order : bool, default=False
        Whether the number of networks of each phantom is estimated too, which takes longer than a decomposition.
    n_jobs : int, default=1
        Number of processes, as in joblib; the result does not depend on it.
    progress : callable, optional
        Callback for the number of finished phantoms, and the number of all phantoms.

    Returns
    -------
    DataFrame
        Table with one row per phantom, method and threshold. Columns on planted networks are missing for nulls, and
        columns on nulls for phantoms:

        - ``data, method, threshold, is_null, n_seeds``, ``n_failed`` (seeds with an error in the fit or threshold), and
          ``note`` (the errors); all other columns are computed from the remaining seeds;
        - ``n_networks, found, found_worst``: number of planted networks, and of recovered ones, median and worst of the
          seeds;
        - ``sign_right``: share of the recovered networks of all seeds with the right sign;
        - ``auc, spearman``: see `measure`, mean over planted networks;
        - ``power``, and by effect in noise sds ``power_0_0.5, power_0.5_1, power_1_up``: share of the members kept;
        - ``false_share, false_share_se``: mean over seeds of the mean over maps with members, and its standard error
          over seeds, missing with one seed;
        - ``kept``: number of neurons per map, median over seeds of the mean over maps;
        - ``n_maps, maps_kept, maps_kept_low, maps_kept_high``: for nulls, the number of maps, and the share of maps
          with any member with its exact 95 % interval (as if maps of one fit were independent);
        - ``n_converged``: number of fits that converged from all of their starts, without failed fits;
        - ``order_selected``: median of the estimated number of networks, with `order`.

    Warns
    -----
    DataWarning
        Warnings of the decompositions, each once; failures to converge are counted instead.
    """
    seeds = list(seeds)
    if not data or not methods or not thresholds or not seeds:
        raise ValueError("data, methods, thresholds and seeds must each have at least one entry.")
    jobs = [
        delayed(_cell)(name, maker, seed, list(methods), list(thresholds), n_components, order)
        for name, maker in data.items()
        for seed in seeds
    ]
    records: list[dict[str, Any]] = []
    warned: dict[str, None] = {}
    for done, (records_of_phantom, messages) in enumerate(
        Parallel(n_jobs=n_jobs, return_as="generator")(jobs), start=1
    ):
        records.extend(records_of_phantom)
        warned.update(dict.fromkeys(messages))
        if progress is not None:
            progress(done, len(jobs))
    for message in warned:
        warnings.warn(message, DataWarning, stacklevel=2)
    rows = [
        {"data": name, "method": method, "threshold": threshold, **_summary(group)}
        for (name, method, threshold), group in pd.DataFrame(records).groupby(
            ["data", "method", "threshold"], sort=False
        )
    ]
    return pd.DataFrame(rows)


def _cell(
    name: str,
    maker: Maker,
    seed: int,
    methods: list[str],
    thresholds: list[str],
    n_components: int | None,
    order: bool,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Evaluate all methods and thresholds on one phantom; return one record each, and the warnings."""
    from lmri.decomposition import build  # nilearn is slow to import

    records: list[dict[str, Any]] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", LMRIWarning)
        phantom = maker(seed)
        n = n_components or len(phantom.maps) or N_COMPONENTS
        common = {"data": name, "seed": seed, "is_null": phantom.is_null}
        common["order_selected"] = _order(phantom) if order else np.nan
        for method in methods:
            identity = {**common, "method": method}
            networks: NetworkSet | None = None
            fitted: dict[str, Any] = {}
            # A failure is recorded, and must not end a computation of an hour.
            try:
                estimator = build(method, phantom.space, n_components=n, random_state=seed).fit(phantom.imgs)
                networks = NetworkSet.from_estimator(estimator)
                fitted = _fitted(phantom, networks)
            except Exception as error:
                identity["note"] = _reason(error)
            for threshold in thresholds:
                record = {**identity, **fitted, "threshold": threshold}
                if networks is not None:
                    try:
                        by, values = _parsed(threshold)
                        chosen = networks.threshold(by, **values)
                        record |= _thresholded(phantom, chosen)
                        # Intermediate results of a threshold, such as surrogates, are reused by the next.
                        networks = replace(chosen, members=None, origin=networks.origin)
                    except Exception as error:
                        record["note"] = _reason(error)
                records.append({"note": "", **record})
    messages = [
        str(warning.message)
        for warning in caught
        if issubclass(warning.category, LMRIWarning) and not issubclass(warning.category, ConvergenceWarning)
    ]
    return records, messages


def _parsed(threshold: str) -> tuple[str, dict[str, float]]:
    """Parse a threshold into its name and parameters."""
    method, _, value = threshold.partition(":")
    if not value:
        return method, {}
    name = value_name(method) if method in KNOWN_THRESHOLDS else None
    if name is None:
        raise ValueError(f"The threshold {threshold!r} has a value, but {method!r} accepts none. Leave it out.")
    return method, {name: float(value)}


def _reason(error: Exception) -> str:
    """Format an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _order(phantom: Phantom) -> int:
    """Estimate the number of networks of a phantom."""
    from lmri.decomposition.order import estimate_order

    return estimate_order(phantom.space.from_img(img) for img in phantom.imgs).recommended


def _fitted(phantom: Phantom, networks: NetworkSet) -> dict[str, Any]:
    """Compute the metrics of unthresholded maps."""
    convergence = networks.origin.convergence or {"n_converged": 1, "n_starts": 1}
    metrics: dict[str, Any] = {"converged": int(convergence["n_converged"] >= convergence["n_starts"])}
    if phantom.is_null:
        return metrics
    rows = measure(phantom, networks)
    rows = rows[rows["planted"] >= 0]
    return metrics | {
        "n_networks": len(phantom.maps),
        "n_found": int(rows["found"].sum()),
        "n_sign_right": rows["sign_right"].sum(),
        "auc": rows["auc"].mean(),
        "spearman": rows["spearman"].mean(),
    }


def _thresholded(phantom: Phantom, networks: NetworkSet) -> dict[str, Any]:
    """Compute the metrics of thresholded networks."""
    sizes = networks.members.sum(axis=1)
    if phantom.is_null:
        return {"sizes": sizes}
    rows, effects = measure(phantom, networks), power_by_effect(phantom, networks)
    return {
        "sizes": sizes,
        "power": rows["power"].mean(),
        "false_share": rows["false_share"].mean(),
        **{f"n_{name}": n for name, n in zip(EFFECTS, effects["n_members"], strict=True)},
        **{f"kept_{name}": n for name, n in zip(EFFECTS, effects["n_kept"], strict=True)},
    }


def _summary(group: pd.DataFrame) -> dict[str, Any]:
    """Summarize the seeds of one phantom, method and threshold."""
    is_null = bool(group["is_null"].iloc[0])
    fitted = group[group.get("converged", pd.Series(np.nan, group.index)).notna()]
    thresholded = group[group.get("sizes", pd.Series(None, group.index, dtype=object)).notna()]
    false = false_maps(np.concatenate(list(thresholded["sizes"]))) if is_null and len(thresholded) else None

    def column(rows: pd.DataFrame, name: str) -> pd.Series:
        return rows[name].dropna().astype(float) if name in rows else pd.Series(dtype=float)

    shares = column(thresholded, "false_share")
    n_found = column(fitted, "n_found")
    powers = {
        name: _ratio(column(thresholded, f"kept_{name}").sum(), column(thresholded, f"n_{name}").sum())
        for name in EFFECTS
    }
    return {
        "is_null": is_null,
        "n_seeds": len(group),
        "n_failed": len(group) - len(thresholded),
        "n_networks": column(fitted, "n_networks").median(),
        "found": n_found.median(),
        "found_worst": n_found.min(),
        "sign_right": _ratio(column(fitted, "n_sign_right").sum(), n_found.sum()),
        "auc": column(fitted, "auc").mean(),
        "spearman": column(fitted, "spearman").mean(),
        "power": column(thresholded, "power").mean(),
        **powers,
        "false_share": shares.mean(),
        "false_share_se": shares.sem(),
        "kept": float(np.median([sizes.mean() for sizes in thresholded["sizes"]])) if len(thresholded) else np.nan,
        "n_maps": false.n_maps if false else np.nan,
        "maps_kept": false.share if false else np.nan,
        "maps_kept_low": false.low if false else np.nan,
        "maps_kept_high": false.high if false else np.nan,
        "n_converged": int(column(fitted, "converged").sum()),
        "order_selected": column(group, "order_selected").median(),
        "note": "; ".join(dict.fromkeys(note for note in group["note"] if note)),
    }


def _ratio(part: float, whole: float) -> float:
    """Compute a share; NaN of nothing."""
    return float(part / whole) if whole else np.nan
