"""Dual regression of the texts of a study: individual maps of stored networks, and a contrast of two corpora."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lmri import storage
from lmri.decomposition.individuals.dual_regression import Individuals, dual_regression
from lmri.decomposition.individuals.inference import contrast
from lmri.decomposition.individuals.map_test import MapTest
from lmri.networks.codec import NETWORKS_CODEC
from lmri.storage.recording import Recording
from lmri.storage.store import Store

logger = logging.getLogger(__name__)

_KNOWN = {True: "yes", False: "no", None: "unknown"}


@dataclass(frozen=True, eq=False)
class DualRegressionResult:
    """Individual maps of networks, one set per text, and a test of two corpora.

    Parameters
    ----------
    individuals : Individuals
        Maps and time courses of each text.
    corpora : mapping from str to str
        Corpus of each text, including those that were left out.
    test : MapTest, optional
        Test of each neuron between two corpora; None without a contrast.
    """

    individuals: Individuals
    corpora: Mapping[str, str]
    test: MapTest | None = None

    @property
    def amplitudes(self) -> pd.DataFrame:
        """Standard deviation of each time course: one row per text, one column per network."""
        courses = self.individuals.time_courses
        return pd.DataFrame([course.std(axis=0) for course in courses], columns=self.individuals.networks.names)

    def write(self, folder: str | Path) -> Path:
        """Write maps (NIfTI) and tables (TSV) to a new folder.

        Parameters
        ----------
        folder : str or Path
            New folder.

        Returns
        -------
        Path
            The folder.
        """
        individuals, test = self.individuals, self.test
        with storage.atomic_path(Path(folder)) as part:
            part.mkdir()
            for name, maps in zip(individuals.names, individuals.maps, strict=True):
                storage.save_img(individuals.space.to_img(maps, "estimate"), part / "maps" / f"{name}.nii.gz")
            storage.write_table(part / "texts.tsv", self._texts())
            about: dict[str, Any] = {
                **individuals.info,
                "maps": individuals.networks.names,
                "left_out": list(individuals.left_out),
                "versions": storage.versions(),
            }
            if test is not None:
                _write_test(part, test)
                about["contrast"] = {**test.info, "family": test.family, "p_floor": test.p_floor}
            storage.write_json(part / "about.json", about)
        return Path(folder)

    def _texts(self) -> pd.DataFrame:
        """Describe the texts, one row each."""
        individuals = self.individuals
        rows = {
            "text": individuals.names,
            "corpus": [self.corpora[name] for name in individuals.names],
            "n_volumes": [len(course) for course in individuals.time_courses],
            "made_networks": [_KNOWN[individuals.made_maps[name]] for name in individuals.names],
            "img": [f"maps/{name}.nii.gz" for name in individuals.names],
        }
        return pd.concat([pd.DataFrame(rows), self.amplitudes.add_prefix("amplitude_")], axis=1)


def regress_texts(
    store: Store,
    networks: str,
    corpus: str | None = None,
    contrast_of: tuple[str, str] | None = None,
    site: str | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> DualRegressionResult:
    """Estimate the individual maps of each text, and test the difference between two corpora; nothing is stored.

    Parameters
    ----------
    store : Store
        Study.
    networks : str
        Name of the network set.
    corpus : str, optional
        Corpus of the texts; needed if there are several and no contrast.
    contrast_of : tuple of (str, str), optional
        Two corpora whose texts are compared, instead of `corpus`.
    site : str, optional
        Site of the neurons; needed if there are several.
    n_permutations : int, default=1000
        Number of permutations of texts between the two corpora.
    seed : int, default=0
        Random seed of the permutations.

    Returns
    -------
    DualRegressionResult
        Individual maps, and with a contrast the test.

    Raises
    ------
    ValueError
        If `corpus` and `contrast_of` are both used, or a corpus is compared with itself.
    """
    if contrast_of is not None and corpus is not None:
        raise ValueError(f"--corpus {corpus} and --contrast {' '.join(contrast_of)} were both given. Use one of them.")
    if contrast_of is not None and contrast_of[0] == contrast_of[1]:
        raise ValueError(f"--contrast names {contrast_of[0]!r} twice. Name two corpora.")
    maps = store.open(NETWORKS_CODEC, networks, site)
    recordings = [store.recording(name, maps.space.site) for name in contrast_of or [corpus]]
    corpora = _corpora(recordings)
    hashes = {
        row.text_id: row.sha256
        for recording in recordings
        for row in recording.texts.itertuples()
        if row.text_id in corpora
    }
    logger.info("Regressing %d texts", len(corpora))
    individuals = dual_regression(
        maps,
        [img for recording in recordings for img in recording.imgs],
        texts=[table["text_id"].tolist() for recording in recordings for table in recording.events],
        text_hashes=hashes,
        # As for the maps; over all volumes, which keeps differences between texts.
        standardize=maps.origin.parameters.get("standardize", "zscore"),
        too_short="skip",
    )
    if contrast_of is None:
        return DualRegressionResult(individuals, corpora)
    logger.info("Comparing %s with %s", *contrast_of)
    return DualRegressionResult(
        individuals, corpora, contrast(individuals, corpora, n_permutations, seed, family="set")
    )


def _corpora(recordings: list[Recording]) -> dict[str, str]:
    """Return the corpus of each text."""
    return {
        name: recording.corpus
        for recording in recordings
        for table in recording.events
        for name in table["text_id"].unique()
    }


def _write_test(folder: Path, test: MapTest) -> None:
    """Write the images and the table of a test."""
    for what, values, intent in (("effect", test.effect, "estimate"), ("t", test.t, "t"), ("p", test.p, "none")):
        storage.save_img(test.networks.space.to_img(values, intent), folder / f"contrast_{what}.nii.gz")
    storage.write_table(folder / "contrast.tsv", test.table)
