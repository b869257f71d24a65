"""The kinds of entries of a study, from the lowest layer to the highest."""

from lmri.decomposition.codec import DECOMPOSITION_CODEC
from lmri.lesions.scores.codec import SCORES_CODEC
from lmri.networks.codec import NETWORKS_CODEC
from lmri.networks.comparison.codec import COMPARISON_CODEC
from lmri.storage.experiments import EXPERIMENT_CODEC

CODECS = (DECOMPOSITION_CODEC, NETWORKS_CODEC, COMPARISON_CODEC, SCORES_CODEC, EXPERIMENT_CODEC)
