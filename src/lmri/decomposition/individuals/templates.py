"""The paper's template workflow: which group networks come back in single texts, beside what chance would give."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import stats

from lmri.networks import NetworkSet
from lmri.space import Img, NeuronSpace
from lmri.storage.recording import Recording


@dataclass(frozen=True, eq=False)
class TemplateOverlap:
    """How often group networks come back in individual decompositions.

    Parameters
    ----------
    templates : NetworkSet
        Thresholded.
    iou : ndarray of shape (n_templates, n_maps)
        Members in both over members in either, of every individual network; NaN where one of the two is empty.
    individual : ndarray of int, shape (n_maps,)
        Which individual each network is of.
    labels : tuple of str
        Group of each individual, such as its corpus.
    chance : ndarray of shape (n_templates, n_maps)
        Probability that a random network with the same layer profile as the individual one exceeds the threshold; 0
        where one of the two is empty.
    table : DataFrame
        A row a template and label: ``template, label, n_template, n_individuals, n_networks, n_empty, n_above,
        expected, chance_95, p, n_individuals_above``. `n_above` is the paper's count of networks (Tables 1 to 3);
        `expected`, `chance_95` and `p` (of at least as many) are those of the count of random networks.
    threshold : float
        IoU above which two networks count as the same.
    """

    templates: NetworkSet
    iou: np.ndarray
    individual: np.ndarray
    labels: tuple[str, ...]
    chance: np.ndarray
    table: pd.DataFrame
    threshold: float

    @property
    def counts(self) -> pd.DataFrame:
        """The paper's table: a row a template, a column a label, how many individual networks are the same."""
        return self.table.pivot(index="template", columns="label", values="n_above").loc[
            self.templates.names, list(dict.fromkeys(self.labels))
        ]

    def __repr__(self) -> str:
        return (
            f"<TemplateOverlap: {len(self.templates)} templates in {self.iou.shape[1]} networks of {len(self.labels)} "
            f"individuals, IoU > {self.threshold}>"
        )


