"""Registry of the confounds: the function that computes each, and its wording in tables, help and reports.

A new confound is one function and one entry of `CONFOUNDS`; tables, sidecars, help, messages and the report follow.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lmri.decomposition.confounds import site_confounds as of_site
from lmri.decomposition.confounds import text_confounds as of_text
from lmri.decomposition.confounds.site_confounds import MASSIVE


@dataclass(frozen=True)
class Confound:
    """Column of the tables of confounds.

    Parameters
    ----------
    name : str
        Name of the column.
    compute : callable
        Function of a `RunTexts` or, with `of_site`, of the activity ``(n_volumes, n_neurons)`` of a run and the offsets
        of its layers. Returns one value per volume.
    unit : str
        Unit, as in the sidecar.
    description : str
        Definition, as in the sidecar.
    help : str
        Help text, one line.
    heading : str
        Heading of a network's correlation with it in the report.
    meaning : str
        Explanation of this correlation below the tables of the report; see `lmri.report.sections.networks` for braces.
    of_site : bool, default=False
        Whether it depends on the site, not only on the text and the predictions of the model.
    is_predicted : bool, default=False
        Whether it needs another forward pass of the model over the texts.
    is_count : bool, default=False
        Whether the values are integers if none is missing.
    levels : dict of str to str
        Meaning of each value of a flag.
    """

    name: str
    compute: Callable[..., np.ndarray]
    unit: str
    description: str
    help: str
    heading: str
    meaning: str
    of_site: bool = False
    is_predicted: bool = False
    is_count: bool = False
    levels: dict[str, str] = field(default_factory=dict)

    @property
    def sidecar(self) -> dict[str, str]:
        """Description and unit, as in BIDS."""
        return {"Description": self.description, "Units": self.unit}


CONFOUNDS: dict[str, Confound] = {
    confound.name: confound
    for confound in (
        Confound(
            "position",
            of_text.position,
            "token",
            "Place of the token in its text, counted from 0, dummies and special tokens included; of a word or "
            "sentence, that of its first token",
            "position in the text, counted from 0, including dummies and special tokens; the same as in the events",
            "r with position",
            "correlation, within texts, of the time course with the logarithm of the position of the {noun} in its "
            "text: log(1 + position), counted in tokens from 0",
        ),
        Confound(
            "sentence_position",
            of_text.sentence_position,
            "token",
            "Place of the token in its sentence, counted from 0, including dummies but not tokens that represent no "
            "part of the text. A sentence ends behind . ! ? or … and closing quotes or brackets where a blank follows, "
            "behind 。！？, and at a line end. Of a word or sentence, that of its first token",
            "position in the sentence, counted from 0, including dummies but not tokens that represent no part of the "
            "text (BOS)",
            "r with place in sentence",
            "the same for the position of the {noun} in its sentence, counted in tokens from 0",
            is_count=True,
        ),
        Confound(
            "sentence_index",
            of_text.sentence_index,
            "sentence",
            "Number of the sentence in its text, counted from 0; of a word or sentence, that of its first token",
            "number of the sentence in the text, counted from 0",
            "r with number of sentence",
            "the same for the number of the sentence in its text, counted from 0",
            is_count=True,
        ),
        Confound(
            "log_frequency",
            of_text.log_frequency,
            "nat",
            "Natural logarithm of the share of this token_id among all volumes of the corpus; words and sentences have "
            "ids of their own",
            "ln(count / total): the share of this token_id among all volumes of the corpus. No smoothing is applied, "
            "because the token of every volume was counted at least once",
            "r with log frequency",
            "the same for the logarithm of the {noun}'s frequency in the recordings",
        ),
        Confound(
            "token_length",
            of_text.token_length,
            "character",
            "Characters of the part of the text that the token represents, without blanks around it; of the whole word "
            "or sentence",
            "length of the part of the text that the token represents, without surrounding white space",
            "r with length",
            "the same for the length of the {noun}, in characters",
            is_count=True,
        ),
        Confound(
            "surprisal",
            of_text.surprisal,
            "nat",
            "Minus the natural logarithm of the probability that the model itself gave the token, from all tokens "
            "before it in its text, special ones included; n/a for the first token of a text. Of a word or sentence, "
            "the sum over its tokens; n/a if it holds the first token of its text",
            "−ln p(token | all preceding tokens, including special tokens)",
            "r with surprisal",
            "the same for the surprisal of the {noun}: minus the logarithm of the probability that the model gave it"
            "{summed}",
            is_predicted=True,
        ),
        Confound(
            "entropy",
            of_text.entropy,
            "nat",
            "Entropy of the model's prediction of this token, made one token before; n/a for the first token of a "
            "text. Of a word or sentence, that of its first token, not the sum; n/a if it holds the first token of its "
            "text",
            "entropy of the prediction of this token, made at the preceding token",
            "r with entropy",
            "the same for the entropy of the model's prediction{first}, made one token before it",
            is_predicted=True,
        ),
        Confound(
            "global_signal",
            of_site.global_signal,
            "activation",
            "Mean activation over all neurons of the site, as they are (not standardized)",
            "mean over all neurons of the site, not standardized",
            "r with global signal",
            "the same for the mean activation over all neurons of the site",
            of_site=True,
        ),
        Confound(
            "massive_activation",
            of_site.massive_activation,
            "flag",
            f"1 if a neuron exceeds {MASSIVE[0]:g} in size and is at least {MASSIVE[1]:g} times the median size of its "
            "layer at this token, zeros left out (Sun et al., 2024), else 0",
            f"1 if the absolute value of a neuron exceeds {MASSIVE[0]:g} and is at least {MASSIVE[1]:g} times the "
            "median absolute value of its layer at this token, zeros excluded (Sun et al., 2024)",
            "r with massive activation",
            "the same for the flag of massive activations: 1 if any neuron has one, else 0",
            of_site=True,
            levels={"0": "no massive activation", "1": "massive activation"},
        ),
    )
}
"""All confounds by name, in the order of the columns; those of the site are last."""
