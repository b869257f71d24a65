"""The paper's template workflow: counts of group networks in single texts, compared with chance."""

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
    """Overlap of group networks with networks of individual decompositions.

    Parameters
    ----------
    templates : NetworkSet
        Thresholded group networks.
    iou : ndarray of shape (n_templates, n_maps)
        Intersection over union of the members of each template and individual network; NaN if one of them is empty.
    individual : ndarray of int, shape (n_maps,)
        Index of the individual of each network.
    labels : tuple of str
        Group of each individual, such as its corpus.
    chance : ndarray of shape (n_templates, n_maps)
        Probability that a random network with the same layer profile as the individual one exceeds the threshold; 0 if
        one of them is empty.
    table : DataFrame
        Counts, one row per template and label: ``template, label, n_template, n_individuals, n_networks, n_empty,
        n_above, expected, chance_95, p, n_individuals_above``. `n_above` is the paper's count of networks (Tables 1 to
        3); `expected`, `chance_95` and `p` (of at least this count) refer to the count of random networks.
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
        """The paper's table of counts of matching individual networks: one row per template, one column per label."""
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
    """Count the individual networks that match each template, and compare the counts with chance.

    Under the null, each individual network is replaced by equally many random neurons in every layer; its overlap with
    a template is a sum of hypergeometric variables, one per layer, so the chance level is exact and needs no sampling.
    Networks are assumed to be independent. The chance level ignores that some neurons, such as those with massive
    activations, may belong to nearly every network, which makes any two networks similar.

    Parameters
    ----------
    templates : NetworkSet
        Thresholded group networks. Empty networks match nothing.
    individuals : sequence of NetworkSet
        Thresholded networks, one set per text or run.
    threshold : float, default=0.2
        IoU above which two networks match; the default is the paper's.
    labels : sequence of str, optional
        Group of each individual, such as its corpus; counts are per group.

    Returns
    -------
    TemplateOverlap
        IoU, chance levels and counts.

    Raises
    ------
    SpaceMismatchError
        If the spaces differ.
    NotThresholdedError
        If networks are not thresholded.

    References
    ----------
    Liu et al. (2025). Brain-inspired exploration of functional networks and key neurons in large language models.
    arXiv 2502.20408, Tables 1 to 3.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}; it must be between 0 and 1 (0.2 in the paper).")
    if isinstance(individuals, NetworkSet) or not len(individuals):
        raise ValueError("individuals must be a list of at least one network set, one per text or run.")
    if labels is not None and len(labels) != len(individuals):
        raise ValueError(f"labels has {len(labels)} entries for {len(individuals)} individuals. Pass one for each.")
    labels = tuple(map(str, labels)) if labels is not None else ("all",) * len(individuals)
    space = templates.space
    for number, networks in enumerate(individuals):
        space.check_same(networks.space, f"Individual {number} ({networks.method!r})")
    members = np.concatenate([networks.members for networks in individuals])
    individual = np.repeat(np.arange(len(individuals)), [len(networks) for networks in individuals])

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
            in_group = np.array([other == label for other in labels])[individual]
            count = int(above[number, in_group].sum())
            law = count_distribution(chance[number, in_group])
            rows.append(
                {
                    "template": name,
                    "label": label,
                    "n_template": int(size_a[number]),
                    "n_individuals": labels.count(label),
                    "n_networks": int(in_group.sum()),
                    "n_empty": int((size_b[in_group] == 0).sum()),
                    "n_above": count,
                    "expected": float(chance[number, in_group].sum()),
                    "chance_95": int(np.searchsorted(np.cumsum(law), 0.95 - 1e-12)),
                    "p": float(min(1.0, law[count:].sum())) if size_a[number] else np.nan,
                    "n_individuals_above": len(set(individual[in_group & above[number]])),
                }
            )
    return TemplateOverlap(templates, iou, individual, labels, chance, pd.DataFrame(rows), threshold)


def chance_of_overlap(space: NeuronSpace, first: np.ndarray, second: np.ndarray, threshold: float) -> np.ndarray:
    """Compute the probability that random networks with given layer profiles have an IoU above a threshold.

    Parameters
    ----------
    space : NeuronSpace
        Neuron space.
    first, second : ndarray of int, shapes (n_first, n_layers) and (n_second, n_layers)
        Numbers of members in every layer.
    threshold : float
        Threshold of the IoU.

    Returns
    -------
    ndarray of shape (n_first, n_second)
        Probabilities; 0 if one of the two networks is empty.
    """
    chance = np.zeros((len(first), len(second)))
    laws: dict[tuple[int, int, int], np.ndarray] = {}
    # Many individual networks, especially small ones, have the same profile.
    profiles, inverse = np.unique(second, axis=0, return_inverse=True)
    for row, a in enumerate(first):
        chance_of_profile = np.zeros(len(profiles))
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
            chance_of_profile[column] = law[needed:].sum()
        chance[row] = chance_of_profile[inverse.reshape(-1)]
    return chance.clip(0, 1)


def count_distribution(p: np.ndarray) -> np.ndarray:
    """Compute the distribution of the number of successes of independent trials: ``(n_trials + 1,)``.

    Parameters
    ----------
    p : ndarray of shape (n_trials,)
        Probability of success of each trial.

    Examples
    --------
    >>> count_distribution(np.array([0.5, 0.5])).tolist()
    [0.25, 0.5, 0.25]
    """
    law = np.zeros(len(p) + 1)
    law[0] = 1.0
    for number, chance in enumerate(p[p > 0], start=1):
        law[1 : number + 1] = law[1 : number + 1] * (1 - chance) + law[:number] * chance
        law[0] *= 1 - chance
    return law


def text_imgs(recording: Recording) -> Iterator[tuple[str, nib.Nifti1Image]]:
    """Split the runs of a recording into texts, and yield the id and the image of each text."""
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
    """Compute templates from some texts, and count their matches in decompositions of other single texts.

    Parameters
    ----------
    fit : callable
        Function from a list of images to a thresholded `NetworkSet`, such as ``lambda imgs:
        NetworkSet.from_estimator(FastICA(space, 10).fit(imgs)).threshold("z", z=3.0)``. It is called once for the
        group, with one image per text, and once for every individual, with one image.
    recordings : Recording or sequence of them
        Recordings, one per corpus. Templates are from texts of all corpora; counts are per corpus.
    n_group : int, default=100
        Number of texts of each corpus for the templates.
    n_individual : int, default=100
        Number of other texts of each corpus, decomposed individually.
    min_volumes : int, default=30
        Smallest number of volumes of a text to be drawn.
    threshold : float, default=0.2
        IoU above which two networks match.
    random_state : int, default=0
        Random seed of the draw of texts.

    Returns
    -------
    TemplateOverlap
        Overlap, with the corpora as `labels`.

    Raises
    ------
    ValueError
        If a corpus has too few texts of sufficient length.
    """
    drawn = draw_texts(recordings, n_group, n_individual, min_volumes=min_volumes, random_state=random_state)
    individuals = [fit([img]) for texts in drawn for img in texts.individuals]
    labels = [texts.corpus for texts in drawn for _ in texts.individuals]
    return template_overlap(fit([img for texts in drawn for img in texts.group]), individuals, threshold, labels)


@dataclass(frozen=True, eq=False)
class DrawnTexts:
    """Texts of one corpus drawn for the template workflow: 4D images, one per text, in two disjoint sets."""

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
    """Draw texts for the templates, and other texts that are decomposed individually.

    Parameters
    ----------
    recordings : Recording or sequence of them
        Recordings, one per corpus.
    n_group, n_individual : int, optional
        Numbers of texts of each corpus; by default half the number of texts of the smallest corpus.
    min_volumes : int, default=30
        Smallest number of volumes of a text to be drawn.
    random_state : int, default=0
        Random seed of the draw.

    Raises
    ------
    ValueError
        If a corpus has too few texts of sufficient length.
    """
    recordings = [recordings] if isinstance(recordings, Recording) else list(recordings)
    if not recordings or any(n is not None and n < 1 for n in (n_group, n_individual)):
        raise ValueError(
            f"There are {len(recordings)} recordings, n_group is {n_group} and n_individual is {n_individual}; each "
            "must be at least 1."
        )
    taken: set[str] = set()
    long: list[list[str]] = []
    for recording in recordings:
        counts: dict[Any, int] = {}
        for events in recording.events:
            counts |= events["text_id"].value_counts().to_dict()
        hashes: Mapping[str, str] = dict(zip(recording.texts["text_id"], recording.texts["sha256"], strict=True))
        # A text that occurs twice, in one corpus or two, must not be in both sets.
        name_of = {
            hashes[name]: str(name)
            for name in sorted(counts)
            if counts[name] >= min_volumes and hashes[name] not in taken
        }
        taken |= set(name_of)
        long.append(list(name_of.values()))
    half = max(1, min(map(len, long)) // 2)
    n_group, n_individual = n_group or half, n_individual or half
    rng = np.random.default_rng(random_state)
    drawn_texts = []
    for recording, names in zip(recordings, long, strict=True):
        if len(names) < n_group + n_individual:
            raise ValueError(
                f"The recording of {recording.corpus!r} has {len(names)} texts of at least {min_volumes} volumes that "
                f"are in no other corpus; {n_group} for the templates and {n_individual} others are needed. Record "
                "more, or draw fewer."
            )
        drawn = [names[index] for index in rng.permutation(len(names))[: n_group + n_individual]]
        makers, others = set(drawn[:n_group]), set(drawn[n_group:])
        texts = DrawnTexts(recording.corpus, [], [])
        for name, img in text_imgs(recording):
            if name in makers:
                texts.group.append(img)
            elif name in others:
                texts.individuals.append(img)
        drawn_texts.append(texts)
    return drawn_texts