def template_overlap(
    templates: NetworkSet,
    individuals: Sequence[NetworkSet],
    threshold: float = 0.2,
    labels: Sequence[str] | None = None,
) -> TemplateOverlap:
    """Count the individual networks that are the same as each template, and what chance would give.

    Chance draws, in place of each individual network, as many neurons at random in every layer; its overlap with a
    template is a sum of hypergeometric variables, one a layer, so the level is exact and needs no draws. Networks are
    taken to be independent of each other. What the level does not take into account are neurons that are in nearly
    every network, as those with massive activations may be: they make any two networks alike.

    Parameters
    ----------
    templates : NetworkSet
        Group networks, thresholded. Empty ones match nothing.
    individuals : sequence of NetworkSet
        One thresholded set a text or run.
    threshold : float, default=0.2
        IoU above which two networks are the same; the paper's.
    labels : sequence of str, optional
        Group of each individual, such as its corpus; counts are by group.

    Returns
    -------
    TemplateOverlap
        IoU, chance and counts.

    Raises
    ------
    SpaceMismatchError
        If the spaces differ.
    NotThresholdedError
        If members are not decided.

    References
    ----------
    Liu et al. (2025). Brain-inspired exploration of functional networks and key neurons in large language models.
    arXiv 2502.20408, Tables 1 to 3.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}; it must lie between 0 and 1, and 0.2 is the paper's.")
    if isinstance(individuals, NetworkSet) or not len(individuals):
        raise ValueError("individuals must be a list of network sets, one a text or run; at least one.")
    if labels is not None and len(labels) != len(individuals):
        raise ValueError(f"labels has {len(labels)} entries for {len(individuals)} individuals; give one each.")
    labels = tuple(map(str, labels)) if labels is not None else ("all",) * len(individuals)
    space = templates.space
    for number, one in enumerate(individuals):
        space.check_same(one.space, f"Individual {number} ({one.method!r})")
    members = np.concatenate([one.members for one in individuals])
    individual = np.repeat(np.arange(len(individuals)), [len(one) for one in individuals])

    size_a, size_b = templates.members.sum(axis=1), members.sum(axis=1)
    # Counts up to 2 ** 24 are exact in float32.
    both = templates.members.astype(np.float32) @ members.T.astype(np.float32)
    either = size_a[:, None] + size_b - both
    compared = (size_a[:, None] > 0) & (size_b > 0)
    iou = np.divide(both, either, out=np.full(both.shape, np.nan), where=compared, dtype=np.float64)
    chance = chance_of_overlap(
        space, space.count_per_layer(templates.members), space.count_per_layer(members), threshold
    )
    above = np.nan_to_num(iou) > threshold

    rows = []
    for number, name in enumerate(templates.names):
        for label in dict.fromkeys(labels):
            own = np.array([one == label for one in labels])[individual]
            count = int(above[number, own].sum())
            law = count_distribution(chance[number, own])
            rows.append(
                {
                    "template": name,
                    "label": label,
                    "n_template": int(size_a[number]),
                    "n_individuals": labels.count(label),
                    "n_networks": int(own.sum()),
                    "n_empty": int((size_b[own] == 0).sum()),
                    "n_above": count,
                    "expected": float(chance[number, own].sum()),
                    "chance_95": int(np.searchsorted(np.cumsum(law), 0.95 - 1e-12)),
                    "p": float(min(1.0, law[count:].sum())) if size_a[number] else np.nan,
                    "n_individuals_above": len(set(individual[own & above[number]])),
                }
            )
    return TemplateOverlap(templates, iou, individual, labels, chance, pd.DataFrame(rows), threshold)


def chance_of_overlap(space: NeuronSpace, first: np.ndarray, second: np.ndarray, threshold: float) -> np.ndarray:
    """Compute how probably random networks with given layer profiles have an IoU above a threshold.

    Parameters
    ----------
    space : NeuronSpace
        The neurons.
    first, second : ndarray of int, shapes (n_first, n_layers) and (n_second, n_layers)
        Members in every layer.
    threshold : float
        Of the IoU.

    Returns
    -------
    ndarray of shape (n_first, n_second)
        0 where one of the two is empty.
    """
    chance = np.zeros((len(first), len(second)))
    laws: dict[tuple[int, int, int], np.ndarray] = {}
    # Many individual networks have the same profile, above all small ones.
    profiles, inverse = np.unique(second, axis=0, return_inverse=True)
    for row, a in enumerate(first):
        found = np.zeros(len(profiles))
        for column, b in enumerate(profiles):
            total = int(a.sum() + b.sum())
            # IoU > c is overlap > c * (|A| + |B|) / (1 + c); the guard keeps 0.2 from being passed by rounding.
            needed = int(np.floor(threshold * total / (1 + threshold) + 1e-9)) + 1
            if not a.any() or not b.any() or np.minimum(a, b).sum() < needed:
                continue
            law = np.ones(1)
            for width, n_a, n_b in zip(space.widths, a, b, strict=True):
                if n_a and n_b:
                    key = (int(width), int(n_a), int(n_b))
                    if key not in laws:
                        laws[key] = stats.hypergeom.pmf(np.arange(min(n_a, n_b) + 1), width, n_a, n_b)
                    law = np.convolve(law, laws[key])
            found[column] = law[needed:].sum()
        chance[row] = found[inverse.reshape(-1)]
    return chance.clip(0, 1)


def count_distribution(p: np.ndarray) -> np.ndarray:
    """Compute the distribution of the number of successes of independent trials: ``(n_trials + 1,)``.

    Parameters
    ----------
    p : ndarray of shape (n_trials,)
        Probability of each.

    Examples
    --------
    >>> count_distribution(np.array([0.5, 0.5])).tolist()
    [0.25, 0.5, 0.25]
    """
    law = np.zeros(len(p) + 1)
    law[0] = 1.0
    for number, one in enumerate(p[p > 0], start=1):
        law[1 : number + 1] = law[1 : number + 1] * (1 - one) + law[:number] * one
        law[0] *= 1 - one
    return law


def text_imgs(recording: Recording) -> Iterator[tuple[str, nib.Nifti1Image]]:
    """Cut a recording's runs into texts: the id of each text that is in an image, and its volumes as an image."""
    for array, events in zip(recording.arrays(), recording.events, strict=True):
        texts = events["text_id"].to_numpy(dtype=object)
        for name in dict.fromkeys(texts):
            yield str(name), recording.space.to_img(array[texts == name])


