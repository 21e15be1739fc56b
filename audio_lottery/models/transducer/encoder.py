"""LSTM layers over features that lower the frame rate; those of one direction go on where they stopped."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from audio_lottery.models.cnn_lstm.modeling import BidirectionalLstm, reversal
from audio_lottery.models.transducer.configuration import TransducerConfig


@dataclass(frozen=True)
class LayerState:
    """Where a layer of one direction stopped.

    Attributes:
        pending: [batch, frames, inputs], frames that are still too few for one of the layer's own.
        memory: of the LSTM; None before its first frame.
    """

    pending: Tensor
    memory: tuple[Tensor, Tensor] | None


class EncoderLayer(nn.Module):
    """``reduction`` frames side by side → LSTM → layer norm. Frames that are left over at the end are dropped."""

    def __init__(self, inputs: int, hidden: int, reduction: int, *, bidirectional: bool) -> None:
        super().__init__()
        self.reduction = reduction
        self.hidden = hidden
        self.bidirectional = bidirectional
        size = inputs * reduction
        self.lstm = BidirectionalLstm(size, hidden) if bidirectional else nn.LSTM(size, hidden, batch_first=True)
        self.norm = nn.LayerNorm(hidden)

    def reduce(self, x: Tensor) -> Tensor:
        """[batch, frames, inputs] → [batch, frames // reduction, reduction · inputs]."""
        whole = x.shape[1] // self.reduction
        return x[:, : whole * self.reduction].reshape(x.shape[0], whole, -1)

    def forward(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, frames, inputs] and the valid frames of each utterance → the same of the outputs."""
        x = self.reduce(x)
        frames = torch.div(frames, self.reduction, rounding_mode="floor")
        # many CPUs have no bfloat16 LSTM, and torch says so with an exception
        with torch.autocast("cpu", enabled=False) if x.device.type == "cpu" else nullcontext():
            # not asked of the layer's class: another may run it
            x = self.lstm(x, reversal(frames.to(x.device), x.shape[1])) if self.bidirectional else self.lstm(x)[0]
        return self.norm(x), frames

    def step(self, x: Tensor, state: LayerState | None) -> tuple[Tensor, LayerState]:
        """The next frames of a stream, which may be none; one direction only."""
        if state is not None:
            x = torch.cat([state.pending, x], dim=1)
        memory = None if state is None else state.memory
        whole = x.shape[1] // self.reduction * self.reduction
        pending = x[:, whole:]
        if not whole:
            return x.new_zeros(x.shape[0], 0, self.hidden), LayerState(pending, memory)
        out, memory = self.lstm(self.reduce(x), memory)
        return self.norm(out), LayerState(pending, memory)


class LstmEncoder(nn.Module):
    """Features → frames at a lower rate (time reduction as He et al. 2019, arXiv:1811.06621, have it).

    Padding reaches no valid frame: what comes later is not seen, and the other direction reads reversed utterances.
    """

    def __init__(self, config: TransducerConfig) -> None:
        super().__init__()
        given, layers = list(config.time_reduction), config.num_hidden_layers
        if len(given) > layers or min(given, default=1) < 1:
            raise ValueError(
                f"time_reduction {given} must be whole numbers of 1 or more, one for each of {layers} layers"
            )
        reductions = [*given, *[1] * (layers - len(given))]
        sizes = [config.num_mel_bins] + [config.hidden_size] * (len(reductions) - 1)
        self.layers = nn.ModuleList(
            EncoderLayer(size, config.hidden_size, reduction, bidirectional=config.bidirectional)
            for size, reduction in zip(sizes, reductions, strict=True)
        )
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, frames, bins] and the valid frames of each utterance → [batch, frames, hidden] and theirs."""
        for layer in self.layers:
            x, frames = layer(x, frames)
            x = self.dropout(x)
        return x, frames

    def step(self, x: Tensor, states: Sequence[LayerState | None]) -> tuple[Tensor, list[LayerState]]:
        """The next features of a stream → the frames that they complete, and where the layers stopped."""
        after = []
        for layer, state in zip(cast(list[EncoderLayer], self.layers), states, strict=True):
            x, stopped = layer.step(x, state)
            after.append(stopped)
        return x, after
