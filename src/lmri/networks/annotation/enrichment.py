"""Enrichment tests: tokens and kinds of text at which a network is more or less active than elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from lmri.networks import NetworkSet
from lmri.networks.annotation.reading import (
    Null,
    Reading,
    check_permutations,
    exchange_time_courses,
    gather,
    is_floor_too_high,
    network_names,
    permutations_needed,
    without_position,
)
from lmri.networks.thresholds import q_values

ENRICHMENT_COLUMNS = ("network", "feature", "value", "n_volumes", "n_texts", "mean", "effect", "p", "q")

FEWEST_PER_KIND = 4
_TABLE = 30_000_000  # largest number of values in the table of sums in memory, 240 MB


def enrichment(
    time_courses: Sequence[Any],
    events: Sequence[pd.DataFrame],
    networks: NetworkSet | Sequence[str] | None = None,
    n_permutations: int = 1000,
    random_state: int = 0,
    min_texts: int = 3,
    max_types: int = 500,
) -> pd.DataFrame:
    """Test tokens and kinds of text at which each network is more or less active than elsewhere.

    *Tokens.* The statistic is the mean z of the time course at a token type, averaged within each text first and then
    over the texts that contain the type, so that all texts have equal weight. The mean time course over positions that
    all texts share is regressed out. Under the null hypothesis, the time course of a text is independent of its tokens
    given its kind and the position in the text: texts of one kind are exchangeable. Whole time courses are therefore
    exchanged among texts of the same kind (and of similar length), position by position. This preserves all other
    properties of time courses (autocorrelation, skewness, higher variance at the start of every text) and the
    burstiness of tokens. It assumes neither stationarity, as circular shifts would, nor symmetry, as sign flips would.
    The effect of a token that occurs at the same position of all texts is not separable from the effect of position,
    and a token that is common only in one kind is compared within that kind; neither becomes significant for these
    reasons. The test is exact if texts are exchanged with texts of equal length, and approximate otherwise. For a token
    that ends every text it is too liberal: p below 0.05 occur about twice as often as they should.

    *Kinds.* The statistic is the difference between the mean over texts of one kind and the mean over all other texts,
    of the mean time course of each text (``feature == "kind"``) and of its mean ``|z|`` (``"kind_activity"``). If a
    time course follows position, short texts differ from long texts. Therefore only positions within the median length
    of every kind are included, and the mean time course over positions, estimated within texts, is regressed out. Under
    the null hypothesis texts of all kinds have the same distribution, and the labels of kinds are permuted over texts.
    The difference is studentized as in Welch's test, so that kinds may differ in variance and in number of texts (Chung
    & Romano 2013). If each kind has separate runs and every run has mean 0, as after standardization by run, kinds
    cannot differ in their mean, and p is missing.

    Parameters
    ----------
    time_courses : list of ndarray of shape (n_volumes, n_networks)
        Time courses, one array per run.
    events : list of DataFrame
        Events, one table per run and one row per volume.
    networks : NetworkSet or sequence of str, optional
        Names of the networks.
    n_permutations : int, default=1000
        Number of permutations. The smallest p is ``1 / (n_permutations + 1)``. If that cannot reach significance among
        all tests, tests that no permutation exceeds are permuted further.
    random_state : int, default=0
        Seed of the permutations.
    min_texts : int, default=3
        Minimum number of texts that contain a token type.
    max_types : int, default=500
        Maximum number of token types. Types in most texts are tested; the selection does not depend on time courses.

    Returns
    -------
    DataFrame
        Table with `ENRICHMENT_COLUMNS`. ``mean`` is the statistic; ``effect`` is its difference from the other texts at
        these positions, or from the other kinds, in SD of the time course. ``p`` is ``(1 + at least as extreme) / (1 +
        permutations)``, two-sided. ``q`` is p adjusted for the false discovery rate over all tests of the same
        ``feature`` in all networks. If 20 networks were adjusted separately, most studies of noise would contain a
        significant test.

    References
    ----------
    Chung & Romano (2013). Exact and asymptotically robust permutation tests. Annals of Statistics, 41.
    """
    check_permutations(n_permutations)
    reading = gather(time_courses, events)
    names = network_names(networks, reading.z.shape[1])
    return enrichment_of(reading, names, n_permutations, random_state, min_texts, max_types)


def enrichment_of(
    reading: Reading, names: list[str], n_permutations: int, random_state: int, min_texts: int, max_types: int
) -> pd.DataFrame:
    """Test joined time courses and events; see `enrichment`."""
    rng = np.random.default_rng([random_state, 1])
    parts = [
        _token_enrichment(reading, names, n_permutations, rng, min_texts, max_types),
        _kind_enrichment(reading, names, n_permutations, np.random.default_rng([random_state, 2])),
    ]
    table = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    for _, family in table.groupby("feature"):
        table.loc[family.index, "q"] = q_values(family["p"].to_numpy(dtype=float))
    return table[list(ENRICHMENT_COLUMNS)]


def _token_enrichment(
    reading: Reading,
    names: list[str],
    n_permutations: int,
    rng: np.random.Generator,
    min_texts: int,
    max_types: int,
) -> pd.DataFrame:
    types, type_of_volume = _types(reading, min_texts, max_types)
    if not len(types):
        return pd.DataFrame(columns=list(ENRICHMENT_COLUMNS))
    null = exchange_time_courses(reading)
    # An entry is a token type in a text; entries are sorted by type, and volumes by entry.
    volumes = np.flatnonzero(type_of_volume >= 0)
    volumes = volumes[np.lexsort((reading.text[volumes], type_of_volume[volumes]))]
    pairs = np.column_stack([type_of_volume[volumes], reading.text[volumes]])
    firsts = np.flatnonzero(np.r_[True, (pairs[1:] != pairs[:-1]).any(axis=1)])
    type_of, text_of = pairs[firsts].T
    n_texts = np.bincount(type_of, minlength=len(types))
    entries = _Entries(null, volumes, firsts, text_of, np.r_[0, np.cumsum(n_texts)])

    n_slots, n_networks = len(null.sources), reading.z.shape[1]
    z = without_position(reading, reading.z)
    slots = null.draw(n_permutations, rng)
    observed, expected, count = (np.zeros((len(types), n_networks)) for _ in range(3))
    step = max(1, _TABLE // (n_slots * len(firsts)))
    for first in range(0, n_networks, step):
        part = slice(first, first + step)
        table = entries.table(z[:, part])
        observed[:, part], expected[:, part] = entries.mean(table, null.own_slot[None])[0], entries.expected(table)
        count[:, part] = entries.count(table, slots, observed[:, part], expected[:, part])
    n_used = np.full(count.shape, n_permutations)
    _refine(entries, z, observed, expected, count, n_used, rng)
    p = (1 + count) / (1 + n_used)

    lengths = np.bincount(type_of_volume[volumes], minlength=len(types))
    return pd.DataFrame(
        {
            "network": np.repeat(names, len(types)),
            "feature": "token",
            "value": np.tile(types, n_networks),
            "n_volumes": np.tile(lengths, n_networks),
            "n_texts": np.tile(n_texts, n_networks),
            "mean": observed.T.ravel(),
            "effect": (observed - expected).T.ravel(),
            "p": p.T.ravel(),
            "q": np.nan,
        }
    )


def _types(reading: Reading, min_texts: int, max_types: int) -> tuple[np.ndarray, np.ndarray]:
    """Select the token types in most texts; return their tokens, and the type of every volume, or -1."""
    codes, first_of = np.unique(reading.events["token_id"].to_numpy(), return_index=True)
    code = np.searchsorted(codes, reading.events["token_id"].to_numpy())
    seen = np.unique(np.column_stack([code, reading.text]), axis=0)
    n_texts = np.bincount(seen[:, 0], minlength=len(codes))
    chosen = np.argsort(-n_texts, kind="stable")[:max_types]
    chosen = chosen[n_texts[chosen] >= min_texts]
    new = np.full(len(codes), -1)
    new[chosen] = np.arange(len(chosen))
    return reading.events["token"].to_numpy(dtype=object)[first_of[chosen]], new[code]


@dataclass(frozen=True, eq=False)
class _Entries:
    """Token types in texts, with the mean of every time course that a text may be assigned: ``(slot, entry)``."""

    null: Null
    volumes: np.ndarray  # sorted by entry
    firsts: np.ndarray  # index in `volumes` of the first volume of every entry
    text_of: np.ndarray  # text of every entry
    bounds: np.ndarray  # first entry of every type, and the total

    @property
    def n_texts(self) -> np.ndarray:
        return np.diff(self.bounds)

    def table(self, z: np.ndarray) -> np.ndarray:
        """Average ``(n_volumes, n)`` over the volumes of each entry, for each slot: ``(n_slots, n_entries, n)``."""
        sizes = np.diff(np.r_[self.firsts, len(self.volumes)])[:, None]
        return np.stack(
            [np.add.reduceat(z[source[self.volumes]], self.firsts, axis=0) / sizes for source in self.null.sources]
        )

    def mean(self, table: np.ndarray, slots: np.ndarray) -> np.ndarray:
        """Average over the texts of each type, ``(n_draws, n_types, n)``."""
        n_entries = len(self.firsts)
        columns = slots[:, self.text_of] * n_entries + np.arange(n_entries)
        n_rows = len(slots) * len(self.n_texts)
        bounds = np.r_[0, np.cumsum(np.tile(self.n_texts, len(slots)))]
        weights = np.tile(np.repeat(1 / self.n_texts, self.n_texts), len(slots))
        chosen = sparse.csr_array((weights, columns.ravel(), bounds), shape=(n_rows, table.shape[0] * n_entries))
        return (chosen @ table.reshape(-1, table.shape[2])).reshape(len(slots), -1, table.shape[2])

    def expected(self, table: np.ndarray) -> np.ndarray:
        """Compute the exact expectation over all exchanges, which is the same for each exchange."""
        used = self.null.used[:, self.text_of, None]
        mean = np.where(used, table, 0).sum(axis=0) / used.sum(axis=0)
        return np.add.reduceat(mean, self.bounds[:-1], axis=0) / self.n_texts[:, None]

    def count(
        self, table: np.ndarray, slots: np.ndarray, observed: np.ndarray, expected: np.ndarray, step: int = 50
    ) -> np.ndarray:
        """Count the draws at least as far from the expected mean as the observed mean."""
        limit = _limit(observed, expected)
        draws = (slots[first : first + step] for first in range(0, len(slots), step))
        return np.sum([(np.abs(self.mean(table, draw) - expected) >= limit).sum(axis=0) for draw in draws], axis=0)

    def only(self, number: int) -> "_Entries":
        """Return the entries of one type."""
        first, last = self.bounds[number], self.bounds[number + 1]
        ends = np.r_[self.firsts, len(self.volumes)]
        volumes = self.volumes[ends[first] : ends[last]]
        return replace(
            self,
            volumes=volumes,
            firsts=self.firsts[first:last] - ends[first],
            text_of=self.text_of[first:last],
            bounds=np.array([0, last - first]),
        )


def _limit(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    # Values that are equal up to rounding count as equally extreme.
    return np.abs(observed - expected) - 1e-9


def _refine(
    entries: _Entries,
    z: np.ndarray,
    observed: np.ndarray,
    expected: np.ndarray,
    count: np.ndarray,
    n_used: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Permute tests further that no permutation exceeded, if the smallest possible p is not significant for them.

    P-values remain valid: a p-value below the smallest p of the first permutations is computed from all permutations,
    and a larger p-value from the first permutations only.
    """
    n_first = int(n_used.flat[0])
    if not is_floor_too_high(count, n_first):
        return
    at_floor = np.argwhere(count == 0)
    n_more = permutations_needed(count.size, n_first) - n_first
    types = np.unique(at_floor[:, 0])
    columns = [at_floor[at_floor[:, 0] == number, 1] for number in types]
    parts = [entries.only(int(number)) for number in types]
    tables = [part.table(z[:, columns_of_type]) for part, columns_of_type in zip(parts, columns, strict=True)]
    for first in range(0, n_more, 1000):
        slots = entries.null.draw(min(1000, n_more - first), rng)
        for number, columns_of_type, part, table in zip(types, columns, parts, tables, strict=True):
            was, mean = observed[number, columns_of_type][None], expected[number, columns_of_type][None]
            count[number, columns_of_type] += part.count(table, slots, was, mean, step=1000)[0]
    n_used[at_floor[:, 0], at_floor[:, 1]] += n_more


