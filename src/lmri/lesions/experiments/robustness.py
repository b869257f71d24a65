"""Robustness: whether the conclusion from a lesion survives alternative choices, varied one at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd

from lmri.lesions.baselines import Baseline
from lmri.lesions.controls.registry import CONTROLS
from lmri.lesions.experiments.choices import BASE, UNION, Variant
from lmri.lesions.experiments.judging import COLUMNS, HOLDS, STATUSES, variant_row
from lmri.lesions.experiments.robustness_settings import RobustnessKeywords, RobustnessSettings
from lmri.lesions.experiments.specifications import Specifications
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
    """Result of `robustness`.

    Parameters
    ----------
    table : DataFrame
        One row per choice and task, the base first, with `COLUMNS`; see `robustness`.
    target : str
        Name of the lesioned network or union in the base.
    networks, site : str
        Network set of the base and its site.
    alpha : float
        Level of p.
    seed : int
        Seed of controls, bootstrap and nulls.
    notes : tuple of str
        Choices that could not be varied.
    made_of : tuple of mapping
        Hashes of everything that determines the scores.
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
        """Number of variants in which the conclusion holds, one row per task and kind of choice, and one for ``all``.

        Returns
        -------
        DataFrame
            Counts ``task, base, kind, n_variants, n_holds``, and the numbers of other variants by reason:
            ``n_does_not_hold, n_not_found_again, n_empty, n_no_controls, n_no_network``. The base does not count as a
            variant; `base` is its status.
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
        """Text of the result and its limitations."""
        lines = []
        for row in self.survival[self.survival["kind"] == "all"].to_dict("records"):
            held = row["base"] == HOLDS
            base = "holds in the base and" if held else f"is not supported in the base ({row['base']}); it holds"
            counts = [(row[_column(status)], status) for status in STATUSES[1:]]
            others = ", ".join(f"{status} in {count}" for count, status in counts if count)
            lines.append(
                f"{row['task']}: the conclusion that the lesion of {self.target} does more harm than its matched "
                f"controls {base} in {row['n_holds']} of {row['n_variants']} "
                f"variants{f' ({others})' if others else ''}."
            )
        lines.extend(f"{note[0].upper()}{note[1:]}." for note in self.notes)
        meaning = (
            f"The conclusion holds if p ≤ {self.alpha:g} relative to the matched controls and the 95 % interval over "
            "texts of the network's effect minus their mean is entirely on the side of harm. Each variant differs from "
            "the base in one choice; all variants that were run are listed, and none was selected by its result. "
            "Variants share texts and most neurons: they are not independent replications, and their p are not "
            "corrected for their number. One model is one subject."
        )
        return f"{' '.join(lines)}\n\n{meaning}"

    def to_outcome(self) -> Outcome:
        """Return the outcome for storage and the report."""
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
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
    fitting: Callable[[int, int], None] | None = None,
    store: "ItemStore | None" = None,
    **settings: Unpack[RobustnessKeywords],
) -> Robustness:
    """Test whether the conclusion from a lesion survives alternative choices, varied one at a time.

    Parameters
    ----------
    study : Store
        Study of the networks; it is only read, and new decompositions are not stored.
    model, tokenizer, tasks
        Model, tokenizer and tasks as in `lmri.evaluate`; the texts must be held out.
    networks, site : str, optional
        Stored network set of the base; required if there are several.
    network : str, default="union"
        Lesioned target: the union, or one network by name or number. The union corresponds to the union of another
        decomposition; a single network is matched by ``|r|`` of its map, or of its time course if the site differs.
    vary : iterable of {"site", "baseline", "threshold", "seed", "method", "sinks", "controls"}
        Kinds of choice to vary; all by default.
    baselines : sequence of str, optional
        Baselines: ``"CORPUS"`` for its mean, or ``"resample:CORPUS"``; by default both for every fitted corpus.
    thresholds : sequence of tuple of str and mapping
        Thresholds, such as ``("z", {"z": 2.5})``; choices equal to the base are omitted, here and below.
    seeds : sequence of int
        Seeds of other decompositions by the same method.
    methods : sequence of str
        Methods, as named by `lmri.decomposition.build`; number of maps and standardization are taken from the base.
    controls : {"layer", "energy"}
        Family of controls of the base; the other family is the variant.
    n_controls : int, default=39
        Number of draws per variant.
    alpha : float, default=0.05
        Level of p.
    seed : int, default=0
        Seed of controls, bootstrap and nulls.
    strict : bool, default=False
        Whether to refuse weights that differ from the recorded ones.
    progress, fitting : callable, optional
        Called with the number of finished evaluations, or of prepared variants, and the total.
    store : ItemStore, optional
        Store of item rows, as in `lmri.evaluate`.

    Returns
    -------
    Robustness
        Its table has one row per variant and task:

        ``status``
            ``holds`` if the lesion of the network does more harm than the lesions of its controls, p ≤ `alpha`, and the
            interval of the effect excludes 0. ``not found again`` if no network of the other decomposition matches
            beyond the null, regardless of the lesion of the closest one. For ``empty``, ``no controls`` and ``no
            network`` (a failed decomposition) the conclusion does not hold either; `reason` contains the cause.
        ``effect``
            Difference from intact minus the mean of the controls, in units of the metric, and its 95 % interval over
            texts; `effect_sd` in sd of the controls. ``control_low`` to ``control_high`` contain 95 % of the controls'
            differences from intact.

    Raises
    ------
    ValueError
        If a name is unknown, or there are too few controls for any p to reach `alpha`.
    """
    chosen = RobustnessSettings(**settings)
    base = Specifications(study, networks, site, network, chosen.controls)
    choices = chosen.choices(base)
    variants = []
    for index, choice in enumerate(choices):
        variants.append(base.variant(choice, chosen.seed))
        if fitting is not None:
            fitting(index + 1, len(choices))
    scored, made_of = _score(base, variants, model, tokenizer, tasks, chosen, strict, progress, store)
    rows = [
        variant_row(variant, scored.get(variant.choice.name), task.info, chosen.alpha)
        for task in tasks
        for variant in variants
    ]
    table, entry = pd.DataFrame(rows, columns=list(COLUMNS)), base.entry
    notes = tuple(base.notes)
    return Robustness(table, base.target, entry.name, entry.site, chosen.alpha, chosen.seed, notes, tuple(made_of))


# -- scoring ----------------------------------------------------------------------------------------------------------


def _score(
    base: Specifications,
    variants: Sequence[Variant],
    model: "PreTrainedModel",
    tokenizer: Any,
    tasks: "Sequence[Task]",
    chosen: RobustnessSettings,
    strict: bool,
    progress: Callable[[int, int], None] | None,
    store: "ItemStore | None",
) -> tuple[dict[str, tuple[Scores, pd.DataFrame]], list[Mapping[str, Any]]]:
    """Evaluate all variants with a network, in one evaluation per kind of controls."""
    from lmri.lesions.evaluation import ItemStore, evaluate

    store = store or ItemStore()  # conditions shared by two evaluations are run once
    groups: dict[tuple[str, ...], list[Variant]] = {}
    for variant in variants:
        if variant.network is not None:
            groups.setdefault(_controls_key(variant), []).append(variant)
    scored: dict[str, tuple[Scores, pd.DataFrame]] = {}
    made_of: list[Mapping[str, Any]] = []
    for key, group in groups.items():
        conditions = {variant.choice.name: base.intervention(variant) for variant in group}
        drawn = _controls(base, key, model, chosen.n_controls)
        scores = evaluate(model, tokenizer, tasks, conditions, drawn, chosen.seed, strict, progress, store=store)
        scored |= dict.fromkeys(conditions, (scores, scores.summary()))
        made_of.append(scores.made_of)
    return scored, made_of


def _controls_key(variant: Variant) -> tuple[str, ...]:
    """Return the choices, besides the network, on which controls depend."""
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
