"""Comparisons of network sets as entries of a study."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmri import storage
from lmri.exceptions import OtherWeightsWarning, StudyError
from lmri.networks.codec import NETWORKS, NETWORKS_CODEC, DecompositionInputs, names, source_of, time_courses
from lmri.networks.comparison.consensus import Consensus, compare_many
from lmri.networks.comparison.kinds import AnyComparison
from lmri.networks.comparison.maps import check_standardization, compare
from lmri.networks.comparison.time_courses import CourseComparison, compare_time_courses
from lmri.networks.network_set import NetworkSet
from lmri.storage.entries import Codec, Entry, Reference, as_name, parse_address
from lmri.storage.store import Store

COMPARISONS = "comparisons"
"""Kind of the entries."""


class ComparisonsCodec(Codec[AnyComparison]):
    """Codec of comparisons, which are recomputed from the networks with the stored seed."""

    kind = COMPARISONS
    opens_sources = True

    def references(self, entry: Entry) -> list[Reference]:
        """Return the references to the network sets."""
        inputs = entry.inputs
        if "sets" in inputs:
            pairs = zip(inputs["sets"], inputs["sets_sha256"], strict=True)
            return [Reference(NETWORKS, name, entry.site, sha) for name, sha in pairs]
        sites = {"first": entry.site, "second": inputs.get("second_site", entry.site)}
        return [Reference(NETWORKS, inputs[side], at, inputs[f"{side}_sha256"]) for side, at in sites.items()]

    def read(self, store: Store, entry: Entry) -> AnyComparison:
        """Compare the stored networks."""
        inputs, seed = entry.inputs, entry.parameters["seed"]
        keys = [(reference.name, reference.site) for reference in self.references(entry)]
        if is_of_time_courses(entry):
            return compare_sites(store, keys[0], keys[1], seed)
        # Standardization was checked, and other weights were warned of, when the entry was created.
        sets = [store.open(NETWORKS_CODEC, *key) for key in keys]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OtherWeightsWarning)
            if "sets" in inputs:
                return compare_many(sets, seed, inputs["sets"], same_standardization=False)
            return compare(sets[0], sets[1], seed, same_standardization=False)


COMPARISON_CODEC = ComparisonsCodec()


def is_of_time_courses(entry: Entry) -> bool:
    """Return whether a stored comparison is of time courses rather than of maps."""
    return "second_site" in entry.inputs


def compare_sites(store: Store, first: tuple[str, str], second: tuple[str, str], seed: int = 0) -> CourseComparison:
    """Compare the time courses of two stored network sets; see `lmri.Study.compare_sites`."""
    entries = [store.fresh(NETWORKS, *key) for key in (first, second)]
    if len({entry.scope for entry in entries}) > 1 or entries[0].scope != store.scope:
        raise StudyError(
            f"{first[0]!r} and {second[0]!r} are results of "
            f"{' and '.join(sorted({entry.scope for entry in entries}))}. "
            "Time courses are compared within one model, because models have different tokens. Compare sets of one "
            "site by their maps, if the models have the same neurons."
        )
    sources = [source_of(store, entry) for entry in entries]
    corpora = [list(DecompositionInputs.of(source).corpora) for source in sources]
    if corpora[0] != corpora[1]:
        raise StudyError(
            f"{first[0]!r} at {first[1]} was fitted on {', '.join(corpora[0])}, and {second[0]!r} at "
            f"{second[1]} on {', '.join(corpora[1])}. Only time courses of the same texts can be compared: "
            "decompose both sites with the same --corpus, in the same order."
        )
    courses = [time_courses(store, source.name, source.site) for source in sources]
    events = {corpus: store.recording(corpus, first[1]).events for corpus in corpora[0]}
    texts = [list(events[corpus][run - 1]["text_id"]) for corpus, run, _ in courses[0]]
    # The networks may have another name than the decomposition of the time courses.
    runs = [
        [table.set_axis(names(name, table.shape[1]), axis=1) for _, _, table in tables]
        for (name, _), tables in zip((first, second), courses, strict=True)
    ]
    return compare_time_courses(runs[0], runs[1], texts, seed, ("@".join(first), "@".join(second)))


def compare_stored(
    store: Store, sets: Sequence[str], site: str | None = None, seed: int = 0, mixed_standardization: bool = False
) -> AnyComparison:
    """Compare stored network sets by their maps, or two sets from two sites by their time courses.

    Parameters
    ----------
    store : Store
        Study of the network sets.
    sets : sequence of str
        Names of two or more network sets. A name may contain its site, as ``canica@mlp_out``.
    site : str, optional
        Site of names without one; by default the site of the first.
    seed : int, default=0
        Seed of the nulls.
    mixed_standardization : bool, default=False
        Whether sets with different standardization may be compared.

    Raises
    ------
    ValueError
        If a set is named twice, or if more than two sets from several sites are named.
    """
    opened: list[NetworkSet] = []
    for name in sets:
        own_site = parse_address(name)[2]
        # Sets without a site are at the site of the first.
        opened.append(store.open(NETWORKS_CODEC, name, own_site or site or (opened[0].space.site if opened else None)))
    keys = [(networks.method, networks.space.site) for networks in opened]
    if repeated := sorted({"@".join(key) for key in keys if keys.count(key) > 1}):
        raise ValueError(
            f"{', '.join(repeated)} was named twice; a set always agrees with itself. Choose different sets."
        )
    if len({at for _, at in keys}) == 1:
        if len(opened) == 2:
            return compare(opened[0], opened[1], seed, not mixed_standardization)
        return compare_many(opened, seed, same_standardization=not mixed_standardization)
    if len(opened) > 2:
        raise ValueError(
            f"The sets are from several sites ({', '.join(map('@'.join, keys))}), so their maps have different "
            "neurons. Compare two sets at a time, by their time courses."
        )
    if not mixed_standardization:
        check_standardization(opened[0], opened[1])
    return compare_sites(store, keys[0], keys[1], seed)


def save_comparison(store: Store, comparison: AnyComparison, seed: int, name: str | None = None) -> Entry:
    """Store a comparison of stored network sets; see `lmri.Study.save_comparison`."""
    site: str
    tables = {"matches.tsv": comparison.table}
    results: dict[str, Any]
    if isinstance(comparison, Consensus):
        sets, site = list(comparison.names), comparison.sets[0].space.site
        inputs: dict[str, Any] = {
            "sets": sets,
            "sets_sha256": [store.find(NETWORKS, set_name, site).digest for set_name in sets],
        }
        tables = {"consensus.tsv": comparison.table, "pairs.tsv": comparison.pairs}
        counts = comparison.table["found_by"].value_counts()
        results = {"n_networks": len(comparison.table), "n_found_by": {str(k): int(v) for k, v in counts.items()}}
    else:
        if isinstance(comparison, CourseComparison):
            (first, site), (second, other) = (side.method.split("@") for side in (comparison.first, comparison.second))
            sets = [first, f"{second}-{storage.bids_label(other)}"]
        else:
            first, second = sets = [comparison.first.method, comparison.second.method]
            site = other = comparison.first.space.site
        inputs = {
            "first": first,
            "second": second,
            "first_sha256": store.find(NETWORKS, first, site).digest,
            "second_sha256": store.find(NETWORKS, second, other).digest,
        }
        if isinstance(comparison, CourseComparison):
            inputs["second_site"] = other
        results = {
            "mean_abs_r": comparison.mean_r,
            "null_mean": comparison.null_mean,
            "null_95": comparison.null_95,
        }
    name = name or "--".join(map(as_name, sets))

    def write(folder: Path) -> None:
        for suffix, table in tables.items():
            storage.write_table(store.file(site, name, folder)(suffix), table)

    return store.entries.write(COMPARISONS, site, name, inputs, {"seed": seed}, results, write)
