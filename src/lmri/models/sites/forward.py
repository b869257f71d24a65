"""Forward pass of the encoder or decoder stack over a batch of texts."""

from collections.abc import Iterable

import torch
from transformers import PreTrainedModel

from lmri.models import read, reader


def forward(
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, stacks: Iterable[str] = ("encoder",)
) -> torch.Tensor:
    """Run a model on a batch, without its head.

    The decoder of an encoder–decoder reads the same text as the encoder, after its start token (teacher forcing, as in
    denoising). Its activity at a token is the activity at the position where it reads this token.

    Parameters
    ----------
    model : PreTrainedModel
        Model in evaluation mode.
    ids, mask : Tensor of shape (n_texts, n_tokens)
        Token ids and attention mask, as returned by `lmri.models.right_pad`.
    stacks : iterable of {"encoder", "decoder"}
        Stacks to run; a decoder also runs its encoder.

    Returns
    -------
    Tensor of shape (n_texts, n_tokens, width)
        Last hidden states; for a decoder without the start token.
    """
    if "decoder" not in stacks:
        return read(reader(model), ids, mask)
    names = ("decoder_start_token_id", "bos_token_id")  # some configurations lack one of them
    known = [getattr(model.config, name, None) for name in names]
    start = next((number for number in known if number is not None), 0)
    outputs = model.base_model(
        input_ids=ids,
        attention_mask=mask,
        decoder_input_ids=torch.cat([torch.full_like(ids[:, :1], start), ids], dim=1),
        decoder_attention_mask=torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1),
        use_cache=False,
    )
    return outputs[0][:, 1:]
