"""An LSTM layer whose two directions are summed, side by side instead of one after the other."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audio_lottery.errors import ModelError
from audio_lottery.sparse.runtime.lstm import SparseLSTM
from audio_lottery.sparse.runtime.modules import TRIAL_FRAMES, Runner, no_kernel


class SummedLSTM(Runner):
    """Takes the place of a module of two `nn.LSTM`, ``forward_lstm`` and ``backward_lstm``, the second of which reads
    utterances from their ends.

    The two recurrences need each other's outputs no more than those of another layer, so two threads take one each;
    frames behind the end of an utterance are not computed and are zeros.

    Args:
        module: the layer; it is not changed.
        precision: see `lstm.SparseLSTM`.
    """

    kind = "lstm"

    def __init__(self, module: Any, precision: str = "float32") -> None:
        super().__init__()
        self.hidden_size = module.forward_lstm.hidden_size
        # not registered: it is this module's own, and no layer of the model
        self._both = [SparseLSTM(_both_directions(module.forward_lstm, module.backward_lstm), precision)]
        lstm = self._both[0]
        self.kernel, self.kept, self.weights = lstm.kernel, lstm.kept, lstm.weights
        self.macs_per_frame = lstm.macs_per_frame

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`."""
        return type(module).__name__ == "BidirectionalLstm"

    @classmethod
    def misfit(cls, module: Any) -> str:
        """See `Runner`."""
        return no_kernel(module) if module.forward_lstm.proj_size else ""

    @classmethod
    def trial_input(cls, module: Any) -> tuple[Tensor, ...]:
        """See `Runner`."""
        x = torch.randn(1, TRIAL_FRAMES, module.forward_lstm.input_size)
        return x, torch.arange(TRIAL_FRAMES - 1, -1, -1)[None]

    def forward(self, x: Tensor, backwards: Tensor) -> Tensor:
        """[batch, frames, inputs] → [batch, frames, hidden].

        Args:
            x: one utterance a row, float32.
            backwards: [batch, frames], index of the frame that comes at this place when an utterance is reversed.

        Raises:
            ModelError: no frames, another number of inputs or another type; see `lstm.SparseLSTM`.
        """
        if not x.shape[1]:
            raise ModelError("an LSTM got an input without frames")
        batch, longest, _ = x.shape
        lengths = backwards[:, 0].numpy() + 1
        rows = np.concatenate([item * longest + np.arange(length) for item, length in enumerate(lengths)])
        both, _ = self._both[0].run(x.flatten(0, 1), rows, lengths, None)
        both = both.view(batch, longest, 2, self.hidden_size)
        out = both[:, :, 0] + both[:, :, 1]
        for item, length in enumerate(lengths.tolist()):
            out[item, length:] = 0
        return out


def _both_directions(one: nn.LSTM, other: nn.LSTM) -> nn.LSTM:
    """The two as one layer; weights are theirs."""
    both = nn.LSTM(one.input_size, one.hidden_size, bias=one.bias, bidirectional=True, device="meta")
    for lstm, end in ((one, ""), (other, "_reverse")):
        for name, parameter in lstm.named_parameters():
            setattr(both, f"{name}{end}", nn.Parameter(parameter.detach(), requires_grad=False))
    return both