def _kind_enrichment(reading: Reading, names: list[str], n_permutations: int, rng: np.random.Generator) -> pd.DataFrame:
    kinds, counts = np.unique(reading.kinds, return_counts=True)
    if len(kinds) < 2:
        return pd.DataFrame(columns=list(ENRICHMENT_COLUMNS))
    n_networks = len(names)
    # Only positions that texts of all kinds reach: the end of long texts has no counterpart in other kinds.
    reach = min(int(np.median(reading.lengths[reading.kinds == kind])) for kind in kinds)
    short = reading.head(reach)
    values = without_position(short, np.hstack([short.z, np.abs(short.z)]))
    means = short.sums(values) / short.lengths[:, None]  # (n_texts, 2 * n_networks)
    member = (reading.kinds == kinds[:, None]).astype(float)  # (n_kinds, n_texts)
    observed, difference = _welch(member, means)
    count, n_used = np.zeros(observed.shape), permutations_needed(len(kinds) * n_networks, n_permutations)
    for _ in range(n_used):
        drawn, _ = _welch(member[:, rng.permutation(reading.n_texts)], means)
        count += np.abs(drawn) >= np.abs(observed) - 1e-9
    p = (1 + count) / (1 + n_used)
    p[~np.isfinite(observed)] = np.nan
    p[(np.minimum(counts, reading.n_texts - counts) < FEWEST_PER_KIND)] = np.nan
    if reading.centred:
        p[:, :n_networks] = np.nan
    kind_means = member @ means / counts[:, None]
    volumes = member @ short.lengths
    parts = []
    for feature, first in (("kind", 0), ("kind_activity", n_networks)):
        part = slice(first, first + n_networks)
        parts.append(
            pd.DataFrame(
                {
                    "network": np.repeat(names, len(kinds)),
                    "feature": feature,
                    "value": np.tile(kinds.astype(object), n_networks),
                    "n_volumes": np.tile(volumes.astype(int), n_networks),
                    "n_texts": np.tile(counts, n_networks),
                    "mean": kind_means[:, part].T.ravel(),
                    "effect": difference[:, part].T.ravel(),
                    "p": p[:, part].T.ravel(),
                    "q": np.nan,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _welch(member: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute Welch's t and the difference of the texts of each kind from all others; both ``(n_kinds, n)``."""
    n = member.sum(axis=1, keepdims=True)
    rest = member.shape[1] - n
    centred = means - means.mean(axis=0)
    total, squares = member @ centred, member @ centred**2
    a, b = total / n, -total / rest
    with np.errstate(divide="ignore", invalid="ignore"):
        var_a = (squares / n - a**2) * n / (n - 1) / n
        var_b = ((centred**2).sum(axis=0) - squares) / rest - b**2
        var_b = var_b * rest / (rest - 1) / rest
        error = np.sqrt(np.maximum(var_a + var_b, 0))
        return (a - b) / np.where(error > 0, error, np.nan), a - b
