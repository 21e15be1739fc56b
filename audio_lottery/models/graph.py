"""A recogniser as one graph for other runtimes: tensors in, logits and the number of frames out."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from audio_lottery.models.padding import output_frames

MASK = "attention_mask"


class Graph(nn.Module):
    """A module whose inputs have an order, and whose outputs are all that a search needs.

    Attributes:
        module: gives an object with ``logits``.
        names: of its inputs, in the order in which `forward` takes them.
    """

    def __init__(self, module: PreTrainedModel, names: tuple[str, ...], dtypes: tuple[torch.dtype, ...]) -> None:
        super().__init__()
        self.module = module
        self.names = names
        self._dtypes = dtypes

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [batch, frames, outputs] in float32, and frames of each row that are no padding [batch], int64.

        Args:
            tensors: as ``names`` has them: float32, and masks as int64, 1 for what is no padding.
        """
        inputs = {name: tensor.to(dtype) for name, tensor, dtype in zip(self.names, tensors, self._dtypes, strict=True)}
        if MASK in self.names:
            lengths = tensors[self.names.index(MASK)].sum(-1)
        else:  # without a mask the module takes all of a row for speech
            lengths = torch.ones(tensors[0].shape[:2], dtype=torch.long).sum(-1)
        return self.module(**inputs).logits, output_frames(self.module, lengths)
