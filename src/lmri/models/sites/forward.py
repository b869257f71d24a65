"""One forward pass over texts, of the stacks that are to be seen."""

from collections.abc import Iterable

import torch
from transformers import PreTrainedModel

from lmri.models import read, reader


def forward(
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, stacks: Iterable[str] = ("encoder",)
) -> torch.Tensor:
    """Let a model read a batch, without its head.

    A decoder beside an encoder reads the text that the encoder reads, behind its start token: teacher forcing, as in
    denoising. Its activity at a token is that of the place where it reads this token.

    Parameters
    ----------
    model : PreTrainedModel
        In evaluation mode.
    ids, mask : Tensor of shape (n_texts, n_tokens)
        As `lmri.models.right_pad` gives them.
    stacks : iterable of {"encoder", "decoder"}
        What is to run; a decoder needs its encoder.

    Returns
    -------
    Tensor of shape (n_texts, n_tokens, width)
        Last hidden states, of a decoder without its start token.
    """
    if "decoder" not in stacks:
        return read(reader(model), ids, mask)
    names = ("decoder_start_token_id", "bos_token_id")  # not every configuration has them
    known = [getattr(model.config, name, None) for name in names]
    start = next((number for number in known if number is not None), 0)
    made = model.base_model(
        input_ids=ids,
        attention_mask=mask,
        decoder_input_ids=torch.cat([torch.full_like(ids[:, :1], start), ids], dim=1),
        decoder_attention_mask=torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1),
        use_cache=False,
    )
    return made[0][:, 1:]
