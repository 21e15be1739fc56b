"""What transformers' `generate` does anew for every token, done once a text."""

from typing import Any

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)


class _Never(SuppressTokensLogitsProcessor):
    suppress_tokens: Tensor
    _mask: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._mask is None or self._mask.numel() != scores.shape[-1]:
            words = torch.arange(scores.shape[-1], device=scores.device)
            self._mask = torch.isin(words, self.suppress_tokens.to(scores.device))
        return torch.where(self._mask, -float("inf"), scores)


class _NotAtBegin(SuppressTokensAtBeginLogitsProcessor):
    begin_index: int

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[-1] != self.begin_index:
            return scores
        found: Tensor = super().__call__(input_ids, scores)
        return found


_FASTER: dict[type, Any] = {
    SuppressTokensLogitsProcessor: _Never,
    SuppressTokensAtBeginLogitsProcessor: _NotAtBegin,
}


def looked_up_once(processors: Any) -> Any:
    """``processors``, of `generate`, with its lists of tokens that are never written looked up once.

    transformers searches them for each of the model's words in every step; with the 50,000 words of a Whisper that took
    as long as the layers of its decoder.
    """
    for place, processor in enumerate(processors):
        faster = _FASTER.get(type(processor))
        if faster is not None:
            processors[place] = faster.__new__(faster)
            processors[place].__dict__ |= vars(processor)
    return processors
