"""A wide linear layer that was not pruned: what a decoder says of every word, once a step.

A step reads the whole matrix for a frame or a few, and nothing else in it takes as long: what counts is how many bytes
it has. Weights that 16 bits hold exactly, as those of checkpoints published in half precision, are kept in 16 bits.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audio_lottery.sparse.kernels.vector import HAS_HALF, WIDTH
from audio_lottery.sparse.kernels.words import WORD_ROWS
from audio_lottery.sparse.runtime.modules import Packable, bias_of, changed, features_array, to_numpy, weights_of
from audio_lottery.sparse.runtime.threads import each

# Outputs from which on a layer counts as one over words.
_WIDE = 4096
# Below this share of weights that are not zero, the kernels for single weights read fewer bytes.
_DENSE = 0.5
# Words that a thread takes at a time.
_AT_ONCE = 2048


class WordLinear(Packable):
    """[…, in] → […, words].

    Args:
        linear: the layer; it is not changed.
        precision: see `accelerate.accelerate`; in the lower ones, weights that 16 bits do not hold are rounded.
    """

    kind = "linear"

    def __init__(self, linear: nn.Linear, precision: str = "float32") -> None:
        super().__init__()
        weight, bias = linear.weight.detach(), bias_of(linear)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        exact = next((kind for kind in _halves() if torch.equal(weight.to(kind).float(), weight)), torch.float32)
        self.held = torch.bfloat16 if exact == torch.float32 and precision != "float32" else exact
        self.kernel = f"rows_{str(self.held).removeprefix('torch.')}"
        self.bias = np.zeros(self.out_features, np.float32) if bias is None else bias
        self.stored = weight.to(self.held).contiguous()
        self.kept, self.weights = int(torch.count_nonzero(weight)), weight.numel()
        self.macs_per_frame = weight.numel()

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`; what is narrow, or pruned, is left to others."""
        if type(module) is not nn.Linear or module.out_features < _WIDE or module.in_features % WIDTH:
            return False
        with weights_of(module):
            return int(torch.count_nonzero(module.weight)) > _DENSE * module.weight.numel()

    @classmethod
    def misfit(cls, module: nn.Linear) -> str:
        """See `Runner`."""
        return changed(module)

    @classmethod
    def trial_input(cls, module: nn.Linear) -> Tensor:
        """See `Runner`: one step."""
        return torch.randn(1, module.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: […, in] float32.

        Returns:
            […, words].

        Raises:
            ModelError: another number of features, or type; see `modules.features_array`.
        """
        source = features_array(x, self.in_features, "a wide linear layer")
        out = torch.empty(*x.shape[:-1], self.out_features)
        result, frames = out.numpy().reshape(-1), source.size // self.in_features
        stored = self.stored if self.held == torch.float32 else self.stored.view(torch.int16)
        weights, rows = stored.numpy().reshape(-1), WORD_ROWS[str(self.held).removeprefix("torch.")]

        def work(number: int, scratch: np.ndarray) -> None:
            first = number * _AT_ONCE
            last = min(first + _AT_ONCE, self.out_features)
            rows(weights, self.bias, source, frames, self.in_features, first, last, result)

        each(work, -(-self.out_features // _AT_ONCE) if out.numel() else 0, 0, "words")
        return out

    def unpack(self) -> dict[str, np.ndarray]:
        """See `Packable`."""
        return {"weight": to_numpy(self.stored).reshape(self.out_features, self.in_features)}


def _halves() -> list[Any]:
    return [torch.float16, torch.bfloat16] if HAS_HALF else [torch.bfloat16]
