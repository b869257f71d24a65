"""Robustness: whether what a lesion shows survives other choices, made one at a time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lmri.lesions.baselines import Baseline
from lmri.lesions.controls.registry import CONTROLS
from lmri.lesions.experiments.judging import COLUMNS, HOLDS, STATUSES, variant_row
from lmri.lesions.experiments.specifications import (
    BASE,
    KINDS,
    OTHER_METHODS,
    OTHER_THRESHOLDS,
    SEEDS,
    UNION,
    Specifications,
    Threshold,
    Variant,
)
from lmri.lesions.requests import lesioned_by
from lmri.lesions.scores import ALPHA, Scores
from lmri.storage.outcome import Outcome
from lmri.storage.store import Store

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lmri.lesions.controls import Controls
    from lmri.lesions.evaluation import ItemStore
    from lmri.lesions.tasks import Task


@dataclass(frozen=True, eq=False)
class Robustness:
    """What `robustness` gave.

    Parameters
    ----------
    table : DataFrame
        A row a choice and task, the base first, with `COLUMNS`; see `robustness`.
    target : str
        What is lesioned in the base.
    networks, site : str
        The base's network set.
    alpha : float
        Level of p.
    seed : int
        Of controls, bootstrap and nulls.
    notes : tuple of str
        What could not be varied.
    made_of : tuple of mapping
        Hashes of what the scores are a function of.
    """

    table: pd.DataFrame
    target: str
    networks: str
    site: str
    alpha: float = ALPHA
    seed: int = 0
    notes: tuple[str, ...] = ()
    made_of: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def survival(self) -> pd.DataFrame:
        """Count, a row a task and kind of choice and one for ``all``, in how many variants the conclusion holds.

        Returns
        -------
        DataFrame
            ``task, base, kind, n_variants, n_holds``, and the numbers of those that do not hold, by why:
            ``n_does_not_hold, n_not_found_again, n_empty, n_no_controls, n_no_network``. The base is no variant;
            `base` is its status.
        """
        rows = []
        for task, task_rows in self.table.groupby("task", sort=False):
            base = task_rows.loc[task_rows["kind"] == BASE, "status"].iloc[0]
            variants = task_rows[task_rows["kind"] != BASE]
            groups = [("all", variants), *variants.groupby("kind", sort=False)]
            for kind, group in groups:
                counts = {
                    f"n_{status.replace(' ', '_')}": int((group["status"] == status).sum()) for status in STATUSES
                }
                rows.append({"task": task, "base": base, "kind": kind, "n_variants": len(group), **counts})
        return pd.DataFrame(rows)

    @property
    def text(self) -> str:
        """What was found, and what it does not say."""
        lines = []
        for row in self.survival[self.survival["kind"] == "all"].to_dict("records"):
            held = row["base"] == HOLDS
            base = "holds in the base, and" if held else f"is not there in the base ({row['base']}); it holds"
            counts = [(row[_column(status)], status) for status in STATUSES[1:]]
            others = ", ".join(f"{status} in {count}" for count, status in counts if count)
            lines.append(
                f"{row['task']}: that the lesion of {self.target} does more harm than its matched controls {base} in "
                f"{row['n_holds']} of {row['n_variants']} variants{f' ({others})' if others else ''}."
            )
        lines.extend(f"{note[0].upper()}{note[1:]}." for note in self.notes)
        meaning = (
            f"It holds where p ≤ {self.alpha:g} beside the matched controls, and the 95 % interval over texts of the "
            "network's effect beyond their mean lies on the side of harm. Each variant differs from the base in one "
            "choice; all that were run are listed, none was selected by its result. Variants share texts and mostly "
            "neurons: they are no independent replications, and their p are not corrected for their number. One model "
            "is one subject."
        )
        return f"{' '.join(lines)}\n\n{meaning}"

    def to_outcome(self) -> Outcome:
        """Give it as it is stored and reported."""
        from lmri.lesions.experiments.specification_plot import CAPTION, robustness_figure
        from lmri.space.drawing import drawing

        return Outcome(
            "robustness",
            f"Robustness of the lesion of {self.target} at {self.site}",
            self.text,
            {"specifications": self.table, "survival": self.survival},
            {"specifications": self._layout()},
            {"robustness": drawing(robustness_figure(self.table), CAPTION)},
        )

    def _layout(self) -> pd.DataFrame:
        rows = []
        for row in self.table.to_dict("records"):
            known = np.isfinite(row["r"])
            rows.append(
                {
                    "choice": BASE if row["kind"] == BASE else f"{row['kind']}: {row['choice']}",
                    "task": row["task"],
                    "neurons": str(row["n_neurons"]),
                    "|r| (null)": f"{abs(row['r']):.2f} ({row['r_null_95']:.2f})" if known else "",
                    "effect": _number(row["effect"]),
                    "95 % interval": " to ".join(filter(None, map(_number, (row["effect_low"], row["effect_high"])))),
                    "in sd of controls": _number(row["effect_sd"]),
                    "p": _number(row["p"]),
                    "conclusion": row["status"],
                }
            )
        return pd.DataFrame(rows)


def robustness(
    study: Store,
    model: "PreTrainedModel",
    tokenizer: Any,
    tasks: "Sequence[Task]",
    networks: str | None = None,
    network: str = UNION,
    site: str | None = None,
    *,
    vary: Iterable[str] = KINDS,
    baselines: Sequence[str] | None = None,
    thresholds: Sequence[Threshold] = OTHER_THRESHOLDS,
    seeds: Sequence[int] = SEEDS,
    methods: Sequence[str] = OTHER_METHODS,
    controls: str = "layer",
    n_controls: int = 39,
    alpha: float = ALPHA,
    seed: int = 0,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
    fitting: Callable[[int, int], None] | None = None,
    store: "ItemStore | None" = None,
) -> Robustness:
    """Ask whether what the lesion of a network shows survives other choices, made one at a time.

    Parameters
    ----------
    study : Store
        It is read only: decompositions made here are not stored.
    model, tokenizer, tasks
        As for `lmri.evaluate`; the texts held out.
    networks, site : str, optional
        The stored network set that is the base, needed as far as there is a choice.
    network : str, default="union"
        What is lesioned: the union, or one network by its name or number. The union of another decomposition is its
        union; one network is matched by ``|r|`` of its map, or of its time course where the site is another.
    vary : iterable of {"site", "baseline", "threshold", "seed", "method", "sinks", "controls"}
        Which kinds of choice to vary; all by default.
    baselines : sequence of str, optional
        ``"CORPUS"`` for its mean, ``"resample:CORPUS"``; both of every fitted corpus by default.
    thresholds : sequence of tuple of str and mapping
        Such as ``("z", {"z": 2.5})``; what equals the base is left out here and below.
    seeds : sequence of int
        Of other decompositions by the same method.
    methods : sequence of str
        As `lmri.decomposition.build` names them; number of maps and standardization stay those of the base.
    controls : {"layer", "energy"}
        Family of the base; the other one is the variant.
    n_controls : int, default=39
        Draws for each variant.
    alpha : float, default=0.05
        Level of p.
    seed : int, default=0
        Of controls, bootstrap and nulls.
    strict : bool, default=False
        Refuse other weights than those recorded.
    progress, fitting : callable, optional
        Called with evaluations, or with variants prepared, done and in all.
    store : ItemStore, optional
        As for `lmri.evaluate`.

    Returns
    -------
    Robustness
        Its table has a row a variant and task:

        ``status``
            ``holds`` if the network's lesion does more harm than its controls', p ≤ `alpha`, and the interval of the
            effect excludes 0. ``not found again`` if no network of the other decomposition matches beyond the null,
            whatever the lesion of the closest one does. ``empty``, ``no controls`` and ``no network`` (a decomposition
            that failed) do not hold either; `reason` says why.
        ``effect``
            Difference from intact beyond the mean of the controls, in units of the metric, and its 95 % interval over
            texts; `effect_sd` in sd of the controls. ``control_low`` to ``control_high`` are 95 % of the controls'
            differences from intact.

    Raises
    ------
    ValueError
        If a name is unknown, or there are too few controls for any p to reach `alpha`.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1, such as 0.05.")
    if (needed := _controls_needed(alpha)) > n_controls:
        raise ValueError(
            f"n_controls is {n_controls}, with which no p reaches {alpha:g}. Give at least {needed} (--n-controls)."
        )
    base = Specifications(study, networks, site, network, controls)
    choices = base.choices(vary, baselines, thresholds, seeds, methods)
    variants = []
    for index, choice in enumerate(choices):
        variants.append(base.variant(choice, seed))
        if fitting is not None:
            fitting(index + 1, len(choices))
    scored, made_of = _score(base, variants, model, tokenizer, tasks, n_controls, seed, strict, progress, store)
    rows = [
        variant_row(variant, scored.get(variant.choice.name), task.info, alpha)
        for task in tasks
        for variant in variants
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return Robustness(
        table, base.target, base.entry.name, base.entry.site, alpha, seed, tuple(base.notes), tuple(made_of)
    )


def _controls_needed(alpha: float) -> int:
    n = int(1 / alpha) - 1
    return n if 1 / (n + 1) <= alpha else n + 1


# -- scoring ----------------------------------------------------------------------------------------------------------


def _score(
    base: Specifications,
    variants: Sequence[Variant],
    model: "PreTrainedModel",
    tokenizer: Any,
    tasks: "Sequence[Task]",
    n_controls: int,
    seed: int,
    strict: bool,
    progress: Callable[[int, int], None] | None,
    store: "ItemStore | None",
) -> tuple[dict[str, tuple[Scores, pd.DataFrame]], list[Mapping[str, Any]]]:
    """Evaluate all variants that have a network, in as few evaluations as there are kinds of controls."""
    from lmri.lesions.evaluation import ItemStore, evaluate

    store = store or ItemStore()  # what two evaluations share is run once
    groups: dict[tuple[str, ...], list[Variant]] = {}
    for variant in variants:
        if variant.network is not None:
            groups.setdefault(_controls_key(variant), []).append(variant)
    scored: dict[str, tuple[Scores, pd.DataFrame]] = {}
    made_of: list[Mapping[str, Any]] = []
    for key, group in groups.items():
        conditions = {variant.choice.name: base.intervention(variant) for variant in group}
        drawn = _controls(base, key, model, n_controls)
        scores = evaluate(model, tokenizer, tasks, conditions, drawn, seed, strict, progress, store=store)
        scored |= dict.fromkeys(conditions, (scores, scores.summary()))
        made_of.append(scores.made_of)
    return scored, made_of


def _controls_key(variant: Variant) -> tuple[str, ...]:
    """Say what controls depend on beside the network."""
    if variant.choice.controls == "layer":
        return ("layer",)
    return ("energy", variant.choice.site, variant.choice.baseline)


def _controls(base: Specifications, key: tuple[str, ...], model: "PreTrainedModel", n: int) -> "Controls":
    family, *rest = key
    site, baseline = rest or (base.base.site, base.base.baseline)
    lesioned = lesioned_by(base.study, Baseline.parse(baseline), site, base.corpora, model)
    return CONTROLS[family].make(lesioned, n)


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"


def _column(status: str) -> str:
    return f"n_{status.replace(' ', '_')}"
