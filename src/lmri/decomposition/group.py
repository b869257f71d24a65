"""Decomposition of several models together, and the dual regression of each model.

The runs of all models are stacked as in group ICA of several brains [1]_: neuron n of layer z is taken to be the same
voxel in all models. That is meaningful for models that share an origin, such as checkpoints, fine-tuned models and
quantizations of one model. Neurons of independently trained models have no common order.

References
----------
.. [1] Calhoun et al. (2001). A method for making group inferences from functional MRI data using independent component
   analysis. Human Brain Mapping, 14, 140-151.
"""

import logging
from collections.abc import Callable, Sequence

from lmri.decomposition.codec import DECOMPOSITION_CODEC, decomposition_identity, save_decomposition
from lmri.decomposition.confounds import select
from lmri.decomposition.model_maps import DualRegression, GroupMaps
from lmri.decomposition.pipeline import fit_unless_stored
from lmri.decomposition.settings import DecompositionSettings
from lmri.exceptions import AmbiguousChoiceError
from lmri.networks import NetworkSet
from lmri.networks.codec import DECOMPOSITIONS
from lmri.storage.entries import make_address
from lmri.storage.identifiers import GROUP
from lmri.storage.recording import Recording
from lmri.storage.recordings import group_space
from lmri.storage.store import Store
from lmri.storage.subjects import choose_member

logger = logging.getLogger(__name__)


def decompose_group(
    store: Store,
    subjects: Sequence[str],
    settings: DecompositionSettings,
    site: str | None = None,
    corpora: str | Sequence[str] | None = None,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NetworkSet:
    """Decompose several models together, and store the networks in the group and a dual regression of each model.

    Every neuron of every model is standardized with the mean and standard deviation of its own model (or run).

    Parameters
    ----------
    store : Store
        Any scope of the study.
    subjects : sequence of str
        Two or more models; one of several sessions is named by its scope, such as ``"sub-gpt2_ses-int8"``.
    settings : DecompositionSettings
        Method, parameters and threshold.
    site : str, optional
        Site of the neurons; required if a model has several.
    corpora : str or sequence of str, optional
        Corpora to fit; by default all that every model has recorded at the site.
    name : str, optional
        Name of the decomposition and its networks; by default the method. The dual regressions are named ``NAME-dr``.
    progress : callable, optional
        Callback for the number of finished repetitions, and their total.

    Returns
    -------
    NetworkSet
        Networks of the group.

    Raises
    ------
    SpaceMismatchError
        If the models differ in number of layers or widths.
    AmbiguousChoiceError
        If a model is unknown, or the models have no corpus in common.
    ValueError
        If fewer than two models were named, one was named twice, or a setting needs a single model.
    """
    if settings.paper or settings.standardize == "none":
        option = "--paper" if settings.paper else "--standardize none"
        raise ValueError(
            f"{option} does not standardize the models, whose units differ. Decompose one model, or omit {option}."
        )
    scopes = [choose_member(store.layout, subject) for subject in subjects]
    if len(scopes) < 2 or len(set(scopes)) < len(scopes):
        raise ValueError(
            f"The models to decompose together are {', '.join(scopes) or 'none'}. Choose two or more different models "
            f"from {', '.join(store.layout.scopes())}."
        )
    members = [store.at(scope) for scope in scopes]
    groups = _recordings(members, site, corpora)
    recordings = [recording for group in groups for recording in group]
    group, space = store.at(GROUP), group_space(recordings)
    estimator = settings.registered.build(space, **settings.parameters)
    estimator.set_models([number for number, group in enumerate(groups) for recording in group for _ in recording.imgs])
    networks = fit_unless_stored(group, settings, estimator, recordings, name, progress)
    label = networks.method
    entry = group.find(DECOMPOSITIONS, label, space.site)
    source = GroupMaps(make_address(GROUP, label, space.site), entry.digest)
    maps = group.open(DECOMPOSITION_CODEC, label, space.site)
    for member, recorded in zip(members, groups, strict=True):
        _regress(member, recorded, maps, source, settings, f"{label}-dr")
    return networks


def _recordings(
    members: Sequence[Store], site: str | None, corpora: str | Sequence[str] | None
) -> list[list[Recording]]:
    """Return the recordings of each model: of the named corpora, or of those that all models have recorded."""
    sites = [member.site(site) for member in members]
    if corpora is None:
        recorded = [
            [recording.corpus for recording in member.recordings(at)] for member, at in zip(members, sites, strict=True)
        ]
        corpora = [corpus for corpus in recorded[0] if all(corpus in others for others in recorded)]
        if not corpora:
            listed = "; ".join(
                f"{member.scope}: {', '.join(names)}" for member, names in zip(members, recorded, strict=True)
            )
            raise AmbiguousChoiceError(
                f"The models have no corpus in common at {sites[0]} ({listed}). Record the same texts with each model: "
                "lmri record MODEL --out STUDY."
            )
    return [member.group(at, corpora) for member, at in zip(members, sites, strict=True)]


def _regress(
    member: Store,
    recordings: list[Recording],
    maps: NetworkSet,
    source: GroupMaps,
    settings: DecompositionSettings,
    name: str,
) -> None:
    """Store the dual regression of one model, unless it is stored."""
    regression = DualRegression(recordings[0].space, maps, source, settings.standardize, settings.scope)
    nuisance = select(recordings, settings.confounds) if settings.confounds else None
    regression.set_confounds(nuisance)

    def fit() -> None:
        logger.info("Dual regression of %s", member.scope)
        regression.fit([img for recording in recordings for img in recording.imgs], confounds=nuisance)
        save_decomposition(member, regression, recordings, name)

    identity = decomposition_identity(regression, recordings)
    member.compute_unless_stored(DECOMPOSITIONS, recordings[0].space.site, name, identity, fit)
