"""From a front end's features to an encoder's: a layer norm and a linear layer, on tiles cut from the former.

Left to torch, the norm would wake torch's own threads, which go on waiting busily when the kernels' threads want the
processor.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audio_lottery.sparse.kernels.elementwise import layer_norm
from audio_lottery.sparse.kernels.packing import pack, pack_phases, unpack
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.linear import SparseLinear
from audio_lottery.sparse.runtime.modules import TRIAL_FRAMES, Runner, features_array
from audio_lottery.sparse.runtime.threads import each, tile_widths, whole
from audio_lottery.sparse.runtime.transformer import norm_of

# Whether the normed features come with the output.
_CLASSES = {"Wav2Vec2FeatureProjection": True, "HubertFeatureProjection": False}


class FeatureProjection(Runner):
    """[batch, frames, channels] → [batch, frames, features].

    Args:
        module: ``Wav2Vec2FeatureProjection`` or HuBERT's.
        precision: see `accelerate.accelerate`.
    """

    kind = "linear"

    def __init__(self, module: Any, precision: str = "float32") -> None:
        super().__init__()
        self.norm = norm_of(module.layer_norm) if getattr(module, "feat_proj_layer_norm", True) else None
        self.gives_both = _CLASSES[type(module).__name__]
        # not registered: it is this module's own, and no layer of the model
        self._linear = [SparseLinear(module.projection, precision)]
        linear = self._linear[0]
        self.kernel, self.kept, self.weights = linear.kernel, linear.kept, linear.weights
        self.macs_per_frame = linear.macs_per_frame

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`."""
        return type(module).__name__ in _CLASSES

    @classmethod
    def misfit(cls, module: Any) -> str:
        """See `Runner`."""
        return ""

    @classmethod
    def trial_input(cls, module: Any) -> Tensor:
        """See `Runner`."""
        return torch.randn(1, module.projection.in_features, TRIAL_FRAMES).transpose(1, 2)

    def forward(self, hidden_states: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Apply both layers.

        Args:
            hidden_states: [batch, frames, channels] float32; best as a transposed [batch, channels, frames].

        Returns:
            The output; Wav2Vec2's projection gives the normed features besides.

        Raises:
            ModelError: another number of channels, or type; see `modules.features_array`.
        """
        linear = self._linear[0]
        channels, features, (batch, frames) = linear.in_features, linear.out_features, hidden_states.shape[:2]
        turned = hidden_states.transpose(1, 2)
        in_rows = turned.is_contiguous()
        features_array(hidden_states[:0], channels, "the feature projection")
        source = (turned if in_rows else hidden_states.contiguous()).detach().numpy().reshape(-1)
        out, normed = torch.empty(batch, frames, features), torch.empty(batch, frames, channels)
        target, kept = out.numpy().reshape(-1), normed.numpy().reshape(-1)
        widths = tile_widths(frames, FRAMES, 2 * WIDTH)

        def work(number: int, scratch: np.ndarray) -> None:
            item, place = divmod(number, len(widths))
            first, count = place * widths[0], widths[place]
            vectors = whole(count, 2 * WIDTH) // WIDTH
            tile, result = scratch[: channels * FRAMES], scratch[channels * FRAMES :]
            if in_rows:
                origin = item * channels * frames
                pack_phases(source, origin, channels, frames, frames, first, 1, vectors * WIDTH, tile, FRAMES)
            else:
                pack(source, item * frames + first, count, channels, 0, channels, tile, 0)
            if self.norm is not None:
                layer_norm(tile, 0, tile, 0, channels, FRAMES, *self.norm, vectors)
            if self.gives_both:
                unpack(tile, 0, channels, count, kept, item * frames + first, channels, 0)
            for piece, matrix in linear.pieces:
                operand = matrix.operand(tile, piece.start * FRAMES, piece.stop - piece.start, vectors)
                start = (result, 0) if piece.start else None
                matrix.multiply(operand, result, 0, start=start, vectors=vectors)
            unpack(result, 0, features, count, target, item * frames + first, features, 0)

        each(work, batch * len(widths), (channels + features) * FRAMES, "linear layers")
        return (out, normed) if self.gives_both else out