def find_templates(
    fit: Callable[[list[Img]], NetworkSet],
    recordings: Recording | Sequence[Recording],
    n_group: int = 100,
    n_individual: int = 100,
    *,
    min_volumes: int = 30,
    threshold: float = 0.2,
    random_state: int = 0,
) -> TemplateOverlap:
    """Find templates in some texts, and count how often they come back in the decompositions of single other texts.

    Parameters
    ----------
    fit : callable
        From a list of images to a thresholded `NetworkSet`, such as ``lambda imgs:
        NetworkSet.from_estimator(FastICA(space, 10).fit(imgs)).threshold("z", z=3.0)``. It is called once for the
        group, with one image a text, and once for every individual, with one image.
    recordings : Recording or sequence of them
        One a corpus. Texts of all of them make the templates; counts are by corpus.
    n_group : int, default=100
        Texts of each corpus that make the templates.
    n_individual : int, default=100
        Other texts of each corpus, decomposed one by one.
    min_volumes : int, default=30
        Shorter texts are not drawn.
    threshold : float, default=0.2
        As in `template_overlap`.
    random_state : int, default=0
        Of the draw of texts.

    Returns
    -------
    TemplateOverlap
        Its `labels` are the corpora.

    Raises
    ------
    ValueError
        If a corpus has too few texts that are long enough.
    """
    drawn = draw_texts(recordings, n_group, n_individual, min_volumes=min_volumes, random_state=random_state)
    individuals = [fit([img]) for one in drawn for img in one.individuals]
    labels = [one.corpus for one in drawn for _ in one.individuals]
    return template_overlap(fit([img for one in drawn for img in one.group]), individuals, threshold, labels)


@dataclass(frozen=True, eq=False)
class DrawnTexts:
    """Texts of one corpus, drawn for the template workflow: 4D images, one a text; no text is on both sides."""

    corpus: str
    group: list[Img]
    individuals: list[Img]


def draw_texts(
    recordings: Recording | Sequence[Recording],
    n_group: int | None = None,
    n_individual: int | None = None,
    *,
    min_volumes: int = 30,
    random_state: int = 0,
) -> list[DrawnTexts]:
    """Draw the texts that make templates, and others that are decomposed one by one.

    Parameters
    ----------
    recordings : Recording or sequence of them
        One a corpus.
    n_group, n_individual : int, optional
        Texts of each corpus; half of what the smallest corpus has by default.
    min_volumes : int, default=30
        Shorter texts are not drawn.
    random_state : int, default=0
        Of the draw.

    Raises
    ------
    ValueError
        If a corpus has too few texts that are long enough.
    """
    recordings = [recordings] if isinstance(recordings, Recording) else list(recordings)
    if not recordings or any(n is not None and n < 1 for n in (n_group, n_individual)):
        raise ValueError(
            f"{len(recordings)} recordings, n_group {n_group}, n_individual {n_individual}: at least 1 each."
        )
    taken: set[str] = set()
    long: list[list[str]] = []
    for recording in recordings:
        counts: dict[Any, int] = {}
        for events in recording.events:
            counts |= events["text_id"].value_counts().to_dict()
        hashes: Mapping[str, str] = dict(zip(recording.texts["text_id"], recording.texts["sha256"], strict=True))
        # A text that is there twice, in one corpus or two, may not be on both sides.
        own = {
            hashes[name]: str(name)
            for name in sorted(counts)
            if counts[name] >= min_volumes and hashes[name] not in taken
        }
        taken |= set(own)
        long.append(list(own.values()))
    half = max(1, min(map(len, long)) // 2)
    n_group, n_individual = n_group or half, n_individual or half
    rng = np.random.default_rng(random_state)
    found = []
    for recording, names in zip(recordings, long, strict=True):
        if len(names) < n_group + n_individual:
            raise ValueError(
                f"The recording of {recording.corpus!r} has {len(names)} texts of at least {min_volumes} volumes that "
                f"are in no other; {n_group} for the templates and {n_individual} others are needed. Record more, or "
                "ask for fewer."
            )
        drawn = [names[place] for place in rng.permutation(len(names))[: n_group + n_individual]]
        makers, others = set(drawn[:n_group]), set(drawn[n_group:])
        one = DrawnTexts(recording.corpus, [], [])
        for name, img in text_imgs(recording):
            if name in makers:
                one.group.append(img)
            elif name in others:
                one.individuals.append(img)
        found.append(one)
    return found
