"""Every method and threshold on every phantom and null, over several seeds, as one table."""

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
"""A function from a seed to a phantom."""

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
"""What each named phantom changes of the defaults of `plant`; sized for 12 layers of 768 neurons.

``hard`` is hard because every run engages 5 of 20 networks, of strengths from 0.6 to 1.2: a regression on the true time
courses of its 750 engaged volumes would correlate with the weakest map at 0.85, so that all can be found, but barely.
"""

THRESHOLDS = ("z:3", "robust_z:3", "top:0.01", "auto", "fdr_gaussian", "fdr", "mixture")
"""The thresholds of the table, as on the command line."""

N_COMPONENTS = 20
"""Maps asked for on a null; on a phantom as many as were planted."""

EFFECTS = tuple(f"power_{low:g}_{high:g}".replace("inf", "up") for low, high in pairwise(EFFECT_EDGES))


def make(
    name: str, space: NeuronSpace, random_state: int = 0, imgs: Sequence[Img] | None = None, **changes: Any
) -> Phantom:
    """Make a phantom or a null by its name.

    Parameters
    ----------
    name : str
        Of `PHANTOMS` or `NULLS`.
    space : NeuronSpace
        The neurons.
    random_state : int, default=0
        Seed.
    imgs : sequence of path or Nifti1Image, optional
        The recording that ``"salmon"`` shifts.
    **changes
        Other parameters of `plant`, or of the null.

    Raises
    ------
    ValueError
        If there is no such name, or no recording for ``"salmon"``.
    """
    if name == "salmon":
        if not imgs:
            raise ValueError("'salmon' shifts a real recording, and none was given. Give imgs=recording.imgs.")
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
    """Try every method and threshold on every phantom and null.

    Parameters
    ----------
    data : mapping of str to function
        From name to a function that makes the phantom from a seed, such as
        ``{"hard": lambda seed: make("hard", space, seed)}``; with several jobs one that can be pickled.
    methods : sequence of str
        As `lmri.decomposition.build` takes them; the seed of the data is that of the method too.
    thresholds : sequence of str
        ``METHOD`` or ``METHOD:VALUE``.
    seeds : iterable of int, default=range(5)
        One phantom each.
    n_components : int, optional
        Maps to ask for; by default as many as were planted, and 20 on a null.
    order : bool, default=False
        Estimate the number of networks of each phantom too, which takes longer than a decomposition.
    n_jobs : int, default=1
        Processes, as joblib takes them; the result does not depend on it.
    progress : callable, optional
        Called with the number of phantoms done, and of all.

    Returns
    -------
    DataFrame
        A row a phantom, method and threshold. What belongs to planted networks is missing on nulls, and the other way
        round:

        - ``data, method, threshold, is_null, n_seeds``, ``n_failed`` (seeds at which the fit or the threshold raised),
          and ``note`` (why); all other columns are of the rest;
        - ``n_networks, found, found_worst``: planted networks, and how many are found, median and worst of the seeds;
        - ``sign_right``: share of the found networks, of all seeds together, that have the right sign;
        - ``auc, spearman``: see `measure`, mean over planted networks;
        - ``power``, and by effect in noise sds ``power_0_0.5, power_0.5_1, power_1_up``: share of the members kept;
        - ``false_share, false_share_se``: mean over seeds of the mean over maps that keep anything, and its standard
          error over seeds, missing with one seed;
        - ``kept``: neurons a map, median over seeds of the mean over maps;
        - ``n_maps, maps_kept, maps_kept_low, maps_kept_high``: of nulls, the maps, and the share of them that keeps any
          neuron with its exact 95 % interval (as if maps of one fit were independent);
        - ``n_converged``: fits that converged from all of their starts; those that raised did not;
        - ``order_selected``: median, where it was asked for.

    Warns
    -----
    DataWarning
        What the decompositions warned of, each once; failures to converge are counted instead.
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
    for done, (own, messages) in enumerate(Parallel(n_jobs=n_jobs, return_as="generator")(jobs), start=1):
        records.extend(own)
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
    """Try all methods and thresholds on one phantom: a record each, and what was warned of."""
    from lmri.decomposition import build  # nilearn takes seconds to load

    records: list[dict[str, Any]] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", LMRIWarning)
        phantom = maker(seed)
        n = n_components or len(phantom.maps) or N_COMPONENTS
        common = {"data": name, "seed": seed, "is_null": phantom.is_null}
        common["order_selected"] = _order(phantom) if order else np.nan
        for method in methods:
            own = {**common, "method": method}
            networks: NetworkSet | None = None
            fitted: dict[str, Any] = {}
            # One that fails is a result of an hour's table, not its end.
            try:
                estimator = build(method, phantom.space, n_components=n, random_state=seed).fit(phantom.imgs)
                networks = NetworkSet.from_estimator(estimator)
                fitted = _fitted(phantom, networks)
            except Exception as error:
                own["note"] = _reason(error)
            for threshold in thresholds:
                record = {**own, **fitted, "threshold": threshold}
                if networks is not None:
                    try:
                        by, values = _parsed(threshold)
                        chosen = networks.threshold(by, **values)
                        record |= _thresholded(phantom, chosen)
                        # Whatever a threshold had to make, such as surrogates, serves the next one too.
                        networks = replace(chosen, mask=None, info=networks.info)
                    except Exception as error:
                        record["note"] = _reason(error)
                records.append({"note": "", **record})
    messages = [
        str(one.message)
        for one in caught
        if issubclass(one.category, LMRIWarning) and not issubclass(one.category, ConvergenceWarning)
    ]
    return records, messages


def _parsed(threshold: str) -> tuple[str, dict[str, float]]:
    method, _, value = threshold.partition(":")
    if not value:
        return method, {}
    name = value_name(method) if method in KNOWN_THRESHOLDS else None
    if name is None:
        raise ValueError(f"The threshold {threshold!r} has a value, and {method!r} takes none. Leave it out.")
    return method, {name: float(value)}


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _order(phantom: Phantom) -> int:
    from lmri.decomposition.order import estimate_order

    return estimate_order(phantom.space.from_img(img) for img in phantom.imgs).recommended


def _fitted(phantom: Phantom, networks: NetworkSet) -> dict[str, Any]:
    """Describe maps before any threshold."""
    convergence = networks.info.get("convergence", {"n_converged": 1, "n_starts": 1})
    own: dict[str, Any] = {"converged": int(convergence["n_converged"] >= convergence["n_starts"])}
    if phantom.is_null:
        return own
    rows = measure(phantom, networks)
    rows = rows[rows["planted"] >= 0]
    return own | {
        "n_networks": len(phantom.maps),
        "n_found": int(rows["found"].sum()),
        "n_sign_right": rows["sign_right"].sum(),
        "auc": rows["auc"].mean(),
        "spearman": rows["spearman"].mean(),
    }


def _thresholded(phantom: Phantom, networks: NetworkSet) -> dict[str, Any]:
    """Describe what a threshold keeps."""
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
    """Merge the seeds of one phantom, method and threshold."""
    is_null = bool(group["is_null"].iloc[0])
    fitted = group[group.get("converged", pd.Series(np.nan, group.index)).notna()]
    kept = group[group.get("sizes", pd.Series(None, group.index, dtype=object)).notna()]
    false = false_maps(np.concatenate(list(kept["sizes"]))) if is_null and len(kept) else None

    def column(rows: pd.DataFrame, name: str) -> pd.Series:
        return rows[name].dropna().astype(float) if name in rows else pd.Series(dtype=float)

    shares = column(kept, "false_share")
    n_found = column(fitted, "n_found")
    powers = {name: _ratio(column(kept, f"kept_{name}").sum(), column(kept, f"n_{name}").sum()) for name in EFFECTS}
    return {
        "is_null": is_null,
        "n_seeds": len(group),
        "n_failed": len(group) - len(kept),
        "n_networks": column(fitted, "n_networks").median(),
        "found": n_found.median(),
        "found_worst": n_found.min(),
        "sign_right": _ratio(column(fitted, "n_sign_right").sum(), n_found.sum()),
        "auc": column(fitted, "auc").mean(),
        "spearman": column(fitted, "spearman").mean(),
        "power": column(kept, "power").mean(),
        **powers,
        "false_share": shares.mean(),
        "false_share_se": shares.sem(),
        "kept": float(np.median([sizes.mean() for sizes in kept["sizes"]])) if len(kept) else np.nan,
        "n_maps": false.n_maps if false else np.nan,
        "maps_kept": false.share if false else np.nan,
        "maps_kept_low": false.low if false else np.nan,
        "maps_kept_high": false.high if false else np.nan,
        "n_converged": int(column(fitted, "converged").sum()),
        "order_selected": column(group, "order_selected").median(),
        "note": "; ".join(dict.fromkeys(note for note in group["note"] if note)),
    }


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else np.nan
