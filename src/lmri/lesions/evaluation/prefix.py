"""Cache of the activations below the first lesioned layer, from the intact run.

A lesion has no effect below its first layer, so the outputs of the blocks there are the same for all interventions that
start at this layer. They are stored for each batch when the intact model is scored, and replace the blocks afterwards:
results are bit-identical, and the blocks are not run.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from transformers import PreTrainedModel

from lmri.exceptions import SiteError
from lmri.models import evaluation_mode
from lmri.models.sites import blocks

logger = logging.getLogger(__name__)

BUDGET = 2 * 1024**3
"""Largest size of the cache, in bytes."""


class PrefixCache:
    """Outputs of the blocks below given depths, by batch.

    Parameters
    ----------
    model : PreTrainedModel
        Intact model.
    depths : iterable of int
        First blocks that interventions change; at depth d the outputs of block d - 1 are stored.
    budget : int
        Largest size in bytes; further batches are recomputed each time.
    """

    def __init__(self, model: PreTrainedModel, depths: Iterable[int], budget: int = BUDGET) -> None:
        self.model = model
        self.budget = budget
        self.n_bytes = 0
        self.n_skipped = 0
        self._stored: dict[tuple[str, int], Any] = {}
        self._read: str | None = None
        self._example: dict[str, Any] = {}
        try:
            self._blocks = blocks(model)
        except SiteError:
            self._blocks = []
        self.depths = sorted({depth for depth in depths if 0 < depth < len(self._blocks)})

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Store the outputs of blocks within the ``with`` block, which runs the intact model."""
        with contextlib.ExitStack() as stack:
            if self.depths:
                stack.enter_context(self._watching())
            for depth in self.depths:
                stack.callback(self._blocks[depth - 1].register_forward_hook(self._keeper(depth)).remove)
            yield

    @contextlib.contextmanager
    def using(self, depth: int) -> Iterator[None]:
        """Skip all blocks below `depth` for stored batches within the ``with`` block."""
        if depth not in self.depths:
            yield
            return
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._watching())
            for index, block in enumerate(self._blocks[:depth]):
                whole = block.forward
                block.forward = self._instead(whole, depth, index == depth - 1)
                # Deletion restores the method of the class, or a wrapper installed by other code.
                stack.callback(_restore, block, whole)
            yield

    def check(self) -> None:
        """Check that skipping lower blocks does not change the outputs, and drop the depths at which it does.

        Some models pass information around their blocks. They are run without the cache.
        """
        if not self._example:
            self.depths = []
        for depth in list(self.depths):
            if not self._agrees(depth):
                logger.info(
                    "%s cannot be run starting at block %d; all blocks are run.", type(self.model).__name__, depth
                )
                self.depths.remove(depth)

    def _agrees(self, depth: int) -> bool:
        other = {**self._example, "input_ids": self._example["input_ids"].flip(-1)}
        with evaluation_mode(self.model):
            whole = _tensors(self.model(**self._example))
            # So that any state that a block stores on the model comes from another text.
            self.model(**other)
            n_before = self.n_skipped
            try:
                with self.using(depth):
                    short = _tensors(self.model(**self._example))
            except Exception:  # such as a later block that needs keys of an earlier one
                return False
        return self.n_skipped > n_before and len(whole) == len(short) and all(map(torch.equal, whole, short))

    # Batches are identified by their content, independent of the order of tasks and batches.

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        before = self.model.register_forward_pre_hook(self._look, with_kwargs=True)
        after = self.model.register_forward_hook(self._forget, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def _look(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._read = None
        given = {name: value for name, value in kwargs.items() if value is not None}
        tensors = {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}
        # With a key-value cache, blocks have side effects besides their output.
        if args or "input_ids" not in tensors or given.get("use_cache", True) or "past_key_values" in given:
            return
        content = hashlib.sha256()
        for name, value in sorted(given.items()):
            content.update(name.encode())
            if isinstance(value, torch.Tensor):
                content.update(f"{value.dtype}{tuple(value.shape)}".encode())
                content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            else:
                content.update(repr(value).encode())
        self._read = content.hexdigest()
        if not self._example:
            self._example = given

    def _forget(self, *_: Any) -> None:
        self._read = None

    def _keeper(self, depth: int) -> Callable[..., None]:
        def keep(module: torch.nn.Module, args: Any, output: Any) -> None:
            key = (self._read, depth)
            if self._read is None or key in self._stored:
                return
            size = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(output))
            if self.n_bytes + size <= self.budget:
                self._stored[self._read, depth] = output
                self.n_bytes += size

        return keep

    def _instead(self, whole: Callable[..., Any], depth: int, is_last: bool) -> Callable[..., object]:
        def forward(*args: Any, **kwargs: Any) -> object:
            stored = None if self._read is None else self._stored.get((self._read, depth))
            if stored is None:
                return whole(*args, **kwargs)
            if is_last:
                self.n_skipped += 1
                return _fresh(stored)
            # Same structure as the output of this model's blocks, so that the next block accepts it.
            hidden = args[0] if args else kwargs["hidden_states"]
            return (hidden, *stored[1:]) if isinstance(stored, tuple) else hidden

        return forward


def _restore(block: torch.nn.Module, whole: Callable[..., Any]) -> None:
    del block.forward
    if block.forward != whole:
        block.forward = whole


def _fresh(output: object) -> object:
    """Copy tensors, so that a model that modifies its inputs in place does not change the cache."""
    if isinstance(output, torch.Tensor):
        return output.clone()
    return tuple(_fresh(part) for part in output) if isinstance(output, tuple) else output


def _tensors(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output if isinstance(output, tuple | list) else ()
    return [tensor for value in values for tensor in _tensors(value)]
